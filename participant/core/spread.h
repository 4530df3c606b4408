/* SPDX-License-Identifier: Apache-2.0 */
/* spread: how a time is distributed, in a histogram of fixed size: eight buckets an octave from 16
 * us on, one a microsecond below, all longer than TIDE_SPREAD_MAX_US in the last one. What it gives
 * is never too low, and too high by an eighth at most (what is past the last bucket: the maximum).
 * Pure. */
#ifndef TIDE_PARTICIPANT_CORE_SPREAD_H
#define TIDE_PARTICIPANT_CORE_SPREAD_H

#include <stdint.h>

#define TIDE_SPREAD_BUCKETS 128U
#define TIDE_SPREAD_MAX_US  ((15U << 14) - 1U) /* of the last bucket but one */

struct spread { /* all zero: empty */
    uint32_t counts[TIDE_SPREAD_BUCKETS];
    uint64_t count;
    uint64_t max_us;
};

struct spread_view { /* all zero: nothing was added */
    uint64_t count;
    uint64_t p50_us;
    uint64_t p99_us;
    uint64_t max_us;
};

void spread_add(struct spread *spread, uint64_t us);
struct spread_view spread_view(const struct spread *spread);

#endif
