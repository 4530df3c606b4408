/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/control.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/core/sha.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "participant/uplink.h"

#define VIEW_MS 2000U

struct control {
    const struct settings *settings;
    struct holder *holder;
    struct uplink *uplink;
    pthread_t thread;
    pthread_mutex_t lock; /* of status and stop */
    pthread_cond_t news;
    bool stop;
    struct control_status status;

    /* the thread's own */
    struct hash digest;
    struct hash registered; /* of what was registered last; zero: nothing */
    bool poll;              /* what is registered is so since the last long poll */
    uint64_t backoff_us;
    struct prng jitter;
};

static void note(struct control *c, const struct err *err)
{
    pthread_mutex_lock(&c->lock);
    bool told = strncmp(c->status.text, err->text, CONTROL_TEXT_MAX) == 0;
    c->status.reached =
        err->code != TIDE_ERR_UNREACHABLE && err->code != TIDE_ERR_BUSY && c->status.reached;
    snprintf(c->status.text, sizeof c->status.text, "%s", err->text);
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    if (!told && !stop) {
        log_warn("registration: %s", err->text);
    }
}

static void note_reached(struct control *c, unsigned registered)
{
    pthread_mutex_lock(&c->lock);
    c->status.reached = true;
    c->status.text[0] = '\0';
    c->status.registered = registered;
    c->status.digest = c->digest;
    pthread_mutex_unlock(&c->lock);
    c->backoff_us = CONTROL_RETRY_MIN_US;
}

/* New definitions: kept first, then in force. */
static int apply(struct control *c, const uint8_t *bytes, size_t size, struct err *err)
{
    struct groups *groups = NULL;
    char hex[TIDE_HASH_HEX];
    if (groups_decode(bytes, size, &groups, err) != 0) {
        return err_wrap(err, "the coordinator's definitions");
    }
    if (hash_equal(&groups->digest, &c->digest)) {
        groups_free(groups);
        return 0;
    }
    struct hash digest = groups->digest;
    unsigned count = groups->count;
    if (groups_save(c->settings->state, bytes, size, err) != 0) {
        log_error("definitions are in force but not kept: %s", err->text);
    }
    if (holder_set_groups(c->holder, groups, err) != 0) {
        return -1;
    }
    c->digest = digest;
    log_info("definitions of %u groups from the coordinator, digest %.16s", count,
             hash_hex(&digest, hex));
    return 0;
}

/* What can be registered now; returns the disks. */
static unsigned collect(struct control *c, struct intake_disk *disks, struct err *err)
{
    struct holder_view *view = NULL;
    unsigned count = 0;
    const struct settings *settings = c->settings;
    if (holder_view(c->holder, VIEW_MS, &view, err) != 0) {
        return 0;
    }
    /* Disks of one member follow each other. */
    for (unsigned m = 0; m < settings->member_count; m++) {
        for (unsigned i = 0; i < settings->disk_count; i++) {
            const struct tapctl_welcome *welcome = &view->disks[i].welcome;
            if (settings->disks[i].member != m || id_is_zero(&welcome->stream)) {
                continue;
            }
            disks[count++] = (struct intake_disk){.group = settings->members[m].group,
                                                  .member = settings->members[m].name,
                                                  .disk = settings->disks[i].name,
                                                  .stream = welcome->stream,
                                                  .timeline = welcome->timeline,
                                                  .disk_id = welcome->disk,
                                                  .size = welcome->size,
                                                  .block_size = welcome->block_size};
        }
    }
    holder_view_free(view);
    return count;
}

static int turn(struct control *c, struct intake_disk *disks, struct err *err)
{
    uint8_t *answer = NULL;
    size_t size = 0;
    int result;
    memset(disks, 0, SETTINGS_DISKS_MAX * sizeof *disks);
    unsigned count = collect(c, disks, err);
    struct hash now = count > 0 ? sha_of(disks, count * sizeof *disks) : (struct hash){{0}};
    /* Also after each poll: a group that was applied anew may have forgotten this member. */
    if (count > 0 && (!c->poll || !hash_equal(&now, &c->registered))) {
        struct intake_register registration = {.count = count, .disks = disks};
        result = uplink_register(c->uplink, &registration, &answer, &size, err);
        if (result == 0) {
            if (!hash_equal(&now, &c->registered)) {
                log_info("%u of %u disks are registered with the coordinator", count,
                         c->settings->disk_count);
            }
            c->registered = now;
            c->poll = true;
        }
    } else {
        unsigned wait = count == c->settings->disk_count ? CONTROL_POLL_S : CONTROL_POLL_SOON_S;
        result = uplink_definitions(c->uplink, &c->digest, wait, &answer, &size, err);
        c->poll = false;
    }
    if (result == 0) {
        result = apply(c, answer, size, err);
    }
    free(answer);
    if (result == 0) {
        note_reached(c, hash_is_zero(&c->registered) ? 0 : count);
    }
    return result;
}

/* Waits; true: the thread is to end. */
static bool pause_for(struct control *c, uint64_t us)
{
    uint64_t until_us = clock_mono_us() + us;
    struct timespec until = {.tv_sec = (time_t)(until_us / CLOCK_US_PER_S),
                             .tv_nsec = (long)(until_us % CLOCK_US_PER_S * 1000)};
    pthread_mutex_lock(&c->lock);
    while (!c->stop && us > 0 && pthread_cond_timedwait(&c->news, &c->lock, &until) == 0) {
    }
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void *run(void *arg)
{
    struct control *c = arg;
    struct intake_disk *disks = calloc(SETTINGS_DISKS_MAX, sizeof *disks);
    TIDE_CHECK(disks != NULL);
    daemon_thread_init("tide-control");
    for (;;) {
        struct err err = {0};
        uint64_t wait = CLOCK_US_PER_MS * 20; /* an answer that never waits must not spin */
        if (turn(c, disks, &err) != 0) {
            note(c, &err);
            wait = c->backoff_us + prng_below(&c->jitter, c->backoff_us / 4 + 1);
            c->backoff_us =
                c->backoff_us * 2 > CONTROL_RETRY_MAX_US ? CONTROL_RETRY_MAX_US : c->backoff_us * 2;
        }
        if (pause_for(c, wait)) {
            break;
        }
    }
    free(disks);
    return NULL;
}

int control_new(const struct settings *settings, const struct tls_identity *identity,
                struct holder *holder, struct control **ret, struct err *err)
{
    struct control *c = calloc(1, sizeof *c);
    struct groups *groups = NULL;
    struct err why = {0};
    pthread_condattr_t attr;
    uint64_t seed;
    TIDE_CHECK(c != NULL);
    c->settings = settings;
    c->holder = holder;
    c->backoff_us = CONTROL_RETRY_MIN_US;
    file_random(&seed, sizeof seed);
    prng_init(&c->jitter, seed);
    if (uplink_new(identity, settings, &c->uplink, err) != 0) {
        free(c);
        return -1;
    }
    if (groups_load(settings->state, &groups, &why) == 0) {
        struct hash digest = groups->digest;
        log_info("definitions of %u groups kept from before are in force", groups->count);
        if (holder_set_groups(holder, groups, err) != 0) {
            uplink_free(c->uplink);
            free(c);
            return -1;
        }
        c->digest = digest;
        c->status.digest = digest;
    } else if (why.code != TIDE_ERR_NOT_FOUND) {
        log_error("kept definitions are not used: %s", why.text);
    }
    TIDE_CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&c->news, &attr) == 0);
    pthread_condattr_destroy(&attr);
    int error = pthread_create(&c->thread, NULL, run, c);
    if (error != 0) {
        return file_err(err, error, "cannot start the registration thread");
    }
    *ret = c;
    return 0;
}

void control_stop(struct control *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->news);
    pthread_mutex_unlock(&c->lock);
    uplink_abort(c->uplink);
}

bool control_join(struct control *c, uint64_t deadline_us)
{
    return daemon_thread_join(c->thread, deadline_us);
}

void control_status(struct control *c, struct control_status *ret)
{
    pthread_mutex_lock(&c->lock);
    *ret = c->status;
    pthread_mutex_unlock(&c->lock);
}
