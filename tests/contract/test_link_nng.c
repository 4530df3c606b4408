/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of the link are libnng's: a libnng BUS socket, behind a relay that adds TLS and
 * nothing else, exchanges messages with a link. */
#include "tests/contract/io_sites.h"

#include "common/io/clock.h"
#include "common/io/link.h"

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct relay {
    struct address link;
    struct address nng;
    atomic_bool end;
    pthread_t thread;
};

static unsigned ups;
static unsigned messages;
static size_t last_size;
static uint8_t last[LINK_MESSAGE_MAX];

static void up(void *arg, size_t peer)
{
    (void)arg;
    (void)peer;
    ups++;
}

static void down(void *arg, size_t peer, const char *reason)
{
    (void)arg;
    (void)peer;
    print_message("down: %s\n", reason);
}

static void message(void *arg, size_t peer, const uint8_t *bytes, size_t size)
{
    (void)arg;
    (void)peer;
    messages++;
    last_size = size;
    memcpy(last, bytes, size);
}

static int dial(const struct address *to)
{
    const struct timeval limit = {.tv_sec = 4};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &to->any, to->size) != 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void send_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t put = send(fd, bytes, size, MSG_NOSIGNAL);
        if (put <= 0)
            return;
        bytes += put;
        size -= (size_t)put;
    }
}

static void *relay_run(void *arg)
{
    struct relay *relay = arg;
    uint8_t buffer[16384];
    uint64_t until = clock_mono_us() + 20000000;
    int plain = dial(&relay->nng);
    int fd = dial(&relay->link);
    SSL_CTX *context = sites_raw_context("raw");
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    bool open = SSL_connect(ssl) == 1;
    while (open && !atomic_load(&relay->end) && clock_mono_us() < until) {
        struct pollfd ready[2] = {{.fd = fd, .events = POLLIN}, {.fd = plain, .events = POLLIN}};
        if (poll(ready, 2, 20) < 0)
            break;
        if (ready[0].revents != 0) {
            int got = SSL_read(ssl, buffer, sizeof(buffer));
            open = got > 0;
            if (open)
                send_all(plain, buffer, (size_t)got);
        }
        if (ready[1].revents != 0) {
            ssize_t got = recv(plain, buffer, sizeof(buffer), 0);
            open = got > 0 && SSL_write(ssl, buffer, (int)got) == got;
        }
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    close(plain);
    return NULL;
}

static bool reached(void *arg)
{
    const unsigned *want = arg;
    return ups >= 1 && messages >= *want;
}

static void libnng_is_a_peer(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 5, 300, 16376, 16377, LINK_MESSAGE_MAX};
    static uint8_t bytes[LINK_MESSAGE_MAX];
    struct err err;
    nng_socket bus;
    nng_listener listener;
    nng_sockaddr at;
    struct link *link = NULL;
    struct relay relay = {.end = false};
    struct loop *loop = loop_new();
    struct link_options options = {
        .loop = loop, .idle_us = 20000000, .calls = {up, down, message, NULL}};
    struct link_peer peer = {.uri = "spiffe://lab/participant/raw"};
    struct tls_identity *identity = sites_identity("a");
    options.identity = identity;
    assert_int_equal(address_parse("127.0.0.41:0", true, &options.listen, &err), 0);
    assert_int_equal(link_new(&options, &link, &err), 0);
    assert_int_equal(link_set_peers(link, &peer, 1, &err), 0);

    assert_int_equal(nng_bus0_open(&bus), 0);
    assert_int_equal(nng_socket_set_ms(bus, NNG_OPT_RECVTIMEO, 4000), 0);
    assert_int_equal(nng_listen(bus, "tcp://127.0.0.42:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &at), 0);
    relay.link = link_address(link);
    memset(&relay.nng, 0, sizeof(relay.nng));
    relay.nng.v4.sin_family = AF_INET;
    relay.nng.v4.sin_addr.s_addr = at.s_in.sa_addr;
    relay.nng.v4.sin_port = at.s_in.sa_port;
    relay.nng.size = sizeof(relay.nng.v4);
    assert_int_equal(pthread_create(&relay.thread, NULL, relay_run, &relay), 0);

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 13 + i / 256);
    unsigned want = 0;
    sites_wait(loop, reached, &want, "libnng's hello is ours");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *got = NULL;
        size_t size = 0;
        assert_int_equal(link_send(link, 0, bytes, sizes[i], &err), 0);
        /* Let the loop write what did not fit at once, until libnng has the message. */
        uint64_t until = clock_mono_us() + 8000000;
        int result = NNG_EAGAIN;
        while (result == NNG_EAGAIN && clock_mono_us() < until) {
            want = 0;
            sites_wait(loop, reached, &want, "the loop goes round");
            result = nng_recv(bus, &got, &size, NNG_FLAG_ALLOC | NNG_FLAG_NONBLOCK);
        }
        assert_int_equal(result, 0);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(got, bytes, size);
        nng_free(got, size);

        want = messages + 1;
        assert_int_equal(nng_send(bus, bytes, sizes[i], 0), 0);
        sites_wait(loop, reached, &want, "libnng's message");
        assert_int_equal(last_size, sizes[i]);
        assert_memory_equal(last, bytes, sizes[i]);
    }
    atomic_store(&relay.end, true);
    pthread_join(relay.thread, NULL);
    link_free(link);
    tls_identity_free(identity);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(libnng_is_a_peer)};
    int status = cmocka_run_group_tests(tests, sites_make, sites_remove);
    fflush(NULL);
    _exit(status); /* libnng's sockets are left: closing busy ones can hang */
}
