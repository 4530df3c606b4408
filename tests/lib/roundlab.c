/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"
#include "common/wire/envelope.h"
#include "coordinator/core/align.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELF_US 10U /* a message to a member of the same daemon */

const char *const roundlab_member_names[ROUNDLAB_MEMBERS_MAX] = {
    "web", "db",  "app", "mail", "log", "n6",  "n7",  "n8",
    "n9",  "n10", "n11", "n12",  "n13", "n14", "n15", "n16"};
const char *const roundlab_disk_names[ROUNDLAB_DISKS] = {"data", "log"};

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

/* ---- the queue ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void roundlab_push(struct roundlab *lab, uint64_t in_us, struct event event)
{
    lab->heap = roundlab_grow(lab->heap, &lab->heap_room, lab->heap_count, sizeof *lab->heap);
    event.at_us = lab->now_us + in_us;
    event.order = lab->order++;
    size_t i = lab->heap_count++;
    while (i > 0 && before(&event, &lab->heap[(i - 1) / 2])) {
        lab->heap[i] = lab->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    lab->heap[i] = event;
}

static struct event pop(struct roundlab *lab)
{
    struct event top = lab->heap[0];
    struct event last = lab->heap[--lab->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= lab->heap_count) {
            break;
        }
        if (child + 1 < lab->heap_count && before(&lab->heap[child + 1], &lab->heap[child])) {
            child++;
        }
        if (!before(&lab->heap[child], &last)) {
            break;
        }
        lab->heap[i] = lab->heap[child];
        i = child;
    }
    lab->heap[i] = last;
    return top;
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
    struct msg *changed = malloc(sizeof *changed);
    TIDE_CHECK(changed != NULL);
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
        roundlab_say(lab, to, -1, "lost from %s: %s", roundlab_member_names[from], what);
    }
    for (unsigned i = 0; !fate.drop && i <= fate.copies; i++) {
        deliver_later(lab, from, to, changed, lab->config.latency_us + fate.delay_us * (i + 1));
    }
    free(changed);
}

/* ---- machines ---- */

static void leader_put(void *context, const struct leader_effect *effect)
{
    struct roundlab *lab = context;
    unsigned self = lab->acting;
    char r[16];
    if (effect->type == LEADER_SEND) {
        transmit(lab, self, effect->to, effect->msg);
    } else if (effect->type == LEADER_CHANGE) {
        roundlab_say(lab, self, -1, "follows %s",
                     effect->leads < 0                 ? "nobody"
                     : (unsigned)effect->leads == self ? "itself"
                                                       : roundlab_member_names[effect->leads]);
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

static void tap_order(struct roundlab *lab, unsigned member, unsigned disk, enum kind kind,
                      const struct tapctl *order)
{
    struct tapctl *copy = malloc(sizeof *copy);
    TIDE_CHECK(copy != NULL);
    *copy = *order;
    roundlab_push(lab, TAP_US,
                  (struct event){.kind = kind,
                                 .member = member,
                                 .disk = disk,
                                 .link = lab->nodes[member].disks[disk].connection,
                                 .release = order->type == TAPCTL_RELEASE,
                                 .tap = copy});
}

static void member_put(void *context, const struct member_effect *effect)
{
    struct roundlab *lab = context;
    unsigned self = lab->acting;
    static struct tapctl order;
    char r[16];
    memset(&order, 0, sizeof order);
    switch (effect->type) {
    case MEMBER_SEND:
        TIDE_CHECK(effect->to >= 0);
        transmit(lab, self, (unsigned)effect->to, effect->msg);
        break;
    case MEMBER_ORDER_HOLD:
        order.type = TAPCTL_HOLD;
        order.hold = *effect->hold;
        tap_order(lab, self, effect->disk, EV_TAP_HOLD, &order);
        break;
    case MEMBER_ORDER_RELEASE:
    case MEMBER_ORDER_ABORT:
        order.type = effect->type == MEMBER_ORDER_RELEASE ? TAPCTL_RELEASE : TAPCTL_ABORT;
        order.round = *effect->order;
        tap_order(lab, self, effect->disk, EV_TAP_ROUND, &order);
        break;
    case MEMBER_ATTEST:
        roundlab_say(lab, self, (int)effect->disk, "attests %s for %u disks",
                     roundlab_say_round(lab, &effect->statement->round, r),
                     effect->statement->disk_count);
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

static void step_leader(struct roundlab *lab, unsigned member, struct leader_event event)
{
    if (lab->nodes[member].stopped) {
        return;
    }
    lab->acting = member;
    event.now_us = lab->now_us;
    const struct leader_outbox outbox = {.put = leader_put, .context = lab};
    leader_step(lab->nodes[member].leader, &event, &outbox);
    lab->nodes[member].leader_wake_us = leader_wake_us(lab->nodes[member].leader);
}

void roundlab_step_member(struct roundlab *lab, unsigned member, struct member_event event)
{
    if (lab->nodes[member].stopped) {
        return;
    }
    lab->acting = member;
    event.now_us = lab->now_us;
    const struct member_outbox outbox = {.put = member_put, .context = lab};
    member_step(lab->nodes[member].member, &event, &outbox);
    lab->nodes[member].member_wake_us = member_wake_us(lab->nodes[member].member);
    if (lab->nodes[member].taps_changed) {
        struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
        lab->nodes[member].taps_changed = false;
        unsigned count = member_taps(lab->nodes[member].member, taps);
        step_leader(lab, member,
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
        roundlab_say(lab, to, -1, "from %s: %s",
                     from == to ? "itself" : roundlab_member_names[from], what);
    }
    if (msg->type == MSG_HOLD) {
        lab->last_round = msg->hold.round;
    }
    bool order = msg->type == MSG_HOLD || msg->type == MSG_RELEASE || msg->type == MSG_ABORT;
    if (order) {
        roundlab_step_member(lab, to, (struct member_event){.type = MEMBER_MESSAGE, .msg = msg});
    } else {
        step_leader(lab, to, (struct leader_event){.type = LEADER_MESSAGE, .msg = msg});
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

void roundlab_link(struct roundlab *lab, unsigned a, unsigned b, bool up)
{
    TIDE_CHECK(a != b);
    if (lab->nodes[a].linked[b] == up) {
        return;
    }
    if (lab->now_us > 0) {
        roundlab_say(lab, a, -1, "link to %s %s", roundlab_member_names[b], up ? "is up" : "ends");
    }
    for (unsigned side = 0; side < 2; side++) {
        unsigned self = side == 0 ? a : b;
        unsigned peer = side == 0 ? b : a;
        lab->nodes[self].linked[peer] = up;
        lab->nodes[self].link[peer]++;
    }
    for (unsigned side = 0; side < 2; side++) {
        unsigned self = side == 0 ? a : b;
        unsigned peer = side == 0 ? b : a;
        step_leader(lab, self, (struct leader_event){.type = LEADER_LINK, .peer = peer, .up = up});
        if (!up) {
            roundlab_step_member(lab, self,
                                 (struct member_event){.type = MEMBER_LINK_DOWN, .peer = peer});
        }
    }
}

void roundlab_stop(struct roundlab *lab, unsigned member)
{
    roundlab_say(lab, member, -1, "its daemon is killed");
    lab->nodes[member].stopped = true;
    lab->nodes[member].link[member]++; /* what it still meant to say to itself is gone */
    for (unsigned m = 0; m < lab->config.members; m++) {
        if (m != member) {
            roundlab_link(lab, member, m, false);
        }
    }
    for (unsigned i = 0; i < ROUNDLAB_DISKS; i++) {
        struct gate_out out;
        if (lab->nodes[member].disks[i].running) {
            roundlab_tap_step(lab, member, i, (struct gate_event){.type = GATE_CONTROLLER_LOST},
                              &out);
        }
        lab->nodes[member].disks[i].connection++;
    }
}

void roundlab_take(struct roundlab *lab, unsigned member, enum round_kind kind)
{
    struct msg_take take = {.request = roundlab_random_id(lab), .kind = kind};
    roundlab_say(lab, member, -1, "is asked for a %s round", round_kind_name((unsigned)kind));
    step_leader(lab, member, (struct leader_event){.type = LEADER_TAKE, .take = &take});
}

static uint64_t daemon_incarnation(const struct roundlab *lab, unsigned member)
{
    return member + 1 + ROUNDLAB_MEMBERS_MAX * lab->nodes[member].starts;
}

void roundlab_inject(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg)
{
    msg->head.group = lab->definition->group;
    msg->head.from = lab->definition->members[from].name;
    msg->head.to = lab->definition->members[to].name;
    msg->head.epoch = lab->definition->epoch;
    msg->head.incarnation = daemon_incarnation(lab, from);
    deliver_later(lab, from, to, msg, 0);
}

struct id roundlab_last_round(const struct roundlab *lab)
{
    return lab->last_round;
}

const char *roundlab_member_name(unsigned member)
{
    TIDE_CHECK(member < ROUNDLAB_MEMBERS_MAX);
    return roundlab_member_names[member];
}

const struct definition *roundlab_definition(const struct roundlab *lab)
{
    return lab->definition;
}

const char *roundlab_text(const struct roundlab *lab)
{
    return lab->text == NULL ? "" : lab->text;
}

uint64_t roundlab_now(const struct roundlab *lab)
{
    return lab->now_us;
}

/* ---- running ---- */

static void tap_answered(struct roundlab *lab, const struct event *event)
{
    struct member_event out = {.disk = event->disk};
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
        roundlab_tap_acked(lab, event->number);
        break;
    case EV_TOKEN:
    default:
        roundlab_tap_token(lab, event->number);
        break;
    }
    free(event->bytes);
    free(event->tap);
}

/* Earliest time at which a gate, a member or a leader wants a tick, and which: 3 per member. */
static uint64_t earliest_wake(const struct roundlab *lab, unsigned *ret_which)
{
    uint64_t at = UINT64_MAX;
    unsigned slots = ROUNDLAB_DISKS + 2;
    for (unsigned i = 0; i < lab->config.members * slots; i++) {
        const struct node *node = &lab->nodes[i / slots];
        unsigned what = i % slots;
        uint64_t wake = UINT64_MAX;
        if (what < ROUNDLAB_DISKS) {
            const struct disk *disk = &node->disks[what];
            if (disk->running && disk->gate.state == GATE_HOLDING) {
                wake = disk->gate.deadline_us;
            }
        } else if (!node->stopped) {
            wake = what == ROUNDLAB_DISKS ? node->member_wake_us : node->leader_wake_us;
        }
        if (wake < at) {
            at = wake;
            *ret_which = i;
        }
    }
    return at;
}

static void tick(struct roundlab *lab, unsigned which)
{
    unsigned slots = ROUNDLAB_DISKS + 2;
    unsigned member = which / slots;
    unsigned what = which % slots;
    struct gate_out out;
    if (what < ROUNDLAB_DISKS) {
        roundlab_tap_step(lab, member, what, (struct gate_event){.type = GATE_TICK}, &out);
    } else if (what == ROUNDLAB_DISKS) {
        roundlab_step_member(lab, member, (struct member_event){.type = MEMBER_TICK});
    } else {
        step_leader(lab, member,
                    (struct leader_event){.type = LEADER_TICK, .random = roundlab_random_id(lab)});
    }
}

void roundlab_run(struct roundlab *lab, uint64_t until_us)
{
    unsigned same_time = 0;
    for (;;) {
        unsigned which = 0;
        uint64_t wake = earliest_wake(lab, &which);
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
            tick(lab, which);
        } else {
            struct event event = pop(lab);
            happen(lab, &event);
        }
    }
    lab->now_us = until_us > lab->now_us ? until_us : lab->now_us;
}

static void make_definition(struct roundlab *lab)
{
    struct name name;
    struct id id = roundlab_random_id(lab);
    struct err err;
    TIDE_CHECK(name_parse("shop", &name));
    definition_init(lab->definition, &id, &name, 1);
    for (unsigned m = 0; m < lab->config.members; m++) {
        struct definition_member member;
        memset(&member, 0, sizeof member);
        TIDE_CHECK(name_parse(roundlab_member_names[m], &member.name));
        snprintf(member.identity, sizeof member.identity, "spiffe://lab/participant/%s",
                 roundlab_member_names[m]);
        snprintf(member.address, sizeof member.address, "127.0.0.%u:20004", 11 + m);
        TIDE_CHECK(definition_add_member(lab->definition, &member, &err) == 0);
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            struct definition_disk disk;
            memset(&disk, 0, sizeof disk);
            TIDE_CHECK(name_parse(roundlab_disk_names[d], &disk.name));
            disk.stream = roundlab_random_id(lab);
            disk.timeline = roundlab_random_id(lab);
            disk.disk = roundlab_random_id(lab);
            disk.size = 1U << 20;
            disk.block_size = 4096;
            TIDE_CHECK(definition_add_disk(lab->definition, &disk, &err) == 0);
        }
    }
    TIDE_CHECK(definition_check(lab->definition, &err) == 0);
    for (unsigned i = 0; i < TIDE_HASH_SIZE; i += 8) {
        uint64_t bits = prng_next(&lab->prng);
        memcpy(lab->definition->epoch.hash.b + i, &bits, 8);
    }
}

/* The machines of a daemon that starts now. */
static void make_daemon(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    struct name name = lab->definition->members[m].name;
    node->member =
        member_new(&(struct member_config){.name = name,
                                           .incarnation = daemon_incarnation(lab, m),
                                           .unsafe_no_hold = lab->config.unsafe_no_hold,
                                           .hold_delay_us_max = lab->config.hold_delay_us_max,
                                           .hold_delay_seed = lab->config.seed});
    node->leader = leader_new(&(struct leader_config){
        .name = name, .incarnation = daemon_incarnation(lab, m), .retries = lab->config.retries});
    TIDE_CHECK(node->member != NULL && node->leader != NULL);
    node->member_wake_us = member_wake_us(node->member);
    node->leader_wake_us = leader_wake_us(node->leader);
    step_leader(lab, m,
                (struct leader_event){.type = LEADER_POLICY, .policy = &lab->config.policy});
    step_leader(
        lab, m,
        (struct leader_event){.type = LEADER_DEFINITION, .definition = lab->definition, .self = m});
    roundlab_step_member(
        lab, m,
        (struct member_event){.type = MEMBER_DEFINITION, .definition = lab->definition, .self = m});
}

static void make_node(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    make_daemon(lab, m);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        node->disks[d].next_lsn = 1;
        roundlab_tap_launch(lab, m, d);
        roundlab_tap_tell(lab, m, d);
    }
}

void roundlab_start(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    if (!node->stopped) {
        return;
    }
    roundlab_say(lab, m, -1, "its daemon starts");
    member_free(node->member);
    leader_free(node->leader);
    node->starts++;
    node->stopped = false;
    make_daemon(lab, m);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        roundlab_tap_tell(lab, m, d);
    }
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
    lab->definition = calloc(1, sizeof *lab->definition);
    lab->scratch = calloc(1, sizeof *lab->scratch);
    TIDE_CHECK(lab->definition != NULL && lab->scratch != NULL);
    prng_init(&lab->prng, config->seed);
    prng_init(&lab->workload, config->seed ^ 0x746f6b656eULL);
    make_definition(lab);
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
        struct event event = pop(lab);
        free(event.bytes);
        free(event.tap);
    }
    for (unsigned m = 0; m < lab->config.members; m++) {
        member_free(lab->nodes[m].member);
        leader_free(lab->nodes[m].leader);
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            free(lab->nodes[m].disks[d].records);
        }
    }
    free(lab->heap);
    free(lab->writes);
    free(lab->text);
    free(lab->definition);
    free(lab->scratch);
    free(lab);
}

/* ---- judging ---- */

/* LSN of the round's bookmark in that stream; 0: the stream is not in the set. */
static uint64_t cut_of(const struct roundlab *lab, const struct align_round *round, unsigned member,
                       unsigned disk)
{
    unsigned flat = member * ROUNDLAB_DISKS + disk;
    const struct align_entry *entry = align_entry(round, &lab->definition->disks[flat].stream);
    return entry == NULL || !set_has(&round->order.set, flat) ? 0 : entry->mark.lsn;
}

/* Whether the cut has an effect whose cause it lacks. */
static bool is_torn(const struct roundlab *lab, const struct align_round *round)
{
    uint64_t cuts[ROUNDLAB_MEMBERS_MAX][ROUNDLAB_DISKS] = {{0}};
    for (unsigned m = 0; m < lab->config.members; m++) {
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            cuts[m][d] = cut_of(lab, round, m, d);
        }
    }
    for (size_t i = 0; i < lab->write_count; i++) {
        const struct write *effect = &lab->writes[i];
        if (effect->cause < 0) {
            continue;
        }
        const struct write *cause = &lab->writes[effect->cause];
        uint64_t effect_cut = cuts[effect->member][effect->disk];
        uint64_t cause_cut = cuts[cause->member][cause->disk];
        if (effect_cut != 0 && cause_cut != 0 && effect->lsn < effect_cut &&
            cause->lsn > cause_cut) {
            return true;
        }
    }
    return false;
}

struct roundlab_verdict roundlab_judge(struct roundlab *lab)
{
    struct roundlab_verdict verdict = lab->tally;
    struct err err;
    struct align *align = align_new(&lab->definition->group, true, TIDE_ALIGN_ROUNDS);
    TIDE_CHECK(align != NULL);
    TIDE_CHECK(align_define(align, lab->definition, &err) == 0);
    for (unsigned m = 0; m < lab->config.members; m++) {
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            const struct disk *disk = &lab->nodes[m].disks[d];
            for (size_t i = 0; i < disk->record_count; i++) {
                TIDE_CHECK(align_feed(align, &disk->records[i], &err) == 0);
            }
        }
    }
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        bool point =
            round->answer == ROUND_ANSWER_YES || (lab->config.unsafe_no_hold && round->unaligned);
        verdict.rounds++;
        bool group = round->order.scope == ROUND_SCOPE_GROUP;
        verdict.points += point && group;
        verdict.single += point && !group;
        verdict.full += point && group && !round->partial;
        verdict.torn += point && is_torn(lab, round);
    }
    align_free(align);
    return verdict;
}
