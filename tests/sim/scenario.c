/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/scenario.h"

#include "common/core/check.h"
#include "participant/core/leader.h"
#include "tests/sim/sim_own.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX   8
#define ACTIONS_MAX 256
#define STEP_US     1000U /* how exactly `when` and `at` are kept */
#define LOG_FILES   60U
#define LOG_FILE    131072U /* bytes: room for what is written within an hour */
#define JUMP_US     10000000U
#define LOOK_US     1000000U /* between two looks of the far side */
#define SLOW_US     40000U   /* later, each message from or to a slow member */

enum verb {
    KILL,
    START,
    KILL_TAP,
    START_TAP,
    CUT,
    JOIN,
    GAP,
    COPY,
    TAKE,
    FAR_DOWN,
    FAR_UP,
    SLOW,
    SWIFT,
    PAUSE,
    CONTINUE,
    LEAVE,
    ENTER,
    DROP,
    ADD,
    TELL,
    JUMP,
    POWER,
    FAIL,
    MEND,
    EXPECT
};

/* Word, and how many names follow it: members first, then (with disk) a disk. */
static const struct {
    const char *word;
    unsigned members;
    bool disk;
} verbs[] = {
    [KILL] = {"kill", 1, false},
    [START] = {"start", 1, false},
    [KILL_TAP] = {"kill-tap", 1, true},
    [START_TAP] = {"start-tap", 1, true},
    [CUT] = {"cut", 2, false},
    [JOIN] = {"join", 2, false},
    [GAP] = {"gap", 1, true},
    [COPY] = {"copy", 1, true},
    [TAKE] = {"take", 1, false},
    [FAR_DOWN] = {"far-down", 0, false},
    [FAR_UP] = {"far-up", 0, false},
    [SLOW] = {"slow", 1, false},
    [SWIFT] = {"swift", 1, false},
    [PAUSE] = {"pause", 1, false},
    [CONTINUE] = {"continue", 1, false},
    [LEAVE] = {"leave", 1, false},
    [ENTER] = {"enter", 1, false},
    [DROP] = {"drop-disk", 1, true},
    [ADD] = {"add-disk", 1, true},
    [TELL] = {"tell", 1, false},
    [JUMP] = {"jump", 1, false},
    [POWER] = {"power", 1, false},
    [FAIL] = {"fail-log", 1, true},
    [MEND] = {"mend-log", 1, true},
};

static const struct {
    const char *word;
    enum msg_type type;
} types[] = {{"HOLD", MSG_HOLD},
             {"HELD", MSG_HELD},
             {"RELEASE", MSG_RELEASE},
             {"ABORT", MSG_ABORT},
             {"SEALED", MSG_SEALED}};

struct action {
    enum verb verb;
    uint64_t at_us; /* UINT64_MAX: not before its message */
    bool done;
    unsigned a;
    unsigned b; /* member or disk */
    /* when */
    bool when;
    enum msg_type type;
    unsigned from;
    unsigned to;
    uint64_t after_us;
    /* EXPECT */
    enum { FULL, PARTIAL, FAR, SINGLE, FAILED } what;
    uint64_t until_us;
    unsigned least;
    unsigned most;
};

struct scenario {
    struct sim *sim;
    struct roundlab_config config;
    unsigned tokens;
    uint64_t think_us;
    uint64_t end_us;
    bool slow[SIM_MEMBERS_MAX];
    struct action actions[ACTIONS_MAX];
    unsigned count;
    unsigned line;
    struct err *err;
    char words[WORDS_MAX][64];
    unsigned word_count;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct scenario *s, const char *format, ...)
{
    char what[200];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    err_set(s->err, TIDE_ERR_CORRUPT, "line %u: %s", s->line, what);
    return false;
}

static bool get_number(struct scenario *s, unsigned word, uint64_t most, uint64_t *ret)
{
    char *end = NULL;
    const char *text = word < s->word_count ? s->words[word] : "";
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > most) {
        return wrong(s, "\"%s\" is not a number up to %" PRIu64, text, most);
    }
    *ret = value;
    return true;
}

/* 12.5: seconds, with up to six places. */
static bool get_time(struct scenario *s, unsigned word, uint64_t *ret_us)
{
    char *end = NULL;
    const char *text = word < s->word_count ? s->words[word] : "";
    double value = strtod(text, &end);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > 1e6) {
        return wrong(s, "\"%s\" is not a time in seconds, such as 12.5", text);
    }
    *ret_us = (uint64_t)(value * 1e6 + 0.5);
    return true;
}

static bool get_member(struct scenario *s, unsigned word, unsigned *ret)
{
    const char *text = word < s->word_count ? s->words[word] : "";
    for (unsigned i = 0; i < s->config.members; i++) {
        if (strcmp(roundlab_member_name(i), text) == 0) {
            *ret = i;
            return true;
        }
    }
    return wrong(s, "\"%s\" is none of the %u members (web, db, app, mail, log, n6, ...)", text,
                 s->config.members);
}

static bool get_disk(struct scenario *s, unsigned word, unsigned *ret)
{
    const char *text = word < s->word_count ? s->words[word] : "";
    *ret = strcmp(text, "log") == 0;
    return (*ret != 0 && ROUNDLAB_DISKS > 1) || strcmp(text, "data") == 0 ||
           wrong(s, "\"%s\" is no disk: data or log", text);
}

static bool get_action(struct scenario *s, unsigned word, struct action *ret)
{
    const char *text = word < s->word_count ? s->words[word] : "";
    unsigned i = 0;
    while (i < EXPECT && strcmp(verbs[i].word, text) != 0) {
        i++;
    }
    if (i == EXPECT) {
        return wrong(s,
                     "\"%s\" is no action: kill, start, kill-tap, start-tap, cut, join, gap, "
                     "copy, take, far-down, far-up, slow, swift, pause, continue, leave, enter, "
                     "drop-disk, add-disk, tell, jump, power, fail-log or mend-log",
                     text);
    }
    ret->verb = (enum verb)i;
    unsigned names = verbs[i].members + verbs[i].disk;
    if (s->word_count != word + 1 + names) {
        return wrong(s, "%s takes %u names", text, names);
    }
    if (verbs[i].members > 0 && !get_member(s, word + 1, &ret->a)) {
        return false;
    }
    if (verbs[i].disk) {
        return get_disk(s, word + 2, &ret->b);
    }
    if (verbs[i].members < 2) {
        return true;
    }
    return get_member(s, word + 2, &ret->b) &&
           (ret->a != ret->b || wrong(s, "there is no link between these two"));
}

static bool get_when(struct scenario *s, struct action *ret)
{
    unsigned i = 0;
    unsigned count = sizeof types / sizeof types[0];
    while (i < count && strcmp(types[i].word, s->words[2]) != 0) {
        i++;
    }
    if (i == count) {
        return wrong(s, "\"%s\" is no message: HOLD, HELD, RELEASE, ABORT or SEALED", s->words[2]);
    }
    ret->when = true;
    ret->at_us = UINT64_MAX;
    ret->type = types[i].type;
    return get_time(s, 1, &ret->after_us) && get_member(s, 3, &ret->from) &&
           get_member(s, 4, &ret->to) && get_action(s, 5, ret);
}

static bool get_expect(struct scenario *s, struct action *ret)
{
    static const char *const whats[] = {"full", "partial", "far", "single", "failed"};
    uint64_t least = 0;
    uint64_t most = 0;
    unsigned i = 0;
    while (i < 5 && strcmp(whats[i], s->words[1]) != 0) {
        i++;
    }
    if (i == 5) {
        return wrong(s, "\"%s\" cannot be expected: full, partial, far, single or failed",
                     s->words[1]);
    }
    ret->verb = EXPECT;
    ret->what = i == 0 ? FULL : i == 1 ? PARTIAL : i == 2 ? FAR : i == 3 ? SINGLE : FAILED;
    if (!get_number(s, 2, 100000, &least) || !get_number(s, 3, 100000, &most) ||
        !get_time(s, 4, &ret->at_us) || !get_time(s, 5, &ret->until_us)) {
        return false;
    }
    ret->least = (unsigned)least;
    ret->most = (unsigned)most;
    return true;
}

static bool get_setting(struct scenario *s)
{
    static const char *const names[] = {"members", "interval-ms", "budget-ms", "latency-us",
                                        "end",     "tokens",      "missing",   "seed"};
    uint64_t n = 0;
    unsigned i = 0;
    while (i < 8 && strcmp(names[i], s->words[0]) != 0) {
        i++;
    }
    if (i == 6) {
        bool partial = strcmp(s->words[1], "partial") == 0;
        s->config.policy.missing = partial ? POLICY_MISSING_PARTIAL : POLICY_MISSING_STRICT;
        return partial || strcmp(s->words[1], "strict") == 0 ||
               wrong(s, "missing is strict or partial");
    }
    static const uint64_t most[] = {SIM_MEMBERS_MAX, 86400000, 300, 1000000, 0, 16, 0, UINT64_MAX};
    if (i == 8) {
        return wrong(s, "\"%s\" begins no statement", s->words[0]);
    }
    if (i == 4) {
        return get_time(s, 1, &s->end_us);
    }
    if (!get_number(s, 1, most[i], &n) || (i == 5 && !get_number(s, 2, 1000000000, &s->think_us))) {
        return false;
    }
    if ((i == 0 && n < 1) || (i == 1 && n < 1000) || (i == 2 && n < 5)) {
        return wrong(s,
                     "%s is too small: at least 1 member, 1000 ms between rounds, a budget of "
                     "5 ms",
                     names[i]);
    }
    s->config.members = i == 0 ? (unsigned)n : s->config.members;
    s->config.policy.interval_ms = i == 1 ? n : s->config.policy.interval_ms;
    s->config.policy.hold_us_max = i == 2 ? (uint32_t)n * 1000 : s->config.policy.hold_us_max;
    s->config.latency_us = i == 3 ? n : s->config.latency_us;
    s->tokens = i == 5 ? (unsigned)n : s->tokens;
    s->config.seed = i == 7 ? n : s->config.seed;
    return true;
}

static bool statement(struct scenario *s)
{
    struct action action = {.at_us = 0};
    bool good;
    if (strcmp(s->words[0], "at") == 0) {
        good = get_time(s, 1, &action.at_us) && get_action(s, 2, &action);
    } else if (strcmp(s->words[0], "when") == 0) {
        good = get_when(s, &action);
    } else if (strcmp(s->words[0], "expect") == 0) {
        good = get_expect(s, &action);
    } else {
        return get_setting(s);
    }
    if (good && s->count == ACTIONS_MAX) {
        return wrong(s, "more than %u statements that act or expect", ACTIONS_MAX);
    }
    if (good) {
        s->actions[s->count++] = action;
    }
    return good;
}

static bool read_line(struct scenario *s, const char *line, size_t length)
{
    size_t at = 0;
    s->word_count = 0;
    memset(s->words, 0, sizeof s->words);
    while (at < length && line[at] != '#') {
        size_t word = strcspn(line + at, " \t#\n");
        if (word == 0) {
            at++;
            continue;
        }
        if (s->word_count == WORDS_MAX || word >= sizeof s->words[0]) {
            return wrong(s, "more than %d words, or one that is too long", WORDS_MAX);
        }
        memcpy(s->words[s->word_count++], line + at, word);
        at += word;
    }
    return s->word_count == 0 || statement(s);
}

static bool read_text(struct scenario *s, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        s->line++;
        if (!read_line(s, text, length)) {
            return false;
        }
        text += length + (text[length] == '\n');
    }
    return s->end_us > 0 || wrong(s, "`end SECONDS` is missing");
}

/* ---- running ---- */

static void change_definition(struct scenario *s, const struct action *action)
{
    struct sim *sim = s->sim;
    unsigned first = action->a * ROUNDLAB_DISKS;
    bool in = action->verb == ENTER || action->verb == ADD;
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        if (action->verb == LEAVE || action->verb == ENTER || d == action->b) {
            sim->in[first + d] = in;
        }
    }
    sim_issue(sim);
}

static void act(struct scenario *s, const struct action *action)
{
    struct sim *sim = s->sim;
    switch (action->verb) {
    case KILL:
        sim_stop(sim, action->a);
        break;
    case START:
        roundlab_start(sim->lab, action->a);
        for (unsigned m = 0; m < s->config.members; m++) {
            if (sim_may_link(sim, action->a, m)) {
                roundlab_link(sim->lab, action->a, m, true);
            }
        }
        break;
    case KILL_TAP:
        roundlab_tap_stop(sim->lab, action->a, action->b);
        break;
    case START_TAP:
        roundlab_tap_start(sim->lab, action->a, action->b);
        break;
    case CUT:
    case JOIN:
        roundlab_link(sim->lab, action->a, action->b, action->verb == JOIN);
        break;
    case GAP:
        roundlab_tap_gap(sim->lab, action->a, action->b);
        break;
    case COPY:
        roundlab_tap_copy(sim->lab, action->a, action->b);
        break;
    case TAKE:
        roundlab_take(sim->lab, action->a, ROUND_KIND_CRASH);
        break;
    case FAR_DOWN:
        data_far(sim->data, false);
        sim->far_back_us = UINT64_MAX;
        break;
    case FAR_UP:
        sim->far_back_us = 0;
        break;
    case SLOW:
    case SWIFT:
        s->slow[action->a] = action->verb == SLOW;
        break;
    case POWER:
        sim_power(sim, action->a);
        break;
    case FAIL:
    case MEND:
        data_fail(sim->data, action->a * ROUNDLAB_DISKS + action->b, SIMTAP_LOG_SYNCS,
                  action->verb == FAIL);
        break;
    case PAUSE:
        roundlab_pause(sim->lab, action->a);
        break;
    case CONTINUE:
        roundlab_continue(sim->lab, action->a);
        break;
    case JUMP:
        sim_jump(sim, action->a, JUMP_US);
        break;
    case TELL:
        roundlab_define(sim->lab, action->a);
        break;
    case LEAVE:
    case ENTER:
    case DROP:
    case ADD:
        change_definition(s, action);
        break;
    case EXPECT:
    default:
        break;
    }
}

static void fate(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                 struct roundlab_fate *ret, void *context)
{
    struct scenario *s = context;
    ret->delay_us += s->slow[from] || s->slow[to] ? SLOW_US : 0;
    for (unsigned i = 0; i < s->count; i++) {
        struct action *a = &s->actions[i];
        if (a->when && a->at_us == UINT64_MAX && msg->type == a->type && from == a->from &&
            to == a->to && roundlab_now(lab) >= a->after_us) {
            ret->drop = true;
            a->at_us = roundlab_now(lab);
        }
    }
}

/* Points that the far side knows now. */
static unsigned far_points(const struct sim *sim)
{
    unsigned points = 0;
    const struct align *far = data_align(sim->data);
    for (size_t i = 0; far != NULL && i < align_count(far); i++) {
        points += align_at(far, i)->answer == ROUND_ANSWER_YES &&
                  align_at(far, i)->order.scope == ROUND_SCOPE_GROUP;
    }
    return points;
}

static void expect(struct scenario *s, const struct action *a, struct sim_result *ret)
{
    static const char *const whats[] = {"full points", "partial points",
                                        "points known to the far side", "single-VM points",
                                        "failed rounds"};
    struct check *check = s->sim->check;
    unsigned got = a->what == FAR      ? far_points(s->sim)
                   : a->what == SINGLE ? check_single(check, a->at_us, a->until_us, -1)
                   : a->what == FAILED
                       ? check_lost(check, a->at_us, a->until_us)
                       : check_points(check, a->at_us, a->until_us, a->what == FULL);
    if ((got < a->least || got > a->most) && ret->verdict == SIM_GOOD) {
        ret->verdict = SIM_NOT_LIVE;
        snprintf(ret->failure, sizeof ret->failure,
                 "expected %u to %u %s from %" PRIu64 " to %" PRIu64 " ms: %u", a->least, a->most,
                 whats[a->what], a->at_us / 1000, a->until_us / 1000, got);
    }
}

/* What is due by now; an expectation of points is due at the end, of the far side at its time. */
static void due(struct scenario *s, struct sim_result *ret, bool end)
{
    uint64_t now_us = roundlab_now(s->sim->lab);
    for (unsigned i = 0; i < s->count; i++) {
        struct action *a = &s->actions[i];
        bool ripe = a->verb != EXPECT ? a->at_us <= now_us
                    : a->what == FAR  ? a->until_us <= now_us
                                      : end;
        if (a->done || !ripe) {
            continue;
        }
        a->done = true;
        if (a->verb == EXPECT) {
            expect(s, a, ret);
        } else {
            act(s, a);
        }
    }
}

static void run(struct scenario *s, struct sim_result *ret)
{
    struct sim *sim = s->sim;
    uint64_t look_us = LOOK_US;
    sim_open(sim, &s->config);
    memset(sim->in, 1, sizeof sim->in);
    for (unsigned i = 0; i < s->count; i++) {
        if (s->actions[i].verb >= LEAVE && s->actions[i].verb <= ADD && !sim->mesh) {
            sim_mesh(sim);
        }
    }
    roundlab_tokens(sim->lab, s->tokens, s->think_us);
    while (roundlab_now(sim->lab) < s->end_us && check_failure(sim->check) == NULL) {
        roundlab_run(sim->lab, roundlab_now(sim->lab) + STEP_US);
        if (roundlab_now(sim->lab) >= look_us) {
            sim_far_step(sim);
            look_us += LOOK_US;
        }
        due(s, ret, false);
    }
    due(s, ret, true);
    ret->count = sim_judge(sim);
    for (unsigned i = 0; i < s->count && ret->verdict == SIM_GOOD; i++) {
        if (!s->actions[i].done) {
            ret->verdict = SIM_NOT_LIVE;
            snprintf(ret->failure, sizeof ret->failure,
                     "statement %u that acts or expects never came to be", i + 1);
        }
    }
    if (check_failure(sim->check) != NULL) {
        ret->verdict = SIM_UNSAFE;
        snprintf(ret->failure, sizeof ret->failure, "%s", check_failure(sim->check));
    }
}

int scenario_run(const char *text, struct sim_result *ret, struct err *err)
{
    struct scenario *s = calloc(1, sizeof *s);
    TIDE_CHECK(s != NULL);
    s->config = (struct roundlab_config){.members = 3,
                                         .seed = 1,
                                         .latency_us = 500,
                                         .retries = TIDE_LEADER_RETRIES,
                                         .fate = fate,
                                         .context = s};
    policy_init(&s->config.policy);
    s->config.policy.interval_ms = 1000;
    s->tokens = 3;
    s->think_us = 8000;
    s->err = err;
    if (!read_text(s, text)) {
        free(s);
        return -1;
    }
    *ret = (struct sim_result){.verdict = SIM_GOOD};
    s->sim = calloc(1, sizeof *s->sim);
    TIDE_CHECK(s->sim != NULL);
    s->sim->options = (struct sim_options){.members = s->config.members, .seed = s->config.seed};
    prng_init(&s->sim->prng, s->config.seed);
    s->sim->disks = (struct data_config){.log_files = LOG_FILES, .log_file = LOG_FILE};
    run(s, ret);
    sim_close(s->sim, ret);
    free(s);
    return 0;
}
