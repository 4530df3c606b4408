/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/check_own.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_hostile(const struct check *check, const struct id *round)
{
    size_t cursor = 0;
    uint32_t ignored;
    return idmap_next(&check->hostile, round, &cursor, &ignored);
}

void check_hostile(struct check *check, const struct id *round)
{
    if (!is_hostile(check, round)) {
        idmap_add(&check->hostile, round, 0);
    }
}

void check_strict(struct check *check)
{
    check->strict = true;
}

void check_clock(struct check *check, unsigned disk, uint64_t clock_us)
{
    check->disks[disk].clock_us = clock_us;
}

void check_clock_jump(struct check *check, unsigned disk, uint64_t forward_us)
{
    check->disks[disk].jumped_us += forward_us;
}

void check_defined(struct check *check, uint64_t now_us, unsigned member,
                   const struct definition *definition)
{
    struct knows *knows = &check->knows[member];
    *knows = (struct knows){.now = definition, .before = knows->now, .since_us = now_us};
}

static bool of_epoch(const struct definition *definition, const struct epoch *epoch)
{
    return definition != NULL && definition->epoch.number == epoch->number &&
           memcmp(definition->epoch.hash.b, epoch->hash.b, sizeof epoch->hash.b) == 0;
}

void check_bookmark(struct check *check, uint64_t now_us, unsigned disk,
                    const struct record *record, bool again)
{
    const struct round_order *order = &record->bookmark.order;
    const struct knows *knows = &check->knows[check->definition->disks[disk].member];
    bool late = now_us < knows->since_us + ON_ITS_WAY_US && of_epoch(knows->before, &order->epoch);
    if (!of_epoch(knows->now, &order->epoch) && !late) {
        check_breach(check, now_us, "stale", "%s has a bookmark of another epoch",
                     check_disk_name(check, disk));
    }
    if (again) {
        check_breach(check, now_us, "order", "%s has a second bookmark of the same round",
                     check_disk_name(check, disk));
    }
    bool group = order->scope == ROUND_SCOPE_GROUP;
    if (!is_hostile(check, &order->round) && !group &&
        (!check->strict || check_of_one(check, order) < 0)) {
        check_breach(check, now_us, "label",
                     "%s is in a round of one VM: the policy is %s, and its set %s of one",
                     check_disk_name(check, disk), check->strict ? "strict" : "partial",
                     check_of_one(check, order) < 0 ? "is not" : "is");
    }
    if (check->strict && group && !is_hostile(check, &order->round) &&
        !check_is_all(check, order)) {
        check_breach(check, now_us, "label", "%s is in a partial round, the policy is strict",
                     check_disk_name(check, disk));
    }
}

/* Of a round and a member: as many RELEASEs of one round come as it has members. */
static struct id key_of(const struct id *round, unsigned member)
{
    struct id key = *round;
    key.b[0] ^= (uint8_t)member;
    key.b[1] ^= (uint8_t)(member >> 8);
    return key;
}

void check_message(struct check *check, uint64_t now_us, unsigned from, unsigned to,
                   const struct msg *msg)
{
    uint64_t what[] = {now_us, (uint64_t)msg->type << 32 | from << 16 | to};
    check->orders_seen = true;
    check_fold(check, what, sizeof what);
    if (msg->type == MSG_RELEASE) {
        check->released = check_room(check->released, &check->released_room, check->released_count,
                                     sizeof *check->released);
        struct id key = key_of(&msg->release.round, to);
        idmap_add(&check->released_of, &key, (uint32_t)check->released_count);
        check->released[check->released_count++] = msg->release.cut;
    } else if (msg->type == MSG_SUM && msg->sum.sealed_by_all &&
               (check->told_count == 0 || memcmp(check->told[check->told_count - 1].b,
                                                 msg->sum.round.b, TIDE_ID_SIZE) != 0)) {
        check->told =
            check_room(check->told, &check->told_room, check->told_count, sizeof *check->told);
        check->told[check->told_count++] = msg->sum.round;
    }
}

static bool was_released(const struct check *check, unsigned member, const struct record_seal *seal)
{
    size_t cursor = 0;
    uint32_t i;
    struct id key = key_of(&seal->round, member);
    while (idmap_next(&check->released_of, &key, &cursor, &i)) {
        if (memcmp(check->released[i].b, seal->cut.b, sizeof seal->cut.b) == 0) {
            return true;
        }
    }
    return false;
}

void check_seal(struct check *check, uint64_t now_us, unsigned disk, const struct record *record)
{
    if (record->seal.outcome != ROUND_OUTCOME_HELD || !check->orders_seen) {
        return;
    }
    if (check->disks[disk].outlived) {
        check_breach(check, now_us, "label", "%s seals held what outlived its budget",
                     check_disk_name(check, disk));
    }
    if (!was_released(check, check->definition->disks[disk].member, &record->seal)) {
        check_breach(check, now_us, "order", "%s seals held what nobody released so",
                     check_disk_name(check, disk));
    }
}

void check_daemon_lost(struct check *check, uint64_t now_us, unsigned member)
{
    const struct definition_member *m = &check->definition->members[member];
    for (unsigned i = 0; i < m->disk_count; i++) {
        if (check->disks[m->disk_first + i].holding) {
            check_breach(check, now_us, "budget", "%s holds on, its daemon is gone",
                         check_disk_name(check, m->disk_first + i));
        }
    }
}

void check_told(struct check *check, uint64_t now_us)
{
    char hex[TIDE_ID_HEX];
    for (size_t i = 0; i < check->told_count; i++) {
        const struct id *round = &check->told[i];
        if (!is_hostile(check, round) && check_rule_of(check, round) != ROUND_ANSWER_YES) {
            check_breach(check, now_us, "told",
                         "round %.8s was said to be sealed by all and is no point",
                         id_hex(round, hex));
        }
    }
}

void check_order_free(struct check *check)
{
    idmap_free(&check->released_of);
    idmap_free(&check->hostile);
    free(check->released);
    free(check->told);
}
