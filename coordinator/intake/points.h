/* SPDX-License-Identifier: Apache-2.0 */
/* points: from stored segments to recovery points. Each stored segment's attaches, gaps, bookmarks
 * and seals go to the alignment (coordinator/core/align) of the group; a round that becomes a point
 * is tagged in the manifest of each of its streams, then becomes one object that names them all
 * (STORE/points/<group>/<round>.json), then a row of the catalog. A crash between any two of these
 * is healed at the next start, since the streams say it all. A round that becomes none is a row of
 * the catalog with the reason and the member. A round of scope `member` becomes a single-VM point,
 * with the VM's name, and is never one of the group. One taken without the hold is kept as an
 * object with label `unaligned`, so that it can be exported and judged; it is no recovery point.
 *
 * All functions but points_extract() are the loop thread's. Commits run on the pool; one that fails
 * (full disk, no memory) is tried again every second. */
#ifndef TIDE_COORDINATOR_INTAKE_POINTS_H
#define TIDE_COORDINATOR_INTAKE_POINTS_H

#include "common/hrl/record.h"
#include "common/io/loop.h"
#include "common/wire/intake.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/core/align.h"
#include "coordinator/intake/pool.h"
#include "coordinator/intake/registry.h"
#include "coordinator/store/store.h"

#define TIDE_POINTS_PENDING_MAX                                                                    \
    512U /* commits under way or waiting for another try; more are                                 \
            left to the next start */

struct points;

int points_new(struct store *store, struct catalog *catalog, struct loop *loop, struct pool *pool,
               struct points **ret, struct err *err);
void points_free(struct points *points); /* takes NULL; commits under way are not waited for */

/* A registry_issued_fn: makes the definition known to the alignment of its group. */
int points_define(void *points, const struct definition *definition, struct err *err);

/* At start: replays what all manifests list, commits what a crash left out, and fills the catalog
 * (`fresh`: from all objects of the store too). On failure (LIMIT: no memory) the catalog is what
 * it was before; another start does all of it. */
int points_recover(struct points *points, struct registry *registry, bool fresh, struct err *err);

/* The records of a verified segment that matter; the caller frees *ret_records. Any thread. */
int points_extract(const void *bytes, size_t size, struct record **ret_records, size_t *ret_count,
                   struct err *err);

/* Feeds the next segment's records of a stream, in the order in which they were stored. On failure
 * nothing more of this stream is taken up to the next start: its rounds stay unknown. */
int points_feed(struct points *points, const struct manifest_stream *stream,
                const struct record *records, size_t count, struct err *err);

/* What can be said of a round now. YES only once the point is durable in the store. */
int points_state(struct points *points, const struct id *round, struct intake_point_state *ret,
                 struct err *err);

/* The point object as JSON text (heap), and when it was: the middle of its bookmarks' wall clocks
 * (of an even number the earlier of two), for people and for the order of lists, so that the clock
 * of one machine, wrong by hours either way, moves no point where three or more have a say. NULL
 * without memory. For round->answer YES or unaligned; definition is that of the round's epoch. */
char *points_object(const struct align_round *round, const struct definition *definition,
                    uint64_t *ret_wall_ns);

/* Likewise for a round that is no point: {"round", "group", "epoch", "time", "kind", "scope", "vm",
 * "reason", "member", "disk"}; definition may be NULL. */
char *points_failed(const struct align_round *round, const struct definition *definition,
                    const char *group, uint64_t *ret_wall_ns);

#endif
