/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that join and leave a group while it runs, and one that is resized: which definitions the
 * coordinator issues, and that no point is lost over it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/recover/materialize.h"
#include "tests/contract/far_rig.h"

#define STREAMS 3U /* web/data, app/data, web/extra */

static const char *const members[STREAMS] = {"web", "app", "web"};
static const char *const disks[STREAMS] = {"data", "data", "extra"};

static struct far far;
static struct far_stream extra;

static struct far_stream *stream_at(unsigned k)
{
    return k < FAR_MEMBERS ? &far.streams[k] : &extra;
}

static int setup(void **state)
{
    (void)state;
    far_make(&far, 77, NULL);
    extra = far.streams[0];
    far_stream_init(&far, 0);
    far_start(&far);
    far_apply(&far);
    far_register(&far);
    assert_int_equal(far.definition->epoch.number, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_stream_close(&extra);
    far_remove(&far);
    return 0;
}

/* ---- what the coordinator is told and asked ---- */

static json_t *member_json(const char *name, const char *participant, const char *address,
                           json_t *list)
{
    return json_pack("{s:s, s:s, s:s, s:o}", "name", name, "participant", participant, "address",
                     address, "disks", list);
}

/* The group with those of the three disks. */
static void apply(bool with_app, bool with_extra)
{
    json_t *list = json_array();
    json_array_append_new(
        list,
        member_json("web", "spiffe://lab/participant/m0", "127.0.0.11:20004",
                    with_extra ? json_pack("[s, s]", "data", "extra") : json_pack("[s]", "data")));
    if (with_app) {
        json_array_append_new(list, member_json("app", "spiffe://lab/participant/m1",
                                                "127.0.0.12:20004", json_pack("[s]", "data")));
    }
    json_decref(
        far_command(&far, json_pack("{s:s, s:{s:s, s:i, s:i, s:s, s:o}}", "command", "group-apply",
                                    "group", "group", "shop", "interval_ms", 1000, "hold_us_max",
                                    50000, "missing", "strict", "members", list)));
}

static void take_definition(const uint8_t *body, size_t size)
{
    struct intake_definitions d = {0};
    struct err err = {0};
    if (intake_definitions_decode(body, size, &d, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(d.count, 1);
    assert_int_equal(intake_definition_decode(d.groups[0].definition, d.groups[0].definition_size,
                                              far.definition, &err),
                     0);
    intake_definitions_close(&d);
}

static void ask_definition(uint64_t epoch)
{
    const uint8_t *body = NULL;
    size_t size = 0;
    int status = 0;
    struct err err = {0};
    assert_int_equal(http_request(far.clients[0], "GET", "/v0/definitions", NULL, 0, 10000, &status,
                                  &body, &size, &err),
                     0);
    assert_int_equal(status, 200);
    take_definition(body, size);
    assert_true(far.definition->epoch.number == epoch);
}

static struct intake_disk disk_at(unsigned k)
{
    const struct far_stream *s = stream_at(k);
    struct intake_disk disk = {.stream = s->stream,
                               .timeline = s->timeline,
                               .disk_id = s->disk_id,
                               .size = FAR_DISK_SIZE,
                               .block_size = 512};
    assert_true(name_parse("shop", &disk.group));
    assert_true(name_parse(members[k], &disk.member));
    assert_true(name_parse(disks[k], &disk.disk));
    return disk;
}

/* The HTTP status. */
static int register_disk(unsigned k, struct intake_disk disk)
{
    struct intake_register r = {.count = 1, .disks = &disk};
    uint8_t *bytes = NULL;
    const uint8_t *body = NULL;
    size_t size = 0;
    int status = 0;
    struct err err = {0};
    assert_int_equal(intake_register_encode(&r, &bytes, &size, &err), 0);
    assert_int_equal(http_request(far.clients[k % FAR_MEMBERS], "POST", "/v0/register", bytes, size,
                                  10000, &status, &body, &size, &err),
                     0);
    free(bytes);
    return status;
}

/* ---- rounds over what the definition has ---- */

struct round {
    struct round_order order;
    unsigned count;
    unsigned streams[STREAMS]; /* in the definition's order */
    struct round_mark marks[STREAMS];
    uint8_t *images[STREAMS]; /* by stream; NULL: not in it */
};

static void put_cut(unsigned k)
{
    struct far_segment segment;
    far_cut(stream_at(k), &segment);
    far_put_good(&far, k % FAR_MEMBERS, &segment);
}

static void write_some(void)
{
    for (unsigned k = 0; k < STREAMS; k++) {
        struct far_stream *s = stream_at(k);
        uint8_t data[4096];
        memset(data, (int)prng_below(&far.prng, 256), sizeof data);
        far_write_at(s, 512 * prng_below(&far.prng, FAR_DISK_SIZE / 512 - 8), data, sizeof data);
    }
}

static void fill_id(struct id *ret)
{
    for (unsigned k = 0; k < TIDE_ID_SIZE; k++) {
        ret->b[k] = (uint8_t)(prng_below(&far.prng, 255) + 1);
    }
}

/* Writes, then bookmarks for every disk of the definition as it is here. */
static void begin_round(struct round *r)
{
    const struct definition *d = far.definition;
    *r = (struct round){.order = {.group = d->group,
                                  .epoch = d->epoch,
                                  .scope = ROUND_SCOPE_GROUP,
                                  .kind = ROUND_KIND_CRASH}};
    fill_id(&r->order.round);
    set_init(&r->order.set, d->disk_count);
    for (unsigned i = 0; i < d->disk_count; i++) {
        set_add(&r->order.set, i);
    }
    write_some();
    for (unsigned i = 0; i < d->disk_count; i++) {
        unsigned k = 0;
        while (!id_equal(&stream_at(k)->stream, &d->disks[i].stream)) {
            assert_true(++k < STREAMS);
        }
        struct far_stream *s = stream_at(k);
        struct record mark = {.type = RECORD_BOOKMARK};
        mark.bookmark.order = r->order;
        mark.bookmark.wall_ns = clock_wall_ns();
        mark.bookmark.wall_error_us = UINT32_MAX;
        fill_id(&mark.bookmark.nonce);
        far_append(s, &mark);
        r->marks[i] = (struct round_mark){s->stream, s->incarnation, s->lsn, mark.bookmark.nonce};
        r->streams[r->count++] = k;
        r->images[k] = malloc(FAR_DISK_SIZE);
        assert_non_null(r->images[k]);
        memcpy(r->images[k], s->image, FAR_DISK_SIZE);
        put_cut(k);
    }
}

static void end_round(struct round *r)
{
    struct hash cut = round_cut_hash(&r->order, r->marks, r->count);
    for (unsigned i = 0; i < r->count; i++) {
        struct record seal = {.type = RECORD_SEAL};
        seal.seal.round = r->order.round;
        seal.seal.bookmark_lsn = r->marks[i].lsn;
        seal.seal.outcome = ROUND_OUTCOME_HELD;
        seal.seal.cut = cut;
        far_append(stream_at(r->streams[i]), &seal);
        put_cut(r->streams[i]);
    }
    far_await(&far, &r->order.round, ROUND_ANSWER_YES, "full");
}

static int export(const struct round *r, unsigned k, const char *to, struct err *err)
{
    char hex[TIDE_ID_HEX];
    json_t *point = NULL;
    struct materialize_result result;
    int rc = materialize_find(far.store, NULL, id_hex(&r->order.round, hex), &point, err);
    if (rc == 0) {
        struct materialize m = {
            .store = far.store, .point = point, .member = members[k], .disk = disks[k], .to = to};
        rc = materialize_run(&m, &result, err);
    }
    json_decref(point);
    return rc;
}

/* Each disk of the point is what it was; what was no disk of the group then is none of the point.
 */
static void check_exports(const struct round *r)
{
    char path[160];
    struct err err = {0};
    snprintf(path, sizeof(path), "%s/export.img", far.dir);
    for (unsigned k = 0; k < STREAMS; k++) {
        char beside[176];
        uint8_t *bytes = NULL;
        size_t size = 0;
        if (r->images[k] == NULL) {
            assert_int_equal(export(r, k, path, &err), -1);
            assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
            continue;
        }
        if (export(r, k, path, &err) < 0) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(file_read(path, FAR_DISK_SIZE, &bytes, &size, &err), 0);
        assert_int_equal(size, FAR_DISK_SIZE);
        assert_memory_equal(bytes, r->images[k], size);
        free(bytes);
        snprintf(beside, sizeof(beside), "%s.tidemark", path);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(unlink(beside), 0);
    }
}

/* Every one of the rounds is in the list, and nothing else. */
static void check_listed(const struct round *rounds, unsigned count)
{
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), count);
    for (unsigned i = 0; i < count; i++) {
        char hex[TIDE_ID_HEX];
        unsigned found = 0;
        id_hex(&rounds[i].order.round, hex);
        for (size_t k = 0; k < count; k++) {
            const json_t *point = json_object_get(json_array_get(points, k), "point");
            found += json_is_string(point) && strcmp(json_string_value(point), hex) == 0;
        }
        assert_int_equal(found, 1);
    }
    json_decref(points);
}

static void take_point(struct round *r, uint64_t epoch, unsigned count)
{
    ask_definition(epoch);
    begin_round(r);
    end_round(r);
    assert_int_equal(r->count, count);
}

/* A cut of a member that is none any more. */
static void put_denied(unsigned k)
{
    struct far_segment segment;
    struct far_answer a;
    far_write_at(stream_at(k), 0, "late", 4);
    far_cut(stream_at(k), &segment);
    assert_int_equal(far_put(&far, k, &stream_at(k)->stream, segment.info.header.first_lsn,
                             segment.bytes, segment.info.size, &a),
                     0);
    assert_int_equal(a.status, 403);
    far_segment_free(&segment);
}

/* A disk joins, leaves (both with a round under way) and comes back, then a member leaves. */
static void disks_join_and_leave_and_every_point_stays(void **state)
{
    struct round rounds[8];
    (void)state;
    take_point(&rounds[0], 1, 2);
    apply(true, true);
    take_point(&rounds[1], 1, 2); /* not registered yet: the group goes on as it was */
    begin_round(&rounds[2]);
    assert_int_equal(register_disk(2, disk_at(2)), 200);
    ask_definition(2);
    end_round(&rounds[2]); /* of the epoch before */
    take_point(&rounds[3], 2, 3);
    begin_round(&rounds[4]);
    apply(true, false);
    ask_definition(3);
    end_round(&rounds[4]);
    take_point(&rounds[5], 3, 2);
    apply(true, true);
    struct intake_disk back = disk_at(2); /* larger than it was, and the same stream */
    back.size *= 2;
    assert_int_equal(register_disk(2, back), 200);
    take_point(&rounds[6], 4, 3);
    int at = definition_find_stream(far.definition, &extra.stream);
    assert_true(far.definition->disks[at].size == FAR_DISK_SIZE); /* as it was first registered */
    apply(false, false);
    put_denied(1);
    take_point(&rounds[7], 5, 1);

    check_listed(rounds, 8);
    far_stop(&far);
    assert_int_equal(unlink(far.catalog), 0);
    far_start(&far);
    ask_definition(5);
    check_listed(rounds, 8);
    far_stop(&far);
    for (unsigned i = 0; i < 8; i++) {
        check_exports(&rounds[i]);
        for (unsigned k = 0; k < STREAMS; k++) {
            free(rounds[i].images[k]);
        }
    }
}

static void a_resized_disk_is_the_same_disk(void **state)
{
    (void)state;
    struct intake_disk disk = disk_at(0);
    struct epoch before = far.definition->epoch;
    for (unsigned i = 0; i < 3; i++) {
        disk.size = i == 1 ? FAR_DISK_SIZE / 2 : 2 * FAR_DISK_SIZE;
        assert_int_equal(register_disk(0, disk), 200);
        ask_definition(1);
        assert_true(epoch_equal(&far.definition->epoch, &before));
        assert_true(far.definition->disks[0].size == FAR_DISK_SIZE);
        if (i == 1) {
            far_kill(&far);
            far_start(&far);
        }
    }
    disk.block_size = 4096;
    assert_int_equal(register_disk(0, disk), 409);
    disk.block_size = 512;
    disk.timeline.b[0] ^= 1;
    assert_int_equal(register_disk(0, disk), 409);
    disk.timeline.b[0] ^= 1;
    disk.disk_id.b[0] ^= 1;
    assert_int_equal(register_disk(0, disk), 409);
    ask_definition(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(disks_join_and_leave_and_every_point_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_resized_disk_is_the_same_disk, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
