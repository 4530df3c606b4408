/* SPDX-License-Identifier: Apache-2.0 */
/* canary: the dependent-write workload as data: what its blocks look like, where each step lies,
 * and the judgement over a recovered set of files. Pure: no I/O, clock, or allocation.
 *
 * W writers (one file each, on as many file systems) and T tokens. Step n (0, 1, 2 …) of token t is
 * written by writer (n + t) mod W, as one block, and only after step n - 1 was acknowledged. So in
 * any state that a set of disks can have had at one instant, the steps of a token are a prefix:
 * whoever has n has n - 1 too. A writer keeps its last S steps of each token in a ring of S slots,
 * so the last W * S steps of a token are visible; an older one lay in a slot that now holds a later
 * step, so it was there.
 *
 * File: block 0 is the header, block 1 + t * S + k is slot k of token t. Little-endian; every block
 * ends with the SHA-256 of all before it.
 *   header  "TIDECNH1" version:u32 writer:u32 run:16 writers:u32 tokens:u32 slots:u32 fsync:u32 0…
 *   step    "TIDECNS1" version:u32 writer:u32 run:16 token:u32 0:u32 step:u64 mono_ns:u64 cause:32
 *           fill…     (cause: the hash at the end of the step before; zero for step 0.
 *           A slot that has not been written in this run has step 2^64 - 1.)                    */
#ifndef TIDE_COORDINATOR_CLI_CANARY_H
#define TIDE_COORDINATOR_CLI_CANARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/core/id.h"

#define CANARY_VERSION     1U
#define CANARY_BLOCK       4096U
#define CANARY_WRITERS_MAX 256U
#define CANARY_TOKENS_MAX  64U
#define CANARY_SLOTS_MAX   1024U
#define CANARY_MARKS_MAX   1048576U /* writers * tokens * slots */
#define CANARY_STEP_NONE   UINT64_MAX

struct canary_config {
    struct id run;    /* drawn at random for each run */
    uint32_t writers; /* W, 1..CANARY_WRITERS_MAX */
    uint32_t tokens;  /* T, 1..CANARY_TOKENS_MAX */
    uint32_t slots;   /* S, 1..CANARY_SLOTS_MAX; W * T * S at most CANARY_MARKS_MAX */
    bool fsync;       /* each step was synced too before the next one */
};

struct canary_step {
    uint32_t writer;
    uint32_t token;
    uint64_t step; /* CANARY_STEP_NONE: slot not written yet */
    uint64_t mono_ns;
    struct hash cause;
};

/* What one slot held. Marks of a set lie at canary_mark_index(). Zero-initialised: nothing. */
struct canary_mark {
    bool present;
    uint64_t step;
    struct hash self;  /* the hash at the block's end */
    struct hash cause; /* what it says of the step before */
};

/* The lowest step of one token that is there although the one before is not. */
struct canary_tear {
    uint32_t token;
    uint64_t effect; /* present */
    uint64_t cause;  /* effect - 1, missing */
    uint32_t effect_writer;
    uint32_t cause_writer;
};

struct canary_verdict {
    uint64_t steps; /* proven: over all tokens that are not torn, the steps of their prefix */
    uint64_t last[CANARY_TOKENS_MAX]; /* highest step seen; CANARY_STEP_NONE: none */
    uint32_t tears;
    struct canary_tear tear[CANARY_TOKENS_MAX]; /* one a token at most */
};

/* Whether every number is in its range; text names the wrong one. */
int canary_config_check(const struct canary_config *config, struct err *err);

size_t canary_file_size(const struct canary_config *config);
uint32_t canary_writer(const struct canary_config *config, uint32_t token, uint64_t step);
uint32_t canary_slot(const struct canary_config *config, uint64_t step);
uint64_t canary_offset(uint32_t slots, uint32_t token, uint32_t slot); /* bytes in the file */
size_t canary_mark_index(const struct canary_config *config, uint32_t token, uint32_t writer,
                         uint32_t slot);

void canary_header_encode(const struct canary_config *config, uint32_t writer,
                          uint8_t ret_block[CANARY_BLOCK]);
/* CORRUPT: not a header, a bad checksum or a number out of range; VERSION. */
int canary_header_decode(const uint8_t block[CANARY_BLOCK], struct canary_config *ret_config,
                         uint32_t *ret_writer, struct err *err);

/* Returns the hash at the block's end. */
struct hash canary_step_encode(const struct canary_config *config, const struct canary_step *step,
                               uint8_t ret_block[CANARY_BLOCK]);
/* Decodes the block found at slot `slot` of `token` in the file of `writer`.
 *   CORRUPT   checksum (a torn block), or a block that does not belong in this place
 *   CONFLICT  of another run */
int canary_step_decode(const struct canary_config *config, uint32_t writer, uint32_t token,
                       uint32_t slot, const uint8_t block[CANARY_BLOCK], struct canary_mark *ret,
                       struct err *err);

/* Judges writers * tokens * slots marks. 0 with *ret filled: consistent where ret->tears is 0.
 *   CORRUPT  a step names another block as its cause than the one that is there */
int canary_judge(const struct canary_config *config, const struct canary_mark *marks,
                 struct canary_verdict *ret, struct err *err);

#endif
