/* SPDX-License-Identifier: Apache-2.0 */
/* model: what the disks must be, computed from what the guests wrote, in the order in which it came
 * to be on their images, with no code of streams: bytes in arrays. It is told of each change, takes
 * a picture of a disk at each bookmark, and compares with what others give back:
 *
 *   bytes   a disk recovered at a point is the picture of its bookmark (a change that was under way
 *           then may be there or not); a tap that starts serves what was on the image, and after a
 *           power cut at least what its log had synced, and what was flushed; a write in a stream
 * is one that a guest made lost    what was acknowledged as stored, shipped or synced is there
 * after every crash; what a tap reclaims is stored; nothing forks life    a tap's life begins with
 * ATTACH, and what the last one left open is sealed before it
 *
 * Breaches go to check.h. */
#ifndef TIDE_TESTS_SIM_MODEL_H
#define TIDE_TESTS_SIM_MODEL_H

#include "tests/sim/check.h"
#include "tests/sim/simtap.h"

struct model;

struct model *model_new(const struct definition *definition, struct check *check);
void model_free(struct model *model); /* takes NULL */

void model_base(struct model *model, unsigned disk, const uint8_t *image); /* at first */
void model_change(struct model *model, unsigned disk, const struct simtap_change *change,
                  uint64_t lsn);
void model_applied(struct model *model, unsigned disk, unsigned number, bool ok);
void model_flushed(struct model *model, unsigned disk, unsigned number);
void model_synced(struct model *model, unsigned disk, uint64_t lsn);
void model_log_failed(struct model *model, unsigned disk); /* until its tap starts anew */
void model_power(struct model *model, unsigned disk);      /* what was not synced may be anything */
void model_began(struct model *model, uint64_t now_us, unsigned disk, const uint8_t *image);
/* Before check_record() hears of it. */
void model_record(struct model *model, uint64_t now_us, unsigned disk, const struct record *record);

/* The log ends before that LSN; through: what the far side has of the stream. */
void model_cut(struct model *model, uint64_t now_us, unsigned disk, uint64_t lsn, uint64_t through);
void model_reclaimed(struct model *model, uint64_t now_us, unsigned disk, uint64_t lsn,
                     uint64_t stored);
void model_stored(struct model *model, unsigned disk, uint64_t lsn); /* acknowledged */
/* The far side begins, or all ends: that is what it has. */
void model_holds(struct model *model, uint64_t now_us, unsigned disk, uint64_t stored);

/* A write as it lies in a stored stream: it is one that a guest made. */
void model_stored_write(struct model *model, uint64_t now_us, unsigned disk,
                        const struct record *record);
/* A disk as recovered at a point, through that bookmark. */
void model_recovered(struct model *model, uint64_t now_us, unsigned disk,
                     const struct record *bookmark, const uint8_t *image);
unsigned model_compared(const struct model *model); /* pictures, so far */

#endif
