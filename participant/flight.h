/* SPDX-License-Identifier: Apache-2.0 */
/* flight: one disk's segments from their being decided until they are stored: their bytes, the
 * window that says what to send (participant/core/window.h), and the threads that send
 * (senders.h). Memory: the sizes of those that are not stored yet, FLIGHT_BYTES_MAX at most. */
#ifndef TIDE_PARTICIPANT_FLIGHT_H
#define TIDE_PARTICIPANT_FLIGHT_H

#include "common/hrl/segment.h"
#include "participant/cutter.h"
#include "participant/senders.h"

#define FLIGHT_BYTES_MAX (64U * 1024U * 1024U) /* as the far side stages of one stream */

struct flight_slot {
    bool used;
    bool sending;
    bool stored;
    uint64_t first;
    uint64_t last;
    uint8_t *bytes; /* owned; NULL where not used */
    size_t size;
    struct cutter_place after; /* in the log, behind it */
};

struct flight {
    struct window window;
    struct id stream;
    struct senders *senders;
    struct flight_slot slots[TIDE_WINDOW_MAX];
};

/* What one answer brought. */
struct flight_news {
    enum window_verdict verdict;
    struct err err;                 /* code OK: answered well */
    struct intake_stream_state far; /* then */
    bool advanced;                  /* more is stored than before: */
    uint64_t stored;                /* through here */
    struct cutter_place after;      /* and behind it in the log */
    unsigned segments;              /* that came to be stored by it */
    uint64_t bytes;
};

void flight_init(struct flight *flight, struct senders *senders);
/* Nothing is under way: forgets all, and begins behind `stored` of this stream. */
void flight_begin(struct flight *flight, const struct id *stream, unsigned limit, uint64_t stored);
bool flight_idle(const struct flight *flight);
void flight_close(struct flight *flight); /* no more is sent; what is under way is still answered */

/* Whether a segment of any size can be added. */
bool flight_has_room(const struct flight *flight);
/* The next segment; its bytes are copied. LIMIT: no memory. */
int flight_add(struct flight *flight, const struct segment_info *info, const void *bytes,
               const struct cutter_place *after, struct err *err);
/* Gives to the senders what is to be sent now; returns when to call again at the latest. */
uint64_t flight_send(struct flight *flight, uint64_t now_us);
/* One answer; false: none is there. */
bool flight_take(struct flight *flight, uint64_t now_us, uint8_t spice, struct flight_news *ret);
/* The senders have been joined. */
void flight_free(struct flight *flight);

#endif
