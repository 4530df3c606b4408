/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/port.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/loop.h"
#include "participant/core/rpo.h"

struct port {
    pthread_mutex_t lock; /* held for copies only */
    pthread_cond_t news;
    void (*kick)(void *arg);
    void *arg;
    bool changed;
    struct port_view view;
    int fds[TIDE_TAPCTL_FDS_MAX];
    unsigned fd_count; /* 0: taken or none */
    uint64_t sync;     /* wanted; 0: none */
    uint64_t stored;
    int image; /* a second descriptor of it, for the comparing thread; -1: none */
    struct tapctl_state state;
    struct tapctl_compared compared; /* wanted; count 0: none */
    struct id restream;
    struct rpo rpo;
};

struct port *port_new(void (*kick)(void *arg), void *arg)
{
    struct port *port = calloc(1, sizeof *port);
    pthread_condattr_t attr;
    TIDE_CHECK(port != NULL);
    port->kick = kick;
    port->arg = arg;
    port->image = -1;
    /* Whoever copies while the hold thread waits gets its priority. */
    loop_mutex_init(&port->lock);
    TIDE_CHECK(pthread_condattr_init(&attr) == 0);
    TIDE_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    TIDE_CHECK(pthread_cond_init(&port->news, &attr) == 0);
    pthread_condattr_destroy(&attr);
    return port;
}

static void close_fds(struct port *port)
{
    for (unsigned i = 0; i < port->fd_count; i++) {
        close(port->fds[i]);
    }
    port->fd_count = 0;
}

static void close_image(struct port *port)
{
    if (port->image >= 0) {
        close(port->image);
    }
    port->image = -1;
    port->compared.count = 0;
}

void port_free(struct port *port)
{
    if (port == NULL) {
        return;
    }
    close_fds(port);
    close_image(port);
    pthread_cond_destroy(&port->news);
    pthread_mutex_destroy(&port->lock);
    free(port);
}

static void changed(struct port *port)
{
    port->changed = true;
    pthread_cond_signal(&port->news);
}

static void raise_lsn(uint64_t *lsn, uint64_t to)
{
    if (*lsn < to) {
        *lsn = to;
    }
}

void port_attached(struct port *port, const struct tapctl_welcome *welcome, const int *fds)
{
    pthread_mutex_lock(&port->lock);
    close_fds(port);
    port->fd_count = welcome->ring_files + 1;
    for (unsigned i = 0; i < port->fd_count; i++) {
        port->fds[i] = fds[i];
    }
    close_image(port);
    port->image = fcntl(fds[welcome->ring_files], F_DUPFD_CLOEXEC, 0);
    port->state = (struct tapctl_state){0};
    if (!id_equal(&port->view.welcome.stream, &welcome->stream)) {
        port->stored = 0;
        rpo_init(&port->rpo);
    }
    rpo_seen(&port->rpo, welcome->next_lsn, clock_mono_us());
    port->view.session++;
    port->view.attached = true;
    port->view.sync_failed = false;
    port->view.welcome = *welcome;
    port->view.next_lsn = welcome->next_lsn;
    port->view.synced_lsn = 0;
    port->view.marked_lsn = 0;
    port->view.sealed_lsn = 0;
    port->view.bytes = 0;
    port->view.synced_asked = 0;
    port->sync = 0;
    port->restream = (struct id){{0}};
    changed(port);
    pthread_mutex_unlock(&port->lock);
}

void port_lost(struct port *port)
{
    pthread_mutex_lock(&port->lock);
    port->view.attached = false;
    port->sync = 0;
    port->compared.count = 0;
    port->restream = (struct id){{0}};
    changed(port);
    pthread_mutex_unlock(&port->lock);
}

void port_message(struct port *port, const struct tapctl *message)
{
    pthread_mutex_lock(&port->lock);
    struct port_view *view = &port->view;
    if (message->type == TAPCTL_HELD) {
        raise_lsn(&view->marked_lsn, message->held.mark.lsn);
        raise_lsn(&view->next_lsn, message->held.mark.lsn + 1);
    } else if (message->type == TAPCTL_SEALED && message->sealed.appended) {
        raise_lsn(&view->sealed_lsn, message->sealed.seal_lsn);
        raise_lsn(&view->next_lsn, message->sealed.seal_lsn + 1);
        changed(port);
    } else if (message->type == TAPCTL_SYNCED) {
        raise_lsn(&view->synced_lsn, message->synced.lsn);
        view->sync_failed = view->sync_failed || message->synced.failed;
        changed(port);
    } else if (message->type == TAPCTL_STATE) {
        port->state = message->state;
        view->bytes = message->state.bytes;
        rpo_seen(&port->rpo, message->state.next_lsn, clock_mono_us());
        raise_lsn(&view->synced_lsn, message->state.synced_lsn);
        if (view->next_lsn < message->state.next_lsn) {
            view->next_lsn = message->state.next_lsn;
            changed(port);
        }
    }
    pthread_mutex_unlock(&port->lock);
}

void port_restreamed(struct port *port, const struct tapctl_done *done)
{
    if (done->code == TIDE_ERR_OK) {
        return; /* it hangs up, and comes back with another stream */
    }
    pthread_mutex_lock(&port->lock);
    port->view.refusals++;
    port->view.refusal = *done;
    changed(port);
    pthread_mutex_unlock(&port->lock);
}

void port_wants(struct port *port, struct port_wants *ret)
{
    *ret = (struct port_wants){0};
    pthread_mutex_lock(&port->lock);
    if (port->view.attached) {
        *ret = (struct port_wants){
            .sync = port->sync, .stored = port->stored, .restream = port->restream};
        port->sync = 0;
        port->stored = 0;
        port->restream = (struct id){{0}};
    }
    pthread_mutex_unlock(&port->lock);
}

bool port_wants_compared(struct port *port, struct tapctl_compared *ret)
{
    pthread_mutex_lock(&port->lock);
    bool wanted = port->view.attached && port->compared.count > 0;
    if (wanted) {
        *ret = port->compared;
        port->compared.count = 0;
    }
    pthread_mutex_unlock(&port->lock);
    return wanted;
}

void port_wait(struct port *port, uint64_t until_us, struct port_view *ret)
{
    struct timespec until = {.tv_sec = (time_t)(until_us / CLOCK_US_PER_S),
                             .tv_nsec = (long)(until_us % CLOCK_US_PER_S * 1000)};
    pthread_mutex_lock(&port->lock);
    while (!port->changed && !port->view.stop) {
        if (pthread_cond_timedwait(&port->news, &port->lock, &until) != 0) {
            break;
        }
    }
    port->changed = false;
    *ret = port->view;
    pthread_mutex_unlock(&port->lock);
}

bool port_take_fds(struct port *port, uint64_t session, int ret_fds[TIDE_TAPCTL_FDS_MAX])
{
    bool taken = false;
    pthread_mutex_lock(&port->lock);
    if (port->view.session == session && port->fd_count > 0) {
        for (unsigned i = 0; i < port->fd_count; i++) {
            ret_fds[i] = port->fds[i];
        }
        port->fd_count = 0;
        taken = true;
    }
    pthread_mutex_unlock(&port->lock);
    return taken;
}

void port_ask_sync(struct port *port, uint64_t lsn)
{
    pthread_mutex_lock(&port->lock);
    bool ask = lsn > port->view.synced_asked && lsn > port->view.synced_lsn;
    if (ask) {
        port->view.synced_asked = lsn;
        port->sync = lsn;
    }
    pthread_mutex_unlock(&port->lock);
    if (ask) {
        port->kick(port->arg);
    }
}

void port_tell_stored(struct port *port, const struct id *stream, uint64_t lsn)
{
    pthread_mutex_lock(&port->lock);
    bool tell = id_equal(&port->view.welcome.stream, stream);
    if (tell) {
        port->stored = lsn;
        rpo_stored(&port->rpo, lsn);
    }
    pthread_mutex_unlock(&port->lock);
    if (tell && lsn > 0) {
        port->kick(port->arg);
    }
}

void port_ask_restream(struct port *port, const struct id *stream)
{
    pthread_mutex_lock(&port->lock);
    bool ask = port->view.attached && id_equal(&port->view.welcome.stream, stream);
    if (ask) {
        port->restream = *stream;
    }
    pthread_mutex_unlock(&port->lock);
    if (ask) {
        port->kick(port->arg);
    }
}

bool port_rpo(struct port *port, uint64_t now_us, uint64_t *ret_us)
{
    pthread_mutex_lock(&port->lock);
    bool known = port->view.attached && rpo_age(&port->rpo, now_us, ret_us);
    pthread_mutex_unlock(&port->lock);
    return known;
}

void port_poke(struct port *port)
{
    pthread_mutex_lock(&port->lock);
    changed(port);
    pthread_mutex_unlock(&port->lock);
}

void port_look(struct port *port, struct port_look *ret)
{
    pthread_mutex_lock(&port->lock);
    ret->session = port->view.session;
    ret->attached = port->view.attached;
    ret->stream = port->view.welcome.stream;
    memcpy(ret->name, port->view.welcome.name, sizeof ret->name);
    ret->state = port->state;
    pthread_mutex_unlock(&port->lock);
}

int port_image(struct port *port, uint64_t session)
{
    int fd = -1;
    pthread_mutex_lock(&port->lock);
    if (port->view.session == session && port->view.attached && port->image >= 0) {
        fd = fcntl(port->image, F_DUPFD_CLOEXEC, 0);
    }
    pthread_mutex_unlock(&port->lock);
    return fd;
}

void port_tell_compared(struct port *port, uint64_t session, const struct tapctl_compared *compared)
{
    pthread_mutex_lock(&port->lock);
    bool there = port->view.session == session && port->view.attached;
    if (there) {
        port->compared = *compared;
    }
    pthread_mutex_unlock(&port->lock);
    if (there) {
        port->kick(port->arg);
    }
}

void port_stop(struct port *port)
{
    pthread_mutex_lock(&port->lock);
    port->view.stop = true;
    changed(port);
    pthread_mutex_unlock(&port->lock);
}
