/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/whole.h"

void whole_init(struct whole *w)
{
    *w = (struct whole){.answer = ROUND_ANSWER_UNKNOWN};
}

void whole_init_at_point(struct whole *w)
{
    *w = (struct whole){.answer = ROUND_ANSWER_YES, .begun = true, .told = true, .other_gap = true};
}

bool whole_wants(enum record_type type)
{
    return type == RECORD_ATTACH || type == RECORD_GAP || type == RECORD_COPY_BEGIN ||
           type == RECORD_COPY_END || type == RECORD_RESIZE;
}

static void on_attach(struct whole *w, const struct record_attach *attach)
{
    w->size = attach->size;
    if (attach->first) {
        w->begun = w->told = true;
        w->answer = attach->base_zero ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
    }
}

static void on_gap(struct whole *w, const struct record_gap *gap)
{
    /* A base that was zero has no gap for what lay on it before. */
    w->other_gap = w->other_gap || gap->reason != RECORD_GAP_BASE || w->answer == ROUND_ANSWER_YES;
    w->answer = ROUND_ANSWER_NO;
    w->told = true;
    w->copy_lsn = 0;
}

static void on_begin(struct whole *w, const struct record *record)
{
    const struct record_copy_begin *b = &record->copy_begin;
    bool unseen = false;
    bool counts = w->size == 0 || w->size == b->size;
    if (b->continues != 0 && w->copy_lsn == 0 && !w->told) {
        unseen = true;
    } else if (b->continues != 0) {
        counts = counts && b->continues == w->copy_lsn && b->size == w->copy_size &&
                 b->kind == w->copy_kind;
        unseen = w->copy_unseen;
    } else {
        w->told = true;
    }
    if (b->kind == RECORD_COPY_INITIAL && w->other_gap) {
        counts = false;
    }
    w->answer = ROUND_ANSWER_NO;
    w->copy_lsn = counts ? record->lsn : 0;
    w->copy_incarnation = record->incarnation;
    w->copy_size = b->size;
    w->copy_due = b->size - b->offset;
    w->copy_kind = b->kind;
    w->copy_unseen = unseen;
    w->told = true;
}

static void on_end(struct whole *w, const struct record *record)
{
    const struct record_copy_end *e = &record->copy_end;
    if (w->copy_lsn == 0 || e->begin_lsn != w->copy_lsn ||
        record->incarnation != w->copy_incarnation || e->copied > w->copy_due ||
        e->zeroes != w->copy_due - e->copied) {
        return;
    }
    w->copy_lsn = 0;
    /* What the other kinds leave out is in records that came before. */
    bool known = !w->copy_unseen && (w->copy_kind == RECORD_COPY_FULL || w->begun);
    w->answer = known ? ROUND_ANSWER_YES : ROUND_ANSWER_UNKNOWN;
}

/* Whole or not, the disk is as it was; a copy of the old size is not one of it. */
static void on_resize(struct whole *w, const struct record_resize *resize)
{
    w->size = resize->size;
    w->copy_lsn = 0;
    w->told = true; /* one that was not seen would not count from here on either */
}

void whole_feed(struct whole *w, const struct record *record)
{
    switch ((unsigned)record->type) {
    case RECORD_ATTACH:
        on_attach(w, &record->attach);
        break;
    case RECORD_GAP:
        on_gap(w, &record->gap);
        break;
    case RECORD_COPY_BEGIN:
        on_begin(w, record);
        break;
    case RECORD_COPY_END:
        on_end(w, record);
        break;
    case RECORD_RESIZE:
        on_resize(w, &record->resize);
        break;
    default:
        break;
    }
}
