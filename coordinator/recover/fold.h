/* SPDX-License-Identifier: Apache-2.0 */
/* fold: the disk of a stream as of an LSN, in an open file: all zeroes of the size that the
 * stream's first attach says, then every write, zero, copy block and resize of the stream in order
 * (proto/hrl.md, "The disk at an LSN"). It goes on from where it was, so that an image of an
 * earlier LSN is brought forward by the segments in between. Each segment's hash, chain and records
 * are checked on the way; the store's folder is only read, also beside a running coordinator.
 *
 * The size is the stream's own affair: a resize cuts the file or lets it grow, an attach with
 * another size than the one in force does the same (a gap must follow it before anything else that
 * tells of the disk). What was beyond a shrunken end is gone and reads as zeroes when it grows
 * back.
 *
 * Whether the stream is whole is noted and left to the caller. One thread. */
#ifndef TIDE_COORDINATOR_RECOVER_FOLD_H
#define TIDE_COORDINATOR_RECOVER_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/hrl/whole.h"
#include "coordinator/store/keyring.h"
#include "coordinator/store/manifest.h"

struct fold {
    int fd;           /* of the image, for writing; not owned */
    const char *path; /* for texts; not owned */
    uint64_t lsn;     /* the image holds the stream through here; 0: nothing yet */
    uint64_t size;    /* of the disk at that LSN; 0: lsn is 0 */
    struct whole whole;
    uint64_t gap_lsn; /* the last gap met; 0: none */
    enum record_gap_reason gap_reason;
    enum record_type last; /* of the record at lsn; 0: none was met */
    struct id round;       /* of the bookmark there */
    uint64_t segments;     /* since it began */
    uint64_t records;      /* writes, zeroes and copy blocks */
    uint64_t bytes;        /* data of writes and copy blocks */

    uint64_t incarnation; /* in force behind the last segment read; 0: none was */
    bool gap_due;         /* an attach had another size */
    uint8_t *buffer;
};

/* done and total in bytes of segments; called before each of them. False: give up. */
typedef bool fold_progress_fn(void *context, uint64_t done, uint64_t total);

/* An image of nothing yet: the file is empty. `fd` and `path` must outlive it. LIMIT: no memory. */
int fold_init(struct fold *fold, int fd, const char *path, struct err *err);
/* One that holds the disk, of `size` bytes, as of a point at `lsn`, where the stream was whole. */
int fold_init_at_point(struct fold *fold, int fd, const char *path, uint64_t lsn, uint64_t size,
                       struct err *err);
void fold_close(struct fold *fold); /* the file stays open; takes one that was never begun */

/* Goes on through `lsn`; nothing to do where that is fold->lsn. Nothing is synced. After an error
 * the image is worth nothing.
 *   USAGE      the image is of a later LSN already
 *   NOT_FOUND  the store has not the stream through `lsn`, or a segment's file is missing
 *   CORRUPT    a segment is not what it was, or its records contradict each other (the file is
 *              named)
 *   DENIED     a segment is encrypted, and its key is not in the keyring (which may be NULL)
 *   BUSY       progress said to give up
 *   FULL, IO, LIMIT */
int fold_run(struct fold *fold, const char *store, struct keyring *keyring,
             const struct manifest *manifest, uint64_t lsn, fold_progress_fn *progress,
             void *context, struct err *err);

#endif
