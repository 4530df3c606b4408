/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/flight.h"

#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"

static void release(struct flight_slot *slot)
{
    free(slot->bytes);
    *slot = (struct flight_slot){0};
}

static struct flight_slot *find(struct flight *f, uint64_t first)
{
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        if (f->slots[k].used && f->slots[k].first == first) {
            return &f->slots[k];
        }
    }
    return NULL;
}

static const struct flight_slot *free_slot(const struct flight *f)
{
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        if (!f->slots[k].used) {
            return &f->slots[k];
        }
    }
    return NULL;
}

void flight_init(struct flight *f, struct senders *senders)
{
    *f = (struct flight){.senders = senders};
    window_init(&f->window, 1, 0);
    window_close(&f->window); /* until it begins */
}

void flight_begin(struct flight *f, const struct id *stream, unsigned limit, uint64_t stored)
{
    TIDE_CHECK(flight_idle(f));
    flight_free(f);
    f->stream = *stream;
    window_init(&f->window, limit, stored);
}

bool flight_idle(const struct flight *f)
{
    return window_idle(&f->window);
}

void flight_close(struct flight *f)
{
    window_close(&f->window);
}

bool flight_has_room(const struct flight *f)
{
    size_t bytes = TIDE_SEGMENT_MAX;
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        bytes += f->slots[k].size;
    }
    return window_has_room(&f->window) && free_slot(f) != NULL && bytes <= FLIGHT_BYTES_MAX;
}

int flight_add(struct flight *f, const struct segment_info *info, const void *bytes,
               const struct cutter_place *after, struct err *err)
{
    uint8_t *copy = malloc(info->size);
    if (copy == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a segment of %zu bytes",
                       (size_t)info->size);
    }
    memcpy(copy, bytes, info->size);
    struct flight_slot *slot = &f->slots[free_slot(f) - f->slots];
    *slot = (struct flight_slot){.used = true,
                                 .first = info->header.first_lsn,
                                 .last = info->last_lsn,
                                 .bytes = copy,
                                 .size = info->size,
                                 .after = *after};
    window_add(&f->window, slot->first, slot->last);
    return 0;
}

uint64_t flight_send(struct flight *f, uint64_t now_us)
{
    uint64_t first = 0;
    while (window_next(&f->window, now_us, &first)) {
        struct flight_slot *slot = find(f, first);
        TIDE_CHECK(slot != NULL && !slot->sending);
        slot->sending = true;
        senders_put(f->senders, &f->stream, first, slot->bytes, slot->size);
    }
    return window_wake_us(&f->window);
}

/* What is stored now is news once; its bytes go when nothing sends them any more. */
static void count_stored(struct flight *f, uint64_t before, struct flight_news *news)
{
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        struct flight_slot *slot = &f->slots[k];
        if (!slot->used || slot->last > f->window.stored) {
            continue;
        }
        if (!slot->stored) {
            slot->stored = true;
            news->segments++;
            news->bytes += slot->size;
        }
        if (slot->last == f->window.stored) {
            news->after = slot->after;
            news->advanced = f->window.stored > before;
        }
        if (!slot->sending) {
            release(slot);
        }
    }
}

bool flight_take(struct flight *f, uint64_t now_us, uint8_t spice, struct flight_news *ret)
{
    struct senders_done done;
    uint64_t before = f->window.stored;
    if (!senders_take(f->senders, &done)) {
        return false;
    }
    struct flight_slot *slot = find(f, done.first);
    TIDE_CHECK(slot != NULL && slot->sending);
    slot->sending = false;
    struct window_answer answer = {
        .code = done.err.code, .stored = done.far.stored_lsn, .forked = done.far.forked};
    *ret = (struct flight_news){.err = done.err, .far = done.far};
    ret->verdict = window_answer(&f->window, done.first, &answer, now_us, spice);
    count_stored(f, before, ret);
    ret->stored = f->window.stored;
    return true;
}

void flight_free(struct flight *f)
{
    for (unsigned k = 0; k < TIDE_WINDOW_MAX; k++) {
        if (f->slots[k].used) {
            release(&f->slots[k]);
        }
    }
}
