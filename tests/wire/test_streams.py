"""Streams: the commit point, what breaks before and after it, bytes that pass unchanged, slow readers."""

import asyncio
import itertools
import json
import random
import time

from lib.endpoint import DONE, FINISH, STREAM_HEAD, Endpoint, always, answer, chunk, delta
from lib.process import Gateway, Sim
from lib.sock import post

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
ASKS = {
    CHAT: {"model": "m", "messages": MESSAGES, "stream": True, "max_tokens": 12},
    "/v1/completions": {"model": "m", "prompt": "hello", "stream": True, "max_tokens": 12},
    "/v1/messages": {"model": "m", "messages": MESSAGES, "stream": True, "max_tokens": 12},
    "/v1/responses": {"model": "m", "input": "hello", "stream": True, "max_output_tokens": 12},
}
LAST = {CHAT: b"[DONE]", "/v1/completions": b"[DONE]", "/v1/messages": b"message_stop",
        "/v1/responses": b"response.completed"}
SHORT = {"first_byte_streamed_seconds": 1, "first_byte_unary_seconds": 1, "stall_seconds": 1}


async def ask(gateway, path, *headers, body=None, patience=10):
    async with await gateway.conn() as conn:
        await conn.send(post(path, body or ASKS[path], *headers))
        reply = await conn.reply(patience=patience)
        if not reply.complete:
            assert conn.ended == "fin", "an honest end is not a reset"
        return reply


def events(body):
    """The events of a stream, and what follows the last whole one."""
    parts = body.split(b"\n\n")
    return parts[:-1], parts[-1]


def check_error_event(path, event):
    """An error in the API's own shape."""
    fields = dict(line.split(b": ", 1) for line in event.split(b"\n"))
    value = json.loads(fields[b"data"])
    if path == "/v1/messages":
        assert fields[b"event"] == b"error" and value["type"] == "error", event
        assert value["error"]["type"] and value["error"]["message"], event
    elif path == "/v1/responses":
        assert fields[b"event"] == b"error" and value["type"] == "error" and value["message"], event
        assert value["code"] and isinstance(value["sequence_number"], int), event
    else:
        assert b"event" not in fields and value["error"]["message"] and value["error"]["type"], event


# Before the commit point: fault, status of the only endpoint's answer.
BEFORE = [
    ("refuse", 502), ("refuse:rst", 502), ("429:7", 429), ("status:500", 500), ("status:503", 503),
    ("status:404", 404), ("status:401", 502), ("oom", 500), ("html", 502), ("hang", 504), ("hang-head", 504),
    ("rst:0", 502), ("fin:0", 502), ("rst:40", 502), ("fin:40", 502), ("rst:200", 502), ("fin:200", 502),
    ("stall:0", 504), ("error:0", (500, 502, 503)),
]


async def test_before_the_commit_point(driver):
    """A real status in the API's shape; with another endpoint, its answer."""
    async with Sim("--instant", "--model", "m") as sim, Sim("--instant", "--model", "m") as good:
        async with Gateway(driver, [sim], timeouts=SHORT) as alone:
            failures = []

            async def single(fault, status, path):
                reply = await ask(alone, path, f"x-sim-fault: {fault}")
                statuses = status if isinstance(status, tuple) else (status,)
                sound = reply.status in statuses and reply.complete
                sound = sound and (b"error" in reply.body) and reply.header("content-type") == "application/json"
                if fault.startswith("429"):
                    sound = sound and reply.header("retry-after") == "7"
                if not sound:
                    failures.append(f"{fault} {path}: {reply}")

            await asyncio.gather(*(single(*row, path) for row in BEFORE for path in ASKS))
            assert not failures, "\n".join(failures)
        # Only the first endpoint misbehaves, and for its own default fault.
        async with Gateway(driver, [sim, good], timeouts=SHORT) as pair:
            for fault, status in BEFORE:
                await set_fault(sim, fault)
                for _ in range(2):
                    reply = await ask(pair, CHAT)
                    if fault in ("hang", "hang-head", "stall:0"):
                        # Its whole time is used up; asking another would take as long again.
                        assert reply.status in (200, 504), (fault, reply)
                    elif fault == "status:404":
                        assert reply.status in (200, 404), (fault, reply)
                    else:
                        assert reply.status == 200 and LAST[CHAT] in reply.body, (fault, reply)


async def set_fault(sim, fault):
    from lib.sock import Conn

    async with await Conn.open(sim.address) as conn:
        await conn.send(post("/sim/fault", {"fault": fault}))
        assert (await conn.reply()).status == 200


AFTER = ["rst:1500", "fin:1500", "rst:1900", "stall:2", "stall:3", "fin:2300", "truncate:8"]


async def test_after_the_commit_point(driver):
    """Whole events, then the API's error event, then the end: no last chunk, nothing forged."""
    # Paced, so that what comes before a reset is read before it.
    async with Sim("--decode-ms", "8", "--model", "m") as sim:
        async with Gateway(driver, [sim], timeouts=SHORT) as gateway:
            for path in ASKS:
                reply = await ask(gateway, path, "x-request-id: same")
                assert reply.complete and LAST[path] in reply.body, reply

            async def single(fault, path):
                reply = await ask(gateway, path, f"x-sim-fault: {fault}", "x-request-id: same")
                assert reply.status == 200 and not reply.complete, (fault, reply)
                assert LAST[path] not in reply.body, (fault, path, reply.body)
                found, rest = events(reply.body)
                assert rest == b"", (fault, path, rest)
                check_error_event(path, found[-1])
                assert len(found) > 1, (fault, path, found)
                if path == "/v1/responses":
                    # Numbered on from the server's own.
                    assert b'"sequence_number":%d,' % (len(found) - 1) in found[-1], found

            await asyncio.gather(*(single(fault, path) for fault in AFTER for path in ASKS))


# An answer's text and its finish, which some servers send no more than, in each API.
TEXT = {
    CHAT: delta("hi"),
    "/v1/completions": b'data: {"choices":[{"index":0,"text":"hi","finish_reason":null}]}\n\n',
    "/v1/messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hi"}}\n\n',
    "/v1/responses": b'event: response.output_text.delta\n'
    b'data: {"type":"response.output_text.delta","delta":"hi"}\n\n',
}
ENDED = {
    CHAT: FINISH,
    "/v1/completions": b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n',
    "/v1/messages": b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n',
    "/v1/responses": b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n',
}
# The beginning of an event that is larger than is held.
LARGE = b"data: " + b"x" * (100 << 10)


async def test_a_clean_end_is_not_an_answers_end(driver):
    """A body that is whole by its framing, and stops in the middle of the answer: the client is told."""
    broken, whole = ("ends", "inside", "large"), ("finished", "unended", "unread")
    left = {(path, case): asyncio.Event() for path in ASKS for case in broken + whole}

    def last(path, case):
        return {
            "ends": TEXT[path],
            "inside": TEXT[path] + b"data: {",
            "large": LARGE,
            "finished": ENDED[path],
            # It lacks its blank line, and says all the same that the answer is whole.
            "unended": ENDED[path][:-2],
            # Nobody knows what all of this event said.
            "unread": LARGE + b"\n\n",
        }[case]

    async def handle(conn, _):
        while request := await conn.request(60):
            path, case = request.target, request.header("x-case")
            await conn.send(STREAM_HEAD + chunk(TEXT[path]))
            await left[path, case].wait()
            await conn.send(chunk(last(path, case)) + chunk(b""))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:

        async def reply_to(path, case, me):
            async with await gateway.conn() as conn:
                await conn.send(post(path, ASKS[path], f"x-case: {case}", f"x-request-id: {me}"))
                reply = await conn.head()
                left[path, case].set()
                await conn.body(reply)
                return reply

        async def single(path, case):
            me = f"{case}{path}".replace("/", "-")
            reply = await reply_to(path, case, me)
            row = await gateway.row(me, 4)
            if case in whole:
                assert reply.complete and reply.body == TEXT[path] + last(path, case), (case, reply)
                assert row["outcome"] == "completed", (case, row)
                return
            assert row["outcome"] == "upstream_broken" and not reply.complete, (row, reply)
            if case == "large":
                # No lawful place for an error: it is cut.
                assert reply.body == TEXT[path] + LARGE, reply.body[-99:]
                return
            found, rest = events(reply.body)
            assert rest == b"" and len(found) == 3, (path, case, reply.body)
            assert [event + b"\n\n" for event in found[:2]] == [TEXT[path]] * 2
            check_error_event(path, found[2])

        await asyncio.gather(*(single(*one) for one in left))
        metrics = await gateway.metrics()
        assert metrics.sum("sluice_endpoint_failures_total", **{"class": "broken"}) == 3 * len(ASKS)


async def test_a_clean_end_before_the_commit_point(driver):
    """All there is came at once, and is no answer: a real status, or another endpoint's answer."""

    async def handle(conn, _):
        while request := await conn.request(60):
            await conn.send(STREAM_HEAD + chunk(TEXT[request.target]) + chunk(b""))

    async with Endpoint(handle) as bad, Sim("--instant", "--model", "m") as good:
        async with Gateway(driver, [bad]) as gateway:
            for path in ASKS:
                reply = await ask(gateway, path)
                assert reply.status == 502 and reply.complete and b"error" in reply.body, (path, reply)
        async with Gateway(driver, [bad, good]) as gateway:
            for path in ASKS:
                for _ in range(2):
                    reply = await ask(gateway, path)
                    assert reply.status == 200 and LAST[path] in reply.body, (path, reply)


async def test_events_that_are_wrong_pass_unchanged(driver):
    """What the endpoint says and frames itself is the client's to judge."""
    # Paced: an error that arrives together with the first events still becomes a real status.
    async with Sim("--decode-ms", "8", "--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        for fault in ("malformed:3", "nofinish", "loop:2", "error:6"):
            for path in ASKS:
                if (fault, path) == ("nofinish", "/v1/responses"):
                    # Its finish is its terminal event: that stream is broken.
                    continue
                ids = ("x-request-id: same", f"x-sim-fault: {fault}")
                async with await sim_conn(sim) as conn:
                    body = dict(ASKS[path])
                    if path in (CHAT, "/v1/completions"):
                        body["stream_options"] = {"include_usage": True}
                    await conn.send(post(path, body, *ids))
                    direct = await conn.reply()
                through = await ask(gateway, path, *ids, body=body)
                same = through.complete == direct.complete and undated(through) == undated(direct)
                assert same, (fault, path, direct.body[-900:], through.body[-900:])


def sim_conn(sim):
    from lib.sock import Conn

    return Conn.open(sim.address)


def undated(reply):
    import re

    return re.sub(rb'"created(_at)?":\d+', b'"created":0', reply.body)


async def test_random_cuts_byte_identical(driver):
    """A stream cut anywhere by its server's writes arrives with the same bytes, comments and odd line ends too."""
    rng = random.Random(driver)
    odd = [
        b": comment\n\n", b"data: {\"choices\":[]}\r\n\r\n", b"event: x\rid: 7\rdata: y\r\r",
        b"data: a\ndata: b\ndata: {\"c\":1}\n\n", b"retry: 5\n\n", b"\n\n\n", "data: é€𝄞\n\n".encode(),
        b"data: " + b"z" * 5_000 + b"\n\n", b"data:nospace\n\n", b"data\n\n", delta("x\\n\\ny"),
    ]

    async def handle(conn, _):
        while request := await conn.request(60):
            body = stream_of(int(request.header("x-seed")))
            await conn.send(STREAM_HEAD)
            at = 0
            while at < len(body):
                step = rng.choice((1, 2, 7, 100, 5_000))
                piece = b"".join(chunk(one) for one in halves(body[at : at + step]))
                await conn.send(piece)
                at += step
                if rng.random() < 0.2:
                    await asyncio.sleep(0.001)
            await conn.send(chunk(b""))

    def halves(data):
        cut = rng.randint(0, len(data))
        return [part for part in (data[:cut], data[cut:]) if part]

    def stream_of(seed):
        mine = random.Random(seed)
        parts = [delta("first")] + [mine.choice(odd + [delta("t" * mine.randint(0, 300))]) for _ in range(60)]
        return b"".join(parts) + FINISH + DONE

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:

        async def single(seed):
            body = {**ASKS[CHAT], "stream_options": {"include_usage": True}}
            reply = await ask(gateway, CHAT, f"x-seed: {seed}", body=body)
            assert reply.status == 200 and reply.complete, reply
            assert reply.body == stream_of(seed), seed

        for round_of in range(5):
            await asyncio.gather(*(single(round_of * 20 + one) for one in range(20)))


async def test_large_events(driver):
    """1 MiB events pass; a death inside one over 64 KiB just closes, inside a smaller one it is told."""
    big = delta("x" * (1 << 20))

    async def handle(conn, _):
        request = await conn.request(60)
        await conn.send(STREAM_HEAD + chunk(delta("a")))
        match request.header("x-case"):
            case "whole":
                for _ in range(3):
                    for at in range(0, len(big), 50_000):
                        await conn.send(chunk(big[at : at + 50_000]))
                await conn.send(chunk(FINISH + DONE) + chunk(b""))
                await conn.request(1)
            case "dies-inside":
                await conn.send(chunk(big[: 200 << 10]))
                await asyncio.sleep(0.1)
            case "dies-inside-small":
                await conn.send(chunk(big[: 50 << 10]))
                await asyncio.sleep(0.1)
            case "first":
                pass

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        reply = await ask(gateway, CHAT, "x-case: whole")
        assert reply.complete and reply.body == delta("a") + big * 3 + FINISH + DONE
        reply = await ask(gateway, CHAT, "x-case: dies-inside")
        assert not reply.complete and reply.body == delta("a") + big[: 200 << 10], len(reply.body)
        reply = await ask(gateway, CHAT, "x-case: dies-inside-small")
        found, rest = events(reply.body)
        assert not reply.complete and rest == b"" and len(found) == 2, (len(found), rest[:99])
        check_error_event(CHAT, found[1])


async def test_large_first_event(driver):
    """The commit point is bounded: a first event that never ends does not gather without end."""

    async def handle(conn, _):
        await conn.request(60)
        await conn.send(STREAM_HEAD + chunk(b"data: " + b"x" * (100 << 10)))
        await asyncio.sleep(1.5)
        await conn.send(chunk(b"y\n\n" + FINISH + DONE) + chunk(b""))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            await conn.send(post(CHAT, ASKS[CHAT]))
            began = time.monotonic()
            assert (await conn.head()).status == 200
            assert time.monotonic() - began < 1


async def test_error_behind_a_200(driver):
    """An error as a stream's first event becomes a real status, or another endpoint's answer."""
    said = {"error": {"message": "engine is asleep", "type": "x", "code": 503}}
    first = b"data: " + json.dumps(said).encode() + b"\n\n"

    async def handle(conn, _):
        while request := await conn.request(60):
            data = first
            if b"/v1/messages" in request.line.encode():
                body = {"type": "error", "error": {"type": "overloaded_error", "message": "engine is asleep"}}
                data = b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"
            if request.header("x-comment"):
                data = b": waiting\n\n" + data
            await conn.send(STREAM_HEAD + chunk(data) + chunk(DONE) + chunk(b""))

    async def whole(conn, _):
        """As servers answer that look at what was asked before they stream; the head may come first."""
        while request := await conn.request(60):
            body = said
            if b"/v1/messages" in request.line.encode():
                body = {"type": "error", "error": {"type": "overloaded_error", "message": "engine is asleep"}}
            data = json.dumps(body).encode()
            await conn.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data))
            if request.header("x-comment"):
                await asyncio.sleep(0.05)
            await conn.send(data)

    async with Endpoint(handle) as bad, Endpoint(whole) as json_bad, Sim("--instant", "--model", "m") as good:
        for one, path in itertools.product((bad, json_bad), (CHAT, "/v1/messages")):
            async with Gateway(driver, [one]) as gateway:
                for comment in ((), ("x-comment: 1",)):
                    reply = await ask(gateway, path, *comment)
                    assert reply.status in (502, 503, 529), reply
                    assert b"engine is asleep" in reply.body and b"[DONE]" not in reply.body, reply
        async with Gateway(driver, [bad, json_bad, good]) as gateway:
            for _ in range(9):
                reply = await ask(gateway, CHAT)
                assert reply.status == 200 and b"[DONE]" in reply.body and b"asleep" not in reply.body, reply


async def test_retry_budget(driver):
    """Errors are tried elsewhere, but not without end; beyond the budget the endpoint's own words arrive."""
    refusal = answer({"error": {"message": "busy here"}}, "429 Too Many", "retry-after: 7")
    async with Endpoint(always(refusal)) as first, Endpoint(always(refusal)) as second:
        async with Gateway(driver, [first, second]) as gateway:
            count = 400
            async with await gateway.conn() as conn:
                for _ in range(count):
                    await conn.send(post(CHAT, ASKS[CHAT]))
                    reply = await conn.reply()
                    assert reply.status == 429 and reply.header("retry-after") == "7", reply
                    assert b"busy here" in reply.body, reply
            metrics = await gateway.metrics()
            extra = metrics.sum("sluice_endpoint_attempts_total") - count
            assert 100 <= extra <= 100 + count * 0.2 + 1, extra


async def test_usage_is_withheld(driver):
    """The usage that Sluice asked for is not the client's; what the client asked for is."""
    async with Sim("--instant", "--model", "m") as sim, Gateway(driver, [sim]) as gateway:
        for path in (CHAT, "/v1/completions"):
            for options in ({}, None, {"include_usage": False}, {"include_usage": None}, {"include_usage": True}):
                body = {**ASKS[path], "stream_options": options}
                reply = await ask(gateway, path, body=body)
                wanted = options is not None and options.get("include_usage") is True
                assert reply.complete and b"[DONE]" in reply.body, reply
                assert (b'"choices":[]' in reply.body) == wanted, (path, options)
            body = dict(ASKS[path])
            reply = await ask(gateway, path, "x-request-id: metered", body=body)
            assert b'"choices":[]' not in reply.body
        rows = [row for row in await rows_of(gateway, 12) if row["operation"]]
        assert all(row["output_tokens"] == 12 and row["outcome"] == "completed" for row in rows), rows


async def rows_of(gateway, count):
    until = time.monotonic() + 3
    while len(rows := gateway.rows()) < count and time.monotonic() < until:
        await asyncio.sleep(0.02)
    return rows


async def test_slow_reader_pauses_its_upstream(driver):
    """Memory stays bounded, the endpoint is held back, others flow, and a stuck reader is cut."""
    sent = {}

    async def handle(conn, number):
        await conn.request(60)
        await conn.send(STREAM_HEAD)
        sent[number] = 0
        for _ in range(2_000):
            data = chunk(delta("x" * 16_000))
            await conn.send(data, patience=60)
            sent[number] += len(data)
        await conn.send(chunk(FINISH + DONE) + chunk(b""))

    options = {"write_stall_seconds": 2.5, "stall_seconds": 1}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], timeouts=options) as gateway:
        before = gateway.rss_kib()
        stuck = []
        for number in range(20):
            conn = await gateway.conn(receive_bytes=8_192)
            await conn.send(post(CHAT, ASKS[CHAT], f"x-request-id: stuck-{number}"))
            stuck.append(conn)
        await asyncio.sleep(1.2)
        paused = dict(sent)
        await asyncio.sleep(0.3)
        assert sent == paused, "the endpoint is not held back"
        # 32 MB each were to be sent.
        assert max(sent.values()) < 12 << 20, sent
        grown = gateway.rss_kib() - before
        assert grown < 20 * 512, f"{grown} KiB more for 20 stuck readers"
        # Whoever reads is served meanwhile.
        began = time.monotonic()
        reply = await ask(gateway, CHAT)
        assert reply.complete and reply.body.endswith(DONE) and time.monotonic() - began < 5
        for number in range(20):
            row = await gateway.row(f"stuck-{number}", 4)
            assert row["outcome"] in ("client_gone", "timed_out"), row
        for conn in stuck:
            conn.close()


async def test_a_slow_reader_is_not_its_endpoints_fault(driver):
    """Pauses longer than the endpoint's stall deadline, but shorter than the write's."""
    total = 12 << 20

    async def handle(conn, _):
        await conn.request(60)
        await conn.send(STREAM_HEAD)
        for _ in range(total // 16_000):
            await conn.send(chunk(delta("x" * 16_000)), patience=60)
        await conn.send(chunk(FINISH + DONE) + chunk(b""))

    options = {"write_stall_seconds": 10, "stall_seconds": 1}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], timeouts=options) as gateway:
        async with await gateway.conn(receive_bytes=8_192) as conn:
            await conn.send(post(CHAT, ASKS[CHAT]))
            await asyncio.sleep(3.5)
            reply = await conn.reply()
            assert reply.complete and reply.body.endswith(DONE), reply.body[-300:]


async def test_events_leave_as_they_come(driver):
    """No coalescing, no waiting: each event is there before the next is made."""
    gate = asyncio.Queue()

    async def handle(conn, _):
        await conn.request(60)
        await conn.send(STREAM_HEAD)
        while (text := await gate.get()) is not None:
            await conn.send(chunk(delta(text)))
        await conn.send(chunk(FINISH + DONE) + chunk(b""))

    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint]) as gateway:
        async with await gateway.conn() as conn:
            await conn.send(post(CHAT, ASKS[CHAT]))
            waits = []
            for number in range(50):
                began = time.monotonic()
                gate.put_nowait(f"t{number}")
                await conn.until(f"t{number}".encode() + b'"}}]}\n\n', 2)
                waits.append(time.monotonic() - began)
            gate.put_nowait(None)
            assert sorted(waits)[25] < 0.01, sorted(waits)


async def test_a_terminal_event_without_the_end_of_its_framing(driver):
    """The answer is all there: its client does not wait for a last chunk that never comes."""
    whole = delta("a") + FINISH + DONE

    async def handle(conn, _):
        request = await conn.request(60)
        await conn.send(STREAM_HEAD + chunk(whole))
        if request.header("x-case") == "silent":
            await conn.fill(60)

    options = {"stall_seconds": 60}
    async with Endpoint(handle) as endpoint, Gateway(driver, [endpoint], timeouts=options) as gateway:
        for case in ("silent", "closes"):
            reply = await ask(gateway, CHAT, f"x-case: {case}", f"x-request-id: {case}")
            assert reply.complete and reply.body == whole, (case, reply)
            row = await gateway.row(case, 5)
            assert row["outcome"] == "completed", row
        metrics = await gateway.settled()
        assert metrics.sum("sluice_endpoint_failures_total") == 0
