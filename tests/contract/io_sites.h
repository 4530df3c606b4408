/* SPDX-License-Identifier: Apache-2.0 */
/* io_sites: for tests over real sockets: a folder with a CA, good and bad identities, and a loop
 * that runs until a condition holds. */
#ifndef TIDE_TESTS_IO_SITES_H
#define TIDE_TESTS_IO_SITES_H

#include "common/io/link.h"
#include "common/io/loop.h"
#include "common/io/tls.h"

#include <openssl/ssl.h>
#include <stdbool.h>

/* Makes the folder and, under site "lab": participants a, b, c, d and raw, coordinator main,
 * operator op; and bad ones: "stranger" (other CA), "two" (two URI names), "old" (expired),
 * "foreign" (site "elsewhere" under our CA). cmocka group functions. */
int sites_make(void **state);
int sites_remove(void **state);
const char *sites_path(const char *name); /* FOLDER/name, in a few rotating buffers */
struct tls_identity *sites_identity(const char *name);

/* Issues NAME (participant, or coordinator "main") anew by the CA in FOLDER/ca ("lab", "other") and
 * puts certificate and key in the place of those of before. */
void sites_renew(const char *ca, const char *name);

/* A link of NAME that listens at `address` (port 0: any); identity and address of `options` are set
 * here. The caller frees both, the link first. */
struct link *sites_link(const struct link_options *options, const char *name, const char *address,
                        struct tls_identity **ret_identity);
/* Participant NAME of the site, to be dialed there (NULL: it dials). */
void sites_peer(struct link_peer *peer, const char *name, const struct address *dial);

/* A client context that shows NAME's certificate (NULL: none) and takes any server. */
SSL_CTX *sites_raw_context(const char *name);

/* Runs the loop until the condition holds; fails the test after 8 s. */
typedef bool sites_condition(void *arg);
void sites_wait(struct loop *loop, sites_condition *condition, void *arg, const char *what);

#endif
