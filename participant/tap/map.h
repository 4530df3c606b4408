/* SPDX-License-Identifier: Apache-2.0 */
/* map: which blocks of the disk the stream does not have right, or may not: changed while the log
 * could not take it, never copied, or suspect after what nobody saw. The copy (copy.h) sends them.
 *
 * Kept in memory (2 MiB for a TiB of disk, touched only where bits were set), and written through
 * to the file `map` of the log folder, never synced but by map_sync(): so it survives kill -9, and
 * not a power cut; the state file says which of the two it was. A failed write of the file is
 * remembered (`failed`): memory is still right, and the next start must not trust the file.
 *
 * File: magic "TIDEMAP0" | version u32 | block size u32 | stream 16 | disk size u64 | zeroes up to
 * 4096, then the bits, little-endian words of 64 blocks.
 *
 * All calls lock by themselves (innermost); ranges are rounded out to whole blocks by map_set(),
 * and given in whole blocks (or up to the disk's end) to map_clear(). */
#ifndef TIDE_PARTICIPANT_TAP_MAP_H
#define TIDE_PARTICIPANT_TAP_MAP_H

#include "common/core/err.h"
#include "common/core/id.h"
#include "common/core/tapctl.h"

#include <pthread.h>

#define TIDE_MAP_BLOCK TIDE_TAPCTL_BLOCK
#define TIDE_MAP_HEAD  4096U

struct map {
    pthread_mutex_t lock;
    int fd;         /* owned; -1: closed */
    uint64_t size;  /* of the disk, bytes */
    uint64_t count; /* blocks that are set */
    uint64_t *words;
    _Atomic bool failed; /* the file is not what is here */
};

/* Opens or makes folder/map for a disk of size bytes. *ret_fresh: there was none of this stream (or
 * none that is whole), and no bit is set. A map of another size of the disk is brought to this one
 * (map_resize()). LIMIT: no memory; IO, FULL. */
int map_open(struct map *map, const char *folder, const struct id *stream, uint64_t size,
             bool *ret_fresh, struct err *err);
void map_close(struct map *map); /* takes one that was never opened, if it is all zeroes */

void map_set(struct map *map, uint64_t offset, uint64_t size);
void map_clear(struct map *map, uint64_t offset, uint64_t size);
void map_set_all(struct map *map);
void map_clear_all(struct map *map);

/* The first run of set blocks at or after offset and below limit: true, with where it begins and
 * its bytes (at most `most`, cut at limit and at the disk's end). */
bool map_next(struct map *map, uint64_t offset, uint64_t limit, uint64_t most, uint64_t *ret_offset,
              uint64_t *ret_size);

/* Bytes of the set blocks, at most the disk's size. */
uint64_t map_bytes(struct map *map);
bool map_is_all(struct map *map); /* every block is set */

/* The disk has another size: bits past a smaller end are gone, new blocks are clear. LIMIT: no
 * memory (nothing changed). */
int map_resize(struct map *map, uint64_t size, struct err *err);

/* The map of another stream from now on; bits stay. */
void map_rename(struct map *map, const struct id *stream);

int map_sync(struct map *map); /* -1 with errno set; also where an earlier write had failed */

#endif
