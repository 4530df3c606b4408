/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/segment_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/hrl/segment.h"
#include "common/io/file.h"

/* ---- the file ---- */

static int read_at(void *context, uint64_t number, uint64_t offset, void *to, size_t size,
                   size_t *ret_got, struct err *err)
{
    struct segment_file *file = context;
    size_t got = 0;
    if (number != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "'%s' is one file", file->path);
    }
    while (got < size) {
        ssize_t n = pread(file->fd, (char *)to + got, size - got, (off_t)(offset + got));
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return file_err(err, errno, "read '%s'", file->path);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    *ret_got = got;
    return 0;
}

static int size_of(void *context, uint64_t number, uint64_t *ret_size, struct err *err)
{
    struct segment_file *file = context;
    struct stat st;
    if (number != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "'%s' is one file", file->path);
    }
    if (fstat(file->fd, &st) < 0) {
        return file_err(err, errno, "look at '%s'", file->path);
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static struct source file_source(struct segment_file *file)
{
    return (struct source){.read = read_at, .size = size_of, .context = file};
}

/* ---- the box ---- */

/* "streams/<stream>/<first>-<last>" of a path; false: it has no such end. */
static bool name_of(const char *path, char ret[BOX_NAME_MAX])
{
    const char *parts[4]; /* streams, stream, folder, file: where each begins */
    const char *at = path + strlen(path);
    for (int k = 3; k >= 0; k--) {
        while (at > path && at[-1] != '/') {
            at--;
        }
        parts[k] = at;
        if (k > 0 && at == path) {
            return false;
        }
        at -= at > path ? 1 : 0;
    }
    const char *dot = strchr(parts[3], '.');
    int stem = dot != NULL ? (int)(dot - parts[3]) : (int)strlen(parts[3]);
    int n = snprintf(ret, BOX_NAME_MAX, "streams/%.*s%.*s", (int)(parts[2] - parts[1]), parts[1],
                     stem, parts[3]);
    return strncmp(parts[0], "streams/", 8) == 0 && n > 0 && n < (int)BOX_NAME_MAX;
}

static int open_box(struct segment_file *file, struct keyring *keyring, struct err *err)
{
    struct source source = file_source(file);
    struct box_head head;
    struct keyring_key key;
    char name[BOX_NAME_MAX];
    if (!name_of(file->path, name)) {
        return err_set(
            err, TIDE_ERR_USAGE,
            "it is encrypted, and is read only as streams/STREAM/segments/FIRST-LAST.hrl "
            "of a store or of a copy of one");
    }
    if (box_head_read(&source, 0, &head, err) < 0 ||
        keyring_find(keyring, &head.key_id, head.generation, &key, err) < 0) {
        return -1;
    }
    int rc = box_reader_open(&source, 0, key.key, name, &file->box, err);
    OPENSSL_cleanse(&key, sizeof(key));
    return rc;
}

static int is_box(struct segment_file *file, bool *ret, struct err *err)
{
    char magic[8];
    size_t got = 0;
    if (read_at(file, 0, 0, magic, sizeof(magic), &got, err) < 0) {
        return -1;
    }
    *ret = got == sizeof(magic) && memcmp(magic, "TIDEBOX", sizeof(magic)) == 0;
    return 0;
}

int segment_file_open(struct segment_file *file, struct keyring *keyring, const char *path,
                      struct err *err)
{
    bool box = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return file_err(err, errno, "open '%s'", path);
    }
    file->fd = fd;
    file->box = NULL;
    snprintf(file->path, sizeof(file->path), "%s", path);
    int rc = is_box(file, &box, err);
    if (rc == 0 && box && open_box(file, keyring, err) < 0) {
        rc = err_wrap(err, "'%s'", path);
    }
    if (rc < 0) {
        segment_file_close(file);
    }
    return rc;
}

void segment_file_close(struct segment_file *file)
{
    box_reader_free(file->box);
    file->box = NULL;
    close(file->fd);
    file->fd = -1;
}

struct source segment_file_source(struct segment_file *file)
{
    return file->box != NULL ? box_reader_source(file->box) : file_source(file);
}

int segment_file_read(struct keyring *keyring, const char *path, uint8_t **ret_bytes,
                      size_t *ret_size, struct err *err)
{
    struct segment_file file;
    uint64_t size = 0;
    size_t got = 0;
    if (segment_file_open(&file, keyring, path, err) < 0) {
        return -1;
    }
    struct source source = segment_file_source(&file);
    int rc = source.size(source.context, 0, &size, err);
    if (rc == 0 && size > TIDE_SEGMENT_MAX) {
        rc = err_set(err, TIDE_ERR_LIMIT, "%llu bytes; a segment has at most %u",
                     (unsigned long long)size, TIDE_SEGMENT_MAX);
    }
    uint8_t *bytes = NULL;
    if (rc == 0) {
        bytes = malloc((size_t)size + 1);
        rc = bytes == NULL ? err_set(err, TIDE_ERR_LIMIT, "no memory for a segment") : 0;
    }
    if (rc == 0) {
        rc = source.read(source.context, 0, 0, bytes, (size_t)size, &got, err);
    }
    segment_file_close(&file);
    if (rc < 0) {
        free(bytes);
        return err_wrap(err, "'%s'", path);
    }
    bytes[got] = '\0';
    *ret_bytes = bytes;
    *ret_size = got;
    return 0;
}

/* ---- writing ---- */

static int fill_box(struct box_writer *writer, const void *bytes, size_t size, struct err *err)
{
    struct box_info info;
    if (box_writer_add(writer, bytes, size, err) < 0) {
        return -1;
    }
    return box_writer_end(writer, &info, err);
}

static int write_box(const struct segment_form *form, const struct name *group, const char *path,
                     const void *bytes, size_t size, struct err *err)
{
    struct keyring_key key;
    char name[BOX_NAME_MAX];
    if (!name_of(path, name)) {
        return err_set(err, TIDE_ERR_USAGE, "'%s' is no place for a segment", path);
    }
    if (keyring_current(form->keyring, group, &key, err) < 0) {
        return -1;
    }
    struct box_options options = {
        .head = {.block_size = BOX_BLOCK, .key_id = key.id, .generation = key.generation},
        .name = name,
        .level = form->level};
    file_random(options.head.salt, sizeof(options.head.salt));
    memcpy(options.key, key.key, BOX_KEY);
    size_t room = box_size_max(size, BOX_BLOCK);
    struct sink_memory memory = {.base = malloc(room), .size = room};
    struct sink sink = sink_memory(&memory);
    struct box_writer *writer = NULL;
    int rc = memory.base == NULL ? err_set(err, TIDE_ERR_LIMIT, "no memory for a box") : 0;
    if (rc == 0) {
        rc = box_writer_new(&options, &sink, &writer, err);
    }
    if (rc == 0) {
        rc = fill_box(writer, bytes, size, err);
    }
    box_writer_free(writer);
    if (rc == 0) {
        rc = file_replace(path, memory.base, memory.used, 0640, err);
    }
    free(memory.base);
    OPENSSL_cleanse(&key, sizeof(key));
    OPENSSL_cleanse(options.key, sizeof(options.key));
    return rc;
}

int segment_file_write(const struct segment_form *form, const struct name *group, const char *path,
                       const void *bytes, size_t size, struct err *err)
{
    if (form->keyring == NULL) {
        return file_replace(path, bytes, size, 0640, err);
    }
    return write_box(form, group, path, bytes, size, err);
}
