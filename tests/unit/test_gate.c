/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: each rule of the hold, and random orders of events against what must never happen. */
#include "common/core/prng.h"
#include "participant/core/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define INCARNATION 77
#define CAP_US      50000
#define HELD_MAX    1000

static struct gate gate;
static struct gate_out out;
static uint64_t now_us;

static int setup(void **state)
{
    (void)state;
    struct gate_config config = {.incarnation = INCARNATION,
                                 .next_lsn = 10,
                                 .cap_us = CAP_US,
                                 .held_max = HELD_MAX,
                                 .whole = true};
    gate_init(&gate, &config);
    now_us = 5000000;
    return 0;
}

static void step(struct gate_event event)
{
    event.now_us = now_us;
    gate_step(&gate, &event, &out);
}

static struct id round_id(uint8_t round)
{
    struct id id = {{0}};
    id.b[0] = round;
    return id;
}

static void hold_with(uint8_t round, uint32_t budget_us, uint64_t incarnation, bool unheld)
{
    struct tapctl_hold order = {
        .budget_us = budget_us, .incarnation = incarnation, .unheld = unheld};
    order.order.round = round_id(round);
    struct gate_event event = {.type = GATE_HOLD, .hold = &order, .log_ok = true};
    event.nonce.b[0] = (uint8_t)(round + 100);
    step(event);
}

static void hold(uint8_t round)
{
    hold_with(round, 40000, INCARNATION, false);
}

static void writes(uint64_t bytes)
{
    step((struct gate_event){.type = GATE_WRITE, .bytes = bytes});
}

static void release(uint8_t round)
{
    struct gate_event event = {.type = GATE_RELEASE, .round = round_id(round)};
    event.cut.b[0] = 0xcc;
    step(event);
}

static void simple(enum gate_event_type type, uint8_t round)
{
    step((struct gate_event){.type = type, .round = round_id(round)});
}

static void seal_it(void)
{
    simple(GATE_SEAL, 0);
    assert_true(out.lsn > 0);
    simple(GATE_SEAL_APPENDED, 0);
    assert_int_equal(gate.state, GATE_IDLE);
}

static void refused(enum round_reason reason)
{
    assert_true(out.refused);
    assert_false(out.held);
    assert_int_equal(out.lsn, 0);
    assert_int_equal(out.reason, reason);
}

static void a_held_round(void **state)
{
    (void)state;
    writes(100);
    assert_int_equal(out.ack, GATE_ACK_NOW);
    assert_int_equal(out.lsn, 10);
    hold(1);
    assert_true(out.held);
    assert_int_equal(out.lsn, 11);
    assert_int_equal(out.mark.lsn, 11);
    assert_int_equal(out.mark.incarnation, INCARNATION);
    assert_int_equal(out.mark.nonce.b[0], 101);
    assert_int_equal(out.budget_us, 40000);
    writes(100);
    assert_int_equal(out.ack, GATE_ACK_HOLD);
    assert_int_equal(out.lsn, 12);
    uint64_t ticket = out.ticket;
    assert_true(gate_holding(&gate, ticket));
    now_us += 1500;
    release(1);
    assert_true(out.let_go && out.seal_due);
    assert_false(gate_holding(&gate, ticket));
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_HELD);
    assert_int_equal(gate.seal.cut.b[0], 0xcc);
    assert_int_equal(gate.seal.hold_us, 1500);
    assert_int_equal(gate.seal.writes_held, 1);
    assert_int_equal(gate.seal.bytes_held, 100);
    writes(100); /* let go before the seal is in the log */
    assert_int_equal(out.ack, GATE_ACK_NOW);
    hold(2);
    refused(ROUND_REASON_BUSY); /* sealing */
    seal_it();
    simple(GATE_SEAL, 0);
    assert_int_equal(out.lsn, 0); /* one seal only */
    hold(1);
    refused(ROUND_REASON_ENDED);
    assert_int_equal(out.ended, ROUND_OUTCOME_HELD);
}

static void a_hold_heard_again_does_not_rearm(void **state)
{
    (void)state;
    hold(1);
    now_us += 39000;
    hold(1);
    assert_true(out.held);
    assert_int_equal(out.lsn, 0);
    assert_int_equal(out.mark.lsn, 10);
    assert_int_equal(out.mark.nonce.b[0], 101);
    now_us += 1000;
    simple(GATE_TICK, 0);
    assert_true(out.let_go);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_EXPIRED);
    hold(1); /* sealing: it has ended */
    refused(ROUND_REASON_ENDED);
    assert_int_equal(out.ended, ROUND_OUTCOME_EXPIRED);
}

static void release_at_the_deadline_is_too_late(void **state)
{
    (void)state;
    hold(1);
    now_us += 39999;
    simple(GATE_TICK, 0);
    assert_false(out.let_go);
    now_us += 1;
    release(1);
    assert_true(out.let_go);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_EXPIRED);
    assert_true(hash_is_zero(&gate.seal.cut));
}

static void a_write_at_the_deadline_is_not_held(void **state)
{
    (void)state;
    hold(1);
    now_us += 40000;
    writes(1);
    assert_true(out.let_go && out.seal_due);
    assert_int_equal(out.ack, GATE_ACK_NOW);
    assert_int_equal(gate.seal.writes_held, 0);
}

static void other_rounds_change_nothing(void **state)
{
    (void)state;
    release(1); /* idle */
    simple(GATE_ABORT, 1);
    assert_int_equal(gate.state, GATE_IDLE);
    hold(1);
    struct gate before = gate;
    release(2);
    assert_memory_equal(&before, &gate, sizeof gate);
    simple(GATE_ABORT, 2);
    assert_memory_equal(&before, &gate, sizeof gate);
    hold(2);
    refused(ROUND_REASON_BUSY);
    hold_with(1, 40000, INCARNATION + 1, false);
    refused(ROUND_REASON_INCARNATION);
    assert_memory_equal(&before, &gate, sizeof gate);
    simple(GATE_ABORT, 1);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_ABORTED);
    release(1); /* sealing already */
    assert_false(out.let_go);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_ABORTED);
    assert_true(hash_is_zero(&gate.seal.cut));
}

static void a_lost_controller_aborts(void **state)
{
    (void)state;
    simple(GATE_CONTROLLER_LOST, 0);
    assert_false(out.let_go);
    hold(1);
    simple(GATE_CONTROLLER_LOST, 0);
    assert_true(out.let_go && out.seal_due);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_ABORTED);
    simple(GATE_CONTROLLER_LOST, 0); /* the seal stays due */
    assert_int_equal(gate.state, GATE_SEALING);
    seal_it();
}

static void a_gap_ends_the_hold_and_all_later_ones(void **state)
{
    (void)state;
    hold(1);
    step((struct gate_event){.type = GATE_GAP, .log_ok = true});
    assert_true(out.let_go && out.seal_due);
    assert_int_equal(out.lsn, 11);
    assert_int_equal(gate.gap_lsn, 11);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_ABORTED);
    seal_it();
    now_us += 10000000;
    hold(2);
    refused(ROUND_REASON_NOT_WHOLE);
    writes(1); /* production goes on */
    assert_int_equal(out.ack, GATE_ACK_NOW);
}

static void whole(uint64_t begin_lsn)
{
    step((struct gate_event){.type = GATE_WHOLE, .begin_lsn = begin_lsn});
}

static void the_end_of_a_copy_makes_whole(void **state)
{
    (void)state;
    step((struct gate_event){.type = GATE_GAP, .log_ok = true});
    simple(GATE_APPEND, 0);
    uint64_t begin = out.lsn;
    writes(1);
    hold(1);
    refused(ROUND_REASON_NOT_WHOLE); /* under way is not enough */
    simple(GATE_APPEND, 0);
    whole(begin);
    assert_int_equal(out.lsn, 0);
    hold(2);
    assert_true(out.held);
    whole(begin); /* once more, in a hold, changes nothing */
    assert_int_equal(gate.state, GATE_HOLDING);
    release(2);
    seal_it();
}

/* A gap after its begin, recorded or not, makes the copy's end worthless. */
static void a_gap_ends_a_copy(void **state)
{
    (void)state;
    for (int logged = 0; logged < 2; logged++) {
        setup(NULL);
        step((struct gate_event){.type = GATE_GAP, .log_ok = true});
        simple(GATE_APPEND, 0);
        uint64_t begin = out.lsn;
        step((struct gate_event){.type = GATE_GAP, .log_ok = logged != 0});
        simple(GATE_APPEND, 0);
        uint64_t again = out.lsn;
        whole(begin);
        hold(1);
        refused(ROUND_REASON_NOT_WHOLE);
        whole(again);
        hold(2);
        assert_true(out.held);
        release(2);
        seal_it();
    }
}

static void a_given_up_seal_is_never_appended(void **state)
{
    (void)state;
    hold(1);
    release(1);
    step((struct gate_event){.type = GATE_GAP, .log_ok = false});
    assert_true(out.given_up);
    assert_int_equal(out.lsn, 0);
    assert_int_equal(gate.state, GATE_IDLE);
    simple(GATE_SEAL, 0);
    assert_int_equal(out.lsn, 0);
    simple(GATE_SEAL_APPENDED, 0); /* of the one given up: changes nothing */
    assert_int_equal(gate.state, GATE_IDLE);
    setup(NULL);
    hold(1);
    release(1);
    simple(GATE_SEAL, 0);
    assert_true(out.lsn > 0);
    simple(GATE_SEAL_FAILED, 0);
    assert_true(out.given_up);
    simple(GATE_SEAL, 0);
    assert_int_equal(out.lsn, 0);
}

static void a_failed_bookmark_lets_go_and_is_not_sealed(void **state)
{
    (void)state;
    hold(1);
    writes(1);
    simple(GATE_BOOKMARK_FAILED, 0);
    assert_true(out.let_go);
    assert_false(out.seal_due);
    assert_int_equal(gate.state, GATE_IDLE);
    hold(1);
    refused(ROUND_REASON_ENDED);
    assert_int_equal(out.ended, ROUND_OUTCOME_ABORTED);
}

static void the_budget_is_the_least_of_three(void **state)
{
    (void)state;
    hold_with(1, 4999, INCARNATION, false);
    refused(ROUND_REASON_DUTY);
    hold_with(1, 5000, INCARNATION, false);
    assert_int_equal(out.budget_us, 5000);
    simple(GATE_ABORT, 1);
    seal_it();
    now_us += 2000000;
    hold_with(2, UINT32_MAX, INCARNATION, false);
    assert_int_equal(out.budget_us, CAP_US);
    struct gate_event no_log = {.type = GATE_HOLD};
    struct tapctl_hold order = {.budget_us = 40000, .incarnation = INCARNATION};
    setup(NULL);
    no_log.hold = &order;
    step(no_log);
    refused(ROUND_REASON_LOG);
}

/* A tap that starts again does not know what the one before it held. */
static void begins_where_another_was(void **state)
{
    (void)state;
    struct gate_config config = {.incarnation = INCARNATION,
                                 .next_lsn = 10,
                                 .cap_us = CAP_US,
                                 .held_max = HELD_MAX,
                                 .whole = true,
                                 .held_before = true,
                                 .now_us = now_us};
    gate_init(&gate, &config);
    hold(1);
    refused(ROUND_REASON_DUTY);
    writes(100);
    assert_int_equal(out.ack, GATE_ACK_NOW); /* it refuses holds, it is in none */
    now_us += TIDE_GATE_DUTY_WINDOW_US - 1;
    hold(1);
    refused(ROUND_REASON_DUTY);
    now_us += 1;
    hold(1);
    assert_true(out.held);
    assert_int_equal(out.budget_us, 40000);
}

static void the_duty_limit(void **state)
{
    (void)state;
    hold(1);
    now_us += 40000;
    simple(GATE_TICK, 0);
    seal_it();
    now_us += 99999;
    hold(2);
    refused(ROUND_REASON_DUTY); /* within the pause */
    now_us += 1;
    hold(2);
    assert_true(out.held);
    now_us += 40000;
    simple(GATE_TICK, 0);
    seal_it();
    now_us += 100000;
    hold(3);
    assert_int_equal(out.budget_us, 20000); /* 80 of 100 ms are gone */
    now_us += 20000;
    simple(GATE_TICK, 0);
    seal_it();
    now_us += 100000;
    hold(4);
    refused(ROUND_REASON_DUTY);
    now_us += 639999; /* the first hold's last microsecond is still within the second */
    hold(4);
    refused(ROUND_REASON_DUTY);
    now_us += 1;
    hold(4);
    assert_int_equal(out.budget_us, 40000);
}

static void held_bytes_are_bounded(void **state)
{
    (void)state;
    hold(1);
    writes(600);
    assert_int_equal(out.ack, GATE_ACK_HOLD);
    writes(401);
    assert_int_equal(out.ack, GATE_ACK_ENTRY);
    assert_int_equal(out.lsn, 0);
    assert_true(gate_holding(&gate, out.ticket));
    writes(UINT64_MAX);
    assert_int_equal(out.ack, GATE_ACK_ENTRY);
    writes(400);
    assert_int_equal(out.ack, GATE_ACK_HOLD);
    release(1);
    writes(401);
    assert_int_equal(out.ack, GATE_ACK_NOW);
}

static void without_the_hold(void **state)
{
    (void)state;
    hold_with(1, 40000, INCARNATION, true);
    assert_true(out.held);
    writes(UINT64_MAX);
    assert_int_equal(out.ack, GATE_ACK_NOW);
    release(1);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_UNHELD);
    assert_int_equal(gate.seal.cut.b[0], 0xcc);
    assert_int_equal(gate.seal.writes_held, 0);
    seal_it();
    now_us += 200000;
    hold_with(2, 40000, INCARNATION, true);
    now_us += 40000;
    release(2);
    assert_int_equal(gate.seal.outcome, ROUND_OUTCOME_EXPIRED);
}

static void sixteen_rounds_are_remembered(void **state)
{
    (void)state;
    for (uint8_t round = 1; round <= TIDE_GATE_ENDED_MAX; round++) {
        hold(round);
        assert_true(out.held);
        release(round);
        seal_it();
        now_us += 2000000;
    }
    for (uint8_t round = 1; round <= TIDE_GATE_ENDED_MAX; round++) {
        hold(round);
        refused(ROUND_REASON_ENDED);
    }
}

static void time_does_not_run_back(void **state)
{
    (void)state;
    hold(1);
    now_us -= 1000000;
    simple(GATE_TICK, 0);
    assert_false(out.let_go);
    release(1);
    assert_int_equal(gate.seal.hold_us, 0);
}

/* What an onlooker counts for himself, whatever the order of events. */
struct onlooker {
    uint64_t lsn;       /* due */
    uint64_t held_from; /* 0: not held */
    uint64_t gap_lsn;   /* due at the last gap; 0: whole, or none yet */
    uint64_t begin_lsn; /* of the last record that a copy could begin with */
    uint64_t ends[64][2];
    unsigned count;
};

static void look(struct onlooker *o, uint64_t held_before)
{
    if (out.lsn != 0) {
        assert_int_equal(out.lsn, o->lsn);
        o->lsn++;
    }
    if (out.let_go) {
        assert_true(held_before != 0);
        assert_true(gate.last_us - held_before <= CAP_US + 3000); /* a tick each 3 ms at most */
        o->ends[o->count % 64][0] = held_before;
        o->ends[o->count % 64][1] = gate.last_us;
        o->count++;
        o->held_from = 0;
    }
    if (out.held && out.lsn != 0) {
        assert_int_equal(o->gap_lsn, 0);
        o->held_from = gate.last_us;
    }
    if (out.ack == GATE_ACK_NOW) {
        assert_true(o->held_from == 0 || gate.unheld);
    }
    if (out.ack == GATE_ACK_HOLD || out.ack == GATE_ACK_ENTRY) {
        assert_true(o->held_from != 0);
    }
    /* Any second ending now: held at most the duty, but for the lateness of ticks. */
    uint64_t held = o->held_from != 0 ? gate.last_us - o->held_from : 0;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t since = gate.last_us - TIDE_GATE_DUTY_WINDOW_US;
        if (o->ends[i][1] > since) {
            uint64_t from = o->ends[i][0] > since ? o->ends[i][0] : since;
            held += o->ends[i][1] - from;
        }
    }
    assert_true(held <= TIDE_GATE_DUTY_US + 3000);
}

static void random_orders_of_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct prng prng;
        struct onlooker o = {.lsn = 10};
        prng_init(&prng, seed);
        setup(NULL);
        for (unsigned n = 0; n < 2000; n++) {
            uint8_t round = (uint8_t)(1 + n / 40 % 200 + prng_below(&prng, 2));
            uint64_t held_before = o.held_from;
            now_us += prng_below(&prng, 3000);
            switch (prng_below(&prng, 12)) {
            case 0:
                hold_with(round, (uint32_t)prng_below(&prng, 90000), INCARNATION,
                          prng_below(&prng, 8) == 0);
                break;
            case 1:
                release(round);
                break;
            case 2:
                simple(GATE_ABORT, round);
                break;
            case 3:
                simple(prng_below(&prng, 4) == 0 ? GATE_CONTROLLER_LOST : GATE_TICK, 0);
                break;
            case 4:
                simple(GATE_SEAL, 0);
                break;
            case 5:
                simple(prng_below(&prng, 8) == 0 ? GATE_SEAL_FAILED : GATE_SEAL_APPENDED, 0);
                break;
            case 6:
                if (prng_below(&prng, 60) == 0) {
                    o.gap_lsn = o.lsn;
                    step(
                        (struct gate_event){.type = GATE_GAP, .log_ok = prng_below(&prng, 2) == 0});
                    break;
                }
                if (prng_below(&prng, 4) == 0 && o.begin_lsn != 0) {
                    o.gap_lsn = o.begin_lsn >= o.gap_lsn ? 0 : o.gap_lsn;
                    whole(o.begin_lsn);
                    break;
                }
                o.begin_lsn = o.lsn;
                simple(GATE_APPEND, 0);
                break;
            default:
                writes(prng_below(&prng, 400));
                break;
            }
            look(&o, held_before);
        }
        assert_true(o.count > 0);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        CASE(a_held_round),
        CASE(a_hold_heard_again_does_not_rearm),
        CASE(release_at_the_deadline_is_too_late),
        CASE(a_write_at_the_deadline_is_not_held),
        CASE(other_rounds_change_nothing),
        CASE(a_lost_controller_aborts),
        CASE(a_gap_ends_the_hold_and_all_later_ones),
        CASE(the_end_of_a_copy_makes_whole),
        CASE(a_gap_ends_a_copy),
        CASE(a_given_up_seal_is_never_appended),
        CASE(a_failed_bookmark_lets_go_and_is_not_sealed),
        CASE(the_budget_is_the_least_of_three),
        CASE(the_duty_limit),
        CASE(begins_where_another_was),
        CASE(held_bytes_are_bounded),
        CASE(without_the_hold),
        CASE(sixteen_rounds_are_remembered),
        CASE(time_does_not_run_back),
        CASE(random_orders_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
