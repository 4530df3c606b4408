/* SPDX-License-Identifier: Apache-2.0 */
/* certificate: a member's attestation of one round (proto/certificate.proto) as bytes. The
 * signature is made and checked elsewhere (over certificate_signed()'s bytes): no key comes here.
 */
#ifndef TIDE_COMMON_WIRE_CERTIFICATE_H
#define TIDE_COMMON_WIRE_CERTIFICATE_H

#include "common/core/err.h"
#include "common/core/statement.h"

#define TIDE_ATTESTATION_MAX           8192U /* = TIDE_RECORD_ATTESTATION_MAX, TIDE_TAPCTL_ATTEST_MAX */
#define TIDE_ATTESTATION_CHAIN_MAX     4U /* certificates in a chain */
#define TIDE_ATTESTATION_SIGNATURE_MAX 512U
#define TIDE_STATEMENT_MAX             6656U /* a statement of TIDE_MEMBER_DISKS_MAX disks fits */
#define TIDE_STATEMENT_CONTEXT         "tidemark attestation 1"
#define TIDE_STATEMENT_SIGNED_MAX      (TIDE_STATEMENT_MAX + 32U)

struct certificate_bytes {
    const uint8_t *at; /* not owned */
    size_t size;
};

struct certificate_attestation { /* all pointers into the caller's bytes */
    struct certificate_bytes statement;
    struct certificate_bytes signature;
    unsigned chain_count; /* 1..TIDE_ATTESTATION_CHAIN_MAX, leaf first */
    struct certificate_bytes chain[TIDE_ATTESTATION_CHAIN_MAX];
};

/* Encodes into to[0..TIDE_STATEMENT_MAX); returns the bytes used. Aborts on a value out of range.
 */
size_t certificate_statement_encode(const struct statement *statement,
                                    uint8_t to[TIDE_STATEMENT_MAX]);
/* CORRUPT: not a statement, or a field out of range; VERSION; LIMIT: too large. */
int certificate_statement_decode(const void *from, size_t size, struct statement *ret,
                                 struct err *err);

/* The bytes that are signed: context, NUL, statement. Returns the bytes used, 0 where the statement
 * is longer than TIDE_STATEMENT_MAX. */
size_t certificate_signed(const void *statement, size_t size,
                          uint8_t to[TIDE_STATEMENT_SIGNED_MAX]);

/* Encodes into to[0..TIDE_ATTESTATION_MAX). LIMIT: it does not fit (a long chain): the attestation
 * is then left out, the round is not touched by that. */
int certificate_attestation_encode(const struct certificate_attestation *attestation,
                                   uint8_t to[TIDE_ATTESTATION_MAX], size_t *ret_size,
                                   struct err *err);
/* *ret's pointers point into from. CORRUPT, LIMIT as above. */
int certificate_attestation_decode(const void *from, size_t size,
                                   struct certificate_attestation *ret, struct err *err);

#endif
