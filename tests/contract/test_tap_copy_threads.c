/* SPDX-License-Identifier: Apache-2.0 */
/* The copy in the test's own process, for the sanitizers: beside writers of several threads, ended
 * in the midst and begun again; then the log on zeroes is the disk. */
#include "common/core/prng.h"
#include "common/hrl/whole.h"
#include "participant/tap/copy.h"
#include "participant/tap/disk.h"
#include "tests/system/tap_rig.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SIZE    (UINT64_C(4) << 20)
#define WRITERS 3U
#define MIB     (UINT64_C(1) << 20)

/* What the engine calls of nbdkit. */
void nbdkit_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

void nbdkit_debug(const char *format, ...)
{
    (void)format;
}

static struct tap tap;
static struct tap_rig rig;
static _Atomic bool ending;

static void pause_us(long us)
{
    const struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL);
}

static void open_tap(uint64_t copy_rate)
{
    struct err err;
    struct tap_config config = {
        .log_size = 256 * MIB, .hold_max_us = 50000, .held_max = 1 << 20, .copy_rate = copy_rate};
    (void)snprintf(config.image, sizeof config.image, "%s", rig.image);
    (void)snprintf(config.folder, sizeof config.folder, "%s", rig.log);
    (void)snprintf(config.control, sizeof config.control, "%s", rig.control);
    if (tap_open(&tap, &config, &err) != 0 || tap_start(&tap, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void *write_on(void *number)
{
    struct prng prng;
    uint8_t data[512];
    prng_init(&prng, 1 + *(unsigned *)number);
    while (!ending) {
        uint32_t size = 1 + (uint32_t)prng_below(&prng, sizeof data);
        uint64_t offset = prng_below(&prng, SIZE - size);
        uint64_t next = 0;
        uint64_t run = 0;
        (void)map_next(&tap.map, 0, SIZE, SIZE, &next, &run);
        if (prng_below(&prng, 8) != 0 && next + TIDE_COPY_BLOCK <= SIZE) {
            offset = next + prng_below(&prng, TIDE_COPY_BLOCK - size); /* the block it reads next */
        }
        memset(data, (int)prng_below(&prng, 256), sizeof data);
        switch (prng_below(&prng, 6)) {
        case 0:
            (void)disk_zero(&tap, size, offset, true, true, false);
            break;
        case 1:
            (void)disk_read(&tap, data, size, offset);
            break;
        case 2:
            (void)disk_flush(&tap);
            break;
        default:
            (void)disk_write(&tap, data, size, offset, false);
            break;
        }
        pause_us(5);
    }
    return NULL;
}

/* Beside writers until the copy is that far: whole, or at that offset. */
static void run(bool until_whole, uint64_t offset)
{
    pthread_t threads[WRITERS];
    unsigned numbers[WRITERS];
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    ending = false;
    for (unsigned i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &numbers[i]), 0);
    }
    for (bool there = false; !there;) {
        struct tapctl_state state = {0};
        copy_progress(&tap, &state);
        pthread_mutex_lock(&tap.gate_lock);
        bool whole = tap.gate.whole;
        pthread_mutex_unlock(&tap.gate_lock);
        there = whole || (!until_whole && SIZE - state.dirty_bytes >= offset);
        assert_true(tap_rig_now_ms() < until);
        pause_us(1000);
    }
    ending = true;
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void feed(const struct record *record, void *whole)
{
    whole_feed(whole, record);
}

static void beside_writers(void **state)
{
    (void)state;
    static uint8_t data[MIB];
    struct prng prng;
    struct whole whole;
    prng_init(&prng, 5);
    tap_rig_open(&rig, SIZE);
    FILE *image = fopen(rig.image, "r+");
    assert_non_null(image);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)prng_next(&prng);
    }
    assert_int_equal(fwrite(data, 1, sizeof data, image), sizeof data);
    assert_int_equal(fseek(image, 3 * MIB, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, sizeof data, image), sizeof data);
    assert_int_equal(fclose(image), 0);

    open_tap(4 * MIB);
    run(false, MIB / 2);
    tap_close(&tap); /* in the midst */
    open_tap(64 * MIB);
    run(true, 0);
    tap_close(&tap);

    whole_init(&whole);
    uint8_t *expected = tap_rig_replay(&rig, SIZE, feed, &whole);
    assert_int_equal(whole.answer, ROUND_ANSWER_YES);
    image = fopen(rig.image, "r");
    assert_non_null(image);
    for (uint64_t at = 0; at < SIZE; at += sizeof data) {
        assert_int_equal(fread(data, 1, sizeof data, image), sizeof data);
        assert_memory_equal(data, expected + at, sizeof data);
    }
    assert_int_equal(fclose(image), 0);
    free(expected);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(beside_writers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
