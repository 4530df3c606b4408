/* SPDX-License-Identifier: Apache-2.0 */
/* bandwidth: how many bytes may be sent now: limits by hour of the day, and a token bucket. Pure:
 * time and time of day are arguments. */
#ifndef TIDE_PARTICIPANT_CORE_BANDWIDTH_H
#define TIDE_PARTICIPANT_CORE_BANDWIDTH_H

#include <stdbool.h>
#include <stdint.h>

#define TIDE_BANDWIDTH_HOURS_MAX 16U
#define TIDE_BANDWIDTH_MIN       16384U              /* bytes a second; less starves a PUT */
#define TIDE_BANDWIDTH_MAX       (UINT64_C(1) << 40) /* likewise */
#define TIDE_BANDWIDTH_DAY       1440U               /* minutes */

/* What holds at a time of day. */
struct bandwidth_rule {
    bool off;       /* nothing is sent */
    uint64_t limit; /* bytes a second; 0: none */
};

struct bandwidth_hours {
    uint16_t from; /* minute of the day, 0..1439 */
    uint16_t to; /* 1..1440, not in it; at or before `from`: of the next day. Never equal to from */
    struct bandwidth_rule rule;
};

struct bandwidth_rules {
    struct bandwidth_rule usual;
    unsigned count;
    struct bandwidth_hours hours[TIDE_BANDWIDTH_HOURS_MAX]; /* no two overlap */
};

/* Whether the hours have that minute of the day. */
bool bandwidth_within(const struct bandwidth_hours *hours, unsigned minute);
struct bandwidth_rule bandwidth_rule(const struct bandwidth_rules *rules, unsigned minute);
/* The least limit of all; 0: there is none. */
uint64_t bandwidth_least(const struct bandwidth_rules *rules);

/* The bucket holds a quarter of a second's bytes, so that a line is never given more at once. */
struct bandwidth {
    uint64_t limit; /* that it was last asked with */
    uint64_t credit;
    uint64_t last_us;
};

/* Takes up to `want` bytes: returns how many may go now, 0 where none may yet. limit 0: all. A
 * clock that goes backwards gives nothing, one that leaps ahead no more than a full bucket; another
 * limit than last time begins with an empty one. */
uint64_t bandwidth_take(struct bandwidth *bandwidth, uint64_t limit, uint64_t now_us,
                        uint64_t want);

#endif
