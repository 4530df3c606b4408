/* SPDX-License-Identifier: Apache-2.0 */
/* survey: what a store holds, stream by stream, and, where asked, whether it is what it was: every
 * segment is read back, decrypted, checked against its own hashes and its manifest's, and against
 * the segment before it; every point's streams must reach its bookmarks. From the store's folder
 * alone, beside a running coordinator too: what is stored after a stream was looked at is not
 * looked at. */
#ifndef TIDE_COORDINATOR_VERIFY_SURVEY_H
#define TIDE_COORDINATOR_VERIFY_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/store/keyring.h"
#include "coordinator/store/manifest.h"

struct survey_stream {
    struct manifest_stream about;
    uint64_t segments;
    uint64_t last_lsn;     /* 0: nothing is stored */
    uint64_t bytes;        /* of the segments */
    uint64_t stored_bytes; /* of their files */
    uint64_t bad;          /* segments that are not what they were */
    bool forked;
    struct err wrong; /* the first thing wrong; code OK: none */
};

struct survey_request {
    const char *store;
    struct keyring *keyring; /* NULL: no master key */
    bool read;               /* every segment, and points; else sizes alone */
    uint64_t bytes_per_s;    /* of files read at most; 0: as fast as it goes */
    /* Each stream when it was looked at; false: give up (BUSY). */
    bool (*stream)(void *context, const struct survey_stream *stream);
    /* Called often while reading; may be NULL. */
    void (*progress)(void *context, const struct manifest_stream *about, uint64_t done,
                     uint64_t total);
    void *context;
};

struct survey_result {
    uint64_t streams;
    uint64_t segments;
    uint64_t bytes;
    uint64_t stored_bytes;
    uint64_t points;     /* looked at; 0 where nothing is read */
    uint64_t bad_points; /* of them: unreadable, or their streams do not reach them */
    uint64_t bad;        /* segments, and streams whose manifest cannot be read */
    struct err wrong;    /* the first thing wrong of all; code OK: none */
};

/* 0: all was looked at, and *ret says what was found. -1, without result:
 *   NOT_FOUND, IO   no store, or its folders cannot be read
 *   DENIED          a segment is encrypted and its key is not there
 *   BUSY            given up
 *   LIMIT           no memory */
int survey_run(const struct survey_request *request, struct survey_result *ret, struct err *err);

#endif
