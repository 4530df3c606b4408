/* SPDX-License-Identifier: Apache-2.0 */
/* What NBD promises of flush, FUA and several connections, over a power cut that takes all that was
 * not synced (tap_cut.c): a flush on one connection covers what any had been answered before; FUA
 * of write, zero and trim needs no flush. With flush=both the image alone has it, without its log.
 */
#include "tests/system/tap_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE  (UINT64_C(4) << 20)
#define BLOCK 4096U

static struct tap_rig rig;

static void check(int result)
{
    if (result != 0) {
        fail_msg("%s", nbd_get_error());
    }
}

static void start(const char *options)
{
    char preload[512];
    (void)snprintf(preload, sizeof preload, "%s/tests/tap_cut.so", getenv("TIDE_BUILD"));
    assert_int_equal(setenv("LD_PRELOAD", preload, 1), 0);
    tap_rig_start(&rig, options);
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
}

/* kill -9, then every file is what its last sync left. */
static void power_cut(void)
{
    char command[512];
    tap_rig_kill(&rig);
    (void)snprintf(command, sizeof command,
                   "for f in '%s' '%s'/ring-* '%s'/state; do case $f in *.cut*) continue;; esac; "
                   "cp --sparse=always \"$f.cut\" \"$f\" || exit 1; done",
                   rig.image, rig.log, rig.log);
    assert_int_equal(system(command), 0);
}

static bool image_has(const uint8_t *block, uint64_t offset)
{
    uint8_t got[BLOCK];
    int fd = open(rig.image, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, got, BLOCK, (off_t)offset), BLOCK);
    close(fd);
    return memcmp(got, block, BLOCK) == 0;
}

static void fill(uint8_t *block, unsigned round, unsigned number)
{
    for (unsigned i = 0; i < BLOCK; i++) {
        block[i] = (uint8_t)(1 + (round * 31 + number * 7 + i) % 255);
    }
}

static void disk_has(struct nbd_handle *nbd, const uint8_t *block, uint64_t offset)
{
    uint8_t got[BLOCK];
    check(nbd_pread(nbd, got, BLOCK, offset, 0));
    assert_memory_equal(got, block, BLOCK);
}

enum promise { FLUSHED_BY_OTHER, FUA_WRITE, FUA_ZERO, FUA_TRIM, PROMISES };

/* One promise on two connections, the last word before the cut: a sync that came later would keep
 * it as well. *block: what must be there at offset 0. */
static void promise(enum promise kind, unsigned round, uint8_t *block)
{
    struct nbd_handle *a = tap_rig_nbd(&rig);
    struct nbd_handle *b = tap_rig_nbd(&rig);
    assert_int_equal(nbd_can_multi_conn(a), 1);
    assert_int_equal(nbd_can_fua(a), 1);
    fill(block, round, 1);
    check(nbd_pwrite(a, block, BLOCK, 0, 0));
    check(nbd_flush(a, 0));
    fill(block, round, 2);
    switch (kind) {
    case FLUSHED_BY_OTHER:
        check(nbd_pwrite(a, block, BLOCK, 0, 0));
        disk_has(b, block, 0);
        check(nbd_flush(b, 0));
        break;
    case FUA_WRITE:
        check(nbd_pwrite(a, block, BLOCK, 0, LIBNBD_CMD_FLAG_FUA));
        break;
    case FUA_ZERO:
        memset(block, 0, BLOCK);
        check(nbd_zero(a, BLOCK, 0, LIBNBD_CMD_FLAG_FUA));
        break;
    case FUA_TRIM:
    case PROMISES:
        memset(block, 0, BLOCK);
        check(nbd_trim(a, BLOCK, 0, LIBNBD_CMD_FLAG_FUA));
        break;
    }
    check(
        nbd_pwrite(b, block, BLOCK, SIZE / 2 + (uint64_t)round * BLOCK, 0)); /* promised nothing */
    nbd_close(a);
    nbd_close(b);
}

static void kept_over_power_cuts(const char *options, bool image_alone)
{
    static uint8_t block[BLOCK];
    static const uint8_t zeroes[BLOCK];
    unsigned lost = 0;
    tap_rig_open(&rig, SIZE);
    start(options);
    for (unsigned round = 0; round < 2 * PROMISES; round++) {
        uint64_t loose = SIZE / 2 + (uint64_t)round * BLOCK;
        promise((enum promise)(round % PROMISES), round, block);
        power_cut();
        lost += image_has(zeroes, loose) && memcmp(block, zeroes, BLOCK) != 0 ? 1 : 0;
        if (image_alone) {
            assert_true(image_has(block, 0));
        }
        start(options);
        struct nbd_handle *nbd = tap_rig_nbd(&rig);
        disk_has(nbd, block, 0);
        nbd_close(nbd);
    }
    assert_true(lost > 0); /* or the cuts cut nothing */
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void flush_both(void **state)
{
    (void)state;
    kept_over_power_cuts("log-size=8M", true);
}

static void flush_log(void **state)
{
    (void)state;
    kept_over_power_cuts("log-size=8M flush=log", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flush_both),
        cmocka_unit_test(flush_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
