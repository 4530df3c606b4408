/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/rule.h"

#include "common/core/check.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define CUT_ROOM (256U + TIDE_DISKS_MAX / 8 + 48U * TIDE_DISKS_MAX)
#define DISKS    TIDE_DISKS_MAX

static void *grown(void *from, size_t count, size_t size)
{
    void *to = realloc(from, count * size);
    TIDE_CHECK(to != NULL);
    return to;
}

/* The end of a copy that nothing has ended since it began; other records may stand between. */
static bool ends_copy(const struct check_stream *stream, size_t index)
{
    for (size_t i = index; i-- > 0;) {
        const struct record *r = &stream->records[i];
        if (r->type == RECORD_COPY_BEGIN) {
            return r->lsn == stream->records[index].copy_end.begin_lsn;
        }
        if (r->type == RECORD_GAP || r->type == RECORD_ATTACH || r->type == RECORD_COPY_END) {
            return false;
        }
    }
    return false;
}

/* Whether base and records up to this one are the disk. */
static bool whole_after(const struct check_stream *stream, size_t index)
{
    const struct record *r = &stream->records[index];
    if (r->type == RECORD_ATTACH && r->attach.first && r->attach.base_zero) {
        return true;
    }
    if (r->type == RECORD_GAP || r->type == RECORD_COPY_BEGIN) {
        return false;
    }
    if (r->type == RECORD_COPY_END && ends_copy(stream, index)) {
        return true;
    }
    return stream->whole[index];
}

void rule_add(struct check_stream *stream, uint64_t at_us, const struct record *record)
{
    size_t i = stream->count;
    if (i == stream->room) {
        stream->room = i == 0 ? 64 : i * 2;
        stream->records = grown(stream->records, stream->room, sizeof *stream->records);
        stream->at_us = grown(stream->at_us, stream->room, sizeof *stream->at_us);
        stream->whole = grown(stream->whole, stream->room, sizeof *stream->whole);
    }
    stream->records[i] = *record;
    stream->at_us[i] = at_us;
    stream->whole[i] = i > 0 && whole_after(stream, i - 1);
    stream->count++;
    if (record->type == RECORD_BOOKMARK) {
        idmap_add(&stream->bookmarks, &record->bookmark.order.round, (uint32_t)i);
    }
}

void rule_cut(struct check_stream *stream, uint64_t lsn)
{
    while (stream->count > 0 && stream->records[stream->count - 1].lsn >= lsn) {
        stream->count--;
    }
    idmap_free(&stream->bookmarks);
    stream->bookmarks = (struct idmap){0};
    for (size_t i = 0; i < stream->count; i++) {
        if (stream->records[i].type == RECORD_BOOKMARK) {
            idmap_add(&stream->bookmarks, &stream->records[i].bookmark.order.round, (uint32_t)i);
        }
    }
}

long rule_bookmark(const struct check_stream *stream, const struct id *round)
{
    size_t cursor = 0;
    uint32_t index;
    return idmap_next(&stream->bookmarks, round, &cursor, &index) ? (long)index : -1;
}

static bool in_set(const struct set *set, unsigned disk)
{
    return (set->bits[disk / 8] >> disk % 8 & 1) != 0;
}

bool rule_order_equal(const struct round_order *a, const struct round_order *b)
{
    if (memcmp(a->round.b, b->round.b, sizeof a->round.b) != 0 ||
        memcmp(a->group.b, b->group.b, sizeof a->group.b) != 0 ||
        a->epoch.number != b->epoch.number ||
        memcmp(a->epoch.hash.b, b->epoch.hash.b, sizeof a->epoch.hash.b) != 0 ||
        a->scope != b->scope || a->kind != b->kind || a->set.count != b->set.count) {
        return false;
    }
    return memcmp(a->set.bits, b->set.bits, (a->set.count + 7U) / 8) == 0;
}

static enum round_answer answer_of(const struct check_stream *stream,
                                   const struct round_order *order, struct hash *ret_cut)
{
    long at = rule_bookmark(stream, &order->round);
    if (at < 0) {
        return ROUND_ANSWER_UNKNOWN;
    }
    const struct record *mark = &stream->records[at];
    if (!rule_order_equal(&mark->bookmark.order, order) || !stream->whole[at] ||
        mark->bookmark.unheld) {
        return ROUND_ANSWER_NO;
    }
    for (size_t i = (size_t)at + 1; i < stream->count; i++) {
        const struct record *r = &stream->records[i];
        if (r->type == RECORD_GAP || r->type == RECORD_ATTACH || r->type == RECORD_BOOKMARK) {
            return ROUND_ANSWER_NO;
        }
        if (r->type == RECORD_SEAL && r->incarnation == mark->incarnation &&
            r->seal.bookmark_lsn == mark->lsn) {
            bool yes = r->seal.outcome == ROUND_OUTCOME_HELD &&
                       memcmp(r->seal.round.b, order->round.b, sizeof order->round.b) == 0;
            *ret_cut = r->seal.cut;
            return yes ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
        }
    }
    return ROUND_ANSWER_UNKNOWN;
}

struct text {
    uint8_t bytes[CUT_ROOM];
    size_t used;
};

static void put(struct text *text, const void *bytes, size_t size)
{
    TIDE_CHECK(text->used + size <= sizeof text->bytes);
    memcpy(text->bytes + text->used, bytes, size);
    text->used += size;
}

static void put_number(struct text *text, uint64_t number, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(number >> (8 * i));
        put(text, &byte, 1);
    }
}

/* Streams by their id; one mark each, so the id alone sorts them. */
static int by_stream(const void *a, const void *b)
{
    const struct record *const *left = a;
    const struct record *const *right = b;
    return memcmp((*left)->stream.b, (*right)->stream.b, sizeof(*left)->stream.b);
}

static struct hash cut_over(const struct round_order *order, const struct record **marks,
                            unsigned count)
{
    struct text text;
    text.used = 0;
    struct hash hash;
    unsigned size = sizeof hash.b;
    put(&text, "tidemark cut 1", 14);
    put(&text, order->round.b, sizeof order->round.b);
    put_number(&text, order->epoch.number, 8);
    put(&text, order->epoch.hash.b, sizeof order->epoch.hash.b);
    put_number(&text, (uint64_t)order->scope, 1);
    put_number(&text, order->set.count, 2);
    for (unsigned i = 0; i < order->set.count; i += 8) {
        unsigned bits = 0;
        for (unsigned k = 0; k < 8 && i + k < order->set.count; k++) {
            bits |= in_set(&order->set, i + k) ? 1U << k : 0;
        }
        put_number(&text, bits, 1);
    }
    put_number(&text, (uint64_t)order->kind, 1);
    put_number(&text, count, 4);
    qsort(marks, count, sizeof(const struct record *), by_stream);
    for (unsigned i = 0; i < count; i++) {
        put(&text, marks[i]->stream.b, sizeof marks[i]->stream.b);
        put_number(&text, marks[i]->incarnation, 8);
        put_number(&text, marks[i]->lsn, 8);
        put(&text, marks[i]->bookmark.nonce.b, sizeof marks[i]->bookmark.nonce.b);
    }
    TIDE_CHECK(EVP_Digest(text.bytes, text.used, hash.b, &size, EVP_sha256(), NULL) == 1);
    return hash;
}

enum round_answer rule_round(const struct definition *definition,
                             const struct check_stream *const *streams,
                             const struct round_order *order)
{
    const struct record *marks[DISKS];
    unsigned count = 0;
    bool open = false;
    struct hash first = {{0}};
    bool same = true;
    TIDE_CHECK(definition->disk_count <= DISKS);
    if (order->set.count != definition->disk_count ||
        memcmp(order->epoch.hash.b, definition->epoch.hash.b, sizeof order->epoch.hash.b) != 0) {
        return ROUND_ANSWER_UNKNOWN;
    }
    for (unsigned d = 0; d < definition->disk_count; d++) {
        struct hash cut = {{0}};
        if (!in_set(&order->set, d)) {
            continue;
        }
        enum round_answer one = answer_of(streams[d], order, &cut);
        if (one == ROUND_ANSWER_NO) {
            return ROUND_ANSWER_NO;
        }
        open |= one == ROUND_ANSWER_UNKNOWN;
        if (one == ROUND_ANSWER_YES) {
            first = count == 0 ? cut : first;
            same &= memcmp(first.b, cut.b, sizeof cut.b) == 0;
            marks[count++] = &streams[d]->records[rule_bookmark(streams[d], &order->round)];
        }
    }
    if (open) {
        return ROUND_ANSWER_UNKNOWN;
    }
    struct hash want = cut_over(order, marks, count);
    return same && memcmp(want.b, first.b, sizeof want.b) == 0 ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
}
