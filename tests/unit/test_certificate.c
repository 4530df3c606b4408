/* SPDX-License-Identifier: Apache-2.0 */
/* certificate: statements and attestations as bytes, and what is refused. */
#include "common/wire/certificate.h"

#include "common/core/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct statement *make(unsigned disks)
{
    struct statement *s = calloc(1, sizeof *s);
    assert_non_null(s);
    memset(s->group.b, 1, sizeof s->group.b);
    memset(s->round.b, 2, sizeof s->round.b);
    memset(s->epoch.hash.b, 3, sizeof s->epoch.hash.b);
    memset(s->cut.b, 4, sizeof s->cut.b);
    memset(s->member.s, 'm', TIDE_NAME_MAX);
    s->epoch.number = UINT64_MAX;
    s->wall_ns = UINT64_MAX;
    s->disk_count = disks;
    for (unsigned i = 0; i < disks; i++) {
        struct statement_disk *d = &s->disks[i];
        memset(d->mark.stream.b, (int)i + 1, sizeof d->mark.stream.b);
        memset(d->mark.nonce.b, 255 - (int)i, sizeof d->mark.nonce.b);
        d->mark.incarnation = UINT64_MAX - i;
        d->mark.lsn = UINT64_MAX - i;
        d->seal_lsn = UINT64_MAX;
        d->outcome = ROUND_OUTCOME_HELD;
        d->hold_us = UINT64_MAX;
        d->writes_held = i;
    }
    return s;
}

static void statements(void **state)
{
    (void)state;
    static uint8_t bytes[TIDE_STATEMENT_MAX];
    static uint8_t again[TIDE_STATEMENT_MAX];
    struct statement *s = make(TIDE_MEMBER_DISKS_MAX); /* the largest fits */
    struct statement *back = calloc(1, sizeof *back);
    struct err err = {0};
    size_t size = certificate_statement_encode(s, bytes);
    assert_int_equal(certificate_statement_decode(bytes, size, back, &err), 0);
    assert_string_equal(back->member.s, s->member.s);
    assert_int_equal(back->disk_count, TIDE_MEMBER_DISKS_MAX);
    assert_int_equal(back->disks[63].writes_held, 63);
    assert_true(id_equal(&back->disks[63].mark.nonce, &s->disks[63].mark.nonce));
    assert_int_equal(certificate_statement_encode(back, again), size);
    assert_memory_equal(bytes, again, size);
    s->disks[0].mark.lsn = 0;
    size = certificate_statement_encode(s, bytes);
    assert_int_equal(certificate_statement_decode(bytes, size, back, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    s->disks[0].mark.lsn = 1;
    s->epoch.number = 0;
    size = certificate_statement_encode(s, bytes);
    assert_int_equal(certificate_statement_decode(bytes, size, back, &err), -1);
    assert_int_equal(certificate_statement_decode(bytes, TIDE_STATEMENT_MAX + 1, back, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    free(s);
    free(back);
}

static void signed_bytes(void **state)
{
    (void)state;
    static uint8_t to[TIDE_STATEMENT_SIGNED_MAX];
    assert_int_equal(certificate_signed("abc", 3, to), 22 + 1 + 3);
    assert_memory_equal(to, "tidemark attestation 1\0abc", 26);
    static const uint8_t large[TIDE_STATEMENT_MAX + 1];
    assert_int_equal(certificate_signed(large, sizeof large, to), 0);
}

static void attestations(void **state)
{
    (void)state;
    static uint8_t statement[TIDE_STATEMENT_MAX];
    static uint8_t to[TIDE_ATTESTATION_MAX];
    static const uint8_t signature[] = {9, 8, 7};
    static const uint8_t leaf[600] = {1};
    static const uint8_t ca[600] = {2};
    static const uint8_t large[4000] = {3};
    struct statement *s = make(2);
    size_t size = certificate_statement_encode(s, statement);
    struct certificate_attestation a = {
        .statement = {statement, size},
        .signature = {signature, sizeof signature},
        .chain_count = 2,
        .chain = {{leaf, sizeof leaf}, {ca, sizeof ca}},
    };
    struct certificate_attestation back;
    struct err err = {0};
    size_t used = 0;
    assert_int_equal(certificate_attestation_encode(&a, to, &used, &err), 0);
    assert_int_equal(certificate_attestation_decode(to, used, &back, &err), 0);
    assert_int_equal(back.statement.size, size);
    assert_memory_equal(back.statement.at, statement, size);
    assert_int_equal(back.signature.size, sizeof signature);
    assert_memory_equal(back.signature.at, signature, sizeof signature);
    assert_int_equal(back.chain_count, 2);
    assert_memory_equal(back.chain[1].at, ca, sizeof ca);
    assert_true(back.statement.at > to && back.statement.at < to + used);

    struct prng prng;
    prng_init(&prng, 7);
    for (unsigned i = 0; i < 2000; i++) { /* cut and flipped: an answer without harm */
        uint8_t *bad = malloc(used);
        memcpy(bad, to, used);
        bad[prng_below(&prng, used)] ^= (uint8_t)(1U << prng_below(&prng, 8));
        certificate_attestation_decode(bad, used - prng_below(&prng, 2) * prng_below(&prng, used),
                                       &back, &err);
        free(bad);
    }
    a.signature.size = 0;
    assert_int_equal(certificate_attestation_encode(&a, to, &used, &err), 0);
    assert_int_equal(certificate_attestation_decode(to, used, &back, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    a.signature.size = sizeof signature;
    a.chain_count = 3;
    a.chain[1] = (struct certificate_bytes){large, sizeof large};
    a.chain[2] = (struct certificate_bytes){large, sizeof large};
    assert_int_equal(certificate_attestation_encode(&a, to, &used, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements),
        cmocka_unit_test(signed_bytes),
        cmocka_unit_test(attestations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
