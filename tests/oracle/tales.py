# SPDX-License-Identifier: Apache-2.0
"""A tale is what befell one disk: records, told as (what, options), which become a stream with
LSNs, incarnations and *probes*. A probe is a round of that stream alone, a bookmark and its seal:
its answer is yes, no or unknown as the stream is whole there, is not, or may be, and as a point it
can be exported. So what each record does to a stream shows outside of any reader.

corpus.py has tales with what is right; invent() makes others by a seed, and knows nothing of it."""
import hashlib
import json
import os

import align
import hrl
import make

STEPS = {"attach": make.attach, "write": make.write, "zero": make.zero, "gap": make.gap,
         "begin": make.copy_begin, "block": make.copy_block, "end": make.copy_end,
         "resize": make.resize, "skipped": lambda lsn, **o: make.record(77, lsn, b"", flags=1, **o)}


class Tale:
    """steps: [(what, options)]; an end's `begin` is the index of a step. probed: indices of the
    steps that have a probe behind them. lacks: the segments up to this LSN are not written; unread:
    those of that many steps, the last of which has a probe."""

    def __init__(self, name, steps, probed, number, cut=lambda: False, lacks=0,
                 unread=0):
        self.name, self.steps, self.number, self.lacks = name, steps, number, lacks
        self.stream = hashlib.sha256(f"stream {name}".encode()).digest()[:16]
        self.definition = make.definition([self.stream], number)
        self.hash = hashlib.sha256(self.definition).digest()
        self.probes = {}  # index of a step -> (round, LSN of the bookmark, LSN of the seal, H)
        self.records = []
        self._tell(probed)
        if unread:
            self.lacks = self.probes[unread - 1][1]
        self.segments = list(make.segments(self.records, self.stream, cut))

    def round(self, k):
        return hashlib.sha256(f"round {self.name} {k}".encode()).digest()[:16]

    def _tell(self, probed):
        lsns, incarnation = {}, 0x59
        for k, (what, options) in enumerate(self.steps):
            incarnation += what == "attach"
            head = {"stream": self.stream, "incarnation": incarnation}
            lsn = lsns[k] = len(self.records) + 1
            if what == "end":
                options = {**options, "begin": lsns.get(options["begin"], lsn - 1)}
            if what == "attach" and k:
                options = {"bits": 1, **options}
            self.records.append(STEPS[what](lsn, **options, **head))
            if k in probed:
                self._probe(k, lsn + 1, head)

    def _probe(self, k, lsn, head):
        data = make.bookmark(lsn, ident=self.round(k), epoch=self.number, epoch_hash=self.hash,
                             count=1, members=b"\1", nonce=self.round(k), **head)
        mark = hrl.Due(self.stream, lsn, head["incarnation"]).take(data, 0, len(data))
        cut = align.cut_hash([mark])
        self.records += [data, make.seal(lsn + 1, of=lsn, ident=self.round(k), cut=cut, **head)]
        self.probes[k] = self.round(k), lsn, lsn + 1, cut

    def as_segment(self):
        """The records without probes, as one file."""
        plain = Tale(self.name, self.steps, (), self.number)
        return plain.segments[-1][2]

    # ---- a store's folder

    def write(self, store):
        folder = os.path.join(store, "streams", self.stream.hex())
        os.makedirs(os.path.join(folder, "segments"))
        for group in ("definitions", "points"):
            os.makedirs(os.path.join(store, group, "shop"), exist_ok=True)
        self._file(store, f"definitions/shop/{self.number:020}.pb", self.definition)
        lines = [{"type": "created", "stream": self.stream.hex(), "timeline": make.TIMELINE.hex(),
                  "disk_id": (b"\x44" * 16).hex(), "group": "shop", "member": "vm0",
                  "disk": "data", "size": 1 << 20, "block_size": 4096}]
        for first, last, data in self.segments:
            if last > self.lacks:
                self._file(folder, f"segments/{first:020}-{last:020}.hrl", data)
                lines.append({"type": "segment", "first": first, "last": last,
                              "hash": data[-32:].hex(), "size": len(data)})
        for ident, mark, seal, cut in self.probes.values():
            if mark > self.lacks:
                lines.append({"type": "tag", "point": ident.hex(), "lsn": mark, "cut": cut.hex(),
                              "label": "aligned"})
                self._point(store, ident, mark, seal, cut)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        self._file(folder, "manifest.jsonl", text.encode())

    def _point(self, store, ident, mark, seal, cut):
        """As if it were one: whether the disk may be had there is the readers' affair."""
        disk = {"disk": "data", "stream": self.stream.hex(), "lsn": mark, "seal_lsn": seal,
                "hold_us": 900, "writes_held": 3, "bytes_held": 12288, "budget_us": 50000,
                "outcome": "held"}
        self._file(store, f"points/shop/{ident.hex()}.json", json.dumps({
            "point": ident.hex(), "group": "shop", "epoch": self.number,
            "epoch_hash": self.hash.hex(), "time": "2023-11-14T22:13:20.000Z",
            "wall_ns": 1700000000000000000, "kind": "crash", "scope": "group", "label": "full",
            "cut": cut.hex(), "missing": [],
            "members": [{"member": "vm0", "disks": [disk]}]}).encode())

    @staticmethod
    def _file(folder, name, data):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


# ---- invented ones

class _Plot:
    """Steps by chance: mostly what a tap would write, and with `chance` what none should."""

    def __init__(self, rng):
        self.rng = rng
        self.chance = rng.choice((0.0, 0.03, 0.1, 0.3))
        self.size = self._some_size()
        self.steps, self.quiet = [], set()
        self.begins = []

    def _some_size(self):
        return self.rng.choice((512, 513, 4096, 8192, 8192 + 512, 5000, 70000, 1 << 17))

    def _odd(self, part=1.0):
        return self.rng.random() < self.chance * part

    def _add(self, what, **options):
        self.steps.append((what, options))

    def _place(self, largest=3000):
        size = min(self.rng.randrange(1, largest), self.size)
        offset = self.rng.randrange(self.size - size + 1)
        return {"offset": offset + (self.size - offset if self._odd(0.1) else 0)}, size

    def _change(self):
        place, size = self._place()
        if self.rng.random() < 0.6:
            self._add("write", data=self.rng.randbytes(size), **place)
        else:
            self._add("zero", size=size, bits=self.rng.choice((0, 1)), **place)

    def _resize(self):
        old, new = self.size, self._some_size()
        if new == old:
            new += 1
        wrong = old + 1 if old + 1 != new else old + 2
        self._add("resize", size=new, old=wrong if self._odd() else old)
        self.size = new
        if self.rng.random() < 0.3:
            self._add("gap", reason=3)

    def _attach(self):
        if self.rng.random() < 0.6 and not self._odd():
            self._add("attach", size=self.size)
            return
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.size = self._some_size()
            self._add("attach", size=self.size)
            self.quiet.add(len(self.steps) - 1)
        if not self._odd():
            self._add("gap", reason=self.rng.choice((3, 4, 9)))

    def _gap(self):
        self._add("gap", reason=self.rng.choice((1, 1, 5, 6, 10)))

    def _begin(self):
        kind = self.rng.choice((1, 2, 3))
        size = self.size + (512 if self._odd(0.5) else 0)
        self.begins.append((len(self.steps), size))
        self._add("begin", kind=kind, size=size)

    def _end(self):
        begin, size = self.rng.choice(self.begins) if self._odd() else self.begins[-1]
        copied = self.rng.randrange(size + 1)
        self._add("end", begin=begin, copied=copied,
                  others=size - copied + (1 if self._odd(0.5) else 0))

    def _copy(self):
        self._begin()
        for _ in range(self.rng.randrange(4)):
            place, size = self._place()
            self.rng.choice((
                lambda: self._add("block", data=self.rng.randbytes(size), **place),
                lambda: self._add("zero", size=size, bits=2, **place), self._change))()
        if self.rng.random() < self.chance + 0.15:
            self.rng.choice((self._gap, self._attach, self._resize, self._begin,
                             lambda: self._add("skipped")))()
        self._end()
        if self.rng.random() < self.chance:
            self._end()

    def tell(self):
        whole = self.rng.random() < 0.5
        self._add("attach", size=self.size, bits=7 if whole else 3)
        if not whole and self.rng.random() < 0.9:
            self._add("gap", reason=1)
        for _ in range(self.rng.randrange(2, 8)):
            self.rng.choice((self._change, self._change, self._resize, self._attach, self._copy,
                             self._copy, self._gap, lambda: self._add("skipped")))()
        return self


def invent(rng, number):
    """A tale by `rng`. One in four lacks its beginning."""
    plot = _Plot(rng).tell()
    probed = [k for k in range(len(plot.steps)) if k not in plot.quiet or rng.random() < 0.05]
    lacks = rng.randrange(1, 2 * len(plot.steps)) if rng.random() < 0.25 else 0
    return Tale(f"invented {number}", plot.steps, probed, number, lambda: rng.random() < 0.3, lacks)
