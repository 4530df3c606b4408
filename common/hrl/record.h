/* SPDX-License-Identifier: Apache-2.0 */
/* record: one record of an HRL stream, in memory and as bytes. The byte layout is specified in
 * proto/hrl.md; log files and segments carry the same bytes. Little-endian throughout.
 *
 *   header (64): magic "HRLr" | crc32c u32 of bytes 8..end of body | type u16 | flags u16 |
 *                body size u32 | lsn u64 | incarnation u64 | stream 16 | mono_ns u64 | zero u64
 *   body: by type; then zero bytes up to a multiple of 8, outside body size and checksum.
 */
#ifndef TIDE_COMMON_HRL_RECORD_H
#define TIDE_COMMON_HRL_RECORD_H

#include "common/core/err.h"
#include "common/core/round.h"

/* Of log files and segments alike. Version 0 is not frozen: while it lasts, every change of meaning
 * or layout raises the draft, and readers refuse another draft. */
#define TIDE_HRL_VERSION 0U
#define TIDE_HRL_DRAFT   3U

#define TIDE_RECORD_HEADER          64U
#define TIDE_RECORD_WRITE_PREFIX    16U /* offset u64, size u32, zero u32; data follows */
#define TIDE_RECORD_DATA_MAX        (2U * 1024 * 1024) /* bytes of one write; the tap takes 1 MiB */
#define TIDE_RECORD_COPY_MAX        (1024U * 1024)     /* bytes of one copy block */
#define TIDE_RECORD_ATTESTATION_MAX 8192U
#define TIDE_RECORD_TEXT_MAX        127U
#define TIDE_RECORD_SMALL_MAX                                                                      \
    1024U /* header + body + padding of any record but a write, a copy                             \
             block and an attestation */
#define TIDE_RECORD_MAX      (TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX + TIDE_RECORD_DATA_MAX)
#define TIDE_RECORD_MAY_SKIP 1U /* flag: a reader that does not know the type passes over it */

/* Numbers are on disk: never renumber. 2 and 13 are reserved for what their names say and are not
 * written or accepted yet. */
enum record_type {
    RECORD_ATTACH = 1,
    RECORD_DETACH = 2,
    RECORD_WRITE = 3,
    RECORD_ZERO = 4,
    RECORD_BOOKMARK = 5,
    RECORD_SEAL = 6,
    RECORD_ATTESTATION = 7, /* may skip */
    RECORD_COPY_BEGIN = 8,
    RECORD_COPY_BLOCK = 9,
    RECORD_COPY_END = 10,
    RECORD_GAP = 11,
    RECORD_RESIZE = 12,
    RECORD_DEFINITION = 13, /* may skip */
};

struct record_attach {
    struct id boot;     /* of the machine: /proc/sys/kernel/random/boot_id */
    struct id disk;     /* disk id, drawn at the first attach */
    struct id timeline; /* drawn at the first attach */
    uint64_t size;      /* bytes */
    uint32_t block_size;
    bool clean;             /* the last detach was clean; true also for the first attach */
    bool first;             /* the first of the stream */
    bool base_zero;         /* with first: the image read as all zeroes, so the stream is whole */
    uint64_t replayed_from; /* first and last LSN that replay wrote to the image; 0, 0: none */
    uint64_t replayed_to;
    uint64_t mtime_ns; /* image's modification time as found, since 1970; 0 for a device */
    char serial[64];   /* what the disk calls itself; NUL-terminated, may be empty */
};

enum record_gap_reason {
    RECORD_GAP_BASE = 1,     /* new stream over an image that is not all zeroes */
    RECORD_GAP_POWER = 2,    /* another boot id without a clean detach */
    RECORD_GAP_SIZE = 3,     /* the image's size changed while no tap ran, or it grew under the tap
                                by something that does not read as zeroes */
    RECORD_GAP_MTIME = 4,    /* the image was written while no tap ran */
    RECORD_GAP_OVERFLOW = 5, /* the log was full */
    RECORD_GAP_IMAGE = 6,    /* an image write failed after its record was logged */
    RECORD_GAP_LOG = 7,      /* a log write or sync failed */
    RECORD_GAP_STATE = 8,    /* the state word said not whole, and no better reason is known */
    RECORD_GAP_IDENTITY = 9, /* another file or device lies behind the image's name */
    RECORD_GAP_ASKED = 10,   /* an operator asked for a resync of a disk that was whole */
};

struct record_gap {
    enum record_gap_reason reason;
    uint64_t from_lsn; /* from this LSN on the log does not tell the whole story */
    uint64_t offset;   /* the range where known, else 0, 0 */
    uint64_t size;
    char text[TIDE_RECORD_TEXT_MAX + 1]; /* for people; NUL-terminated, may be empty */
};

struct record_write { /* also RECORD_COPY_BLOCK; and RECORD_ZERO, with data NULL and flags */
    uint64_t offset;
    uint64_t size;       /* a write: 1..TIDE_RECORD_DATA_MAX; a copy block: 1..TIDE_RECORD_COPY_MAX;
                            a zero: 1.. */
    const uint8_t *data; /* not owned; a write or copy block has size bytes here */
    bool discard;        /* a zero that came as a trim, or may be a hole */
    bool copy; /* a zero that a copy found: the disk reads as zeroes there already. Not discard */
};

enum record_copy_kind {
    RECORD_COPY_INITIAL = 1, /* only a gap of reason base lies before it: what reads as zeroes is
                                left out, for the stream has never said anything else of it */
    RECORD_COPY_FULL = 2,    /* what reads as zeroes is sent as zeroes */
    RECORD_COPY_CHANGES = 3, /* what is left out is on the disk as the stream has it */
};

struct record_copy_begin {
    enum record_copy_kind kind;
    uint64_t size; /* of the disk */
};

struct record_copy_end {
    uint64_t begin_lsn;
    uint64_t copied; /* bytes of the copy blocks since that begin */
    uint64_t zeroes; /* bytes left out or sent as zeroes; both: the begin's size */
};

/* The disk has another size from here on: what lay past the new end is gone, what is new reads as
 * zeroes. */
struct record_resize {
    uint64_t size;   /* not 0, not `before` */
    uint64_t before; /* as the last attach or resize says */
};

struct record_bookmark {
    struct round_order order;
    struct id nonce;
    bool unheld;               /* taken with the hold switched off: never a recovery point */
    uint32_t budget_us;        /* the hold's budget as the tap computed it */
    uint64_t wall_ns;          /* since 1970, for people only */
    uint32_t wall_error_us;    /* adjtimex maxerror; UINT32_MAX: not synchronised or unknown */
    uint64_t mono_ns;          /* tap's monotonic clock when the hold began */
    uint8_t quiesce;           /* 0 none, 1 quiesced until after the bookmark; the proof says how */
    struct hash quiesce_proof; /* SHA-256 of the member's quiesce report; zero where none */
};

struct record_seal {
    struct id round;
    uint64_t bookmark_lsn;
    enum round_outcome outcome;
    struct hash cut;      /* H; all zero unless HELD or UNHELD */
    uint64_t hold_us;     /* from bookmark to letting go */
    uint64_t writes_held; /* writes, zeroes and discards whose acknowledgement was kept back */
    uint64_t bytes_held;
};

struct record_attestation {
    struct id round;
    const uint8_t *bytes; /* not owned; protobuf of proto/certificate.proto */
    uint32_t size;        /* 1..TIDE_RECORD_ATTESTATION_MAX */
};

struct record {
    enum record_type type;
    uint64_t lsn;         /* 1, 2, 3 … without a hole in a stream's timeline */
    uint64_t incarnation; /* of the tap that wrote it; an ATTACH begins a new one; never 0 */
    struct id stream;
    uint64_t mono_ns; /* writer's monotonic clock; 0 where not read */
    union {
        struct record_attach attach;
        struct record_gap gap;
        struct record_write write; /* WRITE, ZERO, COPY_BLOCK */
        struct record_copy_begin copy_begin;
        struct record_copy_end copy_end;
        struct record_resize resize;
        struct record_bookmark bookmark;
        struct record_seal seal;
        struct record_attestation attestation;
    };
};

/* Text of a type, gap reason or kind of copy for people and JSON; NULL where unknown. */
const char *record_type_name(unsigned type);
const char *record_gap_name(unsigned reason);
const char *record_copy_name(unsigned kind);

/* Encoded size with padding. */
size_t record_size(const struct record *record);

/* Encodes a whole record, write data included, into to[0..size). Returns the bytes used; aborts if
 * they do not fit or a field is out of range (the caller checked: programmer error). */
size_t record_encode(const struct record *record, void *to, size_t size);

/* For the tap's write path: header, prefix and checksum of a WRITE or COPY_BLOCK without copying
 * its data. Fills exactly TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX bytes; the data and then
 * record_padding() zero bytes follow. */
void record_encode_write_head(const struct record *record,
                              uint8_t ret_head[TIDE_RECORD_HEADER + TIDE_RECORD_WRITE_PREFIX]);
size_t record_padding(const struct record *record); /* 0..7 */

/* Decodes the record at from[0..size). *ret's pointers point into from. *ret_size is its encoded
 * size with padding.
 *   CORRUPT  magic, checksum, reserved bits, a length or a value is wrong (the text says which)
 *   LIMIT    the bytes end before the record does: a torn tail; *ret_size is then untouched
 *   VERSION  a type that this build does not know and that may not be passed over
 * A type it does not know that may be passed over is returned with only the header fields set and
 * type as stored. */
int record_decode(const void *from, size_t size, struct record *ret, size_t *ret_size,
                  struct err *err);

/* Whether from[0..TIDE_RECORD_HEADER) can be the head of the record that is due (magic, stream,
 * lsn, and a body size in bounds); its whole size with padding, else 0. Tells a torn or recycled
 * place from the next record before reading a body. The checksum is record_decode()'s. */
size_t record_due(const uint8_t *from, const struct id *stream, uint64_t lsn);

#endif
