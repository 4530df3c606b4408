/* SPDX-License-Identifier: Apache-2.0 */
/* catalog: groups, definitions, streams, points and failed rounds in one SQLite file, for questions
 * that the store's folders answer slowly. It is made from the store: a file that is missing, bad or
 * of another version is set aside as FILE.bad and filled again at start; one of version 1, which
 * had no single VM's points, is changed in place.
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

#define TIDE_CATALOG_VERSION  2
#define TIDE_CATALOG_LIST_MAX 10000U        /* rows of one answer */
#define TIDE_CATALOG_PAGE     (512U * 1024) /* bytes of objects in one answer */
#define TIDE_CATALOG_ROUND_MAX                                                                     \
    10000U /* failed rounds kept of each group, the newest; and so many                            \
              of its single VMs */

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
    const char *vm;   /* the VM whose single-VM point it is; NULL: it is one of the group */
};
int catalog_put_point(struct catalog *catalog, const struct catalog_point *point, struct err *err);

struct catalog_round { /* one that became no point */
    const char *round; /* hex */
    const char *group;
    uint64_t wall_ns;
    const char *json;
    const char *vm; /* likewise */
};
int catalog_put_round(struct catalog *catalog, const struct catalog_round *round, struct err *err);

/* A row's place in lists. */
struct catalog_place {
    uint64_t wall_ns;
    char id[TIDE_ID_HEX]; /* of the point or round; "": none */
};

struct catalog_query {
    const char *group;           /* NULL or "": all */
    bool single_vm;              /* what is of single VMs, and not of the group */
    const char *vm;              /* with single_vm: of that one; NULL or "": of all */
    unsigned limit;              /* 0: TIDE_CATALOG_LIST_MAX */
    struct catalog_place before; /* only older ones; id "": from the newest on */
};

/* Arrays of the stored objects, newest last: the newest ones, at most `limit`, and no more than fit
 * into TIDE_CATALOG_PAGE bytes, but one at least. *ret_next is where to go on, as `before`; its id
 * is "" where there is no older one, or the limit is reached. */
int catalog_points(struct catalog *catalog, const struct catalog_query *query, json_t **ret,
                   struct catalog_place *ret_next, struct err *err);
int catalog_rounds(struct catalog *catalog, const struct catalog_query *query, json_t **ret,
                   struct catalog_place *ret_next, struct err *err);

/* Points of single VMs. group NULL or "": of all. */
int catalog_single_vm_count(struct catalog *catalog, const char *group, uint64_t *ret,
                            struct err *err);

/* The point whose id begins with the hex digits of prefix. NOT_FOUND; CONFLICT: several do. */
int catalog_point(struct catalog *catalog, const char *prefix, json_t **ret, struct err *err);

#endif
