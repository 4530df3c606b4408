/* SPDX-License-Identifier: Apache-2.0 */
/* A real coordinator process over TLS on loopback, and what it says to good and bad segments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "coordinator/recover/materialize.h"
#include "coordinator/store/manifest.h"
#include "tests/contract/far_rig.h"

static void ready(struct far *far, uint64_t seed)
{
    far_make(far, seed, NULL);
    far_start(far);
    far_apply(far);
    far_register(far);
}

/* Some writes on both members, and a point. */
static void point(struct far *far, struct id *ret_round, uint8_t *images)
{
    for (unsigned k = 0; k < 20; k++) {
        far_write(far, k % FAR_MEMBERS);
    }
    far_round(far, false, false, ret_round, images);
    far_await(far, ret_round, ROUND_ANSWER_YES, "full");
}

static int export(struct far *far, const struct id *round, const struct id *from,
                  const char *member, const char *to, bool unaligned, struct err *err)
{
    char hex[TIDE_ID_HEX];
    json_t *object = NULL;
    json_t *base = NULL;
    struct materialize_result result;
    int rc = materialize_find(far->store, NULL, id_hex(round, hex), &object, err);
    if (rc == 0 && from != NULL) {
        rc = materialize_find(far->store, NULL, id_hex(from, hex), &base, err);
    }
    struct materialize m = {.store = far->store,
                            .point = object,
                            .member = member,
                            .disk = "data",
                            .to = to,
                            .from = base,
                            .unaligned = unaligned};
    if (rc == 0) {
        rc = materialize_run(&m, &result, err);
    }
    json_decref(object);
    json_decref(base);
    return rc;
}

static void same_image_of(const char *path, const uint8_t *model, size_t model_size)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    assert_int_equal(file_read(path, FAR_DISK_MAX, &bytes, &size, &err), 0);
    assert_true(size == model_size);
    assert_memory_equal(bytes, model, size);
    free(bytes);
}

static void same_image(const char *path, const uint8_t *model)
{
    same_image_of(path, model, FAR_DISK_SIZE);
}

static void streams_become_points_and_disks(void **state)
{
    struct far far;
    struct id rounds[3];
    uint8_t *images = malloc(3 * (size_t)FAR_MEMBERS * FAR_DISK_SIZE);
    struct err err = {0};
    char whole[160];
    char step[160];
    (void)state;
    ready(&far, 1);
    for (unsigned k = 0; k < 3; k++) {
        point(&far, &rounds[k], images + k * (size_t)FAR_MEMBERS * FAR_DISK_SIZE);
    }
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), 3);
    json_decref(points);
    /* The far side alone: the coordinator has ended. */
    far_stop(&far);
    snprintf(step, sizeof(step), "%s/step.img", far.dir);
    for (unsigned k = 0; k < 3; k++) {
        const uint8_t *model = images + k * (size_t)FAR_MEMBERS * FAR_DISK_SIZE + FAR_DISK_SIZE;
        snprintf(whole, sizeof(whole), "%s/whole%u.img", far.dir, k);
        if (export(&far, &rounds[k], NULL, "app", whole, false, &err) < 0 ||
            export(&far, &rounds[k], k == 0 ? NULL : &rounds[k - 1], "app", step, false, &err) <
                0) {
            fail_msg("%s", err.text);
        }
        same_image(whole, model);
        same_image(step, model);
    }
    /* An image that is not what --from says, that exists, or that goes backwards is refused. */
    assert_int_equal(export(&far, &rounds[2], &rounds[0], "app", step, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(export(&far, &rounds[2], NULL, "app", step, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(export(&far, &rounds[0], &rounds[2], "app", step, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(export(&far, &rounds[0], NULL, "nobody", "/tmp/none", false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    free(images);
    far_remove(&far);
}

/* An initial copy leaves out what is zero: only an empty image can take it. */
static void an_initial_copy_between_two_points_needs_a_whole_export(void **state)
{
    struct far far;
    struct id rounds[2];
    uint8_t *images = malloc((size_t)FAR_MEMBERS * FAR_DISK_SIZE);
    struct err err = {0};
    char whole[160];
    char step[160];
    (void)state;
    ready(&far, 3);
    point(&far, &rounds[0], images);
    snprintf(step, sizeof(step), "%s/step.img", far.dir);
    assert_int_equal(export(&far, &rounds[0], NULL, "app", step, false, &err), 0);
    struct far_stream *s = &far.streams[1];
    struct record begin = {.type = RECORD_COPY_BEGIN,
                           .copy_begin = {.kind = RECORD_COPY_INITIAL, .size = FAR_DISK_SIZE}};
    far_append(s, &begin);
    struct record end = {.type = RECORD_COPY_END,
                         .copy_end = {.begin_lsn = s->lsn, .zeroes = FAR_DISK_SIZE}};
    far_append(s, &end);
    point(&far, &rounds[1], images);
    assert_int_equal(export(&far, &rounds[1], &rounds[0], "app", step, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_FAILED);
    assert_non_null(strstr(err.text, "without --from"));
    snprintf(whole, sizeof(whole), "%s/whole.img", far.dir);
    assert_int_equal(export(&far, &rounds[1], NULL, "app", whole, false, &err), 0);
    same_image(whole, images + FAR_DISK_SIZE);
    free(images);
    far_remove(&far);
}

/* A point's export has the size that the disk had then; the next one is brought over the resizes.
 */
static void a_point_has_the_size_of_its_time(void **state)
{
    static const uint64_t sizes[][2] = {/* two resizes before each point */
                                        {FAR_DISK_SIZE + 1536 * 512, FAR_DISK_SIZE + 512 * 512},
                                        {300 * 512, FAR_DISK_SIZE},
                                        {FAR_DISK_MAX, 700 * 512}};
    struct far far;
    struct id rounds[4];
    struct err err = {0};
    char whole[160];
    char step[160];
    uint8_t *models = malloc(4 * (size_t)FAR_DISK_MAX);
    (void)state;
    ready(&far, 12);
    struct far_stream *s = &far.streams[1];
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 40 && k > 0; i++) {
            if (i % 20 == 10) {
                far_resize(s, sizes[k - 1][i / 20]);
            }
            far_write(&far, 1);
        }
        memcpy(models + k * (size_t)FAR_DISK_MAX, s->image, FAR_DISK_MAX);
        far_round(&far, false, false, &rounds[k], NULL);
        far_await(&far, &rounds[k], ROUND_ANSWER_YES, "full");
    }
    far_stop(&far);
    snprintf(step, sizeof(step), "%s/step.img", far.dir);
    for (unsigned k = 0; k < 4; k++) {
        const uint8_t *model = models + k * (size_t)FAR_DISK_MAX;
        size_t size = k == 0 ? FAR_DISK_SIZE : sizes[k - 1][1];
        snprintf(whole, sizeof(whole), "%s/whole%u.img", far.dir, k);
        if (export(&far, &rounds[k], NULL, "app", whole, false, &err) < 0 ||
            export(&far, &rounds[k], k == 0 ? NULL : &rounds[k - 1], "app", step, false, &err) <
                0) {
            fail_msg("%s", err.text);
        }
        same_image_of(whole, model, size);
        same_image_of(step, model, size);
    }
    free(models);
    far_remove(&far);
}

static void failed_and_unheld_rounds_are_no_points(void **state)
{
    struct far far;
    struct id spoilt;
    struct id unheld;
    struct err err = {0};
    char path[160];
    (void)state;
    ready(&far, 2);
    far_round(&far, false, true, &spoilt, NULL);
    far_await(&far, &spoilt, ROUND_ANSWER_NO, "");
    far_round(&far, true, false, &unheld, NULL);
    far_await(&far, &unheld, ROUND_ANSWER_NO, "unaligned");
    uint64_t end = clock_mono_us() + 5000000;
    json_t *rounds = NULL;
    do { /* the row is written behind the answer */
        json_decref(rounds);
        rounds =
            far_command(&far, json_pack("{s:s, s:s}", "command", "round-list", "group", "shop"));
    } while (json_array_size(json_object_get(rounds, "rounds")) == 0 && clock_mono_us() < end);
    const json_t *row = json_array_get(json_object_get(rounds, "rounds"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "member")), "app");
    assert_string_equal(json_string_value(json_object_get(row, "reason")),
                        "the hold ran out of its budget");
    json_decref(rounds);
    snprintf(path, sizeof(path), "%s/x.img", far.dir);
    assert_int_equal(export(&far, &spoilt, NULL, "web", path, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    assert_int_equal(export(&far, &unheld, NULL, "web", path, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_DENIED);
    assert_int_equal(export(&far, &unheld, NULL, "web", path, true, &err), 0);
    far_remove(&far);
}

static void expect(struct far *far, unsigned client, const struct id *stream,
                   const struct far_segment *s, size_t size, int status)
{
    struct far_answer a;
    assert_int_equal(far_put(far, client, stream, s->info.header.first_lsn, s->bytes, size, &a), 0);
    if (a.status != status) {
        fail_msg("status %d, not %d: %s", a.status, status, a.state.text);
    }
    assert_true(status == 200 || a.state.text[0] != '\0');
}

static void bad_segments_are_refused(void **state)
{
    struct far far;
    struct far_segment first;
    struct far_segment second;
    struct id round;
    (void)state;
    ready(&far, 3);
    struct far_stream *s = &far.streams[0];
    const struct id *stream = &s->stream;
    struct id unknown = {{9}};
    far_write(&far, 0);
    far_cut(s, &first);
    far_write(&far, 0);
    far_cut(s, &second);
    /* Flipped bit, torn, another's stream, another stream's path, unknown stream. */
    for (size_t k = 0; k < first.info.size; k += 97) {
        first.bytes[k] ^= 1;
        expect(&far, 0, stream, &first, first.info.size, 400);
        first.bytes[k] ^= 1;
    }
    expect(&far, 0, stream, &first, first.info.size - 1, 400);
    expect(&far, 0, stream, &first, 0, 400);
    expect(&far, 1, stream, &first, first.info.size, 403);
    expect(&far, 2, stream, &first, first.info.size, 403);
    expect(&far, 1, &far.streams[1].stream, &first, first.info.size, 400);
    expect(&far, 0, &unknown, &first, first.info.size, 404);
    /* None of that spoiled it: both are taken, and twice is as good as once. */
    expect(&far, 0, stream, &first, first.info.size, 200);
    expect(&far, 0, stream, &first, first.info.size, 200);
    expect(&far, 0, stream, &second, second.info.size, 200);
    expect(&far, 0, stream, &first, first.info.size, 200);
    far_segment_free(&first);
    far_segment_free(&second);
    point(&far, &round, NULL);
    far_remove(&far);
}

static void a_fork_stops_its_stream_alone(void **state)
{
    struct far far;
    struct far_segment good;
    struct far_segment other;
    struct far_segment next;
    struct far_answer a;
    (void)state;
    ready(&far, 4);
    const struct id *stream = &far.streams[0].stream;
    far_write(&far, 0);
    far_cut(&far.streams[0], &good);
    far_write(&far, 0);
    far_cut(&far.streams[0], &next);
    expect(&far, 0, stream, &good, good.info.size, 200);
    far_stream_again(&far, 0);
    far_write(&far, 0);
    far_cut(&far.streams[0], &other);
    for (unsigned k = 0; k < 2; k++) {
        assert_int_equal(far_put(&far, 0, stream, 1, other.bytes, other.info.size, &a), 0);
        assert_int_equal(a.status, 409);
        assert_true(a.state.forked);
        assert_int_equal(a.state.code, TIDE_ERR_CONFLICT);
        /* Stopped for what would have continued it too, and still so after a restart. */
        expect(&far, 0, stream, &next, next.info.size, 409);
        far_kill(&far);
        far_start(&far);
    }
    far_segment_free(&good);
    far_segment_free(&next);
    far_segment_free(&other);
    /* The other member's stream goes on. */
    far_write(&far, 1);
    far_cut(&far.streams[1], &good);
    far_put_good(&far, 1, &good);
    far_remove(&far);
}

static void a_store_that_was_changed_is_found(void **state)
{
    struct far far;
    struct id round;
    struct err err = {0};
    struct manifest m;
    char path[PATH_MAX];
    char to[160];
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    ready(&far, 5);
    point(&far, &round, NULL);
    far_stop(&far);
    assert_int_equal(manifest_read(far.store, &far.streams[0].stream, &m, &err), 0);
    manifest_segment_path(far.store, &m.stream.stream, m.segments[0].first, m.segments[0].last,
                          path);
    manifest_close(&m);
    assert_int_equal(file_read(path, TIDE_SEGMENT_MAX, &bytes, &size, &err), 0);
    bytes[size / 2] ^= 4;
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    free(bytes);
    snprintf(to, sizeof(to), "%s/x.img", far.dir);
    assert_int_equal(export(&far, &round, NULL, "web", to, false, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(export(&far, &round, NULL, "app", to, false, &err), 0);
    far_remove(&far);
}

/* What lies in a segment that cannot be read at the start may be a gap: no point after it. */
static void after_an_unreadable_segment_there_is_no_point(void **state)
{
    struct far far;
    struct id round;
    struct err err = {0};
    struct manifest m;
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    ready(&far, 8);
    point(&far, &round, NULL);
    point(&far, &round, NULL);
    far_stop(&far);
    assert_int_equal(manifest_read(far.store, &far.streams[0].stream, &m, &err), 0);
    assert_true(m.segment_count > 2);
    manifest_segment_path(far.store, &m.stream.stream, m.segments[1].first, m.segments[1].last,
                          path);
    manifest_close(&m);
    assert_int_equal(file_read(path, TIDE_SEGMENT_MAX, &bytes, &size, &err), 0);
    assert_int_equal(truncate(path, (off_t)size - 1), 0);
    far_start(&far);
    far_write(&far, 0);
    far_round(&far, false, false, &round, NULL);
    (void)nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), 2);
    json_decref(points);
    far_stop(&far);
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    free(bytes);
    far_start(&far);
    far_await(&far, &round, ROUND_ANSWER_YES, "full");
    far_stop(&far);
    far_remove(&far);
}

/* A manifest that cannot be read is not begun anew when its owner registers again. */
static void a_damaged_manifest_is_kept(void **state)
{
    struct far far;
    struct id round;
    struct err err = {0};
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    uint8_t *after = NULL;
    size_t size = 0;
    size_t after_size = 0;
    (void)state;
    ready(&far, 9);
    point(&far, &round, NULL);
    far_stop(&far);
    manifest_path(far.store, &far.streams[0].stream, path);
    assert_int_equal(file_read(path, TIDE_MANIFEST_MAX, &bytes, &size, &err), 0);
    uint8_t *second = (uint8_t *)memchr(bytes, '\n', size) + 1;
    *second = 'x';
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    far_start(&far);
    assert_int_equal(far_try_register(&far, 0), 409);
    assert_int_equal(far_try_register(&far, 1), 200);
    far_stop(&far);
    assert_int_equal(file_read(path, TIDE_MANIFEST_MAX, &after, &after_size, &err), 0);
    assert_int_equal(after_size, size);
    assert_memory_equal(after, bytes, size);
    free(after);
    *second = '{';
    assert_int_equal(file_replace(path, bytes, size, 0640, &err), 0);
    free(bytes);
    far_start(&far);
    far_register(&far);
    point(&far, &round, NULL);
    far_stop(&far);
    far_remove(&far);
}

/* A line over two blocks of which a power cut left the second: never answered, so not there. */
static void a_torn_manifest_line_is_dropped(void **state)
{
    static const char torn[] = "\0\0\0\0\0\0\0\0,\"hash\":\"00\",\"size\":1}\n";
    struct far far;
    struct id round;
    struct err err = {0};
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)state;
    ready(&far, 10);
    point(&far, &round, NULL);
    far_stop(&far);
    manifest_path(far.store, &far.streams[0].stream, path);
    assert_int_equal(file_read(path, TIDE_MANIFEST_MAX, &bytes, &size, &err), 0);
    uint8_t *longer = realloc(bytes, size + sizeof(torn));
    assert_non_null(longer);
    memcpy(longer + size, torn, sizeof(torn) - 1);
    assert_int_equal(file_replace(path, longer, size + sizeof(torn) - 1, 0640, &err), 0);
    free(longer);
    far_start(&far);
    far_register(&far);
    point(&far, &round, NULL);
    far_stop(&far);
    far_start(&far);
    point(&far, &round, NULL);
    far_stop(&far);
    far_remove(&far);
}

static json_t *single_vm_points(struct far *far)
{
    json_t *answer =
        far_command(far, json_pack("{s:s, s:b}", "command", "point-list", "single_vm", true));
    json_t *points = json_incref(json_object_get(answer, "points"));
    json_decref(answer);
    return points;
}

/* How often a stream's manifest is tagged with that point. */
static unsigned tags_of(const struct far *far, unsigned member, const struct id *point)
{
    struct manifest m;
    struct err err = {0};
    unsigned count = 0;
    assert_int_equal(manifest_read(far->store, &far->streams[member].stream, &m, &err), 0);
    for (size_t k = 0; k < m.tag_count; k++) {
        count += id_equal(&m.tags[k].point, point);
    }
    manifest_close(&m);
    return count;
}

/* The coordinator's log has these words. */
static void await_log(const struct far *far, const char *words)
{
    char path[PATH_MAX];
    uint64_t end = clock_mono_us() + 20 * CLOCK_US_PER_S;
    bool found = false;
    snprintf(path, sizeof(path), "%s/log", far->dir);
    while (!found && clock_mono_us() < end) {
        uint8_t *text = NULL;
        size_t size = 0;
        struct err err = {0};
        assert_int_equal(file_read(path, 64U << 20, &text, &size, &err), 0);
        found = strstr((const char *)text, words) != NULL;
        free(text);
        usleep(found ? 0 : 20000);
    }
    if (!found) {
        char command[PATH_MAX + 16];
        snprintf(command, sizeof(command), "cat %s/log >&2", far->dir);
        (void)!system(command);
        fail_msg("'%s' is not in the log", words);
    }
}

/* A member that was not in a round takes its id for one of its own: the point stays what it is,
 * before and after a restart, and nothing waits for ever. */
static void an_id_used_again_changes_nothing(void **state)
{
    struct far far;
    struct id first;
    struct id round;
    char words[256];
    char hex[TIDE_ID_HEX];
    (void)state;
    ready(&far, 11);
    point(&far, &round, NULL);
    memset(&first, 0x5a, sizeof(first));
    far_round_alone(&far, 1, &first);
    far_await(&far, &first, ROUND_ANSWER_YES, "single-vm");
    json_t *before = single_vm_points(&far);
    assert_int_equal(json_array_size(before), 1);
    far_round_alone(&far, 0, &first);
    snprintf(words, sizeof(words), "ALARM: point %s of group", id_hex(&first, hex));
    await_log(&far, words);
    json_t *after = single_vm_points(&far);
    assert_true(json_equal(before, after));
    json_decref(after);
    assert_int_equal(tags_of(&far, 0, &first), 0); /* of what is no point nothing is told */
    assert_int_equal(tags_of(&far, 1, &first), 1);
    point(&far, &round, NULL); /* the others go on */
    far_stop(&far);
    assert_int_equal(unlink(far.catalog), 0);
    far_start(&far);
    after = single_vm_points(&far);
    assert_true(json_equal(before, after));
    json_decref(after);
    json_decref(before);
    far_stop(&far);
    far_remove(&far);
}

static void the_catalog_is_made_again_from_the_store(void **state)
{
    struct far far;
    struct id round;
    (void)state;
    ready(&far, 6);
    for (unsigned k = 0; k < 3; k++) {
        point(&far, &round, NULL);
    }
    json_t *before = far_points(&far);
    far_stop(&far);
    assert_int_equal(unlink(far.catalog), 0);
    far_start(&far);
    json_t *after = far_points(&far);
    assert_true(json_equal(before, after));
    json_decref(after);
    far_stop(&far);
    struct err err = {0};
    assert_int_equal(file_replace(far.catalog, "no database at all", 18, 0600, &err), 0);
    far_start(&far);
    after = far_points(&far);
    assert_true(json_equal(before, after));
    json_decref(after);
    json_decref(before);
    point(&far, &round, NULL);
    far_remove(&far);
}

/* Killed at random instants while segments come: what was answered as stored is there. */
static void killed_at_any_instant_it_keeps_what_it_said(void **state)
{
    struct far far;
    struct id rounds[8];
    unsigned decided = 0;
    (void)state;
    ready(&far, 7);
    for (unsigned turn = 0; turn < 8; turn++) {
        struct far_segment segments[4];
        uint64_t stored = 0;
        unsigned sent = 0;
        point(&far, &rounds[decided++], NULL);
        for (unsigned k = 0; k < 4; k++) {
            far_write(&far, 0);
            far_cut(&far.streams[0], &segments[k]);
        }
        pid_t killer = fork();
        if (killer == 0) {
            usleep((useconds_t)prng_below(&far.prng, 30000));
            kill(far.pid, SIGKILL);
            _exit(0);
        }
        for (; sent < 4; sent++) {
            struct far_answer a;
            if (far_put(&far, 0, &far.streams[0].stream, segments[sent].info.header.first_lsn,
                        segments[sent].bytes, segments[sent].info.size, &a) < 0) {
                break;
            }
            assert_int_equal(a.status, 200);
            stored = a.state.stored_lsn;
        }
        assert_int_equal(waitpid(killer, NULL, 0), killer);
        far_kill(&far);
        far_start(&far);
        /* The first PUT of the same bytes shows where it is; none is refused. */
        for (unsigned k = 0; k < 4; k++) {
            struct far_answer a;
            assert_int_equal(far_put(&far, 0, &far.streams[0].stream,
                                     segments[k].info.header.first_lsn, segments[k].bytes,
                                     segments[k].info.size, &a),
                             0);
            assert_int_equal(a.status, 200);
            assert_true(a.state.stored_lsn >= stored);
            far_segment_free(&segments[k]);
        }
    }
    json_t *points = far_points(&far);
    assert_int_equal(json_array_size(points), decided);
    json_decref(points);
    far_remove(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_become_points_and_disks),
        cmocka_unit_test(an_initial_copy_between_two_points_needs_a_whole_export),
        cmocka_unit_test(a_point_has_the_size_of_its_time),
        cmocka_unit_test(failed_and_unheld_rounds_are_no_points),
        cmocka_unit_test(bad_segments_are_refused),
        cmocka_unit_test(a_fork_stops_its_stream_alone),
        cmocka_unit_test(a_store_that_was_changed_is_found),
        cmocka_unit_test(after_an_unreadable_segment_there_is_no_point),
        cmocka_unit_test(a_damaged_manifest_is_kept),
        cmocka_unit_test(a_torn_manifest_line_is_dropped),
        cmocka_unit_test(an_id_used_again_changes_nothing),
        cmocka_unit_test(the_catalog_is_made_again_from_the_store),
        cmocka_unit_test(killed_at_any_instant_it_keeps_what_it_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
