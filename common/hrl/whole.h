/* SPDX-License-Identifier: Apache-2.0 */
/* whole: whether a stream is whole (proto/hrl.md, "Whole"): whether its base and its records
 * together are the disk. A pure fold over the records that matter (attach, gap, copy begin, copy
 * end), each in LSN order; the one place that knows the rule, for tap, alignment and export.
 *
 * A stream whose first record was not fed is UNKNOWN until what was fed answers by itself: a gap or
 * a copy begin says NO, the end of a full copy says YES. */
#ifndef TIDE_COMMON_HRL_WHOLE_H
#define TIDE_COMMON_HRL_WHOLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/round.h"
#include "common/hrl/record.h"

struct whole {
    enum round_answer answer; /* after the last record fed */
    bool begun;               /* the first record of the stream was fed */
    bool told;                /* or a gap or a copy's start: no unseen copy can be under way */
    bool other_gap;           /* one that an initial copy does not mend */
    uint64_t size;            /* of the disk, as the last attach says; 0: none was fed */

    /* The copy under way; copy_lsn 0: none. */
    uint64_t copy_lsn; /* its last begin */
    uint64_t copy_incarnation;
    uint64_t copy_size;
    uint64_t copy_due; /* bytes that its end must account for */
    enum record_copy_kind copy_kind;
    bool copy_unseen; /* it continues a begin that was not fed */
};

/* Nothing fed yet: UNKNOWN. */
void whole_init(struct whole *whole);

/* One that goes on from a point that was whole. */
void whole_init_at_point(struct whole *whole);

/* Records of other types change nothing. */
void whole_feed(struct whole *whole, const struct record *record);

/* Whether whole_feed() looks at records of that type. */
bool whole_wants(enum record_type type);

#endif
