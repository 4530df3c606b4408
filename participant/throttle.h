/* SPDX-License-Identifier: Apache-2.0 */
/* throttle: what all PUTs of the daemon share: how many are under way at once, in the order in
 * which they asked, and the bandwidth (participant/core/bandwidth.h) by the machine's local time.
 * While a limit holds, fewer are: the same bytes a second then store the first of them sooner. A
 * PUT begins with throttle_enter() and its body is paced by throttle_take() piece by piece, so that
 * a line sees the limit as a steady rate: to wait before the PUT would send up to 8 MiB at once.
 * Hours that are `off` keep a PUT from beginning; one that is under way goes on at the least limit
 * there is. Any thread. */
#ifndef TIDE_PARTICIPANT_THROTTLE_H
#define TIDE_PARTICIPANT_THROTTLE_H

#include <stdatomic.h>
#include <stddef.h>

#include "participant/core/bandwidth.h"

#define THROTTLE_PUTS_MAX     8U /* as many as the coordinator takes of one identity */
#define THROTTLE_PUTS_LIMITED 2U

struct throttle;

/* The rules are copied. Aborts without memory. */
struct throttle *throttle_new(const struct bandwidth_rules *rules);
void throttle_free(struct throttle *throttle); /* nobody waits any more; takes NULL */

/* Waits for its turn; false where *stop is set, within a second (throttle_wake(): at once).
 * *limited is set while a limit makes it wait. After true: throttle_leave(). */
bool throttle_enter(struct throttle *throttle, const atomic_bool *stop, atomic_bool *limited);
void throttle_leave(struct throttle *throttle);
void throttle_wake(struct throttle *throttle);

/* How many of `want` bytes may be sent now; 0: ask again in some milliseconds. */
size_t throttle_take(struct throttle *throttle, size_t want);
bool throttle_is_limiting(struct throttle *throttle); /* a limit holds now */
/* How long a PUT of that size may take beside the usual deadline: with all others at the least
 * limit. 0: there is no limit. */
uint64_t throttle_extra_ms(const struct throttle *throttle, size_t size);

#endif
