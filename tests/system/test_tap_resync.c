/* SPDX-License-Identifier: Apache-2.0 */
/* What is not whole becomes whole again by itself, and sends what differs: after an overload by the
 * map, after what nobody saw by comparing; beside writers, over kills; a disk that is resized, a
 * log that is lost, restored, cloned; and the orders of an operator. */
#include "common/core/bytes.h"
#include "common/core/prng.h"
#include "tests/system/tap_far.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB       (UINT64_C(1) << 20)
#define SIZE      ((UINT64_C(24) << 20) + 5 * 512) /* its end is no whole block */
#define SIZE_MAX_ (UINT64_C(48) << 20)
#define SMALL_LOG "log-size=8M copy-rate=1G"
#define LARGE_LOG "log-size=128M copy-rate=1G"
#define SLOT      4096U
#define SLOT_BOOT 72U
#define SLOT_CRC  12U

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct tap_far far;
static struct nbd_handle *nbd;
static struct prng prng;
static uint8_t chunk[MIB];

static void randomise(uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t random = prng_next(&prng);
        memcpy(to + i, &random, size - i < 8 ? size - i : 8);
    }
}

static int setup(void **state)
{
    (void)state;
    prng_init(&prng, 20006);
    tap_rig_open(&rig, SIZE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_far_close(&far);
    tap_rig_close(&rig);
    return 0;
}

static void start(const char *options)
{
    tap_rig_start(&rig, options);
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    tap_far_connect(&far, &rig, &ctl, SIZE_MAX_);
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

static void write_at(uint64_t offset, uint64_t size)
{
    randomise(chunk, size);
    assert_int_equal(nbd_pwrite(nbd, chunk, size, offset, 0), 0);
}

static void write_some(void)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t size = 1 + prng_below(&prng, 8192);
        uint64_t offset = prng_below(&prng, SIZE - size);
        if (prng_below(&prng, 5) == 0) {
            assert_int_equal(nbd_zero(nbd, size, offset, 0), 0);
        } else {
            write_at(offset, size);
        }
    }
}

static void point(uint8_t round)
{
    assert_int_equal(tap_ctl_hold_due(&ctl, round, 50000).type, TAPCTL_HELD);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, round);
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_SEALED).sealed.outcome, ROUND_OUTCOME_HELD);
}

/* A whole disk with data in its first half. */
static void start_with_data(const char *options)
{
    start(options);
    for (uint64_t at = 0; at < 12 * MIB; at += MIB) {
        write_at(at, MIB);
        tap_far_follow(&far);
    }
    tap_far_equals(&far);
}

static void wait_reason(unsigned reason)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).gap_reason != reason) {
        assert_true(tap_rig_now_ms() < until);
    }
}

/* Nobody stores: the log fills, and writes go past it. */
static void overload(void)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).logging) {
        write_at(13 * MIB, MIB / 2);
        assert_true(tap_rig_now_ms() < until);
    }
}

/* ---- by the map ---- */

static void after_an_overload_what_changed_is_sent(void **state)
{
    (void)state;
    start_with_data(SMALL_LOG);
    overload();
    write_at(0, 100); /* two blocks, past the log */
    write_at(20 * MIB - 50, 100);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_OVERFLOW);
    assert_in_range(got.dirty_bytes, 3 * TIDE_TAPCTL_BLOCK, 3 * TIDE_TAPCTL_BLOCK + MIB);
    assert_int_equal(nbd_zero(nbd, MIB, 4 * MIB, 0), 0); /* data becomes zeroes, unlogged */
    tap_far_wait_whole(&far, NULL); /* what is written past the log meanwhile would be sent too */
    tap_far_equals(&far);
    assert_int_equal(far.begin.kind, RECORD_COPY_CHANGES);
    assert_int_equal(far.compared_blocks, 0);
    assert_in_range(far.block_bytes, 1, 5 * MIB); /* not the disk */
    assert_in_range(far.zero_bytes, TIDE_TAPCTL_BLOCK, 3 * MIB);
    point(1);
    stop();
}

static void the_map_survives_a_kill(void **state)
{
    (void)state;
    start_with_data(SMALL_LOG);
    overload();
    write_at(6 * MIB, 3000);
    uint64_t dirty = tap_ctl_state(&ctl).dirty_bytes;
    kill_it();
    start(SMALL_LOG);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_OVERFLOW);
    assert_int_equal(got.dirty_bytes, dirty);
    write_at(7 * MIB, 3000); /* the log is full still */
    kill_it();
    start(SMALL_LOG);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.compared_blocks, 0);
    assert_in_range(far.block_bytes, 1, 5 * MIB);
    stop();
}

static void overloads_again_and_again(void **state)
{
    (void)state;
    start_with_data(SMALL_LOG);
    for (unsigned round = 0; round < 6; round++) {
        overload();
        write_some();
        for (unsigned n = (unsigned)prng_below(&prng, 6); n > 0; n--) {
            tap_far_serve(&far);
            write_some();
        }
        if (prng_below(&prng, 2) == 0) {
            kill_it();
            start(SMALL_LOG);
        }
    }
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    point(1);
    stop();
}

/* ---- by comparing ---- */

/* Both slots of the state file, each changed by `change` and with a right checksum. */
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

/* The text begins with the firmware's UUID; after the image's identity. */
static void another_machine(uint8_t *slot)
{
    size_t at = SLOT_BOOT + 160 + 32 + 96;
    assert_true(slot[at] != 0);
    slot[at] ^= 1;
}

/* What the machine had in memory and not on its disk. */
static void poke(uint64_t offset, const char *text)
{
    int fd = open(rig.image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, strlen(text), (off_t)offset), (ssize_t)strlen(text));
    close(fd);
}

static void after_a_power_cut_it_is_compared(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    tap_far_follow(&far);
    kill_it();
    edit_state(another_boot);
    poke(17 * MIB, "kept, and the log has never heard of it");
    uint64_t sent = far.block_bytes;
    start(LARGE_LOG);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_POWER);
    assert_int_equal(tap_ctl_hold(&ctl, 9, 20000).refused.reason, ROUND_REASON_NOT_WHOLE);
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    assert_int_equal(far.begin.kind, RECORD_COPY_CHANGES);
    assert_int_equal(far.differing_blocks, 1);
    assert_int_equal(far.block_bytes - sent, TIDE_TAPCTL_BLOCK);
    point(1);
    stop();
}

/* Guests write while it compares; the blocks are read without their knowledge. */
static void comparing_beside_writers(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    kill_it();
    edit_state(another_boot);
    for (uint64_t at = 100; at < SIZE; at += 3 * MIB) {
        poke(at, "else");
    }
    start("log-size=128M copy-rate=20M");
    for (unsigned n = 0; n < 5; n++) {
        tap_far_serve(&far);
        write_some();
    }
    kill_it(); /* in the midst: what was compared and cleared stays so */
    uint64_t before = far.compared_blocks;
    start(LARGE_LOG);
    assert_true(tap_ctl_state(&ctl).dirty_bytes < SIZE);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_true(far.compared_blocks > before);
    assert_true(far.block_bytes < SIZE / 2);
    stop();
}

static void an_image_that_others_wrote(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    stop();
    poke(2 * MIB, "others");
    start(LARGE_LOG);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_MTIME);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.differing_blocks, 1);
    stop();
}

/* The same name, size and times, but another file. */
static void another_image_behind_the_name(void **state)
{
    (void)state;
    char other[160];
    struct stat st;
    start_with_data(LARGE_LOG);
    stop();
    assert_int_equal(stat(rig.image, &st), 0);
    (void)snprintf(other, sizeof other, "%s.other", rig.image);
    assert_int_equal(rename(rig.image, other), 0);
    FILE *image = fopen(rig.image, "w");
    assert_non_null(image);
    memset(chunk, 'o', sizeof chunk);
    assert_int_equal(fwrite(chunk, 1, MIB, image), MIB);
    assert_int_equal(fclose(image), 0);
    assert_int_equal(truncate(rig.image, (off_t)SIZE), 0);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, rig.image, times, 0), 0);
    start(LARGE_LOG);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_IDENTITY);
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    assert_int_equal(unlink(other), 0);
    stop();
}

static void shell(const char *format, ...)
{
    char command[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

/* ---- streams that must not go on ---- */

static void a_log_that_is_gone(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    struct id old = ctl.welcome.welcome.stream;
    kill_it();
    shell("rm -r %s", rig.log);
    start(LARGE_LOG);
    assert_false(id_equal(&old, &ctl.welcome.welcome.stream));
    assert_false(ctl.welcome.welcome.whole);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_BASE);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.begin.kind, RECORD_COPY_INITIAL);
    stop();
}

/* Its records were sent as one thing and would be sent again as another. */
static void a_log_restored_from_a_copy(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    stop();
    shell("cp -a %s %s.copy", rig.log, rig.log);
    start(LARGE_LOG);
    struct id old = ctl.welcome.welcome.stream;
    write_at(3 * MIB, 4096);
    stop();
    shell("rm -r %s && mv %s.copy %s", rig.log, rig.log, rig.log);
    start(LARGE_LOG);
    bool there = getxattr(rig.image, "user.tidemark", NULL, 0) > 0;
    if (there) { /* told at once; else the far side must */
        assert_false(id_equal(&old, &ctl.welcome.welcome.stream));
        assert_int_equal(ctl.welcome.welcome.tail_lsn, 1);
        tap_far_wait_whole(&far, NULL);
        tap_far_equals(&far);
    }
    assert_int_equal(nbd_pread(nbd, chunk, 4096, 3 * MIB, 0), 0);
    stop();
}

static void a_cloned_machine(void **state)
{
    (void)state;
    start_with_data("flush=log " LARGE_LOG);
    struct id old = ctl.welcome.welcome.stream;
    write_at(3 * MIB, 4096);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    uint8_t promised[4096];
    memcpy(promised, chunk, sizeof promised);
    kill_it();
    poke(3 * MIB, "the image did not get it");
    edit_state(another_machine);
    start(LARGE_LOG);
    assert_false(id_equal(&old, &ctl.welcome.welcome.stream));
    assert_int_equal(nbd_pread(nbd, chunk, 4096, 3 * MIB, 0), 0);
    assert_memory_equal(chunk, promised, sizeof promised); /* replayed, before it was left */
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    point(1);
    stop();
}

/* The far side finds out, while the guest writes. */
static void a_new_stream_by_order(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    point(1);
    struct id old = ctl.welcome.welcome.stream;
    struct tapctl order = {.type = TAPCTL_RESTREAM, .serial = 4, .order = {.stream = old}};
    order.order.stream.b[0] ^= 1;
    tap_ctl_send(&ctl, &order);
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_CONFLICT);
    order.order.stream = old;
    tap_ctl_send(&ctl, &order);
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    uint8_t byte;
    assert_int_equal(read(ctl.fd, &byte, 1), 0); /* it hung up */
    tap_ctl_close(&ctl);
    write_some();
    tap_ctl_open(&ctl, &rig);
    tap_far_connect(&far, &rig, &ctl, SIZE_MAX_);
    assert_false(id_equal(&old, &ctl.welcome.welcome.stream));
    assert_false(ctl.welcome.welcome.whole);
    kill_it(); /* it is there after a kill too */
    struct id stream = ctl.welcome.welcome.stream;
    start(LARGE_LOG);
    assert_true(id_equal(&stream, &ctl.welcome.welcome.stream));
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    point(2);
    stop();
}

/* ---- resize ---- */

static void resize_to(uint64_t size)
{
    assert_int_equal(truncate(rig.image, (off_t)size), 0);
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_RESIZE, .serial = 6});
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    assert_int_equal(tap_ctl_state(&ctl).size, size);
}

static void grown_and_shrunk_under_it(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    point(1);
    resize_to(40 * MIB);
    assert_true(tap_ctl_state(&ctl).whole); /* a hole: the stream goes on as it was */
    point(2);
    assert_int_equal(nbd_pwrite(nbd, chunk, 512, 39 * MIB, 0), -1); /* this client does not know */
    nbd_close(nbd);
    nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_get_size(nbd), 40 * MIB);
    write_at(39 * MIB, MIB);
    write_some();
    tap_far_equals(&far);
    assert_int_equal(far.records[RECORD_RESIZE], 1);
    assert_int_equal(far.records[RECORD_GAP], 0);
    resize_to(30 * MIB + 512);
    tap_far_equals(&far);
    assert_int_equal(nbd_pwrite(nbd, chunk, 512, 35 * MIB, 0), -1);
    assert_int_equal(nbd_pread(nbd, chunk, 512, 35 * MIB, 0), -1);
    resize_to(45 * MIB);
    point(3);
    kill_it();
    start(LARGE_LOG);
    assert_true(ctl.welcome.welcome.whole);
    assert_int_equal(ctl.welcome.welcome.size, 45 * MIB);
    tap_far_equals(&far);
    stop();
}

static void wait_refused(uint64_t size)
{
    assert_int_equal(truncate(rig.image, (off_t)size), 0);
    for (int again = 0; again < 2; again++) {
        tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_RESIZE, .serial = 6});
        struct tapctl_done done = tap_ctl_get(&ctl, TAPCTL_DONE).done;
        assert_int_equal(done.code, TIDE_ERR_CONFIG);
        assert_non_null(strstr(done.text, "multiple of 512"));
        assert_int_equal(tap_ctl_state(&ctl).size, SIZE);
    }
}

/* A size that no disk can be registered with is not followed; what a smaller one lost is a gap, and
 * is sent when the image has its size again. */
static void not_resized_to_what_no_disk_can_have(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    write_at(SIZE - MIB, MIB);
    wait_refused(SIZE + 1);
    assert_true(tap_ctl_state(&ctl).whole);
    point(1);
    wait_refused(SIZE - MIB / 2 + 7);
    wait_reason(RECORD_GAP_SIZE);
    assert_int_equal(truncate(rig.image, (off_t)SIZE), 0);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.records[RECORD_RESIZE], 0);
    resize_to(40 * MIB);
    point(2);
    stop();
    assert_int_equal(truncate(rig.image, (off_t)(SIZE + 100)), 0);
    assert_false(tap_rig_try(&rig, LARGE_LOG)); /* nor does it begin so */
    assert_int_equal(truncate(rig.image, (off_t)(40 * MIB)), 0);
    start(LARGE_LOG);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    stop();
}

static void grown_with_what_is_no_hole(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    int fd = open(rig.image, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    randomise(chunk, MIB);
    assert_int_equal(pwrite(fd, chunk, MIB, (off_t)(30 * MIB)), (ssize_t)MIB);
    close(fd);
    uint64_t sent = far.block_bytes;
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_RESIZE, .serial = 6});
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    wait_reason(RECORD_GAP_SIZE);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.size, 31 * MIB);
    assert_in_range(far.block_bytes - sent, MIB, 2 * MIB);
    point(1);
    stop();
}

static void resized_while_no_tap_ran(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    stop();
    assert_int_equal(truncate(rig.image, (off_t)(36 * MIB)), 0);
    start(LARGE_LOG);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_SIZE);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    stop();
    assert_int_equal(truncate(rig.image, (off_t)(9 * MIB)), 0);
    start(LARGE_LOG);
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    assert_int_equal(far.size, 9 * MIB);
    stop();
}

/* The log is full when it happens. */
static void resized_past_the_log(void **state)
{
    (void)state;
    start_with_data(SMALL_LOG);
    overload();
    resize_to(33 * MIB);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.size, 33 * MIB);
    stop();
}

/* ---- orders ---- */

static struct tapctl_done resync(enum tapctl_resync how)
{
    tap_ctl_send(&ctl, &(struct tapctl){
                           .type = TAPCTL_RESYNC, .serial = 8, .order = {.resync = (uint8_t)how}});
    return tap_ctl_get(&ctl, TAPCTL_DONE).done;
}

static void asked_for(void **state)
{
    (void)state;
    start_with_data("log-size=128M copy-rate=0");
    assert_non_null(strstr(resync(TAPCTL_RESYNC_NOW).text, "whole"));
    assert_true(tap_ctl_state(&ctl).whole);
    point(1);

    assert_int_equal(resync(TAPCTL_RESYNC_COMPARE).code, TIDE_ERR_OK);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_ASKED);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.begin.kind, RECORD_COPY_CHANGES);
    assert_true(far.compared_blocks >= SIZE / TIDE_TAPCTL_BLOCK);
    assert_int_equal(far.block_bytes, 0);
    point(2);

    assert_int_equal(resync(TAPCTL_RESYNC_FULL).code, TIDE_ERR_OK);
    tap_far_wait_whole(&far, write_some);
    tap_far_equals(&far);
    assert_int_equal(far.begin.kind, RECORD_COPY_FULL);
    assert_true(far.block_bytes >= 12 * MIB);
    point(3);
    stop();
}

static void detached_by_order(void **state)
{
    (void)state;
    start_with_data(LARGE_LOG);
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_DETACH, .serial = 9});
    struct tapctl_done done = tap_ctl_get(&ctl, TAPCTL_DONE).done;
    assert_int_equal(done.code, TIDE_ERR_BUSY);
    assert_non_null(strstr(done.text, "1 clients"));
    nbd_shutdown(nbd, 0);
    nbd_close(nbd);
    nbd = NULL;
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).clients != 0) {
        assert_true(tap_rig_now_ms() < until);
    }
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_DETACH, .serial = 9});
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    tap_rig_wait(&rig);
    tap_ctl_close(&ctl);
    start(LARGE_LOG);
    tap_far_follow(&far);
    assert_true(far.attach.clean);
    tap_far_equals(&far);
    tap_ctl_send(&ctl,
                 &(struct tapctl){.type = TAPCTL_DETACH, .serial = 9, .order = {.force = true}});
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_DONE).done.code, TIDE_ERR_OK);
    tap_rig_wait(&rig);
    after_end();
}

/* An image whose flushes went to another log alone is not served without it. */
static void a_log_that_was_not_replayed(void **state)
{
    (void)state;
    char other[192];
    start_with_data("flush=log " LARGE_LOG);
    if (getxattr(rig.image, "user.tidemark", NULL, 0) <= 0) {
        kill_it();
        skip(); /* the file system keeps no notes */
    }
    kill_it();
    (void)snprintf(other, sizeof other, "%s.away", rig.log);
    char log[sizeof rig.log];
    memcpy(log, rig.log, sizeof log);
    (void)snprintf(rig.log, sizeof rig.log, "%.100s.new", log);
    assert_false(tap_rig_try(&rig, LARGE_LOG));
    memcpy(rig.log, log, sizeof log);
    start(LARGE_LOG);
    tap_far_equals(&far);
    stop();
    shell("rm -rf %s.new", rig.log);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(after_an_overload_what_changed_is_sent),
        CASE(the_map_survives_a_kill),
        CASE(overloads_again_and_again),
        CASE(after_a_power_cut_it_is_compared),
        CASE(comparing_beside_writers),
        CASE(an_image_that_others_wrote),
        CASE(another_image_behind_the_name),
        CASE(a_log_that_is_gone),
        CASE(a_log_restored_from_a_copy),
        CASE(a_cloned_machine),
        CASE(a_new_stream_by_order),
        CASE(grown_and_shrunk_under_it),
        CASE(grown_with_what_is_no_hole),
        CASE(not_resized_to_what_no_disk_can_have),
        CASE(resized_while_no_tap_ran),
        CASE(resized_past_the_log),
        CASE(asked_for),
        CASE(detached_by_order),
        CASE(a_log_that_was_not_replayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
