/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/spread.h"

static unsigned bucket_of(uint64_t us)
{
    unsigned shift = 0;
    if (us > TIDE_SPREAD_MAX_US) {
        return TIDE_SPREAD_BUCKETS - 1;
    }
    while (us >> shift >= 16) { /* leaves 8..15: an octave's eight */
        shift++;
    }
    return (unsigned)(us >> shift) + 8 * shift;
}

/* The longest time of a bucket. */
static uint64_t edge_of(unsigned bucket)
{
    unsigned shift = bucket < 16 ? 0 : bucket / 8 - 1;
    return ((uint64_t)(bucket - 8 * shift) + 1) * (1ULL << shift) - 1;
}

void spread_add(struct spread *spread, uint64_t us)
{
    spread->counts[bucket_of(us)]++;
    spread->count++;
    spread->max_us = us > spread->max_us ? us : spread->max_us;
}

/* The time that so many of a hundred do not exceed. */
static uint64_t quantile(const struct spread *spread, unsigned percent)
{
    uint64_t due = (spread->count * percent + 99) / 100;
    uint64_t seen = 0;
    for (unsigned i = 0; i + 1 < TIDE_SPREAD_BUCKETS; i++) {
        seen += spread->counts[i];
        if (seen >= due) {
            return edge_of(i) < spread->max_us ? edge_of(i) : spread->max_us;
        }
    }
    return spread->max_us;
}

struct spread_view spread_view(const struct spread *spread)
{
    if (spread->count == 0) {
        return (struct spread_view){0};
    }
    return (struct spread_view){.count = spread->count,
                                .p50_us = quantile(spread, 50),
                                .p99_us = quantile(spread, 99),
                                .max_us = spread->max_us};
}
