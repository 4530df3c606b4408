/* SPDX-License-Identifier: Apache-2.0 */
/* tap_far: daemon and far side of one tap in one: follows the log as it grows and wraps, from LSN
 * 1, keeps the disk that it stands for, tells the tap what is stored, and compares for a copy that
 * asks. Everything asserts. */
#ifndef TIDE_TESTS_SYSTEM_TAP_FAR_H
#define TIDE_TESTS_SYSTEM_TAP_FAR_H

#include "common/hrl/whole.h"
#include "tests/system/tap_rig.h"

struct tap_far {
    struct tap_ctl *ctl; /* not owned */
    const struct tap_rig *rig;
    struct log_reader reader;
    uint8_t *buffer;
    uint8_t *image; /* size_max bytes */
    uint64_t size_max;
    uint64_t size; /* of the disk, as the stream says */
    struct whole whole;
    uint64_t records[16]; /* by type; others at 0 */
    uint64_t block_bytes; /* of copy blocks */
    uint64_t zero_bytes;  /* of copies' zeroes */
    struct record_copy_begin begin;
    struct record_gap gap;       /* the last */
    struct record_attach attach; /* the last; its serial too */
    uint64_t compared_blocks;    /* told */
    uint64_t differing_blocks;   /* of these */
};

/* After each (re)connection; the first time, and where the stream is another one, from LSN 1. */
void tap_far_connect(struct tap_far *far, const struct tap_rig *rig, struct tap_ctl *ctl,
                     uint64_t size_max);
void tap_far_close(struct tap_far *far);

/* Reads what is synced, then STORED. */
void tap_far_follow(struct tap_far *far);
/* As follow, and COMPARED for some blocks if the copy asks. */
void tap_far_serve(struct tap_far *far);
/* Serves until the tap is whole, then follows; with work (may be NULL) in between. */
void tap_far_wait_whole(struct tap_far *far, void (*work)(void));
/* What was read is the image, byte by byte, and the reader's rule says whole. */
void tap_far_equals(struct tap_far *far);

#endif
