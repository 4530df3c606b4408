/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/far_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/local.h"
#include "common/io/pki.h"

#define SITE       "lab"
#define DEADLINE_S 15

static void nap(void)
{
    struct timespec t = {.tv_nsec = 10000000};
    nanosleep(&t, NULL);
}

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void issue(struct far *far, const char *role, const char *id)
{
    char prefix[256];
    char pki[256];
    const char *ip = "127.0.0.1";
    struct err err = {0};
    snprintf(pki, sizeof(pki), "%s/pki", far->dir);
    snprintf(prefix, sizeof(prefix), "%s/%s", pki, id);
    if (pki_issue(pki, role, id, NULL, 0, &ip, 1, 10, prefix, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void client(struct far *far, unsigned k, const char *id)
{
    char cert[256];
    char key[256];
    char ca[256];
    struct err err = {0};
    snprintf(cert, sizeof(cert), "%s/pki/%s.crt", far->dir, id);
    snprintf(key, sizeof(key), "%s/pki/%s.key", far->dir, id);
    snprintf(ca, sizeof(ca), "%s/pki/ca.crt", far->dir);
    struct http_options o = {.server_uri = "spiffe://" SITE "/coordinator/main",
                             .answer_max = HTTP_ANSWER_MAX};
    if (tls_identity_load(cert, key, ca, &far->identities[k], &err) < 0 ||
        address_parse(far->address, false, &o.server, &err) < 0) {
        fail_msg("%s", err.text);
    }
    o.identity = far->identities[k];
    if (http_client_new(&o, &far->clients[k], &err) < 0) {
        fail_msg("%s", err.text);
    }
}

void far_make(struct far *far, uint64_t seed, const char *store)
{
    char path[256];
    char text[2048];
    struct err err = {0};
    *far = (struct far){0};
    prng_init(&far->prng, seed);
    snprintf(far->dir, sizeof(far->dir), "/tmp/tidemark-far-XXXXXX");
    assert_non_null(mkdtemp(far->dir));
    snprintf(far->store, sizeof(far->store), "%s/store", far->dir);
    if (store != NULL) {
        snprintf(far->store, sizeof(far->store), "%s", store);
    }
    snprintf(far->catalog, sizeof(far->catalog), "%s/catalog.db", far->dir);
    snprintf(far->local, sizeof(far->local), "%s/run/c.ipc", far->dir);
    snprintf(far->config, sizeof(far->config), "%s/coordinator.ini", far->dir);
    snprintf(far->address, sizeof(far->address), "127.0.0.1:%d", free_port());
    snprintf(path, sizeof(path), "%s/pki", far->dir);
    assert_int_equal(pki_init(path, SITE, &err), 0);
    issue(far, "coordinator", "main");
    issue(far, "participant", "m0");
    issue(far, "participant", "m1");
    issue(far, "participant", "stranger");
    int n = snprintf(text, sizeof(text),
                     "[coordinator]\nlisten = %s\nidentity-cert = %s/main.crt\n"
                     "identity-key = %s/main.key\nca = %s/ca.crt\nstore = %s\ncatalog = %s\n"
                     "local = %s\n",
                     far->address, path, path, path, far->store, far->catalog, far->local);
    assert_int_equal(file_replace(far->config, text, (size_t)n, 0600, &err), 0);
    client(far, 0, "m0");
    client(far, 1, "m1");
    client(far, 2, "stranger");
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        far_stream_init(far, k);
    }
    far->definition = calloc(1, sizeof(*far->definition));
    assert_non_null(far->definition);
}

void far_remove(struct far *far)
{
    char command[128];
    if (far->pid != 0) {
        far_kill(far);
    }
    for (unsigned k = 0; k < 3; k++) {
        http_client_free(far->clients[k]);
        tls_identity_free(far->identities[k]);
    }
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        far_stream_close(&far->streams[k]);
    }
    free(far->definition);
    snprintf(command, sizeof(command), "rm -rf '%s'", far->dir);
    assert_int_equal(system(command), 0);
}

void far_start(struct far *far)
{
    char program[PATH_MAX];
    char log[128];
    const char *build = getenv("TIDE_BUILD");
    assert_non_null(build);
    snprintf(program, sizeof(program), "%s/bin/tidemark-coordinator", build);
    snprintf(log, sizeof(log), "%s/log", far->dir);
    far->pid = fork();
    assert_true(far->pid >= 0);
    if (far->pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also where a check ends the test early */
        execl(program, program, "-c", far->config, (char *)NULL);
        _exit(127);
    }
    uint64_t end = clock_mono_us() + DEADLINE_S * 1000000ULL;
    for (;;) {
        json_t *request = json_pack("{s:s}", "command", "store");
        json_t *answer = NULL;
        int rc = local_call(far->local, request, 2000, &answer, NULL);
        json_decref(request);
        json_decref(answer);
        if (rc == 0) {
            return;
        }
        int status = 0;
        if (waitpid(far->pid, &status, WNOHANG) != 0 || clock_mono_us() > end) {
            snprintf(program, sizeof(program), "cat %s/log >&2", far->dir);
            (void)!system(program);
            fail_msg("the coordinator does not come up (status %d)", status);
        }
        nap();
    }
}

void far_kill(struct far *far)
{
    kill(far->pid, SIGKILL);
    assert_int_equal(waitpid(far->pid, NULL, 0), far->pid);
    far->pid = 0;
}

void far_stop(struct far *far)
{
    int status = -1;
    kill(far->pid, SIGTERM);
    assert_int_equal(waitpid(far->pid, &status, 0), far->pid);
    far->pid = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

json_t *far_command(struct far *far, json_t *request)
{
    struct err err = {0};
    json_t *answer = NULL;
    if (local_call(far->local, request, 10000, &answer, &err) < 0) {
        fail_msg("%s", err.text);
    }
    json_decref(request);
    return answer;
}

void far_apply(struct far *far)
{
    json_t *members =
        json_pack("[{s:s, s:s, s:s, s:[s]}, {s:s, s:s, s:s, s:[s]}]", "name", "web", "participant",
                  "spiffe://" SITE "/participant/m0", "address", "127.0.0.11:20004", "disks",
                  "data", "name", "app", "participant", "spiffe://" SITE "/participant/m1",
                  "address", "127.0.0.12:20004", "disks", "data");
    json_decref(
        far_command(far, json_pack("{s:s, s:{s:s, s:i, s:i, s:s, s:o}}", "command", "group-apply",
                                   "group", "group", "shop", "interval_ms", 1000, "hold_us_max",
                                   50000, "missing", "strict", "members", members)));
}

static void take_definition(struct far *far, const uint8_t *body, size_t size, bool issued)
{
    struct intake_definitions d = {0};
    struct err err = {0};
    if (intake_definitions_decode(body, size, &d, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(d.count, issued ? 1 : 0);
    if (issued) {
        assert_int_equal(intake_definition_decode(d.groups[0].definition,
                                                  d.groups[0].definition_size, far->definition,
                                                  &err),
                         0);
    }
    intake_definitions_close(&d);
}

/* The status; *ret_body is good until the client's next request. */
static int register_one(struct far *far, unsigned k, const uint8_t **ret_body, size_t *ret_size)
{
    const struct far_stream *s = &far->streams[k];
    struct intake_disk disk = {.stream = s->stream,
                               .timeline = s->timeline,
                               .disk_id = s->disk_id,
                               .size = FAR_DISK_SIZE,
                               .block_size = 512};
    struct intake_register r = {.count = 1, .disks = &disk};
    uint8_t *bytes = NULL;
    size_t size = 0;
    int status = 0;
    struct err err = {0};
    assert_true(name_parse("shop", &disk.group));
    assert_true(name_parse(k == 0 ? "web" : "app", &disk.member));
    assert_true(name_parse("data", &disk.disk));
    assert_int_equal(intake_register_encode(&r, &bytes, &size, &err), 0);
    if (http_request(far->clients[k], "POST", "/v0/register", bytes, size, 10000, &status, ret_body,
                     ret_size, &err) < 0) {
        fail_msg("%s", err.text);
    }
    free(bytes);
    return status;
}

int far_try_register(struct far *far, unsigned member)
{
    const uint8_t *body = NULL;
    size_t size = 0;
    return register_one(far, member, &body, &size);
}

void far_register(struct far *far)
{
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        const uint8_t *body = NULL;
        size_t size = 0;
        assert_int_equal(register_one(far, k, &body, &size), 200);
        take_definition(far, body, size, k == FAR_MEMBERS - 1 || far->definition->disk_count > 0);
    }
}

/* ---- streams ---- */

static void random_id(struct far *far, struct id *ret)
{
    for (unsigned k = 0; k < TIDE_ID_SIZE; k++) {
        ret->b[k] = (uint8_t)prng_below(&far->prng, 256);
    }
}

static void begin_segment(struct far_stream *s)
{
    segment_writer_init(s->writer, s->buffer, TIDE_SEGMENT_MAX, &s->next);
}

void far_append(struct far_stream *s, struct record *r)
{
    static uint8_t bytes[TIDE_RECORD_MAX + 8];
    struct err err = {0};
    r->lsn = ++s->lsn;
    r->incarnation = s->incarnation;
    r->stream = s->stream;
    size_t size = record_encode(r, bytes, sizeof(bytes));
    if (segment_writer_append(s->writer, r, bytes, size, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

static void attach(struct far *far, struct far_stream *s, bool first)
{
    struct record r = {.type = RECORD_ATTACH};
    random_id(far, &r.attach.boot);
    r.attach.disk = s->disk_id;
    r.attach.timeline = s->timeline;
    r.attach.size = s->size;
    r.attach.block_size = 512;
    r.attach.clean = true;
    r.attach.first = first;
    r.attach.base_zero = first;
    far_append(s, &r);
}

static void stream_begin(struct far *far, struct far_stream *s)
{
    s->incarnation = 1 + prng_next(&far->prng) / 2;
    s->writer = calloc(1, sizeof(*s->writer));
    s->buffer = malloc(TIDE_SEGMENT_MAX);
    s->image = calloc(1, FAR_DISK_MAX);
    s->size = FAR_DISK_SIZE;
    assert_true(s->writer != NULL && s->buffer != NULL && s->image != NULL);
    s->next = (struct segment_header){.stream = s->stream, .timeline = s->timeline, .first_lsn = 1};
    begin_segment(s);
    attach(far, s, true);
}

void far_stream_init(struct far *far, unsigned member)
{
    struct far_stream *s = &far->streams[member];
    *s = (struct far_stream){0};
    random_id(far, &s->stream);
    random_id(far, &s->timeline);
    random_id(far, &s->disk_id);
    stream_begin(far, s);
}

void far_stream_again(struct far *far, unsigned member)
{
    struct far_stream *s = &far->streams[member];
    struct far_stream old = *s;
    *s =
        (struct far_stream){.stream = old.stream, .timeline = old.timeline, .disk_id = old.disk_id};
    far_stream_close(&old);
    stream_begin(far, s);
}

void far_stream_close(struct far_stream *s)
{
    free(s->writer);
    free(s->buffer);
    free(s->image);
    *s = (struct far_stream){0};
}

void far_write(struct far *far, unsigned member)
{
    struct far_stream *s = &far->streams[member];
    uint8_t data[8192];
    uint64_t size = 512 * (1 + prng_below(&far->prng, sizeof(data) / 512));
    uint64_t offset = 512 * prng_below(&far->prng, (s->size - size) / 512 + 1);
    struct record r = {.type = RECORD_WRITE};
    r.write.offset = offset;
    r.write.size = size;
    if (prng_below(&far->prng, 5) == 0) {
        r.type = RECORD_ZERO;
        memset(s->image + offset, 0, size);
    } else {
        for (uint64_t k = 0; k < size; k++) {
            data[k] = (uint8_t)prng_next(&far->prng);
        }
        r.write.data = data;
        memcpy(s->image + offset, data, size);
    }
    far_append(s, &r);
}

void far_write_at(struct far_stream *s, uint64_t offset, const void *data, size_t size)
{
    struct record r = {.type = RECORD_WRITE};
    r.write.offset = offset;
    r.write.size = size;
    r.write.data = data;
    memcpy(s->image + offset, data, size);
    far_append(s, &r);
}

static void have_size(struct far_stream *s, uint64_t size)
{
    assert_true(size <= FAR_DISK_MAX);
    memset(s->image + size, 0, FAR_DISK_MAX - size);
    s->size = size;
}

void far_resize(struct far_stream *s, uint64_t size)
{
    struct record r = {.type = RECORD_RESIZE};
    r.resize.size = size;
    r.resize.before = s->size;
    far_append(s, &r);
    have_size(s, size);
}

void far_attach(struct far *far, struct far_stream *s, uint64_t size)
{
    s->incarnation++;
    have_size(s, size);
    attach(far, s, false);
}

void far_gap(struct far_stream *s, enum record_gap_reason reason)
{
    struct record r = {.type = RECORD_GAP};
    r.gap.reason = reason;
    r.gap.from_lsn = s->lsn + 1;
    far_append(s, &r);
}

void far_cut(struct far_stream *s, struct far_segment *ret)
{
    segment_writer_finish(s->writer, &s->last);
    ret->info = s->last;
    ret->bytes = malloc(s->last.size);
    assert_non_null(ret->bytes);
    memcpy(ret->bytes, s->buffer, s->last.size);
    s->next = segment_next_header(&s->last);
    begin_segment(s);
}

void far_diverge(struct far_stream *s, uint64_t incarnation)
{
    s->incarnation = incarnation;
    s->next.incarnation = incarnation;
    begin_segment(s);
}

void far_segment_free(struct far_segment *s)
{
    free(s->bytes);
    s->bytes = NULL;
}

int far_put(struct far *far, unsigned k, const struct id *stream, uint64_t first, const void *bytes,
            size_t size, struct far_answer *ret)
{
    char path[128];
    char hex[TIDE_ID_HEX];
    const uint8_t *body = NULL;
    size_t body_size = 0;
    struct err err = {0};
    *ret = (struct far_answer){0};
    snprintf(path, sizeof(path), "/v0/streams/%s/segments/%" PRIu64, id_hex(stream, hex), first);
    if (http_request(far->clients[k], "PUT", path, bytes, size, 10000, &ret->status, &body,
                     &body_size, &err) < 0) {
        return -1;
    }
    if (intake_stream_state_decode(body, body_size, &ret->state, &err) < 0 && ret->status == 200) {
        fail_msg("%s", err.text);
    }
    return 0;
}

void far_put_good(struct far *far, unsigned member, struct far_segment *segment)
{
    struct far_answer a;
    const struct id *stream = &segment->info.header.stream;
    assert_int_equal(far_put(far, member, stream, segment->info.header.first_lsn, segment->bytes,
                             segment->info.size, &a),
                     0);
    if (a.status != 200) {
        fail_msg("status %d: %s", a.status, a.state.text);
    }
    assert_true(a.state.stored_lsn == segment->info.last_lsn);
    far_segment_free(segment);
}

static void put_or_keep(struct far *far, unsigned member, struct far_segment *segment)
{
    if (far->late && member == 0) {
        far->kept[far->kept_count++] = *segment;
    } else {
        far_put_good(far, member, segment);
    }
}

/* Appends the bookmark of that order to the member's stream, and sends what it ends. */
static struct round_mark mark(struct far *far, unsigned member, const struct round_order *order,
                              bool unheld)
{
    struct far_stream *s = &far->streams[member];
    struct record r = {.type = RECORD_BOOKMARK};
    struct far_segment segment;
    r.bookmark.order = *order;
    r.bookmark.unheld = unheld;
    r.bookmark.budget_us = 50000;
    r.bookmark.wall_ns = clock_wall_ns();
    r.bookmark.wall_error_us = UINT32_MAX;
    random_id(far, &r.bookmark.nonce);
    far_append(s, &r);
    struct round_mark ret = {.stream = s->stream,
                             .incarnation = s->incarnation,
                             .lsn = s->lsn,
                             .nonce = r.bookmark.nonce};
    far_cut(s, &segment);
    put_or_keep(far, member, &segment);
    return ret;
}

void far_round(struct far *far, bool unheld, bool spoil, struct id *ret_round, uint8_t *ret_images)
{
    struct round_order order = {.group = far->definition->group,
                                .epoch = far->definition->epoch,
                                .scope = ROUND_SCOPE_GROUP,
                                .kind = ROUND_KIND_CRASH};
    struct round_mark marks[FAR_MEMBERS];
    struct far_segment segment;
    random_id(far, &order.round);
    set_init(&order.set, far->definition->disk_count);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        set_add(&order.set, k);
    }
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        if (ret_images != NULL) {
            memcpy(ret_images + k * (size_t)FAR_DISK_SIZE, far->streams[k].image, FAR_DISK_SIZE);
        }
        marks[k] = mark(far, k, &order, unheld);
    }
    struct hash cut = round_cut_hash(&order, marks, FAR_MEMBERS);
    for (unsigned k = 0; k < FAR_MEMBERS; k++) {
        struct far_stream *s = &far->streams[k];
        struct record r = {.type = RECORD_SEAL};
        r.seal.round = order.round;
        r.seal.bookmark_lsn = marks[k].lsn;
        r.seal.outcome = unheld ? ROUND_OUTCOME_UNHELD : ROUND_OUTCOME_HELD;
        r.seal.cut = cut;
        r.seal.hold_us = 1000 + k;
        r.seal.writes_held = 3;
        if (spoil && k == 1) {
            r.seal.outcome = ROUND_OUTCOME_EXPIRED;
            memset(&r.seal.cut, 0, sizeof(r.seal.cut));
        }
        far_append(s, &r);
        far_write(far, k);
        far_cut(s, &segment);
        put_or_keep(far, k, &segment);
    }
    *ret_round = order.round;
}

void far_round_alone(struct far *far, unsigned member, const struct id *round)
{
    struct far_stream *s = &far->streams[member];
    struct round_order order = {.group = far->definition->group,
                                .epoch = far->definition->epoch,
                                .round = *round,
                                .scope = ROUND_SCOPE_MEMBER,
                                .kind = ROUND_KIND_CRASH};
    struct far_segment segment;
    set_init(&order.set, far->definition->disk_count);
    set_add(&order.set, member);
    struct round_mark one = mark(far, member, &order, false);
    struct record seal = {.type = RECORD_SEAL};
    seal.seal.round = *round;
    seal.seal.bookmark_lsn = one.lsn;
    seal.seal.outcome = ROUND_OUTCOME_HELD;
    seal.seal.cut = round_cut_hash(&order, &one, 1);
    far_append(s, &seal);
    far_cut(s, &segment);
    put_or_keep(far, member, &segment);
}

void far_await(struct far *far, const struct id *round, enum round_answer answer, const char *label)
{
    char path[64];
    char hex[TIDE_ID_HEX];
    struct intake_point_state state = {0};
    uint64_t end = clock_mono_us() + DEADLINE_S * 1000000ULL;
    snprintf(path, sizeof(path), "/v0/points/%s", id_hex(round, hex));
    for (;;) {
        int status = 0;
        const uint8_t *body = NULL;
        size_t size = 0;
        struct err err = {0};
        if (http_request(far->clients[0], "GET", path, NULL, 0, 10000, &status, &body, &size,
                         &err) == 0 &&
            status == 200) {
            assert_int_equal(intake_point_state_decode(body, size, &state, &err), 0);
            if (state.answer == answer && strcmp(state.label, label) == 0) {
                return;
            }
        }
        if (clock_mono_us() > end) {
            fail_msg("round %s: answer %d, label '%s', %s", hex, (int)state.answer, state.label,
                     state.text);
        }
        nap();
    }
}

json_t *far_points(struct far *far)
{
    json_t *answer =
        far_command(far, json_pack("{s:s, s:s}", "command", "point-list", "group", "shop"));
    json_t *points = json_incref(json_object_get(answer, "points"));
    json_decref(answer);
    assert_true(json_is_array(points));
    return points;
}
