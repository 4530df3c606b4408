/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark hrl: change streams as files (proto/hrl.md): show what is in them, check them, and apply
 * the reader's rule to a folder of segments. Everything read here may be hostile. */
#include "coordinator/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>

#include "coordinator/cli/hrl_align.h"
#include "coordinator/cli/record_text.h"
#include "coordinator/cli/stream_file.h"

static int fail(const struct err *err)
{
    return cli_fail(err, err->code == TIDE_ERR_CORRUPT ? "take this file from another copy; what "
                                                         "lies before the place named is good"
                                                       : NULL);
}

/* ---- arguments ---- */

enum {
    KEY_MASTER_KEY = 0x100,
};

struct options {
    enum cli_output output;
    char **paths;
    int count;
    int wanted; /* exactly; 0: at least one */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case KEY_MASTER_KEY:
        stream_file_master_key(arg);
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->output;
        return 0;
    case ARGP_KEY_ARGS:
        options->paths = state->argv + state->next;
        options->count = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "%s", options->wanted == 1 ? "name a folder" : "name at least one file");
        return 0;
    case ARGP_KEY_END:
        if (options->wanted != 0 && options->count != options->wanted)
            argp_error(state, "%d arguments, expected %d", options->count, options->wanted);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option master_key[] = {
    {"master-key", KEY_MASTER_KEY, "FILE", 0, "of the store, where it is encrypted", 0}, {0}};
static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

/* ---- show ---- */

static json_t *record_json(const struct record *r, uint64_t offset, size_t size, const char *detail)
{
    char incarnation[24];
    const char *name = record_type_name(r->type);
    snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, r->incarnation);
    json_t *o = json_pack("{s:I, s:s, s:s, s:I, s:I, s:s}", "lsn", (json_int_t)r->lsn, "type",
                          name != NULL ? name : "?", "incarnation", incarnation, "offset",
                          (json_int_t)offset, "size", (json_int_t)size, "detail", detail);
    if (o != NULL && r->type == RECORD_BOOKMARK) {
        char round[TIDE_ID_HEX];
        json_object_set_new(o, "round", json_string(id_hex(&r->bookmark.order.round, round)));
    } else if (o != NULL && r->type == RECORD_SEAL) {
        char hex[TIDE_HASH_HEX];
        json_object_set_new(o, "round", json_string(id_hex(&r->seal.round, hex)));
        json_object_set_new(o, "bookmark_lsn", json_integer((json_int_t)r->seal.bookmark_lsn));
        json_object_set_new(o, "outcome", json_string(round_outcome_name(r->seal.outcome)));
        json_object_set_new(o, "cut", json_string(hash_hex(&r->seal.cut, hex)));
    } else if (o != NULL && (r->type == RECORD_WRITE || r->type == RECORD_ZERO ||
                             r->type == RECORD_COPY_BLOCK)) {
        json_object_set_new(o, "disk_offset", json_integer((json_int_t)r->write.offset));
        json_object_set_new(o, "disk_size", json_integer((json_int_t)r->write.size));
    }
    return o;
}

static json_t *file_json(const struct stream_file *file)
{
    char stream[TIDE_ID_HEX];
    char timeline[TIDE_ID_HEX];
    char hash[TIDE_HASH_HEX];
    if (file->is_log)
        return json_pack("{s:s, s:s, s:s, s:I, s:I}", "file", file->input.path, "form", "log",
                         "stream", id_hex(&file->log_header.stream, stream), "sequence",
                         (json_int_t)file->log_header.sequence, "first_lsn",
                         (json_int_t)file->log_header.first_lsn);
    const struct segment_info *info = &file->segment.info;
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "file", file->input.path, "form",
                     "segment", "stream", id_hex(&info->header.stream, stream), "timeline",
                     id_hex(&info->header.timeline, timeline), "first_lsn",
                     (json_int_t)info->header.first_lsn, "last_lsn", (json_int_t)info->last_lsn,
                     "hash", hash_hex(&info->hash, hash));
}

static void print_head(const struct stream_file *file)
{
    char stream[TIDE_ID_HEX];
    char hash[TIDE_HASH_HEX];
    if (file->is_log)
        printf("%s: log file, sequence %" PRIu64 ", stream %s, from lsn %" PRIu64 "\n",
               file->input.path, file->log_header.sequence,
               id_hex(&file->log_header.stream, stream), file->log_header.first_lsn);
    else
        printf("%s: segment, stream %s, lsn %" PRIu64 "..%" PRIu64 ", hash %s\n", file->input.path,
               id_hex(&file->segment.info.header.stream, stream),
               file->segment.info.header.first_lsn, file->segment.info.last_lsn,
               hash_hex(&file->segment.info.hash, hash));
}

/* One file. JSON objects are appended to `files`. Returns an exit status. */
static int show_file(const char *path, enum cli_output output, json_t *files)
{
    static const char *const titles[] = {">LSN",    "TYPE",  "INCARNATION",
                                         ">OFFSET", ">SIZE", "DETAIL"};
    struct stream_file file;
    struct record r;
    struct err err = {0};
    uint64_t offset = 0;
    size_t size = 0;
    char detail[RECORD_TEXT_DETAIL_MAX];
    if (stream_file_open(&file, path, &err) != 0)
        return cli_fail(&err, NULL);
    struct cli_table *table = output == CLI_TABLE ? cli_table_new(6, titles) : NULL;
    json_t *object = output == CLI_JSON ? file_json(&file) : NULL;
    json_t *records = output == CLI_JSON ? json_array() : NULL;
    int more;
    while ((more = stream_file_next(&file, &r, &offset, &size, &err)) > 0) {
        record_text_detail(&r, detail);
        if (output == CLI_JSON) {
            json_array_append_new(records, record_json(&r, offset, size, detail));
            continue;
        }
        char cells[4][24];
        snprintf(cells[0], sizeof(cells[0]), "%" PRIu64, r.lsn);
        snprintf(cells[1], sizeof(cells[1]), "%016" PRIx64, r.incarnation);
        snprintf(cells[2], sizeof(cells[2]), "%" PRIu64, offset);
        snprintf(cells[3], sizeof(cells[3]), "%zu", size);
        const char *name = record_type_name(r.type);
        cli_table_add(table, (const char *const[]){cells[0], name != NULL ? name : "?", cells[1],
                                                   cells[2], cells[3], detail});
    }
    stream_file_close(&file);
    int status = 0;
    if (output == CLI_JSON) {
        json_object_set_new(object, "records", records);
        json_object_set_new(object, "tail", json_string(stream_file_tail(&file)));
        json_array_append_new(files, object);
    } else {
        print_head(&file);
        status = cli_table_print(table);
        if (stream_file_tail(&file)[0] != '\0')
            printf("%s\n", stream_file_tail(&file));
    }
    return more < 0 ? fail(&err) : status;
}

static int show(int argc, char **argv)
{
    static const struct argp argp = {
        master_key, parse, "FILE...", "Prints every record of segments and log files of a stream.",
        children,   NULL,  NULL};
    struct options options = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    json_t *files = options.output == CLI_JSON ? json_array() : NULL;
    int status = 0;
    for (int i = 0; i < options.count; i++) {
        int one = show_file(options.paths[i], options.output, files);
        status = status != 0 ? status : one;
    }
    if (files != NULL) {
        int printed = cli_json_print(files);
        status = status != 0 ? status : printed;
    }
    return status;
}

/* ---- check ---- */

struct check {
    struct cli_table *table;
    json_t *list;
};

static void check_report(const struct check *check, const char *path,
                         const struct stream_file *file, uint64_t first, const struct err *err)
{
    const char *form = file == NULL ? "?" : file->is_log ? "log" : "segment";
    uint64_t last = file == NULL ? 0 : file->last_lsn;
    const char *said = err != NULL                                       ? err->text
                       : file != NULL && *stream_file_tail(file) != '\0' ? stream_file_tail(file)
                                                                         : "ok";
    if (check->list != NULL) {
        json_array_append_new(
            check->list,
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:s, s:s}", "file", path, "form", form,
                      "first_lsn", (json_int_t)first, "last_lsn", (json_int_t)last, "records",
                      (json_int_t)(file == NULL ? 0 : file->records), "ok", err == NULL, "code",
                      err_name(err == NULL ? 0 : err->code), "text", said));
        return;
    }
    char cells[3][24];
    snprintf(cells[0], sizeof(cells[0]), "%" PRIu64, first);
    snprintf(cells[1], sizeof(cells[1]), "%" PRIu64, last);
    snprintf(cells[2], sizeof(cells[2]), "%" PRIu64, file == NULL ? 0 : file->records);
    cli_table_add(check->table,
                  (const char *const[]){path, form, cells[0], cells[1], cells[2], said});
}

static int check(int argc, char **argv)
{
    static const struct argp argp = {
        master_key,
        parse,
        "FILE...",
        "Checks segments and log files of streams and says the first thing that is wrong with each,"
        " and where. Segments of one stream that follow each other on the command line must follow "
        "each other in its chain. A log file may end in a torn record: that is said, and no error.",
        children,
        NULL,
        NULL};
    static const char *const titles[] = {"FILE", "FORM", ">FIRST", ">LAST", ">RECORDS", "RESULT"};
    struct options options = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    struct check out = {0};
    if (options.output == CLI_JSON)
        out.list = json_array();
    else
        out.table = cli_table_new(6, titles);
    struct segment_info before;
    bool has_before = false;
    struct err first_wrong = {0};
    for (int i = 0; i < options.count; i++) {
        struct stream_file file;
        struct err err = {0};
        const char *path = options.paths[i];
        bool good = stream_file_read(&file, path, &err) == 0;
        bool is_segment = good && !file.is_log;
        const struct segment_info *info = &file.segment.info;
        if (is_segment && has_before && id_equal(&before.header.stream, &info->header.stream) &&
            segment_follows(&before, info, &err) != 0) {
            err_wrap(&err, "'%s'", path);
            good = false;
        }
        uint64_t first = is_segment ? info->header.first_lsn : good ? file.log_header.first_lsn : 0;
        check_report(&out, path, good ? &file : NULL, first, good ? NULL : &err);
        if (!good && first_wrong.code == TIDE_ERR_OK)
            first_wrong = err;
        if (is_segment)
            before = *info;
        has_before = is_segment;
    }
    int status = out.list != NULL ? cli_json_print(out.list) : cli_table_print(out.table);
    return first_wrong.code != TIDE_ERR_OK ? fail(&first_wrong) : status;
}

/* ---- align ---- */

static int align(int argc, char **argv)
{
    static const struct argp argp = {
        master_key,
        parse,
        "FOLDER",
        "Applies the reader's rule to all segments (*.hrl) under a folder and says of each round "
        "whether it is a recovery point: yes, no (why, where) or unknown. Uses the definitions of "
        "a store's folder where they are there. Status 0 means that everything could be read, "
        "whatever the answers.",
        children,
        NULL,
        NULL};
    struct options options = {.wanted = 1};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return hrl_align(options.paths[0], options.output);
}

int cli_hrl(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"show", show, "print the records of segments and log files"},
        {"check", check, "check segments and log files, and the chain of segments"},
        {"align", align, "which rounds in a folder of segments are recovery points"},
        {NULL, NULL, NULL},
    };
    int status = cli_dispatch("hrl", verbs, argc, argv);
    stream_file_forget_keys();
    return status;
}
