/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/keeper.h"
#include "tests/bench/load.h"
#include "tests/bench/parts.h"
#include "tests/bench/stats.h"

#include <stdio.h>

#define IMAGE_SIZE   (UINT64_C(128) << 20)
#define STEADY_SIZE  (UINT64_C(1) << 30)
#define WARM_SAMPLES 20U

enum { FILE_A, FILE_B, TAP_BOTH, TAP_LOG, SERVERS };

static const struct server_setup setups[SERVERS] = {
    [FILE_A] = {.name = "file", .size = IMAGE_SIZE},
    [FILE_B] = {.name = "file-again", .size = IMAGE_SIZE},
    [TAP_BOTH] = {.name = "flush-both",
                  .tap = true,
                  .size = IMAGE_SIZE,
                  .options = {"flush=both", "log-size=1G"}},
    [TAP_LOG] = {.name = "flush-log",
                 .tap = true,
                 .size = IMAGE_SIZE,
                 .options = {"flush=log", "log-size=1G"}},
};

static const struct load single = {
    .name = "4 KiB, depth 1", .size = 4096, .depth = 1, .ops = LOAD_OPS_MAX, .ms = 600};
static const struct load deep = {
    .name = "4 KiB, depth 16", .size = 4096, .depth = 16, .ops = LOAD_OPS_MAX, .ms = 400};
static const struct load synced = {.name = "4 KiB, fsync each",
                                   .size = 4096,
                                   .depth = 1,
                                   .ops = LOAD_OPS_MAX,
                                   .ms = 600,
                                   .flush = true};
static const struct load large = {.name = "128 KiB, depth 4",
                                  .size = 128U << 10,
                                  .depth = 4,
                                  .ops = 1024,
                                  .ms = 2000,
                                  .sequential = true};

/* The file plugin against itself shows what the machine's noise does to a ratio of 1. */
static const struct row {
    const struct load *load;
    unsigned server;
    double aim; /* 0: none */
    double floor;
    bool cold; /* the log has left the page cache before each sample */
} rows[] = {
    {&single, FILE_B, 0, 0, false},        {&single, TAP_BOTH, 0.85, 0.75, false},
    {&deep, TAP_BOTH, 0.85, 0.70, false},  {&synced, TAP_BOTH, 0.60, 0.50, false},
    {&synced, TAP_LOG, 0.85, 0.75, false}, {&large, TAP_BOTH, 0.60, 0.50, false},
    {&single, TAP_BOTH, 0, 0, true},       {&large, TAP_BOTH, 0, 0, true},
};
#define ROWS (sizeof rows / sizeof rows[0])

/* The whole disk once, twice the log, until it is on stable storage: twice the bytes must move. */
static const struct load steady_load = {.name = "128 KiB, depth 4",
                                        .size = 128U << 10,
                                        .depth = 4,
                                        .ops = 8192,
                                        .ms = 20000,
                                        .sequential = true,
                                        .end = true};

static const struct server_setup steady_setups[2] = {
    {.name = "file", .size = STEADY_SIZE},
    {.name = "flush-both",
     .tap = true,
     .size = STEADY_SIZE,
     .options = {"flush=both", "log-size=512M"}},
};

struct series {
    double rate[2][STATS_PAIRS_MAX]; /* the file plugin's, the other's */
    double p99[2][STATS_PAIRS_MAX];
};

/* Once round the log, so that it is a recycled one. */
static void start(struct server *server, const struct server_setup *setup)
{
    static const struct load warm = {.size = 128U << 10, .depth = 4, .ops = 512, .ms = 5000};
    server_start(server, setup);
    for (unsigned n = 0; n < WARM_SAMPLES; n++) {
        (void)load_run(server, &warm, n);
        server_settle(server);
    }
}

static void print_head(const char *title, unsigned pairs)
{
    double none[STATS_PAIRS_MAX] = {0};
    size_t rank = stats_of(none, pairs).low_rank;
    (void)printf("\n%s: medians of %u pairs; in brackets the pair ratios' order statistics %zu and "
                 "%zu\n%-18s %-12s %9s %9s %8s %8s  %-17s  %-17s  %s\n",
                 title, pairs, rank, pairs + 1 - rank, "writes", "server", "file /s", "its /s",
                 "file p99", "its p99", "rate / file", "p99 / file", "aim (floor)");
}

static void print_row(const char *load, const char *server, struct series *s, unsigned pairs,
                      double aim, double floor)
{
    struct stats rate = stats_ratio(s->rate[1], s->rate[0], pairs);
    struct stats p99 = stats_ratio(s->p99[1], s->p99[0], pairs);
    (void)printf("%-18s %-12s %9.0f %9.0f %8.0f %8.0f  %.2f (%.2f-%.2f)   %.2f (%.2f-%.2f)  ", load,
                 server, stats_of(s->rate[0], pairs).median, stats_of(s->rate[1], pairs).median,
                 stats_of(s->p99[0], pairs).median * 1e6, stats_of(s->p99[1], pairs).median * 1e6,
                 rate.median, rate.low, rate.high, p99.median, p99.low, p99.high);
    if (aim > 0) {
        (void)printf(" %.2f (%.2f) %s", aim, floor, stats_verdict(rate.median, aim, floor));
    }
    (void)printf("\n");
}

static void sample(struct series *s, unsigned which, unsigned pair, const struct server *server,
                   const struct load *load)
{
    struct load_sample got = load_run(server, load, pair);
    s->rate[which][pair] = got.rate;
    s->p99[which][pair] = got.p99;
}

/* Both servers, one after the other; who is first changes. */
static void pair_of(struct series *s, const struct row *row, unsigned pair, unsigned r,
                    const struct server *servers)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        unsigned which = (turn + pair + r) % 2;
        const struct server *server = &servers[which == 0 ? FILE_A : row->server];
        if (which == 1 && row->cold) {
            server_cool(server);
        }
        sample(s, which, pair, server, row->load);
        server_settle(server);
    }
}

void parts_writes(const struct parts *how)
{
    static struct series series[ROWS];
    static struct server servers[SERVERS];
    for (unsigned i = 0; i < SERVERS; i++) {
        start(&servers[i], &setups[i]);
    }
    /* Last, those that empty the cache: the pages that a log comes back to are new ones then. */
    for (unsigned cold = 0; cold < 2; cold++) {
        for (unsigned pair = 0; pair < how->pairs; pair++) {
            (void)fprintf(stderr, "writes%s: pair %u of %u\n", cold != 0 ? ", log uncached" : "",
                          pair + 1, how->pairs);
            for (unsigned r = 0; r < ROWS; r++) {
                if (rows[r].cold == (cold != 0)) {
                    pair_of(&series[r], &rows[r], pair, r, servers);
                }
            }
        }
    }
    print_head("Writes", how->pairs);
    for (unsigned r = 0; r < ROWS; r++) {
        print_row(rows[r].load->name, rows[r].cold ? "log uncached" : setups[rows[r].server].name,
                  &series[r], how->pairs, rows[r].aim, rows[r].floor);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        server_stop(&servers[i]);
    }
}

void parts_steady(const struct parts *how)
{
    static struct series series;
    static struct server servers[2];
    static struct keeper keeper;
    start(&servers[0], &steady_setups[0]);
    start(&servers[1], &steady_setups[1]);
    for (unsigned pair = 0; pair < how->pairs; pair++) {
        (void)fprintf(stderr, "steady: pair %u of %u\n", pair + 1, how->pairs);
        for (unsigned turn = 0; turn < 2; turn++) {
            unsigned which = (turn + pair) % 2;
            if (which == 1) {
                keeper_start(&keeper, &servers[1], 0, 0);
            }
            sample(&series, which, pair, &servers[which], &steady_load);
            if (which == 1) {
                keeper_stop(&keeper);
            }
            server_settle(&servers[which]);
        }
    }
    print_head("1 GiB and a flush, the log recycled meanwhile", how->pairs);
    print_row(steady_load.name, steady_setups[1].name, &series, how->pairs, 0.60, 0.50);
    server_stop(&servers[0]);
    server_stop(&servers[1]);
}
