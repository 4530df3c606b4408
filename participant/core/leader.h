/* SPDX-License-Identifier: Apache-2.0 */
/* leader: heartbeats, who leads, and the leader's part of bookmark rounds, as a pure state machine
 * (proto/protocol.md). One per own member of the daemon, candidate or not: every member needs to
 * know who leads, to pass requests on. Safety does not rest on any of it.
 *
 * Who leads: of the candidates (first three of the definition) that are heard, the one that reaches
 * the most; the definition's order breaks ties. A candidate is heard while its last heartbeat is
 * not older than TIDE_LEADER_DEAD_US. One that failed TIDE_LEADER_FAILS_MAX rounds in a row yields
 * for a time, if another is heard that reaches as many; one that is answered BUSY and is not the
 * first in the order holds back for a few intervals.
 *
 * A round that began and failed is tried again half a second later, `retries` times in a row; then
 * it is the next interval's turn. One that was answered BUSY or DUTY is not: another round is the
 * reason, and trying again at once would only disturb it.
 *
 *            due: interval or request      HELD from every member of the set
 *   IDLE -------------------------> HOLDING -------------------------> SEALING ----> IDLE
 *     ^        HOLD to all             |            RELEASE to all      SEALED from all,
 *     +--------------------------------+            or 2 s; then SUM to all
 *        refused, late, lost, wrong: ABORT to all, SUM
 *
 * A group that was held for much of the last minute (share.h) is spared: the interval's round and
 * retries are skipped, with reason DUTY and the figures, until a round fits again. What somebody
 * asks for is taken all the same. Near the limit the interval is stretched, so that it is not met.
 *
 * A member with which a hold is expected to last longer than its budget (pace.h) is slow: as one
 * that is missing, but for a trial now and then (leader_pace.h).
 *
 * A round speaks the newest version of the wire that all of its set speak, and may use the features
 * that all of them understand, as their heartbeats say (msg.h, proto/README.md).
 *
 * Modelled: proto/model/round.pml, proctype leader, with the state names of enum phase in
 * leader_own.h.
 *
 * A member takes part if it is heard, has the same epoch, and its taps are attached and whole. If
 * one does not: strict takes no round and reports the member and why; partial leaves it out. What
 * lasts comes out as LEADER_LACK; in a strict group each VM then goes on alone (leader_alone.h).
 *
 * How to drive it. As member.h says: one thread, effects through put() during the step, pointers
 * valid only then, no step function from within put(). One event gives at most one message per
 * member of the group, TIDE_LEADER_TAKES_MAX answers, two rounds, one change, one lack, one note.
 * After each step look at leader_wake_us() and feed LEADER_TICK no later than then: rounds begin
 * only in a LEADER_TICK, for that is the event that brings randomness.
 *
 * A message to the machine's own member (to == self) goes to its member machine, through a queue.
 * The shell checks that the link a message came on belongs to the member it names in `from`. */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_H
#define TIDE_PARTICIPANT_CORE_LEADER_H

#include "common/core/msg.h"
#include "participant/core/spread.h"

#define TIDE_LEADER_HEARTBEAT_US     1000000U
#define TIDE_LEADER_HEARTBEAT_MIN_US 50000U   /* between two, when things change quickly */
#define TIDE_LEADER_DEAD_US          3000000U /* without a heartbeat */
#define TIDE_LEADER_SEAL_US          2000000U /* for SEALED from all */
#define TIDE_LEADER_GAP_US           250000U  /* from the end of a round's hold to the next round */
#define TIDE_LEADER_LACK_US          1000000U /* a member is missing so long before it is said */
#define TIDE_LEADER_QUIET_US         500000U  /* from when members stop going alone to a round */
#define TIDE_LEADER_RETURN_US        1200000U /* from the end of a lack to a round of the group */
#define TIDE_LEADER_LATELY_US        5000000U /* BUSY and DUTY may come from rounds of single VMs */
#define TIDE_LEADER_TRIAL_US         2000000U /* to the first trial of a slow member; then doubled */
#define TIDE_LEADER_TRIAL_DOUBLED    3U       /* so often at most: 16 s */
#define TIDE_LEADER_RETRY_US         500000U  /* from a failed round to when it is tried again */
#define TIDE_LEADER_RETRIES          2 /* the daemon's: with them the duty limit still fits */
#define TIDE_LEADER_RETRIES_MAX      8
#define TIDE_LEADER_FAILS_MAX        5
#define TIDE_LEADER_YIELD_US         30000000U
#define TIDE_LEADER_BACKOFF          3         /* intervals held back after BUSY */
#define TIDE_LEADER_TAKES_MAX        8         /* requests waiting; more get BUSY */
#define TIDE_LEADER_TAKE_US          15000000U /* until a request that nobody answered times out */
#define TIDE_LEADER_ANSWERS_MAX      16        /* answers kept for repeated requests */

struct leader_config {
    struct name name;     /* of this member */
    uint64_t incarnation; /* of the daemon, never 0 */
    unsigned retries; /* 0..TIDE_LEADER_RETRIES_MAX: of a round that failed, before its interval */
};

enum leader_event_type {
    LEADER_DEFINITION, /* definition (NULL: none), self; effects are about the one before. After
                          it links are down and taps unknown until events say otherwise */
    LEADER_POLICY,     /* policy; the defaults hold before */
    LEADER_LINK,       /* peer, up: never about self, never without a definition */
    LEADER_MESSAGE,    /* msg: all types; HOLD, RELEASE and ABORT are the member's and ignored */
    LEADER_TAPS,       /* taps, tap_count: of member_taps() */
    LEADER_TAKE,       /* take: a request from this machine */
    LEADER_TICK,       /* random */
};

struct leader_event {
    enum leader_event_type type;
    uint64_t now_us;
    const struct definition *definition; /* not owned: stays valid and unchanged until the next
                                            LEADER_DEFINITION or leader_free() */
    unsigned self;                       /* index of this member in it */
    const struct policy *policy;         /* copied */
    unsigned peer;
    bool up;
    const struct msg *msg;
    const struct msg_tap *taps;
    unsigned tap_count;
    const struct msg_take *take;
    struct id random; /* TICK: 16 bytes of the system's generator, fresh each time; the id of the
                         round if one begins */
};

enum leader_effect_type {
    LEADER_SEND,   /* msg, to */
    LEADER_CHANGE, /* leads: who leads now, as seen from here */
    LEADER_ROUND,  /* round: one has ended (here, or told by its leader), or could not begin */
    LEADER_TAKEN,  /* taken: the answer to a LEADER_TAKE of this machine */
    LEADER_LACK,   /* lack: of the group's rounds, as seen from here; it has changed */
    LEADER_NOTE,   /* text: something was ignored or gone wrong; for the log */
};

struct leader_lack {          /* what keeps rounds from being of all members */
    enum round_reason reason; /* NONE: nothing; NO_LEADER: no candidate is reached */
    struct name member;       /* where; empty with these two */
    bool strict;              /* the group has no points; else they are partial, where it has any */
    bool alone;               /* this member goes on with points of its own */
};

struct leader_round {
    bool began; /* false: no HOLD was sent; sum.reason, .member and .text say why */
    bool own;   /* this machine led it; else it is what the leader told */
    enum round_scope scope;
    unsigned leader;    /* index of its leader */
    unsigned set_disks; /* own: disks in the set */
    unsigned set_members;
    bool full;           /* of scope `group`, and its set is all of the definition */
    uint32_t version;    /* own, began: of the wire; the newest that all of the set speak */
    uint64_t features;   /* own, began: that all of the set understand */
    uint32_t budget_us;  /* own */
    uint64_t hold_us;    /* own, began: HOLD sent to last HELD heard; 0: never complete */
    uint64_t total_us;   /* own, began: HOLD sent to the sum */
    struct name slowest; /* own, began: whose HELD was heard last: the others were held for it */
    uint64_t slowest_us; /* HOLD sent to that HELD; 0: nobody's was heard */
    struct name late;    /* own, of the group: who is expected to be the slowest, where the budget
                            is nearly used up or does not do; else empty */
    uint64_t late_us;    /* how long a hold is expected to last with it */
    uint64_t
        interval_us; /* own, of the group: to the next one, if longer than the policy's; else 0 */
    struct msg_sum sum; /* round is zero unless began */
};

struct leader_effect {
    enum leader_effect_type type;
    unsigned to; /* SEND: index in the definition */
    const struct msg *msg;
    int leads; /* CHANGE: index, or -1: nobody */
    const struct leader_round *round;
    const struct leader_lack *lack;
    const struct msg_taken *taken;
    const char *text;
};

struct leader_outbox {
    void (*put)(void *context, const struct leader_effect *effect);
    void *context;
};

struct leader;

/* NULL without memory. About 500 KiB. */
struct leader *leader_new(const struct leader_config *config);
void leader_free(struct leader *leader);

/* One event. Aborts on an index out of range or a wrong type (programmer error). */
void leader_step(struct leader *leader, const struct leader_event *event,
                 const struct leader_outbox *outbox);

/* When the next LEADER_TICK is due; UINT64_MAX: no need for one (no definition). */
uint64_t leader_wake_us(const struct leader *leader);

/* Who leads as seen from here: index, or -1. */
int leader_leads(const struct leader *leader);

/* Members reached, this one included; 0 without a definition. */
unsigned leader_reach(const struct leader *leader);

/* What keeps the group's rounds from being of all members, as last given out, for status. */
struct leader_lack leader_lack(const struct leader *leader);

/* How long a member held in the rounds of this definition that were told here, whoever led them;
 * and (while this machine leads) what is expected of it, for status. */
struct leader_holds {
    struct spread_view holds;
    unsigned answers;     /* HOLDs whose answers are known; the next four are 0 with fewer than 2 */
    uint64_t answer_us;   /* second longest of them */
    uint64_t expected_us; /* how long a hold lasts with it */
    bool slow;            /* longer than the budget */
};
struct leader_holds leader_holds(const struct leader *leader, unsigned member);

struct leader_share { /* of the last minute */
    uint64_t held_us; /* the group was held, as told here */
    uint64_t limit_us;
    uint64_t interval_us; /* in force: the policy's, or longer near the limit */
};
struct leader_share leader_share(const struct leader *leader);

/* Whether the member is heard (own: always), for status. */
bool leader_hears(const struct leader *leader, unsigned member);

#endif
