/* SPDX-License-Identifier: Apache-2.0 */
/* member: one member's part of bookmark rounds as a pure state machine (proto/protocol.md). It
 * judges orders of leaders, passes them to the taps of its disks, and answers. One per own member
 * of the daemon.
 *
 *          HOLD (checked)          all taps hold           RELEASE            all taps sealed
 *   IDLE --------> DELAY? --> ORDERED ----------> HELD -----------> RELEASED ---------------> IDLE
 *                    |           |                 |  ABORT, leader lost, tap lost,
 *                    |           +-----------------+  refused or ended by itself
 *                    |  (never held)               v        all taps ended, or 5 s
 *                    +-----------------------> LETTING_GO --------------------------> IDLE
 *
 * A round of the group's scope takes the place of one of the member's own that is RELEASED.
 *
 * Modelled: proto/model/round.pml, proctype member, with the state names of enum member_state.
 *
 * How to drive it. Feed every event through member_step() from one thread. Effects come out through
 * the outbox's put(), one at a time, in order, before member_step() returns; what they point to is
 * the machine's and valid only during the call: carry it out or copy it. put() must not call any
 * step function: a message to a member of this same daemon is queued (as bytes or copies) and fed
 * as an event afterwards. There is no limit on effects to size for: one event gives at most
 * 1 message, 1 attestation, 1 note, and 2 orders per disk. After each step look at
 * member_wake_us() and feed MEMBER_TICK no later than then. Effects of a MEMBER_DEFINITION are
 * about the definition before; after it no tap counts as attached until a MEMBER_TAP says so.
 *
 * Time: microseconds of one monotonic clock; an earlier time than the last counts as the last.
 * Disks are numbered 0.. within the member, in the definition's order. */
#ifndef TIDE_PARTICIPANT_CORE_MEMBER_H
#define TIDE_PARTICIPANT_CORE_MEMBER_H

#include "common/core/msg.h"
#include "common/core/prng.h"
#include "common/core/statement.h"
#include "common/core/tapctl.h"

#define TIDE_MEMBER_ENDED_MAX    64       /* rounds remembered as ended */
#define TIDE_MEMBER_GIVE_UP_US   5000000U /* a tap that has not reported its seal by then */
#define TIDE_MEMBER_DELAY_US_MAX 1000000U /* of the test switch */

struct member_config {
    struct name name;           /* of this member */
    uint64_t incarnation;       /* of the daemon, never 0; goes into every message */
    bool unsafe_no_hold;        /* test switch: taps mark without holding (`unheld`) */
    uint32_t hold_delay_us_max; /* test switch: before it acts on a HOLD the member waits a time of
                                   its own, 0..this, drawn anew for each; 0: off */
    uint64_t hold_delay_seed;   /* with the member's name it fixes the sequence of delays */
};

enum member_event_type {
    MEMBER_DEFINITION,  /* definition (NULL: none), self */
    MEMBER_TAP,         /* disk, tap: it attached, was lost, or changed; on every STATE as well */
    MEMBER_MESSAGE,     /* msg: HOLD, RELEASE or ABORT; others are ignored */
    MEMBER_TAP_HELD,    /* disk, held */
    MEMBER_TAP_REFUSED, /* disk, refused */
    MEMBER_TAP_SEALED,  /* disk, sealed */
    MEMBER_LINK_DOWN,   /* peer: index of the member whose link ended */
    MEMBER_TICK,
};

struct member_tap {
    bool attached;    /* its control connection is up and WELCOME was read */
    struct id stream; /* as the tap says; another than the definition's counts as not attached */
    uint64_t incarnation; /* not 0 while attached */
    bool whole;
    uint8_t gap;  /* enum record_gap_reason, where not whole; 0: not known */
    bool logging; /* false: the log is full or failed; counts as not whole */
};

struct member_event {
    enum member_event_type type;
    uint64_t now_us;
    const struct definition *definition; /* not owned: stays valid and unchanged until the next
                                            MEMBER_DEFINITION or member_free() */
    unsigned self;                       /* index of this member in it */
    unsigned disk;                       /* below the member's disk count */
    unsigned peer;                       /* below the definition's member count */
    struct member_tap tap;
    const struct msg *msg;
    const struct tapctl_held *held;
    const struct tapctl_refused *refused;
    const struct tapctl_sealed *sealed;
};

enum member_effect_type {
    MEMBER_SEND,          /* msg, to */
    MEMBER_ORDER_HOLD,    /* disk, hold: send HOLD to its tap */
    MEMBER_ORDER_RELEASE, /* disk, order: send RELEASE */
    MEMBER_ORDER_ABORT,   /* disk, order: send ABORT */
    MEMBER_ATTEST,        /* disk, statement: sign it, send ATTEST to that disk's tap */
    MEMBER_TAPS,          /* what member_taps() says has changed: feed it to the leader machine */
    MEMBER_NOTE,          /* text: something was ignored or gone wrong; for the log */
};

struct member_effect {
    enum member_effect_type type;
    int to; /* SEND: index in the definition; -1: there is none here, answer on the same link */
    const struct msg *msg;
    unsigned disk;
    const struct tapctl_hold *hold;
    const struct tapctl_round *order;
    const struct statement *statement; /* wall_ns is 0: fill it */
    const char *text;
};

struct member_outbox {
    void (*put)(void *context, const struct member_effect *effect);
    void *context;
};

enum member_state {
    MEMBER_IDLE = 0,
    MEMBER_DELAY,      /* test switch: has the order, has not acted on it */
    MEMBER_ORDERED,    /* taps have the order, not all hold */
    MEMBER_HELD_ALL,   /* HELD was sent */
    MEMBER_RELEASED,   /* RELEASE was passed on; seals are awaited */
    MEMBER_LETTING_GO, /* the round is lost here; ends of the holds are awaited */
};

struct member;

/* NULL without memory. */
struct member *member_new(const struct member_config *config);
void member_free(struct member *member);

/* One event. Aborts on an index out of range or a wrong type (programmer error); what messages say
 * is never trusted so far. Events of disks without a definition are ignored. */
void member_step(struct member *member, const struct member_event *event,
                 const struct member_outbox *outbox);

/* When the next MEMBER_TICK is due; UINT64_MAX: no need for one. */
uint64_t member_wake_us(const struct member *member);

enum member_state member_state(const struct member *member);

/* Its taps for heartbeats, in the definition's order; returns how many (0 without a definition). */
unsigned member_taps(const struct member *member, struct msg_tap ret[TIDE_MEMBER_DISKS_MAX]);

#endif
