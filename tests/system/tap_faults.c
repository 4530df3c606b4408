/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into nbdkit: makes the tap's own files fail. The file named by TIDE_FAULT says how,
 * while it exists: "sync NAME" or "write NAME" fails, "slow NAME" takes a second once, for
 * writes to files whose path contains NAME, "lag NAME" for a sync: the order is taken away when
 * that has begun. "drag NAME": each of them takes 20 ms, "crawl NAME": 200. "die NAME": killed once
 * a file of that name has been synced. What failed is counted: a byte each in the file
 * TIDE_FAULT.count. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DRAG_NS  20000000
#define CRAWL_NS 200000000

static bool ordered(const char *call, int fd)
{
    const char *order = getenv("TIDE_FAULT");
    char text[128] = {0};
    char link[64];
    char path[512] = {0};
    int from = order == NULL ? -1 : open(order, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return false;
    }
    ssize_t got = read(from, text, sizeof text - 1);
    close(from);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size_t size = strlen(call);
    return got > (ssize_t)size && strncmp(text, call, size) == 0 && text[size] == ' ' &&
           readlink(link, path, sizeof path - 1) > 0 && strstr(path, text + size + 1) != NULL;
}

static int fail(void)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s.count", getenv("TIDE_FAULT"));
    int to = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (to >= 0) {
        (void)!write(to, ".", 1);
        (void)close(to);
    }
    errno = EIO;
    return -1;
}

static void drag(int fd)
{
    long ns = ordered("drag", fd) ? DRAG_NS : ordered("crawl", fd) ? CRAWL_NS : 0;
    if (ns != 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
    }
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    int (*real)(int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    if (ordered("sync", fd)) {
        return fail();
    }
    drag(fd);
    if (ordered("lag", fd)) {
        (void)unlink(getenv("TIDE_FAULT"));
        (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    int result = real(fd);
    if (ordered("die", fd)) {
        (void)kill(getpid(), SIGKILL);
    }
    return result;
}

__attribute__((visibility("default"))) ssize_t pwritev(int fd, const struct iovec *parts, int count,
                                                       off_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "pwritev");
    if (ordered("slow", fd)) {
        (void)unlink(getenv("TIDE_FAULT"));
        (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    if (ordered("write", fd)) {
        return fail();
    }
    drag(fd);
    return real(fd, parts, count, offset);
}
