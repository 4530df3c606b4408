/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint: in the background, by bytes (a quarter of the ring) or every 5 s: syncs log, then
 * image, records where replay would start, and only then lets the ring be recycled. */
#ifndef TIDE_PARTICIPANT_TAP_CHECKPOINT_H
#define TIDE_PARTICIPANT_TAP_CHECKPOINT_H

#include "participant/tap/tap.h"

#define TIDE_CHECKPOINT_PERIOD_S 5
#define TIDE_CHECKPOINT_WAIT_S   10 /* a full ring waits so long for one */

void checkpoint_kick(struct tap *tap); /* soon; never blocks on I/O */
void checkpoint_wait(
    struct tap *tap); /* until one that begins now has been tried, at most WAIT_S */

/* The bookmark below that LSN that has no seal yet, as the gate knows it: 0 where there is none. */
uint64_t checkpoint_open_bookmark(struct tap *tap, uint64_t below, struct id *ret_round);

/* One checkpoint, now. -1: log, image or state failed; what follows from it has been done. */
int checkpoint_run(struct tap *tap);

void *checkpoint_main(void *tap); /* the thread; ends on tap->checkpoint_stop */

#endif
