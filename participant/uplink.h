/* SPDX-License-Identifier: Apache-2.0 */
/* uplink: the participant's requests to the coordinator on 9443 (common/wire/intake.h has the
 * objects). One uplink a thread; uplink_abort() is for any. Every call blocks within a deadline. */
#ifndef TIDE_PARTICIPANT_UPLINK_H
#define TIDE_PARTICIPANT_UPLINK_H

#include "common/core/err.h"
#include "common/io/tls.h"
#include "common/wire/intake.h"
#include "participant/settings.h"
#include "participant/throttle.h"

#define UPLINK_TIMEOUT_MS     10000U
#define UPLINK_PUT_TIMEOUT_MS 60000U /* more where the bandwidth is limited */

struct uplink;

/* `identity` and `settings` must outlive it. LIMIT: no memory. */
int uplink_new(const struct tls_identity *identity, const struct settings *settings,
               struct uplink **ret, struct err *err);
void uplink_free(struct uplink *uplink); /* takes NULL */
void uplink_abort(struct uplink *uplink);
/* The bodies of uplink_put() are paced by it; *limited says whether one waits for that now. Both
 * must outlive it. */
void uplink_set_throttle(struct uplink *uplink, struct throttle *throttle, atomic_bool *limited);

/* Errors of all: UNREACHABLE, DENIED (no connection, handshake); BUSY (aborted, or the coordinator
 * says: try again); NOT_FOUND, DENIED, CONFLICT, CORRUPT, LIMIT, FULL, FAILED as the coordinator
 * answered, with its text; CORRUPT also for an answer that breaks the form. */
int uplink_stream(struct uplink *uplink, const struct id *stream, struct intake_stream_state *ret,
                  struct err *err);
/* BUSY also while the coordinator makes the disk at that LSN. *ret is large: not on a stack. */
int uplink_hashes(struct uplink *uplink, const struct id *stream,
                  const struct intake_hashes_query *query, struct intake_block_hashes *ret,
                  struct err *err);
int uplink_put(struct uplink *uplink, const struct id *stream, uint64_t first_lsn,
               const void *bytes, size_t size, struct intake_stream_state *ret, struct err *err);
int uplink_point(struct uplink *uplink, const struct id *round, struct intake_point_state *ret,
                 struct err *err);
/* *ret_bytes: the answer as stored bytes of Definitions, to be freed. */
int uplink_register(struct uplink *uplink, const struct intake_register *registration,
                    uint8_t **ret_bytes, size_t *ret_size, struct err *err);
/* Returns when something other than `have` is there, or after wait_s: then `have` again. */
int uplink_definitions(struct uplink *uplink, const struct hash *have, unsigned wait_s,
                       uint8_t **ret_bytes, size_t *ret_size, struct err *err);

#endif
