/* SPDX-License-Identifier: Apache-2.0 */
/* light MEMBERS [THREADS]: the group of tests/light in one program (2 threads). For each line on
 * standard input: a round, and on standard output its longest hold and the time from HOLD to the
 * sum, in microseconds; "0 0 REASON" where it failed. */
#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "tests/light/crowd.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WHOLE_US 60000000U
#define ROUND_US 30000000U

int main(int argc, char **argv)
{
    struct light_plan plan = {.disks = 1, .seed = (uint64_t)getpid()};
    char line[64];
    policy_init(&plan.policy);
    plan.policy.interval_ms = TIDE_INTERVAL_MS_MAX;
    plan.policy.hold_us_max = TIDE_GATE_CAP_MAX_US;
    plan.members = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2;
    if (plan.members < 2 || plan.members > TIDE_MEMBERS_MAX || threads < 1 ||
        threads > CROWD_THREADS_MAX || argc > 3) {
        fprintf(stderr, "usage: light MEMBERS [THREADS]: 2 to %u, 1 to %u\n", TIDE_MEMBERS_MAX,
                CROWD_THREADS_MAX);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    log_start("light", LOG_LEVEL_ERROR);
    struct light_group *group = light_group_new(&plan);
    (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    struct crowd *crowd = crowd_new(group, threads);
    TIDE_CHECK(crowd_wait_whole(crowd, clock_mono_us() + WHOLE_US));
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct leader_round round;
        TIDE_CHECK(crowd_round(crowd, clock_mono_us() + ROUND_US, &round));
        const struct msg_sum *sum = &round.sum;
        if (sum->sealed_by_all) {
            printf("%llu %llu\n", (unsigned long long)sum->hold_us_max,
                   (unsigned long long)round.total_us);
        } else {
            printf("0 0 %s\n", round_reason_name(sum->reason));
        }
        fflush(stdout);
    }
    crowd_stop(crowd);
    crowd_free(crowd);
    light_group_free(group);
    return 0;
}
