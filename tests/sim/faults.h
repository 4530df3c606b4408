/* SPDX-License-Identifier: Apache-2.0 */
/* faults: of daemons, clocks, definitions and messages, for sim.c, which draws when. */
#ifndef TIDE_TESTS_SIM_FAULTS_H
#define TIDE_TESTS_SIM_FAULTS_H

#include "tests/sim/sim_own.h"

/* A daemon runs on then, or its clock goes right again. */
void faults_pause(struct sim *sim, unsigned member, uint64_t until_us);
void faults_clock(struct sim *sim, unsigned member, uint64_t until_us);
void faults_cold(struct sim *sim); /* every daemon and tap is killed; they come back one by one */
void faults_define(struct sim *sim);
void faults_hostile(struct sim *sim);
/* Keeps a message of a round; one of the last is delivered once more. */
void faults_keep(struct sim *sim, unsigned from, unsigned to, const struct msg *msg);
void faults_replay(struct sim *sim);
/* A message comes: what is due may come now, in mid-round: a definition, another message. */
void faults_in_round(struct sim *sim, unsigned from, unsigned to, const struct msg *msg);

void faults_mend(struct sim *sim, uint64_t now_us); /* ends those whose time is over */
void faults_free(struct sim *sim);

#endif
