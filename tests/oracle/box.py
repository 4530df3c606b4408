#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second writer and reader of boxes, written from proto/box.md alone. It shares nothing with
the product's, and must stay so: where the two disagree, the page says who is wrong.

  box.py vector FILE                              writes the page's vector, prints its outer hash
  box.py read FILE NAME KEYID KEY GENERATION      its content; refused: exit 1, the code on stderr
  box.py write FILE NAME KEYID KEY GENERATION SALT LEVEL BLOCK      a box of what comes on stdin
  box.py check PROGRAM      box_check.py: against PROGRAM, which has the same read and write

KEYID, KEY and SALT are in hexadecimal. LEVEL is zstd's; 0: every block raw."""
import hashlib
import os
import struct
import sys

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hrl import crc32c

MAGIC, TAIL_MAGIC = b"TIDEBOX\0", 0x584F4254
HEAD, INDEX, TAIL, TAG = 96, 40, 8, 16
BLOCK_MIN, BLOCK_MAX, BLOCKS_MAX = 4096, 1 << 20, 1 << 20
RAW = 1 << 31


class Refused(Exception):
    """A box that a reader must refuse; .code is the page's word."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def _need(condition, text, code="CORRUPT"):
    if not condition:
        raise Refused(code, text)


# ---- both ways

class Cipher:
    """Encrypts and decrypts what is in one box. Kind 0: block n; kind 1: the index of n blocks."""

    def __init__(self, head, key, name):
        self.data = head + name.encode()
        self.aes = AESGCM(HKDF(SHA256(), 32, head[36:68], b"tidemark box 1").derive(key))

    def seal(self, kind, n, data):
        return self.aes.encrypt(struct.pack("<IQ", kind, n), data, self.data)

    def open(self, kind, n, data):
        try:
            return self.aes.decrypt(struct.pack("<IQ", kind, n), data, self.data)
        except InvalidTag:
            raise Refused("CORRUPT", f"the tag of {'index' if kind else f'block {n}'}") from None


def due(size, block_size, n):
    """Bytes of block n of a content of that size."""
    return min(block_size, size - n * block_size)


# ---- writer

def header(key_id, generation, salt, block_size, magic=MAGIC, version=1, zero=0, rest=bytes(24)):
    head = struct.pack("<8sHHI16sI32s24s", magic, version, zero, block_size, key_id, generation,
                       salt, rest)
    return head + struct.pack("<I", crc32c(head))


def pack(block, level):
    """(bytes before encryption, raw?)."""
    frame = zstandard.ZstdCompressor(level=level).compress(block) if level else block
    return (frame, False) if 32 * (len(block) - len(frame)) >= len(block) else (block, True)


def index_of(packed, size, inner):
    return struct.pack(f"<Q32s{len(packed)}I", size, inner,
                       *(len(data) + TAG | (RAW if raw else 0) for data, raw in packed))


def tail(index_size):
    return struct.pack("<II", index_size, TAIL_MAGIC)


def assemble(head, cipher, packed, index):
    blocks = [cipher.seal(0, n, data) for n, (data, _) in enumerate(packed)]
    index = cipher.seal(1, len(packed), index)
    return b"".join((head, *blocks, index, tail(len(index))))


def write(content, key, key_id, generation, salt, name, block_size=65536, level=0):
    if len(salt) != 32 or not BLOCK_MIN <= block_size <= BLOCK_MAX or block_size & block_size - 1:
        raise ValueError(f"salt of {len(salt)} bytes (32), block size {block_size}")
    head = header(key_id, generation, salt, block_size)
    packed = [pack(content[at:at + block_size], level) for at in range(0, len(content), block_size)]
    return assemble(head, Cipher(head, key, name), packed,
                    index_of(packed, len(content), hashlib.sha256(content).digest()))


def vector():
    content = bytes((7 * i + i // 256) % 256 for i in range(5000))
    return write(content, bytes(range(0x20, 0x40)), bytes(range(16)), 1, bytes(range(0x40, 0x60)),
                 "streams/a/1.box", 4096)


# ---- reader

def unpack(frame, size):
    """The bytes of one whole frame, which must be `size`. Fed in pieces: none of them, whatever it
    says, becomes much."""
    _need(frame[:4] == b"\x28\xb5\x2f\xfd", "no frame of RFC 8878")
    zstd, out, at = zstandard.ZstdDecompressor().decompressobj(), b"", 0
    while at < len(frame) and len(out) <= size and not zstd.eof:
        try:
            out += zstd.decompress(frame[at:at + 128])
        except zstandard.ZstdError as e:
            raise Refused("CORRUPT", f"frame: {e}") from None
        at += 128
    _need(zstd.eof and at >= len(frame) and not zstd.unused_data, "not one whole frame")
    _need(len(out) == size, f"a frame of {len(out)} bytes, {size} are due")
    return out


class Box:
    """An open box: .size, .inner, .places [(offset, stored size, raw)]; no block is read yet."""

    def __init__(self, box, keys, name):
        _need(len(box) >= HEAD + INDEX + TAG + TAIL, f"{len(box)} bytes")
        magic, version, zero, self.block_size, key_id, generation, _, rest, crc = \
            struct.unpack_from("<8sHHI16sI32s24sI", box)
        _need(magic == MAGIC, "no box")
        _need(version == 1, f"version {version}", "VERSION")
        _need(crc == crc32c(box[:HEAD - 4]), "checksum of the header")
        _need(zero == 0 and not any(rest), "a reserved byte is not zero")
        _need(BLOCK_MIN <= self.block_size <= BLOCK_MAX and
              self.block_size & self.block_size - 1 == 0, f"block size {self.block_size}")
        _need((key_id, generation) in keys, f"key {key_id.hex()}:{generation}", "DENIED")
        self.box, self.cipher = box, Cipher(box[:HEAD], keys[key_id, generation], name)
        self._index(*struct.unpack_from("<II", box, len(box) - TAIL))

    def _index(self, stored, magic):
        _need(magic == TAIL_MAGIC, "no tail")
        _need(stored >= INDEX + TAG and (stored - INDEX - TAG) % 4 == 0, f"index of {stored} bytes")
        end = len(self.box) - TAIL - stored
        _need(end >= HEAD, f"index of {stored} bytes in a box of {len(self.box)}")
        count = (stored - INDEX - TAG) // 4
        _need(count <= BLOCKS_MAX, f"{count} blocks", "LIMIT")
        index = self.cipher.open(1, count, self.box[end:end + stored])
        self.size, self.inner, *words = struct.unpack(f"<Q32s{count}I", index)
        _need(count == -(-self.size // self.block_size), f"{count} blocks for {self.size} bytes")
        self.places, at = [], HEAD
        for n, word in enumerate(words):
            size, raw = word & ~RAW, bool(word & RAW)
            most = due(self.size, self.block_size, n) + TAG
            _need(TAG < size <= most and (size == most or not raw), f"block {n} of {size} bytes")
            self.places.append((at, size, raw))
            at += size
        _need(at == end, f"blocks up to {at}, the index is at {end}")

    def block(self, n):
        at, size, raw = self.places[n]
        data = self.cipher.open(0, n, self.box[at:at + size])
        return data if raw else unpack(data, due(self.size, self.block_size, n))


def read(box, keys, name):
    """The content. keys: {(key id, generation): key}."""
    opened = Box(box, keys, name)
    content = b"".join(opened.block(n) for n in range(len(opened.places)))
    _need(hashlib.sha256(content).digest() == opened.inner, "the inner hash is not the content's")
    return content


def read_part(box, keys, name, offset, size):
    """content[offset:offset + size], from the blocks which have it alone."""
    opened = Box(box, keys, name)
    if not 0 <= offset <= offset + size <= opened.size:
        raise ValueError(f"{offset} + {size} is not within a content of {opened.size}")
    first, end = offset // opened.block_size, -(-(offset + size) // opened.block_size)
    found = b"".join(opened.block(n) for n in range(first, end if size else first))
    return found[offset - first * opened.block_size:][:size]


# ---- commands

def _key(key_id, key, generation):
    key_id, key, generation = bytes.fromhex(key_id), bytes.fromhex(key), int(generation)
    if len(key_id) != 16 or len(key) != 32:
        raise ValueError(f"id of {len(key_id)} bytes (16), key of {len(key)} (32)")
    return key_id, key, generation


def _read(file, name, *key):
    key_id, key, generation = _key(*key)
    with open(file, "rb") as f:
        box = f.read()
    try:
        sys.stdout.buffer.write(read(box, {(key_id, generation): key}, name))
    except Refused as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def _write(file, name, key_id, key, generation, salt, level, block_size):
    key_id, key, generation = _key(key_id, key, generation)
    box = write(sys.stdin.buffer.read(), key, key_id, generation, bytes.fromhex(salt), name,
                int(block_size), int(level))
    with open(file, "wb") as f:
        f.write(box)
    return 0


def _vector(file):
    with open(file, "wb") as f:
        f.write(vector())
    print(hashlib.sha256(vector()).hexdigest())
    return 0


def _check(program):
    import box_check  # which imports this module
    return box_check.check(program, int(os.environ.get("TIDE_SEED", "1")))


def main():
    commands = {"vector": (_vector, 1), "read": (_read, 5), "write": (_write, 8),
                "check": (_check, 1)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if command is None or len(sys.argv) != 2 + count:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return command(*sys.argv[2:])
    except (OSError, ValueError) as e:
        print(f"box.py: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
