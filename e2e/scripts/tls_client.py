"""Opens a tunnel over TLS for each line of JSON with Python websockets, and answers with a line: tls_client.py

url, ca: where to, and whom to believe. port: where that really is on this machine. certificate, key: our own, if any. rsa: only certificates of that kind are taken.
resume: takes up the session of the one before. The answer has the status and the name in the server's certificate.
"""

import json
import socket
import ssl
import sys

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


class Resuming(ssl.SSLContext):
    """Hands in a session wherever a socket is wrapped."""

    session = None

    def wrap_socket(self, *args, **kwargs):
        return super().wrap_socket(*args, session=self.session, **kwargs)


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


def ask(question):
    global kept
    made = kept if question.get("resume") and kept else context(question)
    at = socket.create_connection(("127.0.0.1", question["port"])) if question.get("port") else None
    try:
        with connect(question["url"], sock=at, ssl=made, max_size=None, open_timeout=20, close_timeout=20) as tunnel:
            for message in ["hello", b"", "ä" * 1000, bytes(100_000), bytes(range(256)) * 2000]:
                tunnel.send(message)
                assert tunnel.recv(timeout=20) == message, "not what was sent"
            names = dict(pair for part in tunnel.socket.getpeercert()["subject"] for pair in part)
            made.session = tunnel.socket.session
            kept = made
            return {"status": 101, "name": names["commonName"]}
    except InvalidStatus as refused:
        return {"status": refused.response.status_code}


for line in sys.stdin:
    print(json.dumps(ask(json.loads(line))), flush=True)
