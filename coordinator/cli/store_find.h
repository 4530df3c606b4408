/* SPDX-License-Identifier: Apache-2.0 */
/* store_find: the store that a command means, and its keys: as its options say, else what the
 * coordinator on this machine has. */
#ifndef TIDE_COORDINATOR_CLI_STORE_FIND_H
#define TIDE_COORDINATOR_CLI_STORE_FIND_H

#include <limits.h>

#include "coordinator/store/keyring.h"

/* store, master_key: the options, or NULL; local: the coordinator's socket. *ret_keyring is NULL
 * where there is no master key; else to be closed with keyring_close(). UNREACHABLE: no --store was
 * given, and the coordinator does not answer; the errors of keyring_open(). */
int store_find(const char *store, const char *master_key, const char *local,
               char ret_store[PATH_MAX], struct keyring **ret_keyring, struct err *err);

#endif
