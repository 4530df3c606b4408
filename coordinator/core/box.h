/* SPDX-License-Identifier: Apache-2.0 */
/* box: an object as it is stored (proto/box.md): compressed by zstd and encrypted by AES-256-GCM,
 * in blocks, so that any part can be read. Pure: bytes come from a source and go to a sink; salt
 * and key are the caller's. libcrypto and libzstd do the work.
 *
 * A lack of memory within libcrypto aborts, as in sha.h; any other is LIMIT.
 *
 * A writer or reader is used by one thread at a time. A writer has three blocks and zstd's context
 * (0.3 MiB at level 1, 1.8 MiB at level 19), a reader three blocks, 0.1 MiB, and 4 bytes for each
 * block of the box. */
#ifndef TIDE_COORDINATOR_CORE_BOX_H
#define TIDE_COORDINATOR_CORE_BOX_H

#include "common/core/id.h"
#include "common/hrl/source.h"

#define BOX_HEADER     96U
#define BOX_SALT       32U
#define BOX_KEY        32U
#define BOX_BLOCK      65536U /* what writers use */
#define BOX_BLOCK_MIN  4096U
#define BOX_BLOCK_MAX  1048576U
#define BOX_BLOCKS_MAX 1048576U /* of one box */
#define BOX_NAME_MAX   1024U    /* bytes */
#define BOX_LEVEL_MAX  19       /* zstd's; 0: not compressed */

struct box_head {
    uint32_t block_size;
    struct id key_id;
    uint32_t generation;
    uint8_t salt[BOX_SALT];
};

struct box_options {
    struct box_head
        head; /* block_size a power of two in range, generation not 0, salt drawn for this box */
    uint8_t key[BOX_KEY];
    const char *name; /* relative to the store's root; 1..BOX_NAME_MAX bytes; copied */
    int level;        /* 0..BOX_LEVEL_MAX */
};

struct box_info {
    uint64_t size;        /* of the content */
    uint64_t stored_size; /* of the box */
    struct hash inner;    /* of the content */
    struct hash outer;    /* of the box; a reader does not know it: zero */
};

/* The most that a box of that much content takes; block_size as in a header. */
size_t box_size_max(size_t size, uint32_t block_size);

struct box_writer;

/* Writes the header. The sink must outlive the writer. LIMIT: no memory; or the sink's. */
int box_writer_new(const struct box_options *options, const struct sink *sink,
                   struct box_writer **ret, struct err *err);
/* More of the content. LIMIT: more than BOX_BLOCKS_MAX blocks; or the sink's. After a failure the
 * writer can only be freed. */
int box_writer_add(struct box_writer *writer, const void *from, size_t size, struct err *err);
/* The rest, index and tail; nothing may be added after it. */
int box_writer_end(struct box_writer *writer, struct box_info *ret, struct err *err);
void box_writer_free(struct box_writer *writer); /* takes NULL; wipes the key */

/* Reads the header alone, to learn which key is needed. CORRUPT, VERSION; the source's. */
int box_head_read(const struct source *source, uint64_t file, struct box_head *ret,
                  struct err *err);

struct box_reader;

/* Reads header, tail and index of a file of the source; the source is copied, its context must
 * outlive the reader. The errors of proto/box.md; CORRUPT too where key or name are not those it
 * was written with; LIMIT also: no memory. */
int box_reader_open(const struct source *source, uint64_t file, const uint8_t key[BOX_KEY],
                    const char *name, struct box_reader **ret, struct err *err);
void box_reader_free(struct box_reader *reader); /* takes NULL; wipes what it holds */
struct box_info box_reader_info(const struct box_reader *reader);

/* Content from `offset` on; fewer bytes than `size` only where it ends. CORRUPT; the source's. */
int box_reader_read(struct box_reader *reader, uint64_t offset, void *to, size_t size,
                    size_t *ret_got, struct err *err);
/* The content as file 0 of a source. */
struct source box_reader_source(struct box_reader *reader);
/* Reads everything and compares it with the inner hash: CORRUPT where it differs. */
int box_reader_verify(struct box_reader *reader, struct err *err);

#endif
