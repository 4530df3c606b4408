/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into nbdkit: keeps, beside each file that the tap syncs, what a power cut would leave
 * of it at the worst: FILE.cut is FILE as it was when its last successful sync began. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* syncs in one order, and so the copies */

static bool path_of(int fd, char *to, size_t size)
{
    char link[64];
    struct stat st;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, to, size - 1);
    if (got <= 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    to[got] = '\0';
    return true;
}

static bool copy_to(const char *from, const char *to)
{
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = in >= 0 && out >= 0;
    ssize_t got = 0;
    while (good && (got = read(in, bytes, sizeof bytes)) > 0) {
        good = write(out, bytes, (size_t)got) == got;
    }
    if (in >= 0) {
        close(in);
    }
    if (out >= 0) {
        close(out);
    }
    return good && got == 0;
}

static int sync_it(const char *call, int fd)
{
    int (*real)(int) = NULL;
    char path[512];
    char fresh[600];
    char cut[600];
    *(void **)&real = dlsym(RTLD_NEXT, call);
    if (!path_of(fd, path, sizeof path)) {
        return real(fd);
    }
    (void)snprintf(fresh, sizeof fresh, "%s.cut-new", path);
    (void)snprintf(cut, sizeof cut, "%s.cut", path);
    pthread_mutex_lock(&one);
    bool copied = copy_to(path, fresh);
    int result = real(fd);
    if (!copied || (result == 0 && rename(fresh, cut) != 0)) {
        abort(); /* the test sees it: the tap is gone */
    }
    pthread_mutex_unlock(&one);
    return result;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return sync_it("fdatasync", fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return sync_it("fsync", fd);
}
