/* SPDX-License-Identifier: Apache-2.0 */
/* What the tap costs, in pairs of samples, taken in turns in one run. README.md says how to read
 * it.
 *
 * usage: bench_tap [--quick] [--long] [--pairs N] [--only PART] [--log FOLDER] [FOLDER]
 *
 * Folders are made in FOLDER (/tmp) and removed; 3 GB are needed. --quick: 3 pairs; --long: 250
 * bookmarks; --only: writes, steady, bookmark, copy, memory; --log: the logs lie there.
 *
 * A measurement, not a test: exit 0 whatever the figures say, 1 where nothing could be measured. */
#include "tests/bench/parts.h"
#include "tests/bench/server.h"
#include "tests/bench/stats.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    void (*run)(const struct parts *how);
} parts[] = {
    {"writes", parts_writes}, {"steady", parts_steady}, {"bookmark", parts_bookmark},
    {"copy", parts_copy},     {"memory", parts_memory},
};

static _Noreturn void usage(void)
{
    (void)fprintf(stderr, "usage: bench_tap [--quick] [--long] [--pairs N] [--only writes|steady|"
                          "bookmark|copy|memory] [--log FOLDER] [FOLDER]\n");
    exit(2);
}

static unsigned pairs_of(const char *text)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1 || value > STATS_PAIRS_MAX) {
        (void)fprintf(stderr, "bench_tap: --pairs %s: give 1 to %u\n", text, STATS_PAIRS_MAX);
        exit(2);
    }
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},       {"long", no_argument, NULL, 'l'},
        {"pairs", required_argument, NULL, 'n'}, {"only", required_argument, NULL, 'o'},
        {"log", required_argument, NULL, 'L'},   {NULL, 0, NULL, 0}};
    struct parts how = {.pairs = 15, .marks = 60};
    const char *only = NULL;
    const char *log = NULL;
    for (int c = 0; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'q') {
            how.pairs = 3;
            how.marks = 15;
        } else if (c == 'l') {
            how.marks = 250;
        } else if (c == 'n') {
            how.pairs = pairs_of(optarg);
        } else if (c == 'o') {
            only = optarg;
        } else if (c == 'L') {
            log = optarg;
        } else {
            usage();
        }
    }
    if (argc - optind > 1) {
        usage();
    }
    server_folders(optind < argc ? argv[optind] : "/tmp", log);
    unsigned ran = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (only == NULL || strcmp(only, parts[i].name) == 0) {
            parts[i].run(&how);
            (void)fflush(stdout);
            ran++;
        }
    }
    if (ran == 0) {
        usage();
    }
    return 0;
}
