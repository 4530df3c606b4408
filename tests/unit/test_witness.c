/* SPDX-License-Identifier: Apache-2.0 */
/* common/core/witness: what is written reads back; anything else is refused with its reason. */
#include "common/core/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define STREAM "000102030405060708090a0b0c0d0e0f"

static struct witness sample(void)
{
    struct witness w = {.state = WITNESS_OPEN, .log = "/var/lib/tidemark/db"};
    for (unsigned i = 0; i < TIDE_ID_SIZE; i++) {
        w.stream.b[i] = (uint8_t)i;
    }
    return w;
}

static void the_text_is_as_documented(void **state)
{
    (void)state;
    struct witness w = sample();
    struct err err = {0};
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    int size = witness_format(&w, text, &err);
    assert_string_equal(text,
                        "v1 state=open stream=" STREAM " log=/var/lib/tidemark/db flush=both");
    assert_int_equal(size, strlen(text));
}

static void every_state_reads_back(void **state)
{
    (void)state;
    const enum witness_state all[] = {WITNESS_OPEN, WITNESS_CLEAN, WITNESS_GAP};
    for (unsigned i = 0; i < 6; i++) {
        struct witness w = sample();
        struct witness back;
        struct err err = {0};
        char text[TIDE_WITNESS_TEXT_MAX + 1];
        w.state = all[i / 2];
        w.flush_log = i % 2 == 1;
        int size = witness_format(&w, text, &err);
        assert_true(size > 0);
        assert_int_equal(witness_parse(text, (size_t)size, &back, &err), 0);
        assert_int_equal(back.state, w.state);
        assert_int_equal(back.flush_log, w.flush_log);
        assert_true(id_equal(&back.stream, &w.stream));
        assert_string_equal(back.log, w.log);
    }
    assert_null(witness_state_name((enum witness_state)0));
}

static void any_path_reads_back(void **state)
{
    (void)state;
    struct witness w = sample();
    struct witness back;
    struct err err = {0};
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    w.log[0] = '/';
    for (unsigned i = 1; i < TIDE_WITNESS_LOG_MAX; i++) {
        w.log[i] = (char)(unsigned char)(i % 255 + 1);
    }
    w.log[TIDE_WITNESS_LOG_MAX] = '\0';
    int size = witness_format(&w, text, &err);
    assert_true(size > 0 && size <= (int)TIDE_WITNESS_TEXT_MAX);
    assert_int_equal(witness_parse(text, (size_t)size, &back, &err), 0);
    assert_string_equal(back.log, w.log);
    memset(w.log + 1, '\n', TIDE_WITNESS_LOG_MAX - 1); /* the longest text there is */
    size = witness_format(&w, text, &err);
    assert_true(size > 0 && size <= (int)TIDE_WITNESS_TEXT_MAX);
    assert_int_equal(witness_parse(text, (size_t)size, &back, &err), 0);
    assert_string_equal(back.log, w.log);
}

static void a_relative_path_is_not_written(void **state)
{
    (void)state;
    struct witness w = sample();
    struct err err = {0};
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    snprintf(w.log, sizeof w.log, "log/db");
    assert_int_equal(witness_format(&w, text, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_non_null(strstr(err.text, "log/db"));
    memset(w.log, '/', sizeof w.log);
    assert_int_equal(witness_format(&w, text, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
}

static void refused(const char *text, size_t size, enum err_code code, const char *names)
{
    struct witness w = {.state = WITNESS_GAP};
    struct err err = {0};
    assert_int_equal(witness_parse(text, size, &w, &err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.text, names) == NULL) {
        fail_msg("\"%s\" does not name \"%s\"", err.text, names);
    }
    assert_int_equal(w.state, WITNESS_GAP); /* untouched */
}

#define REFUSED(text, code, names) refused(text, sizeof(text) - 1, TIDE_ERR_##code, names)

static void other_texts_are_refused(void **state)
{
    (void)state;
    REFUSED("", CORRUPT, "\"\" where \"v1\"");
    REFUSED("v2 anything", VERSION, "v2");
    REFUSED("v", CORRUPT, "v1");
    REFUSED("v1", CORRUPT, "state=");
    REFUSED("v1  state=open", CORRUPT, "state=");
    REFUSED("v1 state=opened stream=" STREAM " log=/a flush=both", CORRUPT, "state=opened");
    REFUSED("v1 state=open stream=00 log=/a flush=both", CORRUPT, "stream=00");
    REFUSED("v1 state=open stream=00000000000000000000000000000000 log=/a flush=both", CORRUPT,
            "hex digits");
    REFUSED("v1 state=open stream=" STREAM " log= flush=both", CORRUPT, "absolute");
    REFUSED("v1 state=open stream=" STREAM " log=a flush=both", CORRUPT, "log=a");
    REFUSED("v1 state=open stream=" STREAM " log=/%2 flush=both", CORRUPT, "log=/%2");
    REFUSED("v1 state=open stream=" STREAM " log=/%0G flush=both", CORRUPT, "log=/%0G");
    REFUSED("v1 state=open stream=" STREAM " log=/%00 flush=both", CORRUPT, "log=/%00");
    REFUSED("v1 state=open stream=" STREAM " log=/a\001 flush=both", CORRUPT, "log=/a?");
    REFUSED("v1 state=open stream=" STREAM " log=/a flush=all", CORRUPT, "flush=all");
    REFUSED("v1 state=open stream=" STREAM " log=/a", CORRUPT, "flush=");
    REFUSED("v1 state=open stream=" STREAM " log=/a flush=both ", CORRUPT, "the end");
    REFUSED("v1 state=open stream=" STREAM " log=/a flush=both x", CORRUPT, "\"x\" where the end");
    REFUSED("v1 state=open stream=" STREAM " log=/a flush=both\0", CORRUPT, "flush=both?");
}

static void long_texts_are_refused(void **state)
{
    (void)state;
    static char text[TIDE_WITNESS_TEXT_MAX + 1];
    memset(text, 'v', sizeof text);
    refused(text, sizeof text, TIDE_ERR_CORRUPT, "3501 bytes");
    int used = snprintf(text, sizeof text, "v1 state=open stream=" STREAM " log=/");
    memset(text + used, 'a', TIDE_WITNESS_LOG_MAX);
    snprintf(text + used + TIDE_WITNESS_LOG_MAX, 12, " flush=both");
    refused(text, strlen(text), TIDE_ERR_CORRUPT, "log=/aaa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_as_documented),
        cmocka_unit_test(every_state_reads_back),
        cmocka_unit_test(any_path_reads_back),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(a_relative_path_is_not_written),
        cmocka_unit_test(long_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
