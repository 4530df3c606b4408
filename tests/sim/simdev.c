/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simdev.h"

#include "common/core/check.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMPACT 65536U /* bytes that are settled, before those behind them move up */

static struct simdev **devices; /* by descriptor / SIMDEV_PARTS_MAX; NULL: free */
static size_t device_count;

static void *room_for(void *from, size_t *room, size_t need, size_t size)
{
    if (need <= *room) {
        return from;
    }
    while (*room < need) {
        *room = *room == 0 ? 64 : *room * 2;
    }
    void *to = realloc(from, *room * size);
    TIDE_CHECK(to != NULL);
    return to;
}

struct simdev *simdev_new(size_t size, size_t part_size)
{
    TIDE_CHECK(part_size > 0 && size % part_size == 0 && size / part_size <= SIMDEV_PARTS_MAX);
    struct simdev *dev = calloc(1, sizeof *dev);
    TIDE_CHECK(dev != NULL);
    dev->now = calloc(1, size);
    dev->durable = calloc(1, size);
    TIDE_CHECK(dev->now != NULL && dev->durable != NULL);
    dev->size = size;
    dev->part_size = part_size;
    size_t at = 0;
    while (at < device_count && devices[at] != NULL) {
        at++;
    }
    if (at == device_count) {
        devices = realloc(devices, (device_count + 1) * sizeof(struct simdev *));
        TIDE_CHECK(devices != NULL);
        device_count++;
    }
    devices[at] = dev;
    dev->fd = (int)(at * SIMDEV_PARTS_MAX);
    return dev;
}

void simdev_free(struct simdev *dev)
{
    if (dev == NULL) {
        return;
    }
    devices[(size_t)dev->fd / SIMDEV_PARTS_MAX] = NULL;
    free(dev->now);
    free(dev->durable);
    free(dev->pending);
    free(dev->bytes);
    free(dev);
}

uint64_t simdev_written(const struct simdev *dev)
{
    return dev->number;
}

static void settle(struct simdev *dev, size_t from, size_t to)
{
    size_t kept = 0;
    for (size_t i = 0; i < dev->count; i++) {
        const struct simdev_write w = dev->pending[i];
        if (w.number <= dev->covers && w.offset >= from && w.offset < to) {
            memcpy(dev->durable + w.offset, dev->bytes + w.at, w.size);
        } else {
            dev->pending[kept++] = w;
        }
    }
    dev->count = kept;
    size_t done = kept == 0 ? dev->used : dev->pending[0].at;
    if (done == 0 || (kept > 0 && done < COMPACT)) {
        return;
    }
    memmove(dev->bytes, dev->bytes + done, dev->used - done);
    dev->used -= done;
    for (size_t i = 0; i < kept; i++) {
        dev->pending[i].at -= done;
    }
}

/* Garbage where a write was torn off in the middle of what the medium writes at once. */
static void trash(uint8_t *to, size_t size, struct prng *prng)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)prng_next(prng);
    }
}

static void fate_of(struct simdev *dev, const struct simdev_write *w, uint64_t fate,
                    struct prng *prng)
{
    const uint8_t *from = dev->bytes + w->at;
    uint8_t *to = dev->durable + w->offset;
    size_t part = (size_t)prng_below(prng, w->size + 1) & ~(size_t)7;
    switch (fate) {
    case 0: /* dropped */
        break;
    case 1: /* torn: its beginning or its end alone */
        if (prng_below(prng, 2) == 0) {
            memcpy(to, from, part);
        } else {
            memcpy(to + part, from + part, w->size - part);
        }
        break;
    case 2:
        trash(to, w->size, prng);
        break;
    default:
        memcpy(to, from, w->size);
        break;
    }
}

void simdev_power(struct simdev *dev, struct prng *prng)
{
    uint64_t mood =
        prng_below(prng, 4); /* 0: nothing is kept; 1: everything; else each by itself */
    for (size_t i = 0; i < dev->count; i++) {
        uint64_t fate = mood < 2 ? mood * 7 : prng_below(prng, 8);
        fate_of(dev, &dev->pending[i], fate, prng);
    }
    dev->count = 0;
    dev->used = 0;
    memcpy(dev->now, dev->durable, dev->size);
}

/* ---- participant/tap/file.h ---- */

static struct simdev *at(int fd, uint64_t offset, size_t size, size_t *ret_from)
{
    size_t index = (size_t)fd / SIMDEV_PARTS_MAX;
    TIDE_CHECK(index < device_count && devices[index] != NULL);
    struct simdev *dev = devices[index];
    size_t part = (size_t)fd % SIMDEV_PARTS_MAX;
    TIDE_CHECK(offset + size <= dev->part_size && (part + 1) * dev->part_size <= dev->size);
    *ret_from = part * dev->part_size + (size_t)offset;
    return dev;
}

int file_read(int fd, void *to, size_t size, uint64_t offset)
{
    size_t from = 0;
    const struct simdev *dev = at(fd, offset, size, &from);
    memcpy(to, dev->now + from, size);
    return 0;
}

static int put(struct simdev *dev, size_t to, const struct iovec *parts, int count, size_t size)
{
    if (dev->fails_writes) {
        errno = EIO;
        return -1;
    }
    dev->bytes = room_for(dev->bytes, &dev->bytes_room, dev->used + size, 1);
    dev->pending = room_for(dev->pending, &dev->room, dev->count + 1, sizeof *dev->pending);
    dev->pending[dev->count++] = (struct simdev_write){to, size, dev->used, ++dev->number};
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_base == NULL) {
            memset(dev->bytes + dev->used, 0, parts[i].iov_len);
        } else {
            memcpy(dev->bytes + dev->used, parts[i].iov_base, parts[i].iov_len);
        }
        dev->used += parts[i].iov_len;
    }
    memcpy(dev->now + to, dev->bytes + dev->used - size, size);
    return 0;
}

int file_writev(int fd, struct iovec *parts, int count, uint64_t offset)
{
    size_t size = 0;
    size_t to = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    struct simdev *dev = at(fd, offset, size, &to);
    return put(dev, to, parts, count, size);
}

int file_write(int fd, const void *from, size_t size, uint64_t offset)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)from, .iov_len = size};
    return file_writev(fd, &part, 1, offset);
}

int file_zero(int fd, uint64_t offset, uint64_t size, bool punch)
{
    (void)punch;
    return file_write(fd, NULL, (size_t)size, offset);
}

int file_sync(int fd)
{
    size_t from = 0;
    struct simdev *dev = at(fd, 0, 0, &from);
    if (dev->fails_syncs) {
        errno = EIO;
        return -1;
    }
    settle(dev, from, from + dev->part_size);
    return 0;
}

int file_sync_folder(const char *path)
{
    TIDE_CHECK(path == NULL); /* no file is made here */
    return -1;
}
