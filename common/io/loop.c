/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"

struct loop_call {
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *woken;
    int wake_fd;
    struct loop_call *batch; /* of the loop's thread: LOOP_POST_MAX calls being made */
    pthread_mutex_t mutex;   /* for what follows; never held over a call */
    struct loop_call *calls; /* ring of LOOP_POST_MAX */
    size_t first;
    size_t count;
    bool stop;
};

static void loop_wake(struct loop *loop)
{
    const uint64_t one = 1;
    /* Full means that it is awake already. */
    ssize_t put = write(loop->wake_fd, &one, sizeof(one));
    (void)put;
}

static void loop_woken(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    uint64_t count;
    (void)what;
    ssize_t got = read(fd, &count, sizeof(count));
    (void)got;
    TIDE_CHECK(pthread_mutex_lock(&loop->mutex) == 0);
    size_t calls = loop->count;
    for (size_t i = 0; i < calls; i++)
        loop->batch[i] = loop->calls[(loop->first + i) % LOOP_POST_MAX];
    loop->first = (loop->first + calls) % LOOP_POST_MAX;
    loop->count = 0;
    bool stop = loop->stop;
    (void)pthread_mutex_unlock(&loop->mutex);
    for (size_t i = 0; i < calls; i++)
        loop->batch[i].fn(loop->batch[i].arg);
    if (stop)
        (void)event_base_loopbreak(loop->base);
}

void loop_mutex_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t inherit;
    TIDE_CHECK(pthread_mutexattr_init(&inherit) == 0);
    TIDE_CHECK(pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT) == 0);
    TIDE_CHECK(pthread_mutex_init(mutex, &inherit) == 0);
    (void)pthread_mutexattr_destroy(&inherit);
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    struct event_config *config = event_config_new();
    TIDE_CHECK(loop != NULL && config != NULL);
    /* timerfd: without it a timer may be late by a millisecond, and the hold would pay. */
    TIDE_CHECK(
        event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK) == 0);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    TIDE_CHECK(loop->base != NULL);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TIDE_CHECK(loop->wake_fd >= 0);
    loop->calls = calloc(LOOP_POST_MAX, sizeof(*loop->calls));
    loop->batch = calloc(LOOP_POST_MAX, sizeof(*loop->batch));
    TIDE_CHECK(loop->calls != NULL && loop->batch != NULL);
    loop_mutex_init(&loop->mutex);
    loop->woken = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, loop_woken, loop);
    TIDE_CHECK(loop->woken != NULL && event_add(loop->woken, NULL) == 0);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    event_free(loop->woken);
    event_base_free(loop->base);
    (void)close(loop->wake_fd);
    (void)pthread_mutex_destroy(&loop->mutex);
    free(loop->calls);
    free(loop->batch);
    free(loop);
}

void loop_run(struct loop *loop)
{
    for (;;) {
        TIDE_CHECK(pthread_mutex_lock(&loop->mutex) == 0);
        bool stop = loop->stop;
        loop->stop = false;
        (void)pthread_mutex_unlock(&loop->mutex);
        if (stop)
            return;
        TIDE_CHECK(event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
    }
}

void loop_stop(struct loop *loop)
{
    TIDE_CHECK(pthread_mutex_lock(&loop->mutex) == 0);
    loop->stop = true;
    (void)pthread_mutex_unlock(&loop->mutex);
    loop_wake(loop);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

int loop_post(struct loop *loop, loop_fn *fn, void *arg, struct err *err)
{
    TIDE_CHECK(pthread_mutex_lock(&loop->mutex) == 0);
    bool full = loop->count == LOOP_POST_MAX;
    if (!full) {
        loop->calls[(loop->first + loop->count) % LOOP_POST_MAX] = (struct loop_call){fn, arg};
        loop->count++;
    }
    (void)pthread_mutex_unlock(&loop->mutex);
    if (full)
        return err_set(err, TIDE_ERR_BUSY, "%u calls wait for the loop already", LOOP_POST_MAX);
    loop_wake(loop);
    return 0;
}

static void loop_timer_due(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;
    (void)fd;
    (void)what;
    timer->fn(timer->arg);
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_fn *fn, void *arg)
{
    timer->fn = fn;
    timer->arg = arg;
    timer->event = event_new(loop->base, -1, 0, loop_timer_due, timer);
    TIDE_CHECK(timer->event != NULL);
}

void loop_timer_set(struct loop_timer *timer, uint64_t due_us)
{
    uint64_t now = clock_mono_us();
    uint64_t wait = due_us > now ? due_us - now : 0;
    const struct timeval after = {.tv_sec = (time_t)(wait / CLOCK_US_PER_S),
                                  .tv_usec = (suseconds_t)(wait % CLOCK_US_PER_S)};
    /* libevent counts from a time it read before this callback: read it again. */
    (void)event_base_update_cache_time(event_get_base(timer->event));
    TIDE_CHECK(event_add(timer->event, &after) == 0);
}

void loop_timer_clear(struct loop_timer *timer)
{
    TIDE_CHECK(event_del(timer->event) == 0);
}

void loop_timer_close(struct loop_timer *timer)
{
    if (timer->event != NULL)
        event_free(timer->event);
    timer->event = NULL;
}

static void loop_watch_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_watch *watch = arg;
    unsigned ready = 0;
    (void)fd;
    if (what & EV_READ)
        ready |= LOOP_READ;
    if (what & EV_WRITE)
        ready |= LOOP_WRITE;
    watch->fn(watch->arg, ready);
}

void loop_watch_init(struct loop_watch *watch, struct loop *loop, int fd, loop_watch_fn *fn,
                     void *arg)
{
    *watch = (struct loop_watch){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
    watch->event = event_new(loop->base, fd, EV_READ | EV_PERSIST, loop_watch_ready, watch);
    TIDE_CHECK(watch->event != NULL);
}

void loop_watch_set(struct loop_watch *watch, unsigned wanted)
{
    if (wanted == watch->wanted)
        return;
    TIDE_CHECK(event_del(watch->event) == 0);
    watch->wanted = wanted;
    if (wanted == 0)
        return;
    short what = EV_PERSIST;
    if (wanted & LOOP_READ)
        what = (short)(what | EV_READ);
    if (wanted & LOOP_WRITE)
        what = (short)(what | EV_WRITE);
    TIDE_CHECK(event_assign(watch->event, watch->loop->base, watch->fd, what, loop_watch_ready,
                            watch) == 0);
    TIDE_CHECK(event_add(watch->event, NULL) == 0);
}

void loop_watch_close(struct loop_watch *watch)
{
    if (watch->event != NULL)
        event_free(watch->event);
    watch->event = NULL;
    watch->wanted = 0;
}

static void loop_signal_seen(evutil_socket_t number, short what, void *arg)
{
    struct loop_signal *signal = arg;
    (void)number;
    (void)what;
    signal->fn(signal->arg);
}

void loop_signal_init(struct loop_signal *signal, struct loop *loop, int number, loop_fn *fn,
                      void *arg)
{
    signal->fn = fn;
    signal->arg = arg;
    signal->event = event_new(loop->base, number, EV_SIGNAL | EV_PERSIST, loop_signal_seen, signal);
    TIDE_CHECK(signal->event != NULL && event_add(signal->event, NULL) == 0);
}

void loop_signal_close(struct loop_signal *signal)
{
    if (signal->event != NULL)
        event_free(signal->event);
    signal->event = NULL;
}
