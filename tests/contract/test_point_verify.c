/* SPDX-License-Identifier: Apache-2.0 */
/* `tidemark point verify`: a point spoilt in one place each time (point_lab.h). Each spoilt place
 * must be found out, by its own message; that nothing else is wrong is what the good ones show. */
#include "coordinator/verify/evidence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/contract/point_lab.h"

#define POINT "0707070707070707"

static int setup(void **state)
{
    (void)state;
    point_lab_setup();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    point_lab_teardown();
    return 0;
}

/* ---- judging ---- */

static int judge(struct point_lab *lab, const char *prefix, const char *ca, struct evidence *ret,
                 struct err *err)
{
    char path[POINT_PATH];
    struct trust *trust = NULL;
    snprintf(path, sizeof path, "%s/%s/ca.crt", point_folder, ca);
    assert_int_equal(trust_load(path, &trust, err), 0);
    struct evidence_request request = {.folder = lab->store, .prefix = prefix, .trust = trust};
    int rc = evidence_judge(&request, ret, err);
    trust_free(trust);
    return rc;
}

struct row {
    enum spoil spoil;
    enum evidence_verdict verdict;
    const char *want; /* in the text of what is wrong */
};

static const struct row rows[] = {
    {SIGNATURE_BIT, EVIDENCE_NO, "the signature is not the signer's over these bytes"},
    {STATEMENT_BIT, EVIDENCE_NO, "the signature is not the signer's over these bytes"},
    {OTHER_CONTEXT, EVIDENCE_NO, "the signature is not the signer's over these bytes"},
    {OTHER_CA, EVIDENCE_NO, "the chain does not end at the CA given"},
    {OTHER_CA_SAME_NAME, EVIDENCE_NO, "the chain does not end at the CA given"},
    {STRANGER, EVIDENCE_NO,
     "member \"app\": its attestation is signed by \"spiffe://lab/participant/stranger\""},
    {OTHER_MEMBER, EVIDENCE_NO,
     "member \"web\": its attestation is signed by \"spiffe://lab/participant/app\""},
    {SIGNED_TOO_EARLY, EVIDENCE_NO, "is valid from"},
    {SIGNED_TOO_LATE, EVIDENCE_NO, "is valid from"},
    {SIGNED_AT_NO_TIME, EVIDENCE_NO, "it was signed at 1970-01-01T00:00:00Z"},
    {SEALS_OF_OTHER_H, EVIDENCE_NO, "is not the hash of the bookmarks"},
    {ONE_SEAL_OF_OTHER_H, EVIDENCE_NO, "the seals carry different cut hashes"},
    {STATEMENT_OF_OTHER_H, EVIDENCE_NO, "says cut hash"},
    {FIRST_SEGMENT_GONE, EVIDENCE_NO,
     "disk \"web/log\" (stream 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b): the records of LSN 1 to 2 are "
     "missing"},
    {MIDDLE_SEGMENT_GONE, EVIDENCE_NO, "the records of LSN 3 to 4 are missing"},
    {LAST_SEGMENT_GONE, EVIDENCE_NO, "no seal yet; bring the segments"},
    {STREAM_GONE, EVIDENCE_NO, "no bookmark of the round yet; bring the segments"},
    {SEGMENT_REMADE, EVIDENCE_NO, "one of the two segments was changed"},
    {DEFINITION_SWAPPED, EVIDENCE_NO, "the definition of epoch 3 has hash"},
    {DEFINITION_OF_OTHER_EPOCH, EVIDENCE_NO, "the definition of epoch 3 with hash"},
    {OTHER_ROUND, EVIDENCE_NO, "says round 08080808080808080808080808080808"},
    {OTHER_GROUP, EVIDENCE_NO, "says group 08080808080808080808080808080808"},
    {OTHER_EPOCH, EVIDENCE_NO, "says epoch with hash"},
    {NAMES_OTHER_MEMBER, EVIDENCE_NO, "says member app, it is web"},
    {LSN, EVIDENCE_NO, "gives disk \"log\" the bookmark LSN 5, the stream has 4"},
    {INCARNATION, EVIDENCE_NO, "the incarnation 1002, the stream has 1001"},
    {NONCE, EVIDENCE_NO, "gives disk \"log\" the nonce"},
    {SEAL_LSN, EVIDENCE_NO, "the seal LSN 6, the stream has 5"},
    {OUTCOME, EVIDENCE_NO, "the outcome \"unheld\", the stream has \"held\""},
    {HOLD, EVIDENCE_NO, "the hold in us 702, the stream has 701"},
    {HELD_WRITES, EVIDENCE_NO, "the number of writes held 2, the stream has 1"},
    {DISK_LEFT_OUT, EVIDENCE_NO, "does not name disk \"log\""},
    {DISK_TOO_MANY, EVIDENCE_NO, "names 3 disks, 2 of its disks are in the round's set"},
    {NO_ATTESTATION, EVIDENCE_NOT_ATTESTED,
     "member \"web\" (\"spiffe://lab/participant/web\"): not attested"},
    {NO_ATTESTATION_AND_OTHER_ROUND, EVIDENCE_NO, "says round"},
    {NOT_AN_ATTESTATION, EVIDENCE_NO, "that are not an attestation"},
    {SEVENTEEN, EVIDENCE_NO, "more than 16 attestations"},
    {EXPIRED, EVIDENCE_NO,
     "disk \"web/log\" (stream 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b): the hold "
     "ran out of its budget"},
    {UNHELD, EVIDENCE_NO, "with the hold switched off"},
    {SINGLE_VM_OF_TWO, EVIDENCE_NO, "has scope member, and its set is not all disks of one member"},
    {OTHER_SCOPE, EVIDENCE_NO, "is not the hash of the bookmarks"},
    {NOT_WHOLE, EVIDENCE_NO, "the stream was not whole at its bookmark"},
    {NOTHING, EVIDENCE_YES, ""},
    {BAD_BEFORE_GOOD, EVIDENCE_YES, ""},
    {STRANGE_STREAM, EVIDENCE_YES, ""},
    {SECOND_COPY, EVIDENCE_YES, ""},
};

static void each_spoilt_place_is_found_out(void **state)
{
    (void)state;
    static struct point_lab lab;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        struct evidence e;
        struct err err = {0};
        point_lab_make(&lab, rows[k].spoil);
        if (judge(&lab, POINT, "pki", &e, &err) != 0) {
            fail_msg("row %zu: %s", k, err.text);
        }
        if (e.verdict != rows[k].verdict || strstr(e.wrong.text, rows[k].want) == NULL) {
            fail_msg("row %zu: %s: '%s', wanted '%s'", k, evidence_verdict_text(e.verdict),
                     e.wrong.text, rows[k].want);
        }
        if (e.verdict == EVIDENCE_YES) {
            assert_int_equal(e.wrong.code, TIDE_ERR_OK);
            assert_string_equal(e.members[0].signer, "spiffe://lab/participant/web");
            assert_string_equal(e.members[1].signer, "spiffe://lab/participant/app");
            assert_int_equal(e.streams, POINT_STREAMS);
            assert_int_equal(e.segments, 3 * POINT_STREAMS);
        } else {
            assert_int_equal(e.wrong.code, TIDE_ERR_FAILED);
        }
        evidence_close(&e);
        point_lab_remove(&lab);
    }
}

static void a_partial_point_is_said_to_be_one(void **state)
{
    (void)state;
    static struct point_lab lab;
    struct evidence e;
    struct err err = {0};
    point_lab_make(&lab, PARTIAL);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), 0);
    assert_int_equal(e.verdict, EVIDENCE_YES);
    assert_true(e.round->partial);
    assert_true(e.members[0].counted);
    assert_false(e.members[1].counted);
    assert_int_equal(e.streams, 2);
    evidence_close(&e);
    point_lab_remove(&lab);
}

static void a_single_vms_point_is_none_of_the_group(void **state)
{
    (void)state;
    static struct point_lab lab;
    struct evidence e;
    struct err err = {0};
    point_lab_make(&lab, SINGLE_VM);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), 0);
    assert_int_equal(e.verdict, EVIDENCE_YES);
    assert_int_equal(align_label(e.round, e.definition), ALIGN_LABEL_SINGLE_VM);
    assert_true(e.members[0].counted);
    assert_false(e.members[1].counted);
    evidence_close(&e);
    point_lab_remove(&lab);
}

static void what_cannot_be_read_is_no_verdict(void **state)
{
    (void)state;
    static struct point_lab lab;
    struct evidence e;
    struct err err = {0};
    point_lab_make(&lab, SEGMENT_BIT);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    assert_non_null(strstr(err.text, ".hrl'"));
    point_lab_remove(&lab);
    point_lab_make(&lab, SEGMENT_BIT_STAMPED);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CORRUPT);
    point_lab_remove(&lab);
    point_lab_make(&lab, DEFINITION_GONE);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "--definition FILE"));
    assert_int_equal(judge(&lab, "08", "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    assert_int_equal(judge(&lab, "0g", "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_USAGE);
    point_lab_remove(&lab);
    assert_int_equal(judge(&lab, POINT, "pki", &e, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
}

/* ---- the command ---- */

/* Runs it on the store; its status, with what it printed on both outputs. */
static int run(const char *more, char *ret_text, size_t size)
{
    char command[1024];
    const char *build = getenv("TIDE_BUILD");
    assert_non_null(build);
    snprintf(command, sizeof command,
             "'%s/bin/tidemark' point verify " POINT " --store %s/store %s 2>&1", build,
             point_folder, more);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(ret_text, 1, size - 1, pipe);
    ret_text[got] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_command_says_it_by_its_status(void **state)
{
    (void)state;
    static struct point_lab lab;
    char text[8192];
    char ca[POINT_PATH];
    char json[POINT_PATH + 16];
    char swapped[2 * POINT_PATH + 96];
    snprintf(ca, sizeof ca, "--ca %s/pki/ca.crt", point_folder);
    snprintf(json, sizeof json, "-o json %s", ca);
    point_lab_make(&lab, NOTHING);
    assert_int_equal(run(ca, text, sizeof text), 0);
    assert_non_null(strstr(text, "verdict   yes\n"));
    assert_non_null(strstr(text, "label     full, 2 of 2 members\n"));
    assert_non_null(strstr(text, "attested  by 2 of 2"));
    assert_int_equal(run(json, text, sizeof text), 0);
    json_t *o = json_loads(text, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "verdict")), "yes");
    assert_int_equal(json_array_size(json_object_get(o, "members")), 2);
    json_decref(o);
    snprintf(swapped, sizeof swapped, "%s --definition %s/definitions/shop/%020u.pb", ca, lab.store,
             2U);
    assert_int_equal(run(swapped, text, sizeof text), 1);
    assert_non_null(strstr(text, "tidemark: the definition of epoch 2 has hash"));
    assert_int_equal(run("", text, sizeof text), 2);
    assert_int_equal(run("--ca /nowhere", text, sizeof text), 4);
    snprintf(ca, sizeof ca, "--ca %s/same/ca.crt", point_folder);
    assert_int_equal(run(ca, text, sizeof text), 1);
    assert_non_null(strstr(text, "the chain does not end at the CA given"));
    snprintf(ca, sizeof ca, "--ca %s/pki/ca.crt", point_folder);
    point_lab_remove(&lab);
    point_lab_make(&lab, SINGLE_VM);
    assert_int_equal(run(ca, text, sizeof text), 0);
    assert_non_null(
        strstr(text, "label     single-vm, 1 of 2 members: it is no point of the group\n"));
    assert_non_null(strstr(text, "not in it"));
    assert_null(strstr(text, "missing"));
    assert_int_equal(run(json, text, sizeof text), 0);
    o = json_loads(text, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "scope")), "member");
    assert_string_equal(json_string_value(json_object_get(o, "label")), "single-vm");
    json_decref(o);
    point_lab_remove(&lab);
    point_lab_make(&lab, NO_ATTESTATION);
    assert_int_equal(run(ca, text, sizeof text), 1);
    assert_non_null(strstr(text, "verdict   not attested\n"));
    point_lab_remove(&lab);
    point_lab_make(&lab, MIDDLE_SEGMENT_GONE);
    assert_int_equal(run(ca, text, sizeof text), 1);
    assert_non_null(strstr(text, "verdict   no\n"));
    assert_non_null(strstr(text, "tidemark: disk \"web/log\""));
    point_lab_remove(&lab);
    point_lab_make(&lab, SEGMENT_BIT);
    assert_int_equal(run(ca, text, sizeof text), 7);
    point_lab_remove(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_spoilt_place_is_found_out),
        cmocka_unit_test(a_partial_point_is_said_to_be_one),
        cmocka_unit_test(a_single_vms_point_is_none_of_the_group),
        cmocka_unit_test(what_cannot_be_read_is_no_verdict),
        cmocka_unit_test(the_command_says_it_by_its_status),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
