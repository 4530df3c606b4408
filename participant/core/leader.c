/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"
#include "participant/core/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_STRICT_US  1000000U            /* from leading to the first round of the interval */
#define START_PARTIAL_US TIDE_LEADER_DEAD_US /* partial: time for the others to be heard */

struct peer {
    bool up;
    bool heard; /* a heartbeat came, over this link, not longer than TIDE_LEADER_DEAD_US ago */
    bool yields;
    uint64_t heard_us;
    uint64_t incarnation;
    uint64_t sequence;
    uint32_t reach;
    struct epoch epoch;
};

enum phase {
    PHASE_IDLE = 0,
    PHASE_HOLDING,
    PHASE_SEALING,
};

struct seat { /* a member in the round under way */
    bool in_set;
    bool held;
    bool sealed;
    enum round_reason wrong; /* what its SEALED says is wrong; NONE */
};

struct running {
    enum phase phase;
    struct round_order order;
    uint32_t budget_us;
    uint64_t began_us;
    uint64_t hold_us; /* until the last HELD; 0: never complete */
    unsigned slowest; /* whose HELD came last so far, with slowest_us */
    uint64_t slowest_us;
    uint64_t deadline_us;
    struct seat seats[TIDE_MEMBERS_MAX];
    struct msg_member_sum sums[TIDE_MEMBERS_MAX]; /* by member index */
    uint64_t incarnations[TIDE_DISKS_MAX];        /* sent with HOLD, by flat disk index */
    struct round_mark marks[TIDE_DISKS_MAX];      /* by flat disk index */
};

enum request_state {
    REQUEST_FREE = 0,
    REQUEST_WAITING,   /* for the next round here */
    REQUEST_IN_ROUND,  /* the round under way answers it */
    REQUEST_FORWARDED, /* the leader answers it */
};

struct request {
    enum request_state state;
    bool local;
    struct name from; /* unless local */
    struct msg_take take;
    uint64_t deadline_us;
};

struct answer {
    bool used;
    struct msg_taken taken;
};

struct leader {
    struct leader_config config;
    const struct definition *definition; /* not owned; may be NULL */
    unsigned self;
    struct policy policy;
    uint64_t now_us;

    struct peer peers[TIDE_MEMBERS_MAX];
    struct msg_tap taps[TIDE_DISKS_MAX]; /* as last heard, by flat disk index; own too */
    uint64_t sequence;                   /* of heartbeats sent */
    bool heartbeat_due;                  /* something in it changed */
    uint64_t heartbeat_us;               /* last one to all */
    unsigned reach;

    int leads;             /* -1: nobody */
    uint64_t due_us;       /* next round of the interval, while leading */
    uint64_t gap_until_us; /* no round before, whoever asks */
    uint64_t back_off_us;  /* no round of the interval before */
    uint64_t retry_us;     /* a failed round is tried again; 0: none is */
    unsigned retries;      /* in a row, so far */
    struct share share;    /* of time that the group was held, whoever led */
    unsigned fails;        /* rounds failed in a row */
    uint64_t yield_until_us;
    struct id yield_round; /* zero: does not yield */

    struct running running;
    struct request requests[TIDE_LEADER_TAKES_MAX];
    struct answer answers[TIDE_LEADER_ANSWERS_MAX];
    unsigned answers_next;

    const struct leader_outbox *outbox; /* during a step */
    struct msg out;                     /* the message being given out */
    struct leader_round told;           /* the round being given out */
};

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

static void put(struct leader *l, const struct leader_effect *effect)
{
    l->outbox->put(l->outbox->context, effect);
}

static void note(struct leader *l, const struct msg *msg, const char *what)
{
    char text[192];
    snprintf(text, sizeof text, "message from \"%s\" ignored: %s", msg->head.from.s, what);
    put(l, &(struct leader_effect){.type = LEADER_NOTE, .text = text});
}

static struct msg *compose(struct leader *l, enum msg_type type)
{
    struct msg *msg = &l->out;
    memset(msg, 0, msg_size(type));
    msg->type = type;
    msg->head.features = TIDE_MSG_FEATURES;
    msg->head.group = l->definition->group;
    msg->head.from = l->config.name;
    msg->head.epoch = l->definition->epoch;
    msg->head.incarnation = l->config.incarnation;
    return msg;
}

static void send_to(struct leader *l, unsigned member)
{
    l->out.head.to = l->definition->members[member].name;
    put(l, &(struct leader_effect){.type = LEADER_SEND, .to = member, .msg = &l->out});
}

static void send_to_set(struct leader *l)
{
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (l->running.seats[m].in_set) {
            send_to(l, m);
        }
    }
}

/* ---- heartbeats and who leads ---- */

static bool candidate(const struct leader *l, unsigned member)
{
    return member < definition_candidates(l->definition);
}

static bool heard(const struct leader *l, unsigned member)
{
    return member == l->self || l->peers[member].heard;
}

static void compose_heartbeat(struct leader *l)
{
    struct msg *msg = compose(l, MSG_HEARTBEAT);
    const struct definition_member *self = &l->definition->members[l->self];
    msg->heartbeat.reach = l->reach;
    msg->heartbeat.yield_round = l->yield_round;
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
            send_to(l, m);
        }
    }
    l->heartbeat_us = l->now_us;
    l->heartbeat_due = false;
}

static void forget_peer(struct leader *l, unsigned member)
{
    const struct definition_member *m = &l->definition->members[member];
    l->peers[member].heard = false;
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
        reach += heard(l, m);
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
        if (!heard(l, m)) {
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

static bool leading(const struct leader *l)
{
    return l->definition != NULL && l->leads == (int)l->self;
}

/* ---- requests ---- */

static void give_answer(struct leader *l, const struct msg_taken *taken, bool local,
                        const struct name *from)
{
    if (local) {
        put(l, &(struct leader_effect){.type = LEADER_TAKEN, .taken = taken});
        return;
    }
    int to = l->definition == NULL ? -1 : definition_find_member(l->definition, from);
    if (to < 0 || (unsigned)to == l->self || !l->peers[to].up) {
        return; /* it asks again, or gives up at its own deadline */
    }
    compose(l, MSG_TAKEN)->taken = *taken;
    send_to(l, (unsigned)to);
}

static void settle(struct leader *l, struct request *request, const struct msg_taken *taken)
{
    l->answers[l->answers_next] = (struct answer){.used = true, .taken = *taken};
    l->answers_next = (l->answers_next + 1) % TIDE_LEADER_ANSWERS_MAX;
    request->state = REQUEST_FREE;
    give_answer(l, taken, request->local, &request->from);
}

static void decline(const struct msg_take *take, enum round_reason reason, const char *text,
                    struct msg_taken *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->request = take->request;
    ret->reason = reason;
    snprintf(ret->text, sizeof ret->text, "%s", text);
}

static void settle_declined(struct leader *l, struct request *request, enum round_reason reason,
                            const char *text)
{
    struct msg_taken taken;
    decline(&request->take, reason, text, &taken);
    settle(l, request, &taken);
}

static void forward(struct leader *l, struct request *request)
{
    request->state = REQUEST_FORWARDED;
    compose(l, MSG_TAKE)->take = request->take;
    send_to(l, (unsigned)l->leads);
}

/* Each waiting request goes where it belongs, now that this is who leads. Forwarded ones are sent
 * again with every heartbeat: a repeat costs nothing. */
static void route_requests(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state == REQUEST_FREE || request->state == REQUEST_IN_ROUND) {
            continue;
        }
        if (leading(l)) {
            request->state = REQUEST_WAITING;
        } else if (!request->local) {
            settle_declined(l, request, ROUND_REASON_NO_LEADER,
                            "another member leads now; ask again");
        } else if (l->leads < 0) {
            settle_declined(l, request, ROUND_REASON_NO_LEADER,
                            "none of the members that may lead is reached");
        } else {
            forward(l, request);
        }
    }
}

static void on_take(struct leader *l, const struct msg_take *take, bool local,
                    const struct name *from)
{
    for (unsigned i = 0; i < TIDE_LEADER_ANSWERS_MAX; i++) {
        if (l->answers[i].used && id_equal(&l->answers[i].taken.request, &take->request)) {
            give_answer(l, &l->answers[i].taken, local, from);
            return;
        }
    }
    struct request *free_slot = NULL;
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_FREE) {
            free_slot = free_slot == NULL ? &l->requests[i] : free_slot;
        } else if (id_equal(&l->requests[i].take.request, &take->request)) {
            return; /* on its way */
        }
    }
    struct msg_taken taken;
    memset(&taken, 0, sizeof taken);
    if (l->definition == NULL) {
        decline(take, ROUND_REASON_NO_DEFINITION,
                "the coordinator has issued no definition to this member yet", &taken);
    } else if (take->kind != ROUND_KIND_CRASH) {
        decline(take, ROUND_REASON_KIND,
                "application-consistent rounds cannot be taken yet: ask for kind crash", &taken);
    } else if (l->leads < 0) {
        decline(take, ROUND_REASON_NO_LEADER, "none of the members that may lead is reached",
                &taken);
    } else if (!local && !leading(l)) {
        decline(take, ROUND_REASON_NO_LEADER, "this member does not lead; ask again", &taken);
    } else if (free_slot == NULL) {
        decline(take, ROUND_REASON_BUSY, "too many requests are waiting; ask again later", &taken);
    } else {
        *free_slot = (struct request){.state = REQUEST_WAITING,
                                      .local = local,
                                      .take = *take,
                                      .deadline_us = l->now_us + TIDE_LEADER_TAKE_US};
        if (!local) {
            free_slot->from = *from;
        }
        if (!leading(l)) {
            forward(l, free_slot);
        }
        return;
    }
    give_answer(l, &taken, local, from);
}

static void expire_requests(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        bool waits = request->state == REQUEST_WAITING || request->state == REQUEST_FORWARDED;
        if (waits && l->now_us >= request->deadline_us) {
            settle_declined(l, request, ROUND_REASON_TIMEOUT, "nobody answered in time; ask again");
        }
    }
}

static void forget_retry(struct leader *l)
{
    l->retry_us = 0;
    l->retries = 0;
}

/* ---- the end of a round ---- */

static void tell_round(struct leader *l)
{
    struct leader_round *told = &l->told;
    put(l, &(struct leader_effect){.type = LEADER_ROUND, .round = told});
    enum request_state which = told->began ? REQUEST_IN_ROUND : REQUEST_WAITING;
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state != which) {
            continue;
        }
        struct msg_taken taken;
        decline(&request->take, told->sum.reason, told->sum.text, &taken);
        taken.round = told->sum.round;
        taken.sealed = told->sum.sealed_by_all;
        taken.member = told->sum.member;
        settle(l, request, &taken);
    }
}

static void set_wrong(struct leader *l, enum round_reason reason, unsigned member, const char *text)
{
    struct msg_sum *sum = &l->told.sum;
    sum->reason = reason;
    sum->member = l->definition->members[member].name;
    snprintf(sum->text, sizeof sum->text, "%s", text);
}

static void init_told(struct leader *l, bool began)
{
    struct leader_round *told = &l->told;
    memset(told, 0, sizeof *told);
    told->began = began;
    told->own = true;
    told->leader = l->self;
}

static bool may_yield(const struct leader *l)
{
    for (unsigned m = 0; m < definition_candidates(l->definition); m++) {
        if (m != l->self && heard(l, m) && !l->peers[m].yields && l->peers[m].reach >= l->reach) {
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
    l->fails++;
    bool contended = sum->reason == ROUND_REASON_BUSY || sum->reason == ROUND_REASON_DUTY;
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
static void count_hold(struct leader *l, const struct msg_sum *sum, uint64_t unknown_us)
{
    uint64_t hold_us = sum->hold_us_max;
    if (!sum->sealed_by_all && hold_us < unknown_us) {
        hold_us = unknown_us;
    }
    share_add(&l->share, l->now_us,
              hold_us < TIDE_GATE_CAP_MAX_US ? hold_us : TIDE_GATE_CAP_MAX_US);
}

/* Sums up and tells everyone. What was wrong is in told.sum already, or else found here. */
static void end_round(struct leader *l)
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
        if (sum->reason == ROUND_REASON_NONE && !seat->sealed) {
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
    told->full = set_is_full(&r->order.set);
    told->budget_us = r->budget_us;
    told->hold_us = r->hold_us;
    if (r->slowest_us != 0) {
        told->slowest = l->definition->members[r->slowest].name;
        told->slowest_us = r->slowest_us;
    }
    told->total_us = l->now_us - r->began_us;
    count_hold(l, sum, told->total_us < r->budget_us ? told->total_us : r->budget_us);
    r->phase = PHASE_IDLE;
    compose(l, MSG_SUM)->sum = *sum;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (m != l->self && l->peers[m].up) {
            send_to(l, m);
        }
    }
    learn_from(l);
    tell_round(l);
}

static void fail_round(struct leader *l, enum round_reason reason, unsigned member,
                       const char *text)
{
    TIDE_CHECK(l->running.phase == PHASE_HOLDING);
    struct msg *msg = compose(l, MSG_ABORT);
    msg->abort.round = l->running.order.round;
    msg->abort.reason = reason;
    send_to_set(l);
    l->gap_until_us = l->now_us + TIDE_LEADER_GAP_US;
    init_told(l, true);
    set_wrong(l, reason, member, text);
    end_round(l);
}

/* ---- a round ---- */

/* Why the member cannot take part; NONE where it can. */
static enum round_reason ready(const struct leader *l, unsigned member)
{
    if (!heard(l, member)) {
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
        if (!tap->whole) {
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
    struct msg *msg = compose(l, MSG_HOLD);
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
            send_to(l, m);
        }
    }
}

static void begin_round(struct leader *l, const struct id *random)
{
    struct running *r = &l->running;
    TIDE_CHECK(r->phase == PHASE_IDLE);
    TIDE_CHECK(!id_is_zero(random));
    memset(r, 0, sizeof *r);
    r->order = (struct round_order){.round = *random,
                                    .group = l->definition->group,
                                    .epoch = l->definition->epoch,
                                    .scope = ROUND_SCOPE_GROUP,
                                    .kind = ROUND_KIND_CRASH};
    set_init(&r->order.set, l->definition->disk_count);
    init_told(l, false);
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        enum round_reason reason = ready(l, m);
        if (reason == ROUND_REASON_NONE) {
            definition_set_member(l->definition, m, &r->order.set);
            r->seats[m].in_set = true;
        } else if (l->told.sum.reason == ROUND_REASON_NONE) {
            set_wrong(l, reason, m, ready_text(reason));
            if (reason == ROUND_REASON_NOT_WHOLE) {
                tell_not_whole(l, m);
            }
        }
    }
    bool all = l->told.sum.reason == ROUND_REASON_NONE;
    if (set_size(&r->order.set) == 0 || (!all && l->policy.missing == POLICY_MISSING_STRICT)) {
        tell_round(l);
        return;
    }
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING) {
            l->requests[i].state = REQUEST_IN_ROUND;
        }
    }
    for (unsigned i = 0; i < l->definition->disk_count; i++) {
        r->incarnations[i] = l->taps[i].incarnation;
    }
    r->phase = PHASE_HOLDING;
    r->budget_us = l->policy.hold_us_max;
    r->began_us = l->now_us;
    r->deadline_us = l->now_us + 2 * (uint64_t)r->budget_us; /* until the first HELD */
    send_holds(l);
}

static void release(struct leader *l)
{
    struct running *r = &l->running;
    struct round_mark marks[TIDE_DISKS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < l->definition->disk_count; i++) {
        if (set_has(&r->order.set, i)) {
            marks[count++] = r->marks[i];
        }
    }
    struct msg *msg = compose(l, MSG_RELEASE);
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
    if (held->mark_count != m->disk_count) {
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

static void on_held(struct leader *l, unsigned member, const struct msg *msg)
{
    struct running *r = &l->running;
    struct seat *seat = &r->seats[member];
    if (!is_current(l, &msg->held.round, member) || r->phase != PHASE_HOLDING || seat->held) {
        return;
    }
    if (!epoch_equal(&msg->head.epoch, &r->order.epoch)) {
        fail_round(l, ROUND_REASON_EPOCH, member, "it answered under another definition");
        return;
    }
    if (!take_marks(l, member, &msg->held)) {
        fail_round(l, ROUND_REASON_DISK_SET, member,
                   "its marks are not one for each of its disks, of the taps that were asked");
        return;
    }
    bool first = true;
    seat->held = true;
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
    if (all || (PLANTED(RELEASE_EARLY) && !first)) {
        release(l);
    }
}

static void on_refused(struct leader *l, unsigned member, const struct msg *msg)
{
    if (is_current(l, &msg->refused.round, member) && l->running.phase == PHASE_HOLDING) {
        fail_round(l, msg->refused.reason, member, msg->refused.text);
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
    for (unsigned i = 0; i < sealed->seal_count; i++) {
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
    if (reason == ROUND_REASON_NONE && sealed->outcome == ROUND_OUTCOME_EXPIRED) {
        reason = ROUND_REASON_EXPIRED;
    } else if (reason == ROUND_REASON_NONE && sealed->outcome == ROUND_OUTCOME_ABORTED) {
        reason = ROUND_REASON_ABORTED;
    }
    return reason;
}

static void on_sealed(struct leader *l, unsigned member, const struct msg *msg)
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
        fail_round(l, reason, member, "its holds ended before the release");
        return;
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && !r->seats[m].sealed) {
            return;
        }
    }
    init_told(l, true);
    end_round(l);
}

static void check_deadline(struct leader *l)
{
    struct running *r = &l->running;
    if (r->phase == PHASE_IDLE || l->now_us < r->deadline_us) {
        return;
    }
    if (r->phase == PHASE_SEALING) {
        init_told(l, true);
        end_round(l);
        return;
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && !r->seats[m].held) {
            fail_round(l, ROUND_REASON_TIMEOUT, m, "it did not hold within the budget");
            return;
        }
    }
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
    peer->epoch = msg->head.epoch;
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
    init_told(l, true);
    l->told.own = false;
    l->told.leader = member;
    l->told.sum = msg->sum;
    count_hold(l, &msg->sum, l->policy.hold_us_max);
    put(l, &(struct leader_effect){.type = LEADER_ROUND, .round = &l->told});
}

static void on_taken(struct leader *l, const struct msg *msg)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state == REQUEST_FORWARDED &&
            id_equal(&request->take.request, &msg->taken.request)) {
            settle(l, request, &msg->taken);
            return;
        }
    }
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
        on_held(l, member, msg);
        break;
    case MSG_REFUSED:
        on_refused(l, member, msg);
        break;
    case MSG_SEALED:
        on_sealed(l, member, msg);
        break;
    case MSG_SUM:
        if (!own) {
            on_sum(l, member, msg);
        }
        break;
    case MSG_TAKE:
        if (!own) {
            on_take(l, &msg->take, false, &msg->head.from);
        }
        break;
    case MSG_TAKEN:
        if (!own) {
            on_taken(l, msg);
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
        send_to(l, member);
        return;
    }
    forget_peer(l, member);
    struct running *r = &l->running;
    if (r->phase == PHASE_HOLDING && r->seats[member].in_set) {
        fail_round(l, ROUND_REASON_MISSING, member, "its link ended in mid-round");
    }
}

static void on_definition(struct leader *l, const struct definition *definition, unsigned self)
{
    if (l->running.phase == PHASE_HOLDING) {
        fail_round(l, ROUND_REASON_EPOCH, l->self, "the definition changed in mid-round");
    } else if (l->running.phase == PHASE_SEALING) {
        init_told(l, true);
        end_round(l);
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
    forget_retry(l);
    l->yield_round = (struct id){{0}};
    if (l->leads >= 0) {
        l->leads = -1;
        put(l, &(struct leader_effect){.type = LEADER_CHANGE, .leads = -1});
    }
    if (definition == NULL) {
        for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
            if (l->requests[i].state != REQUEST_FREE) {
                settle_declined(l, &l->requests[i], ROUND_REASON_NO_DEFINITION,
                                "this member is in no definition any more");
            }
        }
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
    forget_retry(l);
    if (leading(l)) {
        l->fails = 0;
        l->due_us = l->now_us + (l->policy.missing == POLICY_MISSING_STRICT ? START_STRICT_US
                                                                            : START_PARTIAL_US);
    }
    put(l, &(struct leader_effect){.type = LEADER_CHANGE, .leads = leads});
    route_requests(l);
}

static bool has_waiting(const struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING) {
            return true;
        }
    }
    return false;
}

/* Says that a round of the interval is skipped, and why. */
static void spare(struct leader *l)
{
    char text[TIDE_MSG_TEXT_MAX + 1];
    snprintf(text, sizeof text,
             "the group was held for %llu ms in the last %u s, %llu more are expected, %u are the "
             "limit: this round is skipped",
             (unsigned long long)share_held_us(&l->share, l->now_us) / 1000, TIDE_SHARE_WINDOW_S,
             (unsigned long long)share_expected_us(&l->share) / 1000, TIDE_SHARE_LIMIT_US / 1000);
    init_told(l, false);
    set_wrong(l, ROUND_REASON_DUTY, l->self, text);
    tell_round(l);
}

/* When the next round may begin; UINT64_MAX: not here, or not before this one is over. */
static uint64_t next_round_us(const struct leader *l)
{
    if (!leading(l) || l->running.phase != PHASE_IDLE) {
        return UINT64_MAX;
    }
    uint64_t at = l->retry_us != 0 && l->retry_us < l->due_us ? l->retry_us : l->due_us;
    at = at > l->back_off_us ? at : l->back_off_us;
    if (has_waiting(l)) {
        at = l->now_us;
    }
    return at > l->gap_until_us ? at : l->gap_until_us;
}

static void on_tick(struct leader *l, const struct id *random)
{
    if (l->definition == NULL) {
        return;
    }
    check_deadline(l);
    look_around(l);
    expire_requests(l);
    if (l->now_us >= l->heartbeat_us + TIDE_LEADER_HEARTBEAT_US) {
        for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
            if (l->requests[i].state == REQUEST_FORWARDED && l->leads >= 0) {
                forward(l, &l->requests[i]);
            }
        }
    }
    if (l->now_us >= next_round_us(l)) {
        bool due = l->now_us >= l->due_us;
        l->due_us += due ? l->policy.interval_ms * 1000 : 0;
        if (has_waiting(l) || l->due_us <= l->now_us) { /* a round asked for counts as one */
            l->due_us = l->now_us + l->policy.interval_ms * 1000;
        }
        if (due) {
            l->retries = 0;
        }
        l->retry_us = 0;
        if (has_waiting(l) || share_allows(&l->share, l->now_us)) {
            begin_round(l, random);
        } else {
            spare(l);
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
        on_take(l, event->take, true, NULL);
        break;
    case LEADER_TICK:
        on_tick(l, &event->random);
        break;
    default:
        check_failed("known leader event", __FILE__, __LINE__);
    }
    if (l->definition != NULL) {
        look_around(l);
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
    if (l->running.phase != PHASE_IDLE) {
        at = sooner(at, l->running.deadline_us);
    }
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (m != l->self && l->peers[m].heard) {
            at = sooner(at, l->peers[m].heard_us + TIDE_LEADER_DEAD_US);
        }
    }
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING || l->requests[i].state == REQUEST_FORWARDED) {
            at = sooner(at, l->requests[i].deadline_us);
        }
    }
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

bool leader_hears(const struct leader *l, unsigned member)
{
    return l->definition != NULL && member < l->definition->member_count && heard(l, member);
}
