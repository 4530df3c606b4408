/* SPDX-License-Identifier: Apache-2.0 */
/* common/core/tapctl. Input: one message. Every field has one form only: what is decoded encodes to
 * the same bytes. */
#include "common/core/tapctl.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tapctl m;
    static uint8_t again[TIDE_TAPCTL_SIZE_MAX];
    struct err err = {0};
    memset(&m, FUZZ_FILL, sizeof m);
    if (tapctl_decode(data, size, &m, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CORRUPT) | FUZZ_CODE(VERSION));
        fuzz_untouched(&m, sizeof m);
        return 0;
    }
    TIDE_CHECK(size <= TIDE_TAPCTL_SIZE_MAX);
    TIDE_CHECK(tapctl_encode(&m, again) == size);
    TIDE_CHECK(memcmp(again, data, size) == 0);
    return 0;
}
