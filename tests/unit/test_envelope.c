/* SPDX-License-Identifier: Apache-2.0 */
/* envelope: round trips, a byte vector, every field out of range, and bytes that mean harm. */
#include "common/wire/envelope.h"

#include "common/core/prng.h"
#include "proto/link.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t buffer[TIDE_ENVELOPE_SIZE_MAX];
static uint8_t again[TIDE_ENVELOPE_SIZE_MAX];

static struct id make_id(unsigned byte)
{
    struct id id;
    memset(id.b, (int)byte, sizeof id.b);
    return id;
}

static struct hash make_hash(unsigned byte)
{
    struct hash hash;
    memset(hash.b, (int)byte, sizeof hash.b);
    return hash;
}

static struct name make_name(const char *text)
{
    struct name name;
    memset(&name, 0, sizeof name);
    assert_true(name_parse(text, &name));
    return name;
}

static struct msg *make(enum msg_type type)
{
    struct msg *msg = calloc(1, sizeof *msg);
    assert_non_null(msg);
    msg->type = type;
    msg->head.group = make_id(0x10);
    msg->head.from = make_name("web");
    msg->head.to = make_name("db");
    msg->head.epoch.number = 7;
    msg->head.epoch.hash = make_hash(0x20);
    msg->head.incarnation = 0x0102030405060708ULL;
    return msg;
}

static void fill_lists(struct msg *msg)
{
    for (unsigned i = 0; i < TIDE_MEMBER_DISKS_MAX; i++) {
        struct msg_tap tap = {.stream = make_id(i + 1),
                              .incarnation = UINT64_MAX - i,
                              .whole = i % 2 == 0,
                              .gap = (uint8_t)(i % 2 == 0 ? 0 : i)};
        if (msg->type == MSG_HEARTBEAT) {
            msg->heartbeat.taps[msg->heartbeat.tap_count++] = tap;
        } else if (msg->type == MSG_HOLD) {
            msg->hold.taps[msg->hold.tap_count++] = tap;
        } else if (msg->type == MSG_HELD) {
            msg->held.marks[msg->held.mark_count++] =
                (struct round_mark){.stream = make_id(i + 1),
                                    .incarnation = UINT64_MAX - i,
                                    .lsn = UINT64_MAX - i,
                                    .nonce = make_id(255 - i)};
        } else if (msg->type == MSG_SEALED) {
            msg->sealed.seals[msg->sealed.seal_count++] =
                (struct msg_seal){.stream = make_id(i + 1),
                                  .outcome = ROUND_OUTCOME_HELD,
                                  .appended = true,
                                  .lsn = UINT64_MAX,
                                  .hold_us = UINT64_MAX,
                                  .writes_held = i,
                                  .bytes_held = UINT64_MAX};
        }
    }
}

/* The largest message of each type. */
static struct msg *make_full(enum msg_type type)
{
    struct msg *msg = make(type);
    memset(msg->head.from.s, 'a', TIDE_NAME_MAX);
    memset(msg->head.to.s, 'b', TIDE_NAME_MAX);
    msg->head.features = UINT64_MAX;
    fill_lists(msg);
    if (type == MSG_HEARTBEAT) {
        msg->heartbeat.reach = TIDE_MEMBERS_MAX;
        msg->heartbeat.sequence = UINT64_MAX;
        msg->heartbeat.yield_round = make_id(0x31);
        msg->heartbeat.lack = ROUND_REASON_NOT_WHOLE;
        memset(msg->heartbeat.lack_member.s, 'c', TIDE_NAME_MAX);
        msg->heartbeat.alone = true;
    } else if (type == MSG_HOLD) {
        msg->hold.round = make_id(0x40);
        msg->hold.scope = ROUND_SCOPE_GROUP;
        msg->hold.kind = ROUND_KIND_APPLICATION;
        msg->hold.budget_us = TIDE_HOLD_US_MAX;
        set_init(&msg->hold.set, TIDE_DISKS_MAX);
        for (unsigned i = 0; i < TIDE_DISKS_MAX; i++) {
            set_add(&msg->hold.set, i);
        }
    } else if (type == MSG_HELD) {
        msg->held.round = make_id(0x40);
    } else if (type == MSG_REFUSED) {
        msg->refused.round = make_id(0x40);
        msg->refused.reason = ROUND_REASON_ENDED;
        msg->refused.outcome = ROUND_OUTCOME_EXPIRED;
        msg->refused.stream = make_id(0x41);
        memset(msg->refused.text, 'x', TIDE_MSG_TEXT_MAX);
    } else if (type == MSG_RELEASE) {
        msg->release.round = make_id(0x40);
        msg->release.cut = make_hash(0x50);
    } else if (type == MSG_ABORT) {
        msg->abort.round = make_id(0x40);
        msg->abort.reason = ROUND_REASON_KIND;
    } else if (type == MSG_SEALED) {
        msg->sealed.round = make_id(0x40);
        msg->sealed.outcome = ROUND_OUTCOME_UNHELD;
    } else if (type == MSG_SUM) {
        msg->sum.round = make_id(0x40);
        msg->sum.reason = ROUND_REASON_TIMEOUT;
        memset(msg->sum.member.s, 'm', TIDE_NAME_MAX);
        memset(msg->sum.text, 'x', TIDE_MSG_TEXT_MAX);
        msg->sum.hold_us_max = UINT64_MAX;
        msg->sum.member_count = TIDE_MEMBERS_MAX;
        for (unsigned i = 0; i < TIDE_MEMBERS_MAX; i++) {
            memset(msg->sum.members[i].member.s, 'n', TIDE_NAME_MAX);
            msg->sum.members[i].hold_us_max = UINT64_MAX;
            msg->sum.members[i].writes_held = UINT64_MAX;
            msg->sum.members[i].outcome = ROUND_OUTCOME_ABORTED;
        }
    } else if (type == MSG_TAKE) {
        msg->take.request = make_id(0x60);
        msg->take.kind = ROUND_KIND_CRASH;
    } else {
        msg->taken.request = make_id(0x60);
        msg->taken.round = make_id(0x40);
        msg->taken.sealed = true;
    }
    return msg;
}

/* The smallest. */
static struct msg *make_small(enum msg_type type)
{
    struct msg *full = make_full(type);
    struct msg *msg = make(type);
    msg->head.epoch = (struct epoch){0};
    switch (type) {
    case MSG_HEARTBEAT:
        msg->heartbeat.reach = 1;
        msg->heartbeat.sequence = 1;
        break;
    case MSG_HOLD:
        msg->hold = full->hold;
        msg->hold.tap_count = 1;
        memset(&msg->hold.taps[1], 0, sizeof msg->hold.taps - sizeof msg->hold.taps[0]);
        msg->hold.taps[0] = (struct msg_tap){.stream = make_id(1)};
        set_init(&msg->hold.set, 1);
        set_add(&msg->hold.set, 0);
        msg->hold.budget_us = TIDE_HOLD_US_MIN;
        msg->hold.scope = ROUND_SCOPE_MEMBER;
        msg->hold.kind = ROUND_KIND_CRASH;
        break;
    case MSG_HELD:
        msg->held.round = make_id(1);
        msg->held.mark_count = 1;
        msg->held.marks[0] = full->held.marks[0];
        break;
    case MSG_REFUSED:
        msg->refused.round = make_id(1);
        msg->refused.reason = ROUND_REASON_EPOCH;
        break;
    case MSG_SEALED:
        msg->sealed.round = make_id(1);
        msg->sealed.outcome = ROUND_OUTCOME_ABORTED;
        msg->sealed.seal_count = 1;
        msg->sealed.seals[0] =
            (struct msg_seal){.stream = make_id(1), .outcome = ROUND_OUTCOME_ABORTED};
        break;
    case MSG_SUM:
        msg->sum.round = make_id(1);
        msg->sum.sealed_by_all = true;
        break;
    case MSG_TAKEN:
        msg->taken.request = make_id(1);
        msg->taken.reason = ROUND_REASON_BUSY;
        break;
    case MSG_RELEASE:
    case MSG_ABORT:
    case MSG_TAKE:
    default:
        memcpy((char *)msg + offsetof(struct msg, hold), (char *)full + offsetof(struct msg, hold),
               msg_size(type) - offsetof(struct msg, hold));
        break;
    }
    free(full);
    return msg;
}

static void same_after_round_trip(const struct msg *msg)
{
    struct msg *back = calloc(1, sizeof *back);
    assert_non_null(back);
    struct err err = {0};
    size_t size = envelope_encode(msg, buffer);
    if (envelope_decode(buffer, size, back, &err) != 0) {
        fail_msg("%s: %s", envelope_type_name(msg->type), err.text);
    }
    assert_int_equal(back->type, msg->type);
    assert_string_equal(back->head.from.s, msg->head.from.s);
    assert_string_equal(back->head.to.s, msg->head.to.s);
    assert_true(id_equal(&back->head.group, &msg->head.group));
    assert_true(epoch_equal(&back->head.epoch, &msg->head.epoch));
    assert_true(back->head.incarnation == msg->head.incarnation);
    assert_true(back->head.features == msg->head.features);
    assert_int_equal(back->head.version, TIDE_MSG_VERSION_MIN);
    assert_int_equal(back->head.version_max,
                     msg->head.version_max != 0 ? msg->head.version_max : TIDE_MSG_VERSION);
    /* No padding may decide: compare what both encode to. */
    assert_int_equal(envelope_encode(back, again), size);
    assert_memory_equal(buffer, again, size);
    free(back);
}

static void round_trips(void **state)
{
    (void)state;
    for (unsigned type = MSG_HEARTBEAT; type <= MSG_TAKEN; type++) {
        assert_non_null(envelope_type_name(type));
        struct msg *full = make_full((enum msg_type)type);
        same_after_round_trip(full);
        free(full);
        struct msg *small = make_small((enum msg_type)type);
        same_after_round_trip(small);
        free(small);
    }
    assert_null(envelope_type_name(MSG_TAKEN + 1));
    assert_null(envelope_type_name(0));
}

/* Fields really arrive: encoding and decoding could lose the same one. */
static void fields_arrive(void **state)
{
    (void)state;
    struct msg *msg = make_full(MSG_SUM);
    struct msg *back = calloc(1, sizeof *back);
    struct err err;
    size_t size = envelope_encode(msg, buffer);
    assert_int_equal(envelope_decode(buffer, size, back, &err), 0);
    assert_true(size > 20000 && size <= TIDE_ENVELOPE_SIZE_MAX);
    assert_memory_equal(&back->sum.members[255].member, &msg->sum.members[255].member,
                        sizeof(struct name));
    assert_int_equal(back->sum.members[255].outcome, ROUND_OUTCOME_ABORTED);
    assert_string_equal(back->sum.text, msg->sum.text);
    free(msg);
    msg = make_full(MSG_SEALED);
    size = envelope_encode(msg, buffer);
    assert_int_equal(envelope_decode(buffer, size, back, &err), 0);
    assert_int_equal(back->sealed.outcome, ROUND_OUTCOME_UNHELD);
    assert_true(back->sealed.seals[63].appended);
    assert_int_equal(back->sealed.seals[63].writes_held, 63);
    free(msg);
    free(back);
}

/* Made by an encoder of its own from proto/link.proto. */
static void byte_vector(void **state)
{
    (void)state;
    static const char hex[] = "08011a101010101010101010101010101010101022037765622a02646230073a"
                              "2020202020202020202020202020202020202020202020202020202020202020"
                              "204108070605040302019201440a104040404040404040404040404040404012"
                              "300a104141414141414141414141414141414111887766554433221118ac0222"
                              "1042424242424242424242424242424242";
    struct msg *msg = make(MSG_HELD);
    msg->held.round = make_id(0x40);
    msg->held.mark_count = 1;
    msg->held.marks[0] = (struct round_mark){.stream = make_id(0x41),
                                             .incarnation = 0x1122334455667788ULL,
                                             .lsn = 300,
                                             .nonce = make_id(0x42)};
    size_t size = envelope_encode(msg, buffer);
    assert_int_equal(size, (sizeof hex - 1) / 2);
    for (size_t i = 0; i < size; i++) {
        char pair[3];
        snprintf(pair, sizeof pair, "%02x", buffer[i]);
        assert_memory_equal(pair, hex + 2 * i, 2);
    }
    free(msg);
}

/* ---- what a peer may not say ---- */

struct peer_message { /* a valid message as protobuf-c structs, for breaking */
    Tide__Link__Envelope *e;
    uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    size_t size;
};

static void open_peer(struct peer_message *p, enum msg_type type)
{
    struct msg *msg = make_full(type);
    p->size = envelope_encode(msg, p->bytes);
    free(msg);
    p->e = tide__link__envelope__unpack(NULL, p->size, p->bytes);
    assert_non_null(p->e);
}

static void refused(struct peer_message *p, enum err_code code, const char *word)
{
    size_t size = tide__link__envelope__get_packed_size(p->e);
    uint8_t *bytes = malloc(size + 1);
    tide__link__envelope__pack(p->e, bytes);
    struct msg *msg = malloc(sizeof *msg);
    memset(msg, 0xAA, sizeof *msg);
    struct err err = {0};
    int rc = envelope_decode(bytes, size, msg, &err);
    if (rc != -1 || err.code != code || strstr(err.text, word) == NULL) {
        fail_msg("expected %s with \"%s\", got %d %s: %s", err_name(code), word, rc,
                 err_name(err.code), err.text);
    }
    for (size_t i = 0; i < sizeof *msg; i++) {
        assert_int_equal(((uint8_t *)msg)[i], 0xAA); /* untouched on failure */
    }
    free(msg);
    free(bytes);
}

/* Sets a field, expects the refusal, sets it back. */
#define BREAK(p, field, value, code, word)                                                         \
    do {                                                                                           \
        __typeof__((p).e->field) saved = (p).e->field;                                             \
        (p).e->field = (value);                                                                    \
        refused(&(p), TIDE_ERR_##code, word);                                                      \
        (p).e->field = saved;                                                                      \
    } while (0)

static void zero_id(struct peer_message *p, ProtobufCBinaryData *field, const char *word)
{
    uint8_t saved[TIDE_ID_SIZE];
    memcpy(saved, field->data, sizeof saved);
    memset(field->data, 0, sizeof saved);
    refused(p, TIDE_ERR_CORRUPT, word);
    memcpy(field->data, saved, sizeof saved);
    field->len = 15;
    refused(p, TIDE_ERR_CORRUPT, word);
    field->len = 16;
}

static char long_name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static char bad_name[] = "Web";
static char empty_name[] = "";
static char long_text[TIDE_MSG_TEXT_MAX + 2];

/* A newer build says so in a message that this one reads. */
static void a_newer_sender(void **state)
{
    (void)state;
    struct msg *msg = make_full(MSG_HOLD);
    msg->head.version_max = TIDE_MSG_VERSION + 8;
    same_after_round_trip(msg);
    free(msg);
}

static void bad_heads(void **state)
{
    (void)state;
    static struct peer_message p;
    open_peer(&p, MSG_TAKE);
    BREAK(p, version, TIDE_MSG_VERSION + 1, VERSION, "version 2");
    BREAK(p, version, 0, VERSION, "version 0");
    zero_id(&p, &p.e->group, "group");
    BREAK(p, from, bad_name, CORRUPT, "from");
    BREAK(p, from, long_name, CORRUPT, "from");
    BREAK(p, to, empty_name, CORRUPT, "to");
    BREAK(p, incarnation, 0, CORRUPT, "incarnation");
    BREAK(p, epoch, 0, CORRUPT, "epoch_hash");
    BREAK(p, epoch_hash.len, 31, CORRUPT, "epoch_hash");
    BREAK(p, epoch_hash.len, 0, CORRUPT, "epoch_hash");
    BREAK(p, body_case, TIDE__LINK__ENVELOPE__BODY__NOT_SET, CORRUPT, "body");
    tide__link__envelope__free_unpacked(p.e, NULL);
}

static void bad_rounds(void **state)
{
    (void)state;
    static struct peer_message p;
    open_peer(&p, MSG_HEARTBEAT);
    BREAK(p, heartbeat->reach, 0, CORRUPT, "reach");
    BREAK(p, heartbeat->reach, 257, CORRUPT, "reach");
    BREAK(p, heartbeat->sequence, 0, CORRUPT, "sequence");
    BREAK(p, heartbeat->yield_round.len, 3, CORRUPT, "yield_round");
    BREAK(p, heartbeat->lack, 0, CORRUPT, "lack"); /* but leave to go alone */
    BREAK(p, heartbeat->lack, 999, CORRUPT, "lack");
    BREAK(p, heartbeat->lack_member, (char[]){"a b"}, CORRUPT, "lack_member");
    BREAK(p, heartbeat->taps[0]->incarnation, 0, CORRUPT, "whole");
    BREAK(p, heartbeat->taps[0]->gap, 256, CORRUPT, "gap");
    zero_id(&p, &p.e->heartbeat->taps[63]->stream, "stream");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_HOLD);
    zero_id(&p, &p.e->hold->round, "round");
    BREAK(p, hold->scope, 0, CORRUPT, "scope");
    BREAK(p, hold->scope, 3, CORRUPT, "scope");
    BREAK(p, hold->kind, 0, CORRUPT, "kind");
    BREAK(p, hold->kind, 3, CORRUPT, "kind");
    BREAK(p, hold->set_count, 0, CORRUPT, "set");
    BREAK(p, hold->set_count, 1025, CORRUPT, "set");
    BREAK(p, hold->set_count, 1023, CORRUPT, "set"); /* a bit past the count is set */
    BREAK(p, hold->set.len, 127, CORRUPT, "set");
    BREAK(p, hold->budget_us, TIDE_HOLD_US_MIN - 1, CORRUPT, "budget_us");
    BREAK(p, hold->budget_us, TIDE_HOLD_US_MAX + 1, CORRUPT, "budget_us");
    BREAK(p, hold->n_taps, 0, CORRUPT, "taps");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_HELD);
    zero_id(&p, &p.e->held->round, "round");
    BREAK(p, held->n_marks, 0, CORRUPT, "marks");
    zero_id(&p, &p.e->held->marks[5]->stream, "stream");
    zero_id(&p, &p.e->held->marks[5]->nonce, "nonce");
    BREAK(p, held->marks[5]->incarnation, 0, CORRUPT, "marks");
    BREAK(p, held->marks[5]->lsn, 0, CORRUPT, "marks");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_RELEASE);
    zero_id(&p, &p.e->release->round, "round");
    BREAK(p, release->cut_hash.len, 16, CORRUPT, "cut_hash");
    memset(p.e->release->cut_hash.data, 0, 32);
    refused(&p, TIDE_ERR_CORRUPT, "cut_hash");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_ABORT);
    zero_id(&p, &p.e->abort->round, "round");
    BREAK(p, abort->reason, 0, CORRUPT, "reason");
    BREAK(p, abort->reason, 999, CORRUPT, "reason");
    tide__link__envelope__free_unpacked(p.e, NULL);
}

static void bad_answers(void **state)
{
    (void)state;
    static struct peer_message p;
    memset(long_text, 'x', sizeof long_text - 1);
    open_peer(&p, MSG_REFUSED);
    zero_id(&p, &p.e->refused->round, "round");
    BREAK(p, refused->reason, 0, CORRUPT, "reason");
    BREAK(p, refused->reason, ROUND_REASON_BUSY, CORRUPT, "outcome");
    BREAK(p, refused->outcome, 0, CORRUPT, "outcome");
    BREAK(p, refused->outcome, 77, CORRUPT, "outcome");
    BREAK(p, refused->stream.len, 1, CORRUPT, "stream");
    BREAK(p, refused->text, long_text, LIMIT, "text");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_SEALED);
    zero_id(&p, &p.e->sealed->round, "round");
    BREAK(p, sealed->outcome, 0, CORRUPT, "outcome");
    BREAK(p, sealed->n_seals, 0, CORRUPT, "seals");
    BREAK(p, sealed->seals[1]->outcome, 5, CORRUPT, "outcome");
    BREAK(p, sealed->seals[1]->appended, 0, CORRUPT, "lsn");
    BREAK(p, sealed->seals[1]->lsn, 0, CORRUPT, "lsn");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_SUM);
    zero_id(&p, &p.e->sum->round, "round");
    BREAK(p, sum->sealed_by_all, 1, CORRUPT, "reason");
    BREAK(p, sum->reason, 0, CORRUPT, "reason");
    BREAK(p, sum->member, bad_name, CORRUPT, "member");
    BREAK(p, sum->text, long_text, LIMIT, "text");
    BREAK(p, sum->members[255]->member, empty_name, CORRUPT, "member");
    BREAK(p, sum->members[255]->outcome, 9, CORRUPT, "outcome");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_TAKE);
    zero_id(&p, &p.e->take->request, "request");
    BREAK(p, take->kind, 0, CORRUPT, "kind");
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_TAKEN);
    zero_id(&p, &p.e->taken->request, "request");
    BREAK(p, taken->sealed, 0, CORRUPT, "sealed");
    BREAK(p, taken->reason, 3, CORRUPT, "sealed");
    BREAK(p, taken->reason, 300, CORRUPT, "reason");
    BREAK(p, taken->round.len, 0, CORRUPT, "sealed");
    BREAK(p, taken->member, bad_name, CORRUPT, "member");
    tide__link__envelope__free_unpacked(p.e, NULL);
}

/* One element more than the limit, of each kind of list. */
static void too_many(void **state)
{
    (void)state;
    static struct peer_message p;
    static Tide__Link__Tap *taps[TIDE_MEMBER_DISKS_MAX + 1];
    static Tide__Link__MemberSum *sums[TIDE_MEMBERS_MAX + 1];
    open_peer(&p, MSG_HEARTBEAT);
    for (unsigned i = 0; i <= TIDE_MEMBER_DISKS_MAX; i++) {
        taps[i] = p.e->heartbeat->taps[0];
    }
    Tide__Link__Tap **whole = p.e->heartbeat->taps;
    p.e->heartbeat->taps = taps;
    BREAK(p, heartbeat->n_taps, TIDE_MEMBER_DISKS_MAX + 1, LIMIT, "taps");
    p.e->heartbeat->taps = whole;
    tide__link__envelope__free_unpacked(p.e, NULL);

    open_peer(&p, MSG_SUM);
    for (unsigned i = 0; i <= TIDE_MEMBERS_MAX; i++) {
        sums[i] = p.e->sum->members[0];
    }
    Tide__Link__MemberSum **members = p.e->sum->members;
    p.e->sum->members = sums;
    BREAK(p, sum->n_members, TIDE_MEMBERS_MAX + 1, LIMIT, "members");
    p.e->sum->members = members;
    tide__link__envelope__free_unpacked(p.e, NULL);
}

/* 64 KiB that would unpack to megabytes. */
static void flood(void **state)
{
    (void)state;
    struct msg *msg = make(MSG_TAKE);
    msg->take.request = make_id(1);
    msg->take.kind = ROUND_KIND_CRASH;
    size_t size = envelope_encode(msg, buffer);
    const size_t body = 64000;
    buffer[size++] = 0xBA; /* field 23 (sum), length-delimited */
    buffer[size++] = 0x01;
    buffer[size++] = (uint8_t)(body & 0x7F) | 0x80;
    buffer[size++] = (uint8_t)(body >> 7 & 0x7F) | 0x80;
    buffer[size++] = (uint8_t)(body >> 14);
    for (size_t i = 0; i < body; i += 2) {
        buffer[size++] = 0x3A; /* field 7 (members), empty */
        buffer[size++] = 0;
    }
    assert_true(size <= TIDE_ENVELOPE_SIZE_MAX);
    struct err err = {0};
    assert_int_equal(envelope_decode(buffer, size, msg, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_non_null(strstr(err.text, "unpack"));
    assert_int_equal(envelope_decode(buffer, TIDE_ENVELOPE_SIZE_MAX + 1, msg, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    free(msg);
}

static void text_for_people_is_plain(void **state)
{
    (void)state;
    struct msg *msg = make_full(MSG_REFUSED);
    snprintf(msg->refused.text, sizeof msg->refused.text, "a\x1b[31m\xc3\xa4\n");
    size_t size = envelope_encode(msg, buffer);
    struct err err;
    assert_int_equal(envelope_decode(buffer, size, msg, &err), 0);
    assert_string_equal(msg->refused.text, "a?[31m???");
    free(msg);
}

/* Truncations, bit flips and noise: an answer without harm; what is accepted encodes again. */
static void noise(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 20004);
    struct msg *msg = calloc(1, sizeof *msg);
    struct err err;
    unsigned accepted = 0;
    for (unsigned type = MSG_HEARTBEAT; type <= MSG_TAKEN; type++) {
        struct msg *small = make_small((enum msg_type)type);
        size_t size = envelope_encode(small, buffer);
        free(small);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact = malloc(cut + 1); /* its own block, so that an over-read shows */
            memcpy(exact, buffer, cut);
            assert_int_equal(envelope_decode(exact, cut, msg, &err), -1);
            free(exact);
        }
        for (unsigned i = 0; i < 3000; i++) {
            memcpy(again, buffer, size);
            unsigned flips = 1 + (unsigned)prng_below(&prng, 4);
            for (unsigned k = 0; k < flips; k++) {
                again[prng_below(&prng, size)] ^= (uint8_t)(1U << prng_below(&prng, 8));
            }
            if (envelope_decode(again, size, msg, &err) == 0) {
                accepted++;
                envelope_encode(msg, again);
            }
        }
    }
    assert_true(accepted > 0); /* flips in ids and numbers are valid messages */
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = prng_below(&prng, 400);
        for (size_t k = 0; k < size; k++) {
            again[k] = (uint8_t)prng_next(&prng);
        }
        assert_int_equal(envelope_decode(again, size, msg, &err), -1);
    }
    free(msg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),    cmocka_unit_test(fields_arrive),
        cmocka_unit_test(byte_vector),    cmocka_unit_test(bad_heads),
        cmocka_unit_test(a_newer_sender), cmocka_unit_test(bad_rounds),
        cmocka_unit_test(bad_answers),    cmocka_unit_test(too_many),
        cmocka_unit_test(flood),          cmocka_unit_test(text_for_people_is_plain),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
