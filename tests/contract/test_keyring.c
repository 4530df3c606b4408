/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of a store and segments in boxes, on real files. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/file.h"
#include "coordinator/store/keyring.h"
#include "coordinator/store/object.h"
#include "coordinator/store/owner.h"
#include "coordinator/store/segment_file.h"

static char folder[] = "/tmp/tidemark-keyring-XXXXXX";
static char master[PATH_MAX];

static const struct name shop = {"shop"};
static const struct name bank = {"bank"};

static void write_master(const char *text, mode_t mode)
{
    struct err err = {0};
    assert_int_equal(file_replace(master, text, strlen(text), mode, &err), 0);
    assert_int_equal(chmod(master, mode), 0);
}

static const char *digits(char with)
{
    static char text[66];
    memset(text, with, 64);
    text[64] = '\n';
    text[65] = '\0';
    return text;
}

static int reset(void **state)
{
    (void)state;
    char command[PATH_MAX + 32];
    snprintf(command, sizeof(command), "rm -rf '%s/store'", folder);
    assert_int_equal(system(command), 0);
    write_master(digits('a'), 0600);
    return 0;
}

static struct keyring *ring(void)
{
    struct keyring *keyring = NULL;
    struct err err = {0};
    char store[PATH_MAX];
    snprintf(store, sizeof(store), "%s/store", folder);
    if (keyring_open(store, master, &keyring, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return keyring;
}

static void refused(enum err_code code, const char *word)
{
    struct keyring *keyring = NULL;
    struct err err = {0};
    char store[PATH_MAX];
    snprintf(store, sizeof(store), "%s/store", folder);
    assert_int_equal(keyring_open(store, master, &keyring, &err), -1);
    assert_null(keyring);
    assert_int_equal(err.code, code);
    if (strstr(err.text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, err.text);
    }
}

static void master_keys(void **state)
{
    (void)state;
    write_master(digits('a'), 0640);
    refused(TIDE_ERR_CONFIG, "chmod 600");
    write_master("abc\n", 0600);
    refused(TIDE_ERR_CONFIG, "openssl rand -hex 32");
    write_master(digits('g'), 0600);
    refused(TIDE_ERR_CONFIG, "64 hex digits");
    char longer[70];
    snprintf(longer, sizeof(longer), "%s\n", digits('a'));
    write_master(longer, 0600);
    refused(TIDE_ERR_CONFIG, "64 hex digits");
    unlink(master);
    refused(TIDE_ERR_NOT_FOUND, "master key");
}

/* A group has one key, which is the same after a restart; another group has another. */
static void keys_of_groups(void **state)
{
    (void)state;
    struct keyring *keyring = ring();
    struct keyring_key a;
    struct keyring_key b;
    struct keyring_key again;
    struct err err = {0};
    assert_int_equal(keyring_current(keyring, &shop, &a, &err), 0);
    assert_int_equal(keyring_current(keyring, &bank, &b, &err), 0);
    assert_int_equal(keyring_current(keyring, &shop, &again, &err), 0);
    assert_memory_equal(&a, &again, sizeof(a));
    assert_int_equal(a.generation, 1);
    assert_memory_not_equal(a.key, b.key, BOX_KEY);
    assert_false(id_equal(&a.id, &b.id));
    keyring_close(keyring);
    keyring = ring();
    assert_int_equal(keyring_find(keyring, &a.id, 1, &again, &err), 0);
    assert_memory_equal(&a, &again, sizeof(a));
    assert_int_equal(keyring_find(keyring, &a.id, 2, &again, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    assert_int_equal(keyring_find(NULL, &a.id, 1, &again, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    keyring_close(keyring);
    write_master(digits('b'), 0600);
    refused(TIDE_ERR_DENIED, "was wrapped with the master key");
}

static void key_objects(void **state)
{
    (void)state;
    char path[PATH_MAX];
    char other[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct keyring_key key;
    struct err err = {0};
    struct keyring *keyring = ring();
    assert_int_equal(keyring_current(keyring, &shop, &key, &err), 0);
    keyring_close(keyring);
    snprintf(path, sizeof(path), "%s/store/keys/shop/0000000001.box", folder);
    assert_int_equal(file_read(path, 4096, &bytes, &size, &err), 0);
    for (size_t at = 100; at < size - 8; at += 7) {
        bytes[at] ^= 1;
        assert_int_equal(file_replace(path, bytes, size, 0600, &err), 0);
        refused(TIDE_ERR_CORRUPT, path);
        bytes[at] ^= 1;
    }
    assert_int_equal(file_replace(path, bytes, size, 0600, &err), 0);
    free(bytes);
    snprintf(other, sizeof(other), "%s/store/keys/shop/0000000002.box", folder);
    assert_int_equal(rename(path, other), 0);
    refused(TIDE_ERR_CORRUPT, "does not decrypt");
    assert_int_equal(rename(other, path), 0);
    snprintf(other, sizeof(other), "%s/store/keys/shop/1.box", folder);
    assert_int_equal(link(path, other), 0);
    refused(TIDE_ERR_CORRUPT, "not the name of a key");
    assert_int_equal(unlink(other), 0);
    keyring_close(ring());
}

/* Another master key: the groups' keys stay, and a run that was cut short is done again. */
static void another_master_key(void **state)
{
    (void)state;
    char store[PATH_MAX];
    char next[PATH_MAX];
    struct keyring_key shops;
    struct keyring_key banks;
    struct keyring_key got;
    unsigned count = 0;
    struct err err = {0};
    snprintf(store, sizeof(store), "%s/store", folder);
    snprintf(next, sizeof(next), "%s/next.key", folder);
    struct keyring *keyring = ring();
    assert_int_equal(keyring_current(keyring, &shop, &shops, &err), 0);
    assert_int_equal(keyring_current(keyring, &bank, &banks, &err), 0);
    keyring_close(keyring);
    assert_int_equal(file_replace(next, digits('c'), 65, 0600, &err), 0);
    int owner = owner_lock(store, &err);
    assert_true(owner >= 0);
    pid_t child = fork();
    if (child == 0) { /* the lock is the process's */
        _exit(keyring_rewrap(store, master, next, &count, &err) == -1 &&
                      err.code == TIDE_ERR_CONFLICT
                  ? 0
                  : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(owner);
    assert_int_equal(keyring_rewrap(store, master, next, &count, &err), 0);
    assert_int_equal(count, 2);
    refused(TIDE_ERR_DENIED, "was wrapped with the master key");
    char kept[PATH_MAX];
    char with[PATH_MAX];
    snprintf(kept, sizeof(kept), "%s", master);
    snprintf(with, sizeof(with), "%s/store/keys/shop/0000000001.box", folder);
    assert_int_equal(keyring_rewrap(store, next, master, &count, &err), 0);
    uint8_t *old = NULL;
    size_t size = 0;
    assert_int_equal(file_read(with, 4096, &old, &size, &err), 0);
    assert_int_equal(keyring_rewrap(store, master, next, &count, &err), 0);
    assert_int_equal(file_replace(with, old, size, 0600, &err),
                     0); /* as if cut short between two */
    free(old);
    refused(TIDE_ERR_DENIED, "");
    assert_int_equal(keyring_rewrap(store, master, next, &count, &err), 0);
    assert_int_equal(count, 2);
    snprintf(master, sizeof(master), "%s", next);
    keyring = ring();
    snprintf(master, sizeof(master), "%s", kept);
    assert_int_equal(keyring_find(keyring, &shops.id, 1, &got, &err), 0);
    assert_memory_equal(&got, &shops, sizeof(got));
    assert_int_equal(keyring_find(keyring, &banks.id, 1, &got, &err), 0);
    assert_memory_equal(&got, &banks, sizeof(got));
    keyring_close(keyring);
    assert_int_equal(keyring_rewrap(store, master, next, &count, &err), 0);
    write_master(digits('d'), 0600);
    assert_int_equal(file_replace(next, digits('e'), 65, 0600, &err), 0);
    assert_int_equal(keyring_rewrap(store, master, next, &count, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
}

static void segment_path(const char *name, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s/store/streams/0123/%s", folder, name);
    char above[PATH_MAX];
    struct err err = {0};
    snprintf(above, sizeof(above), "%s", ret);
    *strrchr(above, '/') = '\0';
    assert_int_equal(file_mkdirs(above, 0700, &err), 0);
}

/* Read back, moved within its stream, and refused elsewhere, without keys, and as it came. */
static void segments(void **state)
{
    (void)state;
    static uint8_t content[200000];
    char path[PATH_MAX];
    char to[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    struct stat st;
    struct segment_form form = {.keyring = ring(), .level = 3};
    memset(content, 7, sizeof(content));
    segment_path("staged/1-2.staged", path);
    segment_path("segments/1-2.hrl", to);
    assert_int_equal(segment_file_write(&form, &shop, path, content, sizeof(content), &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 2000);
    assert_int_equal(rename(path, to), 0);
    assert_int_equal(segment_file_read(form.keyring, to, &bytes, &size, &err), 0);
    assert_int_equal(size, sizeof(content));
    assert_memory_equal(bytes, content, size);
    free(bytes);
    assert_int_equal(segment_file_read(NULL, to, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    segment_path("segments/3-4.hrl", path);
    assert_int_equal(rename(to, path), 0);
    assert_int_equal(segment_file_read(form.keyring, path, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    snprintf(to, sizeof(to), "%s/1-2.hrl", folder);
    assert_int_equal(rename(path, to), 0);
    assert_int_equal(segment_file_read(form.keyring, to, &bytes, &size, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_USAGE);
    form.level = 0;
    assert_int_equal(segment_file_write(&form, &shop, path, content, sizeof(content), &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true((size_t)st.st_size > sizeof(content));
    struct segment_form plain = {0};
    assert_int_equal(segment_file_write(&plain, &shop, path, content, sizeof(content), &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, sizeof(content));
    assert_int_equal(segment_file_read(form.keyring, path, &bytes, &size, &err), 0);
    assert_memory_equal(bytes, content, size);
    free(bytes);
    keyring_close(form.keyring);
}

int main(void)
{
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    snprintf(master, sizeof(master), "%s/master.key", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(master_keys, reset),
        cmocka_unit_test_setup(keys_of_groups, reset),
        cmocka_unit_test_setup(key_objects, reset),
        cmocka_unit_test_setup(another_master_key, reset),
        cmocka_unit_test_setup(segments, reset),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[PATH_MAX + 32];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command) != 0 ? 1 : failed;
}
