/* SPDX-License-Identifier: Apache-2.0 */
/* hashes: what the disks of streams hold as the store has them, as hashes of their blocks, so that
 * a participant can find out what differs from its disk without sending it. The disk at an LSN is
 * made once (coordinator/recover/fold.h) as a sparse image in a cache folder, and read for every
 * question about that LSN; one about a later LSN brings the image forward by the segments in
 * between, one about an earlier LSN makes it anew. Making and reading are jobs of the pool.
 *
 * Limits. HASHES_STREAMS_MAX images: past it the one that was not asked for longest goes, removed.
 * One image is made at a time and HASHES_READING_MAX questions are read for, so that threads of the
 * pool are left for storing; more are answered BUSY. An image takes at most the disk's data; the
 * last 5 % of the cache's file system (1 GiB at most) are left alone: FULL. Images are worth
 * nothing to another process: what lies in the folder at the start is removed.
 *
 * All functions are the loop thread's. */
#ifndef TIDE_COORDINATOR_INTAKE_HASHES_H
#define TIDE_COORDINATOR_INTAKE_HASHES_H

#include "common/wire/intake.h"
#include "coordinator/intake/pool.h"
#include "coordinator/store/store.h"

#define HASHES_STREAMS_MAX 4U
#define HASHES_READING_MAX 2U

struct hashes;

/* `folder` is made if absent, and is this process's alone: it holds `lock` and images. Not in the
 * store's own tree. Pool and store must outlive it. BUSY: another process has it; IO, FULL. */
int hashes_new(const char *folder, struct pool *pool, struct store *store, struct hashes **ret,
               struct err *err);
/* Ends a making that is at work soon; before pool_free(). NULL: nothing. */
void hashes_stop(struct hashes *hashes);
/* After the pool has ended; removes the images. NULL: nothing. */
void hashes_free(struct hashes *hashes);

/* The answer to a question that was taken: exactly one of `blocks` (good during the call) and `err`
 * is not NULL. On the loop's thread. */
typedef void hashes_answer_fn(void *arg, const struct intake_block_hashes *blocks,
                              const struct err *err);

/* 0: it is taken, and answered later. `state` is the stream's as it is now.
 *   NOT_FOUND  nothing of the stream is stored, or not as far as query->lsn; a segment's file is
 *              missing
 *   CONFLICT   the stream is stopped, or a segment in the store is not what it was
 *   BUSY       the disk is being made (the text says how far that is), or a limit is met: ask again
 *   FULL, IO, LIMIT  the disk could not be made; asked again it is tried again
 * With query->lsn 0 the LSN is that of what was stored when it was first asked for: where the disk
 * had to be made for that, the next such question is answered from it, whatever was stored since.
 */
int hashes_ask(struct hashes *hashes, const struct id *stream,
               const struct store_stream_state *state, const struct intake_hashes_query *query,
               hashes_answer_fn *answer, void *arg, struct err *err);

#endif
