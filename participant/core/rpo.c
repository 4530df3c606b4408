/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/rpo.h"

#include <string.h>

void rpo_init(struct rpo *rpo)
{
    *rpo = (struct rpo){0};
}

/* Every second look joins the one before it, whose time is the earlier. */
static void thin_out(struct rpo *rpo)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < rpo->count; k += 2) {
        rpo->looks[kept++] = rpo->looks[k];
    }
    rpo->count = kept;
}

void rpo_seen(struct rpo *rpo, uint64_t next_lsn, uint64_t now_us)
{
    if (!rpo->begun) {
        rpo->begun = true;
        rpo->begin = next_lsn;
        rpo->next = next_lsn;
        rpo->seen_us = now_us;
        return;
    }
    if (next_lsn > rpo->next) {
        if (rpo->count == TIDE_RPO_LOOKS_MAX) {
            thin_out(rpo);
        }
        rpo->looks[rpo->count++] = (struct rpo_look){.first = rpo->next, .since_us = rpo->seen_us};
        rpo->next = next_lsn;
    }
    if (now_us > rpo->seen_us) {
        rpo->seen_us = now_us;
    }
}

void rpo_stored(struct rpo *rpo, uint64_t stored_lsn)
{
    unsigned gone = 0;
    rpo->stored = stored_lsn;
    while (gone + 1 < rpo->count && rpo->looks[gone + 1].first <= stored_lsn + 1) {
        gone++;
    }
    if (rpo->count > 0 && rpo->next <= stored_lsn + 1) {
        gone = rpo->count;
    }
    rpo->count -= gone;
    memmove(rpo->looks, rpo->looks + gone, rpo->count * sizeof *rpo->looks);
}

bool rpo_age(const struct rpo *rpo, uint64_t now_us, uint64_t *ret_us)
{
    uint64_t due = rpo->stored + 1;
    if (!rpo->begun) {
        return false;
    }
    if (rpo->next <= due) {
        *ret_us = 0;
        return true;
    }
    if (due < rpo->begin || rpo->count == 0 || due < rpo->looks[0].first) {
        return false; /* made before it was first looked at, or the far side fell back */
    }
    uint64_t since = rpo->looks[0].since_us;
    *ret_us = now_us > since ? now_us - since : 0;
    return true;
}
