/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/control.h"

#include "participant/tap/orders.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PRIORITY 10 /* of SCHED_RR, as the hold thread of the daemon */

struct control {
    int listen_fd;
    int stop_fd;
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex; /* of what follows; innermost */
    int peer_fd;           /* -1: no controller */
    uint64_t session;      /* counts controllers */
    bool welcomed;         /* HELLO was answered */
    uint64_t hello_by_us;
    uint64_t deaf_until_us; /* the thread's: nobody is accepted before */
};

static struct sockaddr_un address(const struct tap *tap)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", tap->config.control);
    return a;
}

/* A socket file that nobody listens on is a dead tap's. */
static int remove_stale(const struct tap *tap, struct err *err)
{
    struct sockaddr_un a = address(tap);
    struct stat st;
    if (lstat(a.sun_path, &st) != 0) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return err_set(err, TIDE_ERR_CONFIG, "control \"%s\" exists and is no socket", a.sun_path);
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, sizeof a);
    int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (result == 0 || why != ECONNREFUSED) {
        return err_set(err, TIDE_ERR_BUSY, "control \"%s\" is in use by another process",
                       a.sun_path);
    }
    (void)unlink(a.sun_path);
    return 0;
}

static int open_socket(struct tap *tap, struct control *c, struct err *err)
{
    struct sockaddr_un a = address(tap);
    if (remove_stale(tap, err) != 0) {
        return -1;
    }
    c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool bound = c->stop_fd >= 0 && c->listen_fd >= 0 &&
                 bind(c->listen_fd, (struct sockaddr *)&a, sizeof a) == 0;
    /* The mode is set before anyone can connect: a socket that does not listen refuses. */
    if (!bound || chmod(a.sun_path, 0600) != 0 || listen(c->listen_fd, 8) != 0) {
        int why = errno;
        if (bound) {
            (void)unlink(a.sun_path);
        }
        return err_set(err, TIDE_ERR_IO, "cannot listen on control \"%s\": %s", a.sun_path,
                       strerror(why));
    }
    return 0;
}

int control_open(struct tap *tap, struct err *err)
{
    struct control *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory");
    }
    *c = (struct control){.listen_fd = -1, .stop_fd = -1, .peer_fd = -1};
    pthread_mutex_init(&c->mutex, NULL);
    tap->control = c;
    if (open_socket(tap, c, err) != 0) {
        if (c->listen_fd >= 0) {
            close(c->listen_fd);
        }
        if (c->stop_fd >= 0) {
            close(c->stop_fd);
        }
        free(c);
        tap->control = NULL;
        return -1;
    }
    return 0;
}

void control_close(struct tap *tap)
{
    struct control *c = tap->control;
    if (c == NULL) {
        return;
    }
    (void)unlink(tap->config.control);
    close(c->listen_fd);
    close(c->stop_fd);
    if (c->peer_fd >= 0) {
        close(c->peer_fd);
    }
    pthread_mutex_destroy(&c->mutex);
    free(c);
    tap->control = NULL;
}

/* Under c->mutex. Never blocks: a peer whose queue is full is cut off, and its thread notices. */
static void send_locked(struct control *c, const struct tapctl *message, const int *fds,
                        unsigned count)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * TIDE_TAPCTL_FDS_MAX)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = tapctl_encode(message, bytes)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.space;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    }
    if (c->peer_fd >= 0 && sendmsg(c->peer_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        (void)shutdown(c->peer_fd, SHUT_RDWR);
    }
}

void control_answer(struct tap *tap, const struct tapctl *message, uint64_t session)
{
    struct control *c = tap->control;
    pthread_mutex_lock(&c->mutex);
    if (c->welcomed && c->session == session) {
        send_locked(c, message, NULL, 0);
    }
    pthread_mutex_unlock(&c->mutex);
}

void control_tell(struct tap *tap, const struct tapctl *message)
{
    struct control *c = tap->control;
    pthread_mutex_lock(&c->mutex);
    if (c->welcomed) {
        send_locked(c, message, NULL, 0);
    }
    pthread_mutex_unlock(&c->mutex);
}

void control_tell_state(struct tap *tap)
{
    struct tapctl message = {.type = TAPCTL_STATE};
    orders_state(tap, &message.state);
    control_tell(tap, &message);
}

void control_drop_old(struct tap *tap)
{
    struct control *c = tap->control;
    pthread_mutex_lock(&c->mutex);
    uint64_t welcomed = tap->welcomed;
    if (c->peer_fd >= 0 && welcomed != UINT64_MAX && welcomed != tap->restreams) {
        (void)shutdown(c->peer_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&c->mutex);
}

static void hang_up(struct tap *tap, struct control *c)
{
    struct gate_out out;
    struct gate_event event = {.type = GATE_CONTROLLER_LOST};
    tap_step(tap, &event, &out);
    pthread_mutex_lock(&c->mutex);
    close(c->peer_fd);
    c->peer_fd = -1;
    c->welcomed = false;
    pthread_mutex_unlock(&c->mutex);
}

/* WELCOME with the ring's files and the image, opened anew for reading only. */
static bool welcome(struct tap *tap, struct control *c, const struct tapctl *hello)
{
    int fds[TIDE_TAPCTL_FDS_MAX];
    unsigned count = 0;
    bool ok = true;
    struct tapctl message = {.type = TAPCTL_WELCOME, .serial = hello->serial};
    orders_welcome(tap, &message.welcome);
    while (ok && count <= message.welcome.ring_files) {
        char path[64];
        bool ring = count < message.welcome.ring_files;
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d",
                       ring ? tap->ring.fds[count] : tap->image_fd);
        fds[count] = open(path, O_RDONLY | O_CLOEXEC);
        ok = fds[count] >= 0;
        count += ok ? 1 : 0;
    }
    if (ok) {
        pthread_mutex_lock(&c->mutex);
        send_locked(c, &message, fds, count);
        c->welcomed = true;
        pthread_mutex_unlock(&c->mutex);
    } else {
        nbdkit_error("control: cannot open the log for the controller: %s", strerror(errno));
    }
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
    return ok;
}

static bool peer_is_ours(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void admit(struct tap *tap, struct control *c)
{
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        /* Out of descriptors or memory: who waits stays in the queue, and poll() would not wait. */
        bool transient = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
        c->deaf_until_us = transient ? 0 : tap_now_us() + TIDE_CONTROL_LOOK_MS * 1000U;
        return;
    }
    if (!peer_is_ours(fd)) {
        close(fd);
        return;
    }
    if (c->peer_fd >= 0) {
        uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
        struct tapctl refuse = {.type = TAPCTL_REFUSE_BUSY};
        (void)send(fd, bytes, tapctl_encode(&refuse, bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
        close(fd);
        return;
    }
    pthread_mutex_lock(&c->mutex);
    c->peer_fd = fd;
    c->session++;
    tap->welcomed = UINT64_MAX;
    c->welcomed = false;
    c->hello_by_us = tap_now_us() + TIDE_CONTROL_HELLO_S * 1000000U;
    pthread_mutex_unlock(&c->mutex);
}

/* One message. False: the connection is over. */
static bool receive(struct tap *tap, struct control *c)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX + 1];
    struct tapctl message;
    struct tapctl answer;
    struct err err;
    ssize_t got = recv(c->peer_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (got <= 0) {
        return false;
    }
    if (tapctl_decode(bytes, (size_t)got, &message, &err) != 0) {
        nbdkit_error("control: %s; the connection is closed", err.text);
        return false;
    }
    if (!c->welcomed) {
        return message.type == TAPCTL_HELLO && welcome(tap, c, &message);
    }
    switch (orders_do(tap, &message, c->session, &answer)) {
    case ORDERS_DONE:
        return true;
    case ORDERS_ANSWER:
        control_answer(tap, &answer, c->session);
        return true;
    case ORDERS_WRONG:
        break;
    }
    nbdkit_error("control: message type %u is not the controller's to send now; the connection is "
                 "closed",
                 (unsigned)message.type);
    return false;
}

static void *control_main(void *context)
{
    struct tap *tap = context;
    struct control *c = tap->control;
    const struct sched_param param = {.sched_priority = PRIORITY};
    /* Where that is allowed: a guest's writes wait for what this thread hears. */
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &param);
    for (;;) {
        bool deaf = tap_now_us() < c->deaf_until_us;
        struct pollfd fds[3] = {{.fd = c->stop_fd, .events = POLLIN},
                                {.fd = deaf ? -1 : c->listen_fd, .events = POLLIN},
                                {.fd = c->peer_fd, .events = POLLIN}};
        bool waiting = c->peer_fd >= 0 && !c->welcomed;
        (void)poll(fds, 3, waiting || deaf ? TIDE_CONTROL_LOOK_MS : -1);
        if ((fds[0].revents & POLLIN) != 0) {
            break;
        }
        if (c->peer_fd >= 0 && fds[2].revents != 0 && !receive(tap, c)) {
            hang_up(tap, c);
        }
        if (c->peer_fd >= 0 && !c->welcomed && tap_now_us() > c->hello_by_us) {
            hang_up(tap, c);
        }
        /* A peer that has gone may have left messages, and comes again at once: those are first. */
        if ((fds[1].revents & POLLIN) != 0 && (c->peer_fd < 0 || fds[2].revents == 0)) {
            admit(tap, c);
        }
    }
    if (c->peer_fd >= 0) {
        hang_up(tap, c);
    }
    return NULL;
}

int control_start(struct tap *tap, struct err *err)
{
    int why = pthread_create(&tap->control->thread, NULL, control_main, tap);
    if (why != 0) {
        return err_set(err, TIDE_ERR_LIMIT, "cannot start a thread: %s", strerror(why));
    }
    tap->control->running = true;
    return 0;
}

void control_stop(struct tap *tap)
{
    const uint64_t one = 1;
    struct control *c = tap->control;
    if (c->running) {
        (void)!write(c->stop_fd, &one, sizeof one);
        pthread_join(c->thread, NULL);
        c->running = false;
    }
}
