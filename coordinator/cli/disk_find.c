/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/disk_find.h"

#include <stdio.h>
#include <string.h>

#include "common/core/id.h"
#include "coordinator/cli/cli.h"

struct wanted {
    struct name group; /* empty: any */
    struct name member;
    struct name disk;
};

static int parse(const char *vm, const char *disk, struct wanted *ret, struct err *err)
{
    const char *slash = vm == NULL ? NULL : strchr(vm, '/');
    char group[TIDE_NAME_MAX + 2] = "";
    *ret = (struct wanted){0};
    if (slash != NULL) {
        snprintf(group, sizeof group, "%.*s", (int)(slash - vm), vm);
    }
    if ((slash != NULL && !name_parse(group, &ret->group)) ||
        (vm != NULL && !name_parse(slash != NULL ? slash + 1 : vm, &ret->member))) {
        return err_set(err, TIDE_ERR_USAGE, "VM \"%.140s\": give a member's name, or GROUP/MEMBER",
                       vm);
    }
    if (disk != NULL && !name_parse(disk, &ret->disk)) {
        return err_set(err, TIDE_ERR_USAGE, "DISK \"%.140s\" is not a disk's name", disk);
    }
    return 0;
}

static bool fits(const struct name *wanted, const json_t *object, const char *key)
{
    return wanted->s[0] == '\0' || strcmp(wanted->s, cli_text(object, key)) == 0;
}

static int none(const json_t *disks, const char *vm, const char *disk, struct err *err)
{
    char known[300] = "";
    size_t used = 0;
    size_t i;
    json_t *object;
    json_array_foreach(disks, i, object)
    {
        int n = snprintf(known + used, sizeof known - used, "%s%s/%s %s", i > 0 ? ", " : "",
                         cli_text(object, "group"), cli_text(object, "member"),
                         cli_text(object, "disk"));
        if (n < 0 || (size_t)n >= sizeof known - used) {
            snprintf(known + used, sizeof known - used, "%s", i > 0 ? " …" : "");
            break;
        }
        used += (size_t)n;
    }
    return err_set(err, TIDE_ERR_NOT_FOUND, "no disk \"%s%s%s\" at this participant; it has %s", vm,
                   disk != NULL ? " " : "", disk != NULL ? disk : "", known);
}

int disk_find(const json_t *status, const char *vm, const char *disk, json_t **ret, struct err *err)
{
    const json_t *disks = json_object_get(status, "disks");
    const char *group = NULL;
    struct wanted wanted;
    size_t i;
    json_t *object;
    if (parse(vm, disk, &wanted, err) != 0) {
        return -1;
    }
    json_t *found = json_array();
    json_array_foreach(disks, i, object)
    {
        if (!fits(&wanted.group, object, "group") || !fits(&wanted.member, object, "member") ||
            !fits(&wanted.disk, object, "disk")) {
            continue;
        }
        const char *of = cli_text(object, "group");
        if (vm != NULL && group != NULL && strcmp(group, of) != 0) {
            json_decref(found);
            return err_set(err, TIDE_ERR_USAGE,
                           "VM \"%s\" is a member of several groups: give %s/%s or %s/%s", vm,
                           group, vm, of, vm);
        }
        group = of;
        json_array_append(found, object);
    }
    if (vm != NULL && json_array_size(found) == 0) {
        json_decref(found);
        return none(disks, vm, disk, err);
    }
    *ret = found;
    return 0;
}
