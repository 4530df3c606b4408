/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"

static enum err_code file_code(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return TIDE_ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return TIDE_ERR_FULL;
    case EACCES:
    case EPERM:
        return TIDE_ERR_DENIED;
    case EEXIST:
        return TIDE_ERR_CONFLICT;
    default:
        return TIDE_ERR_IO;
    }
}

int file_err(struct err *err, int error, const char *format, ...)
{
    char text[TIDE_ERR_TEXT_MAX];
    char reason[128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set(err, file_code(error), "%s: %s", text,
                   strerror_r(error, reason, sizeof(reason)));
}

int file_read(const char *path, size_t limit, uint8_t **ret_bytes, size_t *ret_size,
              struct err *err)
{
    TIDE_CHECK(limit < SIZE_MAX - 1);
    int status = -1;
    uint8_t *bytes = NULL;
    size_t size = 0;
    size_t room = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return file_err(err, errno, "cannot open \"%s\"", path);
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        file_err(err, errno, "cannot look at \"%s\"", path);
        goto out;
    }
    if (!S_ISREG(stat.st_mode)) {
        err_set(err, TIDE_ERR_IO, "\"%s\" is not a regular file", path);
        goto out;
    }
    for (;;) {
        if (size == room) {
            size_t want = room == 0 ? (size_t)stat.st_size : room * 2;
            want = want < 4096 ? 4096 : want;
            want = want > limit + 1 ? limit + 1 : want; /* one more, to see what is too large */
            uint8_t *more = realloc(bytes, want + 1);
            if (more == NULL) {
                err_set(err, TIDE_ERR_LIMIT, "\"%s\": no memory for %zu bytes", path, want);
                goto out;
            }
            bytes = more;
            room = want;
        }
        ssize_t got = read(fd, bytes + size, room - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            file_err(err, errno, "cannot read \"%s\"", path);
            goto out;
        }
        if (got == 0)
            break;
        size += (size_t)got;
        if (size > limit) {
            err_set(err, TIDE_ERR_LIMIT, "\"%s\" is larger than the limit of %zu bytes", path,
                    limit);
            goto out;
        }
    }
    bytes[size] = 0;
    *ret_bytes = bytes;
    *ret_size = size;
    bytes = NULL;
    status = 0;
out:
    free(bytes);
    (void)close(fd);
    return status;
}

int file_sync_dir(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_err(err, errno, "cannot open folder \"%s\"", path);
    int status = 0;
    if (fsync(fd) != 0)
        status = file_err(err, errno, "cannot sync folder \"%s\"", path);
    (void)close(fd);
    return status;
}

/* The folder that holds path. */
static int file_parent(const char *path, char ret[PATH_MAX], struct err *err)
{
    size_t size = strlen(path);
    if (size == 0 || size >= PATH_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "path of %zu bytes; 1 to %d can be used", size,
                       PATH_MAX - 1);
    memcpy(ret, path, size + 1);
    while (size > 1 && ret[size - 1] == '/')
        ret[--size] = 0;
    char *slash = strrchr(ret, '/');
    if (slash == NULL)
        memcpy(ret, ".", 2);
    else if (slash == ret)
        ret[1] = 0;
    else
        *slash = 0;
    return 0;
}

int file_sync_parent(const char *path, struct err *err)
{
    char parent[PATH_MAX];
    if (file_parent(path, parent, err) != 0)
        return -1;
    return file_sync_dir(parent, err);
}

static int file_put(const char *path, const void *bytes, size_t size, mode_t mode, bool replace,
                    struct err *err)
{
    char temporary[PATH_MAX];
    uint64_t draw;
    file_random(&draw, sizeof(draw));
    int n =
        snprintf(temporary, sizeof(temporary), "%s.%016llx.tmp", path, (unsigned long long)draw);
    if (n < 0 || (size_t)n >= sizeof(temporary))
        return err_set(err, TIDE_ERR_LIMIT, "path \"%.200s...\" is too long", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return file_err(err, errno, "cannot make \"%s\"", temporary);
    int status = -1;
    bool there = true;
    if (fchmod(fd, mode) != 0) {
        file_err(err, errno, "cannot set the mode of \"%s\"", temporary);
        goto out;
    }
    if (file_write_full(fd, bytes, size, temporary, err) != 0)
        goto out;
    if (fsync(fd) != 0) {
        file_err(err, errno, "cannot sync \"%s\"", temporary);
        goto out;
    }
    int closed = close(fd);
    fd = -1;
    if (closed != 0) {
        file_err(err, errno, "cannot close \"%s\"", temporary);
        goto out;
    }
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE) != 0) {
        if (errno == EEXIST)
            err_set(err, TIDE_ERR_CONFLICT, "\"%s\" exists already and is not overwritten", path);
        else
            file_err(err, errno, "cannot rename \"%s\" to \"%s\"", temporary, path);
        goto out;
    }
    there = false;
    status = file_sync_parent(path, err);
out:
    if (fd >= 0)
        (void)close(fd);
    if (there)
        (void)unlink(temporary);
    return status;
}

int file_replace(const char *path, const void *bytes, size_t size, mode_t mode, struct err *err)
{
    return file_put(path, bytes, size, mode, true, err);
}

int file_create(const char *path, const void *bytes, size_t size, mode_t mode, struct err *err)
{
    return file_put(path, bytes, size, mode, false, err);
}

static int file_mkdir(const char *path, mode_t mode, struct err *err)
{
    struct stat stat_;
    if (mkdir(path, mode) == 0)
        return file_sync_parent(path, err);
    int error = errno;
    if (stat(path, &stat_) == 0) {
        if (S_ISDIR(stat_.st_mode))
            return 0;
        error = ENOTDIR;
    }
    return file_err(err, error, "cannot make folder \"%s\"", path);
}

int file_mkdirs(const char *path, mode_t mode, struct err *err)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(part))
        return err_set(err, TIDE_ERR_LIMIT, "folder path of %zu bytes; 1 to %d can be used", size,
                       PATH_MAX - 1);
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        if (path[i - 1] == '/')
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (file_mkdir(part, mode, err) != 0)
            return -1;
    }
    return 0;
}

int file_pread_full(int fd, void *to, size_t size, uint64_t offset, const char *name,
                    struct err *err)
{
    TIDE_CHECK(offset <= INT64_MAX - size);
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return file_err(err, errno, "cannot read %zu bytes at %llu of \"%s\"", size,
                            (unsigned long long)offset, name);
        if (got == 0)
            return err_set(err, TIDE_ERR_CORRUPT, "\"%s\" ends after %llu bytes, %zu more needed",
                           name, (unsigned long long)(offset + done), size - done);
        done += (size_t)got;
    }
    return 0;
}

int file_pwrite_full(int fd, const void *from, size_t size, uint64_t offset, const char *name,
                     struct err *err)
{
    TIDE_CHECK(offset <= INT64_MAX - size);
    size_t done = 0;
    while (done < size) {
        ssize_t put = pwrite(fd, (const uint8_t *)from + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_err(err, errno, "cannot write %zu bytes at %llu of \"%s\"", size,
                            (unsigned long long)offset, name);
        done += (size_t)put;
    }
    return 0;
}

int file_write_full(int fd, const void *from, size_t size, const char *name, struct err *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t put = write(fd, (const uint8_t *)from + done, size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_err(err, errno, "cannot write %zu bytes to \"%s\"", size, name);
        done += (size_t)put;
    }
    return 0;
}

int file_lock(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return file_err(err, errno, "cannot open \"%s\"", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        err_set(err, TIDE_ERR_BUSY, "\"%s\" is locked by another process; is it running twice?",
                path);
    else
        file_err(err, errno, "cannot lock \"%s\"", path);
    (void)close(fd);
    return -1;
}

void file_random(void *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = getrandom((uint8_t *)to + done, size - done, 0);
        TIDE_CHECK(got > 0 || errno == EINTR);
        if (got > 0)
            done += (size_t)got;
    }
}
