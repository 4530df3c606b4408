/* SPDX-License-Identifier: Apache-2.0 */
/* align: the reader's rule of proto/protocol.md as a pure state machine. Fed with the records that
 * matter (attach, gap, resize, copy begin and end, bookmark, seal) of any number of streams, each
 * stream's in LSN order, the streams interleaved in any way, and with definitions, it says of every
 * round: yes, no (why, where), or unknown (what is missing). Yes and no never change afterwards,
 * and the answers do not depend on the interleaving.
 *
 * A round is known by its id together with its order (group, epoch, scope, kind, set): bookmarks
 * that carry the same id and another order are another round, so that a stream outside a set can
 * not spoil it. A stream of the set whose first bookmark of that id has another order answers no.
 *
 * Whole (common/hrl/whole.h): a stream is whole from its first record, where that is an ATTACH with
 * first and base_zero, and from the end of a copy, each to the next GAP. One whose first record was
 * not fed is neither whole nor not: it answers unknown where it would answer yes.
 *
 * Bounds: at most rounds_max rounds are kept. When another comes, the oldest decided one is
 * dropped, or if none is decided the oldest; a dropped round's id is remembered (the last 4 *
 * rounds_max of them) and bookmarks that name it are passed over: it is never decided again, and so
 * never becomes yes. align_dropped() counts those that were dropped undecided. At most
 * TIDE_ALIGN_STREAMS_MAX streams and TIDE_ALIGN_EPOCHS_MAX definitions (the oldest is dropped). Out
 * of memory: LIMIT, the event has changed nothing. */
#ifndef TIDE_COORDINATOR_CORE_ALIGN_H
#define TIDE_COORDINATOR_CORE_ALIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/definition.h"
#include "common/core/err.h"
#include "common/core/round.h"
#include "common/hrl/record.h"

#define TIDE_ALIGN_ROUNDS      4096U /* a good rounds_max: at one a second more than an hour */
#define TIDE_ALIGN_ROUNDS_MAX  1000000U
#define TIDE_ALIGN_STREAMS_MAX 65536U
#define TIDE_ALIGN_EPOCHS_MAX  64U

/* Why a stream or a round has the answer it has. X(NAME, text for people and JSON) */
#define TIDE_ALIGN_WHYS(X)                                                                         \
    X(NONE, "")                                                                                    \
    /* of a stream: yes */                                                                         \
    X(HELD, "held")                                                                                \
    X(UNHELD, "taken with the hold switched off")                                                  \
    /* of a stream: no */                                                                          \
    X(NOT_WHOLE, "the stream was not whole at its bookmark")                                       \
    X(EXPIRED, "the hold ran out of its budget")                                                   \
    X(ABORTED, "the hold was aborted")                                                             \
    X(GAP, "a gap came before the seal")                                                           \
    X(ATTACH, "the tap was started again before the seal")                                         \
    X(BOOKMARK, "another bookmark came before the seal")                                           \
    X(SEAL_ROUND, "the seal names another round")                                                  \
    X(SEAL_CONTRADICTS, "bookmark and seal contradict each other about the hold")                  \
    X(OTHER_ORDER, "the bookmark names another epoch, scope, kind, set or group")                  \
    /* of a stream: unknown */                                                                     \
    X(NO_BOOKMARK, "no bookmark of the round yet")                                                 \
    X(NO_SEAL, "no seal yet")                                                                      \
    X(NO_BEGINNING, "the stream's first record is not here, so whole cannot be known")             \
    /* of a round, beside those of one of its streams */                                           \
    X(SEALS_DIFFER, "the seals carry different cut hashes")                                        \
    X(HASH_DIFFERS, "the cut hash in the seals is not the hash of the bookmarks")                  \
    X(HOLD_MIXED, "some disks were held and others not")                                           \
    X(SET_SIZE, "the set counts another number of disks than the definition")                      \
    X(GROUP, "the definition of that epoch is of another group")                                   \
    X(NO_DEFINITION, "the definition of that epoch is not here")                                   \
    X(TOO_MANY, "more streams name the round than its set counts; the definition is needed")       \
    X(DROPPED, "too many rounds were open at once; this one was dropped")

enum align_why {
#define X(name, text) ALIGN_WHY_##name,
    TIDE_ALIGN_WHYS(X)
#undef X
};
const char *align_why_text(enum align_why why);

/* One stream's part of a round. */
struct align_entry {
    struct round_mark mark;   /* its first bookmark of the round */
    enum round_answer answer; /* YES: sealed held, or (unheld) sealed unheld */
    enum align_why why;
    bool unheld;     /* bookmark says so */
    uint8_t quiesce; /* of the bookmark, with the four below */
    uint32_t budget_us;
    uint64_t wall_ns;
    uint32_t wall_error_us;
    struct hash quiesce_proof;
    uint64_t seal_lsn;          /* 0: no seal; the fields below are then 0 */
    enum round_outcome outcome; /* only with seal_lsn */
    struct hash cut;
    uint64_t hold_us;
    uint64_t writes_held;
    uint64_t bytes_held;
};

/* What is known of one round. Owned by struct align; good until the next call that changes it. */
struct align_round {
    struct round_order order;
    enum round_answer answer; /* YES: a recovery point. YES and NO are final */
    bool unaligned;           /* answer NO, since the hold was switched off for all of it, and the
                                 rule says yes in every other way: verdict `unaligned` */
    bool partial;             /* the set is not all disks of the definition; what the round is
                                 called is align_label()'s affair */
    bool defined;             /* judged with the definition; else by set and bookmarks alone */
    enum align_why why;       /* of NO (not unaligned) and UNKNOWN: the first reason, ... */
    struct id where;          /* ... and the stream it comes from; zero: of the round as a whole */
    struct hash cut;          /* H, with YES or unaligned */
    size_t entry_count;       /* streams that name the round, in the order of their first bookmark;
                                 with a definition also such as are not in the set: skip those */
    const struct align_entry *entries;
};

struct align;

/* group: bookmarks that name another group make no round here (they still end the answer of their
 * stream's open bookmark); NULL: any group. need_definitions: a round whose definition is not known
 * stays unknown; else it is judged by its set and the streams that name it, and says so (defined).
 * rounds_max: 1..TIDE_ALIGN_ROUNDS_MAX. NULL: out of memory. */
struct align *align_new(const struct id *group, bool need_definitions, unsigned rounds_max);
void align_free(struct align *align); /* takes NULL */

/* Makes a definition known (idempotent). LIMIT: out of memory. */
int align_define(struct align *align, const struct definition *definition, struct err *err);

/* Feeds the next record of record->stream. Types other than these may be
 * fed and are passed over, as is a record whose LSN is not over the last one fed of its stream (so
 * a repeated feed changes nothing). The caller has checked that nothing that matters is missing
 * between what it feeds (the chain of segments), and that the record was the due one.
 *   LIMIT  too many streams, or out of memory */
int align_feed(struct align *align, const struct record *record, struct err *err);

/* Rounds whose answer became YES or NO since the last drain, one a call, then NULL. Each round
 * comes once. */
const struct align_round *align_next_decided(struct align *align);
/* The one that came last, with nothing fed since, could not be dealt with: it comes again, first.
 */
void align_give_back(struct align *align, const struct align_round *round);

/* Rounds in memory, oldest first: index 0..align_count() - 1. */
size_t align_count(const struct align *align);
const struct align_round *align_at(const struct align *align, size_t index);

/* The round of that id; where several orders share it: a YES before an UNKNOWN before a NO, the
 * oldest of those. NULL: not known (never seen, or dropped). */
const struct align_round *align_find(const struct align *align, const struct id *round);

/* What a round is called, by scope, set and answer. X(NAME, text for people and JSON) */
#define TIDE_ALIGN_LABELS(X)                                                                       \
    X(NONE, "")               /* no point */                                                       \
    X(FULL, "full")           /* of the group: all disks of the definition */                      \
    X(PARTIAL, "partial")     /* of the group: not all of them */                                  \
    X(SINGLE_VM, "single-vm") /* of one VM, taken by itself: never a point of the group */         \
    X(UNALIGNED, "unaligned") /* of either scope, taken with the hold switched off: no point */

enum align_label {
#define X(name, text) ALIGN_LABEL_##name,
    TIDE_ALIGN_LABELS(X)
#undef X
};
const char *align_label_name(enum align_label label);

/* definition: of the round's epoch, or NULL where it is not here. With it a round of scope `member`
 * is a single VM's only if its set is all disks of exactly one member; else it is none. */
enum align_label align_label(const struct align_round *round, const struct definition *definition);

/* The member whose disks alone are the set of that scope `member` round, or -1. */
int align_single(const struct round_order *order, const struct definition *definition);

/* The entry of a stream in a round, or NULL. */
const struct align_entry *align_entry(const struct align_round *round, const struct id *stream);

/* Rounds dropped before they were decided. */
uint64_t align_dropped(const struct align *align);

/* Streams that have been fed: whether this one is whole now (YES, NO, UNKNOWN), the last LSN fed
 * (0: none) and the incarnation in force. */
enum round_answer align_stream(const struct align *align, const struct id *stream,
                               uint64_t *ret_lsn, uint64_t *ret_incarnation);

#endif
