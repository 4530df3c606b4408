/* SPDX-License-Identifier: Apache-2.0 */
/* commands: what the participant answers on its local socket (common/io/local.h):
 *
 *   status  -> {identity, listen, coordinator, version, switches, members, disks, links, rounds,
 *               registration}
 *   disk    {order: "resync"|"detach"|"resize", group, member, disk, how?: "now"|"compare"|"full",
 *            force?} -> {text}: what the disk's tap answered (participant/orders.h)
 *   events  {since} -> {run, newest, missed, events}: the oldest COMMANDS_EVENTS_MAX past number
 *            `since` (participant/events.h)
 *   take    {group?, kind: "crash", wait: "sealed"|"stored", timeout_ms} ->
 *           {round, sealed, reason, member, text, stored?, answer?, label?}
 *
 * `take` answers ok where the round was asked for and came to an end; `sealed` says which. With
 * wait "stored" it then asks the coordinator until the round is a yes or a no there. */
#ifndef TIDE_PARTICIPANT_COMMANDS_H
#define TIDE_PARTICIPANT_COMMANDS_H

#include "common/io/local.h"
#include "common/io/tls.h"
#include "participant/comparer.h"
#include "participant/control.h"
#include "participant/events.h"
#include "participant/holder.h"
#include "participant/settings.h"
#include "participant/shipper.h"

#define COMMANDS_TAKE_MS_MAX 600000U
#define COMMANDS_EVENTS_MAX  256U /* in one answer */

struct commands {
    const struct settings *settings;
    const struct tls_identity *identity;
    struct events *events;
    struct holder *holder;
    struct control *control;
    struct shipper *shippers; /* one per disk of the settings */
    struct comparer *comparer;
    struct signer *signer;
    bool unsafe_no_hold;
    uint32_t hold_skew_us;
    uint64_t seed;
};

/* A local_fn; arg is a struct commands, which is not changed. NULL: no memory for the answer, of
 * which no part is ever left out; an order or round that was asked for may have been carried out.
 */
json_t *commands_answer(void *arg, const char *command, const json_t *request);

#endif
