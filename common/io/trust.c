/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/trust.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/core/check.h"

#define TRUST_TIME_TEXT  32
#define TRUST_TEXT       256
#define TRUST_YEAR_9999S 253402300799 /* the last second that a certificate can name */

struct trust {
    X509_STORE *store;
};

int trust_load(const char *ca_path, struct trust **ret, struct err *err)
{
    X509_STORE *store = NULL;
    if (tls_read_ca(ca_path, &store, err) != 0)
        return -1;
    struct trust *trust = calloc(1, sizeof(*trust));
    TIDE_CHECK(trust != NULL);
    trust->store = store;
    *ret = trust;
    return 0;
}

void trust_free(struct trust *trust)
{
    if (trust == NULL)
        return;
    X509_STORE_free(trust->store);
    free(trust);
}

static const char *trust_tm(const struct tm *tm, char ret[TRUST_TIME_TEXT])
{
    if (strftime(ret, TRUST_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", tm) == 0)
        (void)snprintf(ret, TRUST_TIME_TEXT, "?");
    return ret;
}

static const char *trust_asn1(const ASN1_TIME *from, char ret[TRUST_TIME_TEXT])
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(from, &tm) != 1) {
        (void)snprintf(ret, TRUST_TIME_TEXT, "?");
        return ret;
    }
    return trust_tm(&tm, ret);
}

static int trust_refuse(X509_STORE_CTX *check, int64_t at_s, struct err *err)
{
    int code = X509_STORE_CTX_get_error(check);
    X509 *cert = X509_STORE_CTX_get_current_cert(check);
    if ((code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID) &&
        cert != NULL) {
        char from[TRUST_TIME_TEXT];
        char to[TRUST_TIME_TEXT];
        char at[TRUST_TIME_TEXT];
        char subject[TRUST_TEXT];
        struct tm tm = {0};
        time_t when = (time_t)at_s;
        gmtime_r(&when, &tm);
        X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
        return err_set(err, TIDE_ERR_DENIED,
                       "certificate \"%.128s\" is valid from %s to %s, and it was signed at %s",
                       subject, trust_asn1(X509_get0_notBefore(cert), from),
                       trust_asn1(X509_get0_notAfter(cert), to), trust_tm(&tm, at));
    }
    return err_set(err, TIDE_ERR_DENIED, "the chain does not end at the CA given: %s",
                   X509_verify_cert_error_string(code));
}

static int trust_chain(const struct trust *trust, X509 *const *certs, size_t count, int64_t at_s,
                       struct err *err)
{
    int status = 0;
    STACK_OF(X509) *more = sk_X509_new_null();
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    TIDE_CHECK(more != NULL && check != NULL);
    for (size_t i = 1; i < count; i++)
        TIDE_CHECK(sk_X509_push(more, certs[i]) > 0);
    TIDE_CHECK(X509_STORE_CTX_init(check, trust->store, certs[0], more) == 1);
    X509_STORE_CTX_set_time(check, 0, (time_t)at_s);
    X509_STORE_CTX_set_depth(check, TLS_CHAIN_MAX);
    if (X509_verify_cert(check) != 1)
        status = trust_refuse(check, at_s, err);
    X509_STORE_CTX_free(check);
    sk_X509_free(more);
    return status;
}

static int trust_signature(X509 *leaf, const struct trust_signed *what, struct err *err)
{
    EVP_PKEY *key = X509_get0_pubkey(leaf);
    int kind = key == NULL ? EVP_PKEY_NONE : EVP_PKEY_get_base_id(key);
    if (kind != EVP_PKEY_EC && kind != EVP_PKEY_ED25519)
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the signer's certificate has a key of another kind than EC and Ed25519");
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (digest == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a signature");
    const EVP_MD *md = kind == EVP_PKEY_EC ? EVP_sha256() : NULL;
    bool good = EVP_DigestVerifyInit(digest, NULL, md, NULL, key) == 1 &&
                EVP_DigestVerify(digest, what->signature, what->signature_size, what->message,
                                 what->message_size) == 1;
    EVP_MD_CTX_free(digest);
    if (!good)
        return err_set(err, TIDE_ERR_CORRUPT, "the signature is not the signer's over these bytes");
    return 0;
}

int trust_verify(const struct trust *trust, const struct trust_signed *what,
                 char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    int status = -1;
    X509 *certs[TLS_CHAIN_MAX] = {NULL};
    if (what->count == 0 || what->count > TLS_CHAIN_MAX)
        return err_set(err, TIDE_ERR_CORRUPT, "a chain of %zu certificates; 1 to %d are taken",
                       what->count, TLS_CHAIN_MAX);
    if (what->at_s < 0 || what->at_s > TRUST_YEAR_9999S)
        return err_set(err, TIDE_ERR_DENIED, "%lld s since 1970 is no time of signing",
                       (long long)what->at_s);
    for (size_t i = 0; i < what->count; i++) {
        const uint8_t *at = what->der[i];
        if (what->der_size[i] <= TLS_CERT_DER_MAX)
            certs[i] = d2i_X509(NULL, &at, (long)what->der_size[i]);
        if (certs[i] == NULL || at != what->der[i] + what->der_size[i]) {
            err_set(err, TIDE_ERR_CORRUPT, "part %zu of the chain is not a certificate", i + 1);
            goto out;
        }
    }
    if (trust_chain(trust, certs, what->count, what->at_s, err) != 0 ||
        trust_signature(certs[0], what, err) != 0 ||
        tls_certificate_uri(certs[0], ret_uri, err) != 0)
        goto out;
    status = 0;
out:
    ERR_clear_error();
    for (size_t i = 0; i < what->count; i++)
        X509_free(certs[i]);
    return status;
}
