/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/check_own.h"

#include "common/core/check.h"
#include "tests/sim/rule.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *check_room(void *from, size_t *room, size_t count, size_t size)
{
    if (count < *room) {
        return from;
    }
    *room = *room == 0 ? 64 : *room * 2;
    void *to = realloc(from, *room * size);
    TIDE_CHECK(to != NULL);
    return to;
}

void check_breach(struct check *check, uint64_t now_us, const char *name, const char *format, ...)
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

const char *check_disk_name(const struct check *check, unsigned disk)
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
    check->definition = definition;
    check->digest = 14695981039346656037U;
    check_define(check, definition);
    for (unsigned m = 0; m < definition->member_count; m++) {
        check->knows[m].now = definition;
    }
    return check;
}

static unsigned flat_of(const struct check *check, const struct id *stream)
{
    for (unsigned i = 0; i < check->definition->disk_count; i++) {
        if (memcmp(check->definition->disks[i].stream.b, stream->b, sizeof stream->b) == 0) {
            return i;
        }
    }
    TIDE_CHECK(false);
    return 0;
}

void check_define(struct check *check, const struct definition *definition)
{
    struct issued *issued = calloc(1, sizeof *issued);
    TIDE_CHECK(issued != NULL && check->issued_count < EPOCHS_MAX);
    issued->definition = definition;
    for (unsigned i = 0; i < definition->disk_count; i++) {
        unsigned flat =
            definition == check->definition ? i : flat_of(check, &definition->disks[i].stream);
        issued->flat[i] = (uint16_t)flat;
        issued->streams[i] = &check->disks[flat].stream;
    }
    check->issued[check->issued_count++] = issued;
}

const struct issued *check_issued(const struct check *check, const struct epoch *epoch)
{
    for (unsigned i = check->issued_count; i > 0; i--) {
        const struct epoch *at = &check->issued[i - 1]->definition->epoch;
        if (at->number == epoch->number &&
            memcmp(at->hash.b, epoch->hash.b, sizeof at->hash.b) == 0) {
            return check->issued[i - 1];
        }
    }
    return NULL;
}

void check_free(struct check *check)
{
    if (check == NULL) {
        return;
    }
    for (unsigned i = 0; i < check->definition->disk_count; i++) {
        free(check->disks[i].stream.records);
        free(check->disks[i].stream.at_us);
        free(check->disks[i].stream.whole);
        idmap_free(&check->disks[i].stream.bookmarks);
        free(check->disks[i].writes);
    }
    for (unsigned i = 0; i < check->issued_count; i++) {
        free(check->issued[i]);
    }
    idmap_free(&check->answer_of);
    check_order_free(check);
    free(check->writes);
    free(check->answers);
    free(check->stale);
    free(check);
}

void check_fold(struct check *check, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    uint64_t word = 0;
    for (; size > 0; size -= size < 8 ? size : 8, from += 8) {
        memcpy(&word, from, size < 8 ? size : 8);
        check->digest = (check->digest ^ word) * 1099511628211U;
        check->digest ^= check->digest >> 29;
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
    uint64_t clock_us = d->clock_us == 0 ? now_us : d->clock_us;
    for (size_t i = 0; i < check->stale_count; i++) {
        if (id_equal(&check->stale[i].round, &order->round) &&
            check->stale[i].member == check->definition->disks[disk].member) {
            check_breach(check, now_us, "stale",
                         "%s obeyed an order for another epoch or incarnation",
                         check_disk_name(check, disk));
        }
    }
    if (d->holding) {
        check_breach(check, now_us, "budget", "%s begins a hold within a hold",
                     check_disk_name(check, disk));
    }
    if (record->bookmark.unheld) {
        return;
    }
    unsigned last = (d->span_count + SPANS - 1) % SPANS;
    if (d->span_count > 0 && clock_us < d->spans[last].end_us + PAUSE_US &&
        d->spans[last].end_us != 0) {
        check_breach(check, now_us, "duty", "%s holds again %" PRIu64 " us after its last hold",
                     check_disk_name(check, disk), clock_us - d->spans[last].end_us);
    }
    if (record->bookmark.budget_us > CAP_US) {
        check_breach(check, now_us, "budget", "%s holds for up to %u us, over the tap's cap",
                     check_disk_name(check, disk), record->bookmark.budget_us);
    }
    d->holding = true;
    d->jumped_us = 0;
    d->start_us = clock_us;
    d->deadline_us = clock_us + record->bookmark.budget_us;
}

void check_let_go(struct check *check, uint64_t now_us, unsigned disk)
{
    struct disk *d = &check->disks[disk];
    if (!d->holding) {
        return;
    }
    uint64_t clock_us = d->clock_us == 0 ? now_us : d->clock_us;
    d->holding = false;
    d->outlived = clock_us >= d->deadline_us;
    uint64_t held_us = clock_us - d->start_us - d->jumped_us;
    check->hold_us_max = held_us > check->hold_us_max ? held_us : check->hold_us_max;
    if (clock_us - d->jumped_us > d->deadline_us) {
        check_breach(check, now_us, "budget",
                     "%s held for %" PRIu64 " us, its budget was %" PRIu64 " us",
                     check_disk_name(check, disk), held_us, d->deadline_us - d->start_us);
    }
    d->spans[d->span_count++ % SPANS] = (struct span){d->start_us + d->jumped_us, clock_us};
    uint64_t from_us = clock_us > WINDOW_US ? clock_us - WINDOW_US : 0;
    if (overlap(d, from_us, clock_us) > DUTY_US) {
        check_breach(check, now_us, "duty", "%s held for %" PRIu64 " us of the last second",
                     check_disk_name(check, disk), overlap(d, from_us, clock_us));
    }
}

void check_stale(struct check *check, const struct id *round, unsigned member)
{
    check->stale =
        check_room(check->stale, &check->stale_room, check->stale_count, sizeof *check->stale);
    check->stale[check->stale_count++] = (struct stale){*round, member};
}

/* ---- what happens ---- */

void check_record(struct check *check, uint64_t now_us, unsigned disk, const struct record *record)
{
    struct check_stream *s = &check->disks[disk].stream;
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t size = record_encode(record, bytes, sizeof bytes);
    check_fold(check, &now_us, sizeof now_us);
    check_fold(check, bytes, size);
    if (s->count > 0 && record->lsn <= s->records[s->count - 1].lsn) {
        check_breach(check, now_us, "rule", "%s: LSN %" PRIu64 " comes after %" PRIu64,
                     check_disk_name(check, disk), record->lsn, s->records[s->count - 1].lsn);
    }
    bool again =
        record->type == RECORD_BOOKMARK && rule_bookmark(s, &record->bookmark.order.round) >= 0;
    rule_add(s, now_us, record);
    if (record->type == RECORD_BOOKMARK) {
        check_bookmark(check, now_us, disk, record, again);
        hold_begins(check, now_us, disk, record);
    } else if (record->type == RECORD_SEAL) {
        check_seal(check, now_us, disk, record);
    }
}

void check_write(struct check *check, unsigned disk, uint64_t lsn, int token, bool has_cause)
{
    TIDE_CHECK(token < TOKENS_MAX);
    check->writes =
        check_room(check->writes, &check->write_room, check->write_count, sizeof *check->writes);
    struct disk *d = &check->disks[disk];
    d->writes = check_room(d->writes, &d->write_room, d->write_count, sizeof *d->writes);
    d->writes[d->write_count++] = (uint32_t)check->write_count;
    check->writes[check->write_count++] = (struct write){disk, lsn, token, has_cause, 0};
    check->late += check->disks[disk].holding;
    check_fold(check, &lsn, sizeof lsn);
}

void check_cut(struct check *check, uint64_t now_us, unsigned disk, uint64_t lsn)
{
    struct disk *d = &check->disks[disk];
    rule_cut(&d->stream, lsn);
    while (d->write_count > 0 && check->writes[d->writes[d->write_count - 1]].lsn >= lsn) {
        check->writes[d->writes[--d->write_count]].lost_us = now_us;
    }
    check_fold(check, &now_us, sizeof now_us);
    check_fold(check, &lsn, sizeof lsn);
}

void check_shown(struct check *check, unsigned disk, uint64_t lsn)
{
    check->disks[disk].shown = lsn + 1;
}

/* ---- answers ---- */

bool check_is_all(const struct check *check, const struct round_order *order)
{
    const struct issued *issued = check_issued(check, &order->epoch);
    unsigned count = order->set.count;
    bool all = issued != NULL && count == issued->definition->disk_count;
    for (unsigned i = 0; all && i < count; i += 8) {
        unsigned want = count - i >= 8 ? 0xff : (1U << (count - i)) - 1;
        all = order->set.bits[i / 8] == want;
    }
    return all;
}

int check_of_one(const struct check *check, const struct round_order *order)
{
    const struct issued *issued = check_issued(check, &order->epoch);
    int member = -1;
    if (issued == NULL || order->set.count != issued->definition->disk_count) {
        return -1;
    }
    const struct definition *definition = issued->definition;
    for (unsigned d = 0; d < definition->disk_count; d++) {
        member = set_has(&order->set, d) ? (int)definition->disks[d].member : member;
    }
    for (unsigned d = 0; d < definition->disk_count; d++) {
        if (set_has(&order->set, d) != ((int)definition->disks[d].member == member)) {
            return -1;
        }
    }
    return member;
}

static enum align_label due_label(const struct check *check, const struct round_order *order)
{
    if (order->scope != ROUND_SCOPE_GROUP) {
        return check_of_one(check, order) >= 0 ? ALIGN_LABEL_SINGLE_VM : ALIGN_LABEL_NONE;
    }
    return check_is_all(check, order) ? ALIGN_LABEL_FULL : ALIGN_LABEL_PARTIAL;
}

static bool any_unheld(const struct check *check, const struct round_order *order)
{
    const struct issued *issued = check_issued(check, &order->epoch);
    for (unsigned d = 0; issued != NULL && d < issued->definition->disk_count; d++) {
        const struct check_stream *s = issued->streams[d];
        long at = rule_bookmark(s, &order->round);
        if (at >= 0 && set_has(&order->set, d) && s->records[at].bookmark.unheld) {
            return true;
        }
    }
    return false;
}

/* What was answered before for that order; NULL: nothing. */
static const struct answer *answered(const struct check *check, const struct round_order *order)
{
    size_t cursor = 0;
    uint32_t i;
    while (idmap_next(&check->answer_of, &order->round, &cursor, &i)) {
        if (rule_order_equal(&check->answers[i].order, order)) {
            return &check->answers[i];
        }
    }
    return NULL;
}

static void check_answer(struct check *check, uint64_t now_us, const struct align_round *round)
{
    char hex[TIDE_ID_HEX];
    if (round->answer == ROUND_ANSWER_YES) {
        const struct issued *issued = check_issued(check, &round->order.epoch);
        enum align_label label = align_label(round, issued == NULL ? NULL : issued->definition);
        if (round->defined && label != due_label(check, &round->order)) {
            check_breach(check, now_us, "label", "round %.8s is called \"%s\" and is not",
                         id_hex(&round->order.round, hex), align_label_name(label));
        }
    }
    const struct answer *before = answered(check, &round->order);
    if (before == NULL && round->answer == ROUND_ANSWER_YES && any_unheld(check, &round->order)) {
        check_breach(check, now_us, "label", "round %.8s was not held and is called consistent",
                     id_hex(&round->order.round, hex));
    }
    if (round->answer == ROUND_ANSWER_UNKNOWN) {
        return; /* whoever has read less may not know yet; who does know says the same */
    }
    if (before != NULL) {
        if (round->answer != before->answer) {
            check_breach(check, now_us, "final", "round %.8s was %s and is %s",
                         id_hex(&round->order.round, hex), round_answer_name(before->answer),
                         round_answer_name(round->answer));
        }
        return;
    }
    check->answers = check_room(check->answers, &check->answer_room, check->answer_count,
                                sizeof *check->answers);
    idmap_add(&check->answer_of, &round->order.round, (uint32_t)check->answer_count);
    check->answers[check->answer_count++] = (struct answer){round->order, round->answer};
}

void check_news(struct check *check, uint64_t now_us, struct align *align)
{
    const struct align_round *round = align_next_decided(align);
    for (; round != NULL; round = align_next_decided(align)) {
        check_answer(check, now_us, round);
    }
}

void check_answers(struct check *check, uint64_t now_us, const struct align *align)
{
    for (size_t i = 0; i < align_count(align); i++) {
        check_answer(check, now_us, align_at(align, i));
    }
}

/* ---- the end ---- */

/* Number of the disk's first write that is over that LSN. */
static size_t writes_up_to(const struct check *check, const struct disk *disk, uint64_t lsn)
{
    size_t low = 0;
    size_t high = disk->write_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (check->writes[disk->writes[middle]].lsn > lsn) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Of all writes only those can matter that come after the first that the point lacks, and before
 * the last that it has. */
static void find_window(const struct check *check, const uint64_t *cuts, size_t *ret_first,
                        size_t *ret_end)
{
    *ret_first = SIZE_MAX;
    *ret_end = 0;
    for (unsigned i = 0; i < check->definition->disk_count; i++) {
        const struct disk *disk = &check->disks[i];
        if (cuts[i] == 0) {
            continue;
        }
        size_t has = writes_up_to(check, disk, cuts[i]);
        if (has < disk->write_count && disk->writes[has] < *ret_first) {
            *ret_first = disk->writes[has];
        }
        if (has > 0 && disk->writes[has - 1] >= *ret_end) {
            *ret_end = (size_t)disk->writes[has - 1] + 1;
        }
    }
}

/* Along each token every write was issued after the one before it was acknowledged: once one is
 * missing from the disks of the point, none of the later ones may be there. */
static void check_causes(struct check *check, uint64_t now_us, const struct round_order *order)
{
    const struct issued *issued = check_issued(check, &order->epoch);
    uint64_t cuts[DISKS_MAX] = {0}; /* 0: not in the set */
    uint64_t at_us[DISKS_MAX] = {0};
    bool missing[TOKENS_MAX] = {false};
    char hex[TIDE_ID_HEX];
    size_t first;
    size_t end;
    for (unsigned d = 0; issued != NULL && d < issued->definition->disk_count; d++) {
        long at = rule_bookmark(issued->streams[d], &order->round);
        cuts[issued->flat[d]] =
            set_has(&order->set, d) && at >= 0 ? issued->streams[d]->records[at].lsn : 0;
        at_us[issued->flat[d]] = at >= 0 ? issued->streams[d]->at_us[at] : 0;
    }
    find_window(check, cuts, &first, &end);
    for (size_t i = first; i < end; i++) {
        const struct write *w = &check->writes[i];
        if (w->token < 0) {
            continue;
        }
        missing[w->token] &= w->has_cause;
        bool gone = w->lost_us != 0 && w->lost_us <= at_us[w->disk]; /* before that point was */
        if (cuts[w->disk] == 0 || gone) {
            continue;
        }
        if (w->lsn > cuts[w->disk]) {
            missing[w->token] = true;
        } else if (missing[w->token]) {
            check_breach(check, now_us, "cause",
                         "point %.8s has write %" PRIu64 " of %s without its cause",
                         id_hex(&order->round, hex), w->lsn, check_disk_name(check, w->disk));
            return;
        }
    }
}

static enum round_answer rule_of(const struct check *check, const struct round_order *order)
{
    const struct issued *issued = check_issued(check, &order->epoch);
    return issued == NULL ? ROUND_ANSWER_UNKNOWN
                          : rule_round(issued->definition, issued->streams, order);
}

enum round_answer check_rule_of(const struct check *check, const struct id *round)
{
    enum round_answer best = ROUND_ANSWER_UNKNOWN;
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        const struct check_stream *s = &check->disks[d].stream;
        long at = rule_bookmark(s, round);
        if (at >= 0) {
            return rule_of(check, &s->records[at].bookmark.order);
        }
    }
    return best;
}

static void check_rule(struct check *check, uint64_t now_us, const struct align_round *round,
                       enum round_answer own)
{
    char hex[TIDE_ID_HEX];
    bool yes = round->answer == ROUND_ANSWER_YES;
    bool agree = yes == (own == ROUND_ANSWER_YES) &&
                 (own != ROUND_ANSWER_NO || round->answer == ROUND_ANSWER_NO);
    if (!agree) {
        check_breach(check, now_us, "rule", "round %.8s: the reader says %s, the rule %s",
                     id_hex(&round->order.round, hex), round_answer_name(round->answer),
                     round_answer_name(own));
    }
}

struct check_count check_end(struct check *check, uint64_t now_us, const struct align *align)
{
    struct check_count count = {.writes = (unsigned)check->write_count,
                                .late = check->late,
                                .hold_us_max = check->hold_us_max};
    check_told(check, now_us);
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        if (check->disks[d].shown != 0) { /* what follows is judged by what readers have had */
            rule_cut(&check->disks[d].stream, check->disks[d].shown);
        }
    }
    check_answers(check, now_us, align);
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        uint64_t clock_us = check->disks[d].clock_us == 0 ? now_us : check->disks[d].clock_us;
        if (check->disks[d].holding &&
            clock_us - check->disks[d].jumped_us > check->disks[d].deadline_us) {
            check_breach(check, now_us, "budget", "%s still holds, its budget is over",
                         check_disk_name(check, d));
        }
    }
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        enum round_answer own = rule_of(check, &round->order);
        check_rule(check, now_us, round, own);
        count.rounds++;
        /* Either reader's word is enough to look: a point that should be none is the worst. */
        if (round->answer == ROUND_ANSWER_YES || own == ROUND_ANSWER_YES) {
            bool group = round->order.scope == ROUND_SCOPE_GROUP;
            count.points++;
            count.full += group && check_is_all(check, &round->order);
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

static size_t records_before(const struct check_stream *stream, uint64_t at_us)
{
    size_t i = stream->count;
    while (i > 0 && stream->at_us[i - 1] >= at_us) {
        i--;
    }
    return i;
}

/* member -1: whichever it is of. */
static unsigned points_called(struct check *check, uint64_t from_us, uint64_t to_us,
                              enum align_label label, int member)
{
    unsigned points = 0;
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        const struct check_stream *s = &check->disks[d].stream;
        for (size_t i = records_before(s, from_us); i < s->count && s->at_us[i] <= to_us; i++) {
            const struct round_order *order = &s->records[i].bookmark.order;
            if (s->records[i].type != RECORD_BOOKMARK) {
                continue;
            }
            const struct issued *issued = check_issued(check, &order->epoch);
            points += issued != NULL && first_of(&order->set) < order->set.count &&
                      issued->streams[first_of(&order->set)] == s &&
                      due_label(check, order) == label &&
                      (member < 0 || check_of_one(check, order) == member) &&
                      rule_of(check, order) == ROUND_ANSWER_YES;
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

static bool named_before(const struct check *check, unsigned disk, const struct id *round)
{
    for (unsigned d = 0; d < disk; d++) {
        if (rule_bookmark(&check->disks[d].stream, round) >= 0) {
            return true;
        }
    }
    return false;
}

unsigned check_lost(struct check *check, uint64_t from_us, uint64_t to_us)
{
    unsigned rounds = 0;
    for (unsigned d = 0; d < check->definition->disk_count; d++) {
        const struct check_stream *s = &check->disks[d].stream;
        for (size_t i = records_before(s, from_us); i < s->count && s->at_us[i] <= to_us; i++) {
            const struct round_order *order = &s->records[i].bookmark.order;
            rounds += s->records[i].type == RECORD_BOOKMARK &&
                      !named_before(check, d, &order->round) &&
                      rule_of(check, order) != ROUND_ANSWER_YES;
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
