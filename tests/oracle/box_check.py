# SPDX-License-Identifier: Apache-2.0
"""Two writers and readers of boxes, box.py's and that of a program: what one writes the other
reads, and what is no box, or no longer, both refuse with the code of proto/box.md."""
import hashlib
import os
import random
import re
import struct
import subprocess
import tempfile

import zstandard

import box as b
from corpus import flip, put

NAME, KEY_ID, KEY, GENERATION = "streams/ä b/1.box", bytes(range(1, 17)), bytes(range(32)), 3
KEYS = {(KEY_ID, GENERATION): KEY}
VERSION, CORRUPT, LIMIT, DENIED = "VERSION", "CORRUPT", "LIMIT", "DENIED"


class Tool:
    """The other writer and reader."""

    def __init__(self, program, folder):
        self.program, self.file = program, os.path.join(folder, "box")

    def run(self, *arguments, given=b""):
        return subprocess.run([self.program, *arguments], input=given, capture_output=True,
                              timeout=60, check=False)

    def write(self, content, keys, salt, name, block_size, level):
        """The box; or what happened, as text."""
        (key_id, generation), key = next(iter(keys.items()))
        done = self.run("write", self.file, name, key_id.hex(), key.hex(), str(generation),
                        salt.hex(), str(level), str(block_size), given=content)
        if done.returncode != 0:
            return f"exit {done.returncode}: {done.stderr[-200:]}"
        with open(self.file, "rb") as f:
            return f.read()

    def read(self, box, keys, name):
        """The content, or the code; or what else happened."""
        (key_id, generation), key = next(iter(keys.items()))
        with open(self.file, "wb") as f:
            f.write(box)
        done = self.run("read", self.file, name, key_id.hex(), key.hex(), str(generation))
        codes = set(re.findall(rb"\b(?:VERSION|CORRUPT|LIMIT|DENIED)\b", done.stderr))
        if done.returncode == 0:
            return done.stdout
        if done.returncode == 1 and len(codes) == 1:
            return codes.pop().decode()
        return f"exit {done.returncode}: {done.stderr[-200:]}"


def ours(box, keys, name):
    try:
        return b.read(box, keys, name)
    except b.Refused as e:
        return e.code


def brief(answer):
    return f"content of {len(answer)} bytes" if isinstance(answer, bytes) else answer


# ---- contents

def contents(rng):
    """(kind, content, block size, level)."""
    for block in (4096, 65536):
        for size in (0, 1, block - 1, block, block + 1, 3 * block + rng.randrange(1, block)):
            noise = rng.randbytes(size)
            text = b"".join(b"%d of %d\n" % (i * i, size) for i in range(size // 8 + 1))[:size]
            mixed, nearly = bytearray(noise), bytearray(noise)
            for at in range(0, size, block):
                end = min(size, at + block)
                if at // block % 2:
                    mixed[at:end] = text[at:end]
                end = min(end, at + block // 32 + rng.randrange(40))  # as much smaller as just pays
                nearly[at:end] = bytes(end - at)
            for kind, content in (("text", text), ("noise", noise), ("mixed", bytes(mixed)),
                                  ("nearly", bytes(nearly))):
                for level in (0, 1, 3):
                    yield kind, content, block, level


def wrong_writing(box, mine, kind, content, level):
    """None, or what is wrong with a box that the other wrote."""
    if not isinstance(box, bytes):
        return box
    try:
        opened, got = b.Box(box, KEYS, NAME), b.read(box, KEYS, NAME)
    except b.Refused as e:
        return str(e)
    if got != content or box[:b.HEAD] != mine[:b.HEAD]:
        return "another header" if got == content else "another content"
    for n, (_, stored, raw) in enumerate(opened.places):
        size = b.due(len(content), opened.block_size, n)
        if not raw and (level == 0 or 32 * (stored - b.TAG) > 31 * size):
            return f"block {n} is compressed, from {size} to {stored - b.TAG}"
        if raw and level and size > 1000 and (kind == "text" or kind == "mixed" and n % 2):
            return f"block {n} is raw"  # what compresses by half with any zstd
    if (level == 0 or kind == "noise") and box != mine:
        return "not the same bytes, and nothing is compressed"
    return None


def parts_right(rng, box, content):
    """Whether parts read as they should, with every block spoilt that has nothing of them."""
    opened = b.Box(box, KEYS, NAME)
    for _ in range(3):
        at = rng.randrange(len(content) + 1)
        size = rng.randrange(min(len(content) - at, 2 * opened.block_size) + 1)
        spoilt = box
        for n, (place, stored, _) in enumerate(opened.places):
            if size == 0 or n not in range(at // opened.block_size,
                                           (at + size - 1) // opened.block_size + 1):
                spoilt = put(spoilt, place, bytes(stored))
        if b.read_part(spoilt, KEYS, NAME, at, size) != content[at:at + size]:
            return False
    return True


# ---- boxes that are none: (what, box, what both must say, keys, name); some are right, to be read

class Made:
    """A box, and what it takes to make it another way."""

    def __init__(self, content, salt, block_size=4096, level=3, **head):
        self.content, self.inner = content, hashlib.sha256(content).digest()
        self.head = b.header(KEY_ID, GENERATION, salt, block_size, **head)
        self.cipher = b.Cipher(self.head, KEY, NAME)
        self.packed = [b.pack(content[at:at + block_size], level)
                       for at in range(0, len(content), max(block_size, 1))]
        self.words = [len(data) + b.TAG | (b.RAW if raw else 0) for data, raw in self.packed]
        self.ends = [b.HEAD + sum(w & ~b.RAW for w in self.words[:n])
                     for n in range(len(self.words) + 1)]
        self.box = self.forge()

    def forge(self, packed=None, words=None, size=None, inner=None):
        """With the right key and tags, and something else in it."""
        packed = self.packed if packed is None else packed
        if words is None:
            words = [len(data) + b.TAG | (b.RAW if raw else 0) for data, raw in packed]
        return b.assemble(self.head, self.cipher, packed, struct.pack(
            f"<Q32s{len(words)}I", len(self.content) if size is None else size,
            self.inner if inner is None else inner, *words))


def refused(what, box, due=CORRUPT, keys=KEYS, name=NAME):
    return what, box, due, keys, name


def torn(rng, made, other):
    """Bytes changed, without the key."""
    box, ends = made.box, made.ends
    places = [*range(b.HEAD), *range(len(box) - b.TAIL, len(box)), *ends, ends[-1] + 1,
              *(rng.randrange(b.HEAD, len(box)) for _ in range(60))]
    for at in places:
        bit = rng.randrange(8)
        code = VERSION if at in (8, 9) else CORRUPT
        yield refused(f"bit {bit} of {at}", flip(box, at, bit), code)
    for size in (0, 1, 8, 95, 96, 103, 159, 160, *ends, len(box) - 8, len(box) - 1,
                 *(rng.randrange(len(box)) for _ in range(10))):
        yield refused(f"cut to {size}", box[:size])
        yield refused(f"cut to {size}, a tail", box[:size] + box[-b.TAIL:] * (size < len(box) - 8))
    for at, end in (*zip(ends, ends[1:]), (0, b.HEAD), (ends[-1], len(box) - b.TAIL), (0, 1)):
        yield refused(f"without {at}..{end}", box[:at] + box[end:])
    for at in (0, *ends, len(box) - b.TAIL, len(box)):
        for more in (b"\0", bytes(16), box[-b.TAIL:], box[b.HEAD:ends[1]], box[ends[-1]:], box):
            yield refused(f"{len(more)} more bytes at {at}", box[:at] + more + box[at:])
    index = ends[-1]
    for k, mixed in enumerate((box + other.box, other.box + box, box[:-8] + other.box,
                               box[:b.HEAD] + other.box[b.HEAD:], box[:index] + other.box[index:],
                               box[:ends[1]] + other.box[other.ends[1]:])):
        yield refused(f"two put together, {k}", mixed)
    yield refused("a block of another box",
                  box[:ends[1]] + other.box[ends[1]:ends[2]] + box[ends[2]:])
    for size in (0, 52, 55, 57, 56, 60, len(box) - 104 + 4, 1 << 22, 60 + (1 << 22), 1 << 31,
                 0xFFFFFFF8, 0xFFFFFFFC, 0xFFFFFFFF):
        yield refused(f"tail of an index of {size}", box[:-8] + b.tail(size))


def elsewhere(made):
    """The right box, asked for in another way."""
    for name in (NAME + " ", NAME[1:], "a\u0308".join(NAME.split("ä")), "x", NAME.upper()):
        yield refused(f"as {name!r}", made.box, name=name)
    yield refused("another key", made.box, keys={(KEY_ID, GENERATION): flip(KEY, 31, 7)})
    for key_id, generation in ((flip(KEY_ID, 15), GENERATION), (KEY_ID, GENERATION + 1),
                               (KEY_ID, GENERATION + (1 << 31)), (KEY_ID[::-1], GENERATION)):
        keys = {(key_id, generation): KEY}
        yield refused(f"key {key_id.hex()}:{generation}", made.box, DENIED, keys)
        yield refused("and no tail", put(made.box, len(made.box) - 1, b"?"), DENIED, keys)
        yield refused("and a bad header", put(made.box, 90, b"?"), keys=keys)


def heads(made, salt):
    """Headers that are wrong, with a checksum that is right."""
    def changed(what, at, new, code=CORRUPT):
        head = put(made.head[:92], at, new)
        head += struct.pack("<I", b.crc32c(head))
        return refused(f"header: {what}", head + made.box[96:], code)
    yield changed("magic", 6, b"Y")
    yield changed("magic's end", 7, b"1")
    for at in (10, 11, *range(68, 92)):
        yield changed(f"reserved byte {at}", at, b"\x80")
    yield changed("key id", 20, b"?", DENIED)
    for generation in (0, GENERATION + 1, GENERATION + (1 << 24)):
        yield changed(f"generation {generation}", 32, struct.pack("<I", generation), DENIED)
    yield changed("salt", 36, b"?")
    for size in (0, 1, 2048, 4097, 6144, 8192, 2048 << 10, 1 << 31, 0xFFFFFFFF):
        yield changed(f"block size {size}", 12, struct.pack("<I", size))
    for version in (0, 2, 0x101, 0xFFFF):
        yield changed(f"version {version}", 8, struct.pack("<H", version), VERSION)
        yield refused("version, and all after it", put(made.box[:10] + bytes(200), 8,
                                                       struct.pack("<H", version)), VERSION)
    # the same sealed with the key: nothing but the header is wrong
    some = made.content[:5000]
    for size in (0, 2048, 4097, 6144, 2048 << 10, 1 << 31):
        yield refused(f"sealed: block size {size}",
                      Made(some if size else b"", salt, min(size, 1 << 31), 0).box)
    yield refused("sealed: reserved", Made(some, salt, zero=1).box)
    yield refused("sealed: reserved end", Made(some, salt, rest=bytes(23) + b"\1").box)
    yield refused("sealed: magic", Made(some, salt, magic=b"TIDEBOXS").box)
    yield refused("sealed: version 2", Made(some, salt, version=2).box, VERSION)


def indexes(made, empty):
    """Forged with the key. Block 0 and 2 are compressed, 1 is raw, so is the last, shorter one."""
    words, size, packed = made.words, len(made.content), made.packed
    for add in ((1, -1, 0, 0), (1, 0, -1, 0), (1, 0, 0, 0), (-1, 0, 0, 0), (0, 0, 0, 1),
                (0, 0, 0, -1), (-words[0], 0, words[0], 0), (16 - words[0], 0, words[0] - 16, 0),
                (b.RAW - 1 - words[0], 0, 0, 0), (words[2], 0, -words[2], 0)):
        yield refused(f"sizes {add}", made.forge(words=[w + a for w, a in zip(words, add)]))
    for n in range(len(words)):
        new = words[n] ^ b.RAW
        yield refused(f"raw bit of block {n}", made.forge(words=words[:n] + [new] + words[n + 1:]))
    for other in (0, 1, size - 1, size + 1, 3 * 4096, 4 * 4096, 4 * 4096 + 1, 1 << 32,
                  size + (1 << 32), size + (1 << 44), 1 << 63, (1 << 64) - 4096, (1 << 64) - 1):
        yield refused(f"content size {other}", made.forge(size=other))
        if other:
            yield refused(f"no block, content size {other}", empty.forge(size=other))
    for forged in (words + [17], words[:-1], []):
        yield refused(f"{len(forged)} sizes for 4 blocks", made.forge(words=forged))
    for forged in (packed[:-1], packed + packed[-1:], packed + [(b"", True)]):
        yield refused(f"{len(forged)} blocks and sizes", made.forge(forged))
    yield refused("inner hash", made.forge(inner=flip(made.inner, 31)))
    yield refused("no block, inner hash", empty.forge(inner=bytes(32)))
    box, ends, order = made.box, made.ends, (2, 1, 0, 3)
    swapped = [packed[n] for n in order]
    yield refused("contents of blocks swapped", made.forge(swapped))
    moved = box[:b.HEAD] + b"".join(box[ends[n]:ends[n + 1]] for n in order)
    index = made.cipher.seal(1, 4, b.index_of(swapped, size, made.inner))
    yield refused("blocks moved, and their sizes", moved + index + box[-8:])
    index = b.index_of(packed, size, made.inner)
    for kind, n, more in ((0, 4, 0), (1, 3, 0), (1, 5, 0), (2, 4, 0), (1, 4, 1), (1, 4, 3)):
        sealed = made.cipher.seal(kind, n, index + bytes(more))
        yield refused(f"index and {more} bytes, sealed as {kind}, {n}",
                      box[:ends[4]] + sealed + b.tail(len(sealed)))
    yield refused("a block sealed as an index", box[:ends[1]] + made.cipher.seal(
        1, 1, packed[1][0]) + box[ends[2]:])
    for n, code in ((b.BLOCKS_MAX, CORRUPT), (b.BLOCKS_MAX + 1, LIMIT), (3 * b.BLOCKS_MAX, LIMIT)):
        yield refused(f"{n} blocks", made.head + bytes(56 + 4 * n) + b.tail(56 + 4 * n), code)


def frames(made):
    """Blocks forged with the key; those to be read among them, lest all are refused for another
    reason."""
    first, last = made.content[:4096], made.content[3 * 4096:]
    zstd, whole, magic = zstandard.ZstdCompressor(level=3), made.packed[0][0], b"\x28\xb5\x2f\xfd"
    summed = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress
    skip = b"\x50\x2a\x4d\x18\1\0\0\0x"
    rle = struct.pack("<I", 1 | 1 << 1 | len(last) << 3)[:3] + b"x"
    same, checked, nearly = b"x" * len(last), summed(first), made.content[4096:8102] + bytes(90)
    wrong = [(f"frame of {len(part)} bytes", n, part, compress(part)) for n, part in (
        (0, first[1:]), (0, first + b"x"), (0, b""), (0, bytes(16 << 20)), (3, same[1:]),
        (3, same + b"x")) for compress in (zstd.compress, summed)]
    wrong += [(f"raw block of {len(part)} bytes", n, part, part) for n, part in (
        (1, nearly[1:]), (1, bytes(4097)), (1, b""), (3, bytes(4096)))]
    wrong += [
        ("not a frame", 0, first, b"x" * 64), ("frame and a byte", 0, first, whole + b"\0"),
        ("frame cut", 0, first, whole[:-1]), ("its checksum cut off", 0, first, checked[:-4]),
        ("its checksum", 0, first, flip(checked, len(checked) - 1)),
        ("two frames", 0, first, zstd.compress(first[:99]) + zstd.compress(first[99:])),
        ("two frames, all and nothing", 0, first, whole + zstd.compress(b"")),
        ("frame to skip, then right", 0, first, skip + whole),
        ("right, then frame to skip", 0, first, whole + skip),
        ("says 2^60 bytes", 3, same, magic + b"\xe0" + struct.pack("<Q", 1 << 60) + rle),
        ("says 255 bytes", 3, same, magic + b"\x20\xff" + rle),
        ("of a dictionary", 3, same, magic + b"\x21\x07" + bytes([len(same)]) + rle),
        ("of zstd 0.7", 3, same, b"\x27\xb5\x2f\xfd\x20\x64\x80\0\x64x\xc0\0\0"),
        ("compressed to more than its bytes", 3, last, zstd.compress(last))]
    right = [
        ("as it was", 0, first, whole), ("raw though it need not be", 0, first, first),
        ("size not said, with a checksum", 0, first, checked),
        ("a byte again and again", 3, same, magic + b"\x20" + bytes([len(same)]) + rle),
        ("a window of 8 MiB", 3, same, magic + b"\0" + bytes([13 << 3]) + rle),
        ("smaller by less than a 32nd", 1, nearly, zstd.compress(nearly))]
    for what, n, part, data in wrong + right:  # with that part's inner hash: it refuses none
        content = made.content[:4096 * n] + part + made.content[4096 * (n + 1):]
        box = made.forge(made.packed[:n] + [(data, data is part)] + made.packed[n + 1:],
                         inner=hashlib.sha256(content).digest())
        yield refused(what, box, content if (what, n, part, data) in right else CORRUPT)


def changes(rng):
    text, noise = b"".join(b"%d %d\n" % (i, i * i) for i in range(2000)), rng.randbytes(1 << 14)
    content = text[:4096] + noise[:4096] + text[4096:8192] + noise[4096:4096 + 100]
    made, other = Made(content, rng.randbytes(32)), Made(content, rng.randbytes(32))
    empty = Made(b"", rng.randbytes(32))
    assert [raw for _, raw in made.packed] == [False, True, False, True]
    yield from torn(rng, made, other)
    yield from elsewhere(made)
    yield from heads(made, rng.randbytes(32))
    yield from indexes(made, empty)
    yield from frames(made)


# ---- check

def check(program, seed):
    rng, bad = random.Random(seed), []

    def expect(what, condition, detail=""):
        if not condition:
            bad.append(what)
            print(f"FAILED: {what}: {detail}", flush=True)

    with tempfile.TemporaryDirectory(prefix="tidemark-box-") as folder:
        tool, written = Tool(program, folder), 0
        for kind, content, block, level in contents(rng):
            what = f"{kind} of {len(content)} bytes, block size {block}, level {level}"
            salt = rng.randbytes(32)
            mine = b.write(content, KEY, KEY_ID, GENERATION, salt, NAME, block, level)
            expect(what, ours(mine, KEYS, NAME) == content, "box.py reads another content")
            expect(what, parts_right(rng, mine, content), "box.py reads another part")
            got = tool.read(mine, KEYS, NAME)
            expect(what, got == content, f"the program reads {brief(got)}")
            theirs = tool.write(content, KEYS, salt, NAME, block, level)
            why = wrong_writing(theirs, mine, kind, content, level)
            expect(what, why is None, f"the program writes: {why}")
            written += 1
        for changed, (what, box, due, keys, name) in enumerate(changes(rng), 1):
            for who, reader in (("box.py", ours), ("the program", tool.read)):
                got = reader(box, keys, name)
                expect(what, got == due, f"{who} says {brief(got)}, due is {brief(due)}")
    print(f"seed {seed}: {written} contents, {changed} changed boxes, {len(bad)} wrong")
    return 1 if bad else 0
