/* SPDX-License-Identifier: Apache-2.0 */
/* standing: how it stands with a disk, in one word for people and tools, out of what its tap says.
 * The one place where that is decided. What is not known counts as the worse. */
#ifndef TIDE_PARTICIPANT_CORE_STANDING_H
#define TIDE_PARTICIPANT_CORE_STANDING_H

#include "common/core/tapctl.h"

/* X(NAME, text), the worst first: the first that is so is the word */
#define TIDE_STANDINGS(X)                                                                          \
    X(NO_TAP, "no-tap")           /* no tap is connected: nothing is known of it now */            \
    X(NOT_LOGGING, "not-logging") /* log full or failed: writes go past it */                      \
    X(WHOLE, "whole")             /* base and log together are the disk */                         \
    X(WAITING, "waiting")         /* its copy waits for the far side */                            \
    X(COMPARING, "comparing")     /* its copy, of what is found to differ */                       \
    X(COPYING, "copying")         /* its copy, of all that is known to differ */                   \
    X(NOT_WHOLE, "not-whole") /* and nothing mends it now: no copy, or the image cannot be read */

enum standing {
#define X(name, text) STANDING_##name,
    TIDE_STANDINGS(X)
#undef X
};

/* `whole` and `logging`: of the tap's WELCOME, or its last STATE; `state`: all zero until one was
 * heard in this session. */
enum standing standing_of(bool attached, bool whole, bool logging,
                          const struct tapctl_state *state);
const char *standing_name(enum standing standing);

/* Why it is not whole: the gap's reason, or `lost` (why no tap is there). Empty: it is whole, or
 * no reason is known. */
const char *standing_reason(enum standing standing, const struct tapctl_state *state,
                            const char *lost);

#endif
