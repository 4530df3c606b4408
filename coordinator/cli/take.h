/* SPDX-License-Identifier: Apache-2.0 */
/* take: `tidemark point take [--local PATH] [--group G] [--kind crash] [--wait sealed|stored]
 * [--timeout S] [-o table|json]`: asks the participant on this machine for a round now. */
#ifndef TIDE_COORDINATOR_CLI_TAKE_H
#define TIDE_COORDINATOR_CLI_TAKE_H

/* argv[0] is "tidemark point take". Exit status 0: sealed by all (and stored, if asked); 1: the
 * round came to nothing, standard error says why; others as cli.h. */
int take_run(int argc, char **argv);

#endif
