/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"

void group_free(struct group *g)
{
    if (g != NULL) {
        free(g->members);
        free(g->disks);
        free(g->definition);
        free(g->issued);
        free(g);
    }
}

struct group_member *group_find_member(const struct group *g, const struct name *name)
{
    for (unsigned k = 0; k < g->member_count; k++) {
        if (name_equal(&g->members[k].name, name)) {
            return &g->members[k];
        }
    }
    return NULL;
}

struct group_disk *group_find_disk(const struct group *g, const struct name *member,
                                   const struct name *name)
{
    for (unsigned k = 0; k < g->disk_count; k++) {
        struct group_disk *d = &g->disks[k];
        if (name_equal(&d->name, name) && name_equal(&g->members[d->member].name, member)) {
            return d;
        }
    }
    return NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

static int parse_disk(struct group *g, const json_t *from, struct err *err)
{
    struct group_disk d = {.member = (uint16_t)(g->member_count - 1)};
    const struct name *member = &g->members[d.member].name;
    const char *text = json_is_string(from) ? json_string_value(from) : text_of(from, "name");
    if (!name_parse(text, &d.name)) {
        return err_set(err, TIDE_ERR_CONFIG, "member '%s': '%.64s' is not a disk's name", member->s,
                       text);
    }
    if (group_find_disk(g, member, &d.name) != NULL) {
        return err_set(err, TIDE_ERR_CONFIG, "member '%s': disk '%s' is there twice", member->s,
                       d.name.s);
    }
    if (g->disk_count == TIDE_DISKS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "more than %u disks", TIDE_DISKS_MAX);
    }
    if (json_object_get(from, "stream") != NULL) {
        json_int_t block = json_integer_value(json_object_get(from, "block_size"));
        json_int_t size = json_integer_value(json_object_get(from, "size"));
        if (!id_parse(text_of(from, "stream"), &d.stream) ||
            !id_parse(text_of(from, "timeline"), &d.timeline) ||
            !id_parse(text_of(from, "disk_id"), &d.disk_id) || size < 512 || block < 512 ||
            block > (json_int_t)TIDE_BLOCK_SIZE_MAX) {
            return err_set(err, TIDE_ERR_CORRUPT, "member '%s': disk '%s': its stream is wrong",
                           member->s, d.name.s);
        }
        d.size = (uint64_t)size;
        d.block_size = (uint32_t)block;
        d.registered = true;
    }
    g->disks[g->disk_count++] = d;
    return 0;
}

/* Who stands for several members has one address; two participants have two. */
static int check_address(const struct group *g, const struct group_member *m, struct err *err)
{
    for (unsigned k = 0; k < g->member_count; k++) {
        const struct group_member *o = &g->members[k];
        if ((strcmp(o->identity, m->identity) == 0) != (strcmp(o->address, m->address) == 0)) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "members '%s' and '%s': one participant has one address, and no two "
                           "participants share one",
                           o->name.s, m->name.s);
        }
    }
    return 0;
}

static int parse_member(struct group *g, const json_t *from, struct err *err)
{
    struct group_member m = {0};
    const json_t *disks = json_object_get(from, "disks");
    const char *identity = text_of(from, "participant");
    const char *address = text_of(from, "address");
    if (!name_parse(text_of(from, "name"), &m.name)) {
        return err_set(err, TIDE_ERR_CONFIG, "'%.64s' is not a member's name",
                       text_of(from, "name"));
    }
    if (group_find_member(g, &m.name) != NULL) {
        return err_set(err, TIDE_ERR_CONFIG, "member '%s' is there twice", m.name.s);
    }
    if (!intake_is_participant(identity)) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "member '%s': participant '%.64s' is not spiffe://SITE/participant/ID",
                       m.name.s, identity);
    }
    if (!intake_is_address(address)) {
        return err_set(err, TIDE_ERR_CONFIG, "member '%s': address '%.64s' is not numeric IP:port",
                       m.name.s, address);
    }
    snprintf(m.identity, sizeof(m.identity), "%s", identity);
    snprintf(m.address, sizeof(m.address), "%s", address);
    size_t count = json_array_size(disks);
    if (count < 1 || count > TIDE_MEMBER_DISKS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "member '%s': %zu disks; 1 to %d are taken", m.name.s,
                       count, TIDE_MEMBER_DISKS_MAX);
    }
    if (check_address(g, &m, err) < 0) {
        return -1;
    }
    g->members[g->member_count++] = m;
    for (size_t k = 0; k < count; k++) {
        if (parse_disk(g, json_array_get(disks, k), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int parse_policy(struct group *g, const json_t *from, struct err *err)
{
    const char *missing = text_of(from, "missing");
    json_int_t interval = json_integer_value(json_object_get(from, "interval_ms"));
    json_int_t hold = json_integer_value(json_object_get(from, "hold_us_max"));
    policy_init(&g->policy);
    if (interval < (json_int_t)TIDE_INTERVAL_MS_MIN ||
        interval > (json_int_t)TIDE_INTERVAL_MS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "interval of %" JSON_INTEGER_FORMAT " ms; 1s to 24h are taken", interval);
    }
    if (hold < (json_int_t)TIDE_HOLD_US_MIN || hold > (json_int_t)TIDE_HOLD_US_MAX) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "hold-max of %" JSON_INTEGER_FORMAT " us; 5ms to 300ms are taken", hold);
    }
    g->policy.interval_ms = (uint64_t)interval;
    g->policy.hold_us_max = (uint32_t)hold;
    if (strcmp(missing, "partial") == 0) {
        g->policy.missing = POLICY_MISSING_PARTIAL;
    } else if (strcmp(missing, "strict") == 0) {
        g->policy.missing = POLICY_MISSING_STRICT;
    } else {
        return err_set(err, TIDE_ERR_CONFIG, "missing is '%.64s'; strict or partial are taken",
                       missing);
    }
    return policy_check(&g->policy, err);
}

static int group_fill(struct group *g, const json_t *from, struct err *err)
{
    const json_t *members = json_object_get(from, "members");
    size_t count = json_array_size(members);
    if (!name_parse(text_of(from, "group"), &g->name)) {
        return err_set(err, TIDE_ERR_CONFIG, "'%.64s' is not a group's name",
                       text_of(from, "group"));
    }
    if (count < 1 || count > TIDE_MEMBERS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "%zu members; 1 to %u are taken", count,
                       TIDE_MEMBERS_MAX);
    }
    g->members = calloc(count, sizeof(*g->members));
    g->disks = calloc(TIDE_DISKS_MAX, sizeof(*g->disks));
    if (g->members == NULL || g->disks == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a group");
    }
    if (parse_policy(g, from, err) < 0) {
        return -1;
    }
    for (size_t k = 0; k < count; k++) {
        if (parse_member(g, json_array_get(members, k), err) < 0) {
            return -1;
        }
    }
    return 0;
}

int group_new(const json_t *from, struct group **ret, struct err *err)
{
    struct group *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a group");
    }
    if (group_fill(g, from, err) < 0) {
        group_free(g);
        return err_wrap(err, "group '%.64s'", text_of(from, "group"));
    }
    *ret = g;
    return 0;
}

static json_t *disk_json(const struct group_disk *d)
{
    char stream[TIDE_ID_HEX];
    char timeline[TIDE_ID_HEX];
    char disk_id[TIDE_ID_HEX];
    if (!d->registered) {
        return json_pack("{s:s}", "name", d->name.s);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "name", d->name.s, "stream",
                     id_hex(&d->stream, stream), "timeline", id_hex(&d->timeline, timeline),
                     "disk_id", id_hex(&d->disk_id, disk_id), "size", (json_int_t)d->size,
                     "block_size", (json_int_t)d->block_size);
}

json_t *group_json(const struct group *g)
{
    char id[TIDE_ID_HEX];
    json_t *members = json_array();
    bool all = true;
    for (unsigned k = 0; k < g->member_count; k++) {
        const struct group_member *m = &g->members[k];
        json_t *disks = json_array();
        for (unsigned j = 0; j < g->disk_count; j++) {
            if (g->disks[j].member == k) {
                all = json_array_append_new(disks, disk_json(&g->disks[j])) == 0 && all;
            }
        }
        json_t *member = json_pack("{s:s, s:s, s:s, s:o}", "name", m->name.s, "participant",
                                   m->identity, "address", m->address, "disks", disks);
        all = json_array_append_new(members, member) == 0 && all;
    }
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:s, s:o}", "group", g->name.s, "id",
                          id_hex(&g->id, id), "interval_ms", (json_int_t)g->policy.interval_ms,
                          "hold_us_max", (json_int_t)g->policy.hold_us_max, "missing",
                          g->policy.missing == POLICY_MISSING_PARTIAL ? "partial" : "strict",
                          "members", members);
    if (!all) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

int group_build(const struct group *g, uint64_t epoch, struct definition *ret, struct err *err)
{
    definition_init(ret, &g->id, &g->name, epoch);
    for (unsigned k = 0; k < g->member_count; k++) {
        struct definition_member m = {.name = g->members[k].name};
        memcpy(m.identity, g->members[k].identity, sizeof(m.identity));
        memcpy(m.address, g->members[k].address, sizeof(m.address));
        if (definition_add_member(ret, &m, err) < 0) {
            return -1;
        }
        for (unsigned j = 0; j < g->disk_count; j++) {
            const struct group_disk *d = &g->disks[j];
            struct definition_disk out = {.name = d->name,
                                          .stream = d->stream,
                                          .timeline = d->timeline,
                                          .disk = d->disk_id,
                                          .size = d->size,
                                          .block_size = d->block_size};
            if (d->member == k && definition_add_disk(ret, &out, err) < 0) {
                return -1;
            }
        }
    }
    return definition_check(ret, err);
}
