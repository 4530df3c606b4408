/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"
#include "coordinator/core/align.h"

/* LSN of the round's bookmark in that stream; 0: the stream is not in the set. */
static uint64_t cut_of(const struct roundlab *lab, const struct align_round *round, unsigned member,
                       unsigned disk)
{
    unsigned flat = member * ROUNDLAB_DISKS + disk;
    const struct align_entry *entry = align_entry(round, &lab->definition->disks[flat].stream);
    return entry == NULL || !set_has(&round->order.set, flat) ? 0 : entry->mark.lsn;
}

/* Whether the cut has an effect whose cause it lacks. */
static bool is_torn(const struct roundlab *lab, const struct align_round *round)
{
    uint64_t cuts[ROUNDLAB_MEMBERS_MAX][ROUNDLAB_DISKS] = {{0}};
    for (unsigned m = 0; m < lab->config.members; m++) {
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            cuts[m][d] = cut_of(lab, round, m, d);
        }
    }
    for (size_t i = 0; i < lab->write_count; i++) {
        const struct write *effect = &lab->writes[i];
        if (effect->cause < 0) {
            continue;
        }
        const struct write *cause = &lab->writes[effect->cause];
        uint64_t effect_cut = cuts[effect->member][effect->disk];
        uint64_t cause_cut = cuts[cause->member][cause->disk];
        if (effect_cut != 0 && cause_cut != 0 && effect->lsn < effect_cut &&
            cause->lsn > cause_cut) {
            return true;
        }
    }
    return false;
}

struct roundlab_verdict roundlab_judge(struct roundlab *lab)
{
    struct roundlab_verdict verdict = lab->tally;
    struct err err;
    struct align *align = align_new(&lab->definition->group, true, TIDE_ALIGN_ROUNDS);
    TIDE_CHECK(align != NULL);
    TIDE_CHECK(align_define(align, lab->definition, &err) == 0);
    for (unsigned m = 0; m < lab->config.members; m++) {
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            const struct disk *disk = &lab->nodes[m].disks[d];
            for (size_t i = 0; i < disk->record_count; i++) {
                TIDE_CHECK(align_feed(align, &disk->records[i], &err) == 0);
            }
        }
    }
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        bool point =
            round->answer == ROUND_ANSWER_YES || (lab->config.unsafe_no_hold && round->unaligned);
        verdict.rounds++;
        bool group = round->order.scope == ROUND_SCOPE_GROUP;
        verdict.points += point && group;
        verdict.single += point && !group;
        verdict.full += point && group && !round->partial;
        verdict.torn += point && is_torn(lab, round);
    }
    align_free(align);
    return verdict;
}
