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
 *
 * The first breach is kept, with its time; what comes after it is not looked at. */
#ifndef TIDE_TESTS_SIM_CHECK_H
#define TIDE_TESTS_SIM_CHECK_H

#include "common/core/definition.h"
#include "common/hrl/record.h"
#include "coordinator/core/align.h"

struct check;

/* The records of one stream, as they came. */
struct check_stream {
    struct record *records;
    uint64_t *at_us; /* when each came into the log */
    size_t count;
    size_t room;
};

struct check *check_new(const struct definition *definition);
void check_free(struct check *check);

/* What happens, as it happens; disks are flat. */
void check_record(struct check *check, uint64_t now_us, unsigned disk, const struct record *record);
void check_write(struct check *check, unsigned disk, uint64_t lsn, int token, bool has_cause);
void check_let_go(struct check *check, uint64_t now_us, unsigned disk);
/* A HOLD of that round that the member must not obey is on its way to it. */
void check_stale(struct check *check, const struct id *round, unsigned member);

/* Looks at every answer that a reader gives now (final, label). */
void check_answers(struct check *check, uint64_t now_us, const struct align *align);

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

const struct check_stream *check_streams(const struct check *check, unsigned disk);

/* "duty at 3.000123 s: ..."; NULL: nothing was found. */
const char *check_failure(const struct check *check);
/* Folds all records that came into a number: two runs with the same one did the same. */
uint64_t check_digest(const struct check *check);

#endif
