/* SPDX-License-Identifier: Apache-2.0 */
/* config: INI files (libinih's syntax: [section], key = value, ';' and '#' comments) with errors
 * that name file, line and what was expected, and the parsers of values. Whole lines of at most
 * CONFIG_LINE_MAX bytes, files of at most CONFIG_FILE_MAX. A value does not go over several lines.
 * All errors are CONFIG (a file that cannot be read: as file.h). */
#ifndef TIDE_COMMON_IO_CONFIG_H
#define TIDE_COMMON_IO_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"

#define CONFIG_LINE_MAX 1000U
#define CONFIG_FILE_MAX (1024U * 1024U)

struct config_entry {
    const char *section; /* "member shop/web"; never NULL; "" before the first section */
    const char *key;     /* NULL: the section begins here (so that empty ones are seen) */
    const char *value;   /* NULL where key is; else trimmed, may be "" */
    int line;            /* from 1 */
};

/* Called in file order; an error that it sets gets "FILE:LINE: " before it and ends the load. */
typedef int config_fn(void *arg, const struct config_entry *entry, struct err *err);

int config_load(const char *path, config_fn *fn, void *arg, struct err *err);

/* For the callback: sets CONFIG: unknown key "k" in section [s]; expected one of: EXPECTED. -1. */
int config_unknown(const struct config_entry *entry, const char *expected, struct err *err);
/* Sets CONFIG where text of size `size` at ret is not "" already (key given twice), or the value is
 * empty or longer than size - 1; else copies it. */
int config_text(const struct config_entry *entry, char *ret, size_t size, struct err *err);
/* As config_text, and the path must be absolute. */
int config_path(const struct config_entry *entry, char *ret, size_t size, struct err *err);
/* The part of a section's name after "WORD ", e.g. "shop/web" of [member shop/web]; NULL where the
 * section's first word is another. "" where nothing follows. */
const char *config_section_rest(const char *section, const char *word);

/* Values; `text` as in the file. Each error names the text and what was expected. */
int config_parse_duration(const char *text, uint64_t min_us, uint64_t max_us, uint64_t *ret_us,
                          struct err *err); /* 250us 50ms 5s 15m 24h 7d; the unit is needed */
int config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                      struct err *err); /* 4096, 64K, 256M, 2G, 1T: powers of 1,024 */
int config_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct err *err);
int config_parse_bool(const char *text, bool *ret, struct err *err); /* yes no true false on off */

#endif
