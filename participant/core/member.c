/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/member.h"

#include "common/core/check.h"
#include "common/core/planted.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct part {             /* one disk in the round under way */
    uint64_t incarnation; /* that the order is for */
    bool ordered;
    bool held;
    bool done; /* sealed, refused, or lost: nothing more will come */
    bool sealed;
    struct round_mark mark;
    struct tapctl_sealed seal; /* with sealed */
};

struct ended {
    struct id round;
    enum round_outcome outcome; /* 0: free */
};

struct member {
    struct member_config config;
    struct prng delays;
    const struct definition *definition; /* not owned; may be NULL */
    unsigned self;
    uint64_t now_us;
    struct member_tap taps[TIDE_MEMBER_DISKS_MAX];

    enum member_state state;
    struct round_order order;
    unsigned leader;
    uint32_t version; /* of the wire, that the leader chose for the round */
    uint32_t budget_us;
    uint64_t deadline_us; /* DELAY: act then; other states: give up then */
    bool held_sent;
    struct hash cut; /* RELEASED */
    struct part parts[TIDE_MEMBER_DISKS_MAX];

    struct ended ended[TIDE_MEMBER_ENDED_MAX];
    unsigned ended_next;

    const struct member_outbox *outbox; /* during a step */
    struct msg out;                     /* the message being given out */
    struct statement statement;
};

/* Why an order is not obeyed. */
struct refusal {
    enum round_reason reason;
    enum round_outcome outcome; /* with ENDED */
    struct id stream;           /* zero: the member */
    char text[TIDE_MSG_TEXT_MAX + 1];
};

struct member *member_new(const struct member_config *config)
{
    TIDE_CHECK(config->incarnation != 0);
    TIDE_CHECK(config->hold_delay_us_max <= TIDE_MEMBER_DELAY_US_MAX);
    struct member *member = calloc(1, sizeof *member);
    if (member == NULL) {
        return NULL;
    }
    member->config = *config;
    uint64_t hash = 14695981039346656037ULL; /* FNV-1a of the name: each member its own sequence */
    for (const char *at = config->name.s; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 1099511628211ULL;
    }
    prng_init(&member->delays, config->hold_delay_seed ^ hash);
    return member;
}

void member_free(struct member *member)
{
    free(member);
}

/* ---- effects ---- */

static void put(struct member *m, const struct member_effect *effect)
{
    m->outbox->put(m->outbox->context, effect);
}

static void note(struct member *m, const char *what, const struct id *round)
{
    char hex[TIDE_ID_HEX];
    char text[160];
    snprintf(text, sizeof text, "%s (round %s)", what, id_hex(round, hex));
    put(m, &(struct member_effect){.type = MEMBER_NOTE, .text = text});
}

static struct msg *compose(struct member *m, enum msg_type type, const struct name *to)
{
    struct msg *msg = &m->out;
    memset(msg, 0, msg_size(type));
    msg->type = type;
    msg->head.version = type == MSG_HELD || type == MSG_SEALED ? m->version : TIDE_MSG_VERSION_MIN;
    msg->head.features = TIDE_MSG_FEATURES;
    msg->head.from = m->config.name;
    msg->head.to = *to;
    msg->head.incarnation = m->config.incarnation;
    if (m->definition != NULL) {
        msg->head.group = m->definition->group;
        msg->head.epoch = m->definition->epoch;
    }
    return msg;
}

static struct msg *compose_to_leader(struct member *m, enum msg_type type)
{
    return compose(m, type, &m->definition->members[m->leader].name);
}

static void send(struct member *m, int to)
{
    put(m, &(struct member_effect){.type = MEMBER_SEND, .to = to, .msg = &m->out});
}

static void send_refused(struct member *m, int to, const struct name *name, const struct id *group,
                         const struct id *round, const struct refusal *why)
{
    struct msg *msg = compose(m, MSG_REFUSED, name);
    msg->head.group = *group;
    msg->refused.round = *round;
    msg->refused.reason = why->reason;
    msg->refused.outcome = (uint32_t)why->outcome;
    msg->refused.stream = why->stream;
    memcpy(msg->refused.text, why->text, sizeof why->text);
    send(m, to);
}

/* ---- what is known ---- */

static unsigned disk_count(const struct member *m)
{
    return m->definition == NULL ? 0 : m->definition->members[m->self].disk_count;
}

static const struct definition_disk *disk_of(const struct member *m, unsigned disk)
{
    TIDE_CHECK(disk < disk_count(m));
    return &m->definition->disks[m->definition->members[m->self].disk_first + disk];
}

static const struct ended *find_ended(const struct member *m, const struct id *round)
{
    for (unsigned i = 0; i < TIDE_MEMBER_ENDED_MAX; i++) {
        if (m->ended[i].outcome != 0 && id_equal(&m->ended[i].round, round)) {
            return &m->ended[i];
        }
    }
    return NULL;
}

static void remember_ended(struct member *m, const struct id *round, enum round_outcome outcome)
{
    if (find_ended(m, round) != NULL) {
        return; /* the first end is the end */
    }
    m->ended[m->ended_next] = (struct ended){.round = *round, .outcome = outcome};
    m->ended_next = (m->ended_next + 1) % TIDE_MEMBER_ENDED_MAX;
}

static bool tap_attached(const struct member *m, unsigned disk)
{
    return m->taps[disk].attached && id_equal(&m->taps[disk].stream, &disk_of(m, disk)->stream);
}

static bool active(const struct member *m, const struct id *round)
{
    return m->state != MEMBER_IDLE && id_equal(&m->order.round, round);
}

/* ---- the end of a round ---- */

static unsigned badness(enum round_outcome outcome)
{
    switch (outcome) {
    case ROUND_OUTCOME_HELD:
        return 0;
    case ROUND_OUTCOME_UNHELD:
        return 1;
    case ROUND_OUTCOME_EXPIRED:
        return 2;
    case ROUND_OUTCOME_ABORTED:
    default:
        return 3;
    }
}

static enum round_outcome part_outcome(const struct part *part)
{
    return part->sealed ? part->seal.outcome : ROUND_OUTCOME_ABORTED;
}

static enum round_outcome worst_outcome(const struct member *m)
{
    enum round_outcome worst = ROUND_OUTCOME_HELD;
    for (unsigned i = 0; i < disk_count(m); i++) {
        enum round_outcome outcome = part_outcome(&m->parts[i]);
        if (badness(outcome) > badness(worst)) {
            worst = outcome;
        }
    }
    return worst;
}

static void send_sealed(struct member *m, enum round_outcome outcome)
{
    struct msg *msg = compose_to_leader(m, MSG_SEALED);
    msg->sealed.round = m->order.round;
    msg->sealed.outcome = outcome;
    msg->sealed.seal_count = disk_count(m);
    for (unsigned i = 0; i < disk_count(m); i++) {
        const struct part *part = &m->parts[i];
        struct msg_seal *seal = &msg->sealed.seals[i];
        seal->stream = disk_of(m, i)->stream;
        seal->outcome = part_outcome(part);
        if (part->sealed) {
            seal->appended = part->seal.appended && part->seal.seal_lsn != 0;
            seal->lsn = seal->appended ? part->seal.seal_lsn : 0;
            seal->hold_us = part->seal.hold_us;
            seal->writes_held = part->seal.writes_held;
            seal->bytes_held = part->seal.bytes_held;
        }
    }
    send(m, (int)m->leader);
}

static void attest(struct member *m)
{
    struct statement *s = &m->statement;
    memset(s, 0, sizeof *s);
    s->group = m->definition->group;
    s->member = m->config.name;
    s->round = m->order.round;
    s->epoch = m->order.epoch;
    s->cut = m->cut;
    s->disk_count = disk_count(m);
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct part *part = &m->parts[i];
        if (!part->seal.appended) {
            return; /* nothing to attest: the round is lost on this disk */
        }
        s->disks[i] = (struct statement_disk){.mark = part->mark,
                                              .seal_lsn = part->seal.seal_lsn,
                                              .outcome = part->seal.outcome,
                                              .hold_us = part->seal.hold_us,
                                              .writes_held = part->seal.writes_held};
    }
    put(m, &(struct member_effect){.type = MEMBER_ATTEST, .disk = 0, .statement = s});
}

static void finish(struct member *m)
{
    enum round_outcome outcome = worst_outcome(m);
    remember_ended(m, &m->order.round, outcome);
    if (m->held_sent) {
        send_sealed(m, outcome);
    }
    if (m->state == MEMBER_RELEASED && badness(outcome) <= badness(ROUND_OUTCOME_UNHELD)) {
        attest(m);
    }
    m->state = MEMBER_IDLE;
}

static void finish_if_done(struct member *m)
{
    if (m->state != MEMBER_RELEASED && m->state != MEMBER_LETTING_GO) {
        return;
    }
    for (unsigned i = 0; i < disk_count(m); i++) {
        if (m->parts[i].ordered && !m->parts[i].done) {
            return;
        }
    }
    finish(m);
}

/* The round is lost here: every tap that holds or may yet hold lets go at once. The leader is told
 * at once too, so that the others are let go, unless it was who said so (why NULL); if HELD went
 * out, SEALED follows. */
static void let_go(struct member *m, const struct refusal *why)
{
    TIDE_CHECK(m->state == MEMBER_DELAY || m->state == MEMBER_ORDERED ||
               m->state == MEMBER_HELD_ALL);
    struct tapctl_round order = {.round = m->order.round};
    for (unsigned i = 0; i < disk_count(m); i++) {
        if (m->parts[i].ordered && !m->parts[i].done) {
            put(m, &(struct member_effect){.type = MEMBER_ORDER_ABORT, .disk = i, .order = &order});
        }
    }
    if (why != NULL) {
        send_refused(m, (int)m->leader, &m->definition->members[m->leader].name,
                     &m->definition->group, &m->order.round, why);
    }
    m->state = MEMBER_LETTING_GO;
    m->deadline_us = m->now_us + TIDE_MEMBER_GIVE_UP_US;
    finish_if_done(m);
}

static void let_go_over(struct member *m, enum round_reason reason, unsigned disk, const char *text)
{
    struct refusal why = {.reason = reason, .stream = disk_of(m, disk)->stream};
    snprintf(why.text, sizeof why.text, "disk \"%s\": %s", disk_of(m, disk)->name.s, text);
    let_go(m, &why);
}

/* ---- orders of a leader ---- */

/* What the leader last saw of the tap; 0: nothing. */
static uint64_t seen_incarnation(const struct msg_hold *hold, const struct id *stream)
{
    for (unsigned i = 0; i < hold->tap_count; i++) {
        if (id_equal(&hold->taps[i].stream, stream)) {
            return hold->taps[i].incarnation;
        }
    }
    return 0;
}

static bool refuse(struct refusal *ret, enum round_reason reason,
                   const struct definition_disk *disk, const char *text)
{
    ret->reason = reason;
    if (disk != NULL) {
        ret->stream = disk->stream;
        snprintf(ret->text, sizeof ret->text, "disk \"%s\": %s", disk->name.s, text);
    } else {
        snprintf(ret->text, sizeof ret->text, "%s", text);
    }
    return false;
}

static bool judge_tap(const struct member *m, unsigned disk, uint64_t seen, struct refusal *ret)
{
    const struct definition_disk *d = disk_of(m, disk);
    const struct member_tap *tap = &m->taps[disk];
    if (!tap_attached(m, disk)) {
        return refuse(ret, ROUND_REASON_NOT_ATTACHED, d,
                      tap->attached ? "its tap has another stream than the definition"
                                    : "its tap is not attached");
    }
    if (tap->incarnation != seen && !PLANTED_EITHER(MEMBER_INCARNATION, INCARNATION_IGNORED)) {
        return refuse(ret, ROUND_REASON_INCARNATION, d,
                      "its tap has started again since the leader saw it");
    }
    if ((!tap->whole && !PLANTED_EITHER(TAKERS_WHOLE, WHOLE_IGNORED)) || !tap->logging) {
        return refuse(ret, ROUND_REASON_NOT_WHOLE, d, "base and log together are not the disk");
    }
    return true;
}

/* Whether it is a set of this definition, and of a leader who may ask for it. */
static bool judge_set(const struct member *m, const struct msg_hold *hold, int leader,
                      struct refusal *ret)
{
    if (hold->set.count != m->definition->disk_count) {
        return refuse(ret, ROUND_REASON_DISK_SET, NULL, "the set is not one of this definition");
    }
    bool own = leader == (int)m->self;
    if (hold->scope == ROUND_SCOPE_MEMBER && (!own || set_size(&hold->set) != disk_count(m))) {
        return refuse(ret, ROUND_REASON_DISK_SET, NULL,
                      "a round of scope member is of all disks of who asks for it, and no others");
    }
    if (hold->scope == ROUND_SCOPE_GROUP && leader >= (int)definition_candidates(m->definition)) {
        return refuse(ret, ROUND_REASON_DISK_SET, NULL,
                      "this member may lead rounds of its own only");
    }
    return true;
}

/* A round of its own that is let go, and waits for no more than its seals to be synced, is no
 * reason to refuse the group's: whether it is a point is in the streams; it is not attested. */
static bool gives_way(const struct member *m, const struct msg_hold *hold)
{
    return m->state == MEMBER_RELEASED && m->order.scope == ROUND_SCOPE_MEMBER &&
           hold->scope == ROUND_SCOPE_GROUP;
}

static bool judge_hold(const struct member *m, const struct msg *msg, int leader,
                       struct refusal *ret)
{
    const struct msg_hold *hold = &msg->hold;
    if (m->definition == NULL) {
        return refuse(ret, ROUND_REASON_NO_DEFINITION, NULL,
                      "the coordinator has issued no definition to this member yet");
    }
    const struct ended *ended = find_ended(m, &hold->round);
    if (ended != NULL && !PLANTED_EITHER(MEMBER_ENDED, ENDED_FORGOTTEN)) {
        ret->outcome = ended->outcome;
        return refuse(ret, ROUND_REASON_ENDED, NULL, "this round has ended here");
    }
    if (m->state != MEMBER_IDLE && !gives_way(m, hold) &&
        !PLANTED_EITHER(MEMBER_BUSY, BUSY_IGNORED)) {
        return refuse(ret, ROUND_REASON_BUSY, NULL, "another round is not over here");
    }
    if (!epoch_equal(&msg->head.epoch, &m->definition->epoch) &&
        !(PLANTED(EPOCH_BY_NUMBER) && msg->head.epoch.number == m->definition->epoch.number)) {
        char here[TIDE_HASH_HEX];
        char text[TIDE_MSG_TEXT_MAX + 1];
        snprintf(text, sizeof text, "the order is for epoch %" PRIu64 ", here it is %" PRIu64 " %s",
                 msg->head.epoch.number, m->definition->epoch.number,
                 hash_hex(&m->definition->epoch.hash, here));
        return refuse(ret, ROUND_REASON_EPOCH, NULL, text);
    }
    if (hold->kind != ROUND_KIND_CRASH) {
        return refuse(ret, ROUND_REASON_KIND, NULL, "only crash-consistent rounds can be taken");
    }
    if ((msg->head.features & ~TIDE_MSG_FEATURES) != 0) {
        return refuse(ret, ROUND_REASON_KIND, NULL,
                      "the round uses features of the wire that this build does not have");
    }
    if (!judge_set(m, hold, leader, ret)) {
        return false;
    }
    unsigned first = m->definition->members[m->self].disk_first;
    for (unsigned i = 0; i < disk_count(m); i++) {
        if (!set_has(&hold->set, first + i)) {
            return refuse(ret, ROUND_REASON_DISK_SET, disk_of(m, i), "the set leaves it out");
        }
        if (!judge_tap(m, i, seen_incarnation(hold, &disk_of(m, i)->stream), ret)) {
            return false;
        }
    }
    return true;
}

static void send_held(struct member *m)
{
    struct msg *msg = compose_to_leader(m, MSG_HELD);
    msg->held.round = m->order.round;
    msg->held.mark_count = disk_count(m);
    for (unsigned i = 0; i < disk_count(m); i++) {
        msg->held.marks[i] = m->parts[i].mark;
    }
    if (PLANTED_EITHER(HELD_EARLY, HELD_EARLY_BLIND)) {
        msg->held.mark_count = 0;
        for (unsigned i = 0; i < disk_count(m); i++) {
            msg->held.marks[msg->held.mark_count] = m->parts[i].mark;
            msg->held.mark_count += m->parts[i].held;
        }
    }
    m->held_sent = true;
    send(m, (int)m->leader);
}

static void order_taps(struct member *m)
{
    struct refusal why;
    memset(&why, 0, sizeof why);
    for (unsigned i = 0; i < disk_count(m); i++) { /* it may have changed while we waited */
        if (!judge_tap(m, i, m->parts[i].incarnation, &why)) {
            let_go(m, &why);
            return;
        }
    }
    m->state = MEMBER_ORDERED;
    m->deadline_us = m->now_us + m->budget_us + TIDE_MEMBER_GIVE_UP_US;
    struct tapctl_hold hold = {
        .order = m->order, .budget_us = m->budget_us, .unheld = m->config.unsafe_no_hold};
    for (unsigned i = 0; i < disk_count(m); i++) {
        hold.incarnation = m->parts[i].incarnation;
        m->parts[i].ordered = true;
        put(m, &(struct member_effect){.type = MEMBER_ORDER_HOLD, .disk = i, .hold = &hold});
    }
}

static void accept_hold(struct member *m, const struct msg *msg, unsigned leader)
{
    const struct msg_hold *hold = &msg->hold;
    m->order = (struct round_order){.round = hold->round,
                                    .group = m->definition->group,
                                    .epoch = m->definition->epoch,
                                    .scope = hold->scope,
                                    .kind = hold->kind,
                                    .set = hold->set};
    m->leader = leader;
    m->version = msg->head.version;
    m->budget_us = hold->budget_us;
    m->held_sent = false;
    memset(&m->cut, 0, sizeof m->cut);
    memset(m->parts, 0, sizeof m->parts);
    for (unsigned i = 0; i < disk_count(m); i++) {
        m->parts[i].incarnation = seen_incarnation(hold, &disk_of(m, i)->stream);
    }
    if (m->config.hold_delay_us_max == 0) {
        order_taps(m);
        return;
    }
    m->state = MEMBER_DELAY;
    m->deadline_us = m->now_us + prng_below(&m->delays, (uint64_t)m->config.hold_delay_us_max + 1);
}

/* A HOLD heard again for the round under way changes nothing. */
static void repeat_hold(struct member *m, const struct msg *msg, unsigned leader)
{
    if (leader != m->leader) {
        note(m, "HOLD for a round of another leader ignored", &msg->hold.round);
    } else if (PLANTED_EITHER(MEMBER_REARMS, BUDGET_REARMED) &&
               (m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL)) {
        order_taps(m);
    } else if (m->state == MEMBER_HELD_ALL) {
        send_held(m);
    } else if (m->state == MEMBER_LETTING_GO) {
        struct refusal why = {.reason = ROUND_REASON_ENDED, .outcome = ROUND_OUTCOME_ABORTED};
        snprintf(why.text, sizeof why.text, "this round has ended here");
        send_refused(m, (int)leader, &msg->head.from, &m->definition->group, &msg->hold.round,
                     &why);
    }
}

static void on_hold(struct member *m, const struct msg *msg, int leader)
{
    if (leader >= 0 && active(m, &msg->hold.round)) {
        repeat_hold(m, msg, (unsigned)leader);
        return;
    }
    struct refusal why;
    memset(&why, 0, sizeof why);
    if (judge_hold(m, msg, leader, &why)) {
        if (m->state != MEMBER_IDLE) { /* it gives way */
            remember_ended(m, &m->order.round, worst_outcome(m));
        }
        accept_hold(m, msg, (unsigned)leader);
        return;
    }
    remember_ended(m, &msg->hold.round, ROUND_OUTCOME_ABORTED); /* no is final */
    send_refused(m, leader, &msg->head.from, &msg->head.group, &msg->hold.round, &why);
}

static void on_release(struct member *m, const struct msg *msg, unsigned leader)
{
    const struct msg_release *release = &msg->release;
    bool any = m->state != MEMBER_IDLE && PLANTED_EITHER(MEMBER_ANY_RELEASE, RELEASE_OF_ANY);
    if (!(active(m, &release->round) || any) || leader != m->leader) {
        note(m, "RELEASE for a round that is not under way here ignored", &release->round);
        return;
    }
    if (m->state == MEMBER_DELAY) {
        note(m, "RELEASE before the hold: the round is lost here", &release->round);
        let_go(m, NULL);
        return;
    }
    if (m->state != MEMBER_HELD_ALL) {
        note(m, "RELEASE while not all taps hold ignored", &release->round);
        return;
    }
    m->state = MEMBER_RELEASED;
    m->deadline_us = m->now_us + TIDE_MEMBER_GIVE_UP_US;
    m->cut = release->cut;
    struct tapctl_round order = {.round = release->round, .cut = release->cut};
    for (unsigned i = 0; i < disk_count(m); i++) {
        if (!m->parts[i].done) {
            put(m,
                &(struct member_effect){.type = MEMBER_ORDER_RELEASE, .disk = i, .order = &order});
        }
    }
}

static void on_abort(struct member *m, const struct msg *msg, unsigned leader)
{
    const struct id *round = &msg->abort.round;
    if (!active(m, round)) {
        remember_ended(m, round, ROUND_OUTCOME_ABORTED); /* its HOLD may come later */
        return;
    }
    if (leader != m->leader) {
        note(m, "ABORT by another than the round's leader ignored", round);
    } else if (m->state == MEMBER_DELAY || m->state == MEMBER_ORDERED ||
               m->state == MEMBER_HELD_ALL) {
        let_go(m, NULL);
    }
}

/* Whether it is for this member, of its group, from a candidate or from itself; *ret_leader is the
 * index of who says so, or -1 where no definition can tell. */
static bool admit(struct member *m, const struct msg *msg, const struct id *round, int *ret_leader)
{
    if (!name_equal(&msg->head.to, &m->config.name)) {
        note(m, "message for another member ignored", round);
        return false;
    }
    *ret_leader = -1;
    if (m->definition == NULL) {
        return msg->type == MSG_HOLD;
    }
    if (!id_equal(&msg->head.group, &m->definition->group)) {
        note(m, "message of another group ignored", round);
        return false;
    }
    int from = definition_find_member(m->definition, &msg->head.from);
    if (from < 0 ||
        ((unsigned)from >= definition_candidates(m->definition) && (unsigned)from != m->self)) {
        note(m, "order by a member that is no candidate ignored", round);
        return false;
    }
    if (msg->type != MSG_HOLD && !epoch_equal(&msg->head.epoch, &m->definition->epoch)) {
        note(m, "order of another epoch ignored", round);
        return false;
    }
    *ret_leader = from;
    return true;
}

static void on_message(struct member *m, const struct msg *msg)
{
    int leader = -1;
    if (msg->type == MSG_HOLD) {
        if (admit(m, msg, &msg->hold.round, &leader)) {
            on_hold(m, msg, leader);
        }
    } else if (msg->type == MSG_RELEASE) {
        if (admit(m, msg, &msg->release.round, &leader)) {
            on_release(m, msg, (unsigned)leader);
        }
    } else if (msg->type == MSG_ABORT) {
        if (admit(m, msg, &msg->abort.round, &leader)) {
            on_abort(m, msg, (unsigned)leader);
        }
    }
}

/* ---- answers of the taps ---- */

static void on_tap_held(struct member *m, unsigned disk, const struct tapctl_held *held)
{
    if (m->state != MEMBER_ORDERED || !active(m, &held->round)) {
        return; /* an ABORT is on its way to it, or was */
    }
    struct part *part = &m->parts[disk];
    if (!part->ordered || part->held || part->done) {
        return;
    }
    if (!id_equal(&held->mark.stream, &disk_of(m, disk)->stream) ||
        held->mark.incarnation != part->incarnation || held->mark.lsn == 0 ||
        id_is_zero(&held->mark.nonce)) {
        let_go_over(m, ROUND_REASON_INCARNATION, disk,
                    "its tap answered for another stream or start");
        return;
    }
    part->held = true;
    part->mark = held->mark;
    for (unsigned i = 0; i < disk_count(m); i++) {
        if (!m->parts[i].held && !PLANTED_EITHER(HELD_EARLY, HELD_EARLY_BLIND)) {
            return;
        }
    }
    m->state = MEMBER_HELD_ALL;
    m->deadline_us = m->now_us + m->budget_us + TIDE_MEMBER_GIVE_UP_US;
    send_held(m);
}

static void on_tap_refused(struct member *m, unsigned disk, const struct tapctl_refused *refused)
{
    if (!active(m, &refused->round) || !m->parts[disk].ordered || m->parts[disk].done) {
        return;
    }
    m->parts[disk].done = true;
    if (m->state == MEMBER_ORDERED) {
        struct refusal why = {.reason = refused->reason, .stream = disk_of(m, disk)->stream};
        if (why.reason == ROUND_REASON_NONE) {
            why.reason = ROUND_REASON_BUSY;
        }
        why.outcome = why.reason == ROUND_REASON_ENDED ? refused->outcome : 0;
        if (why.reason == ROUND_REASON_ENDED && why.outcome == 0) {
            why.outcome = ROUND_OUTCOME_ABORTED;
        }
        snprintf(why.text, sizeof why.text, "disk \"%s\": %s", disk_of(m, disk)->name.s,
                 refused->text);
        let_go(m, &why);
        return;
    }
    finish_if_done(m);
}

static void on_tap_sealed(struct member *m, unsigned disk, const struct tapctl_sealed *sealed)
{
    if (!active(m, &sealed->round) || !m->parts[disk].ordered || m->parts[disk].done) {
        return;
    }
    struct part *part = &m->parts[disk];
    part->done = true;
    part->sealed = true;
    part->seal = *sealed;
    if (m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL) {
        bool expired = sealed->outcome == ROUND_OUTCOME_EXPIRED;
        let_go_over(m, expired ? ROUND_REASON_EXPIRED : ROUND_REASON_ABORTED, disk,
                    expired ? "its budget ran out" : "its tap ended the hold");
        return;
    }
    finish_if_done(m);
}

static void on_tap(struct member *m, unsigned disk, const struct member_tap *tap)
{
    struct member_tap before = m->taps[disk];
    m->taps[disk] = *tap;
    TIDE_CHECK(!tap->attached || tap->incarnation != 0);
    if (before.attached != tap->attached || before.incarnation != tap->incarnation ||
        before.whole != tap->whole || before.gap != tap->gap || before.logging != tap->logging ||
        !id_equal(&before.stream, &tap->stream)) {
        put(m, &(struct member_effect){.type = MEMBER_TAPS});
    }
    struct part *part = &m->parts[disk];
    bool lost = !tap->attached || tap->incarnation != part->incarnation;
    if (m->state == MEMBER_IDLE || !lost || !part->ordered || part->done) {
        return;
    }
    part->done = true;
    if (m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL) {
        let_go_over(m, ROUND_REASON_TAP_LOST, disk, "its tap was lost in mid-round");
        return;
    }
    finish_if_done(m);
}

/* ---- the rest ---- */

static void on_definition(struct member *m, const struct definition *definition, unsigned self)
{
    bool keeps = PLANTED(DELAY_OVER_EPOCH) && m->state == MEMBER_DELAY && definition != NULL &&
                 m->leader < definition->member_count;
    bool waits =
        m->state == MEMBER_DELAY || m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL;
    if (waits && !keeps) {
        struct refusal why = {.reason = ROUND_REASON_EPOCH};
        snprintf(why.text, sizeof why.text, "the definition changed in mid-round");
        let_go(m, &why);
    }
    if (m->state != MEMBER_IDLE && !keeps) {
        finish(m); /* the taps end it by themselves; their disks may have other numbers now */
    }
    TIDE_CHECK(definition == NULL || self < definition->member_count);
    TIDE_CHECK(definition == NULL || name_equal(&definition->members[self].name, &m->config.name));
    m->definition = definition;
    m->self = self;
    memset(m->taps, 0, sizeof m->taps);
    put(m, &(struct member_effect){.type = MEMBER_TAPS});
}

static void on_tick(struct member *m)
{
    if (m->state == MEMBER_IDLE || m->now_us < m->deadline_us) {
        return;
    }
    if (m->state == MEMBER_DELAY) {
        order_taps(m);
        return;
    }
    if (m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL) {
        struct refusal why = {.reason = ROUND_REASON_TIMEOUT};
        snprintf(why.text, sizeof why.text, "a tap or the leader did not answer in time");
        let_go(m, &why);
        return;
    }
    note(m, "a tap did not report how its hold ended", &m->order.round);
    finish(m);
}

static void on_link_down(struct member *m, unsigned peer)
{
    bool waiting =
        m->state == MEMBER_DELAY || m->state == MEMBER_ORDERED || m->state == MEMBER_HELD_ALL;
    if (waiting && peer == m->leader) {
        note(m, "lost the leader: the holds end now", &m->order.round);
        let_go(m, NULL);
    }
}

void member_step(struct member *m, const struct member_event *event,
                 const struct member_outbox *outbox)
{
    m->outbox = outbox;
    if (event->now_us > m->now_us) {
        m->now_us = event->now_us;
    }
    bool of_disk = event->type == MEMBER_TAP || event->type == MEMBER_TAP_HELD ||
                   event->type == MEMBER_TAP_REFUSED || event->type == MEMBER_TAP_SEALED;
    if (of_disk && m->definition == NULL) {
        return;
    }
    TIDE_CHECK(!of_disk || event->disk < disk_count(m));
    switch (event->type) {
    case MEMBER_DEFINITION:
        on_definition(m, event->definition, event->self);
        break;
    case MEMBER_TAP:
        on_tap(m, event->disk, &event->tap);
        break;
    case MEMBER_MESSAGE:
        on_message(m, event->msg);
        break;
    case MEMBER_TAP_HELD:
        on_tap_held(m, event->disk, event->held);
        break;
    case MEMBER_TAP_REFUSED:
        on_tap_refused(m, event->disk, event->refused);
        break;
    case MEMBER_TAP_SEALED:
        on_tap_sealed(m, event->disk, event->sealed);
        break;
    case MEMBER_LINK_DOWN:
        on_link_down(m, event->peer);
        break;
    case MEMBER_TICK:
        on_tick(m);
        break;
    default:
        check_failed("known member event", __FILE__, __LINE__);
    }
    m->outbox = NULL;
}

uint64_t member_wake_us(const struct member *m)
{
    return m->state == MEMBER_IDLE ? UINT64_MAX : m->deadline_us;
}

enum member_state member_state(const struct member *m)
{
    return m->state;
}

unsigned member_taps(const struct member *m, struct msg_tap ret[TIDE_MEMBER_DISKS_MAX])
{
    for (unsigned i = 0; i < disk_count(m); i++) {
        bool attached = tap_attached(m, i);
        ret[i] = (struct msg_tap){.stream = disk_of(m, i)->stream,
                                  .incarnation = attached ? m->taps[i].incarnation : 0,
                                  .whole = attached && m->taps[i].whole && m->taps[i].logging,
                                  .gap = attached ? m->taps[i].gap : 0};
    }
    return disk_count(m);
}
