#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The reader's rule of proto/hrl.md and proto/protocol.md over a folder of segments, apart from the
project's own: it judges each round from the streams and the definitions, and nothing else.

  align.py FOLDER                           each round with its answer and label
  align.py FOLDER --disk STREAM LSN FILE    the disk of a stream at that LSN, as an image
"""
import hashlib
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hrl  # noqa: E402
import whole  # noqa: E402

YES, NO, UNKNOWN = "yes", "no", "unknown"


# ---- definitions: the few fields of proto/intake.proto that the rule needs

def _varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise hrl.Wrong("a number of a definition is cut off or too long")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7


def fields(data):
    """(number, value) of a protobuf message: int, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            if size > len(data) - at:
                raise hrl.Wrong(f"field {key >> 3} of a definition is cut off")
            value, at = data[at:at + size], at + size
        else:
            raise hrl.Wrong(f"wire type {wire} in a definition")
        yield key >> 3, value


def _bytes(value):
    if not isinstance(value, bytes):
        raise hrl.Wrong("a field of a definition is not of its type")
    return value


class Definition:
    """group (id), epoch, hash; disks: (member, disk, stream) as bytes, in the definition's order."""

    def __init__(self, data):
        self.hash = hashlib.sha256(data).digest()
        self.group, self.epoch, self.disks = b"", 0, []
        for number, value in fields(data):
            if number == 2:
                self.group = _bytes(value)
            elif number == 4 and isinstance(value, int):
                self.epoch = value
            elif number == 5:
                member = list(fields(_bytes(value)))
                name = next((_bytes(v) for n, v in member if n == 1), b"")
                for _, disk in [f for f in member if f[0] == 4]:
                    parts = dict(fields(_bytes(disk)))
                    self.disks.append(tuple(_bytes(v) for v in (name, parts.get(1), parts.get(2))))


# ---- streams

class Stream:
    """The segments of one stream up to the first thing wrong with it."""

    def __init__(self, identity):
        self.id = identity
        self.segments = []
        self.problem = None

    def records(self):
        for s in self.segments:
            yield from s.records

    def wholeness(self):
        """(record, whole at it): True, False, or None where it cannot be known."""
        state = whole.Whole()
        for r in self.records():
            yield r, state.take(r)

    def answers(self):
        """round -> (bookmark, seal or None, answer, unheld, why) by its first bookmark here."""
        found = {}
        bookmark = None
        for r, known in self.wholeness():
            if bookmark is not None and r.type == hrl.SEAL and \
                    (r.bookmark_lsn, r.incarnation) == (bookmark.lsn, bookmark.incarnation):
                found[bookmark.round] = self._sealed(bookmark, at_bookmark, r)
                bookmark = None
            elif bookmark is not None and r.type in (hrl.GAP, hrl.ATTACH, hrl.BOOKMARK):
                found[bookmark.round] = (bookmark, None, NO, False, f"type {r.type} before a seal")
                bookmark = None
            if r.type == hrl.BOOKMARK and r.round not in found:
                # "unknown" only while yes is still possible: what is not whole can never say yes.
                found[r.round] = (r, None, NO, False, "not whole") if known is False else \
                    (r, None, UNKNOWN, False, "no seal yet")
                bookmark, at_bookmark = r, known
        return found

    @staticmethod
    def _sealed(bookmark, known, seal):
        if known is False:
            return bookmark, seal, NO, False, "not whole"
        if seal.round != bookmark.round:
            return bookmark, seal, NO, False, "the seal is of another round"
        if seal.outcome not in (hrl.HELD, hrl.UNHELD):
            return bookmark, seal, NO, False, f"outcome {seal.outcome}"
        if (seal.outcome == hrl.UNHELD) != bookmark.unheld:
            return bookmark, seal, NO, False, "flag and outcome unheld do not go together"
        if known is None:
            return bookmark, seal, UNKNOWN, bookmark.unheld, "the stream does not begin here"
        return bookmark, seal, YES, bookmark.unheld, ""

    def disk(self, lsn, since=0, disk=None):
        """The disk at `lsn`, as bytes; Wrong where it has none that a reader may give. With
        `since`: made from `disk`, which is the one at that LSN."""
        return whole.disk_at(self.records(), lsn, since, disk)


# ---- rounds

def cut_hash(bookmarks):
    b = bookmarks[0]
    text = b"tidemark cut 1" + struct.pack("<16sQ32sBH", b.round, b.epoch, b.epoch_hash, b.scope,
                                           b.count) + b.set
    text += struct.pack("<BI", b.kind, len(bookmarks))
    for mark in sorted((m.stream, m.incarnation, m.lsn, m.nonce) for m in bookmarks):
        text += struct.pack("<16sQQ16s", *mark)
    return hashlib.sha256(text).digest()


class Round:
    """round, answer, label ("", full, partial, single-vm, unaligned), why, bookmarks."""

    def __init__(self, identity, order, answers, definition):
        self.round, self.order, self.label, self.bookmarks = identity, order, "", []
        self.definition = definition
        self.answer, self.why = self._judge(answers)

    def _judge(self, answers):
        group, _, _, _, _, count, _ = self.order
        d = self.definition
        if d is None:
            return UNKNOWN, "the definition is not here"
        if group != d.group:
            return NO, "the definition is of another group"
        if count != len(d.disks):
            return NO, f"a set over {count} disks, the definition has {len(d.disks)}"
        bits = int.from_bytes(self.order[6], "little")
        streams = [d.disks[k][2] for k in range(count) if bits >> k & 1]
        parts = [answers.get((s, self.round)) for s in streams]
        for part in parts:
            if part is not None and (part[0].order != self.order or part[2] == NO):
                return NO, part[4] or "a bookmark of another order"
        said = [part for part in parts if part is not None and part[2] == YES]
        if len({part[1].cut for part in said}) > 1:
            return NO, "the seals carry different hashes"
        if len({part[3] for part in said}) > 1:
            return NO, "some disks were held and others not"
        for part in parts:
            if part is None or part[2] == UNKNOWN:
                return UNKNOWN, "no bookmark yet" if part is None else part[4]
        self.bookmarks = [part[0] for part in parts]
        if cut_hash(self.bookmarks) != parts[0][1].cut:
            return NO, "H is not the hash over the bookmarks"
        if parts[0][3]:
            self.label = "unaligned"
            return NO, "unheld"
        self.label = self._label(streams)
        return YES, ""

    def _label(self, streams):
        disks = self.definition.disks
        if self.order[3] == 1:
            return "full" if len(streams) == len(disks) else "partial"
        members = {d[0] for d in disks if d[2] in streams}
        theirs = [d for d in disks if d[0] in members]
        return "single-vm" if len(members) == 1 and len(theirs) == len(streams) else ""


class Folder:
    """All that a folder says: streams, definitions, rounds (round id -> [Round]), problems."""

    read = {}  # SHA-256 of an object's bytes -> the Segment they are; harmed copies share most

    def __init__(self, folder):
        self.streams, self.definitions, self.problems = {}, {}, []
        found = []
        for base, _, names in os.walk(folder):
            for name in sorted(names):
                path = os.path.join(base, name)
                try:
                    if name.endswith(".hrl"):
                        found.append((self._segment(self._bytes(path)), path))
                    elif name.endswith(".pb") and "definitions" in base.split(os.sep):
                        d = Definition(self._bytes(path))
                        self.definitions[d.epoch, d.hash] = d
                except hrl.Wrong as e:
                    self.problems.append(f"{path}: {e}")
        for s, path in sorted(found, key=lambda f: (f[0].stream, f[0].first_lsn, f[1])):
            self._add(s, path)
        self.rounds = self._judge()

    @staticmethod
    def _bytes(path):
        with open(path, "rb") as f:
            return f.read(hrl.SEGMENT_MAX + 1)

    @classmethod
    def _segment(cls, data):
        key = hashlib.sha256(data).digest()
        if key not in cls.read:
            cls.read[key] = hrl.read_segment(data)
        return cls.read[key]

    def _add(self, s, path):
        stream = self.streams.setdefault(s.stream, Stream(s.stream))
        if stream.segments and stream.problem is None:
            before = stream.segments[-1]
            if s.hash == before.hash:
                return  # a second copy of the same
            stream.problem = s.follows(before)
            if stream.problem is not None:
                self.problems.append(f"{path}: {stream.problem}")
        if stream.problem is None:
            stream.segments.append(s)

    def _judge(self):
        answers = {}
        orders = {}
        for stream in self.streams.values():
            for identity, part in stream.answers().items():
                answers[stream.id, identity] = part
                orders.setdefault(identity, set()).add(part[0].order)
        return {identity: [Round(identity, o, answers, self.definitions.get((o[1], o[2])))
                           for o in sorted(several)] for identity, several in orders.items()}


def main():
    folder = Folder(sys.argv[1])
    for text in folder.problems:
        print(text, file=sys.stderr)
    if len(sys.argv) == 6 and sys.argv[2] == "--disk":
        with open(sys.argv[5], "wb") as f:
            f.write(folder.streams[bytes.fromhex(sys.argv[3])].disk(int(sys.argv[4])))
    else:
        for identity, several in folder.rounds.items():
            for r in several:
                print(identity.hex(), r.answer, r.label, r.why)
    return 1 if folder.problems else 0


if __name__ == "__main__":
    sys.exit(main())
