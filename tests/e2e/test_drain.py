"""The end of a process: readiness fails, streams finish, everything is given back."""

import asyncio
import signal
import socket
import threading
import time

import httpx
import openai
import pytest
from harness import wait_for

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
PACED = ["--realtime", "--decode-ms", "10", "--decode-ms-per-sequence", "0"]


def stream(gateway, tokens, texts, **more):
    """Streams in a thread of its own; the text, or the exception, goes to `texts`."""

    def run():
        client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)
        try:
            chunks = client.chat.completions.create(
                model=MODEL, messages=HELLO, max_tokens=tokens, stream=True, **more
            )
            texts.append([c.choices[0].delta.content for c in chunks if c.choices[0].delta.content])
        except openai.OpenAIError as error:
            texts.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def streams_open(gateway, count):
    wait_for(lambda: gateway.admin.metrics().sum("sluice_streams_open") == count, 10, "streams")


def test_streams_finish_and_readiness_fails(gateways, sims):
    sim = sims(*PACED)
    gateway = gateways([sim.url])
    texts = []
    # Long enough for the last of them to begin before the first one ends, on a busy machine, too.
    threads = [stream(gateway, 600, texts) for _ in range(20)]
    streams_open(gateway, 20)
    idle = socket.create_connection(("127.0.0.1", gateway.port), 5)
    gateway.process.signal(signal.SIGTERM)
    wait_for(lambda: gateway.admin.readyz()[0] == 503, 2, "readiness to fail")
    assert gateway.admin.readyz()[1]["conditions"]["not_draining"] is False
    assert gateway.admin.metrics().sum("sluice_draining") == 1
    idle.settimeout(2)
    assert idle.recv(1) == b"", "connections without a request are closed soon"
    wait_for(lambda: refused(gateway), 2, "the listener to close")
    for thread in threads:
        thread.join(20)
    assert [len(text) for text in texts] == [600] * 20
    assert gateway.process.wait(10) == 0
    assert gateway.log()[-1]["msg"] == "stopped" and not gateway.unexpected()
    assert [row["outcome"] for row in gateway.rows()] == ["completed"] * 20
    assert len(gateway.rows("usage")) == 20
    assert sim.counts()["completed"] == 20


def refused(gateway):
    try:
        socket.create_connection(("127.0.0.1", gateway.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_kept_connection_gets_its_answer_and_is_told_to_close(gateways, sims):
    sim = sims(*PACED)
    gateway = gateways([sim.url])
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        body = {"model": MODEL, "messages": HELLO, "max_tokens": 60, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            gateway.process.signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
    assert gateway.process.wait(10) == 0 and not gateway.unexpected()


def test_requests_that_wait_for_their_first_byte_finish_too(gateways, sims):
    sim = sims(*PACED)
    gateway = gateways([sim.url])
    texts = []
    thread = stream(gateway, 5, texts, extra_headers={"x-sim-fault": "delay:1000"})
    wait_for(lambda: gateway.admin.metrics().sum("sluice_requests_in_flight") == 1, 5, "it")
    gateway.process.signal(signal.SIGTERM)
    thread.join(10)
    assert len(texts[0]) == 5
    assert gateway.process.wait(10) == 0 and not gateway.unexpected()


def test_the_deadline_ends_what_is_left(gateways, sims):
    sim = sims(*PACED)
    gateway = gateways([sim.url], timeouts={"drain_seconds": 1})
    texts = []
    threads = [stream(gateway, 100_000, texts) for _ in range(5)]
    threads.append(stream(gateway, 5, texts, extra_headers={"x-sim-fault": "hang"}))
    streams_open(gateway, 5)
    wait_for(lambda: gateway.admin.metrics().sum("sluice_requests_in_flight") == 6, 5, "all six")
    began = time.monotonic()
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait(10) == 0, gateway.process.stderr
    assert 0.9 < time.monotonic() - began < 4
    for thread in threads:
        thread.join(5)
    assert all(isinstance(text, openai.APIError) for text in texts), texts
    assert not gateway.unexpected()
    assert all("shutting down" in str(text) for text in texts), texts
    outcomes = {row["outcome"] for row in gateway.rows()}
    assert len(gateway.rows()) == 6 == len(gateway.rows("usage"))
    assert outcomes == {"abandoned"}, outcomes
    wait_for(lambda: sim.counts()["aborted"] == 6, 5, "the server to hear of it")


def test_a_second_signal_stops_at_once(gateways, sims):
    sim = sims(*PACED)
    gateway = gateways([sim.url])
    texts = []
    thread = stream(gateway, 100_000, texts)
    streams_open(gateway, 1)
    gateway.process.signal(signal.SIGTERM)
    wait_for(lambda: gateway.admin.readyz()[0] == 503, 2, "the drain")
    began = time.monotonic()
    gateway.process.signal(signal.SIGINT)
    assert gateway.process.wait(10) == 0
    assert time.monotonic() - began < 3
    thread.join(5)
    assert not gateway.unexpected()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_stops_at_once(gateways, sims, number):
    gateway = gateways([sims().url])
    began = time.monotonic()
    gateway.process.signal(number)
    assert gateway.process.wait(10) == 0 and time.monotonic() - began < 1.5
    assert not gateway.unexpected()


def test_the_backlog_is_served(gateways, sims):
    """Connections that the kernel had accepted before the signal are not lost."""
    sim = sims()
    gateway = gateways([sim.url])
    body = b'{"model": "mock-model", "max_tokens": 1, "messages": []}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head + body)
        answer = await reader.readline()
        writer.close()
        return answer

    async def burst():
        asks = [asyncio.create_task(ask()) for _ in range(200)]
        await asyncio.sleep(0.005)
        gateway.process.signal(signal.SIGTERM)
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(burst())
    served = sum(answer == b"HTTP/1.1 200 OK\r\n" for answer in answers)
    lost = [a for a in answers if not isinstance(a, ConnectionRefusedError) and a != b"HTTP/1.1 200 OK\r\n"]
    assert served > 0 and not lost, (served, lost[:5])
    assert gateway.process.wait(20) == 0 and not gateway.unexpected()
