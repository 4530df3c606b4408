/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/nth_sql.h"

#include <malloc.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/jsontext.h"
#include "tests/contract/nth.h"

struct catalog *nth_sql_catalog;
char nth_sql_note[TIDE_ERR_TEXT_MAX];

static void *sql_malloc(int size)
{
    return malloc((size_t)size);
}

static void *sql_realloc(void *at, int size)
{
    return realloc(at, (size_t)size);
}

static int sql_size(void *at)
{
    return (int)malloc_usable_size(at);
}

static int sql_round(int size)
{
    return (size + 7) & ~7;
}

static int sql_init(void *arg)
{
    (void)arg;
    return SQLITE_OK;
}

static void sql_shutdown(void *arg)
{
    (void)arg;
}

static const struct sqlite3_mem_methods sql_methods = {sql_malloc, free,     sql_realloc,  sql_size,
                                                       sql_round,  sql_init, sql_shutdown, NULL};

int nth_sql_setup(void)
{
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &sql_methods) == SQLITE_OK &&
                   sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK
               ? 0
               : -1;
}

int nth_sql_open(struct err *err)
{
    char path[96];
    snprintf(path, sizeof path, "%s/catalog.db", nth_folder);
    return catalog_open(path, &nth_sql_catalog, nth_sql_note, err);
}

void nth_sql_close(void)
{
    catalog_close(nth_sql_catalog);
    nth_sql_catalog = NULL;
}

void nth_sql_remove(void)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char path[96];
    for (size_t k = 0; k < sizeof tails / sizeof tails[0]; k++) {
        snprintf(path, sizeof path, "%s/catalog.db%s", nth_folder, tails[k]);
        (void)unlink(path);
    }
}

bool nth_sql_was_set_aside(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/catalog.db.bad", nth_folder);
    return access(path, F_OK) == 0;
}

static char *text_of(json_t *o)
{
    char *text = jsontext_write(o, JSON_COMPACT | JSON_SORT_KEYS);
    assert_non_null(text);
    json_decref(o);
    return text;
}

void nth_sql_contents(char *to, size_t room)
{
    json_t *points = NULL;
    json_t *rounds = NULL;
    struct err err = {0};
    const struct catalog_query all = {.group = NULL};
    struct catalog_place next;
    if (catalog_points(nth_sql_catalog, &all, &points, &next, &err) != 0 ||
        catalog_rounds(nth_sql_catalog, &all, &rounds, &next, &err) != 0) {
        fail_msg("%s", err.text);
    }
    char *a = text_of(points);
    char *b = text_of(rounds);
    assert_true(strlen(a) + strlen(b) + 2 < room);
    snprintf(to, room, "%s %s", a, b);
    free(a);
    free(b);
}
