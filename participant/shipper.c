/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/shipper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

/* Notes an error; told in the log where it is another than before. ASKING is usual at a start. */
static void note_error(struct shipper *s, enum shipper_state state, const struct err *err)
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
}

/* Whatever it was: after a while the far side is asked where it is, before going on. */
static void fail(struct shipper *s, enum shipper_state state, const struct err *err)
{
    note_error(s, state, err);
    uint64_t wait = state == SHIPPER_STOPPED ? SHIPPER_STOPPED_US : s->backoff_us;
    wait += prng_below(&s->jitter, wait / 4 + 1);
    s->retry_us = clock_mono_us() + wait;
    s->backoff_us =
        s->backoff_us * 2 > SHIPPER_RETRY_MAX_US ? SHIPPER_RETRY_MAX_US : s->backoff_us * 2;
    s->placed = false;
    flight_close(&s->flight);
}

/* The one thing that mends it, unless it was ordered just now. */
static void order_restream(struct shipper *s, const struct err *err)
{
    if (!restream_due(&s->restream, clock_mono_us())) {
        return;
    }
    s->unreadable = 0;
    pthread_mutex_lock(&s->lock);
    s->status.restreams++;
    s->status.refusal[0] = '\0';
    snprintf(s->status.restream_text, sizeof s->status.restream_text, "%s", err->text);
    pthread_mutex_unlock(&s->lock);
    events_again(
        s->events, NEWS_SHIPPING_STOPPED, s->settings->disks[s->disk].member, (int)s->disk,
        "restream",
        "shipping stopped: the tap is told to begin a new stream, which copies the disk: %s",
        err->text);
    port_ask_restream(s->port, &s->welcome.stream);
}

static void note_refusal(struct shipper *s)
{
    const struct tapctl_done *refusal = &s->view.refusal;
    if (s->refusals == s->view.refusals) {
        return;
    }
    s->refusals = s->view.refusals;
    restream_refused(&s->restream);
    pthread_mutex_lock(&s->lock);
    snprintf(s->status.refusal, sizeof s->status.refusal, "%s: %s", err_name(refusal->code),
             refusal->text);
    pthread_mutex_unlock(&s->lock);
    log_error("disk %s: the tap does not begin a new stream: %s: %s", s->name,
              err_name(refusal->code), refusal->text);
}

static struct cutter_place tail_of(const struct tapctl_welcome *welcome)
{
    return (struct cutter_place){.ring = {.stream = welcome->stream,
                                          .files = welcome->ring_files,
                                          .file_size = welcome->ring_file_size},
                                 .position = welcome->tail_position,
                                 .lsn = welcome->tail_lsn,
                                 .incarnation = welcome->tail_incarnation};
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
    s->at = tail_of(&s->welcome);
    s->oldest_us = 0;
    s->sealed_us = 0;
    s->sync_target = 0;
    s->bytes_cut = 0;
    if (s->journal && !id_equal(&s->cutlog.stream, &s->welcome.stream)) {
        cutlog_close(&s->cutlog);
        s->journal = false;
        s->unreadable = 0;
    }
    return 0;
}

static void note_stored(struct shipper *s, uint64_t lsn)
{
    struct err err = {0};
    pthread_mutex_lock(&s->lock);
    s->status.stored_lsn = lsn;
    pthread_mutex_unlock(&s->lock);
    port_tell_stored(s->port, &s->flight.stream, lsn);
    if (lsn > 0 && s->journal && cutlog_trim(&s->cutlog, lsn, false, &err) != 0) {
        log_warn("disk %s: %s", s->name, err.text);
    }
}

/* An answer after which the far side must be asked before going on. */
static void ask_anew(struct shipper *s, const struct flight_news *news)
{
    struct err err = news->err;
    if (err.code == TIDE_ERR_OK) {
        err_set(&err, TIDE_ERR_CONFLICT,
                "the coordinator does not go on with the stream behind lsn %" PRIu64 "%s%s",
                news->stored, news->far.text[0] != '\0' ? ": " : "", news->far.text);
    }
    bool judged = err.code == TIDE_ERR_CONFLICT || err.code == TIDE_ERR_NOT_FOUND;
    fail(s, judged ? SHIPPER_RETRYING : SHIPPER_STOPPED, &err);
}

/* What the senders have heard. */
static void collect(struct shipper *s)
{
    struct flight_news news;
    uint8_t spice = (uint8_t)prng_below(&s->jitter, 256);
    while (flight_take(&s->flight, clock_mono_us(), spice, &news)) {
        if (news.advanced) {
            s->backoff_us = SHIPPER_RETRY_MIN_US;
            s->at = news.after;
            pthread_mutex_lock(&s->lock);
            s->status.segments += news.segments;
            s->status.bytes += news.bytes;
            pthread_mutex_unlock(&s->lock);
            note_stored(s, news.stored);
        }
        if (!s->placed) {
            continue; /* it is closed, and the reason is noted */
        }
        if (news.verdict == WINDOW_ASK) {
            ask_anew(s, &news);
        } else if (news.verdict == WINDOW_RETRY) {
            note_error(s, SHIPPER_RETRYING, &news.err);
        } else {
            set_state(s, SHIPPER_SHIPPING);
        }
    }
}

static int open_cutter(struct shipper *s, uint64_t first, const struct hash *before,
                       struct err *err)
{
    struct source source = {.read = ring_read, .size = ring_size, .context = s};
    return cutter_open(&s->cutter, &source, &s->at, &s->welcome.timeline, first, before, err);
}

/* Where the far side is, what the journal says to that, and the cutter at what is due. */
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
    if (cutlog_compare(&s->cutlog, &far, s->welcome.tail_lsn, next_lsn, &resume, err) != 0) {
        s->hopeless = true;
        return -1;
    }
    if (resume.fell_back) {
        log_error("disk %s: the coordinator has the stream up to lsn %" PRIu64
                  ", less than it once confirmed (a restored store?); the log still has what is "
                  "missing, and it is sent again",
                  s->name, far.stored_lsn);
    }
    if (resume.clear && cutlog_clear(&s->cutlog, err) != 0) {
        return -1;
    }
    if (resume.first < s->at.lsn) {
        s->at = tail_of(&s->welcome);
    }
    flight_begin(&s->flight, &s->welcome.stream, s->settings->in_flight, far.stored_lsn);
    note_stored(s, far.stored_lsn);
    if (open_cutter(s, resume.first, &resume.before, err) != 0) {
        s->unreadable++;
        return -1;
    }
    s->next_first = resume.first;
    s->through = 0;
    s->placed = true;
    set_state(s, SHIPPER_SHIPPING);
    return 0;
}

/* Behind what the cutter has cut. */
static struct cutter_place behind(const struct shipper *s, const struct segment_info *info)
{
    const struct cutter *c = &s->cutter;
    struct cutter_place at = s->at;
    at.position = c->pending ? c->record_position : c->reader.position;
    at.lsn = info->last_lsn + 1;
    at.incarnation = info->last_incarnation;
    return at;
}

/* A cut that was decided before: the same bytes again, or none ever. */
static int check_same(struct shipper *s, const struct cutlog_entry *entry,
                      const struct segment_info *info, struct err *err)
{
    if (info->last_lsn == entry->last && hash_equal(&info->hash, &entry->hash)) {
        return 0;
    }
    s->hopeless = true;
    return err_set(err, TIDE_ERR_CONFLICT,
                   "cut of lsn %" PRIu64 " to %" PRIu64
                   " built again from the log has other bytes than when it was decided: the log "
                   "has changed",
                   entry->first, entry->last);
}

static int decide(struct shipper *s, uint64_t position, const struct segment_info *info,
                  struct err *err)
{
    struct cutlog_entry entry = {.first = info->header.first_lsn,
                                 .last = info->last_lsn,
                                 .position = position,
                                 .incarnation = info->header.incarnation,
                                 .before = info->header.before,
                                 .hash = info->hash};
    return cutlog_append(&s->cutlog, &entry, err);
}

/* The next segment: as it was decided before a restart, or decided now, durably, up to through. */
static int cut(struct shipper *s, uint64_t through, struct err *err)
{
    const struct cutlog_entry *pending = cutlog_at(&s->cutlog, s->next_first);
    struct segment_info info;
    bool full = false;
    if (cutter_fill(&s->cutter, pending != NULL ? pending->last : through, &full, err) != 0) {
        s->unreadable++;
        return -1;
    }
    uint64_t position = s->cutter.position;
    cutter_cut(&s->cutter, &info);
    if (pending != NULL ? check_same(s, pending, &info, err) != 0
                        : decide(s, position, &info, err) != 0) {
        return -1;
    }
    s->unreadable = 0;
    struct cutter_place after = behind(s, &info);
    if (flight_add(&s->flight, &info, s->cutter.object, &after, err) != 0) {
        return -1;
    }
    pthread_mutex_lock(&s->lock);
    s->status.cut_lsn = info.last_lsn;
    pthread_mutex_unlock(&s->lock);
    s->next_first = info.last_lsn + 1;
    cutter_next(&s->cutter, &info);
    (void)flight_send(&s->flight, clock_mono_us());
    return 0;
}

/* What is to be cut without waiting, as far as there is room. */
static int cut_on(struct shipper *s, struct err *err)
{
    while (flight_has_room(&s->flight) && !s->view.stop &&
           (s->next_first <= s->through || cutlog_at(&s->cutlog, s->next_first) != NULL)) {
        if (cut(s, s->through, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* One turn with a placed cutter: is a cut due, is it synced? Returns when to look again. */
static int turn(struct shipper *s, uint64_t *ret_again_us, struct err *err)
{
    uint64_t now = clock_mono_us();
    const struct port_view *v = &s->view;
    *ret_again_us = now + IDLE_US;
    if (cut_on(s, err) != 0) {
        return -1;
    }
    if (s->next_first <= s->through) {
        return 0; /* until an answer makes room */
    }
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
        s->through = v->synced_lsn;
        s->bytes_cut = v->bytes;
        s->oldest_us = 0;
        s->sealed_us = 0;
        s->sync_target = 0;
        return cut_on(s, err);
    }
    return 0;
}

/* A step came to nothing. */
static void give_up(struct shipper *s, bool asked, const struct err *err)
{
    /* A stream that the coordinator does not know yet is told to it by registration. */
    bool unknown =
        asked && err->code == TIDE_ERR_NOT_FOUND && s->cutlog.count == 0 && s->unreadable == 0;
    bool passing = window_is_passing(err->code) && !s->hopeless;
    fail(s, unknown ? SHIPPER_ASKING : passing ? SHIPPER_RETRYING : SHIPPER_STOPPED, err);
    if (s->hopeless || s->unreadable >= SHIPPER_LOOKS) {
        order_restream(s, err);
    }
    s->hopeless = false;
}

/* One step; returns when to look again. */
static uint64_t step(struct shipper *s)
{
    struct err err = {0};
    uint64_t now = clock_mono_us();
    uint64_t again = now + IDLE_US;
    int result = 0;
    bool moved = s->session != s->view.session;
    if (s->view.session == 0) {
        return again;
    }
    s->placed = s->placed && !moved;
    if (!s->placed) {
        flight_close(&s->flight); /* what is under way is waited for: the senders poke */
        if (!flight_idle(&s->flight)) {
            return again;
        }
    }
    if (now < s->retry_us && !moved) {
        return s->retry_us;
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
        give_up(s, asked, &err);
        return s->retry_us;
    }
    uint64_t wake = flight_send(&s->flight, clock_mono_us());
    return wake < again ? wake : again;
}

static void *run(void *arg)
{
    struct shipper *s = arg;
    uint64_t again = clock_mono_us();
    daemon_thread_init("tide-ship");
    for (;;) {
        port_wait(s->port, again, &s->view);
        if (s->view.stop) {
            break;
        }
        note_refusal(s);
        collect(s);
        again = step(s);
        pthread_mutex_lock(&s->lock);
        s->status.in_flight = s->flight.window.count;
        pthread_mutex_unlock(&s->lock);
    }
    close_ring(s);
    return NULL;
}

static void poke(void *arg)
{
    port_poke(arg);
}

int shipper_start(struct shipper *s, const struct settings *settings,
                  const struct tls_identity *identity, struct throttle *throttle, struct port *port,
                  struct events *events, unsigned disk, uint64_t seed, struct err *err)
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
    s->senders = senders_new(settings, identity, throttle, poke, port);
    flight_init(&s->flight, s->senders);
    int error = pthread_create(&s->thread, NULL, run, s);
    if (error != 0) {
        senders_stop(s->senders);
        (void)senders_join(s->senders, UINT64_MAX / 2);
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
        senders_stop(s->senders);
    }
}

bool shipper_join(struct shipper *s, uint64_t deadline_us)
{
    if (!s->started) {
        return true;
    }
    if (!daemon_thread_join(s->thread, deadline_us)) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    struct senders *senders = s->senders;
    s->senders = NULL;
    pthread_mutex_unlock(&s->lock);
    if (!senders_join(senders, deadline_us)) {
        return false;
    }
    flight_free(&s->flight);
    s->started = false;
    if (s->journal) {
        cutlog_close(&s->cutlog);
    }
    uplink_free(s->uplink);
    cutter_close(&s->cutter);
    return true; /* the lock stays: a command may ask for the status still */
}

void shipper_status(struct shipper *s, struct shipper_status *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = s->status;
    ret->limited = s->senders != NULL && senders_limited(s->senders);
    pthread_mutex_unlock(&s->lock);
    if (ret->limited && ret->state == SHIPPER_SHIPPING) {
        ret->state = SHIPPER_LIMITED;
    }
    ret->rpo_known = port_rpo(s->port, clock_mono_us(), &ret->rpo_us);
}

const char *shipper_state_name(enum shipper_state state)
{
    static const char *const names[] = {"no-tap",  "asking",   "shipping",
                                        "limited", "retrying", "stopped"};
    return names[state];
}
