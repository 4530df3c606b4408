/* SPDX-License-Identifier: Apache-2.0 */
/* canary_run: the workload itself. One thread a token, one a folder for the background writes. */
#ifndef TIDE_COORDINATOR_CLI_CANARY_RUN_H
#define TIDE_COORDINATOR_CLI_CANARY_RUN_H

#include "coordinator/cli/canary_file.h"

struct canary_run_options {
    size_t dir_count;
    char *const *dirs; /* not owned; one writer each, in an order drawn from the seed */
    uint32_t tokens;
    uint32_t slots;
    uint64_t seed;
    uint64_t seconds;          /* ends after so many */
    const char *until_file;    /* or when this file is there; NULL: none */
    uint64_t steps_per_s;      /* all tokens together, at most; 0: as fast as they come */
    uint64_t background_kib_s; /* a folder; 0: none */
    uint64_t report_seconds;   /* report every so many; 0: never */
    bool fsync;                /* sync after each step, too */
    bool direct;
};

struct canary_run_state {
    struct canary_config config;
    uint64_t steps;            /* acknowledged, all tokens */
    uint64_t background_bytes; /* acknowledged, all folders */
    double seconds;            /* since the first step was issued */
};

/* Runs until its time, until_file, SIGTERM or SIGINT ends it. report is called from the calling
 * thread when every file is ready (steps 0) and then every report_seconds. 0 with *ret filled, or
 * the first error of any writer. Blocks SIGTERM and SIGINT in the process for as long as it runs.
 */
int canary_run(const struct canary_run_options *options,
               void (*report)(const struct canary_run_state *state, void *context), void *context,
               struct canary_run_state *ret, struct err *err);

#endif
