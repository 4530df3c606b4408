/* SPDX-License-Identifier: Apache-2.0 */
/* The link under peers that are not members: connections that reset, say nothing, talk garbage,
 * stop in their handshake, show a wrong identity; and no descriptor left. */
#include "tests/contract/io_sites.h"
#include "tests/contract/siege.h"

#include "common/core/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define CONNECTIONS 1000U
#define SILENT_MAX  400000U
#define SILENT_RING 400U

/* ---- before TLS ---- */

static void connect_and_reset(void *arg)
{
    (void)arg;
    static const uint8_t begin[] = {22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        int fd = foe_connect(&siege.at);
        foe_check(fd >= 0, "the listener lives");
        if (i % 2 == 1)
            foe_send(fd, begin, i % sizeof(begin));
        foe_reset(fd);
    }
}

static void thousand_that_reset(void **state)
{
    (void)state;
    uint64_t before = siege.turns;
    siege_run(connect_and_reset, NULL);
    assert_true(siege.turns > before); /* they went on meanwhile */
    siege_assert_unhurt();
}

/* As fast as it goes, until told; the older ones of the ring are closed by the victim already. */
static void connect_in_silence(void *arg)
{
    int ring[SILENT_RING];
    (void)arg;
    for (unsigned i = 0; i < SILENT_RING; i++)
        ring[i] = -1;
    for (unsigned i = 0; i < SILENT_MAX && !(i >= CONNECTIONS && foe_told()); i++) {
        int *slot = &ring[i % SILENT_RING];
        if (*slot >= 0)
            close(*slot);
        *slot = foe_connect(&siege.at);
        foe_check(*slot >= 0, "the listener lives");
    }
}

static bool thousand_accepted(void *arg)
{
    struct link_stats stats = link_stats(siege.a.link);
    (void)arg;
    return stats.accepted > CONNECTIONS && stats.handshakes == LINK_HANDSHAKES_MAX;
}

static void thousand_that_say_nothing(void **state)
{
    (void)state;
    struct foe foe;
    foe_start(&foe, connect_in_silence, NULL, -1);
    sites_wait(siege.loop, thousand_accepted, NULL, "a thousand came and the limit is reached");
    assert_non_null(strstr(siege.a.refused, "too many connections are in their handshake"));
    siege_c_gets_in(); /* while it goes on */
    assert_false(foe_ended(&foe));
    foe_stop(&foe);
    sites_wait(siege.loop, foe_ended, &foe, "the attacker ends");
    foe_assert(&foe);
    siege_c_leaves();
    siege_assert_unhurt();
}

static const char *const garbage[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff\x01", "\x17\x03\x03\x40\x00zzzzzzzz",
    "\x15\x03\x03\x01\x02\x02\x28",      "\x14\x03\x03\x01\x01\x01", "\x80\x2e\x01\x03\x01",
    "SSH-2.0-OpenSSH_9.6\r\n",
};

static size_t client_hello(SSL_CTX *context, uint8_t bytes[FOE_FLIGHT])
{
    struct foe_tls tls;
    foe_tls_open(&tls, context);
    (void)SSL_do_handshake(tls.ssl);
    size_t size = foe_tls_take(&tls, bytes, FOE_FLIGHT);
    foe_check(size > 100, "a ClientHello");
    foe_tls_close(&tls);
    return size;
}

static void send_garbage(void *arg)
{
    struct prng prng;
    uint8_t hello[FOE_FLIGHT];
    prng_init(&prng, 7);
    for (unsigned i = 0; i < 400; i++) {
        int fd = foe_connect(&siege.at);
        foe_check(fd >= 0, "the listener lives");
        size_t kinds = sizeof(garbage) / sizeof(garbage[0]);
        size_t kind = i % (kinds + 3);
        if (kind < kinds) {
            foe_send(fd, garbage[kind], strlen(garbage[kind]));
        } else {
            size_t size = client_hello(arg, hello);
            if (kind == kinds)
                hello[prng_below(&prng, size)] ^= (uint8_t)(1 + prng_below(&prng, 255));
            for (size_t k = 0; kind > kinds && k < size; k++)
                hello[k] = (uint8_t)prng_below(&prng, 256);
            foe_send(fd, hello, size);
        }
        shutdown(fd, SHUT_WR); /* so that what looks like a beginning ends too */
        foe_check(foe_closed(fd), "garbage ends its connection");
        close(fd);
    }
}

static void garbage_instead_of_tls(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    siege_run(send_garbage, context);
    SSL_CTX_free(context);
    assert_int_equal(siege.a.refusals, 400);
    siege_assert_unhurt();
}

/* ---- in TLS ---- */

#define STALLS 60U /* within the limit, so that only the deadline ends them */

/* Ends of what a connection has said: nothing, a part of its ClientHello, all of it and the answer
 * read, a part of the second flight. */
static void stall(int fd, SSL_CTX *context, unsigned kind)
{
    uint8_t bytes[FOE_FLIGHT];
    struct foe_tls tls;
    if (kind < 4) {
        static const size_t parts[] = {0, 1, 5, 100};
        (void)client_hello(context, bytes);
        foe_send(fd, bytes, parts[kind]);
        return;
    }
    foe_tls_open(&tls, context);
    for (unsigned i = 0; i < 100 && SSL_do_handshake(tls.ssl) != 1; i++) {
        foe_send(fd, bytes, foe_tls_take(&tls, bytes, sizeof(bytes)));
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
        foe_check(got > 0, "the victim's flight");
        foe_check(BIO_write(tls.in, bytes, (int)got) == got, "room for it");
    }
    size_t size = foe_tls_take(&tls, bytes, sizeof(bytes));
    if (kind == 5)
        foe_send(fd, bytes, size / 2);
    if (kind == 6)
        foe_send(fd, bytes, size); /* and never the hello of SP */
    foe_tls_close(&tls);
}

static void stall_in_handshake(void *arg)
{
    int fds[STALLS];
    for (unsigned i = 0; i < STALLS; i++) {
        fds[i] = foe_connect(&siege.at);
        foe_check(fds[i] >= 0, "the listener lives");
        stall(fds[i], arg, i % 7);
    }
    for (unsigned i = 0; i < STALLS; i++) {
        foe_check(foe_closed(fds[i]), "the deadline ends it");
        close(fds[i]);
    }
}

static bool all_stalled(void *arg)
{
    (void)arg;
    return link_stats(siege.a.link).handshakes == STALLS;
}

static void stops_in_mid_handshake(void **state)
{
    (void)state;
    struct foe foe;
    SSL_CTX *context = sites_raw_context("raw");
    foe_start(&foe, stall_in_handshake, context, -1);
    sites_wait(siege.loop, all_stalled, NULL, "all stand in their handshake");
    assert_int_equal(siege.a.refusals, 0);
    siege_c_gets_in();
    sites_wait(siege.loop, foe_ended, &foe, "the deadline ends all of them");
    foe_assert(&foe);
    assert_non_null(strstr(siege.a.refused, "no finished handshake within 5000 ms"));
    assert_int_equal(siege.a.refusals, STALLS);
    siege_c_leaves();
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

static void come_as_another(void *arg)
{
    for (unsigned i = 0; i < 40; i++) {
        struct foe_tls tls;
        int fd = foe_connect(&siege.at);
        foe_check(fd >= 0, "the listener lives");
        foe_tls_open(&tls, arg);
        (void)foe_tls_shake(&tls, fd);
        foe_check(foe_closed(fd), "a wrong identity ends its connection");
        foe_tls_close(&tls);
        close(fd);
    }
}

static void identities_that_are_none(void **state)
{
    (void)state;
    /* none; another CA; no member; no participant; expired; of another site */
    static const char *const names[] = {NULL, "stranger", "d", "main", "old", "foreign"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        SSL_CTX *context = sites_raw_context(names[i]);
        unsigned before = siege.a.refusals;
        siege_run(come_as_another, context);
        sites_wait(siege.loop, siege_calm, NULL, "all are refused");
        assert_int_equal(siege.a.refusals, before + 40);
        SSL_CTX_free(context);
    }
    assert_int_equal(siege.a.ups, 2); /* b's, and c's before it began */
    assert_int_equal(siege.raw_count, 0);
    siege_assert_unhurt();
}

/* ---- no descriptor left ---- */

static void connect_and_stay(void *arg)
{
    int fds[40];
    (void)arg;
    for (unsigned i = 0; i < 40; i++) {
        fds[i] = foe_connect(&siege.at);
        foe_check(fds[i] >= 0, "the listener lives");
    }
    for (unsigned i = 0; i < 2000 && !foe_told(); i++)
        usleep(5000);
}

static bool accept_fails(void *arg)
{
    (void)arg;
    return strstr(siege.a.refused, "cannot accept for now") != NULL;
}

static void descriptors_run_out(void **state)
{
    (void)state;
    struct foe foe;
    struct rlimit limit;
    struct rlimit few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    foe_start(&foe, connect_and_stay, NULL, -1);
    few = limit;
    few.rlim_cur = foe_descriptors() + 10;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    sites_wait(siege.loop, accept_fails, NULL, "no descriptor is left");
    siege_wait_for(&siege.turns, siege.turns + 200, "b and a go on meanwhile");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    foe_stop(&foe);
    sites_wait(siege.loop, foe_ended, &foe, "the attacker ends");
    foe_assert(&foe);
    siege_assert_unhurt();
}

int main(void)
{
#define SIEGE(test) cmocka_unit_test_setup_teardown(test, siege_open, siege_close)
    const struct CMUnitTest tests[] = {
        SIEGE(thousand_that_reset),      SIEGE(thousand_that_say_nothing),
        SIEGE(garbage_instead_of_tls),   SIEGE(stops_in_mid_handshake),
        SIEGE(identities_that_are_none), SIEGE(descriptors_run_out),
    };
    return cmocka_run_group_tests(tests, sites_make, sites_remove);
}
