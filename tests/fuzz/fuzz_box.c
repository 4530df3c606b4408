/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/core/box. Input: a byte how, then
 *   even   a box: any bytes
 *   odd    what a box decrypts to, put into one under a known key, as who has the key could: u8
 * number of blocks (below 8), for each u16 size and that many bytes; the rest is the index
 *
 * A box that opens gives what its index says, the same in parts and whole, or an error; one that
 * verifies and is changed in a bit does not verify. */
#include "common/core/bytes.h"
#include "common/hrl/crc.h"
#include "coordinator/core/box_cipher.h"
#include "tests/fuzz/fuzz.h"

#define NAME          "streams/a/1-2"
#define SIZE_MAX_HERE 65536U
#define BLOCK         4096U
#define BAD           (FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT))

static const uint8_t key[BOX_KEY] = "the key of all fuzzed boxes....";
static uint8_t content[SIZE_MAX_HERE * 20];
static uint8_t part[100];

static int open_box(const uint8_t *bytes, size_t size, struct box_reader **ret, struct err *err)
{
    static struct source_part from;
    static struct source_memory memory;
    from = (struct source_part){bytes, size};
    memory = (struct source_memory){&from, 1};
    struct source source = source_memory(&memory);
    return box_reader_open(&source, 0, key, NAME, ret, err);
}

static bool verifies(const uint8_t *bytes, size_t size)
{
    struct box_reader *reader = NULL;
    struct err err = {0};
    if (open_box(bytes, size, &reader, &err) != 0) {
        fuzz_error(&err, BAD);
        return false;
    }
    bool good = box_reader_verify(reader, &err) == 0;
    if (!good) {
        fuzz_error(&err, BAD);
    }
    box_reader_free(reader);
    return good;
}

static void judge(uint8_t *bytes, size_t size)
{
    struct box_reader *reader = NULL;
    struct err err = {0};
    if (open_box(bytes, size, &reader, &err) != 0) {
        fuzz_error(&err, BAD);
        return;
    }
    struct box_info info = box_reader_info(reader);
    TIDE_CHECK(info.stored_size == size);
    size_t got = 0;
    size_t most = info.size < sizeof content ? (size_t)info.size : sizeof content;
    if (box_reader_read(reader, 0, content, sizeof content, &got, &err) == 0) {
        TIDE_CHECK(got == most);
        for (uint64_t at = 0; at < got; at += 1 + got / 7) {
            size_t have = 0;
            size_t due = got - at < sizeof part ? (size_t)(got - at) : sizeof part;
            TIDE_CHECK(box_reader_read(reader, at, part, due, &have, &err) == 0 && have == due);
            TIDE_CHECK(memcmp(part, content + at, due) == 0);
        }
    } else {
        fuzz_error(&err, BAD);
    }
    box_reader_free(reader);
    if (verifies(bytes, size)) {
        bytes[size / 2] ^= 4;
        TIDE_CHECK(!verifies(bytes, size));
    }
}

static void make(const uint8_t *data, size_t size)
{
    static uint8_t box[2 * SIZE_MAX_HERE];
    static struct box_cipher cipher;
    static const uint8_t salt[BOX_SALT];
    struct bytes_reader r = bytes_reader(data, size);
    struct bytes_writer w = bytes_writer(box, sizeof box);
    uint8_t blocks = bytes_get_u8(&r) % 8;
    bytes_put(&w, "TIDEBOX", 8);
    bytes_put_u32(&w, 1); /* version, 0 */
    bytes_put_u32(&w, BLOCK);
    bytes_put_zero(&w, 16);
    bytes_put_u32(&w, 1);
    bytes_put_zero(&w, BOX_SALT + 24);
    bytes_put_u32(&w, crc32c(box, w.used));
    box_cipher_init(&cipher, key, salt, box, NAME);
    for (uint8_t i = 0; i < blocks; i++) {
        uint16_t part_size = bytes_get_u16(&r);
        const uint8_t *at = bytes_skip(&r, part_size);
        if (at == NULL) {
            break;
        }
        box_cipher_encrypt(&cipher, BOX_PART_BLOCK, i, at, part_size, box + w.used);
        w.used += part_size + BOX_TAG;
    }
    size_t index = r.left;
    const uint8_t *at = bytes_skip(&r, index);
    if (at != NULL && !r.failed) {
        uint64_t count = index >= 40 ? (index - 40) / 4 : 0; /* as the nonce has it */
        box_cipher_encrypt(&cipher, BOX_PART_INDEX, count, at, index, box + w.used);
        w.used += index + BOX_TAG;
        bytes_put_u32(&w, (uint32_t)(index + BOX_TAG));
        bytes_put_u32(&w, 0x584f4254U);
        uint8_t *made = fuzz_copy(box, w.used);
        judge(made, w.used);
        free(made);
    }
    box_cipher_end(&cipher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SIZE_MAX_HERE) {
        return 0;
    }
    uint8_t *bytes = fuzz_copy(data + 1, size - 1);
    if ((data[0] & 1) != 0) {
        make(bytes, size - 1);
    } else {
        judge(bytes, size - 1);
    }
    free(bytes);
    return 0;
}
