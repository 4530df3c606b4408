/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/hostile.h"

#include "common/core/check.h"
#include "common/core/prng.h"

#include <stdlib.h>
#include <string.h>

#define DISKS_MAX   TIDE_DISKS_MAX
#define STARTS_KEPT 64U     /* nonces kept of a tap's start: the first so many */
#define GIVE_UP_US  80000U  /* for each step of a round */
#define REST_US     120000U /* the duty limit wants a pause */
#define BUDGET_US   50000U
#define HEARD_US    100U /* from a bookmark to when the member has heard of it */

enum trick {
    GUESS_LAST = 0, /* the nonce that the tap used last */
    GUESS_ROUND,    /* the round's id */
    GUESS_START,    /* the nonce at the same place after an earlier start */
    GUESS_NOTHING,  /* an H of no bookmarks */
    SETS,
    TRICKS,
};

enum step {
    RESTING = 0,
    FIRST_ORDERED,  /* until it holds */
    FIRST_HOLDS,    /* for a while, so that writes are held */
    FIRST_LET_GO,   /* until the second's LSNs are those that were guessed */
    SECOND_ORDERED, /* until it holds */
    SECOND_HOLDS,   /* until its member has heard that from all its taps */
};

struct nonces {
    uint64_t incarnation;
    unsigned used; /* since that start */
    struct id last;
    struct id of_start[STARTS_KEPT]; /* of the last start that came so far */
};

struct target {
    unsigned member;
    unsigned count;
    unsigned disks[ROUNDLAB_DISKS];
    struct round_mark marks[ROUNDLAB_DISKS]; /* guessed, then as placed */
    unsigned placed;
    struct round_order order; /* as it is shown to this one */
};

struct hostile {
    struct roundlab *lab;
    struct check *check;
    struct prng prng;
    struct nonces nonces[DISKS_MAX];
    unsigned left;
    uint64_t next_us;
    enum step step;
    enum trick trick;
    uint64_t until_us; /* RESTING: nothing; *_HOLDS: lets go then; else gives up then */
    unsigned self;     /* in whose name it orders */
    struct target first;
    struct target second;
    struct hash cut;
};

struct hostile *hostile_new(struct roundlab *lab, struct check *check, uint64_t seed)
{
    struct hostile *h = calloc(1, sizeof *h);
    TIDE_CHECK(h != NULL);
    h->lab = lab;
    h->check = check;
    prng_init(&h->prng, seed ^ 0x686f7374696c65ULL);
    return h;
}

void hostile_free(struct hostile *h)
{
    free(h);
}

static struct id random_id(struct hostile *h)
{
    struct id id;
    for (unsigned i = 0; i < TIDE_ID_SIZE; i += 8) {
        uint64_t bits = prng_next(&h->prng);
        memcpy(id.b + i, &bits, 8);
    }
    id.b[0] |= 1;
    return id;
}

/* ---- orders ---- */

static void order_hold(struct hostile *h, const struct target *to)
{
    struct msg msg = {.type = MSG_HOLD};
    const struct definition *all = roundlab_definition(h->lab);
    msg.hold.round = to->order.round;
    msg.hold.scope = to->order.scope;
    msg.hold.kind = to->order.kind;
    msg.hold.set = to->order.set;
    msg.hold.budget_us = BUDGET_US;
    msg.hold.tap_count = to->count;
    for (unsigned i = 0; i < to->count; i++) {
        uint64_t lsn;
        msg.hold.taps[i].stream = all->disks[to->disks[i]].stream;
        roundlab_tap_next(h->lab, to->disks[i], &msg.hold.taps[i].incarnation, &lsn);
        msg.hold.taps[i].whole = true;
    }
    roundlab_inject(h->lab, h->self, to->member, &msg);
}

static void order_release(struct hostile *h, const struct target *to)
{
    struct msg msg = {.type = MSG_RELEASE};
    msg.release.round = to->order.round;
    msg.release.cut = h->cut;
    roundlab_inject(h->lab, h->self, to->member, &msg);
}

/* ---- what it reckons with ---- */

static struct id guess(const struct hostile *h, unsigned disk, uint64_t incarnation)
{
    const struct nonces *known = &h->nonces[disk];
    unsigned used = known->incarnation == incarnation ? known->used : 0;
    if (h->trick == GUESS_ROUND) {
        return h->first.order.round;
    }
    if (h->trick == GUESS_START && used < STARTS_KEPT) {
        return known->of_start[used];
    }
    return known->last;
}

static bool guess_second(struct hostile *h)
{
    struct target *second = &h->second;
    for (unsigned i = 0; i < second->count; i++) {
        struct round_mark *mark = &second->marks[i];
        uint64_t lsn;
        mark->stream = roundlab_definition(h->lab)->disks[second->disks[i]].stream;
        if (!roundlab_tap_next(h->lab, second->disks[i], &mark->incarnation, &lsn)) {
            return false;
        }
        mark->lsn = lsn + prng_below(&h->prng, 3);
        mark->nonce = guess(h, second->disks[i], mark->incarnation);
    }
    return true;
}

/* -1: one is over its guess; 1: all are as guessed. */
static int compare_second(const struct hostile *h)
{
    unsigned as_guessed = 0;
    for (unsigned i = 0; i < h->second.count; i++) {
        uint64_t incarnation;
        uint64_t lsn;
        bool runs = roundlab_tap_next(h->lab, h->second.disks[i], &incarnation, &lsn);
        if (!runs || incarnation != h->second.marks[i].incarnation ||
            lsn > h->second.marks[i].lsn) {
            return -1;
        }
        as_guessed += lsn == h->second.marks[i].lsn;
    }
    return as_guessed == h->second.count;
}

static void compute_cut(struct hostile *h)
{
    struct round_mark marks[2 * ROUNDLAB_DISKS];
    unsigned count = 0;
    for (unsigned i = 0; i < h->first.count; i++) {
        marks[count++] = h->first.marks[i];
    }
    for (unsigned i = 0; i < h->second.count; i++) {
        marks[count++] = h->second.marks[i];
    }
    h->cut = round_cut_hash(&h->first.order, marks, h->trick == GUESS_NOTHING ? 0 : count);
}

/* ---- a round ---- */

static void rest(struct hostile *h)
{
    h->step = RESTING;
    h->next_us = roundlab_now(h->lab) + REST_US + prng_below(&h->prng, REST_US);
}

static void target_init(const struct hostile *h, const struct definition *definition,
                        unsigned member, struct target *ret)
{
    const struct definition *all = roundlab_definition(h->lab);
    const struct definition_member *m = &definition->members[member];
    memset(ret, 0, sizeof *ret);
    ret->member = (unsigned)definition_find_member(all, &m->name);
    for (unsigned i = 0; i < m->disk_count; i++) {
        const struct id *stream = &definition->disks[m->disk_first + i].stream;
        ret->disks[ret->count++] = (unsigned)definition_find_stream(all, stream);
    }
    ret->order = (struct round_order){.group = definition->group,
                                      .epoch = definition->epoch,
                                      .scope = ROUND_SCOPE_GROUP,
                                      .kind = ROUND_KIND_CRASH};
    set_init(&ret->order.set, definition->disk_count);
}

static void begin(struct hostile *h)
{
    unsigned ignored;
    const struct definition *definition = roundlab_newest(h->lab);
    unsigned members = definition->member_count;
    unsigned a = (unsigned)prng_below(&h->prng, members);
    unsigned b = (unsigned)prng_below(&h->prng, members);
    unsigned self = (unsigned)prng_below(&h->prng, definition_candidates(definition));
    h->trick = (enum trick)prng_below(&h->prng, TRICKS);
    h->left--;
    target_init(h, definition, a, &h->first);
    target_init(h, definition, b, &h->second);
    if (a == b || roundlab_known(h->lab, h->first.member, &ignored) != definition ||
        roundlab_known(h->lab, h->second.member, &ignored) != definition) {
        rest(h);
        return;
    }
    h->self = (unsigned)definition_find_member(roundlab_definition(h->lab),
                                               &definition->members[self].name);
    h->first.order.round = h->second.order.round = random_id(h);
    definition_set_member(definition, a, &h->first.order.set);
    definition_set_member(definition, b, &h->first.order.set);
    h->second.order.set = h->first.order.set;
    if (h->trick == SETS) {
        set_init(&h->second.order.set, definition->disk_count);
        definition_set_member(definition, b, &h->second.order.set);
    }
    check_hostile(h->check, &h->first.order.round);
    h->step = FIRST_ORDERED;
    h->until_us = roundlab_now(h->lab) + GIVE_UP_US;
    order_hold(h, &h->first);
}

static void let_first_go(struct hostile *h)
{
    uint64_t now_us = roundlab_now(h->lab);
    if (h->trick == SETS) {
        h->step = SECOND_ORDERED;
        h->until_us = now_us + GIVE_UP_US;
        order_hold(h, &h->second);
        return;
    }
    if (!guess_second(h)) {
        rest(h);
        return;
    }
    compute_cut(h);
    order_release(h, &h->first);
    h->step = FIRST_LET_GO;
    h->until_us = now_us + GIVE_UP_US;
}

static void end_round(struct hostile *h)
{
    if (h->trick == SETS) {
        compute_cut(h);
        order_release(h, &h->first);
    }
    order_release(h, &h->second);
    rest(h);
}

static void advance(struct hostile *h)
{
    uint64_t now_us = roundlab_now(h->lab);
    int compared;
    if (h->step == RESTING) {
        if (h->left > 0 && now_us >= h->next_us) {
            begin(h);
        }
        return;
    }
    if (h->step != FIRST_HOLDS && h->step != SECOND_HOLDS && now_us > h->until_us) {
        rest(h);
        return;
    }
    switch (h->step) {
    case FIRST_ORDERED:
        if (h->first.placed == h->first.count) {
            h->step = FIRST_HOLDS;
            h->until_us = now_us + HEARD_US + prng_below(&h->prng, BUDGET_US / 2);
        }
        break;
    case FIRST_HOLDS:
        if (now_us >= h->until_us) {
            let_first_go(h);
        }
        break;
    case FIRST_LET_GO:
        compared = compare_second(h);
        if (compared < 0) {
            rest(h);
        } else if (compared > 0) {
            h->step = SECOND_ORDERED;
            order_hold(h, &h->second);
        }
        break;
    case SECOND_ORDERED:
        if (h->second.placed == h->second.count) {
            h->step = SECOND_HOLDS;
            h->until_us = now_us + HEARD_US;
        }
        break;
    case SECOND_HOLDS:
        if (now_us >= h->until_us) {
            end_round(h);
        }
        break;
    case RESTING:
    default:
        break;
    }
}

static void placed(struct target *target, unsigned disk, const struct record *record)
{
    for (unsigned i = 0; i < target->count; i++) {
        if (target->disks[i] == disk) {
            target->marks[i] = (struct round_mark){.stream = record->stream,
                                                   .incarnation = record->incarnation,
                                                   .lsn = record->lsn,
                                                   .nonce = record->bookmark.nonce};
            target->placed++;
        }
    }
}

void hostile_saw_record(struct hostile *h, unsigned disk, const struct record *record)
{
    if (record->type != RECORD_BOOKMARK) {
        return;
    }
    struct nonces *known = &h->nonces[disk];
    if (known->incarnation != record->incarnation) {
        known->incarnation = record->incarnation;
        known->used = 0;
    }
    known->last = record->bookmark.nonce;
    if (known->used < STARTS_KEPT) {
        known->of_start[known->used] = record->bookmark.nonce;
    }
    known->used++;
    if (h->step != RESTING && id_equal(&record->bookmark.order.round, &h->first.order.round)) {
        placed(&h->first, disk, record);
        placed(&h->second, disk, record);
    }
    advance(h);
}

void hostile_saw_write(struct hostile *h)
{
    advance(h);
}

void hostile_begin(struct hostile *h, unsigned rounds)
{
    h->left = rounds;
}

void hostile_end(struct hostile *h)
{
    h->left = 0;
}
