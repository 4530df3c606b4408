/* SPDX-License-Identifier: Apache-2.0 */
/* http: HTTPS client for 9443, over libcurl. One connection, kept and reused; the server must show
 * the expected URI name (checked in OpenSSL's verify callback); no redirects, no proxy, no
 * `Expect`, no name resolution. A client is for one thread at a time; http_abort() is for any. */
#ifndef TIDE_COMMON_IO_HTTP_H
#define TIDE_COMMON_IO_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/io/address.h"
#include "common/io/tls.h"

#define HTTP_ANSWER_MAX (16U * 1024U * 1024U) /* largest body_max that may be asked for */

struct http_options {
    const struct tls_identity *identity; /* must outlive the client */
    struct address server;
    const char *server_uri; /* copied */
    size_t answer_max;      /* bytes of an answer's body, at most HTTP_ANSWER_MAX */
    uint32_t connect_ms;    /* 0: 5,000 */
    uint32_t stall_ms;      /* no byte for so long ends a request that does not wait; 0: 10,000 */
};

/* CONFIG: server_uri is not an identity; LIMIT: no memory. */
struct http_client;
int http_client_new(const struct http_options *options, struct http_client **ret, struct err *err);
void http_client_free(struct http_client *client); /* takes NULL */

/* One request: method "GET", "PUT", "POST"; path begins with '/'. `body` (may be NULL with size 0)
 * is not copied and not needed afterwards. timeout_ms bounds all of it. Any HTTP status is a
 * success here: *ret_status. *ret_body is the client's, valid until the next request, and followed
 * by a NUL; ret_body and ret_size may be NULL. UNREACHABLE: no connection, or a deadline; DENIED:
 * the handshake failed (who is named, and why); LIMIT: the answer is larger than answer_max, or no
 * memory; BUSY: aborted; FAILED: anything else. */
int http_request(struct http_client *client, const char *method, const char *path, const void *body,
                 size_t size, uint32_t timeout_ms, int *ret_status, const uint8_t **ret_body,
                 size_t *ret_size, struct err *err);

/* How many of `want` bytes of a body may be sent now; 0: it is asked again after some 20 ms. */
typedef size_t http_pace_fn(void *arg, size_t want);
/* Bodies of later requests are sent as `pace` allows; NULL: at once. */
void http_set_pace(struct http_client *client, http_pace_fn *pace, void *arg);

/* The request that is under way, and all later ones, end with BUSY within a second. */
void http_abort(struct http_client *client);

#endif
