/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/object.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io/file.h"

static int join(const char *root, const char *relative, char *ret, struct err *err)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", root, relative);
    if (n < 0 || n >= PATH_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "path '%s/%s' is over %d bytes", root, relative,
                       PATH_MAX - 1);
    }
    return 0;
}

int object_get(const char *root, const char *relative, size_t max, uint8_t **ret_bytes,
               size_t *ret_size, struct err *err)
{
    char path[PATH_MAX];
    if (join(root, relative, path, err) < 0) {
        return -1;
    }
    return file_read(path, max, ret_bytes, ret_size, err);
}

/* 1: there with the same bytes; 0: not there; -1: another, or unreadable. */
static int same(const char *path, const void *bytes, size_t size, struct err *err)
{
    uint8_t *there = NULL;
    size_t there_size = 0;
    struct err e = {0};
    struct stat st;
    bool as_long = stat(path, &st) != 0 || (uint64_t)st.st_size == (uint64_t)size;
    if (as_long && file_read(path, size, &there, &there_size, &e) < 0) {
        return e.code == TIDE_ERR_NOT_FOUND ? 0 : err_set(err, e.code, "%s", e.text);
    }
    bool equal = there != NULL && there_size == size && memcmp(there, bytes, size) == 0;
    free(there);
    if (!equal) {
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' is there with another content", path);
    }
    return 1;
}

int object_put(const char *root, const char *relative, const void *bytes, size_t size, bool replace,
               struct err *err)
{
    char path[PATH_MAX];
    if (join(root, relative, path, err) < 0) {
        return -1;
    }
    if (!replace) {
        int there = same(path, bytes, size, err);
        if (there < 0) {
            return -1;
        }
        if (there > 0) { /* its name may not be durable yet, if that is where the last try failed */
            return file_sync_parent(path, err);
        }
    }
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    if (file_mkdirs(folder, 0750, err) < 0) {
        return -1;
    }
    return file_replace(path, bytes, size, 0640, err);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t a = strlen(text);
    size_t b = strlen(suffix);
    return a >= b && strcmp(text + a - b, suffix) == 0;
}

static int list(DIR *dir, const char *suffix, char ***names, size_t *count)
{
    size_t room = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] == '.' || !ends_with(e->d_name, suffix)) {
            continue;
        }
        if (*count + 1 >= room) {
            room = room == 0 ? 64 : room * 2;
            char **more = realloc(*names, room * sizeof(**names));
            if (more == NULL) {
                return -1;
            }
            *names = more;
        }
        char *name = strdup(e->d_name);
        if (name == NULL) {
            return -1;
        }
        (*names)[(*count)++] = name;
        (*names)[*count] = NULL;
    }
    return 0;
}

int object_names(const char *root, const char *relative, const char *suffix, char ***ret_names,
                 size_t *ret_count, struct err *err)
{
    char path[PATH_MAX];
    if (join(root, relative, path, err) < 0) {
        return -1;
    }
    char **names = calloc(1, sizeof(*names));
    size_t count = 0;
    if (names == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to list '%s'", path);
    }
    DIR *dir = opendir(path);
    if (dir == NULL && errno != ENOENT) {
        free(names);
        return file_err(err, errno, "open folder '%s'", path);
    }
    if (dir != NULL) {
        int rc = list(dir, suffix, &names, &count);
        closedir(dir);
        if (rc < 0) {
            object_names_free(names);
            return err_set(err, TIDE_ERR_LIMIT, "no memory to list '%s'", path);
        }
        if (count > 0) {
            qsort(names, count, sizeof(*names), compare);
        }
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}

void object_names_free(char **names)
{
    if (names == NULL) {
        return;
    }
    for (size_t k = 0; names[k] != NULL; k++) {
        free(names[k]);
    }
    free(names);
}
