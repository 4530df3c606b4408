/* SPDX-License-Identifier: Apache-2.0 */
/* sha: SHA-256 (FIPS 180-4) over OpenSSL's libcrypto. sha_init() allocates inside libcrypto and a
 * failure there aborts; sha_final() frees it. An abandoned one is freed with sha_drop(). */
#ifndef TIDE_COMMON_CORE_SHA_H
#define TIDE_COMMON_CORE_SHA_H

#include "common/core/id.h"

struct sha {
    void *context;
};

void sha_init(struct sha *sha);
void sha_update(struct sha *sha, const void *from, size_t size);
struct hash sha_final(struct sha *sha);
void sha_drop(struct sha *sha); /* takes a finished or dropped one too */
struct hash sha_of(const void *from, size_t size);

#endif
