/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/hrl_align.h"

#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/core/check.h"
#include "common/io/file.h"
#include "common/wire/intake.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/record_text.h"
#include "coordinator/cli/stream_file.h"
#include "coordinator/core/align.h"

#define FILES_MAX 1000000U /* segments in one folder */

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
    struct stream_file file;
    struct err err = {0};
    if (folder->count >= FILES_MAX) {
        err_set(&err, TIDE_ERR_LIMIT, "'%s': more than %u segments", path, FILES_MAX);
        problem(folder, &err);
        return;
    }
    if (stream_file_index(&file, path, &err) != 0) {
        problem(folder, &err);
        return;
    }
    stream_file_close(&file);
    if (folder->count == folder->capacity) {
        folder->capacity = folder->capacity == 0 ? 64 : folder->capacity * 2;
        folder->pieces = realloc(folder->pieces, folder->capacity * sizeof(*folder->pieces));
        TIDE_CHECK(folder->pieces != NULL);
    }
    char *copy = strdup(path);
    TIDE_CHECK(copy != NULL);
    folder->pieces[folder->count++] = (struct piece){.path = copy, .info = file.segment.info};
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
    if (stream_file_read(&file, piece->path, err) != 0)
        return -1;
    if (file.is_log || !hash_equal(&file.segment.info.hash, &piece->info.hash))
        return err_set(err, TIDE_ERR_CONFLICT, "'%s': changed while it was read", piece->path);
    if (stream_file_index(&file, piece->path, err) != 0)
        return -1;
    int failed = 0;
    for (uint32_t i = 0; failed == 0 && i < file.segment.info.entry_count; i++) {
        struct record r;
        failed = segment_reader_entry(&file.segment, i, NULL, &r, err);
        if (failed == 0)
            failed = align_feed(align, &r, err);
    }
    stream_file_close(&file);
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
    record_text_time(round->entry_count > 0 ? round->entries[0].wall_ns : 0, when, sizeof(when));
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
        record_text_time(r->entry_count > 0 ? r->entries[0].wall_ns : 0, when, sizeof(when));
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

int hrl_align(char *path, enum cli_output output)
{
    struct folder folder = {.problems = json_array()};
    struct err err = {0};
    struct stat st;
    if (stat(path, &st) != 0) {
        file_err(&err, errno, "'%s': cannot open", path);
        json_decref(folder.problems);
        return cli_fail(&err, "name the folder of a replica store, or one with segments");
    }
    struct align *rule = align_new(NULL, false, TIDE_ALIGN_ROUNDS_MAX);
    TIDE_CHECK(rule != NULL);
    int status;
    if (walk(&folder, path, &err) != 0) {
        status = cli_fail(&err, NULL);
    } else if (folder.count == 0 && folder.first.code == TIDE_ERR_OK) {
        err_set(&err, TIDE_ERR_NOT_FOUND, "'%s': no segment (*.hrl) in it", path);
        status = cli_fail(&err, "name the folder of a replica store, or one with segments");
    } else {
        status = align_folder(&folder, rule, output);
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
