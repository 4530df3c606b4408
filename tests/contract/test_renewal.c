/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate renewed under a link that runs: what is linked stays linked, no message is lost,
 * new handshakes have the new one, and what cannot be used is refused. */
#include "common/io/clock.h"
#include "common/io/trust.h"
#include "tests/contract/io_sites.h"
#include "tests/contract/siege.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static X509 *certificate(const char *file)
{
    FILE *from = fopen(sites_path(file), "re");
    assert_non_null(from);
    X509 *read = PEM_read_X509(from, NULL, NULL, NULL);
    assert_non_null(read);
    (void)fclose(from);
    return read;
}

static void put(const char *bytes, size_t size, const char *to)
{
    FILE *file = fopen(sites_path(to), "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(sites_path(to), 0600), 0);
}

static void copy(const char *from, const char *to)
{
    char bytes[16384];
    FILE *file = fopen(sites_path(from), "re");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    (void)fclose(file);
    put(bytes, size, to);
}

struct wanted {
    SSL_CTX *context;
    X509 *shown;
};

static void look_at_a(void *arg)
{
    const struct wanted *wanted = arg;
    struct foe_tls tls;
    int fd = foe_connect(&siege.at);
    foe_check(fd >= 0, "the listener lives");
    foe_tls_open(&tls, wanted->context);
    foe_check(foe_tls_shake(&tls, fd), "a handshake");
    foe_check(X509_cmp(SSL_get0_peer_certificate(tls.ssl), wanted->shown) == 0,
              "a shows the certificate that it should");
    foe_tls_close(&tls);
}

static void assert_shown(X509 *shown)
{
    struct wanted wanted = {.context = sites_raw_context("c"), .shown = shown};
    siege_run(look_at_a, &wanted);
    SSL_CTX_free(wanted.context);
}

static void assert_b_stayed(void)
{
    siege_wait_for(&siege.turns, siege.turns + 50, "b and a go on");
    assert_false(siege.out_of_turn);
    assert_int_equal(siege.b.ups, 1);
    assert_int_equal(siege.b.downs, 0);
}

static void new_handshakes_have_the_new_one(void **state)
{
    (void)state;
    struct err err;
    X509 *old = certificate("a.crt");
    sites_renew("lab", "a");
    X509 *renewed = certificate("a.crt");
    assert_int_not_equal(X509_cmp(old, renewed), 0);
    assert_shown(old); /* not read yet */
    if (tls_identity_reload(siege.a.identity, &err) != 0)
        fail_msg("%s", err.text);
    assert_b_stayed();
    assert_shown(renewed);
    assert_b_stayed();
    siege_c_gets_in();
    siege_c_leaves();
    X509_free(old);
    X509_free(renewed);
}

static void what_cannot_be_used_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *cert;
        const char *key;
        const char *want;
    } rows[] = {
        {"bad", "a.key", "does not hold 1 to 4 certificates in PEM form"},
        {"a.crt", "bad", "does not hold a private key"},
        {"a.crt", "b.key", "is not that of certificate"},
        {"old.crt", "old.key", "certificate has expired"},
        {"stranger.crt", "stranger.key", "is not good under CA"},
        {"b.crt", "b.key", "now names spiffe://lab/participant/b instead of"},
    };
    struct err err;
    put("-----BEGIN CERTIFICATE-----\nAAAA", 32, "bad");
    copy("a.crt", "kept.crt");
    copy("a.key", "kept.key");
    X509 *kept = certificate("kept.crt");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        copy(rows[i].cert, "a.crt");
        copy(rows[i].key, "a.key");
        assert_int_equal(tls_identity_reload(siege.a.identity, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CONFIG);
        if (strstr(err.text, rows[i].want) == NULL)
            fail_msg("row %zu: \"%s\" not in \"%s\"", i, rows[i].want, err.text);
        copy("kept.crt", "a.crt");
        copy("kept.key", "a.key");
        assert_shown(kept);
        assert_b_stayed();
    }
    assert_int_equal(tls_identity_reload(siege.a.identity, &err), 0);
    assert_shown(kept);
    X509_free(kept);
}

static bool c_is_refused(void *arg)
{
    (void)arg;
    return siege.c.refusals > 0;
}

/* Of the other CA now: who has a certificate of the old one stays linked, but does not get in. */
static void another_ca_is_taken_over(void **state)
{
    (void)state;
    struct err err;
    siege_c_gets_in();
    assert_int_equal(rename(sites_path("other/ca.crt"), sites_path("lab/ca.crt")), 0);
    assert_int_equal(link(sites_path("lab/ca.crt"), sites_path("other/ca.crt")), 0);
    sites_renew("other", "a");
    if (tls_identity_reload(siege.a.identity, &err) != 0)
        fail_msg("%s", err.text);
    assert_b_stayed();
    assert_true(siege_c_is_up(NULL));
    assert_int_equal(link_set_peers(siege.c.link, NULL, 0, NULL), 0);
    siege_dials(&siege.c, &siege.at);
    sites_wait(siege.loop, c_is_refused, NULL, "c refuses a's new certificate");
    sites_renew("other", "c");
    if (tls_identity_reload(siege.c.identity, &err) != 0)
        fail_msg("%s", err.text);
    sites_wait(siege.loop, siege_c_is_up, NULL, "c gets in with its new certificate");
    assert_b_stayed();
    siege_c_leaves();
}

static void a_copy_is_what_the_identity_was(void **state)
{
    (void)state;
    uint8_t signature[TLS_SIGNATURE_MAX];
    char uri[TLS_URI_MAX + 1];
    struct trust *trust = NULL;
    struct trust_signed what = {.message = "context\0text",
                                .message_size = 12,
                                .signature = signature,
                                .at_s = (int64_t)(clock_wall_ns() / 1000000000U)};
    assert_int_equal(trust_load(sites_path("lab/ca.crt"), &trust, NULL), 0);
    struct tls_identity *copied = tls_identity_copy(siege.a.identity);
    assert_non_null(copied);
    sites_renew("lab", "a");
    assert_int_equal(tls_identity_reload(siege.a.identity, NULL), 0);
    assert_int_equal(tls_sign(copied, "context", "text", 4, signature, &what.signature_size, NULL),
                     0);
    what.count = tls_identity_chain(siege.a.identity, what.der, what.der_size);
    assert_int_equal(trust_verify(trust, &what, uri, NULL), -1);
    what.count = tls_identity_chain(copied, what.der, what.der_size);
    assert_int_equal(trust_verify(trust, &what, uri, NULL), 0);
    assert_string_equal(uri, "spiffe://lab/participant/a");
    tls_identity_free(copied);
    trust_free(trust);
}

int main(void)
{
#define SIEGE(test) cmocka_unit_test_setup_teardown(test, siege_open, siege_close)
    const struct CMUnitTest tests[] = {
        SIEGE(new_handshakes_have_the_new_one), SIEGE(what_cannot_be_used_is_refused),
        SIEGE(a_copy_is_what_the_identity_was),
        SIEGE(another_ca_is_taken_over), /* last: the site has another CA then */
    };
    return cmocka_run_group_tests(tests, sites_make, sites_remove);
}
