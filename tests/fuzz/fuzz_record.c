/* SPDX-License-Identifier: Apache-2.0 */
/* common/hrl/record. Input: a byte (bit 0: set the checksum right first), then one record. What is
 * decoded encodes to the same bytes; each prefix is a torn tail or no record, never a record. */
#include "tests/fuzz/stream.h"

static void same_again(const struct record *r, const uint8_t *bytes, size_t whole)
{
    TIDE_CHECK(record_size(r) == whole);
    TIDE_CHECK(record_padding(r) < 8);
    uint8_t *again = malloc(whole);
    TIDE_CHECK(again != NULL);
    TIDE_CHECK(record_encode(r, again, whole) == whole);
    TIDE_CHECK(memcmp(again, bytes, whole) == 0);
    if (r->type == RECORD_WRITE || r->type == RECORD_COPY_BLOCK) {
        uint8_t head[TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX];
        record_encode_write_head(r, head);
        TIDE_CHECK(memcmp(head, bytes, sizeof head) == 0);
        TIDE_CHECK(r->write.data == bytes + sizeof head && r->write.size >= 1 &&
                   r->write.size <= TIDE_RECORD_DATA_MAX);
    } else if (r->type != RECORD_ATTESTATION) {
        TIDE_CHECK(whole <= TIDE_RECORD_SMALL_MAX);
    }
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct record record;
    struct err err = {0};
    size_t whole = 77;
    uint8_t *bytes = fuzz_copy(data + 1, --size);
    if ((data[0] & 1) != 0 && stream_record_at(bytes, size) > 0) {
        stream_stamp(bytes);
    }
    memset(&record, FUZZ_FILL, sizeof record);
    if (record_decode(bytes, size, &record, &whole, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(LIMIT) | FUZZ_CODE(VERSION));
        fuzz_untouched(&record, sizeof record);
        TIDE_CHECK(whole == 77);
    } else {
        struct record cut;
        size_t cut_size;
        TIDE_CHECK(whole <= size && whole <= TIDE_RECORD_MAX && whole % 8 == 0);
        TIDE_CHECK(record.lsn > 0 && record.incarnation > 0 && !id_is_zero(&record.stream));
        TIDE_CHECK(record_due(bytes, &record.stream, record.lsn) == whole);
        TIDE_CHECK(record_due(bytes, &record.stream, record.lsn + 1) == 0);
        if (stream_is_written(record.type)) {
            TIDE_CHECK(record_type_name(record.type) != NULL);
            same_again(&record, bytes, whole);
        }
        for (size_t left = 0; left < whole; left += left < 128 || left + 16 > whole ? 1 : 16) {
            uint8_t *part = fuzz_copy(bytes, left);
            TIDE_CHECK(record_decode(part, left, &cut, &cut_size, &err) != 0);
            TIDE_CHECK(err.code == TIDE_ERR_LIMIT);
            free(part);
        }
    }
    free(bytes);
    return 0;
}
