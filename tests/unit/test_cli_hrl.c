/* SPDX-License-Identifier: Apache-2.0 */
/* `tidemark hrl` over files made here: a folder of three streams with a good, an aborted and an
 * open round, then with each kind of harm. */
#include "tests/unit/hrl_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/hrl/log.h"
#include "common/hrl/segment.h"
#include "common/wire/intake.h"

#define DISKS 3U

static char folder[] = "/tmp/tidemark-hrl-XXXXXX";
static char output[65536];

static void path_of(char ret[128], uint64_t stream, unsigned part)
{
    snprintf(ret, 128, "%s/s%u/%u.hrl", folder, (unsigned)stream, part);
}

static void put_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    TIDE_CHECK(f != NULL);
    TIDE_CHECK(fwrite(bytes, 1, size, f) == size);
    TIDE_CHECK(fclose(f) == 0);
}

/* Runs `tidemark hrl ARGUMENTS`; standard output and error into `output`. Returns the status. */
static int run(const char *arguments)
{
    char command[1024];
    const char *build = getenv("TIDE_BUILD");
    TIDE_CHECK(build != NULL);
    snprintf(command, sizeof(command), "%s/bin/tidemark hrl %s 2>&1", build, arguments);
    FILE *p = popen(command, "r");
    TIDE_CHECK(p != NULL);
    size_t got = fread(output, 1, sizeof(output) - 1, p);
    output[got] = '\0';
    int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_output(const char *text)
{
    if (strstr(output, text) == NULL)
        fail_msg("\"%s\" is not in:\n%s", text, output);
}

struct stream {
    struct segment_info info;
    struct segment_header header;
    uint64_t number;
    uint64_t lsn;
    unsigned part;
};

static struct segment_writer writer;
static uint8_t object[65536];

static void put(struct stream *s, struct record record)
{
    uint8_t bytes[TIDE_RECORD_SMALL_MAX];
    struct err err;
    size_t size = record_encode(&record, bytes, sizeof(bytes));
    assert_int_equal(segment_writer_append(&writer, &record, bytes, size, &err), 0);
    s->lsn++;
}

static void begin(struct stream *s)
{
    segment_writer_init(&writer, object, sizeof(object), &s->header);
}

static void cut(struct stream *s)
{
    char path[128];
    segment_writer_finish(&writer, &s->info);
    path_of(path, s->number, ++s->part);
    put_file(path, object, (size_t)s->info.size);
    s->header = segment_next_header(&s->info);
}

static uint8_t *definition_bytes;
static size_t definition_size;

static void name_of(struct name *ret, const char *text)
{
    TIDE_CHECK(name_parse(text, ret));
}

/* Three members with a disk each; its bytes give the epoch's hash. */
static void make_definition(void)
{
    static struct definition d;
    struct id group = make_id(5);
    struct name name;
    struct err err;
    name_of(&name, "shop");
    definition_init(&d, &group, &name, 7);
    for (unsigned k = 0; k < DISKS; k++) {
        struct definition_member member = {.address = "127.0.0.11:20004"};
        struct definition_disk disk = {.stream = make_id(k + 1),
                                       .timeline = make_id(k + 2001),
                                       .disk = make_id(k + 1001),
                                       .size = 1 << 20,
                                       .block_size = 4096};
        char text[] = {'v', 'm', (char)('1' + k), '\0'};
        name_of(&member.name, text);
        snprintf(member.identity, sizeof(member.identity), "spiffe://site/participant/%s", text);
        name_of(&disk.name, "data");
        TIDE_CHECK(definition_add_member(&d, &member, &err) == 0);
        TIDE_CHECK(definition_add_disk(&d, &disk, &err) == 0);
    }
    TIDE_CHECK(intake_definition_encode(&d, &definition_bytes, &definition_size, &err) == 0);
}

/* Round 3 good, round 4 aborted on stream 2, round 5 not sealed on stream 3. */
static int make_folder(void **state)
{
    (void)state;
    TIDE_CHECK(mkdtemp(folder) != NULL);
    make_definition();
    static struct stream streams[DISKS];
    struct round_mark marks[DISKS];
    for (unsigned k = 0; k < DISKS; k++) {
        struct stream *s = &streams[k];
        char path[128];
        s->number = k + 1;
        s->lsn = 1;
        s->header = (struct segment_header){
            .stream = make_id(s->number), .timeline = make_id(s->number + 2000), .first_lsn = 1};
        snprintf(path, sizeof(path), "%s/s%u", folder, k + 1);
        TIDE_CHECK(mkdir(path, 0700) == 0);
    }
    for (uint64_t n = 3; n <= 5; n++) {
        struct round_order order = make_order(n, DISKS);
        order.epoch.hash = sha_of(definition_bytes, definition_size);
        for (unsigned k = 0; k < DISKS; k++) {
            struct record r = make_bookmark(k + 1, 2 + 3 * (n - 3), 77, &order, 100 * n + k);
            marks[k] = (struct round_mark){r.stream, 77, r.lsn, r.bookmark.nonce};
        }
        struct hash hash = round_cut_hash(&order, marks, DISKS);
        for (unsigned k = 0; k < DISKS; k++) {
            struct stream *s = &streams[k];
            begin(s);
            if (n == 3)
                put(s, make_attach(s->number, s->lsn, 77, true));
            else
                put(s, make_write(s->number, s->lsn, 77, 4096 * n, "data", 4));
            put(s, make_bookmark(s->number, s->lsn, 77, &order, 100 * n + k));
            cut(s);
            begin(s);
            if (n == 5 && k == 2)
                put(s, make_write(s->number, s->lsn, 77, 0, "x", 1));
            else
                put(s, make_seal(s->number, s->lsn, 77, &order.round, s->lsn - 1,
                                 n == 4 && k == 1 ? ROUND_OUTCOME_ABORTED : ROUND_OUTCOME_HELD,
                                 n == 4 && k == 1 ? NULL : &hash));
            cut(s);
        }
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[256];
    free(definition_bytes);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

static void align_good(void **state)
{
    (void)state;
    char arguments[256];
    snprintf(arguments, sizeof(arguments), "align %s", folder);
    assert_int_equal(run(arguments), 0);
    expect_output("full");
    expect_output("the hold was aborted");
    expect_output("unknown");
    expect_output("no seal yet");
    expect_output("judged by \"set\"");
    snprintf(arguments, sizeof(arguments), "align -o json %s", folder);
    assert_int_equal(run(arguments), 0);
    expect_output("\"answer\": \"yes\"");
    expect_output("\"whole\": \"yes\"");
}

/* With the definition at hand: judged by it, and streams have names. */
static void align_defined(void **state)
{
    (void)state;
    char path[128];
    char arguments[256];
    static const char *const parts[] = {"definitions", "definitions/shop"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, parts[i]);
        TIDE_CHECK(mkdir(path, 0700) == 0);
    }
    snprintf(path, sizeof(path), "%s/definitions/shop/00000000000000000007.pb", folder);
    put_file(path, definition_bytes, definition_size);
    snprintf(arguments, sizeof(arguments), "align %s", folder);
    assert_int_equal(run(arguments), 0);
    expect_output("definition yes     full");
    expect_output("vm2/data the hold was aborted");
    assert_null(strstr(output, "judged by \"set\""));
    put_file(path, definition_bytes, definition_size - 1);
    assert_int_equal(run(arguments), 7);
    TIDE_CHECK(unlink(path) == 0);
}

static void show_and_check(void **state)
{
    (void)state;
    char arguments[512];
    snprintf(arguments, sizeof(arguments), "show %s/s1/1.hrl %s/s1/2.hrl", folder, folder);
    assert_int_equal(run(arguments), 0);
    expect_output("base-zero");
    expect_output("bookmark");
    expect_output("held");
    snprintf(arguments, sizeof(arguments), "show -o json %s/s1/1.hrl", folder);
    assert_int_equal(run(arguments), 0);
    expect_output("\"form\": \"segment\"");
    snprintf(arguments, sizeof(arguments), "check %s/s1/1.hrl %s/s1/2.hrl %s/s2/1.hrl", folder,
             folder, folder);
    assert_int_equal(run(arguments), 0);
    snprintf(arguments, sizeof(arguments), "check %s/s1/1.hrl %s/s1/3.hrl", folder, folder);
    assert_int_equal(run(arguments), 7);
    expect_output("chain: the segment begins with lsn 4, due is lsn 3");
    assert_int_equal(run("check /nonexistent"), 4);
    assert_int_equal(run("check"), 2);
    assert_int_equal(run("align /nonexistent"), 4);
}

/* What a resize, a gap and a copy say of themselves. */
static void show_changes(void **state)
{
    (void)state;
    struct stream s = {.number = 9, .lsn = 1};
    s.header =
        (struct segment_header){.stream = make_id(9), .timeline = make_id(2009), .first_lsn = 1};
    char path[128];
    char arguments[256];
    begin(&s);
    put(&s, make_attach(9, s.lsn, 77, true));
    put(&s, make_resize(9, s.lsn, 77, 1 << 20, 3 << 20));
    static const enum record_gap_reason reasons[] = {RECORD_GAP_IDENTITY, RECORD_GAP_ASKED};
    for (size_t i = 0; i < 2; i++) {
        struct record gap = make_gap(9, s.lsn, 77);
        gap.gap.reason = reasons[i];
        put(&s, gap);
    }
    struct record copy = make_record(RECORD_COPY_BEGIN, 9, s.lsn, 77);
    copy.copy_begin = (struct record_copy_begin){.kind = RECORD_COPY_CHANGES, .size = 3 << 20};
    put(&s, copy);
    segment_writer_finish(&writer, &s.info);
    snprintf(path, sizeof(path), "%s/changes.hrl", folder);
    put_file(path, object, (size_t)s.info.size);
    snprintf(arguments, sizeof(arguments), "show %s", path);
    assert_int_equal(run(arguments), 0);
    expect_output("size 3145728 before 1048576");
    expect_output("identity from lsn 3");
    expect_output("asked from lsn 4");
    expect_output("changes of 3145728 bytes");
    assert_int_equal(unlink(path), 0);
}

/* A log file with a torn tail is no error; a segment with a flipped bit is. */
static void harmed_files(void **state)
{
    (void)state;
    static uint8_t log[TIDE_LOG_FILE_MIN];
    char path[128];
    char arguments[512];
    struct log_header h = {.stream = make_id(1), .file_size = sizeof(log), .first_lsn = 1};
    log_header_encode(&h, log);
    struct record r = make_attach(1, 1, 77, true);
    size_t at = TIDE_LOG_HEADER + record_encode(&r, log + TIDE_LOG_HEADER, 1024);
    r = make_write(1, 2, 77, 0, "torn", 4);
    record_encode(&r, log + at, 1024);
    log[at + TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX] ^= 1;
    snprintf(path, sizeof(path), "%s/log", folder);
    put_file(path, log, sizeof(log));
    snprintf(arguments, sizeof(arguments), "check %s", path);
    assert_int_equal(run(arguments), 0);
    expect_output("torn record at position 728");
    snprintf(arguments, sizeof(arguments), "show %s", path);
    assert_int_equal(run(arguments), 0);
    expect_output("attach");

    memset(log, 0, sizeof(log)); /* preallocated */
    put_file(path, log, sizeof(log));
    snprintf(arguments, sizeof(arguments), "check %s", path);
    assert_int_equal(run(arguments), 0);
    expect_output("not been used yet");
    log[100] = 1;
    put_file(path, log, sizeof(log));
    assert_int_equal(run(arguments), 7);

    path_of(path, 2, 3); /* round 4's bookmark in stream 2 */
    FILE *f = fopen(path, "r+b");
    TIDE_CHECK(f != NULL && fseek(f, 300, SEEK_SET) == 0);
    int byte = fgetc(f);
    TIDE_CHECK(fseek(f, 300, SEEK_SET) == 0 && fputc(byte ^ 4, f) != EOF && fclose(f) == 0);
    snprintf(arguments, sizeof(arguments), "check %s", path);
    assert_int_equal(run(arguments), 7);
    expect_output("the hash says");
    snprintf(arguments, sizeof(arguments), "align %s", folder);
    assert_int_equal(run(arguments), 7);
    expect_output("the hash says");
    expect_output("full"); /* round 3 lies before the harm */
    path_of(path, 2, 3);
    assert_int_equal(unlink(path), 0);
    snprintf(arguments, sizeof(arguments), "align %s", folder);
    assert_int_equal(run(arguments), 7);
    expect_output("chain: the segment begins with lsn 6, due is lsn 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(align_good),     cmocka_unit_test(align_defined),
        cmocka_unit_test(show_and_check), cmocka_unit_test(show_changes),
        cmocka_unit_test(harmed_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
