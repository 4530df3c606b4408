/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/crc.h"

#include <isa-l/crc.h>

/* isa-l takes an int as length. */
#define PIECE_MAX ((size_t)1 << 30)

uint32_t crc32c_extend(uint32_t crc, const void *from, size_t size)
{
    const uint8_t *at = from;
    uint32_t state = ~crc; /* isa-l neither sets the start value nor inverts the result */
    while (size > 0) {
        size_t piece = size < PIECE_MAX ? size : PIECE_MAX;
        state = crc32_iscsi((unsigned char *)(uintptr_t)at, (int)piece, state);
        at += piece;
        size -= piece;
    }
    return ~state;
}

uint32_t crc32c(const void *from, size_t size)
{
    return crc32c_extend(0, from, size);
}
