/* SPDX-License-Identifier: Apache-2.0 */
/* point_verify: `tidemark point verify POINT --store DIR --ca FILE [--definition FILE]
 * [-o table|json]`: judges a point from files alone, with no daemon and no network. */
#ifndef TIDE_COORDINATOR_CLI_POINT_VERIFY_H
#define TIDE_COORDINATOR_CLI_POINT_VERIFY_H

/* argv[0] is "tidemark point verify". Exit status 0: yes; 1: no, or not attested, standard error
 * says the first thing wrong; others as cli.h: what was given could not be read. */
int point_verify_run(int argc, char **argv);

#endif
