/* SPDX-License-Identifier: Apache-2.0 */
/* simtap: the disks of the simulated taps: a log and an image each, on storage that loses what was
 * not synced (simdev.h). Log, scan and replay are the tap's own (participant/tap/ring, replay over
 * common/hrl/log); the gate is the lab's. What stands around them in the tap waits for threads and
 * files, and is written down here once more, as small as it can be:
 *
 *   simtap.c       attach.c   begin, serve: scan, gap after a power cut, replay, what is open is
 *                             sealed (by the lab), ATTACH, GAP, all synced
 *                  state.h    the same struct, kept whole by each save, as two slots keep it
 *   simtap_log.c   append.c   a full log, a failed one, a failed image; what a gap leaves in the
 * map checkpoint.c  log, image, state, recycling simtap_guest.c disk.c, range.c  log, then image;
 * overlapping changes one after the other simtap_copy.c  copy.c, map.c    the map's blocks beside
 * the guest, begin to end
 *
 * Not here: comparing (what is suspect is sent), resize, restream, detach, notes and times of
 * files, failing writes of state and map. */
#ifndef TIDE_TESTS_SIM_SIMTAP_H
#define TIDE_TESTS_SIM_SIMTAP_H

#include "participant/tap/ring.h"
#include "tests/lib/roundlab.h"

#define SIMTAP_SECTOR  32U /* what guests write in */
#define SIMTAP_SECTORS 64U
#define SIMTAP_SIZE    (SIMTAP_SECTOR * SIMTAP_SECTORS) /* bytes of a disk */
#define SIMTAP_WRITE   3U                               /* sectors of one write at most */

struct simtaps;

/* A change of the guest. */
struct simtap_change {
    unsigned number;
    uint64_t offset; /* bytes; whole sectors */
    uint64_t size;
    bool zero; /* else the bytes are simtap_word()'s */
    bool discard;
};
/* The guest's bytes: each sector tells number and place. */
void simtap_word(unsigned number, uint64_t sector, uint8_t ret[SIMTAP_SECTOR]);

/* Tells an onlooker what becomes of disks. */
struct simtap_watch {
    /* Under way from here on; LSN 0: past the log. */
    void (*change)(void *context, unsigned disk, const struct simtap_change *change, uint64_t lsn);
    void (*applied)(void *context, unsigned disk, unsigned number, bool ok); /* to the image */
    /* A write with FUA is about to be acknowledged. */
    void (*flushed)(void *context, unsigned disk, unsigned number);
    void (*synced)(void *context, unsigned disk, uint64_t lsn);
    void (*log_failed)(void *context, unsigned disk);
    /* The log holds nothing up to there any more. */
    void (*reclaimed)(void *context, unsigned disk, uint64_t lsn);
    /* A tap is about to serve; what was under way is as the image says. */
    void (*began)(void *context, unsigned disk, const uint8_t *image);
    void *context;
};

struct simtaps_config {
    unsigned disks;
    uint64_t seed;
    unsigned log_files; /* ring.h's limits */
    unsigned log_file;  /* bytes of each */
    bool based;         /* some images have something on them before their first start */
    struct simtap_watch watch;
};

struct simtaps *simtaps_new(const struct simtaps_config *config);
void simtaps_free(struct simtaps *taps);
struct roundlab_disks simtaps_disks(struct simtaps *taps); /* for the lab's configuration */

/* ---- faults ---- */

/* The machine loses power: its taps have stopped. Another boot. */
void simtap_power(struct simtaps *taps, unsigned disk);
enum simtap_fault {
    SIMTAP_LOG_WRITES, /* EIO, until the tap begins anew */
    SIMTAP_LOG_SYNCS,
    SIMTAP_IMAGE_WRITES, /* EIO or ENOSPC, for a time */
};
void simtap_fail(struct simtaps *taps, unsigned disk, enum simtap_fault fault, bool on);

/* ---- for who ships ---- */

struct simtap_log {
    struct source source;
    struct log_ring ring;
    uint64_t tail_lsn; /* the oldest there, and where */
    uint64_t tail_position;
    uint64_t tail_incarnation;
    uint64_t synced_lsn;
    uint64_t last_lsn;
    uint64_t mark_lsn; /* the last bookmark of this life; 0: none */
    uint64_t life;     /* grows with every start */
};
struct simtap_log simtap_log(struct simtaps *taps, unsigned disk);
void simtap_sync(struct simtaps *taps, unsigned disk); /* SYNC: begins one */
void simtap_stored(struct simtaps *taps, unsigned disk, uint64_t lsn);
const uint8_t *simtap_image(const struct simtaps *taps, unsigned disk); /* as guests read it */
bool simtap_whole(const struct simtaps *taps, unsigned disk);           /* or a copy is under way */
bool simtap_failed(const struct simtaps *taps, unsigned disk);          /* no log until a restart */

#endif
