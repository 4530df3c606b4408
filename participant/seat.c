/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/seat.h"

#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/faultpoint.h"
#include "common/io/file.h"
#include "common/io/log.h"

#define NOTES_BURST  5U
#define NOTES_PERIOD 10000000U

struct seat {
    struct seat_options options;
    const struct settings_member *own; /* in the settings */
    const struct definition *definition;
    unsigned self;
    struct policy policy;
    struct leader *leader;
    struct member *member;
    bool taps_changed;
    uint64_t now_us; /* of the event under way */
    struct log_limit notes;
};

/* A disk's index in the settings from the member's own, or -1; and the other way. */
static int to_settings(const struct seat *seat, unsigned disk)
{
    const struct settings *settings = seat->options.settings;
    const struct definition_member *self = &seat->definition->members[seat->self];
    const struct name *name = &seat->definition->disks[self->disk_first + disk].name;
    for (unsigned i = 0; i < settings->disk_count; i++) {
        if (settings->disks[i].member == seat->options.index &&
            name_equal(&settings->disks[i].name, name)) {
            return (int)i;
        }
    }
    return -1;
}

static int from_settings(const struct seat *seat, unsigned disk)
{
    if (seat->definition == NULL) {
        return -1;
    }
    int flat = definition_find_disk(seat->definition, seat->self,
                                    &seat->options.settings->disks[disk].name);
    return flat < 0 ? -1 : flat - (int)seat->definition->members[seat->self].disk_first;
}

static void note(struct seat *seat, const char *text)
{
    uint64_t lost = 0;
    if (log_allowed(&seat->notes, NOTES_BURST, NOTES_PERIOD, seat->now_us, &lost)) {
        log_info("member %s/%s: %s", seat->own->group.s, seat->own->name.s, text);
        if (lost > 0) {
            log_info("member %s/%s: %llu notes were held back", seat->own->group.s,
                     seat->own->name.s, (unsigned long long)lost);
        }
    }
}

static void order(struct seat *seat, unsigned disk, struct tapctl *message)
{
    int index = to_settings(seat, disk);
    if (index >= 0) {
        seat->options.calls.order(seat->options.arg, (unsigned)index, message);
    }
}

static void put_member(void *context, const struct member_effect *effect)
{
    struct seat *seat = context;
    const struct seat_calls *calls = &seat->options.calls;
    struct tapctl message;
    int disk;
    switch (effect->type) {
    case MEMBER_SEND:
        FAULT_POINT(effect->msg->type == MSG_HELD, "taps-hold");
        FAULT_POINT(effect->msg->type == MSG_SEALED, "taps-sealed");
        calls->send(seat->options.arg, seat,
                    effect->to < 0 ? NULL : &seat->definition->members[effect->to], effect->msg);
        FAULT_POINT(effect->msg->type == MSG_HELD, "held-sent");
        return;
    case MEMBER_ORDER_HOLD:
        FAULT_POINT(true, "hold-received");
        message = (struct tapctl){.type = TAPCTL_HOLD, .hold = *effect->hold};
        order(seat, effect->disk, &message);
        return;
    case MEMBER_ORDER_RELEASE:
        message = (struct tapctl){.type = TAPCTL_RELEASE, .round = *effect->order};
        order(seat, effect->disk, &message);
        FAULT_POINT(true, "tap-released");
        return;
    case MEMBER_ORDER_ABORT:
        message = (struct tapctl){.type = TAPCTL_ABORT, .round = *effect->order};
        order(seat, effect->disk, &message);
        return;
    case MEMBER_ATTEST:
        disk = to_settings(seat, effect->disk);
        if (disk >= 0) {
            calls->attest(seat->options.arg, (unsigned)disk, effect->statement);
        }
        return;
    case MEMBER_TAPS:
        seat->taps_changed = true;
        return;
    case MEMBER_NOTE:
        note(seat, effect->text);
        return;
    }
}

static void put_leader(void *context, const struct leader_effect *effect)
{
    struct seat *seat = context;
    const struct seat_calls *calls = &seat->options.calls;
    switch (effect->type) {
    case LEADER_SEND:
        FAULT_POINT(effect->msg->type == MSG_RELEASE, "release-due");
        calls->send(seat->options.arg, seat, &seat->definition->members[effect->to], effect->msg);
        FAULT_POINT(effect->msg->type == MSG_HOLD, "hold-sent");
        FAULT_POINT(effect->msg->type == MSG_RELEASE, "release-sent");
        return;
    case LEADER_CHANGE:
        log_info("member %s/%s: %s%s", seat->own->group.s, seat->own->name.s,
                 effect->leads < 0 ? "no leader is reached" : "the leader is now ",
                 effect->leads < 0 ? "" : seat->definition->members[effect->leads].name.s);
        return;
    case LEADER_ROUND:
        calls->round(seat->options.arg, seat, effect->round);
        return;
    case LEADER_LACK:
        calls->lack(seat->options.arg, seat, effect->lack);
        return;
    case LEADER_TAKEN:
        calls->taken(seat->options.arg, seat, effect->taken);
        return;
    case LEADER_NOTE:
        note(seat, effect->text);
        return;
    }
}

static void step_leader(struct seat *seat, struct leader_event *event)
{
    const struct leader_outbox outbox = {put_leader, seat};
    event->now_us = seat->now_us;
    leader_step(seat->leader, event, &outbox);
}

static void step_member(struct seat *seat, struct member_event *event)
{
    const struct member_outbox outbox = {put_member, seat};
    event->now_us = seat->now_us;
    member_step(seat->member, event, &outbox);
    if (seat->taps_changed) {
        struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
        struct leader_event taps_event = {.type = LEADER_TAPS, .taps = taps};
        taps_event.tap_count = member_taps(seat->member, taps);
        seat->taps_changed = false;
        step_leader(seat, &taps_event);
    }
}

struct seat *seat_new(const struct seat_options *options)
{
    struct seat *seat = calloc(1, sizeof *seat);
    TIDE_CHECK(seat != NULL);
    seat->options = *options;
    seat->own = &options->settings->members[options->index];
    policy_init(&seat->policy);
    struct leader_config leader = {.name = seat->own->name,
                                   .incarnation = options->incarnation,
                                   .retries = TIDE_LEADER_RETRIES};
    struct member_config member = {.name = seat->own->name,
                                   .incarnation = options->incarnation,
                                   .unsafe_no_hold = options->unsafe_no_hold,
                                   .hold_delay_us_max = options->hold_skew_us,
                                   .hold_delay_seed = options->hold_skew_seed};
    seat->leader = leader_new(&leader);
    seat->member = member_new(&member);
    TIDE_CHECK(seat->leader != NULL && seat->member != NULL);
    return seat;
}

void seat_free(struct seat *seat)
{
    if (seat != NULL) {
        leader_free(seat->leader);
        member_free(seat->member);
        free(seat);
    }
}

void seat_define(struct seat *seat, const struct definition *definition, uint64_t now_us)
{
    int self = definition == NULL ? -1 : definition_find_member(definition, &seat->own->name);
    seat->now_us = now_us;
    if (self >= 0 && strcmp(definition->members[self].identity, seat->options.identity) != 0) {
        log_error("member %s/%s: the definition gives it to %s, we are %s; correct the group file "
                  "or this daemon's configuration",
                  seat->own->group.s, seat->own->name.s, definition->members[self].identity,
                  seat->options.identity);
        self = -1;
    }
    /* Both machines first end what they do under the old definition, whose indices their effects
     * then carry. */
    const struct member_outbox member_outbox = {put_member, seat};
    const struct leader_outbox leader_outbox = {put_leader, seat};
    struct member_event member = {.type = MEMBER_DEFINITION, .now_us = now_us};
    struct leader_event leader = {.type = LEADER_DEFINITION, .now_us = now_us};
    if (self >= 0) {
        member.definition = definition;
        member.self = (unsigned)self;
    }
    member_step(seat->member, &member, &member_outbox);
    leader_step(seat->leader, &leader, &leader_outbox);
    seat->definition = NULL;
    seat->taps_changed = false;
    if (self < 0) {
        return;
    }
    seat->definition = leader.definition = definition;
    seat->self = leader.self = (unsigned)self;
    leader_step(seat->leader, &leader, &leader_outbox);
    struct msg_tap taps[TIDE_MEMBER_DISKS_MAX];
    struct leader_event taps_event = {.type = LEADER_TAPS, .taps = taps};
    taps_event.tap_count = member_taps(seat->member, taps);
    step_leader(seat, &taps_event);
}

void seat_policy(struct seat *seat, const struct policy *policy, uint64_t now_us)
{
    struct leader_event event = {.type = LEADER_POLICY, .policy = policy};
    seat->now_us = now_us;
    seat->policy = *policy;
    step_leader(seat, &event);
}

void seat_link(struct seat *seat, unsigned member, bool up, uint64_t now_us)
{
    struct leader_event leader = {.type = LEADER_LINK, .peer = member, .up = up};
    seat->now_us = now_us;
    step_leader(seat, &leader);
    if (!up) {
        struct member_event event = {.type = MEMBER_LINK_DOWN, .peer = member};
        step_member(seat, &event);
    }
}

void seat_message(struct seat *seat, const struct msg *msg, uint64_t now_us)
{
    seat->now_us = now_us;
    if (msg->type == MSG_HOLD || msg->type == MSG_RELEASE || msg->type == MSG_ABORT) {
        struct member_event event = {.type = MEMBER_MESSAGE, .msg = msg};
        step_member(seat, &event);
    } else {
        struct leader_event event = {.type = LEADER_MESSAGE, .msg = msg};
        step_leader(seat, &event);
    }
}

void seat_tap(struct seat *seat, unsigned disk, const struct member_tap *tap, uint64_t now_us)
{
    int index = from_settings(seat, disk);
    if (index >= 0) {
        struct member_event event = {.type = MEMBER_TAP, .disk = (unsigned)index, .tap = *tap};
        seat->now_us = now_us;
        step_member(seat, &event);
    }
}

void seat_tap_message(struct seat *seat, unsigned disk, const struct tapctl *message,
                      uint64_t now_us)
{
    int index = from_settings(seat, disk);
    struct member_event event = {.disk = (unsigned)(index < 0 ? 0 : index)};
    if (index < 0) {
        return;
    }
    if (message->type == TAPCTL_HELD) {
        event.type = MEMBER_TAP_HELD;
        event.held = &message->held;
    } else if (message->type == TAPCTL_REFUSED) {
        event.type = MEMBER_TAP_REFUSED;
        event.refused = &message->refused;
    } else if (message->type == TAPCTL_SEALED) {
        event.type = MEMBER_TAP_SEALED;
        event.sealed = &message->sealed;
    } else {
        return;
    }
    seat->now_us = now_us;
    step_member(seat, &event);
}

void seat_take(struct seat *seat, const struct msg_take *take, uint64_t now_us)
{
    struct leader_event event = {.type = LEADER_TAKE, .take = take};
    seat->now_us = now_us;
    step_leader(seat, &event);
}

uint64_t seat_wake_us(const struct seat *seat)
{
    uint64_t leader = leader_wake_us(seat->leader);
    uint64_t member = member_wake_us(seat->member);
    return leader < member ? leader : member;
}

void seat_tick(struct seat *seat, uint64_t now_us)
{
    seat->now_us = now_us;
    if (member_wake_us(seat->member) <= now_us) {
        struct member_event event = {.type = MEMBER_TICK};
        step_member(seat, &event);
    }
    if (leader_wake_us(seat->leader) <= now_us) {
        struct leader_event event = {.type = LEADER_TICK};
        file_random(event.random.b, sizeof event.random.b);
        step_leader(seat, &event);
    }
}

const struct definition *seat_definition(const struct seat *seat)
{
    return seat->definition;
}

unsigned seat_self(const struct seat *seat)
{
    return seat->self;
}

unsigned seat_index(const struct seat *seat)
{
    return seat->options.index;
}

int seat_leads(const struct seat *seat)
{
    return seat->definition == NULL ? -1 : leader_leads(seat->leader);
}

unsigned seat_reach(const struct seat *seat)
{
    return leader_reach(seat->leader);
}

bool seat_hears(const struct seat *seat, unsigned member)
{
    return seat->definition != NULL && leader_hears(seat->leader, member);
}

struct leader_lack seat_lack(const struct seat *seat)
{
    return leader_lack(seat->leader);
}

struct leader_holds seat_holds(const struct seat *seat, unsigned member)
{
    return leader_holds(seat->leader, member);
}

struct leader_share seat_share(const struct seat *seat)
{
    return leader_share(seat->leader);
}

const struct policy *seat_get_policy(const struct seat *seat)
{
    return &seat->policy;
}
