/* SPDX-License-Identifier: Apache-2.0 */
/* file: whole reads and writes at an offset, and what else the tap does with files. Each returns 0,
 * or -1 with errno set. */
#ifndef TIDE_PARTICIPANT_TAP_FILE_H
#define TIDE_PARTICIPANT_TAP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

int file_read(int fd, void *to, size_t size, uint64_t offset); /* a short file: EIO */
int file_write(int fd, const void *from, size_t size, uint64_t offset);
int file_writev(int fd, struct iovec *parts, int count, uint64_t offset); /* changes parts */

/* Zeroes that read back as zeroes; punch: the blocks may be given back too. Falls back to writing.
 */
int file_zero(int fd, uint64_t offset, uint64_t size, bool punch);

/* Whether all size bytes read as zero: 1 or 0; -1 with errno set. Skips holes. */
int file_is_zero(int fd, uint64_t size);

int file_sync(int fd); /* its data; a time may stay behind */
int file_sync_folder(const char *path);
uint64_t file_mtime_ns(int fd);            /* 0 for a device, or where it cannot be told */
int file_size(int fd, uint64_t *ret_size); /* of a regular file or a block device */
bool file_is_disk_size(uint64_t size);     /* one that a disk can be registered with */
bool file_random(void *to, size_t size);   /* from the system's generator; never blocks */

#endif
