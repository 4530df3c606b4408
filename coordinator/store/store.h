/* SPDX-License-Identifier: Apache-2.0 */
/* store: the replica store as a folder that a person can read. It alone is the truth; the catalog
 * is made from it.
 *
 *   owner.json                             who has it open; locked (flock) while open for writing
 *   groups/<group>.json                    what was applied, and which streams are registered
 *   definitions/<group>/<epoch, 20 digits>.pb    stored bytes; .json beside it is for people
 *   streams/<stream hex>/manifest.jsonl    append-only lines: created, segment, tag, fork
 *   streams/<stream hex>/segments/<first, 20 digits>-<last, 20 digits>.hrl
 *   points/<group>/<round hex>.json        one object a point, naming all its streams
 *
 * An object appears whole or not at all: temporary name, fsync, rename, fsync of the folder. What
 * crashed in between leaves only temporary names, which the next start removes, or a segment
 * without its manifest line, which the next start appends.
 *
 * Threads: functions on different streams may run at once; two on the same stream may too (they
 * queue on the stream's lock). Opening and closing is one thread's. Texts in `struct
 * store_stream_state` are never changed after creation. */
#ifndef TIDE_COORDINATOR_STORE_STORE_H
#define TIDE_COORDINATOR_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"

#define TIDE_STORE_STREAMS_MAX 65536U

struct store; /* open for writing; one process at a time */

/* Called with one line for the log about what the recovery at start found and did, and about
 * forks. */
typedef void store_note_fn(void *context, const char *text);

/* What a stream is, from the `created` line of its manifest. */
struct store_stream {
    struct id stream;
    struct id timeline;
    struct id disk_id;
    struct name group; /* labels at creation */
    struct name member;
    struct name disk;
    uint64_t size; /* of the disk, bytes */
    uint32_t block_size;
};

struct store_stream_state {
    uint64_t stored_lsn; /* 0: nothing yet */
    struct hash head;    /* of the last segment; zero: none */
    bool forked;
};

struct store_segment {
    uint64_t first;
    uint64_t last;
    struct hash hash;
    struct hash before; /* as the segment's header says; only set by store_put() */
    uint64_t size;      /* bytes of the file */
};

/* A stream's part of a point. */
struct store_tag {
    struct id point;
    uint64_t lsn;
    struct hash cut;
    bool unaligned;
};

/* Opens STORE (made if absent) for writing, locks it, recovers.
 *   CONFLICT  another process has it open (the text names it)
 *   CORRUPT   a manifest or segment contradicts itself in a way that no crash explains
 *   IO, FULL  the system refused */
int store_open(const char *path, store_note_fn *note, void *context, struct store **ret,
               struct err *err);
void store_close(struct store *store); /* takes NULL */
const char *store_path(const struct store *store);

/* Makes the stream's folder and `created` line, durable on return. The same again: nothing to do.
 * Another disk size, timeline or disk id for a known stream: CONFLICT. */
int store_stream_create(struct store *store, const struct store_stream *stream, struct err *err);
bool store_stream_get(const struct store *store, const struct id *stream,
                      struct store_stream *ret_stream, struct store_stream_state *ret_state);
/* Calls back for every stream, in the order of their ids. Not while streams are created. */
typedef int store_stream_fn(void *context, const struct store_stream *stream, struct err *err);
int store_stream_each(struct store *store, store_stream_fn *fn, void *context, struct err *err);

enum store_put {
    STORE_TAKEN, /* it is new and durable */
    STORE_KNOWN, /* the same bytes were there already */
};
/* Stores a segment whose bytes were verified by the caller; durable when it returns 0.
 *   NOT_FOUND no such stream
 *   CONFLICT  fork (now recorded: ret_state->forked), stopped by an earlier fork, or out of order:
 *             the text says where the stream is
 *   FULL, IO  the store could not take it; nothing changed, try again later
 * *ret_state is set in every case but NOT_FOUND. */
int store_put(struct store *store, const struct id *stream, const struct store_segment *segment,
              const void *bytes, enum store_put *ret_put, struct store_stream_state *ret_state,
              struct err *err);

/* Appends a tag line, durable on return; one that is there already is not appended again. */
int store_tag(struct store *store, const struct id *stream, const struct store_tag *tag,
              struct err *err);

/* Puts an object at a path under STORE, durable on return; folders are made. With replace false
 * an object that exists must have the same bytes, else CONFLICT. */
int store_object_put(struct store *store, const char *relative, const void *bytes, size_t size,
                     bool replace, struct err *err);

/* ---- reading; no lock, also beside a running coordinator ---- */

/* Whole file to the heap; at most max bytes (LIMIT). NOT_FOUND where absent. One NUL follows. */
int store_object_get(const char *store_path, const char *relative, size_t max, char **ret_bytes,
                     size_t *ret_size, struct err *err);

/* Names in STORE/relative that end with `suffix`, sorted, in a NULL-terminated heap array, to be
 * freed with store_names_free(). An absent folder is an empty list. */
int store_names(const char *store_path, const char *relative, const char *suffix, char ***ret_names,
                size_t *ret_count, struct err *err);
void store_names_free(char **names);

/* The manifest of a stream as it is now. A torn last line is passed over. */
struct store_manifest {
    struct store_stream stream;
    struct store_segment *segments; /* in order, without a hole: checked */
    size_t segment_count;
    struct store_tag *tags;
    size_t tag_count;
    bool forked;
    bool torn;           /* the last line was not whole */
    uint64_t whole_size; /* bytes of the file up to the last whole line */
};
int store_manifest_read(const char *store_path, const struct id *stream, struct store_manifest *ret,
                        struct err *err);
void store_manifest_close(struct store_manifest *m);

/* STORE/streams/<hex>/segments/<first>-<last>.hrl; ret_path of PATH_MAX bytes. */
void store_segment_path(const char *store_path, const struct id *stream, uint64_t first,
                        uint64_t last, char *ret_path);

#endif
