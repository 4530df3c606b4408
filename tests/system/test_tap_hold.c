/* SPDX-License-Identifier: Apache-2.0 */
/* The hold of a real tap: what is kept back and what is not, each way it ends, what the stream says
 * of it, and what a controller may not do. */
#include "tests/system/tap_rig.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (UINT64_C(8) << 20)

static struct tap_rig rig;
static struct tap_ctl ctl;
static struct nbd_handle *nbd;

static int setup(void **state)
{
    (void)state;
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=32M hold-max-ms=100 held-max=64K");
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    if (rig.pid > 0) {
        tap_rig_stop(&rig);
    }
    tap_rig_close(&rig);
    return 0;
}

static uint8_t block[65536];

static int64_t start_write(uint64_t size, uint64_t offset)
{
    int64_t cookie = nbd_aio_pwrite(nbd, block, size, offset, NBD_NULL_COMPLETION, 0);
    assert_true(cookie > 0);
    return cookie;
}

static bool done(int64_t cookie)
{
    while (nbd_poll(nbd, 0) > 0) {
    }
    int result = nbd_aio_command_completed(nbd, (uint64_t)cookie);
    assert_true(result >= 0);
    return result == 1;
}

static void wait_done(int64_t cookie)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    int result = 0;
    while ((result = nbd_aio_command_completed(nbd, (uint64_t)cookie)) == 0) {
        assert_true(tap_rig_now_ms() < until);
        assert_true(nbd_poll(nbd, 100) >= 0);
    }
    assert_int_equal(result, 1);
}

static void wait_logged(uint64_t next_lsn)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_ctl_state(&ctl).next_lsn < next_lsn) {
        assert_true(tap_rig_now_ms() < until);
    }
}

static void writes_wait_and_reads_do_not(void **state)
{
    (void)state;
    struct tapctl held = tap_ctl_hold(&ctl, 1, 90000);
    assert_int_equal(held.type, TAPCTL_HELD);
    assert_int_equal(held.held.budget_us, 90000);
    int64_t write = start_write(4096, 8192);
    int64_t zero = nbd_aio_zero(nbd, 4096, 0, NBD_NULL_COMPLETION, 0);
    int64_t trim = nbd_aio_trim(nbd, 4096, 4096, NBD_NULL_COMPLETION, 0);
    wait_logged(held.held.mark.lsn + 4);
    char back[512];
    assert_int_equal(nbd_pread(nbd, back, sizeof back, 65536, 0), 0);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    assert_true(tap_ctl_state(&ctl).holding);
    assert_false(done(write));
    assert_false(done(zero));
    assert_false(done(trim));
    /* Heard again: the same mark. Another round: BUSY. Words for other rounds change nothing. */
    struct tapctl again = tap_ctl_hold(&ctl, 1, 90000);
    assert_int_equal(again.type, TAPCTL_HELD);
    assert_memory_equal(&again.held.mark, &held.held.mark, sizeof again.held.mark);
    struct tapctl other = tap_ctl_hold(&ctl, 2, 90000);
    assert_int_equal(other.type, TAPCTL_REFUSED);
    assert_int_equal(other.refused.reason, ROUND_REASON_BUSY);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 2);
    tap_ctl_end(&ctl, TAPCTL_ABORT, 3);
    assert_true(tap_ctl_state(&ctl).holding);
    assert_false(done(write));
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    wait_done(write);
    wait_done(zero);
    wait_done(trim);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_HELD);
    assert_true(sealed.sealed.appended);
    assert_int_equal(sealed.sealed.bookmark_lsn, held.held.mark.lsn);
    assert_int_equal(sealed.sealed.writes_held, 3);
    assert_int_equal(sealed.sealed.bytes_held, 3 * 4096);
    assert_true(sealed.sealed.hold_us < 90000);
    struct tapctl late = tap_ctl_hold(&ctl, 1, 90000);
    assert_int_equal(late.refused.reason, ROUND_REASON_ENDED);
    assert_int_equal(late.refused.outcome, ROUND_OUTCOME_HELD);
}

static void a_silent_controller_cannot_stall(void **state)
{
    (void)state;
    struct tapctl held = tap_ctl_hold(&ctl, 1, 60000);
    assert_int_equal(held.type, TAPCTL_HELD);
    uint64_t from = tap_rig_now_ms();
    int64_t write = start_write(4096, 0);
    wait_done(write); /* nobody says anything */
    assert_true(tap_rig_now_ms() - from < 5000);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_EXPIRED);
    assert_true(sealed.sealed.appended);
    assert_int_equal(sealed.sealed.writes_held, 1);
    assert_true(sealed.sealed.hold_us >= 60000);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1); /* too late: says nothing, changes nothing */
    struct tapctl duty = tap_ctl_hold(&ctl, 2, 60000);
    assert_int_equal(duty.refused.reason, ROUND_REASON_DUTY);
}

static void a_dead_controller_lets_go(void **state)
{
    (void)state;
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    int64_t write = start_write(4096, 0);
    tap_ctl_close(&ctl);
    wait_done(write);
    tap_ctl_open(&ctl, &rig);
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    struct tapctl answer;
    do { /* sealing may still be under way */
        answer = tap_ctl_hold(&ctl, 1, 100000);
        assert_int_equal(answer.type, TAPCTL_REFUSED);
        assert_true(tap_rig_now_ms() < until);
    } while (answer.refused.reason == ROUND_REASON_BUSY);
    assert_int_equal(answer.refused.reason, ROUND_REASON_ENDED);
    assert_int_equal(answer.refused.outcome, ROUND_OUTCOME_ABORTED);
}

static void held_bytes_are_bounded(void **state)
{
    (void)state;
    struct tapctl held = tap_ctl_hold(&ctl, 1, 90000);
    int64_t first = start_write(60000, 0);
    wait_logged(held.held.mark.lsn + 2);
    int64_t second = start_write(60000, 1 << 20); /* past 64K: waits at entry, not in the log */
    char back[512];
    assert_int_equal(nbd_pread(nbd, back, sizeof back, 65536, 0), 0);
    assert_int_equal(tap_ctl_state(&ctl).next_lsn, held.held.mark.lsn + 2);
    tap_ctl_end(&ctl, TAPCTL_ABORT, 1);
    wait_done(first);
    wait_done(second);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_ABORTED);
    assert_int_equal(sealed.sealed.writes_held, 1);
}

static void without_the_hold_nothing_waits(void **state)
{
    (void)state;
    tap_ctl_hold_send(&ctl, 1, 90000, true);
    struct tapctl held = tap_ctl_get(&ctl, TAPCTL_HELD);
    assert_int_equal(nbd_pwrite(nbd, block, 4096, 0, 0), 0);
    assert_true(tap_ctl_state(&ctl).holding);
    tap_ctl_end(&ctl, TAPCTL_RELEASE, 1);
    struct tapctl sealed = tap_ctl_get(&ctl, TAPCTL_SEALED);
    assert_int_equal(sealed.sealed.outcome, ROUND_OUTCOME_UNHELD);
    assert_int_equal(sealed.sealed.bookmark_lsn, held.held.mark.lsn);
    assert_int_equal(sealed.sealed.writes_held, 0);
}

static void sync_stored_and_attestation(void **state)
{
    (void)state;
    assert_int_equal(nbd_pwrite(nbd, block, 4096, 0, 0), 0);
    uint64_t last = tap_ctl_state(&ctl).next_lsn - 1;
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 77, .lsn = {last}});
    struct tapctl synced = tap_ctl_get(&ctl, TAPCTL_SYNCED);
    assert_int_equal(synced.serial, 77);
    assert_false(synced.synced.failed);
    assert_true(synced.synced.lsn >= last);
    tap_ctl_send(&ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {UINT64_MAX}});
    assert_true(tap_ctl_state(&ctl).stored_lsn <= synced.synced.lsn);
    struct tapctl attest = {.type = TAPCTL_ATTEST, .attest = {.size = 3, .bytes = "abc"}};
    attest.attest.round.b[0] = 1;
    tap_ctl_send(&ctl, &attest);
    assert_int_equal(tap_ctl_state(&ctl).next_lsn, last + 2);
}

static void strangers_are_refused(void **state)
{
    (void)state;
    struct tap_ctl second = {.fd = tap_ctl_socket(&rig)};
    tap_ctl_get(&second, TAPCTL_REFUSE_BUSY);
    close(second.fd);
    assert_int_equal(tap_ctl_hold(&ctl, 1, 90000).type, TAPCTL_HELD);
    int64_t write = start_write(4096, 0);
    assert_int_equal(send(ctl.fd, "garbage", 7, 0), 7); /* ends the connection, and so the hold */
    wait_done(write);
    char byte = 0;
    struct pollfd ready = {.fd = ctl.fd, .events = POLLIN};
    while (poll(&ready, 1, TAP_RIG_DEADLINE_MS) == 1 && recv(ctl.fd, &byte, 1, 0) > 0) {
    }
    assert_int_equal(recv(ctl.fd, &byte, 1, 0), 0);
    tap_ctl_close(&ctl);
    int silent = tap_ctl_socket(&rig); /* never says HELLO: closed by the tap */
    ready.fd = silent;
    assert_int_equal(poll(&ready, 1, TAP_RIG_DEADLINE_MS), 1);
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    close(silent);
    tap_ctl_open(&ctl, &rig);
}

struct expectation {
    uint64_t bookmark;
    unsigned seen; /* bookmark, seal, attach in this order after it */
};

static void look(const struct record *record, void *context)
{
    struct expectation *e = context;
    if (record->type == RECORD_BOOKMARK) {
        e->bookmark = record->lsn;
        e->seen = 1;
    } else if (record->type == RECORD_SEAL) {
        assert_int_equal(e->seen, 1);
        assert_int_equal(record->seal.bookmark_lsn, e->bookmark);
        assert_int_equal(record->seal.outcome, ROUND_OUTCOME_ABORTED);
        e->seen = 2;
    } else if (record->type == RECORD_ATTACH && e->seen != 0) {
        assert_int_equal(e->seen, 2);
        assert_false(record->attach.clean);
        e->seen = 3;
    } else if (record->type == RECORD_WRITE && e->seen != 0) {
        assert_true(e->seen == 1 || e->seen == 3);
    }
}

static void killed_while_holding_seals_aborted(void **state)
{
    (void)state;
    uint64_t old = ctl.welcome.welcome.incarnation;
    struct tapctl held = tap_ctl_hold(&ctl, 1, 90000);
    assert_int_equal(held.type, TAPCTL_HELD);
    (void)start_write(4096, 0);
    wait_logged(held.held.mark.lsn + 2);
    tap_rig_kill(&rig);
    tap_ctl_close(&ctl);
    nbd_close(nbd);
    uint64_t started_ms = tap_rig_now_ms();
    tap_rig_start(&rig, "hold-max-ms=100");
    nbd = tap_rig_nbd(&rig);
    tap_ctl_open(&ctl, &rig);
    assert_true(ctl.welcome.welcome.whole);
    assert_int_not_equal(ctl.welcome.welcome.incarnation, old);
    assert_int_equal(nbd_pwrite(nbd, block, 512, 0, 0), 0);
    struct expectation e = {0};
    free(tap_rig_replay(&rig, SIZE, look, &e));
    assert_int_equal(e.seen, 3);
    assert_int_equal(e.bookmark, held.held.mark.lsn);
    uint64_t now = ctl.welcome.welcome.incarnation;
    ctl.welcome.welcome.incarnation = old;
    assert_int_equal(tap_ctl_hold(&ctl, 2, 90000).refused.reason, ROUND_REASON_INCARNATION);
    ctl.welcome.welcome.incarnation = now;
    assert_int_equal(tap_ctl_hold_due(&ctl, 2, 90000).type, TAPCTL_HELD);
    /* It does not know what the one before it held, and takes no hold in its first second. */
    assert_true(tap_rig_now_ms() - started_ms >= 999);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(writes_wait_and_reads_do_not),   CASE(a_silent_controller_cannot_stall),
        CASE(a_dead_controller_lets_go),      CASE(held_bytes_are_bounded),
        CASE(without_the_hold_nothing_waits), CASE(sync_stored_and_attestation),
        CASE(strangers_are_refused),          CASE(killed_while_holding_seals_aborted),
    };
    memset(block, 0xb7, sizeof block);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
