/* SPDX-License-Identifier: Apache-2.0 */
/* orders: an operator's order to a tap (RESYNC, DETACH, RESIZE), from a thread that waits to the
 * hold thread, and the tap's answer back. One at a time for each disk. */
#ifndef TIDE_PARTICIPANT_ORDERS_H
#define TIDE_PARTICIPANT_ORDERS_H

#include "participant/tapset.h"

#define ORDERS_WAIT_MS 10000U /* for a tap's answer; it may sit in one slow sync */

struct orders;

/* Aborts without memory. Pointers must outlive it; it is never freed, for a thread may ask late. */
struct orders *orders_new(struct loop *loop, const struct settings *settings, struct tapset *taps);

/* Any thread: sends it and waits. 0: the tap has answered, with *ret (whose code may be an error).
 * UNREACHABLE: no tap is connected, it went away, or did not answer in time (the order may still
 * be carried out); BUSY: another order to this disk is under way;
 * LIMIT: no memory. */
int orders_give(struct orders *orders, unsigned disk, const struct tapctl *order,
                struct tapctl_done *ret, struct err *err);

/* On the hold thread: a DONE (one that nobody waits for is passed over), and the end of a tap. */
void orders_done(struct orders *orders, unsigned disk, const struct tapctl *message);
void orders_lost(struct orders *orders, unsigned disk);

#endif
