/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

static void sums_the_last_minute(void **state)
{
    (void)state;
    struct share share;
    share_init(&share);
    assert_int_equal(share_held_us(&share, 0), 0);
    share_add(&share, 100 * SECOND, 50000);
    share_add(&share, 100 * SECOND + 500000, 20000);
    share_add(&share, 159 * SECOND, 1000);
    assert_int_equal(share_held_us(&share, 159 * SECOND), 71000);
    assert_int_equal(share_held_us(&share, 160 * SECOND), 1000);
    share_add(&share, 160 * SECOND, 7); /* in the place of the first */
    assert_int_equal(share_held_us(&share, 160 * SECOND), 1007);
    assert_int_equal(share_held_us(&share, 400 * SECOND), 0);
}

static void expects_the_longest_of_the_last(void **state)
{
    (void)state;
    struct share share;
    share_init(&share);
    assert_int_equal(share_expected_us(&share), 0);
    share_add(&share, SECOND, 40000);
    for (unsigned i = 1; i < TIDE_SHARE_LATELY; i++) {
        share_add(&share, SECOND, i);
        assert_int_equal(share_expected_us(&share), 40000);
    }
    share_add(&share, SECOND, 5);
    assert_int_equal(share_expected_us(&share), 5);
}

/* Whatever the lengths, who asks before each round never holds more than the limit in any window.
 */
static void never_more_than_the_limit(void **state)
{
    (void)state;
    struct share share;
    share_init(&share);
    uint64_t taken[600] = {0}; /* by half second */
    unsigned skipped = 0;
    for (unsigned i = 0; i < 600; i++) {
        uint64_t now = i * SECOND / 2;
        if (share_allows(&share, now)) {
            taken[i] = 80000;
            share_add(&share, now, taken[i]);
        } else {
            skipped++;
        }
        uint64_t sum = 0;
        for (unsigned k = i < 119 ? 0 : i - 118; k <= i;
             k++) { /* 59 s: whole seconds are dropped */
            sum += taken[k];
        }
        assert_true(sum <= TIDE_SHARE_LIMIT_US);
    }
    assert_true(skipped > 100 && skipped < 560);
}

/* Far from the limit nothing changes; near it the interval is such that, but for what was held before
 * it grew, the limit is not met. */
static void interval_grows_near_the_limit(void **state)
{
    (void)state;
    struct share share;
    share_init(&share);
    unsigned rounds = 0;
    unsigned spared = 0; /* later than a minute and a half */
    for (uint64_t now = 0; now < 600 * SECOND;) {
        assert_true(share_held_us(&share, now) > TIDE_SHARE_LIMIT_US / 2 ||
                    share_interval_us(&share, now, SECOND) == SECOND);
        if (share_allows(&share, now)) {
            share_add(&share, now, 50000);
            rounds++;
        } else {
            spared += now > 90 * SECOND;
        }
        now += share_interval_us(&share, now, SECOND);
    }
    assert_int_equal(spared, 0);
    assert_in_range(rounds, 270, 300); /* 1.4 s of each minute */
    uint64_t now = 600 * SECOND;
    assert_int_equal(share_interval_us(&share, now, SECOND), 2142857);
    assert_int_equal(share_interval_us(&share, now, 5 * SECOND), 5 * SECOND);
    for (unsigned i = 0; i < TIDE_SHARE_LATELY; i++) {
        share_add(&share, now, 2000);
    }
    assert_int_equal(share_interval_us(&share, now, SECOND), SECOND); /* they are short again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_the_last_minute),
                                       cmocka_unit_test(expects_the_longest_of_the_last),
                                       cmocka_unit_test(never_more_than_the_limit),
                                       cmocka_unit_test(interval_grows_near_the_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
