/* SPDX-License-Identifier: Apache-2.0 */
/* range: a lock over byte ranges of the disk, so that overlapping changes reach log and image in
 * the same order; and the memory of which logged changes are still on their way to the image. First
 * come, first served among those that overlap; changes that do not overlap never wait. */
#ifndef TIDE_PARTICIPANT_TAP_RANGE_H
#define TIDE_PARTICIPANT_TAP_RANGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct range_node { /* on the caller's stack from range_lock() to range_unlock() */
    TAILQ_ENTRY(range_node) entry;
    uint64_t offset;
    uint64_t end;      /* exclusive */
    uint64_t lsn;      /* 0 until range_logged() */
    uint64_t position; /* of its record in the log */
};

struct range {
    pthread_mutex_t mutex; /* innermost: nothing is taken under it */
    pthread_cond_t changed;
    TAILQ_HEAD(range_list, range_node) nodes; /* in order of arrival; at most one a request */
    unsigned waiting;
};

void range_init(struct range *range);
void range_close(struct range *range);

/* Waits until no earlier node overlaps [offset, offset + size); size > 0. */
void range_lock(struct range *range, struct range_node *node, uint64_t offset, uint64_t size);
void range_unlock(struct range *range, struct range_node *node);

/* Under the append lock: the node's record has this LSN and lies there; its image write follows. */
void range_logged(struct range *range, struct range_node *node, uint64_t lsn, uint64_t position);

/* The oldest logged change whose image write has not ended; false where there is none. Meant to be
 * called under the append lock, so that no newer one slips in between. */
bool range_oldest(struct range *range, uint64_t *ret_lsn, uint64_t *ret_position);

/* Waits until every logged change is in the image (called under the append lock: none is added). */
void range_drain(struct range *range);

#endif
