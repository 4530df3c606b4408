/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/intake.h"

#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/core/sha.h"
#include "proto/intake.pb-c.h"

/* ---- small helpers ---- */

static int finish(const ProtobufCMessage *message, uint8_t **ret_bytes, size_t *ret_size,
                  struct err *err)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > TIDE_INTAKE_BODY_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "message of %zu bytes is over the limit of %u", size,
                       TIDE_INTAKE_BODY_MAX);
    }
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a message of %zu bytes", size);
    }
    size_t packed = protobuf_c_message_pack(message, bytes);
    TIDE_CHECK(packed == size);
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

/* protobuf-c says only that it failed: whether for want of memory, its allocator knows. */
static void *take(void *context, size_t size)
{
    bool *failed = context;
    void *at = malloc(size);
    *failed = *failed || at == NULL;
    return at;
}

static void give(void *context, void *at)
{
    (void)context;
    free(at);
}

static void *unpack(const ProtobufCMessageDescriptor *descriptor, const void *bytes, size_t size,
                    const char *what, struct err *err)
{
    if (size > TIDE_INTAKE_BODY_MAX) {
        err_set(err, TIDE_ERR_LIMIT, "%s of %zu bytes is over the limit of %u", what, size,
                TIDE_INTAKE_BODY_MAX);
        return NULL;
    }
    bool failed = false;
    ProtobufCAllocator allocator = {.alloc = take, .free = give, .allocator_data = &failed};
    ProtobufCMessage *m = protobuf_c_message_unpack(descriptor, &allocator, size, bytes);
    if (m == NULL && failed) {
        err_set(err, TIDE_ERR_LIMIT, "no memory to read %s of %zu bytes", what, size);
    } else if (m == NULL) {
        err_set(err, TIDE_ERR_CORRUPT, "%zu bytes are not a protobuf %s", size, what);
    }
    return m;
}

static void drop(void *message)
{
    if (message != NULL) {
        bool failed = false;
        ProtobufCAllocator allocator = {.alloc = take, .free = give, .allocator_data = &failed};
        protobuf_c_message_free_unpacked(message, &allocator);
    }
}

static int version(uint32_t v, const char *what, struct err *err)
{
    if (v != TIDE_INTAKE_VERSION) {
        return err_set(err, TIDE_ERR_VERSION, "%s of version %u; this build speaks version %u",
                       what, v, TIDE_INTAKE_VERSION);
    }
    return 0;
}

static ProtobufCBinaryData bytes_of(const void *from, size_t size)
{
    /* protobuf-c does not write through it while packing. */
    union {
        const void *in;
        void *out;
    } u = {.in = from};
    return (ProtobufCBinaryData){.len = size, .data = u.out};
}

static char *text_of(const char *from)
{
    union {
        const char *in;
        char *out;
    } u = {.in = from};
    return u.out;
}

static int get_id(const ProtobufCBinaryData *from, const char *what, struct id *ret,
                  struct err *err)
{
    struct id id;
    if (from->len != sizeof(id.b)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s' has %zu bytes, not %u", what, from->len,
                       TIDE_ID_SIZE);
    }
    memcpy(id.b, from->data, sizeof(id.b));
    if (id_is_zero(&id)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s' is all zeroes", what);
    }
    *ret = id;
    return 0;
}

static int get_name(const char *from, const char *what, struct name *ret, struct err *err)
{
    if (!name_parse(from, ret)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'%s' is not a name ([a-z0-9] first, then [a-z0-9._-], %d bytes at most)",
                       what, TIDE_NAME_MAX);
    }
    return 0;
}

/* Copies a text for people: at most room - 1 bytes (LIMIT is CORRUPT here), no control characters.
 */
static int get_text(const char *from, const char *what, char *ret, size_t room, struct err *err)
{
    size_t size = strlen(from);
    if (size >= room) {
        return err_set(err, TIDE_ERR_CORRUPT, "'%s' has %zu bytes, over %zu", what, size, room - 1);
    }
    for (size_t k = 0; k < size; k++) {
        unsigned char c = (unsigned char)from[k];
        if (c < 0x20 || c == 0x7f) {
            return err_set(err, TIDE_ERR_CORRUPT, "'%s' has a control character at %zu", what, k);
        }
    }
    memcpy(ret, from, size + 1);
    return 0;
}

static int check_disk_size(uint64_t size, uint32_t block_size, struct err *err)
{
    if (size == 0 || size > TIDE_DISK_SIZE_MAX || size % TIDE_DISK_SIZE_UNIT != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'size' %llu is not a multiple of %u up to 2^60",
                       (unsigned long long)size, TIDE_DISK_SIZE_UNIT);
    }
    if (block_size < 512 || block_size > TIDE_BLOCK_SIZE_MAX ||
        (block_size & (block_size - 1)) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'block_size' %u is not a power of two from 512 to %u", block_size,
                       TIDE_BLOCK_SIZE_MAX);
    }
    return 0;
}

/* ---- texts of a definition ---- */

static bool plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

static size_t span_plain(const char *text)
{
    size_t n = 0;
    while (plain(text[n])) {
        n++;
    }
    return n;
}

bool intake_is_participant(const char *identity)
{
    static const char scheme[] = "spiffe://";
    static const char role[] = "/participant/";
    if (strlen(identity) > TIDE_IDENTITY_MAX ||
        strncmp(identity, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *site = identity + sizeof(scheme) - 1;
    size_t n = span_plain(site);
    if (n == 0 || strncmp(site + n, role, sizeof(role) - 1) != 0) {
        return false;
    }
    const char *id = site + n + sizeof(role) - 1;
    n = span_plain(id);
    return n > 0 && id[n] == '\0';
}

static bool is_port(const char *text)
{
    unsigned port = 0;
    if (text[0] < '1' || text[0] > '9') {
        return false;
    }
    for (; *text >= '0' && *text <= '9'; text++) {
        port = port * 10 + (unsigned)(*text - '0');
        if (port > 65535) {
            return false;
        }
    }
    return *text == '\0';
}

static bool is_v4(const char *text, size_t size)
{
    unsigned parts = 0;
    size_t at = 0;
    while (at < size) {
        unsigned value = 0;
        size_t digits = 0;
        bool zero_first = text[at] == '0';
        while (at < size && text[at] >= '0' && text[at] <= '9' && digits < 4) {
            value = value * 10 + (unsigned)(text[at++] - '0');
            digits++;
        }
        if (digits == 0 || digits > 3 || value > 255 || (zero_first && digits > 1)) {
            return false;
        }
        parts++;
        if (at == size) {
            break;
        }
        if (text[at++] != '.' || at == size) {
            return false;
        }
    }
    return parts == 4;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Eight groups, or fewer with one "::". The form with dots at its end is not taken. */
static bool is_v6(const char *text, size_t size)
{
    bool gap = size >= 2 && text[0] == ':' && text[1] == ':';
    unsigned groups = 0;
    size_t at = gap ? 2 : 0;
    while (at < size) {
        size_t digits = 0;
        while (at < size && digits < 5 && is_hex(text[at])) {
            at++;
            digits++;
        }
        if (digits == 0 || digits > 4) {
            return false;
        }
        groups++;
        if (at == size) {
            break;
        }
        if (text[at++] != ':' || at == size) {
            return false;
        }
        if (text[at] == ':') {
            if (gap) {
                return false;
            }
            gap = true;
            at++;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

bool intake_is_address(const char *address)
{
    size_t size = strlen(address);
    const char *colon = strrchr(address, ':');
    if (size > TIDE_ADDRESS_MAX || colon == NULL || !is_port(colon + 1)) {
        return false;
    }
    size_t host = (size_t)(colon - address);
    if (host > 2 && address[0] == '[' && address[host - 1] == ']') {
        return is_v6(address + 1, host - 2);
    }
    return is_v4(address, host);
}

/* ---- Register ---- */

int intake_register_encode(const struct intake_register *from, uint8_t **ret_bytes,
                           size_t *ret_size, struct err *err)
{
    TIDE_CHECK(from->count > 0);
    unsigned count = from->count;
    if (count > TIDE_DISKS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "%u disks to register, over %u", count, TIDE_DISKS_MAX);
    }
    struct room {
        Tide__Intake__RegisterMember members[TIDE_DISKS_MAX];
        Tide__Intake__RegisterMember *member_list[TIDE_DISKS_MAX];
        Tide__Intake__RegisterDisk disks[TIDE_DISKS_MAX];
        Tide__Intake__RegisterDisk *disk_list[TIDE_DISKS_MAX];
    } *room = calloc(1, sizeof(*room));
    if (room == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to register %u disks", count);
    }
    Tide__Intake__Register message = TIDE__INTAKE__REGISTER__INIT;
    message.version = TIDE_INTAKE_VERSION;
    message.members = room->member_list;
    for (unsigned k = 0; k < count; k++) {
        const struct intake_disk *d = &from->disks[k];
        bool same = k > 0 && name_equal(&d->group, &from->disks[k - 1].group) &&
                    name_equal(&d->member, &from->disks[k - 1].member);
        if (!same) {
            Tide__Intake__RegisterMember *m = &room->members[message.n_members];
            tide__intake__register_member__init(m);
            m->group = text_of(d->group.s);
            m->member = text_of(d->member.s);
            m->disks = &room->disk_list[k];
            room->member_list[message.n_members++] = m;
        }
        Tide__Intake__RegisterDisk *r = &room->disks[k];
        tide__intake__register_disk__init(r);
        r->disk = text_of(d->disk.s);
        r->stream = bytes_of(d->stream.b, sizeof(d->stream.b));
        r->timeline = bytes_of(d->timeline.b, sizeof(d->timeline.b));
        r->disk_id = bytes_of(d->disk_id.b, sizeof(d->disk_id.b));
        r->size = d->size;
        r->block_size = d->block_size;
        room->disk_list[k] = r;
        room->members[message.n_members - 1].n_disks++;
    }
    int rc = finish(&message.base, ret_bytes, ret_size, err);
    free(room);
    return rc;
}

static int register_disk(const Tide__Intake__RegisterMember *m,
                         const Tide__Intake__RegisterDisk *from, struct intake_disk *ret,
                         struct err *err)
{
    if (get_name(m->group, "group", &ret->group, err) < 0 ||
        get_name(m->member, "member", &ret->member, err) < 0 ||
        get_name(from->disk, "disk", &ret->disk, err) < 0 ||
        get_id(&from->stream, "stream", &ret->stream, err) < 0 ||
        get_id(&from->timeline, "timeline", &ret->timeline, err) < 0 ||
        get_id(&from->disk_id, "disk_id", &ret->disk_id, err) < 0 ||
        check_disk_size(from->size, from->block_size, err) < 0) {
        return -1;
    }
    ret->size = from->size;
    ret->block_size = from->block_size;
    return 0;
}

static int register_unique(const struct intake_register *r, const struct intake_disk *d,
                           struct err *err)
{
    for (unsigned k = 0; k < r->count; k++) {
        const struct intake_disk *o = &r->disks[k];
        if (id_equal(&o->stream, &d->stream)) {
            return err_set(err, TIDE_ERR_CORRUPT, "disk '%s' and disk '%s' have the same stream",
                           o->disk.s, d->disk.s);
        }
        if (name_equal(&o->group, &d->group) && name_equal(&o->member, &d->member) &&
            name_equal(&o->disk, &d->disk)) {
            return err_set(err, TIDE_ERR_CORRUPT, "disk '%s' of member '%s' is there twice",
                           d->disk.s, d->member.s);
        }
    }
    return 0;
}

static int register_fill(const Tide__Intake__Register *m, struct intake_register *r,
                         struct err *err)
{
    if (version(m->version, "Register", err) < 0) {
        return -1;
    }
    size_t count = 0;
    for (size_t k = 0; k < m->n_members; k++) {
        count += m->members[k]->n_disks;
    }
    if (count == 0 || count > TIDE_DISKS_MAX) {
        return err_set(err, count == 0 ? TIDE_ERR_CORRUPT : TIDE_ERR_LIMIT,
                       "%zu disks to register; 1 to %u are taken", count, TIDE_DISKS_MAX);
    }
    r->disks = calloc(count, sizeof(*r->disks));
    if (r->disks == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to register %zu disks", count);
    }
    for (size_t k = 0; k < m->n_members; k++) {
        for (size_t j = 0; j < m->members[k]->n_disks; j++) {
            struct intake_disk *d = &r->disks[r->count];
            if (register_disk(m->members[k], m->members[k]->disks[j], d, err) < 0 ||
                register_unique(r, d, err) < 0) {
                return -1;
            }
            r->count++;
        }
    }
    return 0;
}

int intake_register_decode(const void *bytes, size_t size, struct intake_register *ret,
                           struct err *err)
{
    struct intake_register r = {0};
    Tide__Intake__Register *m =
        unpack(&tide__intake__register__descriptor, bytes, size, "Register", err);
    if (m == NULL) {
        return -1;
    }
    int rc = register_fill(m, &r, err);
    drop(m);
    if (rc < 0) {
        intake_register_close(&r);
        return -1;
    }
    *ret = r;
    return 0;
}

void intake_register_close(struct intake_register *r)
{
    free(r->disks);
    *r = (struct intake_register){0};
}

/* ---- Definition ---- */

int intake_definition_encode(const struct definition *from, uint8_t **ret_bytes, size_t *ret_size,
                             struct err *err)
{
    TIDE_CHECK(from->member_count <= TIDE_MEMBERS_MAX && from->disk_count <= TIDE_DISKS_MAX);
    struct room {
        Tide__Intake__Member members[TIDE_MEMBERS_MAX];
        Tide__Intake__Member *member_list[TIDE_MEMBERS_MAX];
        Tide__Intake__Disk disks[TIDE_DISKS_MAX];
        Tide__Intake__Disk *disk_list[TIDE_DISKS_MAX];
    } *room = calloc(1, sizeof(*room));
    if (room == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory to encode a definition");
    }
    Tide__Intake__Definition message = TIDE__INTAKE__DEFINITION__INIT;
    message.version = TIDE_INTAKE_VERSION;
    message.group_id = bytes_of(from->group.b, sizeof(from->group.b));
    message.group = text_of(from->group_name.s);
    message.epoch = from->epoch.number;
    message.n_members = from->member_count;
    message.members = room->member_list;
    for (unsigned k = 0; k < from->disk_count; k++) {
        const struct definition_disk *d = &from->disks[k];
        Tide__Intake__Disk *out = &room->disks[k];
        tide__intake__disk__init(out);
        out->name = text_of(d->name.s);
        out->stream = bytes_of(d->stream.b, sizeof(d->stream.b));
        out->timeline = bytes_of(d->timeline.b, sizeof(d->timeline.b));
        out->disk_id = bytes_of(d->disk.b, sizeof(d->disk.b));
        out->size = d->size;
        out->block_size = d->block_size;
        room->disk_list[k] = out;
    }
    for (unsigned k = 0; k < from->member_count; k++) {
        const struct definition_member *m = &from->members[k];
        Tide__Intake__Member *out = &room->members[k];
        tide__intake__member__init(out);
        out->name = text_of(m->name.s);
        out->identity = text_of(m->identity);
        out->address = text_of(m->address);
        out->n_disks = m->disk_count;
        out->disks = &room->disk_list[m->disk_first];
        room->member_list[k] = out;
    }
    int rc = finish(&message.base, ret_bytes, ret_size, err);
    free(room);
    return rc;
}

/* What is named twice is a conflict where a definition is made, and broken bytes here. */
static int named_twice(struct err *err)
{
    if (err != NULL && err->code == TIDE_ERR_CONFLICT) {
        err->code = TIDE_ERR_CORRUPT;
    }
    return -1;
}

static int definition_member(const Tide__Intake__Member *from, struct definition *d,
                             struct err *err)
{
    struct definition_member member = {0};
    if (get_name(from->name, "member", &member.name, err) < 0 ||
        get_text(from->identity, "identity", member.identity, sizeof(member.identity), err) < 0 ||
        get_text(from->address, "address", member.address, sizeof(member.address), err) < 0) {
        return -1;
    }
    if (!intake_is_participant(member.identity)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'identity' of member '%s' is not spiffe://SITE/participant/ID",
                       member.name.s);
    }
    if (!intake_is_address(member.address)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'address' of member '%s' is not numeric IP:port",
                       member.name.s);
    }
    if (definition_add_member(d, &member, err) < 0) {
        return named_twice(err);
    }
    for (size_t k = 0; k < from->n_disks; k++) {
        const Tide__Intake__Disk *in = from->disks[k];
        struct definition_disk disk = {.size = in->size, .block_size = in->block_size};
        if (get_name(in->name, "disk", &disk.name, err) < 0 ||
            get_id(&in->stream, "stream", &disk.stream, err) < 0 ||
            get_id(&in->timeline, "timeline", &disk.timeline, err) < 0 ||
            get_id(&in->disk_id, "disk_id", &disk.disk, err) < 0 ||
            check_disk_size(in->size, in->block_size, err) < 0 ||
            definition_add_disk(d, &disk, err) < 0) {
            (void)named_twice(err);
            return err_wrap(err, "member '%s'", member.name.s);
        }
    }
    return 0;
}

static int definition_fill(const Tide__Intake__Definition *m, struct definition *d, struct err *err)
{
    struct id group;
    struct name name;
    if (version(m->version, "Definition", err) < 0 ||
        get_id(&m->group_id, "group_id", &group, err) < 0 ||
        get_name(m->group, "group", &name, err) < 0) {
        return -1;
    }
    if (m->epoch == 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'epoch' is 0; epochs count from 1");
    }
    definition_init(d, &group, &name, m->epoch);
    for (size_t k = 0; k < m->n_members; k++) {
        if (definition_member(m->members[k], d, err) < 0) {
            return -1;
        }
    }
    return definition_check(d, err);
}

int intake_definition_decode(const void *bytes, size_t size, struct definition *ret,
                             struct err *err)
{
    Tide__Intake__Definition *m =
        unpack(&tide__intake__definition__descriptor, bytes, size, "Definition", err);
    if (m == NULL) {
        return -1;
    }
    struct definition *d = calloc(1, sizeof(*d));
    int rc = -1;
    if (d == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
    } else if (definition_fill(m, d, err) == 0) {
        d->epoch.hash = sha_of(bytes, size);
        *ret = *d;
        rc = 0;
    }
    free(d);
    drop(m);
    return rc;
}

/* ---- Definitions ---- */

static void digest_number(struct sha *sha, uint64_t v)
{
    uint8_t b[8];
    for (unsigned k = 0; k < 8; k++) {
        b[k] = (uint8_t)(v >> (8 * k));
    }
    sha_update(sha, b, sizeof(b));
}

/* Over each group's definition bytes and policy, lengths first. */
static struct hash digest_of(const struct intake_definitions *d)
{
    struct sha sha;
    sha_init(&sha);
    digest_number(&sha, d->count);
    for (unsigned k = 0; k < d->count; k++) {
        const struct intake_issued *g = &d->groups[k];
        digest_number(&sha, g->definition_size);
        sha_update(&sha, g->definition, g->definition_size);
        digest_number(&sha, g->policy.interval_ms);
        digest_number(&sha, g->policy.hold_us_max);
        digest_number(&sha, (uint64_t)g->policy.missing);
    }
    return sha_final(&sha);
}

int intake_definitions_encode(struct intake_definitions *from, uint8_t **ret_bytes,
                              size_t *ret_size, struct err *err)
{
    TIDE_CHECK(from->count <= TIDE_INTAKE_GROUPS_MAX);
    Tide__Intake__Issued issued[TIDE_INTAKE_GROUPS_MAX];
    Tide__Intake__Issued *list[TIDE_INTAKE_GROUPS_MAX];
    Tide__Intake__Policy policies[TIDE_INTAKE_GROUPS_MAX];
    for (unsigned k = 0; k < from->count; k++) {
        const struct intake_issued *g = &from->groups[k];
        tide__intake__issued__init(&issued[k]);
        tide__intake__policy__init(&policies[k]);
        policies[k].interval_ms = g->policy.interval_ms;
        policies[k].hold_us_max = g->policy.hold_us_max;
        policies[k].missing = (uint32_t)g->policy.missing;
        issued[k].definition = bytes_of(g->definition, g->definition_size);
        issued[k].policy = &policies[k];
        list[k] = &issued[k];
    }
    from->digest = digest_of(from);
    Tide__Intake__Definitions message = TIDE__INTAKE__DEFINITIONS__INIT;
    message.version = TIDE_INTAKE_VERSION;
    message.digest = bytes_of(from->digest.b, sizeof(from->digest.b));
    message.n_groups = from->count;
    message.groups = list;
    return finish(&message.base, ret_bytes, ret_size, err);
}

static int issued_fill(const Tide__Intake__Issued *from, struct intake_issued *ret, struct err *err)
{
    if (from->policy == NULL || from->definition.len == 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "an issued group lacks its definition or policy");
    }
    ret->policy = (struct policy){.interval_ms = from->policy->interval_ms,
                                  .hold_us_max = from->policy->hold_us_max,
                                  .missing = POLICY_MISSING_STRICT};
    if (from->policy->missing == POLICY_MISSING_PARTIAL) {
        ret->policy.missing = POLICY_MISSING_PARTIAL;
    } else if (from->policy->missing != POLICY_MISSING_STRICT) {
        return err_set(err, TIDE_ERR_CORRUPT, "'missing' is %u; 1 is strict, 2 is partial",
                       from->policy->missing);
    }
    if (policy_check(&ret->policy, err) < 0) {
        return -1;
    }
    ret->definition = malloc(from->definition.len);
    if (ret->definition == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a definition");
    }
    memcpy(ret->definition, from->definition.data, from->definition.len);
    ret->definition_size = from->definition.len;
    return 0;
}

static int definitions_fill(const Tide__Intake__Definitions *m, struct intake_definitions *d,
                            struct err *err)
{
    if (version(m->version, "Definitions", err) < 0) {
        return -1;
    }
    if (m->digest.len != sizeof(d->digest.b)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'digest' has %zu bytes, not %u", m->digest.len,
                       TIDE_HASH_SIZE);
    }
    if (m->n_groups > TIDE_INTAKE_GROUPS_MAX) {
        return err_set(err, TIDE_ERR_LIMIT, "%zu groups, over %u", m->n_groups,
                       TIDE_INTAKE_GROUPS_MAX);
    }
    d->groups = calloc(m->n_groups + 1, sizeof(*d->groups));
    if (d->groups == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for %zu groups", m->n_groups);
    }
    for (size_t k = 0; k < m->n_groups; k++) {
        if (issued_fill(m->groups[k], &d->groups[k], err) < 0) {
            return -1;
        }
        d->count++;
    }
    d->digest = digest_of(d);
    if (memcmp(d->digest.b, m->digest.data, sizeof(d->digest.b)) != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'digest' is not that of the groups");
    }
    return 0;
}

int intake_definitions_decode(const void *bytes, size_t size, struct intake_definitions *ret,
                              struct err *err)
{
    struct intake_definitions d = {0};
    Tide__Intake__Definitions *m =
        unpack(&tide__intake__definitions__descriptor, bytes, size, "Definitions", err);
    if (m == NULL) {
        return -1;
    }
    int rc = definitions_fill(m, &d, err);
    drop(m);
    if (rc < 0) {
        intake_definitions_close(&d);
        return -1;
    }
    *ret = d;
    return 0;
}

void intake_definitions_close(struct intake_definitions *d)
{
    for (unsigned k = 0; k < d->count; k++) {
        free(d->groups[k].definition);
    }
    free(d->groups);
    *d = (struct intake_definitions){0};
}

/* ---- StreamState ---- */

int intake_stream_state_encode(const struct intake_stream_state *from, uint8_t **ret_bytes,
                               size_t *ret_size, struct err *err)
{
    Tide__Intake__StreamState message = TIDE__INTAKE__STREAM_STATE__INIT;
    message.version = TIDE_INTAKE_VERSION;
    message.received_lsn = from->received_lsn;
    message.stored_lsn = from->stored_lsn;
    if (!hash_is_zero(&from->head)) {
        message.head_hash = bytes_of(from->head.b, sizeof(from->head.b));
    }
    message.code = (uint32_t)from->code;
    message.text = text_of(from->text);
    message.forked = from->forked;
    return finish(&message.base, ret_bytes, ret_size, err);
}

static int stream_state_fill(const Tide__Intake__StreamState *m, struct intake_stream_state *ret,
                             struct err *err)
{
    struct intake_stream_state s = {
        .received_lsn = m->received_lsn, .stored_lsn = m->stored_lsn, .forked = m->forked != 0};
    if (version(m->version, "StreamState", err) < 0 ||
        get_text(m->text, "text", s.text, sizeof(s.text), err) < 0) {
        return -1;
    }
    if (s.stored_lsn > s.received_lsn) {
        return err_set(err, TIDE_ERR_CORRUPT, "'stored_lsn' %llu is over 'received_lsn' %llu",
                       (unsigned long long)s.stored_lsn, (unsigned long long)s.received_lsn);
    }
    if (m->code > (uint32_t)TIDE_ERR_UNKNOWN) {
        return err_set(err, TIDE_ERR_CORRUPT, "'code' %u is not an error code", m->code);
    }
    s.code = (enum err_code)m->code;
    if (m->head_hash.len == sizeof(s.head.b)) {
        memcpy(s.head.b, m->head_hash.data, sizeof(s.head.b));
    } else if (m->head_hash.len != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'head_hash' has %zu bytes, not 0 or %u",
                       m->head_hash.len, TIDE_HASH_SIZE);
    }
    *ret = s;
    return 0;
}

int intake_stream_state_decode(const void *bytes, size_t size, struct intake_stream_state *ret,
                               struct err *err)
{
    Tide__Intake__StreamState *m =
        unpack(&tide__intake__stream_state__descriptor, bytes, size, "StreamState", err);
    if (m == NULL) {
        return -1;
    }
    int rc = stream_state_fill(m, ret, err);
    drop(m);
    return rc;
}

/* ---- BlockHashes ---- */

/* A decimal number below 2^63 without leading zeroes. */
static bool get_number(const char *text, uint64_t *ret)
{
    size_t size = text == NULL ? 0 : strlen(text);
    if (size == 0 || size > 19 || strspn(text, "0123456789") != size ||
        (text[0] == '0' && size > 1)) {
        return false;
    }
    *ret = 0;
    for (; *text != '\0'; text++) {
        *ret = *ret * 10 + (uint64_t)(*text - '0');
    }
    return *ret <= INT64_MAX;
}

int intake_hashes_query_parse(const char *lsn, const char *offset, const char *count,
                              struct intake_hashes_query *ret, struct err *err)
{
    struct intake_hashes_query q = {0};
    uint64_t blocks = 0;
    if (!get_number(lsn, &q.lsn)) {
        return err_set(err, TIDE_ERR_CORRUPT, "'lsn' is not a number from 0 to 2^63 - 1");
    }
    if (!get_number(offset, &q.offset) || q.offset % TIDE_INTAKE_BLOCK != 0) {
        return err_set(err, TIDE_ERR_CORRUPT, "'offset' is not a multiple of %u from 0 to 2^63 - 1",
                       TIDE_INTAKE_BLOCK);
    }
    if (!get_number(count, &blocks) || blocks < 1 || blocks > TIDE_INTAKE_BLOCKS_MAX) {
        return err_set(err, TIDE_ERR_CORRUPT, "'count' is not a number from 1 to %u",
                       TIDE_INTAKE_BLOCKS_MAX);
    }
    q.count = (uint32_t)blocks;
    *ret = q;
    return 0;
}

/* What is wrong with it, or NULL. */
static const char *wrong_hashes(uint64_t lsn, uint64_t size, uint64_t offset, size_t count)
{
    if (lsn < 1 || lsn > INT64_MAX) {
        return "lsn";
    }
    if (size < 1 || size > INT64_MAX) {
        return "size";
    }
    if (offset > INT64_MAX || offset % TIDE_INTAKE_BLOCK != 0) {
        return "offset";
    }
    if (count > TIDE_INTAKE_BLOCKS_MAX ||
        (count > 0 && (offset >= size || (size - offset - 1) / TIDE_INTAKE_BLOCK + 1 < count))) {
        return "hashes";
    }
    return NULL;
}

int intake_block_hashes_encode(const struct intake_block_hashes *from, uint8_t **ret_bytes,
                               size_t *ret_size, struct err *err)
{
    Tide__Intake__BlockHashes message = TIDE__INTAKE__BLOCK_HASHES__INIT;
    TIDE_CHECK(wrong_hashes(from->lsn, from->size, from->offset, from->count) == NULL);
    message.version = TIDE_INTAKE_VERSION;
    message.lsn = from->lsn;
    message.size = from->size;
    message.offset = from->offset;
    message.block_size = TIDE_INTAKE_BLOCK;
    message.hashes = bytes_of(from->hashes, from->count * sizeof(from->hashes[0]));
    return finish(&message.base, ret_bytes, ret_size, err);
}

static int block_hashes_fill(const Tide__Intake__BlockHashes *m, struct intake_block_hashes *ret,
                             struct err *err)
{
    if (version(m->version, "BlockHashes", err) < 0) {
        return -1;
    }
    if (m->block_size != TIDE_INTAKE_BLOCK) {
        return err_set(err, TIDE_ERR_CORRUPT, "'block_size' is %u, not %u", m->block_size,
                       TIDE_INTAKE_BLOCK);
    }
    if (m->hashes.len % sizeof(ret->hashes[0]) != 0 || m->hashes.len > sizeof(ret->hashes)) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'hashes' has %zu bytes, not a multiple of %u up to %zu", m->hashes.len,
                       TIDE_HASH_SIZE, sizeof(ret->hashes));
    }
    size_t count = m->hashes.len / sizeof(ret->hashes[0]);
    const char *wrong = wrong_hashes(m->lsn, m->size, m->offset, count);
    if (wrong != NULL) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "'%s' is out of range: %zu blocks at %llu of a disk of %llu bytes at LSN "
                       "%llu",
                       wrong, count, (unsigned long long)m->offset, (unsigned long long)m->size,
                       (unsigned long long)m->lsn);
    }
    ret->lsn = m->lsn;
    ret->size = m->size;
    ret->offset = m->offset;
    ret->count = (uint32_t)count;
    if (m->hashes.len > 0) {
        memcpy(ret->hashes, m->hashes.data, m->hashes.len);
    }
    return 0;
}

int intake_block_hashes_decode(const void *bytes, size_t size, struct intake_block_hashes *ret,
                               struct err *err)
{
    Tide__Intake__BlockHashes *m =
        unpack(&tide__intake__block_hashes__descriptor, bytes, size, "BlockHashes", err);
    if (m == NULL) {
        return -1;
    }
    int rc = block_hashes_fill(m, ret, err);
    drop(m);
    return rc;
}

/* ---- PointState ---- */

int intake_point_state_encode(const struct intake_point_state *from, uint8_t **ret_bytes,
                              size_t *ret_size, struct err *err)
{
    Tide__Intake__PointState message = TIDE__INTAKE__POINT_STATE__INIT;
    message.version = TIDE_INTAKE_VERSION;
    message.round = bytes_of(from->round.b, sizeof(from->round.b));
    message.answer = (uint32_t)from->answer;
    message.label = text_of(from->label);
    message.text = text_of(from->text);
    return finish(&message.base, ret_bytes, ret_size, err);
}

static int point_state_fill(const Tide__Intake__PointState *m, struct intake_point_state *ret,
                            struct err *err)
{
    struct intake_point_state s = {0};
    if (version(m->version, "PointState", err) < 0 ||
        get_id(&m->round, "round", &s.round, err) < 0 ||
        get_text(m->label, "label", s.label, sizeof(s.label), err) < 0 ||
        get_text(m->text, "text", s.text, sizeof(s.text), err) < 0) {
        return -1;
    }
    if (round_answer_name(m->answer) == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "'answer' %u is none of the answers", m->answer);
    }
    s.answer = (enum round_answer)m->answer;
    *ret = s;
    return 0;
}

int intake_point_state_decode(const void *bytes, size_t size, struct intake_point_state *ret,
                              struct err *err)
{
    Tide__Intake__PointState *m =
        unpack(&tide__intake__point_state__descriptor, bytes, size, "PointState", err);
    if (m == NULL) {
        return -1;
    }
    int rc = point_state_fill(m, ret, err);
    drop(m);
    return rc;
}
