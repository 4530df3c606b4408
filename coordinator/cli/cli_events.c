/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark events: what has happened to the disks and rounds of the participant on this machine. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/io/local.h"
#include "coordinator/cli/cli.h"

#define TIMEOUT_MS 5000U
#define POLL_NS    500000000L

enum {
    KEY_LOCAL = 0x100,
    KEY_SINCE,
    KEY_FOLLOW,
};

struct events_options {
    enum cli_output output;
    const char *local;
    uint64_t since;
    bool follow;
};

struct reader {
    const struct events_options *options;
    uint64_t since;
    char run[40];    /* of the daemon, as it answered last */
    json_t *all;     /* JSON without --follow: every event */
    uint64_t missed; /* of those asked for */
};

static volatile sig_atomic_t ended;

static void on_interrupt(int number)
{
    (void)number;
    ended = 1;
}

static error_t events_option(int key, char *arg, struct argp_state *state)
{
    struct events_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case KEY_SINCE:
        o->since = cli_number(state, "--since", arg, 0, INT64_MAX);
        return 0;
    case KEY_FOLLOW:
        o->follow = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\": no argument is expected", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(object, key));
    return number < 0 ? 0 : (uint64_t)number;
}

static void print_event(const json_t *event)
{
    const char *disk = cli_text(event, "disk");
    uint64_t count = number_of(event, "count");
    char times[40] = "";
    if (count > 1) {
        snprintf(times, sizeof times, " (%" PRIu64 " times)", count);
    }
    printf("%6" PRIu64 "  %s  %s/%s%s%s  %s: %s%s\n", number_of(event, "seq"),
           cli_text(event, "time"), cli_text(event, "group"), cli_text(event, "member"),
           disk[0] != '\0' ? "/" : "", disk, cli_text(event, "type"), cli_text(event, "text"),
           times);
}

static void show(struct reader *r, json_t *event)
{
    if (r->all != NULL) {
        json_array_append(r->all, event);
    } else if (r->options->output == CLI_JSON) {
        json_dumpf(event, stdout, JSON_COMPACT);
        printf("\n");
    } else {
        print_event(event);
    }
}

/* Another run of the daemon counts from 1 again; so does a number it has not reached. */
static bool begin_again(struct reader *r, const json_t *answer)
{
    const char *run = cli_text(answer, "run");
    bool other = r->run[0] != '\0' && strcmp(r->run, run) != 0;
    bool past = r->since > number_of(answer, "newest");
    snprintf(r->run, sizeof r->run, "%s", run);
    if (!other && !past) {
        return false;
    }
    fprintf(stderr, "tidemark: the daemon has begun anew: its events count from 1 again\n");
    r->since = 0;
    return true;
}

/* One answer: 1 there may be more at once, 0 that is all for now, -1 an error. */
static int read_some(struct reader *r, struct err *err)
{
    json_t *answer = NULL;
    json_t *request = json_pack("{s:s, s:I}", "command", "events", "since", (json_int_t)r->since);
    int result = local_call(r->options->local, request, TIMEOUT_MS, &answer, err);
    json_decref(request);
    if (result != 0) {
        return -1;
    }
    if (begin_again(r, answer)) {
        json_decref(answer);
        return 1;
    }
    uint64_t missed = number_of(answer, "missed");
    if (missed > 0) {
        fprintf(stderr, "tidemark: %" PRIu64 " events before these are gone\n", missed);
    }
    r->missed += missed;
    size_t i;
    json_t *event;
    json_array_foreach(json_object_get(answer, "events"), i, event)
    {
        show(r, event);
        r->since = number_of(event, "seq");
    }
    result = i > 0 && r->since < number_of(answer, "newest") ? 1 : 0;
    json_decref(answer);
    return result;
}

static int read_all(struct reader *r, struct err *err)
{
    int more;
    do {
        more = read_some(r, err);
    } while (more == 1 && ended == 0);
    return more < 0 ? -1 : 0;
}

static int follow(struct reader *r, struct err *err)
{
    const struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: it wakes us */
    const struct timespec pause = {.tv_nsec = POLL_NS};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (ended == 0) {
        if (read_all(r, err) != 0) {
            return ended != 0 ? 0 : -1;
        }
        if (fflush(stdout) != 0) {
            return err_set(err, TIDE_ERR_IO, "cannot write to standard output");
        }
        if (ended == 0) {
            nanosleep(&pause, NULL);
        }
    }
    return 0;
}

int cli_events(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"local", KEY_LOCAL, "PATH", 0,
         "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
        {"since", KEY_SINCE, "SEQ", 0, "those after number SEQ (default 0: all that are kept)", 0},
        {"follow", KEY_FOLLOW, NULL, 0,
         "go on with new ones until interrupted; with -o json one object a line", 0},
        {0}};
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        events_option,
        NULL,
        "Shows what has happened to the disks and rounds of the participant on this machine. It "
        "keeps the last 1024 events; what comes again within 10 seconds counts up.",
        children,
        NULL,
        NULL};
    struct events_options o = {.local = LOCAL_PARTICIPANT};
    struct err err = {0};
    char program[] = "tidemark events";
    char *name = argv[0];
    argv[0] = program; /* argp shows it in usage and errors */
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    argv[0] = name;
    struct reader r = {.options = &o, .since = o.since};
    if (o.output == CLI_JSON && !o.follow) {
        r.all = json_array();
    }
    if ((o.follow ? follow(&r, &err) : read_all(&r, &err)) != 0) {
        json_decref(r.all);
        return cli_fail(&err, err.code == TIDE_ERR_UNREACHABLE
                                  ? "is tidemark-participant running, and is --local its socket?"
                                  : NULL);
    }
    if (r.all != NULL) {
        return cli_json_print(json_pack("{s:s, s:I, s:I, s:o}", "run", r.run, "newest",
                                        (json_int_t)r.since, "missed", (json_int_t)r.missed,
                                        "events", r.all));
    }
    return fflush(stdout) == 0 ? 0 : err_status(TIDE_ERR_IO);
}
