/* SPDX-License-Identifier: Apache-2.0 */
/* msg: what members say to each other on TCP 20004 (proto/link.proto, proto/protocol.md), as plain
 * values. common/wire/envelope.h turns them into bytes and back and checks every range; the state
 * machines of participant/core take them as they are. No pointers inside: a copy is a copy. A
 * struct msg is about 40 KiB (the sum of 256 members is the largest). */
#ifndef TIDE_COMMON_CORE_MSG_H
#define TIDE_COMMON_CORE_MSG_H

#include "common/core/definition.h"
#include "common/core/round.h"

/* Of the wire: the oldest version and the newest that this build speaks, and the features that it
 * understands, by bit. Tests have a build with other ones. */
#define TIDE_MSG_VERSION_MIN 1U
#ifndef TIDE_MSG_VERSION
#define TIDE_MSG_VERSION  1U
#define TIDE_MSG_FEATURES 0ULL
#endif
#define TIDE_MSG_TEXT_MAX 255 /* bytes of a text for people, without the NUL */

enum msg_type {
    MSG_HEARTBEAT = 16, /* numbers are the field numbers of Envelope */
    MSG_HOLD = 17,
    MSG_HELD = 18,
    MSG_REFUSED = 19,
    MSG_RELEASE = 20,
    MSG_ABORT = 21,
    MSG_SEALED = 22,
    MSG_SUM = 23,
    MSG_TAKE = 24,
    MSG_TAKEN = 25,
};

struct msg_head {
    uint32_t version;     /* that it is written in; 0 to envelope_encode(): TIDE_MSG_VERSION_MIN */
    uint32_t version_max; /* the newest its sender speaks; 0 to envelope_encode(): this build's */
    uint64_t features;    /* its sender understands; in a HOLD: the round may use, since all do */
    struct id group;
    struct name from;
    struct name to;
    struct epoch epoch;   /* of the sender's definition; number 0 and zero hash: none yet */
    uint64_t incarnation; /* of the sending daemon, drawn when it starts; never 0 */
};

struct msg_tap {
    struct id stream;
    uint64_t incarnation; /* 0: not attached */
    bool whole;
    uint8_t gap; /* not whole: the reason of its last gap, as the record has it; 0: not known */
};

struct msg_heartbeat {       /* every second on every link, and when something in it changes */
    uint32_t reach;          /* members that the sender reaches, itself included; 1.. */
    uint64_t sequence;       /* of this sender's incarnation, from 1 */
    struct id yield_round;   /* zero: does not yield; else after this failed round */
    enum round_reason lack;  /* why it takes no round of all members; NONE: it can, or is no
                                candidate */
    struct name lack_member; /* where; empty with NONE */
    bool alone;              /* members whom it leads may take rounds of scope `member` now */
    unsigned tap_count;
    struct msg_tap taps[TIDE_MEMBER_DISKS_MAX]; /* its own, in the definition's order */
};

struct msg_hold { /* leader -> member; group and epoch are the head's */
    struct id round;
    enum round_scope scope;
    enum round_kind kind;
    struct set set;
    uint32_t budget_us; /* TIDE_HOLD_US_MIN..TIDE_HOLD_US_MAX */
    unsigned tap_count;
    struct msg_tap taps[TIDE_MEMBER_DISKS_MAX]; /* of the addressee, as the leader last saw them */
};

struct msg_held {
    struct id round;
    unsigned mark_count; /* 1..; one per disk of the member in the set */
    struct round_mark marks[TIDE_MEMBER_DISKS_MAX];
};

struct msg_refused {
    struct id round;
    enum round_reason reason; /* never NONE */
    uint32_t outcome;         /* with reason ENDED: enum round_outcome; else 0 */
    struct id stream;         /* the disk it is about; zero: the member */
    char text[TIDE_MSG_TEXT_MAX + 1];
};

struct msg_release {
    struct id round;
    struct hash cut;
};

struct msg_abort {
    struct id round;
    enum round_reason reason; /* never NONE */
};

struct msg_seal {
    struct id stream;
    enum round_outcome outcome;
    bool appended;
    uint64_t lsn; /* 0 where not appended */
    uint64_t hold_us;
    uint64_t writes_held;
    uint64_t bytes_held;
};

struct msg_sealed {
    struct id round;
    enum round_outcome outcome; /* the worst of its taps */
    unsigned seal_count;        /* 1.. */
    struct msg_seal seals[TIDE_MEMBER_DISKS_MAX];
};

struct msg_member_sum {
    struct name member;
    uint64_t hold_us_max; /* longest hold of its disks */
    uint64_t writes_held; /* over its disks */
    uint32_t outcome;     /* enum round_outcome; 0: did not answer */
};

struct msg_sum { /* how a round went; for metrics and whoever asked, never for truth */
    struct id round;
    bool sealed_by_all;       /* every member of the set answered SEALED held (or unheld) */
    enum round_reason reason; /* the first thing wrong, else NONE */
    struct name member;       /* where; empty: nowhere in particular */
    char text[TIDE_MSG_TEXT_MAX + 1];
    uint64_t hold_us_max;
    unsigned member_count; /* members of the set */
    struct msg_member_sum members[TIDE_MEMBERS_MAX];
};

struct msg_take {
    struct id request; /* drawn by who asks; a repeat is answered the same */
    enum round_kind kind;
};

struct msg_taken {
    struct id request;
    struct id round; /* zero: none was started */
    bool sealed;     /* every member of the set sealed it as held (or unheld) */
    enum round_reason reason;
    struct name member; /* where it went wrong; may be empty */
    char text[TIDE_MSG_TEXT_MAX + 1];
};

struct msg {
    enum msg_type type;
    struct msg_head head;
    union {
        struct msg_heartbeat heartbeat;
        struct msg_hold hold;
        struct msg_held held;
        struct msg_refused refused;
        struct msg_release release;
        struct msg_abort abort;
        struct msg_sealed sealed;
        struct msg_sum sum;
        struct msg_take take;
        struct msg_taken taken;
    };
};

/* Bytes of struct msg that a message of this type uses, from its start: what to clear and to copy.
 * Most messages are far smaller than the largest. All of it for a number that is no type. */
static inline size_t msg_size(enum msg_type type)
{
#define TIDE_MSG_SIZE(name, member)                                                                \
    case MSG_##name:                                                                               \
        return offsetof(struct msg, member) + sizeof(((struct msg *)NULL)->member);
    switch (type) {
        TIDE_MSG_SIZE(HEARTBEAT, heartbeat)
        TIDE_MSG_SIZE(HOLD, hold)
        TIDE_MSG_SIZE(HELD, held)
        TIDE_MSG_SIZE(REFUSED, refused)
        TIDE_MSG_SIZE(RELEASE, release)
        TIDE_MSG_SIZE(ABORT, abort)
        TIDE_MSG_SIZE(SEALED, sealed)
        TIDE_MSG_SIZE(SUM, sum)
        TIDE_MSG_SIZE(TAKE, take)
        TIDE_MSG_SIZE(TAKEN, taken)
    default:
        return sizeof(struct msg);
    }
#undef TIDE_MSG_SIZE
}

#endif
