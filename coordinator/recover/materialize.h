/* SPDX-License-Identifier: Apache-2.0 */
/* materialize: a disk at a recovery point, as a sparse image file, from the store's folder alone
 * (no coordinator need run): what fold.h makes of the stream up to the bookmark, where the stream
 * is whole. It has the size that the disk had then, whatever it was registered with.
 *
 * Beside the image lies FILE.tidemark, which says of which stream and point it is. A whole export
 * is written to FILE.part and renamed when it is on stable storage. An incremental one marks
 * FILE.tidemark as unfinished before it changes the image, so that a half-written image is never
 * taken for a whole one. */
#ifndef TIDE_COORDINATOR_RECOVER_MATERIALIZE_H
#define TIDE_COORDINATOR_RECOVER_MATERIALIZE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"
#include "coordinator/store/keyring.h"

/* The object of the point whose id begins with the hex digits of `prefix`, of any group (or of
 * `group`, if not NULL). A new reference.
 *   USAGE      not 1 to 32 hex digits
 *   NOT_FOUND  no such point: never was, not complete yet, or its round failed
 *   CONFLICT   several begin so
 *   CORRUPT    the object is not what it must be */
int materialize_find(const char *store, const char *group, const char *prefix, json_t **ret,
                     struct err *err);

/* done and total in bytes of segments; called often. */
typedef void materialize_progress_fn(void *context, uint64_t done, uint64_t total);

struct materialize {
    const char *store;
    struct keyring *keyring; /* of the store; NULL: no master key is there */
    const json_t *point;     /* from materialize_find() */
    const char *member;
    const char *disk;
    const char *to;                    /* the image */
    const json_t *from;                /* the point that `to` holds now, or NULL: a whole export */
    bool unaligned;                    /* a point with label unaligned is wanted all the same */
    materialize_progress_fn *progress; /* may be NULL */
    void *context;
};

struct materialize_result {
    uint64_t size; /* of the disk at that point */
    uint64_t lsn;  /* of the bookmark */
    uint64_t segments;
    uint64_t records;       /* writes and zeroes applied */
    uint64_t bytes_written; /* data of writes */
};

/*   NOT_FOUND  the point has no such member or disk, or a segment is missing
 *   DENIED     the point is unaligned, and that was not asked for; a segment is encrypted, and
 * there is no key for it CONFLICT   `to` exists (whole export); or it does not hold `from`, or is
 * half-written CORRUPT    a segment in the store is not what it was (the file is named) FAILED the
 * stream has a gap, or does not begin with an empty disk: it cannot be rebuilt FULL, IO */
int materialize_run(const struct materialize *m, struct materialize_result *ret, struct err *err);

#endif
