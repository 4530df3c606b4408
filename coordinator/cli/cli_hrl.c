/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark hrl: change streams as files (proto/hrl.md): show what is in them, check them, and apply
 * the reader's rule to a folder of segments. Everything read here may be hostile. */
#include "coordinator/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/hrl/log.h"
#include "common/hrl/segment.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/wire/intake.h"
#include "coordinator/core/align.h"

#define DETAIL_MAX 512
#define FILES_MAX  1000000U /* segments in one folder */
static uint8_t window[TIDE_SEGMENT_BUFFER];
static struct segment_reader segment;

static int fail(const struct err *err)
{
    return cli_fail(err, err->code == TIDE_ERR_CORRUPT ? "take this file from another copy; what "
                                                         "lies before the place named is good"
                                                       : NULL);
}

/* ---- a file as a source ---- */

struct input {
    const char *path;
    int fd;
    uint64_t size;
    uint64_t file; /* the only file number that it answers for; others are empty */
};

static int input_read(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                      size_t *ret_got, struct err *err)
{
    struct input *input = context;
    size_t got = 0;
    while (file == input->file && got < size) {
        ssize_t n = pread(input->fd, (uint8_t *)to + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_err(err, errno, "'%s': cannot read", input->path);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int input_size(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    (void)err;
    struct input *input = context;
    *ret_size = file == input->file ? input->size : 0;
    return 0;
}

static int input_open(struct input *input, const char *path, struct err *err)
{
    struct stat st;
    *input = (struct input){.path = path};
    input->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (input->fd < 0)
        return file_err(err, errno, "'%s': cannot open", path);
    if (fstat(input->fd, &st) != 0) {
        int error = errno;
        close(input->fd);
        return file_err(err, error, "'%s': cannot stat", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(input->fd);
        return err_set(err, TIDE_ERR_USAGE, "'%s': not a regular file", path);
    }
    input->size = (uint64_t)st.st_size;
    return 0;
}

static struct source input_source(struct input *input)
{
    return (struct source){.read = input_read, .size = input_size, .context = input};
}

/* ---- one file, whatever its form: record by record ---- */

struct stream_file {
    struct input input;
    bool is_log;
    bool unused; /* of a ring, preallocated: zeroes so far */
    struct log_header log_header;
    struct log_reader log;
    uint64_t records;
    uint64_t last_lsn;
};

static int open_log(struct stream_file *file, struct err *err)
{
    struct source source = input_source(&file->input);
    uint8_t head[TIDE_LOG_HEADER];
    size_t got;
    if (input_read(&file->input, 0, 0, head, sizeof(head), &got, err) != 0)
        return -1;
    if (got < sizeof(head))
        return err_set(err, TIDE_ERR_CORRUPT, "offset %zu: the file ends within its header", got);
    static const uint8_t zeroes[TIDE_LOG_HEADER];
    file->unused = memcmp(head, zeroes, sizeof(zeroes)) == 0;
    if (file->unused)
        return 0;
    if (log_header_decode(head, &file->log_header, err) != 0)
        return err_wrap(err, "offset 0");
    const struct log_header *h = &file->log_header;
    struct log_ring ring = {
        .stream = h->stream, .files = TIDE_LOG_FILES_MIN, .file_size = h->file_size};
    file->input.file = h->sequence % ring.files;
    log_reader_init(&file->log, &source, &ring, h->sequence * h->file_size, h->first_lsn,
                    h->incarnation, window, sizeof(window));
    return 0;
}

/* Opens a file and checks what comes before its first record. Close with close(file->input.fd)
 * where it returned 0. */
static int stream_open(struct stream_file *file, const char *path, struct err *err)
{
    uint8_t magic[8];
    size_t got = 0;
    struct err why = {0};
    memset(file, 0, sizeof(*file));
    if (input_open(&file->input, path, err) != 0)
        return -1;
    struct source source = input_source(&file->input);
    int failed = input_read(&file->input, 0, 0, magic, sizeof(magic), &got, &why);
    if (failed == 0 && got == sizeof(magic) &&
        (memcmp(magic, "TIDELOG", 7) == 0 || memcmp(magic, "\0\0\0\0\0\0\0\0", 8) == 0)) {
        file->is_log = true;
        failed = open_log(file, &why);
    } else if (failed == 0 && got == sizeof(magic) && memcmp(magic, "TIDESEG", 7) == 0) {
        failed = segment_reader_init(&segment, &source, 0, window, sizeof(window), &why);
        if (failed == 0)
            failed = segment_reader_verify(&segment, &why);
    } else if (failed == 0) {
        failed = err_set(&why, TIDE_ERR_CORRUPT,
                         "offset 0: neither a segment nor a log file of a stream");
    }
    if (failed != 0) {
        close(file->input.fd);
        return err_set(err, why.code, "'%s': %s", path, why.text);
    }
    return 0;
}

/* 1 a record, 0 the end, -1 an error. *ret_offset is the record's place in the file. */
static int stream_next(struct stream_file *file, struct record *ret, uint64_t *ret_offset,
                       size_t *ret_size, struct err *err)
{
    const uint8_t *bytes;
    int more;
    if (file->unused)
        return 0;
    if (file->is_log) {
        more = log_reader_next(&file->log, ret, &bytes, ret_size, err);
        if (more == 0 && file->log.end == LOG_END_NONE) {
            more = 1;
            *ret_offset = (file->log.position - *ret_size) % file->log.ring.file_size;
        }
    } else {
        more = segment_reader_next(&segment, ret, &bytes, ret_size, err);
        *ret_offset = segment.offset - (more > 0 ? *ret_size : 0);
    }
    if (more < 0)
        return err_wrap(err, "'%s'", file->input.path);
    if (more > 0) {
        file->records++;
        file->last_lsn = ret->lsn;
    }
    return more;
}

/* How the file ends, for people; empty: as it should. */
static const char *stream_tail(const struct stream_file *file)
{
    if (file->unused)
        return "a file of a log that has not been used yet";
    return file->is_log && file->log.end == LOG_END_TORN ? file->log.torn.text : "";
}

/* ---- texts ---- */

/* Bytes from a stream on a terminal, and as JSON: printable ASCII only. */
static void clean(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
    }
}

static void time_text(uint64_t wall_ns, char *ret, size_t size)
{
    char day[CLOCK_TEXT_MAX];
    snprintf(ret, size, "%s.%03uZ", clock_text((int64_t)(wall_ns / 1000000000U), day),
             (unsigned)(wall_ns / 1000000U % 1000U));
}

static void detail_attach(const struct record_attach *a, char *ret)
{
    char disk[TIDE_ID_HEX];
    char serial[sizeof(a->serial)];
    memcpy(serial, a->serial, sizeof(serial));
    clean(serial);
    snprintf(ret, DETAIL_MAX,
             "disk %s size %" PRIu64 " block %u%s%s%s replayed %" PRIu64 "..%" PRIu64
             " serial \"%s\"",
             id_hex(&a->disk, disk), a->size, a->block_size, a->first ? " first" : "",
             a->base_zero ? " base-zero" : "", a->clean ? " clean" : "", a->replayed_from,
             a->replayed_to, serial);
}

static void detail_bookmark(const struct record_bookmark *b, char *ret)
{
    char round[TIDE_ID_HEX];
    char when[64];
    time_text(b->wall_ns, when, sizeof(when));
    snprintf(ret, DETAIL_MAX, "round %s epoch %" PRIu64 " %s %s set %u/%u%s at %s budget %u us",
             id_hex(&b->order.round, round), b->order.epoch.number,
             round_scope_name(b->order.scope), round_kind_name(b->order.kind),
             set_size(&b->order.set), (unsigned)b->order.set.count, b->unheld ? " unheld" : "",
             when, b->budget_us);
}

static void detail_of(const struct record *r, char ret[DETAIL_MAX])
{
    char hex[TIDE_HASH_HEX];
    char cut[TIDE_HASH_HEX];
    char text[TIDE_RECORD_TEXT_MAX + 1];
    ret[0] = '\0';
    switch (r->type) {
    case RECORD_ATTACH:
        detail_attach(&r->attach, ret);
        break;
    case RECORD_WRITE:
    case RECORD_COPY_BLOCK:
        snprintf(ret, DETAIL_MAX, "offset %" PRIu64 " size %" PRIu64, r->write.offset,
                 r->write.size);
        break;
    case RECORD_ZERO:
        snprintf(ret, DETAIL_MAX, "offset %" PRIu64 " size %" PRIu64 "%s%s", r->write.offset,
                 r->write.size, r->write.discard ? " discard" : "", r->write.copy ? " copy" : "");
        break;
    case RECORD_COPY_BEGIN:
        snprintf(ret, DETAIL_MAX, "%s of %" PRIu64 " bytes", record_copy_name(r->copy_begin.kind),
                 r->copy_begin.size);
        break;
    case RECORD_COPY_END:
        snprintf(ret, DETAIL_MAX, "begin %" PRIu64 " copied %" PRIu64 " zeroes %" PRIu64,
                 r->copy_end.begin_lsn, r->copy_end.copied, r->copy_end.zeroes);
        break;
    case RECORD_BOOKMARK:
        detail_bookmark(&r->bookmark, ret);
        break;
    case RECORD_SEAL:
        snprintf(ret, DETAIL_MAX,
                 "%s bookmark %" PRIu64 " hold %" PRIu64 " us writes %" PRIu64 " bytes %" PRIu64
                 " round %s H %.16s",
                 round_outcome_name(r->seal.outcome), r->seal.bookmark_lsn, r->seal.hold_us,
                 r->seal.writes_held, r->seal.bytes_held, id_hex(&r->seal.round, hex),
                 hash_hex(&r->seal.cut, cut));
        break;
    case RECORD_ATTESTATION:
        snprintf(ret, DETAIL_MAX, "round %s %u bytes", id_hex(&r->attestation.round, hex),
                 r->attestation.size);
        break;
    case RECORD_GAP:
        memcpy(text, r->gap.text, sizeof(text));
        clean(text);
        snprintf(ret, DETAIL_MAX,
                 "%s from lsn %" PRIu64 " offset %" PRIu64 " size %" PRIu64 " \"%s\"",
                 record_gap_name(r->gap.reason), r->gap.from_lsn, r->gap.offset, r->gap.size, text);
        break;
    case RECORD_RESIZE:
        snprintf(ret, DETAIL_MAX, "size %" PRIu64 " before %" PRIu64, r->resize.size,
                 r->resize.before);
        break;
    case RECORD_DETACH:
    case RECORD_DEFINITION:
        break;
    }
}

/* ---- arguments ---- */

struct options {
    enum cli_output output;
    char **paths;
    int count;
    int wanted; /* exactly; 0: at least one */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;
    (void)arg;
    switch (key) {
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
    const struct segment_info *info = &segment.info;
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
               id_hex(&segment.info.header.stream, stream), segment.info.header.first_lsn,
               segment.info.last_lsn, hash_hex(&segment.info.hash, hash));
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
    char detail[DETAIL_MAX];
    if (stream_open(&file, path, &err) != 0)
        return cli_fail(&err, NULL);
    struct cli_table *table = output == CLI_TABLE ? cli_table_new(6, titles) : NULL;
    json_t *object = output == CLI_JSON ? file_json(&file) : NULL;
    json_t *records = output == CLI_JSON ? json_array() : NULL;
    int more;
    while ((more = stream_next(&file, &r, &offset, &size, &err)) > 0) {
        detail_of(&r, detail);
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
    close(file.input.fd);
    int status = 0;
    if (output == CLI_JSON) {
        json_object_set_new(object, "records", records);
        json_object_set_new(object, "tail", json_string(stream_tail(&file)));
        json_array_append_new(files, object);
    } else {
        print_head(&file);
        status = cli_table_print(table);
        if (stream_tail(&file)[0] != '\0')
            printf("%s\n", stream_tail(&file));
    }
    return more < 0 ? fail(&err) : status;
}

static int show(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,     parse, "FILE...", "Prints every record of segments and log files of a stream.",
        children, NULL,  NULL};
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

/* Reads all of a file; *ret_info is set for a segment. */
static int check_file(const char *path, struct stream_file *file, struct segment_info *ret_info,
                      struct err *err)
{
    struct record r;
    uint64_t offset;
    size_t size;
    if (stream_open(file, path, err) != 0)
        return -1;
    int more;
    do {
        more = stream_next(file, &r, &offset, &size, err);
    } while (more > 0);
    close(file->input.fd);
    if (more == 0 && !file->is_log)
        *ret_info = segment.info;
    return more;
}

struct check {
    struct cli_table *table;
    json_t *list;
};

static void check_report(const struct check *check, const char *path,
                         const struct stream_file *file, uint64_t first, const struct err *err)
{
    const char *form = file == NULL ? "?" : file->is_log ? "log" : "segment";
    uint64_t last = file == NULL ? 0 : file->last_lsn;
    const char *said = err != NULL                                  ? err->text
                       : file != NULL && *stream_tail(file) != '\0' ? stream_tail(file)
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
        NULL,
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
        struct segment_info info;
        struct err err = {0};
        const char *path = options.paths[i];
        bool good = check_file(path, &file, &info, &err) == 0;
        bool is_segment = good && !file.is_log;
        if (is_segment && has_before && id_equal(&before.header.stream, &info.header.stream) &&
            segment_follows(&before, &info, &err) != 0) {
            err_wrap(&err, "'%s'", path);
            good = false;
        }
        uint64_t first = is_segment ? info.header.first_lsn : good ? file.log_header.first_lsn : 0;
        check_report(&out, path, good ? &file : NULL, first, good ? NULL : &err);
        if (!good && first_wrong.code == TIDE_ERR_OK)
            first_wrong = err;
        if (is_segment)
            before = info;
        has_before = is_segment;
    }
    int status = out.list != NULL ? cli_json_print(out.list) : cli_table_print(out.table);
    return first_wrong.code != TIDE_ERR_OK ? fail(&first_wrong) : status;
}

/* ---- align ---- */

struct piece { /* one segment of the folder */
    char *path;
    struct segment_info info;
};

struct folder {
    struct piece *pieces;
    size_t count;
    size_t capacity;
    struct definition **definitions;
    size_t definition_count;
    json_t *problems; /* texts */
    struct err first; /* of them */
};

static void problem(struct folder *folder, const struct err *err)
{
    if (folder->first.code == TIDE_ERR_OK)
        folder->first = *err;
    json_array_append_new(folder->problems, json_string(err->text));
}

static void add_segment(struct folder *folder, const char *path)
{
    struct input input;
    struct err err = {0};
    if (folder->count >= FILES_MAX) {
        err_set(&err, TIDE_ERR_LIMIT, "'%s': more than %u segments", path, FILES_MAX);
        problem(folder, &err);
        return;
    }
    if (input_open(&input, path, &err) != 0) {
        problem(folder, &err);
        return;
    }
    struct source source = input_source(&input);
    int failed = segment_reader_init(&segment, &source, 0, window, sizeof(window), &err);
    close(input.fd);
    if (failed != 0) {
        err_wrap(&err, "'%s'", path);
        problem(folder, &err);
        return;
    }
    if (folder->count == folder->capacity) {
        folder->capacity = folder->capacity == 0 ? 64 : folder->capacity * 2;
        folder->pieces = realloc(folder->pieces, folder->capacity * sizeof(*folder->pieces));
        TIDE_CHECK(folder->pieces != NULL);
    }
    char *copy = strdup(path);
    TIDE_CHECK(copy != NULL);
    folder->pieces[folder->count++] = (struct piece){.path = copy, .info = segment.info};
}

static void add_definition(struct folder *folder, const char *path)
{
    struct err err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (file_read(path, TIDE_INTAKE_BODY_MAX, &bytes, &size, &err) != 0) {
        problem(folder, &err);
        return;
    }
    struct definition *definition = malloc(sizeof(*definition));
    TIDE_CHECK(definition != NULL);
    int failed = intake_definition_decode(bytes, size, definition, &err);
    free(bytes);
    if (failed != 0) {
        free(definition);
        err_wrap(&err, "'%s'", path);
        problem(folder, &err);
        return;
    }
    folder->definitions =
        realloc(folder->definitions, (folder->definition_count + 1) * sizeof(*folder->definitions));
    TIDE_CHECK(folder->definitions != NULL);
    folder->definitions[folder->definition_count++] = definition;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text);
    size_t b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Finds *.hrl, and definitions/GROUP/EPOCH.pb, anywhere under the folder. */
static int walk(struct folder *folder, char *path, struct err *err)
{
    char *roots[] = {path, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (fts == NULL)
        return file_err(err, errno, "'%s': cannot open", path);
    FTSENT *entry;
    while ((entry = fts_read(fts)) != NULL) {
        struct err why = {0};
        if (entry->fts_info == FTS_F && ends_with(entry->fts_name, ".hrl")) {
            add_segment(folder, entry->fts_path);
        } else if (entry->fts_info == FTS_F && ends_with(entry->fts_name, ".pb") &&
                   strstr(entry->fts_path, "definitions/") != NULL) {
            add_definition(folder, entry->fts_path);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
                   entry->fts_info == FTS_NS) {
            file_err(&why, entry->fts_errno, "'%s': cannot read", entry->fts_path);
            problem(folder, &why);
        }
    }
    fts_close(fts);
    return 0;
}

static int compare_pieces(const void *left, const void *right)
{
    const struct piece *a = left;
    const struct piece *b = right;
    int d = id_compare(&a->info.header.stream, &b->info.header.stream);
    if (d != 0)
        return d;
    return a->info.header.first_lsn < b->info.header.first_lsn   ? -1
           : a->info.header.first_lsn > b->info.header.first_lsn ? 1
                                                                 : strcmp(a->path, b->path);
}

/* Reads a segment whole, then feeds what matters of it. */
static int feed_piece(struct align *align, const struct piece *piece, struct err *err)
{
    struct stream_file file;
    struct segment_info info;
    struct input input;
    if (check_file(piece->path, &file, &info, err) != 0)
        return -1;
    if (file.is_log || !hash_equal(&info.hash, &piece->info.hash))
        return err_set(err, TIDE_ERR_CONFLICT, "'%s': changed while it was read", piece->path);
    if (input_open(&input, piece->path, err) != 0)
        return -1;
    struct source source = input_source(&input);
    int failed = segment_reader_init(&segment, &source, 0, window, sizeof(window), err);
    for (uint32_t i = 0; failed == 0 && i < segment.info.entry_count; i++) {
        struct record r;
        failed = segment_reader_entry(&segment, i, NULL, &r, err);
        if (failed == 0)
            failed = align_feed(align, &r, err);
    }
    close(input.fd);
    return failed == 0 ? 0 : err_wrap(err, "'%s'", piece->path);
}

/* Feeds the segments of one stream up to the first thing wrong. pieces[0..count). */
static void feed_stream(struct folder *folder, struct align *align, const struct piece *pieces,
                        size_t count, json_t *streams)
{
    const struct segment_info *before = NULL;
    struct err err = {0};
    uint64_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const struct segment_info *info = &pieces[i].info;
        if (before != NULL && info->header.first_lsn == before->header.first_lsn &&
            hash_equal(&info->hash, &before->hash))
            continue; /* a second copy of the same */
        if (before != NULL && segment_follows(before, info, &err) != 0) {
            err_wrap(&err, "'%s'", pieces[i].path);
            break;
        }
        if (feed_piece(align, &pieces[i], &err) != 0)
            break;
        before = info;
        used++;
    }
    if (err.code != TIDE_ERR_OK)
        problem(folder, &err);
    char hex[TIDE_ID_HEX];
    uint64_t lsn;
    uint64_t incarnation;
    const struct id *id = &pieces[0].info.header.stream;
    enum round_answer whole = align_stream(align, id, &lsn, &incarnation);
    json_array_append_new(streams,
                          json_pack("{s:s, s:I, s:I, s:I, s:s, s:s}", "stream", id_hex(id, hex),
                                    "segments", (json_int_t)used, "first_lsn",
                                    (json_int_t)pieces[0].info.header.first_lsn, "last_lsn",
                                    (json_int_t)(before == NULL ? 0 : before->last_lsn), "whole",
                                    round_answer_name(whole), "problem", err.text));
}

static const char *label_of(const struct folder *folder, const struct align_round *round)
{
    const struct definition *definition = NULL;
    for (size_t i = 0; i < folder->definition_count; i++) {
        if (epoch_equal(&folder->definitions[i]->epoch, &round->order.epoch))
            definition = folder->definitions[i];
    }
    return align_label_name(align_label(round, definition));
}

/* Member and disk of a stream where a definition of the round's epoch is here, else its id. */
static void stream_text(const struct folder *folder, const struct align_round *round,
                        const struct id *stream, char *ret, size_t size)
{
    char hex[TIDE_ID_HEX];
    snprintf(ret, size, "%s", id_is_zero(stream) ? "" : id_hex(stream, hex));
    for (size_t i = 0; i < folder->definition_count; i++) {
        const struct definition *d = folder->definitions[i];
        int disk =
            epoch_equal(&d->epoch, &round->order.epoch) ? definition_find_stream(d, stream) : -1;
        if (disk >= 0)
            snprintf(ret, size, "%s/%s", d->members[d->disks[disk].member].name.s,
                     d->disks[disk].name.s);
    }
}

static json_t *round_json(const struct folder *folder, const struct align_round *round)
{
    char hex[TIDE_HASH_HEX];
    char where[160];
    char when[64];
    json_t *entries = json_array();
    stream_text(folder, round, &round->where, where, sizeof(where));
    time_text(round->entry_count > 0 ? round->entries[0].wall_ns : 0, when, sizeof(when));
    for (size_t i = 0; i < round->entry_count; i++) {
        const struct align_entry *e = &round->entries[i];
        char name[160];
        stream_text(folder, round, &e->mark.stream, name, sizeof(name));
        json_array_append_new(entries,
                              json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "stream",
                                        id_hex(&e->mark.stream, hex), "disk", name, "answer",
                                        round_answer_name(e->answer), "why", align_why_text(e->why),
                                        "lsn", (json_int_t)e->mark.lsn, "seal_lsn",
                                        (json_int_t)e->seal_lsn, "hold_us", (json_int_t)e->hold_us,
                                        "writes_held", (json_int_t)e->writes_held, "bytes_held",
                                        (json_int_t)e->bytes_held));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:i, s:i, s:s, s:s, s:o}", "round",
                     id_hex(&round->order.round, hex), "answer", round_answer_name(round->answer),
                     "label", label_of(folder, round), "why", align_why_text(round->why), "where",
                     where, "epoch", (json_int_t)round->order.epoch.number, "scope",
                     round_scope_name(round->order.scope), "kind",
                     round_kind_name(round->order.kind), "set", (int)set_size(&round->order.set),
                     "disks", (int)round->order.set.count, "time", when, "judged_by",
                     round->defined ? "definition" : "set", "streams", entries);
}

static int print_rounds(const struct folder *folder, const struct align *align)
{
    static const char *const titles[] = {"ROUND",     "TIME",   "SCOPE", "KIND",  ">SET",
                                         "JUDGED BY", "ANSWER", "LABEL", "WHERE", "WHY"};
    struct cli_table *table = cli_table_new(10, titles);
    bool undefined = false;
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *r = align_at(align, i);
        char hex[TIDE_ID_HEX];
        char when[64];
        char set[24];
        char where[160];
        time_text(r->entry_count > 0 ? r->entries[0].wall_ns : 0, when, sizeof(when));
        snprintf(set, sizeof(set), "%u/%u", set_size(&r->order.set), (unsigned)r->order.set.count);
        stream_text(folder, r, &r->where, where, sizeof(where));
        cli_table_add(table,
                      (const char *const[]){
                          id_hex(&r->order.round, hex), when, round_scope_name(r->order.scope),
                          round_kind_name(r->order.kind), set, r->defined ? "definition" : "set",
                          round_answer_name(r->answer), label_of(folder, r), where,
                          r->answer == ROUND_ANSWER_YES ? "" : align_why_text(r->why)});
        undefined = undefined || !r->defined;
    }
    int status = cli_table_print(table);
    if (undefined)
        printf("judged by \"set\": the definition of that epoch is not in the folder; the streams "
               "that name the round were counted against its set\n");
    return status;
}

static int align_folder(struct folder *folder, struct align *align, enum cli_output output)
{
    struct err err = {0};
    json_t *streams = json_array();
    qsort(folder->pieces, folder->count, sizeof(*folder->pieces), compare_pieces);
    for (size_t i = 0; i < folder->definition_count; i++) {
        if (align_define(align, folder->definitions[i], &err) != 0)
            problem(folder, &err);
    }
    for (size_t i = 0; i < folder->count;) {
        size_t count = 1;
        while (i + count < folder->count && id_equal(&folder->pieces[i].info.header.stream,
                                                     &folder->pieces[i + count].info.header.stream))
            count++;
        feed_stream(folder, align, &folder->pieces[i], count, streams);
        i += count;
    }
    if (align_dropped(align) > 0) {
        err_set(&err, TIDE_ERR_LIMIT,
                "%" PRIu64 " rounds are not judged: a folder may have %u undecided at once",
                align_dropped(align), TIDE_ALIGN_ROUNDS_MAX);
        problem(folder, &err);
    }
    int status;
    if (output == CLI_JSON) {
        json_t *rounds = json_array();
        for (size_t i = 0; i < align_count(align); i++)
            json_array_append_new(rounds, round_json(folder, align_at(align, i)));
        status = cli_json_print(json_pack("{s:o, s:o, s:O}", "rounds", rounds, "streams", streams,
                                          "problems", folder->problems));
    } else {
        status = print_rounds(folder, align);
        json_decref(streams);
    }
    size_t index;
    json_t *text;
    json_array_foreach(folder->problems, index, text)
    {
        fprintf(stderr, "tidemark: %s\n", json_string_value(text));
    }
    return folder->first.code != TIDE_ERR_OK ? err_status(folder->first.code) : status;
}

static int align(int argc, char **argv)
{
    static const struct argp argp = {
        NULL,
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
    struct folder folder = {.problems = json_array()};
    struct err err = {0};
    struct stat st;
    if (stat(options.paths[0], &st) != 0) {
        file_err(&err, errno, "'%s': cannot open", options.paths[0]);
        json_decref(folder.problems);
        return cli_fail(&err, "name the folder of a replica store, or one with segments");
    }
    struct align *rule = align_new(NULL, false, TIDE_ALIGN_ROUNDS_MAX);
    TIDE_CHECK(rule != NULL);
    int status;
    if (walk(&folder, options.paths[0], &err) != 0) {
        status = cli_fail(&err, NULL);
    } else if (folder.count == 0 && folder.first.code == TIDE_ERR_OK) {
        err_set(&err, TIDE_ERR_NOT_FOUND, "'%s': no segment (*.hrl) in it", options.paths[0]);
        status = cli_fail(&err, "name the folder of a replica store, or one with segments");
    } else {
        status = align_folder(&folder, rule, options.output);
    }
    align_free(rule);
    for (size_t i = 0; i < folder.count; i++)
        free(folder.pieces[i].path);
    for (size_t i = 0; i < folder.definition_count; i++)
        free(folder.definitions[i]);
    free(folder.pieces);
    free(folder.definitions);
    json_decref(folder.problems);
    return status;
}

int cli_hrl(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"show", show, "print the records of segments and log files"},
        {"check", check, "check segments and log files, and the chain of segments"},
        {"align", align, "which rounds in a folder of segments are recovery points"},
        {NULL, NULL, NULL},
    };
    return cli_dispatch("hrl", verbs, argc, argv);
}
