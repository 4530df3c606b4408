/* SPDX-License-Identifier: Apache-2.0 */
/* listed: the far side of a simulated cluster whose disks are lists of records (no logs, images or
 * segments): it gets a few synced records of each stream at a time, and forgets all when it is
 * away. */
#ifndef TIDE_TESTS_SIM_LISTED_H
#define TIDE_TESTS_SIM_LISTED_H

#include "common/core/prng.h"
#include "tests/lib/roundlab.h"
#include "tests/sim/check.h"

struct listed;

/* It reads the streams that check was shown. */
struct listed *listed_new(struct roundlab *lab, struct check *check, uint64_t seed);
void listed_free(struct listed *listed); /* takes NULL */

void listed_step(struct listed *listed); /* reads on, and its answers are looked at */
void listed_far(struct listed *listed, bool up);
void listed_define(struct listed *listed); /* hears of definitions */
void listed_reread(struct listed *listed, struct prng *prng);
const struct align *listed_align(const struct listed *listed); /* NULL: away */

/* Of one that never read before and reads all; the caller frees it. */
struct align *listed_judge(const struct listed *listed);

#endif
