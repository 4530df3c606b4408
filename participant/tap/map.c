/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/map.h"

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC   0x3050414d45444954ULL /* "TIDEMAP0" */
#define VERSION 1U
#define CHUNK   8192U /* words read at once */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words go to the file as they are");

static uint64_t blocks_of(uint64_t size)
{
    return size / TIDE_MAP_BLOCK + (size % TIDE_MAP_BLOCK != 0 ? 1 : 0);
}

static uint64_t words_of(uint64_t size)
{
    return (blocks_of(size) + 63) / 64;
}

/* The bits of word w that stand for blocks first..last. */
static uint64_t mask_of(uint64_t w, uint64_t first, uint64_t last)
{
    uint64_t mask = UINT64_MAX;
    if (w == first / 64) {
        mask &= UINT64_MAX << (first % 64);
    }
    if (w == last / 64) {
        mask &= UINT64_MAX >> (63 - last % 64);
    }
    return mask;
}

static void store(struct map *map, uint64_t first_word, uint64_t last_word)
{
    uint64_t count = last_word - first_word + 1;
    if (!map->failed && file_write(map->fd, &map->words[first_word], count * sizeof *map->words,
                                   TIDE_MAP_HEAD + first_word * sizeof *map->words) != 0) {
        map->failed = true;
    }
}

/* Sets or clears blocks first..last; the file follows where something changed. */
static void change(struct map *map, uint64_t first, uint64_t last, bool set)
{
    uint64_t from = UINT64_MAX;
    uint64_t to = 0;
    for (uint64_t w = first / 64; w <= last / 64; w++) {
        uint64_t mask = mask_of(w, first, last);
        uint64_t next = set ? map->words[w] | mask : map->words[w] & ~mask;
        uint64_t changed = next ^ map->words[w];
        if (changed == 0) {
            continue;
        }
        uint64_t bits = (uint64_t)__builtin_popcountll(changed);
        map->count = set ? map->count + bits : map->count - bits;
        map->words[w] = next;
        from = w < from ? w : from;
        to = w;
    }
    if (from != UINT64_MAX) {
        store(map, from, to);
    }
}

static void write_head(struct map *map, const struct id *stream)
{
    uint8_t head[TIDE_MAP_HEAD] = {0};
    struct bytes_writer w = bytes_writer(head, sizeof head);
    bytes_put_u64(&w, MAGIC);
    bytes_put_u32(&w, VERSION);
    bytes_put_u32(&w, TIDE_MAP_BLOCK);
    bytes_put(&w, stream->b, TIDE_ID_SIZE);
    bytes_put_u64(&w, map->size);
    if (file_write(map->fd, head, sizeof head, 0) != 0) {
        map->failed = true;
    }
}

/* The disk's size that the head names; 0: not a map of this stream. */
static uint64_t read_head(const struct map *map, const struct id *stream)
{
    uint8_t head[40];
    struct id id;
    if (file_read(map->fd, head, sizeof head, 0) != 0) {
        return 0;
    }
    struct bytes_reader r = bytes_reader(head, sizeof head);
    bool ok = bytes_get_u64(&r) == MAGIC;
    ok = bytes_get_u32(&r) == VERSION && ok;
    ok = bytes_get_u32(&r) == TIDE_MAP_BLOCK && ok;
    bytes_get(&r, id.b, TIDE_ID_SIZE);
    uint64_t size = bytes_get_u64(&r);
    return ok && id_equal(&id, stream) && size <= INT64_MAX ? size : 0;
}

/* A hole has no bits: it is not read, so that its memory is not touched. */
static int read_words(struct map *map)
{
    uint64_t total = words_of(map->size);
    for (uint64_t w = 0; w < total;) {
        off_t data = lseek(map->fd, (off_t)(TIDE_MAP_HEAD + w * 8), SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break;
        }
        if (data > (off_t)TIDE_MAP_HEAD) {
            uint64_t at = ((uint64_t)data - TIDE_MAP_HEAD) / 8;
            w = at > w ? at : w;
        }
        if (w >= total) {
            break;
        }
        uint64_t part = total - w < CHUNK ? total - w : CHUNK;
        if (file_read(map->fd, &map->words[w], part * 8, TIDE_MAP_HEAD + w * 8) != 0) {
            return -1;
        }
        for (uint64_t k = w; k < w + part; k++) {
            map->count += (uint64_t)__builtin_popcountll(map->words[k]);
        }
        w += part;
    }
    uint64_t blocks = blocks_of(map->size);
    return blocks % 64 == 0 || (map->words[blocks / 64] >> (blocks % 64)) == 0 ? 0 : -1;
}

static int load(struct map *map, uint64_t size)
{
    map->size = size;
    map->count = 0;
    map->words = calloc(words_of(size), sizeof *map->words);
    if (map->words == NULL) {
        errno = ENOMEM;
        return -1;
    }
    return read_words(map);
}

/* An empty map of this stream and size, over whatever was there. */
static int begin(struct map *map, const struct id *stream, uint64_t size)
{
    free(map->words);
    map->size = size;
    map->count = 0;
    map->words = calloc(words_of(size), sizeof *map->words);
    if (map->words == NULL) {
        errno = ENOMEM;
        return -1;
    }
    if (ftruncate(map->fd, 0) != 0 ||
        ftruncate(map->fd, (off_t)(TIDE_MAP_HEAD + words_of(size) * 8)) != 0) {
        return -1;
    }
    write_head(map, stream);
    return map->failed ? -1 : 0;
}

int map_open(struct map *map, const char *folder, const struct id *stream, uint64_t size,
             bool *ret_fresh, struct err *err)
{
    char path[PATH_MAX];
    *map = (struct map){.fd = -1};
    TIDE_CHECK(size > 0);
    TIDE_CHECK(pthread_mutex_init(&map->lock, NULL) == 0);
    (void)snprintf(path, sizeof path, "%s/map", folder);
    map->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (map->fd < 0) {
        err_set(err, TIDE_ERR_IO, "cannot open \"%s\": %s", path, strerror(errno));
        map_close(map);
        return -1;
    }
    uint64_t old = read_head(map, stream);
    bool fresh = old == 0 || load(map, old) != 0;
    if (fresh && begin(map, stream, size) != 0) {
        int why = errno;
        err_set(err,
                why == ENOSPC   ? TIDE_ERR_FULL
                : why == ENOMEM ? TIDE_ERR_LIMIT
                                : TIDE_ERR_IO,
                "cannot make \"%s\": %s", path, strerror(why));
        map_close(map);
        return -1;
    }
    if (map_resize(map, size, err) != 0) {
        map_close(map);
        return -1;
    }
    *ret_fresh = fresh;
    return 0;
}

void map_close(struct map *map)
{
    if (map->words == NULL && map->fd <= 0) {
        return;
    }
    if (map->fd >= 0) {
        close(map->fd);
    }
    free(map->words);
    pthread_mutex_destroy(&map->lock);
    memset(map, 0, sizeof *map);
}

static void change_range(struct map *map, uint64_t offset, uint64_t size, bool set)
{
    pthread_mutex_lock(&map->lock);
    uint64_t left = offset < map->size ? map->size - offset : 0;
    size = size < left ? size : left;
    if (size > 0) {
        change(map, offset / TIDE_MAP_BLOCK, (offset + size - 1) / TIDE_MAP_BLOCK, set);
    }
    pthread_mutex_unlock(&map->lock);
}

void map_set(struct map *map, uint64_t offset, uint64_t size)
{
    change_range(map, offset, size, true);
}

void map_clear(struct map *map, uint64_t offset, uint64_t size)
{
    TIDE_CHECK(offset % TIDE_MAP_BLOCK == 0);
    change_range(map, offset, size, false);
}

void map_set_all(struct map *map)
{
    change_range(map, 0, UINT64_MAX, true);
}

void map_clear_all(struct map *map)
{
    change_range(map, 0, UINT64_MAX, false);
}

/* The first block at or after `block` that is set (or clear); blocks_of(size) where there is none.
 */
static uint64_t find(const struct map *map, uint64_t block, bool set)
{
    uint64_t blocks = blocks_of(map->size);
    while (block < blocks) {
        uint64_t word = map->words[block / 64];
        word = (set ? word : ~word) & (UINT64_MAX << (block % 64));
        if (word != 0) {
            uint64_t found = block / 64 * 64 + (uint64_t)__builtin_ctzll(word);
            return found < blocks ? found : blocks;
        }
        block = (block / 64 + 1) * 64;
    }
    return blocks;
}

bool map_next(struct map *map, uint64_t offset, uint64_t limit, uint64_t most, uint64_t *ret_offset,
              uint64_t *ret_size)
{
    pthread_mutex_lock(&map->lock);
    limit = limit < map->size ? limit : map->size;
    uint64_t first =
        map->count == 0 ? blocks_of(map->size) : find(map, offset / TIDE_MAP_BLOCK, true);
    bool found = first < blocks_of(map->size) && first * TIDE_MAP_BLOCK < limit;
    if (found) {
        uint64_t at = first * TIDE_MAP_BLOCK;
        uint64_t end = find(map, first, false) * TIDE_MAP_BLOCK;
        end = end < limit ? end : limit;
        *ret_offset = at;
        *ret_size = end - at < most ? end - at : most;
    }
    pthread_mutex_unlock(&map->lock);
    return found;
}

uint64_t map_bytes(struct map *map)
{
    pthread_mutex_lock(&map->lock);
    uint64_t bytes = map->count * TIDE_MAP_BLOCK;
    bytes = bytes < map->size ? bytes : map->size;
    pthread_mutex_unlock(&map->lock);
    return bytes;
}

bool map_is_all(struct map *map)
{
    pthread_mutex_lock(&map->lock);
    bool all = map->count == blocks_of(map->size);
    pthread_mutex_unlock(&map->lock);
    return all;
}

static void resize_locked(struct map *map, uint64_t size, uint64_t *words)
{
    uint64_t keep = words_of(size < map->size ? size : map->size);
    uint64_t blocks = blocks_of(size);
    if (size < map->size && blocks_of(map->size) > blocks) {
        change(map, blocks, blocks_of(map->size) - 1, false);
    }
    memcpy(words, map->words, keep * sizeof *words);
    free(map->words);
    map->words = words;
    map->size = size;
    uint64_t at = size;
    if (ftruncate(map->fd, (off_t)(TIDE_MAP_HEAD + words_of(size) * 8)) != 0 ||
        file_write(map->fd, &at, sizeof at, 32) != 0) {
        map->failed = true;
    }
}

int map_resize(struct map *map, uint64_t size, struct err *err)
{
    if (size == map->size) {
        return 0;
    }
    uint64_t *words = calloc(words_of(size), sizeof *words);
    if (words == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the map of %llu bytes of disk",
                       (unsigned long long)size);
    }
    pthread_mutex_lock(&map->lock);
    resize_locked(map, size, words);
    pthread_mutex_unlock(&map->lock);
    return 0;
}

void map_rename(struct map *map, const struct id *stream)
{
    pthread_mutex_lock(&map->lock);
    write_head(map, stream);
    pthread_mutex_unlock(&map->lock);
}

int map_sync(struct map *map)
{
    pthread_mutex_lock(&map->lock);
    bool failed = map->failed;
    pthread_mutex_unlock(&map->lock);
    if (failed) {
        errno = EIO;
        return -1;
    }
    return fdatasync(map->fd);
}
