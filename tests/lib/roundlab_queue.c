/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <stdlib.h>

#define MILLION 1000000

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void roundlab_push(struct roundlab *lab, uint64_t in_us, struct event event)
{
    lab->heap = roundlab_grow(lab->heap, &lab->heap_room, lab->heap_count, sizeof *lab->heap);
    event.at_us = lab->now_us + in_us;
    event.order = lab->order++;
    size_t i = lab->heap_count++;
    while (i > 0 && before(&event, &lab->heap[(i - 1) / 2])) {
        lab->heap[i] = lab->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    lab->heap[i] = event;
}

struct event roundlab_pop(struct roundlab *lab)
{
    struct event top = lab->heap[0];
    struct event last = lab->heap[--lab->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= lab->heap_count) {
            break;
        }
        if (child + 1 < lab->heap_count && before(&lab->heap[child + 1], &lab->heap[child])) {
            child++;
        }
        if (!before(&lab->heap[child], &last)) {
            break;
        }
        lab->heap[i] = lab->heap[child];
        i = child;
    }
    lab->heap[i] = last;
    return top;
}

/* ---- clocks ---- */

uint64_t roundlab_clock(const struct roundlab *lab, unsigned member)
{
    const struct clock *c = &lab->nodes[member].clock;
    uint64_t passed_us = lab->now_us - c->true_us;
    if (c->stands) {
        return c->local_us;
    }
    return c->local_us +
           (c->ppm == 0 ? passed_us : passed_us * (uint64_t)(MILLION + c->ppm) / MILLION);
}

/* When that clock shows local_us; UINT64_MAX: never, as things are. */
static uint64_t when_shown(const struct roundlab *lab, unsigned member, uint64_t local_us)
{
    const struct clock *c = &lab->nodes[member].clock;
    if (local_us == UINT64_MAX) {
        return UINT64_MAX;
    }
    if (local_us <= c->local_us) {
        return c->true_us;
    }
    if (c->stands) {
        return UINT64_MAX;
    }
    uint64_t rate = (uint64_t)(MILLION + c->ppm);
    uint64_t missing_us = local_us - c->local_us;
    return c->true_us + (c->ppm == 0 ? missing_us : (missing_us * MILLION + rate - 1) / rate);
}

static void set_clock(struct roundlab *lab, unsigned member, uint64_t local_us, int32_t ppm,
                      bool stands)
{
    lab->nodes[member].clock =
        (struct clock){.true_us = lab->now_us, .local_us = local_us, .ppm = ppm, .stands = stands};
    roundlab_wakes(lab, member);
}

void roundlab_clock_rate(struct roundlab *lab, unsigned member, int32_t ppm)
{
    TIDE_CHECK(ppm > -1000000 && ppm < 1000000);
    set_clock(lab, member, roundlab_clock(lab, member), ppm, false);
    roundlab_say(lab, member, -1, "its clock goes at %+d ppm", (int)ppm);
}

void roundlab_clock_jump(struct roundlab *lab, unsigned member, uint64_t forward_us)
{
    const struct clock *c = &lab->nodes[member].clock;
    set_clock(lab, member, roundlab_clock(lab, member) + forward_us, c->ppm, c->stands);
    roundlab_say(lab, member, -1, "its clock jumps forward by %u ms",
                 (unsigned)(forward_us / 1000));
}

void roundlab_clock_stand(struct roundlab *lab, unsigned member)
{
    set_clock(lab, member, roundlab_clock(lab, member), 0, true);
    roundlab_say(lab, member, -1, "its clock stands still");
}

/* ---- who wants a tick: a tree over 4 places for each member, each node the sooner of two ---- */

void roundlab_wakes_open(struct roundlab *lab)
{
    lab->wake_slots = 1;
    while (lab->wake_slots < lab->config.members * WAKE_SLOTS) {
        lab->wake_slots *= 2;
    }
    lab->wakes = malloc(2 * (size_t)lab->wake_slots * sizeof *lab->wakes);
    TIDE_CHECK(lab->wakes != NULL);
    for (unsigned i = 0; i < 2 * lab->wake_slots; i++) {
        lab->wakes[i] = UINT64_MAX;
    }
}

static void set_wake(struct roundlab *lab, unsigned slot, uint64_t at_us)
{
    unsigned i = lab->wake_slots + slot;
    if (lab->wakes[i] == at_us) {
        return;
    }
    lab->wakes[i] = at_us;
    for (i /= 2; i > 0; i /= 2) {
        uint64_t a = lab->wakes[2 * i];
        uint64_t b = lab->wakes[2 * i + 1];
        uint64_t sooner = a <= b ? a : b;
        if (lab->wakes[i] == sooner) {
            return;
        }
        lab->wakes[i] = sooner;
    }
}

void roundlab_wakes(struct roundlab *lab, unsigned member)
{
    const struct node *node = &lab->nodes[member];
    bool up = !node->stopped && !node->paused;
    unsigned slot = member * WAKE_SLOTS;
    for (unsigned i = 0; i < ROUNDLAB_DISKS; i++) {
        const struct disk *disk = &node->disks[i];
        bool holds = disk->running && disk->gate.state == GATE_HOLDING;
        set_wake(lab, slot + i,
                 holds ? when_shown(lab, member, disk->gate.deadline_us) : UINT64_MAX);
    }
    set_wake(lab, slot + WAKE_MEMBER,
             up ? when_shown(lab, member, node->member_wake_us) : UINT64_MAX);
    set_wake(lab, slot + WAKE_LEADER,
             up ? when_shown(lab, member, node->leader_wake_us) : UINT64_MAX);
}

unsigned roundlab_next_wake(const struct roundlab *lab)
{
    unsigned i = 1;
    while (i < lab->wake_slots) {
        i = 2 * i + (lab->wakes[2 * i] > lab->wakes[2 * i + 1]);
    }
    return i - lab->wake_slots;
}
