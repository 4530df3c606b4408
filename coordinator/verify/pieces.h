/* SPDX-License-Identifier: Apache-2.0 */
/* pieces: what lies in a folder that may hold a point: segments, definitions, and which bookmarks
 * name the point. Only headers and footers are looked at, and nothing is believed: evidence.h reads
 * what it needs whole. The folder is a store's, or any other with copies of the same files. */
#ifndef TIDE_COORDINATOR_VERIFY_PIECES_H
#define TIDE_COORDINATOR_VERIFY_PIECES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/core/round.h"
#include "common/hrl/segment.h"
#include "coordinator/store/keyring.h"

#define PIECES_SEGMENTS_MAX    1000000U
#define PIECES_DEFINITIONS_MAX 65536U
#define PIECES_NAMED_MAX       4096U /* bookmarks that name the point */

struct piece {
    char *path;
    struct segment_info info;
};

struct piece_named {
    struct id stream;
    struct round_order order;
};

struct pieces {
    struct piece *segments; /* by stream, first LSN, path */
    size_t segment_count;
    size_t segment_room;
    char **definitions; /* paths */
    size_t definition_count;
    size_t definition_room;
    struct keyring *keyring; /* not owned; may be NULL */
    struct piece_named *named;
    size_t named_count;
    size_t named_room;
    size_t bad_count; /* segments that could not be read */
    struct err bad;   /* the first of them */
};

/* Finds *.hrl, and definitions/GROUP/EPOCH.pb, anywhere under `folder`; `named` are the bookmarks
 * of rounds whose id begins with the lower-case hex digits of `prefix`. *ret is to be closed. The
 * keyring, NULL or of the store, must outlive it.
 *   NOT_FOUND, IO, DENIED  the folder, or one in it, cannot be read
 *   LIMIT                  over the limits above, or no memory */
int pieces_find(const char *folder, struct keyring *keyring, const char *prefix, struct pieces *ret,
                struct err *err);
void pieces_close(struct pieces *pieces);

/* The segments of one stream, *ret_count of them; NULL: there are none. */
const struct piece *pieces_of(const struct pieces *pieces, const struct id *stream,
                              size_t *ret_count);

#endif
