/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hrl_make.h"

#include <stdlib.h>

#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/hrl/crc.h"

/* Standard CRC-32C: published vectors (RFC 3720 B.4 and the common check value). */
static void crc_vectors(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xE3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof bytes);
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x62A8AB43);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(bytes, sizeof bytes), 0x46DD794E);
    for (size_t i = 0; i <= sizeof bytes; i++) {
        uint32_t crc = crc32c(bytes, i);
        assert_int_equal(crc32c_extend(crc, bytes + i, sizeof bytes - i), 0x46DD794E);
    }
}

static const uint8_t data[24] = "some data of one write.";
static uint8_t attestation[11] = "attestation";

/* One record of each type that can be written, with no field at its default. */
static size_t one_of_each(struct record to[16])
{
    size_t n = 0;
    struct round_order order = make_order(3, 11);
    struct hash cut = make_hash(9);
    to[n++] = make_attach(1, 1, 0x1122334455667788, true);
    struct record again = make_attach(1, 9, 2, false);
    again.attach.clean = true;
    again.attach.replayed_from = 3;
    again.attach.replayed_to = 8;
    again.attach.mtime_ns = 1234567890;
    to[n++] = again;
    struct record gap = make_gap(1, 12, 2);
    gap.gap.offset = 4096;
    gap.gap.size = 8192;
    to[n++] = gap;
    to[n++] = make_write(1, 2, 7, 512, data, sizeof data);
    to[n++] = make_write(1, 3, 7, 513, data, 1);
    struct record zero = make_record(RECORD_ZERO, 1, 4, 7);
    zero.write = (struct record_write){.offset = 1U << 20, .size = 1U << 31, .discard = true};
    to[n++] = zero;
    struct record bookmark = make_bookmark(1, 5, 7, &order, 99);
    bookmark.bookmark.unheld = true;
    bookmark.bookmark.quiesce = 1;
    bookmark.bookmark.quiesce_proof = make_hash(4);
    to[n++] = bookmark;
    to[n++] = make_seal(1, 6, 7, &order.round, 5, ROUND_OUTCOME_HELD, &cut);
    to[n++] = make_seal(1, 6, 7, &order.round, 5, ROUND_OUTCOME_EXPIRED, NULL);
    struct record att = make_record(RECORD_ATTESTATION, 1, 7, 7);
    att.attestation = (struct record_attestation){
        .round = order.round, .bytes = attestation, .size = sizeof attestation};
    to[n++] = att;
    struct record block = make_write(1, 13, 7, 4096, data, sizeof data);
    block.type = RECORD_COPY_BLOCK;
    to[n++] = block;
    struct record copy_begin = make_record(RECORD_COPY_BEGIN, 1, 14, 7);
    copy_begin.copy_begin =
        (struct record_copy_begin){.kind = RECORD_COPY_CHANGES, .size = 1U << 20};
    to[n++] = copy_begin;
    struct record copy_end = make_record(RECORD_COPY_END, 1, 15, 7);
    copy_end.copy_end = (struct record_copy_end){.begin_lsn = 14, .copied = 24, .zeroes = 1000};
    to[n++] = copy_end;
    struct record copy_zero = make_record(RECORD_ZERO, 1, 16, 7);
    copy_zero.write =
        (struct record_write){.offset = 1U << 20, .size = 1U << 31, .discard = false, .copy = true};
    to[n++] = copy_zero;
    to[n++] = make_resize(1, 17, 7, 1U << 20, 1ULL << 40);
    return n;
}

/* Equal as values: encodes to the same bytes (which carry every field). */
static void same(const struct record *a, const struct record *b)
{
    uint8_t left[TIDE_RECORD_SMALL_MAX];
    uint8_t right[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(a, left, sizeof left);
    assert_int_equal(size, record_encode(b, right, sizeof right));
    assert_memory_equal(left, right, size);
}

static void round_trip(void **state)
{
    (void)state;
    struct record records[16];
    size_t count = one_of_each(records);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[TIDE_RECORD_SMALL_MAX + 64];
        memset(bytes, 0xAA, sizeof bytes);
        size_t size = record_encode(&records[i], bytes, sizeof bytes);
        assert_int_equal(size % 8, 0);
        assert_int_equal(size, record_size(&records[i]));
        struct record got;
        size_t used = 0;
        struct err err;
        assert_int_equal(record_decode(bytes, sizeof bytes, &got, &used, &err), 0);
        assert_int_equal(used, size);
        same(&records[i], &got);
        assert_int_equal(record_due(bytes, &records[i].stream, records[i].lsn), size);
        assert_int_equal(record_due(bytes, &records[i].stream, records[i].lsn + 1), 0);
        struct id other = make_id(4711);
        assert_int_equal(record_due(bytes, &other, records[i].lsn), 0);
    }
}

/* Fields that a byte comparison of two encodings would not catch if both sides lost them. */
static void fields_arrive(void **state)
{
    (void)state;
    struct record records[16];
    size_t count = one_of_each(records);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[TIDE_RECORD_SMALL_MAX];
        size_t size = record_encode(&records[i], bytes, sizeof bytes);
        struct record got;
        struct err err;
        assert_int_equal(record_decode(bytes, size, &got, &size, &err), 0);
        assert_int_equal(got.type, records[i].type);
        assert_int_equal(got.lsn, records[i].lsn);
        assert_int_equal(got.incarnation, records[i].incarnation);
        assert_int_equal(got.mono_ns, records[i].mono_ns);
        assert_true(id_equal(&got.stream, &records[i].stream));
        if (got.type == RECORD_ATTACH) {
            assert_int_equal(got.attach.size, 1 << 20);
            assert_int_equal(got.attach.block_size, 4096);
            assert_int_equal(got.attach.replayed_to, records[i].attach.replayed_to);
            assert_int_equal(got.attach.mtime_ns, records[i].attach.mtime_ns);
            assert_int_equal(got.attach.base_zero, records[i].attach.base_zero);
            assert_string_equal(got.attach.serial, "serial 1");
        } else if (got.type == RECORD_WRITE) {
            assert_int_equal(got.write.offset, records[i].write.offset);
            assert_int_equal(got.write.size, records[i].write.size);
            assert_memory_equal(got.write.data, data, got.write.size);
        } else if (got.type == RECORD_ZERO) {
            assert_int_equal(got.write.size, 1U << 31);
            assert_int_equal(got.write.discard, records[i].write.discard);
            assert_int_equal(got.write.copy, records[i].write.copy);
            assert_true(got.write.copy != got.write.discard);
        } else if (got.type == RECORD_BOOKMARK) {
            assert_true(set_equal(&got.bookmark.order.set, &records[i].bookmark.order.set));
            assert_true(id_equal(&got.bookmark.nonce, &records[i].bookmark.nonce));
            assert_true(got.bookmark.unheld);
            assert_int_equal(got.bookmark.wall_ns, 1700000000000000000U);
            assert_int_equal(got.bookmark.wall_error_us, 250);
        } else if (got.type == RECORD_SEAL) {
            assert_int_equal(got.seal.bookmark_lsn, 5);
            assert_int_equal(got.seal.outcome, records[i].seal.outcome);
            assert_int_equal(got.seal.writes_held, 3);
            assert_int_equal(got.seal.bytes_held, 12288);
        } else if (got.type == RECORD_COPY_BLOCK) {
            assert_int_equal(got.write.offset, 4096);
            assert_memory_equal(got.write.data, data, got.write.size);
        } else if (got.type == RECORD_COPY_BEGIN) {
            assert_int_equal(got.copy_begin.kind, RECORD_COPY_CHANGES);
            assert_int_equal(got.copy_begin.size, 1 << 20);
        } else if (got.type == RECORD_COPY_END) {
            assert_int_equal(got.copy_end.begin_lsn, 14);
            assert_int_equal(got.copy_end.copied, 24);
            assert_int_equal(got.copy_end.zeroes, 1000);
        } else if (got.type == RECORD_RESIZE) {
            assert_int_equal(got.resize.size, 1ULL << 40);
            assert_int_equal(got.resize.before, 1 << 20);
        } else if (got.type == RECORD_GAP) {
            assert_int_equal(got.gap.reason, RECORD_GAP_OVERFLOW);
            assert_int_equal(got.gap.size, 8192);
            assert_string_equal(got.gap.text, "log was full");
        }
    }
}

/* Every flipped bit is refused, padding included. */
static void flipped_bits(void **state)
{
    (void)state;
    struct record records[16];
    size_t count = one_of_each(records);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[TIDE_RECORD_SMALL_MAX];
        size_t size = record_encode(&records[i], bytes, sizeof bytes);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            struct record got;
            size_t used = 4711;
            struct err err;
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_int_equal(record_decode(bytes, size, &got, &used, &err), -1);
            assert_true(err.code == TIDE_ERR_CORRUPT || err.code == TIDE_ERR_LIMIT);
            assert_int_equal(used, 4711);
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
    }
}

static void cut_short(void **state)
{
    (void)state;
    struct record records[16];
    size_t count = one_of_each(records);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[TIDE_RECORD_SMALL_MAX];
        size_t size = record_encode(&records[i], bytes, sizeof bytes);
        for (size_t left = 0; left < size; left++) {
            uint8_t *exact = malloc(left + 1); /* so that a read past the end is seen */
            TIDE_CHECK(exact != NULL);
            memcpy(exact, bytes, left);
            struct record got;
            size_t used;
            struct err err;
            assert_int_equal(record_decode(exact, left, &got, &used, &err), -1);
            assert_int_equal(err.code, TIDE_ERR_LIMIT);
            free(exact);
        }
    }
}

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(v >> 8 * i);
    }
}

/* Sets the checksum of a record of body bytes right again. */
static void checksum(uint8_t *bytes, size_t body)
{
    put_u32(bytes + 4, crc32c(bytes + 8, TIDE_RECORD_HEADER - 8 + body));
}

static enum err_code decode(const uint8_t *bytes, size_t size)
{
    struct record got;
    size_t used;
    struct err err = {.code = TIDE_ERR_OK};
    return record_decode(bytes, size, &got, &used, &err) == 0 ? TIDE_ERR_OK : err.code;
}

static void huge_lengths(void **state)
{
    (void)state;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct record w = make_write(1, 2, 7, 512, data, sizeof data);
    static const uint32_t sizes[] = {TIDE_RECORD_WRITE_PREFIX + TIDE_RECORD_DATA_MAX + 1,
                                     0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFC0, 0xFFFFFFF8};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = record_encode(&w, bytes, sizeof bytes);
        put_u32(bytes + 12, sizes[i]);
        checksum(bytes, sizeof data + TIDE_RECORD_WRITE_PREFIX);
        assert_int_equal(decode(bytes, size), TIDE_ERR_CORRUPT);
        assert_int_equal(record_due(bytes, &w.stream, w.lsn), 0);
    }
    size_t size = record_encode(&w, bytes, sizeof bytes);
    for (uint32_t inner = 0; inner < 70000; inner += inner < 64 ? 1 : 4099) {
        put_u32(bytes + TIDE_RECORD_HEADER + 8, inner); /* size inside the body */
        checksum(bytes, sizeof data + TIDE_RECORD_WRITE_PREFIX);
        assert_int_equal(decode(bytes, size),
                         inner == sizeof data ? TIDE_ERR_OK : TIDE_ERR_CORRUPT);
    }
}

/* A copy block is at most half of what a write may be. */
static void large_copy_block(void **state)
{
    (void)state;
    const size_t size = TIDE_RECORD_COPY_MAX + 1;
    uint8_t *much = calloc(1, size);
    uint8_t *bytes = malloc(TIDE_RECORD_MAX);
    assert_non_null(much);
    assert_non_null(bytes);
    struct record w = make_write(1, 2, 7, 512, much, size);
    size_t used = record_encode(&w, bytes, TIDE_RECORD_MAX);
    bytes[8] = RECORD_COPY_BLOCK;
    checksum(bytes, size + TIDE_RECORD_WRITE_PREFIX);
    assert_int_equal(decode(bytes, used), TIDE_ERR_CORRUPT);
    w.type = RECORD_COPY_BLOCK;
    w.write.size = TIDE_RECORD_COPY_MAX;
    used = record_encode(&w, bytes, TIDE_RECORD_MAX);
    assert_int_equal(decode(bytes, used), TIDE_ERR_OK);
    free(bytes);
    free(much);
}

/* Each value out of its range is refused though the checksum is right. */
static void wrong_values(void **state)
{
    (void)state;
    struct record records[16];
    size_t count = one_of_each(records);
    /* {index in one_of_each, offset, byte}: reserved bytes, flags, enumerators, zero ids */
    static const struct {
        size_t record;
        size_t offset;
        uint8_t value;
    } wrong[] = {
        {3, 10, 1},          {9, 10, 0},         {9, 10, 3},         {3, 11, 1},
        {3, 56, 1},          {3, 63, 1},         {3, 64 + 12, 1},    {5, 64 + 16, 3},
        {5, 64 + 20, 1},     {6, 64 + 88, 0},    {6, 64 + 88, 3},    {6, 64 + 89, 3},
        {6, 64 + 90, 2},     {6, 64 + 91, 3},    {6, 64 + 116, 0},   {6, 64 + 118, 1},
        {6, 64 + 153, 0xFF}, {7, 64 + 24, 0},    {7, 64 + 24, 5},    {7, 64 + 25, 1},
        {7, 64 + 16, 6},     {8, 64 + 40, 1},    {2, 64, 0},         {2, 64, 11},
        {2, 64 + 4, 1},      {2, 64 + 8, 13},    {2, 64 + 159, 'x'}, {0, 64 + 60, 15},
        {0, 64 + 60, 5},     {0, 64 + 151, 'x'}, {0, 64 + 56, 1},    {1, 64 + 72, 9},
        {1, 64 + 60, 3},     {9, 64 + 16, 10},   {9, 64 + 20, 1},    {3, 64 + 7, 0x80},
        {10, 64 + 7, 0x80},  {10, 64 + 12, 1},   {11, 64, 0},        {11, 64, 4},
        {11, 64 + 4, 1},     {11, 64 + 10, 0},   {11, 64 + 15, 128}, {14, 64 + 5, 0},
        {14, 64 + 7, 128},   {14, 64 + 10, 0},   {14, 64 + 15, 128}, {14, 64 + 16, 1},
        {14, 64 + 23, 1},    {12, 64, 0},        {12, 64, 15},       {12, 64 + 15, 128},
        {12, 64 + 23, 128},  {13, 64 + 16, 7},   {2, 64 + 25, 0}, /* a range of no bytes, yet at an
                                                                     offset */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_true(wrong[i].record < count);
        const struct record *r = &records[wrong[i].record];
        uint8_t bytes[TIDE_RECORD_SMALL_MAX];
        size_t size = record_encode(r, bytes, sizeof bytes);
        assert_int_not_equal(bytes[wrong[i].offset], wrong[i].value);
        bytes[wrong[i].offset] = wrong[i].value;
        checksum(bytes, size - TIDE_RECORD_HEADER - record_padding(r));
        if (decode(bytes, size) != TIDE_ERR_CORRUPT) {
            fail_msg("case %zu: record %zu offset %zu was not refused", i, wrong[i].record,
                     wrong[i].offset);
        }
    }
    for (size_t i = 0; i < count; i++) {
        static const size_t fields[][2] = {
            {16, 8}, {24, 8}, {32, 16}}; /* lsn, incarnation, stream */
        for (size_t k = 0; k < 3; k++) {
            uint8_t bytes[TIDE_RECORD_SMALL_MAX];
            size_t size = record_encode(&records[i], bytes, sizeof bytes);
            memset(bytes + fields[k][0], 0, fields[k][1]);
            checksum(bytes, size - TIDE_RECORD_HEADER - record_padding(&records[i]));
            assert_int_equal(decode(bytes, size), TIDE_ERR_CORRUPT);
        }
    }
}

/* A resize says two sizes. */
static void resize_to_the_same(void **state)
{
    (void)state;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct record r = make_resize(1, 2, 7, 1U << 20, 2U << 20);
    size_t size = record_encode(&r, bytes, sizeof bytes);
    assert_int_equal(decode(bytes, size), TIDE_ERR_OK);
    memcpy(bytes + TIDE_RECORD_HEADER, bytes + TIDE_RECORD_HEADER + 8, 8);
    checksum(bytes, size - TIDE_RECORD_HEADER);
    assert_int_equal(decode(bytes, size), TIDE_ERR_CORRUPT);
}

static void unknown_types(void **state)
{
    (void)state;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct record w = make_write(1, 2, 7, 512, data, sizeof data);
    size_t size = record_encode(&w, bytes, sizeof bytes);
    static const uint8_t types[] = {0, 2, 13, 14, 200};
    for (size_t i = 0; i < sizeof types; i++) {
        bytes[8] = types[i];
        bytes[10] = 0;
        checksum(bytes, sizeof data + TIDE_RECORD_WRITE_PREFIX);
        assert_int_equal(decode(bytes, size), TIDE_ERR_VERSION);
        bytes[10] = TIDE_RECORD_MAY_SKIP;
        checksum(bytes, sizeof data + TIDE_RECORD_WRITE_PREFIX);
        struct record got;
        size_t used = 0;
        struct err err;
        assert_int_equal(record_decode(bytes, size, &got, &used, &err), 0);
        assert_int_equal(got.type, types[i]);
        assert_int_equal(got.lsn, 2);
        assert_int_equal(used, size);
    }
}

/* The write path's head and the plain encoding are the same bytes, for every padding. */
static void write_head(void **state)
{
    (void)state;
    for (size_t size = 1; size <= sizeof data; size++) {
        struct record w = make_write(3, 2, 7, 512, data, size);
        uint8_t whole[TIDE_RECORD_SMALL_MAX];
        uint8_t parts[TIDE_RECORD_SMALL_MAX];
        const size_t head = TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX;
        size_t used = record_encode(&w, whole, sizeof whole);
        memset(parts, 0, sizeof parts);
        record_encode_write_head(&w, parts);
        memcpy(parts + head, data, size);
        assert_int_equal(used, head + size + record_padding(&w));
        assert_memory_equal(whole, parts, used);
    }
}

/* The bytes of proto/hrl.md's example. They change only together with the draft number. */
static void example(void **state)
{
    (void)state;
    struct record w = make_record(RECORD_WRITE, 1, 2, 0x0102030405060708);
    for (size_t i = 0; i < sizeof w.stream.b; i++) {
        w.stream.b[i] = (uint8_t)i;
    }
    w.mono_ns = 1000000007;
    w.write = (struct record_write){.offset = 4096, .size = 5, .data = (const uint8_t *)"hello"};
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(&w, bytes, sizeof bytes);
    static const uint8_t due[] = {
        0x48, 0x52, 0x4c, 0x72, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x15, 0x00, 0x00,
        0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03,
        0x02, 0x01, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c,
        0x0d, 0x0e, 0x0f, 0x07, 0xca, 0x9a, 0x3b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 'h',  'e',  'l',  'l',  'o',  0x00, 0x00, 0x00};
    assert_int_equal(size, sizeof due);
    uint32_t crc = crc32c(due + 8, 64 - 8 + 21);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(bytes[i], i >= 4 && i < 8 ? (uint8_t)(crc >> 8 * (i - 4)) : due[i]);
    }
    assert_int_equal(crc, 0x98C3FE61);
}

/* Random bytes behind a right magic never crash the decoder. */
static void random_bytes(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, 20004);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[512];
        size_t body = (size_t)prng_below(&prng, sizeof bytes - TIDE_RECORD_HEADER);
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = prng_below(&prng, 3) == 0 ? (uint8_t)prng_next(&prng) : 0;
        }
        memcpy(bytes, "HRLr", 4);
        bytes[8] = (uint8_t)prng_below(&prng, 14);
        bytes[9] = bytes[10] = bytes[11] = 0;
        memset(bytes + 56, 0, 8);
        put_u32(bytes + 12, (uint32_t)body);
        checksum(bytes, body);
        decode(bytes, sizeof bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_vectors),        cmocka_unit_test(round_trip),
        cmocka_unit_test(fields_arrive),      cmocka_unit_test(flipped_bits),
        cmocka_unit_test(cut_short),          cmocka_unit_test(huge_lengths),
        cmocka_unit_test(wrong_values),       cmocka_unit_test(unknown_types),
        cmocka_unit_test(write_head),         cmocka_unit_test(example),
        cmocka_unit_test(random_bytes),       cmocka_unit_test(large_copy_block),
        cmocka_unit_test(resize_to_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
