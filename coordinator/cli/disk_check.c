/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/disk_check.h"

#include <inttypes.h>
#include <stdio.h>

#include "coordinator/cli/cli.h"
#include "coordinator/cli/image_note.h"
#include "coordinator/cli/log_tail.h"

struct check_options {
    enum cli_output output;
    const char *image;
};

static error_t check_option(int key, char *arg, struct argp_state *state)
{
    struct check_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case ARGP_KEY_ARG:
        if (o->image != NULL) {
            argp_error(state, "\"%s\": one IMAGE is all that is expected", arg);
        }
        o->image = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->image == NULL) {
            argp_error(state, "an IMAGE is expected");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void describe_log(const struct witness *note, char *to, size_t size)
{
    struct log_tail tail;
    struct err err = {0};
    char bytes[CLI_BYTES_TEXT];
    char hex[TIDE_ID_HEX];
    if (log_tail_read(note->log, &tail, &err) != 0) {
        snprintf(to, size, "its log cannot be read: %s", err.text);
    } else if (!id_equal(&tail.stream, &note->stream)) {
        snprintf(to, size, "log \"%s\" is now of another stream, %s", note->log,
                 id_hex(&tail.stream, hex));
    } else {
        snprintf(to, size,
                 "log \"%s\" has %" PRIu64 " changes, %s, up to lsn %" PRIu64
                 ", since its tap was started; how many of them the image lacks, replay finds out",
                 note->log, tail.changes, cli_bytes(tail.changed_bytes, bytes), tail.last_lsn);
    }
}

static int answer(const struct check_options *o, const struct witness *note, const char *text)
{
    bool alone = note == NULL || note->state == WITNESS_CLEAN;
    if (o->output == CLI_JSON) {
        char hex[TIDE_ID_HEX] = "";
        int printed = cli_json_print(
            json_pack("{s:s, s:b, s:s, s:s, s:s, s:s, s:s}", "image", o->image, "alone", alone,
                      "state", note == NULL ? "" : witness_state_name(note->state), "stream",
                      note == NULL ? "" : id_hex(&note->stream, hex), "log",
                      note == NULL ? "" : note->log, "flush",
                      note == NULL      ? ""
                      : note->flush_log ? "log"
                                        : "both",
                      "text", text));
        if (printed != 0) {
            return printed;
        }
    }
    if (alone) {
        if (o->output == CLI_TABLE) {
            printf("%s\n", text);
        }
        return 0;
    }
    struct err err;
    char next[TIDE_WITNESS_LOG_MAX + 600];
    err_set(&err, TIDE_ERR_CONFLICT, "%s", text);
    snprintf(next, sizeof next,
             "if a tap serves it, use its NBD socket, or end it (`tidemark disk detach`); else "
             "`tidemark disk replay '%s' '%s'`",
             note->log, o->image);
    return cli_fail(&err, next);
}

static int judge(const struct check_options *o, const struct witness *note)
{
    char text[TIDE_ERR_TEXT_MAX];
    char log[TIDE_ERR_TEXT_MAX];
    if (note == NULL) {
        snprintf(text, sizeof text, "\"%s\": no tap has noted a log beside it", o->image);
        return answer(o, note, text);
    }
    if (note->state == WITNESS_CLEAN) {
        snprintf(text, sizeof text, "\"%s\": its tap ended cleanly; it may be used alone",
                 o->image);
        return answer(o, note, text);
    }
    describe_log(note, log, sizeof log);
    snprintf(text, sizeof text,
             "\"%s\" must not be used alone: a tap serves it, or did not end cleanly (%s)%s; %s",
             o->image, witness_state_name(note->state),
             note->flush_log ? "; what was flushed may be in its log alone" : "", log);
    return answer(o, note, text);
}

int disk_check_run(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        NULL,
        check_option,
        "IMAGE",
        "Says whether an image may be used without its log: status 0 yes, 9 no, 14 that cannot be "
        "told (a device, or a file system without user attributes). Asks no daemon.",
        children,
        NULL,
        NULL};
    struct check_options o = {0};
    struct witness note;
    struct err err = {0};
    bool any = false;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (image_note_read(o.image, &any, &note, &err) != 0) {
        return cli_fail(&err, err.code == TIDE_ERR_UNKNOWN
                                  ? "look whether a tap is, or was, configured for it"
                                  : NULL);
    }
    return judge(&o, any ? &note : NULL);
}
