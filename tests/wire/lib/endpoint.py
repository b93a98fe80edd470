"""An endpoint whose every byte a test decides."""

import asyncio
import json
import socket

from .sock import Conn, Gone


class Endpoint:
    """Listens on loopback; each connection is handed to `handle(conn, number)`, numbered from 0.

    Connections that end without a byte (health probes) are not counted."""

    def __init__(self, handle):
        self.handle, self.requests, self.served = handle, [], 0
        self.faults = []
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.sock.setblocking(False)
        self.address = self.sock.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.tasks = set()

    async def __aenter__(self):
        self.keep(self.accept())
        return self

    async def __aexit__(self, kind, *_):
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.sock.close()
        if kind is None and self.faults:
            raise self.faults[0]

    def keep(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def accept(self):
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
            self.keep(self.serve(Conn(sock)))

    async def serve(self, conn):
        try:
            if await conn.fill(600):
                self.served += 1
                await self.handle(conn, self.served - 1)
        except (asyncio.CancelledError, Gone):
            # That the gateway ends a connection is nothing special; tests look at what it tells its client.
            pass
        except Exception as error:  # noqa: BLE001: told by the test's end
            self.faults.append(error)
        finally:
            conn.close()

    async def next(self, conn):
        """The next request, noted."""
        request = await conn.request(600)
        if request:
            self.requests.append(request)
        return request


ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def answer(body=ANSWER, status="200 OK", *headers, kind="application/json"):
    """A whole answer's bytes."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def delta(text):
    """A chat stream's event."""
    value = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def always(reply):
    """A handler that gives every request the same answer and keeps the connection."""

    async def handle(conn, _number):
        while await conn.request(600):
            await conn.send(reply)

    return handle
