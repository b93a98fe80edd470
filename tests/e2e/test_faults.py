"""A server's faults as the clients' own exceptions, and as outcomes in Sluice's books."""

import threading

import anthropic
import openai
import pytest

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
SIMS = [[]]
CONFIG = {"timeouts": {"first_byte_streamed_seconds": 5.0}}
ABORTS = True


@pytest.fixture
def client(stack):
    with openai.OpenAI(
        base_url=stack.url + "/v1", api_key="any", max_retries=0, timeout=20
    ) as client:
        yield client


def ask(client, fault, **more):
    return client.chat.completions.create(
        model=MODEL, messages=HELLO, extra_headers={"x-sim-fault": fault}, **more
    )


def outcome(stack, error):
    return stack.gateway.row(error.response.headers["x-request-id"])["outcome"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "kind", "status", "booked"),
    [
        ("429:7", openai.RateLimitError, 429, "upstream_error"),
        ("status:400", openai.BadRequestError, 400, "upstream_error"),
        ("status:404", openai.NotFoundError, 404, "upstream_error"),
        ("status:422", openai.UnprocessableEntityError, 422, "upstream_error"),
        ("status:500", openai.InternalServerError, 500, "upstream_error"),
        ("status:503", openai.InternalServerError, 503, "upstream_error"),
        ("oom", openai.InternalServerError, 500, "upstream_error"),
        ("html", openai.InternalServerError, 502, "upstream_failed"),
        ("refuse", openai.InternalServerError, 502, "upstream_failed"),
        ("refuse:rst", openai.InternalServerError, 502, "upstream_failed"),
        ("rst:10", openai.InternalServerError, 502, "upstream_failed"),
        ("fin:10", openai.InternalServerError, 502, "upstream_failed"),
    ],
)
def test_before_the_answer_begins(stack, client, stream, fault, kind, status, booked):
    with pytest.raises(kind) as caught:
        ask(client, fault, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.request_id, caught.value.response.headers
    assert outcome(stack, caught.value) == booked
    if fault == "429:7":
        assert caught.value.response.headers["retry-after"] == "7"


def test_a_credential_that_the_server_refuses_is_not_the_clients(stack, client):
    for status in (401, 403):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, f"status:{status}")
        assert caught.value.status_code == 502


@pytest.mark.parametrize("fault", ["truncate", "rst:0", "fin:0", "error", "truncate:0"])
def test_an_answer_cut_short_before_its_first_event_is_a_502(stack, client, fault):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, fault, stream=True)
    assert caught.value.status_code in (500, 502)


def test_a_whole_answer_cut_short_is_a_502(stack, client):
    for fault in ("truncate", "rst:400"):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, fault)
        assert caught.value.status_code == 502, fault


@pytest.mark.parametrize("fault", ["rst:2000", "fin:2000"])
def test_a_stream_that_breaks_raises_after_what_was_whole(stack, client, fault):
    stream = ask(client, fault, stream=True, max_tokens=200)
    seen = []
    with pytest.raises(openai.APIError):
        for chunk in stream:
            seen.append(chunk)
    assert seen, "what came before the break arrives"
    assert all(choice.finish_reason is None for chunk in seen for choice in chunk.choices)
    assert stack.gateway.row(stream.response.headers["x-request-id"])["outcome"] == "upstream_broken"


def raises_after_hi(gateway, arrived, match):
    """A stream whose first chunk says "hi" and which, once that has `arrived`, breaks."""
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.content == "hi"
        arrived.set()
        with pytest.raises(openai.APIError, match=match):
            list(stream)
    row = gateway.row(stream.response.headers["x-request-id"])
    assert row["outcome"] == "upstream_broken"


def test_an_engine_that_dies_in_mid_stream_is_an_error_in_it(gateways, upstreams):
    """As vLLM says it: an error event, [DONE], and a clean end."""
    arrived = threading.Event()

    def answer(_):
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
        error = b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}\n\n'
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        yield delta
        arrived.wait(10)
        yield error + b"data: [DONE]\n\n"

    raises_after_hi(gateways([upstreams(answer).url]), arrived, "EngineCore died")


def test_a_stream_that_just_ends_raises(gateways, upstreams):
    """Whole by its framing, and no answer: no finish may be forged, and none be missed in silence."""
    arrived = threading.Event()

    def answer(_):
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        yield b"%x\r\n%s\r\n" % (len(delta), delta)
        arrived.wait(10)
        yield b"0\r\n\r\n"

    raises_after_hi(gateways([upstreams(answer).url]), arrived, "stopped before its answer was complete")


@pytest.mark.parametrize("fault", ["interim:3", "split", "eof", "close", "slow:2", "split:3;eof"])
@pytest.mark.parametrize("stream", [False, True])
def test_odd_but_lawful_answers_arrive_whole(client, stream, fault):
    plain = ask(client, "", max_tokens=20, seed=3)
    answer = ask(client, fault, max_tokens=20, seed=3, stream=stream)
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in answer)
    else:
        text = answer.choices[0].message.content
    assert text == plain.choices[0].message.content


def test_no_server_at_all(gateways, driver):
    gateway = gateways(["http://127.0.0.1:9"])
    gateway.expected += [r"endpoint is down"]
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.status_code in (502, 503)


def test_a_dead_server_is_passed_over(gateways, sims):
    first, second = sims(), sims()
    gateway = gateways([first.url, second.url])
    gateway.expected += [r"endpoint is down"]
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)
    first.process.kill()
    for _ in range(20):
        assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).usage
    assert second.counts()["completed"] == 20


def test_a_server_that_answers_429_is_passed_over(gateways, sims):
    first, second = sims("--fault", "429:3"), sims()
    gateway = gateways([first.url, second.url])
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)
    for _ in range(6):
        assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).usage


def test_the_clients_own_retries_see_retry_after(gateways, sims):
    sim = sims()
    sim.fault("429:1", times=1)
    gateway = gateways([sim.url])
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=2)
    assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).usage
    assert sim.counts()["requests_total"] == 2


@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ("429:7", anthropic.RateLimitError, None),
        ("status:400", anthropic.BadRequestError, None),
        ("status:529", anthropic.InternalServerError, None),
        ("refuse", anthropic.InternalServerError, "api_error"),
        ("html", anthropic.InternalServerError, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_messages_before_the_answer_begins(stack, fault, kind, name, stream):
    client = anthropic.Anthropic(base_url=stack.url, api_key="any", max_retries=0)
    with pytest.raises(kind) as caught:
        client.messages.create(
            model=MODEL,
            messages=HELLO,
            max_tokens=9,
            stream=stream,
            extra_headers={"x-sim-fault": fault},
        )
    assert caught.value.request_id
    if name:
        assert caught.value.body["error"]["type"] == name


def test_messages_that_break_raise(stack):
    client = anthropic.Anthropic(base_url=stack.url, api_key="any", max_retries=0)
    stream = client.messages.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=500,
        stream=True,
        extra_headers={"x-sim-fault": "rst:2500"},
    )
    seen = []
    with pytest.raises(anthropic.APIError):
        for event in stream:
            seen.append(event.type)
    assert "content_block_delta" in seen and "message_stop" not in seen


def test_responses_that_break_raise(stack, client):
    stream = client.responses.create(
        model=MODEL,
        input="Hello",
        max_output_tokens=500,
        stream=True,
        extra_headers={"x-sim-fault": "rst:4000"},
    )
    seen = []
    with pytest.raises(openai.APIError):
        for event in stream:
            seen.append(event.type)
    assert seen and "response.completed" not in seen


def test_nobody_listens(driver):
    del driver
    client = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        client.models.list()
