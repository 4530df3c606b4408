/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/events.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "common/io/loop.h"

struct place {
    struct event event;
    uint64_t first_us; /* of its first time */
    char key[EVENTS_KEY_MAX + 1];
};

struct events {
    const struct settings *settings;
    pthread_mutex_t lock;
    uint64_t run;
    uint64_t newest; /* number n is in place n % EVENTS_MAX */
    struct place places[EVENTS_MAX];
};

struct events *events_new(const struct settings *settings)
{
    struct events *events = calloc(1, sizeof *events);
    TIDE_CHECK(events != NULL);
    events->settings = settings;
    while (events->run == 0) {
        file_random(&events->run, sizeof events->run);
    }
    memset(events->places, 0, sizeof events->places); /* page faults are not the hold thread's */
    /* Whoever copies while the hold thread waits gets its priority. */
    loop_mutex_init(&events->lock);
    return events;
}

void events_free(struct events *events)
{
    if (events != NULL) {
        pthread_mutex_destroy(&events->lock);
        free(events);
    }
}

static uint64_t oldest(const struct events *events)
{
    return events->newest < EVENTS_MAX ? 1 : events->newest - EVENTS_MAX + 1;
}

/* Text of a peer may be in it. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~') {
            *text = '?';
        }
    }
}

static struct place *same(struct events *events, uint64_t now_us, const struct event *event,
                          const char *key)
{
    for (uint64_t seq = events->newest; seq >= oldest(events); seq--) {
        struct place *place = &events->places[seq % EVENTS_MAX];
        const struct event *old = &place->event;
        if (old->type == event->type && old->member == event->member && old->disk == event->disk &&
            place->key[0] != '\0' && strncmp(place->key, key, EVENTS_KEY_MAX) == 0) {
            return now_us - place->first_us < EVENTS_SAME_US ? place : NULL;
        }
    }
    return NULL;
}

/* Under the lock; true: a new one. */
static bool keep(struct events *events, uint64_t now_us, const struct event *event, const char *key)
{
    struct place *place = key == NULL ? NULL : same(events, now_us, event, key);
    if (place != NULL) {
        place->event.count++;
        place->event.wall_ns = event->wall_ns;
        memcpy(place->event.text, event->text, sizeof place->event.text);
        return false;
    }
    uint64_t seq = ++events->newest;
    place = &events->places[seq % EVENTS_MAX];
    place->event = *event;
    place->event.seq = seq;
    place->event.count = 1;
    place->first_us = now_us;
    snprintf(place->key, sizeof place->key, "%s", key == NULL ? "" : key);
    return true;
}

void events_put(struct events *events, uint64_t now_us, const struct event *event, const char *key)
{
    const struct settings *settings = events->settings;
    const struct settings_member *member = &settings->members[event->member];
    pthread_mutex_lock(&events->lock);
    bool fresh = keep(events, now_us, event, key);
    pthread_mutex_unlock(&events->lock);
    if (fresh) {
        log_line(news_warns(event->type) ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "%s %s/%s%s%s: %s",
                 event->disk < 0 ? "member" : "disk", member->group.s, member->name.s,
                 event->disk < 0 ? "" : "/",
                 event->disk < 0 ? "" : settings->disks[event->disk].name.s, event->text);
    }
}

static void put_now(struct events *events, struct event *event, const char *key, const char *format,
                    va_list args)
{
    event->wall_ns = clock_wall_ns();
    (void)vsnprintf(event->text, sizeof event->text, format, args);
    make_printable(event->text);
    events_put(events, clock_mono_us(), event, key);
}

void events_disk(struct events *events, enum news_type type, unsigned disk, const char *format, ...)
{
    struct event event = {
        .type = type, .member = events->settings->disks[disk].member, .disk = (int)disk};
    va_list args;
    va_start(args, format);
    put_now(events, &event, NULL, format, args);
    va_end(args);
}

void events_again(struct events *events, enum news_type type, unsigned member, int disk,
                  const char *key, const char *format, ...)
{
    struct event event = {.type = type, .member = member, .disk = disk};
    va_list args;
    va_start(args, format);
    put_now(events, &event, key, format, args);
    va_end(args);
}

unsigned events_read(struct events *events, uint64_t since, struct event *ret, unsigned max,
                     struct events_span *ret_span)
{
    unsigned count = 0;
    pthread_mutex_lock(&events->lock);
    uint64_t first = oldest(events);
    *ret_span = (struct events_span){.run = events->run, .newest = events->newest};
    if (since < first) {
        ret_span->missed = first - 1 - since;
        since = first - 1;
    }
    while (count < max && since < events->newest) {
        ret[count++] = events->places[++since % EVENTS_MAX].event;
    }
    pthread_mutex_unlock(&events->lock);
    return count;
}
