/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/cli/disk_find: what "VM DISK" means, and what is said where it means nothing. */
#include "coordinator/cli/disk_find.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *status;

static void add(json_t *disks, const char *group, const char *member, const char *disk)
{
    json_array_append_new(
        disks, json_pack("{s:s, s:s, s:s}", "group", group, "member", member, "disk", disk));
}

static int setup(void **state)
{
    (void)state;
    json_t *disks = json_array();
    add(disks, "shop", "db", "data");
    add(disks, "shop", "db", "log");
    add(disks, "shop", "web", "data");
    add(disks, "bank", "web", "data");
    status = json_pack("{s:o}", "disks", disks);
    return status == NULL;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(status);
    return 0;
}

static void finds(const char *vm, const char *disk, size_t count)
{
    json_t *found = NULL;
    struct err err = {0};
    if (disk_find(status, vm, disk, &found, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(json_array_size(found), count);
    json_decref(found);
}

static void fails(const char *vm, const char *disk, enum err_code code, const char *text)
{
    json_t *found = NULL;
    struct err err = {0};
    assert_int_equal(disk_find(status, vm, disk, &found, &err), -1);
    assert_null(found);
    assert_int_equal(err.code, code);
    if (strstr(err.text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    }
}

static void names_find_disks(void **state)
{
    (void)state;
    finds(NULL, NULL, 4);
    finds("db", NULL, 2);
    finds("db", "log", 1);
    finds("shop/web", NULL, 1);
    finds("bank/web", "data", 1);
}

static void an_ambiguous_name_is_refused(void **state)
{
    (void)state;
    fails("web", NULL, TIDE_ERR_USAGE, "give shop/web or bank/web");
    fails("web", "data", TIDE_ERR_USAGE, "several groups");
}

static void what_is_not_there_is_named(void **state)
{
    (void)state;
    fails("db", "tmp", TIDE_ERR_NOT_FOUND, "no disk \"db tmp\"");
    fails("app", NULL, TIDE_ERR_NOT_FOUND, "shop/db data, shop/db log");
    fails("bank/db", "data", TIDE_ERR_NOT_FOUND, "bank/db");
}

static void what_is_no_name_is_refused(void **state)
{
    (void)state;
    fails("", NULL, TIDE_ERR_USAGE, "GROUP/MEMBER");
    fails("/db", NULL, TIDE_ERR_USAGE, "GROUP/MEMBER");
    fails("shop/", NULL, TIDE_ERR_USAGE, "GROUP/MEMBER");
    fails("shop/db/data", NULL, TIDE_ERR_USAGE, "shop/db/data");
    fails("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/db", NULL,
          TIDE_ERR_USAGE, "GROUP/MEMBER");
    fails("db", "DATA", TIDE_ERR_USAGE, "DATA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_find_disks),
        cmocka_unit_test(an_ambiguous_name_is_refused),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(what_is_no_name_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
