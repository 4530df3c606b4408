/* SPDX-License-Identifier: Apache-2.0 */
/* control: the thread that tells the coordinator which streams this participant's disks have
 * (registration, again when that changes), and learns definitions and policies (long poll). What it
 * learns is kept in the state folder before the hold thread gets it. With the coordinator away the
 * daemon goes on with what it has. */
#ifndef TIDE_PARTICIPANT_CONTROL_H
#define TIDE_PARTICIPANT_CONTROL_H

#include "common/io/tls.h"
#include "participant/holder.h"
#include "participant/settings.h"

#define CONTROL_RETRY_MIN_US 200000U
#define CONTROL_RETRY_MAX_US 5000000U
#define CONTROL_POLL_S                                                                             \
    5U                         /* long poll while every disk is registered: a tap may come back    \
                                * with another stream */
#define CONTROL_POLL_SOON_S 1U /* while one is not */
#define CONTROL_TEXT_MAX    255U

struct control_status {
    unsigned registered;             /* disks the coordinator has taken */
    bool reached;                    /* the last request was answered */
    struct hash digest;              /* of the definitions in force; zero: none */
    char text[CONTROL_TEXT_MAX + 1]; /* of the last error; empty while all is well */
};

struct control;

/* Starts the thread; gives the holder at once what the state folder has. Pointers must outlive it.
 */
int control_new(const struct settings *settings, const struct tls_identity *identity,
                struct holder *holder, struct control **ret, struct err *err);
void control_stop(struct control *control);                       /* returns at once */
bool control_join(struct control *control, uint64_t deadline_us); /* false: it still runs */
void control_status(struct control *control, struct control_status *ret);

#endif
