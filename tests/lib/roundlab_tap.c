/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"
#include "common/core/planted.h"

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

static unsigned flat_of(unsigned member, unsigned index)
{
    return member * ROUNDLAB_DISKS + index;
}

static bool has_disks(const struct roundlab *lab)
{
    return lab->config.disks.begin != NULL;
}

/* In the log where there is one, and in the list of what the lab judges by. */
static bool append_record(struct roundlab *lab, struct disk *disk, unsigned member, unsigned index,
                          struct record *record, uint64_t incarnation)
{
    const struct roundlab_disks *disks = &lab->config.disks;
    record->incarnation = incarnation;
    record->stream = lab->definition->disks[flat_of(member, index)].stream;
    if (has_disks(lab) && !disks->append(disks->context, flat_of(member, index), record)) {
        return false;
    }
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
        lab->watch.record(lab->watch.context, flat_of(member, index), kept);
    }
    return true;
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

static void answer_sealed(struct roundlab *lab, unsigned member, unsigned index, uint64_t seal_lsn,
                          uint64_t in_us)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    memset(&disk->sealed, 0, sizeof disk->sealed);
    disk->sealed.type = TAPCTL_SEALED;
    disk->sealed.sealed = gate_told(&disk->gate.seal, seal_lsn);
    if (seal_lsn != 0 && has_disks(lab)) {
        lab->config.disks.sealed(lab->config.disks.context, flat_of(member, index));
        return;
    }
    answer(lab, member, index, &disk->sealed, in_us);
}

void roundlab_tap_synced(struct roundlab *lab, unsigned flat, bool ok)
{
    struct disk *disk = &lab->nodes[flat / ROUNDLAB_DISKS].disks[flat % ROUNDLAB_DISKS];
    disk->sealed.sealed.appended = ok;
    answer(lab, flat / ROUNDLAB_DISKS, flat % ROUNDLAB_DISKS, &disk->sealed, 0);
}

static void give_up(struct roundlab *lab, unsigned member, unsigned index)
{
    answer_sealed(lab, member, index, 0, TAP_US);
}

/* What every step of a gate can ask for beside its own event's answer. */
static void carry_out(struct roundlab *lab, unsigned member, unsigned index,
                      const struct gate_out *out)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    char r[16];
    if (out->given_up) {
        give_up(lab, member, index);
    }
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
    roundlab_guest_let_go(lab, member, index);
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

static bool has_room(const struct roundlab *lab, unsigned member, unsigned index)
{
    const struct roundlab_disks *disks = &lab->config.disks;
    return !has_disks(lab) || disks->room(disks->context, flat_of(member, index));
}

/* The bookmark, whose LSN the gate gave. */
static void place(struct roundlab *lab, unsigned member, unsigned index,
                  const struct tapctl_hold *hold, struct gate_out *out)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    char r[16];
    struct record record = {.type = RECORD_BOOKMARK, .lsn = out->lsn};
    record.bookmark = (struct record_bookmark){.order = hold->order,
                                               .nonce = out->mark.nonce,
                                               .unheld = hold->unheld,
                                               .budget_us = out->budget_us,
                                               .wall_ns = lab->now_us * 1000};
    if (!append_record(lab, disk, member, index, &record, disk->gate.incarnation)) {
        struct gate_out failed;
        roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_BOOKMARK_FAILED},
                          &failed);
        lab->config.disks.failed(lab->config.disks.context, flat_of(member, index));
        out->refused = true;
        out->reason = ROUND_REASON_LOG;
        return;
    }
    disk->has_open = true;
    disk->open = record.bookmark;
    disk->open_lsn = out->lsn;
    roundlab_say(lab, member, (int)index, "bookmark %s at %" PRIu64 ", %s for %u us at most",
                 roundlab_say_round(lab, &hold->order.round, r), out->lsn,
                 hold->unheld ? "does not hold" : "holds", out->budget_us);
}

void roundlab_tap_hold(struct roundlab *lab, unsigned member, unsigned index,
                       const struct tapctl_hold *hold)
{
    struct gate_out out;
    struct id nonce = roundlab_random_id(lab);
    roundlab_tap_step(lab, member, index,
                      (struct gate_event){.type = GATE_HOLD,
                                          .hold = hold,
                                          .nonce = nonce,
                                          .log_ok = has_room(lab, member, index)},
                      &out);
    if (!out.refused && out.lsn != 0) {
        place(lab, member, index, hold, &out);
    }
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
    bool room = has_room(lab, member, index);
    roundlab_tap_step(lab, member, index,
                      (struct gate_event){.type = room ? GATE_SEAL : GATE_SEAL_FAILED}, &out);
    if (out.lsn == 0) {
        return;
    }
    struct record record = {.type = RECORD_SEAL, .lsn = out.lsn, .seal = disk->gate.seal};
    if (!append_record(lab, disk, member, index, &record, disk->gate.incarnation)) {
        roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_SEAL_FAILED}, &out);
        lab->config.disks.failed(lab->config.disks.context, flat_of(member, index));
        return;
    }
    disk->has_open = false;
    roundlab_say(lab, member, (int)index, "seals %s %s at %" PRIu64,
                 roundlab_say_round(lab, &record.seal.round, r),
                 round_outcome_name((unsigned)record.seal.outcome), out.lsn);
    uint64_t seal_lsn = out.lsn;
    roundlab_tap_step(lab, member, index, (struct gate_event){.type = GATE_SEAL_APPENDED}, &out);
    answer_sealed(lab, member, index, seal_lsn, SYNC_US);
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

/* Without disks: the list of records is the log. */
static void begin_listed(const struct roundlab *lab, unsigned member, unsigned index,
                         struct roundlab_begin *ret)
{
    const struct disk *disk = &lab->nodes[member].disks[index];
    bool first = disk->starts == 0;
    *ret = (struct roundlab_begin){.next_lsn = disk->next_lsn,
                                   .incarnation = disk->gate.incarnation,
                                   .open_lsn = disk->has_open ? disk->open_lsn : 0,
                                   .open_round = disk->open.order.round,
                                   .boot = lab->definition->disks[flat_of(member, index)].disk,
                                   .clean = first,
                                   .first = first,
                                   .whole = first || disk->gate.whole};
}

/* The records that a life begins with, next_lsn the first of them. Returns the LSN after them. */
static uint64_t begin_life(struct roundlab *lab, unsigned member, unsigned index,
                           const struct roundlab_begin *found, uint64_t incarnation)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    const struct definition_disk *defined = &lab->definition->disks[flat_of(member, index)];
    uint64_t lsn = found->next_lsn;
    if (found->open_lsn != 0) { /* what a crash left open is sealed before all else */
        struct record seal = {.type = RECORD_SEAL, .lsn = lsn++};
        seal.seal = (struct record_seal){.round = found->open_round,
                                         .bookmark_lsn = found->open_lsn,
                                         .outcome = ROUND_OUTCOME_ABORTED};
        TIDE_CHECK(append_record(lab, disk, member, index, &seal, found->incarnation));
        disk->has_open = false;
    }
    struct record attach = {.type = RECORD_ATTACH, .lsn = lsn++};
    attach.attach = (struct record_attach){.boot = found->boot,
                                           .disk = defined->disk,
                                           .timeline = defined->timeline,
                                           .size = defined->size,
                                           .block_size = defined->block_size,
                                           .clean = found->clean,
                                           .first = found->first,
                                           .base_zero = found->first && found->whole,
                                           .replayed_from = found->replayed_from,
                                           .replayed_to = found->replayed_to};
    if (found->first || !PLANTED(ATTACH_MISSING)) {
        TIDE_CHECK(append_record(lab, disk, member, index, &attach, incarnation));
    } else {
        lsn--;
    }
    if (found->gap != 0) {
        struct record gap = {.type = RECORD_GAP, .lsn = lsn++};
        gap.gap = (struct record_gap){.reason = found->gap, .from_lsn = found->next_lsn};
        TIDE_CHECK(append_record(lab, disk, member, index, &gap, incarnation));
    }
    return lsn;
}

/* What the log lost of what was judged already, a power cut or a failure took. */
static void forget(struct roundlab *lab, unsigned member, unsigned index, uint64_t next_lsn)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    while (disk->record_count > 0 && disk->records[disk->record_count - 1].lsn >= next_lsn) {
        disk->record_count--;
    }
    if (lab->watch.cut != NULL && disk->starts > 0 && next_lsn != disk->next_lsn) {
        lab->watch.cut(lab->watch.context, flat_of(member, index), next_lsn);
    }
}

void roundlab_tap_launch(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    const struct roundlab_disks *disks = &lab->config.disks;
    TIDE_CHECK(!disk->running);
    struct id random = roundlab_random_id(lab);
    uint64_t incarnation;
    memcpy(&incarnation, random.b, sizeof incarnation);
    struct roundlab_begin found;
    if (has_disks(lab)) {
        disks->begin(disks->context, flat_of(member, index), &found);
    } else {
        begin_listed(lab, member, index, &found);
    }
    forget(lab, member, index, found.next_lsn);
    struct gate_config config = {.stream = lab->definition->disks[flat_of(member, index)].stream,
                                 .incarnation = incarnation,
                                 .next_lsn = begin_life(lab, member, index, &found, incarnation),
                                 .cap_us = CAP_US,
                                 .held_max = HELD_MAX,
                                 .whole = found.whole,
                                 .held_before = disk->starts > 0,
                                 .now_us = roundlab_clock(lab, member)};
    gate_init(&disk->gate, &config);
    disk->running = true;
    disk->starts++;
    disk->connection++;
    if (has_disks(lab)) {
        disks->serve(disks->context, flat_of(member, index));
    }
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
    roundlab_guest_stop(lab, member, index);
    if (has_disks(lab)) {
        lab->config.disks.stop(lab->config.disks.context, flat_of(member, index));
    }
    roundlab_tap_tell(lab, member, index);
}

void roundlab_tap_gap(struct roundlab *lab, unsigned member, unsigned index)
{
    struct disk *disk = &lab->nodes[member].disks[index];
    struct gate_out out;
    if (has_disks(lab)) {
        lab->config.disks.gap(lab->config.disks.context, flat_of(member, index));
        return;
    }
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
    if (has_disks(lab)) {
        lab->config.disks.copy(lab->config.disks.context, flat_of(member, index));
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

/* ---- for the disks ---- */

void roundlab_tap_gate(struct roundlab *lab, unsigned flat, struct gate_event event,
                       struct gate_out *ret)
{
    roundlab_tap_step(lab, flat / ROUNDLAB_DISKS, flat % ROUNDLAB_DISKS, event, ret);
}

bool roundlab_tap_append(struct roundlab *lab, unsigned flat, struct record *record)
{
    struct disk *disk = &lab->nodes[flat / ROUNDLAB_DISKS].disks[flat % ROUNDLAB_DISKS];
    return append_record(lab, disk, flat / ROUNDLAB_DISKS, flat % ROUNDLAB_DISKS, record,
                         disk->gate.incarnation);
}

void roundlab_tap_note(struct roundlab *lab, unsigned flat, const char *text)
{
    roundlab_say(lab, flat / ROUNDLAB_DISKS, (int)(flat % ROUNDLAB_DISKS), "%s", text);
}

void roundlab_tap_changed(struct roundlab *lab, unsigned flat)
{
    roundlab_tap_tell(lab, flat / ROUNDLAB_DISKS, flat % ROUNDLAB_DISKS);
}

bool roundlab_tap_running(const struct roundlab *lab, unsigned flat)
{
    return lab->nodes[flat / ROUNDLAB_DISKS].disks[flat % ROUNDLAB_DISKS].running;
}

bool roundlab_tap_whole(const struct roundlab *lab, unsigned flat)
{
    return lab->nodes[flat / ROUNDLAB_DISKS].disks[flat % ROUNDLAB_DISKS].gate.whole;
}
