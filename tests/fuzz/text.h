/* SPDX-License-Identifier: Apache-2.0 */
/* text: for targets whose module reads a file by its path: a file in memory that has one, and a
 * buffer to write the file anew in. */
#ifndef TIDE_TESTS_FUZZ_TEXT_H
#define TIDE_TESTS_FUZZ_TEXT_H

#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define TEXT_MAX (256U * 1024)

/* Puts the bytes into the process's one file and returns its path. */
static inline const char *text_file(const void *bytes, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        TIDE_CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    TIDE_CHECK(ftruncate(fd, 0) == 0);
    TIDE_CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
    return path;
}

/* The text begins with FILE:LINE, as errors about what a file says do; else with FILE. */
static inline void text_names(const struct err *err, const char *path)
{
    size_t size = strlen(path);
    TIDE_CHECK(strncmp(err->text, path, size) == 0 && err->text[size] == ':');
    if (err->code == TIDE_ERR_CONFIG) {
        TIDE_CHECK(err->text[size + 1] >= '1' && err->text[size + 1] <= '9');
    }
}

struct text {
    char bytes[TEXT_MAX];
    size_t used;
};

static inline void text_add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline void text_add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int used = vsnprintf(text->bytes + text->used, sizeof text->bytes - text->used, format, args);
    va_end(args);
    TIDE_CHECK(used >= 0 && (size_t)used < sizeof text->bytes - text->used);
    text->used += (size_t)used;
}

#endif
