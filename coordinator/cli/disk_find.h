/* SPDX-License-Identifier: Apache-2.0 */
/* disk_find: which disk of a participant an operator means by "VM DISK". VM is a member's name, or
 * GROUP/MEMBER where the participant has that name in several groups. */
#ifndef TIDE_COORDINATOR_CLI_DISK_FIND_H
#define TIDE_COORDINATOR_CLI_DISK_FIND_H

#include <jansson.h>

#include "common/core/err.h"

/* Those of the status answer's disks that vm and disk (each may be NULL: any) name, in its order:
 * a new reference to an array, whose objects are the answer's. USAGE: vm or disk is no name, or vm
 * names members of several groups; NOT_FOUND: there is none (the text lists what there is). */
int disk_find(const json_t *status, const char *vm, const char *disk, json_t **ret,
              struct err *err);

#endif
