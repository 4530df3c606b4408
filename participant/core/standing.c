/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/standing.h"

#include "common/hrl/record.h"

static enum standing of_copy(const struct tapctl_state *state)
{
    switch (state->copy) {
    case TAPCTL_COPY_RUNNING:
        return state->comparing ? STANDING_COMPARING : STANDING_COPYING;
    case TAPCTL_COPY_COMPARING:
        return STANDING_COMPARING;
    case TAPCTL_COPY_WAITING:
        return STANDING_WAITING;
    case TAPCTL_COPY_NONE:
    case TAPCTL_COPY_OFF:
    case TAPCTL_COPY_FAILING:
        return STANDING_NOT_WHOLE;
    }
    return STANDING_NOT_WHOLE;
}

enum standing standing_of(bool attached, bool whole, bool logging, const struct tapctl_state *state)
{
    if (!attached) {
        return STANDING_NO_TAP;
    }
    if (!logging) {
        return STANDING_NOT_LOGGING;
    }
    return whole ? STANDING_WHOLE : of_copy(state);
}

const char *standing_name(enum standing standing)
{
    static const char *const names[] = {
#define X(name, text) text,
        TIDE_STANDINGS(X)
#undef X
    };
    return names[standing];
}

const char *standing_reason(enum standing standing, const struct tapctl_state *state,
                            const char *lost)
{
    const char *gap = record_gap_name(state->gap_reason);
    if (standing == STANDING_NO_TAP) {
        return lost;
    }
    return standing == STANDING_WHOLE || gap == NULL ? "" : gap;
}
