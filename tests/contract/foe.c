/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/foe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOE_SANITIZED 1
#elif defined(__has_feature)
#define FOE_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define FOE_SANITIZED 0
#endif

#define FOE_ALARM_S 25
#define FOE_WAIT_S  8
#define FOE_READS   1000000U

void foe_start(struct foe *foe, foe_fn *fn, void *arg, int listen_fd)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *foe = (struct foe){.pid = fork(), .stop = ends[1]};
    assert_true(foe->pid >= 0);
    if (foe->pid == 0) {
        int keep = fcntl(ends[0], F_DUPFD, 10);
        int listener = listen_fd < 0 ? -1 : fcntl(listen_fd, F_DUPFD, 10);
        foe_check(dup2(keep, FOE_STOP_FD) == FOE_STOP_FD, "the stop descriptor");
        if (listener >= 0)
            foe_check(dup2(listener, FOE_LISTEN_FD) == FOE_LISTEN_FD, "the listener");
        foe_check(close_range(listener < 0 ? FOE_LISTEN_FD : FOE_LISTEN_FD + 1, ~0U, 0) == 0,
                  "closing the victim's descriptors");
        alarm(FOE_ALARM_S);
        fn(arg);
        _exit(0);
    }
    close(ends[0]);
}

void foe_stop(struct foe *foe)
{
    if (foe->stop >= 0)
        close(foe->stop);
    foe->stop = -1;
}

bool foe_ended(void *arg)
{
    struct foe *foe = arg;
    if (foe->pid > 0 && waitpid(foe->pid, &foe->status, WNOHANG) == foe->pid)
        foe->pid = 0;
    return foe->pid == 0;
}

void foe_assert(struct foe *foe)
{
    foe_stop(foe);
    assert_int_equal(foe->pid, 0);
    assert_int_equal(foe->status, 0);
}

void foe_check(bool good, const char *what)
{
    if (good)
        return;
    dprintf(2, "attacker: not so: %s (%s)\n", what, strerror(errno));
    _exit(1);
}

bool foe_told(void)
{
    struct pollfd stop = {.fd = FOE_STOP_FD, .events = POLLIN};
    return poll(&stop, 1, 0) > 0;
}

int foe_connect(const struct address *to)
{
    const struct timeval limit = {.tv_sec = FOE_WAIT_S};
    struct sockaddr_in from = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    foe_check(fd >= 0, "a socket");
    foe_check(inet_pton(AF_INET, "127.0.0.66", &from.sin_addr) == 1, "an address");
    foe_check(bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0, "the attacker's address");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, &to->any, to->size) == 0)
        return fd;
    close(fd);
    return -1;
}

void foe_reset(int fd)
{
    const struct linger hard = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
}

bool foe_closed(int fd)
{
    char bytes[4096];
    for (unsigned i = 0; i < FOE_READS; i++) {
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
            return true;
        if (got < 0)
            return false;
    }
    return false;
}

void foe_send(int fd, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    while (size > 0) {
        ssize_t put = send(fd, at, size, MSG_NOSIGNAL);
        if (put <= 0)
            return; /* the victim has closed: that is for the caller to see */
        at += put;
        size -= (size_t)put;
    }
}

void foe_tls_open(struct foe_tls *tls, SSL_CTX *context)
{
    *tls = (struct foe_tls){SSL_new(context), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    foe_check(tls->ssl != NULL && tls->in != NULL && tls->out != NULL, "memory for TLS");
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_connect_state(tls->ssl);
}

void foe_tls_close(struct foe_tls *tls)
{
    SSL_free(tls->ssl);
}

size_t foe_tls_take(struct foe_tls *tls, uint8_t *to, size_t max)
{
    int got = BIO_read(tls->out, to, (int)max);
    return got > 0 ? (size_t)got : 0;
}

bool foe_tls_shake(struct foe_tls *tls, int fd)
{
    uint8_t bytes[FOE_FLIGHT];
    for (unsigned i = 0; i < 100; i++) {
        int done = SSL_do_handshake(tls->ssl);
        size_t size = foe_tls_take(tls, bytes, sizeof(bytes));
        foe_send(fd, bytes, size);
        if (done == 1)
            return true;
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
        if (got <= 0)
            return false;
        foe_check(BIO_write(tls->in, bytes, (int)got) == got, "the victim's bytes");
    }
    return false;
}

void foe_tls_send(struct foe_tls *tls, int fd, const void *bytes, size_t size)
{
    uint8_t record[FOE_FLIGHT + 256];
    foe_check(SSL_write(tls->ssl, bytes, (int)size) == (int)size, "a record");
    foe_send(fd, record, foe_tls_take(tls, record, sizeof(record)));
}

size_t foe_descriptors(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

size_t foe_memory(void)
{
#if FOE_SANITIZED
    return 0;
#else
    unsigned long all = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &all, &resident), 2);
    (void)fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
#endif
}
