/* SPDX-License-Identifier: Apache-2.0 */
/* bare_net: sockets, TLS and frames of the bare programs (bare.c, mesh.c): what the link would do,
 * with nothing around it. Everything aborts where it cannot. */
#ifndef TIDE_TESTS_BENCH_BARE_NET_H
#define TIDE_TESTS_BENCH_BARE_NET_H

#include "tests/light/light.h"

#include <openssl/ssl.h>

#define BARE_FRAME_SIZE 176 /* about what messages of the link have */

enum bare_type { HOLD = 1, HELD, RELEASE, DONE };

struct bare_frame {
    uint32_t type;
    uint32_t hold_us; /* DONE */
    uint8_t rest[BARE_FRAME_SIZE - 8];
};

/* At `member`'s address in the group; the context has its certificate. The handshake is still to
 * come. */
int bare_listen(const struct light_group *group, unsigned member);
SSL *bare_dial(SSL_CTX **context, const struct light_group *group, unsigned member, unsigned peer);
SSL *bare_accept(SSL_CTX **context, int listener);

/* SCHED_RR, as the hold thread of a daemon, where that is allowed. */
void bare_real_time(void);

#endif
