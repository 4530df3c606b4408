/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/checkpoint.h"

#include "participant/tap/append.h"
#include "participant/tap/resize.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct snapshot {
    struct id stream;
    uint64_t due_lsn;
    uint64_t due_position;
    uint64_t incarnation;
    uint64_t stored;
    uint64_t open_lsn;
    struct id open_round;
};

static struct timespec in_seconds(unsigned seconds)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += seconds;
    return at;
}

void checkpoint_kick(struct tap *tap)
{
    pthread_mutex_lock(&tap->checkpoint);
    tap->checkpoint_wanted = true;
    pthread_cond_signal(&tap->checkpoint_due);
    pthread_mutex_unlock(&tap->checkpoint);
}

void checkpoint_wait(struct tap *tap)
{
    struct timespec until = in_seconds(TIDE_CHECKPOINT_WAIT_S);
    pthread_mutex_lock(&tap->checkpoint);
    uint64_t due = tap->checkpoints + (tap->checkpoint_running ? 2 : 1); /* one that begins now */
    tap->checkpoint_wanted = true;
    pthread_cond_signal(&tap->checkpoint_due);
    while (tap->checkpoints < due && !tap->checkpoint_stop &&
           pthread_cond_timedwait(&tap->checkpoint_done, &tap->checkpoint, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&tap->checkpoint);
}

uint64_t checkpoint_open_bookmark(struct tap *tap, uint64_t below, struct id *ret_round)
{
    uint64_t lsn = 0;
    pthread_mutex_lock(&tap->gate_lock);
    if (tap->gate.state != GATE_IDLE && tap->gate.mark.lsn < below) {
        lsn = tap->gate.mark.lsn;
        *ret_round = tap->gate.seal.round;
    }
    pthread_mutex_unlock(&tap->gate_lock);
    return lsn;
}

static struct snapshot take(struct tap *tap)
{
    struct snapshot s = {0};
    append_lock(tap, true);
    s.stream = tap->ring.geometry.stream;
    s.stored = tap->stored_lsn;
    if (!range_oldest(&tap->range, &s.due_lsn, &s.due_position)) {
        s.due_lsn = tap->log_lsn + 1;
        s.due_position = tap->ring.position;
    }
    s.incarnation = tap->ring.incarnation;
    s.open_lsn = checkpoint_open_bookmark(tap, s.due_lsn, &s.open_round);
    append_unlock(tap);
    return s;
}

/* Whether there is something to do. */
static bool stale(struct tap *tap, const struct snapshot *s)
{
    pthread_mutex_lock(&tap->state_lock);
    bool result = s->due_lsn != tap->state.due_lsn || s->stored != tap->state.stored_lsn;
    pthread_mutex_unlock(&tap->state_lock);
    return result;
}

static int record_it(struct tap *tap, const struct snapshot *s)
{
    struct err err;
    pthread_mutex_lock(&tap->state_lock);
    struct state *state = &tap->state;
    struct state before = *state;
    if (!id_equal(&state->stream, &s->stream)) { /* another has begun meanwhile */
        pthread_mutex_unlock(&tap->state_lock);
        return -1;
    }
    if (s->due_lsn > state->due_lsn) { /* an overflow meanwhile is further on, and stays */
        state->due_lsn = s->due_lsn;
        state->due_position = s->due_position;
        state->due_incarnation = s->incarnation;
        state->open_lsn = s->open_lsn;
        state->open_round = s->open_round;
    }
    state->stored_lsn = s->stored;
    int result = append_state(tap, &err);
    if (result != 0) {
        before.sequence = state->sequence;
        *state = before;
    }
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        nbdkit_error("checkpoint: %s; the log cannot be recycled", err.text);
    }
    return result;
}

/* Frees what is both stored and in the image. Only here, and a new stream (which waits for it under
 * tap->recycle) starts the ring anew, so the files stay what they are without the append lock. */
static int recycle(struct tap *tap, const struct id *stream)
{
    pthread_mutex_lock(&tap->recycle);
    append_lock(tap, true);
    bool same = id_equal(&tap->ring.geometry.stream, stream);
    pthread_mutex_lock(&tap->state_lock);
    uint64_t due = tap->state.due_lsn - 1;
    uint64_t stored = tap->state.stored_lsn;
    pthread_mutex_unlock(&tap->state_lock);
    if (same) {
        ring_free(&tap->ring, due < stored ? due : stored);
    }
    uint64_t end = tap->ring.tail;
    append_unlock(tap);
    int result = ring_retire(&tap->ring, end);
    if (result != 0) {
        nbdkit_error("log \"%s\" cannot be recycled: %s", tap->config.folder, strerror(errno));
    }
    append_lock(tap, true);
    if (result == 0) {
        ring_reuse(&tap->ring, end);
    }
    append_resume(tap);
    append_unlock(tap);
    pthread_mutex_unlock(&tap->recycle);
    return result;
}

int checkpoint_run(struct tap *tap)
{
    unsigned gaps = tap->image_gaps;
    struct snapshot s = take(tap);
    if (!stale(tap, &s)) {
        return 0;
    }
    /* After a failed sync too: what was not synced does not count, so replay never starts behind
     * it. */
    if (append_sync(tap, s.due_lsn - 1) != 0) {
        append_sync_failed(tap);
        return -1;
    }
    if (append_sync_image(tap, true) != 0) {
        append_image_gap(tap, 0, 0, errno);
        return -1;
    }
    /* A change that failed on its way to the image must not be passed before its gap is recorded.
     */
    if (gaps != 0 || tap->image_gaps != 0 || record_it(tap, &s) != 0) {
        return -1;
    }
    return recycle(tap, &s.stream);
}

/* The state's time is the tap's sign of life, also where there is no log to record. */
static void stay_alive(struct tap *tap)
{
    struct err err;
    if (tap->logging) {
        return;
    }
    pthread_mutex_lock(&tap->state_lock);
    (void)append_state(tap, &err);
    pthread_mutex_unlock(&tap->state_lock);
}

void *checkpoint_main(void *context)
{
    struct tap *tap = context;
    pthread_mutex_lock(&tap->checkpoint);
    while (!tap->checkpoint_stop) {
        struct timespec until = in_seconds(TIDE_CHECKPOINT_PERIOD_S);
        while (!tap->checkpoint_wanted && !tap->checkpoint_stop &&
               pthread_cond_timedwait(&tap->checkpoint_due, &tap->checkpoint, &until) !=
                   ETIMEDOUT) {
        }
        tap->checkpoint_wanted = false;
        if (!tap->checkpoint_stop) {
            tap->checkpoint_running = true;
            pthread_mutex_unlock(&tap->checkpoint);
            (void)checkpoint_run(tap);
            stay_alive(tap);
            resize_look(tap, NULL);
            pthread_mutex_lock(&tap->checkpoint);
            tap->checkpoint_running = false;
            tap->checkpoints++;
            pthread_cond_broadcast(&tap->checkpoint_done);
        }
    }
    pthread_mutex_unlock(&tap->checkpoint);
    return NULL;
}
