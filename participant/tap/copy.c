/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/copy.h"

#include "participant/tap/append.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/file.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IDLE_US    500000U  /* looks whether there is something to do; a gap wakes it at once */
#define ROOM_US    20000U   /* looks whether the far side has stored more */
#define RETRY_US   1000000U /* after the image could not be read */
#define MEASURE_US 1000000U

enum step { STEP_DONE, STEP_ROOM, STEP_IMAGE, STEP_VOID };

struct job {
    struct tap *tap;
    uint8_t *block;
    uint64_t lsn; /* of its COPY_BEGIN */
    enum record_copy_kind kind;
    uint64_t at;       /* done below it */
    uint64_t from;     /* where this begin began */
    uint64_t copied;   /* bytes in copy blocks since then; the rest were zeroes */
    uint64_t last_lsn; /* of its last record */
    uint64_t saved;    /* durable below it */
    uint64_t saved_us;
    uint64_t due_us; /* copy-rate allows the next block then */
    uint64_t guest_done;
    uint64_t measured_at;
    uint64_t measured_us;
};

void copy_kick(struct tap *tap)
{
    pthread_mutex_lock(&tap->copy);
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
    ret->copy = (enum tapctl_copy)tap->copy_state;
    ret->dirty_bytes = tap->size - tap->copy_at;
    ret->copy_total = tap->size;
    ret->copy_rate = tap->copy_measured;
}

/* Waits that long; a kick ends the wait. False: the thread shall end. */
static bool rest(struct tap *tap, uint64_t us)
{
    struct timespec until;
    uint64_t at = tap_now_us() + us;
    until.tv_sec = (time_t)(at / 1000000U);
    until.tv_nsec = (long)(at % 1000000U) * 1000;
    pthread_mutex_lock(&tap->copy);
    if (!tap->copy_stop && us > 0) {
        (void)pthread_cond_timedwait(&tap->copy_due, &tap->copy, &until);
    }
    bool stop = tap->copy_stop;
    pthread_mutex_unlock(&tap->copy);
    return !stop;
}

/* Under the append lock: whether the job's copy is still the one under way; every gap ends it. */
static bool is_valid(const struct job *job)
{
    struct tap *tap = job->tap;
    pthread_mutex_lock(&tap->state_lock);
    bool valid = tap->state.copy_lsn == job->lsn && job->lsn != 0;
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
static enum step begin_locked(struct job *job)
{
    struct tap *tap = job->tap;
    if (!tap->logging || tap->failed || !tap->attached) {
        return STEP_VOID;
    }
    if (!has_room(tap, TIDE_RECORD_SMALL_MAX)) {
        return STEP_ROOM;
    }
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole;
    job->at = 0;
    job->kind = tap->state.copy_zero ? RECORD_COPY_INITIAL : RECORD_COPY_FULL;
    pthread_mutex_unlock(&tap->state_lock);
    if (whole) {
        return STEP_VOID;
    }
    struct record record = {.type = RECORD_COPY_BEGIN,
                            .copy_begin = {.kind = job->kind, .size = tap->size}};
    if (append_copy(tap, &record) != 0) {
        return STEP_VOID;
    }
    job->lsn = job->last_lsn = record.lsn;
    /* In one step with the append, so that a checkpoint behind the record knows it. */
    pthread_mutex_lock(&tap->state_lock);
    tap->state.copy_lsn = job->lsn;
    tap->state.copy_offset = job->at;
    pthread_mutex_unlock(&tap->state_lock);
    return STEP_DONE;
}

static enum step begin(struct job *job)
{
    append_lock(job->tap, false);
    enum step step = begin_locked(job);
    append_unlock(job->tap);
    job->from = job->saved = job->measured_at = job->at;
    job->copied = 0;
    job->saved_us = job->due_us = job->measured_us = tap_now_us();
    job->guest_done = job->tap->guest_done;
    return step;
}

/* Where the hole that begins at `at` ends; `at` where there is none, or it cannot be told. */
static uint64_t hole_end(const struct tap *tap, uint64_t at)
{
    off_t data = lseek(tap->image_fd, (off_t)at, SEEK_DATA);
    if (data < 0) {
        return errno == ENXIO ? tap->size : at;
    }
    return (uint64_t)data < tap->size ? (uint64_t)data : tap->size;
}

/* How much to do in one step: whole blocks of a hole, or one block. */
static uint64_t step_size(const struct job *job)
{
    const struct tap *tap = job->tap;
    uint64_t end = hole_end(tap, job->at);
    uint64_t hole = end - job->at;
    if (hole > TIDE_COPY_HOLE_MAX) {
        hole = TIDE_COPY_HOLE_MAX;
    } else if (end != tap->size) {
        hole -= hole % TIDE_COPY_BLOCK;
    }
    uint64_t left = tap->size - job->at;
    uint64_t block = left < TIDE_COPY_BLOCK ? left : TIDE_COPY_BLOCK;
    return hole > 0 ? hole : block;
}

static bool all_zero(const uint8_t *from, size_t size)
{
    return from[0] == 0 && memcmp(from, from + 1, size - 1) == 0;
}

/* Under the append lock and the range's. */
static enum step log_block(struct job *job, uint64_t size, bool zero)
{
    struct tap *tap = job->tap;
    if (!is_valid(job)) {
        return STEP_VOID;
    }
    if (zero && job->kind == RECORD_COPY_INITIAL) {
        return STEP_DONE; /* whatever was ever written there is in the log, zeroes included */
    }
    struct record record = {
        .type = zero ? RECORD_ZERO : RECORD_COPY_BLOCK,
        .write = {.offset = job->at, .size = size, .data = zero ? NULL : job->block, .copy = zero}};
    if (!has_room(tap, record_size(&record))) {
        return STEP_ROOM;
    }
    if (append_copy(tap, &record) != 0) {
        return STEP_VOID;
    }
    job->last_lsn = record.lsn;
    job->copied += zero ? 0 : size;
    return STEP_DONE;
}

/* Under the range's lock. *ret_read: bytes that were read for it. */
static enum step copy_range(struct job *job, uint64_t size, uint64_t *ret_read)
{
    struct tap *tap = job->tap;
    bool zero = hole_end(tap, job->at) >= job->at + size;
    if (!zero && size > TIDE_COPY_BLOCK) {
        return STEP_DONE; /* the guest has just filled it: looked at again */
    }
    if (!zero) {
        if (file_read(tap->image_fd, job->block, (size_t)size, job->at) != 0) {
            return STEP_IMAGE;
        }
        *ret_read = size;
        zero = all_zero(job->block, (size_t)size);
    }
    append_lock(tap, false);
    enum step step = log_block(job, size, zero);
    append_unlock(tap);
    if (step == STEP_DONE) {
        job->at += size;
    }
    return step;
}

/* Makes what was copied durable, and then the place up to which it was. */
static enum step save(struct job *job)
{
    struct tap *tap = job->tap;
    struct err err;
    if (append_sync(tap, job->last_lsn) != 0) {
        append_sync_failed(tap);
        return STEP_VOID;
    }
    pthread_mutex_lock(&tap->state_lock);
    int result = 0;
    if (tap->state.copy_lsn == job->lsn) {
        tap->state.copy_offset = job->at;
        result = state_write(tap->state_fd, &tap->state, &err);
    }
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        nbdkit_error("copy: %s; after a restart more of it is done again", err.text);
    }
    job->saved = job->at;
    job->saved_us = tap_now_us();
    return STEP_DONE;
}

static void measure(struct job *job)
{
    uint64_t now_us = tap_now_us();
    uint64_t took_us = now_us - job->measured_us;
    job->tap->copy_at = job->at;
    if (took_us >= MEASURE_US) {
        uint64_t rate = (job->at - job->measured_at) * 1000000U / took_us;
        uint64_t old = job->tap->copy_measured;
        job->tap->copy_measured = old == 0 ? rate : (3 * old + rate) / 4;
        job->measured_at = job->at;
        job->measured_us = now_us;
    }
}

/* The rest after a block that took so long. */
static uint64_t manners_us(struct job *job, uint64_t took_us, uint64_t read)
{
    struct tap *tap = job->tap;
    uint64_t now_us = tap_now_us();
    uint64_t done = tap->guest_done;
    uint64_t slowest_us = tap->guest_slowest_us;
    bool guest = done != job->guest_done || tap->guest_under_way > 0;
    job->guest_done = done;
    tap->guest_slowest_us = 0;
    uint64_t pause_us = !guest ? 0 : slowest_us > TIDE_COPY_SLOW_US ? 15 * took_us : 3 * took_us;
    pause_us = pause_us < TIDE_COPY_REST_MAX ? pause_us : TIDE_COPY_REST_MAX;
    job->due_us =
        (job->due_us > now_us ? job->due_us : now_us) + read * 1000000U / tap->config.copy_rate;
    uint64_t rate_us = job->due_us - now_us;
    rate_us = rate_us < 2000 ? 0 : rate_us; /* a rest that short is not worth its wake-up */
    return pause_us > rate_us ? pause_us : rate_us;
}

/* One block or hole, and the rest after it. False: the thread shall end. */
static bool advance(struct job *job, enum step *ret_step)
{
    struct tap *tap = job->tap;
    uint64_t begun_us = tap_now_us();
    uint64_t size = step_size(job);
    uint64_t read = 0;
    struct range_node node;
    range_lock(&tap->range, &node, job->at, size);
    enum step step = copy_range(job, size, &read);
    range_unlock(&tap->range, &node);
    uint64_t took_us = tap_now_us() - begun_us;
    if (step == STEP_DONE && (job->at - job->saved >= TIDE_COPY_SYNC_MAX ||
                              tap_now_us() - job->saved_us >= TIDE_COPY_SYNC_US)) {
        step = save(job);
    }
    measure(job);
    uint64_t pause_us = manners_us(job, took_us, read);
    if (step == STEP_ROOM || step == STEP_IMAGE) {
        bool room = step == STEP_ROOM;
        tap->copy_state = room ? TAPCTL_COPY_WAITING : TAPCTL_COPY_FAILING;
        checkpoint_kick(tap);
        pause_us = room ? ROOM_US : RETRY_US;
    } else {
        tap->copy_state = TAPCTL_COPY_RUNNING;
    }
    *ret_step = step;
    return rest(tap, pause_us);
}

/* Under the append lock. */
static enum step end_locked(struct job *job)
{
    struct tap *tap = job->tap;
    if (!is_valid(job)) {
        return STEP_VOID;
    }
    /* A change that failed on its way to the image has its gap still to come. */
    if (tap->image_gaps != 0 || !ring_room(&tap->ring, TIDE_RECORD_SMALL_MAX, TIDE_RING_RESERVE)) {
        return STEP_ROOM;
    }
    struct record record = {.type = RECORD_COPY_END,
                            .copy_end = {.begin_lsn = job->lsn,
                                         .copied = job->copied,
                                         .zeroes = tap->size - job->from - job->copied}};
    if (append_copy(tap, &record) != 0) {
        return STEP_VOID;
    }
    job->last_lsn = record.lsn;
    return STEP_DONE;
}

/* The end is durable in the log: now the state word and the gate, unless a gap came meanwhile. */
static void become_whole(struct job *job)
{
    struct tap *tap = job->tap;
    struct gate_out out;
    struct err err;
    append_lock(tap, true);
    if (is_valid(job)) {
        pthread_mutex_lock(&tap->state_lock);
        tap->state.whole = true;
        tap->state.copy_lsn = 0;
        tap->state.copy_offset = 0;
        tap->state.copy_zero = false;
        int result = state_write(tap->state_fd, &tap->state, &err);
        pthread_mutex_unlock(&tap->state_lock);
        if (result != 0) {
            nbdkit_error("copy: %s (the log tells that it has ended)", err.text);
        }
        struct gate_event event = {.type = GATE_WHOLE, .begin_lsn = job->lsn};
        tap_step(tap, &event, &out);
    }
    append_unlock(tap);
    tap->copy_state = TAPCTL_COPY_NONE;
    tap->copy_at = 0;
    tap->copy_measured = 0;
    tap_post(tap, TAP_WORK_STATE);
}

static bool finish(struct job *job)
{
    struct tap *tap = job->tap;
    enum step step = STEP_ROOM;
    while (step == STEP_ROOM) {
        append_lock(tap, false);
        step = end_locked(job);
        append_unlock(tap);
        if (step == STEP_ROOM && !rest(tap, ROOM_US)) {
            return false;
        }
    }
    if (step == STEP_DONE && append_sync(tap, job->last_lsn) != 0) {
        append_sync_failed(tap);
        step = STEP_VOID;
    }
    if (step == STEP_DONE) {
        become_whole(job);
    }
    return true;
}

/* One copy, until it has ended or a gap voids it. False: the thread shall end. */
static bool run(struct job *job)
{
    struct tap *tap = job->tap;
    enum step step = begin(job);
    if (step != STEP_DONE) {
        tap->copy_state = step == STEP_ROOM ? TAPCTL_COPY_WAITING : TAPCTL_COPY_NONE;
        return rest(tap, step == STEP_ROOM ? ROOM_US : IDLE_US);
    }
    tap->copy_state = TAPCTL_COPY_RUNNING;
    while (job->at < tap->size) {
        if (!advance(job, &step)) {
            (void)save(job);
            return false;
        }
        if (step == STEP_VOID) {
            return rest(tap, ROOM_US);
        }
    }
    return finish(job);
}

static bool wanted(struct tap *tap)
{
    pthread_mutex_lock(&tap->state_lock);
    bool whole = tap->state.whole;
    /* The group's definition and the far side know the stream's disk by its first size. */
    bool resized = tap->state.gap_reason == RECORD_GAP_SIZE;
    pthread_mutex_unlock(&tap->state_lock);
    bool on = tap->config.copy_rate != 0 && !resized;
    if (whole || !on) {
        tap->copy_state = whole ? TAPCTL_COPY_NONE : TAPCTL_COPY_OFF;
        tap->copy_at = 0;
        tap->copy_measured = 0;
    }
    return !whole && on;
}

void *copy_main(void *context)
{
    struct tap *tap = context;
    struct job job = {.tap = tap, .block = malloc(TIDE_COPY_BLOCK)};
    if (job.block == NULL) {
        nbdkit_error("no memory to copy with: a disk that is not whole stays so");
        return NULL;
    }
    while (wanted(tap) ? run(&job) : rest(tap, IDLE_US)) {
    }
    free(job.block);
    return NULL;
}
