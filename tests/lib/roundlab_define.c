/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const roundlab_disk_names[2] = {"data", "log"};

const char *roundlab_member_name(unsigned member)
{
    static const char *const first[] = {"web", "db", "app", "mail", "log"};
    static char others[ROUNDLAB_MEMBERS_MAX][8];
    TIDE_CHECK(member < ROUNDLAB_MEMBERS_MAX);
    if (member < sizeof first / sizeof first[0]) {
        return first[member];
    }
    if (others[member][0] == '\0') {
        snprintf(others[member], sizeof others[member], "n%u", member + 1);
    }
    return others[member];
}

/* ---- definitions ---- */

static void add_member(struct roundlab *lab, struct definition *to, unsigned m)
{
    struct definition_member member;
    struct err err;
    memset(&member, 0, sizeof member);
    if (lab->definition_count > 0) {
        member = lab->definition->members[m];
    } else {
        TIDE_CHECK(name_parse(roundlab_member_name(m), &member.name));
        snprintf(member.identity, sizeof member.identity, "spiffe://lab/participant/%s",
                 roundlab_member_name(m));
        snprintf(member.address, sizeof member.address, "127.0.%u.%u:20004", m / 200, 11 + m % 200);
    }
    TIDE_CHECK(definition_add_member(to, &member, &err) == 0);
}

static void add_disk(struct roundlab *lab, struct definition *to, unsigned flat)
{
    struct definition_disk disk;
    struct err err;
    memset(&disk, 0, sizeof disk);
    if (lab->definition_count > 0) {
        disk = lab->definition->disks[flat];
    } else {
        TIDE_CHECK(name_parse(roundlab_disk_names[flat % ROUNDLAB_DISKS], &disk.name));
        disk.stream = roundlab_random_id(lab);
        disk.timeline = roundlab_random_id(lab);
        disk.disk = roundlab_random_id(lab);
        disk.size = lab->config.disk_size != 0 ? lab->config.disk_size : 1U << 20;
        disk.block_size = 4096;
    }
    TIDE_CHECK(definition_add_disk(to, &disk, &err) == 0);
}

const struct definition *roundlab_issue(struct roundlab *lab, const bool *disks)
{
    struct name name;
    struct err err;
    struct definition *made = calloc(1, sizeof *made);
    TIDE_CHECK(made != NULL && lab->definition_count < ROUNDLAB_EPOCHS_MAX);
    bool first = lab->definition_count == 0;
    struct id group = first ? roundlab_random_id(lab) : lab->definition->group;
    TIDE_CHECK(name_parse("shop", &name));
    definition_init(made, &group, &name, lab->definition_count + 1);
    for (unsigned m = 0; m < lab->config.members; m++) {
        bool in = false;
        for (unsigned d = 0; d < ROUNDLAB_DISKS; d++) {
            unsigned flat = m * ROUNDLAB_DISKS + d;
            if (disks != NULL && !disks[flat]) {
                continue;
            }
            if (!in) {
                add_member(lab, made, m);
                in = true;
            }
            add_disk(lab, made, flat);
        }
    }
    TIDE_CHECK(definition_check(made, &err) == 0);
    for (unsigned i = 0; i < TIDE_HASH_SIZE; i += 8) {
        uint64_t bits = prng_next(&lab->prng);
        memcpy(made->epoch.hash.b + i, &bits, 8);
    }
    lab->definitions[lab->definition_count++] = made;
    lab->definition = lab->definitions[0];
    return made;
}

const struct definition *roundlab_definition(const struct roundlab *lab)
{
    return lab->definition;
}

const struct definition *roundlab_newest(const struct roundlab *lab)
{
    return lab->definitions[lab->definition_count - 1];
}

const struct definition *roundlab_issued(const struct roundlab *lab, unsigned index)
{
    return index < lab->definition_count ? lab->definitions[index] : NULL;
}

const struct definition *roundlab_known(const struct roundlab *lab, unsigned member,
                                        unsigned *ret_self)
{
    *ret_self = lab->nodes[member].self;
    return lab->nodes[member].definition;
}

/* ---- numbers: a node and its disks have those of the first definition ---- */

unsigned roundlab_node_of(const struct roundlab *lab, const struct definition *definition,
                          unsigned member)
{
    const struct name *name = &definition->members[member].name;
    if (definition == lab->definition) {
        return member;
    }
    int node = definition_find_member(lab->definition, name);
    TIDE_CHECK(node >= 0);
    return (unsigned)node;
}

int roundlab_member_of(const struct roundlab *lab, const struct definition *definition,
                       unsigned node)
{
    if (definition == lab->definition) {
        return (int)node;
    }
    return definition == NULL
               ? -1
               : definition_find_member(definition, &lab->definition->members[node].name);
}

int roundlab_disk_of(const struct roundlab *lab, unsigned node, unsigned index)
{
    const struct node *n = &lab->nodes[node];
    if (n->definition == NULL || n->definition == lab->definition) {
        return n->definition == NULL ? -1 : (int)index;
    }
    const struct id *stream = &lab->definition->disks[node * ROUNDLAB_DISKS + index].stream;
    int flat = definition_find_stream(n->definition, stream);
    return flat < 0 ? -1 : flat - n->definition->members[n->self].disk_first;
}

unsigned roundlab_index_of(const struct roundlab *lab, unsigned node, unsigned disk)
{
    const struct node *n = &lab->nodes[node];
    if (n->definition == lab->definition) {
        return disk;
    }
    unsigned flat = n->definition->members[n->self].disk_first + disk;
    int found = definition_find_stream(lab->definition, &n->definition->disks[flat].stream);
    TIDE_CHECK(found >= 0 && (unsigned)found / ROUNDLAB_DISKS == node);
    return (unsigned)found % ROUNDLAB_DISKS;
}
