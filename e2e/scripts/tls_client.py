"""Opens a tunnel over TLS for each line of JSON with Python websockets, and answers with a line: tls_client.py

url, ca: where to, and whom to believe. port: where that really is on this machine. certificate, key: our own, if any. rsa: only certificates of that kind are taken.
resume: takes up the session of the one before. The answer has the status and the name in the server's certificate.
"""

import asyncio
import json
import socket
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


class Resuming(ssl.SSLContext):
    """Hands in a session wherever a connection begins."""

    session = None

    def wrap_bio(self, *args, **kwargs):
        return super().wrap_bio(*args, session=self.session, **kwargs)


def context(question):
    made = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(question["ca"])
    if question.get("certificate"):
        made.load_cert_chain(question["certificate"], question["key"])
    if question.get("rsa"):
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    return made


# A session is good only with the context it began with.
kept = None


# Not the client with threads: one reads the server's tickets while another writes the request, and with this much of OpenSSL
# in common (before Python 3.13) the request is lost now and then.
async def ask(question):
    global kept
    made = kept if question.get("resume") and kept else context(question)
    at = socket.create_connection(("127.0.0.1", question["port"])) if question.get("port") else None
    try:
        async with connect(question["url"], sock=at, ssl=made, max_size=None, open_timeout=20, close_timeout=20) as tunnel:
            for message in ["hello", b"", "ä" * 1000, bytes(100_000), bytes(range(256)) * 2000]:
                await tunnel.send(message)
                assert await asyncio.wait_for(tunnel.recv(), 20) == message, "not what was sent"
            tls = tunnel.transport.get_extra_info("ssl_object")
            names = dict(pair for part in tls.getpeercert()["subject"] for pair in part)
            made.session = tls.session
            kept = made
            return {"status": 101, "name": names["commonName"]}
    except InvalidStatus as refused:
        return {"status": refused.response.status_code}


for line in sys.stdin:
    print(json.dumps(asyncio.run(ask(json.loads(line)))), flush=True)
