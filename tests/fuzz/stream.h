/* SPDX-License-Identifier: Apache-2.0 */
/* stream: makes bytes pass the checksums of the stream's formats, so that mutations reach the
 * checks behind them. */
#ifndef TIDE_TESTS_FUZZ_STREAM_H
#define TIDE_TESTS_FUZZ_STREAM_H

#include "common/core/bytes.h"
#include "common/hrl/crc.h"
#include "common/hrl/record.h"
#include "tests/fuzz/fuzz.h"

/* Size with padding of what looks like a record at bytes[0..size), 0 where nothing does. */
static inline size_t stream_record_at(const uint8_t *bytes, size_t size)
{
    if (size < TIDE_RECORD_HEADER || memcmp(bytes, "HRLr", 4) != 0) {
        return 0;
    }
    struct bytes_reader r = bytes_reader(bytes + 12, 4);
    uint64_t body = bytes_get_u32(&r);
    uint64_t whole = TIDE_RECORD_HEADER + (body + 7) / 8 * 8;
    return whole > size ? 0 : (size_t)whole;
}

/* Sets the checksum of a record that stream_record_at() found. */
static inline void stream_stamp(uint8_t *bytes)
{
    struct bytes_reader r = bytes_reader(bytes + 12, 4);
    uint32_t body = bytes_get_u32(&r);
    struct bytes_writer w = bytes_writer(bytes + 4, 4);
    bytes_put_u32(&w, crc32c(bytes + 8, TIDE_RECORD_HEADER - 8 + body));
}

/* Stamps the records that follow each other from `from` on; returns where they end. */
static inline size_t stream_stamp_all(uint8_t *bytes, size_t size, size_t from)
{
    size_t whole;
    while (from < size && (whole = stream_record_at(bytes + from, size - from)) > 0) {
        stream_stamp(bytes + from);
        from += whole;
    }
    return from;
}

/* Whether record_encode() can write a record of this type. */
static inline bool stream_is_written(enum record_type type)
{
    return type == RECORD_ATTACH || type == RECORD_WRITE || type == RECORD_ZERO ||
           type == RECORD_BOOKMARK || type == RECORD_SEAL || type == RECORD_ATTESTATION ||
           type == RECORD_GAP || type == RECORD_COPY_BEGIN || type == RECORD_COPY_BLOCK ||
           type == RECORD_COPY_END || type == RECORD_RESIZE;
}

#endif
