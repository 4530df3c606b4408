/* SPDX-License-Identifier: Apache-2.0 */
/* common/wire/intake: what comes from a peer on 9443, whole, changed and cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/core/prng.h"
#include "common/core/sha.h"
#include "common/wire/intake.h"

static struct id id_of(uint8_t v)
{
    struct id id;
    memset(id.b, v, sizeof(id.b));
    return id;
}

static void fill_disk(struct intake_disk *d, const char *member, const char *disk, uint8_t v)
{
    *d = (struct intake_disk){.stream = id_of(v),
                              .timeline = id_of((uint8_t)(v + 64)),
                              .disk_id = id_of((uint8_t)(v + 128)),
                              .size = 1 << 20,
                              .block_size = 4096};
    assert_true(name_parse("shop", &d->group));
    assert_true(name_parse(member, &d->member));
    assert_true(name_parse(disk, &d->disk));
}

static void a_registration_comes_back(void **state)
{
    struct intake_disk disks[3];
    struct intake_register r = {.count = 3, .disks = disks};
    struct intake_register back;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    (void)state;
    fill_disk(&disks[0], "web", "data", 1);
    fill_disk(&disks[1], "web", "log", 2);
    fill_disk(&disks[2], "app", "data", 3);
    assert_int_equal(intake_register_encode(&r, &bytes, &size, &err), 0);
    assert_int_equal(intake_register_decode(bytes, size, &back, &err), 0);
    assert_int_equal(back.count, 3);
    for (unsigned k = 0; k < 3; k++) {
        assert_true(name_equal(&back.disks[k].member, &disks[k].member));
        assert_true(name_equal(&back.disks[k].disk, &disks[k].disk));
        assert_true(id_equal(&back.disks[k].stream, &disks[k].stream));
        assert_true(back.disks[k].size == disks[k].size);
    }
    intake_register_close(&back);
    free(bytes);
}

/* Each wrong value alone is refused, with a text, and leaves the output untouched. */
static void wrong_values_are_refused(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        struct intake_disk disks[2];
        struct intake_register r = {.count = 2, .disks = disks};
        struct intake_register back = {.count = 77};
        uint8_t *bytes = NULL;
        size_t size = 0;
        struct err err = {0};
        fill_disk(&disks[0], "web", "data", 1);
        fill_disk(&disks[1], "web", "log", 2);
        switch (k) {
        case 0:
            disks[1].stream = disks[0].stream;
            break;
        case 1:
            disks[1].disk = disks[0].disk;
            break;
        case 2:
            disks[1].stream = id_of(0);
            break;
        case 3:
            disks[1].size = 1000;
            break;
        case 4:
            disks[1].size = UINT64_MAX - 511;
            break;
        case 5:
            disks[1].block_size = 3000;
            break;
        case 6:
            memcpy(disks[1].disk.s, "../up", 6);
            break;
        case 7:
            disks[1].block_size = 1 << 20;
            break;
        }
        assert_int_equal(intake_register_encode(&r, &bytes, &size, &err), 0);
        assert_int_equal(intake_register_decode(bytes, size, &back, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
        assert_true(err.text[0] != '\0');
        assert_int_equal(back.count, 77);
        free(bytes);
    }
}

static struct definition *definition_make(void)
{
    struct definition *d = calloc(1, sizeof(*d));
    struct id group = id_of(9);
    struct name name;
    struct definition_member m = {.identity = "spiffe://lab/participant/web",
                                  .address = "127.0.0.11:20004"};
    struct definition_disk disk = {.stream = id_of(1),
                                   .timeline = id_of(2),
                                   .disk = id_of(3),
                                   .size = 1 << 20,
                                   .block_size = 512};
    assert_non_null(d);
    assert_true(name_parse("shop", &name));
    definition_init(d, &group, &name, 3);
    assert_true(name_parse("web", &m.name));
    assert_true(name_parse("data", &disk.name));
    assert_int_equal(definition_add_member(d, &m, NULL), 0);
    assert_int_equal(definition_add_disk(d, &disk, NULL), 0);
    return d;
}

static void definitions_come_back_with_their_hash(void **state)
{
    struct definition *d = definition_make();
    struct definition *back = calloc(1, sizeof(*back));
    struct intake_issued issued = {0};
    struct intake_definitions all = {.count = 1, .groups = &issued};
    struct intake_definitions got;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    (void)state;
    assert_non_null(back);
    assert_int_equal(intake_definition_encode(d, &issued.definition, &issued.definition_size, &err),
                     0);
    policy_init(&issued.policy);
    assert_int_equal(intake_definitions_encode(&all, &bytes, &size, &err), 0);
    assert_int_equal(intake_definitions_decode(bytes, size, &got, &err), 0);
    assert_true(hash_equal(&got.digest, &all.digest));
    assert_int_equal(got.count, 1);
    assert_int_equal(intake_definition_decode(got.groups[0].definition,
                                              got.groups[0].definition_size, back, &err),
                     0);
    struct hash hash = sha_of(issued.definition, issued.definition_size);
    assert_true(hash_equal(&back->epoch.hash, &hash));
    assert_true(back->epoch.number == 3);
    assert_string_equal(back->members[0].address, "127.0.0.11:20004");
    intake_definitions_close(&got);
    issued.policy.interval_ms = 1; /* out of range */
    free(bytes);
    assert_int_equal(intake_definitions_encode(&all, &bytes, &size, &err), 0);
    assert_int_equal(intake_definitions_decode(bytes, size, &got, &err), -1);
    free(bytes);
    free(issued.definition);
    free(d);
    free(back);
}

/* Every prefix and many changed bytes: an answer, never a fault, whatever it is. */
static void changed_bytes_do_no_harm(void **state)
{
    struct definition *d = definition_make();
    struct definition *back = calloc(1, sizeof(*back));
    struct intake_stream_state stream;
    struct intake_point_state point;
    struct intake_definitions definitions;
    struct intake_register registration;
    struct prng prng;
    uint8_t *bytes = NULL;
    size_t size = 0;
    unsigned refused = 0;
    struct err err;
    (void)state;
    assert_non_null(back);
    prng_init(&prng, 11);
    assert_int_equal(intake_definition_encode(d, &bytes, &size, &err), 0);
    for (unsigned k = 0; k < 3000; k++) {
        uint8_t *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, bytes, size);
        size_t length = k < size ? k : size;
        if (k >= size) {
            copy[prng_below(&prng, size)] = (uint8_t)prng_next(&prng);
        }
        uint8_t *exact = malloc(length + 1);
        assert_non_null(exact);
        memcpy(exact, copy, length);
        refused += intake_definition_decode(exact, length, back, &err) < 0;
        if (intake_stream_state_decode(exact, length, &stream, &err) == 0) {
            assert_true(stream.stored_lsn <= stream.received_lsn);
        }
        (void)intake_point_state_decode(exact, length, &point, &err);
        if (intake_definitions_decode(exact, length, &definitions, &err) == 0) {
            intake_definitions_close(&definitions);
        }
        if (intake_register_decode(exact, length, &registration, &err) == 0) {
            intake_register_close(&registration);
        }
        free(exact);
        free(copy);
    }
    assert_true(refused >= size);
    free(bytes);
    free(d);
    free(back);
}

static void states_come_back(void **state)
{
    struct intake_stream_state s = {.received_lsn = 9,
                                    .stored_lsn = 7,
                                    .code = TIDE_ERR_CONFLICT,
                                    .forked = true,
                                    .text = "out of order"};
    struct intake_stream_state got;
    struct intake_point_state p = {.round = id_of(4), .answer = ROUND_ANSWER_NO, .text = "gap"};
    struct intake_point_state said;
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    assert_int_equal(intake_stream_state_encode(&s, &bytes, &size, NULL), 0);
    assert_int_equal(intake_stream_state_decode(bytes, size, &got, NULL), 0);
    assert_true(got.stored_lsn == 7 && got.received_lsn == 9 && got.forked);
    assert_int_equal(got.code, TIDE_ERR_CONFLICT);
    assert_string_equal(got.text, "out of order");
    assert_true(hash_is_zero(&got.head));
    free(bytes);
    s.received_lsn = 6; /* less than stored: a lie */
    assert_int_equal(intake_stream_state_encode(&s, &bytes, &size, NULL), 0);
    assert_int_equal(intake_stream_state_decode(bytes, size, &got, NULL), -1);
    free(bytes);
    assert_int_equal(intake_point_state_encode(&p, &bytes, &size, NULL), 0);
    assert_int_equal(intake_point_state_decode(bytes, size, &said, NULL), 0);
    assert_int_equal(said.answer, ROUND_ANSWER_NO);
    free(bytes);
}

static struct intake_block_hashes *blocks_make(void)
{
    struct intake_block_hashes *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    *b = (struct intake_block_hashes){
        .lsn = 9, .size = 5 * TIDE_INTAKE_BLOCK + 512, .offset = 2 * TIDE_INTAKE_BLOCK, .count = 4};
    for (unsigned k = 0; k < b->count; k++) {
        memset(&b->hashes[k], (int)k + 1, sizeof(b->hashes[k]));
    }
    return b;
}

static void hashes_come_back(void **state)
{
    struct intake_block_hashes *b = blocks_make();
    struct intake_block_hashes *got = calloc(1, sizeof(*got));
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    assert_non_null(got);
    assert_int_equal(intake_block_hashes_encode(b, &bytes, &size, NULL), 0);
    assert_int_equal(intake_block_hashes_decode(bytes, size, got, NULL), 0);
    assert_memory_equal(got, b, sizeof(*got));
    free(bytes);
    /* the disk ends before the offset */
    b->offset = 6 * TIDE_INTAKE_BLOCK;
    b->count = 0;
    assert_int_equal(intake_block_hashes_encode(b, &bytes, &size, NULL), 0);
    assert_int_equal(intake_block_hashes_decode(bytes, size, got, NULL), 0);
    assert_true(got->count == 0 && got->offset == b->offset);
    free(bytes);
    free(got);
    free(b);
}

/* Bytes of a field of a protobuf message with one varint, put behind what is there: the last wins.
 */
static void override(uint8_t *bytes, size_t *size, unsigned field, uint64_t value)
{
    bytes[(*size)++] = (uint8_t)(field << 3);
    for (; value >= 128; value >>= 7) {
        bytes[(*size)++] = (uint8_t)(value | 128);
    }
    bytes[(*size)++] = (uint8_t)value;
}

static void wrong_hashes_are_refused(void **state)
{
    static const struct {
        unsigned field;
        uint64_t value;
        const char *text;
    } wrong[] = {
        {1, 2, "version"},
        {2, 0, "'lsn'"},
        {2, UINT64_MAX, "'lsn'"},
        {3, 0, "'size'"},
        {3, 1ULL << 63, "'size'"},
        {3, 5 * TIDE_INTAKE_BLOCK, "'hashes'"}, /* of a block that the disk has not */
        {4, 512, "'offset'"},
        {4, 1ULL << 63, "'offset'"},
        {4, 3 * TIDE_INTAKE_BLOCK, "'hashes'"},
        {4, 6 * TIDE_INTAKE_BLOCK, "'hashes'"},
        {5, 4096, "'block_size'"},
    };
    struct intake_block_hashes *b = blocks_make();
    struct intake_block_hashes got;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    (void)state;
    memset(&got, 7, sizeof(got));
    assert_int_equal(intake_block_hashes_encode(b, &bytes, &size, NULL), 0);
    uint8_t *more = malloc(size + 16 + 40000);
    assert_non_null(more);
    for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
        size_t used = size;
        memcpy(more, bytes, size);
        override(more, &used, wrong[k].field, wrong[k].value);
        assert_int_equal(intake_block_hashes_decode(more, used, &got, &err), -1);
        assert_int_equal(err.code, k == 0 ? TIDE_ERR_VERSION : TIDE_ERR_CORRUPT);
        assert_non_null(strstr(err.text, wrong[k].text));
        assert_int_equal(got.count, 0x07070707); /* untouched */
    }
    /* half a hash; more than may be */
    static const uint8_t half[] = {6 << 3 | 2, 16, 1,  2,  3,  4,  5,  6,  7,
                                   8,          9,  10, 11, 12, 13, 14, 15, 16};
    memcpy(more, bytes, size);
    memcpy(more + size, half, sizeof(half));
    assert_int_equal(intake_block_hashes_decode(more, size + sizeof(half), &got, &err), -1);
    assert_non_null(strstr(err.text, "16 bytes"));
    static const uint8_t long_head[] = {6 << 3 | 2, 0xa0, 0x80, 2}; /* 32,800 bytes */
    memcpy(more + size, long_head, sizeof(long_head));
    memset(more + size + sizeof(long_head), 0, 32800);
    assert_int_equal(intake_block_hashes_decode(more, size + sizeof(long_head) + 32800, &got, &err),
                     -1);
    assert_non_null(strstr(err.text, "32800 bytes"));
    free(more);
    free(bytes);
    free(b);
}

static void questions_for_hashes_are_checked(void **state)
{
    static const struct {
        const char *lsn;
        const char *offset;
        const char *count;
        const char *text; /* NULL: good */
    } asked[] = {
        {"0", "0", "1", NULL},
        {"9223372036854775807", "9223372036854710272", "1024", NULL},
        {NULL, "0", "1", "'lsn'"},
        {"", "0", "1", "'lsn'"},
        {"01", "0", "1", "'lsn'"},
        {"-1", "0", "1", "'lsn'"},
        {"9223372036854775808", "0", "1", "'lsn'"},
        {"99999999999999999999", "0", "1", "'lsn'"},
        {"1", NULL, "1", "'offset'"},
        {"1", "512", "1", "'offset'"},
        {"1", "9223372036854775808", "1", "'offset'"},
        {"1", "0x0", "1", "'offset'"},
        {"1", "0", NULL, "'count'"},
        {"1", "0", "0", "'count'"},
        {"1", "0", "1025", "'count'"},
        {"1", "0", "1 ", "'count'"},
    };
    (void)state;
    for (size_t k = 0; k < sizeof(asked) / sizeof(asked[0]); k++) {
        struct intake_hashes_query q = {.count = 77};
        struct err err = {0};
        int rc = intake_hashes_query_parse(asked[k].lsn, asked[k].offset, asked[k].count, &q, &err);
        if (asked[k].text == NULL) {
            assert_int_equal(rc, 0);
            assert_true(q.count == (k == 0 ? 1 : 1024));
            assert_true(k == 0 || q.offset == (1ULL << 63) - 65536);
        } else {
            assert_int_equal(rc, -1);
            assert_int_equal(err.code, TIDE_ERR_CORRUPT);
            assert_non_null(strstr(err.text, asked[k].text));
            assert_int_equal(q.count, 77);
        }
    }
}

static void texts_are_checked(void **state)
{
    (void)state;
    assert_true(intake_is_participant("spiffe://lab/participant/web-1.x"));
    assert_false(intake_is_participant("spiffe://lab/coordinator/web"));
    assert_false(intake_is_participant("spiffe:///participant/web"));
    assert_false(intake_is_participant("spiffe://lab/participant/"));
    assert_false(intake_is_participant("spiffe://lab/participant/a/b"));
    assert_true(intake_is_address("127.0.0.1:1"));
    assert_true(intake_is_address("[fe80::1]:65535"));
    assert_true(intake_is_address("[::]:1"));
    assert_true(intake_is_address("[1:2:3:4:5:6:7:8]:1"));
    assert_true(intake_is_address("[1:2:3:4:5:6:7::]:1"));
    /* what looks like one, and what inet_pton() would refuse when a participant dials it */
    assert_false(intake_is_address("127.0.01.2:1"));
    assert_false(intake_is_address("[1:2:3]:1"));
    assert_false(intake_is_address("[:::]:1"));
    assert_false(intake_is_address("[1::2::3]:1"));
    assert_false(intake_is_address("[:1:2:3:4:5:6:7]:1"));
    assert_false(intake_is_address("[1:2:3:4:5:6:7:]:1"));
    assert_false(intake_is_address("[1:2:3:4:5:6:7::8]:1"));
    assert_false(intake_is_address("127.0.0.1:65536"));
    assert_false(intake_is_address("127.0.0.1:0"));
    assert_false(intake_is_address("127.0.0:1"));
    assert_false(intake_is_address("256.0.0.1:1"));
    assert_false(intake_is_address("host:1"));
    assert_false(intake_is_address("1.2.3.4.5:1"));
    assert_false(intake_is_address("1.2.3.4"));
    assert_false(intake_is_address("[12345::]:1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_registration_comes_back),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(definitions_come_back_with_their_hash),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(states_come_back),
        cmocka_unit_test(hashes_come_back),
        cmocka_unit_test(wrong_hashes_are_refused),
        cmocka_unit_test(questions_for_hashes_are_checked),
        cmocka_unit_test(texts_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
