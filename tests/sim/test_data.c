/* SPDX-License-Identifier: Apache-2.0 */
/* The data side of the simulator: a device loses what a power cut may take and nothing else; each
 * of model.h's checkers fires on what it is for. */
#include "participant/tap/file.h"
#include "tests/sim/model.h"
#include "tests/sim/sim.h"
#include "tests/sim/simdev.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- devices ---- */

static void put(const struct simdev *dev, unsigned part, uint64_t offset, uint8_t byte)
{
    uint8_t bytes[16];
    memset(bytes, byte, sizeof bytes);
    assert_int_equal(file_write(dev->fd + (int)part, bytes, sizeof bytes, offset), 0);
}

static bool reads(const struct simdev *dev, unsigned part, uint64_t offset, uint8_t byte)
{
    uint8_t bytes[16];
    assert_int_equal(file_read(dev->fd + (int)part, bytes, sizeof bytes, offset), 0);
    return bytes[0] == byte && memcmp(bytes, bytes + 1, sizeof bytes - 1) == 0;
}

/* A sync covers its own part, and what was written before it began. */
static void synced_is_kept(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct prng prng;
        prng_init(&prng, seed);
        struct simdev *dev = simdev_new(128, 64);
        put(dev, 0, 0, 1);
        put(dev, 0, 16, 2);
        dev->covers = simdev_written(dev);
        put(dev, 0, 32, 3);
        assert_int_equal(file_sync(dev->fd), 0);
        put(dev, 1, 0, 4);
        simdev_power(dev, &prng);
        assert_true(reads(dev, 0, 0, 1));
        assert_true(reads(dev, 0, 16, 2));
        assert_true(reads(dev, 0, 48, 0));
        simdev_free(dev);
    }
}

/* Every fate of a write that was not synced comes: kept, dropped, torn or trashed. */
static void unsynced_is_drawn(void **state)
{
    unsigned kept = 0;
    unsigned dropped = 0;
    unsigned other = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct prng prng;
        prng_init(&prng, seed);
        struct simdev *dev = simdev_new(64, 64);
        put(dev, 0, 16, 1);
        simdev_power(dev, &prng);
        bool is_kept = reads(dev, 0, 16, 1);
        bool is_dropped = reads(dev, 0, 16, 0);
        kept += is_kept;
        dropped += is_dropped;
        other += !is_kept && !is_dropped;
        assert_true(reads(dev, 0, 0, 0));
        assert_true(reads(dev, 0, 32, 0));
        simdev_free(dev);
    }
    assert_true(kept > 20 && dropped > 20 && other > 5);
}

static void failing_says_so(void **state)
{
    struct prng prng;
    uint8_t byte = 1;
    (void)state;
    prng_init(&prng, 1);
    struct simdev *dev = simdev_new(64, 64);
    dev->fails_writes = true;
    assert_int_equal(file_write(dev->fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EIO);
    assert_true(reads(dev, 0, 0, 0));
    dev->fails_syncs = true;
    assert_int_equal(file_sync(dev->fd), -1);
    simdev_free(dev);
}

/* ---- checkers: one member with two disks, by hand ---- */

static struct roundlab *lab;
static struct check *check;
static struct model *model;
static uint8_t image[SIMTAP_SIZE];

static int set_up(void **state)
{
    (void)state;
    struct roundlab_config config = {
        .members = 1, .silent = true, .latency_us = 500, .disk_size = SIMTAP_SIZE};
    policy_init(&config.policy);
    lab = roundlab_new(&config);
    check = check_new(roundlab_definition(lab));
    model = model_new(roundlab_definition(lab), check);
    memset(image, 0, sizeof image);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    model_free(model);
    check_free(check);
    roundlab_free(lab);
    return 0;
}

static void caught(const char *checker)
{
    const char *failure = check_failure(check);
    if (failure == NULL || strncmp(failure, checker, strlen(checker)) != 0) {
        fail_msg("not by %s: %s", checker, failure == NULL ? "nothing was found" : failure);
    }
}

/* Write `number` of the first two sectors of disk 0 is in the log at that LSN. */
static void change(unsigned number, uint64_t lsn)
{
    const struct simtap_change c = {.number = number, .size = (uint64_t)2 * SIMTAP_SECTOR};
    model_change(model, 0, &c, lsn);
}

static void applied(unsigned number, uint64_t lsn)
{
    change(number, lsn);
    model_applied(model, 0, number, true);
}

static void on_image(unsigned number)
{
    for (unsigned s = 0; s < 2; s++) {
        simtap_word(number, s, image + (size_t)s * SIMTAP_SECTOR);
    }
}

static struct record told(enum record_type type, uint64_t lsn, uint64_t incarnation)
{
    struct record r = {.type = type, .lsn = lsn, .incarnation = incarnation};
    r.stream = roundlab_definition(lab)->disks[0].stream;
    if (type == RECORD_BOOKMARK) {
        r.bookmark.order.round.b[0] = 9;
    }
    model_record(model, 0, 0, &r);
    return r;
}

/* What was there at the bookmark, or was under way; not what came later or was before. */
static void bytes_fires(void **state)
{
    (void)state;
    applied(1, 5);
    change(2, 6);
    struct record bookmark = told(RECORD_BOOKMARK, 7, 3);
    model_applied(model, 0, 2, true);
    applied(4, 8);
    on_image(1);
    model_recovered(model, 0, 0, &bookmark, image);
    on_image(2);
    model_recovered(model, 0, 0, &bookmark, image);
    assert_null(check_failure(check));
    assert_int_equal(model_compared(model), 2);
    on_image(4);
    model_recovered(model, 0, 0, &bookmark, image);
    caught("bytes");
}

static void bytes_fires_on_a_start(void **state)
{
    (void)state;
    applied(1, 5);
    on_image(1);
    model_began(model, 0, 0, image);
    assert_null(check_failure(check));
    applied(2, 8);
    model_began(model, 0, 0, image); /* no power was lost */
    caught("bytes");
}

/* After a power cut what was not synced may be anything, what was is there. */
static void bytes_fires_on_power(void **state)
{
    (void)state;
    applied(1, 5);
    model_synced(model, 0, 4);
    model_power(model, 0);
    memset(image, 0x77, 8);
    model_began(model, 0, 0, image);
    assert_null(check_failure(check));
    applied(2, 6);
    model_synced(model, 0, 6);
    model_power(model, 0);
    model_began(model, 0, 0, image);
    caught("bytes");
}

static void bytes_fires_on_a_lost_flush(void **state)
{
    (void)state;
    applied(1, 0); /* past the log */
    model_power(model, 0);
    model_began(model, 0, 0, image);
    assert_null(check_failure(check));
    applied(2, 0);
    model_flushed(model, 0, 2);
    model_power(model, 0);
    model_began(model, 0, 0, image);
    caught("bytes");
}

static void bytes_fires_on_a_torn_record(void **state)
{
    uint8_t bytes[2 * SIMTAP_SECTOR];
    struct record r = {.type = RECORD_WRITE, .lsn = 5};
    (void)state;
    on_image(3);
    memcpy(bytes, image, sizeof bytes);
    r.write = (struct record_write){.size = sizeof bytes, .data = bytes};
    model_stored_write(model, 0, 0, &r);
    assert_null(check_failure(check));
    memset(bytes + SIMTAP_SECTOR + 8, 0, 8);
    model_stored_write(model, 0, 0, &r);
    caught("bytes");
}

static void lost_fires_on_a_cut(void **state)
{
    (void)state;
    model_synced(model, 0, 10);
    model_cut(model, 0, 0, 11, 10);
    assert_null(check_failure(check));
    model_cut(model, 0, 0, 11, 11); /* the far side has what the tap lost */
    caught("lost");
}

static void lost_fires_on_synced(void **state)
{
    (void)state;
    model_synced(model, 0, 10);
    model_cut(model, 0, 0, 10, 0);
    caught("lost");
}

static void lost_fires_on_reclaim(void **state)
{
    (void)state;
    model_reclaimed(model, 0, 0, 10, 10);
    assert_null(check_failure(check));
    model_reclaimed(model, 0, 0, 11, 10);
    caught("lost");
}

static void lost_fires_on_stored(void **state)
{
    (void)state;
    model_stored(model, 0, 10);
    model_holds(model, 0, 0, 10);
    assert_null(check_failure(check));
    model_holds(model, 0, 0, 9);
    caught("lost");
}

static void feed(enum record_type type, uint64_t lsn, uint64_t incarnation)
{
    uint64_t now_us = lsn * 1000000; /* a hold has long ended at the next */
    struct record r = {.type = type, .lsn = lsn, .incarnation = incarnation};
    r.stream = roundlab_definition(lab)->disks[0].stream;
    if (type == RECORD_ATTACH) {
        r.attach = (struct record_attach){.boot = {{1}},
                                          .disk = {{1}},
                                          .timeline = {{1}},
                                          .size = SIMTAP_SIZE,
                                          .block_size = 512,
                                          .first = lsn == 1,
                                          .base_zero = lsn == 1};
    } else if (type == RECORD_GAP) {
        r.gap = (struct record_gap){.reason = RECORD_GAP_LOG, .from_lsn = lsn};
    } else {
        r.bookmark.order = (struct round_order){.round = {{(uint8_t)lsn}},
                                                .group = roundlab_definition(lab)->group,
                                                .epoch = roundlab_definition(lab)->epoch,
                                                .scope = ROUND_SCOPE_GROUP,
                                                .kind = ROUND_KIND_CRASH};
        set_init(&r.bookmark.order.set, 2);
        set_add(&r.bookmark.order.set, 0);
        r.bookmark.nonce.b[0] = 1;
    }
    model_record(model, now_us, 0, &r);
    check_record(check, now_us, 0, &r);
    check_let_go(check, now_us, 0);
}

static void life_fires_without_attach(void **state)
{
    (void)state;
    feed(RECORD_ATTACH, 1, 3);
    feed(RECORD_GAP, 2, 3);
    assert_null(check_failure(check));
    feed(RECORD_GAP, 3, 4);
    caught("life");
}

static void life_fires_on_an_open_bookmark(void **state)
{
    (void)state;
    feed(RECORD_ATTACH, 1, 3);
    feed(RECORD_BOOKMARK, 2, 3);
    model_log_failed(model, 0); /* that takes no seal */
    feed(RECORD_ATTACH, 3, 4);
    feed(RECORD_BOOKMARK, 4, 4);
    assert_null(check_failure(check));
    feed(RECORD_ATTACH, 5, 5);
    caught("life");
}

/* A run says something of disks only if points were recovered, and after every kind of loss. */
static void much_is_recovered(void **state)
{
    static const char *const seen[] = {"gap power",      ": overflow",     ": log",       ": image",
                                       "copy (initial)", "copy (changes)", "copy (full)", "(torn)"};
    bool found[sizeof seen / sizeof seen[0]] = {false};
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        const struct sim_options options = {
            .seed = seed, .rounds = 10, .faults = SIM_FAULTS_SWARM, .trace = true};
        struct sim_result one = sim_run(&options);
        assert_int_equal(one.verdict, SIM_GOOD);
        assert_true(one.compared >= one.count.points); /* a disk at least of each */
        for (unsigned i = 0; i < sizeof seen / sizeof seen[0]; i++) {
            found[i] |= strstr(one.trace, seen[i]) != NULL;
        }
        free(one.trace);
    }
    for (unsigned i = 0; i < sizeof seen / sizeof seen[0]; i++) {
        if (!found[i]) {
            fail_msg("no run had \"%s\"", seen[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_is_kept),
        cmocka_unit_test(unsynced_is_drawn),
        cmocka_unit_test(failing_says_so),
        cmocka_unit_test_setup_teardown(bytes_fires, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_fires_on_a_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_fires_on_power, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_fires_on_a_lost_flush, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_fires_on_a_torn_record, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_fires_on_a_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_fires_on_synced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_fires_on_reclaim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_fires_on_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(life_fires_without_attach, set_up, tear_down),
        cmocka_unit_test_setup_teardown(life_fires_on_an_open_bookmark, set_up, tear_down),
        cmocka_unit_test(much_is_recovered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
