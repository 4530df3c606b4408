/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/system/taplab.h"

#include "common/core/check.h"
#include "common/hrl/log.h"
#include "participant/tap/checkpoint.h"
#include "participant/tap/copy.h"
#include "participant/tap/disk.h"
#include "participant/tap/orders.h"
#include "participant/tap/worker.h"
#include "tests/system/tapjudge.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SMALL (288U * 1024) /* a copy block and little more */
#define FILE_LARGE (1152U * 1024)
#define BATCH      256U /* sectors of a write that fills the log */
#define MS         UINT64_C(1000000)
#define MEND_STEPS 400U
#define BLOCK      (TIDE_COPY_BLOCK / CRASHDISK_SECTOR)

enum mark {
    MARK_BEGIN,  /* a change */
    MARK_DONE,   /* it returned 0 */
    MARK_FLUSH,  /* mask of what was done when a flush was called that returned 0 */
    MARK_SYNCED, /* LSN */
    MARK_FAR,    /* records */
    MARK_OPEN,
    MARK_CLOSING,
    MARK_UNLOGGED,
    MARK_SUSPECT, /* mask of what was done when a flush failed: no later one promises it */
    MARK_END,     /* a sync of the log failed: from this LSN on nothing counts */
};

struct taplab {
    struct crashdisk *disk;
    struct tap tap;
    bool running;
    bool flush_log;
    enum taplab_start start;
    unsigned ring_files;
    uint64_t ring_file_size;
    struct taplab_model model; /* at the first entry of the journal */
    struct tapjudge judge;
    unsigned guest_errors;
    unsigned rounds;
    struct id stream;  /* that the first start began */
    struct id release; /* the round to release when somebody waits for it */
    char why[640];
};

static struct taplab *lab_now; /* for the calls that come back from the engine */

const char *taplab_op_name(enum taplab_op op)
{
    static const char *const names[TAPLAB_OPS] = {"write",      "overlap",    "zero",    "flush",
                                                  "bookmark",   "checkpoint", "reclaim", "copy",
                                                  "held-write", "restart"};
    return names[op];
}

const char *taplab_start_name(enum taplab_start start)
{
    static const char *const names[TAPLAB_STARTS] = {"fresh", "copying", "brim"};
    return names[start];
}

/* What the engine calls of nbdkit. */
void nbdkit_error(const char *format, ...);
void nbdkit_error(const char *format, ...)
{
    if (getenv("TIDE_TAPLAB_TRACE") != NULL) {
        va_list args;
        va_start(args, format);
        (void)vfprintf(stderr, format, args);
        (void)fputc('\n', stderr);
        va_end(args);
    }
}

void nbdkit_debug(const char *format, ...);
void nbdkit_debug(const char *format, ...)
{
    (void)format;
}

/* A log small enough that a few records fill it. */
struct log_ring __wrap_ring_geometry(uint64_t bytes, const struct id *stream);
struct log_ring __wrap_ring_geometry(uint64_t bytes, const struct id *stream)
{
    (void)bytes;
    return (struct log_ring){
        .stream = *stream, .files = lab_now->ring_files, .file_size = lab_now->ring_file_size};
}

static void mark(struct taplab *lab, enum mark what, uint64_t value)
{
    crashdisk_mark(lab->disk, what, value);
}

static void release(struct taplab *lab)
{
    struct tapctl answer;
    struct tapctl message = {.type = TAPCTL_RELEASE, .round = {.round = lab->release}};
    memset(message.round.cut.b, 7, sizeof message.round.cut.b);
    TIDE_CHECK(orders_do(&lab->tap, &message, 1, &answer) == ORDERS_DONE);
}

/* What other threads would do meanwhile. */
static bool instead_of_waiting(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    struct tap *tap = &lab_now->tap;
    bool done = true;
    pthread_mutex_unlock(mutex);
    if (cond == &tap->checkpoint_done) {
        (void)checkpoint_run(tap);
        tap->checkpoints++;
    } else if (cond == &tap->let_go && !id_is_zero(&lab_now->release)) {
        release(lab_now);
    } else {
        done = false;
    }
    pthread_mutex_lock(mutex);
    return done;
}

struct taplab *taplab_new(enum taplab_start start, bool flush_log)
{
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
    struct taplab *lab = malloc(sizeof *lab);
    TIDE_CHECK(lab != NULL);
    memset(lab, 0, sizeof *lab);
    lab->start = start;
    lab->flush_log = flush_log;
    lab->ring_files = start == TAPLAB_BRIM ? 3 : 4;
    lab->ring_file_size = start == TAPLAB_BRIM ? FILE_LARGE : FILE_SMALL;
    lab->disk = crashdisk_new();
    crashdisk_make(lab->disk, CRASHDISK_IMAGE, TAPLAB_SIZE);
    crashdisk_make_folder(lab->disk, CRASHDISK_LOG);
    tapjudge_init(&lab->judge, lab->ring_files, lab->ring_file_size);
    /* Data in the first and the third copy block, holes beside them. */
    for (unsigned s = 0; start == TAPLAB_COPYING && s < 4 * BLOCK; s++) {
        if (s % (2 * BLOCK) >= 16 && s % (2 * BLOCK) < 64) {
            uint8_t sector[CRASHDISK_SECTOR];
            tapjudge_fill(0, s, sector);
            crashdisk_poke(lab->disk, CRASHDISK_IMAGE, (uint64_t)s * sizeof sector, sector,
                           sizeof sector, crashcalls_now_ns());
            lab->judge.base[s] = 0;
        }
    }
    lab->judge.count = 1; /* change 0 is what was there */
    lab->model.base = lab->model.begun = 1;
    lab_now = lab;
    crashcalls_seed(1);
    crashcalls_boot(1);
    crashcalls_on_wait(instead_of_waiting);
    crashcalls_mount(lab->disk);
    return lab;
}

void taplab_free(struct taplab *lab)
{
    taplab_drop(lab);
    crashcalls_mount(NULL);
    crashdisk_free(lab->disk);
    tapjudge_close(&lab->judge);
    free(lab);
}

struct crashdisk *taplab_disk(struct taplab *lab)
{
    return lab->disk;
}

struct tap *taplab_tap(struct taplab *lab)
{
    return &lab->tap;
}

bool taplab_running(const struct taplab *lab)
{
    return lab->running;
}

unsigned taplab_guest_errors(const struct taplab *lab)
{
    return lab->guest_errors;
}

const char *taplab_why(const struct taplab *lab)
{
    return lab->why;
}

/* After each step: what the tap says of itself. */
static void note(struct taplab *lab)
{
    if (!lab->tap.sync_failed) {
        mark(lab, MARK_SYNCED, lab->tap.synced_lsn);
    } else {
        mark(lab, MARK_END, lab->tap.synced_lsn + 1);
    }
    if (!lab->tap.logging || lab->tap.unlogged) {
        mark(lab, MARK_UNLOGGED, 0);
    }
}

bool taplab_open(struct taplab *lab)
{
    struct err err = {0};
    struct tap_config config = {.log_size = 8U << 20,
                                .hold_max_us = 50000,
                                .held_max = 1 << 20,
                                .flush_log = lab->flush_log,
                                .copy_rate = 64U << 20};
    (void)snprintf(config.image, sizeof config.image, "%s", CRASHDISK_IMAGE);
    (void)snprintf(config.folder, sizeof config.folder, "%s", CRASHDISK_LOG);
    (void)snprintf(config.control, sizeof config.control, "%s", CRASHDISK_CONTROL);
    TIDE_CHECK(!lab->running);
    crashcalls_inside(true);
    lab->running = tap_open(&lab->tap, &config, &err) == 0;
    crashcalls_inside(false);
    if (!lab->running) {
        mark(lab, MARK_CLOSING, 0); /* it may have been attached, and cleanly detached */
        (void)snprintf(lab->why, sizeof lab->why, "tap_open: %s", err.text);
        return false;
    }
    mark(lab, MARK_OPEN, 0);
    note(lab);
    if (lab->model.begun == 1 && !lab->model.served && lab->model.far == 0) {
        lab->stream = lab->tap.state.stream; /* one that nobody has seen may begin anew */
    }
    return true;
}

void taplab_close(struct taplab *lab)
{
    mark(lab, MARK_CLOSING, 0);
    crashcalls_inside(true);
    tap_close(&lab->tap);
    crashcalls_inside(false);
    lab->running = false;
}

void taplab_drop(struct taplab *lab)
{
    crashcalls_end_process();
    lab->running = false;
}

static uint64_t done_so_far(const struct taplab *lab)
{
    return taplab_model(lab, crashdisk_count(lab->disk)).done;
}

static void change(struct taplab *lab, bool zero, unsigned sector, unsigned count)
{
    static uint8_t data[BATCH * CRASHDISK_SECTOR];
    unsigned c = tapjudge_change(&lab->judge, zero, sector, count);
    uint64_t offset = (uint64_t)sector * CRASHDISK_SECTOR;
    uint32_t size = count * CRASHDISK_SECTOR;
    mark(lab, MARK_BEGIN, c);
    for (unsigned i = 0; !zero && i < count; i++) {
        tapjudge_fill(c, sector + i, data + (size_t)i * CRASHDISK_SECTOR);
    }
    crashcalls_inside(true);
    int why = zero ? disk_zero(&lab->tap, size, offset, c % 2 == 0, c % 4 < 2, false)
                   : disk_write(&lab->tap, data, size, offset, false);
    crashcalls_inside(false);
    lab->guest_errors += why != 0 ? 1 : 0;
    lab->judge.changes[c].failed = why != 0;
    if (why == 0) {
        mark(lab, MARK_DONE, c);
    }
}

static void flush(struct taplab *lab)
{
    uint64_t done = done_so_far(lab);
    crashcalls_inside(true);
    int why = disk_flush(&lab->tap);
    crashcalls_inside(false);
    lab->guest_errors += why != 0 ? 1 : 0;
    mark(lab, why == 0 ? MARK_FLUSH : MARK_SUSPECT, done);
}

/* A round: the bookmark; perhaps a write that is held; the end of the hold; the seal. */
static void round_of(struct taplab *lab, bool write)
{
    struct tapctl answer;
    struct tapctl message = {.type = TAPCTL_HOLD,
                             .hold = {.incarnation = lab->tap.incarnation, .budget_us = 50000}};
    struct round_order *order = &message.hold.order;
    unsigned number = lab->rounds++ % TAPLAB_ROUNDS_MAX;
    order->round.b[0] = order->group.b[0] = 1;
    order->round.b[1] = (uint8_t)number;
    order->epoch.number = 1;
    order->scope = ROUND_SCOPE_GROUP;
    order->kind = ROUND_KIND_CRASH;
    set_init(&order->set, 1);
    set_add(&order->set, 0);
    /* What the disk is at the bookmark, before anything of it can be seen. */
    struct taplab_model model = taplab_model(lab, crashdisk_count(lab->disk));
    tapjudge_bookmark(&lab->judge, number, model.base, model.begun);
    crashcalls_inside(true);
    TIDE_CHECK(orders_do(&lab->tap, &message, 1, &answer) == ORDERS_ANSWER);
    crashcalls_inside(false);
    lab->release = answer.type == TAPCTL_HELD ? order->round : (struct id){0};
    if (write) {
        change(lab, false, 516, 9);
    }
    crashcalls_inside(true);
    if (answer.type == TAPCTL_HELD) {
        release(lab);
    }
    tap_post(&lab->tap, TAP_WORK_STOP);
    (void)worker_main(&lab->tap); /* what is due, and back */
    crashcalls_inside(false);
    lab->release = (struct id){0};
}

static void copy_once(struct taplab *lab)
{
    crashcalls_inside(true);
    (void)copy_step(&lab->tap);
    crashcalls_inside(false);
}

static void checkpoint(struct taplab *lab)
{
    crashcalls_inside(true);
    (void)checkpoint_run(&lab->tap);
    crashcalls_inside(false);
}

static void reclaim(struct taplab *lab)
{
    struct tapctl answer;
    struct tapctl message = {.type = TAPCTL_STORED, .lsn = {.lsn = lab->tap.synced_lsn}};
    struct taplab_model model = taplab_model(lab, crashdisk_count(lab->disk));
    if (lab->tap.sync_failed ||
        !tapjudge_ship(&lab->judge, lab->disk, model.far, lab->tap.synced_lsn)) {
        return;
    }
    mark(lab, MARK_FAR, lab->judge.far_count);
    crashcalls_inside(true);
    TIDE_CHECK(orders_do(&lab->tap, &message, 1, &answer) == ORDERS_DONE);
    crashcalls_inside(false);
}

bool taplab_do(struct taplab *lab, enum taplab_op op)
{
    crashcalls_pass((op == TAPLAB_COPY ? 300 : 3000) * MS);
    switch (op) {
    case TAPLAB_WRITE:
        change(lab, false, 506, 12);
        break;
    case TAPLAB_OVERLAP:
        change(lab, false, 512, 10);
        break;
    case TAPLAB_DISCARD:
        change(lab, true, 500, 15);
        break;
    case TAPLAB_FLUSH:
        flush(lab);
        break;
    case TAPLAB_BOOKMARK:
    case TAPLAB_HELD:
        round_of(lab, op == TAPLAB_HELD);
        break;
    case TAPLAB_CHECKPOINT:
        checkpoint(lab);
        break;
    case TAPLAB_RECLAIM:
        reclaim(lab);
        break;
    case TAPLAB_COPY:
        copy_once(lab);
        break;
    case TAPLAB_RESTART:
        taplab_close(lab);
        return taplab_open(lab);
    }
    note(lab);
    return true;
}

/* What the daemon does while a copy compares: here with what the judge reads of the stream. */
static void compare(struct taplab *lab)
{
    static uint8_t image[TAPLAB_SECTORS];
    const unsigned per = TIDE_TAPCTL_BLOCK / CRASHDISK_SECTOR;
    struct taplab_model model = taplab_model(lab, crashdisk_count(lab->disk));
    struct tapctl_state state = {0};
    struct tapctl answer;
    copy_progress(&lab->tap, &state);
    if (!state.comparing || state.compare_offset >= TAPLAB_SIZE ||
        !tapjudge_stream(&lab->judge, lab->disk, model.far, 0, 0) ||
        !tapjudge_read_image(&lab->judge, lab->disk, image)) {
        return;
    }
    struct tapctl message = {.type = TAPCTL_COMPARED, .compared = {.begin_lsn = state.copy_lsn}};
    struct tapctl_compared *c = &message.compared;
    for (unsigned s = 0; s < TAPLAB_SECTORS; s += per) {
        unsigned count = TAPLAB_SECTORS - s < per ? TAPLAB_SECTORS - s : per;
        if (memcmp(image + s, lab->judge.replayed + s, count) != 0) {
            c->differs[c->count / 8] |= (uint8_t)(1U << c->count % 8);
        }
        c->count++;
    }
    crashcalls_inside(true);
    TIDE_CHECK(orders_do(&lab->tap, &message, 1, &answer) == ORDERS_DONE);
    crashcalls_inside(false);
}

bool taplab_mend(struct taplab *lab)
{
    for (unsigned i = 0; i == 0 || (i < MEND_STEPS && !lab->tap.gate.whole); i++) {
        (void)taplab_do(lab, TAPLAB_COPY);
        (void)taplab_do(lab, TAPLAB_FLUSH);
        (void)taplab_do(lab, TAPLAB_RECLAIM);
        compare(lab);
        (void)taplab_do(lab, TAPLAB_CHECKPOINT);
    }
    lab->model.adrift = lab->model.adrift && !lab->tap.gate.whole;
    return lab->tap.gate.whole;
}

/* Writes until less than the reserve and one of the test's writes is left. */
static void fill_log(struct taplab *lab)
{
    struct ring *ring = &lab->tap.ring;
    for (unsigned at = 1024;; at = at == 1792 ? 1024 : at + BATCH) {
        unsigned count = BATCH;
        while (count > 8 &&
               !ring_room(ring, 96 + (uint64_t)count * CRASHDISK_SECTOR, TIDE_RING_RESERVE)) {
            count /= 2;
        }
        if (!ring_room(ring, 96 + 12 * CRASHDISK_SECTOR, TIDE_RING_RESERVE)) {
            return;
        }
        change(lab, false, at, count);
        crashcalls_pass(MS);
    }
}

bool taplab_begin(struct taplab *lab)
{
    if (!taplab_open(lab)) {
        return false;
    }
    if (lab->start == TAPLAB_COPYING) {
        (void)taplab_do(lab, TAPLAB_COPY);
    }
    if (lab->start == TAPLAB_BRIM) {
        fill_log(lab);
        (void)taplab_do(lab, TAPLAB_CHECKPOINT);
    }
    (void)taplab_do(lab, TAPLAB_FLUSH);
    taplab_settle(lab);
    return true;
}

static void step_model(struct taplab_model *m, unsigned what, uint64_t value)
{
    switch ((enum mark)what) {
    case MARK_BEGIN:
        m->begun = (unsigned)value + 1;
        m->served = true;
        break;
    case MARK_DONE:
        m->done |= UINT64_C(1) << value;
        break;
    case MARK_FLUSH:
        m->promised |= value & ~m->suspect;
        break;
    case MARK_SUSPECT:
        m->suspect |= value & ~m->promised;
        break;
    case MARK_END:
        m->end_lsn = value;
        break;
    case MARK_SYNCED:
        m->synced_lsn = value;
        break;
    case MARK_FAR:
        m->far = (size_t)value;
        break;
    case MARK_OPEN:
        m->served = m->closing = false;
        break;
    case MARK_CLOSING:
        m->closing = true;
        break;
    case MARK_UNLOGGED:
        m->unlogged = true;
        break;
    }
}

struct taplab_model taplab_model(const struct taplab *lab, size_t at)
{
    struct taplab_model m = lab->model;
    for (size_t i = crashdisk_first(lab->disk); i < at; i++) {
        unsigned what = 0;
        uint64_t value = 0;
        if (crashdisk_entry(lab->disk, i, &what, &value) == CRASHDISK_MARK) {
            step_model(&m, what, value);
        }
    }
    return m;
}

/* The image may hold what the stream does not. */
static bool is_adrift(const struct taplab_model *m)
{
    return m->adrift || m->power || m->fault || m->unlogged;
}

struct taplab_branch {
    struct crashdisk *disk;
    struct taplab_model model;
    struct tapjudge judge;
    unsigned guest_errors;
    unsigned rounds;
    unsigned boot;
};

static struct taplab_branch *leave(struct taplab *lab)
{
    struct taplab_branch *b = malloc(sizeof *b);
    TIDE_CHECK(b != NULL);
    *b = (struct taplab_branch){.disk = lab->disk,
                                .model = lab->model,
                                .judge = lab->judge,
                                .guest_errors = lab->guest_errors,
                                .rounds = lab->rounds,
                                .boot = crashcalls_booted()};
    taplab_drop(lab);
    return b;
}

struct taplab_branch *taplab_cut(struct taplab *lab, size_t at, enum crashdisk_cut cut,
                                 uint64_t seed, bool again)
{
    bool same = false;
    bool power = cut != CRASHDISK_KILL && cut != CRASHDISK_KILL_TORN;
    struct crashdisk *disk = crashdisk_cut(lab->disk, at, cut, seed, &same);
    if (same && !again) {
        crashdisk_free(disk);
        return NULL;
    }
    struct taplab_model model = taplab_model(lab, at);
    struct taplab_branch *branch = leave(lab);
    model.power = model.power || power;
    if (power) {
        model.done &= model.promised;
    }
    lab->disk = disk;
    lab->model = model;
    crashcalls_mount(disk);
    crashcalls_pass(5000 * MS);
    if (power) {
        crashcalls_boot(crashcalls_booted() + 1);
    }
    return branch;
}

void taplab_back(struct taplab *lab, struct taplab_branch *branch)
{
    taplab_drop(lab);
    crashdisk_free(lab->disk);
    lab->disk = branch->disk;
    lab->model = branch->model;
    lab->judge = branch->judge;
    lab->guest_errors = branch->guest_errors;
    lab->rounds = branch->rounds;
    crashcalls_boot(branch->boot);
    crashcalls_mount(lab->disk);
    free(branch);
}

void taplab_forget(struct taplab *lab, struct taplab_branch *branch)
{
    (void)lab;
    crashdisk_free(branch->disk);
    free(branch);
}

void taplab_settle(struct taplab *lab)
{
    struct taplab_model m = taplab_model(lab, crashdisk_count(lab->disk));
    crashdisk_settle(lab->disk);
    TIDE_CHECK(tapjudge_read_image(&lab->judge, lab->disk, lab->judge.base));
    m.base = m.begun = lab->judge.count; /* past those, too, that a cut has undone */
    m.adrift = is_adrift(&m);
    m.power = m.fault = m.unlogged = false;
    lab->model = m;
}

void taplab_faulty(struct taplab *lab)
{
    lab->model.fault = true;
}

unsigned taplab_points(const struct taplab *lab)
{
    return lab->judge.points;
}

/* What the model says of the image: changes that must be there. After a power cut only what was
 * promised before it is done; what a flush said it could not keep is not. */
static uint64_t certain(const struct taplab_model *m)
{
    return m->done & ~m->suspect;
}

static bool wrong(struct taplab *lab, const char *text)
{
    (void)snprintf(lab->why, sizeof lab->why, "%s", text);
    return false;
}

bool taplab_judge_image(struct taplab *lab)
{
    struct taplab_model m = taplab_model(lab, crashdisk_count(lab->disk));
    if (!tapjudge_image(&lab->judge, lab->disk, m.base, m.begun, certain(&m))) {
        (void)snprintf(lab->why, sizeof lab->why, "before recovery: %s", lab->judge.why);
        return false;
    }
    return true;
}

static bool judge_whole(struct taplab *lab, const struct taplab_model *m)
{
    const struct tapjudge *j = &lab->judge;
    bool whole = j->whole.answer == ROUND_ANSWER_YES;
    if (whole != lab->tap.gate.whole) {
        return wrong(lab, whole ? "the stream says whole, the tap does not"
                                : "the tap says whole, the stream does not");
    }
    if (m->power && m->served && !m->closing && whole) {
        return wrong(lab, "whole after a power cut of a disk that was served");
    }
    if (!m->power && !m->fault && !m->unlogged && !whole && j->whole_before) {
        return wrong(lab, "no longer whole after kill -9");
    }
    return true;
}

/* What WELCOME says of the log: the daemon reads it from its tail. */
static bool judge_tail(struct taplab *lab)
{
    struct tapctl_welcome w;
    orders_welcome(&lab->tap, &w);
    return w.next_lsn == 1 || w.tail_lsn == w.next_lsn ||
           tapjudge_leads(&lab->judge, lab->disk, &w.stream, w.tail_position, w.tail_lsn,
                          w.tail_incarnation, w.next_lsn - 1);
}

static bool judge_content(struct taplab *lab, const struct taplab_model *m)
{
    struct tapjudge *j = &lab->judge;
    if (!id_equal(&lab->stream, &lab->tap.state.stream)) {
        return wrong(lab, "another stream has begun, for nothing");
    }
    if (!tapjudge_image(j, lab->disk, m->base, m->begun, certain(m)) ||
        !tapjudge_stream(j, lab->disk, m->far, m->synced_lsn, m->end_lsn) ||
        (lab->tap.logging &&
         !tapjudge_same(j, lab->disk, !is_adrift(m) && j->gap != RECORD_GAP_OVERFLOW)) ||
        !judge_tail(lab)) {
        char why[sizeof j->why];
        memcpy(why, j->why, sizeof why);
        (void)tapjudge_stream(j, lab->disk, m->far, 0, 0);
        (void)snprintf(lab->why, sizeof lab->why, "%s (last gap: %s; replayed: %llu to %llu)", why,
                       j->gap != 0 ? record_gap_name(j->gap) : "none",
                       (unsigned long long)j->replayed_from, (unsigned long long)j->replayed_to);
        return false;
    }
    return true;
}

bool taplab_judge(struct taplab *lab)
{
    struct taplab_model m = taplab_model(lab, crashdisk_count(lab->disk));
    struct taplab_model before = lab->model; /* `served` is of the life before this one */
    before.unlogged = m.unlogged;
    m.end_lsn = before.end_lsn;
    return judge_content(lab, &m) && judge_whole(lab, &before);
}

bool taplab_judge_running(struct taplab *lab)
{
    struct taplab_model m = taplab_model(lab, crashdisk_count(lab->disk));
    bool falsely = false;
    m.end_lsn = 0; /* the tap that failed is running still */
    if (!judge_content(lab, &m)) {
        return false;
    }
    falsely = lab->tap.gate.whole && lab->judge.whole.answer != ROUND_ANSWER_YES;
    return !falsely || wrong(lab, "the tap says whole, the stream does not");
}

bool taplab_prove(struct taplab *lab)
{
    (void)taplab_do(lab, TAPLAB_FLUSH);
    taplab_settle(lab);
    if (!taplab_mend(lab)) {
        struct tapctl_state state;
        orders_state(&lab->tap, &state);
        (void)snprintf(lab->why, sizeof lab->why,
                       "it never becomes whole again (gap %u, copy %s, begun at %llu, dirty %llu, "
                       "compared to %llu, ring used %llu of %llu)",
                       state.gap_reason, tapctl_copy_name(state.copy),
                       (unsigned long long)state.copy_lsn, (unsigned long long)state.dirty_bytes,
                       (unsigned long long)state.compare_offset,
                       (unsigned long long)state.ring_used, (unsigned long long)state.ring_bytes);
        return false;
    }
    unsigned before = lab->judge.points;
    (void)taplab_do(lab, TAPLAB_HELD);
    (void)taplab_do(lab, TAPLAB_BOOKMARK);
    if (!taplab_judge_running(lab)) {
        return false;
    }
    return lab->judge.points >= before + 2 || wrong(lab, "its new bookmarks do not count");
}
