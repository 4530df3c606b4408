/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/box_cipher.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "common/core/bytes.h"
#include "common/core/check.h"

static void derive(const uint8_t key[BOX_KEY], const uint8_t from_salt[BOX_SALT],
                   uint8_t ret[BOX_KEY])
{
    char info[] = "tidemark box 1";
    char digest[] = "SHA256";
    uint8_t salt[BOX_SALT];
    uint8_t input[BOX_KEY];
    memcpy(salt, from_salt, sizeof(salt));
    memcpy(input, key, sizeof(input));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, input, sizeof(input)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info) - 1),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    TIDE_CHECK(kdf != NULL);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    TIDE_CHECK(context != NULL && EVP_KDF_derive(context, ret, BOX_KEY, params) == 1);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    OPENSSL_cleanse(input, sizeof(input));
}

void box_cipher_init(struct box_cipher *c, const uint8_t key[BOX_KEY], const uint8_t salt[BOX_SALT],
                     const uint8_t header[BOX_HEADER], const char *name)
{
    c->name_size = strlen(name);
    TIDE_CHECK(c->name_size >= 1 && c->name_size <= BOX_NAME_MAX);
    memcpy(c->name, name, c->name_size + 1);
    memcpy(c->header, header, BOX_HEADER);
    derive(key, salt, c->key);
    c->context = EVP_CIPHER_CTX_new();
    TIDE_CHECK(c->context != NULL);
}

void box_cipher_end(struct box_cipher *c)
{
    EVP_CIPHER_CTX_free(c->context);
    OPENSSL_cleanse(c->key, sizeof(c->key));
}

/* Key, nonce and associated data. */
static bool begin(struct box_cipher *c, enum box_part part, uint64_t number, int encrypt)
{
    uint8_t nonce[12];
    int n;
    struct bytes_writer w = bytes_writer(nonce, sizeof(nonce));
    bytes_put_u32(&w, (uint32_t)part);
    bytes_put_u64(&w, number);
    return EVP_CipherInit_ex(c->context, EVP_aes_256_gcm(), NULL, c->key, nonce, encrypt) == 1 &&
           EVP_CipherUpdate(c->context, NULL, &n, c->header, BOX_HEADER) == 1 &&
           EVP_CipherUpdate(c->context, NULL, &n, (const uint8_t *)c->name, (int)c->name_size) == 1;
}

void box_cipher_encrypt(struct box_cipher *c, enum box_part part, uint64_t number,
                        const uint8_t *from, size_t size, uint8_t *to)
{
    int n = 0;
    TIDE_CHECK(begin(c, part, number, 1));
    TIDE_CHECK(size == 0 || EVP_CipherUpdate(c->context, to, &n, from, (int)size) == 1);
    TIDE_CHECK(EVP_CipherFinal_ex(c->context, to + n, &n) == 1);
    TIDE_CHECK(EVP_CIPHER_CTX_ctrl(c->context, EVP_CTRL_GCM_GET_TAG, BOX_TAG, to + size) == 1);
}

bool box_cipher_decrypt(struct box_cipher *c, enum box_part part, uint64_t number, uint8_t *from,
                        size_t size, uint8_t *to)
{
    int n = 0;
    TIDE_CHECK(begin(c, part, number, 0));
    TIDE_CHECK(size == 0 || EVP_CipherUpdate(c->context, to, &n, from, (int)size) == 1);
    TIDE_CHECK(EVP_CIPHER_CTX_ctrl(c->context, EVP_CTRL_GCM_SET_TAG, BOX_TAG, from + size) == 1);
    return EVP_CipherFinal_ex(c->context, to + n, &n) == 1;
}
