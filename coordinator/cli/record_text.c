/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/record_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/io/clock.h"

/* Bytes from a stream on a terminal, and as JSON: printable ASCII only. */
static void clean(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
    }
}

void record_text_time(uint64_t wall_ns, char *ret, size_t size)
{
    char day[CLOCK_TEXT_MAX];
    snprintf(ret, size, "%s.%03uZ", clock_text((int64_t)(wall_ns / 1000000000U), day),
             (unsigned)(wall_ns / 1000000U % 1000U));
}

static void detail_attach(const struct record_attach *a, char *ret)
{
    char disk[TIDE_ID_HEX];
    char serial[sizeof(a->serial)];
    memcpy(serial, a->serial, sizeof(serial));
    clean(serial);
    snprintf(ret, RECORD_TEXT_DETAIL_MAX,
             "disk %s size %" PRIu64 " block %u%s%s%s replayed %" PRIu64 "..%" PRIu64
             " serial \"%s\"",
             id_hex(&a->disk, disk), a->size, a->block_size, a->first ? " first" : "",
             a->base_zero ? " base-zero" : "", a->clean ? " clean" : "", a->replayed_from,
             a->replayed_to, serial);
}

static void detail_bookmark(const struct record_bookmark *b, char *ret)
{
    char round[TIDE_ID_HEX];
    char when[64];
    record_text_time(b->wall_ns, when, sizeof(when));
    snprintf(ret, RECORD_TEXT_DETAIL_MAX,
             "round %s epoch %" PRIu64 " %s %s set %u/%u%s at %s budget %u us",
             id_hex(&b->order.round, round), b->order.epoch.number,
             round_scope_name(b->order.scope), round_kind_name(b->order.kind),
             set_size(&b->order.set), (unsigned)b->order.set.count, b->unheld ? " unheld" : "",
             when, b->budget_us);
}

void record_text_detail(const struct record *r, char ret[RECORD_TEXT_DETAIL_MAX])
{
    char hex[TIDE_HASH_HEX];
    char cut[TIDE_HASH_HEX];
    char text[TIDE_RECORD_TEXT_MAX + 1];
    ret[0] = '\0';
    switch (r->type) {
    case RECORD_ATTACH:
        detail_attach(&r->attach, ret);
        break;
    case RECORD_WRITE:
    case RECORD_COPY_BLOCK:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX, "offset %" PRIu64 " size %" PRIu64, r->write.offset,
                 r->write.size);
        break;
    case RECORD_ZERO:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX, "offset %" PRIu64 " size %" PRIu64 "%s%s",
                 r->write.offset, r->write.size, r->write.discard ? " discard" : "",
                 r->write.copy ? " copy" : "");
        break;
    case RECORD_COPY_BEGIN:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX, "%s of %" PRIu64 " bytes",
                 record_copy_name(r->copy_begin.kind), r->copy_begin.size);
        break;
    case RECORD_COPY_END:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX,
                 "begin %" PRIu64 " copied %" PRIu64 " zeroes %" PRIu64, r->copy_end.begin_lsn,
                 r->copy_end.copied, r->copy_end.zeroes);
        break;
    case RECORD_BOOKMARK:
        detail_bookmark(&r->bookmark, ret);
        break;
    case RECORD_SEAL:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX,
                 "%s bookmark %" PRIu64 " hold %" PRIu64 " us writes %" PRIu64 " bytes %" PRIu64
                 " round %s H %.16s",
                 round_outcome_name(r->seal.outcome), r->seal.bookmark_lsn, r->seal.hold_us,
                 r->seal.writes_held, r->seal.bytes_held, id_hex(&r->seal.round, hex),
                 hash_hex(&r->seal.cut, cut));
        break;
    case RECORD_ATTESTATION:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX, "round %s %u bytes",
                 id_hex(&r->attestation.round, hex), r->attestation.size);
        break;
    case RECORD_GAP:
        memcpy(text, r->gap.text, sizeof(text));
        clean(text);
        snprintf(ret, RECORD_TEXT_DETAIL_MAX,
                 "%s from lsn %" PRIu64 " offset %" PRIu64 " size %" PRIu64 " \"%s\"",
                 record_gap_name(r->gap.reason), r->gap.from_lsn, r->gap.offset, r->gap.size, text);
        break;
    case RECORD_RESIZE:
        snprintf(ret, RECORD_TEXT_DETAIL_MAX, "size %" PRIu64 " before %" PRIu64, r->resize.size,
                 r->resize.before);
        break;
    case RECORD_DETACH:
    case RECORD_DEFINITION:
        break;
    }
}
