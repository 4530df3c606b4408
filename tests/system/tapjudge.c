/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/system/tapjudge.h"

#include "common/core/check.h"
#include "common/hrl/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS (CRASHDISK_SECTOR / 8)
#define MAGIC UINT64_C(0x5441504a00000000)
#define NONE  254U /* a sector that nobody wrote */
#define ANY   254U /* of a bookmark's sector: a change failed there */

static bool wrong(struct tapjudge *j, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(j->why, sizeof j->why, format, args);
    va_end(args);
    return false;
}

void tapjudge_init(struct tapjudge *j, unsigned ring_files, uint64_t ring_file_size)
{
    memset(j, 0, sizeof *j);
    memset(j->base, TAPLAB_ZERO, sizeof j->base);
    j->ring_files = ring_files;
    j->ring_file_size = ring_file_size;
}

/* Judges are copied and put back: what they point to lives until the last is closed. */
struct blob {
    struct blob *next;
    uint8_t bytes[];
};
static struct blob *blobs;

static uint8_t *keep(const uint8_t *bytes, size_t size)
{
    struct blob *blob = malloc(sizeof *blob + size);
    TIDE_CHECK(blob != NULL);
    memcpy(blob->bytes, bytes, size);
    blob->next = blobs;
    blobs = blob;
    return blob->bytes;
}

void tapjudge_close(struct tapjudge *j)
{
    while (blobs != NULL) {
        struct blob *next = blobs->next;
        free(blobs);
        blobs = next;
    }
    j->far_count = 0;
}

void tapjudge_fill(unsigned change, unsigned sector, uint8_t to[CRASHDISK_SECTOR])
{
    uint64_t word = MAGIC | (uint64_t)change << 16 | sector;
    for (unsigned i = 0; i < WORDS; i++) {
        memcpy(to + (size_t)i * 8, &word, 8);
        word += UINT64_C(0x9e3779b97f4a7c15);
    }
}

/* The change that wrote these bytes there; TAPLAB_ZERO; NONE. */
static unsigned identify(const uint8_t *bytes, unsigned sector)
{
    static const uint8_t zeroes[CRASHDISK_SECTOR];
    uint8_t expected[CRASHDISK_SECTOR];
    uint64_t word = 0;
    memcpy(&word, bytes, sizeof word);
    if (word == 0) {
        return memcmp(bytes, zeroes, sizeof zeroes) == 0 ? TAPLAB_ZERO : NONE;
    }
    unsigned change = (unsigned)(word >> 16 & 0xffff);
    if (change >= TAPLAB_CHANGES_MAX) {
        return NONE;
    }
    tapjudge_fill(change, sector, expected);
    return memcmp(bytes, expected, sizeof expected) == 0 ? change : NONE;
}

unsigned tapjudge_change(struct tapjudge *j, bool zero, unsigned sector, unsigned count)
{
    TIDE_CHECK(j->count < TAPLAB_CHANGES_MAX && sector + count <= TAPLAB_SECTORS);
    j->changes[j->count] = (struct tapjudge_change){.zero = zero, .sector = sector, .count = count};
    return j->count++;
}

static bool covers(const struct tapjudge_change *change, unsigned sector)
{
    return sector >= change->sector && sector - change->sector < change->count;
}

static uint8_t content(const struct tapjudge *j, unsigned change)
{
    return j->changes[change].zero ? (uint8_t)TAPLAB_ZERO : (uint8_t)change;
}

void tapjudge_bookmark(struct tapjudge *j, unsigned number, unsigned from, unsigned to)
{
    uint8_t *disk = j->bookmarks[number];
    memcpy(disk, j->base, TAPLAB_SECTORS);
    for (unsigned c = from; c < to; c++) {
        memset(disk + j->changes[c].sector, j->changes[c].failed ? ANY : content(j, c),
               j->changes[c].count);
    }
}

bool tapjudge_read_image(struct tapjudge *j, const struct crashdisk *disk,
                         uint8_t ret[TAPLAB_SECTORS])
{
    static uint8_t bytes[TAPLAB_SIZE];
    TIDE_CHECK(crashdisk_peek(disk, CRASHDISK_IMAGE, 0, bytes, sizeof bytes));
    for (unsigned s = 0; s < TAPLAB_SECTORS; s++) {
        ret[s] = (uint8_t)identify(bytes + (size_t)s * CRASHDISK_SECTOR, s);
        if (ret[s] == NONE) {
            return wrong(j, "image: sector %u holds what nobody wrote", s);
        }
    }
    return true;
}

bool tapjudge_image(struct tapjudge *j, const struct crashdisk *disk, unsigned from, unsigned to,
                    uint64_t certain)
{
    uint8_t image[TAPLAB_SECTORS];
    if (!tapjudge_read_image(j, disk, image)) {
        return false;
    }
    for (unsigned s = 0; s < TAPLAB_SECTORS; s++) {
        bool found = image[s] == j->base[s];
        for (unsigned c = from; c < to; c++) {
            if (covers(&j->changes[c], s)) {
                found = (found && (certain >> c & 1) == 0) || image[s] == content(j, c);
            }
        }
        if (!found) {
            return wrong(j, "image: sector %u holds change %u; certain changes: %#llx of [%u, %u)",
                         s, image[s], (unsigned long long)certain, from, to);
        }
    }
    return true;
}

/* The stream, record by record. */
struct reading {
    struct tapjudge *j;
    unsigned next; /* change that may come next */
    bool open;     /* a bookmark that has no answer yet */
    unsigned number;
    uint64_t lsn;
    uint64_t incarnation;
    bool whole;
    uint8_t disk[TAPLAB_SECTORS];
};

static bool feed_data(struct reading *r, const struct record *record, bool copy)
{
    struct tapjudge *j = r->j;
    const struct record_write *w = &record->write;
    unsigned sector = (unsigned)(w->offset / CRASHDISK_SECTOR);
    unsigned count = (unsigned)(w->size / CRASHDISK_SECTOR);
    if (w->offset % CRASHDISK_SECTOR != 0 || w->size % CRASHDISK_SECTOR != 0 ||
        w->offset + w->size > TAPLAB_SIZE) {
        return wrong(j, "stream: record %llu has a range that nobody asked for",
                     (unsigned long long)record->lsn);
    }
    unsigned first = identify(w->data, sector);
    for (unsigned i = 0; i < count; i++) {
        unsigned c = identify(w->data + (size_t)i * CRASHDISK_SECTOR, sector + i);
        if (c == NONE || (!copy && c != first)) {
            return wrong(j, "stream: record %llu carries what nobody wrote at sector %u",
                         (unsigned long long)record->lsn, sector + i);
        }
        j->replayed[sector + i] = (uint8_t)c;
        j->touched[sector + i] = true;
    }
    if (copy) {
        return true;
    }
    if (first < r->next || first >= j->count || j->changes[first].sector != sector ||
        j->changes[first].count != count) {
        return wrong(j, "stream: record %llu is change %u, %u or later is due",
                     (unsigned long long)record->lsn, first, r->next);
    }
    r->next = first + 1;
    return true;
}

static bool feed_zero(struct reading *r, const struct record *record)
{
    struct tapjudge *j = r->j;
    const struct record_write *w = &record->write;
    unsigned sector = (unsigned)(w->offset / CRASHDISK_SECTOR);
    unsigned count = (unsigned)(w->size / CRASHDISK_SECTOR);
    unsigned c = r->next;
    while (
        !w->copy && c < j->count &&
        (!j->changes[c].zero || j->changes[c].sector != sector || j->changes[c].count != count)) {
        c++;
    }
    if (c >= j->count && !w->copy) {
        return wrong(j, "stream: record %llu zeroes what nobody zeroed",
                     (unsigned long long)record->lsn);
    }
    r->next = w->copy ? r->next : c + 1;
    memset(j->replayed + sector, TAPLAB_ZERO, count);
    memset(j->touched + sector, 1, count);
    return true;
}

static bool feed_bookmark(struct reading *r, const struct record *record)
{
    r->open = record->bookmark.order.round.b[0] == 1;
    r->number = record->bookmark.order.round.b[1];
    r->lsn = record->lsn;
    r->incarnation = record->incarnation;
    r->whole = r->j->whole.answer == ROUND_ANSWER_YES;
    memcpy(r->disk, r->j->replayed, sizeof r->disk);
    return true;
}

static bool feed_seal(struct reading *r, const struct record *record)
{
    bool mine =
        r->open && record->seal.bookmark_lsn == r->lsn && record->incarnation == r->incarnation;
    if (!mine) {
        return true;
    }
    r->open = false;
    if (!r->whole || record->seal.outcome != ROUND_OUTCOME_HELD) {
        return true;
    }
    r->j->points++;
    for (unsigned s = 0; s < TAPLAB_SECTORS; s++) {
        uint8_t held = r->j->bookmarks[r->number][s];
        if (held != ANY && r->disk[s] != held) {
            return wrong(r->j, "point at %llu: sector %u holds change %u, the disk held %u",
                         (unsigned long long)r->lsn, s, r->disk[s], held);
        }
    }
    return true;
}

static bool feed(struct reading *r, const struct record *record)
{
    struct tapjudge *j = r->j;
    j->last_lsn = record->lsn;
    if (record->lsn == j->end_lsn && record->type != RECORD_ATTACH && record->type != RECORD_SEAL) {
        return wrong(j, "record %llu counts, but a sync failed before it",
                     (unsigned long long)record->lsn);
    }
    if (record->type == RECORD_ATTACH) {
        j->whole_before = j->whole.answer == ROUND_ANSWER_YES || record->attach.base_zero;
        j->replayed_from = record->attach.replayed_from;
        j->replayed_to = record->attach.replayed_to;
    }
    j->gap = record->type == RECORD_GAP ? record->gap.reason : j->gap;
    whole_feed(&j->whole, record);
    switch ((unsigned)record->type) {
    case RECORD_WRITE:
        return feed_data(r, record, false);
    case RECORD_COPY_BLOCK:
        return feed_data(r, record, true);
    case RECORD_ZERO:
        return feed_zero(r, record);
    case RECORD_BOOKMARK:
        return feed_bookmark(r, record);
    case RECORD_SEAL:
        return feed_seal(r, record);
    case RECORD_ATTACH:
    case RECORD_GAP:
        r->open = false;
        return true;
    default:
        return true;
    }
}

/* The ring as a source. */
static void ring_path(uint64_t file, char path[CRASHTREE_PATH_MAX])
{
    (void)snprintf(path, CRASHTREE_PATH_MAX, "%s/ring-%03u", CRASHDISK_LOG, (unsigned)file);
}

struct ring_files {
    const struct crashdisk *disk;
    uint64_t file_size;
};

static int ring_read(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                     size_t *ret_got, struct err *err)
{
    const struct ring_files *ring = context;
    char path[CRASHTREE_PATH_MAX];
    ring_path(file, path);
    uint64_t left = offset < ring->file_size ? ring->file_size - offset : 0;
    *ret_got = size < left ? size : (size_t)left;
    if (!crashdisk_peek(ring->disk, path, offset, to, *ret_got)) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "no %s", path);
    }
    return 0;
}

static int ring_size(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    (void)file;
    (void)err;
    *ret_size = ((const struct ring_files *)context)->file_size;
    return 0;
}

/* The header with the lowest sequence from there on, as hrl.md says; false: no file has one. */
static bool first_file(const struct tapjudge *j, const struct crashdisk *disk, uint64_t from,
                       struct log_header *ret)
{
    bool found = false;
    for (unsigned i = 0; i < j->ring_files; i++) {
        char path[CRASHTREE_PATH_MAX];
        uint8_t bytes[TIDE_LOG_HEADER];
        struct log_header header;
        struct err err;
        ring_path(i, path);
        if (crashdisk_peek(disk, path, 0, bytes, sizeof bytes) &&
            log_header_decode(bytes, &header, &err) == 0 && header.file_size == j->ring_file_size &&
            header.sequence % j->ring_files == i && header.sequence >= from &&
            (!found || header.sequence < ret->sequence)) {
            *ret = header;
            found = true;
        }
    }
    return found;
}

typedef bool (*each_fn)(void *context, const struct record *record, const uint8_t *bytes,
                        size_t size);

/* The reader's end, for people. */
static void note_end(struct tapjudge *j, const struct log_reader *reader)
{
    (void)snprintf(j->end, sizeof j->end, "position %llu; %s", (unsigned long long)reader->position,
                   reader->end == LOG_END_TORN ? reader->torn.text : "nothing there");
}

struct place {
    struct id stream;
    uint64_t position;
    uint64_t lsn;
    uint64_t incarnation;
};

/* From there to the end; *ret_due: what would come next. */
static bool each_from(struct tapjudge *j, const struct crashdisk *disk, const struct place *place,
                      uint64_t through, each_fn each, void *context, uint64_t *ret_due)
{
    static uint8_t buffer[TIDE_LOG_BUFFER];
    struct log_reader reader;
    struct ring_files files = {.disk = disk, .file_size = j->ring_file_size};
    struct source source = {.read = ring_read, .size = ring_size, .context = &files};
    struct log_ring ring = {
        .stream = place->stream, .files = j->ring_files, .file_size = j->ring_file_size};
    log_reader_init(&reader, &source, &ring, place->position, place->lsn, place->incarnation,
                    buffer, sizeof buffer);
    reader.through_lsn = through;
    for (;;) {
        struct record record;
        struct err err;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        if (log_reader_next(&reader, &record, &bytes, &size, &err) != 0) {
            return wrong(j, "stream: %s", err.text);
        }
        *ret_due = reader.lsn;
        if (reader.end != LOG_END_NONE) {
            note_end(j, &reader);
            return true;
        }
        if (each != NULL && !each(context, &record, bytes, size)) {
            return false;
        }
    }
}

/* From the first file on. One that was begun anew may have its old header back, and its records
 * overwritten: where it ends within what the far side has (through `far_lsn`), the next is looked
 * at. */
static bool each_in_ring(struct tapjudge *j, const struct crashdisk *disk, uint64_t far_lsn,
                         uint64_t through, each_fn each, void *context)
{
    struct log_header header = {0};
    uint64_t due = 0;
    for (uint64_t from = 0; due <= far_lsn && first_file(j, disk, from, &header);
         from = header.sequence + 1) {
        struct place place = {.stream = header.stream,
                              .position = header.sequence * header.file_size,
                              .lsn = header.first_lsn,
                              .incarnation = header.incarnation};
        if (!each_from(j, disk, &place, through, each, context, &due)) {
            return false;
        }
    }
    return true;
}

bool tapjudge_leads(struct tapjudge *j, const struct crashdisk *disk, const struct id *stream,
                    uint64_t position, uint64_t lsn, uint64_t incarnation, uint64_t through)
{
    struct place place = {
        .stream = *stream, .position = position, .lsn = lsn, .incarnation = incarnation};
    uint64_t due = 0;
    return each_from(j, disk, &place, through, NULL, NULL, &due) &&
           (due > through || wrong(j, "tail: from %llu on the log ends at %llu, not %llu: %s",
                                   (unsigned long long)lsn, (unsigned long long)due,
                                   (unsigned long long)through, j->end));
}

/* Against what the far side has: the same, or the next. */
static bool is_next(struct tapjudge *j, size_t far, uint64_t due, const struct record *record,
                    const uint8_t *bytes, size_t size, bool *ret_known)
{
    *ret_known = false;
    if (far > 0 && record->lsn <= j->far[far - 1].lsn) {
        const struct tapjudge_far *known = &j->far[record->lsn - 1];
        *ret_known = true;
        return (known->lsn == record->lsn && known->size == size &&
                memcmp(known->bytes, bytes, size) == 0) ||
               wrong(j, "fork: record %llu is not the one that was shipped",
                     (unsigned long long)record->lsn);
    }
    return record->lsn == due || wrong(j, "hole: record %llu where %llu is due",
                                       (unsigned long long)record->lsn, (unsigned long long)due);
}

struct shipping {
    struct tapjudge *j;
};

static bool ship(void *context, const struct record *record, const uint8_t *bytes, size_t size)
{
    struct shipping *s = context;
    struct tapjudge *j = s->j;
    bool known = false;
    if (!is_next(j, j->far_count, j->far_count + 1, record, bytes, size, &known)) {
        return false;
    }
    if (!known) {
        TIDE_CHECK(j->far_count < TAPJUDGE_FAR_MAX);
        struct tapjudge_far *f = &j->far[j->far_count++];
        *f = (struct tapjudge_far){.lsn = record->lsn, .size = size, .bytes = keep(bytes, size)};
    }
    return true;
}

bool tapjudge_ship(struct tapjudge *j, const struct crashdisk *disk, size_t far, uint64_t lsn)
{
    j->far_count = far; /* what is past it was stored in a future that was cut off */
    struct shipping s = {.j = j};
    return each_in_ring(j, disk, far > 0 ? j->far[far - 1].lsn : 0, lsn, ship, &s);
}

struct judging {
    struct reading reading;
    size_t far;
};

static bool judge(void *context, const struct record *record, const uint8_t *bytes, size_t size)
{
    struct judging *g = context;
    struct tapjudge *j = g->reading.j;
    bool known = false;
    if (!is_next(j, g->far, j->last_lsn + 1, record, bytes, size, &known)) {
        return false;
    }
    return known || feed(&g->reading, record);
}

bool tapjudge_stream(struct tapjudge *j, const struct crashdisk *disk, size_t far,
                     uint64_t synced_lsn, uint64_t end_lsn)
{
    struct judging g = {.reading = {.j = j, .next = 1}, .far = far};
    whole_init(&j->whole);
    j->whole_before = false;
    j->last_lsn = 0;
    j->end_lsn = end_lsn;
    j->points = j->gap = 0;
    memset(j->replayed, TAPLAB_ZERO, sizeof j->replayed);
    memset(j->touched, 0, sizeof j->touched);
    TIDE_CHECK(far <= j->far_count);
    for (size_t i = 0; i < far; i++) {
        struct record record;
        struct err err;
        size_t size = 0;
        TIDE_CHECK(record_decode(j->far[i].bytes, j->far[i].size, &record, &size, &err) == 0);
        if (!feed(&g.reading, &record)) {
            return false;
        }
    }
    if (!each_in_ring(j, disk, far > 0 ? j->far[far - 1].lsn : 0, UINT64_MAX, judge, &g)) {
        return false;
    }
    return j->last_lsn >= synced_lsn ||
           wrong(j, "the log ends at %llu, synced was %llu: %s", (unsigned long long)j->last_lsn,
                 (unsigned long long)synced_lsn, j->end);
}

bool tapjudge_same(struct tapjudge *j, const struct crashdisk *disk, bool touched)
{
    uint8_t image[TAPLAB_SECTORS];
    bool whole = j->whole.answer == ROUND_ANSWER_YES;
    if (!tapjudge_read_image(j, disk, image)) {
        return false;
    }
    for (unsigned s = 0; s < TAPLAB_SECTORS; s++) {
        if ((whole || (touched && j->touched[s])) && image[s] != j->replayed[s]) {
            return wrong(j, "%s stream: sector %u is change %u there, %u on the image",
                         whole ? "whole" : "partial", s, j->replayed[s], image[s]);
        }
    }
    return true;
}
