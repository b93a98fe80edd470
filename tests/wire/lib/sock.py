"""Raw connections, with every byte and every kind of ending visible."""

import asyncio
import json
import socket
import struct
import time

PATIENCE = 10.0


class Gone(Exception):
    """The peer ended the connection where more was expected; `how` is "fin" or "rst"."""

    def __init__(self, how, got=b""):
        super().__init__(f"connection ended ({how}) after {got[-300:]!r}")
        self.how, self.got = how, got


class Message:
    """One HTTP message as it came."""

    def __init__(self, line, headers):
        self.line, self.headers = line, headers
        self.body, self.complete, self.interim = b"", True, []
        self.target = line.split(" ")[1] if " " in line else ""

    @property
    def status(self):
        return int(self.line.split(" ")[1])

    def header(self, name, default=None):
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else default

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.line!r} {self.headers} {len(self.body)} bytes {self.body[:300]!r} complete={self.complete}>"


class Conn:
    """One connection; either side."""

    def __init__(self, sock):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.buf, self.ended = sock, b"", None

    @classmethod
    async def open(cls, address, receive_bytes=None):
        """`receive_bytes` sets the receive buffer, for slow readers."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return cls(sock)

    async def send(self, data, patience=PATIENCE):
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                await loop.sock_sendall(self.sock, data)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Gone("rst") from error

    async def drip(self, data, size=1, pause=0.0):
        """Sends in pieces."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(pause)

    async def fill(self, patience=PATIENCE):
        """Reads once into `buf`; False at the connection's end."""
        if self.ended:
            return False
        try:
            data = await self.received(1 << 18, patience)
        except ConnectionResetError:
            self.ended = "rst"
            return False
        self.buf += data
        if not data:
            self.ended = "fin"
        return bool(data)

    async def received(self, count, patience):
        """One read. It takes place after all waiting, so that a wait given up loses nothing."""
        while True:
            try:
                return self.sock.recv(count)
            except BlockingIOError:
                pass
            loop = asyncio.get_running_loop()
            ready = loop.create_future()
            loop.add_reader(self.sock, lambda: ready.done() or ready.set_result(None))
            try:
                async with asyncio.timeout(patience):
                    await ready
            finally:
                loop.remove_reader(self.sock)

    def take(self, count):
        taken, self.buf = self.buf[:count], self.buf[count:]
        return taken

    async def until(self, mark, patience=PATIENCE):
        """Takes everything up to and with `mark`."""
        start = 0
        while (at := self.buf.find(mark, start)) < 0:
            start = max(0, len(self.buf) - len(mark))
            if not await self.fill(patience):
                raise Gone(self.ended, self.buf)
        return self.take(at + len(mark))

    async def exactly(self, count, patience=PATIENCE):
        while len(self.buf) < count:
            if not await self.fill(patience):
                raise Gone(self.ended, self.buf)
        return self.take(count)

    async def head(self, patience=PATIENCE):
        """One message's head."""
        raw = await self.until(b"\r\n\r\n", patience)
        lines = raw[:-4].decode("latin-1").split("\r\n")
        headers = [line.split(":", 1) for line in lines[1:]]
        return Message(lines[0], [(name.lower(), value.strip()) for name, value in headers])

    async def reply(self, no_body=False, patience=PATIENCE):
        """One answer with its body; one that breaks off is not `complete`."""
        interim = []
        message = await self.head(patience)
        while 100 <= message.status < 200:
            interim.append(message.status)
            message = await self.head(patience)
        message.interim = interim
        if not no_body and message.status not in (204, 304):
            await self.body(message, patience)
        return message

    async def body(self, message, patience=PATIENCE):
        length, coding = message.header("content-length"), message.header("transfer-encoding")
        assert length is None or coding is None, "Content-Length and Transfer-Encoding together"
        try:
            if coding is not None:
                assert coding == "chunked", coding
                await self.chunks(message, patience)
            elif length is not None:
                message.body = await self.exactly(int(length), patience)
            else:
                while await self.fill(patience):
                    pass
                message.body = self.take(len(self.buf))
                message.complete = self.ended == "fin"
        except Gone:
            message.body += self.take(len(self.buf)) if length is not None else b""
            message.complete = False

    async def chunks(self, message, patience):
        parts = []
        try:
            while True:
                size = int((await self.until(b"\r\n", patience))[:-2], 16)
                if size == 0:
                    break
                parts.append(await self.exactly(size, patience))
                assert await self.exactly(2, patience) == b"\r\n"
            assert await self.until(b"\r\n", patience) == b"\r\n", "trailers"
        finally:
            message.body = b"".join(parts)

    async def request(self, patience=PATIENCE):
        """One request with its body; None where the client ends before one."""
        try:
            message = await self.head(patience)
        except Gone:
            return None
        if message.header("content-length") or message.header("transfer-encoding"):
            await self.body(message, patience)
        return message

    async def ending(self, patience=PATIENCE):
        """How the connection ends; nothing but the end may come."""
        assert not self.buf, f"unread: {self.buf[:300]!r}"
        await self.fill(patience)
        assert self.ended and not self.buf, f"still open, or sent {self.buf[:300]!r}"
        return self.ended

    async def silent(self, seconds):
        """Asserts that nothing comes for so long, not even an end."""
        assert not self.buf, f"unread: {self.buf[:300]!r}"
        try:
            await self.fill(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"{self.ended or self.buf[:300]!r} within {seconds} s of silence")

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        """FIN (RST where bytes are unread); the time just before it, nanoseconds."""
        return self.finish()

    def reset(self):
        """RST; the time just before it, nanoseconds."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.finish()

    def finish(self):
        now = time.time_ns()
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock)
            self.sock.close()
        return now

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.finish()


def post(path, body, *headers, host="h", length=True):
    """A request's bytes. `body` is bytes, or something to write as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json", *headers]
    if length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body, size=7, extension=b""):
    """`body` in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"
