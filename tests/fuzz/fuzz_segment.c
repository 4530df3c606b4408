/* SPDX-License-Identifier: Apache-2.0 */
/* common/hrl/segment. Input: flags, then a segment. Flag bit 0: checksums of the records and the
 * hash at the end are set right first. Bit 1: the records alone are taken and cut into a segment
 * anew, which must verify.
 *
 * What verifies gives the same bytes when its records are written again; entries are what the body
 * has at that place; a segment that was changed in one bit does not verify. */
#include "common/hrl/segment.h"

#include "common/core/sha.h"
#include "tests/fuzz/stream.h"

#define SIZE_MAX_HERE 65536U
#define BAD           (FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT))

static uint8_t buffer[TIDE_SEGMENT_BUFFER];
static uint8_t written[2 * SIZE_MAX_HERE];
static struct segment_writer writer;
static struct segment_reader reader;

static struct source source_of(struct source_memory *memory, struct source_part *part,
                               const uint8_t *bytes, size_t size)
{
    *part = (struct source_part){bytes, size};
    *memory = (struct source_memory){.parts = part, .count = 1};
    return source_memory(memory);
}

static int verify(const uint8_t *bytes, size_t size, struct segment_info *ret, struct err *err)
{
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(&memory, &part, bytes, size);
    return segment_verify(&source, 0, buffer, sizeof buffer, ret, err);
}

static void repair(uint8_t *bytes, size_t size)
{
    (void)stream_stamp_all(bytes, size, TIDE_SEGMENT_HEADER);
    if (size > TIDE_HASH_SIZE) {
        struct sha sha;
        sha_init(&sha);
        sha_update(&sha, bytes, size - TIDE_HASH_SIZE);
        struct hash hash = sha_final(&sha);
        memcpy(bytes + size - TIDE_HASH_SIZE, hash.b, sizeof hash.b);
    }
}

/* Entries may be read of a segment whose body and hash nobody has looked at yet. */
static void read_entries(const uint8_t *bytes, size_t size)
{
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(&memory, &part, bytes, size);
    struct err err = {0};
    if (segment_reader_init(&reader, &source, 0, buffer, 4096, &err) != 0) {
        fuzz_error(&err, BAD);
        return;
    }
    TIDE_CHECK(reader.info.size == size && reader.info.entry_count <= TIDE_SEGMENT_ENTRIES_MAX);
    for (uint32_t i = 0; i < reader.info.entry_count; i++) {
        struct segment_entry e;
        struct record r;
        if (segment_reader_entry(&reader, i, &e, &r, &err) != 0) {
            fuzz_error(&err, BAD);
            continue;
        }
        TIDE_CHECK(segment_lists(e.type) && r.type == e.type && r.lsn == e.lsn);
        TIDE_CHECK(e.lsn >= reader.info.header.first_lsn && e.lsn <= reader.info.last_lsn);
        TIDE_CHECK((uint64_t)e.offset + e.size <= size);
    }
}

/* The same records give the same bytes. */
static void write_again(const uint8_t *bytes, size_t size, const struct segment_info *info)
{
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(&memory, &part, bytes, size);
    struct err err = {0};
    struct record r;
    const uint8_t *at;
    size_t whole;
    int more;
    TIDE_CHECK(size <= sizeof written);
    TIDE_CHECK(segment_reader_init(&reader, &source, 0, buffer, sizeof buffer, &err) == 0);
    segment_writer_init(&writer, written, size, &info->header);
    while ((more = segment_reader_next(&reader, &r, &at, &whole, &err)) > 0) {
        TIDE_CHECK(!segment_writer_must_cut(&writer));
        TIDE_CHECK(segment_writer_fits(&writer, r.type, whole));
        TIDE_CHECK(segment_writer_append(&writer, &r, at, whole, &err) == 0);
    }
    TIDE_CHECK(more == 0);
    struct segment_info again;
    segment_writer_finish(&writer, &again);
    TIDE_CHECK(again.size == size && memcmp(written, bytes, size) == 0);
    TIDE_CHECK(hash_equal(&again.hash, &info->hash) && again.last_lsn == info->last_lsn);
}

static void judge(const uint8_t *bytes, size_t size, uint8_t flip)
{
    struct segment_info info;
    struct err err = {0};
    memset(&info, FUZZ_FILL, sizeof info);
    read_entries(bytes, size);
    if (verify(bytes, size, &info, &err) != 0) {
        fuzz_error(&err, BAD);
        fuzz_untouched(&info, sizeof info);
        return;
    }
    TIDE_CHECK(info.size == size && size >= TIDE_SEGMENT_MIN && size <= TIDE_SEGMENT_MAX);
    TIDE_CHECK(info.writes + info.zeroes <= info.last_lsn - info.header.first_lsn + 1);
    write_again(bytes, size, &info);
    if (segment_follows(NULL, &info, &err) != 0) {
        fuzz_error(&err, BAD);
    }
    TIDE_CHECK(segment_follows(&info, &info, &err) != 0);
    fuzz_error(&err, BAD);
    struct segment_header next = segment_next_header(&info);
    TIDE_CHECK(next.first_lsn == info.last_lsn + 1 && hash_equal(&next.before, &info.hash));
    uint8_t *changed = fuzz_copy(bytes, size);
    changed[(size_t)flip * 257 % size] ^= (uint8_t)(1U << (flip & 7));
    TIDE_CHECK(verify(changed, size, &info, &err) != 0);
    fuzz_error(&err, BAD);
    free(changed);
}

/* Cuts the records at `from` into a segment of the first one's stream. */
static void cut(uint8_t *bytes, size_t size, size_t from)
{
    struct record r;
    struct err err = {0};
    size_t whole;
    size_t end = stream_stamp_all(bytes, size, from);
    if (from >= end || record_decode(bytes + from, end - from, &r, &whole, &err) != 0) {
        return;
    }
    struct segment_header h = {.stream = r.stream, .first_lsn = r.lsn};
    h.timeline = r.type == RECORD_ATTACH ? r.attach.timeline : r.stream;
    if (r.lsn > 1) {
        h.incarnation = r.type == RECORD_ATTACH ? r.incarnation ^ 1 : r.incarnation;
        h.incarnation += h.incarnation == 0 ? 2 : 0;
        memset(h.before.b, 7, sizeof h.before.b);
    }
    segment_writer_init(&writer, written, sizeof written / 2, &h);
    while (from < end && !segment_writer_must_cut(&writer) &&
           record_decode(bytes + from, end - from, &r, &whole, &err) == 0) {
        if (segment_writer_append(&writer, &r, bytes + from, whole, &err) != 0) {
            fuzz_error(&err, FUZZ_CODE(LIMIT) | FUZZ_CODE(CORRUPT));
            break;
        }
        from += whole;
    }
    if (segment_writer_empty(&writer)) {
        return;
    }
    struct segment_info info;
    struct segment_info found;
    segment_writer_finish(&writer, &info);
    TIDE_CHECK(info.size <= sizeof written / 2);
    uint8_t *made = fuzz_copy(written, (size_t)info.size);
    if (verify(made, (size_t)info.size, &found, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        bool verifies = false;
        TIDE_CHECK(verifies);
    }
    judge(made, (size_t)info.size, 3);
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SIZE_MAX_HERE) {
        return 0;
    }
    uint8_t *bytes = fuzz_copy(data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        repair(bytes, size - 1);
    }
    if ((data[0] & 2) != 0) {
        cut(bytes, size - 1, TIDE_SEGMENT_HEADER);
    } else {
        judge(bytes, size - 1, (uint8_t)(data[0] >> 2));
    }
    free(bytes);
    return 0;
}
