/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark-sim: simulated clusters, seed by seed. See tests/sim/README.md. */
#include "common/core/planted.h"
#include "tests/sim/scenario.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Exit status; a crash is the signal's (134 for a check that aborts). */
enum { EXIT_GOOD = 0, EXIT_USAGE = 2, EXIT_UNSAFE = 3, EXIT_NOT_LIVE = 4 };

enum {
    OPT_SEED = 1,
    OPT_SEEDS,
    OPT_MEMBERS,
    OPT_ROUNDS,
    OPT_FAULTS,
    OPT_DISKS,
    OPT_TRACE,
    OPT_PLANTED
};

static const char *const fault_names[] = {"none", "light", "swarm"};

struct args {
    const char *command;
    struct sim_options options;
    uint64_t last;
    bool has_seeds;
    const char *file; /* of scenario */
};

static const struct argp_option options[] = {
    {"seed", OPT_SEED, "S", 0, "run: everything is drawn from it", 0},
    {"seeds", OPT_SEEDS, "A..B", 0, "swarm: these, one after the other, to the first failure", 0},
    {"members", OPT_MEMBERS, "N", 0,
     "1 to what a definition may have (drawn from the seed, 2 to 5)", 0},
    {"rounds", OPT_ROUNDS, "R", 0, "intervals that faults last (20)", 0},
    {"faults", OPT_FAULTS, "KIND", 0, "none, light or swarm (swarm)", 0},
    {"disks", OPT_DISKS, "KIND", 0,
     "bytes: with logs, images and segments; records: lists of records, faster (bytes)", 0},
    {"trace", OPT_TRACE, NULL, 0, "print what everybody did", 0},
#ifdef TIDE_PLANTED
    {"planted", OPT_PLANTED, "BUG", 0, "with that mistake; `list` and `harmless` print them", 0},
#endif
    {0},
};

#ifdef TIDE_PLANTED
enum planted tide_planted;

static const char *const planted_names[] = {
#define X(name, text) #name,
    TIDE_PLANTED_BUGS(X) TIDE_PLANTED_HARMLESS(X)
#undef X
};

enum {
#define X(name, text) +1
    PLANTED_HARMFUL = 0 TIDE_PLANTED_BUGS(X)
#undef X
};

static void plant(struct argp_state *state, const char *text)
{
    unsigned count = sizeof planted_names / sizeof planted_names[0];
    bool list = strcmp(text, "list") == 0;
    bool harmless = strcmp(text, "harmless") == 0;
    for (unsigned i = 0; i < count; i++) {
        if (list || harmless) {
            if (harmless == (i >= PLANTED_HARMFUL)) {
                puts(planted_names[i]);
            }
        } else if (strcmp(text, planted_names[i]) == 0) {
            tide_planted = (enum planted)(i + 1);
            return;
        }
    }
    if (list || harmless) {
        exit(EXIT_GOOD);
    }
    argp_error(state, "\"%s\" is no planted bug; `--planted list` prints them", text);
}
#endif

static uint64_t number(struct argp_state *state, const char *text, const char *what, uint64_t least,
                       uint64_t most)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < least ||
        value > most) {
        argp_error(state, "%s \"%s\" is not a number from %" PRIu64 " to %" PRIu64, what, text,
                   least, most);
    }
    return value;
}

static void seeds(struct argp_state *state, struct args *args, const char *text)
{
    char first[32];
    const char *dots = strstr(text, "..");
    if (dots == NULL || (size_t)(dots - text) >= sizeof first) {
        argp_error(state, "seeds \"%s\" are not A..B, for example 1..500", text);
        return;
    }
    snprintf(first, sizeof first, "%.*s", (int)(dots - text), text);
    args->options.seed = number(state, first, "the first seed", 0, UINT64_MAX - 1);
    args->last = number(state, dots + 2, "the last seed", args->options.seed, UINT64_MAX - 1);
    args->has_seeds = true;
}

static void faults(struct argp_state *state, struct args *args, const char *text)
{
    for (unsigned i = 0; i < sizeof fault_names / sizeof fault_names[0]; i++) {
        if (strcmp(text, fault_names[i]) == 0) {
            args->options.faults = (enum sim_faults)i;
            return;
        }
    }
    argp_error(state, "faults \"%s\" are none of none, light, swarm", text);
}

static void one_seed(struct argp_state *state, struct args *args, const char *text)
{
    args->options.seed = number(state, text, "seed", 0, UINT64_MAX - 1);
    args->last = args->options.seed;
    args->has_seeds = true;
}

static void argument(struct argp_state *state, struct args *args, const char *text)
{
    if (args->command == NULL) {
        args->command = text;
    } else if (strcmp(args->command, "replay") == 0 && !args->has_seeds) {
        one_seed(state, args, text);
    } else if (strcmp(args->command, "scenario") == 0 && args->file == NULL) {
        args->file = text;
    } else {
        argp_error(state, "\"%s\" is one argument too many", text);
    }
}

static void complete(struct argp_state *state, struct args *args)
{
    if (args->command == NULL) {
        argp_error(state, "a command is missing: run, swarm, replay or scenario");
        return;
    }
    if (strcmp(args->command, "scenario") == 0) {
        if (args->file == NULL || args->has_seeds) {
            argp_error(state, "scenario needs a FILE, and no seed (`seed` stands in the file)");
        }
        return;
    }
    if (strcmp(args->command, "run") != 0 && strcmp(args->command, "swarm") != 0 &&
        strcmp(args->command, "replay") != 0) {
        argp_error(state, "\"%s\" is no command: run, swarm, replay or scenario", args->command);
    }
    if (!args->has_seeds) {
        argp_error(state, "%s needs %s", args->command,
                   strcmp(args->command, "run") == 0     ? "--seed S"
                   : strcmp(args->command, "swarm") == 0 ? "--seeds A..B"
                                                         : "a seed");
    }
    args->options.trace |= strcmp(args->command, "replay") == 0;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct args *args = state->input;
    switch (key) {
    case OPT_SEED:
        one_seed(state, args, text);
        break;
    case OPT_SEEDS:
        seeds(state, args, text);
        break;
    case OPT_MEMBERS:
        args->options.members = (unsigned)number(state, text, "members", 1, SIM_MEMBERS_MAX);
        break;
    case OPT_ROUNDS:
        args->options.rounds = (unsigned)number(state, text, "rounds", 1, SIM_ROUNDS_MAX);
        break;
    case OPT_DISKS:
        args->options.listed = strcmp(text, "records") == 0;
        if (!args->options.listed && strcmp(text, "bytes") != 0) {
            argp_error(state, "disks \"%s\" are none of bytes, records", text);
        }
        break;
    case OPT_FAULTS:
        faults(state, args, text);
        break;
    case OPT_TRACE:
        args->options.trace = true;
        break;
#ifdef TIDE_PLANTED
    case OPT_PLANTED:
        plant(state, text);
        break;
#endif
    case ARGP_KEY_ARG:
        argument(state, args, text);
        break;
    case ARGP_KEY_END:
        complete(state, args);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void add(struct check_count *sum, const struct check_count *one)
{
    sum->rounds += one->rounds;
    sum->points += one->points;
    sum->full += one->full;
    sum->single += one->single;
    sum->writes += one->writes;
    sum->late += one->late;
    sum->hold_us_max = one->hold_us_max > sum->hold_us_max ? one->hold_us_max : sum->hold_us_max;
}

static void tell_failure(const struct sim_options *used, const struct sim_result *result)
{
    char members[32] = "";
    if (used->members != 0) {
        snprintf(members, sizeof members, " --members %u", used->members);
    }
    printf("%s\n", result->failure);
    printf("seed %" PRIu64 ", tidemark-sim %s; again: tidemark-sim replay %" PRIu64
           "%s --rounds %u --faults %s%s\n",
           used->seed, TIDE_VERSION, used->seed, members, used->rounds, fault_names[used->faults],
           used->listed ? " --disks records" : "");
}

static void tell_sum(unsigned runs, const struct check_count *sum, uint64_t live_us)
{
    printf("%u seeds: %u rounds, %u points (%u full, %u of single VMs), %u writes, %u of them "
           "held, longest hold "
           "%" PRIu64 " us, slowest recovery %" PRIu64 " ms\n",
           runs, sum->rounds, sum->points, sum->full, sum->single, sum->writes, sum->late,
           sum->hold_us_max, live_us / 1000);
}

static char *read_file(const char *path)
{
    static char text[1U << 16];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "tidemark-sim: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    if (size == sizeof text) {
        fprintf(stderr, "tidemark-sim: %s: a scenario has less than 64 KiB\n", path);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

static int run_scenario(const struct args *args)
{
    struct sim_result result;
    struct err err;
    const char *text = read_file(args->file);
    if (text == NULL) {
        return EXIT_USAGE;
    }
    if (scenario_run(text, &result, &err) != 0) {
        fprintf(stderr, "tidemark-sim: %s: %s\n", args->file, err.text);
        return EXIT_USAGE;
    }
    if (args->options.trace) {
        fputs(result.trace, stdout);
    }
    free(result.trace);
    if (result.verdict != SIM_GOOD) {
        printf("%s\n%s, tidemark-sim %s; again: tidemark-sim scenario %s --trace\n", result.failure,
               args->file, TIDE_VERSION, args->file);
        return result.verdict == SIM_UNSAFE ? EXIT_UNSAFE : EXIT_NOT_LIVE;
    }
    printf("%u rounds, %u points (%u full, %u of single VMs), trace %016" PRIx64 "\n",
           result.count.rounds, result.count.points, result.count.full, result.count.single,
           result.digest);
    return EXIT_GOOD;
}

int main(int argc, char **argv)
{
    const struct argp argp = {options,
                              parse,
                              "run|swarm|replay SEED|scenario FILE",
                              "Simulates clusters in virtual time and checks what they do.\v"
                              "Exit status: 0 good, 2 usage, 3 unsafe, 4 not live.",
                              NULL,
                              NULL,
                              NULL};
    struct args args = {.options = {.rounds = 20, .faults = SIM_FAULTS_SWARM}};
    argp_err_exit_status = EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0) {
        return EXIT_USAGE;
    }
    if (args.file != NULL) {
        return run_scenario(&args);
    }
    struct check_count sum = {0};
    uint64_t live_us = 0;
    uint64_t digest = 0;
    unsigned runs = 0;
    for (; args.options.seed <= args.last; args.options.seed++) {
        struct sim_result result = sim_run(&args.options);
        if (args.options.trace) {
            fputs(result.trace, stdout);
        }
        free(result.trace);
        digest = (digest ^ result.digest) * 1099511628211U;
        if (result.verdict != SIM_GOOD) {
            tell_failure(&args.options, &result);
            return result.verdict == SIM_UNSAFE ? EXIT_UNSAFE : EXIT_NOT_LIVE;
        }
        add(&sum, &result.count);
        live_us = result.live_us > live_us ? result.live_us : live_us;
        runs++;
    }
    tell_sum(runs, &sum, live_us);
    printf("trace %016" PRIx64 "\n", digest);
    return EXIT_GOOD;
}
