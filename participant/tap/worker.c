/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/worker.h"

#include "participant/tap/append.h"
#include "participant/tap/control.h"
#include "participant/tap/copy.h"
#include "participant/tap/resize.h"
#include "participant/tap/restream.h"

#include <signal.h>
#include <stdio.h>

#include <string.h>
#include <unistd.h>

bool worker_order(struct tap *tap, const struct tap_order *order)
{
    pthread_mutex_lock(&tap->work);
    bool room = tap->order.type == 0;
    if (room) {
        tap->order = *order;
        tap->work_bits |= TAP_WORK_ORDER;
        pthread_cond_signal(&tap->work_due);
    }
    pthread_mutex_unlock(&tap->work);
    return room;
}

static void detach(struct tap *tap, const struct tapctl_order *order, struct tapctl_done *ret)
{
    uint32_t clients = tap->clients;
    if (clients > 0 && !order->force) {
        ret->code = TIDE_ERR_BUSY;
        (void)snprintf(ret->text, sizeof ret->text,
                       "%u clients are connected: end them first, or give --force", clients);
        return;
    }
    (void)snprintf(ret->text, sizeof ret->text, "the tap ends, and detaches cleanly");
}

static void do_order(struct tap *tap)
{
    pthread_mutex_lock(&tap->work);
    struct tap_order order = tap->order;
    pthread_mutex_unlock(&tap->work);
    struct tapctl answer = {.type = TAPCTL_DONE, .serial = order.serial};
    struct tapctl_done *done = &answer.done;
    if (order.type == TAPCTL_RESYNC) {
        copy_resync(tap, (enum tapctl_resync)order.what.resync, done);
    } else if (order.type == TAPCTL_DETACH) {
        detach(tap, &order.what, done);
    } else if (order.type == TAPCTL_RESTREAM) {
        restream(tap, &order.what.stream, done);
    } else {
        resize_look(tap, done);
    }
    bool ok = done->code == TIDE_ERR_OK;
    pthread_mutex_lock(&tap->work);
    tap->order.type = (enum tapctl_type)0; /* before the answer: another may follow it at once */
    pthread_mutex_unlock(&tap->work);
    control_answer(tap, &answer, order.session);
    if (ok && order.type == TAPCTL_RESTREAM) {
        control_drop_old(tap);
    }
    if (ok && order.type == TAPCTL_DETACH) {
        (void)kill(getpid(), SIGTERM); /* leave.h: also under clients */
    }
}

bool worker_sync(struct tap *tap, uint64_t lsn, uint32_t serial, uint64_t session)
{
    pthread_mutex_lock(&tap->work);
    bool room = tap->syncs_count < TIDE_TAP_SYNCS_MAX;
    if (room) {
        tap->syncs[tap->syncs_count++] =
            (struct tap_sync_request){.lsn = lsn, .serial = serial, .session = session};
        tap->work_bits |= TAP_WORK_SYNC;
        pthread_cond_signal(&tap->work_due);
    }
    pthread_mutex_unlock(&tap->work);
    return room;
}

/* lsn 0: it could not be appended. */
static void tell_sealed(struct tap *tap, const struct record_seal *seal, uint64_t lsn)
{
    struct tapctl message = {.type = TAPCTL_SEALED, .sealed = gate_told(seal, lsn)};
    control_tell(tap, &message);
}

/* Appends the seal that is due. 0: appended; 1: nothing is due, or given up (told elsewhere). */
static int append_seal(struct tap *tap, struct record_seal *ret_seal, uint64_t *ret_lsn)
{
    struct gate_out out;
    struct gate_event event = {.type = append_room(tap) ? GATE_SEAL : GATE_SEAL_FAILED};
    pthread_mutex_lock(&tap->gate_lock);
    *ret_seal = tap->gate.seal;
    pthread_mutex_unlock(&tap->gate_lock);
    tap_step(tap, &event, &out);
    if (out.lsn == 0) {
        return 1;
    }
    uint64_t before = tap->ring.position;
    struct record record = {.type = RECORD_SEAL, .lsn = out.lsn, .seal = *ret_seal};
    if (append_record(tap, &record) != 0) {
        event = (struct gate_event){.type = GATE_SEAL_FAILED};
        tap_step(tap, &event, &out);
        append_failed(tap, record.lsn, before);
        return 1;
    }
    event = (struct gate_event){.type = GATE_SEAL_APPENDED};
    tap_step(tap, &event, &out);
    *ret_lsn = record.lsn;
    return 0;
}

static void do_seal(struct tap *tap)
{
    struct record_seal seal;
    uint64_t lsn = 0;
    append_lock(tap, true);
    int result = append_seal(tap, &seal, &lsn);
    append_unlock(tap);
    if (result != 0) {
        return;
    }
    bool synced = append_sync(tap, lsn) == 0;
    if (!synced) {
        append_sync_failed(tap); /* first: who hears of it may count on it after a kill */
    }
    tell_sealed(tap, &seal, synced ? lsn : 0);
}

static void do_lost(struct tap *tap)
{
    pthread_mutex_lock(&tap->gate_lock);
    struct record_seal seal = tap->lost;
    pthread_mutex_unlock(&tap->gate_lock);
    tell_sealed(tap, &seal, 0);
}

static void do_syncs(struct tap *tap, const struct tap_sync_request *syncs, unsigned count)
{
    pthread_mutex_lock(&tap->head);
    uint64_t head = tap->head_lsn;
    pthread_mutex_unlock(&tap->head);
    bool failed = append_sync(tap, head) != 0;
    pthread_mutex_lock(&tap->head);
    struct tapctl message = {.type = TAPCTL_SYNCED,
                             .synced = {.lsn = tap->synced_lsn,
                                        .position = tap->synced_position,
                                        .failed = failed || tap->failed}};
    pthread_mutex_unlock(&tap->head);
    if (failed) {
        append_sync_failed(tap);
    }
    for (unsigned i = 0; i < count; i++) {
        message.serial = syncs[i].serial;
        control_answer(tap, &message, syncs[i].session);
    }
}

void *worker_main(void *context)
{
    struct tap *tap = context;
    for (bool stop = false; !stop;) {
        struct tap_sync_request syncs[TIDE_TAP_SYNCS_MAX];
        pthread_mutex_lock(&tap->work);
        while (tap->work_bits == 0) {
            pthread_cond_wait(&tap->work_due, &tap->work);
        }
        unsigned bits = tap->work_bits;
        unsigned count = tap->syncs_count;
        memcpy(syncs, tap->syncs, count * sizeof syncs[0]);
        tap->work_bits = 0;
        tap->syncs_count = 0;
        pthread_mutex_unlock(&tap->work);

        if ((bits & TAP_WORK_SEAL) != 0) {
            do_seal(tap);
        }
        if ((bits & TAP_WORK_LOST) != 0) {
            do_lost(tap);
        }
        if ((bits & TAP_WORK_SYNC) != 0) {
            do_syncs(tap, syncs, count);
        }
        if ((bits & TAP_WORK_ORDER) != 0) {
            do_order(tap);
        }
        if ((bits & TAP_WORK_STATE) != 0) {
            control_tell_state(tap);
        }
        stop = (bits & TAP_WORK_STOP) != 0;
    }
    return NULL;
}
