/* SPDX-License-Identifier: Apache-2.0 */
/* leader_round: the round under way: HOLD, RELEASE or ABORT, SUM, and what the leader learns from
 * how it ended. A part of the leader (leader.h, which has its states). */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_ROUND_H
#define TIDE_PARTICIPANT_CORE_LEADER_ROUND_H

#include "participant/core/leader_own.h"

void leader_round_begin(struct leader *l, const struct id *random);
void leader_round_begin_alone(struct leader *l, const struct id *random); /* of its own disks */
/* Why the member cannot take part; NONE where it can. */
enum round_reason leader_round_ready(const struct leader *l, unsigned member);
/* Says that one is skipped, and why (share.h). */
void leader_round_spare(struct leader *l, enum round_scope scope);
void leader_round_held(struct leader *l, unsigned member, const struct msg *msg);
void leader_round_refused(struct leader *l, unsigned member, const struct msg *msg);
void leader_round_sealed(struct leader *l, unsigned member, const struct msg *msg);
void leader_round_deadline(struct leader *l); /* ends what has waited too long */
/* In PHASE_HOLDING: ABORT to all, and the end. */
void leader_round_fail(struct leader *l, enum round_reason reason, unsigned member,
                       const char *text);
/* Sums up and tells everyone. What was wrong is in l->told.sum already, or else found here. */
void leader_round_end(struct leader *l);
void leader_round_told(struct leader *l, bool began); /* empties l->told, for an own round */
/* What members did not say counts as unknown_us. */
void leader_round_count_hold(struct leader *l, const struct msg_sum *sum, uint64_t unknown_us);
void leader_round_forget_retry(struct leader *l);

#endif
