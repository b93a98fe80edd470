"""Everything at once: clients that leave anywhere, endpoints that misbehave anyhow. Nothing may be left behind,
every request has one outcome, and the second half costs no more memory or descriptors than the first.

`SLUICE_CHAOS_REQUESTS` sets how many requests there are (5,000; 100,000 with --full)."""

import asyncio
import os
import time
from collections import Counter

from lib.process import Gateway, Sim
from lib.sock import Gone, chunked, post
from lib.storm import LEAVES, seeded

ALONE = True
REQUESTS = int(os.environ.get("SLUICE_CHAOS_REQUESTS", "5000"))
CLIENTS = 64
MESSAGES = [{"role": "user", "content": "tell me about chaos"}]
PATHS = {
    "/v1/chat/completions": {"model": "m", "messages": MESSAGES, "max_tokens": 20},
    "/v1/completions": {"model": "m", "prompt": "chaos", "max_tokens": 20},
    "/v1/messages": {"model": "m", "messages": MESSAGES, "max_tokens": 20},
    "/v1/responses": {"model": "m", "input": "chaos", "max_output_tokens": 20},
    "/v1/embeddings": {"model": "m", "input": ["chaos"]},
}
FAULTS = [
    "refuse", "refuse:rst", "429:1", "status:500", "status:503", "status:400", "oom", "html", "hang", "hang-head",
    "rst:0", "rst:60", "rst:500", "rst:1500", "fin:0", "fin:90", "fin:700", "fin:2000", "stall:0", "stall:3",
    "truncate:0", "truncate:4", "malformed:1", "error:0", "error:3", "nofinish", "loop:2", "eof", "close",
    "interim:3", "split:7", "delay:20", "eof;fin:1200", "interim:2;split:1;close",
]
DEADLINES = {
    "first_byte_streamed_seconds": 0.2, "first_byte_unary_seconds": 0.2, "stall_seconds": 0.2, "body_seconds": 1,
    "head_seconds": 1, "linger_seconds": 0.2,
}


class Tally:
    """What clients did and saw."""

    def __init__(self):
        self.sure = 0
        # Reset after a whole head: the bytes may never be read.
        self.perhaps = 0
        self.seen = Counter()
        self.completed = set()


def request_of(rng, me):
    """The bytes of one random request, and where its head ends."""
    path = rng.choice(list(PATHS))
    body = {**PATHS[path], "user": "x" * rng.choice((0, 0, 0, 5_000, 90_000))}
    if path != "/v1/embeddings" and rng.random() < 0.7:
        body["stream"] = True
    headers = [f"x-request-id: {me}"]
    if rng.random() < 0.4:
        headers.append(f"x-sim-fault: {rng.choice(FAULTS)}")
    if rng.random() < 0.1:
        headers.append("connection: close")
    if rng.random() < 0.03:
        body["model"] = "unknown"
    data = post(path, body, *headers)
    if rng.random() < 0.1:
        head, body = data.split(b"\r\n\r\n", 1)
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"content-length"))
        data = head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(body, rng.choice((100, 9_000)))
    return data, data.find(b"\r\n\r\n") + 4


async def leave_early(conn, rng, data, head_end, tally):
    """Sends a part or all, reads a part of the answer, and leaves."""
    how = rng.choice(LEAVES)
    at = rng.randint(1, len(data)) if rng.random() < 0.5 else len(data)
    parsed = at >= head_end
    answered = False
    try:
        await conn.send(data[:at])
        if at == len(data) and rng.random() < 0.7:
            answered = await conn.fill(rng.choice((0.001, 0.01, 0.05, 0.5)))
    except (Gone, TimeoutError):
        pass
    answered = answered or bool(conn.buf)
    tally.sure += parsed and (how != "rst" or answered)
    tally.perhaps += parsed and how == "rst" and not answered
    if how == "half":
        try:
            conn.half_close()
            while await conn.fill(3):
                conn.buf = b""
        except (OSError, TimeoutError):
            pass
        conn.finish()
    elif how == "rst":
        conn.reset()
    else:
        conn.close()


async def client(gateway, rng, numbers, name, tally):
    """One request after the other, on kept connections where they last."""
    conn = None
    for number in numbers:
        me = f"{name}-{number}"
        data, head_end = request_of(rng, me)
        conn = conn or await gateway.conn()
        if rng.random() < 0.25:
            await leave_early(conn, rng, data, head_end, tally)
            conn = None
            continue
        tally.sure += 1
        await conn.send(data)
        reply = await conn.reply(patience=15)
        tally.seen[f"{reply.status}{'' if reply.complete else ' cut'}"] += 1
        if reply.status == 200 and reply.complete:
            tally.completed.add(me)
        if not reply.complete or reply.header("connection") == "close":
            conn.finish()
            conn = None
    if conn:
        conn.finish()


async def half(gateway, name, count):
    """Half of the storm; its tally and what the process holds after it."""
    tally = Tally()
    numbers = iter(range(count))
    workers = [client(gateway, seeded(f"{name}{at}"), numbers, name, tally) for at in range(CLIENTS)]
    await asyncio.gather(*workers)
    await gateway.settled()
    until = time.monotonic() + 5
    while (await gateway.metrics()).sum("sluice_connections_open") and time.monotonic() < until:
        await asyncio.sleep(0.05)
    # Pooled connections to the endpoints go with the endpoints' own patience.
    await asyncio.sleep(1.5)
    return tally, gateway.descriptors(), gateway.rss_kib()


async def check_rows(gateway, tallies):
    """One row for each request, and the outcomes agree with what clients saw."""
    metrics = await gateway.settled()
    total = metrics.sum("sluice_requests_total")
    sure, perhaps = sum(t.sure for t in tallies), sum(t.perhaps for t in tallies)
    assert sure <= total <= sure + perhaps, f"{sure} sure, {perhaps} perhaps, {total} counted"
    until = time.monotonic() + 5
    while len(gateway.rows()) < total and time.monotonic() < until:
        await asyncio.sleep(0.1)
    rows = gateway.rows()
    dropped = metrics.sum("sluice_access_rows_total", result="dropped")
    assert len(rows) + dropped == total, f"{len(rows)} rows and {dropped} dropped of {total}"
    by_id = Counter(row["request_id"] for row in rows)
    assert max(by_id.values()) == 1, by_id.most_common(3)
    outcomes = {row["request_id"]: row["outcome"] for row in rows}
    completed = set().union(*(t.completed for t in tallies))
    odd = Counter(outcomes.get(me, "dropped") for me in completed)
    # A stream whose endpoint itself reported an error passes as its endpoint framed it.
    assert set(odd) <= {"completed", "upstream_broken", "dropped"}, odd
    for name in ("panicked", "abandoned"):
        assert metrics.sum("sluice_requests_total", outcome=name) == 0, name
    assert metrics.sum("sluice_endpoint_in_flight") == 0
    assert metrics.sum("sluice_usage_faults_total") == 0
    return Counter(outcomes.values())


async def test_chaos(driver):
    sims = [Sim("--instant", "--model", "m", "--keep-alive-s", "1") for _ in range(2)]
    async with sims[0], sims[1]:
        async with Gateway(driver, sims, timeouts=DEADLINES, shards=2) as gateway:
            # Warm: pools and buffers have their size.
            warm, _, _ = await half(gateway, f"{driver}-warm", REQUESTS // 10)
            began = time.monotonic()
            first, descriptors, rss = await half(gateway, f"{driver}-first", REQUESTS // 2)
            second, descriptors_after, rss_after = await half(gateway, f"{driver}-second", REQUESTS // 2)
            took = time.monotonic() - began
            outcomes = await check_rows(gateway, (warm, first, second))
            print(f"       {REQUESTS} requests in {took:.0f} s; descriptors {descriptors} then {descriptors_after}, "
                  f"KiB {rss} then {rss_after}; {dict(outcomes)}", flush=True)
            assert descriptors_after <= descriptors + 16, (descriptors, descriptors_after)
            assert rss_after <= rss * 1.1 + 4_096, (rss, rss_after)
