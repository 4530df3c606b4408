/* SPDX-License-Identifier: Apache-2.0 */
/* definition: the limits, what may not repeat, and the flat numbering of disks. */
#include "common/core/definition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct definition *make(void)
{
    struct definition *d = malloc(sizeof *d);
    struct id group;
    struct name name;
    assert_non_null(d);
    memset(group.b, 1, sizeof group.b);
    assert_true(name_parse("shop", &name));
    definition_init(d, &group, &name, 1);
    return d;
}

static struct definition_member member(unsigned number)
{
    struct definition_member m;
    memset(&m, 0, sizeof m);
    snprintf(m.name.s, sizeof m.name.s, "vm%u", number);
    snprintf(m.identity, sizeof m.identity, "spiffe://site/participant/vm%u", number);
    snprintf(m.address, sizeof m.address, "127.0.0.1:20004");
    return m;
}

static struct definition_disk disk(unsigned number)
{
    struct definition_disk d;
    memset(&d, 0, sizeof d);
    snprintf(d.name.s, sizeof d.name.s, "disk%u", number);
    memcpy(d.stream.b, &number, sizeof number);
    d.stream.b[15] = 1;
    d.timeline = d.stream;
    d.disk = d.stream;
    d.disk.b[15] = 2;
    d.size = 1U << 20;
    d.block_size = 4096;
    return d;
}

static void add(struct definition *d, unsigned members, unsigned disks)
{
    struct err err;
    for (unsigned m = 0; m < members; m++) {
        struct definition_member one = member(m);
        assert_int_equal(definition_add_member(d, &one, &err), 0);
        for (unsigned i = 0; i < disks; i++) {
            struct definition_disk two = disk(m * disks + i);
            assert_int_equal(definition_add_disk(d, &two, &err), 0);
        }
    }
}

static void flat(void **state)
{
    (void)state;
    struct definition *d = make();
    struct err err;
    add(d, 4, 3);
    assert_int_equal(definition_check(d, &err), 0);
    assert_int_equal(d->disk_count, 12);
    assert_int_equal(definition_candidates(d), 3);
    struct name name = member(2).name;
    assert_int_equal(definition_find_member(d, &name), 2);
    assert_int_equal(d->members[2].disk_first, 6);
    name = disk(7).name;
    assert_int_equal(definition_find_disk(d, 2, &name), 7);
    assert_int_equal(definition_find_disk(d, 1, &name), -1);
    assert_int_equal(d->disks[7].member, 2);
    struct id stream = disk(11).stream;
    assert_int_equal(definition_find_stream(d, &stream), 11);
    stream = disk(12).stream;
    assert_int_equal(definition_find_stream(d, &stream), -1);
    struct set set;
    set_init(&set, d->disk_count);
    definition_set_member(d, 2, &set);
    assert_int_equal(set_size(&set), 3);
    assert_true(set_has(&set, 6) && set_has(&set, 8) && !set_has(&set, 9));
    assert_true(definition_set_has_member(d, 2, &set));
    assert_false(definition_set_has_member(d, 3, &set));
    free(d);
}

static void limits(void **state)
{
    (void)state;
    struct definition *d = make();
    struct err err;
    add(d, TIDE_MEMBERS_MAX, TIDE_DISKS_MAX / TIDE_MEMBERS_MAX);
    assert_int_equal(definition_check(d, &err), 0);
    struct definition_member m = member(TIDE_MEMBERS_MAX);
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    struct definition_disk one = disk(TIDE_DISKS_MAX);
    assert_int_equal(definition_add_disk(d, &one, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_int_equal(d->disk_count, TIDE_DISKS_MAX);
    free(d);

    d = make();
    add(d, 1, TIDE_MEMBER_DISKS_MAX);
    one = disk(TIDE_MEMBER_DISKS_MAX);
    assert_int_equal(definition_add_disk(d, &one, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    free(d);
}

static void bad_disk(struct definition *d, struct definition_disk one, enum err_code code)
{
    struct err err;
    unsigned before = d->disk_count;
    assert_int_equal(definition_add_disk(d, &one, &err), -1);
    assert_int_equal(err.code, code);
    assert_int_equal(d->disk_count, before);
}

static void refused(void **state)
{
    (void)state;
    struct definition *d = make();
    struct err err;
    assert_int_equal(definition_check(d, &err), -1); /* no member */
    struct definition_member m = member(0);
    assert_int_equal(definition_add_member(d, &m, &err), 0);
    assert_int_equal(definition_check(d, &err), -1); /* without a disk */
    assert_non_null(strstr(err.text, "vm0"));
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    m = member(1);
    m.name.s[0] = 'X';
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    m = member(1);
    memset(m.name.s, 'a', sizeof m.name.s); /* no end */
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    m = member(1);
    m.address[0] = '\0';
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    m = member(1);
    memset(m.identity, 'a', sizeof m.identity);
    assert_int_equal(definition_add_member(d, &m, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_int_equal(d->member_count, 1);

    struct definition_disk one = disk(0);
    assert_int_equal(definition_add_disk(d, &one, &err), 0);
    bad_disk(d, one, TIDE_ERR_CONFLICT); /* the name */
    one = disk(1);
    one.stream = disk(0).stream;
    bad_disk(d, one, TIDE_ERR_CONFLICT);
    one = disk(1);
    one.disk = disk(0).disk;
    bad_disk(d, one, TIDE_ERR_CONFLICT);
    one = disk(1);
    memset(&one.stream, 0, sizeof one.stream);
    bad_disk(d, one, TIDE_ERR_CORRUPT);
    one = disk(1);
    one.size = 0;
    bad_disk(d, one, TIDE_ERR_CORRUPT);
    one = disk(1);
    one.block_size = 1000;
    bad_disk(d, one, TIDE_ERR_CORRUPT);
    one = disk(1);
    one.name.s[0] = '\0';
    bad_disk(d, one, TIDE_ERR_CORRUPT);
    assert_int_equal(definition_check(d, &err), 0);
    d->epoch.number = 0;
    assert_int_equal(definition_check(d, &err), -1);
    free(d);
}

static void policies(void **state)
{
    (void)state;
    struct policy p;
    struct err err;
    policy_init(&p);
    assert_int_equal(p.interval_ms, 5000);
    assert_int_equal(p.hold_us_max, 50000);
    assert_int_equal(p.missing, POLICY_MISSING_STRICT);
    assert_int_equal(policy_check(&p, &err), 0);
    static const uint64_t intervals[] = {0, 999, 86400001, UINT64_MAX};
    for (unsigned i = 0; i < 4; i++) {
        policy_init(&p);
        p.interval_ms = intervals[i];
        assert_int_equal(policy_check(&p, &err), -1);
        assert_int_equal(err.code, TIDE_ERR_LIMIT);
    }
    static const uint32_t holds[] = {0, 4999, 300001, UINT32_MAX};
    for (unsigned i = 0; i < 4; i++) {
        policy_init(&p);
        p.hold_us_max = holds[i];
        assert_int_equal(policy_check(&p, &err), -1);
    }
    policy_init(&p);
    p.missing = (enum policy_missing)3;
    assert_int_equal(policy_check(&p, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat),
        cmocka_unit_test(limits),
        cmocka_unit_test(refused),
        cmocka_unit_test(policies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
