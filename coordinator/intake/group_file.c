/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/group_file.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/core/definition.h"
#include "common/io/config.h"
#include "common/io/file.h"
#include "common/wire/intake.h"

#define DEPTH_MAX  6
#define PLACES_MAX 32768U /* more than 256 members with 64 disks each have */
#define PATH_SIZE  96

/* ---- where things stand: one walk over the YAML events, which also refuses aliases, depth and
 * what is not YAML, with its line ---- */

struct place {
    char path[PATH_SIZE]; /* "interval", "members/0/name", "members/0/disks/1" */
    unsigned line;
};

struct level {
    bool sequence;
    bool has_key; /* a mapping: its key was read, the value is due */
    unsigned index;
    char path[PATH_SIZE];
    char key[64];
};

struct file {
    const char *path;
    struct place *places;
    size_t count;
    size_t room;
    struct level levels[DEPTH_MAX];
    unsigned depth;
};

static int at(const struct file *f, unsigned line, struct err *err)
{
    if (err != NULL) {
        err->code = TIDE_ERR_CONFIG;
    }
    return err_wrap(err, "%s:%u", f->path, line);
}

static unsigned line_of(const struct file *f, const char *path)
{
    for (size_t k = 0; k < f->count; k++) {
        if (strcmp(f->places[k].path, path) == 0) {
            return f->places[k].line;
        }
    }
    return 1;
}

static int remember(struct file *f, const char *path, unsigned line, struct err *err)
{
    if (f->count == f->room) {
        size_t room = f->room == 0 ? 64 : 2 * f->room;
        struct place *more = room > PLACES_MAX ? NULL : realloc(f->places, room * sizeof(*more));
        if (more == NULL) {
            err_set(err, TIDE_ERR_CONFIG, "too many values");
            return at(f, line, err);
        }
        f->places = more;
        f->room = room;
    }
    struct place *p = &f->places[f->count++];
    snprintf(p->path, sizeof(p->path), "%s", path);
    p->line = line;
    return 0;
}

/* The path of the value that comes now, or "" where it is a key (*ret_key). */
static bool value_path(struct file *f, char ret[PATH_SIZE])
{
    if (f->depth == 0) {
        ret[0] = '\0';
        return true;
    }
    struct level *l = &f->levels[f->depth - 1];
    const char *slash = l->path[0] == '\0' ? "" : "/";
    if (l->sequence) {
        snprintf(ret, PATH_SIZE, "%s%s%u", l->path, slash, l->index++);
        return true;
    }
    if (l->has_key) {
        snprintf(ret, PATH_SIZE, "%s%s%s", l->path, slash, l->key);
        l->has_key = false;
        return true;
    }
    return false;
}

static int open_level(struct file *f, bool sequence, unsigned line, struct err *err)
{
    char path[PATH_SIZE];
    if (f->depth == DEPTH_MAX) {
        err_set(err, TIDE_ERR_CONFIG, "nested deeper than %d", DEPTH_MAX);
        return at(f, line, err);
    }
    if (!value_path(f, path)) {
        err_set(err, TIDE_ERR_CONFIG, "a key is expected, not a list or mapping");
        return at(f, line, err);
    }
    f->levels[f->depth] = (struct level){.sequence = sequence};
    snprintf(f->levels[f->depth].path, PATH_SIZE, "%s", path);
    f->depth++;
    return remember(f, path, line, err);
}

static int scalar(struct file *f, const char *text, unsigned line, struct err *err)
{
    char path[PATH_SIZE];
    if (value_path(f, path)) {
        return remember(f, path, line, err);
    }
    struct level *l = &f->levels[f->depth - 1];
    snprintf(l->key, sizeof(l->key), "%s", text);
    l->has_key = true;
    snprintf(path, sizeof(path), "%s%skey:%.40s", l->path, l->path[0] == '\0' ? "" : "/", text);
    return remember(f, path, line, err);
}

static int event(struct file *f, const yaml_event_t *e, struct err *err)
{
    unsigned line = (unsigned)e->start_mark.line + 1;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        err_set(err, TIDE_ERR_CONFIG, "an alias (*) is not taken; write the value out");
        return at(f, line, err);
    case YAML_SCALAR_EVENT:
        return scalar(f, (const char *)e->data.scalar.value, line, err);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return open_level(f, e->type == YAML_SEQUENCE_START_EVENT, line, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        f->depth--;
        return 0;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return 0;
}

static int walk(struct file *f, const char *text, size_t size, struct err *err)
{
    yaml_parser_t parser;
    yaml_event_t e;
    if (!yaml_parser_initialize(&parser)) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to read YAML");
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    int rc = 0;
    bool end = false;
    while (rc == 0 && !end) {
        if (!yaml_parser_parse(&parser, &e)) {
            err_set(err, TIDE_ERR_CONFIG, "not YAML: %s",
                    parser.problem == NULL ? "unreadable" : parser.problem);
            rc = at(f, (unsigned)parser.problem_mark.line + 1, err);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        rc = event(f, &e, err);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* ---- the types ---- */

struct member {
    char *name;
    char *participant;
    char *address;
    char **disks;
    unsigned disks_count;
};

struct group {
    char *group;
    char *interval;
    char *hold_max;
    char *missing;
    struct member *members;
    unsigned members_count;
};

#define TEXT  CYAML_FLAG_POINTER
#define MAYBE (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

static const cyaml_schema_value_t disk_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 255)};
static const cyaml_schema_field_t member_fields[] = {
    CYAML_FIELD_STRING_PTR("name", TEXT, struct member, name, 1, 255),
    CYAML_FIELD_STRING_PTR("participant", TEXT, struct member, participant, 1, 1024),
    CYAML_FIELD_STRING_PTR("address", TEXT, struct member, address, 1, 255),
    CYAML_FIELD_SEQUENCE("disks", CYAML_FLAG_POINTER, struct member, disks, &disk_schema, 1,
                         TIDE_MEMBER_DISKS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t member_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct member, member_fields)};
static const cyaml_schema_field_t group_fields[] = {
    CYAML_FIELD_STRING_PTR("group", TEXT, struct group, group, 1, 255),
    CYAML_FIELD_STRING_PTR("interval", MAYBE, struct group, interval, 1, 255),
    CYAML_FIELD_STRING_PTR("hold-max", MAYBE, struct group, hold_max, 1, 255),
    CYAML_FIELD_STRING_PTR("missing", MAYBE, struct group, missing, 1, 255),
    CYAML_FIELD_SEQUENCE("members", CYAML_FLAG_POINTER, struct group, members, &member_schema, 1,
                         TIDE_MEMBERS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t group_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct group, group_fields)};

/* libcyaml tells what is wrong through its log alone: the first text, then the innermost place. */
struct complaint {
    char text[256];
    char key[64]; /* of an unexpected key */
    unsigned line;
};

static void complain(cyaml_log_t level, void *context, const char *format, va_list args)
{
    struct complaint *c = context;
    char text[256];
    (void)level;
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    const char *line = strstr(text, "(line: ");
    if (line != NULL) {
        if (c->line == 0) {
            c->line = (unsigned)strtoul(line + 7, NULL, 10);
        }
    } else if (c->text[0] == '\0' && strstr(text, "Backtrace") == NULL) {
        const char *what = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(c->text, sizeof(c->text), "%s", what);
        if (strncmp(what, "Unexpected key: ", 16) == 0) {
            snprintf(c->key, sizeof(c->key), "%.40s", what + 16);
        }
    }
}

static int load(struct file *f, const char *text, size_t size, struct group **ret, struct err *err)
{
    struct complaint c = {0};
    cyaml_config_t config = {.log_fn = complain,
                             .log_ctx = &c,
                             .log_level = CYAML_LOG_ERROR,
                             .mem_fn = cyaml_mem,
                             .flags = CYAML_CFG_NO_ALIAS};
    struct group *g = NULL;
    cyaml_err_t rc = cyaml_load_data((const uint8_t *)text, size, &config, &group_schema,
                                     (cyaml_data_t **)&g, NULL);
    if (rc == CYAML_OK && g != NULL) {
        *ret = g;
        return 0;
    }
    unsigned line = c.line == 0 ? 1 : c.line;
    if (c.key[0] != '\0') {
        /* libcyaml names the place before it. */
        char tail[64];
        snprintf(tail, sizeof(tail), "key:%s", c.key);
        for (size_t k = 0; k < f->count; k++) {
            const char *found = strstr(f->places[k].path, tail);
            if (found != NULL && strcmp(found, tail) == 0 && f->places[k].line >= line) {
                line = f->places[k].line;
                break;
            }
        }
        err_set(err, TIDE_ERR_CONFIG,
                "unknown key '%s'; a group has group, interval, hold-max, missing, members; a "
                "member has name, participant, address, disks",
                c.key);
    } else {
        err_set(err, TIDE_ERR_CONFIG, "%s", c.text[0] == '\0' ? cyaml_strerror(rc) : c.text);
    }
    return at(f, line, err);
}

/* ---- the values ---- */

static int check_name(const struct file *f, const char *path, const char *text, struct err *err)
{
    struct name name;
    if (!name_parse(text, &name)) {
        err_set(err, TIDE_ERR_CONFIG,
                "'%.80s' is not a name: a-z or 0-9 first, then a-z 0-9 . _ -, at most %d", text,
                TIDE_NAME_MAX);
        return at(f, line_of(f, path), err);
    }
    return 0;
}

static int duration(const struct file *f, const char *path, const char *text, uint64_t min_us,
                    uint64_t max_us, uint64_t *ret, struct err *err)
{
    if (config_parse_duration(text, min_us, max_us, ret, err) < 0) {
        err_wrap(err, "%s", path);
        return at(f, line_of(f, path), err);
    }
    return 0;
}

static int same_before(const struct file *f, const struct group *g, unsigned index, struct err *err)
{
    const struct member *m = &g->members[index];
    char path[PATH_SIZE];
    for (unsigned k = 0; k < index; k++) {
        const struct member *o = &g->members[k];
        bool identity = strcmp(o->participant, m->participant) == 0;
        bool address = strcmp(o->address, m->address) == 0;
        if (strcmp(o->name, m->name) == 0) {
            snprintf(path, sizeof(path), "members/%u/name", index);
            err_set(err, TIDE_ERR_CONFIG, "member '%s' is there twice", m->name);
            return at(f, line_of(f, path), err);
        }
        if (identity != address) {
            snprintf(path, sizeof(path), "members/%u/address", index);
            err_set(err, TIDE_ERR_CONFIG,
                    "members '%s' and '%s': one participant has one address, and no two "
                    "participants share one",
                    o->name, m->name);
            return at(f, line_of(f, path), err);
        }
    }
    return 0;
}

static int member_json(const struct file *f, const struct group *g, unsigned index, json_t **ret,
                       struct err *err)
{
    const struct member *m = &g->members[index];
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "members/%u/name", index);
    if (check_name(f, path, m->name, err) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "members/%u/participant", index);
    if (!intake_is_participant(m->participant)) {
        err_set(err, TIDE_ERR_CONFIG, "participant '%.80s' is not spiffe://SITE/participant/ID",
                m->participant);
        return at(f, line_of(f, path), err);
    }
    snprintf(path, sizeof(path), "members/%u/address", index);
    if (!intake_is_address(m->address)) {
        err_set(err, TIDE_ERR_CONFIG,
                "address '%.80s' is not a numeric IP:port, like 192.0.2.11:20004", m->address);
        return at(f, line_of(f, path), err);
    }
    if (same_before(f, g, index, err) < 0) {
        return -1;
    }
    json_t *disks = json_array();
    for (unsigned k = 0; k < m->disks_count; k++) {
        snprintf(path, sizeof(path), "members/%u/disks/%u", index, k);
        int rc = check_name(f, path, m->disks[k], err);
        for (unsigned j = 0; j < k && rc == 0; j++) {
            if (strcmp(m->disks[j], m->disks[k]) == 0) {
                err_set(err, TIDE_ERR_CONFIG, "disk '%s' is there twice", m->disks[k]);
                rc = at(f, line_of(f, path), err);
            }
        }
        if (rc < 0) {
            json_decref(disks);
            return -1;
        }
        json_array_append_new(disks, json_string(m->disks[k]));
    }
    *ret = json_pack("{s:s, s:s, s:s, s:o}", "name", m->name, "participant", m->participant,
                     "address", m->address, "disks", disks);
    return 0;
}

static int to_json(const struct file *f, const struct group *g, json_t **ret, struct err *err)
{
    uint64_t interval_us = TIDE_INTERVAL_MS * 1000ULL;
    uint64_t hold_us = TIDE_HOLD_US;
    const char *missing = g->missing == NULL ? "strict" : g->missing;
    if (check_name(f, "group", g->group, err) < 0 ||
        (g->interval != NULL && duration(f, "interval", g->interval, TIDE_INTERVAL_MS_MIN * 1000ULL,
                                         TIDE_INTERVAL_MS_MAX * 1000ULL, &interval_us, err) < 0) ||
        (g->hold_max != NULL && duration(f, "hold-max", g->hold_max, TIDE_HOLD_US_MIN,
                                         TIDE_HOLD_US_MAX, &hold_us, err) < 0)) {
        return -1;
    }
    if (strcmp(missing, "strict") != 0 && strcmp(missing, "partial") != 0) {
        err_set(err, TIDE_ERR_CONFIG, "missing is '%.80s'; strict or partial is expected", missing);
        return at(f, line_of(f, "missing"), err);
    }
    json_t *members = json_array();
    for (unsigned k = 0; k < g->members_count; k++) {
        json_t *m = NULL;
        if (member_json(f, g, k, &m, err) < 0) {
            json_decref(members);
            return -1;
        }
        json_array_append_new(members, m);
    }
    *ret = json_pack("{s:s, s:I, s:I, s:s, s:o}", "group", g->group, "interval_ms",
                     (json_int_t)(interval_us / 1000), "hold_us_max", (json_int_t)hold_us,
                     "missing", missing, "members", members);
    return *ret == NULL ? err_set(err, TIDE_ERR_LIMIT, "no memory for a group") : 0;
}

int group_file_parse(const char *path, const char *text, size_t size, json_t **ret, struct err *err)
{
    struct file f = {.path = path};
    struct group *g = NULL;
    if (size > TIDE_GROUP_FILE_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "%s: %zu bytes are over the limit of %u", path, size,
                       TIDE_GROUP_FILE_MAX);
    }
    int rc = walk(&f, text, size, err);
    if (rc == 0) {
        rc = load(&f, text, size, &g, err);
    }
    if (rc == 0) {
        rc = to_json(&f, g, ret, err);
    }
    if (g != NULL) {
        cyaml_config_t config = {.mem_fn = cyaml_mem};
        cyaml_free(&config, &group_schema, g, 0);
    }
    free(f.places);
    return rc;
}

int group_file_load(const char *path, json_t **ret, struct err *err)
{
    uint8_t *text = NULL;
    size_t size = 0;
    if (file_read(path, TIDE_GROUP_FILE_MAX, &text, &size, err) < 0) {
        return -1;
    }
    int rc = group_file_parse(path, (const char *)text, size, ret, err);
    free(text);
    return rc;
}
