/* SPDX-License-Identifier: Apache-2.0 */
/* The link under a member that floods it, and under a session that was recorded. */
#include "tests/contract/io_sites.h"
#include "tests/contract/siege.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- an authenticated member ---- */

static const uint8_t hello[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00};

static int member_open(struct foe_tls *tls, SSL_CTX *context)
{
    int fd = foe_connect(&siege.at);
    foe_check(fd >= 0, "the listener lives");
    foe_tls_open(tls, context);
    foe_check(foe_tls_shake(tls, fd), "the member's handshake");
    foe_tls_send(tls, fd, hello, sizeof(hello));
    return fd;
}

#define FLOOD_LARGE 400U /* of the largest size: 26 MB */
#define FLOOD_SMALL 300U /* records, of 1,800 messages of one byte each */
#define FLOOD_PACK  1800U

static void flood_messages(void *arg)
{
    static uint8_t large[8 + LINK_MESSAGE_MAX] = {0, 0, 0, 0, 0, 1, 0, 0};
    static uint8_t small[FLOOD_PACK * 9];
    struct foe_tls tls;
    int fd = member_open(&tls, arg);
    for (unsigned i = 0; i < FLOOD_PACK; i++)
        small[i * 9 + 7] = 1;
    for (unsigned i = 0; i < FLOOD_LARGE; i++) {
        for (size_t k = 0; k < sizeof(large); k += 16384) {
            size_t left = sizeof(large) - k;
            foe_tls_send(&tls, fd, large + k, left < 16384 ? left : 16384);
        }
    }
    for (unsigned i = 0; i < FLOOD_SMALL; i++)
        foe_tls_send(&tls, fd, small, sizeof(small));
    shutdown(fd, SHUT_WR);
    foe_check(foe_closed(fd), "all was read");
    foe_tls_close(&tls);
}

static void messages_faster_than_read(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    uint64_t before = siege.turns;
    siege_run(flood_messages, context);
    assert_true(siege.turns > before + 5); /* the flood has not the loop for itself */
    sites_wait(siege.loop, siege_calm, NULL, "the flood is over");
    assert_int_equal(siege.raw_count, FLOOD_LARGE + FLOOD_SMALL * FLOOD_PACK);
    assert_int_equal(siege.raw_bytes, FLOOD_LARGE * LINK_MESSAGE_MAX + FLOOD_SMALL * FLOOD_PACK);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

/* It takes none of the answers. */
static void answers_not_read(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    siege.raw_echo = true;
    siege_run(flood_messages, context);
    sites_wait(siege.loop, siege_calm, NULL, "it is cut off");
    assert_non_null(strstr(siege.a.reason, "wait to be sent"));
    assert_true(siege.raw_bytes < FLOOD_LARGE * LINK_MESSAGE_MAX);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

static void send_lengths(void *arg)
{
    static const uint8_t heads[][8] = {
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 0, 0, 0, 0, 1, 0, 1},
        {0, 0, 0, 1, 0, 0, 0, 1},
        {0x80, 0, 0, 0, 0, 0, 0, 1},
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    for (unsigned i = 0; i < 50; i++) {
        struct foe_tls tls;
        int fd = member_open(&tls, arg);
        foe_tls_send(&tls, fd, heads[i % 5], sizeof(heads[0]));
        foe_check(foe_closed(fd), "a wrong length ends its connection");
        foe_tls_close(&tls);
        close(fd);
    }
}

static void lengths_that_are_none(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    unsigned before = siege.a.downs;
    siege_run(send_lengths, context);
    sites_wait(siege.loop, siege_calm, NULL, "all are cut off");
    assert_int_equal(siege.a.downs, before + 50);
    assert_non_null(strstr(siege.a.reason, "1 to 65536 are taken"));
    assert_int_equal(siege.raw_count, 0);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

static void send_split(void *arg)
{
    static const uint8_t frame[] = {0, 0, 0, 0, 0, 0, 0, 4, 's', 'p', 'l', 't'};
    struct foe_tls tls;
    int fd = foe_connect(&siege.at);
    foe_check(fd >= 0, "the listener lives");
    foe_tls_open(&tls, arg);
    foe_check(foe_tls_shake(&tls, fd), "the member's handshake");
    for (size_t i = 0; i < sizeof(hello); i++)
        foe_tls_send(&tls, fd, &hello[i], 1);
    for (unsigned i = 0; i < 500; i++) {
        for (size_t k = 0; k < sizeof(frame); k++)
            foe_tls_send(&tls, fd, &frame[k], 1);
    }
    foe_tls_send(&tls, fd, frame, sizeof(frame) - 1); /* and one that never ends */
    shutdown(fd, SHUT_WR);
    foe_check(foe_closed(fd), "all was read");
    foe_tls_close(&tls);
}

static void bytes_one_by_one(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    siege_run(send_split, context);
    sites_wait(siege.loop, siege_calm, NULL, "it is over");
    assert_int_equal(siege.raw_count, 500);
    assert_int_equal(siege.raw_bytes, 2000);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

#define RETURNS 300U

static void come_again(void *arg)
{
    struct foe_tls tls[2];
    int fds[2] = {-1, -1};
    for (unsigned i = 0; i < RETURNS; i++) {
        unsigned k = i % 2;
        if (fds[k] >= 0) {
            foe_check(foe_closed(fds[k]), "the newer one replaces it");
            foe_tls_close(&tls[k]);
            close(fds[k]);
        }
        fds[k] = member_open(&tls[k], arg);
    }
}

static void a_member_that_comes_again_and_again(void **state)
{
    (void)state;
    SSL_CTX *context = sites_raw_context("raw");
    unsigned ups = siege.a.ups;
    unsigned downs = siege.a.downs;
    siege_run(come_again, context);
    sites_wait(siege.loop, siege_calm, NULL, "the last has gone");
    assert_int_equal(siege.a.ups, ups + RETURNS);
    assert_int_equal(siege.a.downs, downs + RETURNS);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

#define UPDATES 60000U

/* The hello, then records that carry nothing but new keys, all at once. */
static void update_keys(void *arg)
{
    struct foe_tls tls;
    size_t room = UPDATES * 64U;
    uint8_t *bytes = malloc(room);
    int fd = foe_connect(&siege.at);
    foe_check(fd >= 0 && bytes != NULL, "a connection and memory");
    foe_tls_open(&tls, arg);
    foe_check(foe_tls_shake(&tls, fd), "the member's handshake");
    foe_check(SSL_write(tls.ssl, hello, sizeof(hello)) == sizeof(hello), "a hello");
    for (unsigned i = 0; i < UPDATES; i++)
        foe_check(SSL_key_update(tls.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
                      SSL_do_handshake(tls.ssl) == 1,
                  "a key update");
    foe_send(fd, bytes, foe_tls_take(&tls, bytes, room));
    shutdown(fd, SHUT_WR);
    foe_check(foe_closed(fd), "all was read");
    foe_tls_close(&tls);
}

static uint64_t turns_up;   /* turns when raw came up */
static uint64_t turns_down; /* and when it went */

static bool raw_is_up(void *arg)
{
    (void)arg;
    turns_up = siege.turns;
    return link_is_up(siege.a.link, SIEGE_RAW);
}

static bool raw_is_down(void *arg)
{
    (void)arg;
    turns_down = siege.turns;
    return !link_is_up(siege.a.link, SIEGE_RAW);
}

static void keys_without_end(void **state)
{
    (void)state;
    struct foe foe;
    SSL_CTX *context = sites_raw_context("raw");
    foe_start(&foe, update_keys, context, -1);
    sites_wait(siege.loop, raw_is_up, NULL, "the member is up");
    sites_wait(siege.loop, raw_is_down, NULL, "the flood is over");
    sites_wait(siege.loop, foe_ended, &foe, "the attacker ends");
    foe_assert(&foe);
    /* One record is not a reason to stay with this connection: the loop comes round to others. */
    if (turns_down - turns_up < UPDATES / 100)
        fail_msg("%u turns in %u updates", (unsigned)(turns_down - turns_up), UPDATES);
    SSL_CTX_free(context);
    siege_assert_unhurt();
}

/* ---- a recorded session ---- */

#define RECORD_MAX 65536U

struct record {
    uint8_t bytes[RECORD_MAX];
    size_t size;
};

static bool relay_pass(int from, int to, struct record *record)
{
    uint8_t *end = record->bytes + record->size;
    ssize_t got = recv(from, end, RECORD_MAX - record->size, 0);
    if (got <= 0)
        return false;
    record->size += (size_t)got;
    foe_send(to, end, (size_t)got);
    return true;
}

/* Passes one session of c with a on and keeps its bytes, then plays a's part to c, who dials again,
 * and c's part to a: at once, and in the pieces of an answer each. */
static void relay_and_replay(void *arg)
{
    static struct record near; /* what c said */
    static struct record far;
    (void)arg;
    int client = accept(FOE_LISTEN_FD, NULL, NULL);
    int server = foe_connect(&siege.at);
    foe_check(client >= 0 && server >= 0, "both ends of the relay");
    while (!foe_told()) {
        struct pollfd fds[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
        (void)poll(fds, 2, 5);
        foe_check(fds[0].revents == 0 || relay_pass(client, server, &near), "c's bytes");
        foe_check(fds[1].revents == 0 || relay_pass(server, client, &far), "a's bytes");
    }
    close(server);
    close(client);
    foe_check(near.size > 500 && far.size > 500, "a session was recorded");
    client = accept(FOE_LISTEN_FD, NULL, NULL);
    foe_check(client >= 0, "c dials again");
    foe_send(client, far.bytes, far.size);
    foe_check(foe_closed(client), "c refuses a's bytes of before");
    close(client);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t answer[FOE_FLIGHT];
        size_t first = i % 2 == 0 ? near.size : 5U + near.bytes[3] * 256U + near.bytes[4];
        server = foe_connect(&siege.at);
        foe_check(server >= 0, "the listener lives");
        foe_send(server, near.bytes, first);
        if (first < near.size) {
            foe_check(recv(server, answer, sizeof(answer), 0) > 0, "a's answer");
            foe_send(server, near.bytes + first, near.size - first);
        }
        foe_check(foe_closed(server), "a refuses c's bytes of before");
        close(server);
    }
}

static void replay_of_a_session(void **state)
{
    (void)state;
    struct foe foe;
    struct address relay;
    struct err err;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(address_parse("127.0.0.66:0", true, &relay, &err), 0);
    assert_int_equal(bind(listener, &relay.any, relay.size), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, &relay.any, &relay.size), 0);
    foe_start(&foe, relay_and_replay, NULL, listener);
    close(listener);
    siege_open_node(&siege.c, "c", "127.0.0.23:0");
    siege_dials(&siege.c, &relay);
    sites_wait(siege.loop, siege_c_is_up, NULL, "c is linked through the relay");
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(link_send(siege.c.link, 0, "once", 4, NULL), 0);
    siege_wait_for(&siege.c_count, 10, "c's messages");
    unsigned ups = siege.a.ups;
    foe_stop(&foe);
    sites_wait(siege.loop, foe_ended, &foe, "all was played back");
    foe_assert(&foe);
    assert_int_equal(siege.c_count, 10);
    assert_int_equal(siege.a.ups, ups);
    assert_int_equal(siege.c.ups, 1);
    assert_true(siege.c.refusals > 0);
    assert_true(siege.a.refusals >= 20);
    siege_c_leaves();
    siege_assert_unhurt();
}

int main(void)
{
#define SIEGE(test) cmocka_unit_test_setup_teardown(test, siege_open, siege_close)
    const struct CMUnitTest tests[] = {
        SIEGE(messages_faster_than_read), SIEGE(answers_not_read),
        SIEGE(lengths_that_are_none),     SIEGE(bytes_one_by_one),
        SIEGE(keys_without_end),          SIEGE(a_member_that_comes_again_and_again),
        SIEGE(replay_of_a_session),
    };
    return cmocka_run_group_tests(tests, sites_make, sites_remove);
}
