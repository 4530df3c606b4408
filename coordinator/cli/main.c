/* SPDX-License-Identifier: Apache-2.0 */
/* The `tidemark` command: the list of nouns. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/cli/cli.h"

struct noun {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct noun nouns[] = {
    {"pki", cli_pki, "site CA and certificates: init, issue"},
    {"group", cli_group, "replication groups: apply, list"},
    {"participant", cli_participant, "the participant on this machine: status"},
    {"disk", cli_disk, "its disks: status, resync, detach, resize, replay, check"},
    {"events", cli_events, "what has happened to them (no verb)"},
    {"point", cli_point, "recovery points: list, show, take, export, verify"},
    {"store", cli_store, "the replica store: usage, check"},
    {"hrl", cli_hrl, "change streams as files: show, check, align"},
    {"canary", cli_canary, "dependent writes over several machines: run, check"},
    {NULL, NULL, NULL},
};

static void usage(FILE *to)
{
    fputs("Usage: tidemark NOUN VERB [OPTIONS] [ARGUMENTS]\n\nNouns:\n", to);
    for (const struct noun *noun = nouns; noun->name != NULL; noun++)
        fprintf(to, "  %-12s %s\n", noun->name, noun->summary);
    fputs("\n`tidemark NOUN --help` lists its verbs, `tidemark NOUN VERB --help` their options.\n"
          "Exit status:\n",
          to);
#define USAGE_STATUS(name, status, meaning) fprintf(to, "  %2d  %s\n", status, meaning);
    TIDE_ERR_CODES(USAGE_STATUS)
#undef USAGE_STATUS
}

int main(int argc, char **argv)
{
    argp_err_exit_status = err_status(TIDE_ERR_USAGE);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of the write */
    if (argc < 2) {
        usage(stderr);
        return err_status(TIDE_ERR_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 ||
        strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "-?") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("tidemark " TIDE_VERSION);
        return 0;
    }
    for (const struct noun *noun = nouns; noun->name != NULL; noun++) {
        if (strcmp(argv[1], noun->name) == 0)
            return noun->run(argc - 1, argv + 1);
    }
    struct err err = {0};
    err_set(&err, TIDE_ERR_USAGE, "'%s': no such noun", argv[1]);
    cli_fail(&err, NULL);
    usage(stderr);
    return err_status(TIDE_ERR_USAGE);
}
