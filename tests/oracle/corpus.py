#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The corpus: small files, each with what a reader of proto/hrl.md must say of it. They are made
when a test runs; those that PINNED names are also kept as files in corpus/, so that a change of
what makes them shows.

  corpus.py --write     writes corpus/ again (after a change of draft)

TALES: name -> (steps, number of them that are not read); a step: (what it is, the stream's answer
behind it or None where nothing is asked, the disk behind it or None or REFUSED). Each is a case
too, "tale-NAME.hrl", as one segment.

CASES: name -> (bytes, verdict, records). verdict: "ok", "torn" (a log that ends in a torn record),
"unused", or "refused"; records: those that count, before the harm. None: the file as such is
refused, and how many records a reader has seen by then is its own affair."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make  # noqa: E402
import tales  # noqa: E402
from make import (attach, attestation, bookmark, copy_begin, copy_block, copy_end,  # noqa: E402
                  gap, log, record, resize, seal, segment, write, zero)

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
FIRST = segment(attach(), write(), zero(), bookmark())
SECOND = segment(seal(), first=5, before=make.INCARNATION, hash_before=FIRST[-32:])
THIRD = segment(copy_begin(6), copy_block(7), zero(8, bits=2), copy_end(9), resize(10),
                gap(11, reason=10, text=b"by hand"), copy_begin(12, kind=3, size=2 << 20),
                copy_end(13, begin=12, copied=1 << 16, others=31 << 16), first=6,
                before=make.INCARNATION, hash_before=SECOND[-32:])


def flip(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1:]


def put(data, at, new):
    return data[:at] + new + data[at + len(new):]


def seg(*records, **options):
    """Of LSN 1.., with an attach before them."""
    return segment(attach(), *records, **options)


def entry(number, **fields):
    names = ("lsn", "at", "size", "type", "zero")

    def change(entries):
        old = dict(zip(names, entries[number]))
        old.update(fields)
        return entries[:number] + [tuple(old[n] for n in names)] + entries[number + 1:]
    return change


def ok(data, records):
    return data, "ok", records


def bad(data, records=None):
    return data, "refused", records


# ---- tales: what is whole, and the disk. Sizes are of 1,024 bytes where nothing else is said.

YES, NO, UNKNOWN, REFUSED = "yes", "no", "unknown", "refused"
INITIAL, FULL, CHANGES = 1, 2, 3
BASE, SIZE, OVERFLOW = 1, 3, 5


def at(size=1024, **options):
    return "attach", {"size": size, **options}


def wr(offset, data):
    return "write", {"offset": offset, "data": data}


def ze(offset, size, bits=0):
    return "zero", {"offset": offset, "size": size, "bits": bits}


def cb(kind, size=1024):
    return "begin", {"kind": kind, "size": size}


def bl(offset, data):
    return "block", {"offset": offset, "data": data}


def ce(begin, copied=1000, others=24):
    """begin: the index of the step."""
    return "end", {"begin": begin, "copied": copied, "others": others}


def rs(size, old):
    return "resize", {"size": size, "old": old}


def gp(reason=OVERFLOW):
    return "gap", {"reason": reason}


def disk(size=1024, **parts):
    """disk(1024, at4=b"x"): zeroes but for that."""
    data = bytes(size)
    for place, part in parts.items():
        data = put(data, int(place[2:]), part)
    return data


WHOLE = [(at(), YES, disk())]  # LSN 1, base zero
BARE = [(at(bits=3), NO, REFUSED), (gp(BASE), NO, REFUSED)]  # an image that is not all zeroes


def copied(begin, kind, size=1024, answer=YES, image=None):
    """A copy right from begin to end; `begin` is the index that its begin has."""
    return [(cb(kind, size), NO, REFUSED),
            (ce(begin, size - 24, 24), answer, image if answer == YES else None)]


TALES = {
    "changes-of-a-disk": (WHOLE + [
        (wr(4, b"abc"), YES, disk(at4=b"abc")), (ze(5, 1), YES, disk(at4=b"a\0c")),
        (wr(0, b"q" * 1024), YES, b"q" * 1024), (ze(0, 1023, bits=1), YES, disk(at1023=b"q")),
        (("skipped", {}), YES, disk(at1023=b"q"))], 0),
    "base-not-zero": ([(at(bits=3), NO, REFUSED), (wr(0, b"x"), NO, REFUSED)], 0),
    "restart": (WHOLE + [(wr(0, b"x"), YES, None), (at(), YES, disk(at0=b"x"))], 0),
    "restart-not-whole": (BARE + [(at(), NO, REFUSED)], 0),
    "gap": (WHOLE + [(gp(), NO, REFUSED), (wr(0, b"x"), NO, REFUSED)], 0),
    # copies
    "initial-copy": (BARE + [
        (cb(INITIAL), NO, REFUSED), (bl(8, b"block"), NO, None), (wr(9, b"W"), NO, None),
        (ce(2), YES, disk(at8=b"bWock")), (wr(0, b"x"), YES, disk(at0=b"x", at8=b"bWock"))], 0),
    "full-copy": (WHOLE + [
        (wr(0, b"old"), YES, None), (gp(), NO, None), (cb(FULL), NO, None),
        (ze(0, 512, bits=2), NO, None), (bl(600, b"new"), NO, None), (ze(601, 1), NO, None),
        (ce(3), YES, disk(at600=b"n\0w"))], 0),
    "changes-copy": (WHOLE + [
        (wr(0, b"kept"), YES, None), (gp(), NO, None), (cb(CHANGES), NO, None),
        (bl(600, b"sent"), NO, None), (ze(602, 1, bits=2), NO, None),
        (ce(3), YES, disk(at0=b"kept", at600=b"se\0t"))], 0),
    "a-begin-ends-being-whole": (WHOLE + copied(1, CHANGES, image=disk()), 0),
    "a-begin-that-counts-not-does-too": (WHOLE + [
        (cb(FULL, 512), NO, None), (ce(1, 512, 0), NO, None), (ce(1), NO, REFUSED)], 0),
    "initial-after-a-gap": (BARE + [(gp(), NO, None)] + copied(3, INITIAL, answer=NO) +
                            copied(5, FULL) + copied(7, INITIAL, answer=NO) +
                            copied(9, CHANGES), 0),
    "initial-after-a-base-gap": (BARE + copied(2, INITIAL) + copied(4, INITIAL), 0),
    "initial-after-a-base-gap-while-whole": (BARE + copied(2, INITIAL) + [(gp(BASE), NO, None)] +
                                             copied(5, INITIAL, answer=NO), 0),
    "initial-after-two-base-gaps": (BARE + [(gp(BASE), NO, None)] + copied(3, INITIAL), 0),
    "initial-after-another-size": (BARE + [(at(512), None, None), (gp(BASE), NO, None)] + copied(
        4, INITIAL, 512, answer=NO) + copied(6, CHANGES, 512, image=disk(512)), 0),
    "initial-after-a-resize": (BARE + [(rs(512, 1024), NO, None)] + copied(3, INITIAL, 512), 0),
    "initial-after-a-resize-that-contradicts": (
        BARE + [(rs(512, 1000), NO, None)] + copied(3, INITIAL, 512, answer=NO) +
        copied(5, FULL, 512, image=REFUSED), 0),
    "end-of-another-begin": (BARE + [
        (cb(FULL), NO, None), (cb(FULL), NO, None), (ce(2), NO, None), (ce(3), YES, None)], 0),
    "end-with-other-sums": (BARE + [
        (cb(FULL), NO, None), (ce(2, 1000, 23), NO, None), (ce(2, 1000, 25), NO, None),
        (ce(2, 0, 0), NO, None), (ce(2, 0, 1024), YES, None)], 0),
    "end-again": (BARE + copied(2, FULL) + [
        (ce(2), YES, None), (gp(), NO, None), (ce(2), NO, None)], 0),
    "end-again-in-the-next": (BARE + copied(2, FULL) + [
        (cb(FULL), NO, None), (ce(2), NO, None), (ce(4), YES, None)], 0),
    "begin-of-another-size-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (cb(FULL, 1025), NO, None), (ce(2), NO, None),
        (ce(3, 1000, 25), NO, None)], 0),
    "gap-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (gp(BASE), NO, None), (ce(2), NO, REFUSED)], 0),
    "restart-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (bl(0, b"sent"), NO, None), (at(), NO, None), (ce(2), NO, None)] +
        copied(6, CHANGES, image=disk(at0=b"sent")), 0),
    "resize-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (rs(512, 1024), NO, None), (ce(2), NO, None),
        (ce(2, 512, 0), NO, None)] + copied(6, CHANGES, 512), 0),
    "resize-and-back-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (rs(512, 1024), NO, None), (rs(1024, 512), NO, None),
        (ce(2), NO, REFUSED)], 0),
    "other-records-in-a-copy": (BARE + [
        (cb(FULL), NO, None), (("skipped", {}), NO, None), (wr(0, b"x"), NO, None),
        (ce(2), YES, None)], 0),
    # sizes
    "resize": (WHOLE + [
        (wr(510, b"abcd"), YES, None), (rs(512, 1024), YES, disk(512, at510=b"ab")),
        (rs(2048, 512), YES, disk(2048, at510=b"ab")),
        (wr(2047, b"z"), YES, disk(2048, at510=b"ab", at2047=b"z"))], 0),
    "resize-of-odd-sizes": (WHOLE + [
        (wr(0, b"x" * 1024), YES, None), (rs(1, 1024), YES, b"x"), (rs(777, 1), YES, disk(
            777, at0=b"x"))], 0),
    "resize-not-whole": (BARE + [(rs(512, 1024), NO, REFUSED)], 0),
    "resize-then-restart": (WHOLE + [(rs(512, 1024), YES, None), (at(512), YES, disk(512))], 0),
    "restart-with-the-size-before-a-resize": (WHOLE + [
        (rs(512, 1024), YES, None), (at(1024), None, None), (gp(SIZE), NO, REFUSED)], 0),
    "resize-contradicts": (WHOLE + [(rs(512, 1000), NO, REFUSED)] +
                           copied(2, FULL, 512, image=REFUSED), 0),
    "resize-from-what-it-becomes": (WHOLE + [(rs(1024, 512), NO, REFUSED)], 0),
    "a-gap-behind-a-resize": (WHOLE + [(rs(2048, 1024), None, None), (gp(SIZE), NO, REFUSED)] +
                              copied(3, CHANGES, 2048, image=disk(2048)), 0),
    "another-size": (WHOLE + [
        (wr(510, b"abcd"), YES, None), (at(512), None, None), (gp(SIZE), NO, REFUSED),
        (at(2048), None, None), (gp(SIZE), NO, REFUSED)] +
        copied(6, CHANGES, 2048, image=disk(2048, at510=b"ab")), 0),
    "another-size-at-once": (WHOLE + [
        (at(512), NO, None)], 0),
    "another-size-without-a-gap": (WHOLE + [(at(512), None, None)] +
                                   copied(2, FULL, 512, image=REFUSED), 0),
    "another-size-and-back-without-a-gap": (WHOLE + [(at(512), None, None), (at(), None, None)] +
                                            copied(3, FULL, image=REFUSED), 0),
    "another-size-twice-without-a-gap": (WHOLE + [(at(512), None, None), (at(512), None, None)] +
                                         copied(3, FULL, 512, image=REFUSED), 0),
    "two-other-sizes-and-a-gap": (WHOLE + [
        (at(512), None, None), (at(600), None, None), (at(600), None, None),
        (gp(9), NO, REFUSED)] + copied(5, FULL, 600, image=disk(600)), 0),
    "a-gap-before-the-other-size": (WHOLE + [(gp(SIZE), None, None), (at(512), None, None)] +
                                    copied(3, FULL, 512, image=REFUSED), 0),
    "a-gap-between-two-other-sizes": (WHOLE + [
        (at(512), None, None), (gp(SIZE), None, None), (at(600), None, None)] +
        copied(4, FULL, 600, image=REFUSED), 0),
    "a-gap-too-late": (WHOLE + [
        (at(512), None, None), (ze(0, 1), None, None), (gp(SIZE), NO, REFUSED)] +
        copied(4, FULL, 512, image=REFUSED), 0),
    "what-is-passed-over-before-the-gap": (WHOLE + [
        (at(512), None, None), (("skipped", {}), None, None), (gp(SIZE), NO, REFUSED)] +
        copied(4, FULL, 512, image=disk(512)), 0),
    "a-copy-of-the-size-before": (BARE + [(rs(512, 1024), NO, None)] + copied(
        3, FULL, answer=NO), 0),
    "write-beyond-the-end": (WHOLE + [
        (wr(1023, b"x"), YES, disk(at1023=b"x")), (wr(1023, b"xy"), YES, REFUSED),
        (wr(0, b"x"), YES, REFUSED)], 0),
    "zero-beyond-the-end": (WHOLE + [(ze(0, 1025), YES, REFUSED)], 0),
    "block-beyond-the-end": (BARE + [
        (cb(FULL), NO, None), (bl(1020, b"block"), NO, None), (ce(2), YES, REFUSED)], 0),
    "write-beyond-a-shrunk-end": (WHOLE + [
        (rs(512, 1024), YES, None), (wr(511, b"x"), YES, disk(512, at511=b"x")),
        (wr(600, b"x"), YES, REFUSED), (rs(1024, 512), YES, REFUSED)], 0),
    "write-beyond-the-end-while-not-whole": (WHOLE + [
        (gp(), NO, None), (wr(1024, b"x"), NO, None)] + copied(3, FULL, image=REFUSED), 0),
    # who has not read from LSN 1
    "unread": (WHOLE + [(wr(0, b"x"), UNKNOWN, None), (at(), UNKNOWN, None),
                        (rs(512, 1024), UNKNOWN, None), (gp(), NO, None)], 1),
    "unread-another-size": (WHOLE + [(at(), UNKNOWN, None), (at(512), NO, None)], 1),
    "unread-resize": (WHOLE + [(rs(512, 1000), UNKNOWN, None), (rs(1024, 600), NO, None)], 1),
    "unread-full-copy": (WHOLE + copied(1, FULL, 700) + [(at(), YES, None), (gp(), NO, None)] +
                         copied(5, FULL), 1),
    "unread-begin-of-another-size": (WHOLE + [(at(), UNKNOWN, None)] +
                                     copied(2, FULL, 700, answer=NO), 1),
    "unread-copies": (WHOLE + copied(1, CHANGES, answer=UNKNOWN) + [(gp(BASE), NO, None)] +
                      copied(4, INITIAL, answer=UNKNOWN) + [(gp(), NO, None)] +
                      copied(7, INITIAL, answer=NO) + copied(9, CHANGES, answer=UNKNOWN), 1),
    "unread-begin": (BARE + [(cb(FULL), NO, None), (ce(2), UNKNOWN, None)], 3),
    "unread-whole-by-a-full-copy": (WHOLE + copied(1, FULL) + [(gp(BASE), NO, None)] +
                                    copied(4, INITIAL, answer=NO) +
                                    copied(6, CHANGES, answer=UNKNOWN), 1),
}


def tale(name):
    steps, unread = TALES[name]
    return tales.Tale(name, [s for s, _, _ in steps],
                      [k for k, (_, answer, _) in enumerate(steps) if answer], 1 + list(
                          TALES).index(name), unread=unread)


CASES = {
    # right
    "first.hrl": ok(FIRST, 4),
    "second.hrl": ok(SECOND, 1),
    "every-type.hrl": ok(seg(gap(2), write(3), zero(4, bits=0), attestation(5), seal(6, of=1)), 6),
    "attach-again.hrl": ok(seg(attach(2, bits=1, incarnation=0x5B), write(3, incarnation=0x5B),
                               after=0x5B), 3),
    "skipped-type.hrl": ok(seg(record(77, 2, b"later", flags=1), write(3)), 3),
    "skipped-reserved.hrl": ok(seg(record(13, 2, b"", flags=1), record(2, 3, b"x", flags=1)), 3),
    "skipped-long.hrl": ok(seg(record(77, 2, bytes(968), flags=1)), 2),
    "odd-set.hrl": ok(seg(bookmark(2, count=9, members=b"\x00\x01")), 2),
    "seal-of-all-bits.hrl": ok(seg(seal(2, of=1, outcome=4, cut=bytes(32))), 2),
    "last-offset.hrl": ok(seg(zero(2, offset=2**63 - 513)), 2),
    "zero-discard-and-copy.hrl": bad(seg(zero(2, bits=3)), 1),
    "first.log": ok(log(attach(), write(), zero(), bookmark()), 4),
    "later.log": ok(log(seal(), first=5, before=make.INCARNATION), 1),
    "empty.log": ok(log(), 0),
    "unused.log": (bytes(4096), "unused", 0),
    "header-lost.log": (bytes(512) + attach(), "unused", 0),
    # copies
    "copy.hrl": ok(THIRD, 8),
    "copy-initial.hrl": ok(seg(copy_begin(2, kind=1), zero(3, bits=2), copy_end(4, begin=2)), 4),
    # What does not count is no error of the file.
    "copy-that-counts-not.hrl": ok(seg(copy_begin(2, size=5), copy_end(3, begin=1, copied=0,
                                                                         others=0)), 3),
    "copy-largest.hrl": ok(seg(copy_begin(2, size=2**63 - 1),
                               copy_end(3, begin=2, copied=0, others=2**63 - 1)), 3),
    "copy-kind-0.hrl": bad(seg(copy_begin(2, kind=0)), 1),
    "copy-kind-4.hrl": bad(seg(copy_begin(2, kind=4)), 1),
    "copy-reserved.hrl": bad(seg(copy_begin(2, reserved=1)), 1),
    "copy-no-size.hrl": bad(seg(copy_begin(2, size=0)), 1),
    "copy-size-far.hrl": bad(seg(copy_begin(2, size=2**63)), 1),
    "copy-begin-of-draft-2.hrl": bad(seg(record(8, 2, copy_begin(2)[64:] + bytes(16))), 1),
    "copy-begin-short.hrl": bad(seg(record(8, 2, copy_begin(2)[64:72])), 1),
    "copy-begin-may-skip.hrl": bad(seg(copy_begin(2, flags=1)), 1),
    "copy-end-of-itself.hrl": bad(seg(copy_end(2, begin=2)), 1),
    "copy-end-lsn-0.hrl": bad(seg(copy_end(2, begin=0)), 1),
    "copy-end-wraps.hrl": bad(seg(copy_end(2, begin=1, copied=2**63 - 1, others=1)), 1),
    "copy-end-wraps-64.hrl": bad(seg(copy_end(2, begin=1, copied=2**64 - 1, others=2**20 + 1)), 1),
    "copy-end-long.hrl": bad(seg(record(10, 2, copy_end(2, begin=1)[64:] + bytes(8))), 1),
    "copy-end-may-skip.hrl": bad(seg(copy_end(2, begin=1, flags=1)), 1),
    "copy-block-empty.hrl": bad(seg(copy_block(2, data=b"")), 1),
    "copy-block-other-size.hrl": bad(seg(copy_block(2, size=6)), 1),
    "copy-block-long.hrl": bad(seg(copy_block(2, data=bytes(2**20 + 1))), 1),
    "copy-block-far.hrl": bad(seg(copy_block(2, offset=2**63 - 4)), 1),
    "copy-block-reserved.hrl": bad(seg(copy_block(2, reserved=1)), 1),
    "copy-block-may-skip.hrl": bad(seg(copy_block(2, flags=1)), 1),
    "begin-entry-missing.hrl": bad(seg(copy_begin(2), entries=lambda e: e[:1]), None),
    "end-entry-missing.hrl": bad(seg(copy_end(2, begin=1), entries=lambda e: e[:1]), None),
    "entry-of-copy-block.hrl": bad(seg(copy_block(2), entries=lambda e: e + [
        (2, 344, 88, 9, bytes(14))]), None),
    # resizes, and the reasons of gaps
    "resize.hrl": ok(seg(resize(2), write(3, offset=(2 << 20) - 5), resize(4, 1, 2 << 20)), 4),
    "resize-contradicts.hrl": ok(seg(resize(2, old=5), write(3, offset=2**40)), 3),
    "resize-largest.hrl": ok(seg(resize(2, size=2**63 - 1, old=1)), 2),
    "resize-to-nothing.hrl": bad(seg(resize(2, size=0)), 1),
    "resize-from-nothing.hrl": bad(seg(resize(2, old=0)), 1),
    "resize-to-same.hrl": bad(seg(resize(2, size=1 << 20)), 1),
    "resize-far.hrl": bad(seg(resize(2, size=2**63)), 1),
    "resize-from-far.hrl": bad(seg(resize(2, old=2**63)), 1),
    "resize-reserved.hrl": bad(seg(resize(2, reserved=1)), 1),
    "resize-may-skip.hrl": bad(seg(resize(2, flags=1)), 1),
    "resize-short.hrl": bad(seg(record(12, 2, resize(2)[64:80])), 1),
    "resize-first.hrl": bad(segment(resize(1)), 0),
    "resize-other-incarnation.hrl": bad(seg(resize(2, incarnation=0x5B), after=0x5B), 1),
    "resize-entry-missing.hrl": bad(seg(resize(2), entries=lambda e: e[:1]), None),
    "resize-entry-size.hrl": bad(seg(resize(2), entries=entry(1, size=80)), None),
    "gap-identity.hrl": ok(seg(gap(2, reason=9), gap(3, reason=10)), 3),
    "resize.log": ok(log(attach(), resize(2), copy_begin(3, kind=3, size=2 << 20)), 3),
    "torn-resize.log": (log(attach(), resize(2, size=1 << 20)), "torn", 1),
    "torn-copy-kind.log": (log(attach(), copy_begin(2, kind=4)), "torn", 1),
    "draft-2.log": bad(log(attach(), draft=2), None),
    "draft-2.hrl": bad(seg(write(), draft=2), None),
    # bytes changed or missing
    "flip-body.hrl": bad(flip(FIRST, 0x1A0), None),
    "flip-hash.hrl": bad(flip(FIRST, len(FIRST) - 1), None),
    "flip-data.hrl": bad(make.rehash(flip(FIRST, 0x80 + 216 + 82)), 1),
    "flip-padding.hrl": bad(make.rehash(flip(FIRST, 0x80 + 216 + 87)), 1),
    "cut-short.hrl": bad(FIRST[:-8], None),
    "cut-to-header.hrl": bad(FIRST[:128], None),
    "cut-to-3.hrl": bad(FIRST[:3], None),
    "nothing.hrl": bad(b"", None),
    "longer.hrl": bad(FIRST + bytes(8), None),
    "left-over.hrl": bad(seg(write(), extra=bytes(8)), None),
    # segment header and footer, checksums right
    "draft.hrl": bad(seg(write(), draft=9), None),
    "version.hrl": bad(seg(write(), version=1), None),
    "magic.hrl": bad(seg(write(), magic=b"TIDESEG1"), None),
    "header-reserved.hrl": bad(make.rehash(put(FIRST, 100, b"\1")), None),
    "no-stream.hrl": bad(segment(attach(stream=bytes(16)), stream=bytes(16)), None),
    "no-timeline.hrl": bad(segment(attach(timeline=bytes(16)), timeline=bytes(16)), None),
    "no-hash-before.hrl": bad(segment(seal(), first=5, before=make.INCARNATION), None),
    "hash-before-first.hrl": bad(seg(write(), hash_before=b"\1" * 32), None),
    "no-incarnation-before.hrl": bad(segment(seal(), first=5, hash_before=b"\1" * 32), None),
    "no-body.hrl": bad(segment(last=1), None),
    "body-size.hrl": bad(make.rehash(put(FIRST, len(FIRST) - 32 - 40, b"\xff" * 8)), None),
    "entry-count.hrl": bad(make.rehash(put(FIRST, len(FIRST) - 32 - 8, b"\xff" * 4)), None),
    "last-lsn.hrl": bad(seg(write(), last=3), None),
    "incarnation-after.hrl": bad(seg(write(), after=9), None),
    "write-count.hrl": bad(seg(write(), counts=[2, 0, 5]), None),
    "zero-count.hrl": bad(seg(write(), counts=[1, 1, 5]), None),
    "data-count.hrl": bad(seg(write(), counts=[1, 0, 6]), None),
    "entry-missing.hrl": bad(seg(gap(), entries=lambda e: e[:1]), None),
    "entry-twice.hrl": bad(seg(gap(), entries=lambda e: e + e[1:]), None),
    "entry-order.hrl": bad(seg(gap(), entries=lambda e: e[::-1]), None),
    "entry-of-write.hrl": bad(seg(write(), entries=lambda e: e + [(2, 344, 88, 3, bytes(14))]),
                              None),
    "entry-lsn.hrl": bad(seg(gap(), entries=entry(1, lsn=3)), None),
    "entry-offset.hrl": bad(seg(gap(), entries=entry(1, at=352)), None),
    "entry-far.hrl": bad(seg(gap(), entries=entry(1, at=0xFFFFFFF8)), None),
    "entry-size.hrl": bad(seg(gap(), entries=entry(1, size=1024)), None),
    "entry-type.hrl": bad(seg(gap(), entries=entry(1, type=6)), None),
    "entry-reserved.hrl": bad(seg(gap(), entries=entry(1, zero=b"\1" + bytes(13))), None),
    # records, checksums right
    "other-timeline.hrl": bad(segment(attach(timeline=b"\x23" * 16)), None),
    "after-bookmark.hrl": bad(seg(bookmark(2), write(3)), None),
    "no-attach.hrl": bad(segment(write(1)), 0),
    "lsn-hole.hrl": bad(seg(write(3)), 1),
    "lsn-again.hrl": bad(seg(write(1)), 1),
    "other-stream.hrl": bad(seg(write(stream=b"\x12" * 16)), 1),
    "other-incarnation.hrl": bad(seg(write(incarnation=0x5B)), 1),
    "attach-same-incarnation.hrl": bad(seg(attach(2, bits=1)), 1),
    "first-again.hrl": bad(seg(attach(2, bits=3, incarnation=0x5B), after=0x5B), 1),
    "record-magic.hrl": bad(seg(write(magic=b"HRLs")), 1),
    "record-reserved.hrl": bad(seg(write(reserved=0), write(3, size=5, flags=2)), 2),
    "head-reserved.hrl": bad(seg(record(3, 2, write()[64:85], reserved=1)), 1),
    "unknown-type.hrl": bad(seg(record(77, 2, b"later")), 1),
    "reserved-type.hrl": bad(seg(record(2, 2, b"")), 1),
    "write-may-skip.hrl": bad(seg(write(flags=1)), 1),
    "attestation-no-skip.hrl": bad(seg(attestation(flags=0)), 1),
    "overlong-body.hrl": bad(seg(write(), record(3, 3, write()[64:85], size=2**32 - 1)), 2),
    "overlong-past-end.hrl": bad(seg(write(), record(3, 3, write()[64:85], size=4096)), 2),
    "overlong-skipped.hrl": bad(seg(record(77, 2, b"", size=2**21 + 17, flags=1)), 1),
    "overlong-seal.hrl": bad(seg(record(6, 2, bytes(961))), None),
    "overlong-write.hrl": bad(seg(write(size=2**21 + 1)), 1),
    "write-other-size.hrl": bad(seg(write(size=6)), 1),
    "write-nothing.hrl": bad(seg(write(data=b"")), 1),
    "write-far.hrl": bad(seg(write(offset=2**63 - 4)), 1),
    "write-wraps.hrl": bad(seg(write(offset=2**64 - 1)), 1),
    "write-no-size.hrl": bad(seg(record(3, 2, bytes(8))), 1),
    "zero-nothing.hrl": bad(seg(zero(2, size=0)), 1),
    "zero-far.hrl": bad(seg(zero(2, offset=2**62, size=2**62)), 1),
    "zero-flags.hrl": bad(seg(zero(2, bits=4)), 1),
    "attach-flags.hrl": bad(segment(attach(bits=15)), 0),
    "attach-not-first.hrl": bad(segment(attach(bits=1)), 0),
    "attach-block.hrl": bad(segment(attach(block=4095)), 0),
    "attach-block-large.hrl": bad(segment(attach(block=131072)), 0),
    "attach-no-size.hrl": bad(segment(attach(size=0)), 0),
    "attach-replay.hrl": bad(seg(attach(2, bits=0, replay=(1, 2), incarnation=0x5B), after=0x5B), 1),
    "attach-replay-0.hrl": bad(seg(attach(2, bits=0, replay=(0, 1), incarnation=0x5B), after=0x5B),
                               1),
    "attach-serial.hrl": bad(segment(attach(serial=b"x" * 64)), 0),
    "attach-serial-rest.hrl": bad(segment(attach(serial=b"x\0y")), 0),
    "base-zero-later.hrl": bad(seg(attach(2, bits=4, incarnation=0x5B), after=0x5B), 1),
    "bookmark-scope.hrl": bad(seg(bookmark(2, scope=3)), 1),
    "bookmark-kind.hrl": bad(seg(bookmark(2, kind=0)), 1),
    "bookmark-quiesce.hrl": bad(seg(bookmark(2, quiesce=2)), 1),
    "bookmark-flags.hrl": bad(seg(bookmark(2, bits=2)), 1),
    "bookmark-epoch.hrl": bad(seg(bookmark(2, epoch=0)), 1),
    "bookmark-no-round.hrl": bad(seg(bookmark(2, ident=bytes(16))), 1),
    "bookmark-no-nonce.hrl": bad(seg(bookmark(2, nonce=bytes(16))), 1),
    "bookmark-count.hrl": bad(seg(bookmark(2, count=1025, members=bytes(128) + b"\1")), 1),
    "bookmark-short-set.hrl": bad(seg(bookmark(2, count=9)), 1),
    "bookmark-empty-set.hrl": bad(seg(bookmark(2, members=b"\0")), 1),
    "bookmark-set-bits.hrl": bad(seg(bookmark(2, members=b"\7")), 1),
    "seal-outcome.hrl": bad(seg(seal(2, of=1, outcome=5)), 1),
    "seal-itself.hrl": bad(seg(seal(2, of=2)), 1),
    "seal-lsn-0.hrl": bad(seg(seal(2, of=0)), 1),
    "seal-reserved.hrl": bad(seg(seal(2, of=1, reserved=b"\1" + bytes(6))), 1),
    "seal-expired-with-hash.hrl": bad(seg(seal(2, of=1, outcome=2)), 1),
    "seal-held-no-hash.hrl": ok(seg(seal(2, of=1, cut=bytes(32))), 2),
    "attestation-empty.hrl": bad(seg(attestation(data=b"")), 1),
    "attestation-size.hrl": bad(seg(attestation(size=7)), 1),
    "gap-reason.hrl": bad(seg(gap(reason=11)), 1),
    "gap-reason-0.hrl": bad(seg(gap(reason=0)), 1),
    "gap-later.hrl": bad(seg(gap(first=3)), 1),
    "gap-lsn-0.hrl": bad(seg(gap(first=0)), 1),
    "gap-range.hrl": bad(seg(gap(offset=4096)), 1),
    "gap-text.hrl": bad(seg(gap(text=b"x" * 128)), 1),
    # logs: what is not the due record is the end
    "torn-head.log": ok(log(attach(), write()[:40]), 1),
    "torn-body.log": (log(attach(), write()[:72]), "torn", 1),
    "torn-flip.log": (log(attach(), flip(write(), 70)), "torn", 1),
    "cut-in-record.log": (log(attach(), write(), rest=b"")[:-8], "torn", 1),
    "cut-after-record.log": ok(log(attach(), write(), rest=b""), 2),
    "torn-reserved.log": (log(attach(), record(3, 2, write()[64:85], reserved=1)), "torn", 1),
    "head-size.log": ok(log(attach(), record(3, 2, b"", size=2**21 + 17)), 1),
    "torn-size.log": (log(attach(), record(5, 2, b"", size=2**21 + 16)), "torn", 1),
    "old-incarnation.log": ok(log(attach(), write(incarnation=0x59)), 1),
    "old-lsn.log": ok(log(attach(), write(lsn=9)), 1),
    "old-stream.log": ok(log(attach(), write(stream=b"\x12" * 16)), 1),
    "newer.log": bad(log(attach(), record(77, 2, b"later")), 1),
    "header-flip.log": bad(flip(log(attach()), 40), None),
    "header-draft.log": bad(log(attach(), draft=9), None),
    "header-size.log": bad(log(attach(), size=4097), None),
    "header-small.log": bad(log(attach(), size=2048), None),
    "header-incarnation.log": bad(log(attach(), before=make.INCARNATION), None),
    "header-lsn-0.log": bad(log(first=0), None),
    "header-sequence.log": bad(log(sequence=2**60), None),
    "header-short.log": bad(log()[:511], None),
}

for _name in TALES:
    CASES[f"tale-{_name}.hrl"] = ok(tale(_name).as_segment(), len(TALES[_name][0]))

PINNED = tuple(f"tale-{name}.hrl" for name in TALES) + (
    "first.hrl", "second.hrl", "every-type.hrl", "flip-body.hrl", "flip-data.hrl",
    "cut-short.hrl", "cut-to-header.hrl", "draft.hrl", "entry-lsn.hrl", "write-count.hrl",
    "overlong-body.hrl", "overlong-past-end.hrl", "write-wraps.hrl", "bookmark-set-bits.hrl",
    "copy.hrl", "copy-kind-4.hrl", "copy-begin-of-draft-2.hrl", "copy-end-wraps.hrl",
    "copy-that-counts-not.hrl", "resize.hrl", "resize-to-same.hrl", "resize-entry-missing.hrl",
    "gap-identity.hrl", "gap-reason.hrl", "torn-resize.log", "draft-2.hrl", "unknown-type.hrl",
    "cut-in-record.log", "cut-after-record.log")


def main():
    if sys.argv[1:] != ["--write"]:
        print(__doc__)
        return 2
    os.makedirs(FOLDER, exist_ok=True)
    for name in os.listdir(FOLDER):
        os.unlink(os.path.join(FOLDER, name))
    for name in PINNED:
        with open(os.path.join(FOLDER, name), "wb") as f:
            f.write(CASES[name][0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
