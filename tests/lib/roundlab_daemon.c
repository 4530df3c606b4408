/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <stdlib.h>
#include <string.h>

uint64_t roundlab_incarnation(const struct roundlab *lab, unsigned member)
{
    return member + 1 + ROUNDLAB_MEMBERS_MAX * lab->nodes[member].starts;
}

/* ---- links ---- */

/* Tells the daemon what became of its link to that node since it was last told. */
static void tell_link(struct roundlab *lab, unsigned self, unsigned other)
{
    struct node *node = &lab->nodes[self];
    int peer = roundlab_member_of(lab, node->definition, other);
    if (node->stopped || node->paused || peer < 0) {
        return;
    }
    unsigned candidates = definition_candidates(node->definition);
    bool wanted = node->self < candidates || (unsigned)peer < candidates;
    bool up = node->linked[other] && wanted && !lab->nodes[other].stopped;
    unsigned number = up ? node->link[other] : 0;
    if (node->told[other] == number) {
        return;
    }
    bool was_up = node->told[other] != 0;
    node->told[other] = number;
    if (was_up) {
        roundlab_step_leader(lab, self,
                             (struct leader_event){.type = LEADER_LINK, .peer = (unsigned)peer});
        roundlab_step_member(
            lab, self, (struct member_event){.type = MEMBER_LINK_DOWN, .peer = (unsigned)peer});
    }
    if (number != 0) {
        roundlab_step_leader(
            lab, self,
            (struct leader_event){.type = LEADER_LINK, .peer = (unsigned)peer, .up = true});
    }
}

static void tell_links(struct roundlab *lab, unsigned self)
{
    for (unsigned m = 0; m < lab->config.members; m++) {
        if (m != self) {
            tell_link(lab, self, m);
        }
    }
}

void roundlab_link(struct roundlab *lab, unsigned a, unsigned b, bool up)
{
    TIDE_CHECK(a != b);
    if (lab->nodes[a].linked[b] == up) {
        return;
    }
    if (lab->now_us > 0) {
        roundlab_say(lab, a, -1, "link to %s %s", roundlab_member_name(b), up ? "is up" : "ends");
    }
    for (unsigned side = 0; side < 2; side++) {
        unsigned self = side == 0 ? a : b;
        unsigned peer = side == 0 ? b : a;
        lab->nodes[self].linked[peer] = up;
        lab->nodes[self].link[peer]++;
    }
    tell_link(lab, a, b);
    tell_link(lab, b, a);
}

/* ---- definitions ---- */

static void tell_taps(struct roundlab *lab, unsigned m)
{
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        roundlab_tap_tell(lab, m, d);
    }
}

void roundlab_define(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    const struct definition *newest = roundlab_newest(lab);
    bool knows = node->heard == newest && node->ready;
    node->heard = newest;
    if (knows) {
        return;
    }
    node->due = node->stopped || node->paused;
    if (node->due) {
        return;
    }
    int self = roundlab_member_of(lab, newest, m);
    const struct definition *definition = self < 0 ? NULL : newest;
    if (lab->now_us > 0) {
        roundlab_say(lab, m, -1, definition == NULL ? "is in no definition" : "has definition %u",
                     (unsigned)newest->epoch.number);
    }
    /* What comes out of these two is about the definition before. */
    lab->defining = definition;
    roundlab_step_leader(lab, m,
                         (struct leader_event){.type = LEADER_DEFINITION,
                                               .definition = definition,
                                               .self = self < 0 ? 0 : (unsigned)self});
    roundlab_step_member(lab, m,
                         (struct member_event){.type = MEMBER_DEFINITION,
                                               .definition = definition,
                                               .self = self < 0 ? 0 : (unsigned)self});
    lab->defining = NULL;
    node->definition = definition;
    node->self = self < 0 ? 0 : (unsigned)self;
    memset(node->told, 0, sizeof node->told);
    if (lab->watch.defined != NULL) {
        lab->watch.defined(lab->watch.context, m, definition);
    }
    if (definition != NULL && node->ready) {
        tell_taps(lab, m);
        tell_links(lab, m);
    }
}

void roundlab_define_later(struct roundlab *lab, unsigned member, uint64_t in_us)
{
    roundlab_push(lab, in_us, (struct event){.kind = EV_DEFINE, .member = member});
}

/* ---- daemons ---- */

void roundlab_make_daemon(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    struct name name = lab->definition->members[m].name;
    node->member =
        member_new(&(struct member_config){.name = name,
                                           .incarnation = roundlab_incarnation(lab, m),
                                           .unsafe_no_hold = lab->config.unsafe_no_hold,
                                           .hold_delay_us_max = lab->config.hold_delay_us_max,
                                           .hold_delay_seed = lab->config.seed});
    node->leader = leader_new(&(struct leader_config){
        .name = name, .incarnation = roundlab_incarnation(lab, m), .retries = lab->config.retries});
    TIDE_CHECK(node->member != NULL && node->leader != NULL);
    node->definition = NULL;
    roundlab_step_leader(
        lab, m, (struct leader_event){.type = LEADER_POLICY, .policy = &lab->config.policy});
    roundlab_define(lab, m);
}

void roundlab_start(struct roundlab *lab, unsigned m)
{
    struct node *node = &lab->nodes[m];
    if (!node->stopped) {
        return;
    }
    roundlab_say(lab, m, -1, "its daemon starts");
    member_free(node->member);
    leader_free(node->leader);
    node->starts++;
    node->stopped = false;
    node->ready = false;
    roundlab_make_daemon(lab, m);
    node->ready = true;
    tell_taps(lab, m);
    tell_links(lab, m);
    for (unsigned other = 0; other < lab->config.members; other++) {
        if (other != m) {
            tell_link(lab, other, m);
        }
    }
}

static void forget_waiting(struct node *node)
{
    for (size_t i = 0; i < node->waiting_count; i++) {
        free(node->waiting[i].bytes);
        free(node->waiting[i].tap);
    }
    node->waiting_count = 0;
}

void roundlab_stop(struct roundlab *lab, unsigned member)
{
    struct node *node = &lab->nodes[member];
    roundlab_say(lab, member, -1, "its daemon is killed");
    node->stopped = true;
    node->paused = false;
    forget_waiting(node);
    node->link[member]++; /* what it still meant to say to itself is gone */
    for (unsigned m = 0; m < lab->config.members; m++) {
        if (m != member) {
            roundlab_link(lab, member, m, false);
        }
    }
    memset(node->told, 0, sizeof node->told);
    for (unsigned i = 0; i < ROUNDLAB_DISKS; i++) {
        struct gate_out out;
        if (node->disks[i].running) {
            roundlab_tap_step(lab, member, i, (struct gate_event){.type = GATE_CONTROLLER_LOST},
                              &out);
        }
        node->disks[i].connection++;
    }
    roundlab_wakes(lab, member);
}

void roundlab_pause(struct roundlab *lab, unsigned member)
{
    struct node *node = &lab->nodes[member];
    if (node->stopped || node->paused) {
        return;
    }
    roundlab_say(lab, member, -1, "its daemon is paused");
    node->paused = true;
    roundlab_wakes(lab, member);
}

bool roundlab_keeps_waiting(struct roundlab *lab, const struct event *event)
{
    struct node *node = &lab->nodes[event->member];
    if (!node->paused || (event->kind != EV_MESSAGE && event->kind != EV_TAP_ANSWER)) {
        return false;
    }
    node->waiting =
        roundlab_grow(node->waiting, &node->waiting_room, node->waiting_count, sizeof *event);
    node->waiting[node->waiting_count++] = *event;
    return true;
}

void roundlab_continue(struct roundlab *lab, unsigned member)
{
    struct node *node = &lab->nodes[member];
    if (!node->paused) {
        return;
    }
    roundlab_say(lab, member, -1, "its daemon goes on");
    node->paused = false;
    for (size_t i = 0; i < node->waiting_count; i++) {
        roundlab_push(lab, 1, node->waiting[i]);
    }
    node->waiting_count = 0;
    if (node->due) {
        node->heard = NULL;
        roundlab_define(lab, member);
    }
    tell_taps(lab, member);
    if (node->definition != NULL) {
        tell_links(lab, member);
    }
    roundlab_wakes(lab, member);
}

void roundlab_free_node(struct roundlab *lab, unsigned member)
{
    struct node *node = &lab->nodes[member];
    member_free(node->member);
    leader_free(node->leader);
    forget_waiting(node);
    free(node->waiting);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        free(node->disks[d].records);
    }
}
