/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/leader_requests.h"

#include <stdio.h>
#include <string.h>

static void give_answer(struct leader *l, const struct msg_taken *taken, bool local,
                        const struct name *from)
{
    if (local) {
        leader_put(l, &(struct leader_effect){.type = LEADER_TAKEN, .taken = taken});
        return;
    }
    int to = l->definition == NULL ? -1 : definition_find_member(l->definition, from);
    if (to < 0 || (unsigned)to == l->self || !l->peers[to].up) {
        return; /* it asks again, or gives up at its own deadline */
    }
    leader_compose(l, MSG_TAKEN)->taken = *taken;
    leader_send_to(l, (unsigned)to);
}

static void settle(struct leader *l, struct request *request, const struct msg_taken *taken)
{
    l->answers[l->answers_next] = (struct answer){.used = true, .taken = *taken};
    l->answers_next = (l->answers_next + 1) % TIDE_LEADER_ANSWERS_MAX;
    request->state = REQUEST_FREE;
    give_answer(l, taken, request->local, &request->from);
}

static void decline(const struct msg_take *take, enum round_reason reason, const char *text,
                    struct msg_taken *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->request = take->request;
    ret->reason = reason;
    snprintf(ret->text, sizeof ret->text, "%s", text);
}

static void settle_declined(struct leader *l, struct request *request, enum round_reason reason,
                            const char *text)
{
    struct msg_taken taken;
    decline(&request->take, reason, text, &taken);
    settle(l, request, &taken);
}

static void forward(struct leader *l, struct request *request)
{
    request->state = REQUEST_FORWARDED;
    leader_compose(l, MSG_TAKE)->take = request->take;
    leader_send_to(l, (unsigned)l->leads);
}

/* Each waiting request goes where it belongs, now that this is who leads. Forwarded ones are sent
 * again with every heartbeat: a repeat costs nothing. */
void leader_requests_route(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state == REQUEST_FREE || request->state == REQUEST_IN_ROUND) {
            continue;
        }
        if (leader_leading(l)) {
            request->state = REQUEST_WAITING;
        } else if (!request->local) {
            settle_declined(l, request, ROUND_REASON_NO_LEADER,
                            "another member leads now; ask again");
        } else if (l->leads < 0) {
            settle_declined(l, request, ROUND_REASON_NO_LEADER,
                            "none of the members that may lead is reached");
        } else {
            forward(l, request);
        }
    }
}

void leader_requests_take(struct leader *l, const struct msg_take *take, bool local,
                          const struct name *from)
{
    for (unsigned i = 0; i < TIDE_LEADER_ANSWERS_MAX; i++) {
        if (l->answers[i].used && id_equal(&l->answers[i].taken.request, &take->request)) {
            give_answer(l, &l->answers[i].taken, local, from);
            return;
        }
    }
    struct request *free_slot = NULL;
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_FREE) {
            free_slot = free_slot == NULL ? &l->requests[i] : free_slot;
        } else if (id_equal(&l->requests[i].take.request, &take->request)) {
            return; /* on its way */
        }
    }
    struct msg_taken taken;
    memset(&taken, 0, sizeof taken);
    if (l->definition == NULL) {
        decline(take, ROUND_REASON_NO_DEFINITION,
                "the coordinator has issued no definition to this member yet", &taken);
    } else if (take->kind != ROUND_KIND_CRASH) {
        decline(take, ROUND_REASON_KIND,
                "application-consistent rounds cannot be taken yet: ask for kind crash", &taken);
    } else if (l->leads < 0) {
        decline(take, ROUND_REASON_NO_LEADER, "none of the members that may lead is reached",
                &taken);
    } else if (!local && !leader_leading(l)) {
        decline(take, ROUND_REASON_NO_LEADER, "this member does not lead; ask again", &taken);
    } else if (free_slot == NULL) {
        decline(take, ROUND_REASON_BUSY, "too many requests are waiting; ask again later", &taken);
    } else {
        *free_slot = (struct request){.state = REQUEST_WAITING,
                                      .local = local,
                                      .take = *take,
                                      .deadline_us = l->now_us + TIDE_LEADER_TAKE_US};
        if (!local) {
            free_slot->from = *from;
        }
        if (!leader_leading(l)) {
            forward(l, free_slot);
        }
        return;
    }
    give_answer(l, &taken, local, from);
}

void leader_requests_expire(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        bool waits = request->state == REQUEST_WAITING || request->state == REQUEST_FORWARDED;
        if (waits && l->now_us >= request->deadline_us) {
            settle_declined(l, request, ROUND_REASON_TIMEOUT, "nobody answered in time; ask again");
        }
    }
}

void leader_requests_taken(struct leader *l, const struct msg *msg)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state == REQUEST_FORWARDED &&
            id_equal(&request->take.request, &msg->taken.request)) {
            settle(l, request, &msg->taken);
            return;
        }
    }
}

bool leader_requests_waiting(const struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING) {
            return true;
        }
    }
    return false;
}

/* Answers those that the round being told was for. */
void leader_requests_settle(struct leader *l)
{
    const struct leader_round *told = &l->told;
    enum request_state which = told->began ? REQUEST_IN_ROUND : REQUEST_WAITING;
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        struct request *request = &l->requests[i];
        if (request->state != which) {
            continue;
        }
        struct msg_taken taken;
        decline(&request->take, told->sum.reason, told->sum.text, &taken);
        taken.round = told->sum.round;
        taken.sealed = told->sum.sealed_by_all;
        taken.member = told->sum.member;
        settle(l, request, &taken);
    }
}

void leader_requests_begin(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING) {
            l->requests[i].state = REQUEST_IN_ROUND;
        }
    }
}

void leader_requests_decline(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state != REQUEST_FREE) {
            settle_declined(l, &l->requests[i], ROUND_REASON_NO_DEFINITION,
                            "this member is in no definition any more");
        }
    }
}

void leader_requests_resend(struct leader *l)
{
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_FORWARDED && l->leads >= 0) {
            forward(l, &l->requests[i]);
        }
    }
}

uint64_t leader_requests_wake_us(const struct leader *l)
{
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; i < TIDE_LEADER_TAKES_MAX; i++) {
        if (l->requests[i].state == REQUEST_WAITING || l->requests[i].state == REQUEST_FORWARDED) {
            at = l->requests[i].deadline_us < at ? l->requests[i].deadline_us : at;
        }
    }
    return at;
}
