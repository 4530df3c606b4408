/* SPDX-License-Identifier: Apache-2.0 */
/* point_lab: a folder with one point of two members and three disks, made with common/hrl and
 * signed with real keys, and spoilt in one place where that is wanted. One at a time. */
#ifndef TIDE_TESTS_CONTRACT_POINT_LAB_H
#define TIDE_TESTS_CONTRACT_POINT_LAB_H

#include "common/core/definition.h"
#include "common/hrl/segment.h"

#define POINT_STREAMS 3 /* web/root, web/log, app/data */
#define POINT_PATH    192

enum spoil {
    NOTHING,
    SIGNATURE_BIT,
    STATEMENT_BIT,
    OTHER_CA,
    OTHER_CA_SAME_NAME,
    STRANGER,
    OTHER_MEMBER,
    SIGNED_TOO_EARLY,
    SIGNED_TOO_LATE,
    SIGNED_AT_NO_TIME,
    OTHER_CONTEXT,
    SEALS_OF_OTHER_H,
    ONE_SEAL_OF_OTHER_H,
    STATEMENT_OF_OTHER_H,
    FIRST_SEGMENT_GONE,
    MIDDLE_SEGMENT_GONE,
    LAST_SEGMENT_GONE,
    STREAM_GONE,
    SEGMENT_REMADE,
    SEGMENT_BIT,
    SEGMENT_BIT_STAMPED,
    DEFINITION_SWAPPED,
    DEFINITION_GONE,
    DEFINITION_OF_OTHER_EPOCH,
    OTHER_ROUND,
    OTHER_GROUP,
    OTHER_EPOCH,
    NAMES_OTHER_MEMBER,
    LSN,
    INCARNATION,
    NONCE,
    SEAL_LSN,
    OUTCOME,
    HOLD,
    HELD_WRITES,
    DISK_LEFT_OUT,
    DISK_TOO_MANY,
    NO_ATTESTATION,
    NO_ATTESTATION_AND_OTHER_ROUND,
    NOT_AN_ATTESTATION,
    SEVENTEEN,
    EXPIRED,
    UNHELD,
    NOT_WHOLE,
    BAD_BEFORE_GOOD,
    STRANGE_STREAM,
    PARTIAL,
    SINGLE_VM,        /* web's alone, of scope member */
    SINGLE_VM_OF_TWO, /* of scope member, over both */
    OTHER_SCOPE,      /* web's alone; H is of scope group */
    SECOND_COPY,
};

struct point_stream {
    struct id id;
    struct id timeline;
    uint64_t incarnation;
    uint64_t lsn;
    unsigned segments;
    struct segment_writer writer;
    uint8_t buffer[65536];
    struct round_mark mark;
    uint64_t seal_lsn;
};

struct point_lab {
    enum spoil spoil;
    char store[POINT_PATH];
    struct definition *definition;
    struct round_order order;
    struct hash cut;
    struct point_stream streams[POINT_STREAMS];
};

/* Where the keys are (FOLDER/pki, and FOLDER/same, FOLDER/else: other CAs), and the store. */
extern char point_folder[];

void point_lab_setup(void); /* the keys, once */
void point_lab_teardown(void);
void point_lab_make(struct point_lab *lab, enum spoil spoil);
void point_lab_remove(struct point_lab *lab);

#endif
