/* SPDX-License-Identifier: Apache-2.0 */
/* catalog: points of single VMs beside those of the group, and a file of version 1. */
#include "coordinator/catalog/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

static char folder[] = "/tmp/tide-catalog-XXXXXX";
static char path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/tide-catalog-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/catalog.db", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static struct catalog *open_it(const char *note)
{
    struct catalog *c = NULL;
    struct err err = {0};
    char said[TIDE_ERR_TEXT_MAX];
    if (catalog_open(path, &c, said, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(said, note);
    return c;
}

/* The ids of the points, or failed rounds, that are listed, each with a space behind it. */
static void lists(struct catalog *c, bool rounds, struct catalog_query query, const char *expected)
{
    json_t *list = NULL;
    struct err err = {0};
    char ids[256] = "";
    size_t i;
    const json_t *o;
    struct catalog_place next;
    int rc = rounds ? catalog_rounds(c, &query, &list, &next, &err)
                    : catalog_points(c, &query, &list, &next, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    json_array_foreach(list, i, o)
    {
        strncat(ids, json_string_value(json_object_get(o, "id")), sizeof ids - strlen(ids) - 1);
        strncat(ids, " ", sizeof ids - strlen(ids) - 1);
    }
    json_decref(list);
    assert_string_equal(ids, expected);
}

static void point(struct catalog *c, const char *id, uint64_t wall_ns, const char *vm)
{
    char json[64];
    struct err err = {0};
    snprintf(json, sizeof json, "{\"id\":\"%s\"}", id);
    struct catalog_point row = {.point = id,
                                .group = "shop",
                                .label = vm == NULL ? "full" : "single-vm",
                                .wall_ns = wall_ns,
                                .json = json,
                                .vm = vm};
    assert_int_equal(catalog_put_point(c, &row, &err), 0);
    struct catalog_round round = {
        .round = id, .group = "shop", .wall_ns = wall_ns, .json = json, .vm = vm};
    assert_int_equal(catalog_put_round(c, &round, &err), 0);
}

static void single_vms_apart(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t count = 0;
    struct catalog *c = open_it("there was none");
    point(c, "a1", 1, NULL);
    point(c, "b2", 2, "web");
    point(c, "c3", 3, "db");
    point(c, "d4", 4, "web");
    for (int rounds = 0; rounds < 2; rounds++) {
        lists(c, rounds != 0, (struct catalog_query){.group = "shop"}, "a1 ");
        lists(c, rounds != 0, (struct catalog_query){.limit = 1},
              "a1 "); /* not the newest of all */
        lists(c, rounds != 0, (struct catalog_query){.single_vm = true}, "b2 c3 d4 ");
        lists(c, rounds != 0, (struct catalog_query){.single_vm = true, .vm = "web"}, "b2 d4 ");
        lists(c, rounds != 0, (struct catalog_query){.single_vm = true, .group = "other"}, "");
        lists(c, rounds != 0, (struct catalog_query){.vm = "web"}, "a1 "); /* no single VMs asked */
    }
    assert_int_equal(catalog_single_vm_count(c, "shop", &count, &err), 0);
    assert_int_equal(count, 3);
    assert_int_equal(catalog_single_vm_count(c, "other", &count, &err), 0);
    assert_int_equal(count, 0);
    json_t *one = NULL;
    assert_int_equal(catalog_point(c, "c3", &one, &err), 0); /* by id: of either kind */
    json_decref(one);
    catalog_close(c);
}

/* A list that does not fit into one answer comes in pages, each older than the one before, two of
 * one time among them; nothing twice, nothing left out, and no page is empty. */
static void pages(void **state)
{
    (void)state;
    static char json[TIDE_CATALOG_PAGE + 1024];
    static const char *const ids[] = {"a1", "a2", "b1", "b2", "c1"};
    struct err err = {0};
    struct catalog *c = open_it("there was none");
    for (size_t k = 0; k < 5; k++) { /* two of them fit; "b2" alone is too large */
        size_t size = k == 3 ? TIDE_CATALOG_PAGE + 100 : TIDE_CATALOG_PAGE / 2 - 100;
        int n = snprintf(json, sizeof json, "{\"id\":\"%s\",\"x\":\"", ids[k]);
        memset(json + n, 'x', size - (size_t)n);
        snprintf(json + size, sizeof json - size, "\"}");
        struct catalog_point row = {
            .point = ids[k], .group = "shop", .label = "full", .wall_ns = 1 + k / 2, .json = json};
        assert_int_equal(catalog_put_point(c, &row, &err), 0);
    }
    static const char *const expected[] = {"c1 ", "b2 ", "a2 b1 ", "a1 "};
    struct catalog_query query = {.group = "shop"};
    for (size_t k = 0; k < 4; k++) {
        json_t *list = NULL;
        lists(c, false, query, expected[k]);
        assert_int_equal(catalog_points(c, &query, &list, &query.before, &err), 0);
        json_decref(list);
        assert_int_equal(query.before.id[0] == '\0', k == 3);
    }
    query = (struct catalog_query){.group = "shop", .limit = 1};
    json_t *list = NULL;
    assert_int_equal(catalog_points(c, &query, &list, &query.before, &err), 0);
    json_decref(list);
    assert_string_equal(query.before.id, ""); /* the limit is reached */
    catalog_close(c);
}

/* What version 1 made, by its own words. */
static void version_1_is_kept(void **state)
{
    (void)state;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "CREATE TABLE groups(name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE definitions(grp TEXT, epoch INTEGER, hash TEXT NOT NULL,"
            " PRIMARY KEY(grp, epoch)) WITHOUT ROWID;"
            "CREATE TABLE streams(stream TEXT PRIMARY KEY, grp TEXT NOT NULL, member TEXT"
            " NOT NULL, disk TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE points(point TEXT PRIMARY KEY, grp TEXT NOT NULL, label TEXT NOT"
            " NULL, wall_ns INTEGER NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX points_time ON points(grp, wall_ns);"
            "CREATE TABLE rounds(round TEXT PRIMARY KEY, grp TEXT NOT NULL, wall_ns INTEGER"
            " NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX rounds_time ON rounds(grp, wall_ns);"
            "INSERT INTO points VALUES('a1','shop','full',1,'{\"id\":\"a1\"}');"
            "INSERT INTO rounds VALUES('e5','shop',1,'{\"id\":\"e5\"}');"
            "PRAGMA user_version=1;",
            NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    for (int again = 0; again < 2; again++) {
        struct catalog *c = open_it(""); /* not to be filled anew */
        lists(c, false, (struct catalog_query){.limit = 0}, "a1 ");
        lists(c, true, (struct catalog_query){.limit = 0}, "e5 ");
        lists(c, false, (struct catalog_query){.single_vm = true}, again == 0 ? "" : "b2 ");
        if (again == 0) {
            point(c, "b2", 2, "web");
        }
        catalog_close(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(single_vms_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(pages, setup, teardown),
        cmocka_unit_test_setup_teardown(version_1_is_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
