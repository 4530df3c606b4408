/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/round.h"

#include <stddef.h>

#define NAME_OF(enumerator, number, text)                                                          \
    if (value == (number)) {                                                                       \
        return text;                                                                               \
    }
#define NAMES(function, list)                                                                      \
    const char *function(unsigned value)                                                           \
    {                                                                                              \
        list(NAME_OF) return NULL;                                                                 \
    }

NAMES(round_kind_name, TIDE_KINDS)
NAMES(round_scope_name, TIDE_SCOPES)
NAMES(round_outcome_name, TIDE_OUTCOMES)
NAMES(round_reason_name, TIDE_REASONS)
NAMES(round_answer_name, TIDE_ANSWERS)

bool epoch_equal(const struct epoch *a, const struct epoch *b)
{
    return a->number == b->number && hash_equal(&a->hash, &b->hash);
}
