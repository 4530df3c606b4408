/* SPDX-License-Identifier: Apache-2.0 */
/* resize: the image has another size than the disk has here: it was grown or shrunk while the tap
 * served it. The stream gets a RESIZE record and goes on, whole if it was: new blocks that are a
 * hole read as zeroes there and here. Where they are no hole (a device, or somebody wrote there) it
 * gets a gap, and they are copied. Clients see the new size when they connect again.
 *
 * A size that no disk can be registered with (file_is_disk_size()) is not followed, which is said
 * in the log once and to whoever asks (CONFIG). Where it is smaller, what was lost is a gap. */
#ifndef TIDE_PARTICIPANT_TAP_RESIZE_H
#define TIDE_PARTICIPANT_TAP_RESIZE_H

#include "common/core/tapctl.h"
#include "participant/tap/tap.h"

/* Looks, and follows the image where it changed: by the checkpoint's thread each time it wakes, and
 * by order. What was found stands in *ret (NULL: not asked). It waits for the end of a hold, so it
 * is not for the control thread. */
void resize_look(struct tap *tap, struct tapctl_done *ret);

#endif
