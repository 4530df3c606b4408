/* SPDX-License-Identifier: Apache-2.0 */
/* simtap_own: what the files of simtap share. For them alone. */
#ifndef TIDE_TESTS_SIM_SIMTAP_OWN_H
#define TIDE_TESTS_SIM_SIMTAP_OWN_H

#include "participant/tap/replay.h"
#include "tests/sim/simdev.h"
#include "tests/sim/simtap.h"

#include <sys/queue.h>

#define BLOCK     128U /* of the map, bytes */
#define MAP_ALL   (UINT64_MAX >> (64U - SIMTAP_SIZE / BLOCK))
#define SYNCS_MAX 64U /* under way at once */

struct simtap;

struct op { /* as range.h: at most one a request, in order of arrival */
    TAILQ_ENTRY(op) entry;
    struct simtap_change change;
    bool copy;
    bool fua; /* answered when log and image are synced */
    bool begun;
    bool outside;      /* planted: in nobody's way */
    uint64_t lsn;      /* 0: unlogged */
    uint64_t copy_lsn; /* of a copy */
    uint64_t position;
    uint8_t bytes[SIMTAP_SIZE]; /* of a copy: what was read */
};
TAILQ_HEAD(ops, op);

enum sync_why { SYNC_ASKED, SYNC_SEAL, SYNC_CHECKPOINT, SYNC_COPY, SYNC_FUA };

struct sync { /* what it covers */
    enum sync_why why;
    bool under_way;
    uint64_t written; /* numbers of the devices' writes */
    uint64_t image_written;
    uint64_t lsn;
    uint64_t position;
    uint64_t due_lsn; /* CHECKPOINT */
    uint64_t due_position;
    uint64_t open_lsn;
    struct id open_round;
    uint64_t what; /* COPY: LSN of its begin; FUA: number of the write */
};

struct simtap {
    struct simtaps *taps;
    unsigned disk;
    struct simdev *log;
    struct simdev *image;
    struct ring ring;
    struct state state; /* in memory, and as saved */
    struct state saved;
    struct id boot;
    uint64_t map; /* outlives a kill */
    uint64_t life;
    bool running;
    bool logging;
    bool failed;
    uint64_t log_lsn;
    uint64_t synced_lsn;
    uint64_t synced_position;
    uint64_t stored_lsn;
    uint64_t mark_lsn; /* the last bookmark */
    uint64_t open_lsn; /* a bookmark without its seal */
    struct id open_round;
    struct ops ops;
    struct sync syncs[SYNCS_MAX];
    unsigned sync_next;
    uint64_t copy_lsn; /* 0: none goes on */
    uint64_t copied;
    unsigned copy_number; /* of its last block */
};

struct simtaps {
    struct simtaps_config config;
    struct roundlab *lab;
    struct prng prng;
    struct simtap *all;
};

/* ---- simtap.c ---- */

void simtap_save(struct simtap *tap); /* append_state() */
__attribute__((format(printf, 2, 3))) void simtap_say(const struct simtap *tap, const char *format,
                                                      ...);
enum later { LATER_APPLY, LATER_COPY_READ, LATER_COPY_NEXT, LATER_SYNC, LATER_CHECKPOINT };
/* Then, unless the tap's life has ended meanwhile, simtap_<what>_due(tap, which). */
void simtap_later(struct simtap *tap, uint64_t in_us, enum later what, unsigned which);
uint64_t simtap_draw_us(struct simtap *tap, uint64_t least, uint64_t most);

/* ---- simtap_log.c ---- */

bool simtap_append(struct simtap *tap, struct record *record); /* with its LSN */
/* A record of the tap's own, that checkers and the lab hear of. Its LSN; 0: the log failed. */
uint64_t simtap_append_own(struct simtap *tap, struct record *record);
bool simtap_room(const struct simtap *tap);
void simtap_overflow(struct simtap *tap);
void simtap_log_failed(struct simtap *tap, uint64_t end_lsn, uint64_t end_position);
void simtap_gap(struct simtap *tap, enum record_gap_reason reason, bool suspect, uint64_t offset,
                uint64_t size);
void simtap_sync_begin(struct simtap *tap, enum sync_why why, uint64_t what);
void simtap_sync_due(struct simtap *tap, unsigned which);
void simtap_recycle(struct simtap *tap);

/* ---- simtap_guest.c ---- */

void simtap_write(struct simtap *tap, unsigned number);
void simtap_apply_due(struct simtap *tap, unsigned number);
void simtap_flushed(struct simtap *tap, unsigned number);
void simtap_drain(struct simtap *tap); /* what is under way is in the image */
void simtap_start_ops(struct simtap *tap);
void simtap_map_set(struct simtap *tap, uint64_t offset, uint64_t size);

/* ---- simtap_copy.c ---- */

void simtap_copy_begin(struct simtap *tap);
void simtap_copy_read(struct simtap *tap, struct op *op); /* its range is its own from here on */
void simtap_copy_read_due(struct simtap *tap, unsigned number);
void simtap_copy_next_due(struct simtap *tap, unsigned copy_lsn);
void simtap_copy_synced(struct simtap *tap, uint64_t copy_lsn);

#endif
