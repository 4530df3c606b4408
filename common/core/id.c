/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/id.h"

#include "common/core/check.h"

#include <string.h>

bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

int id_compare(const struct id *a, const struct id *b)
{
    return memcmp(a->b, b->b, sizeof a->b);
}

static bool all_zero(const uint8_t *p, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= p[i];
    }
    return any == 0;
}

bool id_is_zero(const struct id *a)
{
    return all_zero(a->b, sizeof a->b);
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool hash_is_zero(const struct hash *a)
{
    return all_zero(a->b, sizeof a->b);
}

static void to_hex(const uint8_t *from, size_t size, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        ret_text[2 * i] = digits[from[i] >> 4];
        ret_text[2 * i + 1] = digits[from[i] & 15];
    }
    ret_text[2 * size] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

static bool from_hex(const char *text, uint8_t *ret_to, size_t size)
{
    if (strnlen(text, 2 * size + 1) != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < 2 * size; i++) {
        if (digit(text[i]) < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < size; i++) {
        ret_to[i] = (uint8_t)(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
    }
    return true;
}

char *id_hex(const struct id *a, char ret_text[TIDE_ID_HEX])
{
    to_hex(a->b, sizeof a->b, ret_text);
    return ret_text;
}

char *hash_hex(const struct hash *a, char ret_text[TIDE_HASH_HEX])
{
    to_hex(a->b, sizeof a->b, ret_text);
    return ret_text;
}

bool id_parse(const char *text, struct id *ret)
{
    return from_hex(text, ret->b, sizeof ret->b);
}

bool hash_parse(const char *text, struct hash *ret)
{
    return from_hex(text, ret->b, sizeof ret->b);
}

bool name_parse(const char *text, struct name *ret)
{
    size_t size = strnlen(text, TIDE_NAME_MAX + 1);
    if (size == 0 || size > TIDE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool inner = i > 0 && (c == '.' || c == '_' || c == '-');
        if (!plain && !inner) {
            return false;
        }
    }
    memset(ret, 0, sizeof *ret);
    memcpy(ret->s, text, size);
    return true;
}

bool name_equal(const struct name *a, const struct name *b)
{
    return strcmp(a->s, b->s) == 0;
}

void set_init(struct set *s, unsigned count)
{
    TIDE_CHECK(count >= 1 && count <= TIDE_DISKS_MAX);
    memset(s, 0, sizeof *s);
    s->count = (uint16_t)count;
}

void set_add(struct set *s, unsigned disk)
{
    TIDE_CHECK(disk < s->count);
    s->bits[disk / 8] = (uint8_t)(s->bits[disk / 8] | 1U << disk % 8);
}

bool set_has(const struct set *s, unsigned disk)
{
    return disk < s->count && (s->bits[disk / 8] >> disk % 8 & 1) != 0;
}

unsigned set_size(const struct set *s)
{
    unsigned n = 0;
    for (unsigned k = 0; k < s->count; k++) {
        n += set_has(s, k) ? 1 : 0;
    }
    return n;
}

bool set_is_full(const struct set *s)
{
    return set_size(s) == s->count;
}

bool set_equal(const struct set *a, const struct set *b)
{
    return a->count == b->count && memcmp(a->bits, b->bits, sizeof a->bits) == 0;
}

size_t set_bytes(const struct set *s)
{
    return ((size_t)s->count + 7) / 8;
}

bool set_parse(unsigned count, const uint8_t *bits, size_t size, struct set *ret)
{
    if (count == 0 || count > TIDE_DISKS_MAX || size != (count + 7) / 8) {
        return false;
    }
    struct set s;
    set_init(&s, count);
    memcpy(s.bits, bits, size);
    for (unsigned k = count; k < 8 * size; k++) {
        if ((s.bits[k / 8] >> k % 8 & 1) != 0) {
            return false;
        }
    }
    if (set_size(&s) == 0) {
        return false;
    }
    *ret = s;
    return true;
}
