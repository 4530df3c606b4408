# SPDX-License-Identifier: Apache-2.0
"""A second reader of HRL streams, written from proto/hrl.md alone. It shares nothing with
common/hrl, and must stay so: where the two disagree, the page says who is wrong.

  read_segment(bytes) -> Segment        read_log_file(bytes) -> Log        read_ring([bytes]) -> Log

Everything wrong is a Wrong, whose text names the place; .records are the records before it that
count, .in_record says that it is a record that is wrong, not the file around it. Nothing is read
that was not checked to be there."""
import hashlib
import struct

VERSION, DRAFT = 0, 3
LIMIT63 = 1 << 63
DATA_MAX = 2 << 20
COPY_MAX = 1 << 20
BODY_MAX = DATA_MAX + 16
ATTESTATION_MAX = 8192
SMALL_MAX = 1024
SEGMENT_MAX = 8 << 20
ENTRIES_MAX = 1024
DISKS_MAX = 1024
HEAD, SEG_HEAD, ENTRY, TRAILER, LOG_HEAD = 64, 128, 32, 64, 512

ATTACH, WRITE, ZERO, BOOKMARK, SEAL, ATTESTATION, GAP = 1, 3, 4, 5, 6, 7, 11
COPY_BEGIN, COPY_BLOCK, COPY_END, RESIZE = 8, 9, 10, 12
LISTED = (ATTACH, BOOKMARK, SEAL, COPY_BEGIN, COPY_END, GAP, RESIZE)
INITIAL, FULL, CHANGES = 1, 2, 3
GAP_BASE, GAP_LAST = 1, 10
HELD, EXPIRED, ABORTED, UNHELD = 1, 2, 3, 4


class Wrong(Exception):
    """A file or record that a reader must refuse."""

    def __init__(self, text, records=(), in_record=False):
        super().__init__(text)
        self.records = list(records)
        self.in_record = in_record


class Newer(Wrong):
    """A record that counts, of a type that this reader does not know and may not skip."""


# ---- CRC-32C: 32 bits a step, over two tables of 16

def _tables():
    low = []
    for i in range(65536):
        crc = i
        for _ in range(16):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        low.append(crc)
    return [low[v & 0xFFFF] ^ v >> 16 for v in low], low


FIRST, SECOND = _tables()


def crc32c(data):
    crc = 0xFFFFFFFF
    whole = len(data) // 4 * 4
    first, second = FIRST, SECOND
    for word in struct.unpack_from(f"<{whole // 4}I", data):
        crc ^= word
        crc = first[crc & 0xFFFF] ^ second[crc >> 16]
    for byte in data[whole:]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# ---- records

class Record:
    """One record; the fields of its body are attributes of the names in the page."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


def _need(condition, text):
    if not condition:
        raise Wrong(text)


def _id(value, name):
    _need(any(value), f"{name} is all zero")
    return value


def _zero(value, name):
    _need(not any(value), f"{name} is not zero")


def _range(offset, size, name):
    _need(offset + size < LIMIT63, f"{name}: offset {offset} + size {size} is not below 2^63")


def _disk_size(size):
    _need(1 <= size < LIMIT63, f"a disk of {size} bytes")


def _text(value, name):
    end = value.find(b"\0")
    _need(end >= 0, f"{name} does not end in a NUL")
    _zero(value[end:], f"{name} after its first NUL")
    return value[:end]


def _attach(r, b):
    _need(len(b) == 152, f"body of {len(b)} bytes, an attach has 152")
    r.boot, r.disk, r.timeline, r.disk_size, r.block, r.bits, r.replay_first, r.replay_last, \
        r.mtime, serial = struct.unpack("<16s16s16sQIIQQQ64s", b)
    for name in ("boot", "disk", "timeline"):
        _id(getattr(r, name), name)
    _disk_size(r.disk_size)
    _need(512 <= r.block <= 65536 and r.block & r.block - 1 == 0, f"block size {r.block}")
    _need(r.bits < 8, f"flags {r.bits:#x}")
    r.clean, r.first, r.base_zero = bool(r.bits & 1), bool(r.bits & 2), bool(r.bits & 4)
    _need(r.first == (r.lsn == 1), "flag first and LSN 1 do not go together")
    _need(r.first or not r.base_zero, "base zero without first")
    _need(r.replay_first == r.replay_last == 0 or
          1 <= r.replay_first <= r.replay_last < r.lsn,
          f"replay {r.replay_first}..{r.replay_last}")
    r.serial = _text(serial, "serial")


def _write(r, b):
    _need(len(b) >= 16, f"body of {len(b)} bytes, a write has 16 and more")
    r.offset, r.size, reserved = struct.unpack_from("<QII", b)
    _need(1 <= r.size <= DATA_MAX, f"write of {r.size} bytes")
    _need(reserved == 0, "reserved field is not zero")
    _need(len(b) == 16 + r.size, f"body of {len(b)} bytes for a write of {r.size}")
    _range(r.offset, r.size, "write")
    r.data = b[16:]


def _zeroes(r, b):
    _need(len(b) == 24, f"body of {len(b)} bytes, a zero has 24")
    r.offset, r.size, r.zero_bits, reserved = struct.unpack("<QQII", b)
    _need(r.size > 0, "zero of 0 bytes")
    _need(r.zero_bits <= 2, f"flags {r.zero_bits:#x}")
    _need(reserved == 0, "reserved field is not zero")
    _range(r.offset, r.size, "zero")


def _bookmark(r, b):
    _need(len(b) >= 152, f"body of {len(b)} bytes, a bookmark has 153 and more")
    (r.round, r.group, r.epoch, r.epoch_hash, r.nonce, r.scope, r.kind, r.quiesce, flags, r.budget,
     r.wall, r.began, r.wall_error, r.count, reserved, r.report) = struct.unpack_from(
         "<16s16sQ32s16sBBBBIQQIHH32s", b)
    for name in ("round", "group", "nonce"):
        _id(getattr(r, name), name)
    _need(r.epoch >= 1, "epoch 0")
    _need(r.scope in (1, 2), f"scope {r.scope}")
    _need(r.kind in (1, 2), f"kind {r.kind}")
    _need(r.quiesce in (0, 1), f"quiesce {r.quiesce}")
    _need(flags <= 1, f"flags {flags:#x}")
    r.unheld = flags == 1
    _need(1 <= r.count <= DISKS_MAX, f"a set of {r.count} disks")
    _need(reserved == 0, "reserved field is not zero")
    _need(len(b) == 152 + (r.count + 7) // 8, f"body of {len(b)} bytes for {r.count} disks")
    r.set = b[152:]
    bits = int.from_bytes(r.set, "little")
    _need(bits != 0, "an empty set")
    _need(bits >> r.count == 0, "bits after the last disk of the set")
    r.members = [k for k in range(r.count) if bits >> k & 1]
    r.order = (r.group, r.epoch, r.epoch_hash, r.scope, r.kind, r.count, r.set)


def _seal(r, b):
    _need(len(b) == 88, f"body of {len(b)} bytes, a seal has 88")
    r.round, r.bookmark_lsn, r.outcome, reserved, r.cut, r.hold, r.held, r.held_bytes = \
        struct.unpack("<16sQB7s32sQQQ", b)
    _id(r.round, "round")
    _need(1 <= r.bookmark_lsn < r.lsn, f"the bookmark's LSN {r.bookmark_lsn} in a seal of {r.lsn}")
    _need(r.outcome in (HELD, EXPIRED, ABORTED, UNHELD), f"outcome {r.outcome}")
    _zero(reserved, "reserved field")
    if r.outcome in (EXPIRED, ABORTED):
        _zero(r.cut, "cut hash of a hold that was not kept")


def _attestation(r, b):
    _need(len(b) >= 24, f"body of {len(b)} bytes, an attestation has 25 and more")
    r.round, r.size, reserved = struct.unpack_from("<16sII", b)
    _id(r.round, "round")
    _need(1 <= r.size <= ATTESTATION_MAX, f"attestation of {r.size} bytes")
    _need(reserved == 0, "reserved field is not zero")
    _need(len(b) == 24 + r.size, f"body of {len(b)} bytes for an attestation of {r.size}")


def _gap(r, b):
    _need(len(b) == 160, f"body of {len(b)} bytes, a gap has 160")
    r.reason, reserved, r.from_lsn, r.offset, r.size, text = struct.unpack("<IIQQQ128s", b)
    _need(GAP_BASE <= r.reason <= GAP_LAST, f"reason {r.reason}")
    _need(reserved == 0, "reserved field is not zero")
    _need(1 <= r.from_lsn <= r.lsn, f"from LSN {r.from_lsn} in a gap of LSN {r.lsn}")
    _need(r.size > 0 or r.offset == 0, f"a range of 0 bytes at {r.offset}")
    _range(r.offset, r.size, "gap")
    r.text = _text(text, "text")


def _copy_begin(r, b):
    _need(len(b) == 16, f"body of {len(b)} bytes, a copy begin has 16")
    r.copy_kind, reserved, r.disk_size = struct.unpack("<IIQ", b)
    _need(r.copy_kind in (INITIAL, FULL, CHANGES), f"kind of copy {r.copy_kind}")
    _need(reserved == 0, "reserved field is not zero")
    _disk_size(r.disk_size)


def _copy_block(r, b):
    _write(r, b)
    _need(r.size <= COPY_MAX, f"a copy block of {r.size} bytes")


def _copy_end(r, b):
    _need(len(b) == 24, f"body of {len(b)} bytes, a copy end has 24")
    r.begin_lsn, r.copied, r.others = struct.unpack("<QQQ", b)
    _need(1 <= r.begin_lsn < r.lsn, f"begin of LSN {r.begin_lsn} in a copy end of LSN {r.lsn}")
    _range(r.copied, r.others, "sums of a copy")


def _resize(r, b):
    _need(len(b) == 24, f"body of {len(b)} bytes, a resize has 24")
    r.disk_size, r.size_before, reserved = struct.unpack("<QQQ", b)
    _disk_size(r.disk_size)
    _disk_size(r.size_before)
    _need(r.disk_size != r.size_before, f"a resize from {r.size_before} bytes to as many")
    _need(reserved == 0, "reserved field is not zero")


KNOWN = {ATTACH: (_attach, 0), WRITE: (_write, 0), ZERO: (_zeroes, 0), BOOKMARK: (_bookmark, 0),
         SEAL: (_seal, 0), ATTESTATION: (_attestation, 1), GAP: (_gap, 0),
         COPY_BEGIN: (_copy_begin, 0), COPY_BLOCK: (_copy_block, 0), COPY_END: (_copy_end, 0),
         RESIZE: (_resize, 0)}
BODIES_MAX = {WRITE: BODY_MAX, COPY_BLOCK: 16 + COPY_MAX, ATTESTATION: 24 + ATTESTATION_MAX}


def _body_max(kind):
    return BODIES_MAX.get(kind, SMALL_MAX - HEAD if kind in KNOWN else BODY_MAX)


def padded(size):
    return (size + 7) // 8 * 8


class Due:
    """What a reader goes from record to record with."""

    def __init__(self, stream, lsn, incarnation):
        self.stream, self.lsn, self.incarnation = stream, lsn, incarnation

    def head(self, data, at, end):
        """What says that the due record is at `at`: its head's fields, or Wrong."""
        _need(end - at >= HEAD, f"{end - at} bytes left, a record has 64 and more")
        magic, crc, kind, flags, size, lsn, incarnation, stream, clock, reserved = \
            struct.unpack_from("<4sIHHIQQ16sQQ", data, at)
        _need(magic == b"HRLr", "no record")
        _need(stream == self.stream, f"a record of stream {stream.hex()}")
        _need(lsn == self.lsn, f"a record with LSN {lsn}")
        _need(incarnation != 0, "incarnation 0")
        if kind == ATTACH:
            _need(incarnation != self.incarnation, "an attach with the incarnation in force")
        else:
            _need(incarnation == self.incarnation, f"a record of incarnation {incarnation:#x}")
        _need(size <= BODY_MAX, f"body of {size} bytes")
        return Record(crc=crc, type=kind, flags=flags, body_size=size, lsn=lsn,
                      incarnation=incarnation, stream=stream, clock=clock, at=at,
                      reserved=reserved, padded=padded(HEAD + size))

    def take(self, data, at, end):
        """The due record, checked; what is due after it moves on."""
        r = self.head(data, at, end)
        _need(r.flags <= 1, f"flags {r.flags:#x}")
        _need(r.reserved == 0, "reserved field of the head is not zero")
        _need(r.body_size <= _body_max(r.type), f"body of {r.body_size} bytes, type {r.type}")
        _need(r.padded <= end - at, f"{end - at} bytes left for a record of {r.padded}")
        stop = at + HEAD + r.body_size
        crc = crc32c(data[at + 8:stop])
        _need(crc == r.crc, f"checksum {crc:#010x}, the record says {r.crc:#010x}")
        _zero(data[stop:at + r.padded], "padding")
        known = KNOWN.get(r.type)
        if known is None:
            if not r.flags & 1:
                raise Newer(f"type {r.type} needs a newer build")
        else:
            decode, flags = known
            _need(r.flags == flags, f"flags {r.flags:#x} in a record of type {r.type}")
            decode(r, bytes(data[at + HEAD:stop]))
        self.lsn += 1
        self.incarnation = r.incarnation
        return r


# ---- segments

class Segment:
    """stream, timeline, first_lsn, last_lsn, incarnation_before, incarnation_after, hash_before,
    hash, records."""

    def follows(self, before):
        """None, or what does not fit."""
        if (self.stream, self.timeline) != (before.stream, before.timeline):
            return "another stream or timeline"
        if self.first_lsn != before.last_lsn + 1:
            return f"begins with LSN {self.first_lsn}, {before.last_lsn + 1} is due"
        if self.hash_before != before.hash:
            return "the hash before it is not that of the segment before"
        if self.incarnation_before != before.incarnation_after:
            return "the incarnation before it is not that of the segment before"
        return None


def _segment_header(data):
    s = Segment()
    magic, version, reserved, draft, s.stream, s.timeline, s.first_lsn, s.incarnation_before, \
        s.hash_before, rest = struct.unpack_from("<8sHHI16s16sQQ32s32s", data)
    _need(magic == b"TIDESEG0", "no segment")
    _need((version, draft) == (VERSION, DRAFT),
          f"version {version} draft {draft}, this reader knows version {VERSION} draft {DRAFT}")
    _need(reserved == 0, "reserved field of the header is not zero")
    _zero(rest, "end of the header")
    _id(s.stream, "stream")
    _id(s.timeline, "timeline")
    _need(1 <= s.first_lsn < LIMIT63, f"first LSN {s.first_lsn}")
    _need((s.incarnation_before == 0) == (s.first_lsn == 1),
          "incarnation 0 and LSN 1 do not go together")
    _need((not any(s.hash_before)) == (s.first_lsn == 1),
          "no hash before and LSN 1 do not go together")
    return s


def read_segment(data):
    _need(SEG_HEAD + HEAD + TRAILER + 32 <= len(data) <= SEGMENT_MAX,
          f"a segment of {len(data)} bytes")
    s = _segment_header(data)
    trailer = len(data) - 32 - TRAILER
    magic, s.last_lsn, s.incarnation_after, body, writes, zeroes, data_bytes, count, reserved = \
        struct.unpack_from("<8sQQQQQQII", data, trailer)
    _need(magic == b"TIDEFOOT", "no trailer")
    _need(reserved == 0, "reserved field of the trailer is not zero")
    _need(count <= ENTRIES_MAX, f"{count} entries")
    _need(HEAD <= body <= SEGMENT_MAX and body % 8 == 0, f"body of {body} bytes")
    _need(SEG_HEAD + body + ENTRY * count == trailer,
          f"body of {body} bytes and {count} entries in a segment of {len(data)} bytes")
    s.hash = hashlib.sha256(data[:-32]).digest()
    _need(s.hash == data[-32:], "the hash is not that of the segment")

    due = Due(s.stream, s.first_lsn, s.incarnation_before)
    s.records = []
    at, end = SEG_HEAD, SEG_HEAD + body
    try:
        while at < end:
            r = due.take(data, at, end)
            if r.type == ATTACH:
                _need(r.timeline == s.timeline, "an attach with another timeline")
            s.records.append(r)
            at += r.padded
    except Wrong as e:
        raise type(e)(f"offset {at}, LSN {s.first_lsn + len(s.records)}: {e}", s.records,
                      True) from None

    if any(r.type == BOOKMARK for r in s.records[:-1]):
        raise Wrong("a bookmark is not the last record of its segment", s.records)
    listed = [r for r in s.records if r.type in LISTED]
    of = {k: [r for r in s.records if r.type == k] for k in (WRITE, ZERO)}
    try:
        for k, r in enumerate(listed[:count]):
            entry = struct.unpack_from("<QIIH14s", data, end + ENTRY * k)
            _need(entry == (r.lsn, r.at, r.padded, r.type, bytes(14)),
                  f"entry {k} of the footer is not that of LSN {r.lsn}")
        said = (s.last_lsn, s.incarnation_after, writes, zeroes, data_bytes, count)
        there = (due.lsn - 1, due.incarnation, len(of[WRITE]), len(of[ZERO]),
                 sum(r.size for r in of[WRITE]), len(listed))
        _need(said == there, f"the footer says {said}, the body has {there}")
    except Wrong as e:
        raise Wrong(f"footer: {e}", s.records) from None
    return s


# ---- logs

class Log:
    """stream, sequence (of the first file), records, position and lsn at which it ends, torn."""


def _log_header(data):
    _need(len(data) >= LOG_HEAD, f"{len(data)} bytes, the header of a log file has {LOG_HEAD}")
    magic, crc, draft, stream, sequence, size, lsn, incarnation, rest = \
        struct.unpack_from("<8sII16sQQQQ448s", data)
    _need(magic == b"TIDELOG0", "no log file of version 0")
    _need(crc == crc32c(data[12:LOG_HEAD]), "checksum of the header")
    _need(draft == DRAFT, f"draft {draft}, this reader knows draft {DRAFT}")
    _id(stream, "stream")
    _need(4096 <= size <= 1 << 40 and size % 512 == 0, f"file size {size}")
    _need(sequence < LIMIT63 // size, f"sequence {sequence}")
    _need(1 <= lsn < LIMIT63, f"first LSN {lsn}")
    _need((incarnation == 0) == (lsn == 1), "incarnation 0 and LSN 1 do not go together")
    _zero(rest, "end of the header")
    return Record(stream=stream, sequence=sequence, size=size, lsn=lsn, incarnation=incarnation)


def unused(data):
    return len(data) >= LOG_HEAD and not any(data[:LOG_HEAD])


def read_ring(files):
    """The files of one ring in its order, None where one is not there."""
    heads = {}
    for k, data in enumerate(files):
        try:
            h = _log_header(data) if data is not None else None
        except Wrong:
            h = None
        if h is not None and h.sequence % len(files) == k:
            heads[h.sequence] = h
    _need(heads, "no file of the ring has a right header")
    return _read_from(files, heads[min(heads)])


def read_log_file(data):
    """One file of a ring by itself."""
    return _read_from([data], _log_header(data))


def _read_from(files, head):
    log = Log()
    log.stream, log.sequence, log.records, log.torn = head.stream, head.sequence, [], None
    log.first_lsn = head.lsn
    due = Due(head.stream, head.lsn, head.incarnation)
    at = LOG_HEAD
    while True:
        data = files[head.sequence % len(files)]
        end = min(len(data), head.size)
        try:
            r = due.take(data, at, end)
        except Newer as e:
            raise Newer(f"offset {at}, LSN {due.lsn}: {e}", log.records, True) from None
        except Wrong as why:
            following = _next_file(files, head, due)
            if following is not None:
                head, at = following, LOG_HEAD
                continue
            try:
                due.head(data, at, end)
                log.torn = f"LSN {due.lsn} at {at} is torn: {why}"
            except Wrong:
                pass
            log.position = head.sequence * head.size + at
            log.lsn = due.lsn
            return log
        r.bytes = bytes(data[at:at + r.padded])
        log.records.append(r)
        at += r.padded


def _next_file(files, head, due):
    data = files[(head.sequence + 1) % len(files)]
    if len(files) == 1 or data is None:
        return None
    try:
        h = _log_header(data)
        Due(due.stream, due.lsn, due.incarnation).take(data, LOG_HEAD, min(len(data), h.size))
    except Newer:
        pass
    except Wrong:
        return None
    right = (h.sequence, h.stream, h.size, h.lsn, h.incarnation) == (
        head.sequence + 1, head.stream, head.size, due.lsn, due.incarnation)
    return h if right else None


def read(data):
    """A file of either form: ('segment', Segment), ('log', Log) or ('unused', None)."""
    if data[:7] == b"TIDELOG":
        return "log", read_log_file(data)
    if unused(data):
        return "unused", None
    return "segment", read_segment(data)
