/* SPDX-License-Identifier: Apache-2.0 */
/* ring: the log's files (common/hrl/log.h): preallocated, appended to, recycled in place. The
 * caller serialises everything but ring_sync() with the append lock. A file is recycled whole: once
 * all its records are free, the next file in turn may overwrite it. */
#ifndef TIDE_PARTICIPANT_TAP_RING_H
#define TIDE_PARTICIPANT_TAP_RING_H

#include "common/core/err.h"
#include "common/hrl/log.h"

#include <sys/uio.h>

#define TIDE_RING_SIZE_MIN (8U * 1024 * 1024)  /* bytes of the whole log */
#define TIDE_RING_SIZE_MAX (UINT64_C(1) << 40) /* bytes of the whole log */
#define TIDE_RING_RESERVE  (64U * 1024)        /* kept for seals, gaps, attaches */

struct ring {
    struct log_ring geometry;
    int fds[TIDE_LOG_FILES_MAX];            /* owned */
    uint64_t first_lsn[TIDE_LOG_FILES_MAX]; /* of the sequence that each holds, tail to head */
    uint64_t incarnations[TIDE_LOG_FILES_MAX];
    uint64_t position;    /* where the next record goes, but for the end of a file */
    uint64_t covered;     /* of this round as far as here: the end of a page, or `position` */
    uint64_t incarnation; /* in force there */
    uint64_t tail;        /* sequence of the oldest file that is not free */
    uint64_t retired;     /* files before it can be written over; at most the tail */
    uint64_t head;        /* sequence of the file being written */
    bool empty;           /* nothing was ever written: not even the first header */
};

/* Files for a log of about `bytes` (TIDE_RING_SIZE_MIN..MAX). */
struct log_ring ring_geometry(uint64_t bytes, const struct id *stream);

/* Makes and preallocates folder/ring-000 …; FULL where there is no room, IO. */
int ring_create(struct ring *ring, const char *folder, const struct log_ring *geometry,
                struct err *err);

/* Opens what ring_create() made. position/incarnation: of the checkpoint, from where the caller
 * reads on and then calls ring_resume(). NOT_FOUND, IO, CORRUPT: a file is missing or too short. */
int ring_open(struct ring *ring, const char *folder, const struct log_ring *geometry,
              struct err *err);

/* The log goes on at `position` (a reader's end), where record `lsn` is due. */
int ring_resume(struct ring *ring, uint64_t position, uint64_t lsn, uint64_t incarnation,
                struct err *err);
/* After it, where the log was ended before what lies in it: the first record behind the end would
 * count, being due, if the one that takes its place does not fit there and goes to the next file.
 * Its head is zeroed; the caller syncs it with that record. -1 with errno set. */
int ring_forget(const struct ring *ring);
void ring_close(struct ring *ring);

/* The ring's files as a source for log_reader; good until ring_close(). */
struct source ring_source(struct ring *ring);

/* Begins anew with LSN 1 of another stream, in the same files: what lies in them is of the old one,
 * and counts no more. */
void ring_restart(struct ring *ring, const struct id *stream);

/* Whether a record of size bytes can be appended and `reserve` bytes would be left after it. */
bool ring_room(const struct ring *ring, uint64_t size, uint64_t reserve);

/* Appends record `lsn`, whose bytes are in parts (1 to 3), and zeroes up to the end of the page
 * behind it, which the next record overwrites. 0 with *ret_position; -1 with errno
 * set: what is then in the file past the record before is undefined, and is not the record. */
int ring_append(struct ring *ring, uint64_t lsn, struct iovec *parts, int count, uint64_t size,
                uint64_t *ret_position);

/* Records up to lsn are wanted no more: the tail moves past the files that hold nothing newer. They
 * can be written over once they are retired. */
void ring_free(struct ring *ring, uint64_t lsn);

/* Whether there is something to free or to retire for ring_free(lsn). */
bool ring_can_free(const struct ring *ring, uint64_t lsn);

/* Zeroes the headers of the free files, durably, so that a power cut cannot leave an old header
 * over newer records. Without the append lock, if nobody else retires or restarts meanwhile: `end`
 * is the tail as it was under the lock. -1 with errno set. */
int ring_retire(const struct ring *ring, uint64_t end);
void ring_reuse(struct ring *ring, uint64_t end); /* after it, under the lock */

/* fdatasync of the files that hold [from, to]. Needs no lock. -1 with errno set. */
int ring_sync(const struct ring *ring, uint64_t from, uint64_t to);

uint64_t ring_capacity(const struct ring *ring);
uint64_t ring_used(const struct ring *ring);

/* The oldest record that is not free. */
void ring_tail(const struct ring *ring, uint64_t *ret_lsn, uint64_t *ret_position,
               uint64_t *ret_incarnation);

#endif
