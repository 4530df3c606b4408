/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/tap.h"

#include "common/core/check.h"
#include "participant/tap/attach.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/control.h"
#include "participant/tap/copy.h"
#include "participant/tap/worker.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

uint64_t tap_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
}

void tap_post(struct tap *tap, unsigned work_bits)
{
    pthread_mutex_lock(&tap->work);
    tap->work_bits |= work_bits;
    pthread_cond_signal(&tap->work_due);
    pthread_mutex_unlock(&tap->work);
}

/* Under the gate lock. */
static void step_locked(struct tap *tap, struct gate_event *event, struct gate_out *ret)
{
    event->now_us = tap_now_us();
    gate_step(&tap->gate, event, ret);
    if (ret->let_go) {
        pthread_cond_broadcast(&tap->let_go);
    }
    if (ret->held && ret->lsn != 0) {
        pthread_cond_signal(&tap->begun);
    }
    if (ret->given_up) {
        tap->lost = tap->gate.seal;
        tap_post(tap, TAP_WORK_LOST);
    } else if (ret->seal_due) {
        tap_post(tap, TAP_WORK_SEAL);
    }
}

void tap_step(struct tap *tap, struct gate_event *event, struct gate_out *ret)
{
    pthread_mutex_lock(&tap->gate_lock);
    step_locked(tap, event, ret);
    pthread_mutex_unlock(&tap->gate_lock);
}

/* Waits on `cond` until something changes or the hold's deadline; lets go at the deadline. */
static void wait_deadline(struct tap *tap, pthread_cond_t *cond)
{
    uint64_t at = tap->gate.deadline_us;
    struct timespec until = {.tv_sec = (time_t)(at / 1000000U),
                             .tv_nsec = (long)(at % 1000000U) * 1000};
    if (pthread_cond_timedwait(cond, &tap->gate_lock, &until) == ETIMEDOUT) {
        struct gate_event event = {.type = GATE_TICK};
        struct gate_out out;
        step_locked(tap, &event, &out);
    }
}

void tap_wait_let_go(struct tap *tap, uint64_t ticket)
{
    pthread_mutex_lock(&tap->gate_lock);
    while (gate_holding(&tap->gate, ticket)) {
        wait_deadline(tap, &tap->let_go);
    }
    pthread_mutex_unlock(&tap->gate_lock);
}

/* The budget is kept even where no writer waits: BUSY must end, and the seal be due. */
static void *timer_main(void *context)
{
    struct tap *tap = context;
    pthread_mutex_lock(&tap->gate_lock);
    while (!tap->timer_stop) {
        if (tap->gate.state == GATE_HOLDING) {
            wait_deadline(tap, &tap->begun);
        } else {
            pthread_cond_wait(&tap->begun, &tap->gate_lock);
        }
    }
    pthread_mutex_unlock(&tap->gate_lock);
    return NULL;
}

static void init_locks(struct tap *tap)
{
    pthread_condattr_t monotonic;
    TIDE_CHECK(pthread_condattr_init(&monotonic) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    pthread_mutex_t *const mutexes[] = {&tap->entry,      &tap->append, &tap->sync,
                                        &tap->head,       &tap->copy,   &tap->state_lock,
                                        &tap->checkpoint, &tap->resize, &tap->recycle};
    /* RELEASE waits for these two, in a thread that may be real-time: who has one is then as
     * urgent, or any busy process could keep the holder from running, and so the guest waiting. */
    pthread_mutex_t *const urgent[] = {&tap->gate_lock, &tap->work};
    pthread_cond_t *const conds[] = {&tap->let_go,         &tap->begun,           &tap->work_due,
                                     &tap->checkpoint_due, &tap->checkpoint_done, &tap->copy_due};
    for (size_t i = 0; i < sizeof mutexes / sizeof mutexes[0]; i++) {
        TIDE_CHECK(pthread_mutex_init(mutexes[i], NULL) == 0);
    }
    pthread_mutexattr_t inherit;
    TIDE_CHECK(pthread_mutexattr_init(&inherit) == 0);
    TIDE_CHECK(pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT) == 0);
    for (size_t i = 0; i < sizeof urgent / sizeof urgent[0]; i++) {
        TIDE_CHECK(pthread_mutex_init(urgent[i], &inherit) == 0);
    }
    (void)pthread_mutexattr_destroy(&inherit);
    for (size_t i = 0; i < sizeof conds / sizeof conds[0]; i++) {
        TIDE_CHECK(pthread_cond_init(conds[i], &monotonic) == 0);
    }
    pthread_condattr_destroy(&monotonic);
    range_init(&tap->range);
}

int tap_open(struct tap *tap, const struct tap_config *config, struct err *err)
{
    memset(tap, 0, sizeof *tap);
    tap->config = *config;
    init_locks(tap);
    tap->small = malloc(TIDE_TAP_SMALL_MAX);
    if (tap->small == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory");
    }
    if (attach_open(tap, err) != 0) {
        free(tap->small);
        return -1;
    }
    if (control_open(tap, err) != 0) {
        attach_close(tap);
        free(tap->small);
        return -1;
    }
    return 0;
}

/* Best effort: what the machine does not allow only makes a stall under memory pressure likelier.
 */
static void stay_in_memory(void)
{
    static const char score[] = "-900";
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* their shadow is terabytes   \
                                                                     */
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        nbdkit_debug("memory is not locked: %s", strerror(errno));
    }
#endif
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, score, sizeof score - 1) < 0) {
        nbdkit_debug("oom_score_adj is not lowered: %s", strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int start_thread(pthread_t *ret, void *(*run)(void *), void *context, struct err *err)
{
    int why = pthread_create(ret, NULL, run, context);
    return why == 0 ? 0 : err_set(err, TIDE_ERR_LIMIT, "cannot start a thread: %s", strerror(why));
}

int tap_start(struct tap *tap, struct err *err)
{
    stay_in_memory();
    if (start_thread(&tap->timer_thread, timer_main, tap, err) != 0 ||
        start_thread(&tap->worker_thread, worker_main, tap, err) != 0 ||
        start_thread(&tap->checkpoint_thread, checkpoint_main, tap, err) != 0 ||
        start_thread(&tap->copy_thread, copy_main, tap, err) != 0 || control_start(tap, err) != 0) {
        return -1; /* the process ends: what runs already ends with it */
    }
    tap->threads = true;
    return 0;
}

static void stop_threads(struct tap *tap)
{
    control_stop(tap); /* first: a hold it ordered ends here */
    copy_stop(tap);
    pthread_join(tap->copy_thread, NULL);
    pthread_mutex_lock(&tap->gate_lock);
    tap->timer_stop = true;
    pthread_cond_signal(&tap->begun);
    pthread_mutex_unlock(&tap->gate_lock);
    pthread_join(tap->timer_thread, NULL);
    tap_post(tap, TAP_WORK_STOP); /* after a seal that is still due */
    pthread_join(tap->worker_thread, NULL);
    pthread_mutex_lock(&tap->checkpoint);
    tap->checkpoint_stop = true;
    pthread_cond_signal(&tap->checkpoint_due);
    pthread_cond_broadcast(&tap->checkpoint_done);
    pthread_mutex_unlock(&tap->checkpoint);
    pthread_join(tap->checkpoint_thread, NULL);
    tap->threads = false;
}

void tap_close(struct tap *tap)
{
    if (tap->threads) {
        stop_threads(tap);
    }
    control_close(tap);
    attach_close(tap);
    range_close(&tap->range);
    free(tap->small);
    tap->small = NULL;
}
