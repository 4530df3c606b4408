/* SPDX-License-Identifier: Apache-2.0 */
/* When a stream is whole: each way to become it, each way to look like it. */
#include "tests/unit/hrl_make.h"

#include "common/hrl/whole.h"

#define SIZE (1U << 20) /* as make_attach() has it */

static struct whole whole;
static uint64_t lsn;
static uint64_t incarnation;

static void fresh(void)
{
    whole_init(&whole);
    lsn = 0;
    incarnation = 7;
}

static void attach(bool base_zero)
{
    incarnation++;
    lsn++;
    struct record r = make_attach(1, lsn, incarnation, base_zero);
    whole_feed(&whole, &r);
}

static void gap(enum record_gap_reason reason)
{
    struct record r = make_gap(1, ++lsn, incarnation);
    r.gap.reason = reason;
    whole_feed(&whole, &r);
}

/* Returns its LSN. */
static uint64_t begin(enum record_copy_kind kind, uint64_t offset, uint64_t continues)
{
    struct record r = make_record(RECORD_COPY_BEGIN, 1, ++lsn, incarnation);
    r.copy_begin = (struct record_copy_begin){
        .kind = kind, .size = SIZE, .offset = offset, .continues = continues};
    whole_feed(&whole, &r);
    return lsn;
}

static void end_with(uint64_t begin_lsn, uint64_t copied, uint64_t zeroes)
{
    struct record r = make_record(RECORD_COPY_END, 1, ++lsn, incarnation);
    r.copy_end =
        (struct record_copy_end){.begin_lsn = begin_lsn, .copied = copied, .zeroes = zeroes};
    whole_feed(&whole, &r);
}

static void end(uint64_t begin_lsn)
{
    end_with(begin_lsn, SIZE - 4096, 4096);
}

static void expect(enum round_answer answer)
{
    assert_int_equal(whole.answer, answer);
}

static void no_base(void)
{
    fresh();
    attach(false);
    gap(RECORD_GAP_BASE);
}

static void begins(void **state)
{
    (void)state;
    fresh();
    expect(ROUND_ANSWER_UNKNOWN);
    attach(true);
    expect(ROUND_ANSWER_YES);
    gap(RECORD_GAP_OVERFLOW);
    expect(ROUND_ANSWER_NO);
    fresh();
    attach(false);
    expect(ROUND_ANSWER_NO);
}

static void a_copy_makes_whole(void **state)
{
    (void)state;
    static const enum record_copy_kind kinds[] = {RECORD_COPY_INITIAL, RECORD_COPY_FULL};
    for (size_t i = 0; i < 2; i++) {
        no_base();
        uint64_t b = begin(kinds[i], 0, 0);
        expect(ROUND_ANSWER_NO);
        end(b);
        expect(ROUND_ANSWER_YES);
        attach(false); /* stays */
        expect(ROUND_ANSWER_YES);
        gap(RECORD_GAP_MTIME);
        expect(ROUND_ANSWER_NO);
    }
}

static void a_restart_goes_on(void **state)
{
    (void)state;
    no_base();
    uint64_t first = begin(RECORD_COPY_INITIAL, 0, 0);
    attach(false);
    uint64_t second = begin(RECORD_COPY_INITIAL, 8192, first);
    attach(false);
    uint64_t third = begin(RECORD_COPY_INITIAL, 16384, second);
    expect(ROUND_ANSWER_NO);
    end_with(third, SIZE - 16384, 0);
    expect(ROUND_ANSWER_YES);
}

/* One end each that must not count. */
static void cheats(void **state)
{
    (void)state;
    no_base(); /* without a begin */
    end(2);
    expect(ROUND_ANSWER_NO);

    no_base(); /* a gap between */
    uint64_t b = begin(RECORD_COPY_FULL, 0, 0);
    gap(RECORD_GAP_IMAGE);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* of an earlier begin */
    b = begin(RECORD_COPY_FULL, 0, 0);
    begin(RECORD_COPY_FULL, 0, 0);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* an attach between, and no begin after it */
    b = begin(RECORD_COPY_FULL, 0, 0);
    attach(false);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* too few bytes, too many, sums that wrap */
    b = begin(RECORD_COPY_FULL, 0, 0);
    end_with(b, SIZE - 1, 0);
    end_with(b, SIZE, 1);
    end_with(b, 0, SIZE - 1);
    end_with(b, SIZE + 1, UINT64_MAX);
    end_with(b, UINT64_MAX, SIZE + 1);
    expect(ROUND_ANSWER_NO);
    end_with(b, 0, SIZE); /* the right one still counts */
    expect(ROUND_ANSWER_YES);

    no_base(); /* twice: the second ends nothing */
    b = begin(RECORD_COPY_FULL, 0, 0);
    end(b);
    gap(RECORD_GAP_LOG);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* goes on with one that a gap has ended */
    b = begin(RECORD_COPY_FULL, 0, 0);
    gap(RECORD_GAP_LOG);
    attach(false);
    b = begin(RECORD_COPY_FULL, 8192, b);
    end_with(b, SIZE - 8192, 0);
    expect(ROUND_ANSWER_NO);

    no_base(); /* goes on with one that is not the last */
    uint64_t old = begin(RECORD_COPY_FULL, 0, 0);
    begin(RECORD_COPY_FULL, 0, 0);
    attach(false);
    b = begin(RECORD_COPY_FULL, 8192, old);
    end_with(b, SIZE - 8192, 0);
    expect(ROUND_ANSWER_NO);

    no_base(); /* goes on as another kind: what the first left out was never sent */
    old = begin(RECORD_COPY_INITIAL, 0, 0);
    attach(false);
    b = begin(RECORD_COPY_FULL, 8192, old);
    end_with(b, SIZE - 8192, 0);
    expect(ROUND_ANSWER_NO);

    no_base(); /* of another size than the disk */
    struct record r = make_record(RECORD_COPY_BEGIN, 1, ++lsn, incarnation);
    r.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_FULL, .size = 4096};
    whole_feed(&whole, &r);
    end_with(lsn, 4096, 0);
    expect(ROUND_ANSWER_NO);
}

/* An initial copy leaves zeroes out, so it mends nothing but what was there at first. */
static void initial_copies(void **state)
{
    (void)state;
    no_base();
    gap(RECORD_GAP_OVERFLOW);
    end(begin(RECORD_COPY_INITIAL, 0, 0));
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_FULL, 0, 0));
    expect(ROUND_ANSWER_YES);

    fresh(); /* a disk that was whole has no gap `base` that an initial copy could mend */
    attach(true);
    gap(RECORD_GAP_BASE);
    end(begin(RECORD_COPY_INITIAL, 0, 0));
    expect(ROUND_ANSWER_NO);

    no_base(); /* said again at each start */
    attach(false);
    gap(RECORD_GAP_BASE);
    end(begin(RECORD_COPY_INITIAL, 0, 0));
    expect(ROUND_ANSWER_YES);
}

/* A copy says that what went before does not matter, even where nobody said that it had to. */
static void a_begin_is_not_whole(void **state)
{
    (void)state;
    fresh();
    attach(true);
    uint64_t b = begin(RECORD_COPY_FULL, 0, 0);
    expect(ROUND_ANSWER_NO);
    end(b);
    expect(ROUND_ANSWER_YES);
}

/* Where the beginning was not seen, no answer contradicts what it may hold. */
static void without_the_beginning(void **state)
{
    (void)state;
    fresh();
    lsn = 100;
    end(begin(RECORD_COPY_FULL, 0, 0));
    expect(ROUND_ANSWER_YES);

    fresh();
    lsn = 100;
    end(begin(RECORD_COPY_INITIAL, 0, 0));
    expect(ROUND_ANSWER_UNKNOWN);

    fresh();
    lsn = 100;
    uint64_t b = begin(RECORD_COPY_FULL, 8192, 50);
    expect(ROUND_ANSWER_NO);
    end_with(b, SIZE - 8192, 0);
    expect(ROUND_ANSWER_UNKNOWN);

    fresh();
    lsn = 100;
    gap(RECORD_GAP_LOG); /* so the copy of LSN 50 has ended */
    b = begin(RECORD_COPY_FULL, 8192, 50);
    end_with(b, SIZE - 8192, 0);
    expect(ROUND_ANSWER_NO);

    whole_init_at_point(&whole);
    expect(ROUND_ANSWER_YES);
    gap(RECORD_GAP_LOG);
    end(begin(RECORD_COPY_INITIAL, 0, 0));
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_FULL, 0, 0));
    expect(ROUND_ANSWER_YES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins),
        cmocka_unit_test(a_copy_makes_whole),
        cmocka_unit_test(a_restart_goes_on),
        cmocka_unit_test(cheats),
        cmocka_unit_test(initial_copies),
        cmocka_unit_test(a_begin_is_not_whole),
        cmocka_unit_test(without_the_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
