/* SPDX-License-Identifier: Apache-2.0 */
/* local: commands on one machine: one JSON object in, one out, over libnng REQ/REP on ipc://PATH.
 * The server is libnng's REP; who asks speaks the same bytes by hand (libnng's own client can hang
 * for ever when it closes). Request: {"command": "...", ...}. Answer: {"ok": true, ...} or {"ok":
 * false, "error": "CODE", "text": "..."}, CODE a name of common/core/err.h. Messages of
 * LOCAL_MESSAGE_MAX bytes at most; anything that is not a JSON object with a string "command" is
 * answered USAGE without the handler. The socket's folder must be one that only our group can
 * enter: whoever can connect may command.
 */
#ifndef TIDE_COMMON_IO_LOCAL_H
#define TIDE_COMMON_IO_LOCAL_H

#include <jansson.h>
#include <stdint.h>

#include "common/core/err.h"

#define LOCAL_MESSAGE_MAX (1024U * 1024U)
#define LOCAL_PATH_MAX    100U /* bytes of PATH: a unix socket's limit, less what libnng needs */
#define LOCAL_WORKERS     4U   /* commands that run at once; more wait */

#define LOCAL_PARTICIPANT "/run/tidemark/participant.ipc"
#define LOCAL_COORDINATOR "/run/tidemark/coordinator.ipc"

/* Handles one command on a thread of the server: several run at once. Returns a new reference to
 * the answer (local_ok(), local_error()); NULL is answered as out of memory. Must end within a
 * deadline of its own. `command` is the request's "command". */
typedef json_t *local_fn(void *arg, const char *command, const json_t *request);

/* Makes the folder (0750) if it is missing, takes away a socket that nobody answers on, listens
 * (0660). CONFLICT: another process answers there. LIMIT: path too long, or no memory. */
struct local_server;
int local_server_new(const char *path, local_fn *fn, void *arg, struct local_server **ret,
                     struct err *err);
/* Takes no more commands, waits for those under way, removes the socket. What libnng holds stays
 * until the process ends (closing a busy socket can hang): end it with daemon_exit(). NULL:
 * nothing. */
void local_server_free(struct local_server *server);

/* Asks and waits. *ret_answer is a new reference to an answer with "ok": true. An answer with "ok":
 * false becomes *err with its code and text. UNREACHABLE: nobody listens, or no answer in time
 * (timeout_ms, at least 1; connecting included); CORRUPT: the answer is not of the form above;
 * LIMIT: no memory, here or there; what was asked for may then have been done. */
int local_call(const char *path, const json_t *request, uint32_t timeout_ms, json_t **ret_answer,
               struct err *err);

json_t *local_ok(void);                     /* {"ok": true}, to be added to; NULL without memory */
json_t *local_error(const struct err *err); /* NULL without memory */

/* What a server with that handler sends for the bytes of a request, heap; NULL: no memory. */
char *local_answer(local_fn *fn, void *arg, const char *bytes, size_t size);

#endif
