/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/arrival.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/faultpoint.h"
#include "common/io/log.h"
#include "coordinator/intake/points.h"

static int verify(struct arrival *a, struct segment_info *info, struct err *err)
{
    char hex[TIDE_ID_HEX];
    if (store_check_segment(a->bytes, a->size, info, err) < 0) {
        return -1;
    }
    if (!id_equal(&info->header.stream, &a->about.stream)) {
        return err_set(err, TIDE_ERR_CORRUPT, "the segment is of another stream, '%s'",
                       id_hex(&info->header.stream, hex));
    }
    if (info->header.first_lsn != a->first) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the segment begins at LSN %" PRIu64 ", not at %" PRIu64 " as the path says",
                       info->header.first_lsn, a->first);
    }
    if (!id_equal(&info->header.timeline, &a->about.timeline)) {
        return err_set(err, TIDE_ERR_CONFLICT, "the segment is of another timeline, '%s'",
                       id_hex(&info->header.timeline, hex));
    }
    return 0;
}

void arrival_check(struct arrival *a)
{
    struct segment_info info;
    if (verify(a, &info, &a->err) < 0 ||
        points_extract(a->bytes, a->size, &a->records, &a->record_count, &a->err) < 0) {
        return;
    }
    a->segment = (struct manifest_segment){.first = info.header.first_lsn,
                                           .last = info.last_lsn,
                                           .hash = info.hash,
                                           .before = info.header.before,
                                           .incarnation = info.header.incarnation,
                                           .last_incarnation = info.last_incarnation,
                                           .size = a->size};
}

static int add_records(struct arrival *a, const struct record *records, size_t count,
                       struct err *err)
{
    struct record *more = realloc(a->records, (a->record_count + count + 1) * sizeof(*more));
    if (more == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for %zu records", count);
    }
    if (count > 0) {
        memcpy(more + a->record_count, records, count * sizeof(*more));
    }
    a->records = more;
    return 0;
}

/* One staged segment, as if it came now. Its records count only once it is taken. */
static int take_one(struct arrival *a, const struct manifest_segment *segment, const uint8_t *bytes,
                    struct err *err)
{
    struct record *records = NULL;
    size_t count = 0;
    enum store_put put = STORE_KNOWN;
    int rc = points_extract(bytes, segment->size, &records, &count, err);
    if (rc == 0) {
        rc = add_records(a, records, count, err);
    }
    free(records);
    if (rc == 0) {
        rc = store_put(a->store, &a->about.stream, segment, bytes, &put, &a->state, err);
    }
    if (rc == 0 && put == STORE_TAKEN) {
        a->record_count += count;
    }
    return rc;
}

/* What fails here is staged still, or comes again: its sender has not heard that it is stored. */
static void take_staged(struct arrival *a)
{
    struct manifest_segment segment;
    uint8_t *bytes = NULL;
    struct err e = {0};
    int rc = 0;
    while (rc == 0 && store_staged_due(a->store, &a->about.stream, &segment, &bytes)) {
        rc = take_one(a, &segment, bytes, &e);
        free(bytes);
    }
    if (rc < 0) {
        char hex[TIDE_ID_HEX];
        log_warn("stream %s: staged segment at LSN %" PRIu64 " is not taken: %s",
                 id_hex(&a->about.stream, hex), segment.first, e.text);
    }
}

void arrival_store(struct arrival *a)
{
    if (a->err.code != TIDE_ERR_OK || store_put(a->store, &a->about.stream, &a->segment, a->bytes,
                                                &a->result, &a->state, &a->err) < 0) {
        a->record_count = 0;
        return;
    }
    FAULT_POINT(a->record_count > 0, "segment-stored");
    if (a->result != STORE_TAKEN) {
        a->record_count = 0;
    }
    take_staged(a);
    /* Also where nothing was due: a staged one that was damaged has been dropped meanwhile. Other
     * threads read a->about meanwhile. */
    struct manifest_stream about;
    (void)store_stream_get(a->store, &a->about.stream, &about, &a->state);
}

void arrival_close(struct arrival *a)
{
    free(a->bytes);
    free(a->records);
    a->bytes = NULL;
    a->records = NULL;
    a->record_count = 0;
}
