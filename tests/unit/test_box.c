/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/core/prng.h"
#include "common/core/sha.h"
#include "common/hrl/crc.h"
#include "coordinator/core/box.h"

#define NAME "streams/a/1.box"
#define ROOM (4U << 20)

static uint8_t stored[ROOM];
static uint8_t content[1U << 20];
static uint8_t got[1U << 20];

static struct box_options options_of(uint32_t block_size, int level)
{
    struct box_options o = {
        .head = {.block_size = block_size, .generation = 1}, .name = NAME, .level = level};
    for (size_t i = 0; i < sizeof(o.head.key_id.b); i++)
        o.head.key_id.b[i] = (uint8_t)i;
    for (size_t i = 0; i < BOX_KEY; i++) {
        o.key[i] = (uint8_t)(0x20 + i);
        o.head.salt[i] = (uint8_t)(0x40 + i);
    }
    return o;
}

/* Writes content[0..size) in parts of `step` to stored[]. */
static struct box_info make(const struct box_options *options, size_t size, size_t step)
{
    struct sink_memory memory = {.base = stored, .size = sizeof(stored)};
    struct sink sink = sink_memory(&memory);
    struct box_writer *writer;
    struct box_info info;
    struct err err = {0};
    assert_int_equal(box_writer_new(options, &sink, &writer, &err), 0);
    for (size_t at = 0; at < size; at += step) {
        size_t part = size - at < step ? size - at : step;
        assert_int_equal(box_writer_add(writer, content + at, part, &err), 0);
    }
    assert_int_equal(box_writer_end(writer, &info, &err), 0);
    box_writer_free(writer);
    assert_int_equal(memory.used, info.stored_size);
    struct hash outer = sha_of(stored, memory.used);
    assert_true(hash_equal(&outer, &info.outer));
    struct hash inner = sha_of(content, size);
    assert_true(hash_equal(&inner, &info.inner));
    return info;
}

static int open_box(const uint8_t *bytes, size_t size, const uint8_t *key, const char *name,
                    struct box_reader **ret, struct err *err)
{
    static struct source_part part;
    static struct source_memory memory;
    part = (struct source_part){bytes, size};
    memory = (struct source_memory){&part, 1};
    struct source source = source_memory(&memory);
    return box_reader_open(&source, 0, key, name, ret, err);
}

/* Opens and reads all; the first error's code, or OK. */
static enum err_code read_all(const uint8_t *bytes, size_t size, const uint8_t *key,
                              const char *name, size_t *ret_size)
{
    struct box_reader *reader;
    struct err err = {0};
    if (open_box(bytes, size, key, name, &reader, &err) != 0)
        return err.code;
    if (box_reader_verify(reader, &err) == 0 &&
        box_reader_read(reader, 0, got, sizeof(got), ret_size, &err) == 0)
        err.code = TIDE_ERR_OK;
    box_reader_free(reader);
    return err.code;
}

static void fill(size_t size, bool random)
{
    struct prng prng;
    prng_init(&prng, size);
    for (size_t i = 0; i < size; i++)
        content[i] = random ? (uint8_t)prng_next(&prng) : (uint8_t)(i / 97);
}

static void vector(void **state)
{
    (void)state;
    struct box_options o = options_of(4096, 0);
    char hex[TIDE_HASH_HEX];
    for (size_t i = 0; i < 5000; i++)
        content[i] = (uint8_t)(7 * i + i / 256);
    struct box_info info = make(&o, 5000, 5000);
    assert_int_equal(info.stored_size, 96 + 5000 + 2 * 16 + 40 + 8 + 16 + 8);
    assert_string_equal(hash_hex(&info.outer, hex),
                        "0727379af1d9cb82cc804e606d02bc5b2dc85f5edf358ce5c7365d95dae6928d");
}

/* What was written comes back, whole and in parts, for sizes about block ends, compressed or not.
 */
static void there_and_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 70000, 600000};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        for (int level = 0; level <= 3; level += 3) {
            for (int random = 0; random <= 1; random++) {
                struct box_options o = options_of(4096, level);
                fill(sizes[k], random);
                struct box_info info = make(&o, sizes[k], 1000);
                size_t size = 0;
                assert_int_equal(read_all(stored, info.stored_size, o.key, NAME, &size),
                                 TIDE_ERR_OK);
                assert_int_equal(size, sizes[k]);
                assert_memory_equal(got, content, size);
                size_t blocks = (sizes[k] + 4095) / 4096;
                size_t most = 96 + sizes[k] + blocks * 20 + 40 + 16 + 8;
                if (level > 0 && random == 0 && sizes[k] > 4096)
                    assert_true(info.stored_size < most / 4);
                else
                    assert_true(info.stored_size <= most);
            }
        }
    }
}

static void parts(void **state)
{
    (void)state;
    struct box_options o = options_of(4096, 3);
    struct box_reader *reader;
    struct err err = {0};
    struct prng prng;
    prng_init(&prng, 7);
    fill(300000, false);
    struct box_info info = make(&o, 300000, 300000);
    assert_int_equal(open_box(stored, info.stored_size, o.key, NAME, &reader, &err), 0);
    struct source source = box_reader_source(reader);
    uint64_t size = 0;
    assert_int_equal(source.size(source.context, 0, &size, &err), 0);
    assert_int_equal(size, 300000);
    for (unsigned i = 0; i < 500; i++) {
        uint64_t at = prng_below(&prng, 300100);
        size_t want = prng_below(&prng, 20000);
        size_t have = 1;
        assert_int_equal(source.read(source.context, 0, at, got, want, &have, &err), 0);
        size_t due = at >= 300000 ? 0 : 300000 - at < want ? 300000 - at : want;
        assert_int_equal(have, due);
        assert_memory_equal(got, content + at, have);
    }
    size_t none;
    assert_int_equal(source.read(source.context, 1, 0, got, 1, &none, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    box_reader_free(reader);
}

/* The same content twice has nothing in common but the header's fixed part. */
static void salt_is_all(void **state)
{
    (void)state;
    static uint8_t first[ROOM];
    struct box_options o = options_of(4096, 0);
    fill(40000, false);
    struct box_info a = make(&o, 40000, 40000);
    memcpy(first, stored, a.stored_size);
    o.head.salt[0] ^= 1;
    struct box_info b = make(&o, 40000, 40000);
    assert_int_equal(a.stored_size, b.stored_size);
    for (size_t at = 96; at + 16 <= a.stored_size - 8; at += 16)
        assert_memory_not_equal(first + at, stored + at, 16);
}

/* Every bit of a box matters. */
static void any_change_is_refused(void **state)
{
    (void)state;
    struct box_options o = options_of(4096, 3);
    size_t size = 0;
    fill(9000, true);
    memset(content, 5, 4096);
    struct box_info info = make(&o, 9000, 9000);
    size_t all = info.stored_size;
    for (size_t at = 0; at < all; at++) {
        stored[at] ^= (uint8_t)(1U << (at % 8));
        assert_int_not_equal(read_all(stored, all, o.key, NAME, &size), TIDE_ERR_OK);
        stored[at] ^= (uint8_t)(1U << (at % 8));
    }
    for (size_t cut = 0; cut < all; cut += cut < all - 200 ? 61 : 1)
        assert_int_equal(read_all(stored, cut, o.key, NAME, &size), TIDE_ERR_CORRUPT);
    stored[all] = 0;
    assert_int_equal(read_all(stored, all + 1, o.key, NAME, &size), TIDE_ERR_CORRUPT);
    assert_int_equal(read_all(stored, all, o.key, "streams/a/2.box", &size), TIDE_ERR_CORRUPT);
    o.key[31] ^= 1;
    assert_int_equal(read_all(stored, all, o.key, NAME, &size), TIDE_ERR_CORRUPT);
    o.key[31] ^= 1;
    assert_int_equal(read_all(stored, all, o.key, NAME, &size), TIDE_ERR_OK);
}

static void mend_crc(void)
{
    uint32_t crc = crc32c(stored, 92);
    for (unsigned i = 0; i < 4; i++)
        stored[92 + i] = (uint8_t)(crc >> (8 * i));
}

static void headers(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        enum err_code code;
    } cases[] = {
        {0, 'X', TIDE_ERR_CORRUPT}, {8, 2, TIDE_ERR_VERSION},  {10, 1, TIDE_ERR_CORRUPT},
        {12, 1, TIDE_ERR_CORRUPT},  {32, 0, TIDE_ERR_CORRUPT}, {70, 1, TIDE_ERR_CORRUPT},
        {16, 9, TIDE_ERR_CORRUPT},  {40, 9, TIDE_ERR_CORRUPT},
    };
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        struct box_options o = options_of(4096, 0);
        size_t size = 0;
        fill(5000, false);
        struct box_info info = make(&o, 5000, 5000);
        stored[cases[k].at] = cases[k].value;
        mend_crc();
        assert_int_equal(read_all(stored, info.stored_size, o.key, NAME, &size), cases[k].code);
    }
}

static int full(void *context, const void *from, size_t size, struct err *err)
{
    size_t *left = context;
    (void)from;
    if (size > *left)
        return err_set(err, TIDE_ERR_FULL, "no space");
    *left -= size;
    return 0;
}

/* A sink that fails, wherever, is what the writer says. */
static void sink_fails(void **state)
{
    (void)state;
    struct box_options o = options_of(4096, 0);
    fill(9000, false);
    size_t all = make(&o, 9000, 9000).stored_size;
    for (size_t room = 0; room < all; room += 1000) {
        size_t left = room;
        struct sink sink = {.write = full, .context = &left};
        struct box_writer *writer = NULL;
        struct box_info info;
        struct err err = {0};
        bool good = box_writer_new(&o, &sink, &writer, &err) == 0 &&
                    box_writer_add(writer, content, 9000, &err) == 0 &&
                    box_writer_end(writer, &info, &err) == 0;
        assert_false(good);
        assert_int_equal(err.code, TIDE_ERR_FULL);
        box_writer_free(writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(parts),
        cmocka_unit_test(salt_is_all),
        cmocka_unit_test(any_change_is_refused),
        cmocka_unit_test(headers),
        cmocka_unit_test(sink_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
