/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/restream.h"

#include "participant/tap/append.h"
#include "participant/tap/attach.h"
#include "participant/tap/copy.h"
#include "participant/tap/file.h"
#include "participant/tap/note.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Under the append lock: what was held is let go, and the gate counts anew; its memory of holds, by
 * which it keeps the duty limit, and of tickets stays. */
static void renew_gate(struct tap *tap)
{
    struct gate_out out;
    struct gate_event event = {.type = GATE_GAP};
    tap_step(tap, &event, &out);
    pthread_mutex_lock(&tap->gate_lock);
    struct gate old = tap->gate;
    struct gate_config config = {.stream = tap->state.stream,
                                 .incarnation = tap->incarnation,
                                 .next_lsn = 1,
                                 .cap_us = tap->config.hold_max_us,
                                 .held_max = tap->config.held_max};
    gate_init(&tap->gate, &config);
    tap->gate.last_us = old.last_us;
    tap->gate.ticket = old.ticket;
    memcpy(tap->gate.spans, old.spans, sizeof old.spans);
    tap->gate.spans_next = old.spans_next;
    memcpy(tap->gate.ended, old.ended, sizeof old.ended);
    tap->gate.ended_next = old.ended_next;
    tap->gate.holds = old.holds;
    tap->gate.hold_us_max = old.hold_us_max;
    pthread_mutex_unlock(&tap->gate_lock);
}

/* Under append, sync and state locks: the new stream, durably, before a record of it. */
static int begin_state(struct tap *tap, struct err *err)
{
    struct state before = tap->state;
    uint64_t incarnation = 0;
    if (!file_random(&incarnation, sizeof incarnation) || incarnation == 0 ||
        attach_new_stream(tap, err) != 0) {
        return err_set(err, TIDE_ERR_IO, "no randomness for a new stream");
    }
    struct state *s = &tap->state;
    s->image_size = before.image_size; /* tap->size may follow only after a hold */
    s->clean = false;
    s->copy_zero = true;
    s->gap_reason = RECORD_GAP_BASE;
    s->gap_lsn = 1;
    s->incarnation = incarnation;
    memcpy(s->image_id, before.image_id, sizeof s->image_id);
    memcpy(s->machine, before.machine, sizeof s->machine);
    if (append_state(tap, err) != 0) {
        struct err again;
        before.sequence = s->sequence;
        *s = before;
        (void)append_state(tap, &again); /* the new one may be there all the same */
        return -1;
    }
    tap->incarnation = incarnation;
    return 0;
}

static void reset_log(struct tap *tap)
{
    ring_restart(&tap->ring, &tap->state.stream);
    map_rename(&tap->map, &tap->state.stream);
    map_set_all(&tap->map);
    tap->log_lsn = 0;
    tap->attached = false;
    tap->logging = false;
    tap->stored_lsn = 0;
    tap->checkpoint_from = 0;
    pthread_mutex_lock(&tap->head);
    tap->head_lsn = tap->head_position = 0;
    tap->synced_lsn = tap->synced_position = 0;
    pthread_mutex_unlock(&tap->head);
}

/* Under the append lock: the first attach has ended, durably, before anything is served from it. */
static void enter(struct tap *tap)
{
    struct err err;
    if (!tap->logging) {
        return;
    }
    if (append_sync(tap, tap->log_lsn) != 0) {
        append_failed(tap, 1, 0);
        return;
    }
    pthread_mutex_lock(&tap->state_lock);
    tap->state.due_lsn = tap->log_lsn + 1;
    tap->state.due_position = tap->ring.position;
    tap->state.due_incarnation = tap->ring.incarnation;
    int result = append_state(tap, &err);
    pthread_mutex_unlock(&tap->state_lock);
    if (result != 0) {
        append_failed(tap, 1, 0); /* a restart would take what follows for never served */
    }
}

/* Under the append lock, nothing under way. */
static int begin(struct tap *tap, struct err *err)
{
    if (append_sync_image_locked(tap) != 0) {
        int why = errno;
        append_gap(tap, RECORD_GAP_IMAGE, true);
        return err_set(err, TIDE_ERR_IO, "cannot sync image \"%s\": %s", tap->config.image,
                       strerror(why));
    }
    pthread_mutex_lock(&tap->sync);
    pthread_mutex_lock(&tap->state_lock);
    int result = begin_state(tap, err);
    if (result == 0) {
        reset_log(tap);
        tap->restreams++;
        tap->attach.disk = tap->state.disk;
        tap->attach.timeline = tap->state.timeline;
        tap->attach.size = tap->state.image_size;
        tap->attach.clean = tap->attach.first = true;
        tap->attach.base_zero = false;
        tap->attach.replayed_from = tap->attach.replayed_to = 0;
    }
    pthread_mutex_unlock(&tap->state_lock);
    pthread_mutex_unlock(&tap->sync);
    if (result == 0) {
        renew_gate(tap);
        append_resume(tap);
        enter(tap);
        note_write(tap, WITNESS_OPEN);
    }
    return result;
}

void restream(struct tap *tap, const struct id *stream, struct tapctl_done *ret)
{
    struct err err = {0};
    *ret = (struct tapctl_done){.code = TIDE_ERR_OK};
    pthread_mutex_lock(&tap->recycle);
    append_lock(tap, false);
    if (tap->failed || !id_equal(&tap->ring.geometry.stream, stream)) {
        err_set(&err, TIDE_ERR_CONFLICT, "%s",
                tap->failed ? "the log has failed: mend its disk and restart the tap"
                            : "another stream is served here already");
    } else {
        range_drain(&tap->range);
        (void)begin(tap, &err);
    }
    append_unlock(tap);
    pthread_mutex_unlock(&tap->recycle);
    if (err.code != TIDE_ERR_OK) {
        *ret = (struct tapctl_done){.code = err.code};
        (void)snprintf(ret->text, sizeof ret->text, "%s", err.text);
        return;
    }
    nbdkit_error("log \"%s\": the far side cannot go on with its stream: a new one begins, and the "
                 "disk is copied into it",
                 tap->config.folder);
    (void)snprintf(ret->text, sizeof ret->text, "a new stream begins: connect again");
    tap_post(tap, TAP_WORK_STATE);
    copy_kick(tap);
}
