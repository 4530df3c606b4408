/* SPDX-License-Identifier: Apache-2.0 */
/* news: what a daemon tells people of: the kinds of its events, which of them lie between two
 * STATEs of a tap, and what a group's lack means for its points. */
#ifndef TIDE_PARTICIPANT_CORE_NEWS_H
#define TIDE_PARTICIPANT_CORE_NEWS_H

#include "common/core/tapctl.h"
#include "participant/core/leader.h"

/* X(NAME, text, whether somebody should look) */
#define TIDE_NEWS(X)                                                                               \
    X(ATTACHED, "attached", false)                                                                 \
    X(LOST, "lost", true)                                                                          \
    X(GAP, "gap", true)                                                                            \
    X(WHOLE, "whole", false)                                                                       \
    X(LOG_OFF, "log-off", true)                                                                    \
    X(LOG_ON, "log-on", false)                                                                     \
    X(COPY_BEGUN, "copy-begun", false)                                                             \
    X(COPY_ENDED, "copy-ended", false)                                                             \
    X(COMPARING_BEGUN, "comparing-begun", false)                                                   \
    X(COMPARING_ENDED, "comparing-ended", false)                                                   \
    X(RESIZED, "resized", false)                                                                   \
    X(RESTREAMED, "restreamed", true) /* the tap has begun a new stream */                         \
    X(SHIPPING_WAITS, "shipping-waits", true)                                                      \
    X(SHIPPING_STOPPED, "shipping-stopped", true)                                                  \
    X(SHIPPING_AGAIN, "shipping-again", false)                                                     \
    X(ROUND_FAILED, "round-failed", true)   /* it had begun */                                     \
    X(ROUND_REFUSED, "round-refused", true) /* not begun */                                        \
    X(POINTS_LOST, "points-lost", true)     /* of the group: there are none */                     \
    X(POINTS_PARTIAL, "points-partial", true)                                                      \
    X(POINTS_BACK, "points-back", false) /* of the whole group */                                  \
    X(SLOW_MEMBER, "slow-member", true)  /* the group's holds last nearly their budget for it */   \
    X(INTERVAL_LONGER, "interval-longer", true) /* holds use up what they may */                   \
    X(INTERVAL_BACK, "interval-back", false)

enum news_type {
#define X(name, text, look) NEWS_##name,
    TIDE_NEWS(X)
#undef X
};

#define TIDE_NEWS_TEXT_MAX  127U
#define TIDE_NEWS_STATE_MAX 8U /* between two STATEs */

struct news {
    enum news_type type;
    char text[TIDE_NEWS_TEXT_MAX + 1];
};

const char *news_name(enum news_type type);
bool news_warns(enum news_type type); /* somebody should look */

/* From `before` (all zero: none was heard of this stream; then only what is wrong now, or under
 * way, is news) to `now`. Returns how many are in ret, in the order to tell them. */
unsigned news_of_state(const struct tapctl_state *before, const struct tapctl_state *now,
                       struct news ret[TIDE_NEWS_STATE_MAX]);

/* What a change of lack means. */
struct news news_of_lack(const struct leader_lack *lack);

/* What points there are now, in one word: "group", "partial" (of the group, without who is
 * missing), "single-vm" (of this VM alone, never of the group) or "none". */
const char *news_points(const struct leader_lack *lack);

#endif
