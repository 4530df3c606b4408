/* SPDX-License-Identifier: Apache-2.0 */
/* group_file: the YAML file of `tidemark group apply`, typed by libcyaml:
 *   group: shop
 *   interval: 5s            # 1s to 24h; default 5s
 *   hold-max: 50ms          # 5ms to 300ms; default 50ms
 *   missing: strict         # or partial; default strict
 *   members:
 *     - name: web
 *       participant: spiffe://SITE/participant/web
 *       address: 192.0.2.11:20004
 *       disks: [data, log]
 * No aliases, at most 1 MiB, an unknown key is an error. Errors are CONFIG and begin with
 * FILE:LINE.
 */
#ifndef TIDE_COORDINATOR_INTAKE_GROUP_FILE_H
#define TIDE_COORDINATOR_INTAKE_GROUP_FILE_H

#include <jansson.h>
#include <stddef.h>

#include "common/core/err.h"

#define TIDE_GROUP_FILE_MAX (1024U * 1024)

/* Reads and checks a file; *ret is what the command group-apply takes (registry_apply()), a new
 * reference. NOT_FOUND, IO, LIMIT as file_read(). */
int group_file_load(const char *path, json_t **ret, struct err *err);

/* The same for a text; `path` is for errors. */
int group_file_parse(const char *path, const char *text, size_t size, json_t **ret,
                     struct err *err);

#endif
