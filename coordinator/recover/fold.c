/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/recover/fold.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/hrl/segment.h"
#include "common/io/file.h"
#include "coordinator/store/segment_file.h"

/* ---- one record ---- */

static int punch(const struct fold *f, uint64_t offset, uint64_t size, struct err *err)
{
    static const uint8_t zeroes[65536];
    if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) ==
        0) {
        return 0;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
        return file_err(err, errno, "zero a part of '%s'", f->path);
    }
    while (size > 0) {
        size_t part = size < sizeof(zeroes) ? (size_t)size : sizeof(zeroes);
        if (file_pwrite_full(f->fd, zeroes, part, offset, f->path, err) < 0) {
            return -1;
        }
        offset += part;
        size -= part;
    }
    return 0;
}

static int apply_write(struct fold *f, const struct record *r, struct err *err)
{
    if (r->write.offset > f->size || r->write.size > f->size - r->write.offset) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "LSN %" PRIu64 " writes past the end of the disk (%" PRIu64 " bytes)",
                       r->lsn, f->size);
    }
    f->records++;
    if (r->type == RECORD_ZERO) {
        return punch(f, r->write.offset, r->write.size, err);
    }
    f->bytes += r->write.size;
    return file_pwrite_full(f->fd, r->write.data, (size_t)r->write.size, r->write.offset, f->path,
                            err);
}

static int apply_size(struct fold *f, uint64_t size, struct err *err)
{
    if (ftruncate(f->fd, (off_t)size) < 0) {
        return file_err(err, errno, "give '%s' its size of %" PRIu64 " bytes", f->path, size);
    }
    f->size = size;
    return 0;
}

static int apply_attach(struct fold *f, const struct record *r, struct err *err)
{
    if (r->attach.size == f->size) {
        return 0;
    }
    f->gap_due = f->size != 0;
    return apply_size(f, r->attach.size, err);
}

static int apply_resize(struct fold *f, const struct record *r, struct err *err)
{
    if (r->resize.before != f->size) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "LSN %" PRIu64 " resizes a disk of %" PRIu64 " bytes, and it has %" PRIu64,
                       r->lsn, r->resize.before, f->size);
    }
    return apply_size(f, r->resize.size, err);
}

/* What tells of the disk, and so may not stand between an attach of another size and its gap. */
static bool tells(enum record_type type)
{
    return type == RECORD_WRITE || type == RECORD_ZERO || type == RECORD_COPY_BLOCK ||
           type == RECORD_COPY_BEGIN || type == RECORD_RESIZE || type == RECORD_BOOKMARK;
}

static int apply_record(struct fold *f, const struct record *r, struct err *err)
{
    if (f->gap_due && tells(r->type)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "LSN %" PRIu64 " follows an attach with another size (%" PRIu64
                       " bytes) without a gap between",
                       r->lsn, f->size);
    }
    whole_feed(&f->whole, r);
    f->last = r->type;
    f->lsn = r->lsn;
    switch ((unsigned)r->type) {
    case RECORD_WRITE:
    case RECORD_ZERO:
    case RECORD_COPY_BLOCK:
        return apply_write(f, r, err);
    case RECORD_ATTACH:
        return apply_attach(f, r, err);
    case RECORD_RESIZE:
        return apply_resize(f, r, err);
    case RECORD_BOOKMARK:
        f->round = r->bookmark.order.round;
        return 0;
    case RECORD_GAP:
        f->gap_due = false;
        f->gap_lsn = r->lsn;
        f->gap_reason = r->gap.reason;
        return 0;
    default:
        return 0;
    }
}

/* ---- segments ---- */

static int apply_bytes(struct fold *f, const struct manifest *m, const struct manifest_segment *s,
                       const uint8_t *bytes, size_t size, uint64_t lsn, struct err *err)
{
    struct source_part part = {.base = bytes, .size = size};
    struct source_memory memory = {.parts = &part, .count = 1};
    struct source source = source_memory(&memory);
    struct segment_reader reader;
    struct record record;
    if (segment_reader_init(&reader, &source, 0, f->buffer, TIDE_SEGMENT_BUFFER, err) < 0 ||
        segment_reader_verify(&reader, err) < 0) {
        return -1;
    }
    const struct segment_info *info = &reader.info;
    if (!hash_equal(&info->hash, &s->hash) || !id_equal(&info->header.stream, &m->stream.stream) ||
        info->header.first_lsn != s->first || info->last_lsn != s->last) {
        return err_set(err, TIDE_ERR_CORRUPT, "it is not the segment that the manifest lists");
    }
    if (!hash_equal(&info->header.before, &s->before) ||
        (f->incarnation != 0 && info->header.incarnation != f->incarnation)) {
        return err_set(err, TIDE_ERR_CORRUPT, "it does not follow the segment before it");
    }
    f->incarnation = info->last_incarnation;
    int rc;
    while ((rc = segment_reader_next(&reader, &record, NULL, NULL, err)) == 1) {
        if (record.lsn > f->lsn && record.lsn <= lsn && apply_record(f, &record, err) < 0) {
            return -1;
        }
    }
    return rc;
}

static int apply_segment(struct fold *f, const char *store, struct keyring *keyring,
                         const struct manifest *m, const struct manifest_segment *s, uint64_t lsn,
                         struct err *err)
{
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    manifest_segment_path(store, &m->stream.stream, s->first, s->last, path);
    if (segment_file_read(keyring, path, &bytes, &size, err) < 0) {
        return -1;
    }
    int rc = apply_bytes(f, m, s, bytes, size, lsn, err);
    free(bytes);
    if (rc < 0) {
        return err_wrap(err, "'%s'", path);
    }
    f->segments++;
    return 0;
}

int fold_run(struct fold *f, const char *store, struct keyring *keyring, const struct manifest *m,
             uint64_t lsn, fold_progress_fn *progress, void *context, struct err *err)
{
    uint64_t begun = f->lsn;
    uint64_t total = 0;
    uint64_t done = 0;
    if (lsn < begun) {
        return err_set(err, TIDE_ERR_USAGE,
                       "'%s' holds the disk as of LSN %" PRIu64
                       " already: an image goes only forward, not to %" PRIu64,
                       f->path, begun, lsn);
    }
    for (size_t k = 0; k < m->segment_count; k++) {
        const struct manifest_segment *s = &m->segments[k];
        total += s->last > begun && s->first <= lsn ? s->size : 0;
    }
    for (size_t k = 0; k < m->segment_count; k++) {
        const struct manifest_segment *s = &m->segments[k];
        if (s->last <= begun || s->first > lsn) {
            continue;
        }
        if (progress != NULL && !progress(context, done, total)) {
            return err_set(err, TIDE_ERR_BUSY, "given up at LSN %" PRIu64, f->lsn);
        }
        if (apply_segment(f, store, keyring, m, s, lsn, err) < 0) {
            return -1;
        }
        done += s->size;
    }
    if (progress != NULL && total > 0) {
        (void)progress(context, done, total);
    }
    if (f->lsn != lsn) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "the store has the stream only up to LSN %" PRIu64 ", not to %" PRIu64,
                       f->lsn, lsn);
    }
    return 0;
}

/* ---- begin and end ---- */

int fold_init(struct fold *f, int fd, const char *path, struct err *err)
{
    *f = (struct fold){.fd = fd, .path = path, .buffer = malloc(TIDE_SEGMENT_BUFFER)};
    whole_init(&f->whole);
    if (f->buffer == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to make '%s'", path);
    }
    return 0;
}

int fold_init_at_point(struct fold *f, int fd, const char *path, uint64_t lsn, uint64_t size,
                       struct err *err)
{
    if (fold_init(f, fd, path, err) < 0) {
        return -1;
    }
    whole_init_at_point(&f->whole);
    f->whole.size = size;
    f->lsn = lsn;
    f->size = size;
    return 0;
}

void fold_close(struct fold *f)
{
    free(f->buffer);
    f->buffer = NULL;
}
