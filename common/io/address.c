/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_NET_BYTES 8 /* of IPv6: what one machine may choose from is a /64 */
#define ADDRESS_PORT_MAX  65535U

static bool address_port(const char *text, bool any_port, uint16_t *ret)
{
    uint32_t port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != 0)
        return false;
    for (size_t i = 0; i < digits; i++)
        port = port * 10 + (uint32_t)(text[i] - '0');
    if (port > ADDRESS_PORT_MAX || (port == 0 && !any_port))
        return false;
    *ret = (uint16_t)port;
    return true;
}

int address_parse(const char *text, bool any_port, struct address *ret, struct err *err)
{
    char host[ADDRESS_TEXT_MAX];
    struct address address;
    uint16_t port = 0;
    memset(&address, 0, sizeof(address));
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        goto bad;
    size_t size = (size_t)(colon - text);
    memcpy(host, text, size);
    host[size] = 0;
    if (!address_port(colon + 1, any_port, &port))
        goto bad;
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host[size - 1] = 0;
        if (inet_pton(AF_INET6, host + 1, &address.v6.sin6_addr) != 1)
            goto bad;
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons(port);
        address.size = sizeof(address.v6);
    } else {
        if (inet_pton(AF_INET, host, &address.v4.sin_addr) != 1)
            goto bad;
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(port);
        address.size = sizeof(address.v4);
    }
    *ret = address;
    return 0;
bad:
    return err_set(err, TIDE_ERR_CONFIG,
                   "\"%.100s\" is not an address; expected a numeric IP and a port, such as "
                   "192.0.2.1:20004 or [2001:db8::1]:20004",
                   text);
}

char *address_text(const struct address *address, char ret_text[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        (void)snprintf(ret_text, ADDRESS_TEXT_MAX, "[%s]:%u", host,
                       (unsigned)ntohs(address->v6.sin6_port));
    } else if (address->any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
        (void)snprintf(ret_text, ADDRESS_TEXT_MAX, "%s:%u", host,
                       (unsigned)ntohs(address->v4.sin_port));
    } else {
        (void)snprintf(ret_text, ADDRESS_TEXT_MAX, "?");
    }
    return ret_text;
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET6)
        return a->v6.sin6_port == b->v6.sin6_port &&
               memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return false;
}

bool address_same_host(const struct address *a, const struct address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET6)
        return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, ADDRESS_NET_BYTES) == 0;
    return a->any.sa_family == AF_INET && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}
