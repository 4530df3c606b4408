/* SPDX-License-Identifier: Apache-2.0 */
/* copy: mends a stream that is not whole: logs what the image holds, from one end to the other,
 * beside the guest, and is then whole (proto/hrl.md, "Copy"). A block is read and logged under its
 * range lock, so it never carries less than the records before it, and never undoes one after it.
 *
 * Manners. Never more than copy-rate; never the log's second half: it waits until the far side has
 * stored more. After each block it rests: three times as long as the block took if a request of the
 * guest was under way or answered since the last rest, fifteen times if one of those took more than
 * 20 ms; never more than a second.
 *
 * A gap ends it, and it begins again from the disk's start; a restart goes on where it was durable
 * in the log. */
#ifndef TIDE_PARTICIPANT_TAP_COPY_H
#define TIDE_PARTICIPANT_TAP_COPY_H

#include "common/core/tapctl.h"
#include "participant/tap/tap.h"

#define TIDE_COPY_BLOCK    (256U * 1024)                /* bytes of a copy block */
#define TIDE_COPY_HOLE_MAX (UINT64_C(64) * 1024 * 1024) /* of a hole passed in one step */
#define TIDE_COPY_SYNC_MAX (UINT64_C(32) * 1024 * 1024) /* done anew after a kill, at most; or */
#define TIDE_COPY_SYNC_US  1000000U                     /* what one second copied */
#define TIDE_COPY_SLOW_US  20000U
#define TIDE_COPY_REST_MAX 1000000U /* microseconds */

void *copy_main(void *tap); /* the thread; ends after copy_stop() */
void copy_stop(struct tap *tap);
void copy_kick(struct tap *tap); /* there may be something to do; takes tap->copy alone */

/* Sets the fields copy, copy_offset and copy_rate. */
void copy_progress(struct tap *tap, struct tapctl_state *ret);

#endif
