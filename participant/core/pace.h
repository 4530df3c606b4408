/* SPDX-License-Identifier: Apache-2.0 */
/* pace: how long the next hold of a group will last, from what was measured: how long each member
 * took to answer its last HOLDs, and how much longer than until the last answer the holds then
 * lasted. Who is expected to hold the others for longer than the budget is slow: the leader leaves
 * it out, or takes no round, and names it, instead of stalling everyone to the end of the budget.
 *
 * What is expected is the second longest of the last TIDE_PACE_WINDOW, so that one odd answer says
 * nothing; of fewer than two nothing is known, and whoever is not known is not slow. One answer in
 * time by a member that was slow clears it: two late ones make it slow again.
 *
 * Pure. Times are of one leader, in microseconds; an answer that never came counts as the time it
 * was waited for. */
#ifndef TIDE_PARTICIPANT_CORE_PACE_H
#define TIDE_PARTICIPANT_CORE_PACE_H

#include "common/core/definition.h"

#define TIDE_PACE_WINDOW 16U

struct pace_window {
    uint32_t us[TIDE_PACE_WINDOW];
    unsigned next;
    unsigned count;
    uint32_t high_us; /* the second longest; 0: fewer than two are known */
};

struct pace { /* all zero: nothing is known */
    struct pace_window answers[TIDE_MEMBERS_MAX];
    struct pace_window rest; /* from the last answer to the end of the longest hold */
};

/* HOLD to HELD. budget_us: what the hold may last. */
void pace_answered(struct pace *pace, unsigned member, uint64_t us, uint32_t budget_us);
void pace_rest(struct pace *pace, uint64_t us);
void pace_forget(struct pace *pace, unsigned member); /* nothing is known of it any more */

/* How long a hold is expected to last if this member takes part; 0: not known. */
uint64_t pace_expected_us(const struct pace *pace, unsigned member);
/* Of that, its answer and the rest; 0 each: not known. */
uint64_t pace_answer_us(const struct pace *pace, unsigned member);
uint64_t pace_rest_us(const struct pace *pace);
unsigned pace_answers(const struct pace *pace, unsigned member); /* that are known */

bool pace_slow(const struct pace *pace, unsigned member, uint32_t budget_us);

#endif
