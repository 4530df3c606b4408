/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/verify/survey.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <jansson.h>

#include "common/hrl/segment.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "coordinator/store/segment_file.h"
#include "coordinator/store/store.h"

#define POINT_MAX (8U * 1024 * 1024)

struct reached {
    struct id stream;
    uint64_t lsn;
};

struct survey {
    const struct survey_request *request;
    struct survey_result *result;
    uint64_t begun_us;
    uint64_t read;           /* bytes of files */
    struct reached *reached; /* by stream: the folders' order */
    size_t reached_count;
};

static void note_wrong(struct err *first, const struct err *err)
{
    if (first->code == TIDE_ERR_OK) {
        *first = *err;
    }
}

/* What says nothing of the store: lack of memory, or of a key. */
static bool ends_all(const struct err *err)
{
    return err->code == TIDE_ERR_LIMIT || err->code == TIDE_ERR_DENIED;
}

/* Sleeps until what was read is no more than the rate allows. */
static void keep_rate(struct survey *s, uint64_t bytes)
{
    uint64_t rate = s->request->bytes_per_s;
    s->read += bytes;
    if (rate == 0) {
        return;
    }
    uint64_t due_us = (uint64_t)((double)s->read / (double)rate * 1e6);
    uint64_t us = clock_mono_us() - s->begun_us;
    if (us < due_us) {
        struct timespec rest = {.tv_sec = (time_t)((due_us - us) / CLOCK_US_PER_S),
                                .tv_nsec = (long)((due_us - us) % CLOCK_US_PER_S) * 1000};
        (void)nanosleep(&rest, NULL); /* woken early by a signal: the next one makes up for it */
    }
}

/* ---- segments ---- */

struct chain {
    struct hash before;
    uint64_t incarnation; /* 0: not known */
};

static int judge_segment(const struct manifest_stream *about, const struct manifest_segment *s,
                         const struct segment_info *info, uint64_t size, struct chain *chain,
                         struct err *err)
{
    if (!id_equal(&info->header.stream, &about->stream) ||
        !id_equal(&info->header.timeline, &about->timeline) || info->header.first_lsn != s->first ||
        info->last_lsn != s->last) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "it is of another stream or range than its name says");
    }
    if (!hash_equal(&info->hash, &s->hash) || size != s->size) {
        return err_set(err, TIDE_ERR_CORRUPT, "it is not what its manifest says");
    }
    if (!hash_equal(&info->header.before, &chain->before) ||
        (chain->incarnation != 0 && info->header.incarnation != chain->incarnation)) {
        return err_set(err, TIDE_ERR_CORRUPT, "it does not follow the segment before it");
    }
    return 0;
}

/* -1 only for what ends all. */
static int read_segment(struct survey *s, struct survey_stream *stream,
                        const struct manifest_segment *segment, const char *path,
                        struct chain *chain, struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct segment_info info;
    struct err e = {0};
    int rc = segment_file_read(s->request->keyring, path, &bytes, &size, &e);
    if (rc == 0) {
        rc = store_check_segment(bytes, size, &info, &e);
        rc = rc == 0 ? judge_segment(&stream->about, segment, &info, size, chain, &e) : rc;
        rc = rc < 0 ? err_wrap(&e, "'%s'", path) : 0;
    }
    free(bytes);
    chain->before = segment->hash; /* one that is bad does not spoil the next */
    chain->incarnation = rc == 0 ? info.last_incarnation : 0;
    if (rc < 0 && ends_all(&e)) {
        return err_set(err, e.code, "%s", e.text);
    }
    if (rc < 0) {
        stream->bad++;
        note_wrong(&stream->wrong, &e);
    }
    return 0;
}

static int look_at_segments(struct survey *s, struct survey_stream *stream,
                            const struct manifest *m, struct err *err)
{
    struct chain chain = {0};
    uint64_t total = 0;
    for (size_t k = 0; k < m->segment_count; k++) {
        total += m->segments[k].size;
    }
    for (size_t k = 0; k < m->segment_count; k++) {
        const struct manifest_segment *segment = &m->segments[k];
        char path[PATH_MAX];
        struct stat st;
        struct err e = {0};
        manifest_segment_path(s->request->store, &m->stream.stream, segment->first, segment->last,
                              path);
        if (stat(path, &st) != 0) {
            err_set(&e, TIDE_ERR_NOT_FOUND, "'%s' is gone", path);
            stream->bad++;
            note_wrong(&stream->wrong, &e);
            chain = (struct chain){segment->hash, 0};
        } else {
            stream->stored_bytes += (uint64_t)st.st_size;
        }
        if (e.code == TIDE_ERR_OK && s->request->read) {
            if (read_segment(s, stream, segment, path, &chain, err) < 0) {
                return -1;
            }
            keep_rate(s, (uint64_t)st.st_size);
        }
        stream->segments++;
        stream->bytes += segment->size;
        stream->last_lsn = segment->last;
        if (s->request->progress != NULL) {
            s->request->progress(s->request->context, &m->stream, stream->bytes, total);
        }
    }
    return 0;
}

/* ---- streams ---- */

static int look_at_stream(struct survey *s, const struct id *id, struct err *err)
{
    struct manifest m;
    struct survey_stream stream = {.about.stream = *id};
    struct err e = {0};
    int rc = manifest_read(s->request->store, id, &m, &e);
    if (rc == 0) {
        stream.about = m.stream;
        stream.forked = m.forked;
        rc = look_at_segments(s, &stream, &m, err);
        manifest_close(&m);
        if (rc < 0) {
            return -1;
        }
    } else if (e.code == TIDE_ERR_NOT_FOUND) {
        return 0; /* its registration was never finished */
    } else if (ends_all(&e)) {
        return err_set(err, e.code, "%s", e.text);
    } else {
        stream.bad = 1;
        stream.wrong = e;
    }
    struct reached *more = realloc(s->reached, (s->reached_count + 1) * sizeof(*more));
    if (more == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a stream");
    }
    s->reached = more;
    more[s->reached_count++] = (struct reached){*id, stream.last_lsn};
    struct survey_result *r = s->result;
    r->streams++;
    r->segments += stream.segments;
    r->bytes += stream.bytes;
    r->stored_bytes += stream.stored_bytes;
    r->bad += stream.bad;
    if (stream.bad > 0) {
        note_wrong(&r->wrong, &stream.wrong);
    }
    if (!s->request->stream(s->request->context, &stream)) {
        return err_set(err, TIDE_ERR_BUSY, "given up");
    }
    return 0;
}

static int look_at_streams(struct survey *s, struct err *err)
{
    char **names = NULL;
    size_t count = 0;
    if (object_names(s->request->store, "streams", "", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        struct id id;
        rc = id_parse(names[k], &id) ? look_at_stream(s, &id, err) : 0;
    }
    object_names_free(names);
    return rc;
}

/* ---- points ---- */

static int compare(const void *left, const void *right)
{
    const struct reached *a = left;
    const struct reached *b = right;
    return id_compare(&a->stream, &b->stream);
}

/* The stream is stored through that LSN. -1: it is not, or cannot be read. */
static int reaches(struct survey *s, const char *stream, uint64_t lsn, struct err *err)
{
    struct id id;
    struct manifest m;
    if (stream == NULL || !id_parse(stream, &id)) {
        return err_set(err, TIDE_ERR_CORRUPT, "a disk without a stream");
    }
    struct reached key = {.stream = id};
    const struct reached *known = NULL;
    if (s->reached_count > 0) {
        known = bsearch(&key, s->reached, s->reached_count, sizeof(key), compare);
    }
    if (known != NULL && lsn > 0 && lsn <= known->lsn) {
        return 0;
    } /* else more may have come since */
    if (manifest_read(s->request->store, &id, &m, err) < 0) {
        return -1;
    }
    uint64_t last = m.segment_count > 0 ? m.segments[m.segment_count - 1].last : 0;
    manifest_close(&m);
    if (lsn == 0 || last < lsn) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "stream '%s' is stored through LSN %" PRIu64 ", not through %" PRIu64,
                       stream, last, lsn);
    }
    return 0;
}

static int judge_point(struct survey *s, const json_t *point, struct err *err)
{
    size_t i;
    size_t k;
    const json_t *member;
    const json_t *disk;
    size_t disks = 0;
    json_array_foreach(json_object_get(point, "members"), i, member)
    {
        json_array_foreach(json_object_get(member, "disks"), k, disk)
        {
            json_int_t lsn = json_integer_value(json_object_get(disk, "lsn"));
            const char *stream = json_string_value(json_object_get(disk, "stream"));
            if (reaches(s, stream, lsn > 0 ? (uint64_t)lsn : 0, err) < 0) {
                return -1;
            }
            disks++;
        }
    }
    return disks > 0 ? 0 : err_set(err, TIDE_ERR_CORRUPT, "it names no disk");
}

static int look_at_point(struct survey *s, const char *relative, struct err *err)
{
    uint8_t *text = NULL;
    size_t size = 0;
    json_t *point = NULL;
    struct err e = {0};
    int rc = object_get(s->request->store, relative, POINT_MAX, &text, &size, &e);
    if (rc == 0) {
        rc = jsontext_read(text, size, JSON_REJECT_DUPLICATES, &point, &e);
        free(text);
    }
    if (rc == 0) {
        rc = judge_point(s, point, &e);
        json_decref(point);
    }
    s->result->points++;
    if (rc < 0 && ends_all(&e)) {
        return err_set(err, e.code, "'%s/%s': %s", s->request->store, relative, e.text);
    }
    if (rc < 0) {
        err_wrap(&e, "'%s/%s'", s->request->store, relative);
        s->result->bad_points++;
        note_wrong(&s->result->wrong, &e);
    }
    return 0;
}

static int look_at_group(struct survey *s, const char *group, struct err *err)
{
    char folder[PATH_MAX];
    char relative[PATH_MAX + 300];
    char **names = NULL;
    size_t count = 0;
    snprintf(folder, sizeof(folder), "points/%.255s", group);
    if (object_names(s->request->store, folder, ".json", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        snprintf(relative, sizeof(relative), "%s/%s", folder, names[k]);
        rc = look_at_point(s, relative, err);
    }
    object_names_free(names);
    return rc;
}

static int look_at_points(struct survey *s, struct err *err)
{
    char **names = NULL;
    size_t count = 0;
    if (object_names(s->request->store, "points", "", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        rc = look_at_group(s, names[k], err);
    }
    object_names_free(names);
    return rc;
}

int survey_run(const struct survey_request *request, struct survey_result *ret, struct err *err)
{
    struct survey_result result = {0};
    struct survey s = {.request = request, .result = &result, .begun_us = clock_mono_us()};
    struct stat st;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/owner.json", request->store);
    if (stat(path, &st) != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "'%s' is no store: it has no 'owner.json'",
                       request->store);
    }
    int rc = look_at_streams(&s, err);
    if (rc == 0 && request->read) {
        rc = look_at_points(&s, err);
    }
    free(s.reached);
    if (rc == 0) {
        *ret = result;
    }
    return rc;
}
