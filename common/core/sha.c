/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/sha.h"

#include "common/core/check.h"

#include <openssl/evp.h>

void sha_init(struct sha *sha)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    TIDE_CHECK(context != NULL);
    TIDE_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    sha->context = context;
}

void sha_update(struct sha *sha, const void *from, size_t size)
{
    TIDE_CHECK(EVP_DigestUpdate(sha->context, from, size) == 1);
}

struct hash sha_final(struct sha *sha)
{
    struct hash hash;
    unsigned size = 0;
    TIDE_CHECK(EVP_DigestFinal_ex(sha->context, hash.b, &size) == 1);
    TIDE_CHECK(size == sizeof hash.b);
    sha_drop(sha);
    return hash;
}

void sha_drop(struct sha *sha)
{
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}

struct hash sha_of(const void *from, size_t size)
{
    struct sha sha;
    sha_init(&sha);
    sha_update(&sha, from, size);
    return sha_final(&sha);
}
