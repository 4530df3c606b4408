/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/wire/intake.h"
#include "coordinator/intake/arrival.h"

#define BODY_MAX     (TIDE_SEGMENT_MAX + 4096)
#define POLL_LOOK_US 200000U /* how often waiting long polls are looked at */
#define BACKLOG      256

struct server;

/* One PUT at work: checked beside others of its stream, stored one after the other. */
struct put {
    struct server *server;
    struct evhttp_request *request; /* ours until it is answered */
    char identity[TLS_URI_MAX + 1];
    struct arrival arrival;
    bool checked; /* and waits for its turn, unless: */
    bool storing;
};

/* One question for hashes at work. */
struct ask {
    struct server *server;
    struct evhttp_request *request;
    char identity[TLS_URI_MAX + 1];
};

/* One long poll that waits. */
struct poll_wait {
    struct evhttp_request *request;
    char identity[TLS_URI_MAX + 1];
    struct hash have;
    uint64_t due_us;
};

struct server {
    struct server_options o;
    SSL_CTX *tls;
    struct evhttp *http;
    struct evconnlistener *listener;
    unsigned connections;
    struct put *puts[TIDE_SERVER_PUTS_MAX];
    unsigned put_count;
    struct ask *asks[HASHES_READING_MAX];
    unsigned ask_count;
    struct poll_wait polls[TIDE_SERVER_POLLS_MAX];
    unsigned poll_count;
    uint64_t generation; /* of the registry, when polls were last looked at */
    struct loop_timer look;
    struct log_limit refusals;
};

int server_status(enum err_code code)
{
    switch (code) {
    case TIDE_ERR_OK:
        return 200;
    case TIDE_ERR_DENIED:
        return 403;
    case TIDE_ERR_NOT_FOUND:
        return 404;
    case TIDE_ERR_CONFLICT:
        return 409;
    case TIDE_ERR_LIMIT:
        return 413;
    case TIDE_ERR_USAGE:
    case TIDE_ERR_CONFIG:
    case TIDE_ERR_CORRUPT:
    case TIDE_ERR_VERSION:
        return 400;
    case TIDE_ERR_FULL:
        return 507;
    case TIDE_ERR_BUSY:
    case TIDE_ERR_IO:
    case TIDE_ERR_UNKNOWN:
    case TIDE_ERR_UNREACHABLE:
        return 503;
    case TIDE_ERR_FAILED:
        break;
    }
    return 500;
}

/* ---- answers ---- */

static void reply(struct evhttp_request *request, int status, uint8_t *bytes, size_t size)
{
    struct evbuffer *body = evbuffer_new();
    if (body == NULL || (size > 0 && evbuffer_add(body, bytes, size) != 0)) {
        status = 503; /* no memory; an answer without its bytes would be another one */
    }
    free(bytes);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "application/x-protobuf");
    evhttp_send_reply(request, status, NULL, body);
    if (body != NULL) {
        evbuffer_free(body);
    }
}

static void reply_state(struct evhttp_request *request, const struct store_stream_state *state,
                        const struct err *err)
{
    struct intake_stream_state s = {.code = err->code};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (state != NULL) {
        s.stored_lsn = state->stored_lsn;
        s.received_lsn = state->received_lsn;
        s.head = state->head;
        s.forked = state->forked;
    }
    snprintf(s.text, sizeof(s.text), "%s", err->text);
    for (char *c = s.text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    (void)intake_stream_state_encode(&s, &bytes, &size, NULL);
    reply(request, server_status(err->code), bytes, size);
}

static void refuse(struct server *server, struct evhttp_request *request, const char *identity,
                   const struct store_stream_state *state, const struct err *err)
{
    uint64_t lost = 0;
    if (log_allowed(&server->refusals, 20, 60U * CLOCK_US_PER_S, clock_mono_us(), &lost)) {
        log_warn("refused '%s' (%s %s): %s%s", identity,
                 evhttp_request_get_command(request) == EVHTTP_REQ_PUT ? "PUT" : "request",
                 evhttp_request_get_uri(request), err->text,
                 lost > 0 ? " (others were not logged)" : "");
    }
    reply_state(request, state, err);
}

/* ---- who asks ---- */

static int identify(struct evhttp_request *request, char ret[TLS_URI_MAX + 1], struct err *err)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct bufferevent *bev = evhttp_connection_get_bufferevent(connection);
    struct ssl_st *ssl = bev == NULL ? NULL : bufferevent_openssl_get_ssl(bev);
    struct tls_name name;
    ret[0] = '\0';
    if (ssl == NULL) {
        return err_set(err, TIDE_ERR_DENIED, "the connection is not TLS");
    }
    if (tls_peer_uri(ssl, ret, err) < 0) {
        return -1;
    }
    if (tls_name_parse(ret, &name, err) < 0 || name.role != TLS_PARTICIPANT) {
        return err_set(err, TIDE_ERR_DENIED, "'%s' is not a participant; only those are served",
                       ret);
    }
    return 0;
}

/* ---- bodies ---- */

static int take_body(struct evhttp_request *request, size_t max, uint8_t **ret, size_t *ret_size,
                     struct err *err)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(request);
    size_t size = evbuffer_get_length(in);
    if (size > max) {
        return err_set(err, TIDE_ERR_LIMIT, "body of %zu bytes is over the limit of %zu", size,
                       max);
    }
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return err_set(err, TIDE_ERR_BUSY, "no memory for a body of %zu bytes", size);
    }
    evbuffer_remove(in, bytes, size);
    *ret = bytes;
    *ret_size = size;
    return 0;
}

/* ---- PUT /v0/streams/HEX/segments/FIRST ---- */

static void put_free(struct put *p)
{
    arrival_close(&p->arrival);
    free(p);
}

static void put_check(void *arg)
{
    struct put *p = arg;
    arrival_check(&p->arrival);
}

static void put_store(void *arg)
{
    struct put *p = arg;
    arrival_store(&p->arrival);
}

/* Answers it, and forgets it. */
static void put_end(struct put *p)
{
    struct server *server = p->server;
    struct arrival *a = &p->arrival;
    struct err e = {0};
    for (unsigned k = 0; k < server->put_count; k++) {
        if (server->puts[k] == p) {
            server->puts[k] = server->puts[--server->put_count];
            break;
        }
    }
    if (a->err.code == TIDE_ERR_OK && a->record_count > 0 &&
        points_feed(server->o.points, &a->about, a->records, a->record_count, &e) < 0) {
        log_error("a stored segment was not aligned, restart to heal: %s", e.text);
    }
    if (a->err.code != TIDE_ERR_OK) {
        (void)store_stream_get(server->o.store, &a->about.stream, &a->about, &a->state);
        refuse(server, p->request, p->identity, &a->state, &a->err);
    } else {
        reply_state(p->request, &a->state, &a->err);
    }
    put_free(p);
}

static void put_stored(void *arg);

/* Of the stream's PUTs that are checked the earliest goes to the store, unless one is there. */
static void put_next(struct server *server, const struct id *stream)
{
    struct put *next = NULL;
    for (unsigned k = 0; k < server->put_count; k++) {
        struct put *p = server->puts[k];
        if (!id_equal(&p->arrival.about.stream, stream)) {
            continue;
        }
        if (p->storing) {
            return;
        }
        if (p->checked && (next == NULL || p->arrival.first < next->arrival.first)) {
            next = p;
        }
    }
    if (next == NULL) {
        return;
    }
    next->storing = true;
    if (pool_submit(server->o.pool, put_store, put_stored, next, &next->arrival.err) < 0) {
        put_end(next);
        put_next(server, stream); /* at most as often as there are PUTs */
    }
}

static void put_stored(void *arg)
{
    struct put *p = arg;
    struct server *server = p->server;
    struct id stream = p->arrival.about.stream;
    put_end(p);
    put_next(server, &stream);
}

static void put_checked(void *arg)
{
    struct put *p = arg;
    struct id stream = p->arrival.about.stream;
    if (p->arrival.err.code != TIDE_ERR_OK) {
        put_end(p);
        return;
    }
    p->checked = true;
    put_next(p->server, &stream);
}

static int put_room(const struct server *server, const char *identity, struct err *err)
{
    unsigned mine = 0;
    for (unsigned k = 0; k < server->put_count; k++) {
        mine += strcmp(server->puts[k]->identity, identity) == 0;
    }
    if (mine >= TIDE_SERVER_IDENTITY_MAX || server->put_count >= TIDE_SERVER_PUTS_MAX) {
        return err_set(err, TIDE_ERR_BUSY, "%u segments are being stored (%u of yours); try again",
                       server->put_count, mine);
    }
    return 0;
}

static int owned(struct server *server, const char *identity, const struct id *stream,
                 struct manifest_stream *ret, struct store_stream_state *ret_state, struct err *err)
{
    char hex[TIDE_ID_HEX];
    id_hex(stream, hex);
    if (!store_stream_get(server->o.store, stream, ret, ret_state)) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "stream '%s' is not registered here", hex);
    }
    const char *owner = registry_owner(server->o.registry, ret);
    if (owner == NULL || strcmp(owner, identity) != 0) {
        *ret_state = (struct store_stream_state){0};
        return err_set(err, TIDE_ERR_DENIED, "stream '%s' is not of '%s'", hex, identity);
    }
    return 0;
}

static void put_segment(struct server *server, struct evhttp_request *request, const char *identity,
                        const struct id *stream, uint64_t first)
{
    struct err e = {0};
    struct store_stream_state state = {0};
    struct put *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        err_set(&e, TIDE_ERR_BUSY, "no memory to store a segment");
        reply_state(request, NULL, &e);
        return;
    }
    p->server = server;
    p->request = request;
    p->arrival.store = server->o.store;
    p->arrival.first = first;
    snprintf(p->identity, sizeof(p->identity), "%s", identity);
    if (owned(server, identity, stream, &p->arrival.about, &state, &e) < 0 ||
        put_room(server, identity, &e) < 0 ||
        take_body(request, TIDE_SEGMENT_MAX, &p->arrival.bytes, &p->arrival.size, &e) < 0 ||
        pool_submit(server->o.pool, put_check, put_checked, p, &e) < 0) {
        refuse(server, request, identity, &state, &e);
        put_free(p);
        return;
    }
    server->puts[server->put_count++] = p;
}

/* ---- the other paths ---- */

static void get_stream(struct server *server, struct evhttp_request *request, const char *identity,
                       const struct id *stream)
{
    struct manifest_stream about;
    struct store_stream_state state = {0};
    struct err e = {0};
    if (owned(server, identity, stream, &about, &state, &e) < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    reply_state(request, &state, &e);
}

static void ask_done(void *arg, const struct intake_block_hashes *blocks, const struct err *err)
{
    struct ask *ask = arg;
    struct server *server = ask->server;
    struct err e = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    for (unsigned k = 0; k < server->ask_count; k++) {
        if (server->asks[k] == ask) {
            server->asks[k] = server->asks[--server->ask_count];
            break;
        }
    }
    if (blocks != NULL && intake_block_hashes_encode(blocks, &bytes, &size, &e) == 0) {
        reply(ask->request, 200, bytes, size);
    } else {
        refuse(server, ask->request, ask->identity, NULL, blocks == NULL ? err : &e);
    }
    free(ask);
}

static int hashes_query(struct evhttp_request *request, struct intake_hashes_query *ret,
                        struct err *err)
{
    struct evkeyvalq query;
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    if (evhttp_parse_query_str(text == NULL ? "" : text, &query) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "the query is not lsn=LSN&offset=OFFSET&count=COUNT");
    }
    int rc = intake_hashes_query_parse(evhttp_find_header(&query, "lsn"),
                                       evhttp_find_header(&query, "offset"),
                                       evhttp_find_header(&query, "count"), ret, err);
    evhttp_clear_headers(&query);
    return rc;
}

static void get_hashes(struct server *server, struct evhttp_request *request, const char *identity,
                       const struct id *stream)
{
    struct manifest_stream about;
    struct store_stream_state state = {0};
    struct intake_hashes_query query;
    struct err e = {0};
    struct ask *ask = calloc(1, sizeof(*ask));
    if (ask == NULL) {
        err_set(&e, TIDE_ERR_BUSY, "no memory for hashes");
        reply_state(request, NULL, &e);
        return;
    }
    *ask = (struct ask){.server = server, .request = request};
    snprintf(ask->identity, sizeof(ask->identity), "%s", identity);
    if (owned(server, identity, stream, &about, &state, &e) < 0 ||
        hashes_query(request, &query, &e) < 0 ||
        hashes_ask(server->o.hashes, stream, &state, &query, ask_done, ask, &e) < 0) {
        free(ask);
        if (e.code == TIDE_ERR_BUSY) {
            reply_state(request, &state, &e); /* usual: not worth a line in the log */
        } else {
            refuse(server, request, identity, &state, &e);
        }
        return;
    }
    TIDE_CHECK(server->ask_count < HASHES_READING_MAX);
    server->asks[server->ask_count++] = ask;
}

static void get_point(struct server *server, struct evhttp_request *request, const char *identity,
                      const struct id *round)
{
    struct intake_point_state state;
    struct err e = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (points_state(server->o.points, round, &state, &e) < 0 ||
        intake_point_state_encode(&state, &bytes, &size, &e) < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    reply(request, 200, bytes, size);
}

static void send_definitions(struct server *server, struct evhttp_request *request,
                             const char *identity, uint8_t *bytes, size_t size)
{
    struct hash digest;
    struct err e = {0};
    if (bytes == NULL &&
        registry_definitions(server->o.registry, identity, &digest, &bytes, &size, &e) < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    reply(request, 200, bytes, size);
}

static void post_register(struct server *server, struct evhttp_request *request,
                          const char *identity)
{
    struct intake_register r = {0};
    struct err e = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = take_body(request, TIDE_INTAKE_BODY_MAX, &bytes, &size, &e);
    if (rc == 0) {
        rc = intake_register_decode(bytes, size, &r, &e);
    }
    free(bytes);
    if (rc == 0) {
        rc = registry_register(server->o.registry, identity, &r, &e);
        intake_register_close(&r);
    }
    if (rc < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    send_definitions(server, request, identity, NULL, 0);
}

static void look_at_polls(void *arg)
{
    struct server *server = arg;
    uint64_t now = clock_mono_us();
    bool changed = registry_generation(server->o.registry) != server->generation;
    server->generation = registry_generation(server->o.registry);
    unsigned k = 0;
    while (k < server->poll_count) {
        struct poll_wait *w = &server->polls[k];
        uint8_t *bytes = NULL;
        size_t size = 0;
        struct hash digest = w->have;
        bool answer = now >= w->due_us;
        if (!answer && changed &&
            (registry_definitions(server->o.registry, w->identity, &digest, &bytes, &size, NULL) <
                 0 ||
             !hash_equal(&digest, &w->have))) {
            answer = true;
        }
        if (!answer) {
            free(bytes);
            k++;
            continue;
        }
        struct poll_wait done = *w;
        *w = server->polls[--server->poll_count];
        send_definitions(server, done.request, done.identity, bytes, size);
    }
    if (server->poll_count > 0) {
        loop_timer_set(&server->look, now + POLL_LOOK_US);
    }
}

static void get_definitions(struct server *server, struct evhttp_request *request,
                            const char *identity)
{
    struct evkeyvalq query;
    struct hash have = {0};
    struct hash digest;
    struct err e = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    unsigned wait_s = 0;
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    if (evhttp_parse_query_str(text == NULL ? "" : text, &query) == 0) {
        const char *value = evhttp_find_header(&query, "have");
        bool known = value != NULL && hash_parse(value, &have);
        value = evhttp_find_header(&query, "wait");
        if (known && value != NULL && strlen(value) <= 2 &&
            strspn(value, "0123456789") == strlen(value)) {
            wait_s = (unsigned)strtoul(value, NULL, 10);
        }
        evhttp_clear_headers(&query);
    }
    wait_s = wait_s > TIDE_INTAKE_WAIT_MAX_S ? TIDE_INTAKE_WAIT_MAX_S : wait_s;
    if (registry_definitions(server->o.registry, identity, &digest, &bytes, &size, &e) < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    if (wait_s == 0 || !hash_equal(&digest, &have)) {
        reply(request, 200, bytes, size);
        return;
    }
    free(bytes);
    if (server->poll_count == TIDE_SERVER_POLLS_MAX) {
        err_set(&e, TIDE_ERR_BUSY, "%u others wait already; try again", TIDE_SERVER_POLLS_MAX);
        refuse(server, request, identity, NULL, &e);
        return;
    }
    uint64_t now = clock_mono_us();
    struct poll_wait *w = &server->polls[server->poll_count++];
    *w = (struct poll_wait){
        .request = request, .have = have, .due_us = now + wait_s * (uint64_t)CLOCK_US_PER_S};
    snprintf(w->identity, sizeof(w->identity), "%s", identity);
    if (server->poll_count == 1) {
        server->generation = registry_generation(server->o.registry);
        loop_timer_set(&server->look, now + POLL_LOOK_US);
    }
}

/* ---- paths ---- */

/* A decimal number without leading zeroes up to the end of the text. */
static bool parse_lsn(const char *text, uint64_t *ret)
{
    size_t size = strlen(text);
    if (size == 0 || size > 19 || text[0] == '0' || strspn(text, "0123456789") != size) {
        return false;
    }
    *ret = strtoull(text, NULL, 10);
    return true;
}

/* /PREFIX/HEX or /PREFIX/HEX/segments/N; *ret_first is 0 for the former. */
static bool parse_path(const char *path, const char *prefix, struct id *ret, uint64_t *ret_first)
{
    static const char segments[] = "/segments/";
    char hex[TIDE_ID_HEX];
    size_t at = strlen(prefix);
    if (strncmp(path, prefix, at) != 0 || strlen(path + at) < sizeof(hex) - 1) {
        return false;
    }
    memcpy(hex, path + at, sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    at += sizeof(hex) - 1;
    *ret_first = 0;
    if (!id_parse(hex, ret)) {
        return false;
    }
    if (path[at] == '\0') {
        return true;
    }
    return strncmp(path + at, segments, sizeof(segments) - 1) == 0 &&
           parse_lsn(path + at + sizeof(segments) - 1, ret_first);
}

/* /v0/streams/HEX/hashes */
static bool parse_hashes(const char *path, struct id *ret)
{
    static const char suffix[] = "/hashes";
    char stream[64];
    uint64_t first = 0;
    size_t size = strlen(path);
    size_t end = sizeof(suffix) - 1;
    if (size < end || size - end >= sizeof(stream) || strcmp(path + size - end, suffix) != 0) {
        return false;
    }
    memcpy(stream, path, size - end);
    stream[size - end] = '\0';
    return parse_path(stream, "/v0/streams/", ret, &first) && first == 0;
}

static void handle(struct evhttp_request *request, void *arg)
{
    struct server *server = arg;
    char identity[TLS_URI_MAX + 1];
    struct err e = {0};
    struct id id;
    uint64_t first = 0;
    enum evhttp_cmd_type command = evhttp_request_get_command(request);
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    path = path == NULL ? "" : path;
    if (identify(request, identity, &e) < 0) {
        refuse(server, request, identity, NULL, &e);
        return;
    }
    bool stream = parse_path(path, "/v0/streams/", &id, &first);
    if (command == EVHTTP_REQ_PUT && stream && first > 0) {
        put_segment(server, request, identity, &id, first);
    } else if (command == EVHTTP_REQ_GET && stream && first == 0) {
        get_stream(server, request, identity, &id);
    } else if (command == EVHTTP_REQ_GET && parse_hashes(path, &id)) {
        get_hashes(server, request, identity, &id);
    } else if (command == EVHTTP_REQ_GET && parse_path(path, "/v0/points/", &id, &first) &&
               first == 0) {
        get_point(server, request, identity, &id);
    } else if (command == EVHTTP_REQ_POST && strcmp(path, "/v0/register") == 0) {
        post_register(server, request, identity);
    } else if (command == EVHTTP_REQ_GET && strcmp(path, "/v0/definitions") == 0) {
        get_definitions(server, request, identity);
    } else {
        err_set(&e, TIDE_ERR_NOT_FOUND, "nothing is served at this path with this method");
        refuse(server, request, identity, NULL, &e);
    }
}

/* ---- connections ---- */

static int connection_index = -1; /* of a connection's server in its SSL; set once */

static void connection_ended(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index,
                             long number, void *arg)
{
    struct server *server = pointer;
    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    if (server != NULL && server->connections-- == TIDE_SERVER_CONNECTIONS_MAX &&
        server->listener != NULL) {
        evconnlistener_enable(server->listener);
    }
}

/* NULL gives a connection without TLS, which identify() refuses. */
static struct bufferevent *connection_new(struct event_base *base, void *arg)
{
    struct server *server = arg;
    SSL *ssl = tls_connection(&server->tls);
    if (ssl == NULL) {
        return NULL;
    }
    if (SSL_set_ex_data(ssl, connection_index, server) == 1 &&
        ++server->connections == TIDE_SERVER_CONNECTIONS_MAX) {
        evconnlistener_disable(server->listener);
    }
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

static int listen_on(struct server *server, struct err *err)
{
    char text[ADDRESS_TEXT_MAX];
    const struct address *a = &server->o.listen;
    int one = 1;
    server->listener =
        evconnlistener_new_bind(loop_base(server->o.loop), NULL, NULL,
                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
                                BACKLOG, &a->any, (int)a->size);
    if (server->listener == NULL) {
        return err_set(err, errno == EADDRINUSE ? TIDE_ERR_CONFLICT : TIDE_ERR_IO,
                       "cannot listen on '%s': %s", address_text(a, text), strerror(errno));
    }
    /* Accepted sockets inherit it; without it evhttp over TLS does 1 % of the requests. */
    if (setsockopt(evconnlistener_get_fd(server->listener), IPPROTO_TCP, TCP_NODELAY, &one,
                   sizeof(one)) < 0) {
        return err_set(err, TIDE_ERR_IO, "TCP_NODELAY: %s", strerror(errno));
    }
    if (evhttp_bind_listener(server->http, server->listener) == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to listen");
    }
    return 0;
}

int server_new(const struct server_options *options, struct server **ret, struct err *err)
{
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the server");
    }
    server->o = *options;
    loop_timer_init(&server->look, options->loop, look_at_polls, server);
    if (connection_index < 0) {
        connection_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, connection_ended);
    }
    server->tls = tls_context(options->identity, NULL, NULL);
    server->http = evhttp_new(loop_base(options->loop));
    if (server->tls == NULL || server->http == NULL || connection_index < 0) {
        server_free(server);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the server");
    }
    evhttp_set_allowed_methods(server->http, EVHTTP_REQ_GET | EVHTTP_REQ_PUT | EVHTTP_REQ_POST);
    evhttp_set_max_headers_size(server->http, TIDE_SERVER_HEADERS_MAX);
    evhttp_set_max_body_size(server->http, BODY_MAX);
    evhttp_set_timeout(server->http, TIDE_SERVER_TIMEOUT_S);
    evhttp_set_bevcb(server->http, connection_new, server);
    evhttp_set_gencb(server->http, handle, server);
    if (listen_on(server, err) < 0) {
        server_free(server);
        return -1;
    }
    *ret = server;
    return 0;
}

void server_free(struct server *server)
{
    if (server == NULL) {
        return;
    }
    loop_timer_close(&server->look);
    if (server->http != NULL) {
        /* Its listener goes with it; connections that end now find none. */
        server->listener = NULL;
        evhttp_free(server->http);
    }
    SSL_CTX_free(server->tls);
    for (unsigned k = 0; k < server->put_count; k++) {
        put_free(server->puts[k]);
    }
    for (unsigned k = 0; k < server->ask_count; k++) {
        free(server->asks[k]);
    }
    free(server);
}

void server_address(const struct server *server, struct address *ret)
{
    struct address a = {.size = sizeof(a.storage)};
    int rc = getsockname(evconnlistener_get_fd(server->listener), &a.any, &a.size);
    TIDE_CHECK(rc == 0);
    *ret = a;
}
