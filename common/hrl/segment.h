/* SPDX-License-Identifier: Apache-2.0 */
/* segment: the form of the stream that leaves the machine: an immutable object of at most
 * TIDE_SEGMENT_MAX bytes, specified in proto/hrl.md:
 *
 *   header | records, as in the log | footer: entries, trailer | SHA-256 over all before it
 *
 * The same records always give the same bytes. The hash at the end is the segment's hash; the
 * header carries that of the segment before, which makes the chain. The footer lists where
 * attaches, bookmarks, seals, gaps, resizes, copy begins and ends lie, so that alignment need not
 * read the other records. Readers work over a source table with the caller's buffer and trust no
 * length. No allocation but libcrypto's. */
#ifndef TIDE_COMMON_HRL_SEGMENT_H
#define TIDE_COMMON_HRL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/id.h"
#include "common/hrl/record.h"
#include "common/hrl/source.h"

#define TIDE_SEGMENT_MAX         (8U * 1024 * 1024) /* bytes of a whole segment */
#define TIDE_SEGMENT_HEADER      128U
#define TIDE_SEGMENT_ENTRY       32U
#define TIDE_SEGMENT_TRAILER     64U
#define TIDE_SEGMENT_ENTRIES_MAX 1024U
#define TIDE_SEGMENT_MIN                                                                           \
    (TIDE_SEGMENT_HEADER + TIDE_RECORD_HEADER + TIDE_SEGMENT_TRAILER + TIDE_HASH_SIZE)
#define TIDE_SEGMENT_BUFFER                                                                        \
    (TIDE_RECORD_MAX + 64U * 1024) /* a reader's buffer that always does                           \
                                    */
#define TIDE_SEGMENT_AGE_MS 1000U  /* a cut by age: the caller's clock */

struct segment_header {
    struct id stream;
    struct id timeline;
    uint64_t first_lsn;   /* of its first record; from 1 */
    uint64_t incarnation; /* in force before its first record; 0 exactly where first_lsn is 1 */
    struct hash before;   /* hash of the segment before; zero exactly where first_lsn is 1 */
};

/* One record that the footer lists. */
struct segment_entry {
    enum record_type type; /* ATTACH, BOOKMARK, SEAL, GAP, COPY_BEGIN, COPY_END */
    uint64_t lsn;
    uint32_t offset; /* from the start of the segment */
    uint32_t size;   /* encoded, with padding */
};

/* What header and footer say of a segment. */
struct segment_info {
    struct segment_header header;
    uint64_t last_lsn;
    uint64_t last_incarnation; /* in force after the last record */
    uint64_t size;             /* of the whole object, bytes */
    uint64_t body_size;        /* records alone */
    uint64_t writes;           /* WRITE records */
    uint64_t zeroes;           /* ZERO records */
    uint64_t data_bytes;       /* data of the WRITE records */
    uint32_t entry_count;
    struct hash hash; /* as at the end; proven only by segment_reader_verify() */
};

/* ---- writing ---- */

struct segment_writer {
    uint8_t *buffer; /* not owned */
    size_t limit;    /* most bytes of the whole segment */
    size_t used;
    struct segment_info info; /* as it grows; hash and size are set by finish */
    bool after_bookmark;      /* the last record is a bookmark */
    struct segment_entry entries[TIDE_SEGMENT_ENTRIES_MAX];
};

/* About 24 KiB: not for small stacks. buffer of buffer_size bytes is the caller's; the segment is
 * never over the lesser of buffer_size and TIDE_SEGMENT_MAX. Aborts where the header breaks its
 * rules above. */
void segment_writer_init(struct segment_writer *writer, void *buffer, size_t buffer_size,
                         const struct segment_header *header);
/* Whether a record of `size` bytes still fits; an empty segment takes any record if the buffer is
 * TIDE_SEGMENT_MAX. */
bool segment_writer_fits(const struct segment_writer *writer, enum record_type type, size_t size);
/* Appends a decoded record whose encoded bytes (with padding) are bytes[0..size).
 *   LIMIT    it does not fit: cut before it
 *   CORRUPT  it is not the record that is due (stream, LSN, incarnation) */
int segment_writer_append(struct segment_writer *writer, const struct record *record,
                          const void *bytes, size_t size, struct err *err);
bool segment_writer_empty(const struct segment_writer *writer);
/* The cut that the format demands: right after a bookmark. By size: cut when the next record does
 * not fit. By age: the caller. */
bool segment_writer_must_cut(const struct segment_writer *writer);
/* Writes footer and hash behind the records; the object is buffer[0..ret->size). Aborts where it is
 * empty. The writer is then ready for segment_writer_init() alone. */
void segment_writer_finish(struct segment_writer *writer, struct segment_info *ret);
/* Header of the segment that follows. */
struct segment_header segment_next_header(const struct segment_info *info);

/* ---- reading ---- */

struct segment_reader {
    struct source_window window;
    uint64_t file;
    struct segment_info info; /* header and footer, set by init */
    uint64_t offset;          /* of the next record */
    uint64_t lsn;             /* due next */
    uint64_t incarnation;
    uint64_t writes; /* found so far, compared with the footer at the end */
    uint64_t zeroes;
    uint64_t data_bytes;
    uint32_t entries_seen;
    struct segment_entry entries[TIDE_SEGMENT_ENTRIES_MAX]; /* info.entry_count of them */
};

/* About 24 KiB. Reads header and footer of a file of the source and checks them against each other
 * and the file's size; neither body nor hash are looked at. Buffer: the caller's,
 * TIDE_SEGMENT_BUFFER always does; 4 KiB are enough for all but segment_reader_next() and
 * segment_verify(). CORRUPT  not a segment, or it breaks the format (the text says where); also
 * bytes past its end VERSION  another format version or another build's draft LIMIT    larger than
 * TIDE_SEGMENT_MAX IO, NOT_FOUND  the source's */
int segment_reader_init(struct segment_reader *reader, const struct source *source, uint64_t file,
                        void *buffer, size_t buffer_size, struct err *err);

/* Hashes all bytes; CORRUPT where they do not give the hash at the end. */
int segment_reader_verify(struct segment_reader *reader, struct err *err);

/* Entry `index` (below info.entry_count) of the footer, and the record it points to; either output
 * may be NULL. The record's pointers are good until the next call. CORRUPT where the record is not
 * what the entry says. */
int segment_reader_entry(struct segment_reader *reader, uint32_t index,
                         struct segment_entry *ret_entry, struct record *ret_record,
                         struct err *err);

/* Next record of the body in order: 1 with the outputs set (good until the next call; ret_bytes and
 * ret_size may be NULL), 0 at the end, where all of the footer has been compared with the body, -1
 * with CORRUPT  a record is not the due one, or breaks the format, or the footer differs VERSION  a
 * type that this build does not know and may not pass over */
int segment_reader_next(struct segment_reader *reader, struct record *ret,
                        const uint8_t **ret_bytes, size_t *ret_size, struct err *err);

/* All of it: header, footer, hash, every record. The intake's check. */
int segment_verify(const struct source *source, uint64_t file, void *buffer, size_t buffer_size,
                   struct segment_info *ret, struct err *err);

/* Whether a segment lists records of this type in its footer. */
bool segment_lists(enum record_type type);

/* Whether `next` continues the chain after `before` (NULL: it must be the first of its stream):
 * CORRUPT with the text saying what does not fit. */
int segment_follows(const struct segment_info *before, const struct segment_info *next,
                    struct err *err);

#endif
