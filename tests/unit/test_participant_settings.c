/* SPDX-License-Identifier: Apache-2.0 */
/* participant/settings: a good file, and each way to get one wrong, with line and expectation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "participant/settings.h"

#define HEAD                                                                                       \
    "[participant]\n"                                                                              \
    "identity-cert = /pki/web.crt\n"                                                               \
    "identity-key = /pki/web.key\n"                                                                \
    "ca = /pki/ca.crt\n"                                                                           \
    "listen = 127.0.0.11:20004\n"                                                                  \
    "coordinator = 127.0.0.10:9443\n"                                                              \
    "coordinator-identity = spiffe://test/coordinator/main\n"                                      \
    "state = /var/lib/tidemark\n"
#define MEMBER "[member shop/web]\n"
#define DISK   "[disk shop/web/data]\ntap = /run/tap.sock\n"

static char path[] = "/tmp/tidemark-settings-XXXXXX";
static struct settings settings;

static int load(const char *text, struct err *err)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    memset(&settings, 0, sizeof settings);
    return settings_load(path, &settings, err);
}

static void good(void **state)
{
    struct err err = {0};
    (void)state;
    assert_int_equal(load(HEAD MEMBER "[disk shop/web/data]\ntap = /run/a\n[disk shop/web/log]\n"
                                      "tap = /run/b\n[disk crm/db/data]\ntap = /run/c\n"
                                      "[member crm/db]\n",
                          &err),
                     0);
    assert_int_equal(settings.member_count, 2);
    assert_int_equal(settings.disk_count, 3);
    assert_string_equal(settings.members[1].group.s, "crm");
    assert_int_equal(settings.disks[1].member, 0);
    assert_int_equal(settings.disks[2].member, 1);
    assert_string_equal(settings.disks[2].tap, "/run/c");
    assert_string_equal(settings.local, LOCAL_PARTICIPANT);
    assert_true(settings.compare_rate == 64 << 20);
    assert_int_equal(load(HEAD "compare-rate = 2M\n" MEMBER DISK, &err), 0);
    assert_true(settings.compare_rate == 2 << 20);
    assert_int_equal(load(HEAD MEMBER "[disk shop/web/data]\ntap = /run/a\n[disk shop/web/log]\n"
                                      "tap = /run/b\n[disk crm/db/data]\ntap = /run/c\n"
                                      "[member crm/db]\n",
                          &err),
                     0);
    assert_string_equal(settings.coordinator_uri, "spiffe://test/coordinator/main");
    assert_int_equal(settings.in_flight, SETTINGS_IN_FLIGHT);
    assert_int_equal(settings.bandwidth.usual.limit, 0);
    assert_int_equal(settings.bandwidth.count, 0);
}

static void shipping(void **state)
{
    struct err err = {0};
    (void)state;
    if (load(HEAD "in-flight = 16\nbandwidth = 20M\nbandwidth-hours = 08:00-18:30 2M ,23:00-02:00 "
                  "off, 00:00-00:00 0\n" MEMBER DISK,
             &err) == 0) {
        fail_msg("overlapping hours were taken");
    }
    if (load(HEAD "in-flight = 16\nbandwidth = 20M\nbandwidth-hours = 08:00-18:30 2M ,23:00-02:00 "
                  "off, 18:30-24:00 0\n" MEMBER DISK,
             &err) == 0) {
        fail_msg("overlapping hours were taken");
    }
    if (load(HEAD "in-flight = 16\nbandwidth = 20M\nbandwidth-hours = 08:00-18:30 2M ,23:00-02:00 "
                  "off, 18:30-23:00 0\n" MEMBER DISK,
             &err) != 0) {
        fail_msg("%s", err.text);
    }
    const struct bandwidth_rules *b = &settings.bandwidth;
    assert_int_equal(settings.in_flight, 16);
    assert_int_equal(b->usual.limit, 20U << 20);
    assert_int_equal(b->count, 3);
    assert_int_equal(bandwidth_rule(b, 8 * 60).limit, 2U << 20);
    assert_int_equal(bandwidth_rule(b, 3 * 60).limit, 20U << 20);
    assert_true(bandwidth_rule(b, 60).off);
    assert_int_equal(bandwidth_rule(b, 19 * 60).limit, 0);
}

static void bad(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *expected;
    } cases[] = {
        {"", 1, "[participant]"},
        {HEAD, 1, "[member GROUP/NAME]"},
        {HEAD MEMBER, 9, "[disk shop/web/DISK]"},
        {HEAD MEMBER DISK MEMBER, 12, "twice"},
        {HEAD MEMBER DISK DISK, 12, "twice"},
        {HEAD MEMBER DISK "[disk shop/web/log]\ntap = /run/tap.sock\n", 12, "a tap of its own"},
        {HEAD MEMBER DISK "[disk shop/db/data]\ntap = /run/x\n", 12, "[member shop/db]"},
        {HEAD MEMBER "[disk shop/web/data]\n", 10, "no key \"tap\""},
        {HEAD MEMBER "[disk shop/web/data]\ntap = relative\n", 11, "absolute"},
        {HEAD MEMBER "[disk shop/data]\ntap = /run/x\n", 10, "GROUP/MEMBER/DISK"},
        {HEAD MEMBER "[disk shop/web/data/more]\ntap = /run/x\n", 10, "GROUP/MEMBER/DISK"},
        {HEAD "[member Shop/web]\n" DISK, 9, "GROUP/NAME"},
        {HEAD "[member shop]\n" DISK, 9, "GROUP/NAME"},
        {HEAD MEMBER "disks = data\n" DISK, 10, "unknown key"},
        {HEAD "colour = red\n" MEMBER DISK, 9, "identity-cert, identity-key"},
        {HEAD "listen = 127.0.0.12:20004\n" MEMBER DISK, 9, "twice"},
        {HEAD "compare-rate = 1K\n" MEMBER DISK, 9, "compare-rate"},
        {HEAD "compare-rate = fast\n" MEMBER DISK, 9, "compare-rate"},
        {HEAD "compare-rate = 1M\ncompare-rate = 1M\n" MEMBER DISK, 10, "twice"},
        {HEAD "in-flight = 0\n", 9, "in-flight"},
        {HEAD "in-flight = 17\n", 9, "in-flight"},
        {HEAD "in-flight = 2\nin-flight = 2\n", 10, "twice"},
        {HEAD "bandwidth = 0\nbandwidth = 2M\n", 10, "twice"},
        {HEAD "bandwidth = 1000\n", 9, "16K at least"},
        {HEAD "bandwidth = fast\n", 9, "bandwidth"},
        {HEAD "bandwidth-hours = 08:00-18:00\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 8:00-18:00 2M\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 08:00-08:00 2M\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 08:00-25:00 2M\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 08:60-09:00 2M\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 08:00-09:00 2M,\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = ,\n", 9, "HH:MM-HH:MM SIZE"},
        {HEAD "bandwidth-hours = 08:00-09:00 never\n", 9, "never"},
        {HEAD "bandwidth-hours = 22:00-06:00 2M, 05:59-07:00 off\n", 9, "overlaps"},
        {HEAD "[vm shop/web]\n", 9, "unknown section"},
        {"[participant]\nlisten = web:20004\n", 2, "listen"},
        {"[participant]\ncoordinator-identity = spiffe://test/participant/web\n", 2,
         "not a coordinator"},
        {"[participant]\nca = /ca.crt\n" MEMBER DISK, 1, "no key \"identity-cert\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        char where[256];
        snprintf(where, sizeof where, "%s:%d: ", path, cases[i].line);
        assert_int_equal(load(cases[i].text, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CONFIG);
        if (strncmp(err.text, where, strlen(where)) != 0 ||
            strstr(err.text, cases[i].expected) == NULL) {
            fail_msg("case %zu: \"%s\", expected %s... %s", i, err.text, where, cases[i].expected);
        }
    }
}

/* What deploy/examples shows must be what the daemon takes. */
static void example(void **state)
{
    const char *source = getenv("TIDE_SOURCE");
    char text[8192];
    struct err err = {0};
    (void)state;
    if (source == NULL) {
        skip();
    }
    snprintf(text, sizeof text, "%s/deploy/examples/participant.ini", source);
    FILE *file = fopen(text, "r");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    if (load(text, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static int setup(void **state)
{
    int fd = mkstemp(path);
    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(shipping),
                                       cmocka_unit_test(bad), cmocka_unit_test(example)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
