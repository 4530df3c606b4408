/* SPDX-License-Identifier: Apache-2.0 */
/* jsontext: reads and writes JSON with libjansson, and tells when memory was short. The library
 * does not always: it calls a good text wrong, or leaves bytes out of what it reads or writes. */
#ifndef TIDE_COMMON_IO_JSONTEXT_H
#define TIDE_COMMON_IO_JSONTEXT_H

#include <jansson.h>
#include <stddef.h>

#include "common/core/err.h"

/* flags: of json_loadb(). *ret is a new reference. Any thread; from the first call on libjansson's
 * memory goes through here (malloc() and free() still). CORRUPT: it is not JSON; LIMIT: no memory.
 */
int jsontext_read(const void *text, size_t size, size_t flags, json_t **ret, struct err *err);

/* flags: of json_dumps(). The text, heap, to be freed with free(); NULL: value is NULL, or there is
 * no memory. */
char *jsontext_write(const json_t *value, size_t flags);

/* How often libjansson got no memory on this thread: where that grows while a value is built, parts
 * of the value may be missing, whatever the calls returned. */
unsigned long jsontext_failures(void);

#endif
