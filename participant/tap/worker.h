/* SPDX-License-Identifier: Apache-2.0 */
/* worker: the thread that does what the control thread must not wait for: appends and syncs seals,
 * syncs on request, and tells the controller what it did not ask for. */
#ifndef TIDE_PARTICIPANT_TAP_WORKER_H
#define TIDE_PARTICIPANT_TAP_WORKER_H

#include "participant/tap/tap.h"

void *worker_main(void *tap); /* ends on TAP_WORK_STOP, a due seal done */

/* Queues an order that syncs or waits; false where another is under way. */
bool worker_order(struct tap *tap, const struct tap_order *order);

/* Queues a SYNC; false where TIDE_TAP_SYNCS_MAX wait already. */
bool worker_sync(struct tap *tap, uint64_t lsn, uint32_t serial, uint64_t session);

#endif
