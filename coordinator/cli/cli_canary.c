/* SPDX-License-Identifier: Apache-2.0 */
/* The noun `canary`: run, check. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "coordinator/cli/canary_run.h"
#include "coordinator/cli/cli.h"

#define CANARY_TOKENS     4
#define CANARY_SLOTS      64
#define CANARY_SECONDS    60
#define CANARY_STEPS_S    1000
#define CANARY_BACKGROUND 256 /* KiB/s a folder */
#define CANARY_DAY        86400

enum canary_key {
    CANARY_KEY_TOKENS = 256,
    CANARY_KEY_SECONDS,
    CANARY_KEY_UNTIL,
    CANARY_KEY_FSYNC,
    CANARY_KEY_RATE,
    CANARY_KEY_BACKGROUND,
    CANARY_KEY_SLOTS,
    CANARY_KEY_SEED,
    CANARY_KEY_NO_DIRECT,
    CANARY_KEY_REPORT,
};

struct canary_arguments {
    enum cli_output output;
    struct canary_run_options run;
    char *dirs[CANARY_WRITERS_MAX];
};

static const struct argp_option canary_run_argp_options[] = {
    {"tokens", CANARY_KEY_TOKENS, "N", 0, "tokens that go round at once (4)", 0},
    {"seconds", CANARY_KEY_SECONDS, "N", 0, "end after so many seconds (60)", 0},
    {"until-file", CANARY_KEY_UNTIL, "FILE", 0, "end when FILE is there", 0},
    {"fsync", CANARY_KEY_FSYNC, NULL, 0, "sync each step before the next: the durable form", 0},
    {"steps-per-s", CANARY_KEY_RATE, "N", 0,
     "at most so many, all tokens together (1000; 0: as fast as they come)", 0},
    {"background-kib-s", CANARY_KEY_BACKGROUND, "N", 0,
     "other writes beside the tokens, a folder (256; 0: none)", 0},
    {"slots", CANARY_KEY_SLOTS, "N", 0, "steps of a token that each writer keeps (64)", 0},
    {"seed", CANARY_KEY_SEED, "N", 0, "order of the folders, and the background (drawn)", 0},
    {"report", CANARY_KEY_REPORT, "SECONDS", 0, "print a line when ready, and every so often", 0},
    {"no-direct", CANARY_KEY_NO_DIRECT, NULL, 0,
     "without O_DIRECT (writes are synced instead), for a trial", 0},
    {0}};

static error_t canary_parse_dir(char *arg, struct argp_state *state)
{
    struct canary_arguments *arguments = state->input;
    if (arguments->run.dir_count >= CANARY_WRITERS_MAX)
        argp_error(state, "too many folders: at most %u", CANARY_WRITERS_MAX);
    arguments->dirs[arguments->run.dir_count++] = arg;
    return 0;
}

static error_t canary_check_parse(int key, char *arg, struct argp_state *state)
{
    struct canary_arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->output;
        return 0;
    case ARGP_KEY_ARG:
        return canary_parse_dir(arg, state);
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "no folder given");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t canary_run_parse(int key, char *arg, struct argp_state *state)
{
    struct canary_arguments *arguments = state->input;
    struct canary_run_options *run = &arguments->run;
    switch (key) {
    case CANARY_KEY_TOKENS:
        run->tokens = (uint32_t)cli_number(state, "--tokens", arg, 1, CANARY_TOKENS_MAX);
        return 0;
    case CANARY_KEY_SECONDS:
        run->seconds = cli_number(state, "--seconds", arg, 1, CANARY_DAY);
        return 0;
    case CANARY_KEY_UNTIL:
        run->until_file = arg;
        return 0;
    case CANARY_KEY_FSYNC:
        run->fsync = true;
        return 0;
    case CANARY_KEY_RATE:
        run->steps_per_s = cli_number(state, "--steps-per-s", arg, 0, 10000000);
        return 0;
    case CANARY_KEY_BACKGROUND:
        run->background_kib_s = cli_number(state, "--background-kib-s", arg, 0, 1048576);
        return 0;
    case CANARY_KEY_SLOTS:
        run->slots = (uint32_t)cli_number(state, "--slots", arg, 1, CANARY_SLOTS_MAX);
        return 0;
    case CANARY_KEY_SEED:
        run->seed = cli_number(state, "--seed", arg, 0, INT64_MAX);
        return 0;
    case CANARY_KEY_NO_DIRECT:
        run->direct = false;
        return 0;
    case CANARY_KEY_REPORT:
        run->report_seconds = cli_number(state, "--report", arg, 1, CANARY_DAY);
        return 0;
    default:
        return canary_check_parse(key, arg, state);
    }
}

static const struct argp_child canary_children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
static const struct argp canary_run_argp = {
    canary_run_argp_options,
    canary_run_parse,
    "DIR...",
    "Makes tokens go round over the folders, each on a file system of its own: a step is written "
    "only after the one before was acknowledged. Ends after --seconds, with --until-file, or on "
    "SIGTERM.",
    canary_children,
    NULL,
    NULL};
static const struct argp canary_check_argp = {
    NULL,
    canary_check_parse,
    "DIR...",
    "Says whether recovered folders are a state that existed at one instant. Exit status 0: "
    "consistent; 1: torn; others: cannot be judged.",
    canary_children,
    NULL,
    NULL};

static json_t *canary_state_json(const struct canary_run_state *state, const char *phase,
                                 uint64_t seed)
{
    char run[TIDE_ID_HEX];
    double rate = state->seconds > 0 ? (double)state->steps / state->seconds : 0;
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:I, s:f, s:f, s:I}", "state", phase, "run",
                     id_hex(&state->config.run, run), "writers", (json_int_t)state->config.writers,
                     "tokens", (json_int_t)state->config.tokens, "seed", (json_int_t)seed, "fsync",
                     (int)state->config.fsync, "steps", (json_int_t)state->steps, "seconds",
                     state->seconds, "steps_per_s", rate, "background_bytes",
                     (json_int_t)state->background_bytes);
}

static void canary_print_state(const struct canary_arguments *arguments,
                               const struct canary_run_state *state, const char *phase)
{
    if (arguments->output == CLI_JSON) { /* one object a line */
        json_t *object = canary_state_json(state, phase, arguments->run.seed);
        if (object != NULL)
            json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
        printf("\n");
    } else {
        printf("canary: %s: %" PRIu64 " steps in %.1f s, %.0f steps/s (%" PRIu32
               " writers, %" PRIu32 " tokens, seed %" PRIu64 ")\n",
               phase, state->steps, state->seconds,
               state->seconds > 0 ? (double)state->steps / state->seconds : 0,
               state->config.writers, state->config.tokens, arguments->run.seed);
    }
    fflush(stdout);
}

static void canary_report(const struct canary_run_state *state, void *context)
{
    const struct canary_arguments *arguments = context;
    if (arguments->run.report_seconds > 0)
        canary_print_state(arguments, state, state->steps == 0 ? "ready" : "running");
}

static int canary_run_verb(int argc, char **argv)
{
    struct canary_arguments arguments = {.run = {.tokens = CANARY_TOKENS,
                                                 .slots = CANARY_SLOTS,
                                                 .seconds = CANARY_SECONDS,
                                                 .steps_per_s = CANARY_STEPS_S,
                                                 .background_kib_s = CANARY_BACKGROUND,
                                                 .direct = true}};
    struct err err = {0};
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        err_set(&err, TIDE_ERR_IO, "cannot draw a seed");
        return cli_fail(&err, "give one with --seed");
    }
    arguments.run.seed = seed;
    argp_parse(&canary_run_argp, argc, argv, 0, NULL, &arguments);
    arguments.run.dirs = arguments.dirs;
    struct canary_run_state state;
    if (canary_run(&arguments.run, canary_report, &arguments, &state, &err) != 0)
        return cli_fail(&err, NULL);
    canary_print_state(&arguments, &state, "ended");
    return 0;
}

static json_t *canary_verdict_json(const struct canary_set *set,
                                   const struct canary_verdict *verdict)
{
    char run[TIDE_ID_HEX];
    json_t *torn = json_array();
    for (uint32_t k = 0; k < verdict->tears; k++) {
        const struct canary_tear *tear = &verdict->tear[k];
        json_array_append_new(
            torn,
            json_pack("{s:I, s:{s:I, s:I, s:s}, s:{s:I, s:I, s:s}}", "token",
                      (json_int_t)tear->token, "effect", "step", (json_int_t)tear->effect, "writer",
                      (json_int_t)tear->effect_writer, "dir", set->writer_dir[tear->effect_writer],
                      "cause", "step", (json_int_t)tear->cause, "writer",
                      (json_int_t)tear->cause_writer, "dir", set->writer_dir[tear->cause_writer]));
    }
    json_t *last = json_array();
    for (uint32_t k = 0; k < set->config.tokens; k++)
        json_array_append_new(last, verdict->last[k] == CANARY_STEP_NONE
                                        ? json_null()
                                        : json_integer((json_int_t)verdict->last[k]));
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "verdict",
                     verdict->tears == 0 ? "consistent" : "torn", "run",
                     id_hex(&set->config.run, run), "writers", (json_int_t)set->config.writers,
                     "tokens", (json_int_t)set->config.tokens, "steps_proven",
                     (json_int_t)verdict->steps, "last_steps", last, "torn", torn);
}

static int canary_check_verb(int argc, char **argv)
{
    struct canary_arguments arguments = {0};
    argp_parse(&canary_check_argp, argc, argv, 0, NULL, &arguments);
    struct err err = {0};
    struct canary_set set;
    struct canary_verdict verdict;
    if (canary_set_read(arguments.run.dir_count, arguments.dirs, &set, &err) != 0)
        return cli_fail(&err, "nothing can be said of these folders until this is mended");
    int status = err_status(TIDE_ERR_OK);
    if (canary_judge(&set.config, set.marks, &verdict, &err) != 0) {
        canary_set_close(&set);
        return cli_fail(&err, "nothing can be said of these folders until this is mended");
    }
    if (verdict.tears > 0)
        status = err_status(TIDE_ERR_FAILED);
    if (arguments.output == CLI_JSON) {
        int printed = cli_json_print(canary_verdict_json(&set, &verdict));
        status = status != 0 ? status : printed;
    } else if (verdict.tears == 0) {
        printf("consistent: %" PRIu64 " steps proven over %" PRIu32 " tokens and %" PRIu32
               " writers\n",
               verdict.steps, set.config.tokens, set.config.writers);
    }
    for (uint32_t k = 0; arguments.output == CLI_TABLE && k < verdict.tears; k++) {
        const struct canary_tear *tear = &verdict.tear[k];
        printf("torn: token %" PRIu32 ": step %" PRIu64
               " is in '%s' although its cause, step %" PRIu64 " in '%s', is missing\n",
               tear->token, tear->effect, set.writer_dir[tear->effect_writer], tear->cause,
               set.writer_dir[tear->cause_writer]);
    }
    canary_set_close(&set);
    return status;
}

static const struct cli_verb canary_verbs[] = {
    {"run", canary_run_verb, "make dependent writes over folders on several file systems"},
    {"check", canary_check_verb, "judge recovered folders: consistent, or what is missing"},
    {0}};

int cli_canary(int argc, char **argv)
{
    return cli_dispatch("canary", canary_verbs, argc, argv);
}
