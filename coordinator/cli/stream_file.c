/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/stream_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/io/file.h"

static uint8_t window[TIDE_SEGMENT_BUFFER]; /* of the one that is open */

/* The keys of the store that the last file was of. */
static const char *master_key;
static struct keyring *keyring;
static char keyring_store[PATH_MAX];

void stream_file_master_key(const char *file)
{
    master_key = file;
}

void stream_file_forget_keys(void)
{
    keyring_close(keyring);
    keyring = NULL;
    keyring_store[0] = '\0';
}

/* The keys of the store that has a file with that path, where a master key was named. */
static int keys_for(const char *path, struct keyring **ret, struct err *err)
{
    char store[PATH_MAX];
    const char *at = NULL;
    *ret = NULL;
    for (const char *next = strstr(path, "streams/"); next != NULL;
         next = strstr(next + 1, "streams/")) {
        at = next == path || next[-1] == '/' ? next : at;
    }
    if (master_key == NULL || at == NULL) {
        return 0;
    }
    snprintf(store, sizeof(store), "%.*s", (int)(at - path), path);
    if (at == path) {
        snprintf(store, sizeof(store), ".");
    }
    if (keyring == NULL || strcmp(store, keyring_store) != 0) {
        stream_file_forget_keys();
        if (keyring_open(store, master_key, &keyring, err) != 0)
            return -1;
        snprintf(keyring_store, sizeof(keyring_store), "%s", store);
    }
    *ret = keyring;
    return 0;
}

static int input_read(void *context, uint64_t number, uint64_t offset, void *to, size_t size,
                      size_t *ret_got, struct err *err)
{
    struct stream_input *input = context;
    struct source source = segment_file_source(&input->file);
    *ret_got = 0;
    return number != input->number ? 0
                                   : source.read(source.context, 0, offset, to, size, ret_got, err);
}

static int input_size(void *context, uint64_t number, uint64_t *ret_size, struct err *err)
{
    struct stream_input *input = context;
    struct source source = segment_file_source(&input->file);
    *ret_size = 0;
    return number != input->number ? 0 : source.size(source.context, 0, ret_size, err);
}

static int input_open(struct stream_input *input, const char *path, struct err *err)
{
    struct stat st;
    struct keyring *keys;
    *input = (struct stream_input){.path = path};
    if (stat(path, &st) != 0)
        return file_err(err, errno, "'%s': cannot open", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, TIDE_ERR_USAGE, "'%s': not a regular file", path);
    if (keys_for(path, &keys, err) != 0)
        return -1;
    return segment_file_open(&input->file, keys, path, err);
}

static struct source input_source(struct stream_input *input)
{
    return (struct source){.read = input_read, .size = input_size, .context = input};
}

static int open_log(struct stream_file *file, struct err *err)
{
    struct source source = input_source(&file->input);
    uint8_t head[TIDE_LOG_HEADER];
    size_t got;
    if (input_read(&file->input, 0, 0, head, sizeof(head), &got, err) != 0)
        return -1;
    if (got < sizeof(head))
        return err_set(err, TIDE_ERR_CORRUPT, "offset %zu: the file ends within its header", got);
    static const uint8_t zeroes[TIDE_LOG_HEADER];
    file->unused = memcmp(head, zeroes, sizeof(zeroes)) == 0;
    if (file->unused)
        return 0;
    if (log_header_decode(head, &file->log_header, err) != 0)
        return err_wrap(err, "offset 0");
    const struct log_header *h = &file->log_header;
    struct log_ring ring = {
        .stream = h->stream, .files = TIDE_LOG_FILES_MIN, .file_size = h->file_size};
    file->input.number = h->sequence % ring.files;
    log_reader_init(&file->log, &source, &ring, h->sequence * h->file_size, h->first_lsn,
                    h->incarnation, window, sizeof(window));
    return 0;
}

int stream_file_open(struct stream_file *file, const char *path, struct err *err)
{
    uint8_t magic[8];
    size_t got = 0;
    struct err why = {0};
    memset(file, 0, sizeof(*file));
    if (input_open(&file->input, path, err) != 0)
        return -1;
    struct source source = input_source(&file->input);
    int failed = input_read(&file->input, 0, 0, magic, sizeof(magic), &got, &why);
    if (failed == 0 && got == sizeof(magic) &&
        (memcmp(magic, "TIDELOG", 7) == 0 || memcmp(magic, "\0\0\0\0\0\0\0\0", 8) == 0)) {
        file->is_log = true;
        failed = open_log(file, &why);
    } else if (failed == 0 && got == sizeof(magic) && memcmp(magic, "TIDESEG", 7) == 0) {
        failed = segment_reader_init(&file->segment, &source, 0, window, sizeof(window), &why);
        if (failed == 0)
            failed = segment_reader_verify(&file->segment, &why);
    } else if (failed == 0) {
        failed = err_set(&why, TIDE_ERR_CORRUPT,
                         "offset 0: neither a segment nor a log file of a stream");
    }
    if (failed != 0) {
        stream_file_close(file);
        return err_set(err, why.code, "'%s': %s", path, why.text);
    }
    return 0;
}

int stream_file_next(struct stream_file *file, struct record *ret, uint64_t *ret_offset,
                     size_t *ret_size, struct err *err)
{
    const uint8_t *bytes;
    int more;
    if (file->unused)
        return 0;
    if (file->is_log) {
        more = log_reader_next(&file->log, ret, &bytes, ret_size, err);
        if (more == 0 && file->log.end == LOG_END_NONE) {
            more = 1;
            *ret_offset = (file->log.position - *ret_size) % file->log.ring.file_size;
        }
    } else {
        more = segment_reader_next(&file->segment, ret, &bytes, ret_size, err);
        *ret_offset = file->segment.offset - (more > 0 ? *ret_size : 0);
    }
    if (more < 0)
        return err_wrap(err, "'%s'", file->input.path);
    if (more > 0) {
        file->records++;
        file->last_lsn = ret->lsn;
    }
    return more;
}

const char *stream_file_tail(const struct stream_file *file)
{
    if (file->unused)
        return "a file of a log that has not been used yet";
    return file->is_log && file->log.end == LOG_END_TORN ? file->log.torn.text : "";
}

int stream_file_index(struct stream_file *file, const char *path, struct err *err)
{
    memset(file, 0, sizeof(*file));
    if (input_open(&file->input, path, err) != 0)
        return -1;
    struct source source = input_source(&file->input);
    if (segment_reader_init(&file->segment, &source, 0, window, sizeof(window), err) != 0) {
        stream_file_close(file);
        return err_wrap(err, "'%s'", path);
    }
    return 0;
}

int stream_file_read(struct stream_file *file, const char *path, struct err *err)
{
    struct record r;
    uint64_t offset;
    size_t size;
    if (stream_file_open(file, path, err) != 0)
        return -1;
    int more;
    do {
        more = stream_file_next(file, &r, &offset, &size, err);
    } while (more > 0);
    stream_file_close(file);
    return more;
}

void stream_file_close(struct stream_file *file)
{
    segment_file_close(&file->input.file);
}
