/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/tapctl.h"

#include "common/core/bytes.h"
#include "common/core/check.h"

#include <string.h>

#define MAGIC  0x4c544354U /* "TCTL" */
#define HEADER 16U

/* One description of each message serves both directions: a codec either reads or writes. The first
 * wrong value is remembered by name. */
struct codec {
    bool writing;
    struct bytes_reader r;
    struct bytes_writer w;
    const char *wrong; /* what was out of range; NULL: nothing so far */
};

static void wrong(struct codec *c, const char *what)
{
    if (c->wrong == NULL) {
        c->wrong = what;
    }
}

static void u8(struct codec *c, uint8_t *v)
{
    if (c->writing) {
        bytes_put_u8(&c->w, *v);
    } else {
        *v = bytes_get_u8(&c->r);
    }
}

static void u16(struct codec *c, uint16_t *v)
{
    if (c->writing) {
        bytes_put_u16(&c->w, *v);
    } else {
        *v = bytes_get_u16(&c->r);
    }
}

static void u32(struct codec *c, uint32_t *v)
{
    if (c->writing) {
        bytes_put_u32(&c->w, *v);
    } else {
        *v = bytes_get_u32(&c->r);
    }
}

static void u64(struct codec *c, uint64_t *v)
{
    if (c->writing) {
        bytes_put_u64(&c->w, *v);
    } else {
        *v = bytes_get_u64(&c->r);
    }
}

static void raw(struct codec *c, void *v, size_t size)
{
    if (c->writing) {
        bytes_put(&c->w, v, size);
    } else {
        bytes_get(&c->r, v, size);
    }
}

static void zeroes(struct codec *c, size_t size)
{
    if (c->writing) {
        bytes_put_zero(&c->w, size);
    } else if (!bytes_get_zero(&c->r, size)) {
        wrong(c, "reserved bytes");
    }
}

static void flag(struct codec *c, bool *v, const char *what)
{
    uint8_t b = *v ? 1 : 0;
    u8(c, &b);
    if (b > 1) {
        wrong(c, what);
    }
    *v = b == 1;
}

static void id(struct codec *c, struct id *v)
{
    raw(c, v->b, sizeof v->b);
}

static void hash(struct codec *c, struct hash *v)
{
    raw(c, v->b, sizeof v->b);
}

/* Fixed size in the message; must hold a NUL, and nothing but zeroes after it. */
static void text(struct codec *c, char v[TIDE_TAPCTL_TEXT_MAX + 1], const char *what)
{
    const size_t size = TIDE_TAPCTL_TEXT_MAX + 1;
    if (c->writing) {
        size_t used = strnlen(v, size);
        if (used == size) {
            wrong(c, what);
            return;
        }
        bytes_put(&c->w, v, used);
        bytes_put_zero(&c->w, size - used);
        return;
    }
    bytes_get(&c->r, v, size);
    size_t used = strnlen(v, size);
    for (size_t i = used; i < size; i++) {
        if (v[i] != '\0') {
            wrong(c, what);
        }
    }
    if (used == size) {
        v[size - 1] = '\0';
        wrong(c, what);
    }
}

static void outcome(struct codec *c, enum round_outcome *v, bool may_be_none)
{
    uint8_t b = (uint8_t)*v;
    u8(c, &b);
    if (!(b == 0 && may_be_none) && (b < ROUND_OUTCOME_HELD || b > ROUND_OUTCOME_UNHELD)) {
        wrong(c, "outcome");
        b = 0;
    }
    *v = (enum round_outcome)b;
}

static void set(struct codec *c, struct set *v)
{
    uint8_t bits[TIDE_DISKS_MAX / 8] = {0};
    uint16_t count = v->count;
    memcpy(bits, v->bits, sizeof bits);
    u16(c, &count);
    raw(c, bits, sizeof bits);
    struct set checked = {0};
    size_t used = ((size_t)count + 7) / 8;
    bool ok = count >= 1 && count <= TIDE_DISKS_MAX && set_parse(count, bits, used, &checked);
    for (size_t i = used; ok && i < sizeof bits; i++) {
        ok = bits[i] == 0;
    }
    if (!ok) {
        wrong(c, "set of disks");
        return;
    }
    *v = checked;
}

static void hold(struct codec *c, struct tapctl_hold *v)
{
    struct round_order *o = &v->order;
    uint8_t scope = (uint8_t)o->scope;
    uint8_t kind = (uint8_t)o->kind;
    id(c, &o->round);
    id(c, &o->group);
    u64(c, &o->epoch.number);
    hash(c, &o->epoch.hash);
    u8(c, &scope);
    u8(c, &kind);
    set(c, &o->set);
    u64(c, &v->incarnation);
    u32(c, &v->budget_us);
    flag(c, &v->unheld, "unheld");
    u8(c, &v->quiesce);
    zeroes(c, 2);
    hash(c, &v->quiesce_proof);
    if (scope != ROUND_SCOPE_GROUP && scope != ROUND_SCOPE_MEMBER) {
        wrong(c, "scope");
        return;
    }
    if (kind != ROUND_KIND_CRASH && kind != ROUND_KIND_APPLICATION) {
        wrong(c, "kind");
        return;
    }
    if (v->quiesce > 1) {
        wrong(c, "quiesce");
        return;
    }
    /* What a bookmark cannot carry must not get as far as the log. */
    if (id_is_zero(&o->round) || id_is_zero(&o->group) || o->epoch.number == 0) {
        wrong(c, "zero round, group or epoch");
        return;
    }
    o->scope = (enum round_scope)scope;
    o->kind = (enum round_kind)kind;
}

static void attest(struct codec *c, struct tapctl_attest *v)
{
    id(c, &v->round);
    u32(c, &v->size);
    if (v->size < 1 || v->size > TIDE_TAPCTL_ATTEST_MAX) {
        wrong(c, "attestation size");
        return;
    }
    if (id_is_zero(&v->round)) {
        wrong(c, "zero round");
    }
    raw(c, v->bytes, v->size);
    zeroes(c, TIDE_TAPCTL_ATTEST_MAX - v->size);
}

static void welcome(struct codec *c, struct tapctl_welcome *v)
{
    id(c, &v->stream);
    id(c, &v->timeline);
    id(c, &v->disk);
    u64(c, &v->incarnation);
    u64(c, &v->size);
    u32(c, &v->block_size);
    u32(c, &v->ring_files);
    u64(c, &v->ring_file_size);
    u64(c, &v->stored_lsn);
    u64(c, &v->tail_lsn);
    u64(c, &v->tail_position);
    u64(c, &v->tail_incarnation);
    u64(c, &v->next_lsn);
    flag(c, &v->whole, "whole");
    flag(c, &v->logging, "logging");
    text(c, v->name, "name");
    if (v->ring_files < 1 || v->ring_files > TIDE_TAPCTL_RING_FILES_MAX) {
        wrong(c, "ring files");
    }
    if (v->ring_file_size == 0 || v->ring_file_size > (uint64_t)1 << 40) {
        wrong(c, "ring file size");
    }
    if (v->block_size == 0) {
        wrong(c, "block size");
    }
}

static void held(struct codec *c, struct tapctl_held *v)
{
    id(c, &v->round);
    id(c, &v->mark.stream);
    u64(c, &v->mark.incarnation);
    u64(c, &v->mark.lsn);
    id(c, &v->mark.nonce);
    u32(c, &v->budget_us);
}

static void refused(struct codec *c, struct tapctl_refused *v)
{
    uint8_t reason = (uint8_t)v->reason;
    id(c, &v->round);
    u8(c, &reason);
    outcome(c, &v->outcome, true);
    text(c, v->text, "text");
    if (round_reason_name(reason) == NULL) {
        wrong(c, "reason");
        reason = 0;
    }
    v->reason = (enum round_reason)reason;
}

static void sealed(struct codec *c, struct tapctl_sealed *v)
{
    id(c, &v->round);
    outcome(c, &v->outcome, false);
    flag(c, &v->appended, "appended");
    u64(c, &v->bookmark_lsn);
    u64(c, &v->seal_lsn);
    u64(c, &v->hold_us);
    u64(c, &v->writes_held);
    u64(c, &v->bytes_held);
}

static void synced(struct codec *c, struct tapctl_synced *v)
{
    u64(c, &v->lsn);
    u64(c, &v->position);
    flag(c, &v->failed, "failed");
}

const char *tapctl_copy_name(enum tapctl_copy copy)
{
    static const char *const names[] = {"none",    "off",     "running",
                                        "waiting", "failing", "comparing"};
    return (unsigned)copy < sizeof names / sizeof names[0] ? names[copy] : NULL;
}

static void state(struct codec *c, struct tapctl_state *v)
{
    uint64_t *const numbers[] = {
        &v->incarnation, &v->next_lsn,  &v->synced_lsn,     &v->checkpoint_lsn, &v->stored_lsn,
        &v->ring_bytes,  &v->ring_used, &v->writes,         &v->bytes,          &v->holds,
        &v->hold_us_max, &v->gap_lsn,   &v->size,           &v->dirty_bytes,    &v->copy_total,
        &v->copy_rate,   &v->copy_lsn,  &v->compare_offset, &v->restreams};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        u64(c, numbers[i]);
    }
    uint8_t copy = (uint8_t)v->copy;
    u32(c, &v->clients);
    u8(c, &v->gap_reason);
    u8(c, &copy);
    if (tapctl_copy_name((enum tapctl_copy)copy) == NULL) {
        wrong(c, "copy");
        return;
    }
    v->copy = (enum tapctl_copy)copy;
    flag(c, &v->whole, "whole");
    flag(c, &v->logging, "logging");
    flag(c, &v->holding, "holding");
    flag(c, &v->comparing, "comparing");
}

static void compared(struct codec *c, struct tapctl_compared *v)
{
    u64(c, &v->begin_lsn);
    u64(c, &v->offset);
    u32(c, &v->count);
    raw(c, v->differs, sizeof v->differs);
    if (v->count < 1 || v->count > TIDE_TAPCTL_COMPARED_MAX) {
        wrong(c, "count of blocks");
    }
    if (v->offset % TIDE_TAPCTL_BLOCK != 0 || v->offset > INT64_MAX) {
        wrong(c, "offset of the first block");
    }
}

static void order(struct codec *c, enum tapctl_type type, struct tapctl_order *v)
{
    u8(c, &v->resync);
    flag(c, &v->force, "force");
    zeroes(c, 6);
    id(c, &v->stream);
    bool resync = type == TAPCTL_RESYNC;
    if (resync ? v->resync < TAPCTL_RESYNC_NOW || v->resync > TAPCTL_RESYNC_FULL : v->resync != 0) {
        wrong(c, "way to resync");
    }
    if (type != TAPCTL_DETACH && v->force) {
        wrong(c, "force");
    }
    if ((type == TAPCTL_RESTREAM) == id_is_zero(&v->stream)) {
        wrong(c, "stream");
    }
}

static void done(struct codec *c, struct tapctl_done *v)
{
    uint8_t code = (uint8_t)v->code;
    u8(c, &code);
    text(c, v->text, "text");
    if (code > TIDE_ERR_UNKNOWN) {
        wrong(c, "code");
        code = TIDE_ERR_FAILED;
    }
    v->code = (enum err_code)code;
}

static void body(struct codec *c, struct tapctl *m)
{
    switch (m->type) {
    case TAPCTL_HELLO:
        u16(c, &m->version);
        break;
    case TAPCTL_HOLD:
        hold(c, &m->hold);
        break;
    case TAPCTL_RELEASE:
    case TAPCTL_ABORT:
        id(c, &m->round.round);
        hash(c, &m->round.cut);
        break;
    case TAPCTL_SYNC:
    case TAPCTL_STORED:
        u64(c, &m->lsn.lsn);
        break;
    case TAPCTL_ATTEST:
        attest(c, &m->attest);
        break;
    case TAPCTL_WELCOME:
        welcome(c, &m->welcome);
        break;
    case TAPCTL_HELD:
        held(c, &m->held);
        break;
    case TAPCTL_REFUSED:
        refused(c, &m->refused);
        break;
    case TAPCTL_SEALED:
        sealed(c, &m->sealed);
        break;
    case TAPCTL_SYNCED:
        synced(c, &m->synced);
        break;
    case TAPCTL_STATE:
        state(c, &m->state);
        break;
    case TAPCTL_COMPARED:
        compared(c, &m->compared);
        break;
    case TAPCTL_RESYNC:
    case TAPCTL_DETACH:
    case TAPCTL_RESTREAM:
    case TAPCTL_RESIZE:
        order(c, m->type, &m->order);
        break;
    case TAPCTL_DONE:
        done(c, &m->done);
        break;
    case TAPCTL_STATUS:
    case TAPCTL_REFUSE_BUSY:
        break;
    default:
        wrong(c, "type");
        break;
    }
}

size_t tapctl_encode(const struct tapctl *message, uint8_t to[TIDE_TAPCTL_SIZE_MAX])
{
    struct tapctl copy = *message;
    struct codec c = {.writing = true, .w = bytes_writer(to, TIDE_TAPCTL_SIZE_MAX)};
    bytes_put_zero(&c.w, HEADER);
    body(&c, &copy);
    TIDE_CHECK(c.wrong == NULL);
    TIDE_CHECK(!c.w.failed);
    struct bytes_writer head = bytes_writer(to, HEADER);
    bytes_put_u32(&head, MAGIC);
    bytes_put_u16(&head, TIDE_TAPCTL_VERSION);
    bytes_put_u16(&head, (uint16_t)message->type);
    bytes_put_u32(&head, (uint32_t)c.w.used);
    bytes_put_u32(&head, message->serial);
    TIDE_CHECK(!head.failed);
    return c.w.used;
}

int tapctl_decode(const void *from, size_t size, struct tapctl *ret, struct err *err)
{
    struct codec c = {.r = bytes_reader(from, size)};
    uint32_t magic = bytes_get_u32(&c.r);
    uint16_t version = bytes_get_u16(&c.r);
    uint16_t type = bytes_get_u16(&c.r);
    uint32_t whole = bytes_get_u32(&c.r);
    struct tapctl m;
    memset(&m, 0, sizeof m);
    m.serial = bytes_get_u32(&c.r);
    if (c.r.failed || magic != MAGIC) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "tap control message: no \"TCTL\" header in %zu bytes", size);
    }
    if (version != TIDE_TAPCTL_VERSION) {
        return err_set(err, TIDE_ERR_VERSION,
                       "tap control version %u: this build speaks %d; use the same release of tap "
                       "and daemon",
                       (unsigned)version, TIDE_TAPCTL_VERSION);
    }
    if (whole != size) {
        return err_set(err, TIDE_ERR_CORRUPT, "tap control message: says %u bytes, has %zu",
                       (unsigned)whole, size);
    }
    m.type = (enum tapctl_type)type;
    body(&c, &m);
    if (c.wrong != NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "tap control message type %u: wrong %s",
                       (unsigned)type, c.wrong);
    }
    if (c.r.failed || c.r.left != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "tap control message type %u: wrong size %zu",
                       (unsigned)type, size);
    }
    *ret = m;
    return 0;
}
