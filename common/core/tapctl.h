/* SPDX-License-Identifier: Apache-2.0 */
/* tapctl: what daemon (controller) and tap say to each other: one message a datagram over a unix
 * SOCK_SEQPACKET socket (mode 0600, same user or root by SO_PEERCRED), each of fixed size per type,
 * little-endian, checked here and nowhere else.
 *
 * The tap serves one controller at a time: a second connection gets REFUSE_BUSY and is closed. The
 * controller sends HELLO first; the tap answers WELCOME, with SCM_RIGHTS read-only descriptors of
 * its ring files, in ring order, and one of its image behind them. A connection that ends aborts
 * the hold it ordered.
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
 *   COMPARED blocks                      -                   (ignored where it is not the one due)
 *   RESYNC how                           DONE
 *   DETACH, RESTREAM, RESIZE             DONE                (RESTREAM: then it hangs up)
 *                                        STATE unasked when whole, logging or the copy changes
 *
 * Comparing. Where STATE says `comparing`, each block of the map that is not clean (`dirty_bytes`)
 * is suspect: it may or may not be what the stream says. The controller has the blocks of the
 * stream as the far side has stored it through some LSN S >= copy_lsn, reads the same blocks of the
 * image, in any way and beside the guest, and sends COMPARED in the order of the disk, from
 * `compare_offset` on: a block whose bit is clear reads here as it does there. That is enough: what
 * was written since copy_lsn is in the stream, so a byte that is equal now and was not then has a
 * record. The copy sends the blocks that differ, as far as they are compared. */
#ifndef TIDE_COMMON_CORE_TAPCTL_H
#define TIDE_COMMON_CORE_TAPCTL_H

#include "common/core/err.h"
#include "common/core/round.h"

#define TIDE_TAPCTL_VERSION        3
#define TIDE_TAPCTL_SIZE_MAX       9216U /* of any message */
#define TIDE_TAPCTL_RING_FILES_MAX 64
#define TIDE_TAPCTL_FDS_MAX        (TIDE_TAPCTL_RING_FILES_MAX + 1) /* passed with WELCOME */
#define TIDE_TAPCTL_ATTEST_MAX     8192U
#define TIDE_TAPCTL_BLOCK          65536U /* of the map and of COMPARED, bytes */
#define TIDE_TAPCTL_COMPARED_MAX   8192U  /* blocks in one COMPARED */
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
    TAPCTL_COMPARED = 9,
    TAPCTL_RESYNC = 10,
    TAPCTL_DETACH = 11,
    TAPCTL_RESTREAM = 12,
    TAPCTL_RESIZE = 13,
    TAPCTL_WELCOME = 65,
    TAPCTL_HELD = 66,
    TAPCTL_REFUSED = 67,
    TAPCTL_SEALED = 68,
    TAPCTL_SYNCED = 69,
    TAPCTL_STATE = 70,
    TAPCTL_REFUSE_BUSY = 71, /* another controller is connected; the connection is closed */
    TAPCTL_DONE = 72,
};

struct tapctl_compared {
    uint64_t begin_lsn; /* the copy that it is for: STATE's copy_lsn; another is passed over */
    uint64_t offset;    /* of its first block: STATE's compare_offset; another is passed over */
    uint32_t count;     /* 1..TIDE_TAPCTL_COMPARED_MAX blocks; the disk's last may be short */
    uint8_t differs[TIDE_TAPCTL_COMPARED_MAX / 8]; /* bit k (byte k / 8, value 1 << k % 8) */
};

enum tapctl_resync {
    TAPCTL_RESYNC_NOW = 1,     /* what is known to differ, without waiting */
    TAPCTL_RESYNC_COMPARE = 2, /* every block is suspect: a whole disk gets a gap of `asked` */
    TAPCTL_RESYNC_FULL = 3,    /* every block is sent; gap as above */
};

struct tapctl_order { /* RESYNC, DETACH, RESTREAM, RESIZE: what each needs, the rest zero */
    uint8_t resync;   /* RESYNC: enum tapctl_resync */
    bool force;       /* DETACH: also while clients are connected */
    struct id stream; /* RESTREAM: the stream to leave; another is refused */
};

struct tapctl_done { /* of RESYNC, DETACH, RESTREAM, RESIZE */
    enum err_code code;
    char text[TIDE_TAPCTL_TEXT_MAX + 1]; /* why not, or what was done */
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
    TAPCTL_COPY_NONE = 0, /* the disk is whole, or its log is off */
    TAPCTL_COPY_OFF = 1,  /* not whole, and copy-rate=0 */
    TAPCTL_COPY_RUNNING = 2,
    TAPCTL_COPY_WAITING = 3,   /* until the far side has stored more of the log */
    TAPCTL_COPY_FAILING = 4,   /* the image cannot be read there; tried again and again */
    TAPCTL_COPY_COMPARING = 5, /* all that is known to differ was sent; more must be compared */
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
    uint64_t gap_lsn;        /* last gap; 0: none known */
    uint64_t size;           /* of the disk, now */
    uint64_t dirty_bytes;    /* of the map: changed unlogged, or never copied, or suspect */
    uint64_t copy_total;     /* dirty_bytes when the copy began; 0: none is under way */
    uint64_t copy_rate;      /* bytes of them a second, lately */
    uint64_t copy_lsn;       /* of its COPY_BEGIN; 0: none is under way */
    uint64_t compare_offset; /* compared below it */
    uint64_t restreams;      /* new streams begun by RESTREAM, since the tap began */
    uint32_t clients;        /* connections to the disk */
    bool comparing;
    uint8_t gap_reason; /* enum record_gap_reason; 0: none */
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
        struct tapctl_compared compared;
        struct tapctl_order order;
        struct tapctl_done done;
    };
};

/* Encodes into to[0..TIDE_TAPCTL_SIZE_MAX); returns the bytes used. Aborts on a value out of range
 * (programmer error). */
size_t tapctl_encode(const struct tapctl *message, uint8_t to[TIDE_TAPCTL_SIZE_MAX]);

/* CORRUPT: magic, type, size or a value is wrong; VERSION: a version this build does not speak. */
int tapctl_decode(const void *from, size_t size, struct tapctl *ret, struct err *err);

#endif
