/* SPDX-License-Identifier: Apache-2.0 */
/* blocks: SHA-256 of the blocks of an image, for comparing two of them without sending either.
 * Blocks are BLOCKS_SIZE bytes and begin at its multiples; the disk's last one may be short and is
 * hashed as it is. What the file system says is a hole is not read. Blocking. */
#ifndef TIDE_COMMON_IO_BLOCKS_H
#define TIDE_COMMON_IO_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"

#define BLOCKS_SIZE 65536U

struct blocks { /* one thread's */
    uint8_t *buffer;
    struct hash zero; /* of a whole block of zeroes */
};

int blocks_init(struct blocks *blocks, struct err *err); /* LIMIT: no memory */
void blocks_close(struct blocks *blocks);                /* takes one that was never begun */

/* How many blocks a disk of `size` bytes has from `offset` on, at most `max`. 0: it ends there. */
uint32_t blocks_count(uint64_t size, uint64_t offset, uint32_t max);

/* Hashes of the `count` blocks from `offset` (a multiple of BLOCKS_SIZE) on of a disk of `size`
 * bytes, which has them, in the file `fd`, called `name` in texts. *ret_read: bytes that were read.
 * The file may be written meanwhile: each byte is then as it was at some moment of the call.
 *   CORRUPT  the file is shorter than the disk
 *   IO       it cannot be read */
int blocks_hash(struct blocks *blocks, int fd, const char *name, uint64_t size, uint64_t offset,
                uint32_t count, struct hash *ret, uint64_t *ret_read, struct err *err);

#endif
