/* SPDX-License-Identifier: Apache-2.0 */
/* stream_file: one file of a stream, a segment or a file of a log, read record by record as
 * proto/hrl.md has them. Whatever is in it may be hostile. One at a time in a process: they share a
 * window. */
#ifndef TIDE_COORDINATOR_CLI_STREAM_FILE_H
#define TIDE_COORDINATOR_CLI_STREAM_FILE_H

#include "common/hrl/log.h"
#include "common/hrl/segment.h"
#include "coordinator/store/segment_file.h"

struct stream_input {
    const char *path; /* not owned */
    struct segment_file file;
    uint64_t number; /* the only file number that it answers for; others are empty */
};

struct stream_file { /* about 24 KiB */
    struct stream_input input;
    bool is_log;
    bool unused; /* of a ring, preallocated: zeroes so far */
    struct log_header log_header;
    struct log_reader log;
    struct segment_reader segment; /* where it is no log */
    uint64_t records;              /* read so far */
    uint64_t last_lsn;
};

/* From now on encrypted segments of a store are read with its keys and that master key (a file's
 * path, which must stay good). Forgetting frees and wipes what that has read. */
void stream_file_master_key(const char *file);
void stream_file_forget_keys(void);

/* Opens a file and checks what comes before its first record; of a segment all bytes are hashed.
 * Close it where it returned 0.
 *   USAGE     not a regular file
 *   CORRUPT, VERSION, LIMIT  what it holds is wrong (the text says where)
 *   DENIED    a segment is encrypted and its key is not there; the file system's
 *   IO, NOT_FOUND            the file system's */
int stream_file_open(struct stream_file *file, const char *path, struct err *err);

/* Opens a segment and checks header and footer alone: file->segment.info and its entries are set.
 * Errors as above. */
int stream_file_index(struct stream_file *file, const char *path, struct err *err);

/* Opens, reads to its end and closes: 0 where everything in it is right. */
int stream_file_read(struct stream_file *file, const char *path, struct err *err);

void stream_file_close(struct stream_file *file);

/* 1 a record, 0 the end, -1 an error. *ret_offset is the record's place in the file. */
int stream_file_next(struct stream_file *file, struct record *ret, uint64_t *ret_offset,
                     size_t *ret_size, struct err *err);

/* How the file ends, for people; empty: as it should. */
const char *stream_file_tail(const struct stream_file *file);

#endif
