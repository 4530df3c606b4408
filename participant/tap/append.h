/* SPDX-License-Identifier: Apache-2.0 */
/* append: what goes into the log, when it cannot, and its sync. */
#ifndef TIDE_PARTICIPANT_TAP_APPEND_H
#define TIDE_PARTICIPANT_TAP_APPEND_H

#include "participant/tap/tap.h"

void append_lock(struct tap *tap, bool urgent);
void append_unlock(struct tap *tap);

/* Logs one write or zero (range locked by node). *ret_ticket: hold to wait for before the
 * acknowledgement, 0: none. record->lsn is set, to 0 where it went unlogged. 0; or ENOSPC where the
 * disk has meanwhile shrunk below it, and nothing was done. Else it never fails: where the log
 * cannot take it the stream is no longer whole, and production goes on. */
int append_change(struct tap *tap, struct range_node *node, struct record *record,
                  uint64_t *ret_ticket);

/* Under the append lock: appends a small record whose LSN the gate gave; other header fields are
 * set here, incarnation where it is 0. -1: the log failed (the caller calls append_failed()). */
int append_record(struct tap *tap, struct record *record);

/* Under the append lock. Room for a record of the tap's own, the reserve included. */
bool append_room(const struct tap *tap);

/* Under the append lock: appends a record of the tap's own, data included; LSN and header fields
 * are set here. -1: the log failed, and what follows from it has been done. */
int append_own(struct tap *tap, struct record *record);

/* Makes the log durable through lsn at least. -1: a sync failed, now or before; the caller without
 * the append lock calls append_sync_failed(). */
int append_sync(struct tap *tap, uint64_t lsn);
void append_sync_failed(struct tap *tap);

/* Under the append lock: a write of the log failed; record end_lsn was to lie at end_position.
 * Nothing from there on counts, now or after a restart. */
void append_failed(struct tap *tap, uint64_t end_lsn, uint64_t end_position);

/* Under the append lock: the ring has no room: from here on changes go unlogged. Replay never
 * crosses this: what is under way is finished and in the image, and replay starts behind here,
 * durably, before the first unlogged write. */
void append_overflow(struct tap *tap);

/* Under the state lock: writes the state, and with it whether the map's file can be trusted. Where
 * a gap could not be told before and now is, the note at the image says it no more. Errors:
 * state_write(). */
int append_state(struct tap *tap, struct err *err);

/* Syncs the image, in the second form under the append lock. -1 with errno: the system tells a
 * failed sync once, so the guest's next flush fails for it; and what was not written then is
 * written anew from the log before a later sync counts. background: on a descriptor of its own, so
 * that a guest's flush beside it does not take its error. */
int append_sync_image(struct tap *tap, bool background);
int append_sync_image_locked(struct tap *tap);

/* Under the append lock: a gap of that reason, as an operator or the far side wants it; suspect:
 * every block must be compared, else every block is sent. */
void append_gap(struct tap *tap, unsigned reason, bool suspect);

/* Under the append lock: as append_gap(), but what is in the map stays what is sent. */
void append_gap_map(struct tap *tap, unsigned reason);

/* An image write or sync failed: the stream is not whole. Range 0, 0: not known. */
void append_image_gap(struct tap *tap, uint64_t offset, uint64_t size, int why);

/* Under the append lock: logging goes on where the ring has room again; first with RESIZE, where
 * the log has not said yet what size the disk has. */
void append_resume(struct tap *tap);

/* Under the append lock, at attach and at the first resume after it: ATTACH (tap->attach), and GAP
 * if the stream is not whole and no copy goes on. -1: there is no room, or the log failed. */
int append_attach(struct tap *tap);

#endif
