/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/faults.h"

#include "common/core/check.h"
#include "participant/core/leader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_US  1000000U
#define STEP_US    50000U /* between two looks at most */
#define TOKENS     6U
#define FORGED_OF  16U /* HELDs for one that is answered by a liar, in its leader's name */
#define LOOK_EVERY 64U /* times that the news are looked at, all answers are once */

/* Kinds of faults; a swarm run draws which of them it has. */
enum fault {
    FAULT_LINK = 0, /* both ways, for a time */
    FAULT_ONE_WAY,  /* messages one way are lost, the link stays */
    FAULT_SLOW,     /* one way, late */
    FAULT_TAP,      /* kill -9, started again later */
    FAULT_DAEMON,   /* likewise */
    FAULT_FAR,      /* the far side is away, and has forgotten all when it is back */
    FAULT_GAP,      /* a disk is no longer whole, and is copied later */
    FAULT_TAKE,     /* somebody asks for a round now */
    FAULT_FORGED,   /* a RELEASE or ABORT that nobody of the round sent */
    FAULT_STALE,    /* HOLD arrives with another epoch or tap incarnation than was sent */
    FAULT_PAUSE,    /* a daemon stops running for a time, its taps do not */
    FAULT_CLOCK,    /* of a machine: drifts, jumps forward, or stands still */
    FAULT_COLD,     /* all daemons and taps are killed at once */
    FAULT_DEFINE,   /* another definition is issued */
    FAULT_HOSTILE,  /* a candidate leads rounds to make a false point */
    FAULT_REPLAY,   /* a message of a round comes once more, any time later */
    FAULT_REREAD,   /* the far side reads again */
    FAULTS,
};

/* ---- looking on ---- */

static void saw_record(void *context, unsigned disk, const struct record *record)
{
    struct sim *sim = context;
    check_clock(sim->check, disk, roundlab_clock(sim->lab, disk / ROUNDLAB_DISKS));
    check_record(sim->check, roundlab_now(sim->lab), disk, record);
    hostile_saw_record(sim->hostile, disk, record);
}

static void saw_write(void *context, unsigned disk, uint64_t lsn, int token, bool has_cause)
{
    struct sim *sim = context;
    check_write(sim->check, disk, lsn, token, has_cause);
    hostile_saw_write(sim->hostile);
}

static void saw_let_go(void *context, unsigned disk)
{
    struct sim *sim = context;
    check_clock(sim->check, disk, roundlab_clock(sim->lab, disk / ROUNDLAB_DISKS));
    check_let_go(sim->check, roundlab_now(sim->lab), disk);
}

static void forge(struct sim *sim, unsigned from, unsigned to, struct id round)
{
    struct msg msg = {.type = prng_below(&sim->prng, 2) == 0 ? MSG_RELEASE : MSG_ABORT};
    if (id_is_zero(&round) || from == to) {
        return;
    }
    if (msg.type == MSG_RELEASE) {
        msg.release.round = round;
        memset(msg.release.cut.b, 0x66, sizeof msg.release.cut.b);
    } else {
        msg.abort.round = round;
        msg.abort.reason = ROUND_REASON_TIMEOUT;
    }
    check_hostile(sim->check, &round);
    roundlab_inject(sim->lab, from, to, &msg);
}

static void saw_message(void *context, unsigned from, unsigned to, const struct msg *msg)
{
    struct sim *sim = context;
    check_message(sim->check, roundlab_now(sim->lab), from, to, msg);
    if ((sim->kinds & 1U << FAULT_REPLAY) != 0) {
        faults_keep(sim, from, to, msg);
    }
    if (sim->options.faults == SIM_FAULTS_SWARM) {
        faults_in_round(sim, from, to, msg);
    }
    if (msg->type == MSG_HELD && (sim->kinds & 1U << FAULT_FORGED) != 0 &&
        prng_below(&sim->prng, FORGED_OF) == 0) {
        forge(sim, to, from, msg->held.round);
    }
}

static void saw_defined(void *context, unsigned member, const struct definition *definition)
{
    struct sim *sim = context;
    check_defined(sim->check, roundlab_now(sim->lab), member, definition);
}

/* ---- the far side ---- */

/* Gives a reader the definitions from that one on; returns how many it then has. */
static unsigned define_reader(const struct sim *sim, struct align *align, unsigned from)
{
    struct err err;
    for (; roundlab_issued(sim->lab, from) != NULL; from++) {
        TIDE_CHECK(align_define(align, roundlab_issued(sim->lab, from), &err) == 0);
    }
    return from;
}

static struct align *new_reader(const struct sim *sim, unsigned rounds_max)
{
    const struct definition *definition = roundlab_definition(sim->lab);
    struct align *align = align_new(&definition->group, true, rounds_max);
    TIDE_CHECK(align != NULL);
    return align;
}

/* Reads on in a stream, up to that many records, as far as they are synced. */
static void read_on(const struct sim *sim, struct align *align, unsigned disk, size_t *at,
                    size_t most)
{
    const struct check_stream *stream = check_streams(sim->check, disk);
    struct err err;
    for (; most > 0 && *at < stream->count; most--, (*at)++) {
        if (stream->at_us[*at] + SYNC_US > roundlab_now(sim->lab)) {
            return;
        }
        TIDE_CHECK(align_feed(align, &stream->records[*at], &err) == 0);
    }
}

/* The far side gets a little more of each stream, and is asked for its answers. */
void sim_far_step(struct sim *sim, unsigned most)
{
    if (sim->far == NULL && roundlab_now(sim->lab) >= sim->far_back_us) {
        sim->far = new_reader(sim, TIDE_ALIGN_ROUNDS);
        sim->far_defined = 0;
        memset(sim->far_read, 0, sizeof sim->far_read);
    }
    if (sim->far == NULL) {
        return;
    }
    if (sim->far_defined == 0 || prng_below(&sim->prng, 4) == 0) {
        sim->far_defined = define_reader(sim, sim->far, sim->far_defined);
    }
    for (unsigned d = 0; d < sim->options.members * ROUNDLAB_DISKS; d++) {
        read_on(sim, sim->far, d, &sim->far_read[d], prng_below(&sim->prng, most));
    }
    check_news(sim->check, roundlab_now(sim->lab), sim->far);
    if (sim->far_looks++ % LOOK_EVERY == 0) {
        check_answers(sim->check, roundlab_now(sim->lab), sim->far);
    }
}

/* ---- faults ---- */

bool sim_may_link(const struct sim *sim, unsigned a, unsigned b)
{
    return a != b && (sim->mesh || a < CANDIDATES || b < CANDIDATES);
}

void sim_mesh(struct sim *sim)
{
    sim->mesh = true;
    roundlab_mesh(sim->lab);
}

void sim_stop(struct sim *sim, unsigned member)
{
    roundlab_stop(sim->lab, member);
    check_daemon_lost(sim->check, roundlab_now(sim->lab), member);
}

static void fate(struct roundlab *lab, unsigned from, unsigned to, struct msg *msg,
                 struct roundlab_fate *ret, void *context)
{
    struct sim *sim = context;
    uint64_t now_us = roundlab_now(lab);
    ret->drop |= now_us < sim->lost_us[from][to];
    ret->delay_us += now_us < sim->slow_us[from][to] ? prng_below(&sim->prng, 80000) : 0;
    if (msg->type != MSG_HOLD || prng_below(&sim->prng, 100) >= sim->stale) {
        return;
    }
    if (prng_below(&sim->prng, 2) == 0) {
        msg->head.epoch.hash.b[0] ^= 1; /* the same number */
    } else {
        msg->hold.taps[0].incarnation ^= 2;
    }
    check_stale(sim->check, &msg->hold.round, to);
}

static void fault_at(struct sim *sim, enum fault kind, unsigned a, unsigned b)
{
    unsigned disk = (unsigned)prng_below(&sim->prng, ROUNDLAB_DISKS);
    unsigned flat = a * ROUNDLAB_DISKS + disk;
    uint64_t until_us = roundlab_now(sim->lab) + 1 + prng_below(&sim->prng, 3 * SECOND_US);
    switch (kind) {
    case FAULT_LINK:
        if (sim_may_link(sim, a, b)) {
            roundlab_link(sim->lab, a, b, false);
            sim->link_us[a][b] = sim->link_us[b][a] = until_us;
        }
        break;
    case FAULT_ONE_WAY:
        sim->lost_us[a][b] = until_us;
        break;
    case FAULT_SLOW:
        sim->slow_us[a][b] = until_us;
        break;
    case FAULT_TAP:
        if (sim->tap_us[flat] == 0) {
            roundlab_tap_stop(sim->lab, a, disk);
            sim->tap_us[flat] = until_us;
            if (prng_below(&sim->prng, 2) == 0) { /* at once: systemd, or QEMU */
                roundlab_tap_start(sim->lab, a, disk);
                sim->tap_us[flat] = 0;
            }
        }
        break;
    case FAULT_DAEMON:
        if (sim->daemon_us[a] == 0) {
            sim_stop(sim, a);
            sim->daemon_us[a] = prng_below(&sim->prng, 2) == 0 ? 1 : until_us; /* 1: at once */
        }
        break;
    case FAULT_FAR:
        align_free(sim->far);
        sim->far = NULL;
        sim->far_back_us = until_us;
        break;
    case FAULT_GAP:
        if (sim->tap_us[flat] == 0) {
            roundlab_tap_gap(sim->lab, a, disk);
            sim->copy_us[flat] = until_us;
        }
        break;
    case FAULT_TAKE:
        roundlab_take(sim->lab, a, ROUND_KIND_CRASH);
        break;
    case FAULT_FORGED:
        forge(sim, a, b, roundlab_last_round(sim->lab));
        break;
    case FAULT_PAUSE:
        faults_pause(sim, a, until_us);
        break;
    case FAULT_CLOCK:
        faults_clock(sim, a, until_us);
        break;
    case FAULT_COLD:
        if (prng_below(&sim->prng, 16) == 0) { /* after it there is little to disturb */
            faults_cold(sim);
        }
        break;
    case FAULT_DEFINE:
        if (prng_below(&sim->prng, 4) == 0) {
            faults_define(sim);
        }
        break;
    case FAULT_HOSTILE:
        faults_hostile(sim);
        break;
    case FAULT_REPLAY:
        faults_replay(sim);
        break;
    case FAULT_REREAD:
        faults_reread(sim);
        break;
    case FAULT_STALE: /* done to messages on their way */
    case FAULTS:
    default:
        break;
    }
}

static void disturb(struct sim *sim)
{
    enum fault kind = (enum fault)prng_below(&sim->prng, FAULTS);
    unsigned a = (unsigned)prng_below(&sim->prng, sim->options.members);
    unsigned b = (unsigned)prng_below(&sim->prng, sim->options.members);
    if (prng_below(&sim->prng, 100) < sim->often && (sim->kinds & 1U << kind) != 0) {
        fault_at(sim, kind, a, b);
    }
}

static bool over(uint64_t *until_us, uint64_t now_us)
{
    if (*until_us == 0 || *until_us > now_us) {
        return false;
    }
    *until_us = 0;
    return true;
}

/* Ends the faults whose time is over. */
static void mend(struct sim *sim, uint64_t now_us)
{
    if (sim->options.faults == SIM_FAULTS_NONE) {
        return;
    }
    faults_mend(sim, now_us);
    for (unsigned m = 0; m < sim->options.members; m++) {
        if (over(&sim->daemon_us[m], now_us)) {
            roundlab_start(sim->lab, m);
        }
    }
    for (unsigned d = 0; d < sim->options.members * ROUNDLAB_DISKS; d++) {
        if (over(&sim->tap_us[d], now_us)) {
            roundlab_tap_start(sim->lab, d / ROUNDLAB_DISKS, d % ROUNDLAB_DISKS);
        }
        if (sim->tap_us[d] == 0 && over(&sim->copy_us[d], now_us)) {
            roundlab_tap_copy(sim->lab, d / ROUNDLAB_DISKS, d % ROUNDLAB_DISKS);
        }
    }
    for (unsigned a = 0; a < sim->options.members; a++) {
        for (unsigned b = a + 1; b < sim->options.members; b++) {
            if (sim_may_link(sim, a, b) && sim->link_us[a][b] <= now_us && sim->daemon_us[a] == 0 &&
                sim->daemon_us[b] == 0) {
                roundlab_link(sim->lab, a, b, true);
                sim->link_us[a][b] = sim->link_us[b][a] = 0;
            }
        }
    }
}

static void end_faults(struct sim *sim)
{
    sim->kinds = 0;
    sim->stale = 0;
    sim->far_back_us = 0;
    memset(sim->lost_us, 0, sizeof sim->lost_us);
    memset(sim->slow_us, 0, sizeof sim->slow_us);
    memset(sim->link_us, 0, sizeof sim->link_us);
    hostile_end(sim->hostile);
    roundlab_network(sim->lab, 500, 0, 0, 0);
    for (unsigned m = 0; m < sim->options.members; m++) {
        roundlab_define(sim->lab, m);
    }
    mend(sim, UINT64_MAX - 1);
}

/* ---- a run ---- */

static struct roundlab_config draw(struct sim *sim)
{
    struct prng *prng = &sim->prng;
    struct roundlab_config config = {.seed = sim->options.seed,
                                     .retries = TIDE_LEADER_RETRIES,
                                     .silent = !sim->options.trace,
                                     .fate = fate,
                                     .context = sim};
    unsigned drawn = 2 + (unsigned)prng_below(prng, 4);
    sim->options.members = sim->options.members == 0 ? drawn : sim->options.members;
    config.members = sim->options.members;
    config.latency_us = 100 + prng_below(prng, 2000);
    policy_init(&config.policy);
    config.policy.interval_ms = 1000;
    if (sim->options.faults == SIM_FAULTS_NONE) {
        return config;
    }
    bool swarm = sim->options.faults == SIM_FAULTS_SWARM;
    config.jitter_us = prng_below(prng, 2) * prng_below(prng, swarm ? 20000 : 3000);
    config.loss_percent = (unsigned)(prng_below(prng, 2) * prng_below(prng, swarm ? 8 : 3));
    config.again_percent = (unsigned)(prng_below(prng, 2) * prng_below(prng, 20));
    config.policy.missing =
        prng_below(prng, 3) == 0 ? POLICY_MISSING_PARTIAL : POLICY_MISSING_STRICT;
    sim->kinds = 1U << FAULT_LINK | 1U << FAULT_TAKE;
    sim->often = 5;
    if (swarm) {
        config.policy.hold_us_max = 10000 + (uint32_t)prng_below(prng, 70000);
        config.hold_delay_us_max = (uint32_t)(prng_below(prng, 2) * prng_below(prng, 15000));
        sim->kinds = (unsigned)prng_below(prng, 1U << FAULTS);
        sim->often = 5 + (unsigned)prng_below(prng, 60);
        sim->stale = (sim->kinds & 1U << FAULT_STALE) != 0 ? 10 : 0;
    }
    return config;
}

static void step(struct sim *sim)
{
    roundlab_run(sim->lab, roundlab_now(sim->lab) + 1 + prng_below(&sim->prng, 2 * STEP_US));
    mend(sim, roundlab_now(sim->lab));
    sim_far_step(sim, 12);
}

/* Whoever reads now, and has never read before, gets the same answers. */
struct check_count sim_judge(struct sim *sim)
{
    struct align *align = new_reader(sim, TIDE_ALIGN_ROUNDS_MAX);
    define_reader(sim, align, 0);
    if (sim->far != NULL) {
        check_answers(sim->check, roundlab_now(sim->lab), sim->far);
    }
    for (unsigned d = 0; d < sim->options.members * ROUNDLAB_DISKS; d++) {
        size_t at = 0;
        check_clock(sim->check, d, roundlab_clock(sim->lab, d / ROUNDLAB_DISKS));
        read_on(sim, align, d, &at, SIZE_MAX);
    }
    struct check_count count = check_end(sim->check, roundlab_now(sim->lab), align);
    align_free(align);
    return count;
}

void sim_close(struct sim *sim, struct sim_result *ret)
{
    const char *text = roundlab_text(sim->lab);
    ret->trace = strdup(text);
    TIDE_CHECK(ret->trace != NULL);
    ret->digest = check_digest(sim->check);
    align_free(sim->far);
    faults_free(sim);
    check_free(sim->check);
    roundlab_free(sim->lab);
    free(sim);
}

static bool live_phase(struct sim *sim, struct sim_result *ret)
{
    uint64_t from_us = roundlab_now(sim->lab);
    end_faults(sim);
    while (roundlab_now(sim->lab) < from_us + SIM_LIVE_US && check_failure(sim->check) == NULL) {
        step(sim);
        if (check_points(sim->check, from_us, UINT64_MAX, true) >= SIM_LIVE_POINTS) {
            ret->live_us = roundlab_now(sim->lab) - from_us;
            roundlab_run(sim->lab, roundlab_now(sim->lab) + 2 * SYNC_US); /* all can be read */
            return true;
        }
    }
    return false;
}

void sim_open(struct sim *sim, const struct roundlab_config *config)
{
    sim->lab = roundlab_new(config);
    sim->check = check_new(roundlab_definition(sim->lab));
    sim->hostile = hostile_new(sim->lab, sim->check, sim->options.seed);
    if (config->policy.missing == POLICY_MISSING_STRICT) {
        check_strict(sim->check);
    }
    const struct roundlab_watch watch = {.record = saw_record,
                                         .write = saw_write,
                                         .let_go = saw_let_go,
                                         .message = saw_message,
                                         .defined = saw_defined,
                                         .context = sim};
    roundlab_onlook(sim->lab, &watch);
}

struct sim_result sim_run(const struct sim_options *options)
{
    struct sim_result ret = {.verdict = SIM_GOOD};
    struct sim *sim = calloc(1, sizeof *sim);
    TIDE_CHECK(sim != NULL);
    sim->options = *options;
    prng_init(&sim->prng, options->seed);
    struct roundlab_config config = draw(sim);
    sim_open(sim, &config);
    if ((sim->kinds & 1U << FAULT_DEFINE) != 0) {
        sim_mesh(sim);
    }
    roundlab_tokens(sim->lab, TOKENS, 8000);
    while (roundlab_now(sim->lab) < (uint64_t)options->rounds * SECOND_US &&
           check_failure(sim->check) == NULL) {
        step(sim);
        disturb(sim);
    }
    bool live = live_phase(sim, &ret);
    ret.count = sim_judge(sim);
    const char *failure = check_failure(sim->check);
    if (failure != NULL) {
        ret.verdict = SIM_UNSAFE;
        snprintf(ret.failure, sizeof ret.failure, "%s", failure);
    } else if (!live) {
        ret.verdict = SIM_NOT_LIVE;
        snprintf(ret.failure, sizeof ret.failure,
                 "live: %u full points within %u s after the last fault, of %u due",
                 check_points(sim->check, roundlab_now(sim->lab) - SIM_LIVE_US, UINT64_MAX, true),
                 SIM_LIVE_US / SECOND_US, SIM_LIVE_POINTS);
    }
    sim_close(sim, &ret);
    return ret;
}
