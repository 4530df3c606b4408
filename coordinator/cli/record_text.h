/* SPDX-License-Identifier: Apache-2.0 */
/* record_text: what a record of a stream says, for people, in printable ASCII whatever its bytes
 * are. */
#ifndef TIDE_COORDINATOR_CLI_RECORD_TEXT_H
#define TIDE_COORDINATOR_CLI_RECORD_TEXT_H

#include "common/hrl/record.h"

#define RECORD_TEXT_DETAIL_MAX 512

/* All but LSN, type and incarnation; empty where there is nothing more. */
void record_text_detail(const struct record *r, char ret[RECORD_TEXT_DETAIL_MAX]);

/* Nanoseconds since 1970 as UTC with milliseconds; cut at size - 1. */
void record_text_time(uint64_t wall_ns, char *ret, size_t size);

#endif
