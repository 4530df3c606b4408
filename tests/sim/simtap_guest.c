/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simtap_own.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <stdlib.h>
#include <string.h>

#define WRITE_US_MIN 40U /* from log to image */
#define WRITE_US_MAX 400U
#define FUA_OF       8U /* writes for one that is FUA */

/* ---- map ---- */

void simtap_map_set(struct simtap *tap, uint64_t offset, uint64_t size)
{
    for (uint64_t block = offset / BLOCK; block * BLOCK < offset + size; block++) {
        tap->map |= UINT64_C(1) << block;
    }
}

/* ---- changes ---- */

static struct op *find(struct simtap *tap, unsigned number, bool copy)
{
    struct op *op;
    TAILQ_FOREACH(op, &tap->ops, entry)
    {
        if (op->change.number == number && op->copy == copy) {
            return op;
        }
    }
    return NULL;
}

static void end(struct simtap *tap, struct op *op)
{
    TAILQ_REMOVE(&tap->ops, op, entry);
    free(op);
}

static void bytes_of(const struct simtap_change *change, uint8_t *ret)
{
    for (uint64_t s = 0; s < change->size / SIMTAP_SECTOR; s++) {
        simtap_word(change->number, change->offset / SIMTAP_SECTOR + s, ret + s * SIMTAP_SECTOR);
    }
}

static void describe(const struct simtap *tap, const struct op *op, uint8_t *bytes,
                     struct record *ret)
{
    *ret = (struct record){.type = op->change.zero ? RECORD_ZERO : RECORD_WRITE,
                           .stream = tap->ring.geometry.stream,
                           .incarnation = tap->ring.incarnation};
    ret->write = (struct record_write){.offset = op->change.offset,
                                       .size = op->change.size,
                                       .data = op->change.zero ? NULL : bytes,
                                       .discard = op->change.discard};
}

void simtap_flushed(struct simtap *tap, unsigned number)
{
    const struct simtap_watch *watch = &tap->taps->config.watch;
    watch->flushed(watch->context, tap->disk, number);
    roundlab_write_done(tap->taps->lab, number, true);
}

/* Into the image, or its error to the guest. */
static void apply(struct simtap *tap, struct op *op)
{
    const struct simtap_watch *watch = &tap->taps->config.watch;
    const struct simtap_change change = op->change;
    uint8_t bytes[SIMTAP_WRITE * SIMTAP_SECTOR];
    bytes_of(&change, bytes);
    int result = change.zero ? file_zero(tap->image->fd, change.offset, change.size, change.discard)
                             : file_write(tap->image->fd, bytes, change.size, change.offset);
    bool ok = result == 0;
    bool fua = ok && op->fua;
    watch->applied(watch->context, tap->disk, change.number, ok);
    end(tap, op);
    if (!ok) {
        simtap_map_set(tap, change.offset, change.size);
        simtap_gap(tap, RECORD_GAP_IMAGE, false, change.offset, change.size);
    }
    if (fua && !PLANTED(FLUSH_UNSYNCED)) {
        simtap_sync_begin(tap, SYNC_FUA, change.number);
    } else if (fua) {
        simtap_flushed(tap, change.number);
    } else {
        roundlab_write_done(tap->taps->lab, change.number, ok);
    }
}

void simtap_apply_due(struct simtap *tap, unsigned number)
{
    struct op *op = find(tap, number, false);
    if (op != NULL) {
        apply(tap, op);
        simtap_start_ops(tap);
    }
}

void simtap_drain(struct simtap *tap)
{
    struct op *op = TAILQ_FIRST(&tap->ops);
    while (op != NULL) {
        struct op *next = TAILQ_NEXT(op, entry);
        if (op->begun && !op->copy) {
            apply(tap, op);
        }
        op = next;
    }
}

/* Under its range: in the log, and on the way to the image. */
static void log_change(struct simtap *tap, struct op *op)
{
    const struct simtap_watch *watch = &tap->taps->config.watch;
    uint8_t bytes[SIMTAP_WRITE * SIMTAP_SECTOR];
    struct record record;
    bytes_of(&op->change, bytes);
    describe(tap, op, bytes, &record);
    if (tap->logging && !ring_room(&tap->ring, record_size(&record), TIDE_RING_RESERVE)) {
        simtap_overflow(tap);
    }
    if (!tap->logging) {
        simtap_map_set(tap, op->change.offset, op->change.size);
        roundlab_write_unlogged(tap->taps->lab, op->change.number);
    } else {
        bool heed = !op->change.zero || !PLANTED(ZERO_NOT_HELD);
        uint64_t before = tap->ring.position;
        record.lsn =
            roundlab_write_logged(tap->taps->lab, op->change.number, op->change.size, heed);
        if (simtap_append(tap, &record)) {
            op->lsn = record.lsn;
            op->position = before;
        } else {
            simtap_log_failed(tap, record.lsn, before);
        }
    }
    watch->change(watch->context, tap->disk, &op->change, op->lsn);
    op->begun = true;
    simtap_later(tap, simtap_draw_us(tap, WRITE_US_MIN, WRITE_US_MAX), LATER_APPLY,
                 op->change.number);
}

static bool is_free(const struct op *op)
{
    for (const struct op *before = TAILQ_PREV(op, ops, entry); before != NULL;
         before = TAILQ_PREV(before, ops, entry)) {
        bool guests = !before->copy && !op->copy;
        if (!before->outside && !(guests && PLANTED(OVERLAP_SWAPPED)) &&
            before->change.offset < op->change.offset + op->change.size &&
            op->change.offset < before->change.offset + before->change.size) {
            return false;
        }
    }
    return true;
}

void simtap_start_ops(struct simtap *tap)
{
    struct op *op = TAILQ_FIRST(&tap->ops);
    while (op != NULL) {
        if (!op->begun && is_free(op)) {
            if (op->copy) {
                simtap_copy_read(tap, op);
            } else {
                log_change(tap, op);
            }
            op = TAILQ_FIRST(&tap->ops); /* others may have ended */
        } else {
            op = TAILQ_NEXT(op, entry);
        }
    }
}

void simtap_write(struct simtap *tap, unsigned number)
{
    struct prng *prng = &tap->taps->prng;
    struct op *op = calloc(1, sizeof *op);
    TIDE_CHECK(op != NULL);
    uint64_t sectors = 1 + prng_below(prng, SIMTAP_WRITE);
    uint64_t what = prng_below(prng, 16);
    op->change = (struct simtap_change){.number = number,
                                        .offset = prng_below(prng, SIMTAP_SECTORS - sectors + 1) *
                                                  SIMTAP_SECTOR,
                                        .size = sectors * SIMTAP_SECTOR,
                                        .zero = what < 3,
                                        .discard = what == 0};
    op->fua = prng_below(prng, FUA_OF) == 0;
    TAILQ_INSERT_TAIL(&tap->ops, op, entry);
    simtap_start_ops(tap);
}
