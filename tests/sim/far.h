/* SPDX-License-Identifier: Apache-2.0 */
/* far: the far side of the simulated cluster, as little of it as is not a shell: it checks segments
 * by the shipped reader, stores a stream's in order (staging those that came too early), says
 * `stored` when they are synced, has the shipped alignment judge what is stored, and keeps the
 * points that it published in the shipped catalog (SQLite in memory). It can crash: what was not
 * synced of its store is kept in part, what was staged is gone, the catalog stays (SQLite keeps its
 * own promise), the alignment begins anew from the store. Mirrors coordinator/store (objects and
 * manifest are one list) and coordinator/intake/points (published when stored, once). */
#ifndef TIDE_TESTS_SIM_FAR_H
#define TIDE_TESTS_SIM_FAR_H

#include "common/core/prng.h"
#include "common/hrl/segment.h"
#include "coordinator/core/align.h"
#include "participant/core/window.h"
#include "tests/lib/roundlab.h"

struct far;

struct far_watch {
    void (*stored)(void *context, unsigned disk, uint64_t lsn); /* it is about to be answered */
    void (*forked)(void *context, unsigned disk, uint64_t lsn);
    void *context;
};

struct far *far_new(struct roundlab *lab, uint64_t seed, const struct far_watch *watch);
void far_free(struct far *far); /* takes NULL */

void far_down(struct far *far); /* it crashes */
void far_up(struct far *far);
bool far_is_up(const struct far *far);

/* Where a stream is: what the next segment must follow. False: it is away. */
bool far_where(const struct far *far, unsigned disk, uint64_t *ret_lsn, struct hash *ret_hash);
/* A segment arrives some time from now, and an answer comes back, or it is lost on one of the ways:
 * then an answer says so, as a time-out would. */
typedef void far_answer_fn(void *context, uint64_t tag, const struct window_answer *answer);
void far_put(struct far *far, unsigned disk, const uint8_t *bytes, size_t size,
             far_answer_fn *answer, void *context, uint64_t tag);

const struct align *far_align(const struct far *far); /* NULL: away */

/* Its store, in order; durable ones first. */
size_t far_count(const struct far *far, unsigned disk);
uint64_t far_durable(const struct far *far, unsigned disk);  /* LSN */
uint64_t far_received(const struct far *far, unsigned disk); /* LSN, in order */
const uint8_t *far_object(const struct far *far, unsigned disk, size_t index, size_t *ret_size);

/* Whether a stream is in the set of an order, by the definition of its epoch. */
bool far_in_set(const struct far *far, const struct round_order *order, const struct id *stream);

/* Hears of the definitions that were issued. */
void far_define(struct far *far);
/* Its alignment is shown some of the stored objects once more. */
void far_again(struct far *far, struct prng *prng);

/* What whoever never read before makes of the durable store; the caller frees it. */
struct align *far_reread(const struct far *far);
/* The catalog as it was kept, and one that whoever reads the durable store alone makes: NULL where
 * they are the same, else what is not. Good until the next call. */
const char *far_catalog_differs(const struct far *far);

#endif
