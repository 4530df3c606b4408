/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/trust.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <time.h>

#include "common/io/clock.h"

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
    if (trust == NULL) {
        X509_STORE_free(store);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a CA");
    }
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

static const char *trust_asn1(const ASN1_TIME *from, char ret[CLOCK_TEXT_MAX])
{
    struct tm tm = {0};
    return clock_text(ASN1_TIME_to_tm(from, &tm) == 1 ? timegm(&tm) : INT64_MIN, ret);
}

static int trust_chain(const struct trust *trust, X509 *const *certs, size_t count, int64_t at_s,
                       struct err *err)
{
    const X509 *bad = NULL;
    time_t when = (time_t)at_s;
    int code = tls_chain_check(trust->store, certs, count, &when, &bad);
    if (code == X509_V_ERR_OUT_OF_MEM)
        return err_set(err, TIDE_ERR_LIMIT, "no memory to check a chain of certificates");
    if ((code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID) &&
        bad != NULL) {
        char from[CLOCK_TEXT_MAX];
        char to[CLOCK_TEXT_MAX];
        char at[CLOCK_TEXT_MAX];
        char subject[TRUST_TEXT];
        X509_NAME_oneline(X509_get_subject_name(bad), subject, sizeof(subject));
        return err_set(err, TIDE_ERR_DENIED,
                       "certificate \"%.128s\" is valid from %sZ to %sZ, and it was signed at %sZ",
                       subject, trust_asn1(X509_get0_notBefore(bad), from),
                       trust_asn1(X509_get0_notAfter(bad), to), clock_text(at_s, at));
    }
    if (code != 0)
        return err_set(err, TIDE_ERR_DENIED, "the chain does not end at the CA given: %s",
                       X509_verify_cert_error_string(code));
    return 0;
}

static int trust_signature(X509 *leaf, const struct trust_signed *what, struct err *err)
{
    unsigned long before = tls_failures();
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
    if (!good && tls_failures() != before)
        return err_set(err, TIDE_ERR_LIMIT, "no memory to check a signature");
    if (!good)
        return err_set(err, TIDE_ERR_CORRUPT, "the signature is not the signer's over these bytes");
    return 0;
}

int trust_verify(const struct trust *trust, const struct trust_signed *what,
                 char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    int status = -1;
    unsigned long before = tls_failures();
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
        if (tls_failures() != before) { /* what was read may lack its key */
            err_set(err, TIDE_ERR_LIMIT, "no memory for a certificate");
            goto out;
        }
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
