/* SPDX-License-Identifier: Apache-2.0 */
/* segment_file: one segment of the store as a source for common/hrl's readers. */
#ifndef TIDE_COORDINATOR_STORE_SEGMENT_FILE_H
#define TIDE_COORDINATOR_STORE_SEGMENT_FILE_H

#include <limits.h>

#include "common/hrl/source.h"

struct segment_file {
    int fd;
    char path[PATH_MAX];
};

/* NOT_FOUND, IO, with the path named. */
int segment_file_open(struct segment_file *file, const char *path, struct err *err);
void segment_file_close(struct segment_file *file);
/* File 0 of it; the segment_file must outlive it. */
struct source segment_file_source(struct segment_file *file);

#endif
