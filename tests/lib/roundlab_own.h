/* SPDX-License-Identifier: Apache-2.0 */
/* roundlab_own: what the files of the lab share: roundlab.c (network, machines, running),
 * roundlab_daemon.c (daemons, links, what each knows), roundlab_define.c (definitions),
 * roundlab_queue.c (events, clocks, ticks), roundlab_tap.c (taps), roundlab_guest.c
 * (writes), roundlab_say.c (narration) and roundlab_judge.c. For them alone. */
#ifndef TIDE_TESTS_LIB_ROUNDLAB_OWN_H
#define TIDE_TESTS_LIB_ROUNDLAB_OWN_H

#include "common/core/prng.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"
#include "participant/core/leader.h"
#include "participant/core/member.h"
#include "tests/lib/roundlab.h"

#define TAP_US       40U            /* daemon to tap and back, each */
#define ROUNDS_NAMED 512            /* the last so many are known again */
#define WAKE_MEMBER  ROUNDLAB_DISKS /* places of a node among those who want ticks: taps first */
#define WAKE_LEADER  (ROUNDLAB_DISKS + 1)
#define WAKE_SLOTS   (ROUNDLAB_DISKS + 2)

enum kind {
    EV_MESSAGE,
    EV_TAP_HOLD,
    EV_TAP_ROUND, /* RELEASE (with cut) or ABORT */
    EV_TAP_ANSWER,
    EV_SEAL,
    EV_ACK,
    EV_TOKEN,
    EV_CALL,
    EV_DEFINE,
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
    size_t record_room;
};

struct clock {        /* monotonic, of a node: daemon and taps read the same */
    uint64_t true_us; /* it showed local_us then */
    uint64_t local_us;
    int32_t ppm; /* faster than true time; negative: slower */
    bool stands;
};

struct node {
    struct member *member;
    struct leader *leader;
    const struct definition *definition; /* its machines have; NULL: none, or it is not in it */
    const struct definition *heard;      /* the newest one that came to its daemon */
    bool due;                            /* it waits until that runs again */
    unsigned self;                       /* its number in definition */
    uint64_t member_wake_us;             /* as they said after their last step */
    uint64_t leader_wake_us;
    struct clock clock;
    bool stopped;
    bool paused;
    bool ready;            /* its taps can be told of */
    struct event *waiting; /* paused: what comes to its daemon */
    size_t waiting_count;
    size_t waiting_room;
    uint64_t starts; /* of its daemon */
    bool taps_changed;
    struct disk disks[ROUNDLAB_DISKS];
    bool linked[ROUNDLAB_MEMBERS_MAX];
    unsigned link[ROUNDLAB_MEMBERS_MAX]; /* grows with every connection */
    unsigned
        told[ROUNDLAB_MEMBERS_MAX]; /* number of the link that its machines count on; 0: none */
};

struct lab_token {
    int last; /* write it has seen acknowledged; -1 */
};

struct roundlab {
    struct roundlab_config config;
    struct roundlab_watch watch;         /* those that are not NULL are called */
    const struct definition *definition; /* the first, with everybody: numbers are those of it */
    struct definition *definitions[ROUNDLAB_EPOCHS_MAX];
    unsigned definition_count;
    const struct definition *defining; /* that a leader is being told of; NULL: none is */
    struct prng prng;                  /* network, nonces, ids */
    struct prng workload;              /* tokens: the same, held or not */
    uint64_t now_us;
    uint64_t order;
    struct event *heap;
    size_t heap_count;
    size_t heap_room;
    uint64_t *wakes; /* a tree: [1] the soonest, [wake_slots + i] place i */
    unsigned wake_slots;
    struct node *nodes;
    unsigned acting;   /* node whose machine is in a step */
    unsigned asked_by; /* node whose message came last */
    struct write *writes;
    size_t write_count;
    size_t write_room;
    size_t settled; /* writes before it are done */
    struct lab_token tokens[16];
    uint64_t think_us_max;
    struct id *named;
    size_t named_count;
    size_t named_room;
    struct id last_round;
    char *text;
    size_t text_used;
    size_t text_room;
    struct roundlab_verdict tally;
    struct record told;  /* to the onlooker */
    struct msg *scratch; /* being delivered */
    struct msg *changed; /* being sent */
};

extern const char *const roundlab_disk_names[2];

/* ---- roundlab.c ---- */

/* Room for one more of `size` bytes in an array; returns where it is now. */
void *roundlab_grow(void *from, size_t *room, size_t count, size_t size);
struct id roundlab_random_id(struct roundlab *lab);
/* A copy of as much of it as its type uses, to be freed. */
struct tapctl *roundlab_keep(const struct tapctl *tap);
/* Nothing where the daemon is stopped or paused. */
void roundlab_step_member(struct roundlab *lab, unsigned member, struct member_event event);
void roundlab_step_leader(struct roundlab *lab, unsigned member, struct leader_event event);

/* ---- roundlab_daemon.c ---- */

void roundlab_make_daemon(struct roundlab *lab, unsigned member);
uint64_t roundlab_incarnation(const struct roundlab *lab, unsigned member);
/* Whether the event waits for a paused daemon, which then owns it. */
bool roundlab_keeps_waiting(struct roundlab *lab, const struct event *event);
void roundlab_free_node(struct roundlab *lab, unsigned member);

/* ---- roundlab_define.c ---- */

/* Node of a definition's member, and back; -1: it is not in it, or there is none. */
unsigned roundlab_node_of(const struct roundlab *lab, const struct definition *definition,
                          unsigned member);
int roundlab_member_of(const struct roundlab *lab, const struct definition *definition,
                       unsigned node);
/* Number of a node's disk in the definition that the node has (-1: not there), and back. */
int roundlab_disk_of(const struct roundlab *lab, unsigned node, unsigned index);
unsigned roundlab_index_of(const struct roundlab *lab, unsigned node, unsigned disk);

/* ---- roundlab_queue.c ---- */

/* The event's bytes and tap become the queue's. */
void roundlab_push(struct roundlab *lab, uint64_t in_us, struct event event);
struct event roundlab_pop(struct roundlab *lab); /* there is one */
void roundlab_wakes_open(struct roundlab *lab);
void roundlab_wakes(struct roundlab *lab, unsigned member); /* what it wants may have changed */
/* Which place wants the next tick, at wakes[1]: WAKE_SLOTS for each node. */
unsigned roundlab_next_wake(const struct roundlab *lab);

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
