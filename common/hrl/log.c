/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/log.h"

#include <string.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/hrl/crc.h"

#define MAGIC        "TIDELOG0"
#define MAGIC_SIZE   8U
#define CHECKED_FROM 12U /* the checksum covers from here to the header's end */
#define ZERO_FROM    64U

static bool ring_ok(const struct log_ring *ring)
{
    return ring->files >= TIDE_LOG_FILES_MIN && ring->files <= TIDE_LOG_FILES_MAX &&
           ring->file_size >= TIDE_LOG_FILE_MIN && ring->file_size <= TIDE_LOG_FILE_MAX &&
           ring->file_size % 512 == 0;
}

static bool header_ok(const struct log_header *h)
{
    return !id_is_zero(&h->stream) && h->file_size >= TIDE_LOG_FILE_MIN &&
           h->file_size <= TIDE_LOG_FILE_MAX && h->file_size % 512 == 0 && h->first_lsn > 0 &&
           h->first_lsn <= INT64_MAX && (h->incarnation == 0) == (h->first_lsn == 1) &&
           h->sequence <= INT64_MAX / h->file_size;
}

void log_header_encode(const struct log_header *header, uint8_t ret_to[TIDE_LOG_HEADER])
{
    TIDE_CHECK(header_ok(header));
    struct bytes_writer w = bytes_writer(ret_to, TIDE_LOG_HEADER);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u32(&w, 0); /* checksum, set at the end */
    bytes_put_u32(&w, TIDE_HRL_DRAFT);
    bytes_put(&w, header->stream.b, sizeof header->stream.b);
    bytes_put_u64(&w, header->sequence);
    bytes_put_u64(&w, header->file_size);
    bytes_put_u64(&w, header->first_lsn);
    bytes_put_u64(&w, header->incarnation);
    TIDE_CHECK(!w.failed && w.used == ZERO_FROM);
    bytes_put_zero(&w, TIDE_LOG_HEADER - ZERO_FROM);
    struct bytes_writer c = bytes_writer(ret_to + MAGIC_SIZE, 4);
    bytes_put_u32(&c, crc32c(ret_to + CHECKED_FROM, TIDE_LOG_HEADER - CHECKED_FROM));
}

int log_header_decode(const uint8_t from[TIDE_LOG_HEADER], struct log_header *ret, struct err *err)
{
    struct bytes_reader r = bytes_reader(from, TIDE_LOG_HEADER);
    const uint8_t *magic = bytes_skip(&r, MAGIC_SIZE);
    if (memcmp(magic, MAGIC, MAGIC_SIZE - 1) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "not a log file: it does not begin with " MAGIC);
    }
    uint32_t crc = bytes_get_u32(&r);
    uint32_t draft = bytes_get_u32(&r);
    if (magic[MAGIC_SIZE - 1] != MAGIC[MAGIC_SIZE - 1] || draft != TIDE_HRL_DRAFT) {
        return err_set(err, TIDE_ERR_VERSION,
                       "log file of format version %c draft %u, this build reads version %u draft "
                       "%u: use the build that wrote it",
                       magic[MAGIC_SIZE - 1] >= '0' && magic[MAGIC_SIZE - 1] <= '9'
                           ? magic[MAGIC_SIZE - 1]
                           : '?',
                       draft, TIDE_HRL_VERSION, TIDE_HRL_DRAFT);
    }
    uint32_t found = crc32c(from + CHECKED_FROM, TIDE_LOG_HEADER - CHECKED_FROM);
    if (found != crc) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "log file header: checksum is 0x%08x, its bytes give 0x%08x", crc, found);
    }
    struct log_header h;
    bytes_get(&r, h.stream.b, sizeof h.stream.b);
    h.sequence = bytes_get_u64(&r);
    h.file_size = bytes_get_u64(&r);
    h.first_lsn = bytes_get_u64(&r);
    h.incarnation = bytes_get_u64(&r);
    if (!bytes_get_zero(&r, TIDE_LOG_HEADER - ZERO_FROM) || !header_ok(&h)) {
        return err_set(err, TIDE_ERR_CORRUPT, "log file header: a number is out of range");
    }
    *ret = h;
    return 0;
}

int log_read_header(const struct source *source, const struct log_ring *ring, uint64_t sequence,
                    struct log_header *ret, struct err *err)
{
    uint8_t bytes[TIDE_LOG_HEADER];
    size_t got = 0;
    struct log_header h;
    if (source->read(source->context, sequence % ring->files, 0, bytes, sizeof bytes, &got, err) !=
        0) {
        return -1;
    }
    if (got < sizeof bytes) {
        return err_set(err, TIDE_ERR_CORRUPT, "not a log file: it has %zu bytes", got);
    }
    if (log_header_decode(bytes, &h, err) != 0) {
        return -1;
    }
    if (h.sequence != sequence || h.file_size != ring->file_size ||
        !id_equal(&h.stream, &ring->stream)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "log file has sequence %llu, file size %llu; due is sequence %llu, file "
                       "size %llu of the same stream",
                       (unsigned long long)h.sequence, (unsigned long long)h.file_size,
                       (unsigned long long)sequence, (unsigned long long)ring->file_size);
    }
    *ret = h;
    return 0;
}

uint64_t log_place(const struct log_ring *ring, uint64_t position, size_t size, bool *ret_new_file)
{
    TIDE_CHECK(ring_ok(ring));
    TIDE_CHECK(size <= ring->file_size - TIDE_LOG_HEADER);
    uint64_t offset = position % ring->file_size;
    *ret_new_file = false;
    if (offset == 0) {
        *ret_new_file = true;
        return position + TIDE_LOG_HEADER;
    }
    if (size > ring->file_size - offset) {
        *ret_new_file = true;
        return position - offset + ring->file_size + TIDE_LOG_HEADER;
    }
    return position;
}

void log_reader_init(struct log_reader *reader, const struct source *source,
                     const struct log_ring *ring, uint64_t position, uint64_t lsn,
                     uint64_t incarnation, void *buffer, size_t buffer_size)
{
    TIDE_CHECK(ring_ok(ring));
    TIDE_CHECK(buffer_size >= TIDE_LOG_HEADER);
    *reader = (struct log_reader){.ring = *ring,
                                  .position = position,
                                  .lsn = lsn,
                                  .incarnation = incarnation,
                                  .through_lsn = UINT64_MAX,
                                  .end = LOG_END_CLEAN};
    source_window_init(&reader->window, source, buffer, buffer_size);
}

/* Whether a head with the due stream and LSN has the due incarnation too. */
static bool incarnation_due(const struct log_reader *reader, const uint8_t *head)
{
    struct bytes_reader r = bytes_reader(head, TIDE_RECORD_HEADER);
    bytes_skip(&r, 8);
    unsigned type = bytes_get_u16(&r);
    bytes_skip(&r, 14);
    uint64_t incarnation = bytes_get_u64(&r);
    return (incarnation == reader->incarnation) != (type == RECORD_ATTACH);
}

struct found {
    struct record record;
    const uint8_t *bytes;
    size_t size;
};

static int torn(struct log_reader *reader, uint64_t position)
{
    err_wrap(&reader->torn, "torn record at position %llu (file %llu, offset %llu)",
             (unsigned long long)position,
             (unsigned long long)(position / reader->ring.file_size % reader->ring.files),
             (unsigned long long)(position % reader->ring.file_size));
    reader->end = LOG_END_TORN;
    return 0;
}

/* Looks for the due record at a position behind a file's header. Sets reader->end. */
static int look_at(struct log_reader *reader, uint64_t position, struct found *ret, struct err *err)
{
    const struct log_ring *ring = &reader->ring;
    uint64_t file = position / ring->file_size % ring->files;
    uint64_t offset = position % ring->file_size;
    uint64_t left = ring->file_size - offset;
    const uint8_t *at;
    size_t got;
    reader->end = LOG_END_CLEAN;
    if (left < TIDE_RECORD_HEADER) {
        return 0;
    }
    if (source_window_get(&reader->window, file, offset, TIDE_RECORD_HEADER, &at, &got, err) != 0) {
        return -1;
    }
    size_t size = got < TIDE_RECORD_HEADER ? 0 : record_due(at, &ring->stream, reader->lsn);
    if (size == 0 || !incarnation_due(reader, at)) {
        return 0;
    }
    if (size > left) {
        err_set(&reader->torn, TIDE_ERR_CORRUPT, "its size %zu runs past the file's end", size);
        return torn(reader, position);
    }
    if (size > reader->window.buffer_size) {
        return err_set(err, TIDE_ERR_LIMIT, "record of %zu bytes, the reader's buffer has %zu",
                       size, reader->window.buffer_size);
    }
    if (source_window_get(&reader->window, file, offset, size, &at, &got, err) != 0) {
        return -1;
    }
    struct err why;
    if (record_decode(at, got, &ret->record, &ret->size, &why) != 0) {
        if (why.code == TIDE_ERR_VERSION) {
            return err_set(err, why.code, "%s", why.text);
        }
        reader->torn = why;
        return torn(reader, position);
    }
    ret->bytes = at;
    reader->end = LOG_END_NONE;
    return 0;
}

/* Whether the ring file of `sequence` has a header that promises the due record. */
static int file_begins(struct log_reader *reader, uint64_t sequence, bool *ret_begins,
                       struct err *err)
{
    struct log_header h;
    struct err why;
    if (log_read_header(&reader->window.source, &reader->ring, sequence, &h, &why) != 0) {
        if (why.code != TIDE_ERR_CORRUPT && why.code != TIDE_ERR_VERSION) {
            return err_set(err, why.code, "%s", why.text);
        }
        *ret_begins = false;
        return 0;
    }
    *ret_begins = h.first_lsn == reader->lsn && h.incarnation == reader->incarnation;
    return 0;
}

/* One look: here, then in the next file. *ret_position is where the record was found. */
static int look(struct log_reader *reader, struct found *ret, uint64_t *ret_position,
                struct err *err)
{
    uint64_t file_size = reader->ring.file_size;
    uint64_t offset = reader->position % file_size;
    uint64_t next = reader->position; /* start of the file to try */
    enum log_end end = LOG_END_CLEAN;
    if (offset != 0) {
        *ret_position = reader->position;
        if (look_at(reader, reader->position, ret, err) != 0) {
            return -1;
        }
        if (reader->end == LOG_END_NONE) {
            return 0;
        }
        end = reader->end;
        next = reader->position - offset + file_size;
    }
    bool begins = false;
    if (file_begins(reader, next / file_size, &begins, err) != 0) {
        return -1;
    }
    *ret_position = next + TIDE_LOG_HEADER;
    if (begins && look_at(reader, *ret_position, ret, err) != 0) {
        return -1;
    }
    if (!begins || reader->end == LOG_END_CLEAN) {
        reader->end = end;
    }
    return 0;
}

int log_reader_next(struct log_reader *reader, struct record *ret, const uint8_t **ret_bytes,
                    size_t *ret_size, struct err *err)
{
    uint64_t offset = reader->position % reader->ring.file_size;
    if (reader->lsn > reader->through_lsn) {
        reader->end = LOG_END_THROUGH;
        return 0;
    }
    if (offset != 0 && offset < TIDE_LOG_HEADER) {
        return err_set(err, TIDE_ERR_CORRUPT, "log position %llu lies within a file's header",
                       (unsigned long long)reader->position);
    }
    struct found found;
    uint64_t position = 0;
    /* What the window holds may be older than the file: only a fresh look decides that there is
     * nothing. */
    for (int fresh = 0; fresh < 2; fresh++) {
        if (fresh == 1) {
            source_window_drop(&reader->window);
        }
        if (look(reader, &found, &position, err) != 0) {
            return -1;
        }
        if (reader->end == LOG_END_NONE) {
            reader->position = position + found.size;
            reader->lsn = found.record.lsn + 1;
            reader->incarnation = found.record.incarnation;
            *ret = found.record;
            *ret_bytes = found.bytes;
            *ret_size = found.size;
            return 0;
        }
    }
    return 0;
}
