/* SPDX-License-Identifier: Apache-2.0 */
/* cut: the hash over exactly the bookmarks that a round counted. Apart from the words of round.h,
 * so that the tap, which needs only those, links no hash. Comes with round.h. */
#ifndef TIDE_COMMON_CORE_CUT_H
#define TIDE_COMMON_CORE_CUT_H

#include "common/core/round.h"

/* The cut hash H of protocol.md:
 *   SHA-256("tidemark cut 1" without NUL | round 16 | epoch number u64 | epoch hash 32 | scope u8 |
 *           set count u16 | set bits (count+7)/8 | kind u8 | marks u32 |
 *           per mark, sorted by (stream, incarnation, lsn, nonce): stream 16 | incarnation u64 |
 *           lsn u64 | nonce 16)
 * integers little-endian. `marks` may be in any order and is not changed; at most TIDE_DISKS_MAX.
 * The group is not in it: the epoch's hash covers the definition, which names the group. */
struct hash round_cut_hash(const struct round_order *order, const struct round_mark *marks,
                           size_t count);

#endif
