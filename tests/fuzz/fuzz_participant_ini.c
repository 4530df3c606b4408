/* SPDX-License-Identifier: Apache-2.0 */
/* participant/settings. Input: the file. What loads keeps its bounds, and written out again it
 * loads to the same. */
#include "participant/settings.h"

#include "tests/fuzz/text.h"

static void write_hours(const struct bandwidth_rules *b, struct text *to)
{
    for (unsigned i = 0; i < b->count; i++) {
        const struct bandwidth_hours *h = &b->hours[i];
        text_add(to, "%s%02u:%02u-%02u:%02u ", i == 0 ? "bandwidth-hours = " : ",", h->from / 60U,
                 h->from % 60U, h->to / 60U, h->to % 60U);
        if (h->rule.off) {
            text_add(to, "off");
        } else {
            text_add(to, "%llu", (unsigned long long)h->rule.limit);
        }
    }
    text_add(to, "\n");
}

static void write_out(const struct settings *s, struct text *to)
{
    char listen[ADDRESS_TEXT_MAX];
    char coordinator[ADDRESS_TEXT_MAX];
    to->used = 0;
    text_add(to, "[participant]\nidentity-cert = %s\nidentity-key = %s\nca = %s\n",
             s->identity_cert, s->identity_key, s->ca);
    text_add(to, "listen = %s\ncoordinator = %s\n", address_text(&s->listen, listen),
             address_text(&s->coordinator, coordinator));
    text_add(to, "coordinator-identity = %s\nstate = %s\nlocal = %s\n", s->coordinator_uri,
             s->state, s->local);
    text_add(to, "compare-rate = %llu\n", (unsigned long long)s->compare_rate);
    text_add(to, "in-flight = %u\nbandwidth = %llu\n", s->in_flight,
             (unsigned long long)s->bandwidth.usual.limit);
    write_hours(&s->bandwidth, to);
    for (unsigned i = 0; i < s->member_count; i++) {
        text_add(to, "[member %s/%s]\n", s->members[i].group.s, s->members[i].name.s);
    }
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct settings_member *m = &s->members[s->disks[i].member];
        text_add(to, "[disk %s/%s/%s]\ntap = %s\n", m->group.s, m->name.s, s->disks[i].name.s,
                 s->disks[i].tap);
    }
}

static void check(const struct settings *s)
{
    struct name name;
    bool has_disk[SETTINGS_MEMBERS_MAX] = {false};
    const char *const paths[] = {s->identity_cert, s->identity_key, s->ca, s->state, s->local};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        TIDE_CHECK(paths[i][0] == '/');
    }
    TIDE_CHECK(s->in_flight >= 1 && s->in_flight <= 16);
    for (unsigned i = 0; i < TIDE_BANDWIDTH_DAY; i++) {
        TIDE_CHECK(bandwidth_rule(&s->bandwidth, i).limit <= TIDE_BANDWIDTH_MAX);
    }
    TIDE_CHECK(strncmp(s->coordinator_uri, "spiffe://", 9) == 0);
    TIDE_CHECK(s->compare_rate >= SETTINGS_COMPARE_MIN && s->compare_rate <= SETTINGS_COMPARE_MAX);
    TIDE_CHECK(s->member_count >= 1 && s->member_count <= SETTINGS_MEMBERS_MAX);
    TIDE_CHECK(s->disk_count >= 1 && s->disk_count <= SETTINGS_DISKS_MAX);
    for (unsigned i = 0; i < s->disk_count; i++) {
        const struct settings_disk *d = &s->disks[i];
        TIDE_CHECK(d->member < s->member_count && name_parse(d->name.s, &name));
        TIDE_CHECK(d->tap[0] == '/' && strlen(d->tap) <= SETTINGS_SOCKET_MAX);
        has_disk[d->member] = true;
    }
    for (unsigned i = 0; i < s->member_count; i++) {
        TIDE_CHECK(has_disk[i] && name_parse(s->members[i].name.s, &name) &&
                   name_parse(s->members[i].group.s, &name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct settings s;
    static struct text first;
    static struct text second;
    struct err err = {0};
    const char *path = text_file(data, size);
    memset(&s, FUZZ_FILL, sizeof s);
    if (settings_load(path, &s, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CONFIG) | FUZZ_CODE(LIMIT));
        text_names(&err, path);
        fuzz_untouched(&s, sizeof s);
        return 0;
    }
    check(&s);
    write_out(&s, &first);
    path = text_file(first.bytes, first.used);
    if (settings_load(path, &s, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    write_out(&s, &second);
    TIDE_CHECK(first.used == second.used && memcmp(first.bytes, second.bytes, first.used) == 0);
    return 0;
}
