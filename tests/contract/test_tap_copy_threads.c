/* SPDX-License-Identifier: Apache-2.0 */
/* The copy in the test's own process, for the sanitizers: beside writers of several threads, ended
 * in the midst and begun again; then the log on zeroes is the disk. And all that an operator and a
 * far side may order meanwhile, in any order. */
#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/hrl/whole.h"
#include "participant/tap/copy.h"
#include "participant/tap/append.h"
#include "participant/tap/disk.h"
#include "participant/tap/orders.h"
#include "participant/tap/resize.h"
#include "participant/tap/restream.h"
#include "tests/system/tap_far.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE    (UINT64_C(4) << 20)
#define WRITERS 3U
#define MIB     (UINT64_C(1) << 20)
#define SMALL   (UINT64_C(2) << 20) /* the least that the disk is shrunk to */
#define LARGE   (UINT64_C(8) << 20)
#define ORDERS  120U

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

static void open_tap_with(uint64_t log_size, uint64_t copy_rate)
{
    struct err err;
    struct tap_config config = {
        .log_size = log_size, .hold_max_us = 100000, .held_max = 1 << 20, .copy_rate = copy_rate};
    (void)snprintf(config.image, sizeof config.image, "%s", rig.image);
    (void)snprintf(config.folder, sizeof config.folder, "%s", rig.log);
    (void)snprintf(config.control, sizeof config.control, "%s", rig.control);
    if (tap_open(&tap, &config, &err) != 0 || tap_start(&tap, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void open_tap(uint64_t copy_rate)
{
    open_tap_with(256 * MIB, copy_rate);
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

/* ---- under orders ---- */

static struct tap_ctl ctl;
static struct tap_far far;
/* Held for writing while the image shrinks: what a guest writes there meanwhile makes it grow. */
static pthread_rwlock_t shrinking = PTHREAD_RWLOCK_INITIALIZER;

static void *write_anywhere(void *number)
{
    struct prng prng;
    static const uint8_t bytes[16] = "0123456789abcdef";
    uint8_t data[8192];
    prng_init(&prng, 71 + *(unsigned *)number);
    while (!ending) {
        uint32_t size = 1 + (uint32_t)prng_below(&prng, sizeof data);
        memset(data, bytes[prng_below(&prng, 16)], size);
        pthread_rwlock_rdlock(&shrinking);
        uint64_t offset = prng_below(&prng, tap.size - size);
        uint64_t kind = prng_below(&prng, 16);
        int why = kind == 0   ? disk_flush(&tap)
                  : kind < 4  ? disk_zero(&tap, size, offset, kind == 1, kind == 1, false)
                  : kind == 4 ? disk_read(&tap, data, size, offset)
                              : disk_write(&tap, data, size, offset, kind == 5);
        pthread_rwlock_unlock(&shrinking);
        TIDE_CHECK(why == 0);
        pause_us(100);
    }
    return NULL;
}

static void connect_far(void)
{
    tap_ctl_open(&ctl, &rig);
    tap_far_connect(&far, &rig, &ctl, LARGE);
}

static struct tapctl_done give(struct tapctl order)
{
    order.serial = 3;
    tap_ctl_send(&ctl, &order);
    return tap_ctl_get(&ctl, TAPCTL_DONE).done;
}

static void order_resize(struct prng *prng)
{
    uint64_t size = SMALL + prng_below(prng, (LARGE - SMALL) / 4096) * 4096;
    bool smaller = size < tap.size;
    if (smaller) {
        pthread_rwlock_wrlock(&shrinking);
    }
    assert_int_equal(truncate(rig.image, (off_t)size), 0);
    assert_int_equal(give((struct tapctl){.type = TAPCTL_RESIZE}).code, TIDE_ERR_OK);
    assert_int_equal(tap.size, size);
    if (smaller) {
        pthread_rwlock_unlock(&shrinking);
    }
}

static void order_restream(void)
{
    struct tapctl order = {.type = TAPCTL_RESTREAM,
                           .order = {.stream = ctl.welcome.welcome.stream}};
    assert_int_equal(give(order).code, TIDE_ERR_OK);
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(&(struct tapctl){.type = TAPCTL_STORED, .lsn = {1000000}}, bytes);
    (void)send(ctl.fd, bytes, size, MSG_NOSIGNAL); /* too late, if it is heard at all */
    while (read(ctl.fd, bytes, sizeof bytes) > 0) {
    }
    tap_ctl_close(&ctl);
    connect_far();
    assert_false(id_equal(&order.order.stream, &ctl.welcome.welcome.stream));
}

static void order_hold(uint8_t round, bool end)
{
    struct tapctl answer = tap_ctl_hold(&ctl, round, 50000);
    if (answer.type == TAPCTL_HELD && end) {
        tap_ctl_end(&ctl, TAPCTL_RELEASE, round);
    }
}

static void one_order(struct prng *prng, uint8_t number)
{
    static const enum tapctl_resync how[] = {TAPCTL_RESYNC_NOW, TAPCTL_RESYNC_COMPARE,
                                             TAPCTL_RESYNC_FULL};
    switch (prng_below(prng, 10)) {
    case 0:
    case 1:
        assert_int_equal(
            give((struct tapctl){.type = TAPCTL_RESYNC,
                                 .order = {.resync = (uint8_t)how[prng_below(prng, 3)]}})
                .code,
            TIDE_ERR_OK);
        break;
    case 2:
    case 3:
        order_resize(prng);
        break;
    case 4:
        order_restream();
        break;
    case 5:
    case 6:
        order_hold((uint8_t)(1 + number), prng_below(prng, 2) == 0);
        break;
    case 7:
        tap_far_wait_whole(&far, NULL);
        break;
    default:
        pause_us(20000); /* nothing is stored meanwhile */
        break;
    }
    for (uint64_t n = prng_below(prng, 6); n > 0; n--) {
        tap_far_serve(&far);
    }
}

static void under_orders(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    unsigned numbers[WRITERS];
    struct prng prng;
    prng_init(&prng, 31);
    tap_rig_open(&rig, SIZE);
    open_tap_with(8 * MIB, 1024 * MIB);
    connect_far();
    ending = false;
    for (unsigned i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_anywhere, &numbers[i]), 0);
    }
    for (uint8_t number = 0; number < ORDERS; number++) {
        one_order(&prng, number);
    }
    tap_far_wait_whole(&far, NULL);
    ending = true;
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    tap_ctl_close(&ctl);
    tap_close(&tap);
    open_tap_with(8 * MIB, 1024 * MIB);
    connect_far();
    assert_true(ctl.welcome.welcome.whole);
    tap_far_equals(&far);
    tap_ctl_close(&ctl);
    tap_close(&tap);
    tap_far_close(&far);
    tap_rig_close(&rig);
}

static void *write_at_the_end(void *ret)
{
    *(int *)ret = disk_write(&tap, "gone", 4, SIZE - 4, false);
    return NULL;
}

/* A change that was looked at before the disk shrank and waits for its turn is not logged behind
 * the resize: nobody could read such a stream. */
static void shrunk_under_a_write(void **state)
{
    (void)state;
    pthread_t thread;
    struct range_node node;
    int why = 0;
    unsigned waiting = 0;
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    tap_rig_open(&rig, SIZE);
    open_tap(0);
    range_lock(&tap.range, &node, 0, SIZE);
    assert_int_equal(pthread_create(&thread, NULL, write_at_the_end, &why), 0);
    while (waiting == 0) {
        assert_true(tap_rig_now_ms() < until);
        pthread_mutex_lock(&tap.range.mutex);
        waiting = tap.range.waiting;
        pthread_mutex_unlock(&tap.range.mutex);
    }
    assert_int_equal(truncate(rig.image, (off_t)SMALL), 0);
    resize_look(&tap, NULL);
    range_unlock(&tap.range, &node);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(why, ENOSPC);
    connect_far();
    tap_far_equals(&far);
    assert_int_equal(far.size, SMALL);
    tap_ctl_close(&ctl);
    tap_far_close(&far);
    tap_close(&tap);
    tap_rig_close(&rig);
}

static void *look(void *context)
{
    (void)context;
    resize_look(&tap, NULL);
    return NULL;
}

/* Grown in a hold, so that the size is shown after it; a new stream begins before. */
static void a_new_stream_in_a_resize(void **state)
{
    (void)state;
    pthread_t thread;
    struct tapctl_done done;
    uint64_t logged = 0;
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    tap_rig_open(&rig, SIZE);
    open_tap(1024 * MIB);
    tap_ctl_open(&ctl, &rig);
    assert_int_equal(tap_ctl_hold(&ctl, 1, 100000).type, TAPCTL_HELD);
    assert_int_equal(truncate(rig.image, (off_t)LARGE), 0);
    assert_int_equal(pthread_create(&thread, NULL, look, NULL), 0);
    while (logged != LARGE) {
        assert_true(tap_rig_now_ms() < until);
        append_lock(&tap, true);
        logged = tap.logged_size;
        append_unlock(&tap);
    }
    restream(&tap, &ctl.welcome.welcome.stream, &done);
    assert_int_equal(done.code, TIDE_ERR_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(tap.size, LARGE);
    assert_int_equal(disk_write(&tap, "new", 3, LARGE - 3, false), 0);
    tap_ctl_close(&ctl);
    connect_far();
    tap_far_wait_whole(&far, NULL);
    tap_far_equals(&far);
    assert_int_equal(far.size, LARGE);
    tap_ctl_close(&ctl);
    tap_far_close(&far);
    tap_close(&tap);
    tap_rig_close(&rig);
}

/* What a controller that knows the old stream alone says of its LSNs. */
static void stored_of_the_old_stream(void **state)
{
    (void)state;
    struct tapctl_welcome welcome;
    struct tapctl_done done;
    struct tapctl answer;
    struct tapctl message = {.type = TAPCTL_STORED, .lsn = {1}};
    tap_rig_open(&rig, SIZE);
    open_tap(0);
    orders_welcome(&tap, &welcome);
    restream(&tap, &welcome.stream, &done);
    assert_int_equal(done.code, TIDE_ERR_OK);
    assert_int_equal(orders_do(&tap, &message, 1, &answer), ORDERS_DONE);
    assert_int_equal(tap.stored_lsn, 0);
    orders_welcome(&tap, &welcome);
    assert_int_equal(orders_do(&tap, &message, 1, &answer), ORDERS_DONE);
    assert_int_equal(tap.stored_lsn, 1);
    tap_close(&tap);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_writers),           cmocka_unit_test(under_orders),
        cmocka_unit_test(shrunk_under_a_write),     cmocka_unit_test(a_new_stream_in_a_resize),
        cmocka_unit_test(stored_of_the_old_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
