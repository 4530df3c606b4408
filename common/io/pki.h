/* SPDX-License-Identifier: Apache-2.0 */
/* pki: makes a site's CA and the certificates under it; P-256 keys, X.509 v3. Everything is in
 * memory here; pki_init() and pki_issue() write files. Tests make bad certificates with it. */
#ifndef TIDE_COMMON_IO_PKI_H
#define TIDE_COMMON_IO_PKI_H

#include <openssl/x509.h>
#include <stddef.h>

#include "common/core/err.h"

#define PKI_NAMES_MAX  16U
#define PKI_DAYS_CA    3650
#define PKI_DAYS_LEAF  365
#define PKI_DAYS_MAX   3650
#define PKI_BACKDATE_S 3600 /* a certificate is valid from an hour ago: clocks differ */
#define PKI_SITE_MAX   63

/* A key and its certificate. */
struct pki_pair {
    EVP_PKEY *key;
    X509 *cert;
};
void pki_pair_close(struct pki_pair *pair);

struct pki_request {
    const char *common_name;
    const char *uris[PKI_NAMES_MAX]; /* as given, unchecked: tests ask for bad ones */
    size_t uri_sizes[PKI_NAMES_MAX]; /* 0: strlen; tests ask for an embedded NUL */
    size_t uri_count;
    const char *dns[PKI_NAMES_MAX];
    size_t dns_count;
    const char *ips[PKI_NAMES_MAX]; /* numeric */
    size_t ip_count;
    long valid_from_s; /* relative to now; usually -PKI_BACKDATE_S */
    long valid_to_s;
};

int pki_make_ca(const char *site, int days, struct pki_pair *ret, struct err *err);
int pki_make_leaf(const struct pki_pair *ca, const struct pki_request *request,
                  struct pki_pair *ret, struct err *err);

/* PREFIX.crt (0644) and PREFIX.key (0600), PEM. CONFLICT where either exists: nothing is written.
 */
int pki_pair_write(const struct pki_pair *pair, const char *prefix, struct err *err);
int pki_pair_read(const char *prefix, struct pki_pair *ret, struct err *err);

/* DIR/ca.crt and DIR/ca.key. The site's name is the CA's organisation. CONFIG: not a site name. */
int pki_init(const char *dir, const char *site, struct err *err);
/* One identity under the CA in DIR: role "participant", "coordinator" or "operator". *ret_uri (may
 * be NULL, of 256 bytes) is its URI. CONFIG: id, names or days out of range. */
int pki_issue(const char *dir, const char *role, const char *id, const char *const *dns,
              size_t dns_count, const char *const *ips, size_t ip_count, int days,
              const char *prefix, char *ret_uri, struct err *err);

#endif
