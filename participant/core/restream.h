/* SPDX-License-Identifier: Apache-2.0 */
/* restream: when another stream of a disk may be ordered. Each one copies the disk: what goes wrong
 * again and again (a log that cannot be read, a far side that takes none) must not copy it for
 * ever. So each pause is twice the one before it, up to TIDE_RESTREAM_MAX_US, and is short again
 * after TIDE_RESTREAM_CALM_US without one. Pure; time is an argument (microseconds, monotonic). */
#ifndef TIDE_PARTICIPANT_CORE_RESTREAM_H
#define TIDE_PARTICIPANT_CORE_RESTREAM_H

#include <stdbool.h>
#include <stdint.h>

#define TIDE_RESTREAM_MIN_US  60000000U
#define TIDE_RESTREAM_MAX_US  3600000000U
#define TIDE_RESTREAM_CALM_US 14400000000U

struct restream { /* all zero: none was ordered yet */
    uint64_t last_us;
    uint64_t pause_us;
};

/* True: it is to be ordered now, and counts as ordered. */
bool restream_due(struct restream *restream, uint64_t now_us);
/* The tap did not begin it, so nothing was copied: the next pause is short. */
void restream_refused(struct restream *restream);

#endif
