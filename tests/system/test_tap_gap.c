/* SPDX-License-Identifier: Apache-2.0 */
/* A tap that is killed, or whose disk fails, in the midst of what makes it not whole or changes its
 * stream: a full log, a resize, a new stream. Whatever it was, what the stream says in the end is
 * the disk. */
#include "common/core/bytes.h"
#include "tests/system/tap_far.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB       (UINT64_C(1) << 20)
#define SIZE      (UINT64_C(16) << 20)
#define SIZE_MAX_ (UINT64_C(32) << 20)
#define OPTIONS   "log-size=8M hold-max-ms=100 copy-rate=1G"
#define SLOT      4096U /* participant/tap/README.md */
#define SLOT_BOOT 72U
#define SLOT_CRC  12U

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct tap_far far;
static struct nbd_handle *nbd;
static char order_path[160];
static uint8_t chunk[MIB];

static void start(const char *options)
{
    char preload[512];
    (void)unlink(order_path);
    (void)snprintf(preload, sizeof preload, "%s/tests/tap_faults.so", getenv("TIDE_BUILD"));
    assert_int_equal(setenv("TIDE_FAULT", order_path, 1), 0);
    assert_int_equal(setenv("LD_PRELOAD", preload, 1), 0);
    tap_rig_start(&rig, options);
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    tap_far_connect(&far, &rig, &ctl, SIZE_MAX_);
}

static int setup(void **state)
{
    (void)state;
    tap_rig_open(&rig, SIZE);
    (void)snprintf(order_path, sizeof order_path, "%s/fault", rig.folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_far_close(&far);
    tap_rig_close(&rig);
    return 0;
}

static void after_end(void)
{
    tap_ctl_close(&ctl);
    nbd_close(nbd);
}

static void stop(void)
{
    after_end();
    tap_rig_stop(&rig);
}

static void kill_it(void)
{
    tap_rig_kill(&rig);
    after_end();
}

static void fault(const char *order)
{
    FILE *to = fopen(order_path, "w");
    assert_non_null(to);
    assert_true(fputs(order, to) >= 0);
    assert_int_equal(fclose(to), 0);
}

static void wait_fault_begun(void)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (access(order_path, F_OK) == 0) {
        assert_true(tap_rig_now_ms() < until);
    }
}

static void wait_hung_up(void)
{
    static uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    while (read(ctl.fd, bytes, sizeof bytes) > 0) {
    }
}

static void write_at(uint64_t offset, uint64_t size, int byte)
{
    memset(chunk, byte, size);
    assert_int_equal(nbd_pwrite(nbd, chunk, size, offset, 0), 0);
}

static void whole_in_the_end(void)
{
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    stop();
}

static struct tapctl_done order(enum tapctl_type type)
{
    struct tapctl message = {.type = type, .serial = 5};
    if (type == TAPCTL_RESTREAM) {
        message.order.stream = ctl.welcome.welcome.stream;
    }
    tap_ctl_send(&ctl, &message);
    return tap_ctl_get(&ctl, TAPCTL_DONE).done;
}

static void edit_state(void (*change)(uint8_t *slot))
{
    char path[192];
    uint8_t slot[SLOT];
    (void)snprintf(path, sizeof path, "%s/state", rig.log);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pread(fd, slot, sizeof slot, (off_t)(i * sizeof slot)), sizeof slot);
        change(slot);
        memset(slot + SLOT_CRC, 0, 4);
        struct bytes_writer crc = bytes_writer(slot + SLOT_CRC, 4);
        bytes_put_u32(&crc, ~crc32_iscsi(slot, (int)sizeof slot, 0xffffffffU));
        assert_int_equal(pwrite(fd, slot, sizeof slot, (off_t)(i * sizeof slot)), sizeof slot);
    }
    close(fd);
}

static void another_boot(uint8_t *slot)
{
    slot[SLOT_BOOT] ^= 1;
}

static void poke(uint64_t offset, const char *text)
{
    int fd = open(rig.image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, strlen(text), (off_t)offset), (ssize_t)strlen(text));
    close(fd);
}

/* A checkpoint is due then. */
static void a_quarter_of_the_log(void)
{
    for (uint64_t n = 0; n < 5; n++) {
        write_at(n * MIB / 2, MIB / 2, 'q');
    }
}

static void wait_checkpoint(uint64_t lsn)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).checkpoint_lsn < lsn) {
        assert_true(tap_rig_now_ms() < until);
    }
}

/* A change is logged and on its way to the image when the log fills; then the tap is killed. It is
 * before the gap in the log, so it must be in the image before replay starts behind the gap. */
static void killed_while_the_log_fills(void **state)
{
    (void)state;
    start(OPTIONS);
    memset(chunk, 's', sizeof chunk);
    fault("slow image");
    assert_true(nbd_aio_pwrite(nbd, chunk, 4096, 10 * MIB, NBD_NULL_COMPLETION, 0) >= 0);
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (access(order_path, F_OK) == 0) {
        (void)nbd_poll(nbd, 1);
        assert_true(tap_rig_now_ms() < until);
    }
    /* Others fill the log, until none is answered any more: they wait for the slow one. */
    for (bool waits = false; !waits;) {
        int64_t cookie = nbd_aio_pwrite(nbd, chunk, MIB / 2, 0, NBD_NULL_COMPLETION, 0);
        assert_true(cookie >= 0);
        uint64_t patience = tap_rig_now_ms() + 200;
        while (nbd_aio_command_completed(nbd, (uint64_t)cookie) == 0 && !waits) {
            (void)nbd_poll(nbd, 10);
            waits = tap_rig_now_ms() > patience;
        }
    }
    kill_it();
    start(OPTIONS);
    whole_in_the_end();
}

/* Killed once the state knows of the new size: it must know that what is new is not in the stream.
 */
static void killed_in_a_resize(void **state)
{
    (void)state;
    start(OPTIONS);
    write_at(0, MIB, 'a');
    tap_far_follow(&far);
    poke(20 * MIB - 10, "not zeroes");
    fault("die state");
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_RESIZE, .serial = 5});
    wait_hung_up();
    kill_it();
    start(OPTIONS);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_SIZE); /* soon whole again */
    whole_in_the_end();
}

/* The first state of a new stream is written, nothing else is. */
static void killed_in_a_restream(void **state)
{
    (void)state;
    start("flush=log " OPTIONS);
    write_at(0, MIB, 'a');
    tap_far_follow(&far);
    struct id old = ctl.welcome.welcome.stream;
    fault("die state");
    struct tapctl message = {.type = TAPCTL_RESTREAM, .serial = 5, .order = {.stream = old}};
    tap_ctl_send(&ctl, &message);
    wait_hung_up();
    kill_it();
    start("flush=log " OPTIONS);
    assert_false(id_equal(&old, &ctl.welcome.welcome.stream));
    whole_in_the_end();
}

/* A checkpoint has taken its snapshot of the old stream, and syncs the image. */
static void a_new_stream_beside_a_checkpoint(void **state)
{
    (void)state;
    start(OPTIONS);
    for (uint64_t n = 0; n < 300; n++) { /* LSNs that the new stream will not have soon */
        write_at(n * 512, 512, 'c');
    }
    fault("lag image");
    a_quarter_of_the_log();
    tap_far_follow(&far);
    wait_fault_begun();
    assert_int_equal(order(TAPCTL_RESTREAM).code, TIDE_ERR_OK);
    tap_ctl_close(&ctl);
    tap_ctl_open(&ctl, &rig);
    tap_far_connect(&far, &rig, &ctl, SIZE_MAX_);
    assert_int_equal(ctl.welcome.welcome.stored_lsn, 0);
    tap_far_wait_whole(&far, NULL);
    uint64_t before = tap_ctl_state(&ctl).checkpoint_lsn;
    a_quarter_of_the_log();
    wait_checkpoint(before + 1);
    assert_in_range(tap_ctl_state(&ctl).checkpoint_lsn, before, tap_ctl_state(&ctl).next_lsn - 1);
    tap_far_follow(&far);
    kill_it();
    start(OPTIONS);
    assert_true(ctl.welcome.welcome.whole);
    whole_in_the_end();
}

/* The image grew and the tap has not looked yet: then power fails, and what a flush had promised
 * lies in the log alone. */
static void grown_before_a_power_cut(void **state)
{
    (void)state;
    start("flush=log " OPTIONS);
    write_at(MIB, 4096, 'p');
    assert_int_equal(nbd_flush(nbd, 0), 0);
    tap_far_follow(&far);
    kill_it();
    poke(MIB, "the image did not get it");
    assert_int_equal(truncate(rig.image, (off_t)(18 * MIB)), 0);
    edit_state(another_boot);
    start("flush=log " OPTIONS);
    char back[4] = {0};
    assert_int_equal(nbd_pread(nbd, back, 3, MIB, 0), 0);
    assert_string_equal(back, "ppp");
    whole_in_the_end();
}

/* The system says once that a sync failed: whoever asked for it, the guest must hear it. */
static void an_image_sync_that_fails_beside_the_guest(void **state)
{
    (void)state;
    start(OPTIONS);
    fault("sync image");
    a_quarter_of_the_log();
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).gap_reason != RECORD_GAP_IMAGE) {
        assert_true(tap_rig_now_ms() < until);
    }
    (void)unlink(order_path);
    assert_int_equal(nbd_flush(nbd, 0), -1);
    assert_int_equal(nbd_get_errno(), EIO);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    whole_in_the_end();
}

/* The state could not be told of a gap, and later was: what the log promised since stands. */
static void a_state_that_fails_for_a_while(void **state)
{
    (void)state;
    start("flush=log log-size=8M copy-rate=0");
    fault("write state");
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_RESYNC,
                                        .serial = 5,
                                        .order = {.resync = TAPCTL_RESYNC_COMPARE}});
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    (void)unlink(order_path);
    uint64_t before = tap_ctl_state(&ctl).next_lsn;
    a_quarter_of_the_log();
    wait_checkpoint(before);
    write_at(MIB, 4096, 'p');
    assert_int_equal(nbd_flush(nbd, 0), 0);
    tap_far_follow(&far);
    kill_it();
    poke(MIB, "the image did not get it");
    edit_state(another_boot);
    start("flush=log log-size=8M copy-rate=0");
    char back[4] = {0};
    assert_int_equal(nbd_pread(nbd, back, 3, MIB, 0), 0);
    assert_string_equal(back, "ppp");
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_POWER);
    stop();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(killed_while_the_log_fills),     CASE(killed_in_a_resize),
        CASE(killed_in_a_restream),           CASE(a_new_stream_beside_a_checkpoint),
        CASE(grown_before_a_power_cut),       CASE(an_image_sync_that_fails_beside_the_guest),
        CASE(a_state_that_fails_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
