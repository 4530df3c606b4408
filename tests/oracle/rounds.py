# SPDX-License-Identifier: Apache-2.0
"""Small groups of streams by a seed, in which all that may befall a round does: gaps, restarts,
resizes, copies, seals of every outcome, seals that lie, second bookmarks, other orders, missing
beginnings. For comparing two readers' answers: nothing here knows the right one."""
import os
import random

import align
import hrl
import make

STREAMS = 3


def _plan(rng, chance, rounds, unheld):
    """The records of one stream: a list of (what, options)."""
    plan = [("attach", {"bits": 7 if rng.random() < 0.95 else 3})]
    for ident in rounds:
        for _ in range(rng.randrange(3)):
            plan.append(("write", {}))
        if rng.random() < chance / 2:
            plan.append((rng.choice(["attach", "gap"]), {}))
        if rng.random() < chance / 2:  # what may stand anywhere and changes no answer by itself
            plan.append(("resize", {}))
        if rng.random() < chance / 2:
            continue
        plan.append(("bookmark", {"ident": ident, "unheld": unheld, "other":
                                  rng.random() < chance / 3}))
        between = rng.random()
        if between < chance:
            plan.append((rng.choice(["write", "attach", "gap", "bookmark", "stray", "other seal",
                                     "resize", "copy"]),
                         {"ident": rng.choice(rounds), "unheld": unheld, "other": False}))
        if rng.random() > chance / 2:
            plan.append(("seal", {"ident": ident, "outcome": (4 if unheld else 1)
                                  if rng.random() > chance else rng.randrange(1, 5),
                                  "bad": rng.random() < chance / 4}))
        if rng.random() < chance / 2:
            plan.append(("bookmark", {"ident": ident, "unheld": unheld, "other": False}))
    return plan


class Group:
    """One definition and its streams, written to a folder."""

    def __init__(self, seed):
        rng = self.rng = random.Random(seed)
        self.epoch = seed + 1
        self.streams = [rng.randbytes(16) for _ in range(STREAMS)]
        self.definition = make.definition(self.streams, self.epoch)
        self.rounds = [rng.randbytes(16) for _ in range(3)]
        self.hash = align.Definition(self.definition).hash
        self.count = STREAMS if rng.random() < 0.96 else STREAMS + 1
        self.scope = 1 if rng.random() < 0.7 else 2
        self.set = bytes([rng.choice([7, 7, 7, 7, 3, 5] if self.scope == 1 else [1, 2, 4, 3, 7])])
        chance = rng.choice([0.0, 0.05, 0.15, 0.4])
        unheld = rng.random() < 0.15
        self.lacks_start = rng.random() < chance / 2
        self.plans = [_plan(rng, chance, self.rounds,
                            unheld != (rng.random() < chance / 8)) for _ in self.streams]

    def _order(self, other):
        order = {"epoch": self.epoch, "epoch_hash": self.hash, "count": self.count,
                 "members": self.set, "scope": self.scope, "kind": 1}
        if other:
            order.update(self.rng.choice([
                {"scope": 3 - self.scope}, {"kind": 2}, {"group": b"\x78" * 16}, {"members": b"\6"},
                {"epoch": self.epoch + 1}, {"epoch_hash": b"\x89" * 32}]))
        return order

    def records(self):
        """Each stream's records, encoded. Seals come second: H needs all bookmarks."""
        streams, firsts = [], {}
        for k, plan in enumerate(self.plans):
            incarnation, size, last, out = 0x5A + k, 1 << 20, {}, []
            for lsn, (what, o) in enumerate(plan, 1):
                head = {"stream": self.streams[k], "incarnation": incarnation}
                if what == "attach" and lsn > 1:
                    incarnation = head["incarnation"] = incarnation + 100
                    out.append(make.attach(lsn, bits=1, size=size, **head))
                elif what == "attach":
                    out.append(make.attach(lsn, **o, **head))
                elif what == "write":
                    out.append(make.write(lsn, **head))
                elif what == "resize":
                    out.append(make.resize(lsn, size=size + 512, old=size, **head))
                    size += 512
                elif what == "copy":
                    out.append(make.copy_begin(lsn, kind=3, size=size, **head))
                elif what == "gap":
                    out.append(make.gap(lsn, **head))
                elif what == "bookmark":
                    data = make.bookmark(lsn, ident=o["ident"], nonce=self.rng.randbytes(16),
                                         bits=int(o["unheld"]), **self._order(o["other"]), **head)
                    out.append(data)
                    last[o["ident"]] = lsn
                    if self.set[0] >> k & 1:
                        firsts.setdefault((o["ident"], k), hrl.Due(
                            self.streams[k], lsn, incarnation).take(data, 0, len(data)))
                else:
                    out.append((what, o, lsn, last.get(o["ident"], 1), head))
            streams.append(out)
        cuts = {i: align.cut_hash([b for (r, _), b in firsts.items() if r == i] or
                                  list(firsts.values())[:1]) if firsts else bytes(32)
                for i in self.rounds}
        return [[r if isinstance(r, bytes) else self._seal(cuts, *r) for r in out]
                for out in streams]

    def _seal(self, cuts, what, o, lsn, of, head):
        outcome, cut, ident = o.get("outcome", 1), cuts[o["ident"]], o["ident"]
        if what == "stray":  # of another LSN: passed over
            return make.seal(lsn, of=max(of - 1, 1), ident=ident, cut=cut, **head)
        if what == "other seal":  # names the bookmark but another round
            ident = bytes(15) + b"\1"
        if o.get("bad"):
            cut = bytes(31) + b"\1"
        return make.seal(lsn, of=of, ident=ident, outcome=outcome,
                         cut=cut if outcome in (1, 4) else bytes(32), **head)

    def write(self, folder):
        os.makedirs(os.path.join(folder, "definitions", "shop"), exist_ok=True)
        with open(os.path.join(folder, "definitions", "shop", f"{self.epoch:020}.pb"), "wb") as f:
            f.write(self.definition)
        for stream, records in zip(self.streams, self.records()):
            self._segments(os.path.join(folder, "streams", stream.hex()), stream, records)

    def _segments(self, folder, stream, records):
        os.makedirs(folder)
        for first, last, data in make.segments(records, stream, lambda: self.rng.random() < 0.3):
            if not (self.lacks_start and first == 1):
                with open(os.path.join(folder, f"{first:020}-{last:020}.hrl"), "wb") as f:
                    f.write(data)
