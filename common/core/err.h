/* SPDX-License-Identifier: Apache-2.0 */
/* err: one error, in the caller's memory. Functions that can fail return 0, or -1 with *err set;
 * outputs named ret_* are untouched on failure. Text: lower case, the thing in quotes, its value,
 * the remedy. Callers wrap outward with err_wrap(). */
#ifndef TIDE_COMMON_CORE_ERR_H
#define TIDE_COMMON_CORE_ERR_H

#include <stddef.h>

#define TIDE_ERR_TEXT_MAX 512

/* X(name, exit status of the tidemark command, meaning) */
#define TIDE_ERR_CODES(X)                                                                          \
    X(OK, 0, "no error")                                                                           \
    X(FAILED, 1, "the thing asked for failed, or a check said no")                                 \
    X(USAGE, 2, "wrong arguments or option")                                                       \
    X(CONFIG, 3, "wrong configuration or group file")                                              \
    X(NOT_FOUND, 4, "the named thing does not exist")                                              \
    X(UNREACHABLE, 5, "a process or peer did not answer within the deadline")                      \
    X(DENIED, 6, "identity unknown, not in the definition, or not the owner")                      \
    X(CORRUPT, 7, "bytes that break the format: bad checksum, length, order or hash")              \
    X(VERSION, 8, "format or protocol version that this build does not know")                      \
    X(CONFLICT, 9, "another content is there already (fork), or the state forbids it now")         \
    X(LIMIT, 10, "over a documented limit")                                                        \
    X(IO, 11, "the operating system refused a read, write or sync")                                \
    X(FULL, 12, "no space left")                                                                   \
    X(BUSY, 13, "try again later")                                                                 \
    X(UNKNOWN, 14, "neither yes nor no can be said yet")

enum err_code {
#define TIDE_ERR_ENUM(name, status, meaning) TIDE_ERR_##name,
    TIDE_ERR_CODES(TIDE_ERR_ENUM)
#undef TIDE_ERR_ENUM
};

struct err {
    enum err_code code;
    char text[TIDE_ERR_TEXT_MAX];
};

/* Sets *err (may be NULL) and returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text that *err (may be NULL) has; the code stays. Returns -1. */
int err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Stable upper-case name ("NOT_FOUND"), and the exit status of the tidemark command for it. */
const char *err_name(enum err_code code);
int err_status(enum err_code code);

#endif
