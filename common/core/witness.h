/* SPDX-License-Identifier: Apache-2.0 */
/* witness: what a tap writes beside an image, as its extended attribute TIDE_WITNESS_ATTRIBUTE, so
 * that whoever opens the image alone can learn that a log belongs to it. One line of text:
 *
 *   v1 state=open|clean|gap stream=HEX log=FOLDER flush=both|log
 *
 * in this order, one space between, no newline and no NUL. Bytes of FOLDER that are not graphic
 * ASCII, and '%', stand as %XX. */
#ifndef TIDE_COMMON_CORE_WITNESS_H
#define TIDE_COMMON_CORE_WITNESS_H

#include "common/core/err.h"
#include "common/core/id.h"

#define TIDE_WITNESS_ATTRIBUTE "user.tidemark"
#define TIDE_WITNESS_LOG_MAX   1023U /* bytes of the folder's path, before escaping */
#define TIDE_WITNESS_TEXT_MAX  3500U /* of a text; fits an ext4 inode's one attribute block */

enum witness_state {
    WITNESS_OPEN = 1,  /* a tap serves it, or did not end cleanly: its log may hold more */
    WITNESS_CLEAN = 2, /* detached: the image alone is the disk */
    WITNESS_GAP = 3, /* as open, and writes went past the log meanwhile: replay stops before them */
};

struct witness {
    enum witness_state state;
    bool flush_log;                     /* flush=log: what was promised may be in the log alone */
    struct id stream;                   /* not zero */
    char log[TIDE_WITNESS_LOG_MAX + 1]; /* absolute path of the log's folder */
};

const char *witness_state_name(enum witness_state state); /* NULL where unknown */

/* Writes the text with a NUL into ret_text and returns its length without. LIMIT: the folder's path
 * is not absolute or longer than TIDE_WITNESS_LOG_MAX. A zero stream or unknown state aborts
 * (programmer error). Returns -1 on failure. */
int witness_format(const struct witness *witness, char ret_text[TIDE_WITNESS_TEXT_MAX + 1],
                   struct err *err);

/* From text[0..size), without a NUL. CORRUPT: not such a text, or longer than
 * TIDE_WITNESS_TEXT_MAX; VERSION: of another version. */
int witness_parse(const char *text, size_t size, struct witness *ret, struct err *err);

#endif
