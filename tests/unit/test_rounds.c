/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds as golden traces: what leader, members and taps do in each case, line by line, against
 * tests/golden/round_*.txt. TIDE_GOLDEN_UPDATE=1 writes those files anew; read the difference. */
#include "tests/lib/roundlab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000U
#define WEB    0U
#define DB     1U
#define APP    2U

static char *read_golden(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("%s is missing; TIDE_GOLDEN_UPDATE=1 writes it", path);
    }
    static char text[1U << 18];
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = '\0';
    fclose(file);
    return text;
}

static void same_as_golden(struct roundlab *lab, const char *name)
{
    char path[512];
    const char *source = getenv("TIDE_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/%s.txt", source != NULL ? source : ".", name);
    const char *got = roundlab_text(lab);
    const char *update = getenv("TIDE_GOLDEN_UPDATE");
    if (update != NULL && strcmp(update, "1") == 0) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(got, 1, strlen(got), file), strlen(got));
        assert_int_equal(fclose(file), 0);
        return;
    }
    const char *want = read_golden(path);
    if (strcmp(got, want) == 0) {
        return;
    }
    size_t at = 0;
    size_t line = 1;
    size_t start = 0;
    for (; got[at] != '\0' && got[at] == want[at]; at++) {
        if (got[at] == '\n') {
            line++;
            start = at + 1;
        }
    }
    fail_msg("%s:%zu\n  expected: %.*s\n  got:      %.*s", path, line,
             (int)strcspn(want + start, "\n"), want + start, (int)strcspn(got + start, "\n"),
             got + start);
}

static struct roundlab_config three(void)
{
    struct roundlab_config config = {.members = 3, .seed = 20004, .latency_us = 500};
    policy_init(&config.policy);
    config.policy.interval_ms = TIDE_INTERVAL_MS_MAX; /* one round, a second after the start */
    return config;
}

static void says(struct roundlab *lab, const char *what)
{
    if (strstr(roundlab_text(lab), what) == NULL) {
        fail_msg("\"%s\" was not said in:\n%s", what, roundlab_text(lab));
    }
}

static void says_not(struct roundlab *lab, const char *what)
{
    if (strstr(roundlab_text(lab), what) != NULL) {
        fail_msg("\"%s\" was said in:\n%s", what, roundlab_text(lab));
    }
}

static void points(struct roundlab *lab, unsigned count)
{
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_int_equal(verdict.points, count);
    assert_int_equal(verdict.torn, 0);
    assert_int_equal(verdict.over_budget, 0);
}

/* ---- one round ---- */

static void good_round(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND - 100);
    roundlab_write(lab, DB, 0); /* before the bookmark */
    roundlab_run(lab, SECOND + 600);
    roundlab_write(lab, WEB, 1); /* while it is held */
    roundlab_write(lab, DB, 0);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "sealed by all of 3 (full)");
    points(lab, 1);
    same_as_golden(lab, "round_good");
    roundlab_free(lab);
}

struct script { /* what a fate function does to the messages of one type between two members */
    enum msg_type type;
    unsigned from;
    unsigned to;
    unsigned times; /* how often it still acts */
    struct roundlab_fate fate;
    void (*change)(struct roundlab *lab, struct msg *msg);
};

static void act(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                struct roundlab_fate *fate, void *context)
{
    struct script *script = context;
    if (msg->type == script->type && from == script->from && to == script->to &&
        script->times > 0) {
        script->times--;
        *fate = script->fate;
        if (script->change != NULL) {
            script->change(lab, msg);
        }
    }
}

static struct roundlab *scripted(struct script *script, struct roundlab_config config)
{
    config.fate = act;
    config.context = script;
    return roundlab_new(&config);
}

/* HELD comes when the budgets are over. */
static void late_member(void **state)
{
    (void)state;
    struct script script = {MSG_HELD, APP, WEB, 1, {.delay_us = 70000}, NULL};
    struct roundlab *lab = scripted(&script, three());
    roundlab_run(lab, 2 * SECOND);
    says(lab, "round r1 failed: ");
    points(lab, 0);
    same_as_golden(lab, "round_late");
    roundlab_free(lab);
}

/* RELEASE comes when one tap has let go by itself: others have sealed held, and still no point. */
static void expired_hold(void **state)
{
    (void)state;
    struct script script = {MSG_RELEASE, WEB, DB, 1, {.delay_us = 60000}, NULL};
    struct roundlab *lab = scripted(&script, three());
    roundlab_run(lab, SECOND + 3000);
    roundlab_write(lab, DB, 1);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "round r1 failed: expired at db");
    says(lab, "lets go of r1 (expired) after 50000 us");
    points(lab, 0);
    same_as_golden(lab, "round_expired");
    roundlab_free(lab);
}

/* A HOLD that never arrives: the leader gives up and says ABORT. */
static void aborted_round(void **state)
{
    (void)state;
    struct script script = {MSG_HOLD, WEB, APP, 1, {.drop = true}, NULL};
    struct roundlab_config config = three();
    config.policy.hold_us_max = 20000;
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "ABORT r1 timeout");
    points(lab, 0);
    same_as_golden(lab, "round_abort");
    roundlab_free(lab);
}

/* The HOLD comes again while holding, and again when all is over. */
static void repeated_hold(void **state)
{
    (void)state;
    struct script script = {MSG_HOLD, WEB, DB, 1, {.delay_us = 600, .copies = 1}, NULL};
    struct roundlab *lab = scripted(&script, three());
    script.fate.copies = 1;
    roundlab_run(lab, SECOND + 500000);
    struct msg msg = {.type = MSG_HOLD};
    msg.hold.round = roundlab_last_round(lab);
    msg.hold.scope = ROUND_SCOPE_GROUP;
    msg.hold.kind = ROUND_KIND_CRASH;
    msg.hold.budget_us = 50000;
    msg.hold.tap_count = 1;
    msg.hold.taps[0].stream = roundlab_definition(lab)->disks[2].stream;
    set_init(&msg.hold.set, 6);
    set_add(&msg.hold.set, 0);
    roundlab_inject(lab, WEB, DB, &msg);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "REFUSED r1 ended held");
    points(lab, 1);
    same_as_golden(lab, "round_repeated_hold");
    roundlab_free(lab);
}

static void tap_restarts(void **state)
{
    (void)state;
    struct script script = {MSG_HELD, APP, WEB, 1, {.delay_us = 10000}, NULL};
    struct roundlab *lab = scripted(&script, three());
    roundlab_run(lab, SECOND + 2000);
    roundlab_tap_stop(lab, DB, 1);
    roundlab_run(lab, SECOND + 4000);
    roundlab_tap_start(lab, DB, 1);
    roundlab_run(lab, 2 * SECOND);
    roundlab_take(lab, WEB, ROUND_KIND_CRASH); /* within the tap's first second: it refuses */
    roundlab_run(lab, 2 * SECOND + SECOND / 2);
    roundlab_take(lab, WEB, ROUND_KIND_CRASH); /* the next one is good again */
    roundlab_run(lab, 3 * SECOND);
    says(lab, "round r1 failed: ");
    says(lab, "round r2 failed: duty at db");
    says(lab, "round r3 is sealed by all");
    points(lab, 1);
    same_as_golden(lab, "round_tap_restarts");
    roundlab_free(lab);
}

static void other_release(void **state)
{
    (void)state;
    struct script script = {MSG_HELD, APP, WEB, 1, {.delay_us = 10000}, NULL};
    struct roundlab *lab = scripted(&script, three());
    roundlab_run(lab, SECOND + 3000); /* db holds, and waits for app's answer */
    struct msg msg = {.type = MSG_RELEASE};
    memset(msg.release.round.b, 0x77, sizeof msg.release.round.b);
    memset(msg.release.cut.b, 0x55, sizeof msg.release.cut.b);
    roundlab_inject(lab, WEB, DB, &msg);
    msg.type = MSG_ABORT;
    memset(&msg.abort, 0, sizeof msg.abort);
    memset(msg.abort.round.b, 0x78, sizeof msg.abort.round.b);
    msg.abort.reason = ROUND_REASON_TIMEOUT;
    roundlab_inject(lab, WEB, DB, &msg);
    msg.abort.round = roundlab_last_round(lab); /* the right round, by another than its leader */
    roundlab_inject(lab, APP, DB, &msg);
    roundlab_run(lab, 2 * SECOND);
    points(lab, 1);
    same_as_golden(lab, "round_other_release");
    roundlab_free(lab);
}

static void idle_release(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND / 2);
    struct msg msg = {.type = MSG_RELEASE};
    memset(msg.release.round.b, 0x77, sizeof msg.release.round.b);
    memset(msg.release.cut.b, 0x55, sizeof msg.release.cut.b);
    roundlab_inject(lab, WEB, DB, &msg);
    roundlab_run(lab, SECOND + 500000);
    msg.release.round = roundlab_last_round(lab); /* and one for a round that is over */
    roundlab_inject(lab, WEB, DB, &msg);
    roundlab_run(lab, 2 * SECOND);
    points(lab, 1);
    same_as_golden(lab, "round_idle_release");
    roundlab_free(lab);
}

/* One member refuses: the others are let go at once, long before their budgets. */
static void refused_by_one(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND);
    roundlab_tap_gap(lab, DB, 0); /* the leader's HOLD is on its way */
    roundlab_run(lab, SECOND + 5000);
    says(lab, "REFUSED r1 not-whole");
    says(lab, "round r1 failed: not-whole at db");
    roundlab_run(lab, 2 * SECOND);
    points(lab, 0);
    same_as_golden(lab, "round_refused");
    roundlab_free(lab);
}

/* One of two taps refuses: the member lets its other tap go and says why. */
static void refused_by_one_tap(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab,
                 SECOND + 530); /* the member has passed the order on, the tap has it not yet */
    roundlab_tap_gap(lab, DB, 1);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "db/log   > refuses r1: not-whole");
    says(lab, "db/data  > lets go of r1 (aborted)");
    points(lab, 0);
    same_as_golden(lab, "round_refused_by_tap");
    roundlab_free(lab);
}

static void forge_stream(struct roundlab *lab, struct msg *msg)
{
    msg->held.marks[0].stream = roundlab_definition(lab)->disks[0].stream; /* web's */
}

static void forge_twice(struct roundlab *lab, struct msg *msg)
{
    (void)lab;
    msg->held.marks[1] = msg->held.marks[0];
}

static void forge_incarnation(struct roundlab *lab, struct msg *msg)
{
    (void)lab;
    msg->held.marks[0].incarnation ^= 1;
}

static void forge_count(struct roundlab *lab, struct msg *msg)
{
    (void)lab;
    msg->held.mark_count = 1;
}

/* A member that answers with marks that are not its own, or not of the taps that were asked. */
static void forged_marks(void **state)
{
    (void)state;
    void (*const forgeries[])(struct roundlab *, struct msg *) = {forge_stream, forge_twice,
                                                                  forge_incarnation, forge_count};
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        struct script script = {MSG_HELD, DB, WEB, 1, {0}, forgeries[i]};
        struct roundlab *lab = scripted(&script, three());
        roundlab_run(lab, 2 * SECOND);
        says(lab, "round r1 failed: disk-set at db");
        points(lab, 0);
        if (i == 0) {
            same_as_golden(lab, "round_forged");
        }
        roundlab_free(lab);
    }
}

/* A nonce that is not the bookmark's: the leader cannot know, the reader does. */
static void forge_nonce(struct roundlab *lab, struct msg *msg)
{
    (void)lab;
    msg->held.marks[0].nonce.b[3] ^= 1;
}

static void forged_nonce_is_no_point(void **state)
{
    (void)state;
    struct script script = {MSG_HELD, DB, WEB, 1, {0}, forge_nonce};
    struct roundlab *lab = scripted(&script, three());
    roundlab_run(lab, 2 * SECOND);
    says(lab, "sealed by all");
    points(lab, 0);
    roundlab_free(lab);
}

/* Test switch: each member waits on its own before it acts, and what overtakes the act undoes it.
 */
static void hold_delay(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.hold_delay_us_max = 20000;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "sealed by all of 3 (full)");
    points(lab, 1);
    struct roundlab *again = roundlab_new(&config);
    roundlab_run(again, 2 * SECOND);
    assert_string_equal(roundlab_text(lab),
                        roundlab_text(again)); /* the same seed, the same waits */
    roundlab_free(lab);
    roundlab_free(again);

    lab = roundlab_new(&config);
    roundlab_run(lab, SECOND + 600); /* db has the order and waits */
    struct msg msg = {.type = MSG_ABORT};
    msg.abort.round = roundlab_last_round(lab);
    msg.abort.reason = ROUND_REASON_TIMEOUT;
    roundlab_inject(lab, WEB, DB, &msg);
    roundlab_run(lab, 2 * SECOND);
    says_not(lab, "db/data  > bookmark r1");
    says_not(lab, "db/log   > bookmark r1");
    points(lab, 0);
    roundlab_free(lab);
}

static void unheld(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.unsafe_no_hold = true;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND + 600);
    roundlab_write(lab, WEB, 1);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "does not hold");
    says(lab, "SEALED r1 unheld");
    says_not(lab, "kept back");
    points(lab, 1); /* that is: unaligned */
    same_as_golden(lab, "round_unheld");
    roundlab_free(lab);
}

/* ---- who leads ---- */

static void leader_dies(void **state)
{
    (void)state;
    struct script script = {MSG_RELEASE, WEB, APP, 1, {.drop = true}, NULL};
    struct roundlab_config config = three();
    config.members = 4;
    config.policy.missing = POLICY_MISSING_PARTIAL;
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 3 * SECOND + 1500); /* all hold; the leader has said nothing yet */
    roundlab_stop(lab, WEB);
    roundlab_run(lab, 4 * SECOND);
    says(lab, "note: lost the leader: the holds end now");
    roundlab_run(lab, 8 * SECOND);
    says(lab, "db       > follows itself");
    says(lab, "mail     > follows db");
    says(lab, "round r2 is sealed by all of 3 (partial)");
    points(lab, 1);
    same_as_golden(lab, "round_leader_dies");
    roundlab_free(lab);
}

/* web and db do not hear each other, app and mail hear both, and each of the two reaches three:
 * both lead. They disturb each other until the later one holds back. */
static void two_leaders(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.members = 4;
    config.policy.missing = POLICY_MISSING_PARTIAL;
    config.policy.interval_ms = 1000;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_link(lab, WEB, DB, false);
    roundlab_link(lab, APP, 3, false);
    roundlab_run(lab, 9 * SECOND);
    says(lab, "web      > follows itself");
    says(lab, "db       > follows itself");
    says(lab, "REFUSED r2 busy");
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_true(verdict.points >= 4);
    assert_int_equal(verdict.torn, 0);
    same_as_golden(lab, "round_two_leaders");
    roundlab_free(lab);
}

/* The candidate that reaches more leads, though it is later in the order. */
static void most_reached_leads(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.members = 4;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_link(lab, WEB, 3, false);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "db       > follows itself");
    says(lab, "round r1 is sealed by all of 4 (full)");
    says_not(lab, "web      > round r1 is");
    roundlab_link(lab, WEB, 3, true);
    roundlab_run(lab, 3 * SECOND);
    says(lab, "db       > follows web");
    points(lab, 1);
    roundlab_free(lab);
}

static void late_helds(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                       struct roundlab_fate *fate, void *context)
{
    (void)lab;
    (void)to;
    (void)context;
    if (msg->type == MSG_HELD) {
        fate->delay_us = from == APP ? 90000 : 10000;
    }
}

/* db holds first, and the leader hears of it late: its hold ends before the leader gives up. The
 * reason is its own; but who was late is said. */
static void late_member_is_named(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.fate = late_helds;
    config.hold_delay_us_max = 40000;
    config.seed = 4;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    says(lab,
         "round r1 failed: expired at db: disk \"data\": its budget ran out; app had not held");
    points(lab, 0);
    roundlab_free(lab);
}

/* One that fails five times in a row lets another try. */
static void fails_and_yields(void **state)
{
    (void)state;
    struct script script = {MSG_RELEASE, WEB, APP, 1000, {.drop = true}, NULL};
    struct roundlab_config config = three();
    config.policy.interval_ms = 1000;
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 18 * SECOND);
    says(lab, "round r5 failed: expired at app");
    says(lab, "web      > follows db");
    says(lab, "db       > round r6 is sealed by all of 3 (full)");
    says_not(lab, "db       > round r6 failed");
    roundlab_free(lab);
}

/* What failed by bad luck is tried again at once, not an interval later. */
static void failed_round_is_retried(void **state)
{
    (void)state;
    struct script script = {MSG_RELEASE, WEB, APP, 2, {.drop = true}, NULL};
    struct roundlab_config config = three();
    config.retries = 2;
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 5 * SECOND);
    says(lab, "round r1 failed: expired at app");
    says(lab, "round r2 failed: expired at app");
    says(lab, "web      > round r3 is sealed by all of 3 (full)");
    points(lab, 1);
    roundlab_free(lab);
}

/* Twice, and then it is the interval's turn, which gives it two again. */
static void retries_are_bounded(void **state)
{
    (void)state;
    struct script script = {MSG_RELEASE, WEB, APP, 1000, {.drop = true}, NULL};
    struct roundlab_config config = three();
    config.retries = 2;
    config.policy.interval_ms = 60 * 1000;
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 60 * SECOND);
    assert_int_equal(roundlab_judge(lab).rounds, 3);
    roundlab_run(lab, 63 * SECOND);
    assert_true(roundlab_judge(lab).rounds > 3);
    assert_int_equal(roundlab_judge(lab).over_budget, 0);
    roundlab_free(lab);
}

/* Refused as busy by another's round: no second try into the same wall, also not by the first of
 * the order, which does not hold back. */
static void busy_is_not_retried(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.members = 4;
    config.retries = 2;
    config.policy.missing = POLICY_MISSING_PARTIAL;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_link(lab, WEB, DB, false);
    roundlab_link(lab, APP, 3, false);
    roundlab_run(lab, 3 * SECOND - 100);
    roundlab_take(lab, DB, ROUND_KIND_CRASH);
    roundlab_run(lab, 9 * SECOND);
    says(lab, "web      > round r2 failed: busy");
    says_not(lab, "r3");
    roundlab_free(lab);
}

/* Whom the others waited for is named, in a round that went well too. */
static void slowest_is_named(void **state)
{
    (void)state;
    struct script script = {MSG_HELD, DB, WEB, 1, {.delay_us = 20000}, NULL};
    struct roundlab_config config = three();
    struct roundlab *lab = scripted(&script, config);
    roundlab_run(lab, 2 * SECOND);
    says(lab, "round r1 is sealed by all of 3 (full)");
    says(lab, " us, last db\n");
    roundlab_free(lab);
}

static void lose_releases(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                          struct roundlab_fate *fate, void *context)
{
    (void)lab;
    (void)from;
    (void)context;
    fate->drop = to == 3 && msg->type == MSG_RELEASE;
}

/* Rounds that all go on to the end of their budget are not taken for ever at full speed. */
static void held_group_is_spared(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.members = 4; /* the last is no candidate: whoever leads, it expires */
    config.retries = 2;
    config.fate = lose_releases;
    config.policy.interval_ms = 1000;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 180 * SECOND);
    says(lab, "ms in the last 60 s");
    uint64_t held_us = 0;
    for (const char *at = roundlab_text(lab); (at = strstr(at, "failed: expired at")) != NULL;
         at++) {
        held_us += config.policy.hold_us_max;
    }
    assert_true(held_us <= 3 * 1500000); /* the limit, for each of three minutes */
    assert_true(held_us > 2 * 1500000);  /* and not much less: rounds were tried */
    roundlab_free(lab);
}

static void lose_heartbeats(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                            struct roundlab_fate *fate, void *context)
{
    (void)to;
    (void)context;
    fate->drop = from == WEB && msg->type == MSG_HEARTBEAT && roundlab_now(lab) > SECOND / 2;
}

/* Links stay up, heartbeats stop: three seconds later the next one leads. */
static void leader_falls_silent(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.policy.missing = POLICY_MISSING_PARTIAL;
    config.fate = lose_heartbeats;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    says_not(lab, "follows db");
    roundlab_run(lab, 4 * SECOND);
    says(lab, "app      > follows db");
    says(lab, "db       > follows itself\n");
    roundlab_run(lab, 8 * SECOND);
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_true(verdict.points >= 1);
    assert_int_equal(verdict.torn, 0);
    roundlab_free(lab);
}

/* ---- a member that is missing ---- */

static void strict_takes_none(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND / 2);
    roundlab_stop(lab, APP);
    roundlab_run(lab, 2 * SECOND);
    roundlab_take(lab, DB, ROUND_KIND_CRASH);
    roundlab_run(lab, 3 * SECOND);
    says(lab, "web      > takes no round: missing at app");
    says(lab, "web      > the group lacks missing at app: it goes on alone");
    says(lab, "db       > the group lacks missing at app: it goes on alone");
    points(lab, 0); /* of the group */
    assert_int_equal(roundlab_judge(lab).single, 2);
    same_as_golden(lab, "round_strict");
    roundlab_free(lab);
}

static void partial_goes_on(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.policy.missing = POLICY_MISSING_PARTIAL;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, SECOND / 2);
    roundlab_stop(lab, APP);
    roundlab_run(lab, 5 * SECOND);
    says(lab, "sealed by all of 2 (partial)");
    struct roundlab_verdict verdict = roundlab_judge(lab);
    assert_int_equal(verdict.points, 1);
    assert_int_equal(verdict.full, 0);
    same_as_golden(lab, "round_partial");
    roundlab_free(lab);
}

/* ---- requests ---- */

static void requests(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    config.members = 5;
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    roundlab_take(lab, 4, ROUND_KIND_CRASH);       /* no candidate: the leader does it */
    roundlab_take(lab, 4, ROUND_KIND_APPLICATION); /* never more than is true */
    roundlab_run(lab, 3 * SECOND);
    for (unsigned i = 0; i < TIDE_CANDIDATES_MAX * 3; i++) { /* at once: one round for eight */
        roundlab_take(lab, WEB, ROUND_KIND_CRASH);
    }
    roundlab_run(lab, 4 * SECOND);
    says(lab, "log      > its request is answered: sealed");
    says(lab, "log      > its request is answered: application-consistent rounds cannot");
    says(lab, "web      > its request is answered: too many requests are waiting");
    says(lab, "r3 is sealed by all");
    says_not(lab, " r4");
    points(lab, 3);
    same_as_golden(lab, "round_requests");
    roundlab_free(lab);
}

/* The same request again is answered the same, and starts no other round. */
static void repeated_request(void **state)
{
    (void)state;
    struct roundlab_config config = three();
    struct roundlab *lab = roundlab_new(&config);
    roundlab_run(lab, 2 * SECOND);
    struct msg msg = {.type = MSG_TAKE};
    memset(msg.take.request.b, 0x61, sizeof msg.take.request.b);
    msg.take.kind = ROUND_KIND_CRASH;
    for (unsigned i = 0; i < 3; i++) {
        roundlab_inject(lab, DB, WEB, &msg);
        roundlab_run(lab, roundlab_now(lab) + (i == 0 ? 100 : SECOND));
    }
    unsigned answers = 0;
    for (const char *at = roundlab_text(lab); (at = strstr(at, "TAKEN sealed")) != NULL; at++) {
        answers++;
    }
    assert_int_equal(answers, 2); /* the first and its repeat share one */
    says_not(lab, " r3");
    points(lab, 2);
    roundlab_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_round),           cmocka_unit_test(late_member),
        cmocka_unit_test(expired_hold),         cmocka_unit_test(aborted_round),
        cmocka_unit_test(repeated_hold),        cmocka_unit_test(tap_restarts),
        cmocka_unit_test(other_release),        cmocka_unit_test(idle_release),
        cmocka_unit_test(refused_by_one),       cmocka_unit_test(refused_by_one_tap),
        cmocka_unit_test(forged_marks),         cmocka_unit_test(forged_nonce_is_no_point),
        cmocka_unit_test(hold_delay),           cmocka_unit_test(unheld),
        cmocka_unit_test(leader_dies),          cmocka_unit_test(two_leaders),
        cmocka_unit_test(most_reached_leads),   cmocka_unit_test(fails_and_yields),
        cmocka_unit_test(leader_falls_silent),  cmocka_unit_test(strict_takes_none),
        cmocka_unit_test(partial_goes_on),      cmocka_unit_test(requests),
        cmocka_unit_test(repeated_request),     cmocka_unit_test(failed_round_is_retried),
        cmocka_unit_test(retries_are_bounded),  cmocka_unit_test(busy_is_not_retried),
        cmocka_unit_test(held_group_is_spared), cmocka_unit_test(slowest_is_named),
        cmocka_unit_test(late_member_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
