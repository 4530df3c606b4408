/* SPDX-License-Identifier: Apache-2.0 */
/* log: one line to standard error. From log_start() on a thread of its own writes the lines, so
 * that a caller never waits for a slow reader: lines go into a ring of LOG_QUEUE_MAX, and where
 * that is full they are counted and dropped ("N lines lost"). Before log_start() and after
 * log_stop() lines are written directly. Any thread. Under systemd (JOURNAL_STREAM set) a line
 * begins with `<N>`, else with the time and the level. Control characters in a line are replaced by
 * '?'. */
#ifndef TIDE_COMMON_IO_LOG_H
#define TIDE_COMMON_IO_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX  1024U /* bytes; longer lines are cut */
#define LOG_QUEUE_MAX 512U  /* lines */

enum log_level {
    LOG_LEVEL_ERROR = 3, /* numbers of syslog */
    LOG_LEVEL_WARN = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

/* `program` is copied (31 bytes). Lines above `max` are not written; default before: INFO. */
void log_start(const char *program, enum log_level max);
/* Writes what is queued, for at most one second, then ends the thread. */
void log_stop(void);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* For lines that a peer can cause at will: true at most `burst` times in each `period_us`;
 * *ret_lost (may be NULL) is then how many were held back since the last true. Zero-initialise; one
 * thread. */
struct log_limit {
    uint64_t window_us;
    uint64_t lost;
    unsigned used;
};
bool log_allowed(struct log_limit *limit, unsigned burst, uint64_t period_us, uint64_t now_us,
                 uint64_t *ret_lost);

#endif
