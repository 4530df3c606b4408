/* SPDX-License-Identifier: Apache-2.0 */
/* state: what a tap remembers outside its ring, in the file `state` of its log folder: two slots of
 * 4096 bytes, written in turn, each with a sequence number and a CRC32C, synced before a write
 * returns. The newest slot with a good checksum holds. The file is made whole by rename, so a file
 * without a good slot is damage, not a first start. Layout of a slot: README.md of this folder. */
#ifndef TIDE_PARTICIPANT_TAP_STATE_H
#define TIDE_PARTICIPANT_TAP_STATE_H

#include "common/core/err.h"
#include "common/core/id.h"

#define TIDE_STATE_SLOT 4096U
#define TIDE_STATE_TEXT 96U /* of an identity, NUL included */

struct state {
    uint64_t sequence; /* of the slot; state_write() counts it up */
    struct id stream;
    struct id timeline;
    struct id disk;
    uint64_t image_size;
    uint64_t image_mtime_ns;        /* with clean: as it was left; 0 for a device */
    char image_id[TIDE_STATE_TEXT]; /* identity.h; empty: not known */
    char machine[TIDE_STATE_TEXT];  /* identity.h; empty: not known */
    struct id boot;                 /* of the machine at the last attach */
    uint64_t alive_ns;              /* wall clock when this was written; since 1970 */
    uint64_t incarnation;           /* of the last attach */
    uint64_t incarnation_before;    /* that the image named before it; 0: none */
    bool image_lost; /* as of the tap: the system may show what the disk does not hold */
    bool replaying;  /* a replay has begun: the image's time is its own */
    bool clean;      /* detached; nothing has been served since */
    uint32_t ring_files;
    uint64_t ring_file_size;

    /* The state word and the reserved place for a gap that the log could not take. */
    bool whole;
    uint8_t gap_reason; /* enum record_gap_reason; 0: none */
    uint64_t gap_lsn;

    /* The copy that mends it: its COPY_BEGIN (0: none under way). copy_zero: no gap but `base`, so
     * what reads as zeroes need not be sent. compare: the blocks of the map are suspect, and sent
     * only where the far side's differ. map_lost: the map's file is not what it was in memory. */
    uint64_t copy_lsn;
    bool copy_zero;
    bool compare;
    bool map_lost;

    /* Checkpoint: all changes below due_lsn are on stable storage in the image; the record due_lsn
     * lies, or will lie, at position, incarnation being in force before it. */
    uint64_t due_lsn;
    uint64_t due_position;
    uint64_t due_incarnation;
    uint64_t open_lsn; /* a bookmark below due_lsn that had no seal yet; 0: none */
    struct id open_round;

    uint64_t stored_lsn; /* the far side holds all up to here */

    /* A log write or sync has failed: nothing at or after end_lsn counts. 0: no such end. */
    uint64_t end_lsn;
    uint64_t end_position;
};

/* CORRUPT: no good slot; VERSION; IO. */
int state_read(int fd, struct state *ret, struct err *err);

/* Makes folder/state with one good slot, durably, and opens it. IO, FULL. */
int state_create(const char *folder, struct state *state, int *ret_fd, struct err *err);

/* Writes the slot that is not the newest, and syncs it. IO: the file's content is then one of old
 * and new, and the caller must not count on the new one. */
int state_write(int fd, struct state *state, struct err *err);

#endif
