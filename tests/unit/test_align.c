/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hrl_make.h"

#include <stdlib.h>

#include "common/core/check.h"
#include "coordinator/core/align.h"

#define DISKS            3U
#define HISTORY          64U
#define STREAM(k)        ((uint64_t)(k) + 1) /* number of the stream of disk k */
#define ALIEN            9U                  /* a stream that is in no definition */
#define CUT_OF_BOOKMARKS UINT64_MAX          /* the right H */

static struct definition definition;

/* What has been fed of each stream, in order. Index DISKS is the alien's. */
struct history {
    struct record records[DISKS + 1][HISTORY];
    size_t count[DISKS + 1];
    uint64_t incarnation[DISKS + 1];
};

static struct history history;
static struct align *align;

static uint64_t number_of(unsigned k)
{
    return k < DISKS ? STREAM(k) : ALIEN;
}

static void define(void)
{
    struct id group = make_id(5);
    struct name name;
    TIDE_CHECK(name_parse("shop", &name));
    definition_init(&definition, &group, &name, 7);
    struct definition_member member;
    memset(&member, 0, sizeof member);
    member.name = name;
    strcpy(member.identity, "spiffe://site/participant/a");
    strcpy(member.address, "127.0.0.11:20004");
    struct err err;
    TIDE_CHECK(definition_add_member(&definition, &member, &err) == 0);
    for (unsigned k = 0; k < DISKS; k++) {
        struct definition_disk disk;
        memset(&disk, 0, sizeof disk);
        char text[] = {'d', (char)('0' + k), '\0'};
        TIDE_CHECK(name_parse(text, &disk.name));
        disk.stream = make_id(STREAM(k));
        disk.timeline = make_id(STREAM(k) + 2000);
        disk.disk = make_id(STREAM(k) + 1000);
        disk.size = 1 << 20;
        disk.block_size = 4096;
        TIDE_CHECK(definition_add_disk(&definition, &disk, &err) == 0);
    }
    definition.epoch.hash = make_hash(7); /* as make_order() has it */
}

static void start(bool defined, unsigned rounds_max)
{
    struct id group = make_id(5);
    struct err err;
    memset(&history, 0, sizeof history);
    align_free(align);
    align = align_new(&group, defined, rounds_max);
    assert_non_null(align);
    if (defined) {
        assert_int_equal(align_define(align, &definition, &err), 0);
    }
}

static struct record *feed(unsigned k, struct record record)
{
    struct err err;
    assert_true(history.count[k] < HISTORY);
    struct record *kept = &history.records[k][history.count[k]++];
    *kept = record;
    assert_int_equal(align_feed(align, &record, &err), 0);
    assert_int_equal(align_feed(align, &record, &err), 0); /* once more changes nothing */
    return kept;
}

static uint64_t next_lsn(unsigned k)
{
    return history.count[k] == 0 ? 1 : history.records[k][history.count[k] - 1].lsn + 1;
}

static void attach(unsigned k, bool base_zero)
{
    history.incarnation[k] += 100;
    feed(k, make_attach(number_of(k), next_lsn(k), history.incarnation[k], base_zero));
}

static void gap(unsigned k)
{
    feed(k, make_gap(number_of(k), next_lsn(k), history.incarnation[k]));
}

static struct record *mark(unsigned k, const struct round_order *order, bool unheld)
{
    struct record r = make_bookmark(number_of(k), next_lsn(k), history.incarnation[k], order,
                                    7000 + 100 * k + next_lsn(k));
    r.bookmark.unheld = unheld;
    return feed(k, r);
}

static const struct record *first_mark(unsigned k, const struct id *round)
{
    for (size_t i = 0; i < history.count[k]; i++) {
        const struct record *r = &history.records[k][i];
        if (r->type == RECORD_BOOKMARK && id_equal(&r->bookmark.order.round, round)) {
            return r;
        }
    }
    return NULL;
}

/* H over the first bookmarks that are there of the disks of the set. */
static struct hash cut_of(const struct round_order *order)
{
    struct round_mark marks[DISKS];
    size_t count = 0;
    for (unsigned k = 0; k < DISKS; k++) {
        const struct record *r = first_mark(k, &order->round);
        if (set_has(&order->set, k) && r != NULL) {
            marks[count++] = (struct round_mark){.stream = r->stream,
                                                 .incarnation = r->incarnation,
                                                 .lsn = r->lsn,
                                                 .nonce = r->bookmark.nonce};
        }
    }
    return round_cut_hash(order, marks, count);
}

static void seal(unsigned k, const struct round_order *order, enum round_outcome outcome,
                 uint64_t cut)
{
    const struct record *bookmark = first_mark(k, &order->round);
    struct hash hash = cut == CUT_OF_BOOKMARKS ? cut_of(order) : make_hash(cut);
    bool none = outcome == ROUND_OUTCOME_EXPIRED || outcome == ROUND_OUTCOME_ABORTED;
    assert_non_null(bookmark);
    feed(k, make_seal(number_of(k), next_lsn(k), history.incarnation[k], &order->round,
                      bookmark->lsn, outcome, none ? NULL : &hash));
}

static void expect(const struct round_order *order, enum round_answer answer, enum align_why why)
{
    const struct align_round *round = align_find(align, &order->round);
    assert_non_null(round);
    if (round->answer != answer || round->why != why) {
        fail_msg("answer %s (%s), expected %s (%s)", round_answer_name(round->answer),
                 align_why_text(round->why), round_answer_name(answer), align_why_text(why));
    }
}

/* All streams attached and whole, all bookmarks placed. */
static struct round_order begin(uint64_t round)
{
    struct round_order order = make_order(round, DISKS);
    for (unsigned k = 0; k < DISKS; k++) {
        if (history.count[k] == 0) {
            attach(k, true);
        }
        mark(k, &order, false);
    }
    return order;
}

static void seal_from(unsigned k, const struct round_order *order)
{
    for (; k < DISKS; k++) {
        seal(k, order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
    }
}

static void good_round(void **state)
{
    (void)state;
    for (int defined = 0; defined < 2; defined++) {
        start(defined != 0, 16);
        struct round_order order = begin(3);
        expect(&order, ROUND_ANSWER_UNKNOWN, ALIGN_WHY_NO_SEAL);
        assert_null(align_next_decided(align));
        seal_from(0, &order);
        expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
        const struct align_round *round = align_next_decided(align);
        assert_non_null(round);
        assert_null(align_next_decided(align));
        assert_false(round->partial);
        assert_false(round->unaligned);
        assert_int_equal(round->defined, defined);
        assert_int_equal(round->entry_count, DISKS);
        struct hash cut = cut_of(&order);
        assert_true(hash_equal(&round->cut, &cut));
        struct id stream = make_id(STREAM(1));
        const struct align_entry *entry = align_entry(round, &stream);
        assert_non_null(entry);
        assert_int_equal(entry->mark.lsn, 2);
        assert_int_equal(entry->seal_lsn, 3);
        assert_int_equal(entry->hold_us, 900);
        assert_int_equal(entry->writes_held, 3);
        assert_int_equal(entry->bytes_held, 12288);
        assert_int_equal(entry->budget_us, 50000);
        /* and what follows does not undo it */
        gap(0);
        attach(1, false);
        expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
        struct round_order next = begin(4);
        expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
        expect(&next, ROUND_ANSWER_NO, ALIGN_WHY_NOT_WHOLE);
    }
}

static void partial_rounds(void **state)
{
    (void)state;
    start(true, 16);
    struct round_order order = make_order(3, DISKS);
    set_init(&order.set, DISKS);
    set_add(&order.set, 0);
    set_add(&order.set, 2);
    attach(0, true);
    attach(2, true);
    mark(0, &order, false);
    mark(2, &order, false);
    seal(0, &order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
    seal(2, &order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
    expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
    assert_true(align_find(align, &order.round)->partial);
    /* a bookmark of a stream outside the set changes nothing, whatever it says */
    attach(1, true);
    mark(1, &order, false);
    seal(1, &order, ROUND_OUTCOME_ABORTED, 0);
    expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
}

/* What a round of scope member is called, by its set: disks 0 and 1 are of one member, 2 of
 * another. Whatever its set is, it is never full and never partial. */
static void single_vms(void **state)
{
    (void)state;
    static const struct {
        unsigned set; /* bits */
        enum align_label label;
        int member;
    } rows[] = {{3, ALIGN_LABEL_SINGLE_VM, 0}, {4, ALIGN_LABEL_SINGLE_VM, 1},
                {1, ALIGN_LABEL_NONE, -1},     {6, ALIGN_LABEL_NONE, -1},
                {7, ALIGN_LABEL_NONE, -1},     {5, ALIGN_LABEL_NONE, -1}};
    static struct definition two;
    two = definition;
    two.member_count = 2;
    two.members[0].disk_count = 2;
    two.members[1].disk_first = 2;
    two.members[1].disk_count = 1;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        bool single = i % 2 != 0;
        unsigned set = rows[i / 2].set;
        start(true, 16);
        struct round_order order = make_order(3, DISKS);
        order.scope = single ? ROUND_SCOPE_MEMBER : ROUND_SCOPE_GROUP;
        set_init(&order.set, DISKS);
        for (unsigned k = 0; k < DISKS; k++) {
            if ((set & 1U << k) != 0) {
                set_add(&order.set, k);
            }
        }
        for (unsigned k = 0; k < 2 * DISKS; k++) { /* all bookmarks, then all seals */
            if (!set_has(&order.set, k % DISKS)) {
                continue;
            }
            if (k < DISKS) {
                attach(k, true);
                mark(k, &order, false);
            } else {
                seal(k - DISKS, &order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
            }
        }
        expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD); /* the rule asks for no more */
        const struct align_round *round = align_find(align, &order.round);
        enum align_label group = set == 7 ? ALIGN_LABEL_FULL : ALIGN_LABEL_PARTIAL;
        assert_int_equal(align_label(round, &two), single ? rows[i / 2].label : group);
        assert_int_equal(align_single(&order, &two), single ? rows[i / 2].member : -1);
        assert_int_equal(align_label(round, NULL), single ? ALIGN_LABEL_SINGLE_VM : group);
    }
    assert_string_equal(align_label_name(ALIGN_LABEL_SINGLE_VM), "single-vm");
}

static void alien_streams(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        start(true, 16);
        struct round_order order = make_order(3, DISKS);
        struct round_order other = order;
        other.kind = ROUND_KIND_APPLICATION;
        attach(DISKS, true);
        if (first != 0) {
            mark(DISKS, &order, false);
            seal(DISKS, &order, ROUND_OUTCOME_EXPIRED, 0);
        } else {
            mark(DISKS, &other, false);
        }
        begin(3);
        expect(&order, ROUND_ANSWER_UNKNOWN, ALIGN_WHY_NO_SEAL);
        seal_from(0, &order);
        expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
    }
}

static void unheld_rounds(void **state)
{
    (void)state;
    start(true, 16);
    struct round_order order = make_order(3, DISKS);
    for (unsigned k = 0; k < DISKS; k++) {
        attach(k, true);
        mark(k, &order, true);
    }
    for (unsigned k = 0; k < DISKS; k++) {
        seal(k, &order, ROUND_OUTCOME_UNHELD, CUT_OF_BOOKMARKS);
    }
    expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_UNHELD);
    assert_true(align_find(align, &order.round)->unaligned);
    assert_false(hash_is_zero(&align_find(align, &order.round)->cut));

    /* held and unheld mixed; contradictions between bookmark and seal */
    for (int how = 0; how < 3; how++) {
        start(true, 16);
        for (unsigned k = 0; k < DISKS; k++) {
            attach(k, true);
            mark(k, &order, how == 0 ? k == 1 : how == 1);
        }
        for (unsigned k = 0; k < DISKS; k++) {
            bool unheld = how == 0 ? k == 1 : how == 2;
            seal(k, &order, unheld ? ROUND_OUTCOME_UNHELD : ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
        }
        expect(&order, ROUND_ANSWER_NO,
               how == 0 ? ALIGN_WHY_HOLD_MIXED : ALIGN_WHY_SEAL_CONTRADICTS);
        assert_false(align_find(align, &order.round)->unaligned);
    }
}

/* Each way in which what follows the bookmark of disk 0 breaks the round. The others seal well. */
static void broken_streams(void **state)
{
    (void)state;
    enum {
        EXPIRED,
        ABORTED,
        GAP,
        ATTACH,
        BOOKMARK,
        SAME_BOOKMARK,
        ROUND,
        MISSING,
        OTHER_INCARNATION,
        OTHER_BOOKMARK,
        CASES
    };
    static const enum align_why whys[] = {
        ALIGN_WHY_EXPIRED,  ALIGN_WHY_ABORTED,  ALIGN_WHY_GAP,        ALIGN_WHY_ATTACH,
        ALIGN_WHY_BOOKMARK, ALIGN_WHY_BOOKMARK, ALIGN_WHY_SEAL_ROUND, ALIGN_WHY_NO_SEAL,
        ALIGN_WHY_NO_SEAL,  ALIGN_WHY_NO_SEAL,
    };
    for (int how = 0; how < CASES; how++) {
        for (int late = 0; late < 2; late++) {
            start(true, 16);
            struct round_order order = begin(3);
            struct round_order another = make_order(4, DISKS);
            struct hash cut = cut_of(&order);
            if (late == 0) {
                seal_from(1, &order);
            }
            struct record r = make_seal(STREAM(0), 3, history.incarnation[0], &order.round, 2,
                                        ROUND_OUTCOME_HELD, &cut);
            if (how == EXPIRED || how == ABORTED) {
                seal(0, &order, how == EXPIRED ? ROUND_OUTCOME_EXPIRED : ROUND_OUTCOME_ABORTED, 0);
            } else if (how == GAP) {
                gap(0);
            } else if (how == ATTACH) {
                attach(0, false);
            } else if (how == BOOKMARK) {
                mark(0, &another, false);
            } else if (how == SAME_BOOKMARK) {
                mark(0, &order, false);
            } else if (how == ROUND) {
                r.seal.round = make_id(4);
                feed(0, r);
            } else if (how == OTHER_INCARNATION) {
                r.incarnation++;
                feed(0, r);
            } else if (how == OTHER_BOOKMARK) {
                r.seal.bookmark_lsn = 1;
                feed(0, r);
            }
            bool open = whys[how] == ALIGN_WHY_NO_SEAL;
            if (late == 1) {
                seal_from(1, &order);
            }
            expect(&order, open ? ROUND_ANSWER_UNKNOWN : ROUND_ANSWER_NO, whys[how]);
            if (!open) {
                assert_memory_equal(&align_find(align, &order.round)->where,
                                    &history.records[0][0].stream, sizeof(struct id));
            }
            /* a good seal now comes too late, unless nothing had been decided */
            seal(0, &order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
            expect(&order, open ? ROUND_ANSWER_YES : ROUND_ANSWER_NO,
                   open ? ALIGN_WHY_HELD : whys[how]);
        }
    }
}

static void not_whole(void **state)
{
    (void)state;
    struct round_order order = make_order(3, DISKS);
    for (int how = 0; how < 3; how++) {
        start(true, 16);
        for (unsigned k = 0; k < DISKS; k++) {
            if (k == 1 && how == 2) { /* the first record fed is not the stream's first */
                history.incarnation[k] = 100;
                struct record r = make_attach(STREAM(k), 50, 100, false);
                feed(k, r);
            } else {
                attach(k, !(k == 1 && how == 0));
            }
            if (k == 1 && how == 1) {
                gap(k);
                attach(k, false); /* does not mend it */
            }
            mark(k, &order, false);
        }
        seal_from(0, &order);
        expect(&order, how == 2 ? ROUND_ANSWER_UNKNOWN : ROUND_ANSWER_NO,
               how == 2 ? ALIGN_WHY_NO_BEGINNING : ALIGN_WHY_NOT_WHOLE);
    }
    uint64_t lsn;
    uint64_t incarnation;
    struct id stream = make_id(STREAM(1));
    assert_int_equal(align_stream(align, &stream, &lsn, &incarnation), ROUND_ANSWER_UNKNOWN);
    assert_int_equal(lsn, 52);
    assert_int_equal(incarnation, 100);
    stream = make_id(STREAM(0));
    assert_int_equal(align_stream(align, &stream, &lsn, &incarnation), ROUND_ANSWER_YES);
}

static uint64_t copy_begin(unsigned k, enum record_copy_kind kind)
{
    struct record r =
        make_record(RECORD_COPY_BEGIN, number_of(k), next_lsn(k), history.incarnation[k]);
    r.copy_begin = (struct record_copy_begin){.kind = kind, .size = 1 << 20};
    return feed(k, r)->lsn;
}

static void copy_end(unsigned k, uint64_t begin_lsn, uint64_t bytes)
{
    struct record r =
        make_record(RECORD_COPY_END, number_of(k), next_lsn(k), history.incarnation[k]);
    r.copy_end = (struct record_copy_end){.begin_lsn = begin_lsn, .copied = bytes};
    feed(k, r);
}

/* A disk that held data: whole from the end of its copy, not a record earlier. */
static void copied(void **state)
{
    (void)state;
    for (int how = 0; how < 6; how++) {
        start(true, 16);
        struct round_order order = make_order(3, DISKS);
        for (unsigned k = 0; k < DISKS; k++) {
            attach(k, k != 1);
            if (k == 1) {
                uint64_t begin_lsn = copy_begin(k, RECORD_COPY_INITIAL);
                uint64_t bytes = 1 << 20;
                if (how == 1) {
                    gap(k);
                } else if (how == 2 || how == 3) {
                    attach(k, false);
                }
                if (how == 3) {
                    begin_lsn = copy_begin(k, RECORD_COPY_CHANGES);
                }
                if (how != 4) {
                    copy_end(k, begin_lsn, how == 5 ? bytes - 1 : bytes);
                }
            }
            mark(k, &order, false);
            if (k == 1 && how == 4) {
                copy_end(k, 2, 1 << 20); /* after the bookmark */
            }
        }
        seal_from(0, &order);
        bool whole = how == 0 || how == 3;
        expect(&order, whole ? ROUND_ANSWER_YES : ROUND_ANSWER_NO,
               whole ? ALIGN_WHY_HELD : ALIGN_WHY_NOT_WHOLE);
    }
}

/* A member of the set whose bookmark names another epoch, set, kind, scope or group. */
static void other_orders(void **state)
{
    (void)state;
    for (int how = 0; how < 6; how++) {
        for (unsigned odd = 0; odd < DISKS; odd++) {
            start(true, 16);
            struct round_order order = make_order(3, DISKS);
            struct round_order other = order;
            other.epoch.number += how == 0 ? 1 : 0;
            other.epoch.hash.b[0] ^= how == 1 ? 1 : 0;
            other.kind = how == 2 ? ROUND_KIND_APPLICATION : order.kind;
            other.scope = how == 3 ? ROUND_SCOPE_MEMBER : order.scope;
            if (how == 4) {
                set_init(&other.set, DISKS);
                set_add(&other.set, odd);
            }
            if (how == 5) {
                set_init(&other.set, DISKS + 1);
                set_add(&other.set, odd);
            }
            for (unsigned k = 0; k < DISKS; k++) {
                attach(k, true);
                mark(k, k == odd ? &other : &order, false);
            }
            struct hash cut = cut_of(&order);
            for (unsigned k = 0; k < DISKS; k++) {
                feed(k, make_seal(STREAM(k), 3, history.incarnation[k], &order.round, 2,
                                  ROUND_OUTCOME_HELD, &cut));
            }
            for (size_t i = 0; i < align_count(align); i++) {
                const struct align_round *round = align_at(align, i);
                assert_int_not_equal(round->answer, ROUND_ANSWER_YES);
                if (set_is_full(&round->order.set) &&
                    epoch_equal(&round->order.epoch, &order.epoch)) {
                    assert_int_equal(round->answer, ROUND_ANSWER_NO);
                    assert_true(round->why == ALIGN_WHY_OTHER_ORDER);
                }
            }
        }
    }
}

static void cut_hashes(void **state)
{
    (void)state;
    start(true, 16);
    struct round_order order = begin(3); /* one seal with another H */
    seal(0, &order, ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS);
    seal(1, &order, ROUND_OUTCOME_HELD, 4711);
    expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_SEALS_DIFFER);

    start(true, 16);
    order = begin(3); /* all agree on what is not the hash */
    for (unsigned k = 0; k < DISKS; k++) {
        seal(k, &order, ROUND_OUTCOME_HELD, 4711);
    }
    expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_HASH_DIFFERS);

    /* the hash over other bookmarks than those here: one nonce, one LSN */
    for (int how = 0; how < 2; how++) {
        start(true, 16);
        order = make_order(3, DISKS);
        struct round_mark marks[DISKS];
        for (unsigned k = 0; k < DISKS; k++) {
            attach(k, true);
            struct record *r = mark(k, &order, false);
            marks[k] = (struct round_mark){r->stream, r->incarnation, r->lsn, r->bookmark.nonce};
        }
        marks[1].nonce.b[5] ^= how == 0 ? 1 : 0;
        marks[2].lsn += how == 1 ? 1 : 0;
        struct hash cut = round_cut_hash(&order, marks, DISKS);
        for (unsigned k = 0; k < DISKS; k++) {
            feed(k, make_seal(STREAM(k), 3, history.incarnation[k], &order.round, 2,
                              ROUND_OUTCOME_HELD, &cut));
        }
        expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_HASH_DIFFERS);
    }
}

static void definitions(void **state)
{
    (void)state;
    struct err err;
    struct id group = make_id(5);
    /* it comes last */
    start(false, 16);
    align_free(align);
    align = align_new(&group, true, 16);
    struct round_order order = begin(3);
    seal_from(0, &order);
    expect(&order, ROUND_ANSWER_UNKNOWN, ALIGN_WHY_NO_DEFINITION);
    assert_int_equal(align_define(align, &definition, &err), 0);
    expect(&order, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
    assert_non_null(align_next_decided(align));
    /* the set counts other disks than the definition */
    start(true, 16);
    order = make_order(3, DISKS + 1);
    for (unsigned k = 0; k < DISKS; k++) {
        attach(k, true);
        mark(k, &order, false);
    }
    expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_SET_SIZE);
    /* the definition is of another group */
    start(true, 16);
    align_free(align);
    align = align_new(NULL, true, 16);
    assert_int_equal(align_define(align, &definition, &err), 0);
    order = make_order(3, DISKS);
    order.group = make_id(6);
    attach(0, true);
    mark(0, &order, false);
    expect(&order, ROUND_ANSWER_NO, ALIGN_WHY_GROUP);
    /* rounds of other groups are none of this one's business, but end what is open */
    start(true, 16);
    struct round_order ours = begin(3);
    order.round = make_id(8);
    mark(0, &order, false);
    assert_null(align_find(align, &order.round));
    expect(&ours, ROUND_ANSWER_NO, ALIGN_WHY_BOOKMARK);
    /* without one: fewer streams than the set counts, and more */
    start(false, 16);
    order = make_order(3, DISKS);
    for (unsigned k = 0; k <= DISKS; k++) {
        attach(k, true);
        mark(k, &order, false);
        expect(&order, ROUND_ANSWER_UNKNOWN,
               k + 1 < DISKS    ? ALIGN_WHY_NO_SEAL
               : k + 1 == DISKS ? ALIGN_WHY_NO_SEAL
                                : ALIGN_WHY_TOO_MANY);
    }
}

/* At the limit undecided rounds are dropped, counted, and never come back. */
static void bounded(void **state)
{
    (void)state;
    start(true, 4);
    struct round_order old = make_order(100, DISKS);
    for (unsigned k = 0; k < DISKS; k++) {
        attach(k, true);
    }
    mark(0, &old, false); /* the others have not come yet */
    struct round_order done = begin(101);
    seal_from(0, &done);
    expect(&done, ROUND_ANSWER_YES, ALIGN_WHY_HELD);
    assert_non_null(align_next_decided(align)); /* old: another bookmark came */
    assert_non_null(align_next_decided(align));
    for (uint64_t i = 0; i < 8; i++) {
        struct round_order order = make_order(200 + i, DISKS);
        mark(2, &order, false);
        while (align_next_decided(align) != NULL) {
        }
        assert_true(align_count(align) <= 4);
    }
    assert_null(align_find(align, &old.round));
    assert_null(align_find(align, &done.round));
    assert_int_equal(align_dropped(align), 0);
    mark(1, &old, false); /* late, and again by someone who had named it */
    mark(0, &old, false);
    assert_null(align_find(align, &old.round));

    start(true, 2);
    for (unsigned k = 0; k < DISKS; k++) {
        attach(k, true);
    }
    struct round_order orders[DISKS];
    for (unsigned k = 0; k < DISKS; k++) { /* three open at once where two fit */
        orders[k] = make_order(300 + k, DISKS);
        mark(k, &orders[k], false);
    }
    assert_int_equal(align_dropped(align), 1);
    assert_null(align_find(align, &orders[0].round));
    seal(0, &orders[0], ROUND_OUTCOME_HELD, CUT_OF_BOOKMARKS); /* nobody waits for it */
    assert_null(align_find(align, &orders[0].round));
}

/* ---- prefixes and interleavings, against the rule written down once more, plainly ---- */

static enum round_answer plain_stream(unsigned k, const struct round_order *order, size_t fed,
                                      const struct record **ret_mark, struct hash *ret_cut,
                                      bool *ret_unheld)
{
    bool whole = false;
    const struct record *bookmark = NULL;
    for (size_t i = 0; i < fed; i++) {
        const struct record *r = &history.records[k][i];
        if (bookmark != NULL) {
            if (r->type == RECORD_SEAL) {
                if (r->seal.bookmark_lsn != bookmark->lsn ||
                    r->incarnation != bookmark->incarnation) {
                    continue;
                }
                *ret_cut = r->seal.cut;
                *ret_unheld = r->seal.outcome == ROUND_OUTCOME_UNHELD;
                bool said = bookmark->bookmark.unheld == *ret_unheld &&
                            id_equal(&r->seal.round, &order->round) &&
                            (r->seal.outcome == ROUND_OUTCOME_HELD || *ret_unheld);
                return said ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
            }
            return ROUND_ANSWER_NO;
        }
        if (r->type == RECORD_ATTACH && r->attach.first) {
            whole = r->attach.base_zero;
        } else if (r->type == RECORD_GAP) {
            whole = false;
        } else if (r->type == RECORD_BOOKMARK &&
                   id_equal(&r->bookmark.order.round, &order->round)) {
            *ret_mark = r;
            if (!whole || r->bookmark.order.kind != order->kind) {
                return ROUND_ANSWER_NO;
            }
            bookmark = r;
        }
    }
    return ROUND_ANSWER_UNKNOWN;
}

static enum round_answer plain(const struct round_order *order, const size_t *fed,
                               bool *ret_unaligned)
{
    struct round_mark marks[DISKS];
    struct hash cuts[DISKS];
    bool unheld[DISKS];
    size_t count = 0;
    bool unknown = false;
    bool no = false;
    *ret_unaligned = false;
    for (unsigned k = 0; k < DISKS; k++) {
        if (!set_has(&order->set, k)) {
            continue;
        }
        const struct record *m = NULL;
        enum round_answer a = plain_stream(k, order, fed[k], &m, &cuts[count], &unheld[count]);
        if (a != ROUND_ANSWER_YES) {
            unknown = unknown || a == ROUND_ANSWER_UNKNOWN;
            no = no || a == ROUND_ANSWER_NO;
            continue;
        }
        no = no || !hash_equal(&cuts[0], &cuts[count]) || unheld[0] != unheld[count];
        marks[count++] = (struct round_mark){m->stream, m->incarnation, m->lsn, m->bookmark.nonce};
    }
    if (no || unknown) {
        return no ? ROUND_ANSWER_NO : ROUND_ANSWER_UNKNOWN;
    }
    struct hash hash = round_cut_hash(order, marks, count);
    *ret_unaligned = hash_equal(&hash, &cuts[0]) && unheld[0];
    return hash_equal(&hash, &cuts[0]) && !unheld[0] ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
}

#define ROUNDS 4U

/* Random streams over a few rounds: mostly good ones, each kind of harm now and then. */
static void invent(struct prng *prng, struct round_order orders[ROUNDS])
{
    memset(&history, 0, sizeof history);
    uint64_t harm = prng_below(prng, 3) == 0 ? 4 : 40;
    for (unsigned k = 0; k <= DISKS; k++) {
        history.incarnation[k] = 100;
        history.records[k][history.count[k]++] =
            make_attach(number_of(k), 1, 100, prng_below(prng, harm) != 0);
    }
    for (unsigned n = 0; n < ROUNDS; n++) {
        orders[n] = make_order(500 + n, DISKS);
        if (prng_below(prng, 5) == 0) {
            set_init(&orders[n].set, DISKS);
            set_add(&orders[n].set, (unsigned)prng_below(prng, DISKS));
            set_add(&orders[n].set, (unsigned)prng_below(prng, DISKS));
        }
    }
    for (unsigned n = 0; n < ROUNDS; n++) {
        bool unheld = prng_below(prng, 6) == 0;
        bool marked[DISKS + 1];
        for (unsigned k = 0; k <= DISKS; k++) {
            struct round_order order =
                orders[prng_below(prng, harm) == 0 ? prng_below(prng, ROUNDS) : n];
            if (prng_below(prng, harm) == 0) {
                order.kind = ROUND_KIND_APPLICATION;
            }
            marked[k] = (k == DISKS ? prng_below(prng, 2) : prng_below(prng, harm)) != 0 &&
                        (k == DISKS || set_has(&orders[n].set, k));
            if (marked[k]) {
                struct record r = make_bookmark(number_of(k), next_lsn(k), history.incarnation[k],
                                                &order, prng_next(prng));
                r.bookmark.unheld = unheld;
                history.records[k][history.count[k]++] = r;
            }
        }
        struct hash cut = cut_of(&orders[n]);
        for (unsigned k = 0; k <= DISKS; k++) {
            uint64_t lsn = next_lsn(k);
            uint64_t event = prng_below(prng, 4 * harm);
            if (event == 0) {
                history.records[k][history.count[k]++] =
                    make_gap(number_of(k), lsn++, history.incarnation[k]);
            } else if (event == 1) {
                history.incarnation[k] += 100;
                history.records[k][history.count[k]++] =
                    make_attach(number_of(k), lsn++, history.incarnation[k], false);
            }
            if (!marked[k] || prng_below(prng, harm) == 0) {
                continue;
            }
            struct hash other = make_hash(n);
            uint64_t odd = prng_below(prng, 4 * harm);
            struct record r = make_seal(number_of(k), lsn, history.incarnation[k], &orders[n].round,
                                        lsn - 1 - (odd == 5 ? 1 : 0),
                                        unheld ? ROUND_OUTCOME_UNHELD : ROUND_OUTCOME_HELD,
                                        odd == 6 ? &other : &cut);
            if (odd == 7 || odd == 8) {
                r.seal.outcome = odd == 7 ? ROUND_OUTCOME_EXPIRED : ROUND_OUTCOME_ABORTED;
                memset(&r.seal.cut, 0, sizeof r.seal.cut);
            }
            history.records[k][history.count[k]++] = r;
        }
    }
}

static void interleavings(void **state)
{
    (void)state;
    struct id group = make_id(5);
    struct prng prng;
    unsigned answers[3] = {0, 0, 0};
    unsigned unaligned_seen = 0;
    prng_init(&prng, 20004);
    for (unsigned run = 0; run < 1500; run++) {
        struct round_order orders[ROUNDS];
        enum round_answer before[ROUNDS] = {ROUND_ANSWER_UNKNOWN};
        invent(&prng, orders);
        struct err err;
        size_t fed[DISKS + 1] = {0};
        align_free(align);
        align = align_new(&group, true, 64);
        uint64_t define_at = prng_below(&prng, 3) == 0 ? prng_below(&prng, 12) : 0;
        for (uint64_t step = 0;; step++) {
            if (step == define_at) {
                assert_int_equal(align_define(align, &definition, &err), 0);
            }
            unsigned k = (unsigned)prng_below(&prng, DISKS + 1);
            unsigned tries = 0;
            while (fed[k] == history.count[k] && tries++ <= DISKS) {
                k = (k + 1) % (DISKS + 1);
            }
            if (fed[k] < history.count[k]) {
                assert_int_equal(align_feed(align, &history.records[k][fed[k]++], &err), 0);
            } else if (step > define_at) {
                break;
            }
            if (step < define_at) {
                continue;
            }
            while (align_next_decided(align) != NULL) {
            }
            for (unsigned n = 0; n < ROUNDS; n++) {
                bool due_unaligned = false;
                enum round_answer due = plain(&orders[n], fed, &due_unaligned);
                enum round_answer got = ROUND_ANSWER_UNKNOWN;
                bool unaligned = false;
                bool found = false;
                for (size_t i = 0; i < align_count(align); i++) {
                    const struct align_round *round = align_at(align, i);
                    if (id_equal(&round->order.round, &orders[n].round) &&
                        round->order.kind == orders[n].kind &&
                        set_equal(&round->order.set, &orders[n].set)) {
                        got = round->answer;
                        unaligned = round->unaligned;
                        found = true;
                    }
                }
                if (!found) {
                    continue; /* nobody has named it in this order yet */
                }
                if (got != due || unaligned != due_unaligned) {
                    fail_msg("run %u, step %u, round %u: answer %s, due %s", run, (unsigned)step, n,
                             round_answer_name(got), round_answer_name(due));
                }
                assert_true(before[n] == ROUND_ANSWER_UNKNOWN || before[n] == got);
                before[n] = got;
            }
            assert_null(align_next_decided(align)); /* looking decides nothing */
        }
        for (unsigned n = 0; n < ROUNDS; n++) {
            bool is_unaligned = false;
            answers[plain(&orders[n], fed, &is_unaligned)]++;
            unaligned_seen += is_unaligned ? 1 : 0;
        }
    }
    /* the inventor must have invented enough of each */
    assert_true(answers[ROUND_ANSWER_YES] > 500);
    assert_true(answers[ROUND_ANSWER_NO] > 500);
    assert_true(answers[ROUND_ANSWER_UNKNOWN] > 200);
    assert_true(unaligned_seen > 100);
}

/* A group at its limits, streams arriving one after the other and reversed. */
static void large_group(void **state)
{
    (void)state;
    static struct definition large;
    struct id group = make_id(5);
    struct err err;
    memset(&large, 0, sizeof large);
    large.group = group;
    large.epoch = (struct epoch){.number = 7, .hash = make_hash(7)};
    large.member_count = 1;
    large.disk_count = TIDE_DISKS_MAX;
    struct round_order order = make_order(3, TIDE_DISKS_MAX);
    struct round_mark *marks = calloc(TIDE_DISKS_MAX, sizeof *marks);
    TIDE_CHECK(marks != NULL);
    for (unsigned k = 0; k < TIDE_DISKS_MAX; k++) {
        large.disks[k].stream = make_id(10000 + k);
        marks[k] = (struct round_mark){make_id(10000 + k), 5, 2, make_id(20000 + k)};
    }
    struct hash cut = round_cut_hash(&order, marks, TIDE_DISKS_MAX);
    align_free(align);
    align = align_new(&group, true, 16);
    assert_int_equal(align_define(align, &large, &err), 0);
    for (unsigned k = TIDE_DISKS_MAX; k-- > 0;) {
        struct record r = make_attach(10000 + k, 1, 5, true);
        assert_int_equal(align_feed(align, &r, &err), 0);
        r = make_bookmark(10000 + k, 2, 5, &order, 20000 + k);
        assert_int_equal(align_feed(align, &r, &err), 0);
        r = make_seal(10000 + k, 3, 5, &order.round, 2, ROUND_OUTCOME_HELD, &cut);
        assert_int_equal(align_feed(align, &r, &err), 0);
        if (k % 128 == 0) {
            expect(&order, k == 0 ? ROUND_ANSWER_YES : ROUND_ANSWER_UNKNOWN,
                   k == 0 ? ALIGN_WHY_HELD : ALIGN_WHY_NO_BOOKMARK);
        }
    }
    free(marks);
}

static int finish(void **state)
{
    (void)state;
    align_free(align);
    align = NULL;
    return 0;
}

int main(void)
{
    define();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_round),    cmocka_unit_test(partial_rounds),
        cmocka_unit_test(single_vms),    cmocka_unit_test(alien_streams),
        cmocka_unit_test(unheld_rounds), cmocka_unit_test(broken_streams),
        cmocka_unit_test(not_whole),     cmocka_unit_test(other_orders),
        cmocka_unit_test(cut_hashes),    cmocka_unit_test(definitions),
        cmocka_unit_test(bounded),       cmocka_unit_test(interleavings),
        cmocka_unit_test(large_group),   cmocka_unit_test(copied),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
