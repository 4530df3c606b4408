/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/system/tap_far.h"

#include "common/core/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define COMPARE_MOST 40U /* blocks in one message: several messages for the smallest disk */

static int read_ring(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                     size_t *ret_got, struct err *err)
{
    const struct tap_far *far = context;
    ssize_t got = pread(far->ctl->ring[file], to, size, (off_t)offset);
    if (got < 0) {
        return err_set(err, TIDE_ERR_IO, "%s", strerror(errno));
    }
    *ret_got = (size_t)got;
    return 0;
}

static int size_ring(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    (void)file;
    (void)err;
    *ret_size = ((const struct tap_far *)context)->ctl->welcome.welcome.ring_file_size;
    return 0;
}

void tap_far_connect(struct tap_far *far, const struct tap_rig *rig, struct tap_ctl *ctl,
                     uint64_t size_max)
{
    const struct tapctl_welcome *w = &ctl->welcome.welcome;
    struct source source = {.read = read_ring, .size = size_ring, .context = far};
    struct log_ring ring = {
        .stream = w->stream, .files = w->ring_files, .file_size = w->ring_file_size};
    bool same = far->image != NULL && id_equal(&far->reader.ring.stream, &w->stream);
    uint64_t position = same ? far->reader.position : 0;
    uint64_t lsn = same ? far->reader.lsn : 1;
    uint64_t incarnation = same ? far->reader.incarnation : 0;
    if (!same) {
        tap_far_close(far);
        *far = (struct tap_far){.size_max = size_max};
        far->buffer = malloc(TIDE_LOG_BUFFER);
        far->image = calloc(1, size_max);
        assert_non_null(far->buffer);
        assert_non_null(far->image);
        whole_init(&far->whole);
    }
    far->rig = rig;
    far->ctl = ctl;
    log_reader_init(&far->reader, &source, &ring, position, lsn, incarnation, far->buffer,
                    TIDE_LOG_BUFFER);
}

void tap_far_close(struct tap_far *far)
{
    free(far->buffer);
    free(far->image);
    *far = (struct tap_far){0};
}

static void take_size(struct tap_far *far, uint64_t size)
{
    assert_true(size <= far->size_max);
    memset(far->image + size, 0, far->size_max - size);
    far->size = size;
}

static void take(struct tap_far *far, const struct record *r)
{
    const struct record_write *w = &r->write;
    far->records[(unsigned)r->type < 16 ? (unsigned)r->type : 0]++;
    whole_feed(&far->whole, r);
    switch ((unsigned)r->type) {
    case RECORD_ATTACH:
        take_size(far, r->attach.size);
        far->attach = r->attach;
        break;
    case RECORD_RESIZE:
        assert_int_equal(r->resize.before, far->size);
        take_size(far, r->resize.size);
        break;
    case RECORD_GAP:
        far->gap = r->gap;
        break;
    case RECORD_COPY_BEGIN:
        far->begin = r->copy_begin;
        break;
    case RECORD_WRITE:
    case RECORD_COPY_BLOCK:
        assert_true(w->offset + w->size <= far->size);
        memcpy(far->image + w->offset, w->data, w->size);
        far->block_bytes += r->type == RECORD_COPY_BLOCK ? w->size : 0;
        break;
    case RECORD_ZERO:
        assert_true(w->offset + w->size <= far->size);
        memset(far->image + w->offset, 0, w->size);
        far->zero_bytes += w->copy ? w->size : 0;
        break;
    default:
        break;
    }
}

void tap_far_follow(struct tap_far *far)
{
    tap_ctl_send(far->ctl, &(struct tapctl){.type = TAPCTL_SYNC, .serial = 77});
    struct tapctl_synced synced = tap_ctl_get(far->ctl, TAPCTL_SYNCED).synced;
    while (far->reader.lsn <= synced.lsn) {
        struct record record;
        struct err err;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        far->reader.through_lsn = synced.lsn;
        if (log_reader_next(&far->reader, &record, &bytes, &size, &err) != 0) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(far->reader.end, LOG_END_NONE);
        take(far, &record);
    }
    tap_ctl_send(far->ctl, &(struct tapctl){.type = TAPCTL_STORED, .lsn = {far->reader.lsn - 1}});
}

static void compare_some(struct tap_far *far, const struct tapctl_state *state)
{
    static uint8_t block[TIDE_TAPCTL_BLOCK];
    struct tapctl message = {
        .type = TAPCTL_COMPARED,
        .compared = {.begin_lsn = state->copy_lsn, .offset = state->compare_offset}};
    FILE *image = fopen(far->rig->image, "r");
    assert_non_null(image);
    assert_int_equal(fseek(image, (long)state->compare_offset, SEEK_SET), 0);
    for (uint64_t at = state->compare_offset;
         at < state->size && message.compared.count < COMPARE_MOST; at += sizeof block) {
        uint64_t left = state->size - at;
        uint64_t size = left < sizeof block ? left : sizeof block;
        uint32_t k = message.compared.count++;
        assert_int_equal(fread(block, 1, size, image), size);
        if (memcmp(block, far->image + at, size) != 0) {
            message.compared.differs[k / 8] |= (uint8_t)(1U << k % 8);
            far->differing_blocks++;
        }
    }
    far->compared_blocks += message.compared.count;
    assert_int_equal(fclose(image), 0);
    tap_ctl_send(far->ctl, &message);
}

void tap_far_serve(struct tap_far *far)
{
    struct tapctl_state state = tap_ctl_state(far->ctl);
    tap_far_follow(far);
    if (state.comparing && state.compare_offset < state.size) {
        assert_true(far->reader.lsn > state.copy_lsn);
        compare_some(far, &state);
    }
}

void tap_far_wait_whole(struct tap_far *far, void (*work)(void))
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (!tap_ctl_state(far->ctl).whole) {
        assert_true(tap_rig_now_ms() < until);
        tap_far_serve(far);
        if (work != NULL) {
            work();
        }
    }
    tap_far_follow(far);
}

void tap_far_equals(struct tap_far *far)
{
    static uint8_t block[TIDE_TAPCTL_BLOCK];
    tap_far_follow(far);
    assert_int_equal(far->whole.answer, ROUND_ANSWER_YES);
    FILE *image = fopen(far->rig->image, "r");
    assert_non_null(image);
    for (uint64_t at = 0; at < far->size; at += sizeof block) {
        uint64_t left = far->size - at;
        uint64_t size = left < sizeof block ? left : sizeof block;
        assert_int_equal(fread(block, 1, size, image), size);
        if (memcmp(block, far->image + at, size) != 0) {
            fail_msg("the block at %llu differs from what the stream says", (unsigned long long)at);
        }
    }
    assert_int_equal(fgetc(image), EOF);
    assert_int_equal(fclose(image), 0);
}
