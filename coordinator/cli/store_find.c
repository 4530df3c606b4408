/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/store_find.h"

#include <stdio.h>

#include "common/io/local.h"
#include "coordinator/cli/cli.h"

#define CALL_MS 10000

/* What of the two was not given. */
static int ask(const char *local, char store[PATH_MAX], char master_key[PATH_MAX], struct err *err)
{
    json_t *answer = NULL;
    json_t *request = json_pack("{s:s}", "command", "store");
    int rc = local_call(local, request, CALL_MS, &answer, err);
    json_decref(request);
    if (rc < 0) {
        return -1;
    }
    snprintf(store, PATH_MAX, "%s", cli_text(answer, "path"));
    if (master_key[0] == '\0') {
        snprintf(master_key, PATH_MAX, "%s", cli_text(answer, "master_key"));
    }
    json_decref(answer);
    return 0;
}

int store_find(const char *store, const char *master_key, const char *local,
               char ret_store[PATH_MAX], struct keyring **ret_keyring, struct err *err)
{
    char path[PATH_MAX];
    char key[PATH_MAX];
    snprintf(path, sizeof(path), "%s", store != NULL ? store : "");
    snprintf(key, sizeof(key), "%s", master_key != NULL ? master_key : "");
    if (store == NULL && ask(local, path, key, err) < 0) {
        return -1;
    }
    struct keyring *keyring = NULL;
    if (key[0] != '\0' && keyring_open(path, key, &keyring, err) < 0) {
        return -1;
    }
    snprintf(ret_store, PATH_MAX, "%s", path);
    *ret_keyring = keyring;
    return 0;
}
