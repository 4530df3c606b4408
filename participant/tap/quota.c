/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/quota.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define MIB UINT64_C(1048576)

uint64_t quota_choose(uint64_t total, uint64_t available, const char **ret_why)
{
    uint64_t size = total / (100 / TIDE_QUOTA_PERCENT);
    *ret_why = "5 % of its file system";
    if (size < TIDE_QUOTA_LEAST) {
        size = TIDE_QUOTA_LEAST;
        *ret_why = "the least by default";
    } else if (size > TIDE_QUOTA_MOST) {
        size = TIDE_QUOTA_MOST;
        *ret_why = "the most by default";
    }
    if (size > available / 4) {
        size = available / 4;
        *ret_why = "a quarter of what is free";
    }
    if (size < TIDE_QUOTA_FLOOR) {
        size = TIDE_QUOTA_FLOOR;
        *ret_why = "the least that a log can be";
    }
    return size / MIB * MIB;
}

/* Bytes of a log that was made before; 0: none. */
static uint64_t existing(const char *folder)
{
    char path[PATH_MAX];
    struct stat st;
    uint64_t sum = 0;
    if (snprintf(path, sizeof path, "%s/state", folder) >= (int)sizeof path ||
        stat(path, &st) != 0) {
        return 0;
    }
    for (unsigned i = 0; i < 1000; i++) {
        if (snprintf(path, sizeof path, "%s/ring-%03u", folder, i) >= (int)sizeof path ||
            stat(path, &st) != 0) {
            break;
        }
        sum += (uint64_t)st.st_size;
    }
    return sum;
}

static int ask(const char *folder, struct statvfs *ret)
{
    char parent[PATH_MAX];
    if (statvfs(folder, ret) == 0) {
        return 0;
    }
    if (errno != ENOENT || snprintf(parent, sizeof parent, "%s", folder) >= (int)sizeof parent) {
        return -1;
    }
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        return statvfs(".", ret);
    }
    slash[slash == parent ? 1 : 0] = '\0';
    return statvfs(parent, ret);
}

uint64_t quota_of(const char *folder, const char **ret_why)
{
    struct statvfs fs;
    uint64_t had = existing(folder);
    if (had >= TIDE_QUOTA_FLOOR) {
        *ret_why = "the size that it was made with";
        return had;
    }
    if (ask(folder, &fs) != 0) {
        return 0;
    }
    return quota_choose((uint64_t)fs.f_blocks * fs.f_frsize, (uint64_t)fs.f_bavail * fs.f_frsize,
                        ret_why);
}
