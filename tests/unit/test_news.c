/* SPDX-License-Identifier: Apache-2.0 */
/* participant/core/news: what lies between two states of a tap, each thing once. */
#include "participant/core/news.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/hrl/record.h"

static struct tapctl_state good(void)
{
    return (struct tapctl_state){.incarnation = 7, .size = 1 << 20, .whole = true, .logging = true};
}

/* `expected`: the names, each with a space behind it. */
static void between(const struct tapctl_state *before, const struct tapctl_state *now,
                    const char *expected)
{
    struct news news[TIDE_NEWS_STATE_MAX];
    char names[256] = "";
    unsigned count = news_of_state(before, now, news);
    for (unsigned i = 0; i < count; i++) {
        strncat(names, news_name(news[i].type), sizeof names - strlen(names) - 1);
        strncat(names, " ", sizeof names - strlen(names) - 1);
    }
    assert_string_equal(names, expected);
}

static void nothing_changed(void **state)
{
    (void)state;
    struct tapctl_state a = good();
    struct tapctl_state none = {0};
    between(&a, &a, "");
    between(&none, &a, ""); /* the first that is heard, and all is well */
    struct tapctl_state more = a;
    more.next_lsn = more.writes = more.ring_used = 5;
    between(&a, &more, "");
}

static void lack(enum round_reason reason, bool strict, bool alone, enum news_type type,
                 const char *points, const char *text)
{
    struct leader_lack it = {.reason = reason, .member = {"db"}, .strict = strict, .alone = alone};
    struct news news = news_of_lack(&it);
    assert_int_equal(news.type, type);
    assert_string_equal(news_points(&it), points);
    if (strstr(news.text, text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, news.text);
    }
}

static void what_a_group_lacks(void **state)
{
    (void)state;
    lack(ROUND_REASON_NONE, true, false, NEWS_POINTS_BACK, "group", "the whole group");
    lack(ROUND_REASON_MISSING, true, true, NEWS_POINTS_LOST, "single-vm",
         "no points of the group: missing at member db; single-VM points go on");
    lack(ROUND_REASON_NOT_WHOLE, true, false, NEWS_POINTS_LOST, "none", "; nor of this VM");
    lack(ROUND_REASON_NO_LEADER, true, true, NEWS_POINTS_LOST, "single-vm",
         "no points of the group: no member that may lead is reached; single-VM points go on");
    lack(ROUND_REASON_MISSING, false, false, NEWS_POINTS_PARTIAL, "partial",
         "points are partial: missing at member db");
    lack(ROUND_REASON_NO_LEADER, false, false, NEWS_POINTS_LOST, "none",
         "no points of the group: no member that may lead is reached");
    assert_true(news_warns(NEWS_POINTS_LOST));
    assert_true(news_warns(NEWS_POINTS_PARTIAL));
    assert_false(news_warns(NEWS_POINTS_BACK));
}

static void a_gap_and_its_end(void **state)
{
    (void)state;
    struct news news[TIDE_NEWS_STATE_MAX];
    struct tapctl_state none = {0};
    struct tapctl_state a = good();
    struct tapctl_state b = good();
    b.whole = b.logging = false;
    b.gap_lsn = 12;
    b.gap_reason = RECORD_GAP_OVERFLOW;
    between(&a, &b, "log-off gap ");
    assert_int_equal(news_of_state(&a, &b, news), 2);
    assert_string_equal(news[1].text, "gap at lsn 12: overflow");
    between(&none, &b, "log-off gap ");
    struct tapctl_state c = b;
    c.logging = true;
    between(&b, &c, "log-on ");
    c.gap_lsn = 13; /* another one, while not whole */
    between(&b, &c, "log-on gap ");
    between(&c, &a, "whole ");
}

static void a_copy(void **state)
{
    (void)state;
    struct tapctl_state none = {0};
    struct tapctl_state a = good();
    struct tapctl_state b = good();
    a.whole = b.whole = false;
    b.copy = TAPCTL_COPY_RUNNING;
    b.copy_total = 4096;
    b.copy_lsn = 3;
    between(&a, &b, "copy-begun ");
    between(&none, &b, "gap copy-begun ");
    struct tapctl_state c = b;
    c.copy_lsn = 9;
    between(&b, &c, "copy-begun "); /* another, without a state between them */
    c = b;
    c.comparing = true;
    between(&b, &c, "comparing-begun ");
    between(&c, &a, "copy-ended comparing-ended ");
    struct tapctl_state off = b;
    off.copy = TAPCTL_COPY_OFF;
    between(&off, &b, "copy-begun ");
    between(&b, &off, "copy-ended ");
    struct tapctl_state whole = good();
    between(&c, &whole, "whole copy-ended comparing-ended ");
    struct tapctl_state ended = b; /* whole, and its thread does not rest yet */
    ended.whole = true;
    ended.copy_lsn = 0;
    between(&b, &ended, "whole copy-ended ");
    between(&ended, &whole, "");
}

static void another_size(void **state)
{
    (void)state;
    struct tapctl_state none = {0};
    struct tapctl_state a = good();
    struct tapctl_state b = good();
    b.size = 2 << 20;
    between(&a, &b, "resized ");
    between(&none, &b, "");
}

static void everything_at_once_fits(void **state)
{
    (void)state;
    struct tapctl_state a = good();
    struct tapctl_state b = good();
    a.copy = TAPCTL_COPY_COMPARING;
    a.copy_total = 1;
    a.comparing = true;
    b.size = 1;
    b.whole = b.logging = false;
    between(&a, &b, "resized log-off gap comparing-ended ");
    a.comparing = false;
    b.comparing = true;
    b.copy = TAPCTL_COPY_WAITING;
    b.copy_total = b.copy_lsn = 1;
    between(&a, &b, "resized log-off gap copy-begun comparing-begun ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed),   cmocka_unit_test(what_a_group_lacks),
        cmocka_unit_test(a_gap_and_its_end), cmocka_unit_test(a_copy),
        cmocka_unit_test(another_size),      cmocka_unit_test(everything_at_once_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
