/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (nth.h), in every module that takes a lack of memory as an error: each
 * failing call says so with code and text, leaves its outputs alone and nothing behind, never calls
 * good bytes wrong, and the same call then succeeds with the same result. Here: the objects of
 * 9443, JSON, and the participant's journal, cutter and segments under way. Others:
 * test_fail_alloc_store.c, _groups.c, _catalog.c, _points.c, _daemon.c, _tls.c, _verify.c.
 *
 * In none: what aborts without memory by design, since it is made once while a daemon starts,
 * before anything is promised (loop, link, log, holder, the TLS contexts of link and server, seats,
 * ports, signer, throttle, events, senders, comparer, tap clients); the table of peers that new
 * definitions bring, and the few words of a watch or timer (a daemon that went on without its peers
 * or its timers would be worse than one that is started again); and the tap's engine
 * (tests/system/test_tap_failnth.c). Links that get no memory for a connection:
 * test_fail_send.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/jsontext.h"
#include "common/wire/certificate.h"
#include "common/wire/envelope.h"
#include "common/wire/intake.h"
#include "participant/cutlog.h"
#include "participant/cutter.h"
#include "participant/flight.h"
#include "tests/contract/nth.h"
#include "tests/unit/hrl_make.h"

/* ---- common/wire ---- */

static uint8_t encoded[1 << 16]; /* what was encoded first, to compare with */
static size_t encoded_size;
static uint8_t untouched[1 << 20];

/* An encoder's result: the same each time. */
static int same_bytes(int rc, uint8_t *bytes, size_t size)
{
    if (rc != 0) {
        assert_null(bytes);
        assert_int_equal(size, 77);
        return -1;
    }
    assert_true(size <= sizeof encoded);
    if (encoded_size == 0) {
        memcpy(encoded, bytes, size);
        encoded_size = size;
    }
    assert_int_equal(size, encoded_size);
    assert_memory_equal(bytes, encoded, size);
    free(bytes);
    return 0;
}

static struct intake_disk disks[3];
static struct definition definition;
static struct intake_issued issued;
static struct intake_block_hashes hashes;

#define ENCODE(name, from)                                                                         \
    static int name##_encodes(struct err *err)                                                     \
    {                                                                                              \
        uint8_t *bytes = NULL;                                                                     \
        size_t size = 77;                                                                          \
        int rc = intake_##name##_encode(from, &bytes, &size, err);                                 \
        return same_bytes(rc, bytes, size);                                                        \
    }

/* A decoder's result is what was encoded: it encodes to the same. */
#define DECODE(name, type, close)                                                                  \
    static int name##_decodes(struct err *err)                                                     \
    {                                                                                              \
        static type got;                                                                           \
        long kept;                                                                                 \
        memset(&got, 0x5a, sizeof got);                                                            \
        assert_true(sizeof got <= sizeof untouched);                                               \
        if (intake_##name##_decode(encoded, encoded_size, &got, err) != 0) {                       \
            assert_memory_equal(&got, untouched, sizeof got);                                      \
            return -1;                                                                             \
        }                                                                                          \
        kept = nth_pause();                                                                        \
        uint8_t *bytes = NULL;                                                                     \
        size_t size = 77;                                                                          \
        assert_int_equal(intake_##name##_encode(&got, &bytes, &size, err), 0);                     \
        (void)same_bytes(0, bytes, size);                                                          \
        close(&got);                                                                               \
        nth_resume(kept);                                                                          \
        return 0;                                                                                  \
    }

static void nothing(void *at)
{
    (void)at;
}

static struct intake_register registration = {.count = 3, .disks = disks};
static struct intake_definitions definitions = {.count = 1, .groups = &issued};
static struct intake_stream_state stream_state = {
    .received_lsn = 9, .stored_lsn = 7, .head = {{1}}, .text = "well"};
static struct intake_point_state point_state = {
    .round = {{4}}, .answer = ROUND_ANSWER_NO, .text = "gap"};

ENCODE(register, &registration)
DECODE(register, struct intake_register, intake_register_close)
ENCODE(definition, &definition)
DECODE(definition, struct definition, nothing)
ENCODE(definitions, &definitions)
DECODE(definitions, struct intake_definitions, intake_definitions_close)
ENCODE(stream_state, &stream_state)
DECODE(stream_state, struct intake_stream_state, nothing)
ENCODE(block_hashes, &hashes)
DECODE(block_hashes, struct intake_block_hashes, nothing)
ENCODE(point_state, &point_state)
DECODE(point_state, struct intake_point_state, nothing)

static void both(const char *what, nth_call_fn *encode, nth_call_fn *decode)
{
    encoded_size = 0;
    nth_each(what, encode, NULL, 1);
    nth_each(what, decode, NULL, 1);
}

static void the_objects_of_9443(void **state)
{
    (void)state;
    memset(untouched, 0x5a, sizeof untouched);
    nth_define(&definition, disks);
    both("register", register_encodes, register_decodes);
    both("definition", definition_encodes, definition_decodes);
    issued =
        (struct intake_issued){.definition = malloc(encoded_size), .definition_size = encoded_size};
    assert_non_null(issued.definition);
    memcpy(issued.definition, encoded, encoded_size);
    policy_init(&issued.policy);
    both("definitions", definitions_encodes, definitions_decodes);
    free(issued.definition);
    both("stream state", stream_state_encodes, stream_state_decodes);
    hashes = (struct intake_block_hashes){.lsn = 5, .size = 1 << 20, .count = 3};
    both("block hashes", block_hashes_encodes, block_hashes_decodes);
    both("point state", point_state_encodes, point_state_decodes);
}

/* These take their memory from the stack. */
static void messages_and_attestations_take_none(void **state)
{
    static uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    static struct msg message;
    static struct msg back;
    static uint8_t attested[TIDE_ATTESTATION_MAX];
    struct certificate_attestation attestation = {.chain_count = 1};
    struct certificate_attestation got;
    struct certificate_bytes three = {.at = (const uint8_t *)"abc", .size = 3};
    struct err err = {0};
    size_t size = 0;
    (void)state;
    message.type = MSG_RELEASE;
    message.head = (struct msg_head){
        .group = make_id(5), .epoch = {.number = 7, .hash = make_hash(7)}, .incarnation = 3};
    assert_true(name_parse("web", &message.head.from) && name_parse("db", &message.head.to));
    message.release = (struct msg_release){.round = make_id(1), .cut = make_hash(2)};
    attestation.statement = attestation.signature = attestation.chain[0] = three;
    unsigned long before = nth_asked();
    nth_arm(0);
    size_t used = envelope_encode(&message, bytes);
    assert_true(used > 0);
    assert_int_equal(envelope_decode(bytes, used, &back, &err), 0);
    assert_int_equal(certificate_attestation_encode(&attestation, attested, &size, &err), 0);
    assert_int_equal(certificate_attestation_decode(attested, size, &got, &err), 0);
    assert_int_equal(got.signature.size, 3);
    (void)nth_met();
    assert_int_equal(nth_asked(), before);
}

static int reads_json(struct err *err)
{
    static const char text[] =
        "{\"a\": [1, 12345678901234567, \"a longer text than sixteen\", {}]}";
    json_t *o = NULL;
    if (jsontext_read(text, sizeof text - 1, 0, &o, err) != 0) {
        assert_null(o);
        return -1;
    }
    const json_t *number = json_array_get(json_object_get(o, "a"), 1);
    assert_true(json_integer_value(number) == 12345678901234567);
    json_decref(o);
    return 0;
}

static void json(void **state)
{
    (void)state;
    nth_each("JSON", reads_json, NULL, 5);
}

/* ---- the participant's journal and cutter ---- */

static const struct id cut_stream = {{7}};
static struct cutlog journal;

static void journal_open(void)
{
    struct err err = {0};
    nth_empty_folder();
    assert_int_equal(cutlog_open(&journal, nth_folder, &cut_stream, &err), 0);
    for (unsigned k = 0; k < 6; k++) {
        struct cutlog_entry e = {.first = k * 10 + 1, .last = k * 10 + 10, .incarnation = 5};
        e.before.b[0] = (uint8_t)k;
        e.hash.b[0] = (uint8_t)(k + 1);
        assert_int_equal(cutlog_append(&journal, &e, &err), 0);
    }
}

static void journal_prepare(void)
{
    journal_open();
    cutlog_close(&journal);
}

static int journal_opens(struct err *err)
{
    if (cutlog_open(&journal, nth_folder, &cut_stream, err) != 0) {
        return -1;
    }
    assert_int_equal(journal.count, 6);
    assert_int_equal(journal.entries[5].last, 60);
    cutlog_close(&journal);
    return 0;
}

static void journal_again(void)
{
    if (journal.fd >= 0) {
        cutlog_close(&journal);
    }
    journal_open();
}

static int journal_trims(struct err *err)
{
    if (cutlog_trim(&journal, 30, true, err) != 0) {
        assert_int_equal(journal.count, 6);
        return -1;
    }
    assert_int_equal(journal.count, 4);
    assert_int_equal(journal.entries[0].first, 21);
    return 0;
}

static int journal_clears(struct err *err)
{
    unsigned before = journal.count;
    if (cutlog_clear(&journal, err) != 0) {
        assert_int_equal(journal.count, before);
        return -1;
    }
    assert_int_equal(journal.count, 0);
    return 0;
}

static int cutter_begins(struct err *err)
{
    struct cutter cutter;
    if (cutter_init(&cutter, err) != 0) {
        cutter_close(&cutter); /* zeroed: that is nothing */
        return -1;
    }
    cutter_close(&cutter);
    return 0;
}

static void the_journal_and_the_cutter(void **state)
{
    (void)state;
    journal.fd = -1;
    nth_each("journal: open", journal_opens, journal_prepare, 1);
    journal.fd = -1;
    nth_each("journal: trim", journal_trims, journal_again, 1);
    nth_each("journal: clear", journal_clears, journal_again, 1);
    cutlog_close(&journal);
    nth_each("cutter", cutter_begins, NULL, 2);
}

/* ---- segments under way ---- */

static struct flight flight;

static void flight_anew(void)
{
    static const struct id stream = {{9}};
    flight_free(&flight);
    flight_init(&flight, NULL);
    flight_begin(&flight, &stream, 4, 0);
}

static int flight_adds(struct err *err)
{
    static const uint8_t bytes[] = "a segment";
    struct segment_info info = {.header.first_lsn = 1, .last_lsn = 5, .size = sizeof bytes};
    struct cutter_place after = {0};
    if (flight_add(&flight, &info, bytes, &after, err) != 0) {
        assert_true(flight_idle(&flight) && flight_has_room(&flight));
        assert_false(flight.slots[0].used);
        return -1;
    }
    assert_true(flight.slots[0].used && flight.slots[0].last == 5);
    assert_memory_equal(flight.slots[0].bytes, bytes, sizeof bytes);
    return 0;
}

static void segments_under_way(void **state)
{
    (void)state;
    nth_each("flight", flight_adds, flight_anew, 1);
    flight_free(&flight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_objects_of_9443),
        cmocka_unit_test(messages_and_attestations_take_none),
        cmocka_unit_test(json),
        cmocka_unit_test(the_journal_and_the_cutter),
        cmocka_unit_test(segments_under_way),
    };
    return cmocka_run_group_tests(tests, nth_setup, nth_teardown);
}
