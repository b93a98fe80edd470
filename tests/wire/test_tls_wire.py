"""TLS towards clients: the same promises through records."""

import asyncio
import json
import shutil
import ssl
import subprocess
import time

from lib.endpoint import ANSWER, DONE, FINISH, STREAM_HEAD, Endpoint, always, answer, chunk, delta
from lib.process import Gateway, Sim
from lib.sock import Conn, Gone, post
from test_gone import arrived

PATH = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"


def secured(driver, endpoints, **options):
    """A gateway with a certificate of its own."""
    gateway = Gateway(driver, endpoints, **options)
    request = gateway.place / "request"
    request.write_text("[req]\ndistinguished_name=n\nx509_extensions=x\n[n]\n[x]\nsubjectAltName=DNS:localhost\n")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-config", request, "-subj", "/CN=localhost", "-keyout", gateway.place / "key.pem", "-out", gateway.place / "cert.pem"],
        capture_output=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    config = gateway.place / "sluice.toml"
    tls = '[server.tls]\ncertificate_file = "cert.pem"\nkey_file = "key.pem"\n[admin]\n'
    config.write_text(config.read_text().replace("[admin]\n", tls, 1))
    return gateway


class Records(Conn):
    """A connection under TLS: the same calls, through memory."""

    @classmethod
    async def open(cls, address, receive_bytes=None):
        conn = await super().open(address, receive_bytes)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        conn.lock = asyncio.Lock()
        conn.incoming, conn.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        conn.tls = context.wrap_bio(conn.incoming, conn.outgoing)
        await conn.step(conn.tls.do_handshake, 5)
        return conn

    async def flush(self):
        # One at a time: records must leave in order.
        async with self.lock:
            if self.outgoing.pending:
                await super().send(self.outgoing.read())

    async def step(self, work, patience):
        while True:
            try:
                done = work()
            except ssl.SSLWantReadError:
                done = None
            await self.flush()
            if done is not None or work == self.tls.do_handshake and self.tls.version() and self.shaken():
                return done
            data = await super().received(1 << 18, patience)
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def shaken(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def send(self, data, patience=10):
        self.tls.write(data)
        await self.flush()

    async def received(self, count, patience):
        try:
            return await self.step(lambda: self.tls.read(count), patience)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def notify(self):
        """close_notify, with the connection itself left open; Unix nanoseconds."""
        now = time.time_ns()
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            # The peer's own has not come yet, or events that it sent before.
            pass
        await self.flush()
        return now


def usable():
    if shutil.which("openssl"):
        return True
    print("       no openssl to make a certificate with: TLS is not tested", flush=True)
    return False


async def test_requests(driver):
    if not usable():
        return

    async def handle(conn, _):
        while request := await conn.request(60):
            content = json.loads(request.body)["messages"][0]["content"]
            await asyncio.sleep(0.005)
            await conn.send(answer({**ANSWER, "id": content}))

    def ask(number):
        return post(PATH, {**ASK, "messages": [{"role": "user", "content": f"n{number}"}], "user": "x" * 500 * number})

    async with Endpoint(handle) as endpoint, secured(driver, [endpoint]) as gateway:
        async with await Records.open(gateway.address) as conn:
            for number in range(5):
                await conn.send(ask(number))
                assert (await conn.reply()).json()["id"] == f"n{number}"
            # More than one record in one read, and bodies of megabytes.
            for size in (16_000, 17_000, 70_000, 3 << 20):
                await conn.send(post(PATH, {**ASK, "user": "x" * size}))
                assert (await conn.reply()).status == 200, size
            # Pipelined, in records of their own and in one.
            for size in (100, 5_000, 1 << 20):
                data = b"".join(map(ask, range(30)))
                sending = asyncio.ensure_future(conn.drip(data, size))
                for number in range(30):
                    reply = await conn.reply(patience=5)
                    assert reply.json()["id"] == f"n{number}", (size, number, reply)
                await sending
            await conn.send(b"GET / HTTP/1.1\r\nhost: h\nx: y\r\n\r\n")
            assert (await conn.reply()).status == 400
            assert await conn.ending() == "fin"
        # Plain HTTP on the TLS port ends the connection, and nothing else.
        async with await Conn.open(gateway.address) as conn:
            await conn.send(MODELS)
            while await conn.fill(3):
                pass
            assert conn.ended
        async with await Records.open(gateway.address) as conn:
            await conn.send(post(PATH, ASK))
            assert (await conn.reply()).status == 200


async def test_gone(driver):
    """close_notify alone, half-close, close and reset: silent and flowing streams end at once."""
    if not usable():
        return
    async with Sim("--model", "m", "--decode-ms", "20") as sim, secured(driver, [sim]) as gateway:
        closed = {}
        for fault in ("hang", ""):
            for how in ("notify", "half", "fin", "rst"):
                me = f"{how}-{fault or 'flowing'}"
                conn = await Records.open(gateway.address)
                headers = [f"x-request-id: {me}"] + ([f"x-sim-fault: {fault}"] if fault else [])
                await conn.send(post(PATH, {**ASK, "stream": True, "max_tokens": 100_000}, *headers))
                # What the server has not got, it cannot be told of.
                await (arrived(sim, len(closed) + 1) if fault else conn.until(b"\n\n"))
                match how:
                    case "notify":
                        closed[me] = await conn.notify()
                    case "half":
                        closed[me] = time.time_ns()
                        conn.half_close()
                    case "fin":
                        closed[me] = conn.close()
                    case "rst":
                        closed[me] = conn.reset()
                await asyncio.sleep(0.3)
                conn.finish()
        await gateway.settled()
        heard = {one["id"]: one["unix_ns"] for one in await sim.ask("/sim/aborts")}
        assert not closed.keys() - heard.keys(), closed.keys() - heard.keys()
        waits = [(heard[me] - closed[me]) / 1e6 for me in closed]
        assert max(waits) < 200, waits


class Secured:
    """A gateway under TLS, as an endpoint."""

    def __init__(self, gateway):
        self.url = f"https://127.0.0.1:{gateway.address[1]}"


async def test_endpoint_under_tls(driver):
    """Through two gateways, TLS between them: bodies, streams, reuse, and clients that leave."""
    if not usable():
        return
    big = answer(b'{"x":"' + b"y" * (3 << 20) + b'"}')
    ended = asyncio.Event()

    async def handle(conn, _):
        while request := await conn.request(60):
            if request.header("x-case") == "big":
                await conn.send(big)
            elif request.header("x-case") == "silent":
                await conn.fill(60)
                ended.set()
                return
            elif b'"stream"' in request.body:
                await conn.send(STREAM_HEAD)
                for number in range(500):
                    await conn.send(chunk(delta(f"t{number}" * 40)))
                await conn.send(chunk(FINISH + DONE) + chunk(b""))
            else:
                await conn.send(answer({**ANSWER, "id": str(len(request.body))}))

    async with Endpoint(handle) as endpoint, secured(driver, [endpoint]) as behind:
        table = {"ca_file": str(behind.place / "cert.pem"), "server_name": "localhost"}
        async with Gateway(driver, [Secured(behind)], endpoint=table) as gateway:
            async with await gateway.conn() as conn:
                for size in (10, 17_000, 70_000, 3 << 20):
                    body = json.dumps({**ASK, "user": "x" * size}).encode()
                    await conn.send(post(PATH, body))
                    reply = await conn.reply()
                    assert reply.status == 200 and reply.json()["id"] == str(len(body)), reply
                for _ in range(3):
                    await conn.send(post(PATH, ASK, "x-case: big"))
                    assert big.endswith((await conn.reply()).body)
                    await conn.send(post(PATH, {**ASK, "stream": True}))
                    reply = await conn.reply()
                    assert reply.complete and reply.body.endswith(DONE) and b"t499" in reply.body
            assert endpoint.served == 1
            conn = await gateway.conn()
            await conn.send(post(PATH, ASK, "x-case: silent"))
            await asyncio.sleep(0.3)
            conn.reset()
            async with asyncio.timeout(1):
                await ended.wait()
        # A name that the certificate is not for, and an issuer that is not known.
        for wrong in ({**table, "server_name": "other"}, {"server_name": "localhost"}):
            async with await started(Gateway(driver, [Secured(behind)], endpoint=wrong)) as gateway:
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, ASK))
                    assert (await conn.reply()).status in (502, 503)


async def started(gateway):
    gateway.ready_statuses = (200, 503)
    return gateway


async def test_slow_handshake(driver):
    if not usable():
        return
    options = {"timeouts": {"handshake_seconds": 0.5}}
    async with Endpoint(always(answer())) as endpoint, secured(driver, [endpoint], **options) as gateway:
        for sent in (b"", bytes.fromhex("16030100f1010000ed0303")):
            async with await Conn.open(gateway.address) as conn:
                if sent:
                    await conn.send(sent)
                began = time.monotonic()
                try:
                    while await conn.fill(3):
                        pass
                except Gone:
                    pass
                assert conn.ended and 0.3 < time.monotonic() - began < 1.5
