/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTPS client against a small server of our own (OpenSSL, one thread): right and wrong
 * identities on both ends, sizes, deadlines, abort, reuse of the connection. */
#include "tests/contract/io_sites.h"

#include "common/io/address.h"
#include "common/io/clock.h"
#include "common/io/http.h"

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

#define BODY_MAX (256U * 1024U)

struct server {
    struct tls_identity *identity;
    SSL_CTX *context;
    int fd;
    struct address address;
    pthread_t thread;
    atomic_bool end;
    atomic_uint connections;
    atomic_uint requests;
    X509 *shown;     /* by the client of the last connection */
    char head[2048]; /* of the last request */
    size_t body_size;
    uint8_t body[BODY_MAX];
};

static struct server server;

/* Reads one request; false where the connection ended. */
static bool server_read(SSL *ssl)
{
    size_t used = 0;
    char *end = NULL;
    server.body_size = 0;
    while (end == NULL) {
        int got = SSL_read(ssl, server.head + used, 1);
        if (got <= 0 || used + 2 >= sizeof(server.head))
            return false;
        used += (size_t)got;
        server.head[used] = 0;
        end = strstr(server.head, "\r\n\r\n");
    }
    const char *length = strstr(server.head, "Content-Length: ");
    size_t want = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
    while (server.body_size < want && want <= BODY_MAX) {
        int got = SSL_read(ssl, server.body + server.body_size, (int)(want - server.body_size));
        if (got <= 0)
            return false;
        server.body_size += (size_t)got;
    }
    return true;
}

static void server_answer(SSL *ssl)
{
    static char answer[BODY_MAX + 200];
    size_t size = server.body_size;
    int code = strstr(server.head, " /v0/none ") != NULL ? 404 : 200;
    if (strstr(server.head, " /v0/deaf ") != NULL) {
        uint64_t until = clock_mono_us() + 4000000;
        while (!atomic_load(&server.end) && clock_mono_us() < until)
            usleep(1000);
        return;
    }
    int n = snprintf(answer, 200, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", code, size);
    memcpy(answer + n, server.body, size);
    SSL_write(ssl, answer, n + (int)size);
}

static void *server_run(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(server.fd, NULL, NULL);
        if (fd < 0 || atomic_load(&server.end)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        const struct timeval limit = {.tv_sec = 4};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        atomic_fetch_add(&server.connections, 1);
        SSL *ssl = tls_connection(&server.context);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1) {
            X509_free(server.shown);
            server.shown = SSL_get1_peer_certificate(ssl);
            for (unsigned k = 0; !atomic_load(&server.end) && server_read(ssl); k++) {
                atomic_fetch_add(&server.requests, 1);
                if (k > 0 && strstr(server.head, " /v0/drop ") != NULL)
                    break; /* not the first of its connection: gone without an answer */
                server_answer(ssl);
            }
            SSL_shutdown(ssl);
        } else { /* let the client read why, before a reset takes it away */
            char one[512];
            shutdown(fd, SHUT_WR);
            while (recv(fd, one, sizeof(one), 0) > 0)
                continue;
        }
        SSL_free(ssl);
        close(fd);
    }
}

static bool only_a(void *arg, const char *uri)
{
    (void)arg;
    return strcmp(uri, "spiffe://lab/participant/a") == 0;
}

static void server_open(const char *name)
{
    memset(&server, 0, sizeof(server));
    server.identity = sites_identity(name);
    server.context = tls_context(server.identity, only_a, NULL);
    assert_int_equal(address_parse("127.0.0.31:0", true, &server.address, NULL), 0);
    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server.fd, &server.address.any, server.address.size), 0);
    assert_int_equal(listen(server.fd, 16), 0);
    assert_int_equal(getsockname(server.fd, &server.address.any, &server.address.size), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, server_run, NULL), 0);
}

static void server_close(void)
{
    atomic_store(&server.end, true);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* wakes accept() */
    (void)connect(fd, &server.address.any, server.address.size);
    close(fd);
    pthread_join(server.thread, NULL);
    close(server.fd);
    X509_free(server.shown);
    SSL_CTX_free(server.context);
    tls_identity_free(server.identity);
}

struct client {
    struct tls_identity *identity;
    struct http_client *http;
};

static struct client client_open(const char *name, const char *server_uri, size_t answer_max)
{
    struct client client = {.identity = sites_identity(name)};
    struct err err;
    struct http_options options = {.identity = client.identity,
                                   .server = server.address,
                                   .server_uri = server_uri,
                                   .answer_max = answer_max};
    if (http_client_new(&options, &client.http, &err) != 0)
        fail_msg("%s", err.text);
    return client;
}

static void client_close(struct client *client)
{
    http_client_free(client->http);
    tls_identity_free(client->identity);
}

static void requests_reuse_one_connection(void **state)
{
    (void)state;
    static uint8_t body[BODY_MAX];
    const uint8_t *got = NULL;
    size_t size = 0;
    int status = 0;
    struct err err = {0};
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", BODY_MAX);
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
    for (int i = 0; i < 5; i++) {
        if (http_request(client.http, "PUT", "/v0/streams/ab/segments/1", body, sizeof(body), 3000,
                         &status, &got, &size, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(status, 200);
        assert_int_equal(size, sizeof(body));
        assert_memory_equal(got, body, sizeof(body));
        assert_non_null(strstr(server.head, "PUT /v0/streams/ab/segments/1 HTTP/1.1\r\n"));
        assert_null(strstr(server.head, "Expect"));
        assert_int_equal(
            http_request(client.http, "GET", "/v0/none", NULL, 0, 3000, &status, &got, &size, &err),
            0);
        assert_int_equal(status, 404);
        assert_int_equal(size, 0);
        assert_non_null(strstr(server.head, "GET /v0/none HTTP/1.1\r\n"));
        assert_int_equal(http_request(client.http, "POST", "/v0/register", "\0x", 2, 3000, &status,
                                      &got, &size, &err),
                         0);
        assert_int_equal(size, 2);
        assert_memory_equal(got, "\0x", 3);
        assert_non_null(strstr(server.head, "POST /v0/register HTTP/1.1\r\n"));
    }
    assert_int_equal(atomic_load(&server.connections), 1);
    assert_int_equal(atomic_load(&server.requests), 15);
    client_close(&client);
    server_close();
}

static void wrong_identities_get_no_request_through(void **state)
{
    (void)state;
    static const struct {
        const char *server;
        const char *client;
        const char *want_uri;
        const char *text;
    } rows[] = {
        {"main", "a", "spiffe://lab/coordinator/other",
         "is spiffe://lab/coordinator/main, not spiffe://lab/coordinator/other"},
        {"b", "a", "spiffe://lab/coordinator/main", "is spiffe://lab/participant/b, not"},
        {"main", "b", "spiffe://lab/coordinator/main", "it refused our certificate"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {0};
        int status = 77;
        server_open(rows[i].server);
        struct client client = client_open(rows[i].client, rows[i].want_uri, 1000);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(http_request(client.http, "PUT", "/v0/x", "secret", 6, 3000, &status,
                                          NULL, NULL, &err),
                             -1);
            assert_int_equal(err.code, TIDE_ERR_DENIED);
            if (strstr(err.text, rows[i].text) == NULL)
                fail_msg("row %zu: %s", i, err.text);
        }
        assert_int_equal(status, 77);
        assert_int_equal(atomic_load(&server.requests), 0);
        client_close(&client);
        server_close();
    }
}

static int ask(struct client *client, const char *path)
{
    int status = 0;
    struct err err = {0};
    if (http_request(client->http, "GET", path, NULL, 0, 3000, &status, NULL, NULL, &err) != 0)
        fail_msg("%s", err.text);
    return status;
}

/* What is connected stays so with the certificate of before; the next connection has the new one,
 * of the client and of the server. */
static void renewed_certificates_are_for_new_connections(void **state)
{
    (void)state;
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", 1000);
    assert_int_equal(ask(&client, "/v0/x"), 200);
    X509 *before = X509_dup(server.shown);
    sites_renew("lab", "a");
    sites_renew("lab", "main");
    assert_int_equal(tls_identity_reload(client.identity, NULL), 0);
    assert_int_equal(tls_identity_reload(server.identity, NULL), 0);
    assert_int_equal(ask(&client, "/v0/x"), 200);
    assert_int_equal(atomic_load(&server.connections), 1);
    assert_int_equal(X509_cmp(before, server.shown), 0);
    SSL_CTX *context = server.context;
    SSL_CTX_up_ref(context);                         /* so that no other gets its address */
    assert_int_equal(ask(&client, "/v0/drop"), 200); /* by a second connection */
    assert_int_equal(atomic_load(&server.connections), 2);
    assert_int_not_equal(X509_cmp(before, server.shown), 0);
    assert_ptr_not_equal(server.context, context);
    SSL_CTX_free(context);
    X509_free(before);
    client_close(&client);
    server_close();
}

static void limits_and_deadlines_hold(void **state)
{
    (void)state;
    static uint8_t body[5000];
    struct err err = {0};
    int status = 0;
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", 4999);
    assert_int_equal(
        http_request(client.http, "PUT", "/v0/x", body, 5000, 3000, &status, NULL, NULL, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_int_equal(
        http_request(client.http, "PUT", "/v0/x", body, 4999, 3000, &status, NULL, NULL, &err), 0);
    uint64_t from = clock_mono_us();
    assert_int_equal(
        http_request(client.http, "GET", "/v0/deaf", NULL, 0, 300, &status, NULL, NULL, &err), -1);
    uint64_t took = clock_mono_us() - from;
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    assert_true(took >= 250000 && took < 1500000);
    struct address gone = server.address;
    client_close(&client);
    server_close();
    server.address = gone;
    client = client_open("a", "spiffe://lab/coordinator/main", 1000);
    assert_int_equal(
        http_request(client.http, "GET", "/v0/x", NULL, 0, 3000, &status, NULL, NULL, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    client_close(&client);
}

struct pace {
    unsigned asked;
    size_t sum;
};

static size_t allow(void *arg, size_t want)
{
    struct pace *pace = arg;
    size_t now = ++pace->asked % 8 == 0 ? 0 : pace->asked % 8 * 2000;
    now = now < want ? now : want;
    pace->sum += now;
    return now;
}

/* Piece by piece as allowed, also from the beginning again when a kept connection has gone. */
static void a_paced_body_arrives_whole(void **state)
{
    (void)state;
    static uint8_t body[BODY_MAX];
    struct pace pace = {0};
    struct err err = {0};
    int status = 0;
    const uint8_t *got = NULL;
    size_t size = 0;
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", BODY_MAX);
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 5 + i / 253);
    http_set_pace(client.http, allow, &pace);
    for (unsigned i = 0; i < 3; i++) {
        const char *path = i == 2 ? "/v0/drop" : "/v0/x";
        size_t before = pace.sum;
        if (http_request(client.http, "PUT", path, body, sizeof(body), 20000, &status, &got, &size,
                         &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(status, 200);
        assert_int_equal(size, sizeof(body));
        assert_memory_equal(got, body, sizeof(body));
        assert_int_equal(pace.sum - before, (i == 2 ? 2 : 1) * sizeof(body));
    }
    assert_int_equal(atomic_load(&server.connections), 2);
    http_set_pace(client.http, NULL, NULL);
    size_t before = pace.sum;
    assert_int_equal(
        http_request(client.http, "PUT", "/v0/x", body, 1000, 3000, &status, &got, &size, &err), 0);
    assert_int_equal(size, 1000);
    assert_int_equal(pace.sum, before);
    client_close(&client);
    server_close();
}

static size_t never(void *arg, size_t want)
{
    (void)want;
    http_abort(arg);
    return 0;
}

static void abort_ends_a_paced_body(void **state)
{
    (void)state;
    struct err err = {0};
    int status = 0;
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", 1000);
    http_set_pace(client.http, never, client.http);
    assert_int_equal(
        http_request(client.http, "PUT", "/v0/x", "body", 4, 60000, &status, NULL, NULL, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_BUSY);
    client_close(&client);
    server_close();
}

static void *abort_when_waiting(void *arg)
{
    uint64_t until = clock_mono_us() + 3000000;
    while (atomic_load(&server.requests) == 0 && clock_mono_us() < until)
        usleep(1000);
    http_abort(arg);
    return NULL;
}

static void abort_ends_a_long_wait(void **state)
{
    (void)state;
    struct err err = {0};
    int status = 0;
    pthread_t thread;
    server_open("main");
    struct client client = client_open("a", "spiffe://lab/coordinator/main", 1000);
    assert_int_equal(pthread_create(&thread, NULL, abort_when_waiting, client.http), 0);
    uint64_t from = clock_mono_us();
    assert_int_equal(
        http_request(client.http, "GET", "/v0/deaf", NULL, 0, 3900, &status, NULL, NULL, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_BUSY);
    assert_true(clock_mono_us() - from < 2500000);
    pthread_join(thread, NULL);
    assert_int_equal(
        http_request(client.http, "GET", "/v0/x", NULL, 0, 3000, &status, NULL, NULL, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_BUSY);
    client_close(&client);
    server_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_reuse_one_connection),
        cmocka_unit_test(wrong_identities_get_no_request_through),
        cmocka_unit_test(limits_and_deadlines_hold),
        cmocka_unit_test(renewed_certificates_are_for_new_connections),
        cmocka_unit_test(a_paced_body_arrives_whole),
        cmocka_unit_test(abort_ends_a_paced_body),
        cmocka_unit_test(abort_ends_a_long_wait),
    };
    return cmocka_run_group_tests(tests, sites_make, sites_remove);
}
