/* SPDX-License-Identifier: Apache-2.0 */
/* light: members of a group that are daemons in all that a round sees, but no processes: each has a
 * certificate, a loopback address and a link of its own (participant/router.h), the real leader and
 * member machines (participant/seat.h), and taps without disks (lighttap.h). No coordinator, no
 * shipping; attestations are counted, not signed.
 *
 * One member lives on one loop, and all of it is for that loop's thread. crowd.h runs many. */
#ifndef TIDE_TESTS_LIGHT_LIGHT_H
#define TIDE_TESTS_LIGHT_LIGHT_H

#include "common/core/definition.h"
#include "common/io/loop.h"
#include "common/io/tls.h"
#include "coordinator/core/align.h"
#include "participant/core/leader.h"
#include "tests/light/lighttap.h"

#define LIGHT_DISKS_MAX 4U

/* ---- the group ---- */

struct light_plan {
    unsigned members; /* 1..TIDE_MEMBERS_MAX: m000, m001, ... */
    unsigned disks;   /* of each, 1..LIGHT_DISKS_MAX: d0, ... */
    struct policy policy;
    bool unsafe_no_hold;
    uint32_t hold_skew_us; /* each member waits 0..this before it acts on a HOLD */
    uint64_t seed;         /* of that, and of ids */
};

struct light_group;

/* Makes a folder with CA and certificates, and the definition. Addresses are 127.A.B.C:20004, with
 * A and B from the process id. Aborts where it cannot. */
struct light_group *light_group_new(const struct light_plan *plan);
void light_group_free(struct light_group *group); /* removes the folder; takes NULL */
const struct definition *light_group_definition(const struct light_group *group);
const struct light_plan *light_group_plan(const struct light_group *group);
/* FOLDER/mNNN (".crt", ".key"), and FOLDER/ca.crt, in a few rotating buffers. */
const char *light_group_cert(const struct light_group *group, unsigned member);
const char *light_group_ca(const struct light_group *group);
struct tls_identity *light_group_identity(const struct light_group *group, unsigned member);

/* ---- a member ---- */

struct light_calls { /* each may be NULL */
    void (*round)(void *arg, unsigned member, const struct leader_round *round);
    void (*taken)(void *arg, unsigned member, const struct msg_taken *taken);
    void (*let_go)(void *arg, unsigned member); /* taps may have let writes go */
    /* Set: the member has no link of its own; what it says to others goes there, and what they say
     * comes in by light_member_feed() and light_member_link(). `to` NULL: to who spoke last. */
    void (*carry)(void *arg, const struct definition_member *to, const struct msg *msg);
    void *arg;
};

struct light_member;

/* Listens; the taps are attached. What is passed must outlive it. Aborts where it cannot. */
struct light_member *light_member_new(const struct light_group *group, unsigned index,
                                      struct loop *loop, const struct light_calls *calls);
void light_member_free(struct light_member *member); /* takes NULL */

void light_member_take(struct light_member *member); /* a round now; `taken` answers */
/* A write to a disk, as lighttap_write(). */
uint64_t light_member_write(struct light_member *member, unsigned disk, uint64_t *ret_ticket);
/* With `carry`: a message for this member, and whether it has a connection to another. */
void light_member_feed(struct light_member *member, const struct msg *msg);
void light_member_link(struct light_member *member, unsigned peer, bool up);

int light_member_leads(const struct light_member *member);      /* index, or -1 */
unsigned light_member_reach(const struct light_member *member); /* members heard, and itself */
struct lighttap *light_member_tap(const struct light_member *member, unsigned disk);

/* The reader's rule, fed with the records of all taps of all members of the group. The caller frees
 * it by align_free(). */
struct align *light_align(const struct light_group *group, struct light_member *const *members);

#endif
