/* SPDX-License-Identifier: Apache-2.0 */
/* Who may speak to a coordinator, how much, and what a registration does. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "common/io/clock.h"
#include "common/io/pki.h"
#include "tests/contract/far_rig.h"

static struct far far;

static int set_up(void **state)
{
    (void)state;
    far_make(&far, 31, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_remove(&far);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    const char *port = strrchr(far.address, ':') + 1;
    struct timeval limit = {.tv_sec = 5};
    a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* Bytes of an answer to a GET, or 0 where the connection is refused. prefix NULL: no certificate.
 */
static int ask(const char *prefix, int version)
{
    static const char request[] = "GET /v0/definitions HTTP/1.1\r\nHost: x\r\n\r\n";
    char path[256];
    char answer[512];
    int got = 0;
    int fd = dial();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    if (prefix != NULL) {
        snprintf(path, sizeof(path), "%s.crt", prefix);
        assert_int_equal(SSL_CTX_use_certificate_chain_file(context, path), 1);
        snprintf(path, sizeof(path), "%s.key", prefix);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM), 1);
    }
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    /* In TLS 1.3 a client learns of its refusal only on its first read. */
    if (SSL_connect(ssl) == 1 && SSL_write(ssl, request, sizeof(request) - 1) > 0) {
        got = SSL_read(ssl, answer, sizeof(answer));
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    return got > 0 ? got : 0;
}

static void only_the_sites_certificates_are_served(void **state)
{
    char dir[128];
    char prefix[160];
    const char *ip = "127.0.0.1";
    struct err err = {0};
    (void)state;
    snprintf(prefix, sizeof(prefix), "%s/pki/m0", far.dir);
    assert_true(ask(prefix, TLS1_3_VERSION) > 0);
    assert_int_equal(ask(prefix, TLS1_2_VERSION), 0);
    assert_int_equal(ask(NULL, TLS1_3_VERSION), 0);
    snprintf(dir, sizeof(dir), "%s/other", far.dir);
    snprintf(prefix, sizeof(prefix), "%s/m0", dir);
    assert_int_equal(pki_init(dir, "lab", &err), 0);
    assert_int_equal(pki_issue(dir, "participant", "m0", NULL, 0, &ip, 1, 10, prefix, NULL, &err),
                     0);
    assert_int_equal(ask(prefix, TLS1_3_VERSION), 0);
    /* Garbage instead of TLS does not disturb it. */
    int fd = dial();
    assert_true(write(fd, "GET / HTTP/1.0\r\n\r\n", 18) == 18);
    close(fd);
    snprintf(prefix, sizeof(prefix), "%s/pki/m0", far.dir);
    assert_true(ask(prefix, TLS1_3_VERSION) > 0);
}

static int get(unsigned client, const char *method, const char *path, const void *body, size_t size)
{
    int status = 0;
    struct err err = {0};
    if (http_request(far.clients[client], method, path, body, size, 10000, &status, NULL, NULL,
                     &err) < 0) {
        return -1;
    }
    return status;
}

static void paths_and_sizes_are_checked(void **state)
{
    char path[128];
    char hex[TIDE_ID_HEX];
    size_t size = TIDE_SEGMENT_MAX + 1;
    uint8_t *big = calloc(1, size);
    (void)state;
    assert_non_null(big);
    id_hex(&far.streams[0].stream, hex);
    snprintf(path, sizeof(path), "/v0/streams/%s/segments/1", hex);
    assert_int_equal(get(0, "PUT", path, big, size), 413);
    assert_int_equal(get(0, "PUT", path, big, 100), 400);
    assert_int_equal(get(0, "POST", "/v0/register", big, 100), 400);
    free(big);
    assert_int_equal(get(0, "GET", "/", NULL, 0), 404);
    assert_int_equal(get(0, "GET", "/v0/streams/xyz", NULL, 0), 404);
    snprintf(path, sizeof(path), "/v0/streams/%s/segments/0", hex);
    assert_int_equal(get(0, "PUT", path, "x", 1), 404);
    snprintf(path, sizeof(path), "/v0/streams/%s/segments/18446744073709551616", hex);
    assert_int_equal(get(0, "PUT", path, "x", 1), 404);
    snprintf(path, sizeof(path), "/v0/streams/%s", hex);
    assert_int_equal(get(0, "GET", path, NULL, 0), 200);
    assert_int_equal(get(1, "GET", path, NULL, 0), 403);
    assert_int_equal(get(0, "GET", "/v0/points/00112233445566778899aabbccddeeff", NULL, 0), 200);
}

static int register_as(unsigned client, const char *group, const char *member,
                       const struct far_stream *s)
{
    struct intake_disk disk = {.stream = s->stream,
                               .timeline = s->timeline,
                               .disk_id = s->disk_id,
                               .size = FAR_DISK_SIZE,
                               .block_size = 512};
    struct intake_register r = {.count = 1, .disks = &disk};
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    assert_true(name_parse(group, &disk.group));
    assert_true(name_parse(member, &disk.member));
    assert_true(name_parse("data", &disk.disk));
    assert_int_equal(intake_register_encode(&r, &bytes, &size, &err), 0);
    int status = get(client, "POST", "/v0/register", bytes, size);
    free(bytes);
    return status;
}

static void only_the_own_disks_can_be_registered(void **state)
{
    (void)state;
    assert_int_equal(register_as(0, "shop", "web", &far.streams[0]), 200);
    assert_int_equal(register_as(2, "shop", "web", &far.streams[0]), 403);
    assert_int_equal(register_as(1, "shop", "web", &far.streams[0]), 403);
    assert_int_equal(register_as(0, "shop", "nobody", &far.streams[0]), 404);
    assert_int_equal(register_as(0, "none", "web", &far.streams[0]), 404);
    assert_int_equal(register_as(0, "shop", "web", &far.streams[1]), 409);
}

static void a_new_stream_makes_a_new_epoch_and_wakes_who_waits(void **state)
{
    char path[128];
    char hex[TIDE_HASH_HEX];
    const uint8_t *body = NULL;
    size_t size = 0;
    int status = 0;
    struct err err = {0};
    struct intake_definitions d = {0};
    struct id round;
    (void)state;
    far_register(&far);
    uint64_t epoch = far.definition->epoch.number;
    assert_int_equal(http_request(far.clients[1], "GET", "/v0/definitions", NULL, 0, 5000, &status,
                                  &body, &size, &err),
                     0);
    assert_int_equal(intake_definitions_decode(body, size, &d, &err), 0);
    snprintf(path, sizeof(path), "/v0/definitions?have=%s&wait=1", hash_hex(&d.digest, hex));
    uint64_t start = clock_mono_us();
    assert_int_equal(
        http_request(far.clients[1], "GET", path, NULL, 0, 5000, &status, &body, &size, &err), 0);
    assert_true(clock_mono_us() - start >= 900000); /* nothing changed: it waited */
    /* The machine's log folder was lost: a new stream, and so a new definition. */
    far_stream_close(&far.streams[0]);
    far_stream_init(&far, 0);
    far_register(&far);
    assert_true(far.definition->epoch.number == epoch + 1);
    snprintf(path, sizeof(path), "/v0/definitions?have=%s&wait=25", hex);
    start = clock_mono_us();
    assert_int_equal(
        http_request(far.clients[1], "GET", path, NULL, 0, 9000, &status, &body, &size, &err), 0);
    assert_true(clock_mono_us() - start < 2000000); /* it changed: at once */
    intake_definitions_close(&d);
    /* Registered again after a restart: nothing changes. And points go on under the new epoch. */
    far_kill(&far);
    far_start(&far);
    far_register(&far);
    assert_true(far.definition->epoch.number == epoch + 1);
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_sites_certificates_are_served),
        cmocka_unit_test(paths_and_sizes_are_checked),
        cmocka_unit_test(only_the_own_disks_can_be_registered),
        cmocka_unit_test(a_new_stream_makes_a_new_epoch_and_wakes_who_waits),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
