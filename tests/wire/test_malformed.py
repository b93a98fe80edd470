"""Requests that must be refused, over sockets: the status, the API's error body, and a readable end."""

import asyncio

from lib.endpoint import Endpoint, always, answer
from lib.process import Gateway
from lib.sock import chunked, post

PATH = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
GOOD = post(PATH, BODY)
LIMITS = {"header_count_max": 96, "chunk_extension_bytes_max": 64, "trailer_bytes_max": 256}


def raw(fields, body=b"", version="HTTP/1.1", line=None):
    """A request with these field lines behind a sound Host field."""
    line = line or f"POST {PATH} {version}"
    return f"{line}\r\nhost: h\r\ncontent-type: application/json\r\n".encode() + fields + b"\r\n" + body


def pieces(body):
    """A request with a body in the given chunked bytes."""
    return raw(b"transfer-encoding: chunked\r\n", body)


# name, bytes, status
REFUSED = [
    ("length and coding", raw(b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    ("coding and length", raw(b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n"), 400),
    ("two equal lengths", raw(b"content-length: 27\r\ncontent-length: 27\r\n", BODY), 400),
    ("two lengths", raw(b"content-length: 27\r\ncontent-length: 26\r\n", BODY), 400),
    ("a list of lengths", raw(b"content-length: 27, 27\r\n", BODY), 400),
    ("signed length", raw(b"content-length: +27\r\n", BODY), 400),
    ("negative length", raw(b"content-length: -1\r\n"), 400),
    ("length of 2^64", raw(b"content-length: 18446744073709551616\r\n"), 400),
    ("hexadecimal length", raw(b"content-length: 0x1b\r\n", BODY), 400),
    ("empty length", raw(b"content-length:\r\n"), 400),
    (
        "identity, chunked and a length",
        raw(b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n"),
        400,
    ),
    ("coding in HTTP/1.0", raw(b"transfer-encoding: chunked\r\n", b"0\r\n\r\n", "HTTP/1.0"), 400),
    ("space before the colon", raw(b"transfer-encoding : chunked\r\n", b"0\r\n\r\n"), 400),
    ("gzip, chunked", raw(b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
    ("chunked twice", raw(b"transfer-encoding: chunked, chunked\r\n", b"0\r\n\r\n"), 400),
    ("chunked, gzip", raw(b"transfer-encoding: chunked, gzip\r\n", b"0\r\n\r\n"), 400),
    ("vertical tab before chunked", raw(b"transfer-encoding: \x0bchunked\r\n", b"0\r\n\r\n"), 400),
    ("chunk size -1", pieces(b"-1\r\n"), 400),
    ("chunk size missing", pieces(b"\r\n{}\r\n0\r\n\r\n"), 400),
    ("chunk size of 17 digits", pieces(b"00000000000000001\r\n{\r\n0\r\n\r\n"), 400),
    ("chunk size of 9 digits", pieces(b"00000001b\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("chunk size near 2^64", pieces(b"fffffffffffffffd\r\n" + BODY), (400, 413)),
    ("chunk size 0x", pieces(b"0x1b\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("chunk size with a space", pieces(b" 1b\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("chunk size line ends with LF", pieces(b"1b\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("no CRLF after a chunk", pieces(b"1b\r\n" + BODY + b"0\r\n\r\n"), 400),
    ("LF after a chunk", pieces(b"1b\r\n" + BODY + b"\n0\r\n\r\n"), 400),
    ("last chunk ends with LF", pieces(b"1b\r\n" + BODY + b"\r\n0\n\r\n"), 400),
    ("bare CR in a chunk size", pieces(b"1b\r" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("long chunk extension", pieces(b"1b;" + b"x" * 200 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    ("long trailers", pieces(b"1b\r\n" + BODY + b"\r\n0\r\na: " + b"x" * 999 + b"\r\n\r\n"), (400, 431)),
    ("every line ends with LF", GOOD.replace(b"\r\n", b"\n"), 400),
    ("one field ends with LF", GOOD.replace(b"host: h\r\n", b"host: h\n"), 400),
    ("request line ends with LF", GOOD.replace(b"1.1\r\n", b"1.1\n"), 400),
    ("head ends with LF", GOOD.replace(b"\r\n\r\n", b"\r\n\n"), 400),
    ("bare CR in a value", raw(b"a: b\rc\r\n"), 400),
    ("NUL in a value", raw(b"a: b\0c\r\n"), 400),
    ("NUL in a name", raw(b"a\0b: c\r\n"), 400),
    ("folded field", raw(b"a: b\r\n c\r\n"), 400),
    ("folded first field", b"GET /v1/models HTTP/1.1\r\n host: h\r\n\r\n", 400),
    ("no name", raw(b": c\r\n"), 400),
    ("no colon", raw(b"abc\r\n"), 400),
    ("no host", b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    ("two hosts", raw(b"Host: h\r\n"), 400),
    ("two different hosts", raw(b"Host: other\r\n"), 400),
    ("host with a user", GOOD.replace(b"host: h\r\n", b"host: u@h\r\n"), 400),
    ("empty host", GOOD.replace(b"host: h\r\n", b"host:\r\n"), 400),
    ("too many headers", raw(b"a: b\r\n" * 97), 431),
    ("header of 1 MiB", raw(b"a: " + b"x" * (1 << 20) + b"\r\n"), 431),
    ("unterminated head of 16 MiB", b"GET / HTTP/1.1\r\nhost: h\r\na: " + b"x" * (16 << 20), 431),
    ("header name of 70,000 bytes", raw(b"n" * 70_000 + b": c\r\n"), 431),
    ("target of 70,000 bytes", b"GET /" + b"t" * 70_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", 414),
    ("target over its limit", b"GET /" + b"t" * 9_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", 414),
    ("two empty lines first", b"\r\n\r\n" + GOOD, 400),
    ("empty line of a bare LF first", b"\n" + GOOD, 400),
    ("length of 10^12", raw(b"content-length: 1000000000000\r\n", b"{" * (8 << 20)), 413),
    ("another expectation", raw(b"expect: 200-ok\r\ncontent-length: 27\r\n"), 417),
    ("HTTP/0.9", b"GET /v1/models\r\n\r\n", 400),
    ("HTTP/2.0", raw(b"", version="HTTP/2.0"), 505),
    ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/1.2", raw(b"", version="HTTP/1.2"), 505),
    ("TLS hello", bytes.fromhex("16030100f1010000ed0303") + bytes(200), 400),
    ("CONNECT", b"CONNECT h:443 HTTP/1.1\r\nhost: h\r\n\r\n", 501),
    ("target is no path", b"GET models HTTP/1.1\r\nhost: h\r\n\r\n", 400),
    ("fragment in the target", b"GET /v1/models#x HTTP/1.1\r\nhost: h\r\n\r\n", 400),
    ("two spaces", b"GET  /v1/models HTTP/1.1\r\nhost: h\r\n\r\n", 400),
    ("space before the method", b" GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n", 400),
    ("two authorizations", raw(b"authorization: Bearer a\r\nauthorization: Bearer b\r\n"), 400),
    ("noise", bytes(range(128, 256)) * 4, 400),
]

# These are lawful, or forgiven; name, bytes.
ACCEPTED = [
    ("one empty line first", b"\r\n" + GOOD),
    ("chunked", pieces(chunked(BODY))),
    ("chunked, one byte each", pieces(chunked(BODY, 1))),
    ("short chunk extension", pieces(chunked(BODY, 9, b";a=b"))),
    ("trailers", pieces(chunked(BODY)[:-2] + b"x-a: b\r\n\r\n")),
    ("Chunked in capitals", raw(b"Transfer-Encoding: CHUNKED\r\n", chunked(BODY))),
    ("absolute target", GOOD.replace(PATH.encode(), b"http://h" + PATH.encode())),
    ("leading zeros in a chunk size", pieces(b"0000001b\r\n" + BODY + b"\r\n0\r\n\r\n")),
    ("leading zeros in a length", raw(b"content-length: 027\r\n", BODY)),
]


def shaped(reply, status):
    """The error is OpenAI's, and says something."""
    statuses = status if isinstance(status, tuple) else (status,)
    assert reply.status in statuses, reply
    assert reply.complete and reply.header("content-type") == "application/json", reply
    error = reply.json()["error"]
    assert error["message"] and error["type"] and "param" in error and "code" in error, reply
    assert reply.header("connection") == "close", reply
    assert reply.header("x-request-id"), reply


async def refused(gateway, name, data, status, pieces_of=None):
    async with await gateway.conn() as conn:
        try:
            if pieces_of:
                await conn.drip(data, pieces_of)
            else:
                await conn.send(data)
        except Exception:  # noqa: BLE001
            raise AssertionError(f"{name}: the connection broke while the request was being sent") from None
        reply = await conn.reply()
        shaped(reply, status)
        ending = await conn.ending()
        assert ending == "fin", f"{name}: the error ends with {ending}"


async def test_table(driver):
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint], limits=LIMITS) as gateway:
        failures = []
        for name, data, status in REFUSED:
            try:
                await refused(gateway, name, data, status)
            except Exception as error:  # noqa: BLE001: the table is read to its end
                failures.append(f"{name}: {type(error).__name__} {error}"[:600])
        assert not failures, "\n".join(failures)
        assert endpoint.served == 0, "a refused request reached the endpoint"
        assert gateway.rss_kib() < 100 << 10, f"{gateway.rss_kib()} KiB"


async def test_table_byte_by_byte(driver):
    """The verdict does not depend on how the bytes are cut."""
    # So many bytes, each waited for, may take long on a busy machine.
    options = {"limits": LIMITS, "timeouts": {"head_seconds": 120, "body_seconds": 120}}
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint], **options) as gateway:
        failures = []

        async def row(name, data, status):
            for size in (1, 3):
                try:
                    await broken_off(gateway, data, status, size)
                except Exception as error:  # noqa: BLE001
                    failures.append(f"{name}/{size}: {type(error).__name__} {error}"[:600])

        await asyncio.gather(*(row(*one) for one in REFUSED if len(one[1]) <= 1_000))
        assert endpoint.served == 0
        assert not failures, "\n".join(failures)


async def broken_off(gateway, data, status, size):
    """As a client that stops sending once it is answered."""
    async with await gateway.conn() as conn:
        for at in range(0, len(data), size):
            await conn.send(data[at : at + size])
            try:
                await conn.fill(0.0005)
            except TimeoutError:
                continue
            break
        shaped(await conn.reply(), status)
        assert await conn.ending() == "fin"


async def test_accepted(driver):
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint], limits=LIMITS) as gateway:
        failures = []
        for name, data in ACCEPTED:
            for size in (None, 1, 5):
                async with await gateway.conn() as conn:
                    # Twice on one connection: nothing of the first may be left over.
                    for _ in range(2):
                        await (conn.drip(data, size) if size else conn.send(data))
                        try:
                            reply = await conn.reply(patience=3)
                        except Exception as error:  # noqa: BLE001
                            failures.append(f"{name}/{size}: {error!r}"[:300])
                            break
                        if reply.status != 200:
                            failures.append(f"{name}/{size}: {reply}")
                            break
        assert not failures, "\n".join(failures)


async def test_anthropic_shape(driver):
    """Once the head could be read, the family is known."""
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for body, status, kind in [
            (b"{", 400, "invalid_request_error"),
            (b'{"model":"nope","messages":[]}', 404, "not_found_error"),
            (b'{"messages":[]}', 400, "invalid_request_error"),
            (b'{"model":"m","model":"m","messages":[]}', 400, "invalid_request_error"),
            (b'{"model":"m","mod\\u0065l":"m","messages":[]}', 400, "invalid_request_error"),
            (b'{"model":7,"messages":[]}', 400, "invalid_request_error"),
            (b"[]", 400, "invalid_request_error"),
        ]:
            async with await gateway.conn() as conn:
                await conn.send(post("/v1/messages", body, "anthropic-version: 2023-06-01"))
                reply = await conn.reply()
                assert reply.status == status, reply
                value = reply.json()
                assert value["type"] == "error" and value["error"]["type"] == kind, reply
                assert value["request_id"] == reply.header("request-id"), reply
                # Nothing is wrong with the connection.
                await conn.send(post("/v1/messages", b'{"model":"m","messages":[],"max_tokens":1}'))
                assert (await conn.reply()).status == 200


async def test_errors_of_a_sound_head(driver):
    """What is wrong with the request but not with the connection."""
    cases = [
        (b"GET /nowhere HTTP/1.1\r\nhost: h\r\n\r\n", 404, {}),
        (b"GET /v1/chat/completions HTTP/1.1\r\nhost: h\r\n\r\n", 405, {"allow": "POST"}),
        (b"DELETE /v1/models HTTP/1.1\r\nhost: h\r\n\r\n", 405, {}),
        (b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", (404, 405), {}),
        (b"BREW /v1/models HTTP/1.1\r\nhost: h\r\n\r\n", 405, {}),
        (b"GET /v1/models/nope HTTP/1.1\r\nhost: h\r\n\r\n", 404, {}),
        (post(PATH, BODY, "content-encoding: gzip"), 415, {}),
        (GOOD.replace(b"application/json", b"text/plain"), 415, {}),
        (post(PATH, b""), 400, {}),
        (post(PATH, b'{"model":"m","stream":1}'), 400, {}),
    ]
    async with Endpoint(always(answer())) as endpoint, Gateway(driver, [endpoint]) as gateway:
        for data, status, headers in cases:
            statuses = status if isinstance(status, tuple) else (status,)
            async with await gateway.conn() as conn:
                await conn.send(data)
                reply = await conn.reply()
                assert reply.status in statuses, (data[:60], reply)
                assert reply.json()["error"]["message"], reply
                for name, value in headers.items():
                    assert reply.header(name) == value, reply
        assert endpoint.served == 0
