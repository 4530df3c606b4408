/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/intake/group_file: a good file, and each kind of bad one with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/intake/group_file.h"

#define GOOD                                                                                       \
    "group: shop\n"                                                                                \
    "interval: 5s\n"                                                                               \
    "hold-max: 80ms\n"                                                                             \
    "missing: partial\n"                                                                           \
    "members:\n"                                                                                   \
    "  - name: web\n"                                                                              \
    "    participant: spiffe://lab/participant/web\n"                                              \
    "    address: 127.0.0.11:20004\n"                                                              \
    "    disks: [data, log]\n"

static void a_good_file_is_taken(void **state)
{
    json_t *group = NULL;
    struct err err = {0};
    (void)state;
    if (group_file_parse("g.yaml", GOOD, strlen(GOOD), &group, &err) < 0) {
        fail_msg("%s", err.text);
    }
    json_t *expected = json_pack(
        "{s:s, s:i, s:i, s:s, s:[{s:s, s:s, s:s, s:[s, s]}]}", "group", "shop", "interval_ms", 5000,
        "hold_us_max", 80000, "missing", "partial", "members", "name", "web", "participant",
        "spiffe://lab/participant/web", "address", "127.0.0.11:20004", "disks", "data", "log");
    assert_true(json_equal(group, expected));
    json_decref(group);
    json_decref(expected);
}

static void defaults_are_the_policys(void **state)
{
    static const char text[] = "group: a\nmembers: [{name: b, participant: "
                               "\"spiffe://s/participant/b\", address: \"1.2.3.4:5\", disks: [c]}]";
    json_t *group = NULL;
    struct err err = {0};
    (void)state;
    if (group_file_parse("g.yaml", text, strlen(text), &group, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(json_integer_value(json_object_get(group, "interval_ms")), 5000);
    assert_int_equal(json_integer_value(json_object_get(group, "hold_us_max")), 50000);
    assert_string_equal(json_string_value(json_object_get(group, "missing")), "strict");
    json_decref(group);
}

/* GOOD with `from` replaced by `to` must fail with FILE:line and the words. */
struct bad {
    const char *from;
    const char *to;
    const char *place;
    const char *words;
};

static void bad_files_name_their_line(void **state)
{
    static const struct bad all[] = {
        {"interval: 5s", "interval: 5", "g.yaml:2: ", "5"},
        {"interval: 5s", "interval: 10ms", "g.yaml:2: ", "1"},
        {"hold-max: 80ms", "hold-max: 2s", "g.yaml:3: ", "hold-max"},
        {"missing: partial", "missing: maybe", "g.yaml:4: ", "strict or partial"},
        {"missing: partial", "misssing: partial", "g.yaml:4: ", "unknown key 'misssing'"},
        {"name: web", "name: We b", "g.yaml:6: ", "not a name"},
        {"    address:", "    colour: red\n    address:", "g.yaml:8: ", "unknown key 'colour'"},
        {"spiffe://lab/participant/web", "spiffe://lab/operator/web",
         "g.yaml:7: ", "spiffe://SITE/participant/ID"},
        {"127.0.0.11:20004", "web.example:20004", "g.yaml:8: ", "numeric IP:port"},
        {"[data, log]", "[data, data]", "g.yaml:9: ", "there twice"},
        {"[data, log]", "[]", "g.yaml:9: ", ""},
        {"[data, log]", "[data, log", "g.yaml:1", "not YAML"},
        {"[data, log]", "[[[[[[data]]]]]]", "g.yaml:9: ", "nested deeper"},
        {"group: shop", "group: &x shop", "g.yaml:", ""},
        {"group: shop\n", "", "g.yaml:", "group"},
        {"log]\n",
         "log]\n  - name: web\n    participant: spiffe://lab/participant/b\n    address: "
         "1.2.3.4:5\n    disks: [a]\n",
         "g.yaml:10: ", "there twice"},
        {"log]\n",
         "log]\n  - name: b\n    participant: spiffe://lab/participant/b\n    address: "
         "127.0.0.11:20004\n    disks: [a]\n",
         "g.yaml:12: ", "one address"},
    };
    (void)state;
    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        char text[2048];
        json_t *group = NULL;
        struct err err = {0};
        const char *at = strstr(GOOD, all[k].from);
        assert_non_null(at);
        int n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, all[k].to,
                         at + strlen(all[k].from));
        if (strchr(all[k].to, '&') != NULL) {
            char *name = strstr(text, "name: web");
            memcpy(name, "name: *x ", 9);
        }
        if (group_file_parse("g.yaml", text, (size_t)n, &group, &err) == 0) {
            fail_msg("case %zu (%s) was taken", k, all[k].to);
        }
        if (strncmp(err.text, all[k].place, strlen(all[k].place)) != 0 ||
            strstr(err.text, all[k].words) == NULL || err.code != TIDE_ERR_CONFIG) {
            fail_msg("case %zu (%s): %s", k, all[k].to, err.text);
        }
    }
}

static void odd_texts_do_no_harm(void **state)
{
    static const char *const all[] = {"",
                                      "\n",
                                      "3",
                                      "[]",
                                      "{}",
                                      "- a",
                                      "group",
                                      "%",
                                      "\xff\xfe",
                                      "? [a]: b",
                                      "a: b\n---\nc: d",
                                      "{[a]: b}",
                                      "\t"};
    (void)state;
    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        json_t *group = NULL;
        struct err err = {0};
        assert_int_equal(group_file_parse("g.yaml", all[k], strlen(all[k]), &group, &err), -1);
        assert_true(strncmp(err.text, "g.yaml", 6) == 0);
    }
    for (size_t k = 0; k < strlen(GOOD) - 8; k++) {
        json_t *group = NULL;
        struct err err = {0};
        (void)group_file_parse("g.yaml", GOOD, k, &group, &err);
        json_decref(group);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_is_taken),
        cmocka_unit_test(defaults_are_the_policys),
        cmocka_unit_test(bad_files_name_their_line),
        cmocka_unit_test(odd_texts_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
