/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: what the targets of this folder share. Each target is one LLVMFuzzerTestOneInput(), linked
 * either with libFuzzer (TIDE_FUZZ=ON) or with replay.c, whose main() runs it over files. A broken
 * property ends the process through TIDE_CHECK. */
#ifndef TIDE_TESTS_FUZZ_FUZZ_H
#define TIDE_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/core/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every error has one of the codes in the mask (1 << TIDE_ERR_...) and a text that ends. */
#define FUZZ_CODE(name) (1U << TIDE_ERR_##name)
static inline void fuzz_error(const struct err *err, unsigned codes)
{
    TIDE_CHECK((1U << (unsigned)err->code & codes) != 0);
    TIDE_CHECK(err->text[0] != '\0');
    TIDE_CHECK(memchr(err->text, '\0', sizeof err->text) != NULL);
}

/* An output that must be untouched on failure: filled before, looked at after. */
#define FUZZ_FILL 0xA5
static inline void fuzz_untouched(const void *at, size_t size)
{
    const uint8_t *b = at;
    for (size_t i = 0; i < size; i++) {
        TIDE_CHECK(b[i] == FUZZ_FILL);
    }
}

/* A copy of exactly `size` bytes on the heap, so that a read past its end is seen. */
static inline uint8_t *fuzz_copy(const uint8_t *from, size_t size)
{
    uint8_t *to = calloc(1, size > 0 ? size : 1);
    TIDE_CHECK(to != NULL);
    if (size > 0) {
        memcpy(to, from, size);
    }
    return to;
}

#endif
