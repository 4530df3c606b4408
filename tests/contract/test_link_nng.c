/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of the link are libnng's: a libnng BUS socket, behind a relay that adds TLS and
 * nothing else, exchanges messages of every size with a link. That it takes part in rounds:
 * tests/light/test_nng_rounds.c. */
#include "tests/contract/io_sites.h"
#include "tests/contract/nng_relay.h"

#include "common/io/clock.h"
#include "common/io/link.h"

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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
    struct nng_relay *relay = NULL;
    struct address nng = {.size = sizeof(nng.v4)};
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
    struct address own = link_address(link);
    nng.v4.sin_family = AF_INET;
    nng.v4.sin_addr.s_addr = at.s_in.sa_addr;
    nng.v4.sin_port = at.s_in.sa_port;
    relay = nng_relay_new(sites_raw_context("raw"), &own, &nng);

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
    nng_relay_free(relay);
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
