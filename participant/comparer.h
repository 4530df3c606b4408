/* SPDX-License-Identifier: Apache-2.0 */
/* comparer: the thread that finds out, for disks whose tap says `comparing` (common/core/tapctl.h),
 * which blocks are not what the far side has: asks the coordinator for the hashes of its blocks,
 * reads the same blocks of the image, and tells the tap which differ (COMPARED), in the order of
 * the disk. One for all disks of the daemon; they take turns, about COMPARER_STEP_MS of reading
 * each.
 *
 * One LSN for one copy. The far side's disk is taken as of one LSN S, which is at least the copy's
 * begin, from the first question of that copy to its last: what the far side has stored when all up
 * to the begin is there. A new copy (another copy_lsn) or session starts over, with an S of its
 * own.
 *
 * Why the image may be read beside the guest, without any lock: each byte on its own. It is read
 * after the copy's begin was logged, for STATE, which tells of that begin, is what starts it; any
 * time later is as good. If no record since the begin changes the byte, then the far side's at S is
 * the stream's at the begin, and the image's is the disk's at the begin: to find them equal is to
 * find the byte right. If one does, the last such record says what the byte is in the stream and on
 * the disk alike, whatever was read here: equal by chance does no harm, and different sends a block
 * for nothing. So no moment need be shared by two bytes, nor by the two sides. What was read before
 * the begin would not do: a change from before it that the log did not take could come between.
 *
 * Limits: reading the image, over all disks, at settings.compare_rate bytes a second (holes are not
 * read and cost nothing); memory: the hashes of one question and one block. What fails is tried
 * again: after COMPARER_RETRY_MIN_US, doubling to COMPARER_RETRY_MAX_US (COMPARER_BUSY_MAX_US where
 * the far side only has to get ready), and where no retry mends it (the stream is forked or damaged
 * there) every COMPARER_STOPPED_US, each with jitter, with its reason in the status and once in the
 * log. */
#ifndef TIDE_PARTICIPANT_COMPARER_H
#define TIDE_PARTICIPANT_COMPARER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/io/tls.h"
#include "participant/port.h"
#include "participant/settings.h"

#define COMPARER_STEP_MS      500U     /* of reading for one question, at the rate */
#define COMPARER_LOOK_US      20000U   /* how often a tap's answer is looked for */
#define COMPARER_IDLE_US      200000U  /* and whether a tap wants comparing at all */
#define COMPARER_SENT_US      5000000U /* COMPARED is sent again where nothing came of it by then */
#define COMPARER_RETRY_MIN_US 100000U
#define COMPARER_RETRY_MAX_US 5000000U
#define COMPARER_BUSY_MAX_US  1000000U
#define COMPARER_STOPPED_US   30000000U
#define COMPARER_TEXT_MAX     255

struct comparer;

struct comparer_disk {
    struct port *port;
    const char *name; /* GROUP/MEMBER/DISK, for the log; copied */
};

struct comparer_status {
    uint64_t blocks;  /* told to the tap since the daemon began; again counts again */
    uint64_t differs; /* of them */
    char text[COMPARER_TEXT_MAX + 1]; /* why it does not go on now; "": it does, or need not */
};

/* Starts the thread. What is pointed to must outlive it, but for the array. IO, LIMIT;
 * uplink_new()'s errors. */
int comparer_start(const struct settings *settings, const struct tls_identity *identity,
                   const struct comparer_disk *disks, unsigned count, uint64_t seed,
                   struct comparer **ret, struct err *err);
/* Tells the thread to end; returns at once. NULL: nothing. */
void comparer_stop(struct comparer *comparer);
/* Waits until deadline_us; false: it still runs (then leave the process by _exit). Its status may
 * be asked for still. NULL: true. */
bool comparer_join(struct comparer *comparer, uint64_t deadline_us);
void comparer_free(struct comparer *comparer); /* joined, and nobody asks any more; takes NULL */

void comparer_status(struct comparer *comparer, unsigned disk, struct comparer_status *ret);

#endif
