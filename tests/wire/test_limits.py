"""Sizes, counts and times that bound what one client can take."""

import asyncio
import json
import time

from lib.endpoint import ANSWER, Endpoint, always, answer
from lib.process import Gateway
from lib.sock import Gone, chunked, post

PATH = "/v1/chat/completions"
ASK = {"model": "m", "messages": []}
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"


async def timed(work):
    began = time.monotonic()
    return await work, time.monotonic() - began


async def test_body_too_large(driver):
    """Declared: refused before it is read. Grown: refused when it passes the limit."""
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], limits={"body_bytes_max": 100_000}) as gateway:
            async with await gateway.conn() as conn:
                await conn.send(post(PATH, b"", "content-length: 100001", length=False))
                reply = await conn.reply()
                assert reply.status == 413 and "100000" in reply.json()["error"]["message"], reply
                # A client that sends its body all the same can do so, and read its error then.
                await conn.send(b"{" * 100_001)
                assert await conn.ending() == "fin"
            async with await gateway.conn() as conn:
                await conn.send(post("/v1/messages", b"", "content-length: 100001", length=False))
                reply = await conn.reply()
                assert reply.status == 413 and reply.json()["error"]["type"] == "request_too_large", reply
            for size in (1_000, 50_000):
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, b"", "transfer-encoding: chunked", length=False))
                    await conn.send(chunked(b"{" * 200_000, size))
                    assert (await conn.reply()).status == 413
                    assert await conn.ending() == "fin"
            exact = json.dumps({**ASK, "user": ""}).encode()
            exact = json.dumps({**ASK, "user": "x" * (100_000 - len(exact))}).encode()
            async with await gateway.conn() as conn:
                await conn.send(post(PATH, exact))
                assert (await conn.reply()).status == 200
                await conn.send(post(PATH, b"", "transfer-encoding: chunked", length=False) + chunked(exact, 9_999))
                assert (await conn.reply()).status == 200


async def test_large_body_refused_while_it_is_sent(driver):
    """A client that sends megabytes before it looks still finds its error, not a reset."""
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], limits={"body_bytes_max": 100_000}) as gateway:
            for size in (200_000, 1 << 20, 8 << 20):
                async with await gateway.conn() as conn:
                    try:
                        await conn.send(post(PATH, b"x" * size))
                    except Gone:
                        raise AssertionError(f"reset while {size} bytes were being sent") from None
                    assert (await conn.reply()).status == 413
                    assert await conn.ending() == "fin", size


async def test_slow_head(driver):
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], timeouts={"head_seconds": 0.5, "linger_seconds": 1.5}) as gateway:
            for sent in (b"G", b"\r\n", MODELS[:20], MODELS[:-1]):
                async with await gateway.conn() as conn:
                    await conn.send(sent)
                    reply, took = await timed(conn.reply())
                    assert reply.status == 408 and 0.3 < took < 2.0, (reply, took)
                    assert reply.header("connection") == "close" and reply.json()["error"]["type"], reply
            # One byte now and then does not help; what still comes does not eat the answer.
            async with await gateway.conn() as conn:
                began = time.monotonic()
                for byte in (b"%c" % one for one in MODELS):
                    try:
                        await conn.send(byte)
                    except Gone:
                        raise AssertionError("reset before the client could read its 408") from None
                    if time.monotonic() - began > 1.0:
                        break
                    await asyncio.sleep(0.05)
                assert (await conn.reply()).status == 408
                assert await conn.ending() == "fin"
            # On a connection that has served already.
            async with await gateway.conn() as conn:
                await conn.send(MODELS)
                assert (await conn.reply()).status == 200
                await conn.send(MODELS[:9])
                reply, took = await timed(conn.reply())
                assert reply.status == 408 and 0.3 < took < 2.0, (reply, took)


async def test_slow_body(driver):
    async with Endpoint(always(answer())) as endpoint:
        options = {"timeouts": {"body_seconds": 0.5, "total_seconds": 2}, "limits": {"body_bytes_per_second_min": 0}}
        async with Gateway(driver, [endpoint], **options) as gateway:
            body = json.dumps({**ASK, "user": "x" * 300}).encode()
            for framing, data in (
                (f"content-length: {len(body)}", body),
                ("transfer-encoding: chunked", chunked(body)),
            ):
                for part in (0, 1, 100):
                    async with await gateway.conn() as conn:
                        await conn.send(post(PATH, b"", framing, length=False) + data[:part])
                        reply, took = await timed(conn.reply())
                        assert reply.status == 408 and 0.1 < took < 2.0, (reply, took)
                        assert reply.header("connection") == "close", reply
                # Slow is not silent, and a request's whole time is bounded all the same.
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, b"", framing, length=False))
                    await conn.drip(data[:20], 2, 0.1)
                    await conn.send(data[20:])
                    assert (await conn.reply()).status == 200
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, b"", framing, length=False))
                    dripping = asyncio.ensure_future(conn.drip(data, 1, 0.2))
                    reply, took = await timed(conn.reply())
                    dripping.cancel()
                    assert reply.status == 408 and 1.5 < took < 3.5, (reply, took)


async def test_dripping_body(driver):
    """Memory is reserved while a body comes, so one that never pauses must come at some rate all the same."""
    options = {"timeouts": {"body_seconds": 0.5}, "limits": {"body_bytes_per_second_min": 1000}}
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint], **options) as gateway:
        body = json.dumps({**ASK, "user": "x" * 3000}).encode()
        for framing, data in ((f"content-length: {len(body)}", body), ("transfer-encoding: chunked", chunked(body))):
            for size, status in ((2, 408), (200, 200)):
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, b"", framing, length=False))
                    dripping = asyncio.ensure_future(conn.drip(data, size, 0.1))
                    reply, took = await timed(conn.reply())
                    dripping.cancel()
                    assert reply.status == status and took < 3, (reply, took)
                    assert status == 200 or 0.4 < took, took


async def test_idle(driver):
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], timeouts={"idle_seconds": 1.5}) as gateway:
            async with await gateway.conn() as fresh, await gateway.conn() as used:
                await used.send(MODELS)
                assert (await used.reply()).status == 200
                for conn in (fresh, used):
                    how, took = await timed(conn.ending())
                    assert how == "fin" and took < 3.5, (how, took)
            # Each request begins the time anew.
            async with await gateway.conn() as conn:
                for _ in range(4):
                    await asyncio.sleep(0.5)
                    await conn.send(MODELS)
                    assert (await conn.reply()).status == 200


async def test_answer_memory(driver):
    """Whole answers are held while the shard has memory for it; beyond that they leave as they come."""
    whole = answer({**ANSWER, "padding": "x" * 50_000})
    body_bytes = len(whole) - whole.index(b"\r\n\r\n") - 4
    asked, gates = asyncio.Queue(), {}

    async def handle(conn, _):
        while request := await conn.request(60):
            name = request.header("x-case")
            gates[name] = asyncio.Event()
            await conn.send(whole[:40_000])
            asked.put_nowait(name)
            await gates[name].wait()
            if name == "broken":
                return conn.reset()
            await conn.send(whole[40_000:])

    limits = {"answer_hold_bytes_max": 60_000, "answer_hold_bytes_per_shard_max": 60_000}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], limits=limits) as gateway:
        async with await gateway.conn() as first, await gateway.conn() as second, await gateway.conn() as third:
            await first.send(post(PATH, ASK, "x-case: held"))
            assert await asked.get() == "held"
            await first.silent(0.3)
            await second.send(post(PATH, ASK, "x-case: passed"))
            assert (await second.head()).status == 200
            early = await second.exactly(30_000)
            gates["passed"].set()
            gates["held"].set()
            rest = await second.exactly(body_bytes - 30_000)
            assert (early + rest) == whole[-body_bytes:]
            assert (await first.reply()).json()["padding"] == "x" * 50_000
            # Its room is another's now: held again, so that its break is an error with a status.
            await third.send(post(PATH, ASK, "x-case: broken"))
            assert [await asked.get(), await asked.get()] == ["passed", "broken"]
            gates["broken"].set()
            assert (await third.reply()).status == 502


async def test_body_memory(driver):
    """Beyond the shard's bytes a body waits; it is read once there is room, and refused when none comes."""
    gate = asyncio.Event()

    async def handle(conn, _):
        while await conn.request(60):
            await gate.wait()
            await conn.send(answer())

    limits = {"body_bytes_per_shard_max": 1 << 20, "body_bytes_max": 1 << 20}
    big = json.dumps({**ASK, "user": "x" * 700_000}).encode()
    async with Endpoint(handle) as endpoint:
        async with Gateway(driver, [endpoint], limits=limits, timeouts={"body_seconds": 1}) as gateway:
            async with await gateway.conn() as first, await gateway.conn() as second:
                await first.send(post(PATH, big))
                await asyncio.sleep(0.2)
                assert (await gateway.metrics()).sum("sluice_body_held_bytes") >= 700_000
                sending = asyncio.ensure_future(second.send(post(PATH, big)))
                reply, took = await timed(second.reply())
                assert reply.status == 503 and 0.8 < took < 3, (reply, took)
                assert int(reply.header("retry-after")) >= 1 and reply.header("connection") == "close", reply
                await sending
                # Small ones pass, chunked ones count as they grow.
                async with await gateway.conn() as small, await gateway.conn() as grown:
                    await small.send(post(PATH, ASK))
                    data = post(PATH, b"", "transfer-encoding: chunked", length=False) + chunked(big, 8_000)
                    sending = asyncio.ensure_future(grown.send(data))
                    reply = await grown.reply()
                    assert reply.status == 503, reply
                    await sending
                    gate.set()
                    assert (await small.reply()).status == 200
                assert (await first.reply()).status == 200
            # One that waits gets the room that another gives back, and one that leaves waits no longer.
            gate.clear()
            async with await gateway.conn() as first, await gateway.conn() as second, await gateway.conn() as third:
                await first.send(post(PATH, big, "x-request-id: first"))
                await asyncio.sleep(0.2)
                await second.send(post(PATH, b"", f"content-length: {len(big)}", length=False))
                await third.send(
                    post(PATH, b"", f"content-length: {len(big)}", "x-request-id: third", length=False)
                )
                await asyncio.sleep(0.2)
                third.close()
                row = await gateway.row("third", 0.5)
                assert row["outcome"] == "client_gone", row
                gate.set()
                assert (await first.reply()).status == 200
                await second.send(big)
                assert (await second.reply()).status == 200


async def test_connections_per_shard(driver):
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], limits={"connections_per_shard_max": 5}) as gateway:
            held = [await gateway.conn() for _ in range(5)]
            await asyncio.sleep(0.1)
            await refused(gateway)
            held[0].close()
            await asyncio.sleep(0.2)
            async with await gateway.conn() as conn:
                await conn.send(MODELS)
                assert (await conn.reply()).status == 200
            for conn in held:
                conn.close()
            assert (await gateway.metrics()).sum("sluice_connections_refused_total") == 3


async def test_connections_per_address(driver):
    async with Endpoint(always(answer())) as endpoint:
        async with Gateway(driver, [endpoint], limits={"connections_per_address_max": 3}) as gateway:
            held = [await gateway.conn() for _ in range(3)]
            await asyncio.sleep(0.1)
            await refused(gateway)
            for conn in held:
                conn.close()
            await asyncio.sleep(0.2)
            async with await gateway.conn() as conn:
                await conn.send(MODELS)
                assert (await conn.reply()).status == 200


async def refused(gateway):
    """One connection too many: 503, readable, whether the client has spoken or not."""
    for sent in (b"", MODELS, post(PATH, b"x" * 100_000)):
        async with await gateway.conn() as conn:
            await conn.send(sent)
            reply = await conn.reply()
            assert reply.status == 503 and reply.header("connection") == "close", reply
            assert reply.complete and reply.json()["error"]["code"] == "overloaded", reply
            assert int(reply.header("retry-after")) >= 1, reply
            assert await conn.ending() == "fin"


async def test_write_stall_bounds_a_reader_of_a_whole_answer(driver):
    """A client that stops reading a large answer is cut; one that reads slowly is not, up to the total."""
    big = answer(b'{"x":"' + b"y" * (20 << 20) + b'"}')
    async with Endpoint(always(big)) as endpoint:
        options = {"write_stall_seconds": 0.7, "total_seconds": 6, "stall_seconds": 1}
        async with Gateway(driver, [endpoint], timeouts=options) as gateway:
            async with await gateway.conn(receive_bytes=4096) as stuck:
                await stuck.send(post(PATH, ASK, "x-request-id: stuck"))
                row, took = await timed(gateway.row("stuck"))
                assert row["outcome"] in ("client_gone", "timed_out") and 0.5 < took < 3, (row, took)
            async with await gateway.conn() as slow:
                await slow.send(post(PATH, ASK, "x-request-id: slow"))
                began = time.monotonic()
                got = 0
                while got < len(big) - 100 and time.monotonic() - began < 5:
                    if not await slow.fill():
                        break
                    got += len(slow.take(1 << 30))
                    await asyncio.sleep(0.04)
                assert got >= len(big) - 200, f"cut after {got} of {len(big)} bytes"
            # Trickling for ever is bounded by the total.
            async with await gateway.conn() as trickle:
                await trickle.send(post(PATH, ASK, "x-request-id: trickle"))
                began = time.monotonic()
                while time.monotonic() - began < 9:
                    loop = asyncio.get_running_loop()
                    try:
                        if not await loop.sock_recv(trickle.sock, 150_000):
                            break
                    except ConnectionResetError:
                        break
                    if any(row.get("request_id") == "trickle" for row in gateway.rows()):
                        break
                    await asyncio.sleep(0.1)
                took = time.monotonic() - began
                assert 4 < took < 8, f"ended after {took:.1f} s"
