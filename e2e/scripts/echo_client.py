"""Talks to an echo through a proxy and says ok: echo_client.py URL"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect


async def main():
    async with connect(sys.argv[1], max_size=None) as socket:
        for message in ["hello", "", "ä" * 1000, os.urandom(100_000), os.urandom(1_000_000)]:
            await socket.send(message)
            assert await socket.recv() == message, "not what was sent"
        # Fragmented: the echo answers with one whole message.
        await socket.send(["one ", "two ", "three"])
        assert await socket.recv() == "one two three"
        await (await socket.ping())
        many = [str(number) for number in range(1000)]
        for message in many:
            await socket.send(message)
        for message in many:
            assert await socket.recv() == message, "out of order"
        await socket.close(1000, "done")
        assert socket.close_code == 1000, socket.close_code
    print("ok")


asyncio.run(asyncio.wait_for(main(), 60))
