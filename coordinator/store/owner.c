/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/owner.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/io/file.h"

#define SUFFIXES 200 /* what paths in a store add to its own */

static int write_name(int fd, const char *path, struct err *err)
{
    char host[128] = "";
    char text[256];
    gethostname(host, sizeof(host) - 1);
    int n = snprintf(text, sizeof(text), "{\"pid\":%ld,\"host\":\"%s\"}\n", (long)getpid(), host);
    if (ftruncate(fd, 0) < 0) {
        return file_err(err, errno, "cut '%s'", path);
    }
    return file_pwrite_full(fd, text, (size_t)n, 0, path, err);
}

int owner_lock(const char *store, struct err *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/owner.json", store) >= PATH_MAX - SUFFIXES) {
        return err_set(err, TIDE_ERR_LIMIT, "store path '%s' is too long", store);
    }
    struct err why = {0};
    int fd = file_lock(path, &why);
    if (fd < 0 && why.code == TIDE_ERR_BUSY) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "another process has the store '%s' open: %s; stop it first", store,
                       why.text);
    }
    if (fd < 0) {
        return err_set(err, why.code, "%s", why.text);
    }
    if (write_name(fd, path, err) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}
