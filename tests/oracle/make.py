# SPDX-License-Identifier: Apache-2.0
"""Encodes records, segments and log files, right and wrong, for the corpus and the tests of the
second reader; from proto/hrl.md alone, like hrl.py. Checksums are always made to fit: harm done
through here is in the meaning. For other harm, change the bytes afterwards."""
import hashlib
import struct

import hrl

STREAM, TIMELINE, INCARNATION = b"\x11" * 16, b"\x22" * 16, 0x5A
ROUND, GROUP = b"\x66" * 16, b"\x77" * 16
CUT = bytes.fromhex("fb8512a8a6852c6848cb7b0a97c132f508b1a91e402fd449f6e44dd73511b88d")


def record(kind, lsn, body, flags=0, clock=None, stream=STREAM, incarnation=INCARNATION,
           magic=b"HRLr", reserved=0, size=None):
    rest = struct.pack("<HHIQQ16sQQ", kind, flags, len(body) if size is None else size, lsn,
                       incarnation, stream, lsn * 1000 if clock is None else clock, reserved) + body
    data = magic + struct.pack("<I", hrl.crc32c(rest)) + rest
    return data + bytes(-len(data) % 8)


def attach(lsn=1, timeline=TIMELINE, size=1 << 20, block=4096, bits=7, replay=(0, 0),
           serial=b"vda", **head):
    return record(hrl.ATTACH, lsn, struct.pack(
        "<16s16s16sQIIQQQ64s", b"\x33" * 16, b"\x44" * 16, timeline, size, block, bits, *replay, 0,
        serial), **head)


def write(lsn=2, offset=4096, data=b"hello", size=None, reserved=0, **head):
    return record(hrl.WRITE, lsn, struct.pack(
        "<QII", offset, len(data) if size is None else size, reserved) + data, **head)


def zero(lsn=3, offset=8192, size=512, bits=1, reserved=0, **head):
    return record(hrl.ZERO, lsn, struct.pack("<QQII", offset, size, bits, reserved), **head)


def bookmark(lsn=4, ident=ROUND, group=GROUP, epoch=3, epoch_hash=b"\x88" * 32, nonce=b"\x99" * 16,
             scope=1, kind=1, quiesce=0, bits=0, count=2, reserved=0, members=b"\x03", **head):
    return record(hrl.BOOKMARK, lsn, struct.pack(
        "<16s16sQ32s16sBBBBIQQIHH32s", ident, group, epoch, epoch_hash, nonce, scope, kind, quiesce,
        bits, 50000, 1700000000000000000, 123456789, 250, count, reserved, bytes(32)) + members,
        **head)


def seal(lsn=5, of=4, ident=ROUND, outcome=1, cut=CUT, reserved=bytes(7), **head):
    return record(hrl.SEAL, lsn, struct.pack("<16sQB7s32sQQQ", ident, of, outcome, reserved, cut,
                                             900, 3, 12288), **head)


def attestation(lsn=2, data=b"signed", size=None, flags=1, **head):
    return record(hrl.ATTESTATION, lsn, struct.pack(
        "<16sII", ROUND, len(data) if size is None else size, 0) + data, flags=flags, **head)


def copy_begin(lsn=6, kind=2, size=1 << 20, reserved=0, **head):
    return record(hrl.COPY_BEGIN, lsn, struct.pack("<IIQ", kind, reserved, size), **head)


def copy_block(lsn=7, offset=4096, data=b"hello", size=None, reserved=0, **head):
    return record(hrl.COPY_BLOCK, lsn, struct.pack(
        "<QII", offset, len(data) if size is None else size, reserved) + data, **head)


def copy_end(lsn=9, begin=6, copied=1 << 18, others=3 << 18, **head):
    return record(hrl.COPY_END, lsn, struct.pack("<QQQ", begin, copied, others), **head)


def resize(lsn=10, size=2 << 20, old=1 << 20, reserved=0, **head):
    return record(hrl.RESIZE, lsn, struct.pack("<QQQ", size, old, reserved), **head)


def gap(lsn=2, reason=5, first=None, offset=0, size=0, text=b"log full", **head):
    return record(hrl.GAP, lsn, struct.pack("<IIQQQ128s", reason, 0, lsn if first is None else first,
                                            offset, size, text), **head)


def segment(*records, first=1, before=0, hash_before=bytes(32), last=None, after=INCARNATION,
            stream=STREAM, timeline=TIMELINE, draft=hrl.DRAFT, version=hrl.VERSION,
            entries=None, extra=b"", counts=None, magic=b"TIDESEG0"):
    """entries: None, or a function that changes the list of (lsn, offset, size, type, reserved)."""
    body = b"".join(records)
    head = struct.pack("<8sHHI16s16sQQ32s32s", magic, version, 0, draft, stream, timeline, first,
                       before, hash_before, bytes(32))
    listed, at, found = [], hrl.SEG_HEAD, [0, 0, 0]
    for r in records:
        kind, = struct.unpack_from("<H", r, 8)
        lsn, = struct.unpack_from("<Q", r, 16)
        if kind in hrl.LISTED:
            listed.append((lsn, at, len(r), kind, bytes(14)))
        if kind == hrl.WRITE:
            found[0] += 1
            found[2] += struct.unpack_from("<I", r, 72)[0] if len(r) >= 76 else 0
        found[1] += kind == hrl.ZERO
        at += len(r)
    listed = entries(listed) if entries else listed
    foot = b"".join(struct.pack("<QIIH14s", *e) for e in listed)
    foot += struct.pack("<8sQQQQQQII", b"TIDEFOOT", first + len(records) - 1 if last is None else
                        last, after, len(body), *(counts or found), len(listed), 0)
    whole = head + body + foot + extra
    return whole + hashlib.sha256(whole).digest()


def segments(records, stream, cut, **options):
    """(first LSN, last LSN, segment) for the records of a stream from LSN 1 on: a segment ends at
    every bookmark, at the last record, and wherever cut() says so."""
    first, before, hash_before, part = 1, 0, bytes(32), []
    for lsn, r in enumerate(records, 1):
        part.append(r)
        if r[8] != hrl.BOOKMARK and lsn < len(records) and not cut():
            continue
        after = int.from_bytes(r[24:32], "little")
        data = segment(*part, first=first, before=before, hash_before=hash_before, after=after,
                       stream=stream, **options)
        yield first, lsn, data
        first, before, hash_before, part = lsn + 1, after, data[-32:], []


def log(*records, sequence=7, size=4096, first=1, before=0, stream=STREAM, draft=hrl.DRAFT,
        rest=None):
    head = struct.pack("<I16sQQQQ448s", draft, stream, sequence, size, first, before, bytes(448))
    body = b"TIDELOG0" + struct.pack("<I", hrl.crc32c(head)) + head + b"".join(records)
    return body + (bytes(size - len(body)) if rest is None else rest)


def rehash(data):
    """A segment with its hash made to fit again."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def recrc(data, at):
    """The checksum of the record at `at` made to fit again, where its body is there at all."""
    size, = struct.unpack_from("<I", data, at + 12)
    crc = struct.pack("<I", hrl.crc32c(data[at + 8:at + hrl.HEAD + size]))
    return data[:at + 4] + crc + data[at + 8:]


# ---- definitions (proto/intake.proto)

def _field(number, value):
    def varint(v):
        out = b""
        while v > 0x7F:
            out += bytes([v & 0x7F | 0x80])
            v >>= 7
        return out + bytes([v])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def definition(streams, epoch, group=GROUP, name="shop"):
    """A member with one disk for each stream."""
    data = _field(1, 1) + _field(2, group) + _field(3, name) + _field(4, epoch)
    for k, stream in enumerate(streams):
        disk = _field(1, "data") + _field(2, stream) + _field(3, TIMELINE) + \
            _field(4, b"\x44" * 15 + bytes([k])) + _field(5, 1 << 20) + _field(6, 4096)
        data += _field(5, _field(1, f"vm{k}") + _field(2, f"spiffe://site/participant/vm{k}") +
                       _field(3, f"127.0.0.{11 + k}:20004") + _field(4, disk))
    return data
