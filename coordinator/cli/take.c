/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/take.h"

#include <stdio.h>
#include <string.h>

#include "common/core/round.h"
#include "common/io/local.h"
#include "coordinator/cli/cli.h"

#define TIMEOUT_S_MAX 600U
#define TIMEOUT_S     30U
#define SLACK_MS      3000U /* beyond the participant's own deadline */

enum {
    KEY_LOCAL = 0x100,
    KEY_GROUP,
    KEY_KIND,
    KEY_WAIT,
    KEY_TIMEOUT,
};

struct take_options {
    enum cli_output output;
    const char *local;
    const char *group;
    const char *kind;
    const char *wait;
    uint64_t timeout_s;
};

static error_t take_option(int key, char *arg, struct argp_state *state)
{
    struct take_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case KEY_GROUP:
        o->group = arg;
        return 0;
    case KEY_KIND:
        o->kind = arg;
        if (strcmp(arg, "crash") != 0) {
            argp_error(state, "--kind: \"%s\" is not a kind that can be taken; expected crash",
                       arg);
        }
        return 0;
    case KEY_WAIT:
        o->wait = arg;
        if (strcmp(arg, "sealed") != 0 && strcmp(arg, "stored") != 0) {
            argp_error(state, "--wait: \"%s\" is neither sealed nor stored", arg);
        }
        return 0;
    case KEY_TIMEOUT:
        o->timeout_s = cli_number(state, "--timeout", arg, 1, TIMEOUT_S_MAX);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\": no argument is expected", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What the answer means for people and as a status. */
static int judge(const struct take_options *o, const json_t *answer)
{
    struct err err = {0};
    const char *text = cli_text(answer, "text");
    const char *member = cli_text(answer, "member");
    bool sealed = json_is_true(json_object_get(answer, "sealed"));
    bool stored = json_is_true(json_object_get(answer, "stored"));
    bool asked = strcmp(o->wait, "stored") == 0;
    if (sealed && (!asked || stored)) {
        if (o->output == CLI_TABLE) {
            printf("%s %s%s%s\n", cli_text(answer, "round"), asked ? "stored" : "sealed",
                   asked ? " " : "", asked ? cli_text(answer, "label") : "");
        }
        return 0;
    }
    if (sealed) {
        err_set(&err, TIDE_ERR_FAILED, "round %s was sealed and is no recovery point: %s%s%s",
                cli_text(answer, "round"), cli_text(answer, "label"),
                cli_text(answer, "label")[0] != '\0' && text[0] != '\0' ? ": " : "", text);
        return cli_fail(&err, NULL);
    }
    err_set(&err, TIDE_ERR_FAILED, "no point: %s%s%s%s%s", cli_text(answer, "reason"),
            member[0] != '\0' ? " at member " : "", member, text[0] != '\0' ? ": " : "", text);
    return cli_fail(&err, "look at `tidemark participant status`, or try again");
}

int take_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"local", KEY_LOCAL, "PATH", 0,
         "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
        {"group", KEY_GROUP, "NAME", 0,
         "of which group (default: the participant's, if it has one member only)", 0},
        {"kind", KEY_KIND, "KIND", 0, "crash (the default)", 0},
        {"wait", KEY_WAIT, "WHAT", 0,
         "sealed (the default): by all members; stored: the coordinator has the point", 0},
        {"timeout", KEY_TIMEOUT, "S", 0, "seconds to wait (default 30)", 0},
        {0}};
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  take_option, NULL, "Takes a recovery point of the whole group now.",
        children, NULL,        NULL};
    struct take_options o = {
        .local = LOCAL_PARTICIPANT, .kind = "crash", .wait = "sealed", .timeout_s = TIMEOUT_S};
    struct err err = {0};
    json_t *answer = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    json_t *request = json_pack("{s:s, s:s, s:s, s:I}", "command", "take", "kind", o.kind, "wait",
                                o.wait, "timeout_ms", (json_int_t)(o.timeout_s * 1000));
    if (request != NULL && o.group != NULL) {
        json_object_set_new(request, "group", json_string(o.group));
    }
    int result =
        local_call(o.local, request, (uint32_t)(o.timeout_s * 1000 + SLACK_MS), &answer, &err);
    json_decref(request);
    if (result != 0) {
        return cli_fail(&err, err.code == TIDE_ERR_UNREACHABLE
                                  ? "is tidemark-participant running, and is --local its socket?"
                                  : NULL);
    }
    int status = judge(&o, answer);
    if (o.output == CLI_JSON) {
        int printed = cli_json_print(answer);
        return status != 0 ? status : printed;
    }
    json_decref(answer);
    return status;
}
