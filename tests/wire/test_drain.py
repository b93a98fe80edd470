"""SIGTERM in the middle of everything."""

import asyncio
import signal
import time

from lib.endpoint import DONE, FINISH, STREAM_HEAD, Endpoint, chunk, delta
from lib.process import Gateway, get
from lib.sock import Gone, post

PATH = "/v1/chat/completions"
STREAM = {"model": "m", "messages": [], "stream": True}
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"


async def test_streams_finish(driver):
    """Streams end whole, idle connections end, a request under way is answered and closed, nobody else gets in."""
    gate = asyncio.Event()

    async def handle(conn, _):
        await conn.request(60)
        await conn.send(STREAM_HEAD + chunk(delta("a")))
        await gate.wait()
        await conn.send(chunk(FINISH + DONE) + chunk(b""))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], shards=2) as gateway:
        streams = [await gateway.conn() for _ in range(40)]
        for conn in streams:
            await conn.send(post(PATH, STREAM))
        for conn in streams:
            await conn.until(b"\n\n")
        idle = [await gateway.conn() for _ in range(10)]
        for conn in idle[:5]:
            await conn.send(MODELS)
            assert (await conn.reply()).status == 200
        begun = await gateway.conn()
        await begun.send(MODELS[:20])
        await asyncio.sleep(0.05)
        gateway.child.send_signal(signal.SIGTERM)
        for conn in idle:
            assert await conn.ending(3) == "fin"
        assert (await get(gateway.admin, "/readyz"))[0] == 503
        try:
            async with await gateway.conn() as late:
                await late.send(MODELS)
                await late.reply(patience=1)
            raise AssertionError("a connection after the drain began is served")
        except (OSError, Gone, TimeoutError):
            pass
        gate.set()
        for conn in streams:
            await conn.until(DONE, 5)
            await conn.until(b"0\r\n\r\n", 5)
            assert await conn.ending(3) == "fin"
        for conn in streams + idle + [begun]:
            conn.finish()
        began = time.monotonic()
        assert await gateway.stop() == 0, gateway.errors.read_text()
        assert time.monotonic() - began < 6
        assert [row["outcome"] for row in gateway.rows() if row.get("streamed")] == ["completed"] * 40
        gateway.check = nothing


async def test_deadline(driver):
    """What does not finish in time is told so and ended; the ledgers are at zero all the same."""

    async def handle(conn, _):
        await conn.request(60)
        await conn.send(STREAM_HEAD + chunk(delta("a")))
        await conn.fill(60)

    options = {"timeouts": {"drain_seconds": 1}}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], **options) as gateway:
        streams = [await gateway.conn() for _ in range(20)]
        for conn in streams:
            await conn.send(post(PATH, STREAM))
        for conn in streams:
            await conn.until(b"\n\n")
        began = time.monotonic()
        status = await gateway.stop()
        took = time.monotonic() - began
        said = gateway.errors.read_text()
        assert 0.8 < took < 5, took
        assert "ledgers_at_zero=false" not in said and status == 0, (status, said)
        rows = gateway.rows()
        assert len(rows) == 20 and {row["outcome"] for row in rows} == {"abandoned"}, rows
        for conn in streams:
            while await conn.fill():
                pass
            assert b'"shutting_down"' in conn.buf and b"[DONE]" not in conn.buf, conn.buf
        gateway.check = nothing


async def nothing():
    """Has been checked already."""
