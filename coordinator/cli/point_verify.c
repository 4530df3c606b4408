/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/point_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/io/clock.h"
#include "coordinator/cli/cli.h"
#include "coordinator/verify/evidence.h"

#define NS_PER_S  1000000000U
#define TIME_TEXT (CLOCK_TEXT_MAX + 1)

enum {
    KEY_STORE = 0x100,
    KEY_MASTER_KEY,
    KEY_CA,
    KEY_DEFINITION,
};

struct verify_options {
    enum cli_output output;
    const char *point;
    const char *store;
    const char *ca;
    const char *definition;
    const char *master_key;
};

static error_t verify_option(int key, char *arg, struct argp_state *state)
{
    struct verify_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_STORE:
        o->store = arg;
        return 0;
    case KEY_CA:
        o->ca = arg;
        return 0;
    case KEY_MASTER_KEY:
        o->master_key = arg;
        return 0;
    case KEY_DEFINITION:
        o->definition = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->point != NULL) {
            argp_error(state, "\"%s\" is not expected here", arg);
        }
        o->point = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *time_text(uint64_t wall_ns, char ret[TIME_TEXT])
{
    char time[CLOCK_TEXT_MAX];
    snprintf(ret, TIME_TEXT, "%sZ", clock_text((int64_t)(wall_ns / NS_PER_S), time));
    return ret;
}

/* "full", "partial", "single-vm"; "" where the rule did not say yes. */
static const char *label_of(const struct evidence *e)
{
    if (e->round == NULL || e->round->answer != ROUND_ANSWER_YES) {
        return "";
    }
    return align_label_name(align_label(e->round, e->definition));
}

/* Of a single VM's point nobody else is missing. */
static bool is_single(const struct evidence *e)
{
    return e->order.scope == ROUND_SCOPE_MEMBER;
}

static unsigned counted(const struct evidence *e)
{
    unsigned n = 0;
    for (unsigned k = 0; e->members != NULL && k < e->definition->member_count; k++) {
        n += e->members[k].counted ? 1U : 0U;
    }
    return n;
}

static unsigned attested(const struct evidence *e)
{
    unsigned n = 0;
    for (unsigned k = 0; e->members != NULL && k < e->definition->member_count; k++) {
        n += e->members[k].verdict == EVIDENCE_YES ? 1U : 0U;
    }
    return n;
}

/* The members are judged only where the rule says yes. */
static bool judged(const struct evidence *e)
{
    return *label_of(e) != '\0';
}

static const char *member_text(const struct evidence *e, unsigned k)
{
    return !e->members[k].counted ? is_single(e) ? "not in it" : "missing"
           : !judged(e)           ? "not judged"
                                  : evidence_verdict_text(e->members[k].verdict);
}

/* The longest hold of its disks, as their seals say, and, if it attests them, as it says itself. */
static uint64_t hold_of(const struct evidence *e, unsigned member)
{
    const struct definition_member *m = &e->definition->members[member];
    uint64_t longest_us = 0;
    for (unsigned k = 0; e->round != NULL && k < m->disk_count; k++) {
        const struct align_entry *entry =
            align_entry(e->round, &e->definition->disks[m->disk_first + k].stream);
        longest_us = entry != NULL && entry->hold_us > longest_us ? entry->hold_us : longest_us;
    }
    return longest_us;
}

static json_t *members_json(const struct evidence *e)
{
    json_t *list = json_array();
    for (unsigned k = 0; e->members != NULL && k < e->definition->member_count; k++) {
        const struct definition_member *d = &e->definition->members[k];
        const struct evidence_member *m = &e->members[k];
        char when[TIME_TEXT] = "";
        char stream[TIDE_ID_HEX] = "";
        if (m->verdict == EVIDENCE_YES) {
            time_text(m->signed_ns, when);
            id_hex(&m->stream, stream);
        }
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "member", d->name.s,
                            "identity", d->identity, "verdict", member_text(e, k), "signer",
                            m->signer, "signed", when, "stream", stream, "lsn", (json_int_t)m->lsn,
                            "hold_us", (json_int_t)hold_of(e, k), "wrong", m->wrong.text));
    }
    return list;
}

static int print_json(const struct evidence *e)
{
    char id[TIDE_ID_HEX];
    char epoch[TIDE_HASH_HEX];
    char cut[TIDE_HASH_HEX] = "";
    if (judged(e)) {
        hash_hex(&e->round->cut, cut);
    }
    return cli_json_print(json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:i, s:I, s:I, s:o}", "point",
        id_hex(&e->order.round, id), "verdict", evidence_verdict_text(e->verdict), "wrong",
        e->wrong.text, "label", label_of(e), "scope", round_scope_name((unsigned)e->order.scope),
        "group", e->definition == NULL ? "" : e->definition->group_name.s, "epoch",
        (json_int_t)e->order.epoch.number, "epoch_hash", hash_hex(&e->order.epoch.hash, epoch),
        "cut", cut, "streams", (int)e->streams, "segments", (json_int_t)e->segments, "bytes",
        (json_int_t)e->bytes, "members", members_json(e)));
}

static int print_members(const struct evidence *e)
{
    static const char *const titles[] = {"MEMBER", "IDENTITY", "SIGNED", ">HOLD", "ATTESTED"};
    struct cli_table *table = cli_table_new(5, titles);
    for (unsigned k = 0; k < e->definition->member_count; k++) {
        char when[TIME_TEXT] = "-";
        if (e->members[k].verdict == EVIDENCE_YES) {
            time_text(e->members[k].signed_ns, when);
        }
        char hold[32] = "-";
        if (e->members[k].counted) {
            snprintf(hold, sizeof(hold), "%.1f ms", (double)hold_of(e, k) / 1000.0);
        }
        const char *const cells[] = {e->definition->members[k].name.s,
                                     e->definition->members[k].identity, when, hold,
                                     member_text(e, k)};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

static int print_table(const struct evidence *e, const struct verify_options *o)
{
    char id[TIDE_ID_HEX];
    char cut[TIDE_HASH_HEX];
    char bytes[CLI_BYTES_TEXT];
    printf("point     %s\nverdict   %s\n", id_hex(&e->order.round, id),
           evidence_verdict_text(e->verdict));
    if (e->members == NULL) {
        return 0; /* the definition is not the round's */
    }
    printf("group     %s, epoch %" PRIu64 "\nstreams   %u read from their first record: %" PRIu64
           " segments, %s; hashes, chain, every record\n",
           e->definition->group_name.s, e->order.epoch.number, e->streams, e->segments,
           cli_bytes(e->bytes, bytes));
    if (judged(e)) {
        printf(
            "label     %s, %u of %u members%s\nrule      yes: definition, set, holds, seals; H is "
            "the hash of the bookmarks\ncut       %s\nattested  by %u of %u: signature, chain "
            "to '%s' at the time that the signer gives, identity, contents\n",
            label_of(e), counted(e), (unsigned)e->definition->member_count,
            is_single(e) ? ": it is no point of the group" : "", hash_hex(&e->round->cut, cut),
            attested(e), counted(e), o->ca);
    } else {
        printf("rule      not yes, so attestations were not looked at\n");
    }
    printf("\n");
    return print_members(e);
}

static int verify(const struct verify_options *o, const struct trust *trust)
{
    struct evidence e;
    struct err err = {0};
    struct keyring *keyring = NULL;
    if (o->master_key != NULL && keyring_open(o->store, o->master_key, &keyring, &err) < 0) {
        return cli_fail(&err, NULL);
    }
    const struct evidence_request request = {.folder = o->store,
                                             .definition = o->definition,
                                             .prefix = o->point,
                                             .trust = trust,
                                             .keyring = keyring};
    int rc = evidence_judge(&request, &e, &err);
    keyring_close(keyring);
    if (rc < 0) {
        return cli_fail(&err, err.code == TIDE_ERR_DENIED ? "give --master-key FILE" : NULL);
    }
    int status = o->output == CLI_JSON ? print_json(&e) : print_table(&e, o);
    if (status == 0 && e.verdict != EVIDENCE_YES) {
        status = cli_fail(&e.wrong, NULL);
    }
    evidence_close(&e);
    return status;
}

int point_verify_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"store", KEY_STORE, "DIR", 0, "a store's folder, or any with the streams' segments", 0},
        {"ca", KEY_CA, "FILE", 0, "the CA of the site, in PEM form", 0},
        {"definition", KEY_DEFINITION, "FILE", 0,
         "the definition's stored bytes; else DIR/definitions is searched", 0},
        {"master-key", KEY_MASTER_KEY, "FILE", 0, "of the store, where it is encrypted", 0},
        {0}};
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        list,
        verify_option,
        "POINT",
        "Judge a point from files alone: read its streams from their first record, apply the "
        "reader's rule anew, and check that every member of it attests it. Believes no coordinator "
        "and no point object, and asks nobody. Status 0: yes. 1: no, or not attested; standard "
        "error says the first thing that is wrong. Else what was given could not be read.\v"
        "What a yes means, and what not: proto/certificate.md.",
        children,
        NULL,
        NULL};
    struct verify_options o = {0};
    struct err err = {0};
    struct trust *trust = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.point == NULL || o.store == NULL || o.ca == NULL) {
        err_set(&err, TIDE_ERR_USAGE, "POINT, --store DIR and --ca FILE are needed");
        return cli_fail(&err, "`tidemark point list` or `tidemark hrl align DIR` shows points");
    }
    if (trust_load(o.ca, &trust, &err) < 0) {
        return cli_fail(&err, "name the site's ca.crt, as `tidemark pki init` made it");
    }
    int status = verify(&o, trust);
    trust_free(trust);
    return status;
}
