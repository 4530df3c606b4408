/* SPDX-License-Identifier: Apache-2.0 */
/* The ring's files as another process sees them: what an append leaves in a recycled file. */
#include "participant/tap/ring.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096U
#define OLD  0xee /* of the round before */

static char folder[] = "/tmp/tidemark-ring-XXXXXX";
static struct ring ring;

static void recycled(void)
{
    struct id stream = {{1}};
    struct err err;
    uint8_t old[PAGE];
    struct log_ring geometry = ring_geometry(TIDE_RING_SIZE_MIN, &stream);
    assert_int_equal(ring_create(&ring, folder, &geometry, &err), 0);
    memset(old, OLD, sizeof old);
    for (uint32_t i = 0; i < geometry.files; i++) {
        for (uint64_t at = 0; at < geometry.file_size; at += PAGE) {
            assert_int_equal(pwrite(ring.fds[i], old, PAGE, (off_t)at), PAGE);
        }
    }
}

static uint8_t byte_at(uint64_t position)
{
    uint8_t byte = 0;
    int fd = ring.fds[position / ring.geometry.file_size % ring.geometry.files];
    assert_int_equal(pread(fd, &byte, 1, (off_t)(position % ring.geometry.file_size)), 1);
    return byte;
}

static uint64_t append(uint64_t lsn, size_t size)
{
    static uint8_t bytes[4 * PAGE];
    uint64_t position = 0;
    memset(bytes, (int)lsn, sizeof bytes);
    struct iovec parts[3] = {{.iov_base = bytes, .iov_len = 8},
                             {.iov_base = bytes, .iov_len = size - 16},
                             {.iov_base = bytes, .iov_len = 8}};
    assert_int_equal(ring_append(&ring, lsn, parts, 3, size, &position), 0);
    return position;
}

/* No page of the file is ever written in part before it is written whole: the kernel would read it
 * from the disk first, and the guest would wait for that. */
static void test_whole_pages(void **state)
{
    (void)state;
    recycled();
    uint64_t before = 0;
    uint64_t file_end = ring.geometry.file_size;
    for (uint64_t lsn = 1; lsn <= 2000; lsn++) {
        size_t size = 32 + lsn * 104729 % (3 * PAGE) / 8 * 8;
        uint64_t at = append(lsn, size);
        uint64_t end = at + size;
        ring.incarnation = 1; /* in force behind the ATTACH */
        assert_int_equal(byte_at(at), lsn & 0xff);
        assert_int_equal(byte_at(end - 1), lsn & 0xff);
        if (before != 0) {
            assert_int_equal(byte_at(before), (lsn - 1) & 0xff);
        }
        for (uint64_t p = end; p % PAGE != 0; p++) {
            assert_int_equal(byte_at(p), 0);
        }
        if (end / file_end == at / file_end && end % file_end + PAGE < file_end) {
            assert_int_equal(byte_at((end + PAGE - 1) / PAGE * PAGE), OLD);
        }
        before = end - 1;
        ring_free(&ring, lsn - 1);
        if (ring.head == ring.geometry.files - 1) {
            break; /* all of them were used; no round of ours has come twice */
        }
    }
    assert_int_equal(ring.head, ring.geometry.files - 1);
    ring_close(&ring);
}

/* The record `lsn` of that incarnation; an ATTACH is larger than a zero. */
static uint64_t append_record(uint64_t lsn, enum record_type type, uint64_t incarnation)
{
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    uint64_t position = 0;
    struct record record = {
        .type = type, .lsn = lsn, .incarnation = incarnation, .stream = ring.geometry.stream};
    if (type == RECORD_ATTACH) {
        record.attach = (struct record_attach){.boot = {{1}},
                                               .disk = {{2}},
                                               .timeline = {{3}},
                                               .size = 4096,
                                               .block_size = 512,
                                               .first = lsn == 1,
                                               .base_zero = lsn == 1};
    } else {
        record.write = (struct record_write){.size = 512};
    }
    struct iovec part = {.iov_base = bytes, .iov_len = record_encode(&record, bytes, sizeof bytes)};
    assert_int_equal(ring_append(&ring, lsn, &part, 1, part.iov_len, &position), 0);
    ring.incarnation = incarnation;
    return position;
}

/* Reads from the start; the type of record `lsn`, and how many there are. */
static enum record_type read_through(uint64_t lsn, uint64_t *ret_count)
{
    struct source source = ring_source(&ring);
    struct log_reader reader;
    struct record record;
    struct err err;
    const uint8_t *bytes = NULL;
    size_t size = 0;
    enum record_type type = 0;
    uint8_t *buffer = malloc(TIDE_LOG_BUFFER);
    assert_non_null(buffer);
    log_reader_init(&reader, &source, &ring.geometry, 0, 1, 0, buffer, TIDE_LOG_BUFFER);
    while (log_reader_next(&reader, &record, &bytes, &size, &err) == 0 &&
           reader.end == LOG_END_NONE) {
        type = record.lsn == lsn ? record.type : type;
    }
    *ret_count = reader.lsn - 1;
    free(buffer);
    return type;
}

/* A log that was ended (its sync failed) before its last record, where a zero just fits into the
 * file and the ATTACH of the next life does not: the old record is due there, and must not count.
 */
static void test_ended_log(void **state)
{
    struct id stream = {{1}};
    struct log_ring geometry = ring_geometry(TIDE_RING_SIZE_MIN, &stream);
    struct err err;
    uint64_t lsn = 1;
    uint64_t count = 0;
    (void)state;
    assert_int_equal(ring_create(&ring, folder, &geometry, &err), 0);
    ring_restart(&ring, &stream);
    append_record(lsn, RECORD_ATTACH, 7);
    uint64_t zero = append_record(++lsn, RECORD_ZERO, 7);
    uint64_t size = append_record(++lsn, RECORD_ZERO, 7) - zero;
    while (geometry.file_size - ring.position >= 2 * size) {
        append_record(++lsn, RECORD_ZERO, 7);
    }
    uint64_t end = ring.position;
    append_record(lsn + 1, RECORD_ZERO, 7); /* never synced */
    assert_int_equal((ring.position - 1) / geometry.file_size, 0);
    assert_int_equal(ring_resume(&ring, end, lsn + 1, 7, &err), 0);
    assert_int_equal(ring_forget(&ring), 0);
    uint64_t attach = append_record(lsn + 1, RECORD_ATTACH, 8);
    assert_int_equal(attach / geometry.file_size, 1);
    append_record(lsn + 2, RECORD_ZERO, 8);
    assert_int_equal(read_through(lsn + 1, &count), RECORD_ATTACH);
    assert_int_equal(count, lsn + 2);
    ring_close(&ring);
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int end(void **state)
{
    char path[64];
    (void)state;
    for (unsigned i = 0; i < TIDE_LOG_FILES_MAX; i++) {
        (void)snprintf(path, sizeof path, "%s/ring-%03u", folder, i);
        (void)unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ended_log),
                                       cmocka_unit_test(test_whole_pages)};
    return cmocka_run_group_tests(tests, begin, end);
}
