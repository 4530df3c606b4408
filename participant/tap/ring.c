/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/ring.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE_AIM (8U * 1024 * 1024)
#define FILES_MIN     4U
#define PAGE          4096U
#define PARTS_MAX     4

struct log_ring ring_geometry(uint64_t bytes, const struct id *stream)
{
    TIDE_CHECK(bytes >= TIDE_RING_SIZE_MIN && bytes <= TIDE_RING_SIZE_MAX);
    uint64_t files = bytes / FILE_SIZE_AIM;
    files = files < FILES_MIN ? FILES_MIN : files > TIDE_LOG_FILES_MAX ? TIDE_LOG_FILES_MAX : files;
    return (struct log_ring){
        .stream = *stream, .files = (uint32_t)files, .file_size = bytes / files / 4096 * 4096};
}

static uint64_t slot(const struct ring *ring, uint64_t sequence)
{
    return sequence % ring->geometry.files;
}

static void clear(struct ring *ring, const struct log_ring *geometry)
{
    *ring = (struct ring){.geometry = *geometry, .empty = true};
    for (size_t i = 0; i < TIDE_LOG_FILES_MAX; i++) {
        ring->fds[i] = -1;
    }
}

static int open_file(struct ring *ring, const char *folder, uint32_t i, bool create,
                     struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/ring-%03u", folder, (unsigned)i);
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
    ring->fds[i] = fd;
    if (fd < 0) {
        return err_set(err, errno == ENOENT ? TIDE_ERR_NOT_FOUND : TIDE_ERR_IO,
                       "cannot open log file \"%s\": %s", path, strerror(errno));
    }
    if (create) {
        int why = posix_fallocate(fd, 0, (off_t)ring->geometry.file_size);
        if (why == 0 && fsync(fd) != 0) {
            why = errno;
        }
        if (why != 0) {
            return err_set(
                err, why == ENOSPC ? TIDE_ERR_FULL : TIDE_ERR_IO,
                "cannot reserve %llu bytes for log file \"%s\": %s; free space or give a "
                "smaller log-size",
                (unsigned long long)ring->geometry.file_size, path, strerror(why));
        }
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != ring->geometry.file_size) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "log file \"%s\" is not %llu bytes: move the log folder away to start a new "
                       "stream",
                       path, (unsigned long long)ring->geometry.file_size);
    }
    return 0;
}

static int open_all(struct ring *ring, const char *folder, const struct log_ring *geometry,
                    bool create, struct err *err)
{
    clear(ring, geometry);
    for (uint32_t i = 0; i < geometry->files; i++) {
        if (open_file(ring, folder, i, create, err) != 0) {
            ring_close(ring);
            return -1;
        }
    }
    return 0;
}

int ring_create(struct ring *ring, const char *folder, const struct log_ring *geometry,
                struct err *err)
{
    if (open_all(ring, folder, geometry, true, err) != 0) {
        return -1;
    }
    if (file_sync_folder(folder) != 0) {
        ring_close(ring);
        return err_set(err, TIDE_ERR_IO, "cannot sync folder \"%s\": %s", folder, strerror(errno));
    }
    return 0;
}

int ring_open(struct ring *ring, const char *folder, const struct log_ring *geometry,
              struct err *err)
{
    return open_all(ring, folder, geometry, false, err);
}

void ring_close(struct ring *ring)
{
    for (size_t i = 0; i < TIDE_LOG_FILES_MAX; i++) {
        if (ring->fds[i] >= 0) {
            close(ring->fds[i]);
            ring->fds[i] = -1;
        }
    }
}

static int read_part(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                     size_t *ret_got, struct err *err)
{
    const struct ring *ring = context;
    if (file >= ring->geometry.files) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "no log file %llu", (unsigned long long)file);
    }
    uint64_t left = offset < ring->geometry.file_size ? ring->geometry.file_size - offset : 0;
    size_t part = size < left ? size : (size_t)left;
    if (part > 0 && file_read(ring->fds[file], to, part, offset) != 0) {
        return err_set(err, TIDE_ERR_IO, "cannot read log file %llu: %s", (unsigned long long)file,
                       strerror(errno));
    }
    *ret_got = part;
    return 0;
}

static int size_of(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    const struct ring *ring = context;
    if (file >= ring->geometry.files) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "no log file %llu", (unsigned long long)file);
    }
    *ret_size = ring->geometry.file_size;
    return 0;
}

struct source ring_source(struct ring *ring)
{
    return (struct source){.read = read_part, .size = size_of, .context = ring};
}

int ring_resume(struct ring *ring, uint64_t position, uint64_t lsn, uint64_t incarnation,
                struct err *err)
{
    ring->position = ring->covered = position;
    ring->incarnation = incarnation;
    ring->empty = position == 0;
    if (ring->empty) {
        return 0;
    }
    /* A position at the very end of a file belongs to that file, not yet to the next one. */
    ring->head = (position - 1) / ring->geometry.file_size;
    ring->tail = ring->head;
    struct source source = ring_source(ring);
    uint64_t newer = lsn;
    for (uint64_t s = ring->head;; s--) {
        struct log_header header;
        if (log_read_header(&source, &ring->geometry, s, &header, err) != 0) {
            if (s == ring->head) {
                return err_wrap(err, "the log ends in a file without its header");
            }
            break; /* that place holds an older or a newer file */
        }
        if (header.first_lsn > newer) {
            break;
        }
        newer = header.first_lsn;
        ring->tail = s;
        ring->first_lsn[slot(ring, s)] = header.first_lsn;
        ring->incarnations[slot(ring, s)] = header.incarnation;
        if (s == 0 || ring->head - s + 1 == ring->geometry.files) {
            break;
        }
    }
    ring->retired = ring->tail;
    return 0;
}

int ring_forget(const struct ring *ring)
{
    static const uint8_t zeroes[TIDE_RECORD_HEADER];
    uint64_t offset = ring->position % ring->geometry.file_size;
    uint64_t left = ring->geometry.file_size - offset;
    if (ring->empty || offset == 0 || PLANTED(END_KEPT)) { /* a file's end has nothing behind it */
        return 0;
    }
    return file_write(ring->fds[slot(ring, ring->head)], zeroes,
                      left < sizeof zeroes ? (size_t)left : sizeof zeroes, offset);
}

void ring_restart(struct ring *ring, const struct id *stream)
{
    ring->geometry.stream = *stream;
    ring->position = ring->covered = ring->incarnation = 0;
    ring->tail = ring->retired = ring->head = 0;
    ring->empty = true;
}

bool ring_room(const struct ring *ring, uint64_t size, uint64_t reserve)
{
    uint64_t file_size = ring->geometry.file_size;
    uint64_t left = 0; /* in the head file */
    uint64_t files = ring->geometry.files;
    uint64_t fresh = files; /* files that can be begun */
    if (!ring->empty) {
        left = (ring->head + 1) * file_size - ring->position;
        fresh = files - (ring->head - ring->retired + 1);
    }
    if (left < size) {
        if (fresh == 0) {
            return false;
        }
        fresh--;
        left = file_size - TIDE_LOG_HEADER;
    }
    return left >= size && (fresh > 0 || left - size >= reserve);
}

static int begin_file(struct ring *ring, uint64_t sequence, uint64_t lsn)
{
    uint8_t bytes[PAGE] = {0}; /* a whole page: as with records */
    struct log_header header = {.stream = ring->geometry.stream,
                                .sequence = sequence,
                                .file_size = ring->geometry.file_size,
                                .first_lsn = lsn,
                                .incarnation = ring->incarnation};
    log_header_encode(&header, bytes);
    if (file_write(ring->fds[slot(ring, sequence)], bytes, sizeof bytes, 0) != 0) {
        return -1;
    }
    ring->first_lsn[slot(ring, sequence)] = lsn;
    ring->incarnations[slot(ring, sequence)] = ring->incarnation;
    ring->head = sequence;
    ring->empty = false;
    ring->position = sequence * ring->geometry.file_size + TIDE_LOG_HEADER;
    ring->covered = sequence * ring->geometry.file_size + PAGE;
    return 0;
}

/* Fills the last page with zeroes where the record begins it. Else a page of a recycled file that
 * has left the cache would be read first, with all writers waiting. */
static int write_covering(struct ring *ring, uint64_t at, const struct iovec *parts, int count,
                          uint64_t size)
{
    static const uint8_t zeroes[PAGE];
    struct iovec all[PARTS_MAX];
    uint64_t file_size = ring->geometry.file_size;
    uint64_t offset = at % file_size;
    uint64_t covered = ring->covered;
    TIDE_CHECK(count > 0 && count < PARTS_MAX);
    memcpy(all, parts, (size_t)count * sizeof all[0]);
    if (covered < at + size) {
        uint64_t end = (offset + size + PAGE - 1) / PAGE * PAGE;
        covered = at - offset + (end < file_size ? end : file_size);
        all[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)zeroes,
                                      .iov_len = (size_t)(covered - at - size)};
    }
    if (file_writev(ring->fds[slot(ring, ring->head)], all, count, offset) != 0) {
        return -1;
    }
    ring->covered = covered;
    return 0;
}

int ring_append(struct ring *ring, uint64_t lsn, struct iovec *parts, int count, uint64_t size,
                uint64_t *ret_position)
{
    TIDE_CHECK(ring_room(ring, size, 0));
    const uint64_t head = ring->head;
    const uint64_t position = ring->position;
    const uint64_t covered = ring->covered;
    const bool empty = ring->empty;
    uint64_t file_size = ring->geometry.file_size;
    if (ring->empty || (ring->head + 1) * file_size - ring->position < size) {
        if (begin_file(ring, ring->empty ? 0 : ring->head + 1, lsn) != 0) {
            return -1;
        }
    }
    uint64_t at = ring->position;
    if (write_covering(ring, at, parts, count, size) != 0) {
        ring->head = head; /* the end stays where it was: its file must not be freed */
        ring->position = position;
        ring->covered = covered;
        ring->empty = empty;
        return -1;
    }
    ring->position = at + size;
    *ret_position = at;
    return 0;
}

static uint64_t tail_after(const struct ring *ring, uint64_t lsn)
{
    uint64_t tail = ring->tail;
    while (!ring->empty && tail < ring->head && ring->first_lsn[slot(ring, tail + 1)] <= lsn + 1) {
        tail++;
    }
    return tail;
}

bool ring_can_free(const struct ring *ring, uint64_t lsn)
{
    return tail_after(ring, lsn) > ring->retired;
}

void ring_free(struct ring *ring, uint64_t lsn)
{
    ring->tail = tail_after(ring, lsn);
}

int ring_retire(const struct ring *ring, uint64_t end)
{
    static const uint8_t zeroes[PAGE]; /* whole: else the page may have to be read first */
    for (uint64_t s = ring->retired; s < end; s++) {
        int fd = ring->fds[slot(ring, s)];
        if (file_write(fd, zeroes, sizeof zeroes, 0) != 0 || file_sync(fd) != 0) {
            return -1;
        }
    }
    return 0;
}

void ring_reuse(struct ring *ring, uint64_t end)
{
    TIDE_CHECK(end >= ring->retired && end <= ring->tail);
    ring->retired = end;
}

int ring_sync(const struct ring *ring, uint64_t from, uint64_t to)
{
    uint64_t file_size = ring->geometry.file_size;
    uint64_t first = from == 0 ? 0 : (from - 1) / file_size;
    uint64_t last = to == 0 ? 0 : (to - 1) / file_size;
    if (last - first >= ring->geometry.files) {
        first = last - ring->geometry.files + 1;
    }
    for (uint64_t s = first; s <= last; s++) {
        if (file_sync(ring->fds[slot(ring, s)]) != 0) {
            return -1;
        }
    }
    return 0;
}

uint64_t ring_capacity(const struct ring *ring)
{
    return ring->geometry.files * ring->geometry.file_size;
}

uint64_t ring_used(const struct ring *ring)
{
    return ring->empty ? 0 : ring->position - ring->retired * ring->geometry.file_size;
}

void ring_tail(const struct ring *ring, uint64_t *ret_lsn, uint64_t *ret_position,
               uint64_t *ret_incarnation)
{
    *ret_position = ring->tail * ring->geometry.file_size + (ring->empty ? 0 : TIDE_LOG_HEADER);
    *ret_lsn = ring->empty ? 1 : ring->first_lsn[slot(ring, ring->tail)];
    *ret_incarnation = ring->empty ? 0 : ring->incarnations[slot(ring, ring->tail)];
}
