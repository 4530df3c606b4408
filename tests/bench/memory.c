/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/keeper.h"
#include "tests/bench/load.h"
#include "tests/bench/parts.h"

#include <stdio.h>

#define IMAGE_SIZE (UINT64_C(128) << 20)
#define SAMPLE_S   3U
#define MIB        1048576.0

static void measure(const struct server_setup *setup)
{
    static const struct load load = {
        .size = 1U << 20, .depth = 16, .ops = LOAD_OPS_MAX, .ms = 1000};
    static struct keeper keeper;
    struct server server;
    server_start(&server, setup);
    double idle = (double)server_memory(&server) / MIB;
    if (setup->tap) {
        keeper_start(&keeper, &server, 500, 20000); /* long holds: held writes are memory too */
    }
    for (unsigned n = 0; n < SAMPLE_S; n++) {
        (void)load_run(&server, &load, n);
    }
    if (setup->tap) {
        keeper_stop(&keeper);
    }
    double most = (double)server_memory(&server) / MIB;
    (void)printf("%-12s %6.1f MiB before, %6.1f MiB at most: %.1f MiB for 16 MiB under way\n",
                 setup->name, idle, most, most - idle);
    server_stop(&server);
}

void parts_memory(const struct parts *how)
{
    static const struct server_setup setups[2] = {
        {.name = "file", .size = IMAGE_SIZE},
        {.name = "tap", .tap = true, .size = IMAGE_SIZE, .options = {"log-size=1G"}},
    };
    (void)how;
    (void)printf("\nResident memory of nbdkit (VmHWM), -t 16, 16 writes of 1 MiB at a time\n");
    for (unsigned i = 0; i < 2; i++) {
        measure(&setups[i]);
    }
}
