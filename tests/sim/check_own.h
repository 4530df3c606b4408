/* SPDX-License-Identifier: Apache-2.0 */
/* check_own: what check.c (what happens, answers, the end) and check_order.c (orders and what came
 * of them) share. For them alone. */
#ifndef TIDE_TESTS_SIM_CHECK_OWN_H
#define TIDE_TESTS_SIM_CHECK_OWN_H

#include "tests/sim/check.h"

#define DISKS_MAX     TIDE_DISKS_MAX
#define EPOCHS_MAX    64
#define TOKENS_MAX    64
#define DUTY_US       100000U /* protocol.md, "The budget, and the duty limit" */
#define WINDOW_US     1000000U
#define PAUSE_US      100000U
#define CAP_US        50000U
#define SPANS         16   /* holds of a disk that can touch one second, with room */
#define ON_ITS_WAY_US 200U /* from daemon to tap */

struct span {
    uint64_t start_us;
    uint64_t end_us;
};

/* Times of holds are those of the disk's own clock. */
struct disk {
    struct check_stream stream;
    uint64_t shown;    /* readers have had no record after it; 0: they had all */
    uint64_t clock_us; /* what its clock shows; 0: nobody said, it is true time */
    bool holding;
    uint64_t jumped_us; /* its clock, during this hold */
    bool outlived;      /* the last hold ended when its budget was over */
    uint64_t start_us;
    uint64_t deadline_us;
    struct span spans[SPANS];
    unsigned span_count; /* ever */
    uint32_t *writes;    /* to it, in order */
    size_t write_count;
    size_t write_room;
};

struct write {
    unsigned disk;
    uint64_t lsn;
    int token;
    bool has_cause;
    uint64_t lost_us; /* when its log ended before it; 0: it has not */
};

struct answer {
    struct round_order order;
    enum round_answer answer;
};

struct stale {
    struct id round;
    unsigned member;
};

struct issued { /* a definition; its disks' numbers in the first one, and their streams */
    const struct definition *definition;
    uint16_t flat[DISKS_MAX];
    const struct check_stream *streams[DISKS_MAX];
};

struct knows { /* what a member goes by */
    const struct definition *now;
    const struct definition *before;
    uint64_t since_us;
};

struct check {
    const struct definition *definition; /* the first: numbers are those of it */
    struct issued *issued[EPOCHS_MAX];
    unsigned issued_count;
    struct knows knows[TIDE_MEMBERS_MAX];
    bool strict;
    bool orders_seen; /* messages are shown to it */
    struct disk disks[DISKS_MAX];
    struct write *writes;
    size_t write_count;
    size_t write_room;
    struct answer *answers; /* yes or no, once given */
    struct idmap answer_of;
    size_t answer_count;
    size_t answer_room;
    struct stale *stale;
    size_t stale_count;
    size_t stale_room;
    struct hash *released; /* H of each RELEASE that came to a member */
    struct idmap released_of;
    size_t released_count;
    size_t released_room;
    struct id *told; /* rounds that a leader said were sealed by all */
    size_t told_count;
    size_t told_room;
    struct idmap hostile; /* rounds of, or disturbed by, one who lies */
    unsigned late;
    uint64_t hold_us_max;
    uint64_t digest;
    char failure[400];
};

void *check_room(void *from, size_t *room, size_t count, size_t size);
void check_fold(struct check *check, const void *bytes, size_t size); /* into the digest */
const char *check_disk_name(const struct check *check, unsigned disk);
/* NULL: nobody issued it. */
const struct issued *check_issued(const struct check *check, const struct epoch *epoch);
/* Whether the set of that order is all disks of its definition. */
bool check_is_all(const struct check *check, const struct round_order *order);
/* The member of whom the set is all disks, and no others; -1: there is none. */
int check_of_one(const struct check *check, const struct round_order *order);

/* ---- check_order.c ---- */

void check_bookmark(struct check *check, uint64_t now_us, unsigned disk,
                    const struct record *record, bool again);
void check_seal(struct check *check, uint64_t now_us, unsigned disk, const struct record *record);
void check_told(struct check *check, uint64_t now_us); /* at the end */
void check_order_free(struct check *check);

#endif
