/* SPDX-License-Identifier: Apache-2.0 */
/* ship: the daemons' side of shipping: segments made by the shipped cutter out of what the taps
 * have synced, at most as many under way as the shipped window lets, each decided once: its range
 * and hash are in a list that outlives every crash (participant/cutlog) before it is sent, and the
 * same bytes are made again. What the far side has stored the tap hears of. Mirrors
 * participant/shipper, which is threads and sockets. */
#ifndef TIDE_TESTS_SIM_SHIP_H
#define TIDE_TESTS_SIM_SHIP_H

#include "tests/sim/far.h"
#include "tests/sim/simtap.h"

struct ship;

/* A segment that was decided can no longer be made, or the log has not what is due. */
typedef void ship_lost_fn(void *context, unsigned disk, const char *why);

struct ship *ship_new(struct roundlab *lab, struct simtaps *taps, struct far *far, uint64_t seed,
                      ship_lost_fn *lost, void *context);
void ship_free(struct ship *ship); /* takes NULL */

#endif
