/* SPDX-License-Identifier: Apache-2.0 */
/* source: where the readers of the stream take their bytes from, and a sink where they put them:
 * tables of functions, so that the same reader works over files, passed descriptors and memory.
 * Here: the tables, the memory source and sink, and the window that all readers look through. */
#ifndef TIDE_COMMON_HRL_SOURCE_H
#define TIDE_COMMON_HRL_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"

/* A source is one or several files, numbered from 0 (a ring: its files in ring order). */
struct source {
    /* Reads size bytes at offset of a file; fewer (down to 0) only where the file ends. 0 with
     * *ret_got set, or -1 with IO (the system refused) or NOT_FOUND (no such file). */
    int (*read)(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                size_t *ret_got, struct err *err);
    /* Size of a file in bytes; same errors. */
    int (*size)(void *context, uint64_t file, uint64_t *ret_size, struct err *err);
    void *context;
};

struct sink {
    /* Takes all bytes, or fails with IO, FULL or LIMIT. */
    int (*write)(void *context, const void *from, size_t size, struct err *err);
    void *context;
};

/* Memory source: `count` files. Not owned; must outlive the source. */
struct source_part {
    const void *base;
    size_t size;
};
struct source_memory {
    const struct source_part *parts;
    size_t count;
};
struct source source_memory(struct source_memory *memory);

/* Memory sink: fills the caller's base[0..size); LIMIT where it is full. */
struct sink_memory {
    uint8_t *base;
    size_t size;
    size_t used;
};
struct sink sink_memory(struct sink_memory *memory);

/* A part of one file in the caller's buffer. Reads ahead as far as the buffer goes. */
struct source_window {
    struct source source;
    uint8_t *buffer; /* not owned */
    size_t buffer_size;
    uint64_t file; /* of what the buffer holds */
    uint64_t offset;
    size_t used; /* bytes held; 0: nothing */
};
void source_window_init(struct source_window *window, const struct source *source, void *buffer,
                        size_t buffer_size);
/* Makes bytes [offset, offset + size) of the file contiguous in the buffer; size <= buffer_size.
 * *ret_got is less than size only where the file ends; *ret_at is good until the next call. Errors
 * are the source's. */
int source_window_get(struct source_window *window, uint64_t file, uint64_t offset, size_t size,
                      const uint8_t **ret_at, size_t *ret_got, struct err *err);
/* Forgets what the buffer holds: the file may have changed. */
void source_window_drop(struct source_window *window);

#endif
