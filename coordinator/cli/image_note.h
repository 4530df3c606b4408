/* SPDX-License-Identifier: Apache-2.0 */
/* image_note: reads what a tap has noted beside an image (common/core/witness.h). */
#ifndef TIDE_COORDINATOR_CLI_IMAGE_NOTE_H
#define TIDE_COORDINATOR_CLI_IMAGE_NOTE_H

#include <stdbool.h>

#include "common/core/witness.h"

/* *ret_any false: nothing is noted. NOT_FOUND: no such image; UNKNOWN: the place cannot have a note
 * (a device, or a file system without user attributes); CORRUPT, VERSION: witness_parse(); IO. */
int image_note_read(const char *image, bool *ret_any, struct witness *ret, struct err *err);

#endif
