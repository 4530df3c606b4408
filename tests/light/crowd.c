/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/light/crowd.h"

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/io/clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define DESCRIPTORS 8192U
#define LOOK_NS     5000000L
#define PRIORITY    10 /* of SCHED_RR */

struct step {
    unsigned disk; /* flat */
    uint64_t lsn;
};

/* At any time one thread has it: that of the disk where it is due. */
struct token {
    struct crowd *crowd;
    unsigned index;
    struct prng prng;
    unsigned at;                                 /* flat disk that is due */
    uint64_t ticket;                             /* of the hold there that its write waits for */
    struct loop_timer timers[CROWD_THREADS_MAX]; /* of the threads' loops */
    unsigned count;
    struct step steps[CROWD_STEPS_MAX];
};

struct crowd {
    const struct light_group *group;
    const struct definition *definition;
    unsigned threads;
    struct loop *loops[CROWD_THREADS_MAX];
    pthread_t ids[CROWD_THREADS_MAX];
    struct light_member *members[TIDE_MEMBERS_MAX];
    uint64_t think_us;
    unsigned token_count;
    struct token *tokens[CROWD_TOKENS_MAX];
    uint32_t waiting[TIDE_MEMBERS_MAX]; /* tokens there, by bit; for the member's thread alone */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool answered; /* what was asked of the first member's thread */
    bool whole;
    struct leader_round round; /* the last, as its leader tells it: a failing one yields */
    unsigned sealed;           /* rounds, by all, whoever led */
};

static unsigned thread_of(const struct crowd *crowd, unsigned member)
{
    return member % crowd->threads;
}

static void post(struct crowd *crowd, unsigned member, loop_fn *fn, void *arg)
{
    struct err err;
    if (loop_post(crowd->loops[thread_of(crowd, member)], fn, arg, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
}

/* ---- tokens ---- */

static unsigned member_of(const struct token *token)
{
    return token->crowd->definition->disks[token->at].member;
}

static void token_write(void *arg);

/* On the thread of the disk where it is due now. */
static void token_arrive(void *arg)
{
    struct token *token = arg;
    unsigned thread = thread_of(token->crowd, member_of(token));
    if (token->timers[thread].event == NULL) {
        loop_timer_init(&token->timers[thread], token->crowd->loops[thread], token_write, token);
    }
    loop_timer_set(&token->timers[thread], clock_mono_us() + token->crowd->think_us);
}

static void token_pass(struct token *token)
{
    token->at = (unsigned)prng_below(&token->prng, token->crowd->definition->disk_count);
    post(token->crowd, member_of(token), token_arrive, token);
}

/* Of its disk, within the member's. */
static unsigned disk_of(const struct token *token)
{
    return token->at - token->crowd->definition->members[member_of(token)].disk_first;
}

static void token_write(void *arg)
{
    struct token *token = arg;
    unsigned member = member_of(token);
    if (token->count == CROWD_STEPS_MAX) {
        return;
    }
    struct step *step = &token->steps[token->count++];
    step->disk = token->at;
    step->lsn = light_member_write(token->crowd->members[member], disk_of(token), &token->ticket);
    if (token->ticket == 0) {
        token_pass(token);
    } else {
        token->crowd->waiting[member] |= 1U << token->index;
    }
}

static void on_let_go(void *arg, unsigned member)
{
    struct crowd *crowd = arg;
    uint32_t waiting = crowd->waiting[member];
    for (unsigned i = 0; waiting >> i != 0; i++) {
        struct token *token = crowd->tokens[i];
        if ((waiting >> i & 1) != 0 &&
            !lighttap_holding(light_member_tap(crowd->members[member], disk_of(token)),
                              token->ticket)) {
            crowd->waiting[member] &= ~(1U << i);
            token_pass(token);
        }
    }
}

void crowd_tokens(struct crowd *crowd, unsigned count, uint64_t think_us, uint64_t seed)
{
    TIDE_CHECK(count <= CROWD_TOKENS_MAX && crowd->token_count == 0);
    crowd->think_us = think_us;
    for (unsigned i = 0; i < count; i++) {
        struct token *token = calloc(1, sizeof *token);
        TIDE_CHECK(token != NULL);
        token->crowd = crowd;
        token->index = i;
        prng_init(&token->prng, seed + i);
        crowd->tokens[crowd->token_count++] = token;
        token_pass(token);
    }
}

/* ---- members ---- */

static void answer(struct crowd *crowd)
{
    crowd->answered = true;
    pthread_cond_signal(&crowd->changed);
}

/* The round that is told just before the request's answer is the one that answers it. */
static void on_round(void *arg, unsigned member, const struct leader_round *round)
{
    struct crowd *crowd = arg;
    (void)member;
    if (!round->own) {
        return;
    }
    pthread_mutex_lock(&crowd->lock);
    crowd->round = *round;
    crowd->sealed += round->sum.sealed_by_all;
    pthread_mutex_unlock(&crowd->lock);
}

static void on_taken(void *arg, unsigned member, const struct msg_taken *taken)
{
    struct crowd *crowd = arg;
    (void)member;
    (void)taken;
    pthread_mutex_lock(&crowd->lock);
    answer(crowd);
    pthread_mutex_unlock(&crowd->lock);
}

/* As a daemon's hold thread, where that is allowed. */
static void *run(void *arg)
{
    const struct sched_param param = {.sched_priority = PRIORITY};
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &param);
    loop_run(arg);
    return NULL;
}

static void look(void *arg)
{
    struct crowd *crowd = arg;
    const struct light_member *first = crowd->members[0];
    bool whole = light_member_leads(first) == 0 &&
                 light_member_reach(first) == crowd->definition->member_count;
    pthread_mutex_lock(&crowd->lock);
    crowd->whole = whole;
    answer(crowd);
    pthread_mutex_unlock(&crowd->lock);
}

static void take(void *arg)
{
    struct crowd *crowd = arg;
    light_member_take(crowd->members[0]);
}

/* Has the first member's thread do it; false: no answer by then. */
static bool ask(struct crowd *crowd, loop_fn *what, uint64_t deadline_us)
{
    const struct timespec until = {.tv_sec = (time_t)(deadline_us / 1000000),
                                   .tv_nsec = (long)(deadline_us % 1000000) * 1000};
    int result = 0;
    pthread_mutex_lock(&crowd->lock);
    crowd->answered = false;
    pthread_mutex_unlock(&crowd->lock);
    post(crowd, 0, what, crowd);
    pthread_mutex_lock(&crowd->lock);
    while (!crowd->answered && result != ETIMEDOUT) {
        result = pthread_cond_timedwait(&crowd->changed, &crowd->lock, &until);
    }
    bool answered = crowd->answered;
    pthread_mutex_unlock(&crowd->lock);
    return answered;
}

bool crowd_wait_whole(struct crowd *crowd, uint64_t deadline_us)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    while (ask(crowd, look, deadline_us)) {
        if (crowd->whole) {
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

bool crowd_round(struct crowd *crowd, uint64_t deadline_us, struct leader_round *ret)
{
    if (!ask(crowd, take, deadline_us)) {
        return false;
    }
    *ret = crowd->round;
    return true;
}

struct crowd *crowd_new(const struct light_group *group, unsigned threads)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    struct rlimit limit;
    pthread_condattr_t monotonic;
    TIDE_CHECK(crowd != NULL && threads >= 1 && threads <= CROWD_THREADS_MAX);
    TIDE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < DESCRIPTORS) {
        limit.rlim_cur = DESCRIPTORS < limit.rlim_max ? DESCRIPTORS : limit.rlim_max;
        TIDE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    crowd->group = group;
    crowd->definition = light_group_definition(group);
    crowd->threads = threads;
    pthread_mutex_init(&crowd->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&crowd->changed, &monotonic);
    const struct light_calls calls = {
        .round = on_round, .taken = on_taken, .let_go = on_let_go, .arg = crowd};
    for (unsigned i = 0; i < threads; i++) {
        crowd->loops[i] = loop_new();
    }
    for (unsigned m = 0; m < crowd->definition->member_count; m++) {
        crowd->members[m] = light_member_new(group, m, crowd->loops[thread_of(crowd, m)], &calls);
    }
    for (unsigned i = 0; i < threads; i++) {
        TIDE_CHECK(pthread_create(&crowd->ids[i], NULL, run, crowd->loops[i]) == 0);
    }
    return crowd;
}

void crowd_stop(struct crowd *crowd)
{
    for (unsigned i = 0; i < crowd->threads; i++) {
        loop_stop(crowd->loops[i]);
        pthread_join(crowd->ids[i], NULL);
    }
}

void crowd_free(struct crowd *crowd)
{
    if (crowd == NULL) {
        return;
    }
    for (unsigned i = 0; i < crowd->token_count; i++) {
        for (unsigned t = 0; t < crowd->threads; t++) {
            loop_timer_close(&crowd->tokens[i]->timers[t]);
        }
        free(crowd->tokens[i]);
    }
    for (unsigned m = 0; m < crowd->definition->member_count; m++) {
        light_member_free(crowd->members[m]);
    }
    for (unsigned i = 0; i < crowd->threads; i++) {
        loop_free(crowd->loops[i]);
    }
    pthread_cond_destroy(&crowd->changed);
    pthread_mutex_destroy(&crowd->lock);
    free(crowd);
}

/* ---- the judge ---- */

static bool step_in(const struct step *step, const uint64_t *marks)
{
    return step->lsn < marks[step->disk];
}

/* Some token's write is in the cut, and the one that it waited for is not. */
static bool is_torn(const struct crowd *crowd, const struct align_round *round)
{
    uint64_t marks[TIDE_DISKS_MAX];
    memset(marks, 0xff, sizeof marks); /* a disk that is not in the set bounds nothing */
    for (size_t i = 0; i < round->entry_count; i++) {
        const struct align_entry *entry = &round->entries[i];
        int disk = definition_find_stream(crowd->definition, &entry->mark.stream);
        TIDE_CHECK(disk >= 0);
        marks[disk] = entry->mark.lsn;
    }
    for (unsigned i = 0; i < crowd->token_count; i++) {
        const struct token *token = crowd->tokens[i];
        for (unsigned s = 1; s < token->count; s++) {
            if (step_in(&token->steps[s], marks) && !step_in(&token->steps[s - 1], marks)) {
                return true;
            }
        }
    }
    return false;
}

struct crowd_verdict crowd_judge(const struct crowd *crowd)
{
    struct crowd_verdict verdict = {.sealed = crowd->sealed};
    struct align *align = light_align(crowd->group, crowd->members);
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        if (round->order.scope != ROUND_SCOPE_GROUP) {
            continue; /* while not all were linked, each went alone */
        }
        bool point = round->answer == ROUND_ANSWER_YES ||
                     (light_group_plan(crowd->group)->unsafe_no_hold && round->unaligned);
        verdict.rounds++;
        verdict.points += point;
        verdict.full += point && !round->partial;
        verdict.torn += point && is_torn(crowd, round);
        verdict.undecided += round->answer == ROUND_ANSWER_UNKNOWN;
    }
    for (unsigned i = 0; i < crowd->token_count; i++) {
        verdict.steps += crowd->tokens[i]->count;
    }
    align_free(align);
    return verdict;
}
