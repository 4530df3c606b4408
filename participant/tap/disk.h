/* SPDX-License-Identifier: Apache-2.0 */
/* disk: what the guest sees. Each call returns 0, or an errno of the image's own; a change returns
 * only when it may be acknowledged. The caller checked offset and size against tap->size. */
#ifndef TIDE_PARTICIPANT_TAP_DISK_H
#define TIDE_PARTICIPANT_TAP_DISK_H

#include "participant/tap/tap.h"

int disk_read(struct tap *tap, void *to, uint32_t size, uint64_t offset);
int disk_write(struct tap *tap, const void *from, uint32_t size, uint64_t offset, bool fua);
int disk_zero(struct tap *tap, uint64_t size, uint64_t offset, bool discard, bool punch, bool fua);
int disk_flush(struct tap *tap);

#endif
