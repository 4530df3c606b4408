/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader_alone.h"

#include "participant/core/leader_pace.h"
#include "participant/core/leader_round.h"

#include <string.h>

static bool lack_equal(const struct lack *a, const struct lack *b)
{
    return a->reason == b->reason && name_equal(&a->member, &b->member);
}

static bool is_strict(const struct leader *l)
{
    return l->policy.missing == POLICY_MISSING_STRICT;
}

/* The first member that cannot take part, as a candidate sees it: others are not linked to all. */
static struct lack look_at_members(const struct leader *l)
{
    struct lack lack = {.reason = ROUND_REASON_NONE};
    int slow = -1; /* the least of all: it is tried again */
    if (l->self >= definition_candidates(l->definition)) {
        return lack;
    }
    for (unsigned m = 0; m < l->definition->member_count && lack.reason == ROUND_REASON_NONE; m++) {
        lack.reason = leader_round_ready(l, m);
        if (lack.reason == ROUND_REASON_NONE && leader_pace_slow(l, m)) {
            slow = slow < 0 ? (int)m : slow;
        }
        if (lack.reason != ROUND_REASON_NONE) {
            lack.member = l->definition->members[m].name;
        }
    }
    if (lack.reason == ROUND_REASON_NONE && slow >= 0) {
        lack = (struct lack){ROUND_REASON_SLOW, l->definition->members[slow].name};
    }
    return lack;
}

/* A round of the group with a slow member is near, under way, or has just ended: members are not to
 * go alone. */
static bool trial_near(const struct leader *l)
{
    if (l->seen.reason != ROUND_REASON_SLOW) {
        return false; /* none can be taken */
    }
    const struct running *r = &l->running;
    bool running = r->phase != PHASE_IDLE && r->order.scope == ROUND_SCOPE_GROUP;
    uint64_t trial_us = leader_pace_trial_us(l);
    return running || l->now_us < l->group_gap_us ||
           (trial_us != UINT64_MAX && l->now_us + TIDE_LEADER_QUIET_US >= trial_us);
}

/* What heartbeats tell: the lack once it has lasted, and whether members may go alone. */
static void look_own(struct leader *l)
{
    struct lack seen = look_at_members(l);
    struct lack own = {.reason = ROUND_REASON_NONE};
    if (seen.reason != ROUND_REASON_NONE && l->seen.reason == ROUND_REASON_NONE) {
        l->seen_us = l->now_us;
    }
    /* One that was not heard may have gone alone; one whose disks are not whole cannot have, and
     * may be so and not so many times a second: that must not put the group's rounds off for ever.
     */
    bool returned = seen.reason == ROUND_REASON_NONE && (l->seen.reason == ROUND_REASON_MISSING ||
                                                         l->seen.reason == ROUND_REASON_EPOCH);
    l->seen = seen;
    bool before = l->lack.reason != ROUND_REASON_NONE; /* one that goes on, perhaps elsewhere */
    if (seen.reason != ROUND_REASON_NONE &&
        (before || l->now_us >= l->seen_us + TIDE_LEADER_LACK_US)) {
        own = seen;
    }
    bool leave = own.reason != ROUND_REASON_NONE && is_strict(l) && !trial_near(l);
    if (is_strict(l) && (returned || (l->own_leave && !leave))) {
        uint64_t quiet_us = l->now_us + TIDE_LEADER_QUIET_US;
        l->gap_until_us = l->gap_until_us > quiet_us ? l->gap_until_us : quiet_us;
        uint64_t return_us = l->now_us + TIDE_LEADER_RETURN_US;
        if (l->lack.reason != ROUND_REASON_NONE && l->due_us > return_us) {
            l->due_us = return_us; /* points again, whatever the interval is */
        }
    }
    if (leave != l->own_leave || !lack_equal(&own, &l->own_lack)) {
        l->heartbeat_due = true;
    }
    if (l->own_leave && !leave) {
        l->own_leave_us = l->now_us;
    }
    l->own_leave = leave;
    l->own_lack = own;
}

/* What holds for this member. */
static struct lack look_up(struct leader *l)
{
    if (l->leads >= 0) {
        l->leaderless_us = 0;
        return l->leads == (int)l->self ? l->own_lack : l->peers[l->leads].lack;
    }
    if (l->leaderless_us == 0) {
        l->leaderless_us = l->now_us;
    }
    bool lasts = l->now_us >= l->leaderless_us + TIDE_LEADER_LACK_US;
    bool before = l->lack.reason != ROUND_REASON_NONE; /* one that changed its reason */
    return (struct lack){.reason = lasts || before ? ROUND_REASON_NO_LEADER : ROUND_REASON_NONE};
}

static bool has_leave(const struct leader *l)
{
    if (l->leads < 0) {
        return l->lack.reason != ROUND_REASON_NONE;
    }
    return l->leads == (int)l->self ? l->own_leave : l->peers[l->leads].leave;
}

static bool own_taps_are_whole(const struct leader *l)
{
    const struct definition_member *m = &l->definition->members[l->self];
    for (unsigned i = 0; i < m->disk_count; i++) {
        const struct msg_tap *tap = &l->taps[m->disk_first + i];
        if (tap->incarnation == 0 || !tap->whole) {
            return false;
        }
    }
    return true;
}

void leader_alone_look(struct leader *l)
{
    look_own(l);
    struct lack lack = look_up(l);
    bool news = !lack_equal(&lack, &l->lack) ||
                (lack.reason != ROUND_REASON_NONE && l->lack_strict != is_strict(l));
    l->lack = lack;
    l->lack_strict = is_strict(l);
    l->alone = is_strict(l) && has_leave(l) && own_taps_are_whole(l);
    if (news) {
        struct leader_lack told = leader_lack(l);
        leader_put(l, &(struct leader_effect){.type = LEADER_LACK, .lack = &told});
    }
}

uint64_t leader_alone_next_us(const struct leader *l)
{
    if (!l->alone || l->running.phase != PHASE_IDLE) {
        return UINT64_MAX;
    }
    return l->alone_due_us > l->gap_until_us ? l->alone_due_us : l->gap_until_us;
}

uint64_t leader_alone_wake_us(const struct leader *l)
{
    uint64_t at = UINT64_MAX;
    if (l->seen.reason != ROUND_REASON_NONE && l->own_lack.reason == ROUND_REASON_NONE) {
        at = l->seen_us + TIDE_LEADER_LACK_US;
    }
    if (l->leaderless_us != 0 && l->lack.reason == ROUND_REASON_NONE &&
        l->leaderless_us + TIDE_LEADER_LACK_US < at) {
        at = l->leaderless_us + TIDE_LEADER_LACK_US;
    }
    if (l->seen.reason == ROUND_REASON_SLOW && !l->own_leave && l->now_us < l->group_gap_us &&
        l->group_gap_us < at) {
        at = l->group_gap_us;
    }
    uint64_t trial_us = leader_pace_trial_us(l);
    if (l->own_leave && l->seen.reason == ROUND_REASON_SLOW && trial_us != UINT64_MAX &&
        trial_us > TIDE_LEADER_QUIET_US && trial_us - TIDE_LEADER_QUIET_US < at) {
        at = trial_us - TIDE_LEADER_QUIET_US;
    }
    uint64_t next_us = leader_alone_next_us(l);
    return next_us < at ? next_us : at;
}

bool leader_alone_lately(const struct leader *l)
{
    return l->own_leave_us != 0 && l->now_us < l->own_leave_us + TIDE_LEADER_LATELY_US;
}

bool leader_alone_gives_way(const struct leader *l)
{
    return !l->alone && l->running.phase == PHASE_SEALING &&
           l->running.order.scope == ROUND_SCOPE_MEMBER;
}

void leader_alone_begun(struct leader *l)
{
    l->alone_due_us = l->now_us + leader_pace_interval_us(l);
}

void leader_alone_ended(struct leader *l)
{
    enum round_reason reason = l->told.sum.reason;
    bool contended = reason == ROUND_REASON_BUSY || reason == ROUND_REASON_DUTY;
    if (reason == ROUND_REASON_NONE || contended || l->alone_retries >= l->config.retries) {
        l->alone_retries = 0;
        return;
    }
    l->alone_retries++;
    uint64_t retry_us = l->now_us + TIDE_LEADER_RETRY_US;
    l->alone_due_us = l->alone_due_us < retry_us ? l->alone_due_us : retry_us;
}

void leader_alone_forget(struct leader *l)
{
    struct lack none = {.reason = ROUND_REASON_NONE};
    l->seen = none;
    l->own_lack = none;
    l->own_leave = false;
    l->alone = false;
    l->alone_due_us = 0;
    l->alone_retries = 0;
    l->leaderless_us = 0;
}
