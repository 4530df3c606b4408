/* SPDX-License-Identifier: Apache-2.0 */
/* simdev: storage in memory that loses what was not synced. A device keeps what reads now, what is
 * durable, and a list of the writes between the two, each of which a power cut keeps, drops, tears
 * or trashes by itself. It implements participant/tap/file.h: the tap's own ring and replay run on
 * it, with a device's parts in place of files.
 *
 * A sync covers what was written before it began: writes carry numbers, and simdev_written() when
 * it begins goes into `covers` when it ends. A failed sync leaves the list as it is. One thread. */
#ifndef TIDE_TESTS_SIM_SIMDEV_H
#define TIDE_TESTS_SIM_SIMDEV_H

#include "common/core/prng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIMDEV_PARTS_MAX 64U

struct simdev_write {
    size_t offset;
    size_t size;
    size_t at; /* in the bytes of the list */
    uint64_t number;
};

struct simdev {
    uint8_t *now;
    uint8_t *durable;
    size_t size;
    size_t part_size; /* what one descriptor covers */
    int fd;           /* of the first part; the others follow */
    struct simdev_write *pending;
    size_t count;
    size_t room;
    uint8_t *bytes;
    size_t used;
    size_t bytes_room;
    uint64_t number;   /* of the last write */
    uint64_t covers;   /* a sync that ends now makes writes up to this number durable */
    bool fails_writes; /* EIO until it is cleared */
    bool fails_syncs;
};

/* All zeroes, durably. size is a multiple of part_size, of which there are SIMDEV_PARTS_MAX at
 * most.
 */
struct simdev *simdev_new(size_t size, size_t part_size);
void simdev_free(struct simdev *dev); /* takes NULL */

uint64_t simdev_written(const struct simdev *dev); /* the number of the last write */
/* Power is gone: what becomes of each write is drawn. */
void simdev_power(struct simdev *dev, struct prng *prng);

#endif
