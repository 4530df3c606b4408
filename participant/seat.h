/* SPDX-License-Identifier: Apache-2.0 */
/* seat: one own member of the daemon: its leader and its member machine (participant/core), fed and
 * listened to on the hold thread. What they want done goes out through the calls; none of these may
 * call a seat function: messages for own members are queued by the callee. */
#ifndef TIDE_PARTICIPANT_SEAT_H
#define TIDE_PARTICIPANT_SEAT_H

#include "participant/core/leader.h"
#include "participant/core/member.h"
#include "participant/settings.h"

struct seat;

struct seat_calls {
    /* To a member of the seat's definition; NULL: back to where the message under way came from. */
    void (*send)(void *arg, struct seat *seat, const struct definition_member *to,
                 const struct msg *msg);
    /* To the tap of the disk with this index in the settings. */
    void (*order)(void *arg, unsigned disk, struct tapctl *message);
    void (*attest)(void *arg, unsigned disk, const struct statement *statement);
    void (*round)(void *arg, struct seat *seat, const struct leader_round *round);
    void (*lack)(void *arg, struct seat *seat, const struct leader_lack *lack);
    void (*taken)(void *arg, struct seat *seat, const struct msg_taken *taken);
};

struct seat_options {
    const struct settings *settings; /* not owned */
    unsigned index;                  /* of the member in the settings */
    const char *identity;            /* our own URI; not owned */
    uint64_t incarnation;
    bool unsafe_no_hold;
    uint32_t hold_skew_us;
    uint64_t hold_skew_seed;
    struct seat_calls calls;
    void *arg;
};

/* Aborts without memory. */
struct seat *seat_new(const struct seat_options *options);
void seat_free(struct seat *seat); /* takes NULL */

/* `definition` stays valid until the next call or seat_free(); NULL, or one in which our identity
 * does not have this member: none. Links count as down and taps as lost afterwards. */
void seat_define(struct seat *seat, const struct definition *definition, uint64_t now_us);
void seat_policy(struct seat *seat, const struct policy *policy, uint64_t now_us);
void seat_link(struct seat *seat, unsigned member, bool up, uint64_t now_us);
void seat_message(struct seat *seat, const struct msg *msg, uint64_t now_us);
/* `disk` is the settings' index; of this member. */
void seat_tap(struct seat *seat, unsigned disk, const struct member_tap *tap, uint64_t now_us);
void seat_tap_message(struct seat *seat, unsigned disk, const struct tapctl *message,
                      uint64_t now_us);
void seat_take(struct seat *seat, const struct msg_take *take, uint64_t now_us);
uint64_t seat_wake_us(const struct seat *seat);
void seat_tick(struct seat *seat, uint64_t now_us); /* does nothing before it is due */

const struct definition *seat_definition(const struct seat *seat); /* NULL: none */
unsigned seat_self(const struct seat *seat);                       /* index in it */
unsigned seat_index(const struct seat *seat);                      /* in the settings */
int seat_leads(const struct seat *seat);                           /* index, or -1 */
unsigned seat_reach(const struct seat *seat);
bool seat_hears(const struct seat *seat, unsigned member);
const struct policy *seat_get_policy(const struct seat *seat);
struct leader_lack seat_lack(const struct seat *seat);
struct leader_holds seat_holds(const struct seat *seat, unsigned member);
struct leader_share seat_share(const struct seat *seat);

#endif
