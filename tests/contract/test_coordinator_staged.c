/* SPDX-License-Identifier: Apache-2.0 */
/* A real coordinator, and segments that come in any order: what is early is staged, durably and
 * within its limits, and taken in the stream's order. And a disk that comes back with another
 * stream. */
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/store/manifest.h"
#include "coordinator/store/staged.h"
#include "tests/contract/far_rig.h"

#define CUTS 20U

static struct far far;
static struct far_segment cuts[CUTS];

static int setup(void **state)
{
    static uint64_t seed = 100;
    (void)state;
    far_make(&far, seed++, NULL);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned k = 0; k < CUTS; k++) {
        far_segment_free(&cuts[k]);
    }
    far_remove(&far);
    return 0;
}

static void cut(unsigned count)
{
    for (unsigned k = 0; k < count; k++) {
        far_write(&far, 0);
        far_cut(&far.streams[0], &cuts[k]);
    }
}

static struct far_answer put(const struct far_segment *s, int status)
{
    struct far_answer a;
    assert_int_equal(far_put(&far, 0, &far.streams[0].stream, s->info.header.first_lsn, s->bytes,
                             s->info.size, &a),
                     0);
    if (a.status != status) {
        fail_msg("status %d, not %d: %s", a.status, status, a.state.text);
    }
    return a;
}

static void at(const struct far_answer *a, uint64_t stored, uint64_t received)
{
    assert_int_equal(a->state.stored_lsn, stored);
    assert_int_equal(a->state.received_lsn, received);
}

static unsigned staged_files(void)
{
    char path[PATH_MAX];
    char hex[TIDE_ID_HEX];
    unsigned count = 0;
    snprintf(path, sizeof(path), "%s/streams/%s/staged", far.store,
             id_hex(&far.streams[0].stream, hex));
    DIR *dir = opendir(path);
    for (struct dirent *e = dir == NULL ? NULL : readdir(dir); e != NULL; e = readdir(dir)) {
        count += e->d_name[0] != '.';
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

static void manifest_is_whole(unsigned segments)
{
    struct manifest m;
    struct err err = {0};
    if (manifest_read(far.store, &far.streams[0].stream, &m, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(m.segment_count, segments); /* in order, without a hole: the reader checks */
    assert_false(m.forked);
    manifest_close(&m);
}

/* From the last to the first; half of them over a restart. */
static void what_comes_early_is_taken_in_order(void **state)
{
    (void)state;
    cut(8);
    for (unsigned k = 7; k >= 1; k--) {
        struct far_answer a = put(&cuts[k], 200);
        at(&a, 0, 0);
        assert_int_equal(staged_files(), 8 - k);
        a = put(&cuts[k], 200); /* the same again */
        assert_int_equal(staged_files(), 8 - k);
        if (k == 4) {
            far_kill(&far);
            far_start(&far);
        }
    }
    struct far_answer a = put(&cuts[0], 200);
    at(&a, cuts[7].info.last_lsn, cuts[7].info.last_lsn);
    assert_int_equal(staged_files(), 0);
    manifest_is_whole(8);
    for (unsigned k = 0; k < 8; k++) {
        put(&cuts[k], 200);
    }
}

/* received_lsn ends at the first hole. */
static void the_answer_says_how_far_it_is(void **state)
{
    (void)state;
    cut(6);
    put(&cuts[0], 200);
    put(&cuts[5], 200);
    struct far_answer a = put(&cuts[3], 200);
    at(&a, cuts[0].info.last_lsn, cuts[0].info.last_lsn);
    far_stop(&far);
    far_start(&far);
    a = put(&cuts[2], 200);
    at(&a, cuts[0].info.last_lsn, cuts[0].info.last_lsn);
    a = put(&cuts[1], 200);
    at(&a, cuts[3].info.last_lsn, cuts[3].info.last_lsn);
    a = put(&cuts[4], 200);
    at(&a, cuts[5].info.last_lsn, cuts[5].info.last_lsn);
    manifest_is_whole(6);
}

static void no_more_than_the_limit_is_staged(void **state)
{
    (void)state;
    cut(CUTS);
    for (unsigned k = 1; k <= TIDE_STAGED_MAX; k++) {
        put(&cuts[k], 200);
    }
    struct far_answer a = put(&cuts[TIDE_STAGED_MAX + 1], 503);
    assert_int_equal(a.state.code, TIDE_ERR_BUSY);
    assert_non_null(strstr(a.state.text, "LSN 1 is due"));
    put(&cuts[1], 200); /* one that is there is not one more */
    a = put(&cuts[0], 200);
    at(&a, cuts[TIDE_STAGED_MAX].info.last_lsn, cuts[TIDE_STAGED_MAX].info.last_lsn);
    put(&cuts[TIDE_STAGED_MAX + 1], 200);
}

/* Other bytes for a staged place take it; which of them is a fork shows when the place is due. */
static void other_bytes_for_a_staged_place(void **state)
{
    struct far_segment good[3];
    (void)state;
    for (unsigned k = 0; k < 3; k++) {
        far_write(&far, 0);
        far_cut(&far.streams[0], &good[k]);
    }
    far_stream_again(&far, 0);
    cut(3);
    put(&cuts[1], 200);
    put(&cuts[2], 200);
    put(&good[1], 200);
    put(&good[2], 200);
    struct far_answer a = put(&good[0], 200);
    at(&a, good[2].info.last_lsn, good[2].info.last_lsn);
    assert_false(a.state.forked);
    manifest_is_whole(3);
    for (unsigned k = 0; k < 3; k++) {
        far_segment_free(&good[k]);
    }
}

static void a_staged_one_that_does_not_chain_is_a_fork_when_due(void **state)
{
    struct far_segment good;
    (void)state;
    far_write(&far, 0);
    far_cut(&far.streams[0], &good);
    far_stream_again(&far, 0);
    cut(3);
    struct far_answer a = put(&cuts[2], 200);
    assert_false(a.state.forked);
    a = put(&cuts[1], 200);
    assert_false(a.state.forked);
    a = put(&good, 200); /* itself it is right */
    assert_true(a.state.forked);
    at(&a, good.info.last_lsn, good.info.last_lsn);
    assert_int_equal(staged_files(), 0);
    put(&cuts[2], 409);
    far_segment_free(&good);
}

/* What a log says that was restored to an earlier state and has written past what is stored: it
 * learns the hash to go on from, and the gap of its restart is behind that. */
static void another_incarnation_at_what_is_due_is_a_fork(void **state)
{
    (void)state;
    cut(1);
    put(&cuts[0], 200);
    far_diverge(&far.streams[0], far.streams[0].incarnation + 1);
    far_write(&far, 0);
    far_cut(&far.streams[0], &cuts[1]);
    far_kill(&far); /* what it has stored says it, not what it remembers */
    far_start(&far);
    struct far_answer a = put(&cuts[1], 409);
    assert_non_null(strstr(a.state.text, "another incarnation"));
    assert_true(a.state.forked);
    at(&a, cuts[0].info.last_lsn, cuts[0].info.last_lsn);
}

/* A staged file that is spoilt is dropped when due, said so, and taken when it comes again. */
static void a_damaged_staged_file_is_dropped(void **state)
{
    char path[PATH_MAX];
    char log[160];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    (void)state;
    cut(3);
    put(&cuts[1], 200);
    put(&cuts[2], 200);
    manifest_staged_path(far.store, &far.streams[0].stream, cuts[1].info.header.first_lsn,
                         cuts[1].info.last_lsn, path);
    assert_int_equal(file_read(path, TIDE_SEGMENT_MAX, &bytes, &size, &err), 0);
    bytes[size / 2] ^= 1;
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    free(bytes);
    struct far_answer a = put(&cuts[0], 200);
    at(&a, cuts[0].info.last_lsn, cuts[0].info.last_lsn);
    assert_int_equal(staged_files(), 1);
    a = put(&cuts[1], 200);
    at(&a, cuts[2].info.last_lsn, cuts[2].info.last_lsn);
    snprintf(log, sizeof(log), "%s/log", far.dir);
    assert_int_equal(file_read(log, 1 << 20, &bytes, &size, &err), 0);
    assert_non_null(strstr((const char *)bytes, "is dropped"));
    free(bytes);
}

/* ---- several at once ---- */

struct sender {
    pthread_t thread;
    struct http_client *client;
    unsigned index;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (unsigned k = s->index; k < CUTS; k += 4) {
        char path[128];
        char hex[TIDE_ID_HEX];
        int status = 0;
        struct err err = {0};
        snprintf(path, sizeof(path), "/v0/streams/%s/segments/%llu",
                 id_hex(&far.streams[0].stream, hex),
                 (unsigned long long)cuts[k].info.header.first_lsn);
        do {
            if (http_request(s->client, "PUT", path, cuts[k].bytes, cuts[k].info.size, 10000,
                             &status, NULL, NULL, &err) < 0) {
                return NULL;
            }
        } while (status == 503);
        if (status != 200) {
            return NULL;
        }
    }
    return s;
}

/* Four connections send every fourth segment each; all come to be one stream, and points of it. */
static void several_at_once(void **state)
{
    struct sender senders[4];
    struct id round;
    struct err err = {0};
    (void)state;
    cut(CUTS);
    for (unsigned k = 0; k < 4; k++) {
        struct http_options o = {.identity = far.identities[0],
                                 .server_uri = "spiffe://lab/coordinator/main",
                                 .answer_max = HTTP_ANSWER_MAX};
        senders[k].index = k;
        assert_int_equal(address_parse(far.address, false, &o.server, &err), 0);
        assert_int_equal(http_client_new(&o, &senders[k].client, &err), 0);
    }
    for (unsigned k = 0; k < 4; k++) {
        assert_int_equal(pthread_create(&senders[k].thread, NULL, send_all, &senders[k]), 0);
    }
    for (unsigned k = 0; k < 4; k++) {
        void *result = NULL;
        assert_int_equal(pthread_join(senders[k].thread, &result), 0);
        assert_non_null(result);
        http_client_free(senders[k].client);
    }
    struct far_answer a = put(&cuts[0], 200);
    at(&a, cuts[CUTS - 1].info.last_lsn, cuts[CUTS - 1].info.last_lsn);
    manifest_is_whole(CUTS);
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
}

/* A round whose bookmark and seal come the wrong way round is a point all the same. */
static void records_of_staged_segments_are_aligned(void **state)
{
    struct id round;
    struct far_segment early;
    (void)state;
    far_write(&far, 0);
    far_cut(&far.streams[0], &early);
    far.late = true; /* far_round() then keeps what it cuts of member 0 */
    far_round(&far, false, false, &round, NULL);
    far.late = false;
    for (unsigned k = far.kept_count; k-- > 0;) {
        put(&far.kept[k], 200);
        far_segment_free(&far.kept[k]);
    }
    put(&early, 200);
    far_segment_free(&early);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
}

/* A disk whose tap began another stream: registered as the next epoch, and points of it return. */
static void another_stream_of_a_disk_is_the_next_epoch(void **state)
{
    struct id round;
    (void)state;
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    assert_int_equal(far.definition->epoch.number, 1);
    struct id old = far.streams[0].stream;
    far_stream_close(&far.streams[0]);
    far_stream_init(&far, 0);
    assert_false(id_equal(&old, &far.streams[0].stream));
    far_register(&far);
    assert_int_equal(far.definition->epoch.number, 2);
    assert_true(id_equal(&far.definition->disks[0].stream, &far.streams[0].stream));
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    /* Also for the next coordinator, and what was a point stays one. */
    far_kill(&far);
    far_start(&far);
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), 3);
    json_decref(points);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_comes_early_is_taken_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(the_answer_says_how_far_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_the_limit_is_staged, setup, teardown),
        cmocka_unit_test_setup_teardown(other_bytes_for_a_staged_place, setup, teardown),
        cmocka_unit_test_setup_teardown(a_staged_one_that_does_not_chain_is_a_fork_when_due, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(another_incarnation_at_what_is_due_is_a_fork, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_damaged_staged_file_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(several_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(records_of_staged_segments_are_aligned, setup, teardown),
        cmocka_unit_test_setup_teardown(another_stream_of_a_disk_is_the_next_epoch, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
