/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/cli/cli.h"

static int seen_argc;
static char seen_program[64];

static int verb_take(int argc, char **argv)
{
    seen_argc = argc;
    strncpy(seen_program, argv[0], sizeof(seen_program) - 1);
    return argc == 3 && strcmp(argv[2], "b") == 0 ? 0 : 7;
}

static const struct cli_verb verbs[] = {{"take", verb_take, "takes"}, {0}};

static void test_dispatch_gives_the_verb_its_arguments(void **state)
{
    (void)state;
    char noun[] = "point", verb[] = "take", a[] = "a", b[] = "b";
    char *argv[] = {noun, verb, a, b, NULL};
    assert_int_equal(cli_dispatch("point", verbs, 4, argv), 0);
    assert_int_equal(seen_argc, 3);
    assert_string_equal(seen_program, "tidemark point take");
    assert_ptr_equal(argv[1], verb); /* the caller's argv is as before */
    assert_int_equal(cli_dispatch("point", verbs, 3, argv), 7);
}

static void test_dispatch_refuses_what_is_no_verb(void **state)
{
    (void)state;
    char noun[] = "point", verb[] = "tak", help[] = "--help";
    char *wrong[] = {noun, verb, NULL};
    char *none[] = {noun, NULL};
    char *asked[] = {noun, help, NULL};
    seen_argc = 0;
    assert_int_equal(cli_dispatch("point", verbs, 2, wrong), 2);
    assert_int_equal(cli_dispatch("point", verbs, 1, none), 2);
    assert_int_equal(cli_dispatch("point", verbs, 2, asked), 0);
    assert_int_equal(seen_argc, 0);
}

static void test_an_error_is_never_status_zero(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(cli_fail(&err, NULL), 1);
    err_set(&err, TIDE_ERR_BUSY, "busy");
    assert_int_equal(cli_fail(&err, "wait"), 13);
}

static void test_bytes_are_never_rounded_up(void **state)
{
    (void)state;
    char text[CLI_BYTES_TEXT];
    assert_string_equal(cli_bytes(0, text), "0 B");
    assert_string_equal(cli_bytes(1023, text), "1023 B");
    assert_string_equal(cli_bytes(1024, text), "1.0 KiB");
    assert_string_equal(cli_bytes((2 << 20) - 1, text), "1.9 MiB");
    assert_string_equal(cli_bytes(UINT64_C(3) << 40, text), "3.0 TiB");
    assert_string_equal(cli_bytes(UINT64_MAX, text), "15.9 EiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatch_gives_the_verb_its_arguments),
        cmocka_unit_test(test_dispatch_refuses_what_is_no_verb),
        cmocka_unit_test(test_an_error_is_never_status_zero),
        cmocka_unit_test(test_bytes_are_never_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
