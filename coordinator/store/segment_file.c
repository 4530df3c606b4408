/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/segment_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/file.h"

int segment_file_open(struct segment_file *file, const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return file_err(err, errno, "open '%s'", path);
    }
    file->fd = fd;
    snprintf(file->path, sizeof(file->path), "%s", path);
    return 0;
}

void segment_file_close(struct segment_file *file)
{
    close(file->fd);
    file->fd = -1;
}

static int read_at(void *context, uint64_t number, uint64_t offset, void *to, size_t size,
                   size_t *ret_got, struct err *err)
{
    struct segment_file *file = context;
    size_t got = 0;
    if (number != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "'%s' is one file", file->path);
    }
    while (got < size) {
        ssize_t n = pread(file->fd, (char *)to + got, size - got, (off_t)(offset + got));
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return file_err(err, errno, "read '%s'", file->path);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    *ret_got = got;
    return 0;
}

static int size_of(void *context, uint64_t number, uint64_t *ret_size, struct err *err)
{
    struct segment_file *file = context;
    struct stat st;
    if (number != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "'%s' is one file", file->path);
    }
    if (fstat(file->fd, &st) < 0) {
        return file_err(err, errno, "look at '%s'", file->path);
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

struct source segment_file_source(struct segment_file *file)
{
    return (struct source){.read = read_at, .size = size_of, .context = file};
}
