/* SPDX-License-Identifier: Apache-2.0 */
/* segment_file: one segment as the store keeps it: as it came, or, where the store has a master
 * key, in a box (proto/box.md): compressed and encrypted with its group's key. Which of them a file
 * is, its first bytes say; both are read, whatever the store does now.
 *
 * The name that a box is bound to is "streams/<stream>/<first>-<last>", taken from the last parts
 * of the file's path, streams/<stream>/<folder>/<first>-<last>.<ending>: a copy keeps those. */
#ifndef TIDE_COORDINATOR_STORE_SEGMENT_FILE_H
#define TIDE_COORDINATOR_STORE_SEGMENT_FILE_H

#include <limits.h>

#include "common/hrl/source.h"
#include "coordinator/store/keyring.h"

struct segment_file {
    int fd;
    char path[PATH_MAX];
    struct box_reader *box; /* NULL: as it came */
};

/* How a store writes its segments. */
struct segment_form {
    struct keyring *keyring; /* NULL: as they came */
    int level;               /* of compression in a box: 0..BOX_LEVEL_MAX */
};

/* keyring may be NULL. Close where it returned 0; until then it must not move.
 *   NOT_FOUND, IO  with the path named
 *   DENIED         its key is not there: keyring_find()
 *   CORRUPT, VERSION, LIMIT  of a box; LIMIT also: no memory */
int segment_file_open(struct segment_file *file, struct keyring *keyring, const char *path,
                      struct err *err);
void segment_file_close(struct segment_file *file);
/* The segment as file 0 of it; the segment_file must outlive it. */
struct source segment_file_source(struct segment_file *file);

/* All of a segment, at most TIDE_SEGMENT_MAX bytes (LIMIT), from malloc. Errors as above. */
int segment_file_read(struct keyring *keyring, const char *path, uint8_t **ret_bytes,
                      size_t *ret_size, struct err *err);

/* Puts a segment of a stream of that group where `path` says, durable on return; either whole or
 * not there. FULL, IO, LIMIT. */
int segment_file_write(const struct segment_form *form, const struct name *group, const char *path,
                       const void *bytes, size_t size, struct err *err);

#endif
