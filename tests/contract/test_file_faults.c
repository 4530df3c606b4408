/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th open, write, sync, rename or folder made fails, for n = 0, 1, 2, ... until a run meets
 * none: in the journal of cuts and in the store. What was answered as done is there afterwards,
 * with and without a restart in between, and the same again then succeeds. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "coordinator/store/store.h"
#include "participant/cutlog.h"
#include "tests/contract/far_rig.h"

/* ---- the layer between ---- */

static long left = -1; /* calls until one fails; negative: none does */
static int fault;

static bool fails(void)
{
    if (left < 0 || left-- > 0) {
        return false;
    }
    errno = fault;
    return true;
}

int __real_open(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *from, size_t size);
ssize_t __real_pwrite(int fd, const void *from, size_t size, off_t offset);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __real_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __real_mkdir(const char *path, mode_t mode);
int __real_ftruncate(int fd, off_t size);

int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_write(int fd, const void *from, size_t size);
ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_ftruncate(int fd, off_t size);

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails() ? -1 : __real_open(path, flags, mode);
}

/* Half of it, then no more: what a full disk does. */
ssize_t __wrap_write(int fd, const void *from, size_t size)
{
    if (fails()) {
        if (size > 1 && __real_write(fd, from, size / 2) < 0) {
            return -1;
        }
        errno = fault;
        return -1;
    }
    return __real_write(fd, from, size);
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t offset)
{
    if (fails()) {
        if (size > 1 && __real_pwrite(fd, from, size / 2, offset) < 0) {
            return -1;
        }
        errno = fault;
        return -1;
    }
    return __real_pwrite(fd, from, size, offset);
}

int __wrap_fsync(int fd)
{
    return fails() ? -1 : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
    return fails() ? -1 : __real_fdatasync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    return fails() ? -1 : __real_rename(from, to);
}

int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    return fails() ? -1 : __real_renameat2(a, from, b, to, flags);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return fails() ? -1 : __real_mkdir(path, mode);
}

int __wrap_ftruncate(int fd, off_t size)
{
    return fails() ? -1 : __real_ftruncate(fd, size);
}

static char folder[64];

static void fresh(void)
{
    char command[160];
    struct err err = {0};
    snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/streams", folder);
    assert_int_equal(file_mkdirs(command, 0700, &err), 0);
}

/* Runs once for each n and each kind of fault, with and without a restart behind the fault. */
typedef void run_fn(bool restart);
static void each_fault(run_fn *run)
{
    static const int faults[] = {EIO, ENOSPC};
    for (unsigned k = 0; k < 4; k++) {
        long n = 0;
        for (;; n++) {
            assert_true(n < 1000);
            fresh();
            fault = faults[k % 2];
            left = n;
            run(k >= 2);
            if (left >= 0) {
                break; /* it met no fault: all places have been tried */
            }
        }
        left = -1;
        assert_true(n > 5);
    }
}

/* ---- the journal of cuts ---- */

#define CUTS 6U

static const struct id stream = {{7}};
static struct cutlog journal;

static struct cutlog_entry entry_no(unsigned k)
{
    struct cutlog_entry e = {.first = k * 10 + 1, .last = k * 10 + 10, .incarnation = 5};
    e.before.b[0] = (uint8_t)k;
    e.hash.b[0] = (uint8_t)(k + 1);
    return e;
}

static void reopen(void)
{
    struct err err = {0};
    cutlog_close(&journal);
    if (cutlog_open(&journal, folder, &stream, &err) != 0 &&
        cutlog_open(&journal, folder, &stream, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* From `first` on through `decided`, and perhaps what was tried behind it. */
static void has(unsigned first, unsigned decided)
{
    assert_true(journal.count >= decided - first);
    assert_true(journal.count <= decided - first + 1);
    for (unsigned k = 0; k < journal.count; k++) {
        struct cutlog_entry e = entry_no(first + k);
        assert_int_equal(journal.entries[k].first, e.first);
        assert_true(hash_equal(&journal.entries[k].hash, &e.hash));
    }
}

static void cuts(bool restart)
{
    struct err err = {0};
    unsigned first = 0;
    if (cutlog_open(&journal, folder, &stream, &err) != 0) {
        reopen();
    }
    for (unsigned k = 0; k < CUTS; k++) {
        struct cutlog_entry e = entry_no(k);
        if (cutlog_append(&journal, &e, &err) != 0) {
            if (restart) {
                reopen();
                has(first, k);
            }
            if (journal.count == k - first && cutlog_append(&journal, &e, &err) != 0) {
                fail_msg("again: %s", err.text);
            }
        }
        has(first, k + 1);
        if (k == 3) {
            if (cutlog_trim(&journal, 20, true, &err) != 0) {
                has(first, k + 1);
                if (restart) {
                    reopen();
                    first = journal.count == 3 ? 1 : 0; /* done, but not known to be durable */
                    has(first, k + 1);
                }
                assert_int_equal(cutlog_trim(&journal, 20, true, &err), 0);
            }
            first = 1;
            has(first, k + 1);
        }
    }
    long met = left;
    left = -1;
    reopen();
    has(first, CUTS);
    cutlog_close(&journal);
    left = met;
}

static void the_journal_of_cuts(void **state)
{
    (void)state;
    each_fault(cuts);
}

/* ---- the store ---- */

#define SEGMENTS 4U

static struct far far;
static struct far_segment segments[SEGMENTS];
static struct store *store;

static void open_store(void)
{
    struct err err = {0};
    store_close(store);
    store = NULL;
    if (store_open(folder, NULL, NULL, NULL, &store, &err) != 0 &&
        store_open(folder, NULL, NULL, NULL, &store, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void create(void)
{
    struct manifest_stream about = {.stream = far.streams[0].stream,
                                    .timeline = far.streams[0].timeline,
                                    .disk_id = far.streams[0].disk_id,
                                    .size = FAR_DISK_SIZE,
                                    .block_size = 512};
    struct err err = {0};
    assert_true(name_parse("g", &about.group) && name_parse("m", &about.member) &&
                name_parse("d", &about.disk));
    if (store_stream_create(store, &about, &err) != 0 &&
        store_stream_create(store, &about, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static int give(const struct manifest_segment *s, const void *bytes,
                struct store_stream_state *state, struct err *err)
{
    enum store_put put;
    struct manifest_segment due;
    uint8_t *more = NULL;
    int result = store_put(store, &far.streams[0].stream, s, bytes, &put, state, err);
    while (result == 0 && store_staged_due(store, &far.streams[0].stream, &due, &more)) {
        struct err e = {0};
        int taken = store_put(store, &far.streams[0].stream, &due, more, &put, state, &e);
        free(more);
        if (taken != 0) {
            break; /* it was not answered as stored */
        }
    }
    return result;
}

/* Until it is stored or staged; *stored is what was answered, and never less afterwards. */
static void give_until_taken(unsigned k, bool restart, uint64_t *stored)
{
    const struct segment_info *info = &segments[k].info;
    struct manifest_segment s = {.first = info->header.first_lsn,
                                 .last = info->last_lsn,
                                 .hash = info->hash,
                                 .before = info->header.before,
                                 .incarnation = info->header.incarnation,
                                 .last_incarnation = info->last_incarnation,
                                 .size = info->size};
    struct store_stream_state state = {0};
    struct err err = {0};
    for (unsigned tries = 0; give(&s, segments[k].bytes, &state, &err) != 0; tries++) {
        struct manifest_stream about;
        if (tries == 3) {
            fail_msg("again: %s", err.text);
        }
        assert_false(state.forked);
        assert_true(state.stored_lsn >= *stored);
        if (restart || err.code == TIDE_ERR_NOT_FOUND || err.code == TIDE_ERR_CONFLICT) {
            open_store();
            if (store_stream_get(store, &far.streams[0].stream, &about, &state)) {
                assert_true(state.stored_lsn >= *stored && !state.forked);
            }
        }
    }
    assert_true(state.stored_lsn >= *stored);
    *stored = state.stored_lsn;
}

static void stores(bool restart)
{
    static const unsigned order[] = {2, 1, 0, 3};
    struct store_stream_state state = {0};
    struct manifest_stream about;
    uint64_t stored = 0;
    open_store();
    create();
    for (unsigned k = 0; k < SEGMENTS; k++) {
        give_until_taken(order[k], restart, &stored);
    }
    for (unsigned k = 0; k < SEGMENTS; k++) { /* what a sender has not heard of comes again */
        give_until_taken(k, restart, &stored);
    }
    long met = left;
    left = -1;
    assert_int_equal(stored, segments[SEGMENTS - 1].info.last_lsn);
    open_store();
    assert_true(store_stream_get(store, &far.streams[0].stream, &about, &state));
    assert_int_equal(state.stored_lsn, stored);
    assert_false(state.forked || state.damaged);
    assert_true(hash_equal(&state.head, &segments[SEGMENTS - 1].info.hash));
    store_close(store);
    store = NULL;
    left = met;
}

static void the_store(void **state)
{
    (void)state;
    prng_init(&far.prng, 9);
    far_stream_init(&far, 0);
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_write(&far, 0);
        far_cut(&far.streams[0], &segments[k]);
    }
    each_fault(stores);
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_segment_free(&segments[k]);
    }
    far_stream_close(&far.streams[0]);
}

static int setup(void **state)
{
    (void)state;
    /* In memory where that is there: what is real about syncs is not looked at here. */
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tidemark-faults-XXXXXX"
                                                 : "/tmp/tidemark-faults-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    char command[160];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_journal_of_cuts),
                                       cmocka_unit_test(the_store)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
