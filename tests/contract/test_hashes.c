/* SPDX-License-Identifier: Apache-2.0 */
/* What a real coordinator says of the blocks of a stream's disk, against the rig's model of it. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/core/sha.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/store/manifest.h"
#include "tests/contract/far_rig.h"

#define DEADLINE_US 20000000U
#define BLOCK       TIDE_INTAKE_BLOCK

static struct far far;
static struct intake_block_hashes got;
static struct intake_stream_state refused;
static unsigned busy; /* answers 503 that the last ask() met */

static int set_up(void **state)
{
    (void)state;
    far_make(&far, 71, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_remove(&far);
    return 0;
}

/* The HTTP status; the answer is in `got` or `refused`. */
static int ask_once(unsigned client, const struct id *stream, const char *query)
{
    char path[256];
    char hex[TIDE_ID_HEX];
    int status = 0;
    const uint8_t *body = NULL;
    size_t size = 0;
    struct err err = {0};
    snprintf(path, sizeof(path), "/v0/streams/%s/hashes%s", id_hex(stream, hex), query);
    if (http_request(far.clients[client], "GET", path, NULL, 0, 10000, &status, &body, &size,
                     &err) < 0 ||
        (status == 200 && intake_block_hashes_decode(body, size, &got, &err) < 0) ||
        (status != 200 && intake_stream_state_decode(body, size, &refused, &err) < 0)) {
        fail_msg("%s: %s", path, err.text);
    }
    return status;
}

static int ask(const struct far_stream *s, uint64_t lsn, uint64_t offset, unsigned count)
{
    char query[128];
    uint64_t end = clock_mono_us() + DEADLINE_US;
    unsigned client = s == &far.streams[0] ? 0 : 1;
    int status;
    busy = 0;
    snprintf(query, sizeof(query), "?lsn=%llu&offset=%llu&count=%u", (unsigned long long)lsn,
             (unsigned long long)offset, count);
    while ((status = ask_once(client, &s->stream, query)) == 503) {
        assert_int_equal(refused.code, TIDE_ERR_BUSY);
        if (clock_mono_us() > end) {
            fail_msg("%s", refused.text);
        }
        busy++;
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return status;
}

/* All of `got` is what a disk of `size` bytes with this content gives. */
static void is_disk(const uint8_t *model, uint64_t size, uint64_t lsn, uint64_t offset,
                    unsigned count)
{
    assert_true(got.lsn == lsn && got.size == size && got.offset == offset);
    assert_int_equal(got.count, count);
    for (unsigned k = 0; k < count; k++) {
        uint64_t at = offset + k * (uint64_t)BLOCK;
        struct hash hash = sha_of(model + at, size - at < BLOCK ? size - at : BLOCK);
        if (!hash_equal(&hash, &got.hashes[k])) {
            fail_msg("block %u at LSN %llu has another hash", k, (unsigned long long)lsn);
        }
    }
}

static void expect(const struct far_stream *s, uint64_t lsn, uint64_t offset, unsigned count,
                   int status)
{
    int was = ask(s, lsn, offset, count);
    if (was != status) {
        fail_msg("status %d, not %d: %s", was, status, refused.text);
    }
}

static void put(unsigned member)
{
    struct far_segment segment;
    far_cut(&far.streams[member], &segment);
    far_put_good(&far, member, &segment);
}

static void writes(unsigned member, unsigned count)
{
    for (unsigned k = 0; k < count; k++) {
        far_write(&far, member);
    }
    put(member);
}

static void the_disk_at_an_lsn_and_at_a_later_one(void **state)
{
    struct far_stream *s = &far.streams[0];
    uint8_t *first = malloc(FAR_DISK_SIZE);
    uint8_t *second = malloc(FAR_DISK_SIZE);
    uint64_t lsns[2];
    (void)state;
    writes(0, 60);
    memcpy(first, s->image, FAR_DISK_SIZE);
    lsns[0] = s->lsn;
    expect(s, 0, 0, 16, 200);
    assert_true(busy > 0); /* it was made for us */
    is_disk(first, FAR_DISK_SIZE, lsns[0], 0, 16);
    writes(0, 60);
    memcpy(second, s->image, FAR_DISK_SIZE);
    lsns[1] = s->lsn;
    expect(s, lsns[0], 5 * BLOCK, 3, 200); /* still the old one, and a part of it */
    assert_int_equal(busy, 0);
    is_disk(first, FAR_DISK_SIZE, lsns[0], 5 * BLOCK, 3);
    expect(s, lsns[1], 0, 1024, 200); /* brought forward */
    assert_true(busy > 0);
    is_disk(second, FAR_DISK_SIZE, lsns[1], 0, 16);
    expect(s, 0, 0, 16, 200);
    assert_int_equal(busy, 0);
    is_disk(second, FAR_DISK_SIZE, lsns[1], 0, 16);
    expect(s, lsns[0], 0, 16, 200); /* made anew: an image goes only forward */
    assert_true(busy > 0);
    is_disk(first, FAR_DISK_SIZE, lsns[0], 0, 16);
    /* In the midst of a segment, and on from there. */
    for (unsigned k = 0; k < 20; k++) {
        far_write(&far, 0);
    }
    memcpy(first, s->image, FAR_DISK_SIZE);
    lsns[0] = s->lsn;
    writes(0, 20);
    expect(s, lsns[0], 0, 16, 200);
    is_disk(first, FAR_DISK_SIZE, lsns[0], 0, 16);
    expect(s, 0, 0, 16, 200);
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, 0, 16);
    free(first);
    free(second);
}

/* What is stored grows all the time; who asks as of now is answered all the same. */
static void a_question_as_of_now_is_answered_while_the_stream_grows(void **state)
{
    struct far_stream *s = &far.streams[0];
    uint8_t *model = malloc(FAR_DISK_SIZE);
    int status = 0;
    uint64_t end = clock_mono_us() + DEADLINE_US;
    (void)state;
    writes(0, 30);
    uint64_t lsn = s->lsn;
    memcpy(model, s->image, FAR_DISK_SIZE);
    while ((status = ask_once(0, &s->stream, "?lsn=0&offset=0&count=16")) == 503) {
        assert_true(clock_mono_us() < end);
        writes(0, 1);
    }
    assert_int_equal(status, 200);
    is_disk(model, FAR_DISK_SIZE, lsn, 0, 16);
    expect(s, 0, 0, 16, 200); /* and the next as of now */
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, 0, 16);
    free(model);
}

static void a_disk_that_changed_its_size(void **state)
{
    struct far_stream *s = &far.streams[0];
    (void)state;
    writes(0, 60);
    expect(s, 0, 0, 16, 200);
    far_resize(s, FAR_DISK_SIZE + 3 * BLOCK + 512);
    writes(0, 40);
    expect(s, 0, 0, 1024, 200);
    is_disk(s->image, FAR_DISK_SIZE + 3 * BLOCK + 512, s->lsn, 0, 20); /* the last is short */
    far_resize(s, 4 * BLOCK);
    far_resize(s, FAR_DISK_SIZE); /* what lay beyond is gone */
    put(0);
    expect(s, s->lsn, 0, 16, 200);
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, 0, 16);
    expect(s, s->lsn, FAR_DISK_SIZE, 16, 200); /* it ends there */
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, FAR_DISK_SIZE, 0);
    expect(s, s->lsn, 15 * BLOCK, 16, 200);
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, 15 * BLOCK, 1);
    far_attach(&far, s, FAR_DISK_MAX); /* by somebody else, while no tap ran: a gap */
    far_gap(s, RECORD_GAP_SIZE);
    writes(0, 40);
    expect(s, 0, 0, 1024, 200);
    is_disk(s->image, FAR_DISK_MAX, s->lsn, 0, 32);
}

static void streams_that_contradict_themselves(void **state)
{
    struct record r = {.type = RECORD_RESIZE};
    (void)state;
    r.resize.size = 2 * BLOCK;
    r.resize.before = 3 * BLOCK; /* it is another */
    far_append(&far.streams[0], &r);
    put(0);
    expect(&far.streams[0], 0, 0, 1, 409);
    assert_non_null(strstr(refused.text, "resizes a disk of 196608 bytes, and it has 1048576"));
    far_attach(&far, &far.streams[1], 2 * FAR_DISK_SIZE);
    put(1);
    uint64_t lsn = far.streams[1].lsn;
    writes(1, 1); /* no gap before it */
    expect(&far.streams[1], 0, 0, 1, 409);
    assert_non_null(strstr(refused.text, "without a gap"));
    expect(&far.streams[1], lsn, 0, 32, 200); /* before that it was not yet wrong */
    /* Past the end of a disk that shrank. */
    far_stream_close(&far.streams[0]);
    far_stream_init(&far, 0);
    assert_int_equal(far_try_register(&far, 0), 200);
    far_resize(&far.streams[0], 2 * BLOCK);
    far_write_at(&far.streams[0], 2 * BLOCK - 256, far.streams[0].image, 512);
    put(0);
    expect(&far.streams[0], 0, 0, 1, 409);
    assert_non_null(strstr(refused.text, "past the end of the disk (131072 bytes)"));
}

static void only_what_may_be_asked_is_answered(void **state)
{
    static const char *const wrong[] = {"",
                                        "?lsn=0&offset=0",
                                        "?lsn=0&offset=0&count=0",
                                        "?lsn=0&offset=0&count=1025",
                                        "?lsn=0&offset=1&count=1",
                                        "?lsn=0&offset=9223372036854775808&count=1",
                                        "?lsn=x&offset=0&count=1"};
    struct far_stream *s = &far.streams[0];
    struct id unknown = {{9}};
    char query[128];
    (void)state;
    assert_int_equal(ask_once(0, &s->stream, "?lsn=0&offset=0&count=1"), 404); /* nothing yet */
    assert_non_null(strstr(refused.text, "nothing"));
    writes(0, 5);
    for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
        assert_int_equal(ask_once(0, &s->stream, wrong[k]), 400);
    }
    assert_int_equal(ask_once(1, &s->stream, "?lsn=0&offset=0&count=1"), 403);
    assert_int_equal(ask_once(2, &s->stream, "?lsn=0&offset=0&count=1"), 403);
    assert_int_equal(ask_once(0, &unknown, "?lsn=0&offset=0&count=1"), 404);
    snprintf(query, sizeof(query), "?lsn=%llu&offset=0&count=1", (unsigned long long)s->lsn + 1);
    assert_int_equal(ask_once(0, &s->stream, query), 404);
    expect(s, s->lsn, 0, 1, 200);
}

/* Images in the cache; whether that of the stream is among them. */
static unsigned images(const struct id *stream, bool *ret_there)
{
    char path[256];
    char hex[TIDE_ID_HEX];
    const struct dirent *entry;
    unsigned count = 0;
    snprintf(path, sizeof(path), "%s.images", far.catalog);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    id_hex(stream, hex);
    *ret_there = false;
    while ((entry = readdir(dir)) != NULL) {
        count += strstr(entry->d_name, ".img") != NULL;
        *ret_there = *ret_there || strncmp(entry->d_name, hex, TIDE_ID_HEX - 1) == 0;
    }
    closedir(dir);
    return count;
}

static void the_cache_is_bounded_and_empty_at_the_start(void **state)
{
    struct id streams[6];
    bool there;
    (void)state;
    for (unsigned k = 0; k < 6; k++) {
        struct far_stream *s = &far.streams[0];
        if (k > 0) {
            far_stream_close(s);
            far_stream_init(&far, 0);
            assert_int_equal(far_try_register(&far, 0), 200);
        }
        streams[k] = s->stream;
        writes(0, 10);
        expect(s, 0, 0, 16, 200);
        is_disk(s->image, FAR_DISK_SIZE, s->lsn, 0, 16);
        assert_int_equal(images(&streams[0], &there), k < 4 ? k + 1 : 4);
        if (k == 3) { /* asked for again: not the oldest any more */
            assert_true(there);
            uint64_t end = clock_mono_us() + DEADLINE_US;
            while (ask_once(0, &streams[0], "?lsn=0&offset=0&count=1") == 503) {
                assert_true(clock_mono_us() < end);
            }
        }
    }
    (void)images(&streams[0], &there);
    assert_true(there);
    (void)images(&streams[1], &there);
    assert_false(there);
    far_kill(&far);
    assert_int_equal(images(&streams[0], &there), 4);
    far_start(&far);
    assert_int_equal(images(&streams[0], &there), 0);
    expect(&far.streams[0], 0, 0, 16, 200);
    is_disk(far.streams[0].image, FAR_DISK_SIZE, far.streams[0].lsn, 0, 16);
    far_stop(&far);
    assert_int_equal(images(&streams[0], &there), 0);
}

/* Images among what a person reads as the truth would be a mistake: the configuration is refused.
 */
static void a_cache_in_the_store_is_refused(void **state)
{
    char command[512];
    char path[160];
    uint8_t *text = NULL;
    size_t size = 0;
    struct err err = {0};
    static const char *const places[] = {"", "/images", ".images"};
    (void)state;
    assert_int_equal(file_read(far.config, 65536, &text, &size, &err), 0);
    snprintf(path, sizeof(path), "%s/other.ini", far.dir);
    for (unsigned k = 0; k < 3; k++) {
        char more[4096];
        int n = snprintf(more, sizeof(more), "%scache = %s%s\n", (const char *)text, far.store,
                         places[k]);
        assert_int_equal(file_replace(path, more, (size_t)n, 0600, &err), 0);
        snprintf(command, sizeof(command), "%s/bin/tidemark-coordinator -n -c %s >/dev/null 2>&1",
                 getenv("TIDE_BUILD"), path);
        assert_int_equal(system(command) == 0, k == 2);
    }
    free(text);
}

static void a_store_that_was_changed_is_not_compared_with(void **state)
{
    struct far_stream *s = &far.streams[0];
    struct far_segment other;
    struct far_answer answer;
    struct manifest m;
    struct err err = {0};
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    writes(0, 20);
    writes(0, 20);
    assert_int_equal(manifest_read(far.store, &s->stream, &m, &err), 0);
    manifest_segment_path(far.store, &s->stream, m.segments[1].first, m.segments[1].last, path);
    manifest_close(&m);
    assert_int_equal(file_read(path, TIDE_SEGMENT_MAX, &bytes, &size, &err), 0);
    bytes[size / 2] ^= 1;
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    expect(s, 0, 0, 1, 409);
    assert_non_null(strstr(refused.text, path));
    assert_int_equal(unlink(path), 0);
    expect(s, 0, 0, 1, 404);
    assert_non_null(strstr(refused.text, path));
    bytes[size / 2] ^= 1; /* mended: tried again when it is asked for again */
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    free(bytes);
    expect(s, 0, 0, 16, 200);
    is_disk(s->image, FAR_DISK_SIZE, s->lsn, 0, 16);
    far_stream_again(&far, 0);
    far_write(&far, 0);
    far_cut(s, &other);
    assert_int_equal(far_put(&far, 0, &s->stream, 1, other.bytes, other.info.size, &answer), 0);
    assert_true(answer.state.forked);
    far_segment_free(&other);
    expect(s, 0, 0, 1, 409);
    assert_non_null(strstr(refused.text, "fork"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_disk_at_an_lsn_and_at_a_later_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_question_as_of_now_is_answered_while_the_stream_grows,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_that_changed_its_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(streams_that_contradict_themselves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_what_may_be_asked_is_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_cache_is_bounded_and_empty_at_the_start, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_cache_in_the_store_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_that_was_changed_is_not_compared_with, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
