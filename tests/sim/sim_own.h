/* SPDX-License-Identifier: Apache-2.0 */
/* sim_own: what sim and scenario share of a run; nobody else includes it. */
#ifndef TIDE_TESTS_SIM_SIM_OWN_H
#define TIDE_TESTS_SIM_SIM_OWN_H

#include "common/core/prng.h"
#include "tests/lib/roundlab.h"
#include "tests/sim/data.h"
#include "tests/sim/sim.h"

#define DISKS_MAX  (SIM_MEMBERS_MAX * ROUNDLAB_DISKS)
#define CANDIDATES 3U /* that may lead; the others link to these alone */

struct sim {
    struct sim_options options;
    struct roundlab *lab;
    struct check *check;
    struct prng prng;
    struct data_config disks; /* log_files 0: drawn */
    unsigned kinds;           /* bits of enum fault */
    unsigned often;           /* percent of steps with a fault */
    unsigned stale;           /* percent of HOLD messages */
    unsigned forged;          /* percent of HELD messages that a forged RELEASE or ABORT answers */
    struct data *data;
    /* When each fault ends; 0: there is none. */
    uint64_t far_back_us;
    uint64_t link_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t lost_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t slow_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t daemon_us[SIM_MEMBERS_MAX];
    uint64_t tap_us[DISKS_MAX];
    uint64_t copy_us[DISKS_MAX];
    uint64_t image_us[DISKS_MAX]; /* its writes fail */
    uint64_t log_us[DISKS_MAX];   /* its writes or syncs fail */
};

/* Lab, disks, checkers and an onlooker that tells them; context of the config is the sim. */
void sim_open(struct sim *sim, struct roundlab_config *config);
/* Frees all, sim too, and sets trace and digest. */
void sim_close(struct sim *sim, struct sim_result *ret);

bool sim_may_link(unsigned a, unsigned b);

/* The far side, where it is not away, is asked for its answers. */
void sim_far_step(struct sim *sim);
void sim_power(struct sim *sim, unsigned member); /* its machine loses power: daemon and taps too */

/* Whoever reads now, and has never read before, gets the same answers. */
struct check_count sim_judge(struct sim *sim);

#endif
