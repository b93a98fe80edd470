"""Servers that speak as llama.cpp's does: a usage for each choice, early events, streams that end connections."""

import json

import httpx
import pytest
from harness import Sim

MODEL = "mock-model"
SIMS = [["--engine", "llama-cpp"], ["--engine", "llama-cpp"]]
CONFIG = {
    "engine": "llama-cpp",
    "models": [{"name": MODEL, "endpoints": ["gpu-0", "gpu-1"]}],
}
MESSAGES = [{"role": "user", "content": "tell me a story " * 200}]
REQUESTS = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 7},
    "/v1/completions": {"prompt": "once upon a time", "max_tokens": 7},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 7},
    "/v1/responses": {"input": "once upon a time", "max_output_tokens": 7},
}


def ask(gateway, path, **more):
    answer = httpx.post(f"{gateway.url}{path}", json={"model": MODEL, **more}, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.text, gateway.row(answer.headers["x-request-id"])


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", REQUESTS)
def test_every_api_is_counted(stack, path, streamed):
    _, row = ask(stack.gateway, path, stream=streamed, **REQUESTS[path])
    assert row["outcome"] == "completed" and row["output_tokens"] == 7 and row["input_tokens"] > 0
    assert row["cached_tokens"] is not None


def test_each_choices_usage_counts_and_none_is_shown_unasked(stack):
    body = {"messages": MESSAGES, "max_tokens": 4, "n": 3, "stream": True}
    text, row = ask(stack.gateway, "/v1/chat/completions", **body)
    assert row["output_tokens"] == 12, row
    assert not any(event.get("usage") for event in events(text))
    text, row = ask(
        stack.gateway, "/v1/chat/completions", **body, stream_options={"include_usage": True}
    )
    assert row["output_tokens"] == 12, row
    assert [event["usage"]["completion_tokens"] for event in events(text) if event.get("usage")] == [4] * 3


def test_a_prompt_is_cached_token_by_token(stack):
    messages = [{"role": "user", "content": "a tale of its own " * 300}]
    for turn in range(3):
        _, row = ask(stack.gateway, "/v1/chat/completions", messages=messages, max_tokens=2, stream=True)
        if turn:
            assert row["cached_tokens"] == row["input_tokens"] - 1
            per_token = row["request_bytes"] / row["input_tokens"]
            assert abs(row["expected_cached_tokens"] - row["cached_tokens"]) <= 512 / per_token + 1


def test_the_first_token_is_the_first_content(gateways):
    """Progress is told at once, and content only once the prompt is computed."""
    sim = Sim("--engine", "llama-cpp", "--realtime", "--prefill-tokens-per-second", 1000)
    try:
        gateway = gateways([sim.url], **CONFIG | {"models": [{"name": MODEL, "endpoints": ["gpu-0"]}]})
        body = {"messages": MESSAGES, "max_tokens": 2, "stream": True, "return_progress": True}
        text, row = ask(gateway, "/v1/chat/completions", **body)
        told = events(text)
        assert "prompt_progress" in told[0] and told[0]["choices"][0]["delta"]["content"] is None
        # Less would be sooner than the server can compute it.
        assert row["first_token_ms"] >= row["input_tokens"], row
        assert row["output_events"] == 2
    finally:
        sim.process.kill()


def test_connections_that_streams_end_are_not_reused(stack):
    metrics = stack.admin.metrics
    before = metrics().sum("sluice_endpoint_failures_total")
    with httpx.Client(timeout=20) as client:
        for number in range(220):
            body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 1, "stream": number % 4 == 0}
            answer = client.post(f"{stack.url}/v1/chat/completions", json=body)
            assert answer.status_code == 200, (number, answer.text)
    stale = metrics().sum("sluice_endpoint_failures_total", **{"class": "stale"})
    assert metrics().sum("sluice_endpoint_failures_total") - before <= stale
    assert metrics().sum("sluice_endpoint_reused_total") > 100
