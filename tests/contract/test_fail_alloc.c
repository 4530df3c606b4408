/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails, for n = 0, 1, 2, ... until a run meets none, in every module that
 * takes a lack of memory as an error: each failing call says so with code and text, leaves its
 * outputs alone and nothing behind, never calls good bytes wrong, and the same call then succeeds
 * with the same result.
 *
 * Not here: what aborts without memory by design, since it is made once while a daemon starts,
 * before anything is promised (loop, link, log, TLS identity and policy, HTTP client, seats, ports,
 * signer, throttle, events, senders, comparer, tap clients); the table of peers that new
 * definitions bring, and the few words of a watch or timer (a daemon that went on without its peers
 * or its timers would be worse than one that is started again); and the tap's engine
 * (tests/system/test_tap_failnth.c). Links that get no memory for a connection:
 * test_fail_send.c. */
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/core/sha.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "common/wire/certificate.h"
#include "common/wire/envelope.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/core/align.h"
#include "coordinator/intake/arrival.h"
#include "coordinator/intake/hashes.h"
#include "coordinator/intake/points.h"
#include "coordinator/intake/registry.h"
#include "coordinator/recover/materialize.h"
#include "coordinator/store/store.h"
#include "participant/cutlog.h"
#include "participant/cutter.h"
#include "tests/contract/far_rig.h"
#include "tests/unit/hrl_make.h"

/* ---- the layer between ---- */

#define TABLE (1U << 18)

static atomic_long left = -1; /* allocations until one fails; negative: none does */
static atomic_ulong asked;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the two below */
static void *table[TABLE];                               /* what is not freed yet */
static long live;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *at);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *at);

static bool fails(void)
{
    asked++;
    return left >= 0 && atomic_fetch_sub(&left, 1) == 0;
}

static size_t slot_of(const void *at)
{
    size_t k = ((size_t)(uintptr_t)at >> 4) * 2654435761U % TABLE;
    while (table[k] != NULL && table[k] != at) {
        k = (k + 1) % TABLE;
    }
    return k;
}

static void *note(void *at)
{
    if (at != NULL) {
        assert_true(live < (long)TABLE / 2);
        pthread_mutex_lock(&lock);
        table[slot_of(at)] = at;
        live++;
        pthread_mutex_unlock(&lock);
    }
    return at;
}

/* What libraries gave is not in the table. */
static void forget(void *at)
{
    pthread_mutex_lock(&lock);
    size_t k = slot_of(at);
    if (at != NULL && table[k] != NULL) {
        table[k] = NULL;
        live--;
        for (k = (k + 1) % TABLE; table[k] != NULL; k = (k + 1) % TABLE) {
            void *moved = table[k];
            table[k] = NULL;
            table[slot_of(moved)] = moved;
        }
    }
    pthread_mutex_unlock(&lock);
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : note(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : note(__real_calloc(count, size));
}

void *__wrap_realloc(void *at, size_t size)
{
    if (fails()) {
        return NULL;
    }
    forget(at);
    return note(__real_realloc(at, size));
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : note(__real_strdup(text));
}

void __wrap_free(void *at)
{
    forget(at);
    __real_free(at);
}

/* ---- one call, again and again ---- */

/* Does it, checks what came of it, and frees that. */
typedef int call_fn(struct err *err);

static void says(const struct err *err, const char *what, long n)
{
    if ((err->code != TIDE_ERR_LIMIT && err->code != TIDE_ERR_BUSY) || err->text[0] == '\0') {
        fail_msg("%s %ld: %s \"%s\"", what, n, err_name(err->code), err->text);
    }
}

/* prepare: NULL, or makes what the call begins with. */
static void each(const char *what, call_fn *call, void (*prepare)(void), long least)
{
    struct err err = {0};
    if (prepare != NULL) {
        prepare();
    }
    assert_int_equal(call(&err), 0); /* what is made once stays */
    long n = 0;
    for (;; n++) {
        assert_true(n < 100000);
        if (prepare != NULL) {
            prepare();
        }
        long before = live;
        err = (struct err){0};
        left = n;
        int rc = call(&err);
        bool met = left < 0;
        left = -1;
        if (met != (rc != 0)) {
            fail_msg("%s %ld: %s, and it returned %d", what, n, met ? "met" : "not met", rc);
        }
        if (live != before && (rc != 0 || prepare == NULL)) {
            fail_msg("%s %ld: %ld allocations are not freed", what, n, live - before);
        }
        if (!met) {
            break;
        }
        says(&err, what, n);
        err = (struct err){0};
        if (call(&err) != 0) {
            fail_msg("%s %ld: again: %s", what, n, err.text);
        }
    }
    if (n < least) {
        fail_msg("%s: only %ld allocations", what, n);
    }
}

/* ---- common/wire ---- */

static uint8_t encoded[1 << 16]; /* what was encoded first, to compare with */
static size_t encoded_size;
static uint8_t untouched[1 << 20];

/* An encoder's result: the same each time. */
static int same_bytes(int rc, uint8_t *bytes, size_t size)
{
    if (rc != 0) {
        assert_null(bytes);
        assert_int_equal(size, 77);
        return -1;
    }
    assert_true(size <= sizeof encoded);
    if (encoded_size == 0) {
        memcpy(encoded, bytes, size);
        encoded_size = size;
    }
    assert_int_equal(size, encoded_size);
    assert_memory_equal(bytes, encoded, size);
    free(bytes);
    return 0;
}

static struct intake_disk disks[3];
static struct definition definition;
static struct intake_issued issued;
static struct intake_block_hashes hashes;

#define ENCODE(name, from)                                                                         \
    static int name##_encodes(struct err *err)                                                     \
    {                                                                                              \
        uint8_t *bytes = NULL;                                                                     \
        size_t size = 77;                                                                          \
        int rc = intake_##name##_encode(from, &bytes, &size, err);                                 \
        return same_bytes(rc, bytes, size);                                                        \
    }

/* A decoder's result is what was encoded: it encodes to the same. */
#define DECODE(name, type, close)                                                                  \
    static int name##_decodes(struct err *err)                                                     \
    {                                                                                              \
        static type got;                                                                           \
        long kept = left;                                                                          \
        memset(&got, 0x5a, sizeof got);                                                            \
        assert_true(sizeof got <= sizeof untouched);                                               \
        if (intake_##name##_decode(encoded, encoded_size, &got, err) != 0) {                       \
            assert_memory_equal(&got, untouched, sizeof got);                                      \
            return -1;                                                                             \
        }                                                                                          \
        kept = left;                                                                               \
        left = -1;                                                                                 \
        uint8_t *bytes = NULL;                                                                     \
        size_t size = 77;                                                                          \
        assert_int_equal(intake_##name##_encode(&got, &bytes, &size, err), 0);                     \
        (void)same_bytes(0, bytes, size);                                                          \
        close(&got);                                                                               \
        left = kept;                                                                               \
        return 0;                                                                                  \
    }

static void nothing(void *at)
{
    (void)at;
}

static struct intake_register registration = {.count = 3, .disks = disks};
static struct intake_definitions definitions = {.count = 1, .groups = &issued};
static struct intake_stream_state stream_state = {
    .received_lsn = 9, .stored_lsn = 7, .head = {{1}}, .text = "well"};
static struct intake_point_state point_state = {
    .round = {{4}}, .answer = ROUND_ANSWER_NO, .text = "gap"};

ENCODE(register, &registration)
DECODE(register, struct intake_register, intake_register_close)
ENCODE(definition, &definition)
DECODE(definition, struct definition, nothing)
ENCODE(definitions, &definitions)
DECODE(definitions, struct intake_definitions, intake_definitions_close)
ENCODE(stream_state, &stream_state)
DECODE(stream_state, struct intake_stream_state, nothing)
ENCODE(block_hashes, &hashes)
DECODE(block_hashes, struct intake_block_hashes, nothing)
ENCODE(point_state, &point_state)
DECODE(point_state, struct intake_point_state, nothing)

static void define(void)
{
    struct id group = make_id(5);
    struct name name;
    struct definition_member m = {.identity = "spiffe://lab/participant/web",
                                  .address = "127.0.0.11:20004"};
    assert_true(name_parse("shop", &name) && name_parse("web", &m.name));
    definition_init(&definition, &group, &name, 7);
    assert_int_equal(definition_add_member(&definition, &m, NULL), 0);
    for (unsigned k = 0; k < 3; k++) {
        char text[] = {'d', (char)('0' + k), '\0'};
        struct definition_disk disk = {.stream = make_id(k + 1),
                                       .timeline = make_id(k + 2001),
                                       .disk = make_id(k + 1001),
                                       .size = 1 << 20,
                                       .block_size = 512};
        assert_true(name_parse(text, &disk.name));
        assert_int_equal(definition_add_disk(&definition, &disk, NULL), 0);
        disks[k] = (struct intake_disk){.group = name,
                                        .member = m.name,
                                        .disk = disk.name,
                                        .stream = disk.stream,
                                        .timeline = disk.timeline,
                                        .disk_id = disk.disk,
                                        .size = disk.size,
                                        .block_size = disk.block_size};
    }
}

static void both(const char *what, call_fn *encode, call_fn *decode)
{
    encoded_size = 0;
    each(what, encode, NULL, 1);
    each(what, decode, NULL, 1);
}

static void the_objects_of_9443(void **state)
{
    (void)state;
    memset(untouched, 0x5a, sizeof untouched);
    define();
    both("register", register_encodes, register_decodes);
    both("definition", definition_encodes, definition_decodes);
    issued =
        (struct intake_issued){.definition = malloc(encoded_size), .definition_size = encoded_size};
    assert_non_null(issued.definition);
    memcpy(issued.definition, encoded, encoded_size);
    policy_init(&issued.policy);
    both("definitions", definitions_encodes, definitions_decodes);
    free(issued.definition);
    both("stream state", stream_state_encodes, stream_state_decodes);
    hashes = (struct intake_block_hashes){.lsn = 5, .size = 1 << 20, .count = 3};
    both("block hashes", block_hashes_encodes, block_hashes_decodes);
    both("point state", point_state_encodes, point_state_decodes);
}

/* These take their memory from the stack. */
static void messages_and_attestations_take_none(void **state)
{
    static uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    static struct msg message;
    static struct msg back;
    static uint8_t attested[TIDE_ATTESTATION_MAX];
    struct certificate_attestation attestation = {.chain_count = 1};
    struct certificate_attestation got;
    struct certificate_bytes three = {.at = (const uint8_t *)"abc", .size = 3};
    struct err err = {0};
    size_t size = 0;
    (void)state;
    message.type = MSG_RELEASE;
    message.head = (struct msg_head){
        .group = make_id(5), .epoch = {.number = 7, .hash = make_hash(7)}, .incarnation = 3};
    assert_true(name_parse("web", &message.head.from) && name_parse("db", &message.head.to));
    message.release = (struct msg_release){.round = make_id(1), .cut = make_hash(2)};
    attestation.statement = attestation.signature = attestation.chain[0] = three;
    unsigned long before = asked;
    left = 0;
    size_t used = envelope_encode(&message, bytes);
    assert_true(used > 0);
    assert_int_equal(envelope_decode(bytes, used, &back, &err), 0);
    assert_int_equal(certificate_attestation_encode(&attestation, attested, &size, &err), 0);
    assert_int_equal(certificate_attestation_decode(attested, size, &got, &err), 0);
    assert_int_equal(got.signature.size, 3);
    left = -1;
    assert_int_equal(asked, before);
}

static int reads_json(struct err *err)
{
    static const char text[] =
        "{\"a\": [1, 12345678901234567, \"a longer text than sixteen\", {}]}";
    json_t *o = NULL;
    if (jsontext_read(text, sizeof text - 1, 0, &o, err) != 0) {
        assert_null(o);
        return -1;
    }
    const json_t *number = json_array_get(json_object_get(o, "a"), 1);
    assert_true(json_integer_value(number) == 12345678901234567);
    json_decref(o);
    return 0;
}

static void json(void **state)
{
    (void)state;
    each("JSON", reads_json, NULL, 5);
}

/* ---- the participant's journal and cutter ---- */

static char folder[64];
static const struct id cut_stream = {{7}};
static struct cutlog journal;

static void empty_folder(void)
{
    char command[160];
    struct err err = {0};
    snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/streams", folder);
    assert_int_equal(file_mkdirs(command, 0700, &err), 0);
}

static void journal_open(void)
{
    struct err err = {0};
    empty_folder();
    assert_int_equal(cutlog_open(&journal, folder, &cut_stream, &err), 0);
    for (unsigned k = 0; k < 6; k++) {
        struct cutlog_entry e = {.first = k * 10 + 1, .last = k * 10 + 10, .incarnation = 5};
        e.before.b[0] = (uint8_t)k;
        e.hash.b[0] = (uint8_t)(k + 1);
        assert_int_equal(cutlog_append(&journal, &e, &err), 0);
    }
}

static void journal_prepare(void)
{
    journal_open();
    cutlog_close(&journal);
}

static int journal_opens(struct err *err)
{
    if (cutlog_open(&journal, folder, &cut_stream, err) != 0) {
        return -1;
    }
    assert_int_equal(journal.count, 6);
    assert_int_equal(journal.entries[5].last, 60);
    cutlog_close(&journal);
    return 0;
}

static void journal_again(void)
{
    if (journal.fd >= 0) {
        cutlog_close(&journal);
    }
    journal_open();
}

static int journal_trims(struct err *err)
{
    if (cutlog_trim(&journal, 30, true, err) != 0) {
        assert_int_equal(journal.count, 6);
        return -1;
    }
    assert_int_equal(journal.count, 4);
    assert_int_equal(journal.entries[0].first, 21);
    return 0;
}

static int journal_clears(struct err *err)
{
    unsigned before = journal.count;
    if (cutlog_clear(&journal, err) != 0) {
        assert_int_equal(journal.count, before);
        return -1;
    }
    assert_int_equal(journal.count, 0);
    return 0;
}

static int cutter_begins(struct err *err)
{
    struct cutter cutter;
    if (cutter_init(&cutter, err) != 0) {
        cutter_close(&cutter); /* zeroed: that is nothing */
        return -1;
    }
    cutter_close(&cutter);
    return 0;
}

static void the_journal_and_the_cutter(void **state)
{
    (void)state;
    journal.fd = -1;
    each("journal: open", journal_opens, journal_prepare, 1);
    journal.fd = -1;
    each("journal: trim", journal_trims, journal_again, 1);
    each("journal: clear", journal_clears, journal_again, 1);
    cutlog_close(&journal);
    each("cutter", cutter_begins, NULL, 2);
}

/* ---- the store ---- */

#define SEGMENTS 70U /* more than the store knows without its manifest */
#define STORED   67U
#define STAGED   69U

static unsigned fill = STORED; /* this many */
static struct far far;
static struct far_segment segments[SEGMENTS];
static struct store *store;
static struct id round_id;
static uint64_t point_lsn;
static uint8_t image[FAR_DISK_SIZE];

static struct manifest_segment listed(unsigned k)
{
    const struct segment_info *info = &segments[k].info;
    return (struct manifest_segment){.first = info->header.first_lsn,
                                     .last = info->last_lsn,
                                     .hash = info->hash,
                                     .before = info->header.before,
                                     .size = info->size,
                                     .incarnation = info->header.incarnation,
                                     .last_incarnation = info->last_incarnation};
}

static struct manifest_stream about(void)
{
    struct manifest_stream a = {.stream = far.streams[0].stream,
                                .timeline = far.streams[0].timeline,
                                .disk_id = far.streams[0].disk_id,
                                .size = FAR_DISK_SIZE,
                                .block_size = 512};
    assert_true(name_parse("shop", &a.group) && name_parse("web", &a.member) &&
                name_parse("data", &a.disk));
    return a;
}

static void bookmark(void)
{
    struct record mark = {.type = RECORD_BOOKMARK};
    mark.bookmark.order = make_order(1, 2);
    mark.bookmark.nonce = make_id(3);
    mark.bookmark.budget_us = 50000;
    mark.bookmark.wall_error_us = UINT32_MAX;
    far_append(&far.streams[0], &mark);
    round_id = mark.bookmark.order.round;
    point_lsn = mark.lsn;
    memcpy(image, far.streams[0].image, sizeof image);
}

static void make_segments(void)
{
    prng_init(&far.prng, 9);
    far_stream_init(&far, 0);
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_write(&far, 0);
        if (k == 20) {
            bookmark();
        }
        far_cut(&far.streams[0], &segments[k]);
    }
}

static void store_shut(void)
{
    store_close(store);
    store = NULL;
}

/* The first ones, and one that comes too early. */
static void store_fill(void)
{
    struct err err = {0};
    struct manifest_stream a = about();
    struct store_stream_state state;
    enum store_put put;
    store_shut();
    empty_folder();
    assert_int_equal(store_open(folder, NULL, NULL, &store, &err), 0);
    assert_int_equal(store_stream_create(store, &a, &err), 0);
    for (unsigned k = 0; k < fill; k++) {
        struct manifest_segment s = listed(k);
        assert_int_equal(store_put(store, &a.stream, &s, segments[k].bytes, &put, &state, &err), 0);
    }
    struct manifest_segment s = listed(STAGED);
    assert_int_equal(store_put(store, &a.stream, &s, segments[STAGED].bytes, &put, &state, &err),
                     0);
    assert_int_equal(put, STORE_STAGED);
}

static void store_fill_shut(void)
{
    store_fill();
    store_shut();
}

static void state_is(struct store *of, unsigned stored)
{
    struct store_stream_state state;
    struct manifest_stream a;
    assert_true(store_stream_get(of, &far.streams[0].stream, &a, &state));
    assert_false(state.forked || state.damaged);
    assert_int_equal(state.stored_lsn, segments[stored - 1].info.last_lsn);
    assert_true(hash_equal(&state.head, &segments[stored - 1].info.hash));
}

/* The staged one outlives every failed start. */
static int store_opens(struct err *err)
{
    char path[PATH_MAX];
    struct manifest_segment s = listed(STAGED);
    struct store *got = NULL;
    int rc = store_open(folder, NULL, NULL, &got, err);
    if (rc == 0) {
        state_is(got, STORED);
        store_close(got);
    } else {
        assert_null(got);
    }
    manifest_staged_path(folder, &far.streams[0].stream, s.first, s.last, path);
    assert_int_equal(access(path, F_OK), 0);
    return rc;
}

static int puts_segment(unsigned k, enum store_put want, struct err *err)
{
    struct store_stream_state state = {0};
    struct manifest_segment s = listed(k);
    enum store_put put = STORE_STAGED;
    if (store_put(store, &far.streams[0].stream, &s, segments[k].bytes, &put, &state, err) != 0) {
        state_is(store, STORED);
        return -1;
    }
    assert_int_equal(put, want);
    state_is(store, STORED);
    return 0;
}

static int puts_old(struct err *err)
{
    return puts_segment(0, STORE_KNOWN, err);
}

static int checks(struct err *err)
{
    struct segment_info info;
    memset(&info, 0x5a, sizeof info);
    if (store_check_segment(segments[1].bytes, segments[1].info.size, &info, err) != 0) {
        assert_memory_equal(&info, untouched, sizeof info);
        return -1;
    }
    assert_true(hash_equal(&info.hash, &segments[1].info.hash));
    return 0;
}

static int extracts(struct err *err)
{
    struct record *records = NULL;
    size_t count = 77;
    if (points_extract(segments[20].bytes, segments[20].info.size, &records, &count, err) != 0) {
        assert_null(records);
        return -1;
    }
    assert_int_equal(count, 1);
    assert_int_equal(records[0].lsn, point_lsn);
    free(records);
    return 0;
}

static int creates(struct err *err)
{
    struct manifest_stream a = about();
    a.stream = make_id(99);
    return store_stream_create(store, &a, err);
}

static int reads_manifest(struct err *err)
{
    struct manifest m;
    memset(&m, 0x5a, sizeof m);
    if (manifest_read(folder, &far.streams[0].stream, &m, err) != 0) {
        assert_memory_equal(&m, untouched, sizeof m);
        return -1;
    }
    assert_int_equal(m.segment_count, STORED);
    for (unsigned k = 0; k < STORED; k++) {
        assert_true(hash_equal(&m.segments[k].hash, &segments[k].info.hash));
    }
    manifest_close(&m);
    return 0;
}

static int puts_object(struct err *err)
{
    return object_put(folder, "points/g/x.json", "abc", 3, false, err);
}

static int names_objects(struct err *err)
{
    char **names = NULL;
    size_t count = 77;
    char relative[128];
    char hex[TIDE_ID_HEX];
    snprintf(relative, sizeof relative, "streams/%s/segments", id_hex(&far.streams[0].stream, hex));
    if (object_names(folder, relative, "", &names, &count, err) != 0) {
        assert_null(names);
        assert_int_equal(count, 77);
        return -1;
    }
    assert_int_equal(count, STORED);
    object_names_free(names);
    return 0;
}

/* A PUT that fills the hole, and what it makes due: nothing is answered as stored that is not, and
 * where it says nothing of what is behind, that comes again. */
static int arrives(struct err *err)
{
    static const unsigned order[] = {STORED, STORED + 1};
    for (unsigned i = 0; i < 2; i++) {
        struct arrival a = {.store = store,
                            .about = about(),
                            .first = segments[order[i]].info.header.first_lsn,
                            .size = segments[order[i]].info.size};
        long kept = left;
        left = -1;
        a.bytes = malloc(a.size);
        assert_non_null(a.bytes);
        left = kept;
        memcpy(a.bytes, segments[order[i]].bytes, a.size);
        arrival_check(&a);
        arrival_store(&a);
        struct err e = a.err;
        if (e.code == TIDE_ERR_OK) {
            assert_true(a.state.stored_lsn >= segments[order[i]].info.last_lsn);
        } else {
            assert_int_equal(a.record_count, 0);
        }
        arrival_close(&a);
        if (e.code != TIDE_ERR_OK) {
            return err_set(err, e.code, "%s", e.text);
        }
    }
    return 0;
}

/* Not each(): a failure behind the PUT's own segment is no failure of the PUT. */
static void arrivals(void)
{
    for (long n = 0;; n++) {
        struct err err = {0};
        store_fill();
        long before = live;
        left = n;
        int rc = arrives(&err);
        bool met = left < 0;
        left = -1;
        if (rc != 0) {
            says(&err, "arrival", n);
        }
        struct err again = {0};
        if (arrives(&again) != 0) {
            fail_msg("arrival %ld: again: %s", n, again.text);
        }
        assert_int_equal(live, before);
        state_is(store, SEGMENTS);
        if (!met) {
            assert_true(n > 4);
            break;
        }
    }
}

static void the_store(void **state)
{
    (void)state;
    store_fill_shut();
    each("store: open", store_opens, NULL, 20);
    store_fill();
    each("store: what is known", puts_old, NULL, 100);
    each("store: check", checks, NULL, 1);
    each("extract", extracts, NULL, 1);
    each("manifest", reads_manifest, NULL, 100);
    each("object: put", puts_object, NULL, 1);
    each("object: names", names_objects, NULL, 60);
    each("store: create", creates, store_fill, 2);
    arrivals();
    store_shut();
}

/* ---- exports ---- */

static json_t *point;

static void exported_paths(char image_path[96], char note_path[96])
{
    snprintf(image_path, 96, "%s/image", folder);
    snprintf(note_path, 96, "%s/image.tidemark", folder);
}

static void no_export(void)
{
    char a[96];
    char b[96];
    exported_paths(a, b);
    (void)unlink(a);
    (void)unlink(b);
}

static int exports(struct err *err)
{
    char path[96];
    char note_path[96];
    char part[100];
    struct materialize_result result = {.lsn = 77};
    exported_paths(path, note_path);
    struct materialize m = {
        .store = folder, .point = point, .member = "web", .disk = "data", .to = path};
    snprintf(part, sizeof part, "%s.part", path);
    int rc = materialize_run(&m, &result, err);
    assert_int_not_equal(access(part, F_OK), 0);
    if (rc != 0) {
        assert_int_equal(result.lsn, 77);
        assert_int_not_equal(access(path, F_OK), 0);
        return -1;
    }
    assert_int_equal(result.lsn, point_lsn);
    long kept = left;
    left = -1;
    uint8_t *got = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, FAR_DISK_MAX, &got, &size, err), 0);
    assert_int_equal(size, FAR_DISK_SIZE);
    assert_memory_equal(got, image, size);
    free(got);
    left = kept;
    return 0;
}

/* From the point itself: it reads the note beside the image, and there is nothing to apply. */
static int exports_on(struct err *err)
{
    char path[96];
    char note_path[96];
    struct materialize_result result = {0};
    exported_paths(path, note_path);
    struct materialize m = {.store = folder,
                            .point = point,
                            .from = point,
                            .member = "web",
                            .disk = "data",
                            .to = path};
    return materialize_run(&m, &result, err);
}

static int finds_point(struct err *err)
{
    char hex[TIDE_ID_HEX];
    json_t *got = NULL;
    if (materialize_find(folder, NULL, id_hex(&round_id, hex), &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    assert_true(json_equal(got, point));
    json_decref(got);
    return 0;
}

static void exports_of_a_point(void **state)
{
    char hex[TIDE_ID_HEX];
    char stream[TIDE_ID_HEX];
    char relative[128];
    struct err err = {0};
    (void)state;
    store_fill_shut();
    point =
        json_pack("{s:s, s:s, s:[{s:s, s:[{s:s, s:s, s:I}]}]}", "point", id_hex(&round_id, hex),
                  "label", "full", "members", "member", "web", "disks", "disk", "data", "stream",
                  id_hex(&far.streams[0].stream, stream), "lsn", (json_int_t)point_lsn);
    assert_non_null(point);
    char *text = json_dumps(point, 0);
    snprintf(relative, sizeof relative, "points/shop/%s.json", hex);
    assert_int_equal(object_put(folder, relative, text, strlen(text), false, &err), 0);
    free(text);
    each("export", exports, no_export, 100);
    no_export();
    assert_int_equal(exports(&err), 0);
    each("export from", exports_on, NULL, 100);
    each("find", finds_point, NULL, 10);
    json_decref(point);
}

/* ---- hashes ---- */

static struct loop *loop;
static struct loop_timer tick;
static struct hashes *cache;
static bool waits;
static bool answered;
static long asking; /* n */

static void on_answer(void *arg, const struct intake_block_hashes *blocks, const struct err *err)
{
    (void)arg;
    waits = false;
    if (blocks == NULL) {
        says(err, "hashes", asking);
        return;
    }
    assert_true(blocks->lsn == point_lsn && blocks->count == FAR_DISK_SIZE / TIDE_INTAKE_BLOCK);
    for (unsigned k = 0; k < blocks->count; k++) {
        struct hash want = sha_of(image + k * TIDE_INTAKE_BLOCK, TIDE_INTAKE_BLOCK);
        assert_true(hash_equal(&want, &blocks->hashes[k]));
    }
    answered = true;
    loop_stop(loop);
}

/* Asks until it is told; what stands between is a lack of memory, or that it is at work. */
static void on_tick(void *arg)
{
    struct intake_hashes_query query = {.lsn = point_lsn,
                                        .count = FAR_DISK_SIZE / TIDE_INTAKE_BLOCK};
    struct store_stream_state state;
    struct manifest_stream a;
    struct err err = {0};
    (void)arg;
    assert_true(store_stream_get(store, &far.streams[0].stream, &a, &state));
    if (answered) {
        return; /* another question would outlive the cache */
    }
    if (!waits) {
        waits = true; /* the answer may come at once */
        if (hashes_ask(cache, &a.stream, &state, &query, on_answer, NULL, &err) != 0) {
            waits = false;
            says(&err, "hashes", asking);
        }
    }
    loop_timer_set(&tick, clock_mono_us() + 1000);
}

static void hashes_of_blocks(void **state)
{
    struct pool *pool = NULL;
    struct err err = {0};
    char path[96];
    (void)state;
    fill = 22;
    store_fill();
    fill = STORED;
    loop = loop_new();
    loop_timer_init(&tick, loop, on_tick, NULL);
    assert_int_equal(pool_new(loop, &pool, &err), 0);
    snprintf(path, sizeof path, "%s/cache", folder);
    bool met = true;
    for (asking = 0; met; asking++) {
        long before = live;
        assert_int_equal(hashes_new(path, pool, store, &cache, &err), 0);
        left = asking;
        answered = false;
        loop_timer_set(&tick, 0);
        loop_run(loop);
        loop_timer_clear(&tick);
        met = left < 0;
        left = -1;
        assert_true(answered);
        hashes_free(cache);
        assert_int_equal(live, before);
    }
    assert_true(asking > 100);
    pool_free(pool);
    loop_timer_close(&tick);
    loop_free(loop);
    store_shut();
}

/* ---- the alignment ---- */

#define ROUNDS 40U

static struct align *align;

/* All that can be asked. */
static void answers(uint8_t *to, size_t room, size_t *ret_size)
{
    size_t at = 0;
    for (unsigned r = 0; r < ROUNDS; r++) {
        struct id id = make_id(100 + r);
        const struct align_round *round = align_find(align, &id);
        to[at++] = round == NULL ? 9 : (uint8_t)round->answer;
        to[at++] = round == NULL ? 0 : (uint8_t)round->why;
        to[at++] = round == NULL ? 0 : (uint8_t)round->entry_count;
    }
    for (unsigned k = 0; k < 3; k++) {
        struct id id = make_id(k + 1);
        uint64_t lsn = 0;
        uint64_t incarnation = 0;
        to[at++] = (uint8_t)align_stream(align, &id, &lsn, &incarnation);
        to[at++] = (uint8_t)lsn;
        to[at++] = (uint8_t)incarnation;
    }
    to[at++] = (uint8_t)align_count(align);
    to[at++] = (uint8_t)align_dropped(align);
    assert_true(at <= room);
    *ret_size = at;
}

static unsigned long align_faults;

static void step(const struct record *record)
{
    for (long n = 0;; n++) {
        uint8_t before[256];
        uint8_t after[256];
        size_t size = 0;
        size_t now = 0;
        struct err err = {0};
        answers(before, sizeof before, &size);
        left = n;
        int rc = record != NULL ? align_feed(align, record, &err)
                                : align_define(align, &definition, &err);
        bool met = left < 0;
        left = -1;
        assert_int_equal(met, rc != 0);
        if (rc == 0) {
            return;
        }
        align_faults++;
        says(&err, "align", n);
        answers(after, sizeof after, &now);
        assert_int_equal(now, size);
        assert_memory_equal(after, before, size);
    }
}

static void the_alignment(void **state)
{
    struct id group = make_id(5);
    unsigned decided = 0;
    uint64_t lsn = 1;
    (void)state;
    define();
    definition.epoch.hash = make_hash(7);
    long before = live;
    left = 0;
    assert_null(align_new(&group, true, 16));
    left = -1;
    align = align_new(&group, true, 16); /* so that rounds are dropped */
    assert_non_null(align);
    for (unsigned k = 0; k < 3; k++) {
        struct record r = make_attach(k + 1, lsn, 100, true);
        step(&r);
    }
    step(NULL);
    for (unsigned n = 0; n < ROUNDS; n++) {
        struct round_order order = make_order(100 + n, 3);
        struct round_mark marks[3];
        lsn++;
        for (unsigned k = 0; k < 3; k++) {
            struct record r = make_bookmark(k + 1, lsn, 100, &order, 7000 + k);
            marks[k] = (struct round_mark){
                .stream = r.stream, .incarnation = 100, .lsn = lsn, .nonce = r.bookmark.nonce};
            step(&r);
        }
        struct hash cut = round_cut_hash(&order, marks, 3);
        lsn++;
        for (unsigned k = 0; k < 3 && n % 4 != 3; k++) {
            struct record r =
                make_seal(k + 1, lsn, 100, &order.round, lsn - 1, ROUND_OUTCOME_HELD, &cut);
            step(&r);
        }
        const struct align_round *round;
        while ((round = align_next_decided(align)) != NULL) {
            decided += round->answer == ROUND_ANSWER_YES;
        }
    }
    assert_int_equal(decided, ROUNDS / 4 * 3);
    print_message("%lu faults in the alignment\n", align_faults);
    assert_true(align_faults > 30);
    align_free(align);
    assert_int_equal(live, before);
}

/* ---- groups, and the objects of points ---- */

static struct catalog *catalog;
static struct registry *registry;
static json_t *group;

static int on_issued(void *context, const struct definition *d, struct err *err)
{
    (void)context;
    (void)d;
    (void)err;
    return 0;
}

static void registry_shut(void)
{
    registry_free(registry);
    catalog_close(catalog);
    registry = NULL;
    catalog = NULL;
    store_shut();
}

static void catalog_ready(void)
{
    char path[96];
    char text[TIDE_ERR_TEXT_MAX];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/catalog.db", folder);
    assert_int_equal(catalog_open(path, &catalog, text, &err), 0);
}

static void registry_ready(void)
{
    struct err err = {0};
    registry_shut();
    empty_folder();
    assert_int_equal(store_open(folder, NULL, NULL, &store, &err), 0);
    catalog_ready();
    assert_int_equal(registry_open(store, catalog, on_issued, NULL, &registry, &err), 0);
}

static void applied_ready(void)
{
    struct err err = {0};
    registry_ready();
    assert_int_equal(registry_apply(registry, group, &err), 0);
}

static void registered_ready(void)
{
    struct err err = {0};
    applied_ready();
    if (registry_register(registry, "spiffe://lab/participant/web", &registration, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

/* The file of the group has all of its disks, or is not there. */
static void group_is_whole(bool registered)
{
    char path[96];
    uint8_t *text = NULL;
    size_t size = 0;
    long kept = left;
    left = -1;
    snprintf(path, sizeof path, "%s/groups/shop.json", folder);
    if (file_read(path, 1 << 20, &text, &size, NULL) == 0) {
        json_t *o = json_loadb((const char *)text, size, 0, NULL);
        const json_t *list =
            json_object_get(json_array_get(json_object_get(o, "members"), 0), "disks");
        assert_int_equal(json_array_size(list), 3);
        for (size_t k = 0; k < 3 && registered; k++) {
            assert_non_null(json_object_get(json_array_get(list, k), "stream"));
        }
        json_decref(o);
        free(text);
    }
    left = kept;
}

static long kept_live; /* by what stays in memory when it succeeded */

/* They change the registry, so what they keep is taken out of the count by closing it. */
static void each_change(const char *what, call_fn *call, void (*prepare)(void))
{
    for (long n = 0;; n++) {
        struct err err = {0};
        prepare();
        left = n;
        int rc = call(&err);
        bool met = left < 0;
        left = -1;
        if (rc != 0) {
            says(&err, what, n);
        } else if (met) {
            fail_msg("%s %ld: met, and it returned 0", what, n);
        }
        err = (struct err){0};
        if (call(&err) != 0) {
            fail_msg("%s %ld: again: %s", what, n, err.text);
        }
        registry_shut();
        if (live != kept_live) {
            fail_msg("%s %ld: %ld allocations are not freed", what, n, live - kept_live);
        }
        if (!met) {
            assert_true(n > 10);
            return;
        }
    }
}

static int applies(struct err *err)
{
    int rc = registry_apply(registry, group, err);
    group_is_whole(false);
    return rc;
}

static int registers(struct err *err)
{
    int rc = registry_register(registry, "spiffe://lab/participant/web", &registration, err);
    group_is_whole(rc == 0);
    return rc;
}

static int registry_opens(struct err *err)
{
    struct registry *got = NULL;
    if (registry_open(store, catalog, on_issued, NULL, &got, err) != 0) {
        assert_null(got);
        return -1;
    }
    assert_int_equal(registry_count(got), 1);
    registry_free(got);
    return 0;
}

static int lists(struct err *err)
{
    json_t *list = registry_list(registry);
    if (list == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no list");
    }
    const json_t *members = json_object_get(json_array_get(list, 0), "members");
    assert_int_equal(json_array_size(json_object_get(json_array_get(members, 0), "disks")), 3);
    assert_true(json_is_integer(json_object_get(json_array_get(list, 0), "epoch")));
    json_decref(list);
    return 0;
}

static int gives_definitions(struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct hash digest;
    if (registry_definitions(registry, "spiffe://lab/participant/web", &digest, &bytes, &size,
                             err) != 0) {
        assert_null(bytes);
        return -1;
    }
    free(bytes);
    return 0;
}

static void groups(void **state)
{
    (void)state;
    define();
    group = json_pack("{s:s, s:i, s:i, s:s, s:[{s:s, s:s, s:s, s:[s, s, s]}]}", "group", "shop",
                      "interval_ms", 1000, "hold_us_max", 50000, "missing", "strict", "members",
                      "name", "web", "participant", "spiffe://lab/participant/web", "address",
                      "127.0.0.11:20004", "disks", "d0", "d1", "d2");
    assert_non_null(group);
    kept_live = live;
    each_change("apply", applies, registry_ready);
    each_change("register", registers, applied_ready);
    registered_ready();
    each("registry: open", registry_opens, NULL, 50);
    each("registry: list", lists, NULL, 20);
    each("registry: definitions", gives_definitions, NULL, 1);
    registry_shut();
    json_decref(group);
}

static struct align_round round_of_three;

static int makes_object(struct err *err)
{
    uint64_t wall = 0;
    char *text = points_object(&round_of_three, &definition, &wall);
    if (text == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no object");
    }
    assert_true(strlen(text) < sizeof encoded);
    if (encoded_size == 0) {
        encoded_size = strlen(text);
        memcpy(encoded, text, encoded_size);
    }
    assert_int_equal(strlen(text), encoded_size);
    assert_memory_equal(text, encoded, encoded_size);
    free(text);
    return 0;
}

/* A point's object names all members and disks, or is none. */
static void the_object_of_a_point(void **state)
{
    struct align_entry entries[3] = {0};
    (void)state;
    define();
    for (unsigned k = 0; k < 3; k++) {
        entries[k].mark.stream = make_id(k + 1);
        entries[k].mark.lsn = 5;
        entries[k].seal_lsn = 6;
        entries[k].outcome = ROUND_OUTCOME_HELD;
    }
    round_of_three = (struct align_round){.order = make_order(1, 3),
                                          .answer = ROUND_ANSWER_YES,
                                          .entry_count = 3,
                                          .entries = entries};
    encoded_size = 0;
    each("point", makes_object, NULL, 50);
    assert_non_null(strstr((const char *)encoded, "\"d2\""));
}

static int setup(void **state)
{
    json_t *o = NULL;
    (void)state;
    /* In memory where that is there: what is real about syncs is not looked at here. */
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tidemark-alloc-XXXXXX"
                                                 : "/tmp/tidemark-alloc-XXXXXX");
    if (mkdtemp(folder) == NULL || jsontext_read("[]", 2, 0, &o, NULL) != 0) {
        return -1;
    }
    json_decref(o);
    make_segments();
    return 0;
}

static int teardown(void **state)
{
    char command[160];
    (void)state;
    for (unsigned k = 0; k < SEGMENTS; k++) {
        far_segment_free(&segments[k]);
    }
    far_stream_close(&far.streams[0]);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_objects_of_9443),
        cmocka_unit_test(messages_and_attestations_take_none),
        cmocka_unit_test(json),
        cmocka_unit_test(the_journal_and_the_cutter),
        cmocka_unit_test(the_store),
        cmocka_unit_test(exports_of_a_point),
        cmocka_unit_test(hashes_of_blocks),
        cmocka_unit_test(the_alignment),
        cmocka_unit_test(groups),
        cmocka_unit_test(the_object_of_a_point),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
