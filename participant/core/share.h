/* SPDX-License-Identifier: Apache-2.0 */
/* share: how much of the last minute a group was held, as its leader knows it, and whether another
 * round fits. Each tap keeps its own duty limit, whoever asks (gate.h); this is the leader's
 * manners above it: rounds that go wrong again and again, each to the end of its budget, must not
 * become a tenth of production's time.
 *
 * Pure: time comes with each call. Fixed size: one sum a second. */
#ifndef TIDE_PARTICIPANT_CORE_SHARE_H
#define TIDE_PARTICIPANT_CORE_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#define TIDE_SHARE_WINDOW_S 60U
#define TIDE_SHARE_LIMIT_US 1500000U /* held in the window at most: a fortieth */
#define TIDE_SHARE_LATELY   4U       /* rounds that the next one is expected to be like */

struct share {
    uint64_t second[TIDE_SHARE_WINDOW_S]; /* which one the sum is of */
    uint64_t held_us[TIDE_SHARE_WINDOW_S];
    uint64_t lately_us[TIDE_SHARE_LATELY];
    unsigned next;
};

void share_init(struct share *share);

/* A round's longest hold. Where members did not say, the caller's guess: the time until the leader
 * gave up, or a whole budget where another leader tells of the round. */
void share_add(struct share *share, uint64_t now_us, uint64_t hold_us);

/* In the window that ends now. */
uint64_t share_held_us(const struct share *share, uint64_t now_us);

/* How long the next hold will be, going by the last rounds: the longest of them; 0: none yet. */
uint64_t share_expected_us(const struct share *share);

/* The interval to keep: the one asked for, or, where more than half of the limit is used up, so
 * long that holds as long as is expected stay under it. */
uint64_t share_interval_us(const struct share *share, uint64_t now_us, uint64_t interval_us);

/* Whether a round fits under the limit. */
bool share_allows(const struct share *share, uint64_t now_us);

#endif
