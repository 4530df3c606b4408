# SPDX-License-Identifier: Apache-2.0
"""What a stream's records make of its disk, from "Size", "Whole", "Copy" and "The disk at an LSN"
of proto/hrl.md, and from nothing else: whether the stream is whole at a record, and the disk there.

  for r in records: whole.take(r), image.take(r)      in order, each of them once"""
import hrl

IMAGE_MAX = 1 << 30  # of bytes that this reader makes an image of


class Whole:
    """`whole` at the record taken last: True, False, or None where it cannot be known; `size`: the
    size in force, None before the first attach or resize that was read."""

    def __init__(self, disk=None):
        """disk: the bytes at an LSN at which the stream was whole, to go on from."""
        self.whole = None if disk is None else True
        self.size = None if disk is None else len(disk)
        self.from_start = disk is not None  # or LSN 1 was read
        self.initial_allowed = disk is None  # by the gaps and contradictions that were read
        self.under_way = None  # the begin of the copy under way

    def take(self, r):
        rule = {hrl.ATTACH: self._size_said, hrl.RESIZE: self._size_said, hrl.GAP: self._gap,
                hrl.COPY_BEGIN: self._begin, hrl.COPY_END: self._end}.get(r.type)
        if rule is not None:
            rule(r)
        return self.whole

    def _contradicts(self, r):
        if self.size is None:
            return False
        return self.size != (r.disk_size if r.type == hrl.ATTACH else r.size_before)

    def _size_said(self, r):
        self.under_way = None
        if r.lsn == 1:
            self.from_start, self.whole = True, r.base_zero
        elif self._contradicts(r):
            self.whole = self.initial_allowed = False
        self.size = r.disk_size

    def _gap(self, r):
        self.under_way = None
        if r.reason != hrl.GAP_BASE or self.whole is True:
            self.initial_allowed = False
        self.whole = False

    def _begin_counts(self, r):
        return self.size in (None, r.disk_size) and \
            (r.copy_kind != hrl.INITIAL or self.initial_allowed)

    def _begin(self, r):
        self.under_way = r if self._begin_counts(r) else None
        self.whole = False

    def _end_counts(self, r):
        begin = self.under_way
        return begin is not None and r.begin_lsn == begin.lsn and \
            r.copied + r.others == begin.disk_size

    def _end(self, r):
        if self._end_counts(r):
            self.whole = self._left_out_was_read(self.under_way)
            self.under_way = None

    def _left_out_was_read(self, begin):
        return True if self.from_start or begin.copy_kind == hrl.FULL else None


class Image:
    """`bytes`: the disk as the records taken so far make it, from LSN 1 or from a
    disk at an LSN on. What a reader must refuse is a Wrong, and the image is none any more."""

    def __init__(self, disk=None):
        self.bytes = None if disk is None else bytearray(disk)
        self.unexplained = None  # an attach of another size, and no gap yet

    def take(self, r):
        if self.bytes is None and r.lsn != 1:
            raise hrl.Wrong(f"LSN {r.lsn}: what was there before it was not read")
        if r.type not in hrl.KNOWN:
            return
        self._sizes_agree(r)
        if r.type in (hrl.ATTACH, hrl.RESIZE):
            self._set_size(r.disk_size)
        elif r.type in (hrl.WRITE, hrl.ZERO, hrl.COPY_BLOCK):
            self._set_range(r)

    def _sizes_agree(self, r):
        if r.type == hrl.ATTACH:
            if self.bytes is not None and r.disk_size != len(self.bytes):
                self.unexplained = r
        elif r.type == hrl.GAP:
            self.unexplained = None
        elif self.unexplained is not None:
            raise hrl.Wrong(f"LSN {r.lsn}: the disk came back with "
                            f"{self.unexplained.disk_size} bytes, and no gap says so")
        if r.type == hrl.RESIZE and r.size_before != len(self.bytes):
            raise hrl.Wrong(f"LSN {r.lsn}: a resize of {r.size_before} bytes, the disk has "
                            f"{len(self.bytes)}")

    def _set_size(self, size):
        if size > IMAGE_MAX:
            raise hrl.Wrong(f"a disk of {size} bytes: too large for this reader")
        if self.bytes is None:
            self.bytes = bytearray()
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))

    def _set_range(self, r):
        if r.offset + r.size > len(self.bytes):
            raise hrl.Wrong(f"LSN {r.lsn}: {r.offset} + {r.size} is beyond the disk's "
                            f"{len(self.bytes)} bytes")
        self.bytes[r.offset:r.offset + r.size] = \
            bytes(r.size) if r.type == hrl.ZERO else r.data


def disk_at(records, lsn, since=0, disk=None):
    """The disk at `lsn` by a stream's records in order, or by those after `since` on top of `disk`:
    bytes, or Wrong."""
    whole, image = Whole(disk), Image(disk)
    for r in records:
        if r.lsn <= since:
            continue
        whole.take(r)
        image.take(r)
        if r.lsn == lsn:
            if whole.whole is not True:
                raise hrl.Wrong(f"the stream is not whole at LSN {lsn}")
            return bytes(image.bytes)
    raise hrl.Wrong(f"there is no LSN {lsn}")
