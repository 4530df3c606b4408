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
#define THINK_US   20000U
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
    FAULT_POWER,    /* a machine loses power: daemon and taps die, what was not synced is drawn */
    FAULT_LOG,      /* a log's writes or syncs fail for a time, or until its tap is started anew */
    FAULT_IMAGE,    /* an image's writes fail for a time */
    FAULTS,
};

/* ---- looking on ---- */

static void saw_record(void *context, unsigned disk, const struct record *record)
{
    struct sim *sim = context;
    check_clock(sim->check, disk, roundlab_clock(sim->lab, disk / ROUNDLAB_DISKS));
    data_record(sim->data, disk, record);
    check_record(sim->check, roundlab_now(sim->lab), disk, record);
    hostile_saw_record(sim->hostile, disk, record);
}

static void saw_write(void *context, unsigned disk, uint64_t lsn, int token, bool has_cause)
{
    struct sim *sim = context;
    check_write(sim->check, disk, lsn, token, has_cause);
    hostile_saw_write(sim->hostile);
}

static void saw_cut(void *context, unsigned disk, uint64_t lsn)
{
    struct sim *sim = context;
    data_cut(sim->data, disk, lsn);
    check_cut(sim->check, roundlab_now(sim->lab), disk, lsn);
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

/* It is back where its time has come, hears of definitions, and is asked for its answers. */
void sim_far_step(struct sim *sim)
{
    if (data_align(sim->data) == NULL && roundlab_now(sim->lab) >= sim->far_back_us) {
        data_far(sim->data, true);
    }
    if (data_align(sim->data) == NULL) {
        return;
    }
    if (prng_below(&sim->prng, 4) == 0) {
        data_define(sim->data);
    }
    data_step(sim->data);
    if (sim->far_looks++ % LOOK_EVERY == 0) {
        check_answers(sim->check, roundlab_now(sim->lab), data_align(sim->data));
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

void sim_power(struct sim *sim, unsigned member)
{
    for (unsigned i = 0; i < ROUNDLAB_DISKS; i++) {
        roundlab_tap_stop(sim->lab, member, i);
    }
    if (sim->daemon_us[member] == 0) {
        sim_stop(sim, member);
    }
    data_power(sim->data, member);
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
        data_far(sim->data, false);
        sim->far_back_us = until_us;
        break;
    case FAULT_POWER:
        sim_power(sim, a);
        sim->daemon_us[a] = until_us;
        for (unsigned i = 0; i < ROUNDLAB_DISKS; i++) {
            sim->tap_us[a * ROUNDLAB_DISKS + i] = until_us;
        }
        break;
    case FAULT_LOG:
        data_fail(sim->data, flat,
                  prng_below(&sim->prng, 2) == 0 ? SIMTAP_LOG_WRITES : SIMTAP_LOG_SYNCS, true);
        sim->log_us[flat] = until_us;
        break;
    case FAULT_IMAGE:
        data_fail(sim->data, flat, SIMTAP_IMAGE_WRITES, true);
        sim->image_us[flat] = roundlab_now(sim->lab) + 1 + prng_below(&sim->prng, 20000);
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
        data_reread(sim->data, &sim->prng);
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

/* A log that failed gets a new tap, a disk that is not whole a copy. */
static void mend_disk(struct sim *sim, unsigned d, uint64_t now_us)
{
    unsigned member = d / ROUNDLAB_DISKS;
    unsigned disk = d % ROUNDLAB_DISKS;
    uint64_t at_us = roundlab_now(sim->lab);
    if (sim->tap_us[d] != 0) {
        return;
    }
    if (data_log_failed(sim->data, d)) {
        roundlab_tap_stop(sim->lab, member, disk);
        sim->tap_us[d] = at_us + 1 + prng_below(&sim->prng, SECOND_US);
    } else if (data_copy_due(sim->data, d) && sim->copy_us[d] == 0) {
        sim->copy_us[d] = at_us + 1 + prng_below(&sim->prng, SECOND_US);
    } else if (over(&sim->copy_us[d], now_us)) {
        roundlab_tap_copy(sim->lab, member, disk);
    }
}

static void mend_disks(struct sim *sim, uint64_t now_us)
{
    for (unsigned d = 0; d < sim->options.members * ROUNDLAB_DISKS; d++) {
        if (over(&sim->tap_us[d], now_us)) {
            roundlab_tap_start(sim->lab, d / ROUNDLAB_DISKS, d % ROUNDLAB_DISKS);
        }
        if (over(&sim->image_us[d], now_us)) {
            data_fail(sim->data, d, SIMTAP_IMAGE_WRITES, false);
        }
        if (over(&sim->log_us[d], now_us)) {
            data_fail(sim->data, d, SIMTAP_LOG_WRITES, false);
            data_fail(sim->data, d, SIMTAP_LOG_SYNCS, false);
        }
        mend_disk(sim, d, now_us);
    }
}

/* Ends the faults whose time is over. */
static void mend(struct sim *sim, uint64_t now_us)
{
    mend_disks(sim, now_us);
    if (sim->options.faults == SIM_FAULTS_NONE) {
        return;
    }
    faults_mend(sim, now_us);
    for (unsigned m = 0; m < sim->options.members; m++) {
        if (over(&sim->daemon_us[m], now_us)) {
            roundlab_start(sim->lab, m);
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
    sim_far_step(sim);
}

/* Whoever reads now, and has never read before, gets the same answers. */
struct check_count sim_judge(struct sim *sim)
{
    if (data_align(sim->data) != NULL) {
        check_answers(sim->check, roundlab_now(sim->lab), data_align(sim->data));
    }
    for (unsigned d = 0; d < sim->options.members * ROUNDLAB_DISKS; d++) {
        check_clock(sim->check, d, roundlab_clock(sim->lab, d / ROUNDLAB_DISKS));
    }
    struct align *align = data_judge(sim->data);
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
    ret->compared = data_compared(sim->data);
    faults_free(sim);
    check_free(sim->check);
    data_free(sim->data);
    roundlab_free(sim->lab);
    free(sim);
}

/* Full ones that the far side knows, of rounds that began then or later. */
static unsigned far_points(const struct sim *sim, uint64_t from_us)
{
    const struct align *align = data_align(sim->data);
    unsigned points = 0;
    for (size_t i = 0; align != NULL && i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        points += round->answer == ROUND_ANSWER_YES && !round->partial &&
                  round->entries[0].wall_ns >= from_us * 1000;
    }
    return points;
}

static bool live_phase(struct sim *sim, struct sim_result *ret)
{
    uint64_t from_us = roundlab_now(sim->lab);
    end_faults(sim);
    while (roundlab_now(sim->lab) < from_us + SIM_LIVE_US && check_failure(sim->check) == NULL) {
        step(sim);
        if (check_points(sim->check, from_us, UINT64_MAX, true) >= SIM_LIVE_POINTS &&
            far_points(sim, from_us) >= SIM_LIVE_POINTS) {
            ret->live_us = roundlab_now(sim->lab) - from_us;
            return true;
        }
    }
    return false;
}

void sim_open(struct sim *sim, struct roundlab_config *config)
{
    if (sim->disks.log_files == 0) {
        unsigned more = DATA_LOG_FILES_MAX - DATA_LOG_FILES_MIN;
        sim->disks.log_files = DATA_LOG_FILES_MIN + (unsigned)prng_below(&sim->prng, more);
        sim->disks.log_file = DATA_LOG_FILE;
        sim->disks.based = sim->options.faults == SIM_FAULTS_SWARM;
    }
    sim->disks.listed = sim->options.listed;
    sim->data = data_new(config, &sim->disks);
    sim->lab = roundlab_new(config);
    sim->check = check_new(roundlab_definition(sim->lab));
    data_open(sim->data, sim->lab, sim->check);
    sim->hostile = hostile_new(sim->lab, sim->check, sim->options.seed);
    if (config->policy.missing == POLICY_MISSING_STRICT) {
        check_strict(sim->check);
    }
    const struct roundlab_watch watch = {.record = saw_record,
                                         .write = saw_write,
                                         .let_go = saw_let_go,
                                         .cut = saw_cut,
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
    roundlab_tokens(sim->lab, TOKENS, THINK_US);
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
