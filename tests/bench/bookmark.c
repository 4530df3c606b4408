/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/keeper.h"
#include "tests/bench/load.h"
#include "tests/bench/parts.h"
#include "tests/bench/stats.h"

#include <stdio.h>

#define IMAGE_SIZE (UINT64_C(128) << 20)
#define HOLD_US    1000U /* a round among machines of one network takes about that long */
#define SPACING_MS 205U  /* the duty limit refuses what comes much sooner */
#define ORDER_AIM  0.001 /* seconds, p99 */

static const struct server_setup setup = {
    .name = "bookmark", .tap = true, .size = IMAGE_SIZE, .options = {"flush=both", "log-size=1G"}};

static const struct load guests[] = {
    {.name = "4 KiB, depth 1", .size = 4096, .depth = 1, .ops = LOAD_OPS_MAX, .ms = 1000},
    {.name = "4 KiB, depth 16", .size = 4096, .depth = 16, .ops = LOAD_OPS_MAX, .ms = 1000},
};
#define GUESTS (sizeof guests / sizeof guests[0])

static const struct load writers[] = {
    {.name = "16 writers of 4 KiB", .size = 4096, .depth = 16, .ops = LOAD_OPS_MAX, .ms = 1000},
    {.name = "16 writers of 128 KiB",
     .size = 128U << 10,
     .depth = 16,
     .ops = LOAD_OPS_MAX,
     .ms = 1000},
};

/* Guest without (0) and with (1) a bookmark every second; the log is kept in both. */
static void beside(const struct server *server, const struct load *load, unsigned pairs)
{
    static struct keeper keeper;
    double p99[2][STATS_PAIRS_MAX];
    unsigned marks = 0;
    for (unsigned pair = 0; pair < pairs; pair++) {
        for (unsigned turn = 0; turn < 2; turn++) {
            unsigned which = (turn + pair) % 2;
            keeper_start(&keeper, server, which == 1 ? 1000 : 0, HOLD_US);
            p99[which][pair] = load_run(server, load, pair).p99;
            keeper_stop(&keeper);
            marks += keeper.held_count;
            server_settle(server);
        }
    }
    struct stats ratio = stats_ratio(p99[1], p99[0], pairs);
    (void)printf("%-22s p99 %.0f us without, %.0f us with (%u bookmarks in %u s), ratio %.2f "
                 "(%.2f-%.2f): %s\n",
                 load->name, stats_of(p99[0], pairs).median * 1e6,
                 stats_of(p99[1], pairs).median * 1e6, marks, pairs, ratio.median, ratio.low,
                 ratio.high, ratio.low <= 1 ? "ok" : "more than the noise");
}

static void behind(const struct server *server, const struct load *load, unsigned marks)
{
    static struct keeper keeper;
    uint64_t until = server_now_ns() + (uint64_t)marks * SPACING_MS * UINT64_C(1000000);
    keeper_start(&keeper, server, SPACING_MS, HOLD_US);
    for (unsigned n = 0; server_now_ns() < until; n++) {
        (void)load_run(server, load, n);
    }
    keeper_stop(&keeper);
    server_settle(server);
    if (keeper.held_count == 0) {
        server_die(server->name, "no bookmark was placed");
    }
    unsigned count = keeper.held_count;
    double p99 = stats_quantile(keeper.held, count, 0.99);
    (void)printf(
        "%-22s HOLD to HELD p50 %.0f us, p99 %.0f us, most %.0f us, of %u (%u refused); "
        "aim p99 1000 us: %s\n%-22s a timer's wake-up beside it p50 %.0f us, p99 %.0f us\n",
        load->name, stats_quantile(keeper.held, count, 0.5) * 1e6, p99 * 1e6,
        stats_quantile(keeper.held, count, 1) * 1e6, count, keeper.refused,
        p99 <= ORDER_AIM ? "ok" : "below aim", "", stats_quantile(keeper.late, count, 0.5) * 1e6,
        stats_quantile(keeper.late, count, 0.99) * 1e6);
}

void parts_bookmark(const struct parts *how)
{
    struct server server;
    server_start(&server, &setup);
    (void)printf("\nA bookmark every second, held for 1 ms, against none; %u pairs of 1 s\n",
                 how->pairs);
    for (unsigned i = 0; i < GUESTS; i++) {
        (void)fprintf(stderr, "bookmark: %s\n", guests[i].name);
        beside(&server, &guests[i], how->pairs);
    }
    (void)printf("\nBookmarks under saturation, as the daemon sees it\n");
    for (unsigned i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        (void)fprintf(stderr, "bookmark: %s\n", writers[i].name);
        behind(&server, &writers[i], how->marks);
    }
    server_stop(&server);
}
