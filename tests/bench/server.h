/* SPDX-License-Identifier: Apache-2.0 */
/* server: one nbdkit with the file plugin or the tap, over an image of its own, an NBD client of
 * it, and the tap's control socket. What fails ends the bench with a message: nothing was measured.
 */
#ifndef TIDE_TESTS_BENCH_SERVER_H
#define TIDE_TESTS_BENCH_SERVER_H

#include "common/core/tapctl.h"

#include <libnbd.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SERVER_OPTIONS_MAX 4

struct server_setup {
    const char *name; /* of its files too */
    bool tap;         /* else the file plugin */
    uint64_t size;    /* of the image */
    bool data;        /* the image holds no zeroes, else nothing else; it is written either way */
    const char *options[SERVER_OPTIONS_MAX]; /* of the tap, beyond its paths */
};

struct server {
    const char *name;
    uint64_t size;
    pid_t pid;
    struct nbd_handle *nbd;
    int control; /* -1: the file plugin */
    uint64_t incarnation;
    char image[192];
    char socket[192];
};

/* Folders for all servers' files, made inside `images` and `logs` (the same one if NULL), removed
 * at exit together with the servers that are still there. */
void server_folders(const char *images, const char *logs);
const char *server_folder(void);

void server_start(struct server *server, const struct server_setup *setup);
void server_stop(struct server *server);

void server_send(const struct server *server, const struct tapctl *message);
/* Sends; waits for the answer with its serial, passing over others. */
struct tapctl server_ask(const struct server *server, struct tapctl *question);
struct tapctl_state server_state(const struct server *server);

/* Not measured: image and log on stable storage, and the log free again. */
void server_settle(const struct server *server);

/* Not measured: the tap's log leaves the page cache, as one does that is larger than it. */
void server_cool(const struct server *server);

uint64_t server_memory(const struct server *server); /* the most it was, bytes */

_Noreturn void server_die(const char *what, const char *why);
uint64_t server_now_ns(void);
void server_pause_ms(long ms);

#endif
