/* SPDX-License-Identifier: Apache-2.0 */
/* gate: the hold of one tap as a pure state machine (proto/protocol.md). It assigns every LSN of
 * the stream, so that a bookmark's LSN and the start of its hold are one step against new writes;
 * it alone decides "still holding"; it keeps the budget and the duty limit. No clock, no I/O, no
 * memory of its own: the caller serialises calls (the gate lock) and carries out what comes back.
 *
 *            HOLD                 RELEASE, ABORT, expiry,
 *            bookmark             controller lost, gap          seal appended
 *   IDLE ------------> HOLDING -------------------------> SEALING -----------> IDLE
 *    ^                   |         (let go)                   given up
 *    +-------------------+
 *       bookmark failed (let go; nothing to seal)
 *
 * Modelled: proto/model/round.pml, proctype gate, with the state names of enum gate_state.
 *
 * Time: microseconds of one monotonic clock, in every event; an earlier time than the last one seen
 * counts as the last one seen. Every event first lets an expired hold go, then acts.
 *
 * A gate that begins where another may have been before (a tap that starts again) knows nothing of
 * its holds: it begins as if they had just used up the duty limit, so it refuses (DUTY) for the
 * first TIDE_GATE_DUTY_WINDOW_US. */
#ifndef TIDE_PARTICIPANT_CORE_GATE_H
#define TIDE_PARTICIPANT_CORE_GATE_H

#include "common/core/round.h"
#include "common/core/tapctl.h"
#include "common/hrl/record.h"

#define TIDE_GATE_BUDGET_FLOOR_US 5000U   /* less is not worth a hold: refused DUTY */
#define TIDE_GATE_PAUSE_US        100000U /* from the end of a hold to the next one */
#define TIDE_GATE_DUTY_US         100000U /* held at most, in any TIDE_GATE_DUTY_WINDOW_US */
#define TIDE_GATE_DUTY_WINDOW_US  1000000U
#define TIDE_GATE_CAP_MAX_US      TIDE_GATE_DUTY_US
#define TIDE_GATE_ENDED_MAX       16 /* rounds remembered as ended */

enum gate_state {
    GATE_IDLE = 0,
    GATE_HOLDING = 1,
    GATE_SEALING = 2, /* let go; the seal is neither appended nor given up */
};

enum gate_event_type {
    GATE_WRITE = 0,       /* bytes; zero and discard too. An LSN is wanted */
    GATE_APPEND,          /* a record of the tap's own (attach, attestation): an LSN is wanted */
    GATE_HOLD,            /* hold, nonce, log_ok */
    GATE_RELEASE,         /* round, cut */
    GATE_ABORT,           /* round */
    GATE_TICK,            /* time passed */
    GATE_CONTROLLER_LOST, /* the control connection ended */
    GATE_GAP,             /* not whole from here on; log_ok: the gap record can be appended */
    GATE_WHOLE,           /* begin_lsn: the copy begun there has ended, durably in the log */
    GATE_SEAL,            /* the log is ready for the seal that is due: an LSN is wanted */
    GATE_SEAL_APPENDED,   /* the seal whose LSN was given is in the log */
    GATE_SEAL_FAILED,     /* the seal is given up, before or after its LSN was given */
    GATE_BOOKMARK_FAILED, /* the bookmark whose LSN was given did not get into the log */
};

struct gate_event {
    enum gate_event_type type;
    uint64_t now_us;
    uint64_t bytes;                 /* WRITE */
    bool log_ok;                    /* HOLD, GAP: the log can take this record now */
    const struct tapctl_hold *hold; /* HOLD; not kept */
    struct id nonce;                /* HOLD: drawn for this event, never before */
    struct id round;                /* RELEASE, ABORT */
    struct hash cut;                /* RELEASE: H */
    uint64_t begin_lsn;             /* WHOLE: of its COPY_BEGIN, given by this gate */
};

/* What a writer does once its record is in the log and its data in the image. */
enum gate_ack {
    GATE_ACK_NONE = 0, /* the event was no write */
    GATE_ACK_NOW,
    GATE_ACK_HOLD,  /* acknowledge when gate_holding(ticket) is false */
    GATE_ACK_ENTRY, /* no LSN was given: too many bytes are held. Wait as above, then step again */
};

/* The seal that is due, for the record and for SEALED. */
/* What comes out of one step; the caller carries it out in this order. */
struct gate_out {
    bool let_go;   /* wake all that wait for acknowledgement or at entry, before anything else */
    bool seal_due; /* with let_go, but for BOOKMARK_FAILED: have gate.seal appended */
    bool given_up; /* the due seal will never be appended: tell the controller (gate->seal) */
    uint64_t lsn;  /* of the record to append now; 0: append nothing */
    enum gate_ack ack;
    uint64_t ticket;          /* ACK_HOLD, ACK_ENTRY: number of the hold to wait for */
    bool held;                /* HOLD: answer HELD; with lsn != 0 append the bookmark first */
    struct round_mark mark;   /* held */
    uint32_t budget_us;       /* held */
    bool refused;             /* HOLD: answer REFUSED */
    enum round_reason reason; /* refused */
    enum round_outcome ended; /* refused with ENDED: how; 0 otherwise */
};

struct gate_span { /* one hold, for the duty limit */
    uint64_t start_us;
    uint64_t end_us;
};

struct gate_ended {
    struct id round;
    enum round_outcome outcome; /* 0: this place is free */
};

/* In the caller's memory; read freely, change only through gate_step(). */
struct gate {
    enum gate_state state;
    struct id stream;
    uint64_t incarnation;
    uint64_t next_lsn;
    uint64_t last_us;
    uint32_t cap_us;
    uint64_t held_max; /* bytes acknowledged late at most, in one hold */
    bool whole;
    uint64_t gap_lsn; /* of the last gap; 0: none since gate_init() */

    uint64_t ticket; /* number of the current or last hold; 0: none yet */
    struct round_mark mark;
    bool unheld;
    uint32_t budget_us;
    uint64_t start_us;
    uint64_t deadline_us;
    struct record_seal seal; /* SEALING: what is due; HOLDING: grows */
    uint64_t seal_lsn;       /* given for it; 0: not yet */

    struct gate_span spans[TIDE_GATE_ENDED_MAX];
    unsigned spans_next;
    struct gate_ended ended[TIDE_GATE_ENDED_MAX];
    unsigned ended_next;

    uint64_t holds; /* since gate_init() */
    uint64_t hold_us_max;
};

struct gate_config {
    struct id stream;
    uint64_t incarnation; /* not 0 */
    uint64_t next_lsn;    /* from 1 */
    uint32_t cap_us;      /* TIDE_GATE_BUDGET_FLOOR_US..TIDE_GATE_CAP_MAX_US */
    uint64_t held_max;    /* at least 1 */
    bool whole;
    bool held_before; /* an earlier gate of this disk may have held, until now_us at the latest */
    uint64_t now_us;  /* held_before: not 0 */
};

void gate_init(struct gate *gate, const struct gate_config *config);

/* One event; *ret is overwritten whole. SEAL_APPENDED, SEAL_FAILED and BOOKMARK_FAILED change
 * nothing where a gap has meanwhile given the seal up, nor WHOLE where a gap came after that begin.
 * Aborts on an unknown type and a HOLD without
 * order. */
void gate_step(struct gate *gate, const struct gate_event *event, struct gate_out *ret);

/* Whether acknowledgements of that hold are still kept back (as of the last step). The caller waits
 * until then, at most to gate->deadline_us, and then steps a GATE_TICK itself. */
bool gate_holding(const struct gate *gate, uint64_t ticket);

/* What the controller is told of a hold that has ended. seal_lsn: of its seal's record; 0: it could
 * not be appended. */
struct tapctl_sealed gate_told(const struct record_seal *seal, uint64_t seal_lsn);

#endif
