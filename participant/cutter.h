/* SPDX-License-Identifier: Apache-2.0 */
/* cutter: makes segments out of a tap's log: reads records over a source table (the passed
 * descriptors, or memory) and puts them into one segment at a time. When to cut by age is the
 * caller's; by size and at bookmarks it is the format's (common/hrl/segment.h). What a segment
 * holds depends on its range alone, so that a range read again gives the same bytes. */
#ifndef TIDE_PARTICIPANT_CUTTER_H
#define TIDE_PARTICIPANT_CUTTER_H

#include "common/hrl/log.h"
#include "common/hrl/segment.h"

struct cutter {
    struct log_reader reader;
    struct segment_writer writer;
    uint8_t *window; /* owned; of the reader */
    uint8_t *object; /* owned; TIDE_SEGMENT_MAX bytes, the segment under way or just closed */
    bool open;
    struct segment_header header; /* of the segment under way */
    uint64_t position;            /* in the log, of its first record */
    bool pending;                 /* a record was read that did not fit: the next segment's first */
    struct record record;
    const uint8_t *record_bytes;
    size_t record_size;
    uint64_t record_position;
};

/* Allocates 10 MiB, which nothing touches until used. LIMIT: no memory. */
int cutter_init(struct cutter *cutter, struct err *err);
void cutter_close(struct cutter *cutter); /* takes a zeroed one too */

/* Where in the log to begin to look for the due record. */
struct cutter_place {
    struct log_ring ring;
    uint64_t position;
    uint64_t lsn;         /* due there */
    uint64_t incarnation; /* in force there */
};

/* Passes over records before first_lsn; where the tap has written over the place meanwhile, from
 * the nearest file that it has not. first_lsn 1 needs before to be zero. NOT_FOUND  the log no
 * longer has, or does not yet have, first_lsn others     log_reader_next()'s */
int cutter_open(struct cutter *cutter, const struct source *source,
                const struct cutter_place *place, const struct id *timeline, uint64_t first_lsn,
                const struct hash *before, struct err *err);

/* Takes records up to through_lsn. *ret_full: the segment must be cut now (a bookmark, or the next
 * record does not fit). CORRUPT: the log ends before through_lsn. */
int cutter_fill(struct cutter *cutter, uint64_t through_lsn, bool *ret_full, struct err *err);

bool cutter_empty(const struct cutter *cutter);

/* Closes the segment under way, which is not empty: its bytes are cutter->object[0..ret->size),
 * good until the next cutter_open() or _next(). */
void cutter_cut(struct cutter *cutter, struct segment_info *ret);

/* After cutter_cut(): begins the segment that follows it. */
void cutter_next(struct cutter *cutter, const struct segment_info *before);

#endif
