/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of 64 TiB: both ends, the longest zero that NBD can ask for, and longer ones in the engine,
 * before and after a kill. They are sparse files on a tmpfs; without root it is not run. */
#include "participant/tap/disk.h"
#include "tests/system/tap_rig.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#define TIB        (UINT64_C(1) << 40)
#define SIZE       (64 * TIB)
#define LONGEST    UINT64_C(0xffffffff)
#define BLOCK      4096U
#define LONG_START (5 * TIB - 1)
#define LONG_SIZE  (20 * TIB + 3)

/* What the engine calls of nbdkit. */
void nbdkit_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

void nbdkit_debug(const char *format, ...)
{
    (void)format;
}

static struct tap_rig rig;
static char mounted[160];
static uint8_t data[BLOCK];
static uint8_t back[BLOCK];

static void check(int result)
{
    if (result != 0) {
        fail_msg("%s", nbd_get_error());
    }
}

static int setup(void **state)
{
    (void)state;
    tap_rig_open(&rig, BLOCK);
    memset(data, 0xd7, sizeof data);
    (void)snprintf(mounted, sizeof mounted, "%s/tmpfs", rig.folder);
    assert_int_equal(mkdir(mounted, 0700), 0);
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=64m") != 0) {
        print_message("not run: a tmpfs cannot be mounted (%s)\n", strerror(errno));
        mounted[0] = '\0';
        return 0;
    }
    (void)snprintf(rig.image, sizeof rig.image, "%.64s/tmpfs/image", rig.folder);
    int fd = open(rig.image, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
    close(fd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (rig.pid > 0) {
        tap_rig_kill(&rig);
    }
    if (mounted[0] != '\0') {
        assert_int_equal(umount2(mounted, MNT_DETACH), 0);
    }
    tap_rig_close(&rig);
    return 0;
}

static void has(struct nbd_handle *nbd, uint64_t offset, bool written)
{
    static const uint8_t zeroes[BLOCK];
    check(nbd_pread(nbd, back, BLOCK, offset, 0));
    assert_memory_equal(back, written ? data : zeroes, BLOCK);
}

static void ends_and_longest(struct nbd_handle *nbd)
{
    assert_int_equal(nbd_get_size(nbd), SIZE);
    has(nbd, 0, false);
    has(nbd, SIZE - LONGEST - 2 * BLOCK, true);
    has(nbd, SIZE - LONGEST, false);
    has(nbd, SIZE - 3 * BLOCK, false);
    has(nbd, SIZE - BLOCK, true);
    has(nbd, SIZE / 2, true);
}

static void over_nbd(void **state)
{
    (void)state;
    if (mounted[0] == '\0') {
        skip();
    }
    tap_rig_start(&rig, "log-size=8M");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    const uint64_t places[] = {
        0, SIZE / 2, SIZE - LONGEST - 2 * BLOCK, SIZE - LONGEST, SIZE - 3 * BLOCK, SIZE - BLOCK};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        check(nbd_pwrite(nbd, data, BLOCK, places[i], 0));
    }
    check(nbd_zero(nbd, LONGEST, SIZE - LONGEST - BLOCK, 0));
    check(nbd_trim(nbd, LONGEST, 0, LIBNBD_CMD_FLAG_FUA));
    ends_and_longest(nbd);
    /* Nothing goes past the end, also not where offset and size wrap. */
    assert_int_equal(nbd_set_strict_mode(nbd, 0), 0);
    assert_int_equal(nbd_pwrite(nbd, data, BLOCK, SIZE - 1, 0), -1);
    assert_int_equal(nbd_pread(nbd, back, BLOCK, SIZE - 1, 0), -1);
    assert_int_equal(nbd_pread(nbd, back, 1, SIZE, 0), -1);
    assert_int_equal(nbd_zero(nbd, LONGEST, SIZE - 1, 0), -1);
    assert_int_equal(nbd_trim(nbd, LONGEST, SIZE - LONGEST + 1, 0), -1);
    assert_int_equal(nbd_pwrite(nbd, data, BLOCK, UINT64_MAX - BLOCK + 1, 0), -1);
    ends_and_longest(nbd);
    tap_rig_kill(&rig);
    nbd_close(nbd);
    tap_rig_start(&rig, "log-size=8M");
    nbd = tap_rig_nbd(&rig);
    ends_and_longest(nbd);
    struct tap_ctl ctl;
    tap_ctl_open(&ctl, &rig);
    assert_true(ctl.welcome.welcome.whole);
    assert_int_equal(ctl.welcome.welcome.size, SIZE);
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    tap_rig_stop(&rig);
}

static struct tap tap;

static void open_tap(void)
{
    struct err err;
    struct tap_config config = {
        .log_size = 8 << 20, .hold_max_us = 50000, .held_max = 1 << 20, .copy_rate = 0};
    (void)snprintf(config.image, sizeof config.image, "%s", rig.image);
    (void)snprintf(config.folder, sizeof config.folder, "%s", rig.log);
    (void)snprintf(config.control, sizeof config.control, "%s", rig.control);
    if (tap_open(&tap, &config, &err) != 0 || tap_start(&tap, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static const uint64_t around[] = {LONG_START - BLOCK, LONG_START, LONG_START + LONG_SIZE / 2,
                                  LONG_START + LONG_SIZE - BLOCK, LONG_START + LONG_SIZE};

static void only_outside_is_left(void)
{
    static const uint8_t zeroes[BLOCK];
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(disk_read(&tap, back, BLOCK, around[i]), 0);
        assert_memory_equal(back, i == 0 || i == 4 ? data : zeroes, BLOCK);
    }
}

/* What is longer than NBD can ask for: one record, 64-bit length, no loop over 64 TiB. */
static void zero_of_many_terabytes(void **state)
{
    (void)state;
    if (mounted[0] == '\0') {
        skip();
    }
    char command[1024];
    open_tap();
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(disk_write(&tap, data, BLOCK, around[i], false), 0);
    }
    assert_int_equal(disk_zero(&tap, LONG_SIZE, LONG_START, true, true, true), 0);
    only_outside_is_left();
    tap_close(&tap);
    (void)snprintf(command, sizeof command,
                   "%s/bin/tidemark hrl show %s/ring-000 | "
                   "grep -q 'zero .*offset %llu size %llu discard'",
                   getenv("TIDE_BUILD"), rig.log, (unsigned long long)LONG_START,
                   (unsigned long long)LONG_SIZE);
    assert_int_equal(system(command), 0);
    open_tap();
    only_outside_is_left();
    assert_true(tap.state.whole);
    assert_int_equal(disk_zero(&tap, SIZE, 0, true, true, true), 0); /* all of it */
    assert_int_equal(disk_read(&tap, back, BLOCK, around[0]), 0);
    assert_int_equal(back[0], 0);
    tap_close(&tap);
}

/* Zeroes that must keep their blocks (NO_HOLE), the longest: no write of 4 GiB where the file
 * system can do it. */
static void longest_without_holes(void **state)
{
    (void)state;
    struct statvfs fs;
    struct tap_rig mine;
    tap_rig_open(&mine, BLOCK);
    int fd = open(mine.image, O_RDWR | O_CLOEXEC);
    if (statvfs(mine.folder, &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize < 3 * LONGEST ||
        ftruncate(fd, (off_t)(8 * TIB)) != 0 ||
        fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, BLOCK) != 0) {
        print_message("not run: %s has no room for it, or cannot do it\n", mine.folder);
        close(fd);
        tap_rig_close(&mine);
        skip();
    }
    close(fd);
    tap_rig_start(&mine, "log-size=8M");
    struct nbd_handle *nbd = tap_rig_nbd(&mine);
    uint64_t start = 8 * TIB - LONGEST - 1;
    check(nbd_pwrite(nbd, data, BLOCK, start - BLOCK, 0));
    check(nbd_pwrite(nbd, data, BLOCK, start, 0));
    check(nbd_zero(nbd, LONGEST, start, LIBNBD_CMD_FLAG_NO_HOLE | LIBNBD_CMD_FLAG_FUA));
    has(nbd, start - BLOCK, true);
    has(nbd, start, false);
    tap_rig_kill(&mine);
    nbd_close(nbd);
    tap_rig_start(&mine, "log-size=8M");
    nbd = tap_rig_nbd(&mine);
    has(nbd, start - BLOCK, true);
    has(nbd, start, false);
    nbd_close(nbd);
    tap_rig_stop(&mine);
    tap_rig_close(&mine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(over_nbd, setup, teardown),
        cmocka_unit_test_setup_teardown(zero_of_many_terabytes, setup, teardown),
        cmocka_unit_test_setup_teardown(longest_without_holes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
