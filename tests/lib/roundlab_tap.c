/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APPEND_US 100U  /* a write until it is in log and image */
#define SEAL_US   150U  /* from letting go to the seal in the log */
#define SYNC_US   2000U /* and until it is synced */
#define CAP_US    50000U
#define HELD_MAX  (8U << 20)

/* ---- taps ---- */

static void append_record(struct roundlab *lab, struct disk *disk, unsigned member, unsigned index,
                          struct record *record, uint64_t incarnation)
{
    record->incarnation = incarnation;
    record->stream = lab->definition->disks[member * ROUNDLAB_DISKS + index].stream;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(record, bytes, sizeof bytes);
    struct err err;
    struct record *kept = &lab->told;
    if (lab->watch.record == NULL) { /* an onlooker keeps what he wants to keep */
        disk->records = roundlab_grow(disk->records, &disk->record_room, disk->record_count,
                                      sizeof *disk->records);
        kept = &disk->records[disk->record_count++];
    }
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
    roundlab_push(lab, in_us,
                  (struct event){.kind = EV_TAP_ANSWER,
                                 .member = member,
                                 .disk = index,
                                 .link = lab->nodes[member].disks[index].connection,
                                 .tap = roundlab_keep(tap)});
}

static void acknowledge(struct roundlab *lab, unsigned number, uint64_t in_us)
{
    roundlab_push(lab, in_us, (struct event){.kind = EV_ACK, .number = number});
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
    uint64_t late = roundlab_clock(lab, member) - disk->gate.start_us;
    lab->tally.over_budget += late > disk->gate.budget_us;
    if (late > lab->tally.hold_us_max) {
        lab->tally.hold_us_max = late;
    }
    roundlab_say(
        lab, member, (int)index, "lets go of %s (%s) after %" PRIu64 " us, %" PRIu64 " writes held",
        roundlab_say_round(lab, &disk->gate.seal.round, r),
        round_outcome_name((unsigned)disk->gate.seal.outcome), late, disk->gate.seal.writes_held);
    while (lab->settled < lab->write_count && !lab->writes[lab->settled].waiting) {
        lab->settled++;
    }
    for (size_t i = lab->settled; i < lab->write_count; i++) {
        struct write *w = &lab->writes[i];
        if (w->waiting && w->member == member && w->disk == index) {
            w->waiting = false;
            acknowledge(lab, (unsigned)i, 1);
        }
    }
    if (out->seal_due) {
        roundlab_push(
            lab, SEAL_US,
            (struct event){
                .kind = EV_SEAL, .member = member, .disk = index, .link = disk->connection});
    }
}

void roundlab_tap_step(struct roundlab *lab, unsigned member, unsigned index,
                       struct gate_event event, struct gate_out *ret)
{
    event.now_us = roundlab_clock(lab, member);
    gate_step(&lab->nodes[member].disks[index].gate, &event, ret);
    roundlab_wakes(lab, member);
    carry_out(lab, member, index, ret);
}

void roundlab_tap_hold(struct roundlab *lab, unsigned member, unsigned index,
                       const struct tapctl_hold *hold)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    struct id nonce = roundlab_random_id(lab);
    roundlab_tap_step(
        lab, member, index,
        (struct gate_event){.type = GATE_HOLD, .hold = hold, .nonce = nonce, .log_ok = true}, &out);
    static struct tapctl reply;
    memset(&reply, 0, sizeof reply);
    char r[16];
    if (out.refused) {
        reply.type = TAPCTL_REFUSED;
        reply.refused.round = hold->order.round;
        reply.refused.reason = out.reason;
        reply.refused.outcome = out.ended;
        snprintf(reply.refused.text, sizeof reply.refused.text, "the tap refused");
        roundlab_say(lab, member, (int)index, "refuses %s: %s",
                     roundlab_say_round(lab, &hold->order.round, r),
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
            roundlab_say(lab, member, (int)index,
                         "bookmark %s at %" PRIu64 ", %s for %u us at most",
                         roundlab_say_round(lab, &hold->order.round, r), out.lsn,
                         hold->unheld ? "does not hold" : "holds", out.budget_us);
        }
        reply.type = TAPCTL_HELD;
        reply.held.round = hold->order.round;
        reply.held.mark = out.mark;
        reply.held.budget_us = out.budget_us;
    }
    answer(lab, member, index, &reply, TAP_US);
}

void roundlab_tap_seal(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    char r[16];
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_SEAL}, &out);
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
    roundlab_say(lab, member, (int)index, "seals %s %s at %" PRIu64,
                 roundlab_say_round(lab, &due.round, r), round_outcome_name((unsigned)due.outcome),
                 out.lsn);
    uint64_t seal_lsn = out.lsn;
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_SEAL_APPENDED}, &out);
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

void roundlab_tap_tell(struct roundlab *lab, unsigned member, unsigned index)
{
    const struct disk *disk = &lab->nodes[member].disks[index];
    struct member_tap tap = {.attached = disk->running};
    int of = roundlab_disk_of(lab, member, index);
    if (of < 0) {
        return;
    }
    if (disk->running) {
        tap.stream = lab->definition->disks[member * ROUNDLAB_DISKS + index].stream;
        tap.incarnation = disk->gate.incarnation;
        tap.whole = disk->gate.whole;
        tap.logging = true;
    }
    roundlab_step_member(
        lab, member, (struct member_event){.type = MEMBER_TAP, .disk = (unsigned)of, .tap = tap});
}

void roundlab_tap_launch(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    TIDE_CHECK(!disk->running);
    struct id random = roundlab_random_id(lab);
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
                                 .whole = whole,
                                 .held_before = disk->starts > 0,
                                 .now_us = roundlab_clock(lab, member)};
    gate_init(&disk->gate, &config);
    disk->running = true;
    disk->starts++;
    disk->connection++;
}

void roundlab_tap_start(struct roundlab *lab, unsigned member, unsigned disk)
{
    roundlab_tap_launch(lab, member, disk);
    roundlab_say(lab, member, (int)disk, "its tap starts");
    roundlab_tap_tell(lab, member, disk);
}

void roundlab_tap_stop(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    if (!disk->running) {
        return;
    }
    roundlab_say(lab, member, (int)index, "its tap is killed");
    if (disk->gate.state == GATE_HOLDING) {
        tell_let_go(lab, member, index); /* nobody holds any more, nor acknowledges */
    }
    disk->running = false;
    disk->connection++;
    roundlab_wakes(lab, member);
    disk->next_lsn = disk->gate.next_lsn;
    for (size_t i = 0; i < lab->write_count; i++) { /* nobody acknowledges these any more */
        struct write *w = &lab->writes[i];
        if (w->waiting && w->member == member && w->disk == index) {
            w->waiting = false;
            if (w->token >= 0) {
                lab->tokens[w->token].last = -1;
                roundlab_push(lab, 5000,
                              (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
            }
        }
    }
    roundlab_tap_tell(lab, member, index);
}

void roundlab_tap_gap(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_GAP, .log_ok = true},
                      &out);
    if (out.lsn != 0) {
        struct record record = {.type = RECORD_GAP, .lsn = out.lsn};
        record.gap = (struct record_gap){.reason = RECORD_GAP_IMAGE, .from_lsn = out.lsn};
        append_record(lab, disk, member, index, &record, disk->gate.incarnation);
    }
    roundlab_say(lab, member, (int)index, "gap: no longer whole");
    roundlab_tap_tell(lab, member, index);
}

static uint64_t append_own(struct roundlab *lab, unsigned member, unsigned index,
                           struct record record)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_APPEND}, &out);
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
    roundlab_tap_step(lab, member, index,
                      (struct gate_event){.type = GATE_WHOLE, .begin_lsn = begin_lsn}, &out);
    roundlab_say(lab, member, (int)index, "copied: whole again");
    roundlab_tap_tell(lab, member, index);
}

/* ---- writes ---- */

static unsigned write_to(struct roundlab *lab, unsigned member, unsigned index, int cause,
                         int token)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    TIDE_CHECK(disk->running);
    lab->writes =
        roundlab_grow(lab->writes, &lab->write_room, lab->write_count, sizeof *lab->writes);
    unsigned number = (unsigned)lab->write_count++;
    struct gate_out out;
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_WRITE, .bytes = 4096},
                      &out);
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
        roundlab_say(lab, member, (int)index, "write w%u at %" PRIu64 "%s", number + 1, out.lsn,
                     out.ack == GATE_ACK_HOLD ? ", acknowledgement kept back" : "");
    }
    return number;
}

unsigned roundlab_write(struct roundlab *lab, unsigned member, unsigned disk)
{
    return write_to(lab, member, disk, -1, -1) + 1;
}

void roundlab_tap_acked(struct roundlab *lab, unsigned number)
{
    const struct write *w = &lab->writes[number];
    if (w->token < 0) {
        roundlab_say(lab, w->member, (int)w->disk, "write w%u acknowledged", number + 1);
        return;
    }
    lab->tokens[w->token].last = (int)number;
    roundlab_push(lab, prng_below(&lab->workload, lab->think_us_max + 1),
                  (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
}

void roundlab_tap_token(struct roundlab *lab, unsigned token)
{
    unsigned at = (unsigned)prng_below(&lab->workload, lab->config.members * ROUNDLAB_DISKS);
    if (!lab->nodes[at / ROUNDLAB_DISKS].disks[at % ROUNDLAB_DISKS].running) {
        roundlab_push(lab, 1000, (struct event){.kind = EV_TOKEN, .number = token});
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
        roundlab_push(lab, 100 * (i + 1), (struct event){.kind = EV_TOKEN, .number = i});
    }
}
