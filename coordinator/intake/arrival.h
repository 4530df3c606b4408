/* SPDX-License-Identifier: Apache-2.0 */
/* arrival: one segment on its way from a PUT into the store, and what its coming makes due: staged
 * ones that follow it. The blocking part, for the pool: arrival_check() of several segments of a
 * stream may run at once, arrival_store() of one stream's only one after the other, so that what
 * their ends feed to the alignment is in the stream's order. */
#ifndef TIDE_COORDINATOR_INTAKE_ARRIVAL_H
#define TIDE_COORDINATOR_INTAKE_ARRIVAL_H

#include "common/hrl/record.h"
#include "coordinator/store/store.h"

struct arrival {
    struct store *store;          /* not owned */
    struct manifest_stream about; /* the stream as it is registered; stays as it is */
    uint64_t first;               /* LSN, as the path says */
    uint8_t *bytes;               /* heap, owned, as what follows */
    size_t size;
    struct manifest_segment segment; /* once checked */
    enum store_put result;           /* once stored */
    struct store_stream_state state; /* where the stream is then, staged ones that followed too */
    struct record *records;          /* of all that were taken, in order: for points_feed() */
    size_t record_count;
    struct err err; /* code OK: taken, staged or known */
};

/* Verifies bytes against the path, and extracts the records that matter. Sets err. */
void arrival_check(struct arrival *arrival);
/* If err is OK: stores it, then the staged ones that follow; sets result, state, records, err. */
void arrival_store(struct arrival *arrival);
void arrival_close(struct arrival *arrival); /* frees what it owns */

#endif
