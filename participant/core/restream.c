/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/restream.h"

bool restream_due(struct restream *r, uint64_t now_us)
{
    uint64_t passed = now_us - r->last_us;
    if (r->pause_us > 0 && passed < r->pause_us) {
        return false;
    }
    uint64_t next = r->pause_us * 2;
    bool calm = r->pause_us == 0 || passed >= TIDE_RESTREAM_CALM_US;
    r->pause_us = calm                          ? TIDE_RESTREAM_MIN_US
                  : next < TIDE_RESTREAM_MAX_US ? next
                                                : TIDE_RESTREAM_MAX_US;
    r->last_us = now_us;
    return true;
}

void restream_refused(struct restream *r)
{
    r->pause_us = TIDE_RESTREAM_MIN_US;
}
