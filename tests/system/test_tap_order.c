/* SPDX-License-Identifier: Apache-2.0 */
/* What must come before what: overlapping changes, the image before its checkpoint, letting go
 * before the seal; and what a start must see in the past: a full log, another size, a power cut. */
#include "common/core/bytes.h"
#include "common/hrl/crc.h"
#include "tests/system/tap_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE       (UINT64_C(8) << 20)
#define BLOCK      (256U * 1024)
#define STATE_SLOT 4096U /* participant/tap/README.md */
#define STATE_CRC  12U
#define STATE_BOOT 72U

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct nbd_handle *nbd;
static char order_path[160];
static uint8_t block[BLOCK];

static void start(const char *options)
{
    char preload[512];
    (void)snprintf(preload, sizeof preload, "%s/tests/tap_faults.so", getenv("TIDE_BUILD"));
    assert_int_equal(setenv("TIDE_FAULT", order_path, 1), 0);
    assert_int_equal(setenv("LD_PRELOAD", preload, 1), 0);
    tap_rig_start(&rig, options);
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
}

static void end(bool clean)
{
    tap_ctl_close(&ctl);
    if (!clean) {
        tap_rig_kill(&rig);
    }
    nbd_close(nbd);
    if (clean) {
        tap_rig_stop(&rig);
    }
}

static int setup(void **state)
{
    (void)state;
    tap_rig_open(&rig, SIZE);
    (void)snprintf(order_path, sizeof order_path, "%s/fault", rig.folder);
    start("log-size=8M hold-max-ms=100 flush=log");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_rig_close(&rig);
    return 0;
}

static void fault(const char *order)
{
    FILE *to = fopen(order_path, "w");
    assert_non_null(to);
    assert_true(fputs(order, to) >= 0);
    assert_int_equal(fclose(to), 0);
}

static void write_text(const char *text)
{
    assert_int_equal(nbd_pwrite(nbd, text, strlen(text), 0, LIBNBD_CMD_FLAG_FUA), 0);
}

static void expect_text(const char *text)
{
    char back[16] = {0};
    assert_int_equal(nbd_pread(nbd, back, strlen(text), 0, 0), 0);
    assert_string_equal(back, text);
}

static void poke_image(const char *text)
{
    int fd = open(rig.image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
    close(fd);
}

/* Replay must not start behind a change that the image may still lose. */
static void a_checkpoint_needs_the_image(void **state)
{
    (void)state;
    uint64_t before = tap_ctl_state(&ctl).checkpoint_lsn;
    fault("sync image");
    memset(block, 7, sizeof block);
    for (uint64_t n = 0; n < 12; n++) { /* more than a quarter of the log: a checkpoint is due */
        assert_int_equal(nbd_pwrite(nbd, block, BLOCK, n * BLOCK, 0), 0);
    }
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    struct tapctl_state got = tap_ctl_state(&ctl);
    while (got.whole) {
        assert_true(tap_rig_now_ms() < until);
        got = tap_ctl_state(&ctl);
    }
    assert_int_equal(got.gap_reason, RECORD_GAP_IMAGE);
    assert_int_equal(got.checkpoint_lsn, before);
    end(false);
}

/* Holds, with one write held. False: the budget ran out before. */
static bool hold_one_write(uint8_t round, int64_t *ret_cookie)
{
    struct tapctl held = tap_ctl_hold(&ctl, round, 100000);
    assert_int_equal(held.type, TAPCTL_HELD);
    *ret_cookie = nbd_aio_pwrite(nbd, block, 4096, 0, NBD_NULL_COMPLETION, 0);
    assert_true(*ret_cookie > 0);
    struct tapctl_state got = tap_ctl_state(&ctl);
    while (got.holding && got.next_lsn < held.held.mark.lsn + 2) {
        got = tap_ctl_state(&ctl);
    }
    return got.holding;
}

static void wait_done(int64_t cookie)
{
    int done = 0;
    while ((done = nbd_aio_command_completed(nbd, (uint64_t)cookie)) == 0) {
        assert_true(nbd_poll(nbd, TAP_RIG_DEADLINE_MS) > 0);
    }
    assert_int_equal(done, 1);
}

static void count_seal(const struct record *record, void *context)
{
    *(unsigned *)context += record->type == RECORD_SEAL ? 1 : 0;
}

/* A log that has become slow delays the seal, and with it the round; never the guest. */
static void letting_go_does_not_wait_for_the_seal(void **state)
{
    (void)state;
    int64_t cookie = 0;
    assert_true(hold_one_write(1, &cookie));
    fault("slow ring-");
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    wait_done(cookie);
    unsigned seals = 0;
    free(tap_rig_replay(&rig, SIZE, count_seal, &seals));
    assert_int_equal(seals, 0);
    assert_true(tap_ctl_get(&ctl, TAPCTL_SEALED).sealed.appended);
    end(true);
}

/* A write whose record is in the log and whose way to the image takes a second. */
static int64_t start_slow_write(const char *text)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    fault("slow image");
    int64_t cookie = nbd_aio_pwrite(nbd, text, strlen(text), 0, NBD_NULL_COMPLETION, 0);
    assert_true(cookie > 0);
    while (access(order_path, F_OK) == 0) {
        assert_true(tap_rig_now_ms() < until);
        assert_true(nbd_poll(nbd, 1) >= 0);
    }
    return cookie;
}

static void overlapping_changes_keep_their_order(void **state)
{
    (void)state;
    int64_t cookie = start_slow_write("the first");
    assert_int_equal(nbd_pwrite(nbd, "second", 6, 4, 0), 0);
    wait_done(cookie);
    expect_text("the second");
    uint8_t *expected = tap_rig_replay(&rig, SIZE, NULL, NULL);
    assert_memory_equal(expected, "the second", 10);
    free(expected);
    end(true);
}

static void a_checkpoint_does_not_pass_what_is_under_way(void **state)
{
    (void)state;
    write_text("before");
    uint64_t lsn = tap_ctl_state(&ctl).next_lsn;
    int64_t cookie = start_slow_write("slowly");
    for (uint64_t n = 1; n < 13; n++) { /* more than a quarter of the log: a checkpoint is due */
        assert_int_equal(nbd_pwrite(nbd, block, BLOCK, n * BLOCK, 0), 0);
    }
    while (tap_ctl_state(&ctl).checkpoint_lsn < lsn - 1 &&
           nbd_aio_command_completed(nbd, (uint64_t)cookie) == 0) {
        assert_true(nbd_poll(nbd, 1) >= 0);
    }
    end(false);
    start("");
    expect_text("slowly"); /* it is in the log, so it is on the disk */
    end(true);
}

/* The log is full and the state cannot be written: the gap in the log alone keeps what it holds
 * from being replayed over what came later. */
static void full_log_and_no_state(void **state)
{
    (void)state;
    write_text("logged");
    fault("write log/state");
    for (uint64_t n = 0; n < 40; n++) {
        assert_int_equal(nbd_pwrite(nbd, block, BLOCK, (1 + n % 31) * BLOCK, 0), 0);
    }
    assert_false(tap_ctl_state(&ctl).logging);
    write_text("not so");
    end(false);
    (void)unlink(order_path);
    start("");
    expect_text("not so");
    assert_false(ctl.welcome.welcome.whole);
    end(true);
}

static void another_size_is_a_gap(void **state)
{
    (void)state;
    write_text("before");
    end(false);
    poke_image("others");
    assert_int_equal(truncate(rig.image, (off_t)SIZE * 2), 0);
    start("");
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_SIZE);
    assert_int_equal(nbd_get_size(nbd), SIZE * 2);
    expect_text("others"); /* nothing is replayed over what others wrote */
    end(true);
    start("");
    assert_false(ctl.welcome.welcome.whole); /* a restart does not forget */
    end(true);
    assert_int_equal(truncate(rig.image, (off_t)SIZE), 0);
    start("");
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_SIZE);
    end(true);
    poke_image("again");
    start("");
    got = tap_ctl_state(&ctl);
    assert_int_equal(got.gap_reason, RECORD_GAP_MTIME);
    assert_int_equal(got.dirty_bytes, SIZE); /* all of it is suspect */
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).refused.reason, ROUND_REASON_NOT_WHOLE);
    end(true);
}

/* As if the machine had booted anew: both slots of the state file name another boot. */
static void boot_anew(void)
{
    char path[192];
    uint8_t slot[STATE_SLOT];
    (void)snprintf(path, sizeof path, "%s/state", rig.log);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pread(fd, slot, sizeof slot, (off_t)(i * sizeof slot)), sizeof slot);
        slot[STATE_BOOT] ^= 1;
        memset(slot + STATE_CRC, 0, 4);
        struct bytes_writer crc = bytes_writer(slot + STATE_CRC, 4);
        bytes_put_u32(&crc, crc32c(slot, sizeof slot));
        assert_int_equal(pwrite(fd, slot, sizeof slot, (off_t)(i * sizeof slot)), sizeof slot);
    }
    close(fd);
}

static void a_power_cut_is_a_gap(void **state)
{
    (void)state;
    end(true);
    boot_anew(); /* after a clean detach it is no matter */
    start("flush=log");
    assert_true(ctl.welcome.welcome.whole);
    write_text("synced");
    end(false);
    boot_anew();
    poke_image("LOST!!"); /* what the machine had not written yet */
    start("");
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_POWER);
    assert_true(got.logging);
    expect_text("synced"); /* what was flushed comes back from the log all the same */
    struct tapctl answer = tap_ctl_hold(&ctl, 1, 20000);
    assert_int_equal(answer.type, TAPCTL_REFUSED);
    assert_int_equal(answer.refused.reason, ROUND_REASON_NOT_WHOLE);
    end(true);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_checkpoint_needs_the_image),
        CASE(overlapping_changes_keep_their_order),
        CASE(a_checkpoint_does_not_pass_what_is_under_way),
        CASE(full_log_and_no_state),
        CASE(letting_go_does_not_wait_for_the_seal),
        CASE(another_size_is_a_gap),
        CASE(a_power_cut_is_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
