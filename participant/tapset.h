/* SPDX-License-Identifier: Apache-2.0 */
/* tapset: the taps of all disks, on the hold thread: a control connection (tapclient.h) and a port
 * to the shipping thread (port.h) for each, and what is known of it. */
#ifndef TIDE_PARTICIPANT_TAPSET_H
#define TIDE_PARTICIPANT_TAPSET_H

#include "common/io/loop.h"
#include "participant/core/member.h"
#include "participant/events.h"
#include "participant/port.h"
#include "participant/settings.h"

#define TAPSET_TEXT_MAX 159U

struct tapset_view {
    bool attached;
    uint64_t since_us;                /* attached, or lost, since */
    struct tapctl_welcome welcome;    /* of the last session; stream zero: none yet */
    struct tapctl_state state;        /* last heard; all zero: none in this session */
    char reason[TAPSET_TEXT_MAX + 1]; /* not attached: why */
};

struct tapset_calls {
    /* A tap attached, was lost, or changed. `disk` is the settings' index. */
    void (*tap)(void *arg, unsigned disk, const struct member_tap *tap);
    /* HELD, REFUSED, SEALED, SYNCED or DONE. */
    void (*message)(void *arg, unsigned disk, const struct tapctl *message);
};

struct tapset;

/* Connects to none yet. Pointers must outlive it. Aborts without memory. */
struct tapset *tapset_new(struct loop *loop, const struct settings *settings, struct events *events,
                          const struct tapset_calls *calls, void *arg);
/* On the loop's thread. */
void tapset_start(struct tapset *set);
void tapset_stop(struct tapset *set); /* after the loop ended; the ports stay */
/* Sends the message, its serial set. False: the tap is not attached, or takes no more. */
bool tapset_order(struct tapset *set, unsigned disk, struct tapctl *message);
struct member_tap tapset_tap(const struct tapset *set, unsigned disk);
const struct tapset_view *tapset_view(const struct tapset *set, unsigned disk);

/* Any thread. */
struct port *tapset_port(struct tapset *set, unsigned disk);
void tapset_attest(struct tapset *set, unsigned disk, const struct tapctl_attest *attest);

#endif
