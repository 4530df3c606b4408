/* SPDX-License-Identifier: Apache-2.0 */
/* hrl_align: `tidemark hrl align`: the reader's rule over a folder of segments, of a store or of
 * any other origin. */
#ifndef TIDE_COORDINATOR_CLI_HRL_ALIGN_H
#define TIDE_COORDINATOR_CLI_HRL_ALIGN_H

#include "coordinator/cli/cli.h"

/* Takes all segments (*.hrl) under the folder, with the definitions (definitions/GROUP/EPOCH.pb)
 * that are there, and prints what each round is. Exit status 0: everything could be read, whatever
 * the answers; what could not is told on standard error, and the first of it is the status. */
int hrl_align(char *path, enum cli_output output);

#endif
