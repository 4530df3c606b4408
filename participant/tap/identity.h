/* SPDX-License-Identifier: Apache-2.0 */
/* identity: what a tap knows the machine and the image by, so that a cloned machine, a restored log
 * and another disk behind the same name are told from a plain restart. Texts are for comparing and
 * for people; an empty one says that it cannot be known, and then nothing is concluded. */
#ifndef TIDE_PARTICIPANT_TAP_IDENTITY_H
#define TIDE_PARTICIPANT_TAP_IDENTITY_H

#include "participant/tap/state.h"

/* The machine's boot. IO: /proc/sys/kernel/random/boot_id cannot be read. */
int identity_boot(struct id *ret, struct err *err);

/* The machine: the firmware's UUID (/sys/class/dmi/id/product_uuid), which a hypervisor gives anew
 * to a clone; else /etc/machine-id. */
void identity_machine(char ret[TIDE_STATE_TEXT]);

/* The image: a file's inode and time of birth (statx(2)); a device's serial, WWID or UUID from
 * sysfs, or what a loop device lies on. Another file system may use the same inode, hardly with the
 * same birth. */
void identity_image(int fd, char ret[TIDE_STATE_TEXT]);

#endif
