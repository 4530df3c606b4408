/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/faults.h"

#include "common/core/check.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_US      1000000U
#define DRIFT_PPM      500
#define HOSTILE_ROUNDS 30U
#define IN_ROUND_US    15000U /* a round takes less than that, mostly */
#define EPOCHS_MOST    (ROUNDLAB_EPOCHS_MAX - 4)

/* ---- daemons that pause, clocks ---- */

void faults_pause(struct sim *sim, unsigned member, uint64_t until_us)
{
    roundlab_pause(sim->lab, member);
    sim->pause_us[member] = until_us;
}

void sim_jump(struct sim *sim, unsigned member, uint64_t forward_us)
{
    roundlab_clock_jump(sim->lab, member, forward_us);
    for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
        check_clock_jump(sim->check, member * ROUNDLAB_DISKS + d, forward_us);
    }
}

void faults_clock(struct sim *sim, unsigned member, uint64_t until_us)
{
    uint64_t forward_us = 1000 + prng_below(&sim->prng, 5 * SECOND_US);
    switch (prng_below(&sim->prng, 3)) {
    case 0:
        roundlab_clock_rate(sim->lab, member,
                            (int32_t)prng_below(&sim->prng, 2 * DRIFT_PPM + 1) - DRIFT_PPM);
        break;
    case 1:
        sim_jump(sim, member, forward_us);
        break;
    default:
        roundlab_clock_stand(sim->lab, member);
        break;
    }
    sim->clock_us[member] = until_us;
}

/* ---- all at once ---- */

void faults_cold(struct sim *sim)
{
    uint64_t now_us = roundlab_now(sim->lab);
    for (unsigned m = 0; m < sim->options.members; m++) {
        if (sim->daemon_us[m] == 0) {
            sim_stop(sim, m);
        }
        sim->daemon_us[m] = now_us + 1 + prng_below(&sim->prng, 3 * SECOND_US);
        for (unsigned d = m * ROUNDLAB_DISKS; d < (m + 1) * ROUNDLAB_DISKS; d++) {
            roundlab_tap_stop(sim->lab, m, d % ROUNDLAB_DISKS);
            sim->tap_us[d] = now_us + 1 + prng_below(&sim->prng, 3 * SECOND_US);
        }
    }
}

/* ---- definitions ---- */

void sim_issue(struct sim *sim)
{
    const struct definition *definition = roundlab_issue(sim->lab, sim->in);
    check_define(sim->check, definition);
}

static void draw_members(struct sim *sim)
{
    bool any = false;
    for (unsigned m = 0; m < sim->options.members; m++) {
        bool in = prng_below(&sim->prng, 4) != 0;
        unsigned least = (unsigned)prng_below(&sim->prng, ROUNDLAB_DISKS);
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            sim->in[m * ROUNDLAB_DISKS + d] = in && (d == least || prng_below(&sim->prng, 4) != 0);
        }
        any |= in;
    }
    if (!any) {
        memset(sim->in, 1, sizeof sim->in);
    }
}

/* Another definition, which comes to the daemons one by one. */
void faults_define(struct sim *sim)
{
    if (roundlab_newest(sim->lab)->epoch.number >= EPOCHS_MOST) {
        return;
    }
    draw_members(sim);
    sim_issue(sim);
    for (unsigned m = 0; m < sim->options.members; m++) {
        roundlab_define_later(sim->lab, m, prng_below(&sim->prng, 2 * SECOND_US));
    }
}

/* ---- liars ---- */

void faults_hostile(struct sim *sim)
{
    hostile_begin(sim->hostile, HOSTILE_ROUNDS);
}

void faults_keep(struct sim *sim, unsigned from, unsigned to, const struct msg *msg)
{
    bool round = msg->type == MSG_HOLD || msg->type == MSG_HELD || msg->type == MSG_REFUSED ||
                 msg->type == MSG_RELEASE || msg->type == MSG_ABORT || msg->type == MSG_SEALED;
    if (!round) {
        return;
    }
    struct kept *kept = &sim->kept[sim->kept_next++ % KEPT_MAX];
    free(kept->msg);
    kept->msg = malloc(sizeof *kept->msg);
    TIDE_CHECK(kept->msg != NULL);
    memcpy(kept->msg, msg, msg_size(msg->type));
    kept->from = from;
    kept->to = to;
}

void faults_in_round(struct sim *sim, unsigned from, unsigned to, const struct msg *msg)
{
    unsigned ignored;
    if (msg->type == MSG_HOLD &&
        roundlab_known(sim->lab, to, &ignored) != roundlab_newest(sim->lab)) {
        roundlab_define_later(sim->lab, to, prng_below(&sim->prng, IN_ROUND_US));
    }
    for (unsigned i = 0; i < KEPT_MAX && msg->type == MSG_HELD; i++) {
        const struct kept *kept = &sim->kept[i];
        if (kept->msg != NULL && kept->from == to && kept->to == from &&
            prng_below(&sim->prng, KEPT_MAX) == 0) {
            roundlab_repeat(sim->lab, to, from, kept->msg);
        }
    }
}

void faults_replay(struct sim *sim)
{
    const struct kept *kept = &sim->kept[prng_below(&sim->prng, KEPT_MAX)];
    if (kept->msg != NULL) {
        roundlab_repeat(sim->lab, kept->from, kept->to, kept->msg);
    }
}

/* ---- the end of each ---- */

static bool over(uint64_t *until_us, uint64_t now_us)
{
    if (*until_us == 0 || *until_us > now_us) {
        return false;
    }
    *until_us = 0;
    return true;
}

void faults_mend(struct sim *sim, uint64_t now_us)
{
    for (unsigned m = 0; m < sim->options.members; m++) {
        if (over(&sim->clock_us[m], now_us)) {
            roundlab_clock_rate(sim->lab, m, 0);
        }
        if (over(&sim->pause_us[m], now_us)) {
            roundlab_continue(sim->lab, m);
        }
    }
}

void faults_free(struct sim *sim)
{
    hostile_free(sim->hostile);
    for (unsigned i = 0; i < KEPT_MAX; i++) {
        free(sim->kept[i].msg);
    }
}
