/* SPDX-License-Identifier: Apache-2.0 */
/* group: what an operator applied for one replication group and what its participants registered of
 * its disks; as JSON (the object of the store, and what `tidemark group apply` sends), and as the
 * definition that is issued of it. */
#ifndef TIDE_COORDINATOR_INTAKE_GROUP_H
#define TIDE_COORDINATOR_INTAKE_GROUP_H

#include <jansson.h>

#include "common/core/definition.h"
#include "common/wire/intake.h"

struct group_disk {
    struct name name;
    uint16_t member;
    bool registered; /* the four below are set */
    struct id stream;
    struct id timeline;
    struct id disk_id;
    uint64_t size;
    uint32_t block_size;
};

struct group_member {
    struct name name;
    char identity[TIDE_IDENTITY_MAX + 1];
    char address[TIDE_ADDRESS_MAX + 1];
};

struct group {
    struct name name;
    struct id id;
    struct policy policy;
    bool dirty; /* registered since it was last saved and issued */
    uint16_t member_count;
    uint16_t disk_count;
    struct group_member *members;
    struct group_disk *disks;      /* in member order */
    struct definition *definition; /* the last issued, or NULL */
    uint8_t *issued;               /* its stored bytes */
    size_t issued_size;
};

/* *ret is to be freed with group_free(); its id is zero. CONFIG: what was applied is wrong (group,
 * thing and value are named); CORRUPT: what was stored of a registration is; LIMIT: no memory. */
int group_new(const json_t *from, struct group **ret, struct err *err);
void group_free(struct group *group); /* takes NULL */

struct group_member *group_find_member(const struct group *group, const struct name *name);
struct group_disk *group_find_disk(const struct group *group, const struct name *member,
                                   const struct name *name);

/* NULL: no memory. Nothing is left out silently: the next start would take it for removed. */
json_t *group_json(const struct group *group);

/* The definition of that epoch, without its hash yet. Every disk must be registered. Errors are
 * those of definition_add_member(), definition_add_disk() and definition_check(). */
int group_build(const struct group *group, uint64_t epoch, struct definition *ret, struct err *err);

#endif
