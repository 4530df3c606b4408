/* SPDX-License-Identifier: Apache-2.0 */
/* sim_own: what sim and scenario share of a run; nobody else includes it. */
#ifndef TIDE_TESTS_SIM_SIM_OWN_H
#define TIDE_TESTS_SIM_SIM_OWN_H

#include "common/core/prng.h"
#include "tests/lib/roundlab.h"
#include "tests/sim/data.h"
#include "tests/sim/hostile.h"
#include "tests/sim/sim.h"

#define DISKS_MAX  (SIM_MEMBERS_MAX * ROUNDLAB_DISKS)
#define CANDIDATES 3U  /* that may lead; the others link to these alone */
#define KEPT_MAX   32U /* messages that may come once more */

struct kept {
    struct msg *msg; /* owned, as much of it as its type uses */
    unsigned from;
    unsigned to;
};

struct sim {
    struct sim_options options;
    struct roundlab *lab;
    struct check *check;
    struct prng prng;
    unsigned kinds;           /* bits of enum fault */
    unsigned often;           /* percent of steps with a fault */
    unsigned stale;           /* percent of HOLD messages */
    struct data_config disks; /* log_files 0: drawn */
    struct data *data;
    unsigned far_looks; /* at its answers, so far */
    bool mesh;          /* all are linked to all */
    bool in[DISKS_MAX]; /* disks of the newest definition */
    struct hostile *hostile;
    struct kept kept[KEPT_MAX];
    unsigned kept_next;
    /* When each fault ends; 0: there is none. */
    uint64_t far_back_us;
    uint64_t link_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t lost_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t slow_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    uint64_t daemon_us[SIM_MEMBERS_MAX];
    uint64_t pause_us[SIM_MEMBERS_MAX];
    uint64_t clock_us[SIM_MEMBERS_MAX];
    uint64_t tap_us[DISKS_MAX];
    uint64_t copy_us[DISKS_MAX];
    uint64_t image_us[DISKS_MAX]; /* its writes fail */
    uint64_t log_us[DISKS_MAX];   /* its writes or syncs fail */
};

/* Lab, disks, checkers and an onlooker that tells them; context of the config is the sim. */
void sim_open(struct sim *sim, struct roundlab_config *config);
/* Frees all, sim too, and sets trace and digest. */
void sim_close(struct sim *sim, struct sim_result *ret);

bool sim_may_link(const struct sim *sim, unsigned a, unsigned b);

/* From here on all are linked to all, so that others may lead in a later definition. */
void sim_mesh(struct sim *sim);
/* Issues the definition of the disks in sim->in; nobody has it yet but the far side. */
void sim_issue(struct sim *sim);
/* Its clock goes on at a later time. */
void sim_jump(struct sim *sim, unsigned member, uint64_t forward_us);
/* Its daemon is killed. */
void sim_stop(struct sim *sim, unsigned member);

/* Its machine loses power: daemon and taps too. */
void sim_power(struct sim *sim, unsigned member);

/* The far side, where it is not away, is asked for its answers. */
void sim_far_step(struct sim *sim);

/* Whoever reads now, and has never read before, gets the same answers. */
struct check_count sim_judge(struct sim *sim);

#endif
