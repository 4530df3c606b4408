/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/groups.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/io/file.h"

int groups_decode(const void *bytes, size_t size, struct groups **ret, struct err *err)
{
    struct intake_definitions answer = {0};
    struct groups *groups = NULL;
    int result = -1;
    if (intake_definitions_decode(bytes, size, &answer, err) != 0) {
        return -1;
    }
    groups = calloc(1, sizeof *groups);
    if (groups == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for the definitions");
        goto out;
    }
    groups->digest = answer.digest;
    for (unsigned i = 0; i < answer.count; i++) {
        const struct intake_issued *issued = &answer.groups[i];
        struct definition *definition = calloc(1, sizeof *definition);
        if (definition == NULL) {
            err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
            goto out;
        }
        groups->definitions[groups->count] = definition;
        groups->policies[groups->count] = issued->policy;
        groups->count++;
        if (intake_definition_decode(issued->definition, issued->definition_size, definition,
                                     err) != 0) {
            err_wrap(err, "definition %u", i + 1);
            goto out;
        }
    }
    *ret = groups;
    groups = NULL;
    result = 0;
out:
    groups_free(groups);
    intake_definitions_close(&answer);
    return result;
}

void groups_free(struct groups *groups)
{
    if (groups == NULL) {
        return;
    }
    for (unsigned i = 0; i < groups->count; i++) {
        free(groups->definitions[i]);
    }
    free(groups);
}

static void path_of(const char *state, char ret_path[PATH_MAX + 32])
{
    snprintf(ret_path, PATH_MAX + 32, "%s/definitions.pb", state);
}

int groups_load(const char *state, struct groups **ret, struct err *err)
{
    char path[PATH_MAX + 32];
    uint8_t *bytes = NULL;
    size_t size = 0;
    path_of(state, path);
    if (file_read(path, TIDE_INTAKE_BODY_MAX, &bytes, &size, err) != 0) {
        return -1;
    }
    int result = groups_decode(bytes, size, ret, err);
    free(bytes);
    return result == 0 ? 0 : err_wrap(err, "\"%s\"", path);
}

int groups_save(const char *state, const void *bytes, size_t size, struct err *err)
{
    char path[PATH_MAX + 32];
    path_of(state, path);
    return file_replace(path, bytes, size, 0600, err);
}

int groups_find(const struct groups *groups, const struct name *group)
{
    for (unsigned i = 0; groups != NULL && i < groups->count; i++) {
        if (name_equal(&groups->definitions[i]->group_name, group)) {
            return (int)i;
        }
    }
    return -1;
}
