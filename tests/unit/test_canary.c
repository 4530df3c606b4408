/* SPDX-License-Identifier: Apache-2.0 */
/* The canary's blocks and its judgement, over files that exist in memory only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/cli/canary.h"

#define WRITERS 3
#define TOKENS  2
#define SLOTS   4
#define MARKS   (WRITERS * TOKENS * SLOTS)

static const struct canary_config config = {
    .run = {{1, 2, 3}}, .writers = WRITERS, .tokens = TOKENS, .slots = SLOTS};

struct run { /* every block of every file */
    uint8_t block[TOKENS][WRITERS][SLOTS][CANARY_BLOCK];
    struct hash cause[TOKENS];
};
static struct run run;
static struct run copy;
static struct canary_mark marks[MARKS];

static uint8_t *block_of(struct run *r, uint32_t token, uint64_t step)
{
    return r->block[token][canary_writer(&config, token, step)][canary_slot(&config, step)];
}

static void run_begin(struct run *r, const struct canary_config *with)
{
    memset(r, 0, sizeof(*r));
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t w = 0; w < WRITERS; w++)
            for (uint32_t s = 0; s < SLOTS; s++)
                canary_step_encode(
                    with, &(struct canary_step){.writer = w, .token = t, .step = CANARY_STEP_NONE},
                    r->block[t][w][s]);
}

static void run_steps(struct run *r, const struct canary_config *with, uint32_t token,
                      uint64_t from, uint64_t to)
{
    for (uint64_t step = from; step <= to; step++)
        r->cause[token] =
            canary_step_encode(with,
                               &(struct canary_step){.writer = canary_writer(with, token, step),
                                                     .token = token,
                                                     .step = step,
                                                     .cause = r->cause[token]},
                               block_of(r, token, step));
}

static int judge(struct run *r, struct canary_verdict *ret, struct err *err)
{
    memset(marks, 0, sizeof(marks));
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t w = 0; w < WRITERS; w++)
            for (uint32_t s = 0; s < SLOTS; s++)
                if (canary_step_decode(&config, w, t, s, r->block[t][w][s],
                                       &marks[canary_mark_index(&config, t, w, s)], err) != 0)
                    return -1;
    return canary_judge(&config, marks, ret, err);
}

static void run_usual(struct run *r)
{
    run_begin(r, &config);
    run_steps(r, &config, 0, 0, 40);
    run_steps(r, &config, 1, 0, 4);
}

static void unwrite(struct run *r, uint32_t token, uint64_t step)
{
    uint8_t *block = block_of(r, token, step);
    struct canary_step was = {.writer = canary_writer(&config, token, step),
                              .token = token,
                              .step = step >= WRITERS * SLOTS ? step - WRITERS * SLOTS
                                                              : CANARY_STEP_NONE};
    canary_step_encode(&config, &was, block);
}

static void test_every_prefix_is_consistent(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    run_begin(&run, &config);
    assert_int_equal(judge(&run, &verdict, &err), 0);
    assert_int_equal(verdict.steps, 0);
    assert_true(verdict.last[0] == CANARY_STEP_NONE);
    for (uint64_t step = 0; step < 60; step++) {
        run_steps(&run, &config, 0, step, step);
        assert_int_equal(judge(&run, &verdict, &err), 0);
        assert_int_equal(verdict.tears, 0);
        assert_int_equal(verdict.steps, step + 1);
        assert_int_equal(verdict.last[0], step);
    }
}

/* Any one step lost below the last is found, with the effect that has no cause. */
static void test_any_lost_step_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    for (uint64_t lost = 40 - WRITERS * SLOTS + 1; lost < 40; lost++) {
        run_usual(&run);
        unwrite(&run, 0, lost);
        assert_int_equal(judge(&run, &verdict, &err), 0);
        assert_int_equal(verdict.tears, 1);
        assert_int_equal(verdict.tear[0].token, 0);
        assert_int_equal(verdict.tear[0].effect, lost + 1);
        assert_int_equal(verdict.tear[0].cause, lost);
        assert_int_equal(verdict.tear[0].cause_writer, canary_writer(&config, 0, lost));
        assert_int_equal(verdict.tear[0].effect_writer, canary_writer(&config, 0, lost + 1));
        assert_int_equal(verdict.steps, 5); /* the other token's */
    }
    run_usual(&run);
    run_begin(&copy, &config);
    run_steps(&copy, &config, 0, 0, 39);
    /* The last one lost is just an earlier state. */
    memcpy(block_of(&run, 0, 40), block_of(&copy, 0, 40), CANARY_BLOCK);
    assert_int_equal(judge(&run, &verdict, &err), 0);
    assert_int_equal(verdict.tears, 0);
    assert_int_equal(verdict.last[0], 39);
}

static void test_a_writer_that_went_back_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    for (uint32_t writer = 0; writer < WRITERS; writer++) {
        run_begin(&run, &config);
        run_steps(&run, &config, 0, 0, 20);
        memcpy(&copy, &run, sizeof(run));
        run_steps(&run, &config, 0, 21, 29);
        memcpy(run.block[0][writer], copy.block[0][writer], sizeof(run.block[0][writer]));
        assert_int_equal(judge(&run, &verdict, &err), 0);
        assert_int_equal(verdict.tears, 1);
        assert_int_equal(verdict.tear[0].cause_writer, writer);
    }
}

static void test_both_tokens_torn_are_both_named(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    run_usual(&run);
    unwrite(&run, 0, 35);
    unwrite(&run, 1, 0);
    assert_int_equal(judge(&run, &verdict, &err), 0);
    assert_int_equal(verdict.tears, 2);
    assert_int_equal(verdict.tear[1].token, 1);
    assert_int_equal(verdict.tear[1].cause, 0);
    assert_int_equal(verdict.steps, 0);
}

static void test_a_flipped_bit_anywhere_is_found(void **state)
{
    (void)state;
    struct canary_verdict verdict;
    for (size_t at = 0; at < CANARY_BLOCK; at += 61) {
        struct err err = {0};
        run_usual(&run);
        block_of(&run, 0, 33)[at] ^= 0x10;
        assert_int_equal(judge(&run, &verdict, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }
}

static void test_half_a_write_is_found(void **state)
{
    (void)state;
    struct canary_verdict verdict;
    for (size_t sectors = 1; sectors < 8; sectors++) {
        struct err err = {0};
        run_usual(&run);
        memcpy(&copy, &run, sizeof(run));
        run_steps(&run, &config, 0, 41, 52);
        memcpy(block_of(&run, 0, 52), block_of(&copy, 0, 52), sectors * 512);
        assert_int_equal(judge(&run, &verdict, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }
}

static void test_swapped_writers_are_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    run_usual(&run);
    memcpy(&copy, &run, sizeof(run));
    memcpy(run.block[0][0], copy.block[0][1], sizeof(run.block[0][0]));
    memcpy(run.block[0][1], copy.block[0][0], sizeof(run.block[0][1]));
    assert_int_equal(judge(&run, &verdict, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "does not belong there"));
}

static void test_a_block_of_another_run_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    struct canary_config other = config;
    other.run.b[0] ^= 1;
    run_usual(&run);
    run_steps(&run, &other, 0, 41, 41);
    assert_int_equal(judge(&run, &verdict, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
}

/* The same run id, but the history between is another: the chain of causes shows it. */
static void test_a_forged_history_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct canary_verdict verdict;
    run_usual(&run);
    run.cause[0].b[5] ^= 1;
    run_steps(&run, &config, 0, 41, 42);
    assert_int_equal(judge(&run, &verdict, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "step 41"));
}

static void test_header(void **state)
{
    (void)state;
    struct err err = {0};
    uint8_t block[CANARY_BLOCK];
    struct canary_config read = {0};
    uint32_t writer = 99;
    canary_header_encode(&config, 2, block);
    assert_int_equal(canary_header_decode(block, &read, &writer, &err), 0);
    assert_int_equal(writer, 2);
    assert_memory_equal(&read.run, &config.run, sizeof(read.run));
    assert_int_equal(read.slots, SLOTS);
    for (size_t at = 0; at < CANARY_BLOCK; at += 61) {
        canary_header_encode(&config, 2, block);
        block[at] ^= 1;
        assert_int_equal(canary_header_decode(block, &read, &writer, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }
    /* A good checksum does not make numbers out of range good. */
    canary_header_encode(&config, 3, block);
    assert_int_equal(canary_header_decode(block, &read, &writer, &err), -1);
    struct canary_config big = config;
    big.slots = CANARY_SLOTS_MAX + 1;
    canary_header_encode(&big, 0, block);
    assert_int_equal(canary_header_decode(block, &read, &writer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    big = (struct canary_config){.writers = 256, .tokens = 64, .slots = 1024};
    assert_int_equal(canary_config_check(&big, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_prefix_is_consistent),
        cmocka_unit_test(test_any_lost_step_is_found),
        cmocka_unit_test(test_a_writer_that_went_back_is_found),
        cmocka_unit_test(test_both_tokens_torn_are_both_named),
        cmocka_unit_test(test_a_flipped_bit_anywhere_is_found),
        cmocka_unit_test(test_half_a_write_is_found),
        cmocka_unit_test(test_swapped_writers_are_found),
        cmocka_unit_test(test_a_block_of_another_run_is_found),
        cmocka_unit_test(test_a_forged_history_is_found),
        cmocka_unit_test(test_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
