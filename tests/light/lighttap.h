/* SPDX-License-Identifier: Apache-2.0 */
/* lighttap: a tap without a disk: the real gate (participant/core/gate.h) and, in memory, the
 * records that a tap would append; every record has been through its bytes. It answers orders at
 * once: what a real tap syncs first is synced here as soon as it is appended. One thread. */
#ifndef TIDE_TESTS_LIGHT_LIGHTTAP_H
#define TIDE_TESTS_LIGHT_LIGHTTAP_H

#include "common/core/definition.h"
#include "common/core/tapctl.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"

#define LIGHTTAP_ANSWERS_MAX 2U /* of one order: SEALED of a hold that ran out, then its own */

struct lighttap;

/* Attached, whole, with ATTACH as its first record. Aborts without memory. */
struct lighttap *lighttap_new(const struct definition_disk *disk, uint32_t cap_us);
void lighttap_free(struct lighttap *tap); /* takes NULL */

/* HOLD, RELEASE or ABORT. Returns how many answers there are. */
unsigned lighttap_order(struct lighttap *tap, const struct tapctl *order, uint64_t now_us,
                        struct tapctl ret[LIGHTTAP_ANSWERS_MAX]);
/* No later than lighttap_wake_us() (UINT64_MAX: no need): a hold that ran out is let go. */
unsigned lighttap_tick(struct lighttap *tap, uint64_t now_us,
                       struct tapctl ret[LIGHTTAP_ANSWERS_MAX]);
uint64_t lighttap_wake_us(const struct lighttap *tap);

/* A write of 4 KiB: its LSN. *ret_ticket is 0 where it is acknowledged at once, else it waits for
 * that hold. Tick first, at that time. The write's record is not kept: alignment passes over it. */
uint64_t lighttap_write(struct lighttap *tap, uint64_t now_us, uint64_t *ret_ticket);
bool lighttap_holding(const struct lighttap *tap, uint64_t ticket);

uint64_t lighttap_incarnation(const struct lighttap *tap);
/* Attach, bookmarks and seals, in order. */
const struct record *lighttap_records(const struct lighttap *tap, size_t *ret_count);

#endif
