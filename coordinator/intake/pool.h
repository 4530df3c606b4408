/* SPDX-License-Identifier: Apache-2.0 */
/* pool: a few threads for what waits for the disk (verifying and storing segments, committing
 * points), so that the loop stays responsive and syncs of several streams share one journal commit.
 * A job's work runs on one of them, then its done on the loop's thread, in the order in which works
 * ended. At most TIDE_POOL_JOBS_MAX are queued or at work: the caller counts what it lets in. */
#ifndef TIDE_COORDINATOR_INTAKE_POOL_H
#define TIDE_COORDINATOR_INTAKE_POOL_H

#include "common/core/err.h"
#include "common/io/loop.h"

#define TIDE_POOL_THREADS  4U
#define TIDE_POOL_JOBS_MAX 1024U /* below LOOP_POST_MAX, so that a done always finds room */

struct pool;

/* LIMIT: no memory or threads. */
int pool_new(struct loop *loop, struct pool **ret, struct err *err);

/* BUSY: the queue is full; arg stays the caller's. On the loop's thread. */
int pool_submit(struct pool *pool, loop_fn *work, loop_fn *done, void *arg, struct err *err);

/* Ends the threads after the work in hand; what is queued is not done, its memory is not freed
 * (the process ends). NULL: nothing. */
void pool_free(struct pool *pool);

#endif
