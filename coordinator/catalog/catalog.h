/* SPDX-License-Identifier: Apache-2.0 */
/* catalog: groups, definitions, streams, points and failed rounds in one SQLite file, for questions
 * that the store's folders answer slowly. It is made from the store: a file that is missing, bad or
 * of another version is set aside as FILE.bad and filled again at start.
 *
 * One process, one connection (SQLite 3.40 has the WAL-reset fault with two). Any thread: calls
 * queue on the catalog's lock. Every put is durable on return, unless between catalog_begin() and
 * catalog_commit(), which are one thread's. Errors: FULL, IO; LIMIT without memory. */
#ifndef TIDE_COORDINATOR_CATALOG_CATALOG_H
#define TIDE_COORDINATOR_CATALOG_CATALOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"

#define TIDE_CATALOG_VERSION   1
#define TIDE_CATALOG_LIST_MAX  10000U /* rows of one answer */
#define TIDE_CATALOG_ROUND_MAX 10000U /* failed rounds kept of each group, the newest */

struct catalog;

/* *ret_note (512 bytes at least) says why the file is to be filled from the store: it was made new,
 * or nobody has called catalog_filled() since it was. Else it is empty. LIMIT: the file is left as
 * it is. */
int catalog_open(const char *path, struct catalog **ret, char ret_note[TIDE_ERR_TEXT_MAX],
                 struct err *err);
void catalog_close(struct catalog *catalog); /* takes NULL */

int catalog_begin(struct catalog *catalog, struct err *err);
/* One of the two ends it; a commit that fails has rolled back. */
int catalog_commit(struct catalog *catalog, struct err *err);
void catalog_rollback(struct catalog *catalog);

/* All that the store has is in it (or is, with the commit of this transaction). */
int catalog_filled(struct catalog *catalog, struct err *err);

/* Each replaces the row of the same key. */
int catalog_put_group(struct catalog *catalog, const char *group, const char *json,
                      struct err *err);
int catalog_put_definition(struct catalog *catalog, const char *group, uint64_t epoch,
                           const char *hash, struct err *err);
int catalog_put_stream(struct catalog *catalog, const char *stream, const char *group,
                       const char *member, const char *disk, uint64_t size, struct err *err);

struct catalog_point {
    const char *point; /* hex */
    const char *group;
    const char *label;
    uint64_t wall_ns; /* its place in lists */
    const char *json; /* the whole object, as in the store */
};
int catalog_put_point(struct catalog *catalog, const struct catalog_point *point, struct err *err);

struct catalog_round { /* one that became no point */
    const char *round; /* hex */
    const char *group;
    uint64_t wall_ns;
    const char *json;
};
int catalog_put_round(struct catalog *catalog, const struct catalog_round *round, struct err *err);

/* Arrays of the stored objects, newest last, at most `limit` (the newest ones). group NULL or "":
 * all. */
int catalog_points(struct catalog *catalog, const char *group, unsigned limit, json_t **ret,
                   struct err *err);
int catalog_rounds(struct catalog *catalog, const char *group, unsigned limit, json_t **ret,
                   struct err *err);

/* The point whose id begins with the hex digits of prefix. NOT_FOUND; CONFLICT: several do. */
int catalog_point(struct catalog *catalog, const char *prefix, json_t **ret, struct err *err);

#endif
