/* SPDX-License-Identifier: Apache-2.0 */
/* Tap control's codec: every message there and back, and bytes that nobody should send. */
#include "common/core/prng.h"
#include "common/core/tapctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const enum tapctl_type types[] = {
    TAPCTL_HELLO,    TAPCTL_HOLD,   TAPCTL_RELEASE, TAPCTL_ABORT,    TAPCTL_SYNC,
    TAPCTL_STORED,   TAPCTL_ATTEST, TAPCTL_STATUS,  TAPCTL_WELCOME,  TAPCTL_HELD,
    TAPCTL_REFUSED,  TAPCTL_SEALED, TAPCTL_SYNCED,  TAPCTL_STATE,    TAPCTL_REFUSE_BUSY,
    TAPCTL_COMPARED, TAPCTL_RESYNC, TAPCTL_DETACH,  TAPCTL_RESTREAM, TAPCTL_RESIZE,
    TAPCTL_DONE,
};
#define TYPES (sizeof types / sizeof types[0])

/* A message of that type in which every field has a value of its own. */
static struct tapctl make(enum tapctl_type type)
{
    struct tapctl m = {.type = type, .serial = 0x01020304};
    switch ((unsigned)type) {
    case TAPCTL_HELLO:
        m.version = TIDE_TAPCTL_VERSION;
        break;
    case TAPCTL_HOLD:
        memset(&m.hold.order.round, 1, TIDE_ID_SIZE);
        memset(&m.hold.order.group, 2, TIDE_ID_SIZE);
        m.hold.order.epoch.number = 3;
        memset(&m.hold.order.epoch.hash, 4, TIDE_HASH_SIZE);
        m.hold.order.scope = ROUND_SCOPE_MEMBER;
        m.hold.order.kind = ROUND_KIND_APPLICATION;
        set_init(&m.hold.order.set, 9);
        set_add(&m.hold.order.set, 8);
        m.hold.incarnation = 5;
        m.hold.budget_us = 6;
        m.hold.unheld = true;
        m.hold.quiesce = 1;
        memset(&m.hold.quiesce_proof, 7, TIDE_HASH_SIZE);
        break;
    case TAPCTL_RELEASE:
    case TAPCTL_ABORT:
        memset(&m.round.round, 8, TIDE_ID_SIZE);
        memset(&m.round.cut, 9, TIDE_HASH_SIZE);
        break;
    case TAPCTL_SYNC:
    case TAPCTL_STORED:
        m.lsn.lsn = UINT64_MAX;
        break;
    case TAPCTL_ATTEST:
        memset(&m.attest.round, 10, TIDE_ID_SIZE);
        m.attest.size = TIDE_TAPCTL_ATTEST_MAX;
        memset(m.attest.bytes, 11, sizeof m.attest.bytes);
        break;
    case TAPCTL_WELCOME:
        m.welcome = (struct tapctl_welcome){.incarnation = 1,
                                            .size = 2,
                                            .block_size = 512,
                                            .ring_files = 64,
                                            .ring_file_size = 4096,
                                            .stored_lsn = 6,
                                            .tail_lsn = 7,
                                            .tail_position = 8,
                                            .tail_incarnation = 9,
                                            .next_lsn = 10,
                                            .logging = true,
                                            .name = "/disk"};
        memset(&m.welcome.stream, 12, TIDE_ID_SIZE);
        break;
    case TAPCTL_HELD:
        memset(&m.held.mark.nonce, 13, TIDE_ID_SIZE);
        m.held.mark.lsn = 14;
        m.held.budget_us = 15;
        break;
    case TAPCTL_REFUSED:
        m.refused.reason = ROUND_REASON_ENDED;
        m.refused.outcome = ROUND_OUTCOME_EXPIRED;
        memset(m.refused.text, 'x', TIDE_TAPCTL_TEXT_MAX);
        break;
    case TAPCTL_SEALED:
        m.sealed = (struct tapctl_sealed){.outcome = ROUND_OUTCOME_HELD,
                                          .appended = true,
                                          .bookmark_lsn = 1,
                                          .seal_lsn = 2,
                                          .hold_us = 3,
                                          .writes_held = 4,
                                          .bytes_held = 5};
        break;
    case TAPCTL_SYNCED:
        m.synced = (struct tapctl_synced){.lsn = 1, .position = 2, .failed = true};
        break;
    case TAPCTL_STATE:
        m.state = (struct tapctl_state){.incarnation = 1,
                                        .gap_lsn = 12,
                                        .gap_reason = 5,
                                        .size = 6,
                                        .dirty_bytes = 7,
                                        .copy_total = 8,
                                        .copy_rate = 9,
                                        .copy_lsn = 10,
                                        .compare_offset = 11,
                                        .restreams = 13,
                                        .clients = 14,
                                        .comparing = true,
                                        .copy = TAPCTL_COPY_WAITING,
                                        .whole = true};
        break;
    case TAPCTL_COMPARED:
        m.compared = (struct tapctl_compared){.begin_lsn = 5, .offset = 65536, .count = 9};
        m.compared.differs[1] = 1;
        break;
    case TAPCTL_RESYNC:
        m.order.resync = TAPCTL_RESYNC_FULL;
        break;
    case TAPCTL_DETACH:
        m.order.force = true;
        break;
    case TAPCTL_RESTREAM:
        m.order.stream = (struct id){{3}};
        break;
    case TAPCTL_DONE:
        m.done.code = TIDE_ERR_BUSY;
        memset(m.done.text, 'y', TIDE_TAPCTL_TEXT_MAX);
        break;
    default:
        break;
    }
    return m;
}

static void there_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct tapctl m = make(types[i]);
        struct tapctl got;
        struct err err;
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
        uint8_t again[TIDE_TAPCTL_SIZE_MAX];
        size_t size = tapctl_encode(&m, bytes);
        assert_true(size <= TIDE_TAPCTL_SIZE_MAX);
        assert_int_equal(tapctl_decode(bytes, size, &got, &err), 0);
        assert_int_equal(got.serial, m.serial);
        assert_int_equal(tapctl_encode(&got, again), size);
        assert_memory_equal(bytes, again, size);
    }
    struct tapctl hold = make(TAPCTL_HOLD);
    struct tapctl got;
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(&hold, bytes);
    assert_int_equal(tapctl_decode(bytes, size, &got, NULL), 0);
    assert_true(set_equal(&hold.hold.order.set, &got.hold.order.set));
    assert_int_equal(got.hold.order.scope, ROUND_SCOPE_MEMBER);
    assert_true(got.hold.unheld);
    assert_int_equal(got.hold.quiesce_proof.b[31], 7);
}

static void every_wrong_size_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct tapctl m = make(types[i]);
        struct tapctl untouched = {.serial = 99};
        struct err err;
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX + 1] = {0};
        size_t size = tapctl_encode(&m, bytes);
        for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : 61) {
            uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees an overrun */
            assert_non_null(exact);
            memcpy(exact, bytes, cut);
            assert_int_equal(tapctl_decode(exact, cut, &untouched, &err), -1);
            assert_int_equal(err.code, TIDE_ERR_CORRUPT);
            free(exact);
            if (cut >= 12) { /* and where the header agrees with the cut */
                bytes[8] = (uint8_t)cut;
                bytes[9] = (uint8_t)(cut >> 8);
                assert_int_equal(tapctl_decode(bytes, cut, &untouched, &err), -1);
                bytes[8] = (uint8_t)size;
                bytes[9] = (uint8_t)(size >> 8);
            }
        }
        assert_int_equal(tapctl_decode(bytes, size + 1, &untouched, &err), -1);
        assert_int_equal(untouched.serial, 99);
    }
}

static void refuse(struct tapctl m, size_t at, uint8_t value, enum err_code code)
{
    struct err err;
    struct tapctl got;
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(&m, bytes);
    assert_int_equal(tapctl_decode(bytes, size, &got, &err), 0);
    bytes[at] = value;
    assert_int_equal(tapctl_decode(bytes, size, &got, &err), -1);
    assert_int_equal(err.code, code);
}

static void wrong_values_are_refused(void **state)
{
    (void)state;
    const size_t scope = 16 + 16 + 16 + 8 + 32;
    refuse(make(TAPCTL_STATUS), 0, 'X', TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_STATUS), 4, TIDE_TAPCTL_VERSION + 1, TIDE_ERR_VERSION);
    refuse(make(TAPCTL_STATUS), 6, 200, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_HOLD), 16 + 16 + 16, 0, TIDE_ERR_CORRUPT); /* epoch 0 */
    refuse(make(TAPCTL_HOLD), scope, 3, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_HOLD), scope + 1, 0, TIDE_ERR_CORRUPT);    /* kind */
    refuse(make(TAPCTL_HOLD), scope + 2, 0, TIDE_ERR_CORRUPT);    /* set: no disks */
    refuse(make(TAPCTL_HOLD), scope + 3, 0xff, TIDE_ERR_CORRUPT); /* too many */
    refuse(make(TAPCTL_HOLD), scope + 5, 2, TIDE_ERR_CORRUPT);    /* a bit past count */
    refuse(make(TAPCTL_HOLD), scope + 4 + 127, 1, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_HOLD), scope + 132 + 12, 2, TIDE_ERR_CORRUPT);   /* unheld */
    refuse(make(TAPCTL_HOLD), scope + 132 + 13, 2, TIDE_ERR_CORRUPT);   /* quiesce */
    refuse(make(TAPCTL_HOLD), scope + 132 + 14, 1, TIDE_ERR_CORRUPT);   /* reserved */
    refuse(make(TAPCTL_ATTEST), 16 + 16 + 1, 0xff, TIDE_ERR_CORRUPT);   /* size past the limit */
    refuse(make(TAPCTL_ATTEST), 16 + 16 + 1, 0x1f, TIDE_ERR_CORRUPT);   /* bytes past its size */
    refuse(make(TAPCTL_REFUSED), 16 + 16, 200, TIDE_ERR_CORRUPT);       /* reason */
    refuse(make(TAPCTL_REFUSED), 16 + 17, 9, TIDE_ERR_CORRUPT);         /* outcome */
    refuse(make(TAPCTL_REFUSED), 16 + 18 + 127, 'x', TIDE_ERR_CORRUPT); /* no NUL */
    refuse(make(TAPCTL_REFUSED), 16 + 18 + 5, 0, TIDE_ERR_CORRUPT);     /* text after its NUL */
    refuse(make(TAPCTL_SEALED), 16 + 16, 0, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_WELCOME), 16 + 48 + 16 + 4, 65, TIDE_ERR_CORRUPT); /* ring files */
    refuse(make(TAPCTL_STATE), 16 + 19 * 8 + 5, 6, TIDE_ERR_CORRUPT);     /* copy */
    refuse(make(TAPCTL_COMPARED), 16 + 8, 1, TIDE_ERR_CORRUPT);           /* offset */
    refuse(make(TAPCTL_COMPARED), 16 + 16, 0, TIDE_ERR_CORRUPT);          /* no block */
    refuse(make(TAPCTL_COMPARED), 16 + 17, 0x21, TIDE_ERR_CORRUPT);       /* too many */
    refuse(make(TAPCTL_RESYNC), 16, 4, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_RESYNC), 16, 0, TIDE_ERR_CORRUPT);
    refuse(make(TAPCTL_RESYNC), 17, 1, TIDE_ERR_CORRUPT);   /* force is not its */
    refuse(make(TAPCTL_DETACH), 16, 1, TIDE_ERR_CORRUPT);   /* nor a resync detach's */
    refuse(make(TAPCTL_RESTREAM), 24, 0, TIDE_ERR_CORRUPT); /* the zero stream */
    refuse(make(TAPCTL_RESIZE), 24, 1, TIDE_ERR_CORRUPT);   /* a stream that is not its */
    refuse(make(TAPCTL_DONE), 16, 99, TIDE_ERR_CORRUPT);    /* code */
    struct tapctl no_round = make(TAPCTL_ATTEST);
    memset(&no_round.attest.round, 0, TIDE_ID_SIZE);
    no_round.attest.round.b[0] = 1;
    refuse(no_round, 16, 0, TIDE_ERR_CORRUPT);
}

static void random_bytes_never_crash(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 9443);
    for (unsigned n = 0; n < 20000; n++) {
        struct tapctl m = make(types[prng_below(&prng, TYPES)]);
        struct tapctl got;
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
        uint8_t again[TIDE_TAPCTL_SIZE_MAX];
        size_t size = tapctl_encode(&m, bytes);
        for (uint64_t flips = 1 + prng_below(&prng, 4); flips > 0; flips--) {
            bytes[12 + prng_below(&prng, size - 12)] = (uint8_t)prng_next(&prng);
        }
        if (tapctl_decode(bytes, size, &got, NULL) == 0) {
            assert_int_equal(tapctl_encode(&got, again), size); /* what is let in is in range */
            assert_memory_equal(bytes, again, size);
        }
    }
}

/* A reason that is missing here would abort the tap that gives it. */
static void every_reason_goes_through(void **state)
{
    (void)state;
    unsigned reasons = 0;
    for (unsigned reason = 0; reason < 256; reason++) {
        struct tapctl m = make(TAPCTL_REFUSED);
        struct tapctl got;
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
        if (round_reason_name(reason) == NULL) {
            continue;
        }
        m.refused.reason = (enum round_reason)reason;
        assert_int_equal(tapctl_decode(bytes, tapctl_encode(&m, bytes), &got, NULL), 0);
        assert_int_equal(got.refused.reason, reason);
        reasons++;
    }
    assert_true(reasons > ROUND_REASON_KIND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),           cmocka_unit_test(every_wrong_size_is_refused),
        cmocka_unit_test(wrong_values_are_refused), cmocka_unit_test(every_reason_goes_through),
        cmocka_unit_test(random_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
