/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/call.h"

#include <stdlib.h>
#include <time.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/loop.h"

struct call *call_new(void *owner, void (*free_owner)(void *arg))
{
    struct call *call = calloc(1, sizeof *call);
    pthread_condattr_t attr;
    if (call == NULL) {
        if (free_owner != NULL) {
            free_owner(owner);
        }
        return NULL;
    }
    loop_mutex_init(&call->lock); /* the hold thread answers */
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&call->answered, &attr) == 0);
    pthread_condattr_destroy(&attr);
    call->holders = 2;
    call->owner = owner;
    call->free_owner = free_owner;
    return call;
}

void call_drop(struct call *call)
{
    pthread_mutex_lock(&call->lock);
    bool last = --call->holders == 0;
    pthread_mutex_unlock(&call->lock);
    if (last) {
        if (call->free_owner != NULL) {
            call->free_owner(call->owner);
        }
        pthread_cond_destroy(&call->answered);
        pthread_mutex_destroy(&call->lock);
        free(call);
    }
}

void call_answer(struct call *call)
{
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->answered);
    pthread_mutex_unlock(&call->lock);
    call_drop(call);
}

bool call_wait(struct call *call, uint64_t deadline_us)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_us / CLOCK_US_PER_S),
                             .tv_nsec = (long)(deadline_us % CLOCK_US_PER_S * 1000)};
    pthread_mutex_lock(&call->lock);
    while (!call->done && pthread_cond_timedwait(&call->answered, &call->lock, &until) == 0) {
    }
    bool done = call->done;
    pthread_mutex_unlock(&call->lock);
    return done;
}
