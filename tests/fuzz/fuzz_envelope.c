/* SPDX-License-Identifier: Apache-2.0 */
/* common/wire/envelope. Input: one link message. What is decoded encodes within the limit, and that
 * decodes to the same again. */
#include "common/wire/envelope.h"

#include <stdbool.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct msg m;
    static uint8_t first[TIDE_ENVELOPE_SIZE_MAX];
    static uint8_t second[TIDE_ENVELOPE_SIZE_MAX];
    struct err err = {0};
    memset(&m, FUZZ_FILL, sizeof m);
    if (envelope_decode(data, size, &m, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION) | FUZZ_CODE(LIMIT));
        fuzz_untouched(&m, sizeof m);
        return 0;
    }
    TIDE_CHECK(size <= TIDE_ENVELOPE_SIZE_MAX);
    TIDE_CHECK(envelope_type_name(m.type) != NULL);
    size_t used = envelope_encode(&m, first);
    TIDE_CHECK(used > 0 && used <= sizeof first);
    memset(&m, 0, sizeof m);
    if (envelope_decode(first, used, &m, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        bool own_message_is_taken = false;
        TIDE_CHECK(own_message_is_taken);
    }
    TIDE_CHECK(envelope_encode(&m, second) == used);
    TIDE_CHECK(memcmp(first, second, used) == 0);
    return 0;
}
