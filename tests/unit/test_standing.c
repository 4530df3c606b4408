/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/standing: one word for each way a disk can be, the worse one where two fit. */
#include "participant/core/standing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/hrl/record.h"

static void word(bool attached, bool whole, bool logging, enum tapctl_copy copy, bool comparing,
                 const char *expected)
{
    struct tapctl_state state = {.copy = copy, .comparing = comparing};
    assert_string_equal(standing_name(standing_of(attached, whole, logging, &state)), expected);
}

static void each_word_has_its_case(void **state)
{
    (void)state;
    word(true, true, true, TAPCTL_COPY_NONE, false, "whole");
    word(true, false, true, TAPCTL_COPY_RUNNING, false, "copying");
    word(true, false, true, TAPCTL_COPY_RUNNING, true, "comparing");
    word(true, false, true, TAPCTL_COPY_COMPARING, true, "comparing");
    word(true, false, true, TAPCTL_COPY_WAITING, false, "waiting");
    word(true, false, true, TAPCTL_COPY_WAITING, true, "waiting");
    word(true, false, true, TAPCTL_COPY_OFF, false, "not-whole");
    word(true, false, true, TAPCTL_COPY_FAILING, false, "not-whole");
    word(true, false, false, TAPCTL_COPY_NONE, false, "not-logging");
    word(false, false, false, TAPCTL_COPY_NONE, false, "no-tap");
}

static void nothing_is_overstated(void **state)
{
    (void)state;
    word(false, true, true, TAPCTL_COPY_NONE, false, "no-tap"); /* whole when last seen */
    word(true, true, false, TAPCTL_COPY_NONE, false, "not-logging");
    word(true, false, true, TAPCTL_COPY_NONE, false, "not-whole"); /* no STATE heard yet */
    word(true, false, true, (enum tapctl_copy)99, false, "not-whole");
}

static void reasons(void **state)
{
    (void)state;
    struct tapctl_state at = {.gap_reason = RECORD_GAP_OVERFLOW};
    assert_string_equal(standing_reason(STANDING_COPYING, &at, "x"), "overflow");
    assert_string_equal(standing_reason(STANDING_WHOLE, &at, "x"), "");
    assert_string_equal(standing_reason(STANDING_NO_TAP, &at, "cannot connect"), "cannot connect");
    at.gap_reason = 0;
    assert_string_equal(standing_reason(STANDING_NOT_WHOLE, &at, "x"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_word_has_its_case),
        cmocka_unit_test(nothing_is_overstated),
        cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
