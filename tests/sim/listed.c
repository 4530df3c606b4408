/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/listed.h"

#include "common/core/check.h"

#include <stdlib.h>
#include <string.h>

#define SYNC_US 2000U /* a record is read no earlier than this after it came */
#define AT_ONCE 12U   /* records of a stream in one step, fewer than that */

struct listed {
    struct roundlab *lab;
    struct check *check;
    struct prng prng;
    unsigned disks;
    struct align *align; /* NULL: away */
    unsigned defined;    /* definitions that it has */
    size_t *read;        /* records, of each stream */
};

struct listed *listed_new(struct roundlab *lab, struct check *check, uint64_t seed)
{
    struct listed *l = calloc(1, sizeof *l);
    TIDE_CHECK(l != NULL);
    l->lab = lab;
    l->check = check;
    l->disks = roundlab_definition(lab)->disk_count;
    l->read = calloc(l->disks, sizeof *l->read);
    TIDE_CHECK(l->read != NULL);
    prng_init(&l->prng, seed ^ 0x6c6973746564ULL);
    listed_far(l, true);
    return l;
}

void listed_free(struct listed *l)
{
    if (l == NULL) {
        return;
    }
    align_free(l->align);
    free(l->read);
    free(l);
}

static struct align *new_reader(const struct listed *l, unsigned rounds_max)
{
    struct align *align = align_new(&roundlab_definition(l->lab)->group, true, rounds_max);
    TIDE_CHECK(align != NULL);
    return align;
}

/* Those from that one on; returns how many it then has. */
static unsigned define(const struct listed *l, struct align *align, unsigned from)
{
    struct err err;
    for (; roundlab_issued(l->lab, from) != NULL; from++) {
        TIDE_CHECK(align_define(align, roundlab_issued(l->lab, from), &err) == 0);
    }
    return from;
}

/* Up to that many more records, as far as they are synced. */
static void read_on(const struct listed *l, struct align *align, unsigned disk, size_t *at,
                    size_t most)
{
    const struct check_stream *stream = check_streams(l->check, disk);
    struct err err;
    for (; most > 0 && *at < stream->count; most--, (*at)++) {
        if (stream->at_us[*at] + SYNC_US > roundlab_now(l->lab)) {
            return;
        }
        TIDE_CHECK(align_feed(align, &stream->records[*at], &err) == 0);
    }
}

void listed_step(struct listed *l)
{
    for (unsigned d = 0; d < l->disks && l->align != NULL; d++) {
        read_on(l, l->align, d, &l->read[d], prng_below(&l->prng, AT_ONCE));
    }
    if (l->align != NULL) {
        check_news(l->check, roundlab_now(l->lab), l->align);
    }
}

void listed_far(struct listed *l, bool up)
{
    if (up == (l->align != NULL)) {
        return;
    }
    align_free(l->align);
    l->align = up ? new_reader(l, TIDE_ALIGN_ROUNDS) : NULL;
    l->defined = up ? define(l, l->align, 0) : 0;
    memset(l->read, 0, l->disks * sizeof *l->read);
}

void listed_define(struct listed *l)
{
    if (l->align != NULL) {
        l->defined = define(l, l->align, l->defined);
    }
}

void listed_reread(struct listed *l, struct prng *prng)
{
    for (unsigned d = 0; d < l->disks; d++) {
        l->read[d] -= prng_below(prng, l->read[d] + 1);
    }
}

const struct align *listed_align(const struct listed *l)
{
    return l->align;
}

struct align *listed_judge(const struct listed *l)
{
    struct align *align = new_reader(l, TIDE_ALIGN_ROUNDS_MAX);
    define(l, align, 0);
    for (unsigned d = 0; d < l->disks; d++) {
        const struct check_stream *stream = check_streams(l->check, d);
        size_t at = 0;
        read_on(l, align, d, &at, SIZE_MAX);
        check_shown(l->check, d, at == 0 ? 0 : stream->records[at - 1].lsn);
    }
    return align;
}
