/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/core/check.h"
#include "common/io/file.h"
#include "common/io/loop.h"

#define TLS_SCHEME      "spiffe://"
#define TLS_VERIFY_MAX  3 /* certificates between a leaf and the CA */
#define TLS_CA_MAX      16
#define TLS_KEY_MODE    0027 /* bits that a key file must not have */
#define TLS_REASON_MAX  320
#define TLS_OPENSSL_MAX 256

/* What was read at one time; not changed afterwards. */
struct tls_keys {
    atomic_uint holders;
    unsigned turn; /* how often the identity was read before */
    X509 *chain[TLS_CHAIN_MAX];
    uint8_t *der[TLS_CHAIN_MAX];
    size_t der_size[TLS_CHAIN_MAX];
    size_t chain_count;
    EVP_PKEY *key;
    X509_STORE *store;
};

struct tls_slot {
    pthread_mutex_t lock;
    struct tls_keys *now; /* under the lock */
    atomic_uint turn;     /* that of now */
};

struct tls_identity {
    char *cert_path;
    char *key_path;
    char *ca_path;
    char uri[TLS_URI_MAX + 1];
    struct tls_name name;
    struct tls_slot *slot;
};

/* What the verify callback finds by its SSL_CTX. */
struct tls_policy {
    const struct tls_identity *identity;
    unsigned turn;
    tls_allow_fn *allow;
    void *arg;
    char site[TLS_LABEL_MAX + 1];
};

static pthread_once_t tls_once = PTHREAD_ONCE_INIT;
static int tls_policy_index; /* in SSL_CTX; set once */
static int tls_reason_index; /* in SSL: why we refused the peer, a string from malloc */

static void tls_index_free(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long argl,
                           void *argp)
{
    (void)parent;
    (void)all;
    (void)index;
    (void)argl;
    (void)argp;
    free(data);
}

static _Thread_local unsigned long tls_failed; /* allocations */

static void *tls_take(size_t size, const char *file, int line)
{
    void *at = malloc(size);
    (void)file;
    (void)line;
    tls_failed += at == NULL;
    return at;
}

static void *tls_take_more(void *old, size_t size, const char *file, int line)
{
    void *at = realloc(old, size);
    (void)file;
    (void)line;
    tls_failed += at == NULL;
    return at;
}

static void tls_give(void *at, const char *file, int line)
{
    (void)file;
    (void)line;
    free(at);
}

static void tls_start(void)
{
    /* Refused where OpenSSL has memory already; then it is never seen that it gets none. */
    (void)CRYPTO_set_mem_functions(tls_take, tls_take_more, tls_give);
    tls_policy_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, tls_index_free);
    tls_reason_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, tls_index_free);
    TIDE_CHECK(tls_policy_index >= 0 && tls_reason_index >= 0);
}

unsigned long tls_failures(void)
{
    TIDE_CHECK(pthread_once(&tls_once, tls_start) == 0);
    return tls_failed;
}

static const char *const tls_roles[] = {
    [TLS_PARTICIPANT] = "participant",
    [TLS_COORDINATOR] = "coordinator",
    [TLS_OPERATOR] = "operator",
};

const char *tls_role_text(enum tls_role role)
{
    TIDE_CHECK((size_t)role < sizeof(tls_roles) / sizeof(tls_roles[0]));
    return tls_roles[role];
}

/* Copies text[0..size) if it is a label. */
static bool tls_label(const char *text, size_t size, const char *others,
                      char ret[TLS_LABEL_MAX + 1])
{
    if (size == 0 || size > TLS_LABEL_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool first = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!first && (i == 0 || c == 0 || strchr(others, c) == NULL))
            return false;
    }
    memcpy(ret, text, size);
    ret[size] = 0;
    return true;
}

int tls_name_parse(const char *uri, struct tls_name *ret, struct err *err)
{
    struct tls_name name;
    if (strncmp(uri, TLS_SCHEME, strlen(TLS_SCHEME)) != 0)
        goto bad;
    const char *site = uri + strlen(TLS_SCHEME);
    size_t site_size = strcspn(site, "/");
    if (site[site_size] != '/' || !tls_label(site, site_size, ".-", name.site))
        goto bad;
    const char *role = site + site_size + 1;
    size_t role_size = strcspn(role, "/");
    if (role[role_size] != '/')
        goto bad;
    size_t k = 0;
    while (k < sizeof(tls_roles) / sizeof(tls_roles[0]) &&
           (strlen(tls_roles[k]) != role_size || memcmp(tls_roles[k], role, role_size) != 0))
        k++;
    const char *id = role + role_size + 1;
    if (k == sizeof(tls_roles) / sizeof(tls_roles[0]) || !tls_label(id, strlen(id), "._-", name.id))
        goto bad;
    name.role = (enum tls_role)k;
    *ret = name;
    return 0;
bad:
    return err_set(err, TIDE_ERR_CONFIG,
                   "\"%.255s\" is not an identity; expected "
                   "spiffe://SITE/participant|coordinator|operator/ID in lower case",
                   uri);
}

char *tls_name_uri(const struct tls_name *name, char ret_uri[TLS_URI_MAX + 1])
{
    (void)snprintf(ret_uri, TLS_URI_MAX + 1, TLS_SCHEME "%s/%s/%s", name->site,
                   tls_role_text(name->role), name->id);
    return ret_uri;
}

/* Of a call to OpenSSL that failed; before: tls_failures() before it. */
static enum err_code tls_code(unsigned long before)
{
    return tls_failures() != before ? TIDE_ERR_LIMIT : TIDE_ERR_FAILED;
}

/* Empties OpenSSL's queue of this thread into text. */
static void tls_queue(char *ret_text, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    if (code == 0)
        (void)snprintf(ret_text, size, "no reason given");
    else if (reason != NULL)
        (void)snprintf(ret_text, size, "%s", reason);
    else
        ERR_error_string_n(code, ret_text, size);
    ERR_clear_error();
}

int tls_certificate_uri(X509 *certificate, char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    int status = -1;
    int critical = 0;
    unsigned found = 0;
    char uri[TLS_URI_MAX + 1];
    struct tls_name name;
    struct err inner;
    unsigned long before = tls_failures();
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);
    if (names == NULL && tls_failures() != before) {
        ERR_clear_error();
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a certificate's names");
    }
    if (names == NULL) {
        ERR_clear_error();
        return err_set(err, TIDE_ERR_DENIED,
                       critical == -2 ? "the certificate has its alternative names twice"
                                      : "the certificate has no URI name; exactly one is needed");
    }
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *entry = sk_GENERAL_NAME_value(names, i);
        if (entry->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *text = entry->d.uniformResourceIdentifier;
        const uint8_t *bytes = ASN1_STRING_get0_data(text);
        int size = ASN1_STRING_length(text);
        if (++found > 1)
            break;
        if (size <= 0 || size > TLS_URI_MAX || memchr(bytes, 0, (size_t)size) != NULL) {
            err_set(err, TIDE_ERR_DENIED,
                    "the certificate's URI name is empty, longer than %d bytes, or has a NUL in it",
                    TLS_URI_MAX);
            goto out;
        }
        memcpy(uri, bytes, (size_t)size);
        uri[size] = 0;
    }
    if (found != 1) {
        err_set(err, TIDE_ERR_DENIED,
                found == 0 ? "the certificate has no URI name; exactly one is needed"
                           : "the certificate has more than one URI name; exactly one is needed");
        goto out;
    }
    if (tls_name_parse(uri, &name, &inner) != 0) {
        err_set(err, TIDE_ERR_DENIED, "the certificate's URI name: %s", inner.text);
        goto out;
    }
    memcpy(ret_uri, uri, sizeof(uri));
    status = 0;
out:
    GENERAL_NAMES_free(names);
    return status;
}

/* Never asks for a pass phrase. */
static int tls_no_phrase(char *to, int size, int writing, void *arg)
{
    (void)to;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static int tls_lacks(const char *path, struct err *err)
{
    ERR_clear_error();
    return err_set(err, TIDE_ERR_LIMIT, "no memory for \"%s\"", path);
}

/* Reads the certificates of a PEM file into certs; there must be 1 to max. */
static int tls_read_certs(const char *path, X509 **certs, size_t max, size_t *ret_count,
                          struct err *err)
{
    uint8_t *bytes;
    size_t size;
    size_t count = 0;
    X509 *cert = NULL;
    unsigned long before = tls_failures();
    if (file_read(path, TLS_PEM_MAX, &bytes, &size, err) != 0)
        return -1;
    BIO *bio = BIO_new_mem_buf(bytes, (int)size);
    while (bio != NULL && (cert = PEM_read_bio_X509(bio, NULL, tls_no_phrase, NULL)) != NULL &&
           count < max)
        certs[count++] = cert;
    BIO_free(bio);
    free(bytes);
    bool many = cert != NULL;
    X509_free(cert);
    unsigned long last = ERR_peek_last_error();
    ERR_clear_error();
    bool lacks = tls_failures() != before; /* one that was read may then lack its key */
    if (!lacks && !many && count > 0 && ERR_GET_REASON(last) == PEM_R_NO_START_LINE) {
        *ret_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        X509_free(certs[i]);
    if (lacks)
        return tls_lacks(path, err);
    return err_set(err, TIDE_ERR_CONFIG, "\"%s\" does not hold 1 to %zu certificates in PEM form",
                   path, max);
}

static int tls_read_key(const char *path, EVP_PKEY **ret, struct err *err)
{
    uint8_t *bytes;
    size_t size;
    struct stat stat_;
    if (stat(path, &stat_) != 0)
        return file_err(err, errno, "cannot look at key \"%s\"", path);
    if ((stat_.st_mode & TLS_KEY_MODE) != 0)
        return err_set(err, TIDE_ERR_CONFIG,
                       "key \"%s\" has mode %04o and is open to others; chmod 0600 it", path,
                       (unsigned)(stat_.st_mode & 07777));
    if (file_read(path, TLS_PEM_MAX, &bytes, &size, err) != 0)
        return -1;
    unsigned long before = tls_failures();
    BIO *bio = BIO_new_mem_buf(bytes, (int)size);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, tls_no_phrase, NULL);
    BIO_free(bio);
    OPENSSL_cleanse(bytes, size);
    free(bytes);
    ERR_clear_error();
    if (tls_failures() != before) {
        EVP_PKEY_free(key);
        return tls_lacks(path, err);
    }
    if (key == NULL)
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%s\" does not hold a private key in PEM form without a pass phrase",
                       path);
    *ret = key;
    return 0;
}

int tls_read_ca(const char *path, X509_STORE **ret, struct err *err)
{
    X509 *certs[TLS_CA_MAX];
    size_t count;
    if (tls_read_certs(path, certs, TLS_CA_MAX, &count, err) != 0)
        return -1;
    X509_STORE *store = X509_STORE_new();
    bool all = store != NULL;
    for (size_t i = 0; i < count; i++) {
        all = all && X509_STORE_add_cert(store, certs[i]) == 1;
        X509_free(certs[i]);
    }
    if (!all) {
        X509_STORE_free(store);
        return tls_lacks(path, err);
    }
    *ret = store;
    return 0;
}

int tls_chain_check(X509_STORE *store, X509 *const *certs, size_t count, const time_t *at,
                    const X509 **ret_bad)
{
    unsigned long before = tls_failures();
    STACK_OF(X509) *more = sk_X509_new_null();
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    bool ready = more != NULL && check != NULL;
    for (size_t i = 1; ready && i < count; i++)
        ready = sk_X509_push(more, certs[i]) > 0;
    ready = ready && X509_STORE_CTX_init(check, store, certs[0], more) == 1;
    int code = ready ? 0 : X509_V_ERR_OUT_OF_MEM;
    if (ready) {
        X509_STORE_CTX_set_depth(check, TLS_VERIFY_MAX);
        if (at != NULL)
            X509_STORE_CTX_set_time(check, 0, *at);
    }
    if (ready && X509_verify_cert(check) != 1) {
        code = X509_STORE_CTX_get_error(check);
        if (code == X509_V_OK)
            code = X509_V_ERR_UNSPECIFIED;
        if (ret_bad != NULL)
            *ret_bad = X509_STORE_CTX_get_current_cert(check);
    }
    X509_STORE_CTX_free(check);
    sk_X509_free(more);
    ERR_clear_error();
    return code != 0 && tls_failures() != before ? X509_V_ERR_OUT_OF_MEM : code;
}

static int tls_keys_check(struct tls_keys *keys, const struct tls_identity *paths,
                          char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    struct err inner;
    unsigned long before = tls_failures();
    if (X509_check_private_key(keys->chain[0], keys->key) != 1) {
        if (tls_failures() != before)
            return tls_lacks(paths->cert_path, err);
        ERR_clear_error();
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" is not that of certificate \"%s\"",
                       paths->key_path, paths->cert_path);
    }
    if (tls_certificate_uri(keys->chain[0], ret_uri, &inner) != 0)
        return err_set(err, inner.code == TIDE_ERR_LIMIT ? inner.code : TIDE_ERR_CONFIG,
                       "\"%s\": %s", paths->cert_path, inner.text);
    int code = tls_chain_check(keys->store, keys->chain, keys->chain_count, NULL, NULL);
    if (code == X509_V_ERR_OUT_OF_MEM)
        return tls_lacks(paths->cert_path, err);
    if (code != 0)
        return err_set(err, TIDE_ERR_CONFIG,
                       "certificate \"%s\" is not good under CA \"%s\": %s; issue it anew with "
                       "`tidemark pki issue`",
                       paths->cert_path, paths->ca_path, X509_verify_cert_error_string(code));
    for (size_t i = 0; i < keys->chain_count; i++) {
        int size = i2d_X509(keys->chain[i], &keys->der[i]);
        if (size <= 0)
            return tls_lacks(paths->cert_path, err);
        keys->der_size[i] = (size_t)size;
        if (keys->der_size[i] > TLS_CERT_DER_MAX)
            return err_set(err, TIDE_ERR_CONFIG,
                           "\"%s\" has a certificate of %d bytes; at most %u are taken",
                           paths->cert_path, size, TLS_CERT_DER_MAX);
    }
    return 0;
}

static void tls_keys_drop(struct tls_keys *keys)
{
    if (keys == NULL || atomic_fetch_sub(&keys->holders, 1) > 1)
        return;
    for (size_t i = 0; i < keys->chain_count; i++) {
        X509_free(keys->chain[i]);
        OPENSSL_free(keys->der[i]);
    }
    EVP_PKEY_free(keys->key);
    X509_STORE_free(keys->store);
    free(keys);
}

/* Those of now, until tls_keys_drop(). */
static struct tls_keys *tls_keys_hold(const struct tls_identity *identity)
{
    pthread_mutex_lock(&identity->slot->lock);
    struct tls_keys *keys = identity->slot->now;
    atomic_fetch_add(&keys->holders, 1);
    pthread_mutex_unlock(&identity->slot->lock);
    return keys;
}

/* Reads the three files. */
static struct tls_keys *tls_keys_read(const struct tls_identity *paths,
                                      char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    struct tls_keys *keys = calloc(1, sizeof(*keys));
    size_t count = 0;
    if (keys == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for an identity");
        return NULL;
    }
    atomic_init(&keys->holders, 1);
    if (tls_read_certs(paths->cert_path, keys->chain, TLS_CHAIN_MAX, &count, err) != 0)
        goto bad;
    keys->chain_count = count;
    if (tls_read_key(paths->key_path, &keys->key, err) != 0 ||
        tls_read_ca(paths->ca_path, &keys->store, err) != 0 ||
        tls_keys_check(keys, paths, ret_uri, err) != 0)
        goto bad;
    return keys;
bad:
    tls_keys_drop(keys);
    if (err != NULL && err->code != TIDE_ERR_LIMIT)
        err->code = TIDE_ERR_CONFIG;
    return NULL;
}

/* An identity without keys. NULL: no memory. */
static struct tls_identity *tls_identity_make(const char *cert_path, const char *key_path,
                                              const char *ca_path)
{
    struct tls_identity *identity = calloc(1, sizeof(*identity));
    if (identity == NULL)
        return NULL;
    identity->cert_path = strdup(cert_path);
    identity->key_path = strdup(key_path);
    identity->ca_path = strdup(ca_path);
    identity->slot = calloc(1, sizeof(*identity->slot));
    if (identity->slot != NULL)
        loop_mutex_init(&identity->slot->lock);
    if (identity->slot == NULL || identity->cert_path == NULL || identity->key_path == NULL ||
        identity->ca_path == NULL) {
        tls_identity_free(identity);
        return NULL;
    }
    return identity;
}

int tls_identity_load(const char *cert_path, const char *key_path, const char *ca_path,
                      struct tls_identity **ret, struct err *err)
{
    struct tls_identity *identity = tls_identity_make(cert_path, key_path, ca_path);
    if (identity == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory for an identity");
    identity->slot->now = tls_keys_read(identity, identity->uri, err);
    if (identity->slot->now == NULL) {
        tls_identity_free(identity);
        return -1;
    }
    TIDE_CHECK(tls_name_parse(identity->uri, &identity->name, NULL) == 0);
    *ret = identity;
    return 0;
}

int tls_identity_reload(struct tls_identity *identity, struct err *err)
{
    char uri[TLS_URI_MAX + 1];
    struct tls_slot *slot = identity->slot;
    struct tls_keys *keys = tls_keys_read(identity, uri, err);
    if (keys == NULL)
        return -1;
    if (strcmp(uri, identity->uri) != 0) {
        tls_keys_drop(keys);
        return err_set(err, TIDE_ERR_CONFIG,
                       "certificate \"%s\" now names %s instead of %s; to change the identity, "
                       "start anew",
                       identity->cert_path, uri, identity->uri);
    }
    pthread_mutex_lock(&slot->lock);
    struct tls_keys *old = slot->now;
    keys->turn = old->turn + 1;
    slot->now = keys;
    atomic_store(&slot->turn, keys->turn);
    pthread_mutex_unlock(&slot->lock);
    tls_keys_drop(old);
    return 0;
}

struct tls_identity *tls_identity_copy(const struct tls_identity *identity)
{
    struct tls_identity *copy =
        tls_identity_make(identity->cert_path, identity->key_path, identity->ca_path);
    if (copy == NULL)
        return NULL;
    memcpy(copy->uri, identity->uri, sizeof(copy->uri));
    copy->name = identity->name;
    copy->slot->now = tls_keys_hold(identity);
    atomic_init(&copy->slot->turn, copy->slot->now->turn);
    return copy;
}

void tls_identity_free(struct tls_identity *identity)
{
    if (identity == NULL)
        return;
    if (identity->slot != NULL) {
        tls_keys_drop(identity->slot->now);
        pthread_mutex_destroy(&identity->slot->lock);
        free(identity->slot);
    }
    free(identity->cert_path);
    free(identity->key_path);
    free(identity->ca_path);
    free(identity);
}

const char *tls_identity_uri(const struct tls_identity *identity)
{
    return identity->uri;
}

const struct tls_name *tls_identity_name(const struct tls_identity *identity)
{
    return &identity->name;
}

size_t tls_identity_chain(const struct tls_identity *identity,
                          const uint8_t *ret_der[TLS_CHAIN_MAX], size_t ret_size[TLS_CHAIN_MAX])
{
    /* Not held: they are those of now until the identity's owner reloads it. */
    pthread_mutex_lock(&identity->slot->lock);
    const struct tls_keys *keys = identity->slot->now;
    pthread_mutex_unlock(&identity->slot->lock);
    for (size_t i = 0; i < keys->chain_count; i++) {
        ret_der[i] = keys->der[i];
        ret_size[i] = keys->der_size[i];
    }
    return keys->chain_count;
}

/* Keeps the reason for tls_failure(); the newest wins. */
static void tls_remember(SSL *ssl, const char *text)
{
    char *old = SSL_get_ex_data(ssl, tls_reason_index);
    char *copy = strdup(text);
    if (SSL_set_ex_data(ssl, tls_reason_index, copy) == 1)
        free(old);
    else
        free(copy);
}

static int tls_verify_peer(int good, X509_STORE_CTX *check)
{
    char uri[TLS_URI_MAX + 1];
    char text[TLS_REASON_MAX];
    struct err err;
    struct tls_name name;
    if (!good || X509_STORE_CTX_get_error_depth(check) != 0)
        return good;
    SSL *ssl = X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx());
    TIDE_CHECK(ssl != NULL);
    const struct tls_policy *policy = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_policy_index);
    TIDE_CHECK(policy != NULL);
    if (tls_certificate_uri(X509_STORE_CTX_get_current_cert(check), uri, &err) != 0) {
        (void)snprintf(text, sizeof(text), "%s", err.text);
        goto refuse;
    }
    TIDE_CHECK(tls_name_parse(uri, &name, NULL) == 0);
    if (strcmp(name.site, policy->site) != 0) {
        (void)snprintf(text, sizeof(text), "%s is of another site than \"%s\"", uri, policy->site);
        goto refuse;
    }
    if (policy->allow != NULL && !policy->allow(policy->arg, uri)) {
        (void)snprintf(text, sizeof(text), "%s is not one that may be here", uri);
        goto refuse;
    }
    return 1;
refuse:
    tls_remember(ssl, text);
    X509_STORE_CTX_set_error(check, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* What verifies, and how, whoever drives the handshakes. */
static void tls_context_rules(SSL_CTX *context)
{
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION | SSL_OP_SINGLE_ECDH_USE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    /* Else one SSL_read() goes on for as long as a peer sends new keys and nothing else. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_verify_peer);
    SSL_CTX_set_verify_depth(context, TLS_VERIFY_MAX);
}

static bool tls_context_keys(SSL_CTX *context, const struct tls_keys *keys)
{
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1 || SSL_CTX_set_max_early_data(context, 0) != 1 ||
        SSL_CTX_use_certificate(context, keys->chain[0]) != 1 ||
        SSL_CTX_use_PrivateKey(context, keys->key) != 1 ||
        SSL_CTX_set1_verify_cert_store(context, keys->store) != 1 ||
        SSL_CTX_clear_chain_certs(context) != 1)
        return false;
    for (size_t i = 1; i < keys->chain_count; i++) {
        if (SSL_CTX_add1_chain_cert(context, keys->chain[i]) != 1)
            return false;
    }
    return true;
}

int tls_context_apply(SSL_CTX *context, const struct tls_identity *identity, tls_allow_fn *allow,
                      void *arg, struct err *err)
{
    char reason[TLS_OPENSSL_MAX];
    unsigned long before = tls_failures();
    ERR_clear_error();
    struct tls_policy *policy = calloc(1, sizeof(*policy));
    if (policy == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "cannot set up TLS: no memory");
    struct tls_keys *keys = tls_keys_hold(identity);
    policy->identity = identity;
    policy->turn = keys->turn;
    policy->allow = allow;
    policy->arg = arg;
    memcpy(policy->site, identity->name.site, sizeof(policy->site));
    struct tls_policy *old = SSL_CTX_get_ex_data(context, tls_policy_index);
    bool kept = SSL_CTX_set_ex_data(context, tls_policy_index, policy) == 1;
    free(kept ? old : policy);
    bool good = kept && tls_context_keys(context, keys);
    tls_keys_drop(keys);
    if (!good) {
        tls_queue(reason, sizeof(reason));
        return err_set(err, tls_code(before), "cannot set up TLS: %s", reason);
    }
    tls_context_rules(context);
    return 0;
}

SSL_CTX *tls_context(const struct tls_identity *identity, tls_allow_fn *allow, void *arg)
{
    struct err err;
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    TIDE_CHECK(context != NULL);
    TIDE_CHECK(tls_context_apply(context, identity, allow, arg, &err) == 0);
    return context;
}

SSL *tls_connection(SSL_CTX **context)
{
    const struct tls_policy *policy = SSL_CTX_get_ex_data(*context, tls_policy_index);
    TIDE_CHECK(policy != NULL);
    if (policy->turn != atomic_load(&policy->identity->slot->turn)) {
        SSL_CTX *fresh = SSL_CTX_new(TLS_method());
        if (fresh != NULL &&
            tls_context_apply(fresh, policy->identity, policy->allow, policy->arg, NULL) == 0) {
            SSL_CTX_free(*context); /* connections that it made hold it */
            *context = fresh;
        } else {
            SSL_CTX_free(fresh);
            ERR_clear_error();
        }
    }
    return SSL_new(*context);
}

int tls_peer_uri(const SSL *ssl, char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    /* The result is X509_V_OK also where there was nothing to verify. */
    if (certificate == NULL)
        return err_set(err, TIDE_ERR_DENIED, "the peer showed no certificate");
    long result = SSL_get_verify_result(ssl);
    if (result != X509_V_OK)
        return err_set(err, TIDE_ERR_DENIED, "the peer's certificate is not good: %s",
                       X509_verify_cert_error_string(result));
    return tls_certificate_uri(certificate, ret_uri, err);
}

void tls_failure(const SSL *ssl, int result, char *ret_text, size_t size)
{
    int error = errno;
    char reason[TLS_OPENSSL_MAX];
    const char *own = ssl == NULL ? NULL : SSL_get_ex_data(ssl, tls_reason_index);
    long verify = ssl == NULL ? X509_V_OK : SSL_get_verify_result(ssl);
    if (own != NULL) {
        (void)snprintf(ret_text, size, "%s", own);
    } else if (verify != X509_V_OK) {
        (void)snprintf(ret_text, size, "the peer's certificate is not good: %s",
                       X509_verify_cert_error_string(verify));
    } else if (ERR_peek_error() != 0) {
        bool unexpected = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
        tls_queue(reason, sizeof(reason));
        if (unexpected)
            (void)snprintf(ret_text, size, "the peer closed the connection");
        else
            (void)snprintf(ret_text, size, "TLS: %s", reason);
    } else if (result == SSL_ERROR_ZERO_RETURN || (result == SSL_ERROR_SYSCALL && error == 0)) {
        (void)snprintf(ret_text, size, "the peer closed the connection");
    } else if (result == SSL_ERROR_SYSCALL) {
        (void)snprintf(ret_text, size, "%s", strerror_r(error, reason, sizeof(reason)));
    } else {
        (void)snprintf(ret_text, size, "TLS failed (%d)", result);
    }
    ERR_clear_error();
}

/* context NUL bytes, from malloc. NULL: no memory. */
static uint8_t *tls_message(const char *context, const void *bytes, size_t size, size_t *ret_size)
{
    size_t head = strlen(context) + 1;
    uint8_t *message = malloc(head + size);
    if (message == NULL)
        return NULL;
    memcpy(message, context, head);
    if (size > 0)
        memcpy(message + head, bytes, size);
    *ret_size = head + size;
    return message;
}

static const EVP_MD *tls_digest(const EVP_PKEY *key)
{
    int kind = EVP_PKEY_get_base_id(key);
    return kind == EVP_PKEY_ED25519 || kind == EVP_PKEY_ED448 ? NULL : EVP_sha256();
}

int tls_sign(const struct tls_identity *identity, const char *context, const void *bytes,
             size_t size, uint8_t ret_signature[TLS_SIGNATURE_MAX], size_t *ret_size,
             struct err *err)
{
    int status = -1;
    uint8_t signature[TLS_SIGNATURE_MAX];
    char reason[TLS_OPENSSL_MAX];
    size_t signature_size = sizeof(signature);
    size_t message_size;
    unsigned long before = tls_failures();
    uint8_t *message = tls_message(context, bytes, size, &message_size);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (message == NULL || digest == NULL) {
        EVP_MD_CTX_free(digest);
        free(message);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a signature");
    }
    struct tls_keys *keys = tls_keys_hold(identity);
    ERR_clear_error();
    bool good = EVP_DigestSignInit(digest, NULL, tls_digest(keys->key), NULL, keys->key) == 1 &&
                EVP_DigestSign(digest, signature, &signature_size, message, message_size) == 1;
    /* Without memory OpenSSL 3.0 may say 1, and a size of 4294967295. */
    if (good && tls_failures() == before && signature_size <= sizeof(signature)) {
        memcpy(ret_signature, signature, signature_size);
        *ret_size = signature_size;
        status = 0;
    } else {
        tls_queue(reason, sizeof(reason));
        err_set(err, tls_code(before), "cannot sign as %s: %s", identity->uri, reason);
    }
    tls_keys_drop(keys);
    EVP_MD_CTX_free(digest);
    free(message);
    return status;
}
