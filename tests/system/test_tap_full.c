/* SPDX-License-Identifier: Apache-2.0 */
/* The ring: it serves for ever while the far side stores; full, it is a gap and never the guest's
 * error, and no restart replays over what was written meanwhile. */
#include "tests/system/tap_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZE  (UINT64_C(8) << 20)
#define BLOCK (256U * 1024)

static uint8_t block[BLOCK];

static void fill(struct nbd_handle *nbd, uint8_t value)
{
    memset(block, value, sizeof block);
    for (uint64_t at = 0; at < SIZE; at += BLOCK) {
        assert_int_equal(nbd_pwrite(nbd, block, BLOCK, at, 0), 0);
    }
}

static void store_all(struct tap_ctl *ctl)
{
    tap_ctl_send(ctl, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 5});
    uint64_t lsn = tap_ctl_get(ctl, TAPCTL_SYNCED).synced.lsn;
    tap_ctl_send(ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {lsn}});
}

static void the_ring_serves_for_ever(void **state)
{
    (void)state;
    struct tap_rig rig;
    struct tap_ctl ctl;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    memset(block, 1, sizeof block);
    for (uint64_t n = 0; n < 128; n++) { /* 32 MiB through 8 */
        assert_int_equal(nbd_pwrite(nbd, block, BLOCK, n % 32 * BLOCK, 0), 0);
        if (n % 4 == 3) {
            store_all(&ctl);
        }
    }
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_true(got.whole);
    assert_true(got.logging);
    assert_int_equal(got.gap_lsn, 0);
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    assert_int_equal(tap_ctl_get(&ctl, TAPCTL_SEALED).sealed.outcome, ROUND_OUTCOME_HELD);
    tap_ctl_close(&ctl);
    tap_rig_kill(&rig); /* with a wrapped ring */
    nbd_close(nbd);
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    tap_ctl_open(&ctl, &rig);
    assert_true(ctl.welcome.welcome.whole);
    assert_true(ctl.welcome.welcome.next_lsn > 128);
    assert_true(ctl.welcome.welcome.tail_lsn > 1);
    tap_ctl_close(&ctl);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

static void full_is_a_gap_and_never_an_error(void **state)
{
    (void)state;
    struct tap_rig rig;
    struct tap_ctl ctl;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    tap_ctl_get(&ctl, TAPCTL_SEALED);
    fill(nbd, 1);
    fill(nbd, 2); /* nobody stores: the log is full in the midst */
    fill(nbd, 3);
    struct tapctl_state got = tap_ctl_state(&ctl);
    assert_false(got.whole);
    assert_false(got.logging);
    assert_int_equal(got.gap_reason, RECORD_GAP_OVERFLOW);
    struct tapctl refused = tap_ctl_hold(&ctl, 2, 20000);
    assert_int_equal(refused.type, TAPCTL_REFUSED);
    assert_int_equal(refused.refused.reason, ROUND_REASON_NOT_WHOLE);
    tap_ctl_close(&ctl);
    tap_rig_kill(&rig);
    nbd_close(nbd);

    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    nbd = tap_rig_nbd(&rig);
    for (uint64_t at = 0; at < SIZE; at += BLOCK) {
        assert_int_equal(nbd_pread(nbd, block, BLOCK, at, 0), 0);
        for (size_t i = 0; i < BLOCK; i++) {
            assert_int_equal(block[i], 3);
        }
    }
    tap_ctl_open(&ctl, &rig);
    assert_false(ctl.welcome.welcome.whole);
    fill(nbd, 4);
    assert_false(tap_ctl_state(&ctl).logging);
    /* Space returns: logging goes on, whole does not come back by itself. */
    store_all(&ctl);
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (!tap_ctl_state(&ctl).logging) {
        assert_true(tap_rig_now_ms() < until);
    }
    uint64_t next = tap_ctl_state(&ctl).next_lsn;
    memset(block, 5, sizeof block);
    assert_int_equal(nbd_pwrite(nbd, block, BLOCK, 0, 0), 0);
    got = tap_ctl_state(&ctl);
    assert_int_equal(got.next_lsn, next + 1);
    assert_false(got.whole);
    tap_ctl_close(&ctl);
    tap_rig_kill(&rig);
    nbd_close(nbd);
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_pread(nbd, block, BLOCK, 0, 0), 0);
    assert_int_equal(block[BLOCK - 1], 5);
    assert_int_equal(nbd_pread(nbd, block, BLOCK, BLOCK, 0), 0);
    assert_int_equal(block[0], 4);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

/* Starts on a full log use the reserve, and when that is gone too, the disk is still served. */
static void restarts_on_a_full_log(void **state)
{
    (void)state;
    struct tap_rig rig;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
    for (unsigned n = 0; n < 8; n++) {
        struct nbd_handle *nbd = tap_rig_nbd(&rig);
        fill(nbd, (uint8_t)n);
        assert_int_equal(nbd_flush(nbd, 0), 0);
        tap_rig_kill(&rig);
        nbd_close(nbd);
        tap_rig_start(&rig, "log-size=8M hold-max-ms=100");
        nbd = tap_rig_nbd(&rig);
        assert_int_equal(nbd_pread(nbd, block, BLOCK, SIZE - BLOCK, 0), 0);
        assert_int_equal(block[7], n);
        nbd_close(nbd);
    }
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ring_serves_for_ever),
        cmocka_unit_test(full_is_a_gap_and_never_an_error),
        cmocka_unit_test(restarts_on_a_full_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
