/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/throttle.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/core/check.h"
#include "common/io/clock.h"

#define LOOK_US 1000000U /* how often who waits looks at the hours, and at stop */

struct waiter { /* on its thread's stack */
    struct waiter *next;
};

struct throttle {
    struct bandwidth_rules rules;
    uint64_t least;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t news;
    unsigned puts;
    struct waiter *first; /* in the order of their coming */
    struct bandwidth bucket;
};

struct throttle *throttle_new(const struct bandwidth_rules *rules)
{
    struct throttle *t = calloc(1, sizeof *t);
    pthread_condattr_t attr;
    TIDE_CHECK(t != NULL);
    t->rules = *rules;
    t->least = bandwidth_least(rules);
    TIDE_CHECK(pthread_mutex_init(&t->lock, NULL) == 0);
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&t->news, &attr) == 0);
    pthread_condattr_destroy(&attr);
    return t;
}

void throttle_free(struct throttle *t)
{
    if (t != NULL) {
        pthread_cond_destroy(&t->news);
        pthread_mutex_destroy(&t->lock);
        free(t);
    }
}

static struct bandwidth_rule rule_now(const struct throttle *t)
{
    struct tm tm = {0};
    time_t now = time(NULL);
    if (t->rules.count == 0 || localtime_r(&now, &tm) == NULL) {
        return t->rules.usual;
    }
    return bandwidth_rule(&t->rules, (unsigned)tm.tm_hour * 60 + (unsigned)tm.tm_min);
}

static void queue(struct throttle *t, struct waiter *waiter)
{
    struct waiter **end = &t->first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = waiter;
}

static void unqueue(struct throttle *t, struct waiter *waiter)
{
    struct waiter **at = &t->first;
    while (*at != waiter) {
        at = &(*at)->next;
    }
    *at = waiter->next;
    pthread_cond_broadcast(&t->news); /* another may be the first now */
}

bool throttle_enter(struct throttle *t, const atomic_bool *stop, atomic_bool *limited)
{
    bool in = false;
    struct waiter me = {.next = NULL};
    pthread_mutex_lock(&t->lock);
    queue(t, &me);
    while (!atomic_load(stop)) {
        struct bandwidth_rule rule = rule_now(t);
        unsigned most = rule.limit > 0 ? THROTTLE_PUTS_LIMITED : THROTTLE_PUTS_MAX;
        atomic_store(limited, rule.off || rule.limit > 0);
        if (!rule.off && t->puts < most && t->first == &me) {
            t->puts++;
            in = true;
            break;
        }
        uint64_t at = clock_mono_us() + LOOK_US;
        struct timespec until = {.tv_sec = (time_t)(at / CLOCK_US_PER_S),
                                 .tv_nsec = (long)(at % CLOCK_US_PER_S * 1000)};
        (void)pthread_cond_timedwait(&t->news, &t->lock, &until);
    }
    unqueue(t, &me);
    pthread_mutex_unlock(&t->lock);
    atomic_store(limited, false);
    return in;
}

void throttle_leave(struct throttle *t)
{
    pthread_mutex_lock(&t->lock);
    TIDE_CHECK(t->puts > 0);
    t->puts--;
    pthread_cond_broadcast(&t->news);
    pthread_mutex_unlock(&t->lock);
}

void throttle_wake(struct throttle *t)
{
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->news);
    pthread_mutex_unlock(&t->lock);
}

size_t throttle_take(struct throttle *t, size_t want)
{
    struct bandwidth_rule rule = rule_now(t);
    if (rule.off) {
        rule.limit = t->least;
    }
    pthread_mutex_lock(&t->lock);
    uint64_t take = bandwidth_take(&t->bucket, rule.limit, clock_mono_us(), want);
    pthread_mutex_unlock(&t->lock);
    return (size_t)take;
}

bool throttle_is_limiting(struct throttle *t)
{
    struct bandwidth_rule rule = rule_now(t);
    return rule.off || rule.limit > 0;
}

uint64_t throttle_extra_ms(const struct throttle *t, size_t size)
{
    return t->least == 0 ? 0 : (uint64_t)size * THROTTLE_PUTS_MAX * 1000 / t->least;
}
