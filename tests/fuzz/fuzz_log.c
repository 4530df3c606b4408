/* SPDX-License-Identifier: Apache-2.0 */
/* common/hrl/log over a ring in memory. Input: files - 2 (mod 3), start of the reader u16 (times
 * 8), due LSN u8, incarnation u8, flags (bit 0: set checksums right), then patches over zeroed
 * files: file u8, offset u16, size u16, bytes. The stream is sixteen bytes 0x11.
 *
 * What is returned is due, lies within one file, and comes the same with another buffer, again, and
 * cut off by through_lsn. */
#include "common/hrl/log.h"

#include "tests/fuzz/stream.h"

#define FILES_MAX 4U
#define FILE_SIZE 4096U
#define FOUND_MAX (FILES_MAX * FILE_SIZE / TIDE_RECORD_HEADER)

struct found {
    unsigned count;
    uint64_t lsn[FOUND_MAX];
    uint64_t end_position;
    enum log_end end;
    enum err_code code; /* of a failure */
};

struct start {
    uint64_t position;
    uint64_t lsn;
    uint64_t incarnation;
    uint64_t through;
};

static uint8_t files[FILES_MAX][FILE_SIZE];

static void load(struct bytes_reader *r, bool stamp)
{
    memset(files, 0, sizeof files);
    while (r->left > 0 && !r->failed) {
        unsigned file = bytes_get_u8(r) % FILES_MAX;
        size_t offset = bytes_get_u16(r) % FILE_SIZE;
        size_t size = bytes_get_u16(r);
        size = size < r->left ? size : r->left;
        size = size < FILE_SIZE - offset ? size : FILE_SIZE - offset;
        bytes_get(r, files[file] + offset, size);
    }
    for (unsigned f = 0; stamp && f < FILES_MAX; f++) {
        if (memcmp(files[f], "TIDELOG", 7) == 0) {
            struct bytes_writer w = bytes_writer(files[f] + 8, 4);
            bytes_put_u32(&w, crc32c(files[f] + 12, TIDE_LOG_HEADER - 12));
        }
        for (size_t at = TIDE_LOG_HEADER; at + TIDE_RECORD_HEADER <= FILE_SIZE; at += 8) {
            if (stream_record_at(files[f] + at, FILE_SIZE - at) > 0) {
                stream_stamp(files[f] + at);
            }
        }
    }
}

static void look_at_headers(void)
{
    for (unsigned f = 0; f < FILES_MAX; f++) {
        struct log_header h;
        struct err err = {0};
        uint8_t again[TIDE_LOG_HEADER];
        memset(&h, FUZZ_FILL, sizeof h);
        if (log_header_decode(files[f], &h, &err) != 0) {
            fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION));
            fuzz_untouched(&h, sizeof h);
            continue;
        }
        log_header_encode(&h, again);
        TIDE_CHECK(memcmp(again, files[f], sizeof again) == 0);
    }
}

static void check_record(const struct log_reader *before, const struct log_reader *after,
                         const struct record *r, const uint8_t *bytes, size_t size)
{
    const struct log_ring *ring = &before->ring;
    uint64_t start = after->position - size;
    uint64_t offset = start % ring->file_size;
    TIDE_CHECK(r->lsn == before->lsn && id_equal(&r->stream, &ring->stream));
    TIDE_CHECK((r->incarnation == before->incarnation) != (r->type == RECORD_ATTACH));
    TIDE_CHECK(start >= before->position && start < before->position + 2 * ring->file_size);
    TIDE_CHECK(offset >= TIDE_LOG_HEADER && size <= ring->file_size - offset);
    TIDE_CHECK(memcmp(bytes, files[start / ring->file_size % ring->files] + offset, size) == 0);
    TIDE_CHECK(after->lsn == r->lsn + 1 && after->incarnation == r->incarnation);
}

static void read_all(const struct source *source, const struct log_ring *ring,
                     const struct start *from, size_t buffer_size, struct found *ret)
{
    static uint8_t buffer[2 * FILE_SIZE];
    struct log_reader reader;
    struct err err = {0};
    memset(ret, 0, sizeof *ret);
    log_reader_init(&reader, source, ring, from->position, from->lsn, from->incarnation, buffer,
                    buffer_size);
    reader.through_lsn = from->through;
    for (;;) {
        struct log_reader before = reader;
        struct record r;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        if (log_reader_next(&reader, &r, &bytes, &size, &err) != 0) {
            fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT));
            ret->code = err.code;
            return;
        }
        if (reader.end != LOG_END_NONE) {
            TIDE_CHECK(bytes == NULL && size == 0);
            TIDE_CHECK(reader.position == before.position && reader.lsn == before.lsn);
            break;
        }
        check_record(&before, &reader, &r, bytes, size);
        TIDE_CHECK(ret->count < FOUND_MAX);
        ret->lsn[ret->count++] = r.lsn;
    }
    if (reader.end == LOG_END_TORN) {
        fuzz_error(&reader.torn, ~0U);
    }
    ret->end = reader.end;
    ret->end_position = reader.position;
}

static bool same(const struct found *a, const struct found *b)
{
    return a->count == b->count && a->end == b->end && a->end_position == b->end_position &&
           a->code == b->code && memcmp(a->lsn, b->lsn, a->count * sizeof a->lsn[0]) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes_reader r = bytes_reader(data, size);
    struct log_ring ring = {.files = 2 + bytes_get_u8(&r) % 3U, .file_size = FILE_SIZE};
    memset(ring.stream.b, 0x11, sizeof ring.stream.b);
    struct start start = {.position = 8U * (uint64_t)bytes_get_u16(&r), .through = UINT64_MAX};
    start.lsn = bytes_get_u8(&r);
    start.incarnation = bytes_get_u8(&r);
    bool stamp = (bytes_get_u8(&r) & 1) != 0;
    if (r.failed) {
        return 0;
    }
    load(&r, stamp);
    look_at_headers();
    struct source_part parts[FILES_MAX];
    for (unsigned f = 0; f < ring.files; f++) {
        parts[f] = (struct source_part){files[f], FILE_SIZE};
    }
    struct source_memory memory = {.parts = parts, .count = ring.files};
    struct source source = source_memory(&memory);
    static struct found found;
    static struct found again;
    read_all(&source, &ring, &start, FILE_SIZE, &found);
    read_all(&source, &ring, &start, FILE_SIZE + 1000, &again);
    TIDE_CHECK(same(&found, &again));
    if (found.count > 1) {
        unsigned keep = found.count / 2;
        start.through = found.lsn[keep - 1];
        read_all(&source, &ring, &start, FILE_SIZE, &again);
        TIDE_CHECK(again.count == keep && again.end == LOG_END_THROUGH);
    }
    return 0;
}
