/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/attach.h"

#include "common/core/check.h"
#include "common/core/definition.h"
#include "participant/tap/append.h"
#include "participant/tap/copy.h"
#include "participant/tap/file.h"
#include "participant/tap/identity.h"
#include "participant/tap/note.h"
#include "participant/tap/replay.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MTIME_SLACK_NS UINT64_C(2000000000)
/* Over a power cut no time of a file can be relied on, for fdatasync(2) need not write it: the
 * state says when it was written, which a tap that logs does every few seconds. */
#define POWER_SLACK_NS UINT64_C(120000000000)

static int lock_file(int fd, const char *what, const char *path, struct err *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }
    if (errno == EWOULDBLOCK) {
        return err_set(err, TIDE_ERR_BUSY, "%s \"%s\" is served by another tap: end that one first",
                       what, path);
    }
    return err_set(err, TIDE_ERR_IO, "cannot lock %s \"%s\": %s", what, path, strerror(errno));
}

/* Its name durable too, if it is new: a log without one would be a new stream after a power cut. */
static int make_folder(const char *folder)
{
    char parent[PATH_MAX];
    if (mkdir(folder, 0700) != 0) {
        return errno == EEXIST ? 0 : -1;
    }
    (void)snprintf(parent, sizeof parent, "%s", folder);
    return file_sync_folder(dirname(parent));
}

/* The system tells each open file of a failed sync once: the checkpoint has one of its own. */
static void open_sync_fd(struct tap *tap)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", tap->image_fd);
    tap->image_sync_fd = open(path, O_RDWR | O_CLOEXEC);
}

static int open_files(struct tap *tap, struct err *err)
{
    const struct tap_config *c = &tap->config;
    char path[PATH_MAX];
    tap->image_fd = open(c->image, O_RDWR | O_CLOEXEC);
    uint64_t size = 0;
    if (tap->image_fd < 0 || file_size(tap->image_fd, &size) != 0) {
        return err_set(err, TIDE_ERR_IO,
                       "cannot open image \"%s\": %s; give a file or block device that exists",
                       c->image, strerror(errno));
    }
    tap->size = size;
    if (size == 0) {
        return err_set(err, TIDE_ERR_CONFIG, "image \"%s\" is empty: give it its size first",
                       c->image);
    }
    if (!file_is_disk_size(size)) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "image \"%s\" has %llu bytes, and no disk of that size can be registered: "
                       "give it a multiple of %u, up to 2^60 (`qemu-img resize` or `truncate`)",
                       c->image, (unsigned long long)size, TIDE_DISK_SIZE_UNIT);
    }
    if (lock_file(tap->image_fd, "image", c->image, err) != 0) {
        return -1;
    }
    open_sync_fd(tap);
    if (make_folder(c->folder) != 0) {
        return err_set(err, TIDE_ERR_IO, "cannot make log folder \"%s\": %s", c->folder,
                       strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/lock", c->folder);
    tap->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (tap->lock_fd < 0) {
        return err_set(err, TIDE_ERR_IO, "cannot open \"%s\": %s", path, strerror(errno));
    }
    if (lock_file(tap->lock_fd, "log", c->folder, err) != 0) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/state", c->folder);
    tap->state_fd = open(path, O_RDWR | O_CLOEXEC);
    if (tap->state_fd < 0 && errno != ENOENT) {
        return err_set(err, TIDE_ERR_IO, "cannot open \"%s\": %s", path, strerror(errno));
    }
    return 0;
}

int attach_new_stream(struct tap *tap, struct err *err)
{
    struct state *s = &tap->state;
    struct state fresh = {.due_lsn = 1,
                          .image_size = tap->size,
                          .clean = true,
                          .boot = tap->boot,
                          .sequence = s->sequence,
                          .disk = s->disk,
                          .ring_files = s->ring_files,
                          .ring_file_size = s->ring_file_size,
                          .incarnation_before = s->incarnation};
    if (!file_random(&fresh.stream, sizeof fresh.stream) ||
        !file_random(&fresh.timeline, sizeof fresh.timeline) ||
        (id_is_zero(&fresh.disk) && !file_random(&fresh.disk, sizeof fresh.disk))) {
        return err_set(err, TIDE_ERR_IO, "no randomness for ids: %s", strerror(errno));
    }
    *s = fresh;
    return 0;
}

/* A log folder without a state: a new stream. Its first state says what must hold until it is
 * attached: not whole. */
static int begin_fresh(struct tap *tap, struct err *err)
{
    struct state *s = &tap->state;
    if (attach_new_stream(tap, err) != 0) {
        return -1;
    }
    struct log_ring geometry = ring_geometry(tap->config.log_size, &s->stream);
    s->ring_files = geometry.files;
    s->ring_file_size = geometry.file_size;
    s->image_mtime_ns = file_mtime_ns(tap->image_fd);
    if (ring_create(&tap->ring, tap->config.folder, &geometry, err) != 0) {
        return -1;
    }
    return state_create(tap->config.folder, s, &tap->state_fd, err);
}

static int open_known(struct tap *tap, struct err *err)
{
    struct state *s = &tap->state;
    if (state_read(tap->state_fd, s, err) != 0) {
        return -1;
    }
    if (s->ring_files < TIDE_LOG_FILES_MIN || s->ring_files > TIDE_LOG_FILES_MAX ||
        s->ring_file_size < TIDE_LOG_FILE_MIN || s->ring_file_size > TIDE_LOG_FILE_MAX ||
        s->ring_file_size % 512 != 0 || s->due_lsn == 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "state of log \"%s\" has impossible numbers",
                       tap->config.folder);
    }
    struct log_ring geometry = {
        .stream = s->stream, .files = s->ring_files, .file_size = s->ring_file_size};
    struct log_ring wanted = ring_geometry(tap->config.log_size, &s->stream);
    if (wanted.files != geometry.files || wanted.file_size != geometry.file_size) {
        nbdkit_error("log \"%s\" keeps the size it was made with, %llu bytes", tap->config.folder,
                     (unsigned long long)geometry.files * geometry.file_size);
    }
    return ring_open(&tap->ring, tap->config.folder, &geometry, err);
}

/* When the tap was last seen alive: its last append, or last write of the state. */
static uint64_t last_alive_ns(const struct tap *tap)
{
    uint64_t newest = file_mtime_ns(tap->state_fd);
    for (uint32_t i = 0; i < tap->ring.geometry.files; i++) {
        uint64_t at = file_mtime_ns(tap->ring.fds[i]);
        newest = at > newest ? at : newest;
    }
    return newest;
}

/* What happened while no tap ran; 0: nothing. *ret_touched: others wrote, so no replay. */
static unsigned meanwhile(const struct tap *tap, bool *ret_touched)
{
    const struct state *s = &tap->state;
    uint64_t mtime = file_mtime_ns(tap->image_fd);
    bool cut = !s->clean && !id_equal(&s->boot, &tap->boot);
    uint64_t latest = cut ? s->alive_ns + POWER_SLACK_NS : last_alive_ns(tap) + MTIME_SLACK_NS;
    bool late =
        mtime != 0 && (s->clean ? mtime != s->image_mtime_ns : !s->replaying && mtime > latest);
    if (s->image_size != tap->size) {
        /* It may have grown while the tap ran: over a power cut the log's promises stand. */
        *ret_touched = late || !cut;
        return RECORD_GAP_SIZE;
    }
    *ret_touched = true;
    if (s->image_id[0] != '\0' && tap->image_id[0] != '\0' &&
        strcmp(s->image_id, tap->image_id) != 0) {
        return RECORD_GAP_IDENTITY;
    }
    if (late) {
        return RECORD_GAP_MTIME;
    }
    *ret_touched = false;
    return cut ? RECORD_GAP_POWER : 0;
}

/* The seal of a bookmark that the last incarnation left open: still in its name, before ATTACH. */
static int seal_open(struct tap *tap, const struct replay *r)
{
    struct gate_out out;
    if (r->open_lsn == 0 || !ring_room(&tap->ring, TIDE_RECORD_SMALL_MAX, 0)) {
        return 0; /* without room: the ATTACH that follows answers the same "no" */
    }
    struct gate_event event = {.type = GATE_APPEND};
    tap_step(tap, &event, &out);
    struct record record = {.type = RECORD_SEAL,
                            .lsn = out.lsn,
                            .incarnation = r->end_incarnation,
                            .seal = {.round = r->open_round,
                                     .bookmark_lsn = r->open_lsn,
                                     .outcome = ROUND_OUTCOME_ABORTED}};
    return append_record(tap, &record);
}

static void describe(struct tap *tap, const struct replay *r, bool first)
{
    const char *slash = strrchr(tap->config.image, '/');
    struct record_attach *a = &tap->attach;
    *a = (struct record_attach){.boot = tap->boot,
                                .disk = tap->state.disk,
                                .timeline = tap->state.timeline,
                                .size = tap->size,
                                .block_size = TIDE_TAP_BLOCK_SIZE,
                                .clean = tap->state.clean,
                                .first = first,
                                .base_zero = first && tap->state.whole,
                                .replayed_from = r->first_lsn,
                                .replayed_to = r->last_lsn,
                                .mtime_ns = file_mtime_ns(tap->image_fd)};
    (void)snprintf(a->serial, sizeof a->serial, "%s",
                   slash != NULL ? slash + 1 : tap->config.image);
}

/* The first start: is there anything on the image? */
static int settle_first(struct tap *tap, unsigned *ret_gap, struct err *err)
{
    struct state *s = &tap->state;
    int zero = file_is_zero(tap->image_fd, tap->size);
    if (zero < 0) {
        return err_set(err, TIDE_ERR_IO, "cannot read image \"%s\": %s", tap->config.image,
                       strerror(errno));
    }
    s->whole = zero == 1;
    s->clean = true;
    s->image_size = tap->size;
    if (s->whole) {
        map_clear_all(&tap->map); /* one of a new stream by order has every block */
    }
    *ret_gap = zero == 1 ? 0 : RECORD_GAP_BASE;
    return 0;
}

/* What nobody saw came before this start: the state says so before the first append, which makes
 * the log younger than the image; a kill then would leave nothing that tells the next start. */
static int settle_gap(struct tap *tap, const struct replay *r, unsigned gap, bool touched,
                      struct err *err)
{
    struct state *s = &tap->state;
    s->whole = false;
    s->copy_lsn = 0;
    s->copy_zero = gap == RECORD_GAP_BASE;
    s->compare = gap != RECORD_GAP_BASE;
    s->gap_reason = (uint8_t)gap;
    s->gap_lsn = r->end_lsn;
    if (touched) {
        s->due_lsn = r->end_lsn;
        s->due_position = r->end_position;
        s->due_incarnation = r->end_incarnation;
        s->open_lsn = r->open_lsn;
        s->open_round = r->open_round;
    }
    map_set_all(&tap->map);
    return append_state(tap, err);
}

/* The map of an earlier life counts where it cannot have been cut: after a clean detach, or a kill
 * in the same boot. */
static int settle_map(struct tap *tap, bool fresh, struct err *err)
{
    struct state *s = &tap->state;
    bool trusted = !fresh && !s->map_lost && (s->clean || id_equal(&s->boot, &tap->boot));
    if (s->whole) {
        s->compare = s->copy_zero = false;
        map_clear_all(&tap->map);
        return 0;
    }
    if (trusted) {
        return 0;
    }
    s->compare = true;
    s->copy_zero = false;
    map_set_all(&tap->map);
    return append_state(tap, err);
}

static int settle_known(struct tap *tap, const struct replay *r, const struct note *note,
                        bool fresh_map, unsigned *ret_gap, bool *ret_touched, struct err *err)
{
    struct state *s = &tap->state;
    *ret_gap = meanwhile(tap, ret_touched);
    if (*ret_gap == 0 && r->size != 0 && r->size != tap->size) {
        *ret_gap = RECORD_GAP_SIZE; /* it was another one meanwhile */
    }
    if (note->there && note->witness.state == WITNESS_GAP &&
        id_equal(&note->witness.stream, &s->stream)) {
        *ret_gap = *ret_gap == 0 ? RECORD_GAP_LOG : *ret_gap; /* the state could not be told */
        *ret_touched = true;                                  /* changes may have gone past it */
    }
    s->whole = r->whole;
    s->copy_zero = r->copy_zero;
    s->copy_lsn = r->copy_lsn < r->end_lsn ? r->copy_lsn : 0;
    return settle_map(tap, fresh_map, err);
}

/* Half a replay is older than what was on the image: the state says that it must be finished. */
static int replay(struct tap *tap, struct replay *r, bool resized, struct err *err)
{
    if (r->start_lsn == r->end_lsn) {
        return 0;
    }
    tap->state.replaying = true;
    if (append_state(tap, err) != 0) {
        return -1;
    }
    return replay_apply(&tap->ring, tap->image_fd, tap->size, resized, r, err);
}

/* Replay, then whether the stream is whole, as far as the past tells. older: the log is, than the
 * image. */
static int settle(struct tap *tap, struct replay *r, const struct note *note, bool older,
                  struct err *err)
{
    struct state *s = &tap->state;
    bool fresh_map = false;
    if (s->due_lsn == 1) {
        s->end_lsn = 1; /* the first attach never ended: nothing was served, and it begins anew */
    }
    if (replay_scan(&tap->ring, s, r, err) != 0 ||
        ring_resume(&tap->ring, r->end_position, r->end_lsn, r->end_incarnation, err) != 0 ||
        map_open(&tap->map, tap->config.folder, &s->stream, tap->size, &fresh_map, err) != 0) {
        return -1;
    }
    if (s->end_lsn != 0 && ring_forget(&tap->ring) != 0) {
        return err_set(err, TIDE_ERR_IO, "cannot write log \"%s\": %s", tap->config.folder,
                       strerror(errno));
    }
    if (r->torn) {
        nbdkit_debug("log \"%s\": torn end dropped: %s", tap->config.folder, r->torn_text);
    }
    bool touched = false;
    unsigned gap = 0;
    if ((r->end_lsn == 1 ? settle_first(tap, &gap, err)
                         : settle_known(tap, r, note, fresh_map, &gap, &touched, err)) != 0) {
        return -1;
    }
    if (s->image_lost) { /* what the disk does not hold shall not be taken for the disk */
        (void)posix_fadvise(tap->image_fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    if (!touched && !older && replay(tap, r, gap == RECORD_GAP_SIZE, err) != 0) {
        return -1;
    }
    if (fsync(tap->image_fd) != 0) { /* with its note */
        return err_set(err, TIDE_ERR_IO, "cannot sync image \"%s\": %s", tap->config.image,
                       strerror(errno));
    }
    return gap == 0 ? 0 : settle_gap(tap, r, gap, touched, err);
}

/* The log is not of the image's last life. A start that was cut leaves what the image said then (it
 * is made durable first, so a power cut takes it no further back), or what it was to say. */
static bool is_older(const struct tap *tap, const struct note *note)
{
    const struct state *s = &tap->state;
    return note->there && note->incarnation != 0 && s->incarnation != 0 &&
           id_equal(&note->witness.stream, &s->stream) && note->incarnation != s->incarnation &&
           note->incarnation != s->incarnation_before;
}

/* Why the log must not go on, for its LSNs may have been used elsewhere; NULL: it may. */
static const char *foreign(const struct tap *tap, bool older)
{
    const struct state *s = &tap->state;
    if (older) {
        return "the image was served with a later state of it (was it restored from a copy?)";
    }
    bool known = s->machine[0] != '\0' && tap->machine[0] != '\0';
    return known && strcmp(s->machine, tap->machine) != 0
               ? "it was written on another machine (was this one cloned, or the disk moved?)"
               : NULL;
}

/* The stream ends where it is; a new one of the same disk begins. */
static int leave(struct tap *tap, struct replay *r, const char *why, struct err *err)
{
    nbdkit_error("log \"%s\": %s: a new stream begins, and the disk is copied into it",
                 tap->config.folder, why);
    if (attach_new_stream(tap, err) != 0) {
        return -1;
    }
    ring_restart(&tap->ring, &tap->state.stream);
    map_rename(&tap->map, &tap->state.stream);
    *r = (struct replay){.end_lsn = 1};
    return settle_gap(tap, r, RECORD_GAP_BASE, false, err);
}

/* A guard: the promise of an image whose flushes went to another log alone is in that log. */
static int check_note(const struct tap *tap, const struct note *note, struct err *err)
{
    struct stat st;
    char path[PATH_MAX];
    if (!note->there || note->witness.state == WITNESS_CLEAN ||
        id_equal(&note->witness.stream, &tap->state.stream)) {
        return 0;
    }
    (void)snprintf(path, sizeof path, "%s/state", note->witness.log);
    /* In this folder it has ended: a new stream began, and the note could not be written yet. */
    bool here = strncmp(note->witness.log, tap->config.folder, TIDE_WITNESS_LOG_MAX) == 0;
    if (note->witness.flush_log && !here && stat(path, &st) == 0) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "image \"%s\" has a log in \"%s\" that was not replayed: what was flushed "
                       "may be there alone; run 'tidemark disk replay %s %s' first",
                       tap->config.image, note->witness.log, note->witness.log, tap->config.image);
    }
    nbdkit_error("image \"%s\" was served with the log in \"%s\" and not detached from it: what "
                 "lies in that log and not in the image is passed over",
                 tap->config.image, note->witness.log);
    return 0;
}

/* The next start would read it from memory and count it: it counts no more. */
static int log_not_synced(struct tap *tap, struct err *err)
{
    struct state *s = &tap->state;
    struct err ignored;
    int why = errno;
    if (s->whole || s->gap_reason == 0) {
        s->gap_reason = RECORD_GAP_LOG;
        s->gap_lsn = s->due_lsn;
    }
    s->whole = false;
    s->copy_lsn = 0;
    s->copy_zero = false;
    s->compare = true;
    s->end_lsn = s->due_lsn;
    s->end_position = s->due_position;
    map_set_all(&tap->map);
    if (append_state(tap, &ignored) != 0) {
        note_write(tap, WITNESS_GAP);
    }
    return err_set(err, TIDE_ERR_IO, "cannot sync log \"%s\": %s", tap->config.folder,
                   strerror(why));
}

/* Seal, ATTACH, GAP; all synced; then the state, from which this incarnation is known. */
static int enter(struct tap *tap, struct replay *r, struct err *err)
{
    struct state *s = &tap->state;
    if (!file_random(&tap->incarnation, sizeof tap->incarnation) || tap->incarnation == 0) {
        return err_set(err, TIDE_ERR_IO, "no randomness for the incarnation: %s", strerror(errno));
    }
    struct gate_config gate = {.stream = s->stream,
                               .incarnation = tap->incarnation,
                               .next_lsn = r->end_lsn,
                               .cap_us = tap->config.hold_max_us,
                               .held_max = tap->config.held_max,
                               .whole = s->whole,
                               .held_before = r->end_lsn != 1,
                               .now_us = tap_now_us()};
    s->incarnation_before = tap->noted != 0 ? tap->noted : s->incarnation;
    s->incarnation = tap->incarnation;
    gate_init(&tap->gate, &gate);
    describe(tap, r, r->end_lsn == 1);
    tap->log_lsn = tap->head_lsn = tap->synced_lsn = r->end_lsn - 1;
    tap->head_position = tap->ring.position;
    tap->synced_position = s->due_position; /* a tail may be in the page cache only */
    tap->checkpoint_from = tap->ring.position;
    tap->stored_lsn = s->stored_lsn;
    ring_free(&tap->ring, s->due_lsn - 1 < s->stored_lsn ? s->due_lsn - 1 : s->stored_lsn);
    if (ring_retire(&tap->ring, tap->ring.tail) != 0) {
        return log_not_synced(tap, err);
    }
    ring_reuse(&tap->ring, tap->ring.tail);
    bool room = ring_room(&tap->ring, (uint64_t)3 * TIDE_RECORD_SMALL_MAX, 0);
    if (!room) { /* full to the last: served without a log until space returns */
        struct gate_event event = {.type = GATE_GAP};
        struct gate_out out;
        tap_step(tap, &event, &out);
        s->gap_reason = s->whole ? RECORD_GAP_OVERFLOW : s->gap_reason;
        s->whole = false;
        s->copy_lsn = 0;
        s->copy_zero = false;
        s->gap_lsn = r->end_lsn;
        tap->unlogged = true;
    } else if (seal_open(tap, r) != 0 || append_attach(tap) != 0) {
        return err_set(err, TIDE_ERR_IO, "cannot write log \"%s\": %s", tap->config.folder,
                       strerror(errno));
    }
    if (ring_sync(&tap->ring, s->due_position, tap->ring.position) != 0) {
        return log_not_synced(tap, err);
    }
    tap->synced_lsn = tap->log_lsn;
    tap->synced_position = tap->ring.position;
    tap->logging = room;
    s->replaying = false;
    s->image_size = tap->size;
    (void)snprintf(s->image_id, sizeof s->image_id, "%s", tap->image_id);
    (void)snprintf(s->machine, sizeof s->machine, "%s", tap->machine);
    s->boot = tap->boot;
    s->clean = false;
    s->due_lsn = tap->log_lsn + 1;
    s->due_position = tap->ring.position;
    s->due_incarnation = tap->ring.incarnation;
    s->open_lsn = 0;
    s->end_lsn = 0;
    s->end_position = 0;
    if (append_state(tap, err) != 0) {
        return -1;
    }
    note_write(tap, WITNESS_OPEN);
    return 0;
}

static void close_files(struct tap *tap)
{
    ring_close(&tap->ring);
    map_close(&tap->map);
    copy_close(tap);
    int *const fds[] = {&tap->state_fd, &tap->lock_fd, &tap->image_sync_fd, &tap->image_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0) {
            close(*fds[i]);
            *fds[i] = -1;
        }
    }
}

static int open_all(struct tap *tap, struct err *err)
{
    struct replay replay = {0};
    struct note note;
    if (identity_boot(&tap->boot, err) != 0 || open_files(tap, err) != 0) {
        return -1;
    }
    identity_machine(tap->machine);
    identity_image(tap->image_fd, tap->image_id);
    note_read(tap, &note);
    tap->noted = note.incarnation;
    bool fresh = tap->state_fd < 0;
    if ((fresh ? begin_fresh(tap, err) : open_known(tap, err)) != 0 ||
        check_note(tap, &note, err) != 0) {
        return -1;
    }
    bool older = is_older(tap, &note);
    if (settle(tap, &replay, &note, older, err) != 0) {
        return -1;
    }
    const char *why = foreign(tap, older);
    if (why != NULL && leave(tap, &replay, why, err) != 0) {
        return -1;
    }
    return copy_open(tap, err) != 0 ? -1 : enter(tap, &replay, err);
}

int attach_open(struct tap *tap, struct err *err)
{
    tap->image_fd = tap->image_sync_fd = tap->lock_fd = tap->state_fd = -1;
    for (size_t i = 0; i < TIDE_LOG_FILES_MAX; i++) {
        tap->ring.fds[i] = -1;
    }
    if (open_all(tap, err) != 0) {
        close_files(tap);
        return -1;
    }
    return 0;
}

void attach_close(struct tap *tap)
{
    struct err err;
    struct state *s = &tap->state;
    if (!tap->failed && append_sync(tap, tap->log_lsn) != 0) {
        append_sync_failed(tap);
    }
    /* The second with its times: they are compared at the next attach. */
    if (append_sync_image(tap, false) != 0 || fsync(tap->image_fd) != 0) {
        append_image_gap(tap, 0, 0, errno);
    } else {
        s->image_lost = false;
        if (!tap->failed) {
            s->due_lsn = tap->log_lsn + 1;
            s->due_position = tap->ring.position;
            s->due_incarnation = tap->ring.incarnation;
            s->open_lsn = 0;
        }
        s->stored_lsn = tap->stored_lsn;
        s->image_mtime_ns = file_mtime_ns(tap->image_fd);
        s->map_lost = map_sync(&tap->map) != 0;
        s->clean = true;
        if (state_write(tap->state_fd, s, &err) != 0) {
            nbdkit_error("detach: %s", err.text);
        } else {
            note_write(tap, WITNESS_CLEAN);
        }
    }
    close_files(tap);
}
