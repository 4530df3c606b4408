/* SPDX-License-Identifier: Apache-2.0 */
/* participant/tapclient against a tap played by hand over a real socket: welcome with descriptors,
 * requests, silence, a second controller, garbage, and coming back after each. */
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
#include "participant/tapclient.h"

#define DEADLINE_US 10000000U

static char path[64];
static int listener;
static struct loop *loop;
static struct loop_timer timer;
static struct tapclient *client;

/* What the callbacks saw. */
static unsigned welcomes;
static unsigned losses;
static unsigned messages;
static bool last_was_up;
static char last_reason[256];
static uint64_t last_stream;
static unsigned good_fds;

static void on_welcome(void *arg, const struct tapctl_welcome *welcome, const int *fds)
{
    (void)arg;
    welcomes++;
    last_stream = welcome->stream.b[0];
    for (unsigned i = 0; i <= welcome->ring_files; i++) {
        good_fds += fcntl(fds[i], F_GETFD) == FD_CLOEXEC;
        close(fds[i]);
    }
    loop_stop(loop);
}

static void on_message(void *arg, const struct tapctl *message)
{
    (void)arg;
    messages += message->type == TAPCTL_SYNCED;
    loop_stop(loop);
}

static void on_lost(void *arg, bool was_up, const char *reason)
{
    (void)arg;
    losses++;
    last_was_up = was_up;
    snprintf(last_reason, sizeof last_reason, "%s", reason);
    loop_stop(loop);
}

static void on_late(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

/* Runs the client until *count is `to`. */
static void run_until(const unsigned *count, unsigned to)
{
    uint64_t end = clock_mono_us() + DEADLINE_US;
    while (*count < to) {
        loop_timer_set(&timer, end);
        loop_run(loop);
        if (clock_mono_us() >= end) {
            fail_msg("deadline: welcomes %u losses %u messages %u (%s)", welcomes, losses, messages,
                     last_reason);
        }
    }
}

/* Lets the client dial, and takes the connection and its first message. */
static int accept_hello(void)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message;
    struct err err = {0};
    int fd = -1;
    for (unsigned i = 0; i < 400 && fd < 0; i++) {
        loop_timer_set(&timer, clock_mono_us() + 20000);
        loop_run(loop);
        fd = accept(listener, NULL, NULL);
    }
    assert_true(fd >= 0);
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    assert_true(n > 0);
    assert_int_equal(tapctl_decode(bytes, (size_t)n, &message, &err), 0);
    assert_int_equal(message.type, TAPCTL_HELLO);
    assert_int_equal(message.version, TIDE_TAPCTL_VERSION);
    return fd;
}

static void answer(int fd, const struct tapctl *message, const int *fds, unsigned count)
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
    assert_true(sendmsg(fd, &to, 0) > 0);
}

static struct tapctl welcome_of(uint8_t stream)
{
    struct tapctl message = {.type = TAPCTL_WELCOME, .serial = 1};
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
                                              .next_lsn = 2,
                                              .whole = true,
                                              .logging = true};
    return message;
}

static void talks(void **state)
{
    int ring[3] = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY),
                   open("/dev/null", O_RDONLY)};
    struct tapctl message = welcome_of(9);
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct err err = {0};
    (void)state;
    int fd = accept_hello();
    assert_false(tapclient_is_up(client));
    answer(fd, &message, ring, 3);
    run_until(&welcomes, 1);
    assert_true(tapclient_is_up(client));
    assert_int_equal(last_stream, 9);
    assert_int_equal(good_fds, 3);

    struct tapctl sync = {.type = TAPCTL_SYNC, .lsn = {77}};
    assert_true(tapclient_send(client, &sync));
    struct tapctl heard = {0};
    while (heard.type != TAPCTL_SYNC) { /* STATUS may come first */
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        assert_int_equal(tapctl_decode(bytes, (size_t)n, &heard, &err), 0);
        assert_true(heard.type == TAPCTL_SYNC || heard.type == TAPCTL_STATUS);
    }
    assert_int_equal(heard.lsn.lsn, 77);
    assert_true(heard.serial != 0);
    struct tapctl synced = {
        .type = TAPCTL_SYNCED, .serial = heard.serial, .synced = {.lsn = 77, .position = 600}};
    answer(fd, &synced, NULL, 0);
    run_until(&messages, 1);

    close(fd); /* the tap dies: told once, then the client comes back by itself */
    run_until(&losses, 1);
    assert_true(last_was_up);
    assert_false(tapclient_send(client, &sync));
    fd = accept_hello();
    message = welcome_of(10);
    answer(fd, &message, ring, 3);
    run_until(&welcomes, 2);
    assert_int_equal(last_stream, 10);
    close(fd);
    close(ring[0]);
    close(ring[1]);
    close(ring[2]);
}

static void refuses(void **state)
{
    int ring[2] = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY)};
    struct tapctl message = {.type = TAPCTL_REFUSE_BUSY};
    (void)state;
    int fd = accept_hello();
    answer(fd, &message, NULL, 0);
    run_until(&losses, 1);
    assert_false(last_was_up);
    assert_non_null(strstr(last_reason, "another controller"));
    close(fd);

    fd = accept_hello(); /* fewer descriptors than ring files */
    message = welcome_of(9);
    answer(fd, &message, ring, 2);
    run_until(&losses, 2);
    assert_non_null(strstr(last_reason, "2 descriptors for 2"));
    close(fd);

    fd = accept_hello();
    assert_int_equal(send(fd, "garbage", 7, 0), 7);
    run_until(&losses, 3);
    close(fd);

    fd = accept_hello(); /* silence */
    run_until(&losses, 4);
    assert_non_null(strstr(last_reason, "no welcome"));
    close(fd);

    fd = accept_hello(); /* an answer before the welcome */
    message = (struct tapctl){.type = TAPCTL_SYNCED, .synced = {.lsn = 1, .position = 600}};
    answer(fd, &message, NULL, 0);
    run_until(&losses, 5);
    assert_non_null(strstr(last_reason, "out of order"));
    close(fd);
    assert_int_equal(welcomes, 0);
    close(ring[0]);
    close(ring[1]);
}

static int setup(void **state)
{
    static const struct tapclient_calls calls = {on_welcome, on_message, on_lost};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)state;
    welcomes = losses = messages = good_fds = 0;
    snprintf(path, sizeof path, "/tmp/tidemark-tapclient-%d", getpid());
    strcpy(at.sun_path, path);
    unlink(path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 4) != 0) {
        return -1;
    }
    loop = loop_new();
    loop_timer_init(&timer, loop, on_late, NULL);
    client = tapclient_new(loop, path, &calls, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tapclient_free(client);
    loop_timer_close(&timer);
    loop_free(loop);
    close(listener);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(talks, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
