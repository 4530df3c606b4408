/* SPDX-License-Identifier: Apache-2.0 */
/* tls: identities and the one TLS set-up that every connection of ours has: TLS 1.3 only, both
 * sides show a certificate, no tickets, no early data. An identity is a certificate chain with
 * exactly one URI name in its leaf: spiffe://SITE/participant|coordinator|operator/ID.
 *
 * Who a peer is, is decided in OpenSSL's verify callback, so that a wrong peer fails the handshake,
 * whoever drives it (the link, a bufferevent, libcurl). Objects here are shared by threads once
 * made; tls_identity_reload() may run beside all else but tls_identity_chain(). */
#ifndef TIDE_COMMON_IO_TLS_H
#define TIDE_COMMON_IO_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"

#define TLS_URI_MAX       255 /* bytes, without the NUL */
#define TLS_LABEL_MAX     63  /* SITE and ID each */
#define TLS_CHAIN_MAX     4   /* certificates, leaf included */
#define TLS_CERT_DER_MAX  8192U
#define TLS_SIGNATURE_MAX 512U
#define TLS_PEM_MAX       (256U * 1024U) /* a file of certificates or a key */

enum tls_role {
    TLS_PARTICIPANT,
    TLS_COORDINATOR,
    TLS_OPERATOR,
};

/* spiffe://SITE/ROLE/ID. SITE: [a-z0-9.-], ID: [a-z0-9._-], 1 to 63 bytes each, first [a-z0-9]. */
struct tls_name {
    enum tls_role role;
    char site[TLS_LABEL_MAX + 1];
    char id[TLS_LABEL_MAX + 1];
};
int tls_name_parse(const char *uri, struct tls_name *ret, struct err *err); /* CONFIG */
char *tls_name_uri(const struct tls_name *name, char ret_uri[TLS_URI_MAX + 1]);
const char *tls_role_text(enum tls_role role); /* "participant" ... */

/* How often OpenSSL got no memory on this thread. It does not always say so: where that grows in a
 * call, its "no" may be none, and what it made may lack parts. From the first call of this (or
 * of most below) on its memory goes through here (malloc() and free() still); where OpenSSL was
 * used before, it never grows. */
unsigned long tls_failures(void);

/* The one URI name of a certificate. DENIED: none, several, an embedded NUL, or not of the form
 * above; LIMIT: no memory. */
int tls_certificate_uri(X509 *certificate, char ret_uri[TLS_URI_MAX + 1], struct err *err);

/* The CA certificates (PEM, 1 to 16) of a file as a store, for the caller to free. CONFIG: it holds
 * none, too many or something else; LIMIT: no memory; or as file_read(). */
int tls_read_ca(const char *path, X509_STORE **ret, struct err *err);

/* Whether the chain (leaf first) is good under the CA in `store`, at that time (NULL: now). 0, or
 * the X509_V_ERR_ code of what is wrong, with *ret_bad (may be NULL) the certificate that it is of:
 * one of `certs` or of the store's; NULL: of none. X509_V_ERR_OUT_OF_MEM: no memory. */
int tls_chain_check(X509_STORE *store, X509 *const *certs, size_t count, const time_t *at,
                    const X509 **ret_bad);

/* Our own chain (PEM, leaf first), key (PEM, no pass phrase) and the site's CA (PEM, one or
 * several). CONFIG, with the file named: not readable as such, key of another certificate, key file
 * open to others (mode & 0007, or group-writable), no or more than one URI name, expired or not yet
 * valid, or not made by that CA. LIMIT: a file is too large, or no memory. */
struct tls_identity;
int tls_identity_load(const char *cert_path, const char *key_path, const char *ca_path,
                      struct tls_identity **ret, struct err *err);
void tls_identity_free(struct tls_identity *identity); /* takes NULL */

/* Reads the three files again. Connections stay as they are; handshakes and signatures from now on
 * have what was read. CONFIG or LIMIT (as above; CONFIG too where the certificate names another),
 * and nothing changes. */
int tls_identity_reload(struct tls_identity *identity, struct err *err);
/* What the identity is now, whatever is read later; tls_identity_free() frees it. For a signature
 * and its chain that must belong together. NULL: no memory. */
struct tls_identity *tls_identity_copy(const struct tls_identity *identity);
const char *tls_identity_uri(const struct tls_identity *identity);
const struct tls_name *tls_identity_name(const struct tls_identity *identity);

/* Decides about a peer whose chain is good and whose URI is `uri`; false refuses it. On the thread
 * that drives the handshake. */
typedef bool tls_allow_fn(void *arg, const char *uri);

/* One context for accepting and dialing. `allow` NULL: any identity of the site's CA and SITE.
 * In every case the peer's SITE must be our own. The identity must outlive it and its connections.
 * The caller frees it (SSL_CTX_free). Aborts without memory. */
SSL_CTX *tls_context(const struct tls_identity *identity, tls_allow_fn *allow, void *arg);
/* SSL_new(), with what the identity is now: where it was reloaded, *context is replaced first (or,
 * without memory, is used once more). Usable with bufferevent_openssl_socket_new() too. NULL: no
 * memory. */
SSL *tls_connection(SSL_CTX **context);

/* The same on a context made by someone else (libcurl's CURLOPT_SSL_CTX_FUNCTION). LIMIT: no
 * memory; FAILED: OpenSSL refuses it. The context is not to be used then. */
int tls_context_apply(SSL_CTX *context, const struct tls_identity *identity, tls_allow_fn *allow,
                      void *arg, struct err *err);

/* After a finished handshake: the peer's URI. DENIED where it showed no certificate, its chain was
 * not verified, or as tls_certificate_uri(). */
int tls_peer_uri(const SSL *ssl, char ret_uri[TLS_URI_MAX + 1], struct err *err);

/* Why the handshake or the last SSL call failed, in words: the certificate's fault where there is
 * one, else OpenSSL's error queue (which it empties). `result` is what SSL_get_error() said. */
void tls_failure(const SSL *ssl, int result, char *ret_text, size_t size);

/* Signs `context` NUL `bytes` with the identity's key (ECDSA with SHA-256, or Ed25519). LIMIT: no
 * memory; FAILED: OpenSSL refuses. */
int tls_sign(const struct tls_identity *identity, const char *context, const void *bytes,
             size_t size, uint8_t ret_signature[TLS_SIGNATURE_MAX], size_t *ret_size,
             struct err *err);
/* Our chain in DER, leaf first; the bytes belong to the identity, until it is reloaded. Returns how
 * many there are. */
size_t tls_identity_chain(const struct tls_identity *identity,
                          const uint8_t *ret_der[TLS_CHAIN_MAX], size_t ret_size[TLS_CHAIN_MAX]);

#endif
