/* SPDX-License-Identifier: Apache-2.0 */
/* tap: the engine between the NBD front and image + log. It owns the locks, in this order:
 *
 *   entry, append   every append to the log, LSNs included. Writers pass `entry` before `append`;
 *                   bookmarks and seals take `append` alone, so they wait for two appends at most
 *   sync            one fdatasync of the log at a time
 *   gate            the hold (participant/core/gate.h). Never held over I/O: budget expiry,
 *                   RELEASE, ABORT and a lost controller take it alone, and whoever waits for the
 *                   end of a hold lets go by himself at the deadline
 *   state           the state file (held over its write; innermost but for those below)
 *   head, range, work, map   small, innermost
 *
 * Threads: nbdkit's (requests), control (socket), timer (deadline of the hold), worker (seals,
 * syncs asked for, what is told unasked), checkpoint (and the image's size), copy. */
#ifndef TIDE_PARTICIPANT_TAP_TAP_H
#define TIDE_PARTICIPANT_TAP_TAP_H

#include "common/core/err.h"
#include "common/hrl/record.h"
#include "participant/core/gate.h"
#include "participant/tap/map.h"
#include "participant/tap/range.h"
#include "participant/tap/ring.h"
#include "participant/tap/state.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TIDE_TAP_REQUEST_MAX (1024U * 1024) /* bytes of one record; larger requests are split */
#define TIDE_TAP_BLOCK_SIZE  512U
#define TIDE_TAP_SMALL_MAX   (16U * 1024) /* encoded size of any record but a write */
#define TIDE_TAP_SYNCS_MAX   64           /* SYNC requests that wait for their answer */

struct tap_config {
    char image[PATH_MAX];
    char folder[PATH_MAX];
    char control[108]; /* a unix socket's path */
    uint64_t log_size;
    uint32_t hold_max_us;
    uint64_t held_max;  /* bytes */
    bool flush_log;     /* flush=log: the log alone */
    uint64_t copy_rate; /* bytes a second at most; 0: no copy */
};

enum tap_work {
    TAP_WORK_SEAL = 1U,  /* the gate has a seal due */
    TAP_WORK_LOST = 2U,  /* a seal was given up: tap->lost */
    TAP_WORK_SYNC = 4U,  /* tap->syncs */
    TAP_WORK_STATE = 8U, /* whole, logging or the copy changed: tell the controller */
    TAP_WORK_STOP = 16U,
    TAP_WORK_ORDER = 32U, /* tap->order */
};

struct tap_sync_request {
    uint64_t lsn;
    uint32_t serial;
    uint64_t session; /* of the controller that asked */
};

/* RESYNC, DETACH, RESTREAM or RESIZE. */
struct tap_order {
    enum tapctl_type type;
    struct tapctl_order what;
    uint32_t serial;
    uint64_t session;
};

struct tap {
    struct tap_config config;
    int lock_fd;       /* folder/lock: one tap a log */
    int image_fd;      /* with flock: one tap an image */
    int image_sync_fd; /* the same, opened anew, for syncs beside the guest; -1: it could not */
    int state_fd;
    _Atomic uint64_t size; /* of the disk as the guest sees it */
    uint64_t incarnation;  /* changed under append by restream alone */
    struct id boot;
    uint64_t noted; /* incarnation that the image named when it was opened; 0: none */
    char image_id[TIDE_STATE_TEXT];
    char machine[TIDE_STATE_TEXT];

    pthread_mutex_t entry;
    pthread_mutex_t append;
    struct ring ring;        /* append */
    uint64_t log_lsn;        /* append: of the last record in the log */
    uint8_t *small;          /* append: TIDE_TAP_SMALL_MAX bytes for encoding */
    _Atomic bool logging;    /* changed under append */
    _Atomic bool failed;     /* log write or sync failed: it stays off in this incarnation */
    _Atomic bool unlogged;   /* a change went past the log: flushes sync the image from now on */
    bool attached;           /* append: the ATTACH of this incarnation is in the log */
    uint64_t refused_size;   /* resize: of the image, not followed and told; 0: none */
    uint64_t logged_size;    /* append: of the disk, as ATTACH or the last RESIZE said */
    uint64_t touched_us;     /* append: last sign of life while writes go unlogged */
    _Atomic bool untold;     /* the state could not be told of a gap: a note at the image says it */
    _Atomic bool image_lost; /* a sync of the image failed: what it was for is not known written */
    _Atomic int image_why;   /* of a sync of the image that failed beside the guest; 0: none */
    struct record_attach attach; /* what it says */
    _Atomic unsigned image_gaps; /* failed image writes whose gap is not recorded yet */

    pthread_mutex_t sync;
    pthread_mutex_t head;
    uint64_t head_lsn; /* head: as log_lsn, for those without the append lock */
    uint64_t head_position;
    uint64_t synced_lsn;
    uint64_t synced_position;
    bool sync_failed;

    pthread_mutex_t gate_lock;
    pthread_cond_t let_go; /* the hold ended */
    pthread_cond_t begun;  /* a hold began, or stop: for the timer */
    struct gate gate;
    struct record_seal lost; /* given up, not yet told */
    bool timer_stop;

    struct range range;
    struct map map;

    pthread_mutex_t state_lock;
    struct state state;

    pthread_mutex_t resize;  /* outermost: one resize at a time */
    pthread_mutex_t recycle; /* outermost: files of the ring are freed, or it begins anew */

    pthread_mutex_t work;
    pthread_cond_t work_due;
    unsigned work_bits;
    struct tap_sync_request syncs[TIDE_TAP_SYNCS_MAX];
    unsigned syncs_count;
    struct tap_order order; /* with TAP_WORK_ORDER */

    pthread_mutex_t checkpoint;
    pthread_cond_t checkpoint_due;
    pthread_cond_t checkpoint_done;
    bool checkpoint_wanted;
    bool checkpoint_running;
    bool checkpoint_stop;
    uint64_t checkpoints;             /* tried */
    _Atomic uint64_t checkpoint_from; /* log position of the last one */
    _Atomic uint64_t stored_lsn;      /* as the controller says, at most synced */
    _Atomic uint64_t writes;
    _Atomic uint64_t bytes;

    pthread_mutex_t copy;
    pthread_cond_t copy_due;
    bool copy_stop;
    bool copy_wanted;                  /* kicked since the last rest */
    struct copy *copying;              /* the copy's own */
    _Atomic unsigned copy_state;       /* enum tapctl_copy */
    _Atomic bool copy_forced;          /* asked for by an operator, whatever copy-rate says */
    _Atomic uint64_t copy_total;       /* bytes of the map when it began; 0: none is under way */
    _Atomic uint64_t copy_measured;    /* bytes a second */
    _Atomic uint64_t compared;         /* changed under append: offset below which was compared */
    _Atomic unsigned guest_under_way;  /* requests of the guest, for the copy's manners */
    _Atomic uint64_t guest_done;       /* answered so far */
    _Atomic uint64_t guest_slowest_us; /* since the copy last looked */

    _Atomic uint32_t clients;   /* connections of the guest's side */
    _Atomic uint64_t restreams; /* since the tap began; changed under append */
    _Atomic uint64_t welcomed;  /* restreams when the controller had its WELCOME; else UINT64_MAX */
    struct control *control;
    pthread_t copy_thread;
    pthread_t timer_thread;
    pthread_t worker_thread;
    pthread_t checkpoint_thread;
    bool threads;
};

/* Opens image and log, replays, attaches: after it the disk can be served. Errors are for people.
 */
int tap_open(struct tap *tap, const struct tap_config *config, struct err *err);
/* After the last fork: threads, and the control socket's. */
int tap_start(struct tap *tap, struct err *err);
/* Ends threads, syncs everything and records a clean detach. */
void tap_close(struct tap *tap);

uint64_t tap_now_us(void); /* CLOCK_MONOTONIC */

/* One step of the gate under its lock; wakes whom the outcome concerns. now_us is set here. */
void tap_step(struct tap *tap, struct gate_event *event, struct gate_out *ret);

/* Returns when that hold has ended, at its deadline at the latest. */
void tap_wait_let_go(struct tap *tap, uint64_t ticket);

void tap_post(struct tap *tap, unsigned work_bits);

#endif
