/* SPDX-License-Identifier: Apache-2.0 */
/* bytes: the bounded cursors through which every byte from outside is parsed and every fixed
 * structure is written. All integers are little-endian. A cursor that ran over its end stays
 * failed: it yields zeroes and writes nothing, so a caller may check once, at the end. */
#ifndef TIDE_COMMON_CORE_BYTES_H
#define TIDE_COMMON_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes_reader {
    const uint8_t *at; /* not owned */
    size_t left;
    bool failed;
};

struct bytes_writer {
    uint8_t *base; /* not owned */
    size_t size;   /* of base */
    size_t used;
    bool failed;
};

struct bytes_reader bytes_reader(const void *base, size_t size);
uint8_t bytes_get_u8(struct bytes_reader *r);
uint16_t bytes_get_u16(struct bytes_reader *r);
uint32_t bytes_get_u32(struct bytes_reader *r);
uint64_t bytes_get_u64(struct bytes_reader *r);
void bytes_get(struct bytes_reader *r, void *ret_to, size_t size); /* zero-fills on failure */
const uint8_t *bytes_skip(struct bytes_reader *r, size_t size);    /* the skipped part, or NULL */
/* True where `size` bytes that must be zero (reserved fields) were zero; fails otherwise. */
bool bytes_get_zero(struct bytes_reader *r, size_t size);

struct bytes_writer bytes_writer(void *base, size_t size);
void bytes_put_u8(struct bytes_writer *w, uint8_t v);
void bytes_put_u16(struct bytes_writer *w, uint16_t v);
void bytes_put_u32(struct bytes_writer *w, uint32_t v);
void bytes_put_u64(struct bytes_writer *w, uint64_t v);
void bytes_put(struct bytes_writer *w, const void *from, size_t size);
void bytes_put_zero(struct bytes_writer *w, size_t size);

#endif
