/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/cutter.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"

int cutter_init(struct cutter *cutter, struct err *err)
{
    memset(cutter, 0, sizeof *cutter);
    cutter->window = malloc(TIDE_LOG_BUFFER);
    cutter->object = malloc(TIDE_SEGMENT_MAX);
    if (cutter->window == NULL || cutter->object == NULL) {
        cutter_close(cutter);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a segment of %u bytes",
                       TIDE_SEGMENT_MAX);
    }
    return 0;
}

void cutter_close(struct cutter *cutter)
{
    free(cutter->window);
    free(cutter->object);
    memset(cutter, 0, sizeof *cutter);
}

/* The next record into cutter->record; false with *ret_end where there is none. */
static int next(struct cutter *cutter, bool *ret_got, struct err *err)
{
    struct log_reader *reader = &cutter->reader;
    if (cutter->pending) {
        *ret_got = true;
        return 0;
    }
    if (log_reader_next(reader, &cutter->record, &cutter->record_bytes, &cutter->record_size,
                        err) != 0) {
        return -1;
    }
    *ret_got = reader->end == LOG_END_NONE;
    if (*ret_got) {
        cutter->pending = true;
        cutter->record_position = reader->position - cutter->record_size;
    }
    return 0;
}

/* The reader at first_lsn, by way of all records between it and the place. */
static int pass_to(struct cutter *cutter, const struct source *source,
                   const struct cutter_place *place, uint64_t first_lsn, struct err *err)
{
    cutter->pending = false;
    log_reader_init(&cutter->reader, source, &place->ring, place->position, place->lsn,
                    place->incarnation, cutter->window, TIDE_LOG_BUFFER);
    while (cutter->reader.lsn < first_lsn) {
        bool got = false;
        cutter->reader.through_lsn = first_lsn - 1;
        if (next(cutter, &got, err) != 0) {
            return -1;
        }
        if (!got) {
            return err_set(err, TIDE_ERR_NOT_FOUND,
                           "the log ends before lsn %" PRIu64 ", and lsn %" PRIu64 " is due%s%s",
                           cutter->reader.lsn, first_lsn,
                           cutter->reader.end == LOG_END_TORN ? ": " : "",
                           cutter->reader.end == LOG_END_TORN ? cutter->reader.torn.text : "");
        }
        cutter->pending = false;
    }
    return 0;
}

/* What lay between the place and first_lsn is stored, so the tap may write over it meanwhile. The
 * start of the file that is nearest before first_lsn is then as good: with *at from the last try,
 * the next one further back. A header that a power cut left over only leads nowhere. */
static bool nearer(const struct source *source, const struct cutter_place *place,
                   uint64_t first_lsn, struct cutter_place *at)
{
    struct cutter_place best = *place;
    uint64_t below = at->lsn == place->lsn ? UINT64_MAX : at->lsn;
    for (uint64_t file = 0; file < place->ring.files; file++) {
        uint8_t bytes[TIDE_LOG_HEADER];
        struct log_header h;
        struct err err;
        size_t got = 0;
        if (source->read(source->context, file, 0, bytes, sizeof bytes, &got, &err) == 0 &&
            got == sizeof bytes && log_header_decode(bytes, &h, &err) == 0 &&
            id_equal(&h.stream, &place->ring.stream) && h.file_size == place->ring.file_size &&
            h.sequence % place->ring.files == file && h.first_lsn > best.lsn &&
            h.first_lsn <= first_lsn && h.first_lsn < below) {
            best.position = h.sequence * h.file_size + TIDE_LOG_HEADER;
            best.lsn = h.first_lsn;
            best.incarnation = h.incarnation;
        }
    }
    bool found = best.lsn != place->lsn;
    *at = best;
    return found;
}

int cutter_open(struct cutter *cutter, const struct source *source,
                const struct cutter_place *place, const struct id *timeline, uint64_t first_lsn,
                const struct hash *before, struct err *err)
{
    cutter->open = false;
    cutter->pending = false;
    if (first_lsn < place->lsn) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "the log begins at lsn %" PRIu64 " and lsn %" PRIu64
                       " is due at the far side; the disk needs a resync",
                       place->lsn, first_lsn);
    }
    struct cutter_place at = *place;
    while (pass_to(cutter, source, &at, first_lsn, err) != 0) {
        if (err->code != TIDE_ERR_NOT_FOUND || !nearer(source, place, first_lsn, &at)) {
            return -1;
        }
    }
    cutter->header = (struct segment_header){.stream = place->ring.stream,
                                             .timeline = *timeline,
                                             .first_lsn = first_lsn,
                                             .incarnation = cutter->reader.incarnation,
                                             .before = *before};
    cutter->position = cutter->reader.position;
    segment_writer_init(&cutter->writer, cutter->object, TIDE_SEGMENT_MAX, &cutter->header);
    cutter->open = true;
    return 0;
}

int cutter_fill(struct cutter *cutter, uint64_t through_lsn, bool *ret_full, struct err *err)
{
    bool full = false;
    TIDE_CHECK(cutter->open);
    cutter->reader.through_lsn = through_lsn;
    while (!full) {
        bool got = false;
        if (segment_writer_must_cut(&cutter->writer)) {
            full = true;
            break;
        }
        uint64_t due = cutter->header.first_lsn +
                       (segment_writer_empty(&cutter->writer)
                            ? 0
                            : cutter->writer.info.last_lsn - cutter->header.first_lsn + 1);
        if (due > through_lsn) {
            break;
        }
        if (next(cutter, &got, err) != 0) {
            return -1;
        }
        if (!got) {
            return err_set(err, TIDE_ERR_CORRUPT,
                           "the log ends before lsn %" PRIu64
                           ", though the tap has synced up to %" PRIu64 "%s%s",
                           cutter->reader.lsn, through_lsn,
                           cutter->reader.end == LOG_END_TORN ? ": " : "",
                           cutter->reader.end == LOG_END_TORN ? cutter->reader.torn.text : "");
        }
        if (!segment_writer_fits(&cutter->writer, cutter->record.type, cutter->record_size)) {
            full = true;
            break;
        }
        if (segment_writer_empty(&cutter->writer)) {
            cutter->position = cutter->record_position;
        }
        if (segment_writer_append(&cutter->writer, &cutter->record, cutter->record_bytes,
                                  cutter->record_size, err) != 0) {
            return -1;
        }
        cutter->pending = false;
    }
    *ret_full = full;
    return 0;
}

bool cutter_empty(const struct cutter *cutter)
{
    return !cutter->open || segment_writer_empty(&cutter->writer);
}

void cutter_cut(struct cutter *cutter, struct segment_info *ret)
{
    TIDE_CHECK(cutter->open && !segment_writer_empty(&cutter->writer));
    segment_writer_finish(&cutter->writer, ret);
    cutter->open = false;
}

void cutter_next(struct cutter *cutter, const struct segment_info *before)
{
    TIDE_CHECK(!cutter->open);
    cutter->header = segment_next_header(before);
    cutter->position = cutter->pending ? cutter->record_position : cutter->reader.position;
    segment_writer_init(&cutter->writer, cutter->object, TIDE_SEGMENT_MAX, &cutter->header);
    cutter->open = true;
}
