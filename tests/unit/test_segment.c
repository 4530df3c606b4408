/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hrl_make.h"

#include "common/core/sha.h"
#include "common/hrl/log.h"
#include "common/hrl/segment.h"

#define SIZE_MAX_TEST 65536U

static uint8_t object[SIZE_MAX_TEST];
static uint8_t window[TIDE_SEGMENT_BUFFER];
static struct segment_writer writer;
static struct segment_reader reader;

static struct source source_of(const void *bytes, size_t size, struct source_part *part,
                               struct source_memory *memory)
{
    *part = (struct source_part){bytes, size};
    *memory = (struct source_memory){part, 1};
    return source_memory(memory);
}

static int verify(const void *bytes, size_t size, struct segment_info *ret, struct err *err)
{
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(bytes, size, &part, &memory);
    return segment_verify(&source, 0, window, sizeof window, ret, err);
}

static void append(const struct record *record)
{
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct err err;
    size_t size = record_encode(record, bytes, sizeof bytes);
    assert_int_equal(segment_writer_append(&writer, record, bytes, size, &err), 0);
}

static struct segment_header first_header(void)
{
    return (struct segment_header){.stream = make_id(1), .timeline = make_id(2001), .first_lsn = 1};
}

/* attach, gap, write, zero, seal, attestation, bookmark: LSN 1..7 */
static struct segment_info make_first(uint8_t *to)
{
    struct segment_header header = first_header();
    struct round_order order = make_order(3, 2);
    struct hash cut = make_hash(1);
    struct segment_info info;
    segment_writer_init(&writer, to, SIZE_MAX_TEST, &header);
    assert_true(segment_writer_empty(&writer));
    struct record r = make_attach(1, 1, 77, true);
    append(&r);
    r = make_gap(1, 2, 77);
    append(&r);
    r = make_write(1, 3, 77, 4096, "write", 5);
    append(&r);
    r = make_record(RECORD_ZERO, 1, 4, 77);
    r.write = (struct record_write){.size = 512};
    append(&r);
    r = make_seal(1, 5, 77, &order.round, 2, ROUND_OUTCOME_HELD, &cut);
    append(&r);
    r = make_record(RECORD_ATTESTATION, 1, 6, 77);
    r.attestation = (struct record_attestation){
        .round = order.round, .bytes = (const uint8_t *)"att", .size = 3};
    append(&r);
    assert_false(segment_writer_must_cut(&writer));
    r = make_bookmark(1, 7, 77, &order, 4);
    append(&r);
    assert_true(segment_writer_must_cut(&writer));
    segment_writer_finish(&writer, &info);
    return info;
}

static void round_trip(void **state)
{
    (void)state;
    static uint8_t again[SIZE_MAX_TEST];
    struct segment_info info = make_first(object);
    struct segment_info twice = make_first(again);
    assert_int_equal(info.size, twice.size);
    assert_memory_equal(object, again, info.size);
    assert_true(hash_equal(&info.hash, &twice.hash));
    struct hash whole = sha_of(object, info.size - TIDE_HASH_SIZE);
    assert_true(hash_equal(&info.hash, &whole));

    struct segment_info got;
    struct err err;
    assert_int_equal(verify(object, info.size, &got, &err), 0);
    assert_memory_equal(&got.hash, &info.hash, sizeof got.hash);
    assert_int_equal(got.last_lsn, 7);
    assert_int_equal(got.last_incarnation, 77);
    assert_int_equal(got.writes, 1);
    assert_int_equal(got.zeroes, 1);
    assert_int_equal(got.data_bytes, 5);
    assert_int_equal(got.entry_count, 4);

    /* what the footer lists, without the rest, through a small window */
    static const enum record_type listed[] = {RECORD_ATTACH, RECORD_GAP, RECORD_SEAL,
                                              RECORD_BOOKMARK};
    static const uint64_t lsns[] = {1, 2, 5, 7};
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(object, info.size, &part, &memory);
    assert_int_equal(segment_reader_init(&reader, &source, 0, window, 4096, &err), 0);
    for (uint32_t i = 0; i < 4; i++) {
        struct segment_entry entry;
        struct record record;
        assert_int_equal(segment_reader_entry(&reader, i, &entry, &record, &err), 0);
        assert_int_equal(entry.type, listed[i]);
        assert_int_equal(record.type, listed[i]);
        assert_int_equal(record.lsn, lsns[i]);
    }
}

/* A flipped bit is refused: by the hash alone where nothing else looks. */
static void flipped_bits(void **state)
{
    (void)state;
    struct segment_info info = make_first(object);
    struct segment_info got;
    struct err err;
    for (size_t bit = 0; bit < 8 * info.size; bit++) {
        object[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(verify(object, info.size, &got, &err), -1);
        assert_true(err.code == TIDE_ERR_CORRUPT || err.code == TIDE_ERR_VERSION);
        object[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

/* The same with the hash made right again, as someone who forges would: what still passes is
 * another segment, with another hash. */
static void forged_bits(void **state)
{
    (void)state;
    static uint8_t forged[SIZE_MAX_TEST];
    struct segment_info info = make_first(object);
    size_t body = info.size - TIDE_HASH_SIZE;
    unsigned passed = 0;
    for (size_t bit = 0; bit < 8 * body; bit++) {
        memcpy(forged, object, info.size);
        forged[bit / 8] ^= (uint8_t)(1U << bit % 8);
        struct hash hash = sha_of(forged, body);
        memcpy(forged + body, hash.b, sizeof hash.b);
        struct segment_info got;
        struct err err;
        if (verify(forged, info.size, &got, &err) == 0) {
            passed++;
            assert_false(hash_equal(&got.hash, &info.hash));
        }
    }
    assert_int_equal(passed, 0); /* first segment: no free field in header or footer */
}

static void wrong_sizes(void **state)
{
    (void)state;
    static uint8_t longer[SIZE_MAX_TEST];
    struct segment_info info = make_first(object);
    struct segment_info got;
    struct err err;
    for (size_t size = 0; size < info.size; size++) {
        assert_int_equal(verify(object, size, &got, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }
    memcpy(longer, object, info.size);
    for (size_t more = 1; more < 200; more++) {
        assert_int_equal(verify(longer, info.size + more, &got, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(object, (size_t)TIDE_SEGMENT_MAX + 1, &part, &memory);
    assert_int_equal(segment_reader_init(&reader, &source, 0, window, sizeof window, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
}

/* Rewrites a u64 of a good segment and its hash; must be refused. */
static void refuse_u64(size_t offset, uint64_t value, size_t size)
{
    static uint8_t forged[SIZE_MAX_TEST];
    memcpy(forged, object, size);
    for (size_t i = 0; i < 8; i++) {
        forged[offset + i] = (uint8_t)(value >> 8 * i);
    }
    struct hash hash = sha_of(forged, size - TIDE_HASH_SIZE);
    memcpy(forged + size - TIDE_HASH_SIZE, hash.b, sizeof hash.b);
    struct segment_info got;
    struct err err;
    assert_int_equal(verify(forged, size, &got, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
}

static void huge_numbers(void **state)
{
    (void)state;
    struct segment_info info = make_first(object);
    size_t trailer = info.size - TIDE_HASH_SIZE - TIDE_SEGMENT_TRAILER;
    size_t entries = trailer - 4 * TIDE_SEGMENT_ENTRY;
    static const uint64_t values[] = {UINT64_MAX,          INT64_MAX, 1ULL << 32, 0xFFFFFFFF,
                                      0xFFFFFFFF00000000U, 0,         1ULL << 63, UINT64_MAX - 7};
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        for (size_t field = 8; field <= 56; field += 8) {
            refuse_u64(trailer + field, values[v], info.size);
        }
        for (size_t entry = 0; entry < 4; entry++) {
            refuse_u64(entries + entry * TIDE_SEGMENT_ENTRY, values[v], info.size);
            refuse_u64(entries + entry * TIDE_SEGMENT_ENTRY + 8, values[v], info.size);
        }
        refuse_u64(TIDE_SEGMENT_HEADER + 12, values[v], info.size); /* body size, half the LSN */
    }
}

static int init_alone(const void *bytes, size_t size, struct err *err)
{
    struct source_part part;
    struct source_memory memory;
    struct source source = source_of(bytes, size, &part, &memory);
    return segment_reader_init(&reader, &source, 0, window, 4096, err);
}

/* Footers that lie where only header and footer are read, and one that lists too much. The writer
 * is made to write them, so that sizes and hash are right. */
static void forged_footers(void **state)
{
    (void)state;
    struct segment_header header = first_header();
    struct record attach = make_attach(1, 1, 77, true);
    struct record write = make_write(1, 2, 77, 0, "data", 4);
    for (int how = 0; how < 6; how++) {
        struct segment_info info;
        struct err err;
        segment_writer_init(&writer, object, sizeof object, &header);
        append(&attach);
        append(&write);
        struct segment_entry *e = &writer.entries[0];
        if (how == 1) { /* more records than the body has room for */
            writer.info.last_lsn += writer.info.body_size / TIDE_RECORD_HEADER;
        } else if (how == 2) { /* past the body's end */
            e->offset += e->size;
            e->size = (uint32_t)(writer.used - e->offset) + 8;
        } else if (how == 3) { /* a record that is no gap */
            writer.entries[1] =
                (struct segment_entry){RECORD_GAP, 2, (uint32_t)(e->offset + e->size),
                                       (uint32_t)(writer.used - e->offset - e->size)};
            writer.info.entry_count = 2;
        } else if (how == 5) { /* one record more than there are */
            writer.info.last_lsn++;
        } else if (how == 4) { /* not listed */
            writer.info.entry_count = 0;
        }
        segment_writer_finish(&writer, &info);
        int alone = init_alone(object, (size_t)info.size, &err);
        assert_int_equal(alone, how == 1 || how == 2 ? -1 : 0);
        if (how == 3) {
            struct record got;
            assert_int_equal(segment_reader_entry(&reader, 1, NULL, &got, &err), -1);
            assert_int_equal(err.code, TIDE_ERR_CORRUPT);
        }
        assert_int_equal(verify(object, (size_t)info.size, &info, &err), how == 0 ? 0 : -1);
    }
}

static void chain(void **state)
{
    (void)state;
    static uint8_t next_object[SIZE_MAX_TEST];
    struct err err;
    struct segment_info first = make_first(object);
    struct segment_header header = segment_next_header(&first);
    segment_writer_init(&writer, next_object, sizeof next_object, &header);
    struct record attach = make_attach(1, 8, 88, false);
    append(&attach);
    struct record write = make_write(1, 9, 88, 0, "x", 1);
    append(&write);
    struct segment_info made;
    segment_writer_finish(&writer, &made);
    struct segment_info next;
    assert_int_equal(verify(next_object, made.size, &next, &err), 0);
    assert_int_equal(next.last_incarnation, 88);
    assert_int_equal(segment_follows(NULL, &first, &err), 0);
    assert_int_equal(segment_follows(&first, &next, &err), 0);
    assert_int_equal(segment_follows(NULL, &next, &err), -1);
    assert_int_equal(segment_follows(&next, &first, &err), -1);
    assert_int_equal(segment_follows(&first, &first, &err), -1);
    struct segment_info other = first;
    other.hash.b[3] ^= 1;
    assert_int_equal(segment_follows(&other, &next, &err), -1);
    other = first;
    other.header.timeline = make_id(99);
    assert_int_equal(segment_follows(&other, &next, &err), -1);
    other = first;
    other.header.stream = make_id(99);
    assert_int_equal(segment_follows(&other, &next, &err), -1);
    other = first;
    other.last_incarnation++;
    assert_int_equal(segment_follows(&other, &next, &err), -1);
}

/* The writer takes only what is due. */
static void writer_refuses(void **state)
{
    (void)state;
    struct segment_header header = first_header();
    segment_writer_init(&writer, object, sizeof object, &header);
    struct record attach = make_attach(1, 1, 77, true);
    struct record cases[] = {
        make_write(1, 1, 77, 0, "x", 1), make_write(2, 2, 77, 0, "x", 1),
        make_write(1, 3, 77, 0, "x", 1), make_write(1, 2, 78, 0, "x", 1),
        make_attach(1, 2, 77, false),    make_attach(1, 2, 79, false),
        make_attach(1, 1, 77, true),
    };
    cases[5].attach.timeline = make_id(3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[TIDE_RECORD_SMALL_MAX];
        struct err err;
        size_t size = record_encode(&cases[i], bytes, sizeof bytes);
        assert_int_equal(segment_writer_append(&writer, &cases[i], bytes, size, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
        if (i == 0) {
            append(&attach);
        }
    }
}

/* Cut by size: never over the limit, nothing lost, and every piece verifies and follows. */
static void cut_by_size(void **state)
{
    (void)state;
    static uint8_t data[900];
    struct segment_header header = first_header();
    struct segment_info before;
    struct segment_info info;
    struct err err;
    unsigned pieces = 0;
    struct record r = make_attach(1, 1, 77, true);
    segment_writer_init(&writer, object, 4096, &header);
    for (uint64_t lsn = 1; lsn <= 200; lsn++) {
        if (lsn > 1) {
            r = make_write(1, lsn, 77, 0, data, 1 + lsn * 4 % sizeof data);
        }
        if (!segment_writer_fits(&writer, r.type, record_size(&r))) {
            segment_writer_finish(&writer, &info);
            assert_true(info.size <= 4096);
            struct segment_info got;
            assert_int_equal(verify(object, info.size, &got, &err), 0);
            assert_int_equal(segment_follows(pieces == 0 ? NULL : &before, &got, &err), 0);
            assert_int_equal(got.last_lsn, lsn - 1);
            before = got;
            pieces++;
            header = segment_next_header(&got);
            segment_writer_init(&writer, object, 4096, &header);
        }
        append(&r);
    }
    assert_true(pieces > 20);
}

/* A footer can list no more than it may. */
static void many_entries(void **state)
{
    (void)state;
    static uint8_t big[1 << 20];
    struct segment_header header = first_header();
    segment_writer_init(&writer, big, sizeof big, &header);
    struct record r = make_attach(1, 1, 77, true);
    append(&r);
    uint64_t lsn = 2;
    for (; lsn <= TIDE_SEGMENT_ENTRIES_MAX; lsn++) {
        r = make_gap(1, lsn, 77);
        append(&r);
    }
    r = make_gap(1, lsn, 77);
    assert_false(segment_writer_fits(&writer, r.type, record_size(&r)));
    struct segment_info info;
    struct err err;
    segment_writer_finish(&writer, &info);
    assert_int_equal(verify(big, info.size, &info, &err), 0);
    assert_int_equal(info.entry_count, TIDE_SEGMENT_ENTRIES_MAX);
}

/* Puts `more` bytes into a segment before `at`, with the hash made right again. Returns its size.
 */
static size_t insert(uint8_t *bytes, size_t size, size_t at, const void *more, size_t more_size)
{
    memmove(bytes + at + more_size, bytes + at, size - at);
    memcpy(bytes + at, more, more_size);
    size += more_size;
    struct hash hash = sha_of(bytes, size - TIDE_HASH_SIZE);
    memcpy(bytes + size - TIDE_HASH_SIZE, hash.b, sizeof hash.b);
    return size;
}

static void add_u64(uint8_t *at, uint64_t more)
{
    uint64_t v = 0;
    for (size_t i = 8; i-- > 0;) {
        v = v << 8 | at[i];
    }
    v += more;
    for (size_t i = 0; i < 8; i++) {
        at[i] = (uint8_t)(v >> 8 * i);
    }
}

/* Bytes that belong to no part, and one footer entry more than there may be. */
static void too_much(void **state)
{
    (void)state;
    static uint8_t big[1 << 20];
    static const uint8_t zeroes[TIDE_SEGMENT_ENTRY];
    struct segment_info info = make_first(big);
    struct segment_info got;
    struct err err;
    for (size_t part = 0; part < 3; part++) {
        info = make_first(big);
        size_t trailer = info.size - TIDE_HASH_SIZE - TIDE_SEGMENT_TRAILER;
        size_t at = part == 0 ? TIDE_SEGMENT_HEADER : part == 1 ? trailer : trailer - 128;
        size_t size = insert(big, info.size, at, zeroes, sizeof zeroes);
        assert_int_equal(verify(big, size, &got, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    }

    struct segment_header header = first_header();
    segment_writer_init(&writer, big, sizeof big, &header);
    struct record r = make_attach(1, 1, 77, true);
    append(&r);
    for (uint64_t lsn = 2; lsn <= TIDE_SEGMENT_ENTRIES_MAX; lsn++) {
        r = make_gap(1, lsn, 77);
        append(&r);
    }
    segment_writer_finish(&writer, &info);
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    r = make_gap(1, info.last_lsn + 1, 77);
    size_t record = record_encode(&r, bytes, sizeof bytes);
    size_t body_end = TIDE_SEGMENT_HEADER + (size_t)info.body_size;
    size_t size = insert(big, (size_t)info.size, body_end, bytes, record);
    size_t trailer = size - TIDE_HASH_SIZE - TIDE_SEGMENT_TRAILER;
    uint8_t entry[TIDE_SEGMENT_ENTRY];
    memcpy(entry, big + trailer - sizeof entry, sizeof entry);
    add_u64(entry, 1);
    add_u64(entry + 8, record); /* the offset; its upper half, the size, stays */
    add_u64(big + trailer + 8, 1);
    add_u64(big + trailer + 24, record);
    add_u64(big + trailer + 56, 1);
    size = insert(big, size, trailer, entry, sizeof entry);
    assert_int_equal(verify(big, size, &got, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "sizes"));
}

static void fill(uint8_t *to, uint8_t value, size_t size)
{
    memset(to, value, size);
}

/* The vectors of proto/hrl.md, which another encoder made. */
static void vectors(void **state)
{
    (void)state;
    static const char *const hashes[] = {
        "6bd1a312c8e68062a729c1132642bf75ab6c847f5b090bc0638414c13bf0523f",
        "65ea61c50caa3673c44b10143d730ab316a329b6fbafe123a1e03b6fbf5477ad",
        "f1aa2a2822fa26905e9800599290c8adcabcc53d4d6a20e39d9ac799af656f2f"};
    struct segment_header header = {.first_lsn = 1};
    struct segment_info info;
    struct err err;
    char hex[TIDE_HASH_HEX];
    fill(header.stream.b, 0x11, TIDE_ID_SIZE);
    fill(header.timeline.b, 0x22, TIDE_ID_SIZE);

    struct record attach = {.type = RECORD_ATTACH, .lsn = 1, .mono_ns = 1000};
    fill(attach.attach.boot.b, 0x33, TIDE_ID_SIZE);
    fill(attach.attach.disk.b, 0x44, TIDE_ID_SIZE);
    attach.attach.timeline = header.timeline;
    attach.attach.size = 1 << 20;
    attach.attach.block_size = 4096;
    attach.attach.clean = attach.attach.first = attach.attach.base_zero = true;
    strcpy(attach.attach.serial, "vda");
    struct record write = {.type = RECORD_WRITE, .lsn = 2, .mono_ns = 2000};
    write.write =
        (struct record_write){.offset = 4096, .size = 5, .data = (const uint8_t *)"hello"};
    struct record zero = {.type = RECORD_ZERO, .lsn = 3, .mono_ns = 3000};
    zero.write = (struct record_write){.offset = 8192, .size = 512, .discard = true};
    struct record bookmark = {.type = RECORD_BOOKMARK, .lsn = 4, .mono_ns = 4000};
    struct record_bookmark *b = &bookmark.bookmark;
    struct round_order *order = &b->order;
    fill(order->round.b, 0x66, TIDE_ID_SIZE);
    fill(order->group.b, 0x77, TIDE_ID_SIZE);
    order->epoch.number = 3;
    fill(order->epoch.hash.b, 0x88, TIDE_HASH_SIZE);
    fill(b->nonce.b, 0x99, TIDE_ID_SIZE);
    order->scope = ROUND_SCOPE_GROUP;
    order->kind = ROUND_KIND_CRASH;
    set_init(&order->set, 2);
    set_add(&order->set, 0);
    set_add(&order->set, 1);
    b->budget_us = 50000;
    b->wall_ns = 1700000000000000000U;
    b->mono_ns = 123456789;
    b->wall_error_us = 250;
    struct round_mark marks[2] = {{.incarnation = 0x5b, .lsn = 9},
                                  {header.stream, 0x5a, 4, b->nonce}};
    fill(marks[0].stream.b, 0x12, TIDE_ID_SIZE);
    fill(marks[0].nonce.b, 0x9a, TIDE_ID_SIZE);
    struct hash cut = round_cut_hash(order, marks, 2);
    assert_string_equal(hash_hex(&cut, hex),
                        "fb8512a8a6852c6848cb7b0a97c132f508b1a91e402fd449f6e44dd73511b88d");
    struct record seal = {.type = RECORD_SEAL, .lsn = 5, .mono_ns = 5000};
    seal.seal = (struct record_seal){.round = order->round,
                                     .bookmark_lsn = 4,
                                     .outcome = ROUND_OUTCOME_HELD,
                                     .cut = cut,
                                     .hold_us = 900,
                                     .writes_held = 3,
                                     .bytes_held = 12288};

    struct record copy_begin = {.type = RECORD_COPY_BEGIN, .lsn = 6, .mono_ns = 6000};
    copy_begin.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_FULL, .size = 1 << 20};
    struct record block = {.type = RECORD_COPY_BLOCK, .lsn = 7, .mono_ns = 7000};
    block.write = write.write;
    struct record hole = {.type = RECORD_ZERO, .lsn = 8, .mono_ns = 8000};
    hole.write = (struct record_write){.offset = 8192, .size = 512, .copy = true};
    struct record copy_end = {.type = RECORD_COPY_END, .lsn = 9, .mono_ns = 9000};
    copy_end.copy_end =
        (struct record_copy_end){.begin_lsn = 6, .copied = 262144, .zeroes = 786432};
    struct record resize = {.type = RECORD_RESIZE, .lsn = 10, .mono_ns = 10000};
    resize.resize = (struct record_resize){.size = 2 << 20, .before = 1 << 20};
    struct record gap = {.type = RECORD_GAP, .lsn = 11, .mono_ns = 11000};
    gap.gap = (struct record_gap){.reason = RECORD_GAP_ASKED, .from_lsn = 11, .text = "by hand"};
    struct record changes = {.type = RECORD_COPY_BEGIN, .lsn = 12, .mono_ns = 12000};
    changes.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_CHANGES, .size = 2 << 20};
    struct record changes_end = {.type = RECORD_COPY_END, .lsn = 13, .mono_ns = 13000};
    changes_end.copy_end =
        (struct record_copy_end){.begin_lsn = 12, .copied = 65536, .zeroes = 2031616};

    struct record *records[] = {&attach,     &write,   &zero,       &bookmark, &seal,
                                &copy_begin, &block,   &hole,       &copy_end, &resize,
                                &gap,        &changes, &changes_end};
    const size_t count = sizeof records / sizeof records[0];
    size_t segments = 0;
    segment_writer_init(&writer, object, sizeof object, &header);
    for (size_t i = 0; i < count; i++) {
        records[i]->stream = header.stream;
        records[i]->incarnation = 0x5a;
        append(records[i]);
        if (i == 3 || i == 4 || i == count - 1) {
            segment_writer_finish(&writer, &info);
            assert_string_equal(hash_hex(&info.hash, hex), hashes[segments++]);
            assert_int_equal(verify(object, info.size, &info, &err), 0);
            header = segment_next_header(&info);
            segment_writer_init(&writer, object, sizeof object, &header);
        }
    }

    struct log_header log = {
        .sequence = 7, .file_size = 1 << 20, .first_lsn = 5, .incarnation = 0x5a};
    uint8_t bytes[TIDE_LOG_HEADER];
    log.stream = header.stream;
    log_header_encode(&log, bytes);
    static const uint8_t crc[] = {0x1a, 0x45, 0x66, 0x95};
    assert_memory_equal(bytes + 8, crc, sizeof crc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),   cmocka_unit_test(flipped_bits),
        cmocka_unit_test(forged_bits),  cmocka_unit_test(wrong_sizes),
        cmocka_unit_test(huge_numbers), cmocka_unit_test(forged_footers),
        cmocka_unit_test(chain),        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(cut_by_size),  cmocka_unit_test(many_entries),
        cmocka_unit_test(too_much),     cmocka_unit_test(vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
