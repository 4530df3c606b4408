/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/far.h"

#include "common/core/check.h"
#include "common/core/planted.h"
#include "coordinator/catalog/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define STAGED_MAX   16U
#define WAY_US_MIN   200U /* of a segment or an answer */
#define WAY_US_MAX   20000U
#define SYNC_US_MIN  500U
#define SYNC_US_MAX  5000U
#define TIMEOUT_US   300000U
#define LOST_PERCENT 3U
#define BUFFER       8192U

struct object {
    uint8_t *bytes;
    size_t size;
    struct segment_info info;
};

struct stream {
    struct object *objects; /* in order; the first `durable` of them are synced */
    size_t count;
    size_t room;
    size_t durable;
    struct object staged[STAGED_MAX];
    unsigned staged_count;
};

struct put { /* on its way */
    TAILQ_ENTRY(put) entry;
    uint64_t number;
    unsigned disk;
    uint8_t *bytes;
    size_t size;
    bool waits;   /* for its sync */
    size_t syncs; /* objects that are durable when that ends */
    far_answer_fn *answer;
    void *context;
    uint64_t tag;
    struct window_answer what;
};
TAILQ_HEAD(puts, put);

struct far;
static void publish(const struct far *far, struct align *align, struct catalog *catalog);

struct far {
    struct roundlab *lab;
    const struct definition *definition;
    struct far_watch watch;
    struct prng prng;
    bool up;
    uint64_t life;
    struct stream *streams;
    struct align *align;
    unsigned defined; /* definitions that it has */
    struct catalog *catalog;
    struct puts puts;
    uint64_t number;
    struct segment_reader *reader;
    uint8_t buffer[BUFFER];
};

/* ---- reading ---- */

static struct source_memory memory;
static struct source_part part;

static struct source source_of(const struct object *object)
{
    part = (struct source_part){.base = object->bytes, .size = object->size};
    memory = (struct source_memory){.parts = &part, .count = 1};
    return source_memory(&memory);
}

/* What matters of one object, into an alignment. */
static void feed(const struct far *far, struct align *align, const struct object *object)
{
    struct source source = source_of(object);
    struct segment_reader *reader = far->reader;
    struct err err;
    TIDE_CHECK(
        segment_reader_init(reader, &source, 0, (void *)(uintptr_t)far->buffer, BUFFER, &err) == 0);
    for (uint32_t i = 0; i < reader->info.entry_count; i++) {
        struct record record;
        TIDE_CHECK(segment_reader_entry(reader, i, NULL, &record, &err) == 0);
        TIDE_CHECK(align_feed(align, &record, &err) == 0);
    }
}

/* Gives an alignment the definitions from that one on; returns how many it then has. */
static unsigned define(const struct far *far, struct align *align, unsigned from)
{
    struct err err;
    for (; roundlab_issued(far->lab, from) != NULL; from++) {
        TIDE_CHECK(align_define(align, roundlab_issued(far->lab, from), &err) == 0);
    }
    return from;
}

static struct align *new_align(const struct far *far, unsigned rounds_max)
{
    struct align *align = align_new(&far->definition->group, true, rounds_max);
    TIDE_CHECK(align != NULL);
    (void)define(far, align, 0);
    return align;
}

void far_define(struct far *far)
{
    if (far->up) {
        far->defined = define(far, far->align, far->defined);
        publish(far, far->align, far->catalog);
    }
}

void far_again(struct far *far, struct prng *prng)
{
    for (unsigned d = 0; far->up && d < far->definition->disk_count; d++) {
        const struct stream *stream = &far->streams[d];
        for (size_t i = prng_below(prng, stream->durable + 1); i < stream->durable; i++) {
            feed(far, far->align, &stream->objects[i]);
        }
    }
}

static const struct definition *definition_of(const struct far *far, const struct epoch *epoch)
{
    const struct definition *found = NULL;
    for (unsigned i = 0; found == NULL && roundlab_issued(far->lab, i) != NULL; i++) {
        if (epoch_equal(&roundlab_issued(far->lab, i)->epoch, epoch)) {
            found = roundlab_issued(far->lab, i);
        }
    }
    return found;
}

bool far_in_set(const struct far *far, const struct round_order *order, const struct id *stream)
{
    const struct definition *definition = definition_of(far, &order->epoch);
    int at = definition == NULL ? -1 : definition_find_stream(definition, stream);
    return at >= 0 && set_has(&order->set, (unsigned)at);
}

/* ---- catalog ---- */

static struct catalog *new_catalog(void)
{
    struct catalog *catalog = NULL;
    char note[TIDE_ERR_TEXT_MAX];
    struct err err;
    if (catalog_open(":memory:", &catalog, note, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    return catalog;
}

static const char *label_of(const struct far *far, const struct align_round *round)
{
    return align_label_name(align_label(round, definition_of(far, &round->order.epoch)));
}

static json_t *object_of(const struct far *far, const struct align_round *round,
                         uint64_t *ret_wall_ns)
{
    char id[TIDE_ID_HEX];
    char cut[TIDE_HASH_HEX];
    uint64_t wall_ns = UINT64_MAX;
    json_t *disks = json_array();
    for (unsigned d = 0; d < far->definition->disk_count; d++) {
        const struct align_entry *e = align_entry(round, &far->definition->disks[d].stream);
        if (e == NULL || !far_in_set(far, &round->order, &e->mark.stream)) {
            continue;
        }
        wall_ns = e->wall_ns < wall_ns ? e->wall_ns : wall_ns;
        json_array_append_new(disks,
                              json_pack("{s:i, s:I, s:I, s:I, s:s}", "disk", (int)d, "lsn",
                                        (json_int_t)e->mark.lsn, "seal_lsn",
                                        (json_int_t)e->seal_lsn, "hold_us", (json_int_t)e->hold_us,
                                        "outcome", round_outcome_name((unsigned)e->outcome)));
    }
    *ret_wall_ns = wall_ns;
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "point", id_hex(&round->order.round, id),
                     "label", label_of(far, round), "cut", hash_hex(&round->cut, cut), "epoch",
                     (json_int_t)round->order.epoch.number, "wall_ns", (json_int_t)wall_ns, "disks",
                     disks);
}

static void publish(const struct far *far, struct align *align, struct catalog *catalog)
{
    const struct align_round *round;
    while ((round = align_next_decided(align)) != NULL) {
        if (round->answer != ROUND_ANSWER_YES) {
            continue;
        }
        char id[TIDE_ID_HEX];
        struct err err;
        struct catalog_point point = {.point = id_hex(&round->order.round, id),
                                      .group = "shop",
                                      .label = label_of(far, round)};
        const struct definition *definition = definition_of(far, &round->order.epoch);
        int single = definition == NULL ? -1 : align_single(&round->order, definition);
        point.vm = single < 0 ? NULL : definition->members[single].name.s;
        json_t *object = object_of(far, round, &point.wall_ns);
        char *text = json_dumps(object, JSON_COMPACT);
        TIDE_CHECK(text != NULL);
        point.json = text;
        if (catalog_put_point(catalog, &point, &err) != 0) {
            check_failed(err.text, __FILE__, __LINE__);
        }
        free(text);
        json_decref(object);
    }
}

static void add_points(struct catalog *catalog, bool single_vm, json_t *to)
{
    struct catalog_query query = {.single_vm = single_vm};
    do {
        struct err err;
        json_t *page = NULL;
        if (catalog_points(catalog, &query, &page, &query.before, &err) != 0) {
            check_failed(err.text, __FILE__, __LINE__);
        }
        json_array_extend(to, page);
        json_decref(page);
    } while (query.before.id[0] != '\0');
}

static json_t *points_of(struct catalog *catalog)
{
    json_t *points = json_array();
    add_points(catalog, false, points);
    add_points(catalog, true, points);
    return points;
}

static const char *first_difference(const json_t *kept, const json_t *rebuilt)
{
    static char what[300];
    size_t most = json_array_size(kept) > json_array_size(rebuilt) ? json_array_size(kept)
                                                                   : json_array_size(rebuilt);
    for (size_t i = 0; i < most; i++) {
        const json_t *a = json_array_get(kept, i);
        const json_t *b = json_array_get(rebuilt, i);
        if (a == NULL || b == NULL || !json_equal(a, b)) {
            const char *x = a == NULL ? "none" : json_string_value(json_object_get(a, "point"));
            const char *y = b == NULL ? "none" : json_string_value(json_object_get(b, "point"));
            snprintf(what, sizeof what,
                     "%zu points were kept and %zu are rebuilt from the store; place %zu: %.8s "
                     "kept, %.8s rebuilt",
                     json_array_size(kept), json_array_size(rebuilt), i, x, y);
            return what;
        }
    }
    return NULL;
}

struct align *far_reread(const struct far *far)
{
    struct align *align = new_align(far, TIDE_ALIGN_ROUNDS_MAX);
    for (unsigned d = 0; d < far->definition->disk_count; d++) {
        for (size_t i = 0; i < far->streams[d].durable; i++) {
            feed(far, align, &far->streams[d].objects[i]);
        }
    }
    return align;
}

const char *far_catalog_differs(const struct far *far)
{
    struct align *align = far_reread(far);
    struct catalog *catalog = new_catalog();
    publish(far, align, catalog);
    json_t *kept = points_of(far->catalog);
    json_t *rebuilt = points_of(catalog);
    const char *what = first_difference(kept, rebuilt);
    json_decref(kept);
    json_decref(rebuilt);
    catalog_close(catalog);
    align_free(align);
    return what;
}

/* ---- the store ---- */

static uint64_t last_of(const struct stream *stream, size_t count)
{
    return count == 0 ? 0 : stream->objects[count - 1].info.last_lsn;
}

static void free_put(struct far *far, struct put *put)
{
    TAILQ_REMOVE(&far->puts, put, entry);
    free(put->bytes);
    free(put);
}

static struct put *find(struct far *far, uint64_t number)
{
    struct put *put;
    TAILQ_FOREACH(put, &far->puts, entry)
    {
        if (put->number == number) {
            return put;
        }
    }
    return NULL;
}

static uint64_t way_us(struct far *far)
{
    return WAY_US_MIN + prng_below(&far->prng, WAY_US_MAX - WAY_US_MIN);
}

static void answered(void *context, uint64_t number, uint64_t unused)
{
    struct far *far = context;
    struct put *put = find(far, number);
    (void)unused;
    if (put != NULL) {
        put->answer(put->context, put->tag, &put->what);
        free_put(far, put);
    }
}

static void answer(struct far *far, struct put *put)
{
    if (prng_below(&far->prng, 100) < LOST_PERCENT) {
        put->what = (struct window_answer){.code = TIDE_ERR_UNREACHABLE};
        roundlab_call(far->lab, TIMEOUT_US, answered, far, put->number, 0);
        return;
    }
    if (put->what.code == TIDE_ERR_OK && !put->what.forked) {
        far->watch.stored(far->watch.context, put->disk, put->what.stored);
    }
    roundlab_call(far->lab, way_us(far), answered, far, put->number, 0);
}

/* The sync that began with it has ended. */
static void synced(void *context, uint64_t number, uint64_t life)
{
    struct far *far = context;
    struct put *put = find(far, number);
    if (put == NULL || life != far->life) {
        return; /* it crashed meanwhile */
    }
    struct stream *stream = &far->streams[put->disk];
    for (; stream->durable < put->syncs; stream->durable++) {
        if (!PLANTED(POINT_UNSTORED)) {
            feed(far, far->align, &stream->objects[stream->durable]);
        }
    }
    publish(far, far->align, far->catalog);
    put->what.stored = last_of(stream, stream->durable);
    put->waits = false;
    if (!PLANTED(STORED_UNSYNCED)) {
        answer(far, put);
    }
}

static void add(struct far *far, struct stream *stream, const struct object *object)
{
    if (stream->count == stream->room) {
        stream->room = stream->room == 0 ? 16 : stream->room * 2;
        stream->objects = realloc(stream->objects, stream->room * sizeof *stream->objects);
        TIDE_CHECK(stream->objects != NULL);
    }
    stream->objects[stream->count++] = *object;
    if (PLANTED(POINT_UNSTORED)) {
        feed(far, far->align, object);
        publish(far, far->align, far->catalog);
    }
}

/* What was staged and is due now. */
static void unstage(struct far *far, struct stream *stream)
{
    for (unsigned i = 0; i < stream->staged_count;) {
        const struct object object = stream->staged[i];
        if (object.info.header.first_lsn > last_of(stream, stream->count) + 1) {
            i++;
            continue;
        }
        stream->staged[i] = stream->staged[--stream->staged_count];
        struct err err;
        if (segment_follows(stream->count == 0 ? NULL : &stream->objects[stream->count - 1].info,
                            &object.info, &err) == 0) {
            add(far, stream, &object);
            i = 0;
        } else {
            free(object.bytes);
        }
    }
}

static bool is_known(const struct stream *stream, const struct segment_info *info)
{
    for (size_t i = stream->count; i > 0; i--) {
        const struct segment_info *have = &stream->objects[i - 1].info;
        if (have->header.first_lsn == info->header.first_lsn) {
            return hash_equal(&have->hash, &info->hash);
        }
    }
    return false;
}

/* Taken, staged, known; false: a fork. Bytes that are kept are no longer the put's. */
static bool take(struct far *far, struct stream *stream, struct put *put)
{
    struct object object = {.bytes = put->bytes, .size = put->size};
    struct source source = source_of(&object);
    struct err err;
    if (segment_verify(&source, 0, far->buffer, BUFFER, &object.info, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    const struct segment_info *before =
        stream->count == 0 ? NULL : &stream->objects[stream->count - 1].info;
    uint64_t due = last_of(stream, stream->count) + 1;
    if (object.info.header.first_lsn < due) {
        return is_known(stream, &object.info);
    }
    if (object.info.header.first_lsn > due) {
        if (stream->staged_count < STAGED_MAX) {
            stream->staged[stream->staged_count++] = object;
            put->bytes = NULL;
        }
        return true;
    }
    if (segment_follows(before, &object.info, &err) != 0) {
        return false;
    }
    add(far, stream, &object);
    put->bytes = NULL;
    unstage(far, stream);
    return true;
}

static void arrived(void *context, uint64_t number, uint64_t unused)
{
    struct far *far = context;
    struct put *put = find(far, number);
    (void)unused;
    TIDE_CHECK(put != NULL);
    if (!far->up) {
        put->what = (struct window_answer){.code = TIDE_ERR_UNREACHABLE};
        answer(far, put);
        return;
    }
    struct stream *stream = &far->streams[put->disk];
    put->what = (struct window_answer){.code = TIDE_ERR_OK};
    if (!take(far, stream, put)) {
        far->watch.forked(far->watch.context, put->disk, last_of(stream, stream->count));
        put->what.forked = true;
        answer(far, put);
        return;
    }
    put->syncs = stream->count;
    roundlab_call(far->lab, SYNC_US_MIN + prng_below(&far->prng, SYNC_US_MAX - SYNC_US_MIN), synced,
                  far, number, far->life);
    put->waits = !PLANTED(STORED_UNSYNCED);
    if (PLANTED(STORED_UNSYNCED)) {
        put->what.stored = last_of(stream, stream->count);
        answer(far, put);
    }
}

void far_put(struct far *far, unsigned disk, const uint8_t *bytes, size_t size,
             far_answer_fn *answer_to, void *context, uint64_t tag)
{
    struct put *put = calloc(1, sizeof *put);
    TIDE_CHECK(put != NULL);
    put->number = ++far->number;
    put->disk = disk;
    put->bytes = malloc(size);
    TIDE_CHECK(put->bytes != NULL);
    memcpy(put->bytes, bytes, size);
    put->size = size;
    put->answer = answer_to;
    put->context = context;
    put->tag = tag;
    TAILQ_INSERT_TAIL(&far->puts, put, entry);
    if (prng_below(&far->prng, 100) < LOST_PERCENT) {
        put->what = (struct window_answer){.code = TIDE_ERR_UNREACHABLE};
        roundlab_call(far->lab, TIMEOUT_US, answered, far, put->number, 0);
        return;
    }
    roundlab_call(far->lab, way_us(far), arrived, far, put->number, 0);
}

bool far_where(const struct far *far, unsigned disk, uint64_t *ret_lsn, struct hash *ret_hash)
{
    if (!far->up) {
        return false;
    }
    const struct stream *stream = &far->streams[disk];
    *ret_lsn = last_of(stream, stream->durable);
    *ret_hash =
        stream->durable == 0 ? (struct hash){{0}} : stream->objects[stream->durable - 1].info.hash;
    return true;
}

/* ---- its life ---- */

void far_down(struct far *far)
{
    if (!far->up) {
        return;
    }
    far->up = false;
    far->life++;
    for (unsigned d = 0; d < far->definition->disk_count; d++) {
        struct stream *stream = &far->streams[d];
        size_t kept = stream->durable + prng_below(&far->prng, stream->count - stream->durable + 1);
        while (stream->count > kept) { /* the first that is torn ends what can be read */
            free(stream->objects[--stream->count].bytes);
        }
        stream->durable = kept;
        while (stream->staged_count > 0) {
            free(stream->staged[--stream->staged_count].bytes);
        }
    }
    struct put *put;
    TAILQ_FOREACH(put, &far->puts, entry)
    {
        if (put->waits) {
            put->waits = false;
            put->what = (struct window_answer){.code = TIDE_ERR_UNREACHABLE};
            roundlab_call(far->lab, TIMEOUT_US, answered, far, put->number, 0);
        }
    }
    align_free(far->align);
    far->align = NULL;
}

void far_up(struct far *far)
{
    if (far->up) {
        return;
    }
    far->up = true;
    far->align = new_align(far, TIDE_ALIGN_ROUNDS);
    far->defined = define(far, far->align, 0);
    for (unsigned d = 0; d < far->definition->disk_count; d++) {
        for (size_t i = 0; i < far->streams[d].count; i++) {
            feed(far, far->align, &far->streams[d].objects[i]);
        }
    }
    publish(far, far->align, far->catalog); /* what a crash left out */
}

bool far_is_up(const struct far *far)
{
    return far->up;
}

const struct align *far_align(const struct far *far)
{
    return far->align;
}

size_t far_count(const struct far *far, unsigned disk)
{
    return far->streams[disk].durable;
}

uint64_t far_durable(const struct far *far, unsigned disk)
{
    return last_of(&far->streams[disk], far->streams[disk].durable);
}

uint64_t far_received(const struct far *far, unsigned disk)
{
    return last_of(&far->streams[disk], far->streams[disk].count);
}

const uint8_t *far_object(const struct far *far, unsigned disk, size_t index, size_t *ret_size)
{
    *ret_size = far->streams[disk].objects[index].size;
    return far->streams[disk].objects[index].bytes;
}

struct far *far_new(struct roundlab *lab, uint64_t seed, const struct far_watch *watch)
{
    struct far *far = calloc(1, sizeof *far);
    TIDE_CHECK(far != NULL);
    far->lab = lab;
    far->definition = roundlab_definition(lab);
    far->watch = *watch;
    prng_init(&far->prng, seed ^ 0x666172ULL);
    far->streams = calloc(far->definition->disk_count, sizeof *far->streams);
    far->reader = calloc(1, sizeof *far->reader);
    TIDE_CHECK(far->streams != NULL && far->reader != NULL);
    TAILQ_INIT(&far->puts);
    far->align = new_align(far, TIDE_ALIGN_ROUNDS);
    far->defined = define(far, far->align, 0);
    far->catalog = new_catalog();
    far->up = true;
    return far;
}

void far_free(struct far *far)
{
    if (far == NULL) {
        return;
    }
    while (!TAILQ_EMPTY(&far->puts)) {
        free_put(far, TAILQ_FIRST(&far->puts));
    }
    for (unsigned d = 0; d < far->definition->disk_count; d++) {
        struct stream *stream = &far->streams[d];
        for (size_t i = 0; i < stream->count; i++) {
            free(stream->objects[i].bytes);
        }
        for (unsigned i = 0; i < stream->staged_count; i++) {
            free(stream->staged[i].bytes);
        }
        free(stream->objects);
    }
    free(far->streams);
    free(far->reader);
    align_free(far->align);
    catalog_close(far->catalog);
    free(far);
}
