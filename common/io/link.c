/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "common/io/sp.h"

#define LINK_BACKLOG        256
#define LINK_ACCEPTS        64       /* at one readiness */
#define LINK_RECORD         16384U   /* a TLS record's plain text: one SSL_read takes it whole */
#define LINK_PAUSE_US       100000U  /* no accepting after running out of descriptors */
#define LINK_STEADY_US      1000000U /* a connection that lasted so long resets the back-off */
#define LINK_LOG_BURST      10U
#define LINK_LOG_PERIOD_US  10000000U
#define LINK_DIAL_PERIOD_US 60000000U
#define LINK_REASON_MAX     400

/*            dial          accept
 *              |              |
 *         CONNECTING          |
 *              +----> TLS <---+
 *                      |            handshake done, the peer is known; our hello is sent
 *                    HELLO
 *                      |            its hello came
 *                     LIVE          the peer's one connection; an older one goes
 * any --------------> GONE          closed; the memory is freed from the loop */
enum conn_state {
    CONN_CONNECTING,
    CONN_TLS,
    CONN_HELLO,
    CONN_LIVE,
    CONN_GONE,
};

struct link_out {
    STAILQ_ENTRY(link_out) next;
    size_t size;
    uint8_t bytes[]; /* header and body: one SSL_write, so one record */
};

struct link_peer_state;

struct conn {
    TAILQ_ENTRY(conn) next; /* in link->conns, oldest first, or link->gone */
    struct link *link;
    enum conn_state state;
    int fd;
    SSL *ssl;
    struct loop_watch watch;
    struct loop_timer timer; /* handshake deadline, then idle */
    struct address remote;
    struct link_peer_state *dialed; /* NULL: accepted */
    struct link_peer_state *peer;   /* from HELLO on */
    struct sp_decoder decoder;      /* from HELLO on */
    STAILQ_HEAD(, link_out) out;
    size_t out_count;
    size_t out_bytes;
    uint64_t heard_us;
    uint64_t live_us;
    bool doomed; /* goes from the loop, for `reason` */
    char reason[LINK_REASON_MAX];
};

struct link_peer_state {
    struct link_peer set;
    size_t index;
    struct link *link;
    struct conn *live;
    struct conn *dialing;
    uint64_t backoff_us;
    struct loop_timer redial;
    struct log_limit log;
};

struct link {
    struct link_options options;
    SSL_CTX *context;
    int fd;
    struct address address;
    struct loop_watch watch;
    struct loop_timer pause;
    struct loop_timer reap;
    struct link_peer_state **peers;
    size_t peer_count;
    TAILQ_HEAD(conn_list, conn) conns;
    struct conn_list gone;
    const struct conn *shaking; /* whose handshake runs now, for link_allow() */
    struct prng prng;
    struct link_stats stats;
    struct log_limit log;
};

static const char link_no_memory[] = "no memory for the connection";

static void link_dial(void *arg);
static void conn_ready(void *arg, unsigned ready);

static struct link_peer_state *link_find(const struct link *link, const char *uri)
{
    for (size_t i = 0; i < link->peer_count; i++) {
        if (strcmp(link->peers[i]->set.uri, uri) == 0)
            return link->peers[i];
    }
    return NULL;
}

/* In the verify callback: the one that was dialed, or any of the peers. */
static bool link_allow(void *arg, const char *uri)
{
    const struct link *link = arg;
    if (link->shaking != NULL && link->shaking->dialed != NULL)
        return strcmp(link->shaking->dialed->set.uri, uri) == 0;
    return link_find(link, uri) != NULL;
}

static void link_refused(struct link *link, struct link_peer_state *dialed, const char *text)
{
    uint64_t lost = 0;
    uint64_t now = clock_mono_us();
    struct log_limit *limit = dialed != NULL ? &dialed->log : &link->log;
    unsigned burst = dialed != NULL ? 1 : LINK_LOG_BURST;
    uint64_t period = dialed != NULL ? LINK_DIAL_PERIOD_US : LINK_LOG_PERIOD_US;
    link->stats.refused++;
    if (log_allowed(limit, burst, period, now, &lost)) {
        if (lost > 0)
            log_warn("link: %s (%llu like it before)", text, (unsigned long long)lost);
        else
            log_warn("link: %s", text);
    }
    if (link->options.calls.refused != NULL)
        link->options.calls.refused(link->options.arg, text);
}

static void link_redial(struct link_peer_state *peer, bool steady)
{
    uint64_t wait = steady ? LINK_REDIAL_MIN_US : peer->backoff_us;
    uint64_t twice = wait * 2;
    if (!peer->set.dial || peer->live != NULL || peer->dialing != NULL)
        return;
    peer->backoff_us = twice < LINK_REDIAL_MAX_US ? twice : LINK_REDIAL_MAX_US;
    wait = wait / 2 + prng_below(&peer->link->prng, wait / 2);
    loop_timer_set(&peer->redial, clock_mono_us() + wait);
}

static void link_reap_free(struct link *link)
{
    struct conn *conn;
    while ((conn = TAILQ_FIRST(&link->gone)) != NULL) {
        TAILQ_REMOVE(&link->gone, conn, next);
        loop_timer_close(&conn->timer);
        free(conn);
    }
}

/* Closes the descriptor and all that hangs on it; the memory stays until the loop reaps it, since
 * callers up the stack may still look at its state. */
static void conn_release(struct conn *conn)
{
    struct link *link = conn->link;
    struct link_out *out;
    TIDE_CHECK(conn->state != CONN_GONE);
    loop_watch_close(&conn->watch);
    loop_timer_clear(&conn->timer);
    if (conn->ssl != NULL) {
        ERR_clear_error();
        if (conn->state >= CONN_HELLO)
            (void)SSL_shutdown(conn->ssl);
        SSL_free(conn->ssl);
        conn->ssl = NULL;
    }
    ERR_clear_error();
    (void)close(conn->fd);
    sp_decoder_close(&conn->decoder);
    while ((out = STAILQ_FIRST(&conn->out)) != NULL) {
        STAILQ_REMOVE_HEAD(&conn->out, next);
        free(out);
    }
    conn->state = CONN_GONE;
    TAILQ_REMOVE(&link->conns, conn, next);
    TAILQ_INSERT_TAIL(&link->gone, conn, next);
    loop_timer_set(&link->reap, 0);
}

/* Ends a connection for a reason and says so: down where it was live, refused where it never was.
 */
static void conn_drop(struct conn *conn, const char *why)
{
    struct link *link = conn->link;
    struct link_peer_state *peer = conn->peer;
    struct link_peer_state *dialed = conn->dialed;
    enum conn_state state = conn->state;
    bool steady = state == CONN_LIVE && clock_mono_us() - conn->live_us >= LINK_STEADY_US;
    char address[ADDRESS_TEXT_MAX];
    char text[LINK_REASON_MAX + TLS_URI_MAX + ADDRESS_TEXT_MAX];
    char reason[LINK_REASON_MAX];
    (void)snprintf(reason, sizeof(reason), "%s", why);
    address_text(&conn->remote, address);
    if (state != CONN_LIVE && conn->dialed == NULL)
        link->stats.handshakes--;
    conn_release(conn);
    if (dialed != NULL && dialed->dialing == conn)
        dialed->dialing = NULL;
    if (state == CONN_LIVE) {
        link->stats.dropped++;
        link->stats.live--;
        if (peer->live == conn)
            peer->live = NULL;
        link_redial(peer, steady); /* first: the callback may make the peer go away */
        link->options.calls.down(link->options.arg, peer->index, reason);
        return;
    }
    if (dialed != NULL) {
        /* In TLS 1.3 the dialer is done before the other end has judged its certificate. */
        (void)snprintf(text, sizeof(text), "no connection to %s at %s: %s%s", dialed->set.uri,
                       address, reason,
                       state == CONN_HELLO ? "; it refuses us, its log says why" : "");
        link_redial(dialed, false);
        link_refused(link, dialed, text);
    } else {
        (void)snprintf(text, sizeof(text), "refused %s: %s", address, reason);
        link_refused(link, NULL, text);
    }
}

/* Drops it from the loop: for places that must not call back. */
static void conn_doom(struct conn *conn, const char *reason)
{
    if (conn->doomed)
        return;
    conn->doomed = true;
    (void)snprintf(conn->reason, sizeof(conn->reason), "%s", reason);
    loop_timer_set(&conn->link->reap, 0);
}

static void link_reap(void *arg)
{
    struct link *link = arg;
    struct conn *conn = TAILQ_FIRST(&link->conns);
    while (conn != NULL) {
        if (conn->doomed) {
            conn_drop(conn, conn->reason);
            conn = TAILQ_FIRST(&link->conns); /* a callback may have changed the list */
        } else {
            conn = TAILQ_NEXT(conn, next);
        }
    }
    link_reap_free(link);
}

static void conn_timer(void *arg)
{
    struct conn *conn = arg;
    char text[LINK_REASON_MAX];
    if (conn->state != CONN_LIVE) {
        (void)snprintf(text, sizeof(text), "no finished handshake within %u ms",
                       LINK_HANDSHAKE_US / CLOCK_US_PER_MS);
        conn_drop(conn, text);
        return;
    }
    uint64_t due = conn->heard_us + conn->link->options.idle_us;
    if (clock_mono_us() < due) {
        loop_timer_set(&conn->timer, due);
        return;
    }
    (void)snprintf(text, sizeof(text), "nothing was heard for %llu ms",
                   (unsigned long long)(conn->link->options.idle_us / CLOCK_US_PER_MS));
    conn_drop(conn, text);
}

/* Writes what the socket takes. False where the connection failed, with the reason in it. */
static bool conn_flush(struct conn *conn, char reason[LINK_REASON_MAX])
{
    struct link_out *out;
    while ((out = STAILQ_FIRST(&conn->out)) != NULL) {
        ERR_clear_error();
        int put = SSL_write(conn->ssl, out->bytes, (int)out->size);
        if (put <= 0) {
            int result = SSL_get_error(conn->ssl, put);
            if (result == SSL_ERROR_WANT_WRITE || result == SSL_ERROR_WANT_READ) {
                loop_watch_set(&conn->watch, LOOP_READ | LOOP_WRITE);
                return true;
            }
            tls_failure(conn->ssl, result, reason, LINK_REASON_MAX);
            return false;
        }
        TIDE_CHECK((size_t)put == out->size);
        STAILQ_REMOVE_HEAD(&conn->out, next);
        conn->out_count--;
        conn->out_bytes -= out->size;
        free(out);
    }
    loop_watch_set(&conn->watch, LOOP_READ);
    return true;
}

/* False: no memory for it. */
static bool conn_queue(struct conn *conn, const void *head, const void *bytes, size_t size)
{
    size_t head_size = head == NULL ? 0 : SP_HEADER_SIZE;
    struct link_out *out = malloc(sizeof(*out) + head_size + size);
    if (out == NULL)
        return false;
    if (head != NULL)
        memcpy(out->bytes, head, head_size);
    memcpy(out->bytes + head_size, bytes, size);
    out->size = head_size + size;
    STAILQ_INSERT_TAIL(&conn->out, out, next);
    conn->out_count++;
    conn->out_bytes += out->size;
    return true;
}

/* The peer's hello came: this is its connection now. */
static void conn_live(struct conn *conn)
{
    struct link *link = conn->link;
    struct link_peer_state *peer = conn->peer;
    struct conn *older = peer->live;
    if (older != NULL)
        conn_drop(older, "replaced by a newer connection of the same peer");
    if (conn->state == CONN_GONE)
        return; /* the callback changed the peers */
    if (conn->dialed == NULL)
        link->stats.handshakes--;
    else
        conn->dialed->dialing = NULL;
    conn->state = CONN_LIVE;
    conn->live_us = conn->heard_us = clock_mono_us();
    peer->live = conn;
    loop_timer_clear(&peer->redial);
    loop_timer_set(&conn->timer, conn->heard_us + link->options.idle_us);
    link->stats.live++;
    link->options.calls.up(link->options.arg, peer->index);
}

static bool conn_message(void *arg, const uint8_t *bytes, size_t size)
{
    struct conn *conn = arg;
    struct link *link = conn->link;
    TIDE_CHECK(conn->state == CONN_LIVE);
    link->stats.received++;
    link->options.calls.message(link->options.arg, conn->peer->index, bytes, size);
    return conn->state == CONN_LIVE;
}

/* Bytes of the peer. False where the connection is gone or must go. */
static bool conn_take(struct conn *conn, const uint8_t *bytes, size_t size, struct err *err)
{
    conn->heard_us = clock_mono_us();
    if (!conn->decoder.greeted) {
        size_t need = SP_HELLO_SIZE - conn->decoder.head_used;
        size_t take = size < need ? size : need;
        if (sp_decode(&conn->decoder, bytes, take, conn_message, conn, err) != 0)
            return false;
        if (!conn->decoder.greeted)
            return true;
        conn_live(conn);
        bytes += take;
        size -= take;
        if (conn->state != CONN_LIVE)
            return false;
    }
    if (sp_decode(&conn->decoder, bytes, size, conn_message, conn, err) != 0)
        return false;
    return conn->state == CONN_LIVE;
}

/* One record at one readiness: what else is there makes it ready again (OpenSSL reads no further than
 * the record), and mostly nothing is, so that a second read would be for nothing in each round. */
static void conn_read(struct conn *conn)
{
    uint8_t buffer[LINK_RECORD];
    char reason[LINK_REASON_MAX];
    struct err err;
    ERR_clear_error();
    int got = SSL_read(conn->ssl, buffer, sizeof(buffer));
    if (got <= 0) {
        int result = SSL_get_error(conn->ssl, got);
        if (result == SSL_ERROR_WANT_READ || result == SSL_ERROR_WANT_WRITE)
            return;
        tls_failure(conn->ssl, result, reason, sizeof(reason));
        conn_drop(conn, reason);
        return;
    }
    if (!conn_take(conn, buffer, (size_t)got, &err) && conn->state != CONN_GONE)
        conn_drop(conn, err.text);
}

/* The handshake is done: who is it? */
static void conn_known(struct conn *conn)
{
    char uri[TLS_URI_MAX + 1];
    char reason[LINK_REASON_MAX];
    struct err err;
    if (tls_peer_uri(conn->ssl, uri, &err) != 0) {
        conn_drop(conn, err.text);
        return;
    }
    struct link_peer_state *peer = link_find(conn->link, uri);
    if (peer == NULL || (conn->dialed != NULL && conn->dialed != peer)) {
        (void)snprintf(reason, sizeof(reason), "%s is not one that may be here", uri);
        conn_drop(conn, reason);
        return;
    }
    conn->peer = peer;
    conn->state = CONN_HELLO;
    if (!sp_decoder_init(&conn->decoder, LINK_MESSAGE_MAX) ||
        !conn_queue(conn, NULL, sp_hello, SP_HELLO_SIZE)) {
        conn_drop(conn, link_no_memory);
        return;
    }
    if (!conn_flush(conn, reason)) {
        conn_drop(conn, reason);
        return;
    }
    conn_read(conn); /* it may lie in OpenSSL's buffer already */
}

static void conn_handshake(struct conn *conn)
{
    char reason[LINK_REASON_MAX];
    ERR_clear_error();
    conn->link->shaking = conn;
    int done = SSL_do_handshake(conn->ssl);
    conn->link->shaking = NULL;
    if (done == 1) {
        conn_known(conn);
        return;
    }
    int result = SSL_get_error(conn->ssl, done);
    if (result == SSL_ERROR_WANT_READ) {
        loop_watch_set(&conn->watch, LOOP_READ);
    } else if (result == SSL_ERROR_WANT_WRITE) {
        loop_watch_set(&conn->watch, LOOP_READ | LOOP_WRITE);
    } else {
        tls_failure(conn->ssl, result, reason, sizeof(reason));
        conn_drop(conn, reason);
    }
}

static void conn_connected(struct conn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);
    char reason[128];
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error != 0) {
        conn_drop(conn, strerror_r(error, reason, sizeof(reason)));
        return;
    }
    conn->state = CONN_TLS;
    conn_handshake(conn);
}

static void conn_ready(void *arg, unsigned ready)
{
    struct conn *conn = arg;
    char reason[LINK_REASON_MAX];
    if (conn->doomed)
        return;
    switch (conn->state) {
    case CONN_CONNECTING:
        conn_connected(conn);
        return;
    case CONN_TLS:
        conn_handshake(conn);
        return;
    case CONN_HELLO:
    case CONN_LIVE:
        if ((ready & LOOP_WRITE) != 0 && !conn_flush(conn, reason)) {
            conn_drop(conn, reason);
            return;
        }
        if ((ready & LOOP_READ) != 0)
            conn_read(conn);
        return;
    case CONN_GONE:
        TIDE_CHECK(conn->state != CONN_GONE);
    }
}

/* Takes fd over. NULL: no memory for it, and it is closed. */
static struct conn *conn_new(struct link *link, int fd, const struct address *remote,
                             struct link_peer_state *dialed)
{
    const int one = 1;
    struct conn *conn = calloc(1, sizeof(*conn));
    SSL *ssl = tls_connection(&link->context);
    if (conn == NULL || ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        free(conn);
        (void)close(fd);
        return NULL;
    }
    conn->link = link;
    conn->fd = fd;
    conn->remote = *remote;
    conn->dialed = dialed;
    STAILQ_INIT(&conn->out);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    conn->ssl = ssl;
    if (dialed != NULL)
        SSL_set_connect_state(conn->ssl);
    else
        SSL_set_accept_state(conn->ssl);
    loop_watch_init(&conn->watch, link->options.loop, fd, conn_ready, conn);
    loop_timer_init(&conn->timer, link->options.loop, conn_timer, conn);
    loop_timer_set(&conn->timer, clock_mono_us() + LINK_HANDSHAKE_US);
    TAILQ_INSERT_TAIL(&link->conns, conn, next);
    return conn;
}

static void link_dial_failed(struct link_peer_state *peer, const char *what, int error)
{
    char address[ADDRESS_TEXT_MAX];
    char reason[128];
    char text[LINK_REASON_MAX + TLS_URI_MAX];
    (void)snprintf(text, sizeof(text), "no connection to %s at %s: %s: %s", peer->set.uri,
                   address_text(&peer->set.address, address), what,
                   strerror_r(error, reason, sizeof(reason)));
    link_redial(peer, false);
    link_refused(peer->link, peer, text);
}

/* Where we listen on one address we also dial from it: it is how peers and firewalls know us. */
static int link_bind_source(const struct link *link, int fd, const struct address *to)
{
    struct address from = link->address;
    const int one = 1;
    if (from.any.sa_family != to->any.sa_family)
        return 0;
    if (from.any.sa_family == AF_INET) {
        if (from.v4.sin_addr.s_addr == htonl(INADDR_ANY))
            return 0;
        from.v4.sin_port = 0;
    } else {
        if (IN6_IS_ADDR_UNSPECIFIED(&from.v6.sin6_addr))
            return 0;
        from.v6.sin6_port = 0;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    return bind(fd, &from.any, from.size);
}

static void link_dial(void *arg)
{
    struct link_peer_state *peer = arg;
    struct link *link = peer->link;
    const struct address *to = &peer->set.address;
    if (peer->live != NULL || peer->dialing != NULL)
        return;
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        link_dial_failed(peer, "no socket", errno);
        return;
    }
    link->stats.dialed++;
    if (link_bind_source(link, fd, to) != 0) {
        int error = errno;
        (void)close(fd);
        link_dial_failed(peer, "cannot use our own address", error);
        return;
    }
    if (connect(fd, &to->any, to->size) != 0 && errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        link_dial_failed(peer, "cannot connect", error);
        return;
    }
    struct conn *conn = conn_new(link, fd, to, peer);
    if (conn == NULL) {
        link_dial_failed(peer, "no connection", ENOMEM);
        return;
    }
    conn->state = CONN_CONNECTING;
    peer->dialing = conn;
    loop_watch_set(&conn->watch, LOOP_WRITE);
}

static void link_resume(void *arg)
{
    struct link *link = arg;
    loop_watch_set(&link->watch, LOOP_READ);
}

/* Makes room for one more handshake: of the host that has most of them, the oldest goes. So a host
 * that floods us only drives out its own, and members get in meanwhile. */
static void link_make_room(struct link *link)
{
    struct conn *shaking[LINK_HANDSHAKES_MAX];
    struct conn *conn;
    size_t count = 0;
    size_t chosen = 0;
    size_t most = 0;
    if (link->stats.handshakes < LINK_HANDSHAKES_MAX)
        return;
    TAILQ_FOREACH(conn, &link->conns, next)
    {
        if (conn->dialed == NULL && conn->state != CONN_LIVE) {
            TIDE_CHECK(count < LINK_HANDSHAKES_MAX);
            shaking[count++] = conn;
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;
        for (size_t k = i; k < count; k++)
            same += address_same_host(&shaking[i]->remote, &shaking[k]->remote);
        if (same > most) {
            most = same;
            chosen = i;
        }
    }
    TIDE_CHECK(most > 0);
    conn_drop(shaking[chosen], "too many connections are in their handshake; this one was the "
                               "oldest of the host with most of them");
}

static void link_pause(struct link *link, int error)
{
    char text[LINK_REASON_MAX];
    char reason[128];
    (void)snprintf(text, sizeof(text), "cannot accept for now: %s",
                   strerror_r(error, reason, sizeof(reason)));
    link_refused(link, NULL, text);
    loop_watch_set(&link->watch, 0);
    loop_timer_set(&link->pause, clock_mono_us() + LINK_PAUSE_US);
}

static void link_accept(void *arg, unsigned ready)
{
    struct link *link = arg;
    (void)ready;
    for (unsigned i = 0; i < LINK_ACCEPTS; i++) {
        struct address remote = {.size = sizeof(remote.storage)};
        int fd = accept4(link->fd, &remote.any, &remote.size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            link_pause(link, errno);
            return;
        }
        if (fd < 0)
            continue; /* that connection is gone again; the listener stays */
        link->stats.accepted++;
        link_make_room(link);
        struct conn *conn = conn_new(link, fd, &remote, NULL);
        if (conn == NULL) {
            link->stats.refused++;
            link_pause(link, ENOMEM);
            return;
        }
        conn->state = CONN_TLS;
        link->stats.handshakes++;
        loop_watch_set(&conn->watch, LOOP_READ);
    }
}

static int link_listen(struct link *link, struct err *err)
{
    const struct address *want = &link->options.listen;
    const int one = 1;
    char text[ADDRESS_TEXT_MAX];
    address_text(want, text);
    int fd = socket(want->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return file_err(err, errno, "no socket for %s", text);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    struct address address = {.size = sizeof(address.storage)};
    if (bind(fd, &want->any, want->size) != 0 || listen(fd, LINK_BACKLOG) != 0 ||
        getsockname(fd, &address.any, &address.size) != 0) {
        file_err(err, errno, "cannot listen on %s", text);
        (void)close(fd);
        return -1;
    }
    link->fd = fd;
    link->address = address;
    return 0;
}

int link_new(const struct link_options *options, struct link **ret, struct err *err)
{
    TIDE_CHECK(options->loop != NULL && options->identity != NULL);
    TIDE_CHECK(options->calls.up != NULL && options->calls.down != NULL &&
               options->calls.message != NULL);
    struct link *link = calloc(1, sizeof(*link));
    TIDE_CHECK(link != NULL);
    link->options = *options;
    if (link->options.idle_us == 0)
        link->options.idle_us = LINK_IDLE_US;
    TAILQ_INIT(&link->conns);
    TAILQ_INIT(&link->gone);
    prng_init(&link->prng, options->seed);
    if (link_listen(link, err) != 0) {
        free(link);
        return -1;
    }
    link->context = tls_context(options->identity, link_allow, link);
    loop_watch_init(&link->watch, options->loop, link->fd, link_accept, link);
    loop_timer_init(&link->pause, options->loop, link_resume, link);
    loop_timer_init(&link->reap, options->loop, link_reap, link);
    loop_watch_set(&link->watch, LOOP_READ);
    *ret = link;
    return 0;
}

static void link_peer_free(struct link_peer_state *peer)
{
    loop_timer_close(&peer->redial);
    free(peer);
}

void link_free(struct link *link)
{
    struct conn *conn;
    if (link == NULL)
        return;
    while ((conn = TAILQ_FIRST(&link->conns)) != NULL)
        conn_release(conn);
    link_reap_free(link);
    for (size_t i = 0; i < link->peer_count; i++)
        link_peer_free(link->peers[i]);
    free(link->peers);
    loop_watch_close(&link->watch);
    loop_timer_close(&link->pause);
    loop_timer_close(&link->reap);
    (void)close(link->fd);
    SSL_CTX_free(link->context);
    free(link);
}

static int link_check_peers(const struct link *link, const struct link_peer *peers, size_t count,
                            struct err *err)
{
    struct tls_name name;
    if (count > LINK_PEERS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "%zu peers; at most %u can be linked", count,
                       LINK_PEERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (tls_name_parse(peers[i].uri, &name, err) != 0)
            return -1;
        if (name.role != TLS_PARTICIPANT)
            return err_set(err, TIDE_ERR_CONFIG, "peer %s is not a participant", peers[i].uri);
        if (strcmp(peers[i].uri, tls_identity_uri(link->options.identity)) == 0)
            return err_set(err, TIDE_ERR_CONFIG, "peer %s is this participant itself",
                           peers[i].uri);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(peers[i].uri, peers[k].uri) == 0)
                return err_set(err, TIDE_ERR_CONFIG, "peer %s is named twice", peers[i].uri);
        }
    }
    return 0;
}

/* The peer stays as it is, or must be made anew. */
static bool link_peer_same(const struct link_peer *a, const struct link_peer *b)
{
    return strcmp(a->uri, b->uri) == 0 && a->dial == b->dial &&
           (!a->dial || address_equal(&a->address, &b->address));
}

static struct link_peer_state *link_peer_new(struct link *link, const struct link_peer *set)
{
    struct link_peer_state *peer = calloc(1, sizeof(*peer));
    TIDE_CHECK(peer != NULL);
    peer->set = *set;
    peer->link = link;
    peer->backoff_us = LINK_REDIAL_MIN_US;
    loop_timer_init(&peer->redial, link->options.loop, link_dial, peer);
    return peer;
}

/* Ends every connection of peers that are not kept. */
static void link_forget(struct link *link, const struct link_peer_state *peer)
{
    struct conn *conn = TAILQ_FIRST(&link->conns);
    while (conn != NULL) {
        if (conn->peer != peer && conn->dialed != peer) {
            conn = TAILQ_NEXT(conn, next);
            continue;
        }
        conn_drop(conn, "no longer in the definition, or elsewhere");
        conn = TAILQ_FIRST(&link->conns);
    }
}

int link_set_peers(struct link *link, const struct link_peer *peers, size_t count, struct err *err)
{
    if (link_check_peers(link, peers, count, err) != 0)
        return -1;
    struct link_peer_state **old = link->peers;
    size_t old_count = link->peer_count;
    struct link_peer_state **made = calloc(count + 1, sizeof(struct link_peer_state *));
    bool *kept = calloc(old_count + 1, sizeof(*kept));
    TIDE_CHECK(made != NULL && kept != NULL);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < old_count && made[i] == NULL; k++) {
            if (link_peer_same(&old[k]->set, &peers[i])) {
                made[i] = old[k];
                kept[k] = true;
            }
        }
    }
    for (size_t k = 0; k < old_count; k++) {
        if (kept[k])
            continue;
        old[k]->set.dial = false; /* it is not dialed again */
        link_forget(link, old[k]);
    }
    for (size_t k = 0; k < old_count; k++) {
        if (!kept[k])
            link_peer_free(old[k]);
    }
    free(old);
    free(kept);
    link->peers = made;
    link->peer_count = count;
    for (size_t i = 0; i < count; i++) {
        bool fresh = made[i] == NULL;
        if (fresh)
            made[i] = link_peer_new(link, &peers[i]);
        made[i]->index = i;
        if (fresh && peers[i].dial)
            loop_timer_set(&made[i]->redial, 0);
    }
    return 0;
}

int link_send(struct link *link, size_t peer, const void *bytes, size_t size, struct err *err)
{
    uint8_t head[SP_HEADER_SIZE];
    char reason[LINK_REASON_MAX];
    TIDE_CHECK(peer < link->peer_count);
    TIDE_CHECK(size > 0 && size <= LINK_MESSAGE_MAX);
    struct conn *conn = link->peers[peer]->live;
    if (conn == NULL || conn->doomed)
        return err_set(err, TIDE_ERR_UNREACHABLE, "no connection to %s",
                       link->peers[peer]->set.uri);
    if (conn->out_count >= LINK_QUEUE_MESSAGES ||
        conn->out_bytes + SP_HEADER_SIZE + size > LINK_QUEUE_BYTES) {
        (void)snprintf(reason, sizeof(reason),
                       "%zu messages (%zu bytes) wait to be sent: the peer takes none",
                       conn->out_count, conn->out_bytes);
        conn_doom(conn, reason);
        return err_set(err, TIDE_ERR_LIMIT, "%s: %s", link->peers[peer]->set.uri, reason);
    }
    bool idle = conn->out_count == 0;
    sp_header(size, head);
    if (!conn_queue(conn, head, bytes, size)) {
        conn_doom(conn, link_no_memory);
        return err_set(err, TIDE_ERR_LIMIT, "%s: %s", link->peers[peer]->set.uri, link_no_memory);
    }
    link->stats.sent++;
    if (idle && !conn_flush(conn, reason))
        conn_doom(conn, reason);
    return 0;
}

bool link_is_up(const struct link *link, size_t peer)
{
    TIDE_CHECK(peer < link->peer_count);
    const struct conn *conn = link->peers[peer]->live;
    return conn != NULL && !conn->doomed;
}

struct address link_address(const struct link *link)
{
    return link->address;
}

struct link_stats link_stats(const struct link *link)
{
    return link->stats;
}
