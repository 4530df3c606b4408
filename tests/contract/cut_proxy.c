/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/cut_proxy.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int proxy_fd;
static struct sockaddr_in far_at;
static pthread_t proxy;
static atomic_bool proxy_end;
static atomic_long up_left = -1; /* bytes to the coordinator until it cuts; negative: it does not */
static atomic_long down_left = -1;
static atomic_uint cuts;

struct pair {
    int near;
    int far;
};

static void pair_shut(struct pair *p)
{
    const struct linger hard = {.l_onoff = 1}; /* as a lost connection: reset */
    (void)setsockopt(p->near, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(p->near);
    close(p->far);
    *p = (struct pair){-1, -1};
}

/* Passes on what is there; false: this pair is over. */
static bool pass(int from, int to, atomic_long *until)
{
    char bytes[16384];
    long limit = atomic_load(until);
    size_t most = sizeof bytes;
    if (limit >= 0 && (size_t)limit < most) {
        most = (size_t)limit;
    }
    ssize_t got = most == 0 ? 0 : recv(from, bytes, most, 0);
    if (got > 0 && send(to, bytes, (size_t)got, MSG_NOSIGNAL) != got) {
        return false;
    }
    if (got > 0 && limit >= 0) {
        atomic_store(until, limit - got);
    }
    if (limit >= 0 && limit == (got > 0 ? got : 0)) {
        atomic_store(until, -1);
        atomic_fetch_add(&cuts, 1);
        return false;
    }
    return got > 0;
}

static void proxy_accept(struct pair *pairs, unsigned room)
{
    struct pair p = {.near = accept(proxy_fd, NULL, NULL)};
    p.far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (unsigned k = 0; k < room; k++) {
        if (pairs[k].near < 0 && connect(p.far, (struct sockaddr *)&far_at, sizeof far_at) == 0) {
            pairs[k] = p;
            return;
        }
    }
    pair_shut(&p);
}

static void *proxy_main(void *arg)
{
    struct pair pairs[8];
    (void)arg;
    for (unsigned k = 0; k < 8; k++) {
        pairs[k] = (struct pair){-1, -1};
    }
    while (!atomic_load(&proxy_end)) {
        struct pollfd fds[17] = {{.fd = proxy_fd, .events = POLLIN}};
        for (unsigned k = 0; k < 8; k++) {
            fds[1 + 2 * k] = (struct pollfd){.fd = pairs[k].near, .events = POLLIN};
            fds[2 + 2 * k] = (struct pollfd){.fd = pairs[k].far, .events = POLLIN};
        }
        (void)poll(fds, 17, 50);
        for (unsigned k = 0; k < 8; k++) {
            if ((fds[1 + 2 * k].revents != 0 && !pass(pairs[k].near, pairs[k].far, &up_left)) ||
                (fds[2 + 2 * k].revents != 0 && !pass(pairs[k].far, pairs[k].near, &down_left))) {
                pair_shut(&pairs[k]);
            }
        }
        if (fds[0].revents != 0) {
            proxy_accept(pairs, 8);
        }
    }
    for (unsigned k = 0; k < 8; k++) {
        if (pairs[k].near >= 0) {
            pair_shut(&pairs[k]);
        }
    }
    return NULL;
}

void cut_proxy_open(struct sockaddr_in *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    far_at = *address;
    cut_proxy_arm(-1, -1);
    atomic_store(&cuts, 0);
    atomic_store(&proxy_end, false);
    proxy_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy_fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(proxy_fd, 16), 0);
    assert_int_equal(getsockname(proxy_fd, (struct sockaddr *)&at, &size), 0);
    *address = at;
    assert_int_equal(pthread_create(&proxy, NULL, proxy_main, NULL), 0);
}

void cut_proxy_arm(long up, long down)
{
    atomic_store(&down_left, down);
    atomic_store(&up_left, up);
}

unsigned cut_proxy_cuts(void)
{
    return atomic_load(&cuts);
}

void cut_proxy_close(void)
{
    atomic_store(&proxy_end, true);
    pthread_join(proxy, NULL);
    close(proxy_fd);
}
