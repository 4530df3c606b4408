/* SPDX-License-Identifier: Apache-2.0 */
/* box_tool: our writer and reader of boxes as a program, for the second one (box.py) to be compared
 * with. box_tool write FILE NAME KEYID KEY GENERATION SALT LEVEL BLOCK < content box_tool read FILE
 * NAME KEYID KEY GENERATION > content Ids, keys and salt in hex. Exit status 1: the error's code is
 * the first word on standard error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/file.h"
#include "coordinator/core/box.h"

#define MOST (64U << 20)

static int fail(const struct err *err)
{
    fprintf(stderr, "%s: %s\n", err_name(err->code), err->text);
    return 1;
}

static int usage(void)
{
    fprintf(stderr, "USAGE: see box_tool.c\n");
    return 2;
}

static size_t read_input(uint8_t *to)
{
    size_t size = fread(to, 1, MOST, stdin);
    return size;
}

static int write_box(char **argv, const struct box_options *options)
{
    uint8_t *content = malloc(MOST);
    uint8_t *stored = malloc(2 * MOST);
    struct sink_memory memory = {.base = stored, .size = 2 * MOST};
    struct sink sink = sink_memory(&memory);
    struct box_writer *writer = NULL;
    struct box_info info;
    struct err err = {0};
    if (content == NULL || stored == NULL)
        return 1;
    size_t size = read_input(content);
    int rc = box_writer_new(options, &sink, &writer, &err);
    if (rc == 0)
        rc = box_writer_add(writer, content, size, &err);
    if (rc == 0)
        rc = box_writer_end(writer, &info, &err);
    box_writer_free(writer);
    if (rc == 0)
        rc = file_replace(argv[2], stored, memory.used, 0600, &err);
    free(content);
    free(stored);
    return rc == 0 ? 0 : fail(&err);
}

static int read_box(char **argv, const struct box_options *options)
{
    uint8_t *stored = NULL;
    size_t size = 0;
    struct err err = {0};
    if (file_read(argv[2], 2 * MOST, &stored, &size, &err) != 0)
        return fail(&err);
    struct source_part part = {stored, size};
    struct source_memory memory = {&part, 1};
    struct source source = source_memory(&memory);
    struct box_head head;
    struct box_reader *reader = NULL;
    int rc = box_head_read(&source, 0, &head, &err);
    if (rc == 0 && (!id_equal(&head.key_id, &options->head.key_id) ||
                    head.generation != options->head.generation))
        rc = err_set(&err, TIDE_ERR_DENIED, "another key");
    if (rc == 0)
        rc = box_reader_open(&source, 0, options->key, options->name, &reader, &err);
    if (rc == 0)
        rc = box_reader_verify(reader, &err);
    uint64_t at = 0;
    size_t got = 1;
    static uint8_t part_of[100000];
    while (rc == 0 && got > 0) {
        rc = box_reader_read(reader, at, part_of, sizeof(part_of), &got, &err);
        if (rc == 0 && fwrite(part_of, 1, got, stdout) != got)
            rc = err_set(&err, TIDE_ERR_IO, "standard output");
        at += got;
    }
    box_reader_free(reader);
    free(stored);
    return rc == 0 ? 0 : fail(&err);
}

int main(int argc, char **argv)
{
    struct box_options options = {0};
    struct hash key;
    struct hash salt = {{0}};
    bool writes = argc == 10 && strcmp(argv[1], "write") == 0;
    if (!writes && (argc != 7 || strcmp(argv[1], "read") != 0))
        return usage();
    if (!id_parse(argv[4], &options.head.key_id) || !hash_parse(argv[5], &key) ||
        (writes && !hash_parse(argv[7], &salt)))
        return usage();
    options.name = argv[3];
    options.head.generation = (uint32_t)strtoul(argv[6], NULL, 10);
    memcpy(options.key, key.b, BOX_KEY);
    memcpy(options.head.salt, salt.b, BOX_SALT);
    if (!writes)
        return read_box(argv, &options);
    options.level = (int)strtol(argv[8], NULL, 10);
    options.head.block_size = (uint32_t)strtoul(argv[9], NULL, 10);
    return write_box(argv, &options);
}
