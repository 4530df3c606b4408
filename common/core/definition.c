/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/definition.h"

#include "common/core/check.h"

#include <inttypes.h>
#include <string.h>

void definition_init(struct definition *ret, const struct id *group, const struct name *name,
                     uint64_t epoch_number)
{
    memset(ret, 0, sizeof *ret);
    ret->group = *group;
    ret->group_name = *name;
    ret->epoch.number = epoch_number;
}

static bool text_ok(const char *text, size_t room)
{
    size_t length = strnlen(text, room);
    return length > 0 && length < room;
}

int definition_add_member(struct definition *definition, const struct definition_member *member,
                          struct err *err)
{
    struct name name;
    if (memchr(member->name.s, 0, sizeof member->name.s) == NULL ||
        !name_parse(member->name.s, &name)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "member %u has no valid name: 1 to %d of a-z 0-9 . _ -",
                       definition->member_count, TIDE_NAME_MAX);
    }
    if (definition->member_count >= TIDE_MEMBERS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "member \"%s\" is one too many: a group has at most %d",
                       name.s, TIDE_MEMBERS_MAX);
    }
    if (!text_ok(member->identity, sizeof member->identity) ||
        !text_ok(member->address, sizeof member->address)) {
        return err_set(
            err, TIDE_ERR_CORRUPT,
            "member \"%s\" has no identity (1 to %d bytes) or no address (1 to %d bytes)", name.s,
            TIDE_IDENTITY_MAX, TIDE_ADDRESS_MAX);
    }
    if (definition_find_member(definition, &name) >= 0) {
        return err_set(err, TIDE_ERR_CONFLICT, "member \"%s\" is named twice", name.s);
    }
    struct definition_member *to = &definition->members[definition->member_count++];
    *to = *member;
    to->disk_first = definition->disk_count;
    to->disk_count = 0;
    return 0;
}

static int check_disk(const struct definition *definition, const struct definition_member *member,
                      const struct definition_disk *disk, struct err *err)
{
    uint32_t block = disk->block_size;
    if (id_is_zero(&disk->stream) || id_is_zero(&disk->timeline) || id_is_zero(&disk->disk)) {
        return err_set(err, TIDE_ERR_CORRUPT, "disk \"%s\" of member \"%s\" has a zero id",
                       disk->name.s, member->name.s);
    }
    if (disk->size == 0 || disk->size > INT64_MAX || block < 512 || block > TIDE_BLOCK_SIZE_MAX ||
        (block & (block - 1)) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "disk \"%s\" of member \"%s\": size %" PRIu64 " or block size %" PRIu32
                       " is out of range (block size: a power of two, 512 to %u)",
                       disk->name.s, member->name.s, disk->size, block, TIDE_BLOCK_SIZE_MAX);
    }
    for (unsigned i = 0; i < definition->disk_count; i++) {
        const struct definition_disk *other = &definition->disks[i];
        if (id_equal(&other->stream, &disk->stream) || id_equal(&other->disk, &disk->disk)) {
            return err_set(
                err, TIDE_ERR_CONFLICT,
                "disk \"%s\" of member \"%s\" has the stream or disk id of disk \"%s\" of "
                "member \"%s\"",
                disk->name.s, member->name.s, other->name.s,
                definition->members[other->member].name.s);
        }
    }
    return 0;
}

int definition_add_disk(struct definition *definition, const struct definition_disk *disk,
                        struct err *err)
{
    TIDE_CHECK(definition->member_count > 0);
    unsigned index = definition->member_count - 1U;
    struct definition_member *member = &definition->members[index];
    struct name name;
    if (memchr(disk->name.s, 0, sizeof disk->name.s) == NULL || !name_parse(disk->name.s, &name)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "disk %u of member \"%s\" has no valid name: 1 to %d of a-z 0-9 . _ -",
                       member->disk_count, member->name.s, TIDE_NAME_MAX);
    }
    if (member->disk_count >= TIDE_MEMBER_DISKS_MAX || definition->disk_count >= TIDE_DISKS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "disk \"%s\" of member \"%s\" is one too many: a member has at most %d, a "
                       "group %d",
                       name.s, member->name.s, TIDE_MEMBER_DISKS_MAX, TIDE_DISKS_MAX);
    }
    if (definition_find_disk(definition, index, &name) >= 0) {
        return err_set(err, TIDE_ERR_CONFLICT, "disk \"%s\" of member \"%s\" is named twice",
                       name.s, member->name.s);
    }
    if (check_disk(definition, member, disk, err) != 0) {
        return -1;
    }
    struct definition_disk *to = &definition->disks[definition->disk_count++];
    *to = *disk;
    to->member = (uint16_t)index;
    member->disk_count++;
    return 0;
}

int definition_check(const struct definition *definition, struct err *err)
{
    if (id_is_zero(&definition->group) || definition->epoch.number == 0 ||
        definition->group_name.s[0] == '\0') {
        return err_set(err, TIDE_ERR_CORRUPT, "definition has no group id, group name or epoch");
    }
    if (definition->member_count == 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "definition of group \"%s\" has no member",
                       definition->group_name.s);
    }
    for (unsigned i = 0; i < definition->member_count; i++) {
        if (definition->members[i].disk_count == 0) {
            return err_set(err, TIDE_ERR_CORRUPT, "member \"%s\" of group \"%s\" has no disk",
                           definition->members[i].name.s, definition->group_name.s);
        }
    }
    return 0;
}

int definition_find_member(const struct definition *definition, const struct name *name)
{
    for (unsigned i = 0; i < definition->member_count; i++) {
        if (name_equal(&definition->members[i].name, name)) {
            return (int)i;
        }
    }
    return -1;
}

int definition_find_disk(const struct definition *definition, unsigned member,
                         const struct name *name)
{
    TIDE_CHECK(member < definition->member_count);
    const struct definition_member *m = &definition->members[member];
    for (unsigned i = m->disk_first; i < (unsigned)m->disk_first + m->disk_count; i++) {
        if (name_equal(&definition->disks[i].name, name)) {
            return (int)i;
        }
    }
    return -1;
}

int definition_find_stream(const struct definition *definition, const struct id *stream)
{
    for (unsigned i = 0; i < definition->disk_count; i++) {
        if (id_equal(&definition->disks[i].stream, stream)) {
            return (int)i;
        }
    }
    return -1;
}

unsigned definition_candidates(const struct definition *definition)
{
    return definition->member_count < TIDE_CANDIDATES_MAX ? definition->member_count
                                                          : TIDE_CANDIDATES_MAX;
}

void definition_set_member(const struct definition *definition, unsigned member, struct set *set)
{
    TIDE_CHECK(member < definition->member_count && set->count == definition->disk_count);
    const struct definition_member *m = &definition->members[member];
    for (unsigned i = 0; i < m->disk_count; i++) {
        set_add(set, m->disk_first + i);
    }
}

bool definition_set_has_member(const struct definition *definition, unsigned member,
                               const struct set *set)
{
    TIDE_CHECK(member < definition->member_count && set->count == definition->disk_count);
    const struct definition_member *m = &definition->members[member];
    for (unsigned i = 0; i < m->disk_count; i++) {
        if (set_has(set, m->disk_first + i)) {
            return true;
        }
    }
    return false;
}

void policy_init(struct policy *ret)
{
    *ret = (struct policy){.interval_ms = TIDE_INTERVAL_MS,
                           .hold_us_max = TIDE_HOLD_US,
                           .missing = POLICY_MISSING_STRICT};
}

int policy_check(const struct policy *policy, struct err *err)
{
    if (policy->interval_ms < TIDE_INTERVAL_MS_MIN || policy->interval_ms > TIDE_INTERVAL_MS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "policy interval %" PRIu64 " ms is out of range: %u to %u ms",
                       policy->interval_ms, TIDE_INTERVAL_MS_MIN, TIDE_INTERVAL_MS_MAX);
    }
    if (policy->hold_us_max < TIDE_HOLD_US_MIN || policy->hold_us_max > TIDE_HOLD_US_MAX) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "policy hold-max %" PRIu32 " us is out of range: %u to %u us",
                       policy->hold_us_max, TIDE_HOLD_US_MIN, TIDE_HOLD_US_MAX);
    }
    if (policy->missing != POLICY_MISSING_STRICT && policy->missing != POLICY_MISSING_PARTIAL) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "policy missing %u is unknown: strict (1) or partial (2)",
                       (unsigned)policy->missing);
    }
    return 0;
}
