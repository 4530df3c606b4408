/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/idmap.h"

#include "common/core/check.h"

#include <stdlib.h>
#include <string.h>

void idmap_free(struct idmap *map)
{
    free(map->slots);
    *map = (struct idmap){0};
}

static size_t place(const struct idmap *map, const struct id *id)
{
    uint64_t bits[2];
    memcpy(bits, id->b, sizeof bits);
    bits[0] = (bits[0] ^ bits[1]) * 0x9e3779b97f4a7c15U;
    return (size_t)(bits[0] >> 32) & (map->room - 1);
}

static void insert(struct idmap *map, const struct idmap_slot *slot)
{
    size_t i = place(map, &slot->id);
    while (map->slots[i].value_1 != 0) {
        i = (i + 1) & (map->room - 1);
    }
    map->slots[i] = *slot;
}

/* Ids keep the order of their numbers: from the first slot of a run on, as they were put in. */
static void grow(struct idmap *map)
{
    struct idmap old = *map;
    map->room = old.room == 0 ? 64 : old.room * 2;
    map->slots = calloc(map->room, sizeof *map->slots);
    TIDE_CHECK(map->slots != NULL);
    size_t start = 0;
    while (start < old.room && old.slots[start].value_1 != 0) {
        start++;
    }
    for (size_t i = 0; i < old.room; i++) {
        const struct idmap_slot *slot = &old.slots[(start + i) & (old.room - 1)];
        if (slot->value_1 != 0) {
            insert(map, slot);
        }
    }
    free(old.slots);
}

void idmap_add(struct idmap *map, const struct id *id, uint32_t value)
{
    if (2 * (map->count + 1) > map->room) {
        grow(map);
    }
    insert(map, &(struct idmap_slot){.id = *id, .value_1 = value + 1});
    map->count++;
}

bool idmap_next(const struct idmap *map, const struct id *id, size_t *cursor, uint32_t *ret_value)
{
    if (map->room == 0) {
        return false;
    }
    size_t first = place(map, id);
    for (;; (*cursor)++) {
        const struct idmap_slot *slot = &map->slots[(first + *cursor) & (map->room - 1)];
        if (slot->value_1 == 0) {
            return false;
        }
        if (memcmp(slot->id.b, id->b, sizeof id->b) == 0) {
            *ret_value = slot->value_1 - 1;
            (*cursor)++;
            return true;
        }
    }
}
