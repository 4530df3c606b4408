/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/catalog/catalog.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/io/jsontext.h"

struct catalog {
    sqlite3 *db;
    bool unfilled;        /* APPLICATION_UNFILLED is in the file */
    pthread_mutex_t lock; /* recursive: a transaction holds it from begin to commit */
};

/* The file's application_id from its making until it was filled once. */
#define APPLICATION_UNFILLED "1"

static const char schema[] =
    "BEGIN;"
    "CREATE TABLE groups(name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE definitions(grp TEXT, epoch INTEGER, hash TEXT NOT NULL,"
    " PRIMARY KEY(grp, epoch)) WITHOUT ROWID;"
    "CREATE TABLE streams(stream TEXT PRIMARY KEY, grp TEXT NOT NULL, member TEXT NOT NULL,"
    " disk TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE points(point TEXT PRIMARY KEY, grp TEXT NOT NULL, label TEXT NOT NULL,"
    " wall_ns INTEGER NOT NULL, json TEXT NOT NULL, vm TEXT NOT NULL DEFAULT '') WITHOUT ROWID;"
    "CREATE INDEX points_time ON points(grp, wall_ns);"
    "CREATE TABLE rounds(round TEXT PRIMARY KEY, grp TEXT NOT NULL, wall_ns INTEGER NOT NULL,"
    " json TEXT NOT NULL, vm TEXT NOT NULL DEFAULT '') WITHOUT ROWID;"
    "CREATE INDEX rounds_time ON rounds(grp, wall_ns);"
    "PRAGMA application_id=" APPLICATION_UNFILLED ";"
    "PRAGMA user_version=2;"
    "COMMIT;";

/* Version 1 had points of groups alone. */
static const char from_version_1[] = "BEGIN;"
                                     "ALTER TABLE points ADD COLUMN vm TEXT NOT NULL DEFAULT '';"
                                     "ALTER TABLE rounds ADD COLUMN vm TEXT NOT NULL DEFAULT '';"
                                     "PRAGMA user_version=2;"
                                     "COMMIT;";

static int fail(struct catalog *c, const char *doing, struct err *err)
{
    int code = sqlite3_errcode(c->db);
    enum err_code as = TIDE_ERR_IO;
    if (code == SQLITE_FULL) {
        as = TIDE_ERR_FULL;
    } else if (code == SQLITE_NOMEM || sqlite3_extended_errcode(c->db) == SQLITE_IOERR_NOMEM) {
        as = TIDE_ERR_LIMIT;
    } else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
        as = TIDE_ERR_CORRUPT;
    }
    return err_set(err, as, "catalog: %s: %s", doing, sqlite3_errmsg(c->db));
}

static int run(struct catalog *c, const char *sql, struct err *err)
{
    if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return fail(c, sql, err);
    }
    return 0;
}

static int no_memory(const char *doing, struct err *err)
{
    return err_set(err, TIDE_ERR_LIMIT, "catalog: %s: out of memory", doing);
}

/* First column of the first row of a pragma, as text. */
static int pragma(struct catalog *c, const char *sql, char *ret, size_t size, struct err *err)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW) {
        fail(c, sql, err);
        sqlite3_finalize(s);
        return -1;
    }
    const unsigned char *text = sqlite3_column_text(s, 0);
    int rc = text == NULL ? no_memory(sql, err) : 0; /* none of these gives NULL */
    if (rc == 0) {
        snprintf(ret, size, "%s", (const char *)text);
    }
    sqlite3_finalize(s);
    return rc;
}

/* Opens and checks; any error means that the file cannot be used. */
static int try_open(struct catalog *c, const char *path, struct err *err)
{
    char text[256];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK) {
        return fail(c, "open", err);
    }
    sqlite3_busy_timeout(c->db, 1000);
    if (pragma(c, "PRAGMA locking_mode=EXCLUSIVE", text, sizeof(text), err) < 0 ||
        pragma(c, "PRAGMA journal_mode=WAL", text, sizeof(text), err) < 0 ||
        run(c, "PRAGMA synchronous=FULL", err) < 0 ||
        pragma(c, "PRAGMA quick_check", text, sizeof(text), err) < 0) {
        return -1;
    }
    if (strcmp(text, "ok") != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "catalog: quick_check: %s", text);
    }
    if (pragma(c, "PRAGMA user_version", text, sizeof(text), err) < 0) {
        return -1;
    }
    if (strcmp(text, "0") == 0 && run(c, schema, err) < 0) {
        return -1;
    }
    if (strcmp(text, "1") == 0 && run(c, from_version_1, err) < 0) {
        (void)run(c, "ROLLBACK", NULL); /* where SQLite has not done so itself */
        return -1;
    }
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0 && strcmp(text, "2") != 0) {
        return err_set(err, TIDE_ERR_VERSION, "catalog: version %s; this build knows %d", text,
                       TIDE_CATALOG_VERSION);
    }
    if (pragma(c, "PRAGMA application_id", text, sizeof(text), err) < 0) {
        return -1;
    }
    c->unfilled = strcmp(text, APPLICATION_UNFILLED) == 0;
    return 0;
}

static void set_aside(const char *path)
{
    char from[PATH_MAX];
    char to[PATH_MAX + 8];
    static const char *const tails[] = {"", "-wal", "-shm"};
    snprintf(to, sizeof(to), "%s.bad", path);
    if (rename(path, to) < 0) {
        unlink(path);
    }
    for (size_t k = 1; k < sizeof(tails) / sizeof(tails[0]); k++) {
        snprintf(from, sizeof(from), "%s%s", path, tails[k]);
        unlink(from);
    }
}

int catalog_open(const char *path, struct catalog **ret, char ret_note[TIDE_ERR_TEXT_MAX],
                 struct err *err)
{
    struct catalog *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to open the catalog");
    }
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&c->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    bool fresh = access(path, F_OK) < 0 && errno == ENOENT;
    struct err e = {0};
    snprintf(ret_note, TIDE_ERR_TEXT_MAX, "%s", fresh ? "there was none" : "");
    int rc = try_open(c, path, &e);
    /* A wrong file is made new; a full disk or a folder that is not there is not the file's fault.
     */
    if (rc < 0 && !fresh && e.code != TIDE_ERR_FULL && e.code != TIDE_ERR_LIMIT &&
        strstr(e.text, "locked") == NULL) {
        snprintf(ret_note, TIDE_ERR_TEXT_MAX, "%s", e.text);
        sqlite3_close(c->db);
        c->db = NULL;
        set_aside(path);
        rc = try_open(c, path, &e);
    }
    if (rc < 0) {
        err_set(err, e.code, "%s", e.text);
        catalog_close(c);
        return err_wrap(err, "'%s'", path);
    }
    if (c->unfilled && ret_note[0] == '\0') {
        snprintf(ret_note, TIDE_ERR_TEXT_MAX, "it was not filled to the end");
    }
    *ret = c;
    return 0;
}

void catalog_close(struct catalog *catalog)
{
    if (catalog == NULL) {
        return;
    }
    sqlite3_close(catalog->db);
    pthread_mutex_destroy(&catalog->lock);
    free(catalog);
}

int catalog_begin(struct catalog *catalog, struct err *err)
{
    pthread_mutex_lock(&catalog->lock);
    if (run(catalog, "BEGIN IMMEDIATE", err) < 0) {
        pthread_mutex_unlock(&catalog->lock);
        return -1;
    }
    return 0;
}

int catalog_commit(struct catalog *catalog, struct err *err)
{
    int rc = run(catalog, "COMMIT", err);
    if (rc < 0) {
        catalog_rollback(catalog);
    } else {
        pthread_mutex_unlock(&catalog->lock);
    }
    return rc;
}

void catalog_rollback(struct catalog *catalog)
{
    if (sqlite3_get_autocommit(catalog->db) == 0) { /* SQLite has not done so itself */
        (void)run(catalog, "ROLLBACK", NULL);
    }
    pthread_mutex_unlock(&catalog->lock);
}

int catalog_filled(struct catalog *catalog, struct err *err)
{
    pthread_mutex_lock(&catalog->lock);
    int rc = catalog->unfilled ? run(catalog, "PRAGMA application_id=0", err) : 0;
    pthread_mutex_unlock(&catalog->lock);
    return rc;
}

/* ---- putting ---- */

/* Binds by format: 's' const char *, 'n' uint64_t. Runs to the end. */
static int put(struct catalog *c, struct err *err, const char *sql, const char *format, ...)
{
    va_list args;
    sqlite3_stmt *s = NULL;
    pthread_mutex_lock(&c->lock);
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL);
    va_start(args, format);
    for (int k = 0; rc == SQLITE_OK && format[k] != '\0'; k++) {
        if (format[k] == 's') {
            rc = sqlite3_bind_text(s, k + 1, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
        } else {
            rc = sqlite3_bind_int64(s, k + 1, (sqlite3_int64)va_arg(args, uint64_t));
        }
    }
    va_end(args);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(s);
    }
    int result = rc == SQLITE_DONE ? 0 : fail(c, "write", err);
    sqlite3_finalize(s);
    pthread_mutex_unlock(&c->lock);
    return result;
}

int catalog_put_group(struct catalog *catalog, const char *group, const char *json, struct err *err)
{
    return put(catalog, err, "INSERT OR REPLACE INTO groups VALUES(?,?)", "ss", group, json);
}

int catalog_put_definition(struct catalog *catalog, const char *group, uint64_t epoch,
                           const char *hash, struct err *err)
{
    return put(catalog, err, "INSERT OR REPLACE INTO definitions VALUES(?,?,?)", "sns", group,
               epoch, hash);
}

int catalog_put_stream(struct catalog *catalog, const char *stream, const char *group,
                       const char *member, const char *disk, uint64_t size, struct err *err)
{
    return put(catalog, err, "INSERT OR REPLACE INTO streams VALUES(?,?,?,?,?)", "ssssn", stream,
               group, member, disk, size);
}

int catalog_put_point(struct catalog *catalog, const struct catalog_point *point, struct err *err)
{
    return put(catalog, err, "INSERT OR REPLACE INTO points VALUES(?,?,?,?,?,?)", "sssnss",
               point->point, point->group, point->label, point->wall_ns, point->json,
               point->vm == NULL ? "" : point->vm);
}

int catalog_put_round(struct catalog *catalog, const struct catalog_round *round, struct err *err)
{
    const char *vm = round->vm == NULL ? "" : round->vm;
    if (put(catalog, err, "INSERT OR REPLACE INTO rounds VALUES(?,?,?,?,?)", "ssnss", round->round,
            round->group, round->wall_ns, round->json, vm) < 0) {
        return -1;
    }
    return put(catalog, err,
               "DELETE FROM rounds WHERE grp=?1 AND (vm='')=(?3='') AND wall_ns <="
               " (SELECT wall_ns FROM rounds WHERE grp=?1 AND (vm='')=(?3='')"
               " ORDER BY wall_ns DESC LIMIT 1 OFFSET ?2)",
               "sns", round->group, (uint64_t)TIDE_CATALOG_ROUND_MAX, vm);
}

/* ---- asking ---- */

static int take_row(sqlite3_stmt *s, json_t *into, struct err *err)
{
    const char *text = (const char *)sqlite3_column_text(s, 0);
    json_t *o = NULL;
    if (text == NULL) {
        return no_memory("read", err); /* the column is NOT NULL */
    }
    if (jsontext_read(text, strlen(text), 0, &o, err) < 0) {
        return err_wrap(err, "catalog: a row");
    }
    return json_array_append_new(into, o) < 0 ? no_memory("read", err) : 0;
}

/* Rows of json, wall_ns, id, the newest first, as many as a page takes. */
static int collect(struct catalog *c, sqlite3_stmt *s, json_t *into, struct catalog_place *next,
                   struct err *err)
{
    struct catalog_place last = {0};
    size_t bytes = 0;
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *id = (const char *)sqlite3_column_text(s, 2);
        size_t size = (size_t)sqlite3_column_bytes(s, 0);
        if (json_array_size(into) > 0 && bytes + size > TIDE_CATALOG_PAGE) {
            *next = last;
            return 0;
        }
        if (id == NULL) {
            return no_memory("read", err);
        }
        if (take_row(s, into, err) < 0) {
            return -1;
        }
        bytes += size;
        last.wall_ns = (uint64_t)sqlite3_column_int64(s, 1);
        snprintf(last.id, sizeof(last.id), "%s", id);
    }
    return rc == SQLITE_DONE ? 0 : fail(c, "read", err);
}

static json_t *reversed(const json_t *rows)
{
    json_t *ret = json_array();
    for (size_t k = json_array_size(rows); ret != NULL && k > 0; k--) {
        if (json_array_append(ret, json_array_get(rows, k - 1)) < 0) {
            json_decref(ret);
            ret = NULL;
        }
    }
    return ret;
}

/* ?1 is the group, ?2 the limit, ?3 the vm: '' where none is meant, '*' for any, ?4 and ?5 the
 * place. */
static bool bind_query(sqlite3_stmt *s, const struct catalog_query *q)
{
    const char *any = q->vm == NULL || q->vm[0] == '\0' ? "*" : q->vm;
    unsigned limit =
        q->limit == 0 || q->limit > TIDE_CATALOG_LIST_MAX ? TIDE_CATALOG_LIST_MAX : q->limit;
    return sqlite3_bind_text(s, 1, q->group == NULL ? "" : q->group, -1, SQLITE_TRANSIENT) ==
               SQLITE_OK &&
           sqlite3_bind_int64(s, 2, (sqlite3_int64)limit) == SQLITE_OK &&
           sqlite3_bind_text(s, 3, q->single_vm ? any : "", -1, SQLITE_TRANSIENT) == SQLITE_OK &&
           sqlite3_bind_text(s, 4, q->before.id, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
           sqlite3_bind_int64(s, 5, (sqlite3_int64)q->before.wall_ns) == SQLITE_OK;
}

static int ask(struct catalog *c, const char *sql, const struct catalog_query *q, json_t **ret,
               struct catalog_place *ret_next, struct err *err)
{
    sqlite3_stmt *s = NULL;
    struct catalog_place next = {0};
    json_t *rows = json_array();
    if (rows == NULL) {
        return no_memory("read", err);
    }
    pthread_mutex_lock(&c->lock);
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK || !bind_query(s, q)
                 ? fail(c, "read", err)
                 : collect(c, s, rows, &next, err);
    sqlite3_finalize(s);
    pthread_mutex_unlock(&c->lock);
    json_t *list = rc == 0 ? reversed(rows) : NULL;
    json_decref(rows);
    if (list == NULL) {
        return rc < 0 ? -1 : no_memory("read", err);
    }
    *ret = list;
    *ret_next = next;
    return 0;
}

#define OLDER(id)                                                                                  \
    " WHERE (?1='' OR grp=?1) AND (vm=?3 OR (?3='*' AND vm<>''))"                                  \
    " AND (?4='' OR wall_ns<?5 OR (wall_ns=?5 AND " id "<?4))"                                     \
    " ORDER BY wall_ns DESC, " id " DESC LIMIT ?2"

int catalog_points(struct catalog *catalog, const struct catalog_query *query, json_t **ret,
                   struct catalog_place *ret_next, struct err *err)
{
    return ask(catalog, "SELECT json, wall_ns, point FROM points" OLDER("point"), query, ret,
               ret_next, err);
}

int catalog_rounds(struct catalog *catalog, const struct catalog_query *query, json_t **ret,
                   struct catalog_place *ret_next, struct err *err)
{
    return ask(catalog, "SELECT json, wall_ns, round FROM rounds" OLDER("round"), query, ret,
               ret_next, err);
}

int catalog_single_vm_count(struct catalog *catalog, const char *group, uint64_t *ret,
                            struct err *err)
{
    sqlite3_stmt *s = NULL;
    pthread_mutex_lock(&catalog->lock);
    int rc = -1;
    if (sqlite3_prepare_v2(catalog->db,
                           "SELECT COUNT(*) FROM points WHERE (?1='' OR grp=?1) AND vm<>''", -1, &s,
                           NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, group == NULL ? "" : group, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW) {
        fail(catalog, "read", err);
    } else {
        *ret = (uint64_t)sqlite3_column_int64(s, 0);
        rc = 0;
    }
    sqlite3_finalize(s);
    pthread_mutex_unlock(&catalog->lock);
    return rc;
}

/* Up to two points whose id begins so; 'g' sorts after every hex digit. */
static int begins_with(struct catalog *c, const char *low, json_t **ret, struct err *err)
{
    sqlite3_stmt *s = NULL;
    json_t *rows = json_array();
    if (rows == NULL) {
        return no_memory("read", err);
    }
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    if (sqlite3_prepare_v2(
            c->db, "SELECT json FROM points WHERE point >= ?1 AND point < ?1 || 'g' LIMIT 2", -1,
            &s, NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, low, -1, SQLITE_TRANSIENT) != SQLITE_OK) {
        rc = fail(c, "read", err);
    }
    int step = SQLITE_DONE;
    while (rc == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
        rc = take_row(s, rows, err);
    }
    if (rc == 0 && step != SQLITE_DONE) {
        rc = fail(c, "read", err);
    }
    sqlite3_finalize(s);
    pthread_mutex_unlock(&c->lock);
    if (rc < 0) {
        json_decref(rows);
        return -1;
    }
    *ret = rows;
    return 0;
}

int catalog_point(struct catalog *catalog, const char *prefix, json_t **ret, struct err *err)
{
    char low[TIDE_ID_HEX];
    json_t *rows = NULL;
    size_t size = strlen(prefix);
    if (size == 0 || size >= sizeof(low) || strspn(prefix, "0123456789abcdefABCDEF") != size) {
        return err_set(err, TIDE_ERR_USAGE,
                       "'%.64s' is not a point: 1 to 32 hex digits of its id are expected", prefix);
    }
    for (size_t k = 0; k <= size; k++) {
        low[k] = (char)(prefix[k] >= 'A' && prefix[k] <= 'F' ? prefix[k] + 32 : prefix[k]);
    }
    if (begins_with(catalog, low, &rows, err) < 0) {
        return -1;
    }
    size_t found = json_array_size(rows);
    if (found == 1) {
        *ret = json_incref(json_array_get(rows, 0));
    }
    json_decref(rows);
    if (found == 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "no point's id begins with '%s'; `tidemark point list` shows them", prefix);
    }
    if (found > 1) {
        return err_set(err, TIDE_ERR_CONFLICT, "several points' ids begin with '%s'; give more",
                       prefix);
    }
    return 0;
}
