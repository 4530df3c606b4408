/* SPDX-License-Identifier: Apache-2.0 */
/* planted: mistakes that someone would make, each a run-time switch of a test build that defines
 * TIDE_PLANTED (tests/planted.sh); in every other build PLANTED() is 0 and nothing of it is left,
 * which a test looks at. Those of the second list change nothing taken alone, for behind each
 * stands a second line; many of the first list are such a mistake with its second line taken away
 * too. X(NAME, what is done wrong) */
#ifndef TIDE_COMMON_CORE_PLANTED_H
#define TIDE_COMMON_CORE_PLANTED_H

#define TIDE_PLANTED_BUGS(X)                                                                       \
    X(DUTY_FORGOTTEN, "the tap forgets the duty limit, pause and all")                             \
    X(ACK_IN_HOLD, "writes are acknowledged in the hold")                                          \
    X(BUDGET_TENFOLD, "the tap holds for ten times the budget")                                    \
    X(PAUSE_FORGOTTEN, "the tap holds again at once after a hold")                                 \
    X(DUTY_ANEW, "a tap that starts again forgets that it may have held just before")              \
    X(EPOCH_BY_NUMBER, "a member compares epochs by number only")                                  \
    X(PARTIAL_AS_FULL, "a partial point is shown as full")                                         \
    X(SINGLE_AS_GROUP, "a single VM's point is shown as one of the group")                         \
    X(BOOKMARK_FIRST, "the tap begins to hold half a millisecond after its bookmark")              \
    X(RELEASE_EARLY, "the leader releases after n-1 HELD, and the reader does not compare H")      \
    X(EXPIRED_COUNTS, "the reader takes a hold that expired for held, and does not compare H")     \
    X(ABORTED_COUNTS, "the reader takes an aborted hold for held, and does not compare H")         \
    X(H_IGNORED,                                                                                   \
      "the reader looks at no H: seals may differ, and it need not be that of the bookmarks")      \
    X(ZERO_NOT_HELD, "a zero is acknowledged in the hold")                                         \
    X(OVERLAP_SWAPPED, "overlapping writes reach the image in another order than the log")         \
    X(COPY_OVER_NEWER, "a copy logs a block that the guest has changed since it was read")         \
    X(WHOLE_EARLY, "a copy ends, and its disk is whole, before the last block was sent")           \
    X(TORN_ACCEPTED, "a torn record counts: no checksum is compared")                              \
    X(LSN_REUSED, "a tap that starts goes on at its checkpoint: LSNs are used again")              \
    X(END_KEPT, "what a failed log left behind its end is not cleared")                            \
    X(POWER_WITHOUT_GAP, "no gap is written after a power cut")                                    \
    X(OVERFLOW_WITHOUT_GAP, "no gap is written when the log is full")                              \
    X(OPEN_UNSEALED, "a bookmark that a crash left open is not sealed")                            \
    X(ATTACH_MISSING, "a tap that starts again writes no ATTACH")                                  \
    X(SHIPPED_UNSYNCED, "the daemon ships what the tap has not synced")                            \
    X(RECLAIM_RECEIVED, "a tap reclaims what the far side has received and not stored")            \
    X(STORED_UNSYNCED, "the far side says stored before its sync has ended")                       \
    X(FLUSH_UNSYNCED, "a write with FUA is acknowledged before its sync")                          \
    X(POINT_UNSTORED, "a point is published before its streams are stored")                        \
    X(NONCE_KEPT, "the tap draws one nonce and uses it for all its bookmarks")                     \
    X(NONCE_ROUND, "the nonce is the round's id")                                                  \
    X(NONCE_COUNTED, "nonces come from a sequence that begins anew with each start")               \
    X(BUSY_IGNORED, "neither member nor tap says BUSY to a second round")                          \
    X(BUDGET_REARMED, "the member passes on a HOLD heard again, the tap then renews the budget")   \
    X(EXPIRED_HELD, "a hold that outlived its budget is sealed held")                              \
    X(RELEASE_REVIVES, "a RELEASE after expiry, but before the seal, makes it held")               \
    X(CONTROLLER_IGNORED, "the tap holds on when its daemon is gone")                              \
    X(INCARNATION_IGNORED, "neither member nor tap looks at the incarnation in HOLD")              \
    X(RELEASE_OF_ANY, "neither member nor tap looks which round a RELEASE is for")                 \
    X(ABORT_HELD, "ABORT ends a hold as RELEASE does")                                             \
    X(WHOLE_IGNORED, "nobody looks whether a disk is whole")                                       \
    X(ENDED_FORGOTTEN, "neither member nor tap remembers rounds that have ended")                  \
    X(DELAY_OVER_EPOCH, "a HOLD that waits is obeyed after the definition changed")                \
    X(LEADER_COUNTS_BLIND, "the leader counts HELDs, repeated ones too; H is not compared")        \
    X(HELD_EARLY_BLIND, "the member says HELD when its first tap holds; H is not compared")        \
    X(ENDED_TOLD, "the leader calls sealed what expired or was aborted")                           \
    X(FIRST_SEALED_TOLD, "the leader calls the round sealed by all at the first SEALED")           \
    X(STRICT_FORGOTTEN, "the leader takes partial rounds though the policy is strict")             \
    X(SET_TOO_WIDE, "a partial round's set names all, and the reader passes over who is missing")  \
    X(H_NOT_COMPARED, "seals must agree, but H need not be that of the bookmarks")                 \
    X(SEALS_NOT_COMPARED, "the first seal's H is that of the bookmarks, the others may differ")    \
    X(REREAD_COUNTS, "the reader takes records that it has read before for new ones")              \
    X(MISSING_IS_NO, "a bookmark that is not there yet is a no")                                   \
    X(SET_IGNORED, "the reader lets bookmarks of one id have different sets")                      \
    X(LATEST_DEFINITION, "the reader judges every round by the newest definition")                 \
    X(RELEASE_EARLY_ALONE, "the leader releases after n-1 HELD")                                   \
    X(LEADER_COUNTS, "the leader counts HELDs, repeated ones too")                                 \
    X(HELD_EARLY, "the member says HELD when its first tap holds")                                 \
    X(WIDE_SET, "a partial round's set names all")                                                 \
    X(MEMBER_INCARNATION, "the member does not look at the incarnation in HOLD")                   \
    X(GATE_ENDED, "the tap does not remember rounds that have ended")                              \
    X(TAKERS_WHOLE, "leader, member and tap do not look whether a disk is whole")

#define TIDE_PLANTED_HARMLESS(X)                                                                   \
    X(OVERLAP, "the leader begins a round before the last one is sealed")                          \
    X(LEADER_GAP_FORGOTTEN, "the leader leaves no time between rounds")                            \
    X(GATE_REARMS, "the tap renews the budget for a HOLD heard again")                             \
    X(MEMBER_REARMS, "the member passes on a HOLD heard again")                                    \
    X(GATE_BUSY, "the tap says no BUSY")                                                           \
    X(MEMBER_BUSY, "the member says no BUSY")                                                      \
    X(GATE_INCARNATION, "the tap does not look at the incarnation in HOLD")                        \
    X(GATE_ANY_RELEASE, "the tap does not look which round a RELEASE is for")                      \
    X(MEMBER_ANY_RELEASE, "the member does not look which round a RELEASE is for")                 \
    X(MEMBER_ENDED, "the member does not remember rounds that have ended")                         \
    X(READER_WHOLE, "the reader does not look whether a disk is whole")                            \
    X(LAST_BOOKMARK, "the reader takes a round's last bookmark of a stream, not the first")        \
    X(ATTACH_PASSED, "to the reader a restart does not end a hold")

enum planted {
    PLANTED_NONE = 0,
#define X(name, text) PLANTED_##name,
    TIDE_PLANTED_BUGS(X) TIDE_PLANTED_HARMLESS(X)
#undef X
};

#ifdef TIDE_PLANTED
extern enum planted tide_planted; /* set before a run, not changed during one */
#define PLANTED(name) (tide_planted == PLANTED_##name)
#else
#define PLANTED(name) 0
#endif
#define PLANTED_EITHER(a, b) (PLANTED(a) || PLANTED(b))

#endif
