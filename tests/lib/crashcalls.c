/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/crashcalls.h"

#include "common/core/check.h"
#include "common/core/prng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FD_BASE     100000
#define FDS_MAX     256
#define BLOCKS_MAX  64
#define BOOT_ID     "/proc/sys/kernel/random/boot_id"
#define BOOT_FORMAT "%08x-0000-4000-8000-000000000001\n"
#define BOOT_SIZE   37
#define OWN_FDS     "/proc/self/fd/"

/* Declares the real one and the one in its place. */
#define WRAP(type, name, ...)                                                                      \
    type __real_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__)

enum fd_kind { FD_FREE, FD_FILE, FD_BOOT, FD_OTHER };

struct fd {
    enum fd_kind kind;
    int file;
    uint64_t at;
    bool locked;
};

static struct {
    struct crashdisk *disk;
    struct fd fds[FDS_MAX];
    bool inside;
    void *blocks[BLOCKS_MAX]; /* allocated inside */
    unsigned blocks_count;
    struct crashcalls_fault fault;
    uint64_t seen; /* matching calls */
    bool struck;
    bool struck_image;
    int struck_file; /* where a fault stays */
    char struck_text[96];
    bool rest_fails; /* the half of a write was done */
    enum crashcalls_lie lie;
    uint64_t now_ns;
    unsigned boot;
    struct prng prng;
    crashcalls_waiter waiter;
} g = {.now_ns = UINT64_C(1700000000000000000), .boot = 1};

void crashcalls_mount(struct crashdisk *disk)
{
    g.disk = disk;
}

void crashcalls_inside(bool inside)
{
    g.inside = inside;
}

void crashcalls_lie(enum crashcalls_lie lie)
{
    g.lie = lie;
}

uint64_t crashcalls_now_ns(void)
{
    return g.now_ns;
}

void crashcalls_pass(uint64_t ns)
{
    g.now_ns += ns;
}

void crashcalls_boot(unsigned number)
{
    g.boot = number;
}

unsigned crashcalls_booted(void)
{
    return g.boot;
}

void crashcalls_seed(uint64_t seed)
{
    prng_init(&g.prng, seed);
}

void crashcalls_on_wait(crashcalls_waiter waiter)
{
    g.waiter = waiter;
}

unsigned crashcalls_open_files(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < FDS_MAX; i++) {
        count += g.fds[i].kind != FD_FREE ? 1 : 0;
    }
    return count;
}

unsigned crashcalls_allocations(void)
{
    return g.blocks_count;
}

/* Faults. */

void crashcalls_fault(const struct crashcalls_fault *fault)
{
    g.fault = *fault;
    g.seen = 0;
    g.struck = g.struck_image = g.rest_fails = false;
    g.struck_file = -1;
}

bool crashcalls_struck(bool *ret_image)
{
    *ret_image = g.struck_image;
    return g.struck;
}

const char *crashcalls_struck_text(void)
{
    return g.struck_text;
}

static void note_strike(enum crashcalls_call call, int file)
{
    static const char *const names[] = {"malloc", "write",     "sync", "rename",
                                        "open",   "fallocate", "read", "xattr"};
    const char *path = "";
    for (size_t i = 0; file >= 0 && i < CRASHTREE_NAMES_MAX; i++) {
        const struct crashtree_name *name = &crashdisk_tree(g.disk)->names[i];
        path = name->path[0] != '\0' && name->file == file ? name->path : path;
    }
    (void)snprintf(g.struck_text, sizeof g.struck_text, "%s %s",
                   names[__builtin_ctz((unsigned)call)], path);
}

/* Whether this call fails, with errno set. */
static bool strikes(enum crashcalls_call call, int file)
{
    if (!g.inside || (g.fault.calls & call) == 0) {
        return false;
    }
    bool again = g.struck && g.fault.stays && file >= 0 && file == g.struck_file;
    if (g.seen++ != g.fault.nth && !again) {
        return false;
    }
    if (!g.struck) {
        note_strike(call, file);
    }
    g.struck = true;
    g.struck_file = file;
    if (file >= 0 && crashdisk_class(g.disk, file) == CRASHDISK_IS_IMAGE) {
        g.struck_image = true;
    }
    errno = g.fault.why;
    return true;
}

/* How much of a write is done before it fails: all where none strikes, 0 where it fails at once. */
static size_t write_part(int file, size_t size)
{
    if (g.rest_fails && g.inside) {
        g.rest_fails = false;
        errno = g.fault.why;
        return 0;
    }
    if (!strikes(CRASHCALLS_WRITE, file)) {
        return size;
    }
    size_t half = size / 2; /* the image's in whole sectors, as a disk does them */
    if (crashdisk_class(g.disk, file) == CRASHDISK_IS_IMAGE) {
        half -= half % CRASHDISK_SECTOR;
    }
    g.rest_fails = g.fault.half && half > 0;
    return g.rest_fails ? half : 0;
}

/* Memory. */

WRAP(void *, malloc, size_t size)
{
    if (g.inside && strikes(CRASHCALLS_MALLOC, -1)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = __real_malloc(size);
    if (g.inside && block != NULL) {
        TIDE_CHECK(g.blocks_count < BLOCKS_MAX);
        g.blocks[g.blocks_count++] = block;
    }
    return block;
}

WRAP(void, free, void *block)
{
    for (unsigned i = 0; block != NULL && i < g.blocks_count; i++) {
        if (g.blocks[i] == block) {
            g.blocks[i] = g.blocks[--g.blocks_count];
            break;
        }
    }
    __real_free(block);
}

WRAP(void *, calloc, size_t count, size_t size)
{
    TIDE_CHECK(size == 0 || count <= SIZE_MAX / size);
    void *block = __wrap_malloc(count * size);
    return block == NULL ? NULL : memset(block, 0, count * size);
}

WRAP(void *, realloc, void *before, size_t size)
{
    if (!g.inside) {
        return __real_realloc(before, size);
    }
    if (strikes(CRASHCALLS_MALLOC, -1)) {
        errno = ENOMEM;
        return NULL;
    }
    for (unsigned i = 0; before != NULL && i < g.blocks_count; i++) {
        if (g.blocks[i] == before) {
            g.blocks[i] = g.blocks[--g.blocks_count];
            break;
        }
    }
    void *block = __real_realloc(before, size);
    TIDE_CHECK(block != NULL && g.blocks_count < BLOCKS_MAX);
    g.blocks[g.blocks_count++] = block;
    return block;
}

void crashcalls_end_process(void)
{
    for (size_t i = 0; i < FDS_MAX; i++) {
        g.fds[i].kind = FD_FREE;
    }
    while (g.blocks_count > 0) {
        __real_free(g.blocks[--g.blocks_count]);
    }
    g.inside = false;
}

/* Descriptors. */

static struct fd *ours(int fd)
{
    if (fd < FD_BASE || fd >= FD_BASE + FDS_MAX) {
        return NULL;
    }
    TIDE_CHECK(g.fds[fd - FD_BASE].kind != FD_FREE);
    return &g.fds[fd - FD_BASE];
}

static struct crashtree *tree(void)
{
    TIDE_CHECK(g.disk != NULL);
    return crashdisk_tree(g.disk);
}

static bool is_ours(const char *path)
{
    return strncmp(path, CRASHDISK_ROOT "/", sizeof CRASHDISK_ROOT) == 0;
}

static int take(enum fd_kind kind, int file)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (g.fds[i].kind == FD_FREE) {
            g.fds[i] = (struct fd){.kind = kind, .file = file};
            return FD_BASE + i;
        }
    }
    TIDE_CHECK(false);
    return -1;
}

static int fail(int why)
{
    errno = why;
    return -1;
}

static int do_open(const char *path, int flags)
{
    int file = crashtree_find(tree(), path);
    if (strikes(CRASHCALLS_OPEN, file)) {
        return -1;
    }
    if (file >= 0 && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
        return fail(EEXIST);
    }
    if (file < 0) {
        if ((flags & O_CREAT) == 0 || crashtree_parent(tree(), path) < 0) {
            return fail(ENOENT);
        }
        file = crashdisk_create(g.disk, path, false, g.now_ns);
    } else if ((flags & O_TRUNC) != 0 && tree()->files[file].size > 0) {
        crashdisk_resize(g.disk, file, 0, g.now_ns);
    }
    if (tree()->files[file].folder && (flags & O_ACCMODE) != O_RDONLY) {
        return fail(EISDIR);
    }
    return take(FD_FILE, file);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (strcmp(path, BOOT_ID) == 0) {
        return strikes(CRASHCALLS_OPEN, -1) ? -1 : take(FD_BOOT, -1);
    }
    if (strncmp(path, OWN_FDS, sizeof OWN_FDS - 1) == 0) {
        struct fd *f = ours((int)strtol(path + sizeof OWN_FDS - 1, NULL, 10));
        if (f != NULL) {
            return strikes(CRASHCALLS_OPEN, f->file) ? -1 : take(f->kind, f->file);
        }
    }
    return is_ours(path) ? do_open(path, flags) : __real_open(path, flags, mode);
}

WRAP(int, __open_2, const char *path, int flags)
{
    return __wrap_open(path, flags);
}

WRAP(int, close, int fd)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_close(fd);
    }
    f->kind = FD_FREE;
    return 0;
}

static ssize_t do_read(struct fd *f, void *to, size_t size, uint64_t at)
{
    if (f->kind == FD_BOOT) {
        char text[BOOT_SIZE + 1];
        (void)snprintf(text, sizeof text, BOOT_FORMAT, g.boot);
        size = size < BOOT_SIZE ? size : BOOT_SIZE;
        memcpy(to, text, size);
        return (ssize_t)size;
    }
    if (strikes(CRASHCALLS_READ, f->file)) {
        return -1;
    }
    uint64_t end = tree()->files[f->file].size;
    size_t part = at >= end ? 0 : size < end - at ? size : (size_t)(end - at);
    crashtree_read(tree(), f->file, at, to, part);
    return (ssize_t)part;
}

WRAP(ssize_t, read, int fd, void *to, size_t size)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_read(fd, to, size);
    }
    ssize_t got = do_read(f, to, size, f->at);
    f->at += got > 0 ? (uint64_t)got : 0;
    return got;
}

WRAP(ssize_t, __read_chk, int fd, void *to, size_t size, size_t room)
{
    TIDE_CHECK(size <= room);
    return __wrap_read(fd, to, size);
}

WRAP(ssize_t, pread, int fd, void *to, size_t size, off_t at)
{
    struct fd *f = ours(fd);
    return f == NULL ? __real_pread(fd, to, size, at) : do_read(f, to, size, (uint64_t)at);
}

WRAP(ssize_t, __pread_chk, int fd, void *to, size_t size, off_t at, size_t room)
{
    TIDE_CHECK(size <= room);
    return __wrap_pread(fd, to, size, at);
}

/* What a planted defect of the layer leaves of a write. */
static void lying_write(struct fd *f, uint64_t at, const uint8_t *from, size_t size)
{
    enum crashdisk_class class = crashdisk_class(g.disk, f->file);
    bool longer = size >= (size_t)2 * CRASHDISK_SECTOR;
    if (g.lie == CRASHCALLS_LIE_LOG_WRITE && class == CRASHDISK_IS_RING && longer) {
        size -= CRASHDISK_SECTOR;
    }
    if (g.lie == CRASHCALLS_LIE_IMAGE_WRITE && class == CRASHDISK_IS_IMAGE && longer) {
        at += CRASHDISK_SECTOR;
        from += CRASHDISK_SECTOR;
        size -= CRASHDISK_SECTOR;
    }
    crashdisk_write(g.disk, f->file, at, from, size, g.now_ns);
}

static ssize_t do_write(struct fd *f, const void *from, size_t size, uint64_t at)
{
    if (f->kind != FD_FILE) {
        return (ssize_t)size;
    }
    size_t part = write_part(f->file, size);
    if (part == 0 && size > 0) {
        return -1;
    }
    lying_write(f, at, from, part);
    return (ssize_t)part;
}

WRAP(ssize_t, write, int fd, const void *from, size_t size)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_write(fd, from, size);
    }
    ssize_t done = do_write(f, from, size, f->at);
    f->at += done > 0 ? (uint64_t)done : 0;
    return done;
}

WRAP(ssize_t, pwrite, int fd, const void *from, size_t size, off_t at)
{
    struct fd *f = ours(fd);
    return f == NULL ? __real_pwrite(fd, from, size, at) : do_write(f, from, size, (uint64_t)at);
}

WRAP(ssize_t, pwritev, int fd, const struct iovec *parts, int count, off_t at)
{
    static uint8_t joined[4U << 20];
    struct fd *f = ours(fd);
    size_t size = 0;
    if (f == NULL) {
        return __real_pwritev(fd, parts, count, at);
    }
    if (count == 1) {
        return do_write(f, parts[0].iov_base, parts[0].iov_len, (uint64_t)at);
    }
    for (int i = 0; i < count; i++) {
        TIDE_CHECK(parts[i].iov_len <= sizeof joined - size);
        memcpy(joined + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    return do_write(f, joined, size, (uint64_t)at);
}

static bool sync_lies(const struct fd *f)
{
    enum crashdisk_class class = crashdisk_class(g.disk, f->file);
    switch (g.lie) {
    case CRASHCALLS_LIE_LOG_SYNC:
        return class == CRASHDISK_IS_RING;
    case CRASHCALLS_LIE_IMAGE_SYNC:
        return class == CRASHDISK_IS_IMAGE;
    case CRASHCALLS_LIE_STATE_SYNC:
        return class == CRASHDISK_IS_OTHER && !tree()->files[f->file].folder;
    case CRASHCALLS_LIE_NONE:
    case CRASHCALLS_LIE_LOG_WRITE:
    case CRASHCALLS_LIE_IMAGE_WRITE:
        break;
    }
    return false;
}

static int do_sync(struct fd *f, bool data_only)
{
    bool failed = strikes(CRASHCALLS_SYNC, f->file);
    if (!sync_lies(f)) {
        crashdisk_sync(g.disk, f->file, data_only, failed);
    }
    return failed ? -1 : 0;
}

WRAP(int, fdatasync, int fd)
{
    struct fd *f = ours(fd);
    return f == NULL ? __real_fdatasync(fd) : do_sync(f, true);
}

WRAP(int, fsync, int fd)
{
    struct fd *f = ours(fd);
    return f == NULL ? __real_fsync(fd) : do_sync(f, false);
}

WRAP(int, posix_fadvise, int fd, off_t at, off_t size, int advice)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_posix_fadvise(fd, at, size, advice);
    }
    if (advice == POSIX_FADV_DONTNEED) {
        crashdisk_forget(g.disk, f->file);
    }
    return 0;
}

/* Space. */

WRAP(int, fallocate, int fd, int mode, off_t at, off_t size)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_fallocate(fd, mode, at, size);
    }
    if (strikes(CRASHCALLS_ALLOCATE, f->file)) {
        return -1;
    }
    uint64_t end = tree()->files[f->file].size;
    uint64_t from = (uint64_t)at;
    uint64_t to = from + (uint64_t)size;
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) {
        if (to > end && (mode & FALLOC_FL_KEEP_SIZE) == 0) {
            crashdisk_resize(g.disk, f->file, to, g.now_ns);
        }
        return 0;
    }
    TIDE_CHECK((mode & FALLOC_FL_KEEP_SIZE) != 0);
    to = to < end ? to : end;
    if (from < to) {
        crashdisk_zero(g.disk, f->file, from, to - from, g.now_ns);
    }
    return 0;
}

WRAP(int, posix_fallocate, int fd, off_t at, off_t size)
{
    int saved = errno;
    if (ours(fd) == NULL) {
        return __real_posix_fallocate(fd, at, size);
    }
    int why = __wrap_fallocate(fd, 0, at, size) == 0 ? 0 : errno;
    errno = saved;
    return why;
}

WRAP(int, ftruncate, int fd, off_t size)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_ftruncate(fd, size);
    }
    if (strikes(CRASHCALLS_ALLOCATE, f->file)) {
        return -1;
    }
    if (tree()->files[f->file].size != (uint64_t)size) {
        crashdisk_resize(g.disk, f->file, (uint64_t)size, g.now_ns);
    }
    return 0;
}

WRAP(off_t, lseek, int fd, off_t at, int whence)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_lseek(fd, at, whence);
    }
    uint64_t end = tree()->files[f->file].size;
    TIDE_CHECK(whence != SEEK_CUR);
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        uint64_t found = crashtree_seek(tree(), f->file, (uint64_t)at, whence == SEEK_DATA);
        return (uint64_t)at >= end || (whence == SEEK_DATA && found >= end) ? fail(ENXIO)
                                                                            : (off_t)found;
    }
    f->at = whence == SEEK_END ? end + (uint64_t)at : (uint64_t)at;
    return (off_t)f->at;
}

/* Names and what is known of files. */

static void tell(int file, struct stat *ret)
{
    const struct crashtree_file *f = &tree()->files[file];
    *ret = (struct stat){.st_dev = 1,
                         .st_ino = (ino_t)file + 1,
                         .st_nlink = 1,
                         .st_mode = f->folder ? S_IFDIR | 0700 : S_IFREG | 0600,
                         .st_size = (off_t)f->size,
                         .st_blksize = CRASHTREE_PAGE};
    ret->st_mtim.tv_sec = (time_t)(f->mtime_ns / 1000000000U);
    ret->st_mtim.tv_nsec = (long)(f->mtime_ns % 1000000000U);
    ret->st_ctim = ret->st_mtim;
}

WRAP(int, fstat, int fd, struct stat *ret)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_fstat(fd, ret);
    }
    tell(f->file, ret);
    return 0;
}

static int tell_path(const char *path, struct stat *ret)
{
    int file = crashtree_find(tree(), path);
    if (file < 0) {
        return fail(ENOENT);
    }
    tell(file, ret);
    return 0;
}

WRAP(int, stat, const char *path, struct stat *ret)
{
    return is_ours(path) ? tell_path(path, ret) : __real_stat(path, ret);
}

WRAP(int, lstat, const char *path, struct stat *ret)
{
    return is_ours(path) ? tell_path(path, ret) : __real_lstat(path, ret);
}

WRAP(int, access, const char *path, int mode)
{
    struct stat st;
    return is_ours(path) ? tell_path(path, &st) : __real_access(path, mode);
}

WRAP(int, statx, int fd, const char *path, int flags, unsigned mask, struct statx *ret)
{
    struct stat st;
    struct fd *f = path[0] == '\0' ? ours(fd) : NULL;
    if (f == NULL && !is_ours(path)) {
        return __real_statx(fd, path, flags, mask, ret);
    }
    if (f != NULL) {
        tell(f->file, &st);
    } else if (tell_path(path, &st) != 0) {
        return -1;
    }
    *ret = (struct statx){
        .stx_mask = mask & (STATX_BASIC_STATS | STATX_BTIME),
        .stx_btime = {.tv_sec = (int64_t)st.st_ino},
        .stx_mode = (uint16_t)st.st_mode,
        .stx_ino = st.st_ino,
        .stx_size = (uint64_t)st.st_size,
        .stx_dev_minor = 1,
        .stx_mtime = {.tv_sec = st.st_mtim.tv_sec, .tv_nsec = (uint32_t)st.st_mtim.tv_nsec}};
    return 0;
}

WRAP(int, rename, const char *from, const char *to)
{
    if (!is_ours(from)) {
        return __real_rename(from, to);
    }
    if (strikes(CRASHCALLS_RENAME, crashtree_find(tree(), from))) {
        return -1;
    }
    if (crashtree_find(tree(), from) < 0) {
        return fail(ENOENT);
    }
    crashdisk_rename(g.disk, from, to);
    return 0;
}

WRAP(int, unlink, const char *path)
{
    if (!is_ours(path)) {
        return __real_unlink(path);
    }
    if (crashtree_find(tree(), path) < 0) {
        return fail(ENOENT);
    }
    crashdisk_unlink(g.disk, path);
    return 0;
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
    if (!is_ours(path)) {
        return __real_mkdir(path, mode);
    }
    if (crashtree_find(tree(), path) >= 0) {
        return fail(EEXIST);
    }
    if (strikes(CRASHCALLS_OPEN, -1)) {
        return -1;
    }
    (void)crashdisk_create(g.disk, path, true, g.now_ns);
    return 0;
}

WRAP(int, chmod, const char *path, mode_t mode)
{
    return is_ours(path) ? 0 : __real_chmod(path, mode);
}

WRAP(int, flock, int fd, int how)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_flock(fd, how);
    }
    for (size_t i = 0; i < FDS_MAX && (how & LOCK_EX) != 0; i++) {
        if (&g.fds[i] != f && g.fds[i].kind == FD_FILE && g.fds[i].file == f->file &&
            g.fds[i].locked) {
            return fail(EWOULDBLOCK);
        }
    }
    f->locked = (how & LOCK_UN) == 0;
    return 0;
}

WRAP(int, futimens, int fd, const struct timespec times[2])
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_futimens(fd, times);
    }
    uint64_t at = g.now_ns;
    if (times != NULL && times[1].tv_nsec != UTIME_NOW) {
        at = (uint64_t)times[1].tv_sec * 1000000000U + (uint64_t)times[1].tv_nsec;
    }
    if (times == NULL || times[1].tv_nsec != UTIME_OMIT) {
        crashdisk_touch(g.disk, f->file, at);
    }
    return 0;
}

WRAP(int, fsetxattr, int fd, const char *name, const void *value, size_t size, int flags)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_fsetxattr(fd, name, value, size, flags);
    }
    if (strikes(CRASHCALLS_XATTR, f->file)) {
        return -1;
    }
    crashdisk_xattr(g.disk, f->file, name, value, size);
    return 0;
}

static ssize_t get_xattr(int file, const char *name, void *to, size_t size)
{
    if (strikes(CRASHCALLS_XATTR, file)) {
        return -1;
    }
    const struct crashtree_xattr *x = crashtree_xattr(tree(), file, name);
    if (x == NULL) {
        return fail(ENODATA);
    }
    if (size > 0 && size < x->size) {
        return fail(ERANGE);
    }
    if (size > 0) {
        memcpy(to, x->value, x->size);
    }
    return (ssize_t)x->size;
}

WRAP(ssize_t, fgetxattr, int fd, const char *name, void *to, size_t size)
{
    struct fd *f = ours(fd);
    return f == NULL ? __real_fgetxattr(fd, name, to, size) : get_xattr(f->file, name, to, size);
}

WRAP(ssize_t, getxattr, const char *path, const char *name, void *to, size_t size)
{
    if (!is_ours(path)) {
        return __real_getxattr(path, name, to, size);
    }
    int file = crashtree_find(tree(), path);
    return file < 0 ? fail(ENOENT) : get_xattr(file, name, to, size);
}

WRAP(int, fremovexattr, int fd, const char *name)
{
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_fremovexattr(fd, name);
    }
    if (strikes(CRASHCALLS_XATTR, f->file)) {
        return -1;
    }
    if (crashtree_xattr(tree(), f->file, name) == NULL) {
        return fail(ENODATA);
    }
    crashdisk_xattr(g.disk, f->file, name, NULL, 0);
    return 0;
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *to = va_arg(args, void *);
    va_end(args);
    return ours(fd) != NULL ? fail(ENOTTY) : __real_ioctl(fd, request, to);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    long value = va_arg(args, long);
    va_end(args);
    struct fd *f = ours(fd);
    if (f == NULL) {
        return __real_fcntl(fd, command, value);
    }
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        return strikes(CRASHCALLS_OPEN, f->file) ? -1 : take(f->kind, f->file);
    }
    return command == F_GETFL ? O_RDWR : 0;
}

/* The control socket: nobody ever connects. */

WRAP(int, socket, int domain, int type, int protocol)
{
    (void)protocol;
    (void)domain;
    (void)type;
    return strikes(CRASHCALLS_OPEN, -1) ? -1 : take(FD_OTHER, -1);
}

WRAP(int, eventfd, unsigned value, int flags)
{
    (void)value;
    (void)flags;
    return strikes(CRASHCALLS_OPEN, -1) ? -1 : take(FD_OTHER, -1);
}

WRAP(int, bind, int fd, const struct sockaddr *address, socklen_t size)
{
    return ours(fd) != NULL ? 0 : __real_bind(fd, address, size);
}

WRAP(int, connect, int fd, const struct sockaddr *address, socklen_t size)
{
    return ours(fd) != NULL ? fail(ECONNREFUSED) : __real_connect(fd, address, size);
}

WRAP(int, listen, int fd, int queue)
{
    return ours(fd) != NULL ? 0 : __real_listen(fd, queue);
}

/* The world. */

WRAP(int, clock_gettime, clockid_t clock, struct timespec *ret)
{
    (void)clock;
    g.now_ns += 1000;
    *ret = (struct timespec){.tv_sec = (time_t)(g.now_ns / 1000000000U),
                             .tv_nsec = (long)(g.now_ns % 1000000000U)};
    return 0;
}

WRAP(ssize_t, getrandom, void *to, size_t size, unsigned flags)
{
    uint8_t *at = to;
    (void)flags;
    for (size_t i = 0; i < size; i++) {
        at[i] = (uint8_t)(1 + prng_below(&g.prng, 255));
    }
    return (ssize_t)size;
}

WRAP(int, pthread_cond_timedwait, pthread_cond_t *cond, pthread_mutex_t *mutex,
     const struct timespec *until)
{
    if (g.waiter != NULL && g.waiter(cond, mutex)) {
        return 0;
    }
    uint64_t at = (uint64_t)until->tv_sec * 1000000000U + (uint64_t)until->tv_nsec;
    g.now_ns = at > g.now_ns ? at : g.now_ns;
    return ETIMEDOUT;
}

WRAP(int, pthread_cond_wait, pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    TIDE_CHECK(g.waiter != NULL && g.waiter(cond, mutex)); /* it would wait for ever */
    return 0;
}
