/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/window: what is sent, what an answer means, and when it is stuck; then against a
 * far side played by a seed, which stages, loses, fails and answers in any order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/core/prng.h"
#include "participant/core/window.h"

static struct window w;

static void fill(unsigned limit, unsigned count) /* segments of ten LSNs */
{
    window_init(&w, limit, 0);
    for (unsigned k = 0; k < count; k++) {
        assert_true(window_has_room(&w));
        window_add(&w, k * 10 + 1, k * 10 + 10);
    }
}

static void sends(uint64_t now, uint64_t first)
{
    uint64_t got = 0;
    assert_true(window_next(&w, now, &got));
    assert_int_equal(got, first);
}

static void sends_nothing(uint64_t now)
{
    uint64_t got = 0;
    assert_false(window_next(&w, now, &got));
}

static enum window_verdict ok(uint64_t first, uint64_t stored)
{
    struct window_answer a = {.code = TIDE_ERR_OK, .stored = stored};
    return window_answer(&w, first, &a, 0, 0);
}

static enum window_verdict failed(uint64_t first, enum err_code code, uint64_t now)
{
    struct window_answer a = {.code = code};
    return window_answer(&w, first, &a, now, 0);
}

static void answers_in_any_order(void **state)
{
    (void)state;
    fill(4, 4);
    assert_false(window_has_room(&w));
    for (unsigned k = 0; k < 4; k++) {
        sends(0, k * 10 + 1);
    }
    sends_nothing(0);
    assert_int_equal(ok(31, 0), WINDOW_FINE); /* staged */
    assert_int_equal(ok(11, 0), WINDOW_FINE);
    assert_int_equal(w.count, 4);
    assert_int_equal(ok(1, 20), WINDOW_FINE); /* 1 and, with it, 11 */
    assert_int_equal(w.count, 2);
    assert_int_equal(w.stored, 20);
    assert_true(window_has_room(&w));
    window_add(&w, 41, 50);
    sends(0, 41);
    assert_int_equal(ok(21, 40), WINDOW_FINE);
    assert_int_equal(ok(41, 50), WINDOW_FINE);
    assert_int_equal(w.count, 0);
    assert_true(window_idle(&w));
}

/* An answer that was under way when a later one came says less: it does not count back. */
static void an_old_answer_is_no_step_back(void **state)
{
    (void)state;
    fill(2, 2);
    sends(0, 1);
    sends(0, 11);
    assert_int_equal(ok(11, 20), WINDOW_FINE);
    assert_int_equal(w.count, 0);
    assert_false(window_idle(&w));
    assert_int_equal(ok(1, 10), WINDOW_FINE);
    assert_int_equal(w.stored, 20);
    assert_true(window_idle(&w));
}

static void after_a_failure_the_oldest_alone(void **state)
{
    (void)state;
    fill(4, 3);
    sends(0, 1);
    sends(0, 11);
    sends(0, 21);
    assert_int_equal(failed(11, TIDE_ERR_UNREACHABLE, 1000), WINDOW_RETRY);
    assert_false(window_has_room(&w));
    assert_int_equal(window_wake_us(&w), UINT64_MAX); /* others are under way */
    assert_int_equal(failed(1, TIDE_ERR_UNREACHABLE, 1500), WINDOW_RETRY);
    assert_int_equal(failed(21, TIDE_ERR_BUSY, 2000), WINDOW_RETRY);
    uint64_t due = window_wake_us(&w);
    assert_int_equal(due, 1000 + TIDE_WINDOW_RETRY_MIN_US); /* one failure, not three */
    sends_nothing(due - 1);
    sends(due, 1);
    sends_nothing(due);
    assert_int_equal(failed(1, TIDE_ERR_FULL, due), WINDOW_RETRY);
    assert_int_equal(window_wake_us(&w), due + 2 * TIDE_WINDOW_RETRY_MIN_US);
    uint64_t last = window_wake_us(&w);
    for (unsigned k = 0; k < 12; k++) {
        sends(window_wake_us(&w), 1);
        last = window_wake_us(&w) == UINT64_MAX ? w.retry_us : last;
        failed(1, TIDE_ERR_IO, last);
        assert_true(window_wake_us(&w) - last <= TIDE_WINDOW_RETRY_MAX_US);
        last = window_wake_us(&w);
    }
    sends(last, 1);
    assert_int_equal(ok(1, 10), WINDOW_FINE);
    sends(last, 11); /* and all is as before */
    sends(last, 21);
    assert_true(window_has_room(&w));
}

static void what_no_retry_mends(void **state)
{
    static const enum err_code codes[] = {TIDE_ERR_CONFLICT, TIDE_ERR_NOT_FOUND, TIDE_ERR_CORRUPT,
                                          TIDE_ERR_VERSION};
    (void)state;
    for (unsigned k = 0; k < sizeof codes / sizeof *codes; k++) {
        fill(4, 3);
        sends(0, 1);
        sends(0, 11);
        assert_int_equal(failed(11, codes[k], 0), WINDOW_ASK);
        sends_nothing(UINT64_MAX);
        assert_false(window_has_room(&w));
        assert_false(window_idle(&w));
        assert_int_equal(ok(1, 10), WINDOW_ASK);
        assert_int_equal(w.stored, 10); /* that counts all the same */
        assert_true(window_idle(&w));
    }
    fill(4, 1); /* a fork of a staged one is told with the answer to another */
    sends(0, 1);
    struct window_answer a = {.code = TIDE_ERR_OK, .stored = 10, .forked = true};
    assert_int_equal(window_answer(&w, 1, &a, 0, 0), WINDOW_ASK);
    fill(4, 1); /* stored amid a segment of ours: another one's doing */
    sends(0, 1);
    assert_int_equal(ok(1, 5), WINDOW_ASK);
    fill(4, 1);
    window_close(&w);
    sends_nothing(UINT64_MAX);
    /* A failure of what is stored meanwhile is none. */
    fill(4, 2);
    sends(0, 1);
    sends(0, 11);
    assert_int_equal(ok(11, 20), WINDOW_FINE);
    assert_int_equal(failed(1, TIDE_ERR_CONFLICT, 0), WINDOW_FINE);
}

/* Staged once, due now, and not stored: it is sent once more, then the far side is asked. */
static void a_lost_one_is_sent_again_once(void **state)
{
    (void)state;
    fill(3, 3);
    sends(0, 1);
    sends(0, 11);
    sends(0, 21);
    assert_int_equal(ok(11, 0), WINDOW_FINE);
    assert_int_equal(ok(21, 0), WINDOW_FINE);
    assert_int_equal(ok(1, 10), WINDOW_FINE);
    sends(0, 11);
    sends_nothing(0);
    assert_int_equal(ok(11, 10), WINDOW_ASK);
    sends_nothing(UINT64_MAX);
}

/* ---- against a far side ---- */

#define SEGMENTS 200U

struct far {
    bool staged[SEGMENTS];
    unsigned stored; /* segments */
};

static struct window_answer arrive(struct far *far, struct prng *prng, unsigned k)
{
    struct window_answer a = {.code = TIDE_ERR_OK};
    uint64_t luck = prng_below(prng, 10);
    if (luck == 0) {
        a.code = TIDE_ERR_UNREACHABLE; /* it never came */
        return a;
    }
    if (luck == 1 && far->stored < k) {
        a.code = TIDE_ERR_BUSY; /* no room to stage */
        return a;
    }
    if (k >= far->stored) {
        far->staged[k] = true;
    }
    while (far->stored < SEGMENTS && far->staged[far->stored]) {
        far->stored++;
    }
    if (luck == 2) {
        a.code = TIDE_ERR_UNREACHABLE; /* it came, the answer did not */
    }
    a.stored = far->stored * 10;
    return a;
}

static void any_far_side(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct prng prng;
        struct far far = {.stored = 0};
        struct window_answer mail[TIDE_WINDOW_MAX];
        uint64_t from[TIDE_WINDOW_MAX];
        unsigned mails = 0;
        unsigned added = 0;
        uint64_t now = 0;
        uint64_t first = 0;
        prng_init(&prng, seed);
        unsigned limit = 1 + (unsigned)prng_below(&prng, TIDE_WINDOW_MAX);
        window_init(&w, limit, 0);
        for (unsigned turn = 0; w.stored < SEGMENTS * 10; turn++) {
            assert_true(turn < 20000);
            while (added < SEGMENTS && window_has_room(&w)) {
                window_add(&w, added * 10 + 1, added * 10 + 10);
                added++;
            }
            while (mails < TIDE_WINDOW_MAX && window_next(&w, now, &first)) {
                from[mails] = first;
                mail[mails++] = arrive(&far, &prng, (unsigned)(first / 10));
            }
            assert_true(w.count <= limit);
            if (mails == 0) {
                assert_true(window_wake_us(&w) != UINT64_MAX); /* never stuck */
                now = window_wake_us(&w);
                continue;
            }
            unsigned k = (unsigned)prng_below(&prng, mails);
            struct window_answer a = mail[k];
            first = from[k];
            mails--;
            mail[k] = mail[mails];
            from[k] = from[mails];
            if (window_answer(&w, first, &a, now, (uint8_t)prng_below(&prng, 256)) == WINDOW_ASK) {
                /* Only where the answers came in an order that looks like a loss. */
                while (!window_idle(&w)) {
                    a = mail[--mails];
                    window_answer(&w, from[mails], &a, now, 0);
                }
                added = far.stored;
                window_init(&w, limit, far.stored * 10);
            }
            assert_true(w.stored <= far.stored * 10);
        }
        assert_int_equal(far.stored, SEGMENTS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_any_order),
        cmocka_unit_test(an_old_answer_is_no_step_back),
        cmocka_unit_test(after_a_failure_the_oldest_alone),
        cmocka_unit_test(what_no_retry_mends),
        cmocka_unit_test(a_lost_one_is_sent_again_once),
        cmocka_unit_test(any_far_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
