/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/share.h"

#include <string.h>

#define SECOND_US 1000000U

void share_init(struct share *share)
{
    memset(share, 0, sizeof *share);
}

void share_add(struct share *share, uint64_t now_us, uint64_t hold_us)
{
    uint64_t second = now_us / SECOND_US;
    unsigned at = (unsigned)(second % TIDE_SHARE_WINDOW_S);
    if (share->second[at] != second) {
        share->second[at] = second;
        share->held_us[at] = 0;
    }
    share->held_us[at] += hold_us;
    share->lately_us[share->next] = hold_us;
    share->next = (share->next + 1) % TIDE_SHARE_LATELY;
}

uint64_t share_held_us(const struct share *share, uint64_t now_us)
{
    uint64_t second = now_us / SECOND_US;
    uint64_t sum = 0;
    for (unsigned i = 0; i < TIDE_SHARE_WINDOW_S; i++) {
        sum += share->second[i] + TIDE_SHARE_WINDOW_S > second ? share->held_us[i] : 0;
    }
    return sum;
}

uint64_t share_expected_us(const struct share *share)
{
    uint64_t longest = 0;
    for (unsigned i = 0; i < TIDE_SHARE_LATELY; i++) {
        longest = share->lately_us[i] > longest ? share->lately_us[i] : longest;
    }
    return longest;
}

uint64_t share_interval_us(const struct share *share, uint64_t now_us, uint64_t interval_us)
{
    if (share_held_us(share, now_us) <= TIDE_SHARE_LIMIT_US / 2) {
        return interval_us;
    }
    /* At most (limit - 2 holds) / hold + 1 of them are in a window, and the next one fits. */
    uint64_t expected_us = share_expected_us(share);
    uint64_t room_us =
        TIDE_SHARE_LIMIT_US > 3 * expected_us ? TIDE_SHARE_LIMIT_US - 2 * expected_us : expected_us;
    uint64_t least_us = expected_us * SECOND_US * TIDE_SHARE_WINDOW_S / room_us;
    return least_us > interval_us ? least_us : interval_us;
}

bool share_allows(const struct share *share, uint64_t now_us)
{
    return share_held_us(share, now_us) + share_expected_us(share) <= TIDE_SHARE_LIMIT_US;
}
