/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simtap_own.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <inttypes.h>
#include <string.h>

#define SYNC_US_MIN 300U
#define SYNC_US_MAX 4000U
#define SMALL       (TIDE_RECORD_SMALL_MAX + SIMTAP_SIZE)

/* ---- records ---- */

bool simtap_room(const struct simtap *tap)
{
    return tap->logging && ring_room(&tap->ring, TIDE_RECORD_SMALL_MAX, 0);
}

bool simtap_append(struct simtap *tap, struct record *record)
{
    uint8_t bytes[SMALL];
    size_t size = record_encode(record, bytes, sizeof bytes);
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    uint64_t position = 0;
    if (ring_append(&tap->ring, record->lsn, &part, 1, size, &position) != 0) {
        return false;
    }
    tap->ring.incarnation = record->incarnation;
    tap->log_lsn = record->lsn;
    if (record->type == RECORD_BOOKMARK) {
        tap->open_lsn = tap->mark_lsn = record->lsn;
        tap->open_round = record->bookmark.order.round;
    } else if (record->type == RECORD_SEAL || record->type == RECORD_GAP) {
        tap->open_lsn = 0;
    }
    return true;
}

uint64_t simtap_append_own(struct simtap *tap, struct record *record)
{
    struct gate_out out;
    roundlab_tap_gate(tap->taps->lab, tap->disk, (struct gate_event){.type = GATE_APPEND}, &out);
    uint64_t before = tap->ring.position;
    record->lsn = out.lsn;
    if (!roundlab_tap_append(tap->taps->lab, tap->disk, record)) {
        simtap_log_failed(tap, out.lsn, before);
        return 0;
    }
    return out.lsn;
}

/* ---- gaps ---- */

/* True: it is in the log. False: it has no record, or the log failed. */
static bool step_gap(struct simtap *tap, bool log_ok, enum record_gap_reason reason,
                     uint64_t offset, uint64_t size)
{
    struct gate_out out;
    roundlab_tap_gate(tap->taps->lab, tap->disk,
                      (struct gate_event){.type = GATE_GAP, .log_ok = log_ok}, &out);
    if (out.lsn == 0) {
        return false;
    }
    uint64_t before = tap->ring.position;
    struct record record = {.type = RECORD_GAP, .lsn = out.lsn};
    record.gap =
        (struct record_gap){.reason = reason, .from_lsn = out.lsn, .offset = offset, .size = size};
    if (!roundlab_tap_append(tap->taps->lab, tap->disk, &record)) {
        simtap_log_failed(tap, out.lsn, before);
        return false;
    }
    return true;
}

static void note_gap(struct simtap *tap, enum record_gap_reason reason, uint64_t lsn)
{
    struct state *s = &tap->state;
    if (s->whole || s->copy_lsn != 0 || s->gap_reason == 0) {
        s->gap_reason = (uint8_t)reason;
        s->gap_lsn = lsn;
    }
    s->whole = s->copy_zero = false;
    s->copy_lsn = 0;
    tap->copy_lsn = 0;
    simtap_say(tap, "gap at %" PRIu64 ": %s", lsn, record_gap_name((unsigned)reason));
}

static void set_due(struct simtap *tap, uint64_t lsn, uint64_t position)
{
    tap->state.due_lsn = lsn;
    tap->state.due_position = position;
    tap->state.due_incarnation = tap->ring.incarnation;
    tap->state.open_lsn = 0;
}

static void sync_image(struct simtap *tap)
{
    tap->image->covers = UINT64_MAX;
    TIDE_CHECK(file_sync(tap->image->fd) == 0);
}

static bool sync_log(struct simtap *tap, uint64_t written, uint64_t lsn, uint64_t position)
{
    if (lsn <= tap->synced_lsn) {
        return true;
    }
    tap->log->covers = written;
    if (ring_sync(&tap->ring, tap->synced_position, position) != 0) {
        return false;
    }
    tap->synced_lsn = lsn;
    tap->synced_position = position;
    tap->taps->config.watch.synced(tap->taps->config.watch.context, tap->disk, lsn);
    return true;
}

void simtap_log_failed(struct simtap *tap, uint64_t end_lsn, uint64_t end_position)
{
    if (tap->failed) {
        return;
    }
    (void)step_gap(tap, false, RECORD_GAP_LOG, 0, 0);
    tap->failed = true;
    tap->logging = false;
    tap->taps->config.watch.log_failed(tap->taps->config.watch.context, tap->disk);
    simtap_drain(tap);
    sync_image(tap);
    if (!sync_log(tap, UINT64_MAX, end_lsn - 1, end_position)) {
        end_lsn = tap->synced_lsn + 1;
        end_position = tap->synced_position;
    }
    note_gap(tap, RECORD_GAP_LOG, end_lsn);
    tap->map = MAP_ALL;
    set_due(tap, end_lsn, end_position);
    tap->state.end_lsn = end_lsn;
    tap->state.end_position = end_position;
    simtap_save(tap);
    roundlab_tap_changed(tap->taps->lab, tap->disk);
}

void simtap_overflow(struct simtap *tap)
{
    simtap_drain(tap);
    sync_image(tap);
    TIDE_CHECK(simtap_room(tap)); /* a file is kept for it */
    uint64_t lsn = tap->log_lsn + 1;
    if (PLANTED(OVERFLOW_WITHOUT_GAP)) {
        tap->logging = false;
        return;
    }
    if (!step_gap(tap, true, RECORD_GAP_OVERFLOW, 0, 0)) {
        return;
    }
    if (!sync_log(tap, UINT64_MAX, tap->log_lsn, tap->ring.position)) {
        simtap_log_failed(tap, tap->synced_lsn + 1, tap->synced_position);
        return;
    }
    note_gap(tap, RECORD_GAP_OVERFLOW, lsn);
    set_due(tap, tap->log_lsn + 1, tap->ring.position);
    simtap_save(tap);
    tap->logging = false;
    roundlab_tap_changed(tap->taps->lab, tap->disk);
}

void simtap_gap(struct simtap *tap, enum record_gap_reason reason, bool suspect, uint64_t offset,
                uint64_t size)
{
    if (suspect) {
        tap->map = MAP_ALL;
    }
    if (!tap->state.whole && tap->state.copy_lsn == 0) {
        simtap_save(tap);
        return;
    }
    uint64_t lsn = tap->log_lsn + 1;
    (void)step_gap(tap, simtap_room(tap), reason, offset, size);
    note_gap(tap, reason, lsn);
    simtap_save(tap);
    roundlab_tap_changed(tap->taps->lab, tap->disk);
}

/* ---- syncs ---- */

/* The oldest logged change whose image write has not ended. */
static void due_of(const struct simtap *tap, struct sync *sync)
{
    const struct op *op;
    sync->due_lsn = tap->log_lsn + 1;
    sync->due_position = tap->ring.position;
    TAILQ_FOREACH(op, &tap->ops, entry)
    {
        if (op->lsn != 0 && op->lsn < sync->due_lsn) {
            sync->due_lsn = op->lsn;
            sync->due_position = op->position;
        }
    }
    sync->open_lsn = tap->open_lsn < sync->due_lsn ? tap->open_lsn : 0;
    sync->open_round = tap->open_round;
}

void simtap_sync_begin(struct simtap *tap, enum sync_why why, uint64_t what)
{
    unsigned which = tap->sync_next++ % SYNCS_MAX;
    struct sync *sync = &tap->syncs[which];
    TIDE_CHECK(!sync->under_way);
    *sync = (struct sync){.why = why,
                          .under_way = true,
                          .written = simdev_written(tap->log),
                          .image_written = simdev_written(tap->image),
                          .lsn = tap->log_lsn,
                          .position = tap->ring.position,
                          .what = what};
    due_of(tap, sync);
    simtap_later(tap, simtap_draw_us(tap, SYNC_US_MIN, SYNC_US_MAX), LATER_SYNC, which);
}

/* Frees what is both stored and in the image. */
void simtap_recycle(struct simtap *tap)
{
    uint64_t due = tap->state.due_lsn - 1;
    uint64_t stored = tap->state.stored_lsn;
    uint64_t lsn = 0;
    uint64_t position = 0;
    uint64_t incarnation = 0;
    ring_free(&tap->ring, due < stored ? due : stored);
    tap->log->covers = UINT64_MAX;
    if (ring_retire(&tap->ring, tap->ring.tail) != 0) {
        return;
    }
    ring_reuse(&tap->ring, tap->ring.tail);
    ring_tail(&tap->ring, &lsn, &position, &incarnation);
    tap->taps->config.watch.reclaimed(tap->taps->config.watch.context, tap->disk, lsn - 1);
}

static void resume(struct simtap *tap)
{
    if (!tap->logging && !tap->failed &&
        ring_room(&tap->ring, SMALL, ring_capacity(&tap->ring) / 16)) {
        tap->logging = true;
        simtap_say(tap, "its log has room again");
        roundlab_tap_changed(tap->taps->lab, tap->disk);
    }
}

static void checkpoint(struct simtap *tap, const struct sync *sync)
{
    tap->image->covers = sync->image_written;
    TIDE_CHECK(file_sync(tap->image->fd) == 0);
    if (sync->due_lsn > tap->state.due_lsn) { /* an overflow meanwhile is further on */
        set_due(tap, sync->due_lsn, sync->due_position);
        tap->state.open_lsn = sync->open_lsn;
        tap->state.open_round = sync->open_round;
    }
    tap->state.stored_lsn = tap->stored_lsn;
    simtap_save(tap);
    simtap_recycle(tap);
    resume(tap);
}

void simtap_sync_due(struct simtap *tap, unsigned which)
{
    struct sync *sync = &tap->syncs[which];
    sync->under_way = false;
    bool ok = !tap->failed && sync_log(tap, sync->written, sync->lsn, sync->position);
    if (!ok && !tap->failed) {
        simtap_log_failed(tap, tap->synced_lsn + 1, tap->synced_position);
    }
    switch (sync->why) {
    case SYNC_SEAL:
        roundlab_tap_synced(tap->taps->lab, tap->disk, ok);
        break;
    case SYNC_CHECKPOINT:
        if (ok) {
            checkpoint(tap, sync);
        }
        break;
    case SYNC_COPY:
        if (ok) {
            simtap_copy_synced(tap, sync->what);
        }
        break;
    case SYNC_FUA: /* whatever became of the log, the image alone keeps the promise */
        tap->image->covers = sync->image_written;
        TIDE_CHECK(file_sync(tap->image->fd) == 0);
        simtap_flushed(tap, (unsigned)sync->what);
        break;
    case SYNC_ASKED:
    default:
        break;
    }
}
