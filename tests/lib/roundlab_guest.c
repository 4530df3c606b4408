/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <inttypes.h>

#define APPEND_US 100U  /* a write until it is in log and image, where there are no disks */
#define BYTES     4096U /* of it, there */
#define AGAIN_US  5000U /* a chain that was cut begins anew */

static void acknowledge(struct roundlab *lab, unsigned number, uint64_t in_us)
{
    roundlab_push(lab, in_us, (struct event){.kind = EV_ACK, .number = number});
}

static unsigned flat_of(const struct write *w)
{
    return w->member * ROUNDLAB_DISKS + w->disk;
}

/* It has its place among the records: lsn, or before the record that gets that one. */
static void placed(struct roundlab *lab, unsigned number, uint64_t lsn)
{
    struct write *w = &lab->writes[number];
    w->lsn = lsn;
    lab->tally.held += w->waiting;
    if (lab->watch.write != NULL) {
        lab->watch.write(lab->watch.context, flat_of(w), w->lsn, w->token, w->cause >= 0);
    }
    if (w->token < 0) {
        roundlab_say(lab, w->member, (int)w->disk, "write w%u at %" PRIu64 "%s", number + 1, w->lsn,
                     w->waiting ? ", acknowledgement kept back" : "");
    }
}

uint64_t roundlab_write_logged(struct roundlab *lab, unsigned number, uint64_t bytes, bool heed)
{
    struct write *w = &lab->writes[number];
    struct gate_out out;
    roundlab_tap_step(lab, w->member, w->disk,
                      (struct gate_event){.type = GATE_WRITE, .bytes = bytes}, &out);
    TIDE_CHECK(out.lsn != 0 && out.ack != GATE_ACK_ENTRY); /* far below HELD_MAX */
    w->waiting = heed && out.ack == GATE_ACK_HOLD;
    w->ticket = out.ticket;
    placed(lab, number, out.lsn);
    return out.lsn;
}

void roundlab_write_unlogged(struct roundlab *lab, unsigned number)
{
    const struct write *w = &lab->writes[number];
    placed(lab, number, lab->nodes[w->member].disks[w->disk].gate.next_lsn);
}

/* Its chain begins anew: nobody knows what became of it. */
static void lose(struct roundlab *lab, struct write *w)
{
    w->waiting = false;
    w->done = true;
    if (w->token >= 0) {
        lab->tokens[w->token].last = -1;
        roundlab_push(lab, AGAIN_US,
                      (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
    }
}

void roundlab_write_done(struct roundlab *lab, unsigned number, bool ok)
{
    struct write *w = &lab->writes[number];
    w->applied = true;
    if (w->done) {
        return;
    }
    if (!ok) {
        lose(lab, w);
    } else if (!w->waiting) {
        roundlab_guest_acked(lab, number);
    }
}

static unsigned write_to(struct roundlab *lab, unsigned member, unsigned index, int cause,
                         int token)
{
    const struct roundlab_disks *disks = &lab->config.disks;
    TIDE_CHECK(lab->nodes[member].disks[index].running);
    lab->writes =
        roundlab_grow(lab->writes, &lab->write_room, lab->write_count, sizeof *lab->writes);
    unsigned number = (unsigned)lab->write_count++;
    struct write *w = &lab->writes[number];
    *w = (struct write){.member = member, .disk = index, .cause = cause, .token = token};
    lab->tally.writes++;
    if (disks->write != NULL) {
        disks->write(disks->context, flat_of(w), number);
        return number;
    }
    roundlab_write_logged(lab, number, BYTES, true);
    w->applied = true;
    if (!w->waiting) {
        acknowledge(lab, number, APPEND_US);
    }
    return number;
}

unsigned roundlab_write(struct roundlab *lab, unsigned member, unsigned disk)
{
    return write_to(lab, member, disk, -1, -1) + 1;
}

void roundlab_guest_let_go(struct roundlab *lab, unsigned member, unsigned index)
{
    while (lab->settled < lab->write_count && lab->writes[lab->settled].done) {
        lab->settled++;
    }
    for (size_t i = lab->settled; i < lab->write_count; i++) {
        struct write *w = &lab->writes[i];
        if (w->waiting && w->member == member && w->disk == index) {
            w->waiting = false;
            if (w->applied) {
                acknowledge(lab, (unsigned)i, 1);
            }
        }
    }
}

void roundlab_guest_stop(struct roundlab *lab, unsigned member, unsigned index)
{
    for (size_t i = lab->settled; i < lab->write_count; i++) {
        struct write *w = &lab->writes[i];
        if (!w->done && w->member == member && w->disk == index) {
            lose(lab, w);
        }
    }
}

void roundlab_guest_acked(struct roundlab *lab, unsigned number)
{
    struct write *w = &lab->writes[number];
    if (w->done) {
        return; /* its tap was killed meanwhile */
    }
    w->done = true;
    if (w->token < 0) {
        roundlab_say(lab, w->member, (int)w->disk, "write w%u acknowledged", number + 1);
        return;
    }
    lab->tokens[w->token].last = (int)number;
    roundlab_push(lab, prng_below(&lab->workload, lab->think_us_max + 1),
                  (struct event){.kind = EV_TOKEN, .number = (unsigned)w->token});
}

void roundlab_guest_token(struct roundlab *lab, unsigned token)
{
    unsigned at = (unsigned)prng_below(&lab->workload, lab->config.members * ROUNDLAB_DISKS);
    if (!lab->nodes[at / ROUNDLAB_DISKS].disks[at % ROUNDLAB_DISKS].running) {
        roundlab_push(lab, 1000, (struct event){.kind = EV_TOKEN, .number = token});
        return;
    }
    write_to(lab, at / ROUNDLAB_DISKS, at % ROUNDLAB_DISKS, lab->tokens[token].last, (int)token);
}

void roundlab_tokens(struct roundlab *lab, unsigned tokens, uint64_t think_us_max)
{
    TIDE_CHECK(tokens <= sizeof lab->tokens / sizeof lab->tokens[0]);
    lab->think_us_max = think_us_max;
    for (unsigned i = 0; i < tokens; i++) {
        lab->tokens[i].last = -1;
        roundlab_push(lab, 100 * (i + 1), (struct event){.kind = EV_TOKEN, .number = i});
    }
}
