/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and syncs of log, image and state that fail: the stream is not whole, a hold ends at once,
 * the guest sees only what its own image cannot do, and a restart neither forgets nor replays too
 * much. */
#include "tests/system/tap_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (UINT64_C(8) << 20)

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct nbd_handle *nbd;
static char order_path[160];

static bool start_fails; /* the fault is there already, and must end the start */

static void start(void)
{
    char preload[512];
    (void)snprintf(preload, sizeof preload, "%s/tests/tap_faults.so", getenv("TIDE_BUILD"));
    assert_int_equal(setenv("TIDE_FAULT", order_path, 1), 0);
    assert_int_equal(setenv("LD_PRELOAD", preload, 1), 0);
    if (start_fails) {
        assert_false(tap_rig_try(&rig, "log-size=8M hold-max-ms=100"));
        assert_int_equal(unsetenv("LD_PRELOAD"), 0);
        return;
    }
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
}

static int setup(void **state)
{
    (void)state;
    tap_rig_open(&rig, SIZE);
    (void)snprintf(order_path, sizeof order_path, "%s/fault", rig.folder);
    start();
    assert_int_equal(nbd_pwrite(nbd, "first", 5, 0, LIBNBD_CMD_FLAG_FUA), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_ctl_close(&ctl);
    nbd_close(nbd);
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

static void restart(void)
{
    tap_rig_kill(&rig);
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    (void)unlink(order_path);
    start();
}

static void expect_gap(uint8_t reason, bool logging)
{
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, reason);
    assert_int_equal(got.logging, logging);
    struct tapctl answer = tap_ctl_hold(&ctl, 200, 20000);
    assert_int_equal(answer.type, TAPCTL_REFUSED);
    assert_int_equal(answer.refused.reason, ROUND_REASON_NOT_WHOLE);
}

static void expect_data(const char *text)
{
    char back[8] = {0};
    assert_int_equal(nbd_pread(nbd, back, 5, 0, 0), 0);
    assert_string_equal(back, text);
}

static void a_log_write_that_fails(void **state)
{
    (void)state;
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    fault("write ring-");
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), 0); /* let go at once, and no error */
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_false(sealed.sealed.appended);
    assert_int_equal(nbd_pwrite(nbd, "third", 5, 0, LIBNBD_CMD_FLAG_FUA), 0);
    expect_gap(RECORD_GAP_LOG, false);
    restart();
    expect_data("third");
    expect_gap(RECORD_GAP_LOG, true);
}

static void a_log_sync_that_fails(void **state)
{
    (void)state;
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), 0);
    fault("sync ring-");
    assert_int_equal(nbd_flush(nbd, 0), 0); /* the image keeps the promise */
    (void)unlink(order_path);               /* it would succeed now: it must not be believed */
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 3});
    struct tapctl synced = tap_ctl_get(&ctl, TAPCTL_SYNCED);
    assert_true(synced.synced.failed);
    assert_true(synced.synced.lsn < tap_ctl_state(&ctl).next_lsn - 1);
    assert_int_equal(nbd_pwrite(nbd, "third", 5, 0, LIBNBD_CMD_FLAG_FUA), 0);
    expect_gap(RECORD_GAP_LOG, false);
    uint64_t through = synced.synced.lsn;
    /* Nor does a checkpoint pass them (STORED asks for one). */
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {through}});
    (void)nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_true(tap_ctl_state(&ctl).checkpoint_lsn <= through);
    restart();
    expect_data("third");
    expect_gap(RECORD_GAP_LOG, true);
    /* The records that were never synced do not count: their LSNs are given anew. */
    assert_int_equal(ctl.welcome.welcome.next_lsn, through + 3); /* ATTACH, GAP */
}

static void a_seal_that_cannot_be_synced(void **state)
{
    (void)state;
    fault("sync ring-");
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_HELD);
    assert_false(sealed.sealed.appended);
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), 0);
    restart();
    expect_data("secnd");
    expect_gap(RECORD_GAP_LOG, true);
}

static void an_image_write_that_fails(void **state)
{
    (void)state;
    fault("write image");
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), -1);
    assert_int_equal(nbd_get_errno(), EIO);
    (void)unlink(order_path);
    expect_gap(RECORD_GAP_IMAGE, true);
    assert_int_equal(nbd_pwrite(nbd, "third", 5, 0, 0), 0);
    restart();
    expect_data("third");
    expect_gap(RECORD_GAP_IMAGE, true);
}

static void an_image_sync_that_fails(void **state)
{
    (void)state;
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), 0);
    fault("sync image");
    assert_int_equal(nbd_flush(nbd, 0), -1);
    assert_int_equal(nbd_get_errno(), EIO);
    (void)unlink(order_path);
    expect_gap(RECORD_GAP_IMAGE, true);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    restart();
    expect_data("secnd");
}

/* Log and state fail together, so nothing durable says it: the log's own end does. */
static void log_and_state_fail_together(void **state)
{
    (void)state;
    fault("write log/");
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, LIBNBD_CMD_FLAG_FUA), 0);
    assert_int_equal(nbd_pwrite(nbd, "third", 5, 0, LIBNBD_CMD_FLAG_FUA), 0);
    expect_gap(RECORD_GAP_LOG, false);
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    tap_rig_stop(&rig); /* its clean detach cannot be recorded either */
    (void)unlink(order_path);
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) + 10}};
    assert_int_equal(utimensat(AT_FDCWD, rig.image, later, 0), 0); /* as if time had passed */
    start();
    expect_data("third");
    expect_gap(RECORD_GAP_MTIME, true);
}

/* Someone wrote into the image while no tap ran, and the start that saw it got no further than the
 * log: the next one must not take the image for untouched and replay over it. */
static void a_start_that_fails_on_a_touched_image(void **state)
{
    (void)state;
    assert_int_equal(nbd_pwrite(nbd, "secnd", 5, 0, 0), 0);
    tap_rig_kill(&rig);
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    int fd = open(rig.image, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "other", 5, 0), 5);
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}};
    clock_gettime(CLOCK_REALTIME, &later[1]);
    later[1].tv_sec += 3; /* over the slack now, within it once the log is younger by a second */
    assert_int_equal(futimens(fd, later), 0);
    assert_int_equal(close(fd), 0);
    (void)nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 200000000}, NULL);
    fault("sync ring-");
    start_fails = true;
    start();
    start_fails = false;
    (void)unlink(order_path);
    start();
    expect_data("other");
    expect_gap(RECORD_GAP_MTIME, true);
}

/* The very first start ends after its ATTACH and before its state: nothing was served, and the disk
 * is as whole as it would have been. */
static void a_first_start_that_fails(void **state)
{
    (void)state;
    tap_rig_open(&rig, SIZE);
    (void)snprintf(order_path, sizeof order_path, "%s/fault", rig.folder);
    fault("sync ring-");
    start_fails = true;
    start();
    start_fails = false;
    (void)unlink(order_path);
    start();
    assert_true(tap_ctl_state(&ctl).whole);
    assert_int_equal(ctl.welcome.welcome.next_lsn, 2);
    assert_int_equal(nbd_pwrite(nbd, "first", 5, 0, 0), 0);
    restart();
    assert_true(tap_ctl_state(&ctl).whole);
    expect_data("first");
    (void)teardown(state);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_log_write_that_fails),
        CASE(a_log_sync_that_fails),
        CASE(a_seal_that_cannot_be_synced),
        CASE(an_image_write_that_fails),
        CASE(an_image_sync_that_fails),
        CASE(log_and_state_fail_together),
        CASE(a_start_that_fails_on_a_touched_image),
        cmocka_unit_test(a_first_start_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
