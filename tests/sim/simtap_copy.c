/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simtap_own.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define READ_US_MIN 50U /* from reading to logging */
#define READ_US_MAX 500U
#define REST_US_MAX 3000U
#define ROOM_US     50000U

static bool is_valid(const struct simtap *tap)
{
    return tap->copy_lsn != 0 && tap->state.copy_lsn == tap->copy_lsn && tap->logging &&
           !tap->failed;
}

/* The guest keeps half of the log to itself. */
static bool has_room(const struct simtap *tap, uint64_t size)
{
    return ring_used(&tap->ring) + size <= ring_capacity(&tap->ring) / 2 &&
           ring_room(&tap->ring, size, TIDE_RING_RESERVE);
}

static void next(struct simtap *tap, uint64_t in_us)
{
    simtap_later(tap, in_us, LATER_COPY_NEXT, (unsigned)tap->copy_lsn);
}

static enum record_copy_kind kind_of(const struct simtap *tap)
{
    if (tap->map != MAP_ALL) {
        return RECORD_COPY_CHANGES;
    }
    return tap->state.copy_zero ? RECORD_COPY_INITIAL : RECORD_COPY_FULL;
}

void simtap_copy_begin(struct simtap *tap)
{
    if (tap->state.whole || tap->copy_lsn != 0 || !tap->logging || tap->failed ||
        !has_room(tap, (uint64_t)2 * TIDE_RECORD_SMALL_MAX)) {
        return;
    }
    struct record record = {.type = RECORD_COPY_BEGIN};
    record.copy_begin = (struct record_copy_begin){.kind = kind_of(tap), .size = SIMTAP_SIZE};
    uint64_t lsn = simtap_append_own(tap, &record);
    if (lsn == 0) {
        return;
    }
    tap->copy_lsn = tap->state.copy_lsn = lsn;
    tap->copied = 0;
    simtap_say(tap, "copy (%s) begins at %" PRIu64,
               record_copy_name((unsigned)record.copy_begin.kind), lsn);
    next(tap, 1);
}

/* ---- one block ---- */

void simtap_copy_read(struct simtap *tap, struct op *op)
{
    op->begun = true;
    TIDE_CHECK(file_read(tap->image->fd, op->bytes, op->change.size, op->change.offset) == 0);
    simtap_later(tap, simtap_draw_us(tap, READ_US_MIN, READ_US_MAX), LATER_COPY_READ,
                 op->change.number);
}

static bool is_zero(const uint8_t *from, size_t size)
{
    return from[0] == 0 && memcmp(from, from + 1, size - 1) == 0;
}

static void sent(struct simtap *tap, const struct op *op)
{
    for (uint64_t at = op->change.offset; at < op->change.offset + op->change.size; at += BLOCK) {
        tap->map &= ~(UINT64_C(1) << at / BLOCK);
    }
}

static void log_block(struct simtap *tap, struct op *op)
{
    bool zero = is_zero(op->bytes, op->change.size);
    if (zero && tap->state.copy_zero) {
        sent(tap, op); /* left out: the stream has never said anything else */
        return;
    }
    struct record record = {.type = zero ? RECORD_ZERO : RECORD_COPY_BLOCK,
                            .stream = tap->ring.geometry.stream,
                            .incarnation = tap->ring.incarnation};
    record.write = (struct record_write){.offset = op->change.offset,
                                         .size = op->change.size,
                                         .data = zero ? NULL : op->bytes,
                                         .copy = zero};
    if (!has_room(tap, record_size(&record))) {
        return; /* its bits stay set: it is tried again */
    }
    struct gate_out out;
    roundlab_tap_gate(tap->taps->lab, tap->disk, (struct gate_event){.type = GATE_APPEND}, &out);
    uint64_t before = tap->ring.position;
    record.lsn = out.lsn;
    if (!simtap_append(tap, &record)) {
        simtap_log_failed(tap, record.lsn, before);
        return;
    }
    tap->copied += zero ? 0 : op->change.size;
    sent(tap, op);
}

void simtap_copy_read_due(struct simtap *tap, unsigned number)
{
    struct op *op;
    TAILQ_FOREACH(op, &tap->ops, entry)
    {
        if (op->copy && op->change.number == number) {
            break;
        }
    }
    TIDE_CHECK(op != NULL);
    bool valid = is_valid(tap) && op->copy_lsn == tap->copy_lsn;
    if (valid) {
        log_block(tap, op);
    }
    TAILQ_REMOVE(&tap->ops, op, entry);
    free(op);
    if (valid) {
        bool room = has_room(tap, 2 * SIMTAP_SIZE);
        next(tap, room ? simtap_draw_us(tap, 1, REST_US_MAX) : ROOM_US);
    }
    simtap_start_ops(tap);
}

/* ---- the whole ---- */

static void finish(struct simtap *tap)
{
    if (!simtap_room(tap)) {
        next(tap, ROOM_US);
        return;
    }
    struct record record = {.type = RECORD_COPY_END};
    record.copy_end = (struct record_copy_end){
        .begin_lsn = tap->copy_lsn, .copied = tap->copied, .zeroes = SIMTAP_SIZE - tap->copied};
    if (simtap_append_own(tap, &record) != 0) {
        simtap_sync_begin(tap, SYNC_COPY, tap->copy_lsn);
    }
}

void simtap_copy_synced(struct simtap *tap, uint64_t copy_lsn)
{
    if (!is_valid(tap) || tap->copy_lsn != copy_lsn) {
        return;
    }
    struct gate_out out;
    tap->state.whole = true;
    tap->state.copy_zero = false;
    tap->state.copy_lsn = 0;
    tap->copy_lsn = 0;
    simtap_save(tap);
    simtap_say(tap, "copied: whole again");
    roundlab_tap_gate(tap->taps->lab, tap->disk,
                      (struct gate_event){.type = GATE_WHOLE, .begin_lsn = copy_lsn}, &out);
    roundlab_tap_changed(tap->taps->lab, tap->disk);
}

void simtap_copy_next_due(struct simtap *tap, unsigned copy_lsn)
{
    if (!is_valid(tap) || (unsigned)tap->copy_lsn != copy_lsn) {
        return;
    }
    bool early = PLANTED(WHOLE_EARLY) && (tap->map & (tap->map - 1)) == 0; /* the last block */
    if (tap->map == 0 || early) {
        finish(tap);
        return;
    }
    unsigned block = 0;
    while ((tap->map >> block & 1) == 0) {
        block++;
    }
    unsigned run = (tap->map >> (block + 1) & 1) != 0 ? 2 : 1;
    struct op *op = calloc(1, sizeof *op);
    TIDE_CHECK(op != NULL);
    op->copy = true;
    op->copy_lsn = tap->copy_lsn;
    op->outside = PLANTED(COPY_OVER_NEWER);
    op->change = (struct simtap_change){.number = ++tap->copy_number,
                                        .offset = (uint64_t)block * BLOCK,
                                        .size = (uint64_t)run * BLOCK};
    TAILQ_INSERT_TAIL(&tap->ops, op, entry);
    simtap_start_ops(tap);
}
