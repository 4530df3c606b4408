/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 of the tap under overlapping writers, again and again: after each restart the disk is
 * what the whole log says, nothing acknowledged and flushed is missing, and the stream is whole. */
#include "common/core/prng.h"
#include "tests/system/tap_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZE      (UINT64_C(8) << 20)
#define SHARED    (UINT64_C(1) << 20) /* where all writers overlap */
#define DEPTH     12
#define ROUNDS    10
#define SLOT_SIZE 4096

struct writer {
    int64_t cookie; /* 0: idle */
    uint8_t data[16384];
};

static bool finished(struct nbd_handle *nbd, struct writer *writer)
{
    int result = writer->cookie == 0 ? 1 : nbd_aio_command_completed(nbd, (uint64_t)writer->cookie);
    if (result != 0) {
        writer->cookie = 0;
    }
    return result != 0;
}

/* Keeps DEPTH overlapping changes in flight until `count` are done, then leaves them in flight. */
static void overlap(struct nbd_handle *nbd, struct prng *prng, struct writer *writers, int count)
{
    for (int n = 0; n < count;) {
        for (int i = 0; i < DEPTH; i++) {
            struct writer *w = &writers[i];
            if (!finished(nbd, w)) {
                continue;
            }
            n++;
            uint64_t size = 1 + prng_below(prng, sizeof w->data);
            uint64_t offset = prng_below(prng, SHARED - size);
            memset(w->data, (int)prng_below(prng, 256), sizeof w->data);
            w->cookie = prng_below(prng, 8) == 0
                            ? nbd_aio_zero(nbd, size, offset, NBD_NULL_COMPLETION, 0)
                            : nbd_aio_pwrite(nbd, w->data, size, offset, NBD_NULL_COMPLETION, 0);
            assert_true(w->cookie > 0);
        }
        assert_true(nbd_poll(nbd, 1000) >= 0);
    }
}

static void compare(const struct tap_rig *rig, struct nbd_handle *nbd)
{
    uint8_t *expected = tap_rig_replay(rig, SIZE, NULL, NULL);
    uint8_t *got = malloc(SIZE);
    assert_non_null(got);
    for (uint64_t at = 0; at < SIZE; at += 1 << 20) {
        assert_int_equal(nbd_pread(nbd, got + at, 1 << 20, at, 0), 0);
    }
    assert_memory_equal(got, expected, SIZE);
    free(got);
    free(expected);
}

static void crash_again_and_again(const char *options)
{
    struct tap_rig rig;
    struct prng prng;
    struct writer *writers = calloc(DEPTH, sizeof *writers);
    uint8_t slot[SLOT_SIZE];
    uint8_t back[SLOT_SIZE];
    assert_non_null(writers);
    const char *seed = getenv("TIDE_SEED");
    prng_init(&prng, seed != NULL ? strtoull(seed, NULL, 10) : 20004);
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, options);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct nbd_handle *nbd = tap_rig_nbd(&rig);
        overlap(nbd, &prng, writers, 100);
        memset(slot, (int)round, sizeof slot);
        assert_int_equal(nbd_pwrite(nbd, slot, sizeof slot, SHARED + round * SLOT_SIZE, 0), 0);
        assert_int_equal(nbd_flush(nbd, 0), 0);
        overlap(nbd, &prng, writers, (int)prng_below(&prng, 100));
        tap_rig_kill(&rig);
        nbd_close(nbd);
        memset(writers, 0, DEPTH * sizeof *writers);

        tap_rig_start(&rig, options);
        nbd = tap_rig_nbd(&rig);
        compare(&rig, nbd);
        for (uint64_t past = 1; past <= round; past++) {
            memset(slot, (int)past, sizeof slot);
            assert_int_equal(nbd_pread(nbd, back, sizeof back, SHARED + past * SLOT_SIZE, 0), 0);
            assert_memory_equal(back, slot, sizeof slot);
        }
        nbd_close(nbd);
        struct tap_ctl ctl;
        tap_ctl_open(&ctl, &rig);
        assert_true(ctl.welcome.welcome.whole);
        tap_ctl_close(&ctl);
    }
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
    free(writers);
}

static void flush_both(void **state)
{
    (void)state;
    crash_again_and_again("log-size=64M");
}

static void flush_log(void **state)
{
    (void)state;
    crash_again_and_again("log-size=64M flush=log");
}

/* The log's tail is replayed: an image taken back to an older state (as a power cut of the image's
 * own cache would) becomes what the log says. */
static void the_tail_is_replayed(void **state)
{
    (void)state;
    struct tap_rig rig;
    char back[6] = {0};
    tap_rig_open(&rig, SIZE);
    tap_rig_start(&rig, "log-size=8M flush=log");
    struct nbd_handle *nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_pwrite(nbd, "logged", 6, 4096, 0), 0);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    tap_rig_kill(&rig);
    nbd_close(nbd);
    FILE *image = fopen(rig.image, "r+");
    assert_non_null(image);
    assert_int_equal(fseek(image, 4096, SEEK_SET), 0);
    assert_int_equal(fwrite("LOST!!", 1, 6, image), 6);
    assert_int_equal(fclose(image), 0);
    tap_rig_start(&rig, "log-size=8M");
    nbd = tap_rig_nbd(&rig);
    assert_int_equal(nbd_pread(nbd, back, 6, 4096, 0), 0);
    assert_memory_equal(back, "logged", 6);
    nbd_close(nbd);
    tap_rig_stop(&rig);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tail_is_replayed),
        cmocka_unit_test(flush_both),
        cmocka_unit_test(flush_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
