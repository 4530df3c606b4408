/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/check.h"

#include "common/core/check.h"
#include "tests/sim/rule.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISKS_MAX  64
#define TOKENS_MAX 64
#define DUTY_US    100000U /* protocol.md, "The budget, and the duty limit" */
#define WINDOW_US  1000000U
#define PAUSE_US   100000U
#define CAP_US     50000U
#define SPANS      16 /* holds of a disk that can touch one second, with room */

struct span {
    uint64_t start_us;
    uint64_t end_us;
};

struct disk {
    struct check_stream stream;
    bool holding;
    uint64_t start_us;
    uint64_t deadline_us;
    struct span spans[SPANS];
    unsigned span_count; /* ever */
};

struct write {
    unsigned disk;
    uint64_t lsn;
    int token;
    bool has_cause;
};

struct answer {
    struct round_order order;
    enum round_answer answer;
};

struct stale {
    struct id round;
    unsigned member;
};

struct check {
    const struct definition *definition;
    struct disk disks[DISKS_MAX];
    struct write *writes;
    size_t write_count;
    size_t write_room;
    struct answer *answers; /* yes or no, once given */
    size_t answer_count;
    size_t answer_room;
    struct stale *stale;
    size_t stale_count;
    size_t stale_room;
    unsigned late;
    uint64_t hold_us_max;
    uint64_t digest;
    char failure[400];
};

static void *room_for(void *from, size_t *room, size_t count, size_t size)
{
    if (count < *room) {
        return from;
    }
    *room = *room == 0 ? 64 : *room * 2;
    void *to = realloc(from, *room * size);
    TIDE_CHECK(to != NULL);
    return to;
}

__attribute__((format(printf, 4, 5))) static void breach(struct check *check, uint64_t now_us,
                                                         const char *name, const char *format, ...)
{
    if (check->failure[0] != '\0') {
        return;
    }
    char what[300];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    snprintf(check->failure, sizeof check->failure, "%s at %" PRIu64 ".%06" PRIu64 " s: %s", name,
             now_us / 1000000, now_us % 1000000, what);
}

static const char *disk_name(const struct check *check, unsigned disk)
{
    static char text[2 * TIDE_NAME_MAX + 8];
    const struct definition *d = check->definition;
    snprintf(text, sizeof text, "%s/%s", d->members[d->disks[disk].member].name.s,
             d->disks[disk].name.s);
    return text;
}

struct check *check_new(const struct definition *definition)
{
    struct check *check = calloc(1, sizeof *check);
    TIDE_CHECK(check != NULL);
    TIDE_CHECK(definition->disk_count <= DISKS_MAX);
    check->definition = definition;
    check->digest = 14695981039346656037U;
    return check;
}

void check_free(struct check *check)
{
    if (check == NULL) {
        return;
    }
    for (unsigned i = 0; i < DISKS_MAX; i++) {
        free(check->disks[i].stream.records);
        free(check->disks[i].stream.at_us);
    }
    free(check->writes);
    free(check->answers);
    free(check->stale);
    free(check);
}

static void fold(struct check *check, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    for (size_t i = 0; i < size; i++) {
        check->digest = (check->digest ^ from[i]) * 1099511628211U;
    }
}

/* ---- holds ---- */

static uint64_t overlap(const struct disk *disk, uint64_t from_us, uint64_t to_us)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SPANS && i < disk->span_count; i++) {
        uint64_t a = disk->spans[i].start_us > from_us ? disk->spans[i].start_us : from_us;
        uint64_t b = disk->spans[i].end_us < to_us ? disk->spans[i].end_us : to_us;
        sum += b > a ? b - a : 0;
    }
    return sum;
}

static void hold_begins(struct check *check, uint64_t now_us, unsigned disk,
                        const struct record *record)
{
    struct disk *d = &check->disks[disk];
    const struct round_order *order = &record->bookmark.order;
    if (!epoch_equal(&order->epoch, &check->definition->epoch)) {
        breach(check, now_us, "stale", "%s has a bookmark of another epoch",
               disk_name(check, disk));
    }
    for (size_t i = 0; i < check->stale_count; i++) {
        if (id_equal(&check->stale[i].round, &order->round) &&
            check->stale[i].member == check->definition->disks[disk].member) {
            breach(check, now_us, "stale", "%s obeyed an order for another epoch or incarnation",
                   disk_name(check, disk));
        }
    }
    if (d->holding) {
        breach(check, now_us, "budget", "%s begins a hold within a hold", disk_name(check, disk));
    }
    if (record->bookmark.unheld) {
        return;
    }
    unsigned last = (d->span_count + SPANS - 1) % SPANS;
    if (d->span_count > 0 && now_us < d->spans[last].end_us + PAUSE_US &&
        d->spans[last].end_us != 0) {
        breach(check, now_us, "duty", "%s holds again %" PRIu64 " us after its last hold",
               disk_name(check, disk), now_us - d->spans[last].end_us);
    }
    if (record->bookmark.budget_us > CAP_US) {
        breach(check, now_us, "budget", "%s holds for up to %u us, over the tap's cap",
               disk_name(check, disk), record->bookmark.budget_us);
    }
    d->holding = true;
    d->start_us = now_us;
    d->deadline_us = now_us + record->bookmark.budget_us;
}

void check_let_go(struct check *check, uint64_t now_us, unsigned disk)
{
    struct disk *d = &check->disks[disk];
    if (!d->holding) {
        return;
    }
    d->holding = false;
    uint64_t held_us = now_us - d->start_us;
    check->hold_us_max = held_us > check->hold_us_max ? held_us : check->hold_us_max;
    if (now_us > d->deadline_us) {
        breach(check, now_us, "budget", "%s held for %" PRIu64 " us, its budget was %" PRIu64 " us",
               disk_name(check, disk), held_us, d->deadline_us - d->start_us);
    }
    d->spans[d->span_count++ % SPANS] = (struct span){d->start_us, now_us};
    uint64_t from_us = now_us > WINDOW_US ? now_us - WINDOW_US : 0;
    if (overlap(d, from_us, now_us) > DUTY_US) {
        breach(check, now_us, "duty", "%s held for %" PRIu64 " us of the last second",
               disk_name(check, disk), overlap(d, from_us, now_us));
    }
}

void check_stale(struct check *check, const struct id *round, unsigned member)
{
    check->stale =
        room_for(check->stale, &check->stale_room, check->stale_count, sizeof *check->stale);
    check->stale[check->stale_count++] = (struct stale){*round, member};
}

/* ---- what happens ---- */

void check_record(struct check *check, uint64_t now_us, unsigned disk, const struct record *record)
{
    struct check_stream *s = &check->disks[disk].stream;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(record, bytes, sizeof bytes);
    fold(check, &now_us, sizeof now_us);
    fold(check, bytes, size);
    if (s->count > 0 && record->lsn <= s->records[s->count - 1].lsn) {
        breach(check, now_us, "rule", "%s: LSN %" PRIu64 " comes after %" PRIu64,
               disk_name(check, disk), record->lsn, s->records[s->count - 1].lsn);
    }
    size_t room = s->room;
    s->records = room_for(s->records, &room, s->count, sizeof *s->records);
    s->at_us = room_for(s->at_us, &s->room, s->count, sizeof *s->at_us);
    s->records[s->count] = *record;
    s->at_us[s->count++] = now_us;
    if (record->type == RECORD_BOOKMARK) {
        hold_begins(check, now_us, disk, record);
    }
}

void check_write(struct check *check, unsigned disk, uint64_t lsn, int token, bool has_cause)
{
    TIDE_CHECK(token < TOKENS_MAX);
    check->writes =
        room_for(check->writes, &check->write_room, check->write_count, sizeof *check->writes);
    check->writes[check->write_count++] = (struct write){disk, lsn, token, has_cause};
    check->late += check->disks[disk].holding;
    fold(check, &lsn, sizeof lsn);
}

/* ---- answers ---- */

static bool is_all(const struct check *check, const struct set *set)
{
    unsigned in = 0;
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        in += set->count == check->definition->disk_count && set_has(set, d);
    }
    return in == check->definition->disk_count;
}

/* The member of whom these are all disks, and no others; -1: there is none. */
static int of_one(const struct check *check, const struct set *set)
{
    int member = -1;
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        member = set_has(set, d) ? (int)check->definition->disks[d].member : member;
    }
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        if (set_has(set, d) != ((int)check->definition->disks[d].member == member)) {
            return -1;
        }
    }
    return member;
}

static enum align_label due_label(const struct check *check, const struct round_order *order)
{
    if (order->scope != ROUND_SCOPE_GROUP) {
        return of_one(check, &order->set) >= 0 ? ALIGN_LABEL_SINGLE_VM : ALIGN_LABEL_NONE;
    }
    return is_all(check, &order->set) ? ALIGN_LABEL_FULL : ALIGN_LABEL_PARTIAL;
}

static bool any_unheld(const struct check *check, const struct round_order *order)
{
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        const struct check_stream *s = &check->disks[d].stream;
        long at = rule_bookmark(s, &order->round);
        if (at >= 0 && set_has(&order->set, d) && s->records[at].bookmark.unheld) {
            return true;
        }
    }
    return false;
}

/* What was answered before for that order; NULL: nothing. Mostly at the same place. */
static struct answer *answered(struct check *check, size_t hint, const struct round_order *order)
{
    if (hint < check->answer_count && rule_order_equal(&check->answers[hint].order, order)) {
        return &check->answers[hint];
    }
    for (size_t i = 0; i < check->answer_count; i++) {
        if (rule_order_equal(&check->answers[i].order, order)) {
            return &check->answers[i];
        }
    }
    return NULL;
}

static void check_answer(struct check *check, uint64_t now_us, const struct align_round *round,
                         size_t index)
{
    char hex[TIDE_ID_HEX];
    if (round->answer == ROUND_ANSWER_YES) {
        enum align_label label = align_label(round, check->definition);
        if (round->defined && label != due_label(check, &round->order)) {
            breach(check, now_us, "label", "round %.8s is called \"%s\" and is not",
                   id_hex(&round->order.round, hex), align_label_name(label));
        }
    }
    const struct answer *before = answered(check, index, &round->order);
    if (before == NULL && round->answer == ROUND_ANSWER_YES && any_unheld(check, &round->order)) {
        breach(check, now_us, "label", "round %.8s was not held and is called consistent",
               id_hex(&round->order.round, hex));
    }
    if (round->answer == ROUND_ANSWER_UNKNOWN) {
        return; /* whoever has read less may not know yet; who does know says the same */
    }
    if (before != NULL) {
        if (round->answer != before->answer) {
            breach(check, now_us, "final", "round %.8s was %s and is %s",
                   id_hex(&round->order.round, hex), round_answer_name(before->answer),
                   round_answer_name(round->answer));
        }
        return;
    }
    check->answers =
        room_for(check->answers, &check->answer_room, check->answer_count, sizeof *check->answers);
    check->answers[check->answer_count++] = (struct answer){round->order, round->answer};
}

void check_answers(struct check *check, uint64_t now_us, const struct align *align)
{
    for (size_t i = 0; i < align_count(align); i++) {
        check_answer(check, now_us, align_at(align, i), i);
    }
}

/* ---- the end ---- */

static void copy_streams(const struct check *check, struct check_stream ret[DISKS_MAX])
{
    for (unsigned i = 0; i < check->definition->disk_count; i++) {
        ret[i] = check->disks[i].stream;
    }
}

/* Along each token every write was issued after the one before it was acknowledged: once one is
 * missing from the disks of the point, none of the later ones may be there. */
static void check_causes(struct check *check, uint64_t now_us, const struct round_order *order)
{
    uint64_t cuts[DISKS_MAX] = {0}; /* 0: not in the set */
    bool missing[TOKENS_MAX] = {false};
    char hex[TIDE_ID_HEX];
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        long at = rule_bookmark(&check->disks[d].stream, &order->round);
        cuts[d] = set_has(&order->set, d) && at >= 0 ? check->disks[d].stream.records[at].lsn : 0;
    }
    for (size_t i = 0; i < check->write_count; i++) {
        const struct write *w = &check->writes[i];
        if (w->token < 0) {
            continue;
        }
        missing[w->token] &= w->has_cause;
        if (cuts[w->disk] == 0) {
            continue;
        }
        if (w->lsn > cuts[w->disk]) {
            missing[w->token] = true;
        } else if (missing[w->token]) {
            breach(check, now_us, "cause",
                   "point %.8s has write %" PRIu64 " of %s without its cause",
                   id_hex(&order->round, hex), w->lsn, disk_name(check, w->disk));
            return;
        }
    }
}

static void check_rule(struct check *check, uint64_t now_us, const struct align_round *round,
                       enum round_answer own)
{
    char hex[TIDE_ID_HEX];
    bool yes = round->answer == ROUND_ANSWER_YES;
    bool agree = yes == (own == ROUND_ANSWER_YES) &&
                 (own != ROUND_ANSWER_NO || round->answer == ROUND_ANSWER_NO);
    if (!agree) {
        breach(check, now_us, "rule", "round %.8s: the reader says %s, the rule %s",
               id_hex(&round->order.round, hex), round_answer_name(round->answer),
               round_answer_name(own));
    }
}

struct check_count check_end(struct check *check, uint64_t now_us, const struct align *align)
{
    struct check_stream streams[DISKS_MAX];
    struct check_count count = {.writes = (unsigned)check->write_count,
                                .late = check->late,
                                .hold_us_max = check->hold_us_max};
    copy_streams(check, streams);
    check_answers(check, now_us, align);
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        if (check->disks[d].holding && now_us > check->disks[d].deadline_us) {
            breach(check, now_us, "budget", "%s still holds, its budget is over",
                   disk_name(check, d));
        }
    }
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        enum round_answer own = rule_round(check->definition, streams, &round->order);
        check_rule(check, now_us, round, own);
        count.rounds++;
        /* Either reader's word is enough to look: a point that should be none is the worst. */
        if (round->answer == ROUND_ANSWER_YES || own == ROUND_ANSWER_YES) {
            bool group = round->order.scope == ROUND_SCOPE_GROUP;
            count.points++;
            count.full += group && is_all(check, &round->order.set);
            count.single += !group;
            check_causes(check, now_us, &round->order);
        }
    }
    return count;
}

static unsigned first_of(const struct set *set)
{
    unsigned d = 0;
    while (d < set->count && !set_has(set, d)) {
        d++;
    }
    return d;
}

/* member -1: whichever it is of. */
static unsigned points_called(struct check *check, uint64_t from_us, uint64_t to_us,
                              enum align_label label, int member)
{
    struct check_stream streams[DISKS_MAX];
    unsigned points = 0;
    copy_streams(check, streams);
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        for (size_t i = 0; i < streams[d].count; i++) {
            const struct record *r = &streams[d].records[i];
            const struct round_order *order = &r->bookmark.order;
            points += r->type == RECORD_BOOKMARK && streams[d].at_us[i] >= from_us &&
                      streams[d].at_us[i] <= to_us && first_of(&order->set) == d &&
                      due_label(check, order) == label &&
                      (member < 0 || of_one(check, &order->set) == member) &&
                      rule_round(check->definition, streams, order) == ROUND_ANSWER_YES;
        }
    }
    return points;
}

unsigned check_points(struct check *check, uint64_t from_us, uint64_t to_us, bool full)
{
    return points_called(check, from_us, to_us, full ? ALIGN_LABEL_FULL : ALIGN_LABEL_PARTIAL, -1);
}

unsigned check_single(struct check *check, uint64_t from_us, uint64_t to_us, int member)
{
    return points_called(check, from_us, to_us, ALIGN_LABEL_SINGLE_VM, member);
}

static bool named_before(const struct check_stream streams[DISKS_MAX], unsigned disk,
                         const struct id *round)
{
    for (unsigned d = 0; d < disk; d++) {
        if (rule_bookmark(&streams[d], round) >= 0) {
            return true;
        }
    }
    return false;
}

unsigned check_lost(struct check *check, uint64_t from_us, uint64_t to_us)
{
    struct check_stream streams[DISKS_MAX];
    unsigned rounds = 0;
    copy_streams(check, streams);
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        for (size_t i = 0; i < streams[d].count; i++) {
            const struct record *r = &streams[d].records[i];
            const struct round_order *order = &r->bookmark.order;
            rounds += r->type == RECORD_BOOKMARK && streams[d].at_us[i] >= from_us &&
                      streams[d].at_us[i] <= to_us && !named_before(streams, d, &order->round) &&
                      rule_round(check->definition, streams, order) != ROUND_ANSWER_YES;
        }
    }
    return rounds;
}

const struct check_stream *check_streams(const struct check *check, unsigned disk)
{
    return &check->disks[disk].stream;
}

const char *check_failure(const struct check *check)
{
    return check->failure[0] == '\0' ? NULL : check->failure;
}

uint64_t check_digest(const struct check *check)
{
    return check->digest;
}
