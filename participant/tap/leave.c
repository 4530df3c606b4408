/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/leave.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX     1024 /* nbdkit opens its listening sockets long before that many clients */
#define ENVIRON_MAX 65536

static sem_t asked;
static _Atomic bool leaving;
static _Atomic unsigned inside;
static void (*detach_disk)(void);

void leave_enter(void)
{
    inside++; /* before the look: whoever sees no flag is seen to be inside */
    if (leaving) {
        inside--;
        for (;;) {
            pause();
        }
    }
}

void leave_exit(void)
{
    inside--;
}

static void on_signal(int number)
{
    int saved = errno;
    (void)number;
    sem_post(&asked);
    errno = saved;
}

static bool wait_outside(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    for (unsigned waited = 0; inside != 0; waited++) {
        if (waited == TIDE_LEAVE_WAIT_MS) {
            return false;
        }
        nanosleep(&ms, NULL);
    }
    return true;
}

/* Whether the listening socket is another's (LISTEN_PID), who keeps it for the next tap. nbdkit has
 * taken that out of its environment by now. */
static bool socket_given(void)
{
    static char text[ENVIRON_MAX];
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    for (ssize_t at = 0; at < got; at += (ssize_t)strlen(text + at) + 1) {
        if (strncmp(text + at, "LISTEN_PID=", 11) == 0) {
            return true;
        }
    }
    return got < 0; /* not known: left where it is */
}

/* What nbdkit does with its own (-U) at its end. */
static void unlink_sockets(void)
{
    for (int fd = 0; fd < FDS_MAX; fd++) {
        struct sockaddr_un name = {0};
        socklen_t size = sizeof name - 1;
        int listens = 0;
        int type = 0;
        socklen_t of_int = sizeof listens;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &of_int) == 0 && listens != 0 &&
            getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &of_int) == 0 && type == SOCK_STREAM &&
            getsockname(fd, (struct sockaddr *)&name, &size) == 0 && name.sun_family == AF_UNIX &&
            name.sun_path[0] != '\0') {
            (void)unlink(name.sun_path);
        }
    }
}

static void *leave_main(void *context)
{
    (void)context;
    while (sem_wait(&asked) != 0) {
    }
    bool given = socket_given();
    leaving = true;
    if (wait_outside()) {
        detach_disk();
    } else {
        nbdkit_error("requests are still under way after %d ms: not detached; the next start "
                     "replays the log",
                     TIDE_LEAVE_WAIT_MS);
    }
    if (!given) {
        unlink_sockets();
    }
    _exit(0);
}

int leave_init(void (*detach)(void), struct err *err)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    pthread_t thread;
    detach_disk = detach;
    if (sem_init(&asked, 0, 0) != 0) {
        return err_set(err, TIDE_ERR_LIMIT, "cannot make a semaphore: %s", strerror(errno));
    }
    int why = pthread_create(&thread, NULL, leave_main, NULL);
    if (why != 0) {
        return err_set(err, TIDE_ERR_LIMIT, "cannot start a thread: %s", strerror(why));
    }
    pthread_detach(thread);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction before;
        struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&ours.sa_mask);
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            (void)sigaction(signals[i], &ours, NULL);
        }
    }
    return 0;
}
