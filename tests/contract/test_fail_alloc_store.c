/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each): the store, exports, and
 * the hashes of blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/core/sha.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/intake/arrival.h"
#include "coordinator/intake/hashes.h"
#include "coordinator/intake/points.h"
#include "coordinator/recover/materialize.h"
#include "coordinator/store/store.h"
#include "tests/contract/far_rig.h"
#include "tests/contract/nth.h"
#include "tests/unit/hrl_make.h"

static uint8_t untouched[1 << 20];

/* ---- the store ---- */

#define SEGMENTS 70U /* more than the store knows without its manifest */
#define STORED   67U
#define STAGED   69U

static unsigned fill = STORED; /* this many */
static struct far far;
static struct far_segment segments[SEGMENTS];
static struct store *store;
static struct id round_id;
static uint64_t point_lsn;
static uint8_t image[FAR_DISK_SIZE];

static struct manifest_segment listed(unsigned k)
{
    const struct segment_info *info = &segments[k].info;
    return (struct manifest_segment){.first = info->header.first_lsn,
                                     .last = info->last_lsn,
                                     .hash = info->hash,
                                     .before = info->header.before,
                                     .size = info->size,
                                     .incarnation = info->header.incarnation,
                                     .last_incarnation = info->last_incarnation};
}

static struct manifest_stream about(void)
{
    struct manifest_stream a = {.stream = far.streams[0].stream,
                                .timeline = far.streams[0].timeline,
                                .disk_id = far.streams[0].disk_id,
                                .size = FAR_DISK_SIZE,
                                .block_size = 512};
    assert_true(name_parse("shop", &a.group) && name_parse("web", &a.member) &&
                name_parse("data", &a.disk));
    return a;
}

static void bookmark(void)
{
    struct record mark = {.type = RECORD_BOOKMARK};
    mark.bookmark.order = make_order(1, 2);
    mark.bookmark.nonce = make_id(3);
    mark.bookmark.budget_us = 50000;
    mark.bookmark.wall_error_us = UINT32_MAX;
    far_append(&far.streams[0], &mark);
    round_id = mark.bookmark.order.round;
    point_lsn = mark.lsn;
    memcpy(image, far.streams[0].image, sizeof image);
}

static void make_segments(void)
{
    prng_init(&far.prng, 9);
    far_stream_init(&far, 0);
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_write(&far, 0);
        if (k == 20) {
            bookmark();
        }
        far_cut(&far.streams[0], &segments[k]);
    }
}

static void store_shut(void)
{
    store_close(store);
    store = NULL;
}

/* The first ones, and one that comes too early. */
static void store_fill(void)
{
    struct err err = {0};
    struct manifest_stream a = about();
    struct store_stream_state state;
    enum store_put put;
    store_shut();
    nth_empty_folder();
    assert_int_equal(store_open(nth_folder, NULL, NULL, NULL, &store, &err), 0);
    assert_int_equal(store_stream_create(store, &a, &err), 0);
    for (unsigned k = 0; k < fill; k++) {
        struct manifest_segment s = listed(k);
        assert_int_equal(store_put(store, &a.stream, &s, segments[k].bytes, &put, &state, &err), 0);
    }
    struct manifest_segment s = listed(STAGED);
    assert_int_equal(store_put(store, &a.stream, &s, segments[STAGED].bytes, &put, &state, &err),
                     0);
    assert_int_equal(put, STORE_STAGED);
}

static void store_fill_shut(void)
{
    store_fill();
    store_shut();
}

static void state_is(struct store *of, unsigned stored)
{
    struct store_stream_state state;
    struct manifest_stream a;
    assert_true(store_stream_get(of, &far.streams[0].stream, &a, &state));
    assert_false(state.forked || state.damaged);
    assert_int_equal(state.stored_lsn, segments[stored - 1].info.last_lsn);
    assert_true(hash_equal(&state.head, &segments[stored - 1].info.hash));
}

/* The staged one outlives every failed start. */
static int store_opens(struct err *err)
{
    char path[PATH_MAX];
    struct manifest_segment s = listed(STAGED);
    struct store *got = NULL;
    int rc = store_open(nth_folder, NULL, NULL, NULL, &got, err);
    if (rc == 0) {
        state_is(got, STORED);
        store_close(got);
    } else {
        assert_null(got);
    }
    manifest_staged_path(nth_folder, &far.streams[0].stream, s.first, s.last, path);
    assert_int_equal(access(path, F_OK), 0);
    return rc;
}

static int puts_segment(unsigned k, enum store_put want, struct err *err)
{
    struct store_stream_state state = {0};
    struct manifest_segment s = listed(k);
    enum store_put put = STORE_STAGED;
    if (store_put(store, &far.streams[0].stream, &s, segments[k].bytes, &put, &state, err) != 0) {
        state_is(store, STORED);
        return -1;
    }
    assert_int_equal(put, want);
    state_is(store, STORED);
    return 0;
}

static int puts_old(struct err *err)
{
    return puts_segment(0, STORE_KNOWN, err);
}

static int checks(struct err *err)
{
    struct segment_info info;
    memset(&info, 0x5a, sizeof info);
    if (store_check_segment(segments[1].bytes, segments[1].info.size, &info, err) != 0) {
        assert_memory_equal(&info, untouched, sizeof info);
        return -1;
    }
    assert_true(hash_equal(&info.hash, &segments[1].info.hash));
    return 0;
}

static int extracts(struct err *err)
{
    struct record *records = NULL;
    size_t count = 77;
    if (points_extract(segments[20].bytes, segments[20].info.size, &records, &count, err) != 0) {
        assert_null(records);
        return -1;
    }
    assert_int_equal(count, 1);
    assert_int_equal(records[0].lsn, point_lsn);
    free(records);
    return 0;
}

static int creates(struct err *err)
{
    struct manifest_stream a = about();
    a.stream = make_id(99);
    return store_stream_create(store, &a, err);
}

static int reads_manifest(struct err *err)
{
    struct manifest m;
    memset(&m, 0x5a, sizeof m);
    if (manifest_read(nth_folder, &far.streams[0].stream, &m, err) != 0) {
        assert_memory_equal(&m, untouched, sizeof m);
        return -1;
    }
    assert_int_equal(m.segment_count, STORED);
    for (unsigned k = 0; k < STORED; k++) {
        assert_true(hash_equal(&m.segments[k].hash, &segments[k].info.hash));
    }
    manifest_close(&m);
    return 0;
}

static int puts_object(struct err *err)
{
    return object_put(nth_folder, "points/g/x.json", "abc", 3, false, err);
}

static int names_objects(struct err *err)
{
    char **names = NULL;
    size_t count = 77;
    char relative[128];
    char hex[TIDE_ID_HEX];
    snprintf(relative, sizeof relative, "streams/%s/segments", id_hex(&far.streams[0].stream, hex));
    if (object_names(nth_folder, relative, "", &names, &count, err) != 0) {
        assert_null(names);
        assert_int_equal(count, 77);
        return -1;
    }
    assert_int_equal(count, STORED);
    object_names_free(names);
    return 0;
}

/* A PUT that fills the hole, and what it makes due: nothing is answered as stored that is not, and
 * where it says nothing of what is behind, that comes again. */
static int arrives(struct err *err)
{
    static const unsigned order[] = {STORED, STORED + 1};
    for (unsigned i = 0; i < 2; i++) {
        struct arrival a = {.store = store,
                            .about = about(),
                            .first = segments[order[i]].info.header.first_lsn,
                            .size = segments[order[i]].info.size};
        long kept = nth_pause();
        a.bytes = malloc(a.size);
        assert_non_null(a.bytes);
        nth_resume(kept);
        memcpy(a.bytes, segments[order[i]].bytes, a.size);
        arrival_check(&a);
        arrival_store(&a);
        struct err e = a.err;
        if (e.code == TIDE_ERR_OK) {
            assert_true(a.state.stored_lsn >= segments[order[i]].info.last_lsn);
        } else {
            assert_int_equal(a.record_count, 0);
        }
        arrival_close(&a);
        if (e.code != TIDE_ERR_OK) {
            return err_set(err, e.code, "%s", e.text);
        }
    }
    return 0;
}

/* Not nth_each(): a failure behind the PUT's own segment is no failure of the PUT. */
static void arrivals(void)
{
    for (long n = 0;; n++) {
        struct err err = {0};
        store_fill();
        long before = nth_live();
        nth_arm(n);
        int rc = arrives(&err);
        bool met = nth_met();
        if (rc != 0) {
            nth_says(&err, "arrival", n);
        }
        struct err again = {0};
        if (arrives(&again) != 0) {
            fail_msg("arrival %ld: again: %s", n, again.text);
        }
        assert_int_equal(nth_live(), before);
        state_is(store, SEGMENTS);
        if (!met) {
            assert_true(n > 4);
            break;
        }
    }
}

static void the_store(void **state)
{
    (void)state;
    store_fill_shut();
    nth_each("store: open", store_opens, NULL, 20);
    store_fill();
    nth_each("store: what is known", puts_old, NULL, 100);
    nth_each("store: check", checks, NULL, 1);
    nth_each("extract", extracts, NULL, 1);
    nth_each("manifest", reads_manifest, NULL, 100);
    nth_each("object: put", puts_object, NULL, 1);
    nth_each("object: names", names_objects, NULL, 60);
    nth_each("store: create", creates, store_fill, 2);
    arrivals();
    store_shut();
}

/* ---- exports ---- */

static json_t *point;

static void exported_paths(char image_path[96], char note_path[96])
{
    snprintf(image_path, 96, "%s/image", nth_folder);
    snprintf(note_path, 96, "%s/image.tidemark", nth_folder);
}

static void no_export(void)
{
    char a[96];
    char b[96];
    exported_paths(a, b);
    (void)unlink(a);
    (void)unlink(b);
}

static int exports(struct err *err)
{
    char path[96];
    char note_path[96];
    char part[100];
    struct materialize_result result = {.lsn = 77};
    exported_paths(path, note_path);
    struct materialize m = {
        .store = nth_folder, .point = point, .member = "web", .disk = "data", .to = path};
    snprintf(part, sizeof part, "%s.part", path);
    int rc = materialize_run(&m, &result, err);
    assert_int_not_equal(access(part, F_OK), 0);
    if (rc != 0) {
        assert_int_equal(result.lsn, 77);
        assert_int_not_equal(access(path, F_OK), 0);
        return -1;
    }
    assert_int_equal(result.lsn, point_lsn);
    long kept = nth_pause();
    uint8_t *got = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, FAR_DISK_MAX, &got, &size, err), 0);
    assert_int_equal(size, FAR_DISK_SIZE);
    assert_memory_equal(got, image, size);
    free(got);
    nth_resume(kept);
    return 0;
}

/* From the point itself: it reads the note beside the image, and there is nothing to apply. */
static int exports_on(struct err *err)
{
    char path[96];
    char note_path[96];
    struct materialize_result result = {0};
    exported_paths(path, note_path);
    struct materialize m = {.store = nth_folder,
                            .point = point,
                            .from = point,
                            .member = "web",
                            .disk = "data",
                            .to = path};
    return materialize_run(&m, &result, err);
}

static int finds_point(struct err *err)
{
    char hex[TIDE_ID_HEX];
    json_t *got = NULL;
    if (materialize_find(nth_folder, NULL, id_hex(&round_id, hex), &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    assert_true(json_equal(got, point));
    json_decref(got);
    return 0;
}

static void exports_of_a_point(void **state)
{
    char hex[TIDE_ID_HEX];
    char stream[TIDE_ID_HEX];
    char relative[128];
    struct err err = {0};
    (void)state;
    store_fill_shut();
    point =
        json_pack("{s:s, s:s, s:[{s:s, s:[{s:s, s:s, s:I}]}]}", "point", id_hex(&round_id, hex),
                  "label", "full", "members", "member", "web", "disks", "disk", "data", "stream",
                  id_hex(&far.streams[0].stream, stream), "lsn", (json_int_t)point_lsn);
    assert_non_null(point);
    char *text = json_dumps(point, 0);
    snprintf(relative, sizeof relative, "points/shop/%s.json", hex);
    assert_int_equal(object_put(nth_folder, relative, text, strlen(text), false, &err), 0);
    free(text);
    nth_each("export", exports, no_export, 100);
    no_export();
    assert_int_equal(exports(&err), 0);
    nth_each("export from", exports_on, NULL, 100);
    nth_each("find", finds_point, NULL, 10);
    json_decref(point);
}

/* ---- hashes ---- */

static struct loop *loop;
static struct loop_timer tick;
static struct hashes *cache;
static bool waits;
static bool answered;
static long asking; /* n */

static void on_answer(void *arg, const struct intake_block_hashes *blocks, const struct err *err)
{
    (void)arg;
    waits = false;
    if (blocks == NULL) {
        nth_says(err, "hashes", asking);
        return;
    }
    assert_true(blocks->lsn == point_lsn && blocks->count == FAR_DISK_SIZE / TIDE_INTAKE_BLOCK);
    for (unsigned k = 0; k < blocks->count; k++) {
        struct hash want = sha_of(image + k * TIDE_INTAKE_BLOCK, TIDE_INTAKE_BLOCK);
        assert_true(hash_equal(&want, &blocks->hashes[k]));
    }
    answered = true;
    loop_stop(loop);
}

/* Asks until it is told; what stands between is a lack of memory, or that it is at work. */
static void on_tick(void *arg)
{
    struct intake_hashes_query query = {.lsn = point_lsn,
                                        .count = FAR_DISK_SIZE / TIDE_INTAKE_BLOCK};
    struct store_stream_state state;
    struct manifest_stream a;
    struct err err = {0};
    (void)arg;
    assert_true(store_stream_get(store, &far.streams[0].stream, &a, &state));
    if (answered) {
        return; /* another question would outlive the cache */
    }
    if (!waits) {
        waits = true; /* the answer may come at once */
        if (hashes_ask(cache, &a.stream, &state, &query, on_answer, NULL, &err) != 0) {
            waits = false;
            nth_says(&err, "hashes", asking);
        }
    }
    loop_timer_set(&tick, clock_mono_us() + 1000);
}

static void hashes_of_blocks(void **state)
{
    struct pool *pool = NULL;
    struct err err = {0};
    char path[96];
    (void)state;
    fill = 22;
    store_fill();
    fill = STORED;
    loop = loop_new();
    loop_timer_init(&tick, loop, on_tick, NULL);
    assert_int_equal(pool_new(loop, &pool, &err), 0);
    snprintf(path, sizeof path, "%s/cache", nth_folder);
    bool met = true;
    for (asking = 0; met; asking++) {
        long before = nth_live();
        assert_int_equal(hashes_new(path, pool, store, &cache, &err), 0);
        nth_arm(asking);
        answered = false;
        loop_timer_set(&tick, 0);
        loop_run(loop);
        loop_timer_clear(&tick);
        met = nth_met();
        assert_true(answered);
        hashes_free(cache);
        assert_int_equal(nth_live(), before);
    }
    assert_true(asking > 100);
    pool_free(pool);
    loop_timer_close(&tick);
    loop_free(loop);
    store_shut();
}

static int setup(void **state)
{
    memset(untouched, 0x5a, sizeof untouched);
    if (nth_setup(state) != 0) {
        return -1;
    }
    make_segments();
    return 0;
}

static int teardown(void **state)
{
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_segment_free(&segments[k]);
    }
    far_stream_close(&far.streams[0]);
    return nth_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store),
        cmocka_unit_test(exports_of_a_point),
        cmocka_unit_test(hashes_of_blocks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
