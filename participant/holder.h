/* SPDX-License-Identifier: Apache-2.0 */
/* holder: the hold thread: one loop with the link, the machines of all own members (seat.h) and the
 * control connections of all taps. Nothing on it touches a disk or waits; lines go to the log's
 * queue. Other threads reach it through the functions below, which post to its loop; what asks for
 * an answer waits for it with a deadline. */
#ifndef TIDE_PARTICIPANT_HOLDER_H
#define TIDE_PARTICIPANT_HOLDER_H

#include "common/core/msg.h"
#include "common/io/link.h"
#include "common/io/tls.h"
#include "participant/core/leader.h"
#include "participant/events.h"
#include "participant/groups.h"
#include "participant/orders.h"
#include "participant/port.h"
#include "participant/settings.h"
#include "participant/signer.h"
#include "participant/tapset.h"

#define HOLDER_ROUNDS_MAX 16U /* last rounds kept for status */
#define HOLDER_TAKES_MAX  16U /* commands that wait for a round */

struct holder_options {
    const struct settings *settings; /* must outlive it, as the identity */
    const struct tls_identity *identity;
    struct events *events; /* must outlive it */
    bool unsafe_no_hold;
    uint32_t hold_skew_us;
    uint64_t seed; /* of the test switch */
};

struct holder;

/* Listens, then starts the thread. Errors: link_new()'s, and IO. Aborts without memory. */
int holder_new(const struct holder_options *options, struct holder **ret, struct err *err);
/* The signer gives its attestations here (signer_fn with the holder as arg), and gets statements
 * once it is set; before the first groups. */
void holder_set_signer(struct holder *holder, struct signer *signer);
void holder_attest(void *arg, unsigned disk, const struct tapctl_attest *attest);
/* From then on these are the definitions; takes them (also on failure). BUSY: the loop's queue is
 * full; LIMIT: no memory. */
int holder_set_groups(struct holder *holder, struct groups *groups, struct err *err);
struct port *holder_port(struct holder *holder, unsigned disk); /* the holder's */
/* Ends the thread and waits at most until deadline_us; false: it still runs. Taps then see their
 * controller go. Nothing may be asked of the holder afterwards; its memory stays. */
bool holder_stop(struct holder *holder, uint64_t deadline_us);

/* Asks for a round now and waits for its end. *ret is the leader's answer. NOT_FOUND: no member of
 * that group here (group may be NULL where all are of one: USAGE otherwise); BUSY; UNREACHABLE:
 * no answer by then; LIMIT: no memory. */
int holder_take(struct holder *holder, const struct name *group, enum round_kind kind,
                uint32_t timeout_ms, struct msg_taken *ret, struct err *err);

/* Orders a RESYNC, DETACH or RESIZE of a disk (index of the settings), and waits for the tap's
 * answer: orders_give(). */
int holder_order(struct holder *holder, unsigned disk, const struct tapctl *order,
                 struct tapctl_done *ret, struct err *err);

/* ---- status ---- */

struct holder_peer { /* a member of a seat's definition */
    struct name name;
    bool own;   /* this daemon stands for it */
    bool link;  /* a link to its daemon is kept (one of the two is a candidate) */
    bool up;    /* it is */
    bool heard; /* it sends heartbeats */
    struct leader_holds holds;
};

struct holder_seat {
    bool defined;
    struct epoch epoch;
    struct id group;
    struct policy policy;
    struct name leads; /* empty: nobody */
    struct leader_lack lack;
    struct leader_share share;
    uint64_t lack_ns; /* when it began, or changed, since 1970; 0: there is none */
    unsigned reach;
    unsigned member_count;
    struct holder_peer *peers; /* member_count of them; owned by the view */
};

struct holder_round {
    unsigned seat;
    uint64_t wall_ns;
    struct leader_round round;
    struct name leader;
};

struct holder_count { /* of rounds of one scope */
    uint64_t sealed;  /* by all */
    uint64_t failed;  /* or not begun */
};

struct holder_view {
    unsigned disk_count;
    struct tapset_view disks[SETTINGS_DISKS_MAX];
    unsigned seat_count;
    struct holder_seat seats[SETTINGS_MEMBERS_MAX];
    struct link_stats link;
    unsigned round_count; /* newest last */
    struct holder_round rounds[HOLDER_ROUNDS_MAX];
    struct holder_count rounds_of_group; /* since the daemon began */
    struct holder_count rounds_of_member;
    uint64_t queue_lost; /* messages between own members that did not fit */
};

/* A copy made on the hold thread; holder_view_free() frees it. UNREACHABLE: it did not answer;
 * LIMIT: no memory. */
int holder_view(struct holder *holder, uint32_t timeout_ms, struct holder_view **ret,
                struct err *err);
void holder_view_free(struct holder_view *view); /* takes NULL */

#endif
