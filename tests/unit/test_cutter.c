/* SPDX-License-Identifier: Apache-2.0 */
/* participant/cutter: segments out of a ring in memory: a cut's bytes follow from its range alone,
 * however the reading was split; cuts at bookmarks and by size; and what a log that lacks records
 * gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "participant/cutter.h"

#define FILES     4U
#define FILE_SIZE (8U * 1024 * 1024)
#define CUTS_MAX  64U
#define DATA      (256U * 1024)

static const struct id stream = {{7}};
static const struct id timeline = {{8}};
static const struct log_ring ring = {.stream = {{7}}, .files = FILES, .file_size = FILE_SIZE};

static uint8_t *files[FILES];
static struct source_part parts[FILES];
static struct source_memory memory = {parts, FILES};
static struct source source;
static uint64_t position;
static uint64_t next_lsn;
static uint8_t encoded[TIDE_RECORD_MAX];
static uint8_t data[DATA];
static struct cutter cutter;

static void put(struct record *record)
{
    bool new_file = false;
    record->lsn = next_lsn++;
    record->incarnation = 5;
    record->stream = stream;
    size_t size = record_encode(record, encoded, sizeof encoded);
    position = log_place(&ring, position, size, &new_file);
    uint8_t *file = files[position / FILE_SIZE % FILES];
    if (new_file || position % FILE_SIZE == TIDE_LOG_HEADER) {
        struct log_header header = {.stream = stream,
                                    .sequence = position / FILE_SIZE,
                                    .file_size = FILE_SIZE,
                                    .first_lsn = record->lsn,
                                    .incarnation = record->lsn == 1 ? 0 : 5};
        log_header_encode(&header, file);
    }
    memcpy(file + position % FILE_SIZE, encoded, size);
    position += size;
}

static void put_write(uint64_t size)
{
    struct record record = {.type = RECORD_WRITE,
                            .write = {.offset = next_lsn * 4096, .size = size, .data = data}};
    memset(data, (int)next_lsn, size);
    put(&record);
}

static void put_bookmark(void)
{
    struct record record = {.type = RECORD_BOOKMARK};
    struct record_bookmark *bookmark = &record.bookmark;
    bookmark->order = (struct round_order){.round = {{(uint8_t)next_lsn, 1}},
                                           .group = {{2}},
                                           .epoch = {.number = 1, .hash = {{3}}},
                                           .scope = ROUND_SCOPE_GROUP,
                                           .kind = ROUND_KIND_CRASH};
    set_init(&bookmark->order.set, 1);
    set_add(&bookmark->order.set, 0);
    bookmark->nonce = (struct id){{(uint8_t)next_lsn, 9}};
    bookmark->budget_us = 50000;
    bookmark->wall_error_us = UINT32_MAX;
    put(&record);
}

static int setup(void **state)
{
    struct err err = {0};
    (void)state;
    for (unsigned i = 0; i < FILES; i++) {
        files[i] = calloc(1, FILE_SIZE);
        assert_non_null(files[i]);
        parts[i] = (struct source_part){files[i], FILE_SIZE};
    }
    source = source_memory(&memory);
    position = TIDE_LOG_HEADER;
    next_lsn = 1;
    struct record attach = {.type = RECORD_ATTACH,
                            .attach = {.boot = {{1}},
                                       .disk = {{2}},
                                       .timeline = timeline,
                                       .size = 1 << 30,
                                       .block_size = 512,
                                       .clean = true,
                                       .first = true,
                                       .base_zero = true}};
    put(&attach);
    return cutter_init(&cutter, &err);
}

static int teardown(void **state)
{
    (void)state;
    cutter_close(&cutter);
    for (unsigned i = 0; i < FILES; i++) {
        free(files[i]);
    }
    return 0;
}

static const struct cutter_place tail = {
    .ring = {.stream = {{7}}, .files = FILES, .file_size = FILE_SIZE},
    .position = TIDE_LOG_HEADER,
    .lsn = 1,
    .incarnation = 0};

static int open_at(uint64_t first, const struct hash *before, struct err *err)
{
    return cutter_open(&cutter, &source, &tail, &timeline, first, before, err);
}

/* Cuts all up to the last record, looking at `stride` records at a time. */
static unsigned cut_all(uint64_t stride, struct segment_info infos[CUTS_MAX])
{
    const struct hash none = {{0}};
    struct err err = {0};
    unsigned count = 0;
    uint64_t last = next_lsn - 1;
    assert_int_equal(open_at(1, &none, &err), 0);
    for (uint64_t through = stride < last ? stride : last;;) {
        bool is_full = false;
        if (cutter_fill(&cutter, through, &is_full, &err) != 0) {
            fail_msg("%s", err.text);
        }
        if (is_full || (through == last && !cutter_empty(&cutter))) {
            assert_true(count < CUTS_MAX);
            cutter_cut(&cutter, &infos[count]);
            cutter_next(&cutter, &infos[count]);
            count++;
        } else if (through == last) {
            return count;
        } else {
            through = through + stride < last ? through + stride : last;
        }
    }
}

static void same_bytes(void **state)
{
    struct segment_info once[CUTS_MAX];
    struct segment_info steps[CUTS_MAX];
    struct err err = {0};
    (void)state;
    for (unsigned i = 0; i < 90; i++) {
        put_write(i % 3 == 0 ? DATA : 4096 + 512 * i);
        if (i % 20 == 19) {
            put_bookmark();
        }
    }
    unsigned count = cut_all(UINT64_MAX / 2, once);
    assert_true(count >= 5);
    assert_int_equal(once[0].header.first_lsn, 1);
    assert_int_equal(once[count - 1].last_lsn, next_lsn - 1);
    for (uint64_t stride = 1; stride < 40; stride += 6) {
        assert_int_equal(cut_all(stride, steps), count);
        for (unsigned i = 0; i < count; i++) {
            assert_true(hash_equal(&steps[i].hash, &once[i].hash));
        }
    }
    /* A restart: each cut is built again alone, from the log's tail. */
    for (unsigned i = 0; i < count; i++) {
        struct segment_info again;
        bool is_full = false;
        assert_int_equal(open_at(once[i].header.first_lsn, &once[i].header.before, &err), 0);
        assert_int_equal(cutter_fill(&cutter, once[i].last_lsn, &is_full, &err), 0);
        cutter_cut(&cutter, &again);
        assert_true(hash_equal(&again.hash, &once[i].hash));
        assert_int_equal(again.size, once[i].size);
        if (i > 0) {
            assert_int_equal(segment_follows(&once[i - 1], &again, &err), 0);
        }
        /* And what was built is what a receiver takes. */
        const struct source_part part = {cutter.object, again.size};
        struct source_memory one = {&part, 1};
        struct source from = source_memory(&one);
        struct segment_info verified;
        uint8_t *buffer = malloc(TIDE_SEGMENT_BUFFER);
        assert_non_null(buffer);
        assert_int_equal(segment_verify(&from, 0, buffer, TIDE_SEGMENT_BUFFER, &verified, &err), 0);
        free(buffer);
    }
}

static void cuts_where_due(void **state)
{
    struct segment_info infos[CUTS_MAX];
    (void)state;
    put_write(4096);
    put_bookmark(); /* 3 */
    put_bookmark(); /* 4 */
    put_write(4096);
    assert_int_equal(cut_all(UINT64_MAX / 2, infos), 3);
    assert_int_equal(infos[0].last_lsn, 3);
    assert_int_equal(infos[1].header.first_lsn, 4);
    assert_int_equal(infos[1].last_lsn, 4);
    assert_int_equal(infos[2].last_lsn, 5);
    while (next_lsn < 80) {
        put_write(DATA);
    }
    unsigned count = cut_all(UINT64_MAX / 2, infos);
    assert_true(count >= 5);
    for (unsigned i = 0; i < count; i++) {
        assert_true(infos[i].size <= TIDE_SEGMENT_MAX);
    }
    assert_true(infos[2].size > TIDE_SEGMENT_MAX - DATA - 4096); /* by size: as full as can be */
}

static void lacking(void **state)
{
    const struct hash none = {{0}};
    const struct hash some = {{1}};
    struct err err = {0};
    bool is_full = false;
    (void)state;
    put_write(4096);
    put_write(4096);
    assert_int_equal(open_at(9, &some, &err), -1); /* not there yet */
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    struct cutter_place later = tail;
    later.lsn = 3;
    assert_int_equal(cutter_open(&cutter, &source, &later, &timeline, 2, &some, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND); /* no longer there */
    assert_int_equal(open_at(1, &none, &err), 0);
    assert_int_equal(cutter_fill(&cutter, 4, &is_full, &err), -1); /* synced, and not there */
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    files[0][position - 100] ^= 1; /* the last record's data */
    assert_int_equal(open_at(1, &none, &err), 0);
    assert_int_equal(cutter_fill(&cutter, 3, &is_full, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
}

/* The ring has gone round since its tail was told: what is due is found all the same. */
static void written_over(void **state)
{
    const struct hash some = {{1}};
    struct err err = {0};
    bool is_full = false;
    (void)state;
    while (position < (uint64_t)(FILES + 1) * FILE_SIZE + FILE_SIZE / 2) {
        put_write(DATA);
    }
    /* A file whose header alone a power cut had left: it promises what is elsewhere. */
    uint64_t due = next_lsn - 50;
    struct log_header stray = {.stream = stream,
                               .sequence = FILES + 2,
                               .file_size = FILE_SIZE,
                               .first_lsn = due - 1,
                               .incarnation = 5};
    log_header_encode(&stray, files[2]);
    if (open_at(due, &some, &err) != 0 || cutter_fill(&cutter, due + 4, &is_full, &err) != 0) {
        fail_msg("%s", err.text);
    }
    struct segment_info info;
    cutter_cut(&cutter, &info);
    assert_int_equal(info.header.first_lsn, due);
    assert_int_equal(info.last_lsn, due + 4);
    assert_int_equal(open_at(5, &some, &err), -1); /* and what is gone is gone */
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(cuts_where_due, setup, teardown),
        cmocka_unit_test_setup_teardown(lacking, setup, teardown),
        cmocka_unit_test_setup_teardown(written_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
