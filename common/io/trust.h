/* SPDX-License-Identifier: Apache-2.0 */
/* trust: who signed some bytes, judged by a site's CA alone and at a time in the past, with no
 * identity of our own: for evidence, which outlives connections and certificates. What is signed
 * is made by tls_sign(). Objects may be shared by threads once loaded. */
#ifndef TIDE_COMMON_IO_TRUST_H
#define TIDE_COMMON_IO_TRUST_H

#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/io/tls.h"

struct trust;

/* The CA's certificates (PEM, one or several). As tls_read_ca(), with the file named; LIMIT. */
int trust_load(const char *ca_path, struct trust **ret, struct err *err);
void trust_free(struct trust *trust); /* takes NULL */

struct trust_signed {
    const void *message; /* as signed: context NUL bytes */
    size_t message_size;
    const uint8_t *signature;
    size_t signature_size;
    const uint8_t *der[TLS_CHAIN_MAX]; /* the signer's chain, leaf first */
    size_t der_size[TLS_CHAIN_MAX];
    size_t count;
    int64_t at_s; /* since 1970: every certificate of the chain must be valid then */
};

/* *ret_uri: the signer, the one URI name of the leaf. No revocation is looked at, there is none.
 *   DENIED   the chain does not end at the CA, a certificate was not valid at at_s (the text says
 *            which and from when to when), or the leaf's name is not one (tls_certificate_uri())
 *   CORRUPT  not a certificate, a key that is neither EC nor Ed25519, or a wrong signature
 *   LIMIT    no memory */
int trust_verify(const struct trust *trust, const struct trust_signed *what,
                 char ret_uri[TLS_URI_MAX + 1], struct err *err);

#endif
