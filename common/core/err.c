/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/err.h"

#include "common/core/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    TIDE_CHECK(code != TIDE_ERR_OK);
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->code = code;
    }
    return -1;
}

int err_wrap(struct err *err, const char *format, ...)
{
    if (err != NULL) {
        char inner[TIDE_ERR_TEXT_MAX];
        memcpy(inner, err->text, sizeof inner);
        va_list args;
        va_start(args, format);
        int n = vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->text) {
            (void)snprintf(err->text + n, sizeof err->text - (size_t)n, ": %.*s",
                           (int)(sizeof inner - 1), inner);
        }
    }
    return -1;
}

static const struct {
    const char *name;
    int status;
} codes[] = {
#define TIDE_ERR_ROW(name, status, meaning) {#name, status},
    TIDE_ERR_CODES(TIDE_ERR_ROW)
#undef TIDE_ERR_ROW
};

const char *err_name(enum err_code code)
{
    TIDE_CHECK((size_t)code < sizeof codes / sizeof codes[0]);
    return codes[code].name;
}

int err_status(enum err_code code)
{
    TIDE_CHECK((size_t)code < sizeof codes / sizeof codes[0]);
    return codes[code].status;
}
