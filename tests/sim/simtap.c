/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simtap_own.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKPOINT_US 200000U
#define BASE_NUMBER   (1U << 30) /* no guest gets that far */

void simtap_word(unsigned number, uint64_t sector, uint8_t ret[SIMTAP_SECTOR])
{
    uint64_t word = (uint64_t)(number + 1) << 16 | sector;
    for (unsigned i = 0; i < SIMTAP_SECTOR; i += 8) {
        memcpy(ret + i, &word, sizeof word);
        word = word * 6364136223846793005U + 1442695040888963407U;
    }
}

void simtap_save(struct simtap *tap)
{
    tap->saved = tap->state;
}

void simtap_say(const struct simtap *tap, const char *format, ...)
{
    char text[200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    roundlab_tap_note(tap->taps->lab, tap->disk, text);
}

/* ---- time ---- */

static void due(void *context, uint64_t what, uint64_t which)
{
    struct simtap *tap = context;
    unsigned number = (unsigned)which;
    if (!tap->running || which >> 32 != (tap->life & UINT32_MAX)) {
        return;
    }
    switch ((enum later)what) {
    case LATER_APPLY:
        simtap_apply_due(tap, number);
        break;
    case LATER_COPY_READ:
        simtap_copy_read_due(tap, number);
        break;
    case LATER_COPY_NEXT:
        simtap_copy_next_due(tap, number);
        break;
    case LATER_SYNC:
        simtap_sync_due(tap, number);
        break;
    case LATER_CHECKPOINT:
    default:
        simtap_sync_begin(tap, SYNC_CHECKPOINT, 0);
        simtap_later(tap, CHECKPOINT_US, LATER_CHECKPOINT, 0);
        break;
    }
}

void simtap_later(struct simtap *tap, uint64_t in_us, enum later what, unsigned which)
{
    roundlab_call(tap->taps->lab, in_us, due, tap, (uint64_t)what, tap->life << 32 | which);
}

uint64_t simtap_draw_us(struct simtap *tap, uint64_t least, uint64_t most)
{
    return least + prng_below(&tap->taps->prng, most - least + 1);
}

/* ---- a start ---- */

/* What was on an image before anybody looked: here and there a sector. */
static void lay_base(struct simtap *tap)
{
    for (unsigned s = 0; s < SIMTAP_SECTORS; s++) {
        if (prng_below(&tap->taps->prng, 3) == 0) {
            simtap_word(BASE_NUMBER + s, s, tap->image->now + (size_t)s * SIMTAP_SECTOR);
        }
    }
    memcpy(tap->image->durable, tap->image->now, SIMTAP_SIZE);
}

static void open_disks(void *context, struct roundlab *lab)
{
    struct simtaps *taps = context;
    taps->lab = lab;
    const struct definition *d = roundlab_definition(lab);
    TIDE_CHECK(d->disk_count == taps->config.disks);
    for (unsigned i = 0; i < taps->config.disks; i++) {
        struct simtap *tap = &taps->all[i];
        tap->ring.geometry = (struct log_ring){.stream = d->disks[i].stream,
                                               .files = taps->config.log_files,
                                               .file_size = taps->config.log_file};
        for (unsigned f = 0; f < taps->config.log_files; f++) {
            tap->ring.fds[f] = tap->log->fd + (int)f;
        }
        ring_restart(&tap->ring, &d->disks[i].stream);
        tap->state = (struct state){.stream = d->disks[i].stream,
                                    .due_lsn = 1,
                                    .whole = true,
                                    .clean = true,
                                    .boot = tap->boot,
                                    .image_size = SIMTAP_SIZE};
        simtap_save(tap);
        if (taps->config.based && prng_below(&taps->prng, 2) == 0) {
            lay_base(tap);
        }
    }
}

static unsigned settle_first(const struct simtap *tap)
{
    const uint8_t *image = tap->image->now;
    bool zero = image[0] == 0 && memcmp(image, image + 1, SIMTAP_SIZE - 1) == 0;
    return zero ? 0 : RECORD_GAP_BASE;
}

/* What the scan found, as settle_known() and settle_gap() take it. */
static unsigned settle(struct simtap *tap, const struct replay *r)
{
    struct state *s = &tap->state;
    bool cut = !s->clean && !id_equal(&s->boot, &tap->boot);
    s->whole = r->whole;
    s->copy_zero = r->copy_zero && !cut;
    s->copy_lsn = r->copy_lsn < r->end_lsn ? r->copy_lsn : 0;
    if (s->whole) {
        tap->map = 0;
    } else if (cut) {
        tap->map = MAP_ALL; /* no map outlives a power cut */
    }
    return cut && !PLANTED(POWER_WITHOUT_GAP) ? RECORD_GAP_POWER : 0;
}

static void settle_gap(struct simtap *tap, const struct replay *r, unsigned gap)
{
    struct state *s = &tap->state;
    s->whole = false;
    s->copy_lsn = 0;
    s->copy_zero = gap == RECORD_GAP_BASE;
    s->gap_reason = (uint8_t)gap;
    s->gap_lsn = r->end_lsn;
    tap->map = MAP_ALL;
    simtap_save(tap);
}

/* Replay, and what can be read is durable. */
static void recover(struct simtap *tap, struct replay *r)
{
    struct err err;
    if (replay_scan(&tap->ring, &tap->state, r, &err) != 0 ||
        ring_resume(&tap->ring, r->end_position, r->end_lsn, r->end_incarnation, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    TIDE_CHECK(tap->state.end_lsn == 0 || ring_forget(&tap->ring) == 0);
    if (PLANTED(LSN_REUSED)) { /* goes on at the checkpoint, as if nothing lay behind it */
        *r = (struct replay){.whole = r->whole,
                             .end_lsn = r->start_lsn,
                             .end_position = r->start_position,
                             .end_incarnation = r->start_incarnation,
                             .start_lsn = r->start_lsn};
        TIDE_CHECK(r->end_lsn == 1 || ring_resume(&tap->ring, r->end_position, r->end_lsn,
                                                  r->end_incarnation, &err) == 0);
    }
    unsigned gap = r->end_lsn == 1 ? settle_first(tap) : settle(tap, r);
    if (r->start_lsn != r->end_lsn &&
        replay_apply(&tap->ring, tap->image->fd, SIMTAP_SIZE, false, r, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    tap->image->covers = UINT64_MAX;
    TIDE_CHECK(file_sync(tap->image->fd) == 0);
    if (gap != 0) {
        settle_gap(tap, r, gap);
    }
}

static void begin(void *context, unsigned disk, struct roundlab_begin *ret)
{
    struct simtaps *taps = context;
    struct simtap *tap = &taps->all[disk];
    struct replay r = {0};
    TIDE_CHECK(!tap->running);
    tap->state = tap->saved;
    tap->log->fails_writes = tap->log->fails_syncs = tap->image->fails_writes = false;
    recover(tap, &r);
    tap->log_lsn = r.end_lsn - 1;
    tap->synced_position = tap->state.due_position;
    tap->stored_lsn = tap->state.stored_lsn;
    simtap_recycle(tap);
    /* A copy that was under way says itself that the disk is not whole. */
    bool told = tap->state.whole || tap->state.copy_lsn != 0;
    unsigned reason = tap->state.gap_reason != 0 ? tap->state.gap_reason : RECORD_GAP_STATE;
    *ret = (struct roundlab_begin){
        .next_lsn = r.end_lsn,
        .incarnation = r.end_incarnation,
        .open_lsn = r.open_lsn,
        .open_round = r.open_round,
        .boot = tap->boot,
        .clean = tap->state.clean,
        .first = r.end_lsn == 1,
        .whole = tap->state.whole,
        .replayed_from = r.first_lsn,
        .replayed_to = r.last_lsn,
        .gap = told ? 0 : (enum record_gap_reason)reason,
    };
    tap->open_lsn = tap->mark_lsn = 0;
    if (tap->life > 0) {
        simtap_say(tap,
                   "its log ends before %" PRIu64 "%s, %" PRIu64 " to %" PRIu64 " replayed%s%s",
                   r.end_lsn, r.torn ? " (torn)" : "", r.first_lsn, r.last_lsn,
                   ret->gap != 0 ? ", gap " : "",
                   ret->gap != 0 ? record_gap_name((unsigned)ret->gap) : "");
    }
    taps->config.watch.began(taps->config.watch.context, disk, tap->image->now);
}

static void serve(void *context, unsigned disk)
{
    struct simtap *tap = &((struct simtaps *)context)->all[disk];
    struct state *s = &tap->state;
    tap->log->covers = UINT64_MAX;
    TIDE_CHECK(ring_sync(&tap->ring, tap->synced_position, tap->ring.position) == 0);
    tap->synced_lsn = tap->log_lsn;
    tap->synced_position = tap->ring.position;
    s->boot = tap->boot;
    s->clean = false;
    s->copy_lsn = 0; /* none goes on over an attach */
    s->due_lsn = tap->log_lsn + 1;
    s->due_position = tap->ring.position;
    s->due_incarnation = tap->ring.incarnation;
    s->open_lsn = s->end_lsn = s->end_position = 0;
    simtap_save(tap);
    tap->taps->config.watch.synced(tap->taps->config.watch.context, disk, tap->synced_lsn);
    tap->copy_lsn = 0;
    tap->failed = false;
    tap->logging = tap->running = true;
    tap->life++;
    memset(tap->syncs, 0, sizeof tap->syncs);
    simtap_later(tap, CHECKPOINT_US, LATER_CHECKPOINT, 0);
}

static void stop(void *context, unsigned disk)
{
    struct simtap *tap = &((struct simtaps *)context)->all[disk];
    tap->running = false;
    while (!TAILQ_EMPTY(&tap->ops)) {
        struct op *op = TAILQ_FIRST(&tap->ops);
        TAILQ_REMOVE(&tap->ops, op, entry);
        free(op);
    }
}

/* ---- the lab's table ---- */

static bool room(void *context, unsigned disk)
{
    return simtap_room(&((struct simtaps *)context)->all[disk]);
}

static bool append(void *context, unsigned disk, const struct record *record)
{
    struct record copy = *record;
    return simtap_append(&((struct simtaps *)context)->all[disk], &copy);
}

static void failed(void *context, unsigned disk)
{
    struct simtap *tap = &((struct simtaps *)context)->all[disk];
    simtap_log_failed(tap, tap->log_lsn + 1, tap->ring.position);
}

static void sealed(void *context, unsigned disk)
{
    simtap_sync_begin(&((struct simtaps *)context)->all[disk], SYNC_SEAL, 0);
}

static void write_one(void *context, unsigned disk, unsigned number)
{
    simtap_write(&((struct simtaps *)context)->all[disk], number);
}

static void gap(void *context, unsigned disk)
{
    simtap_gap(&((struct simtaps *)context)->all[disk], RECORD_GAP_ASKED, true, 0, 0);
}

static void copy(void *context, unsigned disk)
{
    simtap_copy_begin(&((struct simtaps *)context)->all[disk]);
}

struct roundlab_disks simtaps_disks(struct simtaps *taps)
{
    return (struct roundlab_disks){open_disks, begin,  serve,     stop, room, append,
                                   failed,     sealed, write_one, gap,  copy, taps};
}

struct simtaps *simtaps_new(const struct simtaps_config *config)
{
    struct simtaps *taps = calloc(1, sizeof *taps);
    TIDE_CHECK(taps != NULL);
    taps->config = *config;
    taps->all = calloc(config->disks, sizeof *taps->all);
    TIDE_CHECK(taps->all != NULL);
    TIDE_CHECK(config->log_files >= TIDE_LOG_FILES_MIN && config->log_files <= SIMDEV_PARTS_MAX);
    prng_init(&taps->prng, config->seed ^ 0x6469736b73ULL);
    for (unsigned i = 0; i < config->disks; i++) {
        struct simtap *tap = &taps->all[i];
        tap->taps = taps;
        tap->disk = i;
        tap->log = simdev_new((size_t)config->log_files * config->log_file, config->log_file);
        tap->image = simdev_new(SIMTAP_SIZE, SIMTAP_SIZE);
        tap->boot.b[0] = 1;
        TAILQ_INIT(&tap->ops);
    }
    return taps;
}

void simtaps_free(struct simtaps *taps)
{
    if (taps == NULL) {
        return;
    }
    for (unsigned i = 0; i < taps->config.disks; i++) {
        stop(taps, i);
        simdev_free(taps->all[i].log);
        simdev_free(taps->all[i].image);
    }
    free(taps->all);
    free(taps);
}

void simtap_power(struct simtaps *taps, unsigned disk)
{
    struct simtap *tap = &taps->all[disk];
    TIDE_CHECK(!tap->running);
    simtap_say(tap, "loses power");
    simdev_power(tap->log, &taps->prng);
    simdev_power(tap->image, &taps->prng);
    uint64_t boot = prng_next(&taps->prng) | 1;
    memcpy(tap->boot.b, &boot, sizeof boot);
}

void simtap_fail(struct simtaps *taps, unsigned disk, enum simtap_fault fault, bool on)
{
    struct simtap *tap = &taps->all[disk];
    switch (fault) {
    case SIMTAP_LOG_WRITES:
        tap->log->fails_writes = on;
        break;
    case SIMTAP_LOG_SYNCS:
        tap->log->fails_syncs = on;
        break;
    case SIMTAP_IMAGE_WRITES:
    default:
        tap->image->fails_writes = on;
        break;
    }
}

struct simtap_log simtap_log(struct simtaps *taps, unsigned disk)
{
    struct simtap *tap = &taps->all[disk];
    struct simtap_log ret = {.source = ring_source(&tap->ring),
                             .ring = tap->ring.geometry,
                             .synced_lsn = tap->synced_lsn,
                             .last_lsn = tap->log_lsn,
                             .mark_lsn = tap->mark_lsn,
                             .life = tap->life};
    ring_tail(&tap->ring, &ret.tail_lsn, &ret.tail_position, &ret.tail_incarnation);
    return ret;
}

void simtap_sync(struct simtaps *taps, unsigned disk)
{
    simtap_sync_begin(&taps->all[disk], SYNC_ASKED, 0);
}

void simtap_stored(struct simtaps *taps, unsigned disk, uint64_t lsn)
{
    struct simtap *tap = &taps->all[disk];
    if (lsn > tap->stored_lsn && lsn <= tap->log_lsn) {
        tap->stored_lsn = lsn;
    }
}

const uint8_t *simtap_image(const struct simtaps *taps, unsigned disk)
{
    return taps->all[disk].image->now;
}

bool simtap_whole(const struct simtaps *taps, unsigned disk)
{
    return taps->all[disk].state.whole || taps->all[disk].copy_lsn != 0;
}

bool simtap_failed(const struct simtaps *taps, unsigned disk)
{
    return taps->all[disk].failed;
}
