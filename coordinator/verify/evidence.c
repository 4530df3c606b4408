/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/verify/evidence.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/file.h"
#include "common/wire/certificate.h"
#include "common/wire/intake.h"
#include "coordinator/core/verify.h"
#include "coordinator/store/segment_file.h"
#include "coordinator/verify/pieces.h"

#define NS_PER_S 1000000000U

struct evidence_attestation {
    unsigned member;
    struct id stream;
    uint64_t lsn;
    size_t size;
    uint8_t *bytes;
};

const char *evidence_verdict_text(enum evidence_verdict verdict)
{
    switch (verdict) {
    case EVIDENCE_YES:
        return "yes";
    case EVIDENCE_NOT_ATTESTED:
        return "not attested";
    case EVIDENCE_NO:
        break;
    }
    return "no";
}

/* ---- which round, which definition ---- */

static bool order_equal(const struct round_order *a, const struct round_order *b)
{
    return id_equal(&a->round, &b->round) && id_equal(&a->group, &b->group) &&
           epoch_equal(&a->epoch, &b->epoch) && a->scope == b->scope && a->kind == b->kind &&
           set_equal(&a->set, &b->set);
}

/* Of the orders that carry the id, the one that most bookmarks repeat: a stream outside the set
 * that borrows the id does not change what is asked. */
static int choose_order(const struct pieces *p, const char *prefix, struct round_order *ret,
                        struct err *err)
{
    size_t best = 0;
    if (p->named_count == 0 && p->bad.code == TIDE_ERR_LIMIT) { /* it may be that one */
        return err_set(err, p->bad.code, "%s", p->bad.text);
    }
    if (p->named_count == 0) {
        err_set(err, TIDE_ERR_NOT_FOUND,
                "no bookmark here names a point whose id begins with '%s'; bring the segments of "
                "all its streams%s%s",
                prefix, p->bad_count > 0 ? "; not readable: " : "",
                p->bad_count > 0 ? p->bad.text : "");
        return -1;
    }
    for (size_t k = 0; k < p->named_count; k++) {
        size_t same = 0;
        if (!id_equal(&p->named[k].order.round, &p->named[0].order.round)) {
            return err_set(err, TIDE_ERR_CONFLICT,
                           "several rounds' ids begin with '%s'; give more of it", prefix);
        }
        for (size_t j = 0; j < p->named_count; j++) {
            same += order_equal(&p->named[k].order, &p->named[j].order) ? 1U : 0U;
        }
        if (same > best) {
            best = same;
            *ret = p->named[k].order;
        }
    }
    return 0;
}

static int no_memory(struct err *err)
{
    return err_set(err, TIDE_ERR_LIMIT, "no memory to judge the point");
}

static int load_definition(const char *path, struct definition *ret, struct err *err)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (file_read(path, TIDE_INTAKE_BODY_MAX, &bytes, &size, err) < 0) {
        return -1;
    }
    int rc = intake_definition_decode(bytes, size, ret, err);
    free(bytes);
    return rc < 0 ? err_wrap(err, "'%s'", path) : 0;
}

/* The one of the order's epoch; else one of that number and group, to say what differs. */
static int choose_definition(const struct pieces *p, const struct round_order *order,
                             struct definition **ret, struct err *err)
{
    struct definition *d = malloc(sizeof(*d));
    struct definition *near = NULL;
    struct err bad = {0};
    bool exact = false;
    if (d == NULL) {
        return no_memory(err);
    }
    for (size_t k = 0; !exact && k < p->definition_count; k++) {
        struct err e = {0};
        if (load_definition(p->definitions[k], d, &e) < 0) {
            bad = bad.code == TIDE_ERR_OK || e.code == TIDE_ERR_LIMIT ? e : bad;
            continue;
        }
        exact = epoch_equal(&d->epoch, &order->epoch);
        if (exact || (near == NULL && d->epoch.number == order->epoch.number &&
                      id_equal(&d->group, &order->group))) {
            struct definition *other = near == NULL ? malloc(sizeof(*other)) : near;
            near = d;
            d = other;
            if (d == NULL) {
                free(near);
                return no_memory(err);
            }
        }
    }
    free(d);
    if (!exact && bad.code == TIDE_ERR_LIMIT) { /* it may be that one */
        free(near);
        return err_set(err, bad.code, "%s", bad.text);
    }
    *ret = near;
    if (near == NULL && bad.code != TIDE_ERR_OK) {
        return err_set(err, bad.code, "%s", bad.text);
    }
    if (near == NULL && p->definition_count == 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND,
                       "there is no definition here (definitions/GROUP/EPOCH.pb); name it with "
                       "--definition FILE");
    }
    return 0;
}

static int find_definition(struct evidence *e, const struct evidence_request *request,
                           const struct pieces *p, struct err *err)
{
    if (request->definition != NULL) {
        struct definition *d = malloc(sizeof(*d));
        if (d == NULL) {
            return no_memory(err);
        }
        if (load_definition(request->definition, d, err) < 0) {
            free(d);
            return -1;
        }
        e->definition = d;
    } else if (choose_definition(p, &e->order, &e->definition, err) < 0) {
        return -1;
    }
    if (e->definition == NULL) {
        char hash[TIDE_HASH_HEX];
        err_set(&e->wrong, TIDE_ERR_FAILED,
                "the bookmarks name the definition of epoch %" PRIu64 " with hash %s, and it is "
                "not here; name it with --definition FILE",
                e->order.epoch.number, hash_hex(&e->order.epoch.hash, hash));
        return 0;
    }
    (void)verify_definition(&e->order, e->definition, &e->wrong);
    return 0;
}

/* ---- reading the streams ---- */

static int keep(struct evidence *e, unsigned member, const struct record *r, struct err *err)
{
    size_t have = 0;
    for (size_t k = 0; k < e->attestation_count; k++) {
        have += e->attestations[k].member == member ? 1U : 0U;
    }
    if (have >= EVIDENCE_ATTESTATIONS_MAX) {
        return err_set(&e->wrong, TIDE_ERR_FAILED,
                       "member \"%s\" has more than %u attestations of this point in its streams; "
                       "one is expected",
                       e->definition->members[member].name.s, EVIDENCE_ATTESTATIONS_MAX);
    }
    struct evidence_attestation *more =
        realloc(e->attestations, (e->attestation_count + 1) * sizeof(*more));
    if (more == NULL) {
        return no_memory(err);
    }
    e->attestations = more;
    uint8_t *bytes = malloc(r->attestation.size);
    if (bytes == NULL) {
        return no_memory(err);
    }
    memcpy(bytes, r->attestation.bytes, r->attestation.size);
    more[e->attestation_count++] = (struct evidence_attestation){.member = member,
                                                                 .stream = r->stream,
                                                                 .lsn = r->lsn,
                                                                 .size = r->attestation.size,
                                                                 .bytes = bytes};
    return 0;
}

/* Bookmarks of other rounds are fed as such of another group: they end what is open, as the rule
 * wants, and make no round, so that memory does not grow with the store. */
static int feed(struct evidence *e, unsigned disk, const struct record *record, struct err *err)
{
    struct record r = *record;
    unsigned member = e->definition->disks[disk].member;
    if (r.type == RECORD_ATTESTATION && id_equal(&r.attestation.round, &e->order.round)) {
        return keep(e, member, &r, err);
    }
    if (r.type == RECORD_BOOKMARK && !id_equal(&r.bookmark.order.round, &e->order.round)) {
        memset(&r.bookmark.order.group, 0, sizeof(r.bookmark.order.group));
    } else if (r.type == RECORD_BOOKMARK && !id_equal(&r.bookmark.order.group, &e->order.group)) {
        return err_set(&e->wrong, TIDE_ERR_FAILED,
                       "disk \"%s/%s\": its bookmark at LSN %" PRIu64
                       " names another group than the others'; the round is no point",
                       e->definition->members[member].name.s, e->definition->disks[disk].name.s,
                       r.lsn);
    }
    return align_feed(e->align, &r, err);
}

static int read_records(struct evidence *e, unsigned disk, const struct piece *piece,
                        const struct source *source, uint8_t *buffer, struct err *err)
{
    struct segment_reader reader;
    struct record record;
    int more;
    if (segment_reader_init(&reader, source, 0, buffer, TIDE_SEGMENT_BUFFER, err) < 0 ||
        segment_reader_verify(&reader, err) < 0) {
        return -1;
    }
    if (!hash_equal(&reader.info.hash, &piece->info.hash)) {
        return err_set(err, TIDE_ERR_CONFLICT, "changed while it was read");
    }
    while ((more = segment_reader_next(&reader, &record, NULL, NULL, err)) > 0) {
        if (feed(e, disk, &record, err) < 0) {
            return -1;
        }
    }
    return more;
}

static int read_piece(struct evidence *e, struct keyring *keyring, unsigned disk,
                      const struct piece *piece, uint8_t *buffer, struct err *err)
{
    struct segment_file file;
    struct err inner = {0};
    if (segment_file_open(&file, keyring, piece->path, err) < 0) {
        return -1;
    }
    struct source source = segment_file_source(&file);
    int rc = read_records(e, disk, piece, &source, buffer, &inner);
    segment_file_close(&file);
    if (rc < 0 && e->wrong.code == TIDE_ERR_OK) {
        return err_set(err, inner.code, "'%s': %s%s", piece->path, inner.text,
                       inner.code == TIDE_ERR_LIMIT ? "" : "; take this file from another copy");
    }
    e->segments++;
    e->bytes += piece->info.size;
    return rc;
}

/* Whether the stream has nothing more to say: its answer, and the attestation that lies in it. */
static bool is_read(const struct evidence *e, unsigned disk)
{
    const struct definition *d = e->definition;
    const struct align_round *round = align_find(e->align, &e->order.round);
    const struct align_entry *entry =
        round == NULL ? NULL : align_entry(round, &d->disks[disk].stream);
    if (entry == NULL || entry->answer == ROUND_ANSWER_UNKNOWN) {
        return false;
    }
    unsigned member = d->disks[disk].member;
    bool attested = d->members[member].disk_first != disk;
    for (size_t k = 0; k < e->attestation_count; k++) {
        attested = attested || e->attestations[k].member == member;
    }
    return attested;
}

static int lacks(struct evidence *e, const struct pieces *p, unsigned disk, uint64_t from,
                 uint64_t to, struct err *err)
{
    char hex[TIDE_ID_HEX];
    const struct definition_disk *k = &e->definition->disks[disk];
    if (p->bad_count > 0) { /* it may be that one */
        return err_set(err, p->bad.code, "%s; take this file from another copy", p->bad.text);
    }
    return err_set(&e->wrong, TIDE_ERR_FAILED,
                   "disk \"%s/%s\" (stream %s): the records of LSN %" PRIu64 " to %" PRIu64
                   " are missing; bring the segments that hold them",
                   e->definition->members[k->member].name.s, k->name.s, id_hex(&k->stream, hex),
                   from, to);
}

/* 0: read as far as it is needed or goes; -1 with e->wrong or *err set. */
static int read_stream(struct evidence *e, const struct pieces *p, unsigned disk, uint8_t *buffer,
                       struct err *err)
{
    size_t count = 0;
    const struct piece *pieces = pieces_of(p, &e->definition->disks[disk].stream, &count);
    const struct segment_info *before = NULL;
    for (size_t k = 0; k < count && !is_read(e, disk); k++) {
        const struct segment_info *info = &pieces[k].info;
        uint64_t due = before == NULL ? 1 : before->last_lsn + 1;
        struct err chain = {0};
        if (before != NULL && hash_equal(&info->hash, &before->hash)) {
            continue; /* a second copy of the same */
        }
        if (info->header.first_lsn > due) {
            return lacks(e, p, disk, due, info->header.first_lsn - 1, err);
        }
        if (segment_follows(before, info, &chain) < 0) {
            return err_set(&e->wrong, TIDE_ERR_FAILED,
                           "'%s': %s; one of the two segments was changed: take them from another "
                           "copy",
                           pieces[k].path, chain.text);
        }
        if (read_piece(e, p->keyring, disk, &pieces[k], buffer, err) < 0) {
            return -1;
        }
        before = info;
    }
    e->streams++;
    if (p->bad_count > 0 && !is_read(e, disk)) { /* what is missing may be in that one */
        return err_set(err, p->bad.code, "%s; take this file from another copy", p->bad.text);
    }
    return 0;
}

static int read_streams(struct evidence *e, const struct pieces *p, struct err *err)
{
    e->align = align_new(&e->order.group, true, TIDE_ALIGN_ROUNDS);
    uint8_t *buffer = malloc(TIDE_SEGMENT_BUFFER);
    if (e->align == NULL || buffer == NULL) {
        free(buffer);
        return no_memory(err);
    }
    int rc = align_define(e->align, e->definition, err);
    for (unsigned k = 0; rc == 0 && k < e->definition->disk_count; k++) {
        if (set_has(&e->order.set, k)) {
            rc = read_stream(e, p, k, buffer, err);
        }
    }
    free(buffer);
    if (rc < 0) {
        return e->wrong.code != TIDE_ERR_OK ? 0 : -1;
    }
    e->round = align_find(e->align, &e->order.round);
    if (e->round == NULL) {
        err_set(&e->wrong, TIDE_ERR_FAILED,
                "no stream of the round's set names it; bring the segments of all its disks");
        return 0;
    }
    (void)verify_round(e->round, e->definition, &e->wrong);
    return 0;
}

/* ---- attestations ---- */

static int check_signed(const struct trust *trust, const struct certificate_attestation *a,
                        const struct statement *s, char ret_uri[TLS_URI_MAX + 1], struct err *err)
{
    uint8_t message[TIDE_STATEMENT_SIGNED_MAX];
    struct trust_signed what = {.message = message,
                                .message_size =
                                    certificate_signed(a->statement.at, a->statement.size, message),
                                .signature = a->signature.at,
                                .signature_size = a->signature.size,
                                .count = a->chain_count,
                                .at_s = (int64_t)(s->wall_ns / NS_PER_S)};
    for (unsigned k = 0; k < a->chain_count; k++) {
        what.der[k] = a->chain[k].at;
        what.der_size[k] = a->chain[k].size;
    }
    return trust_verify(trust, &what, ret_uri, err);
}

static int check_attestation(const struct evidence *e, const struct trust *trust,
                             const struct evidence_attestation *at, struct evidence_member *ret,
                             struct err *err)
{
    struct certificate_attestation a;
    struct statement s;
    struct err inner = {0};
    char uri[TLS_URI_MAX + 1];
    char hex[TIDE_ID_HEX];
    bool read = certificate_attestation_decode(at->bytes, at->size, &a, &inner) == 0 &&
                certificate_statement_decode(a.statement.at, a.statement.size, &s, &inner) == 0;
    bool good = read && check_signed(trust, &a, &s, uri, &inner) == 0;
    if (read && !good && inner.code == TIDE_ERR_LIMIT) {
        return err_set(err, inner.code, "%s", inner.text);
    }
    if (!good) {
        return err_set(err, TIDE_ERR_FAILED,
                       "member \"%s\": its attestation at LSN %" PRIu64 " of stream %s: %s; %s",
                       e->definition->members[at->member].name.s, at->lsn, id_hex(&at->stream, hex),
                       inner.text,
                       inner.code == TIDE_ERR_DENIED
                           ? "give the CA that the site had with --ca; else do not believe it"
                           : "it was changed: take the stream from another copy");
    }
    if (verify_statement(e->round, e->definition, at->member, &s, uri, err) < 0) {
        return -1;
    }
    ret->signed_ns = s.wall_ns;
    ret->stream = at->stream;
    ret->lsn = at->lsn;
    memcpy(ret->signer, uri, sizeof(uri));
    return 0;
}

/* One that is good is enough: whoever keeps the streams can add another, and nobody can make one
 * but the member. */
static int judge_member(struct evidence *e, const struct trust *trust, unsigned member,
                        struct err *err)
{
    struct evidence_member *m = &e->members[member];
    bool found = false;
    for (size_t k = 0; k < e->attestation_count; k++) {
        struct err wrong = {0};
        if (e->attestations[k].member != member) {
            continue;
        }
        if (check_attestation(e, trust, &e->attestations[k], m, &wrong) == 0) {
            m->verdict = EVIDENCE_YES;
            m->wrong = (struct err){0};
            return 0;
        }
        if (wrong.code == TIDE_ERR_LIMIT) {
            return err_set(err, wrong.code, "%s", wrong.text);
        }
        m->wrong = found ? m->wrong : wrong;
        found = true;
    }
    m->verdict = found ? EVIDENCE_NO : EVIDENCE_NOT_ATTESTED;
    if (!found) {
        err_set(&m->wrong, TIDE_ERR_FAILED,
                "member \"%s\" (\"%s\"): not attested: no attestation of this point is in its "
                "streams; bring the segments that come after",
                e->definition->members[member].name.s, e->definition->members[member].identity);
    }
    return 0;
}

static int judge_members(struct evidence *e, const struct trust *trust, struct err *err)
{
    e->verdict = EVIDENCE_YES;
    for (unsigned k = 0; k < e->definition->member_count; k++) {
        struct evidence_member *m = &e->members[k];
        if (!m->counted) {
            continue;
        }
        if (judge_member(e, trust, k, err) < 0) {
            return -1;
        }
        if (m->verdict != EVIDENCE_YES && (e->verdict == EVIDENCE_YES || m->verdict < e->verdict)) {
            e->verdict = m->verdict;
            e->wrong = m->wrong;
        }
    }
    return 0;
}

/* ---- all of it ---- */

static int find_prefix(const char *text, char ret[TIDE_ID_HEX], struct err *err)
{
    size_t size = strlen(text);
    if (size == 0 || size >= TIDE_ID_HEX || strspn(text, "0123456789abcdefABCDEF") != size) {
        return err_set(err, TIDE_ERR_USAGE,
                       "'%.64s' is not a point: 1 to 32 hex digits of its id are expected", text);
    }
    for (size_t k = 0; k <= size; k++) {
        ret[k] = (char)(text[k] >= 'A' && text[k] <= 'F' ? text[k] + 32 : text[k]);
    }
    return 0;
}

static int judge(struct evidence *e, const struct evidence_request *request, const struct pieces *p,
                 const char *prefix, struct err *err)
{
    if (choose_order(p, prefix, &e->order, err) < 0 || find_definition(e, request, p, err) < 0) {
        return -1;
    }
    if (e->wrong.code != TIDE_ERR_OK) {
        return 0;
    }
    e->members = calloc(e->definition->member_count, sizeof(*e->members));
    if (e->members == NULL) {
        return no_memory(err);
    }
    for (unsigned k = 0; k < e->definition->member_count; k++) {
        e->members[k].counted = definition_set_has_member(e->definition, k, &e->order.set);
    }
    if (read_streams(e, p, err) < 0) {
        return -1;
    }
    return e->wrong.code == TIDE_ERR_OK ? judge_members(e, request->trust, err) : 0;
}

int evidence_judge(const struct evidence_request *request, struct evidence *ret, struct err *err)
{
    char prefix[TIDE_ID_HEX];
    struct pieces pieces;
    struct evidence e = {.verdict = EVIDENCE_NO};
    if (find_prefix(request->prefix, prefix, err) < 0 ||
        pieces_find(request->folder, request->keyring, prefix, &pieces, err) < 0) {
        return -1;
    }
    int rc = judge(&e, request, &pieces, prefix, err);
    pieces_close(&pieces);
    if (rc < 0) {
        evidence_close(&e);
        return -1;
    }
    *ret = e;
    return 0;
}

void evidence_close(struct evidence *e)
{
    for (size_t k = 0; k < e->attestation_count; k++) {
        free(e->attestations[k].bytes);
    }
    free(e->attestations);
    free(e->members);
    align_free(e->align);
    free(e->definition);
    *e = (struct evidence){0};
}
