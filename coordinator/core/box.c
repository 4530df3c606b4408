/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/box.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/hrl/crc.h"
#include "coordinator/core/box_cipher.h"

#define VERSION   1U
#define TAIL      8U
#define TAIL_MARK 0x584f4254U
#define INDEX_FIX 40U /* size and inner hash */
#define RAW       0x80000000U
#define NO_BLOCK  UINT64_MAX

static const uint8_t magic[8] = "TIDEBOX";

static int no_memory(struct err *err)
{
    return err_set(err, TIDE_ERR_LIMIT, "no memory for a box");
}

/* ---- header ---- */

static void head_encode(const struct box_head *head, uint8_t ret[BOX_HEADER])
{
    struct bytes_writer w = bytes_writer(ret, BOX_HEADER);
    bytes_put(&w, magic, sizeof(magic));
    bytes_put_u16(&w, VERSION);
    bytes_put_u16(&w, 0);
    bytes_put_u32(&w, head->block_size);
    bytes_put(&w, head->key_id.b, sizeof(head->key_id.b));
    bytes_put_u32(&w, head->generation);
    bytes_put(&w, head->salt, sizeof(head->salt));
    bytes_put_zero(&w, 24);
    bytes_put_u32(&w, crc32c(ret, w.used));
    TIDE_CHECK(!w.failed && w.used == BOX_HEADER);
}

static bool good_block_size(uint32_t size)
{
    return size >= BOX_BLOCK_MIN && size <= BOX_BLOCK_MAX && (size & (size - 1)) == 0;
}

static int head_decode(const uint8_t bytes[BOX_HEADER], struct box_head *ret, struct err *err)
{
    struct bytes_reader r = bytes_reader(bytes, BOX_HEADER);
    struct box_head head;
    if (memcmp(bytes_skip(&r, sizeof(magic)), magic, sizeof(magic)) != 0)
        return err_set(err, TIDE_ERR_CORRUPT, "not a box: it does not begin with TIDEBOX");
    uint16_t version = bytes_get_u16(&r);
    if (version != VERSION)
        return err_set(err, TIDE_ERR_VERSION, "a box of version %u, this build knows version %u",
                       version, VERSION);
    bool zero = bytes_get_zero(&r, 2);
    head.block_size = bytes_get_u32(&r);
    bytes_get(&r, head.key_id.b, sizeof(head.key_id.b));
    head.generation = bytes_get_u32(&r);
    bytes_get(&r, head.salt, sizeof(head.salt));
    zero = bytes_get_zero(&r, 24) && zero;
    if (bytes_get_u32(&r) != crc32c(bytes, BOX_HEADER - 4))
        return err_set(err, TIDE_ERR_CORRUPT, "the header of a box does not fit its checksum");
    if (!zero || !good_block_size(head.block_size))
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the header of a box has block size %u, or reserved bytes that are not 0",
                       head.block_size);
    *ret = head;
    return 0;
}

size_t box_size_max(size_t size, uint32_t block_size)
{
    size_t blocks = size / block_size + (size % block_size != 0);
    return BOX_HEADER + size + blocks * (BOX_TAG + 4) + INDEX_FIX + BOX_TAG + TAIL;
}

/* ---- writer ---- */

struct box_writer {
    struct box_cipher cipher;
    struct sink sink;
    struct sha inner;
    struct sha outer;
    ZSTD_CCtx *zstd;
    uint32_t block_size;
    uint64_t size;
    uint64_t stored;
    uint8_t *block; /* block_size: content that waits */
    size_t used;
    uint8_t *packed; /* block_size */
    uint8_t *out;    /* block_size + BOX_TAG */
    uint32_t *sizes; /* of the blocks written; with RAW */
    size_t count;
    size_t room;
};

static int put(struct box_writer *w, const void *from, size_t size, struct err *err)
{
    if (w->sink.write(w->sink.context, from, size, err) != 0)
        return -1;
    sha_update(&w->outer, from, size);
    w->stored += size;
    return 0;
}

int box_writer_new(const struct box_options *options, const struct sink *sink,
                   struct box_writer **ret, struct err *err)
{
    TIDE_CHECK(good_block_size(options->head.block_size) && options->head.generation != 0);
    TIDE_CHECK(options->level >= 0 && options->level <= BOX_LEVEL_MAX);
    struct box_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return no_memory(err);
    w->sink = *sink;
    w->block_size = options->head.block_size;
    sha_init(&w->inner);
    sha_init(&w->outer);
    w->block = malloc(w->block_size);
    w->packed = malloc(w->block_size);
    w->out = malloc(w->block_size + BOX_TAG);
    bool enough = w->block != NULL && w->packed != NULL && w->out != NULL;
    if (options->level > 0) {
        w->zstd = ZSTD_createCCtx();
        enough =
            enough && w->zstd != NULL &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, options->level));
    }
    uint8_t header[BOX_HEADER];
    head_encode(&options->head, header);
    box_cipher_init(&w->cipher, options->key, options->head.salt, header, options->name);
    int failed = enough ? 0 : no_memory(err);
    if (failed == 0)
        failed = put(w, header, BOX_HEADER, err);
    if (failed != 0) {
        box_writer_free(w);
        return -1;
    }
    *ret = w;
    return 0;
}

/* The block that waits goes out. */
static int flush(struct box_writer *w, struct err *err)
{
    if (w->count == BOX_BLOCKS_MAX)
        return err_set(err, TIDE_ERR_LIMIT,
                       "a box of more than %u blocks of %u bytes; divide its content",
                       BOX_BLOCKS_MAX, w->block_size);
    if (w->count == w->room) {
        size_t room = w->room == 0 ? 256 : w->room * 2;
        uint32_t *sizes = realloc(w->sizes, room * sizeof(*sizes));
        if (sizes == NULL)
            return no_memory(err);
        w->sizes = sizes;
        w->room = room;
    }
    sha_update(&w->inner, w->block, w->used);
    const uint8_t *from = w->block;
    size_t size = w->used;
    uint32_t raw = RAW;
    if (w->zstd != NULL) {
        size_t most = w->used - w->used / 32; /* it must be smaller by a 32nd to be worth it */
        size_t packed = ZSTD_compress2(w->zstd, w->packed, most, w->block, w->used);
        if (!ZSTD_isError(packed)) {
            from = w->packed;
            size = packed;
            raw = 0;
        } else if (ZSTD_getErrorCode(packed) == ZSTD_error_memory_allocation) {
            return no_memory(err);
        }
    }
    box_cipher_encrypt(&w->cipher, BOX_PART_BLOCK, w->count, from, size, w->out);
    w->sizes[w->count++] = (uint32_t)(size + BOX_TAG) | raw;
    w->size += w->used;
    w->used = 0;
    return put(w, w->out, size + BOX_TAG, err);
}

int box_writer_add(struct box_writer *writer, const void *from, size_t size, struct err *err)
{
    const uint8_t *at = from;
    while (size > 0) {
        size_t part = writer->block_size - writer->used;
        part = part < size ? part : size;
        memcpy(writer->block + writer->used, at, part);
        writer->used += part;
        at += part;
        size -= part;
        if (writer->used == writer->block_size && flush(writer, err) != 0)
            return -1;
    }
    return 0;
}

int box_writer_end(struct box_writer *writer, struct box_info *ret, struct err *err)
{
    if (writer->used > 0 && flush(writer, err) != 0)
        return -1;
    struct box_info info = {.size = writer->size, .inner = sha_final(&writer->inner)};
    size_t size = INDEX_FIX + 4 * writer->count;
    uint8_t *plain = malloc(size + size + BOX_TAG + TAIL);
    if (plain == NULL)
        return no_memory(err);
    struct bytes_writer w = bytes_writer(plain, size);
    bytes_put_u64(&w, info.size);
    bytes_put(&w, info.inner.b, sizeof(info.inner.b));
    for (size_t i = 0; i < writer->count; i++)
        bytes_put_u32(&w, writer->sizes[i]);
    TIDE_CHECK(!w.failed && w.used == size);
    uint8_t *stored = plain + size;
    box_cipher_encrypt(&writer->cipher, BOX_PART_INDEX, writer->count, plain, size, stored);
    struct bytes_writer tail = bytes_writer(stored + size + BOX_TAG, TAIL);
    bytes_put_u32(&tail, (uint32_t)(size + BOX_TAG));
    bytes_put_u32(&tail, TAIL_MARK);
    int failed = put(writer, stored, size + BOX_TAG + TAIL, err);
    free(plain);
    if (failed != 0)
        return -1;
    info.stored_size = writer->stored;
    info.outer = sha_final(&writer->outer);
    *ret = info;
    return 0;
}

/* What held content or key is wiped before it goes back. */
static void wipe(void *at, size_t size)
{
    if (at != NULL)
        OPENSSL_cleanse(at, size);
    free(at);
}

void box_writer_free(struct box_writer *writer)
{
    if (writer == NULL)
        return;
    sha_drop(&writer->inner);
    sha_drop(&writer->outer);
    ZSTD_freeCCtx(writer->zstd);
    wipe(writer->block, writer->block_size);
    wipe(writer->packed, writer->block_size);
    free(writer->out);
    free(writer->sizes);
    box_cipher_end(&writer->cipher);
    free(writer);
}

/* ---- reader ---- */

struct box_reader {
    struct box_cipher cipher;
    struct source source;
    uint64_t file;
    ZSTD_DCtx *zstd;
    uint32_t block_size;
    struct box_info info;
    uint32_t *sizes; /* stored, with RAW */
    size_t count;
    uint64_t *starts; /* of every 64th block */
    uint8_t *stored;  /* block_size + BOX_TAG */
    uint8_t *opened;  /* block_size: decrypted, maybe packed still */
    uint8_t *block;   /* block_size: content of `held` */
    uint64_t held;    /* NO_BLOCK: none */
};

#define STRIDE 64U /* blocks from one known start to the next */

/* Exactly that many bytes. */
static int fetch(const struct source *source, uint64_t file, uint64_t offset, void *to, size_t size,
                 struct err *err)
{
    size_t got = 0;
    if (source->read(source->context, file, offset, to, size, &got, err) != 0)
        return -1;
    if (got < size)
        return err_set(err, TIDE_ERR_CORRUPT, "offset %llu: the box ends within %zu bytes",
                       (unsigned long long)offset, size);
    return 0;
}

int box_head_read(const struct source *source, uint64_t file, struct box_head *ret, struct err *err)
{
    uint8_t header[BOX_HEADER];
    if (fetch(source, file, 0, header, sizeof(header), err) != 0)
        return -1;
    return head_decode(header, ret, err);
}

/* Where the index is, and how many blocks it has. */
static int read_tail(struct box_reader *r, uint64_t *ret_at, size_t *ret_size, struct err *err)
{
    uint8_t bytes[TAIL];
    uint64_t least = BOX_HEADER + INDEX_FIX + BOX_TAG + TAIL;
    if (r->info.stored_size < least)
        return err_set(err, TIDE_ERR_CORRUPT, "%llu bytes are too few for a box",
                       (unsigned long long)r->info.stored_size);
    if (fetch(&r->source, r->file, r->info.stored_size - TAIL, bytes, TAIL, err) != 0)
        return -1;
    struct bytes_reader b = bytes_reader(bytes, TAIL);
    uint64_t size = bytes_get_u32(&b);
    if (bytes_get_u32(&b) != TAIL_MARK)
        return err_set(err, TIDE_ERR_CORRUPT, "a box without its end: it was cut, or is no box");
    if (size < INDEX_FIX + BOX_TAG || (size - INDEX_FIX - BOX_TAG) % 4 != 0 ||
        size > r->info.stored_size - BOX_HEADER - TAIL)
        return err_set(err, TIDE_ERR_CORRUPT, "a box of %llu bytes with an index of %llu",
                       (unsigned long long)r->info.stored_size, (unsigned long long)size);
    r->count = (size_t)(size - INDEX_FIX - BOX_TAG) / 4;
    if (r->count > BOX_BLOCKS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "a box of %zu blocks; at most %u", r->count,
                       BOX_BLOCKS_MAX);
    *ret_at = r->info.stored_size - TAIL - size;
    *ret_size = (size_t)size - BOX_TAG;
    return 0;
}

static uint32_t stored_size(uint32_t entry)
{
    return entry & ~RAW;
}

/* How many bytes of content block n has. */
static size_t content_size(const struct box_reader *r, uint64_t n)
{
    uint64_t left = r->info.size - n * r->block_size;
    return left < r->block_size ? (size_t)left : r->block_size;
}

/* Takes the decrypted index; blocks end at `end`. */
static int take_index(struct box_reader *r, const uint8_t *plain, size_t size, uint64_t end,
                      struct err *err)
{
    struct bytes_reader b = bytes_reader(plain, size);
    r->info.size = bytes_get_u64(&b);
    bytes_get(&b, r->info.inner.b, sizeof(r->info.inner.b));
    uint64_t blocks = r->info.size / r->block_size + (r->info.size % r->block_size != 0);
    if (blocks != r->count)
        return err_set(err, TIDE_ERR_CORRUPT, "a box of %llu bytes in %zu blocks of %u",
                       (unsigned long long)r->info.size, r->count, r->block_size);
    uint64_t at = BOX_HEADER;
    for (size_t i = 0; i < r->count; i++) {
        r->sizes[i] = bytes_get_u32(&b);
        if (i % STRIDE == 0)
            r->starts[i / STRIDE] = at;
        uint32_t stored = stored_size(r->sizes[i]);
        size_t content = content_size(r, i);
        bool raw = (r->sizes[i] & RAW) != 0;
        if (stored <= BOX_TAG || (raw ? stored != content + BOX_TAG : stored > content + BOX_TAG))
            return err_set(err, TIDE_ERR_CORRUPT, "block %zu of a box: %zu bytes stored as %u", i,
                           content, stored);
        at += stored;
    }
    TIDE_CHECK(!b.failed);
    if (at != end)
        return err_set(err, TIDE_ERR_CORRUPT,
                       "the blocks of a box end at %llu, its index begins at %llu",
                       (unsigned long long)at, (unsigned long long)end);
    return 0;
}

static int read_index(struct box_reader *r, struct err *err)
{
    uint64_t at = 0;
    size_t size = 0;
    if (read_tail(r, &at, &size, err) != 0)
        return -1;
    uint8_t *bytes = malloc(size + BOX_TAG + size);
    r->sizes = malloc((r->count + 1) * sizeof(*r->sizes));
    r->starts = malloc((r->count / STRIDE + 1) * sizeof(*r->starts));
    int failed = bytes == NULL || r->sizes == NULL || r->starts == NULL ? no_memory(err) : 0;
    if (failed == 0)
        failed = fetch(&r->source, r->file, at, bytes, size + BOX_TAG, err);
    if (failed == 0 && !box_cipher_decrypt(&r->cipher, BOX_PART_INDEX, r->count, bytes, size,
                                           bytes + size + BOX_TAG))
        failed =
            err_set(err, TIDE_ERR_CORRUPT,
                    "the index of a box does not decrypt: it was changed, or has another name or "
                    "key than it was written with");
    if (failed == 0)
        failed = take_index(r, bytes + size + BOX_TAG, size, at, err);
    free(bytes);
    return failed;
}

int box_reader_open(const struct source *source, uint64_t file, const uint8_t key[BOX_KEY],
                    const char *name, struct box_reader **ret, struct err *err)
{
    struct box_head head;
    uint64_t stored;
    if (box_head_read(source, file, &head, err) != 0 ||
        source->size(source->context, file, &stored, err) != 0)
        return -1;
    struct box_reader *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return no_memory(err);
    r->source = *source;
    r->file = file;
    r->info.stored_size = stored;
    r->block_size = head.block_size;
    r->held = NO_BLOCK;
    r->stored = malloc(r->block_size + BOX_TAG);
    r->opened = malloc(r->block_size);
    r->block = malloc(r->block_size);
    r->zstd = ZSTD_createDCtx();
    uint8_t header[BOX_HEADER];
    head_encode(&head,
                header); /* the same bytes again: all that may differ was checked to be zero */
    box_cipher_init(&r->cipher, key, head.salt, header, name);
    int failed = 0;
    if (r->stored == NULL || r->opened == NULL || r->block == NULL || r->zstd == NULL)
        failed = no_memory(err);
    if (failed == 0)
        failed = read_index(r, err);
    if (failed != 0) {
        box_reader_free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

void box_reader_free(struct box_reader *reader)
{
    if (reader == NULL)
        return;
    ZSTD_freeDCtx(reader->zstd);
    free(reader->stored);
    wipe(reader->opened, reader->block_size);
    wipe(reader->block, reader->block_size);
    free(reader->sizes);
    free(reader->starts);
    box_cipher_end(&reader->cipher);
    free(reader);
}

struct box_info box_reader_info(const struct box_reader *reader)
{
    return reader->info;
}

static uint64_t start_of(const struct box_reader *r, uint64_t n)
{
    uint64_t at = r->starts[n / STRIDE];
    for (uint64_t i = n - n % STRIDE; i < n; i++)
        at += stored_size(r->sizes[i]);
    return at;
}

/* Exactly one frame of RFC 8878: libzstd would also take several, frames to skip, and those of its
 * early versions. */
static bool is_frame(const uint8_t *bytes, size_t size)
{
    struct bytes_reader b = bytes_reader(bytes, size);
    return bytes_get_u32(&b) == ZSTD_MAGICNUMBER &&
           ZSTD_findFrameCompressedSize(bytes, size) == size;
}

/* Block n is in r->block. */
static int hold(struct box_reader *r, uint64_t n, struct err *err)
{
    if (r->held == n)
        return 0;
    uint32_t stored = stored_size(r->sizes[n]);
    size_t due = content_size(r, n);
    bool raw = (r->sizes[n] & RAW) != 0;
    r->held = NO_BLOCK;
    if (fetch(&r->source, r->file, start_of(r, n), r->stored, stored, err) != 0)
        return -1;
    if (!box_cipher_decrypt(&r->cipher, BOX_PART_BLOCK, n, r->stored, stored - BOX_TAG,
                            raw ? r->block : r->opened))
        return err_set(err, TIDE_ERR_CORRUPT,
                       "block %llu of a box does not decrypt: it was changed",
                       (unsigned long long)n);
    if (!raw && !is_frame(r->opened, stored - BOX_TAG))
        return err_set(err, TIDE_ERR_CORRUPT, "block %llu of a box is not one frame of zstd",
                       (unsigned long long)n);
    if (!raw) {
        size_t got = ZSTD_decompressDCtx(r->zstd, r->block, due, r->opened, stored - BOX_TAG);
        if (ZSTD_isError(got) && ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
            return no_memory(err);
        if (got != due)
            return err_set(err, TIDE_ERR_CORRUPT,
                           "block %llu of a box does not decompress to %zu bytes: %s",
                           (unsigned long long)n, due,
                           ZSTD_isError(got) ? ZSTD_getErrorName(got) : "it gives fewer");
    }
    r->held = n;
    return 0;
}

int box_reader_read(struct box_reader *reader, uint64_t offset, void *to, size_t size,
                    size_t *ret_got, struct err *err)
{
    size_t got = 0;
    while (got < size && offset < reader->info.size) {
        uint64_t n = offset / reader->block_size;
        if (hold(reader, n, err) != 0)
            return -1;
        size_t skip = (size_t)(offset % reader->block_size);
        size_t part = content_size(reader, n) - skip;
        part = part < size - got ? part : size - got;
        memcpy((uint8_t *)to + got, reader->block + skip, part);
        got += part;
        offset += part;
    }
    *ret_got = got;
    return 0;
}

static int source_read(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                       size_t *ret_got, struct err *err)
{
    if (file != 0)
        return err_set(err, TIDE_ERR_NOT_FOUND, "a box has one content");
    return box_reader_read(context, offset, to, size, ret_got, err);
}

static int source_size(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    const struct box_reader *reader = context;
    if (file != 0)
        return err_set(err, TIDE_ERR_NOT_FOUND, "a box has one content");
    *ret_size = reader->info.size;
    return 0;
}

struct source box_reader_source(struct box_reader *reader)
{
    return (struct source){.read = source_read, .size = source_size, .context = reader};
}

int box_reader_verify(struct box_reader *reader, struct err *err)
{
    struct sha sha;
    sha_init(&sha);
    for (uint64_t n = 0; n < reader->count; n++) {
        if (hold(reader, n, err) != 0) {
            sha_drop(&sha);
            return -1;
        }
        sha_update(&sha, reader->block, content_size(reader, n));
    }
    struct hash hash = sha_final(&sha);
    if (!hash_equal(&hash, &reader->info.inner))
        return err_set(err, TIDE_ERR_CORRUPT, "the content of a box does not give its inner hash");
    return 0;
}
