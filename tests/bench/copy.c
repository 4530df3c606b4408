/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/keeper.h"
#include "tests/bench/load.h"
#include "tests/bench/parts.h"
#include "tests/bench/stats.h"

#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define COPY_SIZE  (UINT64_C(512) << 20)
#define GUEST_SIZE (UINT64_C(128) << 20)
#define COPIES     5U
#define FILL_S     30U

extern char **environ;

/* ---- how fast */

enum { TO_TAP, TO_NULL, TO_FILE, WAYS };
static const char *const way_names[WAYS] = {"the tap's copy, log kept",
                                            "nbdcopy, to null:", "nbdcopy --flush, to a file"};

static double copy_tap(void)
{
    static const struct server_setup setup = {.name = "copied",
                                              .tap = true,
                                              .size = COPY_SIZE,
                                              .data = true,
                                              .options = {"log-size=256M", "copy-rate=1T"}};
    static struct keeper keeper;
    struct server server;
    server_start(&server, &setup); /* it begins here: 20 ms or so are not seen */
    uint64_t from = server_now_ns();
    keeper_start(&keeper, &server, 0, 0);
    keeper_until_whole(&keeper);
    double took = (double)(server_now_ns() - from) / 1e9;
    keeper_stop(&keeper);
    server_stop(&server);
    return took;
}

static double copy_nbd(bool to_file)
{
    static const struct server_setup setup = {.name = "source", .size = COPY_SIZE, .data = true};
    char target[256] = "null:";
    char uri[256];
    char *arguments[] = {"nbdcopy", to_file ? "--flush" : "--", uri, target, NULL};
    struct server server;
    pid_t pid = 0;
    int status = 0;
    server_start(&server, &setup);
    (void)snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s", server.socket);
    if (to_file) {
        (void)snprintf(target, sizeof target, "%s/target", server_folder());
        (void)unlink(target);
    }
    uint64_t from = server_now_ns();
    if (posix_spawnp(&pid, "nbdcopy", NULL, NULL, arguments, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0) {
        server_die("nbdcopy", "failed");
    }
    double took = (double)(server_now_ns() - from) / 1e9;
    server_stop(&server);
    (void)unlink(target);
    return took;
}

static void speed(unsigned copies)
{
    double rate[WAYS][STATS_PAIRS_MAX];
    for (unsigned n = 0; n < copies; n++) {
        (void)fprintf(stderr, "copy: %u of %u\n", n + 1, copies);
        for (unsigned turn = 0; turn < WAYS; turn++) {
            unsigned way = (turn + n) % WAYS;
            double took = way == TO_TAP ? copy_tap() : copy_nbd(way == TO_FILE);
            rate[way][n] = (double)COPY_SIZE / took / 1e6;
        }
    }
    (void)printf("\nA disk of 512 MiB of data, no guest, copy-rate unlimited; %u in turns\n",
                 copies);
    for (unsigned way = 0; way < WAYS; way++) {
        struct stats s = stats_of(rate[way], copies);
        (void)printf("%-28s %5.0f MB/s (%.0f-%.0f)\n", way_names[way], s.median, s.low, s.high);
    }
}

/* ---- beside a guest */

enum { ALONE, FULL_LOG, BY_MAP, FULL_COPY, STATES };
static const char *const state_names[STATES] = {"logged, no copy", "the log is full: unlogged",
                                                "resync by map", "copy of the whole disk"};

static const struct load guest = {
    .name = "4 KiB, depth 1", .size = 4096, .depth = 1, .ops = LOAD_OPS_MAX, .ms = 700};

static struct load_sample samples[STATES][STATS_PAIRS_MAX];
static unsigned short_copies; /* a copy that ended before its sample did */

/* Writes until nothing is logged any more, and then all over the disk. */
static void fill(const struct server *server)
{
    static const struct load big = {.size = 1U << 20, .depth = 4, .ops = 16, .ms = 5000};
    uint64_t until = server_now_ns() + FILL_S * UINT64_C(1000000000);
    while (server_state(server).logging) {
        if (server_now_ns() > until) {
            server_die(server->name, "the log does not get full");
        }
        (void)load_run(server, &big, 1);
    }
}

static void beside_copy(const struct server *server, struct keeper *keeper, unsigned state,
                        unsigned pair)
{
    samples[state][pair] = load_run(server, &guest, pair);
    keeper_look(keeper);
    short_copies += keeper->whole ? 1 : 0;
    keeper_until_whole(keeper);
}

/* The four states in one round; the log is empty and the disk whole at its begin and end. */
static void round_of(const struct server *server, unsigned pair)
{
    static const struct load spread = {
        .size = 64U << 10, .depth = 1, .ops = 2048, .ms = 5000, .sequential = true};
    static struct keeper keeper;
    const struct tapctl again = {.type = TAPCTL_RESYNC, .order = {.resync = TAPCTL_RESYNC_FULL}};
    keeper_start(&keeper, server, 0, 0);
    keeper_until_whole(&keeper);
    samples[ALONE][pair] = load_run(server, &guest, pair);
    keeper_stop(&keeper);

    fill(server);
    samples[FULL_LOG][pair] = load_run(server, &guest, pair);
    (void)load_run(server, &spread, 0);

    keeper_start(&keeper, server, 0, 0);
    do {
        keeper_look(&keeper);
    } while (!keeper.logging);
    beside_copy(server, &keeper, BY_MAP, pair);

    server_send(server, &again);
    do {
        keeper_look(&keeper);
    } while (keeper.whole);
    beside_copy(server, &keeper, FULL_COPY, pair);
    keeper_stop(&keeper);
    server_settle(server);
}

static void print_state(unsigned state, unsigned pairs)
{
    double rate[2][STATS_PAIRS_MAX];
    double p99[2][STATS_PAIRS_MAX];
    for (unsigned i = 0; i < pairs; i++) {
        rate[0][i] = samples[ALONE][i].rate;
        rate[1][i] = samples[state][i].rate;
        p99[0][i] = samples[ALONE][i].p99 * 1e6;
        p99[1][i] = samples[state][i].p99 * 1e6;
    }
    struct stats by_rate = stats_ratio(rate[1], rate[0], pairs);
    struct stats by_p99 = stats_ratio(p99[1], p99[0], pairs);
    (void)printf("%-28s %8.0f %8.0f  %.2f (%.2f-%.2f)   %.2f (%.2f-%.2f)\n", state_names[state],
                 stats_of(rate[1], pairs).median, stats_of(p99[1], pairs).median, by_rate.median,
                 by_rate.low, by_rate.high, by_p99.median, by_p99.low, by_p99.high);
}

static void beside(unsigned pairs)
{
    static const struct server_setup setup = {.name = "guest",
                                              .tap = true,
                                              .size = GUEST_SIZE,
                                              .data = true,
                                              .options = {"log-size=64M"}};
    struct server server;
    server_start(&server, &setup);
    for (unsigned pair = 0; pair < pairs; pair++) {
        (void)fprintf(stderr, "copy: guest %u of %u\n", pair + 1, pairs);
        round_of(&server, pair);
    }
    server_stop(&server);
    (void)printf("\nA guest of 4 KiB at depth 1, copy-rate as it is by default; %u rounds\n"
                 "%-28s %8s %8s  %-17s  %s\n",
                 pairs, "the tap meanwhile", "a second", "p99 us", "rate / first", "p99 / first");
    for (unsigned state = 0; state < STATES; state++) {
        print_state(state, pairs);
    }
    if (short_copies > 0) {
        (void)printf("(in %u samples the copy ended before the sample did)\n", short_copies);
    }
}

void parts_copy(const struct parts *how)
{
    speed(how->pairs < COPIES ? how->pairs : COPIES);
    beside(how->pairs);
}
