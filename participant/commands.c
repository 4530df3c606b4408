/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/hrl/record.h"
#include "common/io/clock.h"
#include "common/io/jsontext.h"
#include "participant/core/news.h"
#include "participant/core/standing.h"
#include "participant/uplink.h"

#define VIEW_MS     2000U
#define TAKE_MS     30000U
#define POLL_MIN_US 50000U
#define POLL_MAX_US 500000U

/* A path or a peer's text need not be UTF-8. */
static json_t *plain(const char *text)
{
    char ascii[TIDE_ERR_TEXT_MAX];
    size_t k = 0;
    for (; text[k] != '\0' && k < sizeof ascii - 1; k++) {
        ascii[k] = (char)((unsigned char)text[k] > 0x7f ? '?' : text[k]);
    }
    ascii[k] = '\0';
    return json_string(ascii);
}

static void put_text(json_t *to, const char *key, const char *text)
{
    json_t *o = json_string(text);
    json_object_set_new(to, key, o != NULL ? o : plain(text));
}

static void put_number(json_t *to, const char *key, uint64_t number)
{
    json_object_set_new(to, key, json_integer((json_int_t)number));
}

static void put_bool(json_t *to, const char *key, bool value)
{
    json_object_set_new(to, key, json_boolean(value));
}

static void put_id(json_t *to, const char *key, const struct id *id)
{
    char hex[TIDE_ID_HEX];
    put_text(to, key, id_is_zero(id) ? "" : id_hex(id, hex));
}

static void put_time(json_t *to, const char *key, uint64_t wall_ns)
{
    char time[CLOCK_TEXT_MAX];
    char text[CLOCK_TEXT_MAX + 8];
    snprintf(text, sizeof text, "%s.%03uZ", clock_text((int64_t)(wall_ns / 1000000000U), time),
             (unsigned)(wall_ns / 1000000U % 1000U));
    put_text(to, key, text);
}

/* null: not known. */
static void put_known(json_t *to, const char *key, bool known, uint64_t number)
{
    json_object_set_new(to, key, known ? json_integer((json_int_t)number) : json_null());
}

static void put_copy(json_t *to, const struct tapctl_state *state)
{
    uint64_t size = state->copy_total;
    bool running = state->copy != TAPCTL_COPY_NONE && state->copy != TAPCTL_COPY_OFF && size > 0;
    uint64_t done = state->dirty_bytes < size ? size - state->dirty_bytes : 0;
    put_text(to, "copy", tapctl_copy_name(state->copy));
    put_number(to, "copy_bytes", running ? done : 0);
    put_number(to, "copy_percent", running ? (uint64_t)((double)done * 100.0 / (double)size) : 0);
    put_number(to, "copy_rate", running ? state->copy_rate : 0);
    if (running && state->copy_rate > 0) {
        put_number(to, "copy_left_s", (size - done) / state->copy_rate);
    } else {
        json_object_set_new(to, "copy_left_s", json_null());
    }
}

/* The word, why, and what is left: null where the tap has not said it in this session. */
static void put_standing(json_t *to, const struct tapset_view *disk)
{
    const struct tapctl_state *state = &disk->state;
    enum standing standing =
        standing_of(disk->attached, disk->welcome.whole, disk->welcome.logging, state);
    bool heard = disk->attached && state->incarnation != 0;
    put_text(to, "state", standing_name(standing));
    put_text(to, "why", standing_reason(standing, state, disk->reason));
    put_known(to, "dirty_bytes", heard, state->dirty_bytes);
    put_known(to, "clients", heard, state->clients);
    put_bool(to, "comparing", heard && state->comparing);
    put_known(to, "compare_offset", heard && state->comparing, state->compare_offset);
}

/* Records that the far side has not stored yet; null while one of the two ends is not known. */
static void put_lag(json_t *to, const struct tapset_view *disk, const struct shipper_status *ship)
{
    uint64_t next = disk->state.next_lsn;
    bool near = disk->attached && next > 0;
    bool far = ship->state == SHIPPER_SHIPPING || ship->stored_lsn > 0;
    put_known(to, "lag_records", near && far && ship->stored_lsn < next,
              next - 1 - ship->stored_lsn);
}

static void put_compare(json_t *to, const struct commands *c, const struct tapctl_state *state,
                        unsigned disk)
{
    struct comparer_status compare;
    comparer_status(c->comparer, disk, &compare);
    if (state->comparing && state->size > 0) {
        put_number(to, "compare_percent",
                   (uint64_t)((double)state->compare_offset * 100.0 / (double)state->size));
    } else {
        json_object_set_new(to, "compare_percent", json_null());
    }
    put_text(to, "compare_error", compare.text);
}

static json_t *disk_object(const struct commands *c, const struct holder_view *view, unsigned i)
{
    const struct settings_disk *settings = &c->settings->disks[i];
    const struct tapset_view *disk = &view->disks[i];
    const struct tapctl_state *state = &disk->state;
    struct shipper_status ship;
    json_t *to = json_object();
    const char *gap = record_gap_name(state->gap_reason);
    shipper_status(&c->shippers[i], &ship);
    put_text(to, "group", c->settings->members[settings->member].group.s);
    put_text(to, "member", c->settings->members[settings->member].name.s);
    put_text(to, "disk", settings->name.s);
    put_text(to, "tap", settings->tap);
    put_bool(to, "attached", disk->attached);
    put_text(to, "reason", disk->attached ? "" : disk->reason);
    put_id(to, "stream", &disk->welcome.stream);
    put_text(to, "image", disk->welcome.name);
    put_number(to, "size", disk->welcome.size);
    put_bool(to, "whole", disk->attached && disk->welcome.whole);
    put_bool(to, "logging", disk->attached && disk->welcome.logging);
    put_bool(to, "holding", disk->attached && state->holding);
    put_standing(to, disk);
    put_text(to, "gap_reason", gap == NULL ? "" : gap);
    put_number(to, "gap_lsn", state->gap_lsn);
    put_copy(to, state);
    put_compare(to, c, state, i);
    put_number(to, "next_lsn", state->next_lsn > 0 ? state->next_lsn : disk->welcome.next_lsn);
    put_number(to, "synced_lsn", state->synced_lsn);
    put_number(to, "checkpoint_lsn", state->checkpoint_lsn);
    put_number(to, "ring_bytes", state->ring_bytes);
    put_number(to, "ring_used", state->ring_used);
    put_number(to, "writes", state->writes);
    put_number(to, "bytes", state->bytes);
    put_number(to, "holds", state->holds);
    put_number(to, "hold_us_max", state->hold_us_max);
    put_text(to, "shipping", shipper_state_name(ship.state));
    put_number(to, "cut_lsn", ship.cut_lsn);
    put_number(to, "stored_lsn", ship.stored_lsn);
    put_lag(to, disk, &ship);
    put_number(to, "segments", ship.segments);
    put_number(to, "shipped_bytes", ship.bytes);
    put_number(to, "failures", ship.failures);
    put_number(to, "in_flight", ship.in_flight);
    put_bool(to, "limited", ship.limited);
    if (ship.rpo_known && disk->attached && disk->welcome.logging) {
        put_number(to, "rpo_ms", (ship.rpo_us + CLOCK_US_PER_MS - 1) / CLOCK_US_PER_MS);
    } else {
        json_object_set_new(to, "rpo_ms", json_null());
    }
    put_number(to, "restreams", ship.restreams);
    put_text(to, "restream_reason", ship.restream_text);
    put_text(to, "restream_refused", ship.refusal);
    put_text(to, "error", ship.text_now ? ship.text : "");
    put_text(to, "last_error", ship.text);
    return to;
}

/* null: nothing was told of it yet; answers are known to the leader alone. */
static void put_holds(json_t *to, const struct leader_holds *holds)
{
    json_t *spread = json_null();
    if (holds->holds.count > 0) {
        spread = json_object();
        put_number(spread, "count", holds->holds.count);
        put_number(spread, "p50_us", holds->holds.p50_us);
        put_number(spread, "p99_us", holds->holds.p99_us);
        put_number(spread, "max_us", holds->holds.max_us);
    }
    json_object_set_new(to, "holds", spread);
    put_number(to, "answers", holds->answers);
    put_known(to, "answer_us", holds->answer_us > 0, holds->answer_us);
    put_known(to, "expected_us", holds->expected_us > 0, holds->expected_us);
    put_bool(to, "slow", holds->slow);
}

/* What points there are, and, where not of the whole group, who is missing and why. */
static void put_lack(json_t *to, const struct holder_seat *seat)
{
    json_t *lack = json_null();
    put_text(to, "points", seat->defined ? news_points(&seat->lack) : "");
    if (seat->lack.reason != ROUND_REASON_NONE) {
        lack = json_object();
        put_text(lack, "reason", round_reason_name(seat->lack.reason));
        put_text(lack, "member", seat->lack.member.s);
        put_time(lack, "since", seat->lack_ns);
    }
    json_object_set_new(to, "lack", lack);
}

static const char *round_label(const struct leader_round *round)
{
    if (round->scope == ROUND_SCOPE_MEMBER) {
        return "single-vm";
    }
    return round->full ? "full" : "partial";
}

static json_t *member_object(const struct commands *c, const struct holder_view *view, unsigned i)
{
    const struct holder_seat *seat = &view->seats[i];
    json_t *to = json_object();
    json_t *peers = json_array();
    put_text(to, "group", c->settings->members[i].group.s);
    put_text(to, "member", c->settings->members[i].name.s);
    put_bool(to, "defined", seat->defined);
    put_number(to, "epoch", seat->epoch.number);
    put_text(to, "leader", seat->leads.s);
    put_number(to, "reach", seat->reach);
    put_number(to, "of", seat->member_count);
    put_number(to, "interval_ms", seat->policy.interval_ms);
    put_number(to, "interval_now_ms", seat->share.interval_us / CLOCK_US_PER_MS);
    put_number(to, "held_us", seat->share.held_us);
    put_number(to, "held_us_limit", seat->share.limit_us);
    put_number(to, "hold_us_max", seat->policy.hold_us_max);
    put_text(to, "missing", seat->policy.missing == POLICY_MISSING_PARTIAL ? "partial" : "strict");
    put_lack(to, seat);
    for (unsigned k = 0; k < seat->member_count; k++) {
        json_t *peer = json_object();
        put_text(peer, "member", seat->peers[k].name.s);
        put_bool(peer, "own", seat->peers[k].own);
        put_bool(peer, "linked", seat->peers[k].link);
        put_bool(peer, "up", seat->peers[k].up);
        put_bool(peer, "heard", seat->peers[k].heard);
        put_holds(peer, &seat->peers[k].holds);
        json_array_append_new(peers, peer);
    }
    json_object_set_new(to, "peers", peers);
    return to;
}

static json_t *round_object(const struct commands *c, const struct holder_round *round)
{
    const struct msg_sum *sum = &round->round.sum;
    json_t *to = json_object();
    json_t *members = json_array();
    put_id(to, "round", &sum->round);
    put_text(to, "group", c->settings->members[round->seat].group.s);
    put_time(to, "time", round->wall_ns);
    put_text(to, "leader", round->leader.s);
    put_bool(to, "own", round->round.own);
    put_bool(to, "began", round->round.began);
    put_text(to, "scope", round_scope_name(round->round.scope));
    put_text(to, "label", round->round.began ? round_label(&round->round) : "");
    put_bool(to, "sealed", sum->sealed_by_all);
    put_text(to, "reason", round_reason_name(sum->reason));
    put_text(to, "member", sum->member.s);
    put_text(to, "text", sum->text);
    put_number(to, "wire_version", round->round.version);
    put_number(to, "wire_features", round->round.features);
    put_number(to, "hold_us_max", sum->hold_us_max);
    put_number(to, "total_us", round->round.total_us);
    put_text(to, "slowest", round->round.slowest.s);
    put_number(to, "slowest_us", round->round.slowest_us);
    for (unsigned i = 0; i < sum->member_count; i++) {
        const struct msg_member_sum *m = &sum->members[i];
        const char *outcome = round_outcome_name(m->outcome);
        json_t *member = json_object();
        put_text(member, "member", m->member.s);
        put_text(member, "outcome", outcome == NULL ? "" : outcome);
        put_number(member, "hold_us_max", m->hold_us_max);
        put_number(member, "writes_held", m->writes_held);
        json_array_append_new(members, member);
    }
    json_object_set_new(to, "members", members);
    return to;
}

static json_t *switches_object(const struct commands *c)
{
    json_t *to = json_object();
    put_bool(to, "unsafe_no_hold", c->unsafe_no_hold);
    put_number(to, "hold_skew_ms", c->hold_skew_us / CLOCK_US_PER_MS);
    put_number(to, "seed", c->seed);
    return to;
}

static json_t *registration_object(const struct commands *c)
{
    struct control_status status;
    char hex[TIDE_HASH_HEX];
    json_t *to = json_object();
    control_status(c->control, &status);
    put_bool(to, "reached", status.reached);
    put_number(to, "registered", status.registered);
    put_text(to, "digest", hash_is_zero(&status.digest) ? "" : hash_hex(&status.digest, hex));
    put_text(to, "error", status.text);
    return to;
}

static json_t *link_object(const struct holder_view *view)
{
    json_t *to = json_object();
    put_number(to, "live", view->link.live);
    put_number(to, "accepted", view->link.accepted);
    put_number(to, "dialed", view->link.dialed);
    put_number(to, "refused", view->link.refused);
    put_number(to, "dropped", view->link.dropped);
    put_number(to, "sent", view->link.sent);
    put_number(to, "received", view->link.received);
    return to;
}

static json_t *status(const struct commands *c)
{
    struct holder_view *view = NULL;
    struct err err = {0};
    char address[ADDRESS_TEXT_MAX];
    if (holder_view(c->holder, VIEW_MS, &view, &err) != 0) {
        return local_error(&err);
    }
    json_t *to = local_ok();
    json_t *members = json_array();
    json_t *disks = json_array();
    json_t *rounds = json_array();
    put_text(to, "identity", tls_identity_uri(c->identity));
    put_text(to, "version", TIDE_VERSION);
    put_text(to, "listen", address_text(&c->settings->listen, address));
    put_text(to, "coordinator", address_text(&c->settings->coordinator, address));
    json_object_set_new(to, "switches", switches_object(c));
    json_object_set_new(to, "registration", registration_object(c));
    json_object_set_new(to, "link", link_object(view));
    for (unsigned i = 0; i < view->seat_count; i++) {
        json_array_append_new(members, member_object(c, view, i));
    }
    for (unsigned i = 0; i < view->disk_count; i++) {
        json_array_append_new(disks, disk_object(c, view, i));
    }
    for (unsigned i = 0; i < view->round_count; i++) {
        json_array_append_new(rounds, round_object(c, &view->rounds[i]));
    }
    json_object_set_new(to, "members", members);
    json_object_set_new(to, "disks", disks);
    json_object_set_new(to, "rounds", rounds);
    put_number(to, "rounds_sealed", view->rounds_of_group.sealed);
    put_number(to, "rounds_failed", view->rounds_of_group.failed);
    put_number(to, "single_vm_sealed", view->rounds_of_member.sealed);
    put_number(to, "single_vm_failed", view->rounds_of_member.failed);
    put_number(to, "attestations_lost", signer_lost(c->signer));
    holder_view_free(view);
    return to;
}

/* Asks the coordinator until it can say yes or no of the round. */
static int wait_stored(const struct commands *c, const struct id *round, uint64_t deadline_us,
                       struct intake_point_state *ret, struct err *err)
{
    struct uplink *uplink = NULL;
    uint64_t pause = POLL_MIN_US;
    int result = -1;
    struct err last = {0};
    if (uplink_new(c->identity, c->settings, &uplink, err) != 0) {
        return -1;
    }
    for (;;) {
        struct intake_point_state state = {0};
        if (uplink_point(uplink, round, &state, &last) == 0) {
            if (state.answer != ROUND_ANSWER_UNKNOWN) {
                *ret = state;
                result = 0;
                break;
            }
            snprintf(last.text, sizeof last.text, "%s", state.text);
        }
        if (clock_mono_us() + pause >= deadline_us) {
            err_set(err, TIDE_ERR_UNREACHABLE,
                    "sealed, but not stored at the coordinator in time%s%s",
                    last.text[0] != '\0' ? ": " : "", last.text);
            break;
        }
        struct timespec wait = {.tv_nsec = (long)pause * 1000};
        nanosleep(&wait, NULL);
        pause = pause * 2 > POLL_MAX_US ? POLL_MAX_US : pause * 2;
    }
    uplink_free(uplink);
    return result;
}

static const char *text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return text == NULL ? "" : text;
}

static json_t *usage(const char *text)
{
    struct err err = {0};
    err_set(&err, TIDE_ERR_USAGE, "%s", text);
    return local_error(&err);
}

static json_t *take(const struct commands *c, const json_t *request)
{
    const json_t *group_json = json_object_get(request, "group");
    const json_t *kind_json = json_object_get(request, "kind");
    const json_t *wait_json = json_object_get(request, "wait");
    const json_t *timeout_json = json_object_get(request, "timeout_ms");
    struct name group;
    struct msg_taken taken = {0};
    struct err err = {0};
    json_int_t timeout_ms = timeout_json != NULL ? json_integer_value(timeout_json) : TAKE_MS;
    bool stored = wait_json != NULL && strcmp(text_of(wait_json), "stored") == 0;
    if (group_json != NULL &&
        (!json_is_string(group_json) || !name_parse(json_string_value(group_json), &group))) {
        return usage("\"group\" is not a group's name");
    }
    if (kind_json != NULL && strcmp(text_of(kind_json), "crash") != 0) {
        return usage("\"kind\" must be \"crash\"; application-consistent rounds are not taken yet");
    }
    if (wait_json != NULL && !stored && strcmp(text_of(wait_json), "sealed") != 0) {
        return usage("\"wait\" must be \"sealed\" or \"stored\"");
    }
    if (timeout_ms < 1 || timeout_ms > (json_int_t)COMMANDS_TAKE_MS_MAX) {
        return usage("\"timeout_ms\" must be 1 to 600000");
    }
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * CLOCK_US_PER_MS;
    if (holder_take(c->holder, group_json != NULL ? &group : NULL, ROUND_KIND_CRASH,
                    (uint32_t)timeout_ms, &taken, &err) != 0) {
        return local_error(&err);
    }
    json_t *to = local_ok();
    put_id(to, "round", &taken.round);
    put_bool(to, "sealed", taken.sealed);
    put_text(to, "reason", round_reason_name(taken.reason));
    put_text(to, "member", taken.member.s);
    put_text(to, "text", taken.text);
    if (stored && taken.sealed) {
        struct intake_point_state point = {0};
        if (wait_stored(c, &taken.round, deadline, &point, &err) != 0) {
            json_decref(to);
            return local_error(&err);
        }
        put_bool(to, "stored", point.answer == ROUND_ANSWER_YES);
        put_text(to, "answer", round_answer_name(point.answer));
        put_text(to, "label", point.label);
        put_text(to, "text", point.text);
    }
    return to;
}

/* Index of the settings; -1 with *err set. */
static int disk_of(const struct commands *c, const json_t *request, struct err *err)
{
    const struct settings *s = c->settings;
    const char *group = text_of(json_object_get(request, "group"));
    const char *member = text_of(json_object_get(request, "member"));
    const char *disk = text_of(json_object_get(request, "disk"));
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct settings_member *m = &s->members[s->disks[i].member];
        if (strcmp(m->group.s, group) == 0 && strcmp(m->name.s, member) == 0 &&
            strcmp(s->disks[i].name.s, disk) == 0) {
            return (int)i;
        }
    }
    return err_set(err, TIDE_ERR_NOT_FOUND, "this participant has no disk \"%.64s/%.64s/%.64s\"",
                   group, member, disk);
}

/* False: the request names no order. */
static bool order_of(const json_t *request, struct tapctl *ret)
{
    const char *order = text_of(json_object_get(request, "order"));
    const char *how = text_of(json_object_get(request, "how"));
    *ret = (struct tapctl){0};
    if (strcmp(order, "detach") == 0) {
        ret->type = TAPCTL_DETACH;
        ret->order.force = json_is_true(json_object_get(request, "force"));
    } else if (strcmp(order, "resize") == 0) {
        ret->type = TAPCTL_RESIZE;
    } else if (strcmp(order, "resync") == 0) {
        ret->type = TAPCTL_RESYNC;
        ret->order.resync = strcmp(how, "now") == 0       ? TAPCTL_RESYNC_NOW
                            : strcmp(how, "compare") == 0 ? TAPCTL_RESYNC_COMPARE
                            : strcmp(how, "full") == 0    ? TAPCTL_RESYNC_FULL
                                                          : 0;
        return ret->order.resync != 0;
    }
    return ret->type != 0;
}

static json_t *give_order(const struct commands *c, const json_t *request)
{
    struct tapctl message;
    struct tapctl_done done = {0};
    struct err err = {0};
    if (!order_of(request, &message)) {
        return usage("\"order\" must be resync (with \"how\": now, compare or full), detach or "
                     "resize");
    }
    int disk = disk_of(c, request, &err);
    if (disk < 0 || holder_order(c->holder, (unsigned)disk, &message, &done, &err) != 0) {
        return local_error(&err);
    }
    if (done.code != TIDE_ERR_OK) {
        err_set(&err, done.code, "the tap of disk \"%s\": %s", c->settings->disks[disk].name.s,
                done.text);
        return local_error(&err);
    }
    json_t *to = local_ok();
    put_text(to, "text", done.text);
    return to;
}

static json_t *event_object(const struct commands *c, const struct event *event)
{
    const struct settings_member *member = &c->settings->members[event->member];
    json_t *to = json_object();
    put_number(to, "seq", event->seq);
    put_time(to, "time", event->wall_ns);
    put_text(to, "group", member->group.s);
    put_text(to, "member", member->name.s);
    put_text(to, "disk", event->disk < 0 ? "" : c->settings->disks[event->disk].name.s);
    put_text(to, "type", news_name(event->type));
    put_number(to, "count", event->count);
    put_text(to, "text", event->text);
    return to;
}

static json_t *events(const struct commands *c, const json_t *request)
{
    const json_t *since = json_object_get(request, "since");
    struct events_span span;
    char run[TIDE_ID_HEX];
    if (!json_is_integer(since) || json_integer_value(since) < 0) {
        return usage("\"since\" must be the number of an event, or 0");
    }
    struct event *list = calloc(COMMANDS_EVENTS_MAX, sizeof *list);
    if (list == NULL) {
        struct err err;
        err_set(&err, TIDE_ERR_LIMIT, "no memory for the events");
        return local_error(&err);
    }
    unsigned count = events_read(c->events, (uint64_t)json_integer_value(since), list,
                                 COMMANDS_EVENTS_MAX, &span);
    json_t *to = local_ok();
    json_t *array = json_array();
    for (unsigned i = 0; i < count; i++) {
        json_array_append_new(array, event_object(c, &list[i]));
    }
    free(list);
    snprintf(run, sizeof run, "%016llx", (unsigned long long)span.run);
    put_text(to, "run", run);
    put_number(to, "newest", span.newest);
    put_number(to, "missed", span.missed);
    json_object_set_new(to, "events", array);
    return to;
}

static json_t *answer(const struct commands *c, const char *command, const json_t *request)
{
    if (strcmp(command, "status") == 0) {
        return status(c);
    }
    if (strcmp(command, "take") == 0) {
        return take(c, request);
    }
    if (strcmp(command, "disk") == 0) {
        return give_order(c, request);
    }
    if (strcmp(command, "events") == 0) {
        return events(c, request);
    }
    struct err err = {0};
    err_set(&err, TIDE_ERR_USAGE, "unknown command \"%s\"; expected status, take, disk or events",
            command);
    return local_error(&err);
}

json_t *commands_answer(void *arg, const char *command, const json_t *request)
{
    unsigned long before = jsontext_failures();
    json_t *to = answer(arg, command, request);
    if (jsontext_failures() != before) {
        json_decref(to); /* parts of it may be missing */
        return NULL;
    }
    return to;
}
