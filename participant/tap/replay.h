/* SPDX-License-Identifier: Apache-2.0 */
/* replay: reads the log's tail from the checkpoint: where it ends, what it left open, and, in a
 * second pass, its changes into the image. */
#ifndef TIDE_PARTICIPANT_TAP_REPLAY_H
#define TIDE_PARTICIPANT_TAP_REPLAY_H

#include "participant/tap/ring.h"
#include "participant/tap/state.h"

struct replay {
    uint64_t end_lsn; /* due next */
    uint64_t end_position;
    uint64_t end_incarnation;
    uint64_t open_lsn; /* a bookmark without its seal; 0: none */
    struct id open_round;
    /* As the state says, and then the tail: */
    bool whole;
    bool copy_zero;
    uint64_t copy_lsn;
    uint64_t size; /* of the disk, as the last RESIZE in the tail says; 0: there was none */
    /* Replay starts here: behind the last resize, and the last gap after which writes went
     * unlogged; what came before either was in the image, durably, before its record. */
    uint64_t start_lsn;
    uint64_t start_position;
    uint64_t start_incarnation;
    uint64_t first_lsn; /* of what replay_apply() wrote; 0: nothing */
    uint64_t last_lsn;
    bool torn; /* a record was half there; text says where */
    char torn_text[TIDE_ERR_TEXT_MAX];
};

/* Reads from the state's checkpoint to the end. Errors: those of log_reader_next(). */
int replay_scan(struct ring *ring, const struct state *state, struct replay *ret, struct err *err);

/* Writes the changes [start, end) into the image of image_size bytes; resized: by others, and what
 * lies past its end is passed over. */
int replay_apply(struct ring *ring, int image_fd, uint64_t image_size, bool resized,
                 struct replay *replay, struct err *err);

#endif
