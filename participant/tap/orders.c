/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/orders.h"

#include "participant/tap/append.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/copy.h"
#include "participant/tap/file.h"
#include "participant/tap/worker.h"

#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

static void wall_clock(uint64_t *ret_ns, uint32_t *ret_error_us)
{
    struct timespec now;
    struct timex clock = {.modes = 0};
    clock_gettime(CLOCK_REALTIME, &now);
    *ret_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    int status = adjtimex(&clock);
    bool known = status >= 0 && status != TIME_ERROR && (clock.status & STA_UNSYNC) == 0 &&
                 clock.maxerror >= 0 && clock.maxerror < UINT32_MAX;
    *ret_error_us = known ? (uint32_t)clock.maxerror : UINT32_MAX;
}

/* Why the disk is not whole, and how far its copy is. */
static void not_whole(struct tap *tap, char *to, size_t size)
{
    struct tapctl_state state = {0};
    pthread_mutex_lock(&tap->state_lock);
    const char *gap = record_gap_name(tap->state.gap_reason);
    pthread_mutex_unlock(&tap->state_lock);
    copy_progress(tap, &state);
    uint64_t disk = tap->size; /* the map may be ahead of it */
    uint64_t dirty = state.dirty_bytes < disk ? state.dirty_bytes : disk;
    (void)snprintf(
        to, size,
        "base and log together are not the disk (gap: %s): it must be copied first; copy "
        "%s, %u%% done",
        gap == NULL ? "unknown" : gap, tapctl_copy_name(state.copy),
        (unsigned)((double)(disk - dirty) * 100.0 / (double)disk));
}

static const char *refusal(enum round_reason reason, const struct tap *tap)
{
    switch ((unsigned)reason) {
    case ROUND_REASON_BUSY:
        return "another round is held or sealed here";
    case ROUND_REASON_DUTY:
        return "the duty limit leaves less than 5 ms now";
    case ROUND_REASON_INCARNATION:
        return "the tap has restarted since";
    case ROUND_REASON_LOG:
        return tap->logging ? "the log could not take the bookmark" : "the log is off";
    case ROUND_REASON_ENDED:
        return "this round has ended here already";
    default:
        return "";
    }
}

/* Under the append lock: bookmark and start of the hold in one step of the gate, then the record.
 */
static void place(struct tap *tap, const struct tapctl_hold *hold, struct gate_out *ret)
{
    struct gate_event event = {.type = GATE_HOLD, .hold = hold, .log_ok = append_room(tap)};
    event.log_ok = file_random(&event.nonce, sizeof event.nonce) && event.log_ok;
    tap_step(tap, &event, ret);
    if (ret->lsn == 0) {
        return;
    }
    uint64_t before = tap->ring.position;
    struct record record = {.type = RECORD_BOOKMARK,
                            .lsn = ret->lsn,
                            .bookmark = {.order = hold->order,
                                         .nonce = ret->mark.nonce,
                                         .unheld = hold->unheld,
                                         .budget_us = ret->budget_us,
                                         .mono_ns = event.now_us * 1000,
                                         .quiesce = hold->quiesce,
                                         .quiesce_proof = hold->quiesce_proof}};
    wall_clock(&record.bookmark.wall_ns, &record.bookmark.wall_error_us);
    if (append_record(tap, &record) == 0) {
        return;
    }
    struct gate_out failed;
    event = (struct gate_event){.type = GATE_BOOKMARK_FAILED};
    tap_step(tap, &event, &failed);
    append_failed(tap, record.lsn, before);
    ret->held = false;
    ret->refused = true;
    ret->reason = ROUND_REASON_LOG;
}

static void hold(struct tap *tap, const struct tapctl *message, struct tapctl *ret)
{
    struct gate_out out;
    append_lock(tap, true);
    place(tap, &message->hold, &out);
    append_unlock(tap);
    if (out.held) {
        *ret = (struct tapctl){.type = TAPCTL_HELD,
                               .held = {.round = message->hold.order.round,
                                        .mark = out.mark,
                                        .budget_us = out.budget_us}};
    } else {
        *ret = (struct tapctl){.type = TAPCTL_REFUSED,
                               .refused = {.round = message->hold.order.round,
                                           .reason = out.reason,
                                           .outcome = out.ended}};
        (void)snprintf(ret->refused.text, sizeof ret->refused.text, "%s", refusal(out.reason, tap));
        if (out.reason == ROUND_REASON_NOT_WHOLE) {
            not_whole(tap, ret->refused.text, sizeof ret->refused.text);
        }
    }
    ret->serial = message->serial;
}

/* The gate's lock alone: never waits for an append. */
static void end(struct tap *tap, const struct tapctl *message)
{
    struct gate_out out;
    struct gate_event event = {.type = message->type == TAPCTL_RELEASE ? GATE_RELEASE : GATE_ABORT,
                               .round = message->round.round,
                               .cut = message->round.cut};
    tap_step(tap, &event, &out);
}

/* Under the append lock: whether something new is stored. */
static bool take_stored(struct tap *tap, uint64_t lsn)
{
    pthread_mutex_lock(&tap->head);
    uint64_t synced = tap->synced_lsn;
    pthread_mutex_unlock(&tap->head);
    lsn = lsn < synced ? lsn : synced; /* what is not safe here cannot be stored there */
    if (tap->restreams != tap->welcomed || lsn <= tap->stored_lsn) {
        return false; /* of the stream before, from a controller that has not heard of the new one
                       */
    }
    tap->stored_lsn = lsn;
    return true;
}

static void stored(struct tap *tap, uint64_t lsn)
{
    append_lock(tap, true);
    if (!take_stored(tap, lsn)) {
        append_unlock(tap);
        return;
    }
    lsn = tap->stored_lsn;
    bool wanting = !tap->logging || ring_can_free(&tap->ring, lsn);
    append_unlock(tap);
    if (wanting) {
        checkpoint_kick(tap);
    }
}

static void attest(struct tap *tap, const struct tapctl_attest *attest)
{
    append_lock(tap, true);
    if (tap->logging && ring_room(&tap->ring, TIDE_TAP_SMALL_MAX, TIDE_RING_RESERVE)) {
        struct gate_out out;
        struct gate_event event = {.type = GATE_APPEND};
        tap_step(tap, &event, &out);
        uint64_t before = tap->ring.position;
        struct record record = {
            .type = RECORD_ATTESTATION,
            .lsn = out.lsn,
            .attestation = {.round = attest->round, .bytes = attest->bytes, .size = attest->size}};
        if (append_record(tap, &record) != 0) {
            append_failed(tap, record.lsn, before);
        }
    }
    append_unlock(tap);
}

/* What syncs or waits is the worker's. */
static enum orders_result order(struct tap *tap, const struct tapctl *message, uint64_t session,
                                struct tapctl *ret_answer)
{
    struct tap_order order = {.type = message->type,
                              .what = message->order,
                              .serial = message->serial,
                              .session = session};
    if (worker_order(tap, &order)) {
        return ORDERS_DONE;
    }
    *ret_answer = (struct tapctl){
        .type = TAPCTL_DONE,
        .serial = message->serial,
        .done = {.code = TIDE_ERR_BUSY, .text = "another order is being carried out"}};
    return ORDERS_ANSWER;
}

enum orders_result orders_do(struct tap *tap, const struct tapctl *message, uint64_t session,
                             struct tapctl *ret_answer)
{
    switch (message->type) {
    case TAPCTL_HOLD:
        hold(tap, message, ret_answer);
        return ORDERS_ANSWER;
    case TAPCTL_RELEASE:
    case TAPCTL_ABORT:
        end(tap, message);
        return ORDERS_DONE;
    case TAPCTL_SYNC:
        return worker_sync(tap, message->lsn.lsn, message->serial, session) ? ORDERS_DONE
                                                                            : ORDERS_WRONG;
    case TAPCTL_STORED:
        stored(tap, message->lsn.lsn);
        return ORDERS_DONE;
    case TAPCTL_ATTEST:
        attest(tap, &message->attest);
        return ORDERS_DONE;
    case TAPCTL_COMPARED:
        copy_compared(tap, tap->welcomed, &message->compared);
        return ORDERS_DONE;
    case TAPCTL_RESYNC:
    case TAPCTL_DETACH:
    case TAPCTL_RESTREAM:
    case TAPCTL_RESIZE:
        return order(tap, message, session, ret_answer);
    case TAPCTL_STATUS:
        *ret_answer = (struct tapctl){.type = TAPCTL_STATE, .serial = message->serial};
        orders_state(tap, &ret_answer->state);
        return ORDERS_ANSWER;
    case TAPCTL_HELLO:
    case TAPCTL_WELCOME:
    case TAPCTL_HELD:
    case TAPCTL_REFUSED:
    case TAPCTL_SEALED:
    case TAPCTL_SYNCED:
    case TAPCTL_STATE:
    case TAPCTL_REFUSE_BUSY:
    case TAPCTL_DONE:
        break;
    }
    return ORDERS_WRONG;
}

void orders_state(struct tap *tap, struct tapctl_state *ret)
{
    *ret = (struct tapctl_state){.writes = tap->writes,
                                 .bytes = tap->bytes,
                                 .size = tap->size,
                                 .clients = tap->clients,
                                 .logging = tap->logging};
    append_lock(tap, true);
    ret->incarnation = tap->incarnation;
    ret->stored_lsn = tap->stored_lsn;
    ret->restreams = tap->restreams;
    ret->next_lsn = tap->log_lsn + 1;
    ret->ring_bytes = ring_capacity(&tap->ring);
    ret->ring_used = ring_used(&tap->ring);
    append_unlock(tap);
    pthread_mutex_lock(&tap->head);
    ret->synced_lsn = tap->synced_lsn;
    pthread_mutex_unlock(&tap->head);
    pthread_mutex_lock(&tap->gate_lock);
    ret->holds = tap->gate.holds;
    ret->hold_us_max = tap->gate.hold_us_max;
    ret->whole = tap->gate.whole;
    ret->holding = tap->gate.state == GATE_HOLDING;
    pthread_mutex_unlock(&tap->gate_lock);
    pthread_mutex_lock(&tap->state_lock);
    ret->checkpoint_lsn = tap->state.due_lsn - 1;
    ret->gap_lsn = tap->state.gap_lsn;
    ret->gap_reason = tap->state.gap_reason;
    pthread_mutex_unlock(&tap->state_lock);
    copy_progress(tap, ret);
}

void orders_welcome(struct tap *tap, struct tapctl_welcome *ret)
{
    *ret = (struct tapctl_welcome){
        .size = tap->size, .block_size = TIDE_TAP_BLOCK_SIZE, .logging = tap->logging};
    append_lock(tap, true);
    tap->welcomed = tap->restreams;
    ret->incarnation = tap->incarnation;
    ret->stream = tap->ring.geometry.stream;
    ret->ring_files = tap->ring.geometry.files;
    ret->ring_file_size = tap->ring.geometry.file_size;
    ret->next_lsn = tap->log_lsn + 1;
    ring_tail(&tap->ring, &ret->tail_lsn, &ret->tail_position, &ret->tail_incarnation);
    append_unlock(tap);
    pthread_mutex_lock(&tap->state_lock);
    ret->timeline = tap->state.timeline;
    ret->disk = tap->state.disk;
    ret->stored_lsn = tap->state.stored_lsn;
    pthread_mutex_unlock(&tap->state_lock);
    pthread_mutex_lock(&tap->gate_lock);
    ret->whole = tap->gate.whole;
    pthread_mutex_unlock(&tap->gate_lock);
    (void)snprintf(ret->name, sizeof ret->name, "%s", tap->config.image);
}
