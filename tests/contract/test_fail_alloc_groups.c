/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each): the alignment, groups
 * and their registration, and the objects of points. */
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/core/align.h"
#include "coordinator/intake/points.h"
#include "coordinator/intake/registry.h"
#include "coordinator/store/store.h"
#include "tests/contract/nth.h"
#include "tests/contract/nth_sql.h"
#include "tests/unit/hrl_make.h"

static struct intake_disk disks[3];
static struct definition definition;

/* ---- the alignment ---- */

#define ROUNDS 40U

static struct align *align;

/* All that can be nth_asked(). */
static void answers(uint8_t *to, size_t room, size_t *ret_size)
{
    size_t at = 0;
    for (unsigned r = 0; r < ROUNDS; r++) {
        struct id id = make_id(100 + r);
        const struct align_round *round = align_find(align, &id);
        to[at++] = round == NULL ? 9 : (uint8_t)round->answer;
        to[at++] = round == NULL ? 0 : (uint8_t)round->why;
        to[at++] = round == NULL ? 0 : (uint8_t)round->entry_count;
    }
    for (unsigned k = 0; k < 3; k++) {
        struct id id = make_id(k + 1);
        uint64_t lsn = 0;
        uint64_t incarnation = 0;
        to[at++] = (uint8_t)align_stream(align, &id, &lsn, &incarnation);
        to[at++] = (uint8_t)lsn;
        to[at++] = (uint8_t)incarnation;
    }
    to[at++] = (uint8_t)align_count(align);
    to[at++] = (uint8_t)align_dropped(align);
    assert_true(at <= room);
    *ret_size = at;
}

static unsigned long align_faults;

static void step(const struct record *record)
{
    for (long n = 0;; n++) {
        uint8_t before[256];
        uint8_t after[256];
        size_t size = 0;
        size_t now = 0;
        struct err err = {0};
        answers(before, sizeof before, &size);
        nth_arm(n);
        int rc = record != NULL ? align_feed(align, record, &err)
                                : align_define(align, &definition, &err);
        bool met = nth_met();
        assert_int_equal(met, rc != 0);
        if (rc == 0) {
            return;
        }
        align_faults++;
        nth_says(&err, "align", n);
        answers(after, sizeof after, &now);
        assert_int_equal(now, size);
        assert_memory_equal(after, before, size);
    }
}

static void the_alignment(void **state)
{
    struct id group = make_id(5);
    unsigned decided = 0;
    uint64_t lsn = 1;
    (void)state;
    nth_define(&definition, disks);
    definition.epoch.hash = make_hash(7);
    long before = nth_live();
    nth_arm(0);
    assert_null(align_new(&group, true, 16));
    (void)nth_met();
    align = align_new(&group, true, 16); /* so that rounds are dropped */
    assert_non_null(align);
    for (unsigned k = 0; k < 3; k++) {
        struct record r = make_attach(k + 1, lsn, 100, true);
        step(&r);
    }
    step(NULL);
    for (unsigned n = 0; n < ROUNDS; n++) {
        struct round_order order = make_order(100 + n, 3);
        struct round_mark marks[3];
        lsn++;
        for (unsigned k = 0; k < 3; k++) {
            struct record r = make_bookmark(k + 1, lsn, 100, &order, 7000 + k);
            marks[k] = (struct round_mark){
                .stream = r.stream, .incarnation = 100, .lsn = lsn, .nonce = r.bookmark.nonce};
            step(&r);
        }
        struct hash cut = round_cut_hash(&order, marks, 3);
        lsn++;
        for (unsigned k = 0; k < 3 && n % 4 != 3; k++) {
            struct record r =
                make_seal(k + 1, lsn, 100, &order.round, lsn - 1, ROUND_OUTCOME_HELD, &cut);
            step(&r);
        }
        const struct align_round *round;
        while ((round = align_next_decided(align)) != NULL) {
            decided += round->answer == ROUND_ANSWER_YES;
        }
    }
    assert_int_equal(decided, ROUNDS / 4 * 3);
    print_message("%lu faults in the alignment\n", align_faults);
    assert_true(align_faults > 30);
    align_free(align);
    assert_int_equal(nth_live(), before);
}

static struct intake_register registration = {.count = 3, .disks = disks};
static struct store *store;

static void store_shut(void)
{
    store_close(store);
    store = NULL;
}
/* ---- groups, and the objects of points ---- */

static struct catalog *catalog;
static struct registry *registry;
static json_t *group;

static int on_issued(void *context, const struct definition *d, struct err *err)
{
    (void)context;
    (void)d;
    (void)err;
    return 0;
}

static void registry_shut(void)
{
    registry_free(registry);
    catalog_close(catalog);
    registry = NULL;
    catalog = NULL;
    store_shut();
}

static void catalog_ready(void)
{
    char path[96];
    char text[TIDE_ERR_TEXT_MAX];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/catalog.db", nth_folder);
    assert_int_equal(catalog_open(path, &catalog, text, &err), 0);
}

static void registry_ready(void)
{
    struct err err = {0};
    registry_shut();
    nth_empty_folder();
    assert_int_equal(store_open(nth_folder, NULL, NULL, NULL, &store, &err), 0);
    catalog_ready();
    assert_int_equal(registry_open(store, catalog, on_issued, NULL, &registry, &err), 0);
}

static void applied_ready(void)
{
    struct err err = {0};
    registry_ready();
    assert_int_equal(registry_apply(registry, group, &err), 0);
}

static void registered_ready(void)
{
    struct err err = {0};
    applied_ready();
    if (registry_register(registry, "spiffe://lab/participant/web", &registration, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* The file of the group has all of its disks, or is not there. */
static void group_is_whole(bool registered)
{
    char path[96];
    uint8_t *text = NULL;
    size_t size = 0;
    long kept = nth_pause();
    snprintf(path, sizeof path, "%s/groups/shop.json", nth_folder);
    if (file_read(path, 1 << 20, &text, &size, NULL) == 0) {
        json_t *o = json_loadb((const char *)text, size, 0, NULL);
        const json_t *list =
            json_object_get(json_array_get(json_object_get(o, "members"), 0), "disks");
        assert_int_equal(json_array_size(list), 3);
        for (size_t k = 0; k < 3 && registered; k++) {
            assert_non_null(json_object_get(json_array_get(list, k), "stream"));
        }
        json_decref(o);
        free(text);
    }
    nth_resume(kept);
}

static long kept_live; /* by what stays in memory when it succeeded */

/* They change the registry, so what they keep is taken out of the count by closing it. */
static void each_change(const char *what, nth_call_fn *call, void (*prepare)(void))
{
    for (long n = 0;; n++) {
        struct err err = {0};
        prepare();
        nth_arm(n);
        int rc = call(&err);
        bool met = nth_met();
        if (rc != 0) {
            nth_says(&err, what, n);
        } else if (met) {
            fail_msg("%s %ld: met, and it returned 0", what, n);
        }
        err = (struct err){0};
        if (call(&err) != 0) {
            fail_msg("%s %ld: again: %s", what, n, err.text);
        }
        registry_shut();
        if (nth_live() != kept_live) {
            fail_msg("%s %ld: %ld allocations are not freed", what, n, nth_live() - kept_live);
        }
        if (!met) {
            assert_true(n > 10);
            return;
        }
    }
}

static int applies(struct err *err)
{
    int rc = registry_apply(registry, group, err);
    group_is_whole(false);
    return rc;
}

static int registers(struct err *err)
{
    int rc = registry_register(registry, "spiffe://lab/participant/web", &registration, err);
    group_is_whole(rc == 0);
    return rc;
}

/* Rows that the registry fills in; read while the catalog is shut. */
static int catalog_rows(void)
{
    static const char text[] = "SELECT (SELECT count(*) FROM groups) + (SELECT count(*) FROM "
                               "definitions) + (SELECT count(*) FROM streams)";
    char path[96];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    long kept = nth_pause();
    snprintf(path, sizeof path, "%s/catalog.db", nth_folder);
    catalog_close(catalog);
    catalog = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int rows = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    catalog_ready();
    nth_resume(kept);
    return rows;
}

/* With a catalog that was lost. */
static void catalog_anew(void)
{
    catalog_close(catalog);
    catalog = NULL;
    nth_sql_remove();
    catalog_ready();
}

/* All of it is in the catalog, or nothing. */
static int registry_opens(struct err *err)
{
    struct registry *got = NULL;
    int before = catalog_rows();
    if (registry_open(store, catalog, on_issued, NULL, &got, err) != 0) {
        assert_null(got);
        assert_int_equal(catalog_rows(), before);
        return -1;
    }
    assert_int_equal(catalog_rows(), 5);
    assert_int_equal(registry_count(got), 1);
    registry_free(got);
    return 0;
}

static int lists(struct err *err)
{
    json_t *list = registry_list(registry);
    if (list == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no list");
    }
    const json_t *members = json_object_get(json_array_get(list, 0), "members");
    assert_int_equal(json_array_size(json_object_get(json_array_get(members, 0), "disks")), 3);
    assert_true(json_is_integer(json_object_get(json_array_get(list, 0), "epoch")));
    json_decref(list);
    return 0;
}

static int gives_definitions(struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct hash digest;
    if (registry_definitions(registry, "spiffe://lab/participant/web", &digest, &bytes, &size,
                             err) != 0) {
        assert_null(bytes);
        return -1;
    }
    free(bytes);
    return 0;
}

static void groups(void **state)
{
    (void)state;
    nth_define(&definition, disks);
    group = json_pack("{s:s, s:i, s:i, s:s, s:[{s:s, s:s, s:s, s:[s, s, s]}]}", "group", "shop",
                      "interval_ms", 1000, "hold_us_max", 50000, "missing", "strict", "members",
                      "name", "web", "participant", "spiffe://lab/participant/web", "address",
                      "127.0.0.11:20004", "disks", "d0", "d1", "d2");
    assert_non_null(group);
    kept_live = nth_live();
    each_change("apply", applies, registry_ready);
    each_change("register", registers, applied_ready);
    registered_ready();
    nth_each("registry: open", registry_opens, NULL, 50);
    nth_each("registry: open, and fill", registry_opens, catalog_anew, 50);
    nth_each("registry: list", lists, NULL, 20);
    nth_each("registry: definitions", gives_definitions, NULL, 1);
    registry_shut();
    json_decref(group);
}

static uint8_t encoded[1 << 16]; /* what was made first, to compare with */
static size_t encoded_size;
static struct align_round round_of_three;

static int makes_object(struct err *err)
{
    uint64_t wall = 0;
    char *text = points_object(&round_of_three, &definition, &wall);
    if (text == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no object");
    }
    assert_true(strlen(text) < sizeof encoded);
    if (encoded_size == 0) {
        encoded_size = strlen(text);
        memcpy(encoded, text, encoded_size);
    }
    assert_int_equal(strlen(text), encoded_size);
    assert_memory_equal(text, encoded, encoded_size);
    free(text);
    return 0;
}

/* A point's object names all members and disks, or is none. */
static void the_object_of_a_point(void **state)
{
    struct align_entry entries[3] = {0};
    (void)state;
    nth_define(&definition, disks);
    for (unsigned k = 0; k < 3; k++) {
        entries[k].mark.stream = make_id(k + 1);
        entries[k].mark.lsn = 5;
        entries[k].seal_lsn = 6;
        entries[k].outcome = ROUND_OUTCOME_HELD;
    }
    round_of_three = (struct align_round){.order = make_order(1, 3),
                                          .answer = ROUND_ANSWER_YES,
                                          .entry_count = 3,
                                          .entries = entries};
    encoded_size = 0;
    nth_each("point", makes_object, NULL, 50);
    assert_non_null(strstr((const char *)encoded, "\"d2\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_alignment),
        cmocka_unit_test(groups),
        cmocka_unit_test(the_object_of_a_point),
    };
    return cmocka_run_group_tests(tests, nth_setup, nth_teardown);
}
