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

static void attach_of(uint64_t size, bool base_zero)
{
    incarnation++;
    lsn++;
    struct record r = make_attach(1, lsn, incarnation, base_zero);
    r.attach.size = size;
    whole_feed(&whole, &r);
}

static void attach(bool base_zero)
{
    attach_of(SIZE, base_zero);
}

static void resize(uint64_t before, uint64_t size)
{
    struct record r = make_resize(1, ++lsn, incarnation, before, size);
    whole_feed(&whole, &r);
}

static void gap(enum record_gap_reason reason)
{
    struct record r = make_gap(1, ++lsn, incarnation);
    r.gap.reason = reason;
    whole_feed(&whole, &r);
}

/* Returns its LSN. */
static uint64_t begin_of(enum record_copy_kind kind, uint64_t size)
{
    struct record r = make_record(RECORD_COPY_BEGIN, 1, ++lsn, incarnation);
    r.copy_begin = (struct record_copy_begin){.kind = kind, .size = size};
    whole_feed(&whole, &r);
    return lsn;
}

static uint64_t begin(enum record_copy_kind kind)
{
    return begin_of(kind, SIZE);
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
    static const enum record_copy_kind kinds[] = {RECORD_COPY_INITIAL, RECORD_COPY_FULL,
                                                  RECORD_COPY_CHANGES};
    for (size_t i = 0; i < 3; i++) {
        no_base();
        uint64_t b = begin(kinds[i]);
        expect(ROUND_ANSWER_NO);
        end(b);
        expect(ROUND_ANSWER_YES);
        attach(false); /* stays */
        expect(ROUND_ANSWER_YES);
        gap(RECORD_GAP_MTIME);
        expect(ROUND_ANSWER_NO);
    }
}

/* What an earlier copy has sent the next one leaves out; the end of the earlier never counts. */
static void a_restart_begins_another(void **state)
{
    (void)state;
    no_base();
    uint64_t first = begin(RECORD_COPY_INITIAL);
    attach(false);
    end(first);
    expect(ROUND_ANSWER_NO);
    uint64_t second = begin(RECORD_COPY_CHANGES);
    attach(false);
    uint64_t third = begin(RECORD_COPY_CHANGES);
    end(first);
    end(second);
    expect(ROUND_ANSWER_NO);
    end_with(third, 8192, SIZE - 8192);
    expect(ROUND_ANSWER_YES);
}

/* An incarnation may come again, if only by chance: its copy does not. */
static void an_incarnation_again(void **state)
{
    (void)state;
    no_base();
    uint64_t b = begin(RECORD_COPY_FULL);
    attach(false);
    incarnation -= 2;
    attach(false);
    end(b);
    expect(ROUND_ANSWER_NO);
}

static void resizes(void **state)
{
    (void)state;
    fresh(); /* whole stays whole */
    attach(true);
    resize(SIZE, 2 * SIZE);
    expect(ROUND_ANSWER_YES);
    resize(2 * SIZE, SIZE / 2);
    expect(ROUND_ANSWER_YES);
    attach_of(SIZE / 2, false);
    expect(ROUND_ANSWER_YES);

    no_base(); /* and not whole not whole */
    resize(SIZE, 2 * SIZE);
    expect(ROUND_ANSWER_NO);

    no_base(); /* the copy under way has ended, by whichever size its end goes */
    uint64_t b = begin(RECORD_COPY_FULL);
    resize(SIZE, 2 * SIZE);
    end_with(b, SIZE, 0);
    end_with(b, 2 * SIZE, 0);
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_FULL)); /* one of the old size does not count */
    expect(ROUND_ANSWER_NO);
    end_with(begin_of(RECORD_COPY_CHANGES, 2 * SIZE), SIZE, SIZE);
    expect(ROUND_ANSWER_YES);

    no_base(); /* nor there and back */
    b = begin(RECORD_COPY_FULL);
    resize(SIZE, 2 * SIZE);
    resize(2 * SIZE, SIZE);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* an initial copy may begin behind one */
    resize(SIZE, 2 * SIZE);
    end_with(begin_of(RECORD_COPY_INITIAL, 2 * SIZE), SIZE, SIZE);
    expect(ROUND_ANSWER_YES);
}

/* A size that the stream has not told of is a gap, though none is there yet. */
static void sizes_that_contradict(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        fresh();
        attach(true);
        if (how == 0) {
            attach_of(2 * SIZE, false);
        } else {
            resize(SIZE + 512, 2 * SIZE);
        }
        expect(ROUND_ANSWER_NO);
        gap(RECORD_GAP_SIZE);
        end_with(begin_of(RECORD_COPY_INITIAL, 2 * SIZE), SIZE, SIZE);
        expect(ROUND_ANSWER_NO);
        end_with(begin_of(RECORD_COPY_CHANGES, 2 * SIZE), SIZE, SIZE);
        expect(ROUND_ANSWER_YES);

        no_base(); /* with no gap: an initial copy does not mend it either */
        if (how == 0) {
            attach_of(2 * SIZE, false);
        } else {
            resize(SIZE + 512, 2 * SIZE);
        }
        end_with(begin_of(RECORD_COPY_INITIAL, 2 * SIZE), SIZE, SIZE);
        expect(ROUND_ANSWER_NO);
        end_with(begin_of(RECORD_COPY_FULL, 2 * SIZE), SIZE, SIZE);
        expect(ROUND_ANSWER_YES);
    }
}

/* One end each that must not count. */
static void cheats(void **state)
{
    (void)state;
    no_base(); /* without a begin */
    end(2);
    expect(ROUND_ANSWER_NO);

    no_base(); /* a gap between */
    uint64_t b = begin(RECORD_COPY_FULL);
    gap(RECORD_GAP_IMAGE);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* of an earlier begin */
    b = begin(RECORD_COPY_FULL);
    begin(RECORD_COPY_FULL);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* an attach between, and no begin after it */
    b = begin(RECORD_COPY_FULL);
    attach(false);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* too few bytes, too many, sums that wrap */
    b = begin(RECORD_COPY_FULL);
    end_with(b, SIZE - 1, 0);
    end_with(b, SIZE, 1);
    end_with(b, 0, SIZE - 1);
    end_with(b, SIZE + 1, UINT64_MAX);
    end_with(b, UINT64_MAX, SIZE + 1);
    expect(ROUND_ANSWER_NO);
    end_with(b, 0, SIZE); /* the right one still counts */
    expect(ROUND_ANSWER_YES);

    no_base(); /* twice: the second ends nothing */
    b = begin(RECORD_COPY_FULL);
    end(b);
    gap(RECORD_GAP_LOG);
    end(b);
    expect(ROUND_ANSWER_NO);

    no_base(); /* of another size than the disk */
    b = begin_of(RECORD_COPY_FULL, 4096);
    end_with(b, 4096, 0);
    expect(ROUND_ANSWER_NO);
}

/* An initial copy leaves zeroes out, so it mends nothing but what was there at first. */
static void initial_copies(void **state)
{
    (void)state;
    no_base();
    gap(RECORD_GAP_OVERFLOW);
    end(begin(RECORD_COPY_INITIAL));
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_CHANGES));
    expect(ROUND_ANSWER_YES);

    fresh(); /* a disk that was whole has no gap `base` that an initial copy could mend */
    attach(true);
    gap(RECORD_GAP_BASE);
    end(begin(RECORD_COPY_INITIAL));
    expect(ROUND_ANSWER_NO);

    no_base(); /* said again at each start */
    attach(false);
    gap(RECORD_GAP_BASE);
    end(begin(RECORD_COPY_INITIAL));
    expect(ROUND_ANSWER_YES);
}

/* A copy says that what went before does not matter, even where nobody said that it had to. */
static void a_begin_is_not_whole(void **state)
{
    (void)state;
    fresh();
    attach(true);
    uint64_t b = begin(RECORD_COPY_FULL);
    expect(ROUND_ANSWER_NO);
    end(b);
    expect(ROUND_ANSWER_YES);
}

/* Where the beginning was not seen, no answer contradicts what it may hold. */
static void without_the_beginning(void **state)
{
    (void)state;
    static const enum record_copy_kind kinds[] = {RECORD_COPY_INITIAL, RECORD_COPY_CHANGES};
    fresh();
    lsn = 100;
    end(begin(RECORD_COPY_FULL));
    expect(ROUND_ANSWER_YES);

    for (size_t i = 0; i < 2; i++) {
        fresh();
        lsn = 100;
        uint64_t b = begin(kinds[i]);
        expect(ROUND_ANSWER_NO);
        end(b);
        expect(ROUND_ANSWER_UNKNOWN);
        end(begin(RECORD_COPY_FULL));
        expect(ROUND_ANSWER_YES);
        end(begin(RECORD_COPY_CHANGES));
        expect(ROUND_ANSWER_UNKNOWN);
    }

    fresh(); /* the end of a copy whose begin was not seen */
    lsn = 100;
    end(50);
    expect(ROUND_ANSWER_UNKNOWN);
    gap(RECORD_GAP_LOG);
    end(50);
    expect(ROUND_ANSWER_NO);

    fresh(); /* the first size contradicts nothing, the second may */
    lsn = 100;
    resize(SIZE, 2 * SIZE);
    expect(ROUND_ANSWER_UNKNOWN);
    end(begin(RECORD_COPY_FULL));
    expect(ROUND_ANSWER_NO);
    attach(false);
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_FULL));
    expect(ROUND_ANSWER_YES);
}

/* All before the point is known, though not from here: changes may rest on it. */
static void from_a_point(void **state)
{
    (void)state;
    fresh();
    lsn = 100;
    whole_init_at_point(&whole);
    expect(ROUND_ANSWER_YES);
    gap(RECORD_GAP_LOG);
    end(begin(RECORD_COPY_INITIAL));
    expect(ROUND_ANSWER_NO);
    end(begin(RECORD_COPY_CHANGES));
    expect(ROUND_ANSWER_YES);

    whole_init_at_point(&whole); /* no gap that it has seen, yet it began whole */
    end(begin(RECORD_COPY_INITIAL));
    expect(ROUND_ANSWER_NO);

    whole_init_at_point(&whole);
    whole.size = SIZE;
    attach_of(2 * SIZE, false);
    expect(ROUND_ANSWER_NO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins),
        cmocka_unit_test(a_copy_makes_whole),
        cmocka_unit_test(a_restart_begins_another),
        cmocka_unit_test(an_incarnation_again),
        cmocka_unit_test(resizes),
        cmocka_unit_test(sizes_that_contradict),
        cmocka_unit_test(cheats),
        cmocka_unit_test(initial_copies),
        cmocka_unit_test(a_begin_is_not_whole),
        cmocka_unit_test(without_the_beginning),
        cmocka_unit_test(from_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
