/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/bare_net.h"

#include "common/core/check.h"
#include "common/io/address.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#define PRIORITY 10

static SSL *wrap(SSL_CTX **context, int fd, bool accepted)
{
    const int one = 1;
    SSL *ssl = tls_connection(context);
    TIDE_CHECK(ssl != NULL && SSL_set_fd(ssl, fd) == 1);
    TIDE_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    if (accepted) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

static struct address address_of(const struct light_group *group, unsigned member)
{
    struct address address;
    struct err err;
    TIDE_CHECK(address_parse(light_group_definition(group)->members[member].address, false,
                             &address, &err) == 0);
    return address;
}

SSL *bare_dial(SSL_CTX **context, const struct light_group *group, unsigned member, unsigned peer)
{
    struct address from = address_of(group, member);
    struct address to = address_of(group, peer);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    from.v4.sin_port = 0;
    TIDE_CHECK(fd >= 0 && bind(fd, &from.any, from.size) == 0);
    TIDE_CHECK(connect(fd, &to.any, to.size) == 0);
    return wrap(context, fd, false);
}

int bare_listen(const struct light_group *group, unsigned member)
{
    struct address at = address_of(group, member);
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TIDE_CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    TIDE_CHECK(bind(fd, &at.any, at.size) == 0 && listen(fd, TIDE_MEMBERS_MAX) == 0);
    return fd;
}

SSL *bare_accept(SSL_CTX **context, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    TIDE_CHECK(fd >= 0);
    return wrap(context, fd, true);
}

void bare_real_time(void)
{
    const struct sched_param param = {.sched_priority = PRIORITY};
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &param);
}
