/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator itself: a seed does the same twice; each checker fires on what it is for. */
#include "tests/sim/scenario.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sim_result run(uint64_t seed)
{
    const struct sim_options options = {
        .seed = seed, .rounds = 10, .faults = SIM_FAULTS_SWARM, .trace = true};
    return sim_run(&options);
}

static void same_seed_same_run(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct sim_result one = run(seed);
        struct sim_result again = run(seed);
        struct sim_result other = run(seed + 1000);
        assert_true(one.digest == again.digest);
        assert_string_equal(one.trace, again.trace);
        assert_true(one.digest != other.digest);
        free(one.trace);
        free(again.trace);
        free(other.trace);
    }
}

/* A run says something only if there were points, and rounds that were none, and holds that held.
 */
static void much_is_tried(void **state)
{
    (void)state;
    struct check_count sum = {0};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim_result one = run(seed);
        sum.rounds += one.count.rounds;
        sum.points += one.count.points;
        sum.full += one.count.full;
        sum.late += one.count.late;
        free(one.trace);
    }
    assert_true(sum.points > 30);
    assert_true(sum.rounds > sum.points);
    assert_true(sum.full < sum.points);
    assert_true(sum.late > sum.points);
}

static void scenarios_can_fail(void **state)
{
    (void)state;
    struct sim_result result;
    struct err err;
    assert_int_equal(scenario_run("end 5\nexpect full 1 9 0 5\n", &result, &err), 0);
    assert_int_equal(result.verdict, SIM_GOOD);
    free(result.trace);
    assert_int_equal(scenario_run("end 5\nexpect full 9 9 0 5\n", &result, &err), 0);
    assert_int_equal(result.verdict, SIM_NOT_LIVE);
    free(result.trace);
    assert_int_equal(scenario_run("end 5\nwhen 6 HOLD web db take db\n", &result, &err), 0);
    assert_int_equal(result.verdict, SIM_NOT_LIVE); /* it never came to be */
    free(result.trace);
    static const char *const wrong[] = {"end x",
                                        "at 1 fly web",
                                        "at 1 kill nobody",
                                        "members 257",
                                        "kill web",
                                        "when 1 HULD web db take db",
                                        ""};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(scenario_run(wrong[i], &result, &err), -1);
        assert_non_null(strstr(err.text, "line "));
    }
}

/* ---- checkers: two members with a disk each, by hand ---- */

static struct definition definition;
static struct check *check;

static void define(void)
{
    struct name name;
    struct id group = {{1}};
    struct err err;
    assert_true(name_parse("g", &name));
    definition_init(&definition, &group, &name, 1);
    for (unsigned m = 0; m < 2; m++) {
        struct definition_member member = {.identity = "spiffe://x/participant/a",
                                           .address = "127.0.0.1:20004"};
        struct definition_disk disk = {.size = 1U << 20, .block_size = 4096};
        member.identity[strlen(member.identity) - 1] = (char)('a' + m);
        member.address[8] = (char)('1' + m);
        assert_true(name_parse(m == 0 ? "a" : "b", &member.name));
        assert_true(name_parse("d", &disk.name));
        disk.stream.b[0] = (uint8_t)(10 + m);
        disk.timeline.b[0] = (uint8_t)(20 + m);
        disk.disk.b[0] = (uint8_t)(30 + m);
        assert_int_equal(definition_add_member(&definition, &member, &err), 0);
        assert_int_equal(definition_add_disk(&definition, &disk, &err), 0);
    }
    definition.epoch.hash.b[0] = 7;
    check = check_new(&definition);
}

static int tear_down(void **state)
{
    (void)state;
    check_free(check);
    check = NULL;
    return 0;
}

static void feed(uint64_t now_us, unsigned disk, struct record record)
{
    record.incarnation = 5;
    record.stream = definition.disks[disk].stream;
    check_record(check, now_us, disk, &record);
}

static struct record attach(uint64_t lsn)
{
    struct record r = {.type = RECORD_ATTACH, .lsn = lsn};
    r.attach = (struct record_attach){.boot = {{1}},
                                      .disk = {{1}},
                                      .timeline = {{1}},
                                      .size = 1U << 20,
                                      .block_size = 4096,
                                      .first = lsn == 1,
                                      .base_zero = lsn == 1};
    return r;
}

static struct record bookmark(uint64_t lsn, uint8_t round)
{
    struct record r = {.type = RECORD_BOOKMARK, .lsn = lsn};
    r.bookmark.order = (struct round_order){.round = {{round}},
                                            .group = definition.group,
                                            .epoch = definition.epoch,
                                            .scope = ROUND_SCOPE_GROUP,
                                            .kind = ROUND_KIND_CRASH};
    set_init(&r.bookmark.order.set, 2);
    set_add(&r.bookmark.order.set, 0);
    set_add(&r.bookmark.order.set, 1);
    r.bookmark.nonce.b[0] = (uint8_t)lsn;
    r.bookmark.budget_us = 50000;
    return r;
}

static struct record seal(uint64_t lsn, uint64_t bookmark_lsn, uint8_t round, struct hash cut)
{
    struct record r = {.type = RECORD_SEAL, .lsn = lsn};
    r.seal = (struct record_seal){.round = {{round}},
                                  .bookmark_lsn = bookmark_lsn,
                                  .outcome = ROUND_OUTCOME_HELD,
                                  .cut = cut};
    return r;
}

static void caught(const char *checker)
{
    const char *failure = check_failure(check);
    if (failure == NULL || strncmp(failure, checker, strlen(checker)) != 0) {
        fail_msg("not by %s: %s", checker, failure == NULL ? "nothing was found" : failure);
    }
}

/* An aligned round 1 over both disks: bookmarks at LSN 10, seals at 12. */
static void good_point(struct hash cut)
{
    for (unsigned d = 0; d < 2; d++) {
        feed(0, d, attach(1));
        feed(1000, d, bookmark(10, 1));
        check_let_go(check, 2000, d);
        feed(2100, d, seal(12, 10, 1, cut));
    }
}

static struct hash true_cut(void)
{
    const struct record mark = bookmark(10, 1);
    struct round_mark marks[2];
    for (unsigned d = 0; d < 2; d++) {
        marks[d] = (struct round_mark){definition.disks[d].stream, 5, 10, mark.bookmark.nonce};
    }
    return round_cut_hash(&mark.bookmark.order, marks, 2);
}

static struct align *reader(void)
{
    struct err err;
    struct align *align = align_new(&definition.group, true, TIDE_ALIGN_ROUNDS);
    assert_int_equal(align_define(align, &definition, &err), 0);
    return align;
}

static void feed_reader(struct align *align, unsigned first, unsigned last)
{
    struct err err;
    for (unsigned d = first; d <= last; d++) {
        const struct check_stream *stream = check_streams(check, d);
        for (size_t i = 0; i < stream->count; i++) {
            assert_int_equal(align_feed(align, &stream->records[i], &err), 0);
        }
    }
}

static void good_is_good(void **state)
{
    (void)state;
    define();
    check_write(check, 0, 9, 0, false);
    check_write(check, 1, 9, 0, true);
    good_point(true_cut());
    struct align *align = reader();
    feed_reader(align, 0, 1);
    struct check_count count = check_end(check, 10000, align);
    assert_null(check_failure(check));
    assert_int_equal(count.full, 1);
    align_free(align);
}

static void cause_fires(void **state)
{
    (void)state;
    define();
    check_write(check, 0, 11, 0, false); /* after its disk's bookmark */
    check_write(check, 1, 9, 0, true);   /* its effect, before */
    good_point(true_cut());
    struct align *align = reader();
    feed_reader(align, 0, 1);
    check_end(check, 10000, align);
    caught("cause");
    align_free(align);
}

/* A reader that was shown other streams than the checker was. */
static void rule_fires(void **state)
{
    (void)state;
    define();
    good_point(true_cut());
    struct align *align = reader();
    feed_reader(align, 0, 0);
    struct err err;
    struct record other = bookmark(10, 1);
    other.bookmark.nonce.b[1] = 1;
    other.incarnation = 5;
    other.stream = definition.disks[1].stream;
    struct record first = check_streams(check, 1)->records[0];
    assert_int_equal(align_feed(align, &first, &err), 0);
    assert_int_equal(align_feed(align, &other, &err), 0);
    first = check_streams(check, 1)->records[2];
    assert_int_equal(align_feed(align, &first, &err), 0);
    check_end(check, 10000, align);
    caught("rule");
    align_free(align);
}

static void final_fires(void **state)
{
    (void)state;
    define();
    good_point(true_cut());
    struct align *align = reader();
    feed_reader(align, 0, 1);
    check_answers(check, 3000, align);
    assert_null(check_failure(check));
    struct align *other = reader(); /* told that the hold of a ended another way */
    struct err err;
    for (unsigned i = 0; i < 3; i++) {
        struct record r = check_streams(check, 0)->records[i];
        if (r.type == RECORD_SEAL) {
            r.seal.outcome = ROUND_OUTCOME_EXPIRED;
        }
        assert_int_equal(align_feed(other, &r, &err), 0);
    }
    check_answers(check, 4000, other);
    caught("final");
    align_free(align);
    align_free(other);
}

static void budget_fires(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    feed(1000, 0, bookmark(10, 1));
    check_let_go(check, 51001, 0);
    caught("budget");
}

static void duty_fires(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    for (unsigned i = 0; i < 3; i++) { /* 3 times 40 ms in a second, far enough apart */
        feed(i * 200000, 0, bookmark(10 + i, (uint8_t)(1 + i)));
        check_let_go(check, i * 200000 + 40000, 0);
        assert_true((check_failure(check) != NULL) == (i == 2));
    }
    caught("duty");
}

static void pause_fires(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    feed(1000, 0, bookmark(10, 1));
    check_let_go(check, 2000, 0);
    feed(101999, 0, bookmark(11, 2));
    caught("duty");
}

static void label_fires(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    feed(0, 1, attach(1));
    struct record unheld = bookmark(10, 1);
    unheld.bookmark.unheld = true;
    feed(1000, 0, unheld);
    struct align *align = reader(); /* shown held bookmarks and good seals */
    struct err err;
    for (unsigned d = 0; d < 2; d++) {
        struct record records[] = {attach(1), bookmark(10, 1), seal(12, 10, 1, true_cut())};
        for (unsigned i = 0; i < 3; i++) {
            records[i].incarnation = 5;
            records[i].stream = definition.disks[d].stream;
            assert_int_equal(align_feed(align, &records[i], &err), 0);
        }
    }
    check_answers(check, 3000, align);
    caught("label");
    align_free(align);
}

/* A point of one VM counts as that and as nothing else; that the checker fires is shown by the
 * planted bug SINGLE_AS_GROUP. */
static void single_is_known(void **state)
{
    (void)state;
    define();
    check_strict(check);
    feed(0, 0, attach(1));
    struct record mark = bookmark(10, 1);
    mark.bookmark.order.scope = ROUND_SCOPE_MEMBER;
    set_init(&mark.bookmark.order.set, 2);
    set_add(&mark.bookmark.order.set, 0);
    struct round_mark one = {definition.disks[0].stream, 5, 10, mark.bookmark.nonce};
    feed(1000, 0, mark);
    check_let_go(check, 2000, 0);
    feed(2100, 0, seal(12, 10, 1, round_cut_hash(&mark.bookmark.order, &one, 1)));
    struct align *align = reader();
    feed_reader(align, 0, 1);
    struct check_count count = check_end(check, 10000, align);
    assert_null(check_failure(check));
    assert_int_equal(count.points, 1);
    assert_int_equal(count.single, 1);
    assert_int_equal(count.full, 0);
    assert_int_equal(check_single(check, 0, 10000, -1), 1);
    assert_int_equal(check_single(check, 0, 10000, 0), 1);
    assert_int_equal(check_single(check, 0, 10000, 1), 0);
    assert_int_equal(check_points(check, 0, 10000, true), 0);
    assert_int_equal(check_points(check, 0, 10000, false), 0);
    align_free(align);
}

static void stale_fires(void **state)
{
    (void)state;
    define();
    feed(0, 1, attach(1));
    check_stale(check, &(struct id){{1}}, 1);
    feed(1000, 1, bookmark(10, 1));
    caught("stale");
}

static struct msg release_of(uint8_t round, struct hash cut)
{
    struct msg msg = {.type = MSG_RELEASE};
    msg.release = (struct msg_release){.round = {{round}}, .cut = cut};
    return msg;
}

/* A seal `held`, with an H that came for another round, or none at all. */
static void order_fires(void **state)
{
    (void)state;
    define();
    struct msg other = release_of(2, true_cut());
    struct msg right = release_of(1, true_cut());
    check_message(check, 500, 0, 0, &other);
    check_message(check, 500, 0, 1, &right);
    feed(0, 0, attach(1));
    feed(0, 1, attach(1));
    feed(1000, 0, bookmark(10, 1));
    feed(1000, 1, bookmark(10, 1));
    check_let_go(check, 2000, 0);
    check_let_go(check, 2000, 1);
    feed(2100, 1, seal(12, 10, 1, true_cut()));
    assert_null(check_failure(check));
    feed(2100, 0, seal(12, 10, 1, true_cut()));
    caught("order");
}

static void order_fires_on_a_second_bookmark(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    feed(1000, 0, bookmark(10, 1));
    check_let_go(check, 2000, 0);
    feed(900000, 0, bookmark(20, 1));
    caught("order");
}

static void label_fires_on_an_expired_hold(void **state)
{
    (void)state;
    define();
    struct msg right = release_of(1, true_cut());
    check_message(check, 500, 0, 0, &right);
    feed(0, 0, attach(1));
    feed(1000, 0, bookmark(10, 1));
    check_let_go(check, 51000, 0); /* at the end of its budget */
    feed(51100, 0, seal(12, 10, 1, true_cut()));
    caught("label");
}

static void label_fires_on_a_partial_round_under_strict(void **state)
{
    (void)state;
    define();
    check_strict(check);
    struct record partial = bookmark(10, 1);
    set_init(&partial.bookmark.order.set, 2);
    set_add(&partial.bookmark.order.set, 0);
    check_hostile(check, &(struct id){{1}});
    feed(1000, 0, partial);
    assert_null(check_failure(check)); /* of one who lies: no leader's doing */
    check_let_go(check, 2000, 0);
    partial.lsn = 20;
    partial.bookmark.order.round.b[0] = 2;
    feed(900000, 0, partial);
    caught("label");
}

static void budget_fires_without_a_daemon(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    feed(1000, 0, bookmark(10, 1));
    check_daemon_lost(check, 2000, 1);
    assert_null(check_failure(check));
    check_daemon_lost(check, 2000, 0);
    caught("budget");
}

/* Time in which a machine did not run is no hold; it expires all the same. */
static void clocks_are_those_of_the_disk(void **state)
{
    (void)state;
    define();
    feed(0, 0, attach(1));
    check_clock(check, 0, 5001000);
    feed(1000, 0, bookmark(10, 1));
    check_clock_jump(check, 0, 300000);
    check_clock(check, 0, 5302000);
    check_let_go(check, 2000, 0);
    assert_null(check_failure(check));
    check_clock(check, 0, 5401000); /* less than a pause later, as it sees it */
    feed(900000, 0, bookmark(20, 2));
    caught("duty");
}

static void told_fires(void **state)
{
    (void)state;
    for (unsigned good = 0; good < 2; good++) {
        define();
        struct msg sum = {.type = MSG_SUM};
        sum.sum.round.b[0] = 1;
        sum.sum.sealed_by_all = true;
        struct msg right = release_of(1, true_cut());
        check_message(check, 500, 0, 0, &right);
        check_message(check, 500, 0, 1, &right);
        check_message(check, 500, 0, 1, &sum);
        if (good) {
            good_point(true_cut());
        }
        struct align *align = reader();
        feed_reader(align, 0, 1);
        check_end(check, 10000, align);
        align_free(align);
        if (good) {
            assert_null(check_failure(check));
        } else {
            caught("told");
            check_free(check);
        }
    }
}

/* A member that goes by a new definition obeys no order of the one before. */
static void stale_fires_on_an_old_definition(void **state)
{
    (void)state;
    define();
    static struct definition newer;
    newer = definition;
    newer.epoch.number = 2;
    newer.epoch.hash.b[0] = 8;
    check_define(check, &newer);
    check_defined(check, 1000, 0, &newer);
    feed(0, 0, attach(1));
    feed(0, 1, attach(1));
    feed(2000, 1, bookmark(10, 1)); /* it was not told yet */
    assert_null(check_failure(check));
    feed(2000, 0, bookmark(10, 1));
    caught("stale");
}

static void idmap_finds_all(void **state)
{
    (void)state;
    struct idmap map = {0};
    for (uint32_t i = 0; i < 1000; i++) {
        idmap_add(&map, &(struct id){{(uint8_t)(i % 100), 1}}, i);
    }
    for (unsigned k = 0; k < 100; k++) {
        size_t cursor = 0;
        uint32_t value;
        for (unsigned n = 0; n < 10; n++) {
            assert_true(idmap_next(&map, &(struct id){{(uint8_t)k, 1}}, &cursor, &value));
            assert_int_equal(value, k + 100 * n);
        }
        assert_false(idmap_next(&map, &(struct id){{(uint8_t)k, 1}}, &cursor, &value));
    }
    idmap_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(much_is_tried),
        cmocka_unit_test(scenarios_can_fail),
        cmocka_unit_test_teardown(good_is_good, tear_down),
        cmocka_unit_test_teardown(cause_fires, tear_down),
        cmocka_unit_test_teardown(rule_fires, tear_down),
        cmocka_unit_test_teardown(final_fires, tear_down),
        cmocka_unit_test_teardown(budget_fires, tear_down),
        cmocka_unit_test_teardown(duty_fires, tear_down),
        cmocka_unit_test_teardown(pause_fires, tear_down),
        cmocka_unit_test_teardown(label_fires, tear_down),
        cmocka_unit_test_teardown(single_is_known, tear_down),
        cmocka_unit_test_teardown(stale_fires, tear_down),
        cmocka_unit_test_teardown(order_fires, tear_down),
        cmocka_unit_test_teardown(order_fires_on_a_second_bookmark, tear_down),
        cmocka_unit_test_teardown(label_fires_on_an_expired_hold, tear_down),
        cmocka_unit_test_teardown(label_fires_on_a_partial_round_under_strict, tear_down),
        cmocka_unit_test_teardown(budget_fires_without_a_daemon, tear_down),
        cmocka_unit_test_teardown(clocks_are_those_of_the_disk, tear_down),
        cmocka_unit_test_teardown(told_fires, tear_down),
        cmocka_unit_test_teardown(stale_fires_on_an_old_definition, tear_down),
        cmocka_unit_test(idmap_finds_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
