/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/canary_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"

static int canary_path(const char *dir, const char *name, char ret_path[PATH_MAX], struct err *err)
{
    int size = snprintf(ret_path, PATH_MAX, "%s/%s", dir, name);
    if (size < 0 || size >= PATH_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "'%s': the path is too long", dir);
    return 0;
}

static enum err_code canary_errno_code(int number)
{
    if (number == ENOSPC || number == EDQUOT)
        return TIDE_ERR_FULL;
    return number == ENOENT || number == ENOTDIR ? TIDE_ERR_NOT_FOUND : TIDE_ERR_IO;
}

int canary_file_make(const char *dir, const char *name, bool direct, int *ret_fd, struct err *err)
{
    char path[PATH_MAX];
    if (canary_path(dir, name, path, err) != 0)
        return -1;
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, flags | (direct ? O_DIRECT : O_DSYNC), 0600);
    if (fd < 0 && errno == EINVAL && direct)
        return err_set(err, TIDE_ERR_USAGE,
                       "'%s': its file system has no O_DIRECT; use one that lies on a disk, or "
                       "--no-direct for a trial without one",
                       dir);
    if (fd < 0)
        return err_set(err, canary_errno_code(errno), "cannot make '%s': %s", path,
                       strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, TIDE_ERR_CONFLICT, "'%s' is there and is no regular file: remove it",
                       path);
    }
    *ret_fd = fd;
    return 0;
}

int canary_file_write(int fd, const char *dir, const void *from, size_t size, uint64_t offset,
                      struct err *err)
{
    TIDE_CHECK(size % CANARY_BLOCK == 0);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd, (const uint8_t *)from + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, n < 0 ? canary_errno_code(errno) : TIDE_ERR_IO,
                           "cannot write the canary's file in '%s' at %" PRIu64 ": %s", dir,
                           offset + done, n < 0 ? strerror(errno) : "nothing written");
        done += (size_t)n;
    }
    return 0;
}

int canary_file_sync(int fd, const char *dir, struct err *err)
{
    if (fsync(fd) != 0)
        return err_set(err, canary_errno_code(errno), "cannot sync the canary's file in '%s': %s",
                       dir, strerror(errno));
    return 0;
}

static int canary_read_block(int fd, const char *dir, uint64_t offset,
                             uint8_t ret_block[CANARY_BLOCK], struct err *err)
{
    size_t done = 0;
    while (done < CANARY_BLOCK) {
        ssize_t n = pread(fd, ret_block + done, CANARY_BLOCK - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, TIDE_ERR_IO, "cannot read '%s/%s' at %" PRIu64 ": %s", dir,
                           CANARY_STEPS_NAME, offset, strerror(errno));
        if (n == 0)
            return err_set(err, TIDE_ERR_CORRUPT, "'%s/%s' ends in the block at %" PRIu64, dir,
                           CANARY_STEPS_NAME, offset);
        done += (size_t)n;
    }
    return 0;
}

static int canary_read_marks(struct canary_set *set, int fd, const char *dir, uint32_t writer,
                             struct err *err)
{
    uint8_t block[CANARY_BLOCK];
    for (uint32_t token = 0; token < set->config.tokens; token++) {
        for (uint32_t slot = 0; slot < set->config.slots; slot++) {
            uint64_t offset = canary_offset(set->config.slots, token, slot);
            if (canary_read_block(fd, dir, offset, block, err) != 0)
                return -1;
            size_t at = canary_mark_index(&set->config, token, writer, slot);
            if (canary_step_decode(&set->config, writer, token, slot, block, &set->marks[at],
                                   err) != 0)
                return err_wrap(err, "'%s/%s'", dir, CANARY_STEPS_NAME);
        }
    }
    return 0;
}

static bool canary_config_equal(const struct canary_config *a, const struct canary_config *b)
{
    return a->writers == b->writers && a->tokens == b->tokens && a->slots == b->slots;
}

/* The header of one folder's file, checked against what the first folder said. */
static int canary_read_header(struct canary_set *set, int fd, const char *dir, bool first,
                              uint32_t *ret_writer, struct err *err)
{
    uint8_t block[CANARY_BLOCK];
    struct canary_config config;
    if (canary_read_block(fd, dir, 0, block, err) != 0)
        return -1;
    if (canary_header_decode(block, &config, ret_writer, err) != 0)
        return err_wrap(err, "'%s/%s'", dir, CANARY_STEPS_NAME);
    struct stat st;
    if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != canary_file_size(&config))
        return err_set(err, TIDE_ERR_CORRUPT, "'%s/%s': must have %zu bytes", dir,
                       CANARY_STEPS_NAME, canary_file_size(&config));
    if (first) {
        set->marks =
            calloc((size_t)config.writers * config.tokens * config.slots, sizeof(*set->marks));
        if (set->marks == NULL)
            return err_set(err, TIDE_ERR_LIMIT, "no memory for the canary's marks");
        set->config = config;
        return 0;
    }
    if (!id_equal(&config.run, &set->config.run)) {
        char a[TIDE_ID_HEX];
        char b[TIDE_ID_HEX];
        return err_set(err, TIDE_ERR_CONFLICT,
                       "'%s' is of run %s, the folders before it of run %s: files of two runs "
                       "cannot be judged together",
                       dir, id_hex(&config.run, a), id_hex(&set->config.run, b));
    }
    if (!canary_config_equal(&config, &set->config))
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'%s' has other numbers of writers, tokens or slots than the folders before "
                       "it, in the same run",
                       dir);
    return 0;
}

static int canary_read_dir(struct canary_set *set, const char *dir, bool first, struct err *err)
{
    char path[PATH_MAX];
    if (canary_path(dir, CANARY_STEPS_NAME, path, err) != 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, canary_errno_code(errno), "cannot open '%s': %s", path,
                       strerror(errno));
    uint32_t writer = 0;
    int failed = canary_read_header(set, fd, dir, first, &writer, err);
    if (failed == 0 && set->writer_dir[writer] != NULL)
        failed = err_set(err, TIDE_ERR_CONFLICT, "'%s' and '%s' are both of writer %" PRIu32,
                         set->writer_dir[writer], dir, writer);
    if (failed == 0) {
        set->writer_dir[writer] = dir;
        failed = canary_read_marks(set, fd, dir, writer, err);
    }
    close(fd);
    return failed;
}

int canary_set_read(size_t dir_count, char *const *dirs, struct canary_set *ret, struct err *err)
{
    struct canary_set set = {0};
    for (size_t k = 0; k < dir_count; k++) {
        if (canary_read_dir(&set, dirs[k], k == 0, err) != 0) {
            canary_set_close(&set);
            return -1;
        }
    }
    for (uint32_t writer = 0; writer < set.config.writers; writer++) {
        if (set.writer_dir[writer] == NULL) {
            err_set(err, TIDE_ERR_NOT_FOUND,
                    "the run had %" PRIu32 " writers, %zu folders were given, and writer %" PRIu32
                    " is in none of them: give all",
                    set.config.writers, dir_count, writer);
            canary_set_close(&set);
            return -1;
        }
    }
    *ret = set;
    return 0;
}

void canary_set_close(struct canary_set *set)
{
    free(set->marks);
    set->marks = NULL;
}
