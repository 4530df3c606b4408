/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/file.h"
#include "common/io/jsontext.h"

void manifest_path(const char *store, const struct id *stream, char *ret_path)
{
    char hex[TIDE_ID_HEX];
    snprintf(ret_path, PATH_MAX, "%s/streams/%s/manifest.jsonl", store, id_hex(stream, hex));
}

void manifest_segment_path(const char *store, const struct id *stream, uint64_t first,
                           uint64_t last, char *ret_path)
{
    char hex[TIDE_ID_HEX];
    snprintf(ret_path, PATH_MAX, "%s/streams/%s/segments/%020" PRIu64 "-%020" PRIu64 ".hrl", store,
             id_hex(stream, hex), first, last);
}

void manifest_staged_path(const char *store, const struct id *stream, uint64_t first, uint64_t last,
                          char *ret_path)
{
    char hex[TIDE_ID_HEX];
    snprintf(ret_path, PATH_MAX, "%s/streams/%s/staged/%020" PRIu64 "-%020" PRIu64 ".staged", store,
             id_hex(stream, hex), first, last);
}

static bool range_name(const char *name, const char *suffix, uint64_t *ret_first,
                       uint64_t *ret_last)
{
    char again[64];
    uint64_t first;
    uint64_t last;
    if (strlen(name) != 41 + strlen(suffix) ||
        sscanf(name, "%20" SCNu64 "-%20" SCNu64, &first, &last) != 2) {
        return false;
    }
    snprintf(again, sizeof(again), "%020" PRIu64 "-%020" PRIu64 "%s", first, last, suffix);
    if (strcmp(again, name) != 0) {
        return false;
    }
    *ret_first = first;
    *ret_last = last;
    return first > 0 && last >= first;
}

bool manifest_segment_name(const char *name, uint64_t *ret_first, uint64_t *ret_last)
{
    return range_name(name, ".hrl", ret_first, ret_last);
}

bool manifest_staged_name(const char *name, uint64_t *ret_first, uint64_t *ret_last)
{
    return range_name(name, ".staged", ret_first, ret_last);
}

/* ---- lines ---- */

static size_t line(int n)
{
    TIDE_CHECK(n > 0 && n < (int)TIDE_MANIFEST_LINE);
    return (size_t)n;
}

size_t manifest_line_created(const struct manifest_stream *s, char ret[TIDE_MANIFEST_LINE])
{
    char stream[TIDE_ID_HEX];
    char timeline[TIDE_ID_HEX];
    char disk_id[TIDE_ID_HEX];
    /* Names need no escaping: name_parse() allows no such byte. */
    return line(snprintf(ret, TIDE_MANIFEST_LINE,
                         "{\"type\":\"created\",\"stream\":\"%s\",\"timeline\":\"%s\","
                         "\"disk_id\":\"%s\",\"group\":\"%s\",\"member\":\"%s\",\"disk\":\"%s\","
                         "\"size\":%" PRIu64 ",\"block_size\":%u}\n",
                         id_hex(&s->stream, stream), id_hex(&s->timeline, timeline),
                         id_hex(&s->disk_id, disk_id), s->group.s, s->member.s, s->disk.s, s->size,
                         s->block_size));
}

size_t manifest_line_segment(const struct manifest_segment *s, char ret[TIDE_MANIFEST_LINE])
{
    char hash[TIDE_HASH_HEX];
    return line(snprintf(ret, TIDE_MANIFEST_LINE,
                         "{\"type\":\"segment\",\"first\":%" PRIu64 ",\"last\":%" PRIu64
                         ",\"hash\":\"%s\",\"size\":%" PRIu64 "}\n",
                         s->first, s->last, hash_hex(&s->hash, hash), s->size));
}

size_t manifest_line_tag(const struct manifest_tag *t, char ret[TIDE_MANIFEST_LINE])
{
    char point[TIDE_ID_HEX];
    char cut[TIDE_HASH_HEX];
    return line(snprintf(ret, TIDE_MANIFEST_LINE,
                         "{\"type\":\"tag\",\"point\":\"%s\",\"lsn\":%" PRIu64
                         ",\"cut\":\"%s\",\"label\":\"%s\"}\n",
                         id_hex(&t->point, point), t->lsn, hash_hex(&t->cut, cut),
                         t->unaligned ? "unaligned" : "aligned"));
}

size_t manifest_line_fork(uint64_t first, const struct hash *hash, char ret[TIDE_MANIFEST_LINE])
{
    char hex[TIDE_HASH_HEX];
    return line(snprintf(ret, TIDE_MANIFEST_LINE,
                         "{\"type\":\"fork\",\"first\":%" PRIu64 ",\"hash\":\"%s\"}\n", first,
                         hash_hex(hash, hex)));
}

/* ---- reading ---- */

struct reading {
    struct manifest *m;
    size_t segment_room;
    size_t tag_room;
    const struct id *stream;
    unsigned long line;
};

static bool get_number(const json_t *o, const char *key, uint64_t min, uint64_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) < min) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

static const char *get_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

static int bad(const struct reading *r, const char *what, struct err *err)
{
    return err_set(err, TIDE_ERR_CORRUPT, "line %lu: %s", r->line, what);
}

static int read_created(struct reading *r, const json_t *o, struct err *err)
{
    struct manifest_stream s = {0};
    uint64_t block_size = 0;
    if (r->line != 1) {
        return bad(r, "'created' is not the first line", err);
    }
    if (!id_parse(get_text(o, "stream"), &s.stream) ||
        !id_parse(get_text(o, "timeline"), &s.timeline) ||
        !id_parse(get_text(o, "disk_id"), &s.disk_id) ||
        !name_parse(get_text(o, "group"), &s.group) ||
        !name_parse(get_text(o, "member"), &s.member) ||
        !name_parse(get_text(o, "disk"), &s.disk) || !get_number(o, "size", 512, &s.size) ||
        !get_number(o, "block_size", 512, &block_size) || block_size > 65536) {
        return bad(r, "a field of 'created' is missing or wrong", err);
    }
    if (!id_equal(&s.stream, r->stream)) {
        return bad(r, "'created' names another stream than the folder", err);
    }
    s.block_size = (uint32_t)block_size;
    r->m->stream = s;
    return 0;
}

static int read_segment(struct reading *r, const json_t *o, struct err *err)
{
    struct manifest *m = r->m;
    struct manifest_segment s = {0};
    if (!get_number(o, "first", 1, &s.first) || !get_number(o, "last", s.first, &s.last) ||
        !get_number(o, "size", 1, &s.size) || !hash_parse(get_text(o, "hash"), &s.hash)) {
        return bad(r, "a field of 'segment' is missing or wrong", err);
    }
    uint64_t due = 1;
    if (m->segment_count > 0) {
        due = m->segments[m->segment_count - 1].last + 1;
        s.before = m->segments[m->segment_count - 1].hash;
    }
    if (s.first != due) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "line %lu: segment begins at LSN %" PRIu64 ", and %" PRIu64 " is due",
                       r->line, s.first, due);
    }
    if (m->segment_count == r->segment_room) {
        size_t room = r->segment_room == 0 ? 64 : 2 * r->segment_room;
        struct manifest_segment *more = realloc(m->segments, room * sizeof(*more));
        if (more == NULL) {
            return err_set(err, TIDE_ERR_LIMIT, "no memory for %zu segments", room);
        }
        m->segments = more;
        r->segment_room = room;
    }
    m->segments[m->segment_count++] = s;
    return 0;
}

static int read_tag(struct reading *r, const json_t *o, struct err *err)
{
    struct manifest *m = r->m;
    struct manifest_tag t = {0};
    if (!id_parse(get_text(o, "point"), &t.point) || !get_number(o, "lsn", 1, &t.lsn) ||
        !hash_parse(get_text(o, "cut"), &t.cut)) {
        return bad(r, "a field of 'tag' is missing or wrong", err);
    }
    t.unaligned = strcmp(get_text(o, "label"), "unaligned") == 0;
    if (m->tag_count == r->tag_room) {
        size_t room = r->tag_room == 0 ? 64 : 2 * r->tag_room;
        struct manifest_tag *more = realloc(m->tags, room * sizeof(*more));
        if (more == NULL) {
            return err_set(err, TIDE_ERR_LIMIT, "no memory for %zu tags", room);
        }
        m->tags = more;
        r->tag_room = room;
    }
    m->tags[m->tag_count++] = t;
    return 0;
}

static int read_line(struct reading *r, const char *at, size_t size, struct err *err)
{
    json_t *o = NULL;
    struct err e = {0};
    if (jsontext_read(at, size, JSON_REJECT_DUPLICATES, &o, &e) < 0 && e.code == TIDE_ERR_LIMIT) {
        return err_set(err, e.code, "line %lu: %s", r->line, e.text);
    }
    if (!json_is_object(o)) {
        json_decref(o);
        return bad(r, "is not a JSON object", err);
    }
    const char *type = get_text(o, "type");
    int rc;
    if (strcmp(type, "created") == 0) {
        rc = read_created(r, o, err);
    } else if (r->line == 1) {
        rc = bad(r, "the first line is not 'created'", err);
    } else if (strcmp(type, "segment") == 0) {
        rc = read_segment(r, o, err);
    } else if (strcmp(type, "tag") == 0) {
        rc = read_tag(r, o, err);
    } else if (strcmp(type, "fork") == 0) {
        r->m->forked = true;
        rc = 0;
    } else {
        rc = bad(r, "its type is none of created, segment, tag, fork", err);
    }
    json_decref(o);
    return rc;
}

static int read_lines(struct reading *r, const char *text, size_t size, struct err *err)
{
    size_t at = 0;
    while (at < size) {
        const char *end = memchr(text + at, '\n', size - at);
        if (end == NULL) {
            r->m->torn = true;
            break;
        }
        size_t length = (size_t)(end - text) - at;
        if (at + length + 1 == size && memchr(text + at, 0, length) != NULL) {
            r->m->torn = true; /* of two blocks only the second came to be written */
            break;
        }
        r->line++;
        if (length >= TIDE_MANIFEST_LINE) {
            return bad(r, "is too long", err);
        }
        if (read_line(r, text + at, length, err) < 0) {
            return -1;
        }
        at += length + 1;
        r->m->whole_size = at;
    }
    return 0;
}

int manifest_read(const char *store, const struct id *stream, struct manifest *ret, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *text = NULL;
    size_t size = 0;
    struct manifest m = {0};
    struct reading r = {.m = &m, .stream = stream};
    manifest_path(store, stream, path);
    if (file_read(path, TIDE_MANIFEST_MAX, &text, &size, err) < 0) {
        return -1;
    }
    int rc = read_lines(&r, (const char *)text, size, err);
    free(text);
    if (rc == 0 && r.line == 0) {
        rc = err_set(err, TIDE_ERR_NOT_FOUND, "its creation was never finished");
    }
    if (rc < 0) {
        manifest_close(&m);
        return err_wrap(err, "'%s'", path);
    }
    *ret = m;
    return 0;
}

void manifest_close(struct manifest *m)
{
    free(m->segments);
    free(m->tags);
    *m = (struct manifest){0};
}
