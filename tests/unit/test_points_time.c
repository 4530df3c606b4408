/* SPDX-License-Identifier: Apache-2.0 */
/* When a round was, where its members' clocks disagree. */
#include "coordinator/intake/points.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define ENTRIES_MAX 8

static uint64_t when(const uint64_t *clocks, size_t count)
{
    struct align_entry entries[ENTRIES_MAX] = {0};
    struct align_round round = {.order = {.kind = ROUND_KIND_CRASH, .scope = ROUND_SCOPE_GROUP},
                                .entry_count = count,
                                .entries = entries};
    uint64_t wall_ns = 1;
    assert_true(count <= ENTRIES_MAX);
    for (size_t k = 0; k < count; k++) {
        entries[k].wall_ns = clocks[k];
    }
    char *text = points_failed(&round, NULL, "shop", &wall_ns);
    assert_non_null(text);
    free(text);
    return wall_ns;
}

static void one_wrong_clock_moves_nothing(void **state)
{
    (void)state;
    assert_int_equal(when((const uint64_t[]){100, 101, 102}, 3), 101);
    assert_int_equal(when((const uint64_t[]){102, 1, 101}, 3), 101);
    assert_int_equal(when((const uint64_t[]){102, 9000, 101}, 3), 102);
    assert_int_equal(when((const uint64_t[]){100, 102, 1, 101}, 4), 100);
    assert_int_equal(when((const uint64_t[]){100, 102, 9000, 101}, 4), 101);
}

static void few_clocks_or_none(void **state)
{
    (void)state;
    assert_int_equal(when(NULL, 0), 0);
    assert_int_equal(when((const uint64_t[]){0, 0}, 2), 0);
    assert_int_equal(when((const uint64_t[]){7}, 1), 7);
    assert_int_equal(when((const uint64_t[]){9, 7}, 2), 7);
    assert_int_equal(when((const uint64_t[]){0, 7, 0}, 3), 7); /* one that says nothing */
    assert_int_equal(when((const uint64_t[]){7, 7, 7, 7}, 4), 7);
    assert_true(when((const uint64_t[]){UINT64_MAX}, 1) == INT64_MAX); /* JSON's largest */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_wrong_clock_moves_nothing),
        cmocka_unit_test(few_clocks_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
