/* SPDX-License-Identifier: Apache-2.0 */
/* Breaks both rules of purity.py; never linked into anything. */
#include <stdint.h>
#include <time.h>

uint64_t impure_calls;
int64_t impure_now(void);

int64_t impure_now(void)
{
    struct timespec now;
    impure_calls++;
    return clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? now.tv_sec : -1;
}
