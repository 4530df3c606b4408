/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each), SQLite's too, in the
 * catalog: a good one is never set aside, and a part of it never passes for the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/catalog/catalog.h"
#include "tests/contract/nth.h"
#include "tests/contract/nth_sql.h"

static void fresh(void)
{
    nth_sql_close();
    nth_sql_remove();
}

/* As nth_each(), where the call may succeed without some of its memory. */
static void each_sql(const char *what, nth_call_fn *call, void (*prepare)(void),
                     void (*after)(void), long least)
{
    long n = 0;
    for (bool met = true; met; n++) {
        struct err err = {0};
        assert_true(n < 100000);
        prepare();
        nth_arm(n);
        int rc = call(&err);
        met = nth_met();
        if (rc != 0) {
            assert_true(met);
            nth_says(&err, what, n);
        }
        assert_false(nth_sql_was_set_aside());
        if (rc != 0) {
            err = (struct err){0};
            if (call(&err) != 0) {
                fail_msg("%s %ld: again: %s", what, n, err.text);
            }
        }
        after();
    }
    assert_true(n > least);
}

static void was_made(void)
{
    struct err err = {0};
    assert_string_not_equal(nth_sql_note, ""); /* however often it was tried: it is to be filled */
    assert_int_equal(catalog_filled(nth_sql_catalog, &err), 0);
    nth_sql_close();
    assert_int_equal(nth_sql_open(&err), 0);
    assert_string_equal(nth_sql_note, "");
    nth_sql_close();
}

#define POINT(k) "{\"point\":\"" k "\"}"

static const struct catalog_point one = {"0a01", "shop", "full", 5, POINT("0a01"), NULL};
static const struct catalog_point two = {"0b02", "shop", "full", 6, POINT("0b02"), NULL};

static int fills(struct err *err)
{
    struct catalog_round round = {"0c03", "shop", 7, "{\"round\":\"0c03\"}", NULL};
    if (catalog_begin(nth_sql_catalog, err) < 0) {
        return -1;
    }
    if (catalog_put_group(nth_sql_catalog, "shop", "{}", err) < 0 ||
        catalog_put_definition(nth_sql_catalog, "shop", 1, "ab", err) < 0 ||
        catalog_put_stream(nth_sql_catalog, "0102", "shop", "web", "data", 512, err) < 0 ||
        catalog_put_point(nth_sql_catalog, &one, err) < 0 ||
        catalog_put_point(nth_sql_catalog, &two, err) < 0 ||
        catalog_put_round(nth_sql_catalog, &round, err) < 0 ||
        catalog_filled(nth_sql_catalog, err) < 0) {
        catalog_rollback(nth_sql_catalog);
        return -1;
    }
    return catalog_commit(nth_sql_catalog, err);
}

static void empty_catalog(void)
{
    struct err err = {0};
    fresh();
    assert_int_equal(nth_sql_open(&err), 0);
}

static const char full[] = "[" POINT("0a01") "," POINT("0b02") "] [{\"round\":\"0c03\"}]";

static void is_full(void)
{
    char now[256];
    nth_sql_contents(now, sizeof now);
    assert_string_equal(now, full);
}

static int fills_or_nothing(struct err *err)
{
    char now[256];
    int rc = fills(err);
    long kept = nth_pause();
    nth_sql_contents(now, sizeof now);
    assert_string_equal(now, rc == 0 ? full : "[] []");
    nth_resume(kept);
    return rc;
}

static int opens_full(struct err *err)
{
    if (nth_sql_open(err) != 0) {
        return -1;
    }
    assert_string_equal(nth_sql_note, "");
    return 0;
}

static void full_and_shut(void)
{
    is_full();
    nth_sql_close();
}

static int puts_one(struct err *err)
{
    return catalog_put_point(nth_sql_catalog, &one, err);
}

static void no_preparation(void)
{
}

static int asks(struct err *err)
{
    json_t *o = NULL;
    const struct catalog_query newest = {.group = "shop", .limit = 1};
    struct catalog_place next;
    if (catalog_points(nth_sql_catalog, &newest, &o, &next, err) != 0) {
        assert_null(o);
        return -1;
    }
    assert_int_equal(json_array_size(o), 1); /* the newest */
    assert_string_equal(json_string_value(json_object_get(json_array_get(o, 0), "point")), "0b02");
    json_decref(o);
    o = NULL;
    if (catalog_point(nth_sql_catalog, "0A", &o, err) != 0) {
        assert_null(o);
        return -1;
    }
    assert_string_equal(json_string_value(json_object_get(o, "point")), "0a01");
    json_decref(o);
    return 0;
}

static void the_catalog(void **state)
{
    struct err err = {0};
    (void)state;
    each_sql("catalog: make", nth_sql_open, fresh, was_made, 50);
    each_sql("catalog: fill", fills_or_nothing, empty_catalog, is_full, 50);
    nth_sql_close();
    each_sql("catalog: open", opens_full, no_preparation, full_and_shut, 50);
    assert_int_equal(nth_sql_open(&err), 0);
    each_sql("catalog: put", puts_one, no_preparation, is_full, 10);
    long before = nth_live();
    each_sql("catalog: ask", asks, no_preparation, is_full, 20);
    assert_in_range(nth_live(), 0, before + 100); /* SQLite's own cache is bounded */
    fresh();
}

static int setup(void **state)
{
    return nth_sql_setup() != 0 ? -1 : nth_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_catalog)};
    return cmocka_run_group_tests(tests, setup, nth_teardown);
}
