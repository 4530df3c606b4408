/* SPDX-License-Identifier: Apache-2.0 */
/* round: the words that the stream, the tap, the link and the reader share about one bookmark
 * round (proto/protocol.md). Numbers are what the wire and the stream carry: never renumber. */
#ifndef TIDE_COMMON_CORE_ROUND_H
#define TIDE_COMMON_CORE_ROUND_H

#include "common/core/id.h"

/* X(name, number, text) */
#define TIDE_KINDS(X)                                                                              \
    X(CRASH, 1, "crash")             /* crash-consistent */                                        \
    X(APPLICATION, 2, "application") /* asked for; earned or not is in the proof */
#define TIDE_SCOPES(X)                                                                             \
    X(GROUP, 1, "group")                                                                           \
    X(MEMBER, 2, "member") /* a single VM's own bookmark */

/* How a hold ended. EXPIRED and ABORTED are never points; UNHELD gives verdict `unaligned`. */
#define TIDE_OUTCOMES(X)                                                                           \
    X(HELD, 1, "held")                                                                             \
    X(EXPIRED, 2, "expired")                                                                       \
    X(ABORTED, 3, "aborted")                                                                       \
    X(UNHELD, 4, "unheld")

/* Why a tap, a member or a leader did not take part in, or complete, a round. */
#define TIDE_REASONS(X)                                                                            \
    X(NONE, 0, "none")                                                                             \
    X(EPOCH, 1, "epoch")                  /* the definition known here is another */               \
    X(NOT_ATTACHED, 2, "not-attached")    /* a disk of the definition has no tap */                \
    X(NOT_WHOLE, 3, "not-whole")          /* base and log together are not the disk */             \
    X(BUSY, 4, "busy")                    /* holds for, or is sealing, another round */            \
    X(DUTY, 5, "duty")                    /* the duty limit leaves less than the floor */          \
    X(INCARNATION, 6, "incarnation")      /* the tap has restarted since the leader saw it */      \
    X(LOG, 7, "log")                      /* the log cannot take a bookmark */                     \
    X(ENDED, 8, "ended")                  /* this round has ended here already */                  \
    X(MISSING, 9, "missing")              /* no link to the member */                              \
    X(TIMEOUT, 10, "timeout")             /* no answer within the deadline */                      \
    X(EXPIRED, 11, "expired")             /* a tap let go by itself */                             \
    X(ABORTED, 12, "aborted")             /* the leader gave up */                                 \
    X(TAP_LOST, 13, "tap-lost")           /* the tap's control connection ended in the round */    \
    X(NO_DEFINITION, 14, "no-definition") /* the coordinator has issued none yet */                \
    X(NO_LEADER, 15, "no-leader")         /* no candidate is reached */                            \
    X(SEAL, 16, "seal")                   /* a seal could not be appended */                       \
    X(DISK_SET, 17, "disk-set")           /* set or marks are not exactly the member's disks */    \
    X(KIND, 18, "kind")                   /* this build cannot take a round of that kind */        \
    X(SLOW, 19, "slow")                   /* it would hold the others for too long */

/* The answer of a stream for a round, and of all its streams together. */
#define TIDE_ANSWERS(X)                                                                            \
    X(UNKNOWN, 0, "unknown")                                                                       \
    X(YES, 1, "yes")                                                                               \
    X(NO, 2, "no")

enum round_kind {
#define X(name, number, text) ROUND_KIND_##name = number,
    TIDE_KINDS(X)
#undef X
};
enum round_scope {
#define X(name, number, text) ROUND_SCOPE_##name = number,
    TIDE_SCOPES(X)
#undef X
};
enum round_outcome {
#define X(name, number, text) ROUND_OUTCOME_##name = number,
    TIDE_OUTCOMES(X)
#undef X
};
enum round_reason {
#define X(name, number, text) ROUND_REASON_##name = number,
    TIDE_REASONS(X)
#undef X
};
enum round_answer {
#define X(name, number, text) ROUND_ANSWER_##name = number,
    TIDE_ANSWERS(X)
#undef X
};

/* Texts for people and JSON; NULL where the number is not one of the above. */
const char *round_kind_name(unsigned number);
const char *round_scope_name(unsigned number);
const char *round_outcome_name(unsigned number);
const char *round_reason_name(unsigned number);
const char *round_answer_name(unsigned number);

/* A definition's epoch: its number, and the SHA-256 of the definition's stored bytes. Equal only
 * if both are. */
struct epoch {
    uint64_t number; /* from 1 */
    struct hash hash;
};
bool epoch_equal(const struct epoch *a, const struct epoch *b);

/* What a tap answers when it holds: the bookmark that counts. */
struct round_mark {
    struct id stream;
    uint64_t incarnation;
    uint64_t lsn;
    struct id nonce;
};

/* What the leader asks for: the part of HOLD that every bookmark of the round repeats. */
struct round_order {
    struct id round;
    struct id group;
    struct epoch epoch;
    enum round_scope scope;
    enum round_kind kind;
    struct set set;
};

/* round_cut_hash(), for all that count marks. */
#include "common/core/cut.h"

#endif
