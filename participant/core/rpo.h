/* SPDX-License-Identifier: Apache-2.0 */
/* rpo: how old the oldest change is that a stream's log has and the far side does not: what a loss
 * of the site now would lose. Pure; time is an argument (microseconds, monotonic).
 *
 * It remembers when the log's end was seen where. A change counts as made just after the last look
 * that did not see it, and where looks are forgotten for room, the earlier time stays: the age may
 * be told too high by the time between two looks, never too low. Of what was in the log before the
 * first look nothing is known. */
#ifndef TIDE_PARTICIPANT_CORE_RPO_H
#define TIDE_PARTICIPANT_CORE_RPO_H

#include <stdbool.h>
#include <stdint.h>

#define TIDE_RPO_LOOKS_MAX 64U

struct rpo_look {
    uint64_t first; /* LSNs from here on (to the next look's) were made after since_us */
    uint64_t since_us;
};

struct rpo {
    bool begun;
    uint64_t begin; /* the log's next LSN at the first look: what is before it is of unknown age */
    uint64_t next;  /* and at the last look */
    uint64_t seen_us; /* when that was */
    uint64_t stored;  /* at the far side */
    unsigned count;
    struct rpo_look looks[TIDE_RPO_LOOKS_MAX]; /* by first; only of what is not stored */
};

void rpo_init(struct rpo *rpo); /* for another stream */
/* The log's next LSN is (at least) this, as it was at now_us. */
void rpo_seen(struct rpo *rpo, uint64_t next_lsn, uint64_t now_us);
void rpo_stored(struct rpo *rpo, uint64_t stored_lsn);
/* False: unknown. *ret_us 0: the far side has all that was seen. */
bool rpo_age(const struct rpo *rpo, uint64_t now_us, uint64_t *ret_us);

#endif
