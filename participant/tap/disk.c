/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/disk.h"

#include "participant/tap/append.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What the copy goes by. */
static uint64_t guest_begin(struct tap *tap)
{
    tap->guest_under_way++;
    return tap_now_us();
}

static int guest_end(struct tap *tap, uint64_t begun_us, int why)
{
    uint64_t took_us = tap_now_us() - begun_us;
    if (took_us > tap->guest_slowest_us) {
        tap->guest_slowest_us = took_us; /* two at once: one of them is kept */
    }
    tap->guest_done++;
    tap->guest_under_way--;
    return why;
}

/* A client that connected before the disk shrank may still ask for what is gone. */
static bool is_inside(const struct tap *tap, uint64_t offset, uint64_t size)
{
    uint64_t end = tap->size;
    return offset <= end && size <= end - offset;
}

int disk_read(struct tap *tap, void *to, uint32_t size, uint64_t offset)
{
    uint64_t begun_us = guest_begin(tap);
    int result = EIO;
    if (is_inside(tap, offset, size)) {
        result = file_read(tap->image_fd, to, size, offset) == 0 ? 0 : errno;
    }
    return guest_end(tap, begun_us, result);
}

/* Log, then image, under the range lock. */
static int change(struct tap *tap, struct record *record, bool punch, uint64_t *ticket)
{
    struct range_node node;
    struct record_write *w = &record->write;
    uint64_t wait_for = 0;
    range_lock(&tap->range, &node, w->offset, w->size);
    if (append_change(tap, &node, record, &wait_for) != 0) {
        range_unlock(&tap->range, &node);
        return ENOSPC;
    }
    int result = record->type == RECORD_WRITE
                     ? file_write(tap->image_fd, w->data, (size_t)w->size, w->offset)
                     : file_zero(tap->image_fd, w->offset, w->size, punch);
    int why = result == 0 ? 0 : errno;
    if (why != 0) {
        tap->image_gaps++;
    }
    range_unlock(&tap->range, &node);
    if (why != 0) {
        append_image_gap(tap, w->offset, w->size, why);
        tap->image_gaps--;
    }
    if (wait_for != 0) {
        *ticket = wait_for;
    }
    return why;
}

static int flush(struct tap *tap);

static int finish(struct tap *tap, int why, bool fua, uint64_t ticket)
{
    if (why == 0 && fua) {
        why = flush(tap);
    }
    if (ticket != 0) {
        tap_wait_let_go(tap, ticket);
    }
    return why;
}

int disk_write(struct tap *tap, const void *from, uint32_t size, uint64_t offset, bool fua)
{
    uint64_t begun_us = guest_begin(tap);
    uint64_t ticket = 0;
    int why = is_inside(tap, offset, size) ? 0 : ENOSPC;
    const uint8_t *at = from;
    while (size > 0 && why == 0) {
        uint32_t part = size < TIDE_TAP_REQUEST_MAX ? size : TIDE_TAP_REQUEST_MAX;
        struct record record = {.type = RECORD_WRITE,
                                .write = {.offset = offset, .size = part, .data = at}};
        why = change(tap, &record, false, &ticket);
        at += part;
        offset += part;
        size -= part;
    }
    return guest_end(tap, begun_us, finish(tap, why, fua, ticket));
}

int disk_zero(struct tap *tap, uint64_t size, uint64_t offset, bool discard, bool punch, bool fua)
{
    uint64_t begun_us = guest_begin(tap);
    uint64_t ticket = 0;
    struct record record = {.type = RECORD_ZERO,
                            .write = {.offset = offset, .size = size, .discard = discard}};
    int why = ENOSPC;
    if (is_inside(tap, offset, size)) {
        why = size == 0 ? 0 : change(tap, &record, punch, &ticket);
    }
    return guest_end(tap, begun_us, finish(tap, why, fua, ticket));
}

static int flush(struct tap *tap)
{
    bool image = !tap->config.flush_log || tap->unlogged;
    if (image) {
        /* On its way while the log is synced; a failure is the fdatasync's to tell. */
        (void)sync_file_range(tap->image_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    if (!tap->failed) {
        pthread_mutex_lock(&tap->head);
        uint64_t lsn = tap->head_lsn;
        pthread_mutex_unlock(&tap->head);
        if (append_sync(tap, lsn) != 0) {
            append_sync_failed(tap); /* the image alone can still keep the promise */
            image = true;
        }
    }
    int why = 0;
    if (image && append_sync_image(tap, false) != 0) {
        why = errno;
        append_image_gap(tap, 0, 0, why);
    }
    int beside = atomic_exchange(&tap->image_why, 0); /* of a sync that was not the guest's */
    return why != 0 ? why : beside;
}

int disk_flush(struct tap *tap)
{
    uint64_t begun_us = guest_begin(tap);
    return guest_end(tap, begun_us, flush(tap));
}
