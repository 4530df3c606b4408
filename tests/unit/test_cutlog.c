/* SPDX-License-Identifier: Apache-2.0 */
/* participant/cutlog: what survives a restart, what damage does, and where shipping goes on for
 * each state of the far side. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "participant/cutlog.h"

#define HEADER 64
#define ENTRY  128

static char folder[64];
static const struct id stream = {{1, 2, 3}};
static struct cutlog journal;

static struct hash hash_no(unsigned n)
{
    return (struct hash){{(uint8_t)n, (uint8_t)(n >> 8)}};
}

/* Cut n (from 1) has LSNs 10n - 9 .. 10n. */
static struct cutlog_entry entry_no(unsigned n)
{
    return (struct cutlog_entry){.first = 10 * n - 9,
                                 .last = 10 * n,
                                 .position = 1000 * n,
                                 .incarnation = n == 1 ? 0 : 77,
                                 .before = n == 1 ? (struct hash){{0}} : hash_no(n - 1),
                                 .hash = hash_no(n)};
}

static void fill(unsigned from, unsigned to)
{
    for (unsigned n = from; n <= to; n++) {
        struct cutlog_entry entry = entry_no(n);
        struct err err = {0};
        if (cutlog_append(&journal, &entry, &err) != 0) {
            fail_msg("%s", err.text);
        }
    }
}

static int reopen(struct err *err)
{
    cutlog_close(&journal);
    return cutlog_open(&journal, folder, &stream, err);
}

static void survives(void **state)
{
    struct err err = {0};
    (void)state;
    fill(1, 3);
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, 3);
    struct cutlog_entry third = entry_no(3);
    assert_memory_equal(&journal.entries[2], &third, sizeof third);
    fill(4, 4);
    struct cutlog_entry wrong = entry_no(6);
    assert_int_equal(cutlog_append(&journal, &wrong, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    wrong = entry_no(5);
    wrong.before = hash_no(9);
    assert_int_equal(cutlog_append(&journal, &wrong, &err), -1);
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, 4);
}

static void torn_and_damaged(void **state)
{
    struct err err = {0};
    uint8_t byte = 0xff;
    (void)state;
    fill(1, 3);
    assert_int_equal(truncate(journal.path, HEADER + 2 * ENTRY + 50), 0);
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, 2);
    fill(3, 4); /* and the torn bytes are not in the way */
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, 4);

    int fd = open(journal.path, O_WRONLY);
    assert_int_equal(pwrite(fd, &byte, 1, HEADER + 3 * ENTRY + 20), 1);
    assert_int_equal(reopen(&err), 0); /* the last one: as torn */
    assert_int_equal(journal.count, 3);
    close(fd);
    fd = open(journal.path, O_WRONLY);
    assert_int_equal(pwrite(fd, &byte, 1, HEADER + ENTRY + 20), 1);
    assert_int_equal(reopen(&err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "entry 2"));
    assert_int_equal(pwrite(fd, &byte, 1, 10), 1); /* another stream's */
    assert_int_equal(reopen(&err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    close(fd);
}

static void trims(void **state)
{
    struct err err = {0};
    struct cutlog_resume resume;
    (void)state;
    fill(1, CUTLOG_ENTRIES_MAX);
    struct cutlog_entry over = entry_no(CUTLOG_ENTRIES_MAX + 1);
    assert_int_equal(cutlog_append(&journal, &over, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_FULL);
    assert_int_equal(cutlog_trim(&journal, 20, false, &err), 0);
    assert_int_equal(journal.count, CUTLOG_ENTRIES_MAX); /* not worth a file yet */
    assert_int_equal(cutlog_trim(&journal, 10 * 200, false, &err), 0);
    assert_int_equal(journal.count, CUTLOG_ENTRIES_MAX - 199);
    assert_int_equal(journal.entries[0].last, 2000);
    assert_int_equal(reopen(&err), 0);
    fill(CUTLOG_ENTRIES_MAX + 1, CUTLOG_ENTRIES_MAX + 1);
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, CUTLOG_ENTRIES_MAX - 198);
    struct intake_stream_state far = {.stored_lsn = 2000, .head = hash_no(200)};
    assert_int_equal(cutlog_compare(&journal, &far, 1, 9999, &resume, &err), 0);
    assert_int_equal(resume.first, 2001);
    assert_non_null(cutlog_at(&journal, 2001));
}

/* No room for a new file (here: no descriptor): the old one goes on to be appended to, and what
 * was decided after that is found by the next start. */
static void a_trim_that_fails(void **state)
{
    struct err err = {0};
    struct rlimit before;
    (void)state;
    fill(1, 200);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(cutlog_trim(&journal, 10 * 150, false, &err), -1);
    assert_int_equal(cutlog_clear(&journal, &err), -1);
    fill(201, 201);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(journal.count, 201);
    if (reopen(&err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(journal.count, 201);
    assert_int_equal(cutlog_trim(&journal, 10 * 150, false, &err), 0);
    assert_int_equal(journal.count, 52);
    assert_int_equal(journal.entries[0].last, 1500);
}

static uint64_t tail = 1; /* of the tap's log */
static bool fell_back;

/* -1: a conflict, else the first LSN due; *ret_pending its pending cut's last LSN, or 0. */
static long compare(uint64_t stored, struct hash head, uint64_t next_lsn, uint64_t *ret_pending,
                    bool *ret_clear)
{
    struct intake_stream_state far = {.stored_lsn = stored, .received_lsn = stored, .head = head};
    struct cutlog_resume resume = {0};
    struct err err = {0};
    if (cutlog_compare(&journal, &far, tail, next_lsn, &resume, &err) != 0) {
        assert_int_equal(err.code, TIDE_ERR_CONFLICT);
        assert_true(err.text[0] != '\0');
        return -1;
    }
    assert_true(hash_equal(&resume.before, &head));
    const struct cutlog_entry *pending = cutlog_at(&journal, resume.first);
    *ret_pending = pending == NULL ? 0 : pending->last;
    *ret_clear = resume.clear;
    fell_back = resume.fell_back;
    return (long)resume.first;
}

static void compares(void **state)
{
    const struct hash none = {{0}};
    struct err err = {0};
    uint64_t pending = 0;
    bool clear = false;
    (void)state;
    /* Nothing here: the far side says where to go on, unless it is past the tap. */
    assert_int_equal(compare(0, none, 1, &pending, &clear), 1);
    assert_int_equal(compare(30, hash_no(3), 40, &pending, &clear), 31);
    assert_int_equal(compare(40, hash_no(4), 40, &pending, &clear), -1);
    tail = 32; /* begins behind what is due */
    assert_int_equal(compare(30, hash_no(3), 40, &pending, &clear), -1);
    tail = 1;
    fill(1, 3);
    assert_int_equal(compare(0, none, 99, &pending, &clear), 1);
    assert_int_equal(pending, 10);
    assert_int_equal(compare(20, hash_no(2), 99, &pending, &clear), 21);
    assert_int_equal(pending, 30);
    assert_int_equal(compare(30, hash_no(3), 99, &pending, &clear), 31);
    assert_int_equal(pending, 0);
    assert_false(clear);
    assert_int_equal(compare(45, hash_no(8), 99, &pending, &clear), 46); /* further than we */
    assert_true(clear);
    assert_int_equal(compare(20, hash_no(7), 99, &pending, &clear), -1); /* other bytes */
    assert_int_equal(compare(30, hash_no(7), 99, &pending, &clear), -1);
    assert_int_equal(compare(15, hash_no(1), 99, &pending, &clear), -1); /* amid a cut */
    assert_int_equal(cutlog_trim(&journal, 20, true, &err), 0);
    assert_int_equal(compare(20, hash_no(2), 99, &pending, &clear), 21);
    /* It has less than it once confirmed: sent again, cut anew, if the log still has it. */
    assert_int_equal(compare(7, hash_no(1), 99, &pending, &clear), 8);
    assert_true(clear && fell_back);
    assert_int_equal(pending, 0);
    tail = 9;
    assert_int_equal(compare(7, hash_no(1), 99, &pending, &clear), -1);
    tail = 8;
    assert_int_equal(compare(7, hash_no(1), 99, &pending, &clear), 8);
    tail = 31; /* nothing is missing of what the log may have forgotten */
    assert_int_equal(compare(30, hash_no(3), 99, &pending, &clear), 31);
    assert_false(fell_back);
    assert_int_equal(compare(20, hash_no(2), 99, &pending, &clear), -1); /* pending, and gone */
    tail = 1;
    struct intake_stream_state far = {.stored_lsn = 30, .head = hash_no(3), .forked = true};
    struct cutlog_resume resume;
    assert_int_equal(cutlog_compare(&journal, &far, 1, 99, &resume, &err), -1);
    assert_int_equal(cutlog_clear(&journal, &err), 0);
    assert_int_equal(reopen(&err), 0);
    assert_int_equal(journal.count, 0);
}

static int setup(void **state)
{
    struct err err = {0};
    char streams[80];
    (void)state;
    strcpy(folder, "/tmp/tidemark-cutlog-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(streams, sizeof streams, "%s/streams", folder);
    return mkdir(streams, 0700) != 0 ? -1 : cutlog_open(&journal, folder, &stream, &err);
}

static int teardown(void **state)
{
    char streams[80];
    (void)state;
    cutlog_close(&journal);
    snprintf(streams, sizeof streams, "%s/streams", folder);
    return unlink(journal.path) + rmdir(streams) + rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(survives, setup, teardown),
        cmocka_unit_test_setup_teardown(torn_and_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(trims, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trim_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(compares, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
