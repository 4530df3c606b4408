/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/restream: another stream at once, then ever more seldom. */
#include "participant/core/restream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void pauses_grow_and_end_with_calm(void **state)
{
    struct restream r = {0};
    uint64_t now = 5;
    uint64_t pause = TIDE_RESTREAM_MIN_US;
    (void)state;
    assert_true(restream_due(&r, now));
    for (unsigned k = 0; k < 10; k++) {
        assert_false(restream_due(&r, now + pause - 1));
        now += pause;
        assert_true(restream_due(&r, now));
        pause = pause * 2 < TIDE_RESTREAM_MAX_US ? pause * 2 : TIDE_RESTREAM_MAX_US;
    }
    assert_true(pause == TIDE_RESTREAM_MAX_US);
    now += TIDE_RESTREAM_CALM_US;
    assert_true(restream_due(&r, now));
    assert_false(restream_due(&r, now + TIDE_RESTREAM_MIN_US - 1));
    assert_true(restream_due(&r, now + TIDE_RESTREAM_MIN_US));
}

static void a_refusal_costs_nothing(void **state)
{
    struct restream r = {0};
    uint64_t now = 0;
    (void)state;
    for (unsigned k = 0; k < 5; k++) {
        assert_true(restream_due(&r, now));
        restream_refused(&r);
        assert_false(restream_due(&r, now + 1));
        now += TIDE_RESTREAM_MIN_US;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_grow_and_end_with_calm),
        cmocka_unit_test(a_refusal_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
