/* SPDX-License-Identifier: Apache-2.0 */
/* canary_file: the canary's files on file systems: making them, reading them back. */
#ifndef TIDE_COORDINATOR_CLI_CANARY_FILE_H
#define TIDE_COORDINATOR_CLI_CANARY_FILE_H

#include "coordinator/cli/canary.h"

#define CANARY_STEPS_NAME "tidemark-canary.steps" /* in each folder */
#define CANARY_LOAD_NAME  "tidemark-canary.load"  /* of the background writer */
#define CANARY_LOAD_SIZE  (8U * 1024U * 1024U)    /* bytes that it rewrites, again and again */

/* Makes (or empties) DIR/NAME for writing. With direct: O_DIRECT, so that a write that has returned
 * was acknowledged by the disk; else O_DSYNC, for file systems that have no O_DIRECT.
 *   NOT_FOUND no such folder · USAGE no O_DIRECT there · IO, FULL */
int canary_file_make(const char *dir, const char *name, bool direct, int *ret_fd, struct err *err);

/* Writes size bytes (a multiple of CANARY_BLOCK) of aligned memory; FULL, IO. */
int canary_file_write(int fd, const char *dir, const void *from, size_t size, uint64_t offset,
                      struct err *err);
int canary_file_sync(int fd, const char *dir, struct err *err);

struct canary_set {
    struct canary_config config;
    struct canary_mark *marks;                  /* owned */
    const char *writer_dir[CANARY_WRITERS_MAX]; /* not owned: dirs[] of canary_set_read */
};

/* Reads the canary files of all writers of one run, in any order of folders.
 *   NOT_FOUND  a folder or its file is missing, or fewer folders than the run had writers
 *   CONFLICT   files of two runs, or two of the same writer
 *   CORRUPT, VERSION, IO
 * Every error names the folder. */
int canary_set_read(size_t dir_count, char *const *dirs, struct canary_set *ret, struct err *err);
void canary_set_close(struct canary_set *set);

#endif
