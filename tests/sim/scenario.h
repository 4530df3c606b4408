/* SPDX-License-Identifier: Apache-2.0 */
/* scenario: a run by script instead of by seed. One statement a line, `#` to the line's end is a
 * comment; the statements and what they mean stand in tests/sim/README.md. */
#ifndef TIDE_TESTS_SIM_SCENARIO_H
#define TIDE_TESTS_SIM_SCENARIO_H

#include "common/core/err.h"
#include "tests/sim/sim.h"

/* Runs the text; 0. CORRUPT, and nothing has run: a line is no statement; the text names line, word
 * and what it may be. An expectation that is not met is verdict NOT_LIVE, what a checker finds is
 * UNSAFE. */
int scenario_run(const char *text, struct sim_result *ret, struct err *err);

#endif
