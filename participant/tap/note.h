/* SPDX-License-Identifier: Apache-2.0 */
/* note: what a tap leaves beside the image, in extended attributes of its file:
 * TIDE_WITNESS_ATTRIBUTE (common/core/witness.h), for whoever opens the image alone and as one more
 * witness of a gap where the log's own disk is dead; and the tap's last incarnation, by which a log
 * that was restored from an older copy is told. Devices, and file systems without such attributes,
 * have none: then nothing is concluded. */
#ifndef TIDE_PARTICIPANT_TAP_NOTE_H
#define TIDE_PARTICIPANT_TAP_NOTE_H

#include "common/core/witness.h"
#include "participant/tap/tap.h"

#define TIDE_NOTE_INCARNATION "user.tidemark.incarnation"

struct note {
    bool there;             /* an attribute that can be read */
    struct witness witness; /* with there */
    uint64_t incarnation;   /* 0: not known */
};

/* Best effort: what cannot be written is missing, and that is allowed. */
void note_write(struct tap *tap, enum witness_state state);
void note_read(const struct tap *tap, struct note *ret);

#endif
