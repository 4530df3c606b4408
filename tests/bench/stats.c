/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/stats.h"

#include "common/core/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TAIL 0.025

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The highest k with P(fewer than k of count fair coins fall heads) <= TAIL; at least 1. */
static size_t rank_of(size_t count)
{
    double term = pow(0.5, (double)count); /* P(exactly i) */
    double sum = 0;
    size_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        sum += term;
        if (sum > TAIL) {
            break;
        }
        rank = i + 1;
        term *= (double)(count - i) / (double)(i + 1);
    }
    return rank > 0 ? rank : 1;
}

struct stats stats_of(double *values, size_t count)
{
    TIDE_CHECK(count > 0 && count <= STATS_PAIRS_MAX);
    qsort(values, count, sizeof values[0], by_value);
    size_t rank = rank_of(count);
    return (struct stats){.median = (values[(count - 1) / 2] + values[count / 2]) / 2,
                          .low = values[rank - 1],
                          .high = values[count - rank],
                          .low_rank = rank};
}

struct stats stats_ratio(const double *a, const double *b, size_t count)
{
    double ratio[STATS_PAIRS_MAX];
    TIDE_CHECK(count > 0 && count <= STATS_PAIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        ratio[i] = a[i] / b[i];
    }
    return stats_of(ratio, count);
}

double stats_quantile(double *values, size_t count, double part)
{
    TIDE_CHECK(count > 0 && part >= 0 && part <= 1);
    qsort(values, count, sizeof values[0], by_value);
    return values[(size_t)((double)(count - 1) * part)];
}

const char *stats_verdict(double ratio, double aim, double floor)
{
    return ratio >= aim ? "ok" : ratio >= floor ? "below aim" : "below floor";
}
