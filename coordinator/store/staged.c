/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/store/staged.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/file.h"
#include "coordinator/store/object.h"

static void forget(struct staged *staged, unsigned index)
{
    staged->bytes -= staged->list[index].size;
    staged->count--;
    memmove(&staged->list[index], &staged->list[index + 1],
            (staged->count - index) * sizeof(staged->list[0]));
}

/* A file that cannot be removed is passed over by its next start, or written over. */
static void discard(struct staged *staged, const char *store, const struct id *stream,
                    unsigned index)
{
    char path[PATH_MAX];
    const struct manifest_segment *s = &staged->list[index];
    manifest_staged_path(store, stream, s->first, s->last, path);
    (void)unlink(path);
    forget(staged, index);
}

static void insert(struct staged *staged, const struct manifest_segment *segment)
{
    unsigned at = staged->count;
    TIDE_CHECK(staged->count < TIDE_STAGED_MAX);
    while (at > 0 && staged->list[at - 1].first > segment->first) {
        staged->list[at] = staged->list[at - 1];
        at--;
    }
    staged->list[at] = *segment;
    staged->count++;
    staged->bytes += segment->size;
}

static bool has_room(const struct staged *staged, uint64_t size)
{
    return staged->count < TIDE_STAGED_MAX && size <= TIDE_STAGED_BYTES_MAX - staged->bytes;
}

static bool overlaps_last(const struct staged *staged, uint64_t first)
{
    return staged->count > 0 && staged->list[staged->count - 1].last >= first;
}

int staged_load(struct staged *staged, const char *store, const struct id *stream,
                uint64_t stored_lsn, unsigned *ret_gone, struct err *err)
{
    char hex[TIDE_ID_HEX];
    char relative[PATH_MAX];
    char path[PATH_MAX + 300];
    char **names = NULL;
    size_t count = 0;
    unsigned gone = 0;
    snprintf(relative, sizeof(relative), "streams/%s/staged", id_hex(stream, hex));
    if (object_names(store, relative, "", &names, &count, err) < 0) {
        return -1;
    }
    for (size_t k = 0; k < count; k++) { /* sorted, and so by first */
        struct manifest_segment s = {0};
        struct stat st;
        bool named = manifest_staged_name(names[k], &s.first, &s.last);
        snprintf(path, sizeof(path), "%s/%s/%s", store, relative, names[k]);
        if (named && s.first > stored_lsn && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
            has_room(staged, (uint64_t)st.st_size) && !overlaps_last(staged, s.first)) {
            s.size = (uint64_t)st.st_size;
            insert(staged, &s);
        } else {
            gone += named ? 1 : 0;
            (void)unlink(path);
        }
    }
    object_names_free(names);
    *ret_gone = gone;
    return 0;
}

uint64_t staged_received(const struct staged *staged, uint64_t stored_lsn)
{
    uint64_t received = stored_lsn;
    for (unsigned k = 0; k < staged->count; k++) {
        if (staged->list[k].first == received + 1) {
            received = staged->list[k].last;
        }
    }
    return received;
}

static int make_folder(const char *store, const struct id *stream, struct err *err)
{
    char hex[TIDE_ID_HEX];
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/streams/%s/staged", store, id_hex(stream, hex));
    return file_mkdirs(path, 0750, err);
}

int staged_put(struct staged *staged, const char *store, const struct segment_form *form,
               const struct manifest_segment *segment, const struct manifest_stream *about,
               const void *bytes, uint64_t due, bool *ret_known, struct err *err)
{
    char path[PATH_MAX];
    unsigned k = 0;
    const struct id *stream = &about->stream;
    while (k < staged->count) {
        const struct manifest_segment *s = &staged->list[k];
        if (s->first == segment->first && s->last == segment->last &&
            hash_equal(&s->hash, &segment->hash)) {
            *ret_known = true;
            return 0;
        }
        if (s->first <= segment->last && s->last >= segment->first) {
            discard(staged, store, stream, k);
        } else {
            k++;
        }
    }
    if (!has_room(staged, segment->size)) {
        return err_set(err, TIDE_ERR_BUSY,
                       "LSN %" PRIu64 " is due, and %u segments of %" PRIu64
                       " bytes behind it are here already, of %u and %u bytes at most; send what "
                       "is due, then this again",
                       due, staged->count, staged->bytes, TIDE_STAGED_MAX, TIDE_STAGED_BYTES_MAX);
    }
    manifest_staged_path(store, stream, segment->first, segment->last, path);
    if (make_folder(store, stream, err) < 0 ||
        segment_file_write(form, &about->group, path, bytes, segment->size, err) < 0) {
        return -1;
    }
    insert(staged, segment);
    *ret_known = false;
    return 0;
}

struct manifest_segment *staged_at(struct staged *staged, uint64_t first)
{
    for (unsigned k = 0; k < staged->count; k++) {
        if (staged->list[k].first == first) {
            return &staged->list[k];
        }
    }
    return NULL;
}

int staged_move(struct staged *staged, const char *store, const struct id *stream, uint64_t first,
                struct err *err)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    const struct manifest_segment *s = staged_at(staged, first);
    TIDE_CHECK(s != NULL);
    unsigned index = (unsigned)(s - staged->list);
    manifest_staged_path(store, stream, s->first, s->last, from);
    manifest_segment_path(store, stream, s->first, s->last, to);
    int rc = rename(from, to) < 0 ? file_err(err, errno, "move '%s' to '%s'", from, to) : 0;
    if (rc == 0 && file_sync_parent(to, err) < 0) {
        (void)unlink(to);
        rc = -1;
    }
    if (rc == 0) {
        forget(staged, index);
    } else {
        discard(staged, store, stream, index);
    }
    return rc;
}

void staged_drop(struct staged *staged, const char *store, const struct id *stream, uint64_t lsn)
{
    while (staged->count > 0 && staged->list[0].first <= lsn) {
        discard(staged, store, stream, 0);
    }
}
