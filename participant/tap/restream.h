/* SPDX-License-Identifier: Apache-2.0 */
/* restream: the far side can not go on with this stream: it has other records under the same LSNs
 * (this log was restored from a copy, or the machine cloned), or needs some that the log no longer
 * has. A new stream of the same disk begins, beside the guest, and the disk is copied into it. */
#ifndef TIDE_PARTICIPANT_TAP_RESTREAM_H
#define TIDE_PARTICIPANT_TAP_RESTREAM_H

#include "common/core/tapctl.h"
#include "participant/tap/tap.h"

/* DONE for the order. OK: the controller must connect again, for a new WELCOME (control.c hangs
 * up). CONFLICT: `stream` is not the one that is served, or the log has failed; IO: nothing that
 * could be relied on was changed. The duty limit stays what it was. */
void restream(struct tap *tap, const struct id *stream, struct tapctl_done *ret);

#endif
