/* SPDX-License-Identifier: Apache-2.0 */
/* intake: the objects of proto/intake.proto (9443) as bytes and as core structs. Every range of
 * what a peer sends is checked here, and nowhere else.
 *
 * Encoders return 0 and a heap buffer that the caller frees with free(). They fail with LIMIT where
 * a count is over its limit or memory is short; wrong values are the programmer's (TIDE_CHECK).
 * Decoders fail with
 *   CORRUPT  not protobuf, or a field is missing, wrong or out of range (the text names it)
 *   VERSION  a `version` that this build does not speak
 *   LIMIT    more bytes or elements than allowed, or no memory
 *
 * Answers on 9443 with a status other than 200 carry a StreamState with code and text, whatever the
 * path; a peer that wants more than the status decodes it with intake_stream_state_decode(). */
#ifndef TIDE_COMMON_WIRE_INTAKE_H
#define TIDE_COMMON_WIRE_INTAKE_H

#include "common/core/definition.h"
#include "common/core/err.h"
#include "common/core/id.h"
#include "common/core/round.h"

#define TIDE_INTAKE_VERSION    1U
#define TIDE_INTAKE_GROUPS_MAX 64U                /* groups in one Definitions */
#define TIDE_INTAKE_BODY_MAX   (2U * 1024 * 1024) /* bytes of any object but a segment */
#define TIDE_INTAKE_WAIT_MAX_S 25U                /* longest long poll */
#define TIDE_INTAKE_BLOCK      65536U             /* bytes of a block that is hashed */
#define TIDE_INTAKE_BLOCKS_MAX 1024U              /* blocks in one BlockHashes */

/* Register: one disk of a member that the participant stands for. */
struct intake_disk {
    struct name group;
    struct name member;
    struct name disk;
    struct id stream;    /* not zero */
    struct id timeline;  /* not zero */
    struct id disk_id;   /* not zero */
    uint64_t size;       /* bytes, 512..2^60, a multiple of 512 */
    uint32_t block_size; /* a power of two, 512..65,536 */
};

struct intake_register {
    unsigned count; /* 1..TIDE_DISKS_MAX */
    struct intake_disk *disks;
};

/* Disks of the same (group, member) that follow each other become one RegisterMember. */
int intake_register_encode(const struct intake_register *from, uint8_t **ret_bytes,
                           size_t *ret_size, struct err *err);
/* *ret is to be freed with intake_register_close(). Duplicate (group, member, disk) or duplicate
 * stream: CORRUPT. */
int intake_register_decode(const void *bytes, size_t size, struct intake_register *ret,
                           struct err *err);
void intake_register_close(struct intake_register *r);

/* Definition <-> stored bytes. The epoch hash is SHA-256 of the bytes: keep the bytes that were
 * received, never encode again. Encoding is deterministic. */
int intake_definition_encode(const struct definition *from, uint8_t **ret_bytes, size_t *ret_size,
                             struct err *err);
/* Into the caller's memory; the epoch's hash is that of the bytes. Beside definition_check():
 * identities are spiffe://SITE/participant/ID, addresses numeric IP:port. */
int intake_definition_decode(const void *bytes, size_t size, struct definition *ret,
                             struct err *err);
/* The two checks of texts, for who makes definitions: */
bool intake_is_participant(const char *identity); /* spiffe://SITE/participant/ID */
bool intake_is_address(const char *address);      /* 127.0.0.11:20004, [::1]:20004 */

/* Definitions: what a participant gets for each group it has a member in. */
struct intake_issued {
    uint8_t *definition; /* stored bytes; decode with intake_definition_decode() */
    size_t definition_size;
    struct policy policy;
};
struct intake_definitions {
    struct hash digest; /* set by encode, checked by decode */
    unsigned count;     /* 0..TIDE_INTAKE_GROUPS_MAX */
    struct intake_issued *groups;
};
/* Also sets from->digest. */
int intake_definitions_encode(struct intake_definitions *from, uint8_t **ret_bytes,
                              size_t *ret_size, struct err *err);
int intake_definitions_decode(const void *bytes, size_t size, struct intake_definitions *ret,
                              struct err *err);
void intake_definitions_close(struct intake_definitions *d);

/* StreamState: the answer to a PUT, and to GET of a stream, and every answer that is not 200. */
struct intake_stream_state {
    uint64_t received_lsn; /* that, and what is staged behind it without a hole */
    uint64_t stored_lsn;   /* durable in the store through here; never over received_lsn */
    struct hash head;      /* of the last stored segment; zero: none */
    enum err_code code;    /* TIDE_ERR_OK: taken */
    bool forked;           /* the stream is stopped by a fork */
    char text[TIDE_ERR_TEXT_MAX];
};
int intake_stream_state_encode(const struct intake_stream_state *from, uint8_t **ret_bytes,
                               size_t *ret_size, struct err *err);
int intake_stream_state_decode(const void *bytes, size_t size, struct intake_stream_state *ret,
                               struct err *err);

/* The question of GET .../hashes. */
struct intake_hashes_query {
    uint64_t lsn;    /* 0: as of what is stored */
    uint64_t offset; /* of the first block; a multiple of TIDE_INTAKE_BLOCK, below 2^63 */
    uint32_t count;  /* 1..TIDE_INTAKE_BLOCKS_MAX */
};
/* From the decimal texts of the query (NULL: not there). CORRUPT names the one that is wrong. */
int intake_hashes_query_parse(const char *lsn, const char *offset, const char *count,
                              struct intake_hashes_query *ret, struct err *err);

/* BlockHashes. 32 KiB: not on a small stack. */
struct intake_block_hashes {
    uint64_t lsn;    /* 1.. */
    uint64_t size;   /* of the disk at that LSN, 1..2^63 - 1 */
    uint64_t offset; /* of the first block; a multiple of TIDE_INTAKE_BLOCK, below 2^63 */
    uint32_t count;  /* 0..TIDE_INTAKE_BLOCKS_MAX; all of them begin below size */
    struct hash hashes[TIDE_INTAKE_BLOCKS_MAX];
};
int intake_block_hashes_encode(const struct intake_block_hashes *from, uint8_t **ret_bytes,
                               size_t *ret_size, struct err *err);
int intake_block_hashes_decode(const void *bytes, size_t size, struct intake_block_hashes *ret,
                               struct err *err);

/* PointState: what the coordinator can say of a round now. */
struct intake_point_state {
    struct id round;
    enum round_answer answer; /* YES and NO are final */
    char label[16];           /* full, partial, single-vm, unaligned; empty unless YES or unheld */
    char text[TIDE_ERR_TEXT_MAX];
};
int intake_point_state_encode(const struct intake_point_state *from, uint8_t **ret_bytes,
                              size_t *ret_size, struct err *err);
int intake_point_state_decode(const void *bytes, size_t size, struct intake_point_state *ret,
                              struct err *err);

#endif
