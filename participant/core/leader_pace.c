/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader_pace.h"

#include "participant/core/leader_requests.h"

#include <stdio.h>
#include <string.h>

void leader_pace_forget(struct leader *l)
{
    memset(&l->pace, 0, sizeof l->pace);
    l->trial_us = 0;
}

bool leader_pace_slow(const struct leader *l, unsigned member)
{
    return leader_leading(l) && pace_slow(&l->pace, member, l->policy.hold_us_max);
}

void leader_pace_text(const struct leader *l, unsigned member, char *ret, size_t size)
{
    snprintf(
        ret, size,
        "a HOLD is answered after %.1f ms or later (second longest of its last %u answers), and "
        "letting go takes %.1f ms more: over the budget of %.1f ms",
        (double)pace_answer_us(&l->pace, member) / 1000.0, pace_answers(&l->pace, member),
        (double)pace_rest_us(&l->pace) / 1000.0, (double)l->policy.hold_us_max / 1000.0);
}

static bool anybody_slow(const struct leader *l)
{
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (leader_pace_slow(l, m)) {
            return true;
        }
    }
    return false;
}

static uint64_t wait_us(const struct leader *l)
{
    unsigned doubled =
        l->trials < TIDE_LEADER_TRIAL_DOUBLED ? l->trials : TIDE_LEADER_TRIAL_DOUBLED;
    uint64_t wait_us = (uint64_t)TIDE_LEADER_TRIAL_US << doubled;
    uint64_t intervals_us = l->trials == 0 ? 0 : 2 * l->policy.interval_ms * 1000;
    return intervals_us > wait_us ? intervals_us : wait_us;
}

/* After what was learnt. */
static void look(struct leader *l)
{
    if (!anybody_slow(l)) {
        l->trial_us = 0;
    } else if (l->trial_us == 0) {
        l->trials = 0;
        l->trial_us = l->now_us + wait_us(l);
    }
}

void leader_pace_forget_member(struct leader *l, unsigned member)
{
    pace_forget(&l->pace, member);
    look(l);
}

void leader_pace_held(struct leader *l, unsigned member)
{
    bool before = leader_pace_slow(l, member);
    pace_answered(&l->pace, member, l->now_us - l->running.began_us, l->running.budget_us);
    if (leader_pace_slow(l, member) != before) {
        look(l); /* through all members, and the group is held: not for each answer */
    }
}

void leader_pace_late(struct leader *l)
{
    const struct running *r = &l->running;
    uint64_t waited_us = l->now_us - r->began_us;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        if (r->seats[m].in_set && !r->seats[m].held) {
            pace_answered(&l->pace, m, waited_us > r->budget_us ? waited_us : r->budget_us + 1U,
                          r->budget_us);
        }
    }
    look(l);
}

void leader_pace_ended(struct leader *l, const struct msg_sum *sum)
{
    const struct running *r = &l->running;
    for (unsigned i = 0; i < sum->member_count; i++) {
        const struct msg_member_sum *one = &sum->members[i];
        int member = definition_find_member(l->definition, &one->member);
        if (member >= 0 && one->outcome != 0) {
            spread_add(&l->holds[member], one->hold_us_max);
        }
    }
    if (l->told.own && sum->sealed_by_all && l->told.scope == ROUND_SCOPE_GROUP) {
        pace_rest(&l->pace, sum->hold_us_max > r->hold_us ? sum->hold_us_max - r->hold_us : 0);
        look(l);
    }
}

void leader_pace_tell(struct leader *l)
{
    struct leader_round *told = &l->told;
    uint64_t budget_us = l->policy.hold_us_max;
    uint64_t interval_us = leader_pace_interval_us(l);
    told->interval_us = interval_us > l->policy.interval_ms * 1000 ? interval_us : 0;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        uint64_t expected_us = pace_expected_us(&l->pace, m);
        if (expected_us > told->late_us && expected_us > budget_us / 4 * 3) {
            told->late_us = expected_us;
            told->late = l->definition->members[m].name;
        }
    }
}

bool leader_pace_trial(const struct leader *l)
{
    return l->trial_us == 0 || l->now_us >= l->trial_us || leader_requests_waiting(l);
}

void leader_pace_tried(struct leader *l)
{
    if (l->trial_us != 0 && leader_pace_trial(l)) {
        l->trials++;
        l->trial_us = l->now_us + wait_us(l);
    }
}

bool leader_pace_blameless(const struct leader *l)
{
    unsigned slow = 0;
    for (unsigned m = 0; m < l->definition->member_count; m++) {
        slow += leader_pace_slow(l, m);
    }
    return slow == 1 && !leader_pace_slow(l, l->self);
}

uint64_t leader_pace_trial_us(const struct leader *l)
{
    uint64_t interval_us = leader_pace_interval_us(l);
    if (l->trial_us == 0 || !leader_leading(l)) {
        return UINT64_MAX;
    }
    if (leader_requests_waiting(l)) {
        return l->now_us;
    }
    if (l->due_us >= l->trial_us) {
        return l->due_us;
    }
    uint64_t left_us = l->trial_us - l->due_us;
    return l->due_us + (left_us + interval_us - 1) / interval_us * interval_us;
}

uint64_t leader_pace_interval_us(const struct leader *l)
{
    return share_interval_us(&l->share, l->now_us, l->policy.interval_ms * 1000);
}
