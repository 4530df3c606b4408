/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader_round.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"
#include "participant/core/leader_alone.h"
#include "participant/core/leader_pace.h"
#include "participant/core/leader_requests.h"

#include <stdio.h>
#include <string.h>

static void send_to_set(struct leader *l)
{
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (l->running.seats[m].in_set) {
            leader_send_to(l, m);
        }
    }
}

void leader_round_forget_retry(struct leader *l)
{
    l->retry_us = 0;
    l->retries = 0;
}

/* ---- the end of a round ---- */

static void tell_round(struct leader *l)
{
    struct leader_round *told = &l->told;
    leader_put(l, &(struct leader_effect){.type = LEADER_ROUND, .round = told});
    if (told->scope == ROUND_SCOPE_GROUP) {
        leader_requests_settle(l);
    }
}

static void set_wrong(struct leader *l, enum round_reason reason, unsigned member, const char *text)
{
    struct msg_sum *sum = &l->told.sum;
    sum->reason = reason;
    sum->member = l->definition->members[member].name;
    snprintf(sum->text, sizeof sum->text, "%s", text);
}

void leader_round_told(struct leader *l, bool began)
{
    struct leader_round *told = &l->told;
    memset(told, 0, sizeof *told);
    told->began = began;
    told->own = true;
    told->scope = ROUND_SCOPE_GROUP;
    told->leader = l->self;
}

static bool may_yield(const struct leader *l)
{
    for (unsigned m = 0; m < definition_candidates(l->definition); m++) {
        if (m != l->self && leader_heard(l, m) && !l->peers[m].yields &&
            l->peers[m].reach >= l->reach) {
            return true;
        }
    }
    return false;
}

static void learn_from(struct leader *l)
{
    const struct msg_sum *sum = &l->told.sum;
    if (sum->reason == ROUND_REASON_NONE) {
        l->fails = 0;
        l->retries = 0;
        return;
    }
    bool slow = sum->reason == ROUND_REASON_TIMEOUT || sum->reason == ROUND_REASON_EXPIRED;
    l->fails += slow && leader_pace_blameless(l) ? 0 : 1;
    bool contended = (sum->reason == ROUND_REASON_BUSY || sum->reason == ROUND_REASON_DUTY) &&
                     !leader_alone_lately(l);
    if (!contended && l->retries < l->config.retries) {
        l->retries++;
        l->retry_us = l->now_us + TIDE_LEADER_RETRY_US;
    }
    if (contended && l->self > 0) { /* perhaps an earlier candidate leads too: let it */
        l->back_off_us = l->now_us + TIDE_LEADER_BACKOFF * l->policy.interval_ms * 1000;
    }
    if (l->fails >= TIDE_LEADER_FAILS_MAX && may_yield(l)) {
        l->fails = 0;
        l->yield_round = sum->round;
        l->yield_until_us = l->now_us + TIDE_LEADER_YIELD_US;
        l->heartbeat_due = true;
    }
}

/* What members did not say counts as unknown_us. No tap holds for longer than the cap, whatever a
 * member says. */
void leader_round_count_hold(struct leader *l, const struct msg_sum *sum, uint64_t unknown_us)
{
    uint64_t hold_us = sum->hold_us_max;
    if (!sum->sealed_by_all && hold_us < unknown_us) {
        hold_us = unknown_us;
    }
    share_add(&l->share, l->now_us,
              hold_us < TIDE_GATE_CAP_MAX_US ? hold_us : TIDE_GATE_CAP_MAX_US);
}

/* Sums up and tells everyone. What was wrong is in told.sum already, or else found here. */
void leader_round_end(struct leader *l)
{
    struct running *r = &l->running;
    struct leader_round *told = &l->told;
    struct msg_sum *sum = &told->sum;
    sum->round = r->order.round;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        const struct seat *seat = &r->seats[m];
        if (!seat->in_set) {
            continue;
        }
        if (sum->reason == ROUND_REASON_NONE && !seat->sealed && !PLANTED(FIRST_SEALED_TOLD)) {
            set_wrong(l, ROUND_REASON_TIMEOUT, m, "it did not say in time how its holds ended");
        } else if (sum->reason == ROUND_REASON_NONE && seat->wrong != ROUND_REASON_NONE) {
            set_wrong(l, seat->wrong, m, "its holds did not end by the release");
        }
        struct msg_member_sum *member = &sum->members[sum->member_count++];
        *member = r->sums[m];
        member->member = l->definition->members[m].name;
        if (member->hold_us_max > sum->hold_us_max) {
            sum->hold_us_max = member->hold_us_max;
        }
    }
    sum->sealed_by_all = sum->reason == ROUND_REASON_NONE;
    told->set_disks = set_size(&r->order.set);
    told->set_members = sum->member_count;
    told->scope = r->order.scope;
    told->full = told->scope == ROUND_SCOPE_GROUP && set_is_full(&r->order.set);
    told->version = r->version;
    told->features = r->features;
    told->budget_us = r->budget_us;
    told->hold_us = r->hold_us;
    if (r->slowest_us != 0) {
        told->slowest = l->definition->members[r->slowest].name;
        told->slowest_us = r->slowest_us;
    }
    told->total_us = l->now_us - r->began_us;
    leader_round_count_hold(l, sum, told->total_us < r->budget_us ? told->total_us : r->budget_us);
    leader_pace_ended(l, sum);
    r->phase = PHASE_IDLE;
    if (told->scope == ROUND_SCOPE_MEMBER) { /* nobody else's affair */
        leader_alone_ended(l);
        tell_round(l);
        return;
    }
    l->group_gap_us = l->now_us + TIDE_LEADER_GAP_US;
    leader_compose(l, MSG_SUM)->sum = *sum;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (m != l->self && l->peers[m].up) {
            leader_send_to(l, m);
        }
    }
    learn_from(l);
    leader_pace_tell(l);
    tell_round(l);
}

/* A hold that expires says nothing of who was late: the one that had not held by then. */
static void tell_awaited(struct leader *l)
{
    struct msg_sum *sum = &l->told.sum;
    size_t used = strlen(sum->text);
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        const struct seat *seat = &l->running.seats[m];
        if (seat->in_set && !seat->held &&
            !name_equal(&l->definition->members[m].name, &sum->member)) {
            snprintf(sum->text + used, sizeof sum->text - used, "; %s had not held yet",
                     l->definition->members[m].name.s);
            return;
        }
    }
}

void leader_round_fail(struct leader *l, enum round_reason reason, unsigned member,
                       const char *text)
{
    TIDE_CHECK(l->running.phase == PHASE_HOLDING);
    struct msg *msg = leader_compose(l, MSG_ABORT);
    msg->abort.round = l->running.order.round;
    msg->abort.reason = reason;
    send_to_set(l);
    if (l->running.order.scope == ROUND_SCOPE_GROUP &&
        (reason == ROUND_REASON_TIMEOUT || reason == ROUND_REASON_EXPIRED)) {
        leader_pace_late(l); /* a budget ran out, here or there, while they were waited for */
    }
    l->gap_until_us = l->now_us + TIDE_LEADER_GAP_US;
    leader_round_told(l, true);
    set_wrong(l, reason, member, text);
    if (reason == ROUND_REASON_EXPIRED) {
        tell_awaited(l);
    }
    leader_round_end(l);
}

/* ---- a round ---- */

enum round_reason leader_round_ready(const struct leader *l, unsigned member)
{
    if (!leader_heard(l, member)) {
        return ROUND_REASON_MISSING;
    }
    if (member != l->self && !epoch_equal(&l->peers[member].epoch, &l->definition->epoch)) {
        return ROUND_REASON_EPOCH;
    }
    const struct definition_member *m = &l->definition->members[member];
    enum round_reason reason = ROUND_REASON_NONE;
    for (unsigned i = 0; i < m->disk_count; i++) {
        const struct msg_tap *tap = &l->taps[m->disk_first + i];
        if (tap->incarnation == 0) {
            return ROUND_REASON_NOT_ATTACHED;
        }
        if (!tap->whole && !PLANTED_EITHER(TAKERS_WHOLE, WHOLE_IGNORED)) {
            reason = ROUND_REASON_NOT_WHOLE;
        }
    }
    return reason;
}

static const char *ready_text(enum round_reason reason)
{
    switch (reason) {
    case ROUND_REASON_MISSING:
        return "it is not heard: is its participant running and reachable on port 20004?";
    case ROUND_REASON_EPOCH:
        return "it has another definition";
    case ROUND_REASON_NOT_ATTACHED:
        return "a disk of it has no tap attached";
    case ROUND_REASON_NOT_WHOLE:
        return "a disk of it is not whole"; /* tell_not_whole() says which and why */
    case ROUND_REASON_SLOW:
        return "it is slow"; /* leader_pace_text() says how slow */
    case ROUND_REASON_NONE:
    case ROUND_REASON_BUSY:
    case ROUND_REASON_DUTY:
    case ROUND_REASON_INCARNATION:
    case ROUND_REASON_LOG:
    case ROUND_REASON_ENDED:
    case ROUND_REASON_TIMEOUT:
    case ROUND_REASON_EXPIRED:
    case ROUND_REASON_ABORTED:
    case ROUND_REASON_TAP_LOST:
    case ROUND_REASON_NO_DEFINITION:
    case ROUND_REASON_NO_LEADER:
    case ROUND_REASON_SEAL:
    case ROUND_REASON_DISK_SET:
    case ROUND_REASON_KIND:
    default:
        return "it cannot take part";
    }
}

static void tell_not_whole(struct leader *l, unsigned member)
{
    char text[sizeof l->told.sum.text];
    const struct definition_member *m = &l->definition->members[member];
    for (unsigned i = 0; i < m->disk_count; i++) {
        const struct msg_tap *tap = &l->taps[m->disk_first + i];
        if (!tap->whole) {
            const char *gap = record_gap_name(tap->gap);
            snprintf(text, sizeof text,
                     "disk \"%s\": base and log together are not the disk (gap: %s)",
                     l->definition->disks[m->disk_first + i].name.s, gap == NULL ? "unknown" : gap);
            set_wrong(l, ROUND_REASON_NOT_WHOLE, member, text);
            return;
        }
    }
}

static void send_holds(struct leader *l)
{
    struct running *r = &l->running;
    struct msg *msg = leader_compose(l, MSG_HOLD);
    msg->hold.round = r->order.round;
    msg->hold.scope = r->order.scope;
    msg->hold.kind = r->order.kind;
    msg->hold.set = r->order.set;
    msg->hold.budget_us = r->budget_us;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set) {
            const struct definition_member *member = &l->definition->members[m];
            msg->hold.tap_count = member->disk_count;
            memcpy(msg->hold.taps, &l->taps[member->disk_first],
                   member->disk_count * sizeof msg->hold.taps[0]);
            leader_send_to(l, m);
        }
    }
}

/* The round speaks what all of its set do. */
static void settle_version(struct leader *l)
{
    struct running *r = &l->running;
    r->version = TIDE_MSG_VERSION;
    r->features = TIDE_MSG_FEATURES;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && m != l->self) {
            const struct peer *peer = &l->peers[m];
            r->version = peer->version_max < r->version ? peer->version_max : r->version;
            r->features &= peer->features;
        }
    }
}

static void empty_order(struct leader *l, const struct id *random, enum round_scope scope)
{
    struct running *r = &l->running;
    TIDE_CHECK(r->phase == PHASE_IDLE || PLANTED(OVERLAP));
    TIDE_CHECK(!id_is_zero(random));
    memset(r, 0, sizeof *r);
    r->order = (struct round_order){.round = *random,
                                    .group = l->definition->group,
                                    .epoch = l->definition->epoch,
                                    .scope = scope,
                                    .kind = ROUND_KIND_CRASH};
    set_init(&r->order.set, l->definition->disk_count);
}

/* The set is complete. */
static void hold_set(struct leader *l)
{
    struct running *r = &l->running;
    for (unsigned i = 0; i < l->definition->disk_count; i++) {
        r->incarnations[i] = l->taps[i].incarnation;
    }
    settle_version(l);
    r->phase = PHASE_HOLDING;
    r->budget_us = l->policy.hold_us_max;
    r->began_us = l->now_us;
    r->deadline_us = l->now_us + 2 * (uint64_t)r->budget_us; /* until the first HELD */
    send_holds(l);
}

void leader_round_begin_alone(struct leader *l, const struct id *random)
{
    empty_order(l, random, ROUND_SCOPE_MEMBER);
    definition_set_member(l->definition, l->self, &l->running.order.set);
    l->running.seats[l->self].in_set = true;
    hold_set(l);
}

void leader_round_begin(struct leader *l, const struct id *random)
{
    struct running *r = &l->running;
    bool trial = leader_pace_trial(l);
    empty_order(l, random, ROUND_SCOPE_GROUP);
    leader_round_told(l, false);
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        enum round_reason reason = leader_round_ready(l, m);
        if (reason == ROUND_REASON_NONE && !trial && leader_pace_slow(l, m)) {
            reason = ROUND_REASON_SLOW;
        }
        if (reason == ROUND_REASON_NONE) {
            definition_set_member(l->definition, m, &r->order.set);
            r->seats[m].in_set = true;
        } else if (l->told.sum.reason == ROUND_REASON_NONE) {
            set_wrong(l, reason, m, ready_text(reason));
            if (reason == ROUND_REASON_NOT_WHOLE) {
                tell_not_whole(l, m);
            } else if (reason == ROUND_REASON_SLOW) {
                leader_pace_text(l, m, l->told.sum.text, sizeof l->told.sum.text);
            }
        }
    }
    bool all = l->told.sum.reason == ROUND_REASON_NONE;
    bool strict = l->policy.missing == POLICY_MISSING_STRICT && !PLANTED(STRICT_FORGOTTEN);
    if (set_size(&r->order.set) == 0 || (!all && strict)) {
        leader_pace_tell(l);
        tell_round(l);
        return;
    }
    for (unsigned i = 0; i < r->order.set.count && PLANTED_EITHER(WIDE_SET, SET_TOO_WIDE); i++) {
        set_add(&r->order.set, i);
    }
    leader_pace_tried(l);
    leader_requests_begin(l);
    hold_set(l);
}

static void release(struct leader *l)
{
    struct running *r = &l->running;
    struct round_mark marks[TIDE_DISKS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < l->definition->disk_count; i++) {
        bool gone = r->marks[i].lsn == 0 && PLANTED(SET_TOO_WIDE);
        if (set_has(&r->order.set, i) && !gone) {
            marks[count++] = r->marks[i];
        }
    }
    struct msg *msg = leader_compose(l, MSG_RELEASE);
    msg->release.round = r->order.round;
    msg->release.cut = round_cut_hash(&r->order, marks, count);
    send_to_set(l);
    r->phase = PHASE_SEALING;
    r->hold_us = l->now_us - r->began_us;
    r->deadline_us = l->now_us + TIDE_LEADER_SEAL_US;
    l->gap_until_us = l->now_us + TIDE_LEADER_GAP_US;
}

/* One mark for each disk of the member, of the tap that the order was for, and nothing else. */
static bool take_marks(struct leader *l, unsigned member, const struct msg_held *held)
{
    struct running *r = &l->running;
    const struct definition_member *m = &l->definition->members[member];
    bool seen[TIDE_MEMBER_DISKS_MAX] = {false};
    if (held->mark_count != m->disk_count && !PLANTED(HELD_EARLY_BLIND)) {
        return false;
    }
    for (unsigned i = 0; i < held->mark_count; i++) {
        const struct round_mark *mark = &held->marks[i];
        int disk = definition_find_stream(l->definition, &mark->stream);
        if (disk < m->disk_first || disk >= m->disk_first + m->disk_count ||
            seen[disk - m->disk_first] || mark->incarnation != r->incarnations[disk]) {
            return false;
        }
        seen[disk - m->disk_first] = true;
        r->marks[disk] = *mark;
    }
    return true;
}

static bool is_current(const struct leader *l, const struct id *round, unsigned member)
{
    return l->running.phase != PHASE_IDLE && id_equal(&l->running.order.round, round) &&
           l->running.seats[member].in_set;
}

void leader_round_held(struct leader *l, unsigned member, const struct msg *msg)
{
    struct running *r = &l->running;
    struct seat *seat = &r->seats[member];
    if (!is_current(l, &msg->held.round, member) || r->phase != PHASE_HOLDING) {
        return;
    }
    for (unsigned m = 0; PLANTED_EITHER(LEADER_COUNTS, LEADER_COUNTS_BLIND) && seat->held &&
                         m < l->definition->member_count;
         m++) {
        seat = r->seats[m].in_set && !r->seats[m].held ? &r->seats[m] : seat;
    }
    if (seat->held) {
        return;
    }
    if (!epoch_equal(&msg->head.epoch, &r->order.epoch)) {
        leader_round_fail(l, ROUND_REASON_EPOCH, member, "it answered under another definition");
        return;
    }
    if (!take_marks(l, member, &msg->held)) {
        leader_round_fail(
            l, ROUND_REASON_DISK_SET, member,
            "its marks are not one for each of its disks, of the taps that were asked");
        return;
    }
    bool first = true;
    seat->held = true;
    if (r->order.scope == ROUND_SCOPE_GROUP) {
        leader_pace_held(l, member);
    }
    r->slowest = member;
    r->slowest_us = l->now_us - r->began_us;
    bool all = true;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        const struct seat *other = &r->seats[m];
        first = first && !(other->in_set && other->held && m != member);
        all = all && (!other->in_set || other->held);
    }
    if (first) { /* its hold began before now, so it will have ended by then */
        r->deadline_us = l->now_us + r->budget_us;
    }
    if (all || (PLANTED_EITHER(RELEASE_EARLY, RELEASE_EARLY_ALONE) && !first)) {
        release(l);
    }
}

void leader_round_refused(struct leader *l, unsigned member, const struct msg *msg)
{
    if (is_current(l, &msg->refused.round, member) && l->running.phase == PHASE_HOLDING) {
        leader_round_fail(l, msg->refused.reason, member, msg->refused.text);
    }
}

static uint64_t add_capped(uint64_t a, uint64_t b)
{
    return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

static enum round_reason sealed_wrong(const struct leader *l, unsigned member,
                                      const struct msg_sealed *sealed)
{
    enum round_reason reason = sealed->seal_count == l->definition->members[member].disk_count
                                   ? ROUND_REASON_NONE
                                   : ROUND_REASON_SEAL;
    for (unsigned i = 0; i < sealed->seal_count && !PLANTED(ENDED_TOLD); i++) {
        enum round_outcome outcome = sealed->seals[i].outcome;
        if (outcome == ROUND_OUTCOME_EXPIRED) {
            return ROUND_REASON_EXPIRED;
        }
        if (outcome == ROUND_OUTCOME_ABORTED) {
            reason = ROUND_REASON_ABORTED;
        } else if (!sealed->seals[i].appended && reason == ROUND_REASON_NONE) {
            reason = ROUND_REASON_SEAL;
        }
    }
    if (PLANTED(ENDED_TOLD)) {
        return ROUND_REASON_NONE;
    }
    if (reason == ROUND_REASON_NONE && sealed->outcome == ROUND_OUTCOME_EXPIRED) {
        reason = ROUND_REASON_EXPIRED;
    } else if (reason == ROUND_REASON_NONE && sealed->outcome == ROUND_OUTCOME_ABORTED) {
        reason = ROUND_REASON_ABORTED;
    }
    return reason;
}

void leader_round_sealed(struct leader *l, unsigned member, const struct msg *msg)
{
    struct running *r = &l->running;
    struct seat *seat = &r->seats[member];
    const struct msg_sealed *sealed = &msg->sealed;
    if (!is_current(l, &sealed->round, member) || seat->sealed) {
        return;
    }
    struct msg_member_sum *sum = &r->sums[member];
    sum->outcome = (uint32_t)sealed->outcome;
    for (unsigned i = 0; i < sealed->seal_count; i++) {
        const struct msg_seal *seal = &sealed->seals[i];
        sum->hold_us_max = seal->hold_us > sum->hold_us_max ? seal->hold_us : sum->hold_us_max;
        sum->writes_held = add_capped(sum->writes_held, seal->writes_held);
    }
    seat->sealed = true;
    seat->wrong = sealed_wrong(l, member, sealed);
    if (r->phase == PHASE_HOLDING) {
        enum round_reason reason =
            seat->wrong != ROUND_REASON_NONE ? seat->wrong : ROUND_REASON_ABORTED;
        leader_round_fail(l, reason, member, "its holds ended before the release");
        return;
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && !r->seats[m].sealed && !PLANTED(FIRST_SEALED_TOLD)) {
            return;
        }
    }
    leader_round_told(l, true);
    leader_round_end(l);
}

void leader_round_deadline(struct leader *l)
{
    struct running *r = &l->running;
    if (r->phase == PHASE_IDLE || l->now_us < r->deadline_us) {
        return;
    }
    if (r->phase == PHASE_SEALING) {
        leader_round_told(l, true);
        leader_round_end(l);
        return;
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && !r->seats[m].held) {
            leader_round_fail(l, ROUND_REASON_TIMEOUT, m, "it did not hold within the budget");
            return;
        }
    }
}

void leader_round_spare(struct leader *l, enum round_scope scope)
{
    char text[TIDE_MSG_TEXT_MAX + 1];
    snprintf(text, sizeof text,
             "the group was held for %llu ms in the last %u s, %llu more are expected, %u are the "
             "limit: this round is skipped",
             (unsigned long long)share_held_us(&l->share, l->now_us) / 1000, TIDE_SHARE_WINDOW_S,
             (unsigned long long)share_expected_us(&l->share) / 1000, TIDE_SHARE_LIMIT_US / 1000);
    leader_round_told(l, false);
    l->told.scope = scope;
    set_wrong(l, ROUND_REASON_DUTY, l->self, text);
    tell_round(l);
}
