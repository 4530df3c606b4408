/* SPDX-License-Identifier: Apache-2.0 */
/* The copy of a disk that is not whole: beside writers, over kills, after each kind of gap; what
 * the whole log gives on zeroes is then the disk, and the reader's rule says so at the same record.
 */
#include "common/core/prng.h"
#include "common/hrl/whole.h"
#include "tests/system/tap_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE   ((UINT64_C(16) << 20) + 12345 * 512) /* its end is no whole block */
#define MIB    (UINT64_C(1) << 20)
#define DEPTH  8
#define FAST   "log-size=128M copy-rate=1G"
#define PERIOD (2 * MIB) /* of the image: first half data, second a hole */

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct nbd_handle *nbd;
static struct prng prng;
static uint8_t chunk[MIB];

/* ---- the image, and what guests do to it ---- */

static void randomise(uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)prng_next(&prng);
    }
}

/* Data and holes, and zeroes that are allocated. */
static void fill_image(void)
{
    FILE *image = fopen(rig.image, "r+");
    assert_non_null(image);
    for (uint64_t at = 0; at < SIZE; at += PERIOD) {
        uint64_t size = SIZE - at < MIB ? SIZE - at : MIB;
        randomise(chunk, size);
        if (at == 4 * PERIOD) {
            memset(chunk, 0, sizeof chunk);
        }
        assert_int_equal(fseek(image, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(chunk, 1, size, image), size);
    }
    assert_int_equal(fclose(image), 0);
}

static int setup(void **state)
{
    (void)state;
    prng_init(&prng, 20005);
    tap_rig_open(&rig, SIZE);
    fill_image();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_rig_close(&rig);
    return 0;
}

static void start(const char *options)
{
    tap_rig_start(&rig, options);
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
}

static void after_end(void)
{
    tap_ctl_close(&ctl);
    nbd_close(nbd);
}

struct writer {
    int64_t cookie; /* 0: idle */
    uint8_t data[4096];
};
static struct writer writers[DEPTH];

/* Keeps DEPTH changes in flight all over the disk; one round of them. */
static void write_some(void)
{
    for (int i = 0; i < DEPTH; i++) {
        struct writer *w = &writers[i];
        if (w->cookie != 0 && nbd_aio_command_completed(nbd, (uint64_t)w->cookie) == 0) {
            continue;
        }
        uint64_t size = 1 + prng_below(&prng, sizeof w->data);
        uint64_t offset = prng_below(&prng, SIZE - size);
        randomise(w->data, size);
        w->cookie = prng_below(&prng, 4) == 0
                        ? nbd_aio_zero(nbd, size, offset, NBD_NULL_COMPLETION, 0)
                        : nbd_aio_pwrite(nbd, w->data, size, offset, NBD_NULL_COMPLETION, 0);
        assert_true(w->cookie > 0);
    }
    assert_true(nbd_poll(nbd, 1000) >= 0);
    (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* the log never wraps here */
}

static void end_writing(void)
{
    for (int i = 0; i < DEPTH; i++) {
        while (writers[i].cookie != 0 &&
               nbd_aio_command_completed(nbd, (uint64_t)writers[i].cookie) == 0) {
            assert_true(nbd_poll(nbd, 1000) >= 0);
        }
        writers[i].cookie = 0;
    }
}

static void forget_writers(void)
{
    for (int i = 0; i < DEPTH; i++) {
        writers[i].cookie = 0;
    }
}

/* ---- what the log says ---- */

struct seen {
    struct whole whole;
    uint64_t begins;
    struct record_copy_begin last_begin;
    uint64_t blocks;
    uint64_t block_bytes;
    uint64_t zero_bytes; /* of copies */
    uint64_t ends;
};

static void look(const struct record *record, void *context)
{
    struct seen *seen = context;
    whole_feed(&seen->whole, record);
    if (record->type == RECORD_COPY_BEGIN) {
        seen->begins++;
        seen->last_begin = record->copy_begin;
    } else if (record->type == RECORD_COPY_BLOCK) {
        seen->blocks++;
        seen->block_bytes += record->write.size;
    } else if (record->type == RECORD_ZERO && record->write.copy) {
        seen->zero_bytes += record->write.size;
    } else if (record->type == RECORD_COPY_END) {
        seen->ends++;
    }
}

/* The log on zeroes is the disk, and the reader's rule agrees. */
static struct seen compare(void)
{
    struct seen seen = {0};
    whole_init(&seen.whole);
    uint8_t *expected = tap_rig_replay(&rig, SIZE, look, &seen);
    for (uint64_t at = 0; at < SIZE; at += MIB) {
        uint64_t size = SIZE - at < MIB ? SIZE - at : MIB;
        assert_int_equal(nbd_pread(nbd, chunk, size, at, 0), 0);
        assert_memory_equal(chunk, expected + at, size);
    }
    free(expected);
    assert_int_equal(seen.whole.answer, ROUND_ANSWER_YES);
    return seen;
}

static void point(uint8_t round)
{
    assert_int_equal(tap_ctl_hold_due(&ctl, round, 50000).type, TAPCTL_HELD);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, round);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_HELD);
    assert_true(sealed.sealed.appended);
}

static void store_all(void)
{
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 5});
    uint64_t lsn = tap_ctl_get(&ctl, TAPCTL_SYNCED).synced.lsn;
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {lsn}});
}

/* Until the copy has ended; with work (may be NULL) in between. */
static void wait_whole(void (*work)(void))
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (!tap_ctl_state(&ctl).whole) {
        assert_true(tap_rig_now_ms() < until);
        if (work != NULL) {
            work();
        } else {
            (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        }
    }
}

static void wait_offset(uint64_t offset, void (*work)(void))
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    for (;;) {
        struct tapctl_state got = tap_ctl_state(&ctl);
        assert_false(got.whole); /* too fast for what is to be shown */
        if (got.size - got.dirty_bytes >= offset) {
            return;
        }
        assert_true(tap_rig_now_ms() < until);
        if (work != NULL) {
            work();
        }
    }
}

/* What the daemon does while a copy compares: here against what the log says, which has it all. */
static void compare_some(void)
{
    struct tapctl_state state = tap_ctl_state(&ctl);
    if (!state.comparing || state.compare_offset >= SIZE) {
        return;
    }
    struct tapctl message = {
        .type = TAPCTL_COMPARED,
        .compared = {.begin_lsn = state.copy_lsn, .offset = state.compare_offset}};
    uint8_t *far = tap_rig_replay(&rig, SIZE, NULL, NULL);
    FILE *image = fopen(rig.image, "r");
    assert_non_null(image);
    assert_int_equal(fseek(image, (long)state.compare_offset, SEEK_SET), 0);
    for (uint64_t at = state.compare_offset; at < SIZE && message.compared.count < 50;
         at += TIDE_TAPCTL_BLOCK) {
        uint64_t size = SIZE - at < TIDE_TAPCTL_BLOCK ? SIZE - at : TIDE_TAPCTL_BLOCK;
        uint32_t k = message.compared.count++;
        assert_int_equal(fread(chunk, 1, size, image), size);
        if (memcmp(chunk, far + at, size) != 0) {
            message.compared.differs[k / 8] |= (uint8_t)(1U << k % 8);
        }
    }
    assert_int_equal(fclose(image), 0);
    free(far);
    tap_ctl_send(&ctl, &message);
}

static void compare_beside_writers(void)
{
    compare_some();
    write_some();
}

/* ---- tests ---- */

static void beside_writers(void **state)
{
    (void)state;
    start("log-size=128M copy-rate=12M");
    struct tapctl refused = tap_ctl_hold(&ctl, 1, 50000);
    assert_int_equal(refused.type, TAPCTL_REFUSED);
    assert_int_equal(refused.refused.reason, ROUND_REASON_NOT_WHOLE);
    assert_non_null(strstr(refused.refused.text, "base"));
    assert_non_null(strstr(refused.refused.text, "copy"));
    wait_offset(SIZE / 4, write_some);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_int_equal(got.copy, TAPCTL_COPY_RUNNING);
    assert_int_equal(got.gap_reason, RECORD_GAP_BASE);
    wait_whole(write_some);
    point(2);
    for (int i = 0; i < 20; i++) {
        write_some();
    }
    end_writing();
    struct seen seen = compare();
    assert_int_equal(seen.begins, 1);
    assert_int_equal(seen.last_begin.kind, RECORD_COPY_INITIAL);
    assert_true(seen.blocks > 10);
    assert_int_equal(seen.zero_bytes, 0); /* zeroes and holes are not sent */
    got = tap_ctl_state(&ctl);
    assert_int_equal(got.copy, TAPCTL_COPY_NONE);
    assert_int_equal(got.dirty_bytes, 0);
    after_end();
    tap_rig_kill(&rig);
    start(FAST); /* a restart does not forget it */
    assert_true(ctl.welcome.welcome.whole);
    point(1);
    assert_int_equal(compare().begins, 1);
    after_end();
    tap_rig_stop(&rig);
}

static void holes_are_not_sent(void **state)
{
    (void)state;
    start(FAST);
    wait_whole(NULL);
    struct seen seen = compare();
    assert_int_equal(seen.zero_bytes, 0);
    /* The data, but for the half period of allocated zeroes. */
    uint64_t data = 0;
    for (uint64_t at = 0; at < SIZE; at += PERIOD) {
        data += at == 4 * PERIOD ? 0 : SIZE - at < MIB ? SIZE - at : MIB;
    }
    assert_int_equal(seen.block_bytes, data);
    after_end();
    tap_rig_stop(&rig);
}

static void killed_in_the_midst(void **state)
{
    (void)state;
    start("log-size=128M copy-rate=7M");
    wait_offset(SIZE * 3 / 4, write_some);
    tap_rig_kill(&rig);
    after_end();
    forget_writers();
    start("log-size=128M copy-rate=16M");
    assert_false(ctl.welcome.welcome.whole);
    assert_true(tap_ctl_state(&ctl).dirty_bytes <= SIZE / 4 + MIB); /* the map survived */
    for (int i = 0; i < 5; i++) {
        write_some();
    }
    end_writing();
    after_end();
    tap_rig_stop(&rig); /* in the midst again, cleanly */
    start(FAST);
    wait_whole(write_some);
    end_writing();
    point(1);
    struct seen seen = compare();
    assert_in_range(seen.begins, 2, 3);
    assert_int_equal(seen.last_begin.kind, RECORD_COPY_CHANGES);
    assert_int_equal(seen.zero_bytes, 0);
    after_end();
    tap_rig_stop(&rig);
}

/* Anywhere: at its begin, at its end, before and after the state is written. */
static void killed_anywhere(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        if (round % 4 == 0) { /* a new stream */
            tap_rig_close(&rig);
            tap_rig_open(&rig, SIZE);
            fill_image();
        }
        start(round % 4 == 3 ? FAST : "log-size=128M copy-rate=256M");
        for (uint64_t n = prng_below(&prng, 30); n > 0; n--) {
            write_some();
        }
        if (round % 4 == 3) {
            wait_whole(write_some);
            end_writing();
            point(1);
            assert_int_equal(compare().ends, 1);
        }
        tap_rig_kill(&rig);
        after_end();
        forget_writers();
    }
}

/* Others wrote while no tap ran: what differs is found and sent, what they emptied as zeroes. */
static void after_another_gap(void **state)
{
    (void)state;
    start(FAST);
    wait_whole(NULL);
    randomise(chunk, sizeof chunk);
    assert_int_equal(nbd_pwrite(nbd, chunk, MIB, MIB, 0), 0); /* into a hole */
    after_end();
    tap_rig_stop(&rig);
    FILE *image = fopen(rig.image, "r+");
    assert_non_null(image);
    memset(chunk, 0, sizeof chunk);
    assert_int_equal(fwrite(chunk, 1, MIB, image), MIB); /* data becomes zeroes */
    assert_int_equal(fwrite(chunk, 1, MIB / 2, image), MIB / 2);
    assert_int_equal(fclose(image), 0);
    assert_int_equal(truncate(rig.image, (off_t)(SIZE - 3 * MIB)), 0); /* and a hole */
    assert_int_equal(truncate(rig.image, (off_t)SIZE), 0);

    start(FAST);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_MTIME);
    wait_whole(compare_beside_writers);
    end_writing();
    struct seen seen = compare();
    assert_int_equal(seen.begins, 2);
    assert_int_equal(seen.last_begin.kind, RECORD_COPY_CHANGES);
    assert_in_range(seen.zero_bytes, 2 * MIB, 6 * MIB);
    point(1);
    after_end();
    tap_rig_stop(&rig);
}

/* A gap in the midst: what was copied stays so, but for what the gap names; zeroes are sent. */
static void a_gap_in_the_midst(void **state)
{
    (void)state;
    char preload[512];
    char order[160];
    (void)snprintf(preload, sizeof preload, "%s/tests/tap_faults.so", getenv("TIDE_BUILD"));
    (void)snprintf(order, sizeof order, "%s/fault", rig.folder);
    assert_int_equal(setenv("TIDE_FAULT", order, 1), 0);
    assert_int_equal(setenv("LD_PRELOAD", preload, 1), 0);
    start("log-size=128M copy-rate=20M");
    assert_int_equal(unsetenv("LD_PRELOAD"), 0);
    wait_offset(2 * MIB, NULL);
    FILE *to = fopen(order, "w");
    assert_non_null(to);
    assert_true(fputs("write image", to) >= 0);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(nbd_pwrite(nbd, "never there", 11, 100, 0), -1);
    assert_int_equal(unlink(order), 0);
    assert_int_equal(tap_ctl_state(&ctl).gap_reason, RECORD_GAP_IMAGE);
    wait_whole(NULL);
    struct seen seen = compare();
    assert_int_equal(seen.begins, 2);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.last_begin.kind, RECORD_COPY_CHANGES);
    assert_true(seen.zero_bytes > 0);
    point(1);
    after_end();
    tap_rig_stop(&rig);
}

/* Nobody stores: the copy keeps to its half of the log, and the guest has the other. */
static void the_log_is_shared(void **state)
{
    (void)state;
    start("log-size=8M copy-rate=1G");
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).copy != TAPCTL_COPY_WAITING) {
        assert_true(tap_rig_now_ms() < until);
    }
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_true(got.ring_used <= got.ring_bytes / 2);
    for (uint64_t at = 0; at < 2 * MIB; at += 32768) {
        assert_int_equal(nbd_pwrite(nbd, chunk, 32768, at, 0), 0);
    }
    got = tap_ctl_state(&ctl);
    assert_true(got.logging);
    assert_int_equal(got.gap_reason, RECORD_GAP_BASE);
    assert_false(got.whole);
    wait_whole(store_all);
    point(1);
    after_end();
    tap_rig_stop(&rig);
}

/* An overflow is mended too, once the far side takes the log again. */
static void after_an_overflow(void **state)
{
    (void)state;
    start("log-size=8M copy-rate=1G");
    wait_whole(store_all);
    memset(chunk, 5, sizeof chunk);
    for (uint64_t at = 0; at + MIB <= SIZE; at += MIB) {
        assert_int_equal(nbd_pwrite(nbd, chunk, MIB, at, 0), 0);
    }
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_OVERFLOW);
    wait_whole(store_all);
    got = tap_ctl_state(&ctl);
    assert_true(got.logging);
    point(1);
    after_end();
    tap_rig_stop(&rig);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(beside_writers),    CASE(holes_are_not_sent), CASE(killed_in_the_midst),
        CASE(killed_anywhere),   CASE(after_another_gap),  CASE(a_gap_in_the_midst),
        CASE(the_log_is_shared), CASE(after_an_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
