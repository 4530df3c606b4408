/* SPDX-License-Identifier: Apache-2.0 */
/* roundlab: a deterministic little cluster. The real leader, member and gate machines of a few
 * members, one queue of events, virtual time, one seed; messages go through the real wire codec.
 * Taps are gates with a list of records behind them. It narrates as `[time] node > event` lines,
 * for golden traces, and judges the streams it made by the reader's rule. Nothing here reads a
 * clock; two runs of one seed are the same. A mistake of the test ends the process. */
#ifndef TIDE_TESTS_LIB_ROUNDLAB_H
#define TIDE_TESTS_LIB_ROUNDLAB_H

#include "common/core/msg.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"

#define ROUNDLAB_MEMBERS_MAX TIDE_MEMBERS_MAX
#ifndef ROUNDLAB_DISKS
#define ROUNDLAB_DISKS 2 /* of each member: data, log */
#endif
#define ROUNDLAB_EPOCHS_MAX 64

struct roundlab;

/* What becomes of a message about to be sent; the message may be changed as well. */
struct roundlab_fate {
    bool drop;
    uint64_t delay_us; /* beside the latency */
    unsigned copies;   /* besides the first, each delay_us later than the one before */
};

/* Tells an onlooker what the taps do, as they do it; disks are flat, as in the definition. No call
 * may step the lab. What is pointed to is good during the call. */
struct roundlab_watch {
    /* A record is in the log; it has been through its bytes. */
    void (*record)(void *context, unsigned disk, const struct record *record);
    void (*write)(void *context, unsigned disk, uint64_t lsn, int token, bool has_cause);
    void (*let_go)(void *context, unsigned disk); /* acknowledgements are free from here on */
    /* A tap starts and its log ends before that LSN, which is used anew. */
    void (*cut)(void *context, unsigned disk, uint64_t lsn);
    /* It comes to a daemon, which has not acted on it yet. */
    void (*message)(void *context, unsigned from, unsigned to, const struct msg *msg);
    /* A daemon goes by that definition from here on; NULL: by none. */
    void (*defined)(void *context, unsigned member, const struct definition *definition);
    void *context;
};

/* What a tap finds of its disk when it starts. */
struct roundlab_begin {
    uint64_t next_lsn;
    uint64_t incarnation; /* in force at the end of the log */
    uint64_t open_lsn;    /* a bookmark without its seal; 0: none */
    struct id open_round;
    struct id boot;
    bool clean;
    bool first;
    bool whole;
    uint64_t replayed_from; /* 0: nothing was */
    uint64_t replayed_to;
    enum record_gap_reason gap; /* 0: no gap is due */
};

/* Disks with bytes behind the gates: a log and an image each (tests/sim/simtap.h); disks are flat.
 * No call may run the lab. Without them a tap keeps a list of its records and loses nothing. */
struct roundlab_disks {
    void (*open)(void *context, struct roundlab *lab); /* the definition is there, no tap yet */
    void (*begin)(void *context, unsigned disk, struct roundlab_begin *ret);
    void (*serve)(void *context, unsigned disk); /* its first records are in the log */
    void (*stop)(void *context, unsigned disk);
    bool (*room)(void *context, unsigned disk); /* the log can take a bookmark or a seal */
    bool (*append)(void *context, unsigned disk, const struct record *record);
    void (*failed)(void *context, unsigned disk); /* append() said no: what comes of it */
    void (*sealed)(void *context,
                   unsigned disk); /* the seal is in; ends in roundlab_tap_synced() */
    /* A guest writes; ends in roundlab_write_done() unless the tap stops. */
    void (*write)(void *context, unsigned disk, unsigned number);
    void (*gap)(void *context, unsigned disk);  /* no longer whole */
    void (*copy)(void *context, unsigned disk); /* a copy shall begin */
    void *context;
};

struct roundlab_config {
    unsigned members; /* 1..ROUNDLAB_MEMBERS_MAX: web, db, app, mail, log, … */
    uint64_t seed;
    struct policy policy;
    uint64_t latency_us;
    uint64_t jitter_us;     /* drawn for each message: reorders them */
    unsigned loss_percent;  /* of messages but heartbeats */
    unsigned again_percent; /* delivered twice */
    uint32_t hold_delay_us_max;
    bool unsafe_no_hold;
    unsigned retries; /* of a round that failed: leader.h */
    bool silent;      /* no narration */
    void (*fate)(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                 struct roundlab_fate *fate, void *context);
    void *context;
    struct roundlab_disks disks; /* zeroes: none */
    uint64_t disk_size;          /* of each, bytes; 0: 1 MiB */
};

/* Starts at time 0: all taps attached, all links between candidates and others up. */
struct roundlab *roundlab_new(const struct roundlab_config *config);
void roundlab_free(struct roundlab *lab);

/* From here on that onlooker is told, beginning with the records that are there already; the lab
 * keeps no more for roundlab_judge(). */
void roundlab_onlook(struct roundlab *lab, const struct roundlab_watch *watch);

/* Runs all that happens through that time. */
void roundlab_run(struct roundlab *lab, uint64_t until_us);
uint64_t roundlab_now(const struct roundlab *lab);

/* Things a test does to it, at the time now. */
void roundlab_network(struct roundlab *lab, uint64_t latency_us, uint64_t jitter_us,
                      unsigned loss_percent, unsigned again_percent);
void roundlab_link(struct roundlab *lab, unsigned a, unsigned b, bool up);
void roundlab_stop(struct roundlab *lab, unsigned member);  /* its daemon: silent, links down */
void roundlab_start(struct roundlab *lab, unsigned member); /* a new one; its links stay down */
void roundlab_tap_stop(struct roundlab *lab, unsigned member, unsigned disk); /* kill -9 */
void roundlab_tap_start(struct roundlab *lab, unsigned member, unsigned disk);
void roundlab_tap_gap(struct roundlab *lab, unsigned member, unsigned disk);
void roundlab_tap_copy(struct roundlab *lab, unsigned member, unsigned disk); /* whole again */
/* Its daemon neither runs nor ends: what comes to it waits, its taps and links go on. */
void roundlab_pause(struct roundlab *lab, unsigned member);
void roundlab_continue(struct roundlab *lab, unsigned member);
void roundlab_take(struct roundlab *lab, unsigned member, enum round_kind kind);
unsigned roundlab_write(struct roundlab *lab, unsigned member, unsigned disk); /* its number */
/* Delivers a message to a member at once, as if `from` had sent it; head.group, from, to, epoch and
 * incarnation are filled in. */
void roundlab_inject(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg);
/* As it is, head and all: what was sent before comes once more. */
void roundlab_repeat(struct roundlab *lab, unsigned from, unsigned to, const struct msg *msg);
struct id roundlab_last_round(const struct roundlab *lab); /* zero: none yet */
const char *roundlab_member_name(unsigned member);
bool roundlab_tap_next(const struct roundlab *lab, unsigned flat, uint64_t *ret_incarnation,
                       uint64_t *ret_lsn); /* false: the tap does not run */

/* Definitions. The first one has everybody; members and disks keep their numbers of it here. */
const struct definition *roundlab_definition(const struct roundlab *lab);
/* Another one, of the disks (flat) that are true, of at least one; NULL: of all. Nobody knows it
 * before roundlab_define(). At most ROUNDLAB_EPOCHS_MAX in all. */
const struct definition *roundlab_issue(struct roundlab *lab, const bool *disks);
const struct definition *roundlab_newest(const struct roundlab *lab);
/* NULL: so many were not issued; 0 is the first. */
const struct definition *roundlab_issued(const struct roundlab *lab, unsigned index);
/* The newest one, of then, comes to a daemon: now, when it goes on, or when it starts. */
void roundlab_define(struct roundlab *lab, unsigned member);
void roundlab_define_later(struct roundlab *lab, unsigned member, uint64_t in_us);
/* What the daemon goes by (NULL: nothing), and the member's number in it. */
const struct definition *roundlab_known(const struct roundlab *lab, unsigned member,
                                        unsigned *ret_self);
/* Links everybody to everybody: whoever may lead in a later definition. */
void roundlab_mesh(struct roundlab *lab);

/* The monotonic clock of a member's daemon and taps. It shows true time until something is done to
 * it; a rate ends standing. */
uint64_t roundlab_clock(const struct roundlab *lab, unsigned member);
void roundlab_clock_rate(struct roundlab *lab, unsigned member, int32_t ppm);
void roundlab_clock_jump(struct roundlab *lab, unsigned member, uint64_t forward_us);
void roundlab_clock_stand(struct roundlab *lab, unsigned member);

/* What those who make the disks need. */

/* Calls that function then, with context and a, b; not where the lab is freed before. */
typedef void roundlab_timer_fn(void *context, uint64_t a, uint64_t b);
void roundlab_call(struct roundlab *lab, uint64_t in_us, roundlab_timer_fn *call, void *context,
                   uint64_t a, uint64_t b);
/* A step of a running tap's gate; who waits for the end of a hold is served. */
void roundlab_tap_gate(struct roundlab *lab, unsigned disk, struct gate_event event,
                       struct gate_out *ret);
/* Appends a record whose LSN the gate gave. False: the log refused it. */
bool roundlab_tap_append(struct roundlab *lab, unsigned disk, struct record *record);
/* A line of the narration. */
void roundlab_tap_note(struct roundlab *lab, unsigned disk, const char *text);
void roundlab_tap_changed(struct roundlab *lab, unsigned disk); /* its daemon is told */
/* The last seal is synced, or cannot be. */
void roundlab_tap_synced(struct roundlab *lab, unsigned disk, bool ok);
bool roundlab_tap_running(const struct roundlab *lab, unsigned disk);
bool roundlab_tap_whole(const struct roundlab *lab, unsigned disk);
bool roundlab_daemon_running(const struct roundlab *lab, unsigned member);
/* An LSN for a write, which is held from there on where the tap holds and the caller heeds it. */
uint64_t roundlab_write_logged(struct roundlab *lab, unsigned number, uint64_t bytes, bool heed);
void roundlab_write_unlogged(struct roundlab *lab, unsigned number);      /* it goes past the log */
void roundlab_write_done(struct roundlab *lab, unsigned number, bool ok); /* in the image, or EIO */

/* A workload of tokens that go from disk to disk: each write is issued after the one before it, on
 * whatever disk that was, was acknowledged. */
void roundlab_tokens(struct roundlab *lab, unsigned tokens, uint64_t think_us_max);

/* The narration so far; NUL-terminated, owned by the lab. */
const char *roundlab_text(const struct roundlab *lab);

struct roundlab_verdict {
    unsigned rounds; /* seen in the streams */
    unsigned points; /* of the group, that the reader's rule accepts (with unsafe_no_hold: unaligned
                        ones) */
    unsigned single; /* likewise, of single VMs */
    unsigned full;   /* of `points` with all disks */
    unsigned torn;   /* of either with an effect whose cause is missing */
    unsigned held;   /* writes acknowledged late */
    unsigned writes;
    uint64_t hold_us_max; /* of any hold */
    unsigned over_budget; /* holds that ended later than their budget */
};
/* Judges what the streams hold now. */
struct roundlab_verdict roundlab_judge(struct roundlab *lab);

#endif
