/* SPDX-License-Identifier: Apache-2.0 */
/* attach: what a tap does before it serves and after it has served: locks, fresh or known log
 * folder, replay of the log's tail, what happened meanwhile (power cut, another size, written by
 * others), the seal of a bookmark left open, ATTACH; and the record of a clean detach. */
#ifndef TIDE_PARTICIPANT_TAP_ATTACH_H
#define TIDE_PARTICIPANT_TAP_ATTACH_H

#include "participant/tap/tap.h"

/* Fills the tap's files, ring, state, gate. Errors are for people; what was opened is closed again.
 *   BUSY     another tap serves this log or this image
 *   CORRUPT  the log folder is damaged; IO, FULL */
int attach_open(struct tap *tap, struct err *err);

/* Draws the ids of a new stream of the same disk into tap->state, which is then that of a first
 * attach that has not ended, not yet written. IO: no randomness; nothing changed. */
int attach_new_stream(struct tap *tap, struct err *err);

/* Syncs all, records the clean detach, closes. Nothing may be under way. */
void attach_close(struct tap *tap);

#endif
