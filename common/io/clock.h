/* SPDX-License-Identifier: Apache-2.0 */
/* clock: the only place that reads one. Monotonic time decides, wall time is for people. */
#ifndef TIDE_COMMON_IO_CLOCK_H
#define TIDE_COMMON_IO_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_US_PER_MS 1000U
#define CLOCK_US_PER_S  1000000U

uint64_t clock_mono_us(void); /* CLOCK_MONOTONIC, microseconds; stands still in suspend */
uint64_t clock_wall_ns(void); /* CLOCK_REALTIME, nanoseconds since 1970; may jump */

/* The kernel's bound on the wall clock's error in microseconds (adjtimex maxerror). False, and *ret
 * untouched, where the kernel says that the clock is not synchronised. */
bool clock_wall_error_us(uint64_t *ret);

#define CLOCK_TEXT_MAX 32
/* 2026-11-28T06:29:40, UTC, for a fraction or Z to follow; "?" where that is no time of a calendar.
 * Returns ret_text. */
char *clock_text(int64_t seconds_since_1970, char ret_text[CLOCK_TEXT_MAX]);

#endif
