/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/whole.h"

void whole_init(struct whole *w)
{
    *w = (struct whole){.answer = ROUND_ANSWER_UNKNOWN};
}

void whole_init_at_point(struct whole *w)
{
    *w = (struct whole){.answer = ROUND_ANSWER_YES, .begun = true, .other_gap = true};
}

bool whole_wants(enum record_type type)
{
    return type == RECORD_ATTACH || type == RECORD_GAP || type == RECORD_COPY_BEGIN ||
           type == RECORD_COPY_END || type == RECORD_RESIZE;
}

/* Attach and resize alike: the copy of the disk as it was has ended. A size that nobody spoke of
 * before is a change that the stream does not tell: a reader of the disk could not go on. */
static void on_size(struct whole *w, uint64_t before, uint64_t size)
{
    if (w->size != 0 && w->size != before) {
        w->answer = ROUND_ANSWER_NO;
        w->other_gap = true;
    }
    w->size = size;
    w->copy_lsn = 0;
}

static void on_attach(struct whole *w, const struct record_attach *attach)
{
    on_size(w, attach->size, attach->size);
    if (attach->first) {
        w->begun = true;
        w->answer = attach->base_zero ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
    }
}

static void on_gap(struct whole *w, const struct record_gap *gap)
{
    /* A base that was zero has no gap for what lay on it before. */
    w->other_gap = w->other_gap || gap->reason != RECORD_GAP_BASE || w->answer == ROUND_ANSWER_YES;
    w->answer = ROUND_ANSWER_NO;
    w->copy_lsn = 0;
}

static void on_begin(struct whole *w, const struct record *record)
{
    const struct record_copy_begin *b = &record->copy_begin;
    bool counts =
        (w->size == 0 || w->size == b->size) && (b->kind != RECORD_COPY_INITIAL || !w->other_gap);
    w->answer = ROUND_ANSWER_NO;
    w->copy_lsn = counts ? record->lsn : 0;
    w->copy_size = b->size;
    w->copy_kind = b->kind;
}

static void on_end(struct whole *w, const struct record_copy_end *e)
{
    if (w->copy_lsn == 0 || e->begin_lsn != w->copy_lsn || e->copied > w->copy_size ||
        e->zeroes != w->copy_size - e->copied) {
        return;
    }
    w->copy_lsn = 0;
    /* What the other kinds leave out is in records that came before. */
    bool known = w->copy_kind == RECORD_COPY_FULL || w->begun;
    w->answer = known ? ROUND_ANSWER_YES : ROUND_ANSWER_UNKNOWN;
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
        on_end(w, &record->copy_end);
        break;
    case RECORD_RESIZE:
        on_size(w, record->resize.before, record->resize.size);
        break;
    default:
        break;
    }
}
