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

#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "coordinator/recover/fold.h"
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
    json_t *o = NULL;
    struct err e = {0};
    int rc = jsontext_read(text, size, JSON_REJECT_DUPLICATES, &o, &e);
    free(text);
    if (rc < 0 && e.code == TIDE_ERR_LIMIT) {
        return err_set(err, e.code, "'%s/%s': %s", store, relative, e.text);
    }
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
    if (!known && text_of(point, "vm")[0] != '\0') {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "point '%s' is of VM '%s' alone and has nothing of '%s'; it cannot recover "
                       "the group: take one that `tidemark point list` shows",
                       text_of(point, "point"), text_of(point, "vm"), member);
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
    struct fold fold;
};

static bool progress(void *context, uint64_t done, uint64_t total)
{
    const struct work *w = context;
    if (w->m->progress != NULL) {
        w->m->progress(w->m->context, done, total);
    }
    return true;
}

/* Whether what was applied is the disk. */
static int check_whole(const struct fold *f, const struct part *base, struct err *err)
{
    if (f->whole.answer == ROUND_ANSWER_YES) {
        return 0;
    }
    if (base->lsn != 0 && f->whole.copy_kind == RECORD_COPY_INITIAL) {
        return err_set(err, TIDE_ERR_FAILED,
                       "between the two points the disk was copied anew, and what was zero then is "
                       "not told to an image that is not empty: export the point without --from");
    }
    if (f->gap_lsn != 0) {
        return err_set(err, TIDE_ERR_FAILED,
                       "the stream has a gap at LSN %" PRIu64 " (%s) that no copy has mended: what "
                       "was written there is not in the store",
                       f->gap_lsn, record_gap_name((unsigned)f->gap_reason));
    }
    return err_set(err, TIDE_ERR_FAILED,
                   "the stream does not begin with an empty disk, and no copy has ended: what lay "
                   "on it before is not in the store");
}

static int apply(struct work *w, struct err *err)
{
    struct fold *f = &w->fold;
    if (fold_run(f, w->m->store, w->m->keyring, &w->manifest, w->part.lsn, progress, w, err) < 0) {
        return -1;
    }
    if (w->base.lsn != w->part.lsn &&
        (f->last != RECORD_BOOKMARK || !id_equal(&f->round, &w->part.point))) {
        return err_set(err, TIDE_ERR_CORRUPT, "LSN %" PRIu64 " is not the point's bookmark",
                       w->part.lsn);
    }
    if (check_whole(f, &w->base, err) < 0) {
        return -1;
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
                     id_hex(&w->part.stream, stream), w->part.lsn, w->fold.size);
    return file_replace(path, text, (size_t)n, 0640, err);
}

/* Whether the image is what `base` says; and the size of the disk at that point. */
static int sidecar_check(const struct work *w, uint64_t *ret_size, struct err *err)
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
    json_t *o = NULL;
    struct err e = {0};
    int rc = jsontext_read(text, size, 0, &o, &e);
    free(text);
    if (rc < 0 && e.code == TIDE_ERR_LIMIT) {
        return err_set(err, e.code, "'%s': %s", path, e.text);
    }
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
        lsn != (json_int_t)w->base.lsn || bytes < 1) {
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' holds another point than '%s'; see '%s'",
                       w->m->to, text_of(w->m->from, "point"), path);
    }
    *ret_size = (uint64_t)bytes;
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
    if (fold_init(&w->fold, w->fd, w->path, err) < 0 || apply(w, err) < 0) {
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
    uint64_t size = 0;
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
    if (sidecar_check(w, &size, err) < 0) {
        return -1;
    }
    snprintf(w->path, sizeof(w->path), "%s", w->m->to);
    w->fd = open(w->path, O_RDWR | O_CLOEXEC);
    if (w->fd < 0) {
        return file_err(err, errno, "open '%s'", w->path);
    }
    if (fstat(w->fd, &st) < 0 || (uint64_t)st.st_size != size) {
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' has not the disk's size, %" PRIu64 " bytes",
                       w->path, size);
    }
    if (fold_init_at_point(&w->fold, w->fd, w->path, w->base.lsn, size, err) < 0 ||
        sidecar_write(w, false, err) < 0 || apply(w, err) < 0) {
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
    rc = m->from == NULL ? run_whole(w, err) : run_from(w, err);
    if (rc == 0) {
        *ret = (struct materialize_result){.size = w->fold.size,
                                           .lsn = w->part.lsn,
                                           .segments = w->fold.segments,
                                           .records = w->fold.records,
                                           .bytes_written = w->fold.bytes};
    }
out:
    if (w->fd >= 0) {
        close(w->fd);
    }
    manifest_close(&w->manifest);
    fold_close(&w->fold);
    free(w);
    return rc;
}
