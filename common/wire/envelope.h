/* SPDX-License-Identifier: Apache-2.0 */
/* envelope: struct msg <-> the bytes of one link message (proto/link.proto). Every length, count,
 * number, name and set that comes from a peer is checked here and nowhere else. Decoding takes its
 * memory from one bounded arena and gives it all back; nothing is kept. Safe to call from any
 * thread that has 256 KiB of stack to spare. */
#ifndef TIDE_COMMON_WIRE_ENVELOPE_H
#define TIDE_COMMON_WIRE_ENVELOPE_H

#include "common/core/err.h"
#include "common/core/msg.h"

#ifndef TIDE_ENVELOPE_SIZE_MAX        /* one test build has more: tests/sim */
#define TIDE_ENVELOPE_SIZE_MAX 65536U /* bytes of a message; give it to the link as its limit */
#endif

/* Encodes into to[0..TIDE_ENVELOPE_SIZE_MAX) and returns the bytes used; any valid message fits.
 * Aborts on a value out of range (programmer error). */
size_t envelope_encode(const struct msg *msg, uint8_t to[TIDE_ENVELOPE_SIZE_MAX]);

/* Decodes from[0..size); sets msg_size(ret->type) bytes of *ret. Fields of messages that this build
 * does not know are passed over. CORRUPT  not a message, a field out of range, no body or one that
 * this build does not know VERSION  a wire version this build does not speak LIMIT    over
 * TIDE_ENVELOPE_SIZE_MAX, too many elements, or a shape that would take more memory than any valid
 * message */
int envelope_decode(const void *from, size_t size, struct msg *ret, struct err *err);

/* "hold" for MSG_HOLD, for people and traces; NULL where unknown. */
const char *envelope_type_name(unsigned type);

#endif
