/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark store: what the replica store holds, and whether it still is what it was. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/local.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/store_find.h"
#include "coordinator/verify/survey.h"

#define RATE_MIN 4096U
#define RATE_MAX (1ULL << 40)

enum {
    KEY_STORE = 0x100,
    KEY_MASTER_KEY,
    KEY_LOCAL,
    KEY_RATE,
    KEY_NEW,
};

struct options {
    enum cli_output output;
    const char *store;
    const char *master_key;
    const char *local;
    const char *new_key;
    uint64_t rate;
    bool read;
    struct cli_progress progress;
    struct cli_table *table;
    json_t *streams;
};

static error_t option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        if (state->root_argp->children != NULL)
            state->child_inputs[0] = &o->output;
        return 0;
    case KEY_STORE:
        o->store = arg;
        return 0;
    case KEY_MASTER_KEY:
        o->master_key = arg;
        return 0;
    case KEY_NEW:
        o->new_key = arg;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case KEY_RATE:
        o->rate = cli_number(state, "--rate", arg, RATE_MIN, RATE_MAX);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\": no argument is expected", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

static void add_row(struct options *o, const char *disk, const struct survey_stream *s,
                    const char *result)
{
    char hex[TIDE_ID_HEX];
    char cells[2][24];
    char bytes[2][CLI_BYTES_TEXT];
    snprintf(cells[0], sizeof(cells[0]), "%" PRIu64, s->segments);
    snprintf(cells[1], sizeof(cells[1]), "%" PRIu64, s->last_lsn);
    cli_table_add(o->table, (const char *const[]){disk, id_hex(&s->about.stream, hex), cells[0],
                                                  cells[1], cli_bytes(s->bytes, bytes[0]),
                                                  cli_bytes(s->stored_bytes, bytes[1]), result});
}

static const char *result_of(const struct options *o, const struct survey_stream *s)
{
    if (s->bad > 0)
        return s->wrong.text;
    return s->forked ? "forked: it goes on as a new stream" : o->read ? "ok" : "";
}

/* A path in it need not be UTF-8. */
static json_t *text_json(const char *text)
{
    json_t *o = json_string(text);
    return o != NULL ? o : json_string("(a text that is not UTF-8; without -o json it is shown)");
}

static bool take_stream(void *context, const struct survey_stream *s)
{
    struct options *o = context;
    char disk[3 * sizeof(struct name)];
    char hex[TIDE_ID_HEX];
    snprintf(disk, sizeof(disk), "%s/%s/%s", s->about.group.s, s->about.member.s, s->about.disk.s);
    if (o->output == CLI_TABLE) {
        add_row(o, disk, s, result_of(o, s));
        return true;
    }
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "stream",
                  id_hex(&s->about.stream, hex), "group", s->about.group.s, "member",
                  s->about.member.s, "disk", s->about.disk.s, "segments", (json_int_t)s->segments,
                  "last_lsn", (json_int_t)s->last_lsn, "bytes", (json_int_t)s->bytes,
                  "stored_bytes", (json_int_t)s->stored_bytes, "bad", (json_int_t)s->bad, "forked",
                  s->forked, "wrong", text_json(s->wrong.text));
    TIDE_CHECK(json_array_append_new(o->streams, row) == 0); /* as a table without memory */
    return true;
}

static void show_progress(void *context, const struct manifest_stream *about, uint64_t done,
                          uint64_t total)
{
    struct options *o = context;
    cli_progress(&o->progress, "%s/%s: %" PRIu64 " of %" PRIu64 " MiB", about->member.s,
                 about->disk.s, done >> 20, total >> 20);
}

static int print_result(struct options *o, const struct survey_result *r)
{
    char bytes[2][CLI_BYTES_TEXT];
    if (o->output == CLI_JSON)
        return cli_json_print(json_pack(
            "{s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:o, s:o}", "streams_count",
            (json_int_t)r->streams, "segments", (json_int_t)r->segments, "bytes",
            (json_int_t)r->bytes, "stored_bytes", (json_int_t)r->stored_bytes, "read", o->read,
            "points", (json_int_t)r->points, "bad_points", (json_int_t)r->bad_points, "bad",
            (json_int_t)r->bad, "wrong", text_json(r->wrong.text), "streams", o->streams));
    int status = cli_table_print(o->table);
    printf("%" PRIu64 " streams, %" PRIu64 " segments of %s in %s\n", r->streams, r->segments,
           cli_bytes(r->bytes, bytes[0]), cli_bytes(r->stored_bytes, bytes[1]));
    if (o->read)
        printf("read back: %" PRIu64 " of them bad; %" PRIu64 " points, %" PRIu64 " of them bad\n",
               r->bad, r->points, r->bad_points);
    return status;
}

static int survey(struct options *o)
{
    static const char *const titles[] = {"GROUP/VM/DISK", "STREAM",  ">SEGMENTS", ">LAST LSN",
                                         ">BYTES",        ">STORED", "RESULT"};
    char store[PATH_MAX];
    struct keyring *keyring = NULL;
    struct survey_result result;
    struct err err = {0};
    if (store_find(o->store, o->master_key, o->local, store, &keyring, &err) < 0)
        return cli_fail(&err, err.code == TIDE_ERR_UNREACHABLE
                                  ? "start tidemark-coordinator, or give its folder with "
                                    "--store DIR"
                                  : NULL);
    o->table = o->output == CLI_TABLE ? cli_table_new(7, titles) : NULL;
    o->streams = o->output == CLI_JSON ? json_array() : NULL;
    struct survey_request request = {.store = store,
                                     .keyring = keyring,
                                     .read = o->read,
                                     .bytes_per_s = o->rate,
                                     .stream = take_stream,
                                     .progress = show_progress,
                                     .context = o};
    int rc = survey_run(&request, &result, &err);
    cli_progress_end(&o->progress);
    keyring_close(keyring);
    if (rc < 0)
        return cli_fail(&err, err.code == TIDE_ERR_DENIED ? "give --master-key FILE" : NULL);
    int status = print_result(o, &result);
    if (status == 0 && result.wrong.code != TIDE_ERR_OK)
        status =
            cli_fail(&result.wrong, "keep the store as it is; what other copies of it have can "
                                    "take the place of what is bad");
    return status;
}

static int usage_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"store", KEY_STORE, "DIR", 0, "the store's folder; else the coordinator is asked", 0},
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0},
        {0}};
    static const struct argp argp = {
        list,     option, NULL, "What the store holds, and how much room that takes.",
        children, NULL,   NULL};
    struct options o = {.local = LOCAL_COORDINATOR};
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    return survey(&o);
}

static int check_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"store", KEY_STORE, "DIR", 0, "the store's folder; else the coordinator is asked", 0},
        {"master-key", KEY_MASTER_KEY, "FILE", 0,
         "of the store, where it is encrypted; else the coordinator's", 0},
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0},
        {"rate", KEY_RATE, "BYTES", 0, "read at most so many bytes a second", 0},
        {0}};
    static const struct argp argp = {
        list,
        option,
        NULL,
        "Read everything back: each segment is decrypted, and must be what its hashes, its "
        "manifest "
        "and the segment before it say; each point's streams must reach it. Beside a running "
        "coordinator, too. Status 0: all of it is good.",
        children,
        NULL,
        NULL};
    struct options o = {.local = LOCAL_COORDINATOR, .read = true};
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    return survey(&o);
}

static int rewrap_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"store", KEY_STORE, "DIR", 0, "the store's folder", 0},
        {"master-key", KEY_MASTER_KEY, "FILE", 0, "the one that it has now", 0},
        {"new-master-key", KEY_NEW, "FILE", 0, "the one that it shall have", 0},
        {0}};
    static const struct argp argp = {
        list,
        option,
        NULL,
        "Give a store another master key: the keys of its groups are wrapped anew, nothing else is "
        "touched. The coordinator is stopped meanwhile, and gets the new file in its "
        "configuration. If "
        "this is cut short, do the same again.",
        NULL,
        NULL,
        NULL};
    struct options o = {0};
    struct err err = {0};
    unsigned count = 0;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.store == NULL || o.master_key == NULL || o.new_key == NULL) {
        err_set(&err, TIDE_ERR_USAGE,
                "--store DIR, --master-key FILE and --new-master-key FILE are "
                "needed");
        return cli_fail(&err, NULL);
    }
    if (keyring_rewrap(o.store, o.master_key, o.new_key, &count, &err) < 0)
        return cli_fail(&err, err.code == TIDE_ERR_CONFLICT ? "stop the coordinator" : NULL);
    printf("%u keys of groups are wrapped with '%s'; set master-key to it, and keep the old file "
           "as long "
           "as there are copies of the store from before\n",
           count, o.new_key);
    return 0;
}

int cli_store(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"usage", usage_run, "streams, segments, and the room they take"},
        {"check", check_run, "read everything back and check it"},
        {"rewrap", rewrap_run, "another master key"},
        {NULL, NULL, NULL},
    };
    return cli_dispatch("store", verbs, argc, argv);
}
