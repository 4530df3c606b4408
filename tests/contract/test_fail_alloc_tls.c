/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each), OpenSSL's too: reading
 * an identity, reading it again, a context with it, signing, and judging who signed. Good files,
 * chains and signatures are never called wrong. */
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/io/tls.h"
#include "common/io/trust.h"
#include "tests/contract/io_sites.h"
#include "tests/contract/nth.h"

static const char context[] = "a test";
static const char text[] = "what is signed";

static char cert[160];
static char key[160];
static char ca[160];
static struct tls_identity *identity;
static struct trust *trust;
static uint8_t signature[TLS_SIGNATURE_MAX];
static size_t signature_size;

/* What OpenSSL keeps for the thread (errors that were read, random numbers) is out of the count. */
static int each_way(nth_call_fn *call, struct err *err)
{
    int rc = call(err);
    long kept = nth_pause();
    OPENSSL_thread_stop();
    nth_resume(kept);
    return rc;
}

#define EACH(name)                                                                                 \
    static int each_##name(struct err *err)                                                        \
    {                                                                                              \
        return each_way(name, err);                                                                \
    }

static int loads(struct err *err)
{
    struct tls_identity *got = NULL;
    const uint8_t *der[TLS_CHAIN_MAX];
    size_t size[TLS_CHAIN_MAX];
    if (tls_identity_load(cert, key, ca, &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    assert_string_equal(tls_identity_uri(got), "spiffe://lab/participant/a");
    assert_int_equal(tls_identity_chain(got, der, size), 1);
    tls_identity_free(got);
    return 0;
}

static int reloads(struct err *err)
{
    const uint8_t *before[TLS_CHAIN_MAX];
    const uint8_t *after[TLS_CHAIN_MAX];
    size_t size[TLS_CHAIN_MAX];
    assert_int_equal(tls_identity_chain(identity, before, size), 1);
    int rc = tls_identity_reload(identity, err);
    assert_int_equal(tls_identity_chain(identity, after, size), 1);
    assert_true(rc == 0 || after[0] == before[0]);
    return rc;
}

static int copies(struct err *err)
{
    struct tls_identity *copy = tls_identity_copy(identity);
    if (copy == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no copy");
    }
    assert_string_equal(tls_identity_uri(copy), tls_identity_uri(identity));
    tls_identity_free(copy);
    return 0;
}

static int applies(struct err *err)
{
    long kept = nth_pause();
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    assert_non_null(made);
    nth_resume(kept);
    int rc = tls_context_apply(made, identity, NULL, NULL, err);
    kept = nth_pause();
    SSL_CTX_free(made);
    nth_resume(kept);
    return rc;
}

static int signs(struct err *err)
{
    uint8_t got[TLS_SIGNATURE_MAX] = {0};
    size_t size = 77;
    if (tls_sign(identity, context, text, sizeof text, got, &size, err) != 0) {
        assert_int_equal(size, 77);
        assert_int_equal(got[0], 0);
        return -1;
    }
    memcpy(signature, got, size);
    signature_size = size;
    return 0;
}

static int trusts(struct err *err)
{
    struct trust *got = NULL;
    if (trust_load(ca, &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    trust_free(got);
    return 0;
}

static int verifies(struct err *err)
{
    char message[sizeof context + sizeof text];
    char uri[TLS_URI_MAX + 1] = "untouched";
    struct trust_signed what = {.message = message,
                                .message_size = sizeof message,
                                .signature = signature,
                                .signature_size = signature_size,
                                .at_s = (int64_t)time(NULL)};
    memcpy(message, context, sizeof context);
    memcpy(message + sizeof context, text, sizeof text);
    what.count = tls_identity_chain(identity, what.der, what.der_size);
    if (trust_verify(trust, &what, uri, err) != 0) {
        assert_string_equal(uri, "untouched");
        return -1;
    }
    assert_string_equal(uri, "spiffe://lab/participant/a");
    return 0;
}

static int reads_the_name(struct err *err)
{
    const uint8_t *der[TLS_CHAIN_MAX];
    size_t size[TLS_CHAIN_MAX];
    char uri[TLS_URI_MAX + 1] = "untouched";
    assert_int_equal(tls_identity_chain(identity, der, size), 1);
    long kept = nth_pause();
    X509 *got = d2i_X509(NULL, &der[0], (long)size[0]);
    assert_non_null(got);
    nth_resume(kept);
    int rc = tls_certificate_uri(got, uri, err);
    assert_string_equal(uri, rc == 0 ? "spiffe://lab/participant/a" : "untouched");
    kept = nth_pause();
    X509_free(got);
    nth_resume(kept);
    return rc;
}

EACH(loads)
EACH(reloads)
EACH(copies)
EACH(reads_the_name)
EACH(applies)
EACH(signs)
EACH(trusts)
EACH(verifies)

static void an_identity(void **state)
{
    struct err err = {0};
    (void)state;
    nth_each_lenient("identity: load", each_loads, NULL, 50);
    assert_int_equal(tls_identity_load(cert, key, ca, &identity, &err), 0);
    nth_each_lenient("identity: reload", each_reloads, NULL, 50);
    nth_each_lenient("identity: copy", each_copies, NULL, 4);
    nth_each_lenient("identity: name", each_reads_the_name, NULL, 3);
    nth_each_lenient("context", each_applies, NULL, 3);
}

static void a_signature(void **state)
{
    struct err err = {0};
    (void)state;
    nth_each_lenient("sign", each_signs, NULL, 5);
    nth_each_lenient("trust", each_trusts, NULL, 10);
    assert_int_equal(trust_load(ca, &trust, &err), 0);
    nth_each_lenient("verify", each_verifies, NULL, 10);
}

static int setup(void **state)
{
    if (tls_failures() != 0 || sites_make(state) != 0) { /* before anything of OpenSSL's */
        return -1;
    }
    snprintf(cert, sizeof cert, "%s", sites_path("a.crt"));
    snprintf(key, sizeof key, "%s", sites_path("a.key"));
    snprintf(ca, sizeof ca, "%s", sites_path("lab/ca.crt"));
    return 0;
}

static int teardown(void **state)
{
    trust_free(trust);
    tls_identity_free(identity);
    return sites_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_identity),
        cmocka_unit_test(a_signature),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
