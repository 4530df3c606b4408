/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/keyring.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/core/sha.h"
#include "common/io/file.h"
#include "coordinator/store/object.h"
#include "coordinator/store/owner.h"

#define HEX_DIGITS  (2U * BOX_KEY)
#define CONTENT     (TIDE_ID_SIZE + BOX_KEY)
#define OBJECT_MAX  4096U
#define NAME_FORMAT "keys/%s/%010" PRIu32 ".box"

struct group_key {
    struct name group;
    struct keyring_key key;
};

struct keyring {
    char *store;
    struct id master_id;
    uint8_t master[BOX_KEY];
    pthread_mutex_t lock; /* guards the two below */
    struct group_key *keys;
    size_t count;
};

/* ---- master key ---- */

static int parse_master(const uint8_t *text, size_t size, uint8_t ret[BOX_KEY])
{
    struct hash key;
    char digits[TIDE_HASH_HEX];
    if (size < HEX_DIGITS || size > HEX_DIGITS + 1 ||
        (size == HEX_DIGITS + 1 && text[HEX_DIGITS] != '\n')) {
        return -1;
    }
    memcpy(digits, text, HEX_DIGITS);
    digits[HEX_DIGITS] = '\0';
    bool good = hash_parse(digits, &key);
    if (good) {
        memcpy(ret, key.b, BOX_KEY);
    }
    OPENSSL_cleanse(digits, sizeof(digits));
    OPENSSL_cleanse(&key, sizeof(key));
    return good ? 0 : -1;
}

static int read_master(struct keyring *k, const char *path, struct err *err)
{
    struct stat st;
    uint8_t *text = NULL;
    size_t size = 0;
    if (file_read(path, OBJECT_MAX, &text, &size, err) < 0) {
        return err_wrap(err, "master key");
    }
    int rc = 0;
    if (stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        rc = err_set(err, TIDE_ERR_CONFIG,
                     "master key '%s' has mode %04o: others may read it; chmod 600 it", path,
                     (unsigned)(st.st_mode & 07777));
    } else if (parse_master(text, size, k->master) < 0) {
        rc = err_set(err, TIDE_ERR_CONFIG,
                     "master key '%s' is not 64 hex digits and a newline; make one with "
                     "'openssl rand -hex 32'",
                     path);
    }
    OPENSSL_cleanse(text, size);
    free(text);
    if (rc == 0) {
        static const char context[] = "tidemark master key 1";
        struct sha sha;
        sha_init(&sha);
        sha_update(&sha, context, sizeof(context) - 1);
        sha_update(&sha, k->master, BOX_KEY);
        struct hash hash = sha_final(&sha);
        memcpy(k->master_id.b, hash.b, TIDE_ID_SIZE);
    }
    return rc;
}

/* ---- keys of groups ---- */

/* Room for one more. */
static int reserve(struct keyring *k, const struct name *group, struct err *err)
{
    struct group_key *more = NULL;
    if (k->count < KEYRING_KEYS_MAX) {
        more = realloc(k->keys, (k->count + 1) * sizeof(*more));
    }
    if (more == NULL) {
        return err_set(err, TIDE_ERR_LIMIT,
                       "no memory for the key of '%s', or more than %u keys in the store", group->s,
                       KEYRING_KEYS_MAX);
    }
    k->keys = more;
    return 0;
}

static void add(struct keyring *k, const struct name *group, const struct keyring_key *key)
{
    k->keys[k->count++] = (struct group_key){*group, *key};
}

static int unwrap(struct keyring *k, const char *relative, const uint8_t *bytes, size_t size,
                  struct keyring_key *ret, struct err *err)
{
    struct source_part part = {bytes, size};
    struct source_memory memory = {&part, 1};
    struct source source = source_memory(&memory);
    struct box_head head;
    struct box_reader *reader = NULL;
    uint8_t content[CONTENT + 1];
    size_t got = 0;
    char theirs[TIDE_ID_HEX];
    char ours[TIDE_ID_HEX];
    if (box_head_read(&source, 0, &head, err) < 0) {
        return -1;
    }
    if (!id_equal(&head.key_id, &k->master_id)) {
        return err_set(err, TIDE_ERR_DENIED,
                       "it was wrapped with the master key %s, and the one given is %s",
                       id_hex(&head.key_id, theirs), id_hex(&k->master_id, ours));
    }
    if (box_reader_open(&source, 0, k->master, relative, &reader, err) < 0) {
        return -1;
    }
    int rc = box_reader_read(reader, 0, content, sizeof(content), &got, err);
    box_reader_free(reader);
    if (rc == 0 && got != CONTENT) {
        rc =
            err_set(err, TIDE_ERR_CORRUPT, "its content has %zu bytes instead of %u", got, CONTENT);
    }
    if (rc == 0) {
        memcpy(ret->id.b, content, TIDE_ID_SIZE);
        memcpy(ret->key, content + TIDE_ID_SIZE, BOX_KEY);
    }
    OPENSSL_cleanse(content, sizeof(content));
    return rc;
}

static int wrap(struct keyring *k, const char *relative, const struct keyring_key *key, uint8_t *to,
                size_t room, size_t *ret_size, struct err *err)
{
    struct sink_memory memory = {.base = to, .size = room};
    struct sink sink = sink_memory(&memory);
    struct box_options options = {
        .head = {.block_size = BOX_BLOCK_MIN, .key_id = k->master_id, .generation = 1},
        .name = relative};
    struct box_writer *writer = NULL;
    struct box_info info;
    file_random(options.head.salt, sizeof(options.head.salt));
    memcpy(options.key, k->master, BOX_KEY);
    int rc = box_writer_new(&options, &sink, &writer, err);
    OPENSSL_cleanse(options.key, BOX_KEY);
    if (rc == 0) {
        rc = box_writer_add(writer, key->id.b, TIDE_ID_SIZE, err);
    }
    if (rc == 0) {
        rc = box_writer_add(writer, key->key, BOX_KEY, err);
    }
    if (rc == 0) {
        rc = box_writer_end(writer, &info, err);
    }
    box_writer_free(writer);
    *ret_size = memory.used;
    return rc;
}

/* What is done with each key object: its bytes are at hand. */
typedef int object_fn(struct keyring *k, const struct name *group, const char *relative,
                      const uint8_t *bytes, size_t size, struct keyring_key *key, void *context,
                      struct err *err);

static int take_object(struct keyring *k, const struct name *group, const char *file, object_fn *fn,
                       void *context, struct err *err)
{
    char relative[256];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct keyring_key key = {.generation = (uint32_t)strtoul(file, NULL, 10)};
    char due[32];
    snprintf(due, sizeof(due), "%010" PRIu32 ".box", key.generation);
    snprintf(relative, sizeof(relative), "keys/%s/%s", group->s, file);
    if (key.generation == 0 || strcmp(due, file) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s/%s' is not the name of a key", k->store,
                       relative);
    }
    if (object_get(k->store, relative, OBJECT_MAX, &bytes, &size, err) < 0) {
        return -1;
    }
    int rc = fn(k, group, relative, bytes, size, &key, context, err);
    free(bytes);
    OPENSSL_cleanse(&key, sizeof(key));
    return rc < 0 ? err_wrap(err, "'%s/%s'", k->store, relative) : 0;
}

static int take_group(struct keyring *k, const char *folder, object_fn *fn, void *context,
                      struct err *err)
{
    struct name group;
    char relative[PATH_MAX];
    char **names = NULL;
    size_t count = 0;
    if (!name_parse(folder, &group)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s/keys/%s' is not the name of a group", k->store,
                       folder);
    }
    snprintf(relative, sizeof(relative), "keys/%s", group.s);
    if (object_names(k->store, relative, ".box", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = take_object(k, &group, names[i], fn, context, err);
    }
    object_names_free(names);
    return rc;
}

/* Every key object of the store, in order. */
static int take_all(struct keyring *k, object_fn *fn, void *context, struct err *err)
{
    char **names = NULL;
    size_t count = 0;
    if (object_names(k->store, "keys", "", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = take_group(k, names[i], fn, context, err);
    }
    object_names_free(names);
    return rc;
}

static int load_object(struct keyring *k, const struct name *group, const char *relative,
                       const uint8_t *bytes, size_t size, struct keyring_key *key, void *context,
                       struct err *err)
{
    (void)context;
    if (unwrap(k, relative, bytes, size, key, err) < 0 || reserve(k, group, err) < 0) {
        return -1;
    }
    add(k, group, key);
    return 0;
}

/* A ring without keys. */
static int ring_new(const char *store, const char *master_key_file, struct keyring **ret,
                    struct err *err)
{
    struct keyring *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for keys");
    }
    pthread_mutex_init(&k->lock, NULL);
    k->store = strdup(store);
    int rc = k->store == NULL ? err_set(err, TIDE_ERR_LIMIT, "no memory for keys") : 0;
    if (rc == 0) {
        rc = read_master(k, master_key_file, err);
    }
    if (rc < 0) {
        keyring_close(k);
        return -1;
    }
    *ret = k;
    return 0;
}

int keyring_open(const char *store, const char *master_key_file, struct keyring **ret,
                 struct err *err)
{
    struct keyring *k = NULL;
    if (ring_new(store, master_key_file, &k, err) < 0) {
        return -1;
    }
    if (take_all(k, load_object, NULL, err) < 0) {
        keyring_close(k);
        return -1;
    }
    *ret = k;
    return 0;
}

void keyring_close(struct keyring *keyring)
{
    if (keyring == NULL) {
        return;
    }
    if (keyring->keys != NULL) {
        OPENSSL_cleanse(keyring->keys, keyring->count * sizeof(*keyring->keys));
    }
    free(keyring->keys);
    OPENSSL_cleanse(keyring->master, sizeof(keyring->master));
    pthread_mutex_destroy(&keyring->lock);
    free(keyring->store);
    free(keyring);
}

/* Under the lock. */
static int make(struct keyring *k, const struct name *group, struct keyring_key *ret,
                struct err *err)
{
    char relative[256];
    uint8_t object[OBJECT_MAX];
    size_t size = 0;
    struct keyring_key key = {.generation = 1};
    file_random(key.id.b, sizeof(key.id.b));
    file_random(key.key, sizeof(key.key));
    snprintf(relative, sizeof(relative), NAME_FORMAT, group->s, key.generation);
    int rc = reserve(k, group, err);
    if (rc == 0) {
        rc = wrap(k, relative, &key, object, sizeof(object), &size, err);
    }
    if (rc == 0) {
        rc = object_put(k->store, relative, object, size, false, err);
    }
    if (rc == 0) {
        add(k, group, &key);
        *ret = key;
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return rc;
}

int keyring_current(struct keyring *keyring, const struct name *group, struct keyring_key *ret,
                    struct err *err)
{
    const struct keyring_key *newest = NULL;
    pthread_mutex_lock(&keyring->lock);
    for (size_t i = 0; i < keyring->count; i++) {
        const struct group_key *g = &keyring->keys[i];
        if (name_equal(&g->group, group) &&
            (newest == NULL || g->key.generation > newest->generation)) {
            newest = &g->key;
        }
    }
    int rc = 0;
    if (newest != NULL) {
        *ret = *newest;
    } else {
        rc = make(keyring, group, ret, err);
    }
    pthread_mutex_unlock(&keyring->lock);
    return rc;
}

int keyring_find(struct keyring *keyring, const struct id *id, uint32_t generation,
                 struct keyring_key *ret, struct err *err)
{
    char hex[TIDE_ID_HEX];
    bool found = false;
    if (keyring == NULL) {
        return err_set(err, TIDE_ERR_DENIED, "it is encrypted, and no master key was given");
    }
    pthread_mutex_lock(&keyring->lock);
    for (size_t i = 0; i < keyring->count && !found; i++) {
        const struct keyring_key *key = &keyring->keys[i].key;
        found = key->generation == generation && id_equal(&key->id, id);
        if (found) {
            *ret = *key;
        }
    }
    pthread_mutex_unlock(&keyring->lock);
    if (!found) {
        return err_set(err, TIDE_ERR_DENIED,
                       "it is encrypted with the key %s, generation %" PRIu32
                       ", which is not in '%s/keys'",
                       id_hex(id, hex), generation, keyring->store);
    }
    return 0;
}

/* ---- another master key ---- */

struct rewrap {
    struct keyring *to;
    unsigned count;
};

static int rewrap_object(struct keyring *k, const struct name *group, const char *relative,
                         const uint8_t *bytes, size_t size, struct keyring_key *key, void *context,
                         struct err *err)
{
    struct rewrap *r = context;
    struct err e = {0};
    uint8_t object[OBJECT_MAX];
    size_t wrapped = 0;
    (void)group;
    r->count++;
    if (unwrap(r->to, relative, bytes, size, key, &e) == 0) {
        return 0; /* of a run that was cut short */
    }
    if (e.code != TIDE_ERR_DENIED) {
        return err_set(err, e.code, "%s", e.text);
    }
    if (unwrap(k, relative, bytes, size, key, err) < 0 ||
        wrap(r->to, relative, key, object, sizeof(object), &wrapped, err) < 0) {
        return -1;
    }
    return object_put(k->store, relative, object, wrapped, true, err);
}

int keyring_rewrap(const char *store, const char *old_file, const char *new_file,
                   unsigned *ret_count, struct err *err)
{
    struct keyring *from = NULL;
    struct rewrap r = {0};
    int rc = ring_new(store, old_file, &from, err);
    if (rc == 0) {
        rc = ring_new(store, new_file, &r.to, err);
    }
    int owner = rc == 0 ? owner_lock(store, err) : -1;
    rc = owner < 0 ? -1 : take_all(from, rewrap_object, &r, err);
    if (owner >= 0) {
        close(owner);
    }
    keyring_close(from);
    keyring_close(r.to);
    if (rc == 0) {
        *ret_count = r.count;
    }
    return rc;
}
