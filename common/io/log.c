/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/loop.h"

#define LOG_PROGRAM_MAX  32
#define LOG_PREFIX_MAX   96
#define LOG_STOP_SECONDS 1

struct log_slot {
    enum log_level level;
    struct timespec time;
    char text[LOG_LINE_MAX];
};

/* One log a process. The mutex is never held over a write. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    struct log_slot *slots; /* ring; NULL: lines are written directly */
    size_t first;
    size_t count;
    uint64_t lost;
    enum log_level max;
    char program[LOG_PROGRAM_MAX];
    bool stopping;
    bool journal; /* standard error is systemd's */
} the = {.changed = PTHREAD_COND_INITIALIZER, .max = LOG_LEVEL_INFO, .program = "tidemark"};

static pthread_once_t log_once = PTHREAD_ONCE_INIT;

static void log_init(void)
{
    loop_mutex_init(&the.mutex);
}

static void log_lock(void)
{
    TIDE_CHECK(pthread_once(&log_once, log_init) == 0);
    TIDE_CHECK(pthread_mutex_lock(&the.mutex) == 0);
}

static const char *log_level_text(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARN:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "?";
}

static void log_write(const struct log_slot *slot)
{
    char line[LOG_PREFIX_MAX + LOG_LINE_MAX + 1];
    int n;
    if (the.journal) {
        n = snprintf(line, sizeof(line), "<%d>%s\n", (int)slot->level, slot->text);
    } else {
        char time[CLOCK_TEXT_MAX];
        n = snprintf(line, sizeof(line), "%s.%03ldZ %s %s: %s\n",
                     clock_text(slot->time.tv_sec, time), slot->time.tv_nsec / 1000000, the.program,
                     log_level_text(slot->level), slot->text);
    }
    size_t size = n < 0 ? 0 : (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1;
    size_t done = 0;
    while (done < size) {
        ssize_t put = write(STDERR_FILENO, line + done, size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            break; /* there is nowhere else to say it */
        done += (size_t)put;
    }
}

static void *log_thread(void *arg)
{
    (void)arg;
    (void)pthread_setname_np(pthread_self(), "log");
    struct log_slot slot;
    log_lock();
    for (;;) {
        while (the.count == 0 && the.lost == 0 && !the.stopping)
            (void)pthread_cond_wait(&the.changed, &the.mutex);
        if (the.count == 0 && the.lost == 0)
            break;
        if (the.count > 0) {
            slot = the.slots[the.first];
            the.first = (the.first + 1) % LOG_QUEUE_MAX;
            the.count--;
        } else {
            slot.level = LOG_LEVEL_WARN;
            (void)clock_gettime(CLOCK_REALTIME, &slot.time);
            (void)snprintf(slot.text, sizeof(slot.text),
                           "%llu lines lost: the log's reader is too slow",
                           (unsigned long long)the.lost);
            the.lost = 0;
        }
        (void)pthread_mutex_unlock(&the.mutex);
        log_write(&slot);
        log_lock();
    }
    (void)pthread_cond_broadcast(&the.changed);
    (void)pthread_mutex_unlock(&the.mutex);
    return NULL;
}

void log_start(const char *program, enum log_level max)
{
    sigset_t all;
    sigset_t before;
    log_lock();
    TIDE_CHECK(the.slots == NULL);
    (void)snprintf(the.program, sizeof(the.program), "%s", program);
    the.max = max;
    the.journal = getenv("JOURNAL_STREAM") != NULL && !isatty(STDERR_FILENO);
    the.slots = calloc(LOG_QUEUE_MAX, sizeof(*the.slots));
    TIDE_CHECK(the.slots != NULL);
    the.first = the.count = 0;
    the.stopping = false;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    TIDE_CHECK(pthread_create(&the.thread, NULL, log_thread, NULL) == 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_mutex_unlock(&the.mutex);
}

void log_stop(void)
{
    struct timespec until;
    log_lock();
    if (the.slots == NULL) {
        (void)pthread_mutex_unlock(&the.mutex);
        return;
    }
    the.stopping = true;
    (void)pthread_cond_broadcast(&the.changed);
    (void)pthread_mutex_unlock(&the.mutex);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOG_STOP_SECONDS;
    if (pthread_timedjoin_np(the.thread, NULL, &until) != 0)
        return; /* its reader does not read; the process is about to end */
    log_lock();
    free(the.slots);
    the.slots = NULL;
    (void)pthread_mutex_unlock(&the.mutex);
}

void log_line(enum log_level level, const char *format, ...)
{
    struct log_slot slot = {.level = level};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(slot.text, sizeof(slot.text), format, args);
    va_end(args);
    for (char *c = slot.text; *c != 0; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    (void)clock_gettime(CLOCK_REALTIME, &slot.time);
    log_lock();
    bool direct = false;
    if (level > the.max) {
        /* not wanted */
    } else if (the.slots == NULL) {
        direct = true;
    } else if (the.count == LOG_QUEUE_MAX) {
        the.lost++;
    } else {
        the.slots[(the.first + the.count) % LOG_QUEUE_MAX] = slot;
        the.count++;
        (void)pthread_cond_signal(&the.changed);
    }
    (void)pthread_mutex_unlock(&the.mutex);
    if (direct)
        log_write(&slot);
}

bool log_allowed(struct log_limit *limit, unsigned burst, uint64_t period_us, uint64_t now_us,
                 uint64_t *ret_lost)
{
    if (limit->used == 0 || now_us - limit->window_us >= period_us) {
        limit->window_us = now_us;
        limit->used = 0;
    }
    if (limit->used >= burst) {
        limit->lost++;
        return false;
    }
    limit->used++;
    if (ret_lost != NULL)
        *ret_lost = limit->lost;
    limit->lost = 0;
    return true;
}
