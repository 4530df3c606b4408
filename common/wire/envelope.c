/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/envelope.h"

#include "common/core/check.h"
#include "proto/link.pb-c.h"

#include <string.h>

/* The largest valid message (a sum of 256 members) takes about 80 KiB while it is unpacked; empty
 * elements, two bytes each on the wire, would take megabytes. */
#define ARENA_SIZE (2 * TIDE_ENVELOPE_SIZE_MAX)
#define ALIGN      16U

struct arena {
    _Alignas(ALIGN) uint8_t bytes[ARENA_SIZE];
    size_t used;
    bool full;
};

static void *arena_alloc(void *context, size_t size)
{
    struct arena *arena = context;
    size_t left = ARENA_SIZE - arena->used;
    if (size > left) {
        arena->full = true;
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

const char *envelope_type_name(unsigned type)
{
    static const char names[][10] = {"heartbeat", "hold",   "held", "refused", "release",
                                     "abort",     "sealed", "sum",  "take",    "taken"};
    return type < MSG_HEARTBEAT || type > MSG_TAKEN ? NULL : names[type - MSG_HEARTBEAT];
}

/* ---- encode ---- */

union item { /* the largest arrays of one message */
    Tide__Link__Tap taps[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__Mark marks[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__Seal seals[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__MemberSum members[TIDE_MEMBERS_MAX];
};

union slot {
    Tide__Link__Tap *taps[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__Mark *marks[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__Seal *seals[TIDE_MEMBER_DISKS_MAX];
    Tide__Link__MemberSum *members[TIDE_MEMBERS_MAX];
};

union body {
    Tide__Link__Heartbeat heartbeat;
    Tide__Link__Hold hold;
    Tide__Link__Held held;
    Tide__Link__Refused refused;
    Tide__Link__Release release;
    Tide__Link__Abort abort;
    Tide__Link__Sealed sealed;
    Tide__Link__Sum sum;
    Tide__Link__Take take;
    Tide__Link__Taken taken;
};

struct packing {
    Tide__Link__Envelope envelope;
    union body body;
    union item items;
    union slot slots;
};

/* protobuf-c's structs have no const; packing does not write through them. */
static uint8_t *unconst(const void *from)
{
    union {
        const void *in;
        uint8_t *out;
    } u = {.in = from};
    return u.out;
}

static ProtobufCBinaryData bytes_of(const void *from, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = unconst(from)};
}

static ProtobufCBinaryData id_of(const struct id *id)
{
    return bytes_of(id->b, sizeof id->b);
}

static ProtobufCBinaryData optional_id_of(const struct id *id)
{
    return bytes_of(id->b, id_is_zero(id) ? 0 : sizeof id->b);
}

static char *text_of(const char *text, size_t room)
{
    TIDE_CHECK(memchr(text, 0, room) != NULL);
    return (char *)unconst(text);
}

static Tide__Link__Tap **encode_taps(const struct msg_tap *taps, unsigned count, struct packing *p)
{
    TIDE_CHECK(count <= TIDE_MEMBER_DISKS_MAX);
    for (unsigned i = 0; i < count; i++) {
        tide__link__tap__init(&p->items.taps[i]);
        p->items.taps[i].stream = id_of(&taps[i].stream);
        p->items.taps[i].incarnation = taps[i].incarnation;
        p->items.taps[i].whole = taps[i].whole;
        p->items.taps[i].gap = taps[i].gap;
        p->slots.taps[i] = &p->items.taps[i];
    }
    return p->slots.taps;
}

static void encode_heartbeat(const struct msg_heartbeat *from, struct packing *p)
{
    TIDE_CHECK(from->reach >= 1 && from->reach <= TIDE_MEMBERS_MAX && from->sequence > 0);
    Tide__Link__Heartbeat *to = &p->body.heartbeat;
    tide__link__heartbeat__init(to);
    to->reach = from->reach;
    to->n_taps = from->tap_count;
    to->taps = encode_taps(from->taps, from->tap_count, p);
    to->sequence = from->sequence;
    to->yield_round = optional_id_of(&from->yield_round);
    to->lack = (uint32_t)from->lack;
    to->lack_member = text_of(from->lack_member.s, sizeof from->lack_member.s);
    to->alone = from->alone;
    p->envelope.heartbeat = to;
}

static void encode_hold(const struct msg_hold *from, struct packing *p)
{
    TIDE_CHECK(from->tap_count > 0 && from->budget_us >= TIDE_HOLD_US_MIN);
    Tide__Link__Hold *to = &p->body.hold;
    tide__link__hold__init(to);
    to->round = id_of(&from->round);
    to->scope = (uint32_t)from->scope;
    to->kind = (uint32_t)from->kind;
    to->set_count = from->set.count;
    to->set = bytes_of(from->set.bits, set_bytes(&from->set));
    to->budget_us = from->budget_us;
    to->n_taps = from->tap_count;
    to->taps = encode_taps(from->taps, from->tap_count, p);
    p->envelope.hold = to;
}

static void encode_held(const struct msg_held *from, struct packing *p)
{
    TIDE_CHECK(from->mark_count > 0 && from->mark_count <= TIDE_MEMBER_DISKS_MAX);
    Tide__Link__Held *to = &p->body.held;
    tide__link__held__init(to);
    to->round = id_of(&from->round);
    for (unsigned i = 0; i < from->mark_count; i++) {
        Tide__Link__Mark *mark = &p->items.marks[i];
        tide__link__mark__init(mark);
        mark->stream = id_of(&from->marks[i].stream);
        mark->incarnation = from->marks[i].incarnation;
        mark->lsn = from->marks[i].lsn;
        mark->nonce = id_of(&from->marks[i].nonce);
        p->slots.marks[i] = mark;
    }
    to->n_marks = from->mark_count;
    to->marks = p->slots.marks;
    p->envelope.held = to;
}

static void encode_refused(const struct msg_refused *from, struct packing *p)
{
    TIDE_CHECK(from->reason != ROUND_REASON_NONE);
    Tide__Link__Refused *to = &p->body.refused;
    tide__link__refused__init(to);
    to->round = id_of(&from->round);
    to->reason = (uint32_t)from->reason;
    to->outcome = from->outcome;
    to->stream = optional_id_of(&from->stream);
    to->text = text_of(from->text, sizeof from->text);
    p->envelope.refused = to;
}

static void encode_sealed(const struct msg_sealed *from, struct packing *p)
{
    TIDE_CHECK(from->seal_count > 0 && from->seal_count <= TIDE_MEMBER_DISKS_MAX);
    Tide__Link__Sealed *to = &p->body.sealed;
    tide__link__sealed__init(to);
    to->round = id_of(&from->round);
    to->outcome = (uint32_t)from->outcome;
    for (unsigned i = 0; i < from->seal_count; i++) {
        Tide__Link__Seal *seal = &p->items.seals[i];
        tide__link__seal__init(seal);
        seal->stream = id_of(&from->seals[i].stream);
        seal->outcome = (uint32_t)from->seals[i].outcome;
        seal->appended = from->seals[i].appended;
        seal->lsn = from->seals[i].lsn;
        seal->hold_us = from->seals[i].hold_us;
        seal->writes_held = from->seals[i].writes_held;
        seal->bytes_held = from->seals[i].bytes_held;
        p->slots.seals[i] = seal;
    }
    to->n_seals = from->seal_count;
    to->seals = p->slots.seals;
    p->envelope.sealed = to;
}

static void encode_sum(const struct msg_sum *from, struct packing *p)
{
    TIDE_CHECK(from->member_count <= TIDE_MEMBERS_MAX);
    Tide__Link__Sum *to = &p->body.sum;
    tide__link__sum__init(to);
    to->round = id_of(&from->round);
    to->sealed_by_all = from->sealed_by_all;
    to->reason = (uint32_t)from->reason;
    to->member = text_of(from->member.s, sizeof from->member.s);
    to->text = text_of(from->text, sizeof from->text);
    to->hold_us_max = from->hold_us_max;
    for (unsigned i = 0; i < from->member_count; i++) {
        Tide__Link__MemberSum *member = &p->items.members[i];
        tide__link__member_sum__init(member);
        member->member = text_of(from->members[i].member.s, sizeof from->members[i].member.s);
        member->hold_us_max = from->members[i].hold_us_max;
        member->writes_held = from->members[i].writes_held;
        member->outcome = from->members[i].outcome;
        p->slots.members[i] = member;
    }
    to->n_members = from->member_count;
    to->members = p->slots.members;
    p->envelope.sum = to;
}

static void encode_small(const struct msg *msg, struct packing *p)
{
    if (msg->type == MSG_RELEASE) {
        tide__link__release__init(&p->body.release);
        p->body.release.round = id_of(&msg->release.round);
        p->body.release.cut_hash = bytes_of(msg->release.cut.b, sizeof msg->release.cut.b);
        p->envelope.release = &p->body.release;
    } else if (msg->type == MSG_ABORT) {
        TIDE_CHECK(msg->abort.reason != ROUND_REASON_NONE);
        tide__link__abort__init(&p->body.abort);
        p->body.abort.round = id_of(&msg->abort.round);
        p->body.abort.reason = (uint32_t)msg->abort.reason;
        p->envelope.abort = &p->body.abort;
    } else if (msg->type == MSG_TAKE) {
        tide__link__take__init(&p->body.take);
        p->body.take.request = id_of(&msg->take.request);
        p->body.take.kind = (uint32_t)msg->take.kind;
        p->envelope.take = &p->body.take;
    } else {
        TIDE_CHECK(msg->type == MSG_TAKEN);
        tide__link__taken__init(&p->body.taken);
        p->body.taken.request = id_of(&msg->taken.request);
        p->body.taken.round = optional_id_of(&msg->taken.round);
        p->body.taken.sealed = msg->taken.sealed;
        p->body.taken.reason = (uint32_t)msg->taken.reason;
        p->body.taken.member = text_of(msg->taken.member.s, sizeof msg->taken.member.s);
        p->body.taken.text = text_of(msg->taken.text, sizeof msg->taken.text);
        p->envelope.taken = &p->body.taken;
    }
}

static void encode_body(const struct msg *msg, struct packing *p)
{
    switch (msg->type) {
    case MSG_HEARTBEAT:
        encode_heartbeat(&msg->heartbeat, p);
        break;
    case MSG_HOLD:
        encode_hold(&msg->hold, p);
        break;
    case MSG_HELD:
        encode_held(&msg->held, p);
        break;
    case MSG_REFUSED:
        encode_refused(&msg->refused, p);
        break;
    case MSG_SEALED:
        encode_sealed(&msg->sealed, p);
        break;
    case MSG_SUM:
        encode_sum(&msg->sum, p);
        break;
    case MSG_RELEASE:
    case MSG_ABORT:
    case MSG_TAKE:
    case MSG_TAKEN:
    default:
        encode_small(msg, p);
        break;
    }
}

static void encode_version(const struct msg_head *head, Tide__Link__Envelope *to)
{
    uint32_t version_max = head->version_max == 0 ? TIDE_MSG_VERSION : head->version_max;
    TIDE_CHECK(head->version <= TIDE_MSG_VERSION);
    to->version = head->version == 0 ? TIDE_MSG_VERSION_MIN : head->version;
    to->version_max = version_max == to->version ? 0 : version_max;
}

size_t envelope_encode(const struct msg *msg, uint8_t to[TIDE_ENVELOPE_SIZE_MAX])
{
    const struct msg_head *head = &msg->head;
    TIDE_CHECK(head->incarnation != 0);
    TIDE_CHECK((head->epoch.number == 0) == hash_is_zero(&head->epoch.hash));
    struct packing p;
    tide__link__envelope__init(&p.envelope);
    encode_version(head, &p.envelope);
    p.envelope.features = head->features;
    p.envelope.group = id_of(&head->group);
    p.envelope.from = text_of(head->from.s, sizeof head->from.s);
    p.envelope.to = text_of(head->to.s, sizeof head->to.s);
    p.envelope.epoch = head->epoch.number;
    p.envelope.epoch_hash =
        bytes_of(head->epoch.hash.b, head->epoch.number == 0 ? 0 : sizeof head->epoch.hash.b);
    p.envelope.incarnation = head->incarnation;
    encode_body(msg, &p);
    p.envelope.body_case = (Tide__Link__Envelope__BodyCase)msg->type;
    size_t size = tide__link__envelope__get_packed_size(&p.envelope);
    TIDE_CHECK(size <= TIDE_ENVELOPE_SIZE_MAX);
    TIDE_CHECK(tide__link__envelope__pack(&p.envelope, to) == size);
    return size;
}

/* ---- decode ---- */

static int wrong(struct err *err, const char *what, const char *expected)
{
    return err_set(err, TIDE_ERR_CORRUPT, "field \"%s\" is wrong: %s", what, expected);
}

static int too_many(struct err *err, const char *what, size_t count, unsigned max)
{
    return err_set(err, TIDE_ERR_LIMIT, "\"%s\" has %zu elements, over the limit of %u", what,
                   count, max);
}

static int get_id(const ProtobufCBinaryData *from, bool optional, const char *what, struct id *ret,
                  struct err *err)
{
    if (optional && from->len == 0) {
        return 0; /* *ret is zero already */
    }
    if (from->len != sizeof ret->b) {
        return err_set(err, TIDE_ERR_CORRUPT, "field \"%s\" has %zu bytes, expected %zu", what,
                       from->len, sizeof ret->b);
    }
    memcpy(ret->b, from->data, sizeof ret->b);
    return id_is_zero(ret) ? wrong(err, what, "all zeroes") : 0;
}

static int get_hash(const ProtobufCBinaryData *from, const char *what, struct hash *ret,
                    struct err *err)
{
    if (from->len != sizeof ret->b) {
        return err_set(err, TIDE_ERR_CORRUPT, "field \"%s\" has %zu bytes, expected %zu", what,
                       from->len, sizeof ret->b);
    }
    memcpy(ret->b, from->data, sizeof ret->b);
    return hash_is_zero(ret) ? wrong(err, what, "all zeroes") : 0;
}

static int get_name(const char *from, bool optional, const char *what, struct name *ret,
                    struct err *err)
{
    if (optional && from[0] == '\0') {
        return 0;
    }
    return name_parse(from, ret) ? 0 : wrong(err, what, "not a name of 1 to 63 of a-z 0-9 . _ -");
}

/* What people see goes to terminals and JSON: printable ASCII only, anything else becomes '?'. */
static int get_text(const char *from, char *ret, size_t room, struct err *err)
{
    size_t length = strnlen(from, room);
    if (length >= room) {
        return err_set(err, TIDE_ERR_LIMIT, "field \"text\" is longer than %zu bytes", room - 1);
    }
    for (size_t i = 0; i < length; i++) {
        ret[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    }
    return 0;
}

static int get_enum(uint32_t value, const char *(*name)(unsigned), bool zero, const char *what,
                    struct err *err)
{
    if (value == 0 ? !zero : name(value) == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "field \"%s\" is %u, which this build does not know",
                       what, (unsigned)value);
    }
    return 0;
}

static int decode_taps(Tide__Link__Tap *const *from, size_t count, unsigned *ret_count,
                       struct msg_tap *ret, struct err *err)
{
    if (count > TIDE_MEMBER_DISKS_MAX) {
        return too_many(err, "taps", count, TIDE_MEMBER_DISKS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        if (get_id(&from[i]->stream, false, "stream", &ret[i].stream, err) != 0) {
            return -1;
        }
        ret[i].incarnation = from[i]->incarnation;
        ret[i].whole = from[i]->whole != 0;
        if (ret[i].whole && ret[i].incarnation == 0) {
            return wrong(err, "whole", "set for a tap that is not attached");
        }
        if (from[i]->gap > UINT8_MAX) {
            return wrong(err, "gap", "no reason of a gap");
        }
        ret[i].gap = (uint8_t)from[i]->gap;
    }
    *ret_count = (unsigned)count;
    return 0;
}

static int decode_heartbeat(const Tide__Link__Heartbeat *from, struct msg_heartbeat *ret,
                            struct err *err)
{
    if (from->reach < 1 || from->reach > TIDE_MEMBERS_MAX) {
        return wrong(err, "reach", "out of 1..256");
    }
    if (from->sequence == 0) {
        return wrong(err, "sequence", "0; it counts from 1");
    }
    ret->reach = from->reach;
    ret->sequence = from->sequence;
    if (get_id(&from->yield_round, true, "yield_round", &ret->yield_round, err) != 0 ||
        get_enum(from->lack, round_reason_name, true, "lack", err) != 0 ||
        get_name(from->lack_member, true, "lack_member", &ret->lack_member, err) != 0) {
        return -1;
    }
    ret->lack = (enum round_reason)from->lack;
    ret->alone = from->alone != 0;
    if (ret->lack == ROUND_REASON_NONE && (ret->alone || ret->lack_member.s[0] != '\0')) {
        return wrong(err, "lack", "0, with a member or with leave to go alone");
    }
    return decode_taps(from->taps, from->n_taps, &ret->tap_count, ret->taps, err);
}

static int decode_hold(const Tide__Link__Hold *from, struct msg_hold *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0 ||
        get_enum(from->scope, round_scope_name, false, "scope", err) != 0 ||
        get_enum(from->kind, round_kind_name, false, "kind", err) != 0) {
        return -1;
    }
    ret->scope = (enum round_scope)from->scope;
    ret->kind = (enum round_kind)from->kind;
    if (!set_parse(from->set_count, from->set.data, from->set.len, &ret->set)) {
        return wrong(err, "set", "empty, of the wrong size, or with bits past its count");
    }
    if (from->budget_us < TIDE_HOLD_US_MIN || from->budget_us > TIDE_HOLD_US_MAX) {
        return wrong(err, "budget_us", "out of 5000..300000");
    }
    ret->budget_us = from->budget_us;
    if (from->n_taps == 0) {
        return wrong(err, "taps", "none; a HOLD names the taps it is for");
    }
    return decode_taps(from->taps, from->n_taps, &ret->tap_count, ret->taps, err);
}

static int decode_held(const Tide__Link__Held *from, struct msg_held *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0) {
        return -1;
    }
    if (from->n_marks == 0) {
        return wrong(err, "marks", "none");
    }
    if (from->n_marks > TIDE_MEMBER_DISKS_MAX) {
        return too_many(err, "marks", from->n_marks, TIDE_MEMBER_DISKS_MAX);
    }
    for (size_t i = 0; i < from->n_marks; i++) {
        const Tide__Link__Mark *mark = from->marks[i];
        if (get_id(&mark->stream, false, "stream", &ret->marks[i].stream, err) != 0 ||
            get_id(&mark->nonce, false, "nonce", &ret->marks[i].nonce, err) != 0) {
            return -1;
        }
        if (mark->incarnation == 0 || mark->lsn == 0) {
            return wrong(err, "marks", "incarnation or LSN 0");
        }
        ret->marks[i].incarnation = mark->incarnation;
        ret->marks[i].lsn = mark->lsn;
    }
    ret->mark_count = (unsigned)from->n_marks;
    return 0;
}

static int decode_refused(const Tide__Link__Refused *from, struct msg_refused *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0 ||
        get_enum(from->reason, round_reason_name, false, "reason", err) != 0 ||
        get_enum(from->outcome, round_outcome_name, true, "outcome", err) != 0 ||
        get_id(&from->stream, true, "stream", &ret->stream, err) != 0 ||
        get_text(from->text, ret->text, sizeof ret->text, err) != 0) {
        return -1;
    }
    ret->reason = (enum round_reason)from->reason;
    ret->outcome = from->outcome;
    if ((ret->reason == ROUND_REASON_ENDED) != (ret->outcome != 0)) {
        return wrong(err, "outcome", "there is one with reason ended, and only then");
    }
    return 0;
}

static int decode_sealed(const Tide__Link__Sealed *from, struct msg_sealed *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0 ||
        get_enum(from->outcome, round_outcome_name, false, "outcome", err) != 0) {
        return -1;
    }
    ret->outcome = (enum round_outcome)from->outcome;
    if (from->n_seals == 0) {
        return wrong(err, "seals", "none");
    }
    if (from->n_seals > TIDE_MEMBER_DISKS_MAX) {
        return too_many(err, "seals", from->n_seals, TIDE_MEMBER_DISKS_MAX);
    }
    for (size_t i = 0; i < from->n_seals; i++) {
        const Tide__Link__Seal *seal = from->seals[i];
        struct msg_seal *to = &ret->seals[i];
        if (get_id(&seal->stream, false, "stream", &to->stream, err) != 0 ||
            get_enum(seal->outcome, round_outcome_name, false, "outcome", err) != 0) {
            return -1;
        }
        if ((seal->appended != 0) != (seal->lsn != 0)) {
            return wrong(err, "lsn", "a seal has an LSN if it was appended, and only then");
        }
        to->outcome = (enum round_outcome)seal->outcome;
        to->appended = seal->appended != 0;
        to->lsn = seal->lsn;
        to->hold_us = seal->hold_us;
        to->writes_held = seal->writes_held;
        to->bytes_held = seal->bytes_held;
    }
    ret->seal_count = (unsigned)from->n_seals;
    return 0;
}

static int decode_sum(const Tide__Link__Sum *from, struct msg_sum *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0 ||
        get_enum(from->reason, round_reason_name, true, "reason", err) != 0 ||
        get_name(from->member, true, "member", &ret->member, err) != 0 ||
        get_text(from->text, ret->text, sizeof ret->text, err) != 0) {
        return -1;
    }
    ret->sealed_by_all = from->sealed_by_all != 0;
    ret->reason = (enum round_reason)from->reason;
    if (ret->sealed_by_all != (ret->reason == ROUND_REASON_NONE)) {
        return wrong(err, "reason", "there is one unless all have sealed, and only then");
    }
    ret->hold_us_max = from->hold_us_max;
    if (from->n_members > TIDE_MEMBERS_MAX) {
        return too_many(err, "members", from->n_members, TIDE_MEMBERS_MAX);
    }
    for (size_t i = 0; i < from->n_members; i++) {
        const Tide__Link__MemberSum *member = from->members[i];
        if (get_name(member->member, false, "member", &ret->members[i].member, err) != 0 ||
            get_enum(member->outcome, round_outcome_name, true, "outcome", err) != 0) {
            return -1;
        }
        ret->members[i].hold_us_max = member->hold_us_max;
        ret->members[i].writes_held = member->writes_held;
        ret->members[i].outcome = member->outcome;
    }
    ret->member_count = (unsigned)from->n_members;
    return 0;
}

static int decode_taken(const Tide__Link__Taken *from, struct msg_taken *ret, struct err *err)
{
    if (get_id(&from->request, false, "request", &ret->request, err) != 0 ||
        get_id(&from->round, true, "round", &ret->round, err) != 0 ||
        get_enum(from->reason, round_reason_name, true, "reason", err) != 0 ||
        get_name(from->member, true, "member", &ret->member, err) != 0 ||
        get_text(from->text, ret->text, sizeof ret->text, err) != 0) {
        return -1;
    }
    ret->sealed = from->sealed != 0;
    ret->reason = (enum round_reason)from->reason;
    if (ret->sealed != (ret->reason == ROUND_REASON_NONE) ||
        (ret->sealed && id_is_zero(&ret->round))) {
        return wrong(err, "sealed", "it goes with a round and no reason");
    }
    return 0;
}

static int decode_release(const Tide__Link__Release *from, struct msg_release *ret, struct err *err)
{
    if (get_id(&from->round, false, "round", &ret->round, err) != 0) {
        return -1;
    }
    return get_hash(&from->cut_hash, "cut_hash", &ret->cut, err);
}

static int decode_abort(const Tide__Link__Abort *from, struct msg_abort *ret, struct err *err)
{
    ret->reason = (enum round_reason)from->reason;
    if (get_id(&from->round, false, "round", &ret->round, err) != 0) {
        return -1;
    }
    return get_enum(from->reason, round_reason_name, false, "reason", err);
}

static int decode_take(const Tide__Link__Take *from, struct msg_take *ret, struct err *err)
{
    ret->kind = (enum round_kind)from->kind;
    if (get_id(&from->request, false, "request", &ret->request, err) != 0) {
        return -1;
    }
    return get_enum(from->kind, round_kind_name, false, "kind", err);
}

static int decode_body(const Tide__Link__Envelope *e, struct msg *ret, struct err *err)
{
    switch ((enum msg_type)e->body_case) { /* numbers are the same; anything else falls through */
    case MSG_HEARTBEAT:
        return decode_heartbeat(e->heartbeat, &ret->heartbeat, err);
    case MSG_HOLD:
        return decode_hold(e->hold, &ret->hold, err);
    case MSG_HELD:
        return decode_held(e->held, &ret->held, err);
    case MSG_REFUSED:
        return decode_refused(e->refused, &ret->refused, err);
    case MSG_RELEASE:
        return decode_release(e->release, &ret->release, err);
    case MSG_ABORT:
        return decode_abort(e->abort, &ret->abort, err);
    case MSG_SEALED:
        return decode_sealed(e->sealed, &ret->sealed, err);
    case MSG_SUM:
        return decode_sum(e->sum, &ret->sum, err);
    case MSG_TAKE:
        return decode_take(e->take, &ret->take, err);
    case MSG_TAKEN:
        return decode_taken(e->taken, &ret->taken, err);
    default:
        return err_set(err, TIDE_ERR_CORRUPT, "message without a body that this build knows");
    }
}

static int decode_head(const Tide__Link__Envelope *e, struct msg_head *ret, struct err *err)
{
    if (e->version < TIDE_MSG_VERSION_MIN || e->version > TIDE_MSG_VERSION) {
        return err_set(err, TIDE_ERR_VERSION, "wire version %u; this build speaks %u to %u",
                       (unsigned)e->version, TIDE_MSG_VERSION_MIN, TIDE_MSG_VERSION);
    }
    ret->version = e->version;
    ret->version_max = e->version_max == 0 ? e->version : e->version_max;
    if (ret->version_max < ret->version) {
        return wrong(err, "version_max", "below the version that the message is written in");
    }
    ret->features = e->features;
    ret->incarnation = e->incarnation;
    if (get_id(&e->group, false, "group", &ret->group, err) != 0 ||
        get_name(e->from, false, "from", &ret->from, err) != 0 ||
        get_name(e->to, false, "to", &ret->to, err) != 0) {
        return -1;
    }
    if (e->incarnation == 0) {
        return wrong(err, "incarnation", "0");
    }
    ret->epoch.number = e->epoch;
    if (e->epoch == 0) {
        return e->epoch_hash.len == 0 ? 0 : wrong(err, "epoch_hash", "there is one without epoch");
    }
    return get_hash(&e->epoch_hash, "epoch_hash", &ret->epoch.hash, err);
}

int envelope_decode(const void *from, size_t size, struct msg *ret, struct err *err)
{
    if (size > TIDE_ENVELOPE_SIZE_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "message of %zu bytes, over the limit of %u", size,
                       TIDE_ENVELOPE_SIZE_MAX);
    }
    struct arena arena;
    arena.used = 0;
    arena.full = false;
    ProtobufCAllocator allocator = {
        .alloc = arena_alloc, .free = arena_free, .allocator_data = &arena};
    Tide__Link__Envelope *e = tide__link__envelope__unpack(&allocator, size, from);
    if (e == NULL) {
        return arena.full
                   ? err_set(err, TIDE_ERR_LIMIT,
                             "message of %zu bytes would unpack to more than %u", size, ARENA_SIZE)
                   : err_set(err, TIDE_ERR_CORRUPT, "%zu bytes that are not a message", size);
    }
    struct msg msg;
    memset(&msg, 0, msg_size((enum msg_type)e->body_case));
    msg.type = (enum msg_type)e->body_case;
    if (decode_head(e, &msg.head, err) != 0) {
        return err_wrap(err, "link message");
    }
    if (decode_body(e, &msg, err) != 0) {
        const char *type = envelope_type_name((unsigned)msg.type);
        return err_wrap(err, "%s from \"%s\"", type != NULL ? type : "message", msg.head.from.s);
    }
    memcpy(ret, &msg, msg_size(msg.type));
    return 0;
}
