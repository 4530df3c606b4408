/* SPDX-License-Identifier: Apache-2.0 */
/* participant/events: numbers without a hole, the oldest drop and are counted, what repeats counts
 * up, and threads that write while others read. */
#include "participant/events.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/core/check.h"
#include "common/io/log.h"

static struct settings settings = {
    .member_count = 2,
    .members = {{.group = {"shop"}, .name = {"web"}}, {.group = {"shop"}, .name = {"db"}}},
    .disk_count = 2,
    .disks = {{.name = {"data"}, .member = 0}, {.name = {"log"}, .member = 1}}};
static struct events *events;
static struct event got[EVENTS_MAX];
static struct events_span span;

static int setup(void **state)
{
    (void)state;
    events = events_new(&settings);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    events_free(events);
    return 0;
}

static void numbers_and_texts(void **state)
{
    (void)state;
    assert_int_equal(events_read(events, 0, got, EVENTS_MAX, &span), 0);
    assert_int_equal(span.newest, 0);
    assert_int_equal(span.missed, 0);
    assert_int_not_equal(span.run, 0);
    events_disk(events, NEWS_GAP, 1, "gap %u\n\xc3\xbc", 5);
    events_again(events, NEWS_ROUND_FAILED, 0, -1, "k", "why");
    assert_int_equal(events_read(events, 0, got, EVENTS_MAX, &span), 2);
    assert_int_equal(got[0].seq, 1);
    assert_int_equal(got[0].type, NEWS_GAP);
    assert_int_equal(got[0].member, 1);
    assert_int_equal(got[0].disk, 1);
    assert_int_equal(got[0].count, 1);
    assert_string_equal(got[0].text, "gap 5???");
    assert_int_equal(got[1].seq, 2);
    assert_int_equal(got[1].disk, -1);
    assert_int_equal(events_read(events, 1, got, EVENTS_MAX, &span), 1);
    assert_int_equal(got[0].seq, 2);
    assert_int_equal(events_read(events, 2, got, EVENTS_MAX, &span), 0);
    assert_int_equal(events_read(events, 99, got, EVENTS_MAX, &span), 0);
    assert_int_equal(span.newest, 2);
    assert_int_equal(span.missed, 0);
}

static void the_oldest_drop_and_are_counted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EVENTS_MAX + 10; i++) {
        events_disk(events, NEWS_WHOLE, 0, "%u", i + 1);
    }
    assert_int_equal(events_read(events, 0, got, EVENTS_MAX, &span), EVENTS_MAX);
    assert_int_equal(span.missed, 10);
    assert_int_equal(got[0].seq, 11);
    assert_string_equal(got[0].text, "11");
    assert_int_equal(got[EVENTS_MAX - 1].seq, EVENTS_MAX + 10);
    assert_int_equal(events_read(events, 4, got, 3, &span), 3); /* in pieces */
    assert_int_equal(span.missed, 6);
    assert_int_equal(got[2].seq, 13);
    assert_int_equal(events_read(events, 10, got, 3, &span), 3);
    assert_int_equal(span.missed, 0);
}

static void put(uint64_t now_us, enum news_type type, int disk, const char *key, const char *text)
{
    struct event event = {.type = type, .disk = disk, .wall_ns = now_us};
    snprintf(event.text, sizeof event.text, "%s", text);
    events_put(events, now_us, &event, key);
}

static void the_same_counts_up_for_ten_seconds(void **state)
{
    (void)state;
    put(1000, NEWS_ROUND_FAILED, -1, "k", "one");
    put(1000, NEWS_WHOLE, 0, NULL, "between");
    put(2000, NEWS_ROUND_FAILED, -1, "k", "two");
    put(2000, NEWS_ROUND_FAILED, 0, "k", "another disk");
    put(2000, NEWS_ROUND_REFUSED, -1, "k", "another type");
    put(2000, NEWS_ROUND_FAILED, -1, "l", "another key");
    put(2000, NEWS_ROUND_FAILED, -1, NULL, "no key");
    put(1000 + EVENTS_SAME_US - 1, NEWS_ROUND_FAILED, -1, "k", "three");
    put(1000 + EVENTS_SAME_US, NEWS_ROUND_FAILED, -1, "k", "anew");
    put(1000 + EVENTS_SAME_US, NEWS_ROUND_FAILED, -1, NULL, "no key");
    assert_int_equal(events_read(events, 0, got, EVENTS_MAX, &span), 8);
    assert_int_equal(got[0].count, 3);
    assert_string_equal(got[0].text, "three");
    assert_int_equal(got[0].wall_ns, 1000 + EVENTS_SAME_US - 1);
    for (unsigned i = 1; i < 8; i++) {
        assert_int_equal(got[i].count, 1);
    }
    assert_string_equal(got[6].text, "anew");
}

#define WRITERS 4U
#define EACH    2000U

static void *write_events(void *arg)
{
    for (unsigned i = 0; i < EACH; i++) {
        events_disk(events, NEWS_WHOLE, *(unsigned *)arg, "x");
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    pthread_t writers[WRITERS];
    unsigned disk[WRITERS];
    uint64_t since = 0;
    uint64_t missed = 0;
    uint64_t read = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        disk[i] = i % 2;
        assert_int_equal(pthread_create(&writers[i], NULL, write_events, &disk[i]), 0);
    }
    while (since < (uint64_t)WRITERS * EACH) { /* ends by the test's timeout alone */
        unsigned count = events_read(events, since, got, EVENTS_MAX, &span);
        since += span.missed;
        missed += span.missed;
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(got[i].seq, ++since);
        }
        read += count;
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
    }
    assert_int_equal(read + missed, (uint64_t)WRITERS * EACH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_and_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_drop_and_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_counts_up_for_ten_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(threads, setup, teardown),
    };
    log_start("test_events", LOG_LEVEL_ERROR);
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    log_stop();
    return result;
}
