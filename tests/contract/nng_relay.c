/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/nng_relay.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/core/check.h"

#define LOOK_MS 20

struct nng_relay {
    SSL_CTX *context;
    struct address link;
    struct address nng;
    atomic_bool end;
    pthread_t thread;
};

static int dial(const struct address *to)
{
    const struct timeval limit = {.tv_sec = 4};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TIDE_CHECK(fd >= 0 && connect(fd, &to->any, to->size) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static bool send_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t put = send(fd, bytes, size, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        bytes += put;
        size -= (size_t)put;
    }
    return true;
}

/* All that one record of the link has brought. */
static bool from_link(SSL *ssl, int plain)
{
    uint8_t buffer[16384];
    do {
        int got = SSL_read(ssl, buffer, sizeof(buffer));
        if (got <= 0 || !send_all(plain, buffer, (size_t)got))
            return false;
    } while (SSL_pending(ssl) > 0);
    return true;
}

static bool from_nng(SSL *ssl, int plain)
{
    uint8_t buffer[16384];
    ssize_t got = recv(plain, buffer, sizeof(buffer), 0);
    return got > 0 && SSL_write(ssl, buffer, (int)got) == got;
}

static void *run(void *arg)
{
    struct nng_relay *relay = arg;
    int plain = dial(&relay->nng);
    int fd = dial(&relay->link);
    SSL *ssl = SSL_new(relay->context);
    SSL_set_fd(ssl, fd);
    bool open = SSL_connect(ssl) == 1;
    while (open && !atomic_load(&relay->end)) {
        struct pollfd ready[2] = {{.fd = fd, .events = POLLIN}, {.fd = plain, .events = POLLIN}};
        if (poll(ready, 2, LOOK_MS) < 0)
            break;
        open = (ready[0].revents == 0 || from_link(ssl, plain)) &&
               (ready[1].revents == 0 || from_nng(ssl, plain));
    }
    SSL_free(ssl);
    close(fd);
    close(plain);
    return NULL;
}

struct nng_relay *nng_relay_new(SSL_CTX *context, const struct address *link,
                                const struct address *nng)
{
    struct nng_relay *relay = calloc(1, sizeof(*relay));
    TIDE_CHECK(relay != NULL && context != NULL);
    relay->context = context;
    relay->link = *link;
    relay->nng = *nng;
    TIDE_CHECK(pthread_create(&relay->thread, NULL, run, relay) == 0);
    return relay;
}

void nng_relay_free(struct nng_relay *relay)
{
    if (relay == NULL)
        return;
    atomic_store(&relay->end, true);
    pthread_join(relay->thread, NULL);
    SSL_CTX_free(relay->context);
    free(relay);
}
