/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/record.h"

#include <string.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/core/planted.h"
#include "common/hrl/crc.h"

#define MAGIC            0x724c5248U /* "HRLr" */
#define NUMBER_MAX       INT64_MAX   /* LSNs, offsets, sizes: 63 bits */
#define CHECKED_FROM     8U          /* the checksum covers from here to the end of the body */
#define ATTACH_SIZE      152U
#define GAP_SIZE         160U
#define ZERO_SIZE        24U
#define COPY_BEGIN_SIZE  16U
#define COPY_END_SIZE    24U
#define RESIZE_SIZE      24U
#define BOOKMARK_SIZE    152U /* and the set's bits */
#define SEAL_SIZE        88U
#define ATTESTATION_HEAD 24U
#define ATTACH_CLEAN     1U
#define ATTACH_FIRST     2U
#define ATTACH_BASE_ZERO 4U
#define ZERO_DISCARD     1U
#define ZERO_COPY        2U
#define BOOKMARK_UNHELD  1U
#define BLOCK_SIZE_MIN   512U
#define BLOCK_SIZE_MAX   65536U

static const struct {
    unsigned number;
    const char *name;
} type_names[] =
    {
        {RECORD_ATTACH, "attach"},
        {RECORD_DETACH, "detach"},
        {RECORD_WRITE, "write"},
        {RECORD_ZERO, "zero"},
        {RECORD_BOOKMARK, "bookmark"},
        {RECORD_SEAL, "seal"},
        {RECORD_ATTESTATION, "attestation"},
        {RECORD_COPY_BEGIN, "copy-begin"},
        {RECORD_COPY_BLOCK, "copy-block"},
        {RECORD_COPY_END, "copy-end"},
        {RECORD_GAP, "gap"},
        {RECORD_RESIZE, "resize"},
        {RECORD_DEFINITION, "definition"},
},
  gap_names[] = {
      {RECORD_GAP_BASE, "base"},         {RECORD_GAP_POWER, "power"},
      {RECORD_GAP_SIZE, "size"},         {RECORD_GAP_MTIME, "mtime"},
      {RECORD_GAP_OVERFLOW, "overflow"}, {RECORD_GAP_IMAGE, "image"},
      {RECORD_GAP_LOG, "log"},           {RECORD_GAP_STATE, "state"},
      {RECORD_GAP_IDENTITY, "identity"}, {RECORD_GAP_ASKED, "asked"},
};

const char *record_type_name(unsigned type)
{
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++) {
        if (type_names[i].number == type) {
            return type_names[i].name;
        }
    }
    return NULL;
}

const char *record_copy_name(unsigned kind)
{
    static const char *const names[] = {NULL, "initial", "full", "changes"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : NULL;
}

const char *record_gap_name(unsigned reason)
{
    for (size_t i = 0; i < sizeof gap_names / sizeof gap_names[0]; i++) {
        if (gap_names[i].number == reason) {
            return gap_names[i].name;
        }
    }
    return NULL;
}

static size_t body_size(const struct record *record)
{
    switch (record->type) {
    case RECORD_ATTACH:
        return ATTACH_SIZE;
    case RECORD_WRITE:
        TIDE_CHECK(record->write.size <= TIDE_RECORD_DATA_MAX);
        return TIDE_RECORD_WRITE_PREFIX + (size_t)record->write.size;
    case RECORD_COPY_BLOCK:
        TIDE_CHECK(record->write.size <= TIDE_RECORD_COPY_MAX);
        return TIDE_RECORD_WRITE_PREFIX + (size_t)record->write.size;
    case RECORD_COPY_BEGIN:
        return COPY_BEGIN_SIZE;
    case RECORD_COPY_END:
        return COPY_END_SIZE;
    case RECORD_ZERO:
        return ZERO_SIZE;
    case RECORD_BOOKMARK:
        return BOOKMARK_SIZE + set_bytes(&record->bookmark.order.set);
    case RECORD_SEAL:
        return SEAL_SIZE;
    case RECORD_ATTESTATION:
        TIDE_CHECK(record->attestation.size <= TIDE_RECORD_ATTESTATION_MAX);
        return ATTESTATION_HEAD + record->attestation.size;
    case RECORD_GAP:
        return GAP_SIZE;
    case RECORD_RESIZE:
        return RESIZE_SIZE;
    case RECORD_DETACH:
    case RECORD_DEFINITION:
        break;
    }
    bool can_be_written = false;
    TIDE_CHECK(can_be_written);
    return 0;
}

static size_t padding_of(size_t body)
{
    return (8 - body % 8) % 8;
}

size_t record_padding(const struct record *record)
{
    return padding_of(body_size(record));
}

size_t record_size(const struct record *record)
{
    size_t body = body_size(record);
    return TIDE_RECORD_HEADER + body + padding_of(body);
}

/* ---- what a value may be: one list for both directions ---- */

static bool span_ok(uint64_t offset, uint64_t size)
{
    return offset <= NUMBER_MAX && size <= NUMBER_MAX - offset;
}

static bool text_ok(const char *text, size_t size)
{
    size_t used = strnlen(text, size);
    for (size_t i = used; i < size; i++) {
        if (text[i] != '\0') {
            return false;
        }
    }
    return used < size;
}

static const char *wrong_attach(const struct record *record)
{
    const struct record_attach *a = &record->attach;
    if (id_is_zero(&a->boot) || id_is_zero(&a->disk) || id_is_zero(&a->timeline)) {
        return "a zero id";
    }
    if (a->size == 0 || a->size > NUMBER_MAX) {
        return "the disk's size";
    }
    if (a->block_size < BLOCK_SIZE_MIN || a->block_size > BLOCK_SIZE_MAX ||
        (a->block_size & (a->block_size - 1)) != 0) {
        return "the block size";
    }
    if (a->first != (record->lsn == 1) || (a->base_zero && !a->first)) {
        return "`first` or `base zero`";
    }
    if ((a->replayed_from == 0) != (a->replayed_to == 0) || a->replayed_from > a->replayed_to ||
        a->replayed_to >= record->lsn) {
        return "the replayed range";
    }
    return text_ok(a->serial, sizeof a->serial) ? NULL : "the serial's end";
}

static const char *wrong_gap(const struct record *record)
{
    const struct record_gap *g = &record->gap;
    if (record_gap_name(g->reason) == NULL) {
        return "the reason";
    }
    if (g->from_lsn == 0 || g->from_lsn > record->lsn) {
        return "the LSN it speaks from";
    }
    if (!span_ok(g->offset, g->size) || (g->size == 0 && g->offset != 0)) {
        return "the range";
    }
    return text_ok(g->text, sizeof g->text) ? NULL : "the text's end";
}

static const char *wrong_bookmark(const struct record *record)
{
    const struct record_bookmark *b = &record->bookmark;
    const struct round_order *o = &b->order;
    if (id_is_zero(&o->round) || id_is_zero(&o->group) || id_is_zero(&b->nonce)) {
        return "a zero id";
    }
    if (o->epoch.number == 0) {
        return "epoch 0";
    }
    if (round_scope_name(o->scope) == NULL) {
        return "the scope";
    }
    if (round_kind_name(o->kind) == NULL) {
        return "the kind";
    }
    if (b->quiesce > 1) {
        return "the quiesce byte";
    }
    return set_size(&o->set) == 0 ? "an empty set" : NULL;
}

static const char *wrong_seal(const struct record *record)
{
    const struct record_seal *s = &record->seal;
    if (id_is_zero(&s->round)) {
        return "a zero round id";
    }
    if (s->bookmark_lsn == 0 || s->bookmark_lsn >= record->lsn) {
        return "the bookmark's LSN";
    }
    if (round_outcome_name(s->outcome) == NULL) {
        return "the outcome";
    }
    if (s->outcome != ROUND_OUTCOME_HELD && s->outcome != ROUND_OUTCOME_UNHELD &&
        !hash_is_zero(&s->cut)) {
        return "a cut hash in a seal that is neither held nor unheld";
    }
    return NULL;
}

static const char *wrong_write(const struct record *record)
{
    const struct record_write *w = &record->write;
    if (w->size == 0 || !span_ok(w->offset, w->size)) {
        return "the range";
    }
    return w->discard && w->copy ? "both `discard` and `copy`" : NULL;
}

static const char *wrong_copy_begin(const struct record *record)
{
    const struct record_copy_begin *c = &record->copy_begin;
    if (record_copy_name(c->kind) == NULL) {
        return "the kind of copy";
    }
    return c->size == 0 || c->size > NUMBER_MAX ? "the disk's size" : NULL;
}

static const char *wrong_copy_end(const struct record *record)
{
    const struct record_copy_end *c = &record->copy_end;
    if (c->begin_lsn == 0 || c->begin_lsn >= record->lsn) {
        return "the LSN of its begin";
    }
    return span_ok(c->copied, c->zeroes) ? NULL : "the bytes copied";
}

static const char *wrong_resize(const struct record *record)
{
    const struct record_resize *z = &record->resize;
    bool ok = z->size != 0 && z->size <= NUMBER_MAX && z->before != 0 && z->before <= NUMBER_MAX;
    return ok && z->size != z->before ? NULL : "the disk's size";
}

/* What is wrong with the values of a record of a known type; NULL: nothing. */
static const char *wrong_value(const struct record *record)
{
    if (record->lsn == 0 || record->lsn > NUMBER_MAX) {
        return "the LSN";
    }
    if (record->incarnation == 0) {
        return "incarnation 0";
    }
    if (id_is_zero(&record->stream)) {
        return "a zero stream id";
    }
    switch (record->type) {
    case RECORD_ATTACH:
        return wrong_attach(record);
    case RECORD_WRITE:
    case RECORD_ZERO:
    case RECORD_COPY_BLOCK:
        return wrong_write(record);
    case RECORD_COPY_BEGIN:
        return wrong_copy_begin(record);
    case RECORD_COPY_END:
        return wrong_copy_end(record);
    case RECORD_BOOKMARK:
        return wrong_bookmark(record);
    case RECORD_SEAL:
        return wrong_seal(record);
    case RECORD_ATTESTATION:
        return record->attestation.size == 0 || id_is_zero(&record->attestation.round)
                   ? "the round or the size"
                   : NULL;
    case RECORD_GAP:
        return wrong_gap(record);
    case RECORD_RESIZE:
        return wrong_resize(record);
    case RECORD_DETACH:
    case RECORD_DEFINITION:
        break;
    }
    return "the type";
}

/* ---- encoding ---- */

static void put_id(struct bytes_writer *w, const struct id *id)
{
    bytes_put(w, id->b, sizeof id->b);
}

static void put_hash(struct bytes_writer *w, const struct hash *hash)
{
    bytes_put(w, hash->b, sizeof hash->b);
}

static void put_header(struct bytes_writer *w, const struct record *record, size_t body)
{
    bytes_put_u32(w, MAGIC);
    bytes_put_u32(w, 0); /* checksum, set at the end */
    bytes_put_u16(w, (uint16_t)record->type);
    bytes_put_u16(w, record->type == RECORD_ATTESTATION ? TIDE_RECORD_MAY_SKIP : 0);
    bytes_put_u32(w, (uint32_t)body);
    bytes_put_u64(w, record->lsn);
    bytes_put_u64(w, record->incarnation);
    put_id(w, &record->stream);
    bytes_put_u64(w, record->mono_ns);
    bytes_put_u64(w, 0);
}

static void put_checksum(uint8_t *to, uint32_t crc)
{
    struct bytes_writer w = bytes_writer(to + 4, 4);
    bytes_put_u32(&w, crc);
}

static void put_write_prefix(struct bytes_writer *w, const struct record_write *write)
{
    bytes_put_u64(w, write->offset);
    bytes_put_u32(w, (uint32_t)write->size);
    bytes_put_u32(w, 0);
}

static void put_attach(struct bytes_writer *w, const struct record_attach *a)
{
    put_id(w, &a->boot);
    put_id(w, &a->disk);
    put_id(w, &a->timeline);
    bytes_put_u64(w, a->size);
    bytes_put_u32(w, a->block_size);
    bytes_put_u32(w, (a->clean ? ATTACH_CLEAN : 0) | (a->first ? ATTACH_FIRST : 0) |
                         (a->base_zero ? ATTACH_BASE_ZERO : 0));
    bytes_put_u64(w, a->replayed_from);
    bytes_put_u64(w, a->replayed_to);
    bytes_put_u64(w, a->mtime_ns);
    bytes_put(w, a->serial, sizeof a->serial);
}

static void put_gap(struct bytes_writer *w, const struct record_gap *g)
{
    bytes_put_u32(w, g->reason);
    bytes_put_u32(w, 0);
    bytes_put_u64(w, g->from_lsn);
    bytes_put_u64(w, g->offset);
    bytes_put_u64(w, g->size);
    bytes_put(w, g->text, sizeof g->text);
}

static void put_bookmark(struct bytes_writer *w, const struct record_bookmark *b)
{
    const struct round_order *o = &b->order;
    put_id(w, &o->round);
    put_id(w, &o->group);
    bytes_put_u64(w, o->epoch.number);
    put_hash(w, &o->epoch.hash);
    put_id(w, &b->nonce);
    bytes_put_u8(w, (uint8_t)o->scope);
    bytes_put_u8(w, (uint8_t)o->kind);
    bytes_put_u8(w, b->quiesce);
    bytes_put_u8(w, b->unheld ? BOOKMARK_UNHELD : 0);
    bytes_put_u32(w, b->budget_us);
    bytes_put_u64(w, b->wall_ns);
    bytes_put_u64(w, b->mono_ns);
    bytes_put_u32(w, b->wall_error_us);
    bytes_put_u16(w, o->set.count);
    bytes_put_u16(w, 0);
    put_hash(w, &b->quiesce_proof);
    bytes_put(w, o->set.bits, set_bytes(&o->set));
}

static void put_seal(struct bytes_writer *w, const struct record_seal *s)
{
    put_id(w, &s->round);
    bytes_put_u64(w, s->bookmark_lsn);
    bytes_put_u8(w, (uint8_t)s->outcome);
    bytes_put_zero(w, 7);
    put_hash(w, &s->cut);
    bytes_put_u64(w, s->hold_us);
    bytes_put_u64(w, s->writes_held);
    bytes_put_u64(w, s->bytes_held);
}

static void put_body(struct bytes_writer *w, const struct record *record)
{
    switch (record->type) {
    case RECORD_ATTACH:
        put_attach(w, &record->attach);
        break;
    case RECORD_WRITE:
    case RECORD_COPY_BLOCK:
        put_write_prefix(w, &record->write);
        bytes_put(w, record->write.data, (size_t)record->write.size);
        break;
    case RECORD_ZERO:
        bytes_put_u64(w, record->write.offset);
        bytes_put_u64(w, record->write.size);
        bytes_put_u32(w, (record->write.discard ? ZERO_DISCARD : 0) |
                             (record->write.copy ? ZERO_COPY : 0));
        bytes_put_u32(w, 0);
        break;
    case RECORD_COPY_BEGIN:
        bytes_put_u32(w, record->copy_begin.kind);
        bytes_put_u32(w, 0);
        bytes_put_u64(w, record->copy_begin.size);
        break;
    case RECORD_COPY_END:
        bytes_put_u64(w, record->copy_end.begin_lsn);
        bytes_put_u64(w, record->copy_end.copied);
        bytes_put_u64(w, record->copy_end.zeroes);
        break;
    case RECORD_RESIZE:
        bytes_put_u64(w, record->resize.size);
        bytes_put_u64(w, record->resize.before);
        bytes_put_u64(w, 0);
        break;
    case RECORD_BOOKMARK:
        put_bookmark(w, &record->bookmark);
        break;
    case RECORD_SEAL:
        put_seal(w, &record->seal);
        break;
    case RECORD_ATTESTATION:
        put_id(w, &record->attestation.round);
        bytes_put_u32(w, record->attestation.size);
        bytes_put_u32(w, 0);
        bytes_put(w, record->attestation.bytes, record->attestation.size);
        break;
    case RECORD_GAP:
        put_gap(w, &record->gap);
        break;
    case RECORD_DETACH:
    case RECORD_DEFINITION:
        break; /* body_size() refused it */
    }
}

size_t record_encode(const struct record *record, void *to, size_t size)
{
    size_t body = body_size(record);
    TIDE_CHECK(wrong_value(record) == NULL);
    struct bytes_writer w = bytes_writer(to, size);
    put_header(&w, record, body);
    put_body(&w, record);
    bytes_put_zero(&w, padding_of(body));
    TIDE_CHECK(!w.failed);
    TIDE_CHECK(w.used == TIDE_RECORD_HEADER + body + padding_of(body));
    put_checksum(w.base, crc32c(w.base + CHECKED_FROM, TIDE_RECORD_HEADER - CHECKED_FROM + body));
    return w.used;
}

void record_encode_write_head(const struct record *record,
                              uint8_t ret_head[TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX])
{
    TIDE_CHECK(record->type == RECORD_WRITE || record->type == RECORD_COPY_BLOCK);
    TIDE_CHECK(wrong_value(record) == NULL);
    struct bytes_writer w = bytes_writer(ret_head, TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX);
    put_header(&w, record, body_size(record));
    put_write_prefix(&w, &record->write);
    TIDE_CHECK(!w.failed && w.used == w.size);
    uint32_t crc = crc32c(ret_head + CHECKED_FROM, w.used - CHECKED_FROM);
    put_checksum(ret_head, crc32c_extend(crc, record->write.data, (size_t)record->write.size));
}

/* ---- decoding: a body's fields; false where a reserved byte or flag is set or it is too short
 * ---- */

static void get_id(struct bytes_reader *r, struct id *ret)
{
    bytes_get(r, ret->b, sizeof ret->b);
}

static void get_hash(struct bytes_reader *r, struct hash *ret)
{
    bytes_get(r, ret->b, sizeof ret->b);
}

static bool get_attach(struct bytes_reader *r, struct record_attach *ret)
{
    get_id(r, &ret->boot);
    get_id(r, &ret->disk);
    get_id(r, &ret->timeline);
    ret->size = bytes_get_u64(r);
    ret->block_size = bytes_get_u32(r);
    uint32_t flags = bytes_get_u32(r);
    ret->clean = (flags & ATTACH_CLEAN) != 0;
    ret->first = (flags & ATTACH_FIRST) != 0;
    ret->base_zero = (flags & ATTACH_BASE_ZERO) != 0;
    ret->replayed_from = bytes_get_u64(r);
    ret->replayed_to = bytes_get_u64(r);
    ret->mtime_ns = bytes_get_u64(r);
    bytes_get(r, ret->serial, sizeof ret->serial);
    return (flags & ~(ATTACH_CLEAN | ATTACH_FIRST | ATTACH_BASE_ZERO)) == 0;
}

static bool get_gap(struct bytes_reader *r, struct record_gap *ret)
{
    uint32_t reason = bytes_get_u32(r);
    if (record_gap_name(reason) == NULL || !bytes_get_zero(r, 4)) {
        return false;
    }
    ret->reason = (enum record_gap_reason)reason;
    ret->from_lsn = bytes_get_u64(r);
    ret->offset = bytes_get_u64(r);
    ret->size = bytes_get_u64(r);
    bytes_get(r, ret->text, sizeof ret->text);
    return true;
}

static bool get_write(struct bytes_reader *r, uint64_t max, struct record_write *ret)
{
    ret->offset = bytes_get_u64(r);
    ret->size = bytes_get_u32(r);
    bool zero = bytes_get_zero(r, 4);
    if (ret->size > max) {
        return false;
    }
    ret->data = bytes_skip(r, (size_t)ret->size);
    return zero;
}

static bool get_zero(struct bytes_reader *r, struct record_write *ret)
{
    ret->offset = bytes_get_u64(r);
    ret->size = bytes_get_u64(r);
    uint32_t flags = bytes_get_u32(r);
    ret->discard = (flags & ZERO_DISCARD) != 0;
    ret->copy = (flags & ZERO_COPY) != 0;
    return bytes_get_zero(r, 4) && (flags & ~(ZERO_DISCARD | ZERO_COPY)) == 0;
}

static bool get_copy_begin(struct bytes_reader *r, struct record_copy_begin *ret)
{
    uint32_t kind = bytes_get_u32(r);
    if (record_copy_name(kind) == NULL || !bytes_get_zero(r, 4)) {
        return false;
    }
    ret->kind = (enum record_copy_kind)kind;
    ret->size = bytes_get_u64(r);
    return true;
}

static bool get_copy_end(struct bytes_reader *r, struct record_copy_end *ret)
{
    ret->begin_lsn = bytes_get_u64(r);
    ret->copied = bytes_get_u64(r);
    ret->zeroes = bytes_get_u64(r);
    return true;
}

static bool get_resize(struct bytes_reader *r, struct record_resize *ret)
{
    ret->size = bytes_get_u64(r);
    ret->before = bytes_get_u64(r);
    return bytes_get_zero(r, 8);
}

static bool get_bookmark(struct bytes_reader *r, struct record_bookmark *ret)
{
    struct round_order *o = &ret->order;
    get_id(r, &o->round);
    get_id(r, &o->group);
    o->epoch.number = bytes_get_u64(r);
    get_hash(r, &o->epoch.hash);
    get_id(r, &ret->nonce);
    o->scope = (enum round_scope)bytes_get_u8(r);
    o->kind = (enum round_kind)bytes_get_u8(r);
    ret->quiesce = bytes_get_u8(r);
    uint8_t flags = bytes_get_u8(r);
    ret->unheld = (flags & BOOKMARK_UNHELD) != 0;
    ret->budget_us = bytes_get_u32(r);
    ret->wall_ns = bytes_get_u64(r);
    ret->mono_ns = bytes_get_u64(r);
    ret->wall_error_us = bytes_get_u32(r);
    uint16_t count = bytes_get_u16(r);
    bool zero = bytes_get_zero(r, 2);
    get_hash(r, &ret->quiesce_proof);
    size_t size = r->left;
    const uint8_t *bits = bytes_skip(r, size);
    return zero && bits != NULL && (flags & ~BOOKMARK_UNHELD) == 0 &&
           set_parse(count, bits, size, &o->set);
}

static bool get_seal(struct bytes_reader *r, struct record_seal *ret)
{
    get_id(r, &ret->round);
    ret->bookmark_lsn = bytes_get_u64(r);
    ret->outcome = (enum round_outcome)bytes_get_u8(r);
    bool zero = bytes_get_zero(r, 7);
    get_hash(r, &ret->cut);
    ret->hold_us = bytes_get_u64(r);
    ret->writes_held = bytes_get_u64(r);
    ret->bytes_held = bytes_get_u64(r);
    return zero;
}

static bool get_attestation(struct bytes_reader *r, struct record_attestation *ret)
{
    get_id(r, &ret->round);
    ret->size = bytes_get_u32(r);
    bool zero = bytes_get_zero(r, 4);
    ret->bytes = bytes_skip(r, ret->size);
    return zero && ret->size <= TIDE_RECORD_ATTESTATION_MAX;
}

/* 1 decoded, 0 broken, -1 a type that this build does not know. */
static int get_body(struct bytes_reader *r, unsigned type, struct record *ret)
{
    switch (type) {
    case RECORD_ATTACH:
        return get_attach(r, &ret->attach);
    case RECORD_WRITE:
        return get_write(r, TIDE_RECORD_DATA_MAX, &ret->write);
    case RECORD_COPY_BLOCK:
        return get_write(r, TIDE_RECORD_COPY_MAX, &ret->write);
    case RECORD_COPY_BEGIN:
        return get_copy_begin(r, &ret->copy_begin);
    case RECORD_COPY_END:
        return get_copy_end(r, &ret->copy_end);
    case RECORD_ZERO:
        return get_zero(r, &ret->write);
    case RECORD_BOOKMARK:
        return get_bookmark(r, &ret->bookmark);
    case RECORD_SEAL:
        return get_seal(r, &ret->seal);
    case RECORD_ATTESTATION:
        return get_attestation(r, &ret->attestation);
    case RECORD_GAP:
        return get_gap(r, &ret->gap);
    case RECORD_RESIZE:
        return get_resize(r, &ret->resize);
    default:
        return -1;
    }
}

/* The body's size with padding, from a head that may lie; 0 where it is out of bounds. */
static size_t whole_size(uint32_t body)
{
    if (body > TIDE_RECORD_WRITE_PREFIX + TIDE_RECORD_DATA_MAX) {
        return 0;
    }
    return TIDE_RECORD_HEADER + (size_t)body + padding_of(body);
}

static int corrupt(struct err *err, const struct record *record, const char *what)
{
    const char *name = record_type_name(record->type);
    return err_set(err, TIDE_ERR_CORRUPT, "record \"%s\" (type %u) with lsn %llu: %s is wrong",
                   name != NULL ? name : "?", (unsigned)record->type,
                   (unsigned long long)record->lsn, what);
}

static int decode_values(struct bytes_reader *body, unsigned flags, struct record *record,
                         struct err *err)
{
    struct record got = *record;
    bool may_skip = (flags & TIDE_RECORD_MAY_SKIP) != 0;
    int known = get_body(body, record->type, &got);
    if (known < 0) {
        got.type = RECORD_ATTESTATION; /* header fields alone: any type without rules on the LSN */
        got.attestation = (struct record_attestation){.round = got.stream, .size = 1};
    } else if (known == 0 || body->failed || body->left != 0) {
        return corrupt(err, record, "the length of the body or a reserved byte or flag in it");
    } else if (may_skip != (record->type == RECORD_ATTESTATION)) {
        return corrupt(err, record, "the `may skip` flag");
    }
    const char *wrong = wrong_value(&got);
    if (wrong != NULL) {
        return corrupt(err, record, wrong);
    }
    if (known < 0 && !may_skip) {
        return err_set(err, TIDE_ERR_VERSION,
                       "record with lsn %llu has type %u, which this build does not know and may "
                       "not pass over: read it with a newer one",
                       (unsigned long long)record->lsn, (unsigned)record->type);
    }
    if (known > 0) {
        *record = got;
    }
    return 0;
}

int record_decode(const void *from, size_t size, struct record *ret, size_t *ret_size,
                  struct err *err)
{
    const uint8_t *base = from;
    struct bytes_reader r = bytes_reader(base, size);
    struct record record;
    memset(&record, 0, sizeof record);
    uint32_t magic = bytes_get_u32(&r);
    uint32_t crc = bytes_get_u32(&r);
    unsigned type = bytes_get_u16(&r);
    unsigned flags = bytes_get_u16(&r);
    uint32_t body = bytes_get_u32(&r);
    record.type = (enum record_type)type;
    record.lsn = bytes_get_u64(&r);
    record.incarnation = bytes_get_u64(&r);
    get_id(&r, &record.stream);
    record.mono_ns = bytes_get_u64(&r);
    bool zero = bytes_get_zero(&r, 8);
    if (size < TIDE_RECORD_HEADER) {
        return err_set(err, TIDE_ERR_LIMIT, "%zu bytes left where a record's head needs %u", size,
                       TIDE_RECORD_HEADER);
    }
    if (magic != MAGIC) {
        return err_set(err, TIDE_ERR_CORRUPT, "no record begins here: magic is 0x%08x", magic);
    }
    size_t whole = whole_size(body);
    if (whole == 0) {
        return corrupt(err, &record, "the body size");
    }
    if (whole > size) {
        return err_set(err, TIDE_ERR_LIMIT, "%zu bytes left where the record needs %zu", size,
                       whole);
    }
    uint32_t found = crc32c(base + CHECKED_FROM, TIDE_RECORD_HEADER - CHECKED_FROM + body);
    if (found != crc && !PLANTED(TORN_ACCEPTED)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "record with lsn %llu: checksum is 0x%08x, its bytes give 0x%08x",
                       (unsigned long long)record.lsn, crc, found);
    }
    if (!zero || (flags & ~TIDE_RECORD_MAY_SKIP) != 0) {
        return corrupt(err, &record, "a reserved byte or flag of the header");
    }
    struct bytes_reader pad =
        bytes_reader(base + TIDE_RECORD_HEADER + body, whole - TIDE_RECORD_HEADER - body);
    if (!bytes_get_zero(&pad, pad.left)) {
        return corrupt(err, &record, "the padding");
    }
    struct bytes_reader b = bytes_reader(base + TIDE_RECORD_HEADER, body);
    if (decode_values(&b, flags, &record, err) != 0) {
        return -1;
    }
    *ret = record;
    *ret_size = whole;
    return 0;
}

size_t record_due(const uint8_t *from, const struct id *stream, uint64_t lsn)
{
    struct bytes_reader r = bytes_reader(from, TIDE_RECORD_HEADER);
    uint32_t magic = bytes_get_u32(&r);
    bytes_skip(&r, 8);
    uint32_t body = bytes_get_u32(&r);
    uint64_t found = bytes_get_u64(&r);
    bytes_skip(&r, 8);
    struct id whose;
    get_id(&r, &whose);
    return magic == MAGIC && found == lsn && id_equal(&whose, stream) ? whole_size(body) : 0;
}
