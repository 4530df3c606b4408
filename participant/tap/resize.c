/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/resize.h"

#include "participant/tap/append.h"
#include "participant/tap/checkpoint.h"
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
 * *ret_ticket: hold to wait for before the size is shown; 0: none. Without a log the next resume
 * says it. -1: the log failed, which is told elsewhere. */
static int log_size(struct tap *tap, uint64_t size, uint64_t *ret_ticket)
{
    if (!append_room(tap) || tap->logged_size == size) {
        return 0;
    }
    struct gate_out out;
    struct gate_event event = {.type = GATE_WRITE};
    tap_step(tap, &event, &out);
    *ret_ticket = out.ack != GATE_ACK_NOW ? out.ticket : 0;
    if (out.ack == GATE_ACK_ENTRY) {
        return 0;
    }
    struct record record = {.type = RECORD_RESIZE,
                            .lsn = out.lsn,
                            .resize = {.size = size, .before = tap->logged_size}};
    uint64_t before = tap->ring.position;
    if (append_record(tap, &record) != 0) {
        append_failed(tap, out.lsn, before);
        return -1;
    }
    tap->logged_size = size;
    return 0;
}

static bool is_hole(const struct tap *tap, uint64_t from, uint64_t to)
{
    off_t data = lseek(tap->image_fd, (off_t)from, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (uint64_t)data >= to;
}

/* Under the append lock. Replay never crosses a resize: what was written before a smaller end would
 * come back past a larger one. */
static void follow(struct tap *tap, uint64_t old, uint64_t size)
{
    struct err err;
    struct id open_round = {{0}};
    uint64_t open_lsn = checkpoint_open_bookmark(tap, tap->log_lsn + 1, &open_round);
    bool synced = append_sync(tap, tap->log_lsn) == 0 && fdatasync(tap->image_fd) == 0;
    pthread_mutex_lock(&tap->state_lock);
    tap->state.image_size = size;
    tap->state.copy_lsn = 0; /* of another size: the next one begins by the map */
    tap->attach.size = tap->attached ? tap->attach.size : size;
    if (synced && tap->logging) {
        tap->state.due_lsn = tap->log_lsn + 1;
        tap->state.due_position = tap->ring.position;
        tap->state.due_incarnation = tap->ring.incarnation;
        tap->state.open_lsn = open_lsn;
        tap->state.open_round = open_round;
    }
    int result = state_write(tap->state_fd, &tap->state, &err);
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        nbdkit_error("resize: %s (a restart takes it for a change that nobody saw)", err.text);
    }
    if (size > old && !is_hole(tap, old, size)) {
        map_set(&tap->map, old, size - old);
        append_gap_map(tap, RECORD_GAP_SIZE);
    }
}

/* 0 with *ret_ticket: done, or wait and come again where *ret_again. */
static int resize(struct tap *tap, uint64_t size, uint64_t *ret_ticket, bool *ret_again,
                  struct err *err)
{
    uint64_t old = tap->size;
    *ret_ticket = 0;
    *ret_again = false;
    range_drain(&tap->range);
    if (size > old && map_resize(&tap->map, size, err) != 0) {
        return -1;
    }
    uint64_t logged = tap->logged_size;
    bool room = append_room(tap) && tap->logged_size != size;
    if (log_size(tap, size, ret_ticket) != 0) {
        return err_set(err, TIDE_ERR_IO, "the log failed");
    }
    if (room && tap->logged_size == logged) {
        *ret_again = true;
        return 0;
    }
    if (size < old) {
        tap->size = size; /* at once: nothing may go where there is nothing */
        (void)map_resize(&tap->map, size, err);
    }
    follow(tap, old, size);
    if (tap->logging && tap->logged_size != size) { /* no room: the next copy says the size first */
        append_gap_map(tap, RECORD_GAP_SIZE);
    }
    return 0;
}

void resize_look(struct tap *tap, struct tapctl_done *ret)
{
    struct err err = {0};
    uint64_t size = 0;
    uint64_t ticket = 0;
    bool again = true;
    bool changed = false;
    say(ret, TIDE_ERR_OK, "the image has the size that the disk has");
    pthread_mutex_lock(&tap->resize);
    while (again) {
        if (file_size(tap->image_fd, &size) != 0 || size == 0) {
            say(ret, TIDE_ERR_IO, "the image's size cannot be read");
            break;
        }
        append_lock(tap, false);
        uint64_t old = tap->size;
        if (size == old) {
            append_unlock(tap);
            break;
        }
        int result = resize(tap, size, &ticket, &again, &err);
        append_unlock(tap);
        if (ticket != 0) {
            tap_wait_let_go(tap, ticket);
        }
        if (result != 0) {
            say(ret, err.code, err.text);
            break;
        }
        if (!again) {
            tap->size = size;
            changed = true;
            say(ret, TIDE_ERR_OK,
                "the disk has the image's new size; clients see it when they connect again");
            nbdkit_error("image \"%s\" has %llu bytes now, and had %llu: the stream says so; "
                         "clients see it when they connect again",
                         tap->config.image, (unsigned long long)size, (unsigned long long)old);
        }
    }
    pthread_mutex_unlock(&tap->resize);
    if (changed) {
        tap_post(tap, TAP_WORK_STATE);
        copy_kick(tap);
    }
}
