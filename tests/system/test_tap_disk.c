/* SPDX-License-Identifier: Apache-2.0 */
/* The tap as a disk: what is written reads back, is in the log, and survives a clean restart; what
 * happened while no tap ran is noticed; wrong starts are refused. */
#include "tests/system/tap_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (UINT64_C(8) << 20)

static void check(int result)
{
    if (result != 0) {
        fail_msg("%s", nbd_get_error());
    }
}

/* The disk over NBD and the whole log agree. */
static void compare(const struct tap_rig *rig, struct nbd_handle *nbd)
{
    uint8_t *expected = tap_rig_replay(rig, SIZE, NULL, NULL);
    uint8_t *got = malloc(SIZE);
    assert_non_null(got);
    for (uint64_t at = 0; at < SIZE; at += 1 << 20) {
        check(nbd_pread(nbd, got + at, 1 << 20, at, 0));
    }
    assert_memory_equal(got, expected, SIZE);
    free(got);
    free(expected);
}

static void requests_read_back(void **state)
{
    (void)state;
    struct tap_rig rig;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=32M");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_get_size(nbd), SIZE);
    assert_int_equal(nbd_can_multi_conn(nbd), 1);
    assert_int_equal(nbd_can_fua(nbd), 1);
    assert_int_equal(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 1 << 20);
    uint8_t *data = malloc(3 << 20);
    uint8_t *back = malloc(3 << 20);
    for (size_t i = 0; i < 3 << 20; i++) {
        data[i] = (uint8_t)(i * 7 + i / 4096 + 1);
    }
    check(nbd_pwrite(nbd, data, 13, 4097, 0));         /* odd offset and size */
    check(nbd_pwrite(nbd, data, 3 << 20, 1 << 20, 0)); /* more than one record holds */
    check(nbd_pwrite(nbd, data, 4096, SIZE - 4096, LIBNBD_CMD_FLAG_FUA));
    check(nbd_flush(nbd, 0));
    check(nbd_pread(nbd, back, 3 << 20, 1 << 20, 0));
    assert_memory_equal(data, back, 3 << 20);
    check(nbd_zero(nbd, 100000, 1100000, LIBNBD_CMD_FLAG_NO_HOLE));
    check(nbd_zero(nbd, 70000, 1500000, LIBNBD_CMD_FLAG_FUA));
    check(nbd_trim(nbd, 1 << 20, 2 << 20, 0));
    memset(data + 1100000 - (1 << 20), 0, 100000);
    memset(data + 1500000 - (1 << 20), 0, 70000);
    memset(data + (1 << 20), 0, 1 << 20);
    check(nbd_pread(nbd, back, 3 << 20, 1 << 20, 0));
    assert_memory_equal(data, back, 3 << 20);
    compare(&rig, nbd);
    nbd_close(nbd);
    tap_rig_stop(&rig);

    tap_rig_start(&rig, "log-size=32M");
    nbd = tap_rig_nbd(&rig);
    compare(&rig, nbd);
    struct tap_ctl ctl;
    tap_ctl_open(&ctl, &rig);
    assert_true(ctl.welcome.welcome.whole);
    assert_true(ctl.welcome.welcome.logging);
    assert_int_equal(ctl.welcome.welcome.size, SIZE);
    assert_int_equal(ctl.welcome.welcome.tail_lsn, 1);
    for (uint32_t i = 0; i < ctl.welcome.welcome.ring_files; i++) {
        assert_true(ctl.ring[i] >= 0);
        assert_int_equal(write(ctl.ring[i], "x", 1), -1); /* for reading only */
    }
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    free(data);
    free(back);
    tap_rig_close(&rig);
}

/* A trim, wherever it begins and ends, leaves zeroes: over NBD, in the image, in the stream. */
static void trims(struct tap_rig *rig, struct nbd_handle *nbd, uint8_t *expected)
{
    static const struct {
        uint64_t offset;
        uint64_t size;
    } ranges[] = {{0, 1},
                  {4097, 10001},
                  {65536, 65536},
                  {(1 << 20) - 1, 2},
                  {(1 << 20) + 511, 4096},
                  {2 << 20, (1 << 20) + 1},
                  {SIZE - 5001, 5000},
                  {SIZE - 1, 1}};
    for (uint64_t at = 0; at < SIZE; at += 1 << 20) {
        memset(expected + at, (int)(0x51 + (at >> 20)), 1 << 20);
        check(nbd_pwrite(nbd, expected + at, 1 << 20, at, 0));
    }
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        check(nbd_trim(nbd, ranges[i].size, ranges[i].offset, 0));
        memset(expected + ranges[i].offset, 0, ranges[i].size);
    }
    check(nbd_zero(nbd, 12345, 3333333, 0));
    check(nbd_zero(nbd, 54321, 4444444, LIBNBD_CMD_FLAG_NO_HOLE));
    memset(expected + 3333333, 0, 12345);
    memset(expected + 4444444, 0, 54321);
    check(nbd_flush(nbd, 0));
    uint8_t *got = malloc(SIZE);
    assert_non_null(got);
    int fd = open(rig->image, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, got, SIZE, 0), SIZE);
    close(fd);
    assert_memory_equal(got, expected, SIZE);
    free(got);
    compare(rig, nbd);
}

static void trims_are_zeroes(void **state)
{
    (void)state;
    struct tap_rig rig;
    uint8_t *expected = malloc(SIZE);
    uint8_t *stream = NULL;
    assert_non_null(expected);
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=32M");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_can_trim(nbd), 1);
    assert_int_equal(nbd_can_zero(nbd), 1);
    assert_int_equal(nbd_can_fast_zero(nbd), 0);
    trims(&rig, nbd, expected);
    stream = tap_rig_replay(&rig, SIZE, NULL, NULL);
    assert_memory_equal(stream, expected, SIZE);
    tap_rig_kill(&rig);
    nbd_close(nbd);
    tap_rig_start(&rig, "log-size=32M"); /* replayed */
    nbd = tap_rig_nbd(&rig);
    compare(&rig, nbd);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
    free(stream);
    free(expected);
}

static struct tapctl_state state_of(struct tap_rig *rig)
{
    struct tap_ctl ctl;
    tap_ctl_open(&ctl, rig);
    struct tapctl_state state = tap_ctl_state(&ctl);
    static uint8_t round;
    struct tapctl answer = tap_ctl_hold_due(&ctl, ++round, 20000);
    if (state.whole) {
        assert_int_equal(answer.type, TAPCTL_HELD);
    } else {
        assert_int_equal(answer.type, TAPCTL_REFUSED);
        assert_int_equal(answer.refused.reason, ROUND_REASON_NOT_WHOLE);
    }
    tap_ctl_close(&ctl);
    return state;
}

static void poke_image(const struct tap_rig *rig, uint64_t at)
{
    int fd = open(rig->image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "y", 1, (off_t)at), 1);
    close(fd);
}

static void what_happened_meanwhile_is_a_gap(void **state)
{
    (void)state;
    struct tap_rig rig;
    tap_rig_open(&rig, SIZE);
    poke_image(&rig, 12345); /* a new stream over data */
    tap_rig_start(&rig, "log-size=8M");
    struct tapctl_state got = state_of(&rig);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_BASE);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);

    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M");
    assert_true(state_of(&rig).whole);
    tap_rig_stop(&rig);
    poke_image(&rig, 0);
    tap_rig_start(&rig, "log-size=8M");
    got = state_of(&rig);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_MTIME);
    tap_rig_stop(&rig);
    assert_int_equal(truncate(rig.image, (off_t)SIZE * 2), 0);
    tap_rig_start(&rig, "log-size=8M");
    got = state_of(&rig);
    assert_false(got.whole); /* a restart does not forget */
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void killed_then_written_by_others_is_not_replayed(void **state)
{
    (void)state;
    struct tap_rig rig;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    check(nbd_pwrite(nbd, "old", 3, 0, LIBNBD_CMD_FLAG_FUA));
    nbd_close(nbd);
    tap_rig_kill(&rig);
    poke_image(&rig, 0);
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) + 10}};
    assert_int_equal(utimensat(AT_FDCWD, rig.image, later, 0), 0);
    tap_rig_start(&rig, "log-size=8M");
    struct tapctl_state got = state_of(&rig);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_MTIME);
    char back[3];
    nbd = tap_rig_nbd(&rig);
    check(nbd_pread(nbd, back, 3, 0, 0));
    assert_memory_equal(back, "yld", 3);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void a_lost_log_folder_is_not_silent(void **state)
{
    (void)state;
    struct tap_rig rig;
    struct tap_ctl ctl;
    char away[160];
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M");
    tap_ctl_open(&ctl, &rig);
    struct id stream = ctl.welcome.welcome.stream;
    tap_ctl_close(&ctl);
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    check(nbd_pwrite(nbd, "data", 4, 4096, LIBNBD_CMD_FLAG_FUA));
    nbd_close(nbd);
    tap_rig_stop(&rig);
    (void)snprintf(away, sizeof away, "%s.away", rig.log);
    assert_int_equal(rename(rig.log, away), 0);
    tap_rig_start(&rig, "log-size=8M");
    assert_false(state_of(&rig).whole);
    tap_ctl_open(&ctl, &rig);
    assert_false(id_equal(&stream, &ctl.welcome.welcome.stream));
    tap_ctl_close(&ctl);
    tap_rig_stop(&rig);
    /* A state without a good slot is damage, and named so. */
    (void)snprintf(away, sizeof away, "%s/state", rig.log);
    assert_int_equal(truncate(away, 0), 0);
    assert_int_equal(truncate(away, 8192), 0);
    assert_false(tap_rig_try(&rig, "log-size=8M"));
    tap_rig_close(&rig);
}

/* nbdkit alone would wait for them for ever. */
static void ends_under_its_clients(void **state)
{
    (void)state;
    struct tap_rig rig;
    struct tap_ctl ctl;
    tap_rig_open(&rig, SIZE);
    for (unsigned i = 0; i < 2; i++) {
        tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
        struct nbd_handle *nbd = tap_rig_nbd(&rig);
        struct nbd_handle *idle = tap_rig_nbd(&rig);
        check(nbd_pwrite(nbd, "kept", 4, 4096, 0));
        tap_ctl_open(&ctl, &rig);
        assert_true(ctl.welcome.welcome.whole);
        assert_int_equal(tap_ctl_hold_due(&ctl, (uint8_t)(100 + i), 100000).type, TAPCTL_HELD);
        assert_true(nbd_aio_pwrite(nbd, "late", 4, 0, NBD_NULL_COMPLETION, 0) > 0);
        tap_rig_stop(&rig); /* with a write that is held, and status 0 */
        assert_int_equal(access(rig.socket, F_OK), -1);
        tap_ctl_close(&ctl);
        nbd_close(nbd);
        nbd_close(idle);
    }
    tap_rig_start(&rig, "log-size=8M");
    assert_true(state_of(&rig).whole);
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    char back[4];
    check(nbd_pread(nbd, back, 4, 4096, 0));
    assert_memory_equal(back, "kept", 4);
    compare(&rig, nbd);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void two_taps_cannot_share(void **state)
{
    (void)state;
    struct tap_rig rig;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M");
    struct tap_rig other = rig;
    (void)snprintf(other.socket, sizeof other.socket, "%s/nbd2", rig.folder);
    (void)snprintf(other.ready, sizeof other.ready, "%s/pid2", rig.folder);
    (void)snprintf(other.control, sizeof other.control, "%s/control2", rig.folder);
    assert_false(tap_rig_try(&other, "")); /* same image, same log */
    (void)snprintf(other.image, sizeof other.image, "%s/image2", rig.folder);
    assert_int_equal(close(open(other.image, O_CREAT | O_WRONLY, 0600)), 0);
    assert_false(tap_rig_try(&other, "")); /* an empty image */
    assert_int_equal(truncate(other.image, 1 << 20), 0);
    assert_false(tap_rig_try(&other, "")); /* same log */
    (void)snprintf(other.log, sizeof other.log, "%s/log2", rig.folder);
    (void)snprintf(other.control, sizeof other.control, "%s/control", rig.folder);
    assert_false(tap_rig_try(&other, "log-size=8M")); /* same control socket */
    (void)snprintf(other.control, sizeof other.control, "%s/control2", rig.folder);
    assert_false(tap_rig_try(&other, "log-size=1M")); /* too small */
    assert_false(tap_rig_try(&other, "hold-max-ms=500"));
    assert_false(tap_rig_try(&other, "colour=blue"));
    tap_rig_start(&other, "log-size=8M");
    tap_rig_stop(&other);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void a_full_image_is_the_guests_error_and_a_gap(void **state)
{
    (void)state;
    struct tap_rig rig;
    char mounted[160];
    tap_rig_open(&rig, SIZE);
    (void)snprintf(mounted, sizeof mounted, "%s/small", rig.folder);
    assert_int_equal(mkdir(mounted, 0700), 0);
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=1m") != 0) {
        print_message("not run: a tmpfs cannot be mounted (%s)\n", strerror(errno));
        tap_rig_close(&rig);
        skip();
    }
    (void)snprintf(rig.image, sizeof rig.image, "%.64s/small/image", rig.folder);
    int fd = open(rig.image, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
    close(fd);
    tap_rig_start(&rig, "log-size=32M");
    assert_true(state_of(&rig).whole);
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    uint8_t *data = calloc(1, 2 << 20);
    memset(data, 0x5a, 2 << 20);
    assert_int_equal(nbd_pwrite(nbd, data, 2 << 20, 0, 0), -1);
    assert_int_equal(nbd_get_errno(), ENOSPC);
    struct tapctl_state got = state_of(&rig);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_IMAGE);
    assert_true(got.logging);
    check(nbd_trim(nbd, 2 << 20, 0, 0)); /* gives the blocks back: production goes on */
    check(nbd_pwrite(nbd, data, 4096, 0, LIBNBD_CMD_FLAG_FUA));
    nbd_close(nbd);
    tap_rig_stop(&rig);
    assert_int_equal(umount2(mounted, MNT_DETACH), 0);
    free(data);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_read_back),
        cmocka_unit_test(trims_are_zeroes),
        cmocka_unit_test(what_happened_meanwhile_is_a_gap),
        cmocka_unit_test(killed_then_written_by_others_is_not_replayed),
        cmocka_unit_test(a_lost_log_folder_is_not_silent),
        cmocka_unit_test(ends_under_its_clients),
        cmocka_unit_test(two_taps_cannot_share),
        cmocka_unit_test(a_full_image_is_the_guests_error_and_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
