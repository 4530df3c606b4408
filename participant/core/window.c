/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/window.h"

#include <string.h>

#include "common/core/check.h"

bool window_is_passing(enum err_code code)
{
    switch (code) {
    case TIDE_ERR_UNREACHABLE:
    case TIDE_ERR_BUSY:
    case TIDE_ERR_FULL:
    case TIDE_ERR_IO:
    case TIDE_ERR_LIMIT:
    case TIDE_ERR_FAILED:
    case TIDE_ERR_DENIED:
        return true;
    case TIDE_ERR_OK:
    case TIDE_ERR_USAGE:
    case TIDE_ERR_CONFIG:
    case TIDE_ERR_NOT_FOUND:
    case TIDE_ERR_CORRUPT:
    case TIDE_ERR_VERSION:
    case TIDE_ERR_CONFLICT:
    case TIDE_ERR_UNKNOWN:
        return false;
    }
    return false;
}

void window_init(struct window *window, unsigned limit, uint64_t stored)
{
    TIDE_CHECK(limit > 0 && limit <= TIDE_WINDOW_MAX);
    *window =
        (struct window){.limit = limit, .stored = stored, .backoff_us = TIDE_WINDOW_RETRY_MIN_US};
}

bool window_has_room(const struct window *window)
{
    return window->count < window->limit && !window->closed && !window->failing;
}

void window_add(struct window *window, uint64_t first, uint64_t last)
{
    uint64_t due =
        window->count == 0 ? window->stored + 1 : window->items[window->count - 1].last + 1;
    TIDE_CHECK(window_has_room(window) && first == due && last >= first);
    window->items[window->count++] =
        (struct window_item){.first = first, .last = last, .state = WINDOW_WAITING};
}

bool window_next(struct window *window, uint64_t now_us, uint64_t *ret_first)
{
    unsigned most = window->count;
    if (window->closed) {
        return false;
    }
    if (window->failing) {
        if (now_us < window->retry_us || window->sending > 0) {
            return false;
        }
        most = window->count < 1 ? 0 : 1;
    }
    for (unsigned k = 0; k < most; k++) {
        struct window_item *item = &window->items[k];
        if (item->state == WINDOW_WAITING) {
            item->state = WINDOW_SENDING;
            window->sending++;
            window->probing = window->failing;
            *ret_first = item->first;
            return true;
        }
    }
    return false;
}

uint64_t window_wake_us(const struct window *window)
{
    bool waits = window->failing && !window->closed && window->sending == 0 && window->count > 0;
    return waits ? window->retry_us : UINT64_MAX;
}

static void forget_stored(struct window *window)
{
    unsigned gone = 0;
    while (gone < window->count && window->items[gone].last <= window->stored) {
        gone++;
    }
    window->count -= gone;
    memmove(window->items, window->items + gone, window->count * sizeof *window->items);
    if (window->count > 0 && window->items[0].first <= window->stored) {
        window->closed = true; /* it ends amid a segment of ours: not our doing */
    }
}

static void note_failure(struct window *window, uint64_t now_us, uint8_t spice)
{
    bool first = !window->failing; /* those that were under way with it fail likewise */
    if (!first && !window->probing) {
        return;
    }
    window->failing = true;
    window->probing = false;
    window->retry_us = now_us + window->backoff_us + window->backoff_us / 4 * spice / 256;
    window->backoff_us = window->backoff_us * 2 > TIDE_WINDOW_RETRY_MAX_US
                             ? TIDE_WINDOW_RETRY_MAX_US
                             : window->backoff_us * 2;
}

static void note_success(struct window *window, const struct window_answer *answer)
{
    window->failing = false;
    window->probing = false;
    window->backoff_us = TIDE_WINDOW_RETRY_MIN_US;
    if (answer->stored > window->stored) {
        window->stored = answer->stored;
    }
    if (answer->forked) {
        window->closed = true;
    }
    forget_stored(window);
}

static struct window_item *find(struct window *window, uint64_t first)
{
    for (unsigned k = 0; k < window->count; k++) {
        if (window->items[k].first == first) {
            return &window->items[k];
        }
    }
    return NULL;
}

/* The oldest is due there; if it was held and nothing is on its way, it is not held any more. */
static void look_for_lost(struct window *window)
{
    struct window_item *oldest = &window->items[0];
    if (window->count == 0 || window->sending > 0 || oldest->state != WINDOW_HELD) {
        return;
    }
    if (oldest->again) {
        window->closed = true;
        return;
    }
    oldest->again = true;
    oldest->state = WINDOW_WAITING;
}

enum window_verdict window_answer(struct window *window, uint64_t first,
                                  const struct window_answer *answer, uint64_t now_us,
                                  uint8_t spice)
{
    enum window_verdict verdict = WINDOW_FINE;
    TIDE_CHECK(window->sending > 0);
    window->sending--;
    if (answer->code == TIDE_ERR_OK) {
        note_success(window, answer);
    }
    struct window_item *item = find(window, first); /* NULL: stored meanwhile, by another answer */
    if (item != NULL && answer->code == TIDE_ERR_OK) {
        item->state = WINDOW_HELD;
    } else if (item != NULL) {
        item->state = WINDOW_WAITING;
        if (window_is_passing(answer->code)) {
            note_failure(window, now_us, spice);
            verdict = WINDOW_RETRY;
        } else {
            window->closed = true;
        }
    }
    look_for_lost(window);
    return window->closed ? WINDOW_ASK : verdict;
}

void window_close(struct window *window)
{
    window->closed = true;
}

bool window_idle(const struct window *window)
{
    return window->sending == 0;
}
