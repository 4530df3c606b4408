/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/holder.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "participant/call.h"
#include "participant/router.h"
#include "participant/seat.h"
#include "participant/tapset.h"

#define PRIORITY 10 /* of SCHED_RR */

struct take {
    struct call *call; /* NULL: this place is free */
    struct id request;
    uint64_t until_us; /* nobody waits longer */
};

struct take_question {
    struct holder *holder;
    struct call *call;
    bool any; /* all own members are of one group */
    struct name group;
    struct msg_take take;
    struct msg_taken taken;
    enum err_code code; /* TIDE_ERR_OK: taken is set */
};

struct view_question {
    struct holder *holder;
    struct call *call;
    struct holder_view *view;
    bool whole; /* nothing is missing in it for want of memory */
};

struct holder {
    struct holder_options options;
    struct loop *loop;
    struct router *router;
    struct loop_timer wake;
    pthread_t thread;
    struct signer *_Atomic signer;
    struct groups *groups; /* NULL: none yet; seats point into it */
    unsigned seat_count;
    struct seat *seats[SETTINGS_MEMBERS_MAX];
    uint64_t lack_ns[SETTINGS_MEMBERS_MAX]; /* of each seat's lack; 0: there is none */
    bool longer[SETTINGS_MEMBERS_MAX];      /* each seat's interval is stretched */
    struct tapset *taps;
    struct orders *orders;
    struct take takes[HOLDER_TAKES_MAX];
    unsigned round_count;
    unsigned round_next;
    struct holder_round rounds[HOLDER_ROUNDS_MAX];
    struct holder_count rounds_of_group;
    struct holder_count rounds_of_member;
};

/* After whatever was fed: messages between own members, then the next timer. */
static void settle(struct holder *h)
{
    uint64_t wake = UINT64_MAX;
    router_drain(h->router);
    for (unsigned i = 0; i < h->seat_count; i++) {
        uint64_t due = seat_wake_us(h->seats[i]);
        wake = due < wake ? due : wake;
    }
    if (wake == UINT64_MAX) {
        loop_timer_clear(&h->wake);
    } else {
        loop_timer_set(&h->wake, wake);
    }
}

static void on_wake(void *arg)
{
    struct holder *h = arg;
    for (unsigned i = 0; i < h->seat_count; i++) {
        seat_tick(h->seats[i], clock_mono_us());
    }
    settle(h);
}

static void on_routed(void *arg)
{
    settle(arg);
}

/* ---- what the seats want done ---- */

static void seat_send(void *arg, struct seat *seat, const struct definition_member *to,
                      const struct msg *msg)
{
    struct holder *h = arg;
    (void)seat;
    router_send(h->router, to, msg);
}

static void seat_order(void *arg, unsigned disk, struct tapctl *message)
{
    struct holder *h = arg;
    tapset_order(h->taps, disk, message);
}

static void seat_attest(void *arg, unsigned disk, const struct statement *statement)
{
    struct holder *h = arg;
    struct signer *signer = h->signer;
    if (signer != NULL) {
        signer_put(signer, disk, statement);
    }
}

static void tell_failed(struct holder *h, unsigned seat, const struct leader_round *round)
{
    const struct msg_sum *sum = &round->sum;
    char hex[TIDE_ID_HEX];
    char key[EVENTS_KEY_MAX + 1];
    snprintf(key, sizeof key, "%s %s", round_reason_name(sum->reason), sum->member.s);
    events_again(h->options.events, round->began ? NEWS_ROUND_FAILED : NEWS_ROUND_REFUSED, seat, -1,
                 key, "round %s: %s%s%s%s%s", round->began ? id_hex(&sum->round, hex) : "not begun",
                 round_reason_name(sum->reason), sum->member.s[0] ? " at member " : "",
                 sum->member.s, sum->text[0] ? ": " : "", sum->text);
}

/* What the leader's own rounds say of holds to come. */
static void tell_holds(struct holder *h, struct seat *seat, const struct leader_round *round)
{
    const struct definition *definition = seat_definition(seat);
    unsigned index = seat_index(seat);
    int late = definition == NULL ? -1 : definition_find_member(definition, &round->late);
    if (late >= 0) {
        struct leader_holds holds = seat_holds(seat, (unsigned)late);
        events_again(h->options.events, NEWS_SLOW_MEMBER, index, -1, round->late.s,
                     "with member %s a hold is expected to last %.1f of %.1f ms; its last %" PRIu64
                     " holds: p50 %.1f, p99 %.1f, max %.1f ms",
                     round->late.s, (double)round->late_us / 1000.0,
                     (double)seat_get_policy(seat)->hold_us_max / 1000.0, holds.holds.count,
                     (double)holds.holds.p50_us / 1000.0, (double)holds.holds.p99_us / 1000.0,
                     (double)holds.holds.max_us / 1000.0);
    }
    bool longer = round->interval_us > 0;
    if (longer != h->longer[index]) {
        struct leader_share share = seat_share(seat);
        h->longer[index] = longer;
        events_again(h->options.events, longer ? NEWS_INTERVAL_LONGER : NEWS_INTERVAL_BACK, index,
                     -1, "",
                     "the group was held for %" PRIu64 " of %" PRIu64
                     " ms in the last minute: a round every %" PRIu64 " ms",
                     share.held_us / 1000, share.limit_us / 1000, share.interval_us / 1000);
    }
}

static void seat_round(void *arg, struct seat *seat, const struct leader_round *round)
{
    struct holder *h = arg;
    const struct definition *definition = seat_definition(seat);
    struct holder_round *place = &h->rounds[h->round_next];
    struct holder_count *count =
        round->scope == ROUND_SCOPE_MEMBER ? &h->rounds_of_member : &h->rounds_of_group;
    for (unsigned i = 0; round->began && i < h->round_count; i++) {
        if (id_equal(&h->rounds[i].round.sum.round, &round->sum.round)) {
            return; /* another own member has told of it */
        }
    }
    place->seat = seat_index(seat);
    place->wall_ns = clock_wall_ns();
    place->round = *round;
    place->leader = (struct name){{0}};
    if (definition != NULL && round->leader < definition->member_count) {
        place->leader = definition->members[round->leader].name;
    }
    h->round_next = (h->round_next + 1) % HOLDER_ROUNDS_MAX;
    h->round_count += h->round_count < HOLDER_ROUNDS_MAX;
    if (round->own && round->scope == ROUND_SCOPE_GROUP) {
        tell_holds(h, seat, round);
    }
    if (round->sum.sealed_by_all) {
        count->sealed++;
    } else {
        count->failed++;
        tell_failed(h, place->seat, round);
    }
}

static void seat_lacks(void *arg, struct seat *seat, const struct leader_lack *lack)
{
    struct holder *h = arg;
    struct news news = news_of_lack(lack);
    unsigned index = seat_index(seat);
    h->lack_ns[index] = lack->reason == ROUND_REASON_NONE ? 0 : clock_wall_ns();
    events_again(h->options.events, news.type, index, -1, news.text, "%s", news.text);
}

static void seat_taken(void *arg, struct seat *seat, const struct msg_taken *taken)
{
    struct holder *h = arg;
    (void)seat;
    for (unsigned i = 0; i < HOLDER_TAKES_MAX; i++) {
        struct take *take = &h->takes[i];
        if (take->call != NULL && id_equal(&take->request, &taken->request)) {
            struct take_question *question = take->call->owner;
            question->taken = *taken;
            question->code = TIDE_ERR_OK;
            call_answer(take->call);
            take->call = NULL;
        }
    }
}

/* ---- what the taps say ---- */

static struct seat *seat_of(struct holder *h, unsigned disk)
{
    return h->seats[h->options.settings->disks[disk].member];
}

static void on_tap(void *arg, unsigned disk, const struct member_tap *tap)
{
    struct holder *h = arg;
    if (!tap->attached) {
        orders_lost(h->orders, disk);
    }
    seat_tap(seat_of(h, disk), disk, tap, clock_mono_us());
    settle(h);
}

static void on_tap_message(void *arg, unsigned disk, const struct tapctl *message)
{
    struct holder *h = arg;
    if (message->type == TAPCTL_DONE) {
        orders_done(h->orders, disk, message);
        return;
    }
    seat_tap_message(seat_of(h, disk), disk, message, clock_mono_us());
    settle(h);
}

/* ---- from other threads ---- */

void holder_attest(void *arg, unsigned disk, const struct tapctl_attest *attest)
{
    struct holder *h = arg;
    tapset_attest(h->taps, disk, attest);
}

void holder_set_signer(struct holder *h, struct signer *signer)
{
    h->signer = signer;
}

struct port *holder_port(struct holder *h, unsigned disk)
{
    return tapset_port(h->taps, disk);
}

struct groups_job {
    struct holder *holder;
    struct groups *groups;
};

/* Keeps what has not changed, so that a new answer does not end rounds of other groups. */
static void on_groups(void *arg)
{
    struct groups_job *job = arg;
    struct holder *h = job->holder;
    struct groups *now = job->groups;
    struct groups *before = h->groups;
    bool changed[SETTINGS_MEMBERS_MAX] = {false};
    free(job);
    for (unsigned i = 0; before != NULL && i < before->count; i++) {
        int same = groups_find(now, &before->definitions[i]->group_name);
        if (same >= 0 &&
            epoch_equal(&now->definitions[same]->epoch, &before->definitions[i]->epoch) &&
            id_equal(&now->definitions[same]->group, &before->definitions[i]->group)) {
            struct definition *swap = now->definitions[same];
            now->definitions[same] = before->definitions[i];
            before->definitions[i] = swap;
        }
    }
    h->groups = now;
    for (unsigned i = 0; i < h->seat_count; i++) {
        int group = groups_find(now, &h->options.settings->members[i].group);
        const struct definition *definition = group < 0 ? NULL : now->definitions[group];
        if (group >= 0) {
            seat_policy(h->seats[i], &now->policies[group], clock_mono_us());
        }
        changed[i] = definition != seat_definition(h->seats[i]);
        if (changed[i]) {
            seat_define(h->seats[i], definition, clock_mono_us());
        }
    }
    router_set_peers(h->router);
    for (unsigned i = 0; i < h->options.settings->disk_count; i++) {
        if (changed[h->options.settings->disks[i].member]) {
            struct member_tap tap = tapset_tap(h->taps, i);
            seat_tap(seat_of(h, i), i, &tap, clock_mono_us());
        }
    }
    settle(h);
    groups_free(before);
}

int holder_set_groups(struct holder *h, struct groups *groups, struct err *err)
{
    struct groups_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        groups_free(groups);
        return err_set(err, TIDE_ERR_LIMIT, "no memory to take the definitions over");
    }
    job->holder = h;
    job->groups = groups;
    if (loop_post(h->loop, on_groups, job, err) != 0) {
        groups_free(groups);
        free(job);
        return -1;
    }
    return 0;
}

static void on_take(void *arg)
{
    struct take_question *question = arg;
    struct holder *h = question->holder;
    uint64_t now = clock_mono_us();
    struct take *place = NULL;
    int seat = -1;
    for (unsigned i = 0; i < h->seat_count && seat < 0; i++) {
        if (question->any || name_equal(&h->options.settings->members[i].group, &question->group)) {
            seat = (int)i;
        }
    }
    for (unsigned i = 0; i < HOLDER_TAKES_MAX; i++) {
        struct take *take = &h->takes[i];
        if (take->call != NULL && take->until_us < now) {
            call_drop(take->call);
            take->call = NULL;
        }
        if (take->call == NULL) {
            place = take;
        }
    }
    if (seat < 0 || place == NULL) {
        question->code = seat < 0 ? TIDE_ERR_NOT_FOUND : TIDE_ERR_BUSY;
        call_answer(question->call);
        return;
    }
    *place = (struct take){.call = question->call,
                           .request = question->take.request,
                           .until_us = now + 2 * (uint64_t)TIDE_LEADER_TAKE_US};
    struct msg_take copy = question->take; /* the question may be freed by the answer */
    seat_take(h->seats[seat], &copy, now);
    settle(h);
}

int holder_take(struct holder *h, const struct name *group, enum round_kind kind,
                uint32_t timeout_ms, struct msg_taken *ret, struct err *err)
{
    struct take_question *question = calloc(1, sizeof *question);
    int result = -1;
    if (question == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the question");
    }
    for (unsigned i = 1; group == NULL && i < h->seat_count; i++) {
        const struct settings_member *members = h->options.settings->members;
        if (!name_equal(&members[i].group, &members[0].group)) {
            free(question);
            return err_set(err, TIDE_ERR_USAGE,
                           "this participant has members of several groups; name one with "
                           "--group");
        }
    }
    struct call *call = call_new(question, free);
    if (call == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the question");
    }
    question->holder = h;
    question->call = call;
    question->any = group == NULL;
    if (group != NULL) {
        question->group = *group;
    }
    question->take.kind = kind;
    file_random(question->take.request.b, TIDE_ID_SIZE);
    if (loop_post(h->loop, on_take, question, err) != 0) {
        call_drop(call);
    } else if (!call_wait(call, clock_mono_us() + (uint64_t)timeout_ms * CLOCK_US_PER_MS)) {
        err_set(err, TIDE_ERR_UNREACHABLE, "no answer from the leader within %u ms", timeout_ms);
    } else if (question->code == TIDE_ERR_NOT_FOUND) {
        err_set(err, TIDE_ERR_NOT_FOUND, "this participant has no member of group \"%s\"",
                question->group.s);
    } else if (question->code != TIDE_ERR_OK) {
        err_set(err, TIDE_ERR_BUSY, "too many requests wait for a round; try again");
    } else {
        *ret = question->taken;
        result = 0;
    }
    call_drop(call);
    return result;
}

int holder_order(struct holder *h, unsigned disk, const struct tapctl *order,
                 struct tapctl_done *ret, struct err *err)
{
    return orders_give(h->orders, disk, order, ret, err);
}

/* ---- status ---- */

/* False: no memory. */
static bool copy_seat(struct holder *h, struct seat *seat, struct holder_seat *ret)
{
    const struct definition *d = seat_definition(seat);
    int leads = seat_leads(seat);
    ret->policy = *seat_get_policy(seat);
    if (d == NULL) {
        return true;
    }
    ret->peers = calloc(d->member_count, sizeof *ret->peers);
    if (ret->peers == NULL) {
        return false;
    }
    ret->defined = true;
    ret->epoch = d->epoch;
    ret->group = d->group;
    ret->reach = seat_reach(seat);
    ret->lack = seat_lack(seat);
    ret->share = seat_share(seat);
    ret->lack_ns = h->lack_ns[seat_index(seat)];
    ret->member_count = d->member_count;
    if (leads >= 0) {
        ret->leads = d->members[leads].name;
    }
    for (unsigned i = 0; i < d->member_count; i++) {
        struct holder_peer *peer = &ret->peers[i];
        peer->name = d->members[i].name;
        peer->heard = seat_hears(seat, i);
        peer->holds = seat_holds(seat, i);
        router_look(h->router, &d->members[i], &peer->own, &peer->link, &peer->up);
    }
    return true;
}

static void on_view(void *arg)
{
    struct view_question *question = arg;
    struct holder *h = question->holder;
    struct holder_view *view = question->view;
    view->disk_count = h->options.settings->disk_count;
    for (unsigned i = 0; i < view->disk_count; i++) {
        view->disks[i] = *tapset_view(h->taps, i);
    }
    view->seat_count = h->seat_count;
    question->whole = true;
    for (unsigned i = 0; i < h->seat_count; i++) {
        question->whole = copy_seat(h, h->seats[i], &view->seats[i]) && question->whole;
    }
    view->link = router_stats(h->router, &view->queue_lost);
    view->round_count = h->round_count;
    for (unsigned i = 0; i < h->round_count; i++) {
        view->rounds[i] =
            h->rounds[(h->round_next + HOLDER_ROUNDS_MAX - h->round_count + i) % HOLDER_ROUNDS_MAX];
    }
    view->rounds_of_group = h->rounds_of_group;
    view->rounds_of_member = h->rounds_of_member;
    call_answer(question->call);
}

static void free_view_question(void *arg)
{
    struct view_question *question = arg;
    holder_view_free(question->view);
    free(question);
}

int holder_view(struct holder *h, uint32_t timeout_ms, struct holder_view **ret, struct err *err)
{
    struct view_question *question = calloc(1, sizeof *question);
    int result = -1;
    struct holder_view *view = calloc(1, sizeof *view);
    if (question == NULL || view == NULL) {
        free(question);
        free(view);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the question");
    }
    question->holder = h;
    question->view = view;
    memset(question->view, 1, sizeof *question->view); /* page faults are not the hold thread's */
    memset(question->view, 0, sizeof *question->view);
    struct call *call = call_new(question, free_view_question);
    if (call == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the question");
    }
    question->call = call;
    if (loop_post(h->loop, on_view, question, err) != 0) {
        call_drop(call);
    } else if (!call_wait(call, clock_mono_us() + (uint64_t)timeout_ms * CLOCK_US_PER_MS)) {
        err_set(err, TIDE_ERR_UNREACHABLE, "the hold thread did not answer within %u ms",
                timeout_ms);
    } else if (!question->whole) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for the members' peers");
    } else {
        *ret = question->view;
        question->view = NULL;
        result = 0;
    }
    call_drop(call);
    return result;
}

void holder_view_free(struct holder_view *view)
{
    if (view == NULL) {
        return;
    }
    for (unsigned i = 0; i < view->seat_count; i++) {
        free(view->seats[i].peers);
    }
    free(view);
}

/* ---- the thread ---- */

static void *run(void *arg)
{
    struct holder *h = arg;
    const struct sched_param param = {.sched_priority = PRIORITY};
    daemon_thread_init("tide-hold");
    /* Both are best effort: they take a privilege that a test or a container may lack. */
    if (pthread_setschedparam(pthread_self(), SCHED_RR, &param) != 0) {
        log_info("hold thread without real-time priority (needs CAP_SYS_NICE or LimitRTPRIO=10)");
    }
    if (geteuid() == 0 && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        log_info("memory is not locked: %s", strerror(errno));
    }
    tapset_start(h->taps);
    loop_run(h->loop);
    tapset_stop(h->taps);
    router_free(h->router);
    return NULL;
}

int holder_new(const struct holder_options *options, struct holder **ret, struct err *err)
{
    struct holder *h = calloc(1, sizeof *h);
    const struct settings *settings = options->settings;
    TIDE_CHECK(h != NULL);
    h->options = *options;
    h->loop = loop_new();
    h->seat_count = settings->member_count;
    uint64_t incarnation = 0;
    while (incarnation == 0) {
        file_random(&incarnation, sizeof incarnation);
    }
    for (unsigned i = 0; i < h->seat_count; i++) {
        struct seat_options seat = {
            .settings = settings,
            .index = i,
            .identity = tls_identity_uri(options->identity),
            .incarnation = incarnation,
            .unsafe_no_hold = options->unsafe_no_hold,
            .hold_skew_us = options->hold_skew_us,
            .hold_skew_seed = options->seed,
            .calls = {seat_send, seat_order, seat_attest, seat_round, seat_lacks, seat_taken},
            .arg = h,
        };
        h->seats[i] = seat_new(&seat);
    }
    const struct tapset_calls taps = {on_tap, on_tap_message};
    h->taps = tapset_new(h->loop, settings, options->events, &taps, h);
    h->orders = orders_new(h->loop, settings, h->taps);
    loop_timer_init(&h->wake, h->loop, on_wake, h);
    struct router_options router = {.loop = h->loop,
                                    .identity = options->identity,
                                    .listen = settings->listen,
                                    .seats = h->seats,
                                    .seat_count = h->seat_count,
                                    .settings = settings,
                                    .settled = on_routed,
                                    .arg = h};
    if (router_new(&router, &h->router, err) != 0) {
        return -1; /* the daemon ends now; nothing runs yet */
    }
    int error = pthread_create(&h->thread, NULL, run, h);
    if (error != 0) {
        return file_err(err, error, "cannot start the hold thread");
    }
    *ret = h;
    return 0;
}

bool holder_stop(struct holder *h, uint64_t deadline_us)
{
    loop_stop(h->loop);
    return daemon_thread_join(h->thread, deadline_us);
}
