/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tapset.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "participant/tapclient.h"

struct slot { /* one disk */
    struct tapset *set;
    unsigned index;
    struct tapclient *client;
    struct port *port;
    struct tapset_view view;
    struct id stream;          /* of the last session */
    struct tapctl_state known; /* last heard of that stream, also in a session before */
    uint32_t restream;         /* serial of the RESTREAM that is not answered; 0: none */
};

struct tapset {
    struct loop *loop;
    const struct settings *settings;
    struct events *events;
    struct tapset_calls calls;
    void *arg;
    atomic_bool kicked;
    struct slot slots[SETTINGS_DISKS_MAX];
};

static void tell_tap(struct slot *slot)
{
    struct port_wants wants;
    struct tapctl_compared compared;
    port_wants(slot->port, &wants);
    if (wants.sync > 0) {
        struct tapctl message = {.type = TAPCTL_SYNC, .lsn = {wants.sync}};
        tapclient_send(slot->client, &message);
    }
    if (wants.stored > 0) {
        struct tapctl message = {.type = TAPCTL_STORED, .lsn = {wants.stored}};
        tapclient_send(slot->client, &message);
    }
    if (port_wants_compared(slot->port, &compared)) {
        struct tapctl message = {.type = TAPCTL_COMPARED, .compared = compared};
        tapclient_send(slot->client, &message);
    }
    if (!id_is_zero(&wants.restream)) {
        struct tapctl message = {.type = TAPCTL_RESTREAM, .order = {.stream = wants.restream}};
        slot->restream = tapclient_send(slot->client, &message) ? message.serial : 0;
    }
}

static struct member_tap tap_of(const struct slot *slot)
{
    return (struct member_tap){
        .attached = slot->view.attached,
        .stream = slot->view.welcome.stream,
        .incarnation = slot->view.attached ? slot->view.welcome.incarnation : 0,
        .whole = slot->view.attached && slot->view.welcome.whole,
        .gap = slot->view.attached && !slot->view.welcome.whole ? slot->view.state.gap_reason : 0,
        .logging = slot->view.attached && slot->view.welcome.logging};
}

static void tell_seat(struct slot *slot)
{
    struct member_tap tap = tap_of(slot);
    slot->set->calls.tap(slot->set->arg, slot->index, &tap);
}

static void note_stream(struct slot *slot, const struct tapctl_welcome *welcome)
{
    char now[TIDE_ID_HEX];
    char before[TIDE_ID_HEX];
    if (id_equal(&slot->stream, &welcome->stream)) {
        return;
    }
    if (!id_is_zero(&slot->stream)) {
        events_disk(slot->set->events, NEWS_RESTREAMED, slot->index,
                    "the tap has begun stream %s in place of %s", id_hex(&welcome->stream, now),
                    id_hex(&slot->stream, before));
    }
    slot->stream = welcome->stream;
    memset(&slot->known, 0, sizeof slot->known);
}

static void on_tap_welcome(void *arg, const struct tapctl_welcome *welcome, const int *fds)
{
    struct slot *slot = arg;
    slot->restream = 0;
    slot->view.attached = true;
    slot->view.since_us = clock_mono_us();
    slot->view.welcome = *welcome;
    memset(&slot->view.state, 0, sizeof slot->view.state);
    slot->view.reason[0] = '\0';
    events_disk(slot->set->events, NEWS_ATTACHED, slot->index, "tap attached, next lsn %llu, %s",
                (unsigned long long)welcome->next_lsn, welcome->whole ? "whole" : "not whole");
    note_stream(slot, welcome);
    port_attached(slot->port, welcome, fds);
    tell_tap(slot);
    tell_seat(slot);
}

static void tell_news(struct slot *slot, const struct tapctl_state *now)
{
    struct news news[TIDE_NEWS_STATE_MAX];
    unsigned count = news_of_state(&slot->known, now, news);
    for (unsigned i = 0; i < count; i++) {
        events_disk(slot->set->events, news[i].type, slot->index, "%s", news[i].text);
    }
    slot->known = *now;
}

static void on_tap_message(void *arg, const struct tapctl *message)
{
    struct slot *slot = arg;
    port_message(slot->port, message);
    if (message->type == TAPCTL_DONE && message->serial == slot->restream && slot->restream != 0) {
        slot->restream = 0;
        port_restreamed(slot->port, &message->done);
        return;
    }
    if (message->type == TAPCTL_STATE) {
        bool changed = slot->view.welcome.whole != message->state.whole ||
                       slot->view.welcome.logging != message->state.logging ||
                       slot->view.state.gap_reason != message->state.gap_reason ||
                       slot->view.welcome.incarnation != message->state.incarnation;
        slot->view.state = message->state;
        slot->view.welcome.whole = message->state.whole;
        slot->view.welcome.logging = message->state.logging;
        slot->view.welcome.incarnation = message->state.incarnation;
        slot->view.welcome.size = message->state.size;
        tell_news(slot, &message->state);
        if (changed) {
            tell_seat(slot);
        }
        return;
    }
    slot->set->calls.message(slot->set->arg, slot->index, message);
}

static void on_tap_lost(void *arg, bool was_up, const char *reason)
{
    struct slot *slot = arg;
    snprintf(slot->view.reason, sizeof slot->view.reason, "%s", reason);
    if (!was_up) {
        return;
    }
    events_disk(slot->set->events, NEWS_LOST, slot->index, "tap lost: %s", reason);
    slot->view.attached = false;
    slot->view.since_us = clock_mono_us();
    port_lost(slot->port);
    tell_seat(slot);
}

static void on_kick(void *arg)
{
    struct tapset *set = arg;
    atomic_store(&set->kicked, false);
    for (unsigned i = 0; i < set->settings->disk_count; i++) {
        tell_tap(&set->slots[i]);
    }
}

static void kick(void *arg)
{
    struct tapset *set = arg;
    if (!atomic_exchange(&set->kicked, true) && loop_post(set->loop, on_kick, set, NULL) != 0) {
        atomic_store(&set->kicked, false); /* asked again with the next request */
    }
}

struct attest_job {
    struct tapset *set;
    unsigned disk;
    struct tapctl message;
};

static void on_attest(void *arg)
{
    struct attest_job *job = arg;
    tapclient_send(job->set->slots[job->disk].client, &job->message);
    free(job);
}

void tapset_attest(struct tapset *set, unsigned disk, const struct tapctl_attest *attest)
{
    struct attest_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return;
    }
    job->set = set;
    job->disk = disk;
    job->message.type = TAPCTL_ATTEST;
    job->message.attest = *attest;
    if (loop_post(set->loop, on_attest, job, NULL) != 0) {
        free(job);
    }
}

struct tapset *tapset_new(struct loop *loop, const struct settings *settings, struct events *events,
                          const struct tapset_calls *calls, void *arg)
{
    struct tapset *set = calloc(1, sizeof *set);
    TIDE_CHECK(set != NULL);
    set->loop = loop;
    set->settings = settings;
    set->events = events;
    set->calls = *calls;
    set->arg = arg;
    for (unsigned i = 0; i < settings->disk_count; i++) {
        struct slot *slot = &set->slots[i];
        slot->set = set;
        slot->index = i;
        slot->port = port_new(kick, set);
        snprintf(slot->view.reason, sizeof slot->view.reason, "not tried yet");
    }
    return set;
}

void tapset_start(struct tapset *set)
{
    static const struct tapclient_calls calls = {on_tap_welcome, on_tap_message, on_tap_lost};
    for (unsigned i = 0; i < set->settings->disk_count; i++) {
        struct slot *slot = &set->slots[i];
        slot->client = tapclient_new(set->loop, set->settings->disks[i].tap, &calls, slot);
    }
}

void tapset_stop(struct tapset *set)
{
    for (unsigned i = 0; i < set->settings->disk_count; i++) {
        tapclient_free(set->slots[i].client);
        set->slots[i].client = NULL;
    }
}

bool tapset_order(struct tapset *set, unsigned disk, struct tapctl *message)
{
    return tapclient_send(set->slots[disk].client, message);
}

struct member_tap tapset_tap(const struct tapset *set, unsigned disk)
{
    return tap_of(&set->slots[disk]);
}

const struct tapset_view *tapset_view(const struct tapset *set, unsigned disk)
{
    return &set->slots[disk].view;
}

struct port *tapset_port(struct tapset *set, unsigned disk)
{
    TIDE_CHECK(disk < set->settings->disk_count);
    return set->slots[disk].port;
}
