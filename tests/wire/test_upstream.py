"""The endpoint's side: reuse, endings, answers that break HTTP's rules or come at odd moments."""

import asyncio
import json
import time

from lib.endpoint import ANSWER, DONE, FINISH, STREAM_HEAD, Endpoint, always, answer, chunk, delta
from lib.process import Gateway
from lib.sock import Gone, post

PATH = "/v1/chat/completions"
ASK = {"model": "m", "messages": []}
STREAM = {**ASK, "stream": True}


async def ask(gateway, body=ASK, *headers, path=PATH, patience=10):
    """One request on a connection of its own."""
    async with await gateway.conn() as conn:
        await conn.send(post(path, body, *headers))
        return await conn.reply(patience=patience)


async def test_connections_are_reused(driver):
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for _ in range(20):
            assert (await ask(gateway)).status == 200
        assert endpoint.served == 1
        metrics = await gateway.metrics()
        assert metrics.sum("sluice_upstream_connects_total") in (0, 1)


async def test_not_reused(driver):
    """After an answer that closes, that leaves bytes behind, or whose end is the connection's."""
    body = json.dumps(ANSWER).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    cases = [
        answer(ANSWER, "200 OK", "connection: close"),
        answer() + b"HTTP/1.1 200 OK\r\n",
        answer().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head + b"\r\n" + body,
        head + b"transfer-encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n\r\nx",
    ]

    async def handle(conn, _):
        request = await conn.request(60)
        await conn.send(cases[int(request.header("x-case"))])
        if request.header("x-case") == "3":
            return
        # The gateway must be the one who ends it.
        try:
            assert not await conn.request(3), "the connection was used again"
        except TimeoutError:
            raise AssertionError(f"case {request.header('x-case')} is kept open") from None

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for case in range(len(cases)):
            for _ in range(2):
                reply = await ask(gateway, ASK, f"x-case: {case}")
                assert reply.status == 200 and reply.body == body, (case, reply)
                await asyncio.sleep(0.05)
        assert endpoint.served == 2 * len(cases)


async def test_stale_connection_is_replaced(driver):
    """A kept connection that ends under the request, before a byte of its answer: sent again, once, unseen."""
    for how in ("fin", "rst"):
        for retry in (True, False):
            seen = []

            async def handle(conn, number):
                while await conn.request(60):
                    seen.append(number)
                    if number == 0 and seen.count(0) == 2:
                        return conn.reset() if how == "rst" else conn.close()
                    await conn.send(answer())

            async with Endpoint(handle) as endpoint:
                async with Gateway(driver, [endpoint], endpoint={"retry_stale": retry}) as gateway:
                    assert (await ask(gateway)).status == 200
                    reply = await ask(gateway, ASK, "x-request-id: second")
                    row = await gateway.row("second")
                    if retry:
                        assert reply.status == 200 and seen == [0, 0, 1], (how, seen, reply)
                        assert row["attempts"] == 2, row
                    else:
                        assert reply.status == 502 and seen == [0, 0], (how, seen, reply)
                    assert (await ask(gateway)).status == 200


async def test_fresh_connection_is_not_retried_on_itself(driver):
    """A fresh one that ends without an answer is the endpoint's fault."""
    seen = []

    async def handle(conn, number):
        await conn.request(60)
        seen.append(number)

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        reply = await ask(gateway)
        assert reply.status == 502 and seen == [0], (seen, reply)


async def test_retried_once_only(driver):
    """Every connection ends under its second request: a stale one is replaced by a fresh one, no more."""
    seen = []

    async def handle(conn, number):
        while await conn.request(60):
            seen.append(number)
            if seen.count(number) == 2 or number >= 3:
                return
            await conn.send(answer())

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        # Three at once make three connections; all are then kept.
        replies = await asyncio.gather(*(ask(gateway) for _ in range(3)))
        assert [reply.status for reply in replies] == [200] * 3
        before = len(seen)
        reply = await ask(gateway)
        assert reply.status == 502 and len(seen) == before + 2, (seen, reply)


async def test_server_closes_idle_connections(driver):
    """As uvicorn does after 5 s: no request fails, however they meet."""

    async def handle(conn, _):
        while True:
            if not await conn.request(60):
                return
            await conn.send(answer())
            try:
                await conn.fill(0.25)
            except TimeoutError:
                return

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:

        async def client(number):
            for turn in range(15):
                await asyncio.sleep(0.245 + 0.001 * ((number + turn) % 10))
                reply = await ask(gateway)
                assert reply.status == 200, reply

        await asyncio.gather(*map(client, range(20)))


async def test_early_answer(driver):
    """The endpoint refuses before it has read the body, and reads no further or closes: its words arrive."""
    refusal = answer({"error": {"message": "too long"}}, "413 Too Large", "connection: close")
    big = {**ASK, "user": "x" * (20 << 20)}
    for then in ("stays", "closes", "drains"):

        async def handle(conn, _):
            await conn.head()
            await conn.send(refusal)
            if then == "stays":
                await asyncio.sleep(5)
            elif then == "drains":
                await asyncio.sleep(0.1)
                while await conn.fill():
                    conn.buf = b""

        async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
            began = time.monotonic()
            reply = await ask(gateway, big)
            assert reply.status == 413 and b"too long" in reply.body, (then, reply)
            assert time.monotonic() - began < 3, then


async def test_interim_answers(driver):
    """1xx are swallowed: one, many, cut anywhere, and also those that come while the body is still sent."""

    async def handle(conn, number):
        if number == 0:
            await conn.head()
            await conn.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\n\r\n")
            await asyncio.sleep(0.3)
            left = 6 << 20
            while left > 0:
                if not await conn.fill(5):
                    raise Gone(conn.ended)
                left -= len(conn.take(1 << 30))
            await conn.send(answer())
            return
        while request := await conn.request(60):
            interim = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * int(request.header("x-interim"))
            if b'"stream"' in request.body:
                await conn.send(interim + STREAM_HEAD + chunk(delta("a") + FINISH + DONE) + chunk(b""))
            else:
                await conn.drip(interim + answer(), 1 if len(interim) < 300 else 1_000)

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        reply = await ask(gateway, {**ASK, "user": "x" * (6 << 20)}, patience=8)
        assert reply.status == 200 and reply.interim == [], reply
        for count in (1, 3, 500):
            for body in (ASK, STREAM):
                reply = await ask(gateway, body, f"x-interim: {count}")
                assert reply.status == 200 and reply.interim == [] and reply.complete, (count, reply)


async def test_answers_without_a_body(driver):
    cases = [
        (answer(b"", "400 Bad Request"), 400),
        (answer(b"", "404 Not Found"), 404),
    ]

    async def handle(conn, _):
        while request := await conn.request(60):
            await conn.send(cases[int(request.header("x-case"))][0])

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            for turn in range(6):
                case = turn % len(cases)
                await conn.send(post(PATH, ASK, f"x-case: {case}"))
                reply = await conn.reply(patience=3)
                assert reply.status == cases[case][1] and reply.body == b"", (case, reply)
        # They end cleanly, so one connection does.
        assert endpoint.served == 1


async def test_until_close(driver):
    """A body that its connection's end ends: a stream so ended is whole only with its terminal event."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    whole = delta("a") + FINISH + DONE
    cases = {
        "whole": (head + whole, "fin"),
        "cut": (head + delta("a"), "fin"),
        "cut in an event": (head + delta("a") + delta("b")[:20], "fin"),
        "reset": (head + delta("a"), "rst"),
    }

    async def handle(conn, _):
        request = await conn.request(60)
        data, how = cases[request.header("x-case").replace("-", " ")]
        await conn.send(data)
        if how == "rst":
            await asyncio.sleep(0.1)
            conn.reset()

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for name in cases:
            reply = await ask(gateway, STREAM, f"x-case: {name.replace(' ', '-')}")
            assert reply.status == 200, reply
            if name == "whole":
                assert reply.complete and reply.body == whole, reply
            else:
                assert not reply.complete and b"[DONE]" not in reply.body, (name, reply)
                assert reply.body.startswith(delta("a")) and b'"error"' in reply.body, (name, reply)


async def test_whole_answer_cut_short(driver):
    """Before anything of it was shown: 502. It is never passed on as if it were whole."""
    body = json.dumps(ANSWER).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    cases = {
        "length": head + b"content-length: %d\r\n\r\n" % (len(body) + 1) + body,
        "chunks": head + b"transfer-encoding: chunked\r\n\r\n" + chunk(body[:50]),
        "no-last-chunk": head + b"transfer-encoding: chunked\r\n\r\n" + chunk(body),
        "until-close": head + b"\r\n" + body[:-20],
        "in-the-head": head,
    }

    async def handle(conn, _):
        request = await conn.request(60)
        await conn.send(cases[request.header("x-case")])

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for name in cases:
            reply = await ask(gateway, ASK, f"x-case: {name}", f"x-request-id: {name}")
            assert reply.status == 502 and reply.json()["error"]["code"] == "upstream_error", (name, reply)
            assert (await gateway.row(name))["outcome"] == "upstream_failed", name


async def test_large_whole_answer_cut_short(driver):
    """Once a part was shown there is only one honest end: the client sees that it is not whole."""
    half = b'{"x":"' + b"y" * (3 << 20)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

    async def handle(conn, _):
        request = await conn.request(60)
        if request.header("x-case") == "length":
            await conn.send(head + b"content-length: %d\r\n\r\n" % (4 << 20) + half)
        else:
            await conn.send(head + b"transfer-encoding: chunked\r\n\r\n" + chunk(half))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for case in ("length", "chunks"):
            reply = await ask(gateway, ASK, f"x-case: {case}")
            assert reply.status == 200 and not reply.complete and half.startswith(reply.body), (case, reply)
            # HTTP/1.0 has only the connection's end to say it with.
            async with await gateway.conn() as conn:
                data = post(PATH, ASK, f"x-case: {case}", f"x-request-id: old-{case}")
                await conn.send(data.replace(b"HTTP/1.1", b"HTTP/1.0"))
                reply = await conn.reply()
                assert not reply.complete, f"{case}: {len(reply.body)} bytes look like a whole answer"
                assert (await gateway.row(f"old-{case}"))["outcome"] == "upstream_broken"


BROKEN = {
    "length and coding": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n{}",
    "unknown coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "LF only": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "one LF": b"HTTP/1.1 200 OK\r\na: b\ncontent-length: 2\r\n\r\n{}",
    "NUL": b"HTTP/1.1 200 OK\r\na: b\0\r\ncontent-length: 2\r\n\r\n{}",
    "folded": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 2\r\n\r\n{}",
    "huge head": b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "status 999": b"HTTP/1.1 999 What\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "noise": bytes(range(256)),
    "bad chunk size": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "huge chunk size": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b"fffffffffffffffd\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nlocation: http://inside/\r\ncontent-length: 0\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "HTML": answer(b"<html>inside</html>", "200 OK", kind="text/html"),
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty": answer(b""),
    "text": answer(b"inside"),
    "cut, but framed": answer(b'{"choices":[{"index":0,"message":{"content":"inside'),
    "nothing": b"",
}


async def test_broken_answers(driver):
    async def handle(conn, _):
        request = await conn.request(60)
        await conn.send(BROKEN[request.header("x-case")])

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        failures = []
        for name in BROKEN:
            for body, path in ((ASK, PATH), (STREAM, PATH), (ASK, "/v1/messages")):
                reply = await ask(gateway, body, f"x-case: {name}", path=path)
                sound = reply.status == 502 and reply.complete and b"inside" not in reply.body
                sound = sound and reply.json()["error"]["message"] and reply.header("location") is None
                if not sound:
                    failures.append(f"{name} {path}: {reply}")
        assert not failures, "\n".join(failures)


async def test_broken_answer_elsewhere(driver):
    """The next endpoint's answer is shown in the place of a broken one; never a mixture."""

    async def broken(conn, _):
        request = await conn.request(60)
        await conn.send(BROKEN[request.header("x-case")])

    async with Endpoint(broken) as first, Endpoint(always(answer())) as second:
        async with Gateway(driver, [first, second]) as gateway:
            for name in BROKEN:
                for _ in range(2):
                    reply = await ask(gateway, ASK, f"x-case: {name}")
                    assert reply.status == 200 and reply.json() == ANSWER, (name, reply)
        assert first.served >= len(BROKEN)


def held():
    """A gate, and an endpoint's handler that answers once it is open."""
    gate = asyncio.Event()

    async def handle(conn, _):
        while await conn.request(60):
            await gate.wait()
            await conn.send(answer())

    return gate, handle


async def test_connection_cap(driver):
    """No more connections to an endpoint than allowed; what cannot be had is 503 with a Retry-After."""
    gate, handle = held()

    async with Endpoint(handle) as endpoint:
        async with Gateway(driver, [endpoint], endpoint={"connections_per_shard_max": 3}) as gateway:
            first = [asyncio.ensure_future(ask(gateway)) for _ in range(3)]
            await asyncio.sleep(0.2)
            reply = await ask(gateway)
            assert reply.status == 503 and reply.header("retry-after"), reply
            gate.set()
            assert [reply.status for reply in await asyncio.gather(*first)] == [200] * 3
            assert (await ask(gateway)).status == 200
            assert endpoint.served == 3


async def test_connection_caps_at_one_address(driver):
    """Endpoints that share an address have a cap each."""
    gate, handle = held()

    async with Endpoint(handle) as one:
        async with Gateway(driver, [one, one], endpoint={"connections_per_shard_max": 2}) as gateway:
            first = [asyncio.ensure_future(ask(gateway)) for _ in range(4)]
            async with asyncio.timeout(10):
                while one.served < 4:
                    await asyncio.sleep(0.01)
            reply = await ask(gateway)
            assert reply.status == 503 and reply.header("retry-after"), reply
            gate.set()
            assert [reply.status for reply in await asyncio.gather(*first)] == [200] * 4
            assert [(await ask(gateway)).status for _ in range(4)] == [200] * 4
            assert one.served == 4


async def test_deadlines(driver):
    """Nothing from an endpoint waits for ever: 504 before the commit point."""

    async def handle(conn, _):
        while request := await conn.request(60):
            match request.header("x-case"):
                case "silent":
                    await conn.fill(60)
                    return
                case "head":
                    await conn.send(STREAM_HEAD)
                    await conn.fill(60)
                    return
                case "half":
                    await conn.send(answer()[:-9])
                    await conn.fill(60)
                    return

    options = {"first_byte_streamed_seconds": 0.5, "first_byte_unary_seconds": 1.0, "stall_seconds": 0.7}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], timeouts=options) as gateway:
        for case, body, least, most in (
            ("silent", STREAM, 0.4, 2.5),
            ("head", STREAM, 0.4, 2.5),
            ("silent", ASK, 0.9, 3.0),
            ("half", ASK, 0.6, 2.7),
        ):
            began = time.monotonic()
            reply = await ask(gateway, body, f"x-case: {case}")
            took = time.monotonic() - began
            assert reply.status == 504 and least < took < most, (case, took, reply)
            assert reply.json()["error"]["code"] == "upstream_timeout", reply


async def test_no_endpoint(driver):
    """Nothing listens there: 502 or 503, at once, in the API's shape."""
    endpoint = Endpoint(None)
    async with endpoint:
        pass
    gateway = Gateway(driver, [endpoint])
    gateway.ready_statuses = (200, 503)
    async with gateway:
        for path, family in ((PATH, "error"), ("/v1/messages", "type")):
            reply = await ask(gateway, ASK, path=path)
            assert reply.status in (502, 503) and family in reply.json(), reply
