/* SPDX-License-Identifier: Apache-2.0 */
/* link: messages between participants on TCP 20004: TLS 1.3 both ways (tls.h), then libnng's SP BUS
 * framing (sp.h, proto/README.md), one message a TLS record. One live connection a peer. All of it
 * runs on one loop's thread, and never blocks; callbacks are made from the loop, never from inside
 * a call to this module but link_free() (none) and link_set_peers() (down).
 *
 * Messages to one peer arrive in order or the connection ends (`down`): what was queued is then
 * lost, and nothing is sent again. Liveness: a connection on which nothing came for idle_us is
 * dropped, so the layer above must send (a heartbeat) more often than that. */
#ifndef TIDE_COMMON_IO_LINK_H
#define TIDE_COMMON_IO_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/io/address.h"
#include "common/io/loop.h"
#include "common/io/tls.h"

#define LINK_PEERS_MAX      1024U
#define LINK_MESSAGE_MAX    65536U          /* bytes of a body; 1 at least */
#define LINK_HANDSHAKES_MAX 64U             /* accepted, not yet authenticated; see below */
#define LINK_HANDSHAKE_US   5000000U        /* from accept or dial to the peer's hello */
#define LINK_QUEUE_MESSAGES 1024U           /* a peer's send queue; over it the connection goes */
#define LINK_QUEUE_BYTES    (4096U * 1024U) /* the same, in bytes */
#define LINK_REDIAL_MIN_US  100000U
#define LINK_REDIAL_MAX_US  5000000U
#define LINK_IDLE_US        3000000U /* the default of idle_us */
/* Over LINK_HANDSHAKES_MAX the oldest goes of the host (IPv4 address, IPv6 /64) that has most of
 * them: who floods us drives out its own. */

/* One peer that may connect, and where it is. Of the two ends exactly one must have `dial`: of two
 * members of a definition the later one dials. Where daemons share several groups the caller must
 * come to the same answer on both ends (say, by comparing the identities). */
struct link_peer {
    char uri[TLS_URI_MAX + 1]; /* spiffe://SITE/participant/ID */
    struct address address;    /* used where dial */
    bool dial;
};

struct link_calls {
    /* The connection to `peer` (its index in the last link_set_peers()) can be sent on. */
    void (*up)(void *arg, size_t peer);
    /* It cannot any more; `reason` is for people. Once for each up. */
    void (*down)(void *arg, size_t peer, const char *reason);
    /* One whole message; valid during the call. */
    void (*message)(void *arg, size_t peer, const uint8_t *bytes, size_t size);
    /* NULL, or: someone was refused, or a dial failed; each time (the log's lines are limited). */
    void (*refused)(void *arg, const char *text);
};

struct link_options {
    struct loop *loop;                   /* must outlive the link */
    const struct tls_identity *identity; /* must outlive the link */
    struct address listen;               /* port 0: any, see link_address() */
    uint64_t idle_us;                    /* 0: LINK_IDLE_US */
    uint64_t seed;                       /* for the jitter of redials */
    struct link_calls calls;
    void *arg;
};

struct link_stats {
    uint64_t accepted; /* TCP connections */
    uint64_t dialed;
    uint64_t refused; /* handshake failed, unknown, or over a limit */
    uint64_t dropped; /* live connections that ended */
    uint64_t sent;    /* messages */
    uint64_t received;
    size_t handshakes; /* now */
    size_t live;       /* now */
};

struct link;

/* Listens. IO or DENIED where the address cannot be had. No peers yet: all are refused. */
int link_new(const struct link_options *options, struct link **ret, struct err *err);
void link_free(struct link *link); /* closes everything; no callback; takes NULL */

/* Who may connect, and whom to dial, from now on; copied. Connections to peers that are still there
 * (by uri, and address where dialed) stay, with their new index and without a callback; others go
 * down (index of before). LIMIT: over LINK_PEERS_MAX; CONFIG: a uri twice, our own, or not of a
 * participant. */
int link_set_peers(struct link *link, const struct link_peer *peers, size_t count, struct err *err);

/* Queues one message of 1..LINK_MESSAGE_MAX bytes (copied). UNREACHABLE: not up; LIMIT: the queue
 * is full, or there is no memory: nothing is queued and the connection goes down, from the loop,
 * soon. */
int link_send(struct link *link, size_t peer, const void *bytes, size_t size, struct err *err);

bool link_is_up(const struct link *link, size_t peer);
struct address link_address(const struct link *link); /* that it listens on, port filled in */
struct link_stats link_stats(const struct link *link);

#endif
