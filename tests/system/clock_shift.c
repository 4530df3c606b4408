/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a process: its wall clock is off by as many seconds as the file named by
 * TIDE_CLOCK says (a whole number, which may be negative), from then on that the file says so; it
 * is looked at every 10 ms at most. Time that runs (CLOCK_MONOTONIC) is left alone, as is the
 * machine's clock. Who waits for a condition until a time of the wall clock waits by this one, as
 * with a kernel whose clock is set: hours too long, or not at all. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS  10000000
#define SLICE_NS 20000000
#define WALL_S   1000000000 /* a time over it is no time since the machine's start */

static int real(clockid_t clock, struct timespec *ret)
{
    static int (*_Atomic call)(clockid_t, struct timespec *);
    if (call == NULL) {
        int (*found)(clockid_t, struct timespec *) = NULL;
        *(void **)&found = dlsym(RTLD_NEXT, "clock_gettime");
        call = found;
    }
    return call(clock, ret);
}

static int64_t shift_s(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t looked_ns;
    static int64_t shift;
    struct timespec now;
    (void)real(CLOCK_MONOTONIC, &now);
    int64_t now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    pthread_mutex_lock(&lock);
    if (looked_ns == 0 || now_ns - looked_ns > LOOK_NS) {
        char text[32] = {0};
        const char *path = getenv("TIDE_CLOCK");
        int from = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        shift = from >= 0 && read(from, text, sizeof text - 1) > 0 ? strtoll(text, NULL, 10) : 0;
        if (from >= 0) {
            (void)close(from);
        }
        looked_ns = now_ns;
    }
    int64_t result = shift;
    pthread_mutex_unlock(&lock);
    return result;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int result = real(clock, ret);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ret->tv_sec += shift_s();
    }
    return result;
}

__attribute__((visibility("default"))) time_t time(time_t *ret)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret != NULL) {
        *ret = now.tv_sec;
    }
    return now.tv_sec;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *ret, void *zone)
{
    struct timespec now;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return 0;
}

static bool over(const struct timespec *until)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

__attribute__((visibility("default"))) int
pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*_Atomic call)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (call == NULL) {
        int (*found)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) = NULL;
        *(void **)&found = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        call = found;
    }
    if (until->tv_sec < WALL_S) {
        return call(cond, mutex, until);
    }
    int result = ETIMEDOUT;
    while (result == ETIMEDOUT && !over(until)) {
        struct timespec slice;
        (void)real(CLOCK_REALTIME, &slice);
        slice.tv_nsec += SLICE_NS;
        slice.tv_sec += slice.tv_nsec / 1000000000;
        slice.tv_nsec %= 1000000000;
        result = call(cond, mutex, &slice);
    }
    return result;
}
