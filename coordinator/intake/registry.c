/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/registry.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "coordinator/intake/group.h"

#define DEFINITION_MAX (2U * 1024 * 1024)

struct registry {
    struct store *store;
    struct catalog *catalog;
    registry_issued_fn *issued;
    void *context;
    struct group **groups;
    size_t count;
    uint64_t generation;
    struct definition *scratch; /* an older definition that was asked for */
};

static struct group *find(const struct registry *r, const struct name *name)
{
    for (size_t k = 0; k < r->count; k++) {
        if (name_equal(&r->groups[k]->name, name)) {
            return r->groups[k];
        }
    }
    return NULL;
}

static struct group *find_id(const struct registry *r, const struct id *id)
{
    for (size_t k = 0; k < r->count; k++) {
        if (id_equal(&r->groups[k]->id, id)) {
            return r->groups[k];
        }
    }
    return NULL;
}

static int save(struct registry *r, const struct group *g, struct err *err)
{
    char relative[128];
    json_t *o = group_json(g);
    char *text = jsontext_write(o, JSON_INDENT(2));
    json_decref(o);
    if (text == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to write group '%s'", g->name.s);
    }
    snprintf(relative, sizeof(relative), "groups/%s.json", g->name.s);
    int rc = object_put(store_path(r->store), relative, text, strlen(text), true, err);
    if (rc == 0) {
        rc = catalog_put_group(r->catalog, g->name.s, text, err);
    }
    free(text);
    return rc;
}

/* ---- issuing ---- */

/* NULL: no memory. */
static json_t *definition_json(const struct definition *d)
{
    char hash[TIDE_HASH_HEX];
    char id[TIDE_ID_HEX];
    json_t *members = json_array();
    bool all = true;
    for (unsigned k = 0; k < d->member_count; k++) {
        const struct definition_member *m = &d->members[k];
        json_t *disks = json_array();
        for (unsigned j = 0; j < m->disk_count; j++) {
            const struct definition_disk *disk = &d->disks[m->disk_first + j];
            char stream[TIDE_ID_HEX];
            json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "disk", disk->name.s, "stream",
                                  id_hex(&disk->stream, stream), "size", (json_int_t)disk->size,
                                  "block_size", (json_int_t)disk->block_size);
            all = json_array_append_new(disks, o) == 0 && all;
        }
        json_t *member = json_pack("{s:s, s:s, s:s, s:o}", "member", m->name.s, "participant",
                                   m->identity, "address", m->address, "disks", disks);
        all = json_array_append_new(members, member) == 0 && all;
    }
    json_t *whole = json_pack("{s:s, s:s, s:I, s:s, s:o}", "group", d->group_name.s, "group_id",
                              id_hex(&d->group, id), "epoch", (json_int_t)d->epoch.number, "hash",
                              hash_hex(&d->epoch.hash, hash), "members", members);
    if (!all) {
        json_decref(whole);
        whole = NULL;
    }
    return whole;
}

/* Takes over bytes and definition. */
static void adopt(struct group *g, uint8_t *bytes, size_t size, struct definition *d)
{
    free(g->issued);
    free(g->definition);
    g->issued = bytes;
    g->issued_size = size;
    g->definition = d;
}

static void definition_path(const struct name *group, uint64_t epoch, const char *suffix,
                            char ret[160])
{
    snprintf(ret, 160, "definitions/%s/%020" PRIu64 "%s", group->s, epoch, suffix);
}

static int put_definition(struct registry *r, const struct group *g, const uint8_t *bytes,
                          size_t size, const struct definition *d, struct err *err)
{
    char path[160];
    char hash[TIDE_HASH_HEX];
    definition_path(&g->name, d->epoch.number, ".pb", path);
    if (object_put(store_path(r->store), path, bytes, size, false, err) < 0) {
        return -1;
    }
    json_t *o = definition_json(d);
    char *text = jsontext_write(o, JSON_INDENT(2));
    json_decref(o);
    definition_path(&g->name, d->epoch.number, ".json", path);
    int rc = text == NULL ? err_set(err, TIDE_ERR_LIMIT, "no memory for a definition")
                          : object_put(store_path(r->store), path, text, strlen(text), true, err);
    free(text);
    if (rc == 0) {
        rc = catalog_put_definition(r->catalog, g->name.s, d->epoch.number,
                                    hash_hex(&d->epoch.hash, hash), err);
    }
    return rc;
}

/* Encodes what the group is now under an epoch; sets the epoch's hash. */
static int encode(const struct group *g, uint64_t epoch, struct definition *d, uint8_t **ret_bytes,
                  size_t *ret_size, struct err *err)
{
    if (group_build(g, epoch, d, err) < 0 ||
        intake_definition_encode(d, ret_bytes, ret_size, err) < 0) {
        return -1;
    }
    d->epoch.hash = sha_of(*ret_bytes, *ret_size);
    return 0;
}

static int issue_if_due(struct registry *r, struct group *g, struct err *err)
{
    for (unsigned k = 0; k < g->disk_count; k++) {
        if (!g->disks[k].registered) {
            return 0;
        }
    }
    struct definition *d = calloc(1, sizeof(*d));
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = -1;
    uint64_t last = g->definition == NULL ? 0 : g->definition->epoch.number;
    if (d == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
        goto out;
    }
    if (last > 0) {
        if (encode(g, last, d, &bytes, &size, err) < 0) {
            goto out;
        }
        if (size == g->issued_size && memcmp(bytes, g->issued, size) == 0) {
            rc = 0;
            goto out;
        }
        free(bytes);
        bytes = NULL;
    }
    if (encode(g, last + 1, d, &bytes, &size, err) < 0 ||
        put_definition(r, g, bytes, size, d, err) < 0) {
        goto out;
    }
    adopt(g, bytes, size, d);
    bytes = NULL;
    d = NULL;
    r->generation++;
    rc = r->issued(r->context, g->definition, err);
out:
    free(bytes);
    free(d);
    return rc < 0 ? err_wrap(err, "issue a definition of group '%s'", g->name.s) : 0;
}

/* ---- loading ---- */

static int load_definition(struct registry *r, struct group *g, const char *name, struct err *err)
{
    char path[PATH_MAX];
    char hash[TIDE_HASH_HEX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct definition *d = calloc(1, sizeof(*d));
    snprintf(path, sizeof(path), "definitions/%s/%s", g->name.s, name);
    if (d == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
    }
    int rc = object_get(store_path(r->store), path, DEFINITION_MAX, &bytes, &size, err);
    if (rc == 0) {
        rc = intake_definition_decode(bytes, size, d, err);
    }
    if (rc == 0 && !id_equal(&d->group, &g->id)) {
        rc = err_set(err, TIDE_ERR_CORRUPT, "is of another group");
    }
    if (rc == 0) {
        rc = catalog_put_definition(r->catalog, g->name.s, d->epoch.number,
                                    hash_hex(&d->epoch.hash, hash), err);
    }
    if (rc == 0) {
        rc = r->issued(r->context, d, err);
    }
    if (rc < 0) {
        free(bytes);
        free(d);
        return err_wrap(err, "'%s'", path);
    }
    adopt(g, bytes, size, d);
    return 0;
}

static int load_definitions(struct registry *r, struct group *g, struct err *err)
{
    char relative[128];
    char **names = NULL;
    size_t count = 0;
    snprintf(relative, sizeof(relative), "definitions/%s", g->name.s);
    if (object_names(store_path(r->store), relative, ".pb", &names, &count, err) < 0) {
        return -1;
    }
    int rc = 0;
    for (size_t k = 0; k < count && rc == 0; k++) {
        rc = load_definition(r, g, names[k], err);
    }
    object_names_free(names);
    return rc;
}

static int add(struct registry *r, struct group *g, struct err *err)
{
    struct group **more = NULL;
    if (r->count < TIDE_REGISTRY_GROUPS_MAX) {
        more = realloc(r->groups, (r->count + 1) * sizeof(*more));
    }
    if (more == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no room for group '%s'; %u groups are the most",
                       g->name.s, TIDE_REGISTRY_GROUPS_MAX);
    }
    size_t at = r->count++; /* by name: lists are the same after a restart */
    for (; at > 0 && strcmp(more[at - 1]->name.s, g->name.s) > 0; at--) {
        more[at] = more[at - 1];
    }
    more[at] = g;
    r->groups = more;
    return 0;
}

static int load_group(struct registry *r, const char *name, struct err *err)
{
    char path[PATH_MAX];
    uint8_t *text = NULL;
    size_t size = 0;
    struct group *g = NULL;
    snprintf(path, sizeof(path), "groups/%s", name);
    if (object_get(store_path(r->store), path, TIDE_REGISTRY_GROUP_MAX, &text, &size, err) < 0) {
        return -1;
    }
    json_t *o = NULL;
    int rc = jsontext_read(text, size, JSON_REJECT_DUPLICATES, &o, err);
    if (rc == 0) {
        rc = group_new(o, &g, err);
    }
    const char *id = json_string_value(json_object_get(o, "id"));
    if (rc == 0 && (id == NULL || !id_parse(id, &g->id))) {
        rc = err_set(err, TIDE_ERR_CORRUPT, "its 'id' is wrong");
    }
    if (rc == 0) {
        rc = catalog_put_group(r->catalog, g->name.s, (const char *)text, err);
    }
    json_decref(o);
    free(text);
    if (rc == 0) {
        rc = add(r, g, err);
    }
    if (rc < 0) {
        group_free(g);
        return err_wrap(err, "'%s/%s'", store_path(r->store), path);
    }
    if (load_definitions(r, g, err) < 0) {
        return -1;
    }
    return issue_if_due(r, g, err);
}

static int catalog_stream(void *context, const struct manifest_stream *s, struct err *err)
{
    struct registry *r = context;
    char hex[TIDE_ID_HEX];
    return catalog_put_stream(r->catalog, id_hex(&s->stream, hex), s->group.s, s->member.s,
                              s->disk.s, s->size, err);
}

static int load(struct registry *r, struct err *err)
{
    char **names = NULL;
    size_t count = 0;
    if (object_names(store_path(r->store), "groups", ".json", &names, &count, err) < 0) {
        return -1;
    }
    int rc = catalog_begin(r->catalog, err);
    if (rc == 0) {
        rc = store_stream_each(r->store, catalog_stream, r, err);
        for (size_t k = 0; k < count && rc == 0; k++) {
            rc = load_group(r, names[k], err);
        }
        if (rc == 0) {
            rc = catalog_commit(r->catalog, err);
        } else {
            catalog_rollback(r->catalog);
        }
    }
    object_names_free(names);
    return rc;
}

int registry_open(struct store *store, struct catalog *catalog, registry_issued_fn *issued,
                  void *context, struct registry **ret, struct err *err)
{
    struct registry *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the registry");
    }
    r->store = store;
    r->catalog = catalog;
    r->issued = issued;
    r->context = context;
    if (load(r, err) < 0) {
        registry_free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

void registry_free(struct registry *registry)
{
    if (registry == NULL) {
        return;
    }
    for (size_t k = 0; k < registry->count; k++) {
        group_free(registry->groups[k]);
    }
    free(registry->groups);
    free(registry->scratch);
    free(registry);
}

/* ---- applying and registering ---- */

/* What was registered stays so for disks that are still there. */
static void keep_registered(struct group *to, const struct group *from)
{
    to->id = from->id;
    for (unsigned k = 0; k < to->disk_count; k++) {
        struct group_disk *d = &to->disks[k];
        const struct group_disk *old =
            group_find_disk(from, &to->members[d->member].name, &d->name);
        d->registered = false;
        if (old != NULL && old->registered) {
            uint16_t member = d->member;
            *d = *old;
            d->member = member;
        }
    }
}

int registry_apply(struct registry *registry, const json_t *group, struct err *err)
{
    struct group *g = NULL;
    if (group_new(group, &g, err) < 0) {
        return -1;
    }
    struct group *old = find(registry, &g->name);
    if (old == NULL) {
        file_random(&g->id, sizeof(g->id));
        for (unsigned k = 0; k < g->disk_count; k++) {
            g->disks[k].registered = false;
        }
    } else {
        keep_registered(g, old);
    }
    if (save(registry, g, err) < 0) {
        group_free(g);
        return -1;
    }
    if (old == NULL) {
        if (add(registry, g, err) < 0) {
            group_free(g);
            return -1;
        }
        old = g;
    } else {
        g->definition = old->definition;
        g->issued = old->issued;
        g->issued_size = old->issued_size;
        old->definition = NULL;
        old->issued = NULL;
        for (size_t k = 0; k < registry->count; k++) {
            if (registry->groups[k] == old) {
                registry->groups[k] = g;
            }
        }
        group_free(old);
    }
    registry->generation++;
    return issue_if_due(registry, g, err);
}

/* *ret_disk is NULL where nothing needs to change. */
static int check_disk(struct registry *r, const char *identity, const struct intake_disk *in,
                      struct group **ret_group, struct group_disk **ret_disk, struct err *err)
{
    struct group *g = find(r, &in->group);
    if (g == NULL) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "group '%s' is not applied here; `tidemark group apply` does it",
                       in->group.s);
    }
    struct group_member *m = group_find_member(g, &in->member);
    if (m == NULL) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "group '%s' has no member '%s'", g->name.s,
                       in->member.s);
    }
    if (strcmp(m->identity, identity) != 0) {
        return err_set(err, TIDE_ERR_DENIED,
                       "'%s' does not stand for member '%s' of group '%s', '%s' does", identity,
                       m->name.s, g->name.s, m->identity);
    }
    struct group_disk *d = group_find_disk(g, &in->member, &in->disk);
    if (d == NULL) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "member '%s' of group '%s' has no disk '%s'",
                       m->name.s, g->name.s, in->disk.s);
    }
    struct manifest_stream known;
    struct store_stream_state state;
    if (store_stream_get(r->store, &in->stream, &known, &state) &&
        (!name_equal(&known.group, &in->group) || !name_equal(&known.member, &in->member) ||
         !name_equal(&known.disk, &in->disk))) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "the stream of disk '%s' of member '%s' is that of '%s/%s/%s' already",
                       in->disk.s, in->member.s, known.group.s, known.member.s, known.disk.s);
    }
    *ret_group = g;
    *ret_disk = d;
    return 0;
}

/* A stream that was registered before keeps the size that it had then. */
static uint64_t size_of(const struct registry *r, const struct intake_disk *in)
{
    struct manifest_stream known;
    struct store_stream_state state;
    return store_stream_get(r->store, &in->stream, &known, &state) ? known.size : in->size;
}

static int register_disk(struct registry *r, struct group *g, struct group_disk *d,
                         const struct intake_disk *in, struct err *err)
{
    struct manifest_stream about = {.stream = in->stream,
                                    .timeline = in->timeline,
                                    .disk_id = in->disk_id,
                                    .group = in->group,
                                    .member = in->member,
                                    .disk = in->disk,
                                    .size = in->size,
                                    .block_size = in->block_size};
    char hex[TIDE_ID_HEX];
    if (store_stream_create(r->store, &about, err) < 0) {
        return -1;
    }
    if (d->registered && id_equal(&d->stream, &in->stream)) {
        return 0;
    }
    uint64_t size = size_of(r, in);
    if (catalog_put_stream(r->catalog, id_hex(&in->stream, hex), in->group.s, in->member.s,
                           in->disk.s, size, err) < 0) {
        return -1;
    }
    d->registered = true;
    d->stream = in->stream;
    d->timeline = in->timeline;
    d->disk_id = in->disk_id;
    d->size = size;
    d->block_size = in->block_size;
    g->dirty = true;
    return 0;
}

int registry_register(struct registry *registry, const char *identity,
                      const struct intake_register *disks, struct err *err)
{
    struct err missing = {0};
    struct err e = {0};
    struct group *g = NULL;
    struct group_disk *d = NULL;
    /* Nothing is registered for who may not: denied and contradicting ones first. */
    for (unsigned k = 0; k < disks->count; k++) {
        if (check_disk(registry, identity, &disks->disks[k], &g, &d, &e) < 0 &&
            e.code != TIDE_ERR_NOT_FOUND) {
            return err_set(err, e.code, "%s", e.text);
        }
    }
    for (unsigned k = 0; k < disks->count; k++) {
        if (check_disk(registry, identity, &disks->disks[k], &g, &d, &missing) == 0 &&
            register_disk(registry, g, d, &disks->disks[k], err) < 0) {
            return -1;
        }
    }
    for (size_t k = 0; k < registry->count; k++) {
        g = registry->groups[k];
        if (g->dirty && (save(registry, g, err) < 0 || issue_if_due(registry, g, err) < 0)) {
            return -1;
        }
        g->dirty = false;
    }
    if (missing.code != TIDE_ERR_OK) {
        return err_set(err, missing.code, "%s", missing.text);
    }
    return 0;
}

/* ---- asking ---- */

static bool stands_in(const struct group *g, const char *identity)
{
    for (unsigned k = 0; k < g->member_count; k++) {
        if (strcmp(g->members[k].identity, identity) == 0) {
            return true;
        }
    }
    return false;
}

int registry_definitions(struct registry *registry, const char *identity, struct hash *ret_digest,
                         uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    struct intake_issued issued[TIDE_INTAKE_GROUPS_MAX];
    struct intake_definitions out = {.groups = issued};
    for (size_t k = 0; k < registry->count; k++) {
        const struct group *g = registry->groups[k];
        if (g->definition == NULL || !stands_in(g, identity)) {
            continue;
        }
        if (out.count == TIDE_INTAKE_GROUPS_MAX) {
            return err_set(err, TIDE_ERR_LIMIT, "'%s' has members in more than %u groups", identity,
                           TIDE_INTAKE_GROUPS_MAX);
        }
        issued[out.count++] = (struct intake_issued){
            .definition = g->issued, .definition_size = g->issued_size, .policy = g->policy};
    }
    if (intake_definitions_encode(&out, ret_bytes, ret_size, err) < 0) {
        return -1;
    }
    *ret_digest = out.digest;
    return 0;
}

uint64_t registry_generation(const struct registry *registry)
{
    return registry->generation;
}

const char *registry_owner(const struct registry *registry, const struct manifest_stream *stream)
{
    const struct group *g = find(registry, &stream->group);
    const struct group_member *m = g == NULL ? NULL : group_find_member(g, &stream->member);
    return m == NULL ? NULL : m->identity;
}

bool registry_has(const struct registry *registry, const char *identity, const struct id *group)
{
    const struct group *g = find_id(registry, group);
    return g != NULL && stands_in(g, identity);
}

json_t *registry_list(const struct registry *registry)
{
    json_t *list = json_array();
    for (size_t k = 0; list != NULL && k < registry->count; k++) {
        const struct group *g = registry->groups[k];
        json_t *o = group_json(g);
        json_t *epoch =
            json_integer(g->definition == NULL ? 0 : (json_int_t)g->definition->epoch.number);
        int failed = json_object_set_new(o, "epoch", epoch);
        if (json_array_append_new(list, o) < 0 || failed < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

int registry_definition(struct registry *registry, const struct id *group,
                        const struct epoch *epoch, const struct definition **ret, struct err *err)
{
    char path[160];
    uint8_t *bytes = NULL;
    size_t size = 0;
    const struct group *g = find_id(registry, group);
    if (g == NULL) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "the group is not known here");
    }
    if (g->definition != NULL && epoch_equal(&g->definition->epoch, epoch)) {
        *ret = g->definition;
        return 0;
    }
    if (registry->scratch == NULL) {
        registry->scratch = calloc(1, sizeof(*registry->scratch));
        if (registry->scratch == NULL) {
            return err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
        }
    } else if (id_equal(&registry->scratch->group, group) &&
               epoch_equal(&registry->scratch->epoch, epoch)) {
        *ret = registry->scratch;
        return 0;
    }
    definition_path(&g->name, epoch->number, ".pb", path);
    if (object_get(store_path(registry->store), path, DEFINITION_MAX, &bytes, &size, err) < 0) {
        return -1;
    }
    int rc = intake_definition_decode(bytes, size, registry->scratch, err);
    free(bytes);
    if (rc == 0 && !epoch_equal(&registry->scratch->epoch, epoch)) {
        rc = err_set(err, TIDE_ERR_NOT_FOUND, "epoch %" PRIu64 " has another hash here",
                     epoch->number);
    }
    if (rc == 0) {
        *ret = registry->scratch;
    }
    return rc;
}

size_t registry_count(const struct registry *registry)
{
    return registry->count;
}

void registry_at(const struct registry *registry, size_t index, struct name *ret_name,
                 struct id *ret_id)
{
    TIDE_CHECK(index < registry->count);
    *ret_name = registry->groups[index]->name;
    *ret_id = registry->groups[index]->id;
}
