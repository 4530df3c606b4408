/* SPDX-License-Identifier: Apache-2.0 */
/* leader_alone: what the group lacks for rounds of all its members, and, where its policy is
 * strict, the rounds of scope `member` with which each VM goes on meanwhile. A part of the leader
 * (leader.h).
 *
 * Lack. Each candidate looks by itself whether every member can take part; what has kept one from
 * it for TIDE_LEADER_LACK_US is its lack, which its heartbeats tell. What counts for a member is
 * the lack that its leader tells, or, for as long, that no leader is reached. It comes out as
 * LEADER_LACK whenever it changes.
 *
 * Going alone. A member takes rounds of its own disks alone, at the group's interval, while the
 * policy is strict, its own taps are whole, and its leader gives leave (`alone` in its heartbeats)
 * or there is none. It is the leader of that round and its whole set: nobody else hears of it.
 *
 * Precedence. The group's rounds come first: leave is withdrawn when the lack ends, and before a
 * slow member is tried again; from then on the leader begins no round for TIDE_LEADER_QUIET_US, by
 * which time its heartbeat is there, the last such round is over, and so is the pause of its taps
 * (gate.h). A round of its own that only waits for its seals to be synced, which a slow disk may
 * take long for, gives way, here and in the member machine. Where all that is not enough (a
 * heartbeat that comes late), the group's round is answered BUSY or DUTY and, so soon after, tried
 * again as any other that failed. */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_ALONE_H
#define TIDE_PARTICIPANT_CORE_LEADER_ALONE_H

#include "participant/core/leader_own.h"

void leader_alone_look(struct leader *l); /* after every event, once it is known who leads */
/* When the next round of scope `member` may begin; UINT64_MAX: not now. */
uint64_t leader_alone_next_us(const struct leader *l);
/* When to look again for no other reason than time. */
uint64_t leader_alone_wake_us(const struct leader *l);
/* Members may have gone alone until shortly ago: their rounds may be in the way of the group's. */
bool leader_alone_lately(const struct leader *l);
/* It does not go alone any more, and its last such round waits for no more than seals: the group's
 * need not wait for it. */
bool leader_alone_gives_way(const struct leader *l);
void leader_alone_begun(struct leader *l);  /* one begins, or is spared: the next is due later */
void leader_alone_ended(struct leader *l);  /* l->told says how: perhaps it is tried again */
void leader_alone_forget(struct leader *l); /* the definition is another */

#endif
