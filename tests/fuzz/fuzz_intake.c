/* SPDX-License-Identifier: Apache-2.0 */
/* common/wire/intake: the objects of 9443. Input: a byte (which object, mod 6), then its bytes.
 * What is decoded encodes, and that decodes to the same. */
#include "common/wire/intake.h"

#include "common/core/sha.h"
#include "common/io/address.h"
#include "tests/fuzz/fuzz.h"

#define BAD (FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT))

struct object {
    size_t size;
    int (*decode)(const void *bytes, size_t size, void *ret, struct err *err);
    int (*encode)(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err);
    void (*check)(const void *object, const void *bytes, size_t size);
    void (*close)(void *object);
};

static int decode_register(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_register_decode(bytes, size, ret, err);
}
static int encode_register(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_register_encode(from, ret_bytes, ret_size, err);
}
static void check_register(const void *object, const void *bytes, size_t size)
{
    const struct intake_register *r = object;
    (void)bytes;
    (void)size;
    TIDE_CHECK(r->count >= 1 && r->count <= TIDE_DISKS_MAX);
    for (unsigned i = 0; i < r->count; i++) {
        const struct intake_disk *d = &r->disks[i];
        struct name name;
        TIDE_CHECK(name_parse(d->group.s, &name) && name_parse(d->member.s, &name) &&
                   name_parse(d->disk.s, &name));
        TIDE_CHECK(!id_is_zero(&d->stream) && !id_is_zero(&d->timeline) &&
                   !id_is_zero(&d->disk_id));
        TIDE_CHECK(d->size >= 512 && d->size <= UINT64_C(1) << 60 && d->size % 512 == 0);
        TIDE_CHECK(d->block_size >= 512 && d->block_size <= 65536 &&
                   (d->block_size & (d->block_size - 1)) == 0);
        for (unsigned k = 0; k < i; k++) {
            TIDE_CHECK(!id_equal(&r->disks[k].stream, &d->stream));
        }
    }
}
static void close_register(void *object)
{
    intake_register_close(object);
}

static int decode_definition(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_definition_decode(bytes, size, ret, err);
}
static int encode_definition(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_definition_encode(from, ret_bytes, ret_size, err);
}
static void check_definition(const void *object, const void *bytes, size_t size)
{
    const struct definition *d = object;
    struct err err;
    TIDE_CHECK(definition_check(d, &err) == 0);
    struct sha sha;
    sha_init(&sha);
    sha_update(&sha, bytes, size);
    struct hash hash = sha_final(&sha);
    TIDE_CHECK(hash_equal(&hash, &d->epoch.hash));
    for (unsigned i = 0; i < d->member_count; i++) {
        TIDE_CHECK(intake_is_participant(d->members[i].identity));
        TIDE_CHECK(intake_is_address(d->members[i].address));
        struct address address; /* what is let in can be dialled */
        TIDE_CHECK(address_parse(d->members[i].address, false, &address, &err) == 0);
        TIDE_CHECK(definition_find_member(d, &d->members[i].name) == (int)i);
    }
    for (unsigned i = 0; i < d->disk_count; i++) {
        TIDE_CHECK(definition_find_stream(d, &d->disks[i].stream) == (int)i);
    }
}

static int decode_definitions(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_definitions_decode(bytes, size, ret, err);
}
static int encode_definitions(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_definitions_encode(from, ret_bytes, ret_size, err);
}
static void check_definitions(const void *object, const void *bytes, size_t size)
{
    static struct definition inner;
    const struct intake_definitions *d = object;
    struct err err = {0};
    (void)bytes;
    (void)size;
    TIDE_CHECK(d->count <= TIDE_INTAKE_GROUPS_MAX);
    for (unsigned i = 0; i < d->count; i++) {
        const struct intake_issued *g = &d->groups[i];
        TIDE_CHECK(policy_check(&g->policy, &err) == 0);
        if (intake_definition_decode(g->definition, g->definition_size, &inner, &err) != 0) {
            fuzz_error(&err, BAD);
        }
    }
}
static void close_definitions(void *object)
{
    intake_definitions_close(object);
}

static int decode_stream(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_stream_state_decode(bytes, size, ret, err);
}
static int encode_stream(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_stream_state_encode(from, ret_bytes, ret_size, err);
}
static void check_stream(const void *object, const void *bytes, size_t size)
{
    const struct intake_stream_state *s = object;
    (void)bytes;
    (void)size;
    TIDE_CHECK(s->stored_lsn <= s->received_lsn);
    TIDE_CHECK(err_name(s->code) != NULL);
    TIDE_CHECK(memchr(s->text, '\0', sizeof s->text) != NULL);
}

static int decode_point(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_point_state_decode(bytes, size, ret, err);
}
static int encode_point(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_point_state_encode(from, ret_bytes, ret_size, err);
}
static void check_point(const void *object, const void *bytes, size_t size)
{
    const struct intake_point_state *p = object;
    (void)bytes;
    (void)size;
    TIDE_CHECK(!id_is_zero(&p->round) && round_answer_name(p->answer) != NULL);
    TIDE_CHECK(memchr(p->text, '\0', sizeof p->text) != NULL);
    TIDE_CHECK(memchr(p->label, '\0', sizeof p->label) != NULL);
}

static int decode_hashes(const void *bytes, size_t size, void *ret, struct err *err)
{
    return intake_block_hashes_decode(bytes, size, ret, err);
}
static int encode_hashes(void *from, uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    return intake_block_hashes_encode(from, ret_bytes, ret_size, err);
}
static void check_hashes(const void *object, const void *bytes, size_t size)
{
    const struct intake_block_hashes *b = object;
    (void)bytes;
    (void)size;
    TIDE_CHECK(b->lsn >= 1 && b->size >= 1 && b->size <= INT64_MAX);
    TIDE_CHECK(b->offset <= INT64_MAX && b->offset % TIDE_INTAKE_BLOCK == 0);
    TIDE_CHECK(b->count <= TIDE_INTAKE_BLOCKS_MAX);
    TIDE_CHECK(b->count == 0 || b->offset + (b->count - 1) * (uint64_t)TIDE_INTAKE_BLOCK < b->size);
}

static void close_nothing(void *object)
{
    (void)object;
}

static const struct object objects[] = {
    {sizeof(struct intake_register), decode_register, encode_register, check_register,
     close_register},
    {sizeof(struct definition), decode_definition, encode_definition, check_definition,
     close_nothing},
    {sizeof(struct intake_definitions), decode_definitions, encode_definitions, check_definitions,
     close_definitions},
    {sizeof(struct intake_stream_state), decode_stream, encode_stream, check_stream, close_nothing},
    {sizeof(struct intake_point_state), decode_point, encode_point, check_point, close_nothing},
    {sizeof(struct intake_block_hashes), decode_hashes, encode_hashes, check_hashes, close_nothing},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct definition room; /* the largest, and it has the strictest alignment */
    void *at = &room;
    struct err err = {0};
    if (size < 1) {
        return 0;
    }
    const struct object *o = &objects[data[0] % (sizeof objects / sizeof objects[0])];
    TIDE_CHECK(o->size <= sizeof room);
    uint8_t *bytes = fuzz_copy(data + 1, size - 1);
    memset(at, FUZZ_FILL, o->size);
    if (o->decode(bytes, size - 1, at, &err) != 0) {
        fuzz_error(&err, BAD);
        fuzz_untouched(at, o->size < 4096 ? o->size : 4096); /* a definition has 220 KiB */
        free(bytes);
        return 0;
    }
    uint8_t *first = NULL;
    uint8_t *second = NULL;
    size_t used = 0;
    size_t used_again = 0;
    TIDE_CHECK(size - 1 <= TIDE_INTAKE_BODY_MAX);
    o->check(at, bytes, size - 1);
    TIDE_CHECK(o->encode(at, &first, &used, &err) == 0);
    o->close(at);
    if (o->decode(first, used, at, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    o->check(at, first, used);
    TIDE_CHECK(o->encode(at, &second, &used_again, &err) == 0);
    TIDE_CHECK(used == used_again && memcmp(first, second, used) == 0);
    o->close(at);
    free(first);
    free(second);
    free(bytes);
    return 0;
}
