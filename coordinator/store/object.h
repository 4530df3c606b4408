/* SPDX-License-Identifier: Apache-2.0 */
/* object: files under the store's folder that appear whole or not at all. Readers need no lock. */
#ifndef TIDE_COORDINATOR_STORE_OBJECT_H
#define TIDE_COORDINATOR_STORE_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"

/* Puts ROOT/relative, durable on return; missing folders are made. With replace false, one that
 * exists must have the same bytes, else CONFLICT. On failure (FULL, IO) nothing changed. Two puts
 * of one path at once are the caller's to avoid. */
int object_put(const char *root, const char *relative, const void *bytes, size_t size, bool replace,
               struct err *err);

/* Whole file to the heap, with a NUL after it; more than max bytes: LIMIT. NOT_FOUND, IO. */
int object_get(const char *root, const char *relative, size_t max, uint8_t **ret_bytes,
               size_t *ret_size, struct err *err);

/* Names in ROOT/relative that end with `suffix` and do not begin with a dot, sorted bytewise, in a
 * NULL-terminated heap array freed with object_names_free(). An absent folder is an empty list. */
int object_names(const char *root, const char *relative, const char *suffix, char ***ret_names,
                 size_t *ret_count, struct err *err);
void object_names_free(char **names); /* takes NULL */

#endif
