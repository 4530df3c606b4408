/* SPDX-License-Identifier: Apache-2.0 */
/* file: whole files, durable replacement, complete reads and writes. Paths are the caller's; every
 * error names the path. Codes: NOT_FOUND (ENOENT), FULL (ENOSPC, EDQUOT, EFBIG), DENIED (EACCES,
 * EPERM), CONFLICT (EEXIST), LIMIT (larger than allowed), else IO. Blocking: never on a hold path.
 */
#ifndef TIDE_COMMON_IO_FILE_H
#define TIDE_COMMON_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/core/err.h"

/* Reads a regular file of at most `limit` bytes. *ret_bytes is from malloc, the caller frees it; a
 * NUL that is not counted follows the bytes. */
int file_read(const char *path, size_t limit, uint8_t **ret_bytes, size_t *ret_size,
              struct err *err);

/* Replaces (or makes) `path`: a temporary file beside it, fsync, rename, fsync of the folder. After
 * a crash either the old or the new content is there, whole. */
int file_replace(const char *path, const void *bytes, size_t size, mode_t mode, struct err *err);

/* As file_replace, but CONFLICT where `path` exists already; it is then unchanged. */
int file_create(const char *path, const void *bytes, size_t size, mode_t mode, struct err *err);

/* mkdir -p; each folder that is made gets `mode`, and the folder above it is synced. */
int file_mkdirs(const char *path, mode_t mode, struct err *err);

int file_sync_dir(const char *path, struct err *err);    /* fsync of a folder */
int file_sync_parent(const char *path, struct err *err); /* fsync of the folder that holds path */

/* Exactly `size` bytes or an error; EINTR and short transfers are gone on with. `name` is for the
 * error's text. A read that meets the end of the file is CORRUPT ("ends after ..."). */
int file_pread_full(int fd, void *to, size_t size, uint64_t offset, const char *name,
                    struct err *err);
int file_pwrite_full(int fd, const void *from, size_t size, uint64_t offset, const char *name,
                     struct err *err);
int file_write_full(int fd, const void *from, size_t size, const char *name, struct err *err);

/* Opens (makes, 0600) and locks `path` for this process until the descriptor is closed. BUSY,
 * naming the path, where another process has it. Returns the descriptor, or -1. */
int file_lock(const char *path, struct err *err);

/* Sets *err from an errno value with the code mapping above: "TEXT: strerror". Returns -1. */
int file_err(struct err *err, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* From the kernel's generator (getrandom); aborts where there is none. Safe on any thread. */
void file_random(void *to, size_t size);

#endif
