/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/intake/group_file. Input: the YAML. What is taken has every value in its range, and
 * written out again it is taken as the same. */
#include "coordinator/intake/group_file.h"

#include "common/core/definition.h"
#include "common/io/address.h"
#include "common/wire/intake.h"
#include "tests/fuzz/text.h"

#define PATH "g.yaml"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    TIDE_CHECK(text != NULL);
    return text;
}

static void write_out(const json_t *group, struct text *to)
{
    struct name name;
    struct address address; /* what is let in can be dialled */
    struct err err;
    size_t m;
    size_t d;
    const json_t *member;
    const json_t *disk;
    const json_t *members = json_object_get(group, "members");
    json_int_t interval = json_integer_value(json_object_get(group, "interval_ms"));
    json_int_t hold = json_integer_value(json_object_get(group, "hold_us_max"));
    TIDE_CHECK(interval >= TIDE_INTERVAL_MS_MIN && interval <= TIDE_INTERVAL_MS_MAX);
    TIDE_CHECK(hold >= TIDE_HOLD_US_MIN && hold <= TIDE_HOLD_US_MAX);
    TIDE_CHECK(name_parse(text_of(group, "group"), &name));
    TIDE_CHECK(json_array_size(members) >= 1 && json_array_size(members) <= TIDE_MEMBERS_MAX);
    to->used = 0;
    text_add(to, "group: \"%s\"\ninterval: %lldms\nhold-max: %lldus\nmissing: %s\nmembers:\n",
             text_of(group, "group"), (long long)interval, (long long)hold,
             text_of(group, "missing"));
    json_array_foreach((json_t *)(uintptr_t)members, m, member)
    {
        const json_t *disks = json_object_get(member, "disks");
        TIDE_CHECK(name_parse(text_of(member, "name"), &name));
        TIDE_CHECK(intake_is_participant(text_of(member, "participant")));
        TIDE_CHECK(address_parse(text_of(member, "address"), false, &address, &err) == 0);
        TIDE_CHECK(json_array_size(disks) >= 1 && json_array_size(disks) <= TIDE_MEMBER_DISKS_MAX);
        text_add(to, "  - name: \"%s\"\n    participant: \"%s\"\n    address: \"%s\"\n    disks:\n",
                 text_of(member, "name"), text_of(member, "participant"),
                 text_of(member, "address"));
        json_array_foreach((json_t *)(uintptr_t)disks, d, disk)
        {
            TIDE_CHECK(name_parse(json_string_value(disk), &name));
            text_add(to, "      - \"%s\"\n", json_string_value(disk));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct text text;
    json_t *group = NULL;
    json_t *again = NULL;
    struct err err = {0};
    if (group_file_parse(PATH, (const char *)data, size, &group, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CONFIG) | FUZZ_CODE(LIMIT));
        TIDE_CHECK(group == NULL);
        if (err.code == TIDE_ERR_CONFIG) {
            text_names(&err, PATH);
        }
        return 0;
    }
    write_out(group, &text);
    if (group_file_parse(PATH, text.bytes, text.used, &again, &err) != 0) {
        fprintf(stderr, "%s\n%.*s", err.text, (int)text.used, text.bytes);
        abort();
    }
    TIDE_CHECK(json_equal(group, again) == 1);
    json_decref(group);
    json_decref(again);
    return 0;
}
