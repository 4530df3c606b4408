/* SPDX-License-Identifier: Apache-2.0 */
/* member: each reason to refuse a HOLD, and what must change nothing, on the machine alone. */
#include "participant/core/member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DISKS 2U

struct bench { /* one member, "db", of three; what it gave out in the last step */
    struct definition *definition;
    struct member *member;
    uint64_t now_us;
    unsigned holds;
    unsigned releases;
    unsigned aborts;
    unsigned attests;
    unsigned notes;
    bool sent;
    int to;
    struct msg last;
    struct hash cut;
};

static struct id make_id(unsigned byte)
{
    struct id id;
    memset(id.b, (int)byte, sizeof id.b);
    return id;
}

static void put(void *context, const struct member_effect *effect)
{
    struct bench *b = context;
    b->holds += effect->type == MEMBER_ORDER_HOLD;
    b->releases += effect->type == MEMBER_ORDER_RELEASE;
    b->aborts += effect->type == MEMBER_ORDER_ABORT;
    b->attests += effect->type == MEMBER_ATTEST;
    b->notes += effect->type == MEMBER_NOTE;
    if (effect->type == MEMBER_SEND) {
        b->sent = true;
        b->to = effect->to;
        memcpy(&b->last, effect->msg, msg_size(effect->msg->type));
    } else if (effect->type == MEMBER_ORDER_RELEASE) {
        b->cut = effect->order->cut;
    }
}

static void step(struct bench *b, struct member_event event)
{
    const struct member_outbox outbox = {.put = put, .context = b};
    b->holds = b->releases = b->aborts = b->attests = b->notes = 0;
    b->sent = false;
    event.now_us = b->now_us;
    member_step(b->member, &event, &outbox);
}

static void set_tap(struct bench *b, unsigned disk, uint64_t incarnation, bool whole)
{
    step(b, (struct member_event){.type = MEMBER_TAP,
                                  .disk = disk,
                                  .tap = {.attached = incarnation != 0,
                                          .stream = b->definition->disks[DISKS + disk].stream,
                                          .incarnation = incarnation,
                                          .whole = whole,
                                          .logging = true}});
}

static void open_bench(struct bench *b, bool define)
{
    memset(b, 0, sizeof *b);
    b->definition = malloc(sizeof *b->definition);
    struct id group = make_id(0x10);
    struct name name;
    struct err err;
    assert_true(name_parse("shop", &name));
    definition_init(b->definition, &group, &name, 3);
    memset(b->definition->epoch.hash.b, 0x33, TIDE_HASH_SIZE);
    static const char *const names[] = {"web", "db", "app", "mail"};
    for (unsigned m = 0; m < 4; m++) {
        struct definition_member member = {.identity = "spiffe://x/participant/y",
                                           .address = "127.0.0.1:1"};
        assert_true(name_parse(names[m], &member.name));
        assert_int_equal(definition_add_member(b->definition, &member, &err), 0);
        for (unsigned d = 0; d < DISKS; d++) {
            struct definition_disk disk = {.stream = make_id(0x40 + m * DISKS + d),
                                           .timeline = make_id(0x50),
                                           .disk = make_id(0x60 + m * DISKS + d),
                                           .size = 4096,
                                           .block_size = 512};
            assert_true(name_parse(d == 0 ? "data" : "log", &disk.name));
            assert_int_equal(definition_add_disk(b->definition, &disk, &err), 0);
        }
    }
    struct member_config config = {.incarnation = 9};
    assert_true(name_parse("db", &config.name));
    b->member = member_new(&config);
    assert_non_null(b->member);
    if (define) {
        step(b, (struct member_event){
                    .type = MEMBER_DEFINITION, .definition = b->definition, .self = 1});
        set_tap(b, 0, 100, true);
        set_tap(b, 1, 101, true);
    }
}

static void close_bench(struct bench *b)
{
    member_free(b->member);
    free(b->definition);
}

static struct msg make_hold(const struct bench *b, unsigned round)
{
    struct msg msg;
    memset(&msg, 0, sizeof msg);
    msg.type = MSG_HOLD;
    msg.head.group = b->definition->group;
    msg.head.from = b->definition->members[0].name;
    msg.head.to = b->definition->members[1].name;
    msg.head.epoch = b->definition->epoch;
    msg.head.incarnation = 1;
    msg.hold.round = make_id(round);
    msg.hold.scope = ROUND_SCOPE_GROUP;
    msg.hold.kind = ROUND_KIND_CRASH;
    msg.hold.budget_us = 50000;
    set_init(&msg.hold.set, b->definition->disk_count);
    definition_set_member(b->definition, 0, &msg.hold.set);
    definition_set_member(b->definition, 1, &msg.hold.set);
    msg.hold.tap_count = DISKS;
    for (unsigned d = 0; d < DISKS; d++) {
        msg.hold.taps[d] = (struct msg_tap){.stream = b->definition->disks[DISKS + d].stream,
                                            .incarnation = 100 + d,
                                            .whole = true};
    }
    return msg;
}

static void say(struct bench *b, const struct msg *msg)
{
    step(b, (struct member_event){.type = MEMBER_MESSAGE, .msg = msg});
}

static void expect_refused(struct bench *b, const struct msg *msg, enum round_reason reason)
{
    say(b, msg);
    assert_int_equal(b->holds, 0);
    assert_true(b->sent);
    assert_int_equal(b->last.type, MSG_REFUSED);
    assert_int_equal(b->last.refused.reason, reason);
    assert_true(id_equal(&b->last.refused.round, &msg->hold.round));
    assert_true(b->last.refused.text[0] != '\0');
    assert_int_equal(member_state(b->member), MEMBER_IDLE);
}

static void expect_ignored(struct bench *b, const struct msg *msg)
{
    enum member_state before = member_state(b->member);
    say(b, msg);
    assert_false(b->sent);
    assert_int_equal(b->holds + b->releases + b->aborts, 0);
    assert_int_equal(member_state(b->member), before);
}

static void reasons(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    msg.head.epoch.hash.b[0] ^= 1; /* the number alone is not the epoch */
    expect_refused(&b, &msg, ROUND_REASON_EPOCH);
    assert_true(epoch_equal(&b.last.head.epoch, &b.definition->epoch));
    msg.head.epoch = b.definition->epoch;
    expect_refused(&b, &msg, ROUND_REASON_ENDED); /* no is final, even now that it would fit */
    assert_int_equal(b.last.refused.outcome, ROUND_OUTCOME_ABORTED);

    msg = make_hold(&b, 2);
    msg.hold.taps[1].incarnation++;
    expect_refused(&b, &msg, ROUND_REASON_INCARNATION);
    assert_true(id_equal(&b.last.refused.stream, &b.definition->disks[3].stream));
    msg = make_hold(&b, 3);
    msg.hold.tap_count = 1;
    expect_refused(&b, &msg, ROUND_REASON_INCARNATION);
    msg = make_hold(&b, 4);
    set_init(&msg.hold.set, b.definition->disk_count);
    set_add(&msg.hold.set, 2);
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    msg = make_hold(&b, 5);
    msg.hold.set.count++;
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    msg = make_hold(&b, 6);
    msg.hold.kind = ROUND_KIND_APPLICATION;
    expect_refused(&b, &msg, ROUND_REASON_KIND);
    msg = make_hold(&b, 20);
    msg.head.features = ~TIDE_MSG_FEATURES & 1ULL << 63; /* of a build that is not written yet */
    expect_refused(&b, &msg, ROUND_REASON_KIND);
    assert_non_null(strstr(b.last.refused.text, "features"));
    msg = make_hold(&b, 7);
    msg.hold.scope = ROUND_SCOPE_MEMBER;
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);

    set_tap(&b, 0, 100, false);
    msg = make_hold(&b, 8);
    expect_refused(&b, &msg, ROUND_REASON_NOT_WHOLE);
    set_tap(&b, 0, 0, false);
    msg = make_hold(&b, 9);
    expect_refused(&b, &msg, ROUND_REASON_NOT_ATTACHED);
    close_bench(&b);
}

static void other_stream_is_not_attached(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    step(&b, (struct member_event){.type = MEMBER_TAP,
                                   .disk = 0,
                                   .tap = {.attached = true,
                                           .stream = make_id(0x99),
                                           .incarnation = 100,
                                           .whole = true,
                                           .logging = true}});
    struct msg msg = make_hold(&b, 1);
    expect_refused(&b, &msg, ROUND_REASON_NOT_ATTACHED);
    struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
    assert_int_equal(member_taps(b.member, taps), DISKS);
    assert_int_equal(taps[0].incarnation, 0);
    assert_false(taps[0].whole);
    assert_int_equal(taps[1].incarnation, 101);
    close_bench(&b);
}

static void no_definition(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, false);
    struct msg msg = make_hold(&b, 1);
    expect_refused(&b, &msg, ROUND_REASON_NO_DEFINITION);
    assert_int_equal(b.to, -1);
    assert_int_equal(b.last.head.epoch.number, 0);
    assert_string_equal(b.last.head.to.s, "web");
    struct msg release = {.type = MSG_RELEASE, .head = msg.head};
    expect_ignored(&b, &release);
    close_bench(&b);
}

static void not_for_us(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    msg.head.to = b.definition->members[2].name;
    expect_ignored(&b, &msg);
    msg = make_hold(&b, 1);
    msg.head.group.b[0] ^= 1;
    expect_ignored(&b, &msg);
    msg = make_hold(&b, 1);
    msg.head.from = b.definition->members[3].name; /* in the group, but no candidate */
    expect_ignored(&b, &msg);
    msg.head.from.s[0] = 'x';
    expect_ignored(&b, &msg);
    assert_int_equal(b.notes, 1);
    close_bench(&b);
}

static void answer_held(struct bench *b, unsigned disk, unsigned round)
{
    struct tapctl_held held = {.round = make_id(round),
                               .mark = {.stream = b->definition->disks[DISKS + disk].stream,
                                        .incarnation = 100 + disk,
                                        .lsn = 7 + disk,
                                        .nonce = make_id(0x70 + disk)},
                               .budget_us = 50000};
    step(b, (struct member_event){.type = MEMBER_TAP_HELD, .disk = disk, .held = &held});
}

static void answer_sealed(struct bench *b, unsigned disk, unsigned round,
                          enum round_outcome outcome)
{
    struct tapctl_sealed sealed = {.round = make_id(round),
                                   .outcome = outcome,
                                   .appended = true,
                                   .bookmark_lsn = 7 + disk,
                                   .seal_lsn = 9 + disk,
                                   .hold_us = 1000,
                                   .writes_held = 3};
    step(b, (struct member_event){.type = MEMBER_TAP_SEALED, .disk = disk, .sealed = &sealed});
}

static void whole_round(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    say(&b, &msg);
    assert_int_equal(b.holds, DISKS);
    assert_false(b.sent);
    struct msg other = make_hold(&b, 2);
    say(&b, &other);
    assert_int_equal(b.last.refused.reason, ROUND_REASON_BUSY);
    say(&b, &msg); /* again, before all hold: nothing */
    assert_false(b.sent);
    assert_int_equal(b.holds, 0);
    answer_held(&b, 0, 1);
    assert_false(b.sent);
    answer_held(&b, 0, 1); /* the same tap twice is not two taps */
    assert_false(b.sent);
    answer_held(&b, 1, 2); /* another round */
    assert_false(b.sent);
    answer_held(&b, 1, 1);
    assert_true(b.sent);
    assert_int_equal(b.last.type, MSG_HELD);
    assert_int_equal(b.to, 0);
    assert_int_equal(b.last.held.mark_count, DISKS);
    assert_int_equal(b.last.held.marks[1].lsn, 8);
    uint64_t wake = member_wake_us(b.member);
    b.now_us += 1000;
    say(&b, &msg); /* and again: HELD again, nothing armed anew */
    assert_int_equal(b.last.type, MSG_HELD);
    assert_int_equal(b.holds, 0);
    assert_true(member_wake_us(b.member) == wake);

    struct msg release = {.type = MSG_RELEASE, .head = msg.head};
    release.release.round = make_id(1);
    memset(release.release.cut.b, 0x44, TIDE_HASH_SIZE);
    release.head.epoch.number++;
    expect_ignored(&b, &release);
    release.head.epoch = b.definition->epoch;
    release.head.from = b.definition->members[2].name;
    expect_ignored(&b, &release);
    release.head.from = b.definition->members[0].name;
    say(&b, &release);
    assert_int_equal(b.releases, DISKS);
    assert_int_equal(b.cut.b[0], 0x44);
    struct msg abort_it = {.type = MSG_ABORT, .head = msg.head};
    abort_it.abort.round = make_id(1);
    abort_it.abort.reason = ROUND_REASON_TIMEOUT;
    expect_ignored(&b, &abort_it); /* too late: it was released */
    expect_ignored(&b, &release);
    answer_sealed(&b, 1, 1, ROUND_OUTCOME_HELD);
    assert_false(b.sent);
    answer_sealed(&b, 0, 1, ROUND_OUTCOME_HELD);
    assert_int_equal(b.last.type, MSG_SEALED);
    assert_int_equal(b.last.sealed.outcome, ROUND_OUTCOME_HELD);
    assert_int_equal(b.last.sealed.seals[0].writes_held, 3);
    assert_int_equal(b.attests, 1);
    assert_int_equal(member_state(b.member), MEMBER_IDLE);
    assert_true(member_wake_us(b.member) == UINT64_MAX);
    expect_refused(&b, &msg, ROUND_REASON_ENDED);
    assert_int_equal(b.last.refused.outcome, ROUND_OUTCOME_HELD);
    close_bench(&b);
}

/* A round of its own: by itself alone, of all its disks and no others; also one that may not lead.
 */
static void alone(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg own = make_hold(&b, 1);
    own.head.from = own.head.to;
    own.hold.scope = ROUND_SCOPE_MEMBER;
    struct msg msg = own; /* web's disks are in its set too */
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    set_init(&own.hold.set, b.definition->disk_count);
    definition_set_member(b.definition, 1, &own.hold.set);
    msg = own;
    msg.hold.round = make_id(2);
    msg.head.from = b.definition->members[0].name; /* of another, a candidate */
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    msg = own;
    msg.hold.round = make_id(3);
    set_init(&msg.hold.set, b.definition->disk_count);
    set_add(&msg.hold.set, DISKS); /* one of its two */
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    own.hold.round = make_id(4);
    say(&b, &own);
    assert_int_equal(b.holds, DISKS);
    struct msg group = make_hold(&b, 5); /* meanwhile */
    say(&b, &group);
    assert_int_equal(b.last.refused.reason, ROUND_REASON_BUSY);
    answer_held(&b, 0, 4);
    answer_held(&b, 1, 4);
    assert_int_equal(b.last.type, MSG_HELD);
    assert_int_equal(b.to, 1);
    struct msg release = {.type = MSG_RELEASE, .head = own.head};
    release.release.round = make_id(4);
    say(&b, &release);
    assert_int_equal(b.releases, DISKS);
    answer_sealed(&b, 0, 4, ROUND_OUTCOME_HELD);
    answer_sealed(&b, 1, 4, ROUND_OUTCOME_HELD);
    assert_int_equal(b.attests, 1);
    assert_int_equal(member_state(b.member), MEMBER_IDLE);
    close_bench(&b);
}

/* Let go and not synced yet, which a slow disk may take long for: it gives way to the group's, and
 * what comes late of it changes nothing. */
static void alone_gives_way(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg own = make_hold(&b, 1);
    own.head.from = own.head.to;
    own.hold.scope = ROUND_SCOPE_MEMBER;
    set_init(&own.hold.set, b.definition->disk_count);
    definition_set_member(b.definition, 1, &own.hold.set);
    say(&b, &own);
    answer_held(&b, 0, 1);
    answer_held(&b, 1, 1);
    struct msg release = {.type = MSG_RELEASE, .head = own.head};
    release.release.round = make_id(1);
    say(&b, &release);
    answer_sealed(&b, 1, 1, ROUND_OUTCOME_HELD);
    struct msg again = own;
    again.hold.round = make_id(2);
    say(&b, &again); /* for another of its own it does not */
    assert_int_equal(b.last.refused.reason, ROUND_REASON_BUSY);
    struct msg wrong = make_hold(&b, 3);
    wrong.hold.taps[0].incarnation++;
    say(&b, &wrong); /* nor for one that it cannot take */
    assert_int_equal(b.last.refused.reason, ROUND_REASON_INCARNATION);
    assert_int_equal(member_state(b.member), MEMBER_RELEASED);
    struct msg group = make_hold(&b, 4);
    say(&b, &group);
    assert_int_equal(b.holds, DISKS);
    assert_int_equal(member_state(b.member), MEMBER_ORDERED);
    answer_sealed(&b, 0, 1, ROUND_OUTCOME_HELD); /* of the one that gave way */
    assert_false(b.sent);
    assert_int_equal(b.attests, 0);
    answer_held(&b, 0, 4);
    answer_held(&b, 1, 4);
    assert_int_equal(b.last.type, MSG_HELD);
    assert_int_equal(b.to, 0);
    release.head = group.head;
    release.release.round = make_id(4);
    say(&b, &release);
    struct msg other = make_hold(&b, 5); /* one of the group does not give way to another */
    say(&b, &other);
    assert_int_equal(b.last.refused.reason, ROUND_REASON_BUSY);
    close_bench(&b);
}

/* As the last member, which may not lead: its own rounds, and none of the group. */
static void alone_without_leave_to_lead(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    member_free(b.member);
    struct member_config config = {.incarnation = 9};
    assert_true(name_parse("mail", &config.name));
    b.member = member_new(&config);
    step(&b,
         (struct member_event){.type = MEMBER_DEFINITION, .definition = b.definition, .self = 3});
    struct msg msg = make_hold(&b, 1);
    msg.head.from = msg.head.to = b.definition->members[3].name;
    definition_set_member(b.definition, 3, &msg.hold.set);
    expect_refused(&b, &msg, ROUND_REASON_DISK_SET);
    msg.hold.round = make_id(2);
    msg.hold.scope = ROUND_SCOPE_MEMBER;
    set_init(&msg.hold.set, b.definition->disk_count);
    definition_set_member(b.definition, 3, &msg.hold.set);
    expect_refused(&b, &msg, ROUND_REASON_NOT_ATTACHED); /* no other fault than its taps */
    close_bench(&b);
}

/* The worst of its taps is what it says; and what is not sealed held is not attested. */
static void worst_outcome(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    say(&b, &msg);
    answer_held(&b, 0, 1);
    answer_held(&b, 1, 1);
    struct msg release = {.type = MSG_RELEASE, .head = msg.head};
    release.release.round = make_id(1);
    say(&b, &release);
    answer_sealed(&b, 0, 1, ROUND_OUTCOME_EXPIRED);
    answer_sealed(&b, 1, 1, ROUND_OUTCOME_HELD);
    assert_int_equal(b.last.sealed.outcome, ROUND_OUTCOME_EXPIRED);
    assert_int_equal(b.last.sealed.seals[1].outcome, ROUND_OUTCOME_HELD);
    assert_int_equal(b.attests, 0);
    close_bench(&b);
}

/* A tap that never reports: the member gives up, and is free again. */
static void gives_up(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    say(&b, &msg);
    answer_held(&b, 0, 1);
    b.now_us = member_wake_us(b.member);
    step(&b, (struct member_event){.type = MEMBER_TICK});
    assert_int_equal(b.last.refused.reason, ROUND_REASON_TIMEOUT);
    assert_int_equal(b.aborts, DISKS);
    answer_sealed(&b, 0, 1, ROUND_OUTCOME_ABORTED);
    assert_int_equal(member_state(b.member), MEMBER_LETTING_GO);
    b.now_us = member_wake_us(b.member);
    step(&b, (struct member_event){.type = MEMBER_TICK});
    assert_int_equal(member_state(b.member), MEMBER_IDLE);
    assert_int_equal(b.notes, 1);
    close_bench(&b);
}

static void definition_changes(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, true);
    struct msg msg = make_hold(&b, 1);
    say(&b, &msg);
    step(&b, (struct member_event){.type = MEMBER_DEFINITION});
    assert_int_equal(b.aborts, DISKS);
    assert_int_equal(b.last.refused.reason, ROUND_REASON_EPOCH);
    assert_int_equal(member_state(b.member), MEMBER_IDLE);
    struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
    assert_int_equal(member_taps(b.member, taps), 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons),         cmocka_unit_test(other_stream_is_not_attached),
        cmocka_unit_test(no_definition),   cmocka_unit_test(not_for_us),
        cmocka_unit_test(whole_round),     cmocka_unit_test(worst_outcome),
        cmocka_unit_test(gives_up),        cmocka_unit_test(definition_changes),
        cmocka_unit_test(alone),           cmocka_unit_test(alone_without_leave_to_lead),
        cmocka_unit_test(alone_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
