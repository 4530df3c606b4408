/* SPDX-License-Identifier: Apache-2.0 */
/* events: what has happened to disks and rounds: the last EVENTS_MAX, numbered from 1 without a
 * hole for as long as the daemon runs; the oldest drop, and a reader is told how many it missed.
 * Each is one line of the log too, written here and nowhere else. Any thread; the lock is held for
 * a copy at most. */
#ifndef TIDE_PARTICIPANT_EVENTS_H
#define TIDE_PARTICIPANT_EVENTS_H

#include "participant/core/news.h"
#include "participant/settings.h"

#define EVENTS_MAX      1024U
#define EVENTS_TEXT_MAX 255U
#define EVENTS_KEY_MAX  127U
#define EVENTS_SAME_US  10000000U

struct event {
    uint64_t seq;
    uint64_t wall_ns; /* of the last time, since 1970 */
    enum news_type type;
    unsigned member;                /* of the settings */
    int disk;                       /* of the settings; -1: the whole member */
    unsigned count;                 /* times, at least 1 */
    char text[EVENTS_TEXT_MAX + 1]; /* of the last time; printable ASCII */
};

struct events_span {
    uint64_t run;    /* drawn when the daemon began; numbers of another run say nothing */
    uint64_t newest; /* number of the newest event; 0: none yet */
    uint64_t missed; /* events past `since` that are gone */
};

struct events;

/* settings must outlive it. Aborts without memory. */
struct events *events_new(const struct settings *settings);
void events_free(struct events *events);

/* An event of a disk (index of the settings). */
void events_disk(struct events *events, enum news_type type, unsigned disk, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* For what may come again and again: where the same type, member, disk and key came less than
 * EVENTS_SAME_US ago (from the first time on), that event counts up and takes the text, and no line
 * is logged. disk -1: of the member. A key is cut at EVENTS_KEY_MAX. */
void events_again(struct events *events, enum news_type type, unsigned member, int disk,
                  const char *key, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Copies the oldest events past `since`, at most max; returns how many. */
unsigned events_read(struct events *events, uint64_t since, struct event *ret, unsigned max,
                     struct events_span *ret_span);

/* What the two above do, at a time that a test gives. key NULL: never the same. */
void events_put(struct events *events, uint64_t now_us, const struct event *event, const char *key);

#endif
