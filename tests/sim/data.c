/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/data.h"

#include "common/core/check.h"
#include "tests/sim/far.h"
#include "tests/sim/listed.h"
#include "tests/sim/model.h"
#include "tests/sim/ship.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER 8192U

struct data {
    struct roundlab *lab;
    const struct definition *definition;
    struct check *check;
    struct listed *listed; /* instead of what follows; NULL: there are disks */
    struct simtaps *taps;
    struct far *far;
    struct ship *ship;
    struct model *model;
    uint64_t seed;
};

static uint64_t now_us(const struct data *data)
{
    return roundlab_now(data->lab);
}

/* ---- who tells whom; while the lab is being made nobody does ---- */

static void saw_change(void *context, unsigned disk, const struct simtap_change *change,
                       uint64_t lsn)
{
    model_change(((struct data *)context)->model, disk, change, lsn);
}

static void saw_applied(void *context, unsigned disk, unsigned number, bool ok)
{
    model_applied(((struct data *)context)->model, disk, number, ok);
}

static void saw_flushed(void *context, unsigned disk, unsigned number)
{
    model_flushed(((struct data *)context)->model, disk, number);
}

static void saw_synced(void *context, unsigned disk, uint64_t lsn)
{
    struct data *data = context;
    if (data->model != NULL) {
        model_synced(data->model, disk, lsn);
    }
}

static void saw_log_failed(void *context, unsigned disk)
{
    model_log_failed(((struct data *)context)->model, disk);
}

static void saw_reclaimed(void *context, unsigned disk, uint64_t lsn)
{
    struct data *data = context;
    if (data->model != NULL) {
        model_reclaimed(data->model, now_us(data), disk, lsn, far_durable(data->far, disk));
    }
}

static void saw_began(void *context, unsigned disk, const uint8_t *image)
{
    struct data *data = context;
    if (data->model != NULL) {
        model_began(data->model, now_us(data), disk, image);
    }
}

static void saw_stored(void *context, unsigned disk, uint64_t lsn)
{
    model_stored(((struct data *)context)->model, disk, lsn);
}

static void saw_lost(void *context, unsigned disk, const char *why)
{
    struct data *data = context;
    char text[300];
    const struct definition *d = data->definition;
    snprintf(text, sizeof text, "%s/%s: %s", d->members[d->disks[disk].member].name.s,
             d->disks[disk].name.s, why);
    check_breach(data->check, now_us(data), "lost", "%s", text);
}

static void saw_fork(void *context, unsigned disk, uint64_t lsn)
{
    char text[100];
    snprintf(text, sizeof text, "a fork behind LSN %" PRIu64, lsn);
    saw_lost(context, disk, text);
}

/* ---- life ---- */

struct data *data_new(struct roundlab_config *config, const struct data_config *want)
{
    struct data *data = calloc(1, sizeof *data);
    TIDE_CHECK(data != NULL);
    data->seed = config->seed;
    if (want->listed) {
        return data;
    }
    const struct simtaps_config taps = {.disks = config->members * ROUNDLAB_DISKS,
                                        .seed = config->seed,
                                        .log_files = want->log_files,
                                        .log_file = want->log_file,
                                        .based = want->based,
                                        .watch = {saw_change, saw_applied, saw_flushed, saw_synced,
                                                  saw_log_failed, saw_reclaimed, saw_began, data}};
    data->taps = simtaps_new(&taps);
    config->disks = simtaps_disks(data->taps);
    config->disk_size = SIMTAP_SIZE;
    return data;
}

void data_open(struct data *data, struct roundlab *lab, struct check *check)
{
    data->lab = lab;
    data->definition = roundlab_definition(lab);
    data->check = check;
    if (data->taps == NULL) {
        data->listed = listed_new(lab, check, data->seed);
        return;
    }
    const struct far_watch watch = {saw_stored, saw_fork, data};
    data->far = far_new(lab, data->seed, &watch);
    data->ship = ship_new(lab, data->taps, data->far, data->seed, saw_lost, data);
    data->model = model_new(data->definition, check);
    for (unsigned d = 0; d < data->definition->disk_count; d++) {
        model_synced(data->model, d, simtap_log(data->taps, d).synced_lsn);
        model_base(data->model, d, simtap_image(data->taps, d));
    }
}

void data_free(struct data *data)
{
    if (data == NULL) {
        return;
    }
    if (data->listed != NULL) {
        listed_free(data->listed);
        free(data);
        return;
    }
    ship_free(data->ship);
    far_free(data->far);
    model_free(data->model);
    simtaps_free(data->taps);
    free(data);
}

void data_record(struct data *data, unsigned disk, const struct record *record)
{
    if (data->listed == NULL) {
        model_record(data->model, now_us(data), disk, record);
    }
}

void data_cut(struct data *data, unsigned disk, uint64_t lsn)
{
    model_cut(data->model, now_us(data), disk, lsn, far_received(data->far, disk));
}

/* ---- faults ---- */

void data_power(struct data *data, unsigned member)
{
    if (data->listed != NULL) {
        return; /* lists lose nothing */
    }
    for (unsigned d = member * ROUNDLAB_DISKS; d < (member + 1) * ROUNDLAB_DISKS; d++) {
        model_power(data->model, d);
        simtap_power(data->taps, d);
    }
}

void data_fail(struct data *data, unsigned disk, enum simtap_fault fault, bool on)
{
    if (data->listed == NULL) {
        simtap_fail(data->taps, disk, fault, on);
    }
}

void data_far(struct data *data, bool up)
{
    if (data->listed != NULL) {
        listed_far(data->listed, up);
        return;
    }
    if (!up) {
        far_down(data->far);
        return;
    }
    if (far_is_up(data->far)) {
        return;
    }
    far_up(data->far);
    for (unsigned d = 0; d < data->definition->disk_count; d++) {
        model_holds(data->model, now_us(data), d, far_durable(data->far, d));
    }
    far_define(data->far);
    const char *what = far_catalog_differs(data->far);
    if (what != NULL) {
        check_breach(data->check, now_us(data), "catalog", "%s", what);
    }
}

void data_step(struct data *data)
{
    if (data->listed != NULL) {
        listed_step(data->listed);
    }
}

void data_define(struct data *data)
{
    if (data->listed != NULL) {
        listed_define(data->listed);
        return;
    }
    far_define(data->far);
}

void data_reread(struct data *data, struct prng *prng)
{
    if (data->listed != NULL) {
        listed_reread(data->listed, prng);
        return;
    }
    far_again(data->far, prng);
}

bool data_log_failed(const struct data *data, unsigned disk)
{
    return data->listed == NULL && simtap_failed(data->taps, disk);
}

bool data_copy_due(const struct data *data, unsigned disk)
{
    return data->listed != NULL
               ? roundlab_tap_running(data->lab, disk) && !roundlab_tap_whole(data->lab, disk)
               : !simtap_whole(data->taps, disk);
}

const struct align *data_align(const struct data *data)
{
    return data->listed != NULL ? listed_align(data->listed) : far_align(data->far);
}

/* ---- the end ---- */

struct recovery {
    const struct align *align;
    uint8_t image[SIMTAP_SIZE];
};

/* proto/hrl.md, "The disk at an LSN". */
static void fold(struct data *data, unsigned disk, const struct record *record, struct recovery *r)
{
    const struct record_write *w = &record->write;
    if (record->type == RECORD_WRITE) {
        model_stored_write(data->model, now_us(data), disk, record);
    }
    if (record->type == RECORD_WRITE || record->type == RECORD_COPY_BLOCK) {
        memcpy(r->image + w->offset, w->data, w->size);
    } else if (record->type == RECORD_ZERO) {
        memset(r->image + w->offset, 0, w->size);
    } else if (record->type == RECORD_BOOKMARK) {
        const struct align_round *round = align_find(r->align, &record->bookmark.order.round);
        const struct align_entry *entry =
            round == NULL || round->answer != ROUND_ANSWER_YES
                ? NULL
                : align_entry(round, &data->definition->disks[disk].stream);
        if (entry != NULL && entry->mark.lsn == record->lsn &&
            far_in_set(data->far, &round->order, &entry->mark.stream)) {
            model_recovered(data->model, now_us(data), disk, record, r->image);
        }
    }
}

static void recover(struct data *data, unsigned disk, const struct align *align)
{
    struct segment_reader *reader = malloc(sizeof *reader);
    uint8_t *buffer = malloc(BUFFER);
    struct recovery r = {.align = align};
    TIDE_CHECK(reader != NULL && buffer != NULL);
    for (size_t i = 0; i < far_count(data->far, disk); i++) {
        struct source_part part;
        struct source_memory memory = {.parts = &part, .count = 1};
        struct source source = source_memory(&memory);
        struct record record;
        struct err err;
        part.base = far_object(data->far, disk, i, &part.size);
        TIDE_CHECK(segment_reader_init(reader, &source, 0, buffer, BUFFER, &err) == 0);
        int got = 0;
        while ((got = segment_reader_next(reader, &record, NULL, NULL, &err)) == 1) {
            fold(data, disk, &record, &r);
        }
        TIDE_CHECK(got == 0);
    }
    free(buffer);
    free(reader);
}

struct align *data_judge(struct data *data)
{
    if (data->listed != NULL) {
        return listed_judge(data->listed);
    }
    struct align *align = far_reread(data->far);
    for (unsigned d = 0; d < data->definition->disk_count; d++) {
        model_holds(data->model, now_us(data), d, far_durable(data->far, d));
        check_shown(data->check, d, far_durable(data->far, d));
        recover(data, d, align);
    }
    far_define(data->far);
    const char *what = far_is_up(data->far) ? far_catalog_differs(data->far) : NULL;
    if (what != NULL) {
        check_breach(data->check, now_us(data), "catalog", "%s", what);
    }
    return align;
}

unsigned data_compared(const struct data *data)
{
    return data->listed != NULL ? 0 : model_compared(data->model);
}
