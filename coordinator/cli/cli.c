/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/cli.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"

#define CLI_PROGRESS_MS  100U
#define CLI_COLUMNS_MAX  32U
#define CLI_PROGRAM_TEXT 96U

struct cli_table {
    struct libscols_table *scols;
    size_t columns;
};

static int cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    struct err err = {0};
    err_set(&err, TIDE_ERR_IO, "cannot write to standard output: %s", strerror(errno));
    return cli_fail(&err, NULL);
}

static void cli_verbs_print(FILE *to, const char *noun, const struct cli_verb *verbs)
{
    fprintf(to, "Usage: tidemark %s VERB [OPTIONS] [ARGUMENTS]\n\nVerbs:\n", noun);
    for (const struct cli_verb *verb = verbs; verb->name != NULL; verb++)
        fprintf(to, "  %-10s %s\n", verb->name, verb->summary);
    fprintf(to, "\n`tidemark %s VERB --help` lists the options of a verb.\n", noun);
}

int cli_dispatch(const char *noun, const struct cli_verb *verbs, int argc, char **argv)
{
    TIDE_CHECK(argc >= 1);
    if (argc < 2) {
        cli_verbs_print(stderr, noun, verbs);
        return err_status(TIDE_ERR_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 ||
        strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "-?") == 0) {
        cli_verbs_print(stdout, noun, verbs);
        return cli_flush();
    }
    for (const struct cli_verb *verb = verbs; verb->name != NULL; verb++) {
        if (strcmp(argv[1], verb->name) != 0)
            continue;
        char program[CLI_PROGRAM_TEXT];
        snprintf(program, sizeof(program), "tidemark %s %s", noun, verb->name);
        char *name = argv[1];
        argv[1] = program; /* argp shows it in usage and errors */
        int status = verb->run(argc - 1, argv + 1);
        argv[1] = name;
        int flushed = cli_flush();
        return status != 0 ? status : flushed;
    }
    struct err err = {0};
    err_set(&err, TIDE_ERR_USAGE, "'%s %s': no such verb", noun, argv[1]);
    cli_fail(&err, NULL);
    cli_verbs_print(stderr, noun, verbs);
    return err_status(TIDE_ERR_USAGE);
}

static error_t cli_output_parse(int key, char *arg, struct argp_state *state)
{
    enum cli_output *output = state->input;
    if (key != 'o')
        return ARGP_ERR_UNKNOWN;
    if (strcmp(arg, "json") == 0)
        *output = CLI_JSON;
    else if (strcmp(arg, "table") == 0)
        *output = CLI_TABLE;
    else
        argp_error(state, "-o '%s': must be table or json", arg);
    return 0;
}

static const struct argp_option cli_output_options[] = {
    {"output", 'o', "FORMAT", 0, "table (default) or json", 0}, {0}};
const struct argp cli_output_argp = {
    cli_output_options, cli_output_parse, NULL, NULL, NULL, NULL, NULL};

uint64_t cli_number(struct argp_state *state, const char *what, const char *text, uint64_t min,
                    uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value < min || value > max)
        argp_error(state, "%s '%s': must be a number from %llu to %llu", what, text,
                   (unsigned long long)min, (unsigned long long)max);
    return value;
}

int cli_fail(const struct err *err, const char *next)
{
    fflush(stdout);
    fprintf(stderr, "tidemark: %s\n", err->text);
    if (next != NULL)
        fprintf(stderr, "  what to do: %s\n", next);
    int status = err_status(err->code);
    return status != 0 ? status : err_status(TIDE_ERR_FAILED);
}

struct cli_table *cli_table_new(size_t columns, const char *const *titles)
{
    TIDE_CHECK(columns > 0 && columns <= CLI_COLUMNS_MAX);
    struct cli_table *table = calloc(1, sizeof(*table));
    TIDE_CHECK(table != NULL);
    table->scols = scols_new_table();
    TIDE_CHECK(table->scols != NULL);
    table->columns = columns;
    for (size_t k = 0; k < columns; k++) {
        bool right = titles[k][0] == '>';
        struct libscols_column *column = scols_table_new_column(
            table->scols, right ? titles[k] + 1 : titles[k], 0, right ? SCOLS_FL_RIGHT : 0);
        TIDE_CHECK(column != NULL);
    }
    return table;
}

void cli_table_add(struct cli_table *table, const char *const *cells)
{
    struct libscols_line *line = scols_table_new_line(table->scols, NULL);
    TIDE_CHECK(line != NULL);
    for (size_t k = 0; k < table->columns; k++)
        TIDE_CHECK(scols_line_set_data(line, k, cells[k] != NULL ? cells[k] : "") == 0);
}

int cli_table_print(struct cli_table *table)
{
    if (scols_table_get_nlines(table->scols) > 0) {
        scols_print_table(table->scols);
    } else {
        struct libscols_iter *iter = scols_new_iter(SCOLS_ITER_FORWARD);
        TIDE_CHECK(iter != NULL);
        struct libscols_column *column = NULL;
        while (scols_table_next_column(table->scols, iter, &column) == 0)
            printf("%s ", scols_cell_get_data(scols_column_get_header(column)));
        printf("\n");
        scols_free_iter(iter);
    }
    scols_unref_table(table->scols);
    free(table);
    return cli_flush();
}

int cli_json_print(json_t *value)
{
    struct err err = {0};
    if (value == NULL) {
        err_set(&err, TIDE_ERR_LIMIT, "no memory for the json output");
        return cli_fail(&err, NULL);
    }
    int failed = json_dumpf(value, stdout, JSON_INDENT(2));
    json_decref(value);
    if (failed != 0) {
        err_set(&err, TIDE_ERR_IO, "cannot write json to standard output");
        return cli_fail(&err, NULL);
    }
    printf("\n");
    return cli_flush();
}

void cli_progress(struct cli_progress *progress, const char *format, ...)
{
    if (!isatty(STDERR_FILENO))
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
    if (progress->shown && now_ms - progress->last_ms < CLI_PROGRESS_MS)
        return;
    progress->last_ms = now_ms;
    progress->shown = true;
    va_list args;
    va_start(args, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, args);
    fflush(stderr);
    va_end(args);
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

char *cli_bytes(uint64_t bytes, char ret[CLI_BYTES_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    uint64_t rest = 0;
    while (bytes >= 1024) {
        rest = bytes % 1024;
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(ret, CLI_BYTES_TEXT, "%u B", (unsigned)bytes);
    else
        snprintf(ret, CLI_BYTES_TEXT, "%u.%u %s", (unsigned)bytes, (unsigned)(rest * 10 / 1024),
                 units[unit]);
    return ret;
}

const char *cli_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}
