/* SPDX-License-Identifier: Apache-2.0 */
/* senders: the threads that PUT one disk's segments, several at once, each over a connection of its
 * own. A thread is started when one more than before is under way, and ends with its connection
 * after SENDERS_IDLE_US without work. What is given in comes back once, in any order. */
#ifndef TIDE_PARTICIPANT_SENDERS_H
#define TIDE_PARTICIPANT_SENDERS_H

#include "common/wire/intake.h"
#include "participant/core/window.h"
#include "participant/settings.h"
#include "participant/throttle.h"

#define SENDERS_IDLE_US 10000000U

struct senders_done {
    uint64_t first;
    struct err err;                 /* code OK: the answer is far */
    struct intake_stream_state far; /* then */
};

struct senders;

/* `wake(arg)` is called on a sender's thread, no lock held, when something is done. Pointers must
 * outlive it. Aborts without memory. */
struct senders *senders_new(const struct settings *settings, const struct tls_identity *identity,
                            struct throttle *throttle, void (*wake)(void *arg), void *arg);

/* At most TIDE_WINDOW_MAX are under way; the bytes stay the caller's and must stay until it is
 * done, which it is at once, as failed, where no thread can be started. */
void senders_put(struct senders *senders, const struct id *stream, uint64_t first,
                 const void *bytes, size_t size);
bool senders_take(struct senders *senders, struct senders_done *ret);
bool senders_limited(struct senders *senders); /* one of them waits for the bandwidth */

/* What is under way is given up; returns at once. */
void senders_stop(struct senders *senders);
/* After senders_stop(): waits until deadline_us and frees it; false: a thread still runs. */
bool senders_join(struct senders *senders, uint64_t deadline_us);

#endif
