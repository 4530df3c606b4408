/* SPDX-License-Identifier: Apache-2.0 */
/* address: a numeric IP address with a port, as configuration, definitions and sockets have it.
 * Names are never resolved. */
#ifndef TIDE_COMMON_IO_ADDRESS_H
#define TIDE_COMMON_IO_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "common/core/err.h"

#define ADDRESS_TEXT_MAX 64 /* with the NUL */

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    };
    socklen_t size;
};

/* "192.0.2.1:20004" or "[2001:db8::1]:20004"; port 0 only where any_port. CONFIG otherwise. */
int address_parse(const char *text, bool any_port, struct address *ret, struct err *err);
char *address_text(const struct address *address, char ret_text[ADDRESS_TEXT_MAX]);
bool address_equal(const struct address *a, const struct address *b); /* IP and port */
/* Likely one machine's: the same IPv4 address, or the same /64 of IPv6. */
bool address_same_host(const struct address *a, const struct address *b);

#endif
