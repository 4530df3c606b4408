/* SPDX-License-Identifier: Apache-2.0 */
/* common/io without sockets: SP framing byte by byte, configuration and its errors, values,
 * addresses, identities and their files, files, the loop. */
#include "common/io/address.h"
#include "common/io/clock.h"
#include "common/io/config.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "common/io/loop.h"
#include "common/io/pki.h"
#include "common/io/sp.h"
#include "common/io/tls.h"
#include "common/io/trust.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *to = path[next++ % 8];
    snprintf(to, sizeof(path[0]), "%s/%s", folder, name);
    return to;
}

/* ---- framing ---- */

struct heard {
    unsigned count;
    size_t size;
    uint8_t bytes[600];
    unsigned stop_at;
};

static bool hear(void *arg, const uint8_t *bytes, size_t size)
{
    struct heard *heard = arg;
    assert_true(size <= sizeof(heard->bytes));
    memcpy(heard->bytes, bytes, size);
    heard->size = size;
    return ++heard->count != heard->stop_at;
}

/* The vector of proto/README.md: hello, "hello" (5 bytes), and 258 bytes of 0xa5. */
static void framing_is_the_vector(void **state)
{
    (void)state;
    static const uint8_t hello[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00};
    static const uint8_t five[] = {0, 0, 0, 0, 0, 0, 0, 5};
    static const uint8_t many[] = {0, 0, 0, 0, 0, 0, 1, 2};
    static const uint8_t huge[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
    uint8_t head[SP_HEADER_SIZE];
    assert_memory_equal(sp_hello, hello, sizeof(hello));
    sp_header(5, head);
    assert_memory_equal(head, five, sizeof(five));
    sp_header(258, head);
    assert_memory_equal(head, many, sizeof(many));
    sp_header(0x0123456789abcdefULL, head);
    assert_memory_equal(head, huge, sizeof(huge));
}

static void stream_comes_apart_however_it_is_cut(void **state)
{
    (void)state;
    uint8_t stream[8 + 8 + 5 + 8 + 258];
    struct err err;
    memcpy(stream, "\x00\x53\x50\x00\x00\x70\x00\x00", 8);
    memcpy(stream + 8, "\x00\x00\x00\x00\x00\x00\x00\x05hello", 13);
    memcpy(stream + 21, "\x00\x00\x00\x00\x00\x00\x01\x02", 8);
    memset(stream + 29, 0xa5, 258);
    for (size_t step = 1; step <= sizeof(stream); step++) {
        struct sp_decoder decoder;
        struct heard heard = {0};
        assert_true(sp_decoder_init(&decoder, 600));
        for (size_t at = 0; at < sizeof(stream); at += step) {
            size_t size = sizeof(stream) - at < step ? sizeof(stream) - at : step;
            assert_int_equal(sp_decode(&decoder, stream + at, size, hear, &heard, &err), 0);
        }
        assert_int_equal(heard.count, 2);
        assert_int_equal(heard.size, 258);
        assert_int_equal(heard.bytes[0], 0xa5);
        assert_int_equal(heard.bytes[257], 0xa5);
        sp_decoder_close(&decoder);
    }
}

static void bad_frames_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum err_code code;
        const char *text;
    } rows[] = {
        {"GET / HT", 8, TIDE_ERR_CORRUPT, "hello 47 45 54"},
        {"\x00\x53\x50\x00\x00\x30\x00\x00", 8, TIDE_ERR_CORRUPT, "SP BUS v0"}, /* REQ */
        {"\x00\x53\x50\x01\x00\x70\x00\x00", 8, TIDE_ERR_CORRUPT, "SP BUS v0"}, /* version 1 */
        {"\x00\x53\x50\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 16, TIDE_ERR_LIMIT,
         "message of 0 bytes"},
        {"\x00\x53\x50\x00\x00\x70\x00\x00\x00\x00\x00\x00\x00\x00\x00\x65", 16, TIDE_ERR_LIMIT,
         "message of 101 bytes; 1 to 100"},
        {"\x00\x53\x50\x00\x00\x70\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", 16, TIDE_ERR_LIMIT,
         "18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sp_decoder decoder;
        struct heard heard = {0};
        struct err err = {0};
        assert_true(sp_decoder_init(&decoder, 100));
        assert_int_equal(
            sp_decode(&decoder, (const uint8_t *)rows[i].bytes, rows[i].size, hear, &heard, &err),
            -1);
        assert_int_equal(err.code, rows[i].code);
        assert_non_null(strstr(err.text, rows[i].text));
        assert_int_equal(heard.count, 0);
        /* and it stays so */
        assert_int_equal(sp_decode(&decoder, sp_hello, 8, hear, &heard, &err), -1);
        sp_decoder_close(&decoder);
    }
}

static void largest_message_passes_and_stop_stops(void **state)
{
    (void)state;
    struct sp_decoder decoder;
    struct heard heard = {.stop_at = 2};
    struct err err;
    uint8_t stream[8 + 3 * 108] = {0};
    memcpy(stream, sp_hello, 8);
    for (size_t i = 0; i < 3; i++)
        sp_header(100, stream + 8 + i * 108);
    assert_true(sp_decoder_init(&decoder, 100));
    assert_int_equal(sp_decode(&decoder, stream, sizeof(stream), hear, &heard, &err), 0);
    assert_int_equal(heard.count, 2);
    assert_int_equal(heard.size, 100);
    sp_decoder_close(&decoder);
}

/* ---- configuration ---- */

struct seen {
    char text[2048];
    char path[32];
};

static int see(void *arg, const struct config_entry *entry, struct err *err)
{
    struct seen *seen = arg;
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof(seen->text) - used, "%d[%s]%s=%s\n", entry->line,
             entry->section, entry->key == NULL ? "-" : entry->key,
             entry->key == NULL ? "-" : entry->value);
    if (entry->key != NULL && strcmp(entry->key, "path") == 0)
        return config_path(entry, seen->path, sizeof(seen->path), err);
    if (entry->key != NULL && strcmp(entry->key, "bad") == 0)
        return config_unknown(entry, "path, good", err);
    if (entry->key == NULL && strcmp(entry->section, "odd") == 0)
        return config_unknown(entry, "[a], [member GROUP/NAME]", err);
    return 0;
}

static int load(const char *text, struct seen *seen, struct err *err)
{
    const char *path = in_folder("c.ini");
    *seen = (struct seen){0};
    *err = (struct err){0};
    assert_int_equal(file_replace(path, text, strlen(text), 0600, NULL), 0);
    return config_load(path, see, seen, err);
}

static void configuration_is_seen_with_lines(void **state)
{
    (void)state;
    struct seen seen;
    struct err err;
    assert_int_equal(load("; comment\n[a]\nk = v with space ; note\n  indented = x\r\n\n"
                          "[member shop/web]\n[member shop/db] ; empty too\n"
                          "[disk shop/web/a-name-that-is-longer-than-the-fifty-bytes-of-libinih-"
                          "and-goes-on]\nz=",
                          &seen, &err),
                     0);
    assert_string_equal(
        seen.text,
        "2[a]-=-\n3[a]k=v with space\n4[a]indented=x\n6[member shop/web]-=-\n"
        "7[member shop/db]-=-\n"
        "8[disk shop/web/a-name-that-is-longer-than-the-fifty-bytes-of-libinih-and-goes-on]-=-\n"
        "9[disk shop/web/a-name-that-is-longer-than-the-fifty-bytes-of-libinih-and-goes-on]z=\n");
    assert_string_equal(config_section_rest("member shop/web", "member"), "shop/web");
    assert_string_equal(config_section_rest("member", "member"), "");
    assert_null(config_section_rest("members shop/web", "member"));
}

static void configuration_errors_name_file_line_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *line;
        const char *want;
    } rows[] = {
        {"[a]\n\nbad = 1\n", "c.ini:3: ",
         "unknown key \"bad\" in section [a]; expected one of: "
         "path, good"},
        {"[a]\n[odd]\n", "c.ini:2: ", "unknown section [odd]; expected one of: [a]"},
        {"[a]\nnot a line\nbad = 1\n", "c.ini:2: ", ""},
        {"[a\nk = v\n", "c.ini:1: ", "expected \"]\""},
        {"[]\n", "c.ini:1: ", "a bad section line"},
        {"[a] k = v\n", "c.ini:1: ", "a bad section line"},
        {"[a]\npath = relative\n", "c.ini:2: ", "not an absolute path"},
        {"[a]\npath = /x\npath = /y\n", "c.ini:3: ", "given twice"},
        {"[a]\npath =\n", "c.ini:2: ", "has no value"},
        {"[a]\npath = /0123456789012345678901234567890\n", "c.ini:2: ", "at most 31"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct seen seen;
        struct err err;
        assert_int_equal(load(rows[i].text, &seen, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CONFIG);
        if (strstr(err.text, rows[i].line) == NULL || strstr(err.text, rows[i].want) == NULL)
            fail_msg("row %zu: %s", i, err.text);
    }
    struct seen seen;
    struct err err;
    char *line = malloc(3000);
    assert_non_null(line);
    memset(line, 'x', 2999);
    line[2999] = 0;
    assert_int_equal(load(line, &seen, &err), -1);
    assert_non_null(strstr(err.text, "a line of 2999 bytes"));
    free(line);
    assert_int_equal(config_load(in_folder("none.ini"), see, &seen, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
}

static void values_parse_or_say_why(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t v = 77;
    bool b;
    assert_int_equal(config_parse_duration("50ms", 1, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, 50000);
    assert_int_equal(config_parse_duration("24h", 1, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, 86400000000);
    assert_int_equal(config_parse_duration("250us", 1, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, 250);
    static const char *const no_durations[] = {"",
                                               "5",
                                               "ms",
                                               "-5s",
                                               "5 s",
                                               "5sec",
                                               "1.5s",
                                               "99999999999999999999s",
                                               "999999999999999999d"};
    for (size_t i = 0; i < sizeof(no_durations) / sizeof(no_durations[0]); i++) {
        v = 77;
        assert_int_equal(config_parse_duration(no_durations[i], 1, UINT64_MAX, &v, &err), -1);
        assert_int_equal(v, 77);
        assert_non_null(strstr(err.text, "is not a duration"));
    }
    assert_int_equal(config_parse_duration("4ms", 5000, 300000, &v, &err), -1);
    assert_non_null(strstr(err.text, "5000 to 300000"));
    assert_int_equal(config_parse_size("256M", 0, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, 256ULL << 20);
    assert_int_equal(config_parse_size("4096", 0, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, 4096);
    assert_int_equal(config_parse_size("16777216T", 0, UINT64_MAX, &v, &err), -1);
    assert_int_equal(config_parse_size("1Mi", 0, UINT64_MAX, &v, &err), -1);
    assert_int_equal(config_parse_number("18446744073709551615", 0, UINT64_MAX, &v, &err), 0);
    assert_int_equal(v, UINT64_MAX);
    assert_int_equal(config_parse_number("18446744073709551616", 0, UINT64_MAX, &v, &err), -1);
    assert_int_equal(config_parse_number("0x10", 0, 100, &v, &err), -1);
    assert_int_equal(config_parse_bool("yes", &b, &err), 0);
    assert_true(b);
    assert_int_equal(config_parse_bool("off", &b, &err), 0);
    assert_false(b);
    assert_int_equal(config_parse_bool("maybe", &b, &err), -1);
}

static void addresses_are_numeric(void **state)
{
    (void)state;
    struct address a;
    struct address b;
    struct err err;
    char text[ADDRESS_TEXT_MAX];
    assert_int_equal(address_parse("127.0.0.11:20004", false, &a, &err), 0);
    assert_string_equal(address_text(&a, text), "127.0.0.11:20004");
    assert_int_equal(address_parse("[2001:db8::1]:9443", false, &b, &err), 0);
    assert_string_equal(address_text(&b, text), "[2001:db8::1]:9443");
    assert_false(address_equal(&a, &b));
    assert_int_equal(address_parse("127.0.0.11:20005", false, &b, &err), 0);
    assert_false(address_equal(&a, &b));
    assert_int_equal(address_parse("127.0.0.11:0", true, &b, &err), 0);
    static const char *const bad[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "localhost:1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        ":20004",
        "1.2.3:4",
        "::1:20004",
        "[::1:20004",
        "127.0.0.1:+5",
        "127.0.0.1: 5",
        "[]:1",
        "1.2.3.4:5x",
        "[::1]:",
        "[127.0.0.1]:1",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (address_parse(bad[i], false, &b, &err) != -1)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_int_equal(err.code, TIDE_ERR_CONFIG);
    }

    static const struct {
        const char *one;
        const char *other;
        bool same;
    } hosts[] = {
        {"192.0.2.1:1", "192.0.2.1:2", true},
        {"192.0.2.1:1", "192.0.2.2:1", false},
        {"[2001:db8::1]:1", "[2001:db8::ffff:1]:2", true}, /* of one /64 */
        {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
        {"[::1]:1", "127.0.0.1:1", false},
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        assert_int_equal(address_parse(hosts[i].one, false, &a, NULL), 0);
        assert_int_equal(address_parse(hosts[i].other, false, &b, NULL), 0);
        assert_int_equal(address_same_host(&a, &b), hosts[i].same);
    }
}

/* ---- identities ---- */

static void uris_parse(void **state)
{
    (void)state;
    struct tls_name name;
    struct err err;
    char uri[TLS_URI_MAX + 1];
    assert_int_equal(tls_name_parse("spiffe://lab.example/participant/web_1.a", &name, &err), 0);
    assert_int_equal(name.role, TLS_PARTICIPANT);
    assert_string_equal(name.site, "lab.example");
    assert_string_equal(name.id, "web_1.a");
    assert_string_equal(tls_name_uri(&name, uri), "spiffe://lab.example/participant/web_1.a");
    assert_int_equal(tls_name_parse("spiffe://lab/coordinator/a", &name, &err), 0);
    assert_int_equal(name.role, TLS_COORDINATOR);
    assert_int_equal(tls_name_parse("spiffe://lab/operator/a", &name, &err), 0);
    static const char *const bad[] = {
        "",
        "spiffe://lab/participant/",
        "spiffe://lab/participant",
        "spiffe://lab/participant/a/b",
        "spiffe:///participant/a",
        "spiffe://lab/participants/a",
        "spiffe://lab//a",
        "spiffe://Lab/participant/a",
        "spiffe://lab/participant/A",
        "spiffe://lab/participant/-a",
        "spiffe://lab/participant/a b",
        "spiffe://lab/participant/a?x",
        "https://lab/participant/a",
        "SPIFFE://lab/participant/a",
        ("spiffe://lab/participant/"
         "0123456789012345678901234567890123456789012345678901234567890123"),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (tls_name_parse(bad[i], &name, &err) != -1)
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void make_leaf(const char *site_dir, struct pki_request *request, const char *name)
{
    struct pki_pair ca;
    struct pki_pair leaf;
    char prefix[160];
    snprintf(prefix, sizeof(prefix), "%s/ca", site_dir);
    assert_int_equal(pki_pair_read(prefix, &ca, NULL), 0);
    request->common_name = name;
    if (request->valid_to_s == 0)
        request->valid_to_s = 86400;
    assert_int_equal(pki_make_leaf(&ca, request, &leaf, NULL), 0);
    assert_int_equal(pki_pair_write(&leaf, in_folder(name), NULL), 0);
    pki_pair_close(&ca);
    pki_pair_close(&leaf);
}

static int load_identity(const char *name, const char *ca, struct tls_identity **ret,
                         struct err *err)
{
    char cert[160];
    char key[160];
    snprintf(cert, sizeof(cert), "%s/%s.crt", folder, name);
    snprintf(key, sizeof(key), "%s/%s.key", folder, name);
    return tls_identity_load(cert, key, ca, ret, err);
}

static void identities_load_or_say_why(void **state)
{
    (void)state;
    struct err err = {0};
    struct tls_identity *identity = NULL;
    char uri[TLS_URI_MAX + 1];
    char site[128];
    snprintf(site, sizeof(site), "%s", in_folder("pki"));
    assert_int_equal(pki_init(site, "lab", &err), 0);
    assert_int_equal(pki_init(site, "lab", &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(pki_init(in_folder("other"), "lab", &err), 0);
    assert_int_equal(pki_init(in_folder("third"), "La b", &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFIG);
    assert_int_equal(
        pki_issue(site, "participant", "web", NULL, 0, NULL, 0, 5, in_folder("web"), uri, &err), 0);
    assert_string_equal(uri, "spiffe://lab/participant/web");
    const char *one = "127.0.0.10";
    assert_int_equal(
        pki_issue(site, "coordinator", "main", NULL, 0, &one, 1, 5, in_folder("main"), uri, &err),
        0);
    one = "not-an-ip";
    assert_int_equal(
        pki_issue(site, "coordinator", "main", NULL, 0, &one, 1, 5, in_folder("m2"), uri, &err),
        -1);
    assert_int_equal(
        pki_issue(site, "participant", "web", NULL, 0, NULL, 0, 5, in_folder("web"), uri, &err),
        -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    struct stat key;
    assert_int_equal(stat(in_folder("web.key"), &key), 0);
    assert_int_equal(key.st_mode & 07777, 0600);

    char ca[160];
    char other[160];
    snprintf(ca, sizeof(ca), "%s/pki/ca.crt", folder);
    snprintf(other, sizeof(other), "%s/other/ca.crt", folder);
    assert_int_equal(load_identity("web", ca, &identity, &err), 0);
    assert_string_equal(tls_identity_uri(identity), "spiffe://lab/participant/web");
    tls_identity_free(identity);
    identity = NULL;

    struct pki_request two = {.uris = {"spiffe://lab/participant/a", "spiffe://lab/participant/b"},
                              .uri_count = 2};
    struct pki_request none = {.dns = {"a.example"}, .dns_count = 1};
    struct pki_request nul = {
        .uris = {"spiffe://lab/participant/a\0.evil"}, .uri_sizes = {32}, .uri_count = 1};
    struct pki_request old = {.uris = {"spiffe://lab/participant/a"},
                              .uri_count = 1,
                              .valid_from_s = -7200,
                              .valid_to_s = -3600};
    struct pki_request odd = {.uris = {"https://lab.example/"}, .uri_count = 1};
    make_leaf(site, &two, "two");
    make_leaf(site, &none, "none");
    make_leaf(site, &nul, "nul");
    make_leaf(site, &old, "old");
    make_leaf(site, &odd, "odd");
    static const struct {
        const char *name;
        const char *want;
    } rows[] = {{"two", "more than one URI name"}, {"none", "no URI name"},
                {"nul", "has a NUL in it"},        {"old", "certificate has expired"},
                {"odd", "is not an identity"},     {"gone", "No such file"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(load_identity(rows[i].name, ca, &identity, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CONFIG);
        if (strstr(err.text, rows[i].want) == NULL)
            fail_msg("%s: %s", rows[i].name, err.text);
        assert_null(identity);
    }
    assert_int_equal(load_identity("web", other, &identity, &err), -1);
    assert_non_null(strstr(err.text, "is not good under CA"));
    assert_int_equal(
        tls_identity_load(in_folder("web.crt"), in_folder("main.key"), ca, &identity, &err), -1);
    assert_non_null(strstr(err.text, "is not that of certificate"));
    assert_int_equal(chmod(in_folder("web.key"), 0644), 0);
    assert_int_equal(load_identity("web", ca, &identity, &err), -1);
    assert_non_null(strstr(err.text, "chmod 0600"));
    assert_int_equal(chmod(in_folder("web.key"), 0600), 0);
    assert_int_equal(
        tls_identity_load(in_folder("web.key"), in_folder("web.key"), ca, &identity, &err), -1);
    assert_non_null(strstr(err.text, "does not hold 1 to 4 certificates"));
}

/* At what time, under which CA, which bytes. */
static int verify(const struct trust *trust, const struct trust_signed *what, const char *message,
                  size_t size, char uri[TLS_URI_MAX + 1], struct err *err)
{
    struct trust_signed changed = *what;
    changed.message = message;
    changed.message_size = size;
    return trust_verify(trust, &changed, uri, err);
}

static void signatures_are_of_one_signer_context_and_text(void **state)
{
    (void)state;
    struct err err = {0};
    struct tls_identity *web;
    struct tls_identity *coordinator;
    struct trust *trust;
    char ca[160];
    char uri[TLS_URI_MAX + 1] = "untouched";
    uint8_t signature[TLS_SIGNATURE_MAX];
    struct trust_signed s = {.signature = signature,
                             .at_s = (int64_t)(clock_wall_ns() / 1000000000U)};
    snprintf(ca, sizeof(ca), "%s/pki/ca.crt", folder);
    assert_int_equal(load_identity("web", ca, &web, &err), 0);
    assert_int_equal(load_identity("main", ca, &coordinator, &err), 0);
    assert_int_equal(trust_load(ca, &trust, &err), 0);
    assert_int_equal(tls_sign(web, "context 1", "text", 4, signature, &s.signature_size, &err), 0);
    s.count = tls_identity_chain(web, s.der, s.der_size);
    assert_int_equal(s.count, 1);
    assert_int_equal(verify(trust, &s, "context 2\0text", 14, uri, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_int_equal(verify(trust, &s, "context 1\0texT", 14, uri, &err), -1);
    assert_int_equal(verify(trust, &s, "context 1\0text", 13, uri, &err), -1);
    signature[s.signature_size - 1] ^= 1;
    assert_int_equal(verify(trust, &s, "context 1\0text", 14, uri, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    signature[s.signature_size - 1] ^= 1;
    assert_string_equal(uri, "untouched");
    assert_int_equal(verify(trust, &s, "context 1\0text", 14, uri, &err), 0);
    assert_string_equal(uri, "spiffe://lab/participant/web");
    struct trust_signed other = s;
    other.signature_size = 0;
    assert_int_equal(verify(trust, &other, "context 1\0text", 14, uri, &err), -1);
    other = s;
    other.count = tls_identity_chain(coordinator, other.der, other.der_size);
    assert_int_equal(verify(trust, &other, "context 1\0text", 14, uri, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    other = s;
    other.der_size[0]--;
    assert_int_equal(verify(trust, &other, "context 1\0text", 14, uri, &err), -1);
    assert_non_null(strstr(err.text, "is not a certificate"));
    other = s;
    other.count = 0;
    assert_int_equal(verify(trust, &other, "context 1\0text", 14, uri, &err), -1);
    other = s;
    other.at_s -= 365 * 86400;
    assert_int_equal(verify(trust, &other, "context 1\0text", 14, uri, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    assert_non_null(strstr(err.text, "is valid from"));
    trust_free(trust);
    snprintf(ca, sizeof(ca), "%s/other/ca.crt", folder);
    assert_int_equal(trust_load(ca, &trust, &err), 0);
    assert_int_equal(verify(trust, &s, "context 1\0text", 14, uri, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    assert_non_null(strstr(err.text, "does not end at the CA"));
    trust_free(trust);
    snprintf(ca, sizeof(ca), "%s/web.key", folder);
    assert_int_equal(trust_load(ca, &trust, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFIG);
    tls_identity_free(web);
    tls_identity_free(coordinator);
}

/* ---- files, log, loop ---- */

static void files_are_replaced_whole(void **state)
{
    (void)state;
    struct err err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    const char *path = in_folder("deep/er/file");
    assert_int_equal(file_mkdirs(in_folder("deep/er"), 0700, &err), 0);
    assert_int_equal(file_mkdirs(in_folder("deep//er/"), 0700, &err), 0);
    assert_int_equal(file_create(path, "one", 3, 0600, &err), 0);
    assert_int_equal(file_create(path, "two", 3, 0600, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(file_replace(path, "three", 5, 0640, &err), 0);
    assert_int_equal(file_read(path, 5, &bytes, &size, &err), 0);
    assert_int_equal(size, 5);
    assert_string_equal(bytes, "three");
    free(bytes);
    assert_int_equal(file_read(path, 4, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_int_equal(file_read(in_folder("deep"), 4, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_IO);
    assert_int_equal(file_mkdirs(in_folder("deep/er/file/x"), 0700, &err), -1);
    assert_int_equal(rmdir(in_folder("deep/er")), -1); /* no temporary file hides a bug: one file */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(in_folder("deep/er")), 0);
    int first = file_lock(in_folder("lock"), &err);
    assert_true(first >= 0);
    assert_int_equal(file_lock(in_folder("lock"), &err), -1);
    assert_int_equal(err.code, TIDE_ERR_BUSY);
    close(first);
    first = file_lock(in_folder("lock"), &err);
    assert_true(first >= 0);
    uint8_t at[4];
    assert_int_equal(file_pwrite_full(first, "abcd", 4, 10, "lock", &err), 0);
    assert_int_equal(file_pread_full(first, at, 4, 10, "lock", &err), 0);
    assert_memory_equal(at, "abcd", 4);
    assert_int_equal(file_pread_full(first, at, 4, 11, "lock", &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    close(first);
    first = open("/dev/full", O_WRONLY);
    assert_int_equal(file_write_full(first, "x", 1, "/dev/full", &err), -1);
    assert_int_equal(err.code, TIDE_ERR_FULL);
    close(first);
}

static void log_limits_hold_back(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    uint64_t lost = 9;
    assert_true(log_allowed(&limit, 2, 100, 1000, &lost));
    assert_int_equal(lost, 0);
    assert_true(log_allowed(&limit, 2, 100, 1001, &lost));
    assert_false(log_allowed(&limit, 2, 100, 1002, &lost));
    assert_false(log_allowed(&limit, 2, 100, 1099, &lost));
    assert_true(log_allowed(&limit, 2, 100, 1100, &lost));
    assert_int_equal(lost, 2);
}

struct drain {
    int fd;
    unsigned lines;
    unsigned long long lost;
    bool cut; /* a line that is not whole */
};

static void *drain_run(void *arg)
{
    struct drain *drain = arg;
    char line[4096];
    FILE *from = fdopen(drain->fd, "r");
    while (from != NULL && fgets(line, sizeof(line), from) != NULL) {
        const char *lost = strstr(line, " lines lost");
        drain->cut = drain->cut || strchr(line, '\n') == NULL;
        if (lost == NULL) {
            drain->lines++;
            drain->cut = drain->cut || strstr(line, " tests info: line ") == NULL;
            continue;
        }
        while (lost > line && lost[-1] >= '0' && lost[-1] <= '9')
            lost--;
        drain->lost += strtoull(lost, NULL, 10);
    }
    if (from != NULL)
        fclose(from);
    return NULL;
}

/* Nobody reads standard error: callers go on; what did not fit is counted, not silently gone. */
static void log_never_waits_for_its_reader(void **state)
{
    (void)state;
    enum { LINES = 3000 };
    struct drain drain = {0};
    pthread_t thread;
    int ends[2];
    char pad[200];
    memset(pad, 'p', sizeof(pad));
    pad[sizeof(pad) - 1] = 0;
    assert_int_equal(pipe(ends), 0);
    int kept = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    log_start("tests", LOG_LEVEL_INFO);
    uint64_t from = clock_mono_us();
    for (unsigned i = 0; i < LINES; i++) {
        log_info("line %u\n%s", i, pad); /* the newline must not make two lines */
        log_debug("not wanted");
    }
    uint64_t took = clock_mono_us() - from;
    drain.fd = ends[0];
    assert_int_equal(pthread_create(&thread, NULL, drain_run, &drain), 0);
    log_stop();
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO); /* closes the pipe's end */
    close(kept);
    pthread_join(thread, NULL);
    assert_true(took < 2000000);
    assert_false(drain.cut);
    assert_true(drain.lost > 0);
    assert_int_equal(drain.lines + drain.lost, LINES);
}

static void notify_is_one_datagram(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char got[64] = "";
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/notify", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    unsetenv("NOTIFY_SOCKET");
    daemon_notify("READY=1");
    assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), -1);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    daemon_notify("READY=1");
    assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), 7);
    assert_memory_equal(got, "READY=1", 7);
    setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
    daemon_notify("READY=1");             /* nobody there: no harm */
    for (unsigned i = 0; i < 5000; i++) { /* a full one does not block */
        setenv("NOTIFY_SOCKET", at.sun_path, 1);
        daemon_notify("STATUS=busy");
    }
    unsetenv("NOTIFY_SOCKET");
    close(fd);
}

struct stopper {
    struct loop *loop;
    struct daemon_signals signals;
    unsigned stops;
};

static void stopper_stop(void *arg)
{
    struct stopper *stopper = arg;
    stopper->stops++;
    loop_stop(stopper->loop);
}

static void signals_stop_the_loop(void **state)
{
    (void)state;
    static const int numbers[] = {SIGTERM, SIGINT};
    for (unsigned i = 0; i < 2; i++) {
        struct stopper stopper = {.loop = loop_new()};
        daemon_signals_init(&stopper.signals, stopper.loop, stopper_stop, &stopper);
        assert_int_equal(kill(getpid(), numbers[i]), 0);
        loop_run(stopper.loop);
        assert_int_equal(stopper.stops, 1);
        daemon_signals_close(&stopper.signals);
        loop_free(stopper.loop);
    }
}

struct ring {
    struct loop *loop;
    struct loop_timer timer;
    unsigned calls;

    unsigned fired_at;
};

static void post_counts(void *arg)
{
    struct ring *ring = arg;
    ring->calls++;
    if (ring->calls == 3000)
        loop_timer_set(&ring->timer, clock_mono_us() + 1000);
}

static void timer_fires(void *arg)
{
    struct ring *ring = arg;
    ring->fired_at = ring->calls;
    loop_stop(ring->loop);
}

static void *post_from_thread(void *arg)
{
    struct ring *ring = arg;
    for (unsigned i = 0; i < 1000; i++)
        while (loop_post(ring->loop, post_counts, ring, NULL) != 0)
            continue;
    return NULL;
}

static void loop_takes_calls_from_threads(void **state)
{
    (void)state;
    struct ring ring = {.loop = loop_new()};
    pthread_t threads[3];
    loop_timer_init(&ring.timer, ring.loop, timer_fires, &ring);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_from_thread, &ring), 0);
    loop_run(ring.loop);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ring.calls, 3000);
    assert_int_equal(ring.fired_at, 3000);
    loop_timer_close(&ring.timer);
    loop_free(ring.loop);
}

static void loop_queue_is_bounded(void **state)
{
    (void)state;
    struct ring ring = {.loop = loop_new()};
    struct err err = {0};
    loop_timer_init(&ring.timer, ring.loop, timer_fires, &ring);
    for (unsigned i = 0; i < LOOP_POST_MAX; i++)
        assert_int_equal(loop_post(ring.loop, post_counts, &ring, &err), 0);
    assert_int_equal(loop_post(ring.loop, post_counts, &ring, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_BUSY);
    loop_stop(ring.loop); /* before it runs: it then returns at once */
    loop_run(ring.loop);
    assert_int_equal(ring.calls, 0);
    loop_timer_close(&ring.timer);
    loop_free(ring.loop);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/tide-io-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing_is_the_vector),
        cmocka_unit_test(stream_comes_apart_however_it_is_cut),
        cmocka_unit_test(bad_frames_are_refused),
        cmocka_unit_test(largest_message_passes_and_stop_stops),
        cmocka_unit_test(configuration_is_seen_with_lines),
        cmocka_unit_test(configuration_errors_name_file_line_and_remedy),
        cmocka_unit_test(values_parse_or_say_why),
        cmocka_unit_test(addresses_are_numeric),
        cmocka_unit_test(uris_parse),
        cmocka_unit_test(identities_load_or_say_why),
        cmocka_unit_test(signatures_are_of_one_signer_context_and_text),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(log_limits_hold_back),
        cmocka_unit_test(log_never_waits_for_its_reader),
        cmocka_unit_test(notify_is_one_datagram),
        cmocka_unit_test(signals_stop_the_loop),
        cmocka_unit_test(loop_takes_calls_from_threads),
        cmocka_unit_test(loop_queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
