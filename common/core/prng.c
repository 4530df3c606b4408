/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/prng.h"

#include "common/core/check.h"

void prng_init(struct prng *prng, uint64_t seed)
{
    prng->state = seed;
}

uint64_t prng_next(struct prng *prng)
{
    prng->state += 0x9e3779b97f4a7c15U;
    uint64_t z = prng->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    TIDE_CHECK(bound > 0);
    uint64_t reject_above = UINT64_MAX - UINT64_MAX % bound;
    for (int i = 0; i < 64; i++) { /* each pass fails with probability under 1/2 */
        uint64_t v = prng_next(prng);
        if (v < reject_above) {
            return v % bound;
        }
    }
    return prng_next(prng) % bound;
}
