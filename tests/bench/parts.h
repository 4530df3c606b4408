/* SPDX-License-Identifier: Apache-2.0 */
/* parts: what bench_tap measures; each part starts its servers, prints its table, and ends them. */
#ifndef TIDE_TESTS_BENCH_PARTS_H
#define TIDE_TESTS_BENCH_PARTS_H

struct parts {
    unsigned pairs; /* of samples in a row: 1..STATS_PAIRS_MAX */
    unsigned marks; /* bookmarks under saturation */
};

/* Against the file plugin: throughput and p99, the log recycled between the samples (writes), or
 * meanwhile, as a daemon does, in samples longer than the log (steady). */
void parts_writes(const struct parts *how);
void parts_steady(const struct parts *how);
/* What a bookmark a second does to a guest; how long an order waits behind 16 writers. */
void parts_bookmark(const struct parts *how);
/* A copy against nbdcopy; what copy, resync and a full log do to a guest. */
void parts_copy(const struct parts *how);
/* The most that the processes held, under the largest writes. */
void parts_memory(const struct parts *how);

#endif
