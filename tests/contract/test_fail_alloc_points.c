/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each), SQLite's too: points
 * that are fed, with their commits on the pool, and the recovery at start. No round becomes what it
 * is not, and what could not be written comes with another try or the next start.
 * TIDE_NTH_EVERY=1 takes each n of the longer ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/intake/points.h"
#include "coordinator/intake/pool.h"
#include "coordinator/intake/registry.h"
#include "coordinator/store/manifest.h"
#include "tests/contract/far_rig.h"
#include "tests/contract/nth.h"
#include "tests/contract/nth_sql.h"
#include "tests/unit/hrl_make.h"

/* ---- a retry does not wait for its second ---- */

void __real_loop_timer_set(struct loop_timer *timer, uint64_t due_us);
void __wrap_loop_timer_set(struct loop_timer *timer, uint64_t due_us);

void __wrap_loop_timer_set(struct loop_timer *timer, uint64_t due_us)
{
    uint64_t soon = clock_mono_us() + CLOCK_US_PER_MS;
    __real_loop_timer_set(timer, due_us < soon ? due_us : soon);
}

/* ---- jobs at work are counted: what frees their memory waits for them ---- */

static struct job {
    loop_fn *work;
    loop_fn *done; /* NULL: this place is free */
    void *arg;
} jobs[64]; /* `done` is the loop thread's */

int __real_pool_submit(struct pool *to, loop_fn *work, loop_fn *done, void *arg, struct err *err);
int __wrap_pool_submit(struct pool *to, loop_fn *work, loop_fn *done, void *arg, struct err *err);

static void job_work(void *arg)
{
    const struct job *job = arg;
    job->work(job->arg);
}

static void job_done(void *arg)
{
    struct job *job = arg;
    loop_fn *done = job->done;
    job->done = NULL;
    done(job->arg);
}

int __wrap_pool_submit(struct pool *to, loop_fn *work, loop_fn *done, void *arg, struct err *err)
{
    struct job *job = jobs;
    while (job->done != NULL) {
        job++;
        assert_true(job < jobs + sizeof jobs / sizeof jobs[0]);
    }
    *job = (struct job){.work = work, .done = done, .arg = arg};
    int rc = __real_pool_submit(to, job_work, job_done, job, err);
    if (rc != 0) {
        job->done = NULL;
    }
    return rc;
}

static bool at_work(void)
{
    bool found = false;
    for (size_t k = 0; k < sizeof jobs / sizeof jobs[0]; k++) {
        found = found || jobs[k].done != NULL;
    }
    return found;
}

/* ---- points: a store with two streams ---- */

#define ROUNDS   3U /* the second one becomes no point */
#define SEGMENTS (1 + 2 * ROUNDS)

static struct far far;
static struct definition definition;
static struct far_segment segments[FAR_MEMBERS][SEGMENTS];
static struct id rounds[ROUNDS];
static struct intake_disk disks[FAR_MEMBERS];
static struct store *store;
static struct registry *registry;
static struct points *points;
static struct loop *loop;
static struct pool *pool;
static char expected[16384]; /* of the catalog */
static unsigned stored;      /* segments of each stream in the store */

static int points_open(struct err *err)
{
    char path[96];
    snprintf(path, sizeof path, "%s/store", nth_folder);
    if (store_open(path, NULL, NULL, NULL, &store, err) != 0 || nth_sql_open(err) != 0 ||
        points_new(store, nth_sql_catalog, loop, pool, &points, err) != 0 ||
        registry_open(store, nth_sql_catalog, points_define, points, &registry, err) != 0) {
        return -1;
    }
    return points_recover(points, registry, nth_sql_note[0] != '\0', err);
}

static void points_shut(void)
{
    registry_free(registry);
    points_free(points);
    nth_sql_close();
    store_close(store);
    registry = NULL;
    points = NULL;
    store = NULL;
}

static void keep_as(const char *which)
{
    char command[300];
    snprintf(command, sizeof command, "cp -a '%s/store' '%s/%s' && rm -f '%s'/catalog.db*",
             nth_folder, nth_folder, which, nth_folder);
    assert_int_equal(system(command), 0);
}

static struct manifest_segment listed(const struct far_segment *s)
{
    return (struct manifest_segment){.first = s->info.header.first_lsn,
                                     .last = s->info.last_lsn,
                                     .hash = s->info.hash,
                                     .before = s->info.header.before,
                                     .size = s->info.size,
                                     .incarnation = s->info.header.incarnation,
                                     .last_incarnation = s->info.last_incarnation};
}

static void puts_segments(unsigned to)
{
    struct err err = {0};
    for (; stored < to; stored++) {
        for (unsigned k = 0; k < FAR_MEMBERS; k++) {
            const struct far_segment *g = &segments[k][stored];
            struct manifest_segment s = listed(g);
            struct store_stream_state state;
            enum store_put put;
            if (store_put(store, &far.streams[k].stream, &s, g->bytes, &put, &state, &err) != 0) {
                fail_msg("%s", err.text);
            }
            assert_int_equal(put, STORE_TAKEN);
        }
    }
}

static void apply(void)
{
    struct err err = {0};
    json_t *group =
        json_pack("{s:s, s:i, s:i, s:s, s:[{s:s, s:s, s:s, s:[s]}, {s:s, s:s, s:s, s:[s]}]}",
                  "group", "shop", "interval_ms", 1000, "hold_us_max", 50000, "missing", "strict",
                  "members", "name", "web", "participant", "spiffe://lab/participant/m", "address",
                  "127.0.0.11:20004", "disks", "data", "name", "app", "participant",
                  "spiffe://lab/participant/m", "address", "127.0.0.11:20004", "disks", "data");
    struct intake_register registration = {.count = FAR_MEMBERS, .disks = disks};
    assert_non_null(group);
    if (registry_apply(registry, group, &err) != 0 ||
        registry_register(registry, "spiffe://lab/participant/m", &registration, &err) != 0) {
        fail_msg("%s", err.text);
    }
    json_decref(group);
}

static void take_definition(void)
{
    struct intake_definitions d = {0};
    struct hash digest;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    assert_int_equal(
        registry_definitions(registry, "spiffe://lab/participant/m", &digest, &bytes, &size, &err),
        0);
    assert_int_equal(intake_definitions_decode(bytes, size, &d, &err), 0);
    assert_int_equal(intake_definition_decode(d.groups[0].definition, d.groups[0].definition_size,
                                              &definition, &err),
                     0);
    assert_int_equal(definition.disk_count, FAR_MEMBERS);
    intake_definitions_close(&d);
    free(bytes);
}

static void make_round(unsigned number)
{
    struct round_order order = {.group = definition.group,
                                .epoch = definition.epoch,
                                .scope = ROUND_SCOPE_GROUP,
                                .kind = ROUND_KIND_CRASH,
                                .round = make_id(700 + number)};
    struct round_mark marks[FAR_MEMBERS];
    set_init(&order.set, FAR_MEMBERS);
    set_add(&order.set, 0);
    set_add(&order.set, 1);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        struct far_stream *s = &far.streams[k];
        struct record r = {.type = RECORD_BOOKMARK};
        r.bookmark.order = order;
        r.bookmark.budget_us = 50000;
        r.bookmark.wall_ns = 1000000000U * (number + 1);
        r.bookmark.wall_error_us = UINT32_MAX;
        r.bookmark.nonce = make_id(800 + 2 * number + k);
        far_append(s, &r);
        marks[k] = (struct round_mark){.stream = s->stream,
                                       .incarnation = s->incarnation,
                                       .lsn = s->lsn,
                                       .nonce = r.bookmark.nonce};
        far_cut(s, &segments[k][1 + 2 * number]);
    }
    struct hash cut = round_cut_hash(&order, marks, FAR_MEMBERS);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        struct record r = {.type = RECORD_SEAL};
        bool bad = number == 1 && k == 1;
        r.seal.round = order.round;
        r.seal.bookmark_lsn = marks[k].lsn;
        r.seal.outcome = bad ? ROUND_OUTCOME_EXPIRED : ROUND_OUTCOME_HELD;
        r.seal.cut = bad ? (struct hash){{0}} : cut;
        far_append(&far.streams[k], &r);
        far_cut(&far.streams[k], &segments[k][2 + 2 * number]);
    }
    rounds[number] = order.round;
}

/* Each point is tagged once in each manifest; answers are what they are. */
static void all_is_there(void)
{
    char now[sizeof expected];
    nth_sql_contents(now, sizeof now);
    assert_string_equal(now, expected);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        struct manifest m;
        struct err err = {0};
        assert_int_equal(manifest_read(store_path(store), &far.streams[k].stream, &m, &err), 0);
        assert_int_equal(m.tag_count, ROUNDS - 1);
        manifest_close(&m);
    }
    for (unsigned k = 0; k < ROUNDS; k++) {
        struct intake_point_state state;
        struct err err = {0};
        assert_int_equal(points_state(points, &rounds[k], &state, &err), 0);
        assert_int_equal(state.answer, k == 1 ? ROUND_ANSWER_NO : ROUND_ANSWER_YES);
    }
}

/* Folders: base has the streams up to before the rounds, full has all, with points; each without
 * the catalog. */
static void make_store(void)
{
    struct err err = {0};
    far.prng = (struct prng){0};
    prng_init(&far.prng, 11);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        far_stream_init(&far, k);
        disks[k] = (struct intake_disk){.stream = far.streams[k].stream,
                                        .timeline = far.streams[k].timeline,
                                        .disk_id = far.streams[k].disk_id,
                                        .size = FAR_DISK_SIZE,
                                        .block_size = 512};
        assert_true(name_parse("shop", &disks[k].group) &&
                    name_parse(k == 0 ? "web" : "app", &disks[k].member) &&
                    name_parse("data", &disks[k].disk));
        far_write(&far, k);
        far_cut(&far.streams[k], &segments[k][0]);
    }
    if (points_open(&err) != 0) {
        fail_msg("%s", err.text);
    }
    apply();
    take_definition();
    for (unsigned number = 0; number < ROUNDS; number++) {
        make_round(number);
    }
    puts_segments(1);
    points_shut();
    keep_as("base");
    assert_int_equal(points_open(&err), 0);
    puts_segments(SEGMENTS);
    points_shut();
    keep_as("untold");
    assert_int_equal(points_open(&err), 0);
    nth_sql_contents(expected, sizeof expected);
    assert_non_null(strstr(expected, "\"label\":\"full\""));
    all_is_there();
    points_shut();
    keep_as("full");
}

static void from(const char *which)
{
    char command[300];
    points_shut();
    snprintf(command, sizeof command,
             "rm -rf '%s/store' '%s'/catalog.db*; cp -a '%s/%s' '%s/store'", nth_folder, nth_folder,
             nth_folder, which, nth_folder);
    assert_int_equal(system(command), 0);
}

/* ---- the recovery ---- */

/* Whatever is said of the points after a failed start is no more than what is there. */
static void recovers(const char *which, long stride, long least)
{
    long n = 0;
    for (bool met = true; met; n += stride) {
        struct err err = {0};
        from(which);
        long before = nth_live();
        nth_arm(n);
        int rc = points_open(&err);
        met = nth_met();
        if (rc != 0) {
            assert_true(met);
            nth_says(&err, which, n);
            points_shut();
            if (points_open(&err) != 0) {
                fail_msg("%s %ld: again: %s", which, n, err.text);
            }
        }
        assert_false(nth_sql_was_set_aside());
        all_is_there();
        points_shut();
        if (nth_live() != before) {
            fail_msg("%s %ld: %ld allocations are not freed", which, n, nth_live() - before);
        }
    }
    print_message("recovery of %s: %ld allocations\n", which, n);
    assert_true(n > least);
}

/* One in so many, so that it is quick: a start takes thousands. */
static void the_recovery(void **state)
{
    (void)state;
    recovers("untold", nth_stride(), 200);
    recovers("full", nth_stride(), 200);
}

/* ---- what is fed while it runs ---- */

static struct loop_timer tick;
static unsigned good; /* points that are there */

static bool all_said(void)
{
    good = 0;
    unsigned no = 0;
    for (unsigned k = 0; k < ROUNDS; k++) {
        struct intake_point_state state;
        struct err err = {0};
        long kept = nth_pause();
        assert_int_equal(points_state(points, &rounds[k], &state, &err), 0);
        nth_resume(kept);
        assert_false(k == 1 && state.answer == ROUND_ANSWER_YES);
        assert_false(k != 1 && state.answer == ROUND_ANSWER_NO);
        good += state.answer == ROUND_ANSWER_YES;
        no += state.answer == ROUND_ANSWER_NO;
    }
    char now[sizeof expected];
    long kept = nth_pause();
    nth_sql_contents(now, sizeof now);
    nth_resume(kept);
    return good == ROUNDS - 1 && no == 1 && strcmp(now, expected) == 0;
}

struct turns {
    unsigned count;
    bool to_the_end; /* else until nothing is at work */
};

static void on_tick(void *arg)
{
    struct turns *turns = arg;
    bool over = !at_work() && (!turns->to_the_end || all_said());
    if (over || ++turns->count > 5000) {
        loop_stop(loop);
        return;
    }
    loop_timer_set(&tick, clock_mono_us() + CLOCK_US_PER_MS);
}

static bool runs(bool to_the_end)
{
    struct turns turns = {.to_the_end = to_the_end};
    loop_timer_init(&tick, loop, on_tick, &turns);
    loop_timer_set(&tick, 0);
    loop_run(loop);
    loop_timer_close(&tick);
    return turns.count <= 5000;
}

/* A try that was due with the last tick may have begun. */
static void rest(void)
{
    do {
        assert_true(runs(false));
    } while (at_work());
}

/* All segments that the store has and the points have not seen. */
static int feeds(struct err *err)
{
    for (unsigned i = 1; i < SEGMENTS; i++) {
        for (unsigned k = 0; k < FAR_MEMBERS; k++) {
            const struct far_segment *s = &segments[k][i];
            struct record *records = NULL;
            size_t count = 0;
            struct manifest_stream a;
            struct store_stream_state state;
            assert_true(store_stream_get(store, &far.streams[k].stream, &a, &state));
            if (points_extract(s->bytes, s->info.size, &records, &count, err) != 0) {
                return -1; /* the segment's PUT tells; here that ends it */
            }
            int rc = points_feed(points, &a, records, count, err);
            free(records);
            if (rc != 0) {
                return -1;
            }
        }
    }
    return 0;
}

static void feeding(void **state)
{
    unsigned ended = 0;
    unsigned healed = 0;
    (void)state;
    for (long n = 0, met = true; met; n += n < 64 ? 1 : nth_stride() / 8 + 1) {
        struct err err = {0};
        from("base");
        assert_int_equal(points_open(&err), 0);
        stored = 1;
        puts_segments(SEGMENTS);
        nth_arm(n);
        int rc = feeds(&err);
        bool end = rc == 0 && runs(true);
        met = nth_met();
        if (rc == 0 && !end) {
            fail_msg("feeding %ld: all was taken, and not all is there", n);
        }
        if (rc != 0) { /* unknown up to the next start */
            nth_says(&err, "feeding", n);
            assert_true(met);
            rest();
            points_shut();
            assert_int_equal(points_open(&err), 0);
            healed++;
        } else {
            ended++;
        }
        all_is_there();
        rest();
        points_shut();
    }
    print_message("%u went on, %u were healed by a start\n", ended, healed);
    assert_true(ended > 20 && healed > 2);
}

static int setup(void **state)
{
    struct err err = {0};
    if (nth_sql_setup() != 0 || nth_setup(state) != 0) {
        return -1;
    }
    loop = loop_new();
    if (pool_new(loop, &pool, &err) != 0) {
        return -1;
    }
    make_store();
    return 0;
}

static int teardown(void **state)
{
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        for (unsigned i = 0; i < SEGMENTS; i++) {
            far_segment_free(&segments[k][i]);
        }
        far_stream_close(&far.streams[k]);
    }
    pool_free(pool);
    loop_free(loop);
    return nth_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_recovery),
        cmocka_unit_test(feeding),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
