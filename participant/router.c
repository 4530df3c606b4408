/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/router.h"

#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "common/wire/envelope.h"

#define NO_PEER      SIZE_MAX
#define NOTES_BURST  5U
#define NOTES_PERIOD 10000000U

struct router {
    struct router_options options;
    const char *self; /* our URI */
    struct link *link;
    size_t peer_count;
    struct link_peer *peers; /* owned; LINK_PEERS_MAX */
    bool setting;            /* inside link_set_peers(): seats hear of it afterwards */
    size_t reply_peer;       /* of the message under way; NO_PEER: own member or none */
    bool draining;
    size_t queue_used; /* bytes: u32 size, message; ... */
    uint64_t queue_lost;
    struct log_limit notes;
    uint8_t queue[ROUTER_QUEUE_MAX];
    uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    struct msg msg; /* decoded, under way */
};

static void note(struct router *r, const char *text, const char *about)
{
    uint64_t lost = 0;
    if (log_allowed(&r->notes, NOTES_BURST, NOTES_PERIOD, clock_mono_us(), &lost)) {
        log_warn("link: %s%s%s%s", text, about[0] != '\0' ? ": " : "", about,
                 lost > 0 ? " (and more like it)" : "");
    }
}

static bool is_own(const struct router *r, const struct definition_member *member)
{
    return strcmp(member->identity, r->self) == 0;
}

static size_t find_peer(const struct router *r, const char *uri)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        if (strcmp(r->peers[i].uri, uri) == 0) {
            return i;
        }
    }
    return NO_PEER;
}

/* ---- in ---- */

static void feed(struct router *r, const uint8_t *bytes, size_t size, size_t from_peer)
{
    const char *uri = from_peer == NO_PEER ? r->self : r->peers[from_peer].uri;
    struct err err = {0};
    if (envelope_decode(bytes, size, &r->msg, &err) != 0) {
        note(r, uri, err.text);
        return;
    }
    const struct msg_head *head = &r->msg.head;
    struct seat *seat = NULL;
    for (unsigned i = 0; i < r->options.seat_count; i++) {
        struct seat *s = r->options.seats[i];
        const struct definition *d = seat_definition(s);
        if (name_equal(&r->options.settings->members[i].name, &head->to) &&
            (d == NULL || id_equal(&d->group, &head->group))) {
            seat = s;
            if (d != NULL) {
                break; /* a member without a definition is the second choice */
            }
        }
    }
    if (seat == NULL) {
        note(r, "message for a member that is not here", head->to.s);
        return;
    }
    const struct definition *d = seat_definition(seat);
    int from = d == NULL ? -1 : definition_find_member(d, &head->from);
    if (d != NULL && (from < 0 || strcmp(d->members[from].identity, uri) != 0)) {
        note(r, "sender is not the member it says it is", uri);
        return;
    }
    r->reply_peer = from_peer;
    seat_message(seat, &r->msg, clock_mono_us());
    r->reply_peer = NO_PEER;
}

static void on_message(void *arg, size_t peer, const uint8_t *bytes, size_t size)
{
    struct router *r = arg;
    feed(r, bytes, size, peer);
    r->options.settled(r->options.arg);
}

/* Tells the seats that the link to all members of that daemon changed. */
static void tell(struct router *r, const char *uri, bool up)
{
    for (unsigned i = 0; i < r->options.seat_count; i++) {
        const struct definition *d = seat_definition(r->options.seats[i]);
        for (unsigned m = 0; d != NULL && m < d->member_count; m++) {
            if (strcmp(d->members[m].identity, uri) == 0) {
                seat_link(r->options.seats[i], m, up, clock_mono_us());
            }
        }
    }
}

static void on_up(void *arg, size_t peer)
{
    struct router *r = arg;
    log_info("link: %s is up", r->peers[peer].uri);
    tell(r, r->peers[peer].uri, true);
    r->options.settled(r->options.arg);
}

static void on_down(void *arg, size_t peer, const char *reason)
{
    struct router *r = arg;
    if (r->setting) {
        return;
    }
    log_warn("link: %s is down: %s", r->peers[peer].uri, reason);
    tell(r, r->peers[peer].uri, false);
    r->options.settled(r->options.arg);
}

static void on_refused(void *arg, const char *text)
{
    note(arg, text, "");
}

/* ---- out ---- */

static void queue(struct router *r, size_t size)
{
    uint32_t head = (uint32_t)size;
    if (sizeof r->queue - r->queue_used < sizeof head + size) {
        r->queue_lost++;
        return;
    }
    memcpy(r->queue + r->queue_used, &head, sizeof head);
    memcpy(r->queue + r->queue_used + sizeof head, r->bytes, size);
    r->queue_used += sizeof head + size;
}

void router_send(struct router *r, const struct definition_member *to, const struct msg *msg)
{
    bool own = to == NULL ? r->reply_peer == NO_PEER : is_own(r, to);
    size_t peer = NO_PEER;
    if (!own) {
        peer = to == NULL ? r->reply_peer : find_peer(r, to->identity);
        if (peer == NO_PEER || !link_is_up(r->link, peer)) {
            return;
        }
    }
    size_t size = envelope_encode(msg, r->bytes);
    if (own) {
        queue(r, size);
    } else {
        struct err err = {0};
        if (link_send(r->link, peer, r->bytes, size, &err) != 0) {
            note(r, r->peers[peer].uri, err.text);
        }
    }
}

void router_drain(struct router *r)
{
    size_t at = 0;
    if (r->draining) {
        return;
    }
    r->draining = true;
    while (at < r->queue_used) {
        uint32_t size;
        memcpy(&size, r->queue + at, sizeof size);
        feed(r, r->queue + at + sizeof size, size, NO_PEER);
        at += sizeof size + size;
    }
    r->queue_used = 0;
    r->draining = false;
}

/* ---- peers ---- */

/* Adds a daemon that a seat of this definition links to. */
static void add_peer(struct router *r, size_t *count, const struct definition_member *member)
{
    struct link_peer *peer = &r->peers[*count];
    struct err err = {0};
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(r->peers[i].uri, member->identity) == 0) {
            return; /* in several groups: the first address counts */
        }
    }
    if (*count == LINK_PEERS_MAX) {
        note(r, "more peers than a daemon can have, left out", member->identity);
        return;
    }
    memset(peer, 0, sizeof *peer);
    memcpy(peer->uri, member->identity, sizeof peer->uri);
    peer->dial = strcmp(r->self, member->identity) > 0;
    if (address_parse(member->address, false, &peer->address, &err) != 0) {
        note(r, member->identity, err.text);
        return;
    }
    (*count)++;
}

void router_set_peers(struct router *r)
{
    size_t count = 0;
    struct err err = {0};
    r->setting = true;
    for (unsigned i = 0; i < r->options.seat_count; i++) {
        const struct definition *d = seat_definition(r->options.seats[i]);
        for (unsigned m = 0; d != NULL && m < d->member_count; m++) {
            unsigned candidates = definition_candidates(d);
            bool wanted = m < candidates || seat_self(r->options.seats[i]) < candidates;
            if (wanted && !is_own(r, &d->members[m])) {
                add_peer(r, &count, &d->members[m]);
            }
        }
    }
    if (link_set_peers(r->link, r->peers, count, &err) != 0) {
        log_error("link: the definitions' peers cannot be used: %s", err.text);
        count = 0;
        TIDE_CHECK(link_set_peers(r->link, NULL, 0, &err) == 0);
    }
    r->peer_count = count;
    r->setting = false;
    for (unsigned i = 0; i < r->options.seat_count; i++) {
        struct seat *seat = r->options.seats[i];
        const struct definition *d = seat_definition(seat);
        for (unsigned m = 0; d != NULL && m < d->member_count; m++) {
            if (m != seat_self(seat)) {
                size_t peer = find_peer(r, d->members[m].identity);
                bool up =
                    is_own(r, &d->members[m]) || (peer != NO_PEER && link_is_up(r->link, peer));
                seat_link(seat, m, up, clock_mono_us());
            }
        }
    }
}

void router_look(const struct router *r, const struct definition_member *member, bool *ret_own,
                 bool *ret_link, bool *ret_up)
{
    size_t peer = find_peer(r, member->identity);
    *ret_own = is_own(r, member);
    *ret_link = peer != NO_PEER;
    *ret_up = *ret_own || (peer != NO_PEER && link_is_up(r->link, peer));
}

struct link_stats router_stats(const struct router *r, uint64_t *ret_queue_lost)
{
    *ret_queue_lost = r->queue_lost;
    return link_stats(r->link);
}

int router_new(const struct router_options *options, struct router **ret, struct err *err)
{
    struct router *r = calloc(1, sizeof *r);
    TIDE_CHECK(r != NULL);
    r->options = *options;
    r->self = tls_identity_uri(options->identity);
    r->reply_peer = NO_PEER;
    r->peers = calloc(LINK_PEERS_MAX, sizeof *r->peers);
    TIDE_CHECK(r->peers != NULL);
    struct link_options link = {.loop = options->loop,
                                .identity = options->identity,
                                .listen = options->listen,
                                .calls = {on_up, on_down, on_message, on_refused},
                                .arg = r};
    file_random(&link.seed, sizeof link.seed);
    if (link_new(&link, &r->link, err) != 0) {
        free(r->peers);
        free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

void router_free(struct router *r)
{
    if (r != NULL) {
        link_free(r->link);
        free(r->peers);
        free(r);
    }
}
