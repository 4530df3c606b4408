/* SPDX-License-Identifier: Apache-2.0 */
/* store: the replica store as a folder that a person can read. It alone is the truth; the catalog
 * is made from it.
 *
 *   owner.json                             who has it open; locked (flock) while open for writing
 *   groups/<group>.json                    what was applied, and which streams are registered
 *   definitions/<group>/<epoch, 20 digits>.pb    stored bytes; .json beside it is for people
 *   streams/<stream hex>/manifest.jsonl    append-only lines: created, segment, tag, fork
 *   streams/<stream hex>/segments/<first, 20 digits>-<last, 20 digits>.hrl
 *   streams/<stream hex>/staged/<first>-<last>.staged    came before their turn (staged.h)
 *   points/<group>/<round hex>.json        one object a point, naming all its streams
 *
 * An object appears whole or not at all: temporary name, fsync, rename, fsync of the folder. What
 * crashed in between leaves only temporary names, which the next start removes, or a segment
 * without its manifest line, which the next start appends.
 *
 * Threads: functions on different streams may run at once; two on the same stream may too (they
 * queue on the stream's lock). Opening, closing and creating streams is one thread's. */
#ifndef TIDE_COORDINATOR_STORE_STORE_H
#define TIDE_COORDINATOR_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"
#include "common/hrl/segment.h"
#include "coordinator/store/manifest.h"
#include "coordinator/store/object.h"
#include "coordinator/store/segment_file.h"

#define TIDE_STORE_STREAMS_MAX 65536U

struct store; /* open for writing; one process at a time */

/* Called with one line for the log about what the recovery at start found and did, and about
 * forks. */
typedef void store_note_fn(void *context, const char *text);

struct store_stream_state {
    uint64_t stored_lsn;   /* 0: nothing yet */
    uint64_t received_lsn; /* that, or the end of the staged ones that follow it without a hole */
    struct hash head;      /* of the last segment; zero: none */
    bool forked;           /* stopped: the same LSN came with another content */
    bool damaged;          /* stopped: what the manifest names is not in the folder, see the log */
};

/* Opens STORE (made if absent) for writing, locks it, recovers.
 *   CONFLICT  another process has it open (the text names it)
 * form (copied; NULL: as they came): how segments are written from now on; its keyring must outlive
 * the store. A stream whose folder contradicts itself in a way that no crash explains is noted and
 * stopped (damaged); the others go on. IO, FULL  the system refused LIMIT     no memory, or over a
 * limit: no stream is called damaged for that */
int store_open(const char *path, const struct segment_form *form, store_note_fn *note,
               void *context, struct store **ret, struct err *err);
void store_close(struct store *store);                    /* takes NULL */
struct keyring *store_keyring(const struct store *store); /* may be NULL */
const char *store_path(const struct store *store);

/* Makes the stream's folder and `created` line, durable on return. The same again: nothing to do.
 * Another size of the disk alone is the same again, and the first one stays. Another timeline, disk
 * id or block size for a known stream: CONFLICT, as for one whose manifest is there and could not
 * be read at the start. LIMIT: no memory, or over a limit. */
int store_stream_create(struct store *store, const struct manifest_stream *stream, struct err *err);
bool store_stream_get(struct store *store, const struct id *stream,
                      struct manifest_stream *ret_stream, struct store_stream_state *ret_state);
/* Calls back for every stream, in the order of their ids. On the thread that creates them. */
typedef int store_stream_fn(void *context, const struct manifest_stream *stream, struct err *err);
int store_stream_each(struct store *store, store_stream_fn *fn, void *context, struct err *err);

enum store_put {
    STORE_TAKEN,  /* it is new and durable */
    STORE_KNOWN,  /* the same bytes were there already, or staged */
    STORE_STAGED, /* it is durable, and waits for what is before it */
};
/* Stores a segment whose bytes were verified by the caller, or stages it where an earlier LSN is
 * due; durable when it returns 0. After each that is taken, store_staged_due() tells whether the
 * next one has come already.
 *   NOT_FOUND no such stream
 *   CONFLICT  fork (now recorded: ret_state->forked), stopped by an earlier one or as damaged
 *   BUSY      an earlier LSN is due, and no more is staged (staged.h)
 *   FULL, IO  the store could not take it; nothing stored changed, try again later
 * *ret_state is set in every case but NOT_FOUND. */
int store_put(struct store *store, const struct id *stream, const struct manifest_segment *segment,
              const void *bytes, enum store_put *ret_put, struct store_stream_state *ret_state,
              struct err *err);

/* Reads back the staged segment that is due now, and verifies it again: true, with its bytes
 * (heap), to be given to store_put(). False: none is due; or it cannot be read now, and stays; or
 * it is damaged, and was dropped (noted). */
bool store_staged_due(struct store *store, const struct id *stream, struct manifest_segment *ret,
                      uint8_t **ret_bytes);

/* The whole check of a segment in memory (segment_verify()). */
int store_check_segment(const void *bytes, size_t size, struct segment_info *ret, struct err *err);

/* Appends a tag line, durable on return. */
int store_tag(struct store *store, const struct id *stream, const struct manifest_tag *tag,
              struct err *err);

#endif
