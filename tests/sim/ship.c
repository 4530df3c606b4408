/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/ship.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "common/core/prng.h"
#include "participant/cutter.h"

#include <stdlib.h>
#include <string.h>

#define POLL_US     40000U
#define AGE_US_MAX  600000U /* a segment is cut when it is that old, or younger */
#define DECIDED_MAX TIDE_WINDOW_MAX

struct decided {
    uint64_t first;
    uint64_t last;
    struct hash hash;
    struct hash before;
    struct cutter_place place; /* of its first record */
};

struct line { /* of one stream */
    struct ship *ship;
    unsigned disk;
    uint64_t session; /* answers of earlier ones are passed over */
    uint64_t life;    /* of the tap */
    bool asked;
    struct window window;
    struct decided decided[DECIDED_MAX]; /* outlives all */
    unsigned decided_count;
    struct hash hash; /* of what was decided or stored last */
    uint64_t lsn;
    struct cutter_place place; /* of the next record; lsn 0: not known */
    uint64_t cut_us;           /* when to cut by age */
};

struct ship {
    struct roundlab *lab;
    struct simtaps *taps;
    struct far *far;
    struct prng prng;
    struct cutter cutter;
    ship_lost_fn *lost;
    void *context;
    unsigned disks;
    struct line *lines;
};

static struct cutter_place tail_of(const struct simtap_log *log)
{
    return (struct cutter_place){log->ring, log->tail_position, log->tail_lsn,
                                 log->tail_incarnation};
}

/* The cutter at that record. False: the log has it no more, or not any longer. */
static bool open_at(struct line *line, const struct simtap_log *log, struct cutter_place place,
                    uint64_t first, const struct hash *before)
{
    const struct definition *d = roundlab_definition(line->ship->lab);
    struct err err;
    if (place.lsn == 0 || place.lsn < log->tail_lsn || place.lsn > first) {
        place = tail_of(log);
    }
    place.ring = log->ring;
    if (cutter_open(&line->ship->cutter, &log->source, &place, &d->disks[line->disk].timeline,
                    first, before, &err) == 0) {
        return true;
    }
    line->ship->lost(line->ship->context, line->disk, err.text);
    return false;
}

static void answered(void *context, uint64_t tag, const struct window_answer *answer);

static void send(struct line *line, const struct simtap_log *log, uint64_t first)
{
    struct cutter *cutter = &line->ship->cutter;
    const struct decided *d = line->decided;
    while (d->first != first) {
        d++;
        TIDE_CHECK(d < line->decided + line->decided_count);
    }
    struct segment_info info;
    struct err err;
    bool full = false;
    if (!open_at(line, log, d->place, first, &d->before)) {
        return;
    }
    if (cutter_fill(cutter, d->last, &full, &err) != 0) {
        line->ship->lost(line->ship->context, line->disk, err.text);
        return;
    }
    cutter_cut(cutter, &info);
    if (!hash_equal(&info.hash, &d->hash)) {
        line->ship->lost(line->ship->context, line->disk, "a segment has other bytes than before");
        return;
    }
    far_put(line->ship->far, line->disk, cutter->object, info.size, answered, line,
            line->session << 40 | first);
}

/* Range, hash and place of the next segment, once and for all. False: it is not due yet. */
static bool decide(struct line *line, const struct simtap_log *log)
{
    struct cutter *cutter = &line->ship->cutter;
    uint64_t through = PLANTED(SHIPPED_UNSYNCED) ? log->last_lsn : log->synced_lsn;
    uint64_t now_us = roundlab_now(line->ship->lab);
    struct err err;
    bool full = false;
    bool marked = log->mark_lsn > line->lsn && log->mark_lsn <= through;
    if ((!marked && now_us < line->cut_us) || line->decided_count == DECIDED_MAX ||
        !window_has_room(&line->window) || through <= line->lsn ||
        !open_at(line, log, line->place, line->lsn + 1, &line->hash)) {
        return false;
    }
    struct decided *d = &line->decided[line->decided_count];
    *d = (struct decided){.first = line->lsn + 1, .before = line->hash};
    d->place =
        (struct cutter_place){log->ring, cutter->position, d->first, cutter->header.incarnation};
    if (cutter_fill(cutter, through, &full, &err) != 0) {
        line->ship->lost(line->ship->context, line->disk, err.text);
        return false;
    }
    line->place = d->place;
    if (cutter_empty(cutter) || (!full && now_us < line->cut_us)) {
        return false;
    }
    struct segment_info info;
    cutter_cut(cutter, &info);
    uint64_t position = cutter->pending ? cutter->record_position : cutter->reader.position;
    d->last = line->lsn = info.last_lsn;
    d->hash = line->hash = info.hash;
    line->place = (struct cutter_place){log->ring, position, d->last + 1, info.last_incarnation};
    line->decided_count++;
    window_add(&line->window, d->first, d->last);
    line->cut_us = now_us + prng_below(&line->ship->prng, AGE_US_MAX);
    return true;
}

/* Where the far side is, and what was decided before it and is not stored. */
static bool ask(struct line *line, const struct simtap_log *log)
{
    uint64_t stored = 0;
    struct hash hash;
    if (!far_where(line->ship->far, line->disk, &stored, &hash)) {
        return false;
    }
    unsigned gone = 0;
    while (gone < line->decided_count && line->decided[gone].last <= stored) {
        gone++;
    }
    line->decided_count -= gone;
    memmove(line->decided, line->decided + gone, line->decided_count * sizeof *line->decided);
    line->session++;
    line->life = log->life;
    line->asked = true;
    line->place.lsn = 0;
    window_init(&line->window, 1 + (unsigned)prng_below(&line->ship->prng, 4), stored);
    line->lsn = stored;
    line->hash = hash;
    for (unsigned i = 0; i < line->decided_count; i++) {
        line->lsn = line->decided[i].last;
        line->hash = line->decided[i].hash;
    }
    simtap_stored(line->ship->taps, line->disk, stored);
    return true;
}

/* Those that were decided before wait until the window has room for them. */
static void refill(struct line *line)
{
    uint64_t last = line->window.stored;
    for (unsigned i = 0; i < line->window.count; i++) {
        last = line->window.items[i].last;
    }
    for (unsigned i = 0; i < line->decided_count && window_has_room(&line->window); i++) {
        if (line->decided[i].first > last) {
            window_add(&line->window, line->decided[i].first, line->decided[i].last);
            last = line->decided[i].last;
        }
    }
}

static bool all_added(const struct line *line)
{
    return line->window.count == line->decided_count;
}

static void step(struct line *line)
{
    struct ship *ship = line->ship;
    if (!roundlab_tap_running(ship->lab, line->disk) ||
        !roundlab_daemon_running(ship->lab, line->disk / ROUNDLAB_DISKS)) {
        line->asked = false;
        return;
    }
    struct simtap_log log = simtap_log(ship->taps, line->disk);
    if (line->asked &&
        (line->life != log.life || (line->window.closed && window_idle(&line->window)))) {
        line->asked = false;
    }
    if (!line->asked && !ask(line, &log)) {
        return;
    }
    refill(line);
    while (all_added(line) && decide(line, &log)) {
    }
    uint64_t first = 0;
    while (window_next(&line->window, roundlab_now(ship->lab), &first)) {
        send(line, &log, first);
    }
    if (log.synced_lsn < log.last_lsn) {
        simtap_sync(ship->taps, line->disk);
    }
}

static void answered(void *context, uint64_t tag, const struct window_answer *answer)
{
    struct line *line = context;
    if (!line->asked || tag >> 40 != line->session) {
        return;
    }
    uint64_t first = tag & ((UINT64_C(1) << 40) - 1);
    (void)window_answer(&line->window, first, answer, roundlab_now(line->ship->lab),
                        (uint8_t)prng_next(&line->ship->prng));
    if (answer->code != TIDE_ERR_OK || answer->forked) {
        return;
    }
    while (line->decided_count > 0 && line->decided[0].last <= line->window.stored) {
        memmove(line->decided, line->decided + 1, --line->decided_count * sizeof *line->decided);
    }
    if (roundlab_tap_running(line->ship->lab, line->disk)) {
        uint64_t lsn = PLANTED(RECLAIM_RECEIVED) ? far_received(line->ship->far, line->disk)
                                                 : line->window.stored;
        simtap_stored(line->ship->taps, line->disk, lsn);
    }
    step(line);
}

static void poll(void *context, uint64_t disk, uint64_t unused)
{
    struct ship *ship = context;
    (void)unused;
    step(&ship->lines[disk]);
    roundlab_call(ship->lab, POLL_US, poll, ship, disk, 0);
}

struct ship *ship_new(struct roundlab *lab, struct simtaps *taps, struct far *far, uint64_t seed,
                      ship_lost_fn *lost, void *context)
{
    struct ship *ship = calloc(1, sizeof *ship);
    struct err err;
    TIDE_CHECK(ship != NULL);
    ship->lab = lab;
    ship->taps = taps;
    ship->far = far;
    ship->lost = lost;
    ship->context = context;
    ship->disks = roundlab_definition(lab)->disk_count;
    prng_init(&ship->prng, seed ^ 0x73686970ULL);
    ship->lines = calloc(ship->disks, sizeof *ship->lines);
    TIDE_CHECK(ship->lines != NULL && cutter_init(&ship->cutter, &err) == 0);
    for (unsigned d = 0; d < ship->disks; d++) {
        ship->lines[d].ship = ship;
        ship->lines[d].disk = d;
        roundlab_call(lab, prng_below(&ship->prng, POLL_US), poll, ship, d, 0);
    }
    return ship;
}

void ship_free(struct ship *ship)
{
    if (ship != NULL) {
        cutter_close(&ship->cutter);
        free(ship->lines);
        free(ship);
    }
}
