/* SPDX-License-Identifier: Apache-2.0 */
/* server: 9443, HTTPS with mutual TLS 1.3 on the loop (libevent's evhttp over OpenSSL
 * bufferevents). Paths and bodies: proto/intake.proto and proto/README.md. Who asks is the one URI
 * name of the connection's certificate, and only participants of our site are served.
 *
 * A segment's check (hash, records, footer) and its syncs run on the pool, as does what hashes.h
 * makes and reads; everything else is the loop's. Several PUTs of one stream are checked at once,
 * and stored one after the other, the earliest of those that are here first; one that is due later
 * still is staged (store.h). The answer to a PUT is sent when the segment is on stable storage.
 *
 * Limits, each answered 503 beyond: PUTs at work, of one identity and in all; long polls. A
 * connection more than the most waits in the kernel's queue until another ends. Bodies: a segment's
 * most (413 beyond), headers 16 KiB; 30 s without a byte end a connection. evhttp keeps a body in
 * memory before it is known whose it is: at worst connections times 8 MiB. */
#ifndef TIDE_COORDINATOR_INTAKE_SERVER_H
#define TIDE_COORDINATOR_INTAKE_SERVER_H

#include "common/io/address.h"
#include "common/io/loop.h"
#include "common/io/tls.h"
#include "coordinator/intake/hashes.h"
#include "coordinator/intake/points.h"
#include "coordinator/intake/pool.h"
#include "coordinator/intake/registry.h"
#include "coordinator/store/store.h"

#define TIDE_SERVER_CONNECTIONS_MAX 512U
#define TIDE_SERVER_PUTS_MAX        32U
#define TIDE_SERVER_IDENTITY_MAX    8U /* PUTs at work of one identity */
#define TIDE_SERVER_POLLS_MAX       512U
#define TIDE_SERVER_HEADERS_MAX     16384
#define TIDE_SERVER_TIMEOUT_S       30

struct server;

struct server_options {
    struct loop *loop;
    struct pool *pool;
    struct store *store;
    struct registry *registry;
    struct points *points;
    struct hashes *hashes;
    const struct tls_identity *identity;
    struct address listen; /* port 0: any */
};

/* All of options must outlive the server. IO, CONFLICT: the address cannot be listened on. */
int server_new(const struct server_options *options, struct server **ret, struct err *err);
/* After the pool has ended, whose work it uses. NULL: nothing. */
void server_free(struct server *server);
void server_address(const struct server *server, struct address *ret); /* as bound */

/* The HTTP status that goes with an error on 9443. */
int server_status(enum err_code code);

#endif
