/* SPDX-License-Identifier: Apache-2.0 */
/* hours: the text of `bandwidth-hours`: "HH:MM-HH:MM SIZE[, HH:MM-HH:MM SIZE...]", where SIZE is as
 * in `bandwidth`, or `off`. 24:00 is the end of a day; hours that end before they begin go on to
 * the next day. */
#ifndef TIDE_PARTICIPANT_HOURS_H
#define TIDE_PARTICIPANT_HOURS_H

#include "common/core/err.h"
#include "participant/core/bandwidth.h"

/* SIZE: bytes a second, 0 (no limit) or TIDE_BANDWIDTH_MIN..MAX. CONFIG. */
int hours_parse_size(const char *text, uint64_t *ret, struct err *err);
/* Adds to rules->hours. CONFIG: the form; more than TIDE_BANDWIDTH_HOURS_MAX; two that overlap. */
int hours_parse(const char *text, struct bandwidth_rules *rules, struct err *err);

#endif
