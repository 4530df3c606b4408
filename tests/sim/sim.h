/* SPDX-License-Identifier: Apache-2.0 */
/* sim: one run of a simulated cluster: the lab, a far side that reads its streams and dies now and
 * then, faults that have an end, and the checkers that look on. Everything is drawn from one seed
 * and happens in virtual time: two runs of one seed do the same. */
#ifndef TIDE_TESTS_SIM_SIM_H
#define TIDE_TESTS_SIM_SIM_H

#include "tests/sim/check.h"

#define SIM_MEMBERS_MAX TIDE_MEMBERS_MAX
#define SIM_ROUNDS_MAX  100000U
#define SIM_LIVE_US     60000000U /* after the last fault points must have come within this */
#define SIM_LIVE_POINTS 3U        /* so many, all of them full */

enum sim_faults {
    SIM_FAULTS_NONE = 0,
    SIM_FAULTS_LIGHT, /* messages late, lost, twice; links that break for a moment */
    SIM_FAULTS_SWARM, /* each seed draws which kinds there are, out of all, and how often */
};

struct sim_options {
    uint64_t seed;
    unsigned members; /* 0: drawn, 2..5 */
    unsigned rounds;  /* that the safety phase lasts, at one a second */
    enum sim_faults faults;
    bool listed; /* disks are lists of records: rounds alone, without bytes */
    bool trace;  /* wanted */
};

enum sim_verdict {
    SIM_GOOD = 0,
    SIM_UNSAFE,
    SIM_NOT_LIVE,
};

struct sim_result {
    enum sim_verdict verdict;
    char failure[400]; /* what and when, unless GOOD */
    struct check_count count;
    unsigned compared; /* disks that were recovered at a point and compared */
    uint64_t live_us;  /* from the end of faults until the points were there */
    uint64_t digest;   /* over every record, write and message */
    char *trace;       /* what everybody did, where wanted; the caller frees it */
};

struct sim_result sim_run(const struct sim_options *options);

#endif
