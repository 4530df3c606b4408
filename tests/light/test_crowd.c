/* SPDX-License-Identifier: Apache-2.0 */
/* The largest group that there may be: 256 members, each with its link, certificate, sockets and
 * gate, under writes that depend on each other. Rounds come whole, the reader's rule says yes, and
 * no point is torn; with the hold switched off the same judge must find torn ones.
 *
 * test_crowd [MEMBERS [ROUNDS]]: other numbers than 256 and 8. */
#include "tests/light/crowd.h"

#include "common/io/clock.h"
#include "common/io/log.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOKENS     12U
#define THINK_US   300U
#define WHOLE_US   40000000U /* until all are linked */
#define ROUND_US   20000000U /* of an answer: the leader's own limit is far below */
#define TRIES_MAX  4U        /* for each round: on a busy machine one may run out of its budget */
#define SKEW_US    20000U
#define TORN_TRIES 12U

static unsigned member_count = TIDE_MEMBERS_MAX;
static unsigned round_count = 8;

static struct crowd *gather(const struct light_group *group)
{
    struct crowd *crowd = crowd_new(group, 2);
    uint64_t began = clock_mono_us();
    assert_true(crowd_wait_whole(crowd, began + WHOLE_US));
    print_message("%u members: all linked within %llu ms\n", member_count,
                  (unsigned long long)(clock_mono_us() - began) / CLOCK_US_PER_MS);
    crowd_tokens(crowd, TOKENS, THINK_US, 7);
    return crowd;
}

static struct light_plan plan_of(void)
{
    struct light_plan plan = {.members = member_count, .disks = 1, .seed = 20004};
    policy_init(&plan.policy);
    plan.policy.interval_ms = TIDE_INTERVAL_MS_MAX; /* rounds when they are asked for */
    plan.policy.hold_us_max = 100000;
    return plan;
}

static void rounds_come_whole(void **state)
{
    struct light_plan plan = plan_of();
    struct light_group *group = light_group_new(&plan);
    struct crowd *crowd = gather(group);
    unsigned sealed = 0;
    unsigned tried = 0;
    (void)state;
    for (; sealed < round_count && tried < round_count * TRIES_MAX; tried++) {
        struct leader_round round;
        assert_true(crowd_round(crowd, clock_mono_us() + ROUND_US, &round));
        if (!round.sum.sealed_by_all) {
            print_message("not sealed: %s at %s: %s\n", round_reason_name(round.sum.reason),
                          round.sum.member.s, round.sum.text);
            continue;
        }
        sealed++;
        assert_true(round.full);
        assert_int_equal(round.set_members, member_count);
        assert_int_equal(round.sum.member_count, member_count);
        print_message("sealed by all of %u, longest hold %llu us\n", round.set_members,
                      (unsigned long long)round.sum.hold_us_max);
    }
    assert_int_equal(sealed, round_count);
    crowd_stop(crowd);
    struct crowd_verdict verdict = crowd_judge(crowd);
    print_message("%u rounds tried, %u of them points, %u writes\n", tried, verdict.points,
                  verdict.steps);
    assert_true(verdict.sealed >= sealed);
    assert_int_equal(verdict.points, verdict.sealed);
    assert_int_equal(verdict.full, verdict.sealed);
    assert_int_equal(verdict.torn, 0);
    assert_int_equal(verdict.undecided, 0);
    assert_true(verdict.steps > 20 * TOKENS);
    crowd_free(crowd);
    light_group_free(group);
}

/* Else the test above would prove nothing. */
static void without_the_hold_some_are_torn(void **state)
{
    struct light_plan plan = plan_of();
    (void)state;
    plan.unsafe_no_hold = true;
    plan.hold_skew_us = SKEW_US;
    plan.members = plan.members < 32 ? plan.members : 32;
    struct light_group *group = light_group_new(&plan);
    struct crowd *crowd = crowd_new(group, 2);
    assert_true(crowd_wait_whole(crowd, clock_mono_us() + WHOLE_US));
    crowd_tokens(crowd, TOKENS, THINK_US, 7);
    for (unsigned i = 0; i < TORN_TRIES; i++) {
        struct leader_round round;
        assert_true(crowd_round(crowd, clock_mono_us() + ROUND_US, &round));
    }
    crowd_stop(crowd);
    struct crowd_verdict verdict = crowd_judge(crowd);
    print_message("without the hold: %u of %u torn\n", verdict.torn, verdict.points);
    assert_true(verdict.torn > 0);
    crowd_free(crowd);
    light_group_free(group);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rounds_come_whole),
                                       cmocka_unit_test(without_the_hold_some_are_torn)};
    if (argc > 1) {
        member_count = (unsigned)strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        round_count = (unsigned)strtoul(argv[2], NULL, 10);
    }
    if (argc > 3 || member_count < 1 || member_count > TIDE_MEMBERS_MAX || round_count < 1 ||
        round_count > 4096) {
        fprintf(stderr, "usage: test_crowd [MEMBERS [ROUNDS]]: 1..%u, 1..4096\n", TIDE_MEMBERS_MAX);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    log_start("test_crowd", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
