/* SPDX-License-Identifier: Apache-2.0 */
/* statement: what a member attests of its part of one round (proto/certificate.proto). Made by
 * participant/core/member, turned into bytes by common/wire/certificate, signed by the daemon. */
#ifndef TIDE_COMMON_CORE_STATEMENT_H
#define TIDE_COMMON_CORE_STATEMENT_H

#include "common/core/definition.h"

struct statement_disk {
    struct round_mark mark;
    uint64_t seal_lsn; /* 0: not appended */
    enum round_outcome outcome;
    uint64_t hold_us;
    uint64_t writes_held;
};

struct statement {
    struct id group;
    struct name member;
    struct id round;
    struct epoch epoch;
    struct hash cut;
    uint64_t wall_ns;    /* since 1970, when it was signed; the machine leaves 0 for the daemon to fill */
    unsigned disk_count; /* 1..TIDE_MEMBER_DISKS_MAX */
    struct statement_disk disks[TIDE_MEMBER_DISKS_MAX];
};

#endif
