/* SPDX-License-Identifier: Apache-2.0 */
/* id: opaque identifiers (128 bits, drawn at random), hashes (SHA-256), names (labels for people),
 * and the set of disks that a round counts. No function here draws randomness. */
#ifndef TIDE_COMMON_CORE_ID_H
#define TIDE_COMMON_CORE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIDE_ID_SIZE   16
#define TIDE_HASH_SIZE 32
#define TIDE_ID_HEX    (2 * TIDE_ID_SIZE + 1)   /* with the terminating NUL */
#define TIDE_HASH_HEX  (2 * TIDE_HASH_SIZE + 1) /* with the terminating NUL */
#define TIDE_NAME_MAX  63                       /* bytes, without the NUL */
#ifndef TIDE_MEMBERS_MAX                        /* one test build has more: tests/sim */
#define TIDE_MEMBERS_MAX 256                    /* members of a group */
#endif
#define TIDE_DISKS_MAX 1024 /* disks of a group, over all members */

struct id {
    uint8_t b[TIDE_ID_SIZE];
};

struct hash {
    uint8_t b[TIDE_HASH_SIZE];
};

/* A group, member or disk name: [a-z0-9] first, then [a-z0-9._-], 1 to 63 bytes. */
struct name {
    char s[TIDE_NAME_MAX + 1];
};

/* Disks that a round counts: bit k (byte k/8, bit k%8) is the k-th disk of the definition, its
 * members in the definition's order, the disks of each in theirs. Bits at and past count are 0. */
struct set {
    uint16_t count; /* disks in the definition, 1..TIDE_DISKS_MAX */
    uint8_t bits[TIDE_DISKS_MAX / 8];
};

bool id_equal(const struct id *a, const struct id *b);
bool id_is_zero(const struct id *a);
int id_compare(const struct id *a, const struct id *b); /* as memcmp */
bool hash_equal(const struct hash *a, const struct hash *b);
bool hash_is_zero(const struct hash *a);

/* Lower-case hex into the caller's buffer, which is also returned. */
char *id_hex(const struct id *a, char ret_text[TIDE_ID_HEX]);
char *hash_hex(const struct hash *a, char ret_text[TIDE_HASH_HEX]);

/* Exactly 32 (64) hex digits, either case; false and *ret untouched otherwise. */
bool id_parse(const char *text, struct id *ret);
bool hash_parse(const char *text, struct hash *ret);

/* False and *ret untouched where text is not a name. */
bool name_parse(const char *text, struct name *ret);
bool name_equal(const struct name *a, const struct name *b);

void set_init(struct set *s, unsigned count); /* empty; count 1..TIDE_DISKS_MAX */
void set_add(struct set *s, unsigned disk);   /* disk < count */
bool set_has(const struct set *s, unsigned disk);
bool set_is_full(const struct set *s);
unsigned set_size(const struct set *s); /* disks in it */
bool set_equal(const struct set *a, const struct set *b);
/* Bytes of bits in use: (count + 7) / 8. */
size_t set_bytes(const struct set *s);
/* From stored form; false (and *ret untouched) where count is 0 or too large, the size is not
 * (count + 7) / 8, a bit past count is set, or no bit is. */
bool set_parse(unsigned count, const uint8_t *bits, size_t size, struct set *ret);

#endif
