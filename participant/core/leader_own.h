/* SPDX-License-Identifier: Apache-2.0 */
/* leader_own: the leader's state and its means to speak, for leader.c (events, heartbeats, who
 * leads), leader_requests.c, leader_round.c, leader_alone.c and leader_pace.c alone. Everybody else
 * has leader.h.
 */
#ifndef TIDE_PARTICIPANT_CORE_LEADER_OWN_H
#define TIDE_PARTICIPANT_CORE_LEADER_OWN_H

#include "participant/core/leader.h"
#include "participant/core/pace.h"
#include "participant/core/share.h"

struct lack {                 /* what keeps rounds from being of all members */
    enum round_reason reason; /* NONE: nothing */
    struct name member;       /* where; empty: nowhere in particular */
};

struct peer {
    bool up;
    bool heard; /* a heartbeat came, over this link, not longer than TIDE_LEADER_DEAD_US ago */
    bool yields;
    uint64_t heard_us;
    uint64_t incarnation;
    uint64_t sequence;
    uint32_t reach;
    uint32_t version_max;
    uint64_t features;
    struct epoch epoch;
    struct lack lack; /* as it says */
    bool leave;       /* it lets those whom it leads go alone */
};

enum phase {
    PHASE_IDLE = 0,
    PHASE_HOLDING,
    PHASE_SEALING,
};

struct seat { /* a member in the round under way */
    bool in_set;
    bool held;
    bool sealed;
    enum round_reason wrong; /* what its SEALED says is wrong; NONE */
};

struct running {
    enum phase phase;
    struct round_order order;
    uint32_t version;  /* of the wire: the newest that all of the set speak */
    uint64_t features; /* that all of them understand */
    uint32_t budget_us;
    uint64_t began_us;
    uint64_t hold_us; /* until the last HELD; 0: never complete */
    unsigned slowest; /* whose HELD came last so far, with slowest_us */
    uint64_t slowest_us;
    uint64_t deadline_us;
    struct seat seats[TIDE_MEMBERS_MAX];
    struct msg_member_sum sums[TIDE_MEMBERS_MAX]; /* by member index */
    uint64_t incarnations[TIDE_DISKS_MAX];        /* sent with HOLD, by flat disk index */
    struct round_mark marks[TIDE_DISKS_MAX];      /* by flat disk index */
};

enum request_state {
    REQUEST_FREE = 0,
    REQUEST_WAITING,   /* for the next round here */
    REQUEST_IN_ROUND,  /* the round under way answers it */
    REQUEST_FORWARDED, /* the leader answers it */
};

struct request {
    enum request_state state;
    bool local;
    struct name from; /* unless local */
    struct msg_take take;
    uint64_t deadline_us;
};

struct answer {
    bool used;
    struct msg_taken taken;
};

struct leader {
    struct leader_config config;
    const struct definition *definition; /* not owned; may be NULL */
    unsigned self;
    struct policy policy;
    uint64_t now_us;

    struct peer peers[TIDE_MEMBERS_MAX];
    struct msg_tap taps[TIDE_DISKS_MAX]; /* as last heard, by flat disk index; own too */
    uint64_t sequence;                   /* of heartbeats sent */
    bool heartbeat_due;                  /* something in it changed */
    uint64_t heartbeat_us;               /* last one to all */
    unsigned reach;

    int leads;             /* -1: nobody */
    uint64_t due_us;       /* next round of the interval, while leading */
    uint64_t gap_until_us; /* no round before, whoever asks */
    uint64_t back_off_us;  /* no round of the interval before */
    uint64_t retry_us;     /* a failed round is tried again; 0: none is */
    unsigned retries;      /* in a row, so far */
    struct share share;    /* of time that the group was held, whoever led */
    unsigned fails;        /* rounds failed in a row */

    /* leader_pace.c */
    struct pace pace;                      /* of members, while leading */
    uint64_t trial_us;                     /* the slow are tried again; 0: nobody is */
    unsigned trials;                       /* of them, so far, without avail */
    struct spread holds[TIDE_MEMBERS_MAX]; /* of members, under this definition, whoever led */

    uint64_t yield_until_us;
    struct id yield_round; /* zero: does not yield */

    /* leader_alone.c */
    struct lack seen;       /* a candidate's own look, as of now */
    uint64_t seen_us;       /* since when it sees any */
    struct lack own_lack;   /* what heartbeats tell: `seen`, once it has lasted */
    bool own_leave;         /* likewise: those whom it leads may go alone */
    uint64_t own_leave_us;  /* when it last ended; 0: never yet */
    struct lack lack;       /* what counts for this member, as last given out */
    bool lack_strict;       /* the policy was strict then */
    uint64_t leaderless_us; /* since when nobody leads; 0: somebody does */
    bool alone;             /* this member goes on alone */
    uint64_t alone_due_us;
    uint64_t group_gap_us; /* nobody goes alone before: a round of the group has just ended */
    unsigned alone_retries;

    struct running running;
    struct request requests[TIDE_LEADER_TAKES_MAX];
    struct answer answers[TIDE_LEADER_ANSWERS_MAX];
    unsigned answers_next;

    const struct leader_outbox *outbox; /* during a step */
    struct msg out;                     /* the message being given out */
    struct leader_round told;           /* the round being given out */
};

void leader_put(struct leader *l, const struct leader_effect *effect);
/* The message being given out: zeroed, with its head; leader_send_to() sends it. */
struct msg *leader_compose(struct leader *l, enum msg_type type);
void leader_send_to(struct leader *l, unsigned member);
bool leader_heard(const struct leader *l, unsigned member);
bool leader_leading(const struct leader *l); /* this machine does */

#endif
