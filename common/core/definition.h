/* SPDX-License-Identifier: Apache-2.0 */
/* definition: what the coordinator issues for one group (proto/intake.proto): the immutable
 * definition, whose epoch is its number and the SHA-256 of its stored bytes, and beside it the
 * policy, which may change without a new epoch. Plain values without pointers; a definition is
 * about 220 KiB, so it lives on the heap or in a longer-lived struct, never on a stack.
 *
 * Disks lie flat: member m has disks[disk_first .. disk_first + disk_count), and the index in
 * `disks` is the bit of struct set. */
#ifndef TIDE_COMMON_CORE_DEFINITION_H
#define TIDE_COMMON_CORE_DEFINITION_H

#include "common/core/err.h"
#include "common/core/round.h"

#define TIDE_IDENTITY_MAX     255 /* bytes of a spiffe:// URI, without the NUL */
#define TIDE_ADDRESS_MAX      63  /* bytes of numeric IP:port, without the NUL */
#define TIDE_MEMBER_DISKS_MAX 64  /* disks of one member */
#define TIDE_CANDIDATES_MAX   3   /* members that may lead: the first of the definition */
#define TIDE_BLOCK_SIZE_MAX   65536U
#define TIDE_DISK_SIZE_UNIT   512U         /* every size of a disk is a multiple of it, from 1 */
#define TIDE_DISK_SIZE_MAX    (1ULL << 60) /* bytes */
#define TIDE_INTERVAL_MS_MIN  1000U
#define TIDE_INTERVAL_MS_MAX  86400000U
#define TIDE_INTERVAL_MS      5000U /* default */
#define TIDE_HOLD_US_MIN      5000U /* below it a hold is refused as BUSY or DUTY */
#define TIDE_HOLD_US_MAX      300000U
#define TIDE_HOLD_US          50000U /* default */

struct definition_disk {
    struct name name;
    struct id stream;
    struct id timeline;
    struct id disk;
    uint64_t size;       /* bytes, > 0; when its stream was first registered */
    uint32_t block_size; /* 512..TIDE_BLOCK_SIZE_MAX, a power of two */
    uint16_t member;     /* index of its member */
};

struct definition_member {
    struct name name;
    char identity[TIDE_IDENTITY_MAX + 1]; /* spiffe://SITE/participant/ID */
    char address[TIDE_ADDRESS_MAX + 1];   /* numeric IP:port of its link */
    uint16_t disk_first;                  /* flat index of its first disk */
    uint16_t disk_count;                  /* 1..TIDE_MEMBER_DISKS_MAX */
};

struct definition {
    struct id group;
    struct name group_name;
    struct epoch epoch;
    uint16_t member_count; /* 1..TIDE_MEMBERS_MAX */
    uint16_t disk_count;   /* 1..TIDE_DISKS_MAX, over all members */
    struct definition_member members[TIDE_MEMBERS_MAX];
    struct definition_disk disks[TIDE_DISKS_MAX];
};

enum policy_missing {
    POLICY_MISSING_STRICT = 1,  /* no group round unless every member is reached; the default */
    POLICY_MISSING_PARTIAL = 2, /* the set is who is reached, and the point says so */
};

struct policy {
    uint64_t interval_ms; /* TIDE_INTERVAL_MS_MIN..TIDE_INTERVAL_MS_MAX */
    uint32_t hold_us_max; /* budget in HOLD: TIDE_HOLD_US_MIN..TIDE_HOLD_US_MAX */
    enum policy_missing missing;
};

/* Empties *ret and sets the head. Then definition_add_member(), and after each member its disks. */
void definition_init(struct definition *ret, const struct id *group, const struct name *name,
                     uint64_t epoch_number);

/* Appends a member without disks, or a disk to the last member. The struct's index fields are set
 * here, whatever they hold.
 *   LIMIT     more members or disks than the limits above
 *   CONFLICT  the name (or the stream, disk or timeline id) is there already
 *   CORRUPT   an empty or overlong text, a zero id, a size or block size out of range */
int definition_add_member(struct definition *definition, const struct definition_member *member,
                          struct err *err);
int definition_add_disk(struct definition *definition, const struct definition_disk *disk,
                        struct err *err);

/* After the last disk. CORRUPT: no member, a member without a disk, a zero group id, epoch 0. The
 * epoch's hash is not looked at: who decoded or issued the bytes sets it. */
int definition_check(const struct definition *definition, struct err *err);

/* Index, or -1. */
int definition_find_member(const struct definition *definition, const struct name *name);
int definition_find_disk(const struct definition *definition, unsigned member,
                         const struct name *name); /* flat index */
int definition_find_stream(const struct definition *definition, const struct id *stream); /* flat */

/* Members that may lead: member indices 0 .. definition_candidates() - 1. */
unsigned definition_candidates(const struct definition *definition);

/* Adds all disks of a member to *set (made by set_init(set, definition->disk_count)). */
void definition_set_member(const struct definition *definition, unsigned member, struct set *set);
/* Whether *set has any disk of the member. */
bool definition_set_has_member(const struct definition *definition, unsigned member,
                               const struct set *set);

void policy_init(struct policy *ret); /* the defaults: 5 s, 50 ms, strict */
/* LIMIT: a number out of range; CORRUPT: missing is neither. */
int policy_check(const struct policy *policy, struct err *err);

#endif
