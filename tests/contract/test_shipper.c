/* SPDX-License-Identifier: Apache-2.0 */
/* participant/shipper against a real coordinator, with a tap played through its port and a ring in
 * memory: several segments under way, in order at the far side and told to the tap as they are
 * stored; a line that breaks; daemons and coordinators that die; a bandwidth; and streams that
 * cannot go on. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/store/manifest.h"
#include "participant/events.h"
#include "participant/shipper.h"
#include "tests/contract/cut_proxy.h"
#include "tests/contract/far_rig.h"

#define FILES     2U
#define FILE_SIZE (16U * 1024 * 1024)
#define DEADLINE  (20U * CLOCK_US_PER_S)

static struct far far;
static struct settings settings;
static struct events *events;
static struct throttle *throttle;
static struct port *port;
static struct shipper shipper;

/* The tap. */
static struct log_ring ring;
static int fds[FILES];
static uint8_t *files[FILES];
static uint64_t position;
static uint64_t next_lsn;
static uint64_t incarnation;
static struct record again; /* an attach of another life */
static struct tapctl_welcome welcome;
static uint64_t stored;    /* as last told */
static unsigned told;      /* how often it grew */
static unsigned restreams; /* ordered */

/* ---- the log ---- */

static void put(struct record *record)
{
    static uint8_t encoded[TIDE_RECORD_MAX];
    bool new_file = false;
    record->lsn = next_lsn++;
    record->incarnation = incarnation;
    record->stream = ring.stream;
    size_t size = record_encode(record, encoded, sizeof encoded);
    position = log_place(&ring, position, size, &new_file);
    uint8_t *file = files[position / FILE_SIZE % FILES];
    if (new_file || position % FILE_SIZE == TIDE_LOG_HEADER) {
        struct log_header header = {.stream = ring.stream,
                                    .sequence = position / FILE_SIZE,
                                    .file_size = FILE_SIZE,
                                    .first_lsn = record->lsn,
                                    .incarnation = record->lsn == 1 ? 0 : incarnation};
        log_header_encode(&header, file);
    }
    memcpy(file + position % FILE_SIZE, encoded, size);
    position += size;
}

/* A segment's worth: some writes, and a bookmark, which ends it. */
static void write_one(size_t bytes)
{
    static uint8_t data[65536];
    for (size_t done = 0; done < bytes; done += sizeof data) {
        for (size_t k = 0; k < sizeof data; k += 8) {
            uint64_t x = prng_next(&far.prng);
            memcpy(data + k, &x, 8);
        }
        struct record write = {
            .type = RECORD_WRITE,
            .write = {.offset = next_lsn % 8 * sizeof data, .size = sizeof data, .data = data}};
        put(&write);
    }
    struct record mark = {.type = RECORD_BOOKMARK};
    mark.bookmark.order = (struct round_order){.group = far.definition->group,
                                               .epoch = far.definition->epoch,
                                               .scope = ROUND_SCOPE_GROUP,
                                               .kind = ROUND_KIND_CRASH};
    file_random(&mark.bookmark.order.round, sizeof mark.bookmark.order.round);
    file_random(&mark.bookmark.nonce, sizeof mark.bookmark.nonce);
    set_init(&mark.bookmark.order.set, 2);
    set_add(&mark.bookmark.order.set, 0);
    set_add(&mark.bookmark.order.set, 1);
    mark.bookmark.budget_us = 50000;
    mark.bookmark.wall_error_us = UINT32_MAX;
    put(&mark);
}

static void new_log(void)
{
    const struct far_stream *s = &far.streams[0];
    ring = (struct log_ring){.stream = s->stream, .files = FILES, .file_size = FILE_SIZE};
    for (unsigned k = 0; k < FILES; k++) {
        memset(files[k], 0, FILE_SIZE);
    }
    position = TIDE_LOG_HEADER;
    next_lsn = 1;
    incarnation = s->incarnation;
    struct record attach = {.type = RECORD_ATTACH,
                            .attach = {.boot = {{1}},
                                       .disk = s->disk_id,
                                       .timeline = s->timeline,
                                       .size = FAR_DISK_SIZE,
                                       .block_size = 512,
                                       .clean = true,
                                       .first = true,
                                       .base_zero = true}};
    put(&attach);
    again = attach;
    again.attach.first = again.attach.base_zero = again.attach.clean = false;
    welcome = (struct tapctl_welcome){.stream = s->stream,
                                      .timeline = s->timeline,
                                      .disk = s->disk_id,
                                      .incarnation = incarnation,
                                      .size = FAR_DISK_SIZE,
                                      .block_size = 512,
                                      .ring_files = FILES,
                                      .ring_file_size = FILE_SIZE,
                                      .tail_lsn = 1,
                                      .tail_position = TIDE_LOG_HEADER,
                                      .whole = true,
                                      .logging = true};
    stored = 0;
}

/* ---- the tap's side of the port ---- */

static void attach_tap(void)
{
    int passed[FILES + 1];
    for (unsigned k = 0; k < FILES; k++) {
        passed[k] = dup(fds[k]);
    }
    passed[FILES] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    welcome.next_lsn = next_lsn;
    port_attached(port, &welcome, passed);
}

/* One turn of a tap: all that is written is synced when asked. */
static void play(void)
{
    struct port_wants wants;
    struct timespec nap = {.tv_nsec = 2000000};
    struct tapctl state = {.type = TAPCTL_STATE, .state = {.next_lsn = next_lsn}};
    port_message(port, &state);
    port_wants(port, &wants);
    if (wants.sync > 0) {
        struct tapctl synced = {.type = TAPCTL_SYNCED, .synced = {.lsn = next_lsn - 1}};
        port_message(port, &synced);
    }
    if (wants.stored > 0) {
        told += wants.stored > stored;
        stored = wants.stored;
        assert_true(stored < next_lsn);
    }
    if (!id_is_zero(&wants.restream)) {
        assert_true(id_equal(&wants.restream, &welcome.stream));
        restreams++;
    }
    nanosleep(&nap, NULL);
}

static void show(const char *what)
{
    struct shipper_status status;
    shipper_status(&shipper, &status);
    fail_msg("not in time: %s: stored %llu of %llu, %s: %s", what, (unsigned long long)stored,
             (unsigned long long)next_lsn - 1, shipper_state_name(status.state), status.text);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t late_us = clock_mono_us() + DEADLINE;                                             \
        while (!(condition)) {                                                                     \
            play();                                                                                \
            if (clock_mono_us() > late_us) {                                                       \
                show(#condition);                                                                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static struct shipper_status status_now(void)
{
    struct shipper_status status;
    shipper_status(&shipper, &status);
    return status;
}

/* ---- the daemon ---- */

static void kick(void *arg)
{
    (void)arg;
}

static void start(void)
{
    struct err err = {0};
    throttle = throttle_new(&settings.bandwidth);
    if (settings.disk_count == 0) {
        struct settings_member *member = &settings.members[0];
        assert_true(name_parse("shop", &member->group) && name_parse("web", &member->name));
        assert_true(name_parse("data", &settings.disks[0].name));
        settings.member_count = settings.disk_count = 1;
        events = events_new(&settings);
    }
    port = port_new(kick, NULL);
    if (shipper_start(&shipper, &settings, far.identities[0], throttle, port, events, 0, 1, &err) !=
        0) {
        fail_msg("%s", err.text);
    }
}

static void stop(void)
{
    shipper_stop(&shipper);
    assert_true(shipper_join(&shipper, clock_mono_us() + DEADLINE));
    port_free(port);
    throttle_free(throttle);
    port = NULL;
}

static void stream_is_whole(void)
{
    struct manifest m;
    struct err err = {0};
    if (manifest_read(far.store, &ring.stream, &m, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_false(m.forked);
    assert_int_equal(m.segments[m.segment_count - 1].last, next_lsn - 1);
    manifest_close(&m);
}

static int setup(void **state)
{
    static uint64_t seed = 500;
    char path[PATH_MAX];
    struct err err = {0};
    (void)state;
    far_make(&far, seed++, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    memset(&settings, 0, sizeof settings);
    settings.in_flight = 4;
    snprintf(settings.state, sizeof settings.state, "%s/state", far.dir);
    snprintf(path, sizeof path, "%s/streams", settings.state);
    snprintf(settings.coordinator_uri, sizeof settings.coordinator_uri,
             "spiffe://lab/coordinator/main");
    assert_int_equal(file_mkdirs(path, 0700, &err), 0);
    assert_int_equal(address_parse(far.address, false, &settings.coordinator, &err), 0);
    for (unsigned k = 0; k < FILES; k++) {
        fds[k] = memfd_create("ring", MFD_CLOEXEC);
        assert_int_equal(ftruncate(fds[k], FILE_SIZE), 0);
        files[k] = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[k], 0);
        assert_true(files[k] != MAP_FAILED);
    }
    told = 0;
    restreams = 0;
    new_log();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (port != NULL) {
        stop();
    }
    for (unsigned k = 0; k < FILES; k++) {
        munmap(files[k], FILE_SIZE);
        close(fds[k]);
    }
    far_remove(&far);
    return 0;
}

/* ---- all is well ---- */

static void all_is_stored_and_told(void **state)
{
    unsigned most = 0;
    (void)state;
    start();
    for (unsigned k = 0; k < 40; k++) {
        write_one(128 * 1024);
    }
    attach_tap();
    uint64_t end = clock_mono_us() + DEADLINE;
    while (stored < next_lsn - 1) {
        play();
        unsigned now = status_now().in_flight;
        most = now > most ? now : most;
        if (clock_mono_us() > end) {
            show("all stored");
        }
    }
    assert_true(most > 1 && most <= settings.in_flight);
    assert_true(told > 1); /* while others are under way, not at the end alone */
    stream_is_whole();
    struct shipper_status status = status_now();
    assert_int_equal(status.stored_lsn, next_lsn - 1);
    assert_int_equal(status.segments, 40);
    assert_int_equal(status.failures, 0);
    play();
    status = status_now();
    assert_true(status.rpo_known && status.rpo_us == 0);
    write_one(65536);
    UNTIL(status_now().rpo_us > 0);
    UNTIL(stored == next_lsn - 1);
    UNTIL(status_now().rpo_us == 0);
}

/* The daemon dies with several under way, the coordinator too: the same cuts are built again. */
static void restarts(void **state)
{
    (void)state;
    settings.bandwidth.usual.limit = 1 << 20;
    start();
    for (unsigned k = 0; k < 12; k++) {
        write_one(128 * 1024);
    }
    attach_tap();
    UNTIL(status_now().in_flight == 4);
    stop();
    struct cutlog *log = calloc(1, sizeof *log);
    struct err err = {0};
    assert_int_equal(cutlog_open(log, settings.state, &ring.stream, &err), 0);
    assert_true(log->count >= 4);
    cutlog_close(log);
    free(log);
    settings.bandwidth.usual.limit = 0;
    settings.in_flight = 2; /* less than are pending */
    start();
    attach_tap();
    UNTIL(stored > 1);
    far_kill(&far);
    for (unsigned k = 0; k < 8; k++) {
        write_one(128 * 1024);
    }
    UNTIL(status_now().state == SHIPPER_RETRYING);
    far_start(&far);
    UNTIL(stored == next_lsn - 1);
    assert_int_equal(status_now().restreams, 0);
    stream_is_whole();
}

/* The line breaks again and again, anywhere in what goes either way, several PUTs on it. */
static void a_line_that_breaks(void **state)
{
    (void)state;
    cut_proxy_open(&settings.coordinator.v4);
    start();
    for (unsigned k = 0; k < 12; k++) {
        write_one(65536);
    }
    attach_tap();
    for (unsigned broken = 0; broken < 8; broken++) {
        long at = (long)prng_below(&far.prng, broken % 2 == 0 ? 80000 : 3000);
        cut_proxy_arm(broken % 2 == 0 ? at : -1, broken % 2 == 0 ? -1 : at);
        for (unsigned k = 0; k < 4; k++) {
            write_one(65536);
        }
        UNTIL(cut_proxy_cuts() == broken + 1 || stored == next_lsn - 1);
        if (cut_proxy_cuts() == broken) {
            broken--; /* all went through before so many bytes: again */
        }
    }
    cut_proxy_arm(-1, -1);
    UNTIL(stored == next_lsn - 1);
    stop();
    assert_int_equal(restreams, 0);
    assert_int_equal(cut_proxy_cuts(), 8);
    stream_is_whole(); /* and has each LSN once: the reader of the manifest checks it */
    cut_proxy_close();
}

/* Never more than the limit and a quarter of a second's bytes, however many are under way. */
static void a_bandwidth(void **state)
{
    bool limited = false;
    (void)state;
    settings.bandwidth.usual.limit = 512 * 1024;
    for (unsigned k = 0; k < 8; k++) {
        write_one(128 * 1024);
    }
    start();
    uint64_t begin = clock_mono_us();
    attach_tap();
    UNTIL(stored > 1); /* the first counts as under way from the beginning */
    while (stored < next_lsn - 1) {
        play();
        struct shipper_status status = status_now();
        limited = limited || status.state == SHIPPER_LIMITED;
        uint64_t most = (clock_mono_us() - begin) * (512 * 1024) / CLOCK_US_PER_S + 128 * 1024;
        assert_true(status.bytes <= most);
        assert_true(clock_mono_us() - begin < DEADLINE);
    }
    assert_true(limited);
    stream_is_whole();
}

static void hours_that_are_off(void **state)
{
    (void)state;
    settings.bandwidth.count = 1;
    settings.bandwidth.hours[0] =
        (struct bandwidth_hours){.from = 0, .to = TIDE_BANDWIDTH_DAY, .rule = {.off = true}};
    start();
    for (unsigned k = 0; k < 8; k++) {
        write_one(65536);
    }
    attach_tap();
    UNTIL(status_now().state == SHIPPER_LIMITED);
    assert_int_equal(stored, 0);
    stop(); /* within its deadline, though PUTs wait */
    settings.bandwidth.count = 0;
    start();
    attach_tap();
    UNTIL(stored == next_lsn - 1);
    stream_is_whole();
}

/* ---- streams that cannot go on ---- */

static void ship_all(void)
{
    attach_tap();
    UNTIL(stored == next_lsn - 1);
}

/* The tap does as ordered: hangs up, and comes back with another stream; points can return. */
static void comes_back_with_another_stream(void)
{
    port_lost(port);
    far_stream_close(&far.streams[0]);
    far_stream_init(&far, 0);
    new_log();
    write_one(65536);
    attach_tap();
    UNTIL(status_now().state == SHIPPER_ASKING); /* not registered yet */
    far_register(&far);
    assert_int_equal(far.definition->epoch.number, 2);
    UNTIL(stored == next_lsn - 1);
    stream_is_whole();
    assert_int_equal(restreams, 1);
}

/* The log is older than what was sent, as that of a restored snapshot is. */
static void a_restored_log(void **state)
{
    (void)state;
    start();
    for (unsigned k = 0; k < 6; k++) {
        write_one(65536);
    }
    ship_all();
    port_lost(port);
    next_lsn -= 4;
    attach_tap();
    UNTIL(restreams == 1);
    struct shipper_status status = status_now();
    assert_int_equal(status.state, SHIPPER_STOPPED);
    assert_int_equal(status.restreams, 1);
    assert_non_null(strstr(status.restream_text, "older than what was sent"));
    /* It says no: told; and it is not asked again at once, also where it connects anew. */
    struct tapctl_done no = {.code = TIDE_ERR_BUSY, .text = "the log is full"};
    port_restreamed(port, &no);
    UNTIL(status_now().refusal[0] != '\0');
    assert_non_null(strstr(status_now().refusal, "the log is full"));
    uint64_t failures = status_now().failures;
    port_lost(port);
    attach_tap();
    UNTIL(status_now().failures > failures);
    play();
    assert_int_equal(restreams, 1);
    comes_back_with_another_stream();
}

/* The machine is put back to an earlier time with its journal, and its log goes past what is stored
 * before anyone asks: the gap of its restart would never be told. */
static void a_restored_log_that_went_on(void **state)
{
    struct far_segment before;
    (void)state;
    far_write(&far, 0);
    far_cut(&far.streams[0], &before);
    far_put_good(&far, 0, &before);
    uint64_t there = before.info.last_lsn;
    far_segment_free(&before);
    start();
    incarnation++;
    put(&again);
    while (next_lsn <= there + 1) {
        write_one(65536);
    }
    attach_tap();
    UNTIL(restreams == 1);
    struct manifest m;
    struct err err = {0};
    assert_int_equal(manifest_read(far.store, &ring.stream, &m, &err), 0);
    assert_true(m.forked);
    assert_int_equal(m.segments[m.segment_count - 1].last, there);
    manifest_close(&m);
    comes_back_with_another_stream();
}

/* Two daemons, or a cloned machine: another's bytes are where ours are due. */
static void a_fork(void **state)
{
    struct far_segment other;
    (void)state;
    far_write(&far, 0);
    far_cut(&far.streams[0], &other);
    far_put_good(&far, 0, &other);
    far_write(&far, 0);
    start();
    write_one(65536);
    attach_tap(); /* goes on behind what is there, as if it had lost its journal */
    UNTIL(stored == next_lsn - 1);
    far_write(&far, 0);
    far_cut(&far.streams[0], &other);
    struct far_answer a;
    assert_int_equal(far_put(&far, 0, &ring.stream, other.info.header.first_lsn, other.bytes,
                             other.info.size, &a),
                     0);
    assert_true(a.state.forked);
    far_segment_free(&other);
    write_one(65536);
    UNTIL(restreams == 1);
    assert_non_null(strstr(status_now().restream_text, "stopped this stream"));
    comes_back_with_another_stream();
}

/* The log begins behind what is due: the journal and the store are of another time. */
static void a_log_that_begins_too_late(void **state)
{
    (void)state;
    start();
    for (unsigned k = 0; k < 6; k++) {
        write_one(65536);
    }
    welcome.tail_lsn = 3;
    attach_tap();
    UNTIL(restreams == 1);
    assert_non_null(strstr(status_now().restream_text, "begins at lsn 3"));
    comes_back_with_another_stream();
}

/* The store is put back to an earlier time. The log has what is missing: it is sent again. */
static void a_restored_store(void **state)
{
    char command[PATH_MAX];
    (void)state;
    start();
    for (unsigned k = 0; k < 3; k++) {
        write_one(65536);
    }
    ship_all();
    far_stop(&far);
    snprintf(command, sizeof command, "cp -r '%s' '%s.old'", far.store, far.store);
    assert_int_equal(system(command), 0);
    far_start(&far);
    for (unsigned k = 0; k < 200; k++) { /* enough for the journal to be trimmed */
        write_one(0);
    }
    UNTIL(stored == next_lsn - 1);
    far_stop(&far);
    snprintf(command, sizeof command, "rm -r '%s' && mv '%s.old' '%s'", far.store, far.store,
             far.store);
    assert_int_equal(system(command), 0);
    far_start(&far);
    write_one(65536);
    UNTIL(stored == next_lsn - 1);
    assert_int_equal(restreams, 0);
    stream_is_whole();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_is_stored_and_told, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_that_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bandwidth, setup, teardown),
        cmocka_unit_test_setup_teardown(hours_that_are_off, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restored_log, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restored_log_that_went_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_that_begins_too_late, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restored_store, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
