/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/config.h"
#include "participant/core/window.h"
#include "participant/hours.h"

#define KEYS                                                                                       \
    "identity-cert, identity-key, ca, listen, coordinator, coordinator-identity, state, local, "   \
    "compare-rate, in-flight, bandwidth, bandwidth-hours"

/* What is only known once the whole file is read. */
struct draft {
    struct settings settings;
    int participant_line; /* 0: no such section */
    bool listen_seen;
    bool coordinator_seen;
    bool bandwidth_seen;
    struct name disk_group[SETTINGS_DISKS_MAX];
    struct name disk_member[SETTINGS_DISKS_MAX];
};

/* Splits "a/b/c" into exactly `count` names. */
static bool split_names(const char *text, unsigned count, struct name *const *ret)
{
    for (unsigned i = 0; i < count; i++) {
        const char *end = strchr(text, '/');
        size_t size = end ? (size_t)(end - text) : strlen(text);
        char part[TIDE_NAME_MAX + 1];
        if ((end == NULL) != (i + 1 == count) || size > TIDE_NAME_MAX) {
            return false;
        }
        memcpy(part, text, size);
        part[size] = '\0';
        if (!name_parse(part, ret[i])) {
            return false;
        }
        text += size + 1;
    }
    return true;
}

static int begin_member(struct draft *draft, const char *rest, int line, struct err *err)
{
    struct settings *s = &draft->settings;
    struct settings_member member = {.line = line};
    struct name *const parts[] = {&member.group, &member.name};
    if (!split_names(rest, 2, parts)) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "section [member %s]: expected [member GROUP/NAME] with names of a-z, 0-9, "
                       "'.', '_', '-'",
                       rest);
    }
    for (unsigned i = 0; i < s->member_count; i++) {
        if (name_equal(&s->members[i].group, &member.group) &&
            name_equal(&s->members[i].name, &member.name)) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "section [member %s] is there twice, first on line %d; remove one", rest,
                           s->members[i].line);
        }
    }
    if (s->member_count == SETTINGS_MEMBERS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "more than %u members; expected at most that",
                       SETTINGS_MEMBERS_MAX);
    }
    s->members[s->member_count++] = member;
    return 0;
}

static int begin_disk(struct draft *draft, const char *rest, int line, struct err *err)
{
    struct settings *s = &draft->settings;
    struct name group;
    struct name member;
    struct settings_disk disk = {.line = line};
    struct name *const parts[] = {&group, &member, &disk.name};
    if (!split_names(rest, 3, parts)) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "section [disk %s]: expected [disk GROUP/MEMBER/DISK] with names of a-z, "
                       "0-9, '.', '_', '-'",
                       rest);
    }
    for (unsigned i = 0; i < s->disk_count; i++) {
        if (name_equal(&draft->disk_group[i], &group) &&
            name_equal(&draft->disk_member[i], &member) &&
            name_equal(&s->disks[i].name, &disk.name)) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "section [disk %s] is there twice, first on line %d; remove one", rest,
                           s->disks[i].line);
        }
    }
    if (s->disk_count == SETTINGS_DISKS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "more than %u disks; expected at most that",
                       SETTINGS_DISKS_MAX);
    }
    draft->disk_group[s->disk_count] = group;
    draft->disk_member[s->disk_count] = member;
    s->disks[s->disk_count++] = disk;
    return 0;
}

static int take_address(const struct config_entry *entry, bool *seen, struct address *ret,
                        struct err *err)
{
    if (*seen) {
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" is there twice; remove one", entry->key);
    }
    if (address_parse(entry->value, false, ret, err) != 0) {
        return err_wrap(err, "key \"%s\"", entry->key);
    }
    *seen = true;
    return 0;
}

static int take_coordinator_uri(const struct config_entry *entry, struct settings *s,
                                struct err *err)
{
    struct tls_name name;
    if (config_text(entry, s->coordinator_uri, sizeof s->coordinator_uri, err) != 0) {
        return -1;
    }
    if (tls_name_parse(s->coordinator_uri, &name, err) != 0) {
        return err_wrap(err, "key \"%s\"", entry->key);
    }
    if (name.role != TLS_COORDINATOR) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "key \"%s\": \"%s\" is not a coordinator; expected "
                       "spiffe://SITE/coordinator/ID",
                       entry->key, s->coordinator_uri);
    }
    return 0;
}

static int take_compare_rate(const struct config_entry *entry, struct settings *s, struct err *err)
{
    if (s->compare_rate != 0) {
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" is there twice; remove one", entry->key);
    }
    if (config_parse_size(entry->value, SETTINGS_COMPARE_MIN, SETTINGS_COMPARE_MAX,
                          &s->compare_rate, err) != 0) {
        return err_wrap(err, "key \"%s\"", entry->key);
    }
    return 0;
}

/* How it ships. 1: the key is none of these. */
static int take_shipping(struct draft *draft, const struct config_entry *entry, struct err *err)
{
    struct settings *s = &draft->settings;
    uint64_t number = 0;
    int result = 1;
    bool again = false;
    if (strcmp(entry->key, "in-flight") == 0) {
        again = s->in_flight != 0;
        result = config_parse_number(entry->value, 1, TIDE_WINDOW_MAX, &number, err);
        s->in_flight = (unsigned)number;
    } else if (strcmp(entry->key, "bandwidth") == 0) {
        again = draft->bandwidth_seen;
        draft->bandwidth_seen = true;
        result = hours_parse_size(entry->value, &s->bandwidth.usual.limit, err);
    } else if (strcmp(entry->key, "bandwidth-hours") == 0) {
        again = s->bandwidth.count > 0;
        result = hours_parse(entry->value, &s->bandwidth, err);
    }
    if (again) {
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" is there twice; remove one", entry->key);
    }
    return result < 0 ? err_wrap(err, "key \"%s\"", entry->key) : result;
}

static int take_participant(struct draft *draft, const struct config_entry *entry, struct err *err)
{
    struct settings *s = &draft->settings;
    const char *key = entry->key;
    if (strcmp(key, "identity-cert") == 0) {
        return config_path(entry, s->identity_cert, sizeof s->identity_cert, err);
    }
    if (strcmp(key, "identity-key") == 0) {
        return config_path(entry, s->identity_key, sizeof s->identity_key, err);
    }
    if (strcmp(key, "ca") == 0) {
        return config_path(entry, s->ca, sizeof s->ca, err);
    }
    if (strcmp(key, "state") == 0) {
        return config_path(entry, s->state, sizeof s->state, err);
    }
    if (strcmp(key, "local") == 0) {
        return config_path(entry, s->local, sizeof s->local, err);
    }
    if (strcmp(key, "listen") == 0) {
        return take_address(entry, &draft->listen_seen, &s->listen, err);
    }
    if (strcmp(key, "coordinator") == 0) {
        return take_address(entry, &draft->coordinator_seen, &s->coordinator, err);
    }
    if (strcmp(key, "coordinator-identity") == 0) {
        return take_coordinator_uri(entry, s, err);
    }
    if (strcmp(key, "compare-rate") == 0) {
        return take_compare_rate(entry, s, err);
    }
    int result = take_shipping(draft, entry, err);
    return result <= 0 ? result : config_unknown(entry, KEYS, err);
}

static int take_entry(void *arg, const struct config_entry *entry, struct err *err)
{
    struct draft *draft = arg;
    struct settings *s = &draft->settings;
    const char *member = config_section_rest(entry->section, "member");
    const char *disk = config_section_rest(entry->section, "disk");
    if (strcmp(entry->section, "participant") == 0) {
        if (entry->key == NULL) {
            draft->participant_line = entry->line;
            return 0;
        }
        return take_participant(draft, entry, err);
    }
    if (member != NULL) {
        if (entry->key == NULL) {
            return begin_member(draft, member, entry->line, err);
        }
        return err_set(err, TIDE_ERR_CONFIG,
                       "unknown key \"%s\" in section [%s]; expected none: a member's disks have "
                       "sections [disk GROUP/MEMBER/DISK] of their own",
                       entry->key, entry->section);
    }
    if (disk != NULL) {
        if (entry->key == NULL) {
            return begin_disk(draft, disk, entry->line, err);
        }
        if (strcmp(entry->key, "tap") == 0) {
            TIDE_CHECK(s->disk_count > 0);
            struct settings_disk *last = &s->disks[s->disk_count - 1];
            return config_path(entry, last->tap, sizeof last->tap, err);
        }
        return config_unknown(entry, "tap", err);
    }
    return err_set(err, TIDE_ERR_CONFIG,
                   "unknown section [%s]; expected [participant], [member GROUP/NAME] or "
                   "[disk GROUP/MEMBER/DISK]",
                   entry->section);
}

static int check_participant(const struct draft *draft, const char *path, struct err *err)
{
    const struct settings *s = &draft->settings;
    const struct {
        const char *key;
        bool there;
    } needed[] = {
        {"identity-cert", s->identity_cert[0] != '\0'},
        {"identity-key", s->identity_key[0] != '\0'},
        {"ca", s->ca[0] != '\0'},
        {"listen", draft->listen_seen},
        {"coordinator", draft->coordinator_seen},
        {"coordinator-identity", s->coordinator_uri[0] != '\0'},
        {"state", s->state[0] != '\0'},
    };
    if (draft->participant_line == 0) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "%s:1: no section [participant]; expected one with the keys %s", path, KEYS);
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (!needed[i].there) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "%s:%d: section [participant] has no key \"%s\"; expected the keys %s",
                           path, draft->participant_line, needed[i].key, KEYS);
        }
    }
    return 0;
}

static int check_disks(struct draft *draft, const char *path, struct err *err)
{
    struct settings *s = &draft->settings;
    bool used[SETTINGS_MEMBERS_MAX] = {false};
    if (s->member_count == 0) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "%s:%d: no member; expected at least one section [member GROUP/NAME]", path,
                       draft->participant_line);
    }
    for (unsigned i = 0; i < s->disk_count; i++) {
        struct settings_disk *disk = &s->disks[i];
        unsigned m = 0;
        while (m < s->member_count && !(name_equal(&s->members[m].group, &draft->disk_group[i]) &&
                                        name_equal(&s->members[m].name, &draft->disk_member[i]))) {
            m++;
        }
        if (m == s->member_count) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "%s:%d: disk \"%s\" is of a member that is not here; expected a section "
                           "[member %s/%s]",
                           path, disk->line, disk->name.s, draft->disk_group[i].s,
                           draft->disk_member[i].s);
        }
        if (disk->tap[0] == '\0') {
            return err_set(err, TIDE_ERR_CONFIG,
                           "%s:%d: disk \"%s\" has no key \"tap\"; expected the path of its tap's "
                           "control socket",
                           path, disk->line, disk->name.s);
        }
        for (unsigned k = 0; k < i; k++) {
            if (strcmp(s->disks[k].tap, disk->tap) == 0) {
                return err_set(err, TIDE_ERR_CONFIG,
                               "%s:%d: disk \"%s\" has the tap of the disk on line %d; expected a "
                               "tap of its own",
                               path, disk->line, disk->name.s, s->disks[k].line);
            }
        }
        disk->member = m;
        used[m] = true;
    }
    for (unsigned m = 0; m < s->member_count; m++) {
        if (!used[m]) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "%s:%d: member \"%s/%s\" has no disk; expected a section "
                           "[disk %s/%s/DISK]",
                           path, s->members[m].line, s->members[m].group.s, s->members[m].name.s,
                           s->members[m].group.s, s->members[m].name.s);
        }
    }
    return 0;
}

int settings_load(const char *path, struct settings *ret, struct err *err)
{
    struct draft *draft = calloc(1, sizeof *draft);
    int result = -1;
    if (draft == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "%s: no memory to read it", path);
    }
    if (config_load(path, take_entry, draft, err) != 0 ||
        check_participant(draft, path, err) != 0 || check_disks(draft, path, err) != 0) {
        goto out;
    }
    if (draft->settings.local[0] == '\0') {
        snprintf(draft->settings.local, sizeof draft->settings.local, "%s", LOCAL_PARTICIPANT);
    }
    if (draft->settings.compare_rate == 0) {
        draft->settings.compare_rate = SETTINGS_COMPARE;
    }
    if (draft->settings.in_flight == 0) {
        draft->settings.in_flight = SETTINGS_IN_FLIGHT;
    }
    *ret = draft->settings;
    result = 0;
out:
    free(draft);
    return result;
}
