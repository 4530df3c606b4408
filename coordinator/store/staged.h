/* SPDX-License-Identifier: Apache-2.0 */
/* staged: the segments of one stream that came before their turn, each a file of its own in
 * STORE/streams/<hex>/staged, whose name does not end as a segment's does: they are no part of the
 * stream yet, and who reads a store passes over them. store.h takes them, in order, when what is
 * before them has been stored.
 *
 * The files survive a restart. What a file holds is verified before it is put here, and again when
 * it is read back; at a start only the names are looked at. No two ranges overlap: one that comes
 * with other bytes takes the place of those that it overlaps. The caller serialises calls (the
 * stream's lock). */
#ifndef TIDE_COORDINATOR_STORE_STAGED_H
#define TIDE_COORDINATOR_STORE_STAGED_H

#include "coordinator/store/manifest.h"
#include "coordinator/store/segment_file.h"

#define TIDE_STAGED_MAX       16U                   /* segments of one stream */
#define TIDE_STAGED_BYTES_MAX (64U * 1024U * 1024U) /* of them all */

struct staged {
    unsigned count;
    uint64_t bytes;
    struct manifest_segment list[TIDE_STAGED_MAX]; /* by first; hash zero: not known (a restart) */
};

/* At a start, with an empty *staged: what the folder has behind stored_lsn; the rest, temporary
 * files and what is over a limit are removed. *ret_gone counts the segments among them. IO. */
int staged_load(struct staged *staged, const char *store, const struct id *stream,
                uint64_t stored_lsn, unsigned *ret_gone, struct err *err);

/* The highest LSN through which stored and staged ranges follow each other without a hole. */
uint64_t staged_received(const struct staged *staged, uint64_t stored_lsn);

/* Durable when it returns 0. *ret_known: the same was there already.
 *   BUSY      16 segments or 64 MiB are there: the text says what is due
 *   FULL, IO  the system's; nothing is staged that was not before */
int staged_put(struct staged *staged, const char *store, const struct segment_form *form,
               const struct manifest_segment *segment, const struct manifest_stream *about,
               const void *bytes, uint64_t due, bool *ret_known, struct err *err);

/* The one that begins at first, or NULL; good until the next call that changes *staged. */
struct manifest_segment *staged_at(struct staged *staged, uint64_t first);

/* Moves the file of what staged_at() gave to its place among the stored ones, durably, and forgets
 * it here, also where that fails (then the file is gone). */
int staged_move(struct staged *staged, const char *store, const struct id *stream, uint64_t first,
                struct err *err);

/* Removes those that begin at or before lsn. */
void staged_drop(struct staged *staged, const char *store, const struct id *stream, uint64_t lsn);

#endif
