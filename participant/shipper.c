/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/shipper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"

#define IDLE_US 500000U /* longest wait for news: all deadlines are looked at this often */

/* The ring's files as a source. The tap goes on writing them. */
static int ring_read(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                     size_t *ret_got, struct err *err)
{
    const struct shipper *s = context;
    size_t got = 0;
    if (file >= s->fd_count) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "the ring has no file %" PRIu64, file);
    }
    while (got < size) {
        ssize_t n = pread(s->fds[file], (uint8_t *)to + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return file_err(err, errno, "cannot read ring file %" PRIu64, file);
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int ring_size(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    const struct shipper *s = context;
    struct stat st;
    if (file >= s->fd_count) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "the ring has no file %" PRIu64, file);
    }
    if (fstat(s->fds[file], &st) != 0) {
        return file_err(err, errno, "cannot look at ring file %" PRIu64, file);
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static void set_state(struct shipper *s, enum shipper_state state)
{
    pthread_mutex_lock(&s->lock);
    bool again = state == SHIPPER_SHIPPING &&
                 (s->status.state == SHIPPER_RETRYING || s->status.state == SHIPPER_STOPPED);
    s->status.state = state;
    if (state == SHIPPER_SHIPPING) {
        s->status.text_now = false;
    }
    pthread_mutex_unlock(&s->lock);
    if (again) {
        events_again(s->events, NEWS_SHIPPING_AGAIN, s->settings->disks[s->disk].member,
                     (int)s->disk, "again", "shipping again");
    }
}

/* Notes an error, and when to try again. ASKING: one that is usual at a start. */
static void fail(struct shipper *s, enum shipper_state state, const struct err *err)
{
    pthread_mutex_lock(&s->lock);
    bool told = s->status.state == state && s->status.text_now &&
                strncmp(s->status.text, err->text, SHIPPER_TEXT_MAX) == 0;
    s->status.state = state;
    s->status.text_now = true;
    s->status.failures++;
    snprintf(s->status.text, sizeof s->status.text, "%s", err->text);
    pthread_mutex_unlock(&s->lock);
    if (!told && state != SHIPPER_ASKING) {
        bool stopped = state == SHIPPER_STOPPED;
        events_again(s->events, stopped ? NEWS_SHIPPING_STOPPED : NEWS_SHIPPING_WAITS,
                     s->settings->disks[s->disk].member, (int)s->disk, err->text, "shipping %s: %s",
                     stopped ? "stopped" : "waits", err->text);
    }
    uint64_t wait = state == SHIPPER_STOPPED ? SHIPPER_STOPPED_US : s->backoff_us;
    wait += prng_below(&s->jitter, wait / 4 + 1);
    s->retry_us = clock_mono_us() + wait;
    s->backoff_us =
        s->backoff_us * 2 > SHIPPER_RETRY_MAX_US ? SHIPPER_RETRY_MAX_US : s->backoff_us * 2;
    s->placed = false; /* whatever it was: ask where the far side is before going on */
}

static void close_ring(struct shipper *s)
{
    for (unsigned i = 0; s->fd_count > 0 && i <= s->fd_count; i++) {
        close(s->fds[i]);
    }
    s->fd_count = 0;
    s->session = 0;
    s->placed = false;
}

/* A tap has connected (again): its descriptors, and the journal of its stream. */
static int open_session(struct shipper *s, struct err *err)
{
    if (s->session == s->view.session) {
        return 0;
    }
    close_ring(s);
    if (!port_take_fds(s->port, s->view.session, s->fds)) {
        return err_set(err, TIDE_ERR_BUSY, "the tap is connecting again");
    }
    s->welcome = s->view.welcome;
    s->fd_count = s->welcome.ring_files;
    s->session = s->view.session;
    s->at = (struct cutter_place){.ring = {.stream = s->welcome.stream,
                                           .files = s->welcome.ring_files,
                                           .file_size = s->welcome.ring_file_size},
                                  .position = s->welcome.tail_position,
                                  .lsn = s->welcome.tail_lsn,
                                  .incarnation = s->welcome.tail_incarnation};
    s->oldest_us = 0;
    s->sealed_us = 0;
    s->sync_target = 0;
    s->bytes_cut = 0;
    if (s->journal && !id_equal(&s->cutlog.stream, &s->welcome.stream)) {
        cutlog_close(&s->cutlog);
        s->journal = false;
    }
    return 0;
}

static void note_stored(struct shipper *s, uint64_t lsn)
{
    struct err err = {0};
    pthread_mutex_lock(&s->lock);
    s->status.stored_lsn = lsn;
    pthread_mutex_unlock(&s->lock);
    if (lsn > 0) {
        port_tell_stored(s->port, lsn);
        if (cutlog_trim(&s->cutlog, lsn, false, &err) != 0) {
            log_warn("disk %s: %s", s->name, err.text);
        }
    }
}

/* PUTs what cutter_cut() made, and goes on only when it is stored. */
static int put(struct shipper *s, const struct segment_info *info, struct err *err)
{
    struct intake_stream_state far = {0};
    if (uplink_put(s->uplink, &s->welcome.stream, info->header.first_lsn, s->cutter.object,
                   info->size, &far, err) != 0) {
        if (err->code == TIDE_ERR_CONFLICT) {
            err->code = TIDE_ERR_BUSY; /* place() asks what it has, and judges */
        }
        return -1;
    }
    if (far.stored_lsn < info->last_lsn) {
        return err_set(err, TIDE_ERR_BUSY,
                       "the coordinator has received up to lsn %" PRIu64
                       " and stored up to %" PRIu64,
                       far.received_lsn, far.stored_lsn);
    }
    pthread_mutex_lock(&s->lock);
    s->status.segments++;
    s->status.bytes += info->size;
    pthread_mutex_unlock(&s->lock);
    s->next_first = info->last_lsn + 1;
    s->head = info->hash;
    s->at.position = s->cutter.pending ? s->cutter.record_position : s->cutter.reader.position;
    s->at.lsn = s->next_first;
    s->at.incarnation = info->last_incarnation;
    s->backoff_us = SHIPPER_RETRY_MIN_US;
    note_stored(s, info->last_lsn);
    set_state(s, SHIPPER_SHIPPING);
    return 0;
}

static int open_cutter(struct shipper *s, uint64_t first, const struct hash *before,
                       struct err *err)
{
    struct source source = {.read = ring_read, .size = ring_size, .context = s};
    return cutter_open(&s->cutter, &source, &s->at, &s->welcome.timeline, first, before, err);
}

/* A cut that was decided before: the same bytes again, or stop. */
static int ship_pending(struct shipper *s, const struct cutlog_entry *entry, struct err *err)
{
    struct segment_info info;
    bool full = false;
    if (open_cutter(s, entry->first, &entry->before, err) != 0 ||
        cutter_fill(&s->cutter, entry->last, &full, err) != 0) {
        return err_wrap(err, "cut of lsn %" PRIu64 " to %" PRIu64 " cannot be built again",
                        entry->first, entry->last);
    }
    if (!cutter_empty(&s->cutter)) {
        cutter_cut(&s->cutter, &info);
        if (info.last_lsn == entry->last && hash_equal(&info.hash, &entry->hash)) {
            return put(s, &info, err);
        }
    }
    return err_set(err, TIDE_ERR_CONFLICT,
                   "cut of lsn %" PRIu64 " to %" PRIu64
                   " built again from the log has other bytes than when it was decided: the log "
                   "has changed; the disk needs a resync",
                   entry->first, entry->last);
}

/* Where the far side is, what of the journal it lacks, and the cutter at what is due. */
static int place(struct shipper *s, struct err *err)
{
    struct intake_stream_state far = {0};
    struct cutlog_resume resume = {0};
    if (!s->journal) {
        if (cutlog_open(&s->cutlog, s->settings->state, &s->welcome.stream, err) != 0) {
            return -1;
        }
        s->journal = true;
    }
    if (uplink_stream(s->uplink, &s->welcome.stream, &far, err) != 0) {
        return -1;
    }
    uint64_t next_lsn =
        s->view.next_lsn > s->welcome.next_lsn ? s->view.next_lsn : s->welcome.next_lsn;
    if (cutlog_compare(&s->cutlog, &far, next_lsn, &resume, err) != 0) {
        return -1;
    }
    if (resume.clear && cutlog_clear(&s->cutlog, err) != 0) {
        return -1;
    }
    note_stored(s, far.stored_lsn);
    s->next_first = resume.first;
    s->head = resume.before;
    if (resume.pending != NULL) {
        /* A copy: put() may trim the journal. The rest follows in the next turn. */
        struct cutlog_entry entry = *resume.pending;
        return ship_pending(s, &entry, err);
    }
    if (open_cutter(s, s->next_first, &s->head, err) != 0) {
        return -1;
    }
    s->placed = true;
    set_state(s, SHIPPER_SHIPPING);
    return 0;
}

/* Decides a cut, durably, and ships it. */
static int ship(struct shipper *s, struct err *err)
{
    struct segment_info info;
    struct cutlog_entry entry = {.position = s->cutter.position};
    cutter_cut(&s->cutter, &info);
    entry.first = info.header.first_lsn;
    entry.last = info.last_lsn;
    entry.incarnation = info.header.incarnation;
    entry.before = info.header.before;
    entry.hash = info.hash;
    if (cutlog_append(&s->cutlog, &entry, err) != 0) {
        return -1;
    }
    pthread_mutex_lock(&s->lock);
    s->status.cut_lsn = info.last_lsn;
    pthread_mutex_unlock(&s->lock);
    if (put(s, &info, err) != 0) {
        return -1;
    }
    cutter_next(&s->cutter, &info);
    return 0;
}

/* Everything that is synced, in as many segments as it takes. */
static int ship_synced(struct shipper *s, struct err *err)
{
    uint64_t through = s->view.synced_lsn;
    s->bytes_cut = s->view.bytes;
    while (s->next_first <= through && !s->view.stop) {
        bool full = false;
        if (cutter_fill(&s->cutter, through, &full, err) != 0 || ship(s, err) != 0) {
            return -1;
        }
    }
    s->oldest_us = 0;
    s->sealed_us = 0;
    s->sync_target = 0;
    return 0;
}

/* One turn with a placed cutter: is a cut due, is it synced? Returns when to look again. */
static int turn(struct shipper *s, uint64_t *ret_again_us, struct err *err)
{
    uint64_t now = clock_mono_us();
    const struct port_view *v = &s->view;
    *ret_again_us = now + IDLE_US;
    if (v->next_lsn <= s->next_first) {
        s->oldest_us = 0;
        return 0;
    }
    if (s->oldest_us == 0) {
        s->oldest_us = now;
    }
    uint64_t due = s->oldest_us + SHIPPER_AGE_US;
    if (v->sealed_lsn >= s->next_first) {
        if (s->sealed_us == 0) {
            s->sealed_us = now;
        }
        uint64_t soon = s->sealed_us + SHIPPER_SEAL_US;
        due = soon < due ? soon : due;
    }
    if (v->bytes - s->bytes_cut >= TIDE_SEGMENT_MAX) {
        due = now;
    }
    if (now < due) {
        *ret_again_us = due;
        return 0;
    }
    if (v->sync_failed && v->synced_lsn < s->next_first) {
        return err_set(err, TIDE_ERR_IO,
                       "the tap could not sync its log past lsn %" PRIu64
                       ": look at the log's disk, then start the tap again",
                       v->synced_lsn);
    }
    if (s->sync_target == 0) {
        s->sync_target = v->next_lsn - 1;
        if (v->synced_lsn < s->sync_target) {
            port_ask_sync(s->port, s->sync_target);
        }
    }
    if (v->synced_lsn >= s->sync_target || v->sync_failed) {
        return ship_synced(s, err);
    }
    return 0;
}

/* Whether trying again soon can mend it. */
static bool is_passing(const struct err *err)
{
    switch (err->code) {
    case TIDE_ERR_UNREACHABLE:
    case TIDE_ERR_BUSY:
    case TIDE_ERR_FULL:
    case TIDE_ERR_IO:
    case TIDE_ERR_LIMIT:
    case TIDE_ERR_FAILED:
    case TIDE_ERR_DENIED:
        return true;
    case TIDE_ERR_OK:
    case TIDE_ERR_USAGE:
    case TIDE_ERR_CONFIG:
    case TIDE_ERR_NOT_FOUND:
    case TIDE_ERR_CORRUPT:
    case TIDE_ERR_VERSION:
    case TIDE_ERR_CONFLICT:
    case TIDE_ERR_UNKNOWN:
        return false;
    }
    return false;
}

static void *run(void *arg)
{
    struct shipper *s = arg;
    uint64_t again = clock_mono_us();
    daemon_thread_init("tide-ship");
    for (;;) {
        struct err err = {0};
        int result = 0;
        port_wait(s->port, again, &s->view);
        if (s->view.stop) {
            break;
        }
        uint64_t now = clock_mono_us();
        again = now + IDLE_US;
        if (s->view.session == 0) {
            continue;
        }
        if (now < s->retry_us && s->session == s->view.session) {
            again = s->retry_us;
            continue;
        }
        bool asked = !s->placed;
        result = open_session(s, &err);
        if (result == 0 && !s->placed) {
            result = place(s, &err);
            again = now;
        } else if (result == 0) {
            result = turn(s, &again, &err);
        }
        if (result != 0 && !s->view.stop) {
            /* A stream that the coordinator does not know yet is told to it by registration. */
            bool unknown = asked && err.code == TIDE_ERR_NOT_FOUND && s->cutlog.count == 0;
            fail(s,
                 unknown            ? SHIPPER_ASKING
                 : is_passing(&err) ? SHIPPER_RETRYING
                                    : SHIPPER_STOPPED,
                 &err);
        }
    }
    close_ring(s);
    return NULL;
}

int shipper_start(struct shipper *s, const struct settings *settings,
                  const struct tls_identity *identity, struct port *port, struct events *events,
                  unsigned disk, uint64_t seed, struct err *err)
{
    const struct settings_member *member = &settings->members[settings->disks[disk].member];
    memset(s, 0, sizeof *s);
    s->settings = settings;
    s->identity = identity;
    s->port = port;
    s->cutlog.fd = -1;
    s->backoff_us = SHIPPER_RETRY_MIN_US;
    s->events = events;
    s->disk = disk;
    snprintf(s->name, sizeof s->name, "%s/%s/%s", member->group.s, member->name.s,
             settings->disks[disk].name.s);
    prng_init(&s->jitter, seed);
    if (cutter_init(&s->cutter, err) != 0) {
        return -1;
    }
    if (uplink_new(identity, settings, &s->uplink, err) != 0) {
        cutter_close(&s->cutter);
        return -1;
    }
    TIDE_CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    int error = pthread_create(&s->thread, NULL, run, s);
    if (error != 0) {
        uplink_free(s->uplink);
        cutter_close(&s->cutter);
        return file_err(err, error, "cannot start the shipping thread of %s", s->name);
    }
    s->started = true;
    return 0;
}

void shipper_stop(struct shipper *s)
{
    if (s->started) {
        port_stop(s->port);
        uplink_abort(s->uplink);
    }
}

bool shipper_join(struct shipper *s, uint64_t deadline_us)
{
    uint64_t now = clock_mono_us();
    uint64_t left = deadline_us > now ? deadline_us - now : 0;
    struct timespec until;
    if (!s->started) {
        return true;
    }
    clock_gettime(CLOCK_REALTIME, &until); /* pthread_timedjoin_np() knows no other clock */
    uint64_t ns = (uint64_t)until.tv_nsec + left % CLOCK_US_PER_S * 1000;
    until.tv_sec += (time_t)(left / CLOCK_US_PER_S + ns / 1000000000U);
    until.tv_nsec = (long)(ns % 1000000000U);
    if (pthread_timedjoin_np(s->thread, NULL, &until) != 0) {
        return false;
    }
    s->started = false;
    if (s->journal) {
        cutlog_close(&s->cutlog);
    }
    uplink_free(s->uplink);
    cutter_close(&s->cutter);
    pthread_mutex_destroy(&s->lock);
    return true;
}

void shipper_status(struct shipper *s, struct shipper_status *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = s->status;
    pthread_mutex_unlock(&s->lock);
}

const char *shipper_state_name(enum shipper_state state)
{
    static const char *const names[] = {"no-tap", "asking", "shipping", "retrying", "stopped"};
    return names[state];
}
