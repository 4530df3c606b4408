/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/blocks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/io/file.h"

int blocks_init(struct blocks *b, struct err *err)
{
    b->buffer = calloc(1, BLOCKS_SIZE);
    if (b->buffer == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a block");
    }
    b->zero = sha_of(b->buffer, BLOCKS_SIZE);
    return 0;
}

void blocks_close(struct blocks *b)
{
    free(b->buffer);
    b->buffer = NULL;
}

uint32_t blocks_count(uint64_t size, uint64_t offset, uint32_t max)
{
    if (offset >= size) {
        return 0;
    }
    uint64_t count = (size - offset - 1) / BLOCKS_SIZE + 1;
    return count < max ? (uint32_t)count : max;
}

static struct hash zero_hash(struct blocks *b, size_t size)
{
    if (size == BLOCKS_SIZE) {
        return b->zero;
    }
    memset(b->buffer, 0, size);
    return sha_of(b->buffer, size);
}

/* Where the first byte at or after offset lies that is not in a hole; offset where that cannot be
 * told, UINT64_MAX: nowhere. */
static uint64_t next_data(int fd, uint64_t offset)
{
    off_t at = lseek(fd, (off_t)offset, SEEK_DATA);
    if (at < 0) {
        return errno == ENXIO ? UINT64_MAX : offset;
    }
    return (uint64_t)at;
}

static int check_size(int fd, const char *name, uint64_t end, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return file_err(err, errno, "look at '%s'", name);
    }
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < end) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'%s' has %" PRIu64 " bytes, and the disk goes to %" PRIu64 " at least",
                       name, (uint64_t)st.st_size, end);
    }
    return 0;
}

int blocks_hash(struct blocks *b, int fd, const char *name, uint64_t size, uint64_t offset,
                uint32_t count, struct hash *ret, uint64_t *ret_read, struct err *err)
{
    TIDE_CHECK(offset % BLOCKS_SIZE == 0 && blocks_count(size, offset, count) == count);
    uint64_t data = offset; /* nothing but holes from here to there */
    uint64_t left = size - offset;
    uint64_t most = (uint64_t)count * BLOCKS_SIZE;
    *ret_read = 0;
    if (check_size(fd, name, offset + (left < most ? left : most), err) < 0) {
        return -1;
    }
    for (uint32_t k = 0; k < count; k++) {
        uint64_t at = offset + (uint64_t)k * BLOCKS_SIZE;
        size_t part = size - at < BLOCKS_SIZE ? (size_t)(size - at) : BLOCKS_SIZE;
        if (data <= at) {
            data = next_data(fd, at);
        }
        if (data >= at + part) {
            ret[k] = zero_hash(b, part);
            continue;
        }
        if (file_pread_full(fd, b->buffer, part, at, name, err) < 0) {
            return -1;
        }
        ret[k] = sha_of(b->buffer, part);
        *ret_read += part;
    }
    return 0;
}
