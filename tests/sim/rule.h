/* SPDX-License-Identifier: Apache-2.0 */
/* rule: the reader's rule of proto/protocol.md once more, straight from the page and over whole
 * streams: slow, without state, and without a line of coordinator/core/align, common/hrl/whole or
 * common/core/cut. */
#ifndef TIDE_TESTS_SIM_RULE_H
#define TIDE_TESTS_SIM_RULE_H

#include "tests/sim/check.h"

/* Appends to a stream. */
void rule_add(struct check_stream *stream, uint64_t at_us, const struct record *record);
/* Forgets the records of that LSN and after it. */
void rule_cut(struct check_stream *stream, uint64_t lsn);

/* Index of the stream's first bookmark of that id; -1: none. */
long rule_bookmark(const struct check_stream *stream, const struct id *round);

bool rule_order_equal(const struct round_order *a, const struct round_order *b);

/* The answer for a round, from what the streams of the definition, in its order, hold now. */
enum round_answer rule_round(const struct definition *definition,
                             const struct check_stream *const *streams,
                             const struct round_order *order);

#endif
