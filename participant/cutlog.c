/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/cutlog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/hrl/crc.h"
#include "common/io/file.h"

#define HEADER   64U
#define ENTRY    128U
#define FILE_MAX (HEADER + ENTRY * CUTLOG_ENTRIES_MAX)

static const uint8_t magic[8] = {'T', 'I', 'D', 'E', 'C', 'U', 'T', '0'};

static void encode_header(const struct cutlog *log, uint8_t to[HEADER])
{
    struct bytes_writer w = bytes_writer(to, HEADER);
    bytes_put(&w, magic, sizeof magic);
    bytes_put(&w, log->stream.b, TIDE_ID_SIZE);
    bytes_put_zero(&w, HEADER - w.used);
}

static void encode_entry(const struct cutlog_entry *entry, uint8_t to[ENTRY])
{
    struct bytes_writer w = bytes_writer(to, ENTRY);
    bytes_put_zero(&w, 8);
    bytes_put_u64(&w, entry->first);
    bytes_put_u64(&w, entry->last);
    bytes_put_u64(&w, entry->position);
    bytes_put_u64(&w, entry->incarnation);
    bytes_put(&w, entry->before.b, TIDE_HASH_SIZE);
    bytes_put(&w, entry->hash.b, TIDE_HASH_SIZE);
    bytes_put_zero(&w, ENTRY - w.used);
    TIDE_CHECK(!w.failed);
    struct bytes_writer crc = bytes_writer(to, 4);
    bytes_put_u32(&crc, crc32c(to + 4, ENTRY - 4));
}

static bool decode_entry(const uint8_t from[ENTRY], struct cutlog_entry *ret)
{
    struct bytes_reader r = bytes_reader(from, ENTRY);
    if (bytes_get_u32(&r) != crc32c(from + 4, ENTRY - 4)) {
        return false;
    }
    bytes_get_zero(&r, 4);
    ret->first = bytes_get_u64(&r);
    ret->last = bytes_get_u64(&r);
    ret->position = bytes_get_u64(&r);
    ret->incarnation = bytes_get_u64(&r);
    bytes_get(&r, ret->before.b, TIDE_HASH_SIZE);
    bytes_get(&r, ret->hash.b, TIDE_HASH_SIZE);
    bytes_get_zero(&r, r.left);
    return !r.failed && ret->first > 0 && ret->first <= ret->last && ret->last < UINT64_MAX;
}

static bool follows(const struct cutlog *log, const struct cutlog_entry *entry)
{
    if (log->count == 0) {
        return true;
    }
    const struct cutlog_entry *last = &log->entries[log->count - 1];
    return entry->first == last->last + 1 && hash_equal(&entry->before, &last->hash);
}

static int parse(struct cutlog *log, const uint8_t *bytes, size_t size, struct err *err)
{
    uint8_t header[HEADER];
    encode_header(log, header);
    if (size < HEADER || memcmp(bytes, header, HEADER) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "\"%s\" is not the cut journal of this stream; move it away: the far side "
                       "then says where to go on",
                       log->path);
    }
    size_t entries = (size - HEADER) / ENTRY;
    for (size_t i = 0; i < entries; i++) {
        struct cutlog_entry entry;
        if (!decode_entry(bytes + HEADER + i * ENTRY, &entry) || !follows(log, &entry)) {
            if (i + 1 == entries) {
                break; /* the tail of a crash: its PUT was never begun */
            }
            return err_set(err, TIDE_ERR_CORRUPT,
                           "\"%s\": entry %zu is damaged; move the file away: the far side then "
                           "says where to go on",
                           log->path, i + 1);
        }
        log->entries[log->count++] = entry;
    }
    return 0;
}

/* Whether the descriptor's file is still the one that the path names. */
static bool is_replaced(const struct cutlog *log)
{
    struct stat st;
    return log->fd < 0 || fstat(log->fd, &st) != 0 || st.st_nlink == 0;
}

/* The whole file anew, from what is in memory but for the first `gone` entries; they are forgotten
 * and the descriptor is that file's once it is there, not before: an append goes by both. */
static int rewrite(struct cutlog *log, unsigned gone, struct err *err)
{
    uint8_t *bytes = malloc(FILE_MAX);
    unsigned count = log->count - gone;
    size_t size = HEADER + ENTRY * count;
    if (bytes == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "\"%s\": no memory to write it", log->path);
    }
    encode_header(log, bytes);
    for (unsigned i = 0; i < count; i++) {
        encode_entry(&log->entries[gone + i], bytes + HEADER + ENTRY * i);
    }
    int result = file_replace(log->path, bytes, size, 0600, err);
    free(bytes);
    int fd = result != 0 ? -1 : open(log->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && result == 0) {
        result = file_err(err, errno, "cannot open \"%s\"", log->path);
    }
    if (result != 0) {
        if (is_replaced(log)) {
            cutlog_close(log); /* the next append writes it anew */
        }
        return -1;
    }
    cutlog_close(log);
    log->fd = fd;
    memmove(log->entries, log->entries + gone, count * sizeof *log->entries);
    log->count = count;
    return 0;
}

int cutlog_open(struct cutlog *log, const char *state, const struct id *stream, struct err *err)
{
    char hex[TIDE_ID_HEX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err why = {0};
    *log = (struct cutlog){.stream = *stream, .fd = -1};
    snprintf(log->path, sizeof log->path, "%s/streams/%s.cuts", state, id_hex(stream, hex));
    if (file_read(log->path, FILE_MAX, &bytes, &size, &why) != 0) {
        if (why.code != TIDE_ERR_NOT_FOUND) {
            return err_set(err, why.code, "%s", why.text);
        }
        return rewrite(log, 0, err);
    }
    int result = parse(log, bytes, size, err);
    free(bytes);
    /* Rewriting drops a torn tail and makes sure that what was read is durable. */
    return result == 0 ? rewrite(log, 0, err) : -1;
}

void cutlog_close(struct cutlog *log)
{
    if (log->fd >= 0) {
        close(log->fd);
    }
    log->fd = -1;
}

int cutlog_append(struct cutlog *log, const struct cutlog_entry *entry, struct err *err)
{
    uint8_t bytes[ENTRY];
    if (!follows(log, entry)) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "cut from lsn %" PRIu64 " does not follow the journal \"%s\"", entry->first,
                       log->path);
    }
    if (log->count == CUTLOG_ENTRIES_MAX) {
        return err_set(err, TIDE_ERR_FULL, "cut journal \"%s\" is full", log->path);
    }
    if (log->fd < 0 && rewrite(log, 0, err) != 0) {
        return -1;
    }
    encode_entry(entry, bytes);
    if (file_pwrite_full(log->fd, bytes, ENTRY, HEADER + (uint64_t)ENTRY * log->count, log->path,
                         err) != 0) {
        return -1;
    }
    if (fdatasync(log->fd) != 0) {
        return file_err(err, errno, "cannot sync \"%s\"", log->path);
    }
    log->entries[log->count++] = *entry;
    return 0;
}

int cutlog_trim(struct cutlog *log, uint64_t stored_lsn, bool all, struct err *err)
{
    unsigned gone = 0;
    while (gone < log->count && log->entries[gone].last < stored_lsn) {
        gone++;
    }
    if (gone == 0 || (!all && gone < CUTLOG_ENTRIES_MAX / 2)) {
        return 0;
    }
    return rewrite(log, gone, err);
}

int cutlog_clear(struct cutlog *log, struct err *err)
{
    return rewrite(log, log->count, err);
}

const struct cutlog_entry *cutlog_at(const struct cutlog *log, uint64_t first)
{
    for (unsigned i = 0; i < log->count; i++) {
        if (log->entries[i].first == first) {
            return &log->entries[i];
        }
    }
    return NULL;
}

/* What the far side itself says against going on. */
static int check_far(const struct intake_stream_state *far, uint64_t next_lsn, struct err *err)
{
    if (far->forked) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "the coordinator has stopped this stream: it was sent two contents for one "
                       "LSN (a fork: a restored or copied disk?)%s%s",
                       far->text[0] != '\0' ? ": " : "", far->text);
    }
    if (far->stored_lsn >= next_lsn) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "fork: the coordinator has the stream up to lsn %" PRIu64
                       " and the tap only up to %" PRIu64
                       ": this log is older than what was sent (a restored copy?)",
                       far->stored_lsn, next_lsn - 1);
    }
    return 0;
}

/* Whether what the far side ends with is what was decided here. *resume->clear and fell_back are
 * set where nothing can be said against it. */
static bool is_ours(const struct cutlog *log, const struct intake_stream_state *far,
                    struct cutlog_resume *resume)
{
    if (log->count == 0) {
        return true;
    }
    const struct cutlog_entry *last = &log->entries[log->count - 1];
    resume->fell_back = far->stored_lsn + 1 < log->entries[0].first;
    resume->clear = resume->fell_back || far->stored_lsn > last->last;
    if (resume->clear) {
        return true;
    }
    const struct cutlog_entry *next = cutlog_at(log, far->stored_lsn + 1);
    if (next != NULL) {
        return hash_equal(&next->before, &far->head);
    }
    return far->stored_lsn == last->last && hash_equal(&last->hash, &far->head);
}

int cutlog_compare(const struct cutlog *log, const struct intake_stream_state *far,
                   uint64_t tail_lsn, uint64_t next_lsn, struct cutlog_resume *ret, struct err *err)
{
    struct cutlog_resume resume = {.first = far->stored_lsn + 1, .before = far->head};
    if (check_far(far, next_lsn, err) != 0) {
        return -1;
    }
    if (!is_ours(log, far, &resume)) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "fork: what the coordinator has up to lsn %" PRIu64
                       " is not what this daemon cut; is another daemon shipping the same stream?",
                       far->stored_lsn);
    }
    if (resume.first < tail_lsn) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "the coordinator has the stream up to lsn %" PRIu64
                       "%s, and the log begins at lsn %" PRIu64 " only",
                       far->stored_lsn,
                       resume.fell_back ? ", less than it once confirmed (a restored store?)" : "",
                       tail_lsn);
    }
    *ret = resume;
    return 0;
}
