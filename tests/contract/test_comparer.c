/* SPDX-License-Identifier: Apache-2.0 */
/* participant/comparer with a real coordinator, and a tap played by hand over a real socket. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "participant/comparer.h"
#include "participant/events.h"
#include "participant/tapset.h"
#include "tests/contract/far_rig.h"

#define DEADLINE_US 30000000U
#define BLOCK       TIDE_TAPCTL_BLOCK
#define BLOCKS_MAX  64U

static struct far far;
static struct settings *settings;
static struct loop *loop;
static pthread_t thread; /* the hold thread's part: the taps' loop */
static struct events *events;
static struct tapset *taps;
static struct comparer *comparer;

/* The tap that is played. */
static struct {
    char path[80];
    char image_path[80];
    int listener;
    int fd; /* of the controller; -1: none */
    int image;
    struct tapctl_state state;
    bool deaf;                /* COMPARED changes nothing */
    bool differs[BLOCKS_MAX]; /* as told for the copy that is due */
    unsigned told;            /* COMPARED that were due */
    unsigned stale;           /* that were for another copy, or another place */
} tap;

/* ---- the tap ---- */

static void answer(const struct tapctl *message, const int *fds, unsigned count)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = tapctl_encode(message, bytes)};
    struct msghdr to = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (count > 0) {
        to.msg_control = control.bytes;
        to.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&to);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    assert_true(sendmsg(tap.fd, &to, MSG_NOSIGNAL) > 0);
}

static void welcome(uint32_t serial)
{
    const struct far_stream *s = &far.streams[0];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int image = open(tap.image_path, O_RDONLY | O_CLOEXEC);
    int fds[3] = {null, null, image};
    struct tapctl message = {.type = TAPCTL_WELCOME, .serial = serial};
    assert_true(null >= 0 && image >= 0);
    message.welcome = (struct tapctl_welcome){.stream = s->stream,
                                              .timeline = s->timeline,
                                              .disk = s->disk_id,
                                              .incarnation = s->incarnation,
                                              .size = tap.state.size,
                                              .block_size = 512,
                                              .ring_files = 2,
                                              .ring_file_size = 1 << 20,
                                              .tail_lsn = 1,
                                              .tail_position = 512,
                                              .next_lsn = 2,
                                              .logging = true};
    snprintf(message.welcome.name, sizeof message.welcome.name, "%s", tap.image_path);
    answer(&message, fds, 3);
    close(null);
    close(image);
}

static void take_compared(const struct tapctl_compared *c)
{
    if (c->begin_lsn != tap.state.copy_lsn || c->offset != tap.state.compare_offset) {
        tap.stale++;
        return;
    }
    tap.told++;
    if (tap.deaf) {
        return;
    }
    for (unsigned k = 0; k < c->count; k++) {
        assert_true(c->offset / BLOCK + k < BLOCKS_MAX);
        tap.differs[c->offset / BLOCK + k] = c->differs[k / 8] >> k % 8 & 1;
    }
    tap.state.compare_offset += c->count * (uint64_t)BLOCK;
    if (tap.state.compare_offset >= tap.state.size) {
        tap.state.compare_offset = tap.state.size;
        tap.state.comparing = false;
    }
}

/* Serves the controller for a moment. */
static void pump(void)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message;
    struct err err = {0};
    if (tap.fd < 0) {
        tap.fd = accept4(tap.listener, NULL, NULL, SOCK_CLOEXEC);
        if (tap.fd < 0) {
            return;
        }
        struct timeval limit = {.tv_usec = 20000};
        assert_int_equal(setsockopt(tap.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    }
    ssize_t n = recv(tap.fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        fail_msg("the controller has gone");
    }
    assert_int_equal(tapctl_decode(bytes, (size_t)n, &message, &err), 0);
    if (message.type == TAPCTL_HELLO) {
        welcome(message.serial);
    } else if (message.type == TAPCTL_STATUS) {
        struct tapctl state = {.type = TAPCTL_STATE, .serial = message.serial, .state = tap.state};
        answer(&state, NULL, 0);
    } else if (message.type == TAPCTL_COMPARED) {
        take_compared(&message.compared);
    }
}

static void pump_until(bool (*done)(void))
{
    struct comparer_status status;
    uint64_t end = clock_mono_us() + DEADLINE_US;
    while (!done()) {
        if (clock_mono_us() > end) {
            comparer_status(comparer, 0, &status);
            fail_msg("deadline: told %u, stale %u, compared up to %llu: %s", tap.told, tap.stale,
                     (unsigned long long)tap.state.compare_offset, status.text);
        }
        pump();
    }
}

static void copy_begins(uint64_t lsn)
{
    memset(tap.differs, 0, sizeof tap.differs);
    tap.told = 0;
    tap.stale = 0;
    tap.state.copy = TAPCTL_COPY_COMPARING;
    tap.state.copy_lsn = lsn;
    tap.state.compare_offset = 0;
    tap.state.comparing = true;
}

/* ---- conditions ---- */

static bool is_compared(void)
{
    return !tap.state.comparing;
}

static bool is_told(void)
{
    return tap.told > 0;
}

static const char *wanted_text;
static bool has_text(void)
{
    struct comparer_status status;
    comparer_status(comparer, 0, &status);
    return strstr(status.text, wanted_text) != NULL;
}

static bool has_no_text(void)
{
    struct comparer_status status;
    comparer_status(comparer, 0, &status);
    return status.text[0] == '\0';
}

static void expect_text(const char *text)
{
    wanted_text = text;
    pump_until(has_text);
}

/* ---- far side and image ---- */

static void put(unsigned writes)
{
    struct far_segment segment;
    for (unsigned k = 0; k < writes; k++) {
        far_write(&far, 0);
    }
    far_cut(&far.streams[0], &segment);
    far_put_good(&far, 0, &segment);
}

/* The image is what the far side's disk is, with holes, and `size` bytes long. */
static void make_image(uint64_t size)
{
    static const uint8_t zeroes[4096];
    const uint8_t *model = far.streams[0].image;
    struct err err = {0};
    assert_int_equal(ftruncate(tap.image, 0), 0);
    assert_int_equal(ftruncate(tap.image, (off_t)size), 0);
    for (uint64_t at = 0; at < size && at < FAR_DISK_MAX; at += sizeof zeroes) {
        size_t part = size - at < sizeof zeroes ? (size_t)(size - at) : sizeof zeroes;
        if (memcmp(model + at, zeroes, part) != 0) {
            assert_int_equal(file_pwrite_full(tap.image, model + at, part, at, "image", &err), 0);
        }
    }
    tap.state.size = size;
}

static void spoil(uint64_t offset)
{
    uint8_t byte = 0;
    assert_int_equal(pread(tap.image, &byte, 1, (off_t)offset), 1);
    byte ^= 0x5a;
    assert_int_equal(pwrite(tap.image, &byte, 1, (off_t)offset), 1);
}

static void expect_differs(const unsigned *blocks, unsigned count)
{
    bool expected[BLOCKS_MAX] = {false};
    for (unsigned k = 0; k < count; k++) {
        expected[blocks[k]] = true;
    }
    for (unsigned k = 0; k < BLOCKS_MAX; k++) {
        if (expected[k] != tap.differs[k]) {
            fail_msg("block %u was said %s", k, tap.differs[k] ? "to differ" : "to be the same");
        }
    }
}

/* ---- tests ---- */

static void what_differs_and_nothing_else_is_told(void **state)
{
    static const unsigned differ[] = {0, 3, 9, 15, 16, 17, 18, 19};
    struct comparer_status status;
    (void)state;
    put(8);
    put(8);
    make_image(FAR_DISK_SIZE + 3 * BLOCK + 512); /* it has grown: beyond the far side's end */
    spoil(0);
    spoil(4 * BLOCK - 1);
    spoil(9 * BLOCK + 77);
    spoil(16 * BLOCK - 1);
    copy_begins(far.streams[0].lsn - 3);
    pump_until(is_compared);
    expect_differs(differ, 8);
    assert_true(tap.told > 1); /* at that rate in several steps */
    assert_int_equal(tap.stale, 0);
    comparer_status(comparer, 0, &status);
    assert_int_equal(status.blocks, 20);
    assert_int_equal(status.differs, 8);
    assert_string_equal(status.text, "");
    /* The next copy sees another image, and one with a last block that is short on both sides. */
    far_resize(&far.streams[0], 5 * BLOCK + 1024);
    put(4);
    make_image(5 * BLOCK + 1024);
    copy_begins(far.streams[0].lsn);
    pump_until(is_compared);
    expect_differs(NULL, 0);
    spoil(5 * BLOCK + 1023);
    copy_begins(far.streams[0].lsn - 1);
    pump_until(is_compared);
    expect_differs((const unsigned[]){5}, 1);
    /* And one that is shorter here than there: what is here is compared. */
    make_image(2 * BLOCK + 512);
    copy_begins(far.streams[0].lsn);
    pump_until(is_compared);
    expect_differs((const unsigned[]){2}, 1);
}

static void a_far_side_that_is_away_or_behind_is_waited_for(void **state)
{
    (void)state;
    put(10);
    make_image(FAR_DISK_SIZE);
    far_kill(&far);
    copy_begins(far.streams[0].lsn + 5);
    expect_text("coordinator: ");
    assert_int_equal(tap.told, 0);
    far_start(&far);
    expect_text("comparing begins when it has lsn");
    assert_int_equal(tap.told, 0);
    put(10); /* and with it lsn + 5: the disk there is now other than the image in places */
    make_image(FAR_DISK_SIZE);
    spoil(7 * BLOCK);
    pump_until(is_told);
    far_kill(&far); /* again in the midst of it */
    expect_text("coordinator: ");
    far_start(&far);
    pump_until(is_compared);
    expect_differs((const unsigned[]){7}, 1);
}

static void another_copy_starts_over_with_what_is_stored_then(void **state)
{
    (void)state;
    put(10);
    make_image(FAR_DISK_SIZE);
    spoil(2 * BLOCK);
    copy_begins(far.streams[0].lsn);
    pump_until(is_told);
    assert_true(tap.differs[2]);
    assert_true(tap.state.comparing);
    put(30); /* as of the old LSN much would differ now */
    make_image(FAR_DISK_SIZE);
    spoil(11 * BLOCK);
    copy_begins(far.streams[0].lsn);
    pump_until(is_compared);
    expect_differs((const unsigned[]){11}, 1);
}

/* Through the whole of one copy the far side's disk is as of one LSN, whatever comes meanwhile. */
static void one_copy_is_compared_as_of_one_lsn(void **state)
{
    uint8_t byte = 0x77;
    (void)state;
    put(10);
    make_image(FAR_DISK_SIZE);
    copy_begins(far.streams[0].lsn);
    pump_until(is_told);
    far_write_at(&far.streams[0], 15 * BLOCK, &byte, 1);
    put(0);
    pump_until(is_compared);
    expect_differs(NULL, 0);
}

static void what_the_tap_did_not_take_is_told_again(void **state)
{
    (void)state;
    put(10);
    make_image(FAR_DISK_SIZE);
    spoil(BLOCK);
    tap.deaf = true;
    copy_begins(far.streams[0].lsn);
    pump_until(is_told);
    tap.deaf = false;
    pump_until(is_compared); /* so it was told again */
    expect_differs((const unsigned[]){1}, 1);
}

static void a_tap_that_comes_back_starts_over(void **state)
{
    (void)state;
    put(10);
    make_image(FAR_DISK_SIZE);
    copy_begins(far.streams[0].lsn);
    pump_until(is_told);
    close(tap.fd);
    tap.fd = -1;
    close(tap.image); /* and it has another image */
    assert_int_equal(unlink(tap.image_path), 0);
    tap.image = open(tap.image_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(tap.image >= 0);
    make_image(FAR_DISK_SIZE);
    spoil(4 * BLOCK);
    copy_begins(far.streams[0].lsn);
    pump_until(is_compared);
    expect_differs((const unsigned[]){4}, 1);
}

static void a_forked_stream_is_given_up_with_its_reason(void **state)
{
    struct far_segment other;
    struct far_answer far_answer;
    (void)state;
    put(3);
    make_image(FAR_DISK_SIZE);
    uint64_t lsn = far.streams[0].lsn;
    far_stream_again(&far, 0);
    far_write(&far, 0);
    far_cut(&far.streams[0], &other);
    assert_int_equal(
        far_put(&far, 0, &far.streams[0].stream, 1, other.bytes, other.info.size, &far_answer), 0);
    assert_true(far_answer.state.forked);
    far_segment_free(&other);
    copy_begins(lsn);
    expect_text("fork");
    assert_int_equal(tap.told, 0);
    tap.state.comparing = false; /* nothing is to be compared: nothing is wrong */
    pump_until(has_no_text);
}

/* ---- set up ---- */

static void no_tap(void *arg, unsigned disk, const struct member_tap *member_tap)
{
    (void)arg;
    (void)disk;
    (void)member_tap;
}

static void no_message(void *arg, unsigned disk, const struct tapctl *message)
{
    (void)arg;
    (void)disk;
    (void)message;
}

static void *hold(void *arg)
{
    (void)arg;
    tapset_start(taps);
    loop_run(loop);
    tapset_stop(taps);
    return NULL;
}

static void open_tap(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_usec = 20000};
    memset(&tap, 0, sizeof tap);
    tap.fd = -1;
    snprintf(tap.path, sizeof tap.path, "%s/tap", far.dir);
    snprintf(tap.image_path, sizeof tap.image_path, "%s/image", far.dir);
    tap.image = open(tap.image_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    tap.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(tap.image >= 0 && tap.listener >= 0);
    memcpy(at.sun_path, tap.path, strlen(tap.path) + 1);
    assert_int_equal(bind(tap.listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(tap.listener, 4), 0);
    assert_int_equal(setsockopt(tap.listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    tap.state.incarnation = 5;
    tap.state.logging = true;
}

static int set_up(void **state)
{
    static const struct tapset_calls calls = {no_tap, no_message};
    struct err err = {0};
    (void)state;
    far_make(&far, 91, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    open_tap();
    make_image(FAR_DISK_SIZE);
    settings = calloc(1, sizeof *settings);
    assert_non_null(settings);
    assert_int_equal(address_parse(far.address, false, &settings->coordinator, &err), 0);
    snprintf(settings->coordinator_uri, sizeof settings->coordinator_uri,
             "spiffe://lab/coordinator/main");
    settings->compare_rate = 1 << 20;
    settings->member_count = settings->disk_count = 1;
    snprintf(settings->disks[0].tap, sizeof settings->disks[0].tap, "%s", tap.path);
    loop = loop_new();
    events = events_new(settings);
    taps = tapset_new(loop, settings, events, &calls, NULL);
    assert_int_equal(pthread_create(&thread, NULL, hold, NULL), 0);
    struct comparer_disk disk = {tapset_port(taps, 0), "shop/web/data"};
    if (comparer_start(settings, far.identities[0], &disk, 1, 7, &comparer, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    comparer_stop(comparer);
    assert_true(comparer_join(comparer, clock_mono_us() + 5000000));
    struct comparer_status ended;
    comparer_status(comparer, 0, &ended); /* a command that comes while the daemon ends */
    comparer_free(comparer);
    loop_stop(loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    port_free(tapset_port(taps, 0));
    free(taps);
    loop_free(loop);
    close(tap.listener);
    close(tap.image);
    if (tap.fd >= 0) {
        close(tap.fd);
    }
    free(settings);
    far_remove(&far);
    events_free(events);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_differs_and_nothing_else_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_far_side_that_is_away_or_behind_is_waited_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_copy_starts_over_with_what_is_stored_then, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_copy_is_compared_as_of_one_lsn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_tap_did_not_take_is_told_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_tap_that_comes_back_starts_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_forked_stream_is_given_up_with_its_reason, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
