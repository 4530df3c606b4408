/* SPDX-License-Identifier: Apache-2.0 */
/* common/wire/certificate. Input: a byte (bit 0: an attestation, else a statement), then its bytes.
 * What is decoded encodes, and that decodes to the same; nothing points out of the input. */
#include "common/wire/certificate.h"

#include "tests/fuzz/fuzz.h"

#define BAD (FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT))

static void statement(const uint8_t *data, size_t size)
{
    static struct statement s;
    static uint8_t first[TIDE_STATEMENT_MAX];
    static uint8_t second[TIDE_STATEMENT_MAX];
    static uint8_t to_sign[TIDE_STATEMENT_SIGNED_MAX];
    struct err err = {0};
    size_t signs = certificate_signed(data, size, to_sign);
    TIDE_CHECK(signs <= sizeof to_sign && (signs == 0) == (size > TIDE_STATEMENT_MAX));
    memset(&s, FUZZ_FILL, sizeof s);
    if (certificate_statement_decode(data, size, &s, &err) != 0) {
        fuzz_error(&err, BAD);
        fuzz_untouched(&s, sizeof s);
        return;
    }
    TIDE_CHECK(s.disk_count >= 1 && s.disk_count <= TIDE_MEMBER_DISKS_MAX);
    TIDE_CHECK(s.epoch.number > 0);
    size_t used = certificate_statement_encode(&s, first);
    TIDE_CHECK(used <= sizeof first);
    TIDE_CHECK(certificate_statement_decode(first, used, &s, &err) == 0);
    TIDE_CHECK(certificate_statement_encode(&s, second) == used);
    TIDE_CHECK(memcmp(first, second, used) == 0);
}

static void inside(const struct certificate_bytes *b, const uint8_t *data, size_t size)
{
    TIDE_CHECK(b->size > 0 && b->at >= data && b->size <= size &&
               (size_t)(b->at - data) <= size - b->size);
}

static void same(const struct certificate_bytes *a, const struct certificate_bytes *b)
{
    TIDE_CHECK(a->size == b->size && memcmp(a->at, b->at, a->size) == 0);
}

static void attestation(const uint8_t *data, size_t size)
{
    static uint8_t again[TIDE_ATTESTATION_MAX];
    struct certificate_attestation a;
    struct certificate_attestation b;
    struct err err = {0};
    size_t used = 0;
    memset(&a, FUZZ_FILL, sizeof a);
    if (certificate_attestation_decode(data, size, &a, &err) != 0) {
        fuzz_error(&err, BAD);
        fuzz_untouched(&a, sizeof a);
        return;
    }
    TIDE_CHECK(size <= TIDE_ATTESTATION_MAX);
    TIDE_CHECK(a.chain_count >= 1 && a.chain_count <= TIDE_ATTESTATION_CHAIN_MAX);
    TIDE_CHECK(a.statement.size <= TIDE_STATEMENT_MAX);
    TIDE_CHECK(a.signature.size <= TIDE_ATTESTATION_SIGNATURE_MAX);
    inside(&a.statement, data, size);
    inside(&a.signature, data, size);
    for (unsigned i = 0; i < a.chain_count; i++) {
        inside(&a.chain[i], data, size);
    }
    TIDE_CHECK(certificate_attestation_encode(&a, again, &used, &err) == 0);
    TIDE_CHECK(used <= size); /* ours is the shortest form */
    TIDE_CHECK(certificate_attestation_decode(again, used, &b, &err) == 0);
    same(&a.statement, &b.statement);
    same(&a.signature, &b.signature);
    TIDE_CHECK(a.chain_count == b.chain_count);
    for (unsigned i = 0; i < a.chain_count; i++) {
        same(&a.chain[i], &b.chain[i]);
    }
    statement(a.statement.at, a.statement.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    uint8_t *bytes = fuzz_copy(data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        attestation(bytes, size - 1);
    } else {
        statement(bytes, size - 1);
    }
    free(bytes);
    return 0;
}
