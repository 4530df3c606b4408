/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/senders.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "participant/uplink.h"

enum sender_state {
    NONE,
    IDLE,
    BUSY,
    ENDED, /* its thread is to be joined */
};

struct job {
    struct id stream;
    uint64_t first;
    const void *bytes;
    size_t size;
};

struct sender {
    struct senders *all;
    pthread_t thread;
    enum sender_state state;
    struct job job;        /* with BUSY */
    struct uplink *uplink; /* the thread makes and frees it; NULL: none */
    atomic_bool limited;
};

struct senders {
    const struct settings *settings;
    const struct tls_identity *identity;
    struct throttle *throttle;
    void (*wake)(void *arg);
    void *arg;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t news;
    struct sender senders[TIDE_WINDOW_MAX];
    struct senders_done done[TIDE_WINDOW_MAX];
    unsigned done_count;
};

static void put_done(struct senders *all, const struct senders_done *done)
{
    TIDE_CHECK(all->done_count < TIDE_WINDOW_MAX);
    all->done[all->done_count++] = *done;
}

/* The uplink of a thread's first job; it stays with it. */
static int connect_up(struct sender *s, struct err *err)
{
    struct uplink *uplink = NULL;
    if (s->uplink != NULL) {
        return 0;
    }
    if (uplink_new(s->all->identity, s->all->settings, &uplink, err) != 0) {
        return -1;
    }
    uplink_set_throttle(uplink, s->all->throttle, &s->limited);
    pthread_mutex_lock(&s->all->lock);
    s->uplink = uplink;
    pthread_mutex_unlock(&s->all->lock);
    if (atomic_load(&s->all->stop)) {
        uplink_abort(uplink);
    }
    return 0;
}

static void carry_out(struct sender *s, struct senders_done *done)
{
    const struct job *job = &s->job;
    struct throttle *throttle = s->all->throttle;
    *done = (struct senders_done){.first = job->first};
    if (connect_up(s, &done->err) != 0) {
        return;
    }
    if (!throttle_enter(throttle, &s->all->stop, &s->limited)) {
        err_set(&done->err, TIDE_ERR_BUSY, "the daemon ends");
        return;
    }
    if (uplink_put(s->uplink, &job->stream, job->first, job->bytes, job->size, &done->far,
                   &done->err) == 0) {
        done->err = (struct err){0};
    }
    throttle_leave(throttle);
}

/* Waits for work; false: there was none for long, or the end has come. */
static bool wait_for_job(struct sender *s)
{
    struct senders *all = s->all;
    uint64_t at = clock_mono_us() + SENDERS_IDLE_US;
    struct timespec until = {.tv_sec = (time_t)(at / CLOCK_US_PER_S),
                             .tv_nsec = (long)(at % CLOCK_US_PER_S * 1000)};
    while (s->state != BUSY && !atomic_load(&all->stop)) {
        if (pthread_cond_timedwait(&all->news, &all->lock, &until) != 0) {
            break;
        }
    }
    return s->state == BUSY;
}

static void *run(void *arg)
{
    struct sender *s = arg;
    struct senders *all = s->all;
    daemon_thread_init("tide-send");
    pthread_mutex_lock(&all->lock);
    while (wait_for_job(s)) {
        struct senders_done done;
        pthread_mutex_unlock(&all->lock);
        carry_out(s, &done);
        pthread_mutex_lock(&all->lock);
        s->state = IDLE;
        put_done(all, &done);
        pthread_mutex_unlock(&all->lock);
        all->wake(all->arg);
        pthread_mutex_lock(&all->lock);
    }
    struct uplink *uplink = s->uplink;
    s->uplink = NULL;
    s->state = ENDED;
    pthread_mutex_unlock(&all->lock);
    uplink_free(uplink);
    return NULL;
}

struct senders *senders_new(const struct settings *settings, const struct tls_identity *identity,
                            struct throttle *throttle, void (*wake)(void *arg), void *arg)
{
    struct senders *all = calloc(1, sizeof *all);
    pthread_condattr_t attr;
    TIDE_CHECK(all != NULL);
    all->settings = settings;
    all->identity = identity;
    all->throttle = throttle;
    all->wake = wake;
    all->arg = arg;
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        all->senders[k].all = all;
    }
    TIDE_CHECK(pthread_mutex_init(&all->lock, NULL) == 0);
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&all->news, &attr) == 0);
    pthread_condattr_destroy(&attr);
    return all;
}

/* An idle one, or else a free place for one. */
static struct sender *choose(struct senders *all)
{
    struct sender *place = NULL;
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        struct sender *s = &all->senders[k];
        if (s->state == IDLE) {
            return s;
        }
        if (place == NULL && s->state != BUSY) {
            place = s;
        }
    }
    TIDE_CHECK(place != NULL);
    return place;
}

void senders_put(struct senders *all, const struct id *stream, uint64_t first, const void *bytes,
                 size_t size)
{
    struct senders_done failed = {.first = first};
    int error = 0;
    pthread_mutex_lock(&all->lock);
    struct sender *s = choose(all);
    enum sender_state before = s->state;
    s->job = (struct job){.stream = *stream, .first = first, .bytes = bytes, .size = size};
    s->state = BUSY;
    if (before == ENDED) {
        pthread_join(s->thread, NULL); /* it has left the lock and only frees its uplink */
    }
    if (before != IDLE) {
        error = pthread_create(&s->thread, NULL, run, s);
    }
    if (error != 0) {
        s->state = NONE;
        err_set(&failed.err, TIDE_ERR_BUSY, "no thread to send with (error %d)", error);
        put_done(all, &failed);
    }
    pthread_cond_broadcast(&all->news);
    pthread_mutex_unlock(&all->lock);
    if (error != 0) {
        all->wake(all->arg);
    }
}

bool senders_take(struct senders *all, struct senders_done *ret)
{
    pthread_mutex_lock(&all->lock);
    bool some = all->done_count > 0;
    if (some) {
        *ret = all->done[--all->done_count];
    }
    pthread_mutex_unlock(&all->lock);
    return some;
}

bool senders_limited(struct senders *all)
{
    bool limited = false;
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        limited = limited || atomic_load(&all->senders[k].limited);
    }
    return limited;
}

void senders_stop(struct senders *all)
{
    atomic_store(&all->stop, true);
    pthread_mutex_lock(&all->lock);
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        if (all->senders[k].uplink != NULL) {
            uplink_abort(all->senders[k].uplink);
        }
    }
    pthread_cond_broadcast(&all->news);
    pthread_mutex_unlock(&all->lock);
    throttle_wake(all->throttle);
}

bool senders_join(struct senders *all, uint64_t deadline_us)
{
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        struct sender *s = &all->senders[k];
        pthread_mutex_lock(&all->lock);
        enum sender_state state = s->state;
        pthread_mutex_unlock(&all->lock);
        if (state != NONE && !daemon_thread_join(s->thread, deadline_us)) {
            return false;
        }
        s->state = NONE;
    }
    pthread_cond_destroy(&all->news);
    pthread_mutex_destroy(&all->lock);
    free(all);
    return true;
}
