/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/log_tail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/hrl/log.h"
#include "common/io/file.h"

struct folder {
    const char *path;
    unsigned count; /* of files */
    int fds[TIDE_LOG_FILES_MAX];
    uint64_t sizes[TIDE_LOG_FILES_MAX];
    bool used[TIDE_LOG_FILES_MAX];
    struct log_header headers[TIDE_LOG_FILES_MAX];
    uint64_t first; /* sequence of the oldest file in use, and the newest */
    uint64_t last;
    bool any; /* one is in use */
};

static int read_at(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                   size_t *ret_got, struct err *err)
{
    const struct folder *f = context;
    size_t got = 0;
    if (file >= f->count) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "log \"%s\" has no file %" PRIu64, f->path, file);
    }
    while (got < size) {
        ssize_t n = pread(f->fds[file], (uint8_t *)to + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return file_err(err, errno, "log \"%s\": cannot read file %" PRIu64, f->path, file);
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int size_of(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    const struct folder *f = context;
    if (file >= f->count) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "log \"%s\" has no file %" PRIu64, f->path, file);
    }
    *ret_size = f->sizes[file];
    return 0;
}

static void close_files(struct folder *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        close(f->fds[i]);
    }
}

static int open_files(struct folder *f, struct err *err)
{
    for (f->count = 0; f->count < TIDE_LOG_FILES_MAX; f->count++) {
        char path[PATH_MAX];
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/ring-%03u", f->path, f->count);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT) {
            break;
        }
        if (fd < 0 || fstat(fd, &st) != 0) {
            int error = errno;
            if (fd >= 0) {
                close(fd);
            }
            return file_err(err, error, "cannot open log file \"%s\"", path);
        }
        f->fds[f->count] = fd;
        f->sizes[f->count] = (uint64_t)st.st_size;
    }
    if (f->count < TIDE_LOG_FILES_MIN) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "no log of a tap in folder \"%s\": give the one of its log= parameter",
                       f->path);
    }
    return 0;
}

static int look_at_file(struct folder *f, unsigned i, struct err *err)
{
    static const uint8_t zeroes[TIDE_LOG_HEADER];
    uint8_t head[TIDE_LOG_HEADER] = {0};
    size_t got = 0;
    if (read_at(f, i, 0, head, sizeof head, &got, err) != 0) {
        return -1;
    }
    if (memcmp(head, zeroes, sizeof head) == 0) {
        return 0; /* preallocated, and not used yet */
    }
    struct log_header *h = &f->headers[i];
    if (log_header_decode(head, h, err) != 0) {
        return err_wrap(err, "log \"%s\", file ring-%03u", f->path, i);
    }
    unsigned any = (unsigned)(f->any ? f->first % f->count : i);
    if (h->sequence % f->count != i || h->file_size != f->sizes[i] ||
        !id_equal(&h->stream, &f->headers[any].stream)) {
        return err_set(err, TIDE_ERR_CORRUPT, "log \"%s\": file ring-%03u is not of this log",
                       f->path, i);
    }
    f->used[i] = true;
    f->first = !f->any || h->sequence < f->first ? h->sequence : f->first;
    f->last = !f->any || h->sequence > f->last ? h->sequence : f->last;
    f->any = true;
    return 0;
}

static void note(struct log_tail *tail, const struct record *record)
{
    tail->last_lsn = record->lsn;
    if (record->type == RECORD_ATTACH) {
        tail->attach_lsn = record->lsn;
        tail->attach = record->attach;
        tail->gap_reason = 0;
        tail->changes = 0;
        tail->changed_bytes = 0;
    } else if (record->type == RECORD_GAP && tail->gap_reason == 0) {
        tail->gap_reason = record->gap.reason;
    } else if (record->type == RECORD_WRITE ||
               (record->type == RECORD_ZERO && !record->write.copy)) {
        tail->changes++;
        tail->changed_bytes += record->write.size;
    }
}

/* All records of one file; a file whose end is not reached is the newest, or broken off. */
static int read_file(struct folder *f, const struct log_header *h, void *buffer,
                     struct log_tail *tail, struct err *err)
{
    const struct source source = {.read = read_at, .size = size_of, .context = f};
    const struct log_ring ring = {
        .stream = h->stream, .files = f->count, .file_size = h->file_size};
    struct log_reader reader;
    log_reader_init(&reader, &source, &ring, h->sequence * h->file_size, h->first_lsn,
                    h->incarnation, buffer, TIDE_LOG_BUFFER);
    for (;;) {
        struct record record;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        if (log_reader_next(&reader, &record, &bytes, &size, err) != 0) {
            return err_wrap(err, "log \"%s\"", f->path);
        }
        if (reader.end != LOG_END_NONE || (reader.position - size) / h->file_size != h->sequence) {
            return 0;
        }
        note(tail, &record);
    }
}

static int read_records(struct folder *f, struct log_tail *tail, struct err *err)
{
    int result = 0;
    uint8_t *buffer = malloc(TIDE_LOG_BUFFER);
    TIDE_CHECK(buffer != NULL);
    for (uint64_t s = f->first; f->any && s <= f->last && result == 0; s++) {
        const struct log_header *h = &f->headers[s % f->count];
        if (f->used[s % f->count] && h->sequence == s) {
            tail->stream = h->stream;
            result = read_file(f, h, buffer, tail, err);
        }
    }
    free(buffer);
    return result;
}

int log_tail_read(const char *path, struct log_tail *ret, struct err *err)
{
    struct folder f = {.path = path};
    struct log_tail tail = {0};
    int result = open_files(&f, err);
    for (unsigned i = 0; i < f.count && result == 0; i++) {
        tail.size += f.sizes[i];
        result = look_at_file(&f, i, err);
    }
    if (result == 0) {
        result = read_records(&f, &tail, err);
    }
    close_files(&f);
    if (result == 0) {
        *ret = tail;
    }
    return result;
}

int log_tail_is_free(const char *folder, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/state", folder);
    if (access(path, F_OK) != 0) {
        return err_set(err, errno == ENOENT || errno == ENOTDIR ? TIDE_ERR_NOT_FOUND : TIDE_ERR_IO,
                       "no log of a tap in folder \"%s\": %s; give the one of its log= parameter",
                       folder, strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/lock", folder);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return 0;
    }
    int result = fd < 0 ? -1 : flock(fd, LOCK_EX | LOCK_NB);
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (result != 0 && error == EWOULDBLOCK) {
        return err_set(err, TIDE_ERR_BUSY,
                       "log \"%s\" is served by a tap now: end that one first (`tidemark disk "
                       "detach`, or its nbdkit)",
                       folder);
    }
    return result == 0 ? 0 : file_err(err, error, "cannot lock \"%s\"", path);
}
