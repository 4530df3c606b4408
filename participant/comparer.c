/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/comparer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/io/blocks.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "participant/uplink.h"

#define CHUNK 16U /* blocks that are read at once, at most; then the rate is looked at */

_Static_assert(BLOCKS_SIZE == TIDE_INTAKE_BLOCK && BLOCKS_SIZE == TIDE_TAPCTL_BLOCK,
               "one size of blocks");
_Static_assert(TIDE_INTAKE_BLOCKS_MAX <= TIDE_TAPCTL_COMPARED_MAX, "one answer fits one message");

struct job { /* one disk */
    struct port *port;
    char name[3 * (TIDE_NAME_MAX + 1)];
    struct comparer_status status; /* under the lock */

    /* the thread's own: of the copy that is compared for */
    struct port_look look;
    uint64_t session; /* 0: none */
    uint64_t copy_lsn;
    int image;        /* -1: none */
    uint64_t lsn;     /* of the far side's disk; 0: not known yet */
    uint64_t sent_to; /* COMPARED up to there is on its way; 0: none is */
    uint64_t sent_until_us;
    uint64_t retry_us; /* not before */
    uint64_t backoff_us;
};

struct comparer {
    uint64_t rate; /* bytes a second */
    struct uplink *uplink;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under the lock */
    struct prng jitter;
    uint64_t pace_us; /* the next read, not before */
    struct blocks blocks;
    struct intake_block_hashes far;
    struct tapctl_compared compared;
    unsigned count;
    struct job jobs[];
};

/* ---- waiting ---- */

/* True: go on; false: the daemon ends. */
static bool wait_until(struct comparer *c, uint64_t until_us)
{
    struct timespec until = {.tv_sec = (time_t)(until_us / CLOCK_US_PER_S),
                             .tv_nsec = (long)(until_us % CLOCK_US_PER_S * 1000)};
    pthread_mutex_lock(&c->lock);
    while (!c->stop && pthread_cond_timedwait(&c->wake, &c->lock, &until) == 0) {
    }
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return !stop;
}

static void paid(struct comparer *c, uint64_t bytes)
{
    uint64_t now = clock_mono_us();
    c->pace_us = c->pace_us < now ? now : c->pace_us;
    c->pace_us += (uint64_t)((double)bytes * CLOCK_US_PER_S / (double)c->rate);
}

/* As many blocks as the rate allows in that time; 1..max. */
static uint32_t blocks_in(const struct comparer *c, uint32_t ms, uint32_t max)
{
    uint64_t blocks = c->rate / 1000 * ms / BLOCKS_SIZE;
    return blocks < 1 ? 1 : blocks < max ? (uint32_t)blocks : max;
}

/* ---- what came of it ---- */

static void set_text(struct comparer *c, struct job *job, const char *text)
{
    pthread_mutex_lock(&c->lock);
    snprintf(job->status.text, sizeof job->status.text, "%s", text);
    pthread_mutex_unlock(&c->lock);
}

static bool is_final(enum err_code code)
{
    return code == TIDE_ERR_CONFLICT || code == TIDE_ERR_CORRUPT || code == TIDE_ERR_VERSION ||
           code == TIDE_ERR_USAGE;
}

/* Notes an error and when to try again. */
static void fail(struct comparer *c, struct job *job, const struct err *err)
{
    bool told = strncmp(job->status.text, err->text, COMPARER_TEXT_MAX) == 0;
    uint64_t most = err->code == TIDE_ERR_BUSY ? COMPARER_BUSY_MAX_US : COMPARER_RETRY_MAX_US;
    uint64_t wait = job->backoff_us < most ? job->backoff_us : most;
    job->backoff_us = wait * 2;
    if (is_final(err->code)) {
        wait = COMPARER_STOPPED_US;
        if (!told) {
            log_error("disk %s: comparing stopped: %s", job->name, err->text);
        }
    } else if (err->code != TIDE_ERR_BUSY && !told) {
        log_warn("disk %s: comparing waits: %s", job->name, err->text);
    }
    if (err->code == TIDE_ERR_NOT_FOUND) {
        job->lsn = 0; /* the far side lacks what it had: from what it has now */
    }
    set_text(c, job, err->text);
    job->retry_us = clock_mono_us() + wait + prng_below(&c->jitter, wait / 4 + 1);
}

static void forget(struct comparer *c, struct job *job)
{
    if (job->image >= 0) {
        close(job->image);
    }
    if (job->status.text[0] != '\0') {
        set_text(c, job, "");
    }
    job->image = -1;
    job->session = 0;
    job->copy_lsn = 0;
    job->lsn = 0;
    job->sent_to = 0;
    job->retry_us = 0;
    job->backoff_us = COMPARER_RETRY_MIN_US;
}

/* ---- one step ---- */

/* Whether there is a copy to compare for; takes it up where it is another than before. */
static bool take_up(struct comparer *c, struct job *job)
{
    const struct tapctl_state *state = &job->look.state;
    port_look(job->port, &job->look);
    bool wanted = job->look.attached && state->comparing && state->copy_lsn > 0 &&
                  state->compare_offset < state->size;
    if (job->session != 0 &&
        (!wanted || job->session != job->look.session || job->copy_lsn != state->copy_lsn)) {
        forget(c, job);
    }
    if (!wanted) {
        return false;
    }
    if (job->session == 0) {
        int image = port_image(job->port, job->look.session);
        if (image < 0) {
            set_text(c, job,
                     "no descriptor of the image: the tap has just gone, or too many are open");
            return false;
        }
        forget(c, job);
        job->image = image;
        job->session = job->look.session;
        job->copy_lsn = state->copy_lsn;
    }
    return true;
}

/* Whether the copy that was taken up is still the one, where it was. */
static bool is_same(struct job *job, uint64_t offset)
{
    struct port_look now;
    port_look(job->port, &now);
    return now.attached && now.session == job->session && now.state.comparing &&
           now.state.copy_lsn == job->copy_lsn && now.state.compare_offset == offset;
}

/* Fixes the LSN of the far side's disk. */
static int fix_lsn(struct comparer *c, struct job *job, struct err *err)
{
    struct intake_stream_state far = {0};
    if (uplink_stream(c->uplink, &job->look.stream, &far, err) != 0) {
        return -1;
    }
    if (far.forked) {
        return err_set(
            err, TIDE_ERR_CONFLICT,
            "the stream is stopped by a fork at the coordinator: nothing can be compared "
            "with it; the disk needs a new stream");
    }
    if (far.stored_lsn < job->copy_lsn) {
        return err_set(err, TIDE_ERR_BUSY,
                       "the coordinator has stored the stream through lsn %" PRIu64
                       "; comparing begins when it has lsn %" PRIu64,
                       far.stored_lsn, job->copy_lsn);
    }
    job->lsn = far.stored_lsn;
    return 0;
}

static int ask_far(struct comparer *c, struct job *job, uint64_t offset, uint32_t count,
                   struct err *err)
{
    struct intake_hashes_query query = {.lsn = job->lsn, .offset = offset, .count = count};
    if (uplink_hashes(c->uplink, &job->look.stream, &query, &c->far, err) != 0) {
        return -1;
    }
    if (c->far.lsn != job->lsn || c->far.offset != offset ||
        c->far.count != blocks_count(c->far.size, offset, count)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the coordinator answered with %u blocks at %" PRIu64 " as of lsn %" PRIu64
                       ", asked for %u at %" PRIu64 " as of %" PRIu64,
                       c->far.count, c->far.offset, c->far.lsn, count, offset, job->lsn);
    }
    return 0;
}

/* Marks which of the `count` blocks differ: all but those that both sides have, with one hash.
 * *ret_done is false where the daemon ends, or the copy is another now. */
static int compare(struct comparer *c, struct job *job, uint32_t count, bool *ret_done,
                   struct err *err)
{
    struct hash hashes[CHUNK];
    struct tapctl_compared *to = &c->compared;
    uint32_t chunk = blocks_in(c, COMPARER_STEP_MS / 4, CHUNK);
    uint32_t both = c->far.count < count ? c->far.count : count;
    *ret_done = false;
    *to = (struct tapctl_compared){
        .begin_lsn = job->copy_lsn, .offset = c->far.offset, .count = count};
    for (uint32_t k = 0; k < count; k++) {
        to->differs[k / 8] |= (uint8_t)(1U << k % 8);
    }
    for (uint32_t at = 0; at < both; at += chunk) {
        uint32_t n = both - at < chunk ? both - at : chunk;
        uint64_t bytes = 0;
        if (!wait_until(c, c->pace_us) || !is_same(job, to->offset)) {
            return 0;
        }
        if (blocks_hash(&c->blocks, job->image, job->look.name, job->look.state.size,
                        to->offset + (uint64_t)at * BLOCKS_SIZE, n, hashes, &bytes, err) != 0) {
            err->code = TIDE_ERR_IO; /* also one that is being cut short: the tap will say */
            return -1;
        }
        paid(c, bytes);
        for (uint32_t k = 0; k < n; k++) {
            if (hash_equal(&hashes[k], &c->far.hashes[at + k])) {
                to->differs[(at + k) / 8] &= (uint8_t) ~(1U << (at + k) % 8);
            }
        }
    }
    *ret_done = true;
    return 0;
}

static void tell(struct comparer *c, struct job *job)
{
    const struct tapctl_compared *what = &c->compared;
    uint64_t differs = 0;
    for (uint32_t k = 0; k < what->count; k++) {
        differs += (uint64_t)what->differs[k / 8] >> k % 8 & 1U;
    }
    port_tell_compared(job->port, job->session, what);
    job->sent_to = what->offset + (uint64_t)what->count * BLOCKS_SIZE;
    job->sent_until_us = clock_mono_us() + COMPARER_SENT_US;
    job->backoff_us = COMPARER_RETRY_MIN_US;
    pthread_mutex_lock(&c->lock);
    job->status.blocks += what->count;
    job->status.differs += differs;
    job->status.text[0] = '\0';
    pthread_mutex_unlock(&c->lock);
}

static int go_on(struct comparer *c, struct job *job, struct err *err)
{
    const struct tapctl_state *state = &job->look.state;
    uint64_t offset = state->compare_offset;
    uint32_t count =
        blocks_count(state->size, offset, blocks_in(c, COMPARER_STEP_MS, TIDE_INTAKE_BLOCKS_MAX));
    bool done = false;
    if (offset % BLOCKS_SIZE != 0 || state->size > INT64_MAX) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the tap says that %" PRIu64 " of %" PRIu64 " bytes are compared, which "
                       "cannot be",
                       offset, state->size);
    }
    if ((job->lsn == 0 && fix_lsn(c, job, err) != 0) || ask_far(c, job, offset, count, err) != 0 ||
        compare(c, job, count, &done, err) != 0) {
        return -1;
    }
    if (done) {
        tell(c, job);
    }
    return 0;
}

/* Returns when to look at this disk again. */
static uint64_t step(struct comparer *c, struct job *job)
{
    struct err err = {0};
    if (!take_up(c, job)) {
        return clock_mono_us() + COMPARER_IDLE_US;
    }
    uint64_t now = clock_mono_us();
    if (job->sent_to > 0 && job->look.state.compare_offset < job->sent_to &&
        job->look.state.compare_offset < job->look.state.size && now < job->sent_until_us) {
        return now + COMPARER_LOOK_US;
    }
    job->sent_to = 0;
    if (now < job->retry_us) {
        uint64_t look = now + COMPARER_IDLE_US;
        return job->retry_us < look ? job->retry_us : look;
    }
    if (go_on(c, job, &err) != 0) {
        fail(c, job, &err);
        return job->retry_us;
    }
    return clock_mono_us() + COMPARER_LOOK_US;
}

static void *run(void *arg)
{
    struct comparer *c = arg;
    uint64_t again = clock_mono_us();
    daemon_thread_init("tide-compare");
    while (wait_until(c, again)) {
        again = clock_mono_us() + COMPARER_IDLE_US;
        for (unsigned i = 0; i < c->count; i++) {
            uint64_t at = step(c, &c->jobs[i]);
            again = at < again ? at : again;
        }
    }
    return NULL;
}

/* ---- begin and end ---- */

static void drop(struct comparer *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        forget(c, &c->jobs[i]);
    }
    uplink_free(c->uplink);
    blocks_close(&c->blocks);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int comparer_start(const struct settings *settings, const struct tls_identity *identity,
                   const struct comparer_disk *disks, unsigned count, uint64_t seed,
                   struct comparer **ret, struct err *err)
{
    pthread_condattr_t attr;
    struct comparer *c = calloc(1, sizeof *c + count * sizeof c->jobs[0]);
    TIDE_CHECK(c != NULL && settings->compare_rate > 0);
    c->rate = settings->compare_rate;
    c->count = count;
    prng_init(&c->jitter, seed);
    TIDE_CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&c->wake, &attr) == 0);
    pthread_condattr_destroy(&attr);
    for (unsigned i = 0; i < count; i++) {
        c->jobs[i].port = disks[i].port;
        c->jobs[i].image = -1;
        c->jobs[i].backoff_us = COMPARER_RETRY_MIN_US;
        snprintf(c->jobs[i].name, sizeof c->jobs[i].name, "%s", disks[i].name);
    }
    if (blocks_init(&c->blocks, err) != 0 || uplink_new(identity, settings, &c->uplink, err) != 0) {
        drop(c);
        return -1;
    }
    int error = pthread_create(&c->thread, NULL, run, c);
    if (error != 0) {
        drop(c);
        return file_err(err, error, "cannot start the comparing thread");
    }
    *ret = c;
    return 0;
}

void comparer_stop(struct comparer *c)
{
    if (c == NULL) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    uplink_abort(c->uplink);
}

bool comparer_join(struct comparer *c, uint64_t deadline_us)
{
    return c == NULL || daemon_thread_join(c->thread, deadline_us);
}

void comparer_free(struct comparer *c)
{
    if (c != NULL) {
        drop(c);
    }
}

void comparer_status(struct comparer *c, unsigned disk, struct comparer_status *ret)
{
    pthread_mutex_lock(&c->lock);
    *ret = c->jobs[disk].status;
    pthread_mutex_unlock(&c->lock);
}
