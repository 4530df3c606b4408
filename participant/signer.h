/* SPDX-License-Identifier: Apache-2.0 */
/* signer: makes a member's attestations (common/wire/certificate.h) on a thread of its own, since
 * a signature takes longer than the hold path may wait. Attestations are evidence beside a round,
 * never part of it: where the queue is full or one cannot be made, it is counted and left out. */
#ifndef TIDE_PARTICIPANT_SIGNER_H
#define TIDE_PARTICIPANT_SIGNER_H

#include "common/core/statement.h"
#include "common/core/tapctl.h"
#include "common/io/tls.h"

#define SIGNER_QUEUE_MAX 16U

/* Called on the signer's thread with the ATTEST for the tap of disk `disk` (settings' index). */
typedef void signer_fn(void *arg, unsigned disk, const struct tapctl_attest *attest);

struct signer;

/* `identity` must outlive it. Aborts without memory or threads. */
struct signer *signer_new(const struct tls_identity *identity, signer_fn *fn, void *arg);
/* Any thread, never blocks for more than a copy. Fills wall_ns. */
void signer_put(struct signer *signer, unsigned disk, const struct statement *statement);
uint64_t signer_lost(struct signer *signer); /* left out so far */
/* Ends the thread (what is queued is dropped) and frees; takes NULL. */
void signer_free(struct signer *signer);

#endif
