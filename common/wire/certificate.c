/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/certificate.h"

#include "common/core/check.h"
#include "proto/certificate.pb-c.h"

#include <string.h>

#define ARENA_SIZE 32768U
#define ALIGN      16U

/* Bounded memory for unpacking, as in envelope.c: nothing is freed one by one. */
struct arena {
    _Alignas(ALIGN) uint8_t bytes[ARENA_SIZE];
    size_t used;
};

static void *arena_alloc(void *context, size_t size)
{
    struct arena *arena = context;
    size_t left = ARENA_SIZE - arena->used;
    if (size > left) {
        return NULL;
    }
    void *at = arena->bytes + arena->used;
    size_t step = (size + ALIGN - 1) / ALIGN * ALIGN;
    arena->used += step < left ? step : left;
    return at;
}

static void arena_free(void *context, void *at)
{
    (void)context;
    (void)at;
}

static ProtobufCBinaryData bytes_of(const void *from, size_t size)
{
    union {
        const void *in;
        uint8_t *out;
    } u = {.in = from}; /* packing does not write through it */
    return (ProtobufCBinaryData){.len = size, .data = u.out};
}

size_t certificate_statement_encode(const struct statement *statement,
                                    uint8_t to[TIDE_STATEMENT_MAX])
{
    TIDE_CHECK(statement->disk_count > 0 && statement->disk_count <= TIDE_MEMBER_DISKS_MAX);
    Tide__Certificate__StatementDisk disks[TIDE_MEMBER_DISKS_MAX];
    Tide__Certificate__StatementDisk *slots[TIDE_MEMBER_DISKS_MAX];
    for (unsigned i = 0; i < statement->disk_count; i++) {
        const struct statement_disk *from = &statement->disks[i];
        Tide__Certificate__StatementDisk *disk = &disks[i];
        tide__certificate__statement_disk__init(disk);
        disk->stream = bytes_of(from->mark.stream.b, sizeof from->mark.stream.b);
        disk->incarnation = from->mark.incarnation;
        disk->bookmark_lsn = from->mark.lsn;
        disk->seal_lsn = from->seal_lsn;
        disk->nonce = bytes_of(from->mark.nonce.b, sizeof from->mark.nonce.b);
        disk->outcome = (uint32_t)from->outcome;
        disk->hold_us = from->hold_us;
        disk->writes_held = from->writes_held;
        slots[i] = disk;
    }
    Tide__Certificate__Statement s;
    tide__certificate__statement__init(&s);
    struct name member = statement->member;
    s.version = 1;
    s.group_id = bytes_of(statement->group.b, sizeof statement->group.b);
    s.member = member.s;
    s.round = bytes_of(statement->round.b, sizeof statement->round.b);
    s.epoch = statement->epoch.number;
    s.epoch_hash = bytes_of(statement->epoch.hash.b, sizeof statement->epoch.hash.b);
    s.cut_hash = bytes_of(statement->cut.b, sizeof statement->cut.b);
    s.wall_ns = statement->wall_ns;
    s.n_disks = statement->disk_count;
    s.disks = slots;
    size_t size = tide__certificate__statement__get_packed_size(&s);
    TIDE_CHECK(size <= TIDE_STATEMENT_MAX);
    TIDE_CHECK(tide__certificate__statement__pack(&s, to) == size);
    return size;
}

static int get_id(const ProtobufCBinaryData *from, const char *what, struct id *ret,
                  struct err *err)
{
    if (from->len != sizeof ret->b) {
        return err_set(err, TIDE_ERR_CORRUPT, "statement's \"%s\" has %zu bytes, expected %zu",
                       what, from->len, sizeof ret->b);
    }
    memcpy(ret->b, from->data, sizeof ret->b);
    return id_is_zero(ret)
               ? err_set(err, TIDE_ERR_CORRUPT, "statement's \"%s\" is all zeroes", what)
               : 0;
}

static int get_hash(const ProtobufCBinaryData *from, const char *what, struct hash *ret,
                    struct err *err)
{
    if (from->len != sizeof ret->b) {
        return err_set(err, TIDE_ERR_CORRUPT, "statement's \"%s\" has %zu bytes, expected %zu",
                       what, from->len, sizeof ret->b);
    }
    memcpy(ret->b, from->data, sizeof ret->b);
    return 0;
}

static int get_disk(const Tide__Certificate__StatementDisk *from, struct statement_disk *ret,
                    struct err *err)
{
    if (get_id(&from->stream, "stream", &ret->mark.stream, err) != 0 ||
        get_id(&from->nonce, "nonce", &ret->mark.nonce, err) != 0) {
        return -1;
    }
    if (from->incarnation == 0 || from->bookmark_lsn == 0 ||
        round_outcome_name(from->outcome) == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "statement about a disk with incarnation or LSN 0, or unknown outcome %u",
                       (unsigned)from->outcome);
    }
    ret->mark.incarnation = from->incarnation;
    ret->mark.lsn = from->bookmark_lsn;
    ret->seal_lsn = from->seal_lsn;
    ret->outcome = (enum round_outcome)from->outcome;
    ret->hold_us = from->hold_us;
    ret->writes_held = from->writes_held;
    return 0;
}

int certificate_statement_decode(const void *from, size_t size, struct statement *ret,
                                 struct err *err)
{
    if (size > TIDE_STATEMENT_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "statement of %zu bytes, over the limit of %u", size,
                       TIDE_STATEMENT_MAX);
    }
    struct arena arena;
    arena.used = 0;
    ProtobufCAllocator allocator = {
        .alloc = arena_alloc, .free = arena_free, .allocator_data = &arena};
    Tide__Certificate__Statement *s = tide__certificate__statement__unpack(&allocator, size, from);
    if (s == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "%zu bytes that are not a statement", size);
    }
    if (s->version != 1) {
        return err_set(err, TIDE_ERR_VERSION, "statement of version %u; this build knows 1",
                       (unsigned)s->version);
    }
    struct statement out;
    memset(&out, 0, sizeof out);
    if (get_id(&s->group_id, "group_id", &out.group, err) != 0 ||
        get_id(&s->round, "round", &out.round, err) != 0 ||
        get_hash(&s->epoch_hash, "epoch_hash", &out.epoch.hash, err) != 0 ||
        get_hash(&s->cut_hash, "cut_hash", &out.cut, err) != 0) {
        return -1;
    }
    if (!name_parse(s->member, &out.member) || s->epoch == 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "statement without a valid member name or epoch");
    }
    if (s->n_disks == 0 || s->n_disks > TIDE_MEMBER_DISKS_MAX) {
        return err_set(err, TIDE_ERR_CORRUPT, "statement about %zu disks, expected 1 to %d",
                       s->n_disks, TIDE_MEMBER_DISKS_MAX);
    }
    for (size_t i = 0; i < s->n_disks; i++) {
        if (get_disk(s->disks[i], &out.disks[i], err) != 0) {
            return -1;
        }
    }
    out.epoch.number = s->epoch;
    out.wall_ns = s->wall_ns;
    out.disk_count = (unsigned)s->n_disks;
    *ret = out;
    return 0;
}

size_t certificate_signed(const void *statement, size_t size, uint8_t to[TIDE_STATEMENT_SIGNED_MAX])
{
    static const char context[] = TIDE_STATEMENT_CONTEXT;
    if (size > TIDE_STATEMENT_MAX) {
        return 0;
    }
    memcpy(to, context, sizeof context); /* with its NUL */
    memcpy(to + sizeof context, statement, size);
    return sizeof context + size;
}

int certificate_attestation_encode(const struct certificate_attestation *attestation,
                                   uint8_t to[TIDE_ATTESTATION_MAX], size_t *ret_size,
                                   struct err *err)
{
    TIDE_CHECK(attestation->chain_count <= TIDE_ATTESTATION_CHAIN_MAX);
    ProtobufCBinaryData chain[TIDE_ATTESTATION_CHAIN_MAX];
    for (unsigned i = 0; i < attestation->chain_count; i++) {
        chain[i] = bytes_of(attestation->chain[i].at, attestation->chain[i].size);
    }
    Tide__Certificate__Attestation a;
    tide__certificate__attestation__init(&a);
    a.statement = bytes_of(attestation->statement.at, attestation->statement.size);
    a.signature = bytes_of(attestation->signature.at, attestation->signature.size);
    a.n_chain = attestation->chain_count;
    a.chain = chain;
    size_t size = tide__certificate__attestation__get_packed_size(&a);
    if (size > TIDE_ATTESTATION_MAX) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "attestation of %zu bytes, over the limit of %u: use a shorter certificate "
                       "chain",
                       size, TIDE_ATTESTATION_MAX);
    }
    TIDE_CHECK(tide__certificate__attestation__pack(&a, to) == size);
    *ret_size = size;
    return 0;
}

/* Where a part that protobuf-c copied lies in the caller's bytes: parts are stored as they are, so
 * the first place with the same bytes serves. */
static bool locate(const ProtobufCBinaryData *part, const uint8_t *from, size_t size,
                   struct certificate_bytes *ret)
{
    for (size_t i = 0; part->len > 0 && i + part->len <= size; i++) {
        if (memcmp(from + i, part->data, part->len) == 0) {
            *ret = (struct certificate_bytes){.at = from + i, .size = part->len};
            return true;
        }
    }
    return false;
}

int certificate_attestation_decode(const void *from, size_t size,
                                   struct certificate_attestation *ret, struct err *err)
{
    if (size > TIDE_ATTESTATION_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "attestation of %zu bytes, over the limit of %u", size,
                       TIDE_ATTESTATION_MAX);
    }
    struct arena arena;
    arena.used = 0;
    ProtobufCAllocator allocator = {
        .alloc = arena_alloc, .free = arena_free, .allocator_data = &arena};
    Tide__Certificate__Attestation *a =
        tide__certificate__attestation__unpack(&allocator, size, from);
    if (a == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "%zu bytes that are not an attestation", size);
    }
    struct certificate_attestation out;
    memset(&out, 0, sizeof out);
    if (a->n_chain == 0 || a->n_chain > TIDE_ATTESTATION_CHAIN_MAX) {
        return err_set(err, TIDE_ERR_CORRUPT, "attestation with %zu certificates, expected 1 to %u",
                       a->n_chain, TIDE_ATTESTATION_CHAIN_MAX);
    }
    if (a->signature.len > TIDE_ATTESTATION_SIGNATURE_MAX ||
        a->statement.len > TIDE_STATEMENT_MAX ||
        !locate(&a->statement, from, size, &out.statement) ||
        !locate(&a->signature, from, size, &out.signature)) {
        return err_set(
            err, TIDE_ERR_CORRUPT,
            "attestation with a statement of %zu and a signature of %zu bytes, expected 1 "
            "to %u and 1 to %u",
            a->statement.len, a->signature.len, TIDE_STATEMENT_MAX, TIDE_ATTESTATION_SIGNATURE_MAX);
    }
    for (size_t i = 0; i < a->n_chain; i++) {
        if (!locate(&a->chain[i], from, size, &out.chain[i])) {
            return err_set(err, TIDE_ERR_CORRUPT, "attestation with an empty certificate");
        }
    }
    out.chain_count = (unsigned)a->n_chain;
    *ret = out;
    return 0;
}
