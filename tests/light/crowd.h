/* SPDX-License-Identifier: Apache-2.0 */
/* crowd: the light members (light.h) of a group, all in this process, dealt out to a few threads
 * with a loop each; tokens that write through them; and the judge of what their taps recorded.
 * Functions are for the thread that made the crowd. */
#ifndef TIDE_TESTS_LIGHT_CROWD_H
#define TIDE_TESTS_LIGHT_CROWD_H

#include "tests/light/light.h"

#define CROWD_THREADS_MAX 8U
#define CROWD_TOKENS_MAX  16U
#define CROWD_STEPS_MAX   65536U /* of a token; then it rests */

struct crowd;

/* Starts them. Aborts where it cannot. */
struct crowd *crowd_new(const struct light_group *group, unsigned threads);
/* Ends the threads; the records stay for the judge. */
void crowd_stop(struct crowd *crowd);
void crowd_free(struct crowd *crowd); /* after crowd_stop(); takes NULL */

/* Waits until the first member leads and hears all; false: not by then. */
bool crowd_wait_whole(struct crowd *crowd, uint64_t deadline_us);

/* Has the first member take a round now, and waits for what it came to; false: not by then. */
bool crowd_round(struct crowd *crowd, uint64_t deadline_us, struct leader_round *ret);

/* `count` tokens go from disk to disk from now on: each writes where it is, waits until the write
 * is acknowledged, and think_us later writes on some other disk. */
void crowd_tokens(struct crowd *crowd, unsigned count, uint64_t think_us, uint64_t seed);

struct crowd_verdict { /* of the rounds that the records name, by the reader's rule */
    unsigned sealed;   /* by all, says the first member of those that it led */
    unsigned rounds;
    unsigned points;    /* of the group: yes; with unsafe_no_hold: unaligned */
    unsigned full;      /* of them with every disk */
    unsigned torn;      /* of them that have a token's write without the one before it */
    unsigned undecided; /* neither yes nor no */
    unsigned steps;     /* writes of all tokens */
};
struct crowd_verdict crowd_judge(const struct crowd *crowd); /* after crowd_stop() */

#endif
