/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/gate.h"

#include "common/core/check.h"
#include "common/core/planted.h"

#include <string.h>

static const bool allowed[3][3] = {
    [GATE_IDLE] = {[GATE_IDLE] = true, [GATE_HOLDING] = true},
    [GATE_HOLDING] = {[GATE_HOLDING] = true, [GATE_SEALING] = true, [GATE_IDLE] = true},
    [GATE_SEALING] = {[GATE_SEALING] = true, [GATE_IDLE] = true},
};

static void move(struct gate *g, enum gate_state to)
{
    TIDE_CHECK(allowed[g->state][to]);
    g->state = to;
}

/* When a hold that began then ends by itself. */
static uint64_t deadline_of(uint64_t start_us, uint32_t budget_us)
{
    return start_us + (PLANTED(BUDGET_TENFOLD) ? 10U : 1U) * (uint64_t)budget_us;
}

static void check_invariants(const struct gate *g)
{
    TIDE_CHECK(g->next_lsn > 0);
    TIDE_CHECK(g->incarnation != 0);
    if (g->state == GATE_IDLE) {
        TIDE_CHECK(g->seal_lsn == 0);
        return;
    }
    TIDE_CHECK(g->ticket > 0);
    TIDE_CHECK(g->mark.lsn > 0 && g->mark.lsn < g->next_lsn);
    TIDE_CHECK(g->seal.bookmark_lsn == g->mark.lsn);
    TIDE_CHECK(g->seal.bytes_held <= g->held_max);
    if (g->state == GATE_HOLDING) {
        TIDE_CHECK(g->whole || PLANTED_EITHER(TAKERS_WHOLE, WHOLE_IGNORED));
        TIDE_CHECK(g->seal_lsn == 0);
        TIDE_CHECK(g->deadline_us == deadline_of(g->start_us, g->budget_us));
        TIDE_CHECK(g->budget_us >= TIDE_GATE_BUDGET_FLOOR_US && g->budget_us <= g->cap_us);
        TIDE_CHECK(g->last_us < g->deadline_us);
    } else {
        TIDE_CHECK(g->seal.outcome != 0);
        TIDE_CHECK(g->seal_lsn == 0 || g->seal_lsn > g->mark.lsn);
    }
}

void gate_init(struct gate *g, const struct gate_config *config)
{
    TIDE_CHECK(config->cap_us >= TIDE_GATE_BUDGET_FLOOR_US);
    TIDE_CHECK(config->cap_us <= TIDE_GATE_CAP_MAX_US);
    TIDE_CHECK(config->held_max > 0);
    *g = (struct gate){.stream = config->stream,
                       .incarnation = config->incarnation,
                       .next_lsn = config->next_lsn,
                       .cap_us = config->cap_us,
                       .held_max = config->held_max,
                       .whole = config->whole};
    if (config->held_before && !PLANTED(DUTY_ANEW)) {
        TIDE_CHECK(config->now_us > 0);
        uint64_t start_us =
            config->now_us > TIDE_GATE_DUTY_US ? config->now_us - TIDE_GATE_DUTY_US : 0;
        g->last_us = config->now_us;
        g->spans[0] = (struct gate_span){.start_us = start_us, .end_us = config->now_us};
        g->spans_next = 1;
    }
    check_invariants(g);
}

bool gate_holding(const struct gate *g, uint64_t ticket)
{
    return g->state == GATE_HOLDING && g->ticket == ticket;
}

static uint64_t take_lsn(struct gate *g)
{
    return g->next_lsn++;
}

static void remember(struct gate *g, const struct id *round, enum round_outcome outcome)
{
    g->ended[g->ended_next] = (struct gate_ended){.round = *round, .outcome = outcome};
    g->ended_next = (g->ended_next + 1) % TIDE_GATE_ENDED_MAX;
}

/* Ends the hold: from here on nothing is kept back. */
static void let_go(struct gate *g, enum round_outcome outcome, const struct hash *cut,
                   enum gate_state to, struct gate_out *ret)
{
    TIDE_CHECK(g->state == GATE_HOLDING);
    uint64_t length = g->last_us - g->start_us;
    g->seal.outcome = outcome;
    g->seal.hold_us = length;
    if (cut != NULL) {
        g->seal.cut = *cut;
    }
    g->spans[g->spans_next] = (struct gate_span){.start_us = g->start_us, .end_us = g->last_us};
    g->spans_next = (g->spans_next + 1) % TIDE_GATE_ENDED_MAX;
    if (length > g->hold_us_max) {
        g->hold_us_max = length;
    }
    remember(g, &g->seal.round, outcome);
    move(g, to);
    ret->let_go = true;
    ret->seal_due = to == GATE_SEALING;
}

static void give_up(struct gate *g, struct gate_out *ret)
{
    g->seal_lsn = 0;
    ret->given_up = true;
    move(g, GATE_IDLE);
}

/* What the duty limit leaves for a hold that begins now: at most TIDE_GATE_DUTY_US, 0 within the
 * pause. A hold that overlaps the window counts whole, so no second ever sees more. */
static uint32_t duty_left(const struct gate *g)
{
    uint64_t left = TIDE_GATE_DUTY_US;
    for (unsigned i = 0; i < TIDE_GATE_ENDED_MAX; i++) {
        const struct gate_span *span = &g->spans[i];
        if (span->end_us == 0) {
            continue; /* a free place */
        }
        uint64_t ago = g->last_us - span->end_us;
        if (ago < TIDE_GATE_PAUSE_US && !PLANTED(PAUSE_FORGOTTEN)) {
            return 0;
        }
        if (ago < TIDE_GATE_DUTY_WINDOW_US) {
            uint64_t length = span->end_us - span->start_us;
            left -= length < left ? length : left;
        }
    }
    return (uint32_t)left;
}

static void refuse(struct gate_out *ret, enum round_reason reason)
{
    ret->refused = true;
    ret->reason = reason;
}

static void answer_held(const struct gate *g, struct gate_out *ret)
{
    ret->held = true;
    ret->mark = g->mark;
    ret->budget_us = g->budget_us;
}

static struct id nonce_of(const struct gate *g, const struct gate_event *event)
{
    struct id nonce = event->nonce;
    if (PLANTED(NONCE_KEPT) && g->holds > 1) {
        nonce = g->mark.nonce;
    } else if (PLANTED(NONCE_ROUND)) {
        nonce = event->hold->order.round;
    } else if (PLANTED(NONCE_COUNTED)) {
        nonce = g->stream;
        nonce.b[1] ^= (uint8_t)g->holds;
    }
    return nonce;
}

static void begin(struct gate *g, const struct gate_event *event, uint32_t budget_us,
                  struct gate_out *ret)
{
    move(g, GATE_HOLDING);
    g->ticket++;
    g->holds++;
    g->unheld = event->hold->unheld;
    g->budget_us = budget_us;
    g->start_us = g->last_us;
    g->deadline_us = deadline_of(g->last_us, budget_us);
    g->mark = (struct round_mark){.stream = g->stream,
                                  .incarnation = g->incarnation,
                                  .lsn = take_lsn(g),
                                  .nonce = nonce_of(g, event)};
    g->seal = (struct record_seal){.round = event->hold->order.round, .bookmark_lsn = g->mark.lsn};
    g->seal_lsn = 0;
    answer_held(g, ret);
    ret->lsn = g->mark.lsn;
}

static void on_hold(struct gate *g, const struct gate_event *event, struct gate_out *ret)
{
    const struct tapctl_hold *hold = event->hold;
    TIDE_CHECK(hold != NULL);
    const struct id *round = &hold->order.round;
    if (hold->incarnation != g->incarnation &&
        !PLANTED_EITHER(GATE_INCARNATION, INCARNATION_IGNORED)) {
        refuse(ret, ROUND_REASON_INCARNATION);
        return;
    }
    if (g->state == GATE_HOLDING && id_equal(round, &g->seal.round)) {
        if (PLANTED_EITHER(GATE_REARMS, BUDGET_REARMED)) {
            g->start_us = g->last_us;
            g->deadline_us = g->start_us + g->budget_us;
        }
        answer_held(g, ret); /* heard again: the budget is not re-armed */
        return;
    }
    for (unsigned i = 0; i < TIDE_GATE_ENDED_MAX; i++) {
        if (g->ended[i].outcome != 0 && id_equal(round, &g->ended[i].round) &&
            !PLANTED_EITHER(GATE_ENDED, ENDED_FORGOTTEN)) {
            refuse(ret, ROUND_REASON_ENDED);
            ret->ended = g->ended[i].outcome;
            return;
        }
    }
    bool again = g->state == GATE_HOLDING && PLANTED_EITHER(GATE_BUSY, BUSY_IGNORED);
    if (g->state != GATE_IDLE && !again) {
        refuse(ret, ROUND_REASON_BUSY);
        return;
    }
    if (!g->whole && !PLANTED_EITHER(TAKERS_WHOLE, WHOLE_IGNORED)) {
        refuse(ret, ROUND_REASON_NOT_WHOLE);
        return;
    }
    if (!event->log_ok) {
        refuse(ret, ROUND_REASON_LOG);
        return;
    }
    uint32_t budget_us = hold->budget_us < g->cap_us ? hold->budget_us : g->cap_us;
    uint32_t left_us = PLANTED(DUTY_FORGOTTEN) ? TIDE_GATE_DUTY_US : duty_left(g);
    budget_us = left_us < budget_us ? left_us : budget_us;
    if (budget_us < TIDE_GATE_BUDGET_FLOOR_US) {
        refuse(ret, ROUND_REASON_DUTY);
        return;
    }
    begin(g, event, budget_us, ret);
}

static void on_write(struct gate *g, const struct gate_event *event, struct gate_out *ret)
{
    bool late = PLANTED(BOOKMARK_FIRST) && g->last_us < g->start_us + 500;
    if (g->state != GATE_HOLDING || g->unheld || PLANTED(ACK_IN_HOLD) || late) {
        ret->ack = GATE_ACK_NOW;
        ret->lsn = take_lsn(g);
        return;
    }
    ret->ticket = g->ticket;
    if (event->bytes > g->held_max - g->seal.bytes_held) {
        ret->ack = GATE_ACK_ENTRY;
        return;
    }
    ret->ack = GATE_ACK_HOLD;
    ret->lsn = take_lsn(g);
    g->seal.writes_held++;
    g->seal.bytes_held += event->bytes;
}

static void on_gap(struct gate *g, const struct gate_event *event, struct gate_out *ret)
{
    if (g->state == GATE_HOLDING) {
        let_go(g, ROUND_OUTCOME_ABORTED, NULL, GATE_SEALING, ret);
    } else if (g->state == GATE_SEALING) {
        /* The reader's answer for this round is "no" by the gap, or by a seal that is lost. */
        give_up(g, ret);
    }
    g->whole = false;
    g->gap_lsn = g->next_lsn;
    if (event->log_ok) {
        ret->lsn = take_lsn(g);
    }
}

/* A gap at gap_lsn took that LSN if its record could be appended; else the next record has it. */
static void on_whole(struct gate *g, uint64_t begin_lsn)
{
    TIDE_CHECK(begin_lsn > 0 && begin_lsn < g->next_lsn);
    if (begin_lsn >= g->gap_lsn) {
        g->whole = true;
    }
}

static void on_seal(struct gate *g, struct gate_out *ret)
{
    if (g->state == GATE_SEALING && g->seal_lsn == 0) {
        g->seal_lsn = take_lsn(g);
        ret->lsn = g->seal_lsn;
    }
}

static void step(struct gate *g, const struct gate_event *event, struct gate_out *ret)
{
    bool mine = g->state == GATE_HOLDING && (id_equal(&event->round, &g->seal.round) ||
                                             PLANTED_EITHER(GATE_ANY_RELEASE, RELEASE_OF_ANY));
    switch (event->type) {
    case GATE_WRITE:
        on_write(g, event, ret);
        break;
    case GATE_APPEND:
        ret->lsn = take_lsn(g);
        break;
    case GATE_HOLD:
        on_hold(g, event, ret);
        break;
    case GATE_RELEASE:
        if (mine) {
            let_go(g, g->unheld ? ROUND_OUTCOME_UNHELD : ROUND_OUTCOME_HELD, &event->cut,
                   GATE_SEALING, ret);
        } else if (PLANTED(RELEASE_REVIVES) && g->state == GATE_SEALING &&
                   id_equal(&event->round, &g->seal.round)) {
            g->seal.outcome = ROUND_OUTCOME_HELD;
            g->seal.cut = event->cut;
        }
        break;
    case GATE_ABORT:
        if (mine) {
            let_go(g, PLANTED(ABORT_HELD) ? ROUND_OUTCOME_HELD : ROUND_OUTCOME_ABORTED, NULL,
                   GATE_SEALING, ret);
        }
        break;
    case GATE_CONTROLLER_LOST:
        if (g->state == GATE_HOLDING && !PLANTED(CONTROLLER_IGNORED)) {
            let_go(g, ROUND_OUTCOME_ABORTED, NULL, GATE_SEALING, ret);
        }
        break;
    case GATE_GAP:
        on_gap(g, event, ret);
        break;
    case GATE_WHOLE:
        on_whole(g, event->begin_lsn);
        break;
    case GATE_SEAL:
        on_seal(g, ret);
        break;
    case GATE_SEAL_APPENDED:
        if (g->state == GATE_SEALING && g->seal_lsn != 0) {
            g->seal_lsn = 0;
            move(g, GATE_IDLE);
        }
        break;
    case GATE_SEAL_FAILED:
        if (g->state == GATE_SEALING) {
            give_up(g, ret);
        }
        break;
    case GATE_BOOKMARK_FAILED:
        if (g->state == GATE_HOLDING) {
            let_go(g, ROUND_OUTCOME_ABORTED, NULL, GATE_IDLE, ret);
        } else if (g->state == GATE_SEALING) {
            give_up(g, ret); /* it was let go meanwhile; there is no bookmark to seal */
        }
        break;
    case GATE_TICK:
        break;
    default:
        TIDE_CHECK(false);
        break;
    }
}

void gate_step(struct gate *g, const struct gate_event *event, struct gate_out *ret)
{
    *ret = (struct gate_out){0};
    if (event->now_us > g->last_us) {
        g->last_us = event->now_us;
    }
    if (g->state == GATE_HOLDING && g->last_us >= g->deadline_us) {
        let_go(g, PLANTED(EXPIRED_HELD) ? ROUND_OUTCOME_HELD : ROUND_OUTCOME_EXPIRED, NULL,
               GATE_SEALING, ret);
    }
    step(g, event, ret);
    check_invariants(g);
}

struct tapctl_sealed gate_told(const struct record_seal *seal, uint64_t seal_lsn)
{
    return (struct tapctl_sealed){.round = seal->round,
                                  .outcome = seal->outcome,
                                  .appended = seal_lsn != 0,
                                  .bookmark_lsn = seal->bookmark_lsn,
                                  .seal_lsn = seal_lsn,
                                  .hold_us = seal->hold_us,
                                  .writes_held = seal->writes_held,
                                  .bytes_held = seal->bytes_held};
}
