/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/resize.h"

#include "common/core/definition.h"
#include "participant/tap/append.h"
#include "participant/tap/copy.h"
#include "participant/tap/file.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(struct tapctl_done *ret, enum err_code code, const char *text)
{
    if (ret != NULL) {
        *ret = (struct tapctl_done){.code = code};
        (void)snprintf(ret->text, sizeof ret->text, "%s", text);
    }
}

/* Under the append lock, no change under way: the record, as a write that is held if one would be.
 * Returns the hold to wait for before the size is shown; 0: none. Without a log the next resume
 * says it. */
static uint64_t log_size(struct tap *tap, uint64_t size)
{
    if (!tap->logging || tap->logged_size == size) {
        return 0;
    }
    if (!append_room(tap)) {
        append_overflow(tap); /* no change past the old end may be logged before its record */
        return 0;
    }
    struct gate_out out;
    struct gate_event event = {.type = GATE_WRITE}; /* no bytes: never refused at entry */
    tap_step(tap, &event, &out);
    struct record record = {.type = RECORD_RESIZE,
                            .lsn = out.lsn,
                            .resize = {.size = size, .before = tap->logged_size}};
    uint64_t before = tap->ring.position;
    if (append_record(tap, &record) != 0) {
        append_failed(tap, out.lsn, before);
    }
    tap->logged_size = size;
    return out.ack == GATE_ACK_HOLD ? out.ticket : 0;
}

static bool is_hole(const struct tap *tap, uint64_t from, uint64_t to)
{
    off_t data = lseek(tap->image_fd, (off_t)from, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (uint64_t)data >= to;
}

/* Under the append lock: the state follows the record. Not whole and the new size are one write of
 * it: a kill before that leaves a size that the next start takes for one that nobody saw. */
static void follow(struct tap *tap, uint64_t old, uint64_t size, bool hole)
{
    struct err err;
    pthread_mutex_lock(&tap->state_lock);
    tap->state.image_size = size;
    tap->attach.size = tap->attached ? tap->attach.size : size;
    pthread_mutex_unlock(&tap->state_lock);
    if (!hole) {
        map_set(&tap->map, old, size - old);
        append_gap_map(tap, RECORD_GAP_SIZE);
    }
    pthread_mutex_lock(&tap->state_lock);
    tap->state.copy_lsn = 0; /* of another size: the next one begins by the map */
    int result = append_state(tap, &err);
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        nbdkit_error("resize: %s (a restart takes it for a change that nobody saw)", err.text);
    }
}

/* Under the append lock. What came before a smaller end would come back past a larger one, so
 * replay never crosses a resize: what is logged is in the image, durably, before the record. */
static int resize(struct tap *tap, uint64_t size, uint64_t *ret_ticket, struct err *err)
{
    uint64_t old = tap->size;
    range_drain(&tap->range);
    if (append_sync_image_locked(tap) != 0) {
        append_gap(tap, RECORD_GAP_IMAGE, true);
    }
    if (size > old && map_resize(&tap->map, size, err) != 0) {
        return -1;
    }
    bool hole = size < old || is_hole(tap, old, size);
    *ret_ticket = log_size(tap, size);
    if (size < old) {
        tap->size = size;                       /* at once: nothing may go where there is nothing */
        (void)map_resize(&tap->map, size, err); /* without memory: tried again at each look */
    }
    follow(tap, old, size, hole);
    return 0;
}

/* Under the append lock: of a size that no disk can be registered with only what was lost is
 * followed: it is there again, as something else, once the image has its size back. */
static int refuse(struct tap *tap, uint64_t size, struct err *err)
{
    uint64_t old = tap->size;
    err_set(err, TIDE_ERR_CONFIG,
            "image of %llu bytes: give it a multiple of %u, up to 2^60; the disk keeps its %llu",
            (unsigned long long)size, TIDE_DISK_SIZE_UNIT, (unsigned long long)old);
    if (tap->refused_size == size) {
        return -1;
    }
    tap->refused_size = size;
    if (size < old) {
        range_drain(&tap->range);
        map_set(&tap->map, size, old - size);
        append_gap_map(tap, RECORD_GAP_SIZE);
    }
    return -1;
}

/* One look. Whether the size changed; -1: it could not be followed. */
static int look(struct tap *tap, uint64_t *ret_old, uint64_t *ret_size, struct err *err)
{
    uint64_t ticket = 0;
    int result = 0;
    append_lock(tap, false);
    *ret_old = tap->size;
    if (file_size(tap->image_fd, ret_size) != 0 || *ret_size == 0) {
        result = err_set(err, TIDE_ERR_IO, "the image's size cannot be read, or is 0");
    } else if (*ret_size == *ret_old) {
        tap->refused_size = 0;
        (void)map_resize(&tap->map, *ret_size, err);
    } else if (!file_is_disk_size(*ret_size)) {
        result = refuse(tap, *ret_size, err);
    } else {
        tap->refused_size = 0;
        result = resize(tap, *ret_size, &ticket, err) == 0 ? 1 : -1;
    }
    append_unlock(tap);
    if (ticket != 0) {
        tap_wait_let_go(tap, ticket);
    }
    if (result == 1) {
        tap->size = *ret_size;
    }
    return result;
}

void resize_look(struct tap *tap, struct tapctl_done *ret)
{
    struct err err = {0};
    uint64_t size = 0;
    uint64_t old = 0;
    pthread_mutex_lock(&tap->resize);
    uint64_t refused = tap->refused_size;
    int result = look(tap, &old, &size, &err);
    bool tell = tap->refused_size != 0 && tap->refused_size != refused;
    pthread_mutex_unlock(&tap->resize);
    if (tell) {
        nbdkit_error("resize: \"%s\": %s", tap->config.image, err.text);
        tap_post(tap, TAP_WORK_STATE);
    }
    if (result < 0) {
        say(ret, err.code, err.text);
        return;
    }
    if (result == 0) {
        say(ret, TIDE_ERR_OK, "the image has the size that the disk has");
        return;
    }
    say(ret, TIDE_ERR_OK,
        "the disk has the image's new size; clients see it when they connect again");
    nbdkit_error("image \"%s\" has %llu bytes now, and had %llu: the stream says so; "
                 "clients see it when they connect again",
                 tap->config.image, (unsigned long long)size, (unsigned long long)old);
    tap_post(tap, TAP_WORK_STATE);
    copy_kick(tap);
}
