/* SPDX-License-Identifier: Apache-2.0 */
/* router: carries messages between the seats of this daemon and members elsewhere, on the hold
 * thread: over the link (common/io/link.h), or, where this daemon stands for the addressee too,
 * through a queue in memory. Which peers there are follows from the seats' definitions: members
 * link to the candidates of their group, and candidates to all; of two daemons the one whose
 * identity sorts later dials. A message is taken only if its link belongs to the member it names as
 * sender. */
#ifndef TIDE_PARTICIPANT_ROUTER_H
#define TIDE_PARTICIPANT_ROUTER_H

#include "common/core/msg.h"
#include "common/io/link.h"
#include "common/io/tls.h"
#include "participant/seat.h"
#include "participant/settings.h"

#define ROUTER_QUEUE_MAX (1024U * 1024U) /* bytes of messages between own members */

struct router_options {
    struct loop *loop; /* must outlive it, as all below */
    const struct tls_identity *identity;
    struct address listen;
    struct seat *const *seats;
    unsigned seat_count;
    const struct settings *settings;
    void (*settled)(void *arg); /* called after the loop fed something to seats */
    void *arg;
};

struct router;

int router_new(const struct router_options *options, struct router **ret, struct err *err);
void router_free(struct router *router); /* takes NULL */

/* After definitions changed: computes the peers anew and tells all seats which links are up. */
void router_set_peers(struct router *router);

/* From within a seat's call. `to` NULL: back to where the message under way came from. A message to
 * a member that is not reached is dropped: the machines live with losses. */
void router_send(struct router *router, const struct definition_member *to, const struct msg *msg);

/* Feeds what own members said to each other until nothing is left. */
void router_drain(struct router *router);

/* For status: is the member ours; is a link to it kept; is it up. */
void router_look(const struct router *router, const struct definition_member *member, bool *ret_own,
                 bool *ret_link, bool *ret_up);
struct link_stats router_stats(const struct router *router, uint64_t *ret_queue_lost);

#endif
