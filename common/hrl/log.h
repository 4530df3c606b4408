/* SPDX-License-Identifier: Apache-2.0 */
/* log: the tap's private form of the stream: a ring of preallocated, recycled files, specified in
 * proto/hrl.md. Here: the header of a file, and a reader over a source table (the ring's files in
 * ring order) for the tap's replay and for the daemon, which reads passed descriptors up to a
 * synced LSN while the tap goes on appending. Pure; no allocation.
 *
 * Logical position p (it only grows) lies in ring file (p / file_size) % files at p % file_size.
 * The file with sequence number s holds positions [s * file_size, (s + 1) * file_size); its first
 * TIDE_LOG_HEADER bytes are its header, its first record follows at once. A record never crosses a
 * file. A record counts only if stream, LSN and incarnation are those due; an ATTACH with the due
 * LSN and another incarnation begins that incarnation. Incarnation 0 means none yet: only an ATTACH
 * is due. */
#ifndef TIDE_COMMON_HRL_LOG_H
#define TIDE_COMMON_HRL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hrl/record.h"
#include "common/hrl/source.h"

#define TIDE_LOG_HEADER    512U
#define TIDE_LOG_FILES_MIN 2U
#define TIDE_LOG_FILES_MAX 64U
#define TIDE_LOG_FILE_MIN  4096U                          /* bytes; a multiple of 512 */
#define TIDE_LOG_FILE_MAX  (UINT64_C(1) << 40)            /* bytes */
#define TIDE_LOG_BUFFER    (TIDE_RECORD_MAX + 64U * 1024) /* a reader's buffer that always does */

struct log_header {
    struct id stream;
    uint64_t sequence;    /* logical file number: position / file_size */
    uint64_t file_size;   /* bytes, header included */
    uint64_t first_lsn;   /* of the first record that will be written to this file */
    uint64_t incarnation; /* in force before that record; 0: none */
};

/* Aborts where a number is out of range (programmer error). */
void log_header_encode(const struct log_header *header, uint8_t ret_to[TIDE_LOG_HEADER]);
/* CORRUPT: magic, checksum, a reserved byte or a number is wrong; VERSION: another draft. */
int log_header_decode(const uint8_t from[TIDE_LOG_HEADER], struct log_header *ret, struct err *err);

struct log_ring {
    struct id stream;
    uint32_t files;     /* TIDE_LOG_FILES_MIN..MAX */
    uint64_t file_size; /* TIDE_LOG_FILE_MIN..MAX, a multiple of 512 */
};

/* Why a reader found no further record. */
enum log_end {
    LOG_END_NONE,    /* there was one */
    LOG_END_CLEAN,   /* nothing due here, and nothing that looks like a torn record */
    LOG_END_TORN,    /* the head of the due record is here, its checksum or values are wrong */
    LOG_END_THROUGH, /* the next record lies past through_lsn */
};

struct log_reader {
    struct source_window window;
    struct log_ring ring;
    uint64_t position;    /* of the next record; while at an end: where the writer goes on */
    uint64_t lsn;         /* due next */
    uint64_t incarnation; /* in force */
    uint64_t through_lsn; /* last LSN to return; UINT64_MAX (as initialised): to the end */
    enum log_end end;     /* of the last log_reader_next() */
    struct err torn;      /* with LOG_END_TORN: what was wrong with it, and where */
};

/* Starts where record `lsn` is due with `incarnation` in force before it. A position at the very
 * start of a file is that file's header. Buffer: the caller's, at least as large as the largest
 * record; TIDE_LOG_BUFFER always does. Aborts where ring or buffer are out of range. */
void log_reader_init(struct log_reader *reader, const struct source *source,
                     const struct log_ring *ring, uint64_t position, uint64_t lsn,
                     uint64_t incarnation, void *buffer, size_t buffer_size);

/* Next record: returns 0 with reader->end LOG_END_NONE and *ret, *ret_bytes (its encoded bytes with
 * padding) and *ret_size set, good until the next call; or 0 with another reader->end and the
 * outputs untouched: then position, lsn and incarnation say where the writer goes on, and a later
 * call looks again (the file is read anew). Fails with
 *   IO, NOT_FOUND  the source's
 *   VERSION        a record of the due LSN whose type this build does not know, or a file of
 *                  another draft
 *   LIMIT          a record larger than the buffer */
int log_reader_next(struct log_reader *reader, struct record *ret, const uint8_t **ret_bytes,
                    size_t *ret_size, struct err *err);

/* Reads the header of the ring file that holds `sequence`, whatever it carries: CORRUPT where it is
 * not that file's header (other stream, sequence, file size). */
int log_read_header(const struct source *source, const struct log_ring *ring, uint64_t sequence,
                    struct log_header *ret, struct err *err);

/* Where a record of `size` bytes goes if the next free position is `position`: there, or just
 * behind the header of the next file (then *ret_new_file). */
uint64_t log_place(const struct log_ring *ring, uint64_t position, size_t size, bool *ret_new_file);

#endif
