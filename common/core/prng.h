/* SPDX-License-Identifier: Apache-2.0 */
/* prng: seeded, repeatable numbers for workloads, simulation and test switches (splitmix64;
 * Steele, Lea, Flood, OOPSLA 2014). Never for ids, nonces or keys. */
#ifndef TIDE_COMMON_CORE_PRNG_H
#define TIDE_COMMON_CORE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state;
};

void prng_init(struct prng *prng, uint64_t seed);
uint64_t prng_next(struct prng *prng);
uint64_t prng_below(struct prng *prng, uint64_t bound); /* 0..bound-1; bound > 0 */

#endif
