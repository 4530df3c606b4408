/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/replay.h"

#include "common/core/planted.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void start_behind(struct replay *r, const struct log_reader *reader)
{
    r->start_lsn = reader->lsn;
    r->start_position = reader->position;
    r->start_incarnation = reader->incarnation;
}

static void note(struct replay *r, const struct state *state, const struct record *record,
                 const struct log_reader *reader)
{
    switch (record->type) {
    case RECORD_BOOKMARK:
        r->open_lsn = PLANTED(OPEN_UNSEALED) ? 0 : record->lsn;
        r->open_round = record->bookmark.order.round;
        break;
    case RECORD_SEAL:
        r->open_lsn = 0;
        break;
    case RECORD_ATTACH:
        r->open_lsn = 0;
        r->copy_lsn = 0;
        break;
    case RECORD_GAP:
        r->open_lsn = 0;
        r->whole = false;
        r->copy_zero = r->copy_zero && record->gap.reason == RECORD_GAP_BASE;
        if (record->lsn > r->copy_lsn) {
            r->copy_lsn = 0;
        }
        if (record->gap.reason == RECORD_GAP_OVERFLOW || record->gap.reason == RECORD_GAP_LOG) {
            start_behind(r, reader);
        }
        break;
    case RECORD_COPY_BEGIN:
        /* Older ones the state knows better; one before a gap that the log could not take, too. */
        if (record->lsn > r->copy_lsn && record->lsn >= state->gap_lsn) {
            r->copy_lsn = record->lsn;
        }
        break;
    case RECORD_COPY_END:
        if (r->copy_lsn != 0 && record->copy_end.begin_lsn == r->copy_lsn) {
            r->whole = true;
            r->copy_lsn = 0;
        }
        break;
    case RECORD_RESIZE:
        r->copy_lsn = 0;
        r->size = record->resize.size;
        start_behind(r, reader);
        break;
    case RECORD_WRITE:
    case RECORD_ZERO:
    case RECORD_DETACH:
    case RECORD_ATTESTATION:
    case RECORD_COPY_BLOCK:
    case RECORD_DEFINITION:
        break;
    }
}

int replay_scan(struct ring *ring, const struct state *state, struct replay *ret, struct err *err)
{
    struct replay r = {.whole = state->whole,
                       .copy_zero = state->copy_zero,
                       .copy_lsn = state->copy_lsn,
                       .open_lsn = state->open_lsn,
                       .open_round = state->open_round,
                       .start_lsn = state->due_lsn,
                       .start_position = state->due_position,
                       .start_incarnation = state->due_incarnation};
    uint8_t *buffer = malloc(TIDE_LOG_BUFFER);
    if (buffer == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to read the log");
    }
    struct source source = ring_source(ring);
    struct log_reader reader;
    log_reader_init(&reader, &source, &ring->geometry, state->due_position, state->due_lsn,
                    state->due_incarnation, buffer, TIDE_LOG_BUFFER);
    if (state->end_lsn != 0) {
        reader.through_lsn = state->end_lsn - 1;
    }
    int result = 0;
    do {
        struct record record;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        result = log_reader_next(&reader, &record, &bytes, &size, err);
        if (result == 0 && reader.end == LOG_END_NONE) {
            note(&r, state, &record, &reader);
        }
    } while (result == 0 && reader.end == LOG_END_NONE);
    if (result == 0) {
        r.end_lsn = reader.lsn;
        r.end_position = reader.position;
        r.end_incarnation = reader.incarnation;
        r.torn = reader.end == LOG_END_TORN;
        if (r.torn) {
            (void)snprintf(r.torn_text, sizeof r.torn_text, "%s", reader.torn.text);
        }
        *ret = r;
    }
    free(buffer);
    return result;
}

static int apply(int image_fd, uint64_t image_size, bool resized, const struct record *record,
                 struct err *err)
{
    const struct record_write *w = &record->write;
    uint64_t left = w->offset < image_size ? image_size - w->offset : 0;
    if (w->size > left && !resized) {
        return err_set(err, TIDE_ERR_CORRUPT, "record %llu lies past the image's end",
                       (unsigned long long)record->lsn);
    }
    uint64_t size = w->size < left ? w->size : left;
    if (size == 0) {
        return 0;
    }
    int result = record->type != RECORD_ZERO
                     ? file_write(image_fd, w->data, (size_t)size, w->offset)
                     : file_zero(image_fd, w->offset, size, w->discard || w->copy);
    if (result != 0) {
        return err_set(err, TIDE_ERR_IO, "cannot replay record %llu into the image: %s",
                       (unsigned long long)record->lsn, strerror(errno));
    }
    return 0;
}

int replay_apply(struct ring *ring, int image_fd, uint64_t image_size, bool resized,
                 struct replay *replay, struct err *err)
{
    uint8_t *buffer = malloc(TIDE_LOG_BUFFER);
    if (buffer == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to read the log");
    }
    struct source source = ring_source(ring);
    struct log_reader reader;
    log_reader_init(&reader, &source, &ring->geometry, replay->start_position, replay->start_lsn,
                    replay->start_incarnation, buffer, TIDE_LOG_BUFFER);
    reader.through_lsn = replay->end_lsn - 1;
    int result = 0;
    while (result == 0 && reader.lsn < replay->end_lsn) {
        struct record record;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        result = log_reader_next(&reader, &record, &bytes, &size, err);
        if (result != 0 || reader.end != LOG_END_NONE) {
            break;
        }
        /* A copy's blocks too: where a write of the image failed, they say what is there since. */
        if (record.type == RECORD_WRITE || record.type == RECORD_ZERO ||
            record.type == RECORD_COPY_BLOCK) {
            result = apply(image_fd, image_size, resized, &record, err);
            replay->first_lsn = replay->first_lsn == 0 ? record.lsn : replay->first_lsn;
            replay->last_lsn = record.lsn;
        }
    }
    if (result == 0 && reader.lsn != replay->end_lsn) {
        result =
            err_set(err, TIDE_ERR_CORRUPT, "the log changed while it was replayed, at lsn %llu",
                    (unsigned long long)reader.lsn);
    }
    free(buffer);
    return result;
}
