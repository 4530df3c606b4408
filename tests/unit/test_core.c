/* SPDX-License-Identifier: Apache-2.0 */
/* common/core: cursors, ids, sets, errors, and the cut hash against a vector made by hand. */
#include "common/core/bytes.h"
#include "common/core/err.h"
#include "common/core/id.h"
#include "common/core/prng.h"
#include "common/core/round.h"
#include "common/core/sha.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void cursor_stays_failed(void **state)
{
    (void)state;
    const uint8_t from[] = {1, 2, 3, 4, 5};
    struct bytes_reader r = bytes_reader(from, sizeof from);
    assert_int_equal(bytes_get_u32(&r), 0x04030201);
    assert_int_equal(bytes_get_u32(&r), 0);
    assert_true(r.failed);
    assert_int_equal(bytes_get_u8(&r), 0); /* one byte is left, and stays so */
    assert_int_equal(r.left, 1);
}

static void cursor_refuses_huge_lengths(void **state)
{
    (void)state;
    const uint8_t from[4] = {0};
    struct bytes_reader r = bytes_reader(from, sizeof from);
    assert_null(bytes_skip(&r, SIZE_MAX));
    assert_true(r.failed);
    uint8_t to[4];
    struct bytes_writer w = bytes_writer(to, sizeof to);
    bytes_put_u16(&w, 0xbeef);
    bytes_put(&w, from, SIZE_MAX - 1);
    assert_true(w.failed);
    assert_int_equal(w.used, 2);
    assert_int_equal(to[0], 0xef);
}

static void reserved_bytes_must_be_zero(void **state)
{
    (void)state;
    const uint8_t from[4] = {0, 0, 1, 0};
    struct bytes_reader r = bytes_reader(from, sizeof from);
    assert_true(bytes_get_zero(&r, 2));
    assert_false(bytes_get_zero(&r, 2));
}

static void ids_parse_and_print(void **state)
{
    (void)state;
    struct id id;
    char text[TIDE_ID_HEX];
    assert_true(id_parse("00112233445566778899AABBCCDDEEFF", &id));
    assert_string_equal(id_hex(&id, text), "00112233445566778899aabbccddeeff");
    assert_false(id_parse("00112233445566778899aabbccddeef", &id));
    assert_false(id_parse("00112233445566778899aabbccddeefff", &id));
    assert_false(id_parse("0011223344556677889-aabbccddeeff", &id));
}

static void names_are_labels(void **state)
{
    (void)state;
    struct name name;
    assert_true(name_parse("web-1.a_b", &name));
    assert_false(name_parse("", &name));
    assert_false(name_parse("../x", &name));
    assert_false(name_parse("-x", &name));
    assert_false(name_parse("Web", &name));
    char longest[TIDE_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[TIDE_NAME_MAX + 1] = '\0';
    assert_false(name_parse(longest, &name));
    longest[TIDE_NAME_MAX] = '\0';
    assert_true(name_parse(longest, &name));
}

static void sets_refuse_what_is_outside(void **state)
{
    (void)state;
    struct set s;
    const uint8_t stray[] = {0xff, 0x04};
    assert_false(set_parse(10, stray, 2, &s)); /* bit 10 is past count */
    const uint8_t good[] = {0xff, 0x03};
    assert_true(set_parse(10, good, 2, &s));
    assert_true(set_is_full(&s));
    const uint8_t none[] = {0, 0};
    assert_false(set_parse(10, none, 2, &s));
    assert_false(set_parse(10, good, 1, &s));
    assert_false(set_parse(0, good, 0, &s));
    assert_false(set_parse(TIDE_DISKS_MAX + 1, good, 2, &s));
}

static void errors_wrap_outward(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set(&err, TIDE_ERR_NOT_FOUND, "no disk \"%s\"", "db"), -1);
    assert_int_equal(err_wrap(&err, "group \"%s\"", "shop"), -1);
    assert_string_equal(err.text, "group \"shop\": no disk \"db\"");
    assert_string_equal(err_name(err.code), "NOT_FOUND");
    assert_int_equal(err_status(err.code), 4);
    assert_int_equal(err_set(NULL, TIDE_ERR_IO, "x"), -1);
}

static struct round_order an_order(void)
{
    struct round_order o = {.scope = ROUND_SCOPE_GROUP, .kind = ROUND_KIND_CRASH};
    memset(o.round.b, 0x11, sizeof o.round.b);
    memset(o.group.b, 0x22, sizeof o.group.b);
    o.epoch.number = 7;
    memset(o.epoch.hash.b, 0x33, sizeof o.epoch.hash.b);
    set_init(&o.set, 2);
    set_add(&o.set, 0);
    set_add(&o.set, 1);
    return o;
}

static struct round_mark a_mark(uint8_t n)
{
    struct round_mark m = {.incarnation = 5U + n, .lsn = 100U + n};
    memset(m.stream.b, n, sizeof m.stream.b);
    memset(m.nonce.b, 0xa0 + n, sizeof m.nonce.b);
    return m;
}

static void cut_hash_is_as_specified(void **state)
{
    (void)state;
    /* The bytes of round.h's definition, written out. */
    uint8_t bytes[14 + 16 + 8 + 32 + 1 + 2 + 1 + 1 + 4 + 2 * 48];
    size_t n = 0;
    memcpy(bytes, "tidemark cut 1", 14);
    n = 14;
    memset(bytes + n, 0x11, 16);
    n += 16;
    memcpy(bytes + n, "\7\0\0\0\0\0\0\0", 8);
    n += 8;
    memset(bytes + n, 0x33, 32);
    n += 32;
    memcpy(bytes + n, "\1\2\0\3\1\2\0\0\0", 9);
    n += 9;
    for (uint8_t k = 1; k <= 2; k++) {
        memset(bytes + n, k, 16);
        memset(bytes + n + 16, 0, 16);
        bytes[n + 16] = (uint8_t)(5 + k);
        bytes[n + 24] = (uint8_t)(100 + k);
        memset(bytes + n + 32, 0xa0 + k, 16);
        n += 48;
    }
    assert_int_equal(n, sizeof bytes);
    struct hash expected = sha_of(bytes, n);

    struct round_order o = an_order();
    const struct round_mark marks[] = {a_mark(2), a_mark(1)};
    struct hash h = round_cut_hash(&o, marks, 2);
    assert_memory_equal(h.b, expected.b, sizeof h.b);
    char text[TIDE_HASH_HEX];
    assert_string_equal(hash_hex(&h, text),
                        "15dfc7aa8ff6d7f4ae1e17916a0fad5dd2c332e8f989e859c39c906dfcce9c58");
}

static void cut_hash_covers_each_part(void **state)
{
    (void)state;
    struct round_mark marks[] = {a_mark(1), a_mark(2)};
    struct round_order base = an_order();
    struct hash h = round_cut_hash(&base, marks, 2);
    struct round_order o = base;
    o.round.b[0] ^= 1;
    struct hash other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    o = base;
    o.epoch.number++;
    other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    o = base;
    o.epoch.hash.b[31] ^= 1;
    other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    o = base;
    o.scope = ROUND_SCOPE_MEMBER;
    other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    o = base;
    o.kind = ROUND_KIND_APPLICATION;
    other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    o = base;
    set_init(&o.set, 2);
    set_add(&o.set, 1);
    other = round_cut_hash(&o, marks, 2);
    assert_false(hash_equal(&h, &other));
    other = round_cut_hash(&base, marks, 1);
    assert_false(hash_equal(&h, &other));
    marks[0].nonce.b[15] ^= 1;
    other = round_cut_hash(&base, marks, 2);
    assert_false(hash_equal(&h, &other));
}

static void numbers_repeat_by_seed(void **state)
{
    (void)state;
    struct prng a;
    struct prng b;
    prng_init(&a, 42);
    prng_init(&b, 42);
    for (int i = 0; i < 1000; i++) {
        uint64_t v = prng_below(&a, 7);
        assert_in_range(v, 0, 6);
        assert_int_equal(v, prng_below(&b, 7));
    }
    prng_init(&a, 0);
    assert_int_equal(prng_next(&a), 0xe220a8397b1dcdafU); /* splitmix64's published first output */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor_stays_failed),
        cmocka_unit_test(cursor_refuses_huge_lengths),
        cmocka_unit_test(reserved_bytes_must_be_zero),
        cmocka_unit_test(ids_parse_and_print),
        cmocka_unit_test(names_are_labels),
        cmocka_unit_test(sets_refuse_what_is_outside),
        cmocka_unit_test(errors_wrap_outward),
        cmocka_unit_test(cut_hash_is_as_specified),
        cmocka_unit_test(cut_hash_covers_each_part),
        cmocka_unit_test(numbers_repeat_by_seed),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
