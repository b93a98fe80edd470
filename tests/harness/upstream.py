"""A tiny upstream that shows what it was sent, over plain TCP or TLS.

It reads one request at a time, keeps its exact bytes, and answers what the test says: a function
from `Received` to bytes, or the same small chat answer for everyone.
"""

import json
import socket
import ssl
import threading

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "mock-model",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


class Received:
    """One request as it came."""

    def __init__(self, head, body, tls_name):
        self.raw_head, self.body, self.tls_name = head, body, tls_name
        line, *fields = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = line.split(" ")
        self.fields = [tuple(field.split(": ", 1)) for field in fields if field]

    def all(self, name):
        """Every value of a header."""
        return [value for field, value in self.fields if field.lower() == name]

    def one(self, name):
        """The value of a header that must stand exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def json(self):
        return json.loads(self.body)


def json_answer(value, status="200 OK", fields=()):
    """A whole HTTP answer."""
    body = json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode() + body


class Upstream:
    """Listens on a free port of `host`. `certificate`: (chain file, key file) for TLS."""

    def __init__(self, answer=None, host="127.0.0.1", certificate=None):
        self.answer = answer or (lambda _: json_answer(ANSWER))
        self.requests, self.names = [], []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port = self.listener.getsockname()[1]
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
            self.context.sni_callback = lambda _, name, __: self.names.append(name)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if certificate else 'http'}://{shown}:{self.port}"
        self._stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            with client:
                held = b""
                while not self._stopping:
                    received, held = self._receive(client, held)
                    if received is None:
                        return
                    if received.target.split("?")[0].endswith("/health"):
                        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        continue
                    self.requests.append(received)
                    answer = self.answer(received)
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        client.sendall(piece)
        except OSError:
            client.close()

    def _receive(self, client, held):
        while b"\r\n\r\n" not in held:
            more = client.recv(65_536)
            if not more:
                return None, b""
            held += more
        head, body = held.split(b"\r\n\r\n", 1)
        name = self.names[-1] if self.names else None
        received = Received(head, b"", name)
        length = int((received.all("content-length") or ["0"])[0])
        while len(body) < length:
            more = client.recv(65_536)
            if not more:
                return None, b""
            body += more
        received.body = body[:length]
        return received, body[length:]

    def stop(self):
        self._stopping = True
        self.listener.close()
