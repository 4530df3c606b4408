/* SPDX-License-Identifier: Apache-2.0 */
/* shipper: the thread that carries one disk's stream to the coordinator: asks the tap for SYNC,
 * reads what is synced through the passed descriptors, cuts segments (cutter.h), makes each cut
 * durable (cutlog.h), has several PUT at once until they are stored (flight.h), and tells the tap
 * how far the far side has the stream without a hole. When it cuts: at bookmarks and by size (the
 * format's rule), SHIPPER_AGE_US after the first record that is not shipped, and SHIPPER_SEAL_US
 * after a seal, so that a point appears soon. Retries for ever with a back-off; what no retry mends
 * soon stops the stream with a clear error, looked at again every SHIPPER_STOPPED_US. What no retry
 * mends ever (cutlog_compare()'s CONFLICT; a log that does not give a segment that was decided, or
 * gives nothing at SHIPPER_LOOKS looks) is mended by another stream: the tap is ordered to begin
 * one (RESTREAM), as seldom as participant/core/restream.h says. */
#ifndef TIDE_PARTICIPANT_SHIPPER_H
#define TIDE_PARTICIPANT_SHIPPER_H

#include <pthread.h>
#include <stdbool.h>

#include "common/core/prng.h"
#include "participant/cutlog.h"
#include "participant/core/restream.h"
#include "participant/cutter.h"
#include "participant/events.h"
#include "participant/flight.h"
#include "participant/port.h"
#include "participant/settings.h"
#include "participant/uplink.h"

#define SHIPPER_AGE_US       800000U /* with the tap's status and sync: 1 s */
#define SHIPPER_SEAL_US      100000U
#define SHIPPER_RETRY_MIN_US 100000U
#define SHIPPER_RETRY_MAX_US 5000000U
#define SHIPPER_STOPPED_US   30000000U
#define SHIPPER_LOOKS        3U
#define SHIPPER_TEXT_MAX     255

enum shipper_state {
    SHIPPER_NO_TAP,   /* none has connected yet */
    SHIPPER_ASKING,   /* the far side does not know the stream yet: until it is registered */
    SHIPPER_SHIPPING, /* all is well */
    SHIPPER_LIMITED,  /* likewise, but for the bandwidth that holds now */
    SHIPPER_RETRYING, /* the last request failed; text says why */
    SHIPPER_STOPPED,  /* text says why, and what to do */
};

struct shipper_status {
    enum shipper_state state;
    uint64_t stored_lsn; /* at the far side */
    uint64_t cut_lsn;    /* last decided cut */
    uint64_t segments;   /* stored since the daemon began */
    uint64_t bytes;
    uint64_t failures;               /* requests, since the daemon began */
    char text[SHIPPER_TEXT_MAX + 1]; /* of the last error; stays after it is mended */
    bool text_now;                   /* it holds still */
    unsigned in_flight;              /* segments that are decided and not stored */
    bool limited;                    /* a PUT waits for the bandwidth */
    bool rpo_known;
    uint64_t rpo_us;                          /* port_rpo() */
    uint64_t restreams;                       /* RESTREAMs ordered, since the daemon began */
    char restream_text[SHIPPER_TEXT_MAX + 1]; /* why the last one was; empty: none */
    char refusal[SHIPPER_TEXT_MAX + 1];       /* what the tap answered, if not OK */
};

struct shipper {
    const struct settings *settings; /* not owned */
    const struct tls_identity *identity;
    struct port *port;                  /* not owned */
    char name[3 * (TIDE_NAME_MAX + 1)]; /* GROUP/MEMBER/DISK, for the log */
    struct events *events;              /* not owned */
    unsigned disk;                      /* of the settings */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of status */
    struct shipper_status status;
    struct uplink *uplink; /* for questions; PUTs have their own */
    struct senders *senders;
    struct flight flight; /* the thread's own, as what follows; status has its count */

    /* the thread's own */
    struct port_view view;
    uint64_t session;              /* whose descriptors are open; 0: none */
    int fds[TIDE_TAPCTL_FDS_MAX];  /* the ring's, and the image's behind them */
    unsigned fd_count;             /* of the ring; 0: none is open */
    struct tapctl_welcome welcome; /* of that session */
    bool journal;                  /* cutlog is open */
    struct cutlog cutlog;
    struct cutter cutter;
    struct cutter_place at; /* in the log: the tail at WELCOME, then behind what was stored */
    bool placed;            /* far side and journal are compared */
    uint64_t next_first;    /* LSN that the next segment begins with, while placed */
    uint64_t through;       /* to be cut up to here without waiting for more */
    uint64_t oldest_us;     /* since when there is something not cut; 0: nothing is */
    uint64_t sealed_us;     /* since when a seal is not cut; 0: none */
    uint64_t bytes_cut;     /* view.bytes at the last cut */
    uint64_t sync_target;   /* asked for; 0: nothing */
    uint64_t retry_us;      /* not before */
    uint64_t backoff_us;
    bool hopeless;       /* the error under way is mended by another stream only */
    unsigned unreadable; /* looks in a row at which the log gave nothing */
    struct restream restream;
    uint64_t refusals; /* of the port's, told */
    struct prng jitter;
};

/* Starts the thread, for a disk of the settings (index). What is pointed to must outlive it. */
int shipper_start(struct shipper *shipper, const struct settings *settings,
                  const struct tls_identity *identity, struct throttle *throttle, struct port *port,
                  struct events *events, unsigned disk, uint64_t seed, struct err *err);
/* Tells the thread to end after what is in flight is given up; returns at once. */
void shipper_stop(struct shipper *shipper);
/* Waits until deadline_us; false: it still runs (then leave the process by _exit). */
bool shipper_join(struct shipper *shipper, uint64_t deadline_us);

void shipper_status(struct shipper *shipper, struct shipper_status *ret);
const char *shipper_state_name(enum shipper_state state);

#endif
