/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: STORE/streams/<hex>/manifest.jsonl, one JSON object a line, only ever appended to:
 *   {"type":"created","stream":H,"timeline":H,"disk_id":H,"group":..,"member":..,"disk":..,
 *    "size":N,"block_size":N}                                  always the first line
 *   {"type":"segment","first":N,"last":N,"hash":H,"size":N}    in order, without a hole
 *   {"type":"tag","point":H,"lsn":N,"cut":H,"label":"aligned"|"unaligned"}
 *   {"type":"fork","first":N,"hash":H}                         what came; the stream is stopped
 * `size` in `created` is the disk's when the stream was first registered; what it is at an LSN the
 * stream itself says.
 * A last line without its newline, or with zero bytes in it, is what a crash leaves: it is not
 * there. */
#ifndef TIDE_COORDINATOR_STORE_MANIFEST_H
#define TIDE_COORDINATOR_STORE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"

#define TIDE_MANIFEST_MAX  (1024U * 1024 * 1024) /* bytes of one manifest */
#define TIDE_MANIFEST_LINE 1024U                 /* bytes of one line, newline included */

/* What a stream is, from the `created` line of its manifest. */
struct manifest_stream {
    struct id stream;
    struct id timeline;
    struct id disk_id;
    struct name group; /* labels at creation */
    struct name member;
    struct name disk;
    uint64_t size; /* of the disk when it was first registered, bytes */
    uint32_t block_size;
};

struct manifest_segment {
    uint64_t first;
    uint64_t last;
    struct hash hash;
    struct hash before;        /* as the segment's header says */
    uint64_t incarnation;      /* in force before it, as its header says; 0 from a manifest */
    uint64_t last_incarnation; /* in force after it; 0 from a manifest */
    uint64_t size;             /* bytes of the file */
};

/* A stream's part of a point. */
struct manifest_tag {
    struct id point;
    uint64_t lsn;
    struct hash cut;
    bool unaligned;
};

struct manifest {
    struct manifest_stream stream;
    struct manifest_segment *segments; /* in order, without a hole: checked */
    size_t segment_count;
    struct manifest_tag *tags;
    size_t tag_count;
    bool forked;
    bool torn;           /* the last line was not whole */
    uint64_t whole_size; /* bytes of the file up to the last whole line */
};

/* Reads the manifest of a stream as it is now; no lock, also beside a running coordinator. *ret is
 * to be freed with manifest_close().
 *   NOT_FOUND  the stream is not in the store, or its first line was never finished
 *   CORRUPT    a whole line is not one of the above or out of order (file and line are named)
 *   IO, LIMIT  */
int manifest_read(const char *store, const struct id *stream, struct manifest *ret,
                  struct err *err);
void manifest_close(struct manifest *m);

/* One line with its newline, NUL-terminated; returns its length. */
size_t manifest_line_created(const struct manifest_stream *s, char ret[TIDE_MANIFEST_LINE]);
size_t manifest_line_segment(const struct manifest_segment *s, char ret[TIDE_MANIFEST_LINE]);
size_t manifest_line_tag(const struct manifest_tag *t, char ret[TIDE_MANIFEST_LINE]);
size_t manifest_line_fork(uint64_t first, const struct hash *hash, char ret[TIDE_MANIFEST_LINE]);

/* Paths under the store, of PATH_MAX bytes: STORE/streams/<hex>/manifest.jsonl,
 * STORE/streams/<hex>/segments/<first>-<last>.hrl and
 * STORE/streams/<hex>/staged/<first>-<last>.staged */
void manifest_path(const char *store, const struct id *stream, char *ret_path);
void manifest_segment_path(const char *store, const struct id *stream, uint64_t first,
                           uint64_t last, char *ret_path);
void manifest_staged_path(const char *store, const struct id *stream, uint64_t first, uint64_t last,
                          char *ret_path);
/* Whether a file's name is that of a segment, or of a staged one: its range. */
bool manifest_segment_name(const char *name, uint64_t *ret_first, uint64_t *ret_last);
bool manifest_staged_name(const char *name, uint64_t *ret_first, uint64_t *ret_last);

#endif
