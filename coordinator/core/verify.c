/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/verify.h"

#include <inttypes.h>
#include <string.h>

#include "common/core/check.h"

int verify_definition(const struct round_order *order, const struct definition *definition,
                      struct err *err)
{
    char have[TIDE_HASH_HEX];
    char want[TIDE_HASH_HEX];
    if (definition->epoch.number != order->epoch.number ||
        !hash_equal(&definition->epoch.hash, &order->epoch.hash)) {
        return err_set(err, TIDE_ERR_FAILED,
                       "the definition of epoch %" PRIu64 " has hash %s, the bookmarks name epoch "
                       "%" PRIu64 " with hash %s; bring the definition that the round was taken "
                       "under",
                       definition->epoch.number, hash_hex(&definition->epoch.hash, have),
                       order->epoch.number, hash_hex(&order->epoch.hash, want));
    }
    if (!id_equal(&definition->group, &order->group)) {
        char group[TIDE_ID_HEX];
        char named[TIDE_ID_HEX];
        return err_set(err, TIDE_ERR_FAILED,
                       "the definition is of group \"%s\" (%s), the bookmarks name group %s; the "
                       "round is no point",
                       definition->group_name.s, id_hex(&definition->group, group),
                       id_hex(&order->group, named));
    }
    if (definition->disk_count != order->set.count) {
        return err_set(err, TIDE_ERR_FAILED,
                       "the definition has %u disks, the bookmarks' set counts %u; the round is no "
                       "point",
                       definition->disk_count, (unsigned)order->set.count);
    }
    return 0;
}

int verify_round(const struct align_round *round, const struct definition *definition,
                 struct err *err)
{
    TIDE_CHECK(round->defined || round->answer != ROUND_ANSWER_YES);
    char hex[TIDE_ID_HEX];
    if (round->answer == ROUND_ANSWER_YES && align_label(round, definition) == ALIGN_LABEL_NONE) {
        return err_set(err, TIDE_ERR_FAILED,
                       "round %s has scope member, and its set is not all disks of one member; it "
                       "is no point: take another",
                       id_hex(&round->order.round, hex));
    }
    if (round->answer == ROUND_ANSWER_YES) {
        return 0;
    }
    if (round->unaligned) {
        return err_set(err, TIDE_ERR_FAILED,
                       "round %s was taken with the hold switched off: it is \"unaligned\" and no "
                       "recovery point; take another",
                       id_hex(&round->order.round, hex));
    }
    const char *remedy = round->answer == ROUND_ANSWER_NO
                             ? "the round is no point; take another"
                             : "bring the segments that come after, or those before";
    int disk = id_is_zero(&round->where) ? -1 : definition_find_stream(definition, &round->where);
    if (disk < 0) {
        return err_set(err, TIDE_ERR_FAILED, "round %s: %s; %s", id_hex(&round->order.round, hex),
                       align_why_text(round->why), remedy);
    }
    return err_set(err, TIDE_ERR_FAILED, "disk \"%s/%s\" (stream %s): %s; %s",
                   definition->members[definition->disks[disk].member].name.s,
                   definition->disks[disk].name.s, id_hex(&round->where, hex),
                   align_why_text(round->why), remedy);
}

static int differs(struct err *err, const char *member, const char *what, const char *says,
                   const char *is)
{
    return err_set(err, TIDE_ERR_FAILED,
                   "member \"%s\": its attestation says %s %s, it is %s; the attestation is not "
                   "of this point: bring the member's own",
                   member, what, says, is);
}

/* Who signed, and which round of which definition it is about. */
static int check_head(const struct align_round *round, const struct definition *definition,
                      unsigned member, const struct statement *s, const char *signer,
                      struct err *err)
{
    const struct definition_member *m = &definition->members[member];
    char a[TIDE_HASH_HEX];
    char b[TIDE_HASH_HEX];
    if (strcmp(signer, m->identity) != 0) {
        return err_set(err, TIDE_ERR_FAILED,
                       "member \"%s\": its attestation is signed by \"%s\", the definition gives "
                       "it the identity \"%s\"; bring the attestation of the member itself",
                       m->name.s, signer, m->identity);
    }
    if (!id_equal(&s->round, &round->order.round)) {
        return differs(err, m->name.s, "round", id_hex(&s->round, a),
                       id_hex(&round->order.round, b));
    }
    if (!name_equal(&s->member, &m->name)) {
        return differs(err, m->name.s, "member", s->member.s, m->name.s);
    }
    if (!id_equal(&s->group, &round->order.group)) {
        return differs(err, m->name.s, "group", id_hex(&s->group, a),
                       id_hex(&round->order.group, b));
    }
    if (!epoch_equal(&s->epoch, &round->order.epoch)) {
        return differs(err, m->name.s, "epoch with hash", hash_hex(&s->epoch.hash, a),
                       hash_hex(&round->order.epoch.hash, b));
    }
    if (!hash_equal(&s->cut, &round->cut)) {
        return differs(err, m->name.s, "cut hash", hash_hex(&s->cut, a), hash_hex(&round->cut, b));
    }
    return 0;
}

/* One number of one disk. */
struct field {
    const char *what;
    uint64_t says;
    uint64_t is;
};

static int check_disk(const struct definition *definition, const struct statement_disk *says,
                      const struct align_entry *is, struct err *err)
{
    int disk = definition_find_stream(definition, &is->mark.stream);
    TIDE_CHECK(disk >= 0);
    const char *name = definition->disks[disk].name.s;
    const char *member = definition->members[definition->disks[disk].member].name.s;
    const struct field fields[] = {
        {"incarnation", says->mark.incarnation, is->mark.incarnation},
        {"bookmark LSN", says->mark.lsn, is->mark.lsn},
        {"seal LSN", says->seal_lsn, is->seal_lsn},
        {"hold in us", says->hold_us, is->hold_us},
        {"number of writes held", says->writes_held, is->writes_held},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].says != fields[i].is) {
            return err_set(err, TIDE_ERR_FAILED,
                           "member \"%s\": its attestation gives disk \"%s\" the %s %" PRIu64
                           ", the stream has %" PRIu64 "; one of the two was changed",
                           member, name, fields[i].what, fields[i].says, fields[i].is);
        }
    }
    char a[TIDE_ID_HEX];
    char b[TIDE_ID_HEX];
    if (!id_equal(&says->mark.nonce, &is->mark.nonce)) {
        return err_set(err, TIDE_ERR_FAILED,
                       "member \"%s\": its attestation gives disk \"%s\" the nonce %s, the stream "
                       "has %s; one of the two was changed",
                       member, name, id_hex(&says->mark.nonce, a), id_hex(&is->mark.nonce, b));
    }
    if (says->outcome != is->outcome) {
        return err_set(err, TIDE_ERR_FAILED,
                       "member \"%s\": its attestation gives disk \"%s\" the outcome \"%s\", the "
                       "stream has \"%s\"; one of the two was changed",
                       member, name, round_outcome_name(says->outcome),
                       round_outcome_name(is->outcome));
    }
    return 0;
}

static const struct statement_disk *find_disk(const struct statement *s, const struct id *stream)
{
    for (unsigned i = 0; i < s->disk_count; i++) {
        if (id_equal(&s->disks[i].mark.stream, stream)) {
            return &s->disks[i];
        }
    }
    return NULL;
}

int verify_statement(const struct align_round *round, const struct definition *definition,
                     unsigned member, const struct statement *statement, const char *signer,
                     struct err *err)
{
    TIDE_CHECK(round->answer == ROUND_ANSWER_YES && member < definition->member_count);
    const struct definition_member *m = &definition->members[member];
    unsigned expected = 0;
    if (check_head(round, definition, member, statement, signer, err) != 0) {
        return -1;
    }
    for (unsigned i = m->disk_first; i < (unsigned)m->disk_first + m->disk_count; i++) {
        const struct definition_disk *disk = &definition->disks[i];
        if (!set_has(&round->order.set, i)) {
            continue;
        }
        expected++;
        const struct statement_disk *says = find_disk(statement, &disk->stream);
        if (says == NULL) {
            return err_set(err, TIDE_ERR_FAILED,
                           "member \"%s\": its attestation does not name disk \"%s\", which is in "
                           "the round's set; bring the member's own",
                           m->name.s, disk->name.s);
        }
        const struct align_entry *is = align_entry(round, &disk->stream);
        TIDE_CHECK(is != NULL); /* the rule said yes */
        if (check_disk(definition, says, is, err) != 0) {
            return -1;
        }
    }
    if (statement->disk_count != expected) {
        return err_set(err, TIDE_ERR_FAILED,
                       "member \"%s\": its attestation names %u disks, %u of its disks are in the "
                       "round's set; bring the member's own",
                       m->name.s, statement->disk_count, expected);
    }
    return 0;
}
