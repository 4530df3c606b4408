/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/keeper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SYNC_NS   UINT64_C(50000000)
#define IDLE_NS   UINT64_C(20000000)
#define LOOK_S    20U
#define WHOLE_S   60U
#define BUDGET_US 50000U

static struct id round_id(uint64_t number)
{
    struct id id = {{0}};
    memcpy(id.b, &number, sizeof number);
    return id;
}

static void send_hold(struct keeper *k)
{
    struct tapctl message = {.type = TAPCTL_HOLD,
                             .hold = {.order = {.round = round_id(++k->rounds),
                                                .group = round_id(1),
                                                .epoch = {.number = 1},
                                                .scope = ROUND_SCOPE_GROUP,
                                                .kind = ROUND_KIND_CRASH},
                                      .incarnation = k->server->incarnation,
                                      .budget_us = BUDGET_US}};
    set_init(&message.hold.order.set, 1);
    set_add(&message.hold.order.set, 0);
    k->hold_sent = server_now_ns();
    k->sent_late = (double)(k->hold_sent - k->mark_due) / 1e9;
    k->mark_due = k->hold_sent + k->mark_ms * UINT64_C(1000000);
    server_send(k->server, &message);
}

static void send_release(struct keeper *k)
{
    struct tapctl message = {.type = TAPCTL_RELEASE, .round = {.round = round_id(k->rounds)}};
    memset(message.round.cut.b, 0xcc, sizeof message.round.cut.b);
    k->release_due = 0;
    server_send(k->server, &message);
}

static void send_sync(struct keeper *k, uint64_t now)
{
    struct tapctl sync = {.type = TAPCTL_SYNC};
    struct tapctl status = {.type = TAPCTL_STATUS};
    k->syncing = true;
    k->sync_due = now + SYNC_NS;
    server_send(k->server, &sync);
    server_send(k->server, &status);
}

static void take_state(struct keeper *k, const struct tapctl *message)
{
    k->whole = message->state.whole;
    k->logging = message->state.logging;
    k->copy = (unsigned)message->state.copy;
    k->dirty = message->state.dirty_bytes;
    k->looked++;
}

static void take(struct keeper *k, const struct tapctl *message)
{
    uint64_t now = server_now_ns();
    struct tapctl stored = {.type = TAPCTL_STORED};
    if (message->type == TAPCTL_HELD) {
        if (k->held_count < KEEPER_MARKS_MAX) {
            k->late[k->held_count] = k->sent_late;
            k->held[k->held_count++] = (double)(now - k->hold_sent) / 1e9;
        }
        k->hold_sent = 0;
        k->release_due = now + k->hold_us * UINT64_C(1000);
    } else if (message->type == TAPCTL_REFUSED) {
        k->refused++;
        k->hold_sent = 0;
    } else if (message->type == TAPCTL_SYNCED) {
        k->syncing = false;
        stored.lsn.lsn = message->synced.lsn;
        server_send(k->server, &stored);
    } else if (message->type == TAPCTL_STATE) {
        take_state(k, message);
    }
}

static bool may_mark(const struct keeper *k)
{
    return k->mark_ms != 0 && k->hold_sent == 0 && k->release_due == 0 && !k->stop;
}

/* Does what is due; returns how long there is nothing to do. */
static uint64_t act(struct keeper *k, uint64_t now)
{
    if (k->release_due != 0 && now >= k->release_due) {
        send_release(k);
    }
    if (may_mark(k) && now >= k->mark_due) {
        send_hold(k);
    }
    if (!k->syncing && !k->stop && now >= k->sync_due) {
        send_sync(k, now);
    }
    uint64_t next = now + IDLE_NS;
    next = k->release_due != 0 && k->release_due < next ? k->release_due : next;
    next = may_mark(k) && k->mark_due < next ? k->mark_due : next;
    next = !k->syncing && k->sync_due < next ? k->sync_due : next;
    return next > now ? next - now : 0;
}

static void *keep(void *context)
{
    struct keeper *k = context;
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message;
    struct err err;
    while (!k->stop || k->syncing || k->hold_sent != 0 || k->release_due != 0) {
        struct timespec wait = {.tv_nsec = (long)act(k, server_now_ns())};
        struct pollfd ready = {.fd = k->server->control, .events = POLLIN};
        if (ppoll(&ready, 1, &wait, NULL) != 1) {
            continue;
        }
        ssize_t got = recv(k->server->control, bytes, sizeof bytes, 0);
        if (got <= 0 || tapctl_decode(bytes, (size_t)got, &message, &err) != 0) {
            server_die(k->server->name, "the tap hung up on the keeper");
        }
        take(k, &message);
    }
    return NULL;
}

void keeper_start(struct keeper *k, const struct server *server, unsigned mark_ms, unsigned hold_us)
{
    static uint64_t rounds; /* a round of a tap never comes twice */
    rounds += UINT64_C(1) << 32;
    memset(k, 0, sizeof *k);
    k->server = server;
    k->mark_ms = mark_ms;
    k->hold_us = hold_us;
    k->rounds = rounds;
    k->mark_due = server_now_ns() + mark_ms * UINT64_C(500000);
    int why = pthread_create(&k->thread, NULL, keep, k);
    if (why != 0) {
        server_die("cannot start a thread", strerror(why));
    }
}

void keeper_stop(struct keeper *k)
{
    k->stop = true;
    (void)pthread_join(k->thread, NULL);
}

void keeper_look(const struct keeper *k)
{
    uint64_t seen = k->looked;
    uint64_t until = server_now_ns() + LOOK_S * UINT64_C(1000000000);
    while (k->looked < seen + 2) {
        if (server_now_ns() > until) {
            server_die(k->server->name, "does not tell its state");
        }
        server_pause_ms(1);
    }
}

void keeper_until_whole(const struct keeper *k)
{
    uint64_t until = server_now_ns() + WHOLE_S * UINT64_C(1000000000);
    for (keeper_look(k); !k->whole; server_pause_ms(5)) {
        if (server_now_ns() > until) {
            server_die(k->server->name, "the copy does not end");
        }
    }
}
