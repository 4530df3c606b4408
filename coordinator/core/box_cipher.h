/* SPDX-License-Identifier: Apache-2.0 */
/* box_cipher: the encryption of one box (proto/box.md): its key by HKDF-SHA-256, its parts by
 * AES-256-GCM, bound to header and name. libcrypto does it; a lack of memory there aborts, as in
 * sha.h. */
#ifndef TIDE_COORDINATOR_CORE_BOX_CIPHER_H
#define TIDE_COORDINATOR_CORE_BOX_CIPHER_H

#include "coordinator/core/box.h"

#define BOX_TAG 16U

enum box_part { /* first word of the nonce */
                BOX_PART_BLOCK = 0,
                BOX_PART_INDEX = 1,
};

struct box_cipher {
    void *context;
    uint8_t key[BOX_KEY]; /* of this box */
    uint8_t header[BOX_HEADER];
    char name[BOX_NAME_MAX + 1];
    size_t name_size;
};

/* key: of the generation that the header names. The header's bytes and the name are copied. */
void box_cipher_init(struct box_cipher *c, const uint8_t key[BOX_KEY], const uint8_t salt[BOX_SALT],
                     const uint8_t header[BOX_HEADER], const char *name);
void box_cipher_end(struct box_cipher *c); /* wipes the key; takes a zeroed one */

/* from[0..size) to to[0..size + BOX_TAG). */
void box_cipher_encrypt(struct box_cipher *c, enum box_part part, uint64_t number,
                        const uint8_t *from, size_t size, uint8_t *to);

/* from[0..size + BOX_TAG) to to[0..size). False: the tag does not fit, and what is in `to` means
 * nothing. */
bool box_cipher_decrypt(struct box_cipher *c, enum box_part part, uint64_t number, uint8_t *from,
                        size_t size, uint8_t *to);

#endif
