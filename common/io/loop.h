/* SPDX-License-Identifier: Apache-2.0 */
/* loop: one thread's event loop, thin over libevent. All functions but loop_post() and loop_stop()
 * are for the thread that runs the loop (or before it runs). Times are clock_mono_us() values. */
#ifndef TIDE_COMMON_IO_LOOP_H
#define TIDE_COMMON_IO_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"

#define LOOP_POST_MAX 4096U /* calls queued from other threads */

struct event;
struct event_base;
struct loop;

struct loop *loop_new(void);                     /* aborts without memory or descriptors */
void loop_free(struct loop *loop);               /* takes NULL; calls still queued are not made */
void loop_run(struct loop *loop);                /* until loop_stop(); the stop is consumed */
void loop_stop(struct loop *loop);               /* any thread, also before loop_run() */
struct event_base *loop_base(struct loop *loop); /* for evhttp and the like */

/* A mutex that a loop of a higher priority may wait for: who holds it then has that priority. For
 * what is held for a copy only. Aborts where it cannot be made. */
void loop_mutex_init(pthread_mutex_t *mutex);

typedef void loop_fn(void *arg);

/* Any thread: fn(arg) is called once on the loop's thread, in the order of posting. BUSY where
 * LOOP_POST_MAX calls are queued; nothing is queued then and arg stays the caller's. */
int loop_post(struct loop *loop, loop_fn *fn, void *arg, struct err *err);

/* A timer, in the caller's memory, at microsecond resolution. */
struct loop_timer {
    struct event *event;
    loop_fn *fn;
    void *arg;
};
void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_fn *fn, void *arg);
void loop_timer_set(struct loop_timer *timer, uint64_t due_us); /* once; replaces; past: at once */
void loop_timer_clear(struct loop_timer *timer);
void loop_timer_close(struct loop_timer *timer); /* takes a zeroed or closed one too */

/* Readiness of a descriptor, level-triggered, until changed. */
#define LOOP_READ  1U
#define LOOP_WRITE 2U
typedef void loop_watch_fn(void *arg, unsigned ready);
struct loop_watch {
    struct event *event;
    struct loop *loop;
    loop_watch_fn *fn;
    void *arg;
    int fd; /* not owned */
    unsigned wanted;
};
void loop_watch_init(struct loop_watch *watch, struct loop *loop, int fd, loop_watch_fn *fn,
                     void *arg);
void loop_watch_set(struct loop_watch *watch, unsigned wanted); /* 0: none */
void loop_watch_close(struct loop_watch *watch);                /* before the fd is closed */

/* A signal, delivered on the loop's thread. One loop of a process only. */
struct loop_signal {
    struct event *event;
    loop_fn *fn;
    void *arg;
};
void loop_signal_init(struct loop_signal *signal, struct loop *loop, int number, loop_fn *fn,
                      void *arg);
void loop_signal_close(struct loop_signal *signal);

#endif
