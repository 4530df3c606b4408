/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/verify/pieces.h"

#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/file.h"
#include "coordinator/store/segment_file.h"

#define BUFFER 4096U

static int no_memory(struct err *err)
{
    return err_set(err, TIDE_ERR_LIMIT, "no memory for what is in the folder");
}

/* Room for one more element. */
static int room_for(void **array, size_t count, size_t *room, size_t element, struct err *err)
{
    size_t want = *room == 0 ? 64 : *room * 2;
    if (count < *room) {
        return 0;
    }
    void *more = realloc(*array, want * element);
    if (more == NULL) {
        return no_memory(err);
    }
    *array = more;
    *room = want;
    return 0;
}

static int add_named(struct pieces *p, const struct record *r, struct err *err)
{
    if (p->named_count >= PIECES_NAMED_MAX) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "more than %u bookmarks name the point; give more of its id",
                       PIECES_NAMED_MAX);
    }
    if (room_for((void **)&p->named, p->named_count, &p->named_room, sizeof(*p->named), err) < 0) {
        return -1;
    }
    p->named[p->named_count++] =
        (struct piece_named){.stream = r->stream, .order = r->bookmark.order};
    return 0;
}

/* *ret_bad: what is wrong with the segment; *err: anything else. */
static int scan(struct pieces *p, struct segment_reader *reader, const char *prefix,
                struct err *ret_bad, struct err *err)
{
    for (uint32_t k = 0; k < reader->info.entry_count; k++) {
        char hex[TIDE_ID_HEX];
        struct record r;
        if (reader->entries[k].type != RECORD_BOOKMARK) {
            continue;
        }
        if (segment_reader_entry(reader, k, NULL, &r, ret_bad) < 0) {
            return -1;
        }
        id_hex(&r.bookmark.order.round, hex);
        if (strncmp(hex, prefix, strlen(prefix)) == 0 && add_named(p, &r, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_segment(struct pieces *p, const char *path, const char *prefix, struct err *err)
{
    uint8_t buffer[BUFFER];
    struct segment_file file;
    struct segment_reader reader;
    struct err e = {0};
    if (p->segment_count >= PIECES_SEGMENTS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "'%s': more than %u segments in one folder", path,
                       PIECES_SEGMENTS_MAX);
    }
    int rc = segment_file_open(&file, p->keyring, path, &e);
    if (rc == 0) {
        struct source source = segment_file_source(&file);
        rc = segment_reader_init(&reader, &source, 0, buffer, sizeof(buffer), &e);
        rc = rc == 0 ? scan(p, &reader, prefix, &e, err) : rc;
        segment_file_close(&file);
    }
    if (rc < 0 && e.code == TIDE_ERR_OK) {
        return -1; /* not the file's fault: *err says it */
    }
    if (rc < 0 && e.code == TIDE_ERR_DENIED) { /* so will be the others */
        return err_set(err, e.code, "%s", e.text);
    }
    if (rc < 0) { /* it may not be needed */
        if (p->bad_count++ == 0) {
            err_wrap(&e, "'%s'", path);
            p->bad = e;
        }
        return 0;
    }
    if (room_for((void **)&p->segments, p->segment_count, &p->segment_room, sizeof(*p->segments),
                 err) < 0) {
        return -1;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return no_memory(err);
    }
    p->segments[p->segment_count++] = (struct piece){.path = copy, .info = reader.info};
    return 0;
}

static int add_definition(struct pieces *p, const char *path, struct err *err)
{
    if (p->definition_count >= PIECES_DEFINITIONS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "'%s': more than %u definitions in one folder", path,
                       PIECES_DEFINITIONS_MAX);
    }
    if (room_for((void **)&p->definitions, p->definition_count, &p->definition_room,
                 sizeof(*p->definitions), err) < 0) {
        return -1;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return no_memory(err);
    }
    p->definitions[p->definition_count++] = copy;
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text);
    size_t b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static int walk(struct pieces *p, FTS *fts, const char *prefix, struct err *err)
{
    FTSENT *entry;
    errno = 0;
    while ((entry = fts_read(fts)) != NULL) {
        int rc = 0;
        if (entry->fts_info == FTS_F && ends_with(entry->fts_name, ".hrl")) {
            rc = add_segment(p, entry->fts_path, prefix, err);
        } else if (entry->fts_info == FTS_F && ends_with(entry->fts_name, ".pb") &&
                   strstr(entry->fts_path, "definitions/") != NULL) {
            rc = add_definition(p, entry->fts_path, err);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
                   entry->fts_info == FTS_NS) {
            rc = file_err(err, entry->fts_errno, "'%s': cannot read", entry->fts_path);
        }
        if (rc < 0) {
            return -1;
        }
        errno = 0;
    }
    return errno == 0 ? 0 : file_err(err, errno, "cannot go through the folder");
}

/* The same folder is always gone through in the same order. */
static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int compare(const void *left, const void *right)
{
    const struct piece *a = left;
    const struct piece *b = right;
    int d = id_compare(&a->info.header.stream, &b->info.header.stream);
    if (d != 0) {
        return d;
    }
    return a->info.header.first_lsn < b->info.header.first_lsn   ? -1
           : a->info.header.first_lsn > b->info.header.first_lsn ? 1
                                                                 : strcmp(a->path, b->path);
}

int pieces_find(const char *folder, struct keyring *keyring, const char *prefix, struct pieces *ret,
                struct err *err)
{
    struct pieces p = {.keyring = keyring};
    char *path = strdup(folder);
    if (path == NULL) {
        return no_memory(err);
    }
    char *roots[] = {path, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    int rc = fts == NULL ? file_err(err, errno, "'%s': cannot open", folder)
                         : walk(&p, fts, prefix, err);
    if (fts != NULL) {
        fts_close(fts);
    }
    free(path);
    if (rc < 0) {
        pieces_close(&p);
        return -1;
    }
    if (p.segment_count > 0) {
        qsort(p.segments, p.segment_count, sizeof(*p.segments), compare);
    }
    *ret = p;
    return 0;
}

void pieces_close(struct pieces *p)
{
    for (size_t k = 0; k < p->segment_count; k++) {
        free(p->segments[k].path);
    }
    for (size_t k = 0; k < p->definition_count; k++) {
        free(p->definitions[k]);
    }
    free(p->segments);
    free(p->definitions);
    free(p->named);
    *p = (struct pieces){0};
}

const struct piece *pieces_of(const struct pieces *p, const struct id *stream, size_t *ret_count)
{
    size_t from = 0;
    size_t to = p->segment_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (id_compare(&p->segments[middle].info.header.stream, stream) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    while (to < p->segment_count && id_equal(&p->segments[to].info.header.stream, stream)) {
        to++;
    }
    *ret_count = to - from;
    return to > from ? &p->segments[from] : NULL;
}
