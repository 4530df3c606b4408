/* SPDX-License-Identifier: Apache-2.0 */
/* taplab: the tap's engine on a crashdisk, in one thread and in virtual time, and a model of what
 * it has promised, kept apart from it: every sector of the disk says which change wrote it, so that
 * the image, the stream replayed, and what the model allows can be compared sector by sector.
 *
 * What was done is marked in the disk's journal, so that the model can be had at any place of it. A
 * mistake of the test ends the process; what the engine does wrong is reported (taplab_why). */
#ifndef TIDE_TESTS_SYSTEM_TAPLAB_H
#define TIDE_TESTS_SYSTEM_TAPLAB_H

#include "participant/tap/tap.h"
#include "tests/lib/crashcalls.h"

#define TAPLAB_SECTORS     2048U /* of the disk */
#define TAPLAB_SIZE        ((uint64_t)TAPLAB_SECTORS * CRASHDISK_SECTOR)
#define TAPLAB_CHANGES_MAX 64U /* bits of a mask */
#define TAPLAB_ROUNDS_MAX  32U
#define TAPLAB_ZERO        255U /* a sector of zeroes */

enum taplab_op {
    TAPLAB_WRITE,
    TAPLAB_OVERLAP, /* of that write */
    TAPLAB_DISCARD, /* a zero over a part of both */
    TAPLAB_FLUSH,
    TAPLAB_BOOKMARK, /* held, released, sealed */
    TAPLAB_CHECKPOINT,
    TAPLAB_RECLAIM, /* the far side stores what is synced */
    TAPLAB_COPY,    /* one step of the copy */
    TAPLAB_HELD,    /* a bookmark with a write within its hold */
    TAPLAB_RESTART, /* detach and attach */
};
#define TAPLAB_OPS (TAPLAB_RESTART + 1)
const char *taplab_op_name(enum taplab_op op);

enum taplab_start {
    TAPLAB_FRESH,   /* zeroes: whole */
    TAPLAB_COPYING, /* a disk with data, its first block copied */
    TAPLAB_BRIM,    /* zeroes; the next write finds no room in the log */
};
#define TAPLAB_STARTS (TAPLAB_BRIM + 1)
const char *taplab_start_name(enum taplab_start start);

/* What was promised so far. Masks are of changes. */
struct taplab_model {
    unsigned base;     /* changes below it are in the lab's base */
    unsigned begun;    /* changes so far */
    uint64_t done;     /* returned 0, and not undone by a power cut */
    uint64_t promised; /* and then a flush did */
    uint64_t suspect;  /* a flush failed before one promised it */
    uint64_t synced_lsn;
    uint64_t end_lsn; /* a sync failed: nothing from there on counts after a restart; 0: none did */
    size_t far;       /* records that the far side has stored */
    bool served;      /* a change since the last start that was known to be attached */
    bool closing;     /* a detach was under way */
    bool unlogged;    /* since the base the log was off at some time */
    bool power;       /* since the base the power was cut */
    bool fault;       /* a call was made to fail */
    bool adrift;      /* one of those three, before the base and not mended since */
};

struct taplab;

/* The disk of a start, and its tap stopped. */
struct taplab *taplab_new(enum taplab_start start, bool flush_log);
void taplab_free(struct taplab *lab);

/* The first life: opens the tap and brings it to the start; what is pending then is settled. */
bool taplab_begin(struct taplab *lab);
struct crashdisk *taplab_disk(struct taplab *lab);
struct tap *taplab_tap(struct taplab *lab);
bool taplab_running(const struct taplab *lab);

/* Starts the tap; false with an error: taplab_why(). */
bool taplab_open(struct taplab *lab);
void taplab_close(struct taplab *lab); /* a clean detach */
void taplab_drop(struct taplab *lab);  /* as by kill -9; the disk stays as it is */
/* False: the tap is not running after it (a restart that failed: taplab_why()). */
bool taplab_do(struct taplab *lab, enum taplab_op op);
/* Copies, with a far side that stores everything, until the stream is whole; false: it never is. */
bool taplab_mend(struct taplab *lab);
/* Errors that the guest saw since taplab_new(). */
unsigned taplab_guest_errors(const struct taplab *lab);

/* The model at a place of the mounted disk's journal. */
struct taplab_model taplab_model(const struct taplab *lab, size_t at);
/* A branch: the tap is dropped and goes on, another time, on what a cut at that place of the
 * journal leaves; taplab_back() returns to where it was, but with no tap running. NULL where the
 * cut leaves what another power cut there does as well (unless `again`), or did not tear anything.
 */
struct taplab_branch;
struct taplab_branch *taplab_cut(struct taplab *lab, size_t at, enum crashdisk_cut cut,
                                 uint64_t seed, bool again);
void taplab_back(struct taplab *lab, struct taplab_branch *branch);
void taplab_forget(struct taplab *lab, struct taplab_branch *branch); /* there is no way back */
/* All that is pending becomes durable, and what the image holds is the model's base from here on.
 * Call it only where all is judged. */
void taplab_settle(struct taplab *lab);
/* From here on the model allows for failed calls. */
void taplab_faulty(struct taplab *lab);

/* Judges. False: taplab_why() says what is wrong. */
bool taplab_judge_image(struct taplab *lab);      /* of a disk that no tap has recovered yet */
bool taplab_judge(struct taplab *lab);            /* a tap that was just opened on it */
bool taplab_judge_running(struct taplab *lab);    /* at any time */
unsigned taplab_points(const struct taplab *lab); /* bookmarks that count, as last judged */
/* All that was judged is settled; then it must become whole, and new points must be the disk. */
bool taplab_prove(struct taplab *lab);
const char *taplab_why(const struct taplab *lab);

#endif
