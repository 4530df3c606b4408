/* SPDX-License-Identifier: Apache-2.0 */
/* leader_pace: what the leader learns of its members' times, round by round (pace.h, spread.h), and
 * what it makes of it: who is slow takes no part, and is tried again now and then: by a round that
 * somebody asks for, and by one of the interval after TIDE_LEADER_TRIAL_US, then after twice, four
 * and eight times that, and two intervals at least. A part of the leader (leader.h). */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_PACE_H
#define TIDE_PARTICIPANT_CORE_LEADER_PACE_H

#include "participant/core/leader_own.h"

void leader_pace_forget(struct leader *l); /* this machine begins to lead, or the definition is
                                              another */
void leader_pace_forget_member(struct leader *l, unsigned member); /* it is not heard any more */
/* A member is in the way of the round that would be taken now; false while it is not known. */
bool leader_pace_slow(const struct leader *l, unsigned member);
/* Says so, with the figures. */
void leader_pace_text(const struct leader *l, unsigned member, char *ret, size_t size);

void leader_pace_held(struct leader *l, unsigned member); /* its HELD came now */
void leader_pace_late(struct leader *l); /* nobody waits any longer for those that did not answer */
void leader_pace_ended(struct leader *l, const struct msg_sum *sum); /* a round, whoever led it */

/* Puts into l->told who is expected to be late, and the interval if it is stretched. */
void leader_pace_tell(struct leader *l);

/* Whether a round that begins now takes the slow with it. */
bool leader_pace_trial(const struct leader *l);
void leader_pace_tried(struct leader *l); /* one begins */
/* One member is slow, and it is another one: that a round fails for it is not this leader's fault.
 * Where several are, it may be. */
bool leader_pace_blameless(const struct leader *l);
/* When the next trial of the interval begins; UINT64_MAX: nobody is slow. */
uint64_t leader_pace_trial_us(const struct leader *l);

/* The interval in force: the policy's, or longer (share.h). */
uint64_t leader_pace_interval_us(const struct leader *l);

#endif
