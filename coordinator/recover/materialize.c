/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/recover/materialize.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hrl/segment.h"
#include "common/hrl/whole.h"
#include "common/io/file.h"
#include "coordinator/store/manifest.h"
#include "coordinator/store/object.h"

#define POINT_MAX   (8U * 1024 * 1024)
#define SIDECAR_MAX 4096U

/* ---- points ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

static int load_point(const char *store, const char *relative, json_t **ret, struct err *err)
{
    uint8_t *text = NULL;
    size_t size = 0;
    if (object_get(store, relative, POINT_MAX, &text, &size, err) < 0) {
        return -1;
    }
    json_t *o = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    struct id id;
    if (!id_parse(text_of(o, "point"), &id) || !json_is_array(json_object_get(o, "members"))) {
        json_decref(o);
        return err_set(err, TIDE_ERR_CORRUPT, "'%s/%s' is not a point's object", store, relative);
    }
    *ret = o;
    return 0;
}

struct search {
    const char *store;
    char prefix[TIDE_ID_HEX];
    unsigned found;
    char relative[400]; /* of the first found */
};

static int search_group(struct search *s, const char *group, struct err *err)
{
    char folder[128];
    char **names = NULL;
    size_t count = 0;
    size_t size = strlen(s->prefix);
    snprintf(folder, sizeof(folder), "points/%.64s", group);
    if (object_names(s->store, folder, ".json", &names, &count, err) < 0) {
        return -1;
    }
    for (size_t k = 0; k < count; k++) {
        if (strlen(names[k]) == TIDE_ID_HEX + 4 && strncmp(names[k], s->prefix, size) == 0) {
            if (s->found++ == 0) {
                snprintf(s->relative, sizeof(s->relative), "%s/%s", folder, names[k]);
            }
        }
    }
    object_names_free(names);
    return 0;
}

int materialize_find(const char *store, const char *group, const char *prefix, json_t **ret,
                     struct err *err)
{
    struct search s = {.store = store};
    char **groups = NULL;
    size_t count = 0;
    size_t size = strlen(prefix);
    if (size == 0 || size >= sizeof(s.prefix) || strspn(prefix, "0123456789abcdefABCDEF") != size) {
        return err_set(err, TIDE_ERR_USAGE,
                       "'%.64s' is not a point: 1 to 32 hex digits of its id are expected", prefix);
    }
    for (size_t k = 0; k < size; k++) {
        s.prefix[k] = (char)(prefix[k] >= 'A' && prefix[k] <= 'F' ? prefix[k] + 32 : prefix[k]);
    }
    if (object_names(store, "points", "", &groups, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        if (group == NULL || strcmp(group, groups[k]) == 0) {
            rc = search_group(&s, groups[k], err);
        }
    }
    object_names_free(groups);
    if (rc < 0) {
        return -1;
    }
    if (s.found == 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "store '%s' has no recovery point whose id begins with '%s'; `tidemark "
                       "point list` shows them",
                       store, s.prefix);
    }
    if (s.found > 1) {
        return err_set(err, TIDE_ERR_CONFLICT, "%u points' ids begin with '%s'; give more of it",
                       s.found, s.prefix);
    }
    return load_point(store, s.relative, ret, err);
}

/* The disk's part of a point. */
struct part {
    struct id point;
    struct id stream;
    uint64_t lsn;
};

static int find_part(const json_t *point, const char *member, const char *disk, struct part *ret,
                     struct err *err)
{
    size_t i;
    size_t j;
    const json_t *m;
    const json_t *d;
    bool known = false;
    struct part p = {0};
    json_array_foreach(json_object_get(point, "members"), i, m)
    {
        if (strcmp(text_of(m, "member"), member) != 0) {
            continue;
        }
        known = true;
        json_array_foreach(json_object_get(m, "disks"), j, d)
        {
            if (strcmp(text_of(d, "disk"), disk) != 0) {
                continue;
            }
            json_int_t lsn = json_integer_value(json_object_get(d, "lsn"));
            if (!id_parse(text_of(d, "stream"), &p.stream) || lsn < 1 ||
                !id_parse(text_of(point, "point"), &p.point)) {
                return err_set(err, TIDE_ERR_CORRUPT, "point '%s': its disk '%s/%s' is wrong",
                               text_of(point, "point"), member, disk);
            }
            p.lsn = (uint64_t)lsn;
            *ret = p;
            return 0;
        }
    }
    if (!known) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "point '%s' has no member '%s'%s",
                       text_of(point, "point"), member,
                       json_array_size(json_object_get(point, "missing")) > 0 ? "; it is partial"
                                                                              : "");
    }
    return err_set(err, TIDE_ERR_NOT_FOUND, "member '%s' has no disk '%s' in point '%s'", member,
                   disk, text_of(point, "point"));
}

/* ---- applying ---- */

struct work {
    const struct materialize *m;
    struct part part;
    struct part base; /* lsn 0: none */
    struct manifest manifest;
    int fd; /* of the image */
    char path[PATH_MAX];
    uint8_t *buffer;
    uint64_t total;
    uint64_t done;
    struct whole whole;
    uint64_t gap_lsn; /* the last gap; 0: none */
    enum record_gap_reason gap_reason;
    bool reached; /* the bookmark was met */
    struct materialize_result result;
};

static int punch(struct work *w, uint64_t offset, uint64_t size, struct err *err)
{
    static const uint8_t zeroes[65536];
    if (fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) ==
        0) {
        return 0;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
        return file_err(err, errno, "zero a part of '%s'", w->path);
    }
    while (size > 0) {
        size_t part = size < sizeof(zeroes) ? (size_t)size : sizeof(zeroes);
        if (file_pwrite_full(w->fd, zeroes, part, offset, w->path, err) < 0) {
            return -1;
        }
        offset += part;
        size -= part;
    }
    return 0;
}

static int apply_write(struct work *w, const struct record *r, struct err *err)
{
    uint64_t size = w->manifest.stream.size;
    if (r->write.offset > size || r->write.size > size - r->write.offset) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "LSN %" PRIu64 " writes past the end of the disk (%" PRIu64 " bytes)",
                       r->lsn, size);
    }
    w->result.records++;
    if (r->type == RECORD_ZERO) {
        return punch(w, r->write.offset, r->write.size, err);
    }
    w->result.bytes_written += r->write.size;
    return file_pwrite_full(w->fd, r->write.data, (size_t)r->write.size, r->write.offset, w->path,
                            err);
}

static int apply_attach(struct work *w, const struct record *r, struct err *err)
{
    if (r->attach.size != w->manifest.stream.size) {
        return err_set(err, TIDE_ERR_FAILED,
                       "at LSN %" PRIu64 " the disk has %" PRIu64 " bytes, and %" PRIu64
                       " were registered",
                       r->lsn, r->attach.size, w->manifest.stream.size);
    }
    return 0;
}

/* Whether what was applied so far is the disk. */
static int check_whole(const struct work *w, struct err *err)
{
    if (w->whole.answer == ROUND_ANSWER_YES) {
        return 0;
    }
    if (w->gap_lsn != 0) {
        return err_set(err, TIDE_ERR_FAILED,
                       "the stream has a gap at LSN %" PRIu64 " (%s) that no copy has mended: what "
                       "was written there is not in the store",
                       w->gap_lsn, record_gap_name((unsigned)w->gap_reason));
    }
    return err_set(err, TIDE_ERR_FAILED,
                   "the stream does not begin with an empty disk, and no copy has ended: what lay "
                   "on it before is not in the store");
}

static int apply_record(struct work *w, const struct record *r, struct err *err)
{
    if (r->lsn <= w->base.lsn || r->lsn > w->part.lsn) {
        return 0;
    }
    if (r->lsn == w->part.lsn) {
        if (r->type != RECORD_BOOKMARK || !id_equal(&r->bookmark.order.round, &w->part.point)) {
            return err_set(err, TIDE_ERR_CORRUPT, "LSN %" PRIu64 " is not the point's bookmark",
                           r->lsn);
        }
        w->reached = true;
        return check_whole(w, err);
    }
    whole_feed(&w->whole, r);
    if (r->type == RECORD_WRITE || r->type == RECORD_ZERO || r->type == RECORD_COPY_BLOCK) {
        return apply_write(w, r, err);
    }
    if (r->type == RECORD_ATTACH) {
        return apply_attach(w, r, err);
    }
    if (r->type == RECORD_GAP) {
        w->gap_lsn = r->lsn;
        w->gap_reason = r->gap.reason;
    }
    return 0;
}

static int apply_bytes(struct work *w, const struct manifest_segment *s, const uint8_t *bytes,
                       size_t size, struct err *err)
{
    struct source_part part = {.base = bytes, .size = size};
    struct source_memory memory = {.parts = &part, .count = 1};
    struct source source = source_memory(&memory);
    struct segment_reader reader;
    struct record record;
    if (segment_reader_init(&reader, &source, 0, w->buffer, TIDE_SEGMENT_BUFFER, err) < 0 ||
        segment_reader_verify(&reader, err) < 0) {
        return -1;
    }
    const struct segment_info *info = &reader.info;
    if (!hash_equal(&info->hash, &s->hash) || !id_equal(&info->header.stream, &w->part.stream) ||
        info->header.first_lsn != s->first || info->last_lsn != s->last) {
        return err_set(err, TIDE_ERR_CORRUPT, "it is not the segment that the manifest lists");
    }
    if (!hash_equal(&info->header.before, &s->before)) {
        return err_set(err, TIDE_ERR_CORRUPT, "it does not follow the segment before it");
    }
    int rc;
    while ((rc = segment_reader_next(&reader, &record, NULL, NULL, err)) == 1) {
        if (apply_record(w, &record, err) < 0) {
            return -1;
        }
    }
    return rc;
}

static int apply_segment(struct work *w, const struct manifest_segment *s, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    manifest_segment_path(w->m->store, &w->part.stream, s->first, s->last, path);
    if (file_read(path, TIDE_SEGMENT_MAX, &bytes, &size, err) < 0) {
        return -1;
    }
    int rc = apply_bytes(w, s, bytes, size, err);
    free(bytes);
    if (rc < 0) {
        return err_wrap(err, "'%s'", path);
    }
    w->result.segments++;
    w->done += s->size;
    if (w->m->progress != NULL) {
        w->m->progress(w->m->context, w->done, w->total);
    }
    return 0;
}

static bool wanted(const struct work *w, const struct manifest_segment *s)
{
    return s->last > w->base.lsn && s->first <= w->part.lsn;
}

static int apply(struct work *w, struct err *err)
{
    for (size_t k = 0; k < w->manifest.segment_count; k++) {
        w->total += wanted(w, &w->manifest.segments[k]) ? w->manifest.segments[k].size : 0;
    }
    for (size_t k = 0; k < w->manifest.segment_count; k++) {
        if (wanted(w, &w->manifest.segments[k]) &&
            apply_segment(w, &w->manifest.segments[k], err) < 0) {
            return -1;
        }
    }
    if (!w->reached && w->base.lsn != w->part.lsn) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "the store has the stream only up to LSN %" PRIu64 ", the point is at "
                       "%" PRIu64,
                       w->manifest.segment_count == 0
                           ? 0
                           : w->manifest.segments[w->manifest.segment_count - 1].last,
                       w->part.lsn);
    }
    if (fsync(w->fd) < 0) {
        return file_err(err, errno, "sync '%s'", w->path);
    }
    return 0;
}

/* ---- the note beside the image ---- */

static void sidecar_path(const struct materialize *m, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s.tidemark", m->to);
}

static int sidecar_write(const struct work *w, bool complete, struct err *err)
{
    char path[PATH_MAX];
    char text[SIDECAR_MAX];
    char point[TIDE_ID_HEX];
    char stream[TIDE_ID_HEX];
    sidecar_path(w->m, path);
    int n = snprintf(text, sizeof(text),
                     "{\"state\":\"%s\",\"point\":\"%s\",\"stream\":\"%s\",\"lsn\":%" PRIu64
                     ",\"size\":%" PRIu64 "}\n",
                     complete ? "complete" : "unfinished", id_hex(&w->part.point, point),
                     id_hex(&w->part.stream, stream), w->part.lsn, w->manifest.stream.size);
    return file_replace(path, text, (size_t)n, 0640, err);
}

/* Whether the image is what `base` says. */
static int sidecar_check(const struct work *w, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *text = NULL;
    size_t size = 0;
    struct id point = {0};
    struct id stream = {0};
    sidecar_path(w->m, path);
    if (file_read(path, SIDECAR_MAX, &text, &size, err) < 0) {
        if (err != NULL && err->code == TIDE_ERR_NOT_FOUND) {
            err->code = TIDE_ERR_CONFLICT;
        }
        return err_wrap(err, "'%s' was not exported here; export it whole, without --from",
                        w->m->to);
    }
    json_t *o = json_loadb((const char *)text, size, 0, NULL);
    free(text);
    bool complete = strcmp(text_of(o, "state"), "complete") == 0;
    json_int_t lsn = json_integer_value(json_object_get(o, "lsn"));
    json_int_t bytes = json_integer_value(json_object_get(o, "size"));
    bool readable =
        id_parse(text_of(o, "point"), &point) && id_parse(text_of(o, "stream"), &stream);
    json_decref(o);
    if (!readable || !complete) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "'%s' says that '%s' is half-written; remove both and export it whole", path,
                       w->m->to);
    }
    if (!id_equal(&point, &w->base.point) || !id_equal(&stream, &w->base.stream) ||
        lsn != (json_int_t)w->base.lsn || bytes != (json_int_t)w->manifest.stream.size) {
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' holds another point than '%s'; see '%s'",
                       w->m->to, text_of(w->m->from, "point"), path);
    }
    return 0;
}

/* ---- whole and incremental ---- */

static int run_whole(struct work *w, struct err *err)
{
    char side[PATH_MAX];
    struct stat st;
    if (snprintf(w->path, sizeof(w->path), "%s.part", w->m->to) >= PATH_MAX - 32) {
        return err_set(err, TIDE_ERR_LIMIT, "path '%s' is too long", w->m->to);
    }
    if (lstat(w->m->to, &st) == 0) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "'%s' exists; remove it, or say with --from which point it holds", w->m->to);
    }
    sidecar_path(w->m, side);
    if (unlink(side) < 0 && errno != ENOENT) {
        return file_err(err, errno, "remove '%s'", side);
    }
    w->fd = open(w->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (w->fd < 0) {
        return file_err(err, errno, "make '%s'", w->path);
    }
    if (ftruncate(w->fd, (off_t)w->manifest.stream.size) < 0) {
        return file_err(err, errno, "size '%s'", w->path);
    }
    if (apply(w, err) < 0) {
        unlink(w->path);
        return -1;
    }
    if (rename(w->path, w->m->to) < 0) {
        return file_err(err, errno, "rename '%s'", w->path);
    }
    if (file_sync_parent(w->m->to, err) < 0) {
        return -1;
    }
    return sidecar_write(w, true, err);
}

static int run_from(struct work *w, struct err *err)
{
    struct stat st;
    if (find_part(w->m->from, w->m->member, w->m->disk, &w->base, err) < 0) {
        return -1;
    }
    if (!id_equal(&w->base.stream, &w->part.stream)) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "point '%s' is of another stream of that disk; export it whole",
                       text_of(w->m->from, "point"));
    }
    if (w->base.lsn > w->part.lsn) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "point '%s' is later than '%s': an image goes only forward",
                       text_of(w->m->from, "point"), text_of(w->m->point, "point"));
    }
    if (sidecar_check(w, err) < 0) {
        return -1;
    }
    snprintf(w->path, sizeof(w->path), "%s", w->m->to);
    w->fd = open(w->path, O_RDWR | O_CLOEXEC);
    if (w->fd < 0) {
        return file_err(err, errno, "open '%s'", w->path);
    }
    if (fstat(w->fd, &st) < 0 || (uint64_t)st.st_size != w->manifest.stream.size) {
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' has not the disk's size, %" PRIu64 " bytes",
                       w->path, w->manifest.stream.size);
    }
    if (sidecar_write(w, false, err) < 0 || apply(w, err) < 0) {
        return -1;
    }
    return sidecar_write(w, true, err);
}

int materialize_run(const struct materialize *m, struct materialize_result *ret, struct err *err)
{
    struct work *w = calloc(1, sizeof(*w));
    int rc = -1;
    if (w == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to export");
    }
    w->m = m;
    w->fd = -1;
    w->buffer = malloc(TIDE_SEGMENT_BUFFER);
    if (w->buffer == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory to export");
        goto out;
    }
    if (strcmp(text_of(m->point, "label"), "unaligned") == 0 && !m->unaligned) {
        err_set(err, TIDE_ERR_DENIED,
                "point '%s' is unaligned: it was taken with the hold switched off and is no "
                "recovery point; --unaligned exports it all the same",
                text_of(m->point, "point"));
        goto out;
    }
    if (find_part(m->point, m->member, m->disk, &w->part, err) < 0 ||
        manifest_read(m->store, &w->part.stream, &w->manifest, err) < 0) {
        goto out;
    }
    if (m->from == NULL) {
        whole_init(&w->whole);
    } else {
        whole_init_at_point(&w->whole);
    }
    rc = m->from == NULL ? run_whole(w, err) : run_from(w, err);
    if (rc == 0) {
        w->result.size = w->manifest.stream.size;
        w->result.lsn = w->part.lsn;
        *ret = w->result;
    }
out:
    if (w->fd >= 0) {
        close(w->fd);
    }
    manifest_close(&w->manifest);
    free(w->buffer);
    free(w);
    return rc;
}
