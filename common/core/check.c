/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/check.h"

#include <assert.h>

/* glibc's own reporter: it is what assert() calls, and it is there whatever NDEBUG says. */
_Noreturn void check_failed(const char *condition, const char *file, int line)
{
    __assert_fail(condition, file, (unsigned)line, "TIDE_CHECK");
}
