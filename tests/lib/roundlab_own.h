/* SPDX-License-Identifier: Apache-2.0 */
/* roundlab_own: what the files of the lab share: roundlab.c (queue, network, machines, the end),
 * roundlab_tap.c (taps), roundlab_guest.c (writes) and roundlab_say.c (narration). For them alone.
 */
#ifndef TIDE_TESTS_LIB_ROUNDLAB_OWN_H
#define TIDE_TESTS_LIB_ROUNDLAB_OWN_H

#include "common/core/prng.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"
#include "participant/core/leader.h"
#include "participant/core/member.h"
#include "tests/lib/roundlab.h"

#define TAP_US       40U /* daemon to tap and back, each */
#define ROUNDS_NAMED 512

enum kind {
    EV_MESSAGE,
    EV_TAP_HOLD,
    EV_TAP_ROUND, /* RELEASE (with cut) or ABORT */
    EV_TAP_ANSWER,
    EV_SEAL,
    EV_ACK,
    EV_TOKEN,
    EV_CALL,
};

struct call { /* of roundlab_call() */
    roundlab_timer_fn *call;
    void *context;
    uint64_t a;
    uint64_t b;
};

struct event {
    uint64_t at_us;
    uint64_t order; /* among events of the same time */
    enum kind kind;
    unsigned member;
    unsigned disk;
    unsigned peer;      /* MESSAGE: who sent it */
    unsigned link;      /* MESSAGE: number of the connection; TAP_*: of the control connection */
    bool release;       /* TAP_ROUND */
    unsigned number;    /* ACK: write; TOKEN: token */
    size_t size;        /* MESSAGE */
    uint8_t *bytes;     /* MESSAGE; owned */
    struct tapctl *tap; /* TAP_*; owned */
    struct call *call;  /* CALL; owned */
};

struct write {
    unsigned member;
    unsigned disk;
    uint64_t lsn;
    int cause;    /* number of the write that was acknowledged before this was issued; -1: none */
    int token;    /* -1: by hand */
    bool waiting; /* for the end of a hold */
    bool applied; /* to the image */
    bool done;    /* acknowledged, failed, or its tap was killed */
    uint64_t ticket;
};

struct disk {
    struct gate gate;
    bool running;
    unsigned connection; /* grows with every start */
    uint64_t starts;
    uint64_t next_lsn; /* while not running */
    struct record_bookmark open;
    bool has_open; /* a bookmark without seal; where there are disks they know */
    uint64_t open_lsn;
    struct record *records; /* attach, gap, bookmark, seal */
    size_t record_count;
    struct tapctl sealed; /* SEALED, to be sent when it is synced; type 0: none */
};

struct node {
    struct member *member;
    struct leader *leader;
    uint64_t member_wake_us; /* as they said after their last step */
    uint64_t leader_wake_us;
    bool stopped;
    uint64_t starts; /* of its daemon */
    bool taps_changed;
    struct disk disks[ROUNDLAB_DISKS];
    bool linked[ROUNDLAB_MEMBERS_MAX];
    unsigned link[ROUNDLAB_MEMBERS_MAX]; /* grows with every connection */
};

struct lab_token {
    int last; /* write it has seen acknowledged; -1 */
};

struct roundlab {
    struct roundlab_config config;
    struct roundlab_watch watch; /* those that are not NULL are called */
    struct definition *definition;
    struct prng prng;     /* network, nonces, ids */
    struct prng workload; /* tokens: the same, held or not */
    uint64_t now_us;
    uint64_t order;
    struct event *heap;
    size_t heap_count;
    size_t heap_room;
    struct node nodes[ROUNDLAB_MEMBERS_MAX];
    unsigned acting; /* node whose machine is in a step */
    struct write *writes;
    size_t write_count;
    size_t write_room;
    size_t settled; /* writes before it are done */
    struct lab_token tokens[16];
    uint64_t think_us_max;
    struct id named[ROUNDS_NAMED];
    unsigned named_count;
    struct id last_round;
    char *text;
    size_t text_used;
    size_t text_room;
    struct roundlab_verdict tally;
    struct msg *scratch;
};

extern const char *const roundlab_member_names[ROUNDLAB_MEMBERS_MAX];
extern const char *const roundlab_disk_names[ROUNDLAB_DISKS];

/* ---- roundlab.c ---- */

/* The event's bytes and tap become the queue's. */
void roundlab_push(struct roundlab *lab, uint64_t in_us, struct event event);
/* Room for one more of `size` bytes in an array; returns where it is now. */
void *roundlab_grow(void *from, size_t *room, size_t count, size_t size);
struct id roundlab_random_id(struct roundlab *lab);
void roundlab_step_member(struct roundlab *lab, unsigned member, struct member_event event);

/* ---- roundlab_tap.c ---- */

void roundlab_tap_launch(struct roundlab *lab, unsigned member, unsigned index);
void roundlab_tap_step(struct roundlab *lab, unsigned member, unsigned index,
                       struct gate_event event, struct gate_out *ret);
void roundlab_tap_tell(struct roundlab *lab, unsigned member, unsigned index);
void roundlab_tap_hold(struct roundlab *lab, unsigned member, unsigned index,
                       const struct tapctl_hold *hold);
void roundlab_tap_seal(struct roundlab *lab, unsigned member, unsigned index);

/* ---- roundlab_guest.c ---- */

void roundlab_guest_acked(struct roundlab *lab, unsigned number);
void roundlab_guest_token(struct roundlab *lab, unsigned token);
/* The tap lets go: what it kept back is acknowledged. */
void roundlab_guest_let_go(struct roundlab *lab, unsigned member, unsigned index);
/* The tap is killed: nobody acknowledges what is under way any more. */
void roundlab_guest_stop(struct roundlab *lab, unsigned member, unsigned index);

/* ---- roundlab_say.c ---- */

/* disk: -1: the member's daemon says it. */
__attribute__((format(printf, 4, 5))) void roundlab_say(struct roundlab *lab, unsigned member,
                                                        int disk, const char *format, ...);
/* r1, r2, ... in the order in which they are first seen. */
const char *roundlab_say_round(struct roundlab *lab, const struct id *round, char ret[16]);
void roundlab_say_message(struct roundlab *lab, const struct msg *msg, char *ret, size_t room);

#endif
