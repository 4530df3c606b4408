/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/pki.h"

#include <limits.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/file.h"
#include "common/io/tls.h"

#define PKI_SERIAL_BITS 127
#define PKI_DAY_S       86400L
#define PKI_COMMON_MAX  64 /* X.520's limit of a common name */

void pki_pair_close(struct pki_pair *pair)
{
    EVP_PKEY_free(pair->key);
    X509_free(pair->cert);
    *pair = (struct pki_pair){0};
}

static int pki_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    int good = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good ? 0 : -1;
}

/* What every certificate has: key, serial, validity, subject. */
static int pki_begin(struct pki_pair *pair, const char *site, const char *common_name,
                     long valid_from_s, long valid_to_s)
{
    char cut[PKI_COMMON_MAX + 1];
    (void)snprintf(cut, sizeof(cut), "%s", common_name);
    pair->key = EVP_EC_gen("P-256");
    pair->cert = X509_new();
    BIGNUM *serial = BN_new();
    TIDE_CHECK(serial != NULL);
    bool good = pair->key != NULL && pair->cert != NULL &&
                BN_rand(serial, PKI_SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(pair->cert)) != NULL &&
                X509_set_version(pair->cert, X509_VERSION_3) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(pair->cert), valid_from_s) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(pair->cert), valid_to_s) != NULL &&
                X509_set_pubkey(pair->cert, pair->key) == 1;
    BN_free(serial);
    if (!good)
        return -1;
    X509_NAME *subject = X509_get_subject_name(pair->cert);
    if (site != NULL && X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                                                   (const uint8_t *)site, -1, -1, 0) != 1)
        return -1;
    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)cut, -1, -1,
                                      0) == 1
               ? 0
               : -1;
}

static int pki_failed(struct pki_pair *pair, const char *what, struct err *err)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    err_set(err, TIDE_ERR_FAILED, "cannot make %s: %s", what,
            reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    pki_pair_close(pair);
    return -1;
}

int pki_make_ca(const char *site, int days, struct pki_pair *ret, struct err *err)
{
    struct pki_pair pair = {0};
    char common_name[PKI_COMMON_MAX + 1];
    ERR_clear_error();
    (void)snprintf(common_name, sizeof(common_name), "Tidemark site CA");
    if (pki_begin(&pair, site, common_name, -PKI_BACKDATE_S, days * PKI_DAY_S) != 0 ||
        X509_set_issuer_name(pair.cert, X509_get_subject_name(pair.cert)) != 1 ||
        pki_extension(pair.cert, pair.cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") !=
            0 ||
        pki_extension(pair.cert, pair.cert, NID_key_usage, "critical,keyCertSign,cRLSign") != 0 ||
        pki_extension(pair.cert, pair.cert, NID_subject_key_identifier, "hash") != 0 ||
        X509_sign(pair.cert, pair.key, EVP_sha256()) <= 0)
        return pki_failed(&pair, "the CA", err);
    *ret = pair;
    return 0;
}

static bool pki_name_add(GENERAL_NAMES *names, int type, const char *text, size_t size)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (name == NULL || value == NULL || size > INT_MAX ||
        ASN1_STRING_set(value, text, (int)size) != 1) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

static bool pki_ip_add(GENERAL_NAMES *names, const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *value = a2i_IPADDRESS(text);
    if (name == NULL || value == NULL) {
        GENERAL_NAME_free(name);
        ASN1_OCTET_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, GEN_IPADD, value);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

static int pki_names(X509 *cert, const struct pki_request *request)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool good = names != NULL;
    for (size_t i = 0; good && i < request->uri_count; i++) {
        size_t size = request->uri_sizes[i];
        good = pki_name_add(names, GEN_URI, request->uris[i],
                            size > 0 ? size : strlen(request->uris[i]));
    }
    for (size_t i = 0; good && i < request->dns_count; i++)
        good = pki_name_add(names, GEN_DNS, request->dns[i], strlen(request->dns[i]));
    for (size_t i = 0; good && i < request->ip_count; i++)
        good = pki_ip_add(names, request->ips[i]);
    if (good && sk_GENERAL_NAME_num(names) > 0)
        good = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return good ? 0 : -1;
}

int pki_make_leaf(const struct pki_pair *ca, const struct pki_request *request,
                  struct pki_pair *ret, struct err *err)
{
    struct pki_pair pair = {0};
    TIDE_CHECK(request->uri_count <= PKI_NAMES_MAX && request->dns_count <= PKI_NAMES_MAX &&
               request->ip_count <= PKI_NAMES_MAX);
    ERR_clear_error();
    if (pki_begin(&pair, NULL, request->common_name, request->valid_from_s, request->valid_to_s) !=
            0 ||
        X509_set_issuer_name(pair.cert, X509_get_subject_name(ca->cert)) != 1 ||
        pki_extension(pair.cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") != 0 ||
        pki_extension(pair.cert, ca->cert, NID_key_usage, "critical,digitalSignature") != 0 ||
        pki_extension(pair.cert, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth") != 0 ||
        pki_extension(pair.cert, ca->cert, NID_subject_key_identifier, "hash") != 0 ||
        pki_extension(pair.cert, ca->cert, NID_authority_key_identifier, "keyid") != 0 ||
        pki_names(pair.cert, request) != 0 || X509_sign(pair.cert, ca->key, EVP_sha256()) <= 0)
        return pki_failed(&pair, request->common_name, err);
    *ret = pair;
    return 0;
}

/* PREFIX and an ending into a path. */
static int pki_path(const char *prefix, const char *ending, char ret[PATH_MAX], struct err *err)
{
    int n = snprintf(ret, PATH_MAX, "%s%s", prefix, ending);
    if (n < 0 || n >= PATH_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "path \"%.100s...\" is too long", prefix);
    return 0;
}

static int pki_absent(const char *path, struct err *err)
{
    struct stat stat_;
    if (lstat(path, &stat_) != 0)
        return 0;
    return err_set(
        err, TIDE_ERR_CONFLICT,
        "\"%s\" exists already and is not overwritten; take another name or move it away", path);
}

int pki_pair_write(const struct pki_pair *pair, const char *prefix, struct err *err)
{
    char cert_path[PATH_MAX];
    char key_path[PATH_MAX];
    char *bytes;
    if (pki_path(prefix, ".crt", cert_path, err) != 0 ||
        pki_path(prefix, ".key", key_path, err) != 0 || pki_absent(cert_path, err) != 0 ||
        pki_absent(key_path, err) != 0)
        return -1;
    BIO *cert = BIO_new(BIO_s_mem());
    BIO *key = BIO_new(BIO_s_secmem());
    TIDE_CHECK(cert != NULL && key != NULL);
    TIDE_CHECK(PEM_write_bio_X509(cert, pair->cert) == 1);
    TIDE_CHECK(PEM_write_bio_PKCS8PrivateKey(key, pair->key, NULL, NULL, 0, NULL, NULL) == 1);
    long size = BIO_get_mem_data(key, &bytes);
    int status = file_create(key_path, bytes, (size_t)size, 0600, err);
    if (status == 0) {
        size = BIO_get_mem_data(cert, &bytes);
        status = file_create(cert_path, bytes, (size_t)size, 0644, err);
        if (status != 0)
            (void)unlink(key_path);
    }
    BIO_free(cert);
    BIO_free(key);
    return status;
}

int pki_pair_read(const char *prefix, struct pki_pair *ret, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *bytes;
    size_t size;
    struct pki_pair pair = {0};
    if (pki_path(prefix, ".crt", path, err) != 0 ||
        file_read(path, TLS_PEM_MAX, &bytes, &size, err) != 0)
        return -1;
    BIO *bio = BIO_new_mem_buf(bytes, (int)size);
    TIDE_CHECK(bio != NULL);
    pair.cert = PEM_read_bio_X509(bio, NULL, NULL, (void *)"");
    BIO_free(bio);
    free(bytes);
    if (pair.cert == NULL) {
        ERR_clear_error();
        return err_set(err, TIDE_ERR_CONFIG, "\"%s\" is not a certificate in PEM form", path);
    }
    if (pki_path(prefix, ".key", path, err) != 0 ||
        file_read(path, TLS_PEM_MAX, &bytes, &size, err) != 0) {
        pki_pair_close(&pair);
        return -1;
    }
    bio = BIO_new_mem_buf(bytes, (int)size);
    TIDE_CHECK(bio != NULL);
    pair.key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"");
    BIO_free(bio);
    OPENSSL_cleanse(bytes, size);
    free(bytes);
    bool good = pair.key != NULL && X509_check_private_key(pair.cert, pair.key) == 1;
    ERR_clear_error();
    if (!good) {
        pki_pair_close(&pair);
        return err_set(err, TIDE_ERR_CONFIG, "\"%s\" is not the key of its certificate", path);
    }
    *ret = pair;
    return 0;
}

int pki_init(const char *dir, const char *site, struct err *err)
{
    char prefix[PATH_MAX];
    char uri[TLS_URI_MAX + 1];
    struct tls_name name;
    struct pki_pair ca;
    int n = snprintf(uri, sizeof(uri), "spiffe://%s/operator/x", site);
    if (n < 0 || (size_t)n >= sizeof(uri) || tls_name_parse(uri, &name, NULL) != 0)
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%.100s\" is not a site name; expected 1 to %d of a-z 0-9 . -, the first "
                       "a letter or digit",
                       site, TLS_LABEL_MAX);
    if (file_mkdirs(dir, 0700, err) != 0 || pki_path(dir, "/ca", prefix, err) != 0 ||
        pki_make_ca(site, PKI_DAYS_CA, &ca, err) != 0)
        return -1;
    int status = pki_pair_write(&ca, prefix, err);
    pki_pair_close(&ca);
    return status;
}

static int pki_site(const struct pki_pair *ca, char ret[TLS_LABEL_MAX + 1], struct err *err)
{
    int size = X509_NAME_get_text_by_NID(X509_get_subject_name(ca->cert), NID_organizationName, ret,
                                         TLS_LABEL_MAX + 1);
    if (size <= 0)
        return err_set(err, TIDE_ERR_CONFIG,
                       "the CA names no site; make one with `tidemark pki "
                       "init`");
    return 0;
}

/* Fills the request with what was asked for, checked. */
static int pki_request(struct pki_request *request, const char *const *dns, size_t dns_count,
                       const char *const *ips, size_t ip_count, int days, struct err *err)
{
    if (dns_count > PKI_NAMES_MAX || ip_count > PKI_NAMES_MAX)
        return err_set(err, TIDE_ERR_CONFIG, "at most %u DNS names and as many addresses are taken",
                       PKI_NAMES_MAX);
    if (days < 1 || days > PKI_DAYS_MAX)
        return err_set(err, TIDE_ERR_CONFIG, "%d days; expected 1 to %d", days, PKI_DAYS_MAX);
    for (size_t i = 0; i < dns_count; i++) {
        size_t size = strlen(dns[i]);
        if (size == 0 || size > 253 ||
            strspn(dns[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*") !=
                size)
            return err_set(err, TIDE_ERR_CONFIG, "\"%.100s\" is not a DNS name", dns[i]);
        request->dns[i] = dns[i];
    }
    for (size_t i = 0; i < ip_count; i++) {
        ASN1_OCTET_STRING *octets = a2i_IPADDRESS(ips[i]);
        ERR_clear_error();
        if (octets == NULL)
            return err_set(err, TIDE_ERR_CONFIG, "\"%.100s\" is not a numeric IP address", ips[i]);
        ASN1_OCTET_STRING_free(octets);
        request->ips[i] = ips[i];
    }
    request->dns_count = dns_count;
    request->ip_count = ip_count;
    request->valid_from_s = -PKI_BACKDATE_S;
    request->valid_to_s = days * PKI_DAY_S;
    return 0;
}

int pki_issue(const char *dir, const char *role, const char *id, const char *const *dns,
              size_t dns_count, const char *const *ips, size_t ip_count, int days,
              const char *prefix, char *ret_uri, struct err *err)
{
    int status = -1;
    char path[PATH_MAX];
    char site[TLS_LABEL_MAX + 1];
    char uri[TLS_URI_MAX + 1];
    struct tls_name name;
    struct pki_pair ca = {0};
    struct pki_pair leaf = {0};
    struct pki_request request = {.common_name = id};
    if (pki_path(dir, "/ca", path, err) != 0 || pki_pair_read(path, &ca, err) != 0)
        return err_wrap(err, "cannot use the CA in \"%s\"", dir);
    if (pki_site(&ca, site, err) != 0)
        goto out;
    int n = snprintf(uri, sizeof(uri), "spiffe://%s/%s/%s", site, role, id);
    if (n < 0 || (size_t)n >= sizeof(uri)) {
        err_set(err, TIDE_ERR_CONFIG, "id \"%.100s...\" is too long", id);
        goto out;
    }
    if (tls_name_parse(uri, &name, err) != 0)
        goto out;
    request.uris[0] = uri;
    request.uri_count = 1;
    if (pki_request(&request, dns, dns_count, ips, ip_count, days, err) != 0 ||
        pki_make_leaf(&ca, &request, &leaf, err) != 0 || pki_pair_write(&leaf, prefix, err) != 0)
        goto out;
    if (ret_uri != NULL)
        memcpy(ret_uri, uri, sizeof(uri));
    status = 0;
out:
    pki_pair_close(&ca);
    pki_pair_close(&leaf);
    return status;
}
