/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/copy.h"

#include "participant/tap/append.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/file.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IDLE_US    500000U  /* looks whether there is something to do; a kick wakes it at once */
#define ROOM_US    20000U   /* looks whether the far side has stored more */
#define RETRY_US   1000000U /* after the image could not be read */
#define MEASURE_US 1000000U

enum step { STEP_DONE, STEP_ROOM, STEP_IMAGE, STEP_VOID };

struct copy {
    struct tap *tap;
    uint8_t *block;
    uint64_t lsn;      /* of its COPY_BEGIN; 0: none is under way */
    bool leave_zeroes; /* what reads as zeroes is so in the stream already */
    uint64_t size;     /* of the disk */
    uint64_t at;       /* looks for the next block from here on */
    uint64_t copied;   /* bytes in copy blocks since it began; the rest were zeroes, or left out */
    uint64_t last_lsn; /* of its last record */
    uint64_t due_us;   /* copy-rate allows the next block then */
    uint64_t guest_done;
    uint64_t done; /* bytes done since `measured_us` */
    uint64_t measured_us;
};

int copy_open(struct tap *tap, struct err *err)
{
    struct copy *c = calloc(1, sizeof *c);
    uint8_t *block = malloc(TIDE_COPY_BLOCK);
    if (c == NULL || block == NULL) {
        free(c);
        free(block);
        return err_set(err, TIDE_ERR_LIMIT, "no memory to copy with");
    }
    *c = (struct copy){.tap = tap, .block = block};
    tap->copying = c;
    return 0;
}

void copy_close(struct tap *tap)
{
    if (tap->copying != NULL) {
        free(tap->copying->block);
        free(tap->copying);
        tap->copying = NULL;
    }
}

void copy_kick(struct tap *tap)
{
    pthread_mutex_lock(&tap->copy);
    tap->copy_wanted = true;
    pthread_cond_signal(&tap->copy_due);
    pthread_mutex_unlock(&tap->copy);
}

void copy_stop(struct tap *tap)
{
    pthread_mutex_lock(&tap->copy);
    tap->copy_stop = true;
    pthread_cond_signal(&tap->copy_due);
    pthread_mutex_unlock(&tap->copy);
}

void copy_progress(struct tap *tap, struct tapctl_state *ret)
{
    pthread_mutex_lock(&tap->state_lock);
    ret->copy_lsn = tap->state.copy_lsn;
    ret->comparing = tap->state.compare && tap->state.copy_lsn != 0;
    pthread_mutex_unlock(&tap->state_lock);
    ret->copy = (enum tapctl_copy)tap->copy_state;
    ret->dirty_bytes = map_bytes(&tap->map);
    ret->copy_total = tap->copy_total;
    ret->copy_rate = tap->copy_measured;
    ret->compare_offset = ret->comparing ? tap->compared : 0;
}

/* Waits that long; a kick ends the wait. False: the thread shall end. */
static bool rest(struct tap *tap, uint64_t us)
{
    struct timespec until;
    uint64_t at = tap_now_us() + us;
    until.tv_sec = (time_t)(at / 1000000U);
    until.tv_nsec = (long)(at % 1000000U) * 1000;
    pthread_mutex_lock(&tap->copy);
    if (!tap->copy_stop && !tap->copy_wanted && us > 0) {
        (void)pthread_cond_timedwait(&tap->copy_due, &tap->copy, &until);
    }
    tap->copy_wanted = false;
    bool stop = tap->copy_stop;
    pthread_mutex_unlock(&tap->copy);
    return !stop;
}

/* None is under way; what was done of it stays so in the map. */
static void forget(struct copy *c)
{
    c->lsn = 0;
    c->tap->copy_total = 0;
}

static void set_state(struct tap *tap, enum tapctl_copy state)
{
    if (tap->copy_state != (unsigned)state) {
        tap->copy_state = (unsigned)state;
        tap_post(tap, TAP_WORK_STATE);
    }
}

/* Under the append lock: whether the copy is still the one under way; every gap ends it. */
static bool is_valid(const struct copy *c)
{
    struct tap *tap = c->tap;
    pthread_mutex_lock(&tap->state_lock);
    bool valid = tap->state.copy_lsn == c->lsn && c->lsn != 0;
    pthread_mutex_unlock(&tap->state_lock);
    return valid && tap->logging && !tap->failed;
}

/* Under the append lock: the guest keeps half of the log to itself. */
static bool has_room(const struct tap *tap, uint64_t size)
{
    return ring_used(&tap->ring) + size <= ring_capacity(&tap->ring) / 2 &&
           ring_room(&tap->ring, size, TIDE_RING_RESERVE);
}

/* Under the append lock. */
static enum record_copy_kind kind_of(struct tap *tap, bool zero, bool compare)
{
    if (compare || !map_is_all(&tap->map)) {
        return RECORD_COPY_CHANGES;
    }
    return zero ? RECORD_COPY_INITIAL : RECORD_COPY_FULL;
}

/* Under the append lock. */
static enum step begin_locked(struct copy *c)
{
    struct tap *tap = c->tap;
    if (!tap->logging || tap->failed || !tap->attached) {
        return STEP_VOID;
    }
    if (!has_room(tap, (uint64_t)2 * TIDE_RECORD_SMALL_MAX)) {
        return STEP_ROOM;
    }
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole;
    bool compare = tap->state.compare;
    c->size = tap->state.image_size;
    c->leave_zeroes = tap->state.copy_zero;
    pthread_mutex_unlock(&tap->state_lock);
    if (whole) {
        return STEP_VOID;
    }
    struct record record = {
        .type = RECORD_COPY_BEGIN,
        .copy_begin = {.kind = kind_of(tap, c->leave_zeroes, compare), .size = c->size}};
    if (append_own(tap, &record) != 0) {
        return STEP_VOID;
    }
    c->lsn = c->last_lsn = record.lsn;
    tap->compared = compare ? 0 : c->size;
    tap->copy_total = map_bytes(&tap->map);
    /* In one step with the append, so that a checkpoint behind the record knows it. */
    pthread_mutex_lock(&tap->state_lock);
    tap->state.copy_lsn = c->lsn;
    pthread_mutex_unlock(&tap->state_lock);
    return STEP_DONE;
}

static enum step begin(struct copy *c)
{
    append_lock(c->tap, false);
    enum step step = begin_locked(c);
    append_unlock(c->tap);
    c->at = c->copied = c->done = 0;
    c->due_us = c->measured_us = tap_now_us();
    c->guest_done = c->tap->guest_done;
    return step;
}

/* Where the hole that begins at `at` ends; `at` where there is none, or it cannot be told. */
static uint64_t hole_end(const struct copy *c, uint64_t at)
{
    off_t data = lseek(c->tap->image_fd, (off_t)at, SEEK_DATA);
    if (data < 0) {
        return errno == ENXIO ? c->size : at;
    }
    return (uint64_t)data < c->size ? (uint64_t)data : c->size;
}

/* What to do in one step: a hole, or one block. False: nothing is left below what was compared. */
static bool next_range(struct copy *c, uint64_t *ret_size)
{
    struct map *map = &c->tap->map;
    uint64_t limit = c->tap->compared;
    uint64_t run = 0;
    if (!map_next(map, c->at, limit, TIDE_COPY_HOLE_MAX, &c->at, &run) &&
        !map_next(map, 0, limit, TIDE_COPY_HOLE_MAX, &c->at, &run)) {
        return false;
    }
    uint64_t hole = hole_end(c, c->at) - c->at;
    if (hole < run) {
        hole -= hole % TIDE_MAP_BLOCK;
    }
    uint64_t block = run < TIDE_COPY_BLOCK ? run : TIDE_COPY_BLOCK;
    *ret_size = hole >= run ? run : hole > 0 ? hole : block;
    return true;
}

static bool all_zero(const uint8_t *from, size_t size)
{
    return from[0] == 0 && memcmp(from, from + 1, size - 1) == 0;
}

/* Under the append lock and the range's. */
static enum step log_block(struct copy *c, uint64_t size, bool zero)
{
    struct tap *tap = c->tap;
    if (!is_valid(c)) {
        return STEP_VOID;
    }
    if (!zero || !c->leave_zeroes) {
        struct record record = {
            .type = zero ? RECORD_ZERO : RECORD_COPY_BLOCK,
            .write = {.offset = c->at, .size = size, .data = zero ? NULL : c->block, .copy = zero}};
        if (!has_room(tap, record_size(&record))) {
            return STEP_ROOM;
        }
        if (append_own(tap, &record) != 0) {
            return STEP_VOID;
        }
        c->last_lsn = record.lsn;
        c->copied += zero ? 0 : size;
    }
    map_clear(&tap->map, c->at, size);
    return STEP_DONE;
}

/* Under the range's lock. *ret_read: bytes that were read for it. */
static enum step copy_range(struct copy *c, uint64_t size, uint64_t *ret_read)
{
    struct tap *tap = c->tap;
    bool zero = hole_end(c, c->at) >= c->at + size;
    if (!zero && size > TIDE_COPY_BLOCK) {
        return STEP_DONE; /* the guest has just filled it: looked at again */
    }
    if (!zero) {
        if (file_read(tap->image_fd, c->block, (size_t)size, c->at) != 0) {
            return STEP_IMAGE;
        }
        *ret_read = size;
        zero = all_zero(c->block, (size_t)size);
    }
    append_lock(tap, false);
    enum step step = log_block(c, size, zero);
    append_unlock(tap);
    if (step == STEP_DONE) {
        c->at += size;
        c->done += size;
    }
    return step;
}

static void measure(struct copy *c)
{
    uint64_t now_us = tap_now_us();
    uint64_t took_us = now_us - c->measured_us;
    if (took_us >= MEASURE_US) {
        uint64_t rate = c->done * 1000000U / took_us;
        uint64_t old = c->tap->copy_measured;
        c->tap->copy_measured = old == 0 ? rate : (3 * old + rate) / 4;
        c->done = 0;
        c->measured_us = now_us;
    }
}

/* The rest after a block that took so long. */
static uint64_t manners_us(struct copy *c, uint64_t took_us, uint64_t read)
{
    struct tap *tap = c->tap;
    uint64_t now_us = tap_now_us();
    uint64_t done = tap->guest_done;
    uint64_t slowest_us = tap->guest_slowest_us;
    uint64_t rate = tap->config.copy_rate != 0 ? tap->config.copy_rate : TIDE_COPY_RATE;
    bool guest = done != c->guest_done || tap->guest_under_way > 0;
    c->guest_done = done;
    tap->guest_slowest_us = 0;
    uint64_t pause_us = !guest ? 0 : slowest_us > TIDE_COPY_SLOW_US ? 15 * took_us : 3 * took_us;
    pause_us = pause_us < TIDE_COPY_REST_MAX ? pause_us : TIDE_COPY_REST_MAX;
    c->due_us = (c->due_us > now_us ? c->due_us : now_us) + read * 1000000U / rate;
    uint64_t rate_us = c->due_us - now_us;
    rate_us = rate_us < 2000 ? 0 : rate_us; /* a rest that short is not worth its wake-up */
    return pause_us > rate_us ? pause_us : rate_us;
}

/* One block or hole. Returns the rest after it. */
static uint64_t advance(struct copy *c, uint64_t size)
{
    struct tap *tap = c->tap;
    uint64_t begun_us = tap_now_us();
    uint64_t read = 0;
    struct range_node node;
    range_lock(&tap->range, &node, c->at, size);
    enum step step = copy_range(c, size, &read);
    range_unlock(&tap->range, &node);
    uint64_t took_us = tap_now_us() - begun_us;
    measure(c);
    uint64_t pause_us = manners_us(c, took_us, step == STEP_DONE ? read : 0);
    switch (step) {
    case STEP_ROOM:
    case STEP_IMAGE:
        set_state(tap, step == STEP_ROOM ? TAPCTL_COPY_WAITING : TAPCTL_COPY_FAILING);
        checkpoint_kick(tap);
        return step == STEP_ROOM ? ROOM_US : RETRY_US;
    case STEP_VOID:
        forget(c);
        return ROOM_US;
    case STEP_DONE:
        break;
    }
    set_state(tap, TAPCTL_COPY_RUNNING);
    return pause_us;
}

/* Under the append lock. */
static enum step end_locked(struct copy *c)
{
    struct tap *tap = c->tap;
    if (!is_valid(c)) {
        return STEP_VOID;
    }
    /* A change that failed on its way to the image has its gap still to come. */
    if (tap->image_gaps != 0 || map_bytes(&tap->map) != 0 ||
        !ring_room(&tap->ring, TIDE_RECORD_SMALL_MAX, TIDE_RING_RESERVE)) {
        return STEP_ROOM;
    }
    struct record record = {
        .type = RECORD_COPY_END,
        .copy_end = {.begin_lsn = c->lsn, .copied = c->copied, .zeroes = c->size - c->copied}};
    if (append_own(tap, &record) != 0) {
        return STEP_VOID;
    }
    c->last_lsn = record.lsn;
    return STEP_DONE;
}

/* The end is durable in the log: now the state word and the gate, unless a gap came meanwhile. */
static void become_whole(struct copy *c)
{
    struct tap *tap = c->tap;
    struct gate_out out;
    struct err err;
    append_lock(tap, true);
    if (is_valid(c)) {
        pthread_mutex_lock(&tap->state_lock);
        tap->state.whole = true;
        tap->state.copy_lsn = 0;
        tap->state.copy_zero = false;
        tap->state.compare = false;
        int result = append_state(tap, &err);
        pthread_mutex_unlock(&tap->state_lock);
        if (result != 0) {
            nbdkit_error("copy: %s (the log tells that it has ended)", err.text);
        }
        struct gate_event event = {.type = GATE_WHOLE, .begin_lsn = c->lsn};
        tap_step(tap, &event, &out);
        tap->copy_forced = false;
    }
    append_unlock(tap);
    tap_post(tap, TAP_WORK_STATE);
}

static uint64_t finish(struct copy *c)
{
    struct tap *tap = c->tap;
    append_lock(tap, false);
    enum step step = end_locked(c);
    append_unlock(tap);
    if (step == STEP_ROOM) {
        return ROOM_US;
    }
    if (step == STEP_DONE && append_sync(tap, c->last_lsn) != 0) {
        append_sync_failed(tap);
        step = STEP_VOID;
    }
    if (step == STEP_DONE) {
        become_whole(c);
    }
    forget(c);
    return 0;
}

static bool wanted(struct tap *tap)
{
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole;
    pthread_mutex_unlock(&tap->state_lock);
    bool on = tap->config.copy_rate != 0 || tap->copy_forced;
    if (whole || !on) {
        forget(tap->copying);
        tap->copy_measured = 0;
        set_state(tap, whole ? TAPCTL_COPY_NONE : TAPCTL_COPY_OFF);
    }
    return !whole && on;
}

uint64_t copy_step(struct tap *tap)
{
    struct copy *c = tap->copying;
    uint64_t size = 0;
    if (!wanted(tap)) {
        return IDLE_US;
    }
    if (c->lsn == 0) {
        enum step step = begin(c);
        set_state(tap, step == STEP_DONE   ? TAPCTL_COPY_RUNNING
                       : step == STEP_ROOM ? TAPCTL_COPY_WAITING
                                           : TAPCTL_COPY_NONE);
        return step == STEP_DONE ? 0 : step == STEP_ROOM ? ROOM_US : IDLE_US;
    }
    if (next_range(c, &size)) {
        return advance(c, size);
    }
    append_lock(tap, false);
    bool valid = is_valid(c);
    append_unlock(tap);
    if (!valid) {
        forget(c);
        return 0;
    }
    if (tap->compared < c->size) {
        set_state(tap, TAPCTL_COPY_COMPARING);
        return IDLE_US;
    }
    return finish(c);
}

void *copy_main(void *context)
{
    struct tap *tap = context;
    while (rest(tap, copy_step(tap))) {
    }
    return NULL;
}

/* Run by run: each costs the file of the map a write, and the guest waits. */
static void clear_equal(struct tap *tap, const struct tapctl_compared *compared)
{
    uint32_t from = 0;
    for (uint32_t k = 0; k <= compared->count; k++) {
        if (k < compared->count && ((unsigned)compared->differs[k / 8] >> (k % 8) & 1U) == 0) {
            continue;
        }
        if (k > from) {
            map_clear(&tap->map, compared->offset + (uint64_t)from * TIDE_MAP_BLOCK,
                      (uint64_t)(k - from) * TIDE_MAP_BLOCK);
        }
        from = k + 1;
    }
}

void copy_compared(struct tap *tap, uint64_t stream, const struct tapctl_compared *compared)
{
    append_lock(tap, true);
    pthread_mutex_lock(&tap->state_lock);
    bool due = tap->restreams == stream && tap->state.copy_lsn != 0 &&
               tap->state.copy_lsn == compared->begin_lsn && tap->state.compare &&
               tap->compared == compared->offset;
    uint64_t size = tap->state.image_size;
    pthread_mutex_unlock(&tap->state_lock);
    if (due) {
        clear_equal(tap, compared);
        uint64_t end = compared->offset + (uint64_t)compared->count * TIDE_MAP_BLOCK;
        tap->compared = end < size ? end : size;
    }
    append_unlock(tap);
    copy_kick(tap);
}

void copy_resync(struct tap *tap, enum tapctl_resync how, struct tapctl_done *ret)
{
    *ret = (struct tapctl_done){.code = TIDE_ERR_OK};
    append_lock(tap, true);
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole;
    pthread_mutex_unlock(&tap->state_lock);
    if (tap->failed) {
        *ret = (struct tapctl_done){
            .code = TIDE_ERR_CONFLICT,
            .text = "the log has failed: mend its disk and restart the tap, which resyncs then"};
    } else if (how == TAPCTL_RESYNC_NOW && whole) {
        (void)snprintf(ret->text, sizeof ret->text,
                       "the disk is whole: nothing to send (--compare looks at every block)");
    } else {
        if (how != TAPCTL_RESYNC_NOW) {
            append_gap(tap, RECORD_GAP_ASKED, how == TAPCTL_RESYNC_COMPARE);
        }
        tap->copy_forced = true;
        (void)snprintf(ret->text, sizeof ret->text, "resync begun: %llu bytes to %s",
                       (unsigned long long)map_bytes(&tap->map),
                       how == TAPCTL_RESYNC_COMPARE ? "compare" : "send");
    }
    append_unlock(tap);
    copy_kick(tap);
}
