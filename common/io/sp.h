/* SPDX-License-Identifier: Apache-2.0 */
/* sp: the framing of libnng's SP protocol over a stream, as BUS version 0: an 8-byte hello each
 * way, then messages of an 8-byte big-endian length and that many bytes. Knows nothing of sockets.
 */
#ifndef TIDE_COMMON_IO_SP_H
#define TIDE_COMMON_IO_SP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"

#define SP_HELLO_SIZE  8U
#define SP_HEADER_SIZE 8U

/* 00 53 50 00 00 70 00 00: NUL "SP" version 0, protocol BUS v0 (0x0070), reserved. */
extern const uint8_t sp_hello[SP_HELLO_SIZE];

/* Writes the header of a message of `size` bytes. */
void sp_header(uint64_t size, uint8_t ret_header[SP_HEADER_SIZE]);

/* Takes a stream apart. Fixed memory: one message. */
struct sp_decoder {
    uint8_t *buffer; /* owned; of message_max bytes */
    size_t message_max;
    uint8_t head[SP_HEADER_SIZE];
    size_t head_used;
    size_t size; /* of the message under way */
    size_t used; /* of it */
    bool greeted;
    bool in_body;
    bool failed;
};
/* message_max > 0. False: no memory; it may be closed all the same. */
bool sp_decoder_init(struct sp_decoder *decoder, size_t message_max);
void sp_decoder_close(struct sp_decoder *decoder);

/* A whole message; false: the connection went, what is left is not decoded. */
typedef bool sp_message_fn(void *arg, const uint8_t *bytes, size_t size);

/* Takes the next bytes of the stream, calling fn for each message that is complete. CORRUPT: the
 * hello is another; LIMIT: a message of 0 or more than message_max bytes. Then the
 * decoder takes nothing more. After an fn that said false it is not touched: fn may close it. */
int sp_decode(struct sp_decoder *decoder, const uint8_t *bytes, size_t size, sp_message_fn *fn,
              void *arg, struct err *err);

#endif
