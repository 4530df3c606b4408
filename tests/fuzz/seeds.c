/* SPDX-License-Identifier: Apache-2.0 */
/* seeds: writes the corpora that are encodings into FOLDER/<target>/: fuzz_seeds FOLDER. Run it
 * anew when a format changes. The texts (configuration, group files) are written by hand. */
#include <sys/stat.h>

#include "common/core/bytes.h"
#include "common/core/tapctl.h"
#include "common/hrl/log.h"
#include "common/hrl/segment.h"
#include "common/wire/certificate.h"
#include "common/wire/envelope.h"
#include "common/wire/intake.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/hrl_make.h"

static const char *folder;

/* `first` < 0: no byte before the encoding. */
static void save(const char *target, const char *name, int first, const void *bytes, size_t size)
{
    char path[4096];
    int used = snprintf(path, sizeof path, "%s/%s", folder, target);
    TIDE_CHECK(used > 0 && (size_t)used + 80 < sizeof path);
    (void)mkdir(path, 0755);
    snprintf(path + used, sizeof path - (size_t)used, "/%s", name);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    if (first >= 0) {
        TIDE_CHECK(fputc(first, file) == first);
    }
    TIDE_CHECK(fwrite(bytes, 1, size, file) == size);
    TIDE_CHECK(fclose(file) == 0);
}

static struct name name_of(const char *text)
{
    struct name name;
    TIDE_CHECK(name_parse(text, &name));
    return name;
}

/* ---- the stream ---- */

static struct record own(struct record r)
{
    memset(r.stream.b, 0x11, sizeof r.stream.b);
    return r;
}

#define STREAM_RECORDS 12

/* One of each type, as a short stream has them. */
static size_t make_stream(struct record ret[STREAM_RECORDS])
{
    static const uint8_t data[100] = "what a guest wrote";
    struct round_order order = make_order(3, 3);
    struct hash cut = make_hash(9);
    struct id round = order.round;
    size_t n = 0;
    ret[n++] = own(make_attach(1, 1, 100, true));
    ret[n++] = own(make_write(1, 2, 100, 4096, data, sizeof data));
    struct record zero = make_record(RECORD_ZERO, 1, 3, 100);
    zero.write.offset = 8192;
    zero.write.size = 65536;
    zero.write.discard = true;
    ret[n++] = own(zero);
    ret[n++] = own(make_bookmark(1, 4, 100, &order, 12));
    ret[n++] = own(make_seal(1, 5, 100, &round, 4, ROUND_OUTCOME_HELD, &cut));
    struct record attestation = make_record(RECORD_ATTESTATION, 1, 6, 100);
    attestation.attestation.round = round;
    attestation.attestation.bytes = data;
    attestation.attestation.size = 20;
    ret[n++] = own(attestation);
    ret[n++] = own(make_gap(1, 7, 100));
    ret[n++] = own(make_attach(1, 8, 200, false));
    struct record begin = make_record(RECORD_COPY_BEGIN, 1, 9, 200);
    begin.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_CHANGES, .size = 1 << 20};
    ret[n++] = own(begin);
    struct record block = make_write(1, 10, 200, 4096, data, sizeof data);
    block.type = RECORD_COPY_BLOCK;
    ret[n++] = own(block);
    struct record end = make_record(RECORD_COPY_END, 1, 11, 200);
    end.copy_end =
        (struct record_copy_end){.begin_lsn = 9, .copied = 100, .zeroes = (1 << 20) - 100};
    ret[n++] = own(end);
    ret[n++] = own(make_resize(1, 12, 200, 1 << 20, 2 << 20));
    return n;
}

static void seed_records(void)
{
    struct record records[STREAM_RECORDS];
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t count = make_stream(records);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        size_t size = record_encode(&records[i], bytes, sizeof bytes);
        snprintf(name, sizeof name, "%zu-%s", i + 1, record_type_name(records[i].type));
        save("record", name, 1, bytes, size);
    }
    size_t size = record_encode(&records[5], bytes, sizeof bytes);
    bytes[8] = 99; /* a type that nobody knows, and that may be passed over */
    save("record", "unknown", 1, bytes, size);
}

static void patch(struct bytes_writer *w, unsigned file, size_t offset, const void *bytes,
                  size_t size)
{
    bytes_put_u8(w, (uint8_t)file);
    bytes_put_u16(w, (uint16_t)offset);
    bytes_put_u16(w, (uint16_t)size);
    bytes_put(w, bytes, size);
}

static void patch_header(struct bytes_writer *w, const struct record *first, uint64_t sequence,
                         uint64_t incarnation, unsigned files)
{
    uint8_t header[TIDE_LOG_HEADER];
    struct log_header h = {.stream = first->stream,
                           .sequence = sequence,
                           .file_size = 4096,
                           .first_lsn = first->lsn,
                           .incarnation = incarnation};
    log_header_encode(&h, header);
    patch(w, (unsigned)sequence % files, 0, header, 64); /* zeroes follow */
}

/* The short stream in a ring of two files: from the start, over the end of a file, and torn. */
static void seed_logs(void)
{
    struct record records[STREAM_RECORDS];
    uint8_t out[4096];
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    size_t count = make_stream(records);
    for (unsigned how = 0; how < 3; how++) {
        struct bytes_writer w = bytes_writer(out, sizeof out);
        size_t from = how == 1 ? 3 : 0;
        size_t at = how == 1 ? 4096 - 400 : TIDE_LOG_HEADER;
        unsigned file = 0;
        bytes_put_u8(&w, 0);
        bytes_put_u16(&w, (uint16_t)(how == 1 ? at / 8 : 0));
        bytes_put_u8(&w, (uint8_t)records[from].lsn);
        bytes_put_u8(&w, how == 1 ? 100 : 0);
        bytes_put_u8(&w, how == 2 ? 0 : 1);
        patch_header(&w, &records[0], 0, 0, 2);
        for (size_t i = from; i < count; i++) {
            size_t size = record_encode(&records[i], bytes, sizeof bytes);
            if (at + size > 4096) {
                file = 1;
                at = TIDE_LOG_HEADER;
                patch_header(&w, &records[i], 1, 100, 2);
            }
            patch(&w, file, at, bytes, size - (how == 2 && i == 4 ? 16 : 0));
            at += size;
        }
        TIDE_CHECK(!w.failed);
        static const char *const names[] = {"whole", "next-file", "torn"};
        save("log", names[how], -1, out, w.used);
    }
}

static void seed_segments(void)
{
    static struct segment_writer writer;
    static uint8_t out[8192];
    struct record records[STREAM_RECORDS];
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct err err;
    struct segment_info info;
    size_t count = make_stream(records);
    struct segment_header h = {
        .stream = records[0].stream, .timeline = records[0].attach.timeline, .first_lsn = 1};
    size_t next = 0;
    for (unsigned part = 0; part < 2; part++) {
        segment_writer_init(&writer, out, sizeof out, &h);
        while (next < count && !segment_writer_must_cut(&writer)) {
            const struct record *r = &records[next++];
            size_t size = record_encode(r, bytes, sizeof bytes);
            TIDE_CHECK(segment_writer_append(&writer, r, bytes, size, &err) == 0);
        }
        segment_writer_finish(&writer, &info);
        h = segment_next_header(&info);
        save("segment", part == 0 ? "first" : "second", part == 0 ? 0 : 1, out, (size_t)info.size);
        save("segment", part == 0 ? "cut-first" : "cut-second", 3, out, (size_t)info.size);
    }
}

/* ---- messages ---- */

static void seed_tapctl(void)
{
    static const struct {
        enum tapctl_type type;
        const char *name;
    } all[] = {
        {TAPCTL_HELLO, "hello"},       {TAPCTL_HOLD, "hold"},       {TAPCTL_RELEASE, "release"},
        {TAPCTL_ABORT, "abort"},       {TAPCTL_SYNC, "sync"},       {TAPCTL_STORED, "stored"},
        {TAPCTL_ATTEST, "attest"},     {TAPCTL_STATUS, "status"},   {TAPCTL_WELCOME, "welcome"},
        {TAPCTL_HELD, "held"},         {TAPCTL_REFUSED, "refused"}, {TAPCTL_SEALED, "sealed"},
        {TAPCTL_SYNCED, "synced"},     {TAPCTL_STATE, "state"},     {TAPCTL_REFUSE_BUSY, "refuse"},
        {TAPCTL_COMPARED, "compared"}, {TAPCTL_RESYNC, "resync"},   {TAPCTL_DETACH, "detach"},
        {TAPCTL_RESTREAM, "restream"}, {TAPCTL_RESIZE, "resize"},   {TAPCTL_DONE, "done"}};
    static struct tapctl m;
    static uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    const size_t count = sizeof all / sizeof all[0];
    for (size_t i = 0; i < count; i++) {
        memset(&m, 0, sizeof m);
        m.type = all[i].type;
        m.serial = (uint32_t)i + 1;
        if (m.type == TAPCTL_HELLO) {
            m.version = TIDE_TAPCTL_VERSION;
        } else if (m.type == TAPCTL_HOLD) {
            m.hold.order = make_order(3, 9);
            m.hold.incarnation = 100;
            m.hold.budget_us = 50000;
        } else if (m.type == TAPCTL_RELEASE || m.type == TAPCTL_ABORT) {
            m.round = (struct tapctl_round){make_id(3), make_hash(4)};
        } else if (m.type == TAPCTL_SYNC || m.type == TAPCTL_STORED) {
            m.lsn.lsn = 77;
        } else if (m.type == TAPCTL_ATTEST) {
            m.attest.round = make_id(3);
            m.attest.size = 3;
            memcpy(m.attest.bytes, "abc", 3);
        } else if (m.type == TAPCTL_WELCOME) {
            m.welcome = (struct tapctl_welcome){.stream = make_id(1),
                                                .timeline = make_id(2),
                                                .disk = make_id(3),
                                                .incarnation = 100,
                                                .size = 1 << 20,
                                                .block_size = 4096,
                                                .ring_files = 4,
                                                .ring_file_size = 1 << 22,
                                                .tail_lsn = 1,
                                                .next_lsn = 9,
                                                .whole = true,
                                                .logging = true};
            strcpy(m.welcome.name, "/srv/web-data.img");
        } else if (m.type == TAPCTL_HELD) {
            m.held = (struct tapctl_held){make_id(3), {make_id(1), 100, 9, make_id(7)}, 50000};
        } else if (m.type == TAPCTL_REFUSED) {
            m.refused.round = make_id(3);
            m.refused.reason = ROUND_REASON_ENDED;
            m.refused.outcome = ROUND_OUTCOME_EXPIRED;
            strcpy(m.refused.text, "the round has ended");
        } else if (m.type == TAPCTL_SEALED) {
            m.sealed.round = make_id(3);
            m.sealed.outcome = ROUND_OUTCOME_HELD;
            m.sealed.appended = true;
            m.sealed.seal_lsn = 10;
        } else if (m.type == TAPCTL_STATE) {
            m.state.incarnation = 100;
            m.state.next_lsn = 11;
            m.state.whole = true;
        } else if (m.type == TAPCTL_COMPARED) {
            m.compared = (struct tapctl_compared){.begin_lsn = 5, .offset = 65536, .count = 9};
            m.compared.differs[1] = 1;
        } else if (m.type == TAPCTL_RESYNC) {
            m.order.resync = TAPCTL_RESYNC_COMPARE;
        } else if (m.type == TAPCTL_DETACH) {
            m.order.force = true;
        } else if (m.type == TAPCTL_RESTREAM) {
            m.order.stream = make_id(1);
        } else if (m.type == TAPCTL_DONE) {
            m.done.code = TIDE_ERR_BUSY;
            strcpy(m.done.text, "a client is connected");
        }
        save("tapctl", all[i].name, -1, bytes, tapctl_encode(&m, bytes));
    }
    memset(&m, 0, sizeof m);
    m.type = TAPCTL_REFUSED;
    m.refused.round = make_id(3);
    m.refused.reason = ROUND_REASON_KIND; /* the last there is */
    save("tapctl", "refused-kind", -1, bytes, tapctl_encode(&m, bytes));
}

static void seed_envelopes(void)
{
    static struct msg m;
    static uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    const struct msg_tap tap = {make_id(1), 100, true, 0};
    for (unsigned type = MSG_HEARTBEAT; type <= MSG_TAKEN; type++) {
        memset(&m, 0, sizeof m);
        m.type = (enum msg_type)type;
        m.head.group = make_id(5);
        m.head.from = name_of("web");
        m.head.to = name_of("db");
        m.head.epoch = (struct epoch){7, make_hash(7)};
        m.head.incarnation = 4;
        if (type == MSG_HEARTBEAT) {
            m.heartbeat.reach = 3;
            m.heartbeat.sequence = 9;
            m.heartbeat.yield_round = make_id(3);
            m.heartbeat.lack = ROUND_REASON_MISSING;
            m.heartbeat.lack_member = name_of("db");
            m.heartbeat.alone = true;
            m.heartbeat.tap_count = 1;
            m.heartbeat.taps[0] = tap;
        } else if (type == MSG_HOLD) {
            m.hold.round = make_id(3);
            m.hold.scope = ROUND_SCOPE_GROUP;
            m.hold.kind = ROUND_KIND_CRASH;
            m.hold.budget_us = 50000;
            m.hold.set = make_order(3, 9).set;
            m.hold.tap_count = 1;
            m.hold.taps[0] = tap;
        } else if (type == MSG_HELD) {
            m.held.round = make_id(3);
            m.held.mark_count = 1;
            m.held.marks[0] = (struct round_mark){make_id(1), 100, 9, make_id(7)};
        } else if (type == MSG_REFUSED) {
            m.refused.round = make_id(3);
            m.refused.reason = ROUND_REASON_ENDED;
            m.refused.outcome = ROUND_OUTCOME_EXPIRED;
            strcpy(m.refused.text, "the round has ended");
        } else if (type == MSG_RELEASE) {
            m.release = (struct msg_release){make_id(3), make_hash(4)};
        } else if (type == MSG_ABORT) {
            m.abort = (struct msg_abort){make_id(3), ROUND_REASON_TIMEOUT};
        } else if (type == MSG_SEALED) {
            m.sealed.round = make_id(3);
            m.sealed.outcome = ROUND_OUTCOME_HELD;
            m.sealed.seal_count = 1;
            m.sealed.seals[0] = (struct msg_seal){make_id(1), ROUND_OUTCOME_HELD, true, 9, 1, 2, 3};
        } else if (type == MSG_SUM) {
            m.sum.round = make_id(3);
            m.sum.sealed_by_all = true;
            m.sum.member_count = 1;
            m.sum.members[0].member = name_of("web");
            m.sum.members[0].outcome = ROUND_OUTCOME_HELD;
        } else if (type == MSG_TAKE) {
            m.take = (struct msg_take){make_id(8), ROUND_KIND_CRASH};
        } else {
            m.taken.request = make_id(8);
            m.taken.round = make_id(3);
            m.taken.sealed = true;
        }
        save("envelope", envelope_type_name(type), -1, bytes, envelope_encode(&m, bytes));
    }
}

static void seed_certificates(void)
{
    static struct statement s;
    static uint8_t statement[TIDE_STATEMENT_MAX];
    static uint8_t bytes[TIDE_ATTESTATION_MAX];
    static const uint8_t signature[64] = {9};
    static const uint8_t leaf[100] = {0x30};
    struct err err;
    size_t used = 0;
    s.group = make_id(5);
    s.member = name_of("web");
    s.round = make_id(3);
    s.epoch = (struct epoch){7, make_hash(7)};
    s.cut = make_hash(4);
    s.wall_ns = 1700000000000000000U;
    s.disk_count = 2;
    for (unsigned i = 0; i < s.disk_count; i++) {
        s.disks[i] = (struct statement_disk){.mark = {make_id(1 + i), 100, 9, make_id(7 + i)},
                                             .seal_lsn = 10,
                                             .outcome = ROUND_OUTCOME_HELD,
                                             .hold_us = 900,
                                             .writes_held = 3};
    }
    size_t size = certificate_statement_encode(&s, statement);
    save("certificate", "statement", 0, statement, size);
    struct certificate_attestation a = {.statement = {statement, size},
                                        .signature = {signature, sizeof signature},
                                        .chain_count = 2,
                                        .chain = {{leaf, sizeof leaf}, {leaf, sizeof leaf}}};
    TIDE_CHECK(certificate_attestation_encode(&a, bytes, &used, &err) == 0);
    save("certificate", "attestation", 1, bytes, used);
}

static void seed_intake(void)
{
    static struct definition d;
    struct err err;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct intake_disk disks[2];
    struct id group = make_id(5);
    struct name name = name_of("shop");
    struct definition_member m = {.name = name_of("web"),
                                  .identity = "spiffe://lab/participant/web",
                                  .address = "127.0.0.11:20004"};
    definition_init(&d, &group, &name, 3);
    TIDE_CHECK(definition_add_member(&d, &m, &err) == 0);
    for (unsigned i = 0; i < 2; i++) {
        const char *disk = i == 0 ? "data" : "log";
        struct definition_disk dd = {.name = name_of(disk),
                                     .stream = make_id(i + 1),
                                     .timeline = make_id(i + 11),
                                     .disk = make_id(i + 21),
                                     .size = 1 << 20,
                                     .block_size = 512};
        TIDE_CHECK(definition_add_disk(&d, &dd, &err) == 0);
        disks[i] = (struct intake_disk){.group = name,
                                        .member = m.name,
                                        .disk = dd.name,
                                        .stream = dd.stream,
                                        .timeline = dd.timeline,
                                        .disk_id = dd.disk,
                                        .size = dd.size,
                                        .block_size = dd.block_size};
    }
    struct intake_register r = {.count = 2, .disks = disks};
    TIDE_CHECK(intake_register_encode(&r, &bytes, &size, &err) == 0);
    save("intake", "register", 0, bytes, size);
    free(bytes);
    struct intake_issued issued;
    TIDE_CHECK(intake_definition_encode(&d, &issued.definition, &issued.definition_size, &err) ==
               0);
    save("intake", "definition", 1, issued.definition, issued.definition_size);
    policy_init(&issued.policy);
    struct intake_definitions all = {.count = 1, .groups = &issued};
    TIDE_CHECK(intake_definitions_encode(&all, &bytes, &size, &err) == 0);
    save("intake", "definitions", 2, bytes, size);
    free(bytes);
    free(issued.definition);
    struct intake_stream_state stream = {.received_lsn = 9,
                                         .stored_lsn = 8,
                                         .head = make_hash(4),
                                         .code = TIDE_ERR_CONFLICT,
                                         .forked = true,
                                         .text = "the stream is stopped by a fork"};
    TIDE_CHECK(intake_stream_state_encode(&stream, &bytes, &size, &err) == 0);
    save("intake", "stream-state", 3, bytes, size);
    free(bytes);
    static struct intake_block_hashes blocks = {
        .lsn = 7, .size = 3 * TIDE_INTAKE_BLOCK - 512, .offset = TIDE_INTAKE_BLOCK, .count = 2};
    TIDE_CHECK(intake_block_hashes_encode(&blocks, &bytes, &size, &err) == 0);
    save("intake", "hashes", 5, bytes, size);
    free(bytes);
    struct intake_point_state point = {
        .round = make_id(3), .answer = ROUND_ANSWER_YES, .label = "full", .text = "held"};
    TIDE_CHECK(intake_point_state_encode(&point, &bytes, &size, &err) == 0);
    save("intake", "point-state", 4, bytes, size);
    free(bytes);
}

static void seed_rest(void)
{
    static const uint8_t sp[] = "\x1f\x05\0SP\0\0p\0\0"
                                "\0\0\0\0\0\0\0\x05hello"
                                "\0\0\0\0\0\0\0\x01!"
                                "\0\0\0\0\0\0\0\x20"
                                "and a message of 32 bytes, whole";
    static const uint8_t too_large[] = "\x1f\x09\0SP\0\0p\0\0\0\0\0\0\0\0\0\x21";
    /* attach all, mark all, seal all (held, right cut); then with each kind of harm */
    static const uint8_t good[] = {1, 0, 0, 8,  0, 16, 0, 2, 0, 10, 0, 18,
                                   0, 4, 0, 12, 0, 20, 0, 2, 1, 10, 1};
    static const uint8_t late[] = {0, 0, 0,  8, 0,  16, 0, 2, 0,  10, 0,  18, 0,
                                   4, 0, 12, 0, 20, 0,  7, 0, 24, 0,  26, 0};
    static const uint8_t wrong_cut[] = {1, 0,  0, 8, 0,    16, 0,    2,  0,   10,
                                        0, 18, 0, 5, 0x20, 13, 0x20, 21, 0x20};
    static const uint8_t unheld[] = {1,    0, 0, 8,  0, 16, 0, 3, 0x20, 11, 0x20, 19,
                                     0x20, 5, 1, 13, 1, 21, 1, 1, 0,    6,  1};
    static const uint8_t dropped[] = {9,  0, 0, 8, 0,  16, 0, 2, 0, 2, 1,  2, 2,
                                      10, 3, 3, 4, 11, 8,  5, 0, 4, 0, 12, 0};
    static const uint8_t partial[] = {7, 0, 0, 16, 0, 3, 12, 19, 12, 4, 0, 20, 0, 8, 7, 11, 0};
    /* a disk that held data and is copied; one that grows, has a gap and is copied over a restart
     */
    static const uint8_t copied[] = {1, 0, 0,  8, 7,  16, 0, 9, 1,  9, 3,  9, 5,
                                     2, 0, 10, 0, 18, 0,  4, 0, 12, 0, 20, 0};
    static const uint8_t resized[] = {1,  0, 0, 8, 0, 16, 0, 1,  2, 1, 0, 1,  35, 0,  0, 1,
                                      35, 1, 5, 2, 0, 10, 0, 18, 0, 4, 0, 12, 0,  20, 0};
    save("sp", "three", -1, sp, sizeof sp - 1);
    save("sp", "too-large", -1, too_large, sizeof too_large - 1);
    save("align", "good", -1, good, sizeof good);
    save("align", "late", -1, late, sizeof late);
    save("align", "wrong-cut", -1, wrong_cut, sizeof wrong_cut);
    save("align", "unheld", -1, unheld, sizeof unheld);
    save("align", "dropped", -1, dropped, sizeof dropped);
    save("align", "partial", -1, partial, sizeof partial);
    save("align", "copied", -1, copied, sizeof copied);
    save("align", "resized", -1, resized, sizeof resized);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    (void)mkdir(folder, 0755);
    seed_records();
    seed_logs();
    seed_segments();
    seed_tapctl();
    seed_envelopes();
    seed_certificates();
    seed_intake();
    seed_rest();
    return 0;
}
