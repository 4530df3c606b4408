/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th message that a tap sends to its controller fails, for n = 0, 1, 2, ... until a run meets
 * none: the controller is cut off and the hold that it ordered ends, nothing held was acknowledged
 * meanwhile, the tap goes on, and the next controller is welcomed. So is one that the tap had no
 * descriptor for; and a control socket that cannot be had leaves no file. */
#include "participant/tap/disk.h"
#include "tests/system/tap_rig.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE      (UINT64_C(1) << 20)
#define BUDGET_US 100000U

/* ---- what the engine calls of nbdkit ---- */

void nbdkit_error(const char *format, ...)
{
    (void)format;
}

void nbdkit_debug(const char *format, ...)
{
    (void)format;
}

/* ---- the layer between: the tap's threads, not this one ---- */

static _Thread_local bool ours;
static atomic_long left = -1; /* sends of the tap until one fails; negative: none does */
static int fault;

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __real_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);

static bool fails(void)
{
    if (ours || atomic_load(&left) < 0 || atomic_fetch_sub(&left, 1) > 0) {
        return false;
    }
    errno = fault;
    return true;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fails() ? -1 : __real_sendmsg(fd, message, flags);
}

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    return fails() ? -1 : __real_send(fd, bytes, size, flags);
}

static atomic_bool no_descriptor; /* for the tap's next accept4() */
static atomic_uint refused;       /* accept4() that failed so */
static atomic_uint looked_away;   /* poll() for all but who waits there, for a while */
static bool no_mode;
static bool no_listen;

int __real_accept4(int fd, struct sockaddr *to, socklen_t *size, int flags);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __real_chmod(const char *path, mode_t mode);
int __real_listen(int fd, int backlog);
int __wrap_accept4(int fd, struct sockaddr *to, socklen_t *size, int flags);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_listen(int fd, int backlog);

int __wrap_accept4(int fd, struct sockaddr *to, socklen_t *size, int flags)
{
    if (!ours && atomic_load(&no_descriptor)) {
        atomic_fetch_add(&refused, 1);
        errno = EMFILE;
        return -1;
    }
    return __real_accept4(fd, to, size, flags);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    if (!ours && count == 3 && fds[1].fd < 0 && timeout > 0) {
        atomic_fetch_add(&looked_away, 1);
    }
    return __real_poll(fds, count, timeout);
}

int __wrap_chmod(const char *path, mode_t mode)
{
    errno = EPERM;
    return no_mode ? -1 : __real_chmod(path, mode);
}

int __wrap_listen(int fd, int backlog)
{
    errno = EADDRINUSE;
    return no_listen ? -1 : __real_listen(fd, backlog);
}

/* ---- one run ---- */

static struct tap tap;
static struct tap_rig rig;
static atomic_bool acknowledged;
static uint8_t block[4096];

static int try_tap(struct err *err)
{
    struct tap_config config = {
        .log_size = 8U << 20, .hold_max_us = BUDGET_US, .held_max = 1 << 20};
    (void)snprintf(config.image, sizeof config.image, "%s", rig.image);
    (void)snprintf(config.folder, sizeof config.folder, "%s", rig.log);
    (void)snprintf(config.control, sizeof config.control, "%s", rig.control);
    return tap_open(&tap, &config, err) != 0 || tap_start(&tap, err) != 0 ? -1 : 0;
}

static void open_tap(void)
{
    struct err err;
    if (try_tap(&err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void *write_main(void *arg)
{
    int *result = arg;
    *result = disk_write(&tap, block, sizeof block, 8192, false);
    atomic_store(&acknowledged, true);
    return NULL;
}

/* The next message; false: the tap has hung up. */
static bool hear(const struct tap_ctl *c, struct tapctl *ret)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct err err;
    struct pollfd ready = {.fd = c->fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, TAP_RIG_DEADLINE_MS), 1);
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0); /* descriptors are dropped */
    if (got <= 0) {
        return false;
    }
    if (tapctl_decode(bytes, (size_t)got, ret, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return true;
}

static bool hear_type(const struct tap_ctl *c, enum tapctl_type type, struct tapctl *ret)
{
    do {
        if (!hear(c, ret)) {
            return false;
        }
    } while (ret->type != type);
    return true;
}

static void say(const struct tap_ctl *c, const struct tapctl *message)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    (void)send(c->fd, bytes, tapctl_encode(message, bytes), MSG_NOSIGNAL); /* it may be gone */
}

/* What is held stays so: asked first, then the tap whether it still holds. */
static bool look(const struct tap_ctl *c, struct tapctl *ret)
{
    bool done = atomic_load(&acknowledged);
    say(c, &(struct tapctl){.type = TAPCTL_STATUS, .serial = 9});
    do {
        if (!hear_type(c, TAPCTL_STATE, ret)) {
            return false;
        }
    } while (ret->serial != 9);
    assert_false(done && ret->state.holding);
    return true;
}

struct story {
    bool ordered_release;
    bool told_held; /* HELD came */
    bool writing;
    pthread_t writer;
    int result;
};

/* All that a controller does, up to where it is cut off. */
static void control(const struct tap_ctl *c, struct story *s)
{
    struct tapctl m;
    say(c, &(struct tapctl){.type = TAPCTL_HELLO, .version = TIDE_TAPCTL_VERSION});
    if (!hear_type(c, TAPCTL_WELCOME, &m)) {
        return;
    }
    struct tap_ctl with = *c;
    with.welcome = m;
    tap_ctl_hold_send(&with, 1, BUDGET_US, false);
    if (!hear_type(c, TAPCTL_HELD, &m)) {
        return;
    }
    uint64_t bookmark = m.held.mark.lsn;
    s->told_held = true;
    s->writing = true;
    assert_int_equal(pthread_create(&s->writer, NULL, write_main, &s->result), 0);
    do {
        if (!look(c, &m)) {
            return;
        }
    } while (m.state.holding && m.state.next_lsn < bookmark + 2);
    say(c, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 10});
    if (!hear_type(c, TAPCTL_SYNCED, &m)) {
        return;
    }
    assert_true(m.synced.failed || m.synced.lsn >= bookmark);
    if (!look(c, &m)) {
        return;
    }
    s->ordered_release = true;
    tap_ctl_end(&with, TAPCTL_RELEASE, 1);
    (void)hear_type(c, TAPCTL_SEALED, &m);
}

static unsigned outcomes[8];
static unsigned bookmarks;
static unsigned seals;
static enum round_outcome last_outcome;

static void count(const struct record *record, void *context)
{
    (void)context;
    bookmarks += record->type == RECORD_BOOKMARK;
    if (record->type == RECORD_SEAL) {
        seals++;
        last_outcome = record->seal.outcome;
        outcomes[record->seal.outcome]++;
    }
}

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

/* The next controller: welcomed, no hold, everything works. */
static void the_next_one(void)
{
    struct tap_ctl next;
    tap_ctl_open(&next, &rig);
    struct tapctl_state state = tap_ctl_state(&next);
    assert_false(state.holding);
    assert_true(state.whole && state.logging);
    tap_ctl_send(&next, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 3});
    struct tapctl synced = tap_ctl_get(&next, TAPCTL_SYNCED);
    assert_true(!synced.synced.failed && synced.synced.lsn + 1 >= state.next_lsn); /* a seal more */
    tap_ctl_close(&next);
}

/* Whether the n-th was there to fail. */
static bool run(long n)
{
    struct story s = {.result = -1};
    struct tap_ctl first = {0};
    unsigned before = open_files();
    tap_rig_open(&rig, SIZE);
    open_tap();
    atomic_store(&acknowledged, false);
    first.fd = tap_ctl_socket(&rig);
    atomic_store(&left, n);
    control(&first, &s);
    bool met = atomic_load(&left) < 0;
    if (met && !s.ordered_release) { /* it is cut off: that is why it came here */
        char byte;
        ssize_t got = recv(first.fd, &byte, 1, MSG_DONTWAIT);
        assert_true(got == 0 || (got < 0 && errno != EAGAIN));
    }
    if (s.writing) { /* the hold ends, though this controller is still there */
        assert_int_equal(pthread_join(s.writer, NULL), 0);
        assert_int_equal(s.result, 0);
    }
    atomic_store(&left, -1);
    if (!met) {
        close(first.fd);
    }
    the_next_one();
    if (met) {
        close(first.fd);
    }
    tap_close(&tap);
    bookmarks = seals = 0;
    uint8_t *disk = tap_rig_replay(&rig, SIZE, count, NULL);
    assert_int_equal(seals, bookmarks);
    assert_true(bookmarks >= s.told_held);
    if (seals > 0 && !s.ordered_release) {
        assert_int_not_equal(last_outcome, ROUND_OUTCOME_HELD);
    }
    if (s.writing) {
        assert_memory_equal(disk + 8192, block, sizeof block);
    }
    free(disk);
    tap_rig_close(&rig);
    assert_int_equal(open_files(), before);
    return met;
}

static void each_send(void **state)
{
    static const int faults[] = {EAGAIN, EPIPE, ENOBUFS};
    (void)state;
    memset(block, 0xab, sizeof block);
    for (unsigned k = 0; k < 3; k++) {
        long n = 0;
        fault = faults[k];
        while (run(n)) {
            n++;
            assert_true(n < 200);
        }
        assert_true(n >= 5); /* WELCOME, HELD, STATE, SYNCED, SEALED */
    }
    /* Not by running out of its budget: the loss of its controller ends a hold. */
    assert_true(outcomes[ROUND_OUTCOME_ABORTED] > 0);
    assert_true(outcomes[ROUND_OUTCOME_HELD] > 0);
}

/* It does not spin, goes on serving the one that is there, and takes the next when it can. */
static void no_descriptor_for_the_next(void **state)
{
    struct tap_ctl first;
    struct tapctl m;
    (void)state;
    tap_rig_open(&rig, SIZE);
    open_tap();
    tap_ctl_open(&first, &rig);
    atomic_store(&no_descriptor, true);
    struct tap_ctl second = {.fd = tap_ctl_socket(&rig)};
    while (atomic_load(&refused) < 3) { /* it tries again */
        assert_true(look(&first, &m));
    }
    atomic_store(&no_descriptor, false);
    assert_true(hear(&second, &m));
    assert_int_equal(m.type, TAPCTL_REFUSE_BUSY);
    assert_true(atomic_load(&looked_away) > 0);
    close(second.fd);
    tap_ctl_close(&first);
    the_next_one();
    tap_close(&tap);
    tap_rig_close(&rig);
}

static void a_socket_that_cannot_be_had(void **state)
{
    bool *const ways[] = {&no_mode, &no_listen};
    (void)state;
    tap_rig_open(&rig, SIZE);
    for (unsigned k = 0; k < 2; k++) {
        struct err err = {0};
        unsigned before = open_files();
        *ways[k] = true;
        assert_int_equal(try_tap(&err), -1);
        *ways[k] = false;
        assert_int_equal(err.code, TIDE_ERR_IO);
        assert_non_null(strstr(err.text, strerror(k == 0 ? EPERM : EADDRINUSE)));
        assert_int_not_equal(access(rig.control, F_OK), 0);
        assert_int_equal(open_files(), before);
        open_tap();
        the_next_one();
        tap_close(&tap);
    }
    tap_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_send),
                                       cmocka_unit_test(no_descriptor_for_the_next),
                                       cmocka_unit_test(a_socket_that_cannot_be_had)};
    ours = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
