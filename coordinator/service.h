/* SPDX-License-Identifier: Apache-2.0 */
/* service: the coordinator's parts put together: store, catalog, registry, points, 9443, and the
 * local commands (on libnng's threads, handed to the loop): group-apply {group}, group-list,
 * point-list {group, limit}, point-show {point}, round-list {group, limit}, store. */
#ifndef TIDE_COORDINATOR_SERVICE_H
#define TIDE_COORDINATOR_SERVICE_H

#include "common/core/err.h"
#include "coordinator/settings.h"

/* Runs until SIGTERM or SIGINT. 0 after an orderly end; -1: it could not start, or ended by an
 * error. Nothing that was answered as stored needs an orderly end. */
int service_run(const struct settings *settings, struct err *err);

#endif
