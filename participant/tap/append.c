/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/append.h"

#include "common/core/check.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/copy.h"
#include "participant/tap/file.h"
#include "participant/tap/note.h"
#include "participant/tap/replay.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GAP_RESERVE (16U * 1024) /* a second gap record is not worth the last of the reserve */
#define TOUCH_US    500000U      /* a sign of life at most so often */

void append_lock(struct tap *tap, bool urgent)
{
    if (!urgent) {
        pthread_mutex_lock(&tap->entry);
    }
    pthread_mutex_lock(&tap->append);
    if (!urgent) {
        pthread_mutex_unlock(&tap->entry);
    }
}

void append_unlock(struct tap *tap)
{
    pthread_mutex_unlock(&tap->append);
}

bool append_room(const struct tap *tap)
{
    return tap->logging && ring_room(&tap->ring, TIDE_RECORD_SMALL_MAX, 0);
}

static void set_head(struct tap *tap, uint64_t lsn)
{
    tap->log_lsn = lsn;
    pthread_mutex_lock(&tap->head);
    tap->head_lsn = lsn;
    tap->head_position = tap->ring.position;
    pthread_mutex_unlock(&tap->head);
    if (tap->ring.position - tap->checkpoint_from > ring_capacity(&tap->ring) / 4) {
        tap->checkpoint_from = tap->ring.position;
        checkpoint_kick(tap);
    }
}

static void fill(const struct tap *tap, struct record *record)
{
    record->stream = tap->ring.geometry.stream;
    record->mono_ns = tap_now_us() * 1000;
    if (record->incarnation == 0) {
        record->incarnation = tap->incarnation;
    }
}

int append_record(struct tap *tap, struct record *record)
{
    fill(tap, record);
    size_t size = record_encode(record, tap->small, TIDE_TAP_SMALL_MAX);
    struct iovec part = {.iov_base = tap->small, .iov_len = size};
    uint64_t position = 0;
    if (ring_append(&tap->ring, record->lsn, &part, 1, size, &position) != 0) {
        return -1;
    }
    tap->ring.incarnation = record->incarnation;
    set_head(tap, record->lsn);
    return 0;
}

/* Whole, or on the way there: a gap changes something. */
static bool gap_matters(struct tap *tap)
{
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole || tap->state.copy_lsn != 0;
    pthread_mutex_unlock(&tap->state_lock);
    return whole;
}

/* What the map says from now on. */
enum blocks {
    BLOCKS_KEPT,    /* what it says is all that differs */
    BLOCKS_SUSPECT, /* every block may differ */
    BLOCKS_SENT,    /* every block is sent */
};

int append_state(struct tap *tap, struct err *err)
{
    tap->state.map_lost = tap->map.failed;
    tap->state.image_lost = tap->image_lost;
    int result = state_write(tap->state_fd, &tap->state, err);
    if (result == 0 && tap->untold) {
        note_write(tap, WITNESS_OPEN);
        tap->untold = false;
    }
    return result;
}

/* What the state could not be told, a note at the image says, or its time: nothing is replayed over
 * the image then, so it must have what the log alone had promised. */
static void tell_otherwise(struct tap *tap, const struct err *err)
{
    if (tap->untold) {
        return;
    }
    tap->untold = true;
    tap->unlogged = true;
    (void)append_sync_image_locked(tap);
    nbdkit_error("%s (a note at the image, or its time, must tell the gap)", err->text);
    note_write(tap, WITNESS_GAP);
    if (fsync(tap->image_fd) != 0) { /* the note too */
        tap->image_lost = true;
        tap->image_why = errno;
    }
}

static int sync_image(struct tap *tap, int fd)
{
    if (fdatasync(fd) == 0) {
        return 0;
    }
    int why = errno;
    tap->image_lost = true;
    tap->image_why = why;
    nbdkit_error("image \"%s\" cannot be synced: %s", tap->config.image, strerror(why));
    errno = why;
    return -1;
}

/* After a failed sync the system takes for written what it could not write, and says so once: what
 * the log has since the last checkpoint is written anew, and only then a sync counts again. What is
 * in no log is in the map: the system's copy of it is dropped, so that all see what the disk holds.
 */
static int mend_image(struct tap *tap)
{
    struct err err;
    pthread_mutex_lock(&tap->state_lock);
    struct replay replay = {.start_lsn = tap->state.due_lsn,
                            .start_position = tap->state.due_position,
                            .start_incarnation = tap->state.due_incarnation,
                            .end_lsn = tap->log_lsn + 1};
    pthread_mutex_unlock(&tap->state_lock);
    range_drain(&tap->range);
    if (replay.start_lsn < replay.end_lsn &&
        replay_apply(&tap->ring, tap->image_fd, tap->size, false, &replay, &err) != 0) {
        nbdkit_error("%s", err.text);
        errno = EIO;
        return -1;
    }
    if (sync_image(tap, tap->image_fd) != 0) {
        return -1;
    }
    (void)posix_fadvise(tap->image_fd, 0, 0, POSIX_FADV_DONTNEED);
    tap->image_lost = false;
    return 0;
}

int append_sync_image_locked(struct tap *tap)
{
    return tap->image_lost ? mend_image(tap) : sync_image(tap, tap->image_fd);
}

int append_sync_image(struct tap *tap, bool background)
{
    if (!tap->image_lost) {
        return sync_image(tap, background && tap->image_sync_fd >= 0 ? tap->image_sync_fd
                                                                     : tap->image_fd);
    }
    append_lock(tap, true);
    int result = append_sync_image_locked(tap);
    int why = errno;
    append_unlock(tap);
    errno = why;
    return result;
}

/* The state word: not whole, why, and (due_lsn not 0) where replay starts from now on. */
static void record_gap_state(struct tap *tap, unsigned reason, enum blocks blocks, uint64_t gap_lsn,
                             uint64_t due_lsn, uint64_t due_position, bool end)
{
    struct err err;
    if (blocks != BLOCKS_KEPT) {
        map_set_all(&tap->map);
    }
    pthread_mutex_lock(&tap->state_lock);
    struct state *s = &tap->state;
    if (s->whole || s->copy_lsn != 0 || s->gap_reason == 0) {
        s->gap_reason = (uint8_t)reason;
        s->gap_lsn = gap_lsn;
    }
    s->whole = false;
    s->copy_lsn = 0;
    s->copy_zero = false;
    s->compare = blocks == BLOCKS_SUSPECT || (s->compare && blocks == BLOCKS_KEPT);
    if (due_lsn != 0) {
        s->due_lsn = due_lsn;
        s->due_position = due_position;
        s->due_incarnation = tap->ring.incarnation;
        s->open_lsn = 0;
    }
    if (end) {
        s->end_lsn = due_lsn;
        s->end_position = due_position;
    }
    int result = append_state(tap, &err);
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        tell_otherwise(tap, &err);
    }
    tap_post(tap, TAP_WORK_STATE);
    copy_kick(tap);
}

/* Steps a gap: lets a hold go at once. Appends the record if wanted and possible. */
static int step_gap(struct tap *tap, bool append, unsigned reason, uint64_t offset, uint64_t size)
{
    struct gate_out out;
    struct gate_event event = {.type = GATE_GAP, .log_ok = append};
    tap_step(tap, &event, &out);
    if (out.lsn == 0) {
        return 0;
    }
    struct record record = {
        .type = RECORD_GAP,
        .lsn = out.lsn,
        .gap = {.reason = reason, .from_lsn = out.lsn, .offset = offset, .size = size}};
    (void)snprintf(record.gap.text, sizeof record.gap.text, "%s", record_gap_name(reason));
    return append_record(tap, &record);
}

void append_failed(struct tap *tap, uint64_t end_lsn, uint64_t end_position)
{
    if (tap->failed) {
        return;
    }
    (void)step_gap(tap, false, RECORD_GAP_LOG, 0, 0);
    tap->failed = true;
    tap->unlogged = true;
    tap->logging = false;
    range_drain(&tap->range);
    (void)append_sync_image_locked(
        tap); /* a failure has no better answer: the stream has its gap */
    /* What lies before counts only if it is durable: the next life writes behind it. */
    if (append_sync(tap, end_lsn - 1) != 0) {
        pthread_mutex_lock(&tap->head);
        end_lsn = tap->synced_lsn + 1;
        end_position = tap->synced_position;
        pthread_mutex_unlock(&tap->head);
    }
    record_gap_state(tap, RECORD_GAP_LOG, BLOCKS_SUSPECT, end_lsn, end_lsn, end_position, true);
    nbdkit_error(
        "log \"%s\" failed at lsn %llu: writes go on without a log, no point can be taken; "
        "mend the log's disk and restart",
        tap->config.folder, (unsigned long long)end_lsn);
}

int append_sync(struct tap *tap, uint64_t lsn)
{
    pthread_mutex_lock(&tap->sync);
    pthread_mutex_lock(&tap->head);
    uint64_t head_lsn = tap->head_lsn;
    uint64_t head_position = tap->head_position;
    uint64_t from = tap->synced_position;
    bool done = tap->synced_lsn >= lsn;
    bool failed = tap->sync_failed;
    pthread_mutex_unlock(&tap->head);
    int result = failed ? -1 : 0;
    if (!failed && !done) {
        result = ring_sync(&tap->ring, from, head_position);
        pthread_mutex_lock(&tap->head);
        if (result == 0) {
            tap->synced_lsn = head_lsn;
            tap->synced_position = head_position;
        } else {
            tap->sync_failed = true;
        }
        pthread_mutex_unlock(&tap->head);
    }
    pthread_mutex_unlock(&tap->sync);
    return result;
}

static void sync_failed_locked(struct tap *tap)
{
    pthread_mutex_lock(&tap->head);
    uint64_t lsn = tap->synced_lsn + 1;
    uint64_t position = tap->synced_position;
    pthread_mutex_unlock(&tap->head);
    append_failed(tap, lsn, position);
}

void append_sync_failed(struct tap *tap)
{
    struct gate_out out;
    struct gate_event event = {.type = GATE_GAP, .log_ok = false};
    tap_step(tap, &event, &out); /* let go before anything waits for a lock */
    append_lock(tap, true);
    sync_failed_locked(tap);
    append_unlock(tap);
}

void append_overflow(struct tap *tap)
{
    /* Before the record: where it lies in the log, what came before is not replayed. */
    range_drain(&tap->range);
    bool synced = append_sync_image_locked(tap) == 0;
    uint64_t lsn = tap->log_lsn + 1;
    bool record = gap_matters(tap) ? append_room(tap) : ring_room(&tap->ring, GAP_RESERVE, 0);
    if (step_gap(tap, record, RECORD_GAP_OVERFLOW, 0, 0) != 0) {
        append_failed(tap, lsn, tap->ring.position);
        return;
    }
    tap->unlogged = true;
    if (append_sync(tap, tap->log_lsn) != 0) {
        sync_failed_locked(tap);
        return;
    }
    record_gap_state(tap, RECORD_GAP_OVERFLOW, synced ? BLOCKS_KEPT : BLOCKS_SUSPECT, lsn,
                     tap->log_lsn + 1, tap->ring.position, false);
    tap->logging = false;
    nbdkit_error("log \"%s\" is full: writes go on without it, no point can be taken; is the far "
                 "side reached? (a larger log-size bridges longer outages)",
                 tap->config.folder);
}

/* A map whose file does not follow must not be trusted at the next start; and what the state could
 * not be told before, it is told now. */
static void tell_map(struct tap *tap)
{
    struct err err;
    if (!tap->untold && !tap->map.failed) {
        return;
    }
    pthread_mutex_lock(&tap->state_lock);
    bool told = tap->state.map_lost && !tap->untold;
    int result = told ? 0 : append_state(tap, &err);
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        tell_otherwise(tap, &err);
    }
}

static void gap(struct tap *tap, unsigned reason, enum blocks blocks, uint64_t offset,
                uint64_t size)
{
    if (blocks != BLOCKS_KEPT) {
        map_set_all(&tap->map); /* before the record: a kill between them must not leave it alone */
    }
    if (gap_matters(tap)) {
        uint64_t lsn = tap->log_lsn + 1;
        if (step_gap(tap, append_room(tap), reason, offset, size) != 0) {
            append_failed(tap, lsn, tap->ring.position);
        }
        record_gap_state(tap, reason, blocks, lsn, 0, 0, false);
    } else if (blocks != BLOCKS_KEPT) {
        record_gap_state(tap, reason, blocks, 0, 0, 0, false);
    } else {
        tell_map(tap);
    }
}

void append_gap(struct tap *tap, unsigned reason, bool suspect)
{
    gap(tap, reason, suspect ? BLOCKS_SUSPECT : BLOCKS_SENT, 0, 0);
}

void append_gap_map(struct tap *tap, unsigned reason)
{
    gap(tap, reason, BLOCKS_KEPT, 0, 0);
}

void append_image_gap(struct tap *tap, uint64_t offset, uint64_t size, int why)
{
    append_lock(tap, true);
    map_set(&tap->map, offset, size);
    gap(tap, RECORD_GAP_IMAGE, size == 0 ? BLOCKS_SUSPECT : BLOCKS_KEPT, offset, size);
    append_unlock(tap);
    nbdkit_error("image \"%s\" failed at offset %llu, %llu bytes: %s", tap->config.image,
                 (unsigned long long)offset, (unsigned long long)size, strerror(why));
}

int append_attach(struct tap *tap)
{
    struct gate_out out;
    if (!ring_room(&tap->ring, (uint64_t)2 * TIDE_RECORD_SMALL_MAX, 0)) {
        return -1;
    }
    struct gate_event event = {.type = GATE_APPEND};
    tap_step(tap, &event, &out);
    struct record record = {.type = RECORD_ATTACH, .lsn = out.lsn, .attach = tap->attach};
    if (append_record(tap, &record) != 0) {
        return -1;
    }
    tap->attached = true;
    tap->logged_size = tap->attach.size;
    pthread_mutex_lock(&tap->state_lock);
    bool told = tap->state.whole || tap->state.copy_lsn != 0;
    unsigned reason = tap->state.gap_reason;
    tap->state.copy_lsn = 0; /* no copy goes on over an attach: the next one begins by the map */
    pthread_mutex_unlock(&tap->state_lock);
    return told ? 0 : step_gap(tap, true, reason != 0 ? reason : RECORD_GAP_STATE, 0, 0);
}

/* RESIZE, where the log has not said yet what size the disk has. */
static int append_size(struct tap *tap)
{
    pthread_mutex_lock(&tap->state_lock);
    uint64_t size = tap->state.image_size; /* tap->size may follow only after a hold */
    pthread_mutex_unlock(&tap->state_lock);
    if (!tap->attached || tap->logged_size == size) {
        return 0;
    }
    struct record record = {.type = RECORD_RESIZE,
                            .resize = {.size = size, .before = tap->logged_size}};
    tap->logged_size = size;
    return append_own(tap, &record);
}

void append_resume(struct tap *tap)
{
    if (tap->logging || tap->failed ||
        !ring_room(&tap->ring, TIDE_TAP_REQUEST_MAX, ring_capacity(&tap->ring) / 16)) {
        return;
    }
    if (!tap->attached) {
        uint64_t lsn = tap->log_lsn + 1;
        if (append_attach(tap) != 0) {
            append_failed(tap, lsn, tap->ring.position);
            return;
        }
    }
    if (append_size(tap) != 0) {
        return;
    }
    tap->logging = true;
    tap_post(tap, TAP_WORK_STATE);
    copy_kick(tap);
}

/* The record of a change, under the append lock: head and data in one vector. */
static int append_data(struct tap *tap, struct record *record, uint64_t *ret_position)
{
    uint8_t head[TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX];
    static const uint8_t zeroes[8];
    fill(tap, record);
    struct iovec parts[3];
    int count = 0;
    if (record->type == RECORD_WRITE || record->type == RECORD_COPY_BLOCK) {
        record_encode_write_head(record, head);
        parts[count++] = (struct iovec){.iov_base = head, .iov_len = sizeof head};
        parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)record->write.data,
                                        .iov_len = (size_t)record->write.size};
        if (record_padding(record) > 0) {
            parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)zeroes,
                                            .iov_len = record_padding(record)};
        }
    } else {
        size_t size = record_encode(record, tap->small, TIDE_TAP_SMALL_MAX);
        parts[count++] = (struct iovec){.iov_base = tap->small, .iov_len = size};
    }
    return ring_append(&tap->ring, record->lsn, parts, count, record_size(record), ret_position);
}

int append_own(struct tap *tap, struct record *record)
{
    struct gate_out out;
    struct gate_event event = {.type = GATE_APPEND};
    tap_step(tap, &event, &out);
    uint64_t position = 0;
    uint64_t before = tap->ring.position;
    record->lsn = out.lsn;
    if (append_data(tap, record, &position) != 0) {
        append_failed(tap, out.lsn, before);
        return -1;
    }
    set_head(tap, out.lsn);
    return 0;
}

/* A write that goes past the log: noted first, then it may change the image. The sign of life keeps
 * the image's time from looking like somebody else's write after a kill. */
static void unlogged(struct tap *tap, const struct record *record)
{
    map_set(&tap->map, record->write.offset, record->write.size);
    uint64_t now_us = tap_now_us();
    bool touch = now_us - tap->touched_us >= TOUCH_US;
    if (touch) {
        tap->touched_us = now_us;
    }
    if (touch || !tap->untold) {
        tell_map(tap);
    }
    if (touch && !tap->untold) { /* else the image's time is what tells */
        (void)futimens(tap->state_fd, NULL);
    }
}

enum attempt { ATTEMPT_DONE, ATTEMPT_AGAIN, ATTEMPT_WAIT, ATTEMPT_SPACE, ATTEMPT_OUTSIDE };

static enum attempt try_change(struct tap *tap, struct range_node *node, struct record *record,
                               bool may_wait, uint64_t *ret_ticket)
{
    if (record->write.offset + record->write.size > tap->size) {
        return ATTEMPT_OUTSIDE; /* it has shrunk since the request was looked at */
    }
    if (!tap->logging) {
        unlogged(tap, record);
        return ATTEMPT_DONE;
    }
    if (!ring_room(&tap->ring, record_size(record), TIDE_RING_RESERVE)) {
        /* Stored by the far side, only not yet checkpointed: that is our own disk's to wait for. */
        if (may_wait && ring_can_free(&tap->ring, tap->stored_lsn)) {
            return ATTEMPT_SPACE;
        }
        append_overflow(tap);
        return ATTEMPT_AGAIN;
    }
    struct gate_out out;
    struct gate_event event = {.type = GATE_WRITE, .bytes = record->write.size};
    tap_step(tap, &event, &out);
    if (out.ack == GATE_ACK_ENTRY) {
        *ret_ticket = out.ticket;
        return ATTEMPT_WAIT;
    }
    uint64_t position = 0;
    uint64_t before = tap->ring.position;
    record->lsn = out.lsn;
    if (append_data(tap, record, &position) != 0) {
        record->lsn = 0;
        append_failed(tap, out.lsn, before);
        return ATTEMPT_AGAIN;
    }
    range_logged(&tap->range, node, out.lsn, position);
    set_head(tap, out.lsn);
    *ret_ticket = out.ack == GATE_ACK_HOLD ? out.ticket : 0;
    return ATTEMPT_DONE;
}

int append_change(struct tap *tap, struct range_node *node, struct record *record,
                  uint64_t *ret_ticket)
{
    record->lsn = 0;
    enum attempt attempt = ATTEMPT_AGAIN;
    for (unsigned waited = 0; attempt != ATTEMPT_DONE && attempt != ATTEMPT_OUTSIDE;) {
        *ret_ticket = 0;
        append_lock(tap, false);
        attempt = try_change(tap, node, record, waited < 3, ret_ticket);
        append_unlock(tap);
        if (attempt == ATTEMPT_WAIT) {
            tap_wait_let_go(tap, *ret_ticket);
        } else if (attempt == ATTEMPT_SPACE) {
            waited++;
            checkpoint_wait(tap);
        }
    }
    if (attempt == ATTEMPT_OUTSIDE) {
        return ENOSPC;
    }
    tap->writes++;
    tap->bytes += record->write.size;
    return 0;
}
