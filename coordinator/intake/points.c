/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/points.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/faultpoint.h"
#include "common/io/jsontext.h"
#include "common/io/log.h"
#include "coordinator/store/segment_file.h"

#define POINT_MAX     (8U * 1024 * 1024) /* bytes of a point's object */
#define FOOTER_BUFFER 4096U
#define RETRY_US      (1U * CLOCK_US_PER_S)

struct group {
    struct name name;
    struct align *align;
};

struct tagging {
    struct id stream;
    struct manifest_tag tag;
};

/* What makes a decided round durable. */
struct commit {
    struct points *points;
    struct commit *next; /* while it waits for another try */
    bool failed;         /* no point: a row of the catalog alone */
    bool healing;        /* at start: some of it may be there already */
    char id[TIDE_ID_HEX];
    struct name group;
    const char *label;
    struct name vm; /* whose single-VM point, or round, it is; empty: the group's */
    uint64_t wall_ns;
    char *json;
    struct tagging *tags;
    size_t tag_count;
    size_t tags_done; /* a try goes on where the last one ended */
    struct err err;
};

struct points {
    struct store *store;
    struct catalog *catalog;
    struct pool *pool;
    struct loop *loop;
    struct registry *registry; /* from points_recover() on */
    struct group *groups;
    size_t group_count;
    unsigned pending;
    bool recovering;
    struct commit *waiting; /* for another try */
    struct id *blind;       /* streams of which something could not be fed */
    size_t blind_count;
    bool all_blind;
    struct loop_timer retry;
    struct log_limit limit;
};

/* ---- objects ---- */

static const char *iso(uint64_t wall_ns, char ret[40])
{
    time_t seconds = (time_t)(wall_ns / 1000000000U);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    snprintf(ret, 40, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", (tm.tm_year + 1900) % 10000,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
             (unsigned)(wall_ns / 1000000U % 1000U));
    return ret;
}

/* How many of the bookmarks' clocks come before that one. */
static size_t clocks_before(const struct align_round *round, size_t entry)
{
    const struct align_entry *entries = round->entries;
    size_t count = 0;
    for (size_t k = 0; k < round->entry_count; k++) {
        bool before = entries[k].wall_ns < entries[entry].wall_ns ||
                      (entries[k].wall_ns == entries[entry].wall_ns && k < entry);
        count += entries[k].wall_ns != 0 && before;
    }
    return count;
}

static uint64_t wall_of(const struct align_round *round)
{
    size_t known = 0;
    for (size_t k = 0; k < round->entry_count; k++) {
        known += round->entries[k].wall_ns != 0;
    }
    for (size_t k = 0; k < round->entry_count; k++) {
        uint64_t wall = round->entries[k].wall_ns;
        if (wall != 0 && clocks_before(round, k) == (known - 1) / 2) {
            return wall > INT64_MAX ? INT64_MAX : wall;
        }
    }
    return 0;
}

static json_t *disk_object(const struct align_entry *e, const struct definition_disk *disk)
{
    char stream[TIDE_ID_HEX];
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "disk", disk->name.s,
                     "stream", id_hex(&disk->stream, stream), "lsn", (json_int_t)e->mark.lsn,
                     "seal_lsn", (json_int_t)e->seal_lsn, "hold_us", (json_int_t)e->hold_us,
                     "writes_held", (json_int_t)e->writes_held, "bytes_held",
                     (json_int_t)e->bytes_held, "budget_us", (json_int_t)e->budget_us, "outcome",
                     round_outcome_name((unsigned)e->outcome));
}

/* NULL: no memory. What could not be added must not be left out silently: it is a part of a point.
 */
static json_t *member_object(const struct align_round *round, const struct definition *d,
                             unsigned member)
{
    const struct definition_member *m = &d->members[member];
    json_t *disks = json_array();
    uint64_t longest_us = 0;
    uint64_t held = 0;
    bool all = true;
    for (unsigned k = 0; k < m->disk_count; k++) {
        unsigned index = m->disk_first + k;
        const struct align_entry *e = align_entry(round, &d->disks[index].stream);
        if (e != NULL && set_has(&round->order.set, index)) {
            all = json_array_append_new(disks, disk_object(e, &d->disks[index])) == 0 && all;
            longest_us = e->hold_us > longest_us ? e->hold_us : longest_us;
            held += e->writes_held;
        }
    }
    if (!all) {
        json_decref(disks);
        return NULL;
    }
    return json_pack("{s:s, s:I, s:I, s:o}", "member", m->name.s, "hold_us", (json_int_t)longest_us,
                     "writes_held", (json_int_t)held, "disks", disks);
}

/* A yes of the rule that may be called a point, or one without the hold. */
static bool is_point(const struct align_round *round, const struct definition *definition)
{
    return align_label(round, definition) != ALIGN_LABEL_NONE;
}

/* The VM that a round of scope `member` is of; where it is not of exactly one, of its first stream.
 * Empty: it is of the group. */
static struct name vm_of(const struct align_round *round, const struct definition *definition)
{
    struct name none = {{0}};
    int disk = -1;
    if (round->order.scope != ROUND_SCOPE_MEMBER || definition == NULL) {
        return none;
    }
    for (size_t k = 0; disk < 0 && k < round->entry_count; k++) {
        disk = definition_find_stream(definition, &round->entries[k].mark.stream);
    }
    return disk < 0 ? none : definition->members[definition->disks[disk].member].name;
}

char *points_object(const struct align_round *round, const struct definition *definition,
                    uint64_t *ret_wall_ns)
{
    char id[TIDE_ID_HEX];
    char cut[TIDE_HASH_HEX];
    char epoch[TIDE_HASH_HEX];
    char when[40];
    TIDE_CHECK(is_point(round, definition));
    bool group = round->order.scope == ROUND_SCOPE_GROUP;
    uint64_t wall = wall_of(round);
    json_t *members = json_array();
    json_t *missing = json_array();
    bool all = true;
    for (unsigned k = 0; k < definition->member_count; k++) {
        if (definition_set_has_member(definition, k, &round->order.set)) {
            all = json_array_append_new(members, member_object(round, definition, k)) == 0 && all;
        } else if (group) { /* of one VM's point nobody is missing */
            const char *name = definition->members[k].name.s;
            all = json_array_append_new(missing, json_string(name)) == 0 && all;
        }
    }
    json_t *o =
        json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:o, s:o, s:s}", "point",
                  id_hex(&round->order.round, id), "group", definition->group_name.s, "epoch",
                  (json_int_t)round->order.epoch.number, "epoch_hash",
                  hash_hex(&round->order.epoch.hash, epoch), "time", iso(wall, when), "wall_ns",
                  (json_int_t)wall, "kind", round_kind_name((unsigned)round->order.kind), "scope",
                  round_scope_name((unsigned)round->order.scope), "vm", vm_of(round, definition).s,
                  "label", align_label_name(align_label(round, definition)), "members", members,
                  "missing", missing, "cut", hash_hex(&round->cut, cut));
    char *text = !all ? NULL : jsontext_write(o, JSON_INDENT(1));
    json_decref(o);
    *ret_wall_ns = wall;
    return text;
}

char *points_failed(const struct align_round *round, const struct definition *definition,
                    const char *group, uint64_t *ret_wall_ns)
{
    char id[TIDE_ID_HEX];
    char when[40];
    uint64_t wall = wall_of(round);
    const char *member = "";
    const char *disk = "";
    int at = definition == NULL ? -1 : definition_find_stream(definition, &round->where);
    if (at >= 0) {
        member = definition->members[definition->disks[at].member].name.s;
        disk = definition->disks[at].name.s;
    }
    const char *why = round->answer == ROUND_ANSWER_YES
                          ? "its scope is one VM, and its set is not all disks of one"
                          : align_why_text(round->why);
    json_t *o =
        json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "round",
                  id_hex(&round->order.round, id), "group", group, "epoch",
                  (json_int_t)round->order.epoch.number, "time", iso(wall, when), "kind",
                  round_kind_name((unsigned)round->order.kind), "scope",
                  round_scope_name((unsigned)round->order.scope), "vm", vm_of(round, definition).s,
                  "reason", why, "member", member, "disk", disk);
    char *text = jsontext_write(o, JSON_COMPACT);
    json_decref(o);
    *ret_wall_ns = wall;
    return text;
}

/* ---- committing ---- */

static void commit_free(struct commit *c)
{
    free(c->json);
    free(c->tags);
    free(c);
}

static int tagged(const struct commit *c, const struct tagging *t, bool *ret, struct err *err)
{
    struct manifest m;
    if (manifest_read(store_path(c->points->store), &t->stream, &m, err) < 0) {
        return -1;
    }
    *ret = false;
    for (size_t k = 0; k < m.tag_count; k++) {
        *ret = *ret || id_equal(&m.tags[k].point, &t->tag.point);
    }
    manifest_close(&m);
    return 0;
}

static int commit_tags(struct commit *c, struct err *err)
{
    for (; c->tags_done < c->tag_count; c->tags_done++) {
        const struct tagging *t = &c->tags[c->tags_done];
        bool there = false;
        if (c->healing && tagged(c, t, &there, err) < 0) {
            return -1;
        }
        if (!there && store_tag(c->points->store, &t->stream, &t->tag, err) < 0) {
            return -1;
        }
        FAULT_POINT(true, "stream-tagged");
    }
    return 0;
}

static int commit_point(struct commit *c, struct err *err)
{
    char relative[160];
    const char *root = store_path(c->points->store);
    snprintf(relative, sizeof(relative), "points/%s/%s.json", c->group.s, c->id);
    struct catalog_point row = {.point = c->id,
                                .group = c->group.s,
                                .label = c->label,
                                .wall_ns = c->wall_ns,
                                .json = c->json,
                                .vm = c->vm.s};
    uint8_t *there = NULL;
    size_t size = 0;
    if (object_get(root, relative, POINT_MAX, &there, &size, NULL) == 0 && !c->healing &&
        (size != strlen(c->json) || memcmp(there, c->json, size) != 0)) {
        free(there);
        return err_set(err, TIDE_ERR_CONFLICT, "'%s/%s' has another content", root, relative);
    }
    if (there != NULL && c->healing) {
        row.json = (const char *)there; /* what was said once stays */
    } else if (commit_tags(c, err) < 0 ||
               object_put(root, relative, c->json, strlen(c->json), false, err) < 0) {
        free(there);
        return -1;
    }
    FAULT_POINT(true, "point-written");
    int rc = catalog_put_point(c->points->catalog, &row, err);
    free(there);
    FAULT_POINT(rc == 0, "point-listed");
    return rc;
}

static int commit_run(struct commit *c, struct err *err)
{
    if (c->failed) {
        struct catalog_round row = {.round = c->id,
                                    .group = c->group.s,
                                    .wall_ns = c->wall_ns,
                                    .json = c->json,
                                    .vm = c->vm.s};
        return catalog_put_round(c->points->catalog, &row, err);
    }
    return commit_point(c, err);
}

static void commit_work(void *arg)
{
    struct commit *c = arg;
    c->err = (struct err){0};
    (void)commit_run(c, &c->err);
}

static void wait_for_try(struct commit *c)
{
    struct points *p = c->points;
    c->next = p->waiting;
    p->waiting = c;
    loop_timer_set(&p->retry, clock_mono_us() + RETRY_US);
}

static void commit_done(void *arg)
{
    struct commit *c = arg;
    struct points *p = c->points;
    if (c->err.code == TIDE_ERR_CONFLICT) {
        /* A member that used a round's id again, under another order: what was said first stays. */
        log_error("ALARM: point %s of group '%s' (%s) is not published: another was, with the same "
                  "id: %s",
                  c->id, c->group.s, c->label, c->err.text);
        p->pending--;
        commit_free(c);
        return;
    }
    if (c->err.code != TIDE_ERR_OK) {
        if (log_allowed(&p->limit, 5, 60U * CLOCK_US_PER_S, clock_mono_us(), NULL)) {
            log_error("point %s of group '%s' cannot be written, tried again: %s", c->id,
                      c->group.s, c->err.text);
        }
        wait_for_try(c);
        return;
    }
    if (!c->failed) {
        log_info("point %s of group '%s': %s", c->id, c->group.s, c->label);
    }
    p->pending--;
    commit_free(c);
}

static void commit_submit(struct commit *c)
{
    if (pool_submit(c->points->pool, commit_work, commit_done, c, NULL) < 0) {
        wait_for_try(c);
    }
}

/* ---- deciding ---- */

static int fill_tags(struct commit *c, const struct align_round *round, const struct definition *d)
{
    c->tags = calloc(d->disk_count, sizeof(*c->tags));
    if (c->tags == NULL) {
        return -1;
    }
    for (unsigned k = 0; k < d->disk_count; k++) {
        const struct align_entry *e = align_entry(round, &d->disks[k].stream);
        if (e == NULL || !set_has(&round->order.set, k)) {
            continue;
        }
        c->tags[c->tag_count++] = (struct tagging){.stream = e->mark.stream,
                                                   .tag = {.point = round->order.round,
                                                           .lsn = e->mark.lsn,
                                                           .cut = round->cut,
                                                           .unaligned = round->unaligned}};
    }
    return 0;
}

static struct commit *commit_new(struct points *p, const struct group *g,
                                 const struct align_round *round, struct err *err)
{
    const struct definition *d = NULL;
    if (registry_definition(p->registry, &round->order.group, &round->order.epoch, &d, err) < 0 &&
        (round->answer == ROUND_ANSWER_YES || round->unaligned)) {
        return NULL;
    }
    bool point = is_point(round, d);
    struct commit *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory to commit a round");
        return NULL;
    }
    c->points = p;
    c->failed = !point;
    c->healing = p->recovering;
    c->group = g->name;
    c->label = align_label_name(align_label(round, d));
    c->vm = vm_of(round, d);
    id_hex(&round->order.round, c->id);
    c->json = point ? points_object(round, d, &c->wall_ns)
                    : points_failed(round, d, g->name.s, &c->wall_ns);
    if (c->json == NULL || (point && fill_tags(c, round, d) < 0)) {
        err_set(err, TIDE_ERR_LIMIT, "no memory to commit a round");
        commit_free(c);
        return NULL;
    }
    return c;
}

static int decided(struct points *p, struct group *g, const struct align_round *round,
                   struct err *err)
{
    char hex[TIDE_ID_HEX];
    struct err e = {0};
    if (p->pending >= TIDE_POINTS_PENDING_MAX) {
        log_error("round %s of group '%s' is not written now: %u others wait for the store; the "
                  "next start will",
                  id_hex(&round->order.round, hex), g->name.s, p->pending);
        return 0;
    }
    struct commit *c = commit_new(p, g, round, &e);
    if (c == NULL && e.code == TIDE_ERR_LIMIT) {
        return err_set(err, e.code, "round %s of group '%s' is not written: %s",
                       id_hex(&round->order.round, hex), g->name.s, e.text);
    }
    if (c == NULL) {
        log_error("round %s of group '%s' is not written: %s", id_hex(&round->order.round, hex),
                  g->name.s, e.text);
        return 0;
    }
    if (p->recovering) {
        int rc = commit_run(c, err);
        commit_free(c);
        return rc;
    }
    p->pending++;
    commit_submit(c);
    return 0;
}

static int group_of(struct points *p, const struct name *name, const struct id *id,
                    struct group **ret, struct err *err)
{
    for (size_t k = 0; k < p->group_count; k++) {
        if (name_equal(&p->groups[k].name, name)) {
            *ret = &p->groups[k];
            return 0;
        }
    }
    struct group *more = realloc(p->groups, (p->group_count + 1) * sizeof(*more));
    if (more == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to align group '%s'", name->s);
    }
    p->groups = more;
    struct align *align = align_new(id, true, TIDE_ALIGN_ROUNDS);
    if (align == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to align group '%s'", name->s);
    }
    p->groups[p->group_count] = (struct group){.name = *name, .align = align};
    *ret = &p->groups[p->group_count++];
    return 0;
}

/* What finds no memory stays decided: at start that ends the start, later it is tried again. */
static int drain(struct points *p, struct group *g, struct err *err)
{
    const struct align_round *round;
    struct err e = {0};
    while ((round = align_next_decided(g->align)) != NULL) {
        if (decided(p, g, round, &e) == 0) {
            continue;
        }
        align_give_back(g->align, round);
        if (p->recovering) {
            return err_set(err, e.code, "%s", e.text);
        }
        if (log_allowed(&p->limit, 5, 60U * CLOCK_US_PER_S, clock_mono_us(), NULL)) {
            log_error("%s; it is tried again", e.text);
        }
        loop_timer_set(&p->retry, clock_mono_us() + RETRY_US);
        break;
    }
    return 0;
}

static void retry_all(void *arg)
{
    struct points *p = arg;
    struct commit *list = p->waiting;
    p->waiting = NULL;
    while (list != NULL) {
        struct commit *c = list;
        list = c->next;
        c->next = NULL;
        commit_submit(c);
    }
    for (size_t k = 0; k < p->group_count; k++) {
        (void)drain(p, &p->groups[k], NULL);
    }
}

int points_define(void *points, const struct definition *definition, struct err *err)
{
    struct points *p = points;
    struct group *g = NULL;
    if (group_of(p, &definition->group_name, &definition->group, &g, err) < 0 ||
        align_define(g->align, definition, err) < 0) {
        return -1;
    }
    return p->registry == NULL ? 0 : drain(p, g, err);
}

/* Where something of a stream could not be fed, what follows is not fed either, up to the next
 * start: a gap may have been in it, and the stream would pass for whole. */
static void make_blind(struct points *p, const struct id *stream)
{
    struct id *more = realloc(p->blind, (p->blind_count + 1) * sizeof(*more));
    if (more == NULL) {
        p->all_blind = true;
        return;
    }
    p->blind = more;
    p->blind[p->blind_count++] = *stream;
}

static bool is_blind(const struct points *p, const struct id *stream)
{
    bool found = p->all_blind;
    for (size_t k = 0; k < p->blind_count && !found; k++) {
        found = id_equal(&p->blind[k], stream);
    }
    return found;
}

int points_feed(struct points *points, const struct manifest_stream *stream,
                const struct record *records, size_t count, struct err *err)
{
    struct group *g = NULL;
    for (size_t k = 0; g == NULL && k < registry_count(points->registry); k++) {
        struct name name;
        struct id id;
        registry_at(points->registry, k, &name, &id);
        if (name_equal(&name, &stream->group) && group_of(points, &name, &id, &g, err) < 0) {
            make_blind(points, &stream->stream);
            return -1;
        }
    }
    if (g == NULL || is_blind(points, &stream->stream)) {
        return 0; /* of no group that is applied now, or not all of it is known */
    }
    for (size_t k = 0; k < count; k++) {
        if (align_feed(g->align, &records[k], err) < 0) {
            make_blind(points, &stream->stream);
            return -1;
        }
    }
    return drain(points, g, err);
}

/* ---- segments ---- */

/* *ret_short: it failed for want of memory, which says nothing of the segment. */
static int extract(const struct source *source, struct record **ret_records, size_t *ret_count,
                   bool *ret_short, struct err *err)
{
    uint8_t buffer[FOOTER_BUFFER];
    struct segment_reader reader;
    if (segment_reader_init(&reader, source, 0, buffer, sizeof(buffer), err) < 0) {
        return -1;
    }
    size_t count = reader.info.entry_count;
    struct record *records = calloc(count + 1, sizeof(*records));
    if (records == NULL) {
        *ret_short = true;
        return err_set(err, TIDE_ERR_LIMIT, "no memory for %zu records", count);
    }
    for (uint32_t k = 0; k < count; k++) {
        if (segment_reader_entry(&reader, k, NULL, &records[k], err) < 0) {
            free(records);
            return -1;
        }
    }
    *ret_records = records;
    *ret_count = count;
    return 0;
}

int points_extract(const void *bytes, size_t size, struct record **ret_records, size_t *ret_count,
                   struct err *err)
{
    struct source_part part = {.base = bytes, .size = size};
    struct source_memory memory = {.parts = &part, .count = 1};
    struct source source = source_memory(&memory);
    bool is_short = false;
    return extract(&source, ret_records, ret_count, &is_short, err);
}

/* ---- recovery at start ---- */

/* One stream of the replay. Streams are fed side by side, by the clock of their bookmarks, so that
 * few rounds are open at once. */
struct cursor {
    struct manifest m;
    size_t next; /* segment */
    uint64_t wall_ns;
};

struct replay {
    struct points *points;
    struct cursor *cursors;
    size_t count;
    size_t room;
};

static int replay_add(void *context, const struct manifest_stream *stream, struct err *err)
{
    struct replay *r = context;
    if (r->count == r->room) {
        size_t room = r->room == 0 ? 16 : 2 * r->room;
        struct cursor *more = realloc(r->cursors, room * sizeof(*more));
        if (more == NULL) {
            return err_set(err, TIDE_ERR_LIMIT, "no memory to replay %zu streams", room);
        }
        r->cursors = more;
        r->room = room;
    }
    struct cursor c = {0};
    if (manifest_read(store_path(r->points->store), &stream->stream, &c.m, err) < 0) {
        return -1;
    }
    r->cursors[r->count++] = c;
    return 0;
}

static int replay_segment(struct replay *r, struct cursor *c, struct err *err)
{
    char path[PATH_MAX];
    struct segment_file file;
    struct record *records = NULL;
    size_t count = 0;
    bool is_short = false;
    struct err e = {0};
    const struct manifest_segment *s = &c->m.segments[c->next++];
    manifest_segment_path(store_path(r->points->store), &c->m.stream.stream, s->first, s->last,
                          path);
    int rc = segment_file_open(&file, store_keyring(r->points->store), path, &e);
    if (rc == 0) {
        struct source source = segment_file_source(&file);
        rc = extract(&source, &records, &count, &is_short, &e);
        segment_file_close(&file);
    }
    if (is_short) {
        return err_set(err, e.code, "'%s': %s", path, e.text);
    }
    if (rc < 0) {
        log_error("ALARM: '%s' cannot be read; rounds after it stay unknown: %s", path, e.text);
        c->next = c->m.segment_count;
        make_blind(r->points, &c->m.stream.stream);
        return 0;
    }
    for (size_t k = 0; k < count; k++) {
        if (records[k].type == RECORD_BOOKMARK) {
            c->wall_ns = records[k].bookmark.wall_ns;
        }
    }
    rc = points_feed(r->points, &c->m.stream, records, count, err);
    free(records);
    return rc;
}

static int replay_all(struct replay *r, struct err *err)
{
    for (;;) {
        struct cursor *least = NULL;
        for (size_t k = 0; k < r->count; k++) {
            struct cursor *c = &r->cursors[k];
            if (c->next < c->m.segment_count && (least == NULL || c->wall_ns < least->wall_ns)) {
                least = c;
            }
        }
        if (least == NULL) {
            return 0;
        }
        if (replay_segment(r, least, err) < 0) {
            return -1;
        }
    }
}

static int refill_one(struct points *p, const char *group, const char *name, struct err *err)
{
    char relative[400];
    uint8_t *text = NULL;
    size_t size = 0;
    snprintf(relative, sizeof(relative), "points/%s/%s", group, name);
    if (object_get(store_path(p->store), relative, POINT_MAX, &text, &size, err) < 0) {
        return -1;
    }
    json_t *o = NULL;
    if (jsontext_read(text, size, 0, &o, err) < 0 && err->code == TIDE_ERR_LIMIT) {
        free(text);
        return err_wrap(err, "'%s'", relative);
    }
    struct catalog_point row = {.point = json_string_value(json_object_get(o, "point")),
                                .group = json_string_value(json_object_get(o, "group")),
                                .label = json_string_value(json_object_get(o, "label")),
                                .wall_ns =
                                    (uint64_t)json_integer_value(json_object_get(o, "wall_ns")),
                                .json = (const char *)text,
                                .vm = json_string_value(json_object_get(o, "vm"))};
    int rc = 0;
    if (row.point == NULL || row.group == NULL || row.label == NULL) {
        log_error("'%s' is not a point's object; passed over", relative);
    } else {
        rc = catalog_put_point(p->catalog, &row, err);
    }
    json_decref(o);
    free(text);
    return rc;
}

static int refill(struct points *p, struct err *err)
{
    for (size_t k = 0; k < registry_count(p->registry); k++) {
        struct name group;
        struct id id;
        char relative[128];
        char **names = NULL;
        size_t count = 0;
        registry_at(p->registry, k, &group, &id);
        snprintf(relative, sizeof(relative), "points/%s", group.s);
        if (object_names(store_path(p->store), relative, ".json", &names, &count, err) < 0) {
            return -1;
        }
        int rc = 0;
        for (size_t j = 0; j < count && rc == 0; j++) {
            rc = refill_one(p, group.s, names[j], err);
        }
        object_names_free(names);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

int points_recover(struct points *points, struct registry *registry, bool fresh, struct err *err)
{
    struct replay r = {.points = points};
    points->registry = registry;
    points->recovering = true;
    int rc = catalog_begin(points->catalog, err);
    if (rc == 0) {
        rc = store_stream_each(points->store, replay_add, &r, err);
        if (rc == 0) {
            rc = replay_all(&r, err);
        }
        if (rc == 0 && fresh) {
            rc = refill(points, err);
        }
        if (rc == 0) {
            rc = catalog_filled(points->catalog, err);
        }
        if (rc < 0) {
            catalog_rollback(points->catalog);
        } else {
            rc = catalog_commit(points->catalog, err);
        }
    }
    for (size_t k = 0; k < r.count; k++) {
        manifest_close(&r.cursors[k].m);
    }
    free(r.cursors);
    points->recovering = false;
    return rc;
}

/* ---- asking ---- */

static void state_of_round(const struct align_round *round, struct intake_point_state *ret)
{
    char hex[TIDE_ID_HEX];
    if (round->answer == ROUND_ANSWER_YES || round->unaligned) {
        snprintf(ret->text, sizeof(ret->text), "aligned, and about to be written");
        return;
    }
    ret->answer = round->answer;
    if (id_is_zero(&round->where)) {
        snprintf(ret->text, sizeof(ret->text), "%s", align_why_text(round->why));
    } else {
        snprintf(ret->text, sizeof(ret->text), "stream %s: %s", id_hex(&round->where, hex),
                 align_why_text(round->why));
    }
}

int points_state(struct points *points, const struct id *round, struct intake_point_state *ret,
                 struct err *err)
{
    char hex[TIDE_ID_HEX];
    json_t *o = NULL;
    struct err e = {0};
    *ret = (struct intake_point_state){.round = *round, .answer = ROUND_ANSWER_UNKNOWN};
    if (catalog_point(points->catalog, id_hex(round, hex), &o, &e) == 0) {
        const char *label = json_string_value(json_object_get(o, "label"));
        snprintf(ret->label, sizeof(ret->label), "%s", label == NULL ? "" : label);
        bool unaligned = strcmp(ret->label, "unaligned") == 0;
        ret->answer = unaligned ? ROUND_ANSWER_NO : ROUND_ANSWER_YES;
        if (unaligned) {
            snprintf(ret->text, sizeof(ret->text), "taken with the hold switched off");
        }
        json_decref(o);
        return 0;
    }
    if (e.code != TIDE_ERR_NOT_FOUND) {
        return err_set(err, e.code, "%s", e.text);
    }
    for (size_t k = 0; k < points->group_count; k++) {
        const struct align_round *known = align_find(points->groups[k].align, round);
        if (known != NULL) {
            state_of_round(known, ret);
            return 0;
        }
    }
    snprintf(ret->text, sizeof(ret->text), "no stream has named this round yet");
    return 0;
}

int points_new(struct store *store, struct catalog *catalog, struct loop *loop, struct pool *pool,
               struct points **ret, struct err *err)
{
    struct points *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to align");
    }
    p->store = store;
    p->catalog = catalog;
    p->loop = loop;
    p->pool = pool;
    loop_timer_init(&p->retry, loop, retry_all, p);
    *ret = p;
    return 0;
}

void points_free(struct points *points)
{
    if (points == NULL) {
        return;
    }
    loop_timer_close(&points->retry);
    while (points->waiting != NULL) {
        struct commit *c = points->waiting;
        points->waiting = c->next;
        commit_free(c);
    }
    for (size_t k = 0; k < points->group_count; k++) {
        align_free(points->groups[k].align);
    }
    free(points->groups);
    free(points->blind);
    free(points);
}
