/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds under loss, repetition, reordering, dead links and killed taps, over many seeds, with
 * writes that depend on each other across members: no accepted round has an effect without its
 * cause, no hold outlives its budget. And the same judge finds torn rounds once nobody holds.
 * A failure names its seed; TIDE_SEED=n runs that one alone and prints its trace, TIDE_SEEDS=n-m
 * those from n to m. */
#include "tests/lib/roundlab.h"

#include "common/core/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEEDS   500U
#define RUN_US  6000000U
#define STEP_US 50000U

static struct roundlab_config draw(uint64_t seed, struct prng *prng)
{
    prng_init(prng, seed);
    struct roundlab_config config = {
        .members = 2 + (unsigned)prng_below(prng, 3),
        .seed = seed,
        .latency_us = 100 + prng_below(prng, 2000),
        .jitter_us = prng_below(prng, 2) * prng_below(prng, 20000),
        .loss_percent = (unsigned)(prng_below(prng, 2) * prng_below(prng, 8)),
        .again_percent = (unsigned)(prng_below(prng, 2) * prng_below(prng, 20)),
        .retries = (unsigned)prng_below(prng, 3),
        .hold_delay_us_max = (uint32_t)prng_below(prng, 20000),
        .silent = true,
    };
    policy_init(&config.policy);
    config.policy.interval_ms = 1000;
    config.policy.hold_us_max = 10000 + (uint32_t)prng_below(prng, 70000);
    config.policy.missing =
        prng_below(prng, 3) == 0 ? POLICY_MISSING_PARTIAL : POLICY_MISSING_STRICT;
    return config;
}

static void disturb(struct roundlab *lab, const struct roundlab_config *config, struct prng *prng)
{
    unsigned member = (unsigned)prng_below(prng, config->members);
    unsigned other = (unsigned)prng_below(prng, config->members);
    unsigned disk = (unsigned)prng_below(prng, ROUNDLAB_DISKS);
    switch (prng_below(prng, 12)) {
    case 0:
        if (member != other) {
            roundlab_link(lab, member, other, false);
            roundlab_run(lab, roundlab_now(lab) + prng_below(prng, 100000));
            roundlab_link(lab, member, other, true);
        }
        break;
    case 1:
        roundlab_tap_stop(lab, member, disk);
        roundlab_run(lab, roundlab_now(lab) + prng_below(prng, 20000));
        roundlab_tap_start(lab, member, disk);
        break;
    case 2:
        roundlab_take(lab, member, ROUND_KIND_CRASH);
        break;
    case 3: { /* a release that somebody made up */
        struct msg msg = {.type = MSG_RELEASE};
        msg.release.round = roundlab_last_round(lab);
        memset(msg.release.cut.b, 0x66, sizeof msg.release.cut.b);
        if (!id_is_zero(&msg.release.round) && member != other) {
            roundlab_inject(lab, member, other, &msg);
        }
        break;
    }
    default:
        break;
    }
}

static struct roundlab_verdict run(uint64_t seed, bool calm, bool unsafe_no_hold)
{
    struct prng prng;
    struct roundlab_config config = draw(seed, &prng);
    config.unsafe_no_hold = unsafe_no_hold;
    if (calm) {
        config.loss_percent = 0;
        config.jitter_us = 0;
        config.policy.hold_us_max = 50000;
    }
    const char *only = getenv("TIDE_SEED");
    config.silent = only == NULL;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_tokens(lab, 3, calm ? 4000 : 8000);
    while (roundlab_now(lab) < RUN_US) {
        roundlab_run(lab, roundlab_now(lab) + prng_below(&prng, 2 * STEP_US));
        if (!calm) {
            disturb(lab, &config, &prng);
        }
    }
    roundlab_run(lab, RUN_US + 3500000); /* past the last round's end, before the next */
    if (only != NULL) {
        fputs(roundlab_text(lab), stderr);
    }
    struct roundlab_verdict verdict = roundlab_judge(lab);
    roundlab_free(lab);
    return verdict;
}

static uint64_t first_seed(void)
{
    const char *only = getenv("TIDE_SEED");
    const char *given = only != NULL ? only : getenv("TIDE_SEEDS");
    return given != NULL ? strtoull(given, NULL, 10) : 1;
}

static uint64_t last_seed(void)
{
    const char *given = getenv("TIDE_SEEDS");
    const char *dash = given != NULL ? strchr(given, '-') : NULL;
    if (getenv("TIDE_SEED") != NULL) {
        return first_seed();
    }
    return dash != NULL ? strtoull(dash + 1, NULL, 10) : SEEDS;
}

static void add(struct roundlab_verdict *sum, const struct roundlab_verdict *one)
{
    sum->rounds += one->rounds;
    sum->points += one->points;
    sum->full += one->full;
    sum->torn += one->torn;
    sum->held += one->held;
    sum->writes += one->writes;
    sum->over_budget += one->over_budget;
    sum->hold_us_max = one->hold_us_max > sum->hold_us_max ? one->hold_us_max : sum->hold_us_max;
}

static void nothing_torn(void **state)
{
    (void)state;
    struct roundlab_verdict sum = {0};
    for (uint64_t seed = first_seed(); seed <= last_seed(); seed++) {
        struct roundlab_verdict one = run(seed, false, false);
        if (one.torn > 0 || one.over_budget > 0) {
            fail_msg("seed %llu: %u of %u points torn, %u holds over their budget",
                     (unsigned long long)seed, one.torn, one.points, one.over_budget);
        }
        add(&sum, &one);
    }
    print_message("%u rounds, %u points (%u full), %u writes, %u held, longest hold %llu us\n",
                  sum.rounds, sum.points, sum.full, sum.writes, sum.held,
                  (unsigned long long)sum.hold_us_max);
    if (first_seed() == 1 && last_seed() == SEEDS) { /* it says something only if much was tried */
        assert_true(sum.points > SEEDS);
        assert_true(sum.rounds > sum.points + SEEDS / 2); /* and much went wrong */
        assert_true(sum.held > sum.points);
        assert_true(sum.full < sum.points);
        assert_true(sum.hold_us_max <= 50000);
    }
}

/* The judge can fail: without the hold, marks apart by up to 20 ms are torn. */
static void torn_without_the_hold(void **state)
{
    (void)state;
    struct roundlab_verdict sum = {0};
    struct roundlab_verdict held = {0};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct roundlab_verdict one = run(seed, true, true);
        add(&sum, &one);
        one = run(seed, true, false);
        add(&held, &one);
    }
    print_message("without the hold: %u of %u torn; with it: %u of %u\n", sum.torn, sum.points,
                  held.torn, held.points);
    assert_true(sum.points >= 60);
    assert_true(sum.torn > sum.points / 4);
    assert_int_equal(sum.held, 0);
    assert_true(held.points >= 60);
    assert_int_equal(held.torn, 0);
    assert_true(held.held > 0);
}

/* With nothing in its way every round is a point. */
static void calm_is_all_points(void **state)
{
    (void)state;
    uint64_t last = last_seed() < 10 ? last_seed() : 10;
    for (uint64_t seed = first_seed(); seed <= last; seed++) {
        struct roundlab_verdict one = run(seed, true, false);
        if (one.rounds < 6 || one.points != one.rounds || one.full != one.points) {
            fail_msg("seed %llu: %u points (%u full) of %u rounds", (unsigned long long)seed,
                     one.points, one.full, one.rounds);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_torn),
        cmocka_unit_test(torn_without_the_hold),
        cmocka_unit_test(calm_is_all_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
