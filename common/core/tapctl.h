/* SPDX-License-Identifier: Apache-2.0 */
/* tapctl: what daemon (controller) and tap say to each other: one message a datagram over a unix
 * SOCK_SEQPACKET socket (mode 0600, same user or root by SO_PEERCRED), each of fixed size per type,
 * little-endian, checked here and nowhere else.
 *
 * The tap serves one controller at a time: a second connection gets REFUSE_BUSY and is closed. The
 * controller sends HELLO first; the tap answers WELCOME, with SCM_RIGHTS read-only descriptors of
 * its ring files, in ring order. A connection that ends aborts the hold it ordered.
 *
 * header (16): magic u32 "TCTL" | version u16 | type u16 | size u32 (whole message) | serial u32
 * The tap copies the serial of a request into its answers; messages of its own have serial 0.
 *
 *   controller -> tap                    tap -> controller
 *   HELLO                                WELCOME
 *   HOLD                                 HELD | REFUSED      (then SEALED, once, when it is sealed)
 *   RELEASE, ABORT                       SEALED              (also unasked: budget ran out)
 *   SYNC lsn                             SYNCED              (answered when synced, or failed)
 *   STORED lsn                           -                   (the far side holds all up to lsn)
 *   ATTEST bytes                         -                   (appended if the log can take it)
 *   STATUS                               STATE
 *                                        STATE unasked when whole or logging changes
 */
#ifndef TIDE_COMMON_CORE_TAPCTL_H
#define TIDE_COMMON_CORE_TAPCTL_H

#include "common/core/err.h"
#include "common/core/round.h"

#define TIDE_TAPCTL_VERSION        2
#define TIDE_TAPCTL_SIZE_MAX       9216U /* of any message */
#define TIDE_TAPCTL_RING_FILES_MAX 64    /* descriptors passed with WELCOME */
#define TIDE_TAPCTL_ATTEST_MAX     8192U
#define TIDE_TAPCTL_TEXT_MAX       127U

enum tapctl_type {
    TAPCTL_HELLO = 1,
    TAPCTL_HOLD = 2,
    TAPCTL_RELEASE = 3,
    TAPCTL_ABORT = 4,
    TAPCTL_SYNC = 5,
    TAPCTL_STORED = 6,
    TAPCTL_ATTEST = 7,
    TAPCTL_STATUS = 8,
    TAPCTL_WELCOME = 65,
    TAPCTL_HELD = 66,
    TAPCTL_REFUSED = 67,
    TAPCTL_SEALED = 68,
    TAPCTL_SYNCED = 69,
    TAPCTL_STATE = 70,
    TAPCTL_REFUSE_BUSY = 71, /* another controller is connected; the connection is closed */
};

struct tapctl_hold {
    struct round_order order; /* round, group and epoch number are not zero */
    uint64_t incarnation;     /* that the leader last saw; another refuses */
    uint32_t budget_us;       /* as HOLD says; the tap takes the least of it, its cap, duty */
    bool unheld;              /* test switch --unsafe-no-hold */
    uint8_t quiesce;          /* into the bookmark */
    struct hash quiesce_proof;
};

struct tapctl_round { /* RELEASE (with cut), ABORT */
    struct id round;
    struct hash cut;
};

struct tapctl_lsn { /* SYNC, STORED */
    uint64_t lsn;
};

struct tapctl_attest {
    struct id round; /* not zero */
    uint32_t size;
    uint8_t bytes[TIDE_TAPCTL_ATTEST_MAX];
};

/* Ring geometry: logical position p lies in file (p / file_size) % files at p % file_size; each
 * file begins with a header of TIDE_LOG_HEADER bytes (common/hrl/log.h). */
struct tapctl_welcome {
    struct id stream;
    struct id timeline;
    struct id disk;
    uint64_t incarnation;
    uint64_t size; /* of the disk, bytes */
    uint32_t block_size;
    uint32_t ring_files;
    uint64_t ring_file_size;
    uint64_t stored_lsn; /* last STORED the tap has made durable */
    uint64_t tail_lsn;   /* oldest record still in the ring, and where */
    uint64_t tail_position;
    uint64_t tail_incarnation; /* in force at the tail, before its first record */
    uint64_t next_lsn;
    bool whole;
    bool logging; /* false: the log is full or failed and writes go unlogged */
    char name[TIDE_TAPCTL_TEXT_MAX + 1]; /* image path, for people */
};

struct tapctl_held { /* HELD: also answers a HOLD repeated while holding, budget not re-armed */
    struct id round;
    struct round_mark mark;
    uint32_t budget_us; /* as computed */
};

struct tapctl_refused {
    struct id round;
    enum round_reason reason;
    enum round_outcome outcome; /* with reason ENDED: how the round ended here */
    char text[TIDE_TAPCTL_TEXT_MAX + 1];
};

struct tapctl_sealed { /* sent when the seal is synced, or given up */
    struct id round;
    enum round_outcome outcome;
    bool appended; /* false: the seal could not be appended or synced; the round is lost here */
    uint64_t bookmark_lsn;
    uint64_t seal_lsn; /* 0 where not appended */
    uint64_t hold_us;
    uint64_t writes_held;
    uint64_t bytes_held;
};

struct tapctl_synced {
    uint64_t lsn;      /* synced through; may be past what was asked */
    uint64_t position; /* logical position just past that record */
    bool failed;       /* a sync failed: nothing past lsn can be trusted, ever */
};

enum tapctl_copy {
    TAPCTL_COPY_NONE = 0,    /* the disk is whole, or its log is off */
    TAPCTL_COPY_OFF = 1,     /* not whole, and copy-rate=0 or the disk has another size */
    TAPCTL_COPY_RUNNING = 2, /* copy_offset bytes are done */
    TAPCTL_COPY_WAITING = 3, /* until the far side has stored more of the log */
    TAPCTL_COPY_FAILING = 4, /* the image cannot be read there; tried again and again */
};
const char *tapctl_copy_name(enum tapctl_copy copy); /* NULL where unknown */

struct tapctl_state {
    uint64_t incarnation;
    uint64_t next_lsn;
    uint64_t synced_lsn;
    uint64_t checkpoint_lsn;
    uint64_t stored_lsn;
    uint64_t ring_bytes; /* capacity */
    uint64_t ring_used;
    uint64_t writes; /* since this incarnation began; zeroes and discards count */
    uint64_t bytes;
    uint64_t holds;
    uint64_t hold_us_max;
    uint64_t gap_lsn;     /* last gap; 0: none known */
    uint64_t copy_offset; /* of the disk, done; 0 but while copying */
    uint64_t copy_rate;   /* bytes of the disk a second, lately */
    uint8_t gap_reason;   /* enum record_gap_reason; 0: none */
    enum tapctl_copy copy;
    bool whole;
    bool logging;
    bool holding;
};

struct tapctl {
    enum tapctl_type type;
    uint32_t serial;
    union {
        uint16_t version; /* HELLO: highest the controller knows */
        struct tapctl_hold hold;
        struct tapctl_round round; /* RELEASE, ABORT */
        struct tapctl_lsn lsn;     /* SYNC, STORED */
        struct tapctl_attest attest;
        struct tapctl_welcome welcome;
        struct tapctl_held held;
        struct tapctl_refused refused;
        struct tapctl_sealed sealed;
        struct tapctl_synced synced;
        struct tapctl_state state;
    };
};

/* Encodes into to[0..TIDE_TAPCTL_SIZE_MAX); returns the bytes used. Aborts on a value out of range
 * (programmer error). */
size_t tapctl_encode(const struct tapctl *message, uint8_t to[TIDE_TAPCTL_SIZE_MAX]);

/* CORRUPT: magic, type, size or a value is wrong; VERSION: a version this build does not speak. */
int tapctl_decode(const void *from, size_t size, struct tapctl *ret, struct err *err);

#endif
