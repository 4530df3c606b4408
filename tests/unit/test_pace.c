/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/pace and spread: what hold is expected, who is slow; how holds are distributed.
 */
#include "participant/core/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "participant/core/spread.h"

#define BUDGET 50000U

static struct pace pace;

static int setup(void **state)
{
    (void)state;
    memset(&pace, 0, sizeof pace);
    return 0;
}

static void one_odd_answer_says_nothing(void **state)
{
    (void)state;
    assert_int_equal(pace_expected_us(&pace, 3), 0);
    pace_answered(&pace, 3, 900000, BUDGET);
    assert_int_equal(pace_expected_us(&pace, 3), 0);
    assert_false(pace_slow(&pace, 3, BUDGET));
    for (unsigned i = 0; i < 5; i++) {
        pace_answered(&pace, 3, 1000 + i, BUDGET);
    }
    assert_int_equal(pace_answer_us(&pace, 3), 1004);
    assert_false(pace_slow(&pace, 3, BUDGET));
    assert_int_equal(pace_answers(&pace, 3), 6);
    pace_answered(&pace, 3, 60000, BUDGET);
    assert_int_equal(pace_answer_us(&pace, 3), 60000);
    assert_true(pace_slow(&pace, 3, BUDGET));
    assert_false(pace_slow(&pace, 2, BUDGET)); /* and nobody else */
    assert_false(pace_slow(&pace, 3, 60000));  /* it fits exactly */
}

/* The round ends for the others only when RELEASE has reached them. */
static void what_comes_after_the_last_answer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        pace_answered(&pace, 0, 45000, BUDGET);
    }
    assert_false(pace_slow(&pace, 0, BUDGET));
    pace_rest(&pace, 6000);
    assert_false(pace_slow(&pace, 0, BUDGET)); /* once is odd */
    pace_rest(&pace, 7000);
    assert_int_equal(pace_rest_us(&pace), 6000);
    assert_int_equal(pace_expected_us(&pace, 0), 51000);
    assert_true(pace_slow(&pace, 0, BUDGET));
}

static void old_answers_are_forgotten(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        pace_answered(&pace, 0, 49000, BUDGET);
    }
    for (unsigned i = 0; i < TIDE_PACE_WINDOW - 2; i++) {
        assert_int_equal(pace_answer_us(&pace, 0), 49000);
        pace_answered(&pace, 0, 2000, BUDGET);
    }
    assert_int_equal(pace_answer_us(&pace, 0), 49000);
    pace_answered(&pace, 0, 2000, BUDGET);
    assert_int_equal(pace_answer_us(&pace, 0), 2000);
}

static void one_in_time_clears_it_two_late_ones_make_it_slow_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        pace_answered(&pace, 0, 80000, BUDGET);
    }
    assert_true(pace_slow(&pace, 0, BUDGET));
    pace_answered(&pace, 0, 50001, BUDGET);
    assert_true(pace_slow(&pace, 0, BUDGET));
    pace_answered(&pace, 0, 50000, BUDGET);
    assert_false(pace_slow(&pace, 0, BUDGET));
    pace_answered(&pace, 0, 80000, BUDGET);
    assert_false(pace_slow(&pace, 0, BUDGET));
    pace_answered(&pace, 0, UINT64_MAX, BUDGET);
    assert_true(pace_slow(&pace, 0, BUDGET));
}

/* ---- spread ---- */

static void empty_and_one(void **state)
{
    (void)state;
    struct spread spread = {0};
    struct spread_view view = spread_view(&spread);
    assert_int_equal(view.count + view.p50_us + view.p99_us + view.max_us, 0);
    spread_add(&spread, 0);
    spread_add(&spread, 777);
    view = spread_view(&spread);
    assert_int_equal(view.count, 2);
    assert_int_equal(view.p50_us, 0);
    assert_int_equal(view.p99_us, 777); /* the edge of its bucket is past the longest */
    assert_int_equal(view.max_us, 777);
}

static void never_too_low_and_hardly_too_high(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= TIDE_SPREAD_MAX_US; us += 1 + us / 50) {
        struct spread spread = {0};
        for (unsigned i = 0; i < 98; i++) {
            spread_add(&spread, us);
        }
        spread_add(&spread, 10 * us); /* the longest two of a hundred */
        spread_add(&spread, 11 * us);
        struct spread_view view = spread_view(&spread);
        assert_true(view.p50_us >= us && view.p50_us <= us + us / 8);
        assert_true(view.p99_us >= 10 * us);
        assert_int_equal(view.max_us, 11 * us);
        assert_int_equal(view.count, 100);
    }
}

static void past_the_last_bucket(void **state)
{
    (void)state;
    struct spread spread = {0};
    spread_add(&spread, TIDE_SPREAD_MAX_US);
    spread_add(&spread, UINT64_MAX);
    spread_add(&spread, UINT64_MAX - 1);
    struct spread_view view = spread_view(&spread);
    assert_true(view.p50_us == UINT64_MAX); /* in the last bucket only the longest is known */
    assert_true(view.max_us == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_odd_answer_says_nothing, setup),
        cmocka_unit_test_setup(what_comes_after_the_last_answer, setup),
        cmocka_unit_test_setup(old_answers_are_forgotten, setup),
        cmocka_unit_test_setup(one_in_time_clears_it_two_late_ones_make_it_slow_again, setup),
        cmocka_unit_test(empty_and_one),
        cmocka_unit_test(never_too_low_and_hardly_too_high),
        cmocka_unit_test(past_the_last_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
