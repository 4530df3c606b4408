/* SPDX-License-Identifier: Apache-2.0 */
/* The default size of a log: each bound, by itself and against the others; a log that is there. */
#include "participant/tap/quota.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

static void check(uint64_t total, uint64_t available, uint64_t size, const char *word)
{
    const char *why = NULL;
    assert_int_equal(quota_choose(total, available, &why), size);
    assert_non_null(why);
    assert_non_null(strstr(why, word));
}

static void bounds(void **state)
{
    (void)state;
    check(100 * GIB, 100 * GIB, 5 * GIB, "5 %");
    check(10 * GIB, 10 * GIB, 512 * MIB, "5 %");
    check(GIB, GIB, 64 * MIB, "the least by default");
    check(TIB, TIB, 8 * GIB, "the most by default");
    check(UINT64_MAX, UINT64_MAX, 8 * GIB, "the most by default");
    check(100 * GIB, 4 * GIB, GIB, "a quarter");
    check(TIB, GIB, 256 * MIB, "a quarter");
    check(GIB, 128 * MIB, 32 * MIB, "a quarter");
    check(24 * MIB, 24 * MIB, 8 * MIB, "the least that");
    check(0, 0, 8 * MIB, "the least that");
    check(UINT64_MAX, 0, 8 * MIB, "the least that");
    check(10 * GIB + 12345, 10 * GIB, 512 * MIB, "5 %"); /* whole MiB */
}

static void make(const char *folder, const char *name, off_t size)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

static void of_a_folder(void **state)
{
    (void)state;
    char base[] = "/tmp/tide-quota-XXXXXX";
    char folder[64];
    char command[96];
    const char *why = NULL;
    assert_non_null(mkdtemp(base));
    (void)snprintf(folder, sizeof folder, "%s/log", base);
    assert_true(quota_of(folder, &why) >= TIDE_QUOTA_FLOOR); /* not there: its parent is asked */
    assert_null(strstr(why, "made with"));
    assert_int_equal(mkdir(folder, 0700), 0);
    make(folder, "ring-000", 9 << 20);
    make(folder, "ring-001", 9 << 20);
    (void)quota_of(folder, &why);
    assert_null(strstr(why, "made with")); /* without a state it is no log yet */
    make(folder, "state", 8192);
    assert_int_equal(quota_of(folder, &why), 18 << 20);
    assert_non_null(strstr(why, "made with"));
    (void)snprintf(folder, sizeof folder, "%s/no/such/folder", base);
    assert_int_equal(quota_of(folder, &why), 0);
    (void)snprintf(command, sizeof command, "rm -rf %s", base);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds),
        cmocka_unit_test(of_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
