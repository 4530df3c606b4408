/* SPDX-License-Identifier: Apache-2.0 */
/* check: what a simulated cluster must never do, judged from outside: from records, writes and ends
 * of holds as they happen, and from the answers that a reader got. It uses none of the code under
 * test but the words it speaks (structs of records, rounds, definitions): rule, wholeness, cut
 * hash, budget and duty are written down here once more, from proto/protocol.md.
 *
 *   cause     no point has an effect without its cause
 *   rule      the reader's rule, computed apart, says what coordinator/core/align says
 *   final     an answer yes or no never changes, whichever reader gives it
 *   budget    no hold outlives its budget
 *   duty      no second of a disk is held beyond the duty limit, no pause is too short
 *   label     full is what has all disks of the definition; what was not held is no point; what one
 *             VM took by itself is never called a point of the group
 *   stale     an order of another epoch or tap incarnation places no bookmark
 *   order     a tap seals `held` only what a RELEASE of that round, with that H, told its member,
 *             and places one bookmark of a round at most
 *   bytes, lost, life   model.h; catalog   far.h
 *   told      what a leader says was sealed by all is a point, unless somebody lied to its members
 *
 * The first breach is kept, with its time; what comes after it is not looked at. */
#ifndef TIDE_TESTS_SIM_CHECK_H
#define TIDE_TESTS_SIM_CHECK_H

#include "common/core/definition.h"
#include "common/hrl/record.h"
#include "common/core/msg.h"
#include "coordinator/core/align.h"
#include "tests/sim/idmap.h"

struct check;

/* The records of one stream, as they came. */
struct check_stream {
    struct record *records;
    uint64_t *at_us; /* when each came into the log */
    bool *whole;     /* whether base and records before each were the disk */
    size_t count;
    size_t room;
    struct idmap bookmarks; /* by round */
};

struct check *check_new(const struct definition *definition);
void check_free(struct check *check);

/* Definitions and what each member goes by (NULL: none); it begins with the first. */
void check_define(struct check *check, const struct definition *definition);
void check_defined(struct check *check, uint64_t now_us, unsigned member,
                   const struct definition *definition);
/* No leader takes a partial round, and only now may single VMs take theirs: policy `strict`. */
void check_strict(struct check *check);
/* What a disk's own clock shows; budget, pause and duty limit go by it. */
void check_clock(struct check *check, unsigned disk, uint64_t clock_us);
/* It jumps forward: the machine did not run meanwhile, so that time counts as no hold. */
void check_clock_jump(struct check *check, unsigned disk, uint64_t forward_us);

/* What happens, as it happens; disks are flat. */
void check_record(struct check *check, uint64_t now_us, unsigned disk, const struct record *record);
void check_write(struct check *check, unsigned disk, uint64_t lsn, int token, bool has_cause);
void check_let_go(struct check *check, uint64_t now_us, unsigned disk);
/* The log of a disk ends before that LSN, which is used anew: a power cut or a failure took the
 * rest.
 */
void check_cut(struct check *check, uint64_t now_us, unsigned disk, uint64_t lsn);
/* At the end: readers were shown a disk's records through that LSN. Unless called: all. */
void check_shown(struct check *check, unsigned disk, uint64_t lsn);
/* Somebody found something; other checkers too (model.h). */
__attribute__((format(printf, 4, 5))) void check_breach(struct check *check, uint64_t now_us,
                                                        const char *name, const char *format, ...);
/* A HOLD of that round that the member must not obey is on its way to it. */
void check_stale(struct check *check, const struct id *round, unsigned member);

/* It comes to a daemon. */
void check_message(struct check *check, uint64_t now_us, unsigned from, unsigned to,
                   const struct msg *msg);
/* Somebody lies in that round: he leads it, or sends what its leader did not. */
void check_hostile(struct check *check, const struct id *round);
/* A daemon has ended, and its taps know (budget). */
void check_daemon_lost(struct check *check, uint64_t now_us, unsigned member);

/* Looks at every answer that a reader gives now (final, label). */
void check_answers(struct check *check, uint64_t now_us, const struct align *align);

/* Likewise at those that became yes or no since it was last asked (align_next_decided()). */
void check_news(struct check *check, uint64_t now_us, struct align *align);

struct check_count {
    unsigned rounds;
    unsigned points;
    unsigned full;
    unsigned single; /* of `points`: of single VMs */
    unsigned writes;
    unsigned late; /* writes that came while their disk held */
    uint64_t hold_us_max;
};
/* At the end: all rounds, by a reader that was fed everything (rule, cause, budget). */
struct check_count check_end(struct check *check, uint64_t now_us, const struct align *align);

/* Points of the group, full or partial, by the rule computed here, whose bookmark in the first disk
 * of their set came within that time. */
unsigned check_points(struct check *check, uint64_t from_us, uint64_t to_us, bool full);

/* Likewise of single VMs; member -1: of any. */
unsigned check_single(struct check *check, uint64_t from_us, uint64_t to_us, int member);

/* Rounds of which a disk has a bookmark of that time, and which are no point. */
unsigned check_lost(struct check *check, uint64_t from_us, uint64_t to_us);
/* By the rule computed here, for the first order of that id. */
enum round_answer check_rule_of(const struct check *check, const struct id *round);

const struct check_stream *check_streams(const struct check *check, unsigned disk);

/* "duty at 3.000123 s: ..."; NULL: nothing was found. */
const char *check_failure(const struct check *check);
/* Folds all records, writes and messages that came, and when, into a number: two runs with the same
 * one did the same. */
uint64_t check_digest(const struct check *check);

#endif
