/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/cut.h"

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/core/sha.h"

#include <stdlib.h>
#include <string.h>

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int compare_marks(const void *left, const void *right)
{
    const struct round_mark *a = left;
    const struct round_mark *b = right;
    int d = id_compare(&a->stream, &b->stream);
    if (d == 0) {
        d = compare_u64(a->incarnation, b->incarnation);
    }
    if (d == 0) {
        d = compare_u64(a->lsn, b->lsn);
    }
    return d != 0 ? d : id_compare(&a->nonce, &b->nonce);
}

struct hash round_cut_hash(const struct round_order *order, const struct round_mark *marks,
                           size_t count)
{
    static const char context[] = "tidemark cut 1";
    TIDE_CHECK(count <= TIDE_DISKS_MAX);

    uint8_t head[256];
    struct bytes_writer w = bytes_writer(head, sizeof head);
    bytes_put(&w, context, sizeof context - 1);
    bytes_put(&w, order->round.b, sizeof order->round.b);
    bytes_put_u64(&w, order->epoch.number);
    bytes_put(&w, order->epoch.hash.b, sizeof order->epoch.hash.b);
    bytes_put_u8(&w, (uint8_t)order->scope);
    bytes_put_u16(&w, order->set.count);
    bytes_put(&w, order->set.bits, set_bytes(&order->set));
    bytes_put_u8(&w, (uint8_t)order->kind);
    bytes_put_u32(&w, (uint32_t)count);
    TIDE_CHECK(!w.failed);

    struct round_mark sorted[TIDE_DISKS_MAX];
    if (count > 0) {
        memcpy(sorted, marks, count * sizeof *marks);
    }
    qsort(sorted, count, sizeof sorted[0], compare_marks);

    struct sha sha;
    sha_init(&sha);
    sha_update(&sha, head, w.used);
    for (size_t i = 0; i < count; i++) {
        uint8_t body[48];
        struct bytes_writer m = bytes_writer(body, sizeof body);
        bytes_put(&m, sorted[i].stream.b, sizeof sorted[i].stream.b);
        bytes_put_u64(&m, sorted[i].incarnation);
        bytes_put_u64(&m, sorted[i].lsn);
        bytes_put(&m, sorted[i].nonce.b, sizeof sorted[i].nonce.b);
        TIDE_CHECK(m.used == sizeof body);
        sha_update(&sha, body, sizeof body);
    }
    return sha_final(&sha);
}
