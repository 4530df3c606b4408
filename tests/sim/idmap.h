/* SPDX-License-Identifier: Apache-2.0 */
/* idmap: numbers by random 128-bit ids; an id may have several. Without it the judge would look
 * through everything for each point. */
#ifndef TIDE_TESTS_SIM_IDMAP_H
#define TIDE_TESTS_SIM_IDMAP_H

#include "common/core/id.h"

struct idmap_slot {
    struct id id;
    uint32_t value_1; /* the number and 1; 0: free */
};

struct idmap { /* begins as zeroes */
    struct idmap_slot *slots;
    size_t room; /* 0 or a power of two */
    size_t count;
};

void idmap_free(struct idmap *map);
void idmap_add(struct idmap *map, const struct id *id, uint32_t value);

/* The numbers of an id, in the order in which they were added: *cursor is 0 for the first call.
 * False: there are no more. */
bool idmap_next(const struct idmap *map, const struct id *id, size_t *cursor, uint32_t *ret_value);

#endif
