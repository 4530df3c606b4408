/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"
#include "common/wire/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELF_US 10U /* a message to a member of the same daemon */

void *roundlab_grow(void *from, size_t *room, size_t count, size_t size)
{
    if (count < *room) {
        return from;
    }
    *room = *room == 0 ? 64 : *room * 2;
    void *to = realloc(from, *room * size);
    TIDE_CHECK(to != NULL);
    return to;
}

void roundlab_call(struct roundlab *lab, uint64_t in_us, roundlab_timer_fn *call, void *context,
                   uint64_t a, uint64_t b)
{
    struct call *copy = malloc(sizeof *copy);
    TIDE_CHECK(copy != NULL);
    *copy = (struct call){call, context, a, b};
    roundlab_push(lab, in_us, (struct event){.kind = EV_CALL, .call = copy});
}

struct id roundlab_random_id(struct roundlab *lab)
{
    struct id id;
    for (unsigned i = 0; i < TIDE_ID_SIZE; i += 8) {
        uint64_t bits = prng_next(&lab->prng);
        memcpy(id.b + i, &bits, 8);
    }
    id.b[0] |= 1; /* never zero */
    return id;
}

/* ---- the network ---- */

static void deliver_later(struct roundlab *lab, unsigned from, unsigned to, const struct msg *msg,
                          uint64_t in_us)
{
    static uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    size_t size = envelope_encode(msg, bytes);
    uint8_t *copy = malloc(size);
    TIDE_CHECK(copy != NULL);
    memcpy(copy, bytes, size);
    roundlab_push(lab, in_us,
                  (struct event){.kind = EV_MESSAGE,
                                 .member = to,
                                 .peer = from,
                                 .link = lab->nodes[to].link[from],
                                 .size = size,
                                 .bytes = copy});
}

static void transmit(struct roundlab *lab, unsigned from, unsigned to, const struct msg *msg)
{
    if (from == to) {
        deliver_later(lab, from, to, msg, SELF_US);
        return;
    }
    if (!lab->nodes[from].linked[to]) {
        return;
    }
    struct msg *changed = lab->changed;
    memcpy(changed, msg, msg_size(msg->type));
    struct roundlab_fate fate = {0};
    if (msg->type != MSG_HEARTBEAT) {
        fate.drop = prng_below(&lab->prng, 100) < lab->config.loss_percent;
        fate.copies = prng_below(&lab->prng, 100) < lab->config.again_percent;
    }
    fate.delay_us = lab->config.jitter_us == 0 ? 0 : prng_below(&lab->prng, lab->config.jitter_us);
    if (lab->config.fate != NULL) {
        lab->config.fate(lab, from, to, changed, &fate, lab->config.context);
    }
    if (fate.drop) {
        char what[512];
        roundlab_say_message(lab, msg, what, sizeof what);
        roundlab_say(lab, to, -1, "lost from %s: %s", roundlab_member_name(from), what);
    }
    for (unsigned i = 0; !fate.drop && i <= fate.copies; i++) {
        deliver_later(lab, from, to, changed, lab->config.latency_us + fate.delay_us * (i + 1));
    }
}

/* ---- machines ---- */

static void leader_put(void *context, const struct leader_effect *effect)
{
    struct roundlab *lab = context;
    unsigned self = lab->acting;
    const struct node *node = &lab->nodes[self];
    char r[16];
    if (effect->type == LEADER_SEND) {
        transmit(lab, self, roundlab_node_of(lab, node->definition, effect->to), effect->msg);
    } else if (effect->type == LEADER_CHANGE) {
        const struct definition *of = lab->defining != NULL ? lab->defining : node->definition;
        unsigned leads =
            effect->leads < 0 ? self : roundlab_node_of(lab, of, (unsigned)effect->leads);
        roundlab_say(lab, self, -1, "follows %s",
                     effect->leads < 0 ? "nobody"
                     : leads == self   ? "itself"
                                       : roundlab_member_name(leads));
    } else if (effect->type == LEADER_ROUND && effect->round->own) {
        const struct msg_sum *sum = &effect->round->sum;
        if (!effect->round->began) {
            roundlab_say(lab, self, -1, "takes no round: %s at %s: %s",
                         round_reason_name((unsigned)sum->reason), sum->member.s, sum->text);
        } else if (sum->sealed_by_all) {
            bool waited = effect->round->slowest_us > 10 * lab->config.latency_us;
            roundlab_say(lab, self, -1,
                         "round %s is sealed by all of %u (%s), longest hold %" PRIu64 " us%s%s",
                         roundlab_say_round(lab, &sum->round, r), effect->round->set_members,
                         effect->round->scope == ROUND_SCOPE_MEMBER ? "single VM"
                         : effect->round->full                      ? "full"
                                                                    : "partial",
                         sum->hold_us_max, waited ? ", last " : "",
                         waited ? effect->round->slowest.s : "");
        } else {
            roundlab_say(lab, self, -1, "round %s failed: %s at %s: %s",
                         roundlab_say_round(lab, &sum->round, r),
                         round_reason_name((unsigned)sum->reason), sum->member.s, sum->text);
        }
    } else if (effect->type == LEADER_LACK) {
        const struct leader_lack *lack = effect->lack;
        roundlab_say(lab, self, -1, "the group lacks %s%s%s%s",
                     lack->reason == ROUND_REASON_NONE ? "nothing"
                                                       : round_reason_name((unsigned)lack->reason),
                     lack->member.s[0] == '\0' ? "" : " at ", lack->member.s,
                     lack->alone ? ": it goes on alone" : "");
    } else if (effect->type == LEADER_TAKEN) {
        roundlab_say(lab, self, -1, "its request is answered: %s",
                     effect->taken->sealed ? "sealed" : effect->taken->text);
    } else if (effect->type == LEADER_NOTE) {
        roundlab_say(lab, self, -1, "note: %s", effect->text);
    }
}

/* Bytes of a tapctl, from its start, that a message of that type uses: most are far smaller than
 * the largest. */
static size_t tapctl_size(enum tapctl_type type)
{
#define USED(member)                                                                               \
    (offsetof(struct tapctl, member) + sizeof(((const struct tapctl *)NULL)->member))
    switch ((unsigned)type) {
    case TAPCTL_HOLD:
        return USED(hold);
    case TAPCTL_RELEASE:
    case TAPCTL_ABORT:
        return USED(round);
    case TAPCTL_HELD:
        return USED(held);
    case TAPCTL_REFUSED:
        return USED(refused);
    case TAPCTL_SEALED:
        return USED(sealed);
    default:
        return sizeof(struct tapctl);
    }
#undef USED
}

struct tapctl *roundlab_keep(const struct tapctl *tap)
{
    size_t size = tapctl_size(tap->type);
    struct tapctl *copy = malloc(size);
    TIDE_CHECK(copy != NULL);
    memcpy(copy, tap, size);
    return copy;
}

static void tap_order(struct roundlab *lab, unsigned member, unsigned disk, enum kind kind,
                      const struct tapctl *order)
{
    roundlab_push(lab, TAP_US,
                  (struct event){.kind = kind,
                                 .member = member,
                                 .disk = disk,
                                 .link = lab->nodes[member].disks[disk].connection,
                                 .release = order->type == TAPCTL_RELEASE,
                                 .tap = roundlab_keep(order)});
}

static void member_put(void *context, const struct member_effect *effect)
{
    struct roundlab *lab = context;
    unsigned self = lab->acting;
    const struct node *node = &lab->nodes[self];
    static struct tapctl order;
    char r[16];
    switch (effect->type) {
    case MEMBER_SEND:
        transmit(lab, self,
                 effect->to < 0 ? lab->asked_by
                                : roundlab_node_of(lab, node->definition, (unsigned)effect->to),
                 effect->msg);
        break;
    case MEMBER_ORDER_HOLD:
        order.type = TAPCTL_HOLD;
        order.hold = *effect->hold;
        tap_order(lab, self, roundlab_index_of(lab, self, effect->disk), EV_TAP_HOLD, &order);
        break;
    case MEMBER_ORDER_RELEASE:
    case MEMBER_ORDER_ABORT:
        order.type = effect->type == MEMBER_ORDER_RELEASE ? TAPCTL_RELEASE : TAPCTL_ABORT;
        order.round = *effect->order;
        tap_order(lab, self, roundlab_index_of(lab, self, effect->disk), EV_TAP_ROUND, &order);
        break;
    case MEMBER_ATTEST:
        roundlab_say(
            lab, self, (int)roundlab_index_of(lab, self, effect->disk), "attests %s for %u disks",
            roundlab_say_round(lab, &effect->statement->round, r), effect->statement->disk_count);
        break;
    case MEMBER_TAPS:
        lab->nodes[self].taps_changed = true;
        break;
    case MEMBER_NOTE:
    default:
        roundlab_say(lab, self, -1, "note: %.*s", (int)strcspn(effect->text, "("), effect->text);
        break;
    }
}

void roundlab_step_leader(struct roundlab *lab, unsigned member, struct leader_event event)
{
    if (lab->nodes[member].stopped || lab->nodes[member].paused) {
        return;
    }
    lab->acting = member;
    event.now_us = roundlab_clock(lab, member);
    const struct leader_outbox outbox = {.put = leader_put, .context = lab};
    leader_step(lab->nodes[member].leader, &event, &outbox);
    lab->nodes[member].leader_wake_us = leader_wake_us(lab->nodes[member].leader);
    roundlab_wakes(lab, member);
}

void roundlab_step_member(struct roundlab *lab, unsigned member, struct member_event event)
{
    if (lab->nodes[member].stopped || lab->nodes[member].paused) {
        return;
    }
    lab->acting = member;
    event.now_us = roundlab_clock(lab, member);
    const struct member_outbox outbox = {.put = member_put, .context = lab};
    member_step(lab->nodes[member].member, &event, &outbox);
    lab->nodes[member].member_wake_us = member_wake_us(lab->nodes[member].member);
    roundlab_wakes(lab, member);
    if (lab->nodes[member].taps_changed) {
        struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
        lab->nodes[member].taps_changed = false;
        unsigned count = member_taps(lab->nodes[member].member, taps);
        roundlab_step_leader(
            lab, member,
            (struct leader_event){.type = LEADER_TAPS, .taps = taps, .tap_count = count});
    }
}

static void deliver(struct roundlab *lab, unsigned from, unsigned to, const uint8_t *bytes,
                    size_t size)
{
    struct err err;
    struct msg *msg = lab->scratch;
    if (envelope_decode(bytes, size, msg, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    if (msg->type != MSG_HEARTBEAT && !lab->nodes[to].stopped) {
        char what[512];
        roundlab_say_message(lab, msg, what, sizeof what);
        roundlab_say(lab, to, -1, "from %s: %s", from == to ? "itself" : roundlab_member_name(from),
                     what);
    }
    if (msg->type == MSG_HOLD) {
        lab->last_round = msg->hold.round;
    }
    if (lab->watch.message != NULL && !lab->nodes[to].stopped) {
        lab->watch.message(lab->watch.context, from, to, msg);
    }
    lab->asked_by = from;
    bool order = msg->type == MSG_HOLD || msg->type == MSG_RELEASE || msg->type == MSG_ABORT;
    if (order) {
        roundlab_step_member(lab, to, (struct member_event){.type = MEMBER_MESSAGE, .msg = msg});
    } else {
        roundlab_step_leader(lab, to, (struct leader_event){.type = LEADER_MESSAGE, .msg = msg});
    }
}

/* ---- what a test does ---- */

void roundlab_onlook(struct roundlab *lab, const struct roundlab_watch *watch)
{
    lab->watch = *watch;
    for (unsigned i = 0; watch->record != NULL && i < lab->definition->disk_count; i++) {
        const struct disk *disk = &lab->nodes[i / ROUNDLAB_DISKS].disks[i % ROUNDLAB_DISKS];
        for (size_t k = 0; k < disk->record_count; k++) {
            watch->record(watch->context, i, &disk->records[k]);
        }
    }
}

void roundlab_take(struct roundlab *lab, unsigned member, enum round_kind kind)
{
    struct msg_take take = {.request = roundlab_random_id(lab), .kind = kind};
    roundlab_say(lab, member, -1, "is asked for a %s round", round_kind_name((unsigned)kind));
    roundlab_step_leader(lab, member, (struct leader_event){.type = LEADER_TAKE, .take = &take});
}

void roundlab_repeat(struct roundlab *lab, unsigned from, unsigned to, const struct msg *msg)
{
    deliver_later(lab, from, to, msg, 0);
}

void roundlab_inject(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg)
{
    msg->head.group = lab->definition->group;
    msg->head.from = lab->definition->members[from].name;
    msg->head.to = lab->definition->members[to].name;
    const struct definition *known = lab->nodes[to].definition;
    msg->head.epoch = known == NULL ? lab->definition->epoch : known->epoch;
    msg->head.incarnation = roundlab_incarnation(lab, from);
    deliver_later(lab, from, to, msg, 0);
}

struct id roundlab_last_round(const struct roundlab *lab)
{
    return lab->last_round;
}

const char *roundlab_text(const struct roundlab *lab)
{
    return lab->text == NULL ? "" : lab->text;
}

bool roundlab_tap_next(const struct roundlab *lab, unsigned flat, uint64_t *ret_incarnation,
                       uint64_t *ret_lsn)
{
    const struct disk *disk = &lab->nodes[flat / ROUNDLAB_DISKS].disks[flat % ROUNDLAB_DISKS];
    *ret_incarnation = disk->gate.incarnation;
    *ret_lsn = disk->gate.next_lsn;
    return disk->running;
}

void roundlab_mesh(struct roundlab *lab)
{
    for (unsigned a = 0; a < lab->config.members; a++) {
        for (unsigned b = a + 1; b < lab->config.members; b++) {
            roundlab_link(lab, a, b, true);
        }
    }
}

uint64_t roundlab_now(const struct roundlab *lab)
{
    return lab->now_us;
}

bool roundlab_daemon_running(const struct roundlab *lab, unsigned member)
{
    return !lab->nodes[member].stopped && !lab->nodes[member].paused;
}

/* ---- running ---- */

static void tap_answered(struct roundlab *lab, const struct event *event)
{
    int of = roundlab_disk_of(lab, event->member, event->disk);
    struct member_event out = {.disk = (unsigned)of};
    if (of < 0) {
        return; /* the disk is in no definition here any more */
    }
    if (event->tap->type == TAPCTL_HELD) {
        out.type = MEMBER_TAP_HELD;
        out.held = &event->tap->held;
    } else if (event->tap->type == TAPCTL_REFUSED) {
        out.type = MEMBER_TAP_REFUSED;
        out.refused = &event->tap->refused;
    } else {
        out.type = MEMBER_TAP_SEALED;
        out.sealed = &event->tap->sealed;
    }
    roundlab_step_member(lab, event->member, out);
}

static void happen(struct roundlab *lab, struct event *event)
{
    struct node *node = &lab->nodes[event->member];
    struct disk *disk = &node->disks[event->disk];
    bool tap = disk->running && event->link == disk->connection;
    struct gate_out out;
    if (roundlab_keeps_waiting(lab, event)) {
        return;
    }
    switch (event->kind) {
    case EV_MESSAGE:
        if (event->link == node->link[event->peer]) {
            deliver(lab, event->peer, event->member, event->bytes, event->size);
        }
        break;
    case EV_TAP_HOLD:
        if (tap) {
            roundlab_tap_hold(lab, event->member, event->disk, &event->tap->hold);
        }
        break;
    case EV_TAP_ROUND:
        if (tap) {
            roundlab_tap_step(
                lab, event->member, event->disk,
                (struct gate_event){.type = event->release ? GATE_RELEASE : GATE_ABORT,
                                    .round = event->tap->round.round,
                                    .cut = event->tap->round.cut},
                &out);
        }
        break;
    case EV_TAP_ANSWER:
        if (tap) {
            tap_answered(lab, event);
        }
        break;
    case EV_SEAL:
        if (disk->running && disk->gate.state == GATE_SEALING) {
            roundlab_tap_seal(lab, event->member, event->disk);
        }
        break;
    case EV_ACK:
        roundlab_guest_acked(lab, event->number);
        break;
    case EV_CALL:
        event->call->call(event->call->context, event->call->a, event->call->b);
        break;
    case EV_DEFINE:
        roundlab_define(lab, event->member);
        break;
    case EV_TOKEN:
    default:
        roundlab_guest_token(lab, event->number);
        break;
    }
    free(event->bytes);
    free(event->tap);
    free(event->call);
}

static void tick(struct roundlab *lab, unsigned which)
{
    unsigned member = which / WAKE_SLOTS;
    unsigned what = which % WAKE_SLOTS;
    struct gate_out out;
    if (what < ROUNDLAB_DISKS) {
        roundlab_tap_step(lab, member, what, (struct gate_event){.type = GATE_TICK}, &out);
    } else if (what == WAKE_MEMBER) {
        roundlab_step_member(lab, member, (struct member_event){.type = MEMBER_TICK});
    } else {
        roundlab_step_leader(
            lab, member,
            (struct leader_event){.type = LEADER_TICK, .random = roundlab_random_id(lab)});
    }
}

void roundlab_run(struct roundlab *lab, uint64_t until_us)
{
    unsigned same_time = 0;
    for (;;) {
        uint64_t wake = lab->wakes[1];
        uint64_t queued = lab->heap_count > 0 ? lab->heap[0].at_us : UINT64_MAX;
        uint64_t next = wake < queued ? wake : queued;
        if (next > until_us) {
            break;
        }
        same_time = next <= lab->now_us ? same_time + 1 : 0;
        TIDE_CHECK(same_time < 100000); /* a machine that wants a tick for ever */
        if (next > lab->now_us) {
            lab->now_us = next;
        }
        if (wake < queued) {
            tick(lab, roundlab_next_wake(lab));
        } else {
            struct event event = roundlab_pop(lab);
            happen(lab, &event);
        }
    }
    lab->now_us = until_us > lab->now_us ? until_us : lab->now_us;
}

static void make_node(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    roundlab_make_daemon(lab, m);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        node->disks[d].next_lsn = 1;
        roundlab_tap_launch(lab, m, d);
        roundlab_tap_tell(lab, m, d);
    }
    node->ready = true;
}

void roundlab_network(struct roundlab *lab, uint64_t latency_us, uint64_t jitter_us,
                      unsigned loss_percent, unsigned again_percent)
{
    lab->config.latency_us = latency_us;
    lab->config.jitter_us = jitter_us;
    lab->config.loss_percent = loss_percent;
    lab->config.again_percent = again_percent;
}

struct roundlab *roundlab_new(const struct roundlab_config *config)
{
    TIDE_CHECK(config->members > 0 && config->members <= ROUNDLAB_MEMBERS_MAX);
    struct roundlab *lab = calloc(1, sizeof *lab);
    TIDE_CHECK(lab != NULL);
    lab->config = *config;
    lab->nodes = calloc(config->members, sizeof *lab->nodes);
    lab->scratch = calloc(1, sizeof *lab->scratch);
    lab->changed = calloc(1, sizeof *lab->changed);
    TIDE_CHECK(lab->nodes != NULL && lab->scratch != NULL && lab->changed != NULL);
    roundlab_wakes_open(lab);
    prng_init(&lab->prng, config->seed);
    prng_init(&lab->workload, config->seed ^ 0x746f6b656eULL);
    roundlab_issue(lab, NULL);
    if (config->disks.open != NULL) {
        config->disks.open(config->disks.context, lab);
    }
    for (unsigned m = 0; m < config->members; m++) {
        make_node(lab, m);
    }
    unsigned candidates = definition_candidates(lab->definition);
    for (unsigned a = 0; a < candidates; a++) {
        for (unsigned b = a + 1; b < config->members; b++) {
            roundlab_link(lab, a, b, true);
        }
    }
    return lab;
}

void roundlab_free(struct roundlab *lab)
{
    if (lab == NULL) {
        return;
    }
    while (lab->heap_count > 0) {
        struct event event = roundlab_pop(lab);
        free(event.bytes);
        free(event.tap);
        free(event.call);
    }
    for (unsigned m = 0; m < lab->config.members; m++) {
        roundlab_free_node(lab, m);
    }
    for (unsigned i = 0; i < lab->definition_count; i++) {
        free(lab->definitions[i]);
    }
    free(lab->nodes);
    free(lab->wakes);
    free(lab->heap);
    free(lab->writes);
    free(lab->text);
    free(lab->named);
    free(lab->changed);
    free(lab->scratch);
    free(lab);
}
