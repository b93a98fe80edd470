"""Clients that leave, and time that runs out: the server behind Sluice hears of it at once."""

import time

import anthropic
import httpx
import openai
import pytest
from harness import settle, wait_for

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
# Paced, so that there is a middle to leave in.
SIMS = [["--realtime", "--decode-ms", "10"]]
CONFIG = {"timeouts": {"first_byte_streamed_seconds": 1.0, "first_byte_unary_seconds": 1.0,
                       "stall_seconds": 1.0}}
ABORTS = True
# Between the client's close and the server's abort, seconds. Loose: the machine may be busy.
HEARD_SECONDS_MAX = 0.5


@pytest.fixture(scope="module", autouse=True)
def paced(stack):
    # The harness's servers are instant unless their arguments say otherwise.
    assert "--instant" not in stack.sim.process.argv


@pytest.fixture
def client(stack):
    with openai.OpenAI(base_url=stack.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


def heard(stack, before, left_at):
    """The server's abort that followed the close at `left_at`."""
    wait_for(lambda: stack.sim.counts()["aborted"] > before, 5, "the server's abort")
    delay = stack.sim.aborts()[-1]["unix_ns"] / 1e9 - left_at
    assert delay < HEARD_SECONDS_MAX, f"{delay:.3f} s"
    settle(stack.gateway)


def test_leaving_a_stream(stack, client):
    before = stack.sim.counts()["aborted"]
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=2_000, stream=True
    )
    for at, _ in enumerate(stream):
        if at == 5:
            break
    left_at = time.time()
    stream.close()
    heard(stack, before, left_at)
    assert stack.sim.aborts()[-1]["phase"] == "decode"
    row = stack.gateway.row(stream.response.headers["x-request-id"])
    assert row["outcome"] == "client_gone" and row["output_events"] >= 5


def test_leaving_a_stream_of_messages(stack):
    before = stack.sim.counts()["aborted"]
    client = anthropic.Anthropic(base_url=stack.url, api_key="any", max_retries=0)
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=2_000) as stream:
        for at, _ in enumerate(stream.text_stream):
            if at == 3:
                break
        left_at = time.time()
    heard(stack, before, left_at)


def test_a_client_that_times_out_waiting_for_a_whole_answer(stack, client):
    before = stack.sim.counts()["aborted"]
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=2_000
        )
    heard(stack, before, time.time())


def test_leaving_before_the_first_token(stack):
    before = stack.sim.counts()["aborted"]
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            stack.url + "/v1/chat/completions",
            json=body,
            headers={"x-sim-fault": "delay:5000"},
            timeout=0.3,
        )
    heard(stack, before, time.time())


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_says_nothing_is_a_504(stack, client, stream):
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=stream, extra_headers={"x-sim-fault": "hang"}
        )
    assert caught.value.status_code == 504 and caught.value.code == "upstream_timeout"
    assert 0.9 < time.monotonic() - began < 3


def test_a_server_that_sends_a_head_and_no_event_is_a_504(stack, client):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, extra_headers={"x-sim-fault": "hang-head"}
        )
    assert caught.value.status_code == 504


def test_a_stream_that_stalls_ends_in_an_error(stack, client):
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, extra_headers={"x-sim-fault": "stall:4"}
    )
    seen = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            seen.append(chunk)
    assert seen and caught.value.code == "upstream_timeout"
    assert all(choice.finish_reason is None for chunk in seen for choice in chunk.choices)
    row = stack.gateway.row(stream.response.headers["x-request-id"])
    assert row["outcome"] == "timed_out"


def test_many_leave_at_once(stack):
    """Half of the clients leave in mid-stream; the other half's answers are whole."""
    import asyncio

    before = stack.sim.counts()

    async def ask(client, at):
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=5_000 if at % 2 else 40, stream=True
        )
        seen = 0
        async for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if at % 2 and seen == 5:
                await stream.close()
                break
        return seen

    async def all_at_once():
        async with openai.AsyncOpenAI(
            base_url=stack.url + "/v1", api_key="any", max_retries=0, timeout=60
        ) as client:
            return await asyncio.gather(*(ask(client, at) for at in range(100)))

    seen = asyncio.run(all_at_once())
    assert seen[::2] == [40] * 50 and seen[1::2] == [5] * 50
    settle(stack.gateway)
    wait_for(lambda: stack.sim.counts()["aborted"] == before["aborted"] + 50, 5, "50 aborts")
    assert stack.sim.counts()["completed"] == before["completed"] + 50
