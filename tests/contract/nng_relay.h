/* SPDX-License-Identifier: Apache-2.0 */
/* nng_relay: adds TLS to a libnng socket, and nothing else: a thread that dials a link by TLS and
 * the socket by TCP, and carries bytes both ways. */
#ifndef TIDE_TESTS_NNG_RELAY_H
#define TIDE_TESTS_NNG_RELAY_H

#include "common/io/address.h"

#include <openssl/ssl.h>

struct nng_relay;

/* `context` (it becomes the relay's) has the certificate to show. Aborts without memory or thread,
 * and where it cannot connect. It ends by itself when either side hangs up. */
struct nng_relay *nng_relay_new(SSL_CTX *context, const struct address *link,
                                const struct address *nng);
void nng_relay_free(struct nng_relay *relay); /* ends it; takes NULL */

#endif
