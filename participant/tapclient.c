/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tapclient.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"

#define REASON_MAX 200

enum state {
    WAITING,  /* for the next attempt */
    GREETING, /* HELLO sent */
    UP,
    ENDING, /* failed inside tapclient_send(); the loop tells */
};

struct tapclient {
    struct loop *loop;
    const char *path;
    struct tapclient_calls calls;
    void *arg;
    enum state state;
    bool was_up; /* with ENDING */
    int fd;      /* -1: none */
    uint32_t serial;
    uint64_t backoff_us;
    uint64_t heard_us; /* or: since when GREETING */
    struct loop_timer timer;
    struct loop_watch watch;
    char reason[REASON_MAX];
};

static void on_ready(void *arg, unsigned ready);

static void drop(struct tapclient *client)
{
    if (client->fd >= 0) {
        loop_watch_close(&client->watch);
        close(client->fd);
        client->fd = -1;
    }
}

/* The connection or the attempt is over: tell, and try again later. */
static void fail(struct tapclient *client, const char *reason)
{
    bool was_up = client->state == UP || (client->state == ENDING && client->was_up);
    drop(client);
    client->state = WAITING;
    loop_timer_set(&client->timer, clock_mono_us() + client->backoff_us);
    client->backoff_us *= 2;
    if (client->backoff_us > TAPCLIENT_BACKOFF_MAX_US) {
        client->backoff_us = TAPCLIENT_BACKOFF_MAX_US;
    }
    client->calls.lost(client->arg, was_up, reason);
}

static bool put(struct tapclient *client, struct tapctl *message)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    message->serial = ++client->serial;
    if (message->serial == 0) {
        message->serial = ++client->serial; /* 0 is the tap's own */
    }
    size_t size = tapctl_encode(message, bytes);
    ssize_t n;
    do {
        n = send(client->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)size) {
        snprintf(client->reason, sizeof client->reason, "cannot send to it: %s",
                 n < 0 ? strerror(errno) : "short");
        return false;
    }
    return true;
}

static void dial(struct tapclient *client)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t peer_size = sizeof peer;
    size_t size = strlen(client->path);
    char reason[REASON_MAX];
    TIDE_CHECK(size < sizeof to.sun_path);
    memcpy(to.sun_path, client->path, size + 1);
    client->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0) {
        snprintf(reason, sizeof reason, "no socket: %s", strerror(errno));
        fail(client, reason);
        return;
    }
    loop_watch_init(&client->watch, client->loop, client->fd, on_ready, client);
    if (connect(client->fd, (const struct sockaddr *)&to, sizeof to) != 0) {
        snprintf(reason, sizeof reason, "cannot connect: %s", strerror(errno));
        fail(client, reason);
        return;
    }
    if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 ||
        (peer.uid != 0 && peer.uid != geteuid())) {
        snprintf(reason, sizeof reason, "served by user %u, neither root nor our own",
                 (unsigned)peer.uid);
        fail(client, reason);
        return;
    }
    struct tapctl hello = {.type = TAPCTL_HELLO, .version = TIDE_TAPCTL_VERSION};
    if (!put(client, &hello)) {
        fail(client, client->reason);
        return;
    }
    client->state = GREETING;
    client->heard_us = clock_mono_us();
    loop_watch_set(&client->watch, LOOP_READ);
    loop_timer_set(&client->timer, client->heard_us + TAPCLIENT_WELCOME_US);
}

static void on_timer(void *arg)
{
    struct tapclient *client = arg;
    uint64_t now = clock_mono_us();
    struct tapctl status = {.type = TAPCTL_STATUS};
    switch (client->state) {
    case WAITING:
        dial(client);
        return;
    case GREETING:
        fail(client, "no welcome within 2 s");
        return;
    case UP:
        if (now - client->heard_us > TAPCLIENT_SILENT_US) {
            fail(client, "silent for 10 s");
            return;
        }
        if (!put(client, &status)) {
            fail(client, client->reason);
            return;
        }
        loop_timer_set(&client->timer, now + TAPCLIENT_STATUS_US);
        return;
    case ENDING:
        fail(client, client->reason);
        return;
    }
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
}

/* Takes the descriptors out of a message; false where the message was cut. */
static bool take_fds(struct msghdr *from, int fds[TIDE_TAPCTL_FDS_MAX], unsigned *ret_count)
{
    unsigned count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(from); c != NULL; c = CMSG_NXTHDR(from, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (count < TIDE_TAPCTL_FDS_MAX) {
                fds[count++] = fd;
            } else {
                close(fd);
            }
        }
    }
    *ret_count = count;
    return (from->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

/* Whether the connection goes on. */
static bool take_message(struct tapclient *client, const struct tapctl *message, const int *fds,
                         unsigned fd_count)
{
    char reason[REASON_MAX];
    if (client->state == GREETING && message->type == TAPCTL_REFUSE_BUSY) {
        fail(client, "it has another controller; is a second daemon running for this disk?");
        return false;
    }
    if (client->state == GREETING && message->type == TAPCTL_WELCOME) {
        if (fd_count != message->welcome.ring_files + 1) {
            snprintf(reason, sizeof reason,
                     "welcome with %u descriptors for %u ring files and an image", fd_count,
                     message->welcome.ring_files);
            close_all(fds, fd_count);
            fail(client, reason);
            return false;
        }
        client->state = UP;
        client->backoff_us = TAPCLIENT_BACKOFF_MIN_US;
        loop_timer_set(&client->timer, clock_mono_us());
        client->calls.welcome(client->arg, &message->welcome, fds);
        return client->state == UP;
    }
    close_all(fds, fd_count);
    if (client->state == UP && message->type > TAPCTL_WELCOME &&
        message->type != TAPCTL_REFUSE_BUSY) {
        client->calls.message(client->arg, message);
        return client->state == UP;
    }
    snprintf(reason, sizeof reason, "message of type %u out of order", (unsigned)message->type);
    fail(client, reason);
    return false;
}

static void on_ready(void *arg, unsigned ready)
{
    struct tapclient *client = arg;
    (void)ready;
    /* A bounded number at a time, so that one tap cannot keep the others waiting. */
    for (unsigned i = 0; i < 16; i++) {
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(TIDE_TAPCTL_FDS_MAX * sizeof(int))];
        } control;
        struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
        struct msghdr from = {.msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes};
        int fds[TIDE_TAPCTL_FDS_MAX];
        unsigned fd_count = 0;
        struct tapctl message;
        struct err err = {0};
        ssize_t n = recvmsg(client->fd, &from, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            char reason[REASON_MAX];
            snprintf(reason, sizeof reason, "connection ended%s%s", n < 0 ? ": " : "",
                     n < 0 ? strerror(errno) : "");
            fail(client, reason);
            return;
        }
        if (!take_fds(&from, fds, &fd_count)) {
            close_all(fds, fd_count);
            fail(client, "message larger than allowed");
            return;
        }
        if (tapctl_decode(bytes, (size_t)n, &message, &err) != 0) {
            close_all(fds, fd_count);
            fail(client, err.text);
            return;
        }
        client->heard_us = clock_mono_us();
        if (!take_message(client, &message, fds, fd_count)) {
            return;
        }
    }
}

struct tapclient *tapclient_new(struct loop *loop, const char *path,
                                const struct tapclient_calls *calls, void *arg)
{
    struct tapclient *client = calloc(1, sizeof *client);
    TIDE_CHECK(client != NULL);
    client->loop = loop;
    client->path = path;
    client->calls = *calls;
    client->arg = arg;
    client->state = WAITING;
    client->fd = -1;
    client->backoff_us = TAPCLIENT_BACKOFF_MIN_US;
    loop_timer_init(&client->timer, loop, on_timer, client);
    loop_timer_set(&client->timer, clock_mono_us());
    return client;
}

void tapclient_free(struct tapclient *client)
{
    if (client == NULL) {
        return;
    }
    drop(client);
    loop_timer_close(&client->timer);
    free(client);
}

bool tapclient_is_up(const struct tapclient *client)
{
    return client->state == UP;
}

bool tapclient_send(struct tapclient *client, struct tapctl *message)
{
    if (client->state != UP) {
        return false;
    }
    if (!put(client, message)) {
        client->was_up = true;
        client->state = ENDING;
        loop_watch_set(&client->watch, 0);
        loop_timer_set(&client->timer, clock_mono_us());
        return false;
    }
    return true;
}
