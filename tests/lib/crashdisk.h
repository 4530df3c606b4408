/* SPDX-License-Identifier: Apache-2.0 */
/* crashdisk: a disk in memory, for code that runs on it by way of crashcalls.h, that can be cut at
 * any place of its past. It has what is durable and a journal of what was done since: writes,
 * sizes, names, times, syncs, and marks of the test's own. Any prefix of the journal can be made a
 * disk of its own: as after kill -9 (all of it is in the page cache still) or after a power cut,
 * where what was not synced is kept, lost or torn as a policy says, each file by itself. Strict
 * where file systems differ: a name is durable only by a sync of its folder, a modification time
 * and an attribute only by fsync(), and what was pending at a failed sync is never made durable by
 * a later one.
 *
 * One thread. A mistake of the test ends the process. */
#ifndef TIDE_TESTS_LIB_CRASHDISK_H
#define TIDE_TESTS_LIB_CRASHDISK_H

#include "tests/lib/crashtree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASHDISK_ROOT    "/crashdisk"
#define CRASHDISK_IMAGE   CRASHDISK_ROOT "/image"
#define CRASHDISK_LOG     CRASHDISK_ROOT "/log"
#define CRASHDISK_CONTROL CRASHDISK_ROOT "/control"
#define CRASHDISK_SECTOR  512U

struct crashdisk;

struct crashdisk *crashdisk_new(void); /* an empty root; nothing is pending */
void crashdisk_free(struct crashdisk *disk);
/* Makes a file of that size, durably. */
void crashdisk_make(struct crashdisk *disk, const char *path, uint64_t size);
void crashdisk_make_folder(struct crashdisk *disk, const char *path);
/* Changes a file as if others did, durably, at that time; nothing may be pending. */
void crashdisk_poke(struct crashdisk *disk, const char *path, uint64_t offset, const void *from,
                    size_t size, uint64_t now_ns);
/* As the file reads now. Zeroes past its end. False where there is none. */
bool crashdisk_peek(const struct crashdisk *disk, const char *path, uint64_t offset, void *to,
                    size_t size);
/* All that is pending becomes durable, as it may at any time; the journal is empty then. */
void crashdisk_settle(struct crashdisk *disk);

/* The journal. */
enum crashdisk_entry {
    CRASHDISK_CHANGE, /* of a file, a name, a size, an attribute */
    CRASHDISK_SYNC,
    CRASHDISK_MARK,
};
void crashdisk_mark(struct crashdisk *disk, unsigned what, uint64_t value);
size_t crashdisk_first(const struct crashdisk *disk); /* entries before it are of earlier lives */
size_t crashdisk_count(const struct crashdisk *disk);
enum crashdisk_entry crashdisk_entry(const struct crashdisk *disk, size_t i, unsigned *ret_what,
                                     uint64_t *ret_value); /* what, value: of a mark */

/* What happened to the machine after `at` entries of the journal. IMAGE is the file
 * CRASHDISK_IMAGE, LOG all else. */
enum crashdisk_cut {
    CRASHDISK_KILL,       /* nothing is lost */
    CRASHDISK_KILL_TORN,  /* and the last write was only half done, by pages */
    CRASHDISK_LOSE_ALL,   /* power cuts: nothing that was pending is kept */
    CRASHDISK_KEEP_IMAGE, /* of what was pending, all of the image's and nothing of the log's */
    CRASHDISK_KEEP_LOG,   /* the reverse */
    CRASHDISK_KEEP_STATE, /* all but the ring's files */
    CRASHDISK_TORN,       /* all but a part of the log's last write */
    CRASHDISK_KEEP_ALL,
    CRASHDISK_RANDOM, /* each kept, lost or torn by itself; names in their order */
};
#define CRASHDISK_CUTS (CRASHDISK_RANDOM + 1)
const char *crashdisk_cut_name(enum crashdisk_cut cut);
/* A disk of its own. *ret_same: all power cuts are the same there, for nothing is pending; or
 * KILL_TORN found nothing to tear. */
struct crashdisk *crashdisk_cut(const struct crashdisk *disk, size_t at, enum crashdisk_cut cut,
                                uint64_t seed, bool *ret_same);

/* For crashcalls: what is now, and the steps that change it. Time is that of the change. */
struct crashtree *crashdisk_tree(struct crashdisk *disk);
enum crashdisk_class { CRASHDISK_IS_IMAGE, CRASHDISK_IS_RING, CRASHDISK_IS_OTHER };
enum crashdisk_class crashdisk_class(const struct crashdisk *disk, int file);
void crashdisk_write(struct crashdisk *disk, int file, uint64_t offset, const void *from,
                     size_t size, uint64_t now_ns);
void crashdisk_zero(struct crashdisk *disk, int file, uint64_t offset, uint64_t size,
                    uint64_t now_ns);
void crashdisk_resize(struct crashdisk *disk, int file, uint64_t size, uint64_t now_ns);
void crashdisk_touch(struct crashdisk *disk, int file, uint64_t now_ns);
void crashdisk_xattr(struct crashdisk *disk, int file, const char *name, const void *value,
                     size_t size);
int crashdisk_create(struct crashdisk *disk, const char *path, bool folder, uint64_t now_ns);
void crashdisk_rename(struct crashdisk *disk, const char *from, const char *to);
void crashdisk_unlink(struct crashdisk *disk, const char *path);
/* The page cache lets go of what is not dirty: what a failed sync left reads as it is on disk. */
void crashdisk_forget(struct crashdisk *disk, int file);
/* data_only: fdatasync. Failed: what was pending is lost to later syncs. */
void crashdisk_sync(struct crashdisk *disk, int file, bool data_only, bool failed);

#endif
