/* SPDX-License-Identifier: Apache-2.0 */
/* keeper: a thread that does at a tap's control socket what a daemon does: syncs the log, says that
 * it is stored far away, looks at the state, and places a bookmark now and then. While it runs it
 * alone reads the socket; others may send (server_send()), and never see the answer. */
#ifndef TIDE_TESTS_BENCH_KEEPER_H
#define TIDE_TESTS_BENCH_KEEPER_H

#include "tests/bench/server.h"

#include <pthread.h>
#include <stdatomic.h>

#define KEEPER_MARKS_MAX 4096U

struct keeper {
    const struct server *server;
    unsigned mark_ms; /* from bookmark to bookmark; 0: none */
    unsigned hold_us; /* from HELD to RELEASE */
    pthread_t thread;
    _Atomic bool stop;

    /* As STATE last said; `looked` counts the looks. */
    _Atomic uint64_t looked;
    _Atomic bool whole;
    _Atomic bool logging;
    _Atomic unsigned copy;
    _Atomic uint64_t dirty;

    /* Good after keeper_stop(). */
    double held[KEEPER_MARKS_MAX]; /* seconds from HOLD sent to HELD read */
    double late[KEEPER_MARKS_MAX]; /* seconds from when that HOLD was due to when it was sent: what
                                    * a wake-up takes, of any thread */
    unsigned held_count;
    double sent_late;
    unsigned refused;

    uint64_t mark_due;
    uint64_t hold_sent; /* 0: none is waited for */
    uint64_t release_due;
    uint64_t sync_due;
    bool syncing;
    uint64_t rounds;
};

void keeper_start(struct keeper *keeper, const struct server *server, unsigned mark_ms,
                  unsigned hold_us);
void keeper_stop(struct keeper *keeper);

/* Waits for a look that began after this call, so that what was sent before it is in it. */
void keeper_look(const struct keeper *keeper);
/* Waits until the disk is whole, 60 s at most. */
void keeper_until_whole(const struct keeper *keeper);

#endif
