/* SPDX-License-Identifier: Apache-2.0 */
/* copy: mends a stream that is not whole: logs what the image holds wherever the map (map.h) says
 * that the stream may not have it, beside the guest, and is then whole (proto/hrl.md, "Copy"). A
 * block is read and logged under its range lock, so it never carries less than the records before
 * it, and never undoes one after it; its bit is cleared with its record.
 *
 * Where the map is not trusted (a power cut, an image that others wrote) every bit is set, and
 * suspect: the controller compares them with what the far side has (common/core/tapctl.h), clears
 * those that are equal, and the copy sends the others as far as they are compared.
 *
 * Manners. Never more than copy-rate; never the log's second half: it waits until the far side has
 * stored more. After each block it rests: three times as long as the block took if a request of the
 * guest was under way or answered since the last rest, fifteen times if one of those took more than
 * 20 ms; never more than a second.
 *
 * A gap, a resize or a restart ends it, and a new one begins by what the map then says. */
#ifndef TIDE_PARTICIPANT_TAP_COPY_H
#define TIDE_PARTICIPANT_TAP_COPY_H

#include "common/core/tapctl.h"
#include "participant/tap/tap.h"

#define TIDE_COPY_BLOCK    (256U * 1024)                /* bytes of a copy block, at most */
#define TIDE_COPY_HOLE_MAX (UINT64_C(64) * 1024 * 1024) /* of a hole passed in one step */
#define TIDE_COPY_RATE     (UINT64_C(64) * 1024 * 1024) /* bytes a second, where none is given */
#define TIDE_COPY_SLOW_US  20000U
#define TIDE_COPY_REST_MAX 1000000U /* microseconds */

int copy_open(struct tap *tap, struct err *err); /* LIMIT: no memory */
void copy_close(struct tap *tap);

/* One step: begins a copy, does one block or hole of it, or ends it; nothing where the disk is
 * whole. Returns how long to rest before the next, in microseconds. One caller at a time. */
uint64_t copy_step(struct tap *tap);

void *copy_main(void *tap); /* the thread; ends after copy_stop() */
void copy_stop(struct tap *tap);
void copy_kick(struct tap *tap); /* there may be something to do; takes tap->copy alone */

/* COMPARED has come: clears what is equal, if it is the one due. stream: tap->restreams as the
 * controller knows it. */
void copy_compared(struct tap *tap, uint64_t stream, const struct tapctl_compared *compared);

/* RESYNC, as an operator asked for it. */
void copy_resync(struct tap *tap, enum tapctl_resync how, struct tapctl_done *ret);

/* Sets the fields copy…, dirty_bytes, compare_offset and comparing. */
void copy_progress(struct tap *tap, struct tapctl_state *ret);

#endif
