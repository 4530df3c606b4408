/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/nth.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "tests/unit/hrl_make.h"

#define TABLE (1U << 18)

static atomic_long left = -1; /* allocations until one fails; negative: none does */
static atomic_ulong asked;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the two below */
static void *table[TABLE];                               /* what is not freed yet */
static long live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *at);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *at);

static bool fails(void)
{
    asked++;
    return left >= 0 && atomic_fetch_sub(&left, 1) == 0;
}

static size_t slot_of(const void *at)
{
    size_t k = ((size_t)(uintptr_t)at >> 4) * 2654435761U % TABLE;
    while (table[k] != NULL && table[k] != at) {
        k = (k + 1) % TABLE;
    }
    return k;
}

static void *note(void *at)
{
    if (at != NULL) {
        assert_true(live < (long)TABLE / 2);
        pthread_mutex_lock(&lock);
        table[slot_of(at)] = at;
        live++;
        pthread_mutex_unlock(&lock);
    }
    return at;
}

/* What libraries gave is not in the table. */
static void forget(void *at)
{
    pthread_mutex_lock(&lock);
    size_t k = slot_of(at);
    if (at != NULL && table[k] != NULL) {
        table[k] = NULL;
        live--;
        for (k = (k + 1) % TABLE; table[k] != NULL; k = (k + 1) % TABLE) {
            void *moved = table[k];
            table[k] = NULL;
            table[slot_of(moved)] = moved;
        }
    }
    pthread_mutex_unlock(&lock);
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : note(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : note(__real_calloc(count, size));
}

void *__wrap_realloc(void *at, size_t size)
{
    if (fails()) {
        return NULL;
    }
    forget(at);
    return note(__real_realloc(at, size));
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : note(__real_strdup(text));
}

void __wrap_free(void *at)
{
    forget(at);
    __real_free(at);
}

void nth_arm(long n)
{
    left = n;
}

bool nth_met(void)
{
    return atomic_exchange(&left, -1) < 0;
}

long nth_pause(void)
{
    return atomic_exchange(&left, -1);
}

void nth_resume(long kept)
{
    left = kept;
}

long nth_live(void)
{
    pthread_mutex_lock(&lock);
    long now = live;
    pthread_mutex_unlock(&lock);
    return now;
}

unsigned long nth_asked(void)
{
    return asked;
}

/* ---- one call, again and again ---- */

long nth_stride(void)
{
    const char *text = getenv("TIDE_NTH_EVERY");
    long n = text == NULL ? 0 : strtol(text, NULL, 10);
    return n > 0 ? n : 29;
}

void nth_says(const struct err *err, const char *what, long n)
{
    if ((err->code != TIDE_ERR_LIMIT && err->code != TIDE_ERR_BUSY) || err->text[0] == '\0') {
        fail_msg("%s %ld: %s \"%s\"", what, n, err_name(err->code), err->text);
    }
}

static void each(const char *what, nth_call_fn *call, void (*prepare)(void), long least,
                 bool tolerant)
{
    long faults = 0;
    struct err err = {0};
    if (prepare != NULL) {
        prepare();
    }
    assert_int_equal(call(&err), 0); /* what is made once stays */
    long n = 0;
    for (;; n += tolerant && n >= NTH_ALL ? nth_stride() : 1) {
        assert_true(n < 100000);
        if (prepare != NULL) {
            prepare();
        }
        long before = nth_live();
        err = (struct err){0};
        nth_arm(n);
        int rc = call(&err);
        bool met = nth_met();
        if (tolerant ? rc != 0 && !met : met != (rc != 0)) {
            fail_msg("%s %ld: %s, and it returned %d", what, n, met ? "met" : "not met", rc);
        }
        if (nth_live() != before && (rc != 0 || prepare == NULL)) {
            fail_msg("%s %ld: %ld allocations are not freed", what, n, nth_live() - before);
        }
        if (!met) {
            break;
        }
        if (rc == 0) {
            continue;
        }
        faults++;
        nth_says(&err, what, n);
        err = (struct err){0};
        if (call(&err) != 0) {
            fail_msg("%s %ld: again: %s", what, n, err.text);
        }
    }
    print_message("%s: %ld of the first %ld allocations failed it\n", what, faults, n);
    if (faults < least) {
        fail_msg("%s: only %ld of %ld allocations failed it", what, faults, n);
    }
}

void nth_each(const char *what, nth_call_fn *call, void (*prepare)(void), long least)
{
    each(what, call, prepare, least, false);
}

void nth_each_lenient(const char *what, nth_call_fn *call, void (*prepare)(void), long least)
{
    each(what, call, prepare, least, true);
}

/* ---- what they share ---- */

char nth_folder[64];

int nth_setup(void **state)
{
    json_t *o = NULL;
    (void)state;
    /* In memory where that is there: what is real about syncs is not looked at here. */
    strcpy(nth_folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tidemark-alloc-XXXXXX"
                                                     : "/tmp/tidemark-alloc-XXXXXX");
    if (mkdtemp(nth_folder) == NULL || jsontext_read("[]", 2, 0, &o, NULL) != 0) {
        return -1;
    }
    json_decref(o);
    return 0;
}

int nth_teardown(void **state)
{
    char command[160];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", nth_folder);
    return system(command);
}

void nth_empty_folder(void)
{
    char command[160];
    struct err err = {0};
    snprintf(command, sizeof command, "rm -rf '%s'/*", nth_folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/streams", nth_folder);
    assert_int_equal(file_mkdirs(command, 0700, &err), 0);
}

void nth_define(struct definition *ret, struct intake_disk ret_disks[3])
{
    struct id group = make_id(5);
    struct name name;
    struct definition_member m = {.identity = "spiffe://lab/participant/web",
                                  .address = "127.0.0.11:20004"};
    assert_true(name_parse("shop", &name) && name_parse("web", &m.name));
    definition_init(ret, &group, &name, 7);
    assert_int_equal(definition_add_member(ret, &m, NULL), 0);
    for (unsigned k = 0; k < 3; k++) {
        char text[] = {'d', (char)('0' + k), '\0'};
        struct definition_disk disk = {.stream = make_id(k + 1),
                                       .timeline = make_id(k + 2001),
                                       .disk = make_id(k + 1001),
                                       .size = 1 << 20,
                                       .block_size = 512};
        assert_true(name_parse(text, &disk.name));
        assert_int_equal(definition_add_disk(ret, &disk, NULL), 0);
        ret_disks[k] = (struct intake_disk){.group = name,
                                            .member = m.name,
                                            .disk = disk.name,
                                            .stream = disk.stream,
                                            .timeline = disk.timeline,
                                            .disk_id = disk.disk,
                                            .size = disk.size,
                                            .block_size = disk.block_size};
    }
}
