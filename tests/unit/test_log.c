/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hrl_make.h"

#include "common/hrl/log.h"

#define FILES     3U
#define FILE_SIZE 4096U
#define RECORDS   400U

/* A ring as a tap would write it, in memory. */
struct ring {
    uint8_t files[FILES][FILE_SIZE];
    struct source_part parts[FILES];
    struct source_memory memory;
    struct source source;
    struct log_ring geometry;
    uint64_t position;
    uint64_t lsn;
    uint64_t incarnation;
    /* where each record was put */
    uint64_t at[RECORDS];
    uint64_t before[RECORDS]; /* incarnation in force before it */
    uint8_t reader_buffer[TIDE_RECORD_SMALL_MAX];
};

static void ring_init(struct ring *ring)
{
    memset(ring, 0, sizeof *ring);
    for (size_t i = 0; i < FILES; i++) {
        memset(ring->files[i], 0xA5, FILE_SIZE);
        ring->parts[i] = (struct source_part){ring->files[i], FILE_SIZE};
    }
    ring->memory = (struct source_memory){ring->parts, FILES};
    ring->source = source_memory(&ring->memory);
    ring->geometry = (struct log_ring){make_id(1), FILES, FILE_SIZE};
    ring->lsn = 1;
}

static uint8_t *ring_at(struct ring *ring, uint64_t position)
{
    return ring->files[position / FILE_SIZE % FILES] + position % FILE_SIZE;
}

/* Appends a record with the next LSN; returns its size. */
static size_t ring_put(struct ring *ring, struct record record)
{
    bool new_file;
    size_t size = record_size(&record);
    uint64_t position = log_place(&ring->geometry, ring->position, size, &new_file);
    if (new_file) {
        struct log_header h = {.stream = ring->geometry.stream,
                               .sequence = position / FILE_SIZE,
                               .file_size = FILE_SIZE,
                               .first_lsn = record.lsn,
                               .incarnation = ring->incarnation};
        log_header_encode(&h, ring_at(ring, position - TIDE_LOG_HEADER));
    }
    assert_int_equal(record.lsn, ring->lsn);
    assert_true(ring->lsn < RECORDS);
    ring->at[ring->lsn] = position;
    ring->before[ring->lsn] = ring->incarnation;
    record_encode(&record, ring_at(ring, position), size);
    ring->position = position + size;
    ring->incarnation = record.incarnation;
    ring->lsn++;
    return size;
}

static void ring_write(struct ring *ring, uint64_t seed)
{
    static uint8_t data[700];
    struct prng prng;
    prng_init(&prng, seed);
    memset(data, (int)ring->lsn & 0xFF, sizeof data);
    ring_put(ring, make_write(1, ring->lsn, ring->incarnation, ring->lsn * 512, data,
                              (size_t)prng_below(&prng, sizeof data) + 1));
}

static void ring_fill(struct ring *ring, uint64_t last)
{
    ring_put(ring, make_attach(1, 1, 77, true));
    while (ring->lsn <= last) {
        ring_write(ring, ring->lsn);
    }
}

static void reader_at(struct ring *ring, struct log_reader *reader, uint64_t lsn)
{
    log_reader_init(reader, &ring->source, &ring->geometry, ring->at[lsn], lsn, ring->before[lsn],
                    ring->reader_buffer, sizeof ring->reader_buffer);
}

/* Reads on to the end; returns the first LSN that was not found. */
static uint64_t read_on(struct log_reader *reader)
{
    struct record record;
    const uint8_t *bytes;
    size_t size;
    struct err err;
    for (;;) {
        uint64_t due = reader->lsn;
        assert_int_equal(log_reader_next(reader, &record, &bytes, &size, &err), 0);
        if (reader->end != LOG_END_NONE) {
            assert_int_equal(reader->lsn, due);
            return due;
        }
        assert_int_equal(record.lsn, due);
        assert_int_equal(record_size(&record), size);
        if (record.type == RECORD_WRITE) {
            assert_int_equal(record.write.offset, due * 512);
            assert_int_equal(record.write.data[record.write.size - 1], due & 0xFF);
        }
    }
}

/* From every place that is still in the ring, over recycled files. */
static void wraps(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_fill(&ring, 120);
    assert_true(ring.position > 3 * FILES * FILE_SIZE); /* the ring was lapped */
    unsigned tried = 0;
    for (uint64_t lsn = 1; lsn <= 120; lsn++) {
        if (ring.at[lsn] / FILE_SIZE + FILES <= ring.position / FILE_SIZE) {
            continue; /* overwritten */
        }
        struct log_reader reader;
        reader_at(&ring, &reader, lsn);
        assert_int_equal(read_on(&reader), 121);
        assert_int_equal(reader.end, LOG_END_CLEAN);
        assert_int_equal(reader.position, ring.position);
        assert_int_equal(reader.incarnation, 77);
        tried++;
    }
    assert_true(tried > 10);
    /* from one that was overwritten there is nothing, and no record of a later lap is taken */
    struct log_reader reader;
    reader_at(&ring, &reader, 5);
    assert_int_equal(read_on(&reader), 5);
}

static void through(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_fill(&ring, 20);
    struct log_reader reader;
    reader_at(&ring, &reader, 1);
    reader.through_lsn = 7;
    assert_int_equal(read_on(&reader), 8);
    assert_int_equal(reader.end, LOG_END_THROUGH);
    reader.through_lsn = UINT64_MAX;
    assert_int_equal(read_on(&reader), 21);
}

/* A reader at the end sees what is appended later, in this file and the next ones. */
static void follows(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_put(&ring, make_attach(1, 1, 77, true));
    struct log_reader reader;
    reader_at(&ring, &reader, 1);
    while (ring.lsn < 150) {
        assert_int_equal(read_on(&reader), ring.lsn);
        assert_int_equal(reader.position, ring.position);
        ring_write(&ring, ring.lsn);
    }
}

/* Where the writer stops after any byte of the last record, the reader stops before it. */
static void torn_tails(void **state)
{
    (void)state;
    for (uint64_t last = 2; last <= 12; last++) {
        static struct ring ring;
        static struct ring before;
        ring_init(&ring);
        ring_fill(&ring, last - 1);
        before = ring;
        uint8_t data[10];
        memset(data, (int)last, sizeof data);
        size_t size = ring_put(&ring, make_write(1, last, 77, last * 512, data, sizeof data));
        uint64_t at = ring.at[last];
        for (size_t cut = 0; cut <= size; cut++) {
            static struct ring torn;
            torn = ring;
            torn.memory.parts = torn.parts;
            torn.source.context = &torn.memory;
            for (size_t i = 0; i < FILES; i++) {
                torn.parts[i].base = torn.files[i];
            }
            memcpy(ring_at(&torn, at + cut), ring_at(&before, at + cut), size - cut);
            struct log_reader reader;
            reader_at(&torn, &reader, 1);
            uint64_t due = read_on(&reader);
            assert_int_equal(due, cut == size ? last + 1 : last);
            if (cut >= TIDE_RECORD_HEADER && cut < size) {
                assert_int_equal(reader.end, LOG_END_TORN);
                assert_non_null(strstr(reader.torn.text, "torn record at position"));
                assert_int_equal(reader.position, before.position);
            }
        }
    }
}

static void flipped_bits(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_fill(&ring, 12);
    uint64_t from = ring.at[5];
    for (uint64_t at = from; at < ring.at[6] && ring.at[6] > from; at++) {
        *ring_at(&ring, at) ^= 0x10;
        struct log_reader reader;
        reader_at(&ring, &reader, 1);
        assert_int_equal(read_on(&reader), 5);
        *ring_at(&ring, at) ^= 0x10;
    }
}

/* What an earlier life left behind the last record has a due LSN and a good checksum, and still
 * does not count; an attach with the due LSN does. */
static void old_incarnation(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_fill(&ring, 3);
    struct ring kept = ring;
    struct record attach = make_attach(1, 4, 88, false);
    size_t size = ring_put(&ring, attach);
    /* a record of the earlier life with LSN 5 exactly where LSN 5 is due */
    struct record old = make_write(1, 5, 77, 5 * 512, "\5\5\5", 3);
    record_encode(&old, ring_at(&ring, ring.position), FILE_SIZE - ring.position);
    struct log_reader reader;
    reader_at(&ring, &reader, 1);
    assert_int_equal(read_on(&reader), 5);
    assert_int_equal(reader.end, LOG_END_CLEAN);
    assert_int_equal(reader.incarnation, 88);
    ring_write(&ring, 5);
    assert_int_equal(read_on(&reader), 6);
    /* without the attach nothing of the new life counts */
    struct record lone = make_write(1, 4, 88, 4 * 512, "\4", 1);
    record_encode(&lone, ring_at(&ring, kept.position), size);
    reader_at(&ring, &reader, 1);
    assert_int_equal(read_on(&reader), 4);
    /* an attach that repeats the incarnation in force is no attach */
    struct record same = make_attach(1, 4, 77, false);
    record_encode(&same, ring_at(&ring, kept.position), size);
    reader_at(&ring, &reader, 1);
    assert_int_equal(read_on(&reader), 4);
}

/* A next file counts only with the due sequence, first LSN, incarnation, stream and file size. */
static void file_change(void **state)
{
    (void)state;
    static struct ring ring;
    ring_init(&ring);
    ring_fill(&ring, 100);
    uint64_t first = 0; /* first record of the last file */
    for (uint64_t lsn = 1; lsn <= 100; lsn++) {
        if (ring.at[lsn] % FILE_SIZE == TIDE_LOG_HEADER) {
            first = lsn;
        }
    }
    uint8_t *header = ring_at(&ring, ring.at[first] - TIDE_LOG_HEADER);
    struct log_header good;
    struct err err;
    assert_int_equal(log_header_decode(header, &good, &err), 0);
    for (int wrong = 0; wrong <= 5; wrong++) {
        struct log_header h = good;
        h.sequence += wrong == 1 ? 1 : 0;
        h.first_lsn += wrong == 2 ? 1 : 0;
        h.incarnation += wrong == 3 ? 1 : 0;
        h.stream = wrong == 4 ? make_id(9) : h.stream;
        h.file_size += wrong == 5 ? 512 : 0;
        log_header_encode(&h, header);
        struct log_reader reader;
        reader_at(&ring, &reader, first - 1);
        assert_int_equal(read_on(&reader), wrong == 0 ? 101 : first);
        /* and from the very start of that file */
        log_reader_init(&reader, &ring.source, &ring.geometry, ring.at[first] - TIDE_LOG_HEADER,
                        first, 77, ring.reader_buffer, sizeof ring.reader_buffer);
        assert_int_equal(read_on(&reader), wrong == 0 ? 101 : first);
    }
}

static void header_bits(void **state)
{
    (void)state;
    struct log_header h = {make_id(1), 5, FILE_SIZE, 17, 3};
    uint8_t bytes[TIDE_LOG_HEADER];
    log_header_encode(&h, bytes);
    struct log_header got;
    struct err err;
    assert_int_equal(log_header_decode(bytes, &got, &err), 0);
    assert_true(id_equal(&got.stream, &h.stream));
    assert_int_equal(got.sequence, 5);
    assert_int_equal(got.file_size, FILE_SIZE);
    assert_int_equal(got.first_lsn, 17);
    assert_int_equal(got.incarnation, 3);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(log_header_decode(bytes, &got, &err), -1);
        bool version = bit / 8 == 7 || (bit / 8 >= 12 && bit / 8 < 16);
        assert_int_equal(err.code, version ? TIDE_ERR_VERSION : TIDE_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

static void refusals(void **state)
{
    (void)state;
    static struct ring ring;
    static uint8_t data[1500];
    ring_init(&ring);
    ring_fill(&ring, 3);
    struct log_reader reader;
    struct record record;
    const uint8_t *bytes;
    size_t size;
    struct err err;
    /* larger than the reader's buffer */
    ring_put(&ring, make_write(1, 4, 77, 0, data, sizeof data));
    reader_at(&ring, &reader, 4);
    assert_int_equal(log_reader_next(&reader, &record, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    /* a position inside a header */
    log_reader_init(&reader, &ring.source, &ring.geometry, 100, 1, 0, ring.reader_buffer,
                    sizeof ring.reader_buffer);
    assert_int_equal(log_reader_next(&reader, &record, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    /* files that are not there, or empty */
    ring.parts[0].size = 0;
    reader_at(&ring, &reader, 1);
    assert_int_equal(read_on(&reader), 1);
    ring.memory.count = 0;
    assert_int_equal(log_reader_next(&reader, &record, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wraps),        cmocka_unit_test(through),
        cmocka_unit_test(follows),      cmocka_unit_test(torn_tails),
        cmocka_unit_test(flipped_bits), cmocka_unit_test(old_incarnation),
        cmocka_unit_test(file_change),  cmocka_unit_test(header_bits),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
