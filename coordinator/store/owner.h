/* SPDX-License-Identifier: Apache-2.0 */
/* owner: who has a store open for writing: one process, which holds a lock on STORE/owner.json and
 * has written there who it is. */
#ifndef TIDE_COORDINATOR_STORE_OWNER_H
#define TIDE_COORDINATOR_STORE_OWNER_H

#include "common/core/err.h"

/* The descriptor that holds the lock, until it is closed; -1:
 *   CONFLICT  another process has it (the text names the store)
 *   NOT_FOUND, IO, LIMIT (the path is too long) */
int owner_lock(const char *store, struct err *err);

#endif
