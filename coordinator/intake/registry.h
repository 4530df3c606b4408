/* SPDX-License-Identifier: Apache-2.0 */
/* registry: which groups were applied, which streams their disks registered, and the definitions
 * issued from both. A group is STORE/groups/<group>.json; a definition, once issued, never changes:
 * STORE/definitions/<group>/<epoch>.pb. When the last disk of a group is registered, and whenever
 * members, addresses, identities or streams changed since, the next epoch is issued. Policy alone
 * makes no epoch, nor does a disk's size alone: the size in a definition is that of the stream's
 * first registration, and the stream itself says what it is at any LSN.
 *
 * One thread. What it returns by pointer is good until the next call that changes it. */
#ifndef TIDE_COORDINATOR_INTAKE_REGISTRY_H
#define TIDE_COORDINATOR_INTAKE_REGISTRY_H

#include <jansson.h>

#include "common/core/definition.h"
#include "common/wire/intake.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/store/store.h"

#define TIDE_REGISTRY_GROUPS_MAX 1024U
#define TIDE_REGISTRY_GROUP_MAX  (4U * 1024 * 1024) /* bytes of a group's JSON */

struct registry;

/* Called for each definition that is issued or (from registry_open()) was; oldest first. */
typedef int registry_issued_fn(void *context, const struct definition *definition, struct err *err);

/* Loads what the store has, issues what a crash kept from being issued, fills the catalog's groups,
 * definitions and streams. CORRUPT: an object of the store is not what it must be (named). */
int registry_open(struct store *store, struct catalog *catalog, registry_issued_fn *issued,
                  void *context, struct registry **ret, struct err *err);
void registry_free(struct registry *registry); /* takes NULL */

/* Applies {"group", "interval_ms", "hold_us_max", "missing", "members": [{"name", "participant",
 * "address", "disks": [NAME...]}]}; durable on return. CONFIG: a field is missing, wrong or out of
 * range (named); LIMIT. */
int registry_apply(struct registry *registry, const json_t *group, struct err *err);

/* A participant registers the disks of its members; durable on return. The same again, also with
 * another size, changes nothing.
 *   DENIED     a member's participant is another identity
 *   NOT_FOUND  a group is not applied, or has no such member or disk; what could be registered is
 *   CONFLICT   a stream is registered for another disk already, or with another timeline, disk
 *              id or block size */
int registry_register(struct registry *registry, const char *identity,
                      const struct intake_register *disks, struct err *err);

/* The answer to a participant: its groups' definitions and policies, encoded. The caller frees
 * *ret_bytes. */
int registry_definitions(struct registry *registry, const char *identity, struct hash *ret_digest,
                         uint8_t **ret_bytes, size_t *ret_size, struct err *err);

/* Counts every change that a long poll could wait for. */
uint64_t registry_generation(const struct registry *registry);

/* The identity that may put this stream's segments, or NULL. */
const char *registry_owner(const struct registry *registry, const struct manifest_stream *stream);
/* Whether the identity has a member in the group. */
bool registry_has(const struct registry *registry, const char *identity, const struct id *group);

/* Array of the groups as applied, with epoch, and each disk's stream where registered. NULL: no
 * memory. */
json_t *registry_list(const struct registry *registry);

/* The definition of that epoch, from the store if need be; *ret is good until the next call. */
int registry_definition(struct registry *registry, const struct id *group,
                        const struct epoch *epoch, const struct definition **ret, struct err *err);

size_t registry_count(const struct registry *registry);
void registry_at(const struct registry *registry, size_t index, struct name *ret_name,
                 struct id *ret_id);

#endif
