#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two readers of one format: `tidemark` and the one in this folder, which was written from
proto/hrl.md alone. They must agree, and with what is known to be right.

  oracle.py vectors   the page's own vectors
  oracle.py corpus    each file of corpus.py, and changes of good files by a seed, checksums mended
  oracle.py rounds    groups of streams by a seed: the same answer for each round
  oracle.py disks     what is whole, and disks: tales of corpus.py, and others by a seed
  oracle.py fires     the same with this reader spoilt: each time, that is found out
  oracle.py live      three daemons: points and disks judged from the store alone, then from stores
                      that were harmed or forged

TIDE_SEED=n changes the seed of corpus, rounds and disks."""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import align  # noqa: E402
import corpus  # noqa: E402
import hrl  # noqa: E402
import make  # noqa: E402
import rounds  # noqa: E402
import tales  # noqa: E402
import whole  # noqa: E402
from cluster import Cluster, Failed, Nbd, Writer  # noqa: E402

SEED = int(os.environ.get("TIDE_SEED", "1"))
BEGAN = time.monotonic()


def step(text):
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def check(what, condition, detail=""):
    if not condition:
        raise Failed(f"{what}: {detail}")


def tidemark(*arguments):
    """(exit status, JSON or None, standard error)."""
    done = subprocess.run([os.path.join(os.environ["TIDE_BUILD"], "bin", "tidemark"), *arguments,
                           "-o", "json"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


# ---- vectors

def vectors():
    for data, crc in ((b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA),
                      (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        check("CRC-32C", hrl.crc32c(data) == crc, data)
    first, second = hrl.read_segment(corpus.FIRST), hrl.read_segment(corpus.SECOND)
    third = hrl.read_segment(corpus.THIRD)
    check("sizes", (len(corpus.FIRST), len(corpus.SECOND), len(corpus.THIRD)) == (904, 408, 1240))
    for r, crc, size in zip(first.records + second.records + third.records,
                            (0xEB18F519, 0xB2AD0206, 0x6BACFA17, 0x860F92FE, 0x58BFAB5E,
                             0x485630C4, 0x99762C9D, 0xF85F3D7F, 0x42DAB4F8, 0x8A5B2AB2,
                             0x8B137280, 0xD1516B1D, 0x98601F4C),
                            (216, 88, 88, 224, 152, 80, 88, 88, 88, 88, 224, 80, 88)):
        check("record", (r.crc, r.padded) == (crc, size), f"LSN {r.lsn}: {r.crc:#x} {r.padded}")
    for s, text in ((first, "6bd1a312c8e68062a729c1132642bf75ab6c847f5b090bc0638414c13bf0523f"),
                    (second, "65ea61c50caa3673c44b10143d730ab316a329b6fbafe123a1e03b6fbf5477ad"),
                    (third, "f1aa2a2822fa26905e9800599290c8adcabcc53d4d6a20e39d9ac799af656f2f")):
        check("segment hash", s.hash.hex() == text, s.hash.hex())
    for before, after in ((first, second), (second, third)):
        check("chain", after.follows(before) is None, after.follows(before))
    stream = b"\x12" * 16
    other = hrl.Due(stream, 9, 0x5B).take(make.bookmark(
        9, stream=stream, incarnation=0x5B, nonce=b"\x9a" * 16), 0, 224)
    for marks in ([first.records[3], other], [other, first.records[3]]):
        check("cut hash", align.cut_hash(marks) == make.CUT, align.cut_hash(marks).hex())
    head = make.log(sequence=7, size=1 << 20, first=5, before=0x5A, rest=b"")
    check("log header", head[8:12] == struct.pack("<I", 0x9566451A), head[8:12].hex())
    example = bytes.fromhex("""48524c72 61fec398 0300 0000 15000000 0200000000000000
        0807060504030201 000102030405060708090a0b0c0d0e0f 07ca9a3b00000000 0000000000000000
        0010000000000000 05000000 00000000 68656c6c6f 000000""")
    r = hrl.Due(bytes(range(16)), 2, 0x0102030405060708).take(example, 0, len(example))
    check("example", (r.offset, r.data, r.clock) == (4096, b"hello", 1000000007))
    a, b = make.attach(), make.write()
    ring = [make.log(a, b, sequence=2), make.log(make.zero(), sequence=3, first=3,
                                                 before=make.INCARNATION)]
    check("ring", [r.lsn for r in hrl.read_ring(ring).records] == [1, 2, 3])
    ring[1] = make.log(make.zero(), sequence=5, first=3, before=make.INCARNATION)
    check("an older file is not the next", len(hrl.read_ring(ring).records) == 2)


# ---- files

def oracle_says(data):
    """(verdict, records, whether that count is fixed by the page, text)."""
    try:
        form, found = hrl.read(data)
    except hrl.Wrong as e:
        return "refused", len(e.records), e.in_record, str(e)
    if form == "unused":
        return "unused", 0, True, ""
    torn = form == "log" and found.torn is not None
    return "torn" if torn else "ok", len(found.records), True, found.torn if torn else ""


def tidemark_says(paths, between):
    """path -> (verdict, records or None: refused before the first, text). `between` keeps one
    file's chain from the next's."""
    _, checked, error = tidemark("hrl", "check", *[p for path in paths for p in (path, between)])
    check("hrl check says something", checked is not None and len(checked) == 2 * len(paths), error)
    _, shown, error = tidemark("hrl", "show", *paths)
    check("hrl show says something", shown is not None, error)
    counts = {s["file"]: len(s["records"]) for s in shown}
    answers = {}
    for c in checked[::2]:
        tail = "ok" if c["text"] == "ok" else "unused" if "not been used" in c["text"] else "torn"
        answers[c["file"]] = (tail if c["ok"] else "refused", counts.get(c["file"]), c["text"])
    return answers


def mutations(folder, count):
    """Files with a few bytes changed and their checksums mended. Yields paths."""
    rng = random.Random(SEED)
    bases = [corpus.CASES[n][0] for n in ("first.hrl", "second.hrl", "every-type.hrl",
                                          "attach-again.hrl", "copy.hrl", "resize.hrl", "first.log",
                                          "later.log", "resize.log")]
    bases += [corpus.CASES[f"tale-{n}.hrl"][0] for n in sorted(corpus.TALES)[::4]]
    for number in range(count):
        base = data = rng.choice(bases)
        segment = base[:7] == b"TIDESEG"
        at, starts = (hrl.SEG_HEAD if segment else hrl.LOG_HEAD), []
        while base[at:at + 4] == b"HRLr":
            starts.append(at)
            at += hrl.padded(hrl.HEAD + struct.unpack_from("<I", base, at + 12)[0])
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            place = rng.randrange(len(base) - 32) if segment else rng.randrange(at)
            kind = rng.random()
            if kind < 0.5:
                data = corpus.flip(data, place, rng.randrange(8))
            elif kind < 0.75:
                data = corpus.put(data, place, bytes([rng.choice((0, 1, 2, 127, 128, 255))]))
            else:
                data = corpus.put(data, place // 8 * 8, struct.pack(
                    "<Q", rng.choice((0, 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1))))
        for start in starts:
            data = make.recrc(data, start)
        if segment:
            data = make.rehash(data[:len(base)])
        elif rng.random() < 0.9:
            data = data[:8] + struct.pack("<I", hrl.crc32c(data[12:512])) + data[12:]
        path = os.path.join(folder, f"changed-{number:04}")
        with open(path, "wb") as f:
            f.write(data)
        yield path


def files(base):
    paths = []
    for name, (data, verdict, records) in corpus.CASES.items():
        says = oracle_says(data)
        check(f"{name} as the second reader sees it", says[0] == verdict and
              records in (None, says[1]), f"{says}, expected {verdict} {records}")
        paths.append(os.path.join(base, name))
        with open(paths[-1], "wb") as f:
            f.write(data)
    for name in corpus.PINNED:
        with open(os.path.join(corpus.FOLDER, name), "rb") as f:
            check(f"corpus/{name} is what corpus.py makes", f.read() == corpus.CASES[name][0])
    check("nothing else is in corpus/", sorted(os.listdir(corpus.FOLDER)) == sorted(corpus.PINNED))
    paths += mutations(base, 1200)
    answers = tidemark_says(paths, os.path.join(base, "unused.log"))
    counts, wrong = {}, []
    for path in paths:
        with open(path, "rb") as f:
            verdict, records, fixed, text = oracle_says(f.read())
        counts[verdict] = counts.get(verdict, 0) + 1
        ours = answers[path]
        due = corpus.CASES.get(os.path.basename(path), (0, 0, None))[2]
        # Where footer and record are wrong, the page does not say which of them is seen first.
        fixed = fixed and ours[1] is not None and "footer" not in ours[2]
        if ours[0] != verdict or fixed and ours[1] != records or \
                due is not None and (ours[1] or 0) != due:
            wrong.append(f"{os.path.basename(path)}: the second reader: {verdict} after {records} "
                         f"({text}); tidemark: {ours}")
    check("both readers agree", not wrong, "\n" + "\n".join(wrong))
    step(f"agree on {len(paths)} files: {counts}")
    check("each verdict was there", min(counts.get(v, 0) for v in ("ok", "refused", "torn")) > 2)


# ---- rounds

def answers_of_oracle(folder):
    """round -> answers, sorted. A round whose definition is not there has none that counts: it can
    not be known which streams its set names."""
    return {i.hex(): sorted((r.answer, r.label) if r.definition else ("", "no definition")
                            for r in several) for i, several in folder.rounds.items()}


def compare(path):
    """Both readers' answers for the rounds of a folder: they are equal. Returns the oracle's
    folder and the answer of tidemark."""
    folder = align.Folder(path)
    status, said, error = tidemark("hrl", "align", path)
    check("hrl align says something", said is not None, error)
    theirs = {}
    for r in said["rounds"]:
        theirs.setdefault(r["round"], []).append(
            (r["answer"], r["label"]) if r["judged_by"] == "definition" else ("", "no definition"))
    mine = answers_of_oracle(folder)
    differ = [f"{i}: the second reader {mine.get(i)} "
              f"{[r.why for r in folder.rounds.get(bytes.fromhex(i), [])]}, tidemark "
              f"{[(r['answer'], r['label'], r['why']) for r in said['rounds'] if r['round'] == i]}"
              for i in sorted(set(mine) | set(theirs)) if mine.get(i) != sorted(theirs.get(i, []))]
    check("both readers judge alike", not differ, "\n" + "\n".join(differ))
    check("both find the folder good, or neither", (status == 0) == (not folder.problems),
          f"{folder.problems}, {error}")
    return folder, said


def invent(path, number, count):
    for k in range(count):
        rounds.Group(SEED * 1000 + number * count + k).write(path)


def groups(base):
    counts = {}
    for part in range(2):
        path = os.path.join(base, str(part))
        invent(path, part, 60)
        folder, _ = compare(path)
        for several in answers_of_oracle(folder).values():
            for key in several:
                counts[key] = counts.get(key, 0) + 1
    step(f"agree on {sum(counts.values())} rounds: {counts}")
    for key in (("yes", "full"), ("yes", "partial"), ("yes", "single-vm"), ("yes", ""), ("no", ""),
                ("no", "unaligned"), ("unknown", "")):
        check(f"some are {key}", counts.get(key, 0) > 2, str(counts))


# ---- disks

def export(store, point, target, member="vm0", disk="data", since=None):
    """The image that `point export` makes, or None and why not. With `since`, a point: target holds
    it."""
    done = subprocess.run([
        os.path.join(os.environ["TIDE_BUILD"], "bin", "tidemark"), "point", "export", point,
        "--vm", member, "--disk", disk, "--to", target, "--store", store,
        *(["--from", since] if since else [])], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip()
    with open(target, "rb") as f:
        return f.read(), ""


def away(target):
    for name in (target, target + ".tidemark"):
        if os.path.exists(name):
            os.unlink(name)


class Told:
    """What tidemark says of tales that are written to a store: the answer for each probe, and the
    images of some, by themselves and each made from the one before."""

    def __init__(self, store, several, some):
        self.store, self.tales = store, several
        for t in several:
            t.write(store)
        status, said, error = tidemark("hrl", "align", store)
        check("hrl align reads every tale", status == 0, error)
        self.answers = {bytes.fromhex(r["round"]): r["answer"] for r in said["rounds"]}
        self.images, self.later = {}, {}
        self.target = os.path.join(store, "image")
        for t in several:
            self._images(t, some(t, self.answers))

    def _images(self, t, probes):
        last = None
        for k in probes:
            point = t.probes[k][0].hex()
            self.images[t, k] = export(self.store, point, self.target)
            if self.images[t, k][0] is None:
                away(self.target)
                continue
            if last is not None:
                away(self.target)
                export(self.store, t.probes[last][0].hex(), self.target)
                self.later[t, last, k] = export(self.store, point, self.target,
                                                since=t.probes[last][0].hex())
            last = k
            away(self.target)


def disk_of(stream, *where):
    """(bytes or None, why not)."""
    try:
        return stream.disk(*where), ""
    except hrl.Wrong as e:
        return None, str(e)


def differs(t, k, mine, theirs):
    if mine[0] == theirs[0]:
        return []
    sizes = [None if image is None else len(image) for image, _ in (mine, theirs)]
    return [f"{t.name}: the disk behind step {k}: the second reader {sizes[0]} ({mine[1]}), "
            f"tidemark {sizes[1]} ({theirs[1]})"]


def told_alike(told):
    """The second reader reads the tales as tidemark does. Returns its folder."""
    folder = align.Folder(told.store)
    check("the second reader reads every tale", not folder.problems, folder.problems)
    wrong = []
    for t in told.tales:
        for k, (ident, mark, _, _) in t.probes.items():
            mine = folder.rounds[ident][0].answer if ident in folder.rounds else None
            if mine != told.answers.get(ident):
                wrong.append(f"{t.name}: behind step {k}: the second reader {mine}, tidemark "
                             f"{told.answers.get(ident)}")
    for (t, k), theirs in told.images.items():
        mine = disk_of(folder.streams[t.stream], t.probes[k][1])
        wrong += differs(t, k, mine, theirs)
    for (t, first, k), theirs in told.later.items():
        stream = folder.streams[t.stream]
        since = t.probes[first][1]
        mine = disk_of(stream, t.probes[k][1], since, disk_of(stream, since)[0])
        if mine[0] is None and theirs[0] is not None:  # it may have read all of the stream again
            mine = disk_of(stream, t.probes[k][1])
        wrong += differs(t, f"{k} from {first}", mine, theirs)
    check("both readers tell alike", not wrong, "\n" + "\n".join(wrong))
    return folder


def told_right(told, folder):
    """The tales of corpus.py are read as they say, by the second reader."""
    wrong = []
    for t in told.tales:
        for k, (_, answer, disk) in enumerate(corpus.TALES[t.name][0]):
            ident, mark = t.probes[k][:2] if k in t.probes else (None, 0)
            if mark <= t.lacks:
                continue
            if folder.rounds[ident][0].answer != answer:
                wrong.append(f"{t.name}: behind step {k}: {folder.rounds[ident][0].answer}, "
                             f"expected {answer}")
            mine = disk_of(folder.streams[t.stream], mark)
            if disk == corpus.REFUSED and mine[0] is not None or \
                    isinstance(disk, bytes) and mine[0] != disk:
                wrong.append(f"{t.name}: the disk behind step {k} {mine}")
    check("the second reader is right", not wrong, "\n" + "\n".join(wrong))


def tales_of_corpus(base):
    several = [corpus.tale(name) for name in corpus.TALES]
    return Told(os.path.join(base, "corpus"), several,
                lambda t, _: [] if t.lacks else list(t.probes))


def tales_of_seed(base, count):
    rng = random.Random(SEED)
    several = [tales.invent(rng, n + 1) for n in range(count)]

    def some(t, answers):
        """Two places that are not whole, three that are: not the first, which are much alike."""
        of = {True: [], False: []}
        for k in [] if t.lacks else t.probes:
            of[answers.get(t.probes[k][0]) == "yes"].append(k)
        return sorted(rng.sample(of[False], min(2, len(of[False]))) + of[True][-3:])
    return Told(os.path.join(base, "invented"), several, some)


def disks(base):
    told = tales_of_corpus(base)
    told_right(told, told_alike(told))
    step(f"agree on {len(told.answers)} places in {len(told.tales)} tales, {len(told.images)} "
         f"disks, {len(told.later)} from an earlier one")
    told = tales_of_seed(base, 120)
    told_alike(told)
    counts = {a: list(told.answers.values()).count(a) for a in ("yes", "no", "unknown")}
    made = sum(image is not None for image, _ in told.images.values())
    step(f"agree on invented ones: {counts}, {made} disks, {len(told.images) - made} refused, "
         f"{len(told.later)} from an earlier one")
    check("each was there", min(*counts.values(), made, len(told.images) - made,
                                len(told.later)) > 10)


# ---- readers that are wrong: each must be found out

def _spoilt_rounds():
    """(what, where, name, the wrong one): found out by rounds."""
    stream = align.Stream
    good_hash, good_sealed, good_known = align.cut_hash, stream._sealed, stream.wholeness
    good_label = align.Round._label

    def any_outcome(bookmark, known, seal):
        seal.outcome = hrl.UNHELD if bookmark.unheld else hrl.HELD
        return good_sealed(bookmark, known, seal)

    return (
        ("a mark is missing in H", align, "cut_hash", lambda b: good_hash(b[:-1] or b)),
        ("any outcome is held", stream, "_sealed", staticmethod(any_outcome)),
        ("a gap is passed over", stream, "wholeness",
         lambda self: ((r, True) for r, _ in good_known(self))),
        ("a single VM's round is one of the group", align.Round, "_label",
         lambda self, s: "full" if len(s) == len(self.definition.disks) else "partial"),
        ("any set is a single VM's", align.Round, "_label",
         lambda self, s: "single-vm" if self.order[3] == 2 else good_label(self, s)))


def _spoilt_files():
    """Found out by the files of the corpus."""
    def known(kind, wrong):
        return {**hrl.KNOWN, kind: wrong}

    def unknown(kind):
        return {k: v for k, v in hrl.KNOWN.items() if k != kind}

    return (
        ("a seal's values are not looked at", hrl, "KNOWN",
         known(hrl.SEAL, (lambda r, b: None, 0))),
        ("reserved bytes are not looked at", hrl, "_zero", lambda value, name: None),
        ("resize is a type of later", hrl, "KNOWN", unknown(hrl.RESIZE)),
        ("a resize is not in the footer", hrl, "LISTED",
         tuple(k for k in hrl.LISTED if k != hrl.RESIZE)),
        ("sizes of disks are not looked at", hrl, "_disk_size", lambda size: None),
        ("copies of changes are of later", hrl, "CHANGES", hrl.FULL),
        ("gap reasons end with 8", hrl, "GAP_LAST", 8),
        ("gap reasons end with 11", hrl, "GAP_LAST", 11))


def _without(name):
    """A rule of Whole of which one effect is taken away: `name` keeps its value."""
    def spoil(rule, when=lambda r: True):
        good = whole.Whole.__dict__[rule]

        def wrong(self, r):
            kept = getattr(self, name)
            good(self, r)
            if when(r):
                setattr(self, name, kept)
        return whole.Whole, rule, wrong
    return spoil


def _spoilt_whole():
    """Found out by tales: what is whole."""
    w = whole.Whole
    good_take, good_counts, good_end = w.take, w._begin_counts, w._end_counts
    good_says, good_left = w._contradicts, w._left_out_was_read

    def passed_over(kind):
        return w, "take", lambda self, r: self.whole if r.type == kind else good_take(self, r)

    def is_resize(r):
        return r.type == hrl.RESIZE

    def is_attach(r):
        return r.type == hrl.ATTACH and r.lsn > 1

    def sums(self, r):
        return self.under_way is not None and r.begin_lsn == self.under_way.lsn

    def any_begin(self, r):
        b = self.under_way
        return b is not None and r.copied + r.others == b.disk_size

    good_rule_end = w._end

    def other_begin(self, r):
        kept = self.under_way
        good_rule_begin(self, r)
        self.under_way = self.under_way or kept
    good_rule_begin = w._begin

    def initial_by(allowed):
        return lambda self, r: self.size in (None, r.disk_size) and (
            r.copy_kind != hrl.INITIAL or allowed(self))

    def gap_while_whole(self, r):
        self.under_way, self.whole = None, False
        self.initial_allowed = self.initial_allowed and r.reason == hrl.GAP_BASE

    def any_gap(self, r):
        self.under_way, self.whole, self.initial_allowed = None, False, False

    return (
        ("a resize is passed over", *passed_over(hrl.RESIZE)),
        ("a resize ends being whole", w, "take", lambda self, r: setattr(
            self, "whole", good_take(self, r) and not is_resize(r)) or self.whole),
        ("a restart ends being whole", w, "take", lambda self, r: setattr(
            self, "whole", good_take(self, r) and not is_attach(r)) or self.whole),
        ("a gap leaves it whole", *_without("whole")("_gap")),
        ("a begin leaves it whole", *_without("whole")("_begin")),
        ("only a begin that counts ends it", w, "_begin", lambda self, r: good_counts(
            self, r) and good_rule_begin(self, r)),
        ("a copy goes on over a resize", *_without("under_way")("_size_said", is_resize)),
        ("a copy goes on over a restart", *_without("under_way")("_size_said", is_attach)),
        ("a copy goes on over a gap", *_without("under_way")("_gap")),
        ("a copy goes on over a begin that counts not", w, "_begin", other_begin),
        ("an end's sums are not looked at", w, "_end_counts", sums),
        ("an end of any begin counts", w, "_end_counts", any_begin),
        ("an end counts without a begin", w, "_end", lambda self, r: setattr(
            self, "whole", True) if self.under_way is None else good_rule_end(self, r)),
        ("a begin of another size counts", w, "_begin_counts", lambda self, r: (
            r.copy_kind != hrl.INITIAL or self.initial_allowed)),
        ("initial counts after any gap", w, "_begin_counts", initial_by(lambda self: True)),
        ("initial counts after a base gap while whole", w, "_gap", gap_while_whole),
        ("initial counts after no gap at all", w, "_gap", any_gap),
        ("initial counts after another size", *_without("initial_allowed")("_size_said")),
        ("changes needs what initial does", w, "_begin_counts", lambda self, r: good_counts(
            self, r) and (r.copy_kind == hrl.FULL or self.initial_allowed)),
        ("an attach of another size is passed over", w, "_contradicts",
         lambda self, r: r.type == hrl.RESIZE and good_says(self, r)),
        ("a resize from another size is passed over", w, "_contradicts",
         lambda self, r: r.type == hrl.ATTACH and good_says(self, r)),
        ("a resize contradicts by its new size", w, "_contradicts",
         lambda self, r: self.size is not None and self.size != r.disk_size),
        ("the first size read contradicts", w, "_contradicts",
         lambda self, r: self.size is None or good_says(self, r)),
        ("changes is as good as full", w, "_left_out_was_read",
         lambda self, b: good_left(self, b) or (True if b.copy_kind == hrl.CHANGES else None)),
        ("initial is as good as full", w, "_left_out_was_read",
         lambda self, b: good_left(self, b) or (True if b.copy_kind == hrl.INITIAL else None)),
        ("full is no better than changes", w, "_left_out_was_read",
         lambda self, b: True if self.from_start else None),
        ("no end counts", w, "_end_counts", lambda self, r: good_end(self, r) and False))


def _spoilt_disks():
    """Found out by tales: the disk."""
    i = whole.Image
    good_take, good_size, good_range = i.take, i._set_size, i._set_range

    def kept_past_the_end(self, size):
        past = getattr(self, "past", b"")
        before = bytes(self.bytes or b"") + past
        good_size(self, size)
        self.past = before[size:]
        self.bytes[:min(size, len(before))] = before[:size]

    def range_but(condition):
        return lambda self, r: None if condition(r) else good_range(self, r)

    def cut_off(self, r):
        room = len(self.bytes) - r.offset
        data = bytes(r.size) if r.type == hrl.ZERO else r.data
        if room > 0:
            self.bytes[r.offset:r.offset + min(r.size, room)] = data[:room]

    def resize_unchecked(self, r):
        if r.type == hrl.RESIZE:
            self._set_size(r.disk_size)
        else:
            good_take(self, r)

    def agree(explained):
        good = i._sizes_agree

        def wrong(self, r):
            if explained(r):
                self.unexplained = None
            good(self, r)
        return i, "_sizes_agree", wrong

    return (
        ("a resize leaves the disk as it is", i, "take", lambda self, r: (
            None if r.type == hrl.RESIZE else good_take(self, r))),
        ("an attach leaves the disk as it is", i, "take", lambda self, r: (
            None if r.type == hrl.ATTACH and r.lsn > 1 else good_take(self, r))),
        ("what was past the end comes back", i, "_set_size", kept_past_the_end),
        ("copy blocks are passed over", i, "_set_range", range_but(
            lambda r: r.type == hrl.COPY_BLOCK)),
        ("zeroes of a copy are passed over", i, "_set_range", range_but(
            lambda r: r.type == hrl.ZERO and r.zero_bits == 2)),
        ("discards are passed over", i, "_set_range", range_but(
            lambda r: r.type == hrl.ZERO and r.zero_bits == 1)),
        ("what is beyond the end is cut off", i, "_set_range", cut_off),
        ("the size before is not looked at", i, "take", resize_unchecked),
        ("another size needs no gap", *agree(lambda r: True)),
        ("another attach of that size needs no gap", *agree(
            lambda r: r.type == hrl.ATTACH)),
        ("any record may come before the gap", *agree(lambda r: r.type == hrl.ZERO)))


def fires(base):
    """The second reader, spoilt in one way at a time, no longer agrees with tidemark, or no longer
    sees the corpus as it is."""
    path, other = os.path.join(base, "rounds"), os.path.join(base, "files")
    os.makedirs(other)
    invent(path, 0, 60)
    compare(path)
    told = tales_of_corpus(base)
    told_alike(told)
    for spoilt, run, text in (
            (_spoilt_rounds(), lambda: compare(path), "both readers judge alike"),
            (_spoilt_files(), lambda: files(other), "as the second reader sees it"),
            (_spoilt_whole(), lambda: told_alike(told), ": behind step"),
            (_spoilt_disks(), lambda: told_alike(told), ": the disk behind step")):
        for what, owner, name, wrong in spoilt:
            right = owner.__dict__[name]
            setattr(owner, name, wrong)
            align.Folder.read.clear()
            try:
                run()
                said = "nothing"
            except (Failed, hrl.Wrong) as e:
                said = str(e)
            finally:
                setattr(owner, name, right)
            check(f"{what}: found out", text in said, said)
            step(f"found out: {what}")


# ---- a live store

def segments_of(store, stream):
    folder = os.path.join(store, "streams", stream, "segments")
    return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n.endswith(".hrl")]


def segment_with(store, stream, lsn):
    for path in segments_of(store, stream):
        with open(path, "rb") as f:
            s = hrl.read_segment(f.read())
        if s.first_lsn <= lsn <= s.last_lsn:
            return path, next(r for r in s.records if r.lsn == lsn)
    raise Failed(f"no segment of {stream} with LSN {lsn}")


def forge(store, stream, lsn, change):
    """Changes one record's bytes, then mends every checksum and hash from there on."""
    at, record = segment_with(store, stream, lsn)
    hash_before = None
    for path in segments_of(store, stream):
        if path < at:
            continue
        with open(path, "rb") as f:
            data = f.read()
        if path == at:
            end = record.at + record.padded
            data = data[:record.at] + change(data[record.at:end]) + data[end:]
            data = make.recrc(data, record.at)
        if hash_before is not None:
            data = corpus.put(data, 64, hash_before)
        data = make.rehash(data)
        hash_before = data[-32:]
        with open(path, "wb") as f:
            f.write(data)


def disks_of(point):
    return [(m["member"], d) for m in point["members"] for d in m["disks"]]


def judged(folder, point):
    several = folder.rounds.get(bytes.fromhex(point["point"]), [])
    check("one order for a round", len(several) == 1, point["point"])
    return several[0]


def rings(c, folder):
    """What the taps' logs still hold is what was shipped, record for record."""
    for disk in c.disks:
        files = []
        for name in sorted(os.listdir(disk.folder)):
            with open(os.path.join(disk.folder, name), "rb") as f:
                if name.startswith("ring-"):
                    files.append(f.read())
        log = hrl.read_ring(files)
        shipped = {r.lsn: (r.crc, r.body_size) for r in folder.streams[log.stream].records()}
        both = [r for r in log.records if r.lsn in shipped]
        check("log and segments overlap", len(both) > 10, f"{disk.folder}: {len(both)}")
        check("a record is the same in both", all(
            shipped[r.lsn] == (r.crc, r.body_size) for r in both), disk.folder)


def images(c, store, folder, points):
    """The disks at some points, as the second reader and as `point export` make them: by
    itself, and from the image of the point before. Returns how many."""
    target, seen, count, earlier = c.path("exported"), set(), 0, {}
    for point in (points[0], points[len(points) // 2], points[-1]):
        for member, d in disks_of(point):
            stream, name = folder.streams[bytes.fromhex(d["stream"])], f"{member}/{d['disk']}"
            mine = stream.disk(d["lsn"])
            theirs, error = export(store, point["point"], target, member, d["disk"])
            check("the same image", theirs == mine, f"{name} at {point['point']}: {error}")
            if name in earlier:
                before, lsn = earlier[name]
                away(target)
                export(store, before, target, member, d["disk"])
                theirs, error = export(store, point["point"], target, member, d["disk"], before)
                check("the same image from an earlier one", theirs == mine, f"{name}: {error}")
                check("the second reader's too", mine == stream.disk(
                    d["lsn"], lsn, stream.disk(lsn)), name)
            check("something was written", any(mine), name)
            away(target)
            seen.add(bytes(mine))
            earlier[name] = point["point"], d["lsn"]
            count += 1
    check("the images differ from each other", len(seen) > 10, len(seen))
    return count


def copied(folder, disk, lsn, held):
    """The disk that held data before its tap came has a stream with a copy in it."""
    stream = folder.streams[disk]
    kinds = [r.type for r in stream.records()]
    check("a gap, then a copy", kinds[1] == hrl.GAP and hrl.COPY_BEGIN in kinds and
          hrl.COPY_BLOCK in kinds and hrl.COPY_END in kinds, kinds[:20])
    known = {r.type: k for r, k in stream.wholeness() if r.type in (hrl.GAP, hrl.COPY_END)}
    check("and what it held", stream.disk(lsn)[4 << 20:][:len(held)] == held)
    check("whole from its end", known == {hrl.GAP: False, hrl.COPY_END: True}, known)


def harmed(c, store, name, point, change):
    """A copy of the store, changed; both readers' view of it and of the point."""
    path = c.path(name)
    shutil.copytree(store, path)
    change(path)
    folder, said = compare(path)
    step(f"{name}: {judged(folder, point).answer} ({judged(folder, point).why}); "
         f"{len(folder.problems)} problems")
    return folder, said


def scribble(c, rng):
    """Writes, zeroes and discards of every size, others on each disk, beyond what Writer writes."""
    for disk in c.disks:
        nbd = Nbd(disk.socket)
        for _ in range(12):
            size = 512 * rng.choice((1, 3, 8, 50))
            nbd.write((2 << 20) + 512 * rng.randrange(2048), rng.randbytes(size))
        for command in (4, 6):  # trim, write zeroes
            nbd._ask(command, (2 << 20) + 512 * rng.randrange(2048), 512 * rng.randrange(1, 64))
        nbd.close()


def live_run(c):
    rng = random.Random(SEED)
    held = rng.randbytes(300000)
    with open(c.disks[0].image, "r+b") as f:  # what lies there before the tap comes
        f.seek(4 << 20)
        f.write(held)
    c.start()
    scribble(c, rng)
    writers = [Writer(d, 0.04) for d in c.disks]
    for w in writers:
        w.start()
    c.wait_points("at first", 2, 15, {})
    tap = c.disks[-1]
    tap.tap.kill()
    tap.start()
    scribble(c, rng)
    c.wait_points("in all", 3, 20)
    for w in writers:
        w.end()
    for p in c.participants:
        check("a daemon ends", p.process.stop() == 0)
    points = sorted(c.points().values(), key=lambda p: p["time"])
    alone = c.command("point", "list", "--single-vm", "--local", c.coordinator_local)["points"]
    c.coordinator.stop()
    store = c.path("store")
    step(f"{len(points)} points, {len(alone)} of single VMs")

    folder, said = compare(store)
    for label, listed in (("full", points), ("single-vm", alone)):
        yes = {i.hex() for i, several in folder.rounds.items() for r in several
               if (r.answer, r.label) == ("yes", label)}
        check("the points listed are those of the rule", yes == {p["point"] for p in listed},
              f"{label}: {sorted(yes)}, listed {sorted(p['point'] for p in listed)}")
    for point in points:
        mine = judged(folder, point)
        check("label", mine.label == point["label"] == "full", point)
        check("cut hash", align.cut_hash(mine.bookmarks).hex() == point["cut"], point)
        check("marks", sorted((b.stream.hex(), b.lsn) for b in mine.bookmarks) == sorted(
            (d["stream"], d["lsn"]) for _, d in disks_of(point)), point)
    restarted = [s for s in folder.streams.values()
                 if sum(r.type == hrl.ATTACH for r in s.records()) == 2]
    check("one tap came twice", len(restarted) == 1, len(restarted))
    step(f"agree on {len(said['rounds'])} rounds")
    rings(c, folder)
    step("logs and segments have the same records")
    _, first = disks_of(points[-1])[0]
    copied(folder, bytes.fromhex(first["stream"]), first["lsn"], held)
    count = images(c, store, folder, points)
    step(f"agree on {count} images, and on those made from an earlier one")

    point = points[len(points) // 2]
    _, d = disks_of(point)[1]
    sealed, _ = segment_with(store, d["stream"], d["seal_lsn"])
    sealed = os.path.relpath(sealed, store)
    marked, mark = segment_with(store, d["stream"], d["lsn"])
    marked = os.path.relpath(marked, store)

    folder, _ = harmed(c, store, "seal-missing", point,
                       lambda path: os.unlink(os.path.join(path, sealed)))
    check("unknown", judged(folder, point).answer == "unknown" and folder.problems)
    check("the first is still one", judged(folder, points[0]).answer == "yes")

    def flip(path):
        with open(os.path.join(path, marked), "r+b") as f:
            f.seek(mark.at + 80)
            byte = f.read(1)[0]
            f.seek(mark.at + 80)
            f.write(bytes([byte ^ 1]))
    folder, _ = harmed(c, store, "bit-flipped", point, flip)
    check("unknown", judged(folder, point).answer == "unknown" and folder.problems)

    def other_hash(path):  # every seal of the round, alike
        for _, disk in disks_of(point):
            forge(path, disk["stream"], disk["seal_lsn"],
                  lambda r: r[:96] + bytes([r[96] ^ 1]) + r[97:])
    folder, _ = harmed(c, store, "cut-hash-forged", point, other_hash)
    check("no", judged(folder, point).answer == "no" and not folder.problems)
    check("no other point is hurt", sum(r.answer == "yes" for several in folder.rounds.values()
                                        for r in several) == len(points) - 1)

    def other_nonce(path):  # one bookmark: H no longer counts it
        forge(path, d["stream"], d["lsn"], lambda r: corpus.flip(r, 64 + 72))
    folder, _ = harmed(c, store, "nonce-forged", point, other_nonce)
    check("no", judged(folder, point).answer == "no" and not folder.problems)


def in_folder(part):
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of small files
    with tempfile.TemporaryDirectory(prefix="tidemark-oracle-", dir=memory) as base:
        part(base)


def live():
    c = Cluster(["web", "db", "app"], encrypted=False)
    try:
        live_run(c)
    except Failed as e:
        raise Failed(f"{e}\n{c.story()}") from None
    finally:
        c.close()


def main():
    parts = {"vectors": vectors, "corpus": lambda: in_folder(files),
             "rounds": lambda: in_folder(groups),
             "disks": lambda: in_folder(disks), "fires": lambda: in_folder(fires), "live": live}
    try:
        parts[sys.argv[1]]()
    except (Failed, hrl.Wrong, OSError, subprocess.SubprocessError) as e:
        print(f"FAILED: {e}")
        return 1
    step("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
