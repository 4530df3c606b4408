/* SPDX-License-Identifier: Apache-2.0 */
/* whole: whether a stream is whole (proto/hrl.md, "Whole"): whether its base and its records
 * together are the disk. A pure fold over the records that matter (attach, gap, copy begin, copy
 * end, resize), each in LSN order; the one place that knows the rule, for tap, alignment and
 * export.
 *
 * A stream whose first record was not fed is UNKNOWN until what was fed answers by itself: a gap, a
 * copy begin or a size that contradicts the one before says NO, the end of a full copy YES. */
#ifndef TIDE_COMMON_HRL_WHOLE_H
#define TIDE_COMMON_HRL_WHOLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/round.h"
#include "common/hrl/record.h"

struct whole {
    enum round_answer answer; /* after the last record fed */
    bool begun;               /* the first record of the stream was fed */
    bool other_gap;           /* one that an initial copy does not mend */
    uint64_t size;            /* of the disk, as the last attach or resize says; 0: none was fed */

    /* The copy under way; copy_lsn 0: none. */
    uint64_t copy_lsn;  /* of its begin */
    uint64_t copy_size; /* that its end must account for */
    enum record_copy_kind copy_kind;
};

/* Nothing fed yet: UNKNOWN. */
void whole_init(struct whole *whole);

/* One that goes on from a point that was whole. A caller that knows the disk's size there sets
 * ->size too: else the first attach or resize that is fed contradicts nothing. */
void whole_init_at_point(struct whole *whole);

/* Records of other types change nothing. */
void whole_feed(struct whole *whole, const struct record *record);

/* Whether whole_feed() looks at records of that type. */
bool whole_wants(enum record_type type);

#endif
