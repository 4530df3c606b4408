/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/orders.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "participant/call.h"

struct question {
    struct orders *orders;
    struct call *call;
    unsigned disk;
    struct tapctl order;
    struct tapctl_done done;
    enum err_code code; /* OK: done is set; else why the tap was not asked, or has not answered */
    char reason[TAPSET_TEXT_MAX + 1];
};

struct waiting {
    struct call *call; /* NULL: none */
    uint32_t serial;
    uint64_t until_us; /* nobody waits longer */
};

struct orders {
    struct loop *loop;
    const struct settings *settings;
    struct tapset *taps;
    struct waiting waiting[SETTINGS_DISKS_MAX];
};

struct orders *orders_new(struct loop *loop, const struct settings *settings, struct tapset *taps)
{
    struct orders *orders = calloc(1, sizeof *orders);
    TIDE_CHECK(orders != NULL);
    orders->loop = loop;
    orders->settings = settings;
    orders->taps = taps;
    return orders;
}

/* The call may be freed by it, and the question with it. */
static void end(struct question *question, enum err_code code, const char *reason)
{
    question->code = code;
    snprintf(question->reason, sizeof question->reason, "%s", reason);
    call_answer(question->call);
}

static void on_give(void *arg)
{
    struct question *question = arg;
    struct orders *orders = question->orders;
    struct waiting *waiting = &orders->waiting[question->disk];
    uint64_t now = clock_mono_us();
    if (waiting->call != NULL && waiting->until_us > now) {
        end(question, TIDE_ERR_BUSY, "another order to it is under way");
        return;
    }
    if (waiting->call != NULL) {
        call_drop(waiting->call); /* its answer never came */
        waiting->call = NULL;
    }
    if (!tapset_order(orders->taps, question->disk, &question->order)) {
        const char *reason = tapset_view(orders->taps, question->disk)->reason;
        end(question, TIDE_ERR_UNREACHABLE, reason[0] != '\0' ? reason : "it takes no more");
        return;
    }
    *waiting = (struct waiting){.call = question->call,
                                .serial = question->order.serial,
                                .until_us = now + ORDERS_WAIT_MS * CLOCK_US_PER_MS};
}

void orders_done(struct orders *orders, unsigned disk, const struct tapctl *message)
{
    struct waiting *waiting = &orders->waiting[disk];
    if (waiting->call != NULL && waiting->serial == message->serial) {
        struct question *question = waiting->call->owner;
        waiting->call = NULL;
        question->done = message->done;
        end(question, TIDE_ERR_OK, "");
    }
}

void orders_lost(struct orders *orders, unsigned disk)
{
    struct waiting *waiting = &orders->waiting[disk];
    if (waiting->call != NULL) {
        struct question *question = waiting->call->owner;
        waiting->call = NULL;
        end(question, TIDE_ERR_UNREACHABLE, "it went away before it answered");
    }
}

static int fail(const struct orders *orders, unsigned disk, enum err_code code, const char *reason,
                struct err *err)
{
    const struct settings_disk *d = &orders->settings->disks[disk];
    return err_set(err, code, "the tap of disk \"%s/%s\": %s; see `tidemark disk status`",
                   orders->settings->members[d->member].name.s, d->name.s, reason);
}

int orders_give(struct orders *orders, unsigned disk, const struct tapctl *order,
                struct tapctl_done *ret, struct err *err)
{
    struct question *question = calloc(1, sizeof *question);
    int result = -1;
    TIDE_CHECK(disk < orders->settings->disk_count);
    struct call *call = question == NULL ? NULL : call_new(question, free);
    if (call == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the question");
    }
    *question = (struct question){.orders = orders, .call = call, .disk = disk, .order = *order};
    if (loop_post(orders->loop, on_give, question, err) != 0) {
        call_drop(call);
    } else if (!call_wait(call, clock_mono_us() + ORDERS_WAIT_MS * CLOCK_US_PER_MS)) {
        fail(orders, disk, TIDE_ERR_UNREACHABLE, "no answer within 10 s", err);
    } else if (question->code != TIDE_ERR_OK) {
        fail(orders, disk, question->code, question->reason, err);
    } else {
        *ret = question->done;
        result = 0;
    }
    call_drop(call);
    return result;
}
