"""HTTP's small print on the client's side: expectations, HEAD, HTTP/1.0, keep-alive, pipelining, chunked bodies."""

import asyncio
import json
import random

from lib.endpoint import ANSWER, DONE, FINISH, STREAM_HEAD, Endpoint, always, answer, chunk, delta
from lib.process import Gateway, Sim
from lib.sock import chunked, post

PATH = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
MODELS = b"GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n"


async def test_expect_continue(driver):
    body = json.dumps(ASK).encode()
    endpoint = Endpoint(always(answer()))

    async def handle(conn, _):
        while await endpoint.next(conn):
            await conn.send(answer())

    endpoint.handle = handle
    async with endpoint, Gateway(driver, [endpoint], limits={"body_bytes_max": 1024}) as gateway:
        for framing in (f"content-length: {len(body)}", "transfer-encoding: chunked"):
            data = body if "length" in framing else chunked(body)
            for _ in range(2):
                async with await gateway.conn() as conn:
                    await conn.send(post(PATH, b"", "Expect: 100-Continue", framing, length=False))
                    interim = await conn.head()
                    assert interim.status == 100 and not interim.headers, interim
                    await conn.silent(0.1)
                    await conn.drip(data, 5)
                    reply = await conn.reply()
                    assert reply.status == 200 and not reply.interim, reply
        for request in endpoint.requests:
            assert request.header("expect") is None, request
        # Not where the body comes along, nor where there is none, nor in HTTP/1.0.
        async with await gateway.conn() as conn:
            await conn.send(post(PATH, body, "expect: 100-continue"))
            assert (await conn.reply()).interim == []
            await conn.send(b"GET /v1/models HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\r\n")
            assert (await conn.reply()).interim == []
            head = post(PATH, b"", "expect: 100-continue", f"content-length: {len(body)}", length=False)
            await conn.send(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
            await conn.silent(0.2)
            await conn.send(body)
            assert (await conn.reply()).status == 200


async def test_expect_continue_refused(driver):
    """No 100 for a request that is refused by its head: the body must not be sent."""
    async with Endpoint(always(answer())) as endpoint:
        environment = {"K": "the-key-of-this-test"}
        options = {"keys": {"k": "env:K"}, "environment": environment, "limits": {"body_bytes_max": 1024}}
        async with Gateway(driver, [endpoint], **options) as gateway:
            key = "authorization: Bearer the-key-of-this-test"
            cases = [
                (PATH, ["content-length: 27"], 401),
                (PATH, ["content-length: 27", "x-api-key: wrong"], 401),
                (PATH, [key, "content-length: 1025"], 413),
                (PATH, [key, "content-length: 27", "content-encoding: gzip"], 415),
                ("/v1/nothing", [key, "content-length: 27"], 404),
            ]
            for path, fields, status in cases:
                async with await gateway.conn() as conn:
                    await conn.send(post(path, b"", "expect: 100-continue", *fields, length=False))
                    reply = await conn.reply()
                    assert reply.status == status and reply.interim == [], reply
                    # The body was not read, so nothing may follow on this connection.
                    assert reply.header("connection") == "close", reply
                    assert await conn.ending() == "fin"
            async with await gateway.conn() as conn:
                await conn.send(post(PATH, b"", key, "expect: 100-continue", "content-length: 27", length=False))
                assert (await conn.head()).status == 100
                await conn.send(b'{"model":"m","messages":[]}')
                assert (await conn.reply()).status == 200


async def test_head(driver):
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            await conn.send(MODELS)
            whole = await conn.reply()
            await conn.send(MODELS.replace(b"GET", b"HEAD") + MODELS)
            head = await conn.reply(no_body=True)
            assert head.status == 200 and head.header("content-length") == str(len(whole.body)), head
            # Had a body come, it would stand here.
            assert (await conn.reply()).body == whole.body
            for path, status in ((b"/v1/models/nope", 404), (b"/v1/none", 404), (PATH.encode(), 405)):
                await conn.send(b"HEAD " + path + b" HTTP/1.1\r\nhost: h\r\n\r\n" + MODELS)
                head = await conn.reply(no_body=True)
                assert head.status == status and int(head.header("content-length")) > 0, head
                assert (await conn.reply()).body == whole.body


async def test_http10(driver):
    """No chunks towards HTTP/1.0; kept alive only when asked and only where a length says the end."""

    async def handle(conn, _):
        while request := await conn.request(60):
            if b'"stream"' in request.body:
                await conn.send(STREAM_HEAD + chunk(delta("a")) + chunk(FINISH) + chunk(DONE) + chunk(b""))
            else:
                await conn.send(answer())

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        old = lambda data: data.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"host: h\r\n", b"")  # noqa: E731
        async with await gateway.conn() as conn:
            await conn.send(old(post(PATH, ASK)))
            reply = await conn.reply()
            assert reply.status == 200 and reply.header("connection") == "close", reply
            assert await conn.ending() == "fin"
        async with await gateway.conn() as conn:
            for _ in range(3):
                await conn.send(old(post(PATH, ASK, "connection: keep-alive")))
                reply = await conn.reply()
                assert reply.status == 200 and reply.header("connection") == "keep-alive", reply
            await conn.send(old(post(PATH, {**ASK, "stream": True}, "connection: keep-alive")))
            reply = await conn.reply()
            assert reply.header("transfer-encoding") is None and reply.header("connection") == "close", reply
            assert reply.body == delta("a") + FINISH + DONE and reply.complete, reply
        async with await gateway.conn() as conn:
            await conn.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
            assert (await conn.reply()).status == 200
            assert await conn.ending() == "fin"


async def test_client_closes(driver):
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for field in ("connection: close", "Connection: x-a, Close", "connection: keep-alive, close"):
            async with await gateway.conn() as conn:
                # What follows a request that closes is not answered.
                await conn.send(post(PATH, ASK, field) + MODELS)
                reply = await conn.reply()
                assert reply.status == 200 and reply.header("connection") == "close", reply
                assert await conn.ending() == "fin"


async def test_keep_alive_after_errors(driver):
    """A refused request whose end is known leaves the connection usable."""
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            for _ in range(3):
                for data, status in (
                    (post(PATH, b"{"), 400),
                    (post(PATH, {"model": "nope", "messages": []}), 404),
                    (b"GET /nowhere HTTP/1.1\r\nhost: h\r\n\r\n", 404),
                    (post(PATH, ASK), 200),
                    (b"GET /v1/models HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc", 200),
                    (MODELS, 200),
                ):
                    await conn.send(data)
                    reply = await conn.reply()
                    assert reply.status == status and reply.header("connection") is None, reply


async def test_pipelining(driver):
    """In order, each its own answer, however the bytes are cut."""

    async def handle(conn, _):
        while request := await conn.request(60):
            content = json.loads(request.body)["messages"][0]["content"]
            await asyncio.sleep(random.choice((0, 0, 0.005, 0.03)))
            await conn.send(answer({**ANSWER, "id": content}))

    def ask(number):
        body = {**ASK, "messages": [{"role": "user", "content": f"n{number}"}]}
        if number % 3:
            return post(PATH, body)
        head = post(PATH, b"", "transfer-encoding: chunked", length=False)
        return head + chunked(json.dumps(body).encode(), 11)

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for size, count in ((None, 20), (1, 3), (100, 20), (977, 20), (4096, 60), (5000, 60)):
            async with await gateway.conn() as conn:
                data = b"".join(map(ask, range(count)))
                sending = asyncio.ensure_future(conn.drip(data, size or len(data)))
                for number in range(count):
                    reply = await conn.reply(patience=5)
                    assert reply.json()["id"] == f"n{number}", (size, number, reply)
                await sending
        # All at once, far more than is read early, with answers nobody reads for a while.
        async with await gateway.conn() as conn:
            data = b"".join(map(ask, range(400)))
            sending = asyncio.ensure_future(conn.send(data))
            await asyncio.sleep(0.3)
            for number in range(400):
                reply = await conn.reply(patience=5)
                assert reply.json()["id"] == f"n{number}", (number, reply)
            await sending


async def test_second_request_while_the_first_is_served(driver):
    """It arrives in the middle of an answer, whole or in parts, and is answered after it."""
    gate = asyncio.Event()

    async def handle(conn, _):
        while request := await conn.request(60):
            if b"wait" in request.body:
                await gate.wait()
            await conn.send(answer({**ANSWER, "id": "first" if b"wait" in request.body else "second"}))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        first = post(PATH, {**ASK, "user": "wait"})
        for second in (MODELS, post(PATH, ASK), post(PATH, {**ASK, "user": "x" * 9_000})):
            for cuts in ([len(second)], [1], [len(second) - 1], [10, 50], [90, 91, 92]):
                gate.clear()
                async with await gateway.conn() as conn:
                    await conn.send(first)
                    await asyncio.sleep(0.03)
                    at = 0
                    for cut in cuts:
                        await conn.send(second[at:cut])
                        at = cut
                        await asyncio.sleep(0.01)
                    gate.set()
                    assert (await conn.reply()).json()["id"] == "first"
                    await conn.send(second[at:])
                    reply = await conn.reply(patience=3)
                    assert reply.status == 200, reply


async def test_bodies(driver):
    """Lengths around the buffers' sizes, both framings, cut at random: the endpoint gets these bytes."""
    endpoint = Endpoint(None)

    async def handle(conn, _):
        while await endpoint.next(conn):
            await conn.send(answer())

    endpoint.handle = handle
    async with endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            for size in (0, 1, 3_900, 4_000, 4_095, 4_096, 4_097, 16_300, 16_384, 65_500, 65_536, 300_000, 3 << 20):
                body = json.dumps({**ASK, "user": "é\\\"" * (size // 8)}, ensure_ascii=False).encode()
                for data in (
                    post(PATH, body),
                    post(PATH, b"", "transfer-encoding: chunked", length=False) + chunked(body, 8_191),
                ):
                    step = max(1, len(data) // random.randint(1, 9))
                    await conn.drip(data, step)
                    assert (await conn.reply()).status == 200, size
                    request = endpoint.requests.pop()
                    assert request.body == body, size
                    assert request.header("content-length") == str(len(body))
                    assert request.header("transfer-encoding") is None


async def test_headers_forwarded(driver):
    endpoint = Endpoint(None)

    async def handle(conn, _):
        while await endpoint.next(conn):
            fields = ("set-cookie: a=b", "x-ratelimit-remaining-tokens: 7", "connection: x-hop", "x-hop: 1",
                      "keep-alive: timeout=5", "openai-version: 1", "server: s", "x-request-id: theirs")
            await conn.send(answer(ANSWER, "200 OK", *fields))

    endpoint.handle = handle
    async with endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            fields = ("cookie: a=b", "authorization: Bearer sk-x", "x-api-key: sk-y", "accept-encoding: gzip, br",
                      "connection: x-drop-me", "x-drop-me: 1", "te: trailers", "anthropic-beta: z",
                      "openai-organization: o", "x-own: kept", "x-request-id: ours-1", "x-forwarded-for: 1.2.3.4",
                      "proxy-authorization: Basic eA==")
            await conn.send(post(PATH + "?a=b&c", ASK, *fields))
            reply = await conn.reply()
            got = dict(endpoint.requests[0].headers)
            assert endpoint.requests[0].target == PATH + "?a=b&c"
            for name in ("cookie", "authorization", "x-api-key", "x-drop-me", "te", "connection",
                         "proxy-authorization", "x-forwarded-for"):
                assert name not in got, name
            assert got["accept-encoding"] == "identity" and got["anthropic-beta"] == "z"
            assert got["openai-organization"] == "o" and got["x-own"] == "kept" and got["x-request-id"] == "ours-1"
            assert reply.header("x-request-id") == "ours-1" and reply.header("x-ratelimit-remaining-tokens") == "7"
            for name in ("set-cookie", "x-hop", "keep-alive", "connection"):
                assert reply.header(name) is None, reply


async def test_big_heads(driver):
    """Just under the limit, in both directions, whole and cut."""
    endpoint = Endpoint(None)
    fields = [f"x-big-{at}: {'v' * 1_000}{at}" for at in range(30)]

    async def handle(conn, _):
        while await endpoint.next(conn):
            await conn.drip(answer(ANSWER, "200 OK", *fields), 6_000)

    endpoint.handle = handle
    async with endpoint, Gateway(driver, [endpoint]) as gateway:
        for size in (1 << 20, 4_096, 999):
            async with await gateway.conn() as conn:
                for _ in range(2):
                    await conn.drip(post(PATH, ASK, *fields), size)
                    reply = await conn.reply()
                    assert reply.status == 200 and len(reply.headers) >= 30, reply
                    for at in range(30):
                        assert reply.header(f"x-big-{at}") == "v" * 1_000 + str(at)
                        assert endpoint.requests[-1].header(f"x-big-{at}") == "v" * 1_000 + str(at)


async def test_both_sides_interleave(driver):
    """Many requests on many connections through few: everyone gets their own."""
    async with Sim("--instant", "--model", "m") as sim, Gateway(driver, [sim], shards=2) as gateway:

        async def client(number):
            async with await gateway.conn() as conn:
                for turn in range(20):
                    me = f"c{number}-{turn}"
                    body = {**ASK, "stream": turn % 2 == 0, "max_tokens": 5 + turn}
                    await conn.send(post(PATH, body, f"x-request-id: {me}"))
                    reply = await conn.reply()
                    assert reply.status == 200 and reply.complete, reply
                    assert reply.header("x-request-id") == me and me.encode() in reply.body, reply

        await asyncio.gather(*map(client, range(50)))
