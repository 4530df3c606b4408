/* SPDX-License-Identifier: Apache-2.0 */
/* verify: whether a round is a recovery point and its members attest it, from what align says of
 * the streams, the definition and the members' statements. Pure: who signed a statement is for the
 * caller to find out (common/io/trust), as is that the streams are whole and in order. What a yes
 * means, and what not: proto/certificate.md.
 *
 * Everything returns 0, or -1 with FAILED and the first thing that is wrong: which, its value, what
 * was expected, what to do. */
#ifndef TIDE_COORDINATOR_CORE_VERIFY_H
#define TIDE_COORDINATOR_CORE_VERIFY_H

#include "common/core/definition.h"
#include "common/core/statement.h"
#include "coordinator/core/align.h"

/* That `definition` is the one that the bookmarks name: epoch number and hash, group, number
 * of disks. Its hash is that of its bytes (intake_definition_decode()). */
int verify_definition(const struct round_order *order, const struct definition *definition,
                      struct err *err);

/* That the rule says yes: `round` was judged with `definition`. */
int verify_round(const struct align_round *round, const struct definition *definition,
                 struct err *err);

/* That a statement is about this round, by that member, and says of each of its disks exactly what
 * bookmark and seal say. `round` passed verify_round(). `signer`: the URI name of the certificate
 * whose key signed it. */
int verify_statement(const struct align_round *round, const struct definition *definition,
                     unsigned member, const struct statement *statement, const char *signer,
                     struct err *err);

#endif
