/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each): what lies in a folder,
 * and a point judged from it. A good point is never called wrong, or not attested, for want of
 * memory; nor does a bad one become another. (OpenSSL's own memory: test_fail_alloc_tls.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/verify/evidence.h"
#include "coordinator/verify/pieces.h"
#include "tests/contract/nth.h"
#include "tests/contract/point_lab.h"

#define POINT "0707070707070707"

static struct point_lab lab;
static struct trust *trust;

static int finds(struct err *err)
{
    struct pieces pieces;
    memset(&pieces, 0x5a, sizeof pieces);
    if (pieces_find(lab.store, NULL, POINT, &pieces, err) != 0) {
        assert_int_equal(pieces.segment_room, 0x5a5a5a5a5a5a5a5a);
        return -1;
    }
    assert_int_equal(pieces.segment_count, 3 * POINT_STREAMS);
    assert_int_equal(pieces.named_count, POINT_STREAMS);
    assert_int_equal(pieces.definition_count, 2);
    assert_int_equal(pieces.bad_count, 0);
    pieces_close(&pieces);
    return 0;
}

static int judges(enum evidence_verdict verdict, const char *want, struct err *err)
{
    struct evidence_request request = {.folder = lab.store, .prefix = POINT, .trust = trust};
    struct evidence e = {.streams = 77};
    if (evidence_judge(&request, &e, err) != 0) {
        assert_int_equal(e.streams, 77);
        return -1;
    }
    assert_int_equal(e.verdict, verdict);
    assert_non_null(strstr(e.wrong.text, want));
    evidence_close(&e);
    return 0;
}

static int says_yes(struct err *err)
{
    return judges(EVIDENCE_YES, "", err);
}

static int says_no(struct err *err)
{
    return judges(EVIDENCE_NO, "says round 08080808080808080808080808080808", err);
}

static int says_not_attested(struct err *err)
{
    return judges(EVIDENCE_NOT_ATTESTED, "not attested", err);
}

/* The definition that fits is the second one of its number: one that could not be read for want of
 * memory is not taken for one that is not there. */
static void two_definitions_of_a_number(void **state)
{
    char command[4 * POINT_PATH];
    (void)state;
    point_lab_make(&lab, DEFINITION_SWAPPED);
    snprintf(command, sizeof command, "mv '%s/definitions/shop/00000000000000000003.pb' '%s/kept'",
             lab.store, point_folder);
    assert_int_equal(system(command), 0);
    point_lab_remove(&lab);
    point_lab_make(&lab, NOTHING);
    snprintf(command, sizeof command,
             "mv '%s/kept' '%s/definitions/shop/00000000000000000003-other.pb'", point_folder,
             lab.store);
    assert_int_equal(system(command), 0);
    nth_each_lenient("judge: two definitions", says_yes, NULL, 20);
    point_lab_remove(&lab);
}

static void points(void **state)
{
    static const struct {
        enum spoil spoil;
        nth_call_fn *call;
        const char *what;
    } rows[] = {{NOTHING, says_yes, "judge: yes"},
                {BAD_BEFORE_GOOD, says_yes, "judge: yes, in spite of a bad one"},
                {OTHER_ROUND, says_no, "judge: no"},
                {NO_ATTESTATION, says_not_attested, "judge: not attested"}};
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        point_lab_make(&lab, rows[k].spoil);
        if (k == 0) {
            nth_each("pieces", finds, NULL, 5);
        }
        nth_each_lenient(rows[k].what, rows[k].call, NULL, 20);
        point_lab_remove(&lab);
    }
}

static int setup(void **state)
{
    char path[POINT_PATH];
    (void)state;
    point_lab_setup();
    snprintf(path, sizeof path, "%s/pki/ca.crt", point_folder);
    return trust_load(path, &trust, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trust_free(trust);
    point_lab_teardown();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points),
        cmocka_unit_test(two_definitions_of_a_number),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
