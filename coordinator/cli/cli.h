/* SPDX-License-Identifier: Apache-2.0 */
/* cli: what all nouns of the `tidemark` command share: dispatch to verbs, `-o table|json`, errors,
 * tables, JSON, a progress line. Not thread-safe but for cli_progress from one thread at a time.
 *
 *   tidemark NOUN VERB [OPTIONS] [ARGUMENTS]
 *
 * Exit status: 0, or err_status() of the error's code (common/core/err.h): 1 a check said no, 2
 * wrong arguments, 3 wrong configuration, 4 not found, 5 no answer, 6 denied, 7 corrupt, 8 version,
 * 9 conflict, 10 limit, 11 I/O, 12 no space, 13 busy, 14 cannot be judged. Results go to standard
 * output, errors and progress to standard error. */
#ifndef TIDE_COORDINATOR_CLI_CLI_H
#define TIDE_COORDINATOR_CLI_CLI_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"

/* One noun each: argv[0] is the noun, argv[1] the verb. They return an exit status. Most are
 * `return cli_dispatch("noun", verbs, argc, argv);`. */
int cli_pki(int argc, char **argv);
int cli_group(int argc, char **argv);
int cli_participant(int argc, char **argv);
int cli_disk(int argc, char **argv);
int cli_events(int argc, char **argv); /* no verbs */
int cli_point(int argc, char **argv);
int cli_store(int argc, char **argv);
int cli_hrl(int argc, char **argv);
int cli_canary(int argc, char **argv);

/* Two verbs of `point` live in files of their own: `take` (take.c), since it speaks to a
 * participant, and `verify` (point_verify.c), since it speaks to nobody. */

struct cli_verb {
    const char *name;
    /* Parses with argp; argv[0] is then "tidemark NOUN VERB". Returns an exit status. */
    int (*run)(int argc, char **argv);
    const char *summary; /* one line for --help */
};

/* Runs the verb that argv[1] names out of verbs, which ends with a NULL name. `--help` or no verb
 * lists them (status 0 and 2). */
int cli_dispatch(const char *noun, const struct cli_verb *verbs, int argc, char **argv);

/* `-o table|json` as an argp child. Use:
 *   static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
 * and in the parent's parser: case ARGP_KEY_INIT: state->child_inputs[0] = &options->output; */
enum cli_output {
    CLI_TABLE, /* the default: text for people */
    CLI_JSON,
};
extern const struct argp cli_output_argp; /* input: enum cli_output * */

/* Parses a decimal number in min..max for an option; on failure argp_error() names `what`, the text
 * and the range, and the process ends with status 2. */
uint64_t cli_number(struct argp_state *state, const char *what, const char *text, uint64_t min,
                    uint64_t max);

/* Prints "tidemark: TEXT" and, unless next is NULL, "  what to do: NEXT" to standard error. Returns
 * the exit status that goes with err->code: `return cli_fail(&err, "start it, or ...");` */
int cli_fail(const struct err *err, const char *next);

/* A table on standard output as lsblk prints them. Column titles; one that begins with '>' is
 * aligned to the right. Texts are copied. Aborts without memory. */
struct cli_table;
struct cli_table *cli_table_new(size_t columns, const char *const *titles);
void cli_table_add(struct cli_table *table, const char *const *cells); /* `columns` of them */
/* Prints (nothing at all without rows but the titles) and frees. Returns an exit status. */
int cli_table_print(struct cli_table *table);

/* Prints the value with a newline and gives up the caller's reference. NULL: out of memory.
 * Returns an exit status. */
int cli_json_print(json_t *value);

/* One line on standard error that is rewritten in place, at most ten times a second; nothing where
 * standard error is no terminal. Zero-initialise. */
struct cli_progress {
    uint64_t last_ms;
    bool shown;
};
void cli_progress(struct cli_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cli_progress_end(struct cli_progress *progress); /* clears the line */

#define CLI_BYTES_TEXT 24
/* "512 B", "1.5 KiB" … "3.0 TiB": cut, never rounded up. Returns ret. */
char *cli_bytes(uint64_t bytes, char ret[CLI_BYTES_TEXT]);

/* The text of that key; "" where it is not there or no text. Owned by the object. */
const char *cli_text(const json_t *object, const char *key);

#endif
