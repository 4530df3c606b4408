/* SPDX-License-Identifier: Apache-2.0 */
/* hrl_make: records, logs and segments made by a seed, for the tests of common/hrl and align. */
#ifndef TIDE_TESTS_UNIT_HRL_MAKE_H
#define TIDE_TESTS_UNIT_HRL_MAKE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/core/prng.h"
#include "common/hrl/record.h"

static inline struct id make_id(uint64_t number)
{
    struct prng prng;
    struct id id;
    prng_init(&prng, number);
    for (size_t i = 0; i < sizeof id.b; i++) {
        id.b[i] = (uint8_t)prng_next(&prng);
    }
    return id;
}

static inline struct hash make_hash(uint64_t number)
{
    struct prng prng;
    struct hash hash;
    prng_init(&prng, ~number);
    for (size_t i = 0; i < sizeof hash.b; i++) {
        hash.b[i] = (uint8_t)prng_next(&prng);
    }
    return hash;
}

/* Head of a record of stream `stream`. */
static inline struct record make_record(enum record_type type, uint64_t stream, uint64_t lsn,
                                        uint64_t incarnation)
{
    struct record r;
    memset(&r, 0, sizeof r);
    r.type = type;
    r.lsn = lsn;
    r.incarnation = incarnation;
    r.stream = make_id(stream);
    r.mono_ns = 1000 + lsn;
    return r;
}

static inline struct record make_attach(uint64_t stream, uint64_t lsn, uint64_t incarnation,
                                        bool base_zero)
{
    struct record r = make_record(RECORD_ATTACH, stream, lsn, incarnation);
    r.attach.boot = make_id(1);
    r.attach.disk = make_id(stream + 1000);
    r.attach.timeline = make_id(stream + 2000);
    r.attach.size = 1 << 20;
    r.attach.block_size = 4096;
    r.attach.clean = lsn == 1;
    r.attach.first = lsn == 1;
    r.attach.base_zero = lsn == 1 && base_zero;
    strcpy(r.attach.serial, "serial 1");
    return r;
}

static inline struct record make_write(uint64_t stream, uint64_t lsn, uint64_t incarnation,
                                       uint64_t offset, const void *data, size_t size)
{
    struct record r = make_record(RECORD_WRITE, stream, lsn, incarnation);
    r.write = (struct record_write){.offset = offset, .size = size, .data = data};
    return r;
}

static inline struct record make_gap(uint64_t stream, uint64_t lsn, uint64_t incarnation)
{
    struct record r = make_record(RECORD_GAP, stream, lsn, incarnation);
    r.gap = (struct record_gap){.reason = RECORD_GAP_OVERFLOW, .from_lsn = lsn};
    strcpy(r.gap.text, "log was full");
    return r;
}

static inline struct record make_resize(uint64_t stream, uint64_t lsn, uint64_t incarnation,
                                        uint64_t before, uint64_t size)
{
    struct record r = make_record(RECORD_RESIZE, stream, lsn, incarnation);
    r.resize = (struct record_resize){.size = size, .before = before};
    return r;
}

static inline struct record make_bookmark(uint64_t stream, uint64_t lsn, uint64_t incarnation,
                                          const struct round_order *order, uint64_t nonce)
{
    struct record r = make_record(RECORD_BOOKMARK, stream, lsn, incarnation);
    r.bookmark.order = *order;
    r.bookmark.nonce = make_id(nonce);
    r.bookmark.budget_us = 50000;
    r.bookmark.wall_ns = 1700000000000000000U;
    r.bookmark.wall_error_us = 250;
    r.bookmark.mono_ns = 77;
    return r;
}

static inline struct record make_seal(uint64_t stream, uint64_t lsn, uint64_t incarnation,
                                      const struct id *round, uint64_t bookmark_lsn,
                                      enum round_outcome outcome, const struct hash *cut)
{
    struct record r = make_record(RECORD_SEAL, stream, lsn, incarnation);
    r.seal.round = *round;
    r.seal.bookmark_lsn = bookmark_lsn;
    r.seal.outcome = outcome;
    if (cut != NULL) {
        r.seal.cut = *cut;
    }
    r.seal.hold_us = 900;
    r.seal.writes_held = 3;
    r.seal.bytes_held = 12288;
    return r;
}

static inline struct round_order make_order(uint64_t round, unsigned disks)
{
    struct round_order o;
    memset(&o, 0, sizeof o);
    o.round = make_id(round);
    o.group = make_id(5);
    o.epoch.number = 7;
    o.epoch.hash = make_hash(7);
    o.scope = ROUND_SCOPE_GROUP;
    o.kind = ROUND_KIND_CRASH;
    set_init(&o.set, disks);
    for (unsigned i = 0; i < disks; i++) {
        set_add(&o.set, i);
    }
    return o;
}

#endif
