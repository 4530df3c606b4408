/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/core/leader_alone.h"
#include "participant/core/leader_pace.h"
#include "participant/core/leader_requests.h"
#include "participant/core/leader_round.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_STRICT_US  1000000U            /* from leading to the first round of the interval */
#define START_PARTIAL_US TIDE_LEADER_DEAD_US /* partial: time for the others to be heard */

struct leader *leader_new(const struct leader_config *config)
{
    TIDE_CHECK(config->incarnation != 0);
    TIDE_CHECK(config->retries <= TIDE_LEADER_RETRIES_MAX);
    struct leader *leader = calloc(1, sizeof *leader);
    if (leader == NULL) {
        return NULL;
    }
    leader->config = *config;
    leader->leads = -1;
    policy_init(&leader->policy);
    share_init(&leader->share);
    return leader;
}

void leader_free(struct leader *leader)
{
    free(leader);
}

/* ---- effects ---- */

void leader_put(struct leader *l, const struct leader_effect *effect)
{
    l->outbox->put(l->outbox->context, effect);
}

static void note(struct leader *l, const struct msg *msg, const char *what)
{
    char text[192];
    snprintf(text, sizeof text, "message from \"%s\" ignored: %s", msg->head.from.s, what);
    leader_put(l, &(struct leader_effect){.type = LEADER_NOTE, .text = text});
}

struct msg *leader_compose(struct leader *l, enum msg_type type)
{
    struct msg *msg = &l->out;
    memset(msg, 0, msg_size(type));
    msg->type = type;
    bool order = type == MSG_HOLD || type == MSG_RELEASE || type == MSG_ABORT;
    msg->head.version = order ? l->running.version : TIDE_MSG_VERSION_MIN;
    msg->head.features = type == MSG_HOLD ? l->running.features : TIDE_MSG_FEATURES;
    msg->head.group = l->definition->group;
    msg->head.from = l->config.name;
    msg->head.epoch = l->definition->epoch;
    msg->head.incarnation = l->config.incarnation;
    return msg;
}

void leader_send_to(struct leader *l, unsigned member)
{
    l->out.head.to = l->definition->members[member].name;
    leader_put(l, &(struct leader_effect){.type = LEADER_SEND, .to = member, .msg = &l->out});
}

/* ---- heartbeats and who leads ---- */

static bool candidate(const struct leader *l, unsigned member)
{
    return member < definition_candidates(l->definition);
}

bool leader_heard(const struct leader *l, unsigned member)
{
    return member == l->self || l->peers[member].heard;
}

static void compose_heartbeat(struct leader *l)
{
    struct msg *msg = leader_compose(l, MSG_HEARTBEAT);
    const struct definition_member *self = &l->definition->members[l->self];
    msg->heartbeat.reach = l->reach;
    msg->heartbeat.yield_round = l->yield_round;
    msg->heartbeat.lack = l->own_lack.reason;
    msg->heartbeat.lack_member = l->own_lack.member;
    msg->heartbeat.alone = l->own_leave;
    msg->heartbeat.tap_count = self->disk_count;
    memcpy(msg->heartbeat.taps, &l->taps[self->disk_first],
           self->disk_count * sizeof msg->heartbeat.taps[0]);
}

static void send_heartbeats(struct leader *l)
{
    if (l->definition == NULL) {
        return;
    }
    bool late = l->now_us >= l->heartbeat_us + TIDE_LEADER_HEARTBEAT_US;
    bool news = l->heartbeat_due && l->now_us >= l->heartbeat_us + TIDE_LEADER_HEARTBEAT_MIN_US;
    if (!late && !news) {
        return;
    }
    compose_heartbeat(l);
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (m != l->self && l->peers[m].up) {
            l->out.heartbeat.sequence = ++l->sequence;
            leader_send_to(l, m);
        }
    }
    l->heartbeat_us = l->now_us;
    l->heartbeat_due = false;
}

static void forget_peer(struct leader *l, unsigned member)
{
    const struct definition_member *m = &l->definition->members[member];
    l->peers[member].heard = false;
    leader_pace_forget_member(l, member); /* it was not slow: it was not there */
    for (unsigned i = 0; i < m->disk_count; i++) {
        l->taps[m->disk_first + i].incarnation = 0;
        l->taps[m->disk_first + i].whole = false;
        l->taps[m->disk_first + i].gap = 0;
    }
}

static void count_reach(struct leader *l)
{
    unsigned reach = 0;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        reach += leader_heard(l, m);
    }
    if (reach != l->reach) {
        l->reach = reach;
        l->heartbeat_due = true;
    }
}

static uint32_t reach_of(const struct leader *l, unsigned member)
{
    return member == l->self ? l->reach : l->peers[member].reach;
}

static bool yields(const struct leader *l, unsigned member)
{
    return member == l->self ? !id_is_zero(&l->yield_round) : l->peers[member].yields;
}

/* Of the candidates heard, those that do not yield come first, then who reaches the most. */
static int elect(const struct leader *l)
{
    int best = -1;
    for (unsigned m = 0; m < definition_candidates(l->definition); m++) {
        if (!leader_heard(l, m)) {
            continue;
        }
        bool better = best < 0;
        if (!better && yields(l, m) != yields(l, (unsigned)best)) {
            better = yields(l, (unsigned)best);
        } else if (!better) {
            better = reach_of(l, m) > reach_of(l, (unsigned)best);
        }
        if (better) {
            best = (int)m;
        }
    }
    return best;
}

bool leader_leading(const struct leader *l)
{
    return l->definition != NULL && l->leads == (int)l->self;
}

/* ---- events ---- */

static void on_heartbeat(struct leader *l, unsigned member, const struct msg *msg)
{
    struct peer *peer = &l->peers[member];
    const struct msg_heartbeat *heartbeat = &msg->heartbeat;
    if (peer->incarnation == msg->head.incarnation && heartbeat->sequence <= peer->sequence) {
        note(l, msg, "an old heartbeat");
        return;
    }
    peer->incarnation = msg->head.incarnation;
    peer->sequence = heartbeat->sequence;
    peer->heard = true;
    peer->heard_us = l->now_us;
    peer->reach = heartbeat->reach < l->definition->member_count ? heartbeat->reach
                                                                 : l->definition->member_count;
    peer->yields = !id_is_zero(&heartbeat->yield_round);
    peer->version_max = msg->head.version_max;
    peer->features = msg->head.features;
    peer->epoch = msg->head.epoch;
    peer->lack = (struct lack){heartbeat->lack, heartbeat->lack_member};
    peer->leave = heartbeat->alone;
    const struct definition_member *m = &l->definition->members[member];
    for (unsigned i = 0; i < m->disk_count; i++) {
        struct msg_tap *tap = &l->taps[m->disk_first + i];
        tap->incarnation = 0;
        tap->whole = false;
        tap->gap = 0;
        for (unsigned k = 0; k < heartbeat->tap_count; k++) {
            if (id_equal(&heartbeat->taps[k].stream, &tap->stream)) {
                *tap = heartbeat->taps[k];
            }
        }
    }
}

static void on_sum(struct leader *l, unsigned member, const struct msg *msg)
{
    if (!candidate(l, member)) {
        note(l, msg, "a sum by a member that is no candidate");
        return;
    }
    leader_round_told(l, true);
    l->told.own = false;
    l->told.leader = member;
    l->told.full = msg->sum.member_count == l->definition->member_count; /* sets go by member */
    l->told.sum = msg->sum;
    leader_round_count_hold(l, &msg->sum, l->policy.hold_us_max);
    leader_pace_ended(l, &msg->sum);
    leader_put(l, &(struct leader_effect){.type = LEADER_ROUND, .round = &l->told});
}

static void on_message(struct leader *l, const struct msg *msg)
{
    if (l->definition == NULL || !id_equal(&msg->head.group, &l->definition->group) ||
        !name_equal(&msg->head.to, &l->config.name)) {
        note(l, msg, "it is for another member or group");
        return;
    }
    int from = definition_find_member(l->definition, &msg->head.from);
    if (from < 0) {
        note(l, msg, "its sender is not in the definition");
        return;
    }
    unsigned member = (unsigned)from;
    bool own = member == l->self;
    if (!own && !l->peers[member].up) {
        note(l, msg, "its sender's link is down");
        return;
    }
    switch (msg->type) {
    case MSG_HEARTBEAT:
        if (!own) {
            on_heartbeat(l, member, msg);
        }
        break;
    case MSG_HELD:
        leader_round_held(l, member, msg);
        break;
    case MSG_REFUSED:
        leader_round_refused(l, member, msg);
        break;
    case MSG_SEALED:
        leader_round_sealed(l, member, msg);
        break;
    case MSG_SUM:
        if (!own) {
            on_sum(l, member, msg);
        }
        break;
    case MSG_TAKE:
        if (!own) {
            leader_requests_take(l, &msg->take, false, &msg->head.from);
        }
        break;
    case MSG_TAKEN:
        if (!own) {
            leader_requests_taken(l, msg);
        }
        break;
    case MSG_HOLD:
    case MSG_RELEASE:
    case MSG_ABORT:
    default:
        break; /* the member machine's */
    }
}

static void on_link(struct leader *l, unsigned member, bool up)
{
    TIDE_CHECK(l->definition != NULL && member < l->definition->member_count && member != l->self);
    struct peer *peer = &l->peers[member];
    peer->up = up;
    if (up) {
        compose_heartbeat(l);
        l->out.heartbeat.sequence = ++l->sequence;
        leader_send_to(l, member);
        return;
    }
    forget_peer(l, member);
    struct running *r = &l->running;
    if (r->phase == PHASE_HOLDING && r->seats[member].in_set) {
        leader_round_fail(l, ROUND_REASON_MISSING, member, "its link ended in mid-round");
    }
}

static void on_definition(struct leader *l, const struct definition *definition, unsigned self)
{
    if (l->running.phase == PHASE_HOLDING) {
        leader_round_fail(l, ROUND_REASON_EPOCH, l->self, "the definition changed in mid-round");
    } else if (l->running.phase == PHASE_SEALING) {
        leader_round_told(l, true);
        leader_round_end(l);
    }
    TIDE_CHECK(definition == NULL || self < definition->member_count);
    TIDE_CHECK(definition == NULL || name_equal(&definition->members[self].name, &l->config.name));
    l->definition = definition;
    l->self = self;
    l->reach = 0;
    memset(l->peers, 0, sizeof l->peers);
    memset(l->taps, 0, sizeof l->taps);
    l->fails = 0;
    l->back_off_us = 0;
    leader_round_forget_retry(l);
    leader_alone_forget(l);
    leader_pace_forget(l);
    memset(l->holds, 0, sizeof l->holds);
    l->yield_round = (struct id){{0}};
    if (l->leads >= 0) {
        l->leads = -1;
        leader_put(l, &(struct leader_effect){.type = LEADER_CHANGE, .leads = -1});
    }
    if (definition == NULL) {
        l->lack = (struct lack){.reason = ROUND_REASON_NONE};
        leader_requests_decline(l);
        return;
    }
    for (unsigned i = 0; i < definition->disk_count; i++) {
        l->taps[i].stream = definition->disks[i].stream;
    }
    l->heartbeat_due = true;
}

static void on_taps(struct leader *l, const struct msg_tap *taps, unsigned count)
{
    if (l->definition == NULL) {
        return;
    }
    const struct definition_member *self = &l->definition->members[l->self];
    for (unsigned i = 0; i < self->disk_count; i++) {
        struct msg_tap *tap = &l->taps[self->disk_first + i];
        tap->incarnation = 0;
        tap->whole = false;
        tap->gap = 0;
        for (unsigned k = 0; k < count; k++) {
            if (id_equal(&taps[k].stream, &tap->stream)) {
                *tap = taps[k];
            }
        }
    }
    l->heartbeat_due = true;
}

static void on_policy(struct leader *l, const struct policy *policy)
{
    struct err err;
    TIDE_CHECK(policy_check(policy, &err) == 0);
    l->policy = *policy;
    uint64_t latest = l->now_us + policy->interval_ms * 1000;
    l->due_us = l->due_us > latest ? latest : l->due_us;
    l->alone_due_us = l->alone_due_us > latest ? latest : l->alone_due_us;
    l->back_off_us = 0;
}

/* ---- after every event ---- */

static void look_around(struct leader *l)
{
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        struct peer *peer = &l->peers[m];
        if (m != l->self && peer->heard && l->now_us >= peer->heard_us + TIDE_LEADER_DEAD_US) {
            forget_peer(l, m);
        }
    }
    if (!id_is_zero(&l->yield_round) && l->now_us >= l->yield_until_us) {
        l->yield_round = (struct id){{0}};
        l->heartbeat_due = true;
    }
    count_reach(l);
    int leads = elect(l);
    if (leads == l->leads) {
        return;
    }
    l->leads = leads;
    leader_round_forget_retry(l);
    if (leader_leading(l)) {
        l->fails = 0;
        leader_pace_forget(l);
        l->due_us = l->now_us + (l->policy.missing == POLICY_MISSING_STRICT ? START_STRICT_US
                                                                            : START_PARTIAL_US);
    }
    leader_put(l, &(struct leader_effect){.type = LEADER_CHANGE, .leads = leads});
    leader_requests_route(l);
}

/* When the next round may begin; UINT64_MAX: not here, or not before this one is over. */
static uint64_t next_round_us(const struct leader *l)
{
    bool busy =
        l->running.phase == PHASE_HOLDING ||
        (l->running.phase == PHASE_SEALING && !leader_alone_gives_way(l) && !PLANTED(OVERLAP));
    if (!leader_leading(l) || busy) {
        return UINT64_MAX;
    }
    uint64_t at = l->retry_us != 0 && l->retry_us < l->due_us ? l->retry_us : l->due_us;
    at = at > l->back_off_us ? at : l->back_off_us;
    if (leader_requests_waiting(l)) {
        at = l->now_us;
    }
    if (PLANTED(LEADER_GAP_FORGOTTEN)) {
        return at;
    }
    return at > l->gap_until_us ? at : l->gap_until_us;
}

static void on_tick(struct leader *l, const struct id *random)
{
    if (l->definition == NULL) {
        return;
    }
    leader_round_deadline(l);
    look_around(l);
    leader_requests_expire(l);
    if (l->now_us >= l->heartbeat_us + TIDE_LEADER_HEARTBEAT_US) {
        leader_requests_resend(l);
    }
    if (l->now_us >= next_round_us(l)) {
        bool due = l->now_us >= l->due_us;
        uint64_t interval_us = leader_pace_interval_us(l);
        l->due_us += due ? interval_us : 0;
        if (leader_requests_waiting(l) ||
            l->due_us <= l->now_us) { /* a round asked for counts as one */
            l->due_us = l->now_us + interval_us;
        }
        if (due) {
            l->retries = 0;
        }
        l->retry_us = 0;
        if (leader_alone_gives_way(l)) {
            leader_round_told(l, true);
            leader_round_end(l);
        }
        if (leader_requests_waiting(l) || share_allows(&l->share, l->now_us)) {
            leader_round_begin(l, random);
        } else {
            leader_round_spare(l, ROUND_SCOPE_GROUP);
        }
    }
    if (l->now_us >= leader_alone_next_us(l)) { /* the id is free: no round is under way */
        leader_alone_begun(l);
        if (share_allows(&l->share, l->now_us)) {
            leader_round_begin_alone(l, random);
        } else {
            leader_round_spare(l, ROUND_SCOPE_MEMBER);
        }
    }
}

void leader_step(struct leader *l, const struct leader_event *event,
                 const struct leader_outbox *outbox)
{
    l->outbox = outbox;
    if (event->now_us > l->now_us) {
        l->now_us = event->now_us;
    }
    switch (event->type) {
    case LEADER_DEFINITION:
        on_definition(l, event->definition, event->self);
        break;
    case LEADER_POLICY:
        on_policy(l, event->policy);
        break;
    case LEADER_LINK:
        on_link(l, event->peer, event->up);
        break;
    case LEADER_MESSAGE:
        on_message(l, event->msg);
        break;
    case LEADER_TAPS:
        on_taps(l, event->taps, event->tap_count);
        break;
    case LEADER_TAKE:
        leader_requests_take(l, event->take, true, NULL);
        break;
    case LEADER_TICK:
        on_tick(l, &event->random);
        break;
    default:
        check_failed("known leader event", __FILE__, __LINE__);
    }
    if (l->definition != NULL) {
        look_around(l);
        if (event->type != LEADER_MESSAGE || l->running.phase != PHASE_HOLDING) {
            leader_alone_look(l); /* not while the group is held: it goes through all taps */
        }
        send_heartbeats(l);
    }
    l->outbox = NULL;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t leader_wake_us(const struct leader *l)
{
    if (l->definition == NULL) {
        return UINT64_MAX;
    }
    uint64_t at = l->heartbeat_us +
                  (l->heartbeat_due ? TIDE_LEADER_HEARTBEAT_MIN_US : TIDE_LEADER_HEARTBEAT_US);
    at = sooner(at, next_round_us(l));
    at = sooner(at, leader_alone_wake_us(l));
    if (l->running.phase != PHASE_IDLE) {
        at = sooner(at, l->running.deadline_us);
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (m != l->self && l->peers[m].heard) {
            at = sooner(at, l->peers[m].heard_us + TIDE_LEADER_DEAD_US);
        }
    }
    at = sooner(at, leader_requests_wake_us(l));
    return at;
}

int leader_leads(const struct leader *l)
{
    return l->leads;
}

unsigned leader_reach(const struct leader *l)
{
    return l->definition == NULL ? 0 : l->reach;
}

struct leader_holds leader_holds(const struct leader *l, unsigned member)
{
    if (l->definition == NULL || member >= l->definition->member_count) {
        return (struct leader_holds){0};
    }
    return (struct leader_holds){.holds = spread_view(&l->holds[member]),
                                 .answers = pace_answers(&l->pace, member),
                                 .answer_us = pace_answer_us(&l->pace, member),
                                 .expected_us = pace_expected_us(&l->pace, member),
                                 .slow = leader_pace_slow(l, member)};
}

struct leader_share leader_share(const struct leader *l)
{
    return (struct leader_share){.held_us = share_held_us(&l->share, l->now_us),
                                 .limit_us = TIDE_SHARE_LIMIT_US,
                                 .interval_us = leader_pace_interval_us(l)};
}

struct leader_lack leader_lack(const struct leader *l)
{
    return (struct leader_lack){.reason = l->lack.reason,
                                .member = l->lack.member,
                                .strict = l->lack_strict,
                                .alone = l->alone};
}

bool leader_hears(const struct leader *l, unsigned member)
{
    return l->definition != NULL && member < l->definition->member_count && leader_heard(l, member);
}
