#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP relay that makes a line long: usage: relay.py LISTEN TO CONTROL SEED

Each connection to LISTEN (address:port) is joined to one to TO. What comes is handed on in order, each
piece after a delay drawn anew. CONTROL is a file of four numbers, read before each piece: milliseconds
to TO, the most that is added to them at random, and the same two for the way back."""
import asyncio
import random
import sys

PIECE = 65536
QUEUE = 256  # pieces on their way; more wait with the sender


class Relay:
    def __init__(self, to, control, seed):
        self.host, self.port = to.split(":")
        self.control = control
        self.random = random.Random(seed)

    def drawn_s(self, back):
        with open(self.control, encoding="utf-8") as f:
            numbers = [float(n) for n in f.read().split()]
        least, more = numbers[2:4] if back else numbers[:2]
        return (least + self.random.uniform(0, more)) / 1000

    async def carry(self, source, sink, back):
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(QUEUE)

        async def deliver():
            while True:
                due, piece = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not piece:
                    return
                sink.write(piece)
                await sink.drain()
        delivery = asyncio.create_task(deliver())
        try:
            piece = b"."
            while piece and not delivery.done():
                piece = await source.read(PIECE)
                await queue.put((loop.time() + self.drawn_s(back), piece))
            await delivery
        finally:
            delivery.cancel()
            sink.close()

    async def join(self, source, sink):
        try:
            there, to_there = await asyncio.open_connection(self.host, self.port)
        except OSError:
            sink.close()
            return
        await asyncio.gather(self.carry(source, to_there, False), self.carry(there, sink, True),
                             return_exceptions=True)


async def main():
    listen, to, control, seed = sys.argv[1:]
    host, port = listen.split(":")
    server = await asyncio.start_server(Relay(to, control, int(seed)).join, host, int(port))
    async with server:
        await server.serve_forever()

if __name__ == "__main__":
    asyncio.run(main())
