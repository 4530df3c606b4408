/* SPDX-License-Identifier: Apache-2.0 */
/* far_rig: a real coordinator process on loopback, and a client that makes streams of its own with
 * common/hrl: two members, one disk each, with an independent model of what their disks hold. */
#ifndef TIDE_TESTS_CONTRACT_FAR_RIG_H
#define TIDE_TESTS_CONTRACT_FAR_RIG_H

#include <limits.h>
#include <sys/types.h>

#include <jansson.h>

#include "common/core/prng.h"
#include "common/hrl/segment.h"
#include "common/io/http.h"
#include "common/wire/intake.h"

#define FAR_MEMBERS   2
#define FAR_DISK_SIZE (1024U * 1024) /* as registered */
#define FAR_DISK_MAX  (2U * FAR_DISK_SIZE)

/* A segment on its way. */
struct far_segment {
    uint8_t *bytes; /* heap */
    struct segment_info info;
};

/* One stream: its writer, its disk. */
struct far_stream {
    struct id stream;
    struct id timeline;
    struct id disk_id;
    uint64_t incarnation;
    uint64_t lsn; /* of the last record */
    struct segment_writer *writer;
    uint8_t *buffer;            /* of the segment that grows */
    struct segment_info last;   /* of the segment cut last */
    struct segment_header next; /* of the one that grows */
    uint8_t *image;             /* the model: FAR_DISK_MAX bytes, zeroes beyond `size` */
    uint64_t size;
};

struct far {
    char dir[64];
    char store[128];
    char catalog[128];
    char local[128];
    char config[128];
    char address[64];
    pid_t pid;                          /* 0: not running */
    struct tls_identity *identities[3]; /* of member 0 and 1, and of a stranger in the site */
    struct http_client *clients[3];
    struct far_stream streams[FAR_MEMBERS];
    struct definition *definition;
    struct prng prng;
    bool late; /* far_round() keeps member 0's cuts here instead of putting them */
    unsigned kept_count;
    struct far_segment kept[4];
};

struct far_answer {
    int status;
    struct intake_stream_state state;
};

/* store NULL: in the rig's folder. Starts nothing yet. */
void far_make(struct far *far, uint64_t seed, const char *store);
void far_remove(struct far *far);
void far_start(struct far *far); /* until it answers */
void far_kill(struct far *far);  /* SIGKILL, and waits for its end */
void far_stop(struct far *far);  /* SIGTERM; fails unless it ends with status 0 */

json_t *far_command(struct far *far, json_t *request); /* the answer; fails on an error */
void far_apply(struct far *far);
/* Registers both members and takes the definition. */
void far_register(struct far *far);
int far_try_register(struct far *far, unsigned member); /* one member again; the HTTP status */

void far_stream_init(struct far *far, unsigned member);
/* From LSN 1 again under the same ids, as a restored snapshot of the machine would. */
void far_stream_again(struct far *far, unsigned member);
void far_stream_close(struct far_stream *s);
void far_write(struct far *far, unsigned member); /* a random write or zero */
void far_write_at(struct far_stream *s, uint64_t offset, const void *data, size_t size);
/* Appends a record of any other type; sets its LSN, incarnation and stream. */
void far_append(struct far_stream *s, struct record *record);
void far_resize(struct far_stream *s, uint64_t size);                  /* to at most FAR_DISK_MAX */
void far_attach(struct far *far, struct far_stream *s, uint64_t size); /* another incarnation */
void far_gap(struct far_stream *s, enum record_gap_reason reason);
void far_cut(struct far_stream *s, struct far_segment *ret);
/* With nothing written since the last cut: as a log whose records there are of another incarnation
 * than the one in force. */
void far_diverge(struct far_stream *s, uint64_t incarnation);
void far_segment_free(struct far_segment *s);
int far_put(struct far *far, unsigned client, const struct id *stream, uint64_t first,
            const void *bytes, size_t size, struct far_answer *ret); /* -1: no answer */
/* Puts a cut that must be taken; the segment is freed. */
void far_put_good(struct far *far, unsigned member, struct far_segment *segment);

/* One round over both members: bookmarks (cut and put), then seals (cut and put). Copies the
 * images at the bookmarks to ret_images (FAR_MEMBERS x FAR_DISK_SIZE) unless NULL. */
void far_round(struct far *far, bool unheld, bool spoil, struct id *ret_round, uint8_t *ret_images);

/* Waits until the coordinator says YES (or `unaligned`) of the round. */
/* A round of one member alone, with an id of the caller's. */
void far_round_alone(struct far *far, unsigned member, const struct id *round);
void far_await(struct far *far, const struct id *round, enum round_answer answer,
               const char *label);
json_t *far_points(struct far *far); /* the array of point-list */

#endif
