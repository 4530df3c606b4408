/* SPDX-License-Identifier: Apache-2.0 */
/* settings: the coordinator's configuration file, INI:
 *   [coordinator]
 *   listen = 127.0.0.10:9443     ; numeric; port 0: any
 *   identity-cert = FILE         ; PEM chain
 *   identity-key = FILE
 *   ca = FILE
 *   store = DIR                  ; the replica store
 *   catalog = FILE               ; SQLite, made from the store
 *   cache = DIR                  ; images to compare disks with, worth nothing to another process;
 *                                ; not in the store; default: the catalog's path and ".images"
 *   master-key = FILE            ; encrypts the store (coordinator/store/keyring.h); without it
 *                                ; segments are kept as they came
 *   compression = 1              ; zstd's level, 0 to 19, of what is encrypted; 0: none
 *   local = PATH                 ; socket of the tidemark command; default LOCAL_COORDINATOR
 * Paths are absolute. Errors are CONFIG and name file, line and what was expected. */
#ifndef TIDE_COORDINATOR_SETTINGS_H
#define TIDE_COORDINATOR_SETTINGS_H

#include <limits.h>

#include "common/core/err.h"
#include "common/io/address.h"

struct settings {
    char listen_text[ADDRESS_TEXT_MAX];
    struct address listen;
    char cert[PATH_MAX];
    char key[PATH_MAX];
    char ca[PATH_MAX];
    char store[PATH_MAX];
    char catalog[PATH_MAX];
    char cache[PATH_MAX];
    char master_key[PATH_MAX]; /* empty: none */
    unsigned compression;
    char local[PATH_MAX];
};

int settings_load(const char *path, struct settings *ret, struct err *err);

#endif
