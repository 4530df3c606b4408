/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hrl/source.h"

#include <string.h>

#include "common/core/check.h"

static const struct source_part *part_of(const struct source_memory *memory, uint64_t file,
                                         struct err *err)
{
    if (file >= memory->count) {
        err_set(err, TIDE_ERR_NOT_FOUND, "file %llu: memory source has %zu",
                (unsigned long long)file, memory->count);
        return NULL;
    }
    return &memory->parts[file];
}

static int memory_read(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                       size_t *ret_got, struct err *err)
{
    const struct source_part *part = part_of(context, file, err);
    if (part == NULL) {
        return -1;
    }
    size_t left = offset < part->size ? part->size - (size_t)offset : 0;
    size_t got = size < left ? size : left;
    if (got > 0) {
        memcpy(to, (const uint8_t *)part->base + offset, got);
    }
    *ret_got = got;
    return 0;
}

static int memory_size(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    const struct source_part *part = part_of(context, file, err);
    if (part == NULL) {
        return -1;
    }
    *ret_size = part->size;
    return 0;
}

struct source source_memory(struct source_memory *memory)
{
    return (struct source){.read = memory_read, .size = memory_size, .context = memory};
}

static int memory_write(void *context, const void *from, size_t size, struct err *err)
{
    struct sink_memory *memory = context;
    if (size > memory->size - memory->used) {
        return err_set(err, TIDE_ERR_LIMIT, "memory sink of %zu bytes is full", memory->size);
    }
    if (size > 0) {
        memcpy(memory->base + memory->used, from, size);
    }
    memory->used += size;
    return 0;
}

struct sink sink_memory(struct sink_memory *memory)
{
    return (struct sink){.write = memory_write, .context = memory};
}

void source_window_init(struct source_window *window, const struct source *source, void *buffer,
                        size_t buffer_size)
{
    *window =
        (struct source_window){.source = *source, .buffer = buffer, .buffer_size = buffer_size};
}

void source_window_drop(struct source_window *window)
{
    window->used = 0;
}

int source_window_get(struct source_window *window, uint64_t file, uint64_t offset, size_t size,
                      const uint8_t **ret_at, size_t *ret_got, struct err *err)
{
    TIDE_CHECK(size <= window->buffer_size);
    bool here = window->used > 0 && window->file == file && offset >= window->offset &&
                offset - window->offset <= window->used &&
                size <= window->used - (size_t)(offset - window->offset);
    if (!here) {
        size_t got = 0;
        window->used = 0;
        if (window->source.read(window->source.context, file, offset, window->buffer,
                                window->buffer_size, &got, err) != 0) {
            return -1;
        }
        TIDE_CHECK(got <= window->buffer_size);
        window->file = file;
        window->offset = offset;
        window->used = got;
    }
    size_t from = (size_t)(offset - window->offset);
    size_t left = window->used - from;
    *ret_at = window->buffer + from;
    *ret_got = size < left ? size : left;
    return 0;
}
