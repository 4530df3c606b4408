/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/crashdisk.h"

#include "common/core/check.h"
#include "common/core/prng.h"

#include <string.h>

enum kind { WRITE, ZERO, SIZE, TOUCH, XATTR, CREATE, RENAME, UNLINK, SYNC, FORGET, MARK };

struct blob { /* bytes that several journals hold */
    unsigned holders;
    size_t size;
    uint8_t bytes[];
};

struct entry {
    enum kind kind;
    int file;   /* of names: the folder they are in */
    int target; /* CREATE: the file */
    bool folder;
    bool data_only;  /* SYNC */
    bool failed;     /* SYNC */
    size_t orphan;   /* was pending at the failed sync before that entry; 0: at none */
    uint64_t offset; /* SIZE: the size; MARK: what */
    uint64_t size;   /* MARK: the value */
    uint64_t now_ns;
    struct blob *blob; /* WRITE: data; XATTR: value; names: from, NUL, to */
};

struct crashdisk {
    struct crashtree base; /* durable */
    struct crashtree live; /* as it is now */
    enum crashdisk_class classes[CRASHTREE_FILES_MAX];
    struct entry *entries;
    size_t count;
    size_t room;
    size_t first;
};

static struct crashdisk *make(void)
{
    struct crashdisk *disk = crashtree_memory(NULL, sizeof *disk);
    disk->base.files_count = disk->live.files_count = 0;
    crashtree_clear(&disk->base);
    crashtree_clear(&disk->live);
    disk->entries = NULL;
    disk->count = disk->room = disk->first = 0;
    for (size_t i = 0; i < CRASHTREE_FILES_MAX; i++) {
        disk->classes[i] = CRASHDISK_IS_OTHER;
    }
    return disk;
}

struct crashdisk *crashdisk_new(void)
{
    struct crashdisk *disk = make();
    crashtree_link(&disk->live, CRASHDISK_ROOT, crashtree_add(&disk->live, true));
    crashdisk_settle(disk);
    return disk;
}

static struct blob *blob_new(const void *from, size_t size)
{
    struct blob *blob = crashtree_memory(NULL, sizeof *blob + size);
    blob->holders = 1;
    blob->size = size;
    if (size > 0) {
        memcpy(blob->bytes, from, size);
    }
    return blob;
}

static void forget(struct crashdisk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        struct blob *blob = disk->entries[i].blob;
        if (blob != NULL && --blob->holders == 0) {
            crashtree_release(blob);
        }
    }
    disk->count = disk->first = 0;
}

void crashdisk_free(struct crashdisk *disk)
{
    forget(disk);
    crashtree_release(disk->entries);
    crashtree_clear(&disk->base);
    crashtree_clear(&disk->live);
    crashtree_release(disk);
}

void crashdisk_settle(struct crashdisk *disk)
{
    crashtree_clear(&disk->base);
    crashtree_copy(&disk->base, &disk->live);
    forget(disk);
}

static enum crashdisk_class class_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (strcmp(path, CRASHDISK_IMAGE) == 0) {
        return CRASHDISK_IS_IMAGE;
    }
    return slash != NULL && strncmp(slash, "/ring-", 6) == 0 ? CRASHDISK_IS_RING
                                                             : CRASHDISK_IS_OTHER;
}

enum crashdisk_class crashdisk_class(const struct crashdisk *disk, int file)
{
    return disk->classes[file];
}

void crashdisk_make(struct crashdisk *disk, const char *path, uint64_t size)
{
    int file = crashdisk_create(disk, path, false, 0);
    crashtree_resize(&disk->live, file, size);
    crashdisk_settle(disk);
}

void crashdisk_make_folder(struct crashdisk *disk, const char *path)
{
    (void)crashdisk_create(disk, path, true, 0);
    crashdisk_settle(disk);
}

void crashdisk_poke(struct crashdisk *disk, const char *path, uint64_t offset, const void *from,
                    size_t size, uint64_t now_ns)
{
    int file = crashtree_find(&disk->live, path);
    TIDE_CHECK(file >= 0 && disk->count == 0);
    crashtree_write(&disk->live, file, offset, from, size);
    disk->live.files[file].mtime_ns = now_ns;
    crashdisk_settle(disk);
}

bool crashdisk_peek(const struct crashdisk *disk, const char *path, uint64_t offset, void *to,
                    size_t size)
{
    int file = crashtree_find(&disk->live, path);
    if (file < 0) {
        return false;
    }
    crashtree_read(&disk->live, file, offset, to, size);
    return true;
}

struct crashtree *crashdisk_tree(struct crashdisk *disk)
{
    return &disk->live;
}

/* A part of an entry's bytes; names and times apart. */
static void apply_part(struct crashtree *tree, const struct entry *e, uint64_t from, uint64_t to)
{
    switch (e->kind) {
    case WRITE:
        crashtree_write(tree, e->file, e->offset + from, e->blob->bytes + from,
                        (size_t)(to - from));
        break;
    case ZERO:
        crashtree_zero(tree, e->file, e->offset + from, to - from);
        break;
    case SIZE:
        crashtree_resize(tree, e->file, e->offset);
        break;
    case XATTR: {
        const char *name = (const char *)e->blob->bytes;
        size_t skip = strlen(name) + 1;
        crashtree_set_xattr(tree, e->file, name, e->size == 0 ? NULL : e->blob->bytes + skip,
                            e->blob->size - skip);
        break;
    }
    case CREATE:
        crashtree_link(tree, (const char *)e->blob->bytes, e->target);
        break;
    case RENAME: {
        const char *name = (const char *)e->blob->bytes;
        int file = crashtree_find(tree, name);
        if (file >= 0) {
            crashtree_unlink(tree, name);
            crashtree_link(tree, name + strlen(name) + 1, file);
        }
        break;
    }
    case UNLINK:
        crashtree_unlink(tree, (const char *)e->blob->bytes);
        break;
    case TOUCH:
    case SYNC:
    case FORGET:
    case MARK:
        break;
    }
}

static bool is_name(const struct entry *e)
{
    return e->kind == CREATE || e->kind == RENAME || e->kind == UNLINK;
}

static bool is_change(const struct entry *e)
{
    return e->kind != SYNC && e->kind != FORGET && e->kind != MARK;
}

static bool has_time(const struct entry *e)
{
    return e->kind == WRITE || e->kind == ZERO || e->kind == SIZE || e->kind == TOUCH;
}

static void apply(struct crashtree *tree, const struct entry *e)
{
    apply_part(tree, e, 0, e->size);
    if (has_time(e)) {
        tree->files[e->file].mtime_ns = e->now_ns;
    }
}

static struct entry *add(struct crashdisk *disk, const struct entry *entry)
{
    if (disk->count == disk->room) {
        disk->room = disk->room == 0 ? 64 : 2 * disk->room;
        disk->entries = crashtree_memory(disk->entries, disk->room * sizeof disk->entries[0]);
    }
    disk->entries[disk->count] = *entry;
    return &disk->entries[disk->count++];
}

static void change(struct crashdisk *disk, const struct entry *entry)
{
    apply(&disk->live, add(disk, entry));
}

void crashdisk_write(struct crashdisk *disk, int file, uint64_t offset, const void *from,
                     size_t size, uint64_t now_ns)
{
    change(disk, &(struct entry){.kind = WRITE,
                                 .file = file,
                                 .offset = offset,
                                 .size = size,
                                 .now_ns = now_ns,
                                 .blob = blob_new(from, size)});
}

void crashdisk_zero(struct crashdisk *disk, int file, uint64_t offset, uint64_t size,
                    uint64_t now_ns)
{
    change(disk, &(struct entry){
                     .kind = ZERO, .file = file, .offset = offset, .size = size, .now_ns = now_ns});
}

void crashdisk_resize(struct crashdisk *disk, int file, uint64_t size, uint64_t now_ns)
{
    change(disk, &(struct entry){.kind = SIZE, .file = file, .offset = size, .now_ns = now_ns});
}

void crashdisk_touch(struct crashdisk *disk, int file, uint64_t now_ns)
{
    change(disk, &(struct entry){.kind = TOUCH, .file = file, .now_ns = now_ns});
}

static struct blob *two(const char *a, const void *b, size_t size)
{
    struct blob *blob = blob_new(NULL, 0);
    blob = crashtree_memory(blob, sizeof *blob + strlen(a) + 1 + size);
    blob->size = strlen(a) + 1 + size;
    memcpy(blob->bytes, a, strlen(a) + 1);
    if (size > 0) {
        memcpy(blob->bytes + strlen(a) + 1, b, size);
    }
    return blob;
}

void crashdisk_xattr(struct crashdisk *disk, int file, const char *name, const void *value,
                     size_t size)
{
    change(disk, &(struct entry){.kind = XATTR,
                                 .file = file,
                                 .size = value != NULL ? 1 : 0,
                                 .blob = two(name, value, value != NULL ? size : 0)});
}

int crashdisk_create(struct crashdisk *disk, const char *path, bool folder, uint64_t now_ns)
{
    int parent = crashtree_parent(&disk->live, path);
    TIDE_CHECK(parent >= 0);
    int file = crashtree_add(&disk->live, folder);
    TIDE_CHECK(crashtree_add(&disk->base, folder) == file);
    disk->live.files[file].mtime_ns = disk->base.files[file].mtime_ns = now_ns;
    disk->classes[file] = class_of(path);
    change(disk, &(struct entry){
                     .kind = CREATE, .file = parent, .target = file, .blob = two(path, NULL, 0)});
    return file;
}

void crashdisk_rename(struct crashdisk *disk, const char *from, const char *to)
{
    change(disk, &(struct entry){.kind = RENAME,
                                 .file = crashtree_parent(&disk->live, to),
                                 .blob = two(from, to, strlen(to) + 1)});
}

void crashdisk_unlink(struct crashdisk *disk, const char *path)
{
    change(disk, &(struct entry){.kind = UNLINK,
                                 .file = crashtree_parent(&disk->live, path),
                                 .blob = two(path, NULL, 0)});
}

void crashdisk_sync(struct crashdisk *disk, int file, bool data_only, bool failed)
{
    for (size_t i = disk->count; failed && i-- > 0;) {
        struct entry *e = &disk->entries[i];
        if (e->kind == SYNC && e->file == file && !e->failed) {
            break; /* what lies before it is durable */
        }
        if (e->orphan == 0 && e->file == file && is_change(e) && !is_name(e)) {
            e->orphan = disk->count + 1;
        }
    }
    add(disk,
        &(struct entry){.kind = SYNC, .file = file, .data_only = data_only, .failed = failed});
}

/* The file as it reads after `at` entries, without those that a failed sync left. */
static void forget_orphans(struct crashdisk *disk, int file, size_t at)
{
    crashtree_copy_file(&disk->live, &disk->base, file);
    for (size_t i = 0; i < at; i++) {
        const struct entry *e = &disk->entries[i];
        if (e->file == file && is_change(e) && !is_name(e) && (e->orphan == 0 || e->orphan > at)) {
            apply_part(&disk->live, e, 0, e->size);
        }
    }
}

void crashdisk_forget(struct crashdisk *disk, int file)
{
    add(disk, &(struct entry){.kind = FORGET, .file = file});
    forget_orphans(disk, file, disk->count);
}

void crashdisk_mark(struct crashdisk *disk, unsigned what, uint64_t value)
{
    add(disk, &(struct entry){.kind = MARK, .file = -1, .offset = what, .size = value});
}

size_t crashdisk_first(const struct crashdisk *disk)
{
    return disk->first;
}

size_t crashdisk_count(const struct crashdisk *disk)
{
    return disk->count;
}

enum crashdisk_entry crashdisk_entry(const struct crashdisk *disk, size_t i, unsigned *ret_what,
                                     uint64_t *ret_value)
{
    const struct entry *e = &disk->entries[i];
    if (e->kind == MARK) {
        *ret_what = (unsigned)e->offset;
        *ret_value = e->size;
        return CRASHDISK_MARK;
    }
    return e->kind == SYNC || e->kind == FORGET ? CRASHDISK_SYNC : CRASHDISK_CHANGE;
}

const char *crashdisk_cut_name(enum crashdisk_cut cut)
{
    static const char *const names[CRASHDISK_CUTS] = {"kill",       "kill-torn", "lose-all",
                                                      "keep-image", "keep-log",  "keep-state",
                                                      "torn",       "keep-all",  "random"};
    return names[cut];
}

/* Kill: the page cache is the machine's, so the journal goes on. */
static struct crashdisk *survive(const struct crashdisk *disk, size_t at, bool torn, bool *ret_same)
{
    *ret_same = torn;
    struct crashdisk *made = make();
    memcpy(made->classes, disk->classes, sizeof made->classes);
    crashtree_copy(&made->base, &disk->base);
    crashtree_copy(&made->live, &disk->base);
    for (size_t i = 0; i < at; i++) {
        struct entry *e = add(made, &disk->entries[i]);
        if (e->blob != NULL) {
            e->blob->holders++;
        }
        if (i + 1 == at && torn && e->kind == WRITE && e->size > CRASHTREE_PAGE) {
            e->size = e->size / 2 / CRASHTREE_PAGE * CRASHTREE_PAGE;
            *ret_same = false;
        }
        if (e->kind == FORGET) {
            forget_orphans(made, e->file, i + 1);
        } else {
            apply(&made->live, e);
        }
    }
    made->first = at;
    return made;
}

struct cutting {
    const struct crashdisk *disk;
    size_t at;
    enum crashdisk_cut cut;
    struct prng prng;
    size_t synced[CRASHTREE_FILES_MAX]; /* entries below it are durable */
    size_t full[CRASHTREE_FILES_MAX];   /* times and attributes too */
    size_t forgot[CRASHTREE_FILES_MAX]; /* what was orphaned before it is gone */
    size_t last_log;                    /* the ring's last write */
    size_t names;                       /* so many pending names are kept */
    bool pending;                       /* something was */
};

static void look_back(struct cutting *c)
{
    size_t names = 0;
    memset(c->synced, 0, sizeof c->synced);
    memset(c->full, 0, sizeof c->full);
    memset(c->forgot, 0, sizeof c->forgot);
    c->last_log = SIZE_MAX;
    for (size_t i = 0; i < c->at; i++) {
        const struct entry *e = &c->disk->entries[i];
        if (e->kind == SYNC && !e->failed) {
            c->synced[e->file] = i;
            c->full[e->file] = e->data_only ? c->full[e->file] : i;
        }
        if (e->kind == FORGET) {
            c->forgot[e->file] = i + 1;
        }
        if (e->kind == WRITE && c->disk->classes[e->file] == CRASHDISK_IS_RING) {
            c->last_log = i;
        }
        names += is_name(e) ? 1 : 0;
    }
    c->names = c->cut == CRASHDISK_RANDOM ? (size_t)prng_below(&c->prng, names + 1) : names;
}

static bool keeps(const struct cutting *c, int file)
{
    enum crashdisk_class class = c->disk->classes[file];
    switch (c->cut) {
    case CRASHDISK_KEEP_IMAGE:
        return class == CRASHDISK_IS_IMAGE;
    case CRASHDISK_KEEP_LOG:
        return class != CRASHDISK_IS_IMAGE;
    case CRASHDISK_KEEP_STATE:
        return class != CRASHDISK_IS_RING;
    case CRASHDISK_TORN:
    case CRASHDISK_KEEP_ALL:
        return true;
    case CRASHDISK_KILL:
    case CRASHDISK_KILL_TORN:
    case CRASHDISK_LOSE_ALL:
    case CRASHDISK_RANDOM:
        break;
    }
    return false;
}

/* The first or the last sectors of it, as the disk lays them. */
static void apply_torn(struct cutting *c, struct crashtree *tree, const struct entry *e)
{
    uint64_t skew = e->offset % CRASHDISK_SECTOR;
    uint64_t sectors = (skew + e->size + CRASHDISK_SECTOR - 1) / CRASHDISK_SECTOR;
    if ((e->kind != WRITE && e->kind != ZERO) || sectors < 2) {
        return;
    }
    uint64_t at = (1 + prng_below(&c->prng, sectors - 1)) * CRASHDISK_SECTOR - skew;
    if (prng_below(&c->prng, 2) == 0) {
        apply_part(tree, e, 0, at);
    } else {
        apply_part(tree, e, at, e->size);
    }
}

static void apply_pending(struct cutting *c, struct crashtree *tree, size_t i)
{
    const struct entry *e = &c->disk->entries[i];
    c->pending = true;
    if (c->cut == CRASHDISK_TORN && i == c->last_log) {
        apply_torn(c, tree, e);
    } else if (c->cut == CRASHDISK_RANDOM && !is_name(e)) {
        uint64_t fate = prng_below(&c->prng, 8);
        if (fate < 3) {
            apply_part(tree, e, 0, e->size);
        } else if (fate < 5) {
            apply_torn(c, tree, e);
        }
    } else if (c->cut == CRASHDISK_RANDOM || keeps(c, e->file)) {
        apply_part(tree, e, 0, e->size);
    }
}

/* Each file's time: as of its last fsync(), or the last. */
static void set_times(struct cutting *c, struct crashtree *tree)
{
    bool late[CRASHTREE_FILES_MAX];
    for (int i = 0; i < tree->files_count; i++) {
        late[i] = c->cut == CRASHDISK_RANDOM ? prng_below(&c->prng, 2) == 0 : keeps(c, i);
    }
    for (size_t i = 0; i < c->at; i++) {
        const struct entry *e = &c->disk->entries[i];
        if (has_time(e) && (i < c->full[e->file] || late[e->file])) {
            tree->files[e->file].mtime_ns = e->now_ns;
        } else if (has_time(e) && tree->files[e->file].mtime_ns != e->now_ns) {
            c->pending = true;
        }
    }
}

struct crashdisk *crashdisk_cut(const struct crashdisk *disk, size_t at, enum crashdisk_cut cut,
                                uint64_t seed, bool *ret_same)
{
    TIDE_CHECK(at >= disk->first && at <= disk->count);
    if (cut == CRASHDISK_KILL || cut == CRASHDISK_KILL_TORN) {
        return survive(disk, at, cut == CRASHDISK_KILL_TORN, ret_same);
    }
    struct crashdisk *made = make();
    struct cutting c = {.disk = disk, .at = at, .cut = cut};
    prng_init(&c.prng, seed);
    look_back(&c);
    memcpy(made->classes, disk->classes, sizeof made->classes);
    crashtree_copy(&made->live, &disk->base);
    size_t names = 0;
    for (size_t i = 0; i < at; i++) {
        const struct entry *e = &disk->entries[i];
        size_t durable = e->kind == XATTR ? c.full[e->file < 0 ? 0 : e->file]
                                          : c.synced[e->file < 0 ? 0 : e->file];
        names += is_name(e) ? 1 : 0;
        if (!is_change(e) || (e->orphan != 0 && e->orphan <= c.forgot[e->file])) {
            continue;
        }
        if (i < durable && e->orphan == 0) {
            apply_part(&made->live, e, 0, e->size);
        } else if (!is_name(e) || names <= c.names) {
            apply_pending(&c, &made->live, i);
        } else {
            c.pending = true;
        }
    }
    set_times(&c, &made->live);
    crashdisk_settle(made);
    *ret_same = !c.pending;
    return made;
}
