/* SPDX-License-Identifier: Apache-2.0 */
/* cutlog: the journal of one stream's cuts, STATE/streams/<stream hex>.cuts. A cut is decided once:
 * it is durable here before the first PUT of its segment, so that a daemon that restarts rebuilds
 * the same bytes. And the rule by which journal and far side come together after a start.
 *
 * File: header (64): magic "TIDECUT0" | stream 16 | zero 40. Then entries (128 each): crc32c u32 of
 * the rest | zero u32 | first u64 | last u64 | position u64 | incarnation u64 | before 32 | hash 32
 * | zero 24. An entry that a crash left half written is the last one, and is dropped. */
#ifndef TIDE_PARTICIPANT_CUTLOG_H
#define TIDE_PARTICIPANT_CUTLOG_H

#include <limits.h>
#include <stdbool.h>

#include "common/core/err.h"
#include "common/core/id.h"
#include "common/wire/intake.h"

#define CUTLOG_ENTRIES_MAX 256U /* kept; at it the stored ones are trimmed away */

struct cutlog_entry {
    uint64_t first; /* LSNs of the segment */
    uint64_t last;
    uint64_t position;    /* logical, in the log, where `first` was due */
    uint64_t incarnation; /* in force before it; 0: none */
    struct hash before;   /* of the segment before; zero where first is 1 */
    struct hash hash;
};

struct cutlog {
    char path[PATH_MAX];
    struct id stream;
    int fd;         /* -1: closed, or the file is no longer known to be what is here */
    unsigned count; /* entries, a chain without a hole */
    struct cutlog_entry entries[CUTLOG_ENTRIES_MAX];
};

/* Opens or makes it; the folder of `state` must exist. Not on a small stack (30 KiB).
 *   CORRUPT  not a journal of this stream, or it breaks the form before its end
 *   IO, FULL, DENIED  the system's */
int cutlog_open(struct cutlog *log, const char *state, const struct id *stream, struct err *err);
void cutlog_close(struct cutlog *log);

/* Durable when it returns 0. It must follow the last entry, if there is one: CONFLICT. FULL: no
 * space, or CUTLOG_ENTRIES_MAX are there (trim first). After a failure the journal is as before. */
int cutlog_append(struct cutlog *log, const struct cutlog_entry *entry, struct err *err);

/* Forgets entries up to the one whose last LSN is stored_lsn, but keeps that one: it is the far
 * side's head. Writes only if that makes the file much shorter (or `all`). After a failure nothing
 * is forgotten, here or in the file. */
int cutlog_trim(struct cutlog *log, uint64_t stored_lsn, bool all, struct err *err);

/* Forgets everything: what the far side has is the new beginning. */
int cutlog_clear(struct cutlog *log, struct err *err);

/* The entry that begins at first: decided, and pending if that is not stored; NULL: none. */
const struct cutlog_entry *cutlog_at(const struct cutlog *log, uint64_t first);

/* Where shipping goes on: what is due next is pending where cutlog_at() finds it, and so is all
 * that follows it here. */
struct cutlog_resume {
    uint64_t first;     /* LSN due next at the far side */
    struct hash before; /* the far side's head */
    bool clear;         /* what is here is of no use: clear it, and decide anew from first */
    bool fell_back;     /* the far side has less than it once confirmed (its store was restored) */
};

/* Compares with what the far side has. The log of the tap has LSNs tail_lsn up to, not including,
 * next_lsn.
 *
 * A far side that has less than it once confirmed is no fault of the tap. If the log still has all
 * that is missing there, it is sent again from there on, cut anew: what was decided for it is
 * forgotten here, and no bytes are there that it could contradict. What the log was allowed to
 * forget cannot be sent.
 *
 * CONFLICT: this stream cannot go on at this far side, ever; the text says why. It is forked, or it
 * has LSNs that the log does not have or has otherwise, or it lacks some that the log does not have
 * any more. Only another stream of the same disk mends that (RESTREAM, common/core/tapctl.h). */
int cutlog_compare(const struct cutlog *log, const struct intake_stream_state *far,
                   uint64_t tail_lsn, uint64_t next_lsn, struct cutlog_resume *ret,
                   struct err *err);

#endif
