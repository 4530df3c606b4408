/* SPDX-License-Identifier: Apache-2.0 */
/* window: which of a stream's decided segments to send now, what an answer to one means, and when
 * to ask the far side anew where it is. Pure: no clock, no I/O, no memory of its own. Holds a few
 * segments, in the stream's order and without a hole, from their being decided until an answer says
 * that the stream is stored through their end: only that counts, in whichever order answers come.
 *
 *            next()              answered, not stored yet
 *   WAITING ---------> SENDING -----------------------------> HELD (staged at the far side)
 *      ^                  |                                     |
 *      +------------------+------------------ it is the oldest, and no answer is awaited any more:
 *        failed in passing                    the far side has lost it (once; then: ask)
 *
 * After a failure the oldest alone is sent, after a back-off, until one is answered well; then all
 * are again. What no repetition mends closes the window: nothing is sent from it, the owner waits
 * until it is idle, asks the far side, and begins anew with window_init(). */
#ifndef TIDE_PARTICIPANT_CORE_WINDOW_H
#define TIDE_PARTICIPANT_CORE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"

#define TIDE_WINDOW_MAX          16U /* segments; as many as the far side stages of one stream */
#define TIDE_WINDOW_RETRY_MIN_US 100000U
#define TIDE_WINDOW_RETRY_MAX_US 5000000U

enum window_state {
    WINDOW_WAITING, /* to be sent, for the first time or again */
    WINDOW_SENDING,
    WINDOW_HELD, /* the far side has it, not stored yet: what is before it is missing there */
};

struct window_item {
    uint64_t first; /* LSNs */
    uint64_t last;
    enum window_state state;
    bool again; /* it was found lost once already */
};

struct window {
    unsigned limit; /* 1..TIDE_WINDOW_MAX */
    unsigned count;
    struct window_item items[TIDE_WINDOW_MAX]; /* not stored yet */
    unsigned sending;                          /* answers awaited, of stored ones too */
    uint64_t stored;                           /* the far side's, without a hole */
    bool closed;
    bool failing; /* the last answer was a failure in passing */
    bool probing; /* the one that is under way was sent after it */
    uint64_t retry_us;
    uint64_t backoff_us;
};

/* What came back. */
struct window_answer {
    enum err_code code; /* OK: taken, staged or known */
    uint64_t stored;    /* with OK: the far side's stored LSN */
    bool forked;        /* with OK */
};

enum window_verdict {
    WINDOW_FINE,
    WINDOW_RETRY, /* failed in passing: it is sent again */
    WINDOW_ASK,   /* the window is closed now, or was before */
};

/* The far side has the stream through stored. Nothing is under way. */
void window_init(struct window *window, unsigned limit, uint64_t stored);

/* Whether another segment may be decided: below the limit, not closed, and nothing fails. */
bool window_has_room(const struct window *window);
/* Must follow the last one (or stored, if there is none); has room. */
void window_add(struct window *window, uint64_t first, uint64_t last);

/* The first LSN of a segment to be sent now: true, and it counts as sending. */
bool window_next(struct window *window, uint64_t now_us, uint64_t *ret_first);
/* When to call window_next() again without an answer before; UINT64_MAX: no need. */
uint64_t window_wake_us(const struct window *window);

/* The answer to what was sent from `first`. `spice`, random, spreads retries. Segments that are
 * stored now are no longer here afterwards. */
enum window_verdict window_answer(struct window *window, uint64_t first,
                                  const struct window_answer *answer, uint64_t now_us,
                                  uint8_t spice);
void window_close(struct window *window);      /* for another reason of the owner's */
bool window_idle(const struct window *window); /* no answer is awaited */

/* Whether trying the same again may mend it. */
bool window_is_passing(enum err_code code);

#endif
