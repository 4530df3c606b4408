/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/segment.h"

#include <string.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/core/sha.h"

#define MAGIC           "TIDESEG0"
#define TRAILER_MAGIC   "TIDEFOOT"
#define MAGIC_SIZE      8U
#define HEADER_ZERO     32U
#define FOOTER_MIN      (TIDE_SEGMENT_TRAILER + TIDE_HASH_SIZE)
#define BUFFER_MIN      4096U
#define LISTED_SIZE_MAX TIDE_RECORD_SMALL_MAX

bool segment_lists(enum record_type type)
{
    return type == RECORD_ATTACH || type == RECORD_BOOKMARK || type == RECORD_SEAL ||
           type == RECORD_GAP || type == RECORD_COPY_BEGIN || type == RECORD_COPY_END ||
           type == RECORD_RESIZE;
}

/* NULL: the header keeps its rules. */
static const char *wrong_header(const struct segment_header *h)
{
    if (id_is_zero(&h->stream) || id_is_zero(&h->timeline)) {
        return "a zero stream or timeline id";
    }
    if (h->first_lsn == 0 || h->first_lsn > INT64_MAX) {
        return "the first LSN is out of range";
    }
    if ((h->first_lsn == 1) != (h->incarnation == 0)) {
        return "an incarnation in force before the stream's first record, or none later";
    }
    if ((h->first_lsn == 1) != hash_is_zero(&h->before)) {
        return "a hash before the stream's first segment, or none later";
    }
    return NULL;
}

/* NULL: the record is the one due. */
static const char *wrong_place(const struct record *record, const struct segment_header *header,
                               uint64_t lsn, uint64_t incarnation)
{
    if (!id_equal(&record->stream, &header->stream)) {
        return "it is of another stream";
    }
    if (record->lsn != lsn) {
        return "it is not the LSN that is due";
    }
    if ((record->incarnation == incarnation) == (record->type == RECORD_ATTACH)) {
        return record->type == RECORD_ATTACH ? "an attach repeats the incarnation in force"
                                             : "it is of an incarnation that is not in force";
    }
    if (record->type == RECORD_ATTACH && !id_equal(&record->attach.timeline, &header->timeline)) {
        return "an attach of another timeline";
    }
    return NULL;
}

/* ---- writing ---- */

void segment_writer_init(struct segment_writer *writer, void *buffer, size_t buffer_size,
                         const struct segment_header *header)
{
    TIDE_CHECK(wrong_header(header) == NULL);
    TIDE_CHECK(buffer_size >= TIDE_SEGMENT_MIN);
    memset(writer, 0, sizeof *writer);
    writer->buffer = buffer;
    writer->limit = buffer_size < TIDE_SEGMENT_MAX ? buffer_size : TIDE_SEGMENT_MAX;
    writer->used = TIDE_SEGMENT_HEADER;
    writer->info.header = *header;
    writer->info.last_lsn = header->first_lsn - 1;
    writer->info.last_incarnation = header->incarnation;

    struct bytes_writer w = bytes_writer(buffer, TIDE_SEGMENT_HEADER);
    bytes_put(&w, MAGIC, MAGIC_SIZE);
    bytes_put_u16(&w, TIDE_HRL_VERSION);
    bytes_put_u16(&w, 0);
    bytes_put_u32(&w, TIDE_HRL_DRAFT);
    bytes_put(&w, header->stream.b, sizeof header->stream.b);
    bytes_put(&w, header->timeline.b, sizeof header->timeline.b);
    bytes_put_u64(&w, header->first_lsn);
    bytes_put_u64(&w, header->incarnation);
    bytes_put(&w, header->before.b, sizeof header->before.b);
    bytes_put_zero(&w, HEADER_ZERO);
    TIDE_CHECK(!w.failed && w.used == TIDE_SEGMENT_HEADER);
}

bool segment_writer_fits(const struct segment_writer *writer, enum record_type type, size_t size)
{
    bool listed = segment_lists(type);
    size_t count = writer->info.entry_count + (listed ? 1U : 0U);
    size_t footer = count * TIDE_SEGMENT_ENTRY + FOOTER_MIN;
    return count <= TIDE_SEGMENT_ENTRIES_MAX && writer->used + footer <= writer->limit &&
           size <= writer->limit - footer - writer->used;
}

bool segment_writer_empty(const struct segment_writer *writer)
{
    return writer->used == TIDE_SEGMENT_HEADER;
}

bool segment_writer_must_cut(const struct segment_writer *writer)
{
    return writer->after_bookmark;
}

static void count_record(const struct record *record, uint64_t *writes, uint64_t *zeroes,
                         uint64_t *data_bytes)
{
    if (record->type == RECORD_WRITE) {
        *writes += 1;
        *data_bytes += record->write.size;
    } else if (record->type == RECORD_ZERO) {
        *zeroes += 1;
    }
}

int segment_writer_append(struct segment_writer *writer, const struct record *record,
                          const void *bytes, size_t size, struct err *err)
{
    struct segment_info *info = &writer->info;
    TIDE_CHECK(!writer->after_bookmark);
    TIDE_CHECK(size >= TIDE_RECORD_HEADER && size % 8 == 0);
    const char *wrong =
        wrong_place(record, &info->header, info->last_lsn + 1, info->last_incarnation);
    if (wrong != NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "record with lsn %llu cannot follow lsn %llu: %s",
                       (unsigned long long)record->lsn, (unsigned long long)info->last_lsn, wrong);
    }
    if (!segment_writer_fits(writer, record->type, size)) {
        return err_set(err, TIDE_ERR_LIMIT, "segment is full: cut it before lsn %llu",
                       (unsigned long long)record->lsn);
    }
    if (segment_lists(record->type)) {
        TIDE_CHECK(size <= LISTED_SIZE_MAX);
        writer->entries[info->entry_count++] =
            (struct segment_entry){.type = record->type,
                                   .lsn = record->lsn,
                                   .offset = (uint32_t)writer->used,
                                   .size = (uint32_t)size};
    }
    memcpy(writer->buffer + writer->used, bytes, size);
    writer->used += size;
    info->last_lsn = record->lsn;
    info->last_incarnation = record->incarnation;
    info->body_size += size;
    count_record(record, &info->writes, &info->zeroes, &info->data_bytes);
    writer->after_bookmark = record->type == RECORD_BOOKMARK;
    return 0;
}

void segment_writer_finish(struct segment_writer *writer, struct segment_info *ret)
{
    struct segment_info *info = &writer->info;
    TIDE_CHECK(!segment_writer_empty(writer));
    struct bytes_writer w =
        bytes_writer(writer->buffer + writer->used, writer->limit - writer->used);
    for (uint32_t i = 0; i < info->entry_count; i++) {
        const struct segment_entry *e = &writer->entries[i];
        bytes_put_u64(&w, e->lsn);
        bytes_put_u32(&w, e->offset);
        bytes_put_u32(&w, e->size);
        bytes_put_u16(&w, (uint16_t)e->type);
        bytes_put_zero(&w, 14);
    }
    bytes_put(&w, TRAILER_MAGIC, MAGIC_SIZE);
    bytes_put_u64(&w, info->last_lsn);
    bytes_put_u64(&w, info->last_incarnation);
    bytes_put_u64(&w, info->body_size);
    bytes_put_u64(&w, info->writes);
    bytes_put_u64(&w, info->zeroes);
    bytes_put_u64(&w, info->data_bytes);
    bytes_put_u32(&w, info->entry_count);
    bytes_put_u32(&w, 0);
    TIDE_CHECK(!w.failed); /* append left the room */
    writer->used += w.used;
    info->hash = sha_of(writer->buffer, writer->used);
    bytes_put(&w, info->hash.b, sizeof info->hash.b);
    TIDE_CHECK(!w.failed);
    writer->used += sizeof info->hash.b;
    info->size = writer->used;
    *ret = *info;
}

struct segment_header segment_next_header(const struct segment_info *info)
{
    return (struct segment_header){.stream = info->header.stream,
                                   .timeline = info->header.timeline,
                                   .first_lsn = info->last_lsn + 1,
                                   .incarnation = info->last_incarnation,
                                   .before = info->hash};
}

/* ---- reading ---- */

static int broken(struct err *err, uint64_t offset, const char *what)
{
    return err_set(err, TIDE_ERR_CORRUPT, "segment, offset %llu: %s", (unsigned long long)offset,
                   what);
}

/* Exactly size bytes at offset, in the window. */
static int get(struct segment_reader *reader, uint64_t offset, size_t size, const uint8_t **ret_at,
               struct err *err)
{
    size_t got;
    if (source_window_get(&reader->window, reader->file, offset, size, ret_at, &got, err) != 0) {
        return -1;
    }
    return got == size ? 0 : broken(err, offset + got, "the file ends before the segment does");
}

static int read_header(struct segment_reader *reader, struct err *err)
{
    struct segment_header *h = &reader->info.header;
    const uint8_t *at;
    if (get(reader, 0, TIDE_SEGMENT_HEADER, &at, err) != 0) {
        return -1;
    }
    struct bytes_reader r = bytes_reader(at, TIDE_SEGMENT_HEADER);
    const uint8_t *magic = bytes_skip(&r, MAGIC_SIZE);
    if (memcmp(magic, MAGIC, MAGIC_SIZE - 1) != 0) {
        return broken(err, 0, "not a segment: it does not begin with " MAGIC);
    }
    unsigned version = bytes_get_u16(&r);
    bool zero = bytes_get_zero(&r, 2);
    uint32_t draft = bytes_get_u32(&r);
    if (magic[MAGIC_SIZE - 1] != MAGIC[MAGIC_SIZE - 1] || version != TIDE_HRL_VERSION ||
        draft != TIDE_HRL_DRAFT) {
        return err_set(err, TIDE_ERR_VERSION,
                       "segment of format version %u draft %u, this build reads version %u draft "
                       "%u: use the build that wrote it",
                       version, draft, TIDE_HRL_VERSION, TIDE_HRL_DRAFT);
    }
    bytes_get(&r, h->stream.b, sizeof h->stream.b);
    bytes_get(&r, h->timeline.b, sizeof h->timeline.b);
    h->first_lsn = bytes_get_u64(&r);
    h->incarnation = bytes_get_u64(&r);
    bytes_get(&r, h->before.b, sizeof h->before.b);
    if (!zero || !bytes_get_zero(&r, HEADER_ZERO)) {
        return broken(err, 0, "a reserved byte of the header is not zero");
    }
    const char *wrong = wrong_header(h);
    return wrong != NULL ? broken(err, 0, wrong) : 0;
}

static int read_trailer(struct segment_reader *reader, struct err *err)
{
    struct segment_info *info = &reader->info;
    uint64_t offset = info->size - FOOTER_MIN;
    const uint8_t *at;
    if (get(reader, offset, FOOTER_MIN, &at, err) != 0) {
        return -1;
    }
    struct bytes_reader r = bytes_reader(at, FOOTER_MIN);
    const uint8_t *magic = bytes_skip(&r, MAGIC_SIZE);
    if (memcmp(magic, TRAILER_MAGIC, MAGIC_SIZE) != 0) {
        return broken(err, offset,
                      "no footer where the segment ends: it is cut off, or bytes "
                      "follow it");
    }
    info->last_lsn = bytes_get_u64(&r);
    info->last_incarnation = bytes_get_u64(&r);
    info->body_size = bytes_get_u64(&r);
    info->writes = bytes_get_u64(&r);
    info->zeroes = bytes_get_u64(&r);
    info->data_bytes = bytes_get_u64(&r);
    info->entry_count = bytes_get_u32(&r);
    bool zero = bytes_get_zero(&r, 4);
    bytes_get(&r, info->hash.b, sizeof info->hash.b);
    uint64_t between = info->size - TIDE_SEGMENT_HEADER - FOOTER_MIN;
    if (!zero || info->entry_count > TIDE_SEGMENT_ENTRIES_MAX ||
        info->body_size < TIDE_RECORD_HEADER || info->body_size > between ||
        info->body_size % 8 != 0 ||
        between - info->body_size != (uint64_t)info->entry_count * TIDE_SEGMENT_ENTRY) {
        return broken(err, offset, "the footer's sizes and the file's do not agree");
    }
    uint64_t records = info->body_size / TIDE_RECORD_HEADER;
    if (info->last_lsn < info->header.first_lsn || info->last_lsn > INT64_MAX ||
        info->last_lsn - info->header.first_lsn >= records || info->last_incarnation == 0) {
        return broken(err, offset, "the footer's last LSN or incarnation is out of range");
    }
    return 0;
}

static int read_entries(struct segment_reader *reader, struct err *err)
{
    const struct segment_info *info = &reader->info;
    uint64_t body_end = TIDE_SEGMENT_HEADER + info->body_size;
    uint64_t lsn_min = info->header.first_lsn;
    uint64_t offset_min = TIDE_SEGMENT_HEADER;
    for (uint32_t i = 0; i < info->entry_count; i++) {
        uint64_t offset = body_end + (uint64_t)i * TIDE_SEGMENT_ENTRY;
        const uint8_t *at;
        if (get(reader, offset, TIDE_SEGMENT_ENTRY, &at, err) != 0) {
            return -1;
        }
        struct bytes_reader r = bytes_reader(at, TIDE_SEGMENT_ENTRY);
        struct segment_entry e = {.lsn = bytes_get_u64(&r)};
        e.offset = bytes_get_u32(&r);
        e.size = bytes_get_u32(&r);
        e.type = (enum record_type)bytes_get_u16(&r);
        if (!bytes_get_zero(&r, 14) || !segment_lists(e.type)) {
            return broken(err, offset, "a footer entry has a reserved byte or an unknown type");
        }
        if (e.lsn < lsn_min || e.lsn > info->last_lsn || e.offset < offset_min ||
            e.offset > body_end || e.size > body_end - e.offset || e.size < TIDE_RECORD_HEADER ||
            e.size > LISTED_SIZE_MAX || e.size % 8 != 0) {
            return broken(err, offset, "a footer entry points out of its range");
        }
        if (e.type == RECORD_BOOKMARK && e.lsn != info->last_lsn) {
            return broken(err, offset, "a bookmark is not the last record of its segment");
        }
        reader->entries[i] = e;
        lsn_min = e.lsn + 1;
        offset_min = (uint64_t)e.offset + e.size;
    }
    return 0;
}

int segment_reader_init(struct segment_reader *reader, const struct source *source, uint64_t file,
                        void *buffer, size_t buffer_size, struct err *err)
{
    TIDE_CHECK(buffer_size >= BUFFER_MIN);
    memset(reader, 0, sizeof *reader);
    source_window_init(&reader->window, source, buffer, buffer_size);
    reader->file = file;
    if (source->size(source->context, file, &reader->info.size, err) != 0) {
        return -1;
    }
    if (reader->info.size > TIDE_SEGMENT_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "%llu bytes, a segment has %u at most",
                       (unsigned long long)reader->info.size, TIDE_SEGMENT_MAX);
    }
    if (reader->info.size < TIDE_SEGMENT_MIN) {
        return err_set(err, TIDE_ERR_CORRUPT, "%llu bytes, a segment has %u at least",
                       (unsigned long long)reader->info.size, TIDE_SEGMENT_MIN);
    }
    if (read_header(reader, err) != 0 || read_trailer(reader, err) != 0 ||
        read_entries(reader, err) != 0) {
        return -1;
    }
    reader->offset = TIDE_SEGMENT_HEADER;
    reader->lsn = reader->info.header.first_lsn;
    reader->incarnation = reader->info.header.incarnation;
    return 0;
}

int segment_reader_verify(struct segment_reader *reader, struct err *err)
{
    uint64_t end = reader->info.size - TIDE_HASH_SIZE;
    struct sha sha;
    sha_init(&sha);
    for (uint64_t offset = 0; offset < end;) {
        size_t size = end - offset < reader->window.buffer_size ? (size_t)(end - offset)
                                                                : reader->window.buffer_size;
        const uint8_t *at;
        if (get(reader, offset, size, &at, err) != 0) {
            sha_drop(&sha);
            return -1;
        }
        sha_update(&sha, at, size);
        offset += size;
    }
    struct hash found = sha_final(&sha);
    if (!hash_equal(&found, &reader->info.hash)) {
        char says[TIDE_HASH_HEX];
        char gives[TIDE_HASH_HEX];
        return err_set(err, TIDE_ERR_CORRUPT,
                       "segment, offset %llu: the hash says %s, the bytes before it give %s",
                       (unsigned long long)end, hash_hex(&reader->info.hash, says),
                       hash_hex(&found, gives));
    }
    return 0;
}

/* Decodes the record at offset, which may reach no further than `end`. */
static int read_record(struct segment_reader *reader, uint64_t offset, uint64_t end, uint64_t lsn,
                       struct record *ret, const uint8_t **ret_bytes, size_t *ret_size,
                       struct err *err)
{
    const uint8_t *at;
    if (end - offset < TIDE_RECORD_HEADER) {
        return broken(err, offset, "bytes between the last record and the footer");
    }
    if (get(reader, offset, TIDE_RECORD_HEADER, &at, err) != 0) {
        return -1;
    }
    size_t size = record_due(at, &reader->info.header.stream, lsn);
    if (size == 0) {
        return broken(err, offset, "the record that is due is not here");
    }
    if (size > end - offset) {
        return broken(err, offset, "the record runs past the end of the body");
    }
    if (size > reader->window.buffer_size) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "segment, offset %llu: record of %zu bytes, the reader's buffer has %zu",
                       (unsigned long long)offset, size, reader->window.buffer_size);
    }
    if (get(reader, offset, size, &at, err) != 0) {
        return -1;
    }
    if (record_decode(at, size, ret, ret_size, err) != 0) {
        return err_wrap(err, "segment, offset %llu", (unsigned long long)offset);
    }
    *ret_bytes = at;
    return 0;
}

int segment_reader_entry(struct segment_reader *reader, uint32_t index,
                         struct segment_entry *ret_entry, struct record *ret_record,
                         struct err *err)
{
    TIDE_CHECK(index < reader->info.entry_count);
    const struct segment_entry *e = &reader->entries[index];
    if (ret_record != NULL) {
        struct record record;
        const uint8_t *bytes;
        size_t size;
        if (read_record(reader, e->offset, (uint64_t)e->offset + e->size, e->lsn, &record, &bytes,
                        &size, err) != 0) {
            return -1;
        }
        if (record.type != e->type || size != e->size) {
            return broken(err, e->offset, "the record is not what the footer says of it");
        }
        *ret_record = record;
    }
    if (ret_entry != NULL) {
        *ret_entry = *e;
    }
    return 0;
}

/* After the last record: what the footer says must be what was found. */
static int compare_footer(const struct segment_reader *reader, struct err *err)
{
    const struct segment_info *info = &reader->info;
    if (reader->lsn - 1 != info->last_lsn || reader->incarnation != info->last_incarnation ||
        reader->writes != info->writes || reader->zeroes != info->zeroes ||
        reader->data_bytes != info->data_bytes || reader->entries_seen != info->entry_count) {
        return broken(err, reader->offset, "the footer says something else than the records");
    }
    return 0;
}

/* The footer must list the record at reader->offset. */
static bool is_listed(const struct segment_reader *reader, const struct record *record, size_t size)
{
    if (reader->entries_seen >= reader->info.entry_count) {
        return false;
    }
    const struct segment_entry *e = &reader->entries[reader->entries_seen];
    return e->type == record->type && e->lsn == record->lsn && e->offset == reader->offset &&
           e->size == size;
}

int segment_reader_next(struct segment_reader *reader, struct record *ret,
                        const uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    uint64_t end = TIDE_SEGMENT_HEADER + reader->info.body_size;
    if (reader->offset == end) {
        return compare_footer(reader, err);
    }
    struct record record;
    const uint8_t *bytes;
    size_t size;
    if (read_record(reader, reader->offset, end, reader->lsn, &record, &bytes, &size, err) != 0) {
        return -1;
    }
    const char *wrong =
        wrong_place(&record, &reader->info.header, reader->lsn, reader->incarnation);
    if (wrong == NULL && segment_lists(record.type) && !is_listed(reader, &record, size)) {
        wrong = "the footer does not list this record";
    }
    if (wrong == NULL && record.type == RECORD_BOOKMARK && reader->offset + size != end) {
        wrong = "a bookmark is not the last record of its segment";
    }
    if (wrong != NULL) {
        return broken(err, reader->offset, wrong);
    }
    reader->entries_seen += segment_lists(record.type) ? 1U : 0U;
    count_record(&record, &reader->writes, &reader->zeroes, &reader->data_bytes);
    reader->offset += size;
    reader->lsn = record.lsn + 1;
    reader->incarnation = record.incarnation;
    *ret = record;
    if (ret_bytes != NULL) {
        *ret_bytes = bytes;
    }
    if (ret_size != NULL) {
        *ret_size = size;
    }
    return 1;
}

int segment_verify(const struct source *source, uint64_t file, void *buffer, size_t buffer_size,
                   struct segment_info *ret, struct err *err)
{
    struct segment_reader reader;
    struct record record;
    const uint8_t *bytes;
    size_t size;
    if (segment_reader_init(&reader, source, file, buffer, buffer_size, err) != 0 ||
        segment_reader_verify(&reader, err) != 0) {
        return -1;
    }
    int more;
    do {
        more = segment_reader_next(&reader, &record, &bytes, &size, err);
    } while (more > 0);
    if (more == 0) {
        *ret = reader.info;
    }
    return more;
}

int segment_follows(const struct segment_info *before, const struct segment_info *next,
                    struct err *err)
{
    const struct segment_header *h = &next->header;
    if (before == NULL) {
        return h->first_lsn == 1 ? 0
                                 : err_set(err, TIDE_ERR_CORRUPT,
                                           "chain: the segment begins with lsn %llu, due is lsn 1",
                                           (unsigned long long)h->first_lsn);
    }
    if (!id_equal(&h->stream, &before->header.stream) ||
        !id_equal(&h->timeline, &before->header.timeline)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "chain: the segment is of another stream or timeline");
    }
    if (h->first_lsn != before->last_lsn + 1) {
        return err_set(
            err, TIDE_ERR_CORRUPT, "chain: the segment begins with lsn %llu, due is lsn %llu",
            (unsigned long long)h->first_lsn, (unsigned long long)(before->last_lsn + 1));
    }
    if (!hash_equal(&h->before, &before->hash)) {
        char says[TIDE_HASH_HEX];
        char is[TIDE_HASH_HEX];
        return err_set(err, TIDE_ERR_CORRUPT,
                       "chain: the segment with first lsn %llu names %s as the one before it, that "
                       "one is %s",
                       (unsigned long long)h->first_lsn, hash_hex(&h->before, says),
                       hash_hex(&before->hash, is));
    }
    if (h->incarnation != before->last_incarnation) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "chain: the segment with first lsn %llu begins in another incarnation than "
                       "the one before it ended in",
                       (unsigned long long)h->first_lsn);
    }
    return 0;
}
