/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/clock.h"

#include <stdio.h>
#include <sys/timex.h>
#include <time.h>

#include "common/core/check.h"

#define NS_PER_S  1000000000ULL
#define NS_PER_US 1000ULL

uint64_t clock_mono_us(void)
{
    struct timespec now;
    TIDE_CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * CLOCK_US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US;
}

uint64_t clock_wall_ns(void)
{
    struct timespec now;
    TIDE_CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

bool clock_wall_error_us(uint64_t *ret)
{
    struct timex timex = {.modes = 0};
    int state = adjtimex(&timex);
    if (state < 0 || state == TIME_ERROR || (timex.status & STA_UNSYNC) != 0 || timex.maxerror < 0)
        return false;
    *ret = (uint64_t)timex.maxerror;
    return true;
}

char *clock_text(int64_t seconds_since_1970, char ret_text[CLOCK_TEXT_MAX])
{
    time_t seconds = (time_t)seconds_since_1970;
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(ret_text, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        (void)snprintf(ret_text, CLOCK_TEXT_MAX, "?");
    return ret_text;
}
