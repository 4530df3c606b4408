/* SPDX-License-Identifier: Apache-2.0 */
/* hostile: a candidate that was taken over and leads rounds to make a false point. It orders as a
 * leader may, knows every tap's LSN and incarnation at any time, and every nonce from when its
 * bookmark is placed; before that it can only guess. What it tries, drawn for each round:
 *
 *   guess   lets the first member go with an H over a guess of what the second will place: the
 * nonce that its tap used last, the round's id, that of an earlier start, or any H at all; and has
 * the second place its bookmark when the LSN is the guessed one sets    shows the two members
 * different sets under one round id
 *
 * The far side must call nothing of it a point but what is one. */
#ifndef TIDE_TESTS_SIM_HOSTILE_H
#define TIDE_TESTS_SIM_HOSTILE_H

#include "tests/lib/roundlab.h"
#include "tests/sim/check.h"

struct hostile;

struct hostile *hostile_new(struct roundlab *lab, struct check *check, uint64_t seed);
void hostile_free(struct hostile *hostile); /* takes NULL */

/* From here on it makes that many rounds, one after the other. */
void hostile_begin(struct hostile *hostile, unsigned rounds);
void hostile_end(struct hostile *hostile);

/* It looks on; what it does comes after what is happening now. */
void hostile_saw_record(struct hostile *hostile, unsigned disk, const struct record *record);
void hostile_saw_write(struct hostile *hostile);

#endif
