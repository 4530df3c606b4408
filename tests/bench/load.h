/* SPDX-License-Identifier: Apache-2.0 */
/* load: writes of one kind, at one depth, over one NBD connection, and what they took. */
#ifndef TIDE_TESTS_BENCH_LOAD_H
#define TIDE_TESTS_BENCH_LOAD_H

#include "tests/bench/server.h"

#define LOAD_DEPTH_MAX 16U
#define LOAD_OPS_MAX   100000U
#define LOAD_SIZE_MAX  (1U << 20)

struct load {
    const char *name;
    uint32_t size;   /* of a write: 1..LOAD_SIZE_MAX */
    unsigned depth;  /* 1..LOAD_DEPTH_MAX */
    unsigned ops;    /* at most, up to LOAD_OPS_MAX */
    unsigned ms;     /* no write is begun later */
    bool flush;      /* after each write; the latency is that of both */
    bool end;        /* the last answer is that of a flush */
    bool sequential; /* round the disk from its start; else random, by seed */
};

struct load_sample {
    double rate; /* writes a second */
    double p50;  /* seconds */
    double p99;
};

/* One at a time. */
struct load_sample load_run(const struct server *server, const struct load *load, uint64_t seed);

#endif
