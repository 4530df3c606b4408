/* SPDX-License-Identifier: Apache-2.0 */
/* tapjudge: what a tap's image and stream must be, told from the changes that were asked of it and
 * from nothing that the tap says: each change fills its sectors with bytes that name it, so that a
 * sector read anywhere is known. Judges an image by which changes are certain, and a stream by the
 * library's reader: its records are the changes in their order, and what they give on zeroes at a
 * bookmark that counts is what the disk was. */
#ifndef TIDE_TESTS_SYSTEM_TAPJUDGE_H
#define TIDE_TESTS_SYSTEM_TAPJUDGE_H

#include "common/hrl/whole.h"
#include "tests/lib/crashdisk.h"
#include "tests/system/taplab.h"

struct tapjudge_change {
    bool zero;
    unsigned sector;
    unsigned count;
    bool failed; /* the guest was told so: what is there then is the image's affair */
};

struct tapjudge_far { /* a record that the far side has stored */
    uint64_t lsn;
    size_t size;
    const uint8_t *bytes; /* of the module's */
};

#define TAPJUDGE_FAR_MAX 2048

struct tapjudge {
    unsigned ring_files;
    uint64_t ring_file_size;
    struct tapjudge_change changes[TAPLAB_CHANGES_MAX];
    unsigned count;
    uint8_t base[TAPLAB_SECTORS]; /* before change `base` of the model: a change's number, or
                                     TAPLAB_ZERO */
    uint8_t bookmarks[TAPLAB_ROUNDS_MAX][TAPLAB_SECTORS]; /* the disk at each */
    struct tapjudge_far far[TAPJUDGE_FAR_MAX];
    size_t far_count;

    /* Of the last tapjudge_stream(): */
    struct whole whole;
    bool whole_before; /* it was whole before its last attach */
    uint64_t last_lsn;
    uint64_t end_lsn;
    uint8_t replayed[TAPLAB_SECTORS];
    bool touched[TAPLAB_SECTORS]; /* a record says what is there */
    unsigned points;              /* bookmarks that count */
    unsigned gap;                 /* reason of the last gap; 0: none */
    uint64_t replayed_from;       /* as the last attach says */
    uint64_t replayed_to;
    char end[192]; /* where the ring's reader stopped, and why */
    char why[384];
};

void tapjudge_init(struct tapjudge *judge, unsigned ring_files, uint64_t ring_file_size);
void tapjudge_close(struct tapjudge *judge); /* and all its copies */

/* The bytes that a change puts there. */
void tapjudge_fill(unsigned change, unsigned sector, uint8_t to[CRASHDISK_SECTOR]);

/* Takes down the next change; its number. */
unsigned tapjudge_change(struct tapjudge *judge, bool zero, unsigned sector, unsigned count);
/* The disk at the bookmark of that round: the base and the changes [from, to). */
void tapjudge_bookmark(struct tapjudge *judge, unsigned number, unsigned from, unsigned to);
/* The far side stores the stream through lsn; it has `far` records. False: it cannot be read. */
bool tapjudge_ship(struct tapjudge *judge, const struct crashdisk *disk, size_t far, uint64_t lsn);

/* Which change wrote each sector. False: what is there nobody wrote. */
bool tapjudge_read_image(struct tapjudge *judge, const struct crashdisk *disk,
                         uint8_t ret[TAPLAB_SECTORS]);
/* Each sector holds the base or a change of [from, to), and nothing older than the last one that is
 * certain (a mask). */
bool tapjudge_image(struct tapjudge *judge, const struct crashdisk *disk, unsigned from,
                    unsigned to, uint64_t certain);
/* Reads what the far side has and the ring behind it. Every point is what the disk was; nothing
 * through synced_lsn is missing; end_lsn is not a change, where it is not 0. */
bool tapjudge_stream(struct tapjudge *judge, const struct crashdisk *disk, size_t far,
                     uint64_t synced_lsn, uint64_t end_lsn);
/* Reading from there, where record `lsn` is due, finds all records through that LSN. */
bool tapjudge_leads(struct tapjudge *judge, const struct crashdisk *disk, const struct id *stream,
                    uint64_t position, uint64_t lsn, uint64_t incarnation, uint64_t through);
/* The image is what that stream says: everywhere if it is whole; else, where `touched`, as far as
 * its records go. */
bool tapjudge_same(struct tapjudge *judge, const struct crashdisk *disk, bool touched);

#endif
