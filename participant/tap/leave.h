/* SPDX-License-Identifier: Apache-2.0 */
/* leave: ending a tap under its clients, on SIGTERM, SIGINT, SIGHUP or SIGQUIT.
 *
 * nbdkit's own end does not do it: it waits until each client has gone, which a guest never does; a
 * request that comes meanwhile is answered with ESHUTDOWN, which QEMU hands to its guest as an I/O
 * error; and a reply that cannot be sent with others behind it aborts it (1.32, assertion in
 * raw_send_socket). So nbdkit is not told. Requests under way are finished, later ones are kept at
 * their entry and never answered, the disk is detached, and the process exits. A client that
 * connects again (QEMU's reconnect-delay) sends what was not answered to the next tap: its guest
 * sees a pause. Callbacks of nbdkit that clean up, a filter's too, are not called then. */
#ifndef TIDE_PARTICIPANT_TAP_LEAVE_H
#define TIDE_PARTICIPANT_TAP_LEAVE_H

#include "common/core/err.h"

#define TIDE_LEAVE_WAIT_MS 30000 /* for requests under way; then the end is as that of kill -9 */

/* After the last fork, and after nbdkit has set its handlers (after_fork), which it replaces.
 * detach() is called once no request is under way. An error: no thread, no memory. */
int leave_init(void (*detach)(void), struct err *err);

/* Around each request; leave_enter() does not return once the tap leaves. */
void leave_enter(void);
void leave_exit(void);

#endif
