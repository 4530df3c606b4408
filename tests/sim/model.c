/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/model.h"

#include "common/core/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSYNCED UINT64_MAX /* LSN of a change that went past the log */

struct under_way {
    struct simtap_change change;
    uint64_t lsn;
};

struct picture {
    struct picture *next;
    uint64_t lsn; /* of the bookmark */
    uint64_t incarnation;
    uint8_t bytes[SIMTAP_SIZE];
    unsigned count;
    struct simtap_change under_way[]; /* at that time */
};

struct disk {
    uint8_t bytes[SIMTAP_SIZE];
    uint64_t lsns[SIMTAP_SECTORS];    /* of the last change of each; 0: no power cut takes it */
    unsigned numbers[SIMTAP_SECTORS]; /* of that change */
    /* A change behind it that failed: a replay may bring it all the same. */
    struct simtap_change failed[SIMTAP_SECTORS];
    bool has_failed[SIMTAP_SECTORS];
    uint64_t synced;
    bool power;
    bool log_failed; /* in the life that has ended, or is about to */
    struct under_way *changes;
    size_t count;
    size_t room;
    struct picture *pictures; /* newest first */
    uint64_t stored;          /* acknowledged to somebody */
};

struct model {
    const struct definition *definition;
    struct check *check;
    struct disk *disks;
    unsigned compared;
};

struct model *model_new(const struct definition *definition, struct check *check)
{
    struct model *model = calloc(1, sizeof *model);
    TIDE_CHECK(model != NULL);
    model->definition = definition;
    model->check = check;
    model->disks = calloc(definition->disk_count, sizeof *model->disks);
    TIDE_CHECK(model->disks != NULL);
    return model;
}

void model_free(struct model *model)
{
    if (model == NULL) {
        return;
    }
    for (unsigned d = 0; d < model->definition->disk_count; d++) {
        struct disk *disk = &model->disks[d];
        while (disk->pictures != NULL) {
            struct picture *next = disk->pictures->next;
            free(disk->pictures);
            disk->pictures = next;
        }
        free(disk->changes);
    }
    free(model->disks);
    free(model);
}

__attribute__((format(printf, 5, 6))) static void breach(struct model *model, uint64_t now_us,
                                                         unsigned disk, const char *name,
                                                         const char *format, ...)
{
    const struct definition *d = model->definition;
    char what[300];
    int used = snprintf(what, sizeof what, "%s/%s: ", d->members[d->disks[disk].member].name.s,
                        d->disks[disk].name.s);
    va_list list;
    va_start(list, format);
    vsnprintf(what + used, sizeof what - (size_t)used, format, list);
    va_end(list);
    check_breach(model->check, now_us, name, "%s", what);
}

/* ---- what happens ---- */

void model_base(struct model *model, unsigned disk, const uint8_t *image)
{
    memcpy(model->disks[disk].bytes, image, SIMTAP_SIZE);
}

void model_change(struct model *model, unsigned disk, const struct simtap_change *change,
                  uint64_t lsn)
{
    struct disk *d = &model->disks[disk];
    if (d->count == d->room) {
        d->room = d->room == 0 ? 16 : d->room * 2;
        d->changes = realloc(d->changes, d->room * sizeof *d->changes);
        TIDE_CHECK(d->changes != NULL);
    }
    d->changes[d->count++] = (struct under_way){*change, lsn};
}

/* The bytes of one sector of a change. */
static void sector_of(const struct simtap_change *change, uint64_t sector,
                      uint8_t ret[SIMTAP_SECTOR])
{
    memset(ret, 0, SIMTAP_SECTOR);
    if (!change->zero) {
        simtap_word(change->number, sector, ret);
    }
}

static bool covers(const struct simtap_change *change, uint64_t sector)
{
    return sector * SIMTAP_SECTOR >= change->offset &&
           sector * SIMTAP_SECTOR < change->offset + change->size;
}

void model_applied(struct model *model, unsigned disk, unsigned number, bool ok)
{
    struct disk *d = &model->disks[disk];
    size_t i = 0;
    while (i < d->count && d->changes[i].change.number != number) {
        i++;
    }
    TIDE_CHECK(i < d->count);
    const struct under_way w = d->changes[i];
    memmove(d->changes + i, d->changes + i + 1, (--d->count - i) * sizeof *d->changes);
    for (uint64_t s = 0; s < SIMTAP_SECTORS; s++) {
        if (!covers(&w.change, s)) {
            continue;
        }
        d->has_failed[s] = !ok;
        d->failed[s] = w.change;
        if (ok) {
            sector_of(&w.change, s, d->bytes + s * SIMTAP_SECTOR);
            d->numbers[s] = number;
            d->lsns[s] = w.lsn == 0 ? UNSYNCED : w.lsn;
        }
    }
}

void model_flushed(struct model *model, unsigned disk, unsigned number)
{
    struct disk *d = &model->disks[disk];
    for (uint64_t s = 0; s < SIMTAP_SECTORS; s++) {
        if (d->numbers[s] == number) {
            d->lsns[s] = 0;
        }
    }
}

void model_synced(struct model *model, unsigned disk, uint64_t lsn)
{
    model->disks[disk].synced = lsn;
}

void model_log_failed(struct model *model, unsigned disk)
{
    model->disks[disk].log_failed = true;
}

void model_power(struct model *model, unsigned disk)
{
    model->disks[disk].power = true;
}

/* Whether a sector may read so: as before, or as a change that was under way makes it. */
static bool may_be(const uint8_t *bytes, const struct simtap_change *changes, size_t count,
                   uint64_t sector, const uint8_t *image)
{
    const uint8_t *is = image + sector * SIMTAP_SECTOR;
    uint8_t other[SIMTAP_SECTOR];
    if (memcmp(bytes + sector * SIMTAP_SECTOR, is, SIMTAP_SECTOR) == 0) {
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        if (covers(&changes[i], sector)) {
            sector_of(&changes[i], sector, other);
            if (memcmp(other, is, SIMTAP_SECTOR) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* What a sector says of itself, for people. */
static const char *told(const uint8_t *sector, char ret[48])
{
    uint64_t word = 0;
    memcpy(&word, sector, sizeof word);
    if (word == 0) {
        snprintf(ret, 48, "zeroes");
    } else {
        snprintf(ret, 48, "write %" PRIu64, (word >> 16) - 1);
    }
    return ret;
}

void model_began(struct model *model, uint64_t now_us, unsigned disk, const uint8_t *image)
{
    struct disk *d = &model->disks[disk];
    char is[48];
    char was[48];
    for (uint64_t s = 0; s < SIMTAP_SECTORS; s++) {
        struct simtap_change changes[64];
        size_t count = 0;
        bool open = d->power && (d->lsns[s] > d->synced || d->has_failed[s]);
        if (d->has_failed[s]) {
            changes[count++] = d->failed[s];
        }
        for (size_t i = 0; i < d->count && count < 64; i++) {
            changes[count++] = d->changes[i].change;
            /* Half of it may be there. */
            open |= d->power && covers(&d->changes[i].change, s);
        }
        if (!open && !may_be(d->bytes, changes, count, s, image)) {
            breach(model, now_us, disk, "bytes",
                   "after a restart sector %" PRIu64 " has %s, it had %s", s,
                   told(image + s * SIMTAP_SECTOR, is), told(d->bytes + s * SIMTAP_SECTOR, was));
        }
    }
    memcpy(d->bytes, image, SIMTAP_SIZE);
    memset(d->has_failed, 0, sizeof d->has_failed);
    memset(d->lsns, 0, sizeof d->lsns); /* all of it is durable, and this is how it is */
    d->count = 0;
    d->power = false;
}

/* Whether the last life left a bookmark without its seal. */
static bool is_open(const struct check_stream *stream)
{
    for (size_t i = stream->count; i > 0; i--) {
        enum record_type type = stream->records[i - 1].type;
        if (type == RECORD_SEAL || type == RECORD_GAP || type == RECORD_ATTACH) {
            return false;
        }
        if (type == RECORD_BOOKMARK) {
            return true;
        }
    }
    return false;
}

void model_record(struct model *model, uint64_t now_us, unsigned disk, const struct record *record)
{
    struct disk *d = &model->disks[disk];
    const struct check_stream *stream = check_streams(model->check, disk);
    /* Behind a log that failed there is no seal: the ATTACH says the same. */
    if (record->type == RECORD_ATTACH && is_open(stream) && !d->log_failed) {
        breach(model, now_us, disk, "life", "ATTACH at %" PRIu64 " follows an open bookmark",
               record->lsn);
    }
    d->log_failed = d->log_failed && record->type != RECORD_ATTACH;
    if (record->type != RECORD_ATTACH && stream->count > 0 &&
        stream->records[stream->count - 1].incarnation != record->incarnation) {
        breach(model, now_us, disk, "life", "record %" PRIu64 " begins a life that has no ATTACH",
               record->lsn);
    }
    if (record->type != RECORD_BOOKMARK) {
        return;
    }
    struct picture *p = malloc(sizeof *p + d->count * sizeof p->under_way[0]);
    TIDE_CHECK(p != NULL);
    p->lsn = record->lsn;
    p->incarnation = record->incarnation;
    memcpy(p->bytes, d->bytes, sizeof p->bytes);
    p->count = (unsigned)d->count;
    for (size_t i = 0; i < d->count; i++) {
        p->under_way[i] = d->changes[i].change;
    }
    p->next = d->pictures;
    d->pictures = p;
}

/* ---- what must be there ---- */

void model_cut(struct model *model, uint64_t now_us, unsigned disk, uint64_t lsn, uint64_t through)
{
    struct disk *d = &model->disks[disk];
    if (lsn <= through) {
        breach(model, now_us, disk, "lost",
               "its log goes on at %" PRIu64 " and the far side has it through %" PRIu64, lsn,
               through);
    }
    if (lsn <= d->synced) {
        breach(model, now_us, disk, "lost",
               "its log goes on at %" PRIu64 " and was synced through %" PRIu64, lsn, d->synced);
    }
}

void model_reclaimed(struct model *model, uint64_t now_us, unsigned disk, uint64_t lsn,
                     uint64_t stored)
{
    if (lsn > stored) {
        breach(model, now_us, disk, "lost",
               "its log was reclaimed through %" PRIu64 " and is stored through %" PRIu64, lsn,
               stored);
    }
}

void model_stored(struct model *model, unsigned disk, uint64_t lsn)
{
    struct disk *d = &model->disks[disk];
    d->stored = lsn > d->stored ? lsn : d->stored;
}

void model_holds(struct model *model, uint64_t now_us, unsigned disk, uint64_t stored)
{
    if (stored < model->disks[disk].stored) {
        breach(model, now_us, disk, "lost",
               "%" PRIu64 " was acknowledged as stored and %" PRIu64 " is what is there",
               model->disks[disk].stored, stored);
    }
}

/* ---- what is recovered ---- */

void model_stored_write(struct model *model, uint64_t now_us, unsigned disk,
                        const struct record *record)
{
    const struct record_write *w = &record->write;
    uint64_t word = 0;
    uint8_t is[SIMTAP_SECTOR];
    memcpy(&word, w->data, sizeof word); /* the first sector names the write, for all of them */
    for (uint64_t at = 0; at < w->size; at += SIMTAP_SECTOR) {
        simtap_word((unsigned)((word >> 16) - 1), (w->offset + at) / SIMTAP_SECTOR, is);
        if (word == 0 || memcmp(is, w->data + at, SIMTAP_SECTOR) != 0) {
            breach(model, now_us, disk, "bytes", "no guest wrote what is in record %" PRIu64,
                   record->lsn);
            return;
        }
    }
}

void model_recovered(struct model *model, uint64_t now_us, unsigned disk,
                     const struct record *bookmark, const uint8_t *image)
{
    const struct picture *p = model->disks[disk].pictures;
    char is[48];
    char was[48];
    char hex[TIDE_ID_HEX];
    while (p != NULL && (p->lsn != bookmark->lsn || p->incarnation != bookmark->incarnation)) {
        p = p->next;
    }
    if (p == NULL) {
        breach(model, now_us, disk, "bytes", "nobody placed the bookmark at %" PRIu64,
               bookmark->lsn);
        return;
    }
    model->compared++;
    for (uint64_t s = 0; s < SIMTAP_SECTORS; s++) {
        if (!may_be(p->bytes, p->under_way, p->count, s, image)) {
            breach(model, now_us, disk, "bytes",
                   "point %.8s has %s in sector %" PRIu64 ", the disk had %s",
                   id_hex(&bookmark->bookmark.order.round, hex),
                   told(image + s * SIMTAP_SECTOR, is), s, told(p->bytes + s * SIMTAP_SECTOR, was));
            return;
        }
    }
}

unsigned model_compared(const struct model *model)
{
    return model->compared;
}
