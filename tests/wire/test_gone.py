"""Clients that leave: the endpoint hears of every one at once.

The time of each close is taken just before it; the simulated server notes when it heard, by x-request-id."""

import asyncio
import os
import time

from lib.endpoint import STREAM_HEAD, Endpoint, chunk, delta
from lib.process import Gateway, Sim
from lib.sock import Gone, post
from lib.storm import LEAVES, leave, percentile, seeded, spread

ALONE = True
PATH = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 100_000}
SECOND = 1.0
# The aim on a quiet machine; the bar is a second.
COUNT = int(os.environ.get("SLUICE_GONE_STREAMS", "500"))


async def connect(gateway):
    conn = await gateway.conn()
    return conn


async def storm(gateway, sim, name, fault, ready, seconds, extra=b"", ways=LEAVES):
    """`COUNT` streams that `ready` waits for, whose clients then leave at random moments."""
    rng = seeded(f"{name}{gateway.address}")
    clients = {}
    for number in range(COUNT):
        conn = await gateway.conn()
        me = f"{name}-{number}"
        headers = [f"x-request-id: {me}"] + ([f"x-sim-fault: {fault}"] if fault else [])
        await conn.send(post(PATH, ASK, *headers) + extra)
        clients[me] = conn
    await ready(clients)
    closed = {}
    names = list(clients)
    rng.shuffle(names)
    began = time.monotonic()
    for me, moment in zip(names, spread(rng, len(names), seconds)):
        while (wait := began + moment - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        closed[me] = leave(clients[me].sock, rng.choice(ways))
    until = time.monotonic() + 5
    while True:
        heard = {one["id"]: one["unix_ns"] for one in await sim.ask("/sim/aborts")}
        if len(closed.keys() & heard.keys()) == COUNT or time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    missing = closed.keys() - heard.keys()
    assert not missing, f"the server never heard of {len(missing)}: {sorted(missing)[:5]}"
    waits = [(heard[me] - closed[me]) / 1e6 for me in closed]
    for conn in clients.values():
        conn.finish()
    line = " ".join(f"{label} {percentile(waits, share):.1f}" for label, share in (("p50", 0.5), ("p99", 0.99)))
    print(f"       {name}: {COUNT} clients left, heard after ms: {line} max {max(waits):.1f}", flush=True)
    assert max(waits) < SECOND * 1e3, f"{max(waits)} ms"
    rows = {row["request_id"]: row["outcome"] for row in gateway.rows() if "request_id" in row}
    wrong = {me: rows[me] for me in closed if rows.get(me, "client_gone") != "client_gone"}
    assert not wrong, wrong
    await gateway.settled()


async def arrived(sim, count, of="requests"):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        counts = await sim.ask("/sim/counts")
        if sum(counts["requests"].values()) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"only {counts['requests']} of {count} reached the server")


async def test_silent_streams(driver):
    """Nothing comes from the server: its head, or not even that."""
    async with Sim("--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        done = 0
        for name, fault in (("silent-before-head", "hang"), ("silent-after-head", "hang-head")):
            done += COUNT
            await storm(gateway, sim, f"{driver}-{name}", fault, lambda _, n=done: arrived(sim, n), 2.0)


async def test_flowing_streams(driver):
    async with Sim("--model", "m", "--decode-ms", "50", "--max-num-seqs", "1024") as sim:
        async with Gateway(driver, [sim]) as gateway:

            async def flowing(clients):
                for conn in clients.values():
                    await conn.until(b"\n\n", 20)

            await storm(gateway, sim, f"{driver}-flowing", None, flowing, 2.0)


async def test_flowing_streams_on_two_shards(driver):
    async with Sim("--model", "m", "--decode-ms", "50", "--max-num-seqs", "1024") as sim:
        async with Gateway(driver, [sim], shards=2) as gateway:

            async def flowing(clients):
                for conn in clients.values():
                    await conn.until(b"\n\n", 20)

            await storm(gateway, sim, f"{driver}-two-shards", None, flowing, 2.0)


async def test_with_early_bytes(driver):
    """Bytes of the next request lie between the gateway and the news, up to more than it reads."""
    next_one = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"
    async with Sim("--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        done = 0
        # An unread byte turns a client's FIN into nothing but a FIN still, so all ways are tried.
        for name, extra in (
            ("early-bytes", next_one),
            ("part-of-a-head", next_one[:20]),
            ("much-early", post(PATH, {**ASK, "user": "x" * 50_000})),
        ):
            done += COUNT
            ready = lambda _, n=done: arrived(sim, n)  # noqa: E731
            await storm(gateway, sim, f"{driver}-{name}", "hang", ready, 1.0, extra)


async def test_stuck_readers(driver):
    """A client that has not read for a while, so that bytes wait for it on the way, leaves."""
    heard = {}

    async def handle(conn, _):
        request = await conn.request(60)
        me = request.header("x-request-id")
        try:
            await conn.send(STREAM_HEAD, patience=60)
            for _ in range(1_000):
                await conn.send(chunk(delta("x" * 16_000)), patience=60)
        except Gone:
            heard[me] = time.time_ns()

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for how in LEAVES:
            clients = {}
            for number in range(20):
                conn = await gateway.conn(receive_bytes=8_192)
                me = f"{how}-{number}"
                await conn.send(post(PATH, ASK, f"x-request-id: {me}"))
                clients[me] = conn
            await asyncio.sleep(1.0)
            closed = {me: leave(conn.sock, how) for me, conn in clients.items()}
            await asyncio.sleep(SECOND)
            missing = closed.keys() - heard.keys()
            assert not missing, f"{how}: not heard of within a second: {sorted(missing)}"
            for me in clients:
                clients[me].finish()
                assert (await gateway.row(me))["outcome"] == "client_gone"


async def test_while_connecting_or_sending(driver):
    """The endpoint reads nothing of a large request; the client leaves: the endpoint's connection ends."""
    ended = {}

    async def handle(conn, _):
        head = await conn.head()
        me = head.header("x-request-id")
        await asyncio.sleep(0.5)
        try:
            while await conn.fill(5):
                conn.buf = b""
            ended[me] = time.time_ns()
        except TimeoutError:
            pass

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for how in LEAVES:
            conn = await gateway.conn()
            await conn.send(post(PATH, {**ASK, "user": "x" * (20 << 20)}, f"x-request-id: {how}"))
            await asyncio.sleep(0.3)
            left = leave(conn.sock, how)
            row = await gateway.row(how, SECOND)
            assert row["outcome"] == "client_gone", row
            await asyncio.sleep(0.8)
            assert how in ended and ended[how] - left < 1.5e9, (how, ended)
            conn.finish()


async def test_at_every_moment(driver):
    """A request cut after every so many of its bytes, and after parts of its answer, in every way."""
    async with Sim("--instant", "--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        body = {**ASK, "max_tokens": 20}
        request = post(PATH, body)
        points = list(range(1, len(request), 7))
        for how in LEAVES:
            for at in points:
                conn = await gateway.conn()
                await conn.send(request[:at])
                if at % 2:
                    await asyncio.sleep(0.001)
                leave(conn.sock, how)
                conn.finish()
        # In the answer: after so many bytes of it, or just after all of it.
        for how in LEAVES:
            for size in (1, 50, 200, 700, 2_000, 1 << 20):
                conn = await gateway.conn()
                await conn.send(request)
                while len(conn.buf) < size and b"0\r\n\r\n" not in conn.buf and await conn.fill():
                    pass
                leave(conn.sock, how)
                conn.finish()
        # After a whole answer, when the connection idles.
        for how in LEAVES:
            conn = await gateway.conn()
            await conn.send(request)
            assert (await conn.reply()).complete
            leave(conn.sock, how)
            if how == "half":
                assert await conn.ending(2) == "fin"
            conn.finish()
        metrics = await gateway.settled()
        until = time.monotonic() + 3
        while metrics.sum("sluice_connections_open") and time.monotonic() < until:
            await asyncio.sleep(0.05)
            metrics = await gateway.metrics()
        assert metrics.sum("sluice_connections_open") == 0


async def test_unary_and_other_paths(driver):
    """Answers that are not streamed are aborted too, whatever the API."""
    asks = {
        PATH: {"model": "m", "messages": ASK["messages"]},
        "/v1/completions": {"model": "m", "prompt": "x"},
        "/v1/messages": {"model": "m", "messages": ASK["messages"], "max_tokens": 9},
        "/v1/responses": {"model": "m", "input": "x"},
        "/v1/embeddings": {"model": "m", "input": "x"},
        "/v1/rerank": {"model": "m", "query": "x", "documents": ["y"]},
        "/v1/messages/count_tokens": {"model": "m", "messages": ASK["messages"]},
    }
    async with Sim("--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        left = {}
        for how in LEAVES:
            for number, (path, body) in enumerate(asks.items()):
                me = f"u-{how}-{number}"
                conn = await gateway.conn()
                await conn.send(post(path, body, f"x-request-id: {me}", "x-sim-fault: hang"))
                left[me] = (conn, how)
        await arrived(sim, len(left))
        closed = {me: leave(conn.sock, how) for me, (conn, how) in left.items()}
        await asyncio.sleep(SECOND)
        heard = {one["id"]: one["unix_ns"] for one in await sim.ask("/sim/aborts")}
        assert not closed.keys() - heard.keys(), closed.keys() - heard.keys()
        for conn, _ in left.values():
            conn.finish()


async def test_a_request_that_is_half_way_is_taken_back(driver):
    """What waits in the kernel for a server that is slow to read does not reach it once the client has left."""
    left, got = asyncio.Event(), asyncio.get_running_loop().create_future()
    request = post(PATH, {**ASK, "pad": "p" * (3 << 20)}, "x-request-id: half-way")

    async def handle(conn, _):
        await left.wait()
        while await conn.fill():
            pass
        got.set_result((len(conn.buf), conn.ended))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        conn = await gateway.conn()
        await conn.send(request)
        while not endpoint.served:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        conn.close()
        row = await gateway.row("half-way", 5)
        assert row["outcome"] == "client_gone", row
        left.set()
        count, how = await asyncio.wait_for(got, 10)
        assert how == "rst" and count < len(request), (how, count)
