/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/light/lighttap.h"

#include "common/core/check.h"
#include "common/io/file.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES_HELD_MAX (8U << 20)

struct lighttap {
    struct gate gate;
    struct record *records;
    size_t count;
    size_t room;
};

static void append(struct lighttap *tap, struct record *record)
{
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct err err;
    record->incarnation = tap->gate.incarnation;
    record->stream = tap->gate.stream;
    if (tap->count == tap->room) {
        tap->room = tap->room == 0 ? 64 : tap->room * 2;
        tap->records = realloc(tap->records, tap->room * sizeof tap->records[0]);
        TIDE_CHECK(tap->records != NULL);
    }
    size_t size = record_encode(record, bytes, sizeof bytes);
    TIDE_CHECK(record_decode(bytes, size, &tap->records[tap->count++], &size, &err) == 0);
}

struct lighttap *lighttap_new(const struct definition_disk *disk, uint32_t cap_us)
{
    struct lighttap *tap = calloc(1, sizeof *tap);
    struct gate_out out;
    TIDE_CHECK(tap != NULL);
    struct gate_config config = {.stream = disk->stream,
                                 .next_lsn = 1,
                                 .cap_us = cap_us,
                                 .held_max = BYTES_HELD_MAX,
                                 .whole = true};
    while (config.incarnation == 0) {
        file_random(&config.incarnation, sizeof config.incarnation);
    }
    gate_init(&tap->gate, &config);
    gate_step(&tap->gate, &(struct gate_event){.type = GATE_APPEND}, &out);
    struct record record = {.type = RECORD_ATTACH, .lsn = out.lsn};
    record.attach = (struct record_attach){.boot = disk->disk,
                                           .disk = disk->disk,
                                           .timeline = disk->timeline,
                                           .size = disk->size,
                                           .block_size = disk->block_size,
                                           .clean = true,
                                           .first = true,
                                           .base_zero = true};
    append(tap, &record);
    return tap;
}

void lighttap_free(struct lighttap *tap)
{
    if (tap != NULL) {
        free(tap->records);
        free(tap);
    }
}

static void seal(struct lighttap *tap, uint64_t now_us, struct tapctl *ret)
{
    struct gate_out out;
    gate_step(&tap->gate, &(struct gate_event){.type = GATE_SEAL, .now_us = now_us}, &out);
    const struct record_seal due = tap->gate.seal;
    struct record record = {.type = RECORD_SEAL, .lsn = out.lsn, .seal = due};
    append(tap, &record);
    gate_step(&tap->gate, &(struct gate_event){.type = GATE_SEAL_APPENDED, .now_us = now_us}, &out);
    *ret = (struct tapctl){.type = TAPCTL_SEALED, .sealed = gate_told(&due, record.lsn)};
}

/* The answer to a HOLD; its bookmark is appended first. */
static void held(struct lighttap *tap, const struct tapctl_hold *hold, const struct gate_out *out,
                 struct tapctl *ret)
{
    if (out->refused) {
        *ret = (struct tapctl){.type = TAPCTL_REFUSED};
        ret->refused.round = hold->order.round;
        ret->refused.reason = out->reason;
        ret->refused.outcome = out->ended;
        snprintf(ret->refused.text, sizeof ret->refused.text, "the tap refused");
        return;
    }
    if (out->lsn != 0) {
        struct record record = {.type = RECORD_BOOKMARK, .lsn = out->lsn};
        record.bookmark = (struct record_bookmark){.order = hold->order,
                                                   .nonce = out->mark.nonce,
                                                   .unheld = hold->unheld,
                                                   .budget_us = out->budget_us};
        append(tap, &record);
    }
    *ret = (struct tapctl){.type = TAPCTL_HELD};
    ret->held.round = hold->order.round;
    ret->held.mark = out->mark;
    ret->held.budget_us = out->budget_us;
}

unsigned lighttap_order(struct lighttap *tap, const struct tapctl *order, uint64_t now_us,
                        struct tapctl ret[LIGHTTAP_ANSWERS_MAX])
{
    struct gate_event event = {.now_us = now_us};
    struct gate_out out;
    unsigned count = lighttap_tick(tap, now_us, ret); /* first: it would else hide in this step */
    if (order->type == TAPCTL_HOLD) {
        event.type = GATE_HOLD;
        event.hold = &order->hold;
        event.log_ok = true;
        file_random(event.nonce.b, sizeof event.nonce.b);
    } else {
        TIDE_CHECK(order->type == TAPCTL_RELEASE || order->type == TAPCTL_ABORT);
        event.type = order->type == TAPCTL_RELEASE ? GATE_RELEASE : GATE_ABORT;
        event.round = order->round.round;
        event.cut = order->round.cut;
    }
    gate_step(&tap->gate, &event, &out);
    if (out.seal_due) {
        seal(tap, now_us, &ret[count++]);
    }
    if (order->type == TAPCTL_HOLD) {
        held(tap, &order->hold, &out, &ret[count++]);
    }
    return count;
}

unsigned lighttap_tick(struct lighttap *tap, uint64_t now_us,
                       struct tapctl ret[LIGHTTAP_ANSWERS_MAX])
{
    struct gate_out out;
    gate_step(&tap->gate, &(struct gate_event){.type = GATE_TICK, .now_us = now_us}, &out);
    if (!out.seal_due) {
        return 0;
    }
    seal(tap, now_us, &ret[0]);
    return 1;
}

uint64_t lighttap_wake_us(const struct lighttap *tap)
{
    return tap->gate.state == GATE_HOLDING ? tap->gate.deadline_us : UINT64_MAX;
}

uint64_t lighttap_write(struct lighttap *tap, uint64_t now_us, uint64_t *ret_ticket)
{
    struct gate_out out;
    gate_step(&tap->gate, &(struct gate_event){.type = GATE_WRITE, .now_us = now_us, .bytes = 4096},
              &out);
    TIDE_CHECK(!out.seal_due && out.lsn != 0); /* ticked before; far below BYTES_HELD_MAX */
    *ret_ticket = out.ack == GATE_ACK_HOLD ? out.ticket : 0;
    return out.lsn;
}

bool lighttap_holding(const struct lighttap *tap, uint64_t ticket)
{
    return gate_holding(&tap->gate, ticket);
}

uint64_t lighttap_incarnation(const struct lighttap *tap)
{
    return tap->gate.incarnation;
}

const struct record *lighttap_records(const struct lighttap *tap, size_t *ret_count)
{
    *ret_count = tap->count;
    return tap->records;
}
