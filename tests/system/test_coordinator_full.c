/* SPDX-License-Identifier: Apache-2.0 */
/* A full disk under the store: segments are answered 507, nothing that was stored is lost, and when
 * there is room again everything goes on. Needs root, for a tmpfs of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "tests/contract/far_rig.h"

#define SKIPPED   77
#define STORE_OPT "size=3m,mode=0750"
#define FILLER    (2U * 1024 * 1024)

static char mounted[64];

static void fill(char *ret_path, size_t size)
{
    struct err err = {0};
    uint8_t *bytes = calloc(1, FILLER);
    assert_non_null(bytes);
    snprintf(ret_path, size, "%s/filler", mounted);
    assert_int_equal(file_replace(ret_path, bytes, FILLER, 0600, &err), 0);
    free(bytes);
}

static void a_full_store_says_so_and_goes_on(void **state)
{
    struct far far;
    struct far_segment segment;
    struct far_answer a = {0};
    struct id round;
    char store[128];
    char filler[128];
    uint64_t stored = 0;
    (void)state;
    snprintf(store, sizeof(store), "%s/store", mounted);
    far_make(&far, 21, store);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    fill(filler, sizeof(filler));
    for (unsigned k = 0; k < 400; k++) {
        for (unsigned j = 0; j < 8; j++) {
            far_write(&far, 0);
        }
        far_cut(&far.streams[0], &segment);
        assert_int_equal(far_put(&far, 0, &far.streams[0].stream, segment.info.header.first_lsn,
                                 segment.bytes, segment.info.size, &a),
                         0);
        if (a.status != 200) {
            break;
        }
        stored = a.state.stored_lsn;
        far_segment_free(&segment);
    }
    assert_int_equal(a.status, 507);
    assert_int_equal(a.state.code, TIDE_ERR_FULL);
    assert_true(a.state.stored_lsn == stored);
    assert_true(strlen(a.state.text) > 0);
    /* Still so after it was killed while full: it starts, and says the same. */
    far_kill(&far);
    far_start(&far);
    assert_int_equal(far_put(&far, 0, &far.streams[0].stream, segment.info.header.first_lsn,
                             segment.bytes, segment.info.size, &a),
                     0);
    assert_int_equal(a.status, 507);
    assert_true(a.state.stored_lsn == stored);
    assert_int_equal(unlink(filler), 0);
    far_put_good(&far, 0, &segment);
    far_round(&far, false, false, &round, NULL);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), 2);
    json_decref(points);
    far_remove(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_full_store_says_so_and_goes_on)};
    if (geteuid() != 0) {
        printf("skipped: a_full_store_says_so_and_goes_on needs root to mount a tmpfs\n");
        return SKIPPED;
    }
    snprintf(mounted, sizeof(mounted), "/tmp/tidemark-full-XXXXXX");
    if (mkdtemp(mounted) == NULL || mount("tmpfs", mounted, "tmpfs", 0, STORE_OPT) < 0) {
        printf("skipped: a_full_store_says_so_and_goes_on: no tmpfs can be mounted here\n");
        rmdir(mounted);
        return SKIPPED;
    }
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    umount2(mounted, MNT_DETACH);
    rmdir(mounted);
    return rc;
}
