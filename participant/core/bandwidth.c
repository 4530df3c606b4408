/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/bandwidth.h"

#include "common/core/check.h"

#define SECOND_US 1000000U
#define BUCKET_US (SECOND_US / 4)

bool bandwidth_within(const struct bandwidth_hours *hours, unsigned minute)
{
    if (hours->from < hours->to) {
        return minute >= hours->from && minute < hours->to;
    }
    return minute >= hours->from || minute < hours->to;
}

struct bandwidth_rule bandwidth_rule(const struct bandwidth_rules *rules, unsigned minute)
{
    TIDE_CHECK(minute < TIDE_BANDWIDTH_DAY && rules->count <= TIDE_BANDWIDTH_HOURS_MAX);
    for (unsigned k = 0; k < rules->count; k++) {
        if (bandwidth_within(&rules->hours[k], minute)) {
            return rules->hours[k].rule;
        }
    }
    return rules->usual;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return b > 0 && (a == 0 || b < a) ? b : a;
}

uint64_t bandwidth_least(const struct bandwidth_rules *rules)
{
    uint64_t least = rules->usual.limit;
    for (unsigned k = 0; k < rules->count; k++) {
        least = lesser(least, rules->hours[k].rule.limit);
    }
    return least;
}

static void earn(struct bandwidth *b, uint64_t now_us)
{
    if (now_us < b->last_us) {
        b->last_us = now_us;
        return;
    }
    uint64_t passed = now_us - b->last_us;
    uint64_t most = b->limit * BUCKET_US / SECOND_US;
    if (passed >= BUCKET_US) {
        b->credit = most;
        b->last_us = now_us;
        return;
    }
    uint64_t earned = passed * b->limit / SECOND_US;
    /* What was too little for a byte counts later. */
    b->last_us += (earned * SECOND_US + b->limit - 1) / b->limit;
    b->credit = b->credit + earned > most ? most : b->credit + earned;
}

uint64_t bandwidth_take(struct bandwidth *b, uint64_t limit, uint64_t now_us, uint64_t want)
{
    TIDE_CHECK(limit <= TIDE_BANDWIDTH_MAX);
    if (limit == 0) {
        b->limit = 0;
        return want;
    }
    if (limit != b->limit) {
        *b = (struct bandwidth){.limit = limit, .last_us = now_us};
    }
    earn(b, now_us);
    uint64_t take = want < b->credit ? want : b->credit;
    b->credit -= take;
    return take;
}
