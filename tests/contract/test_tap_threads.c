/* SPDX-License-Identifier: Apache-2.0 */
/* The tap's engine without nbdkit, for the sanitizers: overlapping changes, reads and flushes from
 * several threads, and a controller over the real socket that ends its holds in every way. Then the
 * log tells whether anything was acknowledged while held, and whether it is the disk. */
#include "common/core/check.h"
#include "common/core/prng.h"
#include "participant/tap/disk.h"
#include "tests/system/tap_rig.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <fcntl.h>
#include <poll.h>
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

#define SIZE         (UINT64_C(4) << 20)
#define SHARED       (UINT64_C(256) << 10) /* where all writers overlap */
#define WRITERS      4U
#define OPS_MAX      3000U /* of one writer */
#define WRITE_MIN    16U
#define WRITE_MAX    8192U
#define ROUNDS       12U
#define BUDGET_US    60000U
#define EXPIRE_US    10000U
#define CONTROL_US   5000U
#define SLACK_MIN_US 50000U
#define ZERO_MIN     512U /* the size of a zero names it: ZERO_MIN + its number */
#define MARK         0x7469646572616365ULL

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

static void pause_us(long us)
{
    const struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL);
}

static void open_tap(const char *options_size, bool flush_log)
{
    struct err err;
    struct tap_config config = {.log_size = strtoull(options_size, NULL, 10) << 20,
                                .hold_max_us = 100000,
                                .held_max = 1 << 20,
                                .flush_log = flush_log};
    (void)snprintf(config.image, sizeof config.image, "%s", rig.image);
    (void)snprintf(config.folder, sizeof config.folder, "%s", rig.log);
    (void)snprintf(config.control, sizeof config.control, "%s", rig.control);
    if (tap_open(&tap, &config, &err) != 0 || tap_start(&tap, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* How many changes each writer may have begun; the controller gives more as it goes on. */
static pthread_mutex_t allowance_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t allowance_more = PTHREAD_COND_INITIALIZER;
static unsigned allowance;
static bool allowance_end;

static void allow(unsigned more, bool end)
{
    pthread_mutex_lock(&allowance_mutex);
    allowance = allowance + more < OPS_MAX ? allowance + more : OPS_MAX;
    allowance_end = end;
    pthread_cond_broadcast(&allowance_more);
    pthread_mutex_unlock(&allowance_mutex);
}

static bool allowed(unsigned number)
{
    pthread_mutex_lock(&allowance_mutex);
    while (number >= allowance && !allowance_end) {
        pthread_cond_wait(&allowance_more, &allowance_mutex);
    }
    bool yes = number < allowance;
    pthread_mutex_unlock(&allowance_mutex);
    return yes;
}

struct change {
    uint64_t acknowledged_us; /* 0: not a change, or not done */
    uint64_t lsn;             /* as the log says */
};

struct writer {
    pthread_t thread;
    unsigned number;
    struct change changes[OPS_MAX];
};

static struct writer writers[WRITERS];
static struct change *const changes_of[WRITERS] = {writers[0].changes, writers[1].changes,
                                                   writers[2].changes, writers[3].changes};

/* One request; true where it was a change. */
static bool request(struct prng *prng, unsigned writer, unsigned number)
{
    uint8_t data[WRITE_MAX];
    uint32_t size = WRITE_MIN + (uint32_t)prng_below(prng, WRITE_MAX - WRITE_MIN);
    uint64_t offset = prng_below(prng, SHARED);
    uint64_t kind = prng_below(prng, 32);
    bool fua = prng_below(prng, 64) == 0;
    if (kind < 4) {
        TIDE_CHECK(disk_read(&tap, data, size, offset) == 0);
        return false;
    }
    if (kind == 4) {
        TIDE_CHECK(disk_flush(&tap) == 0);
        return false;
    }
    if (kind < 11) {
        uint64_t named = ZERO_MIN + (uint64_t)writer * OPS_MAX + number;
        bool discard = kind < 8;
        TIDE_CHECK(disk_zero(&tap, named, offset, discard, discard, fua) == 0);
        return true;
    }
    const uint64_t head[2] = {MARK, (uint64_t)writer * OPS_MAX + number};
    memset(data, (int)(1 + number % 255), size);
    memcpy(data, head, sizeof head);
    TIDE_CHECK(disk_write(&tap, data, size, offset, fua) == 0);
    return true;
}

static void *write_main(void *context)
{
    struct writer *w = context;
    struct prng prng;
    prng_init(&prng, 9443 + w->number);
    for (unsigned n = 0; allowed(n); n++) {
        if (request(&prng, w->number, n)) {
            w->changes[n].acknowledged_us = tap_now_us();
        }
    }
    return NULL;
}

/* By how much a timer of this machine is late, at worst, while all this runs. */
static _Atomic bool timer_stop;
static uint64_t timer_late_us;

static void *timer_main(void *context)
{
    (void)context;
    while (!timer_stop) {
        uint64_t from = tap_now_us();
        pause_us(CONTROL_US);
        uint64_t late = tap_now_us() - from - CONTROL_US;
        timer_late_us = late > timer_late_us ? late : timer_late_us;
    }
    return NULL;
}

struct round {
    uint64_t bookmark_lsn;
    uint32_t budget_us;
    uint64_t ends_us; /* not before: when its end was ordered, or its budget over */
};

struct controller {
    struct tap_ctl ctl;
    bool sealed;
    struct tapctl_sealed last; /* with sealed */
    uint64_t synced;
    uint32_t serial;
    unsigned count;
    unsigned outcomes[8];
    struct round rounds[ROUNDS];
};

/* The next message; SEALED is kept, wherever it comes. */
static struct tapctl next(struct controller *c)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl message;
    struct err err;
    struct pollfd ready = {.fd = c->ctl.fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, TAP_RIG_DEADLINE_MS), 1);
    ssize_t got = recv(c->ctl.fd, bytes, sizeof bytes, 0);
    assert_true(got > 0);
    if (tapctl_decode(bytes, (size_t)got, &message, &err) != 0) {
        fail_msg("%s", err.text);
    }
    if (message.type == TAPCTL_SEALED) {
        c->sealed = true;
        c->last = message.sealed;
    }
    return message;
}

static struct tapctl ask(struct controller *c, struct tapctl question)
{
    question.serial = ++c->serial;
    tap_ctl_send(&c->ctl, &question);
    struct tapctl message = next(c);
    while (message.serial != c->serial) {
        message = next(c);
    }
    return message;
}

/* What a controller does between rounds: every order that takes locks of its own. */
static void chores(struct controller *c)
{
    struct tapctl answer = ask(c, (struct tapctl){.type = TAPCTL_SYNC});
    assert_int_equal(answer.type, TAPCTL_SYNCED);
    assert_false(answer.synced.failed);
    assert_true(answer.synced.lsn >= c->synced);
    c->synced = answer.synced.lsn;
    /* No file of the log is freed by it: at the end all of it is replayed. */
    tap_ctl_send(&c->ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {1}});
    struct tapctl attest = {.type = TAPCTL_ATTEST, .attest = {.size = 3, .bytes = "abc"}};
    attest.attest.round.b[0] = 1;
    tap_ctl_send(&c->ctl, &attest);
    answer = ask(c, (struct tapctl){.type = TAPCTL_STATUS});
    assert_int_equal(answer.type, TAPCTL_STATE);
    assert_true(answer.state.stored_lsn <= answer.state.synced_lsn);
    assert_true(answer.state.synced_lsn < answer.state.next_lsn);
}

/* Asks until the duty limit and the last seal allow it; work goes on meanwhile. */
static uint64_t hold(struct controller *c, uint8_t round, uint32_t budget_us, struct round *ret)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    for (;;) {
        uint64_t asked_us = tap_now_us();
        tap_ctl_hold_send(&c->ctl, round, budget_us, false);
        struct tapctl answer = next(c);
        while (answer.type != TAPCTL_HELD && answer.type != TAPCTL_REFUSED) {
            answer = next(c);
        }
        if (answer.type == TAPCTL_HELD) {
            assert_true(answer.held.budget_us <= budget_us); /* the duty limit may leave less */
            ret->budget_us = answer.held.budget_us;
            ret->bookmark_lsn = answer.held.mark.lsn;
            ret->ends_us = asked_us + ret->budget_us;
            return asked_us;
        }
        assert_true(answer.refused.reason == ROUND_REASON_DUTY ||
                    answer.refused.reason == ROUND_REASON_BUSY);
        assert_true(tap_rig_now_ms() < until);
        allow(6, false);
        chores(c);
        pause_us(2000);
    }
}

/* The seal of a round whose controller went away is told to the one that came after it. */
static void wait_sealed(struct controller *c, uint64_t bookmark_lsn)
{
    while (!c->sealed || c->last.bookmark_lsn != bookmark_lsn) {
        (void)next(c);
    }
}

/* Until a change has been logged behind the bookmark, or the hold is over. */
static void wait_held_write(struct controller *c, uint64_t bookmark_lsn)
{
    struct tapctl_state state;
    allow(20, false);
    do {
        state = ask(c, (struct tapctl){.type = TAPCTL_STATUS}).state;
    } while (state.holding && state.next_lsn < bookmark_lsn + 2);
}

static void one_round(struct controller *c, uint8_t number)
{
    struct round *r = &c->rounds[c->count++];
    unsigned how = number % 4;
    uint32_t budget_us = how == 2 ? EXPIRE_US : BUDGET_US;
    c->sealed = false;
    (void)hold(c, number, budget_us, r);
    wait_held_write(c, r->bookmark_lsn);
    uint64_t now = tap_now_us();
    if (how != 2 && now < r->ends_us) {
        r->ends_us = now;
    }
    if (how == 3) { /* disconnect while holding: the seal is for the log alone */
        tap_ctl_close(&c->ctl);
        tap_ctl_open(&c->ctl, &rig);
        c->outcomes[0]++;
        return;
    }
    if (how < 2) {
        tap_ctl_end(&c->ctl, how == 0 ? TAPCTL_RELEASE : TAPCTL_ABORT, number);
    }
    wait_sealed(c, r->bookmark_lsn);
    assert_true(c->last.appended);
    assert_true(c->last.outcome < 8);
    c->outcomes[c->last.outcome]++;
    if (c->last.outcome == ROUND_OUTCOME_EXPIRED) {
        assert_true(c->last.hold_us >= r->budget_us);
    } else {
        assert_int_equal(c->last.outcome, how == 0 ? ROUND_OUTCOME_HELD : ROUND_OUTCOME_ABORTED);
    }
}

struct story {
    uint64_t lsn;
    uint64_t bookmark_lsn; /* without its seal; 0: none */
    unsigned bookmarks;
    uint64_t hold_us_max; /* past the budget */
    uint32_t budget_us;
};

static void identify(const struct record *record)
{
    uint64_t head[2] = {MARK, record->write.size - ZERO_MIN};
    if (record->type == RECORD_WRITE) {
        assert_true(record->write.size >= sizeof head);
        memcpy(head, record->write.data, sizeof head);
    }
    assert_true(head[0] == MARK && head[1] < (uint64_t)WRITERS * OPS_MAX);
    struct change *change = &changes_of[head[1] / OPS_MAX][head[1] % OPS_MAX];
    assert_true(change->acknowledged_us != 0);
    assert_int_equal(change->lsn, 0); /* once */
    change->lsn = record->lsn;
}

static void look(const struct record *record, void *context)
{
    struct story *s = context;
    assert_int_equal(record->lsn, s->lsn + 1);
    s->lsn = record->lsn;
    if (record->type == RECORD_WRITE || record->type == RECORD_ZERO) {
        identify(record);
    } else if (record->type == RECORD_BOOKMARK) {
        assert_int_equal(s->bookmark_lsn, 0);
        s->bookmark_lsn = record->lsn;
        s->budget_us = record->bookmark.budget_us;
        s->bookmarks++;
    } else if (record->type == RECORD_SEAL) {
        assert_int_equal(record->seal.bookmark_lsn, s->bookmark_lsn);
        s->bookmark_lsn = 0;
        if (record->seal.hold_us > s->budget_us &&
            record->seal.hold_us - s->budget_us > s->hold_us_max) {
            s->hold_us_max = record->seal.hold_us - s->budget_us;
        }
    } else {
        assert_true(record->type == RECORD_ATTACH || record->type == RECORD_ATTESTATION);
    }
}

/* Nothing behind a bookmark was acknowledged before its hold can have ended. */
static void check_acknowledgements(const struct controller *c)
{
    unsigned behind = 0;
    for (unsigned i = 0; i < WRITERS * OPS_MAX; i++) {
        const struct change *change = &changes_of[i / OPS_MAX][i % OPS_MAX];
        assert_int_equal(change->lsn != 0, change->acknowledged_us != 0);
        for (unsigned r = 0; change->lsn != 0 && r < c->count; r++) {
            if (change->lsn > c->rounds[r].bookmark_lsn) {
                behind++;
                assert_true(change->acknowledged_us >= c->rounds[r].ends_us);
            }
        }
    }
    assert_true(behind > 0);
}

static void check_disk(const uint8_t *expected)
{
    uint8_t *got = malloc(SIZE);
    assert_non_null(got);
    assert_int_equal(disk_read(&tap, got, SIZE, 0), 0);
    assert_memory_equal(got, expected, SIZE);
    free(got);
}

static void check_image(const uint8_t *expected)
{
    uint8_t *got = malloc(SIZE);
    int fd = open(rig.image, O_RDONLY | O_CLOEXEC);
    assert_non_null(got);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, got, SIZE, 0), SIZE);
    assert_memory_equal(got, expected, SIZE);
    close(fd);
    free(got);
}

static void from_all_sides(void **state)
{
    (void)state;
    static struct controller c;
    pthread_t timer;
    struct story story = {0};
    tap_rig_open(&rig, SIZE);
    open_tap("64", false);
    tap_ctl_open(&c.ctl, &rig);
    assert_int_equal(pthread_create(&timer, NULL, timer_main, NULL), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_main, &writers[i]), 0);
    }
    for (uint8_t number = 1; number <= ROUNDS; number++) {
        one_round(&c, number);
    }
    allow(10, true);
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
    }
    timer_stop = true;
    assert_int_equal(pthread_join(timer, NULL), 0);
    struct tapctl_state got = ask(&c, (struct tapctl){.type = TAPCTL_STATUS}).state;
    assert_true(got.whole && got.logging);
    assert_int_equal(got.holds, ROUNDS);
    tap_ctl_close(&c.ctl);
    tap_close(&tap);

    uint8_t *expected = tap_rig_replay(&rig, SIZE, look, &story);
    assert_int_equal(story.bookmarks, ROUNDS);
    assert_int_equal(story.bookmark_lsn, 0); /* every one has its seal */
    assert_int_equal(story.lsn + 1, got.next_lsn);
    print_message("holds past their budget by at most %llu us; a plain timer was %llu us late\n",
                  (unsigned long long)story.hold_us_max, (unsigned long long)timer_late_us);
    assert_true(story.hold_us_max <= SLACK_MIN_US + 4 * timer_late_us);
    assert_true(c.outcomes[ROUND_OUTCOME_EXPIRED] >= ROUNDS / 4);
    check_acknowledgements(&c);
    check_image(expected);

    open_tap("64", false);
    assert_true(tap.gate.whole);
    assert_int_equal(tap.log_lsn, story.lsn + 1); /* ATTACH alone */
    check_disk(expected);
    tap_close(&tap);
    free(expected);
    tap_rig_close(&rig);
}

/* A small ring and a far side that comes late: full, stored, recycled, on again, while each writer
 * knows what its own part of the disk must hold. */
#define PART       (SIZE / WRITERS)
#define WRAP_WRITE 32768U
#define WRAP_OPS   250U /* of one writer: 4 x 8 MiB through a ring of 8 */

static uint8_t *parts;

static void *wrap_main(void *context)
{
    const struct writer *w = context;
    struct prng prng;
    prng_init(&prng, 20004 + w->number);
    uint8_t *part = parts + w->number * PART;
    for (unsigned n = 0; n < WRAP_OPS; n++) {
        uint64_t offset = prng_below(&prng, PART - WRAP_WRITE);
        memset(part + offset, (int)(1 + n % 255), WRAP_WRITE);
        TIDE_CHECK(disk_write(&tap, part + offset, WRAP_WRITE, w->number * PART + offset, false) ==
                   0);
        if (n % 50 == 49) {
            TIDE_CHECK(disk_flush(&tap) == 0);
        }
    }
    allow(1, false);
    return NULL;
}

static void round_and_round(void **state)
{
    (void)state;
    static struct controller c;
    tap_rig_open(&rig, SIZE);
    open_tap("8", true);
    parts = calloc(1, SIZE);
    assert_non_null(parts);
    allowance = 0;
    tap_ctl_open(&c.ctl, &rig);
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&writers[i].thread, NULL, wrap_main, &writers[i]), 0);
    }
    bool full = false;
    for (unsigned ended = 0; ended < WRITERS;) {
        struct tapctl answer = ask(&c, (struct tapctl){.type = TAPCTL_SYNC});
        full = full || !ask(&c, (struct tapctl){.type = TAPCTL_STATUS}).state.logging;
        if (full) {
            tap_ctl_send(&c.ctl,
                         &(struct tapctl){.type = TAPCTL_STORED, .lsn = {answer.synced.lsn}});
        }
        pthread_mutex_lock(&allowance_mutex);
        ended = allowance;
        pthread_mutex_unlock(&allowance_mutex);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
    }
    struct tapctl_state got = ask(&c, (struct tapctl){.type = TAPCTL_STATUS}).state;
    assert_int_equal(got.writes, WRITERS * WRAP_OPS);
    assert_true(full && !got.whole);
    assert_int_equal(got.gap_reason, RECORD_GAP_OVERFLOW);
    tap_ctl_close(&c.ctl);
    check_disk(parts);
    tap_close(&tap);
    check_image(parts);
    open_tap("8", true);
    assert_false(tap.gate.whole);
    check_disk(parts);
    tap_close(&tap);
    free(parts);
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_all_sides),
        cmocka_unit_test(round_and_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
