/* SPDX-License-Identifier: Apache-2.0 */
/* Without memory: the keys of a store, and segments in boxes. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "coordinator/store/segment_file.h"
#include "tests/contract/nth.h"

static struct keyring *keyring;
static uint8_t content[300000];
static char master[PATH_MAX];
static char path[PATH_MAX];
static const struct name shop = {"shop"};

static void begin(void)
{
    struct err err = {0};
    char text[66];
    keyring_close(keyring);
    keyring = NULL;
    nth_empty_folder();
    memset(text, 'a', 64);
    text[64] = '\n';
    snprintf(master, sizeof master, "%s/master.key", nth_folder);
    snprintf(path, sizeof path, "%s/streams/0123/segments", nth_folder);
    assert_int_equal(file_mkdirs(path, 0700, &err), 0);
    snprintf(path, sizeof path, "%s/streams/0123/segments/1-2.hrl", nth_folder);
    assert_int_equal(file_replace(master, text, 65, 0600, &err), 0);
    assert_int_equal(keyring_open(nth_folder, master, &keyring, &err), 0);
}

static void begin_with_segment(void)
{
    struct err err = {0};
    begin();
    struct segment_form form = {.keyring = keyring, .level = 1};
    assert_int_equal(segment_file_write(&form, &shop, path, content, sizeof content, &err), 0);
}

static int opens(struct err *err)
{
    struct keyring *got = NULL;
    if (keyring_open(nth_folder, master, &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    keyring_close(got);
    return 0;
}

/* A key that could not be kept is not in the store either. */
static int makes_key(struct err *err)
{
    struct keyring_key key;
    char object[PATH_MAX];
    snprintf(object, sizeof object, "%s/keys/shop/0000000001.box", nth_folder);
    int rc = keyring_current(keyring, &shop, &key, err);
    assert_int_equal(access(object, F_OK) == 0, rc == 0);
    long kept = nth_pause();
    begin(); /* room for a key is kept, and is no leak */
    nth_resume(kept);
    return rc;
}

static int writes(struct err *err)
{
    struct segment_form form = {.keyring = keyring, .level = 1};
    if (segment_file_write(&form, &shop, path, content, sizeof content, err) != 0) {
        assert_int_not_equal(access(path, F_OK), 0);
        return -1;
    }
    assert_int_equal(unlink(path), 0);
    return 0;
}

static int reads(struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (segment_file_read(keyring, path, &bytes, &size, err) != 0) {
        assert_null(bytes);
        return -1;
    }
    assert_int_equal(size, sizeof content);
    assert_memory_equal(bytes, content, size);
    free(bytes);
    return 0;
}

static void keys(void **state)
{
    (void)state;
    begin_with_segment();
    nth_each("open of keys", opens, NULL, 10);
    nth_each("a key for a group", makes_key, begin, 5);
}

static void segments(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (uint8_t)(i / 1000);
    }
    begin_with_segment();
    assert_int_equal(unlink(path), 0);
    nth_each("write of a segment", writes, NULL, 5);
    begin_with_segment();
    nth_each("read of a segment", reads, NULL, 5);
}

static int teardown(void **state)
{
    keyring_close(keyring);
    return nth_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys),
        cmocka_unit_test(segments),
    };
    return cmocka_run_group_tests(tests, nth_setup, teardown);
}
