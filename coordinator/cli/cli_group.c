/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark group apply|list: what is protected together. Speaks to the coordinator of this machine.
 */
#include "coordinator/cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "common/io/local.h"
#include "coordinator/intake/group_file.h"

#define CALL_MS 25000U

enum { KEY_LOCAL = 0x100 };

struct group_options {
    enum cli_output output;
    const char *local;
    const char *file;
};

static const struct argp_child group_children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

static error_t group_option(int key, char *arg, struct argp_state *state)
{
    struct group_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case 'f':
        o->file = arg;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is not expected here", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int group_failed(const struct err *err)
{
    return cli_fail(err, err->code == TIDE_ERR_UNREACHABLE
                             ? "start tidemark-coordinator on this machine, or name its socket "
                               "with --local PATH"
                             : NULL);
}

static int group_apply_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {NULL, 'f', "FILE", 0, "the group, as YAML (deploy/examples/group.yaml)", 0},
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0},
        {0}};
    static const struct argp argp = {
        list,
        group_option,
        NULL,
        "Make a group known, or change it. Its definition is issued when every disk is registered.",
        group_children,
        NULL,
        NULL};
    struct group_options o = {.local = LOCAL_COORDINATOR};
    struct err err = {0};
    json_t *group = NULL;
    json_t *answer = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.file == NULL) {
        err_set(&err, TIDE_ERR_USAGE, "-f FILE is needed");
        return cli_fail(&err, "see deploy/examples/group.yaml");
    }
    if (group_file_load(o.file, &group, &err) < 0) {
        return cli_fail(&err, NULL);
    }
    char name[64];
    snprintf(name, sizeof(name), "%s", json_string_value(json_object_get(group, "group")));
    json_t *request = json_pack("{s:s, s:o}", "command", "group-apply", "group", group);
    int rc = local_call(o.local, request, CALL_MS, &answer, &err);
    json_decref(request);
    if (rc < 0) {
        return group_failed(&err);
    }
    json_decref(answer);
    if (o.output == CLI_JSON) {
        return cli_json_print(json_pack("{s:s}", "group", name));
    }
    printf("group '%s' is applied\n", name);
    return 0;
}

static void group_rows(struct cli_table *table, const json_t *group)
{
    char epoch[32];
    char disks[256];
    size_t k;
    size_t j;
    const json_t *member;
    const json_t *disk;
    json_int_t number = json_integer_value(json_object_get(group, "epoch"));
    snprintf(epoch, sizeof(epoch), "%" JSON_INTEGER_FORMAT, number);
    json_array_foreach(json_object_get(group, "members"), k, member)
    {
        size_t used = 0;
        disks[0] = '\0';
        json_array_foreach(json_object_get(member, "disks"), j, disk)
        {
            int n = snprintf(disks + used, sizeof(disks) - used, "%s%s%s", used > 0 ? " " : "",
                             json_string_value(json_object_get(disk, "name")),
                             json_object_get(disk, "stream") == NULL ? "(not registered)" : "");
            used += n > 0 ? (size_t)n : 0;
            if (used >= sizeof(disks)) {
                break;
            }
        }
        const char *const cells[] = {json_string_value(json_object_get(group, "group")),
                                     number == 0 ? "not issued" : epoch,
                                     json_string_value(json_object_get(member, "name")),
                                     json_string_value(json_object_get(member, "participant")),
                                     json_string_value(json_object_get(member, "address")),
                                     disks};
        cli_table_add(table, cells);
    }
}

static int group_list_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0}, {0}};
    static const struct argp argp = {
        list,           group_option, NULL, "List the groups, their members and disks.",
        group_children, NULL,         NULL};
    static const char *const titles[] = {"GROUP",       "EPOCH",   "MEMBER",
                                         "PARTICIPANT", "ADDRESS", "DISKS"};
    struct group_options o = {.local = LOCAL_COORDINATOR};
    struct err err = {0};
    json_t *answer = NULL;
    size_t k;
    const json_t *group;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    json_t *request = json_pack("{s:s}", "command", "group-list");
    int rc = local_call(o.local, request, CALL_MS, &answer, &err);
    json_decref(request);
    if (rc < 0) {
        return group_failed(&err);
    }
    if (o.output == CLI_JSON) {
        json_object_del(answer, "ok");
        return cli_json_print(answer);
    }
    struct cli_table *table = cli_table_new(6, titles);
    json_array_foreach(json_object_get(answer, "groups"), k, group)
    {
        group_rows(table, group);
    }
    json_decref(answer);
    return cli_table_print(table);
}

int cli_group(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"apply", group_apply_run, "make a group known, or change it"},
        {"list", group_list_run, "groups, members and disks"},
        {NULL, NULL, NULL}};
    return cli_dispatch("group", verbs, argc, argv);
}
