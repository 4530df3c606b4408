/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/core/align. Input: flags (bit 0: the definition is known from the start; 1: rounds
 * are judged with definitions only; 2: one group only; 3: room for three rounds, so that some are
 * dropped), then two bytes for each event: what (low 3 bits) and of which stream (next 2), and how.
 * Gaps, sizes and copies are one of the eight, by the low 3 bits of how.
 *
 * After each event every round is compared with the rule written down once more, plainly, over all
 * that was fed: YES only where that says yes; with the definition and enough room, each answer is
 * the plain one. YES and NO never change, each is drained once, what was dropped never comes back.
 */
#include "coordinator/core/align.h"

#include "tests/fuzz/fuzz.h"
#include "tests/unit/hrl_make.h"

#define DISKS      3U
#define STREAMS    (DISKS + 1) /* the last is in no definition */
#define HISTORY    80U
#define EVENTS_MAX 120U
#define IDS        4U
#define VARIANTS   8U

enum variant { NORMAL, KIND, SCOPE, PARTIAL, EPOCH, GROUP, WIDE, NORMAL_TOO };

struct lab {
    struct align *align;
    bool defined;
    bool need;
    bool one_group;
    bool small;
    struct record records[STREAMS][HISTORY];
    enum round_answer whole[STREAMS][HISTORY]; /* by the plain rule, after that record */
    bool counted[STREAMS][HISTORY];            /* a copy's end that made it so */
    size_t count[STREAMS];
    uint64_t incarnation[STREAMS];
    enum round_answer answers[IDS][VARIANTS];
    bool unaligned[IDS][VARIANTS];
    bool drained[IDS][VARIANTS];
    bool was_there[IDS][VARIANTS];
    bool gone[IDS][VARIANTS];
};

static struct lab lab;
static struct definition definition;

static struct round_order make_variant(unsigned id, unsigned variant)
{
    struct round_order o = make_order(500 + id, variant == WIDE ? DISKS + 1 : DISKS);
    o.kind = variant == KIND ? ROUND_KIND_APPLICATION : o.kind;
    o.scope = variant == SCOPE ? ROUND_SCOPE_MEMBER : o.scope;
    o.epoch.number += variant == EPOCH ? 1 : 0;
    if (variant == PARTIAL) {
        set_init(&o.set, DISKS);
        set_add(&o.set, 0);
        set_add(&o.set, 2);
    }
    if (variant == GROUP) {
        o.group = make_id(6);
    }
    return o;
}

/* Made once: drawing ids is most of the time otherwise. */
static struct round_order orders[IDS][VARIANTS];

static const struct round_order *order_of(unsigned id, unsigned variant)
{
    if (orders[0][0].set.count == 0) {
        for (unsigned i = 0; i < IDS; i++) {
            for (unsigned v = 0; v < VARIANTS; v++) {
                orders[i][v] = make_variant(i, v);
            }
        }
    }
    return &orders[id][variant];
}

static bool order_same(const struct round_order *a, const struct round_order *b)
{
    return id_equal(&a->round, &b->round) && id_equal(&a->group, &b->group) &&
           epoch_equal(&a->epoch, &b->epoch) && a->scope == b->scope && a->kind == b->kind &&
           set_equal(&a->set, &b->set);
}

/* Which of ours a round is: the first variant with that order. */
static void which(const struct round_order *order, unsigned *ret_id, unsigned *ret_variant)
{
    for (unsigned i = 0; i < IDS; i++) {
        for (unsigned v = 0; v < VARIANTS; v++) {
            if (order_same(order_of(i, v), order)) {
                *ret_id = i;
                *ret_variant = v;
                return;
            }
        }
    }
    bool round_is_ours = false;
    TIDE_CHECK(round_is_ours);
}

static void define(void)
{
    struct id group = make_id(5);
    struct name name;
    struct err err;
    struct definition_member member;
    TIDE_CHECK(name_parse("shop", &name));
    definition_init(&definition, &group, &name, 7);
    memset(&member, 0, sizeof member);
    member.name = name;
    strcpy(member.identity, "spiffe://site/participant/a");
    strcpy(member.address, "127.0.0.11:20004");
    TIDE_CHECK(definition_add_member(&definition, &member, &err) == 0);
    for (unsigned k = 0; k < DISKS; k++) {
        struct definition_disk disk = {.stream = make_id(k + 1),
                                       .timeline = make_id(k + 2001),
                                       .disk = make_id(k + 1001),
                                       .size = 1 << 20,
                                       .block_size = 4096};
        char text[] = {'d', (char)('0' + k), '\0'};
        TIDE_CHECK(name_parse(text, &disk.name));
        TIDE_CHECK(definition_add_disk(&definition, &disk, &err) == 0);
    }
    definition.epoch.hash = make_hash(7); /* as make_order() has it */
}

/* ---- the rule, plainly ---- */

/* The disk's size before that record; 0: not said. */
static uint64_t size_before(unsigned k, size_t i)
{
    while (i-- > 0) {
        const struct record *r = &lab.records[k][i];
        if (r->type == RECORD_ATTACH) {
            return r->attach.size;
        }
        if (r->type == RECORD_RESIZE) {
            return r->resize.size;
        }
    }
    return 0;
}

static bool contradicts(unsigned k, size_t i)
{
    const struct record *r = &lab.records[k][i];
    uint64_t due = size_before(k, i);
    return due != 0 && ((r->type == RECORD_ATTACH && r->attach.size != due) ||
                        (r->type == RECORD_RESIZE && r->resize.before != due));
}

static bool begin_counts(unsigned k, size_t i)
{
    const struct record_copy_begin *b = &lab.records[k][i].copy_begin;
    uint64_t due = size_before(k, i);
    if (due != 0 && due != b->size) {
        return false;
    }
    for (size_t j = 0; b->kind == RECORD_COPY_INITIAL && j < i; j++) {
        const struct record *r = &lab.records[k][j];
        bool was_whole = j > 0 && lab.whole[k][j - 1] == ROUND_ANSWER_YES;
        if (contradicts(k, j) ||
            (r->type == RECORD_GAP && (r->gap.reason != RECORD_GAP_BASE || was_whole))) {
            return false;
        }
    }
    return true;
}

/* *ret_kind: of the copy that it ends. */
static bool end_counts(unsigned k, size_t i, enum record_copy_kind *ret_kind)
{
    const struct record_copy_end *e = &lab.records[k][i].copy_end;
    while (i-- > 0) {
        const struct record *r = &lab.records[k][i];
        if (lab.counted[k][i] || r->type == RECORD_ATTACH || r->type == RECORD_RESIZE ||
            r->type == RECORD_GAP) {
            return false;
        }
        if (r->type == RECORD_COPY_BEGIN) {
            *ret_kind = r->copy_begin.kind;
            return r->lsn == e->begin_lsn && e->copied + e->zeroes == r->copy_begin.size &&
                   begin_counts(k, i);
        }
    }
    return false;
}

/* Called once for each record, in order. */
static enum round_answer plain_whole(unsigned k, size_t i)
{
    const struct record *r = &lab.records[k][i];
    enum record_copy_kind kind;
    if (r->type == RECORD_ATTACH && r->attach.first) {
        return r->attach.base_zero ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
    }
    if (contradicts(k, i) || r->type == RECORD_GAP || r->type == RECORD_COPY_BEGIN) {
        return ROUND_ANSWER_NO;
    }
    if (r->type == RECORD_COPY_END && end_counts(k, i, &kind)) {
        lab.counted[k][i] = true;
        return kind == RECORD_COPY_FULL || lab.records[k][0].lsn == 1 ? ROUND_ANSWER_YES
                                                                      : ROUND_ANSWER_UNKNOWN;
    }
    return i == 0 ? ROUND_ANSWER_UNKNOWN : lab.whole[k][i - 1];
}

static const struct record *first_mark(unsigned k, const struct id *round)
{
    struct id ours = make_id(5);
    for (size_t i = 0; i < lab.count[k]; i++) {
        const struct record *r = &lab.records[k][i];
        if (r->type == RECORD_BOOKMARK && id_equal(&r->bookmark.order.round, round) &&
            (!lab.one_group || id_equal(&r->bookmark.order.group, &ours))) {
            return r;
        }
    }
    return NULL;
}

/* What the stream says of the round; *ret_mark, and with YES the seal. */
static enum round_answer plain_stream(unsigned k, const struct round_order *order,
                                      const struct record **ret_mark,
                                      const struct record **ret_seal)
{
    const struct record *mark = first_mark(k, &order->round);
    enum round_answer whole =
        mark == NULL ? ROUND_ANSWER_UNKNOWN : lab.whole[k][mark - lab.records[k]];
    *ret_mark = mark;
    for (size_t i = 0; i < lab.count[k]; i++) {
        const struct record *r = &lab.records[k][i];
        if (mark != NULL && r->lsn > mark->lsn) {
            if (r->type == RECORD_ATTACH || r->type == RECORD_GAP || r->type == RECORD_BOOKMARK) {
                return ROUND_ANSWER_NO;
            }
            if (r->type != RECORD_SEAL || r->seal.bookmark_lsn != mark->lsn ||
                r->incarnation != mark->incarnation) {
                continue;
            }
            *ret_seal = r;
            bool good = id_equal(&r->seal.round, &order->round) &&
                        r->seal.outcome ==
                            (mark->bookmark.unheld ? ROUND_OUTCOME_UNHELD : ROUND_OUTCOME_HELD);
            return good ? whole : ROUND_ANSWER_NO; /* whole is yes or unknown here */
        }
        if (r == mark && (whole == ROUND_ANSWER_NO || !order_same(&r->bookmark.order, order))) {
            return ROUND_ANSWER_NO;
        }
    }
    return ROUND_ANSWER_UNKNOWN;
}

static enum round_answer plain_of(const struct round_order *order, const bool *counts,
                                  bool *ret_unaligned)
{
    struct round_mark marks[STREAMS];
    const struct record *seals[STREAMS];
    size_t count = 0;
    bool no = false;
    bool unknown = false;
    *ret_unaligned = false;
    for (unsigned k = 0; k < STREAMS; k++) {
        const struct record *mark = NULL;
        if (!counts[k]) {
            continue;
        }
        enum round_answer a = plain_stream(k, order, &mark, &seals[count]);
        if (a == ROUND_ANSWER_YES) {
            no = no || seals[count]->seal.outcome != seals[0]->seal.outcome ||
                 !hash_equal(&seals[count]->seal.cut, &seals[0]->seal.cut);
            marks[count++] = (struct round_mark){mark->stream, mark->incarnation, mark->lsn,
                                                 mark->bookmark.nonce};
        }
        no = no || a == ROUND_ANSWER_NO;
        unknown = unknown || a == ROUND_ANSWER_UNKNOWN;
    }
    if (no || unknown || count == 0) {
        return no ? ROUND_ANSWER_NO : ROUND_ANSWER_UNKNOWN;
    }
    struct hash hash = round_cut_hash(order, marks, count);
    bool right = hash_equal(&hash, &seals[0]->seal.cut);
    *ret_unaligned = right && seals[0]->seal.outcome == ROUND_OUTCOME_UNHELD;
    return right && !*ret_unaligned ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
}

/* With the definition. */
static enum round_answer plain_defined(const struct round_order *order, bool *ret_unaligned)
{
    bool counts[STREAMS] = {false};
    *ret_unaligned = false;
    if (!id_equal(&order->group, &definition.group) || order->set.count != DISKS) {
        return ROUND_ANSWER_NO;
    }
    for (unsigned k = 0; k < DISKS; k++) {
        counts[k] = set_has(&order->set, k);
    }
    return plain_of(order, counts, ret_unaligned);
}

/* ---- what is compared after each event ---- */

static void check_undefined(const struct align_round *r)
{
    bool counts[STREAMS] = {false};
    bool unaligned;
    TIDE_CHECK(!lab.need);
    TIDE_CHECK(r->entry_count == set_size(&r->order.set));
    for (unsigned k = 0; k < STREAMS; k++) {
        struct id stream = make_id(k < DISKS ? k + 1 : 9);
        counts[k] = align_entry(r, &stream) != NULL;
    }
    enum round_answer answer = plain_of(&r->order, counts, &unaligned);
    TIDE_CHECK(answer == r->answer && unaligned == r->unaligned);
}

/* What is no yes has no label of a point; one member's round none of the group; here is but one
 * member, so a set without all disks is no single VM's. */
static void check_label(const struct align_round *r)
{
    enum align_label label = align_label(r, &definition);
    bool all = set_is_full(&r->order.set) && r->order.set.count == definition.disk_count;
    bool single = r->order.scope == ROUND_SCOPE_MEMBER;
    enum align_label due = r->unaligned                    ? ALIGN_LABEL_UNALIGNED
                           : r->answer != ROUND_ANSWER_YES ? ALIGN_LABEL_NONE
                           : single && all                 ? ALIGN_LABEL_SINGLE_VM
                           : single                        ? ALIGN_LABEL_NONE
                           : r->partial                    ? ALIGN_LABEL_PARTIAL
                                                           : ALIGN_LABEL_FULL;
    TIDE_CHECK(label == due);
    TIDE_CHECK(r->partial == !set_is_full(&r->order.set));
}

static void check_round(const struct align_round *r)
{
    unsigned id = 0;
    unsigned v = 0;
    which(&r->order, &id, &v);
    TIDE_CHECK(!lab.gone[id][v]);
    lab.was_there[id][v] = true;
    enum round_answer before = lab.answers[id][v];
    if (before != ROUND_ANSWER_UNKNOWN) {
        TIDE_CHECK(r->answer == before && r->unaligned == lab.unaligned[id][v]);
        return; /* decided: what was said then was compared then */
    }
    TIDE_CHECK(align_why_text(r->why) != NULL);
    check_label(r);
    bool unaligned = false;
    struct epoch known = definition.epoch;
    if (lab.defined && epoch_equal(&r->order.epoch, &known)) {
        TIDE_CHECK(r->defined);
        enum round_answer plain = plain_defined(&r->order, &unaligned);
        bool positive = r->answer == ROUND_ANSWER_YES || r->unaligned;
        if (!lab.small || positive) {
            TIDE_CHECK(r->answer == plain && r->unaligned == unaligned);
        }
    } else {
        TIDE_CHECK(!r->defined);
        if (r->answer == ROUND_ANSWER_YES || r->unaligned) {
            check_undefined(r);
        }
        TIDE_CHECK(!lab.need || r->answer == ROUND_ANSWER_UNKNOWN);
    }
    TIDE_CHECK(hash_is_zero(&r->cut) == (r->answer != ROUND_ANSWER_YES && !r->unaligned));
    lab.answers[id][v] = r->answer;
    lab.unaligned[id][v] = r->unaligned;
}

static void drain(void)
{
    const struct align_round *r;
    while ((r = align_next_decided(lab.align)) != NULL) {
        unsigned id = 0;
        unsigned v = 0;
        which(&r->order, &id, &v);
        TIDE_CHECK(r->answer != ROUND_ANSWER_UNKNOWN && !lab.drained[id][v]);
        lab.drained[id][v] = true;
    }
}

static void check_all(void)
{
    bool there[IDS][VARIANTS] = {{false}};
    TIDE_CHECK(align_count(lab.align) <= (lab.small ? 3U : IDS * VARIANTS));
    for (size_t i = 0; i < align_count(lab.align); i++) {
        const struct align_round *r = align_at(lab.align, i);
        unsigned id = 0;
        unsigned v = 0;
        which(&r->order, &id, &v);
        check_round(r);
        TIDE_CHECK(!there[id][v]);
        there[id][v] = true;
        TIDE_CHECK(align_find(lab.align, &r->order.round) != NULL);
    }
    drain();
    for (unsigned id = 0; id < IDS; id++) {
        for (unsigned v = 0; v < VARIANTS; v++) {
            if (lab.was_there[id][v] && !there[id][v]) {
                TIDE_CHECK(lab.small);
                lab.gone[id][v] = true;
            }
            TIDE_CHECK(!there[id][v] ||
                       lab.drained[id][v] == (lab.answers[id][v] != ROUND_ANSWER_UNKNOWN));
        }
    }
}

/* ---- events ---- */

static uint64_t number_of(unsigned k)
{
    return k < DISKS ? k + 1 : 9;
}

static void feed(unsigned k, const struct record *r)
{
    struct err err = {0};
    lab.records[k][lab.count[k]++] = *r;
    lab.whole[k][lab.count[k] - 1] = plain_whole(k, lab.count[k] - 1);
    TIDE_CHECK(align_feed(lab.align, r, &err) == 0);
    uint64_t lsn = 0;
    uint64_t incarnation = 0;
    enum round_answer whole = align_stream(lab.align, &r->stream, &lsn, &incarnation);
    TIDE_CHECK(whole == lab.whole[k][lab.count[k] - 1]);
    TIDE_CHECK(lsn == r->lsn && incarnation == r->incarnation);
}

static struct hash cut_of(const struct round_order *order)
{
    struct round_mark marks[DISKS];
    size_t count = 0;
    for (unsigned k = 0; k < DISKS; k++) {
        const struct record *r = first_mark(k, &order->round);
        if (set_has(&order->set, k) && r != NULL) {
            marks[count++] =
                (struct round_mark){r->stream, r->incarnation, r->lsn, r->bookmark.nonce};
        }
    }
    return round_cut_hash(order, marks, count);
}

static struct record make_end(unsigned k, uint64_t lsn, unsigned how)
{
    static const enum round_outcome outcomes[] = {ROUND_OUTCOME_HELD, ROUND_OUTCOME_UNHELD,
                                                  ROUND_OUTCOME_EXPIRED, ROUND_OUTCOME_ABORTED};
    const struct record *mark = NULL;
    for (size_t i = 0; i < lab.count[k]; i++) {
        mark = lab.records[k][i].type == RECORD_BOOKMARK ? &lab.records[k][i] : mark;
    }
    enum round_outcome outcome = outcomes[how & 3];
    bool has_cut = outcome == ROUND_OUTCOME_HELD || outcome == ROUND_OUTCOME_UNHELD;
    struct id round = make_id(500 + (how >> 6));
    struct hash cut = make_hash(77);
    if (mark != NULL && (how >> 4 & 3) != 3) {
        round = mark->bookmark.order.round;
    }
    if (mark != NULL && (how >> 4 & 3) != 2) {
        cut = cut_of(&mark->bookmark.order);
    }
    uint64_t bookmark = mark == NULL || (how & 4) != 0 ? lsn - 1 : mark->lsn;
    return make_seal(number_of(k), lsn, lab.incarnation[k] + (how >> 3 & 1), &round, bookmark,
                     outcome, has_cut ? &cut : NULL);
}

/* The last copy's begin, or with `older` one before it. */
static const struct record *last_begin(unsigned k, bool older)
{
    const struct record *found = NULL;
    for (size_t i = lab.count[k]; i-- > 0;) {
        if (lab.records[k][i].type == RECORD_COPY_BEGIN) {
            if (found != NULL || !older) {
                return &lab.records[k][i];
            }
            found = &lab.records[k][i];
        }
    }
    return found;
}

static struct record make_copy_end(unsigned k, uint64_t lsn, unsigned how)
{
    const struct record *begin = last_begin(k, (how >> 4 & 1) != 0);
    struct record r = make_record(RECORD_COPY_END, number_of(k), lsn, lab.incarnation[k]);
    uint64_t size = begin == NULL ? 1 << 20 : begin->copy_begin.size;
    r.copy_end = (struct record_copy_end){.begin_lsn = begin == NULL ? 1 : begin->lsn,
                                          .copied = 4096,
                                          .zeroes = size - 4096 - (how >> 3 & 1)};
    return r;
}

/* A gap, a size or a copy. */
static struct record make_change(unsigned k, uint64_t lsn, unsigned how)
{
    static const uint64_t sizes[] = {1 << 20, 2 << 20, 3 << 20};
    uint64_t size = lab.count[k] == 0 ? 0 : size_before(k, lab.count[k]);
    uint64_t in_force = size == 0 ? sizes[0] : size;
    uint64_t other = in_force == sizes[how >> 3 & 1] ? sizes[2] : sizes[how >> 3 & 1];
    struct record r = make_gap(number_of(k), lsn, lab.incarnation[k]);
    switch (how & 7) {
    case 1:
        r.gap.reason = RECORD_GAP_BASE;
        break;
    case 2:
        r = make_resize(number_of(k), lsn, lab.incarnation[k], in_force, other);
        r.resize.before += (how >> 4 & 1) != 0 ? 512 : 0;
        break;
    case 3:
    case 4:
        r = make_record(RECORD_COPY_BEGIN, number_of(k), lsn, lab.incarnation[k]);
        r.copy_begin.kind = (enum record_copy_kind)(1 + (how >> 4) % 3);
        r.copy_begin.size = (how >> 3 & 1) != 0 ? other : in_force;
        break;
    case 5:
    case 6:
        r = make_copy_end(k, lsn, how);
        break;
    default:
        break;
    }
    return r;
}

static void event(unsigned what, unsigned how)
{
    unsigned k = what >> 3 & 3;
    struct err err = {0};
    struct record r;
    if (lab.count[k] == HISTORY) {
        return;
    }
    uint64_t lsn = lab.count[k] == 0 ? 1 : lab.records[k][lab.count[k] - 1].lsn + 1;
    if (lab.count[k] == 0 && (what & 7) != 0) {
        lsn = 50; /* its beginning is not here */
        lab.incarnation[k] = 100;
    }
    switch (what & 7) {
    case 0:
        lab.incarnation[k] += 100;
        r = make_attach(number_of(k), lsn, lab.incarnation[k], how % 8 != 7);
        if (lab.count[k] > 0 && size_before(k, lab.count[k]) != 0 && how % 8 != 6) {
            r.attach.size = size_before(k, lab.count[k]);
        }
        break;
    case 1:
        r = make_change(k, lsn, how);
        break;
    case 2:
    case 3: {
        const struct round_order *order =
            order_of(how & 3, (what & 7) == 2 ? NORMAL : how >> 2 & 7);
        r = make_bookmark(number_of(k), lsn, lab.incarnation[k], order, 7000 + 100 * k + lsn);
        r.bookmark.unheld = (how >> 5 & 1) != 0;
        break;
    }
    case 4:
    case 5:
        r = make_end(k, lsn, (what & 7) == 4 ? how & 1 : how);
        break;
    case 6: /* once more what was fed before: nothing changes */
        if (lab.count[k] > 0) {
            TIDE_CHECK(align_feed(lab.align, &lab.records[k][how % lab.count[k]], &err) == 0);
        }
        return;
    default:
        lab.defined = true;
        TIDE_CHECK(align_define(lab.align, &definition, &err) == 0);
        return;
    }
    feed(k, &r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct id group = make_id(5);
    struct err err = {0};
    if (size < 1 || size > 1 + 2 * (size_t)EVENTS_MAX) {
        return 0;
    }
    if (definition.disk_count == 0) {
        define();
    }
    memset(&lab, 0, sizeof lab);
    lab.need = (data[0] & 2) != 0;
    lab.one_group = (data[0] & 4) != 0;
    lab.small = (data[0] & 8) != 0;
    lab.align = align_new(lab.one_group ? &group : NULL, lab.need, lab.small ? 3 : IDS * VARIANTS);
    TIDE_CHECK(lab.align != NULL);
    if ((data[0] & 1) != 0) {
        lab.defined = true;
        TIDE_CHECK(align_define(lab.align, &definition, &err) == 0);
    }
    for (size_t i = 1; i + 1 < size; i += 2) {
        event(data[i], data[i + 1]);
        check_all();
    }
    align_free(lab.align);
    return 0;
}
