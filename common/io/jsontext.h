/* SPDX-License-Identifier: Apache-2.0 */
/* jsontext: reads JSON with libjansson, and tells texts that are none from a lack of memory. The
 * library does not: where memory is short it calls a good text wrong, or loses digits of it. */
#ifndef TIDE_COMMON_IO_JSONTEXT_H
#define TIDE_COMMON_IO_JSONTEXT_H

#include <jansson.h>
#include <stddef.h>

#include "common/core/err.h"

/* flags: of json_loadb(). *ret is a new reference. Any thread; from the first call on libjansson's
 * memory goes through here (malloc() and free() still). CORRUPT: it is not JSON; LIMIT: no memory.
 */
int jsontext_read(const void *text, size_t size, size_t flags, json_t **ret, struct err *err);

#endif
