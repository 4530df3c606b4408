/* SPDX-License-Identifier: Apache-2.0 */
/* planted: mistakes that someone would make, each a run-time switch of a test build that defines
 * TIDE_PLANTED (tests/planted.sh); in every other build PLANTED() is 0 and nothing of it is left,
 * which a test looks at. X(NAME, what is done wrong) */
#ifndef TIDE_COMMON_CORE_PLANTED_H
#define TIDE_COMMON_CORE_PLANTED_H

#define TIDE_PLANTED_BUGS(X)                                                                       \
    X(DUTY_FORGOTTEN, "the tap forgets the duty limit, pause and all")                             \
    X(ACK_IN_HOLD, "writes are acknowledged in the hold")                                          \
    X(PAUSE_FORGOTTEN, "the tap holds again at once after a hold")                                 \
    X(EPOCH_BY_NUMBER, "a member compares epochs by number only")                                  \
    X(PARTIAL_AS_FULL, "a partial point is shown as full")                                         \
    X(SINGLE_AS_GROUP, "a single VM's point is shown as one of the group")                         \
    X(BOOKMARK_FIRST, "the tap begins to hold half a millisecond after its bookmark")              \
    X(RELEASE_EARLY, "the leader releases after n-1 HELD, and the reader does not compare H")      \
    X(EXPIRED_COUNTS, "the reader takes a hold that expired for held, and does not compare H")     \
    X(ABORTED_COUNTS, "the reader takes an aborted hold for held, and does not compare H")         \
    X(H_IGNORED,                                                                                   \
      "the reader looks at no H: seals may differ, and it need not be that of the bookmarks")

enum planted {
    PLANTED_NONE = 0,
#define X(name, text) PLANTED_##name,
    TIDE_PLANTED_BUGS(X)
#undef X
};

#ifdef TIDE_PLANTED
extern enum planted tide_planted; /* set before a run, not changed during one */
#define PLANTED(name) (tide_planted == PLANTED_##name)
#else
#define PLANTED(name) 0
#endif

#endif
