/* SPDX-License-Identifier: Apache-2.0 */
/* disk_replay: the verb `tidemark disk replay LOG-FOLDER IMAGE`: makes an image whole out of its
 * log while no tap runs, by a tap that is started and ended at once. */
#ifndef TIDE_COORDINATOR_CLI_DISK_REPLAY_H
#define TIDE_COORDINATOR_CLI_DISK_REPLAY_H

int disk_replay_run(int argc, char **argv); /* a cli_verb's run */

#endif
