/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/bandwidth and rpo: hours over midnight, a bucket under clocks that jump, and the
 * age of what is not stored, which is never told too low. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/core/prng.h"
#include "participant/core/bandwidth.h"
#include "participant/core/rpo.h"

#define SECOND 1000000U

static void hours(void **state)
{
    const struct bandwidth_rules rules = {
        .usual = {.limit = 5000000},
        .count = 3,
        .hours = {{.from = 22 * 60, .to = 6 * 60, .rule = {.limit = 0}},
                  {.from = 8 * 60, .to = 12 * 60, .rule = {.limit = 100000}},
                  {.from = 23 * 60, .to = 24 * 60, .rule = {.off = true}}}};
    const struct {
        unsigned minute;
        bool off;
        uint64_t limit;
    } cases[] = {
        {0, false, 0},        {359, false, 0},      {360, false, 5000000}, {479, false, 5000000},
        {480, false, 100000}, {719, false, 100000}, {720, false, 5000000}, {1319, false, 5000000},
        {1320, false, 0},     {1439, false, 0}, /* the first that fits */
    };
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct bandwidth_rule rule = bandwidth_rule(&rules, cases[k].minute);
        assert_int_equal(rule.off, cases[k].off);
        assert_int_equal(rule.limit, cases[k].limit);
    }
    assert_int_equal(bandwidth_least(&rules), 100000);
    const struct bandwidth_hours day = {.from = 0, .to = 1440};
    const struct bandwidth_hours from_noon = {.from = 720, .to = 719};
    assert_true(bandwidth_within(&day, 0) && bandwidth_within(&day, 1439));
    assert_true(bandwidth_within(&from_noon, 720) && bandwidth_within(&from_noon, 0));
    assert_false(bandwidth_within(&from_noon, 719));
    const struct bandwidth_rules none = {.count = 0};
    assert_int_equal(bandwidth_rule(&none, 5).limit, 0);
    assert_int_equal(bandwidth_least(&none), 0);
}

/* Over any time, no more than the limit and one bucket; and close to it, in steps of any size. */
static void keeps_the_rate(void **state)
{
    static const uint64_t limits[] = {TIDE_BANDWIDTH_MIN, 1000000, 12345678,
                                      TIDE_BANDWIDTH_MAX / 4};
    (void)state;
    for (size_t k = 0; k < sizeof limits / sizeof *limits; k++) {
        struct bandwidth b = {0};
        struct prng prng;
        uint64_t now = 77;
        uint64_t sent = 0;
        prng_init(&prng, k);
        while (now < 77 + 20ULL * SECOND) {
            now += 1 + prng_below(&prng, 20000);
            sent += bandwidth_take(&b, limits[k], now, limits[k]);
            assert_true(sent <= (now - 77) * limits[k] / SECOND + limits[k] / 4);
        }
        assert_true(sent >= 19 * limits[k]);
    }
}

static void odd_clocks(void **state)
{
    struct bandwidth b = {0};
    (void)state;
    assert_int_equal(bandwidth_take(&b, 0, 5, 123456789), 123456789);
    assert_int_equal(bandwidth_take(&b, 100000, 5 * SECOND, 1000), 0); /* begins empty */
    assert_int_equal(bandwidth_take(&b, 100000, 5 * SECOND + 10000, 5000), 1000);
    assert_int_equal(bandwidth_take(&b, 100000, 4 * SECOND, 5000), 0); /* back: nothing */
    assert_int_equal(bandwidth_take(&b, 100000, 4 * SECOND + 20000, 5000), 2000);
    assert_int_equal(bandwidth_take(&b, 100000, UINT64_MAX / 2, 1 << 30), 25000); /* a full one */
    assert_int_equal(bandwidth_take(&b, 100000, UINT64_MAX / 2, 1 << 30), 0);
    assert_int_equal(bandwidth_take(&b, 200000, UINT64_MAX / 2, 1), 0); /* another limit */
}

static void age(void **state)
{
    struct rpo r;
    uint64_t us = 1;
    (void)state;
    rpo_init(&r);
    assert_false(rpo_age(&r, 5, &us));
    rpo_seen(&r, 10, 100);
    assert_false(rpo_age(&r, 200, &us)); /* 9 and before are of unknown age */
    rpo_stored(&r, 9);
    assert_true(rpo_age(&r, 200, &us));
    assert_int_equal(us, 0);
    rpo_seen(&r, 10, 300);
    rpo_seen(&r, 15, 400); /* 10 to 14, after 300 */
    rpo_seen(&r, 15, 500);
    rpo_seen(&r, 20, 600); /* 15 to 19, after 500 */
    assert_true(rpo_age(&r, 1000, &us));
    assert_int_equal(us, 700);
    rpo_stored(&r, 13);
    assert_true(rpo_age(&r, 1000, &us));
    assert_int_equal(us, 700);
    rpo_stored(&r, 14);
    assert_true(rpo_age(&r, 1000, &us));
    assert_int_equal(us, 500);
    rpo_stored(&r, 19);
    assert_true(rpo_age(&r, 1000, &us));
    assert_int_equal(us, 0);
    rpo_stored(&r, 12); /* a far side that lost some */
    assert_false(rpo_age(&r, 1000, &us));
}

/* However many looks there are, and stored by any steps: at least the true age. */
static void age_is_never_too_low(void **state)
{
    static uint64_t made[20001];
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct prng prng;
        struct rpo r;
        uint64_t now = 1000;
        uint64_t next = 1;
        uint64_t stored = 0;
        uint64_t us = 0;
        prng_init(&prng, seed);
        rpo_init(&r);
        rpo_seen(&r, 1, now);
        while (next < 20000) {
            now += 1 + prng_below(&prng, 1000);
            if (prng_below(&prng, 3) != 0) {
                made[next++] = now;
            } else {
                rpo_seen(&r, next, now);
            }
            if (prng_below(&prng, 100) == 0) {
                stored += prng_below(&prng, r.next - stored);
                rpo_stored(&r, stored);
            }
            if (rpo_age(&r, now, &us) && stored + 1 < r.next) {
                assert_true(us >= now - made[stored + 1]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hours),
        cmocka_unit_test(keeps_the_rate),
        cmocka_unit_test(odd_clocks),
        cmocka_unit_test(age),
        cmocka_unit_test(age_is_never_too_low),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
