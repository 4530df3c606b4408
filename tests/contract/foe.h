/* SPDX-License-Identifier: Apache-2.0 */
/* foe: an attacker of a listener as a process of its own, so that its descriptors and memory are
 * not counted with the victim's. It ends by itself, and by an alarm if it does not. */
#ifndef TIDE_TESTS_CONTRACT_FOE_H
#define TIDE_TESTS_CONTRACT_FOE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/io/address.h"

#define FOE_STOP_FD   3 /* in the attacker: reads as ended once it is to stop */
#define FOE_LISTEN_FD 4 /* in the attacker: what foe_start() was given */
#define FOE_FLIGHT    16384U

struct foe {
    pid_t pid;
    int stop; /* -1: closed */
    int status;
};

typedef void foe_fn(void *arg);
/* Runs fn(arg) in a process without the caller's descriptors but listen_fd (-1: none). */
void foe_start(struct foe *foe, foe_fn *fn, void *arg, int listen_fd);
void foe_stop(struct foe *foe);   /* asks it to stop */
bool foe_ended(void *arg);        /* a sites_condition; arg is the foe */
void foe_assert(struct foe *foe); /* it has ended, and found what it expected */

/* ---- in the attacker ---- */

/* Ends the process with a line on standard error where `good` is false. */
void foe_check(bool good, const char *what);
bool foe_told(void); /* to stop */
/* A blocking connection from 127.0.0.66, with timeouts of 8 s; -1 where refused. */
int foe_connect(const struct address *to);
void foe_reset(int fd); /* closes with a reset */
/* Reads until the other end closes or resets; false: it did neither within 8 s. */
bool foe_closed(int fd);
void foe_send(int fd, const void *bytes, size_t size);

/* A TLS client whose bytes pass through memory: what SSL would send is taken from it. */
struct foe_tls {
    SSL *ssl;
    BIO *in;
    BIO *out;
};
void foe_tls_open(struct foe_tls *tls, SSL_CTX *context);
void foe_tls_close(struct foe_tls *tls);
size_t foe_tls_take(struct foe_tls *tls, uint8_t *to, size_t max);
/* Steps the handshake over fd until it is done; false: the other end closed. */
bool foe_tls_shake(struct foe_tls *tls, int fd);
void foe_tls_send(struct foe_tls *tls, int fd, const void *bytes, size_t size); /* one record */

/* ---- of the caller ---- */

size_t foe_descriptors(void); /* open ones */
size_t foe_memory(void);      /* bytes resident; 0 where a sanitizer makes it mean nothing */

#endif
