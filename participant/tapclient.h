/* SPDX-License-Identifier: Apache-2.0 */
/* tapclient: the control connection to one tap (common/core/tapctl.h), on the hold thread's loop.
 * Connects, says HELLO, asks for STATUS every TAPCLIENT_STATUS_US, and connects again for ever with
 * a back-off when the connection ends, however it ends: refused, closed, a message that breaks the
 * format, no WELCOME within TAPCLIENT_WELCOME_US, nothing heard for TAPCLIENT_SILENT_US, or a
 * socket that takes no more. Never blocks. Callbacks come from the loop only, but for lost(), which
 * a failing tapclient_send() schedules for the loop as well. */
#ifndef TIDE_PARTICIPANT_TAPCLIENT_H
#define TIDE_PARTICIPANT_TAPCLIENT_H

#include "common/core/tapctl.h"
#include "common/io/loop.h"

#define TAPCLIENT_BACKOFF_MIN_US 250000U
#define TAPCLIENT_BACKOFF_MAX_US 2000000U
#define TAPCLIENT_WELCOME_US     2000000U
#define TAPCLIENT_STATUS_US      100000U
#define TAPCLIENT_SILENT_US      10000000U /* a tap may sit in one slow sync */

struct tapclient_calls {
    /* WELCOME was read. The `welcome->ring_files + 1` descriptors are the callee's
     * now; the last is the image, for reading. */
    void (*welcome)(void *arg, const struct tapctl_welcome *welcome, const int *fds);
    /* HELD, REFUSED, SEALED, SYNCED, STATE or DONE. */
    void (*message)(void *arg, const struct tapctl *message);
    /* The connection ended after a WELCOME (was_up), or an attempt failed. */
    void (*lost)(void *arg, bool was_up, const char *reason);
};

struct tapclient;

/* `path` and what `arg` points to must outlive the client. Aborts without memory. */
struct tapclient *tapclient_new(struct loop *loop, const char *path,
                                const struct tapclient_calls *calls, void *arg);
void tapclient_free(struct tapclient *client); /* no callback; takes NULL */

bool tapclient_is_up(const struct tapclient *client); /* WELCOME was read */
/* Sends with a serial of its own. False: not up, or the tap takes no more (the connection goes). */
bool tapclient_send(struct tapclient *client, struct tapctl *message);

#endif
