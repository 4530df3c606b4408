/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/sp.h"

#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"

const uint8_t sp_hello[SP_HELLO_SIZE] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x70, 0x00, 0x00};

void sp_header(uint64_t size, uint8_t ret_header[SP_HEADER_SIZE])
{
    for (unsigned i = 0; i < SP_HEADER_SIZE; i++)
        ret_header[i] = (uint8_t)(size >> (8 * (SP_HEADER_SIZE - 1 - i)));
}

bool sp_decoder_init(struct sp_decoder *decoder, size_t message_max)
{
    TIDE_CHECK(message_max > 0);
    *decoder = (struct sp_decoder){.message_max = message_max, .buffer = malloc(message_max)};
    return decoder->buffer != NULL;
}

void sp_decoder_close(struct sp_decoder *decoder)
{
    free(decoder->buffer);
    decoder->buffer = NULL;
}

static size_t sp_take(void *to, size_t *used, size_t want, const uint8_t **bytes, size_t *size)
{
    size_t take = want - *used;
    take = take < *size ? take : *size;
    memcpy((uint8_t *)to + *used, *bytes, take);
    *used += take;
    *bytes += take;
    *size -= take;
    return want - *used;
}

/* The hello, or a header, is complete in head. */
static int sp_head(struct sp_decoder *decoder, struct err *err)
{
    const uint8_t *head = decoder->head;
    uint64_t size = 0;
    decoder->head_used = 0;
    if (!decoder->greeted) {
        if (memcmp(head, sp_hello, SP_HELLO_SIZE) != 0)
            return err_set(err, TIDE_ERR_CORRUPT,
                           "hello %02x %02x %02x %02x %02x %02x %02x %02x is not that of SP BUS v0 "
                           "(00 53 50 00 00 70 00 00)",
                           head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]);
        decoder->greeted = true;
        return 0;
    }
    for (unsigned i = 0; i < SP_HEADER_SIZE; i++)
        size = size << 8 | head[i];
    if (size == 0 || size > decoder->message_max)
        return err_set(err, TIDE_ERR_LIMIT, "a message of %llu bytes; 1 to %zu are taken",
                       (unsigned long long)size, decoder->message_max);
    decoder->size = (size_t)size;
    decoder->used = 0;
    decoder->in_body = true;
    return 0;
}

int sp_decode(struct sp_decoder *decoder, const uint8_t *bytes, size_t size, sp_message_fn *fn,
              void *arg, struct err *err)
{
    while (size > 0) {
        if (decoder->failed)
            return err_set(err, TIDE_ERR_CORRUPT, "the stream has failed before");
        if (!decoder->in_body) {
            if (sp_take(decoder->head, &decoder->head_used, SP_HEADER_SIZE, &bytes, &size) > 0)
                continue;
            if (sp_head(decoder, err) != 0) {
                decoder->failed = true;
                return -1;
            }
            continue;
        }
        if (sp_take(decoder->buffer, &decoder->used, decoder->size, &bytes, &size) > 0)
            continue;
        decoder->in_body = false;
        if (!fn(arg, decoder->buffer, decoder->size))
            return 0; /* fn may have closed the decoder: it is not looked at again */
    }
    return 0;
}
