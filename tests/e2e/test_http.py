"""Operations without an official client, and the driver itself."""

import httpx
import pytest

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(stack):
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        yield client


def test_the_driver_is_the_one_under_test(stack, driver):
    assert stack.admin.metrics().sum("sluice_driver", driver=driver) == 2


def test_rerank(client):
    body = {"model": MODEL, "query": "cats", "documents": ["dogs", "cats", "birds"]}
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2]


def test_models_by_head(client):
    answer = client.head("/v1/models")
    assert answer.status_code == 200 and answer.content == b""
    assert int(answer.headers["content-length"]) == len(client.get("/v1/models").content)


def test_a_model_in_percent_signs(client):
    answer = client.get("/v1/models/mock%2Dmodel")
    assert answer.json()["id"] == MODEL


def test_chunked_request_body(client):
    def pieces():
        yield b'{"model": "mock-model", "max_tokens": 3, '
        yield b'"messages": [{"role": "user", "content": "Hello"}]}'

    headers = {"content-type": "application/json"}
    answer = client.post("/v1/chat/completions", content=pieces(), headers=headers)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_large_body(client):
    words = "token " * 200_000
    body = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": words}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 100_000


def test_a_large_answer(client):
    body = {"model": MODEL, "max_tokens": 300_000, "messages": HELLO}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.json()["usage"]["completion_tokens"] == 300_000
    assert len(answer.content) > 1 << 20


def test_a_long_stream(client):
    body = {"model": MODEL, "max_tokens": 20_000, "messages": HELLO, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]" and len(lines) > 20_000


def test_one_connection_carries_many_requests(stack, client):
    before = stack.admin.metrics().sum("sluice_connections_accepted_total")
    for at in range(50):
        body = {"model": MODEL, "max_tokens": 1 + at % 3, "messages": HELLO, "stream": at % 2 == 0}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert stack.admin.metrics().sum("sluice_connections_accepted_total") == before + 1


def test_round_robin_is_even(stack, client):
    before = [sim.counts()["requests_total"] for sim in stack.sims]
    for _ in range(20):
        body = {"model": MODEL, "max_tokens": 1, "messages": HELLO}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    after = [sim.counts()["requests_total"] for sim in stack.sims]
    assert [b - a for a, b in zip(before, after)] == [10, 10]


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br"])
def test_compressed_bodies_are_refused(client, coding):
    headers = {"content-encoding": coding, "content-type": "application/json"}
    answer = client.post("/v1/chat/completions", content=b"\x1f\x8b", headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_other_media_types_are_refused(client):
    answer = client.post("/v1/chat/completions", content=b"a=b", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"model": "mock-model", "messages": [}',
        b'{"model": "mock-model", "mo\\u0064el": "mock-model"}',
        b'{"model": "mock-model", "stream": true, "stream": false}',
        b'{"model": "mock-model", "messages": "\xff"}',
        b'{"model": "mock-model"} {}',
        b'{"messages": []}',
    ],
)
def test_bodies_that_two_readers_could_read_differently_are_refused(client, text):
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/chat/completions", content=text, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_errors_take_the_apis_own_shape(client):
    openai = client.post("/v1/chat/completions", json={"model": "none", "messages": HELLO})
    assert openai.status_code == 404
    assert set(openai.json()["error"]) == {"message", "type", "param", "code"}
    body = {"model": "none", "messages": HELLO, "max_tokens": 1}
    anthropic = client.post("/v1/messages", json=body)
    assert anthropic.status_code == 404
    assert anthropic.json()["type"] == "error"
    assert anthropic.json()["request_id"] == anthropic.headers["request-id"]


def test_without_keys_web_pages_of_elsewhere_are_refused(stack, client):
    own = {"origin": "http://localhost:3000"}
    assert client.get("/v1/models", headers=own).status_code == 200
    port = client.base_url.port
    for foreign in (
        {"host": f"evil.example:{port}"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ):
        answer = client.get("/v1/models", headers=foreign)
        assert answer.status_code == 403, foreign
        assert answer.json()["error"]["code"] == "foreign_host"
