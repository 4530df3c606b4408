/* SPDX-License-Identifier: Apache-2.0 */
/* disk_check: the verb `tidemark disk check IMAGE`: may the image be used without its log? */
#ifndef TIDE_COORDINATOR_CLI_DISK_CHECK_H
#define TIDE_COORDINATOR_CLI_DISK_CHECK_H

int disk_check_run(int argc, char **argv); /* a cli_verb's run */

#endif
