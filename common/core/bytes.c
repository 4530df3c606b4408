/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/bytes.h"

#include <string.h>

struct bytes_reader bytes_reader(const void *base, size_t size)
{
    return (struct bytes_reader){.at = base, .left = size};
}

const uint8_t *bytes_skip(struct bytes_reader *r, size_t size)
{
    if (r->failed || size > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += size;
    r->left -= size;
    return p;
}

void bytes_get(struct bytes_reader *r, void *ret_to, size_t size)
{
    const uint8_t *p = bytes_skip(r, size);
    if (p == NULL) {
        memset(ret_to, 0, size);
    } else if (size > 0) {
        memcpy(ret_to, p, size);
    }
}

static uint64_t get_le(struct bytes_reader *r, size_t size)
{
    const uint8_t *p = bytes_skip(r, size);
    uint64_t v = 0;
    for (size_t i = 0; p != NULL && i < size; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

uint8_t bytes_get_u8(struct bytes_reader *r)
{
    return (uint8_t)get_le(r, 1);
}

uint16_t bytes_get_u16(struct bytes_reader *r)
{
    return (uint16_t)get_le(r, 2);
}

uint32_t bytes_get_u32(struct bytes_reader *r)
{
    return (uint32_t)get_le(r, 4);
}

uint64_t bytes_get_u64(struct bytes_reader *r)
{
    return get_le(r, 8);
}

bool bytes_get_zero(struct bytes_reader *r, size_t size)
{
    const uint8_t *p = bytes_skip(r, size);
    for (size_t i = 0; p != NULL && i < size; i++) {
        if (p[i] != 0) {
            r->failed = true;
        }
    }
    return !r->failed;
}

struct bytes_writer bytes_writer(void *base, size_t size)
{
    return (struct bytes_writer){.base = base, .size = size};
}

static uint8_t *room(struct bytes_writer *w, size_t size)
{
    if (w->failed || size > w->size - w->used) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->base + w->used;
    w->used += size;
    return p;
}

void bytes_put(struct bytes_writer *w, const void *from, size_t size)
{
    uint8_t *p = room(w, size);
    if (p != NULL && size > 0) {
        memcpy(p, from, size);
    }
}

void bytes_put_zero(struct bytes_writer *w, size_t size)
{
    uint8_t *p = room(w, size);
    if (p != NULL && size > 0) {
        memset(p, 0, size);
    }
}

static void put_le(struct bytes_writer *w, uint64_t v, size_t size)
{
    uint8_t *p = room(w, size);
    for (size_t i = 0; p != NULL && i < size; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

void bytes_put_u8(struct bytes_writer *w, uint8_t v)
{
    put_le(w, v, 1);
}

void bytes_put_u16(struct bytes_writer *w, uint16_t v)
{
    put_le(w, v, 2);
}

void bytes_put_u32(struct bytes_writer *w, uint32_t v)
{
    put_le(w, v, 4);
}

void bytes_put_u64(struct bytes_writer *w, uint64_t v)
{
    put_le(w, v, 8);
}
