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

#define ROUNDLAB_MEMBERS_MAX 16
#define ROUNDLAB_DISKS       2 /* of each member: data, log */

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
};

/* Starts at time 0: all taps attached, all links between candidates and others up. */
struct roundlab *roundlab_new(const struct roundlab_config *config);
void roundlab_free(struct roundlab *lab);

/* From here on that onlooker is told, beginning with the records that are there already. */
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
void roundlab_take(struct roundlab *lab, unsigned member, enum round_kind kind);
unsigned roundlab_write(struct roundlab *lab, unsigned member, unsigned disk); /* its number */
/* Delivers a message to a member at once, as if `from` had sent it; head.group, from, to, epoch and
 * incarnation are filled in. */
void roundlab_inject(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg);
struct id roundlab_last_round(const struct roundlab *lab); /* zero: none yet */
const char *roundlab_member_name(unsigned member);
const struct definition *roundlab_definition(const struct roundlab *lab);

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
