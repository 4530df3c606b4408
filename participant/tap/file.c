/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/file.h"

#include "common/core/definition.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1024U * 1024)

int file_read(int fd, void *to, size_t size, uint64_t offset)
{
    uint8_t *at = to;
    while (size > 0) {
        ssize_t n = pread(fd, at, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return -1;
        }
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int file_writev(int fd, struct iovec *parts, int count, uint64_t offset)
{
    while (count > 0) {
        ssize_t n = pwritev(fd, parts, count, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            errno = ENOSPC;
            return -1;
        }
        offset += (uint64_t)n;
        size_t left = (size_t)n;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (left > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return 0;
}

int file_write(int fd, const void *from, size_t size, uint64_t offset)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)from, .iov_len = size};
    return size == 0 ? 0 : file_writev(fd, &part, 1, offset);
}

int file_zero(int fd, uint64_t offset, uint64_t size, bool punch)
{
    int mode = (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
    if (fallocate(fd, mode, (off_t)offset, (off_t)size) == 0) {
        return 0;
    }
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
        return -1;
    }
    static const uint8_t zeroes[CHUNK];
    while (size > 0) {
        size_t part = size < CHUNK ? (size_t)size : CHUNK;
        if (file_write(fd, zeroes, part, offset) != 0) {
            return -1;
        }
        offset += part;
        size -= part;
    }
    return 0;
}

static bool all_zero(const uint8_t *from, size_t size)
{
    return size == 0 || (from[0] == 0 && memcmp(from, from + 1, size - 1) == 0);
}

int file_is_zero(int fd, uint64_t size)
{
    uint8_t *chunk = malloc(CHUNK);
    if (chunk == NULL) {
        return -1;
    }
    int result = 1;
    uint64_t at = 0;
    while (result == 1 && at < size) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break; /* nothing but a hole up to the end */
        }
        at = data < 0 ? at : (uint64_t)data; /* a device cannot seek for data: read it all */
        if (at >= size) {
            break;
        }
        size_t part = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        if (file_read(fd, chunk, part, at) != 0) {
            result = -1;
        } else if (!all_zero(chunk, part)) {
            result = 0;
        }
        at += part;
    }
    free(chunk);
    return result;
}

int file_sync(int fd)
{
    return fdatasync(fd);
}

int file_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int result = fsync(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

uint64_t file_mtime_ns(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_mtim.tv_sec < 0) {
        return 0;
    }
    return (uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec;
}

int file_size(int fd, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return -1;
    }
    if (S_ISREG(st.st_mode)) {
        *ret_size = (uint64_t)st.st_size;
        return 0;
    }
    if (!S_ISBLK(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return ioctl(fd, BLKGETSIZE64, ret_size) == 0 ? 0 : -1;
}

bool file_is_disk_size(uint64_t size)
{
    return size > 0 && size <= TIDE_DISK_SIZE_MAX && size % TIDE_DISK_SIZE_UNIT == 0;
}

bool file_random(void *to, size_t size)
{
    return getrandom(to, size, GRND_NONBLOCK) == (ssize_t)size;
}
