/* SPDX-License-Identifier: Apache-2.0 */
/* common/io/sp. Input: largest message - 1 u8, seed of the cuts u8, then a stream. It is taken
 * apart whole, in pieces, and by a plain loop: all three give the same messages and the same end.
 */
#include "common/io/sp.h"

#include "common/core/prng.h"
#include "tests/fuzz/fuzz.h"

struct heard {
    uint8_t *bytes; /* of all messages, each with its header before it */
    size_t used;
    size_t room;
};

static bool hear(void *arg, const uint8_t *bytes, size_t size)
{
    struct heard *h = arg;
    TIDE_CHECK(size > 0 && h->room - h->used >= size + SP_HEADER_SIZE);
    sp_header(size, h->bytes + h->used);
    memcpy(h->bytes + h->used + SP_HEADER_SIZE, bytes, size);
    h->used += SP_HEADER_SIZE + size;
    return true;
}

/* What the stream should give: the bytes of its whole messages follow the hello. */
static enum err_code plain(const uint8_t *at, size_t size, size_t max, size_t *ret_used)
{
    size_t used = SP_HELLO_SIZE;
    *ret_used = 0;
    if (size < SP_HELLO_SIZE) {
        return TIDE_ERR_OK;
    }
    if (memcmp(at, "\0SP\0\0p\0\0", SP_HELLO_SIZE) != 0) {
        return TIDE_ERR_CORRUPT;
    }
    while (size - used >= SP_HEADER_SIZE) {
        uint64_t length = 0;
        for (size_t i = 0; i < SP_HEADER_SIZE; i++) {
            length = length * 256 + at[used + i];
        }
        if (length == 0 || length > max) {
            return TIDE_ERR_LIMIT;
        }
        if (size - used - SP_HEADER_SIZE < length) {
            break;
        }
        used += SP_HEADER_SIZE + (size_t)length;
        *ret_used = used - SP_HELLO_SIZE;
    }
    return TIDE_ERR_OK;
}

static enum err_code take(const uint8_t *at, size_t size, size_t max, unsigned seed,
                          struct heard *heard)
{
    struct sp_decoder decoder;
    struct prng prng;
    struct err err = {0};
    enum err_code code = TIDE_ERR_OK;
    prng_init(&prng, seed);
    sp_decoder_init(&decoder, max);
    heard->used = 0;
    while (size > 0 && code == TIDE_ERR_OK) {
        size_t part = seed == 0 ? size : 1 + (size_t)prng_below(&prng, size < 20 ? size : 20);
        uint8_t *piece = fuzz_copy(at, part);
        if (sp_decode(&decoder, piece, part, hear, heard, &err) != 0) {
            fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(LIMIT));
            code = err.code;
        }
        free(piece);
        at += part;
        size -= part;
    }
    if (code != TIDE_ERR_OK) {
        size_t before = heard->used;
        TIDE_CHECK(sp_decode(&decoder, sp_hello, SP_HELLO_SIZE, hear, heard, &err) != 0);
        TIDE_CHECK(heard->used == before);
    }
    sp_decoder_close(&decoder);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t max = 1U + data[0];
    unsigned seed = 1U + data[1];
    size_t due = 0;
    data += 2;
    size -= 2;
    enum err_code code = plain(data, size, max, &due);
    struct heard heard = {.bytes = malloc(size + 1), .room = size};
    TIDE_CHECK(heard.bytes != NULL);
    for (unsigned cuts = 0; cuts < 2; cuts++) {
        TIDE_CHECK(take(data, size, max, cuts * seed, &heard) == code);
        TIDE_CHECK(heard.used == due);
        TIDE_CHECK(due == 0 || memcmp(heard.bytes, data + SP_HELLO_SIZE, due) == 0);
    }
    free(heard.bytes);
    return 0;
}
