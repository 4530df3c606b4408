/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th send fails, for n = 0, 1, 2, ... until a run meets none: in the control connection to a
 * tap, in the link between daemons (allocations too: a connection that gets no memory goes, the
 * daemon does not), and between a participant's uplink and a real coordinator, where a proxy cuts
 * after so many bytes each way. What was not said to have gone is not there twice, what was said to
 * be stored is stored, and the next one gets through. (The tap's side: test_fail_send_tap.c.) */
#include "tests/contract/cut_proxy.h"
#include "tests/contract/far_rig.h"
#include "tests/contract/io_sites.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/link.h"
#include "coordinator/store/manifest.h"
#include "participant/tapclient.h"
#include "participant/uplink.h"

/* ---- the layer between ---- */

enum layer { LAYER_SEND, LAYER_SSL, LAYER_MEMORY };

static enum layer layer;
static long left = -1; /* calls of that layer until one fails; negative: none does */
static int fault;      /* an errno; 0: short, or for SSL: not now */
static int made_up;    /* what SSL_get_error() says of it; 0: what it says itself */

static bool fails(enum layer in)
{
    return layer == in && left >= 0 && left-- == 0;
}

ssize_t __real_send(int fd, const void *bytes, size_t size, int flags);
int __real_SSL_write(SSL *ssl, const void *bytes, int size);
int __real_SSL_get_error(const SSL *ssl, int result);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
int __wrap_SSL_write(SSL *ssl, const void *bytes, int size);
int __wrap_SSL_get_error(const SSL *ssl, int result);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    if (!fails(LAYER_SEND)) {
        return __real_send(fd, bytes, size, flags);
    }
    errno = fault;
    return fault == 0 ? (ssize_t)size / 2 : -1;
}

int __wrap_SSL_write(SSL *ssl, const void *bytes, int size)
{
    if (!fails(LAYER_SSL)) {
        return __real_SSL_write(ssl, bytes, size);
    }
    errno = fault;
    made_up = fault == 0 ? SSL_ERROR_WANT_WRITE : SSL_ERROR_SYSCALL;
    return -1;
}

int __wrap_SSL_get_error(const SSL *ssl, int result)
{
    int said = made_up;
    made_up = 0;
    return said != 0 ? said : __real_SSL_get_error(ssl, result);
}

void *__wrap_malloc(size_t size)
{
    return fails(LAYER_MEMORY) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(LAYER_MEMORY) ? NULL : __real_calloc(count, size);
}

static struct loop *loop;

/* ---- tapclient ---- */

static char path[64];
static int listener;
static int tap_fd;
static struct tapclient *client;
static unsigned ups;
static unsigned losses;
static unsigned losses_up;

static void on_welcome(void *arg, const struct tapctl_welcome *welcome, const int *fds)
{
    (void)arg;
    for (unsigned i = 0; i <= welcome->ring_files; i++) {
        close(fds[i]);
    }
    ups++;
}

static void on_message(void *arg, const struct tapctl *message)
{
    (void)arg;
    (void)message;
}

static void on_lost(void *arg, bool was_up, const char *reason)
{
    (void)arg;
    assert_true(reason[0] != '\0');
    losses++;
    losses_up += was_up;
}

static void give_welcome(void)
{
    struct tapctl m = {.type = TAPCTL_WELCOME,
                       .serial = 1,
                       .welcome = {.stream = {{9}},
                                   .timeline = {{2}},
                                   .disk = {{3}},
                                   .incarnation = 4,
                                   .size = 1 << 20,
                                   .block_size = 512,
                                   .ring_files = 2,
                                   .ring_file_size = 1 << 20,
                                   .tail_lsn = 1,
                                   .tail_position = 512,
                                   .next_lsn = 2,
                                   .whole = true,
                                   .logging = true}};
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control;
    int fds[3];
    struct iovec part = {.iov_base = bytes, .iov_len = tapctl_encode(&m, bytes)};
    struct msghdr to = {.msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof control.bytes};
    memset(&control, 0, sizeof control);
    for (unsigned k = 0; k < 3; k++) {
        fds[k] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&to);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    assert_true(sendmsg(tap_fd, &to, MSG_NOSIGNAL) > 0);
    for (unsigned k = 0; k < 3; k++) {
        close(fds[k]);
    }
}

/* The tap's side, without waiting: takes connections, answers HELLO; the SYNCs that came. */
static uint64_t heard[16];
static unsigned heard_count;

static void play_tap(void)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl m;
    struct err err;
    if (tap_fd < 0) {
        tap_fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    ssize_t got = tap_fd < 0 ? -1 : recv(tap_fd, bytes, sizeof bytes, 0);
    if (tap_fd >= 0 && (got == 0 || (got < 0 && errno != EAGAIN))) {
        close(tap_fd);
        tap_fd = -1;
    } else if (got > 0) {
        assert_int_equal(tapctl_decode(bytes, (size_t)got, &m, &err), 0);
        if (m.type == TAPCTL_HELLO) {
            give_welcome();
        } else if (m.type == TAPCTL_SYNC) {
            heard[heard_count++ % 16] = m.lsn.lsn;
        }
    }
}

static bool is_up(void *arg)
{
    (void)arg;
    play_tap();
    return tapclient_is_up(client);
}

static bool heard_last(void *arg)
{
    play_tap();
    return heard_count > 0 && heard[heard_count - 1] == *(uint64_t *)arg;
}

/* Whether the n-th was there to fail. */
static bool tapclient_run(long n)
{
    static const struct tapclient_calls calls = {on_welcome, on_message, on_lost};
    uint64_t sent[16];
    unsigned sent_count = 0;
    ups = losses = losses_up = heard_count = 0;
    tap_fd = -1;
    layer = LAYER_SEND;
    left = n;
    client = tapclient_new(loop, path, &calls, NULL);
    sites_wait(loop, is_up, NULL, "a welcome");
    for (uint64_t lsn = 1; lsn <= 4; lsn++) {
        struct tapctl sync = {.type = TAPCTL_SYNC, .lsn = {lsn}};
        if (tapclient_send(client, &sync)) {
            sent[sent_count++] = lsn;
            sites_wait(loop, heard_last, &lsn, "what was sent");
        } else {
            assert_false(tapclient_is_up(client));
            sites_wait(loop, is_up, NULL, "a welcome again");
        }
    }
    bool met = left < 0;
    left = -1;
    uint64_t last = 5;
    struct tapctl sync = {.type = TAPCTL_SYNC, .lsn = {last}};
    sites_wait(loop, is_up, NULL, "it is up");
    assert_true(tapclient_send(client, &sync));
    sites_wait(loop, heard_last, &last, "the last");
    sent[sent_count++] = last;
    assert_int_equal(heard_count, sent_count); /* none twice, none that was said to have failed */
    assert_memory_equal(heard, sent, sent_count * sizeof sent[0]);
    assert_int_equal(losses, met ? 1 : 0);
    assert_int_equal(ups, 1 + losses_up); /* told once, of each that was up */
    tapclient_free(client);
    close(tap_fd);
    return met;
}

static void a_tap_that_cannot_be_told(void **state)
{
    static const int faults[] = {EAGAIN, EPIPE, ENOBUFS, 0};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)state;
    loop = loop_new();
    snprintf(path, sizeof path, "/tmp/tidemark-failsend-%d", getpid());
    strcpy(at.sun_path, path);
    unlink(path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 4), 0);
    for (unsigned k = 0; k < 4; k++) {
        long n = 0;
        fault = faults[k];
        while (tapclient_run(n)) {
            n++;
            assert_true(n < 100);
        }
        assert_true(n >= 5); /* HELLO and the four; STATUS too */
    }
    close(listener);
    unlink(path);
    loop_free(loop);
}

/* ---- the link ---- */

struct node {
    struct link *link;
    struct tls_identity *identity;
    unsigned ups;
    unsigned downs;
    unsigned refusals;
    unsigned count;
    uint8_t numbers[64]; /* of the messages that came */
    size_t sizes[64];
};

static struct node a;
static struct node b;

static void node_up(void *arg, size_t peer)
{
    struct node *node = arg;
    (void)peer;
    node->ups++;
}

static void node_down(void *arg, size_t peer, const char *reason)
{
    struct node *node = arg;
    (void)peer;
    assert_true(reason[0] != '\0');
    node->downs++;
}

static void node_message(void *arg, size_t peer, const uint8_t *bytes, size_t size)
{
    struct node *node = arg;
    (void)peer;
    assert_true(node->count < 64);
    for (size_t k = 0; k < size; k++) {
        assert_int_equal(bytes[k], bytes[0]);
    }
    node->sizes[node->count] = size;
    node->numbers[node->count++] = bytes[0];
}

static void node_refused(void *arg, const char *text)
{
    struct node *node = arg;
    assert_true(text[0] != '\0');
    node->refusals++;
}

static void node_open(struct node *node, const char *name, const char *address)
{
    struct err err;
    struct link_options options = {.loop = loop,
                                   .seed = 1,
                                   .calls = {node_up, node_down, node_message, node_refused},
                                   .arg = node};
    memset(node, 0, sizeof *node);
    node->identity = sites_identity(name);
    options.identity = node->identity;
    assert_int_equal(address_parse(address, true, &options.listen, &err), 0);
    if (link_new(&options, &node->link, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void node_close(struct node *node)
{
    link_free(node->link);
    tls_identity_free(node->identity);
}

static void knows(const struct node *node, const char *name, const struct address *dial)
{
    struct link_peer peer = {.dial = dial != NULL};
    struct err err;
    snprintf(peer.uri, sizeof peer.uri, "spiffe://lab/participant/%s", name);
    if (dial != NULL) {
        peer.address = *dial;
    }
    assert_int_equal(link_set_peers(node->link, &peer, 1, &err), 0);
}

static bool linked(void *arg)
{
    (void)arg;
    return link_is_up(a.link, 0) && link_is_up(b.link, 0) && a.ups == 1 + a.downs &&
           b.ups == 1 + b.downs;
}

/* It came, or the connection was lost on the way. */
struct going {
    uint8_t number;
    unsigned downs;
};

static bool came_or_went(void *arg)
{
    const struct going *g = arg;
    return (a.count > 0 && a.numbers[a.count - 1] == g->number) || a.downs + b.downs > g->downs;
}

static bool came(void *arg)
{
    const struct going *g = arg;
    return a.count > 0 && a.numbers[a.count - 1] == g->number;
}

static size_t size_of(uint8_t number)
{
    return number % 2 == 0 ? LINK_MESSAGE_MAX : 7;
}

static int give(uint8_t number)
{
    static uint8_t bytes[LINK_MESSAGE_MAX];
    struct err err = {0};
    memset(bytes, number, size_of(number));
    int rc = link_send(b.link, 0, bytes, size_of(number), &err);
    assert_true(rc == 0 || (err.text[0] != '\0' && err.code == TIDE_ERR_LIMIT) ||
                err.code == TIDE_ERR_UNREACHABLE);
    return rc;
}

static bool link_run(enum layer in, long n)
{
    unsigned refused = 0;
    node_open(&a, "a", "127.0.0.21:0");
    node_open(&b, "b", "127.0.0.22:0");
    struct address address = link_address(a.link);
    knows(&a, "b", NULL);
    knows(&b, "a", &address);
    layer = in;
    left = n;
    sites_wait(loop, linked, NULL, "they are linked");
    for (uint8_t number = 1; number <= 4; number++) {
        struct going g = {.number = number, .downs = a.downs + b.downs};
        if (give(number) == 0) {
            sites_wait(loop, came_or_went, &g, "it came");
        } else {
            refused++;
        }
        sites_wait(loop, linked, NULL, "they are linked again");
    }
    bool met = left < 0;
    left = -1;
    struct going g = {.number = 5};
    assert_int_equal(give(5), 0);
    sites_wait(loop, came, &g, "the last");
    for (unsigned k = 0; k < a.count; k++) { /* in order, none twice, each whole */
        assert_true(k == 0 || a.numbers[k] > a.numbers[k - 1]);
        assert_int_equal(a.sizes[k], size_of(a.numbers[k]));
    }
    assert_true(a.count + 1 >= 5 && refused <= 1);
    if (!met || (in == LAYER_SSL && fault == 0)) {
        assert_int_equal(a.count, 5); /* what could not go at once went later */
        assert_int_equal(a.downs + b.downs + a.refusals + b.refusals, 0);
    } else {
        if (a.downs + b.downs + a.refusals + b.refusals == 0) {
            fail_msg("layer %u, call %ld: nobody was told", (unsigned)in, n);
        }
    }
    node_close(&a);
    node_close(&b);
    return met;
}

static void each_of_the_link(enum layer in, long least)
{
    long n = 0;
    while (link_run(in, n)) {
        n++;
        assert_true(n < 100);
    }
    assert_true(n >= least);
}

static void a_link(void **state)
{
    assert_int_equal(sites_make(state), 0);
    loop = loop_new();
    fault = EPIPE;
    each_of_the_link(LAYER_SSL, 6);
    fault = 0;
    each_of_the_link(LAYER_SSL, 6);
    each_of_the_link(LAYER_MEMORY, 10);
    loop_free(loop);
    assert_int_equal(sites_remove(state), 0);
}

/* ---- the uplink, through a proxy that cuts ---- */

static struct far far;
static struct settings settings;
static struct uplink *uplink_open(void)
{
    struct uplink *up = NULL;
    struct err err = {0};
    if (uplink_new(far.identities[0], &settings, &up, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return up;
}

static unsigned acknowledged_late; /* puts that failed, and were stored all the same */

/* One segment, cut on the way; then again until it is taken. */
static void put_one(struct uplink *up, long up_cut, long down_cut)
{
    struct far_segment segment;
    struct intake_stream_state state = {0};
    struct err err = {0};
    struct far_stream *s = &far.streams[0];
    static uint8_t data[16384];
    file_random(data, sizeof data);
    far_write_at(s, 0, data, sizeof data); /* each as large as the other */
    far_cut(s, &segment);
    uint64_t first = segment.info.header.first_lsn;
    cut_proxy_arm(up_cut, down_cut);
    int rc = uplink_put(up, &s->stream, first, segment.bytes, segment.info.size, &state, &err);
    cut_proxy_arm(-1, -1);
    if (rc != 0) {
        assert_true(err.text[0] != '\0');
        if (err.code != TIDE_ERR_UNREACHABLE && err.code != TIDE_ERR_BUSY) {
            fail_msg("%ld %ld: %s %s", up_cut, down_cut, err_name(err.code), err.text);
        }
        if (uplink_stream(up, &s->stream, &state, &err) != 0) {
            fail_msg("%s", err.text);
        }
        assert_true(state.stored_lsn == first - 1 || state.stored_lsn == segment.info.last_lsn);
        acknowledged_late += state.stored_lsn == segment.info.last_lsn;
        state = (struct intake_stream_state){0};
        if (uplink_put(up, &s->stream, first, segment.bytes, segment.info.size, &state, &err) !=
            0) {
            fail_msg("%ld %ld: again: %s", up_cut, down_cut, err.text);
        }
    }
    assert_false(state.forked);
    assert_int_equal(state.stored_lsn, segment.info.last_lsn);
    assert_true(hash_equal(&state.head, &segment.info.hash));
    far_segment_free(&segment);
}

/* All places of a PUT, in steps: the handshake too where `fresh`, else on a connection that is
 * there. */
static void each_cut(bool fresh, bool down, long step)
{
    struct uplink *up = uplink_open();
    long n = 0;
    for (;; n += step) {
        if (fresh) {
            uplink_free(up);
            up = uplink_open();
        } else {
            put_one(up, -1, -1);
        }
        unsigned before = cut_proxy_cuts();
        put_one(up, down ? -1 : n, down ? n : -1);
        if (cut_proxy_cuts() == before) {
            break; /* it was over before that */
        }
        assert_true(n < 100000);
    }
    uplink_free(up);
    assert_true(n > step);
}

static void an_uplink(void **state)
{
    struct manifest m;
    struct err err = {0};
    (void)state;
    far_make(&far, 900, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    assert_int_equal(address_parse(far.address, false, &settings.coordinator, &err), 0);
    cut_proxy_open(&settings.coordinator.v4);
    snprintf(settings.coordinator_uri, sizeof settings.coordinator_uri,
             "spiffe://lab/coordinator/main");
    each_cut(true, false, 797);
    each_cut(true, true, 331);
    each_cut(false, false, 1499);
    each_cut(false, true, 61);
    assert_true(acknowledged_late > 0); /* an answer was lost: the same PUT is known, not a fork */
    unsigned cuts = cut_proxy_cuts();
    cut_proxy_close();
    if (manifest_read(far.store, &far.streams[0].stream, &m, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_false(m.forked); /* reading checked that one follows the other, each once */
    assert_int_equal(m.segments[m.segment_count - 1].last, far.streams[0].last.last_lsn);
    print_message("%zu segments, %u cuts, %u answers lost\n", m.segment_count, cuts,
                  acknowledged_late);
    manifest_close(&m);
    far_remove(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tap_that_cannot_be_told),
        cmocka_unit_test(a_link),
        cmocka_unit_test(an_uplink),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
