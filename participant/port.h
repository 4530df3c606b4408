/* SPDX-License-Identifier: Apache-2.0 */
/* port: what the hold thread, the shipping thread of one disk and the comparing thread tell each
 * other. The hold thread never waits here for more than a copy; the shipping thread waits for news
 * with a deadline. Requests collapse (the highest LSN wins, the last COMPARED), so nothing queues
 * up. */
#ifndef TIDE_PARTICIPANT_PORT_H
#define TIDE_PARTICIPANT_PORT_H

#include "common/core/tapctl.h"

/* What is known of the tap. LSNs are of the current session. */
struct port_view {
    uint64_t session; /* counts WELCOMEs; 0: there was none yet */
    bool attached;
    bool sync_failed; /* nothing past synced_lsn can be trusted in this session */
    struct tapctl_welcome welcome;
    uint64_t next_lsn;
    uint64_t synced_lsn;
    uint64_t marked_lsn; /* last bookmark placed */
    uint64_t sealed_lsn; /* last seal appended */
    uint64_t bytes;      /* written since the incarnation began */
    uint64_t synced_asked;
    uint64_t refusals; /* counts what the tap answered to RESTREAM other than OK; the last: */
    struct tapctl_done refusal;
    bool stop; /* the daemon ends */
};

/* What the comparing thread needs to know of the tap. */
struct port_look {
    uint64_t session; /* as in port_view */
    bool attached;
    struct id stream;
    char name[TIDE_TAPCTL_TEXT_MAX + 1]; /* of the image, for texts */
    struct tapctl_state state;           /* last heard in this session; all zero: none */
};

struct port;

/* `kick(arg)` is called (on the shipping thread, no lock held) when port_wants() has something new.
 * Aborts without memory. */
struct port *port_new(void (*kick)(void *arg), void *arg);
void port_free(struct port *port); /* no thread uses it any more; takes NULL */

/* Hold thread. port_attached() takes the descriptors. */
void port_attached(struct port *port, const struct tapctl_welcome *welcome, const int *fds);
void port_lost(struct port *port);
void port_message(struct port *port,
                  const struct tapctl *message); /* HELD, SEALED, SYNCED, STATE */
/* The answer to RESTREAM. */
void port_restreamed(struct port *port, const struct tapctl_done *done);
/* What to send to the tap now, each once for each request. */
struct port_wants {
    uint64_t sync; /* LSNs; 0: nothing */
    uint64_t stored;
    struct id restream; /* zero: nothing */
};
void port_wants(struct port *port, struct port_wants *ret);

/* Whether there is a COMPARED to send to the tap now. Once for each. */
bool port_wants_compared(struct port *port, struct tapctl_compared *ret);

/* Shipping thread. Waits until something changed since the last return, or until_us. */
void port_wait(struct port *port, uint64_t until_us, struct port_view *ret);
/* Moves the descriptors of that session out, once: the ring's, and the image's behind them. False:
 * gone or taken. */
bool port_take_fds(struct port *port, uint64_t session, int ret_fds[TIDE_TAPCTL_FDS_MAX]);
void port_ask_sync(struct port *port, uint64_t lsn);
/* Of that stream: dropped where the tap has another one now. */
void port_tell_stored(struct port *port, const struct id *stream, uint64_t lsn);
/* Orders RESTREAM; dropped where the tap of that stream is not attached (any more). */
void port_ask_restream(struct port *port, const struct id *stream);

/* Any thread. */
void port_look(struct port *port, struct port_look *ret);
/* A descriptor of the image of that session, for reading, to be closed. -1: gone, or none to have.
 */
int port_image(struct port *port, uint64_t session);
/* Sends COMPARED to the tap of that session; dropped where that is gone. */
void port_tell_compared(struct port *port, uint64_t session,
                        const struct tapctl_compared *compared);
/* Age of the oldest change in the log that the far side does not have
 * (participant/core/rpo.h); false: unknown, as always while no tap is attached. */
bool port_rpo(struct port *port, uint64_t now_us, uint64_t *ret_us);
void port_poke(struct port *port); /* port_wait() returns */
void port_stop(struct port *port);

#endif
