/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"

#define DAEMON_UMASK 0027

void daemon_init(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        TIDE_CHECK(errno == EBADF);
        TIDE_CHECK(open("/dev/null", O_RDWR) == fd);
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    TIDE_CHECK(sigaction(SIGPIPE, &ignore, NULL) == 0);
    (void)umask(DAEMON_UMASK);
}

void daemon_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@'))
        return;
    size_t size = strlen(path);
    if (size < 2 || size >= sizeof(to.sun_path))
        return;
    memcpy(to.sun_path, path, size);
    if (path[0] == '@')
        to.sun_path[0] = 0; /* the abstract namespace */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    socklen_t to_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to, to_size);
    (void)close(fd);
}

static void daemon_signal_seen(void *arg)
{
    struct daemon_signals *signals = arg;
    if (signals->seen++ > 0)
        _exit(1);
    signals->fn(signals->arg);
}

void daemon_signals_init(struct daemon_signals *signals, struct loop *loop, loop_fn *fn, void *arg)
{
    *signals = (struct daemon_signals){.fn = fn, .arg = arg};
    loop_signal_init(&signals->term, loop, SIGTERM, daemon_signal_seen, signals);
    loop_signal_init(&signals->interrupt, loop, SIGINT, daemon_signal_seen, signals);
}

void daemon_signals_close(struct daemon_signals *signals)
{
    loop_signal_close(&signals->term);
    loop_signal_close(&signals->interrupt);
}

static void daemon_hangup_seen(void *arg)
{
    struct daemon_renewal *renewal = arg;
    struct err err;
    if (renewal->identity == NULL)
        return;
    if (tls_identity_reload(renewal->identity, &err) == 0)
        log_info("SIGHUP: the certificate, key and CA of %s were read again; new connections have "
                 "them",
                 tls_identity_uri(renewal->identity));
    else
        log_error("SIGHUP: %s; the certificate, key and CA of before stay in use", err.text);
}

void daemon_renewal_init(struct daemon_renewal *renewal, struct loop *loop)
{
    renewal->identity = NULL;
    loop_signal_init(&renewal->hangup, loop, SIGHUP, daemon_hangup_seen, renewal);
}

void daemon_renewal_begin(struct daemon_renewal *renewal, struct tls_identity *identity)
{
    renewal->identity = identity;
}

void daemon_thread_init(const char *name)
{
    sigset_t all;
    (void)sigfillset(&all);
    TIDE_CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    (void)pthread_setname_np(pthread_self(), name);
}

bool daemon_thread_join(pthread_t thread, uint64_t deadline_us)
{
    uint64_t now = clock_mono_us();
    uint64_t left = deadline_us > now ? deadline_us - now : 0;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until); /* pthread_timedjoin_np() knows no other clock */
    uint64_t ns = (uint64_t)until.tv_nsec + left % CLOCK_US_PER_S * 1000;
    until.tv_sec += (time_t)(left / CLOCK_US_PER_S + ns / 1000000000U);
    until.tv_nsec = (long)(ns % 1000000000U);
    return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

int daemon_fail(const char *program, const struct err *err)
{
    (void)fprintf(stderr, "%s: %s\n", program, err->text);
    (void)fflush(stderr);
    return err_status(err->code);
}

int daemon_check_config(const char *program, const char *path, const struct err *err)
{
    if (err != NULL)
        return daemon_fail(program, err);
    if (printf("%s: ok\n", path) < 0 || fflush(stdout) != 0)
        return err_status(TIDE_ERR_IO);
    return 0;
}

void daemon_exit(int status)
{
    log_stop();
    (void)fflush(stdout);
    (void)fflush(stderr);
    _exit(status);
}
