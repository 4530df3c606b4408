# SPDX-License-Identifier: Apache-2.0
"""A tap played by hand: the control socket of common/core/tapctl.h, version 3, and no disk."""
import os
import socket
import struct
import threading

MAGIC, VERSION = 0x4C544354, 3
HELLO, STATUS, RESYNC, DETACH, RESTREAM, RESIZE = 1, 8, 10, 11, 12, 13
WELCOME, STATE, DONE = 65, 70, 72
STATE_NUMBERS = ["incarnation", "next_lsn", "synced_lsn", "checkpoint_lsn", "stored_lsn",
                 "ring_bytes", "ring_used", "writes", "bytes", "holds", "hold_us_max", "gap_lsn",
                 "size", "dirty_bytes", "copy_total", "copy_rate", "copy_lsn", "compare_offset",
                 "restreams"]
COPY = ["none", "off", "running", "waiting", "failing", "comparing"]


class FakeTap:
    """Answers HELLO and STATUS from `state`, and orders with what `answer(type, body)` returns:
    (code, text), or None for silence. `orders` are those that came: (type, resync, force)."""

    def __init__(self, path, size=8 << 20):
        self.path = path
        self.stream = os.urandom(16)
        self.image = b"/image"
        self.state = {"incarnation": 7, "next_lsn": 5, "size": size, "ring_bytes": 16 << 20,
                      "clients": 0, "gap_reason": 0, "copy": "none", "whole": True,
                      "logging": True, "holding": False, "comparing": False}
        self.answer = lambda type, body: (0, "done")
        self.orders = []
        self.connection = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(4)
        self.ending = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def set(self, **changes):
        self.state = {**self.state, **changes}

    def hang_up(self):
        connection = self.connection
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.ending = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self.thread.join(10)
        self.listener.close()

    def _send(self, connection, type, serial, body, fds=()):
        head = struct.pack("<IHHII", MAGIC, VERSION, type, 16 + len(body), serial)
        socket.send_fds(connection, [head + body], fds)

    def _welcome(self, connection, serial):
        s = self.state
        body = self.stream + bytes([2]) * 16 + bytes([3]) * 16
        body += struct.pack("<QQIIQQQQQQBB", s["incarnation"], s["size"], 512, 2, 8 << 20, 0, 1,
                            512, 0, s["next_lsn"], s["whole"], s["logging"])
        body += self.image.ljust(128, b"\0")
        null = os.open("/dev/null", os.O_RDONLY)
        self._send(connection, WELCOME, serial, body, [null] * 3)
        os.close(null)

    def _state(self, connection, serial):
        s = self.state
        body = struct.pack("<19Q", *[s.get(n, 0) for n in STATE_NUMBERS])
        body += struct.pack("<IBBBBBB", s["clients"], s["gap_reason"], COPY.index(s["copy"]),
                            s["whole"], s["logging"], s["holding"], s["comparing"])
        self._send(connection, STATE, serial, body)

    def _serve(self, connection):
        while True:
            message = connection.recv(16384)
            if not message:
                return
            _, version, type, _, serial = struct.unpack("<IHHII", message[:16])
            if version != VERSION:
                raise AssertionError(f"version {version}")
            if type == HELLO:
                self._welcome(connection, serial)
            elif type == STATUS:
                self._state(connection, serial)
            elif type in (RESYNC, DETACH, RESTREAM, RESIZE):
                self.orders.append((type, message[16], message[17] == 1))
                answer = self.answer(type, message[16:])
                if answer is not None:
                    code, text = answer
                    self._send(connection, DONE, serial,
                               bytes([code]) + text.encode().ljust(128, b"\0"))

    def _run(self):
        while not self.ending:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connection = connection
            try:
                self._serve(connection)
            except OSError:
                pass
            self.connection = None
            connection.close()
