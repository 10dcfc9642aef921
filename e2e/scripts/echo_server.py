"""An echo server on 127.0.0.1:PORT with Python websockets, with a certificate over TLS:
echo_server.py [CERTIFICATE KEY] PORT"""

import asyncio
import ssl
import sys

from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def context():
    if len(sys.argv) < 4:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(sys.argv[1], sys.argv[2])
    return made


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[-1]), max_size=None, ssl=context()):
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
