/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/load.h"

#include "common/core/prng.h"
#include "tests/bench/stats.h"

#include <string.h>

struct slot {
    int64_t cookie; /* 0: idle */
    uint64_t since_ns;
    bool flushing;
};

struct run {
    const struct server *server;
    const struct load *load;
    struct prng prng;
    unsigned begun;
};

static uint8_t data[LOAD_SIZE_MAX];

static uint64_t next_offset(struct run *run)
{
    const struct load *w = run->load;
    uint64_t places = run->server->size / w->size;
    return (w->sequential ? run->begun % places : prng_below(&run->prng, places)) * w->size;
}

/* The next request of a slot. */
static void begin(struct run *run, struct slot *slot)
{
    struct nbd_handle *nbd = run->server->nbd;
    if (slot->flushing) {
        slot->cookie = nbd_aio_flush(nbd, NBD_NULL_COMPLETION, 0);
    } else {
        uint64_t offset = next_offset(run);
        slot->since_ns = server_now_ns();
        slot->cookie = nbd_aio_pwrite(nbd, data, run->load->size, offset, NBD_NULL_COMPLETION, 0);
        run->begun++;
    }
    if (slot->cookie <= 0) {
        server_die(run->server->name, nbd_get_error());
    }
}

/* Whether the slot's write has ended, its flush included; begins that flush. */
static bool ended(struct run *run, struct slot *slot)
{
    int done = nbd_aio_command_completed(run->server->nbd, (uint64_t)slot->cookie);
    if (done < 0) {
        server_die(run->server->name, nbd_get_error());
    }
    if (done == 0) {
        return false;
    }
    if (run->load->flush && !slot->flushing) {
        slot->flushing = true;
        begin(run, slot);
        return false;
    }
    slot->flushing = false;
    slot->cookie = 0;
    return true;
}

struct load_sample load_run(const struct server *server, const struct load *load, uint64_t seed)
{
    static double latency[LOAD_OPS_MAX];
    struct slot slots[LOAD_DEPTH_MAX] = {0};
    struct run run = {.server = server, .load = load};
    unsigned count = 0;
    memset(data, 0x5a, sizeof data);
    prng_init(&run.prng, seed);
    uint64_t from = server_now_ns();
    uint64_t until = from + load->ms * UINT64_C(1000000);
    uint64_t now = from;
    for (bool busy = true; busy;) {
        busy = false;
        for (unsigned i = 0; i < load->depth; i++) {
            if (slots[i].cookie != 0 && ended(&run, &slots[i])) {
                now = server_now_ns();
                latency[count++] = (double)(now - slots[i].since_ns) / 1e9;
            }
            if (slots[i].cookie == 0 && run.begun < load->ops && now < until) {
                begin(&run, &slots[i]);
            }
            busy = busy || slots[i].cookie != 0;
        }
        if (busy && nbd_poll(server->nbd, -1) < 0) {
            server_die(server->name, nbd_get_error());
        }
    }
    if (load->end) {
        if (nbd_flush(server->nbd, 0) != 0) {
            server_die(server->name, nbd_get_error());
        }
        now = server_now_ns();
    }
    return (struct load_sample){.rate = count / ((double)(now - from) / 1e9),
                                .p50 = stats_quantile(latency, count, 0.5),
                                .p99 = stats_quantile(latency, count, 0.99)};
}
