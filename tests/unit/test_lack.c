/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that lack a member, or have a slow one, in the round lab: who goes on alone, who is left
 * out, that the group's rounds come back unspoilt; and the hold as a promise: who is named, what is
 * tried again, how the interval grows. */
#include "participant/core/leader.h"
#include "tests/lib/roundlab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000U
#define WEB    0U
#define DB     1U
#define APP    2U

static struct roundlab_config every_second(unsigned members)
{
    struct roundlab_config config = {.members = members, .seed = 7, .latency_us = 500};
    policy_init(&config.policy);
    config.policy.interval_ms = 1000;
    return config;
}

static unsigned said(struct roundlab *lab, const char *what)
{
    unsigned times = 0;
    for (const char *at = roundlab_text(lab); (at = strstr(at, what)) != NULL; at++) {
        times++;
    }
    return times;
}

static void says(struct roundlab *lab, const char *what)
{
    if (said(lab, what) == 0) {
        fail_msg("\"%s\" was not said in:\n%s", what, roundlab_text(lab));
    }
}

static void says_not(struct roundlab *lab, const char *what)
{
    if (said(lab, what) != 0) {
        fail_msg("\"%s\" was said in:\n%s", what, roundlab_text(lab));
    }
}

/* ---- a member that is missing ---- */

/* Each VM goes on at the group's interval, also one that reaches nobody and may not lead; and the
 * group's rounds come back at once, none of them spoilt by a single VM's. */
static void each_goes_on_alone(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(5);
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2500000);
    unsigned before = roundlab_judge(lab).full;
    for (unsigned m = 0; m < 3; m++) {
        roundlab_link(lab, m, 4, false); /* log is cut off from everyone */
    }
    roundlab_tap_gap(lab, 3, 0); /* and mail has a disk that is not whole */
    roundlab_run(lab, 12500000);
    says(lab, "web      > the group lacks not-whole at mail: it goes on alone");
    says(lab, "mail     > the group lacks not-whole at mail\n"); /* not it: it is not well */
    says(lab, "log      > the group lacks no-leader: it goes on alone");
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_int_equal(verdict.full, before);
    assert_int_equal(verdict.points, verdict.full);
    assert_in_range(verdict.single, 4 * 8, 4 * 10);
    roundlab_tap_copy(lab, 3, 0);
    for (unsigned m = 0; m < 3; m++) {
        roundlab_link(lab, m, 4, true);
    }
    roundlab_run(lab, 13500000);
    says(lab, "log      > the group lacks nothing");
    verdict = roundlab_judge(lab);
    assert_true(verdict.full > before);
    unsigned single = verdict.single;
    roundlab_run(lab, 20 * SECOND);
    verdict = roundlab_judge(lab);
    assert_true(verdict.full >= before + 7);
    assert_int_equal(verdict.single, single);
    assert_int_equal(verdict.torn, 0);
    says_not(lab, "REFUSED");
    says_not(lab, "failed");
    roundlab_free(lab);
}

/* With the policy partial nobody goes on alone: those who are there have points. */
static void partial_never_alone(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(3);
    config.policy.missing = POLICY_MISSING_PARTIAL;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 4500000);
    roundlab_stop(lab, APP);
    roundlab_run(lab, 15 * SECOND);
    says(lab, "web      > the group lacks missing at app\n");
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_int_equal(verdict.single, 0);
    assert_true(verdict.points - verdict.full >= 7);
    roundlab_free(lab);
}

/* An alarm is given once, and not for what is over within a second: a tap that is upgraded. */
static void short_lack_is_none(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(3);
    config.policy.interval_ms = 20000;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    roundlab_tap_stop(lab, DB, 0);
    roundlab_run(lab, 2 * SECOND + 900000);
    roundlab_tap_start(lab, DB, 0);
    roundlab_run(lab, 6 * SECOND);
    says_not(lab, "lacks");
    roundlab_tap_stop(lab, DB, 0);
    roundlab_run(lab, 12 * SECOND);
    roundlab_tap_start(lab, DB, 0);
    roundlab_run(lab, 14 * SECOND);
    says(lab, "web      > the group lacks not-attached at db: it goes on alone");
    assert_int_equal(said(lab, "web      > the group lacks"), 2); /* and its end */
    assert_int_equal(said(lab, "sealed by all of 3 (full)"), 2);  /* soon, not 20 s later */
    roundlab_free(lab);
}

/* A failing image: its disk is not whole, is mended, fails again, five times a second. Each
 * interval has a round, or says why not; nobody goes alone. */
static void comes_and_goes(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(3);
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2500000);
    unsigned before = roundlab_judge(lab).full;
    for (unsigned k = 0; k < 50; k++) {
        roundlab_tap_gap(lab, WEB, 0);
        roundlab_run(lab, 2500000 + k * 200000 + 170000);
        roundlab_tap_copy(lab, WEB, 0);
        roundlab_run(lab, 2500000 + (k + 1) * 200000);
    }
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_int_equal(verdict.single, 0);
    assert_true(verdict.full - before + said(lab, "not-whole at web") >= 9);
    assert_true(said(lab, "not-whole at web") > 0);
    roundlab_free(lab);
}

/* db is busy when the first round after the lack comes. */
static void busy_once(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                      struct roundlab_fate *fate, void *context)
{
    unsigned *left = context;
    if (*left == 0 || to != DB || msg->type != MSG_HOLD || roundlab_now(lab) < 6 * SECOND) {
        return;
    }
    struct msg refused = {.type = MSG_REFUSED};
    refused.refused.round = msg->hold.round;
    refused.refused.reason = ROUND_REASON_BUSY;
    (*left)--;
    fate->drop = true;
    roundlab_inject(lab, to, from, &refused);
}

/* BUSY by another leader's round is not tried again; by a single VM's, shortly after the lack, it
 * is. */
static void busy_after_a_lack_is_retried(void **state)
{
    (void)state;
    unsigned left = 1;
    struct roundlab_config config = every_second(3);
    config.policy.interval_ms = 20000;
    config.retries = 2;
    config.fate = busy_once;
    config.context = &left;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    roundlab_tap_stop(lab, APP, 0);
    roundlab_run(lab, 6 * SECOND);
    roundlab_tap_start(lab, APP, 0);
    roundlab_run(lab, 9 * SECOND);
    assert_int_equal(said(lab, "failed: busy at db"), 1);
    assert_int_equal(said(lab, "web      > round r1 is sealed by all of 3 (full)"), 1);
    assert_int_equal(said(lab, "sealed by all of 3 (full)"), 2);
    roundlab_free(lab);
}

/* What failed by bad luck is tried again half a second later, also alone. */
static void failed_alone_is_retried(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(3);
    config.policy.interval_ms = 20000;
    config.retries = 2;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND / 2);
    roundlab_stop(lab, APP);
    roundlab_run(lab, 3 * SECOND / 2 + 60); /* web holds alone */
    struct msg msg = {.type = MSG_ABORT};
    msg.abort.round = roundlab_last_round(lab);
    msg.abort.reason = ROUND_REASON_ABORTED;
    roundlab_inject(lab, WEB, WEB, &msg);
    roundlab_run(lab, 10 * SECOND);
    assert_int_equal(said(lab, "web      > round r1 failed"), 1);
    assert_int_equal(said(lab, "web/data > bookmark"), 2);
    says(lab, "web      > round r3 is sealed by all of 1 (single VM)"); /* db has taken r2 */
    roundlab_free(lab);
}

/* A leader dies; the group lacks it under the next one, and nobody says "nothing" in between. */
static void lack_goes_on_under_another_leader(void **state)
{
    (void)state;
    struct roundlab_config config = every_second(4);
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2500000);
    roundlab_stop(lab, 3);
    roundlab_run(lab, 6500000);
    roundlab_stop(lab, WEB);
    roundlab_run(lab, 12500000);
    says(lab, "app      > the group lacks missing at web: it goes on alone");
    says_not(lab, "lacks nothing");
    roundlab_free(lab);
}

/* ---- a member that is slow ---- */

struct slow { /* messages to and from that member come later */
    unsigned member;
    uint64_t us;
};

static void delay(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                  struct roundlab_fate *fate, void *context)
{
    const struct slow *slow = context;
    (void)lab;
    (void)msg;
    fate->delay_us = from == slow->member || to == slow->member ? slow->us : 0;
}

static struct roundlab *with_slow(struct slow *slow, enum policy_missing missing)
{
    struct roundlab_config config = every_second(4);
    config.policy.missing = missing;
    config.fate = delay;
    config.context = slow;
    return roundlab_new(&config);
}

/* Two rounds show it; then it is named, with the figures, and nobody is held for it but in a trial
 * ever more seldom. Back in time, one trial is enough. */
static void slow_one_is_named(void **state)
{
    (void)state;
    struct slow slow = {.member = APP};
    struct roundlab *lab = with_slow(&slow, POLICY_MISSING_STRICT);
    roundlab_run(lab, 5500000);
    says_not(lab, "failed");
    slow.us = 30000; /* there, and back */
    roundlab_run(lab, 35500000);
    assert_in_range(said(lab, "failed: timeout at app"), 2 + 2, 2 + 3); /* and trials */
    assert_int_equal(said(lab, "failed"), said(lab, "failed: timeout at app"));
    says(lab,
         "takes no round: slow at app: a HOLD is answered after 50.1 ms or later (second longest "
         "of its last 7 answers), and letting go takes 0.0 ms more: over the budget of 50.0 ms");
    says(lab, "mail     > the group lacks slow at app: it goes on alone");
    says(lab, "app      > the group lacks slow at app: it goes on alone");
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_true(verdict.single > 4 * 20);
    unsigned before = verdict.full;
    slow.us = 0;
    roundlab_run(lab, 48500000);
    says(lab, "web      > the group lacks nothing");
    verdict = roundlab_judge(lab);
    assert_true(verdict.full >= before + 2);
    assert_int_equal(verdict.over_budget, 0);
    assert_int_equal(verdict.torn, 0);
    says_not(lab, "REFUSED");
    roundlab_free(lab);
}

/* The taps' own cap is shorter than the group's budget: they let go first, and who is to blame is
 * not who says so, but who was still waited for. */
static void slow_beyond_the_taps_cap(void **state)
{
    (void)state;
    struct slow slow = {.member = APP};
    struct roundlab_config config = every_second(4);
    config.policy.hold_us_max = 80000; /* the lab's taps: 50 ms */
    config.fate = delay;
    config.context = &slow;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 5500000);
    slow.us = 60000;
    roundlab_run(lab, 8800000);
    assert_int_equal(said(lab, "failed: expired at web"), 2);
    assert_int_equal(said(lab, "failed"), 2);
    says(lab, "web      > takes no round: slow at app");
    says_not(lab, "slow at web");
    roundlab_run(lab, 90 * SECOND);
    assert_in_range(said(lab, "failed: expired at web"), 8,
                    9);          /* trials: after 2 s, 4, 8, 16, ... */
    says_not(lab, "follows db"); /* nobody yields for it */
    roundlab_free(lab);
}

/* Partial: it is left out, and the others have a point each interval. */
static void slow_one_is_left_out(void **state)
{
    (void)state;
    struct slow slow = {.member = APP};
    struct roundlab *lab = with_slow(&slow, POLICY_MISSING_PARTIAL);
    roundlab_run(lab, 5500000);
    slow.us = 30000;
    roundlab_run(lab, 35500000);
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_in_range(said(lab, "failed: timeout at app"), 4, 5);
    assert_true(verdict.points - verdict.full >= 24);
    assert_int_equal(verdict.single, 0);
    says(lab, "sealed by all of 3 (partial)");
    roundlab_free(lab);
}

/* A link that swallows everything shows as late answers first; once it is known to be dead, and
 * back, its member is not tried but asked. */
static void not_there_is_not_slow(void **state)
{
    (void)state;
    struct slow slow = {.member = DB};
    struct roundlab_config config = every_second(2); /* nobody else leads for a moment */
    config.fate = delay;
    config.context = &slow;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 5500000);
    slow.us = 30000;
    roundlab_run(lab, 23500000); /* the next trial is 16 s after the one at 21 s */
    says(lab, "web      > takes no round: slow at db");
    roundlab_link(lab, WEB, DB, false);
    roundlab_run(lab, 25500000);
    says(lab, "web      > the group lacks missing at db: it goes on alone");
    slow.us = 0;
    roundlab_link(lab, WEB, DB, true);
    roundlab_run(lab, 27 * SECOND);
    says(lab, "web      > the group lacks nothing");
    unsigned before = roundlab_judge(lab).full;
    roundlab_run(lab, 31 * SECOND);
    assert_true(roundlab_judge(lab).full >= before + 3);
    roundlab_free(lab);
}

/* What somebody asks for is tried with it all the same, and answered; single VMs make room. */
static void asked_for_with_a_slow_one(void **state)
{
    (void)state;
    struct slow slow = {.member = APP};
    struct roundlab *lab = with_slow(&slow, POLICY_MISSING_STRICT);
    roundlab_run(lab, 5500000);
    slow.us = 30000;
    roundlab_run(lab, 12500000);
    unsigned failed = said(lab, "failed: timeout at app");
    roundlab_take(lab, WEB, ROUND_KIND_CRASH);
    roundlab_run(lab, 13500000);
    assert_int_equal(said(lab, "failed: timeout at app"), failed + 1);
    says(lab, "its request is answered: it did not hold within the budget");
    slow.us = 0;
    roundlab_take(lab, WEB, ROUND_KIND_CRASH);
    roundlab_run(lab, 14500000);
    says(lab, "its request is answered: sealed");
    says_not(lab, "REFUSED");
    roundlab_free(lab);
}

/* Not slow, only slower than others: nothing is refused. */
static void within_the_budget_is_not_slow(void **state)
{
    (void)state;
    struct slow slow = {.member = APP, .us = 20000};
    struct roundlab *lab = with_slow(&slow, POLICY_MISSING_STRICT);
    roundlab_run(lab, 30 * SECOND);
    says_not(lab, "failed");
    says_not(lab, "slow at");
    assert_true(roundlab_judge(lab).full >= 20); /* the interval grows: they hold for 41 ms each */
    roundlab_free(lab);
}

/* ---- holds that use up what they may ---- */

static void interval_grows(void **state)
{
    (void)state;
    struct slow slow = {.member = APP, .us = 20000}; /* 41 ms each second would be 2.5 s a minute */
    struct roundlab *lab = with_slow(&slow, POLICY_MISSING_STRICT);
    roundlab_run(lab, 240 * SECOND);
    unsigned sealed = said(lab, "sealed by all of 4 (full)");
    unsigned early = said(lab, "this round is skipped");
    roundlab_run(lab, 360 * SECOND);
    unsigned later = said(lab, "sealed by all of 4 (full)") - sealed;
    assert_in_range(later, 60, 73); /* in two minutes: nearly all that the limit leaves */
    assert_int_equal(said(lab, "this round is skipped"), early);
    slow.us = 0;
    roundlab_run(lab, 420 * SECOND);
    sealed = said(lab, "sealed by all of 4 (full)");
    roundlab_run(lab, 480 * SECOND);
    assert_in_range(said(lab, "sealed by all of 4 (full)") - sealed, 59,
                    61); /* each second again */
    roundlab_free(lab);
}

/* ---- one leader machine by itself: db, of three, with one link ---- */

struct bench {
    struct leader *leader;
    uint64_t now_us;
    unsigned lacks; /* given out */
    struct leader_lack last;
    unsigned holds;       /* HOLD messages */
    struct msg_hold hold; /* the last one */
};

static void put(void *context, const struct leader_effect *effect)
{
    struct bench *b = context;
    if (effect->type == LEADER_LACK) {
        b->lacks++;
        b->last = *effect->lack;
    } else if (effect->type == LEADER_SEND && effect->msg->type == MSG_HOLD) {
        b->holds++;
        b->hold = effect->msg->hold;
    }
}

static void step(struct bench *b, struct leader_event event)
{
    const struct leader_outbox outbox = {.put = put, .context = b};
    event.now_us = b->now_us;
    leader_step(b->leader, &event, &outbox);
}

/* Ticks as the machine wants them, up to that time. */
static void pass(struct bench *b, uint64_t until_us)
{
    while (leader_wake_us(b->leader) <= until_us) {
        uint64_t wake_us = leader_wake_us(b->leader);
        b->now_us = wake_us > b->now_us ? wake_us : b->now_us;
        step(b, (struct leader_event){.type = LEADER_TICK, .random = {{1}}});
    }
    b->now_us = until_us;
}

static struct definition *define(uint64_t epoch)
{
    struct definition *d = malloc(sizeof *d);
    struct name name;
    struct id group = {{7}};
    struct err err;
    assert_true(name_parse("shop", &name));
    definition_init(d, &group, &name, epoch);
    d->epoch.hash.b[0] = (uint8_t)epoch;
    static const char *const names[] = {"web", "db", "app"};
    for (unsigned m = 0; m < 3; m++) {
        struct definition_member member = {.identity = "spiffe://x/participant/y",
                                           .address = "127.0.0.1:1"};
        struct definition_disk disk = {.stream = {{(uint8_t)(m + 1)}},
                                       .timeline = {{9}},
                                       .disk = {{(uint8_t)(m + 11)}},
                                       .size = 4096,
                                       .block_size = 512};
        assert_true(name_parse(names[m], &member.name));
        assert_true(name_parse("data", &disk.name));
        assert_int_equal(definition_add_member(d, &member, &err), 0);
        assert_int_equal(definition_add_disk(d, &disk, &err), 0);
    }
    return d;
}

static void open_bench(struct bench *b, const struct definition *definition)
{
    struct leader_config config = {.incarnation = 5};
    *b = (struct bench){.now_us = 1};
    assert_true(name_parse("db", &config.name));
    b->leader = leader_new(&config);
    step(b, (struct leader_event){.type = LEADER_DEFINITION, .definition = definition, .self = 1});
}

static void hear(struct bench *b, const struct definition *d, unsigned from)
{
    static struct msg msg;
    msg = (struct msg){.type = MSG_HEARTBEAT};
    msg.head.group = d->group;
    msg.head.from = d->members[from].name;
    msg.head.to = d->members[1].name;
    msg.head.epoch = d->epoch;
    msg.head.incarnation = 7;
    msg.heartbeat.reach = 1;
    msg.heartbeat.sequence = b->now_us;
    msg.heartbeat.tap_count = 1;
    msg.heartbeat.taps[0] =
        (struct msg_tap){.stream = d->disks[from].stream, .incarnation = 3, .whole = true};
    step(b, (struct leader_event){.type = LEADER_MESSAGE, .msg = &msg});
}

/* Its own round whose seals a slow disk does not sync is not waited for by the group's. */
static void slow_seals_alone(void **state)
{
    (void)state;
    struct bench b;
    struct definition *d = define(1);
    open_bench(&b, d);
    struct msg_tap tap = {.stream = d->disks[1].stream, .incarnation = 9, .whole = true};
    step(&b, (struct leader_event){.type = LEADER_TAPS, .taps = &tap, .tap_count = 1});
    for (unsigned i = 0; i < 2000 && b.holds == 0; i++) {
        pass(&b, b.now_us + 1000);
    }
    assert_true(b.last.alone);
    assert_int_equal(b.holds, 1);
    assert_int_equal(b.hold.scope, ROUND_SCOPE_MEMBER);
    static struct msg held;
    held = (struct msg){.type = MSG_HELD};
    held.head.group = d->group;
    held.head.from = held.head.to = d->members[1].name;
    held.head.epoch = d->epoch;
    held.held.round = b.hold.round;
    held.held.mark_count = 1;
    held.held.marks[0] = (struct round_mark){tap.stream, 9, 2, {{5}}};
    step(&b, (struct leader_event){.type = LEADER_MESSAGE, .msg = &held});
    for (unsigned m = 0; m < 3; m += 2) {
        step(&b, (struct leader_event){.type = LEADER_LINK, .peer = m, .up = true});
        hear(&b, d, m);
    }
    assert_int_equal(b.last.reason, ROUND_REASON_NONE);
    uint64_t back_us = b.now_us;
    pass(&b, back_us + TIDE_LEADER_QUIET_US - 1000);
    assert_int_equal(b.holds, 1);
    pass(&b, back_us + TIDE_LEADER_RETURN_US + 1000);
    assert_int_equal(b.holds, 1 + 3); /* long before its seals' two seconds are over */
    assert_int_equal(b.hold.scope, ROUND_SCOPE_GROUP);
    leader_free(b.leader);
    free(d);
}

/* Another definition does not end an alarm whose reason goes on; none at all does. */
static void alarm_outlives_a_definition(void **state)
{
    (void)state;
    struct bench b;
    struct definition *one = define(1);
    struct definition *two = define(2);
    open_bench(&b, one);
    pass(&b, 900000);
    assert_int_equal(b.lacks, 0);
    pass(&b, 1500000);
    assert_int_equal(b.lacks, 1);
    assert_int_equal(b.last.reason, ROUND_REASON_MISSING);
    assert_string_equal(b.last.member.s, "web");
    assert_false(b.last.alone); /* its own tap is not there */
    step(&b, (struct leader_event){.type = LEADER_DEFINITION, .definition = two, .self = 1});
    pass(&b, 5000000);
    assert_int_equal(b.lacks, 1);
    assert_int_equal(leader_lack(b.leader).reason, ROUND_REASON_MISSING);
    step(&b, (struct leader_event){.type = LEADER_DEFINITION});
    assert_int_equal(leader_lack(b.leader).reason, ROUND_REASON_NONE);
    leader_free(b.leader);
    free(one);
    free(two);
}

/* Holds of rounds that another leads are counted too; what did not answer is not. */
static void told_holds_are_counted(void **state)
{
    (void)state;
    struct bench b;
    struct definition *d = define(1);
    open_bench(&b, d);
    step(&b, (struct leader_event){.type = LEADER_LINK, .peer = 0, .up = true});
    static struct msg msg;
    msg = (struct msg){.type = MSG_SUM};
    msg.head.group = d->group;
    msg.head.from = d->members[0].name;
    msg.head.to = d->members[1].name;
    msg.head.epoch = d->epoch;
    msg.sum.round.b[0] = 1;
    msg.sum.member_count = 2;
    msg.sum.members[0] = (struct msg_member_sum){
        .member = d->members[0].name, .hold_us_max = 1000, .outcome = ROUND_OUTCOME_HELD};
    msg.sum.members[1] = (struct msg_member_sum){.member = d->members[2].name};
    for (unsigned i = 0; i < 3; i++) {
        step(&b, (struct leader_event){.type = LEADER_MESSAGE, .msg = &msg});
    }
    assert_int_equal(leader_holds(b.leader, 0).holds.count, 3);
    assert_in_range(leader_holds(b.leader, 0).holds.p99_us, 1000, 1125);
    assert_int_equal(leader_holds(b.leader, 0).holds.max_us, 1000);
    assert_int_equal(leader_holds(b.leader, 2).holds.count, 0);
    assert_int_equal(leader_holds(b.leader, 0).answers, 0); /* those the leader alone knows */
    assert_int_equal(leader_share(b.leader).held_us, 3 * TIDE_HOLD_US); /* not sealed by all */
    leader_free(b.leader);
    free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_goes_on_alone),
        cmocka_unit_test(partial_never_alone),
        cmocka_unit_test(short_lack_is_none),
        cmocka_unit_test(comes_and_goes),
        cmocka_unit_test(busy_after_a_lack_is_retried),
        cmocka_unit_test(failed_alone_is_retried),
        cmocka_unit_test(lack_goes_on_under_another_leader),
        cmocka_unit_test(slow_one_is_named),
        cmocka_unit_test(slow_beyond_the_taps_cap),
        cmocka_unit_test(slow_one_is_left_out),
        cmocka_unit_test(not_there_is_not_slow),
        cmocka_unit_test(asked_for_with_a_slow_one),
        cmocka_unit_test(within_the_budget_is_not_slow),
        cmocka_unit_test(interval_grows),
        cmocka_unit_test(slow_seals_alone),
        cmocka_unit_test(alarm_outlives_a_definition),
        cmocka_unit_test(told_holds_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
