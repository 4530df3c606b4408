/* SPDX-License-Identifier: Apache-2.0 */
/* The link over real sockets on loopback: what good peers get, and what bad ones get. Links share
 * one loop; raw clients are blocking and run on a thread of their own. */
#include "tests/contract/io_sites.h"

#include "common/io/clock.h"
#include "common/io/link.h"

#include <errno.h>
#include <netinet/in.h>
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

struct node {
    struct link *link;
    struct tls_identity *identity;
    unsigned ups;
    unsigned downs;
    unsigned messages;
    unsigned refusals;
    size_t peer; /* of the last callback */
    size_t size;
    uint8_t bytes[LINK_MESSAGE_MAX];
    char reason[512];
    char refused[1024];
};

static struct loop *loop;
static struct node a;
static struct node b;

static void up(void *arg, size_t peer)
{
    struct node *node = arg;
    node->ups++;
    node->peer = peer;
}

static void down(void *arg, size_t peer, const char *reason)
{
    struct node *node = arg;
    node->downs++;
    node->peer = peer;
    snprintf(node->reason, sizeof(node->reason), "%s", reason);
}

static void message(void *arg, size_t peer, const uint8_t *bytes, size_t size)
{
    struct node *node = arg;
    node->messages++;
    node->peer = peer;
    node->size = size;
    assert_true(size <= sizeof(node->bytes));
    memcpy(node->bytes, bytes, size);
}

static void refused(void *arg, const char *text)
{
    struct node *node = arg;
    node->refusals++;
    snprintf(node->refused, sizeof(node->refused), "%s", text);
}

static void node_open(struct node *node, const char *name, const char *address, uint64_t idle_us)
{
    memset(node, 0, sizeof(*node));
    const struct link_options options = {.loop = loop,
                                         .idle_us = idle_us,
                                         .seed = 1,
                                         .calls = {up, down, message, refused},
                                         .arg = node};
    node->link = sites_link(&options, name, address, &node->identity);
}

static void node_close(struct node *node)
{
    link_free(node->link);
    tls_identity_free(node->identity);
    node->link = NULL;
    node->identity = NULL;
}

static void peers(struct node *node, const char *first, const struct address *first_dial,
                  const char *second)
{
    struct link_peer list[2];
    struct err err;
    sites_peer(&list[0], first, first_dial);
    if (second != NULL)
        sites_peer(&list[1], second, NULL);
    if (link_set_peers(node->link, list, second == NULL ? 1 : 2, &err) != 0)
        fail_msg("%s", err.text);
}

static bool both_up(void *arg)
{
    (void)arg;
    return link_is_up(a.link, 0) && link_is_up(b.link, 0);
}

/* a listens for b (0) and raw (1); b dials a. */
static int pair_open(void **state)
{
    (void)state;
    loop = loop_new();
    node_open(&a, "a", "127.0.0.21:0", 0);
    node_open(&b, "b", "127.0.0.22:0", 0);
    struct address address = link_address(a.link);
    peers(&a, "b", NULL, "raw");
    peers(&b, "a", &address, NULL);
    sites_wait(loop, both_up, NULL, "a and b are linked");
    return 0;
}

static int pair_close(void **state)
{
    (void)state;
    node_close(&a);
    node_close(&b);
    loop_free(loop);
    return 0;
}

struct wanted {
    const atomic_bool *done;
    const unsigned *counter;
    unsigned value;
};

static bool reached(void *arg)
{
    struct wanted *wanted = arg;
    return *wanted->counter >= wanted->value;
}

static void wait_count(const unsigned *counter, unsigned value, const char *what)
{
    struct wanted wanted = {.counter = counter, .value = value};
    sites_wait(loop, reached, &wanted, what);
}

/* b and a still talk: nothing that happened to others hurt them. */
static void assert_pair_works(void)
{
    unsigned before = a.messages;
    unsigned before_b = b.messages;
    assert_true(both_up(NULL));
    assert_int_equal(link_send(b.link, 0, "still", 5, NULL), 0);
    wait_count(&a.messages, before + 1, "a hears b");
    assert_memory_equal(a.bytes, "still", 5);
    assert_int_equal(link_send(a.link, 0, "here", 4, NULL), 0);
    wait_count(&b.messages, before_b + 1, "b hears a");
    assert_memory_equal(b.bytes, "here", 4);
}

/* ---- raw clients ---- */

struct raw {
    const char *name;    /* whose certificate; NULL: none */
    int version;         /* 0: any */
    const uint8_t *send; /* after the handshake */
    size_t send_size;
    bool plain;      /* no TLS: send as it is */
    bool stay;       /* keep the connection until told to end */
    size_t expect;   /* read this many bytes more, after the hello of 8 */
    uint8_t got[64]; /* what came in one SSL_read, after the hello */
    int got_size;
    uint8_t hello[8];
    char error[256];
    struct address to;
    atomic_bool ready; /* has sent, and read what was expected but for `got` */
    atomic_bool end;
    atomic_bool done;
    pthread_t thread;
};

static int raw_connect(const struct address *to)
{
    const struct timeval limit = {.tv_sec = 4};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &to->any, to->size) != 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fd;
}

static void raw_tls(struct raw *raw, int fd)
{
    SSL_CTX *context = sites_raw_context(raw->name);
    if (raw->version != 0)
        SSL_CTX_set_max_proto_version(context, raw->version);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    int result = SSL_connect(ssl);
    if (result == 1 && raw->send_size > 0)
        result = SSL_write(ssl, raw->send, (int)raw->send_size);
    if (result > 0)
        result = SSL_read(ssl, raw->hello, sizeof(raw->hello));
    atomic_store(&raw->ready, true);
    if (result > 0 && raw->expect > 0) {
        raw->got_size = SSL_read(ssl, raw->got, sizeof(raw->got));
        result = raw->got_size;
    }
    tls_failure(NULL, result > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, result), raw->error,
                sizeof(raw->error));
    uint64_t until = clock_mono_us() + 8000000;
    while (raw->stay && !atomic_load(&raw->end) && clock_mono_us() < until)
        usleep(1000);
    SSL_free(ssl);
    SSL_CTX_free(context);
}

static void *raw_run(void *arg)
{
    struct raw *raw = arg;
    int fd = raw_connect(&raw->to);
    if (raw->plain) {
        char one;
        ssize_t put = send(fd, raw->send, raw->send_size, MSG_NOSIGNAL);
        atomic_store(&raw->ready, true);
        while (put >= 0 && recv(fd, &one, 1, 0) > 0)
            continue;
    } else {
        raw_tls(raw, fd);
    }
    close(fd);
    atomic_store(&raw->done, true);
    return NULL;
}

static void raw_start(struct raw *raw, const struct node *to)
{
    raw->to = link_address(to->link);
    assert_int_equal(pthread_create(&raw->thread, NULL, raw_run, raw), 0);
}

static bool raw_is_done(void *arg)
{
    return atomic_load(&((struct raw *)arg)->done);
}

static bool raw_is_ready(void *arg)
{
    return atomic_load(&((struct raw *)arg)->ready);
}

static void raw_end(struct raw *raw)
{
    atomic_store(&raw->end, true);
    sites_wait(loop, raw_is_done, raw, "the raw client ends");
    pthread_join(raw->thread, NULL);
}

/* ---- tests ---- */

static void messages_pass_both_ways(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 255, 16376, 16377, 65535, 65536};
    static uint8_t bytes[LINK_MESSAGE_MAX];
    struct err err;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned before = a.messages;
        assert_int_equal(link_send(b.link, 0, bytes, sizes[i], &err), 0);
        wait_count(&a.messages, before + 1, "a message");
        assert_int_equal(a.size, sizes[i]);
        assert_memory_equal(a.bytes, bytes, sizes[i]);
    }
    /* In order, many at once, both ways. */
    unsigned before_a = a.messages;
    unsigned before_b = b.messages;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(link_send(b.link, 0, &i, sizeof(i), &err), 0);
        assert_int_equal(link_send(a.link, 0, &i, sizeof(i), &err), 0);
    }
    wait_count(&a.messages, before_a + 1000, "1000 messages at a");
    wait_count(&b.messages, before_b + 1000, "1000 messages at b");
    unsigned last;
    memcpy(&last, a.bytes, sizeof(last));
    assert_int_equal(last, 999);
    assert_int_equal(link_stats(a.link).live, 1);
    assert_int_equal(a.downs + b.downs + a.refusals + b.refusals, 0);
    assert_int_equal(link_send(a.link, 1, "x", 1, &err), -1); /* raw is not there */
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
}

static void frames_are_exact_and_one_record(void **state)
{
    (void)state;
    static const uint8_t send[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00, 0x00, 0x00,
                                   0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 'r',  'a',  'w'};
    static const uint8_t want[] = {0, 0, 0, 0, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    struct raw raw = {
        .name = "raw", .send = send, .send_size = sizeof(send), .expect = 1, .stay = true};
    raw_start(&raw, &a);
    wait_count(&a.messages, 1, "raw's message");
    assert_int_equal(a.peer, 1);
    assert_int_equal(a.size, 3);
    assert_memory_equal(a.bytes, "raw", 3);
    assert_int_equal(link_send(a.link, 1, "hello", 5, NULL), 0);
    raw_end(&raw);
    assert_memory_equal(raw.hello, send, 8);
    /* header and body came by one SSL_read, which returns one record at most */
    assert_int_equal(raw.got_size, (int)sizeof(want));
    assert_memory_equal(raw.got, want, sizeof(want));
    assert_pair_works();
}

static void bad_identities_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int version;
        const char *want; /* in the text at the accepting side */
    } rows[] = {
        {"stranger", 0, "the peer's certificate is not good: "},
        {NULL, 0, "peer did not return a certificate"},
        {"c", 0, "spiffe://lab/participant/c is not one that may be here"},
        {"two", 0, "more than one URI name"},
        {"old", 0, "certificate has expired"},
        {"main", 0, "spiffe://lab/coordinator/main is not one that may be here"},
        {"foreign", 0, "is of another site than \"lab\""},
        {"raw", TLS1_2_VERSION, "unsupported protocol"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct raw raw = {.name = rows[i].name, .version = rows[i].version};
        unsigned before = a.refusals;
        raw_start(&raw, &a);
        wait_count(&a.refusals, before + 1, "a refusal");
        raw_end(&raw);
        if (strstr(a.refused, rows[i].want) == NULL)
            fail_msg("row %zu: \"%s\" not in \"%s\"", i, rows[i].want, a.refused);
        assert_non_null(strstr(a.refused, "refused 127.0.0.1:"));
        /* and whoever came learned that he was refused, not just that it ended */
        if (strstr(raw.error, "alert") == NULL)
            fail_msg("row %zu: the client saw \"%s\"", i, raw.error);
        assert_int_equal(a.refusals, before + 1);
        assert_int_equal(link_stats(a.link).handshakes, 0);
        assert_pair_works();
    }
    assert_int_equal(a.ups, 1);
    assert_int_equal(a.downs, 0);
}

static bool c_refused(void *arg)
{
    struct node *c = arg;
    return c->refusals > 0;
}

static void dialing_the_wrong_one_is_refused(void **state)
{
    (void)state;
    struct node *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    node_open(c, "c", "127.0.0.23:0", 0);
    struct address address = link_address(a.link);
    struct link_peer list[2];
    struct err err;
    sites_peer(&list[0], "d", &address); /* but a is there */
    sites_peer(&list[1], "a", NULL);     /* a may be here; that must not help */
    assert_int_equal(link_set_peers(c->link, list, 2, &err), 0);
    sites_wait(loop, c_refused, c, "c sees that it is not d");
    assert_non_null(
        strstr(c->refused, "no connection to spiffe://lab/participant/d at 127.0.0.21:"));
    assert_non_null(strstr(c->refused, "spiffe://lab/participant/a is not one that may be here"));
    assert_int_equal(c->ups, 0);
    node_close(c);
    free(c);
    assert_pair_works();
}

static void hostile_bytes_end_one_connection(void **state)
{
    (void)state;
    static const uint8_t bad_hello[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x10, 0x00, 0x00};
    static const uint8_t oversized[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00,
                                        0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01};
    static const uint8_t empty[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00,
                                    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    static const uint8_t http[] = "GET / HTTP/1.1\r\n\r\n";
    static const uint8_t zeroes[64] = {0};
    static const struct {
        const uint8_t *bytes;
        size_t size;
        bool plain;
        bool live; /* ended after its hello: down, not refused */
        const char *want;
    } rows[] = {
        {http, sizeof(http) - 1, true, false, "http request"},
        {zeroes, sizeof(zeroes), true, false, "TLS: "},
        {bad_hello, sizeof(bad_hello), false, false, "is not that of SP BUS v0"},
        {http, sizeof(http) - 1, false, false, "is not that of SP BUS v0"},
        {oversized, sizeof(oversized), false, true, "a message of 65537 bytes; 1 to 65536"},
        {empty, sizeof(empty), false, true, "a message of 0 bytes"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct raw raw = {.name = "raw",
                          .plain = rows[i].plain,
                          .send = rows[i].bytes,
                          .send_size = rows[i].size};
        unsigned refusals = a.refusals;
        unsigned downs = a.downs;
        raw_start(&raw, &a);
        if (rows[i].live)
            wait_count(&a.downs, downs + 1, "a down");
        else
            wait_count(&a.refusals, refusals + 1, "a refusal");
        raw_end(&raw);
        const char *text = rows[i].live ? a.reason : a.refused;
        if (strstr(text, rows[i].want) == NULL)
            fail_msg("row %zu: \"%s\" not in \"%s\"", i, rows[i].want, text);
        assert_pair_works();
    }
    assert_int_equal(a.messages, 6); /* only b's, of assert_pair_works() */
}

/* A peer that says hello, half a frame, and then nothing, while its kernel answers. */
static void silent_peers_are_dropped(void **state)
{
    (void)state;
    static const uint8_t half[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00, 0x00, 0x00,
                                   0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 'h',  'a',  'l',  'f'};
    struct node *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    node_open(c, "c", "127.0.0.23:0", 250000);
    peers(c, "raw", NULL, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct raw raw = {
            .name = "raw", .send = half, .send_size = i == 0 ? 8 : sizeof(half), .stay = true};
        raw_start(&raw, c);
        wait_count(&c->ups, i + 1, "raw is up");
        uint64_t from = clock_mono_us();
        wait_count(&c->downs, i + 1, "raw is dropped");
        uint64_t took = clock_mono_us() - from;
        assert_true(took >= 200000 && took < 2000000);
        assert_string_equal(c->reason, "nothing was heard for 250 ms");
        raw_end(&raw);
    }
    assert_int_equal(c->messages, 0);
    node_close(c);
    free(c);
}

static void peer_that_restarts_is_dialed_again(void **state)
{
    (void)state;
    struct err err;
    struct address address = link_address(a.link);
    char text[ADDRESS_TEXT_MAX];
    node_close(&a);
    wait_count(&b.downs, 1, "b sees a go");
    wait_count(&b.refusals, 2, "b dials in vain, twice");
    assert_non_null(strstr(b.refused, "Connection refused"));
    node_open(&a, "a", address_text(&address, text), 0);
    peers(&a, "b", NULL, "raw");
    sites_wait(loop, both_up, NULL, "a and b are linked again");
    assert_int_equal(b.ups, 2);
    assert_int_equal(link_send(b.link, 0, "x", 1, &err), 0);
    assert_pair_works();
}

static void full_queue_ends_the_connection(void **state)
{
    (void)state;
    static const uint8_t hello[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00};
    static const uint8_t bytes[LINK_MESSAGE_MAX];
    struct raw raw = {.name = "raw", .send = hello, .send_size = sizeof(hello), .stay = true};
    struct err err = {0};
    raw_start(&raw, &a);
    wait_count(&a.ups, 2, "raw is up");
    sites_wait(loop, raw_is_ready, &raw, "raw has read the hello and reads no more");
    unsigned sent = 0;
    while (sent < 2000 && link_send(a.link, 1, bytes, sizeof(bytes), &err) == 0)
        sent++;
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_true(sent >= LINK_QUEUE_BYTES / LINK_MESSAGE_MAX - 1 && sent < 2000);
    assert_int_equal(a.downs, 0); /* not from inside link_send() */
    assert_false(link_is_up(a.link, 1));
    assert_int_equal(link_send(a.link, 1, bytes, 1, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    wait_count(&a.downs, 1, "it went down");
    assert_int_equal(a.peer, 1);
    assert_non_null(strstr(a.reason, "wait to be sent"));
    raw_end(&raw);
    assert_pair_works();
}

static bool all_accepted(void *arg)
{
    unsigned *from = arg;
    struct link_stats stats = link_stats(a.link);
    return stats.accepted >= *from && stats.handshakes == 0;
}

static void connections_that_reset_do_not_hurt_the_listener(void **state)
{
    (void)state;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct address address = link_address(a.link);
    for (unsigned i = 0; i < 200; i++) {
        int fd = raw_connect(&address);
        if (i % 2 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        else
            shutdown(fd, SHUT_WR);
        close(fd);
    }
    unsigned want = 150; /* the kernel may swallow some that were reset before accept */
    sites_wait(loop, all_accepted, &want, "they came and went");
    assert_pair_works();
    struct raw raw = {.name = "raw"}; /* and a new one gets in */
    raw_start(&raw, &a);
    raw_end(&raw);
    assert_memory_equal(raw.hello, "\x00\x53\x50\x00\x00\x70\x00\x00", 8);
}

static bool no_handshakes(void *arg)
{
    (void)arg;
    return link_stats(a.link).handshakes == 0;
}

static bool handshakes_full(void *arg)
{
    unsigned *want = arg;
    return link_stats(a.link).accepted >= *want;
}

static void silent_connections_are_bounded_in_number_and_time(void **state)
{
    (void)state;
    int fds[LINK_HANDSHAKES_MAX + 6];
    struct address address = link_address(a.link);
    unsigned want = 1 + sizeof(fds) / sizeof(fds[0]);
    uint64_t from = clock_mono_us();
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        fds[i] = raw_connect(&address);
    sites_wait(loop, handshakes_full, &want, "all are accepted");
    assert_int_equal(link_stats(a.link).handshakes, LINK_HANDSHAKES_MAX);
    assert_int_equal(a.refusals, 6);
    assert_non_null(strstr(a.refused, "this one was the oldest"));
    char one;
    assert_int_equal(recv(fds[0], &one, 1, MSG_DONTWAIT), 0); /* the first was closed */
    assert_int_equal(recv(fds[6], &one, 1, MSG_DONTWAIT), -1);
    struct raw raw = {.name = "raw"}; /* a good one gets in nevertheless */
    raw_start(&raw, &a);
    raw_end(&raw);
    assert_memory_equal(raw.hello, "\x00\x53\x50\x00\x00\x70\x00\x00", 8);
    while (clock_mono_us() - from < 6000000 && !no_handshakes(NULL)) {
        unsigned before = b.messages;
        assert_int_equal(link_send(b.link, 0, "beat", 4, NULL), 0);
        assert_int_equal(link_send(a.link, 0, "beat", 4, NULL), 0);
        wait_count(&b.messages, before + 1, "a heartbeat");
    }
    assert_true(no_handshakes(NULL));
    assert_non_null(strstr(a.refused, "no finished handshake within 5000 ms"));
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close(fds[i]);
    assert_pair_works();
}

static void newer_connection_of_a_peer_replaces(void **state)
{
    (void)state;
    static const uint8_t hello[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00};
    struct raw first = {.name = "raw", .send = hello, .send_size = 8, .stay = true};
    struct raw second = {.name = "raw", .send = hello, .send_size = 8, .stay = true, .expect = 1};
    raw_start(&first, &a);
    wait_count(&a.ups, 2, "the first is up");
    raw_start(&second, &a);
    wait_count(&a.ups, 3, "the second is up");
    assert_int_equal(a.downs, 1);
    assert_non_null(strstr(a.reason, "replaced by a newer connection"));
    assert_int_equal(link_send(a.link, 1, "new", 3, NULL), 0);
    raw_end(&second);
    assert_int_equal(second.got_size, 11);
    raw_end(&first);
    assert_pair_works();
}

static void peers_change_while_linked(void **state)
{
    (void)state;
    struct err err;
    struct link_peer list[2];
    sites_peer(&list[0], "c", NULL);
    sites_peer(&list[1], "b", NULL);
    assert_int_equal(link_set_peers(a.link, list, 2, &err), 0);
    assert_int_equal(a.downs, 0);
    assert_true(link_is_up(a.link, 1)); /* b has another index, the same connection */
    assert_int_equal(link_send(a.link, 1, "moved", 5, &err), 0);
    wait_count(&b.messages, 1, "b hears a");
    assert_int_equal(link_send(b.link, 0, "ok", 2, &err), 0);
    wait_count(&a.messages, 1, "a hears b");
    assert_int_equal(a.peer, 1);
    assert_int_equal(link_set_peers(a.link, list, 1, &err), 0); /* without b */
    assert_int_equal(a.downs, 1);
    assert_int_equal(a.peer, 1);
    wait_count(&b.downs, 1, "b is cut off");
    wait_count(&a.refusals, 1, "and refused when it comes again");
    assert_non_null(strstr(a.refused, "spiffe://lab/participant/b is not one that may be here"));
    sites_peer(&list[0], "b", NULL);
    assert_int_equal(link_set_peers(a.link, list, 1, &err), 0);
    sites_wait(loop, both_up, NULL, "b may come again");

    sites_peer(&list[1], "b", NULL);
    assert_int_equal(link_set_peers(a.link, list, 2, &err), -1);
    assert_non_null(strstr(err.text, "named twice"));
    sites_peer(&list[1], "a", NULL);
    assert_int_equal(link_set_peers(a.link, list, 2, &err), -1);
    assert_non_null(strstr(err.text, "this participant itself"));
    snprintf(list[1].uri, sizeof(list[1].uri), "spiffe://lab/coordinator/main");
    assert_int_equal(link_set_peers(a.link, list, 2, &err), -1);
    assert_non_null(strstr(err.text, "not a participant"));
    assert_true(both_up(NULL)); /* a refused change changes nothing */
}

static void address_in_use_is_said(void **state)
{
    (void)state;
    struct err err;
    struct link *link = NULL;
    struct link_options options = {.loop = loop,
                                   .identity = a.identity,
                                   .listen = link_address(a.link),
                                   .calls = {up, down, message, NULL},
                                   .arg = &b};
    assert_int_equal(link_new(&options, &link, &err), -1);
    assert_non_null(strstr(err.text, "cannot listen on 127.0.0.21:"));
    assert_non_null(strstr(err.text, "in use"));
    assert_null(link);
}

int main(void)
{
#define PAIR(test) cmocka_unit_test_setup_teardown(test, pair_open, pair_close)
    const struct CMUnitTest tests[] = {
        PAIR(messages_pass_both_ways),
        PAIR(frames_are_exact_and_one_record),
        PAIR(bad_identities_are_refused),
        PAIR(dialing_the_wrong_one_is_refused),
        PAIR(hostile_bytes_end_one_connection),
        PAIR(silent_peers_are_dropped),
        PAIR(peer_that_restarts_is_dialed_again),
        PAIR(full_queue_ends_the_connection),
        PAIR(connections_that_reset_do_not_hurt_the_listener),
        PAIR(silent_connections_are_bounded_in_number_and_time),
        PAIR(newer_connection_of_a_peer_replaces),
        PAIR(peers_change_while_linked),
        PAIR(address_in_use_is_said),
    };
    return cmocka_run_group_tests(tests, sites_make, sites_remove);
}
