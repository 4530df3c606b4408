/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab.h"

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/hrl/record.h"
#include "common/wire/envelope.h"
#include "coordinator/core/align.h"
#include "participant/core/gate.h"
#include "participant/core/leader.h"
#include "participant/core/member.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAP_US       40U   /* daemon to tap and back, each */
#define SELF_US      10U   /* a message to a member of the same daemon */
#define APPEND_US    100U  /* a write until it is in log and image */
#define SEAL_US      150U  /* from letting go to the seal in the log */
#define SYNC_US      2000U /* and until it is synced */
#define CAP_US       50000U
#define HELD_MAX     (8U << 20)
#define ROUNDS_NAMED 512

enum kind {
    EV_MESSAGE,
    EV_TAP_HOLD,
    EV_TAP_ROUND, /* RELEASE (with cut) or ABORT */
    EV_TAP_ANSWER,
    EV_SEAL,
    EV_ACK,
    EV_TOKEN,
};

struct event {
    uint64_t at_us;
    uint64_t order; /* among events of the same time */
    enum kind kind;
    unsigned member;
    unsigned disk;
    unsigned peer;      /* MESSAGE: who sent it */
    unsigned link;      /* MESSAGE: number of the connection; TAP_*: of the control connection */
    bool release;       /* TAP_ROUND */
    unsigned number;    /* ACK: write; TOKEN: token */
    size_t size;        /* MESSAGE */
    uint8_t *bytes;     /* MESSAGE; owned */
    struct tapctl *tap; /* TAP_*; owned */
};

struct write {
    unsigned member;
    unsigned disk;
    uint64_t lsn;
    int cause; /* number of the write that was acknowledged before this was issued; -1: none */
    int token; /* -1: by hand */
    bool waiting;
    uint64_t ticket;
};

struct disk {
    struct gate gate;
    bool running;
    unsigned connection; /* grows with every start */
    uint64_t starts;
    uint64_t next_lsn; /* while not running */
    struct record_bookmark open;
    bool has_open; /* a bookmark without seal */
    uint64_t open_lsn;
    struct record *records; /* attach, gap, bookmark, seal */
    size_t record_count;
};

struct node {
    struct member *member;
    struct leader *leader;
    bool stopped;
    uint64_t starts; /* of its daemon */
    bool taps_changed;
    struct disk disks[ROUNDLAB_DISKS];
    bool linked[ROUNDLAB_MEMBERS_MAX];
    unsigned link[ROUNDLAB_MEMBERS_MAX]; /* grows with every connection */
};

struct lab_token {
    int last; /* write it has seen acknowledged; -1 */
};

struct roundlab {
    struct roundlab_config config;
    struct roundlab_watch watch; /* those that are not NULL are called */
    struct definition *definition;
    struct prng prng;     /* network, nonces, ids */
    struct prng workload; /* tokens: the same, held or not */
    uint64_t now_us;
    uint64_t order;
    struct event *heap;
    size_t heap_count;
    size_t heap_room;
    struct node nodes[ROUNDLAB_MEMBERS_MAX];
    unsigned acting; /* node whose machine is in a step */
    struct write *writes;
    size_t write_count;
    size_t write_room;
    struct lab_token tokens[16];
    uint64_t think_us_max;
    struct id named[ROUNDS_NAMED];
    unsigned named_count;
    struct id last_round;
    char *text;
    size_t text_used;
    size_t text_room;
    struct roundlab_verdict tally;
    struct msg *scratch;
};

static const char *const member_names[ROUNDLAB_MEMBERS_MAX] = {
    "web", "db",  "app", "mail", "log", "n6",  "n7",  "n8",
    "n9",  "n10", "n11", "n12",  "n13", "n14", "n15", "n16"};
static const char *const disk_names[] = {"data", "log"};

static void *grow(void *from, size_t *room, size_t count, size_t size)
{
    if (count < *room) {
        return from;
    }
    *room = *room == 0 ? 64 : *room * 2;
    void *to = realloc(from, *room * size);
    TIDE_CHECK(to != NULL);
    return to;
}

/* ---- narration ---- */

static void say_text(struct roundlab *lab, const char *line)
{
    size_t length = strlen(line);
    while (lab->text_used + length + 1 > lab->text_room) {
        lab->text_room = lab->text_room == 0 ? 4096 : lab->text_room * 2;
        lab->text = realloc(lab->text, lab->text_room);
        TIDE_CHECK(lab->text != NULL);
    }
    memcpy(lab->text + lab->text_used, line, length + 1);
    lab->text_used += length;
}

__attribute__((format(printf, 4, 5))) static void say(struct roundlab *lab, unsigned member,
                                                      int disk, const char *format, ...)
{
    if (lab->config.silent) {
        return;
    }
    char what[600];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    char node[32];
    snprintf(node, sizeof node, "%s%s%s", member_names[member], disk < 0 ? "" : "/",
             disk < 0 ? "" : disk_names[disk]);
    char line[800];
    snprintf(line, sizeof line, "[%4" PRIu64 ".%06" PRIu64 "] %-8s > %s\n", lab->now_us / 1000000,
             lab->now_us % 1000000, node, what);
    say_text(lab, line);
}

/* r1, r2 … in the order in which they are first seen. */
static const char *round_text(struct roundlab *lab, const struct id *round, char ret[16])
{
    unsigned i = 0;
    while (i < lab->named_count && !id_equal(&lab->named[i], round)) {
        i++;
    }
    if (i == lab->named_count && lab->named_count < ROUNDS_NAMED) {
        lab->named[lab->named_count++] = *round;
    }
    snprintf(ret, 16, "r%u", i + 1);
    return ret;
}

static void describe(struct roundlab *lab, const struct msg *msg, char *ret, size_t room)
{
    char r[16];
    char hex[TIDE_HASH_HEX];
    size_t used = 0;
    switch (msg->type) {
    case MSG_HOLD:
        snprintf(ret, room, "HOLD %s set %u of %u budget %u us",
                 round_text(lab, &msg->hold.round, r), set_size(&msg->hold.set),
                 msg->hold.set.count, msg->hold.budget_us);
        break;
    case MSG_HELD:
        used = (size_t)snprintf(ret, room, "HELD %s at", round_text(lab, &msg->held.round, r));
        for (unsigned i = 0; i < msg->held.mark_count; i++) {
            used += (size_t)snprintf(ret + used, room - used, " %" PRIu64, msg->held.marks[i].lsn);
        }
        break;
    case MSG_REFUSED:
        snprintf(ret, room, "REFUSED %s %s%s%s: %s", round_text(lab, &msg->refused.round, r),
                 round_reason_name((unsigned)msg->refused.reason),
                 msg->refused.outcome == 0 ? "" : " ",
                 msg->refused.outcome == 0 ? "" : round_outcome_name(msg->refused.outcome),
                 msg->refused.text);
        break;
    case MSG_RELEASE:
        snprintf(ret, room, "RELEASE %s cut %.8s", round_text(lab, &msg->release.round, r),
                 hash_hex(&msg->release.cut, hex));
        break;
    case MSG_ABORT:
        snprintf(ret, room, "ABORT %s %s", round_text(lab, &msg->abort.round, r),
                 round_reason_name((unsigned)msg->abort.reason));
        break;
    case MSG_SEALED:
        snprintf(ret, room, "SEALED %s %s", round_text(lab, &msg->sealed.round, r),
                 round_outcome_name((unsigned)msg->sealed.outcome));
        break;
    case MSG_SUM:
        snprintf(ret, room, "SUM %s %s%s%s", round_text(lab, &msg->sum.round, r),
                 msg->sum.sealed_by_all ? "sealed by all"
                                        : round_reason_name((unsigned)msg->sum.reason),
                 msg->sum.member.s[0] == '\0' ? "" : " at ", msg->sum.member.s);
        break;
    case MSG_TAKE:
        snprintf(ret, room, "TAKE");
        break;
    case MSG_TAKEN:
        snprintf(ret, room, "TAKEN %s", msg->taken.sealed ? "sealed" : msg->taken.text);
        break;
    case MSG_HEARTBEAT:
    default:
        snprintf(ret, room, "heartbeat reach %u", msg->heartbeat.reach);
        break;
    }
}

/* ---- the queue ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct roundlab *lab, uint64_t in_us, struct event event)
{
    lab->heap = grow(lab->heap, &lab->heap_room, lab->heap_count, sizeof *lab->heap);
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

static struct id random_id(struct roundlab *lab)
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
    push(lab, in_us,
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
        describe(lab, msg, what, sizeof what);
        say(lab, to, -1, "lost from %s: %s", member_names[from], what);
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
        say(lab, self, -1, "follows %s",
            effect->leads < 0                 ? "nobody"
            : (unsigned)effect->leads == self ? "itself"
                                              : member_names[effect->leads]);
    } else if (effect->type == LEADER_ROUND && effect->round->own) {
        const struct msg_sum *sum = &effect->round->sum;
        if (!effect->round->began) {
            say(lab, self, -1, "takes no round: %s at %s: %s",
                round_reason_name((unsigned)sum->reason), sum->member.s, sum->text);
        } else if (sum->sealed_by_all) {
            bool waited = effect->round->slowest_us > 10 * lab->config.latency_us;
            say(lab, self, -1,
                "round %s is sealed by all of %u (%s), longest hold %" PRIu64 " us%s%s",
                round_text(lab, &sum->round, r), effect->round->set_members,
                effect->round->full ? "full" : "partial", sum->hold_us_max, waited ? ", last " : "",
                waited ? effect->round->slowest.s : "");
        } else {
            say(lab, self, -1, "round %s failed: %s at %s: %s", round_text(lab, &sum->round, r),
                round_reason_name((unsigned)sum->reason), sum->member.s, sum->text);
        }
    } else if (effect->type == LEADER_TAKEN) {
        say(lab, self, -1, "its request is answered: %s",
            effect->taken->sealed ? "sealed" : effect->taken->text);
    } else if (effect->type == LEADER_NOTE) {
        say(lab, self, -1, "note: %s", effect->text);
    }
}

static void tap_order(struct roundlab *lab, unsigned member, unsigned disk, enum kind kind,
                      const struct tapctl *order)
{
    struct tapctl *copy = malloc(sizeof *copy);
    TIDE_CHECK(copy != NULL);
    *copy = *order;
    push(lab, TAP_US,
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
        say(lab, self, (int)effect->disk, "attests %s for %u disks",
            round_text(lab, &effect->statement->round, r), effect->statement->disk_count);
        break;
    case MEMBER_TAPS:
        lab->nodes[self].taps_changed = true;
        break;
    case MEMBER_NOTE:
    default:
        say(lab, self, -1, "note: %.*s", (int)strcspn(effect->text, "("), effect->text);
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
}

static void step_member(struct roundlab *lab, unsigned member, struct member_event event)
{
    if (lab->nodes[member].stopped) {
        return;
    }
    lab->acting = member;
    event.now_us = lab->now_us;
    const struct member_outbox outbox = {.put = member_put, .context = lab};
    member_step(lab->nodes[member].member, &event, &outbox);
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
        describe(lab, msg, what, sizeof what);
        say(lab, to, -1, "from %s: %s", from == to ? "itself" : member_names[from], what);
    }
    if (msg->type == MSG_HOLD) {
        lab->last_round = msg->hold.round;
    }
    bool order = msg->type == MSG_HOLD || msg->type == MSG_RELEASE || msg->type == MSG_ABORT;
    if (order) {
        step_member(lab, to, (struct member_event){.type = MEMBER_MESSAGE, .msg = msg});
    } else {
        step_leader(lab, to, (struct leader_event){.type = LEADER_MESSAGE, .msg = msg});
    }
}

/* ---- taps ---- */

static void append_record(struct roundlab *lab, struct disk *disk, unsigned member, unsigned index,
                          struct record *record, uint64_t incarnation)
{
    record->incarnation = incarnation;
    record->stream = lab->definition->disks[member * ROUNDLAB_DISKS + index].stream;
    struct record *all = realloc(disk->records, (disk->record_count + 1) * sizeof *all);
    TIDE_CHECK(all != NULL);
    disk->records = all;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(record, bytes, sizeof bytes);
    struct err err;
    struct record *kept = &disk->records[disk->record_count++];
    TIDE_CHECK(record_decode(bytes, size, kept, &size, &err) == 0);
    if (lab->watch.record != NULL) {
        lab->watch.record(lab->watch.context, member * ROUNDLAB_DISKS + index, kept);
    }
}

static void tell_let_go(const struct roundlab *lab, unsigned member, unsigned index)
{
    if (lab->watch.let_go != NULL) {
        lab->watch.let_go(lab->watch.context, member * ROUNDLAB_DISKS + index);
    }
}

static void answer(struct roundlab *lab, unsigned member, unsigned index, const struct tapctl *tap,
                   uint64_t in_us)
{
    struct tapctl *copy = malloc(sizeof *copy);
    TIDE_CHECK(copy != NULL);
    *copy = *tap;
    push(lab, in_us,
         (struct event){.kind = EV_TAP_ANSWER,
                        .member = member,
                        .disk = index,
                        .link = lab->nodes[member].disks[index].connection,
                        .tap = copy});
}

static void acknowledge(struct roundlab *lab, unsigned number, uint64_t in_us)
{
    push(lab, in_us, (struct event){.kind = EV_ACK, .number = number});
}

/* What every step of a gate can ask for beside its own event's answer. */
static void carry_out(struct roundlab *lab, unsigned member, unsigned index,
                      const struct gate_out *out)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    char r[16];
    if (!out->let_go) {
        return;
    }
    tell_let_go(lab, member, index);
    uint64_t late = lab->now_us - disk->gate.start_us;
    lab->tally.over_budget += late > disk->gate.budget_us;
    if (late > lab->tally.hold_us_max) {
        lab->tally.hold_us_max = late;
    }
    say(lab, member, (int)index, "lets go of %s (%s) after %" PRIu64 " us, %" PRIu64 " writes held",
        round_text(lab, &disk->gate.seal.round, r),
        round_outcome_name((unsigned)disk->gate.seal.outcome), late, disk->gate.seal.writes_held);
    for (size_t i = 0; i < lab->write_count; i++) {
        struct write *w = &lab->writes[i];
        if (w->waiting && w->member == member && w->disk == index) {
            w->waiting = false;
            acknowledge(lab, (unsigned)i, 1);
        }
    }
    if (out->seal_due) {
        push(lab, SEAL_US,
             (struct event){
                 .kind = EV_SEAL, .member = member, .disk = index, .link = disk->connection});
    }
}

static void step_gate(struct roundlab *lab, unsigned member, unsigned index,
                      struct gate_event event, struct gate_out *ret)
{
    event.now_us = lab->now_us;
    gate_step(&lab->nodes[member].disks[index].gate, &event, ret);
    carry_out(lab, member, index, ret);
}

static void tap_hold(struct roundlab *lab, unsigned member, unsigned index,
                     const struct tapctl_hold *hold)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    struct id nonce = random_id(lab);
    step_gate(lab, member, index,
              (struct gate_event){.type = GATE_HOLD, .hold = hold, .nonce = nonce, .log_ok = true},
              &out);
    static struct tapctl reply;
    memset(&reply, 0, sizeof reply);
    char r[16];
    if (out.refused) {
        reply.type = TAPCTL_REFUSED;
        reply.refused.round = hold->order.round;
        reply.refused.reason = out.reason;
        reply.refused.outcome = out.ended;
        snprintf(reply.refused.text, sizeof reply.refused.text, "the tap refused");
        say(lab, member, (int)index, "refuses %s: %s", round_text(lab, &hold->order.round, r),
            round_reason_name((unsigned)out.reason));
    } else {
        if (out.lsn != 0) {
            struct record record = {.type = RECORD_BOOKMARK, .lsn = out.lsn};
            record.bookmark = (struct record_bookmark){.order = hold->order,
                                                       .nonce = out.mark.nonce,
                                                       .unheld = hold->unheld,
                                                       .budget_us = out.budget_us};
            append_record(lab, disk, member, index, &record, disk->gate.incarnation);
            disk->has_open = true;
            disk->open = record.bookmark;
            disk->open_lsn = out.lsn;
            say(lab, member, (int)index, "bookmark %s at %" PRIu64 ", %s for %u us at most",
                round_text(lab, &hold->order.round, r), out.lsn,
                hold->unheld ? "does not hold" : "holds", out.budget_us);
        }
        reply.type = TAPCTL_HELD;
        reply.held.round = hold->order.round;
        reply.held.mark = out.mark;
        reply.held.budget_us = out.budget_us;
    }
    answer(lab, member, index, &reply, TAP_US);
}

static void tap_seal(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    char r[16];
    step_gate(lab, member, index, (struct gate_event){.type = GATE_SEAL}, &out);
    const struct gate_seal due = disk->gate.seal;
    struct record record = {.type = RECORD_SEAL, .lsn = out.lsn};
    record.seal = (struct record_seal){.round = due.round,
                                       .bookmark_lsn = due.bookmark_lsn,
                                       .outcome = due.outcome,
                                       .cut = due.cut,
                                       .hold_us = due.hold_us,
                                       .writes_held = due.writes_held,
                                       .bytes_held = due.bytes_held};
    append_record(lab, disk, member, index, &record, disk->gate.incarnation);
    disk->has_open = false;
    say(lab, member, (int)index, "seals %s %s at %" PRIu64, round_text(lab, &due.round, r),
        round_outcome_name((unsigned)due.outcome), out.lsn);
    uint64_t seal_lsn = out.lsn;
    step_gate(lab, member, index, (struct gate_event){.type = GATE_SEAL_APPENDED}, &out);
    static struct tapctl reply;
    memset(&reply, 0, sizeof reply);
    reply.type = TAPCTL_SEALED;
    reply.sealed = (struct tapctl_sealed){.round = due.round,
                                          .outcome = due.outcome,
                                          .appended = true,
                                          .bookmark_lsn = due.bookmark_lsn,
                                          .seal_lsn = seal_lsn,
                                          .hold_us = due.hold_us,
                                          .writes_held = due.writes_held,
                                          .bytes_held = due.bytes_held};
    answer(lab, member, index, &reply, SYNC_US);
}

static void tell_tap(struct roundlab *lab, unsigned member, unsigned index)
{
    const struct disk *disk = &lab->nodes[member].disks[index];
    struct member_tap tap = {.attached = disk->running};
    if (disk->running) {
        tap.stream = lab->definition->disks[member * ROUNDLAB_DISKS + index].stream;
        tap.incarnation = disk->gate.incarnation;
        tap.whole = disk->gate.whole;
        tap.logging = true;
    }
    step_member(lab, member, (struct member_event){.type = MEMBER_TAP, .disk = index, .tap = tap});
}

static void start_tap(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    TIDE_CHECK(!disk->running);
    struct id random = random_id(lab);
    uint64_t incarnation;
    memcpy(&incarnation, random.b, sizeof incarnation);
    const struct definition_disk *defined =
        &lab->definition->disks[member * ROUNDLAB_DISKS + index];
    struct record attach = {.type = RECORD_ATTACH, .lsn = disk->next_lsn++};
    attach.attach = (struct record_attach){.boot = defined->disk,
                                           .disk = defined->disk,
                                           .timeline = defined->timeline,
                                           .size = defined->size,
                                           .block_size = defined->block_size,
                                           .clean = disk->starts == 0,
                                           .first = disk->starts == 0,
                                           .base_zero = disk->starts == 0};
    append_record(lab, disk, member, index, &attach, incarnation);
    if (disk->has_open) { /* what a crash left open is sealed before the first write */
        struct record seal = {.type = RECORD_SEAL, .lsn = disk->next_lsn++};
        seal.seal = (struct record_seal){.round = disk->open.order.round,
                                         .bookmark_lsn = disk->open_lsn,
                                         .outcome = ROUND_OUTCOME_ABORTED};
        append_record(lab, disk, member, index, &seal, incarnation);
        disk->has_open = false;
    }
    bool whole = disk->starts == 0 || disk->gate.whole;
    struct gate_config config = {.stream =
                                     lab->definition->disks[member * ROUNDLAB_DISKS + index].stream,
                                 .incarnation = incarnation,
                                 .next_lsn = disk->next_lsn,
                                 .cap_us = CAP_US,
                                 .held_max = HELD_MAX,
                                 .whole = whole};
    gate_init(&disk->gate, &config);
    disk->running = true;
    disk->starts++;
    disk->connection++;
}

void roundlab_tap_start(struct roundlab *lab, unsigned member, unsigned disk)
{
    start_tap(lab, member, disk);
    say(lab, member, (int)disk, "its tap starts");
    tell_tap(lab, member, disk);
}

void roundlab_tap_stop(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    if (!disk->running) {
        return;
    }
    say(lab, member, (int)index, "its tap is killed");
    if (disk->gate.state == GATE_HOLDING) {
        tell_let_go(lab, member, index); /* nobody holds any more, nor acknowledges */
    }
    disk->running = false;
    disk->connection++;
    disk->next_lsn = disk->gate.next_lsn;
    for (size_t i = 0; i < lab->write_count; i++) { /* nobody acknowledges these any more */
        struct write *w = &lab->writes[i];
        if (w->waiting && w->member == member && w->disk == index) {
            w->waiting = false;
            if (w->token >= 0) {
                lab->tokens[w->token].last = -1;
                push(lab, 5000, (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
            }
        }
    }
    tell_tap(lab, member, index);
}

void roundlab_tap_gap(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    step_gate(lab, member, index, (struct gate_event){.type = GATE_GAP, .log_ok = true}, &out);
    if (out.lsn != 0) {
        struct record record = {.type = RECORD_GAP, .lsn = out.lsn};
        record.gap = (struct record_gap){.reason = RECORD_GAP_IMAGE, .from_lsn = out.lsn};
        append_record(lab, disk, member, index, &record, disk->gate.incarnation);
    }
    say(lab, member, (int)index, "gap: no longer whole");
    tell_tap(lab, member, index);
}

static uint64_t append_own(struct roundlab *lab, unsigned member, unsigned index,
                           struct record record)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    step_gate(lab, member, index, (struct gate_event){.type = GATE_APPEND}, &out);
    record.lsn = out.lsn;
    append_record(lab, disk, member, index, &record, disk->gate.incarnation);
    return out.lsn;
}

void roundlab_tap_copy(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    uint64_t size = lab->definition->disks[member * ROUNDLAB_DISKS + index].size;
    if (!disk->running || disk->gate.whole) {
        return;
    }
    struct record record = {.type = RECORD_COPY_BEGIN};
    record.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_FULL, .size = size};
    uint64_t begin_lsn = append_own(lab, member, index, record);
    record = (struct record){.type = RECORD_COPY_END};
    record.copy_end = (struct record_copy_end){.begin_lsn = begin_lsn, .zeroes = size};
    append_own(lab, member, index, record);
    struct gate_out out;
    step_gate(lab, member, index, (struct gate_event){.type = GATE_WHOLE, .begin_lsn = begin_lsn},
              &out);
    say(lab, member, (int)index, "copied: whole again");
    tell_tap(lab, member, index);
}

/* ---- writes ---- */

static unsigned write_to(struct roundlab *lab, unsigned member, unsigned index, int cause,
                         int token)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    TIDE_CHECK(disk->running);
    lab->writes = grow(lab->writes, &lab->write_room, lab->write_count, sizeof *lab->writes);
    unsigned number = (unsigned)lab->write_count++;
    struct gate_out out;
    step_gate(lab, member, index, (struct gate_event){.type = GATE_WRITE, .bytes = 4096}, &out);
    TIDE_CHECK(out.lsn != 0 && out.ack != GATE_ACK_ENTRY); /* far below HELD_MAX */
    lab->writes[number] = (struct write){.member = member,
                                         .disk = index,
                                         .lsn = out.lsn,
                                         .cause = cause,
                                         .token = token,
                                         .waiting = out.ack == GATE_ACK_HOLD,
                                         .ticket = out.ticket};
    lab->tally.writes++;
    if (lab->watch.write != NULL) {
        lab->watch.write(lab->watch.context, member * ROUNDLAB_DISKS + index, out.lsn, token,
                         cause >= 0);
    }
    lab->tally.held += out.ack == GATE_ACK_HOLD;
    if (out.ack == GATE_ACK_NOW) {
        acknowledge(lab, number, APPEND_US);
    }
    if (token < 0) {
        say(lab, member, (int)index, "write w%u at %" PRIu64 "%s", number + 1, out.lsn,
            out.ack == GATE_ACK_HOLD ? ", acknowledgement kept back" : "");
    }
    return number;
}

unsigned roundlab_write(struct roundlab *lab, unsigned member, unsigned disk)
{
    return write_to(lab, member, disk, -1, -1) + 1;
}

static void on_ack(struct roundlab *lab, unsigned number)
{
    const struct write *w = &lab->writes[number];
    if (w->token < 0) {
        say(lab, w->member, (int)w->disk, "write w%u acknowledged", number + 1);
        return;
    }
    lab->tokens[w->token].last = (int)number;
    push(lab, prng_below(&lab->workload, lab->think_us_max + 1),
         (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
}

static void on_token(struct roundlab *lab, unsigned token)
{
    unsigned at = (unsigned)prng_below(&lab->workload, lab->config.members * ROUNDLAB_DISKS);
    if (!lab->nodes[at / ROUNDLAB_DISKS].disks[at % ROUNDLAB_DISKS].running) {
        push(lab, 1000, (struct event){.kind = EV_TOKEN, .number = token});
        return;
    }
    write_to(lab, at / ROUNDLAB_DISKS, at % ROUNDLAB_DISKS, lab->tokens[token].last, (int)token);
}

void roundlab_tokens(struct roundlab *lab, unsigned tokens, uint64_t think_us_max)
{
    TIDE_CHECK(tokens <= sizeof lab->tokens / sizeof lab->tokens[0]);
    lab->think_us_max = think_us_max;
    for (unsigned i = 0; i < tokens; i++) {
        lab->tokens[i].last = -1;
        push(lab, 100 * (i + 1), (struct event){.kind = EV_TOKEN, .number = i});
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
        say(lab, a, -1, "link to %s %s", member_names[b], up ? "is up" : "ends");
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
            step_member(lab, self, (struct member_event){.type = MEMBER_LINK_DOWN, .peer = peer});
        }
    }
}

void roundlab_stop(struct roundlab *lab, unsigned member)
{
    say(lab, member, -1, "its daemon is killed");
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
            step_gate(lab, member, i, (struct gate_event){.type = GATE_CONTROLLER_LOST}, &out);
        }
        lab->nodes[member].disks[i].connection++;
    }
}

void roundlab_take(struct roundlab *lab, unsigned member, enum round_kind kind)
{
    struct msg_take take = {.request = random_id(lab), .kind = kind};
    say(lab, member, -1, "is asked for a %s round", round_kind_name((unsigned)kind));
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
    return member_names[member];
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
    step_member(lab, event->member, out);
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
            tap_hold(lab, event->member, event->disk, &event->tap->hold);
        }
        break;
    case EV_TAP_ROUND:
        if (tap) {
            step_gate(lab, event->member, event->disk,
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
            tap_seal(lab, event->member, event->disk);
        }
        break;
    case EV_ACK:
        on_ack(lab, event->number);
        break;
    case EV_TOKEN:
    default:
        on_token(lab, event->number);
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
            wake = what == ROUNDLAB_DISKS ? member_wake_us(node->member)
                                          : leader_wake_us(node->leader);
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
        step_gate(lab, member, what, (struct gate_event){.type = GATE_TICK}, &out);
    } else if (what == ROUNDLAB_DISKS) {
        step_member(lab, member, (struct member_event){.type = MEMBER_TICK});
    } else {
        step_leader(lab, member,
                    (struct leader_event){.type = LEADER_TICK, .random = random_id(lab)});
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
    struct id id = random_id(lab);
    struct err err;
    TIDE_CHECK(name_parse("shop", &name));
    definition_init(lab->definition, &id, &name, 1);
    for (unsigned m = 0; m < lab->config.members; m++) {
        struct definition_member member;
        memset(&member, 0, sizeof member);
        TIDE_CHECK(name_parse(member_names[m], &member.name));
        snprintf(member.identity, sizeof member.identity, "spiffe://lab/participant/%s",
                 member_names[m]);
        snprintf(member.address, sizeof member.address, "127.0.0.%u:20004", 11 + m);
        TIDE_CHECK(definition_add_member(lab->definition, &member, &err) == 0);
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            struct definition_disk disk;
            memset(&disk, 0, sizeof disk);
            TIDE_CHECK(name_parse(disk_names[d], &disk.name));
            disk.stream = random_id(lab);
            disk.timeline = random_id(lab);
            disk.disk = random_id(lab);
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
    step_leader(lab, m,
                (struct leader_event){.type = LEADER_POLICY, .policy = &lab->config.policy});
    step_leader(
        lab, m,
        (struct leader_event){.type = LEADER_DEFINITION, .definition = lab->definition, .self = m});
    step_member(
        lab, m,
        (struct member_event){.type = MEMBER_DEFINITION, .definition = lab->definition, .self = m});
}

static void make_node(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    make_daemon(lab, m);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        node->disks[d].next_lsn = 1;
        start_tap(lab, m, d);
        tell_tap(lab, m, d);
    }
}

void roundlab_start(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    if (!node->stopped) {
        return;
    }
    say(lab, m, -1, "its daemon starts");
    member_free(node->member);
    leader_free(node->leader);
    node->starts++;
    node->stopped = false;
    make_daemon(lab, m);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        tell_tap(lab, m, d);
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
        verdict.points += point;
        verdict.full += point && !round->partial;
        verdict.torn += point && is_torn(lab, round);
    }
    align_free(align);
    return verdict;
}
