/* SPDX-License-Identifier: Apache-2.0 */
/* leader_requests: rounds that somebody asked for: where each waits, or goes, and its one answer.
 * At most TIDE_LEADER_TAKES_MAX wait, TIDE_LEADER_TAKE_US each; answers are kept for those that ask
 * again. A part of the leader (leader.h). */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_REQUESTS_H
#define TIDE_PARTICIPANT_CORE_LEADER_REQUESTS_H

#include "participant/core/leader_own.h"

/* local: of this machine; from: else the member that passed it on. */
void leader_requests_take(struct leader *l, const struct msg_take *take, bool local,
                          const struct name *from);
void leader_requests_taken(struct leader *l, const struct msg *msg); /* the leader's answer came */
void leader_requests_route(struct leader *l);                        /* another leads now */
void leader_requests_resend(struct leader *l);                       /* what was passed on */
void leader_requests_begin(struct leader *l);   /* the round that begins answers who waits */
void leader_requests_settle(struct leader *l);  /* l->told answers them */
void leader_requests_decline(struct leader *l); /* all: there is no definition any more */
void leader_requests_expire(struct leader *l);
bool leader_requests_waiting(const struct leader *l);     /* for the next round here */
uint64_t leader_requests_wake_us(const struct leader *l); /* first deadline; UINT64_MAX: none */

#endif
