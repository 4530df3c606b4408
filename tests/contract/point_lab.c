/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/point_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/core/bytes.h"
#include "common/hrl/crc.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/pki.h"
#include "common/io/tls.h"
#include "common/wire/certificate.h"
#include "common/wire/intake.h"
#include "coordinator/verify/evidence.h"

#define YEAR_NS (365ULL * 86400 * 1000000000)

char point_folder[] = "/tmp/tidemark-verify-XXXXXX"; /* keys; a store in it for each case */
static struct tls_identity *web;
static struct tls_identity *app;
static struct tls_identity *stranger; /* of the site, not in the definition */
static struct tls_identity *foreign;  /* app's name under another CA of the same site name */
static struct tls_identity *elsewhere;

static struct id make_id(unsigned n)
{
    struct id id;
    memset(id.b, (int)n, sizeof id.b);
    return id;
}

/* ---- keys ---- */

static struct tls_identity *identity(const char *pki, const char *id)
{
    char dir[POINT_PATH];
    char prefix[POINT_PATH + 16];
    char cert[POINT_PATH + 32];
    char key[POINT_PATH + 32];
    char ca[POINT_PATH + 32];
    struct tls_identity *ret = NULL;
    struct err err = {0};
    snprintf(dir, sizeof dir, "%s/%s", point_folder, pki);
    snprintf(prefix, sizeof prefix, "%s/%s", dir, id);
    snprintf(cert, sizeof cert, "%s.crt", prefix);
    snprintf(key, sizeof key, "%s.key", prefix);
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    if (pki_issue(dir, "participant", id, NULL, 0, NULL, 0, 10, prefix, NULL, &err) != 0 ||
        tls_identity_load(cert, key, ca, &ret, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return ret;
}

void point_lab_setup(void)
{
    char dir[POINT_PATH];
    struct err err = {0};
    assert_non_null(mkdtemp(point_folder));
    snprintf(dir, sizeof dir, "%s/pki", point_folder);
    assert_int_equal(pki_init(dir, "lab", &err), 0);
    snprintf(dir, sizeof dir, "%s/same", point_folder);
    assert_int_equal(pki_init(dir, "lab", &err), 0);
    snprintf(dir, sizeof dir, "%s/else", point_folder);
    assert_int_equal(pki_init(dir, "elsewhere", &err), 0);
    web = identity("pki", "web");
    app = identity("pki", "app");
    stranger = identity("pki", "stranger");
    foreign = identity("same", "app");
    elsewhere = identity("else", "app");
}

static void remove_all(const char *path)
{
    char command[POINT_PATH + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

void point_lab_teardown(void)
{
    tls_identity_free(web);
    tls_identity_free(app);
    tls_identity_free(stranger);
    tls_identity_free(foreign);
    tls_identity_free(elsewhere);
    remove_all(point_folder);
}

/* ---- the definition ---- */

static void add_member(struct definition *d, const char *name, const char *address)
{
    struct definition_member m = {0};
    struct err err = {0};
    assert_true(name_parse(name, &m.name));
    snprintf(m.identity, sizeof m.identity, "spiffe://lab/participant/%s", name);
    snprintf(m.address, sizeof m.address, "%s", address);
    if (definition_add_member(d, &m, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void add_disk(struct definition *d, const char *name, unsigned n)
{
    struct definition_disk disk = {.stream = make_id(10 + n),
                                   .timeline = make_id(20 + n),
                                   .disk = make_id(30 + n),
                                   .size = 1024 * 1024,
                                   .block_size = 512};
    struct err err = {0};
    assert_true(name_parse(name, &disk.name));
    if (definition_add_disk(d, &disk, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* Its bytes into the store; the same decoded into *ret, with its epoch's hash. */
static void make_definition(struct point_lab *lab, struct definition *ret, const char *address,
                            uint64_t epoch, bool write)
{
    char path[POINT_PATH + 64];
    struct id group = make_id(1);
    struct name name;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err = {0};
    assert_true(name_parse("shop", &name));
    definition_init(ret, &group, &name, epoch);
    add_member(ret, "web", "127.0.0.11:20004");
    add_disk(ret, "root", 0);
    add_disk(ret, "log", 1);
    add_member(ret, "app", address);
    add_disk(ret, "data", 2);
    assert_int_equal(intake_definition_encode(ret, &bytes, &size, &err), 0);
    assert_int_equal(intake_definition_decode(bytes, size, ret, &err), 0);
    snprintf(path, sizeof path, "%s/definitions/shop", lab->store);
    assert_int_equal(file_mkdirs(path, 0700, &err), 0);
    snprintf(path, sizeof path, "%s/definitions/shop/%020u.pb", lab->store, (unsigned)epoch);
    if (write) {
        assert_int_equal(file_replace(path, bytes, size, 0600, &err), 0);
    }
    free(bytes);
}

static void make_definitions(struct point_lab *lab)
{
    struct definition *other = calloc(1, sizeof *other);
    assert_non_null(other);
    lab->definition = calloc(1, sizeof *lab->definition);
    assert_non_null(lab->definition);
    make_definition(lab, lab->definition, "127.0.0.12:20004", 3,
                    lab->spoil != DEFINITION_GONE && lab->spoil != DEFINITION_OF_OTHER_EPOCH);
    if (lab->spoil != DEFINITION_GONE) {
        make_definition(lab, other, "127.0.0.12:20004", 2, true);
    }
    if (lab->spoil == DEFINITION_SWAPPED) {
        make_definition(lab, other, "127.0.0.66:20004", 3, true);
    }
    free(other);
}

/* ---- streams ---- */

static void begin(struct point_stream *s, const struct segment_header *header)
{
    segment_writer_init(&s->writer, s->buffer, sizeof s->buffer, header);
}

static void stream_init(struct point_stream *s, unsigned n)
{
    memset(s, 0, sizeof *s);
    s->id = make_id(10 + n);
    s->timeline = make_id(20 + n);
    s->incarnation = 1000 + n;
    struct segment_header header = {.stream = s->id, .timeline = s->timeline, .first_lsn = 1};
    begin(s, &header);
}

static void append(struct point_stream *s, struct record r)
{
    static uint8_t bytes[65536];
    struct err err = {0};
    r.lsn = ++s->lsn;
    r.incarnation = s->incarnation;
    r.stream = s->id;
    size_t size = record_encode(&r, bytes, sizeof bytes);
    if (segment_writer_append(&s->writer, &r, bytes, size, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void attach(struct point_stream *s, unsigned n, bool base_zero)
{
    append(s, (struct record){.type = RECORD_ATTACH,
                              .attach = {.boot = make_id(40),
                                         .disk = make_id(30 + n),
                                         .timeline = s->timeline,
                                         .size = 1024 * 1024,
                                         .block_size = 512,
                                         .clean = true,
                                         .first = true,
                                         .base_zero = base_zero}});
}

static void write_block(struct point_stream *s, uint8_t with)
{
    uint8_t data[512];
    memset(data, with, sizeof data);
    append(s, (struct record){.type = RECORD_WRITE,
                              .write = {.offset = 4096, .size = sizeof data, .data = data}});
}

/* Which of a stream's segments a case does without: 0, 1, ... */
static bool is_gone(const struct point_lab *lab, const struct point_stream *s)
{
    if (!id_equal(&s->id, &lab->streams[1].id)) {
        return false;
    }
    return lab->spoil == STREAM_GONE || (lab->spoil == FIRST_SEGMENT_GONE && s->segments == 0) ||
           (lab->spoil == MIDDLE_SEGMENT_GONE && s->segments == 1) ||
           (lab->spoil == LAST_SEGMENT_GONE && s->segments == 2);
}

/* Other data of a write, and a record whose checksum is right. */
static void stamped_bit(uint8_t *record)
{
    record[TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX + 7] ^= 1;
    struct bytes_writer w = bytes_writer(record + 4, 4);
    bytes_put_u32(&w, crc32c(record + 8, TIDE_RECORD_HEADER - 8 + TIDE_RECORD_WRITE_PREFIX + 512));
}

static void cut(struct point_lab *lab, struct point_stream *s)
{
    char path[POINT_PATH + 128];
    char hex[TIDE_ID_HEX];
    struct segment_info info;
    struct err err = {0};
    segment_writer_finish(&s->writer, &info);
    snprintf(path, sizeof path, "%s/streams/%s/segments", lab->store, id_hex(&s->id, hex));
    assert_int_equal(file_mkdirs(path, 0700, &err), 0);
    snprintf(path, sizeof path, "%s/streams/%s/segments/%020llu-%020llu.hrl", lab->store, hex,
             (unsigned long long)info.header.first_lsn, (unsigned long long)info.last_lsn);
    if (lab->spoil == SEGMENT_BIT && s->segments == 1) {
        s->buffer[TIDE_SEGMENT_HEADER + TIDE_RECORD_HEADER + 20] ^= 1;
    }
    if (lab->spoil == SEGMENT_BIT_STAMPED && s->segments == 1) {
        stamped_bit(s->buffer + TIDE_SEGMENT_HEADER);
    }
    if (!is_gone(lab, s)) {
        assert_int_equal(file_replace(path, s->buffer, info.size, 0600, &err), 0);
    }
    if (lab->spoil == SECOND_COPY) {
        snprintf(path, sizeof path, "%s/copy-of-%s-%u.hrl", lab->store, hex, s->segments);
        assert_int_equal(file_replace(path, s->buffer, info.size, 0600, &err), 0);
    }
    s->segments++;
    struct segment_header next = segment_next_header(&info);
    if (lab->spoil == SEGMENT_REMADE && s->segments == 1) {
        memset(next.before.b, 9, sizeof next.before.b);
    }
    begin(s, &next);
}

static void bookmark(struct point_lab *lab, struct point_stream *s, unsigned n)
{
    append(s, (struct record){.type = RECORD_BOOKMARK,
                              .bookmark = {.order = lab->order,
                                           .nonce = make_id(50 + n),
                                           .unheld = lab->spoil == UNHELD,
                                           .budget_us = 50000,
                                           .wall_ns = clock_wall_ns(),
                                           .wall_error_us = UINT32_MAX}});
    s->mark = (struct round_mark){
        .stream = s->id, .incarnation = s->incarnation, .lsn = s->lsn, .nonce = make_id(50 + n)};
}

static enum round_outcome outcome_of(const struct point_lab *lab, unsigned n)
{
    if (lab->spoil == UNHELD) {
        return ROUND_OUTCOME_UNHELD;
    }
    return lab->spoil == EXPIRED && n == 1 ? ROUND_OUTCOME_EXPIRED : ROUND_OUTCOME_HELD;
}

static void seal(struct point_lab *lab, struct point_stream *s, unsigned n)
{
    struct record r = {.type = RECORD_SEAL,
                       .seal = {.round = lab->order.round,
                                .bookmark_lsn = s->mark.lsn,
                                .outcome = outcome_of(lab, n),
                                .cut = lab->cut,
                                .hold_us = 700 + n,
                                .writes_held = n}};
    if (lab->spoil == SEALS_OF_OTHER_H || (lab->spoil == ONE_SEAL_OF_OTHER_H && n == 1)) {
        memset(r.seal.cut.b, 5, sizeof r.seal.cut.b);
    }
    if (r.seal.outcome == ROUND_OUTCOME_EXPIRED) {
        memset(r.seal.cut.b, 0, sizeof r.seal.cut.b);
    }
    append(s, r);
    s->seal_lsn = s->lsn;
}

/* ---- attestations ---- */

static void fill(const struct point_lab *lab, unsigned member, struct statement *s)
{
    unsigned first = lab->definition->members[member].disk_first;
    memset(s, 0, sizeof *s);
    s->group = lab->order.group;
    s->member = lab->definition->members[member].name;
    s->round = lab->order.round;
    s->epoch = lab->order.epoch;
    s->cut = lab->cut;
    s->wall_ns = clock_wall_ns();
    s->disk_count = lab->definition->members[member].disk_count;
    for (unsigned k = 0; k < s->disk_count; k++) {
        const struct point_stream *stream = &lab->streams[first + k];
        s->disks[k] = (struct statement_disk){.mark = stream->mark,
                                              .seal_lsn = stream->seal_lsn,
                                              .outcome = outcome_of(lab, first + k),
                                              .hold_us = 700 + first + k,
                                              .writes_held = first + k};
    }
}

/* What is said wrongly, with a good signature. Of web, which has two disks. */
static void spoil_statement(enum spoil spoil, struct statement *s)
{
    struct statement_disk *disk = &s->disks[1];
    s->round = spoil == OTHER_ROUND ? make_id(8) : s->round;
    s->group = spoil == OTHER_GROUP ? make_id(8) : s->group;
    s->cut.b[31] ^= spoil == STATEMENT_OF_OTHER_H;
    s->epoch.hash.b[0] ^= spoil == OTHER_EPOCH;
    disk->mark.lsn += spoil == LSN;
    disk->mark.incarnation += spoil == INCARNATION;
    disk->mark.nonce.b[0] ^= spoil == NONCE;
    disk->seal_lsn += spoil == SEAL_LSN;
    disk->hold_us += spoil == HOLD;
    disk->writes_held += spoil == HELD_WRITES;
    disk->outcome = spoil == OUTCOME ? ROUND_OUTCOME_UNHELD : disk->outcome;
    s->disk_count -= spoil == DISK_LEFT_OUT;
    if (spoil == DISK_TOO_MANY) {
        s->disks[2] = s->disks[0];
        s->disks[2].mark.stream = make_id(99);
        s->disk_count = 3;
    }
    if (spoil == NAMES_OTHER_MEMBER) {
        assert_true(name_parse("app", &s->member));
    }
    if (spoil == SIGNED_TOO_EARLY) {
        s->wall_ns -= YEAR_NS;
    } else if (spoil == SIGNED_TOO_LATE) {
        s->wall_ns += YEAR_NS;
    } else if (spoil == SIGNED_AT_NO_TIME) {
        s->wall_ns = 0;
    }
}

static const struct tls_identity *signer_of(enum spoil spoil, unsigned member)
{
    if (member == 0) {
        return spoil == OTHER_MEMBER ? app : web;
    }
    switch ((int)spoil) {
    case OTHER_CA:
        return elsewhere;
    case OTHER_CA_SAME_NAME:
        return foreign;
    case STRANGER:
        return stranger;
    default:
        return app;
    }
}

/* Signs, and appends the record to stream s. */
static void attest(struct point_lab *lab, struct point_stream *s, unsigned member, enum spoil spoil)
{
    static uint8_t statement[TIDE_STATEMENT_MAX];
    static uint8_t bytes[TIDE_ATTESTATION_MAX];
    uint8_t signature[TLS_SIGNATURE_MAX];
    const uint8_t *der[TLS_CHAIN_MAX];
    size_t der_size[TLS_CHAIN_MAX];
    size_t signature_size = 0;
    size_t used = 0;
    struct statement said;
    struct err err = {0};
    const struct tls_identity *by = signer_of(spoil, member);
    fill(lab, member, &said);
    if (member == 0) {
        spoil_statement(spoil, &said);
    }
    size_t size = certificate_statement_encode(&said, statement);
    assert_int_equal(tls_sign(by, spoil == OTHER_CONTEXT ? "another" : TIDE_STATEMENT_CONTEXT,
                              statement, size, signature, &signature_size, &err),
                     0);
    size_t count = tls_identity_chain(by, der, der_size);
    assert_int_equal(count, 1);
    if (member == 0 && spoil == STATEMENT_BIT) {
        statement[size - 1] ^= 1; /* writes_held of the last disk */
    }
    if (member == 0 && spoil == SIGNATURE_BIT) {
        signature[signature_size - 1] ^= 1;
    }
    struct certificate_attestation a = {.statement = {statement, size},
                                        .signature = {signature, signature_size},
                                        .chain_count = 1,
                                        .chain = {{der[0], der_size[0]}}};
    assert_int_equal(certificate_attestation_encode(&a, bytes, &used, &err), 0);
    if (spoil == NOT_AN_ATTESTATION) {
        memset(bytes, 0xff, used);
    }
    append(s,
           (struct record){
               .type = RECORD_ATTESTATION,
               .attestation = {.round = lab->order.round, .bytes = bytes, .size = (uint32_t)used}});
}

static void attest_all(struct point_lab *lab)
{
    struct point_stream *first = &lab->streams[0];
    if (lab->spoil == NO_ATTESTATION) {
        attest(lab, &lab->streams[2], 1, NOTHING);
        return;
    }
    if (lab->spoil == NO_ATTESTATION_AND_OTHER_ROUND) {
        attest(lab, first, 0, OTHER_ROUND);
        return;
    }
    for (unsigned k = 0; lab->spoil == SEVENTEEN && k < EVIDENCE_ATTESTATIONS_MAX; k++) {
        attest(lab, first, 0, NOTHING);
    }
    if (lab->spoil == BAD_BEFORE_GOOD) {
        attest(lab, first, 0, SIGNATURE_BIT);
    }
    attest(lab, first, 0, lab->spoil == BAD_BEFORE_GOOD ? NOTHING : lab->spoil);
    if (set_has(&lab->order.set, 2)) {
        attest(lab, &lab->streams[2], 1, lab->spoil);
    }
}

/* A stream that is in no definition and borrows the round's id under another order. */
static void strange_stream(struct point_lab *lab, unsigned n)
{
    static struct point_stream s;
    struct round_order mine = lab->order;
    stream_init(&s, n);
    attach(&s, n, true);
    lab->order.epoch.number = 9;
    bookmark(lab, &s, n);
    lab->order = mine;
    cut(lab, &s);
}

void point_lab_make(struct point_lab *lab, enum spoil spoil)
{
    memset(lab, 0, sizeof *lab);
    lab->spoil = spoil;
    snprintf(lab->store, sizeof lab->store, "%s/store", point_folder);
    make_definitions(lab);
    lab->order = (struct round_order){.round = make_id(7),
                                      .group = lab->definition->group,
                                      .epoch = lab->definition->epoch,
                                      .scope = ROUND_SCOPE_GROUP,
                                      .kind = ROUND_KIND_CRASH};
    set_init(&lab->order.set, POINT_STREAMS);
    struct round_mark marks[POINT_STREAMS];
    bool alone = spoil == PARTIAL || spoil == SINGLE_VM || spoil == OTHER_SCOPE;
    unsigned count = alone ? 2 : POINT_STREAMS; /* without app */
    if (spoil == SINGLE_VM || spoil == SINGLE_VM_OF_TWO || spoil == OTHER_SCOPE) {
        lab->order.scope = ROUND_SCOPE_MEMBER;
    }
    for (unsigned k = 0; k < count; k++) {
        set_add(&lab->order.set, k);
    }
    for (unsigned k = 0; k < count; k++) {
        struct point_stream *s = &lab->streams[k];
        stream_init(s, k);
        attach(s, k, spoil != NOT_WHOLE || k != 1);
        write_block(s, 1);
        cut(lab, s);
        write_block(s, 2);
        bookmark(lab, s, k);
        cut(lab, s);
        marks[k] = s->mark;
    }
    struct round_order of_cut = lab->order;
    of_cut.scope = spoil == OTHER_SCOPE ? ROUND_SCOPE_GROUP : of_cut.scope;
    lab->cut = round_cut_hash(&of_cut, marks, count);
    for (unsigned k = 0; k < count; k++) {
        seal(lab, &lab->streams[k], k);
    }
    attest_all(lab);
    for (unsigned k = 0; k < count; k++) {
        write_block(&lab->streams[k], 3);
        cut(lab, &lab->streams[k]);
    }
    if (spoil == STRANGE_STREAM) {
        strange_stream(lab, 0U - 5U); /* found before the others, and after them */
        strange_stream(lab, 200);
    }
}

void point_lab_remove(struct point_lab *lab)
{
    free(lab->definition);
    remove_all(lab->store);
}
