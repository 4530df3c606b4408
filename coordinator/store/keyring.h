/* SPDX-License-Identifier: Apache-2.0 */
/* keyring: the keys that a store's segments are encrypted with. Each group has one of its own, an
 * object of the store, wrapped by the master key of the site, which is a file outside the store:
 *
 *   STORE/keys/<group>/<generation, 10 digits>.box    a box (proto/box.md) under the master key;
 * its content: the id of the group's key (16), key (32)
 *
 * In its header stands the master key's id, the first 16 bytes of SHA-256("tidemark master key 1",
 * key), so that a wrong one is told apart from damage. The master key's file has 64 hex digits and
 * a newline and is readable by its owner alone (`openssl rand -hex 32`). Who loses it loses the
 * store.
 *
 * Any thread may call at any time. Keys are wiped when the ring is closed. */
#ifndef TIDE_COORDINATOR_STORE_KEYRING_H
#define TIDE_COORDINATOR_STORE_KEYRING_H

#include "common/core/id.h"
#include "coordinator/core/box.h"

#define KEYRING_KEYS_MAX 65536U

struct keyring;

/* A group's key. */
struct keyring_key {
    struct id id;
    uint32_t generation; /* from 1 */
    uint8_t key[BOX_KEY];
};

/* Reads the master key, and unwraps every key of the store (none yet is no error).
 *   CONFIG     the file is not 64 hex digits, or others may read it
 *   DENIED     a key of the store was wrapped with another master key (both ids are named)
 *   CORRUPT    a key object is damaged, or stands under another name
 *   LIMIT      more than KEYRING_KEYS_MAX; no memory
 *   NOT_FOUND, IO */
int keyring_open(const char *store, const char *master_key_file, struct keyring **ret,
                 struct err *err);
void keyring_close(struct keyring *keyring); /* takes NULL */

/* The newest key of the group; made, and durable in the store, where it has none: for who has the
 * store open for writing. FULL, IO, LIMIT. */
int keyring_current(struct keyring *keyring, const struct name *group, struct keyring_key *ret,
                    struct err *err);

/* DENIED: there is none of that id and generation in the store; keyring NULL: there is no master
 * key. */
int keyring_find(struct keyring *keyring, const struct id *id, uint32_t generation,
                 struct keyring_key *ret, struct err *err);

/* Wraps every key of the store anew, with another master key; no segment is touched. For nobody
 * else to have the store open meanwhile (CONFLICT). Cut short, it is done again with the same two
 * files: what has the new wrapping already is counted and left. *ret_count: all keys. The errors of
 * keyring_open(); FULL. */
int keyring_rewrap(const char *store, const char *old_file, const char *new_file,
                   unsigned *ret_count, struct err *err);

#endif
