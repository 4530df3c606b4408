/* SPDX-License-Identifier: Apache-2.0 */
/* crc: CRC-32C (Castagnoli, RFC 3720 B.4): reflected polynomial 0x82F63B78, start value 0xFFFFFFFF,
 * result inverted. crc32c("123456789") = 0xE3069283; crc32c of nothing = 0. */
#ifndef TIDE_COMMON_HRL_CRC_H
#define TIDE_COMMON_HRL_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Whole checksum of one piece: crc32c_extend(0, from, size). */
uint32_t crc32c(const void *from, size_t size);
/* Checksum of a || b from that of a (already inverted) and the bytes b, without copying them. */
uint32_t crc32c_extend(uint32_t crc, const void *from, size_t size);

#endif
