/* SPDX-License-Identifier: Apache-2.0 */
/* control: the tap's control socket (common/core/tapctl.h), its thread and its one controller. The
 * thread never syncs and never waits for a sync, so that RELEASE is heard at once; a controller
 * that does not read what it is told is cut off rather than waited for. */
#ifndef TIDE_PARTICIPANT_TAP_CONTROL_H
#define TIDE_PARTICIPANT_TAP_CONTROL_H

#include "participant/tap/tap.h"

/* A connection that has not said HELLO within HELLO_S is closed, which is looked at every LOOK_MS.
 * So long nobody is accepted where a connection could not be had. */
#define TIDE_CONTROL_HELLO_S 2
#define TIDE_CONTROL_LOOK_MS 200

/* Binds the socket (a stale one is replaced). CONFIG: the path is too long; BUSY: another process
 * listens there; IO. On failure no socket of it stays. */
int control_open(struct tap *tap, struct err *err);
int control_start(struct tap *tap, struct err *err); /* the thread */
void control_stop(struct tap *tap);
void control_close(struct tap *tap); /* removes the socket */

/* From any thread but under no lock: to the controller, if there is one. */
void control_tell(struct tap *tap, const struct tapctl *message);
/* As control_tell(), only if it is still the one of that session. */
void control_answer(struct tap *tap, const struct tapctl *message, uint64_t session);
void control_tell_state(struct tap *tap);
/* Ends the connection of a controller whose WELCOME was of a stream before: it shall come again. */
void control_drop_old(struct tap *tap);

#endif
