/* SPDX-License-Identifier: Apache-2.0 */
/* call: one question from a thread that waits, with a deadline, to a thread that must not. Whoever
 * comes last frees it, so that a late answer finds memory that is still there. */
#ifndef TIDE_PARTICIPANT_CALL_H
#define TIDE_PARTICIPANT_CALL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct call {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned holders; /* 2, then 1, then it is freed */
    bool done;
    void *owner;                   /* of the question; call_new() sets nothing in it */
    void (*free_owner)(void *arg); /* frees what `owner` points to; may be NULL */
};

/* Two holders: who asks and who answers. NULL: no memory, and `owner` is freed. */
struct call *call_new(void *owner, void (*free_owner)(void *arg));
/* Who answers: the last thing it does with the call. */
void call_answer(struct call *call);
/* Who asks: true where the answer is there by then (owner may be read until call_drop()). */
bool call_wait(struct call *call, uint64_t deadline_us);
/* Either of the two gives it up. */
void call_drop(struct call *call);

#endif
