/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/news.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/core/check.h"
#include "common/hrl/record.h"

struct list {
    struct news *items;
    unsigned count;
};

__attribute__((format(printf, 3, 4))) static void tell(struct list *list, enum news_type type,
                                                       const char *format, ...)
{
    va_list args;
    TIDE_CHECK(list->count < TIDE_NEWS_STATE_MAX);
    struct news *news = &list->items[list->count++];
    news->type = type;
    va_start(args, format);
    (void)vsnprintf(news->text, sizeof news->text, format, args);
    va_end(args);
}

const char *news_name(enum news_type type)
{
    static const char *const names[] = {
#define X(name, text, look) text,
        TIDE_NEWS(X)
#undef X
    };
    return names[type];
}

bool news_warns(enum news_type type)
{
    static const bool looks[] = {
#define X(name, text, look) look,
        TIDE_NEWS(X)
#undef X
    };
    return looks[type];
}

static void tell_gap(struct list *list, const struct tapctl_state *before,
                     const struct tapctl_state *now)
{
    const char *reason = record_gap_name(now->gap_reason);
    if (now->whole) {
        if (!before->whole) {
            tell(list, NEWS_WHOLE, "whole again");
        }
    } else if (before->whole || now->gap_lsn != before->gap_lsn) {
        tell(list, NEWS_GAP, "gap at lsn %" PRIu64 ": %s", now->gap_lsn,
             reason == NULL ? "no reason is known" : reason);
    }
}

/* A disk that is whole is not copied: the end is told before the copy's thread rests. */
static bool is_copied(const struct tapctl_state *state)
{
    return !state->whole && state->copy_total > 0 && state->copy != TAPCTL_COPY_NONE &&
           state->copy != TAPCTL_COPY_OFF;
}

static void tell_copy(struct list *list, const struct tapctl_state *before,
                      const struct tapctl_state *now)
{
    bool was = is_copied(before);
    bool is = is_copied(now);
    if (was && !is) {
        tell(list, NEWS_COPY_ENDED, "copy ended: %s", now->whole ? "whole" : "not whole");
    }
    if (is && (!was || now->copy_lsn != before->copy_lsn)) {
        tell(list, NEWS_COPY_BEGUN, "copy of %" PRIu64 " bytes begun", now->copy_total);
    }
    if (before->comparing && !now->comparing) {
        tell(list, NEWS_COMPARING_ENDED, "comparing ended");
    }
    if (now->comparing && !before->comparing) {
        tell(list, NEWS_COMPARING_BEGUN, "comparing begun: %" PRIu64 " bytes are suspect",
             now->dirty_bytes);
    }
}

unsigned news_of_state(const struct tapctl_state *before, const struct tapctl_state *now,
                       struct news ret[TIDE_NEWS_STATE_MAX])
{
    const struct tapctl_state fresh = {.whole = true, .logging = true, .size = now->size};
    struct list list = {.items = ret};
    before = before->incarnation == 0 ? &fresh : before;
    if (before->size != now->size && before->size != 0 && now->size != 0) {
        tell(&list, NEWS_RESIZED, "size is now %" PRIu64 " bytes, was %" PRIu64, now->size,
             before->size);
    }
    if (before->logging && !now->logging) {
        tell(&list, NEWS_LOG_OFF, "the log is off: writes go past it");
    }
    if (!before->logging && now->logging) {
        tell(&list, NEWS_LOG_ON, "the log is on again");
    }
    tell_gap(&list, before, now);
    tell_copy(&list, before, now);
    return list.count;
}

const char *news_points(const struct leader_lack *lack)
{
    if (lack->reason == ROUND_REASON_NONE) {
        return "group";
    }
    if (!lack->strict) {
        return lack->reason == ROUND_REASON_NO_LEADER ? "none" : "partial";
    }
    return lack->alone ? "single-vm" : "none";
}

struct news news_of_lack(const struct leader_lack *lack)
{
    struct news news = {.type = NEWS_POINTS_BACK};
    char why[TIDE_NEWS_TEXT_MAX + 1];
    if (lack->reason == ROUND_REASON_NONE) {
        snprintf(news.text, sizeof news.text, "points of the whole group are taken again");
        return news;
    }
    if (lack->reason == ROUND_REASON_NO_LEADER) {
        snprintf(why, sizeof why, "no member that may lead is reached");
    } else {
        snprintf(why, sizeof why, "%s at member %s", round_reason_name(lack->reason),
                 lack->member.s);
    }
    const char *points = news_points(lack);
    bool partial = strcmp(points, "partial") == 0;
    news.type = partial ? NEWS_POINTS_PARTIAL : NEWS_POINTS_LOST;
    snprintf(news.text, sizeof news.text, "%s: %s%s",
             partial ? "points are partial" : "no points of the group", why,
             !lack->strict ? ""
             : lack->alone ? "; single-VM points go on"
                           : "; nor of this VM");
    return news;
}
