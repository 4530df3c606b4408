/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/hrl/segment.h"
#include "common/io/file.h"
#include "coordinator/store/owner.h"
#include "coordinator/store/staged.h"

#define RECENT 64U /* segments of a stream that are known without reading its manifest */

struct stream {
    pthread_mutex_t lock; /* guards what follows `about`, and the manifest file */
    struct manifest_stream about;
    struct store_stream_state state;
    uint64_t incarnation;                   /* in force behind what is stored; 0: nothing is */
    uint64_t manifest_size;                 /* bytes that are whole and durable */
    struct manifest_segment recent[RECENT]; /* a ring, by count */
    uint64_t count;                         /* segments stored */
    struct staged staged;
};

struct store {
    char *path;
    int owner_fd; /* locked while open */
    struct segment_form form;
    store_note_fn *note;
    void *note_context;
    pthread_rwlock_t lock;   /* guards the two below; taken before a stream's lock, or alone */
    struct stream **streams; /* sorted by id */
    size_t stream_count;
};

static void note(struct store *store, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note(struct store *store, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (store->note != NULL) {
        store->note(store->note_context, text);
    }
}

/* ---- the table of streams ---- */

static size_t place(const struct store *store, const struct id *id)
{
    size_t low = 0;
    size_t high = store->stream_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (id_compare(&store->streams[mid]->about.stream, id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* A stream is never taken out while the store is open, so the pointer stays good. */
static struct stream *find(struct store *store, const struct id *id)
{
    pthread_rwlock_rdlock(&store->lock);
    size_t at = place(store, id);
    struct stream *s = NULL;
    if (at < store->stream_count && id_equal(&store->streams[at]->about.stream, id)) {
        s = store->streams[at];
    }
    pthread_rwlock_unlock(&store->lock);
    return s;
}

static struct stream *stream_new(const struct manifest_stream *about)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->about = *about;
        pthread_mutex_init(&s->lock, NULL);
    }
    return s;
}

static void stream_free(struct stream *s)
{
    if (s != NULL) {
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

static int insert(struct store *store, struct stream *s, struct err *err)
{
    int rc = 0;
    pthread_rwlock_wrlock(&store->lock);
    if (store->stream_count == TIDE_STORE_STREAMS_MAX) {
        rc = err_set(err, TIDE_ERR_LIMIT, "the store has %u streams, its most",
                     TIDE_STORE_STREAMS_MAX);
    }
    struct stream **more = NULL;
    if (rc == 0) {
        more = realloc(store->streams, (store->stream_count + 1) * sizeof(*more));
        if (more == NULL) {
            rc = err_set(err, TIDE_ERR_LIMIT, "no memory for a stream");
        }
    }
    if (rc == 0) {
        store->streams = more;
        size_t at = place(store, &s->about.stream);
        memmove(&more[at + 1], &more[at], (store->stream_count - at) * sizeof(*more));
        more[at] = s;
        store->stream_count++;
    }
    pthread_rwlock_unlock(&store->lock);
    return rc;
}

/* ---- the manifest, under the stream's lock ---- */

static int append(struct store *store, struct stream *s, const char *text, size_t size,
                  struct err *err)
{
    char path[PATH_MAX];
    manifest_path(store->path, &s->about.stream, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return file_err(err, errno, "open '%s'", path);
    }
    int rc = file_pwrite_full(fd, text, size, s->manifest_size, path, err);
    if (rc == 0 && fdatasync(fd) < 0) {
        rc = file_err(err, errno, "sync '%s'", path);
    }
    if (rc == 0) {
        s->manifest_size += size;
    } else if (ftruncate(fd, (off_t)s->manifest_size) < 0) {
        /* What is half written is written over by the next append, or dropped at the next start. */
        note(store, "cannot cut back '%s': %s", path, strerror(errno));
    }
    close(fd);
    return rc;
}

static void remember(struct stream *s, const struct manifest_segment *segment)
{
    s->recent[s->count % RECENT] = *segment;
    s->count++;
    s->incarnation = segment->last_incarnation;
    s->state.stored_lsn = segment->last;
    s->state.head = segment->hash;
}

/* The stored segment that begins at first; 1 found, 0 none begins there, -1. */
static int stored_at(struct store *store, const struct stream *s, uint64_t first,
                     struct manifest_segment *ret, struct err *err)
{
    uint64_t known = s->count < RECENT ? s->count : RECENT;
    for (uint64_t k = 0; k < known; k++) {
        if (s->recent[k].first == first) {
            *ret = s->recent[k];
            return 1;
        }
    }
    if (known == s->count) {
        return 0;
    }
    struct manifest m;
    if (manifest_read(store->path, &s->about.stream, &m, err) < 0) {
        return -1;
    }
    int found = 0;
    for (size_t k = 0; k < m.segment_count && found == 0; k++) {
        if (m.segments[k].first == first) {
            *ret = m.segments[k];
            found = 1;
        }
    }
    manifest_close(&m);
    return found;
}

/* ---- putting ---- */

static int forked(struct store *store, struct stream *s, const struct manifest_segment *segment,
                  const char *what, struct err *err)
{
    char line[TIDE_MANIFEST_LINE];
    char hex[TIDE_ID_HEX];
    struct err e = {0};
    id_hex(&s->about.stream, hex);
    s->state.forked = true;
    size_t size = manifest_line_fork(segment->first, &segment->hash, line);
    if (append(store, s, line, size, &e) < 0) {
        note(store, "stream %s: its fork could not be recorded: %s", hex, e.text);
    }
    staged_drop(&s->staged, store->path, &s->about.stream, UINT64_MAX);
    note(store, "ALARM: fork: stream %s (%s/%s/%s) is stopped: %s", hex, s->about.group.s,
         s->about.member.s, s->about.disk.s, what);
    return err_set(err, TIDE_ERR_CONFLICT,
                   "fork: %s; stream '%s' is stopped and goes on only as a new timeline after a "
                   "resync",
                   what, hex);
}

/* Its file among the stored ones: the staged one moved, or written. */
static int place_segment(struct store *store, struct stream *s,
                         const struct manifest_segment *segment, const void *bytes,
                         const char *path, struct err *err)
{
    const struct manifest_segment *there = staged_at(&s->staged, segment->first);
    if (there != NULL && there->last == segment->last && hash_equal(&there->hash, &segment->hash)) {
        return staged_move(&s->staged, store->path, &s->about.stream, segment->first, err);
    }
    return segment_file_write(&store->form, &s->about.group, path, bytes, segment->size, err);
}

static int write_segment(struct store *store, struct stream *s,
                         const struct manifest_segment *segment, const void *bytes, struct err *err)
{
    char path[PATH_MAX];
    char line[TIDE_MANIFEST_LINE];
    manifest_segment_path(store->path, &s->about.stream, segment->first, segment->last, path);
    if (place_segment(store, s, segment, bytes, path, err) < 0) {
        return -1;
    }
    size_t size = manifest_line_segment(segment, line);
    if (append(store, s, line, size, err) < 0) {
        unlink(path);
        return -1;
    }
    remember(s, segment);
    staged_drop(&s->staged, store->path, &s->about.stream, segment->last);
    return 0;
}

static int stage(struct store *store, struct stream *s, const struct manifest_segment *segment,
                 const void *bytes, enum store_put *ret_put, struct err *err)
{
    bool known = false;
    if (staged_put(&s->staged, store->path, &store->form, segment, &s->about, bytes,
                   s->state.stored_lsn + 1, &known, err) < 0) {
        return -1;
    }
    *ret_put = known ? STORE_KNOWN : STORE_STAGED;
    return 0;
}

/* The hash alone does not do: a log that was restored to an earlier state learns it from here, and
 * what it has at the LSN that is due does not go on from what is stored. */
static bool follows(const struct stream *s, const struct manifest_segment *segment)
{
    return hash_equal(&segment->before, &s->state.head) && segment->incarnation == s->incarnation;
}

static int put_locked(struct store *store, struct stream *s, const struct manifest_segment *segment,
                      const void *bytes, enum store_put *ret_put, struct err *err)
{
    char hex[TIDE_ID_HEX];
    char what[256];
    id_hex(&s->about.stream, hex);
    if (s->state.forked || s->state.damaged) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "stream '%s' is stopped by %s; it goes on only as a new timeline after a "
                       "resync",
                       hex, s->state.forked ? "a fork" : "damage in the store, see its log");
    }
    uint64_t due = s->state.stored_lsn + 1;
    if (segment->first > due) {
        return stage(store, s, segment, bytes, ret_put, err);
    }
    if (segment->first < due) {
        struct manifest_segment there;
        int found = stored_at(store, s, segment->first, &there, err);
        if (found < 0) {
            return -1;
        }
        if (found == 1 && hash_equal(&there.hash, &segment->hash)) {
            *ret_put = STORE_KNOWN;
            return 0;
        }
        snprintf(what, sizeof(what), "LSN %" PRIu64 " came again with another content",
                 segment->first);
        return forked(store, s, segment, what, err);
    }
    if (!follows(s, segment)) {
        snprintf(what, sizeof(what),
                 "the segment at LSN %" PRIu64 " follows another %s than the last stored",
                 segment->first,
                 hash_equal(&segment->before, &s->state.head) ? "incarnation" : "one");
        return forked(store, s, segment, what, err);
    }
    if (write_segment(store, s, segment, bytes, err) < 0) {
        return -1;
    }
    *ret_put = STORE_TAKEN;
    return 0;
}

static struct store_stream_state state_of(const struct stream *s)
{
    struct store_stream_state state = s->state;
    state.received_lsn = staged_received(&s->staged, state.stored_lsn);
    return state;
}

int store_put(struct store *store, const struct id *stream, const struct manifest_segment *segment,
              const void *bytes, enum store_put *ret_put, struct store_stream_state *ret_state,
              struct err *err)
{
    TIDE_CHECK(segment->first > 0 && segment->last >= segment->first);
    struct stream *s = find(store, stream);
    if (s == NULL) {
        char hex[TIDE_ID_HEX];
        return err_set(err, TIDE_ERR_NOT_FOUND, "stream '%s' is not registered here",
                       id_hex(stream, hex));
    }
    pthread_mutex_lock(&s->lock);
    int rc = put_locked(store, s, segment, bytes, ret_put, err);
    *ret_state = state_of(s);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_tag(struct store *store, const struct id *stream, const struct manifest_tag *tag,
              struct err *err)
{
    char line[TIDE_MANIFEST_LINE];
    struct stream *s = find(store, stream);
    if (s == NULL) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "the stream to be tagged is not registered here");
    }
    size_t size = manifest_line_tag(tag, line);
    pthread_mutex_lock(&s->lock);
    int rc = append(store, s, line, size, err);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* ---- streams ---- */

/* The size may be another: the disk was resized, and of that the stream itself tells. */
static bool same_stream(const struct manifest_stream *a, const struct manifest_stream *b)
{
    return id_equal(&a->timeline, &b->timeline) && id_equal(&a->disk_id, &b->disk_id) &&
           a->block_size == b->block_size;
}

/* A stream that is in the folder and could not be opened at the start must not be begun anew: that
 * would write over the one list of what was stored. */
static bool is_left_out(const struct store *store, const struct id *stream, struct err *err)
{
    char hex[TIDE_ID_HEX];
    struct manifest m;
    struct err e = {0};
    if (manifest_read(store->path, stream, &m, &e) == 0) {
        bool begun = m.segment_count > 0;
        manifest_close(&m);
        if (!begun) {
            return false; /* made just now, and then there was no memory for it */
        }
        err_set(&e, TIDE_ERR_CONFLICT, "it was not there at the start; start again");
    } else if (e.code == TIDE_ERR_NOT_FOUND) {
        return false;
    } else if (e.code == TIDE_ERR_LIMIT) {
        err_set(err, e.code, "%s", e.text);
        return true;
    }
    err_set(err, TIDE_ERR_CONFLICT,
            "stream '%s' is in the store and could not be opened; mend it and start the "
            "coordinator again: %s",
            id_hex(stream, hex), e.text);
    return true;
}

int store_stream_create(struct store *store, const struct manifest_stream *about, struct err *err)
{
    char line[TIDE_MANIFEST_LINE];
    char path[PATH_MAX];
    char hex[TIDE_ID_HEX];
    struct stream *s = find(store, &about->stream);
    if (s != NULL) {
        if (!same_stream(&s->about, about)) {
            return err_set(err, TIDE_ERR_CONFLICT,
                           "stream '%s' is known with another timeline, disk or block size",
                           id_hex(&about->stream, hex));
        }
        return 0;
    }
    if (is_left_out(store, &about->stream, err)) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/streams/%s/segments", store->path,
             id_hex(&about->stream, hex));
    if (file_mkdirs(path, 0750, err) < 0) {
        return -1;
    }
    manifest_path(store->path, &about->stream, path);
    size_t size = manifest_line_created(about, line);
    if (file_replace(path, line, size, 0640, err) < 0) {
        return -1;
    }
    s = stream_new(about);
    if (s == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a stream");
    }
    s->manifest_size = size;
    if (insert(store, s, err) < 0) {
        stream_free(s);
        return -1;
    }
    return 0;
}

bool store_stream_get(struct store *store, const struct id *stream,
                      struct manifest_stream *ret_stream, struct store_stream_state *ret_state)
{
    struct stream *s = find(store, stream);
    if (s == NULL) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    *ret_stream = s->about;
    *ret_state = state_of(s);
    pthread_mutex_unlock(&s->lock);
    return true;
}

int store_stream_each(struct store *store, store_stream_fn *fn, void *context, struct err *err)
{
    for (size_t k = 0; k < store->stream_count; k++) {
        if (fn(context, &store->streams[k]->about, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- segments ---- */

int store_check_segment(const void *bytes, size_t size, struct segment_info *ret, struct err *err)
{
    struct source_part part = {.base = bytes, .size = size};
    struct source_memory memory = {.parts = &part, .count = 1};
    struct source source = source_memory(&memory);
    uint8_t *buffer = malloc(TIDE_SEGMENT_BUFFER);
    if (buffer == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to check a segment");
    }
    int rc = segment_verify(&source, 0, buffer, TIDE_SEGMENT_BUFFER, ret, err);
    free(buffer);
    return rc;
}

/* ---- recovery at start ---- */

static bool is_over(const char *path, uint64_t limit)
{
    struct stat st;
    return stat(path, &st) == 0 && (uint64_t)st.st_size > limit;
}

/* Reads and verifies a segment file of stream s that spans first..last. *ret_bytes is from malloc.
 * LIMIT: no memory, which says nothing of the file. */
static int read_back(struct store *store, struct stream *s, const char *path, uint64_t first,
                     uint64_t last, struct manifest_segment *ret, uint8_t **ret_bytes,
                     struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (is_over(path, box_size_max(TIDE_SEGMENT_MAX, BOX_BLOCK))) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s' is larger than any segment", path);
    }
    if (segment_file_read(store->form.keyring, path, &bytes, &size, err) < 0) {
        return -1;
    }
    struct segment_info info;
    int rc = store_check_segment(bytes, size, &info, err);
    if (rc == 0 && (!id_equal(&info.header.stream, &s->about.stream) ||
                    !id_equal(&info.header.timeline, &s->about.timeline) ||
                    info.header.first_lsn != first || info.last_lsn != last)) {
        rc = err_set(err, TIDE_ERR_CORRUPT, "is of another stream or range than its name says");
    }
    if (rc < 0) {
        free(bytes);
        return err_wrap(err, "'%s'", path);
    }
    *ret = (struct manifest_segment){.first = first,
                                     .last = last,
                                     .hash = info.hash,
                                     .before = info.header.before,
                                     .incarnation = info.header.incarnation,
                                     .last_incarnation = info.last_incarnation,
                                     .size = size};
    *ret_bytes = bytes;
    return 0;
}

static int verify(struct store *store, struct stream *s, uint64_t first, uint64_t last,
                  struct manifest_segment *ret, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    manifest_segment_path(store->path, &s->about.stream, first, last, path);
    int rc = read_back(store, s, path, first, last, ret, &bytes, err);
    free(bytes);
    return rc;
}

/* Under the stream's lock. */
static bool staged_due(struct store *store, struct stream *s, struct manifest_segment *ret,
                       uint8_t **ret_bytes)
{
    char path[PATH_MAX];
    char hex[TIDE_ID_HEX];
    struct err e = {0};
    struct manifest_segment *there = staged_at(&s->staged, s->state.stored_lsn + 1);
    if (there == NULL || s->state.forked || s->state.damaged) {
        return false;
    }
    manifest_staged_path(store->path, &s->about.stream, there->first, there->last, path);
    if (read_back(store, s, path, there->first, there->last, ret, ret_bytes, &e) == 0) {
        if (!hash_is_zero(&there->hash) && !hash_equal(&there->hash, &ret->hash)) {
            free(*ret_bytes);
            err_set(&e, TIDE_ERR_CORRUPT, "'%s': it is not what came", path);
        } else {
            there->hash = ret->hash;
            return true;
        }
    }
    bool stays = e.code == TIDE_ERR_IO || e.code == TIDE_ERR_LIMIT;
    note(store, "stream %s: staged segment %" PRIu64 "-%" PRIu64 " %s: %s",
         id_hex(&s->about.stream, hex), there->first, there->last,
         stays ? "cannot be read now" : "is dropped", e.text);
    if (!stays) {
        staged_drop(&s->staged, store->path, &s->about.stream, there->first);
    }
    return false;
}

bool store_staged_due(struct store *store, const struct id *stream, struct manifest_segment *ret,
                      uint8_t **ret_bytes)
{
    struct stream *s = find(store, stream);
    if (s == NULL) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    bool due = staged_due(store, s, ret, ret_bytes);
    pthread_mutex_unlock(&s->lock);
    return due;
}

/* A file that the manifest does not list: a crash between its rename and its line, if it is what
 * was due. */
static int adopt(struct store *store, struct stream *s, uint64_t first, uint64_t last,
                 struct err *err)
{
    char line[TIDE_MANIFEST_LINE];
    char hex[TIDE_ID_HEX];
    struct manifest_segment segment;
    struct err e = {0};
    id_hex(&s->about.stream, hex);
    int rc = -1;
    if (first != s->state.stored_lsn + 1) {
        err_set(&e, TIDE_ERR_CORRUPT, "LSN %" PRIu64 " is due", s->state.stored_lsn + 1);
    } else if (verify(store, s, first, last, &segment, &e) == 0) {
        rc = follows(s, &segment) ? 0 : err_set(&e, TIDE_ERR_CORRUPT, "it follows another segment");
    } else if (e.code == TIDE_ERR_LIMIT) {
        return err_set(err, e.code, "%s", e.text);
    }
    if (rc < 0) {
        note(store,
             "stream %s: segment %" PRIu64 "-%" PRIu64 " was never answered as stored and "
             "is left out: %s",
             hex, first, last, e.text);
        return 0;
    }
    if (append(store, s, line, manifest_line_segment(&segment, line), err) < 0) {
        return -1;
    }
    remember(s, &segment);
    note(store,
         "stream %s: segment %" PRIu64 "-%" PRIu64 " was stored but not yet listed; listed "
         "now",
         hex, first, last);
    return 0;
}

static int sweep(struct store *store, struct stream *s, const struct manifest *m, struct err *err)
{
    char hex[TIDE_ID_HEX];
    char relative[PATH_MAX];
    char path[PATH_MAX + 300];
    char **names = NULL;
    size_t count = 0;
    snprintf(relative, sizeof(relative), "streams/%s/segments", id_hex(&s->about.stream, hex));
    if (object_names(store->path, relative, "", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    size_t listed = 0; /* both lists are sorted: walk them together */
    for (size_t k = 0; k < count && rc == 0; k++) {
        uint64_t first = 0;
        uint64_t last = 0;
        if (!manifest_segment_name(names[k], &first, &last)) {
            snprintf(path, sizeof(path), "%s/%s/%s", store->path, relative, names[k]);
            note(store, "stream %s: '%s' was never finished; removed", hex, names[k]);
            unlink(path);
            continue;
        }
        while (listed < m->segment_count && m->segments[listed].first < first) {
            note(store, "ALARM: stream %s: segment %" PRIu64 "-%" PRIu64 " is gone from the folder",
                 hex, m->segments[listed].first, m->segments[listed].last);
            s->state.damaged = true;
            listed++;
        }
        if (listed < m->segment_count && m->segments[listed].first == first &&
            m->segments[listed].last == last) {
            listed++;
        } else {
            rc = adopt(store, s, first, last, err);
        }
    }
    if (listed < m->segment_count) {
        note(store, "ALARM: stream %s: segment %" PRIu64 "-%" PRIu64 " is gone from the folder",
             hex, m->segments[listed].first, m->segments[listed].last);
        s->state.damaged = true;
    }
    object_names_free(names);
    return rc;
}

/* What came early: kept, and taken where what was before it was stored just before the end. */
static int recover_staged(struct store *store, struct stream *s, struct err *err)
{
    char hex[TIDE_ID_HEX];
    struct manifest_segment segment;
    uint8_t *bytes = NULL;
    unsigned gone = 0;
    uint64_t through = s->state.forked || s->state.damaged ? UINT64_MAX : s->state.stored_lsn;
    if (staged_load(&s->staged, store->path, &s->about.stream, through, &gone, err) < 0) {
        return -1;
    }
    if (gone > 0) {
        note(store, "stream %s: %u staged segments are of no use any more; removed",
             id_hex(&s->about.stream, hex), gone);
    }
    while (staged_due(store, s, &segment, &bytes)) {
        enum store_put put = STORE_KNOWN;
        struct err e = {0};
        int rc = put_locked(store, s, &segment, bytes, &put, &e);
        free(bytes);
        if (rc < 0) {
            note(store, "stream %s: staged segment %" PRIu64 "-%" PRIu64 " is not taken: %s",
                 id_hex(&s->about.stream, hex), segment.first, segment.last, e.text);
            break;
        }
    }
    return 0;
}

static int recover_stream(struct store *store, struct stream *s, const struct manifest *m,
                          struct err *err)
{
    char hex[TIDE_ID_HEX];
    char path[PATH_MAX];
    id_hex(&s->about.stream, hex);
    manifest_path(store->path, &s->about.stream, path);
    s->manifest_size = m->whole_size;
    s->state.forked = m->forked;
    if (m->torn) {
        note(store, "stream %s: the manifest's last line was torn; cut off", hex);
        if (truncate(path, (off_t)m->whole_size) < 0) {
            return file_err(err, errno, "cut back '%s'", path);
        }
    }
    for (size_t k = 0; k < m->segment_count; k++) {
        remember(s, &m->segments[k]);
    }
    if (m->segment_count > 0) {
        const struct manifest_segment *last = &m->segments[m->segment_count - 1];
        struct manifest_segment there;
        struct err e = {0};
        if (verify(store, s, last->first, last->last, &there, &e) < 0) {
            if (e.code == TIDE_ERR_LIMIT) {
                return err_set(err, e.code, "%s", e.text);
            }
            note(store, "ALARM: stream %s: its last segment: %s", hex, e.text);
            s->state.damaged = true;
        } else if (!hash_equal(&there.hash, &last->hash)) {
            note(store, "ALARM: stream %s: its last segment is not what the manifest says", hex);
            s->state.damaged = true;
        } else {
            s->incarnation = there.last_incarnation;
        }
    }
    int rc = sweep(store, s, m, err);
    return rc == 0 ? recover_staged(store, s, err) : rc;
}

static int recover_one(struct store *store, const char *name, struct err *err)
{
    struct id id;
    struct manifest m;
    struct err e = {0};
    if (!id_parse(name, &id)) {
        note(store, "'%s/streams/%s' is not a stream's folder; passed over", store->path, name);
        return 0;
    }
    if (manifest_read(store->path, &id, &m, &e) < 0) {
        char path[PATH_MAX];
        manifest_path(store->path, &id, path);
        if (e.code == TIDE_ERR_LIMIT && !is_over(path, TIDE_MANIFEST_MAX)) {
            return err_set(err, e.code, "%s", e.text); /* no memory */
        }
        if (e.code == TIDE_ERR_NOT_FOUND) {
            note(store, "stream %s: its registration was never finished; passed over", name);
        } else {
            note(store, "ALARM: stream %s is left out: %s", name, e.text);
        }
        return 0;
    }
    struct stream *s = stream_new(&m.stream);
    int rc = -1;
    if (s == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for a stream");
    } else {
        rc = recover_stream(store, s, &m, err);
        if (rc == 0) {
            rc = insert(store, s, err);
        }
        if (rc < 0) {
            stream_free(s);
        }
    }
    manifest_close(&m);
    return rc;
}

static int recover(struct store *store, struct err *err)
{
    char **names = NULL;
    size_t count = 0;
    if (object_names(store->path, "streams", "", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        rc = recover_one(store, names[k], err);
    }
    object_names_free(names);
    return rc;
}

int store_open(const char *path, const struct segment_form *form, store_note_fn *note_fn,
               void *context, struct store **ret, struct err *err)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to open a store");
    }
    store->owner_fd = -1;
    if (form != NULL) {
        store->form = *form;
    }
    store->note = note_fn;
    store->note_context = context;
    pthread_rwlock_init(&store->lock, NULL);
    store->path = strdup(path);
    if (store->path == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory to open a store");
    } else if (file_mkdirs(path, 0750, err) == 0 &&
               (store->owner_fd = owner_lock(path, err)) >= 0 && recover(store, err) == 0) {
        *ret = store;
        return 0;
    }
    store_close(store);
    return -1;
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    for (size_t k = 0; k < store->stream_count; k++) {
        stream_free(store->streams[k]);
    }
    free(store->streams);
    if (store->owner_fd >= 0) {
        close(store->owner_fd);
    }
    pthread_rwlock_destroy(&store->lock);
    free(store->path);
    free(store);
}

const char *store_path(const struct store *store)
{
    return store->path;
}

struct keyring *store_keyring(const struct store *store)
{
    return store->form.keyring;
}
