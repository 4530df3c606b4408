/* SPDX-License-Identifier: Apache-2.0 */
/* stats: what a row of paired samples says: medians, and how sure they are. */
#ifndef TIDE_TESTS_BENCH_STATS_H
#define TIDE_TESTS_BENCH_STATS_H

#include <stddef.h>

#define STATS_PAIRS_MAX 64U

/* The median, and the order statistics that enclose the true median at 95 % or more (ranks 4 and 12
 * of 15; lowest and highest of fewer than 6, which is less sure). */
struct stats {
    double median;
    double low;
    double high;
    size_t low_rank; /* from 1; the other is count + 1 - low_rank */
};

/* Sorts values. count 1..STATS_PAIRS_MAX. */
struct stats stats_of(double *values, size_t count);

/* Of a[i] / b[i]. */
struct stats stats_ratio(const double *a, const double *b, size_t count);

/* The value that `part` (0..1) of the values do not exceed; sorts them. count > 0. */
double stats_quantile(double *values, size_t count, double part);

/* "ok", "below aim", "below floor". */
const char *stats_verdict(double ratio, double aim, double floor);

#endif
