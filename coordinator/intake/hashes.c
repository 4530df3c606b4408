/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/hashes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/blocks.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/recover/fold.h"

#define SUFFIX      ".img"
#define RESERVE_MAX (1024ULL * 1024 * 1024)

_Static_assert(BLOCKS_SIZE == TIDE_INTAKE_BLOCK, "one size of blocks");

enum image_state {
    IMAGE_FREE,
    IMAGE_MAKING, /* the pool's, but for the atomics */
    IMAGE_READY,  /* as of fold.lsn */
    IMAGE_FAILED, /* err says why; to be told to whoever asks next */
};

struct image {
    struct hashes *hashes;
    enum image_state state;
    struct id stream;
    char path[PATH_MAX];
    int fd;
    struct fold fold;
    uint64_t target;  /* making: the LSN to get to */
    bool owed;        /* made for a question for LSN 0 that was not answered yet */
    unsigned readers; /* questions being read for */
    uint64_t used_us; /* last asked for */
    struct err err;
    bool no_room; /* the making met the reserve */
    atomic_uint_fast64_t done;
    atomic_uint_fast64_t total;
};

/* One question at work. */
struct reading {
    struct image *image;
    struct intake_hashes_query query;
    hashes_answer_fn *answer;
    void *arg;
    struct intake_block_hashes blocks;
    struct err err;
};

struct hashes {
    char folder[PATH_MAX];
    int lock_fd;
    struct pool *pool;
    struct store *store;
    atomic_bool stop;
    bool making;
    struct image images[HASHES_STREAMS_MAX];
    struct reading *readings[HASHES_READING_MAX];
    unsigned reading_count;
};

/* ---- images ---- */

static void image_drop(struct image *image)
{
    fold_close(&image->fold);
    if (image->fd >= 0) {
        close(image->fd);
        unlink(image->path);
    }
    image->fd = -1;
    image->state = IMAGE_FREE;
}

static struct image *image_find(struct hashes *h, const struct id *stream)
{
    for (unsigned k = 0; k < HASHES_STREAMS_MAX; k++) {
        if (h->images[k].state != IMAGE_FREE && id_equal(&h->images[k].stream, stream)) {
            return &h->images[k];
        }
    }
    return NULL;
}

/* A free place; the least recently used image goes where there is none. NULL: all are at work. */
static struct image *image_place(struct hashes *h)
{
    struct image *oldest = NULL;
    for (unsigned k = 0; k < HASHES_STREAMS_MAX; k++) {
        struct image *image = &h->images[k];
        if (image->state == IMAGE_FREE) {
            return image;
        }
        if (image->state != IMAGE_MAKING && image->readers == 0 &&
            (oldest == NULL || image->used_us < oldest->used_us)) {
            oldest = image;
        }
    }
    if (oldest != NULL) {
        image_drop(oldest);
    }
    return oldest;
}

static int image_begin(struct hashes *h, struct image *image, const struct id *stream,
                       struct err *err)
{
    char hex[TIDE_ID_HEX];
    image->stream = *stream;
    image->owed = false;
    if (snprintf(image->path, sizeof(image->path), "%s/%s" SUFFIX, h->folder,
                 id_hex(stream, hex)) >= (int)sizeof(image->path)) {
        return err_set(err, TIDE_ERR_LIMIT, "path '%s' is too long", h->folder);
    }
    image->fd = open(image->path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (image->fd < 0) {
        return file_err(err, errno, "make '%s'", image->path);
    }
    if (fold_init(&image->fold, image->fd, image->path, err) < 0) {
        image_drop(image);
        return -1;
    }
    return 0;
}

/* ---- making: on the pool's threads ---- */

static bool has_room(const struct image *image)
{
    struct statvfs fs;
    if (fstatvfs(image->fd, &fs) < 0) {
        return true; /* the write will say */
    }
    uint64_t reserve = (uint64_t)fs.f_blocks * fs.f_frsize / 20;
    reserve = reserve < RESERVE_MAX ? reserve : RESERVE_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize > reserve;
}

static bool make_progress(void *context, uint64_t done, uint64_t total)
{
    struct image *image = context;
    atomic_store(&image->done, done);
    atomic_store(&image->total, total);
    image->no_room = !has_room(image);
    return !image->no_room && !atomic_load(&image->hashes->stop);
}

static int make(struct image *image, struct err *err)
{
    struct manifest manifest = {0};
    const char *store = store_path(image->hashes->store);
    if (manifest_read(store, &image->stream, &manifest, err) < 0) {
        return -1;
    }
    int rc = fold_run(&image->fold, store, store_keyring(image->hashes->store), &manifest,
                      image->target, make_progress, image, err);
    manifest_close(&manifest);
    if (rc < 0 && image->no_room) {
        return err_set(err, TIDE_ERR_FULL,
                       "the disk to compare with was not made: the file system of '%s' is nearly "
                       "full; give it room, or set 'cache' to another folder",
                       image->hashes->folder);
    }
    if (rc < 0 && err->code == TIDE_ERR_CORRUPT) {
        err->code = TIDE_ERR_CONFLICT; /* it is not the question that is wrong */
    }
    return rc;
}

static void make_work(void *arg)
{
    struct image *image = arg;
    (void)make(image, &image->err);
}

static void make_done(void *arg)
{
    struct image *image = arg;
    image->hashes->making = false;
    if (image->err.code == TIDE_ERR_OK) {
        image->state = IMAGE_READY;
        return;
    }
    /* What is half made is worth nothing; only the reason is kept. */
    image_drop(image);
    image->state = IMAGE_FAILED;
}

static int being_made(const struct image *image, struct err *err)
{
    uint64_t done = atomic_load(&image->done);
    uint64_t total = atomic_load(&image->total);
    return err_set(err, TIDE_ERR_BUSY,
                   "the disk as of LSN %" PRIu64
                   " is being made to compare with: %u %% of its segments are read; ask again",
                   image->target,
                   total == 0 ? 0U : (unsigned)((double)done * 100.0 / (double)total));
}

static int make_start(struct hashes *h, struct image *image, uint64_t lsn, bool owed,
                      struct err *err)
{
    image->target = lsn;
    image->err = (struct err){0};
    image->no_room = false;
    atomic_store(&image->done, 0);
    atomic_store(&image->total, 0);
    if (pool_submit(h->pool, make_work, make_done, image, err) < 0) {
        return -1;
    }
    image->owed = owed;
    image->state = IMAGE_MAKING;
    h->making = true;
    return being_made(image, err);
}

/* The image of that stream as of lsn is to be made, or brought there. -1 always: not yet. */
static int make_ask(struct hashes *h, struct image *image, const struct id *stream, uint64_t lsn,
                    bool owed, struct err *err)
{
    if (h->making || (image != NULL && image->readers > 0)) {
        return err_set(err, TIDE_ERR_BUSY, "another disk is being made or read; ask again");
    }
    if (image != NULL && image->fold.lsn > lsn) {
        image_drop(image);
    }
    if (image == NULL || image->state == IMAGE_FREE) {
        image = image_place(h);
        if (image == NULL) {
            return err_set(err, TIDE_ERR_BUSY, "%u disks are being read; ask again",
                           HASHES_STREAMS_MAX);
        }
        if (image_begin(h, image, stream, err) < 0) {
            return -1;
        }
    }
    image->used_us = clock_mono_us();
    if (make_start(h, image, lsn, owed, err) < 0 && image->state == IMAGE_FREE) {
        image_drop(image); /* not taken by the pool, and nothing is in it yet */
    }
    return -1;
}

/* ---- reading ---- */

static void read_work(void *arg)
{
    struct reading *r = arg;
    const struct image *image = r->image;
    struct blocks blocks = {0};
    uint64_t bytes = 0;
    if (blocks_init(&blocks, &r->err) == 0) {
        (void)blocks_hash(&blocks, image->fd, image->path, r->blocks.size, r->blocks.offset,
                          r->blocks.count, r->blocks.hashes, &bytes, &r->err);
    }
    blocks_close(&blocks);
}

static void read_done(void *arg)
{
    struct reading *r = arg;
    struct hashes *h = r->image->hashes;
    r->image->readers--;
    for (unsigned k = 0; k < h->reading_count; k++) {
        if (h->readings[k] == r) {
            h->readings[k] = h->readings[--h->reading_count];
            break;
        }
    }
    bool good = r->err.code == TIDE_ERR_OK;
    r->answer(r->arg, good ? &r->blocks : NULL, good ? NULL : &r->err);
    if (!good && r->image->readers == 0) {
        image_drop(r->image); /* made anew for the next question */
    }
    free(r);
}

static int read_ask(struct hashes *h, struct image *image, const struct intake_hashes_query *query,
                    hashes_answer_fn *answer, void *arg, struct err *err)
{
    if (h->reading_count == HASHES_READING_MAX) {
        return err_set(err, TIDE_ERR_BUSY, "%u questions for hashes are at work; ask again",
                       h->reading_count);
    }
    struct reading *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, TIDE_ERR_BUSY, "no memory for hashes");
    }
    r->image = image;
    r->answer = answer;
    r->arg = arg;
    r->blocks.lsn = image->fold.lsn;
    r->blocks.size = image->fold.size;
    r->blocks.offset = query->offset;
    r->blocks.count = blocks_count(image->fold.size, query->offset, query->count);
    if (pool_submit(h->pool, read_work, read_done, r, err) < 0) {
        free(r);
        return -1;
    }
    h->readings[h->reading_count++] = r;
    image->readers++;
    image->used_us = clock_mono_us();
    if (query->lsn == 0) {
        image->owed = false;
    }
    return 0;
}

/* ---- questions ---- */

static int check(const struct id *stream, const struct store_stream_state *state, uint64_t lsn,
                 struct err *err)
{
    char hex[TIDE_ID_HEX];
    id_hex(stream, hex);
    if (state->forked || state->damaged) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "stream '%s' is stopped by %s: nothing can be compared with it; it goes on "
                       "only as a new stream",
                       hex, state->forked ? "a fork" : "damage in the store, see its log");
    }
    if (state->stored_lsn == 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "nothing of stream '%s' is stored yet", hex);
    }
    if (lsn > state->stored_lsn) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "stream '%s' is stored through LSN %" PRIu64 ", not through %" PRIu64, hex,
                       state->stored_lsn, lsn);
    }
    return 0;
}

int hashes_ask(struct hashes *h, const struct id *stream, const struct store_stream_state *state,
               const struct intake_hashes_query *query, hashes_answer_fn *answer, void *arg,
               struct err *err)
{
    if (check(stream, state, query->lsn, err) < 0) {
        return -1;
    }
    struct image *image = image_find(h, stream);
    if (image != NULL && image->state == IMAGE_FAILED) {
        *err = image->err;
        image->state = IMAGE_FREE;
        return -1;
    }
    if (image != NULL && image->state == IMAGE_MAKING) {
        return being_made(image, err);
    }
    uint64_t lsn = query->lsn != 0 ? query->lsn : state->stored_lsn;
    if (query->lsn == 0 && image != NULL && image->owed) {
        lsn = image->fold.lsn;
    }
    if (image == NULL || image->fold.lsn != lsn) {
        return make_ask(h, image, stream, lsn, query->lsn == 0, err);
    }
    return read_ask(h, image, query, answer, arg, err);
}

/* ---- begin and end ---- */

/* What another process left; nothing else is touched. */
static int clear(const char *folder, struct err *err)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    int rc = 0;
    if (dir == NULL) {
        return file_err(err, errno, "open '%s'", folder);
    }
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        char hex[TIDE_ID_HEX];
        struct id id;
        snprintf(hex, sizeof(hex), "%s", entry->d_name);
        if (strlen(entry->d_name) == TIDE_ID_HEX - 1 + sizeof(SUFFIX) - 1 && id_parse(hex, &id) &&
            strcmp(entry->d_name + TIDE_ID_HEX - 1, SUFFIX) == 0 &&
            unlinkat(dirfd(dir), entry->d_name, 0) < 0) {
            rc = file_err(err, errno, "remove '%s/%s'", folder, entry->d_name);
        }
    }
    closedir(dir);
    return rc;
}

int hashes_new(const char *folder, struct pool *pool, struct store *store, struct hashes **ret,
               struct err *err)
{
    char path[PATH_MAX + 8];
    struct hashes *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the cache of images");
    }
    h->pool = pool;
    h->store = store;
    snprintf(h->folder, sizeof(h->folder), "%s", folder);
    for (unsigned k = 0; k < HASHES_STREAMS_MAX; k++) {
        h->images[k].hashes = h;
        h->images[k].fd = -1;
    }
    snprintf(path, sizeof(path), "%s/lock", folder);
    if (file_mkdirs(folder, 0750, err) < 0) {
        free(h);
        return -1;
    }
    h->lock_fd = file_lock(path, err);
    if (h->lock_fd < 0 || clear(folder, err) < 0) {
        if (h->lock_fd >= 0) {
            close(h->lock_fd);
        }
        free(h);
        return err_wrap(err, "cache");
    }
    *ret = h;
    return 0;
}

void hashes_stop(struct hashes *h)
{
    if (h != NULL) {
        atomic_store(&h->stop, true);
    }
}

void hashes_free(struct hashes *h)
{
    if (h == NULL) {
        return;
    }
    for (unsigned k = 0; k < HASHES_STREAMS_MAX; k++) {
        if (h->images[k].state != IMAGE_FREE) {
            image_drop(&h->images[k]);
        }
    }
    for (unsigned k = 0; k < h->reading_count; k++) {
        free(h->readings[k]);
    }
    close(h->lock_fd);
    free(h);
}
