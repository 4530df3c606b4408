/* SPDX-License-Identifier: Apache-2.0 */
/* participant/tapset and port against a tap played by hand over a real socket: what the shipping
 * thread asks for reaches the tap it was meant for, and the answer to RESTREAM comes back. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "participant/events.h"
#include "participant/tapset.h"

#define DEADLINE_US 10000000U

static struct settings settings;
static int listener;
static struct loop *loop;
static struct loop_timer timer;
static struct events *events;
static struct tapset *set;
static struct port *port;
static unsigned attached;
static unsigned lost;
static unsigned others; /* messages that are passed on */

static void on_tap(void *arg, unsigned disk, const struct member_tap *tap)
{
    (void)arg;
    (void)disk;
    attached += tap->attached;
    lost += !tap->attached;
}

static void on_message(void *arg, unsigned disk, const struct tapctl *message)
{
    (void)arg;
    (void)disk;
    others += message->type == TAPCTL_DONE;
}

static void on_time(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void turn(void)
{
    loop_timer_set(&timer, clock_mono_us() + 2000);
    loop_run(loop);
}

static void run_until(const unsigned *count, unsigned to)
{
    for (uint64_t end = clock_mono_us() + DEADLINE_US; *count < to;) {
        turn();
        assert_true(clock_mono_us() < end);
    }
}

static struct port_view view(void)
{
    struct port_view v;
    port_wait(port, 0, &v);
    return v;
}

static void answer(int fd, struct tapctl message, bool with_fds)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    int fds[3];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = tapctl_encode(&message, bytes)};
    struct msghdr to = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    for (unsigned k = 0; k < 3; k++) {
        fds[k] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (with_fds) {
        to.msg_control = control.bytes;
        to.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&to);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(c), fds, sizeof fds);
    }
    assert_true(sendmsg(fd, &to, 0) > 0);
    for (unsigned k = 0; k < 3; k++) {
        close(fds[k]);
    }
}

/* Takes the connection, and welcomes it as the tap of that stream. */
static int welcome(uint8_t stream)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message = {.type = TAPCTL_WELCOME, .serial = 1};
    int fd = -1;
    unsigned before = attached;
    for (uint64_t end = clock_mono_us() + DEADLINE_US; fd < 0;) {
        turn();
        fd = accept(listener, NULL, NULL);
        assert_true(clock_mono_us() < end);
    }
    assert_true(recv(fd, bytes, sizeof bytes, 0) > 0); /* HELLO */
    message.welcome = (struct tapctl_welcome){.stream = {{stream}},
                                              .timeline = {{2}},
                                              .disk = {{3}},
                                              .incarnation = 4,
                                              .size = 1 << 20,
                                              .block_size = 512,
                                              .ring_files = 2,
                                              .ring_file_size = 1 << 20,
                                              .tail_lsn = 1,
                                              .tail_position = 512,
                                              .next_lsn = 20,
                                              .whole = true,
                                              .logging = true};
    answer(fd, message, true);
    run_until(&attached, before + 1);
    return fd;
}

/* The next message that is no STATUS; none within some turns: type HELLO. */
static struct tapctl next(int fd, unsigned turns)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message = {.type = TAPCTL_HELLO};
    struct err err = {0};
    for (unsigned k = 0; k < turns; k++) {
        turn();
        ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0) {
            assert_int_equal(tapctl_decode(bytes, (size_t)n, &message, &err), 0);
            if (message.type != TAPCTL_STATUS) {
                return message;
            }
        }
    }
    return (struct tapctl){.type = TAPCTL_HELLO};
}

static void a_new_stream_is_ordered(void **state)
{
    const struct id old = {{9}};
    (void)state;
    int fd = welcome(9);
    port_ask_restream(port, &old);
    struct tapctl order = next(fd, 1000);
    assert_int_equal(order.type, TAPCTL_RESTREAM);
    assert_true(id_equal(&order.order.stream, &old));
    assert_int_equal(next(fd, 20).type, TAPCTL_HELLO); /* once */
    /* An answer to another order is not its answer. */
    struct tapctl done = {
        .type = TAPCTL_DONE, .serial = order.serial + 1, .done = {.code = TIDE_ERR_BUSY}};
    answer(fd, done, false);
    run_until(&others, 1);
    assert_int_equal(view().refusals, 0);
    done.serial = order.serial;
    strcpy(done.done.text, "clients are connected");
    answer(fd, done, false);
    for (uint64_t end = clock_mono_us() + DEADLINE_US; view().refusals == 0;) {
        turn();
        assert_true(clock_mono_us() < end);
    }
    assert_string_equal(view().refusal.text, "clients are connected");
    assert_int_equal(others, 1);
    close(fd);
}

/* What is told of one stream does not reach a tap that has another one since. */
static void what_is_stored_is_of_one_stream(void **state)
{
    const struct id old = {{9}};
    const struct id new = {{10}};
    uint64_t us = 0;
    (void)state;
    int fd = welcome(9);
    port_tell_stored(port, &old, 15);
    struct tapctl told = next(fd, 1000);
    assert_int_equal(told.type, TAPCTL_STORED);
    assert_int_equal(told.lsn.lsn, 15);
    assert_false(port_rpo(port, clock_mono_us(), &us)); /* 16 to 19 are of unknown age */
    port_tell_stored(port, &old, 19);
    assert_true(port_rpo(port, clock_mono_us(), &us));
    assert_int_equal(us, 0);
    assert_int_equal(next(fd, 1000).lsn.lsn, 19);
    close(fd);
    run_until(&lost, 1);
    assert_false(port_rpo(port, clock_mono_us(), &us));
    port_tell_stored(port, &old, 20); /* waits for that tap */
    fd = welcome(10);
    assert_int_equal(next(fd, 50).type, TAPCTL_HELLO);
    port_tell_stored(port, &old, 21); /* came late */
    port_ask_restream(port, &old);
    assert_int_equal(next(fd, 50).type, TAPCTL_HELLO);
    port_tell_stored(port, &new, 3);
    assert_int_equal(next(fd, 1000).lsn.lsn, 3);
    close(fd);
}

static int setup(void **state)
{
    static const struct tapset_calls calls = {on_tap, on_message};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)state;
    attached = lost = others = 0;
    memset(&settings, 0, sizeof settings);
    settings.member_count = 1;
    settings.disk_count = 1;
    snprintf(settings.disks[0].tap, sizeof settings.disks[0].tap, "/tmp/tidemark-tapset-%d",
             getpid());
    strcpy(at.sun_path, settings.disks[0].tap);
    unlink(at.sun_path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 4) != 0) {
        return -1;
    }
    loop = loop_new();
    loop_timer_init(&timer, loop, on_time, NULL);
    events = events_new(&settings);
    set = tapset_new(loop, &settings, events, &calls, NULL);
    port = tapset_port(set, 0);
    tapset_start(set);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tapset_stop(set);
    loop_timer_close(&timer);
    loop_free(loop);
    port_free(port);
    free(set);
    close(listener);
    events_free(events);
    return unlink(settings.disks[0].tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_stream_is_ordered, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_stored_is_of_one_stream, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
